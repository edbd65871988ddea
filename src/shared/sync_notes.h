/*
 * sync_notes.h
 *		What the applier of syncs is told: by the worker that settles calls, by
 *		webhooks that change their answers, by the triggers of tables.
 *
 * All of it needs an open transaction and SPI.
 */
#ifndef OE_SYNC_NOTES_H
#define OE_SYNC_NOTES_H

#include "base/statement.h"

/* Sessions listening here are notified of calls that ended or changed. */
#define OE_NOTIFY_CHANNEL		"ocean_enrich"

/*
 * In the transaction that settles calls, with the rights of the ledger's owner:
 * those of syncs are to be written to their rows.  Waits for nobody.
 */
extern void oe_sync_settled(const int64 *call_ids, int count);

/*
 * Erasing calls, in a session and with the same rights: before, which waits for
 * the applier and keeps it away until the end of the transaction; and after, by
 * the calls' numbers: their rows are not asked for again unless they change.
 */
extern void oe_sync_hold_off(void);
extern void oe_sync_forgotten(Datum call_ids);

/*
 * Before cancelling a sync's calls: the worker sends none of them any more until
 * the end of the transaction, however long that takes and however it ends.
 * Waits for a claim that is being committed.
 */
extern void oe_sync_hold_calls(int64 sync_id);

/* May the worker's transaction send calls of this sync? */
extern bool oe_sync_may_send(int64 sync_id);

/*
 * Does the applier have work, or are there notes that it has not read?  With
 * the same rights.
 */
extern bool oe_sync_has_work(void);
extern bool oe_sync_is_noted(void);

/* Wake or start the applier once this transaction is committed. */
extern void oe_sync_wake_at_commit(void);

/*
 * Run a statement that notes something for the applier.  A table belongs to its
 * owner, and what came by webhook was paid for, so a server that waits for a
 * restart does not stop either: the worker with the library in use looks for new
 * notes now and then.
 */
extern void oe_sync_note(OeStatement *statement, Datum *values);

#endif							/* OE_SYNC_NOTES_H */
