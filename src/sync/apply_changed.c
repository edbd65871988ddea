/*
 * apply_changed.c
 *		Process changed rows.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "shared/enqueue.h"
#include "sync/apply_changed.h"
#include "sync/apply_rows.h"

/*
 * Maximum number of calls that a sync has in the queue.  Changes made before a
 * row is queued cost nothing, and disabling has no more than this to cancel.
 */
#define QUEUE_AHEAD			10000

/*
 * Compared and ordered so that only the index on (state, sync_id, key) fits.
 * OFFSET 0 makes the planner look up one call for each row.
 */
static OeStatement changed_statement = {
	"SELECT r.ctid, r.key, r.call_id, c.fingerprint, c.state,"
	" c.status, c.has_answer, r.settled_at IS NOT NULL AND r.error_code IS NULL,"
	" r.differences"
	" FROM ocean_enrich.sync_row AS r LEFT JOIN LATERAL"
	" (SELECT fingerprint, state::text, status, answer IS NOT NULL AS has_answer"
	" FROM ocean_enrich.call WHERE call_id = r.call_id OFFSET 0) AS c ON true"
	" WHERE (r.state, r.sync_id, r.key) > ('changed', $1, $2)"
	" AND (r.state, r.sync_id) <= ('changed', $1)"
	" ORDER BY r.state, r.sync_id, r.key LIMIT $3",
	3, {INT8OID, TEXTARRAYOID, INT4OID}, NULL
};

static OeStatement queued_statement = {
	"SELECT coalesce(sum(rows), 0)::bigint FROM ocean_enrich.sync_count"
	" WHERE sync_id = $1 AND state = 'queued'",
	1, {INT8OID}, NULL
};

static OeStatement refresh_statement = {
	"UPDATE ocean_enrich.sync_row SET state = 'changed', call_id = NULL, refresh_at = NULL"
	" WHERE ctid = ANY (ARRAY(SELECT ctid FROM ocean_enrich.sync_row WHERE sync_id = $1"
	" AND refresh_at <= now() LIMIT $2))",
	2, {INT8OID, INT4OID}, NULL
};

/* A row of changed_statement. */
typedef struct Changed
{
	Datum		tid;
	int64		call_id;		/* 0 if none */
	const char *call_state;		/* NULL if there is no such call */
	Datum		fingerprint;	/* of the call; 0 if none */
	int			status;
	bool		has_answer;
	bool		was_written;
	int			differences;
} Changed;

static Changed *
fetch_changed(OeSyncState *state, int max, OeBatch *batch)
{
	Datum		values[3];
	Changed    *rows;

	values[0] = Int64GetDatum(state->id);
	values[1] = state->after_key ? state->after_key
		: PointerGetDatum(construct_empty_array(TEXTOID));
	values[2] = Int32GetDatum(max);
	batch->count = (int) oe_statement_run(&changed_statement, values, NULL);
	batch->keys = palloc(sizeof(Datum) * Max(batch->count, 1));
	rows = palloc0(sizeof(Changed) * Max(batch->count, 1));
	for (int i = 0; i < batch->count; i++)
	{
		rows[i].tid = oe_statement_value(i, 1);
		batch->keys[i] = oe_statement_value(i, 2);
		rows[i].call_id = oe_statement_int64(i, 3);
		rows[i].fingerprint = oe_statement_value(i, 4);
		rows[i].call_state = oe_statement_text(i, 5);
		rows[i].status = DatumGetInt32(oe_statement_value(i, 6));
		rows[i].has_answer = DatumGetBool(oe_statement_value(i, 7));
		rows[i].was_written = DatumGetBool(oe_statement_value(i, 8));
		rows[i].differences = DatumGetInt32(oe_statement_value(i, 9));
	}
	return rows;
}

/* Continue the scan after the last row, or restart it. */
static void
remember_place(OeSyncState *state, const OeBatch *batch)
{
	MemoryContext old = MemoryContextSwitchTo(oe_apply_mcxt);

	if (state->after_key)
		pfree(DatumGetPointer(state->after_key));
	state->after_key = batch->count > 0
		? datumCopy(batch->keys[batch->count - 1], false, -1) : (Datum) 0;
	MemoryContextSwitchTo(old);
}

typedef struct Decisions
{
	OeUpdates	updates;
	Datum	   *cancelled;		/* calls no longer needed */
	int			cancelled_count;
	Datum	   *settled;		/* calls with a known answer */
	int			settled_count;
} Decisions;

/* Keep the row's last call, whose request is unchanged. */
static bool
keep_call(const OeSync *sync, const Changed *row, Decisions *decisions)
{
	bool		found = oe_apply_is(row->call_state, "answered") && row->has_answer;
	bool		missing = oe_apply_is(row->call_state, "refused") && row->status == 404;

	if (found || missing)
	{
		if (row->was_written)
		{
			oe_apply_set_row(&decisions->updates, row->tid,
							 found ? "done" : "not found", row->call_id, 0, NULL,
							 NULL, OE_SETTLED_BEFORE);
			return true;
		}
		decisions->settled[decisions->settled_count++] = Int64GetDatum(row->call_id);
	}
	else if (!oe_apply_is(row->call_state, "queued") &&
			 !oe_apply_is(row->call_state, "sent"))
		return false;
	oe_apply_set_row(&decisions->updates, row->tid, "queued", row->call_id,
					 row->differences, NULL, NULL, OE_NOT_SETTLED);
	return true;
}

static void
decide_row(const OeSync *sync, const Changed *row, const OeFound *found,
		   Decisions *decisions)
{
	if (oe_apply_asks_for(found, row->fingerprint) &&
		keep_call(sync, row, decisions))
		return;
	if (row->call_id)
		decisions->cancelled[decisions->cancelled_count++] = Int64GetDatum(row->call_id);
	if (!found->wanted)
		oe_apply_remove_row(&decisions->updates, row->tid);
	else if (found->problem)
		oe_apply_set_row(&decisions->updates, row->tid, "failed", 0, 0,
						 unpack_sql_state(found->sqlstate), found->problem, OE_SETTLED_NOW);
	else
		oe_apply_set_row(&decisions->updates, row->tid, "queued",
						 oe_submit(&found->request, sync->priority, DT_NOBEGIN, sync->id),
						 row->differences, NULL, NULL, OE_NOT_SETTLED);
}

/* Number of further calls that the sync can queue. */
static int
room_in_queue(OeSyncState *state)
{
	Datum		sync_id = Int64GetDatum(state->id);
	int64		queued;

	(void) oe_statement_run(&queued_statement, &sync_id, NULL);
	queued = DatumGetInt64(oe_statement_value(0, 1));
	state->has_queued = queued > 0;
	return (int) Max(QUEUE_AHEAD - queued, 0);
}

static void
write_decisions(const OeSync *sync, Decisions *decisions)
{
	OeRights	rights;

	oe_apply_as_extension(&rights);
	oe_apply_write_updates(&decisions->updates);
	oe_apply_note_settled(sync, decisions->settled, decisions->settled_count);
	oe_rights_restore(&rights);
	if (decisions->cancelled_count > 0)
		oe_cancel_calls(oe_statement_array(decisions->cancelled, NULL,
										   decisions->cancelled_count, INT8OID));
}

bool
oe_apply_changed(OeSyncState *state, OeSync *sync)
{
	OeBatch		batch = {0};
	Changed    *rows;
	OeFound    *found;
	Decisions	decisions = {0};
	OeRights	rights;
	int			room;

	oe_apply_as_extension(&rights);
	room = room_in_queue(state);
	rows = room > 0 ? fetch_changed(state, Min(state->batch, room), &batch) : NULL;
	oe_rights_restore(&rights);
	oe_apply_remember(state, batch.count, batch.count > 0 ? batch.keys[0] : (Datum) 0, 0);
	if (batch.count == 0)
	{
		bool		begins_anew = room > 0 && state->after_key;

		remember_place(state, &batch);
		return begins_anew;
	}

	oe_apply_begin_updates(&decisions.updates, batch.count);
	decisions.cancelled = palloc(sizeof(Datum) * batch.count);
	decisions.settled = palloc(sizeof(Datum) * batch.count);
	oe_apply_as_owner(sync, &rights);
	found = oe_apply_evaluate(sync, &batch, false);
	/* The calls are submitted as the owner. */
	for (int i = 0; i < batch.count; i++)
		decide_row(sync, &rows[i], &found[i], &decisions);
	oe_apply_no_longer_as_owner(&rights);
	write_decisions(sync, &decisions);
	remember_place(state, &batch);
	return true;
}

bool
oe_apply_refresh(OeSyncState *state, OeSync *sync)
{
	Datum		values[2];
	OeRights	rights;
	bool		any;

	values[0] = Int64GetDatum(sync->id);
	values[1] = Int32GetDatum(OE_APPLY_BATCH_MAX);
	oe_apply_as_extension(&rights);
	any = oe_statement_run(&refresh_statement, values, NULL) > 0;
	oe_rights_restore(&rights);
	return any;
}
