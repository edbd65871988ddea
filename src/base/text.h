/*
 * text.h
 *		SHA-256 digests, and conversion between UTF-8 and the server's encoding.
 */
#ifndef OE_TEXT_H
#define OE_TEXT_H

#define OE_SHA256_BYTES	32

/* SHA-256 of "len" bytes. */
extern void oe_sha256(const void *bytes, Size len,
					  uint8 digest[OE_SHA256_BYTES]);

/*
 * Convert text to UTF-8, palloc'd if that changes anything.  NULL if it is not valid
 * in the server's encoding or has a character that UTF-8 lacks.
 */
extern char *oe_server_to_utf8(char *text);

/*
 * Convert UTF-8 to the server's encoding, palloc'd.  NULL if it is not valid
 * UTF-8 or has a character that the server's encoding lacks.
 */
extern char *oe_utf8_to_server(const char *utf8, Size len);

/* The same for a message, with "?" for text that cannot be converted. */
extern char *oe_utf8_to_message(const char *utf8);

/*
 * Put U+FFFD in the place of the escapes that a text in PostgreSQL cannot hold: those
 * of the NUL character, and of half of a surrogate pair.
 */
extern void oe_json_replace_escapes(char *json);

#endif							/* OE_TEXT_H */
