/*
 * unit.h
 *		Shared by the unit tests of src/core: checks, a table of tests, and
 *		allocations that fail on demand.
 *
 *		static const UnitTest tests[] = {
 *			{"name of the test", test_function},
 *		};
 *
 *		int
 *		main(void)
 *		{
 *			return UNIT_RUN("test_module", tests);
 *		}
 *
 * A test fails if one of its checks fails, or if it leaks memory (which is only
 * detected with -fsanitize=address).
 */
#ifndef UNIT_H
#define UNIT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct UnitTest
{
	const char *name;
	void		(*run) (void);
} UnitTest;

/* The test continues after a failed check. */
#define CHECK(condition) \
	unit_check((condition), #condition, __FILE__, __LINE__)

/* Check that strings are equal; NULL equals only NULL. */
#define CHECK_STRING(actual, expected) \
	unit_check_string((actual), (expected), #actual, __FILE__, __LINE__)

/* Check that integers of any type are equal. */
#define CHECK_INT(actual, expected) \
	unit_check_int((long long) (actual), (long long) (expected), #actual, \
				   __FILE__, __LINE__)

/*
 * Run a table of tests and print "name: N passed, N failed".  Returns the exit
 * status of main().
 */
#define UNIT_RUN(name, tests) \
	unit_run(name, tests, sizeof(tests) / sizeof((tests)[0]))

/*
 * Describe the following checks, printf style, for their messages.  NULL, as at
 * the start of each test, is no description.
 */
extern void unit_context(const char *format,...)
			__attribute__((format(printf, 1, 2)));

/*
 * Let the "n"th allocation of this thread from now on fail, counted from 1, in
 * our code or in a library.  0 lets none fail.
 */
extern void unit_fail_malloc(int n);

/* Let the "n"th allocation and all later ones fail. */
extern void unit_fail_malloc_from(int n);

/* True if an allocation failed since the last call of the two above. */
extern bool unit_malloc_failed(void);

/*
 * Call "run" once for each allocation that it makes, with that one failing,
 * and once more with that one and all later ones failing.
 */
extern void unit_each_malloc_fails(void (*run) (void));

extern void unit_check(bool good, const char *what, const char *file,
					   int line);
extern void unit_check_string(const char *actual, const char *expected,
							  const char *what, const char *file, int line);
extern void unit_check_int(long long actual, long long expected,
						   const char *what, const char *file, int line);
extern int	unit_run(const char *name, const UnitTest *tests, size_t count);

#endif							/* UNIT_H */
