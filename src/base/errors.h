/*
 * errors.h
 *		Our SQLSTATEs, and the one place where an error of the core becomes an
 *		ereport.
 */
#ifndef OE_ERRORS_H
#define OE_ERRORS_H

#include "core/error.h"
#include "base/compat.h"

/*
 * Class OE: errors of the API, of the network or of our own limits.  The
 * digits are those of the HTTP status, or of the closest one.
 *
 *		OE201	come back later
 *		OE400	400 or another 4xx, or there is nothing to ask for
 *		OE402	no credits left, or our credit limit
 *		OE403	401 or 403
 *		OE404	no such person
 *		OE422	the API refuses the body
 *		OE429	the API's rate limit, or our own or that of the day
 *		OE500	5xx
 *		OE502	not what the API promises
 *		OE504	sent, and may have been paid
 */
#define ERRCODE_OE_GATHERING		MAKE_SQLSTATE('O','E','2','0','1')
#define ERRCODE_OE_BAD_REQUEST		MAKE_SQLSTATE('O','E','4','0','0')
#define ERRCODE_OE_CREDITS			MAKE_SQLSTATE('O','E','4','0','2')
#define ERRCODE_OE_FORBIDDEN		MAKE_SQLSTATE('O','E','4','0','3')
#define ERRCODE_OE_NOT_FOUND		MAKE_SQLSTATE('O','E','4','0','4')
#define ERRCODE_OE_INVALID			MAKE_SQLSTATE('O','E','4','2','2')
#define ERRCODE_OE_RATE_LIMIT		MAKE_SQLSTATE('O','E','4','2','9')
#define ERRCODE_OE_API_FAILED		MAKE_SQLSTATE('O','E','5','0','0')
#define ERRCODE_OE_BAD_ANSWER		MAKE_SQLSTATE('O','E','5','0','2')
#define ERRCODE_OE_OUTCOME_UNKNOWN	MAKE_SQLSTATE('O','E','5','0','4')

/* The SQLSTATE of a core error, packed as errcode() takes it. */
extern int	oe_sqlstate(OeCode code);

/*
 * Raise "error" at "elevel" and free it.  Its texts must be in the server's
 * encoding, or pure ASCII.  Returns only if elevel < ERROR.
 */
extern void oe_ereport(int elevel, OeError *error);

/*
 * Raise 25006 if "name", a function of ours, cannot write: on a standby or,
 * for the second one, also in a read-only transaction.
 */
extern void oe_prevent_on_standby(const char *name);
extern void oe_prevent_if_read_only(const char *name);

/* Raise the error for a malloc() that failed in the core. */
pg_noreturn extern void oe_ereport_out_of_memory(void);

#endif							/* OE_ERRORS_H */
