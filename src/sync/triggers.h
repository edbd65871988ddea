/*
 * triggers.h
 *		The triggers of tables that have a sync.
 */
#ifndef OE_TRIGGERS_H
#define OE_TRIGGERS_H

/*
 * From now on this process writes the answers of that sync, which are no changes
 * of its rows; 0: of none.
 */
extern void oe_triggers_ignore_writes_of(int64 sync_id);

#endif							/* OE_TRIGGERS_H */
