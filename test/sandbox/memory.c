/*
 * memory.c
 *		Allocation that exits the program instead of returning NULL.
 */
#include "memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *
exit_if_null(void *memory)
{
	if (memory == NULL)
	{
		fputs("ocean-sandbox: out of memory\n", stderr);
		exit(1);
	}
	return memory;
}

void *
sb_zalloc(size_t size)
{
	return exit_if_null(calloc(1, size));
}

void *
sb_realloc(void *old, size_t size)
{
	return exit_if_null(realloc(old, size));
}

char *
sb_strdup(const char *string)
{
	return exit_if_null(strdup(string));
}
