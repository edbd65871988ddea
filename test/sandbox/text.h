/*
 * text.h
 *		A growable text, and JSON written straight into it: far quicker than a
 *		tree of objects, and able to write what no tree would.
 */
#ifndef SB_TEXT_H
#define SB_TEXT_H

#include <stddef.h>

/* Starts as {0}. */
typedef struct SbText
{
	char	   *data;			/* NULL while nothing was ever added; else
								 * with a NUL behind it that "len" does not
								 * count */
	size_t		len;
	size_t		size;
} SbText;

extern void sb_text_add(SbText *text, const void *bytes, size_t len);
extern void sb_text_add_string(SbText *text, const char *string);

/* "c", so many times. */
extern void sb_text_fill(SbText *text, char c, size_t count);

/* A JSON string, quoted and escaped. */
extern void sb_text_add_json(SbText *text, const char *string);

extern void sb_text_free(SbText *text);

#endif							/* SB_TEXT_H */
