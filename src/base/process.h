/*
 * process.h
 *		What the background processes of a database have in common.
 */
#ifndef OE_PROCESS_H
#define OE_PROCESS_H

/* How often a process that has time looks whether it is in somebody's way. */
#define OE_DATABASE_CHECK_MS	250

/*
 * Unblock the signals, for which the caller has set its handlers but for SIGHUP,
 * and connect.  ConfigReloadPending is set then: what was changed while the process
 * started is read with its first turn, and what stands in the files already, though
 * nobody has asked for a reload.
 */
extern void oe_process_connect(Oid database);

typedef struct OeForcedSetting
{
	const char *name;
	const char *value;
} OeForcedSetting;

/*
 * ALTER DATABASE ... SET reaches these processes, too; what matters is set by
 * force: what matters to all, and "settings".  Not every version has all of
 * them; those that are missing are left out.
 */
extern void oe_process_force(const OeForcedSetting *settings, int count);

/*
 * Does somebody wait to drop our database, or to copy it?  Then he holds, or
 * wants, a lock that each process takes when it connects.  Opens a transaction
 * of its own; the memory context stays current.
 */
extern bool oe_process_database_is_wanted(void);

#endif							/* OE_PROCESS_H */
