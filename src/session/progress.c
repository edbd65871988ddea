/*
 * progress.c
 *		The progress of each session's statement.
 *
 * Each process has an entry in shared memory that it alone writes, without a
 * lock.  As with pg_stat_activity, a reader compares a change count before and
 * after copying, and retries if it has changed or is odd.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/timestamp.h"

#include "base/at_commit.h"
#include "base/compat.h"
#include "session/progress.h"
#include "shared/channel.h"

/* A process stopped in the middle of a change must not block its readers. */
#define READS_MAX	1000

typedef struct Entry
{
	pg_atomic_uint32 changes;	/* odd while being written */
	OeProgress	progress;
} Entry;

static Entry *mine;

static void
begin_change(void)
{
	pg_atomic_write_u32(&mine->changes, pg_atomic_read_u32(&mine->changes) + 1);
	pg_write_barrier();
}

static void
end_change(void)
{
	pg_write_barrier();
	pg_atomic_write_u32(&mine->changes, pg_atomic_read_u32(&mine->changes) + 1);
}

/* A procedure that commits resumes counting with its next call. */
static void
hide_mine(bool committed)
{
	begin_change();
	mine->progress.pid = 0;
	end_change();
}

static void
find_mine(void)
{
	static OeAtCommit at_commit = {.after = hide_mine};
	Entry	   *entries = oe_channel_per_process(sizeof(Entry));

	if (!entries)
		return;
	mine = &entries[MyProcNumber];

	/* The previous owner may have exited in the middle of a change. */
	pg_atomic_write_u32(&mine->changes, 0);
	begin_change();
	memset(&mine->progress, 0, sizeof(mine->progress));
	end_change();
	oe_at_commit(&at_commit);
}

void
oe_progress_call(void)
{
	TimestampTz query_start = GetCurrentStatementStartTimestamp();
	OeProgress *progress;

	if (!mine)
		find_mine();
	if (!mine)
		return;
	progress = &mine->progress;
	if (progress->pid == MyProcPid && progress->query_start == query_start)
		return;

	begin_change();
	if (progress->query_start != query_start)
	{
		memset(progress, 0, sizeof(*progress));
		progress->query_start = query_start;
		progress->first_call_at = GetCurrentTimestamp();
	}
	progress->database = MyDatabaseId;
	progress->role = GetUserId();
	progress->pid = MyProcPid;
	end_change();
}

void
oe_progress_wait(bool waiting)
{
	if (!mine)
		return;
	begin_change();
	mine->progress.waiting_since = waiting ? GetCurrentTimestamp() : 0;
	end_change();
}

void
oe_progress_count(bool failed, bool reused, OeCredits credits)
{
	if (!mine)
		return;
	begin_change();
	mine->progress.calls++;
	mine->progress.failed += failed;
	mine->progress.reused += reused;
	mine->progress.credits += credits;
	end_change();
}

int
oe_progress_max(void)
{
	return (int) ProcGlobal->allProcCount;
}

/* Copies the entry consistently, unless its writer stopped during a change. */
static void
read_entry(Entry *entry, OeProgress *progress)
{
	for (int reads = 0; reads < READS_MAX; reads++)
	{
		uint32		before = pg_atomic_read_u32(&entry->changes);

		pg_read_barrier();
		*progress = entry->progress;
		pg_read_barrier();
		if (before % 2 == 0 && before == pg_atomic_read_u32(&entry->changes))
			return;
	}
}

/* A killed process leaves its entry behind. */
static bool
is_alive(int pid, int procno)
{
	return BackendPidGetProc(pid) == &ProcGlobal->allProcs[procno];
}

int
oe_progress_inspect(OeProgress *infos)
{
	Entry	   *entries = oe_channel_per_process(sizeof(Entry));
	int			count = 0;

	for (int procno = 0; entries && procno < oe_progress_max(); procno++)
	{
		OeProgress *info = &infos[count];

		read_entry(&entries[procno], info);
		if (info->pid != 0 && info->database == MyDatabaseId &&
			is_alive(info->pid, procno))
			count++;
	}
	return count;
}
