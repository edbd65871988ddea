/*
 * unit.h
 *		What the unit tests of src/core share: checks, a table of tests, and
 *		memory that runs out on demand.
 *
 *		static const UnitTest tests[] = {
 *			{"what it is about", test_function},
 *		};
 *
 *		int
 *		main(void)
 *		{
 *			return UNIT_RUN("test_module", tests);
 *		}
 *
 * A test fails when one of its checks does, or when it leaves memory behind
 * (known only with -fsanitize=address).
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

/* The test goes on after a check that fails. */
#define CHECK(condition) \
	unit_check((condition), #condition, __FILE__, __LINE__)

/* Equal strings; NULL equals only NULL. */
#define CHECK_STRING(actual, expected) \
	unit_check_string((actual), (expected), #actual, __FILE__, __LINE__)

/* Equal integers of any type. */
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
 * What the checks that follow are about, for their message; copied, printf
 * style.  NULL: nothing in particular, as at the start of each test.
 */
extern void unit_context(const char *format,...)
			__attribute__((format(printf, 1, 2)));

/*
 * The "n"th allocation of this thread from now on fails, counted from 1, in
 * our code or in a library; 0: none fails.
 */
extern void unit_fail_malloc(int n);

/* The "n"th one and all that follow. */
extern void unit_fail_malloc_from(int n);

/* Did an allocation fail since the last call of the two above? */
extern bool unit_malloc_failed(void);

/*
 * Call "run" again and again, each time with another allocation failing, and
 * then each time with all from that one on; until nothing fails any more.
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
