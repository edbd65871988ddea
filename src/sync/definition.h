/*
 * definition.h
 *		The definition of a sync, and the statements derived from it.
 *
 * All functions need an open transaction and SPI.
 */
#ifndef OE_SYNC_DEFINITION_H
#define OE_SYNC_DEFINITION_H

#include "nodes/bitmapset.h"
#include "utils/relcache.h"

#include "core/endpoint.h"

typedef struct OeSync
{
	int64		id;
	const char *name;
	Oid			owner;
	Oid			relation;
	bool		enabled;
	const char *endpoint_name;
	const OeEndpoint *endpoint; /* NULL: there is none that can be queued */
	const char *request;		/* expression with qualified names ... */
	const char *condition;		/* ... likewise, or NULL */
	const char *table_name;		/* the table's name in both ... */
	int			column_count;
	const char **column_names;	/* ... and the names of their columns */
	int16	   *column_numbers;
	int			key_count;
	const char **key_names;		/* names at the time of storing */
	int16	   *key_numbers;
	const char *target_name;	/* likewise */
	int16		target_number;
	int			priority;
	bool		is_copy;		/* true if not enabled in this database */
} OeSync;

/* The columns that oe_sync_fill() reads, for a SELECT from ocean_enrich.sync. */
#define OE_SYNC_COLUMNS \
	"sync_id, name, owner, relation, enabled, endpoint, request, condition, table_name," \
	" column_names, column_numbers, key, key_numbers, target, target_number," \
	" priority, database"

/* Maximum number of columns in a key. */
#define OE_SYNC_KEY_MAX		8

/*
 * In a copy of the database, columns may have other numbers: find them by
 * their names.  Missing ones get 0.
 */
extern void oe_sync_find_by_name(OeSync *sync);

/* Read a row of the last SPI result into the current memory context. */
extern void oe_sync_fill(OeSync *sync, int row);

/*
 * Parse expressions over the columns of sync->relation and store them with
 * qualified names, so that they mean the same with any search_path.  A NULL
 * argument keeps the stored expression, whose columns may have been renamed
 * since; an empty condition removes it.  Raises errors in the expressions.
 */
extern void oe_sync_parse(OeSync *sync, Relation relation,
						  const char *request, const char *condition);

/* Raises an error unless the request's type is jsonb. */
extern void oe_sync_check_request_type(Oid type);

/* Has the table, or a column that the sync uses, been renamed? */
extern bool oe_sync_was_renamed(const OeSync *sync);

/*
 * Store the definition, as the extension's owner, with the current names of
 * its columns; a new one, whose id is 0, is assigned an id.
 */
extern void oe_sync_store(OeSync *sync);

/* Is the type allowed for a key?  Its text must not depend on users' code. */
extern bool oe_sync_is_key_type(Oid type);

/* Quoted current name of a column; NULL if it was dropped. */
extern const char *oe_sync_column(Oid relation, int16 number);

/* SQL for the key of "alias" as text[]. */
extern char *oe_sync_key_sql(const OeSync *sync, const char *alias);

/* SQL for the keys of all wanted rows, one text column per key column. */
extern char *oe_sync_scan_sql(const OeSync *sync);

/*
 * Parameters: for each key column the keys' values, as text[].  Result: the
 * number of the key, from 1, and its request, or NULL if the row is not
 * wanted.  With "lock" the rows are locked, skipping those locked by others.
 */
extern char *oe_sync_evaluate_sql(const OeSync *sync, bool lock);

/* Same parameters; result: the numbers of the existing rows. */
extern char *oe_sync_exist_sql(const OeSync *sync);

/*
 * Same parameters, then the answers as jsonb[].  Result: the numbers of the
 * rows written.
 */
extern char *oe_sync_write_sql(const OeSync *sync);

/*
 * Returns the reason why the sync cannot continue, palloc'd, and *sqlstate;
 * NULL if it can.  The relation, if it exists, is locked by the caller.
 */
extern char *oe_sync_problem(const OeSync *sync, int *sqlstate);

/* Runs a statement or raises an error; SPI_tuptable has the result. */
extern void oe_sync_execute(const char *sql, int count, Oid *types,
							Datum *values, const char *nulls);

/* A column of the last result as an array. */
extern Datum oe_sync_result_array(int column, Oid type);

/* Returns an int2[]. */
extern Datum oe_sync_number_array(const int16 *numbers, int count);

#endif							/* OE_SYNC_DEFINITION_H */
