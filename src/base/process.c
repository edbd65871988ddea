/*
 * process.c
 *		Code shared by the background processes of a database.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/lock.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "base/process.h"

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

bool
oe_process_database_is_wanted(void)
{
	MemoryContext caller = CurrentMemoryContext;
	LOCKTAG		tag;
	bool		wanted;

	StartTransactionCommand();
	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, MyDatabaseId, 0);
	wanted = LockAcquire(&tag, RowExclusiveLock, false, true) ==
		LOCKACQUIRE_NOT_AVAIL;
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return wanted;
}
