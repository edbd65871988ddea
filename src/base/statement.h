/*
 * statement.h
 *		SQL of ours with a saved plan.
 */
#ifndef OE_STATEMENT_H
#define OE_STATEMENT_H

#include "executor/spi.h"

#define OE_STATEMENT_ARGS_MAX	16

/* Parameters beyond "nargs" do not count. */
typedef struct OeStatement
{
	const char *sql;
	int			nargs;
	Oid			types[OE_STATEMENT_ARGS_MAX];
	SPIPlanPtr	plan;
} OeStatement;

/*
 * Run it, prepared when it is run for the first time; returns how many rows it
 * gave or changed.  "nulls" may be NULL.  SPI has to be connected; the caller's
 * memory context stays current.
 */
extern uint64 oe_statement_run(OeStatement *statement, Datum *values,
							   const char *nulls);

/* The same for one that only reads, by the active snapshot. */
extern uint64 oe_statement_read(OeStatement *statement);

/* Another text, or the same: only then its plan is kept. */
extern void oe_statement_set(OeStatement *statement, const char *sql);
extern void oe_statement_forget(OeStatement *statement);

/*
 * The type of a column, from 1 on, and its value in a row, from 0 on, that the last
 * one gave.  NULL is 0, also in a type that is passed by reference.
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
