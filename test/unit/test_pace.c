/*
 * test_pace.c
 *		How fast requests go where the API has a limit that nobody knows: its rules
 *		one by one, and whole days of an API that is simulated.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/pace.h"
#include "unit.h"

#define MS			INT64_C(1000)
#define SECOND		INT64_C(1000000)
#define MINUTE		(60 * SECOND)
#define NOON		(9000 * 24 * 60 * MINUTE)
#define COUNT(array) ((int) (sizeof(array) / sizeof((array)[0])))

static OePaceEnding
refusal(uint64_t round, OeTime left, int retry_after_ms)
{
	return (OePaceEnding)
	{
		.round = round, .refused = true, .left = left,
			.retry_after_ms = retry_after_ms, .backoff_max_ms = 60000, .random = 1
	};
}

static void
refuse(OePace *pace, uint64_t round, OeTime left, int retry_after_ms, OeTime now)
{
	OePaceEnding ending = refusal(round, left, retry_after_ms);

	oe_pace_ended(pace, &ending, now);
}

static void
accept(OePace *pace, uint64_t round, OeTime now)
{
	OePaceEnding ending = {.round = round, .retry_after_ms = -1};

	oe_pace_ended(pace, &ending, now);
}

static void
test_no_limit(void)
{
	OePace		pace;

	oe_pace_init(&pace);
	for (int i = 0; i < 1000; i++)
	{
		CHECK(oe_pace_allows_at(&pace, NOON) == NOON);
		CHECK(oe_pace_sent(&pace, NOON) == 1);
	}
	CHECK(oe_pace_room(&pace, NOON) == INT64_MAX);
}

/* However many were in flight: one pause, as long as the API said. */
static void
test_burst(void)
{
	OePace		pace;

	oe_pace_init(&pace);
	for (int i = 0; i < 60; i++)
		(void) oe_pace_sent(&pace, NOON);
	for (int i = 0; i < 50; i++)
		refuse(&pace, 1, NOON, 2000, NOON + 300 * MS);
	CHECK(pace.asked_until == NOON + 2 * SECOND);
	CHECK(pace.paused_until > pace.asked_until);
	CHECK(pace.paused_until <= pace.asked_until + 200 * MS);
	CHECK(oe_pace_allows_at(&pace, NOON + SECOND) == pace.paused_until);
	CHECK(pace.barren == 1);

	/* What was accepted comes later than the refusals. */
	for (int i = 0; i < 10; i++)
		accept(&pace, 1, NOON + 400 * MS);
	CHECK(pace.barren == 0);
	CHECK_INT(oe_pace_room(&pace, pace.paused_until), 11);
}

/* Without Retry-After the pause grows by rounds, not by answers. */
static void
test_backoff(void)
{
	static const int waits_ms[] = {500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};
	OePace		pace;
	OeTime		now = NOON;

	oe_pace_init(&pace);
	for (int i = 0; i < COUNT(waits_ms); i++)
	{
		uint64_t	round = 0;

		for (int j = 0; j < 20; j++)
			round = oe_pace_sent(&pace, now);
		for (int j = 0; j < 20; j++)
			refuse(&pace, round, now, -1, now);
		CHECK_INT(pace.asked_until - now, waits_ms[i] * MS);
		now = pace.paused_until;
		/* Then one tries. */
		CHECK_INT(oe_pace_room(&pace, now), 1);
	}
	accept(&pace, oe_pace_sent(&pace, now), now);
	refuse(&pace, oe_pace_sent(&pace, now), now, -1, now);
	CHECK_INT(pace.asked_until - now, 500 * MS);
}

/* "0 seconds" is no pause that would let anything through. */
static void
test_retry_after_zero(void)
{
	OePace		pace;

	oe_pace_init(&pace);
	refuse(&pace, oe_pace_sent(&pace, NOON), NOON, 0, NOON);
	CHECK(pace.asked_until == NOON + 500 * MS);
}

/* A pause that was over before the refusal came does not lie in the past. */
static void
test_late_refusal(void)
{
	OePace		pace;

	oe_pace_init(&pace);
	refuse(&pace, oe_pace_sent(&pace, NOON), NOON, 1000, NOON + 30 * SECOND);
	CHECK(pace.asked_until == NOON + 30 * SECOND);
}

/* The longest of the pauses that one burst brings. */
static void
test_longest_pause(void)
{
	OePace		pace;

	oe_pace_init(&pace);
	for (int i = 0; i < 3; i++)
		(void) oe_pace_sent(&pace, NOON);
	refuse(&pace, 1, NOON, 1000, NOON);
	refuse(&pace, 1, NOON, 9000, NOON);
	refuse(&pace, 1, NOON, 3000, NOON);
	CHECK(pace.asked_until == NOON + 9 * SECOND);
	oe_pace_pause(&pace, NOON + 4 * SECOND);
	CHECK(pace.asked_until == NOON + 9 * SECOND);
	oe_pace_resume(&pace);
	CHECK(oe_pace_allows_at(&pace, NOON) == NOON);
}

/* When all get through, the next are twice as many. */
static void
test_growth(void)
{
	OePace		pace;
	uint64_t	round = 0;
	OeTime		now;

	oe_pace_init(&pace);
	accept(&pace, oe_pace_sent(&pace, NOON), NOON);
	refuse(&pace, oe_pace_sent(&pace, NOON), NOON, 1000, NOON);
	now = pace.paused_until;
	for (int expected = 2; expected < 1000; expected *= 2)
	{
		int			sent = 0;

		for (; oe_pace_allows_at(&pace, now) == now; sent++)
			round = oe_pace_sent(&pace, now);
		CHECK_INT(pace.sent, expected);
		for (; sent > 0; sent--)
			accept(&pace, round, now);
	}
}

/* A request without an answer does not hold up the others for long. */
static void
test_hanging(void)
{
	OePace		pace;
	OeTime		now;

	oe_pace_init(&pace);
	accept(&pace, oe_pace_sent(&pace, NOON), NOON);
	refuse(&pace, oe_pace_sent(&pace, NOON), NOON, 1000, NOON);
	now = pace.paused_until;
	(void) oe_pace_sent(&pace, now);
	(void) oe_pace_sent(&pace, now);
	CHECK(oe_pace_allows_at(&pace, now) == now + pace.length);
	now += pace.length;
	CHECK(oe_pace_allows_at(&pace, now) == now);
	(void) oe_pace_sent(&pace, now);
}

static void
test_forgotten(void)
{
	OePace		pace;
	OeTime		now;

	oe_pace_init(&pace);
	refuse(&pace, oe_pace_sent(&pace, NOON), NOON, 1000, NOON);
	now = pace.paused_until;
	CHECK_INT(oe_pace_room(&pace, now), 1);
	for (int i = 0; i < 700; i++)
	{
		now += SECOND;
		accept(&pace, oe_pace_sent(&pace, now), now);
	}
	CHECK(oe_pace_room(&pace, now) == INT64_MAX);
}

static void
test_unanswered(void)
{
	OePace		pace;

	oe_pace_init(&pace);
	refuse(&pace, oe_pace_sent(&pace, NOON), NOON, 1000, NOON);
	(void) oe_pace_sent(&pace, pace.paused_until);
	CHECK_INT(oe_pace_room(&pace, pace.paused_until), 0);
	oe_pace_unanswered(&pace, pace.round - 1);
	CHECK_INT(oe_pace_room(&pace, pace.paused_until), 0);
	oe_pace_unanswered(&pace, pace.round);
	CHECK_INT(oe_pace_room(&pace, pace.paused_until), 1);
}

/* Nothing is left of a pause of hours that was ended, nor does a round last so long. */
static void
test_resumed(void)
{
	OePace		pace;
	OeTime		now = NOON;

	oe_pace_init(&pace);
	refuse(&pace, oe_pace_sent(&pace, now), now, 7200 * 1000, now);
	CHECK(pace.length == MINUTE);
	CHECK(oe_pace_allows_at(&pace, now) > now + 7000 * SECOND);
	oe_pace_resume(&pace);
	for (int i = 0; i < 10; i++)
	{
		CHECK(oe_pace_allows_at(&pace, now) == now);
		oe_pace_unanswered(&pace, oe_pace_sent(&pace, now));
	}
	/* A refusal from before is one of another round. */
	refuse(&pace, 1, now, 1000, now);
	CHECK_INT(pace.barren, 0);
}

static void
test_clock_set_back(void)
{
	OePace		pace;

	oe_pace_init(&pace);
	refuse(&pace, oe_pace_sent(&pace, NOON), NOON, 10000, NOON);
	oe_pace_move_back(&pace, 60 * MINUTE);
	CHECK(pace.asked_until == NOON - 60 * MINUTE + 10 * SECOND);
	oe_pace_move_back(&pace, INT64_MAX);
	oe_pace_move_back(&pace, INT64_MAX);
	CHECK(oe_pace_allows_at(&pace, NOON) == NOON);
}

static void
test_extreme_times(void)
{
	static const OeTime times[] = {INT64_MIN, -1, 0, NOON, INT64_MAX - 1, INT64_MAX};

	for (int i = 0; i < COUNT(times); i++)
	{
		for (int j = 0; j < COUNT(times); j++)
		{
			OePace		pace;
			uint64_t	round;

			oe_pace_init(&pace);
			round = oe_pace_sent(&pace, times[i]);
			refuse(&pace, round, times[j], INT32_MAX, times[j]);
			round = oe_pace_sent(&pace, times[i]);
			refuse(&pace, round, times[i], -1, times[j]);
			(void) oe_pace_allows_at(&pace, times[i]);
			(void) oe_pace_room(&pace, times[j]);
		}
	}
}

/*
 * An API that lets so many requests through in a window.  Each request takes
 * "latency_ms", half of it before it is judged, and some are slower.
 */
typedef struct Api
{
	int			limit;
	OeTime		window;
	bool		fixed;			/* its windows follow each other */
	int			latency_ms;
	int			concurrency;
	bool		says_when;		/* gives Retry-After */
} Api;

#define SENT_MAX	200000

typedef struct Request
{
	OeTime		left;
	OeTime		judged;
	OeTime		answered;
	uint64_t	round;
} Request;

static Request requests[SENT_MAX];
static OeTime accepted_at[SENT_MAX];

typedef struct Outcome
{
	int			accepted;
	int			refused;
} Outcome;

/* Seconds until the API would accept one more, rounded up; 0: now. */
static int
api_judges(const Api *api, OeTime now, int accepted)
{
	OeTime		frees;

	if (accepted < api->limit)
		return 0;
	frees = accepted_at[accepted - api->limit];
	if (api->fixed)
		frees -= (frees % api->window);
	frees += api->window;
	return frees <= now ? 0 : (int) ((frees - now + SECOND - 1) / SECOND);
}

static Outcome
run(const Api *api, OeTime duration)
{
	OePace		pace;
	Outcome		outcome = {0, 0};
	int			first = 0;
	int			count = 0;

	oe_pace_init(&pace);
	srandom(42);
	for (OeTime now = NOON; now < NOON + duration && count < SENT_MAX; now += MS)
	{
		/* The first that were sent are the first that are answered. */
		while (first < count && requests[first].answered <= now)
		{
			Request    *request = &requests[first++];
			int			wait_s = api_judges(api, request->judged, outcome.accepted);
			OePaceEnding ending = refusal(request->round, request->left,
										  api->says_when ? wait_s * 1000 : -1);

			ending.refused = wait_s > 0;
			ending.random = (double) random() / (double) RAND_MAX;
			if (wait_s == 0)
				accepted_at[outcome.accepted++] = request->judged;
			else
				outcome.refused++;
			oe_pace_ended(&pace, &ending, now);
		}
		while (count - first < api->concurrency && count < SENT_MAX &&
			   oe_pace_allows_at(&pace, now) <= now)
		{
			Request    *request = &requests[count];
			OeTime		delay = api->latency_ms * MS / 2;

			request->left = now;
			request->judged = now + delay + random() % (20 * MS);
			if (count > first && request->judged < requests[count - 1].judged)
				request->judged = requests[count - 1].judged;
			request->answered = request->judged + delay;
			request->round = oe_pace_sent(&pace, now);
			count++;
		}
	}
	return outcome;
}

static void
test_sustained(void)
{
	static const Api apis[] = {
		{10, 2 * SECOND, false, 300, 64, true},
		{10, 2 * SECOND, true, 300, 64, true},
		{10, 2 * SECOND, false, 300, 16, true},
		{10, 2 * SECOND, false, 20, 64, true},
		{60, MINUTE, false, 300, 64, true},
		{60, MINUTE, true, 300, 64, true},
		{60, MINUTE, false, 300, 4, true},
		{60, MINUTE, false, 3000, 64, true},
		{600, MINUTE, false, 300, 256, true},
		{600, MINUTE, true, 300, 16, true},
		{100, 10 * SECOND, false, 300, 64, true},
		{1, SECOND, false, 300, 64, true},
	};

	for (int i = 0; i < COUNT(apis); i++)
	{
		const Api  *api = &apis[i];
		OeTime		duration = 20 * MINUTE;
		Outcome		outcome = run(api, duration);
		double		allowed = (double) api->limit * (double) duration / (double) api->window;

		if (getenv("SHOW"))
			printf("%d per %d s, %s, %d ms, %d at once: %.3f of what is allowed, %.3f refused\n",
				   api->limit, (int) (api->window / SECOND), api->fixed ? "fixed" : "sliding",
				   api->latency_ms, api->concurrency, outcome.accepted / allowed,
				   (double) outcome.refused / (outcome.accepted + outcome.refused));
		CHECK(outcome.accepted >= 0.9 * allowed);
	}
}

static const UnitTest tests[] = {
	{"no limit", test_no_limit},
	{"one burst is one pause", test_burst},
	{"pauses that we choose", test_backoff},
	{"Retry-After: 0", test_retry_after_zero},
	{"a refusal that comes late", test_late_refusal},
	{"the longest pause", test_longest_pause},
	{"growth", test_growth},
	{"a request that hangs", test_hanging},
	{"forgotten after a while", test_forgotten},
	{"a request without an answer", test_unanswered},
	{"a pause that was ended", test_resumed},
	{"clock set back", test_clock_set_back},
	{"extreme times", test_extreme_times},
	{"sustained rate", test_sustained},
};

int
main(void)
{
	return UNIT_RUN("test_pace", tests);
}
