/*
 * control.c
 *		Reads and shows the state of the sandbox as JSON.
 */
#include "control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_DEFAULT_MS	10000
#define WAIT_MAX_MS		600000
#define NUMBER_MAX		9		/* digits of a query parameter */

static void
put_count(struct json_object *json, const char *key, uint64_t count)
{
	json_object_object_add(json, key, json_object_new_uint64(count));
}

static void
put_amount(struct json_object *json, const char *key, SbAmount amount)
{
	char		text[SB_AMOUNT_CHARS];

	sb_amount_format(amount, text);
	json_object_object_add(json, key, json_object_new_string(text));
}

static void
put_answers(struct json_object *json, const SbBooks *books)
{
	struct json_object *answers = json_object_new_object();
	char		key[12];

	for (int status = 0; status < SB_STATUS_END; status++)
	{
		if (books->answers[status] == 0)
			continue;
		(void) snprintf(key, sizeof(key), "%d", status);
		put_count(answers, key, books->answers[status]);
	}
	json_object_object_add(json, "answers", answers);
}

static struct json_object *
books_json(const SbBooks *books)
{
	struct json_object *json = json_object_new_object();

	put_count(json, "requests", books->requests);
	put_count(json, "connections", books->connections);
	put_count(json, "open_connections", books->open_connections);
	put_count(json, "in_flight", books->in_flight);
	put_count(json, "held", books->held);
	put_count(json, "most_in_flight", books->most_in_flight);
	put_answers(json, books);
	put_count(json, "unanswered", books->unanswered);
	put_amount(json, "charged", books->charged);
	put_count(json, "charges", books->charges);
	put_count(json, "webhooks", books->webhooks);
	put_count(json, "webhook_failures", books->webhook_failures);
	put_count(json, "webhooks_pending", books->webhooks_pending);
	put_count(json, "webhooks_refused", books->webhooks_refused);
	put_count(json, "reveals", books->reveals);
	put_amount(json, "reveals_charged", books->reveals_charged);
	put_count(json, "balances", books->balances);
	put_count(json, "refused_tokens", books->refused_tokens);
	put_count(json, "refused_by_rate", books->refused_by_rate);
	put_count(json, "most_in_window", books->most_in_window);
	put_count(json, "strangers", books->strangers);
	put_count(json, "strangers_with_token", books->strangers_with_token);
	return json;
}

/* "person" is NULL if the identity was never requested. */
static void
put_person(struct json_object *people, const char *identity,
		   const SbPerson *person)
{
	struct json_object *json = json_object_new_object();

	put_count(json, "requests", person ? person->requests : 0);
	put_count(json, "charges", person ? person->charges : 0);
	put_amount(json, "charged", person ? person->charged : 0);
	json_object_object_add(people, identity, json);
}

/* The counts of "identity", or of all people if it is NULL. */
static struct json_object *
people_json(const SbBooks *books, const char *identity)
{
	struct json_object *people = json_object_new_object();

	if (identity != NULL)
	{
		put_person(people, identity, sb_books_find(books, identity));
		return people;
	}
	for (SbPerson *person = books->first; person; person = person->next)
		put_person(people, person->identity, person);
	return people;
}

static void
reply_books(const SbBooks *books, const SbControlRequest *request,
			SbReply *reply)
{
	const char *identity = request->parameter(request->arg, "identity");
	const char *everybody = request->parameter(request->arg, "people");
	struct json_object *json = books_json(books);

	if (identity != NULL || everybody != NULL)
		json_object_object_add(json, "people",
							   people_json(books, identity));
	sb_reply_json(reply, 200, json);
}

static void
reply_config(const SbApi *api, SbReply *reply)
{
	sb_reply_json(reply, 200, sb_config_json(&api->config));
}

static void
change_config(SbApi *api, const SbControlRequest *request, SbReply *reply)
{
	struct json_object *change = json_tokener_parse(request->body);
	char		problem[SB_PROBLEM_CHARS];

	if (sb_api_configure(api, change, problem))
		reply_config(api, reply);
	else
		sb_reply_detail(reply, 400, problem);
	json_object_put(change);
}

static bool
is_request(const SbControlRequest *request, const char *method, const char *path)
{
	return strcmp(request->method, method) == 0 &&
		strcmp(request->path, path) == 0;
}

void
sb_control(SbApi *api, const SbControlRequest *request, SbReply *reply)
{
	if (is_request(request, "GET", "/sandbox/config"))
		reply_config(api, reply);
	else if (is_request(request, "POST", "/sandbox/config"))
		change_config(api, request, reply);
	else if (is_request(request, "GET", "/sandbox/books"))
		reply_books(&api->books, request, reply);
	else if (is_request(request, "POST", "/sandbox/reset"))
	{
		sb_api_reset(api);
		reply_books(&api->books, request, reply);
	}
	else
		sb_reply_detail(reply, 404, "The sandbox has no such endpoint");
}

/* Read a numeric parameter, 0 if it is missing.  False if it is no number. */
static bool
get_number(const SbControlRequest *request, const char *name, uint64_t *value)
{
	const char *text = request->parameter(request->arg, name);
	size_t		len;

	*value = 0;
	if (text == NULL)
		return true;
	len = strspn(text, "0123456789");
	if (len == 0 || len > NUMBER_MAX || text[len] != '\0')
		return false;
	*value = strtoull(text, NULL, 10);
	return true;
}

bool
sb_wait_parse(const SbControlRequest *request, SbWait *wait, SbReply *reply)
{
	uint64_t	idle;
	uint64_t	timeout_ms;

	if (!get_number(request, "requests", &wait->requests) ||
		!get_number(request, "held", &wait->held) ||
		!get_number(request, "in_flight", &wait->in_flight) ||
		!get_number(request, "charges", &wait->charges) ||
		!get_number(request, "balances", &wait->balances) ||
		!get_number(request, "webhooks", &wait->webhooks) ||
		!get_number(request, "webhook_failures", &wait->webhook_failures) ||
		!get_number(request, "idle", &idle) ||
		!get_number(request, "timeout_ms", &timeout_ms))
	{
		sb_reply_detail(reply, 400, "a parameter is not a number");
		return false;
	}
	wait->idle = idle != 0;
	if (timeout_ms == 0)
		timeout_ms = WAIT_DEFAULT_MS;
	if (timeout_ms > WAIT_MAX_MS)
		timeout_ms = WAIT_MAX_MS;
	wait->timeout_ms = (int) timeout_ms;
	return true;
}

bool
sb_wait_reached(const SbWait *wait, const SbBooks *books)
{
	return books->requests >= wait->requests &&
		books->held >= wait->held &&
		books->in_flight >= wait->in_flight &&
		books->charges >= wait->charges &&
		books->balances >= wait->balances &&
		books->webhooks >= wait->webhooks &&
		books->webhook_failures >= wait->webhook_failures &&
		(!wait->idle || books->in_flight == 0);
}

void
sb_wait_reply(bool reached, const SbBooks *books, SbReply *reply)
{
	struct json_object *json = books_json(books);

	json_object_object_add(json, "reached", json_object_new_boolean(reached));
	sb_reply_json(reply, 200, json);
}
