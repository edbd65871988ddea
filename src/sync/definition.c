/*
 * definition.c
 *		The definition of a sync, and the statements derived from it.
 *
 * Expressions are parsed as their author writes them, and stored as text with
 * qualified names.  Columns are identified by number: where the expression is
 * evaluated, each column that it uses gets the name that it had when stored,
 * so columns and tables can be renamed.  All other columns get names that no
 * expression uses.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/statement.h"
#include "shared/enqueue.h"
#include "shared/ledger.h"
#include "sync/definition.h"

/* ----------------------------------------------------------------
 * Statements that are run once
 * ---------------------------------------------------------------- */
void
oe_sync_execute(const char *sql, int count, Oid *types, Datum *values,
				const char *nulls)
{
	int			rc = SPI_execute_with_args(sql, count, types, values, nulls,
										   false, 0);

	if (rc < 0)
		elog(ERROR, "could not execute a statement for a sync: %s",
			 SPI_result_code_string(rc));
}

Datum
oe_sync_result_array(int column, Oid type)
{
	int			count = (int) SPI_processed;
	Datum	   *values = palloc(sizeof(Datum) * Max(count, 1));
	bool	   *nulls = palloc(sizeof(bool) * Max(count, 1));

	for (int i = 0; i < count; i++)
		values[i] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc,
								  column, &nulls[i]);
	return oe_statement_array(values, nulls, count, type);
}

/* ----------------------------------------------------------------
 * Reading the table ocean_enrich.sync
 * ---------------------------------------------------------------- */

/* The order of OE_SYNC_COLUMNS. */
enum
{
	C_SYNC_ID = 1,
	C_NAME,
	C_OWNER,
	C_RELATION,
	C_ENABLED,
	C_ENDPOINT,
	C_REQUEST,
	C_CONDITION,
	C_TABLE_NAME,
	C_COLUMN_NAMES,
	C_COLUMN_NUMBERS,
	C_KEY,
	C_KEY_NUMBERS,
	C_TARGET,
	C_TARGET_NUMBER,
	C_PRIORITY,
	C_DATABASE
};

static Datum
result_datum(int row, int number)
{
	bool		isnull;

	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						 number, &isnull);
}

static char *
result_text(int row, int number)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, number);
}

static int16 *
number_array(Datum array, int *count)
{
	Datum	   *values;
	int16	   *numbers;

	deconstruct_array(DatumGetArrayTypeP(array), INT2OID, sizeof(int16), true,
					  TYPALIGN_SHORT, &values, NULL, count);
	numbers = palloc(sizeof(int16) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
		numbers[i] = DatumGetInt16(values[i]);
	return numbers;
}

static const char **
name_array(Datum array, int *count)
{
	Datum	   *values;
	const char **names;

	deconstruct_array(DatumGetArrayTypeP(array), NAMEOID, NAMEDATALEN, false,
					  TYPALIGN_CHAR, &values, NULL, count);
	names = palloc(sizeof(char *) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
		names[i] = pstrdup(NameStr(*DatumGetName(values[i])));
	return names;
}

void
oe_sync_fill(OeSync *sync, int row)
{
	int			count;

	sync->id = DatumGetInt64(result_datum(row, C_SYNC_ID));
	sync->name = result_text(row, C_NAME);
	sync->owner = DatumGetObjectId(result_datum(row, C_OWNER));
	sync->relation = DatumGetObjectId(result_datum(row, C_RELATION));
	sync->enabled = DatumGetBool(result_datum(row, C_ENABLED));
	sync->endpoint_name = result_text(row, C_ENDPOINT);
	sync->endpoint = oe_endpoint_find(sync->endpoint_name);
	if (sync->endpoint && !sync->endpoint->recorded)
		sync->endpoint = NULL;
	sync->request = result_text(row, C_REQUEST);
	sync->condition = result_text(row, C_CONDITION);
	sync->table_name = result_text(row, C_TABLE_NAME);
	sync->column_names = name_array(result_datum(row, C_COLUMN_NAMES),
									&sync->column_count);
	sync->column_numbers = number_array(result_datum(row, C_COLUMN_NUMBERS), &count);
	if (count != sync->column_count)
		elog(ERROR, "sync " INT64_FORMAT " has %d names for %d columns",
			 sync->id, sync->column_count, count);
	sync->key_names = name_array(result_datum(row, C_KEY), &count);
	sync->key_numbers = number_array(result_datum(row, C_KEY_NUMBERS),
									 &sync->key_count);
	if (count != sync->key_count)
		elog(ERROR, "sync " INT64_FORMAT " has %d names for %d key columns",
			 sync->id, count, sync->key_count);
	sync->target_name = result_text(row, C_TARGET);
	sync->target_number = DatumGetInt16(result_datum(row, C_TARGET_NUMBER));
	sync->priority = DatumGetInt32(result_datum(row, C_PRIORITY));
	sync->is_copy = strcmp(result_text(row, C_DATABASE), oe_ledger_database()) != 0;
}

void
oe_sync_find_by_name(OeSync *sync)
{
	sync->target_number = get_attnum(sync->relation, sync->target_name);
	for (int i = 0; i < sync->key_count; i++)
		sync->key_numbers[i] = get_attnum(sync->relation, sync->key_names[i]);
	for (int i = 0; i < sync->column_count; i++)
		sync->column_numbers[i] = get_attnum(sync->relation, sync->column_names[i]);
}

/* ----------------------------------------------------------------
 * Expressions
 * ---------------------------------------------------------------- */

/* Returns the GUC nesting level to restore. */
static int
pin_search_path(void)
{
	int			level = NewGUCNestLevel();

	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	return level;
}

/* The column's name in the expressions, or a name that they do not use. */
static const char *
column_name(const OeSync *sync, int16 number)
{
	for (int i = 0; i < sync->column_count; i++)
	{
		if (sync->column_numbers[i] == number)
			return sync->column_names[i];
	}
	return psprintf("..%d", number);
}

typedef struct ColumnsContext
{
	int			sublevels_up;
	bool		whole_row;
	Bitmapset  *numbers;		/* columns of the only relation */
} ColumnsContext;

static bool
find_columns(Node *node, void *arg)
{
	ColumnsContext *context = arg;

	if (!node)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if ((int) var->varlevelsup != context->sublevels_up)
			return false;
		if (var->varattno > 0)
			context->numbers = bms_add_member(context->numbers, var->varattno);
		else
			context->whole_row = true;
		return false;
	}
	if (IsA(node, Query))
	{
		bool		result;

		context->sublevels_up++;
		result = query_tree_walker((Query *) node, find_columns, context, 0);
		context->sublevels_up--;
		return result;
	}
	return expression_tree_walker(node, find_columns, context);
}

/* Errors point into the expression, not into the calling statement. */
static void
point_into_expression(void *text)
{
	int			position = geterrposition();

	if (position <= 0)
		return;
	errposition(0);
	internalerrposition(position);
	internalerrquery(text);
}

/* Accepts exactly one expression and nothing after it. */
static Node *
parse_alone(const char *text, const char *what)
{
	List	   *parsed = raw_parser(text, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select = (SelectStmt *) linitial_node(RawStmt, parsed)->stmt;

	if (!IsA(select, SelectStmt) || list_length(select->targetList) != 1 ||
		linitial_node(ResTarget, select->targetList)->name ||
		select->distinctClause || select->intoClause || select->fromClause ||
		select->whereClause || select->groupClause || select->havingClause ||
		select->windowClause || select->valuesLists || select->sortClause ||
		select->limitOffset || select->limitCount || select->lockingClause ||
		select->withClause || select->op != SETOP_NONE)
		ereport(ERROR,
				errcode(ERRCODE_SYNTAX_ERROR),
				errmsg("the %s is not a single expression", what));
	return linitial_node(ResTarget, select->targetList)->val;
}

/* The names that the stored expressions use, for each existing column. */
static Alias *
known_names(const OeSync *sync, Relation relation)
{
	TupleDesc	desc = RelationGetDescr(relation);
	List	   *names = NIL;

	for (int i = 0; i < desc->natts; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped)
			names = lappend(names, makeString(pstrdup(column_name(sync, i + 1))));
	}
	return makeAlias(sync->table_name, names);
}

void
oe_sync_check_request_type(Oid type)
{
	if (type == JSONBOID)
		return;
	ereport(ERROR,
			errcode(ERRCODE_DATATYPE_MISMATCH),
			errmsg("the request is of type %s, not jsonb",
				   format_type_be(type)),
			errhint("Build the request with ocean_person_request()."));
}

/* Use an explicit cast, since an implicit one would not be deparsed. */
static Node *
coerce_request(ParseState *pstate, Node *expression)
{
	Oid			type = exprType(expression);

	expression = coerce_to_target_type(pstate, expression, type, JSONBOID, -1,
									   COERCION_ASSIGNMENT,
									   COERCE_EXPLICIT_CAST, -1);
	if (!expression)
		oe_sync_check_request_type(type);
	return expression;
}

static Node *
coerce_condition(ParseState *pstate, Node *expression)
{
	return coerce_to_boolean(pstate, expression, "condition");
}

static Node *
analyze_expression(ParseState *pstate, const char *text, Relation relation, Alias *alias,
				   const char *what, Node *(*coerce) (ParseState *, Node *))
{
	ParseNamespaceItem *item;
	ErrorContextCallback callback;
	Node	   *expression;

	callback.callback = point_into_expression;
	callback.arg = unconstify(char *, text);
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	pstate->p_sourcetext = text;
	item = addRangeTableEntryForRelation(pstate, relation, AccessShareLock,
										 alias, false, true);
	addNSItemToQuery(pstate, item, true, true, true);
	expression = transformExpr(pstate, parse_alone(text, what), EXPR_KIND_WHERE);
	expression = coerce(pstate, expression);

	error_context_stack = callback.previous;
	return expression;
}

static char *
finish_expression(ParseState *pstate, Node *expression, Relation relation,
				  const char *what, Bitmapset **columns)
{
	ColumnsContext context = {0};
	char	   *text;
	int			level;

	assign_expr_collations(pstate, expression);
	free_parsestate(pstate);

	/* A request that differs each time would be paid for again and again. */
	if (contain_volatile_functions(expression))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("volatile functions are not allowed in the %s", what),
				errdetail("The request could differ each time it is evaluated, and each would be paid for."),
				errhint("Use columns of the table, and functions marked IMMUTABLE or STABLE."));
	(void) find_columns(expression, &context);
	if (context.whole_row)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("whole-row references and system columns are not allowed in the %s", what),
				errhint("Refer to individual columns."));
	*columns = bms_add_members(*columns, context.numbers);

	/* With pg_catalog alone in the path, all other names are qualified. */
	level = pin_search_path();
	text = deparse_expression(expression,
							  deparse_context_for(RelationGetRelationName(relation),
												  RelationGetRelid(relation)),
							  false, false);
	AtEOXact_GUC(true, level);
	return text;
}

static char *
parse_request(const char *text, Relation relation, Alias *alias, int16 target,
			  Bitmapset **columns)
{
	ParseState *pstate = make_parsestate(NULL);
	Node	   *expression = analyze_expression(pstate, text, relation, alias, "request",
												coerce_request);
	Bitmapset  *used = NULL;
	char	   *full;

	full = finish_expression(pstate, expression, relation, "request", &used);
	if (bms_is_member(target, used))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the target column is not allowed in the request"),
				errdetail("Each answer would cause another request."));
	*columns = bms_add_members(*columns, used);
	return full;
}

static char *
parse_condition(const char *text, Relation relation, Alias *alias,
				Bitmapset **columns)
{
	ParseState *pstate = make_parsestate(NULL);
	Node	   *expression = analyze_expression(pstate, text, relation, alias, "condition",
												coerce_condition);

	return finish_expression(pstate, expression, relation, "condition", columns);
}

static void
set_columns(OeSync *sync, Relation relation, const Bitmapset *columns)
{
	int			number = -1;

	sync->table_name = pstrdup(RelationGetRelationName(relation));
	sync->column_count = 0;
	sync->column_numbers = palloc(sizeof(int16) * Max(bms_num_members(columns), 1));
	sync->column_names = palloc(sizeof(char *) * Max(bms_num_members(columns), 1));
	while ((number = bms_next_member(columns, number)) >= 0)
	{
		sync->column_numbers[sync->column_count] = number;
		sync->column_names[sync->column_count++] =
			get_attname(sync->relation, number, false);
	}
}

/* Stored expressions have qualified names, so pg_catalog alone suffices. */
static void
parse_stored(OeSync *sync, Relation relation, bool request, bool condition,
			 Bitmapset **columns)
{
	Alias	   *known = known_names(sync, relation);
	int			level = pin_search_path();

	if (request)
		sync->request = parse_request(sync->request, relation, known,
									  sync->target_number, columns);
	if (condition)
		sync->condition = parse_condition(sync->condition, relation, known,
										  columns);
	AtEOXact_GUC(true, level);
}

void
oe_sync_parse(OeSync *sync, Relation relation, const char *request,
			  const char *condition)
{
	Bitmapset  *columns = NULL;

	if (!request || (!condition && sync->condition))
		parse_stored(sync, relation, !request, !condition && sync->condition,
					 &columns);
	if (request)
		sync->request = parse_request(request, relation, NULL,
									  sync->target_number, &columns);
	if (condition)
		sync->condition = condition[0] != '\0'
			? parse_condition(condition, relation, NULL, &columns) : NULL;
	set_columns(sync, relation, columns);
}

static bool
is_renamed(const OeSync *sync, int16 number, const char *name)
{
	return strcmp(name, get_attname(sync->relation, number, false)) != 0;
}

bool
oe_sync_was_renamed(const OeSync *sync)
{
	if (strcmp(sync->table_name, get_rel_name(sync->relation)) != 0 ||
		is_renamed(sync, sync->target_number, sync->target_name))
		return true;
	for (int i = 0; i < sync->column_count; i++)
	{
		if (is_renamed(sync, sync->column_numbers[i], sync->column_names[i]))
			return true;
	}
	for (int i = 0; i < sync->key_count; i++)
	{
		if (is_renamed(sync, sync->key_numbers[i], sync->key_names[i]))
			return true;
	}
	return false;
}

/*
 * Built-in types whose text is always the same.  No enums: users can define
 * how theirs are converted to text.
 */
bool
oe_sync_is_key_type(Oid type)
{
	switch (getBaseType(type))
	{
		case BOOLOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case NUMERICOID:
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case NAMEOID:
		case UUIDOID:
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return true;
		default:
			return false;
	}
}

/* ----------------------------------------------------------------
 * Storing in the table ocean_enrich.sync
 * ---------------------------------------------------------------- */

Datum
oe_sync_number_array(const int16 *numbers, int count)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
		values[i] = Int16GetDatum(numbers[i]);
	return PointerGetDatum(construct_array(values, count, INT2OID,
										   sizeof(int16), true, TYPALIGN_SHORT));
}

/* The current names of the columns. */
static Datum
name_array_datum(Oid relation, const int16 *numbers, int count)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
	{
		Name		name = palloc0(NAMEDATALEN);

		namestrcpy(name, get_attname(relation, numbers[i], false));
		values[i] = NameGetDatum(name);
	}
	return PointerGetDatum(construct_array(values, count, NAMEOID, NAMEDATALEN,
										   false, TYPALIGN_CHAR));
}

/* Parameters of the two statements below, in order. */
enum
{
	P_ID,						/* not used by INSERT */
	P_NAME,
	P_OWNER,
	P_RELATION,
	P_KEY,
	P_REQUEST,
	P_CONDITION,
	P_TARGET,
	P_PRIORITY,
	P_TABLE_NAME,
	P_COLUMN_NAMES,
	P_COLUMN_NUMBERS,
	P_KEY_NUMBERS,
	P_TARGET_NUMBER,
	P_ENDPOINT,
	P_COUNT
};

static Datum
alias_array_datum(const OeSync *sync)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(sync->column_count, 1));

	for (int i = 0; i < sync->column_count; i++)
	{
		Name		name = palloc0(NAMEDATALEN);

		namestrcpy(name, sync->column_names[i]);
		values[i] = NameGetDatum(name);
	}
	return PointerGetDatum(construct_array(values, sync->column_count, NAMEOID,
										   NAMEDATALEN, false, TYPALIGN_CHAR));
}

static Datum
name_datum(const char *text)
{
	Name		name = palloc0(NAMEDATALEN);

	namestrcpy(name, text);
	return NameGetDatum(name);
}

void
oe_sync_store(OeSync *sync)
{
	Oid			types[P_COUNT] = {INT8OID, TEXTOID, OIDOID, OIDOID,
		NAMEARRAYOID, TEXTOID, TEXTOID, NAMEOID, INT4OID, NAMEOID,
		NAMEARRAYOID, INT2ARRAYOID, INT2ARRAYOID, INT2OID, TEXTOID};
	Datum		values[P_COUNT] = {0};
	char		nulls[P_COUNT + 1];
	bool		isnull;

	memset(nulls, ' ', P_COUNT);
	values[P_ID] = Int64GetDatum(sync->id);
	values[P_NAME] = CStringGetTextDatum(sync->name);
	values[P_OWNER] = ObjectIdGetDatum(sync->owner);
	values[P_RELATION] = ObjectIdGetDatum(sync->relation);
	values[P_KEY] = name_array_datum(sync->relation, sync->key_numbers,
									 sync->key_count);
	values[P_REQUEST] = CStringGetTextDatum(sync->request);
	nulls[P_CONDITION] = sync->condition ? ' ' : 'n';
	if (sync->condition)
		values[P_CONDITION] = CStringGetTextDatum(sync->condition);
	values[P_TARGET] = name_datum(get_attname(sync->relation,
											  sync->target_number, false));
	values[P_PRIORITY] = Int32GetDatum(sync->priority);
	values[P_TABLE_NAME] = name_datum(sync->table_name);
	values[P_COLUMN_NAMES] = alias_array_datum(sync);
	values[P_COLUMN_NUMBERS] = oe_sync_number_array(sync->column_numbers,
													sync->column_count);
	values[P_KEY_NUMBERS] = oe_sync_number_array(sync->key_numbers, sync->key_count);
	values[P_TARGET_NUMBER] = Int16GetDatum(sync->target_number);
	values[P_ENDPOINT] = CStringGetTextDatum(sync->endpoint->name);

	if (sync->id == 0)
	{
		oe_sync_execute("INSERT INTO ocean_enrich.sync (name, owner, relation, key,"
						" request, condition, target, priority, enabled, database,"
						" table_name, column_names, column_numbers,"
						" key_numbers, target_number, endpoint)"
						" SELECT $2, $3::oid, $4::oid, $5, $6, $7, $8, $9, true,"
						" ocean_enrich.database_identity(), $10, $11, $12, $13, $14, $15"
						" WHERE $1 = 0 RETURNING sync_id",
						P_COUNT, types, values, nulls);
		sync->id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
											   SPI_tuptable->tupdesc, 1, &isnull));
	}
	else
		oe_sync_execute("UPDATE ocean_enrich.sync SET name = $2, owner = $3::oid,"
						" relation = $4::oid, key = $5, request = $6, condition = $7,"
						" target = $8, priority = $9, table_name = $10, column_names = $11,"
						" column_numbers = $12, key_numbers = $13,"
						" target_number = $14, endpoint = $15 WHERE sync_id = $1",
						P_COUNT, types, values, nulls);
}

/* ----------------------------------------------------------------
 * Statements
 * ---------------------------------------------------------------- */

const char *
oe_sync_column(Oid relation, int16 number)
{
	HeapTuple	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relation),
										Int16GetDatum(number));
	const char *name = NULL;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	if (!((Form_pg_attribute) GETSTRUCT(tuple))->attisdropped)
		name = quote_identifier(pstrdup(NameStr(((Form_pg_attribute)
												 GETSTRUCT(tuple))->attname)));
	ReleaseSysCache(tuple);
	return name;
}

static const char *
column_or_error(Oid relation, int16 number)
{
	const char *name = oe_sync_column(relation, number);

	if (!name)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_COLUMN),
				errmsg("column %d of relation %u was dropped", number, relation));
	return name;
}

static char *
relation_sql(Oid relation)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)),
									  get_rel_name(relation));
}

static char *
type_sql(Oid relation, int16 number)
{
	Oid			type;
	int32		typmod;
	Oid			collation;

	get_atttypetypmodcoll(relation, number, &type, &typmod, &collation);
	return format_type_extended(type, typmod, FORMAT_TYPE_TYPEMOD_GIVEN |
								FORMAT_TYPE_FORCE_QUALIFY);
}

char *
oe_sync_key_sql(const OeSync *sync, const char *alias)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "ARRAY[");
	for (int i = 0; i < sync->key_count; i++)
		appendStringInfo(&sql, "%s%s.%s::pg_catalog.text COLLATE pg_catalog.\"C\"",
						 i > 0 ? ", " : "", alias, column_or_error(sync->relation,
																   sync->key_numbers[i]));
	appendStringInfoString(&sql, "]");
	return sql.data;
}

static const char *
column_alias(const OeSync *sync, int16 number)
{
	return quote_identifier(column_name(sync, number));
}

/* FROM item for the table, with the names that the expressions use. */
static char *
from_sql(const OeSync *sync)
{
	StringInfoData sql;
	Relation	relation = relation_open(sync->relation, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(relation);
	const char *separator = "";

	initStringInfo(&sql);
	appendStringInfo(&sql, "%s AS %s (", relation_sql(sync->relation),
					 quote_identifier(sync->table_name));
	for (int i = 0; i < desc->natts; i++)
	{
		if (TupleDescAttr(desc, i)->attisdropped)
			continue;
		appendStringInfo(&sql, "%s%s", separator, column_alias(sync, i + 1));
		separator = ", ";
	}
	appendStringInfoString(&sql, ")");
	relation_close(relation, NoLock);
	return sql.data;
}

static const char *
condition_sql(const OeSync *sync)
{
	return sync->condition ? sync->condition : "true";
}

char *
oe_sync_scan_sql(const OeSync *sync)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (int i = 0; i < sync->key_count; i++)
		appendStringInfo(&sql, "%s%s.%s::pg_catalog.text", i > 0 ? ", " : "",
						 quote_identifier(sync->table_name),
						 column_alias(sync, sync->key_numbers[i]));
	appendStringInfo(&sql, " FROM %s WHERE CASE WHEN %s THEN (%s) IS NOT NULL END",
					 from_sql(sync), condition_sql(sync), sync->request);
	return sql.data;
}

/* Append the keys as relation "..k"; its columns are "..k1", "..k2", ... */
static void
append_keys(StringInfo sql, const OeSync *sync, const char *more)
{
	appendStringInfoString(sql, "ROWS FROM (");
	for (int i = 1; i <= sync->key_count; i++)
		appendStringInfo(sql, "%spg_catalog.unnest($%d::pg_catalog.text[])",
						 i > 1 ? ", " : "", i);
	if (more)
		appendStringInfo(sql, ", pg_catalog.unnest($%d::pg_catalog.jsonb[])",
						 sync->key_count + 1);
	appendStringInfoString(sql, ") WITH ORDINALITY AS \"..k\" (");
	for (int i = 1; i <= sync->key_count; i++)
		appendStringInfo(sql, "\"..k%d\", ", i);
	if (more)
		appendStringInfo(sql, "%s, ", more);
	appendStringInfoString(sql, "\"..n\")");
}

/* With "renamed", the columns have the names that the expressions use. */
static void
append_match(StringInfo sql, const OeSync *sync, const char *alias,
			 bool renamed)
{
	for (int i = 0; i < sync->key_count; i++)
	{
		int16		number = sync->key_numbers[i];

		appendStringInfo(sql, "%s%s.%s OPERATOR(pg_catalog.=) CAST(\"..k\".\"..k%d\" AS %s)",
						 i > 0 ? " AND " : "", alias,
						 renamed ? column_alias(sync, number)
						 : column_or_error(sync->relation, number),
						 i + 1, type_sql(sync->relation, number));
	}
}

char *
oe_sync_evaluate_sql(const OeSync *sync, bool lock)
{
	StringInfoData sql;
	const char *alias = quote_identifier(sync->table_name);

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT \"..k\".\"..n\", \"..t\".\"..r\" FROM ");
	append_keys(&sql, sync, NULL);
	appendStringInfo(&sql, ", LATERAL (SELECT CASE WHEN %s THEN %s END AS \"..r\" FROM %s WHERE ",
					 condition_sql(sync), sync->request, from_sql(sync));
	append_match(&sql, sync, alias, true);
	if (lock)
		appendStringInfo(&sql, " FOR NO KEY UPDATE OF %s SKIP LOCKED", alias);
	appendStringInfoString(&sql, ") AS \"..t\"");
	return sql.data;
}

char *
oe_sync_exist_sql(const OeSync *sync)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT \"..k\".\"..n\" FROM ");
	append_keys(&sql, sync, NULL);
	appendStringInfo(&sql, ", %s AS \"..t\" WHERE ", relation_sql(sync->relation));
	append_match(&sql, sync, "\"..t\"", false);
	return sql.data;
}

char *
oe_sync_write_sql(const OeSync *sync)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "UPDATE %s AS \"..t\" SET %s = \"..k\".\"..v\" FROM ",
					 relation_sql(sync->relation),
					 column_or_error(sync->relation, sync->target_number));
	append_keys(&sql, sync, "\"..v\"");
	appendStringInfoString(&sql, " WHERE ");
	append_match(&sql, sync, "\"..t\"", false);
	appendStringInfoString(&sql, " RETURNING \"..k\".\"..n\"");
	return sql.data;
}

/* ----------------------------------------------------------------
 * Problems of a definition
 * ---------------------------------------------------------------- */

static char *
column_problem(const OeSync *sync)
{
	for (int i = 0; i < sync->column_count; i++)
	{
		if (!oe_sync_column(sync->relation, sync->column_numbers[i]))
			return psprintf("column \"%s\", which the request or the condition uses, was dropped",
							sync->column_names[i]);
	}
	for (int i = 0; i < sync->key_count; i++)
	{
		if (!oe_sync_column(sync->relation, sync->key_numbers[i]))
			return pstrdup("a column of the key was dropped");
		if (!oe_sync_is_key_type(get_atttype(sync->relation, sync->key_numbers[i])))
			return pstrdup("a column of the key was changed to a type that cannot be part of a key");
	}
	if (!oe_sync_column(sync->relation, sync->target_number))
		return pstrdup("the target column was dropped");
	return NULL;
}

char *
oe_sync_problem(const OeSync *sync, int *sqlstate)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(sync->relation));
	Oid			owner;

	*sqlstate = ERRCODE_UNDEFINED_TABLE;
	if (!HeapTupleIsValid(tuple))
		return pstrdup("the table was dropped");
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);

	/* The triggers now run as the new owner, and so must the expressions. */
	*sqlstate = ERRCODE_INSUFFICIENT_PRIVILEGE;
	if (owner != sync->owner)
		return pstrdup("the owner of the table was changed");
	*sqlstate = ERRCODE_INVALID_PARAMETER_VALUE;
	if (!sync->endpoint)
		return psprintf("endpoint \"%s\" cannot be queued", sync->endpoint_name);
	*sqlstate = ERRCODE_UNDEFINED_COLUMN;
	return column_problem(sync);
}
