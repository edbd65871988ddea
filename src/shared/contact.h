/*
 * contact.h
 *		The e-mail address or the phone numbers of a person, as the API reveals them.
 */
#ifndef OE_CONTACT_H
#define OE_CONTACT_H

#include "utils/jsonb.h"

/*
 * How good a contact is; a webhook replaces one only by one that is at least as
 * good.
 */
typedef enum OeContactRank
{
	OE_CONTACT_NONE,			/* not an object */
	OE_CONTACT_IN_PROGRESS,
	OE_CONTACT_NOT_FOUND,
	OE_CONTACT_FOUND_IN_PROGRESS,	/* there is one, and perhaps a better one */
	OE_CONTACT_GUESSED,
	OE_CONTACT_CATCH_ALL,
	OE_CONTACT_OTHER,			/* found, with another status or none */
	OE_CONTACT_VERIFIED,
} OeContactRank;

extern OeContactRank oe_contact_rank(JsonbContainer *contact);

/* True if the member "key" of an answer is a contact that has to be paid for. */
extern bool oe_contact_is_found(Jsonb *answer, const char *key);

#endif							/* OE_CONTACT_H */
