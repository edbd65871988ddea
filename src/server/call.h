/*
 * call.h
 *		The session's side of one call: from a request to its result, at once
 *		or begun early.
 */
#ifndef OE_CALL_H
#define OE_CALL_H

#include "utils/jsonb.h"

#include "server/message.h"

/*
 * The body to send, checked and normalised, palloc'd; raises what is wrong.
 * Warnings are for the call itself, not for its early beginning.
 */
extern char *oe_call_body(Jsonb *request, bool early);

/*
 * Check "request", have the worker answer it, and wait.  The result's strings
 * are palloc'd.  Raises what is wrong with the request, a missing token, and a
 * cancel; what the API, the network or a limit says is in "result".
 *
 * A call that oe_call_begin_early() has begun for an equal request is taken
 * over, so it is the very same.
 */
extern void oe_call(Jsonb *request, OeResult *result);

/* The balance of the account, as the "person" of the result; costs nothing. */
extern void oe_call_balance(OeResult *result);

/*
 * Begin a call that somebody will ask for with oe_call().  NULL if it cannot be
 * begun now, for whatever reason: oe_call() will do it, or raise the error
 * where it belongs.
 *
 * It ends with the transaction or subtransaction that it was begun in, at the
 * latest; oe_call() then makes the call anew.  The pointer is valid until the
 * transaction ends.
 */
typedef struct OeEarlyCall OeEarlyCall;

extern OeEarlyCall *oe_call_begin_early(Jsonb *request);

/* Would oe_call() return without waiting?  True also if it was taken over. */
extern bool oe_call_is_done(const OeEarlyCall *call);

/* No longer needed, taken over or not.  What is on the wire is recorded. */
extern void oe_call_forget(OeEarlyCall *call);

/* What the calls did while oe_call_stats pointed here. */
typedef struct OeCallStats
{
	int64		calls;
	int64		reused;			/* cost nothing: from the ledger, or joined */
	OeCredits	credits;
	int64		waited_us;
	bool		stop;			/* no more should be begun early */
} OeCallStats;

extern OeCallStats *oe_call_stats;

#endif							/* OE_CALL_H */
