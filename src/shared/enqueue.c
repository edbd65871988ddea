/*
 * enqueue.c
 *		Put calls into the queue, and take them out.
 *
 * Rows are inserted with the rights of the owner of ocean_enrich.call: the
 * right to call submit() is the right to queue.  Unless code that the owner
 * has added to the table has to run, a row goes directly into the heap and its
 * indexes; otherwise SPI inserts it, as the owner.
 *
 * A transaction's additions are counted for each of its subtransactions.  At
 * the end they go into ocean_enrich.queue_tally, in the same transaction, and
 * to the worker, once the transaction is committed.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/at_commit.h"
#include "base/compat.h"
#include "base/errors.h"
#include "base/rights.h"
#include "base/statement.h"
#include "base/text.h"
#include "shared/channel.h"
#include "shared/enqueue.h"
#include "shared/ledger.h"
#include "shared/message.h"
#include "shared/queue_news.h"
#include "shared/settings.h"
#include "shared/sync_notes.h"

/* The columns that are set in a queued row; all others are NULL. */
enum
{
	C_CALL_ID,
	C_STATE,
	C_ROLE,
	C_ENDPOINT,
	C_FINGERPRINT,
	C_REQUEST,
	C_REVEALS_IN_ANSWER,
	C_REVEALS_BY_WEBHOOK,
	C_RAW_TRUNCATED,
	C_ATTEMPTS,
	C_REQUESTED_AT,
	C_NEXT_ATTEMPT_AT,
	C_PRIORITY,
	C_BACKGROUND,
	C_POSTPONED,
	C_GATHERED,
	C_EARLIER_REQUESTS,
	C_SYNC_ID,					/* NULL unless requested by a sync */
	C_DATABASE,
	C_COUNT
};

static const char *const call_columns[C_COUNT] = {
	[C_CALL_ID] = "call_id",
	[C_STATE] = "state",
	[C_ROLE] = "role",
	[C_ENDPOINT] = "endpoint",
	[C_FINGERPRINT] = "fingerprint",
	[C_REQUEST] = "request",
	[C_REVEALS_IN_ANSWER] = "reveals_in_answer",
	[C_REVEALS_BY_WEBHOOK] = "reveals_by_webhook",
	[C_RAW_TRUNCATED] = "raw_truncated",
	[C_ATTEMPTS] = "attempts",
	[C_REQUESTED_AT] = "requested_at",
	[C_NEXT_ATTEMPT_AT] = "next_attempt_at",
	[C_PRIORITY] = "priority",
	[C_BACKGROUND] = "background",
	[C_POSTPONED] = "postponed",
	[C_GATHERED] = "gathered",
	[C_EARLIER_REQUESTS] = "earlier_requests",
	[C_SYNC_ID] = "sync_id",
	[C_DATABASE] = "database",
};

/* The number of columns of ocean_enrich.call as created. */
#define CALL_COLUMNS	33

/* Cached facts about the table, for inserting; valid until it changes. */
typedef struct Target
{
	Oid			relation;		/* InvalidOid: not known */
	Oid			owner;
	bool		plain;			/* true if no code of the owner has to run */
	Oid			sequence;
	Oid			queued;			/* the state */
	AttrNumber	columns[C_COUNT];
} Target;

/* A (sub)transaction's changes to the queue. */
typedef struct Pending
{
	SubTransactionId subid;
	int64		waiting;
	int64		cancelled;
	OeQueueNews news;
	struct Pending *below;
} Pending;

static Target target;
static Pending *pending;		/* the innermost level */

static OeStatement insert_statement = {
	"INSERT INTO ocean_enrich.call (state, role, fingerprint, request,"
	" requested_at, next_attempt_at, priority, background, sync_id, endpoint,"
	" reveals_in_answer, reveals_by_webhook)"
	" VALUES ('queued', $1, $2, $3, $4, $5, $6, true, nullif($7, 0), $8, $9, $10)"
	" RETURNING call_id",
	10,
	{NAMEOID, BYTEAOID, JSONBOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID,
		INT8OID, TEXTOID, TEXTARRAYOID, TEXTARRAYOID},
	NULL
};

static OeStatement tally_statement = {
	"INSERT INTO ocean_enrich.queue_tally (day, waiting, cancelled)"
	" VALUES ((now() AT TIME ZONE 'UTC')::date, $1, $2)",
	2,
	{INT8OID, INT8OID},
	NULL
};

static OeStatement role_statement = {
	"SELECT role FROM ocean_enrich.call WHERE call_id = $1",
	1,
	{INT8OID},
	NULL
};

/*
 * A call's state is compared as text where the call is found by its number:
 * statistics may tempt the planner to find it by the index on states, and read
 * the whole queue for each call.
 */
static OeStatement cancel_statement = {
	"UPDATE ocean_enrich.call SET state = 'cancelled', next_attempt_at = NULL, waits_for = NULL"
	" WHERE call_id = $1 AND state::text = 'queued' RETURNING " OE_OF_THIS_DATABASE,
	1,
	{INT8OID},
	NULL
};

static OeStatement cancel_calls_statement = {
	"UPDATE ocean_enrich.call SET state = 'cancelled', next_attempt_at = NULL, waits_for = NULL"
	" WHERE call_id = ANY ($1) AND state::text = 'queued' RETURNING " OE_OF_THIS_DATABASE,
	1,
	{INT8ARRAYOID},
	NULL
};

/* Counts the cancelled calls: a row may have turned to another call. */
static OeStatement cancel_sync_statement = {
	"WITH cancelled AS (UPDATE ocean_enrich.call"
	" SET state = 'cancelled', next_attempt_at = NULL, waits_for = NULL"
	" WHERE call_id = ANY (ARRAY(SELECT r.call_id FROM ocean_enrich.sync_row AS r"
	" WHERE r.sync_id = $1 AND r.state IN ('queued', 'changed')))"
	" AND state::text = 'queued' RETURNING call_id, " OE_OF_THIS_DATABASE " AS is_ours),"
	" marked AS (UPDATE ocean_enrich.sync_row SET state = 'changed', call_id = NULL"
	" WHERE call_id = ANY (ARRAY(SELECT c.call_id FROM cancelled AS c)))"
	" SELECT is_ours FROM cancelled",
	1,
	{INT8OID},
	NULL
};

/*
 * A call that is queued in another database keeps its time.  While a
 * subscription carries it, that database sends it, and we would both pay.
 */
static OeStatement retry_statement = {
	"UPDATE ocean_enrich.call SET state = 'queued', next_attempt_at ="
	" CASE WHEN state = 'queued' AND next_attempt_at < 'infinity'"
	" THEN next_attempt_at ELSE now() END,"
	" waits_for = CASE WHEN state = 'queued' AND next_attempt_at < 'infinity' THEN waits_for END,"
	" postponed = 0, gathered = 0, background = true, database = ocean_enrich.database_identity(),"
	" earlier_requests = earlier_requests + (state = 'refused')::integer"
	" WHERE call_id = $1 AND (state::text IN ('refused', 'failed', 'cancelled')"
	" OR state::text = 'queued' AND NOT " OE_OF_THIS_DATABASE
	" AND NOT " OE_IS_SUBSCRIBER ")"
	" RETURNING priority, next_attempt_at",
	1,
	{INT8OID},
	NULL
};

/*
 * A 200 without a usable answer may have been paid: who retries it says that it may be
 * paid again, and the worker requeues it as after resolve().
 */
static OeStatement retry_unusable_statement = {
	"UPDATE ocean_enrich.call SET resolution = 'pay again', resolved_by = $2,"
	" resolved_at = now(), background = true, database = ocean_enrich.database_identity()"
	" WHERE call_id = $1 AND state = 'unknown' AND status = 200"
	" AND resolution IS DISTINCT FROM 'pay again'",
	2,
	{INT8OID, NAMEOID},
	NULL
};

/* By these a new worker would know of the pause. */
static OeStatement end_pauses_statement = {
	"UPDATE ocean_enrich.call SET next_attempt_at = NULL"
	" WHERE state = 'failed' AND status = 429 AND next_attempt_at > now()"
	" AND sent_at > now() - interval '2 days'",
	0,
	{0},
	NULL
};

/* ----------------------------------------------------------------
 * Changes made by the transaction
 * ---------------------------------------------------------------- */

/*
 * In the same transaction, so that the tally is right even after a rollback.
 */
static void
write_tally(int64 waiting, int64 cancelled)
{
	OeRights	rights;
	Datum		values[2];

	/* The same transaction may have dropped the extension. */
	if (!OidIsValid(oe_ledger_relation()))
		return;
	PushActiveSnapshot(GetTransactionSnapshot());
	oe_rights_switch(&rights, oe_owner_of("queue_tally"), OE_RIGHTS_FOR_SQL);
	values[0] = Int64GetDatum(waiting);
	values[1] = Int64GetDatum(cancelled);
	(void) oe_statement_run(&tally_statement, values, NULL);
	oe_rights_restore(&rights);
	PopActiveSnapshot();
}

static void
before_commit(bool prepared)
{
	if (pending && (pending->waiting != 0 || pending->cancelled != 0))
		write_tally(pending->waiting, pending->cancelled);
}

static void
after_transaction(bool committed)
{
	if (pending && committed)
		oe_channel_announce(&pending->news);
	/* Freed with the transaction's memory. */
	pending = NULL;
}

static void
after_subtransaction(SubTransactionId sub, SubTransactionId parent,
					 bool committed)
{
	Pending    *ended = pending;

	if (!ended || ended->subid != sub)
		return;
	if (committed && (!ended->below || ended->below->subid != parent))
	{
		ended->subid = parent;
		return;
	}
	pending = ended->below;
	if (committed)
	{
		pending->waiting += ended->waiting;
		pending->cancelled += ended->cancelled;
		oe_news_merge(&pending->news, &ended->news);
	}
}

static void
forget_target(Datum arg, Oid relation)
{
	if (relation == target.relation || !OidIsValid(relation))
		target.relation = InvalidOid;
}

static Pending *
current_pending(void)
{
	static OeAtCommit at_commit = {
		.before = before_commit,
		.after = after_transaction,
		.after_sub = after_subtransaction,
	};
	SubTransactionId subid = GetCurrentSubTransactionId();
	Pending    *fresh;

	if (pending && pending->subid == subid)
		return pending;
	if (!at_commit.registered)
		CacheRegisterRelcacheCallback(forget_target, (Datum) 0);
	oe_at_commit(&at_commit);
	/* Attach now, since nothing may fail after the commit. */
	oe_channel_attach();
	fresh = MemoryContextAllocZero(TopTransactionContext, sizeof(Pending));
	fresh->subid = subid;
	fresh->below = pending;
	pending = fresh;
	return fresh;
}

/* ----------------------------------------------------------------
 * The table
 * ---------------------------------------------------------------- */

pg_noreturn static void no_ledger(void);

static void
no_ledger(void)
{
	ereport(ERROR,
			errcode(ERRCODE_UNDEFINED_TABLE),
			errmsg("table \"ocean_enrich.call\" does not exist"),
			errhint("Create it with CREATE EXTENSION ocean_enrich."));
}

/* An index that evaluates no expression of its owner's. */
static bool
index_is_plain(Oid index)
{
	HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
	bool		plain;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for index %u", index);
	plain = heap_attisnull(tuple, Anum_pg_index_indexprs, NULL) &&
		heap_attisnull(tuple, Anum_pg_index_indpred, NULL) &&
		!((Form_pg_index) GETSTRUCT(tuple))->indisexclusion &&
		((Form_pg_index) GETSTRUCT(tuple))->indimmediate;
	ReleaseSysCache(tuple);
	return plain;
}

static bool
has_insert_triggers(const TriggerDesc *triggers)
{
	return triggers &&
		(triggers->trig_insert_before_row || triggers->trig_insert_after_row ||
		 triggers->trig_insert_before_statement ||
		 triggers->trig_insert_after_statement ||
		 triggers->trig_insert_new_table);
}

static bool
table_is_plain(Relation relation)
{
	const TupleConstr *constraints = RelationGetDescr(relation)->constr;
	List	   *indexes;
	ListCell   *lc;

	if (relation->rd_rel->relam != HEAP_TABLE_AM_OID ||
		relation->rd_rel->relrowsecurity || relation->rd_rel->relhasrules ||
		RelationGetDescr(relation)->natts != CALL_COLUMNS ||
		!oe_ledger_is_as_made(relation) ||
		has_insert_triggers(relation->trigdesc) ||
		(constraints && (constraints->num_check > 0 ||
						 constraints->has_generated_stored)))
		return false;
	indexes = RelationGetIndexList(relation);
	foreach(lc, indexes)
	{
		if (!index_is_plain(lfirst_oid(lc)))
			return false;
	}
	return true;
}

static Oid
queued_state(Oid type)
{
	HeapTuple	tuple = SearchSysCache2(ENUMTYPOIDNAME, ObjectIdGetDatum(type),
										CStringGetDatum("queued"));
	Oid			label;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "type of column \"state\" of ocean_enrich.call has no value \"queued\"");
	label = ((Form_pg_enum) GETSTRUCT(tuple))->oid;
	ReleaseSysCache(tuple);
	return label;
}

static void
find_target(Relation relation)
{
	Target		found = {0};

	found.relation = RelationGetRelid(relation);
	found.owner = relation->rd_rel->relowner;
	for (int i = 0; i < C_COUNT; i++)
	{
		found.columns[i] = get_attnum(found.relation, call_columns[i]);
		if (found.columns[i] == InvalidAttrNumber)
			elog(ERROR, "ocean_enrich.call has no column \"%s\"", call_columns[i]);
	}
	found.queued = queued_state(get_atttype(found.relation,
											found.columns[C_STATE]));
	found.sequence = oe_identity_sequence(relation, found.columns[C_CALL_ID]);
	found.plain = table_is_plain(relation);
	target = found;
}

/*
 * Open and lock the table.  The cached facts are valid only then: a session
 * that held a conflicting lock may have changed or dropped the table, and its
 * invalidations are processed once we have the lock.
 */
static Relation
open_target(void)
{
	Oid			known = target.relation;
	Relation	relation = NULL;

	if (!OidIsValid(known))
		known = oe_ledger_relation();
	if (OidIsValid(known))
		relation = try_table_open(known, RowExclusiveLock);
	if (!relation)
		no_ledger();
	if (!OidIsValid(target.relation))
		find_target(relation);
	return relation;
}

/* ----------------------------------------------------------------
 * submit()
 * ---------------------------------------------------------------- */

typedef struct NewCall
{
	NameData	role;
	const OeEndpoint *endpoint;
	bytea	   *fingerprint;
	Datum		request;
	Datum		reveals_in_answer;	/* 0: none; both columns */
	Datum		reveals_by_webhook;
	TimestampTz requested_at;
	TimestampTz due;
	int32		priority;
	int64		sync_id;		/* 0: none */
} NewCall;

/*
 * Neither of the two ways is that of ledger.c, which inserts through the
 * executor.  With the executor, submit() queues 5% fewer rows a second, and
 * 13% fewer with pinned settings, which code of the owner's needs; with SPI
 * 35% fewer.  Nor can the executor replace SPI, since it finds columns by
 * position: SPI also inserts into a table whose columns were altered, where
 * the call waits until they are put right.
 */
static int64
insert_plainly(Relation relation, const NewCall *call)
{
	Datum		of_column[C_COUNT];
	Datum		values[CALL_COLUMNS] = {0};
	bool		nulls[CALL_COLUMNS];
	int64		call_id;
	HeapTuple	tuple;

	/* The right to call submit() includes the sequence. */
	call_id = nextval_internal(target.sequence, false);
	of_column[C_CALL_ID] = Int64GetDatum(call_id);
	of_column[C_STATE] = ObjectIdGetDatum(target.queued);
	of_column[C_ROLE] = NameGetDatum(&call->role);
	of_column[C_ENDPOINT] = CStringGetTextDatum(call->endpoint->name);
	of_column[C_FINGERPRINT] = PointerGetDatum(call->fingerprint);
	of_column[C_REQUEST] = call->request;
	of_column[C_REVEALS_IN_ANSWER] = call->reveals_in_answer;
	of_column[C_REVEALS_BY_WEBHOOK] = call->reveals_by_webhook;
	of_column[C_RAW_TRUNCATED] = BoolGetDatum(false);
	of_column[C_ATTEMPTS] = Int32GetDatum(0);
	of_column[C_REQUESTED_AT] = TimestampTzGetDatum(call->requested_at);
	of_column[C_NEXT_ATTEMPT_AT] = TimestampTzGetDatum(call->due);
	of_column[C_PRIORITY] = Int32GetDatum(call->priority);
	of_column[C_BACKGROUND] = BoolGetDatum(true);
	of_column[C_POSTPONED] = Int32GetDatum(0);
	of_column[C_GATHERED] = Int32GetDatum(0);
	of_column[C_EARLIER_REQUESTS] = Int32GetDatum(0);
	of_column[C_SYNC_ID] = Int64GetDatum(call->sync_id);
	of_column[C_DATABASE] = CStringGetTextDatum(oe_ledger_database());
	memset(nulls, true, sizeof(nulls));
	for (int i = 0; i < C_COUNT; i++)
	{
		values[target.columns[i] - 1] = of_column[i];
		nulls[target.columns[i] - 1] = false;
	}
	nulls[target.columns[C_REVEALS_IN_ANSWER] - 1] = !call->reveals_in_answer;
	nulls[target.columns[C_REVEALS_BY_WEBHOOK] - 1] = !call->reveals_by_webhook;
	nulls[target.columns[C_SYNC_ID] - 1] = call->sync_id == 0;
	tuple = heap_form_tuple(RelationGetDescr(relation), values, nulls);
	CatalogTupleInsert(relation, tuple);
	heap_freetuple(tuple);
	return call_id;
}

static int64
insert_as_owner(const NewCall *call)
{
	OeRights	rights;
	Datum		values[10];
	char		nulls[] = "          ";
	int64		call_id;

	oe_rights_switch(&rights, target.owner, OE_RIGHTS_FOR_SQL);
	values[0] = NameGetDatum(&call->role);
	values[1] = PointerGetDatum(call->fingerprint);
	values[2] = call->request;
	values[3] = TimestampTzGetDatum(call->requested_at);
	values[4] = TimestampTzGetDatum(call->due);
	values[5] = Int32GetDatum(call->priority);
	values[6] = Int64GetDatum(call->sync_id);
	values[7] = CStringGetTextDatum(call->endpoint->name);
	values[8] = call->reveals_in_answer;
	values[9] = call->reveals_by_webhook;
	nulls[8] = values[8] ? ' ' : 'n';
	nulls[9] = values[9] ? ' ' : 'n';
	if (oe_statement_run(&insert_statement, values, nulls) != 1)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("a trigger on table \"ocean_enrich.call\" suppressed the request"),
				errhint("The trigger must return NEW for queued requests, or be dropped."));
	call_id = DatumGetInt64(oe_statement_value(0, 1));
	oe_rights_restore(&rights);
	return call_id;
}

static void
fill_new_call(NewCall *call, const OeBody *request, int32 priority,
			  TimestampTz not_before)
{
	char	   *text = oe_utf8_to_server(request->text, strlen(request->text));

	call->endpoint = request->endpoint;
	call->fingerprint = palloc(VARHDRSZ + OE_FINGERPRINT_BYTES);
	SET_VARSIZE(call->fingerprint, VARHDRSZ + OE_FINGERPRINT_BYTES);
	memcpy(VARDATA(call->fingerprint), request->fingerprint, OE_FINGERPRINT_BYTES);

	/*
	 * The text came from a jsonb of this database, so it can be converted
	 * back.
	 */
	call->request = DirectFunctionCall1(jsonb_in, CStringGetDatum(text));
	call->reveals_in_answer = oe_reveals_to_names(request->endpoint, &request->reveals,
												  OE_REVEAL_IN_ANSWER);
	call->reveals_by_webhook = oe_reveals_to_names(request->endpoint, &request->reveals,
												   OE_REVEAL_BY_WEBHOOK);
	namestrcpy(&call->role, GetUserNameFromId(GetUserId(), false));
	call->requested_at = GetCurrentTransactionStartTimestamp();
	call->due = Max(call->requested_at, not_before);
	call->priority = priority;
}

/* The names of endpoints whose calls can be queued, for a hint. */
static const char *
names_of_endpoints(void)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; oe_endpoints[i]; i++)
	{
		if (oe_endpoints[i]->recorded)
			appendStringInfo(&names, "%s\"%s\"", names.len > 0 ? ", " : "",
							 oe_endpoints[i]->name);
	}
	return names.data;
}

const OeEndpoint *
oe_queue_endpoint(const char *name)
{
	const OeEndpoint *endpoint = name ? oe_endpoint_find(name) : oe_endpoints[0];

	if (!endpoint)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("endpoint \"%s\" does not exist", name),
				errhint("Endpoints that can be queued: %s.", names_of_endpoints()));
	if (!endpoint->recorded)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("endpoint \"%s\" cannot be queued", name),
				errdetail("Its calls cost nothing and are not recorded."),
				errhint("Endpoints that can be queued: %s.", names_of_endpoints()));
	return endpoint;
}

int64
oe_submit(const OeBody *request, int32 priority, TimestampTz not_before,
		  int64 sync_id)
{
	NewCall		call;
	OeQueuePosition position;
	Pending    *mine;
	Relation	relation;

	oe_prevent_if_read_only("ocean_enrich.submit()");
	PreventCommandIfParallelMode("ocean_enrich.submit()");
	/* Infinity marks a call that waits for a decision. */
	if (TIMESTAMP_IS_NOEND(not_before))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"not_before\" must be finite"));
	oe_request_warn(request);
	fill_new_call(&call, request, priority, not_before);
	call.sync_id = sync_id;
	mine = current_pending();
	relation = open_target();
	position.call_id = target.plain ? insert_plainly(relation, &call)
		: insert_as_owner(&call);
	table_close(relation, NoLock);
	position.priority = priority;
	position.due = call.due;
	mine->waiting++;
	oe_news_add(&mine->news, &position);
	return position.call_id;
}

/* ----------------------------------------------------------------
 * Calls in the queue
 * ---------------------------------------------------------------- */

/* Tally the calls that the last statement has cancelled. */
static void
count_cancelled(Pending *mine, uint64 count)
{
	/* Calls queued in another database are not in our tally. */
	for (uint64 row = 0; row < count; row++)
		mine->waiting -= DatumGetBool(oe_statement_value(row, 1));
	mine->cancelled += (int64) count;
}

void
oe_queue_begin(OeRights *rights, Oid *owner)
{
	if (!OidIsValid(oe_ledger_relation()))
		no_ledger();
	*owner = oe_owner_of("call");
	oe_rights_switch(rights, *owner, OE_RIGHTS_FOR_SQL);
}

void
oe_queue_check_role(int64 call_id, const char *name, Oid user, Oid owner)
{
	Oid			role = get_role_oid(name, true);

	if ((OidIsValid(role) && is_member_of_role(user, role)) ||
		is_member_of_role(user, owner))
		return;
	ereport(ERROR,
			errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("permission denied for call " INT64_FORMAT, call_id),
			errdetail("You must be a member of the role that made the call."));
}

/* False if there is no such call.  Raises an error if it is another role's. */
static bool
find_call(int64 call_id, Oid user, Oid owner)
{
	Datum		value = Int64GetDatum(call_id);

	if (oe_statement_run(&role_statement, &value, NULL) == 0)
		return false;
	oe_queue_check_role(call_id, oe_statement_text(0, 1), user, owner);
	return true;
}

bool
oe_cancel(int64 call_id)
{
	Datum		value = Int64GetDatum(call_id);
	OeRights	rights;
	Pending    *mine;
	Oid			owner;
	bool		done;

	oe_prevent_if_read_only("ocean_enrich.cancel()");
	mine = current_pending();
	oe_queue_begin(&rights, &owner);
	done = find_call(call_id, rights.user, owner) &&
		oe_statement_run(&cancel_statement, &value, NULL) > 0;
	if (done)
	{
		count_cancelled(mine, 1);
		oe_sync_settled(&call_id, 1);
	}
	oe_rights_restore(&rights);
	return done;
}

/* First of all nothing more is sent, since there may be much to cancel. */
void
oe_cancel_sync(int64 sync_id)
{
	Datum		value = Int64GetDatum(sync_id);
	OeRights	rights;
	Pending    *mine = current_pending();
	Oid			owner;

	oe_sync_hold_calls(sync_id);
	oe_queue_begin(&rights, &owner);
	count_cancelled(mine, oe_statement_run(&cancel_sync_statement, &value, NULL));
	oe_rights_restore(&rights);
}

void
oe_cancel_calls(Datum call_ids)
{
	OeRights	rights;
	Pending    *mine = current_pending();
	Oid			owner;

	oe_queue_begin(&rights, &owner);
	count_cancelled(mine, oe_statement_run(&cancel_calls_statement, &call_ids, NULL));
	oe_rights_restore(&rights);
}

static bool
retry_unusable(int64 call_id, Oid user, OeQueueNews *news)
{
	Datum		values[2];
	NameData	name;

	namestrcpy(&name, GetUserNameFromId(user, false));
	values[0] = Int64GetDatum(call_id);
	values[1] = NameGetDatum(&name);
	if (oe_statement_run(&retry_unusable_statement, values, NULL) == 0)
		return false;
	news->decided = true;
	news->everything = true;
	return true;
}

bool
oe_retry(int64 call_id)
{
	Datum		value = Int64GetDatum(call_id);
	OeRights	rights;
	OeQueuePosition position;
	Pending    *mine;
	Oid			owner;
	bool		done;

	oe_prevent_if_read_only("ocean_enrich.retry()");
	mine = current_pending();
	oe_queue_begin(&rights, &owner);

	/*
	 * The worker would send it for the session while the queue waits for it.
	 */
	done = find_call(call_id, rights.user, owner) &&
		!oe_channel_has_call(call_id) &&
		oe_statement_run(&retry_statement, &value, NULL) > 0;
	if (done)
	{
		position.priority = DatumGetInt32(oe_statement_value(0, 1));
		position.due = DatumGetTimestampTz(oe_statement_value(0, 2));
		position.call_id = call_id;
		oe_news_add(&mine->news, &position);
		mine->waiting++;
	}
	else if (find_call(call_id, rights.user, owner))
		done = retry_unusable(call_id, rights.user, &mine->news);
	oe_rights_restore(&rights);
	return done;
}

void
oe_wake(void)
{
	OeQueueNews *news;

	/* resolve() calls this first, and has no other check for a standby. */
	oe_prevent_on_standby("ocean_enrich.resolve() or ocean_enrich.wake()");
	news = &current_pending()->news;
	news->everything = true;
	news->decided = true;
}

void
oe_end_pauses(void)
{
	OeRights	rights;
	Pending    *mine;
	Oid			owner;

	oe_prevent_if_read_only("ocean_enrich.end_pause()");
	mine = current_pending();
	oe_queue_begin(&rights, &owner);
	(void) oe_statement_run(&end_pauses_statement, NULL, NULL);
	oe_rights_restore(&rights);
	mine->news.end_pauses = true;
	mine->news.everything = true;
}
