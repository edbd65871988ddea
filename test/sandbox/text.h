/*
 * text.h
 *		A growable text, and JSON written straight into it: much faster than a
 *		tree of objects, and able to write invalid JSON.
 */
#ifndef SB_TEXT_H
#define SB_TEXT_H

#include <stddef.h>

/* Starts as {0}. */
typedef struct SbText
{
	char	   *data;			/* NULL until something is added; then ends
								 * with a NUL that "len" does not count */
	size_t		len;
	size_t		size;
} SbText;

extern void sb_text_add(SbText *text, const void *bytes, size_t len);
extern void sb_text_add_string(SbText *text, const char *string);

/* Add "c" "count" times. */
extern void sb_text_fill(SbText *text, char c, size_t count);

/* Add a JSON string, quoted and escaped. */
extern void sb_text_add_json(SbText *text, const char *string);

extern void sb_text_free(SbText *text);

#endif							/* SB_TEXT_H */
