/*
 * functions.h
 *		The SQL-callable functions, as the extension's script declares them.
 *		Their own promises stand in doc/reference.md and in COMMENT ON.
 */
#ifndef OE_FUNCTIONS_H
#define OE_FUNCTIONS_H

#include "fmgr.h"

extern Datum ocean_enrich_person(PG_FUNCTION_ARGS);
extern Datum ocean_try_enrich_person(PG_FUNCTION_ARGS);
extern Datum ocean_person_request(PG_FUNCTION_ARGS);
extern Datum ocean_enrich_support(PG_FUNCTION_ARGS);
extern Datum ocean_enrich_in_flight(PG_FUNCTION_ARGS);
extern Datum ocean_enrich_statements(PG_FUNCTION_ARGS);
extern Datum ocean_enrich_account(PG_FUNCTION_ARGS);
extern Datum ocean_enrich_receive_webhook(PG_FUNCTION_ARGS);
extern Datum ocean_enrich_forget(PG_FUNCTION_ARGS);

#endif							/* OE_FUNCTIONS_H */
