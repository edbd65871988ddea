/*
 * record.c
 *		What the worker writes of its jobs, and does once it is written.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/policy.h"
#include "shared/channel.h"
#include "shared/ledger.h"
#include "shared/settings.h"
#include "worker/admission.h"
#include "worker/ledger_transaction.h"
#include "worker/queue_cursor.h"
#include "worker/record.h"
#include "worker/upkeep.h"
#include "worker/verdict.h"
#include "worker/wire.h"

/* New requests that one transaction looks up, so that answers pass between. */
#define GROUP_ARRIVALS_MAX		256

bool		oe_record_row_is_busy;
bool		oe_record_orphans_left;

/* ----------------------------------------------------------------
 * Admitting
 * ---------------------------------------------------------------- */

/*
 * It may never go, for the one who would pay.  Another role that joined asks
 * anew, on its own account.
 */
static void
refuse(OeJob *job, OeError *error)
{
	ListCell   *lc;

	foreach(lc, job->slots)
	{
		OeCall		call;
		Size		len;

		if (job->begun)
			break;
		oe_call_unpack(oe_channel_request(lfirst_int(lc), &len), &call);
		if (strcmp(call.role, job->call.role) == 0)
			continue;
		oe_channel_give_back(lfirst_int(lc));
		job->slots = foreach_delete_current(job->slots, lc);
		SetLatch(MyLatch);
	}
	oe_job_settle_with_error(job, error);
}

/*
 * Let the job go if it may: it is SENDING then.  It is SETTLED when it never
 * may, and stays WAITING otherwise, without slots if nobody wants it any more.
 */
static void
admit(OeJob *job, int on_wire, TimestampTz now)
{
	OeError		error = {0};

	if (!oe_admission_prepare(job->account, job->call.role,
							  &job->call.limits, now))
		return;
	switch (oe_admission_ask(job, now, &error))
	{
		case OE_ADMIT_NEVER:
			refuse(job, &error);
			return;
		case OE_ADMIT_LATER:
		case OE_ADMIT_WHEN_ONE_ENDS:
			return;
		case OE_ADMIT_NOW:
			break;
	}
	if (!oe_wire_reserve(on_wire))
		return;
	oe_job_begin(job);
	if (job->slots == NIL)
		return;
	oe_admission_sent(job, now);
	job->phase = OE_JOB_SENDING;
}

/* ----------------------------------------------------------------
 * What one transaction records
 * ---------------------------------------------------------------- */

static void
fill_row(const OeJob *job, OeLedgerRow *row)
{
	row->call_id = job->call_id;
	row->role = job->call.role;
	row->account = job->call.account;
	row->fingerprint = job->call.fingerprint;
	row->request = oe_utf8_to_server(job->call.body, strlen(job->call.body));
	row->attempts = job->tries;
	row->requested_at = job->requested_at;
	row->sent_at = job->sent_at;
}

/* False: somebody holds a lock on the row. */
static bool
write_row(OeJob *job, OeLedgerRow *row)
{
	ListCell   *lc;

	if (!oe_ledger_write(row))
		return false;
	if (job->call_id == row->call_id)
		return true;
	job->call_id = row->call_id;
	foreach(lc, job->slots)
		oe_channel_set_call_id(lfirst_int(lc), job->call_id);
	return true;
}

void
oe_record_sending(OeJob *job, TimestampTz now)
{
	OeLedgerRow row = {0};

	/* What is queued would be sent again after a crash, and not be missed. */
	if (!oe_record_before_send && !job->background)
		return;
	fill_row(job, &row);
	row.state = OE_LEDGER_SENT;
	if (write_row(job, &row))
		return;
	oe_admission_unsent(job, now);
	job->not_before = now + OE_LEDGER_BUSY_RETRY_MS * INT64CONST(1000);
	job->phase = OE_JOB_WAITING;
}

static void
judge(OeJob *job, OeVerdict *verdict)
{
	oe_judge_reply(&job->call, job->reply, verdict);
	job->outcome = verdict->outcome;
	job->cost = verdict->cost;
}

/* When the job is tried again; 0: it is not. */
static TimestampTz
next_try(const OeJob *job, TimestampTz now)
{
	int			wait_ms;

	if (!job->reply || ShutdownRequestPending ||
		!oe_policy_retry(&job->call.limits, job->reply->result,
						 job->reply->status, job->reply->retry_after_ms,
						 job->tries, pg_prng_double(&pg_global_prng_state),
						 &wait_ms))
		return 0;
	return now + wait_ms * INT64CONST(1000);
}

/*
 * Back into the queue, if that is what the ending means.  A job whose row
 * cannot be written stays ENDED.  False: the job is to be settled.
 */
static bool
put_back(OeJob *job, const OeVerdict *verdict, TimestampTz now)
{
	OePatience	patience;
	OeHttpResult result = job->reply ? job->reply->result : OE_HTTP_NOT_SENT;
	TimestampTz due = job->position.due;
	int			times = 0;
	int64		wait_ms;

	oe_settings_patience(&patience);
	switch (oe_policy_queue(&patience, result, verdict->status,
							job->reply ? job->reply->retry_after_ms : -1,
							job->postponed, job->gathered,
							pg_prng_double(&pg_global_prng_state), &wait_ms))
	{
		case OE_QUEUE_SETTLED:
			return false;
		case OE_QUEUE_LATER:
			due = now + wait_ms * INT64CONST(1000);
			times = 1;
			break;
		case OE_QUEUE_UNREACHABLE:
		case OE_QUEUE_THROTTLED:
		case OE_QUEUE_BLOCKED:
			/* It keeps its place: the whole queue waits. */
			break;
	}
	switch (oe_queue_put_back(job->call_id, due, times, job->tries,
							  verdict->status, verdict->detail))
	{
		case OE_PUT_BACK_BUSY:
			return true;
		case OE_PUT_BACK_GONE:
			break;
		case OE_PUT_BACK:
			oe_transaction_tally.waiting++;
			break;
	}
	job->position.due = due;
	job->phase = OE_JOB_PUT_BACK;
	return true;
}

/*
 * A job that is tried again is WAITING, with the last result at hand.  One whose
 * row cannot be written stays ENDED.
 */
static void
record_ending(OeJob *job, TimestampTz now)
{
	OeLedgerRow row = {0};
	OeVerdict	verdict;
	TimestampTz again = job->background ? 0 : next_try(job, now);

	judge(job, &verdict);
	if (job->background && put_back(job, &verdict, now))
		return;
	fill_row(job, &row);
	row.state = verdict.state;
	row.status = verdict.status;
	row.detail = verdict.detail;
	row.person = verdict.person;
	row.raw = verdict.raw;
	row.raw_len = verdict.raw_len;
	row.raw_truncated = verdict.raw_truncated;
	row.credits = verdict.credits;
	row.answered_at = now;
	row.next_attempt_at = again;
	if (!again && job->reply && job->reply->retry_after_ms > 0)
		row.next_attempt_at = now + job->reply->retry_after_ms * INT64CONST(1000);
	if (!write_row(job, &row))
		return;
	if (verdict.person && oe_upkeep_has_webhook(job->call.body))
		oe_upkeep_answered(job->call_id);
	oe_job_settle(job, &verdict.result);
	if (job->background)
		oe_transaction_settled(job->call_id, verdict.state, job->cost);
	else if (again)
	{
		job->not_before = again;
		job->phase = OE_JOB_WAITING;
	}
}

static void
record_arrived(OeJob *job, int on_wire, TimestampTz now)
{
	OeLedgerHit hit;
	OeResult	result;
	TimestampTz since = job->call.reuse_for_us > 0
		? now - job->call.reuse_for_us : DT_NOEND;

	if (oe_ledger_find(job->call.account, job->call.fingerprint, since, &hit))
	{
		/* A live job of ours would have been joined: it is an orphan. */
		if (hit.state == OE_LEDGER_SENT)
			(void) oe_ledger_give_up(hit.call_id);
		oe_judge_hit(&hit, &result);
		oe_job_settle(job, &result);
		return;
	}
	job->account = oe_admission_account(&job->call, now);
	job->phase = OE_JOB_WAITING;
	admit(job, on_wire, now);
}

/* All that the ledger has to do with the job in this turn. */
static void
record(OeJob *job, int *on_wire, TimestampTz now)
{
	if (job->phase == OE_JOB_ENDED)
		record_ending(job, now);
	else if (job->phase == OE_JOB_ARRIVED)
		record_arrived(job, *on_wire, now);
	else
		admit(job, *on_wire, now);
	if (job->phase == OE_JOB_SENDING)
		oe_record_sending(job, now);
	if (job->phase == OE_JOB_SENDING)
		(*on_wire)++;
}

/* ----------------------------------------------------------------
 * After the transaction
 * ---------------------------------------------------------------- */

void
oe_record_act(OeJob *job, XLogRecPtr lsn, TimestampTz now)
{
	if (job->phase_before == OE_JOB_ENDED && job->phase != OE_JOB_ENDED)
		oe_admission_ended(job, now);
	switch (job->phase)
	{
		case OE_JOB_SETTLED:
			oe_job_deliver(job, lsn);
			break;
		case OE_JOB_SENDING:
			oe_wire_send(job);
			break;
		case OE_JOB_PUT_BACK:
			oe_queue_look_from(&job->position);
			oe_job_begin_anew(job);
			break;
		case OE_JOB_WAITING:
			if (job->slots == NIL)
				oe_job_free(job);
			else
				oe_job_move(job, OE_JOB_WAITING);
			break;
		case OE_JOB_ENDED:
			oe_record_row_is_busy = true;
			oe_job_move(job, OE_JOB_ENDED);
			break;
		case OE_JOB_ARRIVED:
		case OE_JOB_ON_WIRE:
			elog(ERROR, "unexpected phase of a job: %d", (int) job->phase);
	}
}

/* The transaction failed: back to where the job was before it. */
static void
undo(OeJob *job, TimestampTz now)
{
	if (job->phase == OE_JOB_SENDING)
		oe_admission_unsent(job, now);
	job->phase = job->phase_before;
}

/* The ledger cannot be written: say so, but hand over what was paid. */
static void
give_up_recording(OeJob *job, const char *reason, TimestampTz now)
{
	OeVerdict	verdict;

	if (job->phase_before != OE_JOB_ENDED)
	{
		oe_job_settle_not_recorded(job, reason);
		oe_job_deliver(job, InvalidXLogRecPtr);
		return;
	}
	ereport(WARNING,
			errmsg("could not record the answer of call " INT64_FORMAT
				   " in ocean_enrich.call: %s", job->call_id, reason));
	StartTransactionCommand();
	judge(job, &verdict);
	oe_job_settle(job, &verdict.result);
	CommitTransactionCommand();
	MemoryContextSwitchTo(oe_turn_mcxt);
	oe_admission_ended(job, now);
	oe_record_orphans_left |= job->background;
	oe_job_deliver(job, InvalidXLogRecPtr);
}

/* ----------------------------------------------------------------
 * A group of jobs in one transaction
 * ---------------------------------------------------------------- */

/* Out of their lists: all that ended, some that arrived, all that wait. */
static List *
collect_group(void)
{
	List	   *group = NIL;
	dlist_mutable_iter iter;

	while (!dlist_is_empty(&oe_jobs_ended))
		group = lappend(group, dlist_container(OeJob, node,
											   dlist_pop_head_node(&oe_jobs_ended)));
	dlist_foreach_modify(iter, &oe_jobs_waiting)
	{
		dlist_delete(iter.cur);
		group = lappend(group, dlist_container(OeJob, node, iter.cur));
	}
	for (int i = 0; i < GROUP_ARRIVALS_MAX && !dlist_is_empty(&oe_jobs_arrived); i++)
		group = lappend(group, dlist_container(OeJob, node,
											   dlist_pop_head_node(&oe_jobs_arrived)));
	return group;
}

static void
record_jobs(void *arg, TimestampTz now)
{
	int			on_wire = oe_wire_in_flight();
	ListCell   *lc;

	foreach(lc, (List *) arg)
		record(lfirst(lc), &on_wire, now);
}

/*
 * Record the group.  NULL: done, or the ledger is busy or gone.  Else the
 * reason why it failed; every job is as it was before.
 */
static char *
record_group(List *group, TimestampTz now)
{
	XLogRecPtr	lsn;
	char	   *reason;
	bool		sending = false;
	ListCell   *lc;

	foreach(lc, group)
		((OeJob *) lfirst(lc))->phase_before = ((OeJob *) lfirst(lc))->phase;
	reason = oe_transaction(record_jobs, group, now, &lsn);
	if (reason || oe_ledger_access != OE_LEDGER_READY)
	{
		foreach(lc, group)
			undo(lfirst(lc), now);
		return reason;
	}

	/*
	 * What we are about to send is on disk first.  What only came can wait:
	 * the sessions flush it themselves.
	 */
	foreach(lc, group)
		sending |= ((OeJob *) lfirst(lc))->phase == OE_JOB_SENDING;
	if (sending && oe_record_before_send)
		XLogFlush(lsn);
	foreach(lc, group)
		oe_record_act(lfirst(lc), lsn, now);
	if (sending)
		oe_wire_run();
	return NULL;
}

static void
put_off(OeJob *job)
{
	oe_job_move(job, job->phase);
}

/* One job that harmed its group, or just was in a group that was harmed. */
static void
record_alone(OeJob *job, TimestampTz now)
{
	char	   *reason = record_group(list_make1(job), now);

	if (reason)
		give_up_recording(job, reason, now);
	else if (oe_ledger_access != OE_LEDGER_READY)
		put_off(job);
}

void
oe_record_all(TimestampTz now)
{
	List	   *group;
	ListCell   *lc;
	char	   *reason;

	/* What has_something_to_record() asked, the group asks again. */
	oe_admission_ask_anew();
	group = collect_group();
	reason = record_group(group, now);
	if (reason)
	{
		foreach(lc, group)
			record_alone(lfirst(lc), now);
	}
	else if (oe_ledger_access != OE_LEDGER_READY)
	{
		foreach(lc, group)
			put_off(lfirst(lc));
	}
}

void
oe_record_ended(TimestampTz now)
{
	List	   *group = collect_group();
	ListCell   *lc;

	foreach(lc, group)
		record_alone(lfirst(lc), now);
}

void
oe_record_give_up_all(const char *reason, TimestampTz now)
{
	List	   *group;
	ListCell   *lc;

	while ((group = collect_group()) != NIL)
	{
		foreach(lc, group)
		{
			OeJob	   *job = lfirst(lc);

			job->phase_before = job->phase;
			give_up_recording(job, reason, now);
		}
	}
}
