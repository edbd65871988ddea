/*
 * serve_queue.c
 *		How the worker serves the queue.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "mb/pg_wchar.h"
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

/* Of max_concurrency, what the queue leaves to sessions: a share, up to so many. */
#define SESSIONS_SHARE			8
#define SESSIONS_MAX			8

/* Queued calls that one transaction takes, so that answers pass between. */
#define CLAIM_MAX				256

/* How often to look through the whole queue while it is being served. */
#define QUEUE_SWEEP_S			10

/* How often to read the settings that the queue is sent with. */
#define QUEUE_SETTINGS_MS		1000

/* How often to fold the entries that sessions have added to the tally. */
#define TALLY_FOLD_MS			1000

/* How long to leave the queue alone when calls cannot be recorded. */
#define UNRECORDABLE_WAIT_S		10

/* How the queue is being served. */
typedef struct ServedQueue
{
	MemoryContext mcxt;			/* holds what "call" points to */
	OeCall		call;			/* the settings that the queue is sent with */
	OeCall		balance_call;	/* and those that ask for its balance */
	TimestampTz settings_read_at;
	bool		has_token;
	OeLimits	next_limits;	/* those of the call that did not fit into the
								 * limits, otherwise those of "call" */
	TimestampTz wake_at;
	TimestampTz left_until;		/* set if the ledger could not be written */
	TimestampTz swept_at;
	bool		touched;		/* true if there was work since then */
	int			claim_max;		/* 1: while looking for a harmful row */
	bool		decisions_due;	/* true after decisions about unknown calls */
	uint64		budgets_seen;
	TimestampTz tally_folded_at;
	bool		tally_unfolded;
} ServedQueue;

static ServedQueue queue = {.claim_max = CLAIM_MAX, .budgets_seen = PG_UINT64_MAX};

/* ----------------------------------------------------------------
 * The settings that the queue is sent with
 * ---------------------------------------------------------------- */

/*
 * Read the worker's own settings; again and again, as a token file may change
 * unnoticed.  Without a usable token, no call is sent.
 */
static void
read_queue_settings(TimestampTz now)
{
	MemoryContext old;

	if (now - queue.settings_read_at < QUEUE_SETTINGS_MS * INT64CONST(1000) &&
		queue.settings_read_at != 0)
		return;
	queue.settings_read_at = now;
	if (queue.has_token)
		explicit_bzero(unconstify(char *, queue.call.token),
					   strlen(queue.call.token));
	queue.has_token = false;
	MemoryContextReset(queue.mcxt);
	memset(&queue.call, 0, sizeof(queue.call));
	old = MemoryContextSwitchTo(queue.mcxt);
	StartTransactionCommand();
	MemoryContextSwitchTo(queue.mcxt);
	PG_TRY();
	{
		oe_settings_fill(&oe_endpoint_person, &queue.call);
		queue.next_limits = queue.call.limits;
		queue.balance_call = queue.call;
		oe_settings_set_endpoint(&oe_endpoint_balance, &queue.balance_call);
		oe_request_fingerprint(&oe_endpoint_balance, NULL,
							   queue.balance_call.fingerprint);
		queue.has_token = true;
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

/* Publish why no call is sent, for the view. */
static void
say_pause(const char *reason, TimestampTz until)
{
	OeQueueStatus *status = oe_channel_my_status();

	if (strcmp(status->pause, reason) != 0)
		strlcpy(status->pause, reason, sizeof(status->pause));
	status->paused_until = until;
}

/* The text for a limit that rules out the call for now. */
static const char *
limit_name(OeCode code)
{
	switch (code)
	{
		case OE_LOCAL_RATE_LIMIT:
			return "daily_limit has been reached";
		case OE_LOCAL_CREDIT_LIMIT:
			return "credit_limit has been reached";
		default:
			return "the API asks for a pause";
	}
}

static TimestampTz
limit_ends_at(OeAccountEntry *entry, OeCode code, TimestampTz now)
{
	OeUsage		usage;
	OeTime		day_start;
	OeTime		day_end;

	if (code == OE_API_RATE_LIMIT)
	{
		oe_account_usage(entry->account, now, &usage);
		return usage.paused_until;
	}
	oe_period_bounds(OE_PERIOD_DAY, now, &day_start, &day_end);
	return day_end;
}

/* What has to be waited for until then: the API's pace alone is none. */
static void
say_wait(const OeAccountEntry *entry, TimestampTz until, TimestampTz now)
{
	OeUsage		usage;

	oe_account_usage(entry->account, now, &usage);
	if (usage.paused_until >= until)
		say_pause("the API asks for a pause", until);
	else if (queue.next_limits.rate_limit > 0 && usage.pace_room > 0)
		say_pause("rate_limit has been reached", until);
}

/* When the limits let the queue resume; DT_NOEND: when a request ends. */
static TimestampTz
limits_allow_at(OeAccountEntry *entry, TimestampTz now)
{
	OePermission answer = oe_admission_ask_account(entry, &queue.next_limits, now);
	TimestampTz when;

	switch (answer.admission)
	{
		case OE_ADMIT_NOW:
			return now;
		case OE_ADMIT_LATER:
			say_wait(entry, answer.when, now);
			return answer.when;
		case OE_ADMIT_WHEN_ONE_ENDS:
			return DT_NOEND;
		case OE_ADMIT_NEVER:
			break;
	}
	when = limit_ends_at(entry, answer.error.code, now);
	say_pause(limit_name(answer.error.code), when);
	oe_error_free(&answer.error);
	return when;
}

/* Ask for the balance, unless that is under way or was done a short while ago. */
static void
ask_for_balance(OeAccess *access, TimestampTz now)
{
	OeJob	   *job;
	char	   *bytes;
	Size		len;

	access->wanted = false;
	if (access->asked || access->ask_at > now)
		return;
	access->asked = true;
	bytes = oe_call_pack(&queue.balance_call, &len);
	job = oe_job_find(queue.balance_call.account, queue.balance_call.fingerprint);
	if (!job)
	{
		job = oe_job_new(bytes, len);
		job->begun = true;
		oe_wire_send(job);
	}
	explicit_bzero(bytes, len);
}

/*
 * The API has refused access: ask for the balance now and then.  What is in flight
 * may still use up credits, so the balance says nothing about them before.
 */
static TimestampTz
blocked_until(OeAccess *access, TimestampTz now)
{
	if (access->blocked_by == 402)
		say_pause("too few credits are left", 0);
	else
		say_pause(psprintf("the API refuses access (HTTP status %d)",
						   access->blocked_by), 0);
	if (access->blocked_by == 402 && oe_wire_in_flight_of_queue() > 0)
		return DT_NOEND;
	ask_for_balance(access, now);
	return access->asked ? DT_NOEND : access->ask_at;
}

/* The API is in trouble: one call at a time tries whether that is over. */
static TimestampTz
troubled_until(const OeBreaker *breaker, TimestampTz now)
{
	TimestampTz until = oe_breaker_allows_at(breaker, now);
	const char *reason = "the API cannot be reached";

	if (until <= now)
		return until;
	if (breaker->status == 200)
		reason = "the API gives no usable answers";
	else if (breaker->status != 0)
		reason = psprintf("the API fails (HTTP status %d)", breaker->status);
	else if (breaker->trouble == OE_TROUBLE_IN_DOUBT)
		reason = "the API does not answer";
	say_pause(reason, until == DT_NOEND ? 0 : until);
	return until;
}

/* Even if others wake the worker: each turn would fail and log it again. */
static void
leave_queue_alone(TimestampTz now)
{
	queue.wake_at = queue.left_until = now + UNRECORDABLE_WAIT_S * USECS_PER_SEC;
	say_pause("calls cannot be recorded; see the server log", queue.left_until);
}

static void
log_unsent(const char *reason)
{
	ereport(LOG,
			errmsg("could not send queued requests: %s", reason));
}

/* True if a session waits for limits that the queue would use up. */
static bool
sessions_wait(TimestampTz now)
{
	dlist_iter	iter;

	dlist_foreach(iter, oe_job_list(OE_JOB_WAITING))
	{
		if (dlist_container(OeJob, node, iter.cur)->not_before <= now)
			return true;
	}
	return !dlist_is_empty(oe_job_list(OE_JOB_ARRIVED));
}

/* How many more calls of the queue may be in flight, so that sessions have room, too. */
static int
room_beside_sessions(void)
{
	int			places = queue.call.limits.max_concurrency;

	if (places > 1)
		places -= Min(Max(places / SESSIONS_SHARE, 1), SESSIONS_MAX);
	return places - oe_wire_in_flight_of_queue();
}

/* When the queue may resume; DT_NOEND: not before a request ends. */
static TimestampTz
queue_allowed_at(TimestampTz now)
{
	OeAccountEntry *entry;
	TimestampTz until;

	say_pause("", 0);
	if (!oe_settings()->queue_enabled)
	{
		say_pause("queue_enabled is off", 0);
		return DT_NOEND;
	}
	if (!queue.has_token)
	{
		say_pause("no usable API token", 0);
		return now + QUEUE_SETTINGS_MS * INT64CONST(1000);
	}
	entry = oe_admission_known_account(queue.call.account);
	if (!entry)
		return now;
	oe_admission_see_time(entry, now);
	if (entry->access.blocked_by != 0)
		return blocked_until(&entry->access, now);
	until = troubled_until(&entry->breaker, now);
	if (until > now)
		return until;
	if (entry->access.trying || sessions_wait(now) || room_beside_sessions() <= 0)
		return DT_NOEND;
	return limits_allow_at(entry, now);
}

/* ----------------------------------------------------------------
 * Claiming
 * ---------------------------------------------------------------- */

/* Calls that one transaction takes out of the queue. */
typedef struct Claim
{
	OeTransaction *transaction;
	OeAccountEntry *account;
	List	   *jobs;			/* about to be sent */
	bool		cut_short;		/* true if a limit left calls unsent */
	int64		call_id;		/* the call that is being looked at */
	int			attempts;		/* how often that call was sent */
} Claim;

/* The request was checked and normalised when it was queued. */
static void
fill_call(const OeQueuedCall *queued, OeCall *call)
{
	const char *text = JsonbToCString(NULL, &queued->request->root,
									  VARSIZE(queued->request));

	*call = queue.call;
	oe_settings_set_endpoint(queued->endpoint, call);
	strlcpy(call->role, queued->role, sizeof(call->role));
	memcpy(call->fingerprint, queued->fingerprint, OE_FINGERPRINT_BYTES);
	call->body = pg_server_to_any(text, strlen(text), PG_UTF8);
	call->reveals = queued->reveals;
	oe_request_set_reveals(&call->limits, &call->reveals);
}

/* Create a job, in no list yet, for a queued call. */
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
	job->refused_before = queued->refused_before;
	job->call_id = queued->position.call_id;
	job->requested_at = queued->requested_at;
	job->tries = queued->attempts;
	return job;
}

/* Fail a call that will not be sent. */
static void
fail_queued(Claim *claim, const OeQueuedCall *queued, const char *detail,
			TimestampTz now)
{
	OeLedgerRow row = {0};

	row.call_id = queued->position.call_id;
	row.state = OE_LEDGER_FAILED;
	row.account = queue.call.account;
	row.detail = detail;
	row.attempts = queued->attempts;
	row.answered_at = now;
	(void) oe_ledger_write(&row);
	oe_transaction_settled(claim->transaction, row.call_id, row.state, 0);
	claim->transaction->tally.waiting--;
}

/* Settle the call by an earlier equal one, or let it wait for that one. */
static void
settle_by_hit(Claim *claim, const OeQueuedCall *queued, OeLedgerHit *hit,
			  TimestampTz now)
{
	int64		call_id = queued->position.call_id;

	if (hit->state == OE_LEDGER_SENT && !oe_ledger_give_up(hit->call_id))
		(void) oe_queue_put_back(call_id, now + USECS_PER_MINUTE, OE_WAIT_CALL,
								 queued->attempts, 0, OE_FAILED,
								 psprintf("waiting for call " INT64_FORMAT
										  ", which is on the wire elsewhere",
										  hit->call_id));
	else if (hit->state == OE_LEDGER_ANSWERED || hit->state == OE_LEDGER_REFUSED)
	{
		oe_queue_settle_reused(call_id, hit->call_id, now);
		if (oe_reveals_by_webhook(&queued->reveals))
			oe_upkeep_answered(call_id);
		oe_transaction_settled(claim->transaction, call_id, OE_LEDGER_SENT, 0);
		claim->transaction->tally.waiting--;
	}
	else if (oe_queue_is_given_up(hit->call_id))
		fail_queued(claim, queued,
					psprintf("an equal request, call " INT64_FORMAT
							 ", was given up", hit->call_id), now);
	else
		(void) oe_queue_put_back(call_id, DT_NOEND, OE_WAIT_DECISION, queued->attempts, 0, OE_FAILED,
								 psprintf("waiting for a decision about call "
										  INT64_FORMAT, hit->call_id));
}

/* Leave the call for an equal request under way to answer. */
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
 * Keep the call in the queue until its budget begins anew or requests of its
 * role on the wire have ended.  After a change of budgets,
 * release_for_budgets() releases it earlier.
 */
static void
put_back_for_budget(const OeQueuedCall *queued, const OePermission *answer,
					TimestampTz now)
{
	const char *message = answer->error.message;

	(void) oe_queue_put_back(queued->position.call_id,
							 answer->admission == OE_ADMIT_NEVER ? answer->when
							 : now + BUDGET_RESERVED_MS * INT64CONST(1000),
							 OE_WAIT_BUDGET, queued->attempts, 0, OE_FAILED,
							 message ? oe_utf8_to_message(message)
							 : "the rest of the budget is reserved");
}

/*
 * True if the daily limit never has room for all that the call may reveal, so
 * that other calls must not wait for it.  A limit that admits no call at all
 * pauses the queue instead.
 */
static bool
is_beyond_credit_limit(const OeLimits *limits)
{
	return limits->credit_limit > 0 &&
		limits->prices[0] <= limits->credit_limit &&
		oe_limits_reserve(limits) > limits->credit_limit;
}

/*
 * Keep the call in the queue: too few credits are left for what it may reveal.  When it
 * comes again, so does the question how many are left.
 */
static void
put_back_for_credits(Claim *claim, const OeQueuedCall *queued, OeCredits reserve,
					 TimestampTz now)
{
	OeAccess   *access = &claim->account->access;
	char		left[OE_CREDITS_TEXT_SIZE];
	char		cost[OE_CREDITS_TEXT_SIZE];

	access->wanted = true;		/* but not within this transaction */
	(void) oe_queue_put_back(queued->position.call_id,
							 now + oe_settings()->balance_interval_s * USECS_PER_SEC,
							 OE_WAIT_BALANCE, queued->attempts, 0, OE_FAILED,
							 psprintf("%s credits are left, and the call may cost %s",
									  oe_credits_text(access->left.all, left),
									  oe_credits_text(reserve, cost)));
}

/* Turn an admitted call into a job, and write its row. */
static void
send_queued(Claim *claim, const OeQueuedCall *queued, const OeCall *call,
			TimestampTz now)
{
	OeJob	   *job = queued_job(queued, call);

	job->account = claim->account;
	oe_admission_sent(job, now);
	oe_job_set_phase(job, OE_JOB_SENDING);
	claim->jobs = lappend(claim->jobs, job);
	oe_record_sending(job, now);
	claim->transaction->tally.waiting--;
}

/* Send the call if it may go.  False: no further call may go now, either. */
static bool
admit_queued(Claim *claim, const OeQueuedCall *queued, int on_wire,
			 TimestampTz now)
{
	OeCall		call;
	OePermission answer;

	fill_call(queued, &call);
	if (is_beyond_credit_limit(&call.limits))
	{
		(void) oe_queue_put_back(queued->position.call_id, now + USECS_PER_HOUR, OE_WAIT_LIMIT,
								 queued->attempts, 0, OE_FAILED,
								 "may cost more than credit_limit allows per day");
		return true;
	}
	if (oe_access_is_too_dear(&claim->account->access, oe_limits_reserve(&call.limits)))
	{
		put_back_for_credits(claim, queued, oe_limits_reserve(&call.limits), now);
		return true;
	}
	answer = oe_admission_ask(claim->account, &call, on_wire, now);
	switch (answer.obstacle)
	{
		case OE_OBSTACLE_NONE:
			send_queued(claim, queued, &call, now);
			return true;
		case OE_OBSTACLE_BUDGET:
			put_back_for_budget(queued, &answer, now);
			oe_error_free(&answer.error);
			return true;
		case OE_OBSTACLE_ACCOUNT:
			oe_error_free(&answer.error);
			queue.next_limits = call.limits;
			return false;
		case OE_OBSTACLE_FILES:
			return false;
		case OE_OBSTACLE_LOCK:
			ereport(ERROR,
					errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					errmsg("could not lock table \"ocean_enrich.reveal_cost\""));
	}
	pg_unreachable();
}

/* Send, settle or postpone one queued call.  False: no further call may go. */
static bool
take_queued(Claim *claim, const OeQueuedCall *queued, int on_wire,
			TimestampTz now)
{
	OeReuse		reuse = oe_ledger_reuse(&queue.call, now);
	OeLedgerHit hit;
	OeJob	   *job = oe_job_find(queue.call.account, queued->fingerprint);

	if (queued->held)
	{
		/* A sweep returns to it. */
		oe_queue_pass(&queued->position);
		return true;
	}
	if (job)
		pass_by(job, &queued->position);
	else if (!queued->request)
		fail_queued(claim, queued, "the request was erased", now);
	else if (!queued->endpoint || !queued->endpoint->recorded)
		fail_queued(claim, queued, "its endpoint cannot be queued", now);
	else if (!queue.call.webhook_url && oe_request_needs_url(queued->endpoint, queued->request))
		fail_queued(claim, queued, "ocean_enrich.webhook_url is not set", now);
	else if (oe_ledger_find(queue.call.account, queued->fingerprint, &reuse, &hit))
		settle_by_hit(claim, queued, &hit, now);
	else if (!admit_queued(claim, queued, on_wire, now))
		return false;
	oe_queue_pass(&queued->position);
	return true;
}

/* Claim, and thereby lock, no more calls than may go now. */
static int
room_for_claims(const OeAccountEntry *entry, TimestampTz now)
{
	const OeLimits *limits = &queue.call.limits;
	int			room = queue.claim_max;
	OeUsage		usage;

	if (oe_breaker_is_open(&entry->breaker) || entry->access.try_one)
		return 1;
	oe_account_usage(entry->account, now, &usage);
	room = Min(room, limits->max_concurrency - usage.in_flight);
	room = Min(room, room_beside_sessions());
	room = (int) Min((int64) room, usage.pace_room);
	/* Then requests keep a distance: see oe_account_admit(). */
	if (limits->rate_limit > 0 && 2 * usage.last_minute >= limits->rate_limit)
		room = 1;
	return Max(room, 1);
}

static void
claim_calls(OeTransaction *transaction, void *arg, TimestampTz now)
{
	Claim	   *claim = arg;
	int			on_wire = oe_wire_in_flight();
	OeQueuedCall *calls;
	int			count;

	queue.next_limits = queue.call.limits;
	claim->transaction = transaction;
	claim->account = oe_admission_account(&queue.call, now);
	calls = oe_queue_claim(room_for_claims(claim->account, now), now, &count);
	for (int i = 0; i < count && !claim->cut_short; i++)
	{
		claim->call_id = calls[i].position.call_id;
		claim->attempts = calls[i].attempts;
		claim->cut_short = !take_queued(claim, &calls[i],
										on_wire + list_length(claim->jobs), now);
		/* The call is still due, even if the claim reached the end. */
		if (claim->cut_short)
			oe_queue_look_from(&calls[i].position);
	}
	queue.touched |= count > 0;
}

typedef struct HarmfulCall
{
	int64		call_id;
	int			attempts;
	const char *detail;
} HarmfulCall;

/* Postpone a call that cannot be recorded: the others must not wait for it. */
static void
put_aside(OeTransaction *transaction, void *arg, TimestampTz now)
{
	const HarmfulCall *call = arg;

	(void) oe_queue_put_back(call->call_id, now + USECS_PER_HOUR, OE_WAIT_RETRY,
							 call->attempts, 0, OE_FAILED, call->detail);
}

/* Undo a claim whose transaction failed: none of its calls was sent. */
static void
undo_claim(Claim *claim, TimestampTz now)
{
	ListCell   *lc;

	oe_queue_undo();
	foreach(lc, claim->jobs)
	{
		oe_admission_unsent(lfirst(lc), now);
		oe_job_free(lfirst(lc));
	}
}

/*
 * After a failed transaction, try each call alone, and put aside the one that
 * fails alone.  If even that cannot be recorded, leave the queue alone.
 */
static void
find_harmful_call(const Claim *claim, const char *reason, TimestampTz now)
{
	HarmfulCall call = {claim->call_id, claim->attempts, NULL};

	if (queue.claim_max > 1)
		queue.claim_max = 1;
	else
	{
		call.detail = psprintf("could not be sent: %s", reason);
		if (call.call_id != 0 &&
			oe_transaction(put_aside, &call, now).end != OE_LEDGER_HAS_FAILED)
			return;
		leave_queue_alone(now);
	}
	log_unsent(reason);
}

/* After the commit: flush it, and send. */
static void
send_claim(const Claim *claim, XLogRecPtr lsn, TimestampTz now)
{
	ListCell   *lc;

	/* Unless a limit of ours is in the way, only an ending makes room. */
	if (claim->cut_short)
	{
		queue.wake_at = queue_allowed_at(now);
		if (queue.wake_at <= now)
			queue.wake_at = DT_NOEND;
	}
	if (claim->jobs == NIL)
		return;
	XLogFlush(lsn);
	foreach(lc, claim->jobs)
		oe_record_proceed(lfirst(lc), lsn, now);
	oe_wire_run();
}

static OeLedgerEnd
claim_and_send(TimestampTz now)
{
	Claim		claim = {0};
	OeTransaction transaction;

	oe_queue_save();
	transaction = oe_transaction(claim_calls, &claim, now);
	if (transaction.end == OE_LEDGER_COMMITTED)
	{
		if (queue.claim_max < CLAIM_MAX)
			queue.claim_max *= 2;
		send_claim(&claim, transaction.lsn, now);
		if (claim.account->access.wanted)
			ask_for_balance(&claim.account->access, now);
		return transaction.end;
	}
	queue.wake_at = now + OE_LEDGER_BUSY_RETRY_MS * INT64CONST(1000);
	undo_claim(&claim, now);
	if (transaction.end == OE_LEDGER_HAS_FAILED)
		find_harmful_call(&claim, transaction.reason, now);
	return transaction.end;
}

/* ----------------------------------------------------------------
 * Changes by others
 * ---------------------------------------------------------------- */

/* Look through the whole queue now and then: rows may have been locked. */
static void
sweep_queue(TimestampTz now)
{
	if (now - queue.swept_at < QUEUE_SWEEP_S * USECS_PER_SEC)
		return;
	queue.swept_at = now;
	if (!queue.touched && oe_queue_next_due() == DT_NOEND)
		return;
	queue.touched = false;
	oe_queue_look_everywhere();
}

static void
fold_tally(OeTransaction *transaction, void *arg, TimestampTz now)
{
	oe_tally_fold(&transaction->tally);
}

/* Not after every commit of others: unfolded entries count in the sum, too. */
static OeLedgerEnd
keep_tally(TimestampTz now)
{
	OeTransaction transaction;

	if (!queue.tally_unfolded ||
		now - queue.tally_folded_at < TALLY_FOLD_MS * INT64CONST(1000))
		return OE_LEDGER_COMMITTED;
	queue.tally_folded_at = now;
	transaction = oe_transaction(fold_tally, NULL, now);
	queue.tally_unfolded = transaction.end == OE_LEDGER_IS_BUSY ||
		transaction.end == OE_LEDGER_HAS_FAILED;
	return transaction.end;
}

static void
release_calls(OeTransaction *transaction, void *arg, TimestampTz now)
{
	oe_budget_release(now);
}

/* Changed budgets may admit calls that wait for their budget to begin anew. */
static OeLedgerEnd
release_for_budgets(TimestampTz now)
{
	uint64		changes = oe_channel_changes();
	OeTransaction transaction;

	if (queue.budgets_seen == changes || oe_queue_next_due() == DT_NOEND)
		return OE_LEDGER_COMMITTED;
	transaction = oe_transaction(release_calls, NULL, now);
	if (transaction.end == OE_LEDGER_IS_BUSY ||
		transaction.end == OE_LEDGER_HAS_FAILED)
		return transaction.end;
	queue.budgets_seen = changes;
	oe_queue_look_everywhere();
	return transaction.end;
}

void
oe_serve_queue_take_news(void)
{
	OeQueueNews news;

	if (!oe_channel_take_news(&news))
		return;
	/* The next call may be another one. */
	queue.next_limits = queue.call.limits;
	oe_queue_learn(&news);
	queue.decisions_due |= news.decided;
	if (news.end_pauses)
		oe_admission_end_pauses();
	queue.touched = true;
	queue.tally_unfolded = true;
}

static void
requeue_decided(OeTransaction *transaction, void *arg, TimestampTz now)
{
	oe_queue_obey(&transaction->tally);
}

static OeLedgerEnd
follow_decisions(TimestampTz now)
{
	OeTransaction transaction;

	if (!queue.decisions_due)
		return OE_LEDGER_COMMITTED;
	transaction = oe_transaction(requeue_decided, NULL, now);
	queue.decisions_due = transaction.end == OE_LEDGER_IS_BUSY;
	if (transaction.end == OE_LEDGER_HAS_FAILED)
		ereport(LOG,
				errmsg("could not requeue resolved calls: %s",
					   transaction.reason));
	return transaction.end;
}

static void
survey_queue(OeTransaction *transaction, void *arg, TimestampTz now)
{
	oe_queue_survey();
}

/* Needed even while no call may be sent: with an empty queue we may leave. */
static OeLedgerEnd
look_through_queue(TimestampTz now)
{
	OeTransaction transaction;

	if (!oe_queue_needs_survey())
		return OE_LEDGER_COMMITTED;
	transaction = oe_transaction(survey_queue, NULL, now);
	if (transaction.end == OE_LEDGER_HAS_FAILED)
	{
		leave_queue_alone(now);
		log_unsent(transaction.reason);
	}
	return transaction.end;
}

/* ----------------------------------------------------------------
 * Called by the worker's loop
 * ---------------------------------------------------------------- */

OeLedgerEnd
oe_serve_queue(TimestampTz now)
{
	OeLedgerEnd end;

	if (queue.left_until > now)
		return OE_LEDGER_COMMITTED;
	sweep_queue(now);
	if (!oe_ledger_is_usable(end = follow_decisions(now)) ||
		!oe_ledger_is_usable(end = keep_tally(now)) ||
		!oe_ledger_is_usable(end = release_for_budgets(now)))
		return end;
	queue.wake_at = now + UNRECORDABLE_WAIT_S * USECS_PER_SEC;
	end = look_through_queue(now);
	if (end != OE_LEDGER_COMMITTED)
		return end;
	queue.wake_at = oe_queue_next_due();
	if (queue.wake_at > now)
	{
		say_pause("", 0);
		return OE_LEDGER_COMMITTED;
	}
	read_queue_settings(now);
	queue.wake_at = queue_allowed_at(now);
	if (queue.wake_at > now)
		return OE_LEDGER_COMMITTED;
	end = claim_and_send(now);
	if (queue.wake_at <= now)
		queue.wake_at = Max(oe_queue_next_due(), now);
	return end;
}

TimestampTz
oe_serve_queue_wake_at(void)
{
	return queue.wake_at;
}

bool
oe_serve_queue_is_wanted(void)
{
	return oe_queue_next_due() != DT_NOEND || queue.touched;
}

void
oe_serve_queue_reload(void)
{
	queue.settings_read_at = 0;
}

void
oe_serve_queue_init(bool due)
{
	queue.mcxt = AllocSetContextCreate(oe_worker_mcxt, "ocean_enrich queue",
									   ALLOCSET_SMALL_SIZES);
	queue.decisions_due = due;
	say_pause("", 0);
}
