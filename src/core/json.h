/*
 * json.h
 *		The part of json-c that request.c and answer.c share: read a whole text,
 *		turn a value into text again, and notice when memory runs out.
 *
 * Only those two include this file, and nothing else includes json-c.
 */
#ifndef OE_JSON_H
#define OE_JSON_H

#include <stdbool.h>
#include <stddef.h>

#include <json-c/json.h>

typedef enum OeJsonResult
{
	OE_JSON_OK,
	OE_JSON_INVALID,			/* not one object, array or string from end to
								 * end; json-c expects others to continue */
	OE_JSON_BAD_NUMBER,			/* a number that is malformed or too long */
	OE_JSON_TOO_DEEP,			/* more levels than json-c's default */
	OE_JSON_OUT_OF_MEMORY,
} OeJsonResult;

/*
 * Read the "len" bytes of "text" as one value.  "flags" are json-c's
 * JSON_TOKENER_*.  On success the caller puts *value (json_object_put), which
 * is NULL for JSON's null; otherwise *value is NULL.
 *
 * json-c keeps the text of numbers with a fraction or an exponent.  Integers
 * beyond 64 bits become the nearest one it has: see oe_json_is_exact().
 */
extern OeJsonResult oe_json_read(const char *text, size_t len, int flags,
								 struct json_object **value);

/*
 * True if the value holds every number as it was read.  The two integers at the
 * ends of json-c's range count as inexact, because any number beyond them looks
 * the same.
 */
extern bool oe_json_is_exact(struct json_object *value);

/*
 * The value as JSON without white space.  The text belongs to the value.  NULL
 * when memory ran out.
 */
extern const char *oe_json_text(struct json_object *value);

#endif							/* OE_JSON_H */
