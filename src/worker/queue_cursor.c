/*
 * queue_cursor.c
 *		The part of ocean_enrich.call that waits to be sent, as the worker sees
 *		it.
 *
 * Rows leave the queue at its head, and their index entries stay until a vacuum.
 * So the worker remembers how far it has come in each priority and begins there;
 * a transaction that adds rows announces where it has to look again.  Postponed
 * rows stand further back in the index and are not walked over.  A row that was
 * locked when it was its turn is passed by, so the worker looks through the whole
 * queue from time to time.
 *
 * Calls that were queued in another database, of which this one is a copy or to
 * which it subscribes, are not ours and are walked over.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/rights.h"
#include "base/statement.h"
#include "shared/sync_notes.h"
#include "worker/queue_cursor.h"

/* How far the worker has come in one priority. */
typedef struct Level
{
	OeQueuePosition passed;
	TimestampTz next_due;		/* DT_NOEND: nothing is behind "passed" */
} Level;

/* The levels, highest priority first. */
static Level *levels;
static int	level_count;
static int	level_room;
static Level *saved_levels;		/* by oe_queue_save() */
static int	saved_count;
static bool all_unknown = true; /* true before a survey */

static OeStatement next_level_statement = {
	"SELECT priority FROM ocean_enrich.call"
	" WHERE state = 'queued' AND priority < $1 ORDER BY priority DESC LIMIT 1",
	1,
	{INT8OID},
	NULL
};

static OeStatement claim_statement = {
	"SELECT call_id, next_attempt_at, role, endpoint, fingerprint, request, attempts,"
	" postponed, gathered, requested_at, reveals_in_answer, reveals_by_webhook,"
	" waits_for IS NOT DISTINCT FROM 'balance' AND status BETWEEN 401 AND 403, sync_id"
	" FROM ocean_enrich.call WHERE state = 'queued' AND priority = $1"
	" AND (next_attempt_at, call_id) > ($2, $3) AND next_attempt_at <= $4"
	" AND " OE_OF_THIS_DATABASE
	" ORDER BY next_attempt_at, call_id LIMIT $5 FOR NO KEY UPDATE SKIP LOCKED",
	5,
	{INT4OID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, INT8OID},
	NULL
};

static OeStatement peek_statement = {
	"SELECT next_attempt_at, call_id FROM ocean_enrich.call"
	" WHERE state = 'queued' AND priority = $1"
	" AND (next_attempt_at, call_id) > ($2, $3) AND " OE_OF_THIS_DATABASE
	" ORDER BY next_attempt_at, call_id LIMIT 1",
	3,
	{INT4OID, TIMESTAMPTZOID, INT8OID},
	NULL
};

static OeStatement reuse_statement = {
	"UPDATE ocean_enrich.call AS c SET state = o.state, account = o.account,"
	" status = o.status, detail = o.detail, answer = o.answer, raw = o.raw,"
	" raw_truncated = o.raw_truncated, credits = 0, answered_at = $3,"
	" next_attempt_at = NULL, waits_for = NULL, reused_from = o.call_id"
	" FROM ocean_enrich.call AS o WHERE c.call_id = $1 AND o.call_id = $2",
	3,
	{INT8OID, INT8OID, TIMESTAMPTZOID},
	NULL
};

/* A call that has ended or was cancelled meanwhile is not requeued. */
static OeStatement put_back_statement = {
	"UPDATE ocean_enrich.call SET state = 'queued', next_attempt_at = $2,"
	" waits_for = $3::ocean_enrich.wait_reason,"
	" postponed = postponed + ($3 IS NOT DISTINCT FROM 'retry')::integer,"
	" gathered = gathered + ($3 IS NOT DISTINCT FROM 'gathering')::integer,"
	" earlier_requests = earlier_requests + $7, attempts = $4, status = $5, detail = $6"
	" WHERE call_id = (SELECT call_id FROM ocean_enrich.call"
	" WHERE call_id = $1 AND state::text IN ('queued', 'sent')"
	" FOR NO KEY UPDATE SKIP LOCKED)",
	7,
	{INT8OID, TIMESTAMPTZOID, TEXTOID, INT4OID, INT4OID, TEXTOID, INT4OID},
	NULL
};

/* The labels of ocean_enrich.wait_reason; NULL: the call keeps its place. */
static const char *const reason_names[] = {
	[OE_WAIT_TURN] = NULL,
	[OE_WAIT_GATHERING] = "gathering",
	[OE_WAIT_RETRY] = "retry",
	[OE_WAIT_LIMIT] = "limit",
	[OE_WAIT_BUDGET] = "budget",
	[OE_WAIT_BALANCE] = "balance",
	[OE_WAIT_CALL] = "call",
	[OE_WAIT_DECISION] = "decision",
};

static OeStatement given_up_statement = {
	"SELECT FROM ocean_enrich.call WHERE call_id = $1 AND resolution = 'give up'",
	1,
	{INT8OID},
	NULL
};

/*
 * The row keeps its number, as users may know it.  The request that may have
 * been paid for stays on record in a row of its own.
 */
static OeStatement pay_again_statement = {
	"WITH again AS (SELECT * FROM ocean_enrich.call"
	" WHERE state = 'unknown' AND background AND resolution = 'pay again'"
	" AND " OE_OF_THIS_DATABASE
	" FOR NO KEY UPDATE SKIP LOCKED),"
	" evidence AS (INSERT INTO ocean_enrich.call (state, role, endpoint, account, fingerprint,"
	" request, reveals_in_answer, reveals_by_webhook, status, detail, raw, raw_truncated,"
	" credits, reserved, attempts, earlier_requests,"
	" requested_at, sent_at, answered_at, resolution, resolved_by, resolved_at)"
	" SELECT state, role, endpoint, account, fingerprint, request, reveals_in_answer,"
	" reveals_by_webhook, status, detail, raw, raw_truncated, credits, reserved, attempts,"
	" earlier_requests, requested_at, sent_at, answered_at,"
	" resolution, resolved_by, resolved_at FROM again)"
	" UPDATE ocean_enrich.call AS c SET state = 'queued', next_attempt_at = now(),"
	" postponed = 0, gathered = 0, earlier_requests = 0, status = NULL, detail = NULL, raw = NULL,"
	" raw_truncated = false, credits = NULL, reserved = NULL, sent_at = NULL, answered_at = NULL,"
	" resolution = NULL, resolved_by = NULL, resolved_at = NULL"
	" WHERE c.call_id = ANY (ARRAY(SELECT again.call_id FROM again))",
	0,
	{0},
	NULL
};

static OeStatement release_statement = {
	"UPDATE ocean_enrich.call SET next_attempt_at = now(), waits_for = NULL,"
	" detail = NULL WHERE state = 'queued' AND priority = $1"
	" AND next_attempt_at = 'infinity' AND waits_for = 'decision'"
	" AND " OE_OF_THIS_DATABASE,
	1,
	{INT4OID},
	NULL
};

static OeStatement is_there_statement = {
	"SELECT FROM ocean_enrich.call"
	" WHERE call_id = $1 AND state::text IN ('queued', 'sent')",
	1,
	{INT8OID},
	NULL
};

/* In the order of OeTally, from $2 on. */
static OeStatement add_tally_statement = {
	"UPDATE ocean_enrich.queue_tally SET waiting = waiting + $2,"
	" answered = answered + $3, reused = reused + $4, refused = refused + $5,"
	" failed = failed + $6, unknown = unknown + $7, cancelled = cancelled + $8,"
	" credits = credits + trim_scale($9 / 1000000.0)"
	" WHERE folded AND day = ($1 AT TIME ZONE 'UTC')::date",
	9,
	{TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID,
		INT8OID, INT8OID},
	NULL
};

static OeStatement begin_tally_statement = {
	"INSERT INTO ocean_enrich.queue_tally (day, folded)"
	" VALUES (($1 AT TIME ZONE 'UTC')::date, true)",
	1,
	{TIMESTAMPTZOID},
	NULL
};

static OeStatement fold_statement = {
	"WITH gone AS (DELETE FROM ocean_enrich.queue_tally WHERE NOT folded"
	" RETURNING waiting, cancelled)"
	" SELECT coalesce(sum(waiting), 0)::bigint, coalesce(sum(cancelled), 0)::bigint"
	" FROM gone",
	0,
	{0},
	NULL
};

static OeStatement count_statement = {
	"SELECT count(*) FILTER (WHERE is_ours), count(*) FILTER (WHERE NOT is_ours)"
	" FROM (SELECT " OE_OF_THIS_DATABASE " AS is_ours FROM ocean_enrich.call"
	" WHERE state = 'queued') AS queued",
	0,
	{0},
	NULL
};

static OeStatement sum_statement = {
	"SELECT coalesce(sum(waiting), 0)::bigint FROM ocean_enrich.queue_tally",
	0,
	{0},
	NULL
};

/* ----------------------------------------------------------------
 * How far the worker has come
 * ---------------------------------------------------------------- */

static Level *
find_level(int32 priority)
{
	for (int i = 0; i < level_count; i++)
	{
		if (levels[i].passed.priority == priority)
			return &levels[i];
	}
	return NULL;
}

static Level *
add_level(int32 priority, TimestampTz due, int64 call_id)
{
	int			at = level_count;

	if (level_count == level_room)
	{
		level_room = level_room ? level_room * 2 : 16;
		levels = levels ? repalloc(levels, level_room * sizeof(Level))
			: MemoryContextAlloc(TopMemoryContext, level_room * sizeof(Level));
	}
	while (at > 0 && levels[at - 1].passed.priority < priority)
	{
		levels[at] = levels[at - 1];
		at--;
	}
	level_count++;
	levels[at].passed.priority = priority;
	levels[at].passed.due = due;
	levels[at].passed.call_id = call_id;
	levels[at].next_due = due;
	return &levels[at];
}

/* "position" itself is to be looked at, so only rows before it are passed. */
void
oe_queue_look_from(const OeQueuePosition *position)
{
	Level	   *level = find_level(position->priority);

	if (all_unknown)
		return;
	if (!level)
		level = add_level(position->priority, position->due, position->call_id);
	if (position->due < level->passed.due ||
		(position->due == level->passed.due &&
		 position->call_id <= level->passed.call_id))
	{
		level->passed.due = position->due;
		level->passed.call_id = position->call_id - 1;
	}
	level->next_due = Min(level->next_due, position->due);
}

void
oe_queue_learn(const OeQueueNews *news)
{
	if (news->everything)
		oe_queue_look_everywhere();
	for (int i = 0; i < news->count; i++)
		oe_queue_look_from(&news->first[i]);
}

void
oe_queue_look_everywhere(void)
{
	all_unknown = true;
}

TimestampTz
oe_queue_next_due(void)
{
	TimestampTz due = all_unknown ? DT_NOBEGIN : DT_NOEND;

	for (int i = 0; i < level_count; i++)
		due = Min(due, levels[i].next_due);
	return due;
}

bool
oe_queue_needs_survey(void)
{
	return all_unknown;
}

static void
find_levels(void)
{
	Datum		below = Int64GetDatum((int64) PG_INT32_MAX + 1);

	level_count = 0;
	while (oe_statement_run(&next_level_statement, &below, NULL) > 0)
	{
		int32		priority = DatumGetInt32(oe_statement_value(0, 1));

		(void) add_level(priority, DT_NOBEGIN, 0);
		below = Int64GetDatum(priority);
	}
}

void
oe_queue_save(void)
{
	if (saved_levels)
		pfree(saved_levels);
	saved_levels = MemoryContextAlloc(TopMemoryContext,
									  Max(level_count, 1) * sizeof(Level));
	saved_count = level_count;
	if (level_count > 0)
		memcpy(saved_levels, levels, level_count * sizeof(Level));
}

void
oe_queue_undo(void)
{
	level_count = saved_count;
	if (level_count > 0)
		memcpy(levels, saved_levels, level_count * sizeof(Level));
}

void
oe_queue_pass(const OeQueuePosition *position)
{
	Level	   *level = find_level(position->priority);

	/* An unknown level is walked from its beginning when it is found. */
	if (level)
		level->passed = *position;
}

/* ----------------------------------------------------------------
 * Claiming
 * ---------------------------------------------------------------- */

/* All zeros, which no request has, if it was erased. */
static const uint8 *
fingerprint_of(bytea *value)
{
	uint8	   *fingerprint = palloc0(OE_FINGERPRINT_BYTES);

	memcpy(fingerprint, VARDATA_ANY(value),
		   Min(VARSIZE_ANY_EXHDR(value), OE_FINGERPRINT_BYTES));
	return fingerprint;
}

static void
fill_call(OeQueuedCall *call, int32 priority, uint64 row)
{
	Datum		request;

	call->position.priority = priority;
	call->position.call_id = DatumGetInt64(oe_statement_value(row, 1));
	call->position.due = DatumGetTimestampTz(oe_statement_value(row, 2));
	call->role = oe_statement_text(row, 3);
	call->endpoint = oe_endpoint_find(oe_statement_text(row, 4));
	call->fingerprint = fingerprint_of(DatumGetByteaPP(oe_statement_value(row, 5)));
	request = oe_statement_value(row, 6);
	call->request = request ? DatumGetJsonbP(request) : NULL;
	call->attempts = DatumGetInt32(oe_statement_value(row, 7));
	call->postponed = DatumGetInt32(oe_statement_value(row, 8));
	call->gathered = DatumGetInt32(oe_statement_value(row, 9));
	call->requested_at = DatumGetTimestampTz(oe_statement_value(row, 10));
	call->refused_before = DatumGetBool(oe_statement_value(row, 13));
	call->held = !oe_statement_is_null(row, 14) &&
		!oe_sync_may_send(oe_statement_int64(row, 14));
	call->reveals = (OeReveals) {0};
	if (!call->endpoint)
		return;
	if (call->endpoint->price_count > 0)
		call->reveals.of[0] = OE_REVEAL_IN_ANSWER;
	oe_reveals_from_names(call->endpoint, oe_statement_value(row, 11),
						  OE_REVEAL_IN_ANSWER, &call->reveals);
	oe_reveals_from_names(call->endpoint, oe_statement_value(row, 12),
						  OE_REVEAL_BY_WEBHOOK, &call->reveals);
}

/* Claim the calls due in one priority.  Returns their number. */
static int
claim_level(Level *level, OeQueuedCall *calls, int max, TimestampTz now)
{
	Datum		values[5];
	uint64		count;

	values[0] = Int32GetDatum(level->passed.priority);
	values[1] = TimestampTzGetDatum(level->passed.due);
	values[2] = Int64GetDatum(level->passed.call_id);
	values[3] = TimestampTzGetDatum(now);
	values[4] = Int64GetDatum(max);
	count = oe_statement_run(&claim_statement, values, NULL);
	for (uint64 i = 0; i < count; i++)
		fill_call(&calls[i], level->passed.priority, i);
	return (int) count;
}

/* Move "place" to the next queued call behind it.  False: there is none. */
static bool
find_next_queued(OeQueuePosition *place)
{
	Datum		values[3];

	values[0] = Int32GetDatum(place->priority);
	values[1] = TimestampTzGetDatum(place->due);
	values[2] = Int64GetDatum(place->call_id);
	if (oe_statement_run(&peek_statement, values, NULL) == 0)
		return false;
	place->due = DatumGetTimestampTz(oe_statement_value(0, 1));
	place->call_id = DatumGetInt64(oe_statement_value(0, 2));
	return true;
}

/* Let claims begin at the first row, not at dead index entries before it. */
void
oe_queue_survey(void)
{
	oe_ledger_use_spi();
	find_levels();
	for (int i = 0; i < level_count; i++)
	{
		Level	   *level = &levels[i];

		if (find_next_queued(&level->passed))
		{
			level->next_due = level->passed.due;
			level->passed.call_id--;
		}
		else
			level->next_due = DT_NOEND;
	}
	all_unknown = false;
}

OeQueuedCall *
oe_queue_claim(int max, TimestampTz now, int *count)
{
	OeQueuedCall *calls = palloc(sizeof(OeQueuedCall) * max);

	oe_ledger_use_spi();
	*count = 0;
	for (int i = 0; i < level_count && *count < max; i++)
	{
		Level	   *level = &levels[i];
		int			found;

		if (level->next_due > now)
			continue;
		found = claim_level(level, calls + *count, max - *count, now);
		*count += found;
		if (*count < max)
		{
			OeQueuePosition last = found > 0 ? calls[*count - 1].position
				: level->passed;

			/* Due calls that were not claimed are locked: wait for a sweep. */
			last.due = Max(last.due, now);
			if (last.due == now)
				last.call_id = PG_INT64_MAX;
			level->next_due = find_next_queued(&last) ? last.due : DT_NOEND;
		}
	}
	oe_ledger_look_anew();
	return calls;
}

/* ----------------------------------------------------------------
 * Settling or requeuing claimed calls
 * ---------------------------------------------------------------- */

void
oe_queue_settle_reused(int64 call_id, int64 from, TimestampTz now)
{
	Datum		values[3];

	values[0] = Int64GetDatum(call_id);
	values[1] = Int64GetDatum(from);
	values[2] = TimestampTzGetDatum(now);
	(void) oe_statement_run(&reuse_statement, values, NULL);
}

OePutBack
oe_queue_put_back(int64 call_id, TimestampTz due, OeWaitReason reason,
				  int attempts, int status, OeOutcome outcome, const char *detail)
{
	Datum		values[7];
	char		nulls[] = "       ";

	values[0] = Int64GetDatum(call_id);
	values[1] = TimestampTzGetDatum(due);
	if (reason_names[reason])
		values[2] = CStringGetTextDatum(reason_names[reason]);
	else
		nulls[2] = 'n';
	values[3] = Int32GetDatum(attempts);
	values[4] = Int32GetDatum(status);
	if (status == 0)
		nulls[4] = 'n';
	if (detail)
		values[5] = CStringGetTextDatum(detail);
	else
		nulls[5] = 'n';
	values[6] = Int32GetDatum(outcome == OE_REFUSED);
	oe_ledger_use_spi();
	if (oe_statement_run(&put_back_statement, values, nulls) > 0)
		return OE_PUT_BACK;
	return oe_statement_run(&is_there_statement, values, NULL) > 0
		? OE_PUT_BACK_BUSY : OE_PUT_BACK_GONE;
}

bool
oe_queue_is_given_up(int64 call_id)
{
	Datum		value = Int64GetDatum(call_id);

	return oe_statement_run(&given_up_statement, &value, NULL) > 0;
}

void
oe_queue_obey(OeTally *tally)
{
	oe_ledger_use_spi();
	tally->waiting += oe_statement_run(&pay_again_statement, NULL, NULL);
	find_levels();
	for (int i = 0; i < level_count; i++)
	{
		Datum		priority = Int32GetDatum(levels[i].passed.priority);

		(void) oe_statement_run(&release_statement, &priority, NULL);
	}
	all_unknown = true;
}

/* ----------------------------------------------------------------
 * How long the queue is
 * ---------------------------------------------------------------- */

/* The tally may have another owner than the ledger. */
static void
begin_tally(OeRights *rights)
{
	oe_ledger_use_spi();
	oe_rights_switch(rights, oe_owner_of("queue_tally"), OE_RIGHTS_RESTRICTED);
}

void
oe_tally_write(const OeTally *tally, TimestampTz now)
{
	Datum		values[9];
	OeRights	rights;

	values[0] = TimestampTzGetDatum(now);
	values[1] = Int64GetDatum(tally->waiting);
	values[2] = Int64GetDatum(tally->answered);
	values[3] = Int64GetDatum(tally->reused);
	values[4] = Int64GetDatum(tally->refused);
	values[5] = Int64GetDatum(tally->failed);
	values[6] = Int64GetDatum(tally->unknown);
	values[7] = Int64GetDatum(tally->cancelled);
	values[8] = Int64GetDatum(tally->credits);
	begin_tally(&rights);
	while (oe_statement_run(&add_tally_statement, values, NULL) == 0)
		(void) oe_statement_run(&begin_tally_statement, values, NULL);
	oe_rights_restore(&rights);
}

void
oe_tally_fold(OeTally *tally)
{
	OeRights	rights;

	begin_tally(&rights);
	(void) oe_statement_run(&fold_statement, NULL, NULL);
	oe_rights_restore(&rights);
	tally->waiting += DatumGetInt64(oe_statement_value(0, 1));
	tally->cancelled += DatumGetInt64(oe_statement_value(0, 2));
}

/* Count both in one snapshot, or a commit in between would count only once. */
int64
oe_tally_recount(OeTally *tally, int64 *copied)
{
	int64		queued;
	OeRights	rights;

	oe_ledger_use_spi();
	oe_ledger_look_anew();
	(void) oe_statement_read(&count_statement);
	queued = oe_statement_int64(0, 1);
	*copied = oe_statement_int64(0, 2);
	begin_tally(&rights);
	(void) oe_statement_read(&sum_statement);
	oe_rights_restore(&rights);
	tally->waiting += queued - DatumGetInt64(oe_statement_value(0, 1));
	return queued;
}
