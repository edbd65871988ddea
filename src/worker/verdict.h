/*
 * verdict.h
 *		Judges how a request ended, for the ledger, the waiting session and the
 *		limits.  The one place that translates the API's replies.
 */
#ifndef OE_VERDICT_H
#define OE_VERDICT_H

#include "core/http.h"
#include "core/policy.h"
#include "shared/ledger.h"
#include "shared/message.h"
#include "worker/access.h"

typedef struct OeVerdict
{
	OeOutcome	outcome;
	OeCredits	cost;			/* if OE_ANSWERED */

	/* The columns of the row that depend on the ending. */
	OeLedgerState state;
	int			status;
	const char *detail;
	Jsonb	   *answer;
	const char *raw;
	Size		raw_len;
	bool		raw_truncated;
	const char *credits;

	OeResult	result;			/* without its call_id */
} OeVerdict;

/*
 * Judge the reply to "call"; NULL if the request could not even be begun.
 *
 * The verdict's strings live in the current memory context or in "reply".
 * Needs an open transaction, for conversions.
 */
extern void oe_judge_reply(const OeCall *call, const OeHttpReply *reply,
						   OeVerdict *verdict);

extern OeBalance oe_balance_read(const Jsonb *balance);

/* The result that an earlier equal request to the endpoint gives. */
extern void oe_judge_hit(const OeEndpoint *endpoint, OeLedgerHit *hit,
						 OeResult *result);

/* Fill a result from an error, with converted texts.  Frees the error. */
extern void oe_result_from_error(OeError *error, OeResult *result);

#endif							/* OE_VERDICT_H */
