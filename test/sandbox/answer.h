/*
 * answer.h
 *		The body of a 200: a person as JSON, or a faulty answer.
 */
#ifndef SB_ANSWER_H
#define SB_ANSWER_H

#include <stdbool.h>

#include "config.h"
#include "faults.h"
#include "invent.h"
#include "reply.h"

/* The state of an e-mail address or a phone number. */
typedef enum SbContact
{
	SB_CONTACT_KNOWN,
	SB_CONTACT_PENDING,			/* a webhook will deliver it */
	SB_CONTACT_NOT_FOUND,
} SbContact;

typedef struct SbContacts
{
	SbContact	email;
	SbContact	phone;
} SbContacts;

/*
 * Fill "reply" with the 200 for "person", at a price of "cost", altered as
 * "fault" says.
 */
extern void sb_answer(const SbConfig *config, const SbInvention *person,
					  const SbFault *fault, SbContacts contacts,
					  SbAmount cost, SbReply *reply);

/*
 * Add the payload of a webhook about the e-mail address (if "is_email") or the
 * phone number, in the configured form: "person", "lists", "people" or
 * "results".
 */
extern void sb_answer_webhook(const SbConfig *config,
							  const SbInvention *person, SbContacts contacts,
							  bool is_email, SbAmount cost, SbText *payload);

#endif							/* SB_ANSWER_H */
