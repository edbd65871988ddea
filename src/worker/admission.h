/*
 * admission.h
 *		May a job go now?  Asks the budget of its role and the limits of its
 *		account, which are counted here for the whole database.
 */
#ifndef OE_ADMISSION_H
#define OE_ADMISSION_H

#include "core/policy.h"
#include "worker/job.h"

/* Who is charged.  The limits of an account hold for all sessions. */
struct OeAccountEntry
{
	char		name[OE_ACCOUNT_CHARS]; /* key */
	OeAccount  *account;
	uint64		reveals_read;	/* oe_channel_reveals() then; 0: not read */
	uint64		full_in_turn;	/* admits no more in this turn ... */
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

/* What was found to be full is asked again. */
extern void oe_admission_ask_anew(void);

/* When a job may go that was told to wait in this turn; 0: none was. */
extern TimestampTz oe_admission_wake_at(void);

/* Did requests end in this turn, so that others may go at once? */
extern bool oe_admission_room_was_made(void);

/*
 * The account that is charged for a call.  Needs a transaction of the ledger
 * when it is new, to restore what was used.
 */
extern OeAccountEntry *oe_admission_account(const OeCall *call, TimestampTz now);

/* NULL: nothing was sent for it yet. */
extern OeAccountEntry *oe_admission_known_account(const char *name);

/*
 * See to it that the budgets of the role are known, and what is spent of them and
 * by the account; in a transaction.  Only for what is to be sent: trouble with the
 * budgets must not keep an answer from being recorded.  False: not now, as somebody
 * has locked what was revealed.
 */
extern bool oe_admission_prepare(OeAccountEntry *account, const char *role,
								 const OeLimits *limits, TimestampTz now);

/*
 * Asked for each job in the order of arrival: first the budget of the role,
 * which holds up nobody else, then the account.  OE_ADMIT_NEVER fills "error".
 */
extern OeAdmission oe_admission_ask(OeJob *job, TimestampTz now, OeError *error);

/* Is there a waiting job that may go, or never may? */
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
