/*
 * read_ahead.h
 *		A plain statement at the API's speed: the requests of the rows that are
 *		certain to be asked for are sent ahead.
 *
 * What is sent early is the very request that the call itself then finds in
 * flight, so results never depend on it.
 */
#ifndef OE_READ_AHEAD_H
#define OE_READ_AHEAD_H

#include "nodes/extensible.h"
#include "nodes/plannodes.h"

/* Install the hooks; once, from _PG_init. */
extern void oe_read_ahead_init(void);

/* ---- read_ahead_plan.c ---- */

/* Does the query call ours, and nothing that could notice? */
extern bool oe_read_ahead_wants(Query *query);

/* Put Read Ahead nodes into a finished plan. */
extern void oe_read_ahead_add(PlannedStmt *stmt, int cursor_options);

/* ---- read_ahead.c ---- */

/*
 * custom_private of the node: for each call the column below that is its
 * argument; and whether a Memoize stands between node and call.
 */
extern const CustomScanMethods oe_read_ahead_methods;

#endif							/* OE_READ_AHEAD_H */
