/*
 * verdict.h
 *		What an ending means: for the ledger, for the session that waits, for
 *		the limits.  The one place where the API's words become ours.
 */
#ifndef OE_VERDICT_H
#define OE_VERDICT_H

#include "core/http.h"
#include "core/policy.h"
#include "shared/ledger.h"
#include "shared/message.h"

typedef struct OeVerdict
{
	OeOutcome	outcome;
	OeCredits	cost;			/* what it cost, if OE_ANSWERED */

	/* The part of the row that the ending decides. */
	OeLedgerState state;
	int			status;
	const char *detail;
	Jsonb	   *answer;
	const char *raw;
	Size		raw_len;
	bool		raw_truncated;
	const char *credits;

	OeResult	result;			/* but its call_id */
} OeVerdict;

/*
 * Judge what came for "call".  "reply" is NULL when it could not even be begun.
 *
 * The verdict's strings live in the current memory context, or as long as
 * "reply".  Needs an open transaction, for conversions.
 */
extern void oe_judge_reply(const OeCall *call, const OeHttpReply *reply,
						   OeVerdict *verdict);

/* Are credits left?  True also if the balance does not say. */
extern bool oe_balance_is_positive(const Jsonb *balance);

/* The result that an earlier equal request to the endpoint gives. */
extern void oe_judge_hit(const OeEndpoint *endpoint, OeLedgerHit *hit,
						 OeResult *result);

/* A result that is an error; takes the texts over, converted, and frees it. */
extern void oe_result_from_error(OeError *error, OeResult *result);

#endif							/* OE_VERDICT_H */
