/*
 * ledger_transaction.h
 *		A transaction of the worker in the ledger, and its changes of the
 *		queue, which sessions see, and are notified of, at its commit.
 */
#ifndef OE_TRANSACTION_H
#define OE_TRANSACTION_H

#include "nodes/pg_list.h"

#include "shared/ledger.h"
#include "worker/queue_cursor.h"

/* How soon to retry while the ledger or a row is locked. */
#define OE_LEDGER_BUSY_RETRY_MS	20

typedef enum OeLedgerEnd
{
	OE_LEDGER_COMMITTED,
	OE_LEDGER_IS_BUSY,			/* locked: try again */
	OE_LEDGER_IS_GONE,			/* the extension was dropped */
	OE_LEDGER_HAS_FAILED,		/* "reason" says why */
} OeLedgerEnd;

/* False: leave the ledger alone for the rest of the turn. */
static inline bool
oe_ledger_is_usable(OeLedgerEnd end)
{
	return end != OE_LEDGER_IS_BUSY && end != OE_LEDGER_IS_GONE;
}

typedef struct OeTransaction
{
	OeLedgerEnd end;
	XLogRecPtr	lsn;			/* end of the commit record, if committed */
	char	   *reason;			/* if it has failed; in the turn's memory */

	/* Changes of the queue, collected while it runs. */
	OeTally		tally;
	List	   *settled;		/* calls that have ended; int64 pointers */
} OeTransaction;

/* The work to do in a transaction.  May raise any error. */
typedef void (*OeWork) (OeTransaction *transaction, void *arg, TimestampTz now);

extern OeTransaction oe_transaction(OeWork work, void *arg, TimestampTz now);

/*
 * Note that a queued call has ended in this transaction.  OE_LEDGER_SENT: an
 * earlier equal call answers it.
 */
extern void oe_transaction_settled(OeTransaction *transaction, int64 call_id,
								   OeLedgerState state, OeCredits cost);

/*
 * Between these two, a cancel ends the worker's transaction, which is tried
 * again later.  Everywhere else, a cancel is ignored.
 */
extern void oe_transaction_allow_cancel(void);
extern void oe_transaction_ignore_cancel(void);

/* The worker's SIGINT handler; lock_timeout ends a wait by SIGINT, too. */
extern void oe_transaction_handle_cancel(SIGNAL_ARGS);

#endif							/* OE_TRANSACTION_H */
