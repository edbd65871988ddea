/*
 * api.h
 *		Ocean.io's side of POST /v2/enrich/person and of the credit balance:
 *		judges a request and keeps the books.  Knows no sockets; time comes in
 *		as an argument.
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
	SbRate		rate;
	const char **tokens;		/* the registered ones, NULL at the end */
	uint64_t	random_state;

	/* how a webhook is delivered; "url" and "payload" are not kept */
	void		(*tell) (void *arg, const char *url, const SbText *payload,
						 SbAmount cost);
	void	   *tell_arg;
} SbApi;

/* The two places for a token; NULL where there is none. */
typedef struct SbTokens
{
	const char *header;
	const char *query;
} SbTokens;

/* One request to enrich/person, from its arrival to its judgement. */
typedef struct SbCall
{
	/* what came; must stay where it is until sb_api_judge() */
	SbTokens	tokens;
	const char *content_type;	/* or NULL */
	const char *body;
	size_t		body_len;

	/* what sb_api_receive() makes of it */
	struct json_object *json;	/* the body, or its complaints if !valid */
	bool		valid;
	bool		has_identity;
	char		identity[SB_IDENTITY_CHARS];
	SbFault		fault;
	uint64_t	nth;			/* request for this identity, from 1 */
	int64_t		first_us;		/* when the first of them came */
} SbCall;

/* "tokens" stays the caller's. */
extern void sb_api_init(SbApi *api, const char **tokens);
extern void sb_api_free(SbApi *api);

/* Change the configuration; see sb_config_change(). */
extern bool sb_api_configure(SbApi *api, struct json_object *change,
							 char problem[SB_PROBLEM_CHARS]);

/* Forget what was asked and paid. */
extern void sb_api_reset(SbApi *api);

/* Read a request and count it.  Nothing is decided yet. */
extern void sb_api_receive(SbApi *api, SbCall *call, int64_t now_us);

/* Decide on the answer, and charge for it if it is a 200. */
extern void sb_api_judge(SbApi *api, const SbCall *call, int64_t now_us,
						 SbReply *reply);

/* Something was revealed by webhook. */
extern void sb_api_charge_reveal(SbApi *api, SbAmount cost);

extern void sb_call_free(SbCall *call);

/*
 * GET /v2/credits/balance: what is left, with the configured changes merged in,
 * so that any field can be missing or odd.  Costs nothing, and the rate limit
 * does not count it.
 */
extern void sb_api_balance(SbApi *api, const SbTokens *tokens,
						   SbReply *reply);

#endif							/* SB_API_H */
