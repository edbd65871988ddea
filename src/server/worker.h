/*
 * worker.h
 *		The background worker of one database: the loop between channel,
 *		ledger, policy and http.
 */
#ifndef OE_WORKER_H
#define OE_WORKER_H

/* An answer beyond this is cut; what came is kept, since it was paid for. */
#define OE_ANSWER_MAX_BYTES		(1024 * 1024)

/* How long a worker that has to leave waits for what is on the wire. */
#define OE_DRAIN_MAX_MS			2000

/* Main function of the worker; its argument is the OID of the database. */
extern PGDLLEXPORT void oe_worker_main(Datum database);

#endif							/* OE_WORKER_H */
