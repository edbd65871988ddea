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

/*
 * The body to send, checked and normalised, palloc'd, and what it asks to be
 * revealed; raises what is wrong.  Warnings are for the call itself, not for its
 * early beginning.  NULL for an endpoint that takes no request.
 */
extern char *oe_request_body(const OeEndpoint *endpoint, Jsonb *request,
							 bool early, OeReveals *reveals);

/*
 * What makes requests equal: this alone decides it.  "body" is one that
 * oe_request_body() gave.
 */
extern void oe_request_fingerprint(const OeEndpoint *endpoint, const char *body,
								   uint8 fingerprint[OE_FINGERPRINT_BYTES]);

/* What the answer may cost: what a webhook tells is charged when that comes. */
extern void oe_request_set_reveals(OeLimits *limits, const OeReveals *reveals);

#endif							/* OE_REQUEST_BODY_H */
