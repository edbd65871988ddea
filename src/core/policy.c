/*
 * policy.c
 *		The decisions: may a request go now, is it tried again and when, what
 *		does an ending mean for the money.
 *
 * An account keeps three things: how much of the UTC day is used, the times of
 * the last sendings, and until when the API asked for a pause.  The limits are
 * not kept: they come with each call, so a changed one counts at once, and the
 * sendings are remembered even while there is no rate limit.
 *
 * The clock may be set back.  Then the remembered times move back with it, as
 * if no time had passed, so that nobody waits for a time that comes again; and
 * no day begins anew, so that nothing is granted twice.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/policy.h"

#define MINUTE				INT64_C(60000000)
#define DAY					(INT64_C(24) * 60 * MINUTE)
#define FIRST_CAPACITY		64
#define FIRST_RETRY_WAIT_MS 500
#define CREDITS_TEXT_SIZE	32
#define EXPONENT_MAX		1000000000

/*
 * The sendings of the last minute, oldest first, as a ring that grows when it
 * must.  Of more than OE_RATE_LIMIT_MAX only the newest are kept: no limit
 * looks further back.
 */
typedef struct SentRing
{
	OeTime	   *times;
	size_t		capacity;
	size_t		first;			/* index of the oldest */
	size_t		count;
} SentRing;

struct OeAccount
{
	OeTime		seen;			/* the latest time we were told */
	int64_t		day;			/* the day that the next two belong to */
	int64_t		requests;
	OeCredits	credits;		/* spent and reserved */
	OeCredits	in_doubt;		/* of these, reserved for what is in flight */
	OeTime		paused_until;
	int			in_flight;
	SentRing	sent;
};

/* Sums and differences that stay at the ends of their type. */
static int64_t
add(int64_t a, int64_t b)
{
	int64_t		sum;

	if (__builtin_add_overflow(a, b, &sum))
		return b > 0 ? INT64_MAX : INT64_MIN;
	return sum;
}

static int64_t
subtract(int64_t a, int64_t b)
{
	int64_t		difference;

	if (__builtin_sub_overflow(a, b, &difference))
		return b < 0 ? INT64_MAX : INT64_MIN;
	return difference;
}

/* Times before the epoch have days, too: round down. */
static int64_t
day_of(OeTime time)
{
	return time / DAY - (time % DAY < 0 ? 1 : 0);
}

static OeTime
ring_get(const SentRing *ring, size_t i)
{
	return ring->times[(ring->first + i) % ring->capacity];
}

static void
ring_drop_oldest(SentRing *ring)
{
	ring->first = (ring->first + 1) % ring->capacity;
	ring->count--;
}

/* Room for one more, false: no memory. */
static bool
ring_grow(SentRing *ring)
{
	size_t		capacity = ring->capacity ? ring->capacity * 2 : FIRST_CAPACITY;
	OeTime	   *times;

	if (capacity > OE_RATE_LIMIT_MAX)
		capacity = OE_RATE_LIMIT_MAX;
	times = malloc(capacity * sizeof(*times));
	if (!times)
		return false;
	for (size_t i = 0; i < ring->count; i++)
		times[i] = ring_get(ring, i);
	free(ring->times);
	ring->times = times;
	ring->capacity = capacity;
	ring->first = 0;
	return true;
}

/* Remember one sending, false: no memory. */
static bool
ring_push(SentRing *ring, OeTime time)
{
	/* A restored one may be out of order: err on the later side. */
	if (ring->count > 0 && time < ring_get(ring, ring->count - 1))
		time = ring_get(ring, ring->count - 1);

	while (ring->count > 0 && subtract(time, ring_get(ring, 0)) >= MINUTE)
		ring_drop_oldest(ring);
	if (ring->count == OE_RATE_LIMIT_MAX)
		ring_drop_oldest(ring);
	if (ring->count == ring->capacity && !ring_grow(ring))
		return false;
	ring->times[(ring->first + ring->count) % ring->capacity] = time;
	ring->count++;
	return true;
}

/* How many of the minute that ends at "now"; the times are sorted. */
static size_t
ring_count_last_minute(const SentRing *ring, OeTime now)
{
	size_t		low = 0;
	size_t		high = ring->count;

	while (low < high)
	{
		size_t		middle = low + (high - low) / 2;

		if (subtract(now, ring_get(ring, middle)) >= MINUTE)
			low = middle + 1;
		else
			high = middle;
	}
	return ring->count - low;
}

/* The clock was set back: see the head of this file. */
static void
move_times_back(OeAccount *account, OeTime by)
{
	SentRing   *ring = &account->sent;

	for (size_t i = 0; i < ring->count; i++)
	{
		OeTime	   *time = &ring->times[(ring->first + i) % ring->capacity];

		*time = subtract(*time, by);
	}
	account->paused_until = subtract(account->paused_until, by);
}

static void
see_time(OeAccount *account, OeTime now)
{
	if (now < account->seen)
		move_times_back(account, subtract(account->seen, now));
	account->seen = now;
}

/*
 * Begin the day of "now" if it is a later one.  A clock that is set back over
 * midnight leaves the later day open; one that is set back further takes what
 * is used along, else the day would not end until the clock is there again.
 */
static void
see_day(OeAccount *account, OeTime now)
{
	int64_t		today = day_of(now);

	if (today > account->day)
	{
		account->requests = 0;
		account->credits = 0;
		account->in_doubt = 0;
	}
	if (today > account->day || today < account->day - 1)
		account->day = today;
}

static void
see(OeAccount *account, OeTime now)
{
	see_time(account, now);
	see_day(account, now);
}

OeAccount *
oe_account_new(void)
{
	OeAccount  *account = calloc(1, sizeof(*account));

	if (account)
	{
		account->seen = INT64_MIN;
		account->day = day_of(INT64_MIN);
		account->paused_until = INT64_MIN;
	}
	return account;
}

void
oe_account_free(OeAccount *account)
{
	if (!account)
		return;
	free(account->sent.times);
	free(account);
}

void
oe_account_restore_day(OeAccount *account, OeTime now,
					   int64_t requests, OeCredits credits)
{
	see(account, now);
	account->requests = requests;
	account->credits = credits;
}

bool
oe_account_restore_sent(OeAccount *account, OeTime sent)
{
	if (!ring_push(&account->sent, sent))
		return false;

	/* A sending in the future: the clock was set back while we were away. */
	if (sent > account->seen)
		account->seen = sent;
	return true;
}

/* Milliseconds until "then", rounded up. */
static int64_t
ms_until(OeTime then, OeTime now)
{
	int64_t		left = subtract(then, now);

	return left / 1000 + (left % 1000 > 0 ? 1 : 0);
}

/* Is it in vain to wait for the end of the API's pause? */
static bool
pause_is_too_long(const OeAccount *account, const OeLimits *limits,
				  OeTime now, OeError *error)
{
	int64_t		left_ms = ms_until(account->paused_until, now);

	if (left_ms <= limits->retry_wait_max_ms)
		return false;
	oe_error_set(error, OE_API_RATE_LIMIT, "the API asks to wait");
	oe_error_detail(error, "It wants no request in the next %lld s.",
					(long long) (left_ms / 1000 + (left_ms % 1000 > 0)));
	oe_error_hint(error, "Run the statement again after that, or raise "
				  "\"ocean_enrich.retry_wait_max\".");
	return true;
}

static bool
requests_of_day_are_used_up(const OeAccount *account, const OeLimits *limits,
							OeError *error)
{
	if (limits->daily_limit <= 0 || account->requests < limits->daily_limit)
		return false;
	oe_error_set(error, OE_LOCAL_RATE_LIMIT,
				 "daily limit of %d requests is reached", limits->daily_limit);
	oe_error_detail(error, "%lld of %d requests were sent since midnight UTC.",
					(long long) account->requests, limits->daily_limit);
	oe_error_hint(error, "Raise \"ocean_enrich.daily_limit\" or wait until "
				  "midnight UTC.");
	return true;
}

/* Credits as people write them: 30, 0.1. */
static const char *
credits_text(OeCredits credits, char *text, size_t size)
{
	int			len = snprintf(text, size, "%lld.%06lld",
							   (long long) (credits / OE_CREDITS_ONE),
							   (long long) (credits % OE_CREDITS_ONE));

	while (text[len - 1] == '0')
		text[--len] = '\0';
	if (text[len - 1] == '.')
		text[--len] = '\0';
	return text;
}

static bool
credits_suffice(OeCredits used, const OeLimits *limits)
{
	return limits->credit_limit <= 0 ||
		add(used, limits->credits_per_call) <= limits->credit_limit;
}

/* Whatever those in flight will have cost. */
static bool
credits_of_day_are_used_up(const OeAccount *account, const OeLimits *limits,
						   OeError *error)
{
	char		limit[CREDITS_TEXT_SIZE];
	char		used[CREDITS_TEXT_SIZE];
	char		reserve[CREDITS_TEXT_SIZE];

	if (credits_suffice(subtract(account->credits, account->in_doubt), limits))
		return false;
	oe_error_set(error, OE_LOCAL_CREDIT_LIMIT,
				 "credit limit of %s credits a day is reached",
				 credits_text(limits->credit_limit, limit, sizeof(limit)));
	oe_error_detail(error, "%s credits were spent or reserved since midnight "
					"UTC, and a request reserves %s.",
					credits_text(account->credits, used, sizeof(used)),
					credits_text(limits->credits_per_call, reserve, sizeof(reserve)));
	oe_error_hint(error, "Raise \"ocean_enrich.credit_limit\" or wait until "
				  "midnight UTC.");
	return true;
}

/* When the rate limit lets the next request go; may be past. */
static OeTime
rate_limit_ends(const OeAccount *account, const OeLimits *limits)
{
	size_t		limit = limits->rate_limit;

	if (limits->rate_limit <= 0)
		return INT64_MIN;
	if (limit > OE_RATE_LIMIT_MAX)
		limit = OE_RATE_LIMIT_MAX;
	if (account->sent.count < limit)
		return INT64_MIN;
	return add(ring_get(&account->sent, account->sent.count - limit), MINUTE);
}

OeAdmission
oe_account_admit(OeAccount *account, const OeLimits *limits, OeTime now,
				 OeTime *when, OeError *error)
{
	OeTime		earliest;

	see(account, now);
	if (pause_is_too_long(account, limits, now, error) ||
		requests_of_day_are_used_up(account, limits, error) ||
		credits_of_day_are_used_up(account, limits, error))
		return OE_ADMIT_NEVER;

	if (limits->max_concurrency > 0 &&
		account->in_flight >= limits->max_concurrency)
		return OE_ADMIT_WHEN_ONE_ENDS;

	/* Those in flight may turn out to cost less than is reserved for them. */
	if (!credits_suffice(account->credits, limits))
		return OE_ADMIT_WHEN_ONE_ENDS;

	earliest = rate_limit_ends(account, limits);
	if (earliest < account->paused_until)
		earliest = account->paused_until;
	if (earliest <= now)
		return OE_ADMIT_NOW;
	*when = earliest;
	return OE_ADMIT_LATER;
}

bool
oe_account_sent(OeAccount *account, const OeLimits *limits, OeTime now)
{
	see(account, now);
	if (!ring_push(&account->sent, now))
		return false;
	account->in_flight++;
	account->requests = add(account->requests, 1);
	account->credits = add(account->credits, limits->credits_per_call);
	account->in_doubt = add(account->in_doubt, limits->credits_per_call);
	return true;
}

void
oe_account_unsent(OeAccount *account, const OeLimits *limits, OeTime sent,
				  OeTime now)
{
	if (account->sent.count > 0)
		account->sent.count--;
	oe_account_ended(account, sent, now, OE_FAILED, limits->credits_per_call, 0);
}

void
oe_account_ended(OeAccount *account, OeTime sent, OeTime now,
				 OeOutcome outcome, OeCredits reserved, OeCredits credits)
{
	OeCredits	cost = 0;

	see(account, now);
	account->in_flight--;
	if (account->in_flight == 0)
		account->in_doubt = 0;

	/* What was sent on another day is of no matter to this one. */
	if (day_of(sent) != account->day)
		return;

	switch (outcome)
	{
		case OE_ANSWERED:
			cost = credits;
			break;
		case OE_REFUSED:
			break;
		case OE_FAILED:
			if (account->requests > 0)
				account->requests--;
			break;
		case OE_UNKNOWN:
			cost = reserved;
			break;
	}
	account->credits = add(subtract(account->credits, reserved), cost);
	if (account->credits < 0)
		account->credits = 0;
	account->in_doubt = subtract(account->in_doubt, reserved);
	if (account->in_doubt < 0)
		account->in_doubt = 0;
}

void
oe_account_pause(OeAccount *account, OeTime until)
{
	if (until > account->paused_until)
		account->paused_until = until;
}

void
oe_account_usage(const OeAccount *account, OeTime now, OeUsage *usage)
{
	bool		day_is_over = day_of(now) > account->day;

	usage->in_flight = account->in_flight;
	usage->last_minute = (int) ring_count_last_minute(&account->sent, now);
	usage->today = day_is_over ? 0 : account->requests;
	usage->credits_today = day_is_over ? 0 : account->credits;
	usage->paused_until = account->paused_until > now ? account->paused_until : 0;
}

OeOutcome
oe_policy_outcome(OeHttpResult result, int status)
{
	switch (result)
	{
		case OE_HTTP_COMPLETE:
			return oe_answer_outcome(status);
		case OE_HTTP_NOT_SENT:
			return OE_FAILED;
		case OE_HTTP_LOST:
			break;
	}
	return OE_UNKNOWN;
}

static bool
may_be_tried_again(OeHttpResult result, int status)
{
	if (result == OE_HTTP_COMPLETE)
		return status == 429 || status == 502 || status == 503;
	return result == OE_HTTP_NOT_SENT;
}

/* 500 ms doubled with each try, and of that something in the upper half. */
int
oe_policy_backoff_ms(int tries, int max_ms, double random)
{
	int64_t		wait_ms = FIRST_RETRY_WAIT_MS;

	for (int i = 1; i < tries && wait_ms < max_ms; i++)
		wait_ms *= 2;
	if (wait_ms > max_ms)
		wait_ms = max_ms;
	return (int) (wait_ms - (int64_t) ((double) wait_ms / 2 * (1 - random)));
}

bool
oe_policy_retry(const OeLimits *limits, OeHttpResult result, int status,
				int retry_after_ms, int tries, double random, int *wait_ms)
{
	if (tries > limits->max_retries || !may_be_tried_again(result, status) ||
		retry_after_ms > limits->retry_wait_max_ms)
		return false;
	if (retry_after_ms >= 0)
		*wait_ms = retry_after_ms;
	else
		*wait_ms = oe_policy_backoff_ms(tries, limits->retry_wait_max_ms, random);
	return true;
}

/* Doubled with each 201, up to a day. */
static int64_t
gathering_wait_ms(const OePatience *patience, int postponed)
{
	int64_t		wait_ms = patience->gathering_wait_ms;

	for (int i = 0; i < postponed && wait_ms < DAY / 1000; i++)
		wait_ms *= 2;
	return wait_ms < DAY / 1000 ? wait_ms : DAY / 1000;
}

OeQueueEnding
oe_policy_queue(const OePatience *patience, OeHttpResult result, int status,
				int retry_after_ms, int postponed, double random,
				int64_t *wait_ms)
{
	*wait_ms = retry_after_ms >= 0 ? retry_after_ms :
		oe_policy_backoff_ms(postponed + 1, patience->retry_wait_max_ms, random);
	if (result == OE_HTTP_NOT_SENT)
		return OE_QUEUE_UNREACHABLE;
	if (result == OE_HTTP_LOST)
		return OE_QUEUE_SETTLED;
	switch (status)
	{
		case 201:
			*wait_ms = gathering_wait_ms(patience, postponed);
			return postponed < patience->gathering_retries ? OE_QUEUE_LATER
				: OE_QUEUE_SETTLED;
		case 401:
		case 402:
		case 403:
			return OE_QUEUE_BLOCKED;
		case 429:
			return OE_QUEUE_THROTTLED;
		case 502:
		case 503:
			return postponed < patience->retries ? OE_QUEUE_LATER
				: OE_QUEUE_SETTLED;
		default:
			return OE_QUEUE_SETTLED;
	}
}

/* The parts of a decimal number: "whole.fraction", times ten to "exponent". */
typedef struct Decimal
{
	const char *whole;
	size_t		whole_len;
	const char *fraction;
	size_t		fraction_len;
	int64_t		exponent;
} Decimal;

/* The digits at *text, and go past them; false: there are none. */
static bool
take_digits(const char **text, const char **digits, size_t *len)
{
	*digits = *text;
	*len = strspn(*text, "0123456789");
	*text += *len;
	return *len > 0;
}

/* What follows the "e"; beyond all that matters it stays at the same value. */
static bool
take_exponent(const char **text, int64_t *exponent)
{
	bool		negative = **text == '-';
	const char *digits;
	size_t		len;

	if (**text == '-' || **text == '+')
		(*text)++;
	if (!take_digits(text, &digits, &len))
		return false;
	for (size_t i = 0; i < len && *exponent < EXPONENT_MAX; i++)
		*exponent = *exponent * 10 + (digits[i] - '0');
	if (negative)
		*exponent = -*exponent;
	return true;
}

static bool
split_decimal(const char *text, Decimal *decimal)
{
	*decimal = (Decimal) {0};
	if (!take_digits(&text, &decimal->whole, &decimal->whole_len))
		return false;
	if (*text == '.')
	{
		text++;
		if (!take_digits(&text, &decimal->fraction, &decimal->fraction_len))
			return false;
	}
	if (*text == 'e' || *text == 'E')
	{
		text++;
		if (!take_exponent(&text, &decimal->exponent))
			return false;
	}
	return *text == '\0';
}

bool
oe_credits_parse(const char *text, OeCredits *credits)
{
	Decimal		decimal;
	size_t		digits;
	int64_t		power;			/* of ten millionths: the next digit's weight */
	OeCredits	value = 0;
	bool		round_up = false;

	if (!split_decimal(text, &decimal))
		return false;

	digits = decimal.whole_len + decimal.fraction_len;
	power = (int64_t) decimal.whole_len - 1 + decimal.exponent + 6;
	for (size_t i = 0; i < digits; i++, power--)
	{
		char		digit = i < decimal.whole_len ? decimal.whole[i] :
			decimal.fraction[i - decimal.whole_len];

		if (power < 0)
			round_up |= digit != '0';
		else
			value = value * 10 + (digit - '0');
		if (value > OE_CREDITS_MAX)
			return false;
	}
	for (; power >= 0 && value > 0; power--)
	{
		value *= 10;
		if (value > OE_CREDITS_MAX)
			return false;
	}
	if (round_up)
		value++;
	*credits = value;
	return value <= OE_CREDITS_MAX;
}
