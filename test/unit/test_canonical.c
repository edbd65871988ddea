/*
 * test_canonical.c
 *		Which requests are equal: fingerprints.jsonl has requests, and what is left
 *		of each when all is gone that a person would not look at.
 *
 * test/sql/fingerprint.sql goes through the same file for the fingerprints.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/canonical.h"
#include "core/json.h"
#include "core/request.h"
#include "unit.h"

#define lengthof(array)	(sizeof(array) / sizeof((array)[0]))

#define LINE_MAX_BYTES	4096

static OeRequest request;
static OeError error;

/* What the current line expects. */
static const char *json;
static const char *canonical;

static void
free_results(void)
{
	oe_request_free(&request);
	oe_error_free(&error);
}

static OeCode
parse(const char *text, OeEquality equality)
{
	return oe_request_parse(&oe_endpoint_person, text, strlen(text), false,
							equality, &request, &error);
}

/* Call "run" for each line of the file. */
static void
for_each_line(void (*run) (void))
{
	FILE	   *file = fopen("fingerprints.jsonl", "r");
	char		line[LINE_MAX_BYTES];
	int			count = 0;

	CHECK(file != NULL);
	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
	{
		struct json_object *object = json_tokener_parse(line);

		CHECK(strchr(line, '\n') != NULL);
		json = oe_json_text(json_object_object_get(object, "request"));
		canonical = json_object_get_string(json_object_object_get(object, "canonical"));
		unit_context("%s", json);
		run();
		(void) json_object_put(object);
		count++;
	}
	unit_context(NULL);
	CHECK(count > 90);
	if (file != NULL)
		(void) fclose(file);
}

static void
check_line(void)
{
	CHECK_INT(parse(json, OE_EQUAL_CANONICAL), OE_OK);
	CHECK_STRING(request.identity, canonical);
	free_results();
}

static void
test_canonical(void)
{
	for_each_line(check_line);
}

static void
check_line_again(void)
{
	CHECK_INT(parse(canonical, OE_EQUAL_CANONICAL), OE_OK);
	CHECK_STRING(request.identity, canonical);
	free_results();
}

static void
test_canonical_is_final(void)
{
	for_each_line(check_line_again);
}

static void
parse_without_memory(void)
{
	if (parse(json, OE_EQUAL_CANONICAL) == OE_OK)
		CHECK_STRING(request.identity, canonical);
	else
	{
		CHECK(unit_malloc_failed());
		CHECK_INT(error.code, OE_OUT_OF_MEMORY);
		CHECK(request.body == NULL && request.identity == NULL);
	}
	free_results();
}

static void
check_line_without_memory(void)
{
	unit_each_malloc_fails(parse_without_memory);
}

static void
test_without_memory(void)
{
	for_each_line(check_line_without_memory);
}

/* Only the reveals are no part of it. */
static void
test_exact(void)
{
	static const char body[] =
		"{\"person\":{\"name\":\"Ida  ROSENLUND\",\"phone\":\"+45 51\"},"
		"\"company\":{\"domain\":\"www.Example.com\"}";
	char		text[500];

	(void) snprintf(text, sizeof(text), "%s,\"revealEmails\":{\"includeEmails\":true}}", body);
	CHECK_INT(parse(text, OE_EQUAL_EXACT), OE_OK);
	CHECK_STRING(request.body, text);
	(void) snprintf(text, sizeof(text), "%s}", body);
	CHECK_STRING(request.identity, text);
	free_results();
}

/* What the vocabulary does not know is compared as it is. */
static void
test_unknown_keys(void)
{
	static const char text[] =
		"{\"person\":{\"name\":\"ida\",\"Zodiac\":\" LEO \"},"
		"\"revealEmails\":{\"includeEmails\":true,\"force\":1.50},\"x\":[null]}";

	CHECK_INT(oe_request_parse(&oe_endpoint_person, text, strlen(text), true,
							   OE_EQUAL_CANONICAL, &request, &error), OE_OK);
	CHECK_STRING(request.identity,
				 "{\"person\":{\"name\":\"ida\",\"Zodiac\":\" LEO \"},"
				 "\"revealEmails\":{\"force\":1.50},\"x\":[null]}");
	free_results();
}

static void
test_trim(void)
{
	static const struct
	{
		const char *text;
		const char *trimmed;
	}			table[] = {
		{"", ""},
		{" \t\r\n\v\f", ""},
		{"\xC2\xA0\xE2\x80\x8B\xEF\xBB\xBF\xE3\x80\x80", ""},
		{"a", "a"},
		{" a  b ", "a  b"},
		{"\xEF\xBB\xBF\xE2\x80\xAA" "a\xC2\xA0" "b\xE2\x80\xAC", "a\xC2\xA0" "b"},
		/* visible, or part of what is before it */
		{"\xC3\xA9", "\xC3\xA9"},
		{"\xE2\x9D\xA4\xEF\xB8\x8F", "\xE2\x9D\xA4\xEF\xB8\x8F"},
		{"\xD8\x80" "1", "\xD8\x80" "1"},
		/* a control character is no blank, and no UTF-8 is none either */
		{"\x01", "\x01"},
		{" \xFF\xC2", "\xFF\xC2"},
	};

	for (size_t i = 0; i < lengthof(table); i++)
	{
		const char *text = table[i].text;
		size_t		len = strlen(text);
		char		trimmed[100];

		oe_trim(&text, &len);
		(void) snprintf(trimmed, sizeof(trimmed), "%.*s", (int) len, text);
		CHECK_STRING(trimmed, table[i].trimmed);
	}
}

/* Any bytes have a canonical form, and one that does not fit is refused. */
static void
test_any_bytes(void)
{
	static const char bytes[] = "\xFF.\xC3/\0%00@\xED\xA0\x80:1";

	for (int form = OE_FORM_EXACT; form <= OE_FORM_REVEAL; form++)
	{
		OeBuf		buf;

		oe_buf_init(&buf, 1000);
		CHECK(oe_canonical_append(&buf, (OeForm) form, bytes, sizeof(bytes) - 1));
		oe_buf_free(&buf);
		oe_buf_init(&buf, 3);
		CHECK(!oe_canonical_append(&buf, (OeForm) form, "a@b.example", 11));
		oe_buf_free(&buf);
	}
}

static const UnitTest tests[] = {
	{"canonical", test_canonical},
	{"canonical is final", test_canonical_is_final},
	{"without memory", test_without_memory},
	{"exact", test_exact},
	{"unknown keys", test_unknown_keys},
	{"trim", test_trim},
	{"any bytes", test_any_bytes},
};

int
main(void)
{
	return UNIT_RUN("test_canonical", tests);
}
