/*
 * rate.c
 *		The requests of the current window, as a ring of timestamps.
 */
#include "rate.h"

#include <stdlib.h>

#include "memory.h"

#define FIRST_CAPACITY	64

static int64_t *
nth_time(const SbRate *rate, size_t n)
{
	return &rate->times_us[(rate->oldest + n) % rate->capacity];
}

static void
grow_ring(SbRate *rate)
{
	SbRate		larger = {0};

	larger.capacity = rate->capacity ? rate->capacity * 2 : FIRST_CAPACITY;
	larger.times_us = sb_zalloc(larger.capacity * sizeof(*larger.times_us));
	for (larger.count = 0; larger.count < rate->count; larger.count++)
		larger.times_us[larger.count] = *nth_time(rate, larger.count);
	free(rate->times_us);
	*rate = larger;
}

/* When the nth request counts no longer. */
static int64_t
nth_expiry(const SbRate *rate, SbWindow window, size_t n)
{
	int64_t		time_us = *nth_time(rate, n);

	if (window.fixed)
		time_us -= time_us % window.length_us;
	return time_us + window.length_us;
}

static void
expire(SbRate *rate, SbWindow window, int64_t now_us)
{
	while (rate->count > 0 && nth_expiry(rate, window, 0) <= now_us)
	{
		rate->oldest = (rate->oldest + 1) % rate->capacity;
		rate->count--;
	}
}

size_t
sb_rate_count(SbRate *rate, SbWindow window, int64_t now_us)
{
	expire(rate, window, now_us);
	if (rate->count == rate->capacity)
		grow_ring(rate);
	*nth_time(rate, rate->count) = now_us;
	return ++rate->count;
}

bool
sb_rate_admit(SbRate *rate, SbWindow window, size_t limit, int64_t now_us,
			  int64_t *wait_us)
{
	expire(rate, window, now_us);
	if (rate->count >= limit)
	{
		/* The limit may have been lowered: several requests must expire. */
		*wait_us = nth_expiry(rate, window, rate->count - limit) - now_us;
		return false;
	}
	(void) sb_rate_count(rate, window, now_us);
	return true;
}

void
sb_rate_reset(SbRate *rate)
{
	free(rate->times_us);
	*rate = (SbRate) {0};
}
