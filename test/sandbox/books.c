/*
 * books.c
 *		The counters, and a hash table of the requested people.
 */
#include "books.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"

#define FIRST_BUCKETS	1024	/* stays a power of two */

/* FNV-1a, mixed so that every bit depends on every byte. */
uint64_t
sb_hash(const char *text)
{
	uint64_t	hash = UINT64_C(0xcbf29ce484222325);

	for (; *text != '\0'; text++)
		hash = (hash ^ (unsigned char) *text) * UINT64_C(0x100000001b3);
	hash = (hash ^ (hash >> 32)) * UINT64_C(0x9e3779b97f4a7c15);
	return hash ^ (hash >> 29);
}

static void
make_table(SbBooks *books, size_t bucket_count)
{
	books->buckets = sb_zalloc(bucket_count * sizeof(*books->buckets));
	books->bucket_count = bucket_count;
}

static void
free_people(SbBooks *books)
{
	SbPerson   *person = books->first;

	while (person != NULL)
	{
		SbPerson   *next = person->next;

		free(person->identity);
		free(person);
		person = next;
	}
	free(books->buckets);
}

void
sb_books_init(SbBooks *books)
{
	*books = (SbBooks) {0};
	make_table(books, FIRST_BUCKETS);
}

void
sb_books_free(SbBooks *books)
{
	free_people(books);
}

void
sb_books_reset(SbBooks *books)
{
	SbBooks		fresh;

	sb_books_init(&fresh);
	fresh.open_connections = books->open_connections;
	fresh.in_flight = books->in_flight;
	fresh.most_in_flight = books->in_flight;
	fresh.held = books->held;
	fresh.webhooks_pending = books->webhooks_pending;
	free_people(books);
	*books = fresh;
}

static SbPerson **
bucket_of(const SbBooks *books, uint64_t hash)
{
	return &books->buckets[hash & (books->bucket_count - 1)];
}

static SbPerson *
find_person(const SbBooks *books, const char *identity, uint64_t hash)
{
	SbPerson   *person = *bucket_of(books, hash);

	while (person != NULL &&
		   (person->hash != hash || strcmp(person->identity, identity) != 0))
		person = person->next_in_bucket;
	return person;
}

static void
link_into_bucket(SbBooks *books, SbPerson *person)
{
	SbPerson  **bucket = bucket_of(books, person->hash);

	person->next_in_bucket = *bucket;
	*bucket = person;
}

static void
grow_table(SbBooks *books)
{
	free(books->buckets);
	make_table(books, books->bucket_count * 2);
	for (SbPerson *person = books->first; person; person = person->next)
		link_into_bucket(books, person);
}

static SbPerson *
add_person(SbBooks *books, const char *identity, uint64_t hash, int64_t now_us)
{
	SbPerson   *person = sb_zalloc(sizeof(*person));

	person->identity = sb_strdup(identity);
	person->hash = hash;
	person->first_us = now_us;

	if (books->people_count == books->bucket_count)
		grow_table(books);
	link_into_bucket(books, person);
	if (books->last != NULL)
		books->last->next = person;
	else
		books->first = person;
	books->last = person;
	books->people_count++;
	return person;
}

const SbPerson *
sb_books_request(SbBooks *books, const char *identity, int64_t now_us)
{
	SbPerson   *person;
	uint64_t	hash;

	books->requests++;
	if (identity == NULL)
		return NULL;
	hash = sb_hash(identity);
	person = find_person(books, identity, hash);
	if (person == NULL)
		person = add_person(books, identity, hash, now_us);
	person->requests++;
	return person;
}

void
sb_books_charge(SbBooks *books, const char *identity, SbAmount amount)
{
	SbPerson   *person = find_person(books, identity, sb_hash(identity));

	books->charges++;
	books->charged += amount;
	/* The books may have been reset since the request arrived. */
	if (person != NULL)
	{
		person->charges++;
		person->charged += amount;
	}
}

const SbPerson *
sb_books_find(const SbBooks *books, const char *identity)
{
	return find_person(books, identity, sb_hash(identity));
}
