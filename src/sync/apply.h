/*
 * apply.h
 *		Code shared by the parts of the applier: a sync's state, its
 *		transactions, and whose rights their statements run with.
 *
 * All user-defined code - expressions, triggers, policies, types - runs
 * between oe_apply_as_owner() and oe_apply_no_longer_as_owner() and nowhere
 * else, with the rights of the table's owner, in a security-restricted
 * operation.  Our own tables are read and written with the rights of the
 * extension's owner.
 */
#ifndef OE_APPLY_H
#define OE_APPLY_H

#include "datatype/timestamp.h"
#include "utils/elog.h"

#include "base/rights.h"
#include "base/statement.h"
#include "shared/request_body.h"
#include "sync/definition.h"

/* Maximum number of rows in a batch. */
#define OE_APPLY_BATCH_MAX		500

/* How long to pause a sync after a lock conflict. */
#define OE_APPLY_BUSY_WAIT_MS	200

/* Maximum time that a statement waits for a lock. */
#define OE_APPLY_LOCK_MAX		"500ms"

/* State of one sync, kept between its turns. */
typedef struct OeSyncState
{
	int64		id;				/* key */
	uint64		seen;			/* last round in which it was active */
	int			batch;
	TimestampTz not_before;
	TimestampTz swept_at;
	bool		has_queued;		/* true if it has calls in the queue */
	Datum		after_key;		/* position of the scan of changed rows */
	int64		after_settled;	/* position of the scan of settled calls */
	bool		alone;			/* true if the batch was one row: */
	Datum		key;
	int64		settled;		/* 0: none */
} OeSyncState;

/* The rows of a batch, by their keys. */
typedef struct OeBatch
{
	int			count;
	Datum	   *keys;			/* text[] each */
} OeBatch;

/* The evaluated request of a row. */
typedef struct OeFound
{
	bool		there;
	bool		wanted;			/* true if it asks for something: */
	OeBody		request;
	const char *problem;		/* why the request is invalid, or NULL */
	int			sqlstate;		/* of the problem */
} OeFound;

/* The first holds the states of syncs; the second is reset with each round. */
extern MemoryContext oe_apply_mcxt;
extern MemoryContext oe_apply_turn_mcxt;

/*
 * Begin a transaction with SPI connected; false if the extension was dropped.
 * Memory allocated until the commit is freed with it.
 */
extern bool oe_apply_begin(void);
extern void oe_apply_commit(void);

/* Abort the transaction after an error, and return the error. */
extern ErrorData *oe_apply_undo(void);

/* For statements on our own tables; ended by oe_rights_restore(). */
extern void oe_apply_as_extension(OeRights *before);

/* For user-defined code, which is subject to a timeout. */
extern void oe_apply_as_owner(const OeSync *sync, OeRights *before);
extern void oe_apply_no_longer_as_owner(const OeRights *before);

/* SIGTERM handler; does not wait for users' code. */
extern void oe_apply_handle_shutdown(SIGNAL_ARGS);

/*
 * Load and lock the definition and its relation.  Returns false if the sync
 * cannot be processed now.
 */
extern bool oe_apply_load(OeSyncState *state, OeSync *sync);

/* Disable the sync, and record the reason. */
extern void oe_apply_stop(int64 id, const char *name, int sqlstate,
						  const char *problem);

/* Postpone the sync after a conflict, so that the others have their turn. */
extern void oe_apply_put_off(OeSyncState *state, int wait_ms);

/* Remember the row to blame for a failure, if the batch is one row. */
extern void oe_apply_remember(OeSyncState *state, int count, Datum key, int64 settled);

/*
 * Run one of the statements of sync/definition.h for the batch; "answers" is
 * an array of jsonb, or 0.  Returns the number of result rows.
 */
extern uint64 oe_apply_run(const char *sql, const OeSync *sync,
						   const OeBatch *batch, Datum answers);

/* Which keys of the batch have their numbers in the result? */
extern bool *oe_apply_numbers_found(const OeBatch *batch, uint64 count);

/*
 * Evaluate and check the requests of the batch's rows; with "lock" the rows
 * are locked.  This is done twice for a row: before its request is queued, and
 * before the answer is written, since its request may have changed by then.
 */
extern OeFound *oe_apply_evaluate(const OeSync *sync, const OeBatch *batch,
								  bool lock);

/*
 * True if the row's request has this fingerprint.  Neither 0 nor an erased
 * fingerprint matches any request.
 */
extern bool oe_apply_asks_for(const OeFound *found, Datum fingerprint);

/* Compare the name of a state; NULL matches none. */
extern bool oe_apply_is(const char *state, const char *name);

#endif							/* OE_APPLY_H */
