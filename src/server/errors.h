/*
 * errors.h
 *		Our SQLSTATEs, and the one place where an error of the core becomes an
 *		ereport.
 */
#ifndef OE_ERRORS_H
#define OE_ERRORS_H

#include "core/error.h"

/* Class OE: what the API, the network or our own limits say. */
#define ERRCODE_OE_GATHERING		MAKE_SQLSTATE('O','E','2','0','1')	/* 201: come back later */
#define ERRCODE_OE_BAD_REQUEST		MAKE_SQLSTATE('O','E','4','0','0')	/* 400, other 4xx, empty person */
#define ERRCODE_OE_CREDITS			MAKE_SQLSTATE('O','E','4','0','2')	/* 402, or our credit limit */
#define ERRCODE_OE_FORBIDDEN		MAKE_SQLSTATE('O','E','4','0','3')	/* 401, 403 */
#define ERRCODE_OE_NOT_FOUND		MAKE_SQLSTATE('O','E','4','0','4')	/* 404: no such person */
#define ERRCODE_OE_INVALID			MAKE_SQLSTATE('O','E','4','2','2')	/* 422: the API refuses the body */
#define ERRCODE_OE_RATE_LIMIT		MAKE_SQLSTATE('O','E','4','2','9')	/* 429, or our rate or day limit */
#define ERRCODE_OE_API_FAILED		MAKE_SQLSTATE('O','E','5','0','0')	/* 5xx */
#define ERRCODE_OE_BAD_ANSWER		MAKE_SQLSTATE('O','E','5','0','2')	/* not what the API promises */
#define ERRCODE_OE_OUTCOME_UNKNOWN	MAKE_SQLSTATE('O','E','5','0','4')	/* sent, may have been paid */

/* The SQLSTATE of a core error, packed as errcode() takes it. */
extern int	oe_sqlstate(OeCode code);

/*
 * Raise "error" at "elevel" and free it.  Its texts are taken as they are: in
 * the server's encoding, or pure ASCII.  Returns only if elevel < ERROR.
 */
extern void oe_ereport(int elevel, OeError *error);

/* What malloc() did not give to the core. */
extern void oe_ereport_out_of_memory(void) pg_attribute_noreturn();

#endif							/* OE_ERRORS_H */
