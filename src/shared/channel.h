/*
 * channel.h
 *		How a session hands a request to the worker of its database, and gets
 *		the result back: slots in shared memory, waking, starting the worker.
 *
 * The channel carries bytes without interpreting them.  It does not need
 * shared_preload_libraries: the first process to attach creates the shared
 * state.
 */
#ifndef OE_CHANNEL_H
#define OE_CHANNEL_H

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"

#include "shared/message.h"
#include "shared/queue_news.h"

/* Requests of one database that may be waiting or running at once. */
#define OE_CHANNEL_SLOTS		2048

/* Of those, never taken by early submits: see oe_channel_submit(). */
#define OE_CHANNEL_RESERVED		512

/* A request under way.  Owned by the session until it is released. */
typedef int OeTicket;

#define OE_NO_TICKET	(-1)

/* ---- the session's side ---- */

/*
 * Hand "len" bytes to the worker.  A refusable submit returns OE_NO_TICKET
 * rather than wait, and never takes the last OE_CHANNEL_RESERVED slots: a
 * session that holds finished results and waits for a row lock must not keep
 * the holder of that lock from its slot.  Any other submit waits for a slot.
 *
 * The ticket is released by oe_channel_wait() or oe_channel_cancel(), and at
 * process exit at the latest; a caller that may raise an error in between has
 * to cancel in PG_CATCH or the like.
 *
 * Errors: 25006 on a standby, 53200 when shared memory is full.
 */
extern OeTicket oe_channel_submit(const char *bytes, Size len, bool refusable);

/*
 * Have a worker serve submitted requests before anybody waits for them.  If no
 * worker can be started, oe_channel_wait() reports it.
 */
extern void oe_channel_summon_worker(void);

/*
 * Wait for the result, starting a worker if there is none.  By then the commit
 * that recorded the result is on disk, and on the standbys that the session's
 * synchronous_commit asks for.  Returns palloc'd bytes and releases the
 * ticket; NULL if the worker died, and the outcome is unknown.  After an error
 * or a cancel the caller still owns the ticket.
 *
 * Errors: 53000 if no worker could be started, 55000 if it would run another
 * version of the library, 57014 and the like.
 */
extern char *oe_channel_wait(OeTicket ticket);

/* Has the result arrived? */
extern bool oe_channel_is_done(OeTicket ticket);

/*
 * Return the result of a finished ticket in place; valid until the ticket is
 * released.  NULL if there is none.  It need not be on disk yet.
 */
extern const char *oe_channel_peek(OeTicket ticket);

/* Is the request on the wire, or about to be? */
extern bool oe_channel_is_running(OeTicket ticket);

/* Its row in the ledger; 0 as long as it has none. */
extern int64 oe_channel_call_id(OeTicket ticket);

/*
 * Give up a request.  An unsent one will not be sent, and true is returned; one that
 * was sent is still recorded.
 */
extern bool oe_channel_cancel(OeTicket ticket);

/*
 * Announce a change of the queue: wakes the worker, or starts one.  Cannot
 * fail, so it may be called after commit; oe_channel_attach(), which may fail,
 * has to be called before.
 */
extern void oe_channel_attach(void);
extern void oe_channel_announce(const OeQueueNews *news);

/* False if another version of the library owns it; attaching would fail. */
extern bool oe_channel_is_ours(void);

/*
 * How often calls of the queue were settled; and wait until that number
 * changes, but not before "earliest" and no longer than until "latest".
 * Starts a worker if there is none; raises 55000 if it would run another
 * version of the library.
 */
extern uint64 oe_channel_settled(void);
extern void oe_channel_wait_settled(uint64 settled, TimestampTz earliest,
									TimestampTz latest);

/* How the queue is served; returns the worker's pid, or 0 if there is none. */
extern int	oe_channel_status(OeQueueStatus *status);

/*
 * The worker caches budgets and spending.  Call this after changing them: it
 * wakes the worker, which then rereads them.
 */
extern void oe_channel_say_changed(void);

/*
 * Call this after adding to the cost of later reveals.  The worker is not
 * woken, as no request can go because of it; it rereads them before it sends
 * again.
 */
extern void oe_channel_say_revealed(void);

/* The requests under way in this database, for a view. */
typedef enum OeSlotState
{
	OE_SLOT_FREE,
	OE_SLOT_FILLING,			/* being written by the session */
	OE_SLOT_SUBMITTED,			/* not sent yet; either side may take it */
	OE_SLOT_CANCELLED,			/* given up before it was sent; the worker
								 * frees it */
	OE_SLOT_RUNNING,			/* sent, or about to be; owned by the worker */
	OE_SLOT_ABANDONED,			/* given up after it was sent; the worker
								 * frees it */
	OE_SLOT_DONE,				/* the result is there; owned by the session */
} OeSlotState;

typedef struct OeSlotInfo
{
	OeSlotState state;
	int			pid;
	Oid			role;
	TimestampTz submitted_at;
	int64		call_id;		/* 0: not recorded yet */
} OeSlotInfo;

/* Fill at most "max" entries, and return how many. */
extern int	oe_channel_inspect(OeSlotInfo *infos, int max);

/* Is the worker still processing this row of the ledger for a session? */
extern bool oe_channel_has_call(int64 call_id);

/*
 * Shared memory of "size" bytes for each process of the server, indexed by
 * MyProcNumber.  Initially zero, and kept as long as the server runs.  "size"
 * must be the same in all calls.  NULL if there is no memory.
 */
extern void *oe_channel_per_process(Size size);

/* ---- the worker's side ---- */

/*
 * Become the worker of this database.  False if there is one already: then
 * exit.  Registers the cleanup for the end of the process.
 */
extern bool oe_channel_serve(void);

/*
 * How often oe_channel_say_changed() and oe_channel_say_revealed() were
 * called.
 */
extern uint64 oe_channel_changes(void);
extern uint64 oe_channel_reveals(void);

/* Stop serving.  False if something was submitted or announced meanwhile. */
extern bool oe_channel_retire(void);

/*
 * Take submitted requests, oldest first; each is returned once.  "slots" has
 * room for OE_CHANNEL_SLOTS.
 */
extern int	oe_channel_take(int *slots);

/* Our status, for other processes to see; written without a lock. */
extern OeQueueStatus *oe_channel_my_status(void);

/* Announce that calls of the queue were settled, once that is committed. */
extern void oe_channel_announce_settled(void);

/*
 * Set whether the queue needs a worker.  If so, the launcher keeps one here.
 */
extern void oe_channel_want_worker(bool wanted);

/* Take the news announced since the last call; false if there is none. */
extern bool oe_channel_take_news(OeQueueNews *news);

/* If a taken request was cancelled meanwhile, free it and return true. */
extern bool oe_channel_drop_if_cancelled(int slot);

/* The bytes of a taken request; valid until the slot is finished. */
extern const char *oe_channel_request(int slot, Size *len);

/*
 * Mark a request as about to be sent.  False if it was cancelled, and freed.
 */
extern bool oe_channel_begin(int slot);

/* Set its row in the ledger, before others can see the row; 0: none. */
extern void oe_channel_set_call_id(int slot, int64 call_id);

/* Is a session still waiting for it? */
extern bool oe_channel_is_wanted(int slot);

/*
 * Hand the result over and wake the session; "lsn" is the end of the commit
 * that recorded it.  Frees the slot if no session waits any more.  For a
 * submitted or running slot.
 */
extern void oe_channel_finish(int slot, const char *bytes, Size len,
							  XLogRecPtr lsn);

/* Requeue a taken, unsent request without a row, for the next worker. */
extern void oe_channel_give_back(int slot);

/* ---- the launcher's side ---- */

/* Have this process woken when a database has lost the worker it wants. */
extern void oe_channel_launch(void);

/*
 * Databases that want a worker and have none; at most "max".  Returns how
 * many.
 */
extern int	oe_channel_orphaned(Oid *databases, int max);

/* Forget a dropped database: it no longer wants a worker. */
extern void oe_channel_forget_database(Oid database);

/*
 * Start a worker in a database; it exits at once if the queue is empty.  False
 * if no slot is free.
 */
extern bool oe_channel_start_for_queue(Oid database);

/* ---- the applier of syncs, a process beside the worker ---- */

/*
 * Wake the applier of this database, or start one.  Never raises an error and
 * never waits, so it can be called after commit; oe_channel_attach() has to be
 * called before.  If no process can be started, the next wake tries again.
 */
extern void oe_channel_wake_applier(void);

/* Become the applier of this database; false if there is one already. */
extern bool oe_channel_serve_applier(void);

/*
 * From now on a wake starts a new applier, so the caller has to look for work
 * once more.  To go on, it calls oe_channel_serve_applier().
 */
extern void oe_channel_leave_applier(void);

#endif							/* OE_CHANNEL_H */
