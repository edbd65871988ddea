/*
 * ledger.c
 *		The table ocean_enrich.call.
 *
 * A row is found by an index and written through the executor's functions for
 * single rows, as logical replication applies its changes: triggers, constraints
 * and indexes count as for any other INSERT or UPDATE, and nothing is planned.
 * Rare statements use SPI.
 *
 * The worker is the bootstrap superuser, but the table has another owner.  So
 * that the owner's triggers and defaults never run as superuser, every
 * statement runs as the owner in a security-restricted operation.
 *
 * The worker must not wait for a lock on the table, as all sessions would wait
 * for their answers with it: see oe_ledger_begin().
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/rights.h"
#include "base/statement.h"
#include "shared/ledger.h"

/* The columns in the order of the table. */
enum
{
	C_CALL_ID = 1,
	C_STATE,
	C_ROLE,
	C_ENDPOINT,
	C_ACCOUNT,
	C_FINGERPRINT,
	C_REQUEST,
	C_REVEALS_IN_ANSWER,
	C_REVEALS_BY_WEBHOOK,
	C_STATUS,
	C_DETAIL,
	C_ANSWER,
	C_RAW,
	C_RAW_TRUNCATED,
	C_CREDITS,
	C_RESERVED,
	C_ATTEMPTS,
	C_REQUESTED_AT,
	C_SENT_AT,
	C_ANSWERED_AT,
	C_NEXT_ATTEMPT_AT,
	C_WAITS_FOR,
	C_RESOLUTION,
	C_RESOLVED_BY,
	C_RESOLVED_AT,
	C_PRIORITY,
	C_BACKGROUND,
	C_POSTPONED,
	C_GATHERED,
	C_EARLIER_REQUESTS,
	C_REUSED_FROM,
	C_SYNC_ID,
	C_DATABASE,
	C_LAST = C_DATABASE,		/* of those that this file knows */
};

/*
 * The columns as we have made them: what is of another type would be read from
 * wherever its bits point to, and statements go by the names.  Only the enums are
 * not the same everywhere.
 */
typedef struct LedgerColumn
{
	const char *name;
	Oid			type;
} LedgerColumn;

static const LedgerColumn columns[C_LAST + 1] = {
	[C_CALL_ID] = {"call_id", INT8OID},
	[C_STATE] = {"state", InvalidOid},
	[C_ROLE] = {"role", NAMEOID},
	[C_ENDPOINT] = {"endpoint", TEXTOID},
	[C_ACCOUNT] = {"account", TEXTOID},
	[C_FINGERPRINT] = {"fingerprint", BYTEAOID},
	[C_REQUEST] = {"request", JSONBOID},
	[C_REVEALS_IN_ANSWER] = {"reveals_in_answer", TEXTARRAYOID},
	[C_REVEALS_BY_WEBHOOK] = {"reveals_by_webhook", TEXTARRAYOID},
	[C_STATUS] = {"status", INT4OID},
	[C_DETAIL] = {"detail", TEXTOID},
	[C_ANSWER] = {"answer", JSONBOID},
	[C_RAW] = {"raw", BYTEAOID},
	[C_RAW_TRUNCATED] = {"raw_truncated", BOOLOID},
	[C_CREDITS] = {"credits", NUMERICOID},
	[C_RESERVED] = {"reserved", NUMERICOID},
	[C_ATTEMPTS] = {"attempts", INT4OID},
	[C_REQUESTED_AT] = {"requested_at", TIMESTAMPTZOID},
	[C_SENT_AT] = {"sent_at", TIMESTAMPTZOID},
	[C_ANSWERED_AT] = {"answered_at", TIMESTAMPTZOID},
	[C_NEXT_ATTEMPT_AT] = {"next_attempt_at", TIMESTAMPTZOID},
	[C_WAITS_FOR] = {"waits_for", InvalidOid},
	[C_RESOLUTION] = {"resolution", InvalidOid},
	[C_RESOLVED_BY] = {"resolved_by", NAMEOID},
	[C_RESOLVED_AT] = {"resolved_at", TIMESTAMPTZOID},
	[C_PRIORITY] = {"priority", INT4OID},
	[C_BACKGROUND] = {"background", BOOLOID},
	[C_POSTPONED] = {"postponed", INT4OID},
	[C_GATHERED] = {"gathered", INT4OID},
	[C_EARLIER_REQUESTS] = {"earlier_requests", INT4OID},
	[C_REUSED_FROM] = {"reused_from", INT8OID},
	[C_SYNC_ID] = {"sync_id", INT8OID},
	[C_DATABASE] = {"database", TEXTOID},
};

/* The labels of type ocean_enrich.call_state that this file knows. */
static const char *const state_names[] = {
	[OE_LEDGER_SENT] = "sent",
	[OE_LEDGER_ANSWERED] = "answered",
	[OE_LEDGER_REFUSED] = "refused",
	[OE_LEDGER_FAILED] = "failed",
	[OE_LEDGER_UNKNOWN] = "unknown",
};

/* Valid as long as the table is the same one. */
static Oid	known_relation;
static Oid	state_oids[lengthof(state_names)];
static Oid	pay_again_oid;
static Oid	call_id_sequence;

/* The table, opened in the current transaction. */
static Relation ledger;
static EState *estate;
static ResultRelInfo *target;
static EPQState epq_state;
static TupleTableSlot *old_slot;
static TupleTableSlot *new_slot;
static bool spi_connected;

#define NOBODY_ENDS_IT "(" OE_OF_THIS_DATABASE " OR NOT " OE_IS_SUBSCRIBER ")"

static OeStatement reconcile_statement = {
	"UPDATE ocean_enrich.call SET state = 'unknown', detail = CASE WHEN " OE_OF_THIS_DATABASE
	" THEN 'the worker exited before the answer arrived'"
	" ELSE 'the request was on the wire when the database was copied' END"
	" WHERE call_id = ANY (ARRAY(SELECT call_id"
	" FROM ocean_enrich.call WHERE state = 'sent' AND " NOBODY_ENDS_IT
	" FOR NO KEY UPDATE SKIP LOCKED))",
	0,
	{0},
	NULL
};

static OeStatement orphan_statement = {
	"UPDATE ocean_enrich.call SET state = 'unknown',"
	" detail = 'the outcome could not be recorded'"
	" WHERE call_id = (SELECT call_id FROM ocean_enrich.call"
	" WHERE call_id = $1 AND state::text = 'sent' AND " NOBODY_ENDS_IT
	" FOR NO KEY UPDATE SKIP LOCKED)",
	1,
	{INT8OID},
	NULL
};

static OeStatement sent_left_statement = {
	"SELECT FROM ocean_enrich.call WHERE state = 'sent' AND " NOBODY_ENDS_IT
	" LIMIT 1",
	0,
	{0},
	NULL
};

static OeStatement usage_statement = {
	"SELECT count(*) FILTER (WHERE state NOT IN ('queued', 'failed', 'cancelled')"
	" AND reused_from IS NULL)"
	" + coalesce(sum(earlier_requests), 0)::bigint,"
	" coalesce(sum(coalesce(credits, CASE state WHEN 'unknown' THEN reserved END)), 0)::text,"
	" max(next_attempt_at) FILTER (WHERE status = 429 AND state = 'failed')"
	" FROM ocean_enrich.call WHERE sent_at >= $1 AND account = $2",
	2,
	{TIMESTAMPTZOID, TEXTOID},
	NULL
};

static OeStatement sent_statement = {
	"SELECT sent_at FROM ocean_enrich.call"
	" WHERE sent_at >= $1 AND account = $2 ORDER BY sent_at",
	2,
	{TIMESTAMPTZOID, TEXTOID},
	NULL
};

static OeStatement revealed_statement = {
	"SELECT coalesce(sum(credits), 0)::text FROM ocean_enrich.reveal_cost"
	" WHERE day = ($1 AT TIME ZONE 'UTC')::date AND account = $2",
	2,
	{TIMESTAMPTZOID, TEXTOID},
	NULL
};

/* Those from before the transaction, or in a session from before oe_ledger_enter(). */
static OeRights saved_rights;

/* ----------------------------------------------------------------
 * Transactions
 * ---------------------------------------------------------------- */

/* The ledger, if it is the one of our extension and not a namesake. */
static Oid
ledger_relation(void)
{
	Oid			schema = get_namespace_oid("ocean_enrich", true);
	Oid			relation;
	Oid			extension;

	if (!OidIsValid(schema))
		return InvalidOid;
	relation = get_relname_relid("call", schema);
	if (!OidIsValid(relation) || relation == known_relation)
		return relation;
	/* Where there is no extension, a table of no extension is not its ledger. */
	extension = get_extension_oid("ocean_enrich", true);
	if (!OidIsValid(extension) ||
		getExtensionOfObject(RelationRelationId, relation) != extension)
		return InvalidOid;
	return relation;
}

static Oid
enum_label_oid(Oid type, const char *label)
{
	Oid			oid = GetSysCacheOid2(ENUMTYPOIDNAME, Anum_pg_enum_oid,
									  ObjectIdGetDatum(type),
									  CStringGetDatum(label));

	if (!OidIsValid(oid))
		elog(ERROR, "a type of the ledger has no label \"%s\"", label);
	return oid;
}

static Oid
column_type(int column)
{
	return TupleDescAttr(RelationGetDescr(ledger), column - 1)->atttypid;
}

/* The first column that is not as created; 0 if all are. */
static int
changed_column(Relation relation)
{
	for (int column = 1; column <= C_LAST; column++)
	{
		Form_pg_attribute attribute;

		if (column > RelationGetNumberOfAttributes(relation))
			return column;
		attribute = TupleDescAttr(RelationGetDescr(relation), column - 1);
		if (attribute->attisdropped ||
			strcmp(NameStr(attribute->attname), columns[column].name) != 0 ||
			(OidIsValid(columns[column].type) &&
			 columns[column].type != attribute->atttypid))
			return column;
	}
	return 0;
}

bool
oe_ledger_is_as_made(Relation relation)
{
	return changed_column(relation) == 0;
}

/* Its types may change as long as it is the same one. */
static void
get_to_know_relation(void)
{
	Oid			relation = RelationGetRelid(ledger);
	int			changed = changed_column(ledger);

	if (changed)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("column \"%s\" of table \"ocean_enrich.call\" is not as the extension created it",
					   columns[changed].name),
				errdetail("Its name, type, or position has been changed."),
				errhint("Undo the changes that ALTER TABLE has made to the table."));
	if (relation == known_relation)
		return;
	for (int i = 0; i < (int) lengthof(state_names); i++)
		state_oids[i] = enum_label_oid(column_type(C_STATE), state_names[i]);
	pay_again_oid = enum_label_oid(column_type(C_RESOLUTION), "pay again");
	call_id_sequence = oe_identity_sequence(ledger, C_CALL_ID);
	known_relation = relation;
}

static void
open_ledger(Oid relation)
{
	ledger = table_open(relation, NoLock);
	get_to_know_relation();
	estate = CreateExecutorState();
	oe_init_range_table(estate, ledger);
	target = makeNode(ResultRelInfo);
	InitResultRelInfo(target, ledger, 1, NULL, 0);
	ExecOpenIndices(target, false);
	oe_init_epq(&epq_state, estate);
	old_slot = table_slot_create(ledger, &estate->es_tupleTable);
	new_slot = ExecInitExtraTupleSlot(estate, RelationGetDescr(ledger), &TTSOpsVirtual);
	AfterTriggerBeginQuery();
}

static void
close_ledger(void)
{
	AfterTriggerEndQuery(estate);
	EvalPlanQualEnd(&epq_state);
	/* Our slots, and those that row triggers were given. */
	ExecResetTupleTable(estate->es_tupleTable, false);
	ExecCloseIndices(target);
	ExecCloseResultRelations(estate);
	FreeExecutorState(estate);
	table_close(ledger, NoLock);
}

const char *
oe_ledger_database(void)
{
	static char identity[48];

	if (identity[0] == '\0')
		snprintf(identity, sizeof(identity), UINT64_FORMAT "/%u",
				 GetSystemIdentifier(), MyDatabaseId);
	return identity;
}

Oid
oe_ledger_relation(void)
{
	return ledger_relation();
}

void
oe_ledger_enter(void)
{
	Oid			relation = ledger_relation();

	/* The table may be dropped while we wait for the lock. */
	ledger = OidIsValid(relation)
		? try_table_open(relation, AccessShareLock) : NULL;
	if (!ledger)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("extension \"ocean_enrich\" has no table \"ocean_enrich.call\""),
				errhint("Create it with CREATE EXTENSION ocean_enrich."));
	get_to_know_relation();
	target = NULL;
	oe_rights_switch(&saved_rights, ledger->rd_rel->relowner, OE_RIGHTS_FOR_SQL);
	spi_connected = true;
}

void
oe_ledger_leave(void)
{
	oe_rights_restore(&saved_rights);
	table_close(ledger, NoLock);
}

OeLedgerAccess
oe_ledger_begin(void)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			relation;

	/* Otherwise now() would stand still. */
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	relation = ledger_relation();
	if (OidIsValid(relation))
	{
		if (!ConditionalLockRelationOid(relation, RowExclusiveLock))
		{
			AbortCurrentTransaction();
			MemoryContextSwitchTo(caller);
			return OE_LEDGER_BUSY;
		}
		/* Taking the lock has processed earlier invalidations. */
		if (relation != ledger_relation())
			relation = InvalidOid;
	}
	if (!OidIsValid(relation))
	{
		AbortCurrentTransaction();
		MemoryContextSwitchTo(caller);
		return OE_LEDGER_GONE;
	}

	PushActiveSnapshot(GetTransactionSnapshot());
	spi_connected = false;
	open_ledger(relation);
	oe_rights_switch(&saved_rights, ledger->rd_rel->relowner,
					 OE_RIGHTS_RESTRICTED);
	MemoryContextSwitchTo(caller);
	return OE_LEDGER_READY;
}

XLogRecPtr
oe_ledger_commit(void)
{
	MemoryContext caller = CurrentMemoryContext;

	if (spi_connected)
		SPI_finish();
	close_ledger();
	oe_rights_restore(&saved_rights);
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(false);
	MemoryContextSwitchTo(caller);
	return XactLastCommitEnd;
}

void
oe_ledger_look_anew(void)
{
	PopActiveSnapshot();
	PushActiveSnapshot(GetTransactionSnapshot());
}

void
oe_ledger_abort(void)
{
	MemoryContext caller = CurrentMemoryContext;

	/* Also restores the user, and closes everything that was opened. */
	AbortCurrentTransaction();
	pgstat_report_stat(false);
	MemoryContextSwitchTo(caller);
}

Oid
oe_ledger_owner(void)
{
	Oid			relation = ledger_relation();
	HeapTuple	tuple;
	Oid			owner;

	if (!OidIsValid(relation))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("extension \"ocean_enrich\" is not installed in this database"),
				errhint("Install it with CREATE EXTENSION ocean_enrich."));
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relation);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* ----------------------------------------------------------------
 * Rows
 * ---------------------------------------------------------------- */

static bool
looks_up_by(Relation index, int column)
{
	Form_pg_index form = index->rd_index;

	return form->indnkeyatts == 1 && form->indkey.values[0] == column &&
		form->indisvalid && index->rd_rel->relam == BTREE_AM_OID &&
		heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL);
}

/* Of those that a transaction of the worker has opened; InvalidOid: none. */
static Oid
opened_index_on(int column)
{
	for (int i = 0; i < target->ri_NumIndices; i++)
	{
		if (looks_up_by(target->ri_IndexRelationDescs[i], column))
			return RelationGetRelid(target->ri_IndexRelationDescs[i]);
	}
	return InvalidOid;
}

/* In a session. */
static Oid
listed_index_on(int column)
{
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(ledger))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		bool		found = looks_up_by(index, column);

		index_close(index, NoLock);
		if (found)
			return lfirst_oid(lc);
	}
	return InvalidOid;
}

/* An index on this column alone. */
static Oid
index_on(int column)
{
	Oid			index = target ? opened_index_on(column) : listed_index_on(column);

	if (OidIsValid(index))
		return index;
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("table \"ocean_enrich.call\" lacks an index that the extension created"),
			errdetail("There is no valid index on column \"%s\".",
					  NameStr(TupleDescAttr(RelationGetDescr(ledger), column - 1)->attname)));
}

static SysScanDesc
begin_scan(int column, ScanKey keys, int count)
{
	return systable_beginscan(ledger, index_on(column), true,
							  GetActiveSnapshot(), count, keys);
}

typedef enum RowFate
{
	ROW_OURS,					/* to update: it is in old_slot */
	ROW_BUSY,					/* another session holds a lock on it */
	ROW_GONE,
} RowFate;

static RowFate
lock_tuple(HeapTuple tuple)
{
	TM_FailureData failure;

	switch (table_tuple_lock(ledger, &tuple->t_self, GetActiveSnapshot(), old_slot,
							 GetCurrentCommandId(false),
							 LockTupleNoKeyExclusive, LockWaitSkip,
							 TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure))
	{
		case TM_Ok:
			return ROW_OURS;
		case TM_WouldBlock:
			return ROW_BUSY;
		case TM_Deleted:
			return ROW_GONE;
		case TM_Invisible:
		case TM_SelfModified:
		case TM_Updated:
		case TM_BeingModified:
			break;
	}
	elog(ERROR, "unexpected state of a ledger row's tuple");
}

/*
 * Do not wait for a locked row: the lock may belong to an idle transaction.  A
 * row untouched since we wrote it, as nearly all are, is not locked first,
 * which saves a WAL record.  Should another session lock it in between,
 * lock_timeout ends the wait.
 */
static RowFate
reach_row(int64 call_id)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	RowFate		fate = ROW_GONE;

	ScanKeyInit(&key, C_CALL_ID, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(call_id));
	scan = begin_scan(C_CALL_ID, &key, 1);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		if (tuple->t_data->t_infomask & HEAP_XMAX_INVALID)
		{
			ExecForceStoreHeapTuple(heap_copytuple(tuple), old_slot, true);
			/* Not every release of PostgreSQL sets it there. */
			old_slot->tts_tid = tuple->t_self;
			fate = ROW_OURS;
		}
		else
			fate = lock_tuple(tuple);
	}
	systable_endscan(scan);
	return fate;
}

static void
set_value(int column, Datum value)
{
	new_slot->tts_values[column - 1] = value;
	new_slot->tts_isnull[column - 1] = false;
}

static void
set_null(int column)
{
	new_slot->tts_values[column - 1] = (Datum) 0;
	new_slot->tts_isnull[column - 1] = true;
}

static void
set_text(int column, const char *text)
{
	if (text)
		set_value(column, CStringGetTextDatum(text));
	else
		set_null(column);
}

static void
set_int(int column, int number)
{
	if (number)
		set_value(column, Int32GetDatum(number));
	else
		set_null(column);
}

static void
set_time(int column, TimestampTz time)
{
	if (time)
		set_value(column, TimestampTzGetDatum(time));
	else
		set_null(column);
}

static bytea *
to_bytea(const void *bytes, Size len)
{
	bytea	   *value = palloc(VARHDRSZ + len);

	SET_VARSIZE(value, VARHDRSZ + len);
	memcpy(VARDATA(value), bytes, len);
	return value;
}

static void
set_bytes(int column, const void *bytes, Size len)
{
	if (bytes)
		set_value(column, PointerGetDatum(to_bytea(bytes, len)));
	else
		set_null(column);
}

static void
set_array(int column, Datum array)
{
	if (array)
		set_value(column, array);
	else
		set_null(column);
}

static void
set_numeric(int column, const char *number)
{
	if (number)
		set_value(column, DirectFunctionCall3(numeric_in, CStringGetDatum(number),
											  ObjectIdGetDatum(InvalidOid),
											  Int32GetDatum(-1)));
	else
		set_null(column);
}

/* What an attempt and its end say of a call.  When it was last sent stays. */
static void
set_outcome(const OeLedgerRow *row)
{
	set_text(C_ACCOUNT, row->account);
	set_value(C_STATE, ObjectIdGetDatum(state_oids[row->state]));
	set_int(C_STATUS, row->status);
	set_text(C_DETAIL, row->detail);
	if (row->answer)
		set_value(C_ANSWER, JsonbPGetDatum(row->answer));
	else
		set_null(C_ANSWER);
	set_bytes(C_RAW, row->raw, row->raw_len);
	set_value(C_RAW_TRUNCATED, BoolGetDatum(row->raw_truncated));
	set_numeric(C_CREDITS, row->credits);
	set_value(C_RESERVED, DirectFunctionCall1(numeric_trim_scale,
											  NumericGetDatum(int64_div_fast_to_numeric(row->reserved, 6))));
	set_value(C_ATTEMPTS, Int32GetDatum(row->attempts));
	if (row->sent_at)
		set_time(C_SENT_AT, row->sent_at);
	set_time(C_ANSWERED_AT, row->answered_at);
	set_time(C_NEXT_ATTEMPT_AT, row->next_attempt_at);
	set_null(C_WAITS_FOR);
}

/* Fill the columns that the owner has added. */
static void
set_default(int column)
{
	bool		dropped = TupleDescAttr(RelationGetDescr(ledger),
										column - 1)->attisdropped;
	Expr	   *expr = dropped ? NULL
		: (Expr *) build_column_default(ledger, column);
	ExprState  *state;

	if (!expr)
	{
		set_null(column);
		return;
	}
	state = ExecPrepareExpr(expr, estate);
	new_slot->tts_values[column - 1] =
		ExecEvalExprSwitchContext(state, GetPerTupleExprContext(estate),
								  &new_slot->tts_isnull[column - 1]);
}

static void
insert_row(OeLedgerRow *row)
{
	NameData	role;

	ExecClearTuple(new_slot);
	row->call_id = nextval_internal(call_id_sequence, false);
	namestrcpy(&role, row->role);
	set_value(C_CALL_ID, Int64GetDatum(row->call_id));
	set_value(C_ROLE, NameGetDatum(&role));
	set_text(C_ENDPOINT, row->endpoint->name);
	set_bytes(C_FINGERPRINT, row->fingerprint, OE_FINGERPRINT_BYTES);
	set_value(C_REQUEST, DirectFunctionCall1(jsonb_in, CStringGetDatum(row->request)));
	set_array(C_REVEALS_IN_ANSWER,
			  oe_reveals_to_names(row->endpoint, row->reveals, OE_REVEAL_IN_ANSWER));
	set_array(C_REVEALS_BY_WEBHOOK,
			  oe_reveals_to_names(row->endpoint, row->reveals, OE_REVEAL_BY_WEBHOOK));
	set_time(C_REQUESTED_AT, row->requested_at);
	set_null(C_SENT_AT);
	set_outcome(row);
	for (int column = C_RESOLUTION; column <= C_LAST; column++)
		set_null(column);
	set_value(C_PRIORITY, Int32GetDatum(0));
	set_value(C_BACKGROUND, BoolGetDatum(false));
	set_value(C_POSTPONED, Int32GetDatum(0));
	set_value(C_GATHERED, Int32GetDatum(0));
	set_value(C_EARLIER_REQUESTS, Int32GetDatum(0));
	set_text(C_DATABASE, oe_ledger_database());
	for (int column = C_LAST + 1; column <= new_slot->tts_tupleDescriptor->natts; column++)
		set_default(column);
	ExecStoreVirtualTuple(new_slot);
	ExecSimpleRelationInsert(target, estate, new_slot);
	ResetPerTupleExprContext(estate);
}

/* Is the time of the row in old_slot on the same day, in UTC? */
static bool
is_of_same_day(int column, TimestampTz time)
{
	OeTime		start;
	OeTime		end;
	TimestampTz old;

	if (old_slot->tts_isnull[column - 1])
		return false;
	old = DatumGetTimestampTz(old_slot->tts_values[column - 1]);
	oe_period_bounds(OE_PERIOD_DAY, time, &start, &end);
	return old >= start && old < end;
}

/* Update the row in old_slot with another outcome. */
static void
update_row(const OeLedgerRow *row)
{
	int			count = new_slot->tts_tupleDescriptor->natts;

	slot_getallattrs(old_slot);
	ExecClearTuple(new_slot);
	memcpy(new_slot->tts_values, old_slot->tts_values, sizeof(Datum) * count);
	memcpy(new_slot->tts_isnull, old_slot->tts_isnull, sizeof(bool) * count);
	set_outcome(row);
	if (row->sent_at && !is_of_same_day(C_SENT_AT, row->sent_at))
		set_value(C_EARLIER_REQUESTS, Int32GetDatum(0));
	ExecStoreVirtualTuple(new_slot);
	ExecSimpleRelationUpdate(target, estate, &epq_state, old_slot, new_slot);
	ResetPerTupleExprContext(estate);
}

bool
oe_ledger_write(OeLedgerRow *row)
{
	switch (row->call_id == 0 ? ROW_GONE : reach_row(row->call_id))
	{
		case ROW_BUSY:
			return false;
		case ROW_OURS:
			update_row(row);
			break;
		case ROW_GONE:
			insert_row(row);
			break;
	}
	return true;
}

static Datum
column_value(HeapTuple tuple, int column, bool *isnull)
{
	return heap_getattr(tuple, column, RelationGetDescr(ledger), isnull);
}

/* False if the row was never sent. */
static bool
state_of(HeapTuple tuple, OeLedgerState *state)
{
	bool		isnull;
	Oid			oid = DatumGetObjectId(column_value(tuple, C_STATE, &isnull));

	for (int i = 0; i < (int) lengthof(state_oids); i++)
	{
		if (state_oids[i] == oid)
		{
			*state = (OeLedgerState) i;
			return true;
		}
	}
	return false;
}

static bool
is_of_account(HeapTuple tuple, const char *account)
{
	bool		isnull;
	Datum		value = column_value(tuple, C_ACCOUNT, &isnull);

	return !isnull && strcmp(TextDatumGetCString(value), account) == 0;
}

static bool
is_null_column(HeapTuple tuple, int column)
{
	bool		isnull;

	(void) column_value(tuple, column, &isnull);
	return isnull;
}

static bool
is_answered_since(HeapTuple tuple, TimestampTz since)
{
	bool		isnull;
	Datum		value = column_value(tuple, C_ANSWERED_AT, &isnull);

	return !isnull && DatumGetTimestampTz(value) >= since;
}

static bool
has_status(HeapTuple tuple, int status)
{
	bool		isnull;
	Datum		value = column_value(tuple, C_STATUS, &isnull);

	return !isnull && DatumGetInt32(value) == status;
}

static bool
may_be_paid_again(HeapTuple tuple)
{
	bool		isnull;
	Datum		value = column_value(tuple, C_RESOLUTION, &isnull);

	return !isnull && DatumGetObjectId(value) == pay_again_oid;
}

/* Does an equal request with this row need no asking, or forbid it? */
static bool
settles_request(HeapTuple tuple, OeLedgerState state, const OeReuse *reuse)
{
	/* The answer is the other one's, and may be older than it looks here. */
	if (!is_null_column(tuple, C_REUSED_FROM))
		return false;
	switch (state)
	{
		case OE_LEDGER_SENT:
			return true;
		case OE_LEDGER_ANSWERED:
			return is_answered_since(tuple, reuse->answered_since) &&
				!(is_null_column(tuple, C_ANSWER) && is_null_column(tuple, C_RAW));
		case OE_LEDGER_REFUSED:
			return is_answered_since(tuple, reuse->not_found_since) && has_status(tuple, 404);
		case OE_LEDGER_FAILED:
			return false;
		case OE_LEDGER_UNKNOWN:
			return !may_be_paid_again(tuple);
	}
	pg_unreachable();
}

static int64
call_id_of(HeapTuple tuple)
{
	bool		isnull;

	return DatumGetInt64(column_value(tuple, C_CALL_ID, &isnull));
}

static void
fill_hit(HeapTuple tuple, OeLedgerState state, OeLedgerHit *hit)
{
	bool		isnull;
	Datum		value;

	hit->call_id = call_id_of(tuple);
	hit->state = state;
	hit->status = DatumGetInt32(column_value(tuple, C_STATUS, &isnull));
	value = column_value(tuple, C_DETAIL, &isnull);
	hit->detail = isnull ? NULL : TextDatumGetCString(value);
	value = column_value(tuple, C_ANSWER, &isnull);
	hit->answer = isnull ? NULL : DatumGetJsonbPCopy(value);
}

OeReuse
oe_ledger_reuse(const OeCall *call, TimestampTz now)
{
	return (OeReuse)
	{
		.answered_since = call->reuse_for_us > 0 ? now - call->reuse_for_us : DT_NOEND,
			.not_found_since = call->reuse_not_found_for_us > 0
			? now - call->reuse_not_found_for_us : DT_NOEND,
	};
}

/*
 * Is the row's request equal to the one with this fingerprint?  The answer to a
 * request that asked for more to be revealed serves it, too.
 */
static bool
is_equal_request(HeapTuple tuple, OeLedgerState state, const uint8 *fingerprint)
{
	bool		isnull;
	const bytea *value = DatumGetByteaPP(column_value(tuple, C_FINGERPRINT, &isnull));
	const uint8 *answered = (const uint8 *) VARDATA_ANY(value);

	if (VARSIZE_ANY_EXHDR(value) != OE_FINGERPRINT_BYTES)
		return false;
	if (memcmp(answered, fingerprint, OE_FINGERPRINT_BYTES) == 0)
		return true;
	return oe_fingerprint_serves(answered, fingerprint) &&
		(state == OE_LEDGER_REFUSED ||
		 (state == OE_LEDGER_ANSWERED && !is_null_column(tuple, C_ANSWER)));
}

/* The requests that ask for the same, whatever they ask to be revealed. */
static SysScanDesc
begin_scan_of_requests(const uint8 *fingerprint)
{
	ScanKeyData keys[2];
	uint8		lowest[OE_FINGERPRINT_BYTES];
	uint8		highest[OE_FINGERPRINT_BYTES];

	oe_fingerprint_range(fingerprint, lowest, highest);
	ScanKeyInit(&keys[0], C_FINGERPRINT, BTGreaterEqualStrategyNumber, F_BYTEAGE,
				PointerGetDatum(to_bytea(lowest, OE_FINGERPRINT_BYTES)));
	ScanKeyInit(&keys[1], C_FINGERPRINT, BTLessEqualStrategyNumber, F_BYTEALE,
				PointerGetDatum(to_bytea(highest, OE_FINGERPRINT_BYTES)));
	return begin_scan(C_FINGERPRINT, keys, lengthof(keys));
}

/* The first match by state, the newest of those. */
bool
oe_ledger_find(const char *account, const uint8 *fingerprint,
			   const OeReuse *reuse, OeLedgerHit *hit)
{
	SysScanDesc scan = begin_scan_of_requests(fingerprint);
	HeapTuple	tuple;
	HeapTuple	best = NULL;
	OeLedgerState best_state = OE_LEDGER_SENT;
	OeLedgerState state;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		if (!is_of_account(tuple, account) || !state_of(tuple, &state) ||
			!is_equal_request(tuple, state, fingerprint) ||
			!settles_request(tuple, state, reuse))
			continue;
		if (best && (state > best_state ||
					 (state == best_state && call_id_of(tuple) < call_id_of(best))))
			continue;
		best = heap_copytuple(tuple);
		best_state = state;
	}
	if (best)
		fill_hit(best, best_state, hit);
	systable_endscan(scan);
	return best != NULL;
}

/* ----------------------------------------------------------------
 * Statements
 * ---------------------------------------------------------------- */

void
oe_ledger_use_spi(void)
{
	MemoryContext caller = CurrentMemoryContext;

	if (!spi_connected && SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	spi_connected = true;
	MemoryContextSwitchTo(caller);
}

static uint64
run_statement(OeStatement *statement, Datum *values)
{
	oe_ledger_use_spi();
	return oe_statement_run(statement, values, NULL);
}

bool
oe_ledger_give_up(int64 call_id)
{
	Datum		values[1];

	values[0] = Int64GetDatum(call_id);
	return run_statement(&orphan_statement, values) > 0;
}

bool
oe_ledger_reconcile(uint64 *count)
{
	*count += run_statement(&reconcile_statement, NULL);
	return run_statement(&sent_left_statement, NULL) == 0;
}

bool
oe_ledger_lock_revealed(void)
{
	Oid			relation = get_relname_relid("reveal_cost",
											 get_namespace_oid("ocean_enrich", false));

	/* If the table is missing, reading it raises the error. */
	return !OidIsValid(relation) ||
		ConditionalLockRelationOid(relation, AccessShareLock);
}

OeCredits
oe_ledger_revealed(const char *account, TimestampTz day_start)
{
	Datum		values[2];
	OeRights	rights;

	values[0] = TimestampTzGetDatum(day_start);
	values[1] = CStringGetTextDatum(account);
	oe_rights_switch(&rights, oe_owner_of("reveal_cost"), OE_RIGHTS_RESTRICTED);
	(void) run_statement(&revealed_statement, values);
	oe_rights_restore(&rights);
	return oe_credits_parse_sum(oe_statement_text(0, 1));
}

void
oe_ledger_usage(const char *account, TimestampTz day_start,
				TimestampTz minute_start, OeLedgerUsage *usage)
{
	Datum		values[2];

	values[0] = TimestampTzGetDatum(day_start);
	values[1] = CStringGetTextDatum(account);
	(void) run_statement(&usage_statement, values);
	usage->requests_today = DatumGetInt64(oe_statement_value(0, 1));
	usage->credits_today = oe_credits_parse_sum(oe_statement_text(0, 2));
	usage->paused_until = oe_statement_int64(0, 3);

	values[0] = TimestampTzGetDatum(minute_start);
	usage->sent_count = (int) run_statement(&sent_statement, values);
	usage->sent = palloc(sizeof(TimestampTz) * Max(usage->sent_count, 1));
	for (int i = 0; i < usage->sent_count; i++)
		usage->sent[i] = DatumGetTimestampTz(oe_statement_value(i, 1));
}
