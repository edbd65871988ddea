/*
 * api.h
 *		Ocean.io's side of POST /v2/enrich/person and of the credit balance:
 *		judges a request and keeps the books.  It uses no sockets, and gets the
 *		time as an argument.
 */
#ifndef SB_API_H
#define SB_API_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "books.h"
#include "config.h"
#include "faults.h"
#include "invent.h"
#include "rate.h"
#include "reply.h"

typedef struct SbApi
{
	SbConfig	config;
	SbBooks		books;
	SbRate		rate;			/* requests that were let through */
	SbRate		arrivals;		/* the same, with those that were refused */
	const char **tokens;		/* the registered ones, ends with NULL */
	uint64_t	random_state;

	/* queues a webhook for delivery; copies "url" and "payload" */
	void		(*queue_webhook) (void *arg, const char *url,
								  const SbText *payload, SbAmount cost);
	void	   *queue_webhook_arg;
} SbApi;

/* The two places for a token; NULL where it is missing. */
typedef struct SbTokens
{
	const char *header;
	const char *query;
} SbTokens;

/* One request to enrich/person, from its arrival to its judgement. */
typedef struct SbCall
{
	/* the request; must stay valid until sb_api_judge() */
	SbTokens	tokens;
	const char *content_type;	/* or NULL */
	const char *body;
	size_t		body_len;

	/* set by sb_api_receive() */
	struct json_object *json;	/* the body, or complaints about it if !valid */
	bool		valid;
	bool		has_identity;
	char		identity[SB_IDENTITY_CHARS];
	SbFault		fault;
	uint64_t	nth;			/* request for this identity, from 1 */
	int64_t		first_us;		/* when the first of them arrived */
} SbCall;

/* The caller keeps "tokens" until sb_api_free(). */
extern void sb_api_init(SbApi *api, const char **tokens);
extern void sb_api_free(SbApi *api);

/* Change the configuration; see sb_config_change(). */
extern bool sb_api_configure(SbApi *api, struct json_object *change,
							 char problem[SB_PROBLEM_CHARS]);

/* Forget all requests and charges. */
extern void sb_api_reset(SbApi *api);

/* Parse a request and count it, without deciding on the answer. */
extern void sb_api_receive(SbApi *api, SbCall *call, int64_t now_us);

/* Decide on the answer, and charge for it if it is a 200. */
extern void sb_api_judge(SbApi *api, const SbCall *call, int64_t now_us,
						 SbReply *reply);

/* Charge for an address or number that a webhook delivers. */
extern void sb_api_charge_reveal(SbApi *api, SbAmount cost);

extern void sb_call_free(SbCall *call);

/*
 * GET /v2/credits/balance: the credits left, with the configured changes merged
 * in, so that any field can be missing or odd.  It costs nothing and does not
 * count for the rate limit.
 */
extern void sb_api_balance(SbApi *api, const SbTokens *tokens,
						   SbReply *reply);

#endif							/* SB_API_H */
