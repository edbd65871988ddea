/*
 * canonical.h
 *		One spelling for values that a person would call the same.
 *
 * Requests are equal if their canonical values are; what is sent is the value as
 * it was given.  The spelling depends on the value and its form alone: not on a
 * locale, the server's encoding, or its version.
 *
 * The only file that knows libunistring and libidn2 is this module's .c.
 */
#ifndef OE_CANONICAL_H
#define OE_CANONICAL_H

#include <stdbool.h>
#include <stddef.h>

#include "core/buffer.h"

/* What a value is, and so what its letter case and its blanks mean. */
typedef enum OeForm
{
	OE_FORM_EXACT,				/* all of it counts, such as an identifier */
	OE_FORM_TEXT,				/* names, codes and the like: letter case and
								 * the number of blanks do not count */
	OE_FORM_EMAIL,				/* nor the spelling of its domain */
	OE_FORM_DOMAIN,				/* likewise; a URL is that of its host */
	OE_FORM_PHONE,				/* digits, after "+" if there was one or 00 */
	OE_FORM_LINKEDIN_PERSON,	/* these are profiles, by URL or handle */
	OE_FORM_LINKEDIN_COMPANY,
	OE_FORM_FACEBOOK,
	OE_FORM_TWITTER,
	OE_FORM_INSTAGRAM,
	OE_FORM_XING,
	OE_FORM_YOUTUBE,
	OE_FORM_REVEAL,				/* says what to reveal, not who is meant: no
								 * part of a canonical request */
} OeForm;

/*
 * Leave out the blanks around a text in UTF-8: white space, and characters that
 * only act on others, such as a zero-width space or a byte-order mark.
 */
extern void oe_trim(const char **text, size_t *len);

/*
 * Append the canonical spelling of "text", in UTF-8; it can be several times as
 * long.  False if it does not fit or memory ran out, as for oe_buf_append().
 */
extern bool oe_canonical_append(OeBuf *buf, OeForm form, const char *text,
								size_t len);

#endif							/* OE_CANONICAL_H */
