/*
 * token.h
 *		The token of the API, and the file that it may be kept in.
 */
#ifndef OE_TOKEN_H
#define OE_TOKEN_H

#define OE_TOKEN_MAX_BYTES	4096

/*
 * The token, palloc'd: the value of ocean_enrich.api_token, or if that is empty the
 * one line of the file that ocean_enrich.api_token_file names.  Raises 28000
 * (invalid_authorization_specification) when there is no usable one.
 */
extern char *oe_token(const char *token, const char *file);

/*
 * A sentence about what was copied together with a token: "Bearer", the name of a
 * header, quotes; NULL if nothing was.
 */
extern const char *oe_token_copied_with(const char *token);

#endif							/* OE_TOKEN_H */
