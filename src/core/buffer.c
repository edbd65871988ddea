/*
 * buffer.c
 *		A growable array of bytes with a ceiling; see buffer.h.
 *
 * One byte is always kept for the terminating NUL, so that the content can be
 * used as a C string without another copy.
 */
#include "core/buffer.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Most answers fit; a smaller one would only mean more calls of realloc(). */
#define FIRST_CAPACITY_BYTES	256

void
oe_buf_init(OeBuf *buf, size_t max)
{
	memset(buf, 0, sizeof(*buf));
	/* The NUL must be countable too. */
	buf->max = (max < SIZE_MAX) ? max : SIZE_MAX - 1;
}

/* Twice as much as before, but no more than the ceiling and the NUL need. */
static size_t
next_capacity(const OeBuf *buf, size_t wanted)
{
	size_t		limit = buf->max + 1;
	size_t		capacity = buf->capacity;

	if (capacity < FIRST_CAPACITY_BYTES)
		capacity = FIRST_CAPACITY_BYTES;
	while (capacity < wanted && capacity <= limit / 2)
		capacity *= 2;
	return (capacity < wanted || capacity > limit) ? limit : capacity;
}

/* Make room for "len" more bytes, which the ceiling is known to allow. */
static bool
reserve(OeBuf *buf, size_t len)
{
	size_t		wanted = buf->len + len + 1;
	size_t		capacity;
	char	   *data;

	if (wanted <= buf->capacity)
		return true;

	capacity = next_capacity(buf, wanted);
	data = realloc(buf->data, capacity);
	if (data == NULL)
	{
		buf->out_of_memory = true;
		return false;
	}
	buf->data = data;
	buf->capacity = capacity;
	return true;
}

bool
oe_buf_append(OeBuf *buf, const void *bytes, size_t len)
{
	if (len == 0)
		return true;
	if (len > buf->max - buf->len)
	{
		buf->truncated = true;
		return false;
	}
	if (!reserve(buf, len))
		return false;

	memcpy(buf->data + buf->len, bytes, len);
	buf->len += len;
	buf->data[buf->len] = '\0';
	return true;
}

bool
oe_buf_append_string(OeBuf *buf, const char *string)
{
	return oe_buf_append(buf, string, strlen(string));
}

bool
oe_buf_append_some(OeBuf *buf, const void *bytes, size_t len)
{
	size_t		room = buf->max - buf->len;

	if (len <= room)
		return oe_buf_append(buf, bytes, len);

	(void) oe_buf_append(buf, bytes, room); /* false is returned in any case */
	buf->truncated = true;
	return false;
}

char *
oe_buf_steal(OeBuf *buf)
{
	char	   *data = buf->data;

	oe_buf_init(buf, buf->max);
	return data;
}

void
oe_buf_free(OeBuf *buf)
{
	free(oe_buf_steal(buf));
}

size_t
oe_utf8_clip(const char *text, size_t len, size_t max)
{
	if (len <= max)
		return len;

	/* 10xxxxxx continues a character: cut before its first byte. */
	while (max > 0 && ((unsigned char) text[max] & 0xC0) == 0x80)
		max--;
	return max;
}
