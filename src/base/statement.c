/*
 * statement.c
 *		Our own SQL statements, with saved plans.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "base/statement.h"

/* SPI switches to its own memory context; switch back to the caller's. */
static uint64
run_prepared(OeStatement *statement, Datum *values, const char *nulls, bool read_only)
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
	return run_prepared(statement, values, nulls, false);
}

uint64
oe_statement_read(OeStatement *statement)
{
	return run_prepared(statement, NULL, NULL, true);
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
