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

/* A call of a Read Ahead node, as a list of integers. */
typedef enum OePlannedCall
{
	OE_PLANNED_REQUEST,			/* column of the plan below */
	OE_PLANNED_NOT_FOUND,		/* likewise; 0: there is no such argument */
	OE_PLANNED_REUSE_FOR,		/* likewise */
	OE_PLANNED_RAISES,			/* whether errors are raised */
} OePlannedCall;

/* The calls of one Read Ahead node. */
typedef struct OeReadAheadPlan
{
	List	   *calls;			/* of lists, see OePlannedCall */
	bool		elsewhere;		/* true if made elsewhere, for each row ... */
	bool		cached;			/* ... or less often, below a Memoize */
} OeReadAheadPlan;

/* Reads the node's custom_private. */
extern void oe_read_ahead_unpack(List *custom_private, OeReadAheadPlan *plan);

/* Execution methods of the node, in read_ahead.c. */
extern const CustomScanMethods oe_read_ahead_methods;

#endif							/* OE_READ_AHEAD_PLAN_H */
