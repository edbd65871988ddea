/*
 * pace.c
 *		How many requests the API lets through, learnt from its status 429.
 *
 * An API that lets N requests through in a window of W seconds answers the next one
 * with a Retry-After that ends with the window, more or less.  A round then is: N
 * requests, one or a few that are refused, the pause; it lasts W and a little.  The
 * pause is counted from the time at which the refused request left, since the API
 * counts from when it answered and the next request needs as long to get there: else
 * each round would be longer by the latency.
 */
#include "core/pace.h"

#define MS					INT64_C(1000)
#define SECOND				(1000 * MS)
#define FIRST_LENGTH		(60 * SECOND)
#define FORGET_AFTER		(600 * SECOND)
#define FIRST_BACKOFF_MS	500

/* The next round sends this share of the last one more, and at least one. */
#define GROWTH_SHARE		16

/* The random part of a pause: this share of it, up to so much. */
#define RANDOM_SHARE		20
#define RANDOM_MAX			(5 * SECOND)
#define PAUSE_MARGIN		(10 * MS)

/* Saturates; "b" is not negative. */
static OeTime
later_by(OeTime a, OeTime b)
{
	return a > INT64_MAX - b ? INT64_MAX : a + b;
}

/* Saturates; "b" may be anything. */
static OeTime
since(OeTime now, OeTime then)
{
	OeTime		difference;

	if (__builtin_sub_overflow(now, then, &difference))
		return now > then ? INT64_MAX : INT64_MIN;
	return difference;
}

int
oe_backoff_ms(int tries, int max_ms, double random)
{
	int64_t		wait_ms = FIRST_BACKOFF_MS;

	for (int i = 1; i < tries && wait_ms < max_ms; i++)
		wait_ms *= 2;
	if (wait_ms > max_ms)
		wait_ms = max_ms;
	return (int) (wait_ms - (int64_t) ((double) wait_ms / 2 * (1 - random)));
}

void
oe_pace_init(OePace *pace)
{
	*pace = (OePace)
	{
		.round = 1,
			.length = FIRST_LENGTH,
			.asked_until = INT64_MIN,
			.paused_until = INT64_MIN,
	};
}

/*
 * True if as much time has passed as the last round took, without a 429: the API's
 * window has passed, too.
 */
static bool
is_over(const OePace *pace, OeTime now)
{
	return pace->sent > 0 && since(now, pace->began) >= pace->length;
}

int64_t
oe_pace_room(const OePace *pace, OeTime now)
{
	int64_t		allowed;

	if (!pace->limited || is_over(pace, now))
		return pace->limited ? pace->good + 1 : INT64_MAX;
	if (pace->barren > 0 && pace->accepted == 0)
		allowed = 1;
	else if (pace->accepted > pace->good)
		allowed = 2 * pace->accepted;
	else
		allowed = pace->good + (pace->good < GROWTH_SHARE ? 1 : pace->good / GROWTH_SHARE);
	return allowed > pace->sent ? allowed - pace->sent : 0;
}

OeTime
oe_pace_allows_at(const OePace *pace, OeTime now)
{
	if (pace->paused_until > now)
		return pace->paused_until;
	return oe_pace_room(pace, now) > 0 ? now : later_by(pace->began, pace->length);
}

/* The round ended without a 429; the number stays, as requests may be in flight. */
static void
begin_anew(OePace *pace, OeTime now)
{
	if (pace->accepted > pace->good)
		pace->good = pace->accepted;
	pace->sent = 0;
	pace->accepted = 0;
	if (since(now, pace->paused_until) >= FORGET_AFTER)
	{
		pace->limited = false;
		pace->good = 0;
		pace->length = FIRST_LENGTH;
	}
}

uint64_t
oe_pace_sent(OePace *pace, OeTime now)
{
	if (is_over(pace, now))
		begin_anew(pace, now);
	if (pace->sent++ == 0)
		pace->began = now;
	return pace->round;
}

void
oe_pace_unanswered(OePace *pace, uint64_t round)
{
	if (round == pace->round && pace->sent > 0)
		pace->sent--;
}

/* The API asked for a pause of so long, or we chose it. */
static void
pause_until(OePace *pace, OeTime asked, OeTime wait, double random)
{
	OeTime		share = wait / RANDOM_SHARE < RANDOM_MAX ? wait / RANDOM_SHARE : RANDOM_MAX;

	if (asked > pace->asked_until)
		pace->asked_until = asked;
	asked = later_by(asked, (OeTime) ((double) share * random) + PAUSE_MARGIN);
	if (asked > pace->paused_until)
		pace->paused_until = asked;
	pace->length = since(pace->paused_until, pace->began_before);
	if (pace->length > FIRST_LENGTH)
		pace->length = FIRST_LENGTH;
}

static void
end_round(OePace *pace, OeTime now)
{
	pace->limited = true;
	if (pace->accepted > 0)
	{
		pace->good = pace->accepted;
		pace->barren = 0;
	}
	else
		pace->barren++;
	pace->accepted_before = pace->accepted;
	pace->began_before = pace->sent > 0 ? pace->began : now;
	pace->sent = 0;
	pace->accepted = 0;
	pace->round++;
}

/* Retry-After: 0 says nothing that could be waited for. */
static void
learn_refusal(OePace *pace, const OePaceEnding *ending, OeTime now)
{
	bool		first = ending->round == pace->round;
	OeTime		wait = ending->retry_after_ms * MS;
	OeTime		asked;

	if (first)
		end_round(pace, now);
	if (ending->retry_after_ms > 0)
	{
		asked = later_by(ending->left != 0 ? ending->left : now, wait);
		pause_until(pace, asked > now ? asked : now, wait, ending->random);
	}
	else if (first)
	{
		wait = oe_backoff_ms(pace->barren, ending->backoff_max_ms, ending->random) * MS;
		pause_until(pace, later_by(now, wait), 0, 0);
	}
}

static void
learn_acceptance(OePace *pace, uint64_t round)
{
	if (round == pace->round)
	{
		pace->accepted++;
		pace->barren = 0;
	}
	else
	{
		/* A refusal is often faster than what was accepted beside it. */
		if (round + 1 == pace->round)
			pace->good = ++pace->accepted_before;
		pace->barren = 0;
	}
}

void
oe_pace_ended(OePace *pace, const OePaceEnding *ending, OeTime now)
{
	if (ending->refused)
		learn_refusal(pace, ending, now);
	else
		learn_acceptance(pace, ending->round);
}

void
oe_pace_pause(OePace *pace, OeTime until)
{
	if (until > pace->asked_until)
		pace->asked_until = until;
	if (until > pace->paused_until)
		pace->paused_until = until;
}

void
oe_pace_resume(OePace *pace)
{
	uint64_t	round = pace->round;

	oe_pace_init(pace);
	pace->round = round + 1;
}

void
oe_pace_move_back(OePace *pace, OeTime by)
{
	pace->began = since(pace->began, by);
	pace->began_before = since(pace->began_before, by);
	pace->asked_until = since(pace->asked_until, by);
	pace->paused_until = since(pace->paused_until, by);
}
