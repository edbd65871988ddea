/*
 * read_ahead_plan.c
 *		Where a finished plan reads ahead.
 *
 * A plan node that computes an enriching call in its target list, or in its
 * filter, is split in two:
 *
 *		N: target list with f(arg)
 *
 * becomes
 *
 *		Read Ahead: the same target list, over the columns below
 *		  N': what those need as bare columns, and arg as a column of its own
 *
 * So each argument is evaluated once, in row order, in the node that always
 * evaluated it, and Read Ahead sees the very datum that the call will see.
 * Below an Agg, whose aggregates' arguments are computed by the Agg itself, N'
 * is a Result that adds the column; and so it is where the inner side of a
 * NestLoop makes the call (LATERAL).
 *
 * Only calls that every row makes are read ahead: see find_calls().  Everything
 * else stays as it is and calls one after the other.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "jit/jit.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/planmain.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "session/read_ahead_plan.h"

/* ----------------------------------------------------------------
 * Our functions
 * ---------------------------------------------------------------- */

typedef enum FunctionKind
{
	FUNCTION_HARMLESS,
	FUNCTION_OURS,
	FUNCTION_VOLATILE,			/* might notice early reads */
} FunctionKind;

typedef struct FunctionEntry
{
	Oid			funcid;
	FunctionKind kind;
} FunctionEntry;

static HTAB *function_kinds;

static void
forget_functions(Datum arg, int cacheid, uint32 hashvalue)
{
	FunctionEntry *entry;
	HASH_SEQ_STATUS status;

	hash_seq_init(&status, function_kinds);
	while ((entry = hash_seq_search(&status)) != NULL)
		(void) hash_search(function_kinds, &entry->funcid, HASH_REMOVE, NULL);
}

/*
 * Only a superuser can create a function in C, so the name of the C function
 * behind the support function is proof.
 */
static bool
is_our_support_function(Oid funcid)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
	bool		ours = false;

	if (!HeapTupleIsValid(tuple))
		return false;
	if (((Form_pg_proc) GETSTRUCT(tuple))->prolang == ClanguageId)
	{
		bool		isnull;
		Datum		prosrc = SysCacheGetAttr(PROCOID, tuple,
											 Anum_pg_proc_prosrc, &isnull);

		ours = !isnull &&
			strcmp(TextDatumGetCString(prosrc), "ocean_enrich_support") == 0;
	}
	ReleaseSysCache(tuple);
	return ours;
}

/*
 * Volatile functions of PostgreSQL that cannot notice early reads.  All
 * others, such as currval() or pg_try_advisory_lock(), might.
 */
static bool
sees_no_rows(Oid funcid)
{
	switch (funcid)
	{
		case F_NEXTVAL:
		case F_RANDOM_:
		case F_CLOCK_TIMESTAMP:
		case F_TIMEOFDAY:
		case F_GEN_RANDOM_UUID:
			return true;
		default:
			return false;
	}
}

static FunctionKind
look_up_kind(Oid funcid)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
	Form_pg_proc proc;
	FunctionKind kind = FUNCTION_HARMLESS;
	Oid			support;
	char		provolatile;

	if (!HeapTupleIsValid(tuple))
		return FUNCTION_VOLATILE;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	support = proc->prosupport;
	provolatile = proc->provolatile;
	ReleaseSysCache(tuple);

	if (OidIsValid(support) && is_our_support_function(support))
		kind = FUNCTION_OURS;
	else if (provolatile == PROVOLATILE_VOLATILE && !sees_no_rows(funcid))
		kind = FUNCTION_VOLATILE;
	return kind;
}

/*
 * OE_READ_AHEAD_EVERYTHING is only for testing: the server's own regression
 * tests are run with every harmless function call treated as one of ours.
 */
static FunctionKind
function_kind(Oid funcid)
{
	FunctionEntry *entry;
	FunctionKind kind;

#ifdef OE_READ_AHEAD_EVERYTHING
	return func_volatile(funcid) == PROVOLATILE_VOLATILE ?
		FUNCTION_HARMLESS : FUNCTION_OURS;
#endif
	if (!function_kinds)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(Oid);
		ctl.entrysize = sizeof(FunctionEntry);
		function_kinds = hash_create("ocean_enrich functions", 64, &ctl,
									 HASH_ELEM | HASH_BLOBS);
		CacheRegisterSyscacheCallback(PROCOID, forget_functions, (Datum) 0);
	}
	entry = hash_search(function_kinds, &funcid, HASH_FIND, NULL);
	if (entry)
		return entry->kind;
	kind = look_up_kind(funcid);
	entry = hash_search(function_kinds, &funcid, HASH_ENTER, NULL);
	entry->kind = kind;
	return kind;
}

/* ----------------------------------------------------------------
 * Queries that read ahead
 * ---------------------------------------------------------------- */

typedef struct QueryCheck
{
	bool		has_ours;
	bool		has_volatile;
} QueryCheck;

static bool
check_function(Oid funcid, void *context)
{
	QueryCheck *check = context;

	switch (function_kind(funcid))
	{
		case FUNCTION_OURS:
			check->has_ours = true;
			break;
		case FUNCTION_VOLATILE:
			check->has_volatile = true;
			break;
		case FUNCTION_HARMLESS:
			break;
	}
	return false;
}

static bool
check_query_walker(Node *node, void *context)
{
	if (!node)
		return false;
	(void) check_functions_in_node(node, check_function, context);
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, check_query_walker, context, 0);
	return expression_tree_walker(node, check_query_walker, context);
}

bool
oe_read_ahead_wants(Query *query)
{
	QueryCheck	check = {false, false};

	(void) check_query_walker((Node *) query, &check);
	if (check.has_ours && check.has_volatile)
		elog(DEBUG1, "not reading ahead: the query has another volatile function");
	return check.has_ours && !check.has_volatile;
}

/* ----------------------------------------------------------------
 * Calls that every row makes
 * ---------------------------------------------------------------- */

static bool
is_call(Node *node)
{
	return IsA(node, FuncExpr) &&
		function_kind(((FuncExpr *) node)->funcid) == FUNCTION_OURS &&
		((FuncExpr *) node)->args != NIL
#ifndef OE_READ_AHEAD_EVERYTHING
		&& exprType(linitial(((FuncExpr *) node)->args)) == JSONBOID
#endif
		;
}

/* The arguments that are known before the call is made: they become columns. */
static List *
arguments_of(FuncExpr *call)
{
#ifdef OE_READ_AHEAD_EVERYTHING
	return list_make1(linitial(call->args));
#else
	return call->args;
#endif
}

static bool
contains_call_walker(Node *node, void *context)
{
	if (!node)
		return false;
	if (is_call(node))
		return true;
	return expression_tree_walker(node, contains_call_walker, context);
}

static bool
contains_call(Node *node)
{
	return contains_call_walker(node, NULL);
}

/* Detects Params that a MULTIEXPR sub-select of the same target list sets. */
static bool
reads_param_walker(Node *node, void *context)
{
	if (!node)
		return false;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXEC &&
		bms_is_member(((Param *) node)->paramid, (Bitmapset *) context))
		return true;
	return expression_tree_walker(node, reads_param_walker, context);
}

typedef struct FindCalls
{
	Bitmapset  *multiexpr_params;
	List	   *calls;			/* FuncExprs, in evaluation order */
	List	   *subplans;		/* SubPlans, likewise */
} FindCalls;

static void find_calls(Node *node, FindCalls *find);

static void
find_calls_in_list(List *nodes, FindCalls *find)
{
	ListCell   *lc;

	foreach(lc, nodes)
		find_calls(lfirst(lc), find);
}

/*
 * Collect the calls that are made whenever the expression is evaluated.  Only
 * node types known to evaluate a part unconditionally are entered.
 */
static void
find_calls(Node *node, FindCalls *find)
{
	int			subplans;

	if (!node)
		return;
	switch (nodeTag(node))
	{
		case T_FuncExpr:
			subplans = list_length(find->subplans);
			find_calls_in_list(((FuncExpr *) node)->args, find);
			if (is_call(node))
			{
				Node	   *args = (Node *) arguments_of((FuncExpr *) node);

				/*
				 * A constant makes the same request for all rows: one is
				 * enough.  A call in an argument would be made before its
				 * own argument is examined, and then begun once more.
				 */
				if (IsA(linitial((List *) args), Const) || contains_call(args) ||
					contain_volatile_functions(args) ||
					reads_param_walker(args, find->multiexpr_params))
					break;

				/* The arguments are computed below Read Ahead. */
				find->calls = lappend(find->calls, node);
				find->subplans = list_truncate(find->subplans, subplans);
			}
			break;
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
			find_calls_in_list(((OpExpr *) node)->args, find);
			break;
		case T_ScalarArrayOpExpr:
			find_calls_in_list(((ScalarArrayOpExpr *) node)->args, find);
			break;
		case T_BoolExpr:
			find_calls(linitial(((BoolExpr *) node)->args), find);
			break;
		case T_CoalesceExpr:
			find_calls(linitial(((CoalesceExpr *) node)->args), find);
			break;
		case T_CaseExpr:
			if (((CaseExpr *) node)->arg)
				find_calls((Node *) ((CaseExpr *) node)->arg, find);
			else
				find_calls((Node *) ((CaseWhen *)
									 linitial(((CaseExpr *) node)->args))->expr,
						   find);
			break;
		case T_MinMaxExpr:
			find_calls_in_list(((MinMaxExpr *) node)->args, find);
			break;
		case T_RowExpr:
			find_calls_in_list(((RowExpr *) node)->args, find);
			break;
		case T_ArrayExpr:
			find_calls_in_list(((ArrayExpr *) node)->elements, find);
			break;
		case T_SubscriptingRef:
			find_calls((Node *) ((SubscriptingRef *) node)->refexpr, find);
			break;
		case T_FieldSelect:
			find_calls((Node *) ((FieldSelect *) node)->arg, find);
			break;
		case T_RelabelType:
			find_calls((Node *) ((RelabelType *) node)->arg, find);
			break;
		case T_CoerceViaIO:
			find_calls((Node *) ((CoerceViaIO *) node)->arg, find);
			break;
		case T_ArrayCoerceExpr:
			find_calls((Node *) ((ArrayCoerceExpr *) node)->arg, find);
			break;
		case T_ConvertRowtypeExpr:
			find_calls((Node *) ((ConvertRowtypeExpr *) node)->arg, find);
			break;
		case T_CollateExpr:
			find_calls((Node *) ((CollateExpr *) node)->arg, find);
			break;
		case T_CoerceToDomain:
			find_calls((Node *) ((CoerceToDomain *) node)->arg, find);
			break;
		case T_NullTest:
			find_calls((Node *) ((NullTest *) node)->arg, find);
			break;
		case T_BooleanTest:
			find_calls((Node *) ((BooleanTest *) node)->arg, find);
			break;
		case T_SubPlan:
			if (((SubPlan *) node)->subLinkType == EXPR_SUBLINK ||
				((SubPlan *) node)->subLinkType == MULTIEXPR_SUBLINK)
				find->subplans = lappend(find->subplans, node);
			break;
		default:
			break;
	}
}

static bool
multiexpr_walker(Node *node, void *context)
{
	if (!node)
		return false;
	if (IsA(node, SubPlan) &&
		((SubPlan *) node)->subLinkType == MULTIEXPR_SUBLINK)
	{
		Bitmapset **params = context;
		ListCell   *lc;

		foreach(lc, ((SubPlan *) node)->setParam)
		{
			*params = bms_add_member(*params, lfirst_int(lc));
		}
	}
	return expression_tree_walker(node, multiexpr_walker, context);
}

/* ----------------------------------------------------------------
 * Splitting a node
 * ---------------------------------------------------------------- */

/* The columns that Read Ahead gets from the node below. */
typedef struct Columns
{
	List	   *tlist;			/* TargetEntry */
	List	   *calls;			/* FuncExprs whose argument is a column */
	List	   *subplans;		/* SubPlans that make calls when they run ... */
	Bitmapset  *subplan_params; /* ... and the Params that they set, if any */
} Columns;

static Var *
column_var(TargetEntry *tle)
{
	return makeVar(OUTER_VAR, tle->resno,
				   exprType((Node *) tle->expr),
				   exprTypmod((Node *) tle->expr),
				   exprCollation((Node *) tle->expr), 0);
}

/* The column that carries "expr", added if there is none. */
static Var *
carry_expression(Columns *columns, Expr *expr)
{
	ListCell   *lc;
	TargetEntry *tle;

	foreach(lc, columns->tlist)
	{
		tle = lfirst(lc);
		if (equal(tle->expr, expr))
			return column_var(tle);
	}
	tle = makeTargetEntry(copyObject(expr), list_length(columns->tlist) + 1,
						  NULL, false);
	columns->tlist = lappend(columns->tlist, tle);
	return column_var(tle);
}

static List *
carry_expressions(Columns *columns, List *exprs)
{
	List	   *vars = NIL;
	ListCell   *lc;

	foreach(lc, exprs)
		vars = lappend(vars, carry_expression(columns, lfirst(lc)));
	return vars;
}

/* Translates an expression of the node below to use the columns. */
static Node *
lift_mutator(Node *node, void *context)
{
	Columns    *columns = context;

	if (!node)
		return NULL;
	if (list_member_ptr(columns->calls, node))
	{
		FuncExpr   *call = (FuncExpr *) node;
		FuncExpr   *lifted = makeNode(FuncExpr);
		List	   *carried = carry_expressions(columns, arguments_of(call));
		List	   *others = list_copy_tail(call->args, list_length(carried));

		memcpy(lifted, call, sizeof(FuncExpr));
		lifted->args = list_concat(carried,
								   (List *) lift_mutator((Node *) others, columns));
		return (Node *) lifted;
	}
	if (IsA(node, Var) || IsA(node, Aggref) || IsA(node, GroupingFunc) ||
		IsA(node, WindowFunc))
		return (Node *) carry_expression(columns, (Expr *) node);
	return expression_tree_mutator(node, lift_mutator, context);
}

static List *
pack_plan(const OeReadAheadPlan *plan)
{
	return list_make3(plan->calls, makeBoolean(plan->elsewhere),
					  makeBoolean(plan->cached));
}

void
oe_read_ahead_unpack(List *custom_private, OeReadAheadPlan *plan)
{
	plan->calls = linitial(custom_private);
	plan->elsewhere = boolVal(lsecond(custom_private));
	plan->cached = boolVal(lthird(custom_private));
}

static CustomScan *
make_read_ahead(Plan *below, List *tlist, List *qual,
				const OeReadAheadPlan *how)
{
	CustomScan *scan = makeNode(CustomScan);
	Plan	   *plan = &scan->scan.plan;

	plan->startup_cost = below->startup_cost;
	plan->total_cost = below->total_cost;
	plan->plan_rows = below->plan_rows;
	plan->plan_width = below->plan_width;
	plan->parallel_aware = false;
	plan->parallel_safe = false;
	plan->targetlist = tlist;
	plan->qual = qual;
	plan->lefttree = below;
	plan->initPlan = below->initPlan;
	below->initPlan = NIL;
	plan->extParam = bms_copy(below->extParam);
	plan->allParam = bms_copy(below->allParam);
	scan->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	scan->custom_private = pack_plan(how);
	scan->methods = &oe_read_ahead_methods;
	return scan;
}

/* The column with an argument of this type; 0 if there is none. */
static int
column_of_type(List *vars, Oid type)
{
	ListCell   *lc;

	foreach(lc, vars)
	{
		if (((Var *) lfirst(lc))->vartype == type)
			return ((Var *) lfirst(lc))->varattno;
	}
	return 0;
}

/* Add a call whose arguments become columns. */
static void
add_call(OeReadAheadPlan *how, Columns *columns, FuncExpr *call, List *args)
{
	List	   *vars = carry_expressions(columns, args);

	/* The functions that do not raise return a composite with the error. */
	how->calls = lappend(how->calls,
						 list_make4_int(((Var *) linitial(vars))->varattno,
										column_of_type(vars, TEXTOID),
										column_of_type(vars, INTERVALOID),
										call->funcresulttype == JSONBOID));
}

static OeReadAheadPlan
plan_of_calls(Columns *columns)
{
	OeReadAheadPlan how = {0};
	ListCell   *lc;

	foreach(lc, columns->calls)
	{
		add_call(&how, columns, lfirst(lc), arguments_of(lfirst(lc)));
	}
	return how;
}

static List *
lift_tlist(List *tlist, Columns *columns)
{
	List	   *lifted = NIL;
	ListCell   *lc;

	foreach(lc, tlist)
	{
		TargetEntry *tle = flatCopyTargetEntry(lfirst(lc));

		tle->expr = (Expr *) lift_mutator((Node *) tle->expr, columns);
		lifted = lappend(lifted, tle);
	}
	return lifted;
}

/* Remove the conditions from the first one with a call on; they move up. */
static List *
take_calling_quals(Plan *plan)
{
	List	   *taken = NIL;
	List	   *stay = NIL;
	ListCell   *lc;

	foreach(lc, plan->qual)
	{
		if (taken != NIL || contains_call(lfirst(lc)))
			taken = lappend(taken, lfirst(lc));
		else
			stay = lappend(stay, lfirst(lc));
	}
	plan->qual = stay;
	return taken;
}

/* May the node's expressions be evaluated above it instead? */
static bool
is_splittable(Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_SeqScan:
		case T_SampleScan:
		case T_IndexScan:
		case T_IndexOnlyScan:
		case T_BitmapHeapScan:
		case T_TidScan:
		case T_TidRangeScan:
		case T_SubqueryScan:
		case T_FunctionScan:
		case T_TableFuncScan:
		case T_CteScan:
		case T_NamedTuplestoreScan:
		case T_NestLoop:
		case T_MergeJoin:
		case T_HashJoin:
		case T_Agg:
		case T_Group:
		case T_WindowAgg:
		case T_Gather:
		case T_GatherMerge:
			return true;
		case T_Result:
			return plan->lefttree != NULL;
		default:
			return false;
	}
}

/* Find the calls in a list of expressions or target entries. */
static FindCalls
find_in_list(List *list)
{
	FindCalls	find = {NULL, NIL, NIL};
	ListCell   *lc;

	(void) multiexpr_walker((Node *) list, &find.multiexpr_params);
	foreach(lc, list)
	{
		Node	   *item = lfirst(lc);

		find_calls(IsA(item, TargetEntry)
				   ? (Node *) ((TargetEntry *) item)->expr : item, &find);
	}
	return find;
}

static List *
unconditional_calls(List *list)
{
	return find_in_list(list).calls;
}

/* ----------------------------------------------------------------
 * Calls of a plan whose Params we know
 * ---------------------------------------------------------------- */

/* Calls that a plan without a table makes in each run. */
static List *
calls_of_run(Plan *plan)
{
	List	   *calls = NIL;
	ListCell   *lc;

	if (plan && IsA(plan, SubqueryScan))
		plan = ((SubqueryScan *) plan)->subplan;
	if (!plan)
		return NIL;
	if (IsA(plan, Result) && !plan->lefttree &&
		!((Result *) plan)->resconstantqual)
		return unconditional_calls(plan->targetlist);
	if (!IsA(plan, FunctionScan))
		return NIL;
	foreach(lc, ((FunctionScan *) plan)->functions)
	{
		RangeTblFunction *function = lfirst(lc);

		calls = list_concat(calls,
							unconditional_calls(list_make1(function->funcexpr)));
	}
	return calls;
}

typedef struct LiftParams
{
	List	   *ids;			/* Params that are set for each run ... */
	List	   *values;			/* ... and the expressions that set them */
	Bitmapset  *external;		/* Params that are the same for both plans */
	bool		depends;		/* true if a Param of each run is used */
	bool		impossible;		/* true if a Param exists only in the plan */
} LiftParams;

/* Replaces Params set for each run with the expressions that set them. */
static Node *
param_mutator(Node *node, void *context)
{
	LiftParams *lift = context;
	ListCell   *id;
	ListCell   *value;

	if (!node)
		return NULL;
	if (!IsA(node, Param) || ((Param *) node)->paramkind != PARAM_EXEC)
		return expression_tree_mutator(node, param_mutator, context);
	forboth(id, lift->ids, value, lift->values)
	{
		if (lfirst_int(id) == ((Param *) node)->paramid)
		{
			lift->depends = true;
			return copyObject(lfirst(value));
		}
	}
	if (!bms_is_member(((Param *) node)->paramid, lift->external))
		lift->impossible = true;
	return copyObject(node);
}

/* A sub-select can be evaluated only in its original node. */
static bool
has_subplan_walker(Node *node, void *context)
{
	if (!node)
		return false;
	if (IsA(node, SubPlan) || IsA(node, AlternativeSubPlan))
		return true;
	return expression_tree_walker(node, has_subplan_walker, context);
}

/*
 * The calls stay where they are; their arguments become columns, so that the
 * calls can be begun as soon as the row is there.
 */
static void
add_calls_of_run(OeReadAheadPlan *how, Columns *columns, Plan *plan,
				 List *ids, List *values, Bitmapset *external)
{
	ListCell   *lc;

	foreach(lc, calls_of_run(plan))
	{
		LiftParams	lift = {ids, values, external, false, false};
		Node	   *args = param_mutator((Node *) arguments_of(lfirst(lc)), &lift);

		/* Without Params set for each run, the plan runs only once. */
		if (lift.depends && !lift.impossible &&
			!has_subplan_walker(args, NULL) && !contain_volatile_functions(args))
			add_call(how, columns, lfirst(lc), (List *) args);
	}
}

static Plan *
plan_of_subplan(SubPlan *subplan, PlannedStmt *stmt)
{
	return list_nth(stmt->subplans, subplan->plan_id - 1);
}

/* Find the calls that the node makes for each of its rows. */
static void
find_calls_of_node(List *tlist, PlannedStmt *stmt, Columns *columns)
{
	FindCalls	find = find_in_list(tlist);
	ListCell   *lc;
	ListCell   *param;

	columns->calls = find.calls;
	foreach(lc, find.subplans)
	{
		SubPlan    *subplan = lfirst(lc);

		if (calls_of_run(plan_of_subplan(subplan, stmt)) == NIL)
			continue;
		columns->subplans = lappend(columns->subplans, subplan);
		foreach(param, subplan->setParam)
			columns->subplan_params = bms_add_member(columns->subplan_params,
													 lfirst_int(param));
	}
}

/* Add calls in SET (a, b) = (SELECT ... FROM f(x)) and the like. */
static void
add_calls_of_subplans(OeReadAheadPlan *how, Columns *columns, Plan *plan,
					  PlannedStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, columns->subplans)
	{
		SubPlan    *subplan = lfirst(lc);

		add_calls_of_run(how, columns, plan_of_subplan(subplan, stmt),
						 subplan->parParam, subplan->args, plan->extParam);
	}
}

/* ----------------------------------------------------------------
 * Splitting a node that makes calls
 * ---------------------------------------------------------------- */

/* Split the node if it makes calls for each of its rows. */
static Plan *
split_node(Plan *plan, PlannedStmt *stmt)
{
	Columns		columns = {NIL, NIL, NIL, NULL};
	OeReadAheadPlan how;
	List	   *qual;
	List	   *tlist;

	if (!is_splittable(plan))
		return plan;
	if (contains_call((Node *) plan->qual))
	{
		List	   *all = plan->qual;

		/* Conditions after the first one are evaluated only if it is true. */
		qual = take_calling_quals(plan);
		columns.calls = unconditional_calls(list_make1(linitial(qual)));
		if (columns.calls == NIL)
			plan->qual = all;
	}
	else
	{
		qual = NIL;
		find_calls_of_node(plan->targetlist, stmt, &columns);
	}
	if (columns.calls == NIL && columns.subplans == NIL)
		return plan;

	tlist = lift_tlist(plan->targetlist, &columns);
	qual = (List *) lift_mutator((Node *) qual, &columns);
	how = plan_of_calls(&columns);
	add_calls_of_subplans(&how, &columns, plan, stmt);
	if (how.calls == NIL)
		return plan;
	plan = (Plan *) make_read_ahead(plan, tlist, qual, &how);
	plan->lefttree->targetlist = columns.tlist;
	return plan;
}

/* ----------------------------------------------------------------
 * Below an Agg
 * ---------------------------------------------------------------- */

static bool
aggref_walker(Node *node, void *context)
{
	List	  **aggrefs = context;

	if (!node)
		return false;
	if (IsA(node, Aggref))
	{
		*aggrefs = lappend(*aggrefs, node);
		return false;
	}
	return expression_tree_walker(node, aggref_walker, context);
}

/* Calls in aggregates' arguments that are made for each row. */
static List *
calls_of_aggregates(Agg *agg)
{
	List	   *aggrefs = NIL;
	List	   *calls = NIL;
	ListCell   *lc;

	/* Grouping sets compute arguments once for each of them. */
	if (agg->groupingSets != NIL || agg->chain != NIL)
		return NIL;
	(void) aggref_walker((Node *) agg->plan.targetlist, &aggrefs);
	(void) aggref_walker((Node *) agg->plan.qual, &aggrefs);
	foreach(lc, aggrefs)
	{
		Aggref	   *aggref = lfirst(lc);

		if (!aggref->aggfilter)
			calls = list_concat(calls,
								unconditional_calls(aggref->args));
	}
	return calls;
}

typedef struct ReplaceCalls
{
	List	   *calls;
	List	   *vars;			/* the column that replaces each call */
} ReplaceCalls;

static Node *
replace_calls_mutator(Node *node, void *context)
{
	ReplaceCalls *replace = context;
	ListCell   *call;
	ListCell   *var;

	if (!node)
		return NULL;
	forboth(call, replace->calls, var, replace->vars)
	{
		if (lfirst(call) == node)
			return copyObject(lfirst(var));
	}
	return expression_tree_mutator(node, replace_calls_mutator, context);
}

/* The columns of the plan below, unchanged. */
static List *
passed_columns(List *tlist)
{
	List	   *passed = NIL;
	ListCell   *lc;

	foreach(lc, tlist)
	{
		TargetEntry *tle = flatCopyTargetEntry(lfirst(lc));

		tle->expr = (Expr *) column_var(lfirst(lc));
		passed = lappend(passed, tle);
	}
	return passed;
}

/* Make a node that adds columns to those of the plan below. */
static Plan *
make_result(Plan *below, List *tlist)
{
	Result	   *result = makeNode(Result);

	result->plan.startup_cost = below->startup_cost;
	result->plan.total_cost = below->total_cost;
	result->plan.plan_rows = below->plan_rows;
	result->plan.plan_width = below->plan_width;
	result->plan.targetlist = tlist;
	result->plan.lefttree = below;
	result->plan.extParam = bms_copy(below->extParam);
	result->plan.allParam = bms_copy(below->allParam);
	return &result->plan;
}

/*
 * An Agg computes its aggregates' arguments itself.  The calls among them move
 * below it: a Result adds their arguments, and Read Ahead makes the calls.
 */
static void
split_below_agg(Agg *agg)
{
	Columns		columns = {NIL, calls_of_aggregates(agg), NIL, NULL};
	ReplaceCalls replace = {columns.calls, NIL};
	Plan	   *below = agg->plan.lefttree;
	OeReadAheadPlan how;
	List	   *tlist;
	ListCell   *lc;

	if (columns.calls == NIL)
		return;
	tlist = passed_columns(below->targetlist);
	columns.tlist = passed_columns(below->targetlist);
	foreach(lc, columns.calls)
	{
		TargetEntry *tle =
			makeTargetEntry((Expr *) lift_mutator(lfirst(lc), &columns),
							list_length(tlist) + 1, NULL, false);

		tlist = lappend(tlist, tle);
		replace.vars = lappend(replace.vars, column_var(tle));
	}

	how = plan_of_calls(&columns);
	agg->plan.lefttree = (Plan *)
		make_read_ahead(make_result(below, columns.tlist), tlist, NIL, &how);
	agg->plan.targetlist = (List *)
		replace_calls_mutator((Node *) agg->plan.targetlist, &replace);
	agg->plan.qual = (List *)
		replace_calls_mutator((Node *) agg->plan.qual, &replace);
}

/* ----------------------------------------------------------------
 * Beside a NestLoop's inner side
 * ---------------------------------------------------------------- */

/*
 * LATERAL: the inner side makes a call for each outer row, with that row's
 * columns as arguments.  The outer side begins the calls; each call itself
 * stays where it is and takes over the one begun early.
 */
static void
begin_beside_nestloop(NestLoop *loop)
{
	Columns		columns = {NIL, NIL, NIL, NULL};
	Plan	   *outer = loop->join.plan.lefttree;
	Plan	   *inner = loop->join.plan.righttree;
	OeReadAheadPlan how = {.elsewhere = true, .cached = IsA(inner, Memoize)};
	List	   *ids = NIL;
	List	   *values = NIL;
	ListCell   *lc;

	foreach(lc, loop->nestParams)
	{
		NestLoopParam *param = lfirst(lc);

		ids = lappend_int(ids, param->paramno);
		values = lappend(values, param->paramval);
	}
	columns.tlist = passed_columns(outer->targetlist);
	add_calls_of_run(&how, &columns, how.cached ? inner->lefttree : inner,
					 ids, values, loop->join.plan.extParam);
	if (how.calls != NIL)
		loop->join.plan.lefttree = (Plan *)
			make_read_ahead(make_result(outer, columns.tlist),
							passed_columns(outer->targetlist), NIL, &how);
}

/* ----------------------------------------------------------------
 * Above an Append
 * ---------------------------------------------------------------- */

/* Does the node make calls, or read a Param set by a sub-select that does? */
static bool
must_be_lifted_walker(Node *node, void *context)
{
	Columns    *columns = context;

	if (!node)
		return false;
	if (is_call(node) || list_member_ptr(columns->subplans, node))
		return true;
	return expression_tree_walker(node, must_be_lifted_walker, context);
}

static bool
must_be_lifted(Node *expr, Columns *columns)
{
	return must_be_lifted_walker(expr, columns) ||
		reads_param_walker(expr, columns->subplan_params);
}

/*
 * Each partition makes the calls for its own rows; one node above them all
 * keeps more calls in flight than one in each.  Target entries without calls
 * are still computed below; those with calls are lifted, and must be equal for
 * each child.  The entries' names and marks are the Append's.  Returns false
 * to leave the calls to the children.
 */
static bool
lift_child(Plan *child, List *labels, List *template, Columns *columns,
		   List **tlist, PlannedStmt *stmt)
{
	ListCell   *lc;

	*tlist = NIL;
	find_calls_of_node(child->targetlist, stmt, columns);
	if (!is_splittable(child) ||
		(columns->calls == NIL && columns->subplans == NIL) ||
		contains_call((Node *) child->qual))
		return false;
	foreach(lc, child->targetlist)
	{
		TargetEntry *tle =
			flatCopyTargetEntry(list_nth(labels, foreach_current_index(lc)));

		tle->expr = ((TargetEntry *) lfirst(lc))->expr;
		if (must_be_lifted((Node *) tle->expr, columns))
			tle->expr = (Expr *) lift_mutator((Node *) tle->expr, columns);
		else if (contain_volatile_functions((Node *) tle->expr))
			return false;
		else
		{
			TargetEntry *column =
				makeTargetEntry(tle->expr, list_length(columns->tlist) + 1,
								NULL, false);

			columns->tlist = lappend(columns->tlist, column);
			tle->expr = (Expr *) column_var(column);
		}
		*tlist = lappend(*tlist, tle);
	}
	if (!template)
		return true;
	foreach(lc, *tlist)
	{
		TargetEntry *tle = lfirst(lc);
		TargetEntry *other = list_nth(template, foreach_current_index(lc));

		if (!equal(tle->expr, other->expr))
			return false;
	}
	return true;
}

static Plan *
hoist_above_append(Append *append, PlannedStmt *stmt)
{
	List	   *tlist = NIL;
	List	   *child_tlists = NIL;
	OeReadAheadPlan how = {0};
	ListCell   *lc;

	foreach(lc, append->appendplans)
	{
		Columns		columns = {NIL, NIL, NIL, NULL};
		OeReadAheadPlan child_how;
		List	   *child_tlist;

		if (!lift_child(lfirst(lc), append->plan.targetlist, tlist,
						&columns, &child_tlist, stmt))
			return NULL;
		child_how = plan_of_calls(&columns);
		add_calls_of_subplans(&child_how, &columns, lfirst(lc), stmt);
		if (!tlist)
		{
			tlist = child_tlist;
			how = child_how;
		}
		if (how.calls == NIL ||
			!equal(how.calls, child_how.calls))
			return NULL;
		child_tlists = lappend(child_tlists, columns.tlist);
	}
	foreach(lc, append->appendplans)
	{
		Plan	   *child = lfirst(lc);

		child->targetlist = list_nth(child_tlists, foreach_current_index(lc));
	}
	append->plan.targetlist = passed_columns(linitial(child_tlists));
	return (Plan *) make_read_ahead((Plan *) append, tlist, NIL, &how);
}

/* ----------------------------------------------------------------
 * The whole plan
 * ---------------------------------------------------------------- */

static Plan *process_plan(Plan *plan, PlannedStmt *stmt);

static void
process_plans(List *plans, PlannedStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, plans)
		lfirst(lc) = process_plan(lfirst(lc), stmt);
}

/* Process the children of a node where reading ahead may be useful. */
static void
process_children(Plan *plan, PlannedStmt *stmt)
{
	switch (nodeTag(plan))
	{
		case T_Gather:			/* parallel workers make no calls */
		case T_GatherMerge:
		case T_Memoize:			/* fetches a row only now and then */
		case T_RecursiveUnion:
		case T_CustomScan:		/* not ours to change */
		case T_ForeignScan:
			return;
		case T_MergeJoin:		/* moves back and forth on its inner side */
		case T_NestLoop:		/* rescans its inner side for each row */
			plan->lefttree = process_plan(plan->lefttree, stmt);
			return;
		case T_SubqueryScan:
			((SubqueryScan *) plan)->subplan =
				process_plan(((SubqueryScan *) plan)->subplan, stmt);
			return;
		case T_Append:
			process_plans(((Append *) plan)->appendplans, stmt);
			return;
		case T_MergeAppend:
			process_plans(((MergeAppend *) plan)->mergeplans, stmt);
			return;
		default:
			if (plan->lefttree)
				plan->lefttree = process_plan(plan->lefttree, stmt);
			if (plan->righttree)
				plan->righttree = process_plan(plan->righttree, stmt);
	}
}

static Plan *
process_plan(Plan *plan, PlannedStmt *stmt)
{
	Plan	   *hoisted = NULL;

	if (!plan)
		return NULL;
	check_stack_depth();
	if (IsA(plan, Append) && ((Append *) plan)->appendplans != NIL)
		hoisted = hoist_above_append((Append *) plan, stmt);
	process_children(plan, stmt);
	if (hoisted)
		return hoisted;
	if (IsA(plan, Agg))
		split_below_agg((Agg *) plan);
	if (IsA(plan, NestLoop))
		begin_beside_nestloop((NestLoop *) plan);
	return split_node(plan, stmt);
}

/* Collects the new nodes, and the highest node number in use. */
typedef struct NumberNodes
{
	int			last_id;
	List	   *added;
} NumberNodes;

static void number_nodes(Plan *plan, NumberNodes *number);

static void
number_list(List *plans, NumberNodes *number)
{
	ListCell   *lc;

	foreach(lc, plans)
		number_nodes(lfirst(lc), number);
}

static void
number_nodes(Plan *plan, NumberNodes *number)
{
	if (!plan)
		return;
	number->last_id = Max(number->last_id, plan->plan_node_id);
	number_nodes(plan->lefttree, number);
	number_nodes(plan->righttree, number);
	switch (nodeTag(plan))
	{
		case T_SubqueryScan:
			number_nodes(((SubqueryScan *) plan)->subplan, number);
			break;
		case T_Append:
			number_list(((Append *) plan)->appendplans, number);
			break;
		case T_MergeAppend:
			number_list(((MergeAppend *) plan)->mergeplans, number);
			break;
		case T_BitmapAnd:
			number_list(((BitmapAnd *) plan)->bitmapplans, number);
			break;
		case T_BitmapOr:
			number_list(((BitmapOr *) plan)->bitmapplans, number);
			break;
		case T_CustomScan:
			number_list(((CustomScan *) plan)->custom_plans, number);
			if (((CustomScan *) plan)->methods != &oe_read_ahead_methods)
				break;
			number->added = lappend(number->added, plan);

			/* The Result from make_result() has no number yet, either. */
			if (IsA(plan->lefttree, Result) && plan->lefttree->plan_node_id == 0)
				number->added = lappend(number->added, plan->lefttree);
			break;
		default:
			break;
	}
}

void
oe_read_ahead_add(PlannedStmt *stmt, int cursor_options)
{
	NumberNodes number = {0, NIL};
	bool		backward;
	ListCell   *lc;

	/* A scrollable cursor must remain scrollable. */
	backward = (cursor_options & CURSOR_OPT_SCROLL) ||
		((cursor_options & CURSOR_OPT_FAST_PLAN) &&
		 !(cursor_options & CURSOR_OPT_NO_SCROLL));
	backward = backward && ExecSupportsBackwardScan(stmt->planTree);

	stmt->planTree = process_plan(stmt->planTree, stmt);
	process_plans(stmt->subplans, stmt);
	if (backward && !ExecSupportsBackwardScan(stmt->planTree))
	{
		stmt->planTree = materialize_finished_plan(stmt->planTree);
		number.added = list_make1(stmt->planTree);
	}
	number_nodes(stmt->planTree, &number);
	number_list(stmt->subplans, &number);

	/* A plan that waits for the network gains nothing from JIT. */
	if (number.added != NIL)
		stmt->jitFlags = PGJIT_NONE;
	foreach(lc, number.added)
		((Plan *) lfirst(lc))->plan_node_id = ++number.last_id;
#ifdef OE_READ_AHEAD_EVERYTHING
	/* The test checks that there was something to test. */
	elog(LOG_SERVER_ONLY, "read ahead: %d nodes", list_length(number.added));
#endif
}
