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
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

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

/* Numbers that these columns of the sync's table have in "relation". */
static AttrNumber *
columns_in(Oid relation, const OeSync *sync, const int16 *numbers, int count)
{
	AttrNumber *columns = palloc(sizeof(AttrNumber) * Max(count, 1));

	for (int i = 0; i < count; i++)
	{
		char	   *name = get_attname(sync->relation, numbers[i], true);

		/* A dropped column is in neither table. */
		columns[i] = name ? get_attnum(relation, name) : InvalidAttrNumber;
	}
	return columns;
}

/* Are these columns equal, byte by byte? */
static bool
are_equal(TupleTableSlot *a, TupleTableSlot *b, const AttrNumber *columns, int count)
{
	for (int i = 0; i < count; i++)
	{
		Form_pg_attribute attribute;
		Datum		values[2];
		bool		nulls[2];

		if (columns[i] == InvalidAttrNumber)
			continue;
		attribute = TupleDescAttr(a->tts_tupleDescriptor, columns[i] - 1);
		values[0] = slot_getattr(a, columns[i], &nulls[0]);
		values[1] = slot_getattr(b, columns[i], &nulls[1]);
		if (nulls[0] != nulls[1] ||
			(!nulls[0] && !datum_image_eq(values[0], values[1],
										  attribute->attbyval, attribute->attlen)))
			return false;
	}
	return true;
}

/* Begin to read a transition table, which other triggers read, too. */
static TupleTableSlot *
begin_reading(Tuplestorestate *table, TupleDesc desc)
{
	tuplestore_select_read_pointer(table,
								   tuplestore_alloc_read_pointer(table, EXEC_FLAG_REWIND));
	tuplestore_rescan(table);
	return MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
}

/*
 * Collect the updated rows whose relevant columns have changed, and those whose
 * key is gone.
 *
 * The executor stores an updated row's old and new version in the same moment,
 * so the n-th rows of the two tables belong together, and nothing has to be
 * joined or planned.  Should the tables ever be out of step, all keys in them
 * are noted, since those of a pair differ.
 */
static Tuplestorestate *
collect_updated(const OeSync *sync, const TriggerData *data)
{
	Oid			relation = RelationGetRelid(data->tg_relation);
	TupleDesc	desc = RelationGetDescr(data->tg_relation);
	AttrNumber *keys = columns_in(relation, sync, sync->key_numbers, sync->key_count);
	AttrNumber *columns = columns_in(relation, sync, sync->column_numbers,
									 sync->column_count);
	Tuplestorestate *updated = tuplestore_begin_heap(false, false, work_mem);
	TupleTableSlot *old = begin_reading(data->tg_oldtable, desc);
	TupleTableSlot *new = begin_reading(data->tg_newtable, desc);

	for (;;)
	{
		bool		has_old = tuplestore_gettupleslot(data->tg_oldtable, true, false, old);
		bool		has_new = tuplestore_gettupleslot(data->tg_newtable, true, false, new);
		bool		same_key;

		if (!has_old && !has_new)
			break;
		CHECK_FOR_INTERRUPTS();
		same_key = has_old && has_new &&
			are_equal(old, new, keys, sync->key_count);
		if (has_old && !same_key)
			tuplestore_puttupleslot(updated, old);
		if (has_new &&
			!(same_key && are_equal(old, new, columns, sync->column_count)))
			tuplestore_puttupleslot(updated, new);
	}
	ExecDropSingleTupleTableSlot(old);
	ExecDropSingleTupleTableSlot(new);
	return updated;
}

/* Make the rows visible to the next statements as "ocean_rows". */
static void
register_rows(Tuplestorestate *rows, const TriggerData *data)
{
	EphemeralNamedRelation relation = palloc0(sizeof(*relation));

	relation->md.name = pstrdup("ocean_rows");
	relation->md.reliddesc = RelationGetRelid(data->tg_relation);
	relation->md.enrtype = ENR_NAMED_TUPLESTORE;
	relation->md.enrtuples = (double) tuplestore_tuple_count(rows);
	relation->reldata = rows;
	if (SPI_register_relation(relation) != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not look at the changed rows");
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

/* Note the keys of these rows, or a NULL key for the whole table. */
static void
note_rows(const OeSync *sync, const TriggerData *data, Tuplestorestate *rows)
{
	OeStatement *statement = &trigger_plan(data->tg_trigger->tgoid)->statement;
	Datum		value = Int64GetDatum(sync->id);

	if (rows && tuplestore_tuple_count(rows) == 0)
		return;
	if (rows)
		register_rows(rows, data);
	oe_statement_set(statement,
					 psprintf("INSERT INTO ocean_enrich.sync_inbox (sync_id, key) SELECT $1, %s",
							  rows ? psprintf("%s FROM ocean_rows AS r", oe_sync_key_sql(sync, "r"))
							  : "NULL::text[]"));
	statement->nargs = 1;
	statement->types[0] = INT8OID;
	oe_sync_note(statement, &value);
}

static void
note_changes(const OeSync *sync, const TriggerData *data)
{
	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		note_rows(sync, data, data->tg_newtable);
	else if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
		note_rows(sync, data, data->tg_oldtable);
	else if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
	{
		Tuplestorestate *updated = collect_updated(sync, data);

		note_rows(sync, data, updated);
		tuplestore_end(updated);
	}
	else
		note_rows(sync, data, NULL);
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
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
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
