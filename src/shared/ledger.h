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
	OE_LEDGER_BUSY,				/* a strong lock is held: try again */
	OE_LEDGER_GONE,				/* the extension was dropped */
} OeLedgerAccess;

extern OeLedgerAccess oe_ledger_begin(void);

/*
 * For other statements on the ledger in the same transaction: SPI is connected,
 * and functions here see what those have seen.
 */
extern void oe_ledger_use_spi(void);
extern void oe_ledger_look_anew(void);

/* The table; InvalidOid if our extension has none. */
extern Oid	oe_ledger_relation(void);

/* Do its columns have the names and types of the original table? */
extern bool oe_ledger_is_as_made(Relation relation);

/*
 * Tells this database from its copies, and from the other end of a
 * replication: the value of column "database" in rows queued or sent here.
 * The SQL condition on it is evaluated once for each statement.
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

/* The owner of the table.  Raises an error if our extension has none. */
extern Oid	oe_ledger_owner(void);

/*
 * Commit without waiting for the disk.  Returns the end of our last commit
 * record; after a read-only transaction that of the previous one, so that the
 * rows read are on disk, too, once that is.
 */
extern XLogRecPtr oe_ledger_commit(void);
extern void oe_ledger_abort(void);

/*
 * For reading in a session's transaction, with the owner's rights and with SPI
 * connected.  After an error, the end of the (sub)transaction leaves.
 */
extern void oe_ledger_enter(void);
extern void oe_ledger_leave(void);

/* The states of a row; "queued" and "cancelled" belong to the queue. */
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
 * that was deleted meanwhile is written anew, since it stands for money.
 * False if the row is locked: try again.
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

/* From when on an answer may be reused; DT_NOEND: never. */
typedef struct OeReuse
{
	TimestampTz answered_since;
	TimestampTz not_found_since;
} OeReuse;

extern OeReuse oe_ledger_reuse(const OeCall *call, TimestampTz now);

/*
 * Find an answer with status 200 or 404 that may be reused, or else a request,
 * however old, whose outcome is unknown and which nobody has allowed to be
 * paid again.  That includes one still "sent", if the caller does not have it
 * on the wire.
 */
extern bool oe_ledger_find(const char *account, const uint8 *fingerprint,
						   const OeReuse *reuse, OeLedgerHit *hit);

/*
 * Turn a row still "sent" that nobody has on the wire to "unknown".  False if
 * its end comes from another database, or if the row is locked.
 */
extern bool oe_ledger_give_up(int64 call_id);

/*
 * Turn rows still "sent" from an earlier life to "unknown", and add their
 * number to *count.  That includes rows that came with a copy of the database,
 * but not those whose end comes from another one.  False if some are locked:
 * try again.
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
 * The cost of extras revealed that day after their answers, and not in the
 * above.  The worker locks it first: false if another session holds the lock.
 * As with the ledger, all sessions would wait for their answers with us.
 */
extern bool oe_ledger_lock_revealed(void);
extern OeCredits oe_ledger_revealed(const char *account, TimestampTz day_start);

#endif							/* OE_LEDGER_H */
