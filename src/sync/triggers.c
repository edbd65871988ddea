/*
 * triggers.c
 *		The triggers of tables that have a sync.
 *
 * They run with the rights of the extension's owner, so they use only values
 * from users' tables: keys are converted to text by built-in types, and other
 * columns are compared byte by byte.
 */
#include "postgres.h"

#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/rights.h"
#include "base/statement.h"
#include "shared/channel.h"
#include "shared/sync_notes.h"
#include "sync/definition.h"
#include "sync/triggers.h"

PG_FUNCTION_INFO_V1(ocean_enrich_sync_changed);
PG_FUNCTION_INFO_V1(ocean_enrich_sync_counted);

static int64 sync_being_written;	/* 0 if none */

/* The statement of one trigger; rebuilt after a column was renamed. */
typedef struct TriggerPlan
{
	Oid			trigger;		/* key */
	OeStatement statement;
} TriggerPlan;

/* ----------------------------------------------------------------
 * Tables with a sync
 * ---------------------------------------------------------------- */

/*
 * Does the trigger have the transition tables that its statement names?  If
 * one is missing, a temporary view of that name would be read instead, with
 * the rights of the extension's owner.
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

/* Accept only the statement-level trigger that we have created. */
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
				errmsg("this function can only be called by triggers that ocean_enrich creates"));
}

/*
 * Users can create a trigger with any argument on their own table, so the
 * sync's table must be that table or an ancestor of it.
 */
static bool
is_of_table(Oid relation, Oid table)
{
	return relation == table ||
		(get_rel_relispartition(relation) &&
		 list_member_oid(get_partition_ancestors(relation), table));
}

/*
 * Sees a definition newer than the transaction's snapshot, just as the trigger
 * itself is visible.
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
			elog(ERROR, "could not prepare a statement for a sync");
	}
	PushActiveSnapshot(GetLatestSnapshot());
	rc = SPI_execute_plan(plan, &value, NULL, true, 1);
	PopActiveSnapshot();
	if (rc < 0)
		elog(ERROR, "could not execute a statement for a sync: %s",
			 SPI_result_code_string(rc));
	if (SPI_processed == 0)
		return false;
	oe_sync_fill(sync, 0);
	if (sync->is_copy)
		oe_sync_find_by_name(sync);
	return true;
}

/* A row counts as changed if this expression differs. */
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
 * Selects keys of updated rows with changed relevant columns, and keys that
 * are gone.
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
	oe_sync_note(statement, &value);
}

void
oe_triggers_ignore_writes_of(int64 sync_id)
{
	sync_being_written = sync_id;
}

/* Is this our own update of the target column, not a trigger's? */
static bool
is_own_write(int64 sync_id)
{
	return sync_being_written == sync_id &&
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

	oe_rights_switch(&rights, oe_owner_of("sync"), OE_RIGHTS_PINNED);
	if (SPI_connect() != SPI_OK_CONNECT ||
		SPI_register_trigger_data(data) != SPI_OK_TD_REGISTER)
		elog(ERROR, "could not look at the changed rows");
	if (load_definition(sync_id, &sync) &&
		is_of_table(RelationGetRelid(data->tg_relation), sync.relation) &&
		has_its_key(&sync))
		note_changes(&sync, data);
	SPI_finish();
	oe_rights_restore(&rights);
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

	oe_rights_switch(&rights, oe_owner_of("sync"), OE_RIGHTS_PINNED);
	if (SPI_connect() != SPI_OK_CONNECT ||
		SPI_register_trigger_data(data) != SPI_OK_TD_REGISTER)
		elog(ERROR, "could not look at the changed rows");
	(void) oe_statement_run(statement, NULL, NULL);
	SPI_finish();
	oe_rights_restore(&rights);
	return PointerGetDatum(NULL);
}
