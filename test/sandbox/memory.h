/*
 * memory.h
 *		malloc for a program that has nothing better to do without memory than
 *		to say so and to end.  None of these returns NULL.
 */
#ifndef SB_MEMORY_H
#define SB_MEMORY_H

#include <stddef.h>

extern void *sb_zalloc(size_t size);	/* zeroed */
extern void *sb_realloc(void *old, size_t size);
extern char *sb_strdup(const char *string);

#endif							/* SB_MEMORY_H */
