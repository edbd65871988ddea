/*
 * rate.c
 *		The window of the last 60 seconds, as a ring of points in time.
 */
#include "rate.h"

#include <stdlib.h>

#include "memory.h"

#define WINDOW_US		(INT64_C(60) * 1000000)
#define FIRST_CAPACITY	64

static int64_t *
nth(const SbRate *rate, size_t n)
{
	return &rate->times_us[(rate->oldest + n) % rate->capacity];
}

static void
grow(SbRate *rate)
{
	SbRate		larger = {0};

	larger.capacity = rate->capacity ? rate->capacity * 2 : FIRST_CAPACITY;
	larger.times_us = sb_zalloc(larger.capacity * sizeof(*larger.times_us));
	for (larger.count = 0; larger.count < rate->count; larger.count++)
		larger.times_us[larger.count] = *nth(rate, larger.count);
	free(rate->times_us);
	*rate = larger;
}

bool
sb_rate_admit(SbRate *rate, size_t limit, int64_t now_us, int64_t *wait_us)
{
	while (rate->count > 0 && *nth(rate, 0) + WINDOW_US <= now_us)
	{
		rate->oldest = (rate->oldest + 1) % rate->capacity;
		rate->count--;
	}
	if (rate->count >= limit)
	{
		/* The limit may have been lowered: more than one may have to go. */
		*wait_us = *nth(rate, rate->count - limit) + WINDOW_US - now_us;
		return false;
	}
	if (rate->count == rate->capacity)
		grow(rate);
	*nth(rate, rate->count) = now_us;
	rate->count++;
	return true;
}

void
sb_rate_reset(SbRate *rate)
{
	free(rate->times_us);
	*rate = (SbRate) {0};
}
