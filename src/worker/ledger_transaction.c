/*
 * ledger_transaction.c
 *		A transaction of the worker in the ledger.
 */
#include "postgres.h"

#include <signal.h>

#include "commands/async.h"
#include "miscadmin.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "shared/channel.h"
#include "shared/sync_notes.h"
#include "worker/job.h"
#include "worker/ledger_transaction.h"

static volatile sig_atomic_t may_be_cancelled;

void
oe_transaction_allow_cancel(void)
{
	may_be_cancelled = true;
}

void
oe_transaction_ignore_cancel(void)
{
	may_be_cancelled = false;
	QueryCancelPending = false;
}

void
oe_transaction_handle_cancel(SIGNAL_ARGS)
{
	if (may_be_cancelled)
		StatementCancelHandler(OE_SIGNAL_ARGUMENTS);
}

void
oe_transaction_settled(OeTransaction *transaction, int64 call_id,
					   OeLedgerState state, OeCredits cost)
{
	OeTally    *tally = &transaction->tally;
	int64	   *settled = palloc(sizeof(int64));

	switch (state)
	{
		case OE_LEDGER_ANSWERED:
			tally->answered++;
			tally->credits += cost;
			break;
		case OE_LEDGER_REFUSED:
			tally->refused++;
			break;
		case OE_LEDGER_FAILED:
			tally->failed++;
			break;
		case OE_LEDGER_UNKNOWN:
			tally->unknown++;
			break;
		case OE_LEDGER_SENT:
			tally->reused++;
			break;
	}
	*settled = call_id;
	transaction->settled = lappend(transaction->settled, settled);
}

/* The applier writes the answers that belong to syncs to their rows. */
static void
notify_applier(const List *settled)
{
	int64	   *call_ids = palloc(sizeof(int64) * list_length(settled));
	int			count = 0;
	ListCell   *lc;

	foreach(lc, settled)
		call_ids[count++] = *(int64 *) lfirst(lc);
	oe_ledger_use_spi();
	oe_sync_settled(call_ids, count);
}

/* Changes of the queue become visible with the commit. */
static void
publish_changes(const OeTransaction *transaction, TimestampTz now)
{
	static const OeTally nothing = {0};
	ListCell   *lc;

	foreach(lc, transaction->settled)
		Async_Notify(OE_NOTIFY_CHANNEL,
					 psprintf(INT64_FORMAT, *(int64 *) lfirst(lc)));
	if (transaction->settled != NIL)
		notify_applier(transaction->settled);
	if (memcmp(&transaction->tally, &nothing, sizeof(nothing)) != 0)
		oe_tally_write(&transaction->tally, now);
}

static void
run_in_ledger(OeTransaction *transaction, OeWork work, void *arg,
			  TimestampTz now)
{
	switch (oe_ledger_begin())
	{
		case OE_LEDGER_READY:
			work(transaction, arg, now);
			publish_changes(transaction, now);
			transaction->lsn = oe_ledger_commit();
			transaction->end = OE_LEDGER_COMMITTED;
			break;
		case OE_LEDGER_BUSY:
			transaction->end = OE_LEDGER_IS_BUSY;
			break;
		case OE_LEDGER_GONE:
			transaction->end = OE_LEDGER_IS_GONE;
			break;
	}
}

/* Leave out the error's context: it may quote a person. */
static void
undo_in_ledger(OeTransaction *transaction)
{
	ErrorData  *edata;

	MemoryContextSwitchTo(oe_turn_mcxt);
	edata = CopyErrorData();
	FlushErrorState();
	oe_ledger_abort();
	if (edata->sqlerrcode == ERRCODE_QUERY_CANCELED ||
		edata->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		transaction->end = OE_LEDGER_IS_BUSY;
	else
	{
		transaction->end = OE_LEDGER_HAS_FAILED;
		transaction->reason = edata->message ? edata->message
			: pstrdup("unknown error");
	}
}

static void
try_in_ledger(OeTransaction *transaction, OeWork work, void *arg,
			  TimestampTz now)
{
	oe_transaction_allow_cancel();
	PG_TRY();
	{
		run_in_ledger(transaction, work, arg, now);
	}
	PG_CATCH();
	{
		may_be_cancelled = false;
		undo_in_ledger(transaction);
	}
	PG_END_TRY();
	oe_transaction_ignore_cancel();
}

OeTransaction
oe_transaction(OeWork work, void *arg, TimestampTz now)
{
	OeTransaction transaction = {0};

	try_in_ledger(&transaction, work, arg, now);
	if (transaction.end == OE_LEDGER_COMMITTED && transaction.settled != NIL)
	{
		oe_status_count(oe_channel_my_status(), now,
						list_length(transaction.settled));
		oe_channel_announce_settled();
	}
	return transaction;
}
