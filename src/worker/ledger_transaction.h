/*
 * ledger_transaction.h
 *		A transaction of the worker's in the ledger, and what it does to the
 *		queue: those who look at it or listen are told in the same commit.
 */
#ifndef OE_TRANSACTION_H
#define OE_TRANSACTION_H

#include <signal.h>

#include "shared/ledger.h"
#include "worker/queue_cursor.h"

/* How often to look again while somebody holds a lock on the ledger or a row. */
#define OE_LEDGER_BUSY_RETRY_MS	20

/* What happens in it.  May raise any error. */
typedef void (*OeWork) (void *arg, TimestampTz now);

/*
 * NULL: committed up to *lsn, or else oe_ledger_access says why it was not begun.
 * Otherwise the reason why it failed, in the turn's memory.
 */
extern char *oe_transaction(OeWork work, void *arg, TimestampTz now,
							XLogRecPtr *lsn);

/* How the last transaction found the ledger. */
extern OeLedgerAccess oe_ledger_access;

/* What the transaction does to the queue. */
extern OeTally oe_transaction_tally;

/*
 * One call of the queue has come to its end in this transaction.
 * OE_LEDGER_SENT: an earlier equal one answers it.
 */
extern void oe_transaction_settled(int64 call_id, OeLedgerState state,
								   OeCredits cost);

/* While it is true, a cancel ends what is done in the ledger, to be tried again. */
extern volatile sig_atomic_t oe_may_be_cancelled;

#endif							/* OE_TRANSACTION_H */
