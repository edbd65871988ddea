/*
 * process.c
 *		Code shared by the background processes of a database.
 */
#include "postgres.h"

#include <unistd.h>

#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "base/process.h"

/*
 * How long a process that is told to stop waits to get into its database.  When
 * the server stops, so does the session that wants the database.
 */
#define STOPPED_OUTSIDE_MAX_MS	2000

static const OeForcedSetting forced_settings[] = {
	{"search_path", "pg_catalog, pg_temp"},
	{"default_transaction_read_only", "off"},
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_deferrable", "off"},
	{"session_replication_role", "origin"},
	{"statement_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"transaction_timeout", "0"},
	/* An error must not make us exit with work under way. */
	{"exit_on_error", "off"},
	{"jit", "off"},
};

static void
force_settings(const OeForcedSetting *settings, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (GetConfigOption(settings[i].name, true, false))
			SetConfigOption(settings[i].name, settings[i].value, PGC_SUSET,
							PGC_S_OVERRIDE);
	}
}

/*
 * We inherited the postmaster's settings when we were forked.  If it reloaded
 * them before our handler was installed, its signal was ignored.
 */
void
oe_process_connect(Oid database)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	ConfigReloadPending = true;
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
}

void
oe_process_force(const OeForcedSetting *settings, int count)
{
	force_settings(forced_settings, lengthof(forced_settings));
	force_settings(settings, count);
}

static void
set_database_tag(LOCKTAG *tag, Oid database)
{
	SET_LOCKTAG_OBJECT(*tag, InvalidOid, DatabaseRelationId, database, 0);
}

static bool
try_lock_database(Oid database)
{
	LOCKTAG		tag;

	set_database_tag(&tag, database);
	return LockAcquire(&tag, RowExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

static void
unlock_database(Oid database)
{
	LOCKTAG		tag;

	set_database_tag(&tag, database);
	(void) LockRelease(&tag, RowExclusiveLock, true);
}

bool
oe_process_is_database_wanted(Oid database)
{
	if (!try_lock_database(database))
		return true;
	unlock_database(database);
	return false;
}

static void
leave_if_stopped(TimestampTz *stopped_at)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!ShutdownRequestPending)
		return;
	if (*stopped_at == 0)
		*stopped_at = now;
	if (now - *stopped_at >= STOPPED_OUTSIDE_MAX_MS * INT64CONST(1000))
		proc_exit(0);
}

/*
 * DROP DATABASE and the like wait until no process names the database in its
 * entry of the shared array of processes, and then have it to themselves.  A
 * process that has no transaction open holds nothing there.  So it can stay
 * alive, and come back by the way in which it came in: InitPostgres() sets the
 * name while it holds the lock.
 */
void
oe_process_make_way(void (*wait) (void))
{
	TimestampTz stopped_at = 0;

	/* What is pending would be written when the process ends. */
	pgstat_report_stat(true);
	MyProc->databaseId = InvalidOid;
	while (!try_lock_database(MyDatabaseId))
	{
		wait();
		CHECK_FOR_INTERRUPTS();
		leave_if_stopped(&stopped_at);
	}
	if (access(DatabasePath, F_OK) != 0)
	{
		unlock_database(MyDatabaseId);
		/* No statistics of a database that is gone. */
		MyDatabaseId = InvalidOid;
		proc_exit(0);
	}
	MyProc->databaseId = MyDatabaseId;
	unlock_database(MyDatabaseId);
	SetLatch(MyLatch);
}
