/*
 * answer.h
 *		What the API said: an HTTP status and a body become an answer or an
 *		error.  Statuses and errors are the same at all endpoints.
 *
 * json-c only extracts here; whether an answer is valid jsonb is judged by
 * PostgreSQL afterwards, which also keeps every number exact.
 */
#ifndef OE_ANSWER_H
#define OE_ANSWER_H

#include <stdbool.h>
#include <stddef.h>

#include "core/endpoint.h"
#include "core/error.h"

/* What the answer means for the money. */
typedef enum OeOutcome
{
	OE_ANSWERED,				/* 200 with what the endpoint promises: paid */
	OE_REFUSED,					/* the API said no: nothing paid */
	OE_FAILED,					/* surely not processed: nothing paid */
	OE_UNKNOWN,					/* may have been paid */
} OeOutcome;

typedef struct OeAnswer
{
	OeOutcome	outcome;		/* as the status says, but for two: 200
								 * without a usable answer is OE_UNKNOWN, and
								 * 404 that is not the API's is OE_FAILED */
	bool		is_usable;		/* 200 and the body is what the endpoint
								 * promises */
	char	   *credits;		/* "creditsUsed" of a 200 as the decimal text
								 * that came, non-negative, or NULL */
	char	   *detail;			/* the API's "detail": the string, or the JSON
								 * of anything else; NULL when it gave none,
								 * and beside what is usable */
} OeAnswer;

/*
 * Judge a complete answer.  "body" is UTF-8 ("body_valid_utf8" says whether it
 * really is; if not, nothing is extracted from it), "truncated" that it went on
 * beyond our ceiling.  A truncated body is not looked into either.
 *
 * The depth of a body does not matter; only in "detail" whatever lies more than
 * 16 levels deep is left out.
 *
 * Fills "answer", and "error" unless that is usable.  Returns the code that
 * stands in "error", OE_OK for what is usable.  When memory runs out the outcome
 * is still right and the code is OE_OUT_OF_MEMORY.
 */
extern OeCode oe_answer_decode(const OeEndpoint *endpoint, int status,
							   const char *body, size_t len,
							   bool body_valid_utf8, bool truncated,
							   OeAnswer *answer, OeError *error);

/*
 * The error that "status" and "detail" stand for: of a fresh answer, and of
 * one that is served from the ledger.  "detail" may be NULL; the text of a JSON
 * array (422) becomes a readable message such as "person.email: str type
 * expected", several joined by "; ", with the whole array in the error's detail.
 * For 200 that is always OE_BAD_ANSWER, and "detail" is not quoted.  A 404 is taken
 * for the API's.
 */
extern OeCode oe_answer_error(const OeEndpoint *endpoint, int status,
							  const char *detail, OeError *error);

extern void oe_answer_free(OeAnswer *answer);

/* What "status" says about money, if the answer is the API's. */
extern OeOutcome oe_answer_outcome(int status);

#endif							/* OE_ANSWER_H */
