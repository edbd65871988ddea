/*
 * amount.c
 *		Converts credits between decimal text and millionths.
 */
#include "amount.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool
sb_amount_parse(const char *text, SbAmount *amount)
{
	SbAmount	value = 0;
	SbAmount	unit = SB_AMOUNT_ONE;
	bool		after_point = false;
	const char *c;

	if (!isdigit((unsigned char) text[0]))
		return false;
	for (c = text; *c != '\0'; c++)
	{
		if (*c == '.' && !after_point)
		{
			after_point = true;
			continue;
		}
		if (!isdigit((unsigned char) *c))
			return false;
		if (after_point)
			unit /= 10;
		if (unit == 0)
			return false;
		/* Before the point, earlier digits move up by one place. */
		value = (after_point ? value : value * 10) + (*c - '0') * unit;
		if (value > SB_AMOUNT_MAX)
			return false;
	}
	*amount = value;
	return true;
}

void
sb_amount_format(SbAmount amount, char text[SB_AMOUNT_CHARS])
{
	char	   *end;

	(void) snprintf(text, SB_AMOUNT_CHARS, "%" PRId64 ".%06" PRId64,
					amount / SB_AMOUNT_ONE, amount % SB_AMOUNT_ONE);
	end = text + strlen(text) - 1;
	while (*end == '0')
		*end-- = '\0';
	if (*end == '.')
		*end = '\0';
}
