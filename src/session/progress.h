/*
 * progress.h
 *		The progress of each session's statement, visible to others while it
 *		runs.
 */
#ifndef OE_PROGRESS_H
#define OE_PROGRESS_H

#include "core/policy.h"
#include "datatype/timestamp.h"

/* Progress of one statement.  It contains no answer and no token. */
typedef struct OeProgress
{
	int			pid;			/* 0 if the entry is unused */
	Oid			database;
	Oid			role;
	TimestampTz query_start;	/* of the statement that the client sent */
	TimestampTz first_call_at;
	TimestampTz waiting_since;	/* for the answer needed now, or 0 */
	int64		calls;			/* number of ended calls */
	int64		failed;			/* failed ones among them */
	int64		reused;
	OeCredits	credits;
} OeProgress;

/*
 * Record that this session makes a call.  The first call of a new statement
 * resets the entry; the end of the transaction hides it.  Raises the errors
 * that oe_channel_submit() would raise next; without shared memory, nothing is
 * recorded.
 */
extern void oe_progress_call(void);

/* Record that the session begins or stops waiting for an answer. */
extern void oe_progress_wait(bool waiting);

/* Record the end of a call. */
extern void oe_progress_count(bool failed, bool reused, OeCredits credits);

/*
 * Get the statements of this database and return their number; "infos" has
 * room for oe_progress_max() of them.
 */
extern int	oe_progress_max(void);
extern int	oe_progress_inspect(OeProgress *infos);

#endif							/* OE_PROGRESS_H */
