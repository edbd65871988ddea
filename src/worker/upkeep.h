/*
 * upkeep.h
 *		What the worker does in the ledger beside calls: it notes who waits for a
 *		webhook, merges webhooks that crossed their answer, erases what is to be
 *		erased, and applies ocean_enrich.retention.
 */
#ifndef OE_UPKEEP_H
#define OE_UPKEEP_H

#include "datatype/timestamp.h"

/*
 * A call whose request has a webhook was answered.  Inside the transaction of
 * the ledger that records the answer, which no error here may undo: then there
 * is a warning in the log.
 */
extern void oe_upkeep_answered(int64 call_id);

/* Is it time for a step?  "idle": there is nothing else to do. */
extern bool oe_upkeep_is_due(TimestampTz now, bool idle);

/* When it is, if the worker stays idle. */
extern TimestampTz oe_upkeep_due_at(void);

/* The settings may have changed: do not wait for the next minute. */
extern void oe_upkeep_soon(void);

/* There is something to do yet: a worker that leaves does it before. */
extern bool oe_upkeep_is_left(void);

/*
 * Do some steps, in transactions of their own, which wait for nobody.  Raises no
 * error; what went wrong stands in the log.  The current memory context stays.
 */
extern void oe_upkeep(TimestampTz now);

#endif							/* OE_UPKEEP_H */
