/*
 * worker.c
 *		The loop: takes requests from the channel, answers them from the ledger
 *		or sends them, records what came, and only then hands it over.
 *
 * A request that is new becomes a job; an equal one joins it.  A job's life:
 *
 *	ARRIVED		not looked up in the ledger yet
 *	WAITING		not answered there; waits for the limits, or for its next try
 *	SENDING		admitted; its row is being written
 *	ON_WIRE		with libcurl
 *	ENDED		answer or failure is here; its row is being written
 *	SETTLED		the result is there, for whoever asked
 *	PUT_BACK	its row is in the queue again
 *
 * A call from the queue becomes a job when it is about to be sent: nobody waits
 * for it but its row, and it leaves memory as soon as it is settled or put back.
 * Requests of sessions go first, and may join it.
 *
 * All that one turn of the loop has to write goes into one transaction.  If
 * that fails, each job is tried alone, so that one bad row harms no other.
 * No transaction is open while the loop waits for the network.
 *
 * Memory: jobs and accounts live in worker_mcxt, all else in turn_mcxt, which
 * is reset with each turn.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/async.h"
#include "common/pg_prng.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/http.h"
#include "core/policy.h"
#include "server/budget.h"
#include "server/call.h"
#include "server/channel.h"
#include "server/compat.h"
#include "server/ledger.h"
#include "server/message.h"
#include "server/process.h"
#include "server/queue.h"
#include "server/settings.h"
#include "server/sync.h"
#include "server/upkeep.h"
#include "server/verdict.h"
#include "server/worker.h"

/* New requests that one transaction looks up, so that answers pass between. */
#define GROUP_ARRIVALS_MAX		256

/* How often to look again while somebody holds a lock on the ledger or a row. */
#define LEDGER_BUSY_RETRY_MS	20

/* How often to look whether the database is about to be dropped. */
#define DATABASE_IN_USE_CHECK_MS	250

/* How long a queued call waits for others of its role that are on the wire. */
#define BUDGET_RESERVED_MS		500

/* How often to look for requests that were given up while they wait. */
#define CANCELLED_CHECK_MS		100

/* Queued calls that one transaction takes, likewise. */
#define CLAIM_MAX				256

/* How often to look through the whole queue while it is served. */
#define QUEUE_SWEEP_S			10

/* How often to read the settings that the queue is sent with. */
#define QUEUE_SETTINGS_MS		1000

/* How often to fold what others have added to the tally. */
#define TALLY_FOLD_MS			1000

/* How long to leave alone what cannot be recorded. */
#define UNRECORDABLE_WAIT_S		10

/* How many failures in a row say that the API is away. */
#define TROUBLE_STREAK			8

/* The channel of LISTEN. */

#define EXTENSION_DROPPED	"the extension ocean_enrich was dropped"

typedef enum JobPhase
{
	JOB_ARRIVED,
	JOB_WAITING,
	JOB_SENDING,
	JOB_ON_WIRE,
	JOB_ENDED,
	JOB_SETTLED,
	JOB_PUT_BACK,
} JobPhase;

/* Two requests are equal if the same account is charged for the same body. */
typedef struct JobKey
{
	char		account[OE_ACCOUNT_CHARS];
	uint8		fingerprint[OE_FINGERPRINT_BYTES];
} JobKey;

typedef struct AccountEntry
{
	char		name[OE_ACCOUNT_CHARS];
	OeAccount  *account;
	uint64		full_in_turn;	/* admits no more in this turn ... */
	OeLimits	full_limits;	/* ... under these limits */

	/* Of the queue alone: sessions are told what the API says. */
	int			blocked_by;		/* status that stopped it; 0: none */
	TimestampTz balance_due;	/* then: when to ask for the balance */
	bool		balance_asked;
	int			streak;			/* failures without an answer between them */
	TimestampTz paused_until;
} AccountEntry;

typedef struct Job
{
	dlist_node	node;			/* in "arrived", "waiting" or "ended" */
	JobPhase	phase;
	JobPhase	phase_before;	/* this turn's transaction */
	List	   *slots;			/* whoever asked; the first one pays */
	bool		begun;			/* its slots are running, not submitted */
	bool		background;		/* from the queue */
	OeQueuePosition position;	/* of it there */
	int			postponed;
	bool		passed_by;		/* equal ones in the queue, from there on */
	OeQueuePosition passed;
	AccountEntry *account;
	char	   *bytes;			/* what "call" points into */
	Size		bytes_len;
	OeCall		call;
	TimestampTz requested_at;
	TimestampTz sent_at;
	TimestampTz not_before;
	int			tries;
	bool		in_flight;		/* counted by the limits */
	int64		call_id;
	OeHttpReply *reply;
	OeOutcome	outcome;
	OeCredits	cost;
	char	   *result;			/* packed, for the one who pays */
	Size		result_len;
} Job;

typedef struct JobEntry
{
	JobKey		key;
	Job		   *job;
} JobEntry;

static MemoryContext worker_mcxt;
static MemoryContext turn_mcxt;
static OeHttp *http;
static HTAB *jobs;
static HTAB *accounts;
static dlist_head arrived = DLIST_STATIC_INIT(arrived);
static dlist_head waiting = DLIST_STATIC_INIT(waiting);
static dlist_head ended = DLIST_STATIC_INIT(ended);
static int	reserved_fds;
static uint64 turn_number;
static TimestampTz cancelled_checked_at;
static TimestampTz wake_at;		/* when a waiting job may go; 0: none */
static bool room_was_made;		/* requests ended: others may go at once */
static bool ledger_is_busy;
static bool ledger_is_gone;
static bool orphans_left;		/* rows "sent" from an earlier life */
static bool row_is_busy;		/* of a job that ended */
static uint64 budgets_seen = PG_UINT64_MAX; /* by the queue */
static volatile sig_atomic_t may_be_cancelled;

/* The queue. */
static MemoryContext queue_mcxt;	/* what "queue_call" points to */
static OeCall queue_call;			/* the settings that it is sent with */
static TimestampTz queue_settings_read_at;
static bool queue_has_token;
static TimestampTz queue_wake_at;	/* when it may go on; DT_NOEND: when told */
static TimestampTz queue_swept_at;
static bool queue_touched;			/* since then */
static int	claim_max = CLAIM_MAX;	/* 1: to find the row that does harm */
static int64 queue_length;			/* when we began */
static int64 claiming;				/* the call that is being looked at */
static bool decisions_due;			/* somebody decided about unknown calls */
static OeQueueStatus *status;
static int	background_in_flight;
static TimestampTz tally_folded_at;
static bool tally_unfolded;
static OeTally tally;				/* of this transaction */
static List *settled_calls;			/* likewise; int64 pointers */

static void begin_slots(Job *job);
static void send_job(Job *job);
static void settle_with(Job *job, OeResult *result);

/* ----------------------------------------------------------------
 * Jobs
 * ---------------------------------------------------------------- */

static void
fill_key(JobKey *key, const OeCall *call)
{
	memcpy(key->account, call->account, OE_ACCOUNT_CHARS);
	memcpy(key->fingerprint, call->fingerprint, OE_FINGERPRINT_BYTES);
}

static HTAB *
create_table(const char *name, Size keysize, Size entrysize)
{
	HASHCTL		ctl = {0};

	ctl.keysize = keysize;
	ctl.entrysize = entrysize;
	ctl.hcxt = worker_mcxt;
	return hash_create(name, 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static Job *
new_job(const char *bytes, Size len)
{
	Job		   *job = MemoryContextAllocZero(worker_mcxt, sizeof(Job));
	JobKey		key;

	job->bytes = MemoryContextAlloc(worker_mcxt, len);
	memcpy(job->bytes, bytes, len);
	job->bytes_len = len;
	oe_call_unpack(job->bytes, &job->call);
	job->requested_at = GetCurrentTimestamp();
	fill_key(&key, &job->call);
	((JobEntry *) hash_search(jobs, &key, HASH_ENTER, NULL))->job = job;
	return job;
}

static void
forget_result(Job *job)
{
	if (job->result)
		pfree(job->result);
	job->result = NULL;
}

static void
free_job(Job *job)
{
	JobKey		key;

	if (job->passed_by)
		oe_queue_look_from(&job->passed);
	fill_key(&key, &job->call);
	(void) hash_search(jobs, &key, HASH_REMOVE, NULL);
	oe_http_reply_free(job->reply);
	forget_result(job);
	explicit_bzero(job->bytes, job->bytes_len); /* the token is in it */
	pfree(job->bytes);
	list_free(job->slots);
	pfree(job);
}

static dlist_head *
list_of_phase(JobPhase phase)
{
	switch (phase)
	{
		case JOB_ARRIVED:
			return &arrived;
		case JOB_WAITING:
			return &waiting;
		case JOB_ENDED:
			return &ended;
		case JOB_SENDING:
		case JOB_ON_WIRE:
		case JOB_SETTLED:
		case JOB_PUT_BACK:
			break;
	}
	elog(ERROR, "unexpected phase of a job: %d", (int) phase);
}

static void
move_job(Job *job, JobPhase phase)
{
	job->phase = phase;
	dlist_push_tail(list_of_phase(phase), &job->node);
}

static bool
is_wanted(Job *job)
{
	ListCell   *lc;

	foreach(lc, job->slots)
	{
		if (oe_channel_is_wanted(lfirst_int(lc)))
			return true;
	}
	return false;
}

/* From here on the result is for those who joined, and cost them nothing. */
static void
share_result(Job *job)
{
	MemoryContext old = MemoryContextSwitchTo(worker_mcxt);
	char	   *packed = job->result;
	OeResult	result;

	oe_result_unpack(packed, &result);
	result.reused = true;
	result.credits = "0";
	job->result = oe_result_pack(&result, &job->result_len);
	pfree(packed);
	MemoryContextSwitchTo(old);
}

/* Hand the result, if any, to everybody who asked, and forget the job. */
static void
deliver(Job *job, XLogRecPtr lsn)
{
	ListCell   *lc;

	foreach(lc, job->slots)
	{
		/* The one who pays is the first, or the row in the queue. */
		if (job->result && foreach_current_index(lc) == (job->background ? 0 : 1))
			share_result(job);
		oe_channel_finish(lfirst_int(lc), job->result, job->result_len, lsn);
	}
	free_job(job);
}

/* A waiting one; its row, if it has one, says "failed" already. */
static void
drop_job(Job *job)
{
	dlist_delete(&job->node);
	deliver(job, InvalidXLogRecPtr);
}

static Job *
find_equal(const OeCall *call)
{
	JobKey		key;
	JobEntry   *entry;

	fill_key(&key, call);
	entry = hash_search(jobs, &key, HASH_FIND, NULL);
	return entry ? entry->job : NULL;
}

/*
 * The job that a new request joins, if any.  Not one that was given up: it would
 * impose its settings on the new one.
 */
static Job *
find_job(const JobKey *key)
{
	JobEntry   *entry = hash_search(jobs, key, HASH_FIND, NULL);
	Job		   *job = entry ? entry->job : NULL;

	if (job && (job->phase == JOB_ARRIVED || job->phase == JOB_WAITING) &&
		!is_wanted(job))
	{
		drop_job(job);
		return NULL;
	}
	return job;
}

/*
 * The balance is asked for at once: it costs nothing, and no limit counts it.
 */
static void
ask_for_balance(Job *job)
{
	begin_slots(job);
	if (job->begun)
		send_job(job);
	else
		free_job(job);
}

/* A request from the channel becomes a job, or joins one. */
static void
accept_request(int slot)
{
	OeCall		call;
	JobKey		key;
	Job		   *job;
	Size		len;
	MemoryContext old;

	if (oe_channel_drop_if_cancelled(slot))
		return;
	oe_call_unpack(oe_channel_request(slot, &len), &call);
	fill_key(&key, &call);
	job = find_job(&key);
	if (!job)
	{
		const char *bytes = oe_channel_request(slot, &len);

		job = new_job(bytes, len);
		if (!call.is_balance)
			move_job(job, JOB_ARRIVED);
	}

	/* What is on its way already is beyond cancelling before it was sent. */
	if (job->begun)
	{
		if (!oe_channel_begin(slot))
			return;
		oe_channel_set_call_id(slot, job->call_id);
	}
	old = MemoryContextSwitchTo(worker_mcxt);
	job->slots = lappend_int(job->slots, slot);
	MemoryContextSwitchTo(old);
	if (call.is_balance && job->phase != JOB_ON_WIRE)
		ask_for_balance(job);
}

static void
accept_requests(void)
{
	static int	slots[OE_CHANNEL_SLOTS];
	int			count = oe_channel_take(slots);

	for (int i = 0; i < count; i++)
		accept_request(slots[i]);
}

/* The queue goes on when the balance says that it may. */
static void
learn_from_balance(const Job *job, const OeResult *result)
{
	AccountEntry *entry = hash_search(accounts, job->call.account, HASH_FIND,
									  NULL);

	if (!entry)
		return;
	entry->balance_asked = false;
	if (result->person && (entry->blocked_by != 402 ||
						   oe_balance_is_positive(result->person)))
		entry->blocked_by = 0;
}

static void
end_balance(Job *job)
{
	OeResult	result;

	StartTransactionCommand();
	MemoryContextSwitchTo(turn_mcxt);
	oe_judge_balance(&job->call, job->reply, &result);
	learn_from_balance(job, &result);
	settle_with(job, &result);
	CommitTransactionCommand();
	MemoryContextSwitchTo(turn_mcxt);
	deliver(job, InvalidXLogRecPtr);
}

/* The libcurl side is done with these. */
static void
collect_replies(void)
{
	OeHttpReply *reply;

	oe_http_run(http);
	while ((reply = oe_http_next_reply(http)) != NULL)
	{
		Job		   *job = reply->tag;

		job->reply = reply;
		background_in_flight -= job->background;
		if (job->call.is_balance)
			end_balance(job);
		else
			move_job(job, JOB_ENDED);
	}
}

static void
settle_with(Job *job, OeResult *result)
{
	MemoryContext old = MemoryContextSwitchTo(worker_mcxt);

	forget_result(job);
	result->call_id = result->call_id ? result->call_id : job->call_id;
	if (job->slots != NIL)		/* not only a row in the queue */
		job->result = oe_result_pack(result, &job->result_len);
	job->phase = JOB_SETTLED;
	MemoryContextSwitchTo(old);
}

static void
settle_with_error(Job *job, OeError *error)
{
	OeResult	result = {0};

	oe_result_from_error(error, &result);
	result.credits = "0";
	settle_with(job, &result);
}

/* Nothing was sent, because it could not be recorded before. */
static void
settle_not_recorded(Job *job, const char *reason)
{
	OeError		error = {0};

	oe_error_set(&error, OE_NOT_RECORDED,
				 "could not record the request in ocean_enrich.call");
	oe_error_detail(&error, "Nothing was sent: %s.", reason);
	settle_with_error(job, &error);
}

/* ----------------------------------------------------------------
 * Accounts and admission
 * ---------------------------------------------------------------- */

static TimestampTz
utc_day_start(TimestampTz now)
{
	return now - now % USECS_PER_DAY;
}

static void
out_of_memory(void)
{
	ereport(ERROR,
			errcode(ERRCODE_OUT_OF_MEMORY),
			errmsg("out of memory"));
}

/* What the ledger knows of an account that this worker meets anew. */
static void
restore_account(OeAccount *account, const OeCall *call, TimestampTz now)
{
	OeLedgerUsage usage;
	OeCredits	reserved;

	oe_ledger_usage(call->account, utc_day_start(now), now - USECS_PER_MINUTE,
					&usage);

	/* Bounded, so that the product cannot overflow. */
	reserved = Min(usage.unknown_today, 1000000) *
		Min(call->limits.credits_per_call, OE_CREDITS_ONE * 1000000);
	oe_account_restore_day(account, now, usage.requests_today,
						   Min(usage.credits_today, OE_CREDITS_MAX) + reserved);
	for (int i = 0; i < usage.sent_count; i++)
	{
		if (!oe_account_restore_sent(account, usage.sent[i]))
			out_of_memory();
	}
	if (usage.paused_until > now)
		oe_account_pause(account, usage.paused_until);
}

/* Needs an open transaction when the account is new. */
static AccountEntry *
find_account(const OeCall *call, TimestampTz now)
{
	AccountEntry *entry;
	OeAccount  *account;

	entry = hash_search(accounts, call->account, HASH_FIND, NULL);
	if (entry)
		return entry;

	account = oe_account_new();
	if (!account)
		out_of_memory();
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
		   sizeof(AccountEntry) - OE_ACCOUNT_CHARS);
	entry->account = account;
	return entry;
}

/*
 * See to it that the budgets of the role are known, and what is spent of them; in
 * a transaction.  Only for what is to be sent: trouble with the budgets must not
 * keep an answer from being recorded.  What is on the wire now is counted as
 * such, whatever its row says.
 */
static void
prepare_budget(const char *role, OeCredits reserve, TimestampTz now)
{
	int64		call_ids[OE_CHANNEL_SLOTS];
	OeCredits	reserved[OE_CHANNEL_SLOTS];
	int			count = 0;
	HASH_SEQ_STATUS scan;
	JobEntry   *entry;

	oe_budget_refresh();
	if (!oe_budget_is_to_be_restored(role))
		return;
	hash_seq_init(&scan, jobs);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		Job		   *job = entry->job;

		if (!job->in_flight || strcmp(job->call.role, role) != 0)
			continue;
		if (count == OE_CHANNEL_SLOTS)
			elog(ERROR, "more requests are in flight than there are slots");
		call_ids[count] = job->call_id;
		reserved[count] = job->call.limits.credits_per_call;
		count++;
	}
	oe_budget_restore(role, call_ids, count, reserve, now);
	for (int i = 0; i < count; i++)
		oe_budget_sent(role, reserved[i], now);
}

/*
 * Sockets count against the server's own limit of open files.  The first one
 * is ours in any case, or nothing would ever go.
 */
static bool
reserve_fd(int on_wire)
{
	if (on_wire < reserved_fds)
		return true;
	if (reserved_fds == 0)
		ReserveExternalFD();
	else if (!AcquireExternalFD())
		return false;
	reserved_fds++;
	oe_http_keep_connections(http, reserved_fds);
	return true;
}

/*
 * Once a job has to wait, those behind it in the same account and under the same
 * limits are not asked again in this turn.
 */
static OeAdmission
ask_account(Job *job, TimestampTz now, OeTime *when, OeError *error)
{
	AccountEntry *entry = job->account;
	const OeLimits *limits = &job->call.limits;
	OeAdmission admission;

	if (entry->full_in_turn == turn_number &&
		memcmp(&entry->full_limits, limits, sizeof(OeLimits)) == 0)
		return OE_ADMIT_WHEN_ONE_ENDS;
	admission = oe_account_admit(entry->account, limits, now, when, error);
	if (admission == OE_ADMIT_LATER || admission == OE_ADMIT_WHEN_ONE_ENDS)
	{
		entry->full_in_turn = turn_number;
		entry->full_limits = *limits;
	}
	return admission;
}

/*
 * May the job go now?  Asked for each job in the order of arrival: first the
 * budget of the role, which holds up nobody else, then the account.
 */
static OeAdmission
ask_admission(Job *job, TimestampTz now, OeError *error)
{
	OeTime		when = job->not_before;
	OeAdmission admission = OE_ADMIT_LATER;

	if (job->not_before <= now)
		admission = oe_budget_admit(job->call.role,
									job->call.limits.credits_per_call, now,
									&when, error);
	if (admission == OE_ADMIT_NOW)
		admission = ask_account(job, now, &when, error);
	if (admission == OE_ADMIT_LATER && (wake_at == 0 || when < wake_at))
		wake_at = when;
	return admission;
}

/* Those who gave up before it was sent come off the list. */
static void
begin_slots(Job *job)
{
	ListCell   *lc;

	if (job->begun)
		return;
	foreach(lc, job->slots)
	{
		if (!oe_channel_begin(lfirst_int(lc)))
			job->slots = foreach_delete_current(job->slots, lc);
	}
	job->begun = job->slots != NIL;
}

/*
 * It may never go, for the one who would pay.  Another role that joined asks
 * anew, on its own account.
 */
static void
refuse(Job *job, OeError *error)
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
	settle_with_error(job, error);
}

/* From now on the limits count it. */
static void
count_sending(Job *job, TimestampTz now)
{
	const OeLimits *limits = &job->call.limits;

	if (!oe_account_sent(job->account->account, limits, now))
		out_of_memory();
	oe_budget_sent(job->call.role, limits->credits_per_call, now);
	job->in_flight = true;
	job->sent_at = now;
	job->tries++;
}

/*
 * Let the job go if it may: it is SENDING then.  It is SETTLED when it never
 * may, and stays WAITING otherwise, without slots if nobody wants it any more.
 */
static void
admit(Job *job, int on_wire, TimestampTz now)
{
	OeError		error = {0};

	prepare_budget(job->call.role, job->call.limits.credits_per_call, now);
	switch (ask_admission(job, now, &error))
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
	if (!reserve_fd(on_wire))
		return;
	begin_slots(job);
	if (job->slots == NIL)
		return;
	count_sending(job, now);
	job->phase = JOB_SENDING;
}

/* Is there a waiting job that may go, or never may? */
static bool
any_waiting_is_due(TimestampTz now)
{
	dlist_iter	iter;
	OeError		error = {0};

	dlist_foreach(iter, &waiting)
	{
		Job		   *job = dlist_container(Job, node, iter.cur);

		switch (ask_admission(job, now, &error))
		{
			case OE_ADMIT_LATER:
			case OE_ADMIT_WHEN_ONE_ENDS:
				continue;
			case OE_ADMIT_NOW:
			case OE_ADMIT_NEVER:
				oe_error_free(&error);
				return true;
		}
	}
	return false;
}

static void
drop_unwanted(TimestampTz now)
{
	dlist_mutable_iter iter;

	if (now - cancelled_checked_at < CANCELLED_CHECK_MS * INT64CONST(1000))
		return;
	cancelled_checked_at = now;
	dlist_foreach_modify(iter, &waiting)
	{
		Job		   *job = dlist_container(Job, node, iter.cur);

		if (!is_wanted(job))
			drop_job(job);
	}
}

/* ----------------------------------------------------------------
 * What one transaction records
 * ---------------------------------------------------------------- */

static void
fill_row(const Job *job, OeLedgerRow *row)
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
write_row(Job *job, OeLedgerRow *row)
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

/* It does not go after all. */
static void
undo_sending(Job *job, TimestampTz now)
{
	oe_account_unsent(job->account->account, &job->call.limits, job->sent_at,
					  now);
	oe_budget_ended(job->call.role, job->sent_at, now, OE_FAILED,
					job->call.limits.credits_per_call, 0);
	job->in_flight = false;
	job->tries--;
}

/* A job whose row cannot be written is put off. */
static void
record_sending(Job *job, TimestampTz now)
{
	OeLedgerRow row = {0};

	/* What is queued would be sent again after a crash, and not be missed. */
	if (!oe_record_before_send && !job->background)
		return;
	fill_row(job, &row);
	row.state = OE_LEDGER_SENT;
	if (write_row(job, &row))
		return;
	undo_sending(job, now);
	job->not_before = now + LEDGER_BUSY_RETRY_MS * INT64CONST(1000);
	job->phase = JOB_WAITING;
}

static void
judge(Job *job, OeVerdict *verdict)
{
	oe_judge_reply(&job->call, job->reply, verdict);
	job->outcome = verdict->outcome;
	job->cost = verdict->cost;
}

/* When the job is tried again; 0: it is not. */
static TimestampTz
next_try(const Job *job, TimestampTz now)
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

/* One call of the queue has come to its end in this transaction. */
static void
tally_settled(int64 call_id, OeLedgerState state, OeCredits cost)
{
	int64	   *settled = palloc(sizeof(int64));

	switch (state)
	{
		case OE_LEDGER_ANSWERED:
			tally.answered++;
			tally.credits += cost;
			break;
		case OE_LEDGER_REFUSED:
			tally.refused++;
			break;
		case OE_LEDGER_FAILED:
			tally.failed++;
			break;
		case OE_LEDGER_UNKNOWN:
			tally.unknown++;
			break;
		case OE_LEDGER_SENT:
			break;
	}
	*settled = call_id;
	settled_calls = lappend(settled_calls, settled);
}

/*
 * Back into the queue, if that is what the ending means.  A job whose row
 * cannot be written stays ENDED.  False: the job is to be settled.
 */
static bool
put_back(Job *job, const OeVerdict *verdict, TimestampTz now)
{
	OePatience	patience;
	OeHttpResult result = job->reply ? job->reply->result : OE_HTTP_NOT_SENT;
	TimestampTz due = job->position.due;
	int			times = 0;
	int64		wait_ms;

	oe_settings_patience(&patience);
	switch (oe_policy_queue(&patience, result, verdict->status,
							job->reply ? job->reply->retry_after_ms : -1,
							job->postponed,
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
	if (!oe_queue_put_back(job->call_id, due, times, job->tries,
						   verdict->status, verdict->detail))
		return true;
	job->position.due = due;
	job->phase = JOB_PUT_BACK;
	tally.waiting++;
	return true;
}

/*
 * A job that is tried again is WAITING, with the last result at hand.  One whose
 * row cannot be written stays ENDED.
 */
static void
record_ended(Job *job, TimestampTz now)
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
	settle_with(job, &verdict.result);
	if (job->background)
		tally_settled(job->call_id, verdict.state, job->cost);
	else if (again)
	{
		job->not_before = again;
		job->phase = JOB_WAITING;
	}
}

static void
record_arrived(Job *job, int on_wire, TimestampTz now)
{
	OeLedgerHit hit;
	OeResult	result;
	TimestampTz since = job->call.reuse_for_us > 0
		? now - job->call.reuse_for_us : DT_NOEND;

	if (oe_ledger_find(job->call.account, job->call.fingerprint, since, &hit))
	{
		/* A live job of this key would have been joined: it is an orphan. */
		if (hit.state == OE_LEDGER_SENT)
			oe_ledger_give_up(hit.call_id);
		oe_judge_hit(&hit, &result);
		settle_with(job, &result);
		return;
	}
	job->account = find_account(&job->call, now);
	job->phase = JOB_WAITING;
	admit(job, on_wire, now);
}

/* All that the ledger has to do with the job in this turn. */
static void
record(Job *job, int *on_wire, TimestampTz now)
{
	if (job->phase == JOB_ENDED)
		record_ended(job, now);
	else if (job->phase == JOB_ARRIVED)
		record_arrived(job, *on_wire, now);
	else
		admit(job, *on_wire, now);
	if (job->phase == JOB_SENDING)
		record_sending(job, now);
	if (job->phase == JOB_SENDING)
		(*on_wire)++;
}

/* ----------------------------------------------------------------
 * After the transaction
 * ---------------------------------------------------------------- */

/* The queue pauses when the next call would meet the same end. */
static void
learn_from_ending(Job *job, TimestampTz now)
{
	AccountEntry *entry = job->account;
	int			http_status = job->reply ? job->reply->status : 0;
	bool		reached = job->reply && job->reply->result == OE_HTTP_COMPLETE;
	OePatience	patience;
	int			wait_ms;

	if (http_status == 401 || http_status == 402 || http_status == 403)
	{
		entry->blocked_by = http_status;
		entry->balance_due = now + oe_balance_interval_s * USECS_PER_SEC;
	}
	if (reached && http_status != 429 && http_status != 502 && http_status != 503)
	{
		entry->streak = 0;
		return;
	}

	/* One that fails now and then is no reason, 429 is. */
	entry->streak++;
	if (entry->streak < TROUBLE_STREAK && http_status != 429)
		return;
	oe_settings_patience(&patience);
	wait_ms = oe_policy_backoff_ms(http_status == 429 ? entry->streak
								   : entry->streak - TROUBLE_STREAK + 1,
								   patience.retry_wait_max_ms,
								   pg_prng_double(&pg_global_prng_state));
	entry->paused_until = Max(entry->paused_until,
							  now + wait_ms * INT64CONST(1000));
}

/* The limits learn how it ended, once that is recorded. */
static void
count_ending(Job *job, TimestampTz now)
{
	OeAccount  *account = job->account->account;

	oe_account_ended(account, job->sent_at, now, job->outcome,
					 job->call.limits.credits_per_call, job->cost);
	oe_budget_ended(job->call.role, job->sent_at, now, job->outcome,
					job->call.limits.credits_per_call, job->cost);
	job->in_flight = false;
	if (job->reply && job->reply->retry_after_ms > 0)
		oe_account_pause(account,
						 now + job->reply->retry_after_ms * INT64CONST(1000));
	if (job->background)
		learn_from_ending(job, now);
	oe_http_reply_free(job->reply);
	job->reply = NULL;
	room_was_made = true;
}

/*
 * Sessions that had joined a queued call which goes back: for them it is asked
 * at once, by their own settings.
 */
static void
begin_anew(Job *job)
{
	Size		len;
	const char *bytes;
	List	   *slots = job->slots;
	Job		   *anew;

	job->slots = NIL;
	free_job(job);
	if (slots == NIL)
		return;
	bytes = oe_channel_request(linitial_int(slots), &len);
	anew = new_job(bytes, len);
	anew->slots = slots;
	anew->begun = true;
	move_job(anew, JOB_ARRIVED);
}

static void
send_job(Job *job)
{
	OeHttpRequest request = {0};
	OeError		error = {0};

	request.url = job->call.url;
	request.token = job->call.token;
	request.token_in_query = job->call.token_in_query;
	request.ca_file = job->call.ca_file;
	request.proxy = job->call.proxy;
	request.body = job->call.body;
	request.body_len = job->call.body ? strlen(job->call.body) : 0;
	request.connect_timeout_ms = job->call.connect_timeout_ms;
	request.request_timeout_ms = job->call.request_timeout_ms;
	request.tag = job;
	job->phase = JOB_ON_WIRE;
	if (oe_http_submit(http, &request, &error))
	{
		background_in_flight += job->background;
		return;
	}

	/* Ended without a reply: the next turn records that it was not sent. */
	oe_error_free(&error);
	if (job->call.is_balance)
		end_balance(job);
	else
		move_job(job, JOB_ENDED);
}

/* The transaction is committed: what it says may be acted on. */
static void
act(Job *job, XLogRecPtr lsn, TimestampTz now)
{
	if (job->phase_before == JOB_ENDED && job->phase != JOB_ENDED)
		count_ending(job, now);
	switch (job->phase)
	{
		case JOB_SETTLED:
			deliver(job, lsn);
			break;
		case JOB_SENDING:
			send_job(job);
			break;
		case JOB_PUT_BACK:
			oe_queue_look_from(&job->position);
			begin_anew(job);
			break;
		case JOB_WAITING:
			if (job->slots == NIL)
				free_job(job);
			else
				move_job(job, JOB_WAITING);
			break;
		case JOB_ENDED:
			row_is_busy = true;
			move_job(job, JOB_ENDED);
			break;
		case JOB_ARRIVED:
		case JOB_ON_WIRE:
			elog(ERROR, "unexpected phase of a job: %d", (int) job->phase);
	}
}

/* The transaction failed: back to where the job was before it. */
static void
undo(Job *job, TimestampTz now)
{
	if (job->phase == JOB_SENDING)
		undo_sending(job, now);
	job->phase = job->phase_before;
}

/* The ledger cannot be written: say so, but hand over what was paid. */
static void
give_up_recording(Job *job, const char *reason, TimestampTz now)
{
	OeVerdict	verdict;

	if (job->phase_before != JOB_ENDED)
	{
		settle_not_recorded(job, reason);
		deliver(job, InvalidXLogRecPtr);
		return;
	}
	ereport(WARNING,
			errmsg("could not record the answer of call " INT64_FORMAT
				   " in ocean_enrich.call: %s", job->call_id, reason));
	StartTransactionCommand();
	judge(job, &verdict);
	settle_with(job, &verdict.result);
	CommitTransactionCommand();
	MemoryContextSwitchTo(turn_mcxt);
	count_ending(job, now);
	orphans_left |= job->background;
	deliver(job, InvalidXLogRecPtr);
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

	while (!dlist_is_empty(&ended))
		group = lappend(group, dlist_container(Job, node,
											   dlist_pop_head_node(&ended)));
	dlist_foreach_modify(iter, &waiting)
	{
		dlist_delete(iter.cur);
		group = lappend(group, dlist_container(Job, node, iter.cur));
	}
	for (int i = 0; i < GROUP_ARRIVALS_MAX && !dlist_is_empty(&arrived); i++)
		group = lappend(group, dlist_container(Job, node,
											   dlist_pop_head_node(&arrived)));
	return group;
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
	if (memcmp(&tally, &nothing, sizeof(tally)) != 0)
		oe_tally_write(&tally, now);
}

/*
 * "work" in a transaction of the ledger.  NULL: committed up to *lsn, or the
 * ledger is busy or gone.  Else the reason why it failed.
 */
static char *
in_ledger(void (*work) (void *arg, TimestampTz now), void *arg,
		  TimestampTz now, XLogRecPtr *lsn)
{
	volatile OeLedgerAccess access = OE_LEDGER_READY;
	char	   *volatile reason = NULL;

	memset(&tally, 0, sizeof(tally));
	settled_calls = NIL;
	may_be_cancelled = true;
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

		may_be_cancelled = false;
		settled_calls = NIL;
		/* Not its context: that may quote a person. */
		MemoryContextSwitchTo(turn_mcxt);
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
	may_be_cancelled = false;
	QueryCancelPending = false;

	ledger_is_busy = access == OE_LEDGER_BUSY;
	ledger_is_gone = access == OE_LEDGER_GONE;
	if (settled_calls != NIL)
	{
		oe_status_count(status, now, list_length(settled_calls));
		oe_channel_announce_settled();
	}
	return reason;
}

static void
record_jobs(void *arg, TimestampTz now)
{
	int			on_wire = oe_http_in_flight(http);
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
		((Job *) lfirst(lc))->phase_before = ((Job *) lfirst(lc))->phase;
	reason = in_ledger(record_jobs, group, now, &lsn);
	if (reason || ledger_is_busy || ledger_is_gone)
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
		sending |= ((Job *) lfirst(lc))->phase == JOB_SENDING;
	if (sending && oe_record_before_send)
		XLogFlush(lsn);
	foreach(lc, group)
		act(lfirst(lc), lsn, now);
	if (sending)
		oe_http_run(http);
	return NULL;
}

static void
put_off(Job *job)
{
	move_job(job, job->phase);
}

/* One job that harmed its group, or just was in a group that was harmed. */
static void
record_alone(Job *job, TimestampTz now)
{
	char	   *reason = record_group(list_make1(job), now);

	if (reason)
		give_up_recording(job, reason, now);
	else if (ledger_is_busy || ledger_is_gone)
		put_off(job);
}

/* Changed budgets may let a waiting job go; else they can wait for a call. */
static bool
budgets_are_due(void)
{
	return !dlist_is_empty(&waiting) && oe_budget_is_stale();
}

static bool
has_something_to_record(TimestampTz now)
{
	return !dlist_is_empty(&arrived) || !dlist_is_empty(&ended) ||
		budgets_are_due() || any_waiting_is_due(now);
}

static void
give_up_all(const char *reason, TimestampTz now)
{
	List	   *group;
	ListCell   *lc;

	while ((group = collect_group()) != NIL)
	{
		foreach(lc, group)
		{
			Job		   *job = lfirst(lc);

			job->phase_before = job->phase;
			give_up_recording(job, reason, now);
		}
	}
}

/* ----------------------------------------------------------------
 * The queue
 * ---------------------------------------------------------------- */

/*
 * The settings that the queue is sent with: the worker's own.  The token may
 * stand in a file, which does not tell when it changes.  Without a usable
 * token nothing goes.
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
		queue_has_token = true;
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(turn_mcxt);
		FlushErrorState();
		AbortCurrentTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
}

/* A call of the queue as a job, not in any list. */
static Job *
queued_job(const OeQueuedCall *queued)
{
	OeCall		call = queue_call;
	Job		   *job;
	char	   *bytes;
	Size		len;

	strlcpy(call.role, queued->role, sizeof(call.role));
	memcpy(call.fingerprint, queued->fingerprint, OE_FINGERPRINT_BYTES);
	call.body = oe_call_body(queued->request, true);
	bytes = oe_call_pack(&call, &len);
	job = new_job(bytes, len);
	explicit_bzero(bytes, len);
	pfree(bytes);
	job->background = true;
	job->begun = true;
	job->position = queued->position;
	job->postponed = queued->postponed;
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
	tally_settled(row.call_id, row.state, 0);
	tally.waiting--;
}

/* An earlier equal request settles it, or has to be decided about first. */
static void
settle_by_hit(const OeQueuedCall *queued, OeLedgerHit *hit, TimestampTz now)
{
	int64		call_id = queued->position.call_id;

	if (hit->state == OE_LEDGER_SENT)
		oe_ledger_give_up(hit->call_id);
	if (hit->state == OE_LEDGER_ANSWERED || hit->state == OE_LEDGER_REFUSED)
	{
		oe_queue_settle_reused(call_id, hit->call_id, now);
		if (oe_upkeep_has_webhook(JsonbToCString(NULL, &queued->request->root,
												 VARSIZE(queued->request))))
			oe_upkeep_answered(call_id);
		tally_settled(call_id, OE_LEDGER_SENT, 0);
		tally.reused++;
		tally.waiting--;
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
pass_by(Job *job, const OeQueuePosition *position)
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
budget_lets_go(const OeQueuedCall *queued, TimestampTz now)
{
	OeCredits	reserve = queue_call.limits.credits_per_call;
	OeTime		when = now + BUDGET_RESERVED_MS * INT64CONST(1000);
	OeError		error = {0};

	prepare_budget(queued->role, reserve, now);
	if (oe_budget_admit(queued->role, reserve, now, &when, &error) == OE_ADMIT_NOW)
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
	AccountEntry *account;
	List	   *jobs;			/* about to be sent */
	bool		cut_short;		/* by a limit: there is more */
} Claim;

/* Send one queued call, or settle it.  False: no limit lets it go now. */
static bool
take_queued(Claim *claim, const OeQueuedCall *queued, int on_wire,
			TimestampTz now)
{
	TimestampTz since = queue_call.reuse_for_us > 0
		? now - queue_call.reuse_for_us : DT_NOEND;
	OeLedgerHit hit;
	OeError		error = {0};
	OeTime		when;
	JobKey		key;
	JobEntry   *entry;
	Job		   *job;

	memcpy(key.account, queue_call.account, OE_ACCOUNT_CHARS);
	memcpy(key.fingerprint, queued->fingerprint, OE_FINGERPRINT_BYTES);
	entry = hash_search(jobs, &key, HASH_FIND, NULL);
	if (entry)
		pass_by(entry->job, &queued->position);
	else if (!queued->request)
		fail_queued(queued, "its request was erased", now);
	else if (oe_ledger_find(queue_call.account, queued->fingerprint, since, &hit))
		settle_by_hit(queued, &hit, now);
	else if (budget_lets_go(queued, now))
	{
		if (oe_account_admit(claim->account->account, &queue_call.limits, now,
							 &when, &error) != OE_ADMIT_NOW)
		{
			oe_error_free(&error);
			return false;
		}
		if (!reserve_fd(on_wire))
			return false;
		job = queued_job(queued);
		job->account = claim->account;
		count_sending(job, now);
		job->phase = JOB_SENDING;
		claim->jobs = lappend(claim->jobs, job);
		record_sending(job, now);
		tally.waiting--;
	}
	oe_queue_pass(&queued->position);
	return true;
}

/* No more are claimed, and thereby locked, than may go now. */
static int
room_for_claims(const AccountEntry *entry, TimestampTz now)
{
	const OeLimits *limits = &queue_call.limits;
	int			room = claim_max;
	OeUsage		usage;

	if (entry->streak >= TROUBLE_STREAK)
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
	int			on_wire = oe_http_in_flight(http);
	OeQueuedCall *calls;
	int			count;

	claim->account = find_account(&queue_call, now);
	calls = oe_queue_claim(room_for_claims(claim->account, now), now, &count);
	for (int i = 0; i < count && !claim->cut_short; i++)
	{
		claiming = calls[i].position.call_id;
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
	(void) oe_queue_put_back(claiming, now + USECS_PER_HOUR, 1, 0, 0, arg);
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
		undo_sending(lfirst(lc), now);
		free_job(lfirst(lc));
	}
	if (!reason)
		return;
	if (claim_max > 1 || claiming == 0)
		claim_max = 1;
	else if (in_ledger(put_aside, psprintf("could not be sent: %s", reason),
					   now, &lsn) == NULL)
		return;
	else
		queue_wake_at = now + UNRECORDABLE_WAIT_S * USECS_PER_SEC;
	ereport(LOG,
			errmsg("could not send what is queued: %s", reason));
}

static TimestampTz queue_allowed_at(TimestampTz now);

static void
claim_some(TimestampTz now)
{
	Claim		claim = {0};
	XLogRecPtr	lsn;
	ListCell   *lc;
	char	   *reason;

	claiming = 0;
	oe_queue_save();
	reason = in_ledger(claim_calls, &claim, now, &lsn);
	if (reason || ledger_is_busy || ledger_is_gone)
	{
		queue_wake_at = now + LEDGER_BUSY_RETRY_MS * INT64CONST(1000);
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
		act(lfirst(lc), lsn, now);
	oe_http_run(http);
}

/* Does a session wait for the limits that the queue would use up? */
static bool
sessions_wait(TimestampTz now)
{
	dlist_iter	iter;

	dlist_foreach(iter, &waiting)
	{
		if (dlist_container(Job, node, iter.cur)->not_before <= now)
			return true;
	}
	return !dlist_is_empty(&arrived);
}

static TimestampTz
next_utc_day(TimestampTz now)
{
	return utc_day_start(now) + USECS_PER_DAY;
}

/* Why nothing goes, for the view. */
static void
say_pause(const char *reason, TimestampTz until)
{
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
limits_allow_at(AccountEntry *entry, TimestampTz now)
{
	OeError		error = {0};
	OeTime		when = now;
	OeUsage		usage;

	switch (oe_account_admit(entry->account, &queue_call.limits, now, &when,
							 &error))
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
		when = next_utc_day(now);
	say_pause(limit_name(error.code), when);
	oe_error_free(&error);
	return when;
}

/* The API has stopped the account: its balance says when that is over. */
static TimestampTz
blocked_until(AccountEntry *entry, TimestampTz now)
{
	OeCall		call = queue_call;
	Job		   *job;
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
	job = find_equal(&call);
	if (!job)
	{
		job = new_job(bytes, len);
		job->begun = true;
		send_job(job);
	}
	explicit_bzero(bytes, len);
	return DT_NOEND;
}

/* When the queue may go on; "now": at once, DT_NOEND: not before something ends. */
static TimestampTz
queue_allowed_at(TimestampTz now)
{
	AccountEntry *entry;

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
	entry = hash_search(accounts, queue_call.account, HASH_FIND, NULL);
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
	if (entry->streak >= TROUBLE_STREAK && background_in_flight > 0)
		return DT_NOEND;
	if (sessions_wait(now))
		return DT_NOEND;
	return limits_allow_at(entry, now);
}

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
	oe_tally_fold(&tally);
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
	tally_unfolded = in_ledger(fold_tally, NULL, now, &lsn) != NULL ||
		ledger_is_busy;
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
	if (in_ledger(release_for_budgets, NULL, now, &lsn) != NULL || ledger_is_busy)
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
	oe_queue_learn(&news);
	decisions_due |= news.decided;
	queue_touched = true;
	tally_unfolded = true;
}

static void
obey_decisions(void *arg, TimestampTz now)
{
	oe_queue_obey(&tally);
}

static void
see_to_decisions(TimestampTz now)
{
	XLogRecPtr	lsn;
	char	   *reason;

	if (!decisions_due)
		return;
	reason = in_ledger(obey_decisions, NULL, now, &lsn);
	decisions_due = ledger_is_busy;
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

	if (!oe_queue_needs_survey())
		return true;
	return in_ledger(survey_queue, NULL, now, &lsn) == NULL &&
		!ledger_is_busy && !ledger_is_gone;
}

static void
serve_queue(TimestampTz now)
{
	hear_news();
	see_to_decisions(now);
	sweep_queue(now);
	keep_tally(now);
	see_to_budgets(now);
	if (!look_through_queue(now))
	{
		queue_wake_at = now + UNRECORDABLE_WAIT_S * USECS_PER_SEC;
		return;
	}
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

static void
record_all(TimestampTz now)
{
	List	   *group;
	ListCell   *lc;
	char	   *reason;

	/* What has_something_to_record() asked, the group asks again. */
	turn_number++;
	group = collect_group();
	reason = record_group(group, now);
	if (reason)
	{
		foreach(lc, group)
			record_alone(lfirst(lc), now);
	}
	else if (ledger_is_busy || ledger_is_gone)
	{
		foreach(lc, group)
			put_off(lfirst(lc));
	}
}

static void
take_a_turn(void)
{
	TimestampTz now;

	turn_number++;
	wake_at = 0;
	room_was_made = false;
	ledger_is_busy = false;
	row_is_busy = false;
	collect_replies();
	accept_requests();

	/* Only now, or a request would be sent before it was asked for. */
	now = GetCurrentTimestamp();
	drop_unwanted(now);
	if (has_something_to_record(now))
		record_all(now);
	if (!ledger_is_busy && !ledger_is_gone)
		serve_queue(now);
	status->in_flight = background_in_flight;
	status->next_due = oe_queue_next_due();
	if (ledger_is_gone)
		give_up_all(EXTENSION_DROPPED, now);
}

/* ----------------------------------------------------------------
 * The life of the worker
 * ---------------------------------------------------------------- */

/* ALTER DATABASE ... SET reaches us too; what matters is set by force. */
static void
force_settings(void)
{
	static const OeForcedSetting settings[] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_deferrable", "off"},
		{"session_replication_role", "origin"},
		{"statement_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		/* No lock that we did not foresee may hold up everybody for long. */
		{"lock_timeout", "1s"},
		/* An error is no reason to leave with requests on the wire. */
		{"exit_on_error", "off"},
		{"transaction_timeout", "0"},
		/* The sessions flush what they were given. */
		{"synchronous_commit", "off"},
		/* Plans are made while the ledger is small, and used when it is large. */
		{"enable_seqscan", "off"},
		{"jit", "off"},
		/* What is queued was checked when it was submitted. */
		{"ocean_enrich.unknown_keys", "pass"},
		{"row_security", "on"},
		{"application_name", "ocean_enrich worker"},
	};

	oe_process_force(settings, lengthof(settings));
}

/*
 * Requests that an earlier life left on the wire may have been paid.  Only
 * while we have none there ourselves.  False: the ledger is locked.
 */
static bool
try_reconcile(void)
{
	OeLedgerAccess access = oe_ledger_begin();
	uint64		count = 0;

	ledger_is_gone = access == OE_LEDGER_GONE;
	if (access != OE_LEDGER_READY)
		return ledger_is_gone;

	/* A row that somebody has locked can wait, and so can we with it. */
	orphans_left = !oe_ledger_reconcile(&count);

	/* What was added or deleted by hand is counted, too. */
	memset(&tally, 0, sizeof(tally));
	queue_length = oe_tally_recount(&tally);
	if (tally.waiting != 0)
		oe_tally_write(&tally, GetCurrentTimestamp());
	oe_queue_survey();

	/*
	 * What an earlier worker committed may be served from now on, so it has to
	 * be on disk.  A transaction id gives us a commit record behind all of that.
	 * (The insert position will not do: at the end of a page it is one that
	 * XLogFlush() cannot reach.)
	 */
	(void) GetCurrentTransactionId();
	XLogFlush(oe_ledger_commit());
	if (count > 0)
		ereport(LOG,
				errmsg("outcome of " UINT64_FORMAT " enrichment requests is unknown",
					   count),
				errdetail("They were on the wire when the server or the worker ended; "
						  "view ocean_enrich.unknown_calls lists them."));
	return true;
}

static void
reconcile(void)
{
	while (!try_reconcile() && !ShutdownRequestPending)
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LEDGER_BUSY_RETRY_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* After a restart, nobody else does it. */
static void
look_for_kept_columns(void *arg, TimestampTz now)
{
	oe_ledger_use_spi();
	if (oe_sync_has_work())
		oe_sync_wake_at_commit();
}

static WaitEventSet *
create_wait_set(void)
{
	WaitEventSet *set = oe_create_wait_event_set(3);

	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(set, WL_SOCKET_READABLE, oe_http_fd(http), NULL, NULL);
	return set;
}

static void
shorten(long *timeout_ms, long candidate)
{
	if (*timeout_ms < 0 || candidate < *timeout_ms)
		*timeout_ms = Max(candidate, 0);
}

static void
wait_for_something(WaitEventSet *set, uint32 wait_event)
{
	WaitEvent	event;
	long		timeout_ms = oe_http_timeout_ms(http);

	if (ledger_is_busy || row_is_busy || budgets_are_due())
		shorten(&timeout_ms, LEDGER_BUSY_RETRY_MS);
	else if (!dlist_is_empty(&arrived) || !dlist_is_empty(&ended))
		timeout_ms = 0;
	if (!dlist_is_empty(&waiting))
		shorten(&timeout_ms, room_was_made ? 0 : CANCELLED_CHECK_MS);
	if (queue_wake_at != DT_NOEND)
		shorten(&timeout_ms, TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
															 queue_wake_at));
	if (wake_at != 0)
		shorten(&timeout_ms,
				TimestampDifferenceMilliseconds(GetCurrentTimestamp(), wake_at));
	if (hash_get_num_entries(jobs) == 0)
	{
		shorten(&timeout_ms, DATABASE_IN_USE_CHECK_MS);
		shorten(&timeout_ms,
				TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
												oe_upkeep_due_at()));
	}
	(void) WaitEventSetWait(set, timeout_ms, &event, 1, wait_event);
}

/*
 * Nothing to do?  Then leave after the idle time, and at once when no session
 * is left in the database: somebody may want to drop it.
 */
static bool
may_leave(TimestampTz *idle_since)
{
	static TimestampTz checked_at = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (hash_get_num_entries(jobs) > 0)
	{
		*idle_since = 0;
		return false;
	}
	if (ledger_is_gone)
		return true;
	if (oe_queue_next_due() != DT_NOEND || queue_touched)
	{
		*idle_since = 0;
		if (now - checked_at < DATABASE_IN_USE_CHECK_MS * INT64CONST(1000))
			return false;
		checked_at = now;
		return CountDBConnections(MyDatabaseId) == 0 && oe_process_database_is_wanted();
	}
	if (*idle_since == 0)
		*idle_since = now;
	if (now - *idle_since >= oe_worker_idle_timeout_s * USECS_PER_SEC)
		return true;
	if (now - checked_at < DATABASE_IN_USE_CHECK_MS * INT64CONST(1000))
		return false;
	checked_at = now;
	if (orphans_left)
		(void) try_reconcile();
	return CountDBConnections(MyDatabaseId) == 0;
}

/* Not a call: lock_timeout ends its waits, and then it is tried again. */
static void
do_upkeep(void)
{
	may_be_cancelled = true;
	oe_upkeep(GetCurrentTimestamp());
	may_be_cancelled = false;
	QueryCancelPending = false;
}

/* Unsent requests wait for the next worker; what is tried again, no longer. */
static void
hand_back_waiting(dlist_head *list)
{
	while (!dlist_is_empty(list))
	{
		Job		   *job = dlist_container(Job, node, dlist_pop_head_node(list));
		ListCell   *lc;

		if (job->begun)
		{
			if (!job->result)
				settle_not_recorded(job, "the worker was stopped");
			deliver(job, InvalidXLogRecPtr);
			continue;
		}
		foreach(lc, job->slots)
			oe_channel_give_back(lfirst_int(lc));
		free_job(job);
	}
}

/*
 * Told to stop: finish what is on the wire, for a bounded time.  What is left
 * after that gets its "outcome unknown" from the channel when the process ends,
 * and its row from the next worker.
 */
static void
drain(WaitEventSet *set, uint32 wait_event)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													   OE_DRAIN_MAX_MS);

	hand_back_waiting(&arrived);
	hand_back_waiting(&waiting);
	while (hash_get_num_entries(jobs) > 0)
	{
		TimestampTz now = GetCurrentTimestamp();
		List	   *group;
		ListCell   *lc;

		if (now >= deadline)
			break;
		ResetLatch(MyLatch);
		MemoryContextReset(turn_mcxt);
		wake_at = deadline;
		ledger_is_busy = false;
		row_is_busy = false;
		collect_replies();
		if (!dlist_is_empty(&ended))
		{
			group = collect_group();
			foreach(lc, group)
				record_alone(lfirst(lc), now);
			if (ledger_is_gone)
				give_up_all(EXTENSION_DROPPED, now);
		}
		if (hash_get_num_entries(jobs) > 0)
			wait_for_something(set, wait_event);
	}
}

/* What the launcher goes by when we are gone. */
static void
say_whether_wanted(void)
{
	oe_channel_want_worker(!ledger_is_gone &&
						   (oe_queue_next_due() != DT_NOEND || queue_touched));
}

static void
run(void)
{
	WaitEventSet *set = create_wait_set();
	uint32		wait_event = WaitEventExtensionNew("OceanEnrichWorker");
	TimestampTz idle_since = 0;

	for (;;)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			queue_settings_read_at = 0;
			oe_upkeep_soon();
		}
		if (ShutdownRequestPending)
		{
			drain(set, wait_event);
			say_whether_wanted();
			return;
		}
		MemoryContextReset(turn_mcxt);
		take_a_turn();
		if (oe_upkeep_is_due(GetCurrentTimestamp(),
							 hash_get_num_entries(jobs) == 0))
			do_upkeep();
		if (may_leave(&idle_since))
		{
			say_whether_wanted();
			if (oe_upkeep_is_left())
				do_upkeep();
			if (oe_channel_retire())
				return;
			continue;			/* whoever came meanwhile woke nobody */
		}
		wait_for_something(set, wait_event);
	}
}

/*
 * SIGINT is how lock_timeout ends a wait.  It is pg_cancel_backend(), too: then a
 * transaction of the ledger is tried again, and elsewhere nothing is cancelled.
 */
static void
handle_cancel(SIGNAL_ARGS)
{
	if (may_be_cancelled)
		StatementCancelHandler(OE_SIGNAL_ARGUMENTS);
}

void
oe_worker_main(Datum database)
{
	/* By the launcher, or at a commit: nobody waits for us. */
	bool		started_for_queue = MyBgworkerEntry->bgw_extra[0];
	XLogRecPtr	lsn;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGINT, handle_cancel);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(database),
											  InvalidOid, 0);
	force_settings();

	worker_mcxt = AllocSetContextCreate(TopMemoryContext, "ocean_enrich worker",
										ALLOCSET_DEFAULT_SIZES);
	turn_mcxt = AllocSetContextCreate(worker_mcxt, "ocean_enrich turn",
									  ALLOCSET_DEFAULT_SIZES);
	queue_mcxt = AllocSetContextCreate(worker_mcxt, "ocean_enrich queue",
									   ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(turn_mcxt);
	jobs = create_table("ocean_enrich jobs", sizeof(JobKey), sizeof(JobEntry));
	accounts = create_table("ocean_enrich accounts", OE_ACCOUNT_CHARS,
							sizeof(AccountEntry));
	if (!oe_http_global_init() ||
		(http = oe_http_new(OE_ANSWER_MAX_BYTES)) == NULL)
		out_of_memory();
	ReserveExternalFD();		/* libcurl's epoll descriptor */
	if (!oe_channel_serve())
		proc_exit(0);
	status = oe_channel_my_status();
	say_pause("", 0);
	reconcile();
	(void) in_ledger(look_for_kept_columns, NULL, GetCurrentTimestamp(), &lsn);
	say_whether_wanted();
	decisions_due = queue_length > 0;
	if (ledger_is_gone || queue_length > 0 || !started_for_queue ||
		!oe_channel_retire())
		run();

	/* The next worker may serve what this one has committed. */
	XLogFlush(XactLastCommitEnd);
	proc_exit(0);
}
