/*
 * record.h
 *		Records the worker's jobs in the ledger, and proceeds after the commit.
 *
 * One turn of the loop records all its jobs in one transaction.  If that
 * fails, each job gets its own, so that one bad row harms no other.
 */
#ifndef OE_RECORD_H
#define OE_RECORD_H

#include "worker/job.h"
#include "worker/ledger_transaction.h"

/* The outcome of a turn's transaction. */
typedef struct OeRecorded
{
	OeLedgerEnd end;			/* OE_LEDGER_HAS_FAILED is dealt with already */
	bool		row_is_busy;	/* true if a row was locked: try again */
	bool		orphans_left;	/* true if there are rows "sent" that nobody
								 * has on the wire */
} OeRecorded;

/* Record the jobs that arrived, wait or ended, as far as possible now. */
extern OeRecorded oe_record_all(TimestampTz now);

/* Record only the jobs that ended, each in its own transaction. */
extern OeRecorded oe_record_ended(TimestampTz now);

/* Fail all jobs, as no row can be written any more. */
extern void oe_record_give_up_all(const char *reason, TimestampTz now);

/*
 * The two halves of sending, for calls taken from the queue: write the job's
 * row, in a transaction (if the row is locked, the job is WAITING again), and
 * send the job once the row is on disk.  Other jobs proceed by their phase.
 */
extern void oe_record_sending(OeJob *job, TimestampTz now);
extern void oe_record_proceed(OeJob *job, XLogRecPtr lsn, TimestampTz now);

#endif							/* OE_RECORD_H */
