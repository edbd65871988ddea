/*
 * serve_queue.c
 *		How the worker serves the queue.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "shared/channel.h"
#include "shared/ledger.h"
#include "shared/request_body.h"
#include "shared/settings.h"
#include "worker/admission.h"
#include "worker/budget.h"
#include "worker/ledger_transaction.h"
#include "worker/queue_cursor.h"
#include "worker/record.h"
#include "worker/serve_queue.h"
#include "worker/upkeep.h"
#include "worker/wire.h"

/* How long a queued call waits for others of its role that are on the wire. */
#define BUDGET_RESERVED_MS		500

/* Queued calls that one transaction takes, so that answers pass between. */
#define CLAIM_MAX				256

/* How often to look through the whole queue while it is served. */
#define QUEUE_SWEEP_S			10

/* How often to read the settings that the queue is sent with. */
#define QUEUE_SETTINGS_MS		1000

/* How often to fold what others have added to the tally. */
#define TALLY_FOLD_MS			1000

/* How long to leave alone what cannot be recorded. */
#define UNRECORDABLE_WAIT_S		10

static MemoryContext queue_mcxt;	/* what "queue_call" points to */
static OeCall queue_call;		/* the settings that it is sent with */
static OeLimits next_limits;	/* of the call that did not fit into the
								 * limits, else the same */
static TimestampTz queue_settings_read_at;
static bool queue_has_token;
static TimestampTz queue_wake_at;
static TimestampTz queue_left_until;	/* it could not be recorded */
static TimestampTz queue_swept_at;
static bool queue_touched;		/* since then */
static int	claim_max = CLAIM_MAX;	/* 1: to find the row that does harm */
static int64 claiming;			/* the call that is being looked at */
static int	claiming_attempts;	/* how often that was sent */
static bool decisions_due;		/* somebody decided about unknown calls */
static uint64 budgets_seen = PG_UINT64_MAX;
static TimestampTz tally_folded_at;
static bool tally_unfolded;

/* ----------------------------------------------------------------
 * The settings that it is sent with
 * ---------------------------------------------------------------- */

/*
 * The worker's own.  The token may stand in a file, which does not tell when it
 * changes.  Without a usable token nothing goes.
 */
static void
read_queue_settings(TimestampTz now)
{
	MemoryContext old;

	if (now - queue_settings_read_at < QUEUE_SETTINGS_MS * INT64CONST(1000) &&
		queue_settings_read_at != 0)
		return;
	queue_settings_read_at = now;
	if (queue_has_token)
		explicit_bzero(unconstify(char *, queue_call.token),
					   strlen(queue_call.token));
	queue_has_token = false;
	MemoryContextReset(queue_mcxt);
	memset(&queue_call, 0, sizeof(queue_call));
	old = MemoryContextSwitchTo(queue_mcxt);
	StartTransactionCommand();
	MemoryContextSwitchTo(queue_mcxt);
	PG_TRY();
	{
		oe_settings_fill(&queue_call);
		next_limits = queue_call.limits;
		queue_has_token = true;
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(oe_turn_mcxt);
		FlushErrorState();
		AbortCurrentTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
}

/* ----------------------------------------------------------------
 * Pauses
 * ---------------------------------------------------------------- */

/* Why nothing goes, for the view. */
static void
say_pause(const char *reason, TimestampTz until)
{
	OeQueueStatus *status = oe_channel_my_status();

	if (strcmp(status->pause, reason) != 0)
		strlcpy(status->pause, reason, sizeof(status->pause));
	status->paused_until = until;
}

/* As it is long until then, or at least not by itself. */
static const char *
limit_name(OeCode code)
{
	switch (code)
	{
		case OE_LOCAL_RATE_LIMIT:
			return "daily_limit is reached";
		case OE_LOCAL_CREDIT_LIMIT:
			return "credit_limit is reached";
		default:
			return "the API asks to wait";
	}
}

/* When the limits let the queue go on; "now": at once, DT_NOEND: when one ends. */
static TimestampTz
limits_allow_at(OeAccountEntry *entry, TimestampTz now)
{
	OeError		error = {0};
	OeTime		when = now;
	OeUsage		usage;
	OeTime		day_start;

	switch (oe_account_admit(entry->account, &next_limits, now, &when, &error))
	{
		case OE_ADMIT_NOW:
			return now;
		case OE_ADMIT_LATER:
			say_pause("rate_limit is reached", when);
			return when;
		case OE_ADMIT_WHEN_ONE_ENDS:
			return DT_NOEND;
		case OE_ADMIT_NEVER:
			break;
	}
	if (error.code == OE_API_RATE_LIMIT)
	{
		oe_account_usage(entry->account, now, &usage);
		when = usage.paused_until;
	}
	else
		oe_period_bounds(OE_PERIOD_DAY, now, &day_start, &when);
	say_pause(limit_name(error.code), when);
	oe_error_free(&error);
	return when;
}

/* The API has stopped the account: its balance says when that is over. */
static TimestampTz
blocked_until(OeAccountEntry *entry, TimestampTz now)
{
	OeCall		call = queue_call;
	OeJob	   *job;
	char	   *bytes;
	Size		len;

	if (entry->blocked_by == 402)
		say_pause("no credits are left", 0);
	else
		say_pause(psprintf("the API refuses access (HTTP status %d)",
						   entry->blocked_by), 0);
	if (entry->balance_asked)
		return DT_NOEND;
	if (entry->balance_due > now)
		return entry->balance_due;
	entry->balance_asked = true;
	entry->balance_due = now + oe_balance_interval_s * USECS_PER_SEC;
	call.url = oe_settings_balance_url();
	call.is_balance = true;
	bytes = oe_call_pack(&call, &len);
	job = oe_job_find(call.account, call.fingerprint);
	if (!job)
	{
		job = oe_job_new(bytes, len);
		job->begun = true;
		oe_wire_send(job);
	}
	explicit_bzero(bytes, len);
	return DT_NOEND;
}

/* Whoever else wakes the worker, or each turn would fail and log it again. */
static void
leave_queue_alone(TimestampTz now)
{
	queue_wake_at = queue_left_until = now + UNRECORDABLE_WAIT_S * USECS_PER_SEC;
	say_pause("cannot be recorded: the server's log says why", queue_left_until);
}

static void
log_unsent(const char *reason)
{
	ereport(LOG,
			errmsg("could not send what is queued: %s", reason));
}

/* Does a session wait for the limits that the queue would use up? */
static bool
sessions_wait(TimestampTz now)
{
	dlist_iter	iter;

	dlist_foreach(iter, &oe_jobs_waiting)
	{
		if (dlist_container(OeJob, node, iter.cur)->not_before <= now)
			return true;
	}
	return !dlist_is_empty(&oe_jobs_arrived);
}

/* When the queue may go on; "now": at once, DT_NOEND: not before something ends. */
static TimestampTz
queue_allowed_at(TimestampTz now)
{
	OeAccountEntry *entry;

	say_pause("", 0);
	if (!oe_queue_enabled)
	{
		say_pause("queue_enabled is off", 0);
		return DT_NOEND;
	}
	if (!queue_has_token)
	{
		say_pause("no usable API token", 0);
		return now + QUEUE_SETTINGS_MS * INT64CONST(1000);
	}
	entry = oe_admission_known_account(queue_call.account);
	if (!entry)
		return now;
	if (entry->blocked_by != 0)
		return blocked_until(entry, now);
	if (entry->streak > 0 && entry->paused_until > now)
	{
		say_pause("the API cannot be reached, or asks to wait",
				  entry->paused_until);
		return entry->paused_until;
	}
	/* After that, one goes ahead alone. */
	if (entry->streak >= OE_TROUBLE_STREAK && oe_wire_in_flight_of_queue() > 0)
		return DT_NOEND;
	if (sessions_wait(now))
		return DT_NOEND;
	return limits_allow_at(entry, now);
}

/* ----------------------------------------------------------------
 * Claiming
 * ---------------------------------------------------------------- */

static void
fill_call(const OeQueuedCall *queued, OeCall *call)
{
	OeReveals	reveals;

	*call = queue_call;
	strlcpy(call->role, queued->role, sizeof(call->role));
	memcpy(call->fingerprint, queued->fingerprint, OE_FINGERPRINT_BYTES);
	call->body = oe_request_body(queued->request, true, &reveals);
	oe_request_set_reveals(&call->limits, &reveals);
}

/* A call of the queue as a job, not in any list. */
static OeJob *
queued_job(const OeQueuedCall *queued, const OeCall *call)
{
	OeJob	   *job;
	char	   *bytes;
	Size		len;

	bytes = oe_call_pack(call, &len);
	job = oe_job_new(bytes, len);
	explicit_bzero(bytes, len);
	pfree(bytes);
	job->background = true;
	job->begun = true;
	job->position = queued->position;
	job->postponed = queued->postponed;
	job->gathered = queued->gathered;
	job->call_id = queued->position.call_id;
	job->requested_at = queued->requested_at;
	job->tries = queued->attempts;
	return job;
}

/* It was never sent, and never will be. */
static void
fail_queued(const OeQueuedCall *queued, const char *detail, TimestampTz now)
{
	OeLedgerRow row = {0};

	row.call_id = queued->position.call_id;
	row.state = OE_LEDGER_FAILED;
	row.account = queue_call.account;
	row.detail = detail;
	row.attempts = queued->attempts;
	row.answered_at = now;
	(void) oe_ledger_write(&row);
	oe_transaction_settled(row.call_id, row.state, 0);
	oe_transaction_tally.waiting--;
}

/* An earlier equal request settles it, or has to be decided about first. */
static void
settle_by_hit(const OeQueuedCall *queued, OeLedgerHit *hit, TimestampTz now)
{
	int64		call_id = queued->position.call_id;

	if (hit->state == OE_LEDGER_SENT && !oe_ledger_give_up(hit->call_id))
		(void) oe_queue_put_back(call_id, now + USECS_PER_MINUTE, 0,
								 queued->attempts, 0,
								 psprintf("waits for call " INT64_FORMAT
										  ", which is on the wire elsewhere",
										  hit->call_id));
	else if (hit->state == OE_LEDGER_ANSWERED || hit->state == OE_LEDGER_REFUSED)
	{
		oe_queue_settle_reused(call_id, hit->call_id, now);
		if (oe_upkeep_has_webhook(JsonbToCString(NULL, &queued->request->root,
												 VARSIZE(queued->request))))
			oe_upkeep_answered(call_id);
		oe_transaction_settled(call_id, OE_LEDGER_SENT, 0);
		oe_transaction_tally.waiting--;
	}
	else if (oe_queue_is_given_up(hit->call_id))
		fail_queued(queued,
					psprintf("an equal request, call " INT64_FORMAT
							 ", was given up", hit->call_id), now);
	else
		(void) oe_queue_put_back(call_id, DT_NOEND, 0, queued->attempts, 0,
								 psprintf("waits for a decision about call "
										  INT64_FORMAT, hit->call_id));
}

/* The equal request that is under way will answer it. */
static void
pass_by(OeJob *job, const OeQueuePosition *position)
{
	if (!job->passed_by || position->priority > job->passed.priority ||
		(position->priority == job->passed.priority &&
		 position->due < job->passed.due))
		job->passed = *position;
	job->passed_by = true;
}

/*
 * False: it stays in the queue, until its budget begins anew or what is on the
 * wire has ended.  A raised budget lets it go before: see_to_budgets().
 */
static bool
budget_lets_go(OeAccountEntry *account, const OeQueuedCall *queued,
			   const OeLimits *limits, TimestampTz now)
{
	OeTime		when = now + BUDGET_RESERVED_MS * INT64CONST(1000);
	OeError		error = {0};

	if (!oe_admission_prepare(account, queued->role, limits, now))
		ereport(ERROR,
				errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				errmsg("could not lock ocean_enrich.reveal_cost"));
	if (oe_budget_admit(queued->role, oe_limits_reserve(limits), now, &when,
						&error) == OE_ADMIT_NOW)
		return true;
	(void) oe_queue_put_back(queued->position.call_id, when, 0,
							 queued->attempts, 0,
							 error.message ? oe_utf8_to_message(error.message)
							 : "what is left of the budget is reserved");
	oe_error_free(&error);
	return false;
}

typedef struct Claim
{
	OeAccountEntry *account;
	List	   *jobs;			/* about to be sent */
	bool		cut_short;		/* by a limit: there is more */
} Claim;

/*
 * For what it reveals: no day of this limit has room for it, so the others shall
 * not wait for it.  A limit that lets nothing go at all stops the queue instead.
 */
static bool
is_beyond_credit_limit(const OeLimits *limits)
{
	return limits->credit_limit > 0 &&
		limits->credits_per_call <= limits->credit_limit &&
		oe_limits_reserve(limits) > limits->credit_limit;
}

/* False: the limits do not let it go now. */
static bool
send_queued(Claim *claim, const OeQueuedCall *queued, int on_wire,
			TimestampTz now)
{
	OeCall		call;
	OeError		error = {0};
	OeTime		when;
	OeJob	   *job;

	fill_call(queued, &call);
	if (is_beyond_credit_limit(&call.limits))
	{
		(void) oe_queue_put_back(queued->position.call_id, now + USECS_PER_HOUR, 0,
								 queued->attempts, 0,
								 "may cost more than credit_limit has for a day");
		return true;
	}
	if (!budget_lets_go(claim->account, queued, &call.limits, now))
		return true;
	if (oe_account_admit(claim->account->account, &call.limits, now, &when,
						 &error) != OE_ADMIT_NOW)
	{
		oe_error_free(&error);
		next_limits = call.limits;
		return false;
	}
	if (!oe_wire_reserve(on_wire))
		return false;
	job = queued_job(queued, &call);
	job->account = claim->account;
	oe_admission_sent(job, now);
	job->phase = OE_JOB_SENDING;
	claim->jobs = lappend(claim->jobs, job);
	oe_record_sending(job, now);
	oe_transaction_tally.waiting--;
	return true;
}

/* Send one queued call, or settle it.  False: no limit lets it go now. */
static bool
take_queued(Claim *claim, const OeQueuedCall *queued, int on_wire,
			TimestampTz now)
{
	TimestampTz since = queue_call.reuse_for_us > 0
		? now - queue_call.reuse_for_us : DT_NOEND;
	OeLedgerHit hit;
	OeJob	   *job = oe_job_find(queue_call.account, queued->fingerprint);

	if (job)
		pass_by(job, &queued->position);
	else if (!queued->request)
		fail_queued(queued, "its request was erased", now);
	else if (oe_ledger_find(queue_call.account, queued->fingerprint, since, &hit))
		settle_by_hit(queued, &hit, now);
	else if (!send_queued(claim, queued, on_wire, now))
		return false;
	oe_queue_pass(&queued->position);
	return true;
}

/* No more are claimed, and thereby locked, than may go now. */
static int
room_for_claims(const OeAccountEntry *entry, TimestampTz now)
{
	const OeLimits *limits = &queue_call.limits;
	int			room = claim_max;
	OeUsage		usage;

	if (entry->streak >= OE_TROUBLE_STREAK)
		return 1;
	oe_account_usage(entry->account, now, &usage);
	room = Min(room, limits->max_concurrency - usage.in_flight);
	if (limits->rate_limit > 0)
		room = Min(room, limits->rate_limit - usage.last_minute);
	return Max(room, 1);
}

static void
claim_calls(void *arg, TimestampTz now)
{
	Claim	   *claim = arg;
	int			on_wire = oe_wire_in_flight();
	OeQueuedCall *calls;
	int			count;

	next_limits = queue_call.limits;
	claim->account = oe_admission_account(&queue_call, now);
	calls = oe_queue_claim(room_for_claims(claim->account, now), now, &count);
	for (int i = 0; i < count && !claim->cut_short; i++)
	{
		claiming = calls[i].position.call_id;
		claiming_attempts = calls[i].attempts;
		claim->cut_short = !take_queued(claim, &calls[i],
										on_wire + list_length(claim->jobs), now);
		/* It is due still, although the claim has seen the end of the queue. */
		if (claim->cut_short)
			oe_queue_look_from(&calls[i].position);
	}
	queue_touched |= count > 0;
}

/* One call of the queue cannot be recorded: the others shall not wait for it. */
static void
put_aside(void *arg, TimestampTz now)
{
	(void) oe_queue_put_back(claiming, now + USECS_PER_HOUR, 1,
							 claiming_attempts, 0, arg);
}

/*
 * The transaction failed.  Next time each call is tried alone, and one that
 * does harm alone is put aside; if that cannot be recorded either, nothing can.
 */
static void
undo_claim(Claim *claim, char *reason, TimestampTz now)
{
	XLogRecPtr	lsn;
	ListCell   *lc;

	oe_queue_undo();
	foreach(lc, claim->jobs)
	{
		oe_admission_unsent(lfirst(lc), now);
		oe_job_free(lfirst(lc));
	}
	if (!reason)
		return;
	if (claim_max > 1)
		claim_max = 1;
	else if (claiming != 0 &&
			 oe_transaction(put_aside, psprintf("could not be sent: %s", reason),
							now, &lsn) == NULL)
		return;
	else
		leave_queue_alone(now);
	log_unsent(reason);
}

static void
claim_some(TimestampTz now)
{
	Claim		claim = {0};
	XLogRecPtr	lsn;
	ListCell   *lc;
	char	   *reason;

	claiming = 0;
	oe_queue_save();
	reason = oe_transaction(claim_calls, &claim, now, &lsn);
	if (reason || oe_ledger_access != OE_LEDGER_READY)
	{
		queue_wake_at = now + OE_LEDGER_BUSY_RETRY_MS * INT64CONST(1000);
		undo_claim(&claim, reason, now);
		return;
	}
	if (claim_max < CLAIM_MAX)
		claim_max *= 2;

	/* Unless it is a limit of ours, only an ending makes room. */
	if (claim.cut_short)
	{
		queue_wake_at = queue_allowed_at(now);
		if (queue_wake_at <= now)
			queue_wake_at = DT_NOEND;
	}
	if (claim.jobs == NIL)
		return;
	XLogFlush(lsn);
	foreach(lc, claim.jobs)
		oe_record_act(lfirst(lc), lsn, now);
	oe_wire_run();
}

/* ----------------------------------------------------------------
 * What others have done to it
 * ---------------------------------------------------------------- */

/* Look through the whole queue now and then: a row may have been locked. */
static void
sweep_queue(TimestampTz now)
{
	if (now - queue_swept_at < QUEUE_SWEEP_S * USECS_PER_SEC)
		return;
	queue_swept_at = now;
	if (!queue_touched && oe_queue_next_due() == DT_NOEND)
		return;
	queue_touched = false;
	oe_queue_look_everywhere();
}

static void
fold_tally(void *arg, TimestampTz now)
{
	oe_tally_fold(&oe_transaction_tally);
}

/* Not after each commit of others: the sum is right with each of them. */
static void
keep_tally(TimestampTz now)
{
	XLogRecPtr	lsn;

	if (!tally_unfolded ||
		now - tally_folded_at < TALLY_FOLD_MS * INT64CONST(1000))
		return;
	tally_folded_at = now;
	tally_unfolded = oe_transaction(fold_tally, NULL, now, &lsn) != NULL ||
		oe_ledger_access == OE_LEDGER_BUSY;
}

static void
release_for_budgets(void *arg, TimestampTz now)
{
	oe_budget_release(now);
}

/* Changed budgets may let calls go that wait until they begin anew. */
static void
see_to_budgets(TimestampTz now)
{
	uint64		changes = oe_channel_changes();
	XLogRecPtr	lsn;

	if (budgets_seen == changes || oe_queue_next_due() == DT_NOEND)
		return;
	if (oe_transaction(release_for_budgets, NULL, now, &lsn) != NULL ||
		oe_ledger_access == OE_LEDGER_BUSY)
		return;
	budgets_seen = changes;
	oe_queue_look_everywhere();
}

static void
hear_news(void)
{
	OeQueueNews news;

	if (!oe_channel_take_news(&news))
		return;
	/* Another call may be the next. */
	next_limits = queue_call.limits;
	oe_queue_learn(&news);
	decisions_due |= news.decided;
	queue_touched = true;
	tally_unfolded = true;
}

static void
obey_decisions(void *arg, TimestampTz now)
{
	oe_queue_obey(&oe_transaction_tally);
}

static void
see_to_decisions(TimestampTz now)
{
	XLogRecPtr	lsn;
	char	   *reason;

	if (!decisions_due)
		return;
	reason = oe_transaction(obey_decisions, NULL, now, &lsn);
	decisions_due = oe_ledger_access == OE_LEDGER_BUSY;
	if (reason)
		ereport(LOG,
				errmsg("could not put calls back that may be paid again: %s", reason));
}

static void
survey_queue(void *arg, TimestampTz now)
{
	oe_queue_survey();
}

/* Whether anything may be sent or not: we may leave if there is nothing. */
static bool
look_through_queue(TimestampTz now)
{
	XLogRecPtr	lsn;
	char	   *reason;

	if (!oe_queue_needs_survey())
		return true;
	reason = oe_transaction(survey_queue, NULL, now, &lsn);
	if (reason)
	{
		leave_queue_alone(now);
		log_unsent(reason);
		return false;
	}
	return oe_ledger_access == OE_LEDGER_READY;
}

/* ----------------------------------------------------------------
 * From the loop
 * ---------------------------------------------------------------- */

void
oe_serve_queue(TimestampTz now)
{
	hear_news();
	if (queue_left_until > now)
		return;
	see_to_decisions(now);
	sweep_queue(now);
	keep_tally(now);
	see_to_budgets(now);
	queue_wake_at = now + UNRECORDABLE_WAIT_S * USECS_PER_SEC;
	if (!look_through_queue(now))
		return;
	queue_wake_at = oe_queue_next_due();
	if (queue_wake_at > now)
	{
		say_pause("", 0);
		return;
	}
	read_queue_settings(now);
	queue_wake_at = queue_allowed_at(now);
	if (queue_wake_at > now)
		return;
	claim_some(now);
	if (queue_wake_at <= now)
		queue_wake_at = Max(oe_queue_next_due(), now);
}

TimestampTz
oe_serve_queue_wake_at(void)
{
	return queue_wake_at;
}

bool
oe_serve_queue_is_wanted(void)
{
	return oe_queue_next_due() != DT_NOEND || queue_touched;
}

void
oe_serve_queue_reload(void)
{
	queue_settings_read_at = 0;
}

void
oe_serve_queue_init(bool due)
{
	queue_mcxt = AllocSetContextCreate(oe_worker_mcxt, "ocean_enrich queue",
									   ALLOCSET_SMALL_SIZES);
	decisions_due = due;
	say_pause("", 0);
}
