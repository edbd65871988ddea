/*
 * apply_changed.h
 *		Rows that changed: what they ask for now is queued, and what they asked
 *		for before is cancelled.
 */
#ifndef OE_APPLY_CHANGED_H
#define OE_APPLY_CHANGED_H

#include "sync/apply.h"

/* A batch of them.  False: there was none. */
extern bool oe_apply_changed(OeSyncState *state, OeSync *sync);

/* Rows whose answer has become too old count as changed.  False: none has. */
extern bool oe_apply_refresh(OeSyncState *state, OeSync *sync);

#endif							/* OE_APPLY_CHANGED_H */
