/*
 * books.h
 *		Counts of everything that happened, in total and per person.
 */
#ifndef SB_BOOKS_H
#define SB_BOOKS_H

#include <stddef.h>
#include <stdint.h>

#include "amount.h"

#define SB_STATUS_END	600		/* above every HTTP status */

/* One identity that was requested. */
typedef struct SbPerson
{
	char	   *identity;
	uint64_t	hash;
	int64_t		first_us;		/* time of the first request */
	uint64_t	requests;
	uint64_t	charges;
	SbAmount	charged;
	struct SbPerson *next_in_bucket;
	struct SbPerson *next;		/* in the order of first requests */
} SbPerson;

typedef struct SbBooks
{
	uint64_t	requests;		/* to enrich/person, completely received */
	uint64_t	connections;
	uint64_t	charges;
	SbAmount	charged;
	uint64_t	answers[SB_STATUS_END];
	uint64_t	unanswered;		/* ended without a status line */
	uint64_t	webhooks;		/* accepted with a 2xx */
	uint64_t	webhook_failures;
	uint64_t	webhooks_refused;	/* for another machine */
	uint64_t	reveals;		/* charged by webhook */
	SbAmount	reveals_charged;
	uint64_t	balances;		/* free */
	uint64_t	refused_tokens;
	uint64_t	refused_by_rate;
	uint64_t	most_in_window; /* requests, let through or refused */
	uint64_t	strangers;		/* requests to unknown paths */
	uint64_t	strangers_with_token;
	uint64_t	most_in_flight;

	/* the current state; sb_books_reset() keeps these */
	uint64_t	open_connections;
	uint64_t	in_flight;
	uint64_t	held;
	uint64_t	webhooks_pending;

	/* the people, by hash and in the order of their first requests */
	SbPerson  **buckets;
	size_t		bucket_count;
	size_t		people_count;
	SbPerson   *first;
	SbPerson   *last;
} SbBooks;

extern void sb_books_init(SbBooks *books);
extern void sb_books_free(SbBooks *books);
extern void sb_books_reset(SbBooks *books);

/*
 * Count a request for "identity" that arrived at "now_us".  If "identity" is
 * NULL it counts for no person, and the result is NULL.
 */
extern const SbPerson *sb_books_request(SbBooks *books, const char *identity,
										int64_t now_us);

/* Count a charge of "amount" for "identity". */
extern void sb_books_charge(SbBooks *books, const char *identity,
							SbAmount amount);

/* NULL if "identity" was never requested. */
extern const SbPerson *sb_books_find(const SbBooks *books,
									 const char *identity);

/* A good 64-bit hash of a text. */
extern uint64_t sb_hash(const char *text);

#endif							/* SB_BOOKS_H */
