/*
 * statement.c
 *		SQL of ours with a saved plan, and running it as a table's owner.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "base/statement.h"

/* SPI leaves its own memory context behind; the caller's stays current. */
static uint64
run(OeStatement *statement, Datum *values, const char *nulls, bool read_only)
{
	MemoryContext caller = CurrentMemoryContext;
	int			rc;

	if (!statement->plan)
	{
		SPIPlanPtr	plan = SPI_prepare(statement->sql, statement->nargs,
									   statement->types);

		if (!plan || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare a statement of ocean_enrich: %s",
				 SPI_result_code_string(SPI_result));
		statement->plan = plan;
	}
	rc = SPI_execute_plan(statement->plan, values, nulls, read_only, 0);
	if (rc < 0)
		elog(ERROR, "could not execute a statement of ocean_enrich: %s",
			 SPI_result_code_string(rc));
	MemoryContextSwitchTo(caller);
	return SPI_processed;
}

uint64
oe_statement_run(OeStatement *statement, Datum *values, const char *nulls)
{
	return run(statement, values, nulls, false);
}

uint64
oe_statement_read(OeStatement *statement)
{
	return run(statement, NULL, NULL, true);
}

void
oe_statement_forget(OeStatement *statement)
{
	if (statement->plan)
		SPI_freeplan(statement->plan);
	statement->plan = NULL;
	if (statement->sql)
		pfree(unconstify(char *, statement->sql));
	statement->sql = NULL;
}

void
oe_statement_set(OeStatement *statement, const char *sql)
{
	if (statement->sql && strcmp(statement->sql, sql) == 0)
		return;
	oe_statement_forget(statement);
	statement->sql = MemoryContextStrdup(TopMemoryContext, sql);
}

Oid
oe_statement_type(int column)
{
	return SPI_gettypeid(SPI_tuptable->tupdesc, column);
}

Datum
oe_statement_value(uint64 row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row],
									  SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? (Datum) 0 : value;
}

int64
oe_statement_int64(uint64 row, int column)
{
	return oe_statement_is_null(row, column) ? 0
		: DatumGetInt64(oe_statement_value(row, column));
}

bool
oe_statement_is_null(uint64 row, int column)
{
	bool		isnull;

	(void) SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column,
						 &isnull);
	return isnull;
}

char *
oe_statement_text(uint64 row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

Datum
oe_statement_array(Datum *values, bool *nulls, int count, Oid type)
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

Datum
oe_statement_int8_array(const int64 *numbers, int count)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
		values[i] = Int64GetDatum(numbers[i]);
	return oe_statement_array(values, NULL, count, INT8OID);
}

Oid
oe_owner_of(const char *table)
{
	Oid			relation = get_relname_relid(table,
											 get_namespace_oid("ocean_enrich", false));
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("table ocean_enrich.%s does not exist", table),
				errhint("CREATE EXTENSION ocean_enrich makes it."));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

Oid
oe_owner_become(const char *table)
{
	Oid			user;
	int			security_context;

	GetUserIdAndSecContext(&user, &security_context);
	SetUserIdAndSecContext(oe_owner_of(table), security_context);
	return user;
}

void
oe_owner_return(Oid user)
{
	Oid			owner;
	int			security_context;

	GetUserIdAndSecContext(&owner, &security_context);
	SetUserIdAndSecContext(user, security_context);
}

void
oe_owner_begin(OeOwnerScope *scope, Oid owner)
{
	MemoryContext caller = CurrentMemoryContext;

	scope->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
							 0, false);
	GetUserIdAndSecContext(&scope->user, &scope->security_context);
	SetUserIdAndSecContext(owner, scope->security_context |
						   SECURITY_RESTRICTED_OPERATION);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	MemoryContextSwitchTo(caller);
}

void
oe_owner_end(OeOwnerScope *scope)
{
	SPI_finish();
	AtEOXact_GUC(false, scope->guc_level);
	SetUserIdAndSecContext(scope->user, scope->security_context);
}
