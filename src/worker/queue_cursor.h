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
	const OeEndpoint *endpoint; /* NULL: none that this library knows */
	const uint8 *fingerprint;
	Jsonb	   *request;		/* NULL: somebody erased it */
	OeReveals	reveals;
	int			attempts;
	int			postponed;
	int			gathered;
	TimestampTz requested_at;
} OeQueuedCall;

/* The queue has changed from there on; nothing is read yet. */
extern void oe_queue_learn(const OeQueueNews *news);
extern void oe_queue_look_from(const OeQueuePosition *position);

/*
 * Everything may have changed: nothing is claimed before a survey, which looks
 * at the whole queue.
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
 * end of the transaction; what others have locked is left out.  palloc'd.
 */
extern OeQueuedCall *oe_queue_claim(int max, TimestampTz now, int *count);

/* Claimed calls up to this one are done with: the next claim begins behind it. */
extern void oe_queue_pass(const OeQueuePosition *position);

/*
 * Before a transaction that claims, even if it may not come to that; and after
 * it, if it failed: the next claim begins where this one began.  What was learnt
 * in between is lost.
 */
extern void oe_queue_save(void);
extern void oe_queue_undo(void);

/* An earlier equal call answers it. */
extern void oe_queue_settle_reused(int64 call_id, int64 from, TimestampTz now);

typedef enum OePutBack
{
	OE_PUT_BACK,
	OE_PUT_BACK_BUSY,			/* somebody holds a lock on the row: try again */
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
	OE_WAIT_CALL,				/* an equal one that another database has sent */
	OE_WAIT_DECISION,			/* about an equal one */
} OeWaitReason;

/* The call stays in the queue, or goes back to it, and is due then. */
extern OePutBack oe_queue_put_back(int64 call_id, TimestampTz due,
								   OeWaitReason reason, int attempts,
								   int status, const char *detail);

/* Was it decided that this unknown call is to be given up? */
extern bool oe_queue_is_given_up(int64 call_id);

/*
 * Decisions about unknown calls: what may be paid again goes back to the queue,
 * and what waited for a decision looks for it.  Adds to "tally".
 */
typedef struct OeTally OeTally;

extern void oe_queue_obey(OeTally *tally);

/* What the transaction has done to the queue; added up until it is written. */
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

/* What others have added meanwhile, to be written as ours. */
extern void oe_tally_fold(OeTally *tally);

/*
 * Counts the queue, and corrects the tally by what it is wrong; how long it is.
 * *copied: how many more are queued in another database, and so not ours.
 */
extern int64 oe_tally_recount(OeTally *tally, int64 *copied);

#endif							/* OE_QUEUE_H */
