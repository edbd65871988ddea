/*
 * job.c
 *		The requests that the worker has at hand: found by account and
 *		fingerprint, listed by phase, delivered to the sessions that wait.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "shared/channel.h"
#include "worker/job.h"
#include "worker/queue_cursor.h"
#include "worker/verdict.h"

/* Two requests are equal if the same account is charged for the same body. */
typedef struct JobKey
{
	char		account[OE_ACCOUNT_CHARS];
	uint8		fingerprint[OE_FINGERPRINT_BYTES];
} JobKey;

typedef struct JobEntry
{
	JobKey		key;
	OeJob	   *job;
} JobEntry;

MemoryContext oe_worker_mcxt;
MemoryContext oe_turn_mcxt;
static HTAB *jobs;

#define TO(phase)	(1 << OE_JOB_##phase)

/* The phases that may follow each phase. */
static const int next_phases[] = {
	/* a request of a session; a call of the queue; one that is not recorded */
	[OE_JOB_NEW] = TO(ARRIVED) | TO(SENDING) | TO(ON_WIRE),
	/* answered by the ledger, or not */
	[OE_JOB_ARRIVED] = TO(SETTLED) | TO(WAITING),
	[OE_JOB_WAITING] = TO(SENDING) | TO(SETTLED),
	/* its row was locked */
	[OE_JOB_SENDING] = TO(ON_WIRE) | TO(WAITING),
	/* one that is not recorded is settled at once */
	[OE_JOB_ON_WIRE] = TO(ENDED) | TO(SETTLED),
	[OE_JOB_ENDED] = TO(SETTLED) | TO(WAITING) | TO(PUT_BACK),
	[OE_JOB_SETTLED] = 0,
	[OE_JOB_PUT_BACK] = 0,
};

/* Only used for the phases that have a list. */
static dlist_head lists[lengthof(next_phases)];

HTAB *
oe_job_table(const char *name, Size keysize, Size entrysize)
{
	HASHCTL		ctl = {0};

	ctl.keysize = keysize;
	ctl.entrysize = entrysize;
	ctl.hcxt = oe_worker_mcxt;
	return hash_create(name, 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

void
oe_job_init(void)
{
	oe_worker_mcxt = AllocSetContextCreate(TopMemoryContext, "ocean_enrich worker",
										   ALLOCSET_DEFAULT_SIZES);
	oe_turn_mcxt = AllocSetContextCreate(oe_worker_mcxt, "ocean_enrich turn",
										 ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < (int) lengthof(lists); i++)
		dlist_init(&lists[i]);
	jobs = oe_job_table("ocean_enrich jobs", sizeof(JobKey), sizeof(JobEntry));
}

long
oe_job_count(void)
{
	return hash_get_num_entries(jobs);
}

int
oe_job_list_in_flight(const char *role, int64 *call_ids, OeCredits *reserved)
{
	int			count = 0;
	HASH_SEQ_STATUS scan;
	JobEntry   *entry;

	hash_seq_init(&scan, jobs);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		OeJob	   *job = entry->job;

		if (!job->in_flight || strcmp(job->call.role, role) != 0)
			continue;
		if (count == OE_CHANNEL_SLOTS)
			elog(ERROR, "more requests are in flight than there are slots");
		call_ids[count] = job->call_id;
		reserved[count] = oe_limits_reserve(&job->call.limits);
		count++;
	}
	return count;
}

static void
fill_key(JobKey *key, const char *account, const uint8 *fingerprint)
{
	memcpy(key->account, account, OE_ACCOUNT_CHARS);
	memcpy(key->fingerprint, fingerprint, OE_FINGERPRINT_BYTES);
}

OeJob *
oe_job_find(const char *account, const uint8 *fingerprint)
{
	JobKey		key;
	JobEntry   *entry;

	fill_key(&key, account, fingerprint);
	entry = hash_search(jobs, &key, HASH_FIND, NULL);
	return entry ? entry->job : NULL;
}

OeJob *
oe_job_new(const char *bytes, Size len)
{
	OeJob	   *job = MemoryContextAllocZero(oe_worker_mcxt, sizeof(OeJob));
	JobKey		key;

	job->bytes = MemoryContextAlloc(oe_worker_mcxt, len);
	memcpy(job->bytes, bytes, len);
	job->bytes_len = len;
	oe_call_unpack(job->bytes, &job->call);
	job->requested_at = GetCurrentTimestamp();
	fill_key(&key, job->call.account, job->call.fingerprint);
	((JobEntry *) hash_search(jobs, &key, HASH_ENTER, NULL))->job = job;
	return job;
}

static bool
phase_has_list(OeJobPhase phase)
{
	return phase == OE_JOB_ARRIVED || phase == OE_JOB_WAITING ||
		phase == OE_JOB_ENDED;
}

dlist_head *
oe_job_list(OeJobPhase phase)
{
	Assert(phase_has_list(phase));
	return &lists[phase];
}

static void
leave_list(OeJob *job)
{
	if (phase_has_list(job->phase))
		dlist_delete(&job->node);
}

static void
enter_phase(OeJob *job, OeJobPhase phase)
{
	leave_list(job);
	job->phase = phase;
	if (phase_has_list(phase))
		dlist_push_tail(&lists[phase], &job->node);
}

void
oe_job_set_phase(OeJob *job, OeJobPhase phase)
{
	if (!(next_phases[job->phase] & (1 << phase)))
		elog(ERROR, "a job of phase %d cannot get phase %d", (int) job->phase,
			 (int) phase);
	enter_phase(job, phase);
}

void
oe_job_undo_phase(OeJob *job)
{
	if (job->phase != job->phase_before)
		enter_phase(job, job->phase_before);
}

static void
forget_result(OeJob *job)
{
	if (job->result)
		pfree(job->result);
	job->result = NULL;
}

void
oe_job_free(OeJob *job)
{
	JobKey		key;

	leave_list(job);
	if (job->passed_by)
		oe_queue_look_from(&job->passed);
	fill_key(&key, job->call.account, job->call.fingerprint);
	(void) hash_search(jobs, &key, HASH_REMOVE, NULL);
	oe_http_reply_free(job->reply);
	forget_result(job);
	explicit_bzero(job->bytes, job->bytes_len); /* the token is in it */
	pfree(job->bytes);
	list_free(job->slots);
	pfree(job);
}

bool
oe_job_is_wanted(OeJob *job)
{
	ListCell   *lc;

	foreach(lc, job->slots)
	{
		if (oe_channel_is_wanted(lfirst_int(lc)))
			return true;
	}
	return false;
}

void
oe_job_begin(OeJob *job)
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

void
oe_job_set_result(OeJob *job, OeResult *result)
{
	MemoryContext old = MemoryContextSwitchTo(oe_worker_mcxt);

	forget_result(job);
	result->call_id = result->call_id ? result->call_id : job->call_id;
	if (job->slots != NIL)		/* not only a row in the queue */
		job->result = oe_result_pack(result, &job->result_len);
	MemoryContextSwitchTo(old);
}

void
oe_job_settle(OeJob *job, OeResult *result)
{
	oe_job_set_result(job, result);
	oe_job_set_phase(job, OE_JOB_SETTLED);
}

void
oe_job_settle_with_error(OeJob *job, OeError *error)
{
	OeResult	result = {0};

	oe_result_from_error(error, &result);
	result.credits = "0";
	oe_job_settle(job, &result);
}

void
oe_job_settle_not_recorded(OeJob *job, const char *reason)
{
	OeError		error = {0};

	oe_error_set(&error, OE_NOT_RECORDED,
				 "could not record the request in table \"ocean_enrich.call\"");
	oe_error_detail(&error, "Nothing was sent: %s.", reason);
	oe_job_settle_with_error(job, &error);
}

/* Change the result for the sessions that joined, which pay nothing. */
static void
share_result(OeJob *job)
{
	MemoryContext old = MemoryContextSwitchTo(oe_worker_mcxt);
	char	   *packed = job->result;
	OeResult	result;

	oe_result_unpack(packed, &result);
	result.reused = true;
	result.credits = "0";
	job->result = oe_result_pack(&result, &job->result_len);
	pfree(packed);
	MemoryContextSwitchTo(old);
}

void
oe_job_deliver(OeJob *job, XLogRecPtr lsn)
{
	ListCell   *lc;

	foreach(lc, job->slots)
	{
		/* The first slot pays, or the row in the queue. */
		if (job->result && foreach_current_index(lc) == (job->background ? 0 : 1))
			share_result(job);
		oe_channel_finish(lfirst_int(lc), job->result, job->result_len, lsn);
	}
	oe_job_free(job);
}

void
oe_job_begin_anew(OeJob *job)
{
	Size		len;
	const char *bytes;
	List	   *slots = job->slots;
	ListCell   *lc;
	OeJob	   *anew;

	job->slots = NIL;
	oe_job_free(job);
	if (slots == NIL)
		return;
	foreach(lc, slots)
		oe_channel_set_call_id(lfirst_int(lc), 0);
	bytes = oe_channel_request(linitial_int(slots), &len);
	anew = oe_job_new(bytes, len);
	anew->slots = slots;
	anew->begun = true;
	oe_job_set_phase(anew, OE_JOB_ARRIVED);
}
