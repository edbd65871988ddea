/*
 * test_buffer.c
 *		Buffers with a maximum size, clipped text, and the errors of the core.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/buffer.h"
#include "core/error.h"
#include "unit.h"

static void
test_new_buffer_is_empty(void)
{
	OeBuf		buf;

	oe_buf_init(&buf, 10);
	CHECK(buf.data == NULL);
	CHECK_INT(buf.len, 0);
	CHECK_INT(buf.max, 10);
	CHECK(!buf.truncated && !buf.out_of_memory);

	CHECK(oe_buf_append(&buf, NULL, 0));
	CHECK(oe_buf_append_string(&buf, ""));
	CHECK(buf.data == NULL);
	CHECK(oe_buf_steal(&buf) == NULL);
	oe_buf_free(&buf);
}

static void
test_append(void)
{
	OeBuf		buf;

	oe_buf_init(&buf, 100);
	CHECK(oe_buf_append_string(&buf, "Ada"));
	CHECK_STRING(buf.data, "Ada");
	CHECK(oe_buf_append(&buf, " \0 ", 3));
	CHECK(oe_buf_append_string(&buf, "Byron"));
	CHECK_INT(buf.len, 11);
	CHECK(memcmp(buf.data, "Ada \0 Byron", 12) == 0);
	CHECK(!buf.truncated);
	oe_buf_free(&buf);
}

static void
test_append_all_or_nothing(void)
{
	OeBuf		buf;

	oe_buf_init(&buf, 5);
	CHECK(oe_buf_append_string(&buf, "123"));
	CHECK(!oe_buf_append_string(&buf, "456"));
	CHECK(buf.truncated);
	CHECK_STRING(buf.data, "123");

	/* What fits is still appended; the buffer remembers that it lost bytes. */
	CHECK(oe_buf_append_string(&buf, "45"));
	CHECK_STRING(buf.data, "12345");
	CHECK(buf.truncated);
	CHECK(!oe_buf_append_string(&buf, "6"));
	CHECK(oe_buf_append_string(&buf, ""));
	oe_buf_free(&buf);
}

static void
test_append_some(void)
{
	OeBuf		buf;

	oe_buf_init(&buf, 5);
	CHECK(oe_buf_append_some(&buf, "123", 3));
	CHECK(!buf.truncated);
	CHECK(!oe_buf_append_some(&buf, "456", 3));
	CHECK(buf.truncated);
	CHECK_STRING(buf.data, "12345");
	CHECK(!oe_buf_append_some(&buf, "6", 1));
	CHECK_INT(buf.len, 5);
	oe_buf_free(&buf);

	oe_buf_init(&buf, 5);
	CHECK(oe_buf_append_some(&buf, "12345", 5));
	CHECK(!buf.truncated);
	oe_buf_free(&buf);
}

static void
test_no_room_at_all(void)
{
	OeBuf		buf;

	oe_buf_init(&buf, 0);
	CHECK(!oe_buf_append(&buf, "x", 1));
	CHECK(!oe_buf_append_some(&buf, "x", 1));
	CHECK(buf.data == NULL && buf.truncated && !buf.out_of_memory);
}

static void
test_free_forgets_but_keeps_the_ceiling(void)
{
	OeBuf		buf;

	oe_buf_init(&buf, 3);
	CHECK(!oe_buf_append_some(&buf, "1234", 4));
	oe_buf_free(&buf);
	CHECK(buf.data == NULL && buf.len == 0 && buf.capacity == 0);
	CHECK(buf.max == 3 && !buf.truncated);
	CHECK(oe_buf_append_string(&buf, "abc"));
	CHECK_STRING(buf.data, "abc");
	oe_buf_free(&buf);
}

static void
test_steal(void)
{
	OeBuf		buf;
	char	   *stolen;

	oe_buf_init(&buf, 10);
	CHECK(oe_buf_append_string(&buf, "mine"));
	stolen = oe_buf_steal(&buf);
	CHECK_STRING(stolen, "mine");
	CHECK(buf.data == NULL && buf.len == 0 && buf.max == 10);

	CHECK(oe_buf_append_string(&buf, "next"));
	CHECK_STRING(stolen, "mine");
	CHECK_STRING(buf.data, "next");
	free(stolen);
	oe_buf_free(&buf);
}

/* Byte by byte over several reallocations, up to any maximum. */
static void
test_growing(void)
{
	const size_t ceilings[] = {1, 255, 256, 257, 1000, 4095, 4096, 65536};

	for (size_t i = 0; i < sizeof(ceilings) / sizeof(ceilings[0]); i++)
	{
		OeBuf		buf;

		unit_context("ceiling %zu", ceilings[i]);
		oe_buf_init(&buf, ceilings[i]);
		for (size_t n = 0; n < ceilings[i]; n++)
		{
			char		byte = (char) ('a' + n % 26);

			CHECK(oe_buf_append(&buf, &byte, 1));
		}
		CHECK_INT(buf.len, ceilings[i]);
		CHECK(buf.capacity <= ceilings[i] + 1);
		for (size_t n = 0; n < buf.len; n++)
			CHECK(buf.data[n] == (char) ('a' + n % 26));
		CHECK(buf.data[buf.len] == '\0');
		CHECK(!oe_buf_append(&buf, "x", 1));
		oe_buf_free(&buf);
	}
}

static void
test_sizes_cannot_overflow(void)
{
	OeBuf		buf;

	oe_buf_init(&buf, SIZE_MAX);
	CHECK(buf.max == SIZE_MAX - 1);
	CHECK(oe_buf_append_string(&buf, "some"));
	CHECK(!oe_buf_append(&buf, "x", SIZE_MAX));
	CHECK(!oe_buf_append(&buf, "x", SIZE_MAX - 4));
	CHECK(buf.truncated);
	CHECK_STRING(buf.data, "some");
	oe_buf_free(&buf);
}

static void
test_out_of_memory(void)
{
	OeBuf		buf;
	char		large[1000];

	memset(large, 'x', sizeof(large));
	oe_buf_init(&buf, 10000);
	unit_fail_malloc(1);
	CHECK(!oe_buf_append_string(&buf, "first"));
	CHECK(buf.out_of_memory && buf.data == NULL && !buf.truncated);

	/* Later bytes may be appended, but the gap is remembered. */
	CHECK(oe_buf_append_string(&buf, "first"));
	CHECK(buf.out_of_memory);
	oe_buf_free(&buf);
	CHECK(!buf.out_of_memory);

	CHECK(oe_buf_append_string(&buf, "kept"));
	unit_fail_malloc(1);
	CHECK(!oe_buf_append_some(&buf, large, sizeof(large)));
	CHECK_STRING(buf.data, "kept");
	CHECK(buf.out_of_memory);
	oe_buf_free(&buf);
}

static void
test_utf8_clip(void)
{
	/* a, e with acute, euro sign, G clef: 1, 2, 3 and 4 bytes */
	const char *text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9D\x84\x9E";
	const size_t clipped[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 10, 10};

	for (size_t max = 0; max < sizeof(clipped) / sizeof(clipped[0]); max++)
	{
		unit_context("at most %zu bytes", max);
		CHECK_INT(oe_utf8_clip(text, 10, max), clipped[max]);
	}

	/* Continuation bytes alone are no text, but do no harm. */
	CHECK_INT(oe_utf8_clip("\x80\x80\x80\x80", 4, 2), 0);
	CHECK_INT(oe_utf8_clip("", 0, 0), 0);
}

static void
test_error_texts(void)
{
	OeError		error = {0};

	oe_error_set(&error, OE_BAD_SETTING, "%s is %d", "answer", 42);
	oe_error_detail(&error, "Detail %d.", 1);
	oe_error_hint(&error, "Hint %d.", 1);
	CHECK_INT(error.code, OE_BAD_SETTING);
	CHECK_STRING(error.message, "answer is 42");
	CHECK_STRING(error.detail, "Detail 1.");
	CHECK_STRING(error.hint, "Hint 1.");

	oe_error_detail(&error, "Detail %d.", 2);
	oe_error_hint(&error, "Hint %d.", 2);
	CHECK_STRING(error.detail, "Detail 2.");
	CHECK_STRING(error.hint, "Hint 2.");

	/* The new text replaces the old one, but may quote it. */
	oe_error_set(&error, OE_BAD_ANSWER, "once more: %s", error.message);
	CHECK_INT(error.code, OE_BAD_ANSWER);
	CHECK_STRING(error.message, "once more: answer is 42");
	CHECK(error.detail == NULL && error.hint == NULL);

	oe_error_free(&error);
	CHECK(error.code == OE_OK && error.message == NULL);
	oe_error_free(&error);
}

static void
test_error_may_be_long(void)
{
	OeError		error = {0};
	char		text[100001];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	oe_error_set(&error, OE_API_FAILED, "%s", text);
	CHECK_STRING(error.message, text);
	oe_error_free(&error);
}

static void
test_error_out_of_memory(void)
{
	OeError		error = {0};

	unit_fail_malloc(1);
	oe_error_set(&error, OE_BAD_SETTING, "lost");
	CHECK_INT(error.code, OE_BAD_SETTING);
	CHECK(error.message == NULL);

	oe_error_detail(&error, "old");
	oe_error_hint(&error, "old");
	unit_fail_malloc_from(1);
	oe_error_detail(&error, "new");
	oe_error_hint(&error, "new");
	unit_fail_malloc(0);
	CHECK(error.detail == NULL && error.hint == NULL);
	oe_error_free(&error);
}

static const UnitTest tests[] = {
	{"a new buffer is empty", test_new_buffer_is_empty},
	{"append", test_append},
	{"append all or nothing", test_append_all_or_nothing},
	{"append what fits", test_append_some},
	{"no room at all", test_no_room_at_all},
	{"free keeps the ceiling", test_free_forgets_but_keeps_the_ceiling},
	{"steal", test_steal},
	{"growing", test_growing},
	{"sizes cannot overflow", test_sizes_cannot_overflow},
	{"out of memory", test_out_of_memory},
	{"clip UTF-8", test_utf8_clip},
	{"texts of an error", test_error_texts},
	{"an error may be long", test_error_may_be_long},
	{"an error without memory", test_error_out_of_memory},
};

int
main(void)
{
	return UNIT_RUN("test_buffer", tests);
}
