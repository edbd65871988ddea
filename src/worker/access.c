/*
 * access.c
 *		Whether the API refuses the account or a single request.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "shared/settings.h"
#include "worker/access.h"

/* So often in balance_interval the balance is asked for at once. */
#define ASKS_AT_ONCE		4

/* After so many plain calls that were refused in a row the account is, it seems. */
#define REFUSED_IN_ROW_MAX	8

static int64
interval_us(void)
{
	return oe_settings()->balance_interval_s * USECS_PER_SEC;
}

static bool
is_known(const OeAccess *access, const OeJob *job, int status)
{
	for (int i = 0; i < OE_ACCESS_REFUSALS; i++)
	{
		const OeRefusal *refusal = &access->refusals[i];

		if (refusal->status == status && refusal->words == job->words &&
			memcmp(&refusal->reveals, &job->call.reveals, sizeof(OeReveals)) == 0)
			return true;
	}
	return false;
}

static bool
is_plain(const OeJob *job)
{
	return oe_limits_reserve(&job->call.limits) <= job->call.limits.prices[0] &&
		!oe_reveals_by_webhook(&job->call.reveals);
}

static bool
is_paid_for(const OeAccess *access, const OeJob *job)
{
	return oe_limits_reserve(&job->call.limits) <=
		(is_plain(job) ? access->left.credits : access->left.all);
}

/*
 * What the balance said, and what others were refused for, tells something only while
 * it is recent, since access may be withdrawn in the meantime.
 */
bool
oe_access_is_final(const OeAccess *access, const OeJob *job, int status,
				   TimestampTz now)
{
	bool		recent = now - access->granted_at < Max(interval_us(), USECS_PER_MINUTE);

	if (!access->granted || (status == 402 && !is_paid_for(access, job)))
		return false;
	if (job->refused_before && (job->went_alone || status == 403))
		return true;
	return recent && is_known(access, job, status) && (job->went_alone || !is_plain(job));
}

bool
oe_access_keeps_place(OeAccess *access)
{
	bool		keeps = !access->has_first;

	access->has_first = true;
	return keeps;
}

bool
oe_access_sent(OeAccess *access)
{
	access->trying = access->try_one;
	access->try_one = false;
	return access->trying;
}

void
oe_access_unsent(OeAccess *access, const OeJob *job)
{
	access->try_one |= job->went_alone;
	access->trying = false;
}

void
oe_access_not_trying(OeAccess *access)
{
	access->trying = false;
}

static void
remember_refusal(OeAccess *access, const OeJob *job, int status)
{
	if (is_known(access, job, status))
		return;
	access->refusals[access->next_refusal] = (OeRefusal)
	{
		.status = status, .words = job->words, .reveals = job->call.reveals
	};
	access->next_refusal = (access->next_refusal + 1) % OE_ACCESS_REFUSALS;
}

/* Ask at once, but not in a circle of balances that are fine and calls that are not. */
static TimestampTz
when_to_ask(OeAccess *access, TimestampTz now)
{
	if (now - access->asks_since >= interval_us())
	{
		access->asks_since = now;
		access->asks = 0;
	}
	return ++access->asks <= ASKS_AT_ONCE ? now : access->asks_since + interval_us();
}

static void
block(OeAccess *access, int status, TimestampTz ask_at)
{
	access->blocked_by = status;
	access->granted = false;
	access->dearest = 0;
	access->ask_at = ask_at;
}

void
oe_access_refused(OeAccess *access, const OeJob *job, int status, bool final,
				  TimestampTz now)
{
	access->cheapest = job->call.limits.prices[0];
	if (final && access->granted)
	{
		remember_refusal(access, job, status);
		if (!is_plain(job))
			return;
		access->try_one = true;
		if (++access->refused_in_row >= REFUSED_IN_ROW_MAX)
			block(access, status, now + interval_us());
		return;
	}
	if (access->blocked_by == 0)
		block(access, status, when_to_ask(access, now));
	access->blocked_by = status;
	if (status == 402)
		access->dearest = Max(access->dearest, oe_limits_reserve(&job->call.limits));
}

void
oe_access_answered(OeAccess *access, const OeJob *job)
{
	for (int i = 0; i < OE_ACCESS_REFUSALS; i++)
	{
		OeRefusal  *refusal = &access->refusals[i];

		if (memcmp(&refusal->reveals, &job->call.reveals, sizeof(OeReveals)) == 0)
			refusal->status = 0;
	}
	access->refused_in_row = 0;
	if (oe_limits_reserve(&job->call.limits) > access->left.all)
		access->dearest = 0;
}

bool
oe_access_is_too_dear(const OeAccess *access, OeCredits reserve)
{
	return access->blocked_by == 0 && access->dearest > access->left.all &&
		reserve > access->left.all;
}

void
oe_access_learn_balance(OeAccess *access, bool ok, const OeBalance *left,
						TimestampTz now)
{
	access->asked = false;
	access->ask_at = now + interval_us();
	if (!ok)
		return;
	access->left = *left;
	if (access->blocked_by == 0 ||
		(access->blocked_by == 402 && left->credits < access->cheapest))
		return;
	access->blocked_by = 0;
	access->granted = true;
	access->granted_at = now;
	access->refused_in_row = 0;
	access->has_first = false;
	access->try_one = true;
}

void
oe_access_move_back(OeAccess *access, int64 by)
{
	access->ask_at -= by;
	access->asks_since -= by;
	access->granted_at -= by;
}
