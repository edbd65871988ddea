/*
 * worker.c
 *		The main loop: takes requests from the channel, answers them from the
 *		ledger or sends them, and records each outcome before delivering it.
 *
 * No transaction is open while the loop waits for the network.  Requests of
 * sessions go before queued calls.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/process.h"
#include "shared/channel.h"
#include "shared/ledger.h"
#include "shared/settings.h"
#include "shared/sync_notes.h"
#include "worker/admission.h"
#include "worker/budget.h"
#include "worker/job.h"
#include "worker/ledger_transaction.h"
#include "worker/queue_cursor.h"
#include "worker/record.h"
#include "worker/serve_queue.h"
#include "worker/upkeep.h"
#include "worker/wire.h"

/* PostgreSQL looks this function up by name. */
extern PGDLLEXPORT void oe_worker_main(Datum database);

/* How often to look for waiting requests that were cancelled. */
#define CANCELLED_CHECK_MS		100

/* How long a worker that is told to stop waits for requests on the wire. */
#define DRAIN_MAX_MS			2000

/*
 * How long a worker whose database another session wants waits for them: DROP
 * DATABASE and the like fail after 5 s.
 */
#define MAKE_WAY_MAX_MS			3000

#define EXTENSION_DROPPED	"extension \"ocean_enrich\" was dropped"

/* The state of the worker's loop. */
typedef struct WorkerLoop
{
	WaitEventSet *wait_set;
	uint32		wait_event;
	OeLedgerEnd ledger;			/* how this turn's last transaction ended */
	bool		row_is_busy;	/* true if a row was locked in this turn */
	bool		orphans_left;	/* true if there are rows "sent" that nobody
								 * has on the wire */
	TimestampTz cancelled_checked_at;
	TimestampTz database_checked_at;
	TimestampTz idle_since;		/* 0: not idle */
} WorkerLoop;

static WorkerLoop worker;

/* ----------------------------------------------------------------
 * What sessions ask for
 * ---------------------------------------------------------------- */

/*
 * The job that a new request joins, if any.  A cancelled job is not joined: it
 * would impose its settings on the new request.
 */
static OeJob *
find_job_to_join(const OeCall *call)
{
	OeJob	   *job = oe_job_find(call->account, call->fingerprint);

	if (job && (job->phase == OE_JOB_ARRIVED || job->phase == OE_JOB_WAITING) &&
		!oe_job_is_wanted(job))
	{
		oe_job_deliver(job, InvalidXLogRecPtr);
		return NULL;
	}
	return job;
}

/* The ledger has no part in such a job, and no limit counts it. */
static void
send_unrecorded(OeJob *job)
{
	oe_job_begin(job);
	if (job->begun)
		oe_wire_send(job);
	else
		oe_job_free(job);
}

/* Turn a request from the channel into a job, or let it join one. */
static void
accept_request(int slot)
{
	OeCall		call;
	OeJob	   *job;
	Size		len;
	MemoryContext old;

	if (oe_channel_drop_if_cancelled(slot))
		return;
	oe_call_unpack(oe_channel_request(slot, &len), &call);
	job = find_job_to_join(&call);
	if (!job)
	{
		const char *bytes = oe_channel_request(slot, &len);

		job = oe_job_new(bytes, len);
		if (call.endpoint->recorded)
			oe_job_set_phase(job, OE_JOB_ARRIVED);
	}

	/* A job under way can no longer be cancelled before it is sent. */
	if (job->begun)
	{
		if (!oe_channel_begin(slot))
			return;
		oe_channel_set_call_id(slot, job->call_id);
	}
	old = MemoryContextSwitchTo(oe_worker_mcxt);
	job->slots = lappend_int(job->slots, slot);
	MemoryContextSwitchTo(old);
	if (!call.endpoint->recorded && job->phase != OE_JOB_ON_WIRE)
		send_unrecorded(job);
}

static void
accept_requests(void)
{
	static int	slots[OE_CHANNEL_SLOTS];
	int			count = oe_channel_take(slots);

	for (int i = 0; i < count; i++)
		accept_request(slots[i]);
}

static void
drop_unwanted(TimestampTz now)
{
	dlist_mutable_iter iter;

	if (now - worker.cancelled_checked_at < CANCELLED_CHECK_MS * INT64CONST(1000))
		return;
	worker.cancelled_checked_at = now;

	dlist_foreach_modify(iter, oe_job_list(OE_JOB_WAITING))
	{
		OeJob	   *job = dlist_container(OeJob, node, iter.cur);

		if (!oe_job_is_wanted(job))
			oe_job_deliver(job, InvalidXLogRecPtr);
	}
}

/* ----------------------------------------------------------------
 * One turn of the loop
 * ---------------------------------------------------------------- */

static void
begin_turn(void)
{
	MemoryContextReset(oe_turn_mcxt);
	oe_admission_begin_turn();
	if (worker.ledger != OE_LEDGER_IS_GONE)
		worker.ledger = OE_LEDGER_COMMITTED;
	worker.row_is_busy = false;
}

/* Changed budgets may let a waiting job go; otherwise, they are read later. */
static bool
budgets_are_due(void)
{
	return !dlist_is_empty(oe_job_list(OE_JOB_WAITING)) && oe_budget_is_stale();
}

static bool
has_something_to_record(TimestampTz now)
{
	return !dlist_is_empty(oe_job_list(OE_JOB_ARRIVED)) ||
		!dlist_is_empty(oe_job_list(OE_JOB_ENDED)) ||
		budgets_are_due() || oe_admission_any_is_due(now);
}

static void
note_recorded(const OeRecorded *recorded)
{
	worker.ledger = recorded->end;
	worker.row_is_busy = recorded->row_is_busy;
	worker.orphans_left |= recorded->orphans_left;
}

static void
take_a_turn(void)
{
	OeQueueStatus *status = oe_channel_my_status();
	TimestampTz now;

	begin_turn();
	oe_wire_collect();
	oe_serve_queue_take_news();
	accept_requests();

	/* Not earlier, or a request would be sent before it was made. */
	now = GetCurrentTimestamp();
	drop_unwanted(now);
	if (has_something_to_record(now))
	{
		OeRecorded	recorded = oe_record_all(now);

		note_recorded(&recorded);
	}
	if (oe_ledger_is_usable(worker.ledger))
		worker.ledger = oe_serve_queue(now);

	status->in_flight = oe_wire_in_flight_of_queue();
	status->next_due = oe_queue_next_due();
	if (worker.ledger == OE_LEDGER_IS_GONE)
		oe_record_give_up_all(EXTENSION_DROPPED, now);
}

/* ----------------------------------------------------------------
 * The life of the worker
 * ---------------------------------------------------------------- */

static void
force_settings(void)
{
	static const OeForcedSetting settings[] = {
		/* An unforeseen lock must not hold up all requests for long. */
		{"lock_timeout", "1s"},
		/* The sessions flush the results they get. */
		{"synchronous_commit", "off"},

		/*
		 * Plans are made while the ledger is small, and used when it is
		 * large.
		 */
		{"enable_seqscan", "off"},
		{"row_security", "on"},
		{"application_name", "ocean_enrich worker"},
	};

	oe_process_force(settings, lengthof(settings));
}

typedef struct QueueAtStart
{
	int64		length;
	int64		copied;			/* calls that belong to another database */
} QueueAtStart;

/*
 * Requests that an earlier worker left on the wire may have been paid for.  To
 * be called while we have none there ourselves.  False: the ledger is locked.
 */
static bool
try_reconcile(QueueAtStart *queue)
{
	OeTally		tally = {0};
	uint64		count = 0;

	switch (oe_ledger_begin())
	{
		case OE_LEDGER_READY:
			break;
		case OE_LEDGER_BUSY:
			return false;
		case OE_LEDGER_GONE:
			worker.ledger = OE_LEDGER_IS_GONE;

			return true;
	}

	/* Locked rows can be reconciled later. */
	worker.orphans_left = !oe_ledger_reconcile(&count);

	/* Calls that were added or deleted by hand are counted, too. */
	queue->length = oe_tally_recount(&tally, &queue->copied);
	if (tally.waiting != 0)
		oe_tally_write(&tally, GetCurrentTimestamp());
	oe_queue_survey();

	/*
	 * Rows that an earlier worker committed may be served from now on, so
	 * they have to be on disk.  A transaction ID gives us a commit record
	 * behind all of them.  (The insert position will not do: at the end of a
	 * page, XLogFlush() cannot reach it.)
	 */
	(void) GetCurrentTransactionId();
	XLogFlush(oe_ledger_commit());
	if (count > 0)
		ereport(LOG,
				errmsg_plural("outcome of " UINT64_FORMAT " enrichment request is unknown",
							  "outcome of " UINT64_FORMAT " enrichment requests is unknown",
							  (unsigned long) count, count),
				errdetail("What was on the wire when the server or the worker stopped may have been paid for."),
				errhint("The view \"ocean_enrich.unknown_calls\" lists such calls."));
	return true;
}

static void
reconcile_ledger(QueueAtStart *queue)
{
	while (!try_reconcile(queue) && !ShutdownRequestPending)
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 OE_LEDGER_BUSY_RETRY_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
log_copied_calls(const QueueAtStart *queue)
{
	if (queue->copied > 0)
		ereport(LOG,
				errmsg_plural(INT64_FORMAT " queued call came with a copy of the database and is not sent",
							  INT64_FORMAT " queued calls came with a copy of the database and are not sent",
							  (unsigned long) queue->copied, queue->copied),
				errhint("The view \"ocean_enrich.copied_calls\" lists such calls.  Use ocean_enrich.retry() "
						"to take a call over, or ocean_enrich.cancel() to take it out of the queue."));
}

/* After a restart, nothing else wakes the applier. */
static void
wake_applier_if_needed(OeTransaction *transaction, void *arg, TimestampTz now)
{
	oe_ledger_use_spi();
	if (oe_sync_has_work())
		oe_sync_wake_at_commit();
}

static void
wake_applier_if_noted(OeTransaction *transaction, void *arg, TimestampTz now)
{
	oe_ledger_use_spi();
	if (oe_sync_is_noted())
		oe_sync_wake_at_commit();
}

/*
 * Some commits notify nobody: that of a prepared transaction, and that of a
 * session with another library, while the server waits for a restart.
 */
static void
look_for_missed_notes(void)
{
	oe_channel_say_revealed();
	if (oe_transaction(wake_applier_if_noted, NULL,
					   GetCurrentTimestamp()).end == OE_LEDGER_IS_GONE)
		worker.ledger = OE_LEDGER_IS_GONE;
}

static void
create_wait_set(void)
{
	WaitEventSet *set = oe_create_wait_event_set(3);

	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(set, WL_SOCKET_READABLE, oe_wire_fd(), NULL, NULL);
	worker.wait_set = set;
	worker.wait_event = WaitEventExtensionNew("OceanEnrichWorker");
}

static void
shorten_timeout(long *timeout_ms, long candidate)
{
	if (*timeout_ms < 0 || candidate < *timeout_ms)
		*timeout_ms = Max(candidate, 0);
}

static void
shorten_timeout_until(long *timeout_ms, TimestampTz when)
{
	shorten_timeout(timeout_ms,
					TimestampDifferenceMilliseconds(GetCurrentTimestamp(), when));
}

/* Wait for the next turn, but not beyond "deadline"; DT_NOEND: none. */
static void
wait_for_next_turn(TimestampTz deadline)
{
	WaitEvent	event;
	long		timeout_ms = oe_wire_timeout_ms();

	if (worker.ledger == OE_LEDGER_IS_BUSY || worker.row_is_busy || budgets_are_due())
		shorten_timeout(&timeout_ms, OE_LEDGER_BUSY_RETRY_MS);
	else if (!dlist_is_empty(oe_job_list(OE_JOB_ARRIVED)) ||
			 !dlist_is_empty(oe_job_list(OE_JOB_ENDED)))
		timeout_ms = 0;
	if (!dlist_is_empty(oe_job_list(OE_JOB_WAITING)))
		shorten_timeout(&timeout_ms,
						oe_admission_room_was_made() ? 0 : CANCELLED_CHECK_MS);
	if (deadline != DT_NOEND)
		shorten_timeout_until(&timeout_ms, deadline);
	if (oe_serve_queue_wake_at() != DT_NOEND)
		shorten_timeout_until(&timeout_ms, oe_serve_queue_wake_at());
	if (oe_admission_wake_at() != 0)
		shorten_timeout_until(&timeout_ms, oe_admission_wake_at());
	if (oe_job_count() == 0)
		shorten_timeout_until(&timeout_ms, oe_upkeep_due_at());
	shorten_timeout(&timeout_ms, OE_DATABASE_CHECK_MS);
	(void) WaitEventSetWait(worker.wait_set, timeout_ms, &event, 1, worker.wait_event);
}

/* True at most every OE_DATABASE_CHECK_MS, as the check is not free. */
static bool
database_check_is_due(TimestampTz now)
{
	if (now - worker.database_checked_at < OE_DATABASE_CHECK_MS * INT64CONST(1000))
		return false;
	worker.database_checked_at = now;

	return true;
}

/*
 * A worker without work leaves after the idle time, or as soon as no session
 * is left in the database.
 */
static bool
may_leave(bool check_database)
{
	TimestampTz now = GetCurrentTimestamp();
	QueueAtStart ignored;

	if (oe_job_count() > 0)
	{
		worker.idle_since = 0;

		return false;
	}
	if (worker.ledger == OE_LEDGER_IS_GONE)
		return true;
	if (oe_serve_queue_is_wanted())
	{
		worker.idle_since = 0;

		return false;
	}
	if (worker.idle_since == 0)
		worker.idle_since = now;

	if (now - worker.idle_since >= oe_settings()->worker_idle_timeout_s * USECS_PER_SEC)
		return true;
	if (!check_database)
		return false;
	if (worker.orphans_left)
		(void) try_reconcile(&ignored);
	return CountDBConnections(MyDatabaseId) == 0;
}

/* lock_timeout ends the waits of upkeep, which is then tried again. */
static void
do_upkeep(void)
{
	oe_transaction_allow_cancel();
	oe_upkeep(GetCurrentTimestamp());
	oe_transaction_ignore_cancel();
	look_for_missed_notes();
}

/*
 * Leave the unsent requests of a phase to the next worker; those that were
 * sent before end with the last known result.
 */
static void
hand_back(OeJobPhase phase)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, oe_job_list(phase))
	{
		OeJob	   *job = dlist_container(OeJob, node, iter.cur);
		ListCell   *lc;

		if (job->begun)
		{
			if (!job->result)
				oe_job_settle_not_recorded(job, "the worker was stopped");
			oe_job_deliver(job, InvalidXLogRecPtr);
			continue;
		}
		foreach(lc, job->slots)
			oe_channel_give_back(lfirst_int(lc));
		oe_job_free(job);
	}
}

/* Claim nothing more, and record what ends on the wire in the given time. */
static void
finish_on_wire(int max_ms)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													   max_ms);

	while (oe_job_count() > 0)
	{
		TimestampTz now = GetCurrentTimestamp();

		if (now >= deadline)
			break;
		ResetLatch(MyLatch);
		begin_turn();
		oe_wire_collect();
		if (!dlist_is_empty(oe_job_list(OE_JOB_ENDED)))
		{
			OeRecorded	recorded = oe_record_ended(now);

			note_recorded(&recorded);
			if (worker.ledger == OE_LEDGER_IS_GONE)
				oe_record_give_up_all(EXTENSION_DROPPED, now);
		}
		if (oe_job_count() > 0)
			wait_for_next_turn(deadline);
	}
}

/*
 * Before the worker stops.  For requests that are left on the wire, the channel
 * reports "outcome unknown" when the process ends, and the next worker settles
 * their rows.
 */
static void
finish(void)
{
	hand_back(OE_JOB_ARRIVED);
	hand_back(OE_JOB_WAITING);
	finish_on_wire(DRAIN_MAX_MS);
}

/* Replies are recorded when we are back. */
static void
wait_outside(void)
{
	WaitEvent	event;

	ResetLatch(MyLatch);
	oe_wire_run();
	(void) WaitEventSetWait(worker.wait_set, OE_DATABASE_CHECK_MS, &event, 1,
							worker.wait_event);
}

/*
 * Another session wants to drop, rename, move or copy the database.  The worker
 * lives on outside of it while requests are on the wire: if the database stays,
 * no reply is lost, however long it takes.
 */
static void
make_way(void)
{
	finish_on_wire(MAKE_WAY_MAX_MS);
	oe_process_make_way(wait_outside);
}

/* Sessions in the database are in the way of the other one, too. */
static bool
has_to_make_way(void)
{
	return CountDBConnections(MyDatabaseId) == 0 &&
		oe_process_is_database_wanted(MyDatabaseId);
}

/* Let the launcher know whether to start another worker after this one. */
static void
announce_demand(void)
{
	oe_channel_want_worker(worker.ledger != OE_LEDGER_IS_GONE &&
						   oe_serve_queue_is_wanted());
}

static void
run_loop(void)
{
	bool		check_database;

	create_wait_set();
	for (;;)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			oe_serve_queue_reload();
			oe_upkeep_soon();
		}
		if (ShutdownRequestPending)
		{
			finish();
			announce_demand();
			return;
		}
		take_a_turn();
		if (oe_upkeep_is_due(GetCurrentTimestamp(), oe_job_count() == 0))
			do_upkeep();
		check_database = database_check_is_due(GetCurrentTimestamp());
		if (check_database && has_to_make_way())
		{
			make_way();
			continue;
		}
		if (may_leave(check_database))
		{
			announce_demand();
			if (oe_upkeep_is_left())
				do_upkeep();
			if (oe_channel_retire())
				return;
			continue;			/* a request that came meanwhile woke nobody */
		}
		wait_for_next_turn(DT_NOEND);
	}
}

void
oe_worker_main(Datum database)
{
	/* True if the launcher or a commit started us: no session waits. */
	bool		started_for_queue = MyBgworkerEntry->bgw_extra[0];
	QueueAtStart queue = {0};

	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGINT, oe_transaction_handle_cancel);
	oe_process_connect(DatumGetObjectId(database));
	force_settings();

	oe_job_init();
	MemoryContextSwitchTo(oe_turn_mcxt);
	oe_admission_init();
	oe_wire_init();
	if (!oe_channel_serve())
		proc_exit(0);
	reconcile_ledger(&queue);
	log_copied_calls(&queue);
	oe_serve_queue_init(queue.length > 0);
	if (oe_transaction(wake_applier_if_needed, NULL,
					   GetCurrentTimestamp()).end == OE_LEDGER_IS_GONE)
		worker.ledger = OE_LEDGER_IS_GONE;

	announce_demand();
	if (worker.ledger == OE_LEDGER_IS_GONE || queue.length > 0 ||
		!started_for_queue || !oe_channel_retire())
		run_loop();

	/* The next worker may serve what this one has committed. */
	XLogFlush(XactLastCommitEnd);
	proc_exit(0);
}
