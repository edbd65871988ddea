/*
 * person.c
 *		Invents people.  What the request says of the person is kept, the rest
 *		is picked from small lists by a hash of the identity.
 */
#include "person.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "books.h"
#include "memory.h"

#define NAME_CHARS		256
#define COUNT(array)	(sizeof(array) / sizeof((array)[0]))
#define OVERSIZED_MAX_KB	(64 * 1024)

static const char *const first_names[] = {
	"Alva", "Bodil", "Casper", "Dagny", "Esben", "Freja", "Gorm", "Hedda",
	"Ivar", "Jette", "Kaj", "Liv", "Magnus", "Nanna", "Oluf", "Petra"
};

static const char *const last_names[] = {
	"Askov", "Bjerre", "Dahlgaard", "Engholm", "Fjordby", "Grevlund",
	"Havelind", "Kjeldborg", "Lyngvik", "Mosehus", "Nordal", "Ravnholt",
	"Sandvang", "Toftegaard", "Vestermark", "Ystrand"
};

static const struct
{
	const char *title;
	const char *title_english;
	const char *seniority;
	const char *department;
}			jobs[] =
{
	{"Adm. direktør", "Managing Director", "C-Level", "Management"},
	{"Head of Marketing", "Head of Marketing", "Head", "Marketing and Advertising"},
	{"Professeur", "Teacher", "Other", "Education"},
	{"VP Sales", "VP Sales", "VP", "Sales"},
	{"Gründer", "Founder", "Founder", "Management"},
	{"Software Engineer", "Software Engineer", "Other", "Engineering"},
	{"Indkøbschef", "Purchasing Manager", "Manager", "Purchasing"},
};

static const struct
{
	const char *country;
	const char *state;			/* or NULL */
	const char *location;
	const char *phone_prefix;
}			places[] =
{
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

/* Everything that the answer is made from. */
typedef struct Invention
{
	uint64_t	hash;
	char		id[SB_IDENTITY_CHARS];
	char		domain[NAME_CHARS];
	char		first[NAME_CHARS];
	char		last[NAME_CHARS];
	char		name[2 * NAME_CHARS];
	char		email[3 * NAME_CHARS];
	char		phone[NAME_CHARS];
	char		linkedin[SB_IDENTITY_CHARS];
} Invention;

/* A text member that is there and not empty, or NULL. */
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

bool
sb_person_identity(struct json_object *person,
				   char identity[SB_IDENTITY_CHARS])
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
		(void) snprintf(identity, SB_IDENTITY_CHARS, "%s%s%s",
						first ? first : "", first && last ? " " : "",
						last ? last : "");
		return true;
	}
	for (size_t i = 0; found == NULL && i < COUNT(after_names); i++)
		found = text_of(person, after_names[i]);
	if (found == NULL)
		return false;
	(void) snprintf(identity, SB_IDENTITY_CHARS, "%s", found);
	return true;
}

/* One of "count", a different one for each "purpose". */
static size_t
pick(const Invention *x, unsigned purpose, size_t count)
{
	uint64_t	bits = (x->hash + purpose) * UINT64_C(0x9e3779b97f4a7c15);

	return (bits >> 33) % count;
}

static void
copy(char *to, size_t size, const char *from)
{
	(void) snprintf(to, size, "%s", from);
}

static void
invent_names(Invention *x, struct json_object *person)
{
	const char *first = text_of(person, "firstName");
	const char *last = text_of(person, "lastName");
	const char *name = text_of(person, "name");
	const char *space = name ? strrchr(name, ' ') : NULL;

	if (name != NULL && first == NULL && last == NULL)
	{
		first = name;
		last = space ? space + 1 : "";
	}
	copy(x->first, NAME_CHARS,
		 first ? first : first_names[pick(x, 1, COUNT(first_names))]);
	copy(x->last, NAME_CHARS,
		 last ? last : last_names[pick(x, 2, COUNT(last_names))]);
	if (first == name && space != NULL && (size_t) (space - name) < NAME_CHARS)
		x->first[space - name] = '\0';
	if (name != NULL)
		copy(x->name, sizeof(x->name), name);
	else
		(void) snprintf(x->name, sizeof(x->name), "%s%s%s", x->first,
						x->last[0] ? " " : "", x->last);
}

static void
invent_domain(Invention *x, struct json_object *person,
			  struct json_object *company)
{
	const char *domain = company ? text_of(company, "domain") : NULL;
	const char *email = text_of(person, "email");
	const char *at = email ? strrchr(email, '@') : NULL;

	if (domain != NULL)
		copy(x->domain, NAME_CHARS, domain);
	else if (at != NULL && at[1] != '\0')
		copy(x->domain, NAME_CHARS, at + 1);
	else
		(void) snprintf(x->domain, NAME_CHARS, "company%zu.example",
						pick(x, 3, 1000));
}

/* Does "name" consist of ASCII letters, so that it may stand in an address? */
static bool
is_plain(const char *name)
{
	size_t		len = 0;

	while (isalpha((unsigned char) name[len]))
		len++;
	return len > 0 && name[len] == '\0';
}

static void
to_lower(char *text)
{
	for (; *text != '\0'; text++)
		*text = (char) tolower((unsigned char) *text);
}

static void
invent_email(Invention *x)
{
	if (is_plain(x->first) && is_plain(x->last))
		(void) snprintf(x->email, sizeof(x->email), "%s.%s@%s",
						x->first, x->last, x->domain);
	else
		(void) snprintf(x->email, sizeof(x->email), "contact%zu@%s",
						pick(x, 8, 1000), x->domain);
	to_lower(x->email);
}

static void
invent_addresses(Invention *x, struct json_object *person)
{
	const char *email = text_of(person, "email");
	const char *phone = text_of(person, "phone");
	const char *linkedin = text_of(person, "linkedin");

	if (email != NULL)
		copy(x->email, sizeof(x->email), email);
	else
		invent_email(x);

	if (phone != NULL)
		copy(x->phone, sizeof(x->phone), phone);
	else
		(void) snprintf(x->phone, sizeof(x->phone), "%s%06zu",
						places[pick(x, 4, COUNT(places))].phone_prefix,
						pick(x, 5, 1000000));

	if (linkedin != NULL)
		copy(x->linkedin, sizeof(x->linkedin), linkedin);
	else
		(void) snprintf(x->linkedin, sizeof(x->linkedin),
						"https://www.linkedin.com/in/%016" PRIx64, x->hash);
}

static void
invent(Invention *x, struct json_object *body, const char *identity)
{
	struct json_object *person = json_object_object_get(body, "person");
	struct json_object *company = json_object_object_get(body, "company");
	const char *id = text_of(person, "id");

	memset(x, 0, sizeof(*x));
	x->hash = sb_hash(identity);
	if (id != NULL)
		copy(x->id, sizeof(x->id), id);
	else
		(void) snprintf(x->id, sizeof(x->id), "%016" PRIx64, x->hash);
	invent_names(x, person);
	invent_domain(x, person, company);
	invent_addresses(x, person);
}

static void
put(struct json_object *object, const char *key, const char *text)
{
	json_object_object_add(object, key,
						   text ? json_object_new_string(text) : NULL);
}

static int
print_verbatim(struct json_object *value, struct printbuf *out,
			   int level, int flags)
{
	const char *text = json_object_get_userdata(value);

	(void) level;
	(void) flags;
	return printbuf_memappend(out, text, (int) strlen(text));
}

static void
free_verbatim(struct json_object *value, void *text)
{
	(void) value;
	free(text);
}

/* A member whose value is "text" exactly as it is, JSON or not. */
static void
put_verbatim(struct json_object *object, const char *key, const char *text)
{
	struct json_object *value = json_object_new_object();

	json_object_set_serializer(value, print_verbatim, sb_strdup(text),
							   free_verbatim);
	json_object_object_add(object, key, value);
}

static struct json_object *
list(const char *only)
{
	struct json_object *array = json_object_new_array();

	json_object_array_add(array, json_object_new_string(only));
	return array;
}

static struct json_object *
experience(const Invention *x, unsigned which, bool newer_keys)
{
	struct json_object *object = json_object_new_object();
	size_t		job = pick(x, 10 + which, COUNT(jobs));
	char		text[2 * NAME_CHARS];

	/* The last one, which comes first, begins when the one before it ends. */
	(void) snprintf(text, sizeof(text), "2021-0%zu-01", 1 + pick(x, 20, 9));
	put(object, "dateFrom", which == 0 ? text : "2015-04-01");
	put(object, "dateTo", which == 0 ? NULL : text);
	(void) snprintf(text, sizeof(text), "Responsible for %s",
					jobs[job].department);
	put(object, "description", text);
	(void) snprintf(text, sizeof(text), "%s%s", which == 0 ? "" : "former-",
					x->domain);
	put(object, "domain", text);
	put(object, "jobTitle", jobs[job].title);
	if (newer_keys)
	{
		(void) snprintf(text, sizeof(text), "company-%zu",
						pick(x, 30 + which, 1000));
		put(object, "linkedinCompanyHandle", text);
	}
	return object;
}

static struct json_object *
experiences(const Invention *x, bool newer_keys)
{
	struct json_object *array = json_object_new_array();

	for (unsigned i = 0; i < 2; i++)
		json_object_array_add(array, experience(x, i, newer_keys));
	return array;
}

static struct json_object *
three_skills(const Invention *x)
{
	struct json_object *array = json_object_new_array();
	size_t		first = pick(x, 6, COUNT(skills));

	for (size_t i = 0; i < 3; i++)
		json_object_array_add(array,
							  json_object_new_string(skills[(first + i) % COUNT(skills)]));
	return array;
}

static void
put_contacts(struct json_object *object, const Invention *x)
{
	struct json_object *phone = json_object_new_object();
	struct json_object *email = json_object_new_object();

	json_object_object_add(phone, "numbers", list(x->phone));
	put(phone, "status", "verified");
	json_object_object_add(object, "phone", phone);
	put(email, "address", x->email);
	put(email, "status", "verified");
	json_object_object_add(object, "email", email);
}

static void
put_newer_keys(struct json_object *object, const Invention *x)
{
	size_t		job = pick(x, 10, COUNT(jobs));
	char		text[2 * NAME_CHARS];

	json_object_object_add(object, "inferredEmails", list(x->email));
	put(object, "updatedAt", "2026-10-27T12:09:37Z");
	json_object_object_add(object, "connectionsCount",
						   json_object_new_int((int) pick(x, 40, 500)));
	json_object_object_add(object, "followersCount",
						   json_object_new_int((int) pick(x, 41, 5000)));
	(void) snprintf(text, sizeof(text), "%s at %s", jobs[job].title_english,
					x->domain);
	put(object, "headline", text);
}

static struct json_object *
whole_person(const SbConfig *config, const Invention *x)
{
	struct json_object *object = json_object_new_object();
	size_t		job = pick(x, 10, COUNT(jobs));
	size_t		place = pick(x, 4, COUNT(places));
	char		text[3 * NAME_CHARS];

	put(object, "id", x->id);
	put(object, "domain", x->domain);
	put(object, "name", x->name);
	put(object, "firstName", x->first);
	put(object, "lastName", x->last);
	put(object, "country", places[place].country);
	put(object, "state", places[place].state);
	put(object, "location", places[place].location);
	put(object, "linkedinUrl", x->linkedin);
	json_object_object_add(object, "seniorities", list(jobs[job].seniority));
	json_object_object_add(object, "departments", list(jobs[job].department));
	(void) snprintf(text, sizeof(text), "https://photos.example/%016" PRIx64,
					x->hash);
	put(object, "photo", text);
	put(object, "jobTitle", jobs[job].title);
	put(object, "jobTitleEnglish", jobs[job].title_english);
	(void) snprintf(text, sizeof(text), "Responsible for %s at %s",
					jobs[job].department, x->domain);
	put(object, "currentJobDescription", text);
	json_object_object_add(object, "experiences",
						   experiences(x, config->newer_keys));
	(void) snprintf(text, sizeof(text), "%s lives near %s and likes %s.",
					x->name, places[place].location,
					skills[pick(x, 7, COUNT(skills))]);
	put(object, "summary", text);
	json_object_object_add(object, "skills", three_skills(x));
	put_contacts(object, x);
	if (config->newer_keys)
		put_newer_keys(object, x);
	return object;
}

/* Leave "id" and "domain"; the others become null or go away. */
static void
strip(struct json_object *object, bool to_null)
{
	json_object_object_foreach(object, key, value)
	{
		(void) value;
		if (strcmp(key, "id") == 0 || strcmp(key, "domain") == 0)
			continue;
		/* Changing and deleting the current member are both allowed. */
		if (to_null)
			json_object_object_add(object, key, NULL);
		else
			json_object_object_del(object, key);
	}
}

/* A string of "count" times "c", in memory that the caller frees. */
static char *
repeat(char c, size_t count)
{
	char	   *text = sb_zalloc(count + 1);

	memset(text, c, count);
	return text;
}

/* As many characters more in the summary as the body lacks. */
static void
pad(struct json_object *object, int kb)
{
	size_t		wanted = (size_t) (kb < OVERSIZED_MAX_KB ? kb : OVERSIZED_MAX_KB) * 1024;
	size_t		len;
	char	   *padding;

	put(object, "summary", "");
	(void) json_object_to_json_string_length(object,
											 JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE,
											 &len);
	if (len >= wanted)
		return;
	padding = repeat('x', wanted - len);
	put(object, "summary", padding);
	free(padding);
}

static void
nest(struct json_object *object, int depth)
{
	char	   *text = repeat('[', 2 * (size_t) depth);

	memset(text + depth, ']', (size_t) depth);
	put_verbatim(object, "nested", text);
	free(text);
}

static void
put_new_keys(struct json_object *object)
{
	put(object, "favouriteColour", "green");
	json_object_object_add(object, "remote", json_object_new_boolean(true));
	put_verbatim(object, "pets",
				 "[{\"kind\": \"cat\", \"ages\": [1, 2.50, null]}, {}]");
}

static void
put_bad_credits(struct json_object *object, int which)
{
	static const char *const values[] =
	{"\"three\"", "-3", "1000000000000000000000000000000", "null"};
	size_t		i = which >= 1 && which <= (int) COUNT(values) ? which - 1 : 0;

	put_verbatim(object, "creditsUsed", values[i]);
}

/* Change what the answer says. */
static void
alter(struct json_object *object, const SbFault *fault)
{
	switch (fault->kind)
	{
		case SB_FAULT_OVERSIZED:
			pad(object, fault->n);
			break;
		case SB_FAULT_NOID:
			json_object_object_del(object, "id");
			break;
		case SB_FAULT_BADUTF8:
			put(object, "summary", "not UTF-8: \xff\xfe, overlong: \xc0\xaf");
			break;
		case SB_FAULT_NUL:
			put_verbatim(object, "summary", "\"before\\u0000after\"");
			break;
		case SB_FAULT_SURROGATE:
			put_verbatim(object, "summary", "\"half of a pair: \\ud83d.\"");
			break;
		case SB_FAULT_HUGEINT:
			put_verbatim(object, "hugeInteger",
						 "1234567890123456789012345678901234567890");
			put_verbatim(object, "longDecimal",
						 "0.123456789012345678901234567891");
			break;
		case SB_FAULT_NEWKEYS:
			put_new_keys(object);
			break;
		case SB_FAULT_NULLS:
			strip(object, true);
			break;
		case SB_FAULT_MINIMAL:
			strip(object, false);
			break;
		case SB_FAULT_UNICODE:
			put(object, "name", "Łucja Šťastná");
			put(object, "jobTitle", "最高経営責任者");
			put(object, "summary", "Любит море 🌊 и 👩‍💻");
			break;
		case SB_FAULT_LATIN1:
			put(object, "name", "Zoë Müller-Åkesson");
			put(object, "summary", "Señora, garçon, Straße, ½ año");
			break;
		case SB_FAULT_DEEP:
			nest(object, fault->n);
			break;
		case SB_FAULT_BADCREDITS:
			put_bad_credits(object, fault->n);
			break;
		default:
			break;
	}
}

static void
put_credits(struct json_object *object, SbAmount cost)
{
	char		text[SB_AMOUNT_CHARS];

	sb_amount_format(cost, text);
	put_verbatim(object, "creditsUsed", text);
}

void
sb_person_reply(const SbConfig *config, struct json_object *body,
				const char *identity, const SbFault *fault, SbReply *reply)
{
	struct json_object *object;
	struct json_object *array;
	Invention	x;

	invent(&x, body, identity);
	object = whole_person(config, &x);
	if (config->credits_used)
		put_credits(object, config->cost);
	alter(object, fault);

	switch (fault->kind)
	{
		case SB_FAULT_NOTOBJECT:
			array = json_object_new_array();
			json_object_array_add(array, object);
			sb_reply_json(reply, 200, array);
			break;
		case SB_FAULT_BADJSON:
			sb_reply_json(reply, 200, object);
			reply->body_len--;	/* without its closing brace */
			break;
		case SB_FAULT_EMPTY:
			json_object_put(object);
			sb_reply_text(reply, 200, "application/json", "", 0);
			break;
		case SB_FAULT_DETAIL200:
			json_object_put(object);
			sb_reply_detail(reply, 200, "No matching record found");
			break;
		case SB_FAULT_HTML:
			json_object_put(object);
			sb_reply_html(reply, 200, "Welcome to the hotel network");
			break;
		default:
			sb_reply_json(reply, 200, object);
			break;
	}
}
