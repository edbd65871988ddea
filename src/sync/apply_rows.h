/*
 * apply_rows.h
 *		The applier's changes to ocean_enrich.sync_row and sync_settled, for a
 *		whole batch at once; made with the rights of the extension's owner.
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

/* Collected changes of rows. */
typedef struct OeUpdates
{
	int			count;
	Datum	   *values[OE_APPLY_COLUMNS];
	bool	   *nulls[OE_APPLY_COLUMNS];
	Datum	   *removed;		/* rows to delete */
	int			removed_count;
} OeUpdates;

/* Allocate room for "max" rows. */
extern void oe_apply_begin_updates(OeUpdates *updates, int max);

/*
 * Update the row at "tid", which nothing else can have changed since it was
 * read.  A "call_id" of 0 and a NULL "error_code" or "message" are stored as
 * NULL.
 */
extern void oe_apply_set_row(OeUpdates *updates, Datum tid, const char *state,
							 int64 call_id, int differences,
							 const char *error_code, const char *message,
							 OeSettled settled);
extern void oe_apply_remove_row(OeUpdates *updates, Datum tid);
extern void oe_apply_write_updates(const OeUpdates *updates);

/* Note that the calls' answers are to be written to their rows. */
extern void oe_apply_note_settled(const OeSync *sync, Datum *call_ids, int count);

#endif							/* OE_APPLY_ROWS_H */
