/*
 * invent.h
 *		Invented people.  The same request always gives the same person.
 */
#ifndef SB_INVENT_H
#define SB_INVENT_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#define SB_IDENTITY_CHARS	512
#define SB_NAME_CHARS		256
#define SB_EXPERIENCES		2
#define SB_SKILLS			3

typedef struct SbJob
{
	const char *title;
	const char *title_english;
	const char *seniority;
	const char *department;
} SbJob;

typedef struct SbPlace
{
	const char *country;
	const char *state;			/* or NULL */
	const char *location;
	const char *phone_prefix;
} SbPlace;

typedef struct SbInvention
{
	char		id[SB_IDENTITY_CHARS];
	char		domain[SB_NAME_CHARS];
	char		first_name[SB_NAME_CHARS];
	char		last_name[SB_NAME_CHARS];
	char		name[2 * SB_NAME_CHARS];
	char		email[3 * SB_NAME_CHARS];
	char		phone[SB_NAME_CHARS];
	char		linkedin[SB_IDENTITY_CHARS];
	const SbPlace *place;
	const SbJob *jobs[SB_EXPERIENCES];	/* the current one first */
	const char *skills[SB_SKILLS];
	int			connections;
	int			followers;
} SbInvention;

/*
 * Copy the identity of the requested person: the first of person.id, email,
 * linkedin, phone, name, firstName and lastName, twitter, facebook.  False if
 * the person has none of them.
 */
extern bool sb_identity(struct json_object *person,
						char identity[SB_IDENTITY_CHARS]);

/* Invent the person that "body", a valid request, asks for. */
extern void sb_invent(SbInvention *invention, struct json_object *body,
					  const char *identity);

#endif							/* SB_INVENT_H */
