/*
 * apply_changed.h
 *		Process changed rows: queue their current requests, and cancel the
 *		previous ones.
 */
#ifndef OE_APPLY_CHANGED_H
#define OE_APPLY_CHANGED_H

#include "sync/apply.h"

/* Process a batch of them; false if there was none. */
extern bool oe_apply_changed(OeSyncState *state, OeSync *sync);

/* Mark rows with an outdated answer as changed; false if there was none. */
extern bool oe_apply_refresh(OeSyncState *state, OeSync *sync);

#endif							/* OE_APPLY_CHANGED_H */
