/*
 * upkeep.c
 *		Schedules the worker's work beside calls.  The work itself is SQL, in
 *		functions of the install script; only the statements that run for each
 *		call are here, with saved plans.
 *
 * Upkeep runs when the worker starts, then every minute, and when the worker
 * has run out of calls or reloaded its settings, so that it leaves no work
 * behind.  A step is short, as all calls wait for it.  While there is more to
 * do and nothing else to do, steps follow each other.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "base/statement.h"
#include "shared/ledger.h"
#include "shared/settings.h"
#include "worker/upkeep.h"

#define INTERVAL_US			USECS_PER_MINUTE
#define IDLE_INTERVAL_US	USECS_PER_SEC
#define STEPS_MAX_US		(50 * INT64CONST(1000))

PG_FUNCTION_INFO_V1(ocean_enrich_expect_reveals);

/*
 * A reused answer takes over the reveals of the earlier call, and is not
 * charged for them.  Returns the
 * person if a webhook for them arrived early, which is rare.
 */
static OeStatement expect_statement = {
	"INSERT INTO ocean_enrich.reveal AS x (call_id, person_id, emails, phones,"
	" email_status, phone_status, emails_due, phones_due)"
	" SELECT c.call_id, c.answer ->> 'id', a.emails, a.phones, r.email_status, r.phone_status,"
	" a.emails AND c.reused_from IS NULL, a.phones AND c.reused_from IS NULL"
	" FROM ocean_enrich.call AS c CROSS JOIN LATERAL (SELECT"
	" coalesce('email' = ANY (c.reveals_by_webhook), false),"
	" coalesce('phone' = ANY (c.reveals_by_webhook), false)) AS a (emails, phones)"
	" LEFT JOIN LATERAL (SELECT email_status, phone_status"
	" FROM ocean_enrich.reveal WHERE call_id = c.reused_from OFFSET 0) AS r ON true"
	" WHERE c.call_id = $1 AND c.state::text = 'answered' AND c.answer ->> 'id' <> ''"
	" AND (a.emails OR a.phones)"
	" ON CONFLICT DO NOTHING"
	" RETURNING CASE WHEN EXISTS (SELECT FROM ocean_enrich.early_reveal AS e"
	" WHERE e.person_id = x.person_id OFFSET 0) THEN ARRAY[x.person_id] END",
	1,
	{INT8OID},
	NULL
};

static OeStatement merge_statement = {
	"SELECT ocean_enrich.merge_reveals($1)",
	1,
	{TEXTARRAYOID},
	NULL
};

static OeStatement tidy_statement = {
	"SELECT ocean_enrich.tidy()",
	0,
	{0},
	NULL
};

static OeStatement retention_statement = {
	"SELECT erased, more FROM ocean_enrich.apply_retention()",
	0,
	{0},
	NULL
};

static TimestampTz done_at;		/* time of the last steps; 0: none yet */
static bool more_to_do;			/* true if the last step left work */
static bool looked_while_idle;	/* true if there was no work since */
static TimestampTz retained_at; /* when the retention completed; 0: not yet */

/*
 * Copy the error into the caller's memory context.  Its error context is not
 * to be logged: it may quote a person.
 */
static ErrorData *
take_error(MemoryContext caller)
{
	ErrorData  *edata;

	MemoryContextSwitchTo(caller);
	edata = CopyErrorData();
	FlushErrorState();
	return edata;
}

/* Returns how many calls were changed. */
static int64
expect_reveals(int64 call_id)
{
	Datum		value = Int64GetDatum(call_id);

	if (oe_statement_run(&expect_statement, &value, NULL) == 0)
		return 0;
	value = oe_statement_value(0, 1);
	if (!value)
		return 0;
	(void) oe_statement_run(&merge_statement, &value, NULL);
	return DatumGetInt64(oe_statement_value(0, 1));
}

Datum
ocean_enrich_expect_reveals(PG_FUNCTION_ARGS)
{
	int64		changed;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	changed = expect_reveals(PG_GETARG_INT64(0));
	SPI_finish();
	PG_RETURN_INT64(changed);
}

void
oe_upkeep_answered(int64 call_id)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	oe_ledger_use_spi();
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		(void) expect_reveals(call_id);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *edata = take_error(caller);

		RollbackAndReleaseCurrentSubTransaction();
		ereport(WARNING,
				errmsg("could not record that call " INT64_FORMAT
					   " waits for a webhook: %s", call_id,
					   edata->message ? edata->message : "unknown error"));
		FreeErrorData(edata);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	oe_ledger_look_anew();
}

TimestampTz
oe_upkeep_due_at(void)
{
	if (more_to_do)
		return done_at;
	return done_at + (looked_while_idle ? INTERVAL_US : IDLE_INTERVAL_US);
}

bool
oe_upkeep_is_due(TimestampTz now, bool idle)
{
	if (!idle)
		looked_while_idle = false;
	return now >= (idle ? oe_upkeep_due_at() : done_at + INTERVAL_US);
}

void
oe_upkeep_soon(void)
{
	looked_while_idle = false;
	retained_at = 0;
}

bool
oe_upkeep_is_left(void)
{
	return more_to_do || !looked_while_idle;
}

/* Returns how many calls the retention erased in this step. */
static int64
apply_retention(TimestampTz now)
{
	(void) oe_statement_run(&retention_statement, NULL, NULL);
	more_to_do = DatumGetBool(oe_statement_value(0, 2));
	retained_at = more_to_do ? 0 : now;
	return DatumGetInt64(oe_statement_value(0, 1));
}

static void
do_step(TimestampTz now)
{
	int64		erased = 0;

	if (oe_ledger_begin() != OE_LEDGER_READY)
		return;
	oe_ledger_use_spi();
	(void) oe_statement_run(&tidy_statement, NULL, NULL);
	if (oe_settings()->retention_s > 0 && now >= retained_at + INTERVAL_US)
		erased = apply_retention(now);
	(void) oe_ledger_commit();
	if (erased > 0)
		ereport(LOG,
				errmsg_plural("ocean_enrich erased the people of " INT64_FORMAT
							  " call, as \"ocean_enrich.retention\" demands",
							  "ocean_enrich erased the people of " INT64_FORMAT
							  " calls, as \"ocean_enrich.retention\" demands",
							  (unsigned long) erased, erased));
}

/* Requests that arrive meanwhile wait that long, and for the current step. */
static void
do_steps(TimestampTz now)
{
	do
	{
		more_to_do = false;
		do_step(now);
	} while (more_to_do && GetCurrentTimestamp() < now + STEPS_MAX_US);
}

void
oe_upkeep(TimestampTz now)
{
	MemoryContext caller = CurrentMemoryContext;

	done_at = now;
	looked_while_idle = true;
	PG_TRY();
	{
		do_steps(now);
	}
	PG_CATCH();
	{
		ErrorData  *edata = take_error(caller);

		oe_ledger_abort();
		more_to_do = false;
		/* The lock will be released; the next step tries again. */
		if (edata->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
			edata->sqlerrcode != ERRCODE_QUERY_CANCELED)
			ereport(WARNING,
					errmsg("maintenance of table \"ocean_enrich.call\" failed: %s",
						   edata->message ? edata->message : "unknown error"));
		FreeErrorData(edata);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
}
