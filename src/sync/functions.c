/*
 * functions.c
 *		The SQL-callable functions for syncs: create_sync(), alter_sync(),
 *		enable_sync(), disable_sync(), retry_sync(), drop_sync().
 *
 * A sync belongs to the owner of its table, whose triggers and policies run
 * when answers are written; so no code ever runs with more rights than those
 * of its table's owner.  Roles with that owner's rights can define the sync,
 * including superusers.
 *
 * Each function first locks the row of ocean_enrich.sync.  The applier locks
 * it FOR SHARE in each transaction, so it cannot redo anything that is undone
 * here.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/errors.h"
#include "base/rights.h"
#include "shared/enqueue.h"
#include "shared/ledger.h"
#include "shared/sync_notes.h"
#include "sync/definition.h"

PG_FUNCTION_INFO_V1(ocean_enrich_create_sync);
PG_FUNCTION_INFO_V1(ocean_enrich_alter_sync);
PG_FUNCTION_INFO_V1(ocean_enrich_enable_sync);
PG_FUNCTION_INFO_V1(ocean_enrich_disable_sync);
PG_FUNCTION_INFO_V1(ocean_enrich_retry_sync);
PG_FUNCTION_INFO_V1(ocean_enrich_drop_sync);
PG_FUNCTION_INFO_V1(ocean_enrich_database_identity);

/* Number of keys noted per round of the scan of existing rows. */
#define SCAN_ROWS		10000

static const char *const trigger_events[] = {
	"insert", "update", "delete", "truncate"
};

/* Differs in a restored copy, and in one by CREATE DATABASE ... TEMPLATE. */
Datum
ocean_enrich_database_identity(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(oe_ledger_database()));
}

/* ----------------------------------------------------------------
 * Helpers
 * ---------------------------------------------------------------- */

static void
connect_spi(void)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

static const char *
text_argument(FunctionCallInfo fcinfo, int number, const char *name)
{
	if (PG_ARGISNULL(number))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("argument \"%s\" must not be null", name));
	return text_to_cstring(PG_GETARG_TEXT_PP(number));
}

static const char *
optional_text(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? NULL
		: text_to_cstring(PG_GETARG_TEXT_PP(number));
}

/* Run a statement as the extension's owner, since it changes its tables. */
static uint64
change_as_extension(const char *sql, int count, Oid *types, Datum *values, const char *nulls)
{
	OeRights	rights;
	uint64		processed;

	oe_rights_switch(&rights, oe_owner_of("sync"), OE_RIGHTS_PINNED);
	oe_sync_execute(sql, count, types, values, nulls);
	processed = SPI_processed;
	oe_rights_restore(&rights);
	return processed;
}

static uint64
change_by_id(const char *sql, int64 id)
{
	Oid			type = INT8OID;
	Datum		value = Int64GetDatum(id);

	return change_as_extension(sql, 1, &type, &value, NULL);
}

/* ----------------------------------------------------------------
 * The table
 * ---------------------------------------------------------------- */

static void
check_owner(Form_pg_class form)
{
	if (!has_privs_of_role(GetUserId(), form->relowner))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(form->relkind),
					   NameStr(form->relname));
}

/*
 * ShareRowExclusiveLock, as in CREATE TRIGGER, blocks changes of rows until we
 * are done.  The ownership is checked twice: before locking, since other roles
 * are not allowed to lock the table, and afterwards, since the owner may have
 * changed while we waited.
 */
static Relation
open_table(Oid relid, LOCKMODE lockmode)
{
	HeapTuple	tuple;
	Relation	relation = NULL;

	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (HeapTupleIsValid(tuple))
	{
		check_owner((Form_pg_class) GETSTRUCT(tuple));
		ReleaseSysCache(tuple);
		relation = try_table_open(relid, lockmode);
	}
	if (!relation)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("relation with OID %u does not exist", relid));
	check_owner(relation->rd_rel);
	return relation;
}

static void
check_table(Relation relation)
{
	const char *name = RelationGetRelationName(relation);
	char		kind = relation->rd_rel->relkind;

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("\"%s\" is not a table", name));
	if (relation->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("\"%s\" is a temporary table", name),
				errdetail("Answers are written by another process, which cannot access temporary tables."));
	if (IsCatalogRelation(relation))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("\"%s\" is a system catalog", name));
	if (kind == RELKIND_RELATION &&
		(relation->rd_rel->relhassubclass ||
		 (!relation->rd_rel->relispartition && has_superclass(RelationGetRelid(relation)))))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("\"%s\" is part of an inheritance tree", name),
				errdetail("Its keys need not be unique across the tree."),
				errhint("Use a partitioned table instead."));
}

static Form_pg_attribute
find_attribute(Relation relation, const char *name)
{
	TupleDesc	desc = RelationGetDescr(relation);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (!attribute->attisdropped &&
			strcmp(NameStr(attribute->attname), name) == 0)
			return attribute;
	}
	ereport(ERROR,
			errcode(ERRCODE_UNDEFINED_COLUMN),
			errmsg("column \"%s\" of relation \"%s\" does not exist", name,
				   RelationGetRelationName(relation)));
}

static int16
check_target(Relation relation, const char *name)
{
	Form_pg_attribute attribute = find_attribute(relation, name);

	if (attribute->attgenerated)
		ereport(ERROR,
				errcode(ERRCODE_GENERATED_ALWAYS),
				errmsg("target column \"%s\" is a generated column", name),
				errhint("Use an ordinary column, and generate the other one from it."));
	if (getBaseType(attribute->atttypid) != JSONBOID)
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("target column \"%s\" is of type %s, not jsonb", name,
					   format_type_be(attribute->atttypid)),
				errhint("Add a column of type jsonb for the answers."));
	return attribute->attnum;
}

static void
check_key_column(Relation relation, int16 number)
{
	Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(relation),
												number - 1);

	if (!oe_sync_is_key_type(attribute->atttypid))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("column \"%s\" of type %s cannot be part of a key",
					   NameStr(attribute->attname),
					   format_type_be(attribute->atttypid)),
				errhint("Key columns can be of integer, numeric, boolean, character, uuid, date, "
						"and timestamp types."));
	if (!attribute->attnotnull)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("key column \"%s\" is not marked NOT NULL",
					   NameStr(attribute->attname)),
				errhint("Mark the column NOT NULL."));
}

/* Does the table have a unique index on exactly these columns? */
static bool
is_unique(Oid relid, const int16 *numbers, int count)
{
	Oid			types[] = {OIDOID, INT2ARRAYOID};
	Datum		values[2];

	values[0] = ObjectIdGetDatum(relid);
	values[1] = oe_sync_number_array(numbers, count);
	return change_as_extension("SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = $1"
							   " AND i.indisunique AND i.indisvalid"
							   " AND i.indpred IS NULL AND i.indexprs IS NULL"
							   " AND (SELECT array_agg(k ORDER BY k)"
							   " FROM unnest(i.indkey) WITH ORDINALITY AS u (k, n) WHERE n <= i.indnkeyatts)"
							   " = (SELECT array_agg(k ORDER BY k) FROM unnest($2) AS k)",
							   2, types, values, NULL) > 0;
}

static void
check_key(Relation relation, OeSync *sync)
{
	if (sync->key_count > OE_SYNC_KEY_MAX)
		ereport(ERROR,
				errcode(ERRCODE_TOO_MANY_COLUMNS),
				errmsg("the key has more than %d columns", OE_SYNC_KEY_MAX),
				errhint("Specify a key with fewer columns."));
	for (int i = 0; i < sync->key_count; i++)
		check_key_column(relation, sync->key_numbers[i]);
	if (!is_unique(RelationGetRelid(relation), sync->key_numbers, sync->key_count))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("table \"%s\" has no unique index on exactly the columns of the key",
					   RelationGetRelationName(relation)),
				errhint("Create such an index, or specify another key."));
}

static void
key_from_names(Relation relation, Datum names, OeSync *sync)
{
	Datum	   *values;
	bool	   *nulls;

	deconstruct_array(DatumGetArrayTypeP(names), NAMEOID, NAMEDATALEN, false,
					  TYPALIGN_CHAR, &values, &nulls, &sync->key_count);
	if (sync->key_count == 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the key has no columns"));
	sync->key_numbers = palloc(sizeof(int16) * sync->key_count);
	for (int i = 0; i < sync->key_count; i++)
		sync->key_numbers[i] = find_attribute(relation, nulls[i] ? ""
											  : NameStr(*DatumGetName(values[i])))->attnum;
}

static void
key_from_primary_key(Relation relation, OeSync *sync)
{
	Oid			type = OIDOID;
	Datum		value = ObjectIdGetDatum(RelationGetRelid(relation));

	if (change_as_extension("SELECT u.k FROM pg_catalog.pg_index AS i,"
							" unnest(i.indkey) WITH ORDINALITY AS u (k, n)"
							" WHERE i.indrelid = $1 AND i.indisprimary AND n <= i.indnkeyatts ORDER BY n",
							1, &type, &value, NULL) == 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("table \"%s\" has no primary key",
					   RelationGetRelationName(relation)),
				errhint("Specify the columns of a unique index as \"key\"."));
	sync->key_count = (int) SPI_processed;
	sync->key_numbers = palloc(sizeof(int16) * sync->key_count);
	for (int i = 0; i < sync->key_count; i++)
	{
		bool		isnull;

		sync->key_numbers[i] =
			DatumGetInt16(SPI_getbinval(SPI_tuptable->vals[i],
										SPI_tuptable->tupdesc, 1, &isnull));
	}
}

/* ----------------------------------------------------------------
 * The expressions
 * ---------------------------------------------------------------- */

/* Parse with the owner's rights, but with the caller's search_path. */
static void
parse_expressions(Relation relation, OeSync *sync, const char *request,
				  const char *condition)
{
	OeRights	rights;

	oe_rights_switch(&rights, sync->owner, OE_RIGHTS_RESTRICTED);
	oe_sync_parse(sync, relation, request, condition);
	oe_rights_restore(&rights);
}

/* Run the statement without rows, which checks all names and privileges. */
static void
try_statement(const OeSync *sync, char *sql, bool answers)
{
	int			count = sync->key_count + (answers ? 1 : 0);
	Oid		   *types = palloc(sizeof(Oid) * count);
	Datum	   *values = palloc(sizeof(Datum) * count);

	for (int i = 0; i < count; i++)
	{
		types[i] = i < sync->key_count ? TEXTARRAYOID : get_array_type(JSONBOID);
		values[i] = PointerGetDatum(construct_empty_array(i < sync->key_count
														  ? TEXTOID : JSONBOID));
	}
	oe_sync_execute(sql, count, types, values, NULL);
}

static void
try_statements(const OeSync *sync)
{
	OeRights	rights;

	oe_rights_switch(&rights, sync->owner,
					 OE_RIGHTS_RESTRICTED | OE_RIGHTS_PINNED);
	try_statement(sync, oe_sync_evaluate_sql(sync, true), false);
	try_statement(sync, oe_sync_write_sql(sync), true);
	oe_rights_restore(&rights);
}

/* The paying role must be allowed to submit requests without a sync, too. */
static void
check_may_submit(Oid owner)
{
	Oid			type = OIDOID;
	Datum		value = ObjectIdGetDatum(owner);

	if (change_as_extension("SELECT WHERE pg_catalog.has_function_privilege($1,"
							" 'ocean_enrich.submit(jsonb, integer, timestamptz, text)', 'EXECUTE')",
							1, &type, &value, NULL) == 0)
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("role \"%s\" is not allowed to submit requests",
					   GetUserNameFromId(owner, false)),
				errdetail("The requests of a sync are charged to the owner of the table."),
				errhint("Grant the role EXECUTE on function ocean_enrich.submit()."));
}

/* ----------------------------------------------------------------
 * Triggers
 * ---------------------------------------------------------------- */

static bool
has_trigger(Oid relation, const char *name)
{
	Oid			types[] = {OIDOID, NAMEOID};
	Datum		values[2];
	NameData	trigger;

	namestrcpy(&trigger, name);
	values[0] = ObjectIdGetDatum(relation);
	values[1] = NameGetDatum(&trigger);
	return change_as_extension("SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = $1 AND tgname = $2",
							   2, types, values, NULL) > 0;
}

/* Create missing triggers, as the extension's owner: no user's code runs. */
static void
create_triggers_on(int64 id, Oid relation)
{
	static const char *const references[] = {
		"REFERENCING NEW TABLE AS ocean_new",
		"REFERENCING OLD TABLE AS ocean_old NEW TABLE AS ocean_new",
		"REFERENCING OLD TABLE AS ocean_old",
		""
	};
	char	   *table = quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)),
												   get_rel_name(relation));

	for (int i = 0; i < (int) lengthof(trigger_events); i++)
	{
		char	   *name = psprintf("ocean_enrich_" INT64_FORMAT "_%s", id,
									trigger_events[i]);

		if (!has_trigger(relation, name))
			(void) change_as_extension(psprintf("CREATE TRIGGER %s AFTER %s ON %s %s FOR EACH STATEMENT"
												" EXECUTE FUNCTION ocean_enrich.sync_changed('" INT64_FORMAT "')",
												name, trigger_events[i], table, references[i], id),
									   0, NULL, NULL, NULL);
	}
}

/*
 * Statements on a partition fire its own triggers, not its parent's.  If none
 * is missing, "lockmode" is enough.
 */
static void
create_triggers(const OeSync *sync, LOCKMODE lockmode)
{
	List	   *relations = find_all_inheritors(sync->relation, lockmode, NULL);
	ListCell   *lc;

	foreach(lc, relations)
	{
		if (get_rel_relkind(lfirst_oid(lc)) != RELKIND_FOREIGN_TABLE)
			create_triggers_on(sync->id, lfirst_oid(lc));
	}
}

/* Drop triggers on all tables: a partition may have been detached. */
static void
drop_triggers(int64 id)
{
	uint64		count;
	char	  **statements;

	count = change_as_extension(psprintf("SELECT pg_catalog.format('DROP TRIGGER %%I ON %%s', tgname, tgrelid::regclass)"
										 " FROM pg_catalog.pg_trigger"
										 " WHERE tgfoid = 'ocean_enrich.sync_changed()'::regprocedure"
										 " AND tgname ~ '^ocean_enrich_" INT64_FORMAT "_[a-z]+$'", id),
								0, NULL, NULL, NULL);
	statements = palloc(sizeof(char *) * Max(count, 1));
	for (uint64 i = 0; i < count; i++)
		statements[i] = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
	for (uint64 i = 0; i < count; i++)
		(void) change_as_extension(statements[i], 0, NULL, NULL, NULL);
}

/* ----------------------------------------------------------------
 * Existing rows
 * ---------------------------------------------------------------- */

/* Note the rows of the last result, which has a column for each key column. */
static uint64
note_keys(const OeSync *sync)
{
	int			count = sync->key_count + 1;
	Oid		   *types = palloc(sizeof(Oid) * count);
	Datum	   *values = palloc(sizeof(Datum) * count);
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "INSERT INTO ocean_enrich.sync_row (sync_id, key, state)"
						   " SELECT $1, ARRAY[");
	for (int i = 1; i < count; i++)
		appendStringInfo(&sql, "%sk%d", i > 1 ? ", " : "", i);
	appendStringInfoString(&sql, "], 'changed' FROM unnest(");
	for (int i = 1; i < count; i++)
		appendStringInfo(&sql, "%s$%d", i > 1 ? ", " : "", i + 1);
	appendStringInfoString(&sql, ") AS u (");
	for (int i = 1; i < count; i++)
		appendStringInfo(&sql, "%sk%d", i > 1 ? ", " : "", i);
	appendStringInfoString(&sql, ") ON CONFLICT DO NOTHING");

	types[0] = INT8OID;
	values[0] = Int64GetDatum(sync->id);
	for (int i = 1; i < count; i++)
	{
		types[i] = TEXTARRAYOID;
		values[i] = oe_sync_result_array(i, TEXTOID);
	}
	return change_as_extension(sql.data, count, types, values, NULL);
}

/*
 * Note the keys of all wanted rows; they are evaluated with the owner's rights
 * and noted with those of the extension's owner.  Uses a new snapshot, since
 * rows may have been committed between the transaction's snapshot and our
 * lock.
 */
static uint64
enqueue_existing(const OeSync *sync)
{
	OeRights	rights;
	SPIPlanPtr	plan;
	Portal		portal;
	uint64		noted = 0;
	uint64		count;

	oe_rights_switch(&rights, sync->owner,
					 OE_RIGHTS_RESTRICTED | OE_RIGHTS_PINNED);
	plan = SPI_prepare(oe_sync_scan_sql(sync), 0, NULL);
	if (!plan)
		elog(ERROR, "could not prepare a statement for a sync");
	PushActiveSnapshot(GetLatestSnapshot());
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	PopActiveSnapshot();
	do
	{
		SPITupleTable *rows;

		SPI_cursor_fetch(portal, true, SCAN_ROWS);
		count = SPI_processed;
		rows = SPI_tuptable;
		if (count > 0)
			noted += note_keys(sync);
		SPI_freetuptable(rows);
	} while (count > 0);
	SPI_cursor_close(portal);
	oe_rights_restore(&rights);
	return noted;
}

/* ----------------------------------------------------------------
 * Definitions
 * ---------------------------------------------------------------- */

static void
check_name(const char *name)
{
	Oid			type = TEXTOID;
	Datum		value = CStringGetTextDatum(name);

	if (name[0] == '\0')
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"name\" must not be empty"));
	if (change_as_extension("SELECT FROM ocean_enrich.sync WHERE name = $1",
							1, &type, &value, NULL) > 0)
		ereport(ERROR,
				errcode(ERRCODE_DUPLICATE_OBJECT),
				errmsg("sync \"%s\" already exists", name));
}

/* The table's current owner, or the last known one if the table is gone. */
static Oid
current_owner(const OeSync *sync)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(sync->relation));
	Oid			owner = sync->owner;

	if (!HeapTupleIsValid(tuple))
		return owner;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* Lock the sync's row; only for roles with its owner's rights. */
static void
lock_definition(const char *name, OeSync *sync)
{
	Oid			type = TEXTOID;
	Datum		value = CStringGetTextDatum(name);

	if (change_as_extension("SELECT " OE_SYNC_COLUMNS " FROM ocean_enrich.sync"
							" WHERE name = $1 FOR UPDATE", 1, &type, &value, NULL) == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("sync \"%s\" does not exist", name));
	oe_sync_fill(sync, 0);
	if (!has_privs_of_role(GetUserId(), current_owner(sync)))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("must be owner of sync \"%s\"", name));
}

/* Open and lock an existing sync and its table. */
static Relation
open_definition(const char *name, LOCKMODE lockmode, OeSync *sync)
{
	Relation	relation;

	connect_spi();
	lock_definition(name, sync);
	sync->endpoint = oe_queue_endpoint(sync->endpoint_name);
	relation = open_table(sync->relation, lockmode);
	check_table(relation);
	sync->owner = relation->rd_rel->relowner;
	check_may_submit(sync->owner);
	return relation;
}

/* Close the table.  The applier is notified when the transaction commits. */
static void
close_definition(Relation relation)
{
	table_close(relation, NoLock);
	SPI_finish();
	oe_sync_wake_at_commit();
}

static void
store_definition(OeSync *sync, Datum refresh_after, bool refreshes)
{
	Oid			types[] = {INT8OID, INTERVALOID};
	Datum		values[2];
	OeRights	rights;

	oe_rights_switch(&rights, oe_owner_of("sync"), OE_RIGHTS_PINNED);
	oe_sync_store(sync);
	values[0] = Int64GetDatum(sync->id);
	values[1] = refresh_after;
	oe_sync_execute("UPDATE ocean_enrich.sync SET refresh_after = $2 WHERE sync_id = $1",
					2, types, values, refreshes ? NULL : " n");
	oe_rights_restore(&rights);
}

/* Returns false for NULL or 0, which mean never. */
static bool
refresh_argument(FunctionCallInfo fcinfo, int number, Datum *value)
{
	Interval   *interval;

	if (PG_ARGISNULL(number))
		return false;
	interval = PG_GETARG_INTERVAL_P(number);
	*value = IntervalPGetDatum(interval);
	if (interval->time < 0 || interval->day < 0 || interval->month < 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"refresh_after\" must not be negative"));
	return interval->time > 0 || interval->day > 0 || interval->month > 0;
}

/* ----------------------------------------------------------------
 * The functions
 * ---------------------------------------------------------------- */

Datum
ocean_enrich_create_sync(PG_FUNCTION_ARGS)
{
	const char *name = text_argument(fcinfo, 0, "name");
	const char *request = text_argument(fcinfo, 2, "request");
	const char *condition = optional_text(fcinfo, 5);
	OeSync		sync = {0};
	Relation	relation;
	Datum		refresh_after = (Datum) 0;
	bool		refreshes;
	uint64		noted = 0;

	if (PG_ARGISNULL(1) || PG_ARGISNULL(3))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("arguments \"relation\" and \"target\" must not be null"));
	oe_prevent_if_read_only("ocean_enrich.create_sync()");
	connect_spi();
	check_name(name);
	relation = open_table(PG_GETARG_OID(1), ShareRowExclusiveLock);
	check_table(relation);

	sync.name = name;
	sync.relation = RelationGetRelid(relation);
	sync.owner = relation->rd_rel->relowner;
	sync.target_number = check_target(relation, NameStr(*PG_GETARG_NAME(3)));
	sync.priority = PG_ARGISNULL(8) ? 0 : PG_GETARG_INT32(8);
	sync.endpoint = oe_queue_endpoint(optional_text(fcinfo, 9));
	if (PG_ARGISNULL(4))
		key_from_primary_key(relation, &sync);
	else
		key_from_names(relation, PG_GETARG_DATUM(4), &sync);
	check_key(relation, &sync);
	refreshes = refresh_argument(fcinfo, 7, &refresh_after);
	check_may_submit(sync.owner);
	parse_expressions(relation, &sync, request, condition);

	store_definition(&sync, refresh_after, refreshes);
	create_triggers(&sync, ShareRowExclusiveLock);
	try_statements(&sync);
	if (PG_ARGISNULL(6) || PG_GETARG_BOOL(6))
		noted = enqueue_existing(&sync);
	close_definition(relation);
	PG_RETURN_INT64((int64) noted);
}

/* Get the stored refresh_after; false if there is none. */
static bool
stored_refresh(int64 id, Datum *value)
{
	bool		isnull;

	(void) change_by_id("SELECT refresh_after FROM ocean_enrich.sync WHERE sync_id = $1", id);
	*value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	return !isnull;
}

static void
rename_to(OeSync *sync, const char *name)
{
	if (strcmp(sync->name, name) == 0)
		return;
	check_name(name);
	sync->name = name;
}

/*
 * Mark all rows as changed.  Unchanged requests keep their call, so nothing is
 * paid for twice.
 */
static void
look_again_at_all(const OeSync *sync, bool write_again)
{
	/* Wait for triggers that used the old columns, on partitions, too. */
	(void) find_all_inheritors(sync->relation, ShareRowExclusiveLock, NULL);
	if (write_again)
		(void) change_by_id("UPDATE ocean_enrich.sync_row SET settled_at = NULL"
							" WHERE sync_id = $1 AND settled_at IS NOT NULL", sync->id);
	(void) change_by_id("UPDATE ocean_enrich.sync_row SET state = 'changed', differences = 0"
						" WHERE sync_id = $1 AND state NOT IN ('changed', 'forgotten')", sync->id);
	(void) enqueue_existing(sync);
}

Datum
ocean_enrich_alter_sync(PG_FUNCTION_ARGS)
{
	const char *request = optional_text(fcinfo, 1);
	const char *condition = optional_text(fcinfo, 3);
	OeSync		sync;
	Relation	relation;
	Datum		refresh_after;
	bool		refreshes;

	oe_prevent_if_read_only("ocean_enrich.alter_sync()");
	relation = open_definition(text_argument(fcinfo, 0, "name"),
							   ShareRowExclusiveLock, &sync);
	if (!PG_ARGISNULL(2))
		sync.target_number = check_target(relation, NameStr(*PG_GETARG_NAME(2)));
	refreshes = PG_ARGISNULL(4) ? stored_refresh(sync.id, &refresh_after)
		: refresh_argument(fcinfo, 4, &refresh_after);
	if (!PG_ARGISNULL(5))
		sync.priority = PG_GETARG_INT32(5);
	if (!PG_ARGISNULL(6))
		rename_to(&sync, text_argument(fcinfo, 6, "new_name"));
	parse_expressions(relation, &sync, request, condition);

	store_definition(&sync, refresh_after, refreshes);
	try_statements(&sync);
	if (request || condition || !PG_ARGISNULL(2))
		look_again_at_all(&sync, !PG_ARGISNULL(2));
	close_definition(relation);
	PG_RETURN_VOID();
}

/*
 * Adopt a sync in a copy of the database.  If queued calls were copied, as by
 * pg_upgrade, they are cancelled, since all waiting rows are requested anew.
 */
static void
adopt_sync(OeSync *sync, Relation relation)
{
	oe_sync_find_by_name(sync);
	(void) check_target(relation, sync->target_name);
	for (int i = 0; i < sync->key_count; i++)
		(void) find_attribute(relation, sync->key_names[i]);
	for (int i = 0; i < sync->column_count; i++)
		(void) find_attribute(relation, sync->column_names[i]);
	oe_cancel_sync(sync->id);
	(void) change_by_id("UPDATE ocean_enrich.sync_row AS r SET state = 'changed', call_id = NULL"
						" WHERE sync_id = $1 AND state = 'queued'", sync->id);
}

Datum
ocean_enrich_enable_sync(PG_FUNCTION_ARGS)
{
	OeSync		sync;
	Relation	relation;
	Datum		refresh_after;
	bool		refreshes;

	oe_prevent_if_read_only("ocean_enrich.enable_sync()");
	relation = open_definition(text_argument(fcinfo, 0, "name"),
							   AccessShareLock, &sync);
	if (sync.is_copy)
		adopt_sync(&sync, relation);
	check_key(relation, &sync);
	refreshes = stored_refresh(sync.id, &refresh_after);
	parse_expressions(relation, &sync, NULL, NULL);

	store_definition(&sync, refresh_after, refreshes);
	(void) change_by_id("UPDATE ocean_enrich.sync SET enabled = true,"
						" database = ocean_enrich.database_identity(),"
						" problem_code = NULL, problem = NULL, problem_at = NULL"
						" WHERE sync_id = $1", sync.id);
	create_triggers(&sync, AccessShareLock);
	try_statements(&sync);
	close_definition(relation);
	PG_RETURN_VOID();
}

Datum
ocean_enrich_disable_sync(PG_FUNCTION_ARGS)
{
	OeSync		sync;

	oe_prevent_if_read_only("ocean_enrich.disable_sync()");
	connect_spi();
	lock_definition(text_argument(fcinfo, 0, "name"), &sync);
	(void) change_by_id("UPDATE ocean_enrich.sync SET enabled = false WHERE sync_id = $1",
						sync.id);
	oe_cancel_sync(sync.id);
	SPI_finish();
	PG_RETURN_VOID();
}

Datum
ocean_enrich_retry_sync(PG_FUNCTION_ARGS)
{
	OeSync		sync;
	uint64		count;

	oe_prevent_if_read_only("ocean_enrich.retry_sync()");
	connect_spi();
	lock_definition(text_argument(fcinfo, 0, "name"), &sync);
	count = change_by_id("UPDATE ocean_enrich.sync_row SET state = 'changed', differences = 0"
						 " WHERE sync_id = $1 AND state IN ('failed', 'unknown')", sync.id);
	SPI_finish();
	oe_sync_wake_at_commit();
	PG_RETURN_INT64((int64) count);
}

Datum
ocean_enrich_drop_sync(PG_FUNCTION_ARGS)
{
	static const char *const tables[] = {
		"sync_inbox", "sync_settled", "sync_row", "sync_count", "sync"
	};
	OeSync		sync;

	oe_prevent_if_read_only("ocean_enrich.drop_sync()");
	connect_spi();
	lock_definition(text_argument(fcinfo, 0, "name"), &sync);
	oe_cancel_sync(sync.id);
	drop_triggers(sync.id);
	for (int i = 0; i < (int) lengthof(tables); i++)
		(void) change_by_id(psprintf("DELETE FROM ocean_enrich.%s WHERE sync_id = $1",
									 tables[i]), sync.id);
	SPI_finish();
	PG_RETURN_VOID();
}
