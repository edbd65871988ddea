/*
 * enqueue.h
 *		Put calls into the queue, and take them out.
 *
 * All of it is part of the caller's transaction; the worker is notified once,
 * when that commits.  Calls of another role are out of reach, unless the
 * current one is a member of it or of the ledger's owner: 42501.
 */
#ifndef OE_ENQUEUE_H
#define OE_ENQUEUE_H

#include "datatype/timestamp.h"

#include "base/rights.h"
#include "shared/request_body.h"

/*
 * The endpoint of that name; NULL: the default one.  Raises an error if there
 * is none, or if its calls cannot be queued.
 */
extern const OeEndpoint *oe_queue_endpoint(const char *name);

/*
 * Queue "request"; returns its call_id.  "not_before" may be past.  "sync_id"
 * is the requesting sync, or 0.
 */
extern int64 oe_submit(const OeBody *request, int32 priority,
					   TimestampTz not_before, int64 sync_id);

/* Cancel a queued call; false if it is not queued, or was sent. */
extern bool oe_cancel(int64 call_id);

/*
 * Likewise for syncs, without checking the calls' roles: an array of call_ids;
 * and all calls of a sync whose rows are to be looked at again.
 */
extern void oe_cancel_calls(Datum call_ids);
extern void oe_cancel_sync(int64 sync_id);

/* Requeue a refused, failed or cancelled call; false if it was not. */
extern bool oe_retry(int64 call_id);

/*
 * For other statements on queued calls: begin a scope with the rights of the
 * ledger's owner, returned in "owner"; oe_rights_restore() ends it.  And raise
 * an error unless "user" may see a call of the role "name".
 */
extern void oe_queue_begin(OeRights *rights, Oid *owner);
extern void oe_queue_check_role(int64 call_id, const char *name, Oid user,
								Oid owner);

/* Make the worker recheck the whole queue, and decisions, after the commit. */
extern void oe_wake(void);

/* Make the worker end the pauses of all accounts after the commit. */
extern void oe_end_pauses(void);

#endif							/* OE_ENQUEUE_H */
