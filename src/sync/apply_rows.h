/*
 * apply_rows.h
 *		What the applier writes to ocean_enrich.sync_row and sync_settled, for a
 *		whole batch at once; with the rights of the extension's owner.
 */
#ifndef OE_APPLY_ROWS_H
#define OE_APPLY_ROWS_H

#include "sync/apply.h"

#define OE_APPLY_COLUMNS	7

typedef enum OeSettled
{
	OE_NOT_SETTLED,
	OE_SETTLED_BEFORE,
	OE_SETTLED_NOW,
} OeSettled;

/* New contents of rows, gathered. */
typedef struct OeUpdates
{
	int			count;
	Datum	   *values[OE_APPLY_COLUMNS];
	bool	   *nulls[OE_APPLY_COLUMNS];
	Datum	   *removed;		/* rows that go */
	int			removed_count;
} OeUpdates;

/* Room for "max" rows. */
extern void oe_apply_begin_updates(OeUpdates *updates, int max);

/*
 * The row at "tid", which nobody else may have changed since it was seen.
 * "call_id" 0, "error_code" and "message" NULL: NULL.
 */
extern void oe_apply_set_row(OeUpdates *updates, Datum tid, const char *state,
							 int64 call_id, int differences,
							 const char *error_code, const char *message,
							 OeSettled settled);
extern void oe_apply_remove_row(OeUpdates *updates, Datum tid);
extern void oe_apply_write_updates(const OeUpdates *updates);

/* The calls' answers are to be written to their rows. */
extern void oe_apply_note_settled(const OeSync *sync, Datum *call_ids, int count);

#endif							/* OE_APPLY_ROWS_H */
