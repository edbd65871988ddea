/*
 * test_request.c
 *		The vocabulary of requests: which are sent in which form, and which are
 *		refused with which message.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buffer.h"
#include "core/request.h"
#include "unit.h"

#define lengthof(array)	(sizeof(array) / sizeof((array)[0]))

#define PASS_HINT \
	"Set \"ocean_enrich.unknown_keys\" to \"pass\" to send it anyway."

/* All keys of the vendor's page, in its order. */
#define FULL_REQUEST \
	"{\"person\":{\"id\":\"b8952796be57982d\",\"name\":\"Ines Lindqvist\"," \
	"\"firstName\":\"Ines\",\"lastName\":\"Lindqvist\"," \
	"\"jobTitle\":\"CEO\",\"email\":\"ines@example.com\"," \
	"\"phone\":\"+45 12345678\"," \
	"\"facebook\":\"https://www.facebook.com/ines\"," \
	"\"twitter\":\"https://twitter.com/ines\"," \
	"\"linkedin\":\"https://www.linkedin.com/in/ines\"," \
	"\"country\":\"dk\"}," \
	"\"company\":{\"name\":\"Example ApS\"," \
	"\"registrationNumber\":\"123456789\",\"email\":\"hello@example.com\"," \
	"\"phone\":\"+45 12345678\",\"countryCode\":\"dk\"," \
	"\"state\":\"Arkansas\",\"city\":\"Copenhagen\"," \
	"\"streetAddress\":\"Strandgade 6\",\"postalCode\":\"1401\"," \
	"\"address\":\"Strandgade 6, 1401 Copenhagen\"," \
	"\"facebook\":\"https://www.facebook.com/example\"," \
	"\"twitter\":\"https://twitter.com/example\"," \
	"\"linkedin\":\"https://www.linkedin.com/company/example\"," \
	"\"instagram\":\"https://www.instagram.com/example\"," \
	"\"xing\":\"https://www.xing.com/example\"," \
	"\"domain\":\"example.com\"," \
	"\"youtube\":\"https://www.youtube.com/example\"}," \
	"\"revealEmails\":{\"includeEmails\":true," \
	"\"webhookUrl\":\"https://example.com/webhook\"}," \
	"\"revealPhones\":{\"includePhones\":true," \
	"\"webhookUrl\":\"https://example.com/webhook\"}}"

typedef struct AcceptedCase
{
	const char *json;
	const char *body;			/* NULL: the same */
} AcceptedCase;

static const AcceptedCase accepted[] = {
	{FULL_REQUEST, NULL},
	{"{\"person\":{\"email\":\"a@example.com\"}}", NULL},

	/* white space and order, at every level */
	{" { \"company\" : { \"domain\" : \"example.com\" , \"name\" : \"E\" } ,\n"
		"\t\"person\" : { \"email\" : \"a@example.com\" , \"id\" : \"1\" } } ",
		"{\"person\":{\"id\":\"1\",\"email\":\"a@example.com\"},"
		"\"company\":{\"name\":\"E\",\"domain\":\"example.com\"}}"},
	{"{\"revealPhones\":{\"webhookUrl\":\"u\",\"includePhones\":false},"
		"\"person\":{\"id\":\"1\"}}",
		"{\"person\":{\"id\":\"1\"},"
		"\"revealPhones\":{\"includePhones\":false,\"webhookUrl\":\"u\"}}"},

	/* nulls, and objects that are empty without them */
	{"{\"person\":{\"id\":\"1\",\"name\":null},\"company\":null}",
		"{\"person\":{\"id\":\"1\"}}"},
	{"{\"person\":{\"id\":\"1\"},\"company\":{},\"revealEmails\":{},"
		"\"revealPhones\":null}",
		"{\"person\":{\"id\":\"1\"}}"},
	{"{\"person\":{\"id\":\"1\"},\"company\":{\"name\":null,\"city\":null},"
		"\"revealEmails\":{\"webhookUrl\":null}}",
		"{\"person\":{\"id\":\"1\"}}"},

	/* the webhook of the settings: kept where it says something */
	{"{\"person\":{\"id\":\"1\"},\"revealEmails\":{\"byWebhook\":true}}",
		"{\"person\":{\"id\":\"1\"},"
		"\"revealEmails\":{\"byWebhook\":true,\"includeEmails\":true}}"},
	{"{\"person\":{\"id\":\"1\"},\"revealEmails\":{\"includeEmails\":true,\"byWebhook\":true}}", NULL},
	{"{\"person\":{\"id\":\"1\"},\"revealEmails\":{\"byWebhook\":false}}",
		"{\"person\":{\"id\":\"1\"}}"},
	{"{\"person\":{\"id\":\"1\"},\"revealPhones\":{\"byWebhook\":true,\"includePhones\":false}}",
		"{\"person\":{\"id\":\"1\"},\"revealPhones\":{\"includePhones\":false}}"},
	{"{\"person\":{\"id\":\"1\"},\"revealPhones\":{\"byWebhook\":true,\"webhookUrl\":\"u\"}}",
		"{\"person\":{\"id\":\"1\"},\"revealPhones\":{\"webhookUrl\":\"u\",\"includePhones\":true}}"},

	/* an empty string is no value, nor are blanks */
	{"{\"person\":{\"id\":\"1\",\"name\":\"\"}}", "{\"person\":{\"id\":\"1\"}}"},
	{"{\"person\":{\"id\":\"1\"},\"company\":{\"name\":\"\",\"city\":\" \\t\"}}",
		"{\"person\":{\"id\":\"1\"}}"},
	{"{\"person\":{\"id\":\"1\"},\"revealEmails\":{\"includeEmails\":false,\"webhookUrl\":\"\"}}",
		"{\"person\":{\"id\":\"1\"},\"revealEmails\":{\"includeEmails\":false}}"},

	/* blanks around a value are left out, also those of Unicode */
	{"{\"person\":{\"name\":\" A  B\\r\\n\",\"email\":\"\\ufeffa@example.com\\u00a0\\u200b\"}}",
		"{\"person\":{\"name\":\"A  B\",\"email\":\"a@example.com\"}}"},

	/* escapes are shortened; slashes and control characters are kept */
	{"{\"person\":{\"name\":\"\\u0041\\u00e9\\u20AC\\ud834\\udd1e\"}}",
		"{\"person\":{\"name\":\"A\xC3\xA9\xE2\x82\xAC\xF0\x9D\x84\x9E\"}}"},
	{"{\"person\":{\"linkedin\":\"https:\\/\\/example.com\\/in\"}}",
		"{\"person\":{\"linkedin\":\"https://example.com/in\"}}"},
	{"{\"person\":{\"name\":\"a\\\"b\\\\c\\nd\\te\\u0001f\"}}", NULL},
	{"{\"person\":{\"name\":\"Zo\xC3\xA9 \xE2\x82\xAC\"}}", NULL},
	{"{\"\\u0070erson\":{\"i\\u0064\":\"1\"}}", "{\"person\":{\"id\":\"1\"}}"},

	/* as in jsonb, the last of equal keys is used */
	{"{\"person\":{\"id\":\"1\",\"id\":\"2\"}}", "{\"person\":{\"id\":\"2\"}}"},
};

typedef struct RefusedCase
{
	const char *json;
	OeCode		code;
	const char *message;
	const char *hint;
} RefusedCase;

#define OBJECT_HINT	"Use an object such as {\"person\": {\"email\": \"...\"}}, " \
	"which ocean_person_request() builds."

static const RefusedCase refused[] = {
	/* not JSON, or not an object */
	{"", OE_BAD_REQUEST, "the request is not a JSON object", OBJECT_HINT},
	{"{", OE_BAD_REQUEST, "the request is not a JSON object", OBJECT_HINT},
	{"{\"person\":{\"id\":\"1\"}", OE_BAD_REQUEST,
		"the request is not a JSON object", OBJECT_HINT},
	{"{\"person\":{\"id\":\"1\"}}}", OE_BAD_REQUEST,
		"the request is not a JSON object", OBJECT_HINT},
	{"{\"person\":{\"id\":\"1\"}} {}", OE_BAD_REQUEST,
		"the request is not a JSON object", OBJECT_HINT},
	{"{'person':{\"id\":'1'}}", OE_BAD_REQUEST,
		"the request is not a JSON object", OBJECT_HINT},
	{"{\"person\":{\"id\":\"1\",}}", OE_BAD_REQUEST,
		"the request is not a JSON object", OBJECT_HINT},
	{"/* */ {\"person\":{\"id\":\"1\"}}", OE_BAD_REQUEST,
		"the request is not a JSON object", OBJECT_HINT},
	{"{\"person\":{\"id\":\"\xC3\"}}", OE_BAD_REQUEST,
		"the request is not a JSON object", OBJECT_HINT},
	{"null", OE_BAD_REQUEST, "the request is not a JSON object", OBJECT_HINT},
	{" true", OE_BAD_REQUEST,
		"the request is not a JSON object", OBJECT_HINT},
	{"12", OE_BAD_REQUEST, "the request is not a JSON object", OBJECT_HINT},
	{"1.5 ", OE_BAD_REQUEST,
		"the request is not a JSON object", OBJECT_HINT},
	{"\"person\"", OE_BAD_REQUEST,
		"the request is not a JSON object", OBJECT_HINT},
	{"[{\"person\":{\"id\":\"1\"}}]", OE_BAD_REQUEST,
		"the request is not a JSON object", OBJECT_HINT},

	/* the person */
	{"{}", OE_BAD_REQUEST, "the request has no key \"person\"",
		"Put the values that identify the person inside \"person\", such as "
		"{\"person\": {\"email\": ...}}."},
	{"{\"company\":{\"name\":\"E\"}}", OE_BAD_REQUEST,
		"the request has no key \"person\"",
		"Put the values that identify the person inside \"person\", such as "
		"{\"person\": {\"email\": ...}}."},
	{"{\"person\":null}", OE_BAD_REQUEST,
		"\"person\" must be an object, not null", NULL},
	{"{\"person\":\"Ines\"}", OE_BAD_REQUEST,
		"\"person\" must be an object, not a string", NULL},
	{"{\"person\":[]}", OE_BAD_REQUEST,
		"\"person\" must be an object, not an array", NULL},
	{"{\"person\":{}}", OE_API_BAD_REQUEST, "Empty `person` body",
		"Give at least one value that identifies the person, such as "
		"\"linkedin\" or \"email\"."},
	{"{\"person\":{\"id\":null,\"name\":null}}", OE_API_BAD_REQUEST,
		"Empty `person` body",
		"Give at least one value that identifies the person, such as "
		"\"linkedin\" or \"email\"."},
	{"{\"person\":{\"id\":\"\",\"name\":\"\\u00a0\"}}", OE_API_BAD_REQUEST,
		"Empty `person` body",
		"Give at least one value that identifies the person, such as "
		"\"linkedin\" or \"email\"."},

	/* types */
	{"{\"person\":{\"email\":1}}", OE_BAD_REQUEST,
		"\"person.email\" must be a string, not a number", NULL},
	{"{\"person\":{\"email\":1.5}}", OE_BAD_REQUEST,
		"\"person.email\" must be a string, not a number", NULL},
	{"{\"person\":{\"email\":true}}", OE_BAD_REQUEST,
		"\"person.email\" must be a string, not a boolean", NULL},
	{"{\"person\":{\"email\":{}}}", OE_BAD_REQUEST,
		"\"person.email\" must be a string, not an object", NULL},
	{"{\"person\":{\"email\":[\"a\"]}}", OE_BAD_REQUEST,
		"\"person.email\" must be a string, not an array", NULL},
	{"{\"person\":{\"id\":\"1\"},\"company\":\"Example\"}", OE_BAD_REQUEST,
		"\"company\" must be an object, not a string", NULL},
	{"{\"person\":{\"id\":\"1\"},\"company\":{\"postalCode\":1401}}",
		OE_BAD_REQUEST,
		"\"company.postalCode\" must be a string, not a number", NULL},
	{"{\"person\":{\"id\":\"1\"},\"revealEmails\":true}", OE_BAD_REQUEST,
		"\"revealEmails\" must be an object, not a boolean", NULL},
	{"{\"person\":{\"id\":\"1\"},\"revealEmails\":{\"includeEmails\":null}}",
		OE_BAD_REQUEST,
		"\"revealEmails.includeEmails\" must be a boolean, not null", NULL},
	{"{\"person\":{\"id\":\"1\"},\"revealPhones\":{\"includePhones\":\"yes\"}}",
		OE_BAD_REQUEST,
		"\"revealPhones.includePhones\" must be a boolean, not a string", NULL},
	{"{\"person\":{\"id\":\"1\"},\"revealPhones\":{\"webhookUrl\":false}}",
		OE_BAD_REQUEST,
		"\"revealPhones.webhookUrl\" must be a string, not a boolean", NULL},

	/* an unknown key is unknown even if it is null */
	{"{\"person\":{\"id\":\"1\",\"zodiac\":null}}", OE_BAD_REQUEST,
		"unknown key \"zodiac\" in \"person\"", PASS_HINT},
};

/* Common mistakes and their hints. */
typedef struct HintCase
{
	const char *object;			/* NULL: at top level */
	const char *key;
	const char *hint;
} HintCase;

static const HintCase hints[] = {
	/* other styles */
	{"person", "first_name", "Perhaps you meant \"firstName\"."},
	{"person", "FirstName", "Perhaps you meant \"firstName\"."},
	{"person", "last-name", "Perhaps you meant \"lastName\"."},
	{"person", "job title", "Perhaps you meant \"jobTitle\"."},
	{"person", "ID", "Perhaps you meant \"id\"."},
	{"company", "registration_number", "Perhaps you meant \"registrationNumber\"."},
	{"company", "street_address", "Perhaps you meant \"streetAddress\"."},
	{"revealEmails", "webhook_url", "Perhaps you meant \"webhookUrl\"."},
	{"revealPhones", "include_phones", "Perhaps you meant \"includePhones\"."},
	{NULL, "reveal_emails", "Perhaps you meant \"revealEmails\"."},
	{NULL, "Person", "Perhaps you meant \"person\"."},

	/* other names */
	{"person", "linkedinUrl", "Perhaps you meant \"linkedin\"."},
	{"person", "linkedin_url", "Perhaps you meant \"linkedin\"."},
	{"person", "linkedinHandle", "Perhaps you meant \"linkedin\"."},
	{"company", "linkedinUrl", "Perhaps you meant \"linkedin\"."},
	{"person", "countryCode", "Perhaps you meant \"country\"."},
	{"company", "country", "Perhaps you meant \"countryCode\"."},
	{"company", "domainName", "Perhaps you meant \"domain\"."},
	{"person", "emailAddress", "Perhaps you meant \"email\"."},
	{"person", "phones", "Perhaps you meant \"phone\"."},
	{"person", "title", "Perhaps you meant \"jobTitle\"."},
	{"person", "fullName", "Perhaps you meant \"name\"."},
	{"revealEmails", "includeEmail", "Perhaps you meant \"includeEmails\"."},
	{"revealPhones", "webhook", "Perhaps you meant \"webhookUrl\"."},

	/* misspellings */
	{"person", "emial", "Perhaps you meant \"email\"."},
	{"person", "fistName", "Perhaps you meant \"firstName\"."},
	{"person", "lnkedin", "Perhaps you meant \"linkedin\"."},
	{"company", "adress", "Perhaps you meant \"address\"."},
	{"company", "instragam", "Perhaps you meant \"instagram\"."},
	{NULL, "compny", "Perhaps you meant \"company\"."},

	/* other places */
	{NULL, "email", "\"email\" belongs inside \"person\"."},
	{NULL, "linkedin", "\"linkedin\" belongs inside \"person\"."},
	{NULL, "linkedin_url", "\"linkedin\" belongs inside \"person\"."},
	{NULL, "first_name", "\"firstName\" belongs inside \"person\"."},
	{NULL, "name", "\"name\" belongs inside \"person\"."},
	{NULL, "domain", "\"domain\" belongs inside \"company\"."},
	{NULL, "countryCode", "\"countryCode\" belongs inside \"company\"."},
	{NULL, "includeEmails", "\"includeEmails\" belongs inside \"revealEmails\"."},
	{"company", "firstName", "\"firstName\" belongs inside \"person\"."},
	{"company", "first_name", "\"firstName\" belongs inside \"person\"."},
	{"person", "domain", "\"domain\" belongs inside \"company\"."},
	{"person", "includePhones",
		"\"includePhones\" belongs inside \"revealPhones\"."},

	/* one level too deep */
	{"person", "company", "\"company\" belongs beside \"person\", not inside it."},
	{"person", "Company", "\"company\" belongs beside \"person\", not inside it."},
	{"company", "person", "\"person\" belongs beside \"company\", not inside it."},
	{"person", "revealEmails",
		"\"revealEmails\" belongs beside \"person\", not inside it."},
	{"company", "reveal_phones",
		"\"revealPhones\" belongs beside \"company\", not inside it."},

	/* the name of the object comes first, as in ocean_person_request() */
	{NULL, "companyName", "\"name\" belongs inside \"company\"."},
	{NULL, "company_domain", "\"domain\" belongs inside \"company\"."},
	{NULL, "personEmail", "\"email\" belongs inside \"person\"."},
	{"person", "companyName", "\"name\" belongs inside \"company\"."},
	{"person", "company-linkedin", "\"linkedin\" belongs inside \"company\"."},
	{"company", "company_name", "Perhaps you meant \"name\"."},
	{NULL, "reveal_emails_webhook_url", "\"webhookUrl\" belongs inside \"revealEmails\"."},
	{NULL, "companyWebsite", "Perhaps you meant \"company\"."},

	/* nothing similar */
	{"person", "zodiac", PASS_HINT},
	{"person", "zip", PASS_HINT},
	{"company", "fax", PASS_HINT},
	{"revealEmails", "force", PASS_HINT},
	{NULL, "options", PASS_HINT},
	{NULL, "", PASS_HINT},
	{"person", "x", PASS_HINT},
	{"person", "_", PASS_HINT},
};

/* Requests with unknown keys that are passed on. */
static const AcceptedCase passed[] = {
	{"{\"person\":{\"id\":\"1\",\"zodiac\":\"leo\"}}", NULL},

	/* after the known ones, in byte order, at every level */
	{"{\"b\":1,\"A\":2,\"person\":{\"\xC3\xA9\":1,\"z\":2,\"id\":\"1\",\"B\":3},"
		"\"a\":3}",
		"{\"person\":{\"id\":\"1\",\"B\":3,\"z\":2,\"\xC3\xA9\":1},"
		"\"A\":2,\"a\":3,\"b\":1}"},
	{"{\"person\":{\"id\":\"1\"},\"revealEmails\":{\"x\":{}},"
		"\"company\":{\"x\":[]}}",
		"{\"person\":{\"id\":\"1\"},\"company\":{\"x\":[]},"
		"\"revealEmails\":{\"x\":{}}}"},

	/* enough unknown keys to make the table of members grow */
	{"{\"person\":{\"id\":\"1\",\"a\":[],\"b\":[],\"c\":[],\"d\":[],"
		"\"e\":[],\"f\":[],\"g\":[],\"h\":[],\"i\":[],\"j\":[],\"k\":[],"
		"\"l\":[],\"m\":[],\"n\":[],\"o\":[],\"p\":[],\"q\":[],\"r\":[],"
		"\"s\":[],\"t\":[],\"u\":[],\"v\":[],\"w\":[]}}", NULL},

	/* a person may have unknown keys alone */
	{"{\"person\":{\"handle\":\"ines\"}}", NULL},

	/* nulls are dropped as members, but kept inside values */
	{"{\"x\":null,\"person\":{\"id\":\"1\",\"y\":null,\"z\":[null]},"
		"\"company\":{\"x\":null}}",
		"{\"person\":{\"id\":\"1\",\"z\":[null]}}"},

	/* keys of a person at top level are unknown keys */
	{"{\"person\":{\"id\":\"1\"},\"email\":\"a@example.com\"}", NULL},

	/* numbers keep all digits, values are unchanged */
	{"{\"person\":{\"id\":\"1\"},\"n\":[0,-1,1.0,1.50,-0.0,1e5,1E-7,"
		"9223372036854775807,-9223372036854775807,18446744073709551614,"
		"1e400,0.1234567890123456789012345678901234567890,"
		"1234567890123456789012345678901234567890.5]}", NULL},
	{"{\"person\":{\"id\":\"1\"},\"o\":{\"b\":{\"z\":1,\"a\":null},"
		"\"a\":[true,false,\"\\u0001\"]}}", NULL},
};

static const RefusedCase refused_even_then[] = {
	{"{\"email\":\"a@example.com\"}", OE_BAD_REQUEST,
		"the request has no key \"person\"",
		"Put the values that identify the person inside \"person\", such as "
		"{\"person\": {\"email\": ...}}."},
	{"{\"person\":{\"x\":null}}", OE_API_BAD_REQUEST, "Empty `person` body",
		"Give at least one value that identifies the person, such as "
		"\"linkedin\" or \"email\"."},
	{"{\"person\":{\"id\":\"1\",\"email\":2,\"x\":3}}", OE_BAD_REQUEST,
		"\"person.email\" must be a string, not a number", NULL},
};

static const char *const inexact_numbers[] = {
	"18446744073709551615", "18446744073709551616", "-9223372036854775808",
	"-9223372036854775809", "1234567890123456789012345678901234567890",
	"[1,2,99999999999999999999]", "{\"a\":{\"b\":99999999999999999999}}",
	"NaN", "Infinity", "-Infinity", "01", "-", "1.5e+",
};

static OeRequest request;
static OeError error;

static OeCode
parse(const char *json, bool pass_unknown_keys)
{
	return oe_request_parse(&oe_endpoint_person, json, strlen(json), pass_unknown_keys,
							OE_EQUAL_CANONICAL, &request, &error);
}

static void
free_results(void)
{
	oe_request_free(&request);
	oe_error_free(&error);
}

static void
check_accepted(const AcceptedCase *it, bool pass_unknown_keys)
{
	unit_context("%s", it->json);
	CHECK_INT(parse(it->json, pass_unknown_keys), OE_OK);
	CHECK_STRING(request.body, it->body ? it->body : it->json);
	CHECK_INT(request.body_len, request.body ? strlen(request.body) : 0);
	CHECK(error.code == OE_OK && error.message == NULL);
	free_results();
}

static void
check_refused(const RefusedCase *it, bool pass_unknown_keys)
{
	unit_context("%s", it->json);
	CHECK_INT(parse(it->json, pass_unknown_keys), it->code);
	CHECK_INT(error.code, it->code);
	CHECK_STRING(error.message, it->message);
	CHECK_STRING(error.hint, it->hint);
	CHECK(request.body == NULL && request.body_len == 0);
	CHECK(request.identity == NULL);
	for (int i = 0; i < OE_PRICES_MAX; i++)
		CHECK_INT(request.reveals.of[i], OE_REVEAL_NONE);
	free_results();
}

/* Requests that are refused without an error of the API. */
static void
check_bad(const char *json, const char *message, const char *hint,
		  bool pass_unknown_keys)
{
	RefusedCase it = {json, OE_BAD_REQUEST, message, hint};

	check_refused(&it, pass_unknown_keys);
}

static void
test_accepted(void)
{
	for (size_t i = 0; i < lengthof(accepted); i++)
	{
		check_accepted(&accepted[i], false);
		check_accepted(&accepted[i], true);
	}
}

static void
test_normalised_is_final(void)
{
	for (size_t i = 0; i < lengthof(passed); i++)
	{
		AcceptedCase again = {passed[i].body, NULL};

		if (again.json != NULL)
			check_accepted(&again, true);
	}
}

static void
test_refused(void)
{
	for (size_t i = 0; i < lengthof(refused); i++)
		check_refused(&refused[i], false);
}

static void
test_hints(void)
{
	for (size_t i = 0; i < lengthof(hints); i++)
	{
		const HintCase *it = &hints[i];
		char		json[200];
		char		message[200];

		if (it->object == NULL)
		{
			snprintf(json, sizeof(json), "{\"%s\":\"x\"}", it->key);
			snprintf(message, sizeof(message),
					 "unknown key \"%s\" in the request", it->key);
		}
		else
		{
			snprintf(json, sizeof(json), "{\"%s\":{\"%s\":\"x\"}}",
					 it->object, it->key);
			snprintf(message, sizeof(message),
					 "unknown key \"%s\" in \"%s\"", it->key, it->object);
		}
		check_bad(json, message, it->hint, false);
	}
}

/* A key is cut between characters and cannot begin a new line. */
static void
test_odd_keys(void)
{
	char		json[1000];
	char		key[200];
	char		message[200];

	memset(key, 'k', 63);
	snprintf(key + 63, sizeof(key) - 63, "\xE2\x82\xAC" "long");
	snprintf(json, sizeof(json), "{\"person\":{\"%s\":1}}", key);
	snprintf(message, sizeof(message),
			 "unknown key \"%.63s...\" in \"person\"", key);
	check_bad(json, message, PASS_HINT, false);

	check_bad("{\"person\":{\"a\\nLOG:\\u0007\\u007f\xC3\xA9\":1}}",
			  "unknown key \"a?LOG:??\xC3\xA9\" in \"person\"", PASS_HINT, false);
}

/* A key of exactly the maximum length is shown as a whole. */
static void
test_longest_shown_key(void)
{
	char		json[200];
	char		message[200];
	char		key[65];

	memset(key, 'k', 64);
	key[64] = '\0';
	snprintf(json, sizeof(json), "{\"%s\":1}", key);
	snprintf(message, sizeof(message),
			 "unknown key \"%s\" in the request", key);
	check_bad(json, message, PASS_HINT, false);
}

static void
test_no_value_is_quoted(void)
{
	for (size_t i = 0; i < lengthof(hints); i++)
	{
		char		json[200];

		snprintf(json, sizeof(json), "{\"%s\":\"s3cret\",\"%s\":3452816845}",
				 hints[i].key, hints[i].key);
		CHECK(parse(json, false) != OE_OK);
		CHECK(strstr(error.message, "s3cret") == NULL);
		CHECK(strstr(error.message, "3452816845") == NULL);
		free_results();
	}
}

static void
test_passed(void)
{
	for (size_t i = 0; i < lengthof(passed); i++)
	{
		check_accepted(&passed[i], true);
		CHECK_INT(parse(passed[i].json, false), OE_BAD_REQUEST);
		CHECK(error.message != NULL &&
			  strncmp(error.message, "unknown key ", 12) == 0);
		free_results();
	}
	for (size_t i = 0; i < lengthof(refused_even_then); i++)
		check_refused(&refused_even_then[i], true);
}

static void
test_inexact_numbers(void)
{
	for (size_t i = 0; i < lengthof(inexact_numbers); i++)
	{
		char		json[200];

		snprintf(json, sizeof(json), "{\"person\":{\"id\":\"1\"},\"n\":%s}",
				 inexact_numbers[i]);
		check_bad(json, "the request contains a number that cannot be sent exactly",
				  "Integers can have at most 64 bits; "
				  "send a larger one as a string.", true);
	}
}

/* A request with an unknown key of nested arrays. */
static char *
nested_request(int levels)
{
	OeBuf		buf;

	oe_buf_init(&buf, 1000);
	CHECK(oe_buf_append_string(&buf, "{\"person\":{\"id\":\"1\"},\"x\":"));
	for (int i = 0; i < levels; i++)
		CHECK(oe_buf_append_string(&buf, "["));
	for (int i = 0; i < levels; i++)
		CHECK(oe_buf_append_string(&buf, "]"));
	CHECK(oe_buf_append_string(&buf, "}"));
	return oe_buf_steal(&buf);
}

static void
test_levels(void)
{
	char	   *json = nested_request(31);

	check_accepted(&(AcceptedCase) {json, NULL}, true);
	free(json);

	json = nested_request(32);
	check_bad(json, "the request is nested more than 32 levels deep", NULL, true);
	free(json);
}

/* {"person":{"name":"xx...x"}} of "len" bytes; the caller frees. */
static char *
request_of_length(size_t len)
{
	static const char head[] = "{\"person\":{\"name\":\"";
	static const char tail[] = "\"}}";
	char	   *json = malloc(len + 1);

	memset(json, 'x', len);
	memcpy(json, head, sizeof(head) - 1);
	memcpy(json + len - (sizeof(tail) - 1), tail, sizeof(tail));
	return json;
}

static void
test_length(void)
{
	char	   *json = request_of_length(OE_REQUEST_MAX_BYTES);

	CHECK_INT(parse(json, false), OE_OK);
	CHECK_STRING(request.body, json);
	CHECK_INT(request.body_len, OE_REQUEST_MAX_BYTES);
	free_results();
	free(json);

	json = request_of_length(OE_REQUEST_MAX_BYTES + 1);
	CHECK_INT(parse(json, false), OE_BAD_REQUEST);
	CHECK_STRING(error.message, "the request is longer than 65536 bytes");
	free_results();

	/* The length is "len", whatever comes after it. */
	CHECK_INT(oe_request_parse(&oe_endpoint_person, json, OE_REQUEST_MAX_BYTES + 1, false,
							   OE_EQUAL_CANONICAL, &request, &error), OE_BAD_REQUEST);
	free_results();
	CHECK_INT(oe_request_parse(&oe_endpoint_person, "{\"person\":{\"id\":\"1\"}}garbage", 21, false,
							   OE_EQUAL_CANONICAL, &request, &error), OE_OK);
	free_results();
	free(json);
}

/* json-c accepts raw control characters, and writes each as six bytes. */
static void
test_length_after_normalising(void)
{
	char	   *json = request_of_length(OE_REQUEST_MAX_BYTES);

	memset(json + 30, '\x01', 30000);
	CHECK_INT(parse(json, false), OE_BAD_REQUEST);
	free_results();
	free(json);
}

static void
test_nul_inside(void)
{
	static const char json[] = "{\"person\":{\"id\":\"1\"}}\0{}";

	CHECK_INT(oe_request_parse(&oe_endpoint_person, json, sizeof(json) - 1, true,
							   OE_EQUAL_CANONICAL, &request, &error), OE_BAD_REQUEST);
	CHECK_STRING(error.message, "the request is not a JSON object");
	free_results();
}

/* The reveals of a request with this text after its person. */
static OeReveals
reveals_of(const char *members)
{
	char		json[512];
	OeReveals	reveals;

	(void) snprintf(json, sizeof(json), "{\"person\":{\"id\":\"1\"}%s}", members);
	CHECK_INT(parse(json, true), OE_OK);
	CHECK_STRING(request.body, json);
	reveals = request.reveals;
	free_results();
	return reveals;
}

static void
test_reveals(void)
{
	static const struct
	{
		const char *members;
		OeReveal	emails;
		OeReveal	phones;
	}			table[] = {
		{"", OE_REVEAL_NONE, OE_REVEAL_NONE},
		{",\"revealEmails\":{\"webhookUrl\":\"u\"}",
			OE_REVEAL_NOT_ASKED, OE_REVEAL_NONE},
		{",\"revealPhones\":{\"webhookUrl\":\"u\"}",
			OE_REVEAL_NONE, OE_REVEAL_NOT_ASKED},
		/* An explicit flag is respected. */
		{",\"revealEmails\":{\"includeEmails\":false,\"webhookUrl\":\"u\"}",
			OE_REVEAL_NONE, OE_REVEAL_NONE},
		{",\"revealPhones\":{\"includePhones\":false}",
			OE_REVEAL_NONE, OE_REVEAL_NONE},
		{",\"revealEmails\":{\"includeEmails\":true}",
			OE_REVEAL_IN_ANSWER, OE_REVEAL_NONE},
		{",\"revealPhones\":{\"includePhones\":true}",
			OE_REVEAL_NONE, OE_REVEAL_IN_ANSWER},
		{",\"revealEmails\":{\"includeEmails\":true,\"webhookUrl\":\"u\"}"
			",\"revealPhones\":{\"includePhones\":true}",
			OE_REVEAL_BY_WEBHOOK, OE_REVEAL_IN_ANSWER},
		{",\"revealEmails\":{\"includeEmails\":true,\"byWebhook\":true}",
			OE_REVEAL_BY_WEBHOOK, OE_REVEAL_NONE},
		{",\"other\":{\"revealEmails\":{\"includeEmails\":true}}",
			OE_REVEAL_NONE, OE_REVEAL_NONE},
	};

	for (int i = 0; i < (int) lengthof(table); i++)
	{
		OeReveals	reveals = reveals_of(table[i].members);

		CHECK_INT(reveals.of[0], OE_REVEAL_IN_ANSWER);
		CHECK_INT(reveals.of[1], table[i].emails);
		CHECK_INT(reveals.of[2], table[i].phones);
	}
}

static void
complete_without_memory(void)
{
	char	   *body = oe_request_complete(&oe_endpoint_person, "{\"person\":{\"id\":\"1\"},"
										   "\"revealEmails\":{\"byWebhook\":true,\"includeEmails\":true},"
										   "\"revealPhones\":{\"includePhones\":true,\"webhookUrl\":\"u\"}}",
										   "https://example.com/?secret=\"");

	if (body)
		CHECK_STRING(body, "{\"person\":{\"id\":\"1\"},"
					 "\"revealEmails\":{\"includeEmails\":true,"
					 "\"webhookUrl\":\"https://example.com/?secret=\\\"\"},"
					 "\"revealPhones\":{\"includePhones\":true,\"webhookUrl\":\"u\"}}");
	else
		CHECK(unit_malloc_failed());
	free(body);
}

/* The body to send has the URL of the settings where it is asked for. */
static void
test_complete(void)
{
	complete_without_memory();
	unit_each_malloc_fails(complete_without_memory);
	CHECK(oe_request_complete(&oe_endpoint_person, "{", "u") == NULL);
}

static void
test_error_is_replaced(void)
{
	CHECK_INT(parse("{\"person\":{\"first_name\":\"x\"}}", false),
			  OE_BAD_REQUEST);
	CHECK(error.hint != NULL);
	CHECK_INT(parse("{\"person\":1}", false), OE_BAD_REQUEST);
	CHECK_STRING(error.message, "\"person\" must be an object, not a number");
	CHECK(error.hint == NULL);
	CHECK_INT(parse("{\"person\":{\"id\":\"1\"}}", false), OE_OK);
	CHECK(error.message == NULL);
	free_results();
	oe_request_free(&request);
}

/*
 * Without memory the result is an error about that, or the same as with memory,
 * with at most a text missing.
 */
static const AcceptedCase *failing_accepted;
static const RefusedCase *failing_refused;
static bool failing_pass;

static void
accept_without_memory(void)
{
	const char *body = failing_accepted->body ?
		failing_accepted->body : failing_accepted->json;

	if (parse(failing_accepted->json, failing_pass) == OE_OK)
	{
		CHECK_STRING(request.body, body);
		CHECK(error.message == NULL);
	}
	else
	{
		CHECK(unit_malloc_failed());
		CHECK_INT(error.code, OE_OUT_OF_MEMORY);
		CHECK(request.body == NULL && request.identity == NULL);
	}
	free_results();
}

static void
refuse_without_memory(void)
{
	(void) parse(failing_refused->json, failing_pass);
	if (error.code == OE_OUT_OF_MEMORY)
		CHECK(unit_malloc_failed());
	else
	{
		CHECK_INT(error.code, failing_refused->code);
		if (error.message != NULL || !unit_malloc_failed())
			CHECK_STRING(error.message, failing_refused->message);
		if (error.hint != NULL || !unit_malloc_failed())
			CHECK_STRING(error.hint, failing_refused->hint);
	}
	CHECK(request.body == NULL);
	free_results();
}

static void
all_without_memory(const AcceptedCase *good, size_t ngood,
				   const RefusedCase *bad, size_t nbad, bool pass)
{
	failing_pass = pass;
	for (size_t i = 0; i < ngood; i++)
	{
		unit_context("%s", good[i].json);
		failing_accepted = &good[i];
		unit_each_malloc_fails(accept_without_memory);
	}
	for (size_t i = 0; i < nbad; i++)
	{
		unit_context("%s", bad[i].json);
		failing_refused = &bad[i];
		unit_each_malloc_fails(refuse_without_memory);
	}
}

static void
test_without_memory(void)
{
	all_without_memory(accepted, lengthof(accepted),
					   refused, lengthof(refused), false);
	all_without_memory(passed, lengthof(passed),
					   refused_even_then, lengthof(refused_even_then), true);
}

static const UnitTest tests[] = {
	{"accepted", test_accepted},
	{"normalised is final", test_normalised_is_final},
	{"refused", test_refused},
	{"hints", test_hints},
	{"odd keys", test_odd_keys},
	{"longest key that is shown", test_longest_shown_key},
	{"no value is quoted", test_no_value_is_quoted},
	{"unknown keys passed", test_passed},
	{"inexact numbers", test_inexact_numbers},
	{"levels", test_levels},
	{"length", test_length},
	{"length after normalising", test_length_after_normalising},
	{"NUL inside", test_nul_inside},
	{"reveals", test_reveals},
	{"complete", test_complete},
	{"an error replaces the previous one", test_error_is_replaced},
	{"without memory", test_without_memory},
};

int
main(void)
{
	return UNIT_RUN("test_request", tests);
}
