/*
 * rate.c
 *		The requests of the last 60 seconds, as a ring of timestamps.
 */
#include "rate.h"

#include <stdlib.h>

#include "memory.h"

#define WINDOW_US		(INT64_C(60) * 1000000)
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

bool
sb_rate_admit(SbRate *rate, size_t limit, int64_t now_us, int64_t *wait_us)
{
	while (rate->count > 0 && *nth_time(rate, 0) + WINDOW_US <= now_us)
	{
		rate->oldest = (rate->oldest + 1) % rate->capacity;
		rate->count--;
	}
	if (rate->count >= limit)
	{
		/* The limit may have been lowered: several requests must expire. */
		*wait_us = *nth_time(rate, rate->count - limit) + WINDOW_US - now_us;
		return false;
	}
	if (rate->count == rate->capacity)
		grow_ring(rate);
	*nth_time(rate, rate->count) = now_us;
	rate->count++;
	return true;
}

void
sb_rate_reset(SbRate *rate)
{
	free(rate->times_us);
	*rate = (SbRate) {0};
}
