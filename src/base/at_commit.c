/*
 * at_commit.c
 *		Module callbacks at the end of a transaction.
 *
 * PostgreSQL's transaction callbacks receive every event, and each would need
 * the same switch over them.  So there is one callback, and a list of modules.
 */
#include "postgres.h"

#include "access/xact.h"

#include "base/at_commit.h"

static OeAtCommit *modules;

static void
before_end(bool prepared)
{
	for (OeAtCommit *module = modules; module; module = module->next)
	{
		if (module->before)
			module->before(prepared);
	}
}

static void
after_end(bool committed)
{
	for (OeAtCommit *module = modules; module; module = module->next)
	{
		if (module->after)
			module->after(committed);
	}
}

static void
end_of_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			before_end(event == XACT_EVENT_PRE_PREPARE);
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PREPARE:
			after_end(event == XACT_EVENT_COMMIT);
			break;
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
			break;
	}
}

static void
end_of_subtransaction(SubXactEvent event, SubTransactionId sub,
					  SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	for (OeAtCommit *module = modules; module; module = module->next)
	{
		if (module->after_sub)
			module->after_sub(sub, parent, event == SUBXACT_EVENT_COMMIT_SUB);
	}
}

void
oe_at_commit(OeAtCommit *module)
{
	if (module->registered)
		return;
	if (!modules)
	{
		RegisterXactCallback(end_of_transaction, NULL);
		RegisterSubXactCallback(end_of_subtransaction, NULL);
	}
	module->next = modules;
	modules = module;
	module->registered = true;
}
