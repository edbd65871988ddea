/*
 * apply_settled.h
 *		Process settled calls: write their answers to the rows that still ask
 *		for them.
 */
#ifndef OE_APPLY_SETTLED_H
#define OE_APPLY_SETTLED_H

#include "sync/apply.h"

/* Process a batch of them; false if there was none. */
extern bool oe_apply_settled(OeSyncState *state, OeSync *sync);

/* Find calls settled without a notification, for example by hand. */
extern bool oe_apply_sweep(OeSyncState *state, OeSync *sync);

/* Run the statements without rows, which checks names and privileges. */
extern bool oe_apply_try_definition(OeSyncState *state, OeSync *sync);

/* Delete a processed entry of ocean_enrich.sync_settled. */
extern void oe_apply_forget_settled(const OeSync *sync, int64 settled_id);

#endif							/* OE_APPLY_SETTLED_H */
