/*
 * wait.h
 *		ocean_enrich.wait(): until calls of the queue have come to an end.
 */
#ifndef OE_WAIT_H
#define OE_WAIT_H

#include "utils/array.h"
#include "utils/timestamp.h"

/*
 * Wait until all of these calls have come to an end, but no longer than
 * "timeout", if there is one; false: they have not.  25001 for calls of this
 * transaction, and in one that would not see the end.
 */
extern bool oe_wait(ArrayType *call_ids, Interval *timeout);

#endif							/* OE_WAIT_H */
