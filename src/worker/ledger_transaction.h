/*
 * ledger_transaction.h
 *		A transaction of the worker's in the ledger, and what it does to the
 *		queue: sessions that look at the queue or listen learn of it with the commit.
 */
#ifndef OE_TRANSACTION_H
#define OE_TRANSACTION_H

#include "nodes/pg_list.h"

#include "shared/ledger.h"
#include "worker/queue_cursor.h"

/* How soon to try again while somebody holds a lock on the ledger or a row. */
#define OE_LEDGER_BUSY_RETRY_MS	20

typedef enum OeLedgerEnd
{
	OE_LEDGER_COMMITTED,
	OE_LEDGER_IS_BUSY,			/* somebody holds a lock: try again */
	OE_LEDGER_IS_GONE,			/* the extension was dropped */
	OE_LEDGER_HAS_FAILED,		/* "reason" says why */
} OeLedgerEnd;

/* False: it is left alone for the rest of the turn. */
static inline bool
oe_ledger_is_usable(OeLedgerEnd end)
{
	return end != OE_LEDGER_IS_BUSY && end != OE_LEDGER_IS_GONE;
}

typedef struct OeTransaction
{
	OeLedgerEnd end;
	XLogRecPtr	lsn;			/* if it is committed: up to here */
	char	   *reason;			/* if it has failed; in the turn's memory */

	/* While it runs: what it does to the queue. */
	OeTally		tally;
	List	   *settled;		/* calls that have ended; int64 pointers */
} OeTransaction;

/* What happens in it.  May raise any error. */
typedef void (*OeWork) (OeTransaction *transaction, void *arg, TimestampTz now);

extern OeTransaction oe_transaction(OeWork work, void *arg, TimestampTz now);

/*
 * A call of the queue has ended in this transaction.  OE_LEDGER_SENT: an earlier
 * equal one answers it.
 */
extern void oe_transaction_settled(OeTransaction *transaction, int64 call_id,
								   OeLedgerState state, OeCredits cost);

/*
 * Between these, a cancel of the worker ends what it does in the ledger, which is
 * tried again later.  Everywhere else a cancel is ignored.
 */
extern void oe_transaction_allow_cancel(void);
extern void oe_transaction_ignore_cancel(void);

/* The worker's handler of SIGINT, which is also how lock_timeout ends a wait. */
extern void oe_transaction_handle_cancel(SIGNAL_ARGS);

#endif							/* OE_TRANSACTION_H */
