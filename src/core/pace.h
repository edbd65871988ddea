/*
 * pace.h
 *		How many requests the API lets through, learnt from its status 429.
 *
 * Requests are sent in rounds.  The first 429 of a round ends it: however many
 * requests are in flight then, they are one refusal, and one step of the backoff.
 * Next comes the pause that the API asked for; without Retry-After it grows with each
 * round in which nothing was let through.  The next round may send what the last one
 * got through and a little more, so that few requests are refused.  If all of these
 * get through, the round goes on with twice as many.
 *
 * Nothing is limited before the first 429, nor long after the last one.
 */
#ifndef OE_PACE_H
#define OE_PACE_H

#include <stdbool.h>
#include <stdint.h>

typedef int64_t OeTime;			/* microseconds */

typedef struct OePace
{
	bool		limited;		/* true after a 429 */
	uint64_t	round;			/* the number of this round */
	int64_t		sent;			/* in this round */
	int64_t		accepted;		/* of these, answered by anything but 429 */
	OeTime		began;			/* the first request of this round */
	OeTime		length;			/* of the round before, with its pause */
	OeTime		began_before;
	int64_t		accepted_before;
	int64_t		good;			/* accepted in the last round that had any */
	int			barren;			/* rounds in a row that had none */
	OeTime		asked_until;	/* the end of the pause, in the API's words
								 * ... */
	OeTime		paused_until;	/* ... and with a random share on top */
} OePace;

/* How a request ended, as far as its pace is concerned. */
typedef struct OePaceEnding
{
	uint64_t	round;			/* in which it was sent */
	bool		refused;		/* by 429; otherwise it was accepted */
	OeTime		left;			/* when it left for the API; 0: not known */
	int			retry_after_ms; /* -1: none */
	int			backoff_max_ms; /* the longest pause that we choose */
	double		random;			/* 0 to 1 */
} OePaceEnding;

extern void oe_pace_init(OePace *pace);

/* When one more request may go: "now", or a later time. */
extern OeTime oe_pace_allows_at(const OePace *pace, OeTime now);

/* How many more may go in this round without an answer; INT64_MAX: no limit. */
extern int64_t oe_pace_room(const OePace *pace, OeTime now);

/* A request goes.  Returns the number of its round. */
extern uint64_t oe_pace_sent(OePace *pace, OeTime now);

/* One of that round did not go after all, or got no answer: it tells nothing. */
extern void oe_pace_unanswered(OePace *pace, uint64_t round);

/* The API has answered. */
extern void oe_pace_ended(OePace *pace, const OePaceEnding *ending, OeTime now);

/* Pause until then, unless it is paused for longer. */
extern void oe_pace_pause(OePace *pace, OeTime until);

/* End the pause, whatever the API said, and forget its pace. */
extern void oe_pace_resume(OePace *pace);

/* The clock was set back. */
extern void oe_pace_move_back(OePace *pace, OeTime by);

/*
 * The wait after "tries" failures in a row: 500 ms doubled with each further one, up
 * to max_ms, of which "random" (0 to 1) picks from the upper half.
 */
extern int	oe_backoff_ms(int tries, int max_ms, double random);

#endif							/* OE_PACE_H */
