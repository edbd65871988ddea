/*
 * test_answer.c
 *		Status and body become a person or an error, and each status has an
 *		outcome for the credits.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/answer.h"
#include "core/buffer.h"
#include "unit.h"

#define lengthof(array)	(sizeof(array) / sizeof((array)[0]))

#define CHECK_URL_HINT \
	"Check that \"ocean_enrich.api_url\" is the URL of the Ocean.io API."
#define CHECK_REQUEST_HINT \
	"Compare the request with the documentation of the API."
#define CHECK_ACCESS_HINT \
	"Check whether your Ocean.io account may use what the request asks for, " \
	"and \"ocean_enrich.api_token\"."
#define CHECK_TOKEN_HINT \
	"Check \"ocean_enrich.api_token\" or \"ocean_enrich.api_token_file\"."
#define WHO_ANSWERED_HINT \
	"Something between this server and the API answered.  Check \"ocean_enrich.api_url\" " \
	"and \"ocean_enrich.proxy\", and whether a firewall blocks this server."
#define LOOK_FIRST_HINT \
	"Check the usage in your Ocean.io account, then use ocean_enrich.resolve() " \
	"to allow sending the request again."

/* The vendor's example of a person. */
#define FULL_PERSON \
	"{\"id\":\"e9447c74eafa8a19\",\"domain\":\"example.com\"," \
	"\"name\":\"Ines Lindqvist\",\"firstName\":\"Ines\"," \
	"\"lastName\":\"Lindqvist\",\"country\":\"us\",\"state\":\"CA\"," \
	"\"location\":\"Copenhagen, Capital Region, Denmark\"," \
	"\"linkedinUrl\":\"https://www.linkedin.com/in/ines\"," \
	"\"seniorities\":[\"C-Level\",\"Manager\"]," \
	"\"departments\":[\"Management\",\"Marketing and Advertising\"]," \
	"\"photo\":\"http://example.com/photo\",\"jobTitle\":\"Professeur\"," \
	"\"jobTitleEnglish\":\"Teacher\",\"currentJobDescription\":null," \
	"\"experiences\":[{\"dateFrom\":\"2020-01-01\"," \
	"\"dateTo\":\"2021-01-01\",\"description\":\"Cloud\"," \
	"\"domain\":\"example.com\",\"jobTitle\":\"Software Engineer\"}]," \
	"\"summary\":\"Some text\",\"skills\":[\"Entrepreneurship\"]," \
	"\"phone\":{\"numbers\":[\"+4512345678\"],\"status\":\"verified\"}," \
	"\"email\":{\"address\":\"ines@example.com\",\"status\":\"verified\"}}"

static OeAnswer answer;
static OeError error;

static OeCode
decode(int status, const char *body)
{
	return oe_answer_decode(&oe_endpoint_person, status, body, strlen(body), true, false,
							&answer, &error);
}

static void
free_results(void)
{
	oe_answer_free(&answer);
	oe_error_free(&error);
}

/* Bodies of a 200 that are a person, and their credits. */
typedef struct PersonCase
{
	const char *body;
	const char *credits;
} PersonCase;

static const PersonCase persons[] = {
	{FULL_PERSON, NULL},
	{"{\"id\":\"1\",\"domain\":\"example.com\"}", NULL},
	{" \n{\"id\" : \"1\"}\r\n\t ", NULL},
	{"{\"id\":\"\"}", NULL},
	{"{\"id\":\"1\",\"newer\":{\"key\":[1,2,{}]},\"detail\":\"of a person\"}",
		NULL},

	{"{\"id\":\"1\",\"creditsUsed\":3}", "3"},
	{"{\"id\":\"1\",\"creditsUsed\":0}", "0"},
	{"{\"id\":\"1\",\"creditsUsed\":0.1}", "0.1"},
	{"{\"id\":\"1\",\"creditsUsed\":3.10}", "3.10"},
	{"{\"id\":\"1\",\"creditsUsed\":1e1}", "1e1"},
	{"{\"id\":\"1\",\"creditsUsed\":0.12345678901234567890123}",
		"0.12345678901234567890123"},
	{"{\"id\":\"1\",\"creditsUsed\":9223372036854775808}",
		"9223372036854775808"},
	{"{\"id\":\"1\",\"creditsUsed\":18446744073709551614}",
		"18446744073709551614"},
	{"{\"id\":\"1\",\"creditsUsed\":18446744073709551615}", NULL},
	{"{\"id\":\"1\",\"creditsUsed\":99999999999999999999999}", NULL},
	{"{\"id\":\"1\",\"creditsUsed\":-1}", NULL},
	{"{\"id\":\"1\",\"creditsUsed\":-0.5}", NULL},
	{"{\"id\":\"1\",\"creditsUsed\":-99999999999999999999999}", NULL},
	{"{\"id\":\"1\",\"creditsUsed\":\"3\"}", NULL},
	{"{\"id\":\"1\",\"creditsUsed\":null}", NULL},
	{"{\"id\":\"1\",\"creditsUsed\":true}", NULL},
	{"{\"id\":\"1\",\"creditsUsed\":[3]}", NULL},
	{"{\"id\":\"1\",\"creditsUsed\":{}}", NULL},
	{"{\"id\":\"1\",\"creditsUsed\":NaN}", NULL},
};

/* Numbers that json-c cannot represent are left to PostgreSQL. */
static const char *const long_numbers[] = {
	"1234567890123456789012345678901234567890",
	"-1234567890123456789012345678901234567890",
	"0.123456789012345678901234567890123456789012345678901234567890",
	"1e400",
};

/* Bodies of a 200 that are not a person, and the reason. */
typedef struct FaultCase
{
	const char *body;
	const char *reason;
	const char *detail;			/* of the API */
} FaultCase;

static const FaultCase faults[] = {
	{"", "The body is empty.", NULL},
	{" ", "The body is not a JSON object.", NULL},
	{"<html><body>OK</body></html>", "The body is not a JSON object.", NULL},
	{"{\"id\":\"1\"", "The body is not a JSON object.", NULL},
	{"{\"id\":\"1\"}}", "The body is not a JSON object.", NULL},
	{"{\"id\":\"1\"} {\"id\":\"2\"}", "The body is not a JSON object.", NULL},
	{"null", "The body is not a JSON object.", NULL},
	{"17", "The body is not a JSON object.", NULL},
	{"\"id\"", "The body is not a JSON object.", NULL},
	{"[{\"id\":\"1\"}]", "The body is not a JSON object.", NULL},
	{"{}", "The body has no \"id\".", NULL},
	{"{\"domain\":\"example.com\"}", "The body has no \"id\".", NULL},
	{"{\"person\":{\"id\":\"1\"}}", "The body has no \"id\".", NULL},
	{"{\"id\":null}", "The value of \"id\" is not a string.", NULL},
	{"{\"id\":1}", "The value of \"id\" is not a string.", NULL},
	{"{\"detail\":\"s3cret\"}", "The body has no \"id\".", "s3cret"},
	{"{\"detail\":[{\"msg\":\"s3cret\"}]}", "The body has no \"id\".",
		"[{\"msg\":\"s3cret\"}]"},
};

/* Answers other than 200. */
typedef struct RefusalCase
{
	int			status;
	const char *body;
	const char *api_detail;
	OeCode		code;
	OeOutcome	outcome;
	const char *message;
	const char *detail;
	const char *hint;
} RefusalCase;

static const RefusalCase refusals[] = {
	/* the vendor's page */
	{201, "{\"detail\":\"Data gathering process has started. "
		"Please try again later.\"}",
		"Data gathering process has started. Please try again later.",
		OE_GATHERING, OE_REFUSED,
		"Data gathering process has started. Please try again later.",
		"HTTP status 201.  Nothing was paid.",
		"Run the statement again in 2 to 5 minutes."},
	{400, "{\"detail\":\"Conflicting API tokens provided in query parameters "
		"and headers\"}",
		"Conflicting API tokens provided in query parameters and headers",
		OE_API_BAD_REQUEST, OE_REFUSED,
		"Conflicting API tokens provided in query parameters and headers",
		"HTTP status 400.  Nothing was paid.", CHECK_REQUEST_HINT},
	{400, "{\"detail\":\"Empty `person` body\"}", "Empty `person` body",
		OE_API_BAD_REQUEST, OE_REFUSED, "Empty `person` body",
		"HTTP status 400.  Nothing was paid.", CHECK_REQUEST_HINT},
	{402, "{\"detail\":\"Insufficient credits\"}", "Insufficient credits",
		OE_API_CREDITS, OE_REFUSED, "Insufficient credits",
		"HTTP status 402.  Nothing was paid.",
		"Check whether the credits of your Ocean.io account cover what the request asks for."},
	{403, "{\"detail\":\"Current API token is not registered in our "
		"database\"}",
		"Current API token is not registered in our database",
		OE_API_FORBIDDEN, OE_REFUSED,
		"Current API token is not registered in our database",
		"HTTP status 403.  Nothing was paid.", CHECK_ACCESS_HINT},
	{404, "{\"detail\":\"No matching record found\"}",
		"No matching record found",
		OE_API_NOT_FOUND, OE_REFUSED, "No matching record found",
		"HTTP status 404.  Nothing was paid.",
		"Pass not_found => 'null' to get NULL instead."},

	/* undocumented details */
	{403, "{\"detail\":\"Verification is disabled for this account\"}",
		"Verification is disabled for this account",
		OE_API_FORBIDDEN, OE_REFUSED,
		"Verification is disabled for this account",
		"HTTP status 403.  Nothing was paid.", CHECK_ACCESS_HINT},
	{422, "{\"detail\":\"Too little data\"}", "Too little data",
		OE_API_INVALID, OE_REFUSED, "Too little data",
		"HTTP status 422.  Nothing was paid.", CHECK_REQUEST_HINT},
	{418, "{\"detail\":\"I'm a teapot\"}", "I'm a teapot",
		OE_API_BAD_REQUEST, OE_REFUSED, "I'm a teapot",
		"HTTP status 418.  Nothing was paid.", CHECK_REQUEST_HINT},
	{404, "{\"detail\":\"100 % d\\u00e9tail %s \\n [1]\"}",
		"100 % d\xC3\xA9tail %s \n [1]",
		OE_API_NOT_FOUND, OE_REFUSED, "100 % d\xC3\xA9tail %s \n [1]",
		"HTTP status 404.  Nothing was paid.",
		"Pass not_found => 'null' to get NULL instead."},

	/* details that are not a string */
	{400, "{\"detail\":{\"code\": 7, \"url\": \"a/b\"}}",
		"{\"code\":7,\"url\":\"a/b\"}",
		OE_API_BAD_REQUEST, OE_REFUSED, "{\"code\":7,\"url\":\"a/b\"}",
		"HTTP status 400.  Nothing was paid.", CHECK_REQUEST_HINT},
	{400, "{\"detail\":7.50}", "7.50", OE_API_BAD_REQUEST, OE_REFUSED, "7.50",
		"HTTP status 400.  Nothing was paid.", CHECK_REQUEST_HINT},
	{400, "{\"detail\":false}", "false", OE_API_BAD_REQUEST, OE_REFUSED,
		"false", "HTTP status 400.  Nothing was paid.", CHECK_REQUEST_HINT},
	{400, "{\"detail\":\"a\\u0000b\"}", "\"a\\u0000b\"",
		OE_API_BAD_REQUEST, OE_REFUSED, "\"a\\u0000b\"",
		"HTTP status 400.  Nothing was paid.", CHECK_REQUEST_HINT},
	{400, "{\"detail\":[1,\"x\"]}", "[1,\"x\"]",
		OE_API_BAD_REQUEST, OE_REFUSED, "[1,\"x\"]",
		"HTTP status 400.  Nothing was paid.", CHECK_REQUEST_HINT},
	{400, "{\"detail\":\"[not JSON\"}", "[not JSON",
		OE_API_BAD_REQUEST, OE_REFUSED, "[not JSON",
		"HTTP status 400.  Nothing was paid.", CHECK_REQUEST_HINT},

	/* no detail at all */
	{201, "", NULL, OE_GATHERING, OE_REFUSED,
		"Data gathering process has started. Please try again later.",
		"HTTP status 201.  Nothing was paid.",
		"Run the statement again in 2 to 5 minutes."},
	{400, "{\"detail\":null}", NULL, OE_API_BAD_REQUEST, OE_REFUSED,
		"the API answered with HTTP status 400",
		"HTTP status 400.  Nothing was paid.", CHECK_REQUEST_HINT},
	{401, "[\"detail\"]", NULL, OE_API_FORBIDDEN, OE_REFUSED,
		"the API answered with HTTP status 401",
		"HTTP status 401.  Nothing was paid.", CHECK_TOKEN_HINT},
	{402, "{\"detail\":\"\"}", "", OE_API_CREDITS, OE_REFUSED,
		"the API answered with HTTP status 402",
		"HTTP status 402.  Nothing was paid.",
		"Check whether the credits of your Ocean.io account cover what the request asks for."},
	{429, "{}", NULL, OE_API_RATE_LIMIT, OE_FAILED,
		"the API answered with HTTP status 429",
		"HTTP status 429.  Nothing was paid.",
		"Run the statement again later, or lower "
		"\"ocean_enrich.rate_limit\"."},
	{503, "{\"detail\":\"Overloaded\"}", "Overloaded",
		OE_API_FAILED, OE_FAILED, "Overloaded",
		"HTTP status 503.  Nothing was paid.",
		"Run the statement again later."},
	{500, "{\"detail\":\"Internal Server Error\"}", "Internal Server Error",
		OE_API_FAILED, OE_UNKNOWN, "Internal Server Error",
		"HTTP status 500.  The call may have been paid for.",
		LOOK_FIRST_HINT},
	{504, "", NULL, OE_OUTCOME_UNKNOWN, OE_UNKNOWN,
		"the API answered with HTTP status 504",
		"HTTP status 504.  The call may have been paid for.",
		LOOK_FIRST_HINT},
	{524, "<html>", NULL, OE_OUTCOME_UNKNOWN, OE_UNKNOWN,
		"the API answered with HTTP status 524",
		"HTTP status 524.  The call may have been paid for.",
		LOOK_FIRST_HINT},
	{204, "", NULL, OE_BAD_ANSWER, OE_UNKNOWN,
		"the API answered with HTTP status 204",
		"HTTP status 204.  The call may have been paid for.",
		LOOK_FIRST_HINT},
	{302, "<html>", NULL, OE_BAD_ANSWER, OE_FAILED,
		"the API answered with HTTP status 302",
		"HTTP status 302.  Nothing was paid.", CHECK_URL_HINT},
	{700, "{\"id\":\"1\",\"creditsUsed\":3}", NULL, OE_BAD_ANSWER, OE_UNKNOWN,
		"the API answered with HTTP status 700",
		"HTTP status 700.  The call may have been paid for.",
		CHECK_URL_HINT},

	/* words that are not in "detail" */
	{400, "{\"message\":\"Bad things\"}", "Bad things",
		OE_API_BAD_REQUEST, OE_REFUSED, "Bad things",
		"HTTP status 400.  Nothing was paid.", CHECK_REQUEST_HINT},
	{503, "{\"error\":{\"message\":\"Busy\",\"code\":7}}", "Busy",
		OE_API_FAILED, OE_FAILED, "Busy",
		"HTTP status 503.  Nothing was paid.",
		"Run the statement again later."},
	{403, "{\"error\":\"forbidden\",\"message\":\"of the gateway\"}", "forbidden",
		OE_API_FORBIDDEN, OE_REFUSED, "forbidden",
		"HTTP status 403.  Nothing was paid.", CHECK_ACCESS_HINT},
	{403, "{\"error\":{\"code\":7},\"message\":\"of the gateway\"}", "of the gateway",
		OE_API_FORBIDDEN, OE_REFUSED, "of the gateway",
		"HTTP status 403.  Nothing was paid.", CHECK_ACCESS_HINT},
	{400, "{\"error\":{\"code\":7}}", "{\"code\":7}",
		OE_API_BAD_REQUEST, OE_REFUSED, "{\"code\":7}",
		"HTTP status 400.  Nothing was paid.", CHECK_REQUEST_HINT},
	{400, "{\"detail\":\"first\",\"error\":\"x\",\"message\":\"y\"}", "first",
		OE_API_BAD_REQUEST, OE_REFUSED, "first",
		"HTTP status 400.  Nothing was paid.", CHECK_REQUEST_HINT},
	{400, "{\"detail\":null,\"message\":\"second\"}", "second",
		OE_API_BAD_REQUEST, OE_REFUSED, "second",
		"HTTP status 400.  Nothing was paid.", CHECK_REQUEST_HINT},
	{407, "", NULL, OE_API_BAD_REQUEST, OE_REFUSED,
		"a proxy asks for a user and password",
		"HTTP status 407.  Nothing was paid.",
		"Check \"ocean_enrich.proxy\", its user and password."},

	/* a body is only a person with a 200 */
	{201, "{\"id\":\"1\",\"creditsUsed\":3}", NULL, OE_GATHERING, OE_REFUSED,
		"Data gathering process has started. Please try again later.",
		"HTTP status 201.  Nothing was paid.",
		"Run the statement again in 2 to 5 minutes."},
};

/* The same, but the ledger has the message instead of the API's detail. */
static const RefusalCase rewritten[] = {
	/* the vendor's page */
	{422, "{\"detail\":[{\"loc\":[\"string\"],\"msg\":\"string\","
		"\"type\":\"string\"}]}",
		"string: string",
		OE_API_INVALID, OE_REFUSED, "string: string",
		"HTTP status 422.  Nothing was paid.  The API said: "
		"[{\"loc\":[\"string\"],\"msg\":\"string\",\"type\":\"string\"}]",
		CHECK_REQUEST_HINT},

	/* not of the API */
	{403, "<!DOCTYPE html>\n<!-- a > b --><html><head><title>Attention&nbsp;Required!</title>"
		"<style>p { color: red }</style><SCRIPT>if (a < b) alert(1)</SCRIPT ></head>"
		"<body class=\"<\">\n  <h1>Sorry,\tyou</h1><p>have been bl<b>o</b>cked.</body>",
		"the answer with HTTP status 403 is not the API's: "
		"Attention&nbsp;Required! Sorry, you have been bl o cked.",
		OE_API_FORBIDDEN, OE_REFUSED,
		"the answer with HTTP status 403 is not the API's",
		"HTTP status 403.  Nothing was paid.  It begins: "
		"Attention&nbsp;Required! Sorry, you have been bl o cked.",
		WHO_ANSWERED_HINT},
	{403, "error code: 1020", "the answer with HTTP status 403 is not the API's: error code: 1020",
		OE_API_FORBIDDEN, OE_REFUSED,
		"the answer with HTTP status 403 is not the API's",
		"HTTP status 403.  Nothing was paid.  It begins: error code: 1020",
		WHO_ANSWERED_HINT},
	{402, " \n<html></html>", NULL,
		OE_API_CREDITS, OE_REFUSED,
		"the answer with HTTP status 402 is not the API's",
		"HTTP status 402.  Nothing was paid.", WHO_ANSWERED_HINT},
	{407, "<b>Log in</b>", "a proxy asks for a user and password: Log in",
		OE_API_BAD_REQUEST, OE_REFUSED,
		"a proxy asks for a user and password",
		"HTTP status 407.  Nothing was paid.  It begins: Log in",
		"Check \"ocean_enrich.proxy\", its user and password."},
	{404, "<title>Not here</title>", "the API answered with HTTP status 404: Not here",
		OE_BAD_ANSWER, OE_FAILED, "the API answered with HTTP status 404",
		"HTTP status 404.  Nothing was paid.  This is not how the API says that it does "
		"not know a person.  It begins: Not here", CHECK_URL_HINT},
	{404, "{\"message\":\"no Route matched\"}", "no Route matched",
		OE_BAD_ANSWER, OE_FAILED, "no Route matched",
		"HTTP status 404.  Nothing was paid.  This is not how the API says that it does "
		"not know a person.", CHECK_URL_HINT},
	{500, "upstream error", "the API answered with HTTP status 500: upstream error",
		OE_API_FAILED, OE_UNKNOWN, "the API answered with HTTP status 500",
		"HTTP status 500.  The call may have been paid for.  It begins: upstream error",
		LOOK_FIRST_HINT},
	{302, "<html>Found</html>", NULL, OE_BAD_ANSWER, OE_FAILED,
		"the API answered with HTTP status 302",
		"HTTP status 302.  Nothing was paid.", CHECK_URL_HINT},
	{403, "{\"detail\":\"cut", NULL, OE_API_FORBIDDEN, OE_REFUSED,
		"the API answered with HTTP status 403",
		"HTTP status 403.  Nothing was paid.", CHECK_ACCESS_HINT},
};

/* Lists of complaints and their messages. */
typedef struct ComplaintsCase
{
	const char *list;
	const char *message;
} ComplaintsCase;

static const ComplaintsCase complaints[] = {
	{"[{\"loc\":[\"body\",\"person\",\"email\"],"
		"\"msg\":\"Input should be a valid string\",\"type\":\"string_type\","
		"\"input\":7},"
		"{\"loc\":[\"body\",\"company\",\"x\"],"
		"\"msg\":\"Extra inputs are not permitted\","
		"\"type\":\"extra_forbidden\",\"input\":{\"a\":[1.50]}}]",
		"person.email: Input should be a valid string; "
		"company.x: Extra inputs are not permitted"},
	{"[{\"loc\":[\"body\",\"list\",0,\"a\"],\"msg\":\"m\"}]", "list.0.a: m"},
	{"[{\"loc\":[\"body\",17],\"msg\":\"JSON decode error\"}]",
		"17: JSON decode error"},
	{"[{\"loc\":[\"query\",\"apiToken\"],\"msg\":\"m\"}]", "query.apiToken: m"},
	{"[{\"loc\":[\"person\",\"body\"],\"msg\":\"m\"}]", "person.body: m"},
	{"[{\"loc\":[\"body\"],\"msg\":\"Field required\"}]", "Field required"},
	{"[{\"loc\":[],\"msg\":\"m\"}]", "m"},
	{"[{\"loc\":\"person\",\"msg\":\"m\"}]", "m"},
	{"[{\"msg\":\"m\"}]", "m"},
	{"[{\"loc\":[null,true,[1]],\"msg\":\"m\"}]", "null.true.[1]: m"},

	/* elements that are not complaints are left out */
	{"[1,null,{},{\"msg\":7},[],{\"msg\":\"m\"}]", "m"},

	/* without any complaint, the list itself is the message */
	{"[]", "[]"},
	{"[{\"loc\":[\"body\"]}]", "[{\"loc\":[\"body\"]}]"},
	{"[{\"msg\":\"\"}]", "[{\"msg\":\"\"}]"},
};

static void
test_persons(void)
{
	for (size_t i = 0; i < lengthof(persons); i++)
	{
		unit_context("%s", persons[i].body);
		CHECK_INT(decode(200, persons[i].body), OE_OK);
		CHECK_INT(answer.outcome, OE_ANSWERED);
		CHECK(answer.is_usable);
		CHECK_STRING(answer.credits, persons[i].credits);
		CHECK(answer.detail == NULL);
		CHECK(error.code == OE_OK && error.message == NULL);
		free_results();
	}
}

static void
test_long_numbers(void)
{
	for (size_t i = 0; i < lengthof(long_numbers); i++)
	{
		char		body[200];

		unit_context("%s", long_numbers[i]);
		snprintf(body, sizeof(body), "{\"new\":%s,\"id\":\"1\"}",
				 long_numbers[i]);
		CHECK_INT(decode(200, body), OE_OK);
		CHECK(answer.is_usable);
		free_results();
	}
}

static void
check_fault(const char *reason)
{
	char		detail[200];

	snprintf(detail, sizeof(detail),
			 "HTTP status 200.  The call may have been paid for.  %s", reason);
	CHECK_INT(error.code, OE_BAD_ANSWER);
	CHECK_INT(answer.outcome, OE_UNKNOWN);
	CHECK(!answer.is_usable);
	CHECK_STRING(error.message,
				 "the API answered with HTTP status 200 but no usable person");
	CHECK_STRING(error.detail, detail);
	CHECK_STRING(error.hint, "Check that \"ocean_enrich.api_url\" is the URL of the Ocean.io API, "
				 "then use ocean_enrich.resolve() to allow sending the request again.");
}

static void
test_faults(void)
{
	for (size_t i = 0; i < lengthof(faults); i++)
	{
		unit_context("%s", faults[i].body);
		CHECK_INT(decode(200, faults[i].body), OE_BAD_ANSWER);
		check_fault(faults[i].reason);
		CHECK_STRING(answer.detail, faults[i].detail);
		CHECK(answer.credits == NULL);
		free_results();
	}
}

static void
test_fault_with_credits(void)
{
	CHECK_INT(decode(200, "{\"creditsUsed\":0.1}"), OE_BAD_ANSWER);
	CHECK_STRING(answer.credits, "0.1");
	free_results();
}

static void
test_nul_inside(void)
{
	static const char body[] = "{\"id\":\"1\"}\0";

	CHECK_INT(oe_answer_decode(&oe_endpoint_person, 200, body, sizeof(body) - 1, true, false,
							   &answer, &error), OE_BAD_ANSWER);
	check_fault("The body is not a JSON object.");
	free_results();
}

/* Nothing is taken from truncated bodies or from bytes that are not text. */
static void
test_unusable_bytes(void)
{
	static const char body[] =
		"{\"id\":\"1\",\"creditsUsed\":3,\"detail\":\"x\"} ";

	CHECK_INT(oe_answer_decode(&oe_endpoint_person, 200, body, strlen(body), false, false,
							   &answer, &error), OE_BAD_ANSWER);
	check_fault("The body is not UTF-8.");
	CHECK(answer.credits == NULL && answer.detail == NULL);
	free_results();

	CHECK_INT(oe_answer_decode(&oe_endpoint_person, 200, body, strlen(body), true, true,
							   &answer, &error), OE_BAD_ANSWER);
	check_fault("The body is longer than the maximum length of an answer.");
	CHECK(answer.credits == NULL && answer.detail == NULL);
	free_results();

	CHECK_INT(oe_answer_decode(&oe_endpoint_person, 402, body, strlen(body), false, false,
							   &answer, &error), OE_API_CREDITS);
	CHECK_STRING(error.message, "the API answered with HTTP status 402");
	CHECK(answer.detail == NULL);
	free_results();

	CHECK_INT(oe_answer_decode(&oe_endpoint_person, 404, NULL, 0, true, false, &answer, &error),
			  OE_BAD_ANSWER);
	CHECK_STRING(error.message, "the API answered with HTTP status 404");
	CHECK_INT(answer.outcome, OE_FAILED);
	free_results();
}

/* Only the API says by 404 that it does not know a person. */
static void
test_404_of_others(void)
{
	static const struct
	{
		const char *body;
		const char *message;
	}			others[] = {
		{"", "the API answered with HTTP status 404"},
		{"{\"detail\":\"Not Found\"}", "Not Found"},
		{"{}", "the API answered with HTTP status 404"},
		{"[]", "the API answered with HTTP status 404"},
		{"{\"error\":\"no route\"}", "no route"},
		{"{\"message\":\"No matching record found\"}", "No matching record found"},
		{"{\"detail\":null}", "the API answered with HTTP status 404"},
	};

	for (size_t i = 0; i < lengthof(others); i++)
	{
		unit_context("%s", others[i].body);
		CHECK_INT(decode(404, others[i].body), OE_BAD_ANSWER);
		CHECK_INT(answer.outcome, OE_FAILED);
		CHECK_STRING(error.message, others[i].message);
		CHECK_STRING(error.detail, "HTTP status 404.  Nothing was paid.  This is not how the API "
					 "says that it does not know a person.");
		CHECK_STRING(error.hint, CHECK_URL_HINT);
		free_results();
	}
	CHECK_INT(decode(404, "{\"detail\":\"No matching record found\"}"), OE_API_NOT_FOUND);
	CHECK_INT(answer.outcome, OE_REFUSED);
	free_results();
}

static void
check_refusal(const RefusalCase *it)
{
	CHECK_INT(error.code, it->code);
	CHECK_STRING(error.message, it->message);
	CHECK_STRING(error.detail, it->detail);
	CHECK_STRING(error.hint, it->hint);
}

static void
test_refusals(void)
{
	for (size_t i = 0; i < lengthof(refusals); i++)
	{
		const RefusalCase *it = &refusals[i];

		unit_context("%d %s", it->status, it->body);
		CHECK_INT(decode(it->status, it->body), it->code);
		check_refusal(it);
		CHECK_INT(answer.outcome, it->outcome);
		CHECK(!answer.is_usable && answer.credits == NULL);
		CHECK_STRING(answer.detail, it->api_detail);
		free_results();

		/* The same error from the ledger. */
		CHECK_INT(oe_answer_error(&oe_endpoint_person, it->status, it->api_detail, &error),
				  it->code);
		check_refusal(it);
		free_results();
	}
}

static void
test_200_from_the_ledger(void)
{
	CHECK_INT(oe_answer_error(&oe_endpoint_person, 200, "s3cret", &error), OE_BAD_ANSWER);
	CHECK_STRING(error.message,
				 "the API answered with HTTP status 200 but no usable person");
	CHECK_STRING(error.detail, "HTTP status 200.  The call was paid for.");
	free_results();
}

static void
test_rewritten(void)
{
	for (size_t i = 0; i < lengthof(rewritten); i++)
	{
		const RefusalCase *it = &rewritten[i];

		unit_context("%d %s", it->status, it->body);
		CHECK_INT(decode(it->status, it->body), it->code);
		check_refusal(it);
		CHECK_INT(answer.outcome, it->outcome);
		CHECK_STRING(answer.detail, it->api_detail);
		free_results();

		if (it->api_detail == NULL)
			continue;
		(void) oe_answer_error(&oe_endpoint_person, it->status, it->api_detail, &error);
		CHECK_STRING(error.message, it->api_detail);
		free_results();
	}
}

/* The beginning of a page: cut between characters, without what is not UTF-8. */
static void
test_long_page(void)
{
	OeBuf		body;

	oe_buf_init(&body, 100000);
	CHECK(oe_buf_append_string(&body, "<p>"));
	for (int i = 0; i < 1000; i++)
		CHECK(oe_buf_append_string(&body, "\xE2\x82\xAC"));
	CHECK_INT(decode(403, body.data), OE_API_FORBIDDEN);
	CHECK(strstr(error.detail, "It begins: \xE2\x82\xAC\xE2\x82\xAC") != NULL);
	CHECK_STRING(error.detail + strlen(error.detail) - 6, "\xE2\x82\xAC...");
	CHECK(strlen(error.detail) < 300);
	free_results();

	/* Latin-1, and a page that is longer than an answer may be */
	CHECK_INT(oe_answer_decode(&oe_endpoint_person, 403, "<p>verr\xFC" "ckt", 12, false, true,
							   &answer, &error), OE_API_FORBIDDEN);
	CHECK_STRING(error.detail, "HTTP status 403.  Nothing was paid.  It begins: verr?ckt");
	free_results();

	/* no text at all: gzip */
	CHECK_INT(oe_answer_decode(&oe_endpoint_person, 403, "\x1F\x8B\x08\x00\x00", 5, false, false,
							   &answer, &error), OE_API_FORBIDDEN);
	CHECK_STRING(error.message, "the answer with HTTP status 403 is not the API's");
	CHECK_STRING(error.detail, "HTTP status 403.  Nothing was paid.");
	free_results();
	oe_buf_free(&body);
}

static void
test_complaints(void)
{
	for (size_t i = 0; i < lengthof(complaints); i++)
	{
		char		body[1000];
		char		detail[1000];
		bool		readable = complaints[i].message[0] != '[';

		unit_context("%s", complaints[i].list);
		snprintf(body, sizeof(body), "{\"detail\":%s}", complaints[i].list);
		snprintf(detail, sizeof(detail),
				 "HTTP status 422.  Nothing was paid.%s%s",
				 readable ? "  The API said: " : "",
				 readable ? complaints[i].list : "");

		CHECK_INT(decode(422, body), OE_API_INVALID);
		CHECK_STRING(answer.detail, complaints[i].message);
		CHECK_STRING(error.message, complaints[i].message);
		CHECK_STRING(error.detail, detail);
		free_results();
	}
}

/* One complaint of "count" times "what". */
static char *
long_complaint(int count, const char *what)
{
	OeBuf		buf;

	oe_buf_init(&buf, 1000000);
	CHECK(oe_buf_append_string(&buf, "[{\"msg\":\""));
	for (int i = 0; i < count; i++)
		CHECK(oe_buf_append_string(&buf, what));
	CHECK(oe_buf_append_string(&buf, "\"}]"));
	return oe_buf_steal(&buf);
}

static void
test_message_has_a_ceiling(void)
{
	/* Three bytes a character, so that byte 1000 is inside one of them. */
	char	   *list = long_complaint(1000, "\xE2\x82\xAC");

	CHECK_INT(oe_answer_error(&oe_endpoint_person, 422, list, &error), OE_API_INVALID);
	CHECK_INT(strlen(error.message), 999 + strlen("..."));
	CHECK_STRING(error.message + 996, "\xE2\x82\xAC...");
	CHECK(strstr(error.detail, list) != NULL);
	free_results();
	free(list);

	/* A message of exactly the limit is not cut. */
	list = long_complaint(1000, "x");
	CHECK_INT(oe_answer_error(&oe_endpoint_person, 422, list, &error), OE_API_INVALID);
	CHECK_INT(strlen(error.message), 1000);
	CHECK_STRING(error.message + 997, "xxx");
	free_results();
	free(list);
}

static void
test_long_detail(void)
{
	char	   *detail = malloc(300001);

	memset(detail, 'd', 300000);
	detail[300000] = '\0';
	CHECK_INT(oe_answer_error(&oe_endpoint_person, 400, detail, &error), OE_API_BAD_REQUEST);
	CHECK_STRING(error.message, detail);
	free_results();
	free(detail);
}

/* "count" times "what", then "middle", then "count" times "end". */
static char *
nested(int count, const char *what, const char *middle, const char *end,
	   const char *tail)
{
	OeBuf		buf;

	oe_buf_init(&buf, 1000000);
	CHECK(oe_buf_append_string(&buf, "{\"new\":"));
	for (int i = 0; i < count; i++)
		CHECK(oe_buf_append_string(&buf, what));
	CHECK(oe_buf_append_string(&buf, middle));
	for (int i = 0; i < count; i++)
		CHECK(oe_buf_append_string(&buf, end));
	CHECK(oe_buf_append_string(&buf, tail));
	return oe_buf_steal(&buf);
}

static void
test_deep_person(void)
{
	static const int levels[] = {1, 15, 16, 17, 29, 30, 31, 32, 33, 1000, 20000};

	for (size_t i = 0; i < lengthof(levels); i++)
	{
		char	   *body;

		unit_context("%d levels", levels[i]);
		body = nested(levels[i], "[", "\"]}\\\"{[\"", "]",
					  ",\"id\":\"1\",\"creditsUsed\":0.1}");
		CHECK_INT(decode(200, body), OE_OK);
		CHECK(answer.is_usable);
		CHECK_STRING(answer.credits, "0.1");
		free_results();
		free(body);

		body = nested(levels[i], "{\"id\":", "\"1\"", "}", "}");
		CHECK_INT(decode(200, body), OE_BAD_ANSWER);
		check_fault("The body has no \"id\".");
		free_results();
		free(body);

		body = nested(levels[i], "[", "", "]", ",\"detail\":\"said\"}");
		CHECK_INT(decode(404, body), OE_API_NOT_FOUND);
		CHECK_STRING(error.message, "said");
		free_results();
		free(body);
	}
}

static void
test_deep_nonsense(void)
{
	char	   *body = nested(100, "[", "", "]", "]]]]]]}}}");

	CHECK_INT(decode(200, body), OE_BAD_ANSWER);
	check_fault("The body is not a JSON object.");
	free_results();
	free(body);

	body = nested(100, "[", "", "", "");
	CHECK_INT(decode(200, body), OE_BAD_ANSWER);
	check_fault("The body is not a JSON object.");
	free_results();
	free(body);
}

static void
test_deep_detail(void)
{
	char	   *body = nested(40, "[", "1", "]", ",\"detail\":[{\"msg\":\"m\","
							  "\"ctx\":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}]}");

	CHECK_INT(decode(422, body), OE_API_INVALID);
	CHECK_STRING(error.message, "m");
	CHECK_STRING(answer.detail, "m");
	CHECK_STRING(error.detail, "HTTP status 422.  Nothing was paid.  The API said: [{\"msg\":\"m\","
				 "\"ctx\":[[[[[[[[[[[[[[]]]]]]]]]]]]]]}]");
	free_results();
	free(body);
}

/* Every status has an outcome, which does not depend on the body. */
static void
test_outcomes(void)
{
	for (int status = -1; status < 1100; status++)
	{
		OeOutcome	outcome = oe_answer_outcome(status);

		unit_context("status %d", status);
		if (status == 200)
			CHECK_INT(outcome, OE_ANSWERED);
		else if (status == 201)
			CHECK_INT(outcome, OE_REFUSED);
		else if (status == 429 || status == 502 || status == 503 ||
				 (status >= 521 && status <= 523) || status == 525 || status == 526 ||
				 status == 530 || (status >= 300 && status <= 399))
			CHECK_INT(outcome, OE_FAILED);
		else if (status >= 400 && status <= 499)
			CHECK_INT(outcome, OE_REFUSED);
		else
			CHECK_INT(outcome, OE_UNKNOWN);

		CHECK((decode(status, "{\"id\":\"1\",\"detail\":\"2\"}") == OE_OK) == (status == 200));
		CHECK_INT(answer.outcome, outcome);
		free_results();
		(void) decode(status, "<html>");
		CHECK_INT(answer.outcome, status == 200 ? OE_UNKNOWN : status == 404 ? OE_FAILED : outcome);
		CHECK(error.message != NULL && error.detail != NULL &&
			  error.hint != NULL);
		free_results();
	}
}

static int	failing_status;
static const char *failing_body;
static OeCode failing_code;
static OeOutcome failing_outcome;
static const char *failing_credits;
static const char *failing_message;

/*
 * Without memory the outcome is still right, or the cautious one.  The code is the right one, with at
 * most a text missing, or that of missing memory.
 */
static void
decode_without_memory(void)
{
	OeCode		code = decode(failing_status, failing_body);

	if (answer.outcome != failing_outcome)
	{
		CHECK_INT(code, OE_OUT_OF_MEMORY);
		CHECK_INT(answer.outcome, failing_status == 200 ? OE_UNKNOWN : OE_FAILED);
	}
	CHECK_INT(error.code, code);
	CHECK(answer.is_usable == (code == OE_OK));
	if (code == OE_OUT_OF_MEMORY)
		CHECK(unit_malloc_failed());
	else
	{
		CHECK_INT(code, failing_code);
		CHECK_STRING(answer.credits, failing_credits);
		CHECK_STRING(error.message, failing_message);
	}
	free_results();
}

static void
each_malloc_fails(int status, const char *body)
{
	OeCode		code = decode(status, body);
	OeAnswer	expected = answer;
	OeError		expected_error = error;

	unit_context("%d %s", status, body);
	memset(&answer, 0, sizeof(answer));
	memset(&error, 0, sizeof(error));
	failing_status = status;
	failing_body = body;
	failing_code = code;
	failing_outcome = expected.outcome;
	failing_credits = expected.credits;
	failing_message = expected_error.message;
	unit_each_malloc_fails(decode_without_memory);
	oe_answer_free(&expected);
	oe_error_free(&expected_error);
}

static void
test_without_memory(void)
{
	char	   *deep = nested(40, "[", "1", "]", ",\"id\":\"1\"}");

	for (size_t i = 0; i < lengthof(persons); i++)
		each_malloc_fails(200, persons[i].body);
	for (size_t i = 0; i < lengthof(faults); i++)
		each_malloc_fails(200, faults[i].body);
	for (size_t i = 0; i < lengthof(refusals); i++)
		each_malloc_fails(refusals[i].status, refusals[i].body);
	for (size_t i = 0; i < lengthof(rewritten); i++)
		each_malloc_fails(rewritten[i].status, rewritten[i].body);
	for (size_t i = 0; i < lengthof(complaints); i++)
	{
		char		body[1000];

		snprintf(body, sizeof(body), "{\"detail\":%s}", complaints[i].list);
		each_malloc_fails(422, body);
	}
	each_malloc_fails(200, deep);
	free(deep);
}

static const UnitTest tests[] = {
	{"persons", test_persons},
	{"long numbers", test_long_numbers},
	{"200 without a person", test_faults},
	{"200 without a person, with credits", test_fault_with_credits},
	{"NUL inside", test_nul_inside},
	{"unusable bytes", test_unusable_bytes},
	{"404 of others", test_404_of_others},
	{"refusals", test_refusals},
	{"200 from the ledger", test_200_from_the_ledger},
	{"messages for the ledger", test_rewritten},
	{"a long page", test_long_page},
	{"lists of complaints", test_complaints},
	{"a message has a ceiling", test_message_has_a_ceiling},
	{"a long detail", test_long_detail},
	{"a deep person", test_deep_person},
	{"deep nonsense", test_deep_nonsense},
	{"a deep detail", test_deep_detail},
	{"outcomes", test_outcomes},
	{"without memory", test_without_memory},
};

int
main(void)
{
	return UNIT_RUN("test_answer", tests);
}
