/*
 * admission.h
 *		Decides whether a request may go now, by the budget of its role and the
 *		limits of its account, both counted here for the whole database.
 */
#ifndef OE_ADMISSION_H
#define OE_ADMISSION_H

#include "core/breaker.h"
#include "core/policy.h"
#include "worker/access.h"
#include "worker/job.h"

/* Why a request may not go now. */
typedef enum OeObstacle
{
	OE_OBSTACLE_NONE,
	OE_OBSTACLE_BUDGET,			/* of its role: no other role waits */
	OE_OBSTACLE_ACCOUNT,		/* its limits, or a pause */
	OE_OBSTACLE_FILES,			/* no more sockets can be opened */
	OE_OBSTACLE_LOCK,			/* the table of reveals is locked */
} OeObstacle;

typedef struct OePermission
{
	OeAdmission admission;
	OeObstacle	obstacle;
	OeTime		when;			/* if OE_ADMIT_LATER, or if a budget says
								 * OE_ADMIT_NEVER: not before */
	OeError		error;			/* if OE_ADMIT_NEVER; to be freed */
} OePermission;

/* The account to charge; its limits hold for all sessions together. */
struct OeAccountEntry
{
	char		name[OE_ACCOUNT_CHARS]; /* key */
	OeAccount  *account;
	uint64		reveals_read;	/* oe_channel_reveals() then; 0: not read */
	uint64		full_in_turn;	/* in this turn, it gave this answer ... */
	OePermission full_answer;
	OeLimits	full_limits;	/* ... under these limits */

	/* For the queue only: sessions get the API's own reply. */
	OeAccess	access;
	OeBreaker	breaker;
	TimestampTz seen;			/* the latest time that the queue has seen */
};

extern void oe_admission_init(void);

/* Begin a turn of the loop: no wait is known, and no account is full. */
extern void oe_admission_begin_turn(void);

/* Let accounts that were full in this turn be asked again. */
extern void oe_admission_ask_again(void);

/* When the first job that had to wait in this turn may go; 0: none had to. */
extern TimestampTz oe_admission_wake_at(void);

/* True if requests have ended in this turn, so that others may go at once. */
extern bool oe_admission_room_was_made(void);

/*
 * The account that is charged for a call.  If it is new, its usage is
 * restored, which needs a transaction of the ledger.
 */
extern OeAccountEntry *oe_admission_account(const OeCall *call, TimestampTz now);

/* NULL: this worker has not used the account yet. */
extern OeAccountEntry *oe_admission_known_account(const char *name);

/*
 * The one place where sessions and the queue ask whether a request may go: the
 * budget of its role first, then the limits of its account, then the open
 * files, of which "on_wire" are in use.  Reads budgets and spendings that are
 * not known yet, so it needs a transaction of the ledger.
 */
extern OePermission oe_admission_ask(OeAccountEntry *account, const OeCall *call,
									 int on_wire, TimestampTz now);

/* Ask the account only, for the limits of any request. */
extern OePermission oe_admission_ask_account(OeAccountEntry *account,
											 const OeLimits *limits, TimestampTz now);

/* As oe_admission_ask(), for a waiting job, which may not be due yet. */
extern OePermission oe_admission_ask_for_job(OeJob *job, int on_wire, TimestampTz now);

/* True if there is a waiting job that may go, or that never may. */
extern bool oe_admission_any_is_due(TimestampTz now);

/* Count the job in the limits, as it is about to be sent. */
extern void oe_admission_sent(OeJob *job, TimestampTz now);

/* Undo oe_admission_sent(): the job does not go after all. */
extern void oe_admission_unsent(OeJob *job, TimestampTz now);

/*
 * Learn from the reply, or from that there is none, how fast the API lets requests
 * through, as soon as it has come: that does not depend on what is recorded.
 */
extern void oe_admission_learn(OeJob *job, TimestampTz now);

/*
 * Learn for the queue what the job's end says about the API, once; for one that cannot
 * be recorded yet, as its row is locked.
 */
extern void oe_admission_learn_ending(OeJob *job, TimestampTz now);

/* The clock may have been set back: let nothing wait for a time that comes again. */
extern void oe_admission_see_time(OeAccountEntry *entry, TimestampTz now);

/*
 * How many tries count against max_retries.  Those that the API refused with 429
 * while it let others through do not, within reason.
 */
extern int	oe_admission_counted_tries(const OeJob *job);

/* True if the API refuses this job with 429 again and again while others pass. */
extern bool oe_admission_others_pass(const OeJob *job);

/* Count how the job ended, once that is recorded.  Frees the reply. */
extern void oe_admission_ended(OeJob *job, TimestampTz now);

/* Resume the queue if the balance allows it. */
extern void oe_admission_learn_balance(const OeCall *call,
									   const OeResult *balance);

/* End all pauses, whatever the API said. */
extern void oe_admission_end_pauses(void);

#endif							/* OE_ADMISSION_H */
