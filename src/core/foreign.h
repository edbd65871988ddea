/*
 * foreign.h
 *		Answers that the API did not write: the page of a proxy, a firewall or a
 *		content delivery network, shown as text.
 */
#ifndef OE_FOREIGN_H
#define OE_FOREIGN_H

#include <stdbool.h>
#include <stddef.h>

/* True unless the body is empty or begins like the API's, which are JSON objects. */
extern bool oe_is_foreign(const char *body, size_t len);

/*
 * The first words of such a body, without markup, malloc'd; NULL if it has none
 * that can be read.  "valid_utf8" says whether the body is; if not, its other
 * characters become "?".  False if memory ran out.
 */
extern bool oe_foreign_words(const char *body, size_t len, bool valid_utf8,
							 char **words);

#endif							/* OE_FOREIGN_H */
