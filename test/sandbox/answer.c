/*
 * answer.c
 *		Writes people as JSON, with the keys in the documentation's order.
 */
#include "answer.h"

#include <stdio.h>
#include <string.h>

#include "text.h"

#define LINE_CHARS			(4 * SB_NAME_CHARS)
#define OVERSIZED_MAX_KB	(64 * 1024)

typedef struct Writer
{
	SbText		text;
	SbFaultKind fault;
	SbContacts	contacts;
	SbAmount	cost;
} Writer;

/* A fault that replaces one of these values by JSON, or almost JSON. */
typedef struct Alteration
{
	SbFaultKind kind;
	const char *name;
	const char *job_title;
	const char *summary;
	const char *more;			/* members after all others */
} Alteration;

static const Alteration alterations[] = {
	{SB_FAULT_BADUTF8, NULL, NULL,
		"\"not UTF-8: \xff\xfe, overlong: \xc0\xaf\"", NULL},
	{SB_FAULT_NUL, NULL, NULL, "\"before\\u0000after\"", NULL},
	{SB_FAULT_SURROGATE, NULL, NULL, "\"half of a pair: \\ud83d.\"", NULL},
	{SB_FAULT_HUGEINT, NULL, NULL, NULL,
		"\"hugeInteger\":1234567890123456789012345678901234567890,"
		"\"longDecimal\":0.123456789012345678901234567891"},
	{SB_FAULT_NEWKEYS, NULL, NULL, NULL,
		"\"favouriteColour\":\"green\",\"remote\":true,"
		"\"pets\":[{\"kind\":\"cat\",\"ages\":[1,2.50,null]},{}]"},
	{SB_FAULT_UNICODE, "\"Łucja Šťastná\"", "\"最高経営責任者\"",
		"\"Любит море 🌊 и 👩‍💻\"", NULL},
	{SB_FAULT_LATIN1, "\"Zoë Müller-Åkesson\"", NULL,
		"\"Señora, garçon, Straße, ½ año\"", NULL},
	{SB_FAULT_NONE, NULL, NULL, NULL, NULL}
};

/* Begin a member of the open object. */
static void
add_key(SbText *text, const char *key)
{
	if (text->data[text->len - 1] != '{')
		sb_text_add_string(text, ",");
	sb_text_add_json(text, key);
	sb_text_add_string(text, ":");
}

static void
add_member(SbText *text, const char *key, const char *value)
{
	add_key(text, key);
	if (value != NULL)
		sb_text_add_json(text, value);
	else
		sb_text_add_string(text, "null");
}

static void
add_list(SbText *text, const char *const *strings, int count)
{
	sb_text_add_string(text, "[");
	for (int i = 0; i < count; i++)
	{
		if (i > 0)
			sb_text_add_string(text, ",");
		sb_text_add_json(text, strings[i]);
	}
	sb_text_add_string(text, "]");
}

/*
 * Begin an optional member of the person.  False if it gets no value: one
 * fault leaves all optional members out, another makes them all null.
 */
static bool
begin_optional(Writer *writer, const char *key)
{
	if (writer->fault == SB_FAULT_MINIMAL)
		return false;
	if (writer->fault == SB_FAULT_NULLS)
	{
		add_member(&writer->text, key, NULL);
		return false;
	}
	add_key(&writer->text, key);
	return true;
}

static void
put_text(Writer *writer, const char *key, const char *value)
{
	if (!begin_optional(writer, key))
		return;
	if (value != NULL)
		sb_text_add_json(&writer->text, value);
	else
		sb_text_add_string(&writer->text, "null");
}

/* The value is "json" unless that is NULL, else the string "value". */
static void
put_altered(Writer *writer, const char *key, const char *value,
			const char *json)
{
	if (json == NULL)
		put_text(writer, key, value);
	else if (begin_optional(writer, key))
		sb_text_add_string(&writer->text, json);
}

static void
put_list(Writer *writer, const char *key, const char *const *strings,
		 int count)
{
	if (begin_optional(writer, key))
		add_list(&writer->text, strings, count);
}

static void
put_int(Writer *writer, const char *key, int value)
{
	char		digits[16];

	(void) snprintf(digits, sizeof(digits), "%d", value);
	if (begin_optional(writer, key))
		sb_text_add_string(&writer->text, digits);
}

static void
add_experience(SbText *text, const SbInvention *person, int which,
			   bool newer_keys)
{
	const SbJob *job = person->jobs[which];
	bool		present = which == 0;
	char		line[LINE_CHARS];

	sb_text_add_string(text, "{");
	add_member(text, "dateFrom", present ? "2021-03-01" : "2015-08-01");
	add_member(text, "dateTo", present ? NULL : "2021-02-28");
	(void) snprintf(line, sizeof(line), "Responsible for %s", job->department);
	add_member(text, "description", line);
	(void) snprintf(line, sizeof(line), "%s%s", present ? "" : "former-",
					person->domain);
	add_member(text, "domain", line);
	add_member(text, "jobTitle", job->title);
	if (newer_keys)
		add_member(text, "linkedinCompanyHandle", line);
	sb_text_add_string(text, "}");
}

static void
put_experiences(Writer *writer, const SbInvention *person, bool newer_keys)
{
	if (!begin_optional(writer, "experiences"))
		return;
	sb_text_add_string(&writer->text, "[");
	for (int i = 0; i < SB_EXPERIENCES; i++)
	{
		if (i > 0)
			sb_text_add_string(&writer->text, ",");
		add_experience(&writer->text, person, i, newer_keys);
	}
	sb_text_add_string(&writer->text, "]");
}

/* The members of a phone number, without the braces. */
static void
add_phone(SbText *text, const SbInvention *person, SbContact contact)
{
	const char *numbers[] = {person->phone};

	if (contact == SB_CONTACT_KNOWN)
	{
		add_key(text, "numbers");
		add_list(text, numbers, 1);
		add_member(text, "status", "verified");
		return;
	}
	add_member(text, "numbers", NULL);
	add_member(text, "status",
			   contact == SB_CONTACT_PENDING ? "inProgress" : "notFound");
}

static void
add_email(SbText *text, const SbInvention *person, SbContact contact)
{
	bool		known = contact == SB_CONTACT_KNOWN;

	add_member(text, "address", known ? person->email : NULL);
	add_member(text, "status", known ? "verified" : "notFound");
}

static void
put_phone(Writer *writer, const SbInvention *person)
{
	if (!begin_optional(writer, "phone"))
		return;
	sb_text_add_string(&writer->text, "{");
	add_phone(&writer->text, person, writer->contacts.phone);
	sb_text_add_string(&writer->text, "}");
}

static void
put_email(Writer *writer, const SbInvention *person)
{
	/* The API has no status for an address that is still to come. */
	if (writer->contacts.email == SB_CONTACT_PENDING)
	{
		put_text(writer, "email", NULL);
		return;
	}
	if (!begin_optional(writer, "email"))
		return;
	sb_text_add_string(&writer->text, "{");
	add_email(&writer->text, person, writer->contacts.email);
	sb_text_add_string(&writer->text, "}");
}

static void
put_newer_keys(Writer *writer, const SbInvention *person)
{
	const char *emails[] = {person->email};
	char		line[LINE_CHARS];

	put_list(writer, "inferredEmails", emails, 1);
	put_text(writer, "updatedAt", "2026-10-27T12:09:37Z");
	put_int(writer, "connectionsCount", person->connections);
	put_int(writer, "followersCount", person->followers);
	(void) snprintf(line, sizeof(line), "%s at %s",
					person->jobs[0]->title_english, person->domain);
	put_text(writer, "headline", line);
}

static void
put_place(Writer *writer, const SbInvention *person)
{
	put_text(writer, "country", person->place->country);
	put_text(writer, "state", person->place->state);
	put_text(writer, "location", person->place->location);
	put_text(writer, "linkedinUrl", person->linkedin);
}

/* "job_title" and "summary" are JSON or NULL, as for put_altered(). */
static void
put_work(Writer *writer, const SbInvention *person, bool newer_keys,
		 const char *job_title, const char *summary)
{
	const SbJob *job = person->jobs[0];
	char		line[LINE_CHARS];

	put_list(writer, "seniorities", &job->seniority, 1);
	put_list(writer, "departments", &job->department, 1);
	(void) snprintf(line, sizeof(line), "https://photos.example/%s.jpg",
					person->id);
	put_text(writer, "photo", line);
	put_altered(writer, "jobTitle", job->title, job_title);
	put_text(writer, "jobTitleEnglish", job->title_english);
	(void) snprintf(line, sizeof(line), "Responsible for %s at %s",
					job->department, person->domain);
	put_text(writer, "currentJobDescription", line);
	put_experiences(writer, person, newer_keys);
	(void) snprintf(line, sizeof(line), "%s lives near %s and likes %s.",
					person->name, person->place->location, person->skills[0]);
	put_altered(writer, "summary", line, summary);
	put_list(writer, "skills", person->skills, SB_SKILLS);
}

static void
put_credits(Writer *writer, const SbConfig *config, const SbFault *fault)
{
	static const char *const bad[] =
	{"\"three\"", "-3", "1000000000000000000000000000000", "null"};
	char		cost[SB_AMOUNT_CHARS];

	if (fault->kind == SB_FAULT_BADCREDITS)
	{
		add_key(&writer->text, "creditsUsed");
		sb_text_add_string(&writer->text, bad[(unsigned) (fault->n - 1) % 4]);
	}
	else if (config->credits_used)
	{
		sb_amount_format(writer->cost, cost);
		add_key(&writer->text, "creditsUsed");
		sb_text_add_string(&writer->text, cost);
	}
}

static void
put_nested(Writer *writer, int depth)
{
	add_key(&writer->text, "nested");
	sb_text_fill(&writer->text, '[', (size_t) depth);
	sb_text_fill(&writer->text, ']', (size_t) depth);
}

/* Pad the whole body, including its last brace, to "kb" kilobytes. */
static void
put_padding(Writer *writer, int kb)
{
	SbText	   *text = &writer->text;
	size_t		wanted;

	if (kb > OVERSIZED_MAX_KB)
		kb = OVERSIZED_MAX_KB;
	wanted = (size_t) kb * 1024;
	add_key(text, "padding");
	sb_text_add_string(text, "\"");
	if (text->len + 2 < wanted)
		sb_text_fill(text, 'x', wanted - text->len - 2);
	sb_text_add_string(text, "\"");
}

static void
write_person(Writer *writer, const SbConfig *config,
			 const SbInvention *person, const SbFault *fault)
{
	int			a = 0;

	while (alterations[a].kind != fault->kind &&
		   alterations[a].kind != SB_FAULT_NONE)
		a++;

	sb_text_add_string(&writer->text, "{");
	if (fault->kind != SB_FAULT_NOID)
		add_member(&writer->text, "id", person->id);
	add_member(&writer->text, "domain", person->domain);
	put_altered(writer, "name", person->name, alterations[a].name);
	put_text(writer, "firstName", person->first_name);
	put_text(writer, "lastName", person->last_name);
	put_place(writer, person);
	put_work(writer, person, config->newer_keys, alterations[a].job_title,
			 alterations[a].summary);
	put_phone(writer, person);
	put_email(writer, person);
	if (config->newer_keys)
		put_newer_keys(writer, person);
	put_credits(writer, config, fault);
	if (alterations[a].more != NULL)
	{
		sb_text_add_string(&writer->text, ",");
		sb_text_add_string(&writer->text, alterations[a].more);
	}
	if (fault->kind == SB_FAULT_DEEP)
		put_nested(writer, fault->n);
	if (fault->kind == SB_FAULT_OVERSIZED)
		put_padding(writer, fault->n);
	if (fault->kind != SB_FAULT_BADJSON)
		sb_text_add_string(&writer->text, "}");
}

void
sb_answer(const SbConfig *config, const SbInvention *person,
		  const SbFault *fault, SbContacts contacts, SbAmount cost,
		  SbReply *reply)
{
	Writer		writer = {
		.fault = fault->kind,
		.contacts = contacts,
		.cost = cost
	};

	switch (fault->kind)
	{
		case SB_FAULT_EMPTY:
			sb_reply_text(reply, 200, "application/json", "", 0);
			return;
		case SB_FAULT_DETAIL200:
			sb_reply_detail(reply, 200, "No matching record found");
			return;
		case SB_FAULT_HTML:
			sb_reply_html(reply, 200, "Welcome to the hotel network");
			return;
		case SB_FAULT_NOTOBJECT:
			sb_text_add_string(&writer.text, "[");
			write_person(&writer, config, person, fault);
			sb_text_add_string(&writer.text, "]");
			break;
		default:
			write_person(&writer, config, person, fault);
			break;
	}
	sb_reply_take(reply, 200, "application/json", &writer.text);
}

/* A single finding: {"personId": ..., "address": ..., "status": ...} */
static void
add_finding(SbText *text, const SbInvention *person, SbContacts contacts,
			bool is_email)
{
	sb_text_add_string(text, "{");
	add_member(text, "personId", person->id);
	if (is_email)
		add_email(text, person, contacts.email);
	else
		add_phone(text, person, contacts.phone);
	sb_text_add_string(text, "}");
}

static void
add_credits_used(SbText *text, SbAmount cost)
{
	char		amount[SB_AMOUNT_CHARS];

	sb_amount_format(cost, amount);
	add_key(text, "creditsUsed");
	sb_text_add_string(text, amount);
}

static void
add_list_of_findings(SbText *text, const SbInvention *person,
					 SbContacts contacts, bool is_email, const char *key,
					 SbAmount cost)
{
	sb_text_add_string(text, "{");
	add_key(text, key);
	sb_text_add_string(text, "[");
	add_finding(text, person, contacts, is_email);
	sb_text_add_string(text, "]");
	add_credits_used(text, cost);
	sb_text_add_string(text, "}");
}

static void
add_person(SbText *text, const SbConfig *config, const SbInvention *person,
		   SbContacts contacts)
{
	SbConfig	plain = *config;
	SbFault		none = {.kind = SB_FAULT_NONE};
	Writer		writer = {.contacts = contacts};

	/* A person in a webhook has no "creditsUsed". */
	plain.credits_used = false;
	write_person(&writer, &plain, person, &none);
	sb_text_add(text, writer.text.data, writer.text.len);
	sb_text_free(&writer.text);
}

void
sb_answer_webhook(const SbConfig *config, const SbInvention *person,
				  SbContacts contacts, bool is_email, SbAmount cost,
				  SbText *payload)
{
	const char *form = config->webhook_form;

	if (strcmp(form, "lists") == 0)
		add_list_of_findings(payload, person, contacts, is_email,
							 is_email ? "emails" : "phones", cost);
	else if (strcmp(form, "results") == 0)
		add_list_of_findings(payload, person, contacts, is_email, "results",
							 cost);
	else if (strcmp(form, "people") == 0)
	{
		sb_text_add_string(payload, "{\"people\":[{\"uniqueId\":\"1\","
						   "\"status\":\"Success\",\"person\":");
		add_person(payload, config, person, contacts);
		sb_text_add_string(payload, "}],\"overallStatus\":\"Completed\"");
		add_credits_used(payload, cost);
		sb_text_add_string(payload, "}");
	}
	else
		add_person(payload, config, person, contacts);
}
