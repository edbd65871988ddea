/*
 * access.h
 *		Whether the API refuses the account or a single request: what the queue
 *		makes of the statuses 401, 402 and 403.
 *
 * A queued call that is refused goes back to the queue, which waits until the balance,
 * which costs nothing, has been asked for.  If the account has no access or too few
 * credits, it waits on.  Otherwise the first of the refused calls is sent once more,
 * alone; if it is refused again, that is its end, and what is refused for the same
 * reveals by the same words need not be tried twice.
 *
 * Plain calls, without reveals, go on going alone until one is answered; and after some
 * that were refused the queue waits again, since all others would be, too.
 */
#ifndef OE_ACCESS_H
#define OE_ACCESS_H

#include "worker/job.h"

#define OE_ACCESS_REFUSALS	8

/* Such calls were refused although the account is in order. */
typedef struct OeRefusal
{
	int			status;			/* 0: none */
	uint32		words;			/* a hash of the API's detail */
	OeReveals	reveals;
} OeRefusal;

/* What is left; OE_CREDITS_MAX: the API does not say. */
typedef struct OeBalance
{
	OeCredits	credits;		/* for any call */
	OeCredits	all;			/* with those for reveals alone */
} OeBalance;

typedef struct OeAccess
{
	int			blocked_by;		/* status that stopped the queue; 0: none */
	bool		wanted;			/* the balance is to be asked for */
	bool		asked;			/* it is being asked for */
	TimestampTz ask_at;			/* when to ask for it again; 0: at once */
	TimestampTz asks_since;		/* when the first of ... */
	int			asks;			/* ... these was asked at once */
	bool		granted;		/* the account was in order after that */
	TimestampTz granted_at;
	bool		try_one;		/* the next call goes alone */
	bool		trying;			/* ... and is on its way */
	bool		has_first;		/* one of the refused calls has kept its place */
	int			refused_in_row; /* plain calls that ended so, without an
								 * answer between them */
	OeCredits	cheapest;		/* what any call costs at least */
	OeCredits	dearest;		/* the most that a call refused by 402
								 * reserved */
	OeBalance	left;			/* by the last balance */
	int			next_refusal;
	OeRefusal	refusals[OE_ACCESS_REFUSALS];
} OeAccess;

/* True if the refusal of a queued job is its end. */
extern bool oe_access_is_final(const OeAccess *access, const OeJob *job,
							   int status, TimestampTz now);

/* True if this refused call keeps its place in the queue, to be the first to go again. */
extern bool oe_access_keeps_place(OeAccess *access);

/* A queued job is sent; true if it goes alone. */
extern bool oe_access_sent(OeAccess *access);

/* It did not go after all. */
extern void oe_access_unsent(OeAccess *access, const OeJob *job);

/* One that went alone has ended in any way. */
extern void oe_access_not_trying(OeAccess *access);

/* A queued job was refused, finally or not. */
extern void oe_access_refused(OeAccess *access, const OeJob *job, int status,
							  bool final, TimestampTz now);

/* A job was answered. */
extern void oe_access_answered(OeAccess *access, const OeJob *job);

/* True if too few credits are left for a call that reserves so much, but not for all. */
extern bool oe_access_is_too_dear(const OeAccess *access, OeCredits reserve);

/* The balance has come, or could not be had: "ok" is false then. */
extern void oe_access_learn_balance(OeAccess *access, bool ok, const OeBalance *left,
									TimestampTz now);

/* The clock was set back. */
extern void oe_access_move_back(OeAccess *access, int64 by);

#endif							/* OE_ACCESS_H */
