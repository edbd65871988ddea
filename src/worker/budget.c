/*
 * budget.c
 *		Budgets of roles: the table ocean_enrich.budget, and what the ledger
 *		says was spent, in the worker's memory.
 *
 * A budget belongs to a role by its name, as the calls of the ledger do.  The
 * worker is notified at commit when budgets have changed, by a trigger of the
 * table, and when spendings have, by resolve().  It then reads the few rows again,
 * and sums up the ledger for a role with the next call of that role.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/rights.h"
#include "base/statement.h"
#include "shared/channel.h"
#include "shared/ledger.h"
#include "worker/budget.h"

typedef struct RoleEntry
{
	char		name[NAMEDATALEN];
	bool		restored;
	uint64		reveals_read;	/* oe_channel_reveals() then; 0: not read */
	OeBudgets	budgets;
} RoleEntry;

static const char *const period_names[] = {
	[OE_PERIOD_DAY] = "day",
	[OE_PERIOD_WEEK] = "week",
	[OE_PERIOD_MONTH] = "month",
};

static OeStatement budgets_statement = {
	"SELECT role, period::text, credit_limit::text FROM ocean_enrich.budget",
	0,
	{0},
	NULL
};

#define SPENT_SINCE(parameter) \
	" coalesce(sum(coalesce(credits, CASE WHEN state IN ('sent', 'unknown')" \
	" THEN reserved END)) FILTER (WHERE sent_at >= " parameter "), 0)::text"

/* In the order of the periods. */
static OeStatement spent_statement = {
	"SELECT" SPENT_SINCE("$4") "," SPENT_SINCE("$5") "," SPENT_SINCE("$6")
	" FROM ocean_enrich.call"
	" WHERE role = $1 AND sent_at >= $2 AND call_id <> ALL ($3)",
	6,
	{NAMEOID, TIMESTAMPTZOID, INT8ARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
	NULL
};

#define REVEALED_SINCE(parameter) \
	" coalesce(sum(credits) FILTER (WHERE day >= (" parameter \
	" AT TIME ZONE 'UTC')::date), 0)::text"

/* In the order of the periods, too. */
static OeStatement revealed_statement = {
	"SELECT" REVEALED_SINCE("$3") "," REVEALED_SINCE("$4") "," REVEALED_SINCE("$5")
	" FROM ocean_enrich.reveal_cost"
	" WHERE role = $1 AND day >= ($2 AT TIME ZONE 'UTC')::date",
	5,
	{NAMEOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
	NULL
};

static OeStatement release_statement = {
	"UPDATE ocean_enrich.call SET next_attempt_at = $1, waits_for = NULL"
	" WHERE state = 'queued' AND next_attempt_at > $1"
	" AND waits_for = 'budget' AND " OE_OF_THIS_DATABASE,
	1,
	{TIMESTAMPTZOID},
	NULL
};

/* Roles that have a budget; NULL: not read yet. */
static HTAB *roles;
static uint64 changes_read;		/* oe_channel_changes() when they were read */
static Oid	relation_read;		/* OID of the table they were read from */
static bool relation_is_in_doubt;

/* ----------------------------------------------------------------
 * The table
 * ---------------------------------------------------------------- */

bool
oe_budget_is_stale(void)
{
	return !roles || oe_channel_changes() != changes_read;
}

static HTAB *
create_roles(void)
{
	HASHCTL		ctl = {0};

	ctl.keysize = NAMEDATALEN;
	ctl.entrysize = sizeof(RoleEntry);
	ctl.hcxt = TopMemoryContext;
	return hash_create("ocean_enrich budgets", 64, &ctl,
					   HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

static void
forget_budgets(void)
{
	if (roles)
		hash_destroy(roles);
	roles = NULL;
}

static OePeriod
period_from_name(const char *name)
{
	for (int i = 0; i < OE_PERIODS; i++)
	{
		if (strcmp(period_names[i], name) == 0)
			return (OePeriod) i;
	}
	elog(ERROR, "unexpected period of a budget: %s", name);
}

static void
take_row(HTAB *table, uint64 row)
{
	bool		found;
	RoleEntry  *entry = hash_search(table, oe_statement_text(row, 1), HASH_ENTER,
									&found);
	OeBudget   *budget;

	if (!found)
	{
		entry->restored = false;
		entry->reveals_read = 0;
		entry->budgets = (OeBudgets) {0};
	}
	budget = &entry->budgets.of[period_from_name(oe_statement_text(row, 2))];
	budget->limited = true;
	budget->limit = oe_credits_parse_sum(oe_statement_text(row, 3));
}

/* Invalid if the table is missing: reading it raises the error. */
static Oid
budget_relation(void)
{
	return get_relname_relid("budget", get_namespace_oid("ocean_enrich", false));
}

static void
doubt_relation(Datum arg, Oid relation)
{
	if (!OidIsValid(relation) || relation == relation_read)
		relation_is_in_doubt = true;
}

/* The extension may have been dropped and created again, with new budgets. */
static bool
is_another_table(void)
{
	if (!relation_is_in_doubt)
		return false;
	relation_is_in_doubt = false;
	return budget_relation() != relation_read;
}

void
oe_budget_refresh(void)
{
	static bool registered = false;
	uint64		changes = oe_channel_changes();
	Oid			relation;
	OeRights	rights;
	uint64		count;
	HTAB	   *table;

	if (!registered)
		CacheRegisterRelcacheCallback(doubt_relation, (Datum) 0);
	registered = true;
	if (is_another_table())
		forget_budgets();
	if (!oe_budget_is_stale())
		return;

	/* As with the ledger, do not wait: all answers would wait with us. */
	relation = budget_relation();
	if (OidIsValid(relation) &&
		!ConditionalLockRelationOid(relation, AccessShareLock))
	{
		if (!roles)
			ereport(ERROR,
					errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					errmsg("could not lock table \"ocean_enrich.budget\""));
		return;
	}

	/* Later changes raise the number, and make us read again. */
	oe_ledger_use_spi();
	oe_rights_switch(&rights, oe_owner_of("budget"), OE_RIGHTS_RESTRICTED);
	count = oe_statement_run(&budgets_statement, NULL, NULL);
	oe_rights_restore(&rights);
	table = create_roles();
	for (uint64 row = 0; row < count; row++)
		take_row(table, row);
	forget_budgets();
	roles = table;
	changes_read = changes;
	relation_read = relation;
}

/* ----------------------------------------------------------------
 * Spendings
 * ---------------------------------------------------------------- */

static RoleEntry *
find_role(const char *role)
{
	if (!roles || hash_get_num_entries(roles) == 0)
		return NULL;
	return hash_search(roles, role, HASH_FIND, NULL);
}

bool
oe_budget_is_to_be_restored(const char *role)
{
	RoleEntry  *entry = find_role(role);

	return entry && !entry->restored;
}

/* The earliest start of a period with a budget: a month may be a long scan. */
static TimestampTz
earliest_start(const OeBudgets *budgets, const TimestampTz *starts,
			   TimestampTz now)
{
	TimestampTz earliest = now;

	for (int i = 0; i < OE_PERIODS; i++)
	{
		if (budgets->of[i].limited)
			earliest = Min(earliest, starts[i]);
	}
	return earliest;
}

static void
period_starts(TimestampTz now, TimestampTz *starts)
{
	for (int i = 0; i < OE_PERIODS; i++)
	{
		OeTime		end;

		oe_period_bounds((OePeriod) i, now, &starts[i], &end);
	}
}

static void
sum_up(const char *role, const int64 *in_flight, int count,
	   const TimestampTz *starts, TimestampTz earliest)
{
	Datum		values[3 + OE_PERIODS];
	NameData	name;

	namestrcpy(&name, role);
	values[0] = NameGetDatum(&name);
	values[1] = TimestampTzGetDatum(earliest);
	values[2] = oe_statement_int8_array(in_flight, count);
	for (int i = 0; i < OE_PERIODS; i++)
		values[3 + i] = TimestampTzGetDatum(starts[i]);
	oe_ledger_use_spi();
	(void) oe_statement_run(&spent_statement, values, NULL);
}

void
oe_budget_restore(const char *role, const int64 *in_flight, int count,
				  TimestampTz now)
{
	RoleEntry  *entry = find_role(role);
	TimestampTz starts[OE_PERIODS];
	OeCredits	credits[OE_PERIODS];

	/* Without a budget there is nothing to restore. */
	if (!entry)
		return;
	period_starts(now, starts);
	sum_up(role, in_flight, count, starts,
		   earliest_start(&entry->budgets, starts, now));
	for (int i = 0; i < OE_PERIODS; i++)
		credits[i] = oe_credits_parse_sum(oe_statement_text(0, i + 1));
	oe_budgets_restore(&entry->budgets, now, credits);
	entry->restored = true;
	entry->reveals_read = 0;
}

/* Later reveals raise the number, and make us read again. */
bool
oe_budget_read_reveals(const char *role, TimestampTz now)
{
	RoleEntry  *entry = find_role(role);
	uint64		reveals = oe_channel_reveals();
	TimestampTz starts[OE_PERIODS];
	OeCredits	revealed[OE_PERIODS];
	Datum		values[2 + OE_PERIODS];
	NameData	name;
	OeRights	rights;

	if (!entry || entry->reveals_read == reveals)
		return true;
	if (!oe_ledger_lock_revealed())
		return false;
	period_starts(now, starts);
	namestrcpy(&name, role);
	values[0] = NameGetDatum(&name);
	values[1] = TimestampTzGetDatum(earliest_start(&entry->budgets, starts, now));
	for (int i = 0; i < OE_PERIODS; i++)
		values[2 + i] = TimestampTzGetDatum(starts[i]);
	oe_ledger_use_spi();
	oe_rights_switch(&rights, oe_owner_of("reveal_cost"), OE_RIGHTS_RESTRICTED);
	(void) oe_statement_run(&revealed_statement, values, NULL);
	oe_rights_restore(&rights);
	for (int i = 0; i < OE_PERIODS; i++)
		revealed[i] = oe_credits_parse_sum(oe_statement_text(0, i + 1));
	oe_budgets_set_revealed(&entry->budgets, now, revealed);
	entry->reveals_read = reveals;
	return true;
}

OeAdmission
oe_budget_admit(const char *role, OeCredits reserve, TimestampTz now,
				OeTime *when, OeError *error)
{
	RoleEntry  *entry = find_role(role);

	if (!entry || !entry->restored)
		return OE_ADMIT_NOW;
	return oe_budgets_admit(&entry->budgets,
							pg_server_to_any(role, strlen(role), PG_UTF8),
							reserve, now, when, error);
}

void
oe_budget_sent(const char *role, OeCredits reserve, TimestampTz now)
{
	RoleEntry  *entry = find_role(role);

	if (entry && entry->restored)
		oe_budgets_sent(&entry->budgets, reserve, now);
}

void
oe_budget_ended(const char *role, TimestampTz sent, TimestampTz now,
				OeOutcome outcome, OeCredits reserved, OeCredits credits)
{
	RoleEntry  *entry = find_role(role);

	/*
	 * If the role is not restored yet, the ledger will supply the ending, as
	 * it will the sending.
	 */
	if (entry && entry->restored)
		oe_budgets_ended(&entry->budgets, sent, now, outcome, reserved, credits);
}

void
oe_budget_release(TimestampTz now)
{
	Datum		value = TimestampTzGetDatum(now);

	oe_budget_refresh();
	oe_ledger_use_spi();
	(void) oe_statement_run(&release_statement, &value, NULL);
}
