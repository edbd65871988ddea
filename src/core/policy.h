/*
 * policy.h
 *		The decisions: may a request go now, is it tried again and when, what
 *		does an ending mean for the money.  Pure C: time, randomness and
 *		limits come in as arguments.
 *
 * Times are microseconds since any fixed epoch whose days begin at midnight
 * UTC (PostgreSQL's 2000-01-01 does).  Credits are integers of a millionth
 * credit, so that they add up exactly; the ledger keeps the exact decimal.
 */
#ifndef OE_POLICY_H
#define OE_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/answer.h"
#include "core/endpoint.h"
#include "core/http.h"
#include "core/pace.h"

typedef int64_t OeCredits;		/* millionths of a credit */

#define OE_TIME_NEVER		INT64_MAX
#define OE_CREDITS_ONE		INT64_C(1000000)
#define OE_CREDITS_MAX		(INT64_C(1000000000) * OE_CREDITS_ONE)
#define OE_CREDITS_TEXT_SIZE	32
#define OE_RATE_LIMIT_MAX	60000	/* requests a minute */
#define OE_RETRY_WAIT_MAX_MS	(60 * 60 * 1000)

/* What the administrator allows; 0 = no limit. */
typedef struct OeLimits
{
	int			max_concurrency;	/* requests on the wire at once */
	int			rate_limit;		/* requests in any 60 seconds */
	int			daily_limit;	/* requests in a UTC day */
	OeCredits	credit_limit;	/* credits in a UTC day */
	OeCredits	prices[OE_PRICES_MAX];	/* what an answer costs that does not
										 * say: as the endpoint has them */
	int			max_retries;	/* tries after the first */
	int			retry_wait_max_ms;	/* the longest wait before a try */
	bool		in_answer[OE_PRICES_MAX];	/* the answer has to have this: it
											 * is asked for, and told by no
											 * webhook */
} OeLimits;

/* What a request reserves: the most that its answer costs if it does not say. */
extern OeCredits oe_limits_reserve(const OeLimits *limits);

/* What one account has used, across all sessions.  Opaque. */
typedef struct OeAccount OeAccount;

/* NULL if out of memory. */
extern OeAccount *oe_account_new(void);
extern void oe_account_free(OeAccount *account);

/* What the ledger knows of the day so far, given once after a restart. */
extern void oe_account_restore_day(OeAccount *account, OeTime now,
								   int64_t requests, OeCredits credits);

/*
 * Set today's total cost of reveals after the answer, replacing the previous
 * value.  Ignored if "now" is not in the day being counted, as when the clock
 * was set back.
 */
extern void oe_account_set_revealed(OeAccount *account, OeTime now,
									OeCredits credits);

/* One request of the last 60 seconds, oldest first, after a restart. */
extern bool oe_account_restore_sent(OeAccount *account, OeTime sent);

typedef enum OeAdmission
{
	OE_ADMIT_NOW,
	OE_ADMIT_WHEN_ONE_ENDS,		/* max_concurrency, or credits that are only
								 * reserved: wait for any reply */
	OE_ADMIT_LATER,				/* not before "when" */
	OE_ADMIT_NEVER,				/* "error" says which limit */
} OeAdmission;

/*
 * May one more request go at "now"?  OE_ADMIT_LATER when the rate limit, a pause of
 * the API or its pace asks for patience; *when is in the future.
 * OE_ADMIT_NEVER when a limit of the day is reached, or when the API asks for a pause
 * longer than retry_wait_max_ms; "error" is filled: OE_LOCAL_RATE_LIMIT,
 * OE_LOCAL_CREDIT_LIMIT or OE_API_RATE_LIMIT.  Counts nothing; only notes the
 * time, to see when the clock was set back.
 *
 * Once half of the rate limit's minute is used, requests keep a distance, so that
 * they don't all go at once when the minute is over.
 */
extern OeAdmission oe_account_admit(OeAccount *account,
									const OeLimits *limits, OeTime now,
									OeTime *when, OeError *error);

/* A request goes now: counts it and reserves oe_limits_reserve().  False: no
 * memory, nothing was counted. */
extern bool oe_account_sent(OeAccount *account, const OeLimits *limits,
							OeTime now);

/*
 * Undo the last oe_account_sent(): that request did not go after all.  "sent"
 * is the time it was counted at.
 */
extern void oe_account_unsent(OeAccount *account, const OeLimits *limits,
							  OeTime sent, OeTime now);

/*
 * It ended.  "reserved" is what was reserved when it was sent; "credits" what it
 * cost if OE_ANSWERED.  OE_UNKNOWN keeps the reservation: it may have been paid.
 * OE_FAILED gives the day's request back (not the minute's).
 */
extern void oe_account_ended(OeAccount *account, OeTime sent, OeTime now,
							 OeOutcome outcome, OeCredits reserved,
							 OeCredits credits);

/*
 * The request that was sent at "sent" has left for the API at "left": the API may
 * have counted it as late as its reply came, so from then on the rate limit does.
 */
extern void oe_account_left(OeAccount *account, OeTime sent, OeTime left, OeTime now);

/* A request of that round of the pace got no answer. */
extern void oe_account_unanswered(OeAccount *account, uint64_t round);

/* The API has answered: see oe_pace_ended(). */
extern void oe_account_answered(OeAccount *account, const OePaceEnding *ending,
								OeTime now);

/* What was learnt from the API's status 429. */
extern const OePace *oe_account_pace(const OeAccount *account);

/* Send nothing before "until"; the later of two pauses wins. */
extern void oe_account_pause(OeAccount *account, OeTime until);

/* End the pause, whatever the API said. */
extern void oe_account_resume(OeAccount *account);

typedef struct OeUsage
{
	int			in_flight;
	int			last_minute;	/* requests in the last 60 seconds */
	int64_t		today;			/* requests of this UTC day */
	OeCredits	credits_today;	/* spent and reserved */
	OeTime		paused_until;	/* 0: not paused */
	int64_t		pace_room;		/* what may go before the API answers more;
								 * INT64_MAX: no limit */
} OeUsage;

extern void oe_account_usage(const OeAccount *account, OeTime now,
							 OeUsage *usage);

/*
 * When the last of "requests" new ones may go, by the rate limit alone; "now" if
 * all may go at once.  "sent" holds the requests of the last minute, oldest first.
 */
extern OeTime oe_policy_last_goes(int rate_limit, const OeTime *sent,
								  size_t count, OeTime now, int64_t requests);

/*
 * Budgets: what one role may spend in a calendar period, in UTC.  Weeks begin on
 * Monday.  For these the epoch is PostgreSQL's, a Saturday.
 */
typedef enum OePeriod
{
	OE_PERIOD_DAY,
	OE_PERIOD_WEEK,
	OE_PERIOD_MONTH,
} OePeriod;

#define OE_PERIODS	(OE_PERIOD_MONTH + 1)

/* The start of the period of "now", and that of the next one. */
extern void oe_period_bounds(OePeriod period, OeTime now,
							 OeTime *start, OeTime *end);

typedef struct OeSpent
{
	OeCredits	credits;		/* spent and reserved */
	OeCredits	in_doubt;		/* of these, reserved for what is in flight */
} OeSpent;

typedef struct OeBudget
{
	bool		limited;		/* true if this period has a budget */
	OeCredits	limit;			/* 0: nothing may be spent */
	OeTime		start;			/* of the period that "spent" belongs to */
	OeTime		end;
	OeSpent		spent;			/* counted with or without a limit */
	OeCredits	revealed;		/* of these, after the answer */
} OeBudget;

/* All budgets of one role.  Starts as {0}, then the limits are filled in. */
typedef struct OeBudgets
{
	OeBudget	of[OE_PERIODS];
	int			in_flight;
} OeBudgets;

/*
 * Restore the amounts spent or reserved in the periods of "now", from the
 * ledger.  Nothing is in flight then; count requests in flight with
 * oe_budgets_sent().
 */
extern void oe_budgets_restore(OeBudgets *budgets, OeTime now,
							   const OeCredits credits[OE_PERIODS]);

/* As oe_account_set_revealed(), for each period. */
extern void oe_budgets_set_revealed(OeBudgets *budgets, OeTime now,
									const OeCredits revealed[OE_PERIODS]);

/*
 * Do the budgets allow one more request, which reserves "reserve"?
 * OE_ADMIT_WHEN_ONE_ENDS: what is left is only reserved.  OE_ADMIT_NEVER:
 * "error" is OE_LOCAL_CREDIT_LIMIT, and *when is when the budget begins anew;
 * not before that unless its limit is raised.  "role" is UTF-8.
 */
extern OeAdmission oe_budgets_admit(OeBudgets *budgets, const char *role,
									OeCredits reserve, OeTime now,
									OeTime *when, OeError *error);

/* As oe_account_sent() and oe_account_ended() count for the account. */
extern void oe_budgets_sent(OeBudgets *budgets, OeCredits reserve, OeTime now);
extern void oe_budgets_ended(OeBudgets *budgets, OeTime sent, OeTime now,
							 OeOutcome outcome, OeCredits reserved,
							 OeCredits credits);

/* The financial outcome of a transfer. */
extern OeOutcome oe_policy_outcome(OeHttpResult result, int status);

/*
 * Did this answer come so late that the request may have been processed, whatever
 * its status says?  A proxy gives 522 either after less than half a minute, without a
 * connection to the API, or when the API did not acknowledge the request for 90 s.
 */
extern bool oe_policy_is_too_late(int status, int64_t left_us_ago);

/*
 * Is it tried again?  Only what surely was not processed: not sent, 429, 502, 503
 * and the like.  "tries" counts those made.  True sets *wait_ms: Retry-After if given, else
 * 500 ms doubled with each try, capped by retry_wait_max_ms, of which "random"
 * (0 to 1) picks from the upper half.  A Retry-After beyond retry_wait_max_ms
 * is not waited for.
 */
extern bool oe_policy_retry(const OeLimits *limits, OeHttpResult result,
							int status, int retry_after_ms, int tries,
							double random, int *wait_ms);

/* How long the queue waits for what a session would be told at once. */
typedef struct OePatience
{
	int			gathering_wait_ms;	/* after the first 201; doubled after each */
	int			gathering_retries;
	int			retries;		/* after 502, 503 and the like */
	int			retry_wait_max_ms;
} OePatience;

typedef enum OeQueueEnding
{
	OE_QUEUE_SETTLED,			/* that is its end */
	OE_QUEUE_LATER,				/* it is tried again after *wait_ms */
	OE_QUEUE_THROTTLED,			/* 429: so is the whole account */
	OE_QUEUE_UNREACHABLE,		/* nothing was sent: no fault of the request */
	OE_QUEUE_BLOCKED,			/* 401, 402, 403: it or the account may not */
} OeQueueEnding;

/*
 * What the end of one transfer means for a queued request that was put back
 * "gathered" times after a 201, and "postponed" times after anything else.  So each
 * limit counts its own.  *wait_ms is set unless it is settled or blocked.
 * "others_pass": the API lets others through and refuses this one again and again, so
 * that 429 is its own trouble.
 */
extern OeQueueEnding oe_policy_queue(const OePatience *patience,
									 OeHttpResult result, int status,
									 OeOutcome outcome, bool others_pass,
									 int retry_after_ms, int postponed,
									 int gathered, double random,
									 int64_t *wait_ms);

/*
 * Decimal text to millionths, rounded up, never below what it says.  False when it is no plain
 * non-negative decimal number (an exponent is allowed) up to OE_CREDITS_MAX.
 */
extern bool oe_credits_parse(const char *text, OeCredits *credits);

/* The same for a sum: more than can be counted, or NULL, is OE_CREDITS_MAX. */
extern OeCredits oe_credits_parse_sum(const char *text);

/* Credits as people write them: 30, 0.1.  Fills "text" and returns it. */
extern const char *oe_credits_text(OeCredits credits, char text[OE_CREDITS_TEXT_SIZE]);

#endif							/* OE_POLICY_H */
