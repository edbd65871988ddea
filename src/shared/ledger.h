/*
 * ledger.h
 *		The table ocean_enrich.call: one row for every request that was sent.
 *
 * Only the worker writes it.  Everything between oe_ledger_begin() and
 * oe_ledger_commit() is one transaction, run with the rights of the table's
 * owner and no others.  Any function may raise an error; then
 * oe_ledger_abort() has to follow.  The caller's memory context stays current
 * throughout, and what a function gives is allocated in it.
 */
#ifndef OE_LEDGER_H
#define OE_LEDGER_H

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"

#include "core/policy.h"
#include "shared/message.h"

typedef enum OeLedgerAccess
{
	OE_LEDGER_READY,			/* a transaction is open */
	OE_LEDGER_BUSY,				/* somebody holds a strong lock: try again */
	OE_LEDGER_GONE,				/* the extension was dropped */
} OeLedgerAccess;

extern OeLedgerAccess oe_ledger_begin(void);

/*
 * For other statements on the ledger in the same transaction: SPI is connected,
 * and functions here see what those have seen.
 */
extern void oe_ledger_use_spi(void);
extern void oe_ledger_look_anew(void);

/* The table; InvalidOid: there is none of ours. */
extern Oid	oe_ledger_relation(void);

/* Have its columns the names and types that we gave them? */
extern bool oe_ledger_is_as_made(Relation relation);

/*
 * Tells this database from its copies, and from the other end of a replication:
 * column "database" of what was queued or sent here.  The condition in SQL for
 * that is evaluated once for each statement.
 */
extern const char *oe_ledger_database(void);

#define OE_OF_THIS_DATABASE \
	"database = (SELECT ocean_enrich.database_identity())"

/*
 * What another database has queued or sent, it also ends, and logical replication
 * into the ledger carries that.  Without, the row came with a copy.
 */
#define OE_IS_SUBSCRIBER \
	"EXISTS (SELECT FROM pg_catalog.pg_subscription_rel AS r" \
	" JOIN pg_catalog.pg_subscription AS s ON s.oid = r.srsubid" \
	" JOIN pg_catalog.pg_database AS d ON d.oid = s.subdbid" \
	" WHERE r.srrelid = 'ocean_enrich.call'::pg_catalog.regclass" \
	" AND d.datname = pg_catalog.current_database())"

/* Whose it is.  Raises an error when there is none of ours. */
extern Oid	oe_ledger_owner(void);

/*
 * Commits without waiting for the disk.  Returns the end of our last commit
 * record: after a transaction that only read, of the one before it, so that what
 * was read is on disk, too, once that is.
 */
extern XLogRecPtr oe_ledger_commit(void);
extern void oe_ledger_abort(void);

/*
 * To read in the transaction of a session, with the rights of the owner and
 * with SPI connected.  The end of the (sub)transaction leaves after an error.
 */
extern void oe_ledger_enter(void);
extern void oe_ledger_leave(void);

/* The states that a row is in; "queued" and "cancelled" are the queue's. */
typedef enum OeLedgerState
{
	OE_LEDGER_SENT,
	OE_LEDGER_ANSWERED,
	OE_LEDGER_REFUSED,
	OE_LEDGER_FAILED,
	OE_LEDGER_UNKNOWN,
} OeLedgerState;

/* A row to be written.  Strings in the server's encoding; NULL, 0: NULL. */
typedef struct OeLedgerRow
{
	int64		call_id;		/* 0: not written yet */
	OeLedgerState state;
	const char *role;
	const OeEndpoint *endpoint;
	const char *account;
	const uint8 *fingerprint;
	const char *request;		/* JSON text */
	int			status;
	const char *detail;
	Jsonb	   *answer;
	const char *raw;			/* the body, if it is no jsonb */
	Size		raw_len;
	bool		raw_truncated;
	const char *credits;		/* decimal text */
	const OeReveals *reveals;
	OeCredits	reserved;
	int			attempts;
	TimestampTz requested_at;
	TimestampTz sent_at;
	TimestampTz answered_at;
	TimestampTz next_attempt_at;
} OeLedgerRow;

/*
 * Write the row: a new one gets its call_id, a known one is updated, and one
 * that somebody deleted meanwhile is written anew, since it stands for money.
 * False: somebody holds a lock on it, try again.
 */
extern bool oe_ledger_write(OeLedgerRow *row);

/* An earlier equal request that answers this one. */
typedef struct OeLedgerHit
{
	int64		call_id;
	OeLedgerState state;		/* answered, refused (404), unknown or sent */
	int			status;
	char	   *detail;			/* palloc'd, or NULL */
	Jsonb	   *answer;			/* likewise; NULL: see "detail" */
} OeLedgerHit;

/*
 * What was answered 200 or 404 after "since", or else a request whose outcome
 * nobody knows and which nobody has allowed to be paid again, however old.  So
 * is one that is still "sent", if the caller does not have it on the wire.
 */
extern bool oe_ledger_find(const char *account, const uint8 *fingerprint,
						   TimestampTz since, OeLedgerHit *hit);

/*
 * A row still "sent" that nobody has on the wire becomes "unknown".  False: its
 * end comes from another database, or somebody has it locked.
 */
extern bool oe_ledger_give_up(int64 call_id);

/*
 * Rows still "sent" from an earlier life become "unknown"; adds how many to
 * *count.  So do those that came with a copy of the database, but not those whose
 * end comes from another one.  False: somebody holds a lock on some, try again.
 */
extern bool oe_ledger_reconcile(uint64 *count);

/* What an account has used, for the limits after a restart. */
typedef struct OeLedgerUsage
{
	int64		requests_today;
	OeCredits	credits_today;	/* spent, or reserved by calls whose cost is
								 * unknown */
	TimestampTz paused_until;	/* 0: not paused */
	TimestampTz *sent;			/* of the last minute, oldest first */
	int			sent_count;
} OeLedgerUsage;

extern void oe_ledger_usage(const char *account, TimestampTz day_start,
							TimestampTz minute_start, OeLedgerUsage *usage);

/*
 * What was revealed that day after its answer did cost, which is no part of the
 * above.  The worker locks it before: false if somebody else has.  As with the
 * ledger, everybody's answers would wait with us.
 */
extern bool oe_ledger_lock_revealed(void);
extern OeCredits oe_ledger_revealed(const char *account, TimestampTz day_start);

#endif							/* OE_LEDGER_H */
