/*
 * at_commit.h
 *		Module callbacks at the end of a transaction.
 */
#ifndef OE_AT_COMMIT_H
#define OE_AT_COMMIT_H

/* A module's callbacks at the end of each transaction; NULL if not needed. */
typedef struct OeAtCommit
{
	/*
	 * Called in the transaction, while it can still fail.  "prepared" is true
	 * for PREPARE TRANSACTION.
	 */
	void		(*before) (bool prepared);

	/*
	 * Called after the end of the transaction; must not fail.  "committed" is
	 * false after an abort, after PREPARE, and in a parallel worker.
	 */
	void		(*after) (bool committed);

	/* Called after a subtransaction committed into "parent", or aborted. */
	void		(*after_sub) (SubTransactionId sub, SubTransactionId parent,
							  bool committed);

	/* Private; initially zero. */
	bool		registered;
	struct OeAtCommit *next;
} OeAtCommit;

/* Register a module for the life of this process.  Idempotent. */
extern void oe_at_commit(OeAtCommit *module);

#endif							/* OE_AT_COMMIT_H */
