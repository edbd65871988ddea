/*
 * call.h
 *		The session's side of one call: from a request to its result, at once
 *		or begun early.
 */
#ifndef OE_CALL_H
#define OE_CALL_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

#include "core/request.h"
#include "shared/message.h"
#include "shared/settings.h"

/* What the SQL function was given. */
typedef struct OeCallArguments
{
	Jsonb	   *request;
	text	   *not_found;		/* NULL: as the setting says */
	Interval   *reuse_for;		/* likewise */
} OeCallArguments;

/* How a call is answered. */
typedef struct OeCallOptions
{
	OeNotFound	not_found;
	int64		reuse_for_us;
	int64		reuse_not_found_for_us;
} OeCallOptions;

/*
 * By the arguments, if there are any, and the settings.  Raises 22023 for a
 * value that an argument does not take.
 */
extern OeCallOptions oe_call_options(const OeCallArguments *arguments);

/*
 * Check "request", send it to the endpoint, and wait.  The result's strings
 * are palloc'd.  Errors in the request, of the API, the network or a limit are
 * returned in "result"; a missing token, a cancel and the like are raised.
 *
 * If oe_call_expect() has begun a call for an equal request, that call is
 * taken over and no second one is made.
 */
extern void oe_call(const OeEndpoint *endpoint, Jsonb *request,
					const OeCallOptions *options, OeResult *result);

/* Does an enriching function raise this, unless errors are values? */
extern bool oe_call_raises(OeCode code, const OeCallOptions *options);

/*
 * While this is set, calls go to it instead of to the worker, and none is
 * begun early.  The result of such a call may be OE_OK without an answer.
 */
typedef void (*OeCallHandler) (const OeEndpoint *endpoint, Jsonb *request,
							   const OeCallOptions *options,
							   OeResult *result);

extern OeCallHandler oe_call_instead;

/* Statistics of a group of calls. */
typedef struct OeCallStats
{
	int64		calls;
	int64		reused;			/* free: from the ledger, or joined */
	OeCredits	credits;
	int64		waited_us;

	/*
	 * True if no more calls should be begun early, since each would probably
	 * fail with the same error.  Reset by the next successful call that was
	 * not begun early.
	 */
	bool		stop;
} OeCallStats;

/* Statistics for calls that were not expected, or NULL. */
extern OeCallStats *oe_call_stats;

typedef enum OeExpect
{
	OE_EXPECT,					/* oe_call() will begin it */
	OE_EXPECT_EARLY,			/* it is begun now, if possible */
	OE_EXPECT_EARLY_IF_REUSED,	/* likewise, unless answers are not reused:
								 * perhaps it will not be asked for */
} OeExpect;

/*
 * Announce a call that will be asked for with oe_call(), and count it in
 * "stats".  Returns NULL if the call has an error, which oe_call() will
 * have where it belongs.
 *
 * The call ends with the transaction or subtransaction in which it was begun,
 * at the latest; oe_call() then makes it anew.  The pointer is valid until the
 * transaction ends.
 */
typedef struct OeExpectedCall OeExpectedCall;

extern OeExpectedCall *oe_call_expect(const OeEndpoint *endpoint,
									  const OeCallArguments *arguments,
									  OeExpect how, OeCallStats *stats);

/* True if oe_call() would not wait for this call, or if it has not begun. */
extern bool oe_call_is_done(const OeExpectedCall *call);

/*
 * Has the call failed, so that no more should be begun early?  If errors are
 * raised, any error counts, since it ends the statement; if errors are values,
 * only one that further calls would meet, too.
 */
extern bool oe_call_has_failed(OeExpectedCall *call, bool raises);

/* Discard the call, even if unused; a request on the wire is recorded. */
extern void oe_call_forget(OeExpectedCall *call);

#endif							/* OE_CALL_H */
