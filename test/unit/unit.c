/*
 * unit.c
 *		Checks and tables of tests; see unit.h.
 *
 * Failures are reported on standard error, which needs no memory.  The line
 * with the totals goes to standard output.
 */
#include "unit.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *test_name;
static char context[200];
static bool test_good;

/* Defined only with -fsanitize=address; returns 1 if memory has leaked. */
extern int	__lsan_do_recoverable_leak_check(void) __attribute__((weak));

void
unit_context(const char *format,...)
{
	va_list		args;

	context[0] = '\0';
	if (format == NULL)
		return;
	va_start(args, format);
	(void) vsnprintf(context, sizeof(context), format, args);	/* may be cut */
	va_end(args);
}

static void
report(const char *file, int line)
{
	test_good = false;
	fprintf(stderr, "%s:%d: \"%s\"%s%s: ", file, line, test_name,
			context[0] != '\0' ? ", " : "", context);
}

void
unit_check(bool good, const char *what, const char *file, int line)
{
	if (good)
		return;
	report(file, line);
	fprintf(stderr, "not true: %s\n", what);
}

void
unit_check_string(const char *actual, const char *expected,
				  const char *what, const char *file, int line)
{
	if (actual == NULL || expected == NULL ? actual == expected :
		strcmp(actual, expected) == 0)
		return;
	report(file, line);
	fprintf(stderr, "%s is\n\t%s\nand should be\n\t%s\n", what,
			actual ? actual : "NULL", expected ? expected : "NULL");
}

void
unit_check_int(long long actual, long long expected,
			   const char *what, const char *file, int line)
{
	if (actual == expected)
		return;
	report(file, line);
	fprintf(stderr, "%s is %lld and should be %lld\n", what, actual, expected);
}

static bool
run_test(const UnitTest *test)
{
	test_name = test->name;
	test_good = true;
	unit_context(NULL);

	test->run();

	unit_fail_malloc(0);
	unit_context(NULL);
	if (__lsan_do_recoverable_leak_check != NULL)
		unit_check(__lsan_do_recoverable_leak_check() == 0,
				   "no memory has leaked", __FILE__, __LINE__);
	return test_good;
}

int
unit_run(const char *name, const UnitTest *tests, size_t count)
{
	size_t		failed = 0;

	for (size_t i = 0; i < count; i++)
	{
		if (!run_test(&tests[i]))
			failed++;
	}
	printf("%s: %zu passed, %zu failed\n", name, count - failed, failed);
	return (failed == 0 && count > 0) ? EXIT_SUCCESS : EXIT_FAILURE;
}
