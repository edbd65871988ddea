/*
 * process.h
 *		Code shared by the background processes of a database.
 */
#ifndef OE_PROCESS_H
#define OE_PROCESS_H

/* How often a process checks whether it blocks anybody. */
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
 * Does another session want to drop, rename, move or copy the database?  It
 * then holds, or waits for, a lock that each process takes when it connects.
 */
extern bool oe_process_is_database_wanted(Oid database);

/*
 * Stay out of our database for as long as another session wants it: meanwhile
 * "wait" is called again and again.  It waits for at most OE_DATABASE_CHECK_MS
 * and resets the latch, which is set when we are back.
 *
 * Like the caller, "wait" is in no transaction, and it is not allowed to start
 * one.  Ends the process if the database was dropped or moved; or if the
 * process is told to stop, and the session does not let us in soon.
 */
extern void oe_process_make_way(void (*wait) (void));

#endif							/* OE_PROCESS_H */
