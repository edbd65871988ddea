/*
 * wait.h
 *		ocean_enrich.wait(): wait until calls of the queue have ended.
 */
#ifndef OE_WAIT_H
#define OE_WAIT_H

#include "utils/array.h"
#include "utils/timestamp.h"

/*
 * Wait until all of these calls have ended, or until "timeout", if any, has
 * passed; false in that case.  Raises 25001 for calls submitted by this
 * transaction, and in a transaction that could not see the calls end.
 */
extern bool oe_wait(ArrayType *call_ids, Interval *timeout);

#endif							/* OE_WAIT_H */
