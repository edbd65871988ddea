/*
 * request.h
 *		A request by the vocabulary of its endpoint: check, normalise, encode.
 *
 * The only files that know json-c are this module's .c, answer.c and json.c.
 */
#ifndef OE_REQUEST_H
#define OE_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include "core/endpoint.h"
#include "core/error.h"

/* A body beyond this is refused before it is sent. */
#define OE_REQUEST_MAX_BYTES	(64 * 1024)

/* Does a request ask for an item with a price, and how is that revealed? */
typedef enum OeReveal
{
	OE_REVEAL_NONE,
	OE_REVEAL_NOT_ASKED,		/* a webhookUrl without the flag: asks for
								 * nothing */
	OE_REVEAL_IN_ANSWER,
	OE_REVEAL_BY_WEBHOOK,
} OeReveal;

/* In the order of the endpoint's prices; the first one is always in the answer. */
typedef struct OeReveals
{
	OeReveal	of[OE_PRICES_MAX];
} OeReveals;

typedef struct OeRequest
{
	char	   *body;			/* normalised JSON in UTF-8, NUL-terminated */
	size_t		body_len;
	char	   *identity;		/* likewise: whom and what it asks for, less
								 * the reveals */
	OeReveals	reveals;
	bool		needs_url;		/* true if "byWebhook" stands in the body */
} OeRequest;

/* When two requests are equal. */
typedef enum OeEquality
{
	OE_EQUAL_CANONICAL,			/* their values have the same canonical form */
	OE_EQUAL_EXACT,				/* the same is sent */
} OeEquality;

/*
 * Check "json" (UTF-8, "len" bytes) against the vocabulary of the endpoint, which
 * has one, and fill "request" with the body to send.
 *
 * Normalised means: the same request always gives the same bytes.  Members
 * stand in the order of the vocabulary, unknown ones after them in byte order;
 * strings have no blanks around them; members that are null or an empty string and
 * objects of the vocabulary that are left empty are dropped; nothing else is
 * changed, and nothing at all inside the value of an unknown key.
 *
 * Requests of an endpoint with the same identity, by the same equality, ask for the
 * same; what they ask to be revealed, and how, is in "reveals".
 *
 * Errors, all with code OE_BAD_REQUEST unless said otherwise, none of them
 * quoting a value of the request: not a JSON object; the required member missing,
 * null or no object; a wrong type; unless "pass_unknown_keys" an unknown key,
 * which members of inner objects outside these are too (hint: where they belong,
 * or the nearest known key); more than OE_REQUEST_MAX_BYTES, before or after
 * normalising; more than 32 levels; a number that json-c cannot hold exactly (both
 * only possible under an unknown key).  A required member without any value is
 * OE_API_BAD_REQUEST with the API's own message.  OE_OUT_OF_MEMORY.
 *
 * On success the caller frees with oe_request_free(); on failure "request" is
 * left empty and "error" filled.
 */
extern OeCode oe_request_parse(const OeEndpoint *endpoint,
							   const char *json, size_t len,
							   bool pass_unknown_keys, OeEquality equality,
							   OeRequest *request, OeError *error);
extern void oe_request_free(OeRequest *request);

/*
 * The body to send, which the caller frees: with "url" as the "webhookUrl" of each
 * extra that says "byWebhook".  NULL if out of memory, or if the body cannot be read
 * exactly.
 */
extern char *oe_request_complete(const OeEndpoint *endpoint, const char *body,
								 const char *url);

#endif							/* OE_REQUEST_H */
