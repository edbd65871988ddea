/*
 * ubsan_options.c
 *		The options of the undefined behaviour sanitizer, for LD_PRELOAD.
 *
 * The sanitizer reads UBSAN_OPTIONS at its first report.  By then PostgreSQL has
 * overwritten the environment with the process title.
 */

extern const char *__ubsan_default_options(void);

const char *
__ubsan_default_options(void)
{
	return "print_stacktrace=1:abort_on_error=1";
}
