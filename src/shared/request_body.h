/*
 * request_body.h
 *		A request as a user writes it, checked and normalised to what is sent.
 */
#ifndef OE_REQUEST_BODY_H
#define OE_REQUEST_BODY_H

#include "utils/jsonb.h"

#include "core/policy.h"
#include "core/request.h"

/*
 * The body to send, checked and normalised, palloc'd, and what it asks to be
 * revealed; raises what is wrong.  Warnings are for the call itself, not for its
 * early beginning.
 */
extern char *oe_request_body(Jsonb *request, bool early, OeReveals *reveals);

/*
 * What the answer may cost beside the person: what a webhook tells is charged when
 * that comes.
 */
extern void oe_request_set_reveals(OeLimits *limits, const OeReveals *reveals);

#endif							/* OE_REQUEST_BODY_H */
