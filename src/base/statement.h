/*
 * statement.h
 *		Our own SQL statements, with saved plans.
 */
#ifndef OE_STATEMENT_H
#define OE_STATEMENT_H

#include "executor/spi.h"

#define OE_STATEMENT_ARGS_MAX	16

/* Parameters beyond "nargs" are ignored. */
typedef struct OeStatement
{
	const char *sql;
	int			nargs;
	Oid			types[OE_STATEMENT_ARGS_MAX];
	SPIPlanPtr	plan;
} OeStatement;

/*
 * Run the statement, preparing it at its first use; returns how many rows it
 * returned or changed.  "nulls" may be NULL.  SPI has to be connected; the
 * caller's memory context stays current.
 */
extern uint64 oe_statement_run(OeStatement *statement, Datum *values,
							   const char *nulls);

/* The same for a read-only statement, using the active snapshot. */
extern uint64 oe_statement_read(OeStatement *statement);

/* Set the text of the statement; the plan is kept only if it is the same. */
extern void oe_statement_set(OeStatement *statement, const char *sql);
extern void oe_statement_forget(OeStatement *statement);

/*
 * The type of a column, counted from 1, and its value in a row, counted from
 * 0, of the last result.  NULL is 0, even for a pass-by-reference type.
 */
extern Oid	oe_statement_type(int column);
extern Datum oe_statement_value(uint64 row, int column);
extern int64 oe_statement_int64(uint64 row, int column);
extern char *oe_statement_text(uint64 row, int column);
extern bool oe_statement_is_null(uint64 row, int column);

/* An array for a parameter; "nulls" may be NULL. */
extern Datum oe_statement_array(Datum *values, bool *nulls, int count, Oid type);
extern Datum oe_statement_int8_array(const int64 *numbers, int count);

#endif							/* OE_STATEMENT_H */
