/*
 * text.c
 *		A text that doubles its memory as it grows.
 */
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

#define FIRST_SIZE	2048		/* an ordinary answer fits */

/* Make room for "len" more bytes and a NUL.  Returns where they start. */
static char *
extend(SbText *text, size_t len)
{
	size_t		size = text->size ? text->size : FIRST_SIZE;

	while (size - text->len <= len)
		size *= 2;
	if (size != text->size)
		text->data = sb_realloc(text->data, size);
	text->size = size;
	text->len += len;
	text->data[text->len] = '\0';
	return text->data + text->len - len;
}

void
sb_text_add(SbText *text, const void *bytes, size_t len)
{
	memcpy(extend(text, len), bytes, len);
}

void
sb_text_add_string(SbText *text, const char *string)
{
	sb_text_add(text, string, strlen(string));
}

void
sb_text_fill(SbText *text, char c, size_t count)
{
	memset(extend(text, count), c, count);
}

static void
add_escaped(SbText *text, char c)
{
	char		escaped[8];

	if (c == '"' || c == '\\')
		(void) snprintf(escaped, sizeof(escaped), "\\%c", c);
	else
		(void) snprintf(escaped, sizeof(escaped), "\\u%04x", (unsigned) c);
	sb_text_add_string(text, escaped);
}

void
sb_text_add_json(SbText *text, const char *string)
{
	const char *start = string;
	const char *c;

	sb_text_add(text, "\"", 1);
	for (c = string; *c != '\0'; c++)
	{
		if ((unsigned char) *c >= ' ' && *c != '"' && *c != '\\')
			continue;
		sb_text_add(text, start, (size_t) (c - start));
		add_escaped(text, *c);
		start = c + 1;
	}
	sb_text_add(text, start, (size_t) (c - start));
	sb_text_add(text, "\"", 1);
}

void
sb_text_free(SbText *text)
{
	free(text->data);
	*text = (SbText) {0};
}
