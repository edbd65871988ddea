/*
 * rate.h
 *		A rate limit: a number of requests in any 60 seconds.
 */
#ifndef SB_RATE_H
#define SB_RATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
extern bool sb_rate_admit(SbRate *rate, size_t limit, int64_t now_us,
						  int64_t *wait_us);

/* Forget all requests. */
extern void sb_rate_reset(SbRate *rate);

#endif							/* SB_RATE_H */
