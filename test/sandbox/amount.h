/*
 * amount.h
 *		Exact credits: integers, in millionths of a credit.
 */
#ifndef SB_AMOUNT_H
#define SB_AMOUNT_H

#include <stdbool.h>
#include <stdint.h>

typedef int64_t SbAmount;

#define SB_AMOUNT_ONE		INT64_C(1000000)
#define SB_AMOUNT_MAX		(INT64_C(1000000000) * SB_AMOUNT_ONE)
#define SB_AMOUNT_CHARS		32	/* room for any amount as text */

/*
 * Parse plain decimal text such as "3" or "0.1": no sign, at most six digits
 * after the point, up to SB_AMOUNT_MAX.  False if it is anything else.
 */
extern bool sb_amount_parse(const char *text, SbAmount *amount);

/* Write "amount" as the shortest decimal text. */
extern void sb_amount_format(SbAmount amount, char text[SB_AMOUNT_CHARS]);

#endif							/* SB_AMOUNT_H */
