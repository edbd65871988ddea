/*
 * call.h
 *		The session's side of one call: from a request to its result.
 */
#ifndef OE_CALL_H
#define OE_CALL_H

#include "utils/jsonb.h"

#include "server/message.h"

/*
 * Check "request", have the worker answer it, and wait.  The result's strings
 * are palloc'd.  Raises what is wrong with the request, a missing token, and a
 * cancel; what the API, the network or a limit says is in "result".
 */
extern void oe_call(Jsonb *request, OeResult *result);

#endif							/* OE_CALL_H */
