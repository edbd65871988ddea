/*
 * launcher.c
 *		With shared_preload_libraries: a process that keeps a worker in each
 *		database whose queue is not empty.
 *
 * After a server start, it is not known which databases have queued calls.  So
 * a worker is started in each database, and leaves at once if its queue is
 * empty.  Later, the shared state lists the databases that want a worker and
 * lost it.
 *
 * The launcher is connected to no database, and reads only pg_database.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/process.h"
#include "shared/channel.h"
#include "worker/launcher.h"

/* How often to look for databases without being signaled. */
#define LOOK_MS			10000

/* How soon to retry when no worker could be started, or one has ended. */
#define AGAIN_MS		1000

/* How many databases are handled at once. */
#define ORPHANED_MAX	64

static MemoryContext look_mcxt;

void
oe_launcher_register(void)
{
	BackgroundWorker launcher = {0};

	if (!process_shared_preload_libraries_in_progress)
		return;
	launcher.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	launcher.bgw_start_time = BgWorkerStart_RecoveryFinished;
	launcher.bgw_restart_time = AGAIN_MS / 1000;
	strlcpy(launcher.bgw_library_name, "ocean_enrich", BGW_MAXLEN);
	strlcpy(launcher.bgw_function_name, "oe_launcher_main", BGW_MAXLEN);
	strlcpy(launcher.bgw_type, "ocean_enrich launcher", BGW_MAXLEN);
	strlcpy(launcher.bgw_name, "ocean_enrich launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&launcher);
}

/* The databases that a worker can connect to. */
static List *
connectable_databases(void)
{
	List	   *databases = NIL;
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old = MemoryContextSwitchTo(look_mcxt);

		/* A limit below -1 marks a database whose DROP was interrupted. */
		if (database->datallowconn && !database->datistemplate &&
			database->datconnlimit >= -1)
			databases = lappend_oid(databases, database->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(look_mcxt);
	return databases;
}

static void
wait_ms(long timeout_ms)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("OceanEnrichLauncher");
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 timeout_ms, wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* Start the workers one after the other, as slots become free. */
static void
start_everywhere(void)
{
	ListCell   *lc;
	List	   *databases = connectable_databases();

	foreach(lc, databases)
	{
		while (!oe_channel_start_for_queue(lfirst_oid(lc)))
		{
			if (ShutdownRequestPending)
				return;
			wait_ms(AGAIN_MS);
		}
	}
}

static bool
is_any_wanted(void)
{
	Oid			orphaned;

	return oe_channel_orphaned(&orphaned, 1) > 0;
}

/* True if any database wants a worker. */
static bool
start_where_wanted(void)
{
	Oid			orphaned[ORPHANED_MAX];
	int			count = oe_channel_orphaned(orphaned, ORPHANED_MAX);
	List	   *databases;

	if (count == 0)
		return false;
	databases = connectable_databases();
	for (int i = 0; i < count; i++)
	{
		if (!list_member_oid(databases, orphaned[i]))
			oe_channel_forget_database(orphaned[i]);
		else if (oe_process_is_database_wanted(orphaned[i]))
			continue;
		else if (!oe_channel_start_for_queue(orphaned[i]))
			break;
	}
	return true;
}

void
oe_launcher_main(Datum arg)
{
	bool		wanted = false;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	look_mcxt = AllocSetContextCreate(TopMemoryContext, "ocean_enrich launcher",
									  ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(look_mcxt);
	oe_channel_launch();
	start_everywhere();
	while (!ShutdownRequestPending)
	{
		wait_ms(wanted ? AGAIN_MS : LOOK_MS);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		MemoryContextReset(look_mcxt);

		/* The session that made the last worker leave needs a moment first. */
		if (!wanted && is_any_wanted())
			wait_ms(AGAIN_MS);
		wanted = start_where_wanted();
	}
	proc_exit(0);
}
