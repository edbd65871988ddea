/*
 * fuzz_request.c
 *		Any bytes as a request, with unknown keys refused and passed on.
 */
#include <string.h>

#include "core/request.h"
#include "fuzz.h"

static void
check_error(OeCode code, const OeRequest *request, const OeError *error,
			bool valid_utf8)
{
	size_t		len;

	REQUIRE(error->code == code);
	REQUIRE(code == OE_BAD_REQUEST || code == OE_API_BAD_REQUEST);
	REQUIRE(request->body == NULL && request->body_len == 0);

	/* One line of reasonable length, whatever the keys are. */
	REQUIRE(error->message != NULL);
	len = strlen(error->message);
	REQUIRE(len > 0 && len < 200);
	for (size_t i = 0; i < len; i++)
		REQUIRE((unsigned char) error->message[i] >= 0x20);
	REQUIRE(!valid_utf8 || fuzz_is_utf8(error->message, len));
}

/* Normalising a normalised body changes nothing. */
static void
check_body(const OeRequest *request, bool pass_unknown_keys, bool valid_utf8)
{
	OeRequest	again;
	OeError		error = {0};

	REQUIRE(request->body != NULL);
	REQUIRE(request->body_len == strlen(request->body));
	REQUIRE(request->body_len <= OE_REQUEST_MAX_BYTES);
	REQUIRE(!valid_utf8 || fuzz_is_utf8(request->body, request->body_len));
	REQUIRE(strncmp(request->body, "{\"person\":{\"", 12) == 0);

	REQUIRE(oe_request_parse(&oe_endpoint_person, request->body, request->body_len,
							 pass_unknown_keys, OE_EQUAL_CANONICAL, &again,
							 &error) == OE_OK);
	REQUIRE(strcmp(again.body, request->body) == 0);
	REQUIRE(strcmp(again.identity, request->identity) == 0);
	for (int i = 0; i < OE_PRICES_MAX; i++)
		REQUIRE(again.reveals.of[i] == request->reveals.of[i]);
	oe_request_free(&again);
	oe_error_free(&error);
}

static OeCode
parse(const char *json, size_t len, bool pass_unknown_keys, OeRequest *request)
{
	OeError		error = {0};
	bool		valid_utf8 = fuzz_is_utf8(json, len);
	OeCode		code = oe_request_parse(&oe_endpoint_person, json, len, pass_unknown_keys,
										OE_EQUAL_CANONICAL, request, &error);

	if (code == OE_OK)
	{
		REQUIRE(error.code == OE_OK && error.message == NULL);
		check_body(request, pass_unknown_keys, valid_utf8);
	}
	else
		check_error(code, request, &error, valid_utf8);
	oe_error_free(&error);
	return code;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *json = (const char *) data;
	OeRequest	strict;
	OeRequest	passed;

	/* A request without unknown keys is the same in both modes. */
	(void) parse(json, size, true, &passed);
	if (parse(json, size, false, &strict) == OE_OK)
		REQUIRE(passed.body && strcmp(strict.body, passed.body) == 0);

	oe_request_free(&strict);
	oe_request_free(&passed);
	return 0;
}
