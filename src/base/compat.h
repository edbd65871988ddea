/*
 * compat.h
 *		Differences between the supported PostgreSQL versions.
 *
 * The rest of the code is written for the newest version; definitions for
 * older ones are here.
 */
#ifndef OE_COMPAT_H
#define OE_COMPAT_H

/* 18 moved the functions that print properties to headers of their own. */
#include "commands/explain.h"
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif

#include "catalog/dependency.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "optimizer/planner.h"
#include "parser/parse_relation.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "utils/dsa.h"
#include "utils/rel.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/wait_event.h"

#if PG_VERSION_NUM < 150000
#error "ocean_enrich needs PostgreSQL 15 or newer"
#endif

/* 18 puts the noreturn marker in front of the return type. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn	__attribute__((noreturn))
#endif

/* 17 numbers processes from 0 and calls the number MyProcNumber. */
#if PG_VERSION_NUM < 170000
#define MyProcNumber	(MyProc->pgprocno)
#endif

/*
 * 17 ties a WaitEventSet to a resource owner.  Ours lives as long as the
 * worker, so NULL is right there.  Earlier versions take a memory context.
 */
#if PG_VERSION_NUM >= 170000
#define oe_create_wait_event_set(n)	CreateWaitEventSet(NULL, (n))
#else
#define oe_create_wait_event_set(n)	CreateWaitEventSet(TopMemoryContext, (n))
#endif

/* 16 has its own functions to allocate and free the values of settings. */
#if PG_VERSION_NUM < 160000
#define guc_malloc(elevel, size)	malloc(size)
#define guc_strdup(elevel, string)	strdup(string)
#define guc_free(value)	free(value)
#endif

/* 17 lets an extension name its wait events. */
#if PG_VERSION_NUM < 170000
#define WaitEventExtensionNew(name)	PG_WAIT_EXTENSION
#endif

/* 17 names the handle that stands for no DSA area. */
#ifndef DSA_HANDLE_INVALID
#define DSA_HANDLE_INVALID	DSM_HANDLE_INVALID
#endif

/* 19 names a tranche for the whole server when its ID is allocated. */
#if PG_VERSION_NUM >= 190000
#define oe_new_tranche(name)	LWLockNewTrancheId(name)
#define oe_register_tranche(id, name)	((void) 0)
#else
#define oe_new_tranche(name)	LWLockNewTrancheId()
#define oe_register_tranche(id, name)	LWLockRegisterTranche((id), (name))
#endif

/* 17 adds a random() with a range, so the names include the arguments. */
#if PG_VERSION_NUM < 170000
#define F_RANDOM_	F_RANDOM
#endif

/* 18 drops an argument of ExecutorRun, 19 adds one to the planner. */
#if PG_VERSION_NUM >= 180000
#define OE_EXECUTOR_RUN_PARAMETERS \
	QueryDesc *desc, ScanDirection direction, uint64 count
#define OE_EXECUTOR_RUN_ARGUMENTS	desc, direction, count
#else
#define OE_EXECUTOR_RUN_PARAMETERS \
	QueryDesc *desc, ScanDirection direction, uint64 count, bool execute_once
#define OE_EXECUTOR_RUN_ARGUMENTS	desc, direction, count, execute_once
#endif

#if PG_VERSION_NUM >= 190000
#define OE_PLANNER_PARAMETERS \
	Query *parse, const char *query_string, int cursor_options, \
	ParamListInfo params, ExplainState *es
#define OE_PLANNER_ARGUMENTS	parse, query_string, cursor_options, params, es
#else
#define OE_PLANNER_PARAMETERS \
	Query *parse, const char *query_string, int cursor_options, \
	ParamListInfo params
#define OE_PLANNER_ARGUMENTS	parse, query_string, cursor_options, params
#endif

/* 17 takes the relation rather than its OID. */
#if PG_VERSION_NUM >= 170000
#define oe_identity_sequence(rel, attnum) \
	getIdentitySequence((rel), (attnum), false)
#else
#define oe_identity_sequence(rel, attnum) \
	getIdentitySequence(RelationGetRelid(rel), (attnum), false)
#endif

/*
 * Set up the range table of an executor state that writes one relation.  16
 * keeps permissions in a separate list, 18 also takes the set of unpruned
 * entries.
 */
static inline void
oe_init_range_table(EState *estate, Relation relation)
{
	RangeTblEntry *entry = makeNode(RangeTblEntry);

	entry->rtekind = RTE_RELATION;
	entry->relid = RelationGetRelid(relation);
	entry->relkind = relation->rd_rel->relkind;
	entry->rellockmode = RowExclusiveLock;
#if PG_VERSION_NUM >= 160000
	{
		List	   *permissions = NIL;

		addRTEPermissionInfo(&permissions, entry);
#if PG_VERSION_NUM >= 180000
		ExecInitRangeTable(estate, list_make1(entry), permissions,
						   bms_make_singleton(1));
#else
		ExecInitRangeTable(estate, list_make1(entry), permissions);
#endif
	}
#else
	ExecInitRangeTable(estate, list_make1(entry));
#endif
}

/* 16 takes the result relations of the plan; there is no plan here. */
static inline void
oe_init_epq(EPQState *epq, EState *estate)
{
#if PG_VERSION_NUM >= 160000
	EvalPlanQualInit(epq, estate, NULL, NIL, -1, NIL);
#else
	EvalPlanQualInit(epq, estate, NULL, NIL, -1);
#endif
}

/* 19 tells a signal handler which process sent the signal. */
#if PG_VERSION_NUM >= 190000
#define OE_SIGNAL_ARGUMENTS	postgres_signal_arg, pg_siginfo
#else
#define OE_SIGNAL_ARGUMENTS	postgres_signal_arg
#endif

/* 19 keeps the value being built in the same struct as the parse state. */
#if PG_VERSION_NUM < 190000
typedef struct JsonbInState
{
	JsonbValue *result;
	JsonbParseState *parseState;
} JsonbInState;

#define pushJsonbValue(state, token, value) \
	((void) ((state)->result = \
			 pushJsonbValue(&(state)->parseState, token, value)))
#endif

#endif							/* OE_COMPAT_H */
