/*
 * test_endpoint.c
 *		The known endpoints, and one of this test's own: request, answer and
 *		prices have to depend on the values of an endpoint alone.
 */
#include <string.h>

#include "core/answer.h"
#include "core/endpoint.h"
#include "core/policy.h"
#include "core/request.h"
#include "unit.h"

#define lengthof(array)	(sizeof(array) / sizeof((array)[0]))

static const OeMember car_members[] = {
	{"plate", OE_MEMBER_STRING, true, NULL, false, OE_FORM_TEXT},
	{"isElectric", OE_MEMBER_BOOLEAN, false, NULL, false, OE_FORM_EXACT},
};

static const OeMember history_members[] = {
	{"withHistory", OE_MEMBER_BOOLEAN, false, NULL, false, OE_FORM_REVEAL},
	{"webhookUrl", OE_MEMBER_STRING, true, NULL, false, OE_FORM_REVEAL},
};

static const OeObject car_type = {"car", car_members, lengthof(car_members)};
static const OeObject history_type = {
	"history", history_members, lengthof(history_members)
};

static const OeMember request_members[] = {
	{"car", OE_MEMBER_OBJECT, false, &car_type, false, OE_FORM_EXACT},
	{"note", OE_MEMBER_STRING, true, NULL, false, OE_FORM_EXACT},
	{"history", OE_MEMBER_OBJECT, true, &history_type, false, OE_FORM_EXACT},
};

static const OeVocabulary vocabulary = {
	.request = {NULL, request_members, lengthof(request_members)},
	.example = "{\"car\": ...}",
	.required = "car",
	.missing_hint = "Say which car.",
	.empty_message = "Empty car",
	.empty_hint = "Give its plate.",
};

static const OePrice prices[] = {
	{"credits_per_car", NULL, NULL, NULL},
	{"credits_per_history", "history", "withHistory", "past"},
};

static const OeEndpoint cars = {
	.name = "car",
	.path = "/v9/car",
	.vocabulary = &vocabulary,
	.identity = "vin",
	.prices = prices,
	.price_count = lengthof(prices),
	.recorded = true,
};

static const OeEndpoint free_of_charge = {
	.name = "colour",
	.path = "/v9/colour",
};

static OeRequest request;
static OeAnswer answer;
static OeError error;

static void
free_results(void)
{
	oe_request_free(&request);
	oe_answer_free(&answer);
	oe_error_free(&error);
}

static OeCode
parse(const char *json)
{
	free_results();
	return oe_request_parse(&cars, json, strlen(json), false, OE_EQUAL_CANONICAL,
							&request, &error);
}

static OeCode
decode(const OeEndpoint *endpoint, int status, const char *body)
{
	free_results();
	return oe_answer_decode(endpoint, status, body, strlen(body), true, false,
							&answer, &error);
}

static void
check_error(const char *message, const char *detail, const char *hint)
{
	CHECK_STRING(error.message, message);
	CHECK_STRING(error.detail, detail);
	CHECK_STRING(error.hint, hint);
}

static void
test_known(void)
{
	CHECK(oe_endpoint_find("person") == &oe_endpoint_person);
	CHECK(oe_endpoint_find("balance") == &oe_endpoint_balance);
	CHECK(oe_endpoint_find("Person") == NULL);
	CHECK(oe_endpoint_find("") == NULL);
	for (int i = 0; oe_endpoints[i]; i++)
	{
		const OeEndpoint *endpoint = oe_endpoints[i];

		unit_context("%s", endpoint->name);
		CHECK(oe_endpoint_find(endpoint->name) == endpoint);
		CHECK(endpoint->path[0] == '/');
		CHECK(endpoint->price_count <= OE_PRICES_MAX);
		/* Paid calls are recorded, and the first price is the answer's. */
		CHECK(endpoint->price_count == 0 || endpoint->recorded);
		CHECK(endpoint->price_count == 0 || !endpoint->prices[0].object);
	}
}

static void
test_request(void)
{
	CHECK_INT(parse("{\"history\":{},\"note\":\"n\","
					"\"car\":{\"isElectric\":true,\"plate\":\"p\"}}"), OE_OK);
	CHECK_STRING(request.body,
				 "{\"car\":{\"plate\":\"p\",\"isElectric\":true},\"note\":\"n\"}");

	CHECK_INT(parse("{}"), OE_BAD_REQUEST);
	check_error("the request has no key \"car\"", NULL, "Say which car.");
	CHECK_INT(parse("{\"car\":{\"plate\":null}}"), OE_API_BAD_REQUEST);
	check_error("Empty car", "Nothing was sent.", "Give its plate.");
	CHECK_INT(parse("[]"), OE_BAD_REQUEST);
	check_error("the request is not a JSON object", NULL,
				"Use an object such as {\"car\": ...}.");
	CHECK_INT(parse("{\"car\":{\"plate\":1}}"), OE_BAD_REQUEST);
	check_error("\"car.plate\" must be a string, not a number", NULL, NULL);
	CHECK_INT(parse("{\"car\":{\"is_electric\":true}}"), OE_BAD_REQUEST);
	check_error("unknown key \"is_electric\" in \"car\"", NULL,
				"Perhaps you meant \"isElectric\".");
	CHECK_INT(parse("{\"plate\":\"p\"}"), OE_BAD_REQUEST);
	check_error("unknown key \"plate\" in the request", NULL,
				"\"plate\" belongs inside \"car\".");
	/* "person" is a key of another endpoint. */
	CHECK_INT(parse("{\"car\":{\"plate\":\"p\"},\"person\":{}}"), OE_BAD_REQUEST);
	CHECK_STRING(error.message, "unknown key \"person\" in the request");
	free_results();
}

static void
test_answer(void)
{
	CHECK_INT(decode(&cars, 200, "{\"vin\":\"1\",\"creditsUsed\":2}"), OE_OK);
	CHECK(answer.is_usable);
	CHECK_STRING(answer.credits, "2");

	CHECK_INT(decode(&cars, 200, "{\"id\":\"1\"}"), OE_BAD_ANSWER);
	CHECK_STRING(error.message, "the API answered with HTTP status 200 but no usable car");
	CHECK_STRING(error.detail, "HTTP status 200.  The call may have been paid for.  "
				 "The body has no \"vin\".");
	CHECK_INT(decode(&cars, 200, "{\"vin\":1}"), OE_BAD_ANSWER);
	CHECK_STRING(error.detail, "HTTP status 200.  The call may have been paid for.  "
				 "The value of \"vin\" is not a string.");
	CHECK_INT(decode(&cars, 500, "{}"), OE_API_FAILED);
	CHECK_STRING(error.detail, "HTTP status 500.  The call may have been paid for.");
	free_results();
}

/* Any object is an answer, nothing is paid, and no error mentions payment. */
static void
test_free_answer(void)
{
	CHECK_INT(decode(&free_of_charge, 200, "{}"), OE_OK);
	CHECK(answer.is_usable);
	CHECK_INT(decode(&free_of_charge, 200, "[]"), OE_BAD_ANSWER);
	CHECK_STRING(error.message, "the API answered with HTTP status 200 but no usable colour");
	CHECK_STRING(error.detail, "HTTP status 200.  The body is not a JSON object.");
	CHECK_INT(decode(&free_of_charge, 500, "{}"), OE_API_FAILED);
	check_error("the API answered with HTTP status 500", "HTTP status 500.",
				"It costs nothing to ask again.");
	CHECK_INT(decode(&free_of_charge, 503, "{}"), OE_API_FAILED);
	check_error("the API answered with HTTP status 503", "HTTP status 503.",
				"Run the statement again later.");
	CHECK_INT(decode(&free_of_charge, 422,
					 "{\"detail\":[{\"loc\":[\"x\"],\"msg\":\"m\"}]}"),
			  OE_API_INVALID);
	CHECK_STRING(error.message, "x: m");
	CHECK(strncmp(error.detail, "HTTP status 422.  The API said: [", 33) == 0);
	free_results();
}

/* Reserved credits, at 2 for a request to this endpoint and 5 for a history. */
static OeCredits
reserved_by(const char *json)
{
	OeLimits	limits = {.prices = {2, 5, 100}};

	CHECK_INT(parse(json), OE_OK);
	for (int i = 0; i < OE_PRICES_MAX; i++)
		limits.in_answer[i] = request.reveals.of[i] == OE_REVEAL_IN_ANSWER;
	free_results();
	return oe_limits_reserve(&limits);
}

static void
test_prices(void)
{
	OeLimits	unasked = {.prices = {2, 5, 100}};

	CHECK_INT(reserved_by("{\"car\":{\"plate\":\"p\"}}"), 2);
	CHECK_INT(reserved_by("{\"car\":{\"plate\":\"p\"},"
						  "\"history\":{\"withHistory\":true}}"), 7);
	CHECK_INT(reserved_by("{\"car\":{\"plate\":\"p\"},"
						  "\"history\":{\"withHistory\":false}}"), 2);
	CHECK_INT(reserved_by("{\"car\":{\"plate\":\"p\"},"
						  "\"history\":{\"withHistory\":true,\"webhookUrl\":\"u\"}}"), 2);
	CHECK_INT(oe_limits_reserve(&unasked), 0);
}

static const UnitTest tests[] = {
	{"known endpoints", test_known},
	{"a request", test_request},
	{"an answer", test_answer},
	{"an answer that is free", test_free_answer},
	{"prices", test_prices},
};

int
main(void)
{
	return UNIT_RUN("test_endpoint", tests);
}
