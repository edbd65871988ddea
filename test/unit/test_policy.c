/*
 * test_policy.c
 *		The decisions, with time as an argument: tables, boundaries, and long
 *		random histories that are compared with a simple model.
 */
#define _DEFAULT_SOURCE			/* timegm */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/policy.h"
#include "unit.h"

#define SECOND		INT64_C(1000000)
#define MINUTE		(60 * SECOND)
#define DAY			(24 * 60 * MINUTE)
#define NOON		(9000 * DAY + DAY / 2)
#define COUNT(array) ((int) (sizeof(array) / sizeof((array)[0])))

static const OeLimits no_limits = {
	.prices = {3 * OE_CREDITS_ONE},
	.in_answer = {true},
	.max_retries = 3,
	.retry_wait_max_ms = 60000
};

/* A repeatable sequence of numbers (xorshift). */
static uint64_t random_state;

static uint32_t
next_random(uint32_t below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t) (random_state >> 32) % below;
}

/* Ask for admission.  Sets "when" a request may go, or the "refusal". */
static OeTime when;
static OeCode refusal;

static OeAdmission
admit(OeAccount *account, const OeLimits *limits, OeTime now)
{
	OeError		error = {0};
	OeAdmission admission;

	when = 0;
	admission = oe_account_admit(account, limits, now, &when, &error);
	refusal = error.code;
	CHECK((admission == OE_ADMIT_NEVER) == (refusal != OE_OK));
	CHECK((admission == OE_ADMIT_NEVER) == (error.message != NULL));
	CHECK(admission != OE_ADMIT_LATER || when > now);
	oe_error_free(&error);
	return admission;
}

static bool
may_go(OeAccount *account, const OeLimits *limits, OeTime now)
{
	return admit(account, limits, now) == OE_ADMIT_NOW;
}

static OeUsage
usage(const OeAccount *account, OeTime now)
{
	OeUsage		result;

	oe_account_usage(account, now, &result);
	return result;
}

/* Send "count" requests at once and answer them, without limits. */
static void
send_and_end(OeAccount *account, OeTime now, int count)
{
	for (int i = 0; i < count; i++)
	{
		CHECK(oe_account_sent(account, &no_limits, now));
		oe_account_ended(account, now, now, OE_ANSWERED,
						 no_limits.prices[0],
						 no_limits.prices[0]);
	}
}

static void
test_outcome(void)
{
	static const struct
	{
		OeHttpResult result;
		int			status;
		OeOutcome	outcome;
	}			table[] = {
		{OE_HTTP_COMPLETE, 200, OE_ANSWERED},
		{OE_HTTP_COMPLETE, 201, OE_REFUSED},
		{OE_HTTP_COMPLETE, 202, OE_UNKNOWN},
		{OE_HTTP_COMPLETE, 302, OE_FAILED},
		{OE_HTTP_COMPLETE, 402, OE_REFUSED},
		{OE_HTTP_COMPLETE, 404, OE_REFUSED},
		{OE_HTTP_COMPLETE, 429, OE_FAILED},
		{OE_HTTP_COMPLETE, 500, OE_UNKNOWN},
		{OE_HTTP_COMPLETE, 502, OE_FAILED},
		{OE_HTTP_COMPLETE, 503, OE_FAILED},
		{OE_HTTP_COMPLETE, 504, OE_UNKNOWN},
		{OE_HTTP_NOT_SENT, 0, OE_FAILED},
		{OE_HTTP_LOST, 0, OE_UNKNOWN},
		{OE_HTTP_LOST, 200, OE_UNKNOWN},
		{OE_HTTP_LOST, 404, OE_UNKNOWN},
	};

	for (int i = 0; i < COUNT(table); i++)
		CHECK(oe_policy_outcome(table[i].result, table[i].status) == table[i].outcome);
}

static void
test_which_are_retried(void)
{
	static const struct
	{
		OeHttpResult result;
		int			status;
		bool		again;
	}			table[] = {
		{OE_HTTP_NOT_SENT, 0, true},
		{OE_HTTP_COMPLETE, 429, true},
		{OE_HTTP_COMPLETE, 502, true},
		{OE_HTTP_COMPLETE, 503, true},
		{OE_HTTP_COMPLETE, 200, false},
		{OE_HTTP_COMPLETE, 201, false},
		{OE_HTTP_COMPLETE, 302, false},
		{OE_HTTP_COMPLETE, 402, false},
		{OE_HTTP_COMPLETE, 404, false},
		{OE_HTTP_COMPLETE, 422, false},
		{OE_HTTP_COMPLETE, 500, false},
		{OE_HTTP_COMPLETE, 504, false},
		{OE_HTTP_COMPLETE, 524, false},
		{OE_HTTP_LOST, 0, false},
		{OE_HTTP_LOST, 429, false},
		{OE_HTTP_LOST, 503, false},
	};
	int			wait_ms;

	for (int i = 0; i < COUNT(table); i++)
		CHECK(oe_policy_retry(&no_limits, table[i].result, table[i].status,
							  -1, 1, 0, &wait_ms) == table[i].again);
}

/* Only requests that certainly were not paid are repeated. */
static void
test_retry_never_pays_twice(void)
{
	for (int status = 0; status < 600; status++)
	{
		for (OeHttpResult result = OE_HTTP_COMPLETE; result <= OE_HTTP_LOST; result++)
		{
			int			wait_ms;

			if (oe_policy_retry(&no_limits, result, status, -1, 1, 0.5, &wait_ms))
				CHECK(oe_policy_outcome(result, status) == OE_FAILED);
		}
	}
}

static void
test_how_often_retried(void)
{
	OeLimits	limits = no_limits;
	int			wait_ms;

	CHECK(oe_policy_retry(&limits, OE_HTTP_NOT_SENT, 0, -1, 3, 0, &wait_ms));
	CHECK(!oe_policy_retry(&limits, OE_HTTP_NOT_SENT, 0, -1, 4, 0, &wait_ms));
	limits.max_retries = 0;
	CHECK(!oe_policy_retry(&limits, OE_HTTP_NOT_SENT, 0, -1, 1, 0, &wait_ms));
}

static void
test_retry_wait(void)
{
	OeLimits	limits = no_limits;
	int			wait_ms;

	limits.max_retries = INT32_MAX;

	/* between half of and all of 500 ms, which doubles */
	for (int tries = 1, full = 500; tries <= 20; tries++)
	{
		CHECK(oe_policy_retry(&limits, OE_HTTP_NOT_SENT, 0, -1, tries, 0, &wait_ms));
		CHECK(wait_ms == full / 2);
		CHECK(oe_policy_retry(&limits, OE_HTTP_NOT_SENT, 0, -1, tries, 1, &wait_ms));
		CHECK(wait_ms == full);
		full = full * 2 < 60000 ? full * 2 : 60000;
	}

	/* the largest cap, and caps below the first wait */
	limits.retry_wait_max_ms = INT32_MAX;
	CHECK(oe_policy_retry(&limits, OE_HTTP_NOT_SENT, 0, -1, INT32_MAX, 1, &wait_ms));
	CHECK(wait_ms == INT32_MAX);
	limits.retry_wait_max_ms = 100;
	CHECK(oe_policy_retry(&limits, OE_HTTP_NOT_SENT, 0, -1, 1, 1, &wait_ms));
	CHECK(wait_ms == 100);
	limits.retry_wait_max_ms = 0;
	CHECK(oe_policy_retry(&limits, OE_HTTP_NOT_SENT, 0, -1, 5, 0.3, &wait_ms));
	CHECK(wait_ms == 0);
}

static void
test_retry_after(void)
{
	int			wait_ms;

	CHECK(oe_policy_retry(&no_limits, OE_HTTP_COMPLETE, 429, 7000, 1, 0.5, &wait_ms));
	CHECK(wait_ms == 7000);
	CHECK(oe_policy_retry(&no_limits, OE_HTTP_COMPLETE, 503, 0, 1, 0.5, &wait_ms));
	CHECK(wait_ms == 0);
	CHECK(oe_policy_retry(&no_limits, OE_HTTP_COMPLETE, 429, 60000, 1, 0.5, &wait_ms));
	CHECK(wait_ms == 60000);
	CHECK(!oe_policy_retry(&no_limits, OE_HTTP_COMPLETE, 429, 60001, 1, 0.5, &wait_ms));
}

static void
test_credits_parse(void)
{
	static const struct
	{
		const char *text;
		OeCredits	credits;
	}			good[] = {
		{"0", 0},
		{"3", 3000000},
		{"0.1", 100000},
		{"0.10", 100000},
		{"007", 7000000},
		{"12.345678", 12345678},
		{"0.000001", 1},
		{"0.0000001", 1},
		{"0.0000010000000000000000000000000000000001", 2},
		{"0.000000000000000000000000000000000000000000", 0},
		{"2.9999999", 3000000},
		{"1e0", 1000000},
		{"1E2", 100000000},
		{"1.5e+1", 15000000},
		{"25e-1", 2500000},
		{"123456e-9", 124},
		{"1e-400", 1},
		{"0e999999999999999999999", 0},
		{"0.0e-999999999999999999999", 0},
		{"1e-999999999999999999999", 1},
		{"1000000000", OE_CREDITS_MAX},
		{"1e9", OE_CREDITS_MAX},
		{"0.001e12", OE_CREDITS_MAX},
		{"999999999.9999999", OE_CREDITS_MAX},
		{"10000000000000000000000e-13", OE_CREDITS_MAX},
	};
	static const char *const bad[] = {
		"", " ", "-1", "-0", "+1", ".5", "5.", "1e", "1e+", "e1", "1.e1",
		" 1", "1 ", "1,5", "0x10", "NaN", "Infinity", "1..2", "1.2.3",
		"1000000000.0000001", "1000000001", "1e10", "999999999.99999999e1",
		"99999999999999999999999999999999", "1e999999999999999999999", "3 credits",
	};
	OeCredits	credits;

	for (int i = 0; i < COUNT(good); i++)
	{
		credits = -1;
		CHECK(oe_credits_parse(good[i].text, &credits));
		CHECK(credits == good[i].credits);
	}
	for (int i = 0; i < COUNT(bad); i++)
		CHECK(!oe_credits_parse(bad[i], &credits));
}

static void
test_no_limits(void)
{
	OeAccount  *account = oe_account_new();

	for (int i = 0; i < 3000; i++)
	{
		CHECK(may_go(account, &no_limits, NOON));
		CHECK(oe_account_sent(account, &no_limits, NOON));
	}
	CHECK(usage(account, NOON).in_flight == 3000);
	CHECK(usage(account, NOON).last_minute == 3000);
	CHECK(usage(account, NOON).today == 3000);
	CHECK(usage(account, NOON).credits_today == 9000 * OE_CREDITS_ONE);
	oe_account_free(account);
	oe_account_free(NULL);
}

static void
test_concurrency(void)
{
	OeAccount  *account = oe_account_new();
	OeLimits	limits = no_limits;

	limits.max_concurrency = 2;
	CHECK(oe_account_sent(account, &limits, NOON));
	CHECK(may_go(account, &limits, NOON));
	CHECK(oe_account_sent(account, &limits, NOON));
	CHECK(admit(account, &limits, NOON) == OE_ADMIT_WHEN_ONE_ENDS);
	limits.max_concurrency = 3;
	CHECK(may_go(account, &limits, NOON));
	limits.max_concurrency = 1;
	oe_account_ended(account, NOON, NOON, OE_UNKNOWN, limits.prices[0], 0);
	CHECK(admit(account, &limits, NOON) == OE_ADMIT_WHEN_ONE_ENDS);
	oe_account_ended(account, NOON, NOON, OE_REFUSED, limits.prices[0], 0);
	CHECK(may_go(account, &limits, NOON));
	oe_account_free(account);
}

static void
test_rate_limit(void)
{
	OeAccount  *account = oe_account_new();
	OeLimits	limits = no_limits;

	/* Requests sent without a limit count for a later one. */
	send_and_end(account, NOON, 2);
	send_and_end(account, NOON + 10 * SECOND, 1);
	limits.rate_limit = 3;
	CHECK(admit(account, &limits, NOON + 11 * SECOND) == OE_ADMIT_LATER);
	CHECK(when == NOON + MINUTE);
	CHECK(admit(account, &limits, NOON + MINUTE - 1) == OE_ADMIT_LATER);
	CHECK(may_go(account, &limits, NOON + MINUTE));
	send_and_end(account, NOON + MINUTE, 2);
	CHECK(admit(account, &limits, NOON + MINUTE) == OE_ADMIT_LATER);
	CHECK(when == NOON + 10 * SECOND + MINUTE);

	/* A changed limit applies at once, in both directions. */
	limits.rate_limit = 1;
	CHECK(admit(account, &limits, NOON + MINUTE) == OE_ADMIT_LATER);
	CHECK(when == NOON + 2 * MINUTE);
	limits.rate_limit = 7;
	CHECK(may_go(account, &limits, NOON + MINUTE));
	oe_account_free(account);
}

/* Once half of the minute is used, a request keeps its distance. */
static void
test_spacing(void)
{
	OeAccount  *account = oe_account_new();
	OeLimits	limits = no_limits;

	limits.rate_limit = 100;	/* one in 600 ms, or in 150 ms */
	send_and_end(account, NOON, 49);
	CHECK(may_go(account, &limits, NOON));
	send_and_end(account, NOON, 1);
	CHECK(admit(account, &limits, NOON) == OE_ADMIT_LATER);
	CHECK(when == NOON + SECOND * 15 / 100);
	CHECK(may_go(account, &limits, when));
	limits.rate_limit = 4;		/* but not more than half a second */
	oe_account_free(account);
	account = oe_account_new();
	send_and_end(account, NOON, 2);
	CHECK(admit(account, &limits, NOON) == OE_ADMIT_LATER);
	CHECK(when == NOON + SECOND / 2);
	oe_account_free(account);
}

/* A request counts from when the API may have counted it, not from the claim. */
static void
test_left(void)
{
	OeAccount  *account = oe_account_new();
	OeLimits	limits = no_limits;
	const OeTime margin = SECOND / 5;

	limits.rate_limit = 2;
	CHECK(oe_account_sent(account, &limits, NOON));
	CHECK(oe_account_sent(account, &limits, NOON + SECOND));

	/* It was slow to leave, and fast to be answered. */
	oe_account_left(account, NOON, NOON + 3 * SECOND, NOON + 3 * SECOND + 1);
	CHECK(admit(account, &limits, NOON + 4 * SECOND) == OE_ADMIT_LATER);
	CHECK(when == NOON + SECOND + MINUTE);
	/* This one was answered later than it can have arrived. */
	oe_account_left(account, NOON + SECOND, NOON + SECOND, NOON + 9 * SECOND);
	CHECK(admit(account, &limits, NOON + 9 * SECOND) == OE_ADMIT_LATER);
	CHECK(when == NOON + 2 * SECOND + margin + MINUTE);
	CHECK(may_go(account, &limits, NOON + 2 * SECOND + margin + MINUTE));
	CHECK(usage(account, NOON + 2 * SECOND + margin + MINUTE).last_minute == 1);
	CHECK(usage(account, NOON + 3 * SECOND + MINUTE + margin + 1).last_minute == 0);

	/* What is not remembered any more changes nothing. */
	oe_account_left(account, NOON, NOON, NOON + MINUTE);
	CHECK(usage(account, NOON + 2 * MINUTE).last_minute == 0);
	oe_account_free(account);
}

static void
test_rate_limit_at_its_maximum(void)
{
	OeAccount  *account = oe_account_new();
	OeLimits	limits = no_limits;
	const int	more = 1000;

	/* One each millisecond, more than are remembered. */
	for (int i = 0; i < OE_RATE_LIMIT_MAX + more; i++)
		send_and_end(account, NOON + i * SECOND / 10000, 1);
	CHECK(usage(account, NOON + 10 * SECOND).last_minute == OE_RATE_LIMIT_MAX);

	limits.rate_limit = OE_RATE_LIMIT_MAX;
	CHECK(admit(account, &limits, NOON + 10 * SECOND) == OE_ADMIT_LATER);
	CHECK(when == NOON + more * SECOND / 10000 + MINUTE);
	limits.rate_limit = INT32_MAX;
	CHECK(admit(account, &limits, NOON + 10 * SECOND) == OE_ADMIT_LATER);
	oe_account_free(account);
}

static void
test_daily_limit(void)
{
	OeAccount  *account = oe_account_new();
	OeLimits	limits = no_limits;
	OeTime		midnight = 9001 * DAY;

	limits.daily_limit = 2;
	send_and_end(account, NOON, 1);
	CHECK(may_go(account, &limits, NOON));
	send_and_end(account, NOON, 1);
	CHECK(admit(account, &limits, NOON) == OE_ADMIT_NEVER);
	CHECK(refusal == OE_LOCAL_RATE_LIMIT);
	CHECK(admit(account, &limits, midnight - 1) == OE_ADMIT_NEVER);
	CHECK(usage(account, midnight - 1).today == 2);
	CHECK(usage(account, midnight).today == 0);
	CHECK(may_go(account, &limits, midnight));

	/* A failure gives the day's request back, a refusal does not. */
	CHECK(oe_account_sent(account, &limits, midnight));
	oe_account_ended(account, midnight, midnight, OE_FAILED,
					 limits.prices[0], 0);
	CHECK(usage(account, midnight).today == 0);
	CHECK(usage(account, midnight).last_minute == 1);
	CHECK(oe_account_sent(account, &limits, midnight));
	oe_account_ended(account, midnight, midnight, OE_REFUSED,
					 limits.prices[0], 0);
	CHECK(usage(account, midnight).today == 1);
	oe_account_free(account);
}

static void
test_daily_limit_texts(void)
{
	OeAccount  *account = oe_account_new();
	OeLimits	limits = no_limits;
	OeError		error = {0};

	limits.daily_limit = 1000;
	oe_account_restore_day(account, NOON, 1234, 0);
	CHECK(oe_account_admit(account, &limits, NOON, &when, &error) == OE_ADMIT_NEVER);
	CHECK_STRING(error.message, "daily limit of 1000 requests has been reached");
	CHECK_STRING(error.detail, "1234 of 1000 requests have been sent since midnight UTC.");
	CHECK_STRING(error.hint, "Increase \"ocean_enrich.daily_limit\", wait until midnight UTC, or queue the "
				 "requests with ocean_enrich.submit().  Answers that were paid for are reused.");
	oe_error_free(&error);
	oe_account_free(account);
}

static void
test_credit_limit(void)
{
	OeAccount  *account = oe_account_new();
	OeLimits	limits = no_limits;

	limits.credit_limit = 9 * OE_CREDITS_ONE;
	for (int i = 0; i < 3; i++)
	{
		CHECK(may_go(account, &limits, NOON));
		CHECK(oe_account_sent(account, &limits, NOON));
	}
	/* the whole limit is reserved, but not spent yet */
	CHECK(admit(account, &limits, NOON) == OE_ADMIT_WHEN_ONE_ENDS);

	/* 9 reserved; a cheap answer gives the rest back: 6.1 + 3 is too much */
	oe_account_ended(account, NOON, NOON, OE_ANSWERED, 3 * OE_CREDITS_ONE,
					 OE_CREDITS_ONE / 10);
	CHECK(usage(account, NOON).credits_today == 61 * OE_CREDITS_ONE / 10);
	CHECK(admit(account, &limits, NOON) == OE_ADMIT_WHEN_ONE_ENDS);

	/* an unknown outcome keeps its reservation, a refusal gives it back */
	oe_account_ended(account, NOON, NOON, OE_UNKNOWN, 3 * OE_CREDITS_ONE, 0);
	CHECK(admit(account, &limits, NOON) == OE_ADMIT_WHEN_ONE_ENDS);
	limits.credit_limit = 6 * OE_CREDITS_ONE;
	CHECK(admit(account, &limits, NOON) == OE_ADMIT_NEVER);
	CHECK(refusal == OE_LOCAL_CREDIT_LIMIT);
	limits.credit_limit = 9 * OE_CREDITS_ONE;
	oe_account_ended(account, NOON, NOON, OE_REFUSED, 3 * OE_CREDITS_ONE, 0);
	CHECK(usage(account, NOON).credits_today == 31 * OE_CREDITS_ONE / 10);
	CHECK(may_go(account, &limits, NOON));

	/* exactly up to the limit */
	limits.credit_limit = 61 * OE_CREDITS_ONE / 10;
	CHECK(may_go(account, &limits, NOON));
	limits.credit_limit--;
	CHECK(admit(account, &limits, NOON) == OE_ADMIT_NEVER);
	oe_account_free(account);
}

static void
test_unsent(void)
{
	OeAccount  *account = oe_account_new();
	OeLimits	limits = no_limits;

	limits.rate_limit = 1;
	CHECK(oe_account_sent(account, &limits, NOON));
	CHECK(admit(account, &limits, NOON) == OE_ADMIT_LATER);
	oe_account_unsent(account, &limits, NOON, NOON);
	CHECK(may_go(account, &limits, NOON));
	CHECK(usage(account, NOON).in_flight == 0);
	CHECK(usage(account, NOON).last_minute == 0);
	CHECK(usage(account, NOON).today == 0);
	CHECK(usage(account, NOON).credits_today == 0);
	oe_account_free(account);
}

/* Each value replaces that of the day, and does not count for other days. */
static void
test_revealed(void)
{
	OeAccount  *account = oe_account_new();
	OeLimits	limits = no_limits;
	OeTime		midnight = 9001 * DAY;
	OeCredits	one = OE_CREDITS_ONE;

	limits.credit_limit = 10 * one;
	oe_account_restore_day(account, midnight - SECOND, 1, 3 * one);
	oe_account_set_revealed(account, midnight - SECOND, 4 * one);
	CHECK(usage(account, midnight - SECOND).credits_today == 7 * one);
	CHECK(may_go(account, &limits, midnight - SECOND));
	oe_account_set_revealed(account, midnight - SECOND, 4 * one + 1);
	CHECK(usage(account, midnight - SECOND).credits_today == 7 * one + 1);
	CHECK(admit(account, &limits, midnight - SECOND) == OE_ADMIT_NEVER);
	oe_account_set_revealed(account, midnight - SECOND, 0);
	CHECK(usage(account, midnight - SECOND).credits_today == 3 * one);
	oe_account_set_revealed(account, midnight - SECOND, 6 * one);

	/* a new day; then the clock is set back over midnight */
	CHECK(usage(account, midnight).credits_today == 0);
	oe_account_set_revealed(account, midnight, 2 * one);
	CHECK(usage(account, midnight).credits_today == 2 * one);
	oe_account_set_revealed(account, midnight - SECOND, 9 * one);
	CHECK(usage(account, midnight).credits_today == 2 * one);

	/* after a restore it is forgotten */
	oe_account_restore_day(account, midnight, 1, 3 * one);
	oe_account_set_revealed(account, midnight, one);
	CHECK(usage(account, midnight).credits_today == 4 * one);
	oe_account_set_revealed(account, midnight, INT64_MAX);
	CHECK(admit(account, &limits, midnight) == OE_ADMIT_NEVER);
	oe_account_set_revealed(account, midnight, 0);
	oe_account_free(account);
}

static void
test_credit_limit_texts(void)
{
	OeAccount  *account = oe_account_new();
	OeLimits	limits = no_limits;
	OeError		error = {0};

	limits.credit_limit = 30 * OE_CREDITS_ONE;
	limits.prices[0] = OE_CREDITS_ONE / 10;
	oe_account_restore_day(account, NOON, 1, 30 * OE_CREDITS_ONE - 1);
	CHECK(oe_account_admit(account, &limits, NOON, &when, &error) == OE_ADMIT_NEVER);
	CHECK_STRING(error.message, "credit limit of 30 credits per day has been reached");
	CHECK_STRING(error.detail, "29.999999 credits have been spent or reserved since "
				 "midnight UTC, and a request reserves 0.1.");
	CHECK_STRING(error.hint, "Increase \"ocean_enrich.credit_limit\" or wait until midnight UTC.");
	oe_error_free(&error);
	oe_account_free(account);
}

/* Reveals in the answer are reserved, too. */
static void
test_reserve(void)
{
	const OeCredits one = OE_CREDITS_ONE;
	OeAccount  *account = oe_account_new();
	OeLimits	limits = no_limits;

	limits.credit_limit = 30 * one;
	limits.prices[1] = one;
	limits.prices[2] = 10 * one;
	CHECK(oe_limits_reserve(&limits) == 3 * one);
	limits.in_answer[1] = true;
	CHECK(oe_limits_reserve(&limits) == 4 * one);
	limits.in_answer[2] = true;
	CHECK(oe_limits_reserve(&limits) == 14 * one);

	CHECK(may_go(account, &limits, NOON));
	CHECK(oe_account_sent(account, &limits, NOON));
	CHECK(oe_account_sent(account, &limits, NOON));
	CHECK(usage(account, NOON).credits_today == 28 * one);
	CHECK(admit(account, &limits, NOON) == OE_ADMIT_WHEN_ONE_ENDS);
	oe_account_unsent(account, &limits, NOON, NOON);
	CHECK(usage(account, NOON).credits_today == 14 * one);
	CHECK(may_go(account, &limits, NOON));
	oe_account_ended(account, NOON, NOON, OE_UNKNOWN, 14 * one, 0);
	CHECK(may_go(account, &limits, NOON));
	oe_account_restore_day(account, NOON, 1, 17 * one);
	CHECK(admit(account, &limits, NOON) == OE_ADMIT_NEVER);
	limits.in_answer[2] = false;
	CHECK(may_go(account, &limits, NOON));
	oe_account_free(account);

	limits.prices[0] = INT64_MAX;
	CHECK(oe_limits_reserve(&limits) == INT64_MAX);
}

/* A request belongs to the day on which it was sent. */
static void
test_in_flight_across_midnight(void)
{
	static const OeOutcome outcomes[] = {
		OE_ANSWERED, OE_REFUSED, OE_FAILED, OE_UNKNOWN
	};

	for (int i = 0; i < COUNT(outcomes); i++)
	{
		OeAccount  *account = oe_account_new();
		OeTime		midnight = 9001 * DAY;

		CHECK(oe_account_sent(account, &no_limits, midnight - SECOND));
		CHECK(oe_account_sent(account, &no_limits, midnight + SECOND));
		oe_account_ended(account, midnight - SECOND, midnight + 2 * SECOND,
						 outcomes[i], 3 * OE_CREDITS_ONE, 7 * OE_CREDITS_ONE);
		CHECK(usage(account, midnight + 2 * SECOND).in_flight == 1);
		CHECK(usage(account, midnight + 2 * SECOND).last_minute == 2);
		CHECK(usage(account, midnight + 2 * SECOND).today == 1);
		CHECK(usage(account, midnight + 2 * SECOND).credits_today == 3 * OE_CREDITS_ONE);
		oe_account_free(account);
	}
}

static void
test_pause(void)
{
	OeAccount  *account = oe_account_new();
	OeLimits	limits = no_limits;
	OeError		error = {0};

	oe_account_pause(account, NOON + 60 * SECOND);
	oe_account_pause(account, NOON + 10 * SECOND);
	CHECK(usage(account, NOON).paused_until == NOON + 60 * SECOND);
	CHECK(usage(account, NOON + 60 * SECOND).paused_until == 0);
	CHECK(admit(account, &limits, NOON) == OE_ADMIT_LATER);
	CHECK(when == NOON + 60 * SECOND);

	/* longer than the maximum wait */
	oe_account_pause(account, NOON + 60 * SECOND + 1);
	CHECK(admit(account, &limits, NOON) == OE_ADMIT_NEVER);
	CHECK(refusal == OE_API_RATE_LIMIT);
	CHECK(admit(account, &limits, NOON + 1) == OE_ADMIT_LATER);
	limits.retry_wait_max_ms = 0;
	CHECK(oe_account_admit(account, &limits, NOON + 1, &when, &error) == OE_ADMIT_NEVER);
	CHECK_STRING(error.message, "the API asks for a pause");
	CHECK_STRING(error.detail, "It accepts no request for another 60 s.");
	CHECK_STRING(error.hint, "Run the statement again after that, or increase "
				 "\"ocean_enrich.retry_wait_max\".");
	oe_error_free(&error);

	CHECK(admit(account, &limits, NOON + 60 * SECOND) == OE_ADMIT_NEVER);
	CHECK(may_go(account, &limits, NOON + 60 * SECOND + 1));
	oe_account_free(account);
}

/* The longer of two waits applies. */
static void
test_pause_and_rate_limit(void)
{
	OeAccount  *account = oe_account_new();
	OeLimits	limits = no_limits;

	limits.rate_limit = 1;
	send_and_end(account, NOON, 1);
	oe_account_pause(account, NOON + 30 * SECOND);
	CHECK(admit(account, &limits, NOON) == OE_ADMIT_LATER);
	CHECK(when == NOON + 60 * SECOND);
	oe_account_pause(account, NOON + 90 * SECOND);
	CHECK(admit(account, &limits, NOON + 40 * SECOND) == OE_ADMIT_LATER);
	CHECK(when == NOON + 90 * SECOND);
	oe_account_free(account);
}

static void
test_restore(void)
{
	OeAccount  *account = oe_account_new();
	OeLimits	limits = no_limits;

	oe_account_restore_day(account, NOON, 41, 123 * OE_CREDITS_ONE);
	CHECK(oe_account_restore_sent(account, NOON - 50 * SECOND));
	CHECK(oe_account_restore_sent(account, NOON - 5 * SECOND));
	CHECK(usage(account, NOON).in_flight == 0);
	CHECK(usage(account, NOON).last_minute == 2);
	CHECK(usage(account, NOON).today == 41);
	CHECK(usage(account, NOON).credits_today == 123 * OE_CREDITS_ONE);

	limits.rate_limit = 2;
	CHECK(admit(account, &limits, NOON) == OE_ADMIT_LATER);
	CHECK(when == NOON + 10 * SECOND);
	limits.rate_limit = 0;
	limits.daily_limit = 41;
	CHECK(admit(account, &limits, NOON) == OE_ADMIT_NEVER);
	limits.daily_limit = 42;
	CHECK(may_go(account, &limits, NOON));
	oe_account_free(account);
}

/* Times out of order or in the future never make the limits less strict. */
static void
test_restore_oddities(void)
{
	OeAccount  *account = oe_account_new();
	OeLimits	limits = no_limits;

	oe_account_restore_day(account, NOON, 0, 0);
	CHECK(oe_account_restore_sent(account, NOON + DAY));
	CHECK(oe_account_restore_sent(account, NOON));
	limits.rate_limit = 2;
	CHECK(admit(account, &limits, NOON) == OE_ADMIT_LATER);
	CHECK(when == NOON + MINUTE);
	CHECK(may_go(account, &limits, NOON + MINUTE));
	oe_account_free(account);
}

/* After a change of the clock, waits are as long as before. */
static void
test_clock_set_back(void)
{
	static const OeTime steps[] = {
		1, SECOND, MINUTE, 60 * MINUTE, DAY, 10 * DAY, 9000 * DAY, 20000 * DAY
	};

	for (int i = 0; i < COUNT(steps); i++)
	{
		OeAccount  *account = oe_account_new();
		OeLimits	limits = no_limits;
		OeTime		now = NOON - steps[i];

		limits.rate_limit = 5;
		limits.daily_limit = 6;
		send_and_end(account, NOON, 5);
		oe_account_pause(account, NOON + 20 * SECOND);

		/* not too many requests ... */
		CHECK(admit(account, &limits, now) == OE_ADMIT_LATER);
		CHECK(when == now + MINUTE);
		CHECK(usage(account, now).last_minute == 5);
		CHECK(usage(account, now).today == 5);
		CHECK(usage(account, now).paused_until == now + 20 * SECOND);
		/* ... and no endless wait */
		CHECK(may_go(account, &limits, now + MINUTE));
		send_and_end(account, now + MINUTE, 1);
		CHECK(admit(account, &limits, now + 2 * MINUTE) == OE_ADMIT_NEVER);
		CHECK(may_go(account, &limits, now + 2 * DAY));
		oe_account_free(account);
	}
}

/* Nothing is given back to a day whose counters have been reset. */
static void
test_clock_set_back_and_forth(void)
{
	OeAccount  *account = oe_account_new();

	CHECK(oe_account_sent(account, &no_limits, NOON));
	(void) admit(account, &no_limits, NOON - 10 * DAY);
	oe_account_ended(account, NOON, NOON, OE_FAILED,
					 no_limits.prices[0], 0);
	CHECK(usage(account, NOON).today == 0);
	CHECK(usage(account, NOON).credits_today == 0);
	oe_account_free(account);
}

/* A clock that jitters at midnight does not begin the day twice. */
static void
test_clock_jitters_at_midnight(void)
{
	OeAccount  *account = oe_account_new();
	OeLimits	limits = no_limits;
	OeTime		midnight = 9001 * DAY;
	int			sent = 0;

	limits.daily_limit = 10;
	send_and_end(account, midnight - SECOND, 10);
	for (int i = 0; i < 100; i++)
	{
		OeTime		now = midnight + (i % 2 ? -SECOND : SECOND);

		if (may_go(account, &limits, now))
		{
			send_and_end(account, now, 1);
			sent++;
		}
	}
	CHECK(sent == 10);
	oe_account_free(account);
}

static void
test_extreme_values(void)
{
	static const OeTime times[] = {
		INT64_MIN, INT64_MIN + 1, -DAY - 1, -DAY, -1, 0, 1, NOON,
		INT64_MAX - 1, INT64_MAX
	};

	/* The sanitizer detects overflows; the counters must stay plausible. */
	for (int i = 0; i < COUNT(times); i++)
	{
		for (int j = 0; j < COUNT(times); j++)
		{
			OeAccount  *account = oe_account_new();
			OeLimits	limits = no_limits;

			limits.rate_limit = 1;
			limits.credit_limit = INT64_MAX;
			limits.prices[0] = INT64_MAX;
			oe_account_restore_day(account, times[i], INT64_MAX, INT64_MAX);
			(void) admit(account, &limits, times[j]);
			CHECK(oe_account_sent(account, &limits, times[j]));
			oe_account_pause(account, times[i]);
			(void) admit(account, &limits, times[i]);
			oe_account_ended(account, times[j], times[i], OE_ANSWERED,
							 INT64_MAX, INT64_MAX);
			CHECK(usage(account, times[i]).in_flight == 0);
			CHECK(usage(account, times[i]).today >= 0);
			CHECK(usage(account, times[i]).credits_today >= 0);
			oe_account_free(account);
		}
	}
}

/* Days before the epoch work like others. */
static void
test_days_before_the_epoch(void)
{
	OeAccount  *account = oe_account_new();

	send_and_end(account, -1, 1);
	CHECK(usage(account, -1).today == 1);
	CHECK(usage(account, 0).today == 0);
	send_and_end(account, 0, 1);
	CHECK(usage(account, DAY - 1).today == 1);
	oe_account_free(account);
}

static void
test_no_memory(void)
{
	OeAccount  *account = oe_account_new();
	OeError		error = {0};
	OeLimits	limits = no_limits;
	int			sent = 0;

	/* The ring grows at the first request and at each doubling. */
	for (int i = 0; i < 1000; i++)
	{
		unit_fail_malloc(1);
		if (oe_account_sent(account, &no_limits, NOON))
			sent++;
		else
		{
			unit_fail_malloc(0);
			CHECK(usage(account, NOON).in_flight == sent);
			CHECK(usage(account, NOON).today == sent);
			CHECK(usage(account, NOON).last_minute == sent);
			CHECK(usage(account, NOON).credits_today == sent * limits.prices[0]);
			CHECK(oe_account_sent(account, &no_limits, NOON));
			sent++;
		}
		unit_fail_malloc(0);
	}
	CHECK(sent == 1000);

	unit_fail_malloc(1);
	CHECK(oe_account_new() == NULL);
	unit_fail_malloc(0);
	limits.daily_limit = 1;
	unit_fail_malloc(1);
	CHECK(oe_account_admit(account, &limits, NOON, &when, &error) == OE_ADMIT_NEVER);
	unit_fail_malloc(0);
	CHECK(error.code == OE_LOCAL_RATE_LIMIT);
	oe_error_free(&error);
	oe_account_free(account);
}

static void
test_no_memory_to_restore(void)
{
	OeAccount  *account = oe_account_new();

	unit_fail_malloc(1);
	CHECK(!oe_account_restore_sent(account, NOON));
	CHECK(usage(account, NOON).last_minute == 0);
	CHECK(oe_account_restore_sent(account, NOON));
	CHECK(usage(account, NOON).last_minute == 1);
	oe_account_free(account);
}

/*
 * The model: all requests ever sent.  It has neither a ring nor counters, and
 * looks through all requests each time.
 */
#define HISTORY_MAX		2000

typedef struct ModelRequest
{
	OeTime		sent;
	OeCredits	reserved;
	OeCredits	cost;
	bool		in_flight;
	bool		given_back;		/* true if not counted for the day */
} ModelRequest;

typedef struct Model
{
	ModelRequest requests[HISTORY_MAX];
	int			count;
	OeTime		paused_until;
} Model;

static int64_t
floor_day(OeTime time)
{
	return time >= 0 ? time / DAY : -((-time + DAY - 1) / DAY);
}

static OeUsage
model_usage(const Model *model, OeTime now)
{
	OeUsage		result = {0};

	for (int i = 0; i < model->count; i++)
	{
		const ModelRequest *request = &model->requests[i];

		result.in_flight += request->in_flight;
		result.last_minute += now - request->sent < MINUTE;
		if (floor_day(request->sent) != floor_day(now))
			continue;
		result.today += !request->given_back;
		result.credits_today += request->in_flight ? request->reserved : request->cost;
	}
	if (model->paused_until > now)
		result.paused_until = model->paused_until;
	return result;
}

/* Today's credits that are reserved, but not charged yet. */
static OeCredits
model_in_doubt(const Model *model, OeTime now)
{
	OeCredits	result = 0;

	for (int i = 0; i < model->count; i++)
	{
		const ModelRequest *request = &model->requests[i];

		if (request->in_flight && floor_day(request->sent) == floor_day(now))
			result += request->reserved;
	}
	return result;
}

/* Once half of the minute is used, requests keep a distance. */
static OeTime
model_spaced(const Model *model, const OeLimits *limits, OeTime now)
{
	OeTime		spacing;

	if (limits->rate_limit <= 0 || model->count == 0 ||
		2 * model_usage(model, now).last_minute < limits->rate_limit)
		return now;
	spacing = MINUTE / 4 / limits->rate_limit;
	return model->requests[model->count - 1].sent + (spacing < SECOND / 2 ? spacing : SECOND / 2);
}

/* The first time at which neither rate_limit nor a pause delays a request. */
static OeTime
model_when(const Model *model, const OeLimits *limits, OeTime now)
{
	OeTime		best = model->paused_until > now ? model->paused_until : now;
	OeTime		spaced = model_spaced(model, limits, now);

	for (int i = 0; limits->rate_limit > 0 && i < model->count; i++)
	{
		OeTime		ends = model->requests[i].sent + MINUTE;
		int			later = model->count - i;

		if (ends > best && later >= limits->rate_limit)
			best = ends;
	}
	return best > spaced ? best : spaced;
}

static OeAdmission
model_admit(const Model *model, const OeLimits *limits, OeTime now, OeCode *code)
{
	OeUsage		used = model_usage(model, now);
	OeCredits	spent = used.credits_today - model_in_doubt(model, now);

	if (model->paused_until - now > (OeTime) limits->retry_wait_max_ms * 1000)
		*code = OE_API_RATE_LIMIT;
	else if (limits->daily_limit && used.today >= limits->daily_limit)
		*code = OE_LOCAL_RATE_LIMIT;
	else if (limits->credit_limit &&
			 spent + limits->prices[0] > limits->credit_limit)
		*code = OE_LOCAL_CREDIT_LIMIT;
	else
		*code = OE_OK;

	if (*code != OE_OK)
		return OE_ADMIT_NEVER;
	if (limits->max_concurrency && used.in_flight >= limits->max_concurrency)
		return OE_ADMIT_WHEN_ONE_ENDS;
	if (limits->credit_limit &&
		used.credits_today + limits->prices[0] > limits->credit_limit)
		return OE_ADMIT_WHEN_ONE_ENDS;
	if (model_when(model, limits, now) > now)
		return OE_ADMIT_LATER;
	return OE_ADMIT_NOW;
}

static void
compare_with_model(OeAccount *account, const Model *model,
				   const OeLimits *limits, OeTime now)
{
	OeUsage		expected = model_usage(model, now);
	OeUsage		found = usage(account, now);
	OeCode		code;
	OeAdmission admission = model_admit(model, limits, now, &code);

	CHECK(found.in_flight == expected.in_flight);
	CHECK(found.last_minute == expected.last_minute);
	CHECK(found.today == expected.today);
	CHECK(found.credits_today == expected.credits_today);
	CHECK(found.paused_until == expected.paused_until);
	CHECK(admit(account, limits, now) == admission);
	CHECK(refusal == code);
	if (admission == OE_ADMIT_LATER)
		CHECK(when == model_when(model, limits, now));
}

static void
send_one(OeAccount *account, Model *model, const OeLimits *limits, OeTime now)
{
	ModelRequest *request = &model->requests[model->count++];

	CHECK(oe_account_sent(account, limits, now));
	*request = (ModelRequest)
	{
		.sent = now, .reserved = limits->prices[0], .in_flight = true
	};
}

static void
end_one(OeAccount *account, Model *model, OeTime now)
{
	static const OeOutcome outcomes[] = {
		OE_ANSWERED, OE_REFUSED, OE_FAILED, OE_UNKNOWN
	};
	OeOutcome	outcome = outcomes[next_random(4)];
	OeCredits	cost = next_random(5 * OE_CREDITS_ONE);
	ModelRequest *request = &model->requests[next_random(model->count)];

	if (!request->in_flight)
		return;
	oe_account_ended(account, request->sent, now, outcome, request->reserved, cost);
	request->in_flight = false;
	if (outcome == OE_ANSWERED)
		request->cost = cost;
	else if (outcome == OE_UNKNOWN)
		request->cost = request->reserved;
	request->given_back = outcome == OE_FAILED;
}

static OeLimits
random_limits(void)
{
	OeLimits	limits = no_limits;

	limits.max_concurrency = next_random(3) ? next_random(20) : 0;
	limits.rate_limit = next_random(3) ? next_random(40) : 0;
	limits.daily_limit = next_random(3) ? next_random(200) : 0;
	limits.credit_limit = next_random(3) ? next_random(500 * OE_CREDITS_ONE) : 0;
	limits.prices[0] = next_random(5 * OE_CREDITS_ONE);
	limits.retry_wait_max_ms = next_random(90000);
	return limits;
}

static OeTime
random_step(void)
{
	switch (next_random(20))
	{
		case 0:
			return next_random(6) * 60 * MINUTE;
		case 1:
			return MINUTE;
		case 2:
		case 3:
			return 0;
		default:
			return next_random(4 * SECOND);
	}
}

static void
run_random_history(uint64_t seed)
{
	static Model model;
	OeAccount  *account = oe_account_new();
	OeTime		now;
	OeLimits	limits;

	random_state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
	model.count = 0;
	model.paused_until = 0;
	limits = random_limits();
	now = (OeTime) next_random(10000) * DAY + next_random(1000) * MINUTE;

	while (model.count < HISTORY_MAX)
	{
		now += random_step();
		if (next_random(30) == 0)
			limits = random_limits();
		if (next_random(100) == 0)
		{
			OeTime		until = now + next_random(100) * SECOND;

			oe_account_pause(account, until);
			if (until > model.paused_until)
				model.paused_until = until;
		}
		if (model.count > 0 && next_random(2))
			end_one(account, &model, now);
		compare_with_model(account, &model, &limits, now);

		/* Sometimes more than admitted, as after restarts and in races. */
		if (may_go(account, &limits, now) || next_random(50) == 0)
			send_one(account, &model, &limits, now);
		else if (when > now && next_random(10) == 0)
		{
			now = when;
			compare_with_model(account, &model, &limits, now);
		}
	}
	oe_account_free(account);
}

static void
test_random_histories(void)
{
	for (uint64_t seed = 1; seed <= 20; seed++)
		run_random_history(seed);
}

/*
 * However often the clock is set back: in no 60 seconds of real time more
 * requests go than the limit, and no request waits forever.
 */
static void
test_random_clock(void)
{
	enum
	{
		limit = 7, sendings = 300
	};
	OeLimits	limits = no_limits;

	limits.rate_limit = limit;
	for (uint64_t seed = 1; seed <= 50; seed++)
	{
		OeAccount  *account = oe_account_new();
		OeTime		elapsed = 0;
		OeTime		clock = NOON;
		OeTime		sent[sendings];
		int			refused = 0;

		random_state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
		for (int count = 0; count < sendings;)
		{
			OeTime		step = next_random(3 * SECOND);

			elapsed += step;
			clock += step;
			if (next_random(40) == 0)
				clock -= (OeTime) next_random(1000) * (next_random(2) ? SECOND : 600 * SECOND);
			if (!may_go(account, &limits, clock))
			{
				CHECK(++refused < 10000);
				if (refused >= 10000)
					break;
				continue;
			}
			send_and_end(account, clock, 1);
			sent[count] = elapsed;
			if (count >= limit)
				CHECK(elapsed - sent[count - limit] >= MINUTE);
			count++;
			refused = 0;
		}
		oe_account_free(account);
	}
}

/* A date by the C library, in seconds since 1970. */
static OeTime
from_date(int year, int month, int day)
{
	struct tm	date = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day};

	return ((OeTime) timegm(&date) - 946684800) * SECOND;
}

static void
test_periods(void)
{
	OeTime		start;
	OeTime		end;

	oe_period_bounds(OE_PERIOD_DAY, from_date(2026, 10, 15) + 1, &start, &end);
	CHECK(start == from_date(2026, 10, 15) && end == from_date(2026, 10, 16));
	oe_period_bounds(OE_PERIOD_WEEK, from_date(2026, 10, 18), &start, &end);
	CHECK(start == from_date(2026, 10, 12) && end == from_date(2026, 10, 19));
	oe_period_bounds(OE_PERIOD_WEEK, from_date(2026, 10, 19), &start, &end);
	CHECK(start == from_date(2026, 10, 19));
	oe_period_bounds(OE_PERIOD_WEEK, from_date(2026, 10, 19) - 1, &start, &end);
	CHECK(end == from_date(2026, 10, 19));
	oe_period_bounds(OE_PERIOD_MONTH, from_date(2024, 2, 29), &start, &end);
	CHECK(start == from_date(2024, 2, 1) && end == from_date(2024, 3, 1));
	oe_period_bounds(OE_PERIOD_MONTH, from_date(2026, 12, 31), &start, &end);
	CHECK(start == from_date(2026, 12, 1) && end == from_date(2027, 1, 1));

	/* every day of several centuries, also before the epoch */
	for (OeTime now = from_date(1890, 1, 1); now < from_date(2410, 1, 1); now += DAY)
	{
		time_t		seconds = (time_t) (now / SECOND + 946684800);
		struct tm	date;
		int			year;
		int			month;

		(void) gmtime_r(&seconds, &date);
		year = date.tm_year + 1900;
		month = date.tm_mon + 1;
		oe_period_bounds(OE_PERIOD_MONTH, now + DAY - 1, &start, &end);
		if (start != from_date(year, month, 1) || end != from_date(year, month + 1, 1))
			CHECK(!"month");
		oe_period_bounds(OE_PERIOD_WEEK, now + DAY - 1, &start, &end);
		if (start != from_date(year, month, date.tm_mday - (date.tm_wday + 6) % 7) ||
			end != start + 7 * DAY)
			CHECK(!"week");
	}
}

static const OeCredits nothing_spent[OE_PERIODS];

static OeBudgets
budgets_of(OePeriod period, OeCredits limit, OeTime now)
{
	OeBudgets	budgets = {0};

	budgets.of[period].limited = true;
	budgets.of[period].limit = limit;
	oe_budgets_restore(&budgets, now, nothing_spent);
	return budgets;
}

/* Three credits each, as in no_limits. */
static OeAdmission
admit_budget(OeBudgets *budgets, OeTime now)
{
	OeError		error = {0};
	OeAdmission admission;

	when = 0;
	admission = oe_budgets_admit(budgets, "anna", 3 * OE_CREDITS_ONE, now, &when,
								 &error);
	refusal = error.code;
	CHECK(refusal == (admission == OE_ADMIT_NEVER ? OE_LOCAL_CREDIT_LIMIT : OE_OK));
	CHECK(admission != OE_ADMIT_NEVER || when > now);
	oe_error_free(&error);
	return admission;
}

static void
test_budget_revealed(void)
{
	OeBudgets	budgets = budgets_of(OE_PERIOD_DAY, 9 * OE_CREDITS_ONE, NOON);
	OeCredits	revealed[OE_PERIODS] = {
		6 * OE_CREDITS_ONE, 7 * OE_CREDITS_ONE, 8 * OE_CREDITS_ONE
	};
	OeTime		start;
	OeTime		end;

	oe_period_bounds(OE_PERIOD_DAY, NOON, &start, &end);
	oe_budgets_set_revealed(&budgets, NOON, revealed);
	CHECK(admit_budget(&budgets, NOON) == OE_ADMIT_NOW);
	CHECK(budgets.of[OE_PERIOD_WEEK].spent.credits == 7 * OE_CREDITS_ONE);
	CHECK(budgets.of[OE_PERIOD_MONTH].spent.credits == 8 * OE_CREDITS_ONE);
	revealed[OE_PERIOD_DAY]++;
	oe_budgets_set_revealed(&budgets, NOON, revealed);
	CHECK(admit_budget(&budgets, NOON) == OE_ADMIT_NEVER);
	CHECK(when == end);
	revealed[OE_PERIOD_DAY] = 0;
	oe_budgets_set_revealed(&budgets, NOON, revealed);
	CHECK(budgets.of[OE_PERIOD_DAY].spent.credits == 0);

	/* the next day begins with nothing */
	revealed[OE_PERIOD_DAY] = 6 * OE_CREDITS_ONE;
	oe_budgets_set_revealed(&budgets, NOON, revealed);
	CHECK(admit_budget(&budgets, end) == OE_ADMIT_NOW);
	CHECK(budgets.of[OE_PERIOD_DAY].spent.credits == 0);
	revealed[OE_PERIOD_DAY] = OE_CREDITS_ONE;
	oe_budgets_set_revealed(&budgets, end, revealed);
	CHECK(budgets.of[OE_PERIOD_DAY].spent.credits == OE_CREDITS_ONE);
}

static void
test_budget(void)
{
	OeBudgets	budgets = budgets_of(OE_PERIOD_MONTH, 9 * OE_CREDITS_ONE, NOON);
	OeCredits	three = 3 * OE_CREDITS_ONE;
	OeTime		start;
	OeTime		end;

	oe_period_bounds(OE_PERIOD_MONTH, NOON, &start, &end);
	for (int i = 0; i < 3; i++)
	{
		CHECK(admit_budget(&budgets, NOON) == OE_ADMIT_NOW);
		oe_budgets_sent(&budgets, three, NOON);
	}
	/* the whole budget is reserved, but not spent yet */
	CHECK(admit_budget(&budgets, NOON) == OE_ADMIT_WHEN_ONE_ENDS);
	oe_budgets_ended(&budgets, NOON, NOON, OE_REFUSED, three, 0);
	CHECK(admit_budget(&budgets, NOON) == OE_ADMIT_NOW);
	oe_budgets_ended(&budgets, NOON, NOON, OE_UNKNOWN, three, 0);
	oe_budgets_ended(&budgets, NOON, NOON, OE_ANSWERED, three, three + 1);
	CHECK(budgets.of[OE_PERIOD_MONTH].spent.credits == 2 * three + 1);
	CHECK(admit_budget(&budgets, NOON) == OE_ADMIT_NEVER);
	CHECK(when == end);

	/* a higher limit admits more, and so does the next month */
	budgets.of[OE_PERIOD_MONTH].limit++;
	CHECK(admit_budget(&budgets, NOON) == OE_ADMIT_NOW);
	budgets.of[OE_PERIOD_MONTH].limit = three;
	CHECK(admit_budget(&budgets, end - 1) == OE_ADMIT_NEVER);
	CHECK(admit_budget(&budgets, end) == OE_ADMIT_NOW);

	/* a budget of nothing refuses even free requests */
	budgets.of[OE_PERIOD_MONTH].limit = 0;
	CHECK(admit_budget(&budgets, end) == OE_ADMIT_NEVER);
	{
		OeError		error = {0};

		CHECK(oe_budgets_admit(&budgets, "anna", 0, end, &when, &error) == OE_ADMIT_NEVER);
		oe_error_free(&error);
	}

	/* no budget at all */
	budgets.of[OE_PERIOD_MONTH].limited = false;
	CHECK(admit_budget(&budgets, end) == OE_ADMIT_NOW);
}

/* All budgets have to admit it; the refusal is that of the longest wait. */
static void
test_budgets_of_several_periods(void)
{
	OeBudgets	budgets = budgets_of(OE_PERIOD_DAY, 3 * OE_CREDITS_ONE, from_date(2026, 10, 29));
	OeTime		now = from_date(2026, 10, 29);
	OeCredits	three = 3 * OE_CREDITS_ONE;

	budgets.of[OE_PERIOD_WEEK].limited = true;
	budgets.of[OE_PERIOD_WEEK].limit = 6 * OE_CREDITS_ONE;
	budgets.of[OE_PERIOD_MONTH].limited = true;
	budgets.of[OE_PERIOD_MONTH].limit = 6 * OE_CREDITS_ONE;
	for (int day = 0; day < 2; day++, now += DAY)
	{
		CHECK(admit_budget(&budgets, now) == OE_ADMIT_NOW);
		oe_budgets_sent(&budgets, three, now);
		CHECK(admit_budget(&budgets, now) == OE_ADMIT_WHEN_ONE_ENDS);
		oe_budgets_ended(&budgets, now, now, OE_ANSWERED, three, three);
		CHECK(admit_budget(&budgets, now) == OE_ADMIT_NEVER);
		CHECK(when == (day == 0 ? from_date(2026, 10, 30) : from_date(2026, 11, 2)));
	}

	/* Saturday the 31st and Sunday: by the week; then by no budget */
	CHECK(admit_budget(&budgets, now) == OE_ADMIT_NEVER);
	CHECK(when == from_date(2026, 11, 2));
	CHECK(admit_budget(&budgets, now + DAY) == OE_ADMIT_NEVER);
	CHECK(admit_budget(&budgets, now + 2 * DAY) == OE_ADMIT_NOW);
}

static void
test_budget_texts(void)
{
	OeBudgets	budgets = {0};
	OeCredits	spent[OE_PERIODS] = {0, 0, 299 * OE_CREDITS_ONE + OE_CREDITS_ONE / 2};
	OeError		error = {0};
	OeTime		now = from_date(2026, 12, 24);

	budgets.of[OE_PERIOD_MONTH].limited = true;
	budgets.of[OE_PERIOD_MONTH].limit = 300 * OE_CREDITS_ONE;
	oe_budgets_restore(&budgets, now, spent);
	CHECK(oe_budgets_admit(&budgets, "anna", 3 * OE_CREDITS_ONE, now, &when,
						   &error) == OE_ADMIT_NEVER);
	CHECK_STRING(error.message, "budget of role \"anna\" is exhausted: 300 credits per month");
	CHECK_STRING(error.detail, "299.5 credits have been spent or reserved since "
				 "2026-12-01 00:00 UTC, and a request reserves 3.");
	CHECK_STRING(error.hint, "Increase \"credit_limit\" in table \"ocean_enrich.budget\" or "
				 "wait until 2027-01-01 00:00 UTC.");
	oe_error_free(&error);

	for (int n = 1; n <= 3; n++)
	{
		unit_fail_malloc_from(n);
		CHECK(oe_budgets_admit(&budgets, "anna", 3 * OE_CREDITS_ONE, now, &when,
							   &error) == OE_ADMIT_NEVER);
		unit_fail_malloc(0);
		CHECK(error.code == OE_LOCAL_CREDIT_LIMIT);
		oe_error_free(&error);
	}
}

/* A request belongs to the month in which it was sent. */
static void
test_budget_across_months(void)
{
	static const OeOutcome outcomes[] = {
		OE_ANSWERED, OE_REFUSED, OE_FAILED, OE_UNKNOWN
	};
	OeTime		midnight = from_date(2026, 11, 1);
	OeCredits	three = 3 * OE_CREDITS_ONE;

	for (int i = 0; i < COUNT(outcomes); i++)
	{
		OeBudgets	budgets = budgets_of(OE_PERIOD_MONTH, 6 * OE_CREDITS_ONE, midnight - 1);

		oe_budgets_sent(&budgets, three, midnight - 1);
		oe_budgets_sent(&budgets, three, midnight);
		oe_budgets_ended(&budgets, midnight - 1, midnight + SECOND, outcomes[i], three,
						 7 * OE_CREDITS_ONE);
		CHECK(budgets.of[OE_PERIOD_MONTH].spent.credits == three);
		CHECK(budgets.of[OE_PERIOD_MONTH].spent.in_doubt == three);
		CHECK(budgets.of[OE_PERIOD_WEEK].spent.in_doubt == three);
		CHECK(budgets.in_flight == 1);
	}
}

/* No credits are granted twice, and no wait is for calls not in flight. */
static void
test_budget_clock_set_back(void)
{
	static const OeTime steps[] = {
		1, SECOND, DAY, 10 * DAY, 40 * DAY, 400 * DAY, 20000 * DAY
	};
	OeTime		now = from_date(2026, 11, 1);
	OeCredits	three = 3 * OE_CREDITS_ONE;

	for (int i = 0; i < COUNT(steps); i++)
	{
		for (int period = 0; period < OE_PERIODS; period++)
		{
			OeBudgets	budgets = budgets_of((OePeriod) period, 6 * OE_CREDITS_ONE, now);
			OeTime		back = now - steps[i];

			oe_budgets_sent(&budgets, three, now);
			oe_budgets_sent(&budgets, three, now);
			CHECK(admit_budget(&budgets, back) == OE_ADMIT_WHEN_ONE_ENDS);
			oe_budgets_ended(&budgets, now, back, OE_ANSWERED, three, three);
			oe_budgets_ended(&budgets, now, back, OE_ANSWERED, three, three);
			CHECK(admit_budget(&budgets, back) == OE_ADMIT_NEVER);
			CHECK(admit_budget(&budgets, back + 70 * DAY) == OE_ADMIT_NOW);
		}
	}
}

static void
test_budget_extreme_values(void)
{
	static const OeTime times[] = {
		INT64_MIN, INT64_MIN + 1, -DAY - 1, -1, 0, 1, NOON, INT64_MAX - 1, INT64_MAX
	};

	for (int i = 0; i < COUNT(times); i++)
	{
		for (int j = 0; j < COUNT(times); j++)
		{
			OeBudgets	budgets = budgets_of(OE_PERIOD_MONTH, INT64_MAX, times[i]);
			OeError		error = {0};

			oe_budgets_sent(&budgets, INT64_MAX, times[j]);
			oe_budgets_sent(&budgets, INT64_MAX, times[i]);
			(void) oe_budgets_admit(&budgets, "anna", INT64_MAX, times[j], &when, &error);
			oe_budgets_ended(&budgets, times[j], times[i], OE_ANSWERED, INT64_MAX, INT64_MAX);
			oe_budgets_ended(&budgets, times[i], times[j], OE_UNKNOWN, INT64_MAX, 0);
			CHECK(budgets.in_flight == 0);
			for (int period = 0; period < OE_PERIODS; period++)
			{
				CHECK(budgets.of[period].spent.credits >= 0);
				CHECK(budgets.of[period].spent.in_doubt == 0);
			}
			oe_error_free(&error);
		}
	}
}

/* When the last of several requests may go, one after the other. */
static void
test_when_the_last_goes(void)
{
	CHECK(oe_policy_last_goes(0, NULL, 0, NOON, 1000) == NOON);
	CHECK(oe_policy_last_goes(60, NULL, 0, NOON, 0) == NOON);
	CHECK(oe_policy_last_goes(60, NULL, 0, NOON, 60) == NOON);
	CHECK(oe_policy_last_goes(60, NULL, 0, NOON, 61) == NOON + MINUTE);
	CHECK(oe_policy_last_goes(60, NULL, 0, NOON, 1000) == NOON + 16 * MINUTE);
	CHECK(oe_policy_last_goes(1, NULL, 0, NOON, INT64_MAX) == INT64_MAX);

	for (uint64_t seed = 1; seed <= 200; seed++)
	{
		OeAccount  *account = oe_account_new();
		OeLimits	limits = no_limits;
		OeTime		sent[50];
		OeTime		now = NOON;
		OeTime		goes;
		int			count;
		int			requests;

		random_state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
		count = next_random(COUNT(sent) + 1);
		requests = 1 + next_random(200);
		limits.rate_limit = 1 + next_random(40);
		for (int i = 0; i < count; i++)
		{
			now += next_random(SECOND);
			sent[i] = now;
			send_and_end(account, now, 1);
		}
		goes = now;
		for (int i = 1; i <= requests; i++)
		{
			OeTime		expected = oe_policy_last_goes(limits.rate_limit, sent, count, now, i);

			while (admit(account, &limits, goes) == OE_ADMIT_LATER)
				goes = when;

			/*
			 * The distance between requests may delay it by up to a quarter
			 * of a minute.
			 */
			CHECK(goes >= expected && goes <= expected + MINUTE / 4);
			send_and_end(account, goes, 1);
		}
		oe_account_free(account);
	}
}

/* The model for budgets: it also looks through all requests each time. */
static OeCredits
model_spent(const Model *model, OePeriod period, OeTime now, bool certain)
{
	OeTime		start;
	OeTime		end;
	OeCredits	result = 0;

	oe_period_bounds(period, now, &start, &end);
	for (int i = 0; i < model->count; i++)
	{
		const ModelRequest *request = &model->requests[i];

		if (request->sent < start || request->sent >= end)
			continue;
		if (!request->in_flight)
			result += request->cost;
		else if (!certain)
			result += request->reserved;
	}
	return result;
}

static OeAdmission
model_admit_budgets(const Model *model, const OeBudgets *budgets, OeCredits reserve,
					OeTime now)
{
	OeAdmission admission = OE_ADMIT_NOW;

	for (int i = 0; i < OE_PERIODS; i++)
	{
		OeCredits	limit = budgets->of[i].limit;

		if (!budgets->of[i].limited)
			continue;
		if (model_spent(model, i, now, true) + reserve > limit)
			return OE_ADMIT_NEVER;
		if (model_spent(model, i, now, false) + reserve > limit)
			admission = OE_ADMIT_WHEN_ONE_ENDS;
	}
	return admission;
}

static void
end_one_of_budget(OeBudgets *budgets, Model *model, OeTime now)
{
	ModelRequest *request = &model->requests[next_random(model->count)];
	bool		answered = next_random(2);
	OeCredits	cost = next_random(5 * OE_CREDITS_ONE);

	if (!request->in_flight)
		return;
	oe_budgets_ended(budgets, request->sent, now, answered ? OE_ANSWERED : OE_UNKNOWN,
					 request->reserved, cost);
	request->in_flight = false;
	request->cost = answered ? cost : request->reserved;
}

static void
test_random_budgets(void)
{
	static Model model;

	for (uint64_t seed = 1; seed <= 10; seed++)
	{
		OeBudgets	budgets = {0};
		OeTime		now;

		random_state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
		model.count = 0;
		now = (OeTime) next_random(10000) * DAY;
		oe_budgets_restore(&budgets, now, nothing_spent);
		while (model.count < HISTORY_MAX)
		{
			OeCredits	reserve = 1 + next_random(5 * OE_CREDITS_ONE);
			OeError		error = {0};

			now += next_random(20) ? next_random(SECOND) : next_random(48) * 60 * MINUTE;
			if (next_random(20) == 0)
			{
				OeBudget   *budget = &budgets.of[next_random(OE_PERIODS)];

				budget->limited = next_random(3);
				budget->limit = 1 + next_random(900 * OE_CREDITS_ONE);
			}
			if (model.count > 0 && next_random(2))
				end_one_of_budget(&budgets, &model, now);
			CHECK(oe_budgets_admit(&budgets, "anna", reserve, now, &when, &error) ==
				  model_admit_budgets(&model, &budgets, reserve, now));
			oe_error_free(&error);
			oe_budgets_sent(&budgets, reserve, now);
			model.requests[model.count++] = (ModelRequest)
			{
				.sent = now, .reserved = reserve, .in_flight = true
			};
		}
	}
}

/* The ending of a queued request, and how long it waits then. */
static void
test_queue(void)
{
	static const struct
	{
		OeHttpResult result;
		int			status;
		int			retry_after_ms;
		int			postponed;
		int			gathered;
		OeQueueEnding ending;
		int64_t		wait_ms;	/* with random 1; -1: not checked */
	}			table[] = {
		{OE_HTTP_COMPLETE, 200, -1, 0, 0, OE_QUEUE_SETTLED, -1},
		{OE_HTTP_COMPLETE, 201, -1, 0, 0, OE_QUEUE_LATER, 120000},
		{OE_HTTP_COMPLETE, 201, -1, 0, 1, OE_QUEUE_LATER, 240000},
		{OE_HTTP_COMPLETE, 201, -1, 0, 2, OE_QUEUE_LATER, 480000},
		{OE_HTTP_COMPLETE, 201, -1, 0, 99, OE_QUEUE_LATER, DAY / 1000},
		{OE_HTTP_COMPLETE, 201, -1, 0, 100, OE_QUEUE_SETTLED, -1},
		/* The two limits have counters of their own. */
		{OE_HTTP_COMPLETE, 201, -1, 1000, 0, OE_QUEUE_LATER, 120000},
		{OE_HTTP_COMPLETE, 201, -1, 1000, 3, OE_QUEUE_LATER, 960000},
		{OE_HTTP_COMPLETE, 502, -1, 0, 100, OE_QUEUE_LATER, 500},
		{OE_HTTP_COMPLETE, 503, -1, 2, 100, OE_QUEUE_LATER, 2000},
		{OE_HTTP_COMPLETE, 400, -1, 0, 0, OE_QUEUE_SETTLED, -1},
		{OE_HTTP_COMPLETE, 401, -1, 0, 0, OE_QUEUE_BLOCKED, -1},
		{OE_HTTP_COMPLETE, 402, -1, 99, 0, OE_QUEUE_BLOCKED, -1},
		{OE_HTTP_COMPLETE, 403, -1, 0, 0, OE_QUEUE_BLOCKED, -1},
		{OE_HTTP_COMPLETE, 404, -1, 0, 0, OE_QUEUE_SETTLED, -1},
		{OE_HTTP_COMPLETE, 422, -1, 0, 0, OE_QUEUE_SETTLED, -1},
		{OE_HTTP_COMPLETE, 429, 7000, 0, 0, OE_QUEUE_THROTTLED, 7000},
		{OE_HTTP_COMPLETE, 429, 0, 99, 0, OE_QUEUE_THROTTLED, 0},
		{OE_HTTP_COMPLETE, 429, -1, 0, 0, OE_QUEUE_THROTTLED, 500},
		{OE_HTTP_COMPLETE, 500, -1, 0, 0, OE_QUEUE_SETTLED, -1},
		{OE_HTTP_COMPLETE, 502, -1, 0, 0, OE_QUEUE_LATER, 500},
		{OE_HTTP_COMPLETE, 503, -1, 1, 0, OE_QUEUE_LATER, 1000},
		{OE_HTTP_COMPLETE, 503, 3000, 2, 0, OE_QUEUE_LATER, 3000},
		{OE_HTTP_COMPLETE, 503, -1, 3, 0, OE_QUEUE_SETTLED, -1},
		{OE_HTTP_COMPLETE, 504, -1, 0, 0, OE_QUEUE_SETTLED, -1},
		{OE_HTTP_NOT_SENT, 0, -1, 99, 0, OE_QUEUE_UNREACHABLE, 60000},
		{OE_HTTP_LOST, 0, -1, 0, 0, OE_QUEUE_SETTLED, -1},
		{OE_HTTP_LOST, 503, -1, 0, 0, OE_QUEUE_SETTLED, -1},
	};
	static const OePatience patience = {
		.gathering_wait_ms = 120000,
		.gathering_retries = 100,
		.retries = 3,
		.retry_wait_max_ms = 60000
	};

	for (int i = 0; i < COUNT(table); i++)
	{
		int64_t		wait_ms = -1;

		CHECK(oe_policy_queue(&patience, table[i].result, table[i].status,
							  oe_policy_outcome(table[i].result, table[i].status), false,
							  table[i].retry_after_ms, table[i].postponed,
							  table[i].gathered, 1, &wait_ms) == table[i].ending);
		if (table[i].wait_ms >= 0)
			CHECK_INT(wait_ms, table[i].wait_ms);
	}
}

static const UnitTest tests[] = {
	{"outcome", test_outcome},
	{"which requests are retried", test_which_are_retried},
	{"a retry never pays twice", test_retry_never_pays_twice},
	{"number of retries", test_how_often_retried},
	{"wait before a retry", test_retry_wait},
	{"Retry-After", test_retry_after},
	{"ending of a queued request", test_queue},
	{"decimal text to credits", test_credits_parse},
	{"no limits", test_no_limits},
	{"max_concurrency", test_concurrency},
	{"rate_limit", test_rate_limit},
	{"distance between requests", test_spacing},
	{"time at which a request has left", test_left},
	{"rate_limit at its maximum", test_rate_limit_at_its_maximum},
	{"daily_limit", test_daily_limit},
	{"messages of daily_limit", test_daily_limit_texts},
	{"credit_limit", test_credit_limit},
	{"reservation for reveals", test_reserve},
	{"a request that was not sent", test_unsent},
	{"later reveals count for the day", test_revealed},
	{"messages of credit_limit", test_credit_limit_texts},
	{"in flight across midnight", test_in_flight_across_midnight},
	{"pause", test_pause},
	{"pause and rate_limit", test_pause_and_rate_limit},
	{"restore", test_restore},
	{"restore of odd times", test_restore_oddities},
	{"clock set back", test_clock_set_back},
	{"clock set back and forth", test_clock_set_back_and_forth},
	{"clock jitters at midnight", test_clock_jitters_at_midnight},
	{"extreme values", test_extreme_values},
	{"days before the epoch", test_days_before_the_epoch},
	{"no memory", test_no_memory},
	{"no memory to restore", test_no_memory_to_restore},
	{"random histories", test_random_histories},
	{"random clock", test_random_clock},
	{"periods of the calendar", test_periods},
	{"budget", test_budget},
	{"later reveals count for a budget", test_budget_revealed},
	{"budgets of several periods", test_budgets_of_several_periods},
	{"messages of a budget", test_budget_texts},
	{"budget across months", test_budget_across_months},
	{"budget and a clock set back", test_budget_clock_set_back},
	{"budget of extreme values", test_budget_extreme_values},
	{"random budgets", test_random_budgets},
	{"when the last request goes", test_when_the_last_goes},
};

int
main(void)
{
	return UNIT_RUN("test_policy", tests);
}
