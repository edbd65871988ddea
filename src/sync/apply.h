/*
 * apply.h
 *		What the parts of the applier have in common: a sync's state, its
 *		transactions, and whose rights a statement in them runs with.
 *
 * All that users have defined - expressions, triggers, policies, types - runs
 * between oe_apply_as_owner() and oe_apply_no_longer_as_owner() and nowhere else,
 * with the rights of the table's owner, in a security-restricted operation.  Our
 * own tables are read and written with the rights of the extension's owner.
 */
#ifndef OE_APPLY_H
#define OE_APPLY_H

#include "datatype/timestamp.h"
#include "utils/elog.h"

#include "base/rights.h"
#include "base/statement.h"
#include "shared/request_body.h"
#include "sync/definition.h"

/* Rows of one batch. */
#define OE_APPLY_BATCH_MAX		500

/* How long to leave a sync alone after somebody was in its way. */
#define OE_APPLY_BUSY_WAIT_MS	200

/* No statement waits longer than that for a lock. */
#define OE_APPLY_LOCK_MAX		"500ms"

/* What one sync needs between its turns. */
typedef struct OeSyncState
{
	int64		id;				/* key */
	uint64		seen;			/* in which round it was active */
	int			batch;
	TimestampTz not_before;
	TimestampTz swept_at;
	bool		has_queued;		/* true if it has calls in the queue */
	Datum		after_key;		/* where the walk over changed rows is */
	int64		after_settled;	/* where that over settled calls is */
	bool		alone;			/* the batch was one row: */
	Datum		key;
	int64		settled;		/* 0: none */
	OeStatement evaluate;
	OeStatement lock;
	OeStatement exist;
	OeStatement write;
} OeSyncState;

/* Rows of one batch by their keys. */
typedef struct OeBatch
{
	int			count;
	Datum	   *keys;			/* text[] each */
} OeBatch;

/* What was found of a row. */
typedef struct OeFound
{
	bool		there;
	bool		wanted;			/* it asks for something: */
	OeBody		request;
	const char *problem;		/* why the API would not take that, or NULL */
	int			sqlstate;		/* of the problem */
} OeFound;

/* States of syncs live in the first; the second is reset with each round. */
extern MemoryContext oe_apply_mcxt;
extern MemoryContext oe_apply_turn_mcxt;

/*
 * A transaction with SPI connected.  False: the extension is gone.  Everything
 * that is allocated until the commit goes with it.
 */
extern bool oe_apply_begin(void);
extern void oe_apply_commit(void);

/* After an error: what it was, and everything is undone. */
extern ErrorData *oe_apply_undo(void);

/* For statements on our own tables; oe_rights_restore() ends it. */
extern void oe_apply_as_extension(OeRights *before);

/* For what users have defined; it is ended when it takes too long. */
extern void oe_apply_as_owner(const OeSync *sync, OeRights *before);
extern void oe_apply_no_longer_as_owner(const OeRights *before);

/* SIGTERM: a user's code is not waited for. */
extern void oe_apply_handle_shutdown(SIGNAL_ARGS);

/*
 * The definition, locked, and the relation with it.  False: there is nothing to
 * do for it now.
 */
extern bool oe_apply_load(OeSyncState *state, OeSync *sync);

/* Disable the sync, and say why. */
extern void oe_apply_stop(int64 id, const char *name, int sqlstate,
						  const char *problem);

/* Somebody is in the way: let the others have their turn. */
extern void oe_apply_put_off(OeSyncState *state, int wait_ms);

/* Which row a failure is the fault of, if the batch is one row. */
extern void oe_apply_remember(OeSyncState *state, int count, Datum key, int64 settled);

/*
 * One of the statements of sync_definition.h for the batch; "answers" is an array
 * of jsonb, or 0.  Returns how many rows it gave.
 */
extern uint64 oe_apply_run(OeStatement *statement, const char *sql,
						   const OeSync *sync, const OeBatch *batch,
						   Datum answers);

/* Which of the batch are numbers in the result? */
extern bool *oe_apply_numbers_found(const OeBatch *batch, uint64 count);

/*
 * The requests that the rows of the batch ask for now, checked; with "lock" the rows
 * are locked.  That is done twice for a row: before its request is queued, and when
 * the answer is about to be written, since by then it may ask for something else.
 */
extern OeFound *oe_apply_evaluate(OeSyncState *state, const OeSync *sync,
								  const OeBatch *batch, bool lock);

/* The plans of the sync's own statements. */
extern void oe_apply_forget_statements(OeSyncState *state);

/*
 * True if that is the fingerprint of what the row asks for.  0 and an erased one
 * are of no request.
 */
extern bool oe_apply_asks_for(const OeFound *found, Datum fingerprint);

/* A state's name; NULL is none. */
extern bool oe_apply_is(const char *state, const char *name);

#endif							/* OE_APPLY_H */
