/*
 * wire.h
 *		The jobs that are with libcurl.
 */
#ifndef OE_WIRE_H
#define OE_WIRE_H

#include "worker/job.h"

/* Longer answers are truncated, and kept, since they were paid for. */
#define OE_ANSWER_MAX_BYTES		(1024 * 1024)

/* Call once.  Raises an error if out of memory. */
extern void oe_wire_init(void);

/* True if one more may go beside "on_wire" others: sockets are open files. */
extern bool oe_wire_reserve(int on_wire);

/*
 * Send the job.  It is ON_WIRE then, or ENDED without a reply if it could not
 * be begun.  The request leaves with oe_wire_run() at the latest.
 */
extern void oe_wire_send(OeJob *job);
extern void oe_wire_run(void);

/* Collect replies: their jobs become ENDED, and balances are delivered. */
extern void oe_wire_collect(void);

extern int	oe_wire_in_flight(void);
extern int	oe_wire_in_flight_of_queue(void);

/* Wait for this descriptor, for at most this time; -1: without a limit. */
extern int	oe_wire_fd(void);
extern long oe_wire_timeout_ms(void);

#endif							/* OE_WIRE_H */
