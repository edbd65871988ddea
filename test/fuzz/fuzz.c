/*
 * fuzz.c
 *		Shared by the fuzzers; see fuzz.h.
 */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>

void
fuzz_found(const char *what, const char *file, int line)
{
	fprintf(stderr, "%s:%d: not true: %s\n", file, line, what);
	abort();
}

/* The length of the first character of "text"; 0 if it is invalid. */
static size_t
character_len(const unsigned char *text, size_t len)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	uint32_t	code;
	size_t		bytes;

	if (text[0] < 0x80)
		return 1;
	if (text[0] < 0xC0 || text[0] >= 0xF8)
		return 0;
	bytes = (text[0] >= 0xF0) ? 4 : (text[0] >= 0xE0) ? 3 : 2;
	if (bytes > len)
		return 0;

	code = text[0] & (0xFFu >> (bytes + 1));
	for (size_t i = 1; i < bytes; i++)
	{
		if ((text[i] & 0xC0) != 0x80)
			return 0;
		code = code << 6 | (text[i] & 0x3F);
	}
	if (code < least[bytes] || code > 0x10FFFF ||
		(code >= 0xD800 && code <= 0xDFFF))
		return 0;
	return bytes;
}

bool
fuzz_is_utf8(const char *text, size_t len)
{
	while (len > 0)
	{
		size_t		bytes = character_len((const unsigned char *) text, len);

		if (bytes == 0)
			return false;
		text += bytes;
		len -= bytes;
	}
	return true;
}
