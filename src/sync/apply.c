/*
 * apply.c
 *		Code shared by the parts of the applier.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "base/errors.h"
#include "shared/enqueue.h"
#include "shared/ledger.h"
#include "shared/settings.h"
#include "sync/apply.h"
#include "sync/triggers.h"

/* Timeout for users' code, which could catch the error. */
#define STATEMENT_MAX_MS	10000

MemoryContext oe_apply_mcxt;
MemoryContext oe_apply_turn_mcxt;

/* True while users' code is running. */
static volatile sig_atomic_t runs_as_owner;

static OeStatement load_statement = {
	"SELECT " OE_SYNC_COLUMNS " FROM ocean_enrich.sync WHERE sync_id = $1 AND enabled"
	" AND database = ocean_enrich.database_identity() FOR SHARE SKIP LOCKED",
	1, {INT8OID}, NULL
};

static OeStatement may_submit_statement = {
	"SELECT WHERE has_function_privilege($1,"
	" 'ocean_enrich.submit(jsonb, integer, timestamptz, text)', 'EXECUTE')",
	1, {OIDOID}, NULL
};

static OeStatement stop_statement = {
	"UPDATE ocean_enrich.sync SET enabled = false, problem_code = $2, problem = $3,"
	" problem_at = now() WHERE sync_id = $1 AND enabled",
	3, {INT8OID, TEXTOID, TEXTOID}, NULL
};

/* ----------------------------------------------------------------
 * Transactions
 * ---------------------------------------------------------------- */

bool
oe_apply_begin(void)
{
	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, "processing syncs");
	StartTransactionCommand();
	if (!OidIsValid(oe_ledger_relation()))
	{
		AbortCurrentTransaction();
		MemoryContextSwitchTo(oe_apply_turn_mcxt);
		return false;
	}
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	return true;
}

void
oe_apply_commit(void)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	/* Advisory locks taken by users' code would outlive it otherwise. */
	LockReleaseSession(USER_LOCKMETHOD);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(oe_apply_turn_mcxt);
}

ErrorData *
oe_apply_undo(void)
{
	ErrorData  *edata;

	disable_timeout(STATEMENT_TIMEOUT, false);
	runs_as_owner = false;
	QueryCancelPending = false;
	oe_triggers_ignore_writes_of(0);
	MemoryContextSwitchTo(oe_apply_turn_mcxt);
	edata = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	LockReleaseSession(USER_LOCKMETHOD);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(oe_apply_turn_mcxt);
	return edata;
}

/* ----------------------------------------------------------------
 * Rights
 * ---------------------------------------------------------------- */

/* Tables are joined by looking up each row of a batch in an index. */
void
oe_apply_as_extension(OeRights *before)
{
	oe_rights_switch(before, oe_owner_of("sync"),
					 OE_RIGHTS_PINNED | OE_RIGHTS_INDEXED);
	oe_rights_pin_setting("enable_bitmapscan", "off");
	oe_rights_pin_setting("enable_hashjoin", "off");
	oe_rights_pin_setting("enable_mergejoin", "off");
}

/*
 * Do not wait for users' code, which may catch the timeout and go on.  It ends
 * with this process and its transaction; the next applier runs it again.
 */
static void
end_what_runs_as_owner(void)
{
	InterruptPending = true;
	ProcDiePending = true;
}

void
oe_apply_handle_shutdown(SIGNAL_ARGS)
{
	int			save_errno = errno;

	ShutdownRequestPending = true;
	if (runs_as_owner)
		end_what_runs_as_owner();
	SetLatch(MyLatch);
	errno = save_errno;
}

void
oe_apply_as_owner(const OeSync *sync, OeRights *before)
{
	oe_rights_switch(before, sync->owner, OE_RIGHTS_RESTRICTED | OE_RIGHTS_PINNED);
	oe_rights_pin_setting("lock_timeout", OE_APPLY_LOCK_MAX);
	enable_timeout_after(STATEMENT_TIMEOUT, STATEMENT_MAX_MS);
	runs_as_owner = true;
	if (ShutdownRequestPending)
		end_what_runs_as_owner();
}

void
oe_apply_no_longer_as_owner(const OeRights *before)
{
	runs_as_owner = false;
	disable_timeout(STATEMENT_TIMEOUT, false);
	oe_rights_restore(before);
}

/* ----------------------------------------------------------------
 * The definition
 * ---------------------------------------------------------------- */

void
oe_apply_stop(int64 id, const char *name, int sqlstate, const char *problem)
{
	Datum		values[3];
	OeRights	rights;

	values[0] = Int64GetDatum(id);
	values[1] = CStringGetTextDatum(unpack_sql_state(sqlstate));
	values[2] = CStringGetTextDatum(problem);
	oe_apply_as_extension(&rights);
	(void) oe_statement_run(&stop_statement, values, NULL);
	oe_rights_restore(&rights);
	oe_cancel_sync(id);
	ereport(LOG,
			errmsg("sync \"%s\" was stopped", name),
			errdetail("The view \"ocean_enrich.sync_errors\" shows the reason."));
}

static bool
may_submit(const OeSync *sync)
{
	Datum		owner = ObjectIdGetDatum(sync->owner);
	OeRights	rights;
	bool		may;

	oe_apply_as_extension(&rights);
	may = oe_statement_run(&may_submit_statement, &owner, NULL) > 0;
	oe_rights_restore(&rights);
	return may;
}

/* Follow renames, so that a dump contains the names that it restores. */
static void
follow_names(OeSync *sync)
{
	Relation	relation;
	OeRights	rights;

	if (!oe_sync_was_renamed(sync))
		return;
	relation = table_open(sync->relation, NoLock);
	oe_apply_as_owner(sync, &rights);
	oe_sync_parse(sync, relation, NULL, NULL);
	oe_apply_no_longer_as_owner(&rights);
	table_close(relation, NoLock);
	oe_apply_as_extension(&rights);
	oe_sync_store(sync);
	oe_rights_restore(&rights);
}

void
oe_apply_put_off(OeSyncState *state, int wait_ms)
{
	state->not_before = GetCurrentTimestamp() + wait_ms * INT64CONST(1000);
}

bool
oe_apply_load(OeSyncState *state, OeSync *sync)
{
	Datum		id = Int64GetDatum(state->id);
	OeRights	rights;
	bool		found;
	char	   *problem;
	int			sqlstate;

	oe_apply_as_extension(&rights);
	found = oe_statement_run(&load_statement, &id, NULL) > 0;
	if (found)
		oe_sync_fill(sync, 0);
	oe_rights_restore(&rights);
	if (!found || !ConditionalLockRelationOid(sync->relation, RowExclusiveLock))
	{
		oe_apply_put_off(state, OE_APPLY_BUSY_WAIT_MS);
		return false;
	}
	problem = oe_sync_problem(sync, &sqlstate);
	if (!problem && !may_submit(sync))
	{
		sqlstate = ERRCODE_INSUFFICIENT_PRIVILEGE;
		problem = pstrdup("the owner of the table is no longer allowed to submit requests");
	}
	if (problem)
	{
		oe_apply_stop(sync->id, sync->name, sqlstate, problem);
		return false;
	}
	follow_names(sync);
	return true;
}

void
oe_apply_remember(OeSyncState *state, int count, Datum key, int64 settled)
{
	MemoryContext old = MemoryContextSwitchTo(oe_apply_mcxt);

	if (state->key)
		pfree(DatumGetPointer(state->key));
	state->key = (Datum) 0;
	state->alone = count == 1;
	if (state->alone && key)
		state->key = datumCopy(key, false, -1);
	state->settled = settled;
	MemoryContextSwitchTo(old);
}

/* ----------------------------------------------------------------
 * Statements for the rows of a batch
 * ---------------------------------------------------------------- */

/* Builds parameters for the statements of sync/definition.h. */
static void
split_keys(const OeSync *sync, const OeBatch *batch, Datum *values)
{
	Datum	   *parts[OE_SYNC_KEY_MAX];

	for (int part = 0; part < sync->key_count; part++)
		parts[part] = palloc(sizeof(Datum) * Max(batch->count, 1));
	for (int i = 0; i < batch->count; i++)
	{
		Datum	   *elements;
		int			count;

		deconstruct_array(DatumGetArrayTypeP(batch->keys[i]), TEXTOID, -1,
						  false, TYPALIGN_INT, &elements, NULL, &count);
		if (count != sync->key_count)
			ereport(ERROR,
					errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("a key of sync \"%s\" has %d values for %d columns",
						   sync->name, count, sync->key_count));
		for (int part = 0; part < count; part++)
			parts[part][i] = elements[part];
	}
	for (int part = 0; part < sync->key_count; part++)
		values[part] = oe_statement_array(parts[part], NULL, batch->count, TEXTOID);
}

/*
 * Planned anew each time: the table may have grown since the last batch, and
 * settings that suit our statement need not suit users' expressions in it.
 */
uint64
oe_apply_run(const char *sql, const OeSync *sync, const OeBatch *batch,
			 Datum answers)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			types[OE_SYNC_KEY_MAX + 1];
	Datum		values[OE_SYNC_KEY_MAX + 1];
	int			count = sync->key_count;

	for (int i = 0; i < count; i++)
		types[i] = TEXTARRAYOID;
	split_keys(sync, batch, values);
	if (answers)
	{
		types[count] = get_array_type(JSONBOID);
		values[count++] = answers;
	}
	oe_sync_execute(sql, count, types, values, NULL);
	MemoryContextSwitchTo(caller);
	return SPI_processed;
}

bool *
oe_apply_numbers_found(const OeBatch *batch, uint64 count)
{
	bool	   *found = palloc0(Max(batch->count, 1));

	for (uint64 i = 0; i < count; i++)
		found[DatumGetInt64(oe_statement_value(i, 1)) - 1] = true;
	return found;
}

static void
check_request(const OeSync *sync, OeFound *row, Jsonb *request)
{
	OeError		error = {0};

	row->wanted = true;
	if (oe_request_check(sync->endpoint, request, &row->request, &error))
		return;
	row->sqlstate = oe_sqlstate(error.code);
	row->problem = pstrdup(error.message ? error.message : "out of memory");
	oe_error_free(&error);
}

OeFound *
oe_apply_evaluate(const OeSync *sync, const OeBatch *batch, bool lock)
{
	OeFound    *found = palloc0(sizeof(OeFound) * Max(batch->count, 1));
	uint64		count;

	count = oe_apply_run(oe_sync_evaluate_sql(sync, lock), sync, batch, (Datum) 0);

	/* It was jsonb, but the type of a column or function may have changed. */
	oe_sync_check_request_type(oe_statement_type(2));
	for (uint64 i = 0; i < count; i++)
	{
		OeFound    *row = &found[DatumGetInt64(oe_statement_value(i, 1)) - 1];

		row->there = true;
		if (!oe_statement_is_null(i, 2))
			check_request(sync, row, DatumGetJsonbP(oe_statement_value(i, 2)));
	}
	return found;
}

bool
oe_apply_asks_for(const OeFound *found, Datum fingerprint)
{
	const bytea *bytes;

	if (!found->wanted || found->problem || !fingerprint)
		return false;
	bytes = DatumGetByteaPP(fingerprint);
	return VARSIZE_ANY_EXHDR(bytes) == OE_FINGERPRINT_BYTES &&
		memcmp(VARDATA_ANY(bytes), found->request.fingerprint,
			   OE_FINGERPRINT_BYTES) == 0;
}

bool
oe_apply_is(const char *state, const char *name)
{
	return state && strcmp(state, name) == 0;
}
