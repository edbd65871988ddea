/*
 * faults.h
 *		The words "sb-<fault>" and "sb-<fault>-<n>" by which a request asks for
 *		a fault.  README.md describes each of them.
 */
#ifndef SB_FAULTS_H
#define SB_FAULTS_H

#include <stdbool.h>

typedef enum SbFaultKind
{
	SB_FAULT_NONE,
	SB_FAULT_MISSPELT,			/* "sb-" and an unknown name */

	/* answers other than 200 */
	SB_FAULT_UNKNOWN,
	SB_FAULT_GATHERING,
	SB_FAULT_STATUS,
	SB_FAULT_ONCE,
	SB_FAULT_DETAIL_VERIFICATION,
	SB_FAULT_TOOLITTLE,
	SB_FAULT_INVALID,
	SB_FAULT_RETRYAFTER,
	SB_FAULT_RETRYDATE,
	SB_FAULT_REDIRECT,

	/* delivery of the answer */
	SB_FAULT_HANG,
	SB_FAULT_CUT_BEFORE,
	SB_FAULT_CUT_LOST,
	SB_FAULT_CUT_DURING,
	SB_FAULT_CUT_AFTER,
	SB_FAULT_TRUNCATED,
	SB_FAULT_DRIP,

	/* content of a 200 */
	SB_FAULT_OVERSIZED,
	SB_FAULT_BADJSON,
	SB_FAULT_NOTOBJECT,
	SB_FAULT_EMPTY,
	SB_FAULT_NOID,
	SB_FAULT_DETAIL200,
	SB_FAULT_BADUTF8,
	SB_FAULT_NUL,
	SB_FAULT_SURROGATE,
	SB_FAULT_HUGEINT,
	SB_FAULT_NEWKEYS,
	SB_FAULT_NULLS,
	SB_FAULT_MINIMAL,
	SB_FAULT_UNICODE,
	SB_FAULT_LATIN1,
	SB_FAULT_HTML,
	SB_FAULT_DEEP,
	SB_FAULT_BADCREDITS,

	/* result of a reveal */
	SB_FAULT_NOTREVEALED,
} SbFaultKind;

typedef struct SbFault
{
	bool		named;			/* true if the text names a fault */
	SbFaultKind kind;
	int			n;				/* its number, or the default of its kind */
	int			latency_ms;		/* sb-latency-<ms>, which goes with any kind */
} SbFault;

/* The fault that "text" names. */
extern SbFault sb_fault_parse(const char *text);

#endif							/* SB_FAULTS_H */
