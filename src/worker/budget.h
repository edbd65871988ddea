/*
 * budget.h
 *		Budgets of roles: the table ocean_enrich.budget, and what the ledger
 *		says was spent, in the worker's memory.
 *
 * Spendings are stored in the ledger, except those for reveals after the
 * answer, which are in ocean_enrich.reveal_cost.  The worker sums both up for
 * the first call of a role that has a budget, and counts on from there.
 */
#ifndef OE_BUDGET_H
#define OE_BUDGET_H

#include "datatype/timestamp.h"

#include "core/policy.h"

/* ---- the worker's side ---- */

/* True if others have changed budgets or spendings since they were read. */
extern bool oe_budget_is_stale(void);

/*
 * Reload the budgets if they are stale or the table was created anew; in a
 * transaction of the ledger.  While the table is locked, the known budgets
 * stay in force; if none were read yet, raises ERRCODE_LOCK_NOT_AVAILABLE.
 */
extern void oe_budget_refresh(void);

/* True if the role has a budget whose spendings are not known yet. */
extern bool oe_budget_is_to_be_restored(const char *role);

/*
 * Sum up the role's spendings and reservations; in a transaction of the
 * ledger.  The calls "in_flight" are left out, and have to be counted by
 * oe_budget_sent() afterwards.
 */
extern void oe_budget_restore(const char *role, const int64 *in_flight,
							  int count, TimestampTz now);

/*
 * Reread the reveals of a restored role if there are new ones; in a
 * transaction of the ledger.  False: their table is locked.
 */
extern bool oe_budget_read_reveals(const char *role, TimestampTz now);

/*
 * As oe_budgets_admit(), but OE_ADMIT_NOW for a role without a budget or not
 * yet restored: the transaction that restores it asks again.
 */
extern OeAdmission oe_budget_admit(const char *role, OeCredits reserve,
								   TimestampTz now, OeTime *when,
								   OeError *error);

/* To be called for every request, though most roles have no budget. */
extern void oe_budget_sent(const char *role, OeCredits reserve,
						   TimestampTz now);
extern void oe_budget_ended(const char *role, TimestampTz sent,
							TimestampTz now, OeOutcome outcome,
							OeCredits reserved, OeCredits credits);

/* Make queued calls that wait for a budget due at once. */
extern void oe_budget_release(TimestampTz now);

#endif							/* OE_BUDGET_H */
