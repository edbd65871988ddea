/*
 * sync_notes.c
 *		What the applier of syncs is told: by the worker that settles calls, by
 *		webhooks that change their answers, by the triggers of tables.
 *
 * Notes are only inserted, into ocean_enrich.sync_inbox and sync_settled.  So no
 * session waits for our books, and no call for a session that has a row locked.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/async.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lock.h"

#include "base/at_commit.h"
#include "shared/channel.h"
#include "shared/sync_notes.h"

PG_FUNCTION_INFO_V1(ocean_enrich_call_changed);

static bool wake_at_commit;

/* ----------------------------------------------------------------
 * Waking the applier
 * ---------------------------------------------------------------- */

static void
wake_after_commit(bool committed)
{
	if (wake_at_commit && committed)
		oe_channel_wake_applier();
	wake_at_commit = false;
}

void
oe_sync_wake_at_commit(void)
{
	static OeAtCommit at_commit = {.after = wake_after_commit};

	oe_channel_attach();
	oe_at_commit(&at_commit);
	wake_at_commit = true;
}

void
oe_sync_note(OeStatement *statement, Datum *value)
{
	if (oe_statement_run(statement, value, NULL) > 0 && oe_channel_is_ours())
		oe_sync_wake_at_commit();
}

/* ----------------------------------------------------------------
 * From the worker
 * ---------------------------------------------------------------- */

static OeStatement settled_statement = {
	"WITH settled AS (SELECT c.call_id, c.sync_id, c.credits"
	" FROM ocean_enrich.call AS c JOIN ocean_enrich.sync AS s USING (sync_id)"
	" WHERE c.call_id = ANY ($1)),"
	" noted AS (INSERT INTO ocean_enrich.sync_settled (sync_id, call_id)"
	" SELECT sync_id, call_id FROM settled)"
	" INSERT INTO ocean_enrich.sync_count (sync_id, credits)"
	" SELECT sync_id, coalesce(sum(credits), 0) FROM settled GROUP BY sync_id",
	1,
	{INT8ARRAYOID},
	NULL
};

static OeStatement call_changed_statement = {
	"INSERT INTO ocean_enrich.sync_settled (sync_id, call_id)"
	" SELECT r.sync_id, r.call_id FROM ocean_enrich.sync_row AS r WHERE r.call_id = $1",
	1,
	{INT8OID},
	NULL
};

static OeStatement hold_off_statement = {
	"SELECT FROM ocean_enrich.sync ORDER BY sync_id FOR UPDATE",
	0,
	{0},
	NULL
};

/* Rows that changed meanwhile are still looked at. */
static OeStatement forgotten_statement = {
	"UPDATE ocean_enrich.sync_row SET state = 'forgotten', differences = 0,"
	" error_code = NULL, message = NULL, refresh_at = NULL"
	" WHERE call_id = ANY ($1) AND state <> 'changed'",
	1,
	{INT8ARRAYOID},
	NULL
};

/* OFFSET 0 keeps the planner from reading a whole table into a hash. */
#define FOR_WHICH_IS_NOTED \
	"SELECT FROM ocean_enrich.sync AS s WHERE s.enabled" \
	" AND s.database = ocean_enrich.database_identity()" \
	" AND (EXISTS (SELECT FROM ocean_enrich.sync_inbox AS i WHERE i.sync_id = s.sync_id OFFSET 0)" \
	" OR EXISTS (SELECT FROM ocean_enrich.sync_settled AS t WHERE t.sync_id = s.sync_id OFFSET 0)"

static OeStatement noted_statement = {
	FOR_WHICH_IS_NOTED ") LIMIT 1",
	0,
	{0},
	NULL
};

static OeStatement work_statement = {
	FOR_WHICH_IS_NOTED
	" OR EXISTS (SELECT FROM ocean_enrich.sync_row AS r WHERE r.sync_id = s.sync_id"
	" AND r.state IN ('changed', 'queued') OFFSET 0)"
	" OR s.refresh_after IS NOT NULL) LIMIT 1",
	0,
	{0},
	NULL
};

void
oe_sync_settled(const int64 *call_ids, int count)
{
	Datum		value = oe_statement_int8_array(call_ids, count);

	if (oe_statement_run(&settled_statement, &value, NULL) > 0)
		oe_sync_wake_at_commit();
}

void
oe_sync_hold_off(void)
{
	(void) oe_statement_run(&hold_off_statement, NULL, NULL);
}

void
oe_sync_forgotten(Datum call_ids)
{
	(void) oe_statement_run(&forgotten_statement, &call_ids, NULL);
}

/*
 * A lock, as it is gone whatever ends the transaction.  SQL takes advisory locks
 * with the numbers 1 and 2 in their last field only, so nobody else has this one.
 */
static bool
lock_calls(int64 sync_id, LOCKMODE mode, bool wait)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (sync_id >> 32),
						 (uint32) sync_id, 3);
	return LockAcquire(&tag, mode, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

void
oe_sync_hold_calls(int64 sync_id)
{
	(void) lock_calls(sync_id, ExclusiveLock, true);
}

bool
oe_sync_may_send(int64 sync_id)
{
	return lock_calls(sync_id, ShareLock, false);
}

/* For SQL that has changed an answer later, as the ledger's owner. */
Datum
ocean_enrich_call_changed(PG_FUNCTION_ARGS)
{
	Datum		call_id = PG_GETARG_DATUM(0);

	Async_Notify(OE_NOTIFY_CHANNEL,
				 psprintf(INT64_FORMAT, DatumGetInt64(call_id)));
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	oe_sync_note(&call_changed_statement, &call_id);
	SPI_finish();
	PG_RETURN_INT64(DatumGetInt64(call_id));
}

bool
oe_sync_is_noted(void)
{
	return oe_statement_run(&noted_statement, NULL, NULL) > 0;
}

bool
oe_sync_has_work(void)
{
	return oe_statement_run(&work_statement, NULL, NULL) > 0;
}
