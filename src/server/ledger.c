/*
 * ledger.c
 *		The table ocean_enrich.call, by SPI with saved plans.
 *
 * The worker is the bootstrap superuser, the table is somebody's.  So that a
 * trigger or a default which its owner made never runs as superuser, every
 * statement runs as the owner in a security-restricted operation.
 *
 * The worker must not wait for a lock that somebody holds on the table, as
 * everybody's answers would wait with it: see oe_ledger_begin().
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "server/ledger.h"

static const char *const state_names[] = {
	[OE_LEDGER_SENT] = "sent",
	[OE_LEDGER_ANSWERED] = "answered",
	[OE_LEDGER_REFUSED] = "refused",
	[OE_LEDGER_FAILED] = "failed",
	[OE_LEDGER_UNKNOWN] = "unknown",
};

/* The order of the parameters of the two writing statements. */
enum
{
	P_STATE,
	P_STATUS,
	P_DETAIL,
	P_PERSON,
	P_RAW,
	P_RAW_TRUNCATED,
	P_CREDITS,
	P_ATTEMPTS,
	P_SENT_AT,
	P_ANSWERED_AT,
	P_NEXT_ATTEMPT_AT,
	/* $12: the last one that both know */
	P_CALL_ID,
	P_ROLE = P_CALL_ID,
	P_ACCOUNT,
	P_FINGERPRINT,
	P_REQUEST,
	P_REQUESTED_AT,
	P_COUNT
};

typedef struct Statement
{
	const char *sql;
	int			nargs;
	Oid			types[P_COUNT];
	SPIPlanPtr	plan;
} Statement;

#define OUTCOME_TYPES \
	TEXTOID, INT4OID, TEXTOID, JSONBOID, BYTEAOID, BOOLOID, NUMERICOID, \
	INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID

static Statement insert_statement = {
	"INSERT INTO ocean_enrich.call (state, status, detail, person, raw,"
	" raw_truncated, credits, attempts, sent_at, answered_at, next_attempt_at,"
	" role, account, fingerprint, request, requested_at)"
	" VALUES ($1::ocean_enrich.call_state, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,"
	" $12, $13, $14, $15, $16) RETURNING call_id",
	P_COUNT,
	{OUTCOME_TYPES, NAMEOID, TEXTOID, BYTEAOID, JSONBOID, TIMESTAMPTZOID},
	NULL
};

/*
 * A row that somebody has locked is skipped, not waited for: that may be a
 * transaction that sits idle.
 */
static Statement update_statement = {
	"UPDATE ocean_enrich.call AS c SET state = $1::ocean_enrich.call_state,"
	" status = $2, detail = $3,"
	" person = $4, raw = $5, raw_truncated = $6, credits = $7, attempts = $8,"
	" sent_at = $9, answered_at = $10, next_attempt_at = $11"
	" FROM (SELECT call_id FROM ocean_enrich.call"
	" WHERE call_id = $12 FOR NO KEY UPDATE SKIP LOCKED) AS free"
	" WHERE c.call_id = free.call_id",
	P_CALL_ID + 1,
	{OUTCOME_TYPES, INT8OID},
	NULL
};

static Statement exists_statement = {
	"SELECT FROM ocean_enrich.call WHERE call_id = $1",
	1,
	{INT8OID},
	NULL
};

/*
 * The sub-select sees to it that the index on the fingerprint is used, and none
 * on what else is asked for: without statistics, that on the state looked better
 * and read the whole ledger.
 */
static Statement find_statement = {
	"SELECT call_id, state, status, detail, person"
	" FROM (SELECT * FROM ocean_enrich.call"
	" WHERE fingerprint = $1 AND account = $2 OFFSET 0) AS equal"
	" WHERE ((state = 'answered' AND (person IS NOT NULL OR raw IS NOT NULL)"
	" OR state = 'refused' AND status = 404) AND answered_at >= $3"
	" OR state = 'unknown' AND resolution IS DISTINCT FROM 'pay again'"
	" OR state = 'sent')"
	" ORDER BY state, call_id DESC LIMIT 1",
	3,
	{BYTEAOID, TEXTOID, TIMESTAMPTZOID},
	NULL
};

static Statement reconcile_statement = {
	"WITH free AS (SELECT call_id FROM ocean_enrich.call WHERE state = 'sent'"
	" FOR NO KEY UPDATE SKIP LOCKED)"
	" UPDATE ocean_enrich.call AS c SET state = 'unknown',"
	" detail = 'the worker ended before the answer came'"
	" FROM free WHERE c.call_id = free.call_id",
	0,
	{0},
	NULL
};

static Statement orphan_statement = {
	"WITH free AS (SELECT call_id FROM ocean_enrich.call"
	" WHERE call_id = $1 AND state = 'sent' FOR NO KEY UPDATE SKIP LOCKED)"
	" UPDATE ocean_enrich.call AS c SET state = 'unknown',"
	" detail = 'its ending could not be recorded'"
	" FROM free WHERE c.call_id = free.call_id",
	1,
	{INT8OID},
	NULL
};

static Statement sent_left_statement = {
	"SELECT FROM ocean_enrich.call WHERE state = 'sent' LIMIT 1",
	0,
	{0},
	NULL
};

static Statement usage_statement = {
	"SELECT count(*) FILTER (WHERE state <> 'failed'),"
	" coalesce(sum(credits), 0)::text,"
	" count(*) FILTER (WHERE state = 'unknown' AND credits IS NULL),"
	" max(next_attempt_at) FILTER (WHERE status = 429)"
	" FROM ocean_enrich.call WHERE sent_at >= $1 AND account = $2",
	2,
	{TIMESTAMPTZOID, TEXTOID},
	NULL
};

static Statement sent_statement = {
	"SELECT sent_at FROM ocean_enrich.call"
	" WHERE sent_at >= $1 AND account = $2 ORDER BY sent_at",
	2,
	{TIMESTAMPTZOID, TEXTOID},
	NULL
};

static Oid	saved_user;
static int	saved_guc_level;
static int	saved_security_context;

/* ----------------------------------------------------------------
 * Transactions
 * ---------------------------------------------------------------- */

/* The ledger, if it is the one of our extension and not a namesake. */
static Oid
ledger_relation(void)
{
	static Oid	checked_relation = InvalidOid;
	Oid			schema = get_namespace_oid("ocean_enrich", true);
	Oid			relation;

	if (!OidIsValid(schema))
		return InvalidOid;
	relation = get_relname_relid("call", schema);
	if (!OidIsValid(relation) || relation == checked_relation)
		return relation;
	if (getExtensionOfObject(RelationRelationId, relation) !=
		get_extension_oid("ocean_enrich", true))
		return InvalidOid;
	checked_relation = relation;
	return relation;
}

static Oid
relation_owner(Oid relation)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relation);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

OeLedgerAccess
oe_ledger_begin(void)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			relation;

	/* Without this, now() would stand still. */
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
		/* Taking the lock has shown us what happened before. */
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
	/* Nor may a trigger change the worker's settings for good. */
	saved_guc_level = NewGUCNestLevel();
	GetUserIdAndSecContext(&saved_user, &saved_security_context);
	SetUserIdAndSecContext(relation_owner(relation),
						   saved_security_context | SECURITY_RESTRICTED_OPERATION);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	MemoryContextSwitchTo(caller);
	return OE_LEDGER_READY;
}

XLogRecPtr
oe_ledger_commit(void)
{
	MemoryContext caller = CurrentMemoryContext;

	SPI_finish();
	AtEOXact_GUC(false, saved_guc_level);
	SetUserIdAndSecContext(saved_user, saved_security_context);
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(false);
	MemoryContextSwitchTo(caller);
	return XactLastCommitEnd;
}

void
oe_ledger_abort(void)
{
	MemoryContext caller = CurrentMemoryContext;

	/* Gives the user back, too. */
	AbortCurrentTransaction();
	pgstat_report_stat(false);
	MemoryContextSwitchTo(caller);
}

/* ----------------------------------------------------------------
 * Statements
 * ---------------------------------------------------------------- */

/* SPI leaves its own memory context behind; the caller's stays current. */
static void
execute(Statement *statement, Datum *values, const char *nulls)
{
	MemoryContext caller = CurrentMemoryContext;
	int			rc;

	if (!statement->plan)
	{
		SPIPlanPtr	plan = SPI_prepare(statement->sql, statement->nargs,
									   statement->types);

		if (!plan || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare a statement of the ledger: %s",
				 SPI_result_code_string(SPI_result));
		statement->plan = plan;
	}
	rc = SPI_execute_plan(statement->plan, values, nulls, false, 0);
	if (rc < 0)
		elog(ERROR, "could not execute a statement of the ledger: %s",
			 SPI_result_code_string(rc));
	MemoryContextSwitchTo(caller);
}

static Datum
result_column(int row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						 column, isnull);
}

static void
set_text(Datum *values, char *nulls, int param, const char *text)
{
	nulls[param] = text ? ' ' : 'n';
	if (text)
		values[param] = CStringGetTextDatum(text);
}

static void
set_int(Datum *values, char *nulls, int param, int number)
{
	nulls[param] = number ? ' ' : 'n';
	values[param] = Int32GetDatum(number);
}

static void
set_time(Datum *values, char *nulls, int param, TimestampTz time)
{
	nulls[param] = time ? ' ' : 'n';
	values[param] = TimestampTzGetDatum(time);
}

static void
set_bytes(Datum *values, char *nulls, int param, const void *bytes, Size len)
{
	bytea	   *value;

	nulls[param] = bytes ? ' ' : 'n';
	if (!bytes)
		return;
	value = palloc(VARHDRSZ + len);
	SET_VARSIZE(value, VARHDRSZ + len);
	memcpy(VARDATA(value), bytes, len);
	values[param] = PointerGetDatum(value);
}

/* By jsonb's own input function, which also keeps every number exact. */
static void
set_jsonb(Datum *values, char *nulls, int param, const char *json)
{
	nulls[param] = json ? ' ' : 'n';
	if (json)
		values[param] = DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
}

static void
set_numeric(Datum *values, char *nulls, int param, const char *number)
{
	nulls[param] = number ? ' ' : 'n';
	if (number)
		values[param] = DirectFunctionCall3(numeric_in,
											CStringGetDatum(number),
											ObjectIdGetDatum(InvalidOid),
											Int32GetDatum(-1));
}

static void
insert_row(OeLedgerRow *row, Datum *values, char *nulls)
{
	NameData	role;
	bool		isnull;

	namestrcpy(&role, row->role);
	nulls[P_ROLE] = ' ';
	values[P_ROLE] = NameGetDatum(&role);
	set_text(values, nulls, P_ACCOUNT, row->account);
	set_bytes(values, nulls, P_FINGERPRINT, row->fingerprint, 32);
	set_jsonb(values, nulls, P_REQUEST, row->request);
	set_time(values, nulls, P_REQUESTED_AT, row->requested_at);
	execute(&insert_statement, values, nulls);
	row->call_id = DatumGetInt64(result_column(0, 1, &isnull));
}

static bool
row_exists(int64 call_id)
{
	Datum		value = Int64GetDatum(call_id);

	execute(&exists_statement, &value, " ");
	return SPI_processed > 0;
}

bool
oe_ledger_write(OeLedgerRow *row)
{
	Datum		values[P_COUNT] = {0};
	char		nulls[P_COUNT + 1] = {0};

	set_text(values, nulls, P_STATE, state_names[row->state]);
	set_int(values, nulls, P_STATUS, row->status);
	set_text(values, nulls, P_DETAIL, row->detail);
	set_jsonb(values, nulls, P_PERSON, row->person);
	set_bytes(values, nulls, P_RAW, row->raw, row->raw_len);
	nulls[P_RAW_TRUNCATED] = ' ';
	values[P_RAW_TRUNCATED] = BoolGetDatum(row->raw_truncated);
	set_numeric(values, nulls, P_CREDITS, row->credits);
	nulls[P_ATTEMPTS] = ' ';
	values[P_ATTEMPTS] = Int32GetDatum(row->attempts);
	set_time(values, nulls, P_SENT_AT, row->sent_at);
	set_time(values, nulls, P_ANSWERED_AT, row->answered_at);
	set_time(values, nulls, P_NEXT_ATTEMPT_AT, row->next_attempt_at);

	if (row->call_id != 0)
	{
		nulls[P_CALL_ID] = ' ';
		values[P_CALL_ID] = Int64GetDatum(row->call_id);
		execute(&update_statement, values, nulls);
		if (SPI_processed > 0)
			return true;
		if (row_exists(row->call_id))
			return false;
	}
	insert_row(row, values, nulls);
	return true;
}

static OeLedgerState
state_from_name(const char *name)
{
	for (int i = 0; i < (int) lengthof(state_names); i++)
	{
		if (strcmp(state_names[i], name) == 0)
			return (OeLedgerState) i;
	}
	elog(ERROR, "unexpected state of a ledger row");
}

bool
oe_ledger_find(const char *account, const uint8 *fingerprint,
			   TimestampTz since, OeLedgerHit *hit)
{
	Datum		values[3] = {0};
	char		nulls[4] = {0};
	HeapTuple	tuple;
	TupleDesc	desc;
	bool		isnull;

	set_bytes(values, nulls, 0, fingerprint, 32);
	set_text(values, nulls, 1, account);
	nulls[2] = ' ';
	values[2] = TimestampTzGetDatum(since);
	execute(&find_statement, values, nulls);
	if (SPI_processed == 0)
		return false;

	tuple = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	hit->call_id = DatumGetInt64(result_column(0, 1, &isnull));
	hit->state = state_from_name(SPI_getvalue(tuple, desc, 2));
	hit->status = DatumGetInt32(result_column(0, 3, &isnull));
	hit->detail = SPI_getvalue(tuple, desc, 4);
	hit->person = SPI_getvalue(tuple, desc, 5);
	return true;
}

void
oe_ledger_give_up(int64 call_id)
{
	Datum		values[1];

	values[0] = Int64GetDatum(call_id);
	execute(&orphan_statement, values, NULL);
}

bool
oe_ledger_reconcile(uint64 *count)
{
	execute(&reconcile_statement, NULL, NULL);
	*count += SPI_processed;
	execute(&sent_left_statement, NULL, NULL);
	return SPI_processed == 0;
}

void
oe_ledger_usage(const char *account, TimestampTz day_start,
				TimestampTz minute_start, OeLedgerUsage *usage)
{
	Datum		values[2];
	char		nulls[3] = "  ";
	bool		isnull;
	TimestampTz paused_until;
	char	   *credits;

	values[0] = TimestampTzGetDatum(day_start);
	values[1] = CStringGetTextDatum(account);
	execute(&usage_statement, values, nulls);
	usage->requests_today = DatumGetInt64(result_column(0, 1, &isnull));
	credits = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
	if (!oe_credits_parse(credits, &usage->credits_today))
		usage->credits_today = OE_CREDITS_MAX;
	usage->unknown_today = DatumGetInt64(result_column(0, 3, &isnull));
	paused_until = DatumGetTimestampTz(result_column(0, 4, &isnull));
	usage->paused_until = isnull ? 0 : paused_until;

	values[0] = TimestampTzGetDatum(minute_start);
	execute(&sent_statement, values, nulls);
	usage->sent_count = (int) SPI_processed;
	usage->sent = palloc(sizeof(TimestampTz) * Max(usage->sent_count, 1));
	for (int i = 0; i < usage->sent_count; i++)
		usage->sent[i] = DatumGetTimestampTz(result_column(i, 1, &isnull));
}
