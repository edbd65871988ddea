/*
 * at_commit.h
 *		What modules have to do when a transaction ends.
 */
#ifndef OE_AT_COMMIT_H
#define OE_AT_COMMIT_H

/* One module's part in the end of each transaction; NULL: nothing to do. */
typedef struct OeAtCommit
{
	/*
	 * Called in the transaction, while it can still fail.  "prepared" is true
	 * for PREPARE TRANSACTION.
	 */
	void		(*before) (bool prepared);

	/*
	 * Called once it is over, and not allowed to fail.  "committed" is false
	 * after an abort, after PREPARE, and in a parallel worker.
	 */
	void		(*after) (bool committed);

	/* Called when a subtransaction has committed into "parent", or aborted. */
	void		(*after_sub) (SubTransactionId sub, SubTransactionId parent,
							  bool committed);

	/* Private; zero at first. */
	bool		registered;
	struct OeAtCommit *next;
} OeAtCommit;

/* Register a module, for as long as this process lives; again is harmless. */
extern void oe_at_commit(OeAtCommit *module);

#endif							/* OE_AT_COMMIT_H */
