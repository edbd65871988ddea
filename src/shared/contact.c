/*
 * contact.c
 *		The e-mail address or the phone numbers of a person, as the API reveals them.
 */
#include "postgres.h"

#include "fmgr.h"

#include "shared/contact.h"

PG_FUNCTION_INFO_V1(ocean_enrich_contact_rank);

/* The statuses that the API documents, of a contact that has a value. */
typedef struct RankedStatus
{
	const char *status;
	OeContactRank rank;
} RankedStatus;

static const RankedStatus ranks[] =
{
	{"notFound", OE_CONTACT_NOT_FOUND},
	{"inProgress", OE_CONTACT_FOUND_IN_PROGRESS},
	{"guessed", OE_CONTACT_GUESSED},
	{"catchAll", OE_CONTACT_CATCH_ALL},
	{"verified", OE_CONTACT_VERIFIED},
};

static bool
get_member(JsonbContainer *object, const char *key, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(object, key, strlen(key), value) &&
		value->type != jbvNull;
}

static bool
is_string(const JsonbValue *value, const char *text)
{
	return value->type == jbvString &&
		value->val.string.len == (int) strlen(text) &&
		memcmp(value->val.string.val, text, value->val.string.len) == 0;
}

/* An address that is not empty, or numbers that are not an empty array. */
static bool
has_value(JsonbContainer *contact)
{
	JsonbValue	value;

	if (get_member(contact, "address", &value) && !is_string(&value, ""))
		return true;
	return get_member(contact, "numbers", &value) &&
		(value.type != jbvBinary ||
		 !JsonContainerIsArray(value.val.binary.data) ||
		 JsonContainerSize(value.val.binary.data) > 0);
}

OeContactRank
oe_contact_rank(JsonbContainer *contact)
{
	JsonbValue	status;
	bool		has_status;

	if (!JsonContainerIsObject(contact))
		return OE_CONTACT_NONE;
	has_status = get_member(contact, "status", &status);
	if (!has_value(contact))
		return has_status && is_string(&status, "inProgress")
			? OE_CONTACT_IN_PROGRESS : OE_CONTACT_NOT_FOUND;
	for (int i = 0; has_status && i < (int) lengthof(ranks); i++)
	{
		if (is_string(&status, ranks[i].status))
			return ranks[i].rank;
	}
	return OE_CONTACT_OTHER;
}

bool
oe_contact_is_found(Jsonb *answer, const char *key)
{
	JsonbValue	contact;

	return get_member(&answer->root, key, &contact) &&
		contact.type == jbvBinary &&
		oe_contact_rank(contact.val.binary.data) >= OE_CONTACT_GUESSED;
}

Datum
ocean_enrich_contact_rank(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_INT32(OE_CONTACT_NONE);
	PG_RETURN_INT32(oe_contact_rank(&PG_GETARG_JSONB_P(0)->root));
}
