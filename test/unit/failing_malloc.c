/*
 * failing_malloc.c
 *		Allocations that fail on demand; see unit.h.
 *
 * These definitions come before those of every shared library, so that the
 * allocations of json-c and libcurl fail as ours do.  They are counted per
 * thread, so that other threads of a test are not affected.
 */
#define _GNU_SOURCE				/* RTLD_NEXT */

#include "unit.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

static __thread int countdown;	/* the allocation that fails; 0: none */
static __thread bool all_later; /* true if all later ones fail, too */
static __thread bool failed;
static __thread int allocations;	/* so far */
static __thread bool spare_strdup;

/* The sanitizer's functions, if it is linked in. */
extern void *__interceptor_malloc(size_t size) __attribute__((weak));
extern void *__interceptor_calloc(size_t count, size_t size)
			__attribute__((weak));
extern void *__interceptor_realloc(void *old, size_t size)
			__attribute__((weak));
extern void __lsan_disable(void) __attribute__((weak));
extern void __lsan_enable(void) __attribute__((weak));

void
unit_fail_malloc(int n)
{
	countdown = n;
	all_later = false;
	failed = false;
}

void
unit_fail_malloc_from(int n)
{
	unit_fail_malloc(n);
	all_later = true;
}

bool
unit_malloc_failed(void)
{
	return failed;
}

static void
fail_each_allocation(void (*run) (void), void (*arm) (int))
{
	bool		hit = true;

	for (int n = 1; hit; n++)
	{
		arm(n);
		run();
		hit = failed;
		unit_fail_malloc(0);
	}
}

void
unit_each_malloc_fails(void (*run) (void))
{
	fail_each_allocation(run, unit_fail_malloc);
	fail_each_allocation(run, unit_fail_malloc_from);
}

/* Count an allocation; true if it is to fail. */
static bool
fails_now(void)
{
	allocations++;
	if (countdown == 0 || (countdown > 1 && countdown-- > 0))
		return false;
	if (!all_later)
		countdown = 0;
	failed = true;
	errno = ENOMEM;
	return true;
}

static void *
next_definition(const char *name)
{
	void	   *found = dlsym(RTLD_NEXT, name);

	if (found == NULL)
		abort();
	return found;
}

/* malloc() of the sanitizer or the C library. */
static void *
real_malloc(size_t size)
{
	static void *(*real) (size_t);

	if (real == NULL)
		real = __interceptor_malloc ? __interceptor_malloc :
			(void *(*) (size_t)) next_definition("malloc");
	return real(size);
}

void *
malloc(size_t size)
{
	return fails_now() ? NULL : real_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
	static void *(*real) (size_t, size_t);

	if (real == NULL)
		real = __interceptor_calloc ? __interceptor_calloc :
			(void *(*) (size_t, size_t)) next_definition("calloc");
	return fails_now() ? NULL : real(count, size);
}

void *
realloc(void *old, size_t size)
{
	static void *(*real) (void *, size_t);

	if (real == NULL)
		real = __interceptor_realloc ? __interceptor_realloc :
			(void *(*) (void *, size_t)) next_definition("realloc");
	return fails_now() ? NULL : real(old, size);
}

/* The sanitizer's strdup() would not call our malloc(). */
char *
strdup(const char *string)
{
	size_t		size = strlen(string) + 1;
	char	   *copy;

	/* It is always counted, so that other allocations keep their numbers. */
	if (fails_now() && !spare_strdup)
		return NULL;
	copy = real_malloc(size);
	return copy ? memcpy(copy, string, size) : NULL;
}

typedef struct json_object *(*ParseFunction) (struct json_tokener *,
											  const char *, int);

/* Parse once to find out whether the failing allocation is in the parser. */
static bool
fails_in_parser(ParseFunction parse, const char *text, int len)
{
	int			saved = countdown;
	int			needed;
	struct json_tokener *tokener;

	countdown = 0;
	tokener = json_tokener_new();
	needed = -allocations;
	json_object_put(parse(tokener, text, len));
	needed += allocations;
	json_tokener_free(tokener);
	countdown = saved;
	return countdown > 0 && countdown <= needed;
}

/*
 * json-c's parser leaks memory when an allocation fails, up to version 0.19 at
 * least.  Up to 0.17 it also crashes or drops the key when a key cannot be
 * copied.  Both are outside our code: leaks of such a call are ignored, and
 * copies of keys do not fail.
 */
struct json_object *
json_tokener_parse_ex(struct json_tokener *tokener, const char *text, int len)
{
	static ParseFunction real;
	struct json_object *value;
	bool		spare;

	if (real == NULL)
		real = (ParseFunction) next_definition("json_tokener_parse_ex");

	spare = fails_in_parser(real, text, len);
	spare_strdup = spare && json_c_version_num() < ((0 << 16) | (18 << 8));
	if (spare && __lsan_disable)
		__lsan_disable();
	value = real(tokener, text, len);
	if (spare && __lsan_enable)
		__lsan_enable();
	spare_strdup = false;
	return value;
}
