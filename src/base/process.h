/*
 * process.h
 *		Code shared by the background processes of a database.
 */
#ifndef OE_PROCESS_H
#define OE_PROCESS_H

/* How often an idle process checks whether it blocks anybody. */
#define OE_DATABASE_CHECK_MS	250

/*
 * Unblock signals and connect.  The caller has installed all handlers but that
 * for SIGHUP.  ConfigReloadPending is set, so the first turn reads settings
 * that were changed while the process started, and changes in the files that
 * no reload has picked up yet.
 */
extern void oe_process_connect(Oid database);

typedef struct OeForcedSetting
{
	const char *name;
	const char *value;
} OeForcedSetting;

/*
 * ALTER DATABASE ... SET reaches these processes, too, so force the settings
 * that all of them depend on, and "settings".  Settings unknown to this server
 * version are skipped.
 */
extern void oe_process_force(const OeForcedSetting *settings, int count);

/*
 * Is another session waiting to drop our database, or to copy it?  It then
 * holds, or waits for, a lock that each process takes when it connects.  Opens
 * a transaction of its own; the memory context stays current.
 */
extern bool oe_process_database_is_wanted(void);

#endif							/* OE_PROCESS_H */
