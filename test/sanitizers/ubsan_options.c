/*
 * ubsan_options.c
 *		The options of the undefined behaviour sanitizer, for LD_PRELOAD.
 *
 * It reads UBSAN_OPTIONS when it has something to tell for the first time.  By then
 * PostgreSQL has put the process title where the environment was.
 */

extern const char *__ubsan_default_options(void);

const char *
__ubsan_default_options(void)
{
	return "print_stacktrace=1:abort_on_error=1";
}
