/*
 * serve_queue.h
 *		How the worker serves the queue: what is due is claimed, looked up and
 *		sent while no session waits for the same limits, and pauses while the
 *		API or a limit asks for it.
 */
#ifndef OE_SERVE_QUEUE_H
#define OE_SERVE_QUEUE_H

#include "worker/ledger_transaction.h"

/* Once.  "decisions_due": look for decisions made while nobody served it. */
extern void oe_serve_queue_init(bool decisions_due);

/*
 * In each turn of the loop, after the requests of sessions.  Returns how the last
 * transaction ended; a failure is dealt with already.
 */
extern OeLedgerEnd oe_serve_queue(TimestampTz now);

/* When it may go on by itself; DT_NOEND: when it is told, or something ends. */
extern TimestampTz oe_serve_queue_wake_at(void);

/* Is something in the queue, or may be? */
extern bool oe_serve_queue_is_wanted(void);

/* The settings may have changed. */
extern void oe_serve_queue_reload(void);

#endif							/* OE_SERVE_QUEUE_H */
