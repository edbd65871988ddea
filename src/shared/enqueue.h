/*
 * enqueue.h
 *		The queue: put calls in, take them out.
 *
 * All of it is part of the caller's transaction; the worker hears of it when
 * that commits, once.  What belongs to another role is out of reach, unless the
 * current one is a member of it or of the ledger's owner: 42501.
 */
#ifndef OE_ENQUEUE_H
#define OE_ENQUEUE_H

#include "datatype/timestamp.h"

#include "base/rights.h"
#include "shared/request_body.h"

/*
 * The endpoint of that name, NULL: the usual one.  Raises that there is none, or
 * that its calls cannot be queued.
 */
extern const OeEndpoint *oe_queue_endpoint(const char *name);

/*
 * Queue "request"; returns its call_id.  "not_before" may be past.  "sync_id" is
 * the sync that asks, or 0.
 */
extern int64 oe_submit(const OeBody *request, int32 priority,
					   TimestampTz not_before, int64 sync_id);

/* Take a call out of the queue; false: it is not there, or was sent. */
extern bool oe_cancel(int64 call_id);

/*
 * Likewise, for syncs and without looking whose they are: an array of
 * numbers; all those of a sync, whose rows are to be looked at again.
 */
extern void oe_cancel_calls(Datum call_ids);
extern void oe_cancel_sync(int64 sync_id);

/* Put a call that was refused, failed or cancelled back; false: it was not. */
extern bool oe_retry(int64 call_id);

/*
 * For other statements on queued calls: begin a scope with the rights of the
 * ledger's owner, whom "owner" gives; oe_rights_restore() ends it.  And raise an error
 * unless "user" may see a call of the role "name".
 */
extern void oe_queue_begin(OeRights *rights, Oid *owner);
extern void oe_queue_check_role(int64 call_id, const char *name, Oid user,
								Oid owner);

/* The worker looks at the whole queue, and at decisions, after the commit. */
extern void oe_wake(void);

#endif							/* OE_ENQUEUE_H */
