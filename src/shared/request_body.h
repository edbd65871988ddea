/*
 * request_body.h
 *		A request as a user writes it, checked and normalised to what is sent.
 */
#ifndef OE_REQUEST_BODY_H
#define OE_REQUEST_BODY_H

#include "utils/jsonb.h"

#include "core/endpoint.h"
#include "core/policy.h"
#include "core/request.h"
#include "base/text.h"

#define OE_FINGERPRINT_BYTES	OE_SHA256_BYTES

/* A request that was checked. */
typedef struct OeBody
{
	const OeEndpoint *endpoint;
	char	   *text;			/* to be sent, normalised, in UTF-8, palloc'd;
								 * NULL: the endpoint takes no request */
	uint8		fingerprint[OE_FINGERPRINT_BYTES];	/* the same for equal ones */
	OeReveals	reveals;
} OeBody;

/*
 * Check and normalise "request".  False if the API would not take it; *error,
 * which the caller frees, has the reason in the server's encoding.  Raises an
 * error only for lack of memory, which is not the fault of the request.
 */
extern bool oe_request_check(const OeEndpoint *endpoint, Jsonb *request,
							 OeBody *body, OeError *error);

/* Warn about members that are sent, but probably not meant. */
extern void oe_request_warn(const OeBody *body);

/*
 * What makes requests equal: this alone decides it.  All but the last byte say whom
 * and what a request asks for, by ocean_enrich.equal; the last byte, what it asks to be
 * revealed, and how.  "request" is NULL for an endpoint that takes none.
 */
extern void oe_request_fingerprint(const OeEndpoint *endpoint,
								   const OeRequest *request,
								   uint8 fingerprint[OE_FINGERPRINT_BYTES]);

/*
 * The lowest and the highest fingerprint of requests that ask for the same, whatever
 * they ask to be revealed.
 */
extern void oe_fingerprint_range(const uint8 *fingerprint,
								 uint8 lowest[OE_FINGERPRINT_BYTES],
								 uint8 highest[OE_FINGERPRINT_BYTES]);

/* Of two in the same range: is all that "asked" wants revealed part of "answered"? */
extern bool oe_fingerprint_serves(const uint8 *answered, const uint8 *asked);

/*
 * The extras that are revealed in one way, by their names in the answer: text[],
 * as the ledger has them, or 0 if there are none.  And back.
 */
extern Datum oe_reveals_to_names(const OeEndpoint *endpoint,
								 const OeReveals *reveals, OeReveal way);
extern void oe_reveals_from_names(const OeEndpoint *endpoint, Datum names,
								  OeReveal way, OeReveals *reveals);

/* True if the request, as it stands in the ledger, needs ocean_enrich.webhook_url. */
extern bool oe_request_needs_url(const OeEndpoint *endpoint, Jsonb *request);

/* True if the request waits for a webhook. */
extern bool oe_reveals_by_webhook(const OeReveals *reveals);

/* What the answer may cost: what a webhook tells is charged when that comes. */
extern void oe_request_set_reveals(OeLimits *limits, const OeReveals *reveals);

#endif							/* OE_REQUEST_BODY_H */
