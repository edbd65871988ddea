/*
 * serve_queue.h
 *		How the worker serves the queue: due calls are claimed, looked up and
 *		sent while no session waits for the same limits.  The queue pauses
 *		while the API or a limit asks for it.
 */
#ifndef OE_SERVE_QUEUE_H
#define OE_SERVE_QUEUE_H

#include "worker/ledger_transaction.h"

/* Call once.  "decisions_due": look for decisions made while no worker ran. */
extern void oe_serve_queue_init(bool decisions_due);

/* Call first in each turn of the loop: what sessions have done to the queue, and to pauses. */
extern void oe_serve_queue_take_news(void);

/*
 * Call in each turn of the loop, after the requests of sessions.  Returns how
 * the last transaction ended; a failure has been handled already.
 */
extern OeLedgerEnd oe_serve_queue(TimestampTz now);

/* When the queue resumes; DT_NOEND: on news, or when a request ends. */
extern TimestampTz oe_serve_queue_wake_at(void);

/* True unless the queue is known to be empty. */
extern bool oe_serve_queue_is_wanted(void);

/* Reload the settings that the queue is sent with. */
extern void oe_serve_queue_reload(void);

#endif							/* OE_SERVE_QUEUE_H */
