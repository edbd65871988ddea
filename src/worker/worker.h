/*
 * worker.h
 *		The background worker of one database: the loop between channel,
 *		ledger, policy and http.
 */
#ifndef OE_WORKER_H
#define OE_WORKER_H

/* Main function of the worker; its argument is the OID of the database. */
extern PGDLLEXPORT void oe_worker_main(Datum database);

#endif							/* OE_WORKER_H */
