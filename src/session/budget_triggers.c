/*
 * budget_triggers.c
 *		Notify the worker of changes that sessions make: budgets, resolved
 *		calls, data revealed by webhooks.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/at_commit.h"
#include "shared/channel.h"

PG_FUNCTION_INFO_V1(ocean_enrich_budget_changed);
PG_FUNCTION_INFO_V1(ocean_enrich_spending_changed);
PG_FUNCTION_INFO_V1(ocean_enrich_reveals_counted);

static bool change_is_pending;
static bool reveal_is_pending;

/* COMMIT PREPARED would not notify the worker. */
static void
refuse_prepare(bool prepared)
{
	if (prepared && change_is_pending)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot PREPARE a transaction that has modified table "
					   "\"ocean_enrich.budget\""),
				errhint("Change budgets in a separate transaction."));
}

static void
notify_worker(bool committed)
{
	if (committed && change_is_pending)
		oe_channel_say_changed();
	if (committed && reveal_is_pending)
		oe_channel_say_revealed();
	change_is_pending = reveal_is_pending = false;
}

static void
notify_at_commit(bool *what)
{
	static OeAtCommit at_commit = {
		.before = refuse_prepare,
		.after = notify_worker,
	};

	oe_channel_attach();
	oe_at_commit(&at_commit);
	*what = true;
}

/* Not an error: a dump may be restored where some roles do not exist. */
static void
warn_if_nobody(TriggerData *trigger)
{
	HeapTuple	tuple = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
		trigger->tg_newtuple : trigger->tg_trigtuple;
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	char	   *role = SPI_getvalue(tuple, desc, SPI_fnumber(desc, "role"));

	if (!OidIsValid(get_role_oid(role, true)))
		ereport(WARNING,
				errmsg("role \"%s\" does not exist", role),
				errhint("A budget applies to the calls of the role with that name."));
}

/* Row-level and statement-level trigger of ocean_enrich.budget. */
Datum
ocean_enrich_budget_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("budget_changed() can only be called as a trigger"));
	if (TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		warn_if_nobody(trigger);
	else
		notify_at_commit(&change_is_pending);
	return PointerGetDatum(NULL);
}

/*
 * Notify the worker that resolve() has changed the ledger.  Any role can call
 * this function, since resolve() runs with its caller's rights; but a role
 * that is not allowed to resolve calls could only use it to keep the worker
 * busy.
 */
Datum
ocean_enrich_spending_changed(PG_FUNCTION_ARGS)
{
	Oid			ledger = get_relname_relid("call",
										   get_namespace_oid("ocean_enrich", false));
	AttrNumber	column = get_attnum(ledger, "resolution");

	if (pg_class_aclcheck(ledger, GetUserId(), ACL_UPDATE) != ACLCHECK_OK &&
		pg_attribute_aclcheck(ledger, column, GetUserId(), ACL_UPDATE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, "call");
	notify_at_commit(&change_is_pending);
	PG_RETURN_BOOL(true);
}

/*
 * Receiving a webhook issues NOTIFY, so the transaction cannot be prepared.
 * Its data was paid for, so it is accepted even while the server waits for a
 * restart: processes of the library in use look for it now and then.
 */
Datum
ocean_enrich_reveals_counted(PG_FUNCTION_ARGS)
{
	if (oe_channel_is_ours())
		notify_at_commit(&reveal_is_pending);
	PG_RETURN_BOOL(true);
}
