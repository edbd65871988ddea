/*
 * person.h
 *		The body of a 200: an invented person, always the same for the same
 *		request, or something that only looks like an answer.
 */
#ifndef SB_PERSON_H
#define SB_PERSON_H

#include <json-c/json.h>

#include "config.h"
#include "faults.h"
#include "reply.h"

/*
 * Who was asked for: the first of person.id, email, linkedin, phone, name,
 * firstName and lastName, twitter, facebook.  Copied into "identity"; false
 * when the person has none of them.
 */
#define SB_IDENTITY_CHARS	512
extern bool sb_person_identity(struct json_object *person,
							   char identity[SB_IDENTITY_CHARS]);

/*
 * Fill "reply" with the 200 for "body", a request that was found in order, in
 * the way that "fault" asks for.
 */
extern void sb_person_reply(const SbConfig *config, struct json_object *body,
							const char *identity, const SbFault *fault,
							SbReply *reply);

#endif							/* SB_PERSON_H */
