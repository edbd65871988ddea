/*
 * triggers.h
 *		The triggers of tables that have a sync.
 */
#ifndef OE_TRIGGERS_H
#define OE_TRIGGERS_H

/* The sync whose answers this process is writing now; 0: none. */
extern int64 oe_sync_writing;

#endif							/* OE_TRIGGERS_H */
