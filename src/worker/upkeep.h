/*
 * upkeep.h
 *		The worker's work in the ledger beside calls: it notes calls that wait
 *		for a webhook, merges webhooks that arrived before their answer,
 *		completes erasures, and applies ocean_enrich.retention.
 */
#ifndef OE_UPKEEP_H
#define OE_UPKEEP_H

#include "datatype/timestamp.h"

/*
 * Note that a call whose request has a webhook was answered; in the
 * transaction of the ledger that records the answer.  An error is logged as a
 * warning, and does not undo that transaction.
 */
extern void oe_upkeep_answered(int64 call_id);

/* True if it is time for a step.  "idle": there is nothing else to do. */
extern bool oe_upkeep_is_due(TimestampTz now, bool idle);

/* When the next step is due, if the worker stays idle. */
extern TimestampTz oe_upkeep_due_at(void);

/* The settings may have changed: do not wait for the next minute. */
extern void oe_upkeep_soon(void);

/* True if there is work left, which a worker does before it leaves. */
extern bool oe_upkeep_is_left(void);

/*
 * Do some steps, in transactions of their own, which wait for nobody.  Raises no
 * error: failures are logged.  Keeps the current memory context.
 */
extern void oe_upkeep(TimestampTz now);

#endif							/* OE_UPKEEP_H */
