/*
 * rate.h
 *		A rate limit: a number of requests in a window of time.
 */
#ifndef SB_RATE_H
#define SB_RATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A window of this length: any, or only those that begin at its multiples. */
typedef struct SbWindow
{
	int64_t		length_us;
	bool		fixed;
} SbWindow;

/* When recent requests were let through: a ring that grows.  Starts as {0}. */
typedef struct SbRate
{
	int64_t    *times_us;
	size_t		capacity;
	size_t		oldest;
	size_t		count;
} SbRate;

/*
 * True if one more request is let through at "now_us".  If not, *wait_us is
 * the time until the next one would be.
 */
extern bool sb_rate_admit(SbRate *rate, SbWindow window, size_t limit,
						  int64_t now_us, int64_t *wait_us);

/*
 * Let one more request through, without a limit.  Returns the number of
 * requests in the window, with this one.
 */
extern size_t sb_rate_count(SbRate *rate, SbWindow window, int64_t now_us);

/* Forget all requests. */
extern void sb_rate_reset(SbRate *rate);

#endif							/* SB_RATE_H */
