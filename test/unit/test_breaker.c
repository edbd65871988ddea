/*
 * test_breaker.c
 *		When the queue stops because the API is in trouble, and when it goes on.
 */
#include "core/breaker.h"
#include "unit.h"

#define MS			INT64_C(1000)
#define SECOND		INT64_C(1000000)
#define NOON		(9000 * INT64_C(86400) * SECOND)
#define COUNT(array) ((int) (sizeof(array) / sizeof((array)[0])))

static void
end(OeBreaker *breaker, uint64_t round, OeTrouble trouble, bool again, OeTime now)
{
	OeBreakerEnding ending = {
		.round = round, .trouble = trouble, .status = 500, .again = again,
		.retry_after_ms = -1, .backoff_max_ms = 60000, .random = 1
	};

	oe_breaker_ended(breaker, &ending, now);
}

static void
test_kinds(void)
{
	static const struct
	{
		OeHttpResult result;
		int			status;
		OeOutcome	outcome;
		OeTrouble	trouble;
	}			table[] = {
		{OE_HTTP_NOT_SENT, 0, OE_FAILED, OE_TROUBLE_UNREACHABLE},
		{OE_HTTP_LOST, 0, OE_UNKNOWN, OE_TROUBLE_IN_DOUBT},
		{OE_HTTP_LOST, 200, OE_UNKNOWN, OE_TROUBLE_IN_DOUBT},
		{OE_HTTP_COMPLETE, 200, OE_ANSWERED, OE_TROUBLE_NONE},
		{OE_HTTP_COMPLETE, 200, OE_UNKNOWN, OE_TROUBLE_IN_DOUBT},
		{OE_HTTP_COMPLETE, 201, OE_REFUSED, OE_TROUBLE_NONE},
		{OE_HTTP_COMPLETE, 204, OE_UNKNOWN, OE_TROUBLE_IN_DOUBT},
		{OE_HTTP_COMPLETE, 302, OE_FAILED, OE_TROUBLE_UNAVAILABLE},
		{OE_HTTP_COMPLETE, 400, OE_REFUSED, OE_TROUBLE_NONE},
		{OE_HTTP_COMPLETE, 402, OE_REFUSED, OE_TROUBLE_NONE},
		{OE_HTTP_COMPLETE, 404, OE_REFUSED, OE_TROUBLE_NONE},
		{OE_HTTP_COMPLETE, 404, OE_FAILED, OE_TROUBLE_UNAVAILABLE},
		{OE_HTTP_COMPLETE, 429, OE_FAILED, OE_TROUBLE_NONE},
		{OE_HTTP_COMPLETE, 500, OE_UNKNOWN, OE_TROUBLE_IN_DOUBT},
		{OE_HTTP_COMPLETE, 502, OE_FAILED, OE_TROUBLE_UNAVAILABLE},
		{OE_HTTP_COMPLETE, 503, OE_FAILED, OE_TROUBLE_UNAVAILABLE},
		{OE_HTTP_COMPLETE, 504, OE_UNKNOWN, OE_TROUBLE_IN_DOUBT},
		{OE_HTTP_COMPLETE, 520, OE_UNKNOWN, OE_TROUBLE_IN_DOUBT},
		{OE_HTTP_COMPLETE, 521, OE_FAILED, OE_TROUBLE_UNAVAILABLE},
		{OE_HTTP_COMPLETE, 522, OE_FAILED, OE_TROUBLE_UNAVAILABLE},
		{OE_HTTP_COMPLETE, 523, OE_FAILED, OE_TROUBLE_UNAVAILABLE},
		{OE_HTTP_COMPLETE, 524, OE_UNKNOWN, OE_TROUBLE_IN_DOUBT},
		{OE_HTTP_COMPLETE, 525, OE_FAILED, OE_TROUBLE_UNAVAILABLE},
		{OE_HTTP_COMPLETE, 526, OE_FAILED, OE_TROUBLE_UNAVAILABLE},
		{OE_HTTP_COMPLETE, 527, OE_UNKNOWN, OE_TROUBLE_IN_DOUBT},
		{OE_HTTP_COMPLETE, 530, OE_FAILED, OE_TROUBLE_UNAVAILABLE},
		{OE_HTTP_COMPLETE, 599, OE_UNKNOWN, OE_TROUBLE_IN_DOUBT},
	};

	for (int i = 0; i < COUNT(table); i++)
		CHECK_INT(oe_trouble_of(table[i].result, table[i].status, table[i].outcome), table[i].trouble);
}

static void
test_opens(void)
{
	OeBreaker	breaker = {0};

	for (int i = 0; i < 7; i++)
	{
		end(&breaker, oe_breaker_sent(&breaker), OE_TROUBLE_UNAVAILABLE, false, NOON);
		CHECK(oe_breaker_allows_at(&breaker, NOON) == NOON);
	}
	end(&breaker, oe_breaker_sent(&breaker), OE_TROUBLE_UNAVAILABLE, false, NOON);
	CHECK(oe_breaker_is_open(&breaker));
	CHECK(oe_breaker_allows_at(&breaker, NOON) == NOON + 500 * MS);
}

/* What may have been paid opens it sooner. */
static void
test_in_doubt(void)
{
	OeBreaker	breaker = {0};

	for (int i = 0; i < 4; i++)
	{
		CHECK(!oe_breaker_is_open(&breaker));
		end(&breaker, oe_breaker_sent(&breaker), OE_TROUBLE_IN_DOUBT, false, NOON);
	}
	CHECK(oe_breaker_is_open(&breaker));
}

/* One burst is one wait, however many requests it has. */
static void
test_burst(void)
{
	OeBreaker	breaker = {0};

	for (int i = 0; i < 64; i++)
		(void) oe_breaker_sent(&breaker);
	for (int i = 0; i < 64; i++)
		end(&breaker, 0, OE_TROUBLE_UNREACHABLE, false, NOON);
	CHECK_INT(breaker.opened, 1);
	CHECK(breaker.paused_until == NOON + 500 * MS);
}

/* Then one request at a time tries, after waits that grow. */
static void
test_tries(void)
{
	static const int waits_ms[] = {500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};
	OeBreaker	breaker = {0};
	OeTime		now = NOON;

	for (int i = 0; i < 7; i++)
		end(&breaker, 0, OE_TROUBLE_UNREACHABLE, false, now);
	for (int i = 0; i < COUNT(waits_ms); i++)
	{
		uint64_t	round = oe_breaker_sent(&breaker);

		CHECK(i == 0 || oe_breaker_allows_at(&breaker, now) == INT64_MAX);
		end(&breaker, round, OE_TROUBLE_UNREACHABLE, false, now);
		CHECK(oe_breaker_allows_at(&breaker, now) == now + waits_ms[i] * MS);
		now = breaker.paused_until;
	}
	end(&breaker, oe_breaker_sent(&breaker), OE_TROUBLE_NONE, false, now);
	CHECK(!oe_breaker_is_open(&breaker));
	CHECK(oe_breaker_allows_at(&breaker, now) == now);
}

/* An answer that was in flight when it opened closes it, too. */
static void
test_late_answer(void)
{
	OeBreaker	breaker = {0};

	for (int i = 0; i < 9; i++)
		(void) oe_breaker_sent(&breaker);
	for (int i = 0; i < 8; i++)
		end(&breaker, 0, OE_TROUBLE_UNAVAILABLE, false, NOON);
	CHECK(oe_breaker_is_open(&breaker));
	end(&breaker, 0, OE_TROUBLE_NONE, false, NOON);
	CHECK(!oe_breaker_is_open(&breaker));
}

/* Calls that fail again and again do not open it ... */
static void
test_again(void)
{
	OeBreaker	breaker = {0};

	for (int i = 0; i < 100; i++)
		end(&breaker, oe_breaker_sent(&breaker), OE_TROUBLE_UNAVAILABLE, true, NOON);
	CHECK(!oe_breaker_is_open(&breaker));

	/* ... and do not make its waits grow, but still wait. */
	for (int i = 0; i < 8; i++)
		end(&breaker, oe_breaker_sent(&breaker), OE_TROUBLE_UNAVAILABLE, false, NOON);
	for (int i = 0; i < 10; i++)
	{
		end(&breaker, oe_breaker_sent(&breaker), OE_TROUBLE_UNAVAILABLE, true, NOON + i * SECOND);
		CHECK(breaker.paused_until == NOON + i * SECOND + 500 * MS);
	}
}

static void
test_retry_after(void)
{
	OeBreaker	breaker = {.streak = 7};
	OeBreakerEnding ending = {
		.trouble = OE_TROUBLE_UNAVAILABLE, .retry_after_ms = 7000, .backoff_max_ms = 60000
	};

	oe_breaker_ended(&breaker, &ending, NOON);
	CHECK(breaker.paused_until == NOON + 7 * SECOND);
	(void) oe_breaker_sent(&breaker);
	oe_breaker_ended(&breaker, &ending, INT64_MAX - SECOND);
	CHECK(breaker.paused_until == NOON + 7 * SECOND);
	ending.round = breaker.round;
	oe_breaker_ended(&breaker, &ending, INT64_MAX - SECOND);
	CHECK(breaker.paused_until == INT64_MAX);
}

static void
test_unsent(void)
{
	OeBreaker	breaker = {.opened = 1};
	uint64_t	round = oe_breaker_sent(&breaker);

	CHECK(oe_breaker_allows_at(&breaker, NOON) == INT64_MAX);
	oe_breaker_unsent(&breaker, round);
	CHECK(oe_breaker_allows_at(&breaker, NOON) == NOON);
}

/* Without patience it waits, too; and not for a time that comes again. */
static void
test_waits(void)
{
	OeBreaker	breaker = {.streak = 7};
	OeBreakerEnding ending = {
		.trouble = OE_TROUBLE_UNAVAILABLE, .retry_after_ms = -1, .backoff_max_ms = 0, .random = 1
	};

	oe_breaker_ended(&breaker, &ending, NOON);
	CHECK(breaker.paused_until == NOON + 500 * MS);
	oe_breaker_move_back(&breaker, 3600 * SECOND);
	CHECK(breaker.paused_until == NOON - 3600 * SECOND + 500 * MS);
	oe_breaker_move_back(&breaker, INT64_MAX);
	oe_breaker_move_back(&breaker, INT64_MAX);
	CHECK(oe_breaker_allows_at(&breaker, NOON) == NOON);
}

static const UnitTest tests[] = {
	{"kinds of trouble", test_kinds},
	{"opens after some failures", test_opens},
	{"opens sooner if in doubt", test_in_doubt},
	{"one burst is one wait", test_burst},
	{"one request at a time tries", test_tries},
	{"an answer that comes late", test_late_answer},
	{"a call that fails again", test_again},
	{"Retry-After", test_retry_after},
	{"a request that was not sent", test_unsent},
	{"shortest wait, and a clock set back", test_waits},
};

int
main(void)
{
	return UNIT_RUN("test_breaker", tests);
}
