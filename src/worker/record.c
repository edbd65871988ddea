/*
 * record.c
 *		Records the worker's jobs in the ledger, and proceeds after the commit.
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "common/hashfn.h"
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

/* ----------------------------------------------------------------
 * Admitting
 * ---------------------------------------------------------------- */

/*
 * Settle a job that may never go for the role that would pay.  Requests of
 * other roles that joined it are taken again, each for its own role.
 */
static void
refuse_job(OeJob *job, OeError *error)
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
 * Set the job to SENDING if it may go, or to SETTLED if it never may.
 * Otherwise it stays WAITING; without slots if no session wants it any more.
 */
static void
admit_job(OeJob *job, int on_wire, TimestampTz now)
{
	OePermission answer = oe_admission_ask_for_job(job, on_wire, now);

	switch (answer.admission)
	{
		case OE_ADMIT_NEVER:
			refuse_job(job, &answer.error);
			return;
		case OE_ADMIT_LATER:
		case OE_ADMIT_WHEN_ONE_ENDS:
			return;
		case OE_ADMIT_NOW:
			break;
	}
	oe_job_begin(job);
	if (job->slots == NIL)
		return;
	oe_admission_sent(job, now);
	oe_job_set_phase(job, OE_JOB_SENDING);
}

/* ----------------------------------------------------------------
 * Recording one job
 * ---------------------------------------------------------------- */

static void
fill_row(const OeJob *job, OeLedgerRow *row)
{
	row->call_id = job->call_id;
	row->role = job->call.role;
	row->endpoint = job->call.endpoint;
	row->account = job->call.account;
	row->fingerprint = job->call.fingerprint;
	row->request = oe_utf8_to_server(job->call.body, strlen(job->call.body));
	row->reveals = &job->call.reveals;
	row->reserved = oe_limits_reserve(&job->call.limits);
	row->attempts = job->tries;
	row->requested_at = job->requested_at;
	row->sent_at = job->sent_at;
}

/* False: the row is locked. */
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

	/* An unrecorded queued call would be sent again after a crash. */
	if (!oe_settings()->record_before_send && !job->background)
		return;
	fill_row(job, &row);
	row.state = OE_LEDGER_SENT;
	if (write_row(job, &row))
		return;
	oe_admission_unsent(job, now);
	job->not_before = now + OE_LEDGER_BUSY_RETRY_MS * INT64CONST(1000);
	oe_job_set_phase(job, OE_JOB_WAITING);
}

static void
judge_job(OeJob *job, OeVerdict *verdict)
{
	oe_judge_reply(&job->call, job->reply, verdict);
	job->outcome = verdict->outcome;
	job->cost = verdict->cost;
	job->words = verdict->detail
		? hash_bytes((const unsigned char *) verdict->detail, strlen(verdict->detail)) : 0;
}

/*
 * When the API will take the job again, by its Retry-After.  The pause of the account
 * may be another one's.
 */
static TimestampTz
pause_ends(const OeJob *job, TimestampTz now)
{
	int			wait_ms = Max(job->reply->retry_after_ms, 0);

	return Max((job->left_at ? job->left_at : now) + wait_ms * INT64CONST(1000), now);
}

/* When to try the job again; 0: never. */
static TimestampTz
next_try(const OeJob *job, TimestampTz now)
{
	int			wait_ms;

	if (!job->reply || ShutdownRequestPending ||
		!oe_policy_retry(&job->call.limits, job->reply->result,
						 job->reply->status, job->reply->retry_after_ms,
						 oe_admission_counted_tries(job),
						 pg_prng_double(&pg_global_prng_state), &wait_ms))
		return 0;
	return job->reply->status == 429 ? pause_ends(job, now)
		: now + wait_ms * INT64CONST(1000);
}

/*
 * Requeue the job if its ending calls for it.  A job whose row is locked stays
 * ENDED.  False: the job is to be settled.
 */
static bool
put_back_job(OeTransaction *transaction, OeJob *job, const OeVerdict *verdict,
			 TimestampTz now)
{
	OePatience	patience;
	OeHttpResult result = job->reply ? job->reply->result : OE_HTTP_NOT_SENT;
	TimestampTz due = job->position.due;
	OeWaitReason reason = OE_WAIT_TURN;
	OeAccess   *access = &job->account->access;
	int64		wait_ms;

	oe_settings_patience(&patience);
	switch (oe_policy_queue(&patience, result, verdict->status,
							verdict->outcome, oe_admission_others_pass(job),
							job->reply ? job->reply->retry_after_ms : -1,
							job->postponed, job->gathered,
							pg_prng_double(&pg_global_prng_state), &wait_ms))
	{
		case OE_QUEUE_SETTLED:
			return false;
		case OE_QUEUE_LATER:
			due = now + wait_ms * INT64CONST(1000);
			reason = verdict->status == 201 ? OE_WAIT_GATHERING : OE_WAIT_RETRY;
			break;
		case OE_QUEUE_BLOCKED:
			if (oe_access_is_final(access, job, verdict->status, now))
				return false;
			/* One tries again first, the others after what is in order. */
			reason = OE_WAIT_BALANCE;
			if (!oe_access_keeps_place(access))
				due = now;
			break;
		case OE_QUEUE_THROTTLED:
			/* If it was refused before, the next one to try is another one. */
			if (job->tries > 1 && oe_account_pace(job->account->account)->barren > 0)
				due = now;
			break;
		case OE_QUEUE_UNREACHABLE:
			/* The call keeps its place: the whole queue waits. */
			break;
	}
	switch (oe_queue_put_back(job->call_id, due, reason, job->tries,
							  verdict->status, verdict->outcome, verdict->detail))
	{
		case OE_PUT_BACK_BUSY:
			return true;
		case OE_PUT_BACK_GONE:
			break;
		case OE_PUT_BACK:
			transaction->tally.waiting++;
			break;
	}
	job->position.due = due;
	oe_job_set_phase(job, OE_JOB_PUT_BACK);
	return true;
}

/*
 * A job that is tried again becomes WAITING, and keeps its last result.  A job
 * whose row is locked stays ENDED.
 */
static void
record_ending(OeTransaction *transaction, OeJob *job, TimestampTz now)
{
	OeLedgerRow row = {0};
	OeVerdict	verdict;
	TimestampTz again = job->background ? 0 : next_try(job, now);

	judge_job(job, &verdict);
	if (job->background && put_back_job(transaction, job, &verdict, now))
		return;
	fill_row(job, &row);
	row.state = verdict.state;
	row.status = verdict.status;
	row.detail = verdict.detail;
	row.answer = verdict.answer;
	row.raw = verdict.raw;
	row.raw_len = verdict.raw_len;
	row.raw_truncated = verdict.raw_truncated;
	row.credits = verdict.credits;
	row.answered_at = now;
	row.next_attempt_at = again;
	if (!again && job->reply && job->reply->retry_after_ms > 0)
		row.next_attempt_at = verdict.status == 429 ? pause_ends(job, now)
			: now + job->reply->retry_after_ms * INT64CONST(1000);
	if (!write_row(job, &row))
		return;
	if (verdict.answer && oe_reveals_by_webhook(&job->call.reveals))
		oe_upkeep_answered(job->call_id);
	oe_job_set_result(job, &verdict.result);
	oe_job_set_phase(job, again ? OE_JOB_WAITING : OE_JOB_SETTLED);
	if (again)
		job->not_before = again;
	if (job->background)
		oe_transaction_settled(transaction, job->call_id, verdict.state, job->cost);
}

static void
record_arrived(OeJob *job, int on_wire, TimestampTz now)
{
	OeLedgerHit hit;
	OeResult	result;
	OeReuse		reuse = oe_ledger_reuse(&job->call, now);

	if (oe_ledger_find(job->call.account, job->call.fingerprint, &reuse, &hit))
	{
		/* The row is an orphan: a live job of ours would have been joined. */
		if (hit.state == OE_LEDGER_SENT)
			(void) oe_ledger_give_up(hit.call_id);
		oe_judge_hit(job->call.endpoint, &hit, &result);
		oe_job_settle(job, &result);
		return;
	}
	job->account = oe_admission_account(&job->call, now);
	oe_job_set_phase(job, OE_JOB_WAITING);
	admit_job(job, on_wire, now);
}

/* Record all that has to be recorded of the job in this turn. */
static void
record_job(OeTransaction *transaction, OeJob *job, int *on_wire, TimestampTz now)
{
	if (job->phase == OE_JOB_ENDED)
		record_ending(transaction, job, now);
	else if (job->phase == OE_JOB_ARRIVED)
		record_arrived(job, *on_wire, now);
	else
		admit_job(job, *on_wire, now);
	if (job->phase == OE_JOB_SENDING)
		oe_record_sending(job, now);
	if (job->phase == OE_JOB_SENDING)
		(*on_wire)++;
}

/* ----------------------------------------------------------------
 * After the transaction
 * ---------------------------------------------------------------- */

void
oe_record_proceed(OeJob *job, XLogRecPtr lsn, TimestampTz now)
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
			break;
		case OE_JOB_ENDED:		/* its row was locked */
			oe_admission_learn_ending(job, now);
			break;
		case OE_JOB_NEW:
		case OE_JOB_ARRIVED:
		case OE_JOB_ON_WIRE:
			elog(ERROR, "unexpected phase of a job: %d", (int) job->phase);
	}
}

/* Restore the job after its transaction has failed. */
static void
undo_job(OeJob *job, TimestampTz now)
{
	if (job->phase == OE_JOB_SENDING)
		oe_admission_unsent(job, now);
	oe_job_undo_phase(job);
}

/*
 * Log that the ledger cannot be written, but deliver an answer, as it was paid
 * for.  True if the job leaves a row "sent" behind.
 */
static bool
give_up_recording(OeJob *job, const char *reason, TimestampTz now)
{
	bool		is_orphan = job->background;
	OeVerdict	verdict;

	if (job->phase != OE_JOB_ENDED)
	{
		oe_job_settle_not_recorded(job, reason);
		oe_job_deliver(job, InvalidXLogRecPtr);
		return false;
	}
	ereport(WARNING,
			errmsg("could not record the answer to call " INT64_FORMAT
				   " in table \"ocean_enrich.call\": %s", job->call_id, reason));
	StartTransactionCommand();
	judge_job(job, &verdict);
	oe_job_settle(job, &verdict.result);
	CommitTransactionCommand();
	MemoryContextSwitchTo(oe_turn_mcxt);
	oe_admission_ended(job, now);
	oe_job_deliver(job, InvalidXLogRecPtr);
	return is_orphan;
}

/* ----------------------------------------------------------------
 * A group of jobs in one transaction
 * ---------------------------------------------------------------- */

static List *
append_jobs(List *group, OeJobPhase phase, int max)
{
	dlist_iter	iter;

	dlist_foreach(iter, oe_job_list(phase))
	{
		if (max-- <= 0)
			break;
		group = lappend(group, dlist_container(OeJob, node, iter.cur));
	}
	return group;
}

/* All jobs that ended, all that wait, and some that arrived. */
static List *
collect_group(void)
{
	List	   *group = append_jobs(NIL, OE_JOB_ENDED, INT_MAX);

	group = append_jobs(group, OE_JOB_WAITING, INT_MAX);
	return append_jobs(group, OE_JOB_ARRIVED, GROUP_ARRIVALS_MAX);
}

static void
record_jobs(OeTransaction *transaction, void *arg, TimestampTz now)
{
	int			on_wire = oe_wire_in_flight();
	ListCell   *lc;

	foreach(lc, (List *) arg)
		record_job(transaction, lfirst(lc), &on_wire, now);
}

/* After the commit, proceed with each job by its phase. */
static void
proceed_with_group(List *group, XLogRecPtr lsn, OeRecorded *recorded,
				   TimestampTz now)
{
	bool		sending = false;
	ListCell   *lc;

	foreach(lc, group)
	{
		OeJobPhase	phase = ((OeJob *) lfirst(lc))->phase;

		sending |= phase == OE_JOB_SENDING;
		recorded->row_is_busy |= phase == OE_JOB_ENDED;
	}

	/*
	 * A request has to be on disk before it is sent.  Answers can wait: the
	 * sessions flush them themselves.
	 */
	if (sending && oe_settings()->record_before_send)
		XLogFlush(lsn);
	foreach(lc, group)
		oe_record_proceed(lfirst(lc), lsn, now);
	if (sending)
		oe_wire_run();
}

/*
 * Record the group.  Returns the reason of a failure, or NULL.  Without a
 * commit, every job is left as it was before.
 */
static const char *
record_group(List *group, OeRecorded *recorded, TimestampTz now)
{
	OeTransaction transaction;
	ListCell   *lc;

	foreach(lc, group)
		((OeJob *) lfirst(lc))->phase_before = ((OeJob *) lfirst(lc))->phase;
	transaction = oe_transaction(record_jobs, group, now);
	recorded->end = transaction.end;
	if (transaction.end == OE_LEDGER_COMMITTED)
		proceed_with_group(group, transaction.lsn, recorded, now);
	else
	{
		foreach(lc, group)
			undo_job(lfirst(lc), now);
	}
	return transaction.reason;
}

/* Record the jobs one by one, as one of them may have failed the others. */
static void
record_each_alone(List *group, OeRecorded *recorded, TimestampTz now)
{
	ListCell   *lc;

	foreach(lc, group)
	{
		const char *reason = record_group(list_make1(lfirst(lc)), recorded, now);

		if (reason)
			recorded->orphans_left |= give_up_recording(lfirst(lc), reason, now);
	}
}

OeRecorded
oe_record_all(TimestampTz now)
{
	OeRecorded	recorded = {0};
	List	   *group;

	/* Accounts that oe_admission_any_is_due() found full are asked again. */
	oe_admission_ask_again();
	group = collect_group();
	if (record_group(group, &recorded, now) != NULL)
		record_each_alone(group, &recorded, now);
	return recorded;
}

OeRecorded
oe_record_ended(TimestampTz now)
{
	OeRecorded	recorded = {0};

	record_each_alone(collect_group(), &recorded, now);
	return recorded;
}

void
oe_record_give_up_all(const char *reason, TimestampTz now)
{
	List	   *group;
	ListCell   *lc;

	while ((group = collect_group()) != NIL)
	{
		foreach(lc, group)
			(void) give_up_recording(lfirst(lc), reason, now);
	}
}
