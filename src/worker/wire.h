/*
 * wire.h
 *		The jobs that are with libcurl.
 */
#ifndef OE_WIRE_H
#define OE_WIRE_H

#include "worker/job.h"

/* An answer beyond this is cut; what came is kept, since it was paid for. */
#define OE_ANSWER_MAX_BYTES		(1024 * 1024)

/* Once.  Raises an error when there is no memory. */
extern void oe_wire_init(void);

/* May one more go beside "on_wire" others?  Each socket is an open file. */
extern bool oe_wire_reserve(int on_wire);

/*
 * Send it.  It is ON_WIRE then, or ENDED without a reply when it could not be
 * begun.  What was sent leaves with oe_wire_run() at the latest.
 */
extern void oe_wire_send(OeJob *job);
extern void oe_wire_run(void);

/* What has come: these jobs are ENDED, and balances delivered. */
extern void oe_wire_collect(void);

extern int	oe_wire_in_flight(void);
extern int	oe_wire_in_flight_of_queue(void);

/* Wait for this descriptor, but no longer than that; -1: without a limit. */
extern int	oe_wire_fd(void);
extern long oe_wire_timeout_ms(void);

#endif							/* OE_WIRE_H */
