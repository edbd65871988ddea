/*
 * triggers.c
 *		What the applier of kept columns is told: by the triggers of tables, by
 *		the worker that settles calls, by webhooks that change their answers.
 *
 * All only insert, into ocean_enrich.sync_inbox and sync_settled.  So no
 * session waits for our books, and no call for a session that has a row locked.
 *
 * The triggers run with the rights of the extension's owner, so they look at
 * nothing of a user's but values: keys become text by built-in types, other
 * columns are compared byte by byte.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "commands/trigger.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "shared/channel.h"
#include "base/rights.h"
#include "base/statement.h"
#include "sync/triggers.h"
#include "sync/definition.h"

PG_FUNCTION_INFO_V1(ocean_enrich_call_changed);
PG_FUNCTION_INFO_V1(ocean_enrich_sync_changed);
PG_FUNCTION_INFO_V1(ocean_enrich_sync_counted);

int64		oe_sync_writing;

static bool wake_at_commit;

/* The statement of one trigger; made anew when a column was renamed. */
typedef struct TriggerPlan
{
	Oid			trigger;		/* key */
	OeStatement statement;
} TriggerPlan;

/* ----------------------------------------------------------------
 * Waking the applier
 * ---------------------------------------------------------------- */

static void
end_of_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if (wake_at_commit)
				oe_channel_wake_applier();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			break;
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			return;
	}
	wake_at_commit = false;
}

void
oe_sync_wake_at_commit(void)
{
	static bool registered = false;

	oe_channel_attach();
	if (!registered)
	{
		RegisterXactCallback(end_of_transaction, NULL);
		registered = true;
	}
	wake_at_commit = true;
}

/*
 * Run a statement that notes something for the applier.  A table is its owner's,
 * and what came by webhook was paid for: that the server waits for a restart does
 * not stop either.  Whoever has the library in use looks for it now and then.
 */
static void
note(OeStatement *statement, Datum *value)
{
	if (oe_statement_run(statement, value, NULL) > 0 && oe_channel_is_ours())
		oe_sync_wake_at_commit();
}

/* ----------------------------------------------------------------
 * From the worker
 * ---------------------------------------------------------------- */

static OeStatement settled_statement = {
	"WITH settled AS (SELECT c.call_id, c.sync_id, c.credits"
	" FROM ocean_enrich.call AS c JOIN ocean_enrich.sync AS s USING (sync_id)"
	" WHERE c.call_id = ANY ($1)),"
	" noted AS (INSERT INTO ocean_enrich.sync_settled (sync_id, call_id)"
	" SELECT sync_id, call_id FROM settled)"
	" INSERT INTO ocean_enrich.sync_count (sync_id, credits)"
	" SELECT sync_id, coalesce(sum(credits), 0) FROM settled GROUP BY sync_id",
	1,
	{INT8ARRAYOID},
	NULL
};

static OeStatement call_changed_statement = {
	"INSERT INTO ocean_enrich.sync_settled (sync_id, call_id)"
	" SELECT r.sync_id, r.call_id FROM ocean_enrich.sync_row AS r WHERE r.call_id = $1",
	1,
	{INT8OID},
	NULL
};

static OeStatement hold_off_statement = {
	"SELECT FROM ocean_enrich.sync ORDER BY sync_id FOR UPDATE",
	0,
	{0},
	NULL
};

/* What changed meanwhile is looked at as ever. */
static OeStatement forgotten_statement = {
	"UPDATE ocean_enrich.sync_row SET state = 'forgotten', differences = 0,"
	" error_code = NULL, message = NULL, refresh_at = NULL"
	" WHERE call_id = ANY ($1) AND state <> 'changed'",
	1,
	{INT8ARRAYOID},
	NULL
};

#define FOR_WHICH_IS_NOTED \
	"SELECT FROM ocean_enrich.sync AS s WHERE s.enabled" \
	" AND s.database = ocean_enrich.database_identity()" \
	" AND (EXISTS (SELECT FROM ocean_enrich.sync_inbox AS i WHERE i.sync_id = s.sync_id)" \
	" OR EXISTS (SELECT FROM ocean_enrich.sync_settled AS t WHERE t.sync_id = s.sync_id)"

static OeStatement noted_statement = {
	FOR_WHICH_IS_NOTED ") LIMIT 1",
	0,
	{0},
	NULL
};

static OeStatement work_statement = {
	FOR_WHICH_IS_NOTED
	" OR EXISTS (SELECT FROM ocean_enrich.sync_row AS r WHERE r.sync_id = s.sync_id"
	" AND r.state IN ('changed', 'queued'))"
	" OR s.refresh_after IS NOT NULL) LIMIT 1",
	0,
	{0},
	NULL
};

void
oe_sync_settled(const int64 *call_ids, int count)
{
	Datum	   *ids = palloc(sizeof(Datum) * Max(count, 1));
	Datum		value;

	for (int i = 0; i < count; i++)
		ids[i] = Int64GetDatum(call_ids[i]);
	value = PointerGetDatum(construct_array(ids, count, INT8OID, sizeof(int64),
											FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	if (oe_statement_run(&settled_statement, &value, NULL) > 0)
		oe_sync_wake_at_commit();
}

void
oe_sync_hold_off(void)
{
	(void) oe_statement_run(&hold_off_statement, NULL, NULL);
}

void
oe_sync_forgotten(Datum call_ids)
{
	(void) oe_statement_run(&forgotten_statement, &call_ids, NULL);
}

/* For SQL that has changed a person after the answer, as the ledger's owner. */
Datum
ocean_enrich_call_changed(PG_FUNCTION_ARGS)
{
	Datum		call_id = PG_GETARG_DATUM(0);

	Async_Notify(OE_NOTIFY_CHANNEL,
				 psprintf(INT64_FORMAT, DatumGetInt64(call_id)));
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	note(&call_changed_statement, &call_id);
	SPI_finish();
	PG_RETURN_INT64(DatumGetInt64(call_id));
}

bool
oe_sync_is_noted(void)
{
	return oe_statement_run(&noted_statement, NULL, NULL) > 0;
}

bool
oe_sync_has_work(void)
{
	return oe_statement_run(&work_statement, NULL, NULL) > 0;
}

/* ----------------------------------------------------------------
 * From tables with a kept column
 * ---------------------------------------------------------------- */

/*
 * Has the trigger the transition tables that its statement names?  Where one is
 * missing, a temporary view of that name would be read instead, and what is in
 * it would run with the rights of the extension's owner.
 */
static bool
has_transition_tables(const TriggerData *data, const char *old_name,
					  const char *new_name)
{
	const char *old_table = data->tg_trigger->tgoldtable;
	const char *new_table = data->tg_trigger->tgnewtable;
	bool		has_old = old_table && strcmp(old_table, old_name) == 0;
	bool		has_new = new_table && strcmp(new_table, new_name) == 0;

	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		return has_new;
	if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
		return has_old;
	return TRIGGER_FIRED_BY_TRUNCATE(data->tg_event) || (has_old && has_new);
}

/* The statement-level trigger that we have made, and no other. */
static void
check_trigger(FunctionCallInfo fcinfo, int arguments, const char *old_name,
			  const char *new_name)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event) ||
		trigger->tg_trigger->tgnargs != arguments ||
		!has_transition_tables(trigger, old_name, new_name))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("this function is for the triggers that ocean_enrich makes"));
}

/*
 * Anybody can make a trigger with any argument on his own table, so it must
 * belong to the table, or to a partition of it.
 */
static bool
is_of_table(Oid relation, Oid table)
{
	return relation == table ||
		(get_rel_relispartition(relation) &&
		 list_member_oid(get_partition_ancestors(relation), table));
}

/*
 * Sees a definition that is younger than the transaction's snapshot, as the
 * trigger itself is seen.
 */
static bool
load_definition(int64 sync_id, OeSync *sync)
{
	static SPIPlanPtr plan;
	Oid			type = INT8OID;
	Datum		value = Int64GetDatum(sync_id);
	int			rc;

	if (!plan)
	{
		plan = SPI_prepare("SELECT " OE_SYNC_COLUMNS
						   " FROM ocean_enrich.sync WHERE sync_id = $1", 1, &type);
		if (!plan || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare a statement for a kept column");
	}
	PushActiveSnapshot(GetLatestSnapshot());
	rc = SPI_execute_plan(plan, &value, NULL, true, 1);
	PopActiveSnapshot();
	if (rc < 0)
		elog(ERROR, "could not execute a statement for a kept column: %s",
			 SPI_result_code_string(rc));
	if (SPI_processed == 0)
		return false;
	oe_sync_fill(sync, 0);
	if (sync->is_copy)
		oe_sync_find_by_name(sync);
	return true;
}

/* What has to differ for a row to count as changed. */
static char *
image_sql(const OeSync *sync, const char *alias)
{
	StringInfoData sql;
	const char *separator = "";

	initStringInfo(&sql);
	appendStringInfoString(&sql, "ROW(");
	for (int i = 0; i < sync->column_count; i++)
	{
		const char *name = oe_sync_column(sync->relation,
										  sync->column_numbers[i]);

		if (!name)
			continue;
		appendStringInfo(&sql, "%s%s.%s", separator, alias, name);
		separator = ", ";
	}
	appendStringInfoString(&sql, ")::record");
	return sql.data;
}

/*
 * Updated rows whose relevant columns are not what they were, and keys that are
 * gone.
 */
static char *
update_sql(const OeSync *sync)
{
	char	   *new_key = oe_sync_key_sql(sync, "n");
	char	   *old_key = oe_sync_key_sql(sync, "o");

	return psprintf("SELECT $1, k FROM (SELECT %s AS k FROM ocean_new AS n"
					" WHERE NOT EXISTS (SELECT FROM ocean_old AS o"
					" WHERE %s = %s AND %s *= %s)"
					" UNION ALL SELECT %s FROM ocean_old AS o"
					" WHERE NOT EXISTS (SELECT FROM ocean_new AS n WHERE %s = %s)) AS keys",
					new_key, old_key, new_key,
					image_sql(sync, "o"), image_sql(sync, "n"),
					old_key, old_key, new_key);
}

static char *
changed_sql(const OeSync *sync, TriggerEvent event)
{
	if (TRIGGER_FIRED_BY_INSERT(event))
		return psprintf("SELECT $1, %s FROM ocean_new AS n",
						oe_sync_key_sql(sync, "n"));
	if (TRIGGER_FIRED_BY_DELETE(event))
		return psprintf("SELECT $1, %s FROM ocean_old AS o",
						oe_sync_key_sql(sync, "o"));
	if (TRIGGER_FIRED_BY_UPDATE(event))
		return update_sql(sync);
	return pstrdup("SELECT $1, NULL::text[]");
}

static TriggerPlan *
trigger_plan(Oid trigger)
{
	static HTAB *plans;
	TriggerPlan *plan;
	bool		found;

	if (!plans)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(Oid);
		ctl.entrysize = sizeof(TriggerPlan);
		ctl.hcxt = TopMemoryContext;
		plans = hash_create("ocean_enrich triggers", 16, &ctl,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	plan = hash_search(plans, &trigger, HASH_ENTER, &found);
	if (!found)
		memset(&plan->statement, 0, sizeof(plan->statement));
	return plan;
}

static void
note_changes(const OeSync *sync, TriggerData *data)
{
	OeStatement *statement = &trigger_plan(data->tg_trigger->tgoid)->statement;
	char	   *sql = psprintf("INSERT INTO ocean_enrich.sync_inbox (sync_id, key) %s",
							   changed_sql(sync, data->tg_event));
	Datum		value = Int64GetDatum(sync->id);

	oe_statement_set(statement, sql);
	statement->nargs = 1;
	statement->types[0] = INT8OID;
	note(statement, &value);
}

/* Is it the answer itself that is being written, and nothing else? */
static bool
is_own_write(int64 sync_id)
{
	return oe_sync_writing == sync_id &&
		DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0)) == 1;
}

static bool
has_its_key(const OeSync *sync)
{
	for (int i = 0; i < sync->key_count; i++)
	{
		if (!oe_sync_column(sync->relation, sync->key_numbers[i]) ||
			!oe_sync_is_key_type(get_atttype(sync->relation,
											 sync->key_numbers[i])))
			return false;
	}
	return true;
}

Datum
ocean_enrich_sync_changed(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	OeRights	rights;
	OeSync		sync;
	int64		sync_id;

	check_trigger(fcinfo, 1, "ocean_old", "ocean_new");
	sync_id = DatumGetInt64(DirectFunctionCall1(int8in,
												CStringGetDatum(data->tg_trigger->tgargs[0])));
	if (is_own_write(sync_id))
		return PointerGetDatum(NULL);

	oe_rights_of_extension(&rights);
	if (SPI_connect() != SPI_OK_CONNECT ||
		SPI_register_trigger_data(data) != SPI_OK_TD_REGISTER)
		elog(ERROR, "could not look at the changed rows");
	if (load_definition(sync_id, &sync) &&
		is_of_table(RelationGetRelid(data->tg_relation), sync.relation) &&
		has_its_key(&sync))
		note_changes(&sync, data);
	SPI_finish();
	oe_rights_give_back(&rights);
	return PointerGetDatum(NULL);
}

/* ----------------------------------------------------------------
 * The counters
 * ---------------------------------------------------------------- */

#define COUNT_NEW \
	"SELECT sync_id, state, count(*)," \
	" CASE WHEN state NOT IN ('changed', 'queued', 'forgotten') THEN date_trunc('second', now()) END" \
	" FROM new_rows GROUP BY sync_id, state"
#define COUNT_OLD \
	"SELECT sync_id, state, -count(*), NULL::timestamptz" \
	" FROM old_rows GROUP BY sync_id, state"
#define COUNT_INTO \
	"INSERT INTO ocean_enrich.sync_count (sync_id, state, rows, settled_at) "

static OeStatement inserted_statement = {COUNT_INTO COUNT_NEW, 0, {0}, NULL};
static OeStatement deleted_statement = {COUNT_INTO COUNT_OLD, 0, {0}, NULL};
static OeStatement updated_statement = {
	COUNT_INTO COUNT_NEW " UNION ALL " COUNT_OLD, 0, {0}, NULL
};

Datum
ocean_enrich_sync_counted(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	OeStatement *statement = &updated_statement;
	OeRights	rights;

	check_trigger(fcinfo, 0, "old_rows", "new_rows");
	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		statement = &inserted_statement;
	else if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
		statement = &deleted_statement;

	oe_rights_of_extension(&rights);
	if (SPI_connect() != SPI_OK_CONNECT ||
		SPI_register_trigger_data(data) != SPI_OK_TD_REGISTER)
		elog(ERROR, "could not look at the changed rows");
	(void) oe_statement_run(statement, NULL, NULL);
	SPI_finish();
	oe_rights_give_back(&rights);
	return PointerGetDatum(NULL);
}
