/*
 * error.c
 *		Fill and free the errors of the core; see error.h.
 *
 * Running out of memory here loses a text, never the code: callers may rely on
 * the code alone.
 */
#include "core/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *format_text(const char *format, va_list args)
			__attribute__((format(printf, 1, 0)));
static void replace_text(char **place, const char *format, va_list args)
			__attribute__((format(printf, 2, 0)));

/* The formatted text, malloc'd, or NULL. */
static char *
format_text(const char *format, va_list args)
{
	va_list		measured;
	int			len;
	char	   *text;

	va_copy(measured, args);
	len = vsnprintf(NULL, 0, format, measured);
	va_end(measured);
	if (len < 0)
		return NULL;

	text = malloc((size_t) len + 1);
	if (text != NULL)
		(void) vsnprintf(text, (size_t) len + 1, format, args); /* it fits */
	return text;
}

void
oe_error_set(OeError *error, OeCode code, const char *format,...)
{
	va_list		args;
	char	   *message;

	/* An argument may be one of the old texts, so free these last. */
	va_start(args, format);
	message = format_text(format, args);
	va_end(args);

	oe_error_free(error);
	error->code = code;
	error->message = message;
}

/* Store a new text in "place", which belongs to an error. */
static void
replace_text(char **place, const char *format, va_list args)
{
	char	   *text = format_text(format, args);

	free(*place);
	*place = text;
}

void
oe_error_detail(OeError *error, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	replace_text(&error->detail, format, args);
	va_end(args);
}

void
oe_error_hint(OeError *error, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	replace_text(&error->hint, format, args);
	va_end(args);
}

void
oe_error_free(OeError *error)
{
	free(error->message);
	free(error->detail);
	free(error->hint);
	memset(error, 0, sizeof(*error));
}
