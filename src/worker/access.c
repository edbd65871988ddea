/*
 * access.c
 *		Whether the API refuses the account or a single request.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "shared/settings.h"
#include "worker/access.h"

static bool
is_known(const OeAccess *access, const OeJob *job, int status, uint32 words)
{
	for (int i = 0; i < OE_ACCESS_REFUSALS; i++)
	{
		const OeRefusal *refusal = &access->refusals[i];

		if (refusal->status == status && refusal->words == words &&
			memcmp(&refusal->reveals, &job->call.reveals, sizeof(OeReveals)) == 0)
			return true;
	}
	return false;
}

/* Without extras, too few credits are too few for all. */
static bool
is_about_extras(const OeJob *job, int status)
{
	return status == 403 || oe_limits_reserve(&job->call.limits) > job->call.limits.prices[0] ||
		oe_reveals_by_webhook(&job->call.reveals);
}

/*
 * What others were refused for tells something only while it is recent, since access
 * may be withdrawn in the meantime.
 */
bool
oe_access_is_final(const OeAccess *access, const OeJob *job, int status,
				   TimestampTz now)
{
	if (status == 401 || !access->granted)
		return false;
	if (status == 402 && oe_limits_reserve(&job->call.limits) > access->credits_left)
		return false;
	if (job->went_alone || (status == 403 && job->refused_before))
		return true;
	return is_about_extras(job, status) && is_known(access, job, status, job->words) &&
		now - access->granted_at < oe_settings()->balance_interval_s * USECS_PER_SEC;
}

bool
oe_access_keeps_place(OeAccess *access, int status)
{
	bool		keeps = status == 401 || !access->has_first;

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
oe_access_not_trying(OeAccess *access)
{
	access->trying = false;
}

void
oe_access_refused(OeAccess *access, const OeJob *job, int status, bool final,
				  TimestampTz now)
{
	OeCredits	reserved = oe_limits_reserve(&job->call.limits);

	if (final)
	{
		if (!is_known(access, job, status, job->words))
		{
			access->refusals[access->next_refusal] = (OeRefusal)
			{
				.status = status, .words = job->words, .reveals = job->call.reveals
			};
			access->next_refusal = (access->next_refusal + 1) % OE_ACCESS_REFUSALS;
		}
		return;
	}
	if (access->blocked_by == 0)
	{
		access->ask_at = now;
		access->granted = false;
		access->dearest = 0;
	}
	access->blocked_by = status;
	access->cheapest = job->call.limits.prices[0];
	if (status == 402)
		access->dearest = Max(access->dearest, reserved);
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
	if (oe_limits_reserve(&job->call.limits) > access->credits_left)
		access->dearest = 0;
}

bool
oe_access_is_too_dear(const OeAccess *access, OeCredits reserve)
{
	return access->blocked_by == 0 && access->dearest > access->credits_left &&
		reserve > access->credits_left;
}

void
oe_access_learn_balance(OeAccess *access, bool ok, OeCredits left, TimestampTz now)
{
	access->asked = false;
	access->ask_at = now + oe_settings()->balance_interval_s * USECS_PER_SEC;
	if (!ok)
		return;
	access->credits_left = left;
	if (access->blocked_by == 0 || (access->blocked_by == 402 && left < access->cheapest))
		return;
	access->blocked_by = 0;
	access->granted = true;
	access->granted_at = now;
	access->has_first = false;
	access->try_one = true;
}
