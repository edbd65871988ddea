/*
 * call.h
 *		The session's side of one call: from a request to its result, at once
 *		or begun early.
 */
#ifndef OE_CALL_H
#define OE_CALL_H

#include "utils/jsonb.h"

#include "core/request.h"
#include "shared/message.h"

/*
 * Check "request", have the endpoint answer it, and wait.  The result's strings
 * are palloc'd.  Raises what is wrong with the request, a missing token, and a
 * cancel; what the API, the network or a limit says is in "result".
 *
 * A call that oe_call_expect() has begun for an equal request is taken over, so it
 * is the very same.
 */
extern void oe_call(const OeEndpoint *endpoint, Jsonb *request,
					OeResult *result);

/* Does an enriching function raise this, unless it gives errors as values? */
extern bool oe_call_raises(OeCode code);

/*
 * While this is set, calls go there instead of to the worker, and none is begun
 * early.  The result of such a call may be OE_OK without an answer.
 */
typedef void (*OeCallHandler) (const OeEndpoint *endpoint, Jsonb *request,
							   OeResult *result);

extern OeCallHandler oe_call_instead;

/* What calls did. */
typedef struct OeCallStats
{
	int64		calls;
	int64		reused;			/* cost nothing: from the ledger, or joined */
	OeCredits	credits;
	int64		waited_us;

	/*
	 * No more should be begun early: each would meet the same end, for all
	 * that is known.  A call that was not begun early and is answered says
	 * otherwise.
	 */
	bool		stop;
} OeCallStats;

/* Where calls are counted that were not expected; NULL: nowhere. */
extern OeCallStats *oe_call_stats;

/*
 * A call that somebody will ask for with oe_call(), and that is to be counted
 * in "stats".  With "early" it is begun now, if that is possible; if not, for
 * whatever reason, oe_call() will begin it.  NULL if there is something wrong
 * with it: oe_call() will raise the error where it belongs.
 *
 * It ends with the transaction or subtransaction that it was begun in, at the
 * latest; oe_call() then makes the call anew.  The pointer is valid until the
 * transaction ends.
 */
typedef struct OeExpectedCall OeExpectedCall;

extern OeExpectedCall *oe_call_expect(const OeEndpoint *endpoint,
									  Jsonb *request, bool early,
									  OeCallStats *stats);

/* Would oe_call() return without waiting, or is there nothing to wait for yet? */
extern bool oe_call_is_done(const OeExpectedCall *call);

/*
 * Has it failed already, so that no more should be begun early?  That is any
 * error if errors are raised, since the statement then ends, and one that more
 * calls would meet if errors are values.
 */
extern bool oe_call_has_failed(OeExpectedCall *call, bool raises);

/* No longer needed, asked for or not.  What is on the wire is recorded. */
extern void oe_call_forget(OeExpectedCall *call);

#endif							/* OE_CALL_H */
