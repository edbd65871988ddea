/*
 * applier.c
 *		The process behind kept columns: it looks at rows that changed, queues
 *		their requests, and writes answers to the target column.
 *
 * All that users have defined - expressions, triggers, policies, types - runs
 * here and nowhere else, with the rights of the table's owner, in a
 * security-restricted operation.  Our own tables are read and written with the
 * rights of the extension's owner, between these.
 *
 * The work is done in batches, each a transaction of its own; kept columns take
 * turns.  A batch that fails is tried again in smaller portions, down to the one
 * row that does the harm: that row is marked as failed, and the next one has its
 * turn.  If it fails without any row, too, the definition is broken, and the
 * kept column is stopped.  No statement of a user's runs longer than
 * STATEMENT_MAX_MS, and none waits longer for a lock than LOCK_MAX, so that one
 * kept column does not hold up the others for long.
 *
 * Each transaction holds the row of ocean_enrich.sync FOR SHARE.  Whoever
 * disables, alters or drops a kept column takes it FOR UPDATE: after that,
 * nothing of what was planned before is done.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "server/applier.h"
#include "server/call.h"
#include "server/channel.h"
#include "server/compat.h"
#include "server/ledger.h"
#include "server/process.h"
#include "server/rights.h"
#include "server/settings.h"
#include "server/statement.h"
#include "server/submit.h"
#include "server/sync.h"
#include "server/sync_definition.h"

/* Rows of one batch. */
#define BATCH_MAX			500

/* Changes that are taken out of the inbox at once. */
#define INBOX_BATCH			5000

/*
 * Calls that a kept column has in the queue at once.  What changes before it is
 * queued costs nothing, and disabling has no more than this to cancel.
 */
#define QUEUE_AHEAD			10000

#define STATEMENT_MAX_MS	10000
#define LOCK_MAX			"500ms"

/* How long to leave a kept column alone after somebody was in its way. */
#define BUSY_WAIT_MS		200

/* How long after an error of our own making. */
#define TROUBLE_WAIT_MS		10000

/* How often a request may be another one when its answer comes. */
#define DIFFERENCES_MAX		3

/* How often to look at definitions while their calls are in the queue. */
#define WATCH_MS			1000

/* How often to look for calls that ended and nobody told us of. */
#define SWEEP_MS			10000

/* Rows of ocean_enrich.sync_count that are worth adding up. */
#define COUNTS_MAX			100

/* What one kept column needs between its turns. */
typedef struct Task
{
	int64		id;				/* key */
	uint64		seen;			/* in which round it was active */
	int			batch;
	TimestampTz not_before;
	TimestampTz swept_at;
	Datum		after_key;		/* where the walk over changed rows is */
	int64		after_settled;	/* where that over settled calls is */
	bool		alone;			/* the batch was one row: */
	Datum		key;
	int64		settled;		/* 0: none */
	OeStatement evaluate;
	OeStatement lock;
	OeStatement exist;
	OeStatement write;
} Task;

/* Takes a batch; false: there was nothing to do. */
typedef bool (*Work) (Task *task, OeSync *sync);

/* What is a user's runs now. */
static volatile sig_atomic_t runs_as_owner;

static MemoryContext applier_mcxt;
static MemoryContext turn_mcxt;
static HTAB *tasks;
static uint64 round_number;
static bool extension_is_gone;
static bool is_watching;		/* calls of ours are in the queue */
static TimestampTz next_refresh;

/* ----------------------------------------------------------------
 * Our own statements
 * ---------------------------------------------------------------- */

static OeStatement active_statement = {
	"SELECT sync_id FROM ocean_enrich.sync WHERE enabled"
	" AND database = ocean_enrich.database_identity() ORDER BY sync_id",
	0, {0}, NULL
};

static OeStatement load_statement = {
	"SELECT " OE_SYNC_COLUMNS " FROM ocean_enrich.sync WHERE sync_id = $1 AND enabled"
	" AND database = ocean_enrich.database_identity() FOR SHARE SKIP LOCKED",
	1, {INT8OID}, NULL
};

static OeStatement may_submit_statement = {
	"SELECT WHERE has_function_privilege($1,"
	" 'ocean_enrich.submit(jsonb, integer, timestamptz)', 'EXECUTE')",
	1, {OIDOID}, NULL
};

static OeStatement stop_statement = {
	"UPDATE ocean_enrich.sync SET enabled = false, problem_code = $2, problem = $3,"
	" problem_at = now() WHERE sync_id = $1 AND enabled",
	3, {INT8OID, TEXTOID, TEXTOID}, NULL
};

/* Those whose definition nobody is changing. */
static OeStatement drainable_statement = {
	"SELECT sync_id FROM ocean_enrich.sync ORDER BY sync_id FOR SHARE SKIP LOCKED",
	0, {0}, NULL
};

static OeStatement drain_statement = {
	"WITH taken AS (DELETE FROM ocean_enrich.sync_inbox WHERE inbox_id IN"
	" (SELECT inbox_id FROM ocean_enrich.sync_inbox WHERE sync_id = ANY ($1)"
	" ORDER BY inbox_id LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING sync_id, key),"
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

static OeStatement queued_statement = {
	"SELECT coalesce(sum(rows), 0)::bigint FROM ocean_enrich.sync_count"
	" WHERE sync_id = $1 AND state = 'queued'",
	1, {INT8OID}, NULL
};

static OeStatement refresh_statement = {
	"UPDATE ocean_enrich.sync_row SET state = 'changed', call_id = NULL, refresh_at = NULL"
	" WHERE ctid IN (SELECT ctid FROM ocean_enrich.sync_row WHERE sync_id = $1"
	" AND refresh_at <= now() LIMIT $2)",
	2, {INT8OID, INT4OID}, NULL
};

static OeStatement next_refresh_statement = {
	"SELECT min(r.refresh_at) FROM ocean_enrich.sync AS s, LATERAL"
	" (SELECT refresh_at FROM ocean_enrich.sync_row WHERE sync_id = s.sync_id"
	" AND refresh_at IS NOT NULL ORDER BY refresh_at LIMIT 1) AS r"
	" WHERE s.enabled AND s.database = ocean_enrich.database_identity()",
	0, {0}, NULL
};

static OeStatement changed_statement = {
	"SELECT r.ctid, r.key, r.call_id, c.fingerprint, c.state::text,"
	" c.status, c.person IS NOT NULL, r.settled_at IS NOT NULL AND r.error_code IS NULL,"
	" r.differences"
	" FROM ocean_enrich.sync_row AS r LEFT JOIN ocean_enrich.call AS c ON c.call_id = r.call_id"
	" WHERE r.sync_id = $1 AND r.state = 'changed' AND r.key > $2"
	" ORDER BY r.key LIMIT $3",
	3, {INT8OID, TEXTARRAYOID, INT4OID}, NULL
};

static OeStatement settled_statement = {
	"SELECT s.settled_id, r.ctid, r.key, r.state::text, c.fingerprint, r.differences,"
	" s.call_id, c.state::text, c.status, c.detail, c.person"
	" FROM ocean_enrich.sync_settled AS s"
	" LEFT JOIN ocean_enrich.sync_row AS r ON r.call_id = s.call_id"
	" LEFT JOIN ocean_enrich.call AS c ON c.call_id = s.call_id"
	" WHERE s.sync_id = $1 AND s.settled_id > $2 ORDER BY s.settled_id LIMIT $3",
	3, {INT8OID, INT8OID, INT4OID}, NULL
};

/* Rows are where we have just seen them: nobody else may change them now. */
static OeStatement remove_statement = {
	"DELETE FROM ocean_enrich.sync_row WHERE ctid = ANY ($1)",
	1, {TIDARRAYOID}, NULL
};

#define UPDATED_COLUMNS		7

static OeStatement update_statement = {
	"UPDATE ocean_enrich.sync_row AS r SET state = v.state::ocean_enrich.sync_row_state,"
	" call_id = v.call_id, differences = v.differences,"
	" error_code = v.error_code, message = v.message,"
	" settled_at = CASE v.settled WHEN 0 THEN NULL WHEN 1 THEN r.settled_at ELSE now() END,"
	" refresh_at = CASE v.settled WHEN 0 THEN NULL WHEN 1 THEN r.refresh_at ELSE now() +"
	" (SELECT s.refresh_after FROM ocean_enrich.sync AS s WHERE s.sync_id = r.sync_id) END"
	" FROM unnest($1, $2, $3, $4, $5, $6, $7) AS v (tid, state, call_id,"
	" differences, error_code, message, settled) WHERE r.ctid = v.tid",
	UPDATED_COLUMNS, {TIDARRAYOID, TEXTARRAYOID, INT8ARRAYOID, INT4ARRAYOID,
	TEXTARRAYOID, TEXTARRAYOID, INT4ARRAYOID}, NULL
};

static OeStatement note_statement = {
	"INSERT INTO ocean_enrich.sync_settled (sync_id, call_id) SELECT $1, unnest($2)",
	2, {INT8OID, INT8ARRAYOID}, NULL
};

static OeStatement forget_statement = {
	"DELETE FROM ocean_enrich.sync_settled WHERE sync_id = $1 AND settled_id = ANY ($2)",
	2, {INT8OID, INT8ARRAYOID}, NULL
};

static OeStatement fail_statement = {
	"UPDATE ocean_enrich.sync_row SET state = 'failed', error_code = $3, message = $4,"
	" settled_at = now(), refresh_at = NULL WHERE sync_id = $1 AND key = $2",
	4, {INT8OID, TEXTARRAYOID, TEXTOID, TEXTOID}, NULL
};

static OeStatement sweep_statement = {
	"INSERT INTO ocean_enrich.sync_settled (sync_id, call_id)"
	" SELECT r.sync_id, r.call_id FROM ocean_enrich.sync_row AS r"
	" LEFT JOIN ocean_enrich.call AS c ON c.call_id = r.call_id"
	" WHERE r.sync_id = $1 AND r.state = 'queued'"
	" AND (c.state IS NULL OR c.state NOT IN ('queued', 'sent'))"
	" AND r.call_id <> ALL (ARRAY(SELECT s.call_id FROM ocean_enrich.sync_settled AS s"
	" WHERE s.sync_id = $1))",
	1, {INT8OID}, NULL
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

/* What came for a kept column while it was dropped. */
static OeStatement tidy_statement = {
	"WITH inbox AS (DELETE FROM ocean_enrich.sync_inbox AS i"
	" WHERE NOT EXISTS (SELECT FROM ocean_enrich.sync AS s WHERE s.sync_id = i.sync_id))"
	" DELETE FROM ocean_enrich.sync_settled AS t"
	" WHERE NOT EXISTS (SELECT FROM ocean_enrich.sync AS s WHERE s.sync_id = t.sync_id)",
	0, {0}, NULL
};

static void
pin(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/* Plans for tables that were small when they were made. */
static void
as_extension(OeRights *before)
{
	oe_rights_of_extension(before);
	pin("enable_seqscan", "off");
	pin("enable_bitmapscan", "off");
	pin("enable_hashjoin", "off");
	pin("enable_mergejoin", "off");
}

static Datum
value(uint64 row, int column)
{
	bool		isnull;

	return oe_statement_value(row, column, &isnull);
}

static bool
is_null(uint64 row, int column)
{
	bool		isnull;

	(void) oe_statement_value(row, column, &isnull);
	return isnull;
}

static Datum
array(Datum *values, bool *nulls, int count, Oid type)
{
	int			one = 1;
	int16		len;
	bool		by_value;
	char		align;

	if (count == 0)
		return PointerGetDatum(construct_empty_array(type));
	get_typlenbyvalalign(type, &len, &by_value, &align);
	return PointerGetDatum(construct_md_array(values, nulls, 1, &count, &one,
											  type, len, by_value, align));
}

/* ----------------------------------------------------------------
 * Transactions
 * ---------------------------------------------------------------- */

/* Everything that is allocated until the commit goes with it. */
static bool
begin(void)
{
	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, "looking after kept columns");
	StartTransactionCommand();
	if (!OidIsValid(oe_ledger_relation()))
	{
		extension_is_gone = true;
		AbortCurrentTransaction();
		MemoryContextSwitchTo(turn_mcxt);
		return false;
	}
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	return true;
}

static void
commit(void)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	/* Advisory locks of a user's function would outlive it otherwise. */
	LockReleaseSession(USER_LOCKMETHOD);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(turn_mcxt);
}

/* After an error: what it was, and everything is undone. */
static ErrorData *
undo(void)
{
	ErrorData  *edata;

	disable_timeout(STATEMENT_TIMEOUT, false);
	runs_as_owner = false;
	QueryCancelPending = false;
	oe_sync_writing = 0;
	MemoryContextSwitchTo(turn_mcxt);
	edata = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	LockReleaseSession(USER_LOCKMETHOD);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(turn_mcxt);
	return edata;
}

/*
 * A user's code is not waited for: it may catch the end of its time, and go on.
 * It ends with this process and its transaction, and is run again by the next.
 */
static void
end_what_runs_as_owner(void)
{
	InterruptPending = true;
	ProcDiePending = true;
}

static void
handle_shutdown(SIGNAL_ARGS)
{
	int			save_errno = errno;

	ShutdownRequestPending = true;
	if (runs_as_owner)
		end_what_runs_as_owner();
	SetLatch(MyLatch);
	errno = save_errno;
}

static void
as_owner(const OeSync *sync, OeRights *before)
{
	oe_rights_of_role(sync->owner, true, before);
	pin("lock_timeout", LOCK_MAX);
	enable_timeout_after(STATEMENT_TIMEOUT, STATEMENT_MAX_MS);
	runs_as_owner = true;
	if (ShutdownRequestPending)
		end_what_runs_as_owner();
}

static void
no_longer_as_owner(const OeRights *before)
{
	runs_as_owner = false;
	disable_timeout(STATEMENT_TIMEOUT, false);
	oe_rights_give_back(before);
}

/* ----------------------------------------------------------------
 * The definition
 * ---------------------------------------------------------------- */

static void
stop(int64 id, const char *name, int sqlstate, const char *problem)
{
	Datum		values[3];
	OeRights	rights;

	values[0] = Int64GetDatum(id);
	values[1] = CStringGetTextDatum(unpack_sql_state(sqlstate));
	values[2] = CStringGetTextDatum(problem);
	as_extension(&rights);
	(void) oe_statement_run(&stop_statement, values, NULL);
	oe_rights_give_back(&rights);
	oe_cancel_sync(id);
	ereport(LOG,
			errmsg("kept column \"%s\" was stopped", name),
			errdetail("View ocean_enrich.sync_errors has the reason."));
}

static bool
may_submit(const OeSync *sync)
{
	Datum		owner = ObjectIdGetDatum(sync->owner);
	OeRights	rights;
	bool		may;

	as_extension(&rights);
	may = oe_statement_run(&may_submit_statement, &owner, NULL) > 0;
	oe_rights_give_back(&rights);
	return may;
}

/* So that a dump has the names that it restores. */
static void
follow_names(OeSync *sync)
{
	Relation	relation;
	OeRights	rights;

	if (!oe_sync_was_renamed(sync))
		return;
	relation = table_open(sync->relation, NoLock);
	as_owner(sync, &rights);
	oe_sync_parse(sync, relation, NULL, NULL);
	no_longer_as_owner(&rights);
	table_close(relation, NoLock);
	as_extension(&rights);
	oe_sync_store(sync);
	oe_rights_give_back(&rights);
}

/* Somebody is in the way: let the others have their turn. */
static void
put_off(Task *task, int wait_ms)
{
	task->not_before = GetCurrentTimestamp() + wait_ms * INT64CONST(1000);
}

/*
 * The definition, locked, and the relation with it.  False: there is nothing to
 * do for it now.
 */
static bool
load(Task *task, OeSync *sync)
{
	Datum		id = Int64GetDatum(task->id);
	OeRights	rights;
	bool		found;
	char	   *problem;
	int			sqlstate;

	as_extension(&rights);
	found = oe_statement_run(&load_statement, &id, NULL) > 0;
	if (found)
		oe_sync_fill(sync, 0);
	oe_rights_give_back(&rights);
	if (!found || !ConditionalLockRelationOid(sync->relation, RowExclusiveLock))
	{
		put_off(task, BUSY_WAIT_MS);
		return false;
	}
	problem = oe_sync_problem(sync, &sqlstate);
	if (!problem && !may_submit(sync))
	{
		sqlstate = ERRCODE_INSUFFICIENT_PRIVILEGE;
		problem = pstrdup("the owner of the table must not submit requests any more");
	}
	if (problem)
	{
		stop(sync->id, sync->name, sqlstate, problem);
		return false;
	}
	follow_names(sync);
	return true;
}

/* ----------------------------------------------------------------
 * What the owner's rights are needed for
 * ---------------------------------------------------------------- */

/* Rows of one batch by their keys. */
typedef struct Batch
{
	int			count;
	Datum	   *keys;			/* text[] each */
} Batch;

/* Parameters for the statements of sync_definition.h. */
static void
fill_keys(const OeSync *sync, const Batch *batch, Datum *values)
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
					errmsg("a key of kept column \"%s\" has %d values for %d columns",
						   sync->name, count, sync->key_count));
		for (int part = 0; part < count; part++)
			parts[part][i] = elements[part];
	}
	for (int part = 0; part < sync->key_count; part++)
		values[part] = array(parts[part], NULL, batch->count, TEXTOID);
}

static uint64
run_for_keys(OeStatement *statement, const char *sql, const OeSync *sync,
			 const Batch *batch, Datum answers)
{
	Datum		values[OE_SYNC_KEY_MAX + 1];

	oe_statement_set(statement, sql);
	statement->nargs = sync->key_count;
	for (int i = 0; i < sync->key_count; i++)
		statement->types[i] = TEXTARRAYOID;
	fill_keys(sync, batch, values);
	if (answers)
	{
		statement->types[statement->nargs] = get_array_type(JSONBOID);
		values[statement->nargs++] = answers;
	}
	return oe_statement_run(statement, values, NULL);
}

/* What was found of a row. */
typedef struct Found
{
	bool		there;
	Jsonb	   *request;		/* NULL: the row is not wanted */
} Found;

static Found *
evaluate(Task *task, const OeSync *sync, const Batch *batch, bool lock)
{
	Found	   *found = palloc0(sizeof(Found) * Max(batch->count, 1));
	uint64		count;

	count = run_for_keys(lock ? &task->lock : &task->evaluate,
						 oe_sync_evaluate_sql(sync, lock), sync, batch, (Datum) 0);
	for (uint64 i = 0; i < count; i++)
	{
		Found	   *row = &found[DatumGetInt64(value(i, 1)) - 1];

		row->there = true;
		if (!is_null(i, 2))
			row->request = DatumGetJsonbPCopy(value(i, 2));
	}
	return found;
}

/* Which of them are numbers in the result? */
static bool *
numbers_found(const Batch *batch, uint64 count)
{
	bool	   *found = palloc0(Max(batch->count, 1));

	for (uint64 i = 0; i < count; i++)
		found[DatumGetInt64(value(i, 1)) - 1] = true;
	return found;
}

/*
 * The body to send as the queue will check it.  NULL: the API would not take
 * it; *error says why.  Nothing that is caught here holds anything.
 */
static char *
request_body(Jsonb *request, ErrorData **error)
{
	MemoryContext caller = CurrentMemoryContext;
	char	   *volatile body = NULL;

	PG_TRY();
	{
		body = oe_call_body(request, true);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		*error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	return body;
}

static bytea *
fingerprint_of(const char *body)
{
	bytea	   *fingerprint = palloc(VARHDRSZ + OE_FINGERPRINT_BYTES);

	SET_VARSIZE(fingerprint, VARHDRSZ + OE_FINGERPRINT_BYTES);
	oe_sha256(body, strlen(body), (uint8 *) VARDATA(fingerprint));
	return fingerprint;
}

static bool
is_same(const bytea *a, Datum b)
{
	const bytea *other = DatumGetByteaPP(b);

	return VARSIZE_ANY_EXHDR(other) == OE_FINGERPRINT_BYTES &&
		memcmp(VARDATA_ANY(a), VARDATA_ANY(other), OE_FINGERPRINT_BYTES) == 0;
}

/* ----------------------------------------------------------------
 * What is written to ocean_enrich.sync_row
 * ---------------------------------------------------------------- */

typedef enum Settled
{
	NOT_SETTLED,
	SETTLED_BEFORE,
	SETTLED_NOW,
} Settled;

/* New contents of rows, gathered. */
typedef struct Updates
{
	int			count;
	Datum	   *values[UPDATED_COLUMNS];
	bool	   *nulls[UPDATED_COLUMNS];
	Datum	   *removed;		/* rows that go */
	int			removed_count;
} Updates;

static void
begin_updates(Updates *updates, int max)
{
	memset(updates, 0, sizeof(*updates));
	for (int i = 0; i < UPDATED_COLUMNS; i++)
	{
		updates->values[i] = palloc0(sizeof(Datum) * max);
		updates->nulls[i] = palloc0(sizeof(bool) * max);
	}
	updates->removed = palloc(sizeof(Datum) * max);
}

static void
set_row(Updates *updates, Datum tid, const char *state, int64 call_id,
		int differences, const char *error_code, const char *message,
		Settled settled)
{
	int			i = updates->count++;

	updates->values[0][i] = tid;
	updates->values[1][i] = CStringGetTextDatum(state);
	updates->values[2][i] = Int64GetDatum(call_id);
	updates->nulls[2][i] = call_id == 0;
	updates->values[3][i] = Int32GetDatum(differences);
	updates->nulls[4][i] = error_code == NULL;
	if (error_code)
		updates->values[4][i] = CStringGetTextDatum(error_code);
	updates->nulls[5][i] = message == NULL;
	if (message)
		updates->values[5][i] = CStringGetTextDatum(message);
	updates->values[6][i] = Int32GetDatum((int32) settled);
}

static void
remove_row(Updates *updates, Datum tid)
{
	updates->removed[updates->removed_count++] = tid;
}

static void
write_updates(const Updates *updates)
{
	static const Oid types[UPDATED_COLUMNS] = {TIDOID, TEXTOID, INT8OID, INT4OID,
	TEXTOID, TEXTOID, INT4OID};
	Datum		values[UPDATED_COLUMNS];

	if (updates->removed_count > 0)
	{
		values[0] = array(updates->removed, NULL, updates->removed_count, TIDOID);
		(void) oe_statement_run(&remove_statement, values, NULL);
	}
	if (updates->count == 0)
		return;
	for (int i = 0; i < UPDATED_COLUMNS; i++)
		values[i] = array(updates->values[i], updates->nulls[i], updates->count,
						  types[i]);
	(void) oe_statement_run(&update_statement, values, NULL);
}

/* The calls' answers are to be written to their rows. */
static void
note_settled(const OeSync *sync, Datum *call_ids, int count)
{
	Datum		values[2];

	if (count == 0)
		return;
	values[0] = Int64GetDatum(sync->id);
	values[1] = array(call_ids, NULL, count, INT8OID);
	(void) oe_statement_run(&note_statement, values, NULL);
}

/* Which row a failure is the fault of, if the batch is one row. */
static void
remember(Task *task, int count, Datum key, int64 settled)
{
	MemoryContext old = MemoryContextSwitchTo(applier_mcxt);

	if (task->key)
		pfree(DatumGetPointer(task->key));
	task->key = (Datum) 0;
	task->alone = count == 1;
	if (task->alone && key)
		task->key = datumCopy(key, false, -1);
	task->settled = settled;
	MemoryContextSwitchTo(old);
}

/* ----------------------------------------------------------------
 * Changed rows
 * ---------------------------------------------------------------- */

/* A row of changed_statement. */
typedef struct Changed
{
	Datum		tid;
	int64		call_id;		/* 0: none */
	const char *call_state;		/* NULL: there is no such call */
	Datum		fingerprint;	/* of the call; 0: there is none */
	int			status;
	bool		has_person;
	bool		was_written;
	int			differences;
} Changed;

static Changed *
fetch_changed(Task *task, int max, Batch *batch)
{
	Datum		values[3];
	Changed    *rows;

	values[0] = Int64GetDatum(task->id);
	values[1] = task->after_key ? task->after_key
		: PointerGetDatum(construct_empty_array(TEXTOID));
	values[2] = Int32GetDatum(max);
	batch->count = (int) oe_statement_run(&changed_statement, values, NULL);
	batch->keys = palloc(sizeof(Datum) * Max(batch->count, 1));
	rows = palloc0(sizeof(Changed) * Max(batch->count, 1));
	for (int i = 0; i < batch->count; i++)
	{
		rows[i].tid = value(i, 1);
		batch->keys[i] = value(i, 2);
		rows[i].call_id = is_null(i, 3) ? 0 : DatumGetInt64(value(i, 3));
		rows[i].fingerprint = is_null(i, 4) ? (Datum) 0 : value(i, 4);
		rows[i].call_state = oe_statement_text(i, 5);
		rows[i].status = is_null(i, 6) ? 0 : DatumGetInt32(value(i, 6));
		rows[i].has_person = DatumGetBool(value(i, 7));
		rows[i].was_written = DatumGetBool(value(i, 8));
		rows[i].differences = DatumGetInt32(value(i, 9));
	}
	return rows;
}

/* The walk goes on behind the last row, or begins anew. */
static void
walk_on(Task *task, const Batch *batch)
{
	MemoryContext old = MemoryContextSwitchTo(applier_mcxt);

	if (task->after_key)
		pfree(DatumGetPointer(task->after_key));
	task->after_key = batch->count > 0
		? datumCopy(batch->keys[batch->count - 1], false, -1) : (Datum) 0;
	MemoryContextSwitchTo(old);
}

typedef struct Decisions
{
	Updates		updates;
	Datum	   *cancelled;		/* calls that nobody needs any more */
	int			cancelled_count;
	Datum	   *settled;		/* calls whose answer is known */
	int			settled_count;
} Decisions;

static bool
is(const char *state, const char *name)
{
	return state && strcmp(state, name) == 0;
}

/* The request is still the one that was asked last. */
static bool
keep_call(const OeSync *sync, const Changed *row, Decisions *decisions)
{
	bool		found = is(row->call_state, "answered") && row->has_person;
	bool		missing = is(row->call_state, "refused") && row->status == 404;

	if (found || missing)
	{
		if (row->was_written)
		{
			set_row(&decisions->updates, row->tid, found ? "done" : "not found",
					row->call_id, 0, NULL, NULL, SETTLED_BEFORE);
			return true;
		}
		decisions->settled[decisions->settled_count++] = Int64GetDatum(row->call_id);
	}
	else if (!is(row->call_state, "queued") && !is(row->call_state, "sent"))
		return false;
	set_row(&decisions->updates, row->tid, "queued", row->call_id,
			row->differences, NULL, NULL, NOT_SETTLED);
	return true;
}

static void
decide(const OeSync *sync, const Changed *row, const Found *found,
	   Decisions *decisions)
{
	ErrorData  *error = NULL;
	char	   *body = found->request ? request_body(found->request, &error) : NULL;

	if (body && row->fingerprint && is_same(fingerprint_of(body), row->fingerprint) &&
		keep_call(sync, row, decisions))
		return;
	if (row->call_id)
		decisions->cancelled[decisions->cancelled_count++] = Int64GetDatum(row->call_id);
	if (!found->request)
		remove_row(&decisions->updates, row->tid);
	else if (error)
		set_row(&decisions->updates, row->tid, "failed", 0, 0,
				unpack_sql_state(error->sqlerrcode), error->message, SETTLED_NOW);
	else
		set_row(&decisions->updates, row->tid, "queued",
				oe_submit(found->request, sync->priority, DT_NOBEGIN, sync->id),
				row->differences, NULL, NULL, NOT_SETTLED);
}

/* How many calls more the queue may have of it. */
static int
room_in_queue(int64 id)
{
	Datum		sync_id = Int64GetDatum(id);
	int64		queued;

	(void) oe_statement_run(&queued_statement, &sync_id, NULL);
	queued = DatumGetInt64(value(0, 1));
	is_watching |= queued > 0;
	return (int) Max(QUEUE_AHEAD - queued, 0);
}

static void
write_decisions(const OeSync *sync, Decisions *decisions)
{
	OeRights	rights;

	as_extension(&rights);
	write_updates(&decisions->updates);
	note_settled(sync, decisions->settled, decisions->settled_count);
	oe_rights_give_back(&rights);
	if (decisions->cancelled_count > 0)
		oe_cancel_calls(array(decisions->cancelled, NULL,
							  decisions->cancelled_count, INT8OID));
}

static bool
look_at_changed(Task *task, OeSync *sync)
{
	Batch		batch = {0};
	Changed    *rows;
	Found	   *found;
	Decisions	decisions = {0};
	OeRights	rights;
	int			room;

	as_extension(&rights);
	room = room_in_queue(sync->id);
	rows = room > 0 ? fetch_changed(task, Min(task->batch, room), &batch) : NULL;
	oe_rights_give_back(&rights);
	remember(task, batch.count, batch.count > 0 ? batch.keys[0] : (Datum) 0, 0);
	if (batch.count == 0)
	{
		bool		begins_anew = room > 0 && task->after_key;

		walk_on(task, &batch);
		return begins_anew;
	}

	begin_updates(&decisions.updates, batch.count);
	decisions.cancelled = palloc(sizeof(Datum) * batch.count);
	decisions.settled = palloc(sizeof(Datum) * batch.count);
	as_owner(sync, &rights);
	found = evaluate(task, sync, &batch, false);
	/* The calls are the owner's. */
	for (int i = 0; i < batch.count; i++)
		decide(sync, &rows[i], &found[i], &decisions);
	no_longer_as_owner(&rights);
	write_decisions(sync, &decisions);
	walk_on(task, &batch);
	return true;
}

static bool
refresh(Task *task, OeSync *sync)
{
	Datum		values[2];
	OeRights	rights;
	bool		any;

	values[0] = Int64GetDatum(sync->id);
	values[1] = Int32GetDatum(BATCH_MAX);
	as_extension(&rights);
	any = oe_statement_run(&refresh_statement, values, NULL) > 0;
	oe_rights_give_back(&rights);
	return any;
}

/* ----------------------------------------------------------------
 * Settled calls
 * ---------------------------------------------------------------- */

typedef enum Fate
{
	FATE_NONE,					/* it is nobody's answer any more */
	FATE_CHANGED,				/* the row is looked at before */
	FATE_FAILED,				/* there is nothing to write */
	FATE_WRITE,
	FATE_LATER,					/* somebody has the row locked */
	FATE_GONE,
	FATE_DIFFERENT,
	FATE_SUPPRESSED,
} Fate;

/* A row of settled_statement. */
typedef struct SettledCall
{
	Datum		settled_id;
	Datum		tid;
	Datum		key;
	bool		again;			/* the row had its answer, which is another one now */
	int			differences;
	int64		call_id;
	const char *state;			/* NULL: there is no such call */
	Datum		fingerprint;	/* 0: likewise; empty: the call was erased */
	int			status;
	const char *detail;
	Datum		person;			/* 0: none */
	Fate		fate;
} SettledCall;

/*
 * A webhook has changed the answer of a row that was settled before.  What has
 * become of the call since then does not make such a row fail.
 */
static Fate
first_fate(const SettledCall *call, const char *row_state)
{
	if (!call->tid || is(row_state, "forgotten") ||
		is(call->state, "queued") || is(call->state, "sent"))
		return FATE_NONE;
	if (is(row_state, "changed"))
		return FATE_CHANGED;
	if ((is(call->state, "answered") && call->person) ||
		(is(call->state, "refused") && call->status == 404))
		return FATE_WRITE;
	return call->again ? FATE_NONE : FATE_FAILED;
}

static bool
is_repeated(const SettledCall *calls, int i)
{
	for (int j = 0; j < i; j++)
	{
		if (calls[j].call_id == calls[i].call_id)
			return true;
	}
	return false;
}

static SettledCall *
fetch_settled(Task *task, int *count)
{
	Datum		values[3];
	SettledCall *calls;

	values[0] = Int64GetDatum(task->id);
	values[1] = Int64GetDatum(task->after_settled);
	values[2] = Int32GetDatum(task->batch);
	*count = (int) oe_statement_run(&settled_statement, values, NULL);
	calls = palloc0(sizeof(SettledCall) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
	{
		SettledCall *call = &calls[i];

		call->settled_id = value(i, 1);
		call->tid = is_null(i, 2) ? (Datum) 0 : value(i, 2);
		call->key = is_null(i, 3) ? (Datum) 0 : value(i, 3);
		call->fingerprint = is_null(i, 5) ? (Datum) 0 : value(i, 5);
		call->differences = is_null(i, 6) ? 0 : DatumGetInt32(value(i, 6));
		call->again = call->tid && !is(oe_statement_text(i, 4), "queued");
		call->call_id = DatumGetInt64(value(i, 7));
		call->state = oe_statement_text(i, 8);
		call->status = is_null(i, 9) ? 0 : DatumGetInt32(value(i, 9));
		call->detail = oe_statement_text(i, 10);
		call->person = is_null(i, 11) ? (Datum) 0 : value(i, 11);
		call->fate = is_repeated(calls, i) ? FATE_NONE
			: first_fate(call, oe_statement_text(i, 4));
	}
	return calls;
}

/* Those with one fate, and their keys. */
static SettledCall **
select_fate(SettledCall *calls, int count, Fate fate, Batch *batch)
{
	SettledCall **selected = palloc(sizeof(SettledCall *) * Max(count, 1));

	batch->count = 0;
	batch->keys = palloc(sizeof(Datum) * Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		if (calls[i].fate != fate)
			continue;
		selected[batch->count] = &calls[i];
		batch->keys[batch->count++] = calls[i].key;
	}
	return selected;
}

/* Does the row still ask for what the call has answered?  It is locked then. */
static Fate
fate_of_row(const SettledCall *call, const Found *found)
{
	ErrorData  *error = NULL;
	char	   *body;

	if (!found->there)
		return FATE_GONE;
	body = found->request ? request_body(found->request, &error) : NULL;
	if (body && call->fingerprint && is_same(fingerprint_of(body), call->fingerprint))
		return FATE_WRITE;
	/* What has its answer is asked for again when it changes, and not before. */
	return call->again ? FATE_NONE : FATE_DIFFERENT;
}

/* Of those that could not be locked: who is not there at all? */
static void
tell_locked_from_gone(Task *task, const OeSync *sync, SettledCall *calls,
					  int count)
{
	Batch		batch;
	SettledCall **missing = select_fate(calls, count, FATE_GONE, &batch);
	bool	   *there;

	if (batch.count == 0)
		return;
	there = numbers_found(&batch, run_for_keys(&task->exist, oe_sync_exist_sql(sync),
											   sync, &batch, (Datum) 0));
	for (int i = 0; i < batch.count; i++)
	{
		if (there[i])
			missing[i]->fate = FATE_LATER;
	}
}

static void
write_answers(Task *task, const OeSync *sync, SettledCall *calls, int count)
{
	Batch		batch;
	SettledCall **written = select_fate(calls, count, FATE_WRITE, &batch);
	Datum	   *persons = palloc(sizeof(Datum) * Max(batch.count, 1));
	bool	   *nulls = palloc(sizeof(bool) * Max(batch.count, 1));
	bool	   *done;

	if (batch.count == 0)
		return;
	for (int i = 0; i < batch.count; i++)
	{
		persons[i] = written[i]->person;
		nulls[i] = is(written[i]->state, "refused");
	}

	/* The row that we write asks for nothing new; what its triggers do, may. */
	oe_sync_writing = sync->id;
	done = numbers_found(&batch, run_for_keys(&task->write, oe_sync_write_sql(sync),
											  sync, &batch,
											  array(persons, nulls, batch.count,
													JSONBOID)));
	oe_sync_writing = 0;
	for (int i = 0; i < batch.count; i++)
	{
		if (!done[i] && !nulls[i])
			written[i]->fate = FATE_SUPPRESSED;
	}
}

static void
apply_to_rows(Task *task, const OeSync *sync, SettledCall *calls, int count)
{
	Batch		batch;
	SettledCall **wanted = select_fate(calls, count, FATE_WRITE, &batch);
	OeRights	rights;
	Found	   *found;

	if (batch.count == 0)
		return;
	as_owner(sync, &rights);
	/* Deferred triggers would run when nobody's rights are left. */
	oe_sync_execute("SET CONSTRAINTS ALL IMMEDIATE", 0, NULL, NULL, NULL);
	found = evaluate(task, sync, &batch, true);
	for (int i = 0; i < batch.count; i++)
		wanted[i]->fate = fate_of_row(wanted[i], &found[i]);
	tell_locked_from_gone(task, sync, calls, count);
	write_answers(task, sync, calls, count);
	no_longer_as_owner(&rights);
}

/* SQLSTATE and words for a call that has no answer. */
static const char *
describe_failure(const SettledCall *call, const char **message)
{
	*message = call->detail;
	if (is(call->state, "unknown"))
	{
		if (!*message)
			*message = "the outcome of the request is not known";
		return "OE504";
	}
	if (is(call->state, "cancelled"))
	{
		*message = "the call was cancelled";
		return "57014";
	}
	if (call->fingerprint && VARSIZE_ANY_EXHDR(DatumGetPointer(call->fingerprint)) == 0)
	{
		*message = "the answer was erased before it was written";
		return "55000";
	}
	if (is(call->state, "answered"))
	{
		if (!*message)
			*message = "the API answered 200 without a usable person";
		return "OE502";
	}
	if (!*message)
		*message = "the request was not answered";
	if (call->status >= 500)
		return "OE500";
	return call->status > 0 ? psprintf("OE%d", call->status) : "08001";
}

static void
set_failed(Updates *updates, const SettledCall *call)
{
	const char *message;
	const char *code = describe_failure(call, &message);

	set_row(updates, call->tid, is(call->state, "unknown") ? "unknown" : "failed",
			call->call_id, 0, code, message, SETTLED_NOW);
}

/* It asks for something else, although no trigger has told us. */
static void
set_different(Updates *updates, const SettledCall *call)
{
	if (call->differences + 1 < DIFFERENCES_MAX)
		set_row(updates, call->tid, "changed", call->call_id,
				call->differences + 1, NULL, NULL, NOT_SETTLED);
	else
		set_row(updates, call->tid, "failed", call->call_id, 0,
				unpack_sql_state(ERRCODE_INVALID_PARAMETER_VALUE),
				"the request is another one each time it is evaluated", SETTLED_NOW);
}

static void
set_fate(Updates *updates, const SettledCall *call)
{
	switch (call->fate)
	{
		case FATE_NONE:
		case FATE_LATER:
			break;
		case FATE_CHANGED:
			/* Should the call turn out to be the right one, it is written then. */
			set_row(updates, call->tid, "changed", call->call_id,
					call->differences, NULL, NULL, NOT_SETTLED);
			break;
		case FATE_FAILED:
			set_failed(updates, call);
			break;
		case FATE_WRITE:
			set_row(updates, call->tid,
					is(call->state, "answered") ? "done" : "not found",
					call->call_id, 0, NULL, NULL, SETTLED_NOW);
			break;
		case FATE_GONE:
			remove_row(updates, call->tid);
			break;
		case FATE_DIFFERENT:
			set_different(updates, call);
			break;
		case FATE_SUPPRESSED:
			set_row(updates, call->tid, "failed", call->call_id, 0,
					unpack_sql_state(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
					"a trigger or a policy of the table suppressed the update",
					SETTLED_NOW);
			break;
	}
}

/* Returns how many were dealt with. */
static int
record_fates(const OeSync *sync, SettledCall *calls, int count)
{
	Updates		updates;
	Datum	   *ids = palloc(sizeof(Datum) * count);
	Datum	   *later = palloc(sizeof(Datum) * count);
	int			later_count = 0;
	Datum		values[2];

	begin_updates(&updates, count);
	for (int i = 0; i < count; i++)
	{
		set_fate(&updates, &calls[i]);
		ids[i] = calls[i].settled_id;
		if (calls[i].fate == FATE_LATER)
			later[later_count++] = Int64GetDatum(calls[i].call_id);
	}
	write_updates(&updates);
	values[0] = Int64GetDatum(sync->id);
	values[1] = array(ids, NULL, count, INT8OID);
	(void) oe_statement_run(&forget_statement, values, NULL);
	/* To the end of the line. */
	note_settled(sync, later, later_count);
	return count - later_count;
}

static bool
apply_settled(Task *task, OeSync *sync)
{
	SettledCall *calls;
	OeRights	rights;
	int			count;
	int			dealt_with;

	as_extension(&rights);
	calls = fetch_settled(task, &count);
	oe_rights_give_back(&rights);
	remember(task, count, count > 0 ? calls[0].key : (Datum) 0,
			 count > 0 ? DatumGetInt64(calls[0].settled_id) : 0);
	if (count == 0)
	{
		bool		begins_anew = task->after_settled > 0;

		task->after_settled = 0;
		return begins_anew;
	}
	apply_to_rows(task, sync, calls, count);
	as_extension(&rights);
	dealt_with = record_fates(sync, calls, count);
	oe_rights_give_back(&rights);
	task->after_settled = DatumGetInt64(calls[count - 1].settled_id);
	if (dealt_with == 0)
		put_off(task, BUSY_WAIT_MS);
	return true;
}

/* Calls that were settled while nobody could tell us, as by hand. */
static bool
sweep(Task *task, OeSync *sync)
{
	Datum		id = Int64GetDatum(sync->id);
	OeRights	rights;
	bool		any;

	task->swept_at = GetCurrentTimestamp();
	as_extension(&rights);
	any = oe_statement_run(&sweep_statement, &id, NULL) > 0;
	oe_rights_give_back(&rights);
	return any;
}

/* ----------------------------------------------------------------
 * Failures
 * ---------------------------------------------------------------- */

/* The statements without any row: names and privileges are looked at. */
static bool
try_definition(Task *task, OeSync *sync)
{
	Batch		none = {0};
	OeRights	rights;

	as_owner(sync, &rights);
	(void) evaluate(task, sync, &none, true);
	(void) run_for_keys(&task->write, oe_sync_write_sql(sync), sync, &none,
						array(NULL, NULL, 0, JSONBOID));
	no_longer_as_owner(&rights);
	return true;
}

static void
forget_statements(Task *task)
{
	oe_statement_forget(&task->evaluate);
	oe_statement_forget(&task->lock);
	oe_statement_forget(&task->exist);
	oe_statement_forget(&task->write);
}

/* "work" in a transaction.  NULL: committed.  Else what it failed of. */
static ErrorData *
in_transaction(Task *task, Work work, bool *worked)
{
	ErrorData  *volatile edata = NULL;
	OeSync		sync = {0};

	*worked = false;
	PG_TRY();
	{
		if (begin())
		{
			if (load(task, &sync))
				*worked = work(task, &sync);
			commit();
		}
	}
	PG_CATCH();
	{
		edata = undo();
		forget_statements(task);
	}
	PG_END_TRY();
	return edata;
}

static const ErrorData *pending_error;

static bool
stop_for_error(Task *task, OeSync *sync)
{
	stop(sync->id, sync->name, pending_error->sqlerrcode, pending_error->message);
	return true;
}

static bool
fail_row(Task *task, OeSync *sync)
{
	Datum		values[4];
	OeRights	rights;

	as_extension(&rights);
	if (task->key)
	{
		values[0] = Int64GetDatum(sync->id);
		values[1] = task->key;
		values[2] = CStringGetTextDatum(unpack_sql_state(pending_error->sqlerrcode));
		values[3] = CStringGetTextDatum(pending_error->message ? pending_error->message
										: "unknown error");
		(void) oe_statement_run(&fail_statement, values, NULL);
	}
	if (task->settled)
	{
		Datum		settled = Int64GetDatum(task->settled);

		values[0] = Int64GetDatum(sync->id);
		values[1] = array(&settled, NULL, 1, INT8OID);
		(void) oe_statement_run(&forget_statement, values, NULL);
	}
	oe_rights_give_back(&rights);
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
 * Smaller portions, down to one row, and then that row, or the definition, is to
 * blame.  What took long makes its kept column wait as long.
 */
static void
recover(Task *task, const ErrorData *edata, TimestampTz started_at)
{
	TimestampTz now = GetCurrentTimestamp();
	ErrorData  *broken;
	bool		worked;

	task->not_before = now + (now - started_at);
	if (is_passing(edata->sqlerrcode))
	{
		put_off(task, BUSY_WAIT_MS);
		task->batch = Max(task->batch / 4, 1);
		return;
	}
	if (!task->alone && task->batch > 1)
	{
		task->batch = Max(task->batch / 8, 1);
		return;
	}
	broken = in_transaction(task, try_definition, &worked);
	pending_error = broken ? broken : edata;
	if ((broken && is_passing(broken->sqlerrcode)) ||
		(!broken && !task->alone) ||
		in_transaction(task, broken ? stop_for_error : fail_row, &worked) != NULL)
	{
		put_off(task, TROUBLE_WAIT_MS);
		ereport(LOG,
				errcode(edata->sqlerrcode),
				errmsg("could not look after a kept column, trying again later"),
				errdetail("SQLSTATE %s.", unpack_sql_state(edata->sqlerrcode)));
	}
}

static bool
attempt(Task *task, Work work)
{
	TimestampTz started_at = GetCurrentTimestamp();
	ErrorData  *edata;
	bool		worked;

	if (task->not_before > started_at)
		return false;
	task->alone = false;
	edata = in_transaction(task, work, &worked);
	if (edata)
	{
		recover(task, edata, started_at);
		return true;
	}
	if (worked && task->batch < BATCH_MAX)
		task->batch = Min(task->batch * 2, BATCH_MAX);
	return worked;
}

/* ----------------------------------------------------------------
 * Housekeeping
 * ---------------------------------------------------------------- */

/* The inbox; returns whether there was something in it. */
static bool
drain_inbox(void)
{
	Datum		values[2];
	OeRights	rights;
	uint64		count;
	int64	   *truncated;
	int			truncated_count = 0;

	as_extension(&rights);
	(void) oe_statement_run(&drainable_statement, NULL, NULL);
	values[0] = oe_sync_result_array(1, INT8OID);
	values[1] = Int32GetDatum(INBOX_BATCH);
	count = oe_statement_run(&drain_statement, values, NULL);
	truncated = palloc(sizeof(int64) * Max(count, 1));
	for (uint64 i = 0; i < count; i++)
	{
		if (DatumGetBool(value(i, 2)))
			truncated[truncated_count++] = DatumGetInt64(value(i, 1));
	}
	oe_rights_give_back(&rights);
	for (int i = 0; i < truncated_count; i++)
	{
		Datum		id = Int64GetDatum(truncated[i]);

		oe_cancel_sync(truncated[i]);
		as_extension(&rights);
		(void) oe_statement_run(&all_changed_statement, &id, NULL);
		oe_rights_give_back(&rights);
	}
	return count > 0;
}

/* Which kept columns there are now, and when one of their rows is due. */
static List *
find_active(void)
{
	MemoryContext spi = CurrentMemoryContext;
	List	   *active = NIL;
	OeRights	rights;
	uint64		count;

	as_extension(&rights);
	count = oe_statement_run(&active_statement, NULL, NULL);
	MemoryContextSwitchTo(turn_mcxt);
	for (uint64 i = 0; i < count; i++)
	{
		int64	   *id = palloc(sizeof(int64));

		*id = DatumGetInt64(value(i, 1));
		active = lappend(active, id);
	}
	MemoryContextSwitchTo(spi);
	(void) oe_statement_run(&next_refresh_statement, NULL, NULL);
	next_refresh = is_null(0, 1) ? DT_NOEND : DatumGetTimestampTz(value(0, 1));
	oe_rights_give_back(&rights);
	return active;
}

/* The counters are exact with any number of rows, and quick with few. */
static void
fold_counts(void)
{
	Datum		max = Int32GetDatum(COUNTS_MAX);
	OeRights	rights;

	as_extension(&rights);
	(void) oe_statement_run(&count_statement, &max, NULL);
	if (DatumGetInt64(value(0, 1)) >= COUNTS_MAX)
	{
		(void) oe_statement_run(&fold_statement, NULL, NULL);
		(void) oe_statement_run(&tidy_statement, NULL, NULL);
	}
	oe_rights_give_back(&rights);
}

/* Those that are active, or NIL; *drained: there was something in the inbox. */
static List *
keep_house(bool *drained)
{
	List	   *volatile active = NIL;

	*drained = false;
	PG_TRY();
	{
		if (begin())
		{
			*drained = drain_inbox();
			fold_counts();
			active = find_active();
			commit();
		}
	}
	PG_CATCH();
	{
		ErrorData  *edata = undo();

		active = NIL;
		if (!is_passing(edata->sqlerrcode))
			ereport(LOG,
					errcode(edata->sqlerrcode),
					errmsg("could not look for changes of kept columns: %s",
						   edata->message));
	}
	PG_END_TRY();
	return active;
}

static Task *
find_task(int64 id)
{
	bool		found;
	Task	   *task = hash_search(tasks, &id, HASH_ENTER, &found);

	if (!found)
	{
		memset(task, 0, sizeof(*task));
		task->id = id;
		task->batch = BATCH_MAX;
	}
	task->seen = round_number;
	return task;
}

static void
forget_tasks(void)
{
	HASH_SEQ_STATUS status;
	Task	   *task;

	hash_seq_init(&status, tasks);
	while ((task = hash_seq_search(&status)) != NULL)
	{
		if (task->seen == round_number)
			continue;
		forget_statements(task);
		if (task->key)
			pfree(DatumGetPointer(task->key));
		if (task->after_key)
			pfree(DatumGetPointer(task->after_key));
		(void) hash_search(tasks, &task->id, HASH_REMOVE, NULL);
	}
}

/* ----------------------------------------------------------------
 * The life of the applier
 * ---------------------------------------------------------------- */

/* Each kept column has its turn; false: nobody had anything to do. */
static bool
go_round(void)
{
	bool		worked;
	List	   *active;
	ListCell   *lc;

	round_number++;
	is_watching = false;
	active = keep_house(&worked);
	foreach(lc, active)
	{
		Task	   *task = find_task(*(int64 *) lfirst(lc));

		if (GetCurrentTimestamp() - task->swept_at >= SWEEP_MS * INT64CONST(1000))
			worked |= attempt(task, sweep);
		worked |= attempt(task, apply_settled);
		worked |= attempt(task, look_at_changed);
		if (next_refresh <= GetCurrentTimestamp())
			worked |= attempt(task, refresh);
		CHECK_FOR_INTERRUPTS();
	}
	forget_tasks();
	return worked;
}

static long
time_to_wait(TimestampTz now)
{
	TimestampTz until = now + OE_DATABASE_CHECK_MS * INT64CONST(1000);
	HASH_SEQ_STATUS status;
	Task	   *task;

	hash_seq_init(&status, tasks);
	while ((task = hash_seq_search(&status)) != NULL)
	{
		if (task->not_before > now)
			until = Min(until, task->not_before);
	}
	return Max(TimestampDifferenceMilliseconds(now, until), 1);
}

static bool
some_task_waits(TimestampTz now)
{
	HASH_SEQ_STATUS status;
	Task	   *task;
	bool		waits = false;

	hash_seq_init(&status, tasks);
	while ((task = hash_seq_search(&status)) != NULL)
		waits |= task->not_before > now - OE_DATABASE_CHECK_MS * INT64CONST(1000);
	return waits;
}

/* Is it time to look again although nobody has woken us? */
static bool
is_time(TimestampTz went_round_at)
{
	TimestampTz now = GetCurrentTimestamp();

	return next_refresh <= now || some_task_waits(now) ||
		(is_watching && now - went_round_at >= WATCH_MS * INT64CONST(1000));
}

static bool
is_in_the_way(void)
{
	StartTransactionCommand();
	extension_is_gone = !OidIsValid(oe_ledger_relation());
	CommitTransactionCommand();
	MemoryContextSwitchTo(turn_mcxt);
	return extension_is_gone || oe_process_database_is_wanted();
}

/* Asleep until something is to be done.  False: leave. */
static bool
wait_for_work(TimestampTz *idle_since, uint32 wait_event)
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
		if (is_time(went_round_at))
			return true;
		if (is_in_the_way())
			return false;
		if (next_refresh == DT_NOEND &&
			now - *idle_since >= oe_worker_idle_timeout_s * USECS_PER_SEC)
			return false;
	}
}

static void
run(void)
{
	uint32		wait_event = WaitEventExtensionNew("OceanEnrichApplier");
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
		MemoryContextReset(turn_mcxt);
		if (go_round())
		{
			idle_since = 0;
			continue;
		}
		if (ShutdownRequestPending || wait_for_work(&idle_since, wait_event))
			continue;

		/* Who comes from now on starts another one; who came before, we see. */
		oe_channel_leave_applier();
		if (is_in_the_way() || !go_round() ||
			!oe_channel_serve_applier())
			return;
		idle_since = 0;
	}
}

static void
force_settings(void)
{
	static const OeForcedSetting settings[] = {
		{"lock_timeout", LOCK_MAX},
		/* What an expression gives is checked, and fails its row alone. */
		{"ocean_enrich.unknown_keys", "error"},
		{"application_name", "ocean_enrich applier"},
	};

	oe_process_force(settings, lengthof(settings));
}

void
oe_applier_main(Datum database)
{
	HASHCTL		ctl = {0};

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, handle_shutdown);
	pqsignal(SIGINT, StatementCancelHandler);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(database),
											  InvalidOid, 0);
	force_settings();

	applier_mcxt = AllocSetContextCreate(TopMemoryContext, "ocean_enrich applier",
										 ALLOCSET_DEFAULT_SIZES);
	turn_mcxt = AllocSetContextCreate(applier_mcxt, "ocean_enrich turn",
									  ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(turn_mcxt);
	ctl.keysize = sizeof(int64);
	ctl.entrysize = sizeof(Task);
	ctl.hcxt = applier_mcxt;
	tasks = hash_create("ocean_enrich kept columns", 16, &ctl,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	if (!oe_channel_serve_applier())
		proc_exit(0);
	run();
	proc_exit(0);
}
