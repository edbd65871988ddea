/*
 * admission.c
 *		Decides whether a request may go now.  The accounts are in the worker's
 *		memory, restored from the ledger when they are first used.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/errors.h"
#include "shared/channel.h"
#include "shared/ledger.h"
#include "shared/settings.h"
#include "worker/admission.h"
#include "worker/budget.h"
#include "worker/verdict.h"
#include "worker/wire.h"

/* Tries refused by 429 count again from this many times max_retries on. */
#define TRIES_WITHIN_REASON		10

/* The queue waits so long at least, whatever retry_wait_max says. */
#define QUEUE_BACKOFF_MIN_MS	500

static HTAB *accounts;
static uint64 turn_number;
static TimestampTz wake_at;
static bool room_was_made;

void
oe_admission_init(void)
{
	accounts = oe_job_table("ocean_enrich accounts", OE_ACCOUNT_CHARS,
							sizeof(OeAccountEntry));
}

void
oe_admission_begin_turn(void)
{
	turn_number++;
	wake_at = 0;
	room_was_made = false;
}

void
oe_admission_ask_again(void)
{
	turn_number++;
}

TimestampTz
oe_admission_wake_at(void)
{
	return wake_at;
}

bool
oe_admission_room_was_made(void)
{
	return room_was_made;
}

/* ----------------------------------------------------------------
 * Accounts
 * ---------------------------------------------------------------- */

OeAccountEntry *
oe_admission_known_account(const char *name)
{
	return hash_search(accounts, name, HASH_FIND, NULL);
}

/* Restore an account that is new to this worker from the ledger. */
static void
restore_account(OeAccount *account, const OeCall *call, TimestampTz now)
{
	OeLedgerUsage usage;
	OeTime		day_start;
	OeTime		day_end;

	oe_period_bounds(OE_PERIOD_DAY, now, &day_start, &day_end);
	oe_ledger_usage(call->account, day_start, now - USECS_PER_MINUTE, &usage);
	oe_account_restore_day(account, now, usage.requests_today,
						   Min(usage.credits_today, OE_CREDITS_MAX));
	for (int i = 0; i < usage.sent_count; i++)
	{
		if (!oe_account_restore_sent(account, usage.sent[i]))
			oe_ereport_out_of_memory();
	}
	if (usage.paused_until > now)
		oe_account_pause(account, usage.paused_until);
}

OeAccountEntry *
oe_admission_account(const OeCall *call, TimestampTz now)
{
	OeAccountEntry *entry;
	OeAccount  *account;

	entry = oe_admission_known_account(call->account);
	if (entry)
		return entry;

	account = oe_account_new();
	if (!account)
		oe_ereport_out_of_memory();
	PG_TRY();
	{
		restore_account(account, call, now);
		entry = hash_search(accounts, call->account, HASH_ENTER, NULL);
	}
	PG_CATCH();
	{
		oe_account_free(account);
		PG_RE_THROW();
	}
	PG_END_TRY();
	memset((char *) entry + OE_ACCOUNT_CHARS, 0,
		   sizeof(OeAccountEntry) - OE_ACCOUNT_CHARS);
	entry->account = account;
	return entry;
}

/* ----------------------------------------------------------------
 * Admission
 * ---------------------------------------------------------------- */

/*
 * Later reveals raise the number, and make us read again.  False: the table is
 * locked.
 */
static bool
read_reveals(OeAccountEntry *entry, TimestampTz now)
{
	uint64		reveals = oe_channel_reveals();
	OeTime		day_start;
	OeTime		day_end;

	if (entry->reveals_read == reveals)
		return true;
	if (!oe_ledger_lock_revealed())
		return false;
	oe_period_bounds(OE_PERIOD_DAY, now, &day_start, &day_end);
	oe_account_set_revealed(entry->account, now,
							oe_ledger_revealed(pnstrdup(entry->name, OE_ACCOUNT_CHARS),
											   day_start));
	entry->reveals_read = reveals;
	return true;
}

/* Calls on the wire are counted as such, whatever their rows say. */
static void
restore_budgets(const char *role, TimestampTz now)
{
	int64		call_ids[OE_CHANNEL_SLOTS];
	OeCredits	reserved[OE_CHANNEL_SLOTS];
	int			count = oe_job_list_in_flight(role, call_ids, reserved);

	oe_budget_restore(role, call_ids, count, now);
	for (int i = 0; i < count; i++)
		oe_budget_sent(role, reserved[i], now);
}

/*
 * Read the role's budgets and the spendings of role and account, as far as
 * they are not known yet.  Only for requests that are to be sent: trouble with
 * the budgets must not keep an answer from being recorded.  False: the table
 * of reveals is locked.
 */
static bool
read_spendings(OeAccountEntry *account, const OeCall *call, TimestampTz now)
{
	if (!read_reveals(account, now))
		return false;
	oe_budget_refresh();
	if (oe_budget_is_to_be_restored(call->role))
		restore_budgets(call->role, now);
	return oe_budget_read_reveals(call->role, now);
}

/*
 * Once a request has to wait, those behind it in the same account and under the
 * same limits are not asked again in this turn.
 */
OePermission
oe_admission_ask_account(OeAccountEntry *entry, const OeLimits *limits,
						 TimestampTz now)
{
	OePermission answer = {.obstacle = OE_OBSTACLE_ACCOUNT};

	if (entry->full_in_turn == turn_number &&
		memcmp(&entry->full_limits, limits, sizeof(OeLimits)) == 0)
		return entry->full_answer;
	answer.admission = oe_account_admit(entry->account, limits, now,
										&answer.when, &answer.error);
	if (answer.admission == OE_ADMIT_NOW)
		answer.obstacle = OE_OBSTACLE_NONE;
	else if (answer.admission != OE_ADMIT_NEVER)
	{
		entry->full_in_turn = turn_number;
		entry->full_answer = answer;
		entry->full_limits = *limits;
	}
	return answer;
}

/* Ask the state in memory: the budget first, as it holds up no other role. */
static OePermission
ask_budget_and_account(OeAccountEntry *account, const OeCall *call,
					   TimestampTz now)
{
	OePermission answer = {.obstacle = OE_OBSTACLE_BUDGET};

	answer.admission = oe_budget_admit(call->role, oe_limits_reserve(&call->limits),
									   now, &answer.when, &answer.error);
	if (answer.admission != OE_ADMIT_NOW)
		return answer;
	return oe_admission_ask_account(account, &call->limits, now);
}

OePermission
oe_admission_ask(OeAccountEntry *account, const OeCall *call, int on_wire,
				 TimestampTz now)
{
	OePermission answer = {
		.admission = OE_ADMIT_WHEN_ONE_ENDS,
		.obstacle = OE_OBSTACLE_LOCK,
	};

	if (!read_spendings(account, call, now))
		return answer;
	answer = ask_budget_and_account(account, call, now);
	if (answer.admission == OE_ADMIT_NOW && !oe_wire_reserve(on_wire))
	{
		answer.admission = OE_ADMIT_WHEN_ONE_ENDS;
		answer.obstacle = OE_OBSTACLE_FILES;
	}
	return answer;
}

static bool
job_has_to_wait(const OeJob *job, TimestampTz now)
{
	return job->not_before > now;
}

static OePermission
wait_until(OeTime when)
{
	return (OePermission) {.admission = OE_ADMIT_LATER, .when = when};
}

/* The worker's loop has to wake up when the first of the jobs may go. */
static void
note_wait(const OePermission *answer)
{
	if (answer->admission == OE_ADMIT_LATER &&
		(wake_at == 0 || answer->when < wake_at))
		wake_at = answer->when;
}

OePermission
oe_admission_ask_for_job(OeJob *job, int on_wire, TimestampTz now)
{
	OePermission answer = job_has_to_wait(job, now) ? wait_until(job->not_before)
		: oe_admission_ask(job->account, &job->call, on_wire, now);

	note_wait(&answer);
	return answer;
}

bool
oe_admission_any_is_due(TimestampTz now)
{
	dlist_iter	iter;

	dlist_foreach(iter, oe_job_list(OE_JOB_WAITING))
	{
		OeJob	   *job = dlist_container(OeJob, node, iter.cur);
		OePermission answer = job_has_to_wait(job, now) ? wait_until(job->not_before)
			: ask_budget_and_account(job->account, &job->call, now);

		note_wait(&answer);
		oe_error_free(&answer.error);
		if (answer.admission == OE_ADMIT_NOW ||
			answer.admission == OE_ADMIT_NEVER)
			return true;
	}
	return false;
}

/* ----------------------------------------------------------------
 * Counting
 * ---------------------------------------------------------------- */

void
oe_admission_sent(OeJob *job, TimestampTz now)
{
	const OeLimits *limits = &job->call.limits;

	if (!oe_account_sent(job->account->account, limits, now))
		oe_ereport_out_of_memory();
	job->round = oe_account_pace(job->account->account)->round;
	if (job->background)
	{
		job->breaker_round = oe_breaker_sent(&job->account->breaker);
		job->went_alone = oe_access_sent(&job->account->access);
	}
	oe_budget_sent(job->call.role, oe_limits_reserve(limits), now);
	job->in_flight = true;
	job->sent_at = now;
	job->tries++;
}

void
oe_admission_unsent(OeJob *job, TimestampTz now)
{
	oe_account_unsent(job->account->account, &job->call.limits, job->sent_at,
					  now);
	oe_budget_ended(job->call.role, job->sent_at, now, OE_FAILED,
					oe_limits_reserve(&job->call.limits), 0);
	job->in_flight = false;
	job->tries--;
	if (job->background)
	{
		oe_breaker_unsent(&job->account->breaker, job->breaker_round);
		oe_access_unsent(&job->account->access, job);
	}
}

void
oe_admission_learn(OeJob *job, TimestampTz now)
{
	OeAccount  *account = job->account->account;
	const OeHttpReply *reply = job->reply;
	OePaceEnding ending = {
		.round = job->round,
		.backoff_max_ms = job->call.limits.retry_wait_max_ms,
		.random = pg_prng_double(&pg_global_prng_state)
	};

	job->learned = false;
	job->left_at = reply && reply->left_us_ago >= 0 ? now - reply->left_us_ago : 0;
	if (job->left_at != 0)
		oe_account_left(account, job->sent_at, job->left_at, now);
	if (!reply || reply->result != OE_HTTP_COMPLETE)
	{
		oe_account_unanswered(account, job->round);
		return;
	}
	ending.refused = reply->status == 429;
	ending.left = job->left_at;
	ending.retry_after_ms = reply->retry_after_ms;
	/* A session has its own limit of patience; the queue goes on. */
	if (job->background)
		ending.backoff_max_ms = Max(ending.backoff_max_ms, QUEUE_BACKOFF_MIN_MS);
	oe_account_answered(account, &ending, now);
}

int
oe_admission_counted_tries(const OeJob *job)
{
	int			barren = oe_account_pace(job->account->account)->barren;

	if (!job->reply || job->reply->status != 429 ||
		job->tries > job->call.limits.max_retries * TRIES_WITHIN_REASON)
		return job->tries;
	return Min(job->tries, barren + 1);
}

bool
oe_admission_others_pass(const OeJob *job)
{
	return job->tries > TRIES_WITHIN_REASON &&
		oe_account_pace(job->account->account)->barren == 0;
}

/* What the ending of a queued job says about the API, and about the account. */
static void
learn_for_queue(OeJob *job, OeTrouble trouble, TimestampTz now)
{
	OeAccountEntry *entry = job->account;
	int			status = job->reply ? job->reply->status : 0;
	OePatience	patience;
	OeBreakerEnding ending = {
		.round = job->breaker_round,
		.trouble = trouble,
		.status = status,
		.again = trouble == OE_TROUBLE_UNAVAILABLE && job->postponed > 0,
		.retry_after_ms = job->reply ? job->reply->retry_after_ms : -1,
		.random = pg_prng_double(&pg_global_prng_state)
	};

	oe_settings_patience(&patience);
	ending.backoff_max_ms = patience.retry_wait_max_ms;
	oe_breaker_ended(&entry->breaker, &ending, now);
	if (job->went_alone)
		oe_access_not_trying(&entry->access);
	if (status == 401 || status == 402 || status == 403)
		oe_access_refused(&entry->access, job, status,
						  job->phase == OE_JOB_SETTLED, now);
}

/*
 * Whoever it was for, an answer shows that the API works; but what a session calls
 * trouble may be its own settings.
 */
void
oe_admission_learn_ending(OeJob *job, TimestampTz now)
{
	OeTrouble	trouble = oe_trouble_of(job->reply ? job->reply->result : OE_HTTP_NOT_SENT,
										job->reply ? job->reply->status : 0,
										job->outcome);

	if (job->learned)
		return;
	job->learned = true;
	if (job->background)
		learn_for_queue(job, trouble, now);
	else if (trouble == OE_TROUBLE_NONE)
		oe_breaker_ended(&job->account->breaker, &(OeBreakerEnding) {0}, now);
	if (job->outcome == OE_ANSWERED)
		oe_access_answered(&job->account->access, job);
}

void
oe_admission_ended(OeJob *job, TimestampTz now)
{
	OeAccount  *account = job->account->account;
	OeCredits	reserved = oe_limits_reserve(&job->call.limits);

	oe_account_ended(account, job->sent_at, now, job->outcome, reserved,
					 job->cost);
	oe_budget_ended(job->call.role, job->sent_at, now, job->outcome, reserved,
					job->cost);
	job->in_flight = false;
	oe_admission_learn_ending(job, now);
	oe_http_reply_free(job->reply);
	job->reply = NULL;
	room_was_made = true;
}

void
oe_admission_learn_balance(const OeCall *call, const OeResult *balance)
{
	OeAccountEntry *entry = oe_admission_known_account(call->account);
	OeBalance	left = {OE_CREDITS_MAX, OE_CREDITS_MAX};

	if (!entry)
		return;
	if (balance->answer)
		left = oe_balance_read(balance->answer);
	/* An API without balances says nothing against the account. */
	oe_access_learn_balance(&entry->access,
							balance->answer != NULL || balance->status == 404 ||
							balance->status == 405,
							&left, GetCurrentTimestamp());
}

void
oe_admission_see_time(OeAccountEntry *entry, TimestampTz now)
{
	if (now < entry->seen)
	{
		oe_breaker_move_back(&entry->breaker, entry->seen - now);
		oe_access_move_back(&entry->access, entry->seen - now);
	}
	entry->seen = now;
}

void
oe_admission_end_pauses(void)
{
	HASH_SEQ_STATUS scan;
	OeAccountEntry *entry;

	hash_seq_init(&scan, accounts);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		oe_account_resume(entry->account);
		oe_breaker_ended(&entry->breaker, &(OeBreakerEnding) {0}, 0);
		entry->access.ask_at = 0;
	}
}
