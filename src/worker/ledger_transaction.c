/*
 * ledger_transaction.c
 *		A transaction of the worker's in the ledger.
 */
#include "postgres.h"

#include "commands/async.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "shared/channel.h"
#include "shared/sync_notes.h"
#include "worker/job.h"
#include "worker/ledger_transaction.h"

OeLedgerAccess oe_ledger_access = OE_LEDGER_READY;
OeTally		oe_transaction_tally;
volatile sig_atomic_t oe_may_be_cancelled;
static List *settled_calls;		/* of this transaction; int64 pointers */

void
oe_transaction_settled(int64 call_id, OeLedgerState state, OeCredits cost)
{
	int64	   *settled = palloc(sizeof(int64));

	switch (state)
	{
		case OE_LEDGER_ANSWERED:
			oe_transaction_tally.answered++;
			oe_transaction_tally.credits += cost;
			break;
		case OE_LEDGER_REFUSED:
			oe_transaction_tally.refused++;
			break;
		case OE_LEDGER_FAILED:
			oe_transaction_tally.failed++;
			break;
		case OE_LEDGER_UNKNOWN:
			oe_transaction_tally.unknown++;
			break;
		case OE_LEDGER_SENT:
			oe_transaction_tally.reused++;
			break;
	}
	*settled = call_id;
	settled_calls = lappend(settled_calls, settled);
}

/* Those of kept columns are written to their rows by the applier. */
static void
tell_applier(void)
{
	int64	   *call_ids = palloc(sizeof(int64) * list_length(settled_calls));
	int			count = 0;
	ListCell   *lc;

	foreach(lc, settled_calls)
		call_ids[count++] = *(int64 *) lfirst(lc);
	oe_ledger_use_spi();
	oe_sync_settled(call_ids, count);
}

/* What the transaction did to the queue, for whoever looks at it or listens. */
static void
record_tally(TimestampTz now)
{
	static const OeTally nothing = {0};
	ListCell   *lc;

	foreach(lc, settled_calls)
		Async_Notify(OE_NOTIFY_CHANNEL,
					 psprintf(INT64_FORMAT, *(int64 *) lfirst(lc)));
	if (settled_calls != NIL)
		tell_applier();
	if (memcmp(&oe_transaction_tally, &nothing, sizeof(nothing)) != 0)
		oe_tally_write(&oe_transaction_tally, now);
}

char *
oe_transaction(OeWork work, void *arg, TimestampTz now, XLogRecPtr *lsn)
{
	volatile OeLedgerAccess access = OE_LEDGER_READY;
	char	   *volatile reason = NULL;

	memset(&oe_transaction_tally, 0, sizeof(oe_transaction_tally));
	settled_calls = NIL;
	oe_may_be_cancelled = true;
	PG_TRY();
	{
		access = oe_ledger_begin();
		if (access == OE_LEDGER_READY)
		{
			work(arg, now);
			record_tally(now);
			*lsn = oe_ledger_commit();
		}
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		oe_may_be_cancelled = false;
		settled_calls = NIL;
		/* Not its context: that may quote a person. */
		MemoryContextSwitchTo(oe_turn_mcxt);
		edata = CopyErrorData();
		FlushErrorState();
		oe_ledger_abort();
		if (edata->sqlerrcode == ERRCODE_QUERY_CANCELED ||
			edata->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
			access = OE_LEDGER_BUSY;
		else
			reason = edata->message ? edata->message : pstrdup("unknown error");
	}
	PG_END_TRY();
	oe_may_be_cancelled = false;
	QueryCancelPending = false;

	oe_ledger_access = access;
	if (settled_calls != NIL)
	{
		oe_status_count(oe_channel_my_status(), now,
						list_length(settled_calls));
		oe_channel_announce_settled();
	}
	return reason;
}
