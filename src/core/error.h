/*
 * error.h
 *		What went wrong, in a form that every layer can carry.
 *
 * The core returns an OeCode and fills an OeError; the PostgreSQL side turns
 * it into an ereport in one place (base/errors.c).  The texts are malloc'd
 * because the API's "detail" has to come through word for word, however long.
 */
#ifndef OE_ERROR_H
#define OE_ERROR_H

#include <stdbool.h>

/* One line of meaning for each; base/errors.h gives them their SQLSTATEs. */
typedef enum OeCode
{
	OE_OK = 0,
	OE_OUT_OF_MEMORY,			/* malloc failed */
	OE_BAD_REQUEST,				/* the API does not take such a request */
	OE_BAD_SETTING,				/* a setting is missing or unusable */
	OE_GATHERING,				/* 201: data gathering has started */
	OE_API_BAD_REQUEST,			/* 400, and other 4xx without a code here */
	OE_API_CREDITS,				/* 402 */
	OE_API_FORBIDDEN,			/* 403, and 401 */
	OE_API_NOT_FOUND,			/* 404 */
	OE_API_INVALID,				/* 422 */
	OE_API_RATE_LIMIT,			/* 429 */
	OE_API_FAILED,				/* 5xx */
	OE_BAD_ANSWER,				/* an answer that breaks the API's promises */
	OE_OUTCOME_UNKNOWN,			/* sent, no answer: may have been paid */
	OE_NOT_CONNECTED,			/* could not connect: nothing was sent */
	OE_LOCAL_RATE_LIMIT,		/* our own rate_limit or daily_limit */
	OE_LOCAL_CREDIT_LIMIT,		/* our own credit_limit */
	OE_NOT_RECORDED,			/* the ledger is gone: nothing was sent */
} OeCode;

typedef struct OeError
{
	OeCode		code;
	char	   *message;		/* primary message; NULL when memory ran out */
	char	   *detail;			/* or NULL */
	char	   *hint;			/* or NULL */
} OeError;

/* An error structure starts as {0}.  Filling a filled one frees the old texts. */
extern void oe_error_set(OeError *error, OeCode code, const char *format,...)
			__attribute__((format(printf, 3, 4)));
extern void oe_error_detail(OeError *error, const char *format,...)
			__attribute__((format(printf, 2, 3)));
extern void oe_error_hint(OeError *error, const char *format,...)
			__attribute__((format(printf, 2, 3)));

/* Free the texts and return to {0}. */
extern void oe_error_free(OeError *error);

#endif							/* OE_ERROR_H */
