/*
 * breaker.c
 *		Stops the queue while the API is in trouble: see breaker.h.
 */
#include "core/breaker.h"

/* It opens at so many failures in a row. */
#define OPENS_AT	8

/* Without a wait it would not be open. */
#define SHORTEST_MAX_MS	500

OeTrouble
oe_trouble_of(OeHttpResult result, int status, OeOutcome outcome)
{
	if (result == OE_HTTP_NOT_SENT)
		return OE_TROUBLE_UNREACHABLE;
	switch (outcome)
	{
		case OE_ANSWERED:
		case OE_REFUSED:
			return OE_TROUBLE_NONE;
		case OE_FAILED:
			return status == 429 ? OE_TROUBLE_NONE : OE_TROUBLE_UNAVAILABLE;
		case OE_UNKNOWN:
			break;
	}
	return OE_TROUBLE_IN_DOUBT;
}

bool
oe_breaker_is_open(const OeBreaker *breaker)
{
	return breaker->opened > 0;
}

OeTime
oe_breaker_allows_at(const OeBreaker *breaker, OeTime now)
{
	if (breaker->opened == 0)
		return now;
	if (breaker->trying)
		return INT64_MAX;
	return breaker->paused_until > now ? breaker->paused_until : now;
}

uint64_t
oe_breaker_sent(OeBreaker *breaker)
{
	breaker->trying = breaker->opened > 0;
	return breaker->round;
}

void
oe_breaker_unsent(OeBreaker *breaker, uint64_t round)
{
	if (round == breaker->round)
		breaker->trying = false;
}

static void
wait_for_next_try(OeBreaker *breaker, const OeBreakerEnding *ending, OeTime now)
{
	int			max_ms = ending->backoff_max_ms < SHORTEST_MAX_MS ? SHORTEST_MAX_MS
		: ending->backoff_max_ms;
	int			wait_ms = oe_backoff_ms(breaker->opened, max_ms, ending->random);

	if (wait_ms < ending->retry_after_ms)
		wait_ms = ending->retry_after_ms;
	breaker->trying = false;
	breaker->round++;
	breaker->paused_until = now > INT64_MAX - wait_ms * INT64_C(1000) ? INT64_MAX
		: now + wait_ms * INT64_C(1000);
}

void
oe_breaker_move_back(OeBreaker *breaker, OeTime by)
{
	if (__builtin_sub_overflow(breaker->paused_until, by, &breaker->paused_until))
		breaker->paused_until = INT64_MIN;
}

void
oe_breaker_ended(OeBreaker *breaker, const OeBreakerEnding *ending, OeTime now)
{
	if (ending->trouble == OE_TROUBLE_NONE)
	{
		*breaker = (OeBreaker) {.round = breaker->round};
		return;
	}
	if (ending->round != breaker->round)
		return;
	if (!ending->again)
	{
		breaker->trouble = ending->trouble;
		breaker->status = ending->status;
		breaker->streak += ending->trouble == OE_TROUBLE_IN_DOUBT ? 2 : 1;
		if (breaker->streak >= OPENS_AT)
		{
			breaker->streak = OPENS_AT;
			breaker->opened++;
		}
	}
	if (breaker->opened > 0)
		wait_for_next_try(breaker, ending, now);
}
