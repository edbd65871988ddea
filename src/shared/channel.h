/*
 * channel.h
 *		How a session hands a request to the worker of its database, and gets
 *		the result back: slots in shared memory, waking, starting the worker.
 *
 * The channel carries bytes and knows nothing of what they mean.  Needs no
 * shared_preload_libraries: whoever comes first makes the shared state.
 */
#ifndef OE_CHANNEL_H
#define OE_CHANNEL_H

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"

#include "shared/message.h"
#include "shared/queue_news.h"

/* Requests of one database that are waiting or running at once. */
#define OE_CHANNEL_SLOTS		2048

/* Of those, what early submits never take: see oe_channel_submit(). */
#define OE_CHANNEL_RESERVED		512

/* A request under way.  Belongs to the session until it is released. */
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
 * the end of the process at the latest; a caller that may be thrown out of
 * between has to cancel in PG_CATCH or the like.
 *
 * Errors: 25006 on a standby, 53200 when shared memory is full.
 */
extern OeTicket oe_channel_submit(const char *bytes, Size len, bool refusable);

/*
 * Have a worker serve what was submitted, though nobody waits for it yet.  When no
 * worker can be started, oe_channel_wait() will say so.
 */
extern void oe_channel_summon_worker(void);

/*
 * Wait for the result, starting a worker when there is none.  The commit that
 * recorded it is on disk then, and where the session's synchronous_commit says.
 * Gives palloc'd bytes and releases the ticket; NULL when the worker died: the
 * outcome is not known.  An error or a cancel leaves the ticket to the caller.
 *
 * Errors: 53000 when no worker could be started, 55000 when it would have another
 * library, 57014 and the like.
 */
extern char *oe_channel_wait(OeTicket ticket);

/* Is the result there already? */
extern bool oe_channel_is_done(OeTicket ticket);

/*
 * The result of a ticket that is done, where it lies; valid until the ticket is
 * released.  NULL when there is none.  It need not be on disk yet.
 */
extern const char *oe_channel_peek(OeTicket ticket);

/*
 * No longer interested.  What was not sent will not be sent; what was is
 * recorded all the same.
 */
extern void oe_channel_cancel(OeTicket ticket);

/*
 * The queue has changed: wakes the worker, or starts one.  Cannot fail, so it
 * may be called when a transaction is committed; oe_channel_attach() has to come
 * before, and may fail.
 */
extern void oe_channel_attach(void);
extern void oe_channel_announce(const OeQueueNews *news);

/* False: another version of the library has it, and attaching would fail. */
extern bool oe_channel_is_ours(void);

/*
 * How often calls of the queue were settled; and wait until that is another
 * number, but not before "earliest" and no longer than until "latest".  Starts a
 * worker if there is none; raises 55000 when it would have another library.
 */
extern uint64 oe_channel_settled(void);
extern void oe_channel_wait_settled(uint64 settled, TimestampTz earliest,
									TimestampTz latest);

/* How the queue is served; returns the worker's pid, 0: there is none. */
extern int	oe_channel_status(OeQueueStatus *status);

/*
 * The worker keeps budgets and spendings in memory.  Whoever has changed them
 * says so likewise: the worker is woken and reads them anew.
 */
extern void oe_channel_say_changed(void);

/*
 * The cost of what was revealed later was added to: the worker is not woken, as
 * that lets nobody go, and reads it before it sends something.
 */
extern void oe_channel_say_revealed(void);

/* What is under way in this database, for a view. */
typedef enum OeSlotState
{
	OE_SLOT_FREE,
	OE_SLOT_FILLING,			/* the session writes it */
	OE_SLOT_SUBMITTED,			/* not sent yet; both may take it */
	OE_SLOT_CANCELLED,			/* given up before it was sent; the worker
								 * frees */
	OE_SLOT_RUNNING,			/* sent, or about to be: the worker's */
	OE_SLOT_ABANDONED,			/* given up after it was sent; the worker
								 * frees */
	OE_SLOT_DONE,				/* the result is there; the session's */
} OeSlotState;

typedef struct OeSlotInfo
{
	OeSlotState state;
	int			pid;
	Oid			role;
	TimestampTz submitted_at;
	int64		call_id;		/* 0: not recorded yet */
} OeSlotInfo;

/* Fills at most "max" entries, returns how many. */
extern int	oe_channel_inspect(OeSlotInfo *infos, int max);

/* Does the worker still have this row of the ledger in hand for a session? */
extern bool oe_channel_has_call(int64 call_id);

/*
 * A piece of shared memory of "size" bytes for each process of the server, by
 * MyProcNumber.  All zeroes at first, and kept as long as the server runs.  Always
 * asked for with the same size.  NULL: there is no memory.
 */
extern void *oe_channel_per_process(Size size);

/* ---- the worker's side ---- */

/*
 * Become the worker of this database.  False when there is one already: then
 * leave.  Registers what has to happen when the process ends.
 */
extern bool oe_channel_serve(void);

/* How often oe_channel_say_changed() and oe_channel_say_revealed() were called. */
extern uint64 oe_channel_changes(void);
extern uint64 oe_channel_reveals(void);

/* Stop serving, unless something was submitted or announced meanwhile; false: go on. */
extern bool oe_channel_retire(void);

/*
 * Submitted requests, oldest first; each is returned once.  "slots" has room for
 * OE_CHANNEL_SLOTS.
 */
extern int	oe_channel_take(int *slots);

/* Ours, for others to see; written without a lock. */
extern OeQueueStatus *oe_channel_my_status(void);

/* Calls of the queue were settled, and that is committed. */
extern void oe_channel_announce_settled(void);

/*
 * Is there something in the queue?  Then the launcher keeps a worker here.
 */
extern void oe_channel_want_worker(bool wanted);

/* What was announced since the last time; false: nothing. */
extern bool oe_channel_take_news(OeQueueNews *news);

/* Was a taken one given up meanwhile?  Then it is freed and forgotten. */
extern bool oe_channel_drop_if_cancelled(int slot);

/* The bytes of a taken request; they stay until the slot is finished. */
extern const char *oe_channel_request(int slot, Size *len);

/* It is going to be sent.  False: it was cancelled, and is freed now. */
extern bool oe_channel_begin(int slot);

/* Its row in the ledger, before others can see that; 0: none. */
extern void oe_channel_set_call_id(int slot, int64 call_id);

/* Is somebody still waiting for it? */
extern bool oe_channel_is_wanted(int slot);

/*
 * Hand the result over and wake the session; "lsn" is the end of the commit
 * that recorded it.  Frees the slot when nobody waits any more.  For a slot
 * that is submitted or running.
 */
extern void oe_channel_finish(int slot, const char *bytes, Size len,
							  XLogRecPtr lsn);

/* Give a taken but unsent request, without a row, back, for the next worker. */
extern void oe_channel_give_back(int slot);

/* ---- the launcher's side ---- */

/* Be woken when a database has lost the worker that it wants. */
extern void oe_channel_launch(void);

/* Databases that want a worker and have none; at most "max", returns how many. */
extern int	oe_channel_orphaned(Oid *databases, int max);

/* The database is gone: it wants no worker any more. */
extern void oe_channel_forget_database(Oid database);

/*
 * Start a worker there that leaves at once if the queue is empty; false: no
 * slot is free.
 */
extern bool oe_channel_start_for_queue(Oid database);

/* ---- the applier of syncs, a process beside the worker ---- */

/*
 * Wake the applier of this database, or start one.  Never raises and never
 * waits, so it can be called once a transaction is committed; for that,
 * oe_channel_attach() has to come before.  Where no process can be started,
 * the next wake tries again.
 */
extern void oe_channel_wake_applier(void);

/* Become the applier of this database; false: there is one already. */
extern bool oe_channel_serve_applier(void);

/*
 * From now on a wake starts another one, so look for work once more: with
 * oe_channel_serve_applier() this one goes on.
 */
extern void oe_channel_leave_applier(void);

#endif							/* OE_CHANNEL_H */
