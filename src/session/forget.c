/*
 * forget.c
 *		ocean_enrich.forget(): identify the person to be erased, and write a
 *		log entry that does not name them.  The erasure itself is SQL: see
 *		ocean_enrich.erase_person() in the install script.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"

#include "base/errors.h"
#include "base/rights.h"
#include "base/statement.h"
#include "shared/ledger.h"
#include "shared/sync_notes.h"

#define WAYS_TO_NAME	3		/* by id, e-mail address, LinkedIn */

PG_FUNCTION_INFO_V1(ocean_enrich_forget);

static OeStatement erase_statement = {
	"SELECT erased, call_ids FROM ocean_enrich.erase_person($1, $2, $3)",
	WAYS_TO_NAME,
	{TEXTOID, TEXTOID, TEXTOID},
	NULL
};

/* Trims white space; returns NULL if nothing is left. */
static char *
trim_text(text *value)
{
	char	   *start = text_to_cstring(value);
	char	   *end = start + strlen(start);

	while (end > start && strchr(" \t\r\n", end[-1]))
		*--end = '\0';
	start += strspn(start, " \t\r\n");
	return *start ? start : NULL;
}

/* Convert the arguments to parameters; false if they identify no person. */
static bool
read_identities(FunctionCallInfo fcinfo, Datum *values, char *nulls)
{
	bool		named = false;

	for (int i = 0; i < WAYS_TO_NAME; i++)
	{
		char	   *name = PG_ARGISNULL(i) ? NULL : trim_text(PG_GETARG_TEXT_PP(i));

		nulls[i] = name ? ' ' : 'n';
		if (name)
			values[i] = CStringGetTextDatum(name);
		named |= name != NULL;
	}
	return named;
}

Datum
ocean_enrich_forget(PG_FUNCTION_ARGS)
{
	Datum		values[WAYS_TO_NAME] = {0};
	char		nulls[WAYS_TO_NAME + 1] = {0};
	OeRights	rights;
	int64		erased;

	if (!read_identities(fcinfo, values, nulls))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("no person to forget was specified"),
				errhint("Specify an ID, an e-mail address, or a LinkedIn URL."));
	oe_prevent_if_read_only("ocean_enrich.forget()");
	oe_rights_switch(&rights, oe_ledger_owner(), OE_RIGHTS_FOR_SQL);
	oe_sync_hold_off();
	(void) oe_statement_run(&erase_statement, values, nulls);
	erased = DatumGetInt64(oe_statement_value(0, 1));
	oe_sync_forgotten(oe_statement_value(0, 2));
	oe_rights_restore(&rights);

	/* The statement and the context would name the person. */
	ereport(LOG,
			errmsg_plural("ocean_enrich erased a person from " INT64_FORMAT " call",
						  "ocean_enrich erased a person from " INT64_FORMAT " calls",
						  (unsigned long) erased, erased),
			errhidestmt(true), errhidecontext(true));
	PG_RETURN_INT64(erased);
}
