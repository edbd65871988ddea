/*
 * breaker.h
 *		Stops the queue while the API is in trouble, so that an outage does not use
 *		up all that is queued: a circuit breaker.
 *
 * It opens after a few failures in a row, without an answer between them.  Then one
 * request at a time tries whether the trouble is over, after waits that grow.  Any
 * answer closes it.  What was in flight when it opened, or when a wait began, is one
 * failure, however many requests that were.
 *
 * A call that fails as it did before tells nothing new: it may be the call.  So it
 * waits alone, and does not open the breaker.
 */
#ifndef OE_BREAKER_H
#define OE_BREAKER_H

#include "core/answer.h"
#include "core/http.h"
#include "core/pace.h"

typedef enum OeTrouble
{
	OE_TROUBLE_NONE,			/* the API has answered */
	OE_TROUBLE_UNREACHABLE,		/* nothing was sent */
	OE_TROUBLE_UNAVAILABLE,		/* not processed: 502, 503, 521 and the like */
	OE_TROUBLE_IN_DOUBT,		/* may have been paid: counts twice */
} OeTrouble;

typedef struct OeBreaker
{
	int			streak;			/* failures in a row */
	int			opened;			/* waits since it opened; 0: it is closed */
	uint64_t	round;			/* begins anew with each wait */
	bool		trying;			/* one request is in flight to try the API */
	OeTime		paused_until;
	OeTrouble	trouble;		/* the last one ... */
	int			status;			/* ... and its status; 0: none */
} OeBreaker;

typedef struct OeBreakerEnding
{
	uint64_t	round;			/* in which it was sent */
	OeTrouble	trouble;
	int			status;
	bool		again;			/* this call has failed so before */
	int			retry_after_ms; /* -1: none */
	int			backoff_max_ms;
	double		random;			/* 0 to 1 */
} OeBreakerEnding;

/* A closed one is {0}. */

/*
 * What the end of a transfer says about the API; "outcome" is what it means for the
 * money.  A 429 is no trouble: see pace.h.
 */
extern OeTrouble oe_trouble_of(OeHttpResult result, int status, OeOutcome outcome);

/* When a request may go: now, later, or INT64_MAX: not before one has ended. */
extern OeTime oe_breaker_allows_at(const OeBreaker *breaker, OeTime now);

/* True if only one request may go. */
extern bool oe_breaker_is_open(const OeBreaker *breaker);

/* A request goes.  Returns its round. */
extern uint64_t oe_breaker_sent(OeBreaker *breaker);

/* It did not go after all. */
extern void oe_breaker_unsent(OeBreaker *breaker, uint64_t round);

/* The clock was set back. */
extern void oe_breaker_move_back(OeBreaker *breaker, OeTime by);

extern void oe_breaker_ended(OeBreaker *breaker, const OeBreakerEnding *ending,
							 OeTime now);

#endif							/* OE_BREAKER_H */
