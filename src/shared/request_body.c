/*
 * request_body.c
 *		A request as a user writes it, checked and normalised to what is sent.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "core/request.h"
#include "base/errors.h"
#include "base/statement.h"
#include "base/text.h"
#include "shared/request_body.h"
#include "shared/settings.h"

/* Errors of the core are UTF-8; a key that is quoted in one need not be ASCII. */
static void
convert_error(OeError *error)
{
	OeError		converted = {0};

	if (GetDatabaseEncoding() == PG_UTF8)
		return;
	oe_error_set(&converted, error->code, "%s",
				 oe_utf8_to_message(error->message ? error->message
									: "out of memory"));
	if (error->detail)
		oe_error_detail(&converted, "%s", oe_utf8_to_message(error->detail));
	if (error->hint)
		oe_error_hint(&converted, "%s", oe_utf8_to_message(error->hint));
	oe_error_free(error);
	*error = converted;
}

static const JsonbValue *
get_value(JsonbContainer *object, const char *key, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(object, key, (int) strlen(key), value);
}

typedef struct Longest
{
	const OeObject *owner;
	const OeMember *member;
	int			len;
} Longest;

static void
find_longest(const OeObject *object, JsonbContainer *container, Longest *longest)
{
	JsonbValue	value;

	for (Size i = 0; i < object->count; i++)
	{
		if (!get_value(container, object->members[i].name, &value) ||
			value.type != jbvString || value.val.string.len <= longest->len)
			continue;
		longest->owner = object;
		longest->member = &object->members[i];
		longest->len = value.val.string.len;
	}
}

/*
 * Name the longest of the strings that the API knows: most likely it alone
 * makes the request too long.
 */
static void
name_longest(const OeEndpoint *endpoint, Jsonb *jsonb, OeError *error)
{
	const OeObject *request = &endpoint->vocabulary->request;
	Longest		longest = {0};
	JsonbValue	inner;

	for (Size i = 0; JB_ROOT_IS_OBJECT(jsonb) && i < request->count; i++)
	{
		if (get_value(&jsonb->root, request->members[i].name, &inner) &&
			inner.type == jbvBinary && JsonContainerIsObject(inner.val.binary.data))
			find_longest(request->members[i].object, inner.val.binary.data, &longest);
	}
	if (longest.member)
		oe_error_set(error, OE_BAD_REQUEST,
					 "the request is longer than %d bytes (the longest value is \"%s.%s\")",
					 OE_REQUEST_MAX_BYTES, longest.owner->name, longest.member->name);
}

static char *
copy_text(const char *text)
{
	Size		size = strlen(text) + 1;
	char	   *copy = palloc_extended(size, MCXT_ALLOC_NO_OOM);

	return copy ? memcpy(copy, text, size) : NULL;
}

/* In memory of PostgreSQL's; what malloc gave is freed before anything is raised. */
static void
take_request(OeRequest *request, OeBody *body)
{
	OeRequest	copy = *request;

	copy.body = copy_text(request->body);
	copy.identity = copy_text(request->identity);
	oe_request_free(request);
	if (!copy.body || !copy.identity)
		oe_ereport_out_of_memory();
	body->text = copy.body;
	body->reveals = copy.reveals;
	oe_request_fingerprint(body->endpoint, &copy, body->fingerprint);
	pfree(copy.identity);
}

bool
oe_request_check(const OeEndpoint *endpoint, Jsonb *jsonb, OeBody *body,
				 OeError *error)
{
	OeRequest	request = {0};
	char	   *text;
	char	   *utf8;

	memset(body, 0, sizeof(*body));
	body->endpoint = endpoint;
	if (endpoint->vocabulary)
	{
		text = JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
		utf8 = oe_server_to_utf8(text);
		if (!utf8)
		{
			oe_error_set(error, OE_BAD_REQUEST,
						 "the request contains text that cannot be converted to UTF-8");
			return false;
		}
		if (oe_request_parse(endpoint, utf8, strlen(utf8),
							 oe_settings()->unknown_keys == OE_UNKNOWN_KEYS_PASS,
							 (OeEquality) oe_settings()->equal,
							 &request, error) != OE_OK)
		{
			if (error->code == OE_OUT_OF_MEMORY)
				oe_ereport(ERROR, error);
			convert_error(error);
			if (strlen(utf8) > OE_REQUEST_MAX_BYTES)
				name_longest(endpoint, jsonb, error);
			return false;
		}
		if (request.needs_url && !oe_has_webhook_url())
		{
			oe_request_free(&request);
			oe_error_set(error, OE_BAD_SETTING, "no webhook URL is set");
			oe_error_hint(error, "Ask the administrator to set \"ocean_enrich.webhook_url\", "
						  "or give the request a \"" OE_WEBHOOK_URL "\".");
			return false;
		}
		take_request(&request, body);
	}
	else
		oe_request_fingerprint(endpoint, NULL, body->fingerprint);
	return true;
}

void
oe_request_warn(const OeBody *body)
{
	for (Size i = 0; i < body->endpoint->price_count; i++)
	{
		const OePrice *price = &body->endpoint->prices[i];

		if (body->reveals.of[i] == OE_REVEAL_NOT_ASKED)
			ereport(WARNING,
					errmsg("\"%s\" has a \"webhookUrl\" but asks for nothing",
						   price->object),
					errhint("Add \"%s\": true.", price->flag));
	}
}

/* What a request asks to be revealed as bits, two for each extra. */
#define REVEAL_BITS			2
#define REVEAL_BY_WEBHOOK	1
#define REVEAL_IN_ANSWER	2
#define REVEAL_MASK			3

static uint8
bits_of_reveals(const OeEndpoint *endpoint, const OeReveals *reveals)
{
	uint8		bits = 0;

	StaticAssertStmt(REVEAL_BITS * (OE_PRICES_MAX - 1) <= 8,
					 "the reveals do not fit into one byte");
	for (Size i = 1; i < endpoint->price_count; i++)
	{
		bits <<= REVEAL_BITS;
		if (reveals->of[i] == OE_REVEAL_BY_WEBHOOK)
			bits |= REVEAL_BY_WEBHOOK;
		else if (reveals->of[i] == OE_REVEAL_IN_ANSWER)
			bits |= REVEAL_IN_ANSWER;
	}
	return bits;
}

/* What is equal by one rule need not be equal by the other. */
void
oe_request_fingerprint(const OeEndpoint *endpoint, const OeRequest *request,
					   uint8 fingerprint[OE_FINGERPRINT_BYTES])
{
	StringInfoData both;

	initStringInfo(&both);
	appendStringInfoString(&both, endpoint->name);
	if (request && oe_settings()->equal == OE_EQUAL_EXACT)
		appendStringInfoString(&both, " exact");
	appendStringInfoChar(&both, '\n');
	if (request)
		appendStringInfoString(&both, request->identity);
	oe_sha256(both.data, both.len, fingerprint);
	fingerprint[OE_FINGERPRINT_BYTES - 1] =
		request ? bits_of_reveals(endpoint, &request->reveals) : 0;
	pfree(both.data);
}

void
oe_fingerprint_range(const uint8 *fingerprint, uint8 lowest[OE_FINGERPRINT_BYTES],
					 uint8 highest[OE_FINGERPRINT_BYTES])
{
	memcpy(lowest, fingerprint, OE_FINGERPRINT_BYTES);
	memcpy(highest, fingerprint, OE_FINGERPRINT_BYTES);
	lowest[OE_FINGERPRINT_BYTES - 1] = 0;
	highest[OE_FINGERPRINT_BYTES - 1] = PG_UINT8_MAX;
}

bool
oe_fingerprint_serves(const uint8 *answered, const uint8 *asked)
{
	uint8		has = answered[OE_FINGERPRINT_BYTES - 1];

	for (uint8 bits = asked[OE_FINGERPRINT_BYTES - 1]; bits; bits >>= REVEAL_BITS)
	{
		if ((bits & REVEAL_MASK) && (bits & REVEAL_MASK) != (has & REVEAL_MASK))
			return false;
		has >>= REVEAL_BITS;
	}
	return true;
}

Datum
oe_reveals_to_names(const OeEndpoint *endpoint, const OeReveals *reveals,
					OeReveal way)
{
	Datum		names[OE_PRICES_MAX];
	int			count = 0;

	for (Size i = 0; i < endpoint->price_count; i++)
	{
		if (endpoint->prices[i].found && reveals->of[i] == way)
			names[count++] = CStringGetTextDatum(endpoint->prices[i].found);
	}
	return count > 0 ? oe_statement_array(names, NULL, count, TEXTOID) : (Datum) 0;
}

void
oe_reveals_from_names(const OeEndpoint *endpoint, Datum names, OeReveal way,
					  OeReveals *reveals)
{
	Datum	   *elements;
	bool	   *nulls;
	int			count;

	if (!names)
		return;
	deconstruct_array(DatumGetArrayTypeP(names), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &count);
	for (Size i = 0; i < endpoint->price_count; i++)
	{
		for (int j = 0; j < count; j++)
		{
			if (endpoint->prices[i].found && !nulls[j] &&
				strcmp(TextDatumGetCString(elements[j]), endpoint->prices[i].found) == 0)
				reveals->of[i] = way;
		}
	}
}

bool
oe_request_needs_url(const OeEndpoint *endpoint, Jsonb *request)
{
	JsonbValue	reveal;
	JsonbValue	by_webhook;

	for (Size i = 0; i < endpoint->price_count; i++)
	{
		const char *object = endpoint->prices[i].object;

		if (object && get_value(&request->root, object, &reveal) &&
			reveal.type == jbvBinary &&
			get_value(reveal.val.binary.data, OE_BY_WEBHOOK, &by_webhook))
			return true;
	}
	return false;
}

bool
oe_reveals_by_webhook(const OeReveals *reveals)
{
	for (int i = 0; i < OE_PRICES_MAX; i++)
	{
		if (reveals->of[i] == OE_REVEAL_BY_WEBHOOK)
			return true;
	}
	return false;
}

void
oe_request_set_reveals(OeLimits *limits, const OeReveals *reveals)
{
	for (int i = 0; i < OE_PRICES_MAX; i++)
		limits->in_answer[i] = reveals->of[i] == OE_REVEAL_IN_ANSWER;
}
