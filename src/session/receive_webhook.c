/*
 * receive_webhook.c
 *		ocean_enrich.receive_webhook(): check the sender and the payload, and
 *		process it with the ledger owner's rights.  The processing itself is
 *		SQL: see ocean_enrich.take_webhook() in the install script.
 *
 * Webhooks carry no signature; the sender can only prove knowledge of a secret
 * in the URL.  Digests are compared in full, so that the comparison takes the
 * same time for every wrong secret.
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
#include "base/text.h"
#include "shared/ledger.h"
#include "shared/settings.h"

/* Same maximum as for an answer. */
#define PAYLOAD_MAX_BYTES	(1024 * 1024)

/*
 * Maximum number of people kept until the answer to their call arrives.
 * People sent by the API itself wait only while an answer is on its way, which
 * never adds up to this many.
 */
#define EARLY_REVEALS_MAX	100000

PG_FUNCTION_INFO_V1(ocean_enrich_receive_webhook);

static OeStatement take_statement = {
	"SELECT ocean_enrich.take_webhook($1, $2)",
	2,
	{JSONBOID, BYTEAOID},
	NULL
};

/* The first element that is not understood. */
static OeStatement stranger_statement = {
	"SELECT e.list, e.nth FROM ocean_enrich.webhook_elements($1) AS e"
	" WHERE NOT e.understood LIMIT 1",
	1,
	{JSONBOID},
	NULL
};

/*
 * Is no call waiting for any person in this payload, and are there too many
 * such people in all?  The table early_reveal also keeps people that a call is
 * waiting for, while other calls on the wire may be about them; so its number
 * of rows only shows whether an exact count is needed.
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

/* All are compared, so that the time does not depend on which one it is. */
static bool
is_a_secret(text *given, const OeDigest *wanted, int count)
{
	uint8		digest[OE_FINGERPRINT_BYTES];
	bool		found = false;

	oe_sha256(VARDATA_ANY(given), VARSIZE_ANY_EXHDR(given), digest);
	for (int i = 0; i < count; i++)
		found |= equal_in_constant_time(wanted[i].bytes, digest, sizeof(digest));
	return found;
}

/*
 * Without a secret, only roles that can write the ledger anyway are allowed:
 * otherwise everybody could change data that was paid for.
 */
static void
check_caller(text *given)
{
	int			count;
	const OeDigest *wanted = oe_webhook_secret_digests(&count);

	if (count > 0)
	{
		if (given && is_a_secret(given, wanted, count))
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

/* Called before the payload is detoasted. */
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
 * Accept the documented forms: an object that is a person, or has a list of
 * findings.  A batch of people may lack such a list but has a status; so does
 * a batch of companies, which is not meant for us.
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

/*
 * The text as jsonb.  A profile that the API sends may contain what a text in
 * PostgreSQL cannot hold; the contact that was paid for must not be lost by it.
 */
static Jsonb *
payload_from_text(text *payload)
{
	char	   *json = text_to_cstring(payload);

	oe_json_replace_escapes(json);
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
}

/*
 * Refuse data that is not understood: it was paid for, and the API sends it again
 * only if it is not accepted.
 */
static void
check_elements(Datum *payload)
{
	if (oe_statement_run(&stranger_statement, payload, NULL) == 0)
		return;
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("webhook payload has an unknown format"),
			errdetail("It lacks the person's \"id\", or has an address or number in an unknown form: "
					  "element " INT64_FORMAT " of \"%s\".",
					  DatumGetInt64(oe_statement_value(0, 2)), oe_statement_text(0, 1)),
			errhint("Nothing of it was stored, so the API will send it again."));
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
 * An attacker who knows the secret could fill the disk with people that nobody
 * asked for.  This is checked after merging.  The API resends refused
 * payloads, so people whose answer is late are not lost.
 *
 * A payload is accepted or refused as a whole.  Its data was paid for, so it
 * is accepted if a call is waiting for any person in it: the others' answers
 * may be on their way, and the API does not resend an accepted payload.  So an
 * attacker who also knows a requested person's id can exceed the limit; only a
 * new secret stops that.
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
	payload = payload_from_text(PG_GETARG_TEXT_PP(0));
	check_form(payload);

	oe_prevent_if_read_only("ocean_enrich.receive_webhook()");
	values[0] = JsonbPGetDatum(payload);
	values[1] = digest_of(payload);
	oe_rights_switch(&rights, owner, OE_RIGHTS_FOR_SQL);
	check_elements(values);
	(void) oe_statement_run(&take_statement, values, NULL);
	changed = DatumGetInt64(oe_statement_value(0, 1));
	check_crowd(values);
	oe_rights_restore(&rights);
	PG_RETURN_INT64(changed);
}
