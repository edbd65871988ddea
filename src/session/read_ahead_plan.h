/*
 * read_ahead_plan.h
 *		Where a finished plan reads ahead.
 */
#ifndef OE_READ_AHEAD_PLAN_H
#define OE_READ_AHEAD_PLAN_H

#include "nodes/extensible.h"
#include "nodes/plannodes.h"

/* Does the query call our functions, and nothing that might notice? */
extern bool oe_read_ahead_wants(Query *query);

/* Put Read Ahead nodes into a finished plan. */
extern void oe_read_ahead_add(PlannedStmt *stmt, int cursor_options);

/* The calls of one Read Ahead node. */
typedef struct OeReadAheadPlan
{
	List	   *arg_columns;	/* for each call, its argument's column below */
	List	   *raises;			/* for each call, whether it raises errors */
	bool		elsewhere;		/* true if made elsewhere, for each row ... */
	bool		cached;			/* ... or less often, below a Memoize */
} OeReadAheadPlan;

/* Reads the node's custom_private. */
extern void oe_read_ahead_unpack(List *custom_private, OeReadAheadPlan *plan);

/* Execution methods of the node, in read_ahead.c. */
extern const CustomScanMethods oe_read_ahead_methods;

#endif							/* OE_READ_AHEAD_PLAN_H */
