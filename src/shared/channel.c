/*
 * channel.c
 *		Slots in shared memory between the sessions and the worker.
 *
 * A control struct of fixed size, created by the first process that attaches,
 * leads to a DSA area.  The area has one hub per database, with its slots;
 * bodies and results are allocated beside it while they travel.
 *
 * Every change of a slot's state is a compare-and-swap.  The loser re-reads and
 * follows the new state, so exactly one side frees:
 *
 *	FREE -> FILLING			session takes it
 *	FILLING -> SUBMITTED	session pushed it and woke the worker
 *	SUBMITTED -> RUNNING	worker sends it
 *	SUBMITTED -> CANCELLED	session gave up, nothing was sent; worker frees
 *	SUBMITTED -> DONE		worker answers from the ledger, or refuses
 *	RUNNING -> DONE			result is there; session frees
 *	RUNNING -> ABANDONED	session gave up; worker records, then frees
 *
 * Processes are woken by PGPROC number: a latch lives as long as shared memory
 * does, and a spurious wakeup is harmless because every wait rechecks its
 * condition.
 *
 * A session that finds no worker starts one (NONE -> STARTING), which
 * announces itself (STARTING -> RUNNING).  To leave, the worker first goes
 * back to NONE and then looks for requests, while a session first pushes its
 * request and then looks for a worker: so one of the two always sees the
 * other.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "replication/syncrep.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/dsa.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/client.h"
#include "base/compat.h"
#include "shared/channel.h"
#include "shared/library_version.h"

/*
 * The name and the size must be the same in every version.  Otherwise
 * PostgreSQL would refuse another library before it could read whose memory
 * this is.
 */
#define CONTROL_NAME	"ocean_enrich"
#define CONTROL_BYTES	1024

/*
 * Change this when shared data changes its meaning, but neither Control nor
 * Hub its size.  That includes messages and the per-process memory.
 */
#define SHARED_LAYOUT	0x0CEA0001

/* Ceiling of the area: slots, and bodies in transit. */
#define AREA_MAX_BYTES	((Size) 512 * 1024 * 1024)

/* How many workers may exit during one wait before it gives up. */
#define WORKER_STARTS_MAX	3

/*
 * How often to recheck for settled calls unasked: a worker may die, and so may
 * the client.
 */
#define SETTLED_LOOK_MS		1000

/* How soon to start a process again that was started but did not come up. */
#define SUMMON_AGAIN_MS		1000

#define NO_SLOT		PG_UINT32_MAX

typedef enum WorkerState
{
	WORKER_NONE,
	WORKER_STARTING,
	WORKER_RUNNING,
} WorkerState;

typedef struct Slot
{
	pg_atomic_uint32 state;		/* OeSlotState */
	uint32		next;			/* next in the list of submitted slots */
	bool		taken;			/* true if removed from that list by the
								 * worker */
	int			owner_procno;
	int			owner_pid;
	Oid			role;
	TimestampTz submitted_at;
	int64		call_id;
	dsa_pointer request;
	Size		request_len;
	dsa_pointer result;			/* invalid in DONE: the worker died, or
								 * result_lost */
	bool		result_lost;	/* true if no shared memory was left for it */
	Size		result_len;
	XLogRecPtr	result_lsn;
} Slot;

typedef struct Hub
{
	Oid			database;
	int			users;			/* attached; under the control lock */
	dsa_pointer next;
	pg_atomic_uint32 worker_state;	/* changed under the control lock */
	int			worker_procno;	/* starting: of the session that starts it */
	pg_atomic_uint32 submitted; /* newest submitted slot */
	pg_atomic_uint32 used;		/* slots that are not free */
	pg_atomic_uint64 changes;	/* of budgets and spending */
	pg_atomic_uint64 reveals;	/* of the cost of later reveals */
	int			applier_state;	/* WorkerState; under the control lock */
	int			applier_procno;
	TimestampTz applier_started_at; /* when last requested */
	ConditionVariable slot_freed;
	TimestampTz summoned_at;	/* by oe_channel_announce() */
	bool		has_news;
	OeQueueNews news;			/* under the control lock */
	bool		worker_wanted;	/* likewise; true if the queue is not empty */
	OeQueueStatus status;
	pg_atomic_uint64 settled;
	ConditionVariable settled_changed;
	Slot		slots[OE_CHANNEL_SLOTS];
} Hub;

typedef struct Control
{
	OeLibrary	library;		/* first, in every version */
	int			lock_tranche;
	int			area_tranche;
	LWLock		lock;			/* protects the fields below, and the list of
								 * hubs */
	dsa_handle	area;
	dsa_pointer hubs;
	int			launcher_procno;	/* -1: no launcher */
	dsa_pointer per_process;	/* see oe_channel_per_process() */
} Control;

StaticAssertDecl(sizeof(Control) <= CONTROL_BYTES, "Control is too large");

static Control *control;
static dsa_area *area;
static Hub *hub;

/* The tickets of this process, to be released when it exits. */
static bool my_tickets[OE_CHANNEL_SLOTS];
static int	my_ticket_count;

static void leave_channel(int code, Datum arg);

/* ----------------------------------------------------------------
 * Attaching
 * ---------------------------------------------------------------- */

/*
 * Initialize the control struct, which is new, or left by a failed call of
 * this.
 */
static void
make_control(Control *shared)
{
	shared->lock_tranche = oe_new_tranche("ocean_enrich");
	shared->area_tranche = oe_new_tranche("ocean_enrich_area");
	LWLockInitialize(&shared->lock, shared->lock_tranche);
	shared->area = DSA_HANDLE_INVALID;
	shared->hubs = InvalidDsaPointer;
	shared->launcher_procno = -1;
	shared->per_process = InvalidDsaPointer;
	oe_library_claim(&shared->library, SHARED_LAYOUT, sizeof(Control),
					 sizeof(Hub));
}

static Control *
find_control(void)
{
	bool		found;
	Control    *shared;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct(CONTROL_NAME, CONTROL_BYTES, &found);
	if (!found)
		memset(shared, 0, CONTROL_BYTES);
	if (!oe_library_is_claimed(&shared->library))
		make_control(shared);
	LWLockRelease(AddinShmemInitLock);
	return shared;
}

static bool
is_control_ours(const Control *shared)
{
	return oe_library_is_ours(&shared->library, SHARED_LAYOUT, sizeof(Control),
							  sizeof(Hub));
}

static void
attach_control(void)
{
	Control    *shared = find_control();

	if (!is_control_ours(shared))
		oe_library_refuse(&shared->library);
	control = shared;
	oe_register_tranche(control->lock_tranche, "ocean_enrich");
	oe_register_tranche(control->area_tranche, "ocean_enrich_area");
}

/* Attach the area for the life of this process. */
static void
attach_area(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	if (control->area == DSA_HANDLE_INVALID)
	{
		area = dsa_create(control->area_tranche);
		dsa_set_size_limit(area, AREA_MAX_BYTES);
		dsa_pin(area);
		control->area = dsa_get_handle(area);
	}
	else
		area = dsa_attach(control->area);
	dsa_pin_mapping(area);
	LWLockRelease(&control->lock);
	MemoryContextSwitchTo(old);
}

/* The bytes may contain a token, so wipe them before they are freed. */
static void
free_request(Slot *slot)
{
	if (!DsaPointerIsValid(slot->request))
		return;
	explicit_bzero(dsa_get_address(area, slot->request), slot->request_len);
	dsa_free(area, slot->request);
	slot->request = InvalidDsaPointer;
}

/* A new hub is all zeroes; that of a dropped database may have leftovers. */
static void
reset_hub(Hub *reset, Oid database)
{
	reset->database = database;
	pg_atomic_init_u32(&reset->worker_state, WORKER_NONE);
	reset->worker_procno = -1;
	reset->applier_state = WORKER_NONE;
	reset->applier_procno = -1;
	pg_atomic_init_u32(&reset->submitted, NO_SLOT);
	pg_atomic_init_u32(&reset->used, 0);
	pg_atomic_init_u64(&reset->changes, 0);
	pg_atomic_init_u64(&reset->reveals, 1); /* a reader starts at 0: nothing
											 * was read */
	ConditionVariableInit(&reset->slot_freed);
	reset->summoned_at = 0;
	reset->has_news = false;
	reset->worker_wanted = false;
	memset(&reset->status, 0, sizeof(reset->status));
	pg_atomic_init_u64(&reset->settled, 0);
	ConditionVariableInit(&reset->settled_changed);
	for (int i = 0; i < OE_CHANNEL_SLOTS; i++)
	{
		free_request(&reset->slots[i]);
		pg_atomic_init_u32(&reset->slots[i].state, OE_SLOT_FREE);
	}
}

/*
 * Find or create the hub of our database.  An unused hub is recycled, so that
 * creating and dropping databases does not fill the area.
 */
static void
attach_hub(void)
{
	dsa_pointer dp;
	Hub		   *unused = NULL;

	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	for (dp = control->hubs; DsaPointerIsValid(dp);)
	{
		Hub		   *candidate = dsa_get_address(area, dp);

		if (candidate->database == MyDatabaseId)
		{
			hub = candidate;
			break;
		}
		if (candidate->users == 0 &&
			(!candidate->worker_wanted || control->launcher_procno < 0))
			unused = candidate;
		dp = candidate->next;
	}
	if (!hub && unused)
	{
		reset_hub(unused, MyDatabaseId);
		hub = unused;
	}
	if (!hub)
	{
		dp = dsa_allocate0(area, sizeof(Hub));
		hub = dsa_get_address(area, dp);
		reset_hub(hub, MyDatabaseId);
		hub->next = control->hubs;
		control->hubs = dp;
	}
	hub->users++;
	LWLockRelease(&control->lock);
}

static void
attach_all(void)
{
	if (hub)
		return;
	if (!control)
		attach_control();
	if (!area)
		attach_area();

	/* Registered first: leave_channel() copes with a missing hub. */
	before_shmem_exit(leave_channel, 0);
	PG_TRY();
	{
		attach_hub();
	}
	PG_CATCH();
	{
		cancel_before_shmem_exit(leave_channel, 0);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/* ----------------------------------------------------------------
 * Slots
 * ---------------------------------------------------------------- */

static OeSlotState
slot_state(Slot *slot)
{
	return (OeSlotState) pg_atomic_read_u32(&slot->state);
}

static bool
change_state(Slot *slot, OeSlotState from, OeSlotState to)
{
	uint32		expected = from;

	return pg_atomic_compare_exchange_u32(&slot->state, &expected, to);
}

/* Only for the side that owns the slot. */
static void
free_slot(Slot *slot)
{
	free_request(slot);
	if (DsaPointerIsValid(slot->result))
		dsa_free(area, slot->result);
	slot->result = InvalidDsaPointer;
	pg_write_barrier();
	pg_atomic_write_u32(&slot->state, OE_SLOT_FREE);
	pg_atomic_fetch_sub_u32(&hub->used, 1);
	ConditionVariableSignal(&hub->slot_freed);
}

/*
 * Allocate shared memory; InvalidDsaPointer if there is none.
 *
 * DSA_ALLOC_NO_OOM is not enough: a full /dev/shm makes dsm_create() raise an
 * error while DSA holds its own lock.  If that lock were not released, it
 * would block every database of the server, and an error here would make the
 * worker lose its requests in flight.
 */
static dsa_pointer
allocate_in_area(Size len)
{
	volatile dsa_pointer allocated = InvalidDsaPointer;
	MemoryContext caller = CurrentMemoryContext;
	uint32		held_interrupts = InterruptHoldoffCount;

	PG_TRY();
	{
		allocated = dsa_allocate_extended(area, len, DSA_ALLOC_NO_OOM);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		FlushErrorState();
		LWLockReleaseAll();
		InterruptHoldoffCount = held_interrupts;
	}
	PG_END_TRY();
	return allocated;
}

static void
wake_process(int procno)
{
	SetLatch(&ProcGlobal->allProcs[procno].procLatch);
}

static void
wake_launcher(void)
{
	int			procno = control->launcher_procno;

	if (procno >= 0)
		wake_process(procno);
}

/* Take a free slot to fill; NULL if there is none. */
static Slot *
try_take_slot(bool refusable)
{
	/* Checked first, so that a refused submit never blocks others. */
	if (refusable && pg_atomic_read_u32(&hub->used) >=
		OE_CHANNEL_SLOTS - OE_CHANNEL_RESERVED)
		return NULL;
	if (pg_atomic_fetch_add_u32(&hub->used, 1) >= OE_CHANNEL_SLOTS)
	{
		pg_atomic_fetch_sub_u32(&hub->used, 1);
		return NULL;
	}

	/*
	 * There is a free slot for us, since "used" is raised before a slot is
	 * taken and lowered after it is freed.  Each process starts its search
	 * elsewhere, so that they seldom collide.
	 */
	for (uint32 i = (uint32) MyProcNumber * 16;; i++)
	{
		Slot	   *slot = &hub->slots[i % OE_CHANNEL_SLOTS];

		if (slot_state(slot) == OE_SLOT_FREE &&
			change_state(slot, OE_SLOT_FREE, OE_SLOT_FILLING))
			return slot;
	}
}

static Slot *
take_slot(bool refusable)
{
	Slot	   *slot = try_take_slot(refusable);

	if (slot || refusable)
		return slot;
	ConditionVariablePrepareToSleep(&hub->slot_freed);
	while ((slot = try_take_slot(false)) == NULL)
	{
		(void) ConditionVariableTimedSleep(&hub->slot_freed, OE_CLIENT_CHECK_MS,
										   PG_WAIT_EXTENSION);
		oe_client_check();
	}
	ConditionVariableCancelSleep();

	/* Another process woken together with us may find a free slot, too. */
	ConditionVariableSignal(&hub->slot_freed);
	return slot;
}

static void
push_submitted(Slot *slot)
{
	uint32		head = pg_atomic_read_u32(&hub->submitted);

	slot->taken = false;
	do
		slot->next = head;
	while (!pg_atomic_compare_exchange_u32(&hub->submitted, &head,
										   (uint32) (slot - hub->slots)));
}

/* Empty the list into "slots", oldest first. */
static int
take_submitted(int *slots)
{
	uint32		index = pg_atomic_exchange_u32(&hub->submitted, NO_SLOT);
	int			count = 0;

	for (; index != NO_SLOT; index = hub->slots[index].next)
		slots[count++] = (int) index;
	for (int i = 0; i < count / 2; i++)
	{
		int			swap = slots[i];

		slots[i] = slots[count - 1 - i];
		slots[count - 1 - i] = swap;
	}
	return count;
}

/*
 * Free cancelled slots while there is no worker to do it, lest calls that find
 * no worker slot fill the channel.  No worker can begin to serve while we hold
 * the lock.
 */
static void
sweep_cancelled(void)
{
	static int	slots[OE_CHANNEL_SLOTS];
	int			count;

	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u32(&hub->worker_state) != WORKER_RUNNING)
	{
		count = take_submitted(slots);
		for (int i = 0; i < count; i++)
		{
			Slot	   *slot = &hub->slots[slots[i]];

			if (slot_state(slot) == OE_SLOT_CANCELLED)
				free_slot(slot);
			else
				push_submitted(slot);
		}
	}
	LWLockRelease(&control->lock);
}

static void
own_ticket(OeTicket ticket)
{
	my_tickets[ticket] = true;
	my_ticket_count++;
}

static void
disown_ticket(OeTicket ticket)
{
	Assert(my_tickets[ticket]);
	my_tickets[ticket] = false;
	my_ticket_count--;
}

/* ----------------------------------------------------------------
 * The session's side
 * ---------------------------------------------------------------- */

OeTicket
oe_channel_submit(const char *bytes, Size len, bool refusable)
{
	Slot	   *slot;
	OeTicket	ticket;

	/*
	 * Checked before anything is registered: a worker could not write on a
	 * standby.
	 */
	if (RecoveryInProgress())
		ereport(ERROR,
				errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				errmsg("cannot enrich on a standby server"),
				errdetail("Each paid answer must be recorded, which a standby server cannot do."),
				errhint("Run the statement on the primary server."));
	attach_all();

	slot = take_slot(refusable);
	if (!slot)
		return OE_NO_TICKET;
	ticket = (OeTicket) (slot - hub->slots);
	slot->taken = false;
	slot->owner_procno = MyProcNumber;
	slot->owner_pid = MyProcPid;
	slot->role = GetUserId();
	slot->submitted_at = GetCurrentTimestamp();
	slot->call_id = 0;
	slot->result = InvalidDsaPointer;
	slot->result_lost = false;
	slot->request_len = len;
	slot->request = allocate_in_area(len);
	if (!DsaPointerIsValid(slot->request))
	{
		free_slot(slot);
		ereport(ERROR,
				errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("out of shared memory for enrichment requests"),
				errhint("Run fewer enriching statements concurrently."));
	}
	memcpy(dsa_get_address(area, slot->request), bytes, len);

	own_ticket(ticket);
	pg_write_barrier();
	(void) change_state(slot, OE_SLOT_FILLING, OE_SLOT_SUBMITTED);
	push_submitted(slot);
	if (pg_atomic_read_u32(&hub->worker_state) == WORKER_RUNNING)
		wake_process(hub->worker_procno);
	return ticket;
}

void
oe_channel_say_changed(void)
{
	/*
	 * A full barrier: a worker that sees the committed change also sees the
	 * counter.
	 */
	pg_atomic_fetch_add_u64(&hub->changes, 1);
	if (pg_atomic_read_u32(&hub->worker_state) == WORKER_RUNNING)
		wake_process(hub->worker_procno);
}

void
oe_channel_say_revealed(void)
{
	pg_atomic_fetch_add_u64(&hub->reveals, 1);
}

bool
oe_channel_is_done(OeTicket ticket)
{
	return slot_state(&hub->slots[ticket]) == OE_SLOT_DONE;
}

const char *
oe_channel_peek(OeTicket ticket)
{
	Slot	   *slot = &hub->slots[ticket];

	pg_read_barrier();
	if (!DsaPointerIsValid(slot->result))
		return NULL;
	return dsa_get_address(area, slot->result);
}

bool
oe_channel_is_running(OeTicket ticket)
{
	return slot_state(&hub->slots[ticket]) == OE_SLOT_RUNNING;
}

int64
oe_channel_call_id(OeTicket ticket)
{
	return hub->slots[ticket].call_id;
}

bool
oe_channel_cancel(OeTicket ticket)
{
	Slot	   *slot;
	bool		unsent;

	/* The process exit callback runs before the end of the transaction. */
	if (!my_tickets[ticket])
		return false;
	slot = &hub->slots[ticket];
	disown_ticket(ticket);
	unsent = change_state(slot, OE_SLOT_SUBMITTED, OE_SLOT_CANCELLED);
	if (unsent || change_state(slot, OE_SLOT_RUNNING, OE_SLOT_ABANDONED))
	{
		if (pg_atomic_read_u32(&hub->worker_state) == WORKER_RUNNING)
			wake_process(hub->worker_procno);
		else
			sweep_cancelled();
		return unsent;
	}

	/* The worker may have changed SUBMITTED to RUNNING in between. */
	if (change_state(slot, OE_SLOT_RUNNING, OE_SLOT_ABANDONED))
		return false;
	Assert(slot_state(slot) == OE_SLOT_DONE);
	free_slot(slot);
	return false;
}

/* Make every session whose request waits for a worker look for one again. */
static void
wake_submitters(void)
{
	for (int i = 0; i < OE_CHANNEL_SLOTS; i++)
	{
		Slot	   *slot = &hub->slots[i];

		if (slot_state(slot) == OE_SLOT_SUBMITTED)
			wake_process(slot->owner_procno);
	}
}

/* The worker that this process tried to start did not come up. */
static void
give_up_starting(void)
{
	bool		was_mine = false;

	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u32(&hub->worker_state) == WORKER_STARTING &&
		hub->worker_procno == MyProcNumber)
	{
		pg_atomic_write_u32(&hub->worker_state, WORKER_NONE);
		was_mine = true;
	}
	LWLockRelease(&control->lock);
	if (was_mine)
		wake_submitters();
}

static bool
claim_starting(void)
{
	bool		claimed = false;

	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u32(&hub->worker_state) == WORKER_NONE)
	{
		hub->worker_procno = MyProcNumber;
		pg_atomic_write_u32(&hub->worker_state, WORKER_STARTING);
		claimed = true;
	}
	LWLockRelease(&control->lock);
	return claimed;
}

/*
 * Start "worker" or "applier" for this database; "handle" may be NULL.  False
 * if all slots for background workers are taken.
 */
static bool
register_process(const char *function, const char *type, Oid database,
				 bool for_queue, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	worker.bgw_extra[0] = for_queue;
	worker.bgw_notify_pid = handle ? MyProcPid : 0;
	strlcpy(worker.bgw_library_name, "ocean_enrich", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, function, BGW_MAXLEN);
	strlcpy(worker.bgw_type, type, BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "%s for database %u", type, database);
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

static bool
register_worker(Oid database, bool for_queue, BackgroundWorkerHandle **handle)
{
	return register_process("oe_worker_main", "ocean_enrich worker", database,
							for_queue, handle);
}

static BackgroundWorkerHandle *
start_worker(void)
{
	BackgroundWorkerHandle *handle;

	if (!register_worker(MyDatabaseId, false, &handle))
		ereport(ERROR,
				errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("no background worker slot is available for the ocean_enrich worker"),
				errhint("Increase \"max_worker_processes\" or run fewer parallel queries."));
	return handle;
}

/*
 * Wait until the slot has left SUBMITTED, or there is no worker any more.
 * "handle" is that of the worker started by this process, or NULL.
 */
static void
wait_for_worker(Slot *slot, BackgroundWorkerHandle *handle)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("OceanEnrichCall");

	for (;;)
	{
		OeSlotState state;
		uint32		worker;
		pid_t		pid;

		oe_client_check();
		state = slot_state(slot);
		worker = pg_atomic_read_u32(&hub->worker_state);
		if (state == OE_SLOT_DONE ||
			(state == OE_SLOT_SUBMITTED && worker == WORKER_NONE))
			return;
		if (handle && worker == WORKER_STARTING &&
			GetBackgroundWorkerPid(handle, &pid) == BGWH_STOPPED)
		{
			give_up_starting();
			return;
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 OE_CLIENT_CHECK_MS, wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Start a worker unless another session does, and wait for it to come up. */
static void
wait_with_new_worker(Slot *slot)
{
	if (!claim_starting())
	{
		wait_for_worker(slot, NULL);
		return;
	}
	PG_TRY();
	{
		wait_for_worker(slot, start_worker());
	}
	PG_FINALLY();
	{
		give_up_starting();
	}
	PG_END_TRY();
}

static char *
copy_result(Slot *slot)
{
	char	   *bytes;

	if (!DsaPointerIsValid(slot->result))
		return NULL;
	bytes = palloc(slot->result_len);
	memcpy(bytes, dsa_get_address(area, slot->result), slot->result_len);
	return bytes;
}

/*
 * The worker commits asynchronously, so that one session's fsync or standby
 * does not delay the others.  Our result is then as safe as a commit of our
 * own.
 */
static void
make_durable(XLogRecPtr lsn)
{
	XLogFlush(lsn);
	HOLD_INTERRUPTS();
	SyncRepWaitForLSN(lsn, true);
	RESUME_INTERRUPTS();
}

char *
oe_channel_wait(OeTicket ticket)
{
	Slot	   *slot = &hub->slots[ticket];
	uint32		refused = oe_library_refusals(&control->library);
	char	   *bytes;

	for (int starts = 0; slot_state(slot) != OE_SLOT_DONE;)
	{
		if (pg_atomic_read_u32(&hub->worker_state) != WORKER_NONE)
		{
			wait_for_worker(slot, NULL);
			continue;
		}
		oe_library_check_refused(&control->library, refused);
		if (starts++ == WORKER_STARTS_MAX)
			ereport(ERROR,
					errcode(ERRCODE_INSUFFICIENT_RESOURCES),
					errmsg("the ocean_enrich worker keeps exiting"),
					errdetail("Nothing was sent."),
					errhint("See the server log for details."));
		wait_with_new_worker(slot);
	}

	pg_read_barrier();
	if (!XLogRecPtrIsInvalid(slot->result_lsn))
		make_durable(slot->result_lsn);
	if (slot->result_lost)
		ereport(ERROR,
				errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("out of shared memory for enrichment results"),
				errdetail("The answer has been recorded."),
				errhint("Run the statement again; an answer that has been recorded is not paid for again."));
	bytes = copy_result(slot);
	disown_ticket(ticket);
	free_slot(slot);
	return bytes;
}

void
oe_channel_attach(void)
{
	attach_all();
}

bool
oe_channel_is_ours(void)
{
	return control || is_control_ours(find_control());
}

/*
 * Is it time to start a worker that nobody waits for?  It is started without a
 * claim on the state: two at once do no harm, since only one can serve.  The
 * caller holds the lock, and registers the worker after releasing it.
 */
static bool
must_summon(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (pg_atomic_read_u32(&hub->worker_state) != WORKER_NONE ||
		now - hub->summoned_at <= SUMMON_AGAIN_MS * INT64CONST(1000))
		return false;
	hub->summoned_at = now;
	return true;
}

void
oe_channel_summon_worker(void)
{
	bool		summon;

	if (pg_atomic_read_u32(&hub->worker_state) != WORKER_NONE)
		return;
	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	summon = must_summon();
	LWLockRelease(&control->lock);
	if (summon)
		(void) register_worker(MyDatabaseId, false, NULL);
}

void
oe_channel_announce(const OeQueueNews *news)
{
	bool		running;
	bool		summon;

	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	if (!hub->has_news)
		memset(&hub->news, 0, sizeof(hub->news));
	oe_news_merge(&hub->news, news);
	hub->has_news = true;
	hub->worker_wanted = true;
	running = pg_atomic_read_u32(&hub->worker_state) == WORKER_RUNNING;
	summon = must_summon();
	LWLockRelease(&control->lock);
	if (running)
		wake_process(hub->worker_procno);
	else if (summon && !register_worker(MyDatabaseId, true, NULL))
		wake_launcher();
}

uint64
oe_channel_settled(void)
{
	return pg_atomic_read_u64(&hub->settled);
}

void
oe_channel_wait_settled(uint64 settled, TimestampTz earliest, TimestampTz latest)
{
	static uint32 wait_event = 0;
	uint32		refused = oe_library_refusals(&control->library);

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("OceanEnrichQueue");
	if (!RecoveryInProgress())
		oe_channel_summon_worker();
	ConditionVariablePrepareToSleep(&hub->settled_changed);
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		long		timeout_ms = SETTLED_LOOK_MS;

		if (now >= latest ||
			(now >= earliest && oe_channel_settled() != settled))
			break;
		if (now < earliest)
			timeout_ms = TimestampDifferenceMilliseconds(now, earliest);
		else if (latest != DT_NOEND)
			timeout_ms = Min(timeout_ms,
							 TimestampDifferenceMilliseconds(now, latest));
		if (ConditionVariableTimedSleep(&hub->settled_changed,
										Max(timeout_ms, 1), wait_event) &&
			now >= earliest)
			break;
		oe_client_check();
	}
	ConditionVariableCancelSleep();
	if (pg_atomic_read_u32(&hub->worker_state) == WORKER_NONE)
		oe_library_check_refused(&control->library, refused);
}

int
oe_channel_status(OeQueueStatus *status)
{
	int			pid = 0;

	attach_all();
	LWLockAcquire(&control->lock, LW_SHARED);
	*status = hub->status;
	if (pg_atomic_read_u32(&hub->worker_state) == WORKER_RUNNING)
		pid = ProcGlobal->allProcs[hub->worker_procno].pid;
	LWLockRelease(&control->lock);
	if (pid == 0)
	{
		/* The last worker's status no longer holds. */
		strlcpy(status->pause, oe_library_is_refused(&control->library) ?
				"another version was installed; restart the server" : "",
				sizeof(status->pause));
		status->paused_until = 0;
	}
	return pid;
}

int
oe_channel_inspect(OeSlotInfo *infos, int max)
{
	int			count = 0;

	attach_all();
	for (int i = 0; i < OE_CHANNEL_SLOTS && count < max; i++)
	{
		Slot	   *slot = &hub->slots[i];
		OeSlotInfo *info = &infos[count];

		/*
		 * Read without a lock: a slot that changes hands meanwhile is shown
		 * with a mixture of old and new values, or left out.
		 */
		info->state = slot_state(slot);
		if (info->state == OE_SLOT_FREE || info->state == OE_SLOT_FILLING)
			continue;
		info->pid = slot->owner_pid;
		info->role = slot->role;
		info->submitted_at = slot->submitted_at;
		info->call_id = slot->call_id;
		count++;
	}
	return count;
}

bool
oe_channel_has_call(int64 call_id)
{
	attach_all();
	for (int i = 0; i < OE_CHANNEL_SLOTS; i++)
	{
		Slot	   *slot = &hub->slots[i];

		if (slot->call_id != call_id)
			continue;
		switch (slot_state(slot))
		{
			case OE_SLOT_SUBMITTED:
			case OE_SLOT_RUNNING:
			case OE_SLOT_CANCELLED:
			case OE_SLOT_ABANDONED:
				return true;
			case OE_SLOT_FREE:
			case OE_SLOT_FILLING:
			case OE_SLOT_DONE:
				break;
		}
	}
	return false;
}

void *
oe_channel_per_process(Size size)
{
	Size		len = size * ProcGlobal->allProcCount;
	dsa_pointer mine = InvalidDsaPointer;
	dsa_pointer shared;

	/* Not under the lock: allocate_in_area() may have to release all locks. */
	attach_all();
	if (!DsaPointerIsValid(control->per_process))
	{
		mine = allocate_in_area(len);
		if (!DsaPointerIsValid(mine))
			return NULL;
		memset(dsa_get_address(area, mine), 0, len);
	}

	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	if (!DsaPointerIsValid(control->per_process))
	{
		control->per_process = mine;
		mine = InvalidDsaPointer;
	}
	shared = control->per_process;
	LWLockRelease(&control->lock);
	if (DsaPointerIsValid(mine))
		dsa_free(area, mine);
	return dsa_get_address(area, shared);
}

/* ----------------------------------------------------------------
 * The worker's side
 * ---------------------------------------------------------------- */

bool
oe_channel_serve(void)
{
	bool		mine = false;

	attach_all();
	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u32(&hub->worker_state) != WORKER_RUNNING)
	{
		hub->worker_procno = MyProcNumber;
		pg_write_barrier();
		pg_atomic_write_u32(&hub->worker_state, WORKER_RUNNING);
		mine = true;
	}
	LWLockRelease(&control->lock);
	oe_library_accept(&control->library);
	return mine;
}

static bool
is_serving(void)
{
	return pg_atomic_read_u32(&hub->worker_state) == WORKER_RUNNING &&
		hub->worker_procno == MyProcNumber;
}

/* If there is no worker, waiting sessions have to look for one again. */
static bool
stop_serving(bool anyway)
{
	bool		go_on;

	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	pg_atomic_write_u32(&hub->worker_state, WORKER_NONE);
	pg_memory_barrier();
	go_on = !anyway && (pg_atomic_read_u32(&hub->submitted) != NO_SLOT ||
						hub->has_news);
	if (go_on)
		pg_atomic_write_u32(&hub->worker_state, WORKER_RUNNING);
	else
	{
		hub->summoned_at = 0;
		if (hub->worker_wanted)
			wake_launcher();
	}
	LWLockRelease(&control->lock);
	if (!go_on)
		wake_submitters();
	return !go_on;
}

uint64
oe_channel_changes(void)
{
	return pg_atomic_read_u64(&hub->changes);
}

uint64
oe_channel_reveals(void)
{
	return pg_atomic_read_u64(&hub->reveals);
}

bool
oe_channel_retire(void)
{
	return stop_serving(false);
}

int
oe_channel_take(int *slots)
{
	int			count = take_submitted(slots);

	for (int i = 0; i < count; i++)
		hub->slots[slots[i]].taken = true;
	return count;
}

OeQueueStatus *
oe_channel_my_status(void)
{
	return &hub->status;
}

void
oe_channel_announce_settled(void)
{
	pg_atomic_fetch_add_u64(&hub->settled, 1);
	ConditionVariableBroadcast(&hub->settled_changed);
}

void
oe_channel_want_worker(bool wanted)
{
	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	hub->worker_wanted = wanted || hub->has_news;
	LWLockRelease(&control->lock);
}

bool
oe_channel_take_news(OeQueueNews *news)
{
	bool		any;

	/* Checked in every turn: an announcing session wakes us afterwards. */
	if (!hub->has_news)
		return false;
	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	any = hub->has_news;
	*news = hub->news;
	hub->has_news = false;
	LWLockRelease(&control->lock);
	return any;
}

const char *
oe_channel_request(int index, Size *len)
{
	Slot	   *slot = &hub->slots[index];

	*len = slot->request_len;
	return dsa_get_address(area, slot->request);
}

bool
oe_channel_drop_if_cancelled(int index)
{
	Slot	   *slot = &hub->slots[index];

	if (slot_state(slot) != OE_SLOT_CANCELLED)
		return false;
	free_slot(slot);
	return true;
}

bool
oe_channel_begin(int index)
{
	Slot	   *slot = &hub->slots[index];

	if (change_state(slot, OE_SLOT_SUBMITTED, OE_SLOT_RUNNING))
		return true;
	Assert(slot_state(slot) == OE_SLOT_CANCELLED);
	free_slot(slot);
	return false;
}

void
oe_channel_set_call_id(int index, int64 call_id)
{
	hub->slots[index].call_id = call_id;
}

bool
oe_channel_is_wanted(int index)
{
	OeSlotState state = slot_state(&hub->slots[index]);

	return state == OE_SLOT_SUBMITTED || state == OE_SLOT_RUNNING;
}

void
oe_channel_finish(int index, const char *bytes, Size len, XLogRecPtr lsn)
{
	Slot	   *slot = &hub->slots[index];
	int			procno = slot->owner_procno;

	slot->result = InvalidDsaPointer;
	if (bytes)
	{
		slot->result = allocate_in_area(len);
		slot->result_lost = !DsaPointerIsValid(slot->result);
	}
	if (DsaPointerIsValid(slot->result))
		memcpy(dsa_get_address(area, slot->result), bytes, len);
	slot->result_len = len;
	slot->result_lsn = lsn;
	pg_write_barrier();
	if (change_state(slot, OE_SLOT_RUNNING, OE_SLOT_DONE) ||
		change_state(slot, OE_SLOT_SUBMITTED, OE_SLOT_DONE))
		wake_process(procno);
	else
		free_slot(slot);
}

void
oe_channel_give_back(int index)
{
	push_submitted(&hub->slots[index]);
}

/* ----------------------------------------------------------------
 * The launcher's side
 * ---------------------------------------------------------------- */

static void
leave_launcher(int code, Datum arg)
{
	control->launcher_procno = -1;
}

void
oe_channel_launch(void)
{
	attach_control();
	attach_area();
	before_shmem_exit(leave_launcher, 0);
	control->launcher_procno = MyProcNumber;
}

int
oe_channel_orphaned(Oid *databases, int max)
{
	int			count = 0;

	LWLockAcquire(&control->lock, LW_SHARED);
	for (dsa_pointer dp = control->hubs; DsaPointerIsValid(dp) && count < max;)
	{
		Hub		   *candidate = dsa_get_address(area, dp);

		if (candidate->worker_wanted &&
			pg_atomic_read_u32(&candidate->worker_state) == WORKER_NONE)
			databases[count++] = candidate->database;
		dp = candidate->next;
	}
	LWLockRelease(&control->lock);
	return count;
}

void
oe_channel_forget_database(Oid database)
{
	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	for (dsa_pointer dp = control->hubs; DsaPointerIsValid(dp);)
	{
		Hub		   *candidate = dsa_get_address(area, dp);

		if (candidate->database == database)
			candidate->worker_wanted = false;
		dp = candidate->next;
	}
	LWLockRelease(&control->lock);
}

bool
oe_channel_start_for_queue(Oid database)
{
	return register_worker(database, true, NULL);
}

/* ----------------------------------------------------------------
 * The applier
 * ---------------------------------------------------------------- */

void
oe_channel_wake_applier(void)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		start = false;

	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	if (hub->applier_state == WORKER_RUNNING)
		wake_process(hub->applier_procno);
	else if (hub->applier_state == WORKER_NONE ||
			 now - hub->applier_started_at > SUMMON_AGAIN_MS * INT64CONST(1000))
	{
		hub->applier_state = WORKER_STARTING;
		hub->applier_started_at = now;
		start = true;
	}
	LWLockRelease(&control->lock);
	if (!start)
		return;

	if (register_process("oe_applier_main", "ocean_enrich sync applier",
						 MyDatabaseId, false, NULL))
		return;
	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	if (hub->applier_state == WORKER_STARTING)
		hub->applier_state = WORKER_NONE;
	LWLockRelease(&control->lock);
	ereport(LOG,
			errmsg("no background worker slot is available for the ocean_enrich sync applier"),
			errhint("Increase \"max_worker_processes\" or run fewer parallel queries."));
}

bool
oe_channel_serve_applier(void)
{
	bool		mine = false;

	attach_all();
	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	if (hub->applier_state != WORKER_RUNNING)
	{
		hub->applier_procno = MyProcNumber;
		hub->applier_state = WORKER_RUNNING;
		mine = true;
	}
	LWLockRelease(&control->lock);
	return mine;
}

void
oe_channel_leave_applier(void)
{
	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	if (hub->applier_state == WORKER_RUNNING &&
		hub->applier_procno == MyProcNumber)
		hub->applier_state = WORKER_NONE;
	LWLockRelease(&control->lock);
}

/* ----------------------------------------------------------------
 * The end of a process
 * ---------------------------------------------------------------- */

/*
 * Runs after a FATAL error, too, which skips every PG_CATCH, and before the
 * DSA mappings go.  A worker that is still serving here has failed: its
 * requests in flight get an empty result, "outcome unknown", and the next
 * worker finds their rows still "sent".
 */
static void
leave_channel(int code, Datum arg)
{
	if (!hub)
		return;
	LWLockReleaseAll();
	if (my_ticket_count > 0)
	{
		for (OeTicket ticket = 0; ticket < OE_CHANNEL_SLOTS; ticket++)
		{
			if (my_tickets[ticket])
				(void) oe_channel_cancel(ticket);
		}
	}
	give_up_starting();
	oe_channel_leave_applier();
	if (is_serving())
	{
		for (int i = 0; i < OE_CHANNEL_SLOTS; i++)
		{
			OeSlotState state = slot_state(&hub->slots[i]);

			if (state == OE_SLOT_RUNNING || state == OE_SLOT_ABANDONED)
				oe_channel_finish(i, NULL, 0, InvalidXLogRecPtr);
			else if (hub->slots[i].taken && state == OE_SLOT_SUBMITTED)
				oe_channel_give_back(i);
			else if (hub->slots[i].taken && state == OE_SLOT_CANCELLED)
				free_slot(&hub->slots[i]);
		}
		(void) stop_serving(true);
	}
	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	hub->users--;
	LWLockRelease(&control->lock);
	hub = NULL;
}
