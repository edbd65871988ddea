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

/* Everything that arrived, waits or ended, as far as it can go now. */
extern void oe_record_all(TimestampTz now);

/* Only what has ended, each in a transaction of its own. */
extern void oe_record_ended(TimestampTz now);

/* No row can be written any more: says so to everybody. */
extern void oe_record_give_up_all(const char *reason, TimestampTz now);

/*
 * The two halves of sending, for who takes calls from the queue: its row, in a
 * transaction (a job whose row is locked is put off, and WAITING); and what is
 * to be done once that is on disk.
 */
extern void oe_record_sending(OeJob *job, TimestampTz now);
extern void oe_record_act(OeJob *job, XLogRecPtr lsn, TimestampTz now);

/* A row was locked in this turn: try again. */
extern bool oe_record_row_is_busy;

/* There are rows "sent" that nobody has on the wire. */
extern bool oe_record_orphans_left;

#endif							/* OE_RECORD_H */
