/*
 * policy.c
 *		The decisions: may a request go now, is it tried again and when, what
 *		does an ending mean for the money.
 *
 * An account keeps three things: how much of the UTC day is used, the times of
 * the last sendings, and how fast the API lets it go (pace.h).  The limits are
 * not kept: they come with each call, so a changed one counts at once, and the
 * sendings are remembered even while there is no rate limit.
 *
 * A role's budgets keep what was spent in the current day, week and month.
 * Their limits are kept with them, since they come from a table.
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

/* How long after it left the API has counted a request, at the latest. */
#define ARRIVAL_MAX			INT64_C(1000000)
#define ARRIVAL_MARGIN		INT64_C(200000)

/* Spaced requests go this much faster than the rate limit, but not closer than ... */
#define SPACING_SHARE		4
#define SPACING_MAX			INT64_C(500000)
#define TIME_TEXT_SIZE		48
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
	OeTime		seen;			/* the latest time passed in */
	int64_t		day;			/* the day that the next three belong to */
	int64_t		requests;
	OeSpent		spent;
	OeCredits	revealed;		/* of these, after the answer */
	OePace		pace;
	int			in_flight;
	OeTime		last_sent;
	SentRing	sent;
};

/* Sums, differences and products that saturate at the ends of their type. */
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

static int64_t
multiply(int64_t a, int64_t b)
{
	int64_t		product;

	if (__builtin_mul_overflow(a, b, &product))
		return (a < 0) == (b < 0) ? INT64_MAX : INT64_MIN;
	return product;
}

OeCredits
oe_limits_reserve(const OeLimits *limits)
{
	OeCredits	reserve = 0;

	for (int i = 0; i < OE_PRICES_MAX; i++)
	{
		if (limits->in_answer[i])
			reserve = add(reserve, limits->prices[i]);
	}
	return reserve;
}

/* Times before the epoch have days, too: round down. */
static int64_t
day_of(OeTime time)
{
	return time / DAY - (time % DAY < 0 ? 1 : 0);
}

/* All credits spent, whatever requests in flight will cost. */
static OeCredits
certain(const OeSpent *spent)
{
	return subtract(spent->credits, spent->in_doubt);
}

static void
reserve_credits(OeSpent *spent, OeCredits reserve)
{
	spent->credits = add(spent->credits, reserve);
	spent->in_doubt = add(spent->in_doubt, reserve);
}

/* A request ended: what it cost takes the place of what was reserved. */
static void
settle_credits(OeSpent *spent, OeOutcome outcome, OeCredits reserved,
			   OeCredits credits)
{
	OeCredits	cost = 0;

	switch (outcome)
	{
		case OE_ANSWERED:
			cost = credits;
			break;
		case OE_REFUSED:
		case OE_FAILED:
			break;
		case OE_UNKNOWN:
			cost = reserved;
			break;
	}
	spent->credits = add(subtract(spent->credits, reserved), cost);
	if (spent->credits < 0)
		spent->credits = 0;
	spent->in_doubt = subtract(spent->in_doubt, reserved);
	if (spent->in_doubt < 0)
		spent->in_doubt = 0;
}

/* The cost of later reveals is not in doubt. */
static void
replace_revealed(OeSpent *spent, OeCredits *revealed, OeCredits credits)
{
	spent->credits = add(subtract(spent->credits, *revealed), credits);
	*revealed = credits;
}

static OeTime
ring_get(const SentRing *ring, size_t i)
{
	return ring->times[(ring->first + i) % ring->capacity];
}

static void
ring_set(SentRing *ring, size_t i, OeTime time)
{
	ring->times[(ring->first + i) % ring->capacity] = time;
}

static void
ring_drop_oldest(SentRing *ring)
{
	ring->first = (ring->first + 1) % ring->capacity;
	ring->count--;
}

/* Make room for one more; false if out of memory. */
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

/* Move the one at "i" up to its place, as its time has become "time". */
static void
ring_sort_up(SentRing *ring, size_t i, OeTime time)
{
	for (; i + 1 < ring->count && ring_get(ring, i + 1) < time; i++)
		ring_set(ring, i, ring_get(ring, i + 1));
	ring_set(ring, i, time);
}

static void
ring_sort_down(SentRing *ring, size_t i, OeTime time)
{
	for (; i > 0 && ring_get(ring, i - 1) > time; i--)
		ring_set(ring, i, ring_get(ring, i - 1));
	ring_set(ring, i, time);
}

/* The one of that time, or one past the end. */
static size_t
ring_find(const SentRing *ring, OeTime time)
{
	size_t		i = ring->count;

	while (i > 0 && ring_get(ring, i - 1) > time)
		i--;
	return i > 0 && ring_get(ring, i - 1) == time ? i - 1 : ring->count;
}

/* Remember one sending; false if out of memory. */
static bool
ring_push(SentRing *ring, OeTime time)
{
	while (ring->count > 0 && subtract(time, ring_get(ring, 0)) >= MINUTE)
		ring_drop_oldest(ring);
	if (ring->count == OE_RATE_LIMIT_MAX)
		ring_drop_oldest(ring);
	if (ring->count == ring->capacity && !ring_grow(ring))
		return false;
	ring->count++;
	ring_sort_down(ring, ring->count - 1, time);
	return true;
}

/*
 * The number of sendings in the minute that ends at "now"; the times are
 * sorted.
 */
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
	account->last_sent = subtract(account->last_sent, by);
	oe_pace_move_back(&account->pace, by);
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
		account->spent = (OeSpent) {0};
		account->revealed = 0;
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
		account->last_sent = INT64_MIN;
		oe_pace_init(&account->pace);
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
	account->spent.credits = credits;
	account->revealed = 0;
}

void
oe_account_set_revealed(OeAccount *account, OeTime now, OeCredits credits)
{
	see(account, now);
	if (day_of(now) == account->day)
		replace_revealed(&account->spent, &account->revealed, credits);
}

bool
oe_account_restore_sent(OeAccount *account, OeTime sent)
{
	const SentRing *ring = &account->sent;

	/* One that is out of order: err on the later side. */
	if (ring->count > 0 && sent < ring_get(ring, ring->count - 1))
		sent = ring_get(ring, ring->count - 1);
	if (!ring_push(&account->sent, sent))
		return false;

	/* A sending in the future: the clock was set back while we were down. */
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

/* Is the API's pause too long to wait for? */
static bool
pause_is_too_long(const OeAccount *account, const OeLimits *limits,
				  OeTime now, OeError *error)
{
	int64_t		left_ms = ms_until(account->pace.asked_until, now);

	if (left_ms <= limits->retry_wait_max_ms)
		return false;
	oe_error_set(error, OE_API_RATE_LIMIT, "the API asks for a pause");
	oe_error_detail(error, "It accepts no request for another %lld s.",
					(long long) (left_ms / 1000 + (left_ms % 1000 > 0)));
	if (left_ms <= OE_RETRY_WAIT_MAX_MS)
		oe_error_hint(error, "Run the statement again after that, or increase "
					  "\"ocean_enrich.retry_wait_max\".");
	else
		oe_error_hint(error, "Run the statement again after that.  An administrator can "
					  "end the pause with ocean_enrich.end_pause().");
	return true;
}

static bool
requests_of_day_are_used_up(const OeAccount *account, const OeLimits *limits,
							OeError *error)
{
	if (limits->daily_limit <= 0 || account->requests < limits->daily_limit)
		return false;
	oe_error_set(error, OE_LOCAL_RATE_LIMIT,
				 "daily limit of %d requests has been reached", limits->daily_limit);
	oe_error_detail(error, "%lld of %d requests have been sent since midnight UTC.",
					(long long) account->requests, limits->daily_limit);
	oe_error_hint(error, "Increase \"ocean_enrich.daily_limit\", wait until midnight UTC, or queue the "
				  "requests with ocean_enrich.submit().  Answers that were paid for are reused.");
	return true;
}

static bool
credits_suffice(OeCredits used, const OeLimits *limits)
{
	return limits->credit_limit <= 0 ||
		add(used, oe_limits_reserve(limits)) <= limits->credit_limit;
}

static bool
credits_of_day_are_used_up(const OeAccount *account, const OeLimits *limits,
						   OeError *error)
{
	char		limit[OE_CREDITS_TEXT_SIZE];
	char		used[OE_CREDITS_TEXT_SIZE];
	char		reserve[OE_CREDITS_TEXT_SIZE];

	if (credits_suffice(certain(&account->spent), limits))
		return false;
	oe_error_set(error, OE_LOCAL_CREDIT_LIMIT,
				 "credit limit of %s credits per day has been reached",
				 oe_credits_text(limits->credit_limit, limit));
	oe_error_detail(error, "%s credits have been spent or reserved since midnight UTC, and a "
					"request reserves %s.",
					oe_credits_text(account->spent.credits, used),
					oe_credits_text(oe_limits_reserve(limits), reserve));
	oe_error_hint(error, "Increase \"ocean_enrich.credit_limit\" or wait until midnight UTC.");
	return true;
}

/*
 * Once half of the minute is used: not at once after the last one.  So what has to
 * wait for the minute to end does not go in one burst when it ends.
 */
static OeTime
spacing_ends(const OeAccount *account, size_t limit, OeTime now)
{
	OeTime		spacing = MINUTE / SPACING_SHARE / (OeTime) limit;

	if (2 * ring_count_last_minute(&account->sent, now) < limit)
		return INT64_MIN;
	return add(account->last_sent, spacing < SPACING_MAX ? spacing : SPACING_MAX);
}

/* When the rate limit allows the next request; may be past. */
static OeTime
rate_limit_ends(const OeAccount *account, const OeLimits *limits, OeTime now)
{
	const SentRing *sent = &account->sent;
	size_t		limit = limits->rate_limit;
	OeTime		spacing;
	OeTime		window;

	if (limits->rate_limit <= 0)
		return INT64_MIN;
	if (limit > OE_RATE_LIMIT_MAX)
		limit = OE_RATE_LIMIT_MAX;
	spacing = spacing_ends(account, limit, now);
	if (sent->count < limit)
		return spacing;
	window = add(ring_get(sent, sent->count - limit), MINUTE);
	return window > spacing ? window : spacing;
}

OeAdmission
oe_account_admit(OeAccount *account, const OeLimits *limits, OeTime now,
				 OeTime *when, OeError *error)
{
	OeTime		earliest;
	OeTime		paced;

	see(account, now);
	if (pause_is_too_long(account, limits, now, error) ||
		requests_of_day_are_used_up(account, limits, error) ||
		credits_of_day_are_used_up(account, limits, error))
		return OE_ADMIT_NEVER;

	if (limits->max_concurrency > 0 &&
		account->in_flight >= limits->max_concurrency)
		return OE_ADMIT_WHEN_ONE_ENDS;

	/* Requests in flight may turn out to cost less than their reservation. */
	if (!credits_suffice(account->spent.credits, limits))
		return OE_ADMIT_WHEN_ONE_ENDS;

	earliest = rate_limit_ends(account, limits, now);
	paced = oe_pace_allows_at(&account->pace, now);
	if (earliest < paced)
		earliest = paced;
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
	account->last_sent = now;
	(void) oe_pace_sent(&account->pace, now);
	account->in_flight++;
	account->requests = add(account->requests, 1);
	reserve_credits(&account->spent, oe_limits_reserve(limits));
	return true;
}

void
oe_account_unsent(OeAccount *account, const OeLimits *limits, OeTime sent,
				  OeTime now)
{
	size_t		i = ring_find(&account->sent, sent);

	if (i < account->sent.count)
	{
		ring_sort_up(&account->sent, i, INT64_MAX);
		account->sent.count--;
	}
	oe_pace_unanswered(&account->pace, account->pace.round);
	oe_account_ended(account, sent, now, OE_FAILED, oe_limits_reserve(limits), 0);
}

void
oe_account_ended(OeAccount *account, OeTime sent, OeTime now,
				 OeOutcome outcome, OeCredits reserved, OeCredits credits)
{
	see(account, now);
	account->in_flight--;
	if (account->in_flight == 0)
		account->spent.in_doubt = 0;

	/* A request sent on another day does not count for this one. */
	if (day_of(sent) != account->day)
		return;
	if (outcome == OE_FAILED && account->requests > 0)
		account->requests--;
	settle_credits(&account->spent, outcome, reserved, credits);
}

void
oe_account_left(OeAccount *account, OeTime sent, OeTime left, OeTime now)
{
	size_t		i;
	OeTime		arrived = add(left, ARRIVAL_MAX);

	see(account, now);
	i = ring_find(&account->sent, sent);
	if (arrived > now)
		arrived = now;
	arrived = add(arrived, ARRIVAL_MARGIN);
	if (i < account->sent.count && arrived > sent)
		ring_sort_up(&account->sent, i, arrived);
}

void
oe_account_unanswered(OeAccount *account, uint64_t round)
{
	oe_pace_unanswered(&account->pace, round);
}

void
oe_account_answered(OeAccount *account, const OePaceEnding *ending, OeTime now)
{
	see(account, now);
	oe_pace_ended(&account->pace, ending, now);
}

const OePace *
oe_account_pace(const OeAccount *account)
{
	return &account->pace;
}

void
oe_account_pause(OeAccount *account, OeTime until)
{
	oe_pace_pause(&account->pace, until);
}

void
oe_account_resume(OeAccount *account)
{
	oe_pace_resume(&account->pace);
}

void
oe_account_usage(const OeAccount *account, OeTime now, OeUsage *usage)
{
	bool		day_is_over = day_of(now) > account->day;

	usage->in_flight = account->in_flight;
	usage->last_minute = (int) ring_count_last_minute(&account->sent, now);
	usage->today = day_is_over ? 0 : account->requests;
	usage->credits_today = day_is_over ? 0 : account->spent.credits;
	usage->paused_until = account->pace.paused_until > now ? account->pace.paused_until : 0;
	usage->pace_room = oe_pace_room(&account->pace, now);
}

/*
 * Of a full minute's requests each one goes a minute after the one that many
 * places before it.
 */
OeTime
oe_policy_last_goes(int rate_limit, const OeTime *sent, size_t count,
					OeTime now, int64_t requests)
{
	int64_t		limit = rate_limit;
	int64_t		before = (int64_t) count;
	int64_t		last;
	OeTime		base;

	if (limit > OE_RATE_LIMIT_MAX)
		limit = OE_RATE_LIMIT_MAX;
	if (limit <= 0 || requests <= 0)
		return now;
	if (before > limit)
	{
		sent += before - limit;
		before = limit;
	}
	last = add(before, requests) - 1;
	if (last < limit)
		return now;
	base = last % limit < before ? sent[last % limit] : now;
	return add(base, multiply(last / limit, MINUTE));
}

/* ---- Budgets ---- */

typedef struct CivilDay
{
	int64_t		year;
	int			month;			/* 1 to 12 */
	int			day;			/* 1 to 31 */
} CivilDay;

/*
 * The date of a day.  Years begin in March here, so that the odd day is their
 * last one; and 400 of them are a cycle, one of which began on 2000-03-01.
 */
static CivilDay
civil_day(int64_t day)
{
	int64_t		since_march = day - 60;
	int64_t		cycle = since_march / 146097 - (since_march % 146097 < 0 ? 1 : 0);
	int64_t		of_cycle = since_march - cycle * 146097;
	int64_t		year = (of_cycle - of_cycle / 1460 + of_cycle / 36524 -
						of_cycle / 146096) / 365;
	int64_t		of_year = of_cycle - (365 * year + year / 4 - year / 100);
	int			month = (int) ((5 * of_year + 2) / 153);
	CivilDay	civil;

	civil.day = (int) (of_year - (153 * month + 2) / 5 + 1);
	civil.month = month < 10 ? month + 3 : month - 9;
	civil.year = 2000 + cycle * 400 + year + (civil.month <= 2 ? 1 : 0);
	return civil;
}

static int64_t
first_of_month(int64_t day)
{
	return day - (civil_day(day).day - 1);
}

/* 2000-01-03 was a Monday. */
static int64_t
monday_of(int64_t day)
{
	int64_t		weekday = (day - 2) % 7;

	return day - (weekday < 0 ? weekday + 7 : weekday);
}

void
oe_period_bounds(OePeriod period, OeTime now, OeTime *start, OeTime *end)
{
	int64_t		first = day_of(now);
	int64_t		next = first + 1;

	switch (period)
	{
		case OE_PERIOD_DAY:
			break;
		case OE_PERIOD_WEEK:
			first = monday_of(first);
			next = first + 7;
			break;
		case OE_PERIOD_MONTH:
			first = first_of_month(first);
			next = first_of_month(first + 31);
			break;
	}
	*start = multiply(first, DAY);
	*end = multiply(next, DAY);
}

/*
 * As see_day(): a period that ended begins anew, and a clock that is set back
 * leaves the later one open or, set back further, takes what is used along.
 */
static void
see_period(OeBudget *budget, OePeriod period, OeTime now)
{
	OeTime		start;
	OeTime		end;

	if (now >= budget->start && now < budget->end)
		return;
	oe_period_bounds(period, now, &start, &end);
	if (start > budget->start)
	{
		budget->spent = (OeSpent) {0};
		budget->revealed = 0;
	}
	if (start > budget->start || end < budget->start)
	{
		budget->start = start;
		budget->end = end;
	}
}

void
oe_budgets_restore(OeBudgets *budgets, OeTime now,
				   const OeCredits credits[OE_PERIODS])
{
	budgets->in_flight = 0;
	for (int i = 0; i < OE_PERIODS; i++)
	{
		OeBudget   *budget = &budgets->of[i];

		oe_period_bounds((OePeriod) i, now, &budget->start, &budget->end);
		budget->spent = (OeSpent) {.credits = credits[i]};
		budget->revealed = 0;
	}
}

void
oe_budgets_set_revealed(OeBudgets *budgets, OeTime now,
						const OeCredits revealed[OE_PERIODS])
{
	for (int i = 0; i < OE_PERIODS; i++)
	{
		OeBudget   *budget = &budgets->of[i];

		see_period(budget, (OePeriod) i, now);
		if (now >= budget->start && now < budget->end)
			replace_revealed(&budget->spent, &budget->revealed, revealed[i]);
	}
}

static bool
budget_suffices(const OeBudget *budget, OeCredits used, OeCredits reserve)
{
	return !budget->limited ||
		(used < budget->limit && add(used, reserve) <= budget->limit);
}

/* A time to be shown to people, to the minute. */
static const char *
time_text(OeTime time, char *text, size_t size)
{
	CivilDay	civil = civil_day(day_of(time));

	(void) snprintf(text, size, "%lld-%02d-%02d 00:00 UTC",
					(long long) civil.year, civil.month, civil.day);
	return text;
}

static void
refuse_by_budget(const OeBudget *budget, OePeriod period, const char *role,
				 OeCredits reserve, OeError *error)
{
	static const char *const names[] = {
		[OE_PERIOD_DAY] = "day",
		[OE_PERIOD_WEEK] = "week",
		[OE_PERIOD_MONTH] = "month",
	};
	char		limit[OE_CREDITS_TEXT_SIZE];
	char		used[OE_CREDITS_TEXT_SIZE];
	char		needed[OE_CREDITS_TEXT_SIZE];
	char		time[TIME_TEXT_SIZE];

	oe_error_set(error, OE_LOCAL_CREDIT_LIMIT,
				 "budget of role \"%s\" is exhausted: %s credits per %s", role,
				 oe_credits_text(budget->limit, limit),
				 names[period]);
	oe_error_detail(error, "%s credits have been spent or reserved since %s, and a request reserves %s.",
					oe_credits_text(budget->spent.credits, used),
					time_text(budget->start, time, sizeof(time)),
					oe_credits_text(reserve, needed));
	oe_error_hint(error, "Increase \"credit_limit\" in table \"ocean_enrich.budget\" or wait until %s.",
				  time_text(budget->end, time, sizeof(time)));
}

OeAdmission
oe_budgets_admit(OeBudgets *budgets, const char *role, OeCredits reserve,
				 OeTime now, OeTime *when, OeError *error)
{
	OeAdmission admission = OE_ADMIT_NOW;

	for (int i = 0; i < OE_PERIODS; i++)
	{
		OeBudget   *budget = &budgets->of[i];

		see_period(budget, (OePeriod) i, now);
		if (budget_suffices(budget, budget->spent.credits, reserve))
			continue;
		if (budget_suffices(budget, certain(&budget->spent), reserve))
		{
			if (admission == OE_ADMIT_NOW)
				admission = OE_ADMIT_WHEN_ONE_ENDS;
			continue;
		}

		/* If several apply, use the one that lasts longest. */
		if (admission == OE_ADMIT_NEVER && *when >= budget->end)
			continue;
		admission = OE_ADMIT_NEVER;
		*when = budget->end;
		refuse_by_budget(budget, (OePeriod) i, role, reserve, error);
	}
	return admission;
}

void
oe_budgets_sent(OeBudgets *budgets, OeCredits reserve, OeTime now)
{
	budgets->in_flight++;
	for (int i = 0; i < OE_PERIODS; i++)
	{
		see_period(&budgets->of[i], (OePeriod) i, now);
		reserve_credits(&budgets->of[i].spent, reserve);
	}
}

void
oe_budgets_ended(OeBudgets *budgets, OeTime sent, OeTime now,
				 OeOutcome outcome, OeCredits reserved, OeCredits credits)
{
	budgets->in_flight--;
	for (int i = 0; i < OE_PERIODS; i++)
	{
		OeBudget   *budget = &budgets->of[i];

		see_period(budget, (OePeriod) i, now);
		if (budgets->in_flight == 0)
			budget->spent.in_doubt = 0;
		if (sent >= budget->start && sent < budget->end)
			settle_credits(&budget->spent, outcome, reserved, credits);
	}
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

bool
oe_policy_is_too_late(int status, int64_t left_us_ago)
{
	return status == 522 && left_us_ago >= MINUTE;
}

/* Not after a redirect, which would be the same again. */
static bool
was_not_processed(int status)
{
	return status >= 400 && oe_answer_outcome(status) == OE_FAILED;
}

static bool
may_be_tried_again(OeHttpResult result, int status)
{
	return result == OE_HTTP_NOT_SENT ||
		(result == OE_HTTP_COMPLETE && was_not_processed(status));
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
		*wait_ms = oe_backoff_ms(tries, limits->retry_wait_max_ms, random);
	return true;
}

/* Doubled with each 201, up to a day. */
static int64_t
gathering_wait_ms(const OePatience *patience, int gathered)
{
	int64_t		wait_ms = patience->gathering_wait_ms;

	for (int i = 0; i < gathered && wait_ms < DAY / 1000; i++)
		wait_ms *= 2;
	return wait_ms < DAY / 1000 ? wait_ms : DAY / 1000;
}

OeQueueEnding
oe_policy_queue(const OePatience *patience, OeHttpResult result, int status,
				OeOutcome outcome, bool others_pass, int retry_after_ms, int postponed, int gathered,
				double random, int64_t *wait_ms)
{
	*wait_ms = retry_after_ms >= 0 ? retry_after_ms :
		oe_backoff_ms(postponed + 1, patience->retry_wait_max_ms, random);
	if (result == OE_HTTP_NOT_SENT)
		return OE_QUEUE_UNREACHABLE;
	if (result == OE_HTTP_LOST)
		return OE_QUEUE_SETTLED;
	switch (status)
	{
		case 201:
			*wait_ms = gathering_wait_ms(patience, gathered);
			return gathered < patience->gathering_retries ? OE_QUEUE_LATER
				: OE_QUEUE_SETTLED;
		case 401:
		case 402:
		case 403:
			return OE_QUEUE_BLOCKED;
		case 429:
			if (!others_pass)
				return OE_QUEUE_THROTTLED;
			break;
	}
	return outcome == OE_FAILED && status >= 400 && postponed < patience->retries
		? OE_QUEUE_LATER : OE_QUEUE_SETTLED;
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

/* Parse the digits at *text and skip them; false if there are none. */
static bool
take_digits(const char **text, const char **digits, size_t *len)
{
	*digits = *text;
	*len = strspn(*text, "0123456789");
	*text += *len;
	return *len > 0;
}

/* Parse the exponent; its value stops growing where it no longer matters. */
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

OeCredits
oe_credits_parse_sum(const char *text)
{
	OeCredits	credits;

	return text && oe_credits_parse(text, &credits) ? credits : OE_CREDITS_MAX;
}

const char *
oe_credits_text(OeCredits credits, char text[OE_CREDITS_TEXT_SIZE])
{
	int			len = snprintf(text, OE_CREDITS_TEXT_SIZE, "%lld.%06lld",
							   (long long) (credits / OE_CREDITS_ONE),
							   (long long) (credits % OE_CREDITS_ONE));

	while (text[len - 1] == '0')
		text[--len] = '\0';
	if (text[len - 1] == '.')
		text[--len] = '\0';
	return text;
}
