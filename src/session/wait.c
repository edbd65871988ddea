/*
 * wait.c
 *		ocean_enrich.wait(): wait until calls of the queue have ended.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

#include "base/errors.h"
#include "base/rights.h"
#include "base/statement.h"
#include "session/wait.h"
#include "shared/channel.h"
#include "shared/enqueue.h"
#include "shared/ledger.h"

/* Which calls in $1 have not ended. */
static OeStatement pending_statement = {
	"SELECT call_id, role, xmin, " OE_OF_THIS_DATABASE " OR " OE_IS_SUBSCRIBER
	" FROM ocean_enrich.call"
	" WHERE call_id = ANY ($1) AND state::text IN ('queued', 'sent')",
	1,
	{INT8ARRAYOID},
	NULL
};

static void
check_can_wait(int64 call_id, TransactionId xmin, bool is_ended)
{
	if (TransactionIdIsCurrentTransactionId(xmin))
		ereport(ERROR,
				errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				errmsg("cannot wait for call " INT64_FORMAT " in the transaction that submitted it",
					   call_id),
				errdetail("The call is not sent before the transaction commits."),
				errhint("Commit the transaction, then wait."));
	if (!is_ended)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("call " INT64_FORMAT " belongs to the queue of another database", call_id),
				errdetail("The call came with a copy of that database and is not sent from this one."),
				errhint("The view \"ocean_enrich.copied_calls\" lists such calls.  Use "
						"ocean_enrich.retry() to take over one that is queued; one that was on the "
						"wire becomes unknown with the next call in this database."));
}

/* Returns those of "call_ids" that have not ended; NULL if all have. */
static ArrayType *
still_pending(ArrayType *call_ids)
{
	Datum		value = PointerGetDatum(call_ids);
	OeRights	rights;
	Oid			owner;
	int64	   *pending_ids;
	uint64		count;

	oe_queue_begin(&rights, &owner);
	count = oe_statement_run(&pending_statement, &value, NULL);
	pending_ids = palloc(sizeof(int64) * Max(count, 1));
	for (uint64 i = 0; i < count; i++)
	{
		int64		call_id = DatumGetInt64(oe_statement_value(i, 1));

		oe_queue_check_role(call_id, oe_statement_text(i, 2), rights.user, owner);
		check_can_wait(call_id, DatumGetTransactionId(oe_statement_value(i, 3)),
					   DatumGetBool(oe_statement_value(i, 4)));
		pending_ids[i] = call_id;
	}
	oe_rights_restore(&rights);
	if (count == 0)
		return NULL;
	return DatumGetArrayTypeP(oe_statement_int8_array(pending_ids, (int) count));
}

static TimestampTz
wait_deadline(Interval *timeout)
{
	if (!timeout)
		return DT_NOEND;
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												   TimestampTzGetDatum(GetCurrentTimestamp()),
												   IntervalPGetDatum(timeout)));
}

/*
 * Each check has a cost, and the worker settles many calls a second: so the
 * pause before the next check is at least ten times the duration of the last
 * one.
 */
bool
oe_wait(ArrayType *call_ids, Interval *timeout)
{
	TimestampTz deadline = wait_deadline(timeout);
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext scratch;

	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				errmsg("cannot wait for calls in a transaction with isolation level repeatable "
					   "read or serializable"),
				errdetail("Such a transaction cannot see that the calls have ended."),
				errhint("Wait in a transaction with isolation level read committed."));
	oe_channel_attach();
	scratch = AllocSetContextCreate(caller, "ocean_enrich wait",
									ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		uint64		settled = oe_channel_settled();
		TimestampTz now = GetCurrentTimestamp();
		ArrayType  *left;
		TimestampTz looked;

		MemoryContextSwitchTo(scratch);
		left = still_pending(call_ids);
		MemoryContextSwitchTo(caller);
		if (!left || now >= deadline)
		{
			MemoryContextDelete(scratch);
			return left == NULL;
		}
		call_ids = DatumGetArrayTypePCopy(PointerGetDatum(left));
		MemoryContextReset(scratch);
		looked = GetCurrentTimestamp();
		oe_channel_wait_settled(settled, Min(deadline, looked + 10 * (looked - now)),
								deadline);
	}
}
