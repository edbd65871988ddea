/*
 * read_ahead.c
 *		The Read Ahead node at run time, and the hooks that install it.
 *
 * The node keeps a window of rows from the plan below it, each with the calls
 * begun early for it, and computes the original target list when a row is
 * fetched.  The window is never larger than the number of rows certain to be
 * fetched: see rows_wanted().
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/planner.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "session/call.h"
#include "session/read_ahead.h"
#include "session/read_ahead_plan.h"
#include "shared/settings.h"

#define ALL_ROWS	INT64_MAX

typedef struct Row
{
	TupleTableSlot *slot;
	Size		size;
	OeExpectedCall **calls;		/* for each planned call, or NULL */
} Row;

/* The parent of each node in one executor state. */
typedef struct Links
{
	HTAB	   *parents;		/* PlanState -> Link */
	List	   *cte_scans;
} Links;

typedef struct Link
{
	PlanState  *child;
	PlanState  *parent;			/* NULL for the root */
	SubPlanState *via;			/* set if a sub-select of the parent */
} Link;

typedef struct ReadAheadState
{
	CustomScanState css;
	OeReadAheadPlan plan;
	int			call_count;
	Links	   *links;			/* NULL: never read ahead */
	Row		   *rows;			/* ring buffer */
	int			capacity;
	int			head;
	int			count;
	Size		bytes;			/* total size of the rows in the ring */
	bool		returned;		/* true if the parent has the first row */
	bool		exhausted;		/* true if the plan below has no more rows */
	OeCallStats stats;
	int			most_in_flight;
} ReadAheadState;

/* Executor runs in progress, innermost first. */
typedef struct Run
{
	EState	   *estate;
	uint64		count;			/* 0 means all rows */
	bool		forward;
	struct Run *outer;
} Run;

static Run *current_run;

/* Nodes of the executor that is starting. */
static List *begun_nodes;

static planner_hook_type previous_planner;
static ExecutorStart_hook_type previous_executor_start;
static ExecutorRun_hook_type previous_executor_run;

/* ----------------------------------------------------------------
 * Demand
 * ---------------------------------------------------------------- */

static int64 rows_wanted(Links *links, PlanState *node);

static int64
rows_wanted_of_root(EState *estate)
{
	for (Run *run = current_run; run; run = run->outer)
	{
		if (run->estate != estate)
			continue;
		if (!run->forward)
			return 1;
		if (run->count == 0)
			return ALL_ROWS;
		return Max((int64) run->count - (int64) estate->es_processed, 1);
	}
	return 1;
}

/* Rows that a Limit still wants; position counts those it has fetched. */
static int64
rows_wanted_by_limit(LimitState *limit, int64 wanted_of_limit)
{
	int64		to_skip = Max(limit->offset - limit->position, 0);
	int64		wanted = wanted_of_limit;

	if (!limit->noCount)
		wanted = Min(wanted, limit->count -
					 Max(limit->position - limit->offset, 0));
	if (wanted == ALL_ROWS)
		return ALL_ROWS;

	/* WITH TIES fetches more than that, one by one. */
	return Max(Max(wanted, 0) + to_skip, 1);
}

/* Rows still wanted when our parent holds "held" rows not returned yet. */
static int64
rows_wanted_beyond(int64 wanted, int held)
{
	return wanted == ALL_ROWS ? ALL_ROWS : Max(wanted - held, 1);
}

/* All rows if the parent wants all, otherwise only the current one. */
static int64
all_or_one(int64 wanted)
{
	return wanted == ALL_ROWS ? ALL_ROWS : 1;
}

/* Is the node certain to run, even if no row was fetched from it yet? */
static bool
is_certain_to_run(Links *links, PlanState *node)
{
	Link	   *link = hash_search(links->parents, &node, HASH_FIND, NULL);

	if (IsA(node, ModifyTableState) &&
		!((ModifyTable *) node->plan)->canSetTag)
		return true;
	if (!link || link->via)
		return false;
	if (!link->parent)
		return true;

	check_stack_depth();
	switch (nodeTag(link->parent))
	{
		case T_ModifyTableState:
		case T_SortState:
		case T_AggState:
		case T_SubqueryScanState:
			return is_certain_to_run(links, link->parent);
		case T_NestLoopState:
		case T_MergeJoinState:
			return node == outerPlanState(link->parent) &&
				is_certain_to_run(links, link->parent);
		default:
			return false;
	}
}

/*
 * We cannot know which of several scans of a CTE is fetching.  Unless one of
 * them is known to read all rows, use the smallest demand.
 */
static int64
rows_wanted_of_cte(Links *links, PlanState *cte)
{
	int64		least = ALL_ROWS;
	ListCell   *lc;

	foreach(lc, links->cte_scans)
	{
		CteScanState *scan = lfirst(lc);
		int64		wanted;

		if (scan->cteplanstate != cte)
			continue;
		wanted = rows_wanted(links, &scan->ss.ps);
		if (wanted == ALL_ROWS && is_certain_to_run(links, &scan->ss.ps))
			return ALL_ROWS;
		least = Min(least, wanted);
	}
	return least;
}

static int64
rows_wanted_by_subplan(Links *links, SubPlanState *via)
{
	SubPlan    *subplan = via->subplan;

	switch (subplan->subLinkType)
	{
		case CTE_SUBLINK:
			return rows_wanted_of_cte(links, via->planstate);
		case ARRAY_SUBLINK:
			return ALL_ROWS;
		default:
			return subplan->useHashTable ? ALL_ROWS : 1;
	}
}

static int64
rows_wanted_by_join(PlanState *join, bool is_outer, int64 wanted)
{
	if (!is_outer)
		return 1;
	if (IsA(join, NestLoopState))
		return all_or_one(wanted);

	/* Before the hash table is built, at most a first row may be fetched. */
	if (IsA(join, HashJoinState) &&
		((HashJoinState *) join)->hj_HashTable != NULL)
		return all_or_one(wanted);
	return 1;
}

/*
 * Number of rows certain to be fetched from this node from now on, including
 * the current one.  Never too many: each may cost credits.
 */
static int64
rows_wanted(Links *links, PlanState *node)
{
	Link	   *link = hash_search(links->parents, &node, HASH_FIND, NULL);
	PlanState  *parent;
	int64		wanted;

	if (!link)
		return 1;
	if (link->via)
		return rows_wanted_by_subplan(links, link->via);
	parent = link->parent;
	if (!parent)
		return rows_wanted_of_root(node->state);

	check_stack_depth();
	switch (nodeTag(parent))
	{
		case T_ModifyTableState:

			/*
			 * With RETURNING, each row returned is a row fetched; but a
			 * data-modifying WITH always runs to its end.
			 */
			if (((ModifyTable *) parent->plan)->returningLists == NIL ||
				!((ModifyTable *) parent->plan)->canSetTag)
				return ALL_ROWS;
			return rows_wanted(links, parent);
		case T_SortState:
		case T_HashState:
			return ALL_ROWS;
		case T_AggState:
			if (((Agg *) parent->plan)->aggstrategy == AGG_SORTED ||
				((Agg *) parent->plan)->aggstrategy == AGG_MIXED)
				return all_or_one(rows_wanted(links, parent));
			return ALL_ROWS;
		case T_SetOpState:
			/* Since 18, a SetOp may end before its inner side does. */
			if (node != outerPlanState(parent))
				return 1;
			return all_or_one(rows_wanted(links, parent));
		case T_IncrementalSortState:
		case T_MergeAppendState:
		case T_ProjectSetState:
		case T_GroupState:
			return all_or_one(rows_wanted(links, parent));
		case T_WindowAggState:
			/* A condition such as "row_number() < 10" may end it early. */
			if (((WindowAggState *) parent)->runcondition)
				return 1;
			return all_or_one(rows_wanted(links, parent));
		case T_ResultState:
		case T_SubqueryScanState:
		case T_LockRowsState:
		case T_AppendState:
		case T_MaterialState:
		case T_UniqueState:
			return rows_wanted(links, parent);
		case T_CustomScanState:
			if (((CustomScan *) parent->plan)->methods == &oe_read_ahead_methods)
				return rows_wanted_beyond(rows_wanted(links, parent),
										  ((ReadAheadState *) parent)->count);
			return 1;
		case T_LimitState:
			wanted = rows_wanted(links, parent);
			return rows_wanted_by_limit((LimitState *) parent, wanted);
		case T_NestLoopState:
		case T_HashJoinState:
		case T_MergeJoinState:
			return rows_wanted_by_join(parent, node == outerPlanState(parent),
									   rows_wanted(links, parent));
		default:
			return 1;
	}
}

/* ----------------------------------------------------------------
 * The window
 * ---------------------------------------------------------------- */

static int
window_size(ReadAheadState *state)
{
	if (!state->links || state->stats.stop || oe_settings()->concurrency <= 1 ||
		state->css.ss.ps.state->es_epq_active)
		return 1;
	return (int) Min(oe_settings()->concurrency,
					 rows_wanted(state->links, &state->css.ss.ps));
}

static Row *
row_at(ReadAheadState *state, int position)
{
	return &state->rows[(state->head + position) % state->capacity];
}

/* Make room for "size" rows; those in the ring keep their order. */
static void
enlarge_window(ReadAheadState *state, int size)
{
	EState	   *estate = state->css.ss.ps.state;
	TupleDesc	desc = ExecGetResultType(outerPlanState(state));
	MemoryContext old;
	Row		   *rows;

	if (size <= state->capacity)
		return;
	old = MemoryContextSwitchTo(estate->es_query_cxt);
	rows = palloc0(sizeof(Row) * size);
	for (int i = 0; i < state->capacity; i++)
		rows[i] = *row_at(state, i);
	for (int i = state->capacity; i < size; i++)
	{
		rows[i].slot = ExecInitExtraTupleSlot(estate, desc, &TTSOpsMinimalTuple);
		rows[i].calls = palloc0(sizeof(OeExpectedCall *) * state->call_count);
	}
	if (state->rows)
		pfree(state->rows);
	state->rows = rows;
	state->head = 0;
	state->capacity = size;
	MemoryContextSwitchTo(old);
}

/* The value of an argument of the call; NULL if it is NULL or not there. */
static Datum
argument(Row *row, List *call, OePlannedCall which)
{
	int			column = list_nth_int(call, which);
	bool		isnull;
	Datum		value;

	if (column == 0)
		return (Datum) 0;
	value = slot_getattr(row->slot, column, &isnull);
	return isnull ? (Datum) 0 : value;
}

static OeExpectedCall *
expect_call(Row *row, List *call, OeExpect how, OeCallStats *stats)
{
	OeCallArguments arguments = {0};
	Datum		request = argument(row, call, OE_PLANNED_REQUEST);
	Datum		not_found = argument(row, call, OE_PLANNED_NOT_FOUND);

	if (!request)
		return NULL;
	arguments.request = DatumGetJsonbP(request);
	arguments.not_found = not_found ? DatumGetTextPP(not_found) : NULL;
	arguments.reuse_for =
		DatumGetIntervalP(argument(row, call, OE_PLANNED_REUSE_FOR));
	return oe_call_expect(&oe_endpoint_person, &arguments, how, stats);
}

static void
expect_calls(ReadAheadState *state, Row *row, bool early)
{
	OeExpect	how = OE_EXPECT;
	MemoryContext old;
	ListCell   *lc;

	if (early)
		how = state->plan.cached ? OE_EXPECT_EARLY_IF_REUSED : OE_EXPECT_EARLY;

	/* Our own calls are counted without being expected. */
	if (!early && !state->plan.elsewhere)
		return;
	old = MemoryContextSwitchTo(state->css.ss.ps.ps_ExprContext->ecxt_per_tuple_memory);
	foreach(lc, state->plan.calls)
	{
#ifdef OE_READ_AHEAD_EVERYTHING
		/* Nothing is asked, but the column is read. */
		(void) argument(row, lfirst(lc), OE_PLANNED_REQUEST);
#else
		row->calls[foreach_current_index(lc)] =
			expect_call(row, lfirst(lc), how, &state->stats);
#endif
	}
	MemoryContextSwitchTo(old);
}

static bool
raises(ReadAheadState *state, int nth)
{
	return list_nth_int(list_nth(state->plan.calls, nth), OE_PLANNED_RAISES);
}

/* Count the calls in flight, and stop if a call has failed. */
static void
count_calls_under_way(ReadAheadState *state)
{
	int			in_flight = 0;

	for (int position = 0; position < state->count; position++)
	{
		Row		   *row = row_at(state, position);

		for (int i = 0; i < state->call_count; i++)
		{
			OeExpectedCall *call = row->calls[i];

			if (!call)
				continue;
			if (!oe_call_is_done(call))
				in_flight++;
			else if (oe_call_has_failed(call, raises(state, i)))
				state->stats.stop = true;
		}
	}
	state->most_in_flight = Max(state->most_in_flight, in_flight);
}

static bool
is_row_ready(ReadAheadState *state, Row *row)
{
#ifdef OE_READ_AHEAD_EVERYTHING
	/* Pretend that each row has to wait, so that the window is always full. */
	return false;
#endif
	for (int i = 0; i < state->call_count; i++)
	{
		if (row->calls[i] && !oe_call_is_done(row->calls[i]))
			return false;
	}
	return true;
}

static void
drop_head(ReadAheadState *state)
{
	Row		   *row = row_at(state, 0);

	for (int i = 0; i < state->call_count; i++)
	{
		if (row->calls[i])
			oe_call_forget(row->calls[i]);
		row->calls[i] = NULL;
	}
	state->returned = false;
	state->bytes -= row->size;
	state->head = (state->head + 1) % state->capacity;
	state->count--;
}

/* Fetch one more row from below; false if there is none. */
static bool
pull_row(ReadAheadState *state, bool early)
{
	TupleTableSlot *slot = ExecProcNode(outerPlanState(state));
	MinimalTuple tuple;
	Row		   *row;

	if (TupIsNull(slot))
	{
		state->exhausted = true;
		return false;
	}
	row = row_at(state, state->count);
	ExecCopySlot(row->slot, slot);
	tuple = ExecFetchSlotMinimalTuple(row->slot, NULL);
	row->size = tuple->t_len;
	state->bytes += row->size;
	state->count++;
	expect_calls(state, row, early);
	return true;
}

/*
 * Each row that leaves makes room for another; more rows are fetched only
 * while the first one has to wait anyway, so a slow plan below delays nothing.
 */
static void
fill_window(ReadAheadState *state)
{
	int			window;

	count_calls_under_way(state);
	window = window_size(state);
	enlarge_window(state, window);
	while (!state->exhausted && state->count < window &&
		   (state->count == 0 || state->bytes < (Size) work_mem * 1024))
	{
		if (!pull_row(state, window > 1))
			break;
		count_calls_under_way(state);
		if (state->stats.stop || is_row_ready(state, row_at(state, 0)))
			break;
	}
}

/* ----------------------------------------------------------------
 * The node
 * ---------------------------------------------------------------- */

/* With an empty target list, as for count(*), there is no projection. */
static TupleTableSlot *
project_row(CustomScanState *node)
{
	if (node->ss.ps.ps_ProjInfo)
		return ExecProject(node->ss.ps.ps_ProjInfo);
	return ExecStoreVirtualTuple(ExecClearTuple(node->ss.ss_ScanTupleSlot));
}

static TupleTableSlot *
project_head(ReadAheadState *state)
{
	PlanState  *ps = &state->css.ss.ps;
	ExprContext *econtext = ps->ps_ExprContext;
	OeCallStats *outer_stats = oe_call_stats;
	TupleTableSlot *volatile result = NULL;

	econtext->ecxt_outertuple = row_at(state, 0)->slot;
	oe_call_stats = &state->stats;
	PG_TRY();
	{
		if (ExecQual(ps->qual, econtext))
			result = project_row(&state->css);
		else
			InstrCountFiltered1(ps, 1);
	}
	PG_FINALLY();
	{
		oe_call_stats = outer_stats;
	}
	PG_END_TRY();
	return result;
}

static TupleTableSlot *
exec_read_ahead(CustomScanState *node)
{
	ReadAheadState *state = (ReadAheadState *) node;
	TupleTableSlot *result;

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		ResetExprContext(node->ss.ps.ps_ExprContext);
		if (state->returned)
			drop_head(state);
		fill_window(state);
		if (state->count == 0)
			return ExecClearTuple(node->ss.ps.ps_ResultTupleSlot);
		result = project_head(state);

		/*
		 * Keep the row until the next one is fetched: the result may point
		 * into it, and a NestLoop makes the calls that we have only begun.
		 */
		state->returned = true;
		if (result)
			return result;
	}
}

static void
begin_read_ahead(CustomScanState *node, EState *estate, int eflags)
{
	ReadAheadState *state = (ReadAheadState *) node;
	CustomScan *scan = (CustomScan *) node->ss.ps.plan;

	outerPlanState(node) = ExecInitNode(outerPlan(scan), estate, eflags);
	oe_read_ahead_unpack(scan->custom_private, &state->plan);
	state->call_count = list_length(state->plan.calls);
	if (!estate->es_epq_active)
		begun_nodes = lappend(begun_nodes, state);
}

static void
empty_window(ReadAheadState *state)
{
	while (state->count > 0)
		drop_head(state);
	state->exhausted = false;
}

static void
end_read_ahead(CustomScanState *node)
{
	empty_window((ReadAheadState *) node);
	ExecEndNode(outerPlanState(node));
}

static void
rescan_read_ahead(CustomScanState *node)
{
	empty_window((ReadAheadState *) node);
	if (outerPlanState(node)->chgParam == NULL)
		ExecReScan(outerPlanState(node));
}

static void
explain_read_ahead(CustomScanState *node, List *ancestors, ExplainState *es)
{
	ReadAheadState *state = (ReadAheadState *) node;

	ExplainPropertyInteger("Concurrency", NULL, oe_settings()->concurrency, es);
	if (!es->analyze)
		return;
	ExplainPropertyInteger("Calls", NULL, state->stats.calls, es);
	ExplainPropertyInteger("Reused", NULL, state->stats.reused, es);
	ExplainPropertyFloat("Credits", NULL,
						 (double) state->stats.credits / OE_CREDITS_ONE, 2, es);

	/* A call not begun early is alone in flight. */
	ExplainPropertyInteger("Peak in Flight", NULL,
						   Max(state->most_in_flight, state->stats.calls > 0), es);
	if (es->timing)
		ExplainPropertyFloat("Wait Time", "ms",
							 state->stats.waited_us / 1000.0, 3, es);
}

static const CustomExecMethods exec_methods = {
	.CustomName = "Read Ahead",
	.BeginCustomScan = begin_read_ahead,
	.ExecCustomScan = exec_read_ahead,
	.EndCustomScan = end_read_ahead,
	.ReScanCustomScan = rescan_read_ahead,
	.ExplainCustomScan = explain_read_ahead,
};

static Node *
create_state(CustomScan *scan)
{
	ReadAheadState *state = (ReadAheadState *)
		newNode(sizeof(ReadAheadState), T_CustomScanState);

	state->css.methods = &exec_methods;

	/*
	 * The target list is compiled before the node below exists, and would
	 * take the slot type from it.  Declare that the type is not fixed.
	 */
	state->css.ss.ps.outeropsset = true;
	state->css.ss.ps.outeropsfixed = false;
	return (Node *) state;
}

const CustomScanMethods oe_read_ahead_methods = {
	.CustomName = "Read Ahead",
	.CreateCustomScanState = create_state,
};

/* ----------------------------------------------------------------
 * Hooks
 * ---------------------------------------------------------------- */

static PlannedStmt *
read_ahead_planner(OE_PLANNER_PARAMETERS)
{
	bool		wanted = oe_read_ahead_wants(parse);
	PlannedStmt *stmt;

#ifdef OE_READ_AHEAD_EVERYTHING
	/* The expected outputs do not contain our nodes. */
	wanted = wanted && strcasestr(query_string, "explain") == NULL;
#endif

	if (previous_planner)
		stmt = previous_planner(OE_PLANNER_ARGUMENTS);
	else
		stmt = standard_planner(OE_PLANNER_ARGUMENTS);
	if (wanted)
		oe_read_ahead_add(stmt, cursor_options);
	return stmt;
}

typedef struct LinkContext
{
	Links	   *links;
	PlanState  *parent;
} LinkContext;

static void
add_link(Links *links, PlanState *child, PlanState *parent)
{
	bool		found;
	Link	   *link = hash_search(links->parents, &child, HASH_ENTER, &found);
	ListCell   *lc;

	link->parent = parent;
	link->via = NULL;
	if (IsA(child, CteScanState))
		links->cte_scans = lappend(links->cte_scans, child);
	if (!parent)
		return;
	foreach(lc, list_concat(list_copy(parent->initPlan), parent->subPlan))
	{
		SubPlanState *subplan = lfirst(lc);

		if (subplan->planstate == child)
			link->via = subplan;
	}
}

static bool
link_walker(PlanState *node, void *context)
{
	LinkContext *outer = context;
	LinkContext inner = {outer->links, node};

	add_link(outer->links, node, outer->parent);
	return planstate_tree_walker(node, link_walker, &inner);
}

static Links *
make_links(QueryDesc *desc)
{
	MemoryContext old = MemoryContextSwitchTo(desc->estate->es_query_cxt);
	Links	   *links = palloc0(sizeof(Links));
	LinkContext context = {links, NULL};
	HASHCTL		ctl = {0};
	ListCell   *lc;

	ctl.keysize = sizeof(PlanState *);
	ctl.entrysize = sizeof(Link);
	ctl.hcxt = CurrentMemoryContext;
	links->parents = hash_create("ocean_enrich plan", 64, &ctl,
								 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	(void) link_walker(desc->planstate, &context);
	foreach(lc, desc->estate->es_auxmodifytables)
	{
		/* A data-modifying WITH that is never read still runs to its end. */
		if (!hash_search(links->parents, &lfirst(lc), HASH_FIND, NULL))
			(void) link_walker(lfirst(lc), &context);
	}
	MemoryContextSwitchTo(old);
	return links;
}

static void
read_ahead_executor_start(QueryDesc *desc, int eflags)
{
	/* Any list left behind by an error was freed with its memory context. */
	begun_nodes = NIL;
	if (previous_executor_start)
		previous_executor_start(desc, eflags);
	else
		standard_ExecutorStart(desc, eflags);
	if (begun_nodes != NIL && !(eflags & EXEC_FLAG_EXPLAIN_ONLY))
	{
		Links	   *links = make_links(desc);
		ListCell   *lc;

		foreach(lc, begun_nodes)
			((ReadAheadState *) lfirst(lc))->links = links;
	}
	begun_nodes = NIL;
}

static void
read_ahead_executor_run(OE_EXECUTOR_RUN_PARAMETERS)
{
	Run			run;

	run.estate = desc->estate;
	run.count = count;
	run.forward = ScanDirectionIsForward(direction);
	run.outer = current_run;
	current_run = &run;
	PG_TRY();
	{
		if (previous_executor_run)
			previous_executor_run(OE_EXECUTOR_RUN_ARGUMENTS);
		else
			standard_ExecutorRun(OE_EXECUTOR_RUN_ARGUMENTS);
	}
	PG_FINALLY();
	{
		current_run = run.outer;
	}
	PG_END_TRY();
}

void
oe_read_ahead_init(void)
{
	RegisterCustomScanMethods(&oe_read_ahead_methods);
	previous_planner = planner_hook;
	planner_hook = read_ahead_planner;
	previous_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = read_ahead_executor_start;
	previous_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = read_ahead_executor_run;
}
