/*
 * admission.h
 *		May a request go now?  Asks the budget of its role and the limits of its
 *		account, which are counted here for the whole database.
 */
#ifndef OE_ADMISSION_H
#define OE_ADMISSION_H

#include "core/policy.h"
#include "worker/job.h"

/* What stands in the way of a request. */
typedef enum OeObstacle
{
	OE_OBSTACLE_NONE,
	OE_OBSTACLE_BUDGET,			/* of its role: nobody else has to wait */
	OE_OBSTACLE_ACCOUNT,		/* its limits, or a pause */
	OE_OBSTACLE_FILES,			/* no more sockets can be opened */
	OE_OBSTACLE_LOCK,			/* somebody has locked what was revealed */
} OeObstacle;

typedef struct OePermission
{
	OeAdmission admission;
	OeObstacle	obstacle;
	OeTime		when;			/* if OE_ADMIT_LATER, or if a budget says
								 * OE_ADMIT_NEVER: not before */
	OeError		error;			/* if OE_ADMIT_NEVER; to be freed */
} OePermission;

/* An account is charged; its limits hold for all sessions together. */
struct OeAccountEntry
{
	char		name[OE_ACCOUNT_CHARS]; /* key */
	OeAccount  *account;
	uint64		reveals_read;	/* oe_channel_reveals() then; 0: not read */
	uint64		full_in_turn;	/* in this turn, it gave this answer ... */
	OePermission full_answer;
	OeLimits	full_limits;	/* ... under these limits */

	/* Of the queue alone: sessions are told what the API says. */
	int			blocked_by;		/* status that stopped it; 0: none */
	TimestampTz balance_due;	/* then: when to ask for the balance */
	bool		balance_asked;
	int			streak;			/* failures without an answer between them */
	TimestampTz paused_until;
};

/* How many failures in a row say that the API is away. */
#define OE_TROUBLE_STREAK		8

extern void oe_admission_init(void);

/* A turn of the loop begins: nothing is known to wait, and no account is full. */
extern void oe_admission_begin_turn(void);

/* Accounts that were full in this turn are asked again. */
extern void oe_admission_ask_again(void);

/* When the first job may go that had to wait in this turn; 0: none had to. */
extern TimestampTz oe_admission_wake_at(void);

/* True if requests have ended in this turn, so that others may go at once. */
extern bool oe_admission_room_was_made(void);

/*
 * The account that is charged for a call.  Needs a transaction of the ledger
 * when it is new, to restore what was used.
 */
extern OeAccountEntry *oe_admission_account(const OeCall *call, TimestampTz now);

/* NULL: nothing was sent for it yet. */
extern OeAccountEntry *oe_admission_known_account(const char *name);

/*
 * The one place where sessions and the queue ask whether a request may go: the
 * budget of its role first, then the limits of its account, then the open files,
 * of which "on_wire" are in use.  Reads what is not known yet of budgets and
 * spendings, so it needs a transaction of the ledger.
 */
extern OePermission oe_admission_ask(OeAccountEntry *account, const OeCall *call,
									 int on_wire, TimestampTz now);

/* The part of it that concerns the account, for limits of any request. */
extern OePermission oe_admission_ask_account(OeAccountEntry *account,
											 const OeLimits *limits, TimestampTz now);

/* The same for a job that waits, which may also have a time of its own to wait for. */
extern OePermission oe_admission_ask_for_job(OeJob *job, int on_wire, TimestampTz now);

/* True if there is a waiting job that may go, or that never may. */
extern bool oe_admission_any_is_due(TimestampTz now);

/* From now on the limits count it. */
extern void oe_admission_sent(OeJob *job, TimestampTz now);

/* It does not go after all. */
extern void oe_admission_unsent(OeJob *job, TimestampTz now);

/* The limits learn how it ended, once that is recorded; frees the reply. */
extern void oe_admission_ended(OeJob *job, TimestampTz now);

/* The queue goes on when the balance says that it may. */
extern void oe_admission_learn_balance(const OeCall *call,
									   const OeResult *balance);

#endif							/* OE_ADMISSION_H */
