/*
 * progress.h
 *		How far the statement of each session has come, for everybody to see
 *		while it runs.
 */
#ifndef OE_PROGRESS_H
#define OE_PROGRESS_H

#include "core/policy.h"
#include "datatype/timestamp.h"

/* What one statement has done so far.  No answer is in it, and no token. */
typedef struct OeProgress
{
	int			pid;			/* 0: there is none */
	Oid			database;
	Oid			role;
	TimestampTz query_start;	/* of what the client sent */
	TimestampTz first_call_at;
	TimestampTz waiting_since;	/* for the answer that is needed now, or 0 */
	int64		calls;			/* that have come to an end */
	int64		failed;			/* of those */
	int64		reused;
	OeCredits	credits;
} OeProgress;

/*
 * This session makes a call.  What it did for an earlier statement is forgotten
 * by the first call of another, and no longer shown when the transaction ends.
 * Raises what oe_channel_submit() would raise next; without shared memory nothing
 * is shown.
 */
extern void oe_progress_call(void);

/* It has to wait for the answer, or no longer. */
extern void oe_progress_wait(bool waiting);

/* The call has come to an end. */
extern void oe_progress_count(bool failed, bool reused, OeCredits credits);

/*
 * The statements of this database; "infos" has room for oe_progress_max(), the
 * number of them is returned.
 */
extern int	oe_progress_max(void);
extern int	oe_progress_inspect(OeProgress *infos);

#endif							/* OE_PROGRESS_H */
