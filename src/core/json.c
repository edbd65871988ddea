/*
 * json.c
 *		Read and write JSON with json-c; see json.h.
 *
 * json-c before 0.17 does not report that memory ran out: it goes on with a
 * cut string or without a member, and its writer does so in every version.
 * malloc() leaves ENOMEM in errno, however, and only the reading of a number
 * clears it afterwards, which no known key of a request has.  Hence errno is
 * checked around each of json-c's long calls.
 */
#include "core/json.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>

/* Translate the tokener's verdict on a text. */
static OeJsonResult
result_of(enum json_tokener_error verdict)
{
	if (verdict == json_tokener_success)
		return OE_JSON_OK;
	if (verdict == json_tokener_error_depth)
		return OE_JSON_TOO_DEEP;
	if (verdict == json_tokener_error_parse_number)
		return OE_JSON_BAD_NUMBER;
	return OE_JSON_INVALID;
}

static OeJsonResult
read_with(struct json_tokener *tokener, const char *text, size_t len,
		  struct json_object **value)
{
	OeJsonResult result;

	errno = 0;
	*value = json_tokener_parse_ex(tokener, text, (int) len);
	if (errno == ENOMEM)
		return OE_JSON_OUT_OF_MEMORY;

	/* It stops at a NUL, too. */
	result = result_of(json_tokener_get_error(tokener));
	if (result == OE_JSON_OK && json_tokener_get_parse_end(tokener) != len)
		return OE_JSON_INVALID;
	return result;
}

/*
 * In its strict mode, json-c 0.18 takes each byte beyond ASCII for a control
 * character and refuses it.  So that version reads such a text without the strict
 * mode; a text that comes from jsonb is valid JSON in any case.
 */
static int
flags_for(const char *text, size_t len, int flags)
{
	if (json_c_version_num() >> 8 != 18)
		return flags;
	for (size_t i = 0; i < len; i++)
	{
		if ((unsigned char) text[i] > 0x7F)
			return flags & ~JSON_TOKENER_STRICT;
	}
	return flags;
}

OeJsonResult
oe_json_read(const char *text, size_t len, int flags,
			 struct json_object **value)
{
	struct json_tokener *tokener;
	OeJsonResult result;

	*value = NULL;

	/* json-c counts in int. */
	if (len == 0 || len > INT_MAX)
		return OE_JSON_INVALID;

	tokener = json_tokener_new();
	if (tokener == NULL)
		return OE_JSON_OUT_OF_MEMORY;
	json_tokener_set_flags(tokener, flags_for(text, len, flags));

	result = read_with(tokener, text, len, value);
	json_tokener_free(tokener);

	if (result != OE_JSON_OK)
	{
		(void) json_object_put(*value); /* 1 if it was freed, as expected */
		*value = NULL;
	}
	return result;
}

static bool
integer_is_exact(struct json_object *value)
{
	return json_object_get_int64(value) != INT64_MIN &&
		json_object_get_uint64(value) != UINT64_MAX;
}

static bool
array_is_exact(struct json_object *array)
{
	for (size_t i = 0; i < json_object_array_length(array); i++)
	{
		if (!oe_json_is_exact(json_object_array_get_idx(array, i)))
			return false;
	}
	return true;
}

static bool
object_is_exact(struct json_object *object)
{
	json_object_object_foreach(object, key, member)
	{
		(void) key;
		if (!oe_json_is_exact(member))
			return false;
	}
	return true;
}

/* Recursive, but no deeper than json-c reads. */
bool
oe_json_is_exact(struct json_object *value)
{
	switch (json_object_get_type(value))
	{
		case json_type_null:
		case json_type_boolean:
		case json_type_string:
			return true;
		case json_type_int:
			return integer_is_exact(value);
		case json_type_double:
			/* NaN and Infinity come without the text that was read. */
			return json_object_get_userdata(value) != NULL;
		case json_type_array:
			return array_is_exact(value);
		case json_type_object:
			return object_is_exact(value);
	}
	return false;
}

const char *
oe_json_text(struct json_object *value)
{
	const char *text;

	errno = 0;
	text = json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN |
										  JSON_C_TO_STRING_NOSLASHESCAPE);
	return (errno == ENOMEM) ? NULL : text;
}
