/*
 * invent.c
 *		Keeps what the request says about the person, and picks the rest from
 *		small lists by a hash of the identity.
 */
#include "invent.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "books.h"

#define COUNT(array)	(sizeof(array) / sizeof((array)[0]))

static const char *const first_names[] = {
	"Alva", "Bodil", "Casper", "Dagny", "Esben", "Freja", "Gorm", "Hedda",
	"Ivar", "Jette", "Kaj", "Liv", "Magnus", "Nanna", "Oluf", "Petra"
};

static const char *const last_names[] = {
	"Askov", "Bjerre", "Dahlgaard", "Engholm", "Fjordby", "Grevlund",
	"Havelind", "Kjeldborg", "Lyngvik", "Mosehus", "Nordal", "Ravnholt",
	"Sandvang", "Toftegaard", "Vestermark", "Ystrand"
};

static const SbJob jobs[] = {
	{"Adm. direktør", "Managing Director", "C-Level", "Management"},
	{"Head of Marketing", "Head of Marketing", "Head",
		"Marketing and Advertising"},
	{"Professeur", "Teacher", "Other", "Education"},
	{"VP Sales", "VP Sales", "VP", "Sales"},
	{"Gründer", "Founder", "Founder", "Management"},
	{"Software Engineer", "Software Engineer", "Other", "Engineering"},
	{"Indkøbschef", "Purchasing Manager", "Manager", "Procurement"},
};

static const SbPlace places[] = {
	{"dk", NULL, "Copenhagen, Capital Region, Denmark", "+45 20"},
	{"us", "CA", "Oakland, California, United States", "+1 510 555 "},
	{"de", "HH", "Hamburg, Germany", "+49 40 55"},
	{"fr", NULL, "Lyon, Auvergne-Rhône-Alpes, France", "+33 6 00 "},
	{"se", NULL, "Gothenburg, Sweden", "+46 31 55"},
};

static const char *const skills[] = {
	"Product Management", "Entrepreneurship", "Social Media", "Negotiation",
	"Cloud Infrastructure", "Public Speaking", "Budgeting", "SQL"
};

/* What a pick is for; each purpose picks independently of the others. */
typedef enum Purpose
{
	PICK_FIRST_NAME = 1,
	PICK_LAST_NAME,
	PICK_DOMAIN,
	PICK_PLACE,
	PICK_PHONE,
	PICK_EMAIL,
	PICK_SKILL,
	PICK_CONNECTIONS,
	PICK_FOLLOWERS,
	PICK_JOB,					/* and the following, one per experience */
} Purpose;

/* A number below "count". */
static size_t
pick(uint64_t hash, Purpose purpose, size_t count)
{
	uint64_t	bits = (hash + purpose) * UINT64_C(0x9e3779b97f4a7c15);

	return (bits >> 33) % count;
}

/* A text member that is present and not empty, or NULL. */
static const char *
text_of(struct json_object *object, const char *key)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, key, &value) ||
		!json_object_is_type(value, json_type_string) ||
		json_object_get_string_len(value) == 0)
		return NULL;
	return json_object_get_string(value);
}

/* "first last", or the one that is not NULL. */
static void
join_names(char *to, size_t size, const char *first, const char *last)
{
	(void) snprintf(to, size, "%s%s%s", first ? first : "",
					first && last ? " " : "", last ? last : "");
}

bool
sb_identity(struct json_object *person, char identity[SB_IDENTITY_CHARS])
{
	static const char *const before_names[] =
	{"id", "email", "linkedin", "phone", "name"};
	static const char *const after_names[] = {"twitter", "facebook"};
	const char *first = text_of(person, "firstName");
	const char *last = text_of(person, "lastName");
	const char *found = NULL;

	for (size_t i = 0; found == NULL && i < COUNT(before_names); i++)
		found = text_of(person, before_names[i]);
	if (found == NULL && (first != NULL || last != NULL))
	{
		join_names(identity, SB_IDENTITY_CHARS, first, last);
		return true;
	}
	for (size_t i = 0; found == NULL && i < COUNT(after_names); i++)
		found = text_of(person, after_names[i]);
	if (found == NULL)
		return false;
	(void) snprintf(identity, SB_IDENTITY_CHARS, "%s", found);
	return true;
}

static void
copy_text(char *to, size_t size, const char *from)
{
	(void) snprintf(to, size, "%s", from);
}

/* Split a full name at its last space. */
static void
split_name(SbInvention *x, const char *name)
{
	const char *space = strrchr(name, ' ');

	copy_text(x->first_name, sizeof(x->first_name), name);
	copy_text(x->last_name, sizeof(x->last_name), space ? space + 1 : "");
	if (space != NULL && (size_t) (space - name) < sizeof(x->first_name))
		x->first_name[space - name] = '\0';
}

static void
invent_names(SbInvention *x, uint64_t hash, struct json_object *person)
{
	const char *first = text_of(person, "firstName");
	const char *last = text_of(person, "lastName");
	const char *name = text_of(person, "name");

	if (name != NULL && first == NULL && last == NULL)
	{
		split_name(x, name);
		copy_text(x->name, sizeof(x->name), name);
		return;
	}
	if (first == NULL)
		first = first_names[pick(hash, PICK_FIRST_NAME, COUNT(first_names))];
	if (last == NULL)
		last = last_names[pick(hash, PICK_LAST_NAME, COUNT(last_names))];
	copy_text(x->first_name, sizeof(x->first_name), first);
	copy_text(x->last_name, sizeof(x->last_name), last);
	if (name != NULL)
		copy_text(x->name, sizeof(x->name), name);
	else
		join_names(x->name, sizeof(x->name), first, last);
}

static void
invent_domain(SbInvention *x, uint64_t hash, struct json_object *person,
			  struct json_object *company)
{
	const char *domain = company ? text_of(company, "domain") : NULL;
	const char *email = text_of(person, "email");
	const char *at = email ? strrchr(email, '@') : NULL;

	if (domain != NULL)
		copy_text(x->domain, sizeof(x->domain), domain);
	else if (at != NULL && at[1] != '\0')
		copy_text(x->domain, sizeof(x->domain), at + 1);
	else
		(void) snprintf(x->domain, sizeof(x->domain), "company%zu.example",
						pick(hash, PICK_DOMAIN, 1000));
}

/* True if "name" consists of ASCII letters, as an e-mail address needs. */
static bool
is_plain(const char *name)
{
	size_t		len = 0;

	while (isalpha((unsigned char) name[len]))
		len++;
	return len > 0 && name[len] == '\0';
}

static void
invent_email(SbInvention *x, uint64_t hash)
{
	if (is_plain(x->first_name) && is_plain(x->last_name))
		(void) snprintf(x->email, sizeof(x->email), "%s.%s@%s",
						x->first_name, x->last_name, x->domain);
	else
		(void) snprintf(x->email, sizeof(x->email), "contact%zu@%s",
						pick(hash, PICK_EMAIL, 1000), x->domain);
	for (char *c = x->email; *c != '\0'; c++)
		*c = (char) tolower((unsigned char) *c);
}

static void
invent_addresses(SbInvention *x, uint64_t hash, struct json_object *person)
{
	const char *email = text_of(person, "email");
	const char *phone = text_of(person, "phone");
	const char *linkedin = text_of(person, "linkedin");

	if (email != NULL)
		copy_text(x->email, sizeof(x->email), email);
	else
		invent_email(x, hash);

	if (phone != NULL)
		copy_text(x->phone, sizeof(x->phone), phone);
	else
		(void) snprintf(x->phone, sizeof(x->phone), "%s%06zu",
						x->place->phone_prefix,
						pick(hash, PICK_PHONE, 1000000));

	if (linkedin != NULL)
		copy_text(x->linkedin, sizeof(x->linkedin), linkedin);
	else
		(void) snprintf(x->linkedin, sizeof(x->linkedin),
						"https://www.linkedin.com/in/%016" PRIx64, hash);
}

void
sb_invent(SbInvention *x, struct json_object *body, const char *identity)
{
	struct json_object *person = json_object_object_get(body, "person");
	struct json_object *company = json_object_object_get(body, "company");
	const char *id = text_of(person, "id");
	uint64_t	hash = sb_hash(identity);
	size_t		first_skill = pick(hash, PICK_SKILL, COUNT(skills));

	if (id != NULL)
		copy_text(x->id, sizeof(x->id), id);
	else
		(void) snprintf(x->id, sizeof(x->id), "%016" PRIx64, hash);
	x->place = &places[pick(hash, PICK_PLACE, COUNT(places))];
	for (int i = 0; i < SB_EXPERIENCES; i++)
		x->jobs[i] = &jobs[pick(hash, PICK_JOB + i, COUNT(jobs))];
	for (size_t i = 0; i < SB_SKILLS; i++)
		x->skills[i] = skills[(first_skill + i) % COUNT(skills)];
	x->connections = (int) pick(hash, PICK_CONNECTIONS, 500);
	x->followers = (int) pick(hash, PICK_FOLLOWERS, 5000);
	invent_names(x, hash, person);
	invent_domain(x, hash, person, company);
	invent_addresses(x, hash, person);
}
