/*
 * budget.h
 *		Budgets of roles: the table ocean_enrich.budget, and what the ledger
 *		says was spent, in the worker's memory.
 *
 * What is spent is stored in the ledger alone, but for what is revealed after
 * the answer: ocean_enrich.reveal_cost.  The worker sums it up when it first meets
 * a role that has a budget, and counts on from there.
 */
#ifndef OE_BUDGET_H
#define OE_BUDGET_H

#include "datatype/timestamp.h"

#include "core/policy.h"

/* ---- the worker's side ---- */

/* Were budgets changed, or spendings behind our back, since they were read? */
extern bool oe_budget_is_stale(void);

/*
 * Read the budgets anew if they are stale, or if the table is another one; in a
 * transaction of the ledger.
 * While somebody holds a strong lock on the table, those that are known hold;
 * if none were read yet, it raises ERRCODE_LOCK_NOT_AVAILABLE.
 */
extern void oe_budget_refresh(void);

/* Has the role a budget, of which it is not known what was spent? */
extern bool oe_budget_is_to_be_restored(const char *role);

/*
 * Sum up what the role has spent or reserved; in a transaction of the ledger.
 * "in_flight" are the calls that are on the wire: they do not count, and have to be
 * counted by oe_budget_sent() afterwards.
 */
extern void oe_budget_restore(const char *role, const int64 *in_flight,
							  int count, TimestampTz now);

/*
 * Read what was revealed to the role since that was read; likewise, and once the
 * role is restored.  False: somebody has it locked.
 */
extern bool oe_budget_read_reveals(const char *role, TimestampTz now);

/*
 * As oe_budgets_admit(); OE_ADMIT_NOW for a role without a budget, and while it
 * is to be restored, so that the transaction which does that asks again.
 */
extern OeAdmission oe_budget_admit(const char *role, OeCredits reserve,
								   TimestampTz now, OeTime *when,
								   OeError *error);

/* Every request of every role is counted; most have no budget. */
extern void oe_budget_sent(const char *role, OeCredits reserve,
						   TimestampTz now);
extern void oe_budget_ended(const char *role, TimestampTz sent,
							TimestampTz now, OeOutcome outcome,
							OeCredits reserved, OeCredits credits);

/* Calls of the queue that wait for a budget to begin anew are due. */
extern void oe_budget_release(TimestampTz now);

#endif							/* OE_BUDGET_H */
