/*
 * job.h
 *		The requests that the worker has at hand, each with the sessions that
 *		wait for it.
 *
 * A new request becomes a job; an equal one joins it.  The phases of a job:
 *
 *	NEW			just created
 *	ARRIVED		not looked up in the ledger yet
 *	WAITING		not answered there; waits for the limits, or for its next try
 *	SENDING		admitted; its row is being written
 *	ON_WIRE		with libcurl
 *	ENDED		answered or failed; its row is being written
 *	SETTLED		has its result, to be delivered
 *	PUT_BACK	requeued
 *
 * job.c has the table of which phase may follow which.
 *
 * A call from the queue becomes a job when it is about to be sent: only its row
 * waits for it, and it leaves memory as soon as it is settled or put back.
 * Requests of sessions may join it.
 */
#ifndef OE_JOB_H
#define OE_JOB_H

#include "access/xlogdefs.h"
#include "lib/ilist.h"
#include "nodes/pg_list.h"
#include "utils/hsearch.h"
#include "utils/palloc.h"

#include "core/http.h"
#include "shared/message.h"
#include "shared/queue_news.h"

typedef enum OeJobPhase
{
	OE_JOB_NEW,
	OE_JOB_ARRIVED,
	OE_JOB_WAITING,
	OE_JOB_SENDING,
	OE_JOB_ON_WIRE,
	OE_JOB_ENDED,
	OE_JOB_SETTLED,
	OE_JOB_PUT_BACK,
} OeJobPhase;

typedef struct OeAccountEntry OeAccountEntry;

typedef struct OeJob
{
	dlist_node	node;			/* in the list of its phase, if that has one */
	OeJobPhase	phase;			/* see oe_job_set_phase() */
	OeJobPhase	phase_before;	/* this turn's transaction */
	List	   *slots;			/* the sessions that asked; the first one pays */
	bool		begun;			/* true if its slots are running, not
								 * submitted */
	bool		background;		/* true if it comes from the queue */
	OeQueuePosition position;	/* then: its place there */
	int			postponed;
	int			gathered;
	bool		refused_before; /* with 402 or 403 */
	bool		went_alone;		/* see access.h */
	uint32		words;			/* a hash of the API's detail, if it refused */
	uint64		breaker_round;
	bool		passed_by;		/* true if equal ones in the queue, from
								 * "passed" on, were left for it to answer */
	OeQueuePosition passed;
	OeAccountEntry *account;
	char	   *bytes;			/* what "call" points into */
	Size		bytes_len;
	OeCall		call;
	TimestampTz requested_at;
	TimestampTz sent_at;
	TimestampTz not_before;
	int			tries;
	bool		in_flight;		/* true if the limits count it */
	uint64		round;			/* in which it was sent: see core/pace.h */
	TimestampTz left_at;		/* when it left for the API; 0: it did not */
	bool		learned;		/* what its end says about the API is known */
	int64		call_id;
	OeHttpReply *reply;
	OeOutcome	outcome;
	OeCredits	cost;
	char	   *result;			/* packed, for the session that pays */
	Size		result_len;
} OeJob;

/*
 * Jobs and accounts live in the first context, everything else in the second,
 * which is reset in each turn of the worker's loop.
 */
extern MemoryContext oe_worker_mcxt;
extern MemoryContext oe_turn_mcxt;

/* Call once, before anything else: creates the contexts. */
extern void oe_job_init(void);

/* A table that lives as long as the worker; keys are compared byte by byte. */
extern HTAB *oe_job_table(const char *name, Size keysize, Size entrysize);

/* The number of jobs, whatever their phase. */
extern long oe_job_count(void);

/*
 * Fill both arrays, which have room for OE_CHANNEL_SLOTS, with the calls of a
 * role that the limits count.  Returns their number.
 */
extern int	oe_job_list_in_flight(const char *role, int64 *call_ids,
								  OeCredits *reserved);

/* The job that charges the same account for the same body, or NULL. */
extern OeJob *oe_job_find(const char *account, const uint8 *fingerprint);

/* A NEW job for a packed call, which is copied. */
extern OeJob *oe_job_new(const char *bytes, Size len);

/* Free a job that no session waits for. */
extern void oe_job_free(OeJob *job);

/*
 * The only way to change a job's phase.  Jobs that are ARRIVED, WAITING or ENDED
 * are in the list of their phase, in the order in which they came into it.
 */
extern void oe_job_set_phase(OeJob *job, OeJobPhase phase);
extern dlist_head *oe_job_list(OeJobPhase phase);

/* Restore the phase that the job had before the failed transaction. */
extern void oe_job_undo_phase(OeJob *job);

/* True if a session still waits for it. */
extern bool oe_job_is_wanted(OeJob *job);

/* Make the job uncancellable.  Removes slots that were cancelled before. */
extern void oe_job_begin(OeJob *job);

/* Store a result, in case a job that is tried again gets no other. */
extern void oe_job_set_result(OeJob *job, OeResult *result);

/* Store a result and set the phase to SETTLED: the job has to be delivered. */
extern void oe_job_settle(OeJob *job, OeResult *result);
extern void oe_job_settle_with_error(OeJob *job, OeError *error);

/* Settle a job that was not sent, as it could not be recorded first. */
extern void oe_job_settle_not_recorded(OeJob *job, const char *reason);

/*
 * Hand the result, if any, to every session that asked, and free the job.  The
 * result is on disk once WAL is flushed up to "lsn".
 */
extern void oe_job_deliver(OeJob *job, XLogRecPtr lsn);

/*
 * Free a requeued job.  For sessions that had joined it, a new job asks again
 * at once, by their own settings.
 */
extern void oe_job_begin_anew(OeJob *job);

#endif							/* OE_JOB_H */
