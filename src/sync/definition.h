/*
 * definition.h
 *		The definition of a sync, and the statements that follow from it.
 *
 * All of it needs an open transaction and SPI.
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
	const OeEndpoint *endpoint;	/* NULL: there is none that can be queued */
	const char *request;		/* an expression, every name in full ... */
	const char *condition;		/* ... likewise, or NULL */
	const char *table_name;		/* what the two call the table ... */
	int			column_count;
	const char **column_names;	/* ... and these columns of it */
	int16	   *column_numbers;
	int			key_count;
	const char **key_names;		/* as they were when it was stored */
	int16	   *key_numbers;
	const char *target_name;	/* likewise */
	int16		target_number;
	int			priority;
	bool		is_copy;		/* not enabled in this database */
} OeSync;

/* The columns that oe_sync_fill() reads, for a SELECT from ocean_enrich.sync. */
#define OE_SYNC_COLUMNS \
	"sync_id, name, owner, relation, enabled, endpoint, request, condition, table_name," \
	" column_names, column_numbers, key, key_numbers, target, target_number," \
	" priority, database"

/* Keys with more columns are refused. */
#define OE_SYNC_KEY_MAX		8

/*
 * In a copy of the database columns may have got other numbers: find them by
 * their names.  Those that are missing get 0.
 */
extern void oe_sync_find_by_name(OeSync *sync);

/* From a row of the last SPI result; lives in the current memory context. */
extern void oe_sync_fill(OeSync *sync, int row);

/*
 * Parse expressions over the columns of sync->relation and store them with every
 * name in full, so that they mean the same whatever the search_path is.  What is
 * NULL is taken from the definition, whose columns may have other names by now;
 * an empty condition is none.  Raises what is wrong with them.
 */
extern void oe_sync_parse(OeSync *sync, Relation relation,
						  const char *request, const char *condition);

/* Raises that a request of this type is not jsonb, unless it is. */
extern void oe_sync_check_request_type(Oid type);

/* Has the table or a column of it that matters got another name? */
extern bool oe_sync_was_renamed(const OeSync *sync);

/*
 * Write the definition, as the extension's owner, with the names that the
 * columns have now; a new one, whose id is 0, gets one.
 */
extern void oe_sync_store(OeSync *sync);

/* May the type be that of a key column?  Its text never depends on a user's code. */
extern bool oe_sync_is_key_type(Oid type);

/* Quoted name of a column now; NULL if it was dropped. */
extern const char *oe_sync_column(Oid relation, int16 number);

/* The values of the key columns of "alias" as text[]. */
extern char *oe_sync_key_sql(const OeSync *sync, const char *alias);

/* Keys of all rows that are wanted: as many columns, as text. */
extern char *oe_sync_scan_sql(const OeSync *sync);

/*
 * Parameters: for each key column the keys' values, as text[].  Result: number
 * of the key, from 1, and the request, NULL if the row is not wanted.  With
 * "lock" the rows are locked, and those that somebody else has locked left out.
 */
extern char *oe_sync_evaluate_sql(const OeSync *sync, bool lock);

/* Likewise; result: the numbers of those that are there. */
extern char *oe_sync_exist_sql(const OeSync *sync);

/*
 * Likewise, and as the last parameter the answers, as jsonb[].  Result: the
 * numbers of the rows written.
 */
extern char *oe_sync_write_sql(const OeSync *sync);

/*
 * Why it cannot go on: a palloc'd text, and *sqlstate.  NULL: it can.  The
 * relation, if it is there, is locked.
 */
extern char *oe_sync_problem(const OeSync *sync, int *sqlstate);

/* Runs a statement, or raises; SPI_tuptable has what it gives. */
extern void oe_sync_execute(const char *sql, int count, Oid *types,
							Datum *values, const char *nulls);

/* A column of the last result, of a type of its own array type, as an array. */
extern Datum oe_sync_result_array(int column, Oid type);

/* int2[] */
extern Datum oe_sync_number_array(const int16 *numbers, int count);

#endif							/* OE_SYNC_DEFINITION_H */
