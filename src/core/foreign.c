/*
 * foreign.c
 *		Show the beginning of an answer that is not the API's; see foreign.h.
 *
 * This is for people who look for the machine that answered, so it need not read
 * HTML as a browser does: entities stay as they are.
 */
#include "core/foreign.h"

#include <string.h>
#include <strings.h>

#include "core/buffer.h"

/* So much is shown. */
#define WORDS_MAX_BYTES		200

static void
skip_blanks(const char **body, size_t *len)
{
	while (*len > 0 && strchr(" \t\r\n", **body))
	{
		(*body)++;
		(*len)--;
	}
}

bool
oe_is_foreign(const char *body, size_t len)
{
	skip_blanks(&body, &len);
	return len > 0 && *body != '{' && *body != '[';
}

/* The number of bytes from "text" to the end of "what"; all if it is not there. */
static size_t
length_through(const char *text, size_t len, const char *what)
{
	size_t		what_len = strlen(what);

	for (size_t i = 0; i + what_len <= len; i++)
	{
		if (strncasecmp(text + i, what, what_len) == 0)
			return i + what_len;
	}
	return len;
}

/*
 * The length of the markup that begins at "text": a comment, an element whose
 * content nobody wants to read, or a tag.
 */
static size_t
length_of_markup(const char *text, size_t len)
{
	static const char *const pairs[][2] = {
		{"<!--", "--"}, {"<script", "</script"}, {"<style", "</style"}
	};
	size_t		through = 0;

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
	{
		size_t		opening = strlen(pairs[i][0]);

		if (len >= opening && strncasecmp(text, pairs[i][0], opening) == 0)
			through = opening +
				length_through(text + opening, len - opening, pairs[i][1]);
	}
	return through + length_through(text + through, len - through, ">");
}

static bool
is_blank(char c)
{
	return (unsigned char) c <= ' ' || c == 0x7F;
}

/* Append words until there are enough; markup and white space become one blank. */
static void
append_words(OeBuf *words, const char *body, size_t len, bool valid_utf8)
{
	bool		is_page = *body == '<';
	bool		blank = false;

	for (size_t i = 0; i < len;)
	{
		char		c = body[i];
		bool		is_markup = is_page && c == '<';

		i += is_markup ? length_of_markup(body + i, len - i) : 1;
		if (is_markup || is_blank(c))
		{
			blank = words->len > 0;
			continue;
		}
		if ((unsigned char) c > 0x7F && !valid_utf8)
			c = '?';
		if ((blank && !oe_buf_append(words, " ", 1)) ||
			!oe_buf_append(words, &c, 1))
			return;
		blank = false;
	}
}

/* A copy of the words that says whether they are all; NULL if memory ran out. */
static char *
copy_words(const OeBuf *words)
{
	OeBuf		copy;
	size_t		shown = words->len;

	/* Drop a character that was cut at the ceiling as a whole. */
	if (words->truncated)
		shown = oe_utf8_clip(words->data, words->len, words->len - 1);
	oe_buf_init(&copy, WORDS_MAX_BYTES + strlen("..."));
	if (oe_buf_append(&copy, words->data, shown) &&
		(!words->truncated || oe_buf_append_string(&copy, "...")))
		return oe_buf_steal(&copy);
	oe_buf_free(&copy);
	return NULL;
}

bool
oe_foreign_words(const char *body, size_t len, bool valid_utf8, char **words)
{
	OeBuf		read;
	bool		complete = true;

	*words = NULL;
	skip_blanks(&body, &len);
	if (len == 0 || (!valid_utf8 && *body != '<'))
		return true;
	oe_buf_init(&read, WORDS_MAX_BYTES);
	append_words(&read, body, len, valid_utf8);
	if (read.out_of_memory)
		complete = false;
	else if (read.len > 0)
		complete = (*words = copy_words(&read)) != NULL;
	oe_buf_free(&read);
	return complete;
}
