/*
 * apply_settled.h
 *		Calls that are settled: their answers are written to the rows that still
 *		ask for them.
 */
#ifndef OE_APPLY_SETTLED_H
#define OE_APPLY_SETTLED_H

#include "sync/apply.h"

/* A batch of them.  False: there was none. */
extern bool oe_apply_settled(OeSyncState *state, OeSync *sync);

/* Calls that were settled while nobody could tell us, as by hand. */
extern bool oe_apply_sweep(OeSyncState *state, OeSync *sync);

/* The statements without any row: names and privileges are looked at. */
extern bool oe_apply_try_definition(OeSyncState *state, OeSync *sync);

/* These entries of ocean_enrich.sync_settled, int8[], are dealt with. */
extern void oe_apply_forget_settled(const OeSync *sync, Datum settled_ids);

#endif							/* OE_APPLY_SETTLED_H */
