/*
 * buffer.h
 *		A growable array of bytes with a ceiling.
 *
 * The ceiling is given when the buffer is made, so it cannot be forgotten.  A
 * buffer never grows beyond it: an append that would is refused as a whole or,
 * with oe_buf_append_some(), cut at the ceiling and remembered in "truncated".
 *
 * Allocates with malloc; no function here exits, logs or jumps.
 */
#ifndef OE_BUFFER_H
#define OE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

typedef struct OeBuf
{
	char	   *data;			/* NULL until the first byte; always followed
								 * by a NUL that "len" does not count */
	size_t		len;
	size_t		capacity;		/* bytes allocated, the NUL included */
	size_t		max;			/* the ceiling of "len" */
	bool		truncated;		/* true if bytes were left out at the ceiling */
	bool		out_of_memory;	/* true if malloc failed once */
} OeBuf;

/* An empty buffer that will hold at most "max" bytes.  Allocates nothing. */
extern void oe_buf_init(OeBuf *buf, size_t max);

/*
 * Append all "len" bytes, or none.  False when they do not fit under the
 * ceiling ("truncated" is set) or memory ran out ("out_of_memory" is set).
 */
extern bool oe_buf_append(OeBuf *buf, const void *bytes, size_t len);

/* The same for a NUL-terminated string. */
extern bool oe_buf_append_string(OeBuf *buf, const char *string);

/* Append what fits under the ceiling; false when something was left out. */
extern bool oe_buf_append_some(OeBuf *buf, const void *bytes, size_t len);

/*
 * Hand the bytes over to the caller, who frees them; the buffer is empty
 * afterwards.  NULL when nothing was ever appended.
 */
extern char *oe_buf_steal(OeBuf *buf);

/* Forget the content and free the memory; the ceiling stays. */
extern void oe_buf_free(OeBuf *buf);

/*
 * How much of "text" (UTF-8) to show in at most "max" bytes: its length if it
 * fits, else the last character boundary before that.
 */
extern size_t oe_utf8_clip(const char *text, size_t len, size_t max);

#endif							/* OE_BUFFER_H */
