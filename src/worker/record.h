/*
 * record.h
 *		What the worker writes of its jobs, and does once it is written.
 *
 * All that one turn of the loop has to write goes into one transaction.  If
 * that fails, each job is tried alone, so that one bad row harms no other.
 */
#ifndef OE_RECORD_H
#define OE_RECORD_H

#include "worker/job.h"
#include "worker/ledger_transaction.h"

/* What came of a turn's transaction. */
typedef struct OeRecorded
{
	OeLedgerEnd end;			/* OE_LEDGER_HAS_FAILED is dealt with already */
	bool		row_is_busy;	/* true if a row was locked: try again */
	bool		orphans_left;	/* true if there are rows "sent" that nobody
								 * has on the wire */
} OeRecorded;

/* Everything that arrived, waits or ended, as far as it can go now. */
extern OeRecorded oe_record_all(TimestampTz now);

/* Only what has ended, each in a transaction of its own. */
extern OeRecorded oe_record_ended(TimestampTz now);

/* No row can be written any more: tell everybody who waits. */
extern void oe_record_give_up_all(const char *reason, TimestampTz now);

/*
 * The two halves of sending, for calls that are taken from the queue: write the
 * job's row, in a transaction (if the row is locked, the job is WAITING again); and
 * send it once that is on disk.  Any other job is taken where its phase leads.
 */
extern void oe_record_sending(OeJob *job, TimestampTz now);
extern void oe_record_proceed(OeJob *job, XLogRecPtr lsn, TimestampTz now);

#endif							/* OE_RECORD_H */
