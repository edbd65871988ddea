/*
 * triggers.h
 *		The triggers of tables that have a sync.
 */
#ifndef OE_TRIGGERS_H
#define OE_TRIGGERS_H

/*
 * From now on this process writes answers of that sync, which do not count as
 * changes of its rows; 0 ends this.
 */
extern void oe_triggers_ignore_writes_of(int64 sync_id);

#endif							/* OE_TRIGGERS_H */
