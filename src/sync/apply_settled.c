/*
 * apply_settled.c
 *		Process settled calls.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/answer.h"
#include "base/errors.h"
#include "sync/apply_rows.h"
#include "sync/apply_settled.h"
#include "sync/triggers.h"

/* How often a row's request may differ when its answer arrives. */
#define DIFFERENCES_MAX		3

/* OFFSET 0 makes the planner look up the row and the call of each entry. */
static OeStatement settled_statement = {
	"SELECT s.settled_id, r.ctid, r.key, r.state, c.fingerprint, r.differences,"
	" s.call_id, c.state, c.status, c.detail, c.answer, s.ctid"
	" FROM ocean_enrich.sync_settled AS s"
	" LEFT JOIN LATERAL (SELECT ctid, key, state::text, differences"
	" FROM ocean_enrich.sync_row WHERE call_id = s.call_id OFFSET 0) AS r ON true"
	" LEFT JOIN LATERAL (SELECT fingerprint, state::text, status, detail, answer"
	" FROM ocean_enrich.call WHERE call_id = s.call_id OFFSET 0) AS c ON true"
	" WHERE s.sync_id = $1 AND s.settled_id > $2 ORDER BY s.settled_id LIMIT $3",
	3, {INT8OID, INT8OID, INT4OID}, NULL
};

/* The ctids were just read, and nothing else deletes the rows. */
static OeStatement forget_statement = {
	"DELETE FROM ocean_enrich.sync_settled WHERE ctid = ANY ($1)",
	1, {TIDARRAYOID}, NULL
};

static OeStatement forget_one_statement = {
	"DELETE FROM ocean_enrich.sync_settled WHERE sync_id = $1 AND settled_id = $2",
	2, {INT8OID, INT8OID}, NULL
};

static OeStatement sweep_statement = {
	"INSERT INTO ocean_enrich.sync_settled (sync_id, call_id)"
	" SELECT $1, ended.call_id FROM (SELECT r.call_id FROM ocean_enrich.sync_row AS r"
	" WHERE r.sync_id = $1 AND r.state = 'queued'"
	" AND (SELECT c.state::text FROM ocean_enrich.call AS c WHERE c.call_id = r.call_id)"
	" IN ('queued', 'sent') IS NOT TRUE"
	" EXCEPT SELECT s.call_id FROM ocean_enrich.sync_settled AS s"
	" WHERE s.sync_id = $1) AS ended",
	1, {INT8OID}, NULL
};

typedef enum Fate
{
	FATE_NONE,					/* no row needs the answer any more */
	FATE_CHANGED,				/* the changed row is evaluated first */
	FATE_FAILED,				/* the call has no answer to write */
	FATE_WRITE,
	FATE_LATER,					/* the row is locked */
	FATE_GONE,
	FATE_DIFFERENT,
	FATE_SUPPRESSED,
} Fate;

/* A row of settled_statement. */
typedef struct SettledCall
{
	int64		settled_id;
	Datum		settled_tid;
	Datum		tid;
	Datum		key;
	bool		again;			/* true if the row's answer has changed */
	int			differences;
	int64		call_id;
	const char *state;			/* NULL if there is no such call */
	Datum		fingerprint;	/* 0 likewise; empty if erased */
	int			status;
	const char *detail;
	Datum		answer;			/* 0 if none */
	Fate		fate;
} SettledCall;

/* ----------------------------------------------------------------
 * The rows
 * ---------------------------------------------------------------- */

/*
 * If a webhook has changed the answer of a settled row, the later state of the
 * call does not make that row fail.
 */
static Fate
first_fate(const SettledCall *call, const char *row_state)
{
	if (!call->tid || oe_apply_is(row_state, "forgotten") ||
		oe_apply_is(call->state, "queued") || oe_apply_is(call->state, "sent"))
		return FATE_NONE;
	if (oe_apply_is(row_state, "changed"))
		return FATE_CHANGED;
	if ((oe_apply_is(call->state, "answered") && call->answer) ||
		(oe_apply_is(call->state, "refused") && call->status == 404))
		return FATE_WRITE;
	return call->again ? FATE_NONE : FATE_FAILED;
}

static bool
is_repeated(const SettledCall *calls, int i)
{
	for (int j = 0; j < i; j++)
	{
		if (calls[j].call_id == calls[i].call_id)
			return true;
	}
	return false;
}

static SettledCall *
fetch_settled(OeSyncState *state, int *count)
{
	Datum		values[3];
	SettledCall *calls;

	values[0] = Int64GetDatum(state->id);
	values[1] = Int64GetDatum(state->after_settled);
	values[2] = Int32GetDatum(state->batch);
	*count = (int) oe_statement_run(&settled_statement, values, NULL);
	calls = palloc0(sizeof(SettledCall) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
	{
		SettledCall *call = &calls[i];

		call->settled_id = DatumGetInt64(oe_statement_value(i, 1));
		call->tid = oe_statement_value(i, 2);
		call->key = oe_statement_value(i, 3);
		call->fingerprint = oe_statement_value(i, 5);
		call->differences = DatumGetInt32(oe_statement_value(i, 6));
		call->again = call->tid && !oe_apply_is(oe_statement_text(i, 4), "queued");
		call->call_id = DatumGetInt64(oe_statement_value(i, 7));
		call->state = oe_statement_text(i, 8);
		call->status = DatumGetInt32(oe_statement_value(i, 9));
		call->detail = oe_statement_text(i, 10);
		call->answer = oe_statement_value(i, 11);
		call->settled_tid = oe_statement_value(i, 12);
		call->fate = is_repeated(calls, i) ? FATE_NONE
			: first_fate(call, oe_statement_text(i, 4));
	}
	return calls;
}

/* Select the calls with this fate, and their keys. */
static SettledCall **
select_fate(SettledCall *calls, int count, Fate fate, OeBatch *batch)
{
	SettledCall **selected = palloc(sizeof(SettledCall *) * Max(count, 1));

	batch->count = 0;
	batch->keys = palloc(sizeof(Datum) * Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		if (calls[i].fate != fate)
			continue;
		selected[batch->count] = &calls[i];
		batch->keys[batch->count++] = calls[i].key;
	}
	return selected;
}

/* Does the row still ask for the call's answer?  If so, it is locked. */
static Fate
fate_of_row(const SettledCall *call, const OeFound *found)
{
	if (!found->there)
		return FATE_GONE;
	if (oe_apply_asks_for(found, call->fingerprint))
		return FATE_WRITE;
	/* A settled row is requested again only when it changes. */
	return call->again ? FATE_NONE : FATE_DIFFERENT;
}

/* Tell rows locked by others from rows that are gone. */
static void
tell_locked_from_gone(const OeSync *sync, SettledCall *calls, int count)
{
	OeBatch		batch;
	SettledCall **missing = select_fate(calls, count, FATE_GONE, &batch);
	uint64		found;
	bool	   *there;

	if (batch.count == 0)
		return;
	found = oe_apply_run(oe_sync_exist_sql(sync), sync, &batch, (Datum) 0);
	there = oe_apply_numbers_found(&batch, found);
	for (int i = 0; i < batch.count; i++)
	{
		if (there[i])
			missing[i]->fate = FATE_LATER;
	}
}

static void
write_answers(const OeSync *sync, SettledCall *calls, int count)
{
	OeBatch		batch;
	SettledCall **written = select_fate(calls, count, FATE_WRITE, &batch);
	Datum	   *values = palloc(sizeof(Datum) * Max(batch.count, 1));
	bool	   *nulls = palloc(sizeof(bool) * Max(batch.count, 1));
	Datum		answers;
	uint64		found;
	bool	   *done;

	if (batch.count == 0)
		return;
	for (int i = 0; i < batch.count; i++)
	{
		values[i] = written[i]->answer;
		nulls[i] = oe_apply_is(written[i]->state, "refused");
	}

	/* Our own update is no new request; its triggers' updates may be. */
	oe_triggers_ignore_writes_of(sync->id);
	answers = oe_statement_array(values, nulls, batch.count, JSONBOID);
	found = oe_apply_run(oe_sync_write_sql(sync), sync, &batch, answers);
	done = oe_apply_numbers_found(&batch, found);
	oe_triggers_ignore_writes_of(0);
	for (int i = 0; i < batch.count; i++)
	{
		if (!done[i] && !nulls[i])
			written[i]->fate = FATE_SUPPRESSED;
	}
}

static void
apply_to_rows(const OeSync *sync, SettledCall *calls, int count)
{
	OeBatch		batch;
	SettledCall **wanted = select_fate(calls, count, FATE_WRITE, &batch);
	OeRights	rights;
	OeFound    *found;

	if (batch.count == 0)
		return;
	oe_apply_as_owner(sync, &rights);
	/* Deferred triggers would run later without the owner's rights. */
	oe_sync_execute("SET CONSTRAINTS ALL IMMEDIATE", 0, NULL, NULL, NULL);
	found = oe_apply_evaluate(sync, &batch, true);
	for (int i = 0; i < batch.count; i++)
		wanted[i]->fate = fate_of_row(wanted[i], &found[i]);
	tell_locked_from_gone(sync, calls, count);
	write_answers(sync, calls, count);
	oe_apply_no_longer_as_owner(&rights);
}

/* ----------------------------------------------------------------
 * What becomes of the rows
 * ---------------------------------------------------------------- */

/* SQLSTATE and message for a call that has no answer. */
static int
describe_failure(const OeEndpoint *endpoint, const SettledCall *call,
				 const char **message)
{
	OeError		error = {0};
	OeCode		code;

	*message = call->detail;
	if (oe_apply_is(call->state, "unknown"))
	{
		if (!*message)
			*message = "the outcome of the request is unknown";
		return oe_sqlstate(OE_OUTCOME_UNKNOWN);
	}
	if (oe_apply_is(call->state, "cancelled"))
	{
		*message = "the call was cancelled";
		return ERRCODE_QUERY_CANCELED;
	}
	if (call->fingerprint && VARSIZE_ANY_EXHDR(DatumGetPointer(call->fingerprint)) == 0)
	{
		*message = "the answer was erased before it was written";
		return ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
	}
	if (oe_apply_is(call->state, "answered"))
	{
		if (!*message)
			*message = "the API answered with HTTP status 200 but no usable answer";
		return oe_sqlstate(OE_BAD_ANSWER);
	}
	if (!*message)
		*message = "the request was not answered";
	if (call->status == 0)
		return oe_sqlstate(OE_NOT_CONNECTED);
	/* One of the API's would be "refused". */
	if (call->status == 404)
		return oe_sqlstate(OE_BAD_ANSWER);
	code = oe_answer_error(endpoint, call->status, NULL, &error);
	oe_error_free(&error);
	return oe_sqlstate(code);
}

static void
set_failed(const OeSync *sync, OeUpdates *updates, const SettledCall *call)
{
	const char *message;
	int			sqlstate = describe_failure(sync->endpoint, call, &message);
	const char *state = oe_apply_is(call->state, "unknown") ? "unknown" : "failed";

	oe_apply_set_row(updates, call->tid, state, call->call_id, 0,
					 unpack_sql_state(sqlstate), message, OE_SETTLED_NOW);
}

/* The row's request differs, although no trigger has recorded a change. */
static void
set_different(OeUpdates *updates, const SettledCall *call)
{
	if (call->differences + 1 < DIFFERENCES_MAX)
		oe_apply_set_row(updates, call->tid, "changed", call->call_id,
						 call->differences + 1, NULL, NULL, OE_NOT_SETTLED);
	else
		oe_apply_set_row(updates, call->tid, "failed", call->call_id, 0,
						 unpack_sql_state(ERRCODE_INVALID_PARAMETER_VALUE),
						 "the request differs each time it is evaluated", OE_SETTLED_NOW);
}

static void
set_fate(const OeSync *sync, OeUpdates *updates, const SettledCall *call)
{
	switch (call->fate)
	{
		case FATE_NONE:
		case FATE_LATER:
			break;
		case FATE_CHANGED:

			/* If the call turns out to match the row, it is written then. */
			oe_apply_set_row(updates, call->tid, "changed", call->call_id,
							 call->differences, NULL, NULL, OE_NOT_SETTLED);
			break;
		case FATE_FAILED:
			set_failed(sync, updates, call);
			break;
		case FATE_WRITE:
			oe_apply_set_row(updates, call->tid,
							 oe_apply_is(call->state, "answered") ? "done" : "not found",
							 call->call_id, 0, NULL, NULL, OE_SETTLED_NOW);
			break;
		case FATE_GONE:
			oe_apply_remove_row(updates, call->tid);
			break;
		case FATE_DIFFERENT:
			set_different(updates, call);
			break;
		case FATE_SUPPRESSED:
			oe_apply_set_row(updates, call->tid, "failed", call->call_id, 0,
							 unpack_sql_state(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
							 "a trigger or a policy of the table suppressed the update",
							 OE_SETTLED_NOW);
			break;
	}
}

void
oe_apply_forget_settled(const OeSync *sync, int64 settled_id)
{
	Datum		values[2];

	values[0] = Int64GetDatum(sync->id);
	values[1] = Int64GetDatum(settled_id);
	(void) oe_statement_run(&forget_one_statement, values, NULL);
}

/* Returns the number of calls processed. */
static int
record_fates(const OeSync *sync, SettledCall *calls, int count)
{
	OeUpdates	updates;
	Datum	   *tids = palloc(sizeof(Datum) * count);
	Datum	   *later = palloc(sizeof(Datum) * count);
	int			later_count = 0;
	Datum		value;

	oe_apply_begin_updates(&updates, count);
	for (int i = 0; i < count; i++)
	{
		set_fate(sync, &updates, &calls[i]);
		tids[i] = calls[i].settled_tid;
		if (calls[i].fate == FATE_LATER)
			later[later_count++] = Int64GetDatum(calls[i].call_id);
	}
	oe_apply_write_updates(&updates);
	value = oe_statement_array(tids, NULL, count, TIDOID);
	(void) oe_statement_run(&forget_statement, &value, NULL);
	/* Requeue the locked ones at the end. */
	oe_apply_note_settled(sync, later, later_count);
	return count - later_count;
}

/* ----------------------------------------------------------------
 * From the rounds
 * ---------------------------------------------------------------- */

bool
oe_apply_settled(OeSyncState *state, OeSync *sync)
{
	SettledCall *calls;
	OeRights	rights;
	int			count;
	int			dealt_with;

	oe_apply_as_extension(&rights);
	calls = fetch_settled(state, &count);
	oe_rights_restore(&rights);
	oe_apply_remember(state, count, count > 0 ? calls[0].key : (Datum) 0,
					  count > 0 ? calls[0].settled_id : 0);
	if (count == 0)
	{
		bool		begins_anew = state->after_settled > 0;

		state->after_settled = 0;
		return begins_anew;
	}
	apply_to_rows(sync, calls, count);
	oe_apply_as_extension(&rights);
	dealt_with = record_fates(sync, calls, count);
	oe_rights_restore(&rights);
	state->after_settled = calls[count - 1].settled_id;
	if (dealt_with == 0)
		oe_apply_put_off(state, OE_APPLY_BUSY_WAIT_MS);
	return true;
}

bool
oe_apply_sweep(OeSyncState *state, OeSync *sync)
{
	Datum		id = Int64GetDatum(sync->id);
	OeRights	rights;
	bool		any;

	state->swept_at = GetCurrentTimestamp();
	oe_apply_as_extension(&rights);
	any = oe_statement_run(&sweep_statement, &id, NULL) > 0;
	oe_rights_restore(&rights);
	return any;
}

bool
oe_apply_try_definition(OeSyncState *state, OeSync *sync)
{
	OeBatch		none = {0};
	OeRights	rights;

	oe_apply_as_owner(sync, &rights);
	(void) oe_apply_evaluate(sync, &none, true);
	(void) oe_apply_run(oe_sync_write_sql(sync), sync, &none,
						oe_statement_array(NULL, NULL, 0, JSONBOID));
	oe_apply_no_longer_as_owner(&rights);
	return true;
}
