/*
 * endpoint.c
 *		The endpoints of the API that we know; see endpoint.h.
 *
 * The contents of the vendor's page on an endpoint are here and nowhere else:
 * the accepted members, their types, and the order in which they are sent.
 */
#include "core/endpoint.h"

#include <string.h>

#define lengthof(array)	(sizeof(array) / sizeof((array)[0]))

#define STRING(name, form)	{name, OE_MEMBER_STRING, true, NULL, false, form}
#define IDENTITY(name, form)	{name, OE_MEMBER_STRING, true, NULL, true, form}
#define BOOLEAN(name, form)	{name, OE_MEMBER_BOOLEAN, false, NULL, false, form}
#define OBJECT(name, null_allowed, object) \
	{name, OE_MEMBER_OBJECT, null_allowed, object, false, OE_FORM_EXACT}
#define OBJECT_TYPE(name, members)	{name, members, lengthof(members)}

/* ---- POST /v2/enrich/person: the vendor's page "Enrich person" ---- */

static const OeMember person_members[] = {
	IDENTITY("id", OE_FORM_EXACT),
	IDENTITY("name", OE_FORM_TEXT),
	IDENTITY("firstName", OE_FORM_TEXT),
	IDENTITY("lastName", OE_FORM_TEXT),
	STRING("jobTitle", OE_FORM_TEXT),
	IDENTITY("email", OE_FORM_EMAIL),
	IDENTITY("phone", OE_FORM_PHONE),
	IDENTITY("facebook", OE_FORM_FACEBOOK),
	IDENTITY("twitter", OE_FORM_TWITTER),
	IDENTITY("linkedin", OE_FORM_LINKEDIN_PERSON),
	STRING("country", OE_FORM_TEXT),
};

static const OeMember company_members[] = {
	STRING("name", OE_FORM_TEXT),
	STRING("registrationNumber", OE_FORM_TEXT),
	STRING("email", OE_FORM_EMAIL),
	STRING("phone", OE_FORM_PHONE),
	STRING("countryCode", OE_FORM_TEXT),
	STRING("state", OE_FORM_TEXT),
	STRING("city", OE_FORM_TEXT),
	STRING("streetAddress", OE_FORM_TEXT),
	STRING("postalCode", OE_FORM_TEXT),
	STRING("address", OE_FORM_TEXT),
	STRING("facebook", OE_FORM_FACEBOOK),
	STRING("twitter", OE_FORM_TWITTER),
	STRING("linkedin", OE_FORM_LINKEDIN_COMPANY),
	STRING("instagram", OE_FORM_INSTAGRAM),
	STRING("xing", OE_FORM_XING),
	STRING("domain", OE_FORM_DOMAIN),
	STRING("youtube", OE_FORM_YOUTUBE),
};

static const OeMember reveal_emails_members[] = {
	BOOLEAN("includeEmails", OE_FORM_REVEAL),
	STRING(OE_WEBHOOK_URL, OE_FORM_REVEAL),
	BOOLEAN(OE_BY_WEBHOOK, OE_FORM_REVEAL),
};

static const OeMember reveal_phones_members[] = {
	BOOLEAN("includePhones", OE_FORM_REVEAL),
	STRING(OE_WEBHOOK_URL, OE_FORM_REVEAL),
	BOOLEAN(OE_BY_WEBHOOK, OE_FORM_REVEAL),
};

static const OeObject person_type = OBJECT_TYPE("person", person_members);
static const OeObject company_type = OBJECT_TYPE("company", company_members);
static const OeObject reveal_emails_type = OBJECT_TYPE("revealEmails",
													   reveal_emails_members);
static const OeObject reveal_phones_type = OBJECT_TYPE("revealPhones",
													   reveal_phones_members);

static const OeMember person_request_members[] = {
	OBJECT("person", false, &person_type),
	OBJECT("company", true, &company_type),
	OBJECT("revealEmails", true, &reveal_emails_type),
	OBJECT("revealPhones", true, &reveal_phones_type),
};

static const OeVocabulary person_vocabulary = {
	.request = OBJECT_TYPE(NULL, person_request_members),
	.example = "{\"person\": {\"email\": \"...\"}}, which ocean_person_request() builds",
	.required = "person",
	.missing_hint = "Put the values that identify the person inside \"person\", such as "
	"{\"person\": {\"email\": ...}}.",
	.empty_message = "Empty `person` body",
	.empty_hint = "Give at least one value that identifies the "
	"person, such as \"linkedin\" or \"email\".",
};

static const OePrice person_prices[] = {
	{"ocean_enrich.credits_per_call", NULL, NULL, NULL},
	{"ocean_enrich.credits_per_email", "revealEmails", "includeEmails", "email"},
	{"ocean_enrich.credits_per_phone", "revealPhones", "includePhones", "phone"},
};

const OeEndpoint oe_endpoint_person = {
	.name = "person",
	.path = "/v2/enrich/person",
	.vocabulary = &person_vocabulary,
	.identity = "id",
	.prices = person_prices,
	.price_count = lengthof(person_prices),
	.recorded = true,
};

/* ---- GET /v2/credits/balance: the vendor's page "Credit balance" ---- */

const OeEndpoint oe_endpoint_balance = {
	.name = "balance",
	.path = "/v2/credits/balance",
};

const OeEndpoint *const oe_endpoints[] = {
	&oe_endpoint_person,
	&oe_endpoint_balance,
	NULL
};

const OeEndpoint *
oe_endpoint_find(const char *name)
{
	const OeEndpoint *const *endpoint = oe_endpoints;

	while (*endpoint != NULL && strcmp((*endpoint)->name, name) != 0)
		endpoint++;
	return *endpoint;
}
