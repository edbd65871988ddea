/*
 * books.h
 *		What happened here: counted, and kept per person.
 */
#ifndef SB_BOOKS_H
#define SB_BOOKS_H

#include <stddef.h>
#include <stdint.h>

#include "amount.h"

#define SB_STATUS_END	600		/* above every HTTP status */

/* One identity that was asked for. */
typedef struct SbPerson
{
	char	   *identity;
	uint64_t	hash;
	int64_t		first_us;		/* when it was asked for the first time */
	uint64_t	requests;
	uint64_t	charges;
	SbAmount	charged;
	struct SbPerson *next_in_bucket;
	struct SbPerson *next;		/* in the order of first requests */
} SbPerson;

typedef struct SbBooks
{
	uint64_t	requests;		/* to enrich/person, received as a whole */
	uint64_t	connections;
	uint64_t	charges;
	SbAmount	charged;
	uint64_t	answers[SB_STATUS_END];
	uint64_t	unanswered;		/* ended without a status line */
	uint64_t	webhooks;		/* taken with a 2xx */
	uint64_t	webhook_failures;
	uint64_t	webhooks_refused;	/* not to this machine */
	uint64_t	reveals;		/* told by webhook, and charged */
	SbAmount	reveals_charged;
	uint64_t	balances;		/* told; costs nothing */
	uint64_t	refused_tokens;
	uint64_t	strangers;		/* requests to paths that are not ours */
	uint64_t	strangers_with_token;
	uint64_t	most_in_flight;

	/* how things stand now; sb_books_reset() leaves these */
	uint64_t	open_connections;
	uint64_t	in_flight;
	uint64_t	held;
	uint64_t	webhooks_pending;

	/* the people, by hash and in order */
	SbPerson  **buckets;
	size_t		bucket_count;
	size_t		people_count;
	SbPerson   *first;
	SbPerson   *last;
} SbBooks;

extern void sb_books_init(SbBooks *books);
extern void sb_books_free(SbBooks *books);
extern void sb_books_reset(SbBooks *books);

/* A request for "identity" (NULL: nobody in particular) came at "now_us". */
extern const SbPerson *sb_books_request(SbBooks *books, const char *identity,
										int64_t now_us);

/* A request for "identity" cost "amount". */
extern void sb_books_charge(SbBooks *books, const char *identity,
							SbAmount amount);

/* NULL when nobody has asked for "identity". */
extern const SbPerson *sb_books_find(const SbBooks *books,
									 const char *identity);

/* A good 64-bit hash of a text. */
extern uint64_t sb_hash(const char *text);

#endif							/* SB_BOOKS_H */
