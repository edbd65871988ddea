/*
 * applier.h
 *		The background process that looks at changed rows of syncs and
 *		writes answers to them.
 */
#ifndef OE_APPLIER_H
#define OE_APPLIER_H

/* Main function of the applier; its argument is the OID of the database. */
extern PGDLLEXPORT void oe_applier_main(Datum database);

#endif							/* OE_APPLIER_H */
