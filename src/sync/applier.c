/*
 * applier.c
 *		The background process behind syncs: it evaluates changed rows, queues
 *		their requests, and writes the answers to the target column.
 *
 * The work is done in batches, each a transaction of its own; syncs take
 * turns.  A failed batch is retried in smaller portions, down to the one row
 * that causes the error: that row is marked as failed, and the next one is
 * processed.  If even an empty batch fails, the definition is broken, and the
 * sync is stopped.  Users' code neither runs nor waits for long, so that one
 * sync does not hold up the others.
 *
 * Each transaction locks the row of ocean_enrich.sync FOR SHARE.  Disabling,
 * altering or dropping a sync locks it FOR UPDATE: after that, the applier
 * does nothing that it had planned before.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/process.h"
#include "shared/channel.h"
#include "shared/enqueue.h"
#include "shared/ledger.h"
#include "shared/settings.h"
#include "sync/apply.h"
#include "sync/apply_changed.h"
#include "sync/apply_settled.h"

/* PostgreSQL finds it by its name. */
extern PGDLLEXPORT void oe_applier_main(Datum database);

/* Maximum number of changes taken from the inbox at once. */
#define INBOX_BATCH			5000

/* How long to pause a sync after an internal error. */
#define TROUBLE_WAIT_MS		10000

/* How often to check definitions while their calls are in the queue. */
#define WATCH_MS			1000

/* How often to look for ended calls that we were not notified of. */
#define SWEEP_MS			10000

/* Number of rows in ocean_enrich.sync_count worth adding up. */
#define COUNTS_MAX			100

/* Processes a batch; false if there was nothing to do. */
typedef bool (*Work) (OeSyncState *state, OeSync *sync);

static HTAB *sync_states;
static uint64 round_number;
static TimestampTz next_refresh;
static bool extension_is_gone;
static uint32 wait_event;

static OeStatement active_statement = {
	"SELECT sync_id FROM ocean_enrich.sync WHERE enabled"
	" AND database = ocean_enrich.database_identity() ORDER BY sync_id",
	0, {0}, NULL
};

/* Syncs whose definition is not being changed. */
static OeStatement drainable_statement = {
	"SELECT sync_id FROM ocean_enrich.sync ORDER BY sync_id FOR SHARE SKIP LOCKED",
	0, {0}, NULL
};

static OeStatement drain_statement = {
	"WITH taken AS (DELETE FROM ocean_enrich.sync_inbox WHERE ctid = ANY"
	" (ARRAY(SELECT ctid FROM ocean_enrich.sync_inbox WHERE sync_id = ANY ($1)"
	" ORDER BY inbox_id LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING sync_id, key),"
	" noted AS (INSERT INTO ocean_enrich.sync_row AS r (sync_id, key, state)"
	" SELECT DISTINCT sync_id, key, 'changed'::ocean_enrich.sync_row_state"
	" FROM taken WHERE key IS NOT NULL"
	" ON CONFLICT (sync_id, key) DO UPDATE SET state = 'changed', differences = 0)"
	" SELECT sync_id, bool_or(key IS NULL) FROM taken GROUP BY sync_id",
	2, {INT8ARRAYOID, INT4OID}, NULL
};

static OeStatement all_changed_statement = {
	"UPDATE ocean_enrich.sync_row SET state = 'changed', differences = 0"
	" WHERE sync_id = $1 AND state <> 'changed'",
	1, {INT8OID}, NULL
};

static OeStatement next_refresh_statement = {
	"SELECT min(r.refresh_at) FROM ocean_enrich.sync AS s, LATERAL"
	" (SELECT refresh_at FROM ocean_enrich.sync_row WHERE sync_id = s.sync_id"
	" AND refresh_at IS NOT NULL ORDER BY refresh_at LIMIT 1) AS r"
	" WHERE s.enabled AND s.database = ocean_enrich.database_identity()",
	0, {0}, NULL
};

static OeStatement fail_statement = {
	"UPDATE ocean_enrich.sync_row SET state = 'failed', error_code = $3, message = $4,"
	" settled_at = now(), refresh_at = NULL WHERE sync_id = $1 AND key = $2",
	4, {INT8OID, TEXTARRAYOID, TEXTOID, TEXTOID}, NULL
};

static OeStatement count_statement = {
	"SELECT count(*) FROM (SELECT FROM ocean_enrich.sync_count LIMIT $1) AS first",
	1, {INT4OID}, NULL
};

static OeStatement fold_statement = {
	"WITH gone AS (DELETE FROM ocean_enrich.sync_count RETURNING *)"
	" INSERT INTO ocean_enrich.sync_count (sync_id, state, rows, credits, settled_at)"
	" SELECT g.sync_id, g.state, sum(g.rows), sum(g.credits), g.at"
	" FROM (SELECT gone.*, CASE WHEN settled_at > now() - interval '1 minute' THEN settled_at END AS at"
	" FROM gone JOIN ocean_enrich.sync USING (sync_id)) AS g"
	" GROUP BY g.sync_id, g.state, g.at HAVING sum(g.rows) <> 0 OR sum(g.credits) <> 0",
	0, {0}, NULL
};

/* Removes entries that arrived for a sync while it was dropped. */
static OeStatement tidy_statement = {
	"WITH inbox AS (DELETE FROM ocean_enrich.sync_inbox AS i"
	" WHERE NOT EXISTS (SELECT FROM ocean_enrich.sync AS s WHERE s.sync_id = i.sync_id))"
	" DELETE FROM ocean_enrich.sync_settled AS t"
	" WHERE NOT EXISTS (SELECT FROM ocean_enrich.sync AS s WHERE s.sync_id = t.sync_id)",
	0, {0}, NULL
};

/* ----------------------------------------------------------------
 * Batches and their errors
 * ---------------------------------------------------------------- */

/* Run "work" in a transaction.  Returns NULL if it committed, or its error. */
static ErrorData *
run_in_transaction(OeSyncState *state, Work work, bool *worked)
{
	ErrorData  *volatile edata = NULL;
	OeSync		sync = {0};

	*worked = false;
	PG_TRY();
	{
		if (oe_apply_begin())
		{
			if (oe_apply_load(state, &sync))
				*worked = work(state, &sync);
			oe_apply_commit();
		}
		else
			extension_is_gone = true;
	}
	PG_CATCH();
	{
		edata = oe_apply_undo();
	}
	PG_END_TRY();
	return edata;
}

static const ErrorData *pending_error;

static bool
stop_for_error(OeSyncState *state, OeSync *sync)
{
	oe_apply_stop(sync->id, sync->name, pending_error->sqlerrcode, pending_error->message);
	return true;
}

static bool
fail_row(OeSyncState *state, OeSync *sync)
{
	Datum		values[4];
	OeRights	rights;

	oe_apply_as_extension(&rights);
	if (state->key)
	{
		values[0] = Int64GetDatum(sync->id);
		values[1] = state->key;
		values[2] = CStringGetTextDatum(unpack_sql_state(pending_error->sqlerrcode));
		values[3] = CStringGetTextDatum(pending_error->message ? pending_error->message
										: "unknown error");
		(void) oe_statement_run(&fail_statement, values, NULL);
	}
	if (state->settled)
		oe_apply_forget_settled(sync, state->settled);
	oe_rights_restore(&rights);
	return true;
}

static bool
is_passing(int sqlstate)
{
	return sqlstate == ERRCODE_LOCK_NOT_AVAILABLE ||
		sqlstate == ERRCODE_T_R_DEADLOCK_DETECTED ||
		sqlstate == ERRCODE_T_R_SERIALIZATION_FAILURE;
}

/*
 * Retry in smaller portions, down to one row; then fail that row, or stop the
 * sync.  The sync pauses for as long as the failed batch took.
 */
static void
recover_from_error(OeSyncState *state, const ErrorData *edata, TimestampTz started_at)
{
	TimestampTz now = GetCurrentTimestamp();
	ErrorData  *broken;
	bool		worked;

	state->not_before = now + (now - started_at);
	if (is_passing(edata->sqlerrcode))
	{
		oe_apply_put_off(state, OE_APPLY_BUSY_WAIT_MS);
		state->batch = Max(state->batch / 4, 1);
		return;
	}
	if (!state->alone && state->batch > 1)
	{
		state->batch = Max(state->batch / 8, 1);
		return;
	}
	broken = run_in_transaction(state, oe_apply_try_definition, &worked);
	pending_error = broken ? broken : edata;
	if ((broken && is_passing(broken->sqlerrcode)) ||
		(!broken && !state->alone) ||
		run_in_transaction(state, broken ? stop_for_error : fail_row, &worked) != NULL)
	{
		oe_apply_put_off(state, TROUBLE_WAIT_MS);
		ereport(LOG,
				errcode(edata->sqlerrcode),
				errmsg("could not process a sync, trying again later"),
				errdetail("SQLSTATE %s.", unpack_sql_state(edata->sqlerrcode)));
	}
}

static void
wait_outside(void)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 OE_DATABASE_CHECK_MS, wait_event);
	ResetLatch(MyLatch);
}

static void
make_way_if_wanted(void)
{
	if (oe_process_is_database_wanted(MyDatabaseId))
		oe_process_make_way(wait_outside);
}

static bool
attempt_batch(OeSyncState *state, Work work)
{
	TimestampTz started_at;
	ErrorData  *edata;
	bool		worked;

	make_way_if_wanted();
	started_at = GetCurrentTimestamp();
	if (state->not_before > started_at)
		return false;
	state->alone = false;
	edata = run_in_transaction(state, work, &worked);
	if (edata)
	{
		recover_from_error(state, edata, started_at);
		return true;
	}
	if (worked && state->batch < OE_APPLY_BATCH_MAX)
		state->batch = Min(state->batch * 2, OE_APPLY_BATCH_MAX);
	return worked;
}

/* ----------------------------------------------------------------
 * Housekeeping
 * ---------------------------------------------------------------- */

/* Process the inbox; returns whether it had entries. */
static bool
drain_inbox(void)
{
	Datum		values[2];
	OeRights	rights;
	uint64		count;
	int64	   *truncated;
	int			truncated_count = 0;

	oe_apply_as_extension(&rights);
	(void) oe_statement_run(&drainable_statement, NULL, NULL);
	values[0] = oe_sync_result_array(1, INT8OID);
	values[1] = Int32GetDatum(INBOX_BATCH);
	count = oe_statement_run(&drain_statement, values, NULL);
	truncated = palloc(sizeof(int64) * Max(count, 1));
	for (uint64 i = 0; i < count; i++)
	{
		if (DatumGetBool(oe_statement_value(i, 2)))
			truncated[truncated_count++] = DatumGetInt64(oe_statement_value(i, 1));
	}
	oe_rights_restore(&rights);
	for (int i = 0; i < truncated_count; i++)
	{
		Datum		id = Int64GetDatum(truncated[i]);

		oe_cancel_sync(truncated[i]);
		oe_apply_as_extension(&rights);
		(void) oe_statement_run(&all_changed_statement, &id, NULL);
		oe_rights_restore(&rights);
	}
	return count > 0;
}

/* Find the active syncs, and the time when the next row is to be refreshed. */
static List *
find_active(void)
{
	MemoryContext spi = CurrentMemoryContext;
	List	   *active = NIL;
	OeRights	rights;
	uint64		count;

	oe_apply_as_extension(&rights);
	count = oe_statement_run(&active_statement, NULL, NULL);
	MemoryContextSwitchTo(oe_apply_turn_mcxt);
	for (uint64 i = 0; i < count; i++)
	{
		int64	   *id = palloc(sizeof(int64));

		*id = DatumGetInt64(oe_statement_value(i, 1));
		active = lappend(active, id);
	}
	MemoryContextSwitchTo(spi);
	(void) oe_statement_run(&next_refresh_statement, NULL, NULL);
	next_refresh = oe_statement_is_null(0, 1) ? DT_NOEND
		: DatumGetTimestampTz(oe_statement_value(0, 1));
	oe_rights_restore(&rights);
	return active;
}

/* Add up the counters: fewer rows are faster to read, and equally exact. */
static void
fold_counts(void)
{
	Datum		max = Int32GetDatum(COUNTS_MAX);
	OeRights	rights;

	oe_apply_as_extension(&rights);
	(void) oe_statement_run(&count_statement, &max, NULL);
	if (DatumGetInt64(oe_statement_value(0, 1)) >= COUNTS_MAX)
	{
		(void) oe_statement_run(&fold_statement, NULL, NULL);
		(void) oe_statement_run(&tidy_statement, NULL, NULL);
	}
	oe_rights_restore(&rights);
}

/* Returns the active syncs; *drained is true if the inbox had entries. */
static List *
find_work(bool *drained)
{
	List	   *volatile active = NIL;

	*drained = false;
	PG_TRY();
	{
		if (oe_apply_begin())
		{
			*drained = drain_inbox();
			fold_counts();
			active = find_active();
			oe_apply_commit();
		}
		else
			extension_is_gone = true;
	}
	PG_CATCH();
	{
		ErrorData  *edata = oe_apply_undo();

		active = NIL;
		if (!is_passing(edata->sqlerrcode))
			ereport(LOG,
					errcode(edata->sqlerrcode),
					errmsg("could not look for changes to syncs: %s",
						   edata->message));
	}
	PG_END_TRY();
	return active;
}

static OeSyncState *
find_state(int64 id)
{
	bool		found;
	OeSyncState *state = hash_search(sync_states, &id, HASH_ENTER, &found);

	if (!found)
	{
		memset(state, 0, sizeof(*state));
		state->id = id;
		state->batch = OE_APPLY_BATCH_MAX;
	}
	state->seen = round_number;
	return state;
}

static void
forget_states(void)
{
	HASH_SEQ_STATUS status;
	OeSyncState *state;

	hash_seq_init(&status, sync_states);
	while ((state = hash_seq_search(&status)) != NULL)
	{
		if (state->seen == round_number)
			continue;
		if (state->key)
			pfree(DatumGetPointer(state->key));
		if (state->after_key)
			pfree(DatumGetPointer(state->after_key));
		(void) hash_search(sync_states, &state->id, HASH_REMOVE, NULL);
	}
}

/* ----------------------------------------------------------------
 * Main loop
 * ---------------------------------------------------------------- */

/* Give each sync its turn; false if none had anything to do. */
static bool
serve_each_sync(void)
{
	bool		worked;
	List	   *active;
	ListCell   *lc;

	round_number++;
	active = find_work(&worked);
	foreach(lc, active)
	{
		OeSyncState *state = find_state(*(int64 *) lfirst(lc));

		if (GetCurrentTimestamp() - state->swept_at >= SWEEP_MS * INT64CONST(1000))
			worked |= attempt_batch(state, oe_apply_sweep);
		worked |= attempt_batch(state, oe_apply_settled);
		worked |= attempt_batch(state, oe_apply_changed);
		if (next_refresh <= GetCurrentTimestamp())
			worked |= attempt_batch(state, oe_apply_refresh);
		CHECK_FOR_INTERRUPTS();
	}
	forget_states();
	return worked;
}

static long
time_to_wait(TimestampTz now)
{
	TimestampTz until = now + OE_DATABASE_CHECK_MS * INT64CONST(1000);
	HASH_SEQ_STATUS status;
	OeSyncState *state;

	hash_seq_init(&status, sync_states);
	while ((state = hash_seq_search(&status)) != NULL)
	{
		if (state->not_before > now)
			until = Min(until, state->not_before);
	}
	return Max(TimestampDifferenceMilliseconds(now, until), 1);
}

static bool
some_sync_waits(TimestampTz now, TimestampTz went_round_at)
{
	bool		watch_is_due = now - went_round_at >= WATCH_MS * INT64CONST(1000);
	HASH_SEQ_STATUS status;
	OeSyncState *state;
	bool		waits = false;

	hash_seq_init(&status, sync_states);
	while ((state = hash_seq_search(&status)) != NULL)
		waits |= (state->has_queued && watch_is_due) ||
			state->not_before > now - OE_DATABASE_CHECK_MS * INT64CONST(1000);
	return waits;
}

/* Is it time for another round although nothing has woken us? */
static bool
is_time_to_look(TimestampTz went_round_at)
{
	TimestampTz now = GetCurrentTimestamp();

	return next_refresh <= now || some_sync_waits(now, went_round_at);
}

static bool
has_to_leave(void)
{
	StartTransactionCommand();
	extension_is_gone = !OidIsValid(oe_ledger_relation());
	CommitTransactionCommand();
	MemoryContextSwitchTo(oe_apply_turn_mcxt);
	return extension_is_gone;
}

/* Sleep until there is work; false if the process has to exit. */
static bool
wait_for_work(TimestampTz *idle_since)
{
	TimestampTz went_round_at = GetCurrentTimestamp();

	if (*idle_since == 0)
		*idle_since = went_round_at;
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		int			events;

		events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						   time_to_wait(now), wait_event);
		if (events & WL_LATCH_SET)
			return true;
		if (is_time_to_look(went_round_at))
			return true;
		make_way_if_wanted();
		if (has_to_leave())
			return false;
		if (next_refresh == DT_NOEND &&
			now - *idle_since >= oe_settings()->worker_idle_timeout_s * USECS_PER_SEC)
			return false;
	}
}

static void
serve_syncs(void)
{
	TimestampTz idle_since = 0;

	while (!ShutdownRequestPending && !extension_is_gone)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		MemoryContextReset(oe_apply_turn_mcxt);
		if (serve_each_sync())
		{
			idle_since = 0;
			continue;
		}
		if (ShutdownRequestPending || wait_for_work(&idle_since))
			continue;

		/* Later wakeups start a new applier; earlier ones are seen below. */
		oe_channel_leave_applier();
		if (has_to_leave() || !serve_each_sync() ||
			!oe_channel_serve_applier())
			return;
		idle_since = 0;
	}
}

static void
force_settings(void)
{
	static const OeForcedSetting settings[] = {
		{"lock_timeout", OE_APPLY_LOCK_MAX},
		/* Requests from expressions are checked; an error fails the row. */
		{"ocean_enrich.unknown_keys", "error"},
		{"application_name", "ocean_enrich sync applier"},
	};

	oe_process_force(settings, lengthof(settings));
}

void
oe_applier_main(Datum database)
{
	HASHCTL		ctl = {0};

	pqsignal(SIGTERM, oe_apply_handle_shutdown);
	pqsignal(SIGINT, StatementCancelHandler);
	oe_process_connect(DatumGetObjectId(database));
	force_settings();

	oe_apply_mcxt = AllocSetContextCreate(TopMemoryContext, "ocean_enrich sync applier",
										  ALLOCSET_DEFAULT_SIZES);
	oe_apply_turn_mcxt = AllocSetContextCreate(oe_apply_mcxt, "ocean_enrich turn",
											   ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(oe_apply_turn_mcxt);
	ctl.keysize = sizeof(int64);
	ctl.entrysize = sizeof(OeSyncState);
	ctl.hcxt = oe_apply_mcxt;
	sync_states = hash_create("ocean_enrich syncs", 16, &ctl,
							  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	if (!oe_channel_serve_applier())
		proc_exit(0);
	wait_event = WaitEventExtensionNew("OceanEnrichSyncApplier");
	serve_syncs();
	proc_exit(0);
}
