/*
 * endpoint.h
 *		An endpoint of the API as a value: where it is, what may be asked of it,
 *		what makes an answer, what that costs.
 *
 * Everything else takes an endpoint as an argument.  A new one is a value in
 * endpoint.c, its functions in SQL and a route of the sandbox.
 */
#ifndef OE_ENDPOINT_H
#define OE_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/canonical.h"

/* The types of a request's members. */
typedef enum OeMemberType
{
	OE_MEMBER_STRING,
	OE_MEMBER_BOOLEAN,
	OE_MEMBER_OBJECT,
} OeMemberType;

struct OeObject;

typedef struct OeMember
{
	const char *name;
	OeMemberType type;
	bool		null_allowed;
	const struct OeObject *object;	/* what an object consists of */
	bool		identifies;		/* true if it alone may be enough to find
								 * somebody */
	OeForm		form;			/* what makes two values of it equal */
} OeMember;

/* Objects inside objects of the request may not have objects themselves. */
typedef struct OeObject
{
	const char *name;			/* NULL for the request itself */
	const OeMember *members;	/* in the order in which they are sent */
	size_t		count;
} OeObject;

/* What a request may say. */
typedef struct OeVocabulary
{
	OeObject	request;
	const char *example;		/* of a request, for hints */

	/*
	 * The member without which nothing can be asked.  If it is empty, the API
	 * would say so by the message, and nothing is sent; the hint follows.
	 */
	const char *required;
	const char *missing_hint;
	const char *empty_message;
	const char *empty_hint;
} OeVocabulary;

/*
 * Something that costs credits.  The first price of an endpoint is that of the
 * answer itself.  The others are of extras: a request asks for one by a boolean
 * member of an object, which may also name a "webhookUrl" that tells it later.
 * "byWebhook" is a word of ours for the URL of the settings; it takes the place of
 * "webhookUrl" and of the boolean member, and is never sent.
 */
#define OE_WEBHOOK_URL	"webhookUrl"
#define OE_BY_WEBHOOK	"byWebhook"

typedef struct OePrice
{
	const char *setting;		/* has the price, where the answer does not
								 * say */
	const char *object;			/* of the request, NULL: the answer itself */
	const char *flag;			/* in that object */
	const char *found;			/* member of the answer that has the extra */
} OePrice;

#define OE_PRICES_MAX	3

typedef struct OeEndpoint
{
	const char *name;			/* in column "endpoint" of the ledger, and of
								 * the thing that is asked for, in messages */
	const char *path;			/* behind the base URL */
	const OeVocabulary *vocabulary; /* of the request; NULL: a GET without a
									 * body */
	const char *identity;		/* the string in an object that makes it an
								 * answer; NULL: any object is one */
	const OePrice *prices;
	size_t		price_count;	/* at most OE_PRICES_MAX; 0: it is free */
	bool		recorded;		/* its calls stand in the ledger, are limited,
								 * and may be queued; false only if free */
} OeEndpoint;

extern const OeEndpoint oe_endpoint_person;
extern const OeEndpoint oe_endpoint_balance;

/* All of them, in the order of importance, and then NULL. */
extern const OeEndpoint *const oe_endpoints[];

/* NULL if there is no endpoint of that name. */
extern const OeEndpoint *oe_endpoint_find(const char *name);

#endif							/* OE_ENDPOINT_H */
