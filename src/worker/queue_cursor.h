/*
 * queue_cursor.h
 *		The part of ocean_enrich.call that waits to be sent, as the worker sees
 *		it: what is due, in the order of sending, and how long the queue is.
 *
 * Everything here but the news runs in a transaction that oe_ledger_begin()
 * has opened, and may raise an error.
 */
#ifndef OE_QUEUE_H
#define OE_QUEUE_H

#include "utils/jsonb.h"

#include "shared/ledger.h"
#include "shared/queue_news.h"

typedef struct OeQueuedCall
{
	OeQueuePosition position;
	char	   *role;
	const OeEndpoint *endpoint; /* NULL: unknown to this library */
	const uint8 *fingerprint;
	Jsonb	   *request;		/* NULL: it was erased */
	OeReveals	reveals;
	int			attempts;
	int			postponed;
	int			gathered;
	bool		refused_before; /* with 402 or 403 */
	bool		held;			/* true while its sync is being disabled */
	TimestampTz requested_at;
} OeQueuedCall;

/* Note that the queue has changed from there on, without reading it yet. */
extern void oe_queue_learn(const OeQueueNews *news);
extern void oe_queue_look_from(const OeQueuePosition *position);

/*
 * Note that everything may have changed: nothing is claimed before a survey,
 * which looks through the whole queue.
 */
extern void oe_queue_look_everywhere(void);
extern bool oe_queue_needs_survey(void);
extern void oe_queue_survey(void);

/*
 * When a claim may find something: now or earlier, later, or DT_NOEND when
 * the queue is empty or waits for news.
 */
extern TimestampTz oe_queue_next_due(void);

/*
 * At most "max" calls that are due, in the order of sending, locked until the
 * end of the transaction.  Rows locked by others are left out.  palloc'd.
 */
extern OeQueuedCall *oe_queue_claim(int max, TimestampTz now, int *count);

/* Claimed calls up to this one are done: the next claim begins behind it. */
extern void oe_queue_pass(const OeQueuePosition *position);

/*
 * Call the first before a transaction that may claim, and the second if it
 * fails: the next claim then begins where this one began.  News learnt in
 * between is lost.
 */
extern void oe_queue_save(void);
extern void oe_queue_undo(void);

/* Settle a call with the result of an earlier equal call. */
extern void oe_queue_settle_reused(int64 call_id, int64 from, TimestampTz now);

typedef enum OePutBack
{
	OE_PUT_BACK,
	OE_PUT_BACK_BUSY,			/* the row is locked: try again */
	OE_PUT_BACK_GONE,			/* neither queued nor on the wire any more */
} OePutBack;

/* Why a call stays in the queue, or goes back to it: column "waits_for". */
typedef enum OeWaitReason
{
	OE_WAIT_TURN,				/* for nothing but its turn */
	OE_WAIT_GATHERING,			/* 201; counted in "gathered" */
	OE_WAIT_RETRY,				/* it was not processed; counted in
								 * "postponed" */
	OE_WAIT_LIMIT,				/* credit_limit has no room for it */
	OE_WAIT_BUDGET,
	OE_WAIT_BALANCE,			/* it was refused with 402 or 403, or is too
								 * dear */
	OE_WAIT_CALL,				/* an equal one that another database has sent */
	OE_WAIT_DECISION,			/* about an equal one */
} OeWaitReason;

/*
 * Keep the call in the queue, or requeue it, to be due then.  "status" and "outcome":
 * of the request that has just ended; 0 and OE_FAILED if there was none.
 */
extern OePutBack oe_queue_put_back(int64 call_id, TimestampTz due,
								   OeWaitReason reason, int attempts,
								   int status, OeOutcome outcome, const char *detail);

/* True if this unknown call was resolved with 'give up'. */
extern bool oe_queue_is_given_up(int64 call_id);

/*
 * Follow decisions about unknown calls: requeue those to be paid again, and
 * make calls that waited for a decision due.  Adds to "tally".
 */
typedef struct OeTally OeTally;

extern void oe_queue_obey(OeTally *tally);

/* Changes of the queue by a transaction; added up until they are written. */
struct OeTally
{
	int64		waiting;
	int64		answered;
	int64		reused;
	int64		refused;
	int64		failed;
	int64		unknown;
	int64		cancelled;
	OeCredits	credits;
};

extern void oe_tally_write(const OeTally *tally, TimestampTz now);

/* Take over entries that other sessions have added, to be written as ours. */
extern void oe_tally_fold(OeTally *tally);

/*
 * Count the queue, correct the tally by the difference, and return the count.
 * *copied: how many more calls were queued in another database, and are not
 * ours.
 */
extern int64 oe_tally_recount(OeTally *tally, int64 *copied);

#endif							/* OE_QUEUE_H */
