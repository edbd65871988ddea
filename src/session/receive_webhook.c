/*
 * receive_webhook.c
 *		ocean_enrich.receive_webhook(): who may have a payload taken, and in whose
 *		name that is done.  What is in a payload, and what becomes of it, is SQL:
 *		see ocean_enrich.take_webhook() in the install script.
 *
 * A webhook carries no signature; all that can be asked of its sender is a
 * secret in the URL that only he was given.  So that its comparison takes the
 * same time whatever is wrong with it, digests are compared, to their end.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "base/errors.h"
#include "base/rights.h"
#include "base/statement.h"
#include "shared/ledger.h"
#include "shared/settings.h"

/* As much as an answer may have. */
#define PAYLOAD_MAX_BYTES	(1024 * 1024)

/*
 * How many people may be waiting for the answer of a call.  The API's own wait
 * as long as an answer is on its way; this is far more than ever are.
 */
#define EARLY_REVEALS_MAX	100000

PG_FUNCTION_INFO_V1(ocean_enrich_receive_webhook);

static OeStatement take_statement = {
	"SELECT ocean_enrich.take_webhook($1, $2)",
	2,
	{JSONBOID, BYTEAOID},
	NULL
};

/*
 * Is this payload about people of whom no call waits for any, and are those too
 * many in all?  Who is waited for is kept there, too, as long as other calls are
 * on the wire that may be about him: so the rows alone do not tell, but whether
 * to count.
 */
#define NOBODY_WAITS_FOR_IT \
	"NOT EXISTS (SELECT FROM ocean_enrich.reveal AS r WHERE r.person_id = e.person_id)"
#define MORE_THAN_MAY_WAIT(condition) \
	"(SELECT count(*) > " CppAsString2(EARLY_REVEALS_MAX) \
	" FROM (SELECT FROM ocean_enrich.early_reveal AS e WHERE " condition \
	" LIMIT " CppAsString2(EARLY_REVEALS_MAX) " + 1) AS counted)"

static OeStatement crowd_statement = {
	"SELECT EXISTS (SELECT FROM ocean_enrich.early_reveal AS e"
	" JOIN ocean_enrich.webhook AS w ON w.webhook_id = e.webhook_id"
	" WHERE w.digest = $2 AND " NOBODY_WAITS_FOR_IT ")"
	" AND " MORE_THAN_MAY_WAIT("true")
	" AND " MORE_THAN_MAY_WAIT(NOBODY_WAITS_FOR_IT)
	" AND NOT EXISTS (SELECT FROM ocean_enrich.webhook_items($1) AS i"
	" JOIN ocean_enrich.reveal AS r ON r.person_id = i.person_id)",
	2,
	{JSONBOID, BYTEAOID},
	NULL
};

static bool
equal_in_constant_time(const uint8 *a, const uint8 *b, Size len)
{
	volatile uint8 difference = 0;

	for (Size i = 0; i < len; i++)
		difference |= a[i] ^ b[i];
	return difference == 0;
}

static bool
is_the_secret(text *given)
{
	uint8		wanted[OE_FINGERPRINT_BYTES];
	uint8		digest[OE_FINGERPRINT_BYTES];

	oe_webhook_secret_digest(wanted);
	oe_sha256(VARDATA_ANY(given), VARSIZE_ANY_EXHDR(given), digest);
	return equal_in_constant_time(wanted, digest, sizeof(digest));
}

/*
 * Without a secret only those are let in who may write the ledger anyway: an
 * open door would let everybody change what was paid for.
 */
static void
check_caller(text *given)
{
	if (oe_webhook_has_secret())
	{
		if (given && is_the_secret(given))
			return;
		ereport(ERROR,
				errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				errmsg("webhook secret is wrong"));
	}
	if (pg_class_aclcheck(oe_ledger_relation(), GetUserId(), ACL_UPDATE) !=
		ACLCHECK_OK)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				errmsg("no webhook secret is set"),
				errhint("Ask the administrator to set \"ocean_enrich.webhook_secret\"."));
}

/* Before it is unpacked. */
static void
check_size(Datum payload)
{
	if (toast_raw_datum_size(payload) > PAYLOAD_MAX_BYTES)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("webhook payload is too large"),
				errdetail("A payload can have at most %d bytes.", PAYLOAD_MAX_BYTES));
}

static bool
has_key(Jsonb *payload, const char *key)
{
	JsonbValue	value;

	return getKeyJsonValueFromContainer(&payload->root, key, strlen(key),
										&value) &&
		value.type != jbvNull;
}

/*
 * A documented one: an object that is a person, or has a list of findings.  A
 * batch of people need not have any, but has a status; so does a batch of
 * companies, which is for somebody else.
 */
static void
check_form(Jsonb *payload)
{
	static const char *const keys[] =
	{"id", "emails", "phones", "people", "results"};

	if (JB_ROOT_IS_OBJECT(payload))
	{
		for (int i = 0; i < (int) lengthof(keys); i++)
		{
			if (has_key(payload, keys[i]))
				return;
		}
		if (has_key(payload, "overallStatus") &&
			!has_key(payload, "companies"))
			return;
	}
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("webhook payload has an unknown format"),
			errdetail("The payload is not an object with the key \"id\", \"emails\", \"phones\", "
					  "\"people\", or \"results\"."));
}

static Datum
digest_of(Jsonb *payload)
{
	bytea	   *digest = palloc(VARHDRSZ + OE_FINGERPRINT_BYTES);
	char	   *json = JsonbToCString(NULL, &payload->root, VARSIZE(payload));

	SET_VARSIZE(digest, VARHDRSZ + OE_FINGERPRINT_BYTES);
	oe_sha256(json, strlen(json), (uint8 *) VARDATA(digest));
	pfree(json);
	return PointerGetDatum(digest);
}

/*
 * Whoever got hold of the secret could fill the disk with people that nobody asked
 * for.  Looked at when all is merged; what was refused comes again, so one whose
 * answer is late is not lost.
 *
 * A payload is taken or refused as a whole.  What is in it was paid, so it is taken
 * if anybody in it is waited for, with those who are not: their answer may be on
 * its way, and once we have said that we took it, it does not come again.  So the
 * bound does not hold for whoever knows, beside the secret, an id that was asked
 * for; he has to be stopped by another secret in any case.
 */
static void
check_crowd(Datum *payload_and_digest)
{
	(void) oe_statement_run(&crowd_statement, payload_and_digest, NULL);
	if (DatumGetBool(oe_statement_value(0, 1)))
		ereport(ERROR,
				errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("too many people that no call is waiting for have arrived by webhook"),
				errdetail("At most %d of them can be kept in table \"ocean_enrich.early_reveal\" "
						  "until their call is answered.",
						  EARLY_REVEALS_MAX),
				errhint("If the API did not send them, change \"ocean_enrich.webhook_secret\", "
						"then delete them."));
}

Datum
ocean_enrich_receive_webhook(PG_FUNCTION_ARGS)
{
	Datum		values[2];
	OeRights	rights;
	Jsonb	   *payload;
	Oid			owner = oe_ledger_owner();
	int64		changed;

	check_caller(PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1));
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	check_size(PG_GETARG_DATUM(0));
	payload = PG_GETARG_JSONB_P(0);
	check_form(payload);

	oe_prevent_if_read_only("ocean_enrich.receive_webhook()");
	values[0] = JsonbPGetDatum(payload);
	values[1] = digest_of(payload);
	oe_rights_switch(&rights, owner, OE_RIGHTS_FOR_SQL);
	(void) oe_statement_run(&take_statement, values, NULL);
	changed = DatumGetInt64(oe_statement_value(0, 1));
	check_crowd(values);
	oe_rights_restore(&rights);
	PG_RETURN_INT64(changed);
}
