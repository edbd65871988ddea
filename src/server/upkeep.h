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
 * A request's body that has a webhook in it; true for some others, too, which
 * oe_upkeep_answered() then finds to have none.
 */
extern bool oe_upkeep_has_webhook(const char *body);

/*
 * A call whose request has a webhook was answered.  Inside a transaction of the
 * ledger: what came by webhook before is merged with the answer or not at all.
 */
extern void oe_upkeep_answered(int64 call_id);

/* Is it time for a step?  "idle": there is nothing else to do. */
extern bool oe_upkeep_is_due(TimestampTz now, bool idle);

/* When it is, if the worker stays idle. */
extern TimestampTz oe_upkeep_due_at(void);

/* There were calls since the last step: a worker that leaves does one more. */
extern bool oe_upkeep_is_left(void);

/*
 * Do one step, in a transaction of its own, which waits for nobody.  Raises no
 * error; what went wrong stands in the log.  The current memory context stays.
 */
extern void oe_upkeep(TimestampTz now);

#endif							/* OE_UPKEEP_H */
