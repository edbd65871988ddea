/*
 * read_ahead_plan.h
 *		Where a finished plan reads ahead.
 */
#ifndef OE_READ_AHEAD_PLAN_H
#define OE_READ_AHEAD_PLAN_H

#include "nodes/extensible.h"
#include "nodes/plannodes.h"

/* Does the query call ours, and nothing that could notice? */
extern bool oe_read_ahead_wants(Query *query);

/* Put Read Ahead nodes into a finished plan. */
extern void oe_read_ahead_add(PlannedStmt *stmt, int cursor_options);

/* What a node knows of its calls. */
typedef struct OeReadAheadPlan
{
	List	   *arg_columns;	/* for each call, the column below that is its
								 * argument, */
	List	   *raises;			/* and whether it raises errors */
	bool		elsewhere;		/* others make the calls, once for each row
								 * ... */
	bool		cached;			/* ... or less often: a Memoize is in between */
} OeReadAheadPlan;

/* From the node's custom_private. */
extern void oe_read_ahead_unpack(List *custom_private, OeReadAheadPlan *plan);

/* What the node does when it runs; read_ahead.c has it. */
extern const CustomScanMethods oe_read_ahead_methods;

#endif							/* OE_READ_AHEAD_PLAN_H */
