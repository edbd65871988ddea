/*
 * message.h
 *		Requests and results between a session and the worker, as bytes.
 *
 * Every setting that concerns one request is read in the session that asks and
 * travels with it, so SET, ALTER ROLE and ALTER DATABASE work as they do
 * everywhere in PostgreSQL, and the worker needs no settings of its own for it.
 */
#ifndef OE_MESSAGE_H
#define OE_MESSAGE_H

#include "utils/jsonb.h"

#include "core/endpoint.h"
#include "core/error.h"
#include "core/policy.h"
#include "shared/request_body.h"

#define OE_ACCOUNT_CHARS		16	/* hexadecimal digits */

/* A request.  Strings are in the server's encoding but "body", which is UTF-8. */
typedef struct OeCall
{
	const OeEndpoint *endpoint;
	char		role[NAMEDATALEN];
	char		account[OE_ACCOUNT_CHARS + 1];
	uint8		fingerprint[OE_FINGERPRINT_BYTES];
	int64		reuse_for_us;	/* 0: answers are not reused */
	int64		reuse_not_found_for_us; /* likewise, for "not found"; not more
										 * than the other */
	OeLimits	limits;
	OeReveals	reveals;		/* what it asks to be revealed, and how */
	int			connect_timeout_ms;
	int			request_timeout_ms;
	bool		token_in_query;
	const char *base_url;		/* of all endpoints, in its one spelling */
	const char *token;
	const char *ca_file;		/* or NULL */
	const char *proxy;			/* or NULL */
	const char *webhook_url;	/* for what is revealed "byWebhook", or NULL */
	const char *body;			/* the normalised request; NULL if the
								 * endpoint takes none */
} OeCall;

/*
 * The outcome of a request.  Strings are in the server's encoding, or NULL.
 * The answer is jsonb already, so that only one side has to parse it.
 */
typedef struct OeResult
{
	OeCode		code;			/* OE_OK: there is an answer */
	int			status;			/* HTTP status; 0: none came */
	bool		reused;			/* from the ledger, or from an equal request
								 * in flight: this call cost nothing */
	int64		call_id;		/* row of the ledger; 0: none was written */
	const char *credits;		/* decimal text; NULL: not known */
	const Jsonb *answer;		/* or NULL */
	const char *message;
	const char *detail;
	const char *hint;
} OeResult;

/* Both allocate in the current memory context. */
extern char *oe_call_pack(const OeCall *call, Size *len);
extern char *oe_result_pack(const OeResult *result, Size *len);

/* The strings point into "bytes", which has to live as long. */
extern void oe_call_unpack(const char *bytes, OeCall *call);
extern void oe_result_unpack(const char *bytes, OeResult *result);

#endif							/* OE_MESSAGE_H */
