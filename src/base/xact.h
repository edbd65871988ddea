/*
 * xact.h
 *		What our callbacks ask about the end of a transaction.
 */
#ifndef OE_XACT_H
#define OE_XACT_H

#include "access/xact.h"

/* Is it over, however it ended?  A parallel worker's part counts, too. */
static inline bool
oe_xact_is_over(XactEvent event)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PREPARE:
			return true;
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
			break;
	}
	return false;
}

#endif							/* OE_XACT_H */
