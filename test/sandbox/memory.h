/*
 * memory.h
 *		Allocation that exits the program with a message when memory runs out,
 *		so that none of these functions returns NULL.
 */
#ifndef SB_MEMORY_H
#define SB_MEMORY_H

#include <stddef.h>

extern void *sb_zalloc(size_t size);	/* zeroed */
extern void *sb_realloc(void *old, size_t size);
extern char *sb_strdup(const char *string);

#endif							/* SB_MEMORY_H */
