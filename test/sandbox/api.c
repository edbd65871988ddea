/*
 * api.c
 *		Judges requests in the API's order: failures in front of it, the token,
 *		the rate limit, the body, the credits, the person.
 */
#include "api.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "answer.h"
#include "check.h"

#define MICROSECONDS	INT64_C(1000000)

/* Texts of the API. */
#define DETAIL_GATHERING \
	"Data gathering process has started. Please try again later."
#define DETAIL_CONFLICT \
	"Conflicting API tokens provided in query parameters and headers"
#define DETAIL_EMPTY		"Empty `person` body"
#define DETAIL_CREDITS		"Insufficient credits"
#define DETAIL_NO_TOKEN \
	"API token should be provided in headers or query parameters"
#define DETAIL_BAD_TOKEN \
	"Current API token is not registered in our database"
#define DETAIL_NOT_FOUND	"No matching record found"

/* Not documented, but plausible. */
#define DETAIL_RATE			"Too many requests"
#define DETAIL_VERIFICATION	"Verification is disabled for this account"
#define DETAIL_EMAIL_CREDITS	"Insufficient email credits"
#define DETAIL_PHONE_CREDITS	"Insufficient phone credits"
#define DETAIL_NO_EMAILS \
	"Revealing e-mail addresses is not enabled for this account"
#define DETAIL_NO_PHONES \
	"Revealing phone numbers is not enabled for this account"
#define DETAIL_TOO_LITTLE \
	"Not enough data to match this person with confidence"

/* The balance shown for unlimited credits. */
#define BALANCE_UNLIMITED	(1000000 * SB_AMOUNT_ONE)

void
sb_api_init(SbApi *api, const char **tokens)
{
	*api = (SbApi) {.tokens = tokens};
	sb_config_init(&api->config);
	sb_books_init(&api->books);
}

void
sb_api_free(SbApi *api)
{
	sb_books_free(&api->books);
	sb_rate_reset(&api->rate);
	sb_rate_reset(&api->arrivals);
}

bool
sb_api_configure(SbApi *api, struct json_object *change,
				 char problem[SB_PROBLEM_CHARS])
{
	if (!sb_config_change(&api->config, change, problem))
		return false;
	if (json_object_object_get_ex(change, "seed", NULL))
		api->random_state = (uint64_t) api->config.seed;
	/* Credits that are bought do not change unlimited credits. */
	if (api->config.credits != SB_NOT_SET)
		api->config.credits += api->config.add_credits;
	api->config.add_credits = 0;
	return true;
}

void
sb_api_reset(SbApi *api)
{
	sb_books_reset(&api->books);
	sb_rate_reset(&api->rate);
	sb_rate_reset(&api->arrivals);
}

/* A number in [0, 1); the same seed gives the same numbers. */
static double
next_random(SbApi *api)
{
	uint64_t	x = api->random_state += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	x ^= x >> 31;
	return (double) (x >> 11) / (double) (UINT64_C(1) << 53);
}

/* A missing Content-Type counts as JSON, as in FastAPI. */
static bool
is_declared_as_json(const char *content_type)
{
	static const char json[] = "application/json";
	size_t		len = sizeof(json) - 1;

	return content_type == NULL ||
		(strncasecmp(content_type, json, len) == 0 &&
		 strchr("; \t", content_type[len]) != NULL);
}

/*
 * The body as JSON, or complaints about it with *valid = false.  A body that
 * is JSON can still be refused later; then its person is known.
 */
static struct json_object *
parse_json(const SbCall *call, bool *valid)
{
	struct json_tokener *tokener = json_tokener_new();
	enum json_tokener_error error;
	struct json_object *json;

	/* In strict mode json-c 0.18 refuses all but ASCII. */
	int			strict = json_c_version_num() >> 8 == 18 ? 0 : JSON_TOKENER_STRICT;

	json_tokener_set_flags(tokener, strict | JSON_TOKENER_VALIDATE_UTF8);
	/* Include the final NUL, so that a number at the end is complete. */
	json = json_tokener_parse_ex(tokener, call->body,
								 (int) call->body_len + 1);
	error = json_tokener_get_error(tokener);
	*valid = error == json_tokener_success;
	if (!*valid)
		json = sb_check_no_json(json_tokener_get_parse_end(tokener),
								json_tokener_error_desc(error));
	json_tokener_free(tokener);
	return json;
}

static void
find_identity_and_fault(SbCall *call)
{
	struct json_object *person;

	if (json_object_is_type(call->json, json_type_object) &&
		json_object_object_get_ex(call->json, "person", &person) &&
		json_object_is_type(person, json_type_object))
		call->has_identity = sb_identity(person, call->identity);
	if (call->has_identity)
		call->fault = sb_fault_parse(call->identity);
}

void
sb_api_receive(SbApi *api, SbCall *call, int64_t now_us)
{
	const SbPerson *person;

	if (call->body_len == 0)
		call->json = sb_check_no_body();
	else if (!is_declared_as_json(call->content_type))
		call->json = sb_check_not_declared();
	else
	{
		call->json = parse_json(call, &call->valid);
		if (call->valid)
			find_identity_and_fault(call);
	}

	person = sb_books_request(&api->books,
							  call->has_identity ? call->identity : NULL,
							  now_us);
	if (person != NULL)
	{
		call->nth = person->requests;
		call->first_us = person->first_us;
	}
}

void
sb_call_free(SbCall *call)
{
	json_object_put(call->json);
	call->json = NULL;
}

/* The fault named by the request, or the configured one. */
static SbFault
choose_fault(SbApi *api, const SbCall *call)
{
	const SbConfig *config = &api->config;

	if (call->fault.named || config->fault[0] == '\0')
		return call->fault;
	if (config->fault_probability < 1 &&
		next_random(api) >= config->fault_probability)
		return call->fault;
	return sb_fault_parse(config->fault);
}

static int
choose_delay_ms(SbApi *api, const SbFault *fault)
{
	int			delay_ms = api->config.latency_ms + fault->latency_ms;

	if (api->config.latency_jitter_ms > 0)
		delay_ms += (int) (next_random(api) * api->config.latency_jitter_ms);
	return delay_ms;
}

/* A 429, with a Retry-After if one is configured. */
static void
reply_rate_limited(const SbConfig *config, SbReply *reply)
{
	sb_reply_detail(reply, 429, DETAIL_RATE);
	reply->rate_limit = config->rate_limit > 0 ? config->rate_limit : 60;
	if (config->retry_after_s != SB_NOT_SET)
		(void) snprintf(reply->retry_after, sizeof(reply->retry_after), "%d",
						config->retry_after_s);
}

static void
reply_retry_date(const SbConfig *config, int seconds, SbReply *reply)
{
	time_t		then = time(NULL) + seconds;
	struct tm	utc;

	reply_rate_limited(config, reply);
	if (gmtime_r(&then, &utc) != NULL)
		(void) strftime(reply->retry_after, sizeof(reply->retry_after),
						"%a, %d %b %Y %H:%M:%S GMT", &utc);
}

static void
reply_invalid(SbReply *reply, struct json_object *errors)
{
	struct json_object *json = json_object_new_object();

	json_object_object_add(json, "detail", errors);
	sb_reply_json(reply, 422, json);
}

static void
reply_unknown_fault(SbReply *reply, const char *fault)
{
	char		detail[SB_IDENTITY_CHARS + 100];

	(void) snprintf(detail, sizeof(detail),
					"The sandbox has no such fault: %s", fault);
	sb_reply_detail(reply, 501, detail);
}

/* The title of the page that a proxy answers with this status, or NULL. */
static const char *
title_of_page(int status)
{
	switch (status)
	{
		case 502:
			return "502 Bad Gateway";
		case 520:
			return "520: Web server is returning an unknown error";
		case 521:
			return "521: Web server is down";
		case 522:
			return "522: Connection timed out";
		case 523:
			return "523: Origin is unreachable";
		case 524:
			return "524: A timeout occurred";
		case 525:
			return "525: SSL handshake failed";
		case 526:
			return "526: Invalid SSL certificate";
		case 530:
			return "530: Origin DNS error";
		default:
			return NULL;
	}
}

/* An answer with this status and its usual text. */
static void
reply_status(const SbConfig *config, int status, SbReply *reply)
{
	const char *title = title_of_page(status);
	char		detail[20];

	switch (status)
	{
		case 201:
			sb_reply_detail(reply, status, DETAIL_GATHERING);
			break;
		case 400:
			sb_reply_detail(reply, status, DETAIL_EMPTY);
			break;
		case 402:
			sb_reply_detail(reply, status, DETAIL_CREDITS);
			break;
		case 403:
			sb_reply_detail(reply, status, DETAIL_BAD_TOKEN);
			break;
		case 404:
			sb_reply_detail(reply, status, DETAIL_NOT_FOUND);
			break;
		case 422:
			reply_invalid(reply, sb_check_sample());
			break;
		case 429:
			reply_rate_limited(config, reply);
			break;
		case 500:
			sb_reply_detail(reply, status, "Internal Server Error");
			break;
		case 503:
			sb_reply_detail(reply, status, "Service Unavailable");
			break;
		case 504:
			sb_reply_detail(reply, status, "Gateway Timeout");
			break;
		default:
			if (title != NULL)
			{
				sb_reply_html(reply, status, title);
				break;
			}
			(void) snprintf(detail, sizeof(detail), "Status %d", status);
			sb_reply_detail(reply, status, detail);
			break;
	}
}

/* Failures in front of the API.  True if the request ends there. */
static bool
fails_before_api(const SbConfig *config, const SbFault *fault, SbReply *reply)
{
	if (config->down != SB_NOT_SET)
	{
		reply_status(config, config->down, reply);
		return true;
	}
	switch (fault->kind)
	{
		case SB_FAULT_HANG:
			reply->delivery = SB_DELIVER_NEVER;
			return true;
		case SB_FAULT_CUT_BEFORE:
			reply->delivery = SB_DELIVER_NOTHING;
			return true;
		case SB_FAULT_REDIRECT:
			sb_reply_text(reply, 302, "text/plain", "", 0);
			reply->location = config->redirect_to;
			return true;
		default:
			return false;
	}
}

static bool
is_registered(const SbApi *api, const char *token)
{
	for (const char **known = api->tokens; *known != NULL; known++)
	{
		if (strcmp(*known, token) == 0)
			return true;
	}
	return false;
}

static const char *
null_if_empty(const char *text)
{
	return text != NULL && text[0] != '\0' ? text : NULL;
}

/*
 * This check and the ones that follow return true, with the answer filled in,
 * if they refuse the request.
 */
static bool
refuse_token(SbApi *api, const SbTokens *tokens, SbReply *reply)
{
	const char *header = null_if_empty(tokens->header);
	const char *query = null_if_empty(tokens->query);
	const char *token = header ? header : query;

	if (header != NULL && query != NULL &&
		(api->config.identical_tokens_conflict || strcmp(header, query) != 0))
		sb_reply_detail(reply, 400, DETAIL_CONFLICT);
	else if (token == NULL)
		sb_reply_detail(reply, 403, DETAIL_NO_TOKEN);
	else if (!is_registered(api, token))
		sb_reply_detail(reply, 403, DETAIL_BAD_TOKEN);
	else
		return false;

	api->books.refused_tokens++;
	return true;
}

static bool
refuse_for_rate(SbApi *api, int64_t now_us, SbReply *reply)
{
	const SbConfig *config = &api->config;
	SbWindow	window = {
		.length_us = config->rate_window_ms * INT64_C(1000),
		.fixed = strcmp(config->rate_window_kind, "fixed") == 0
	};
	size_t		arrivals = sb_rate_count(&api->arrivals, window, now_us);
	int64_t		wait_us;

	if (api->books.most_in_window < arrivals)
		api->books.most_in_window = arrivals;
	if (config->rate_limit == 0 ||
		sb_rate_admit(&api->rate, window, (size_t) config->rate_limit, now_us,
					  &wait_us))
		return false;
	api->books.refused_by_rate++;
	reply_rate_limited(config, reply);
	if (config->retry_after_s == SB_NOT_SET)
		(void) snprintf(reply->retry_after, sizeof(reply->retry_after), "%d",
						(int) ((wait_us + MICROSECONDS - 1) / MICROSECONDS));
	return true;
}

static bool
is_empty_person(struct json_object *person)
{
	json_object_object_foreach(person, key, value)
	{
		(void) key;
		if (value != NULL)
			return false;
	}
	return true;
}

static bool
refuse_body(const SbCall *call, SbReply *reply)
{
	struct json_object *errors;

	if (!call->valid)
	{
		reply_invalid(reply, json_object_get(call->json));
		return true;
	}
	errors = sb_check_body(call->json);
	if (json_object_array_length(errors) > 0)
	{
		reply_invalid(reply, errors);
		return true;
	}
	json_object_put(errors);
	if (is_empty_person(json_object_object_get(call->json, "person")))
	{
		sb_reply_detail(reply, 400, DETAIL_EMPTY);
		return true;
	}
	return false;
}

/* The faults that are an answer other than 200. */
static bool
refuse_for_fault(const SbConfig *config, const SbCall *call,
				 const SbFault *fault, int64_t now_us, SbReply *reply)
{
	switch (fault->kind)
	{
		case SB_FAULT_MISSPELT:
			reply_unknown_fault(reply, call->identity);
			return true;
		case SB_FAULT_UNKNOWN:
			sb_reply_detail(reply, 404, DETAIL_NOT_FOUND);
			return true;
		case SB_FAULT_GATHERING:
			if (now_us - call->first_us >= fault->n * INT64_C(1000))
				return false;
			sb_reply_detail(reply, 201, DETAIL_GATHERING);
			return true;
		case SB_FAULT_ONCE:
			if (call->nth > 1)
				return false;
			/* FALLTHROUGH */
		case SB_FAULT_STATUS:
			if (fault->n <= 200 || fault->n >= SB_STATUS_END)
				reply_unknown_fault(reply, "a status is between 201 and 599");
			else
				reply_status(config, fault->n, reply);
			return true;
		case SB_FAULT_DETAIL_VERIFICATION:
			sb_reply_detail(reply, 403, DETAIL_VERIFICATION);
			return true;
		case SB_FAULT_TOOLITTLE:
			sb_reply_detail(reply, fault->n == 404 ? 404 : 422,
							DETAIL_TOO_LITTLE);
			return true;
		case SB_FAULT_INVALID:
			reply_status(config, 422, reply);
			return true;
		case SB_FAULT_RETRYAFTER:
			reply_rate_limited(config, reply);
			(void) snprintf(reply->retry_after, sizeof(reply->retry_after),
							"%d", fault->n);
			return true;
		case SB_FAULT_RETRYDATE:
			reply_retry_date(config, fault->n, reply);
			return true;
		default:
			return false;
	}
}

static bool
refuse_for_credits(const SbConfig *config, SbAmount cost, SbReply *reply)
{
	if (config->credits == SB_NOT_SET || config->credits >= cost)
		return false;
	sb_reply_detail(reply, 402, DETAIL_CREDITS);
	return true;
}

static void
charge(SbApi *api, const SbCall *call, SbAmount cost)
{
	if (api->config.credits != SB_NOT_SET)
		api->config.credits -= cost;
	sb_books_charge(&api->books, call->identity, cost);
}

void
sb_api_charge_reveal(SbApi *api, SbAmount cost)
{
	if (cost == 0)
		return;
	if (api->config.credits != SB_NOT_SET)
		api->config.credits -= cost < api->config.credits ? cost
			: api->config.credits;
	api->books.reveals++;
	api->books.reveals_charged += cost;
}

/* A request to reveal the e-mail address or the phone number. */
typedef struct Reveal
{
	bool		asked;
	const char *url;			/* of the webhook; NULL: in the answer */
} Reveal;

static Reveal
parse_reveal(const SbCall *call, const char *key, const char *flag)
{
	struct json_object *member = json_object_object_get(call->json, key);
	const char *url = json_object_get_string(json_object_object_get(member, "webhookUrl"));
	Reveal		reveal = {
		.asked = json_object_get_boolean(json_object_object_get(member, flag))
	};

	if (reveal.asked)
		reveal.url = null_if_empty(url);
	return reveal;
}

/* What is requested may not be enabled, or may need credits of its own. */
static bool
refuse_for_reveal(const SbConfig *config, Reveal email, Reveal phone,
				  SbReply *reply)
{
	if (email.asked && config->emails_status != SB_NOT_SET)
		sb_reply_detail(reply, config->emails_status,
						config->emails_status == 402 ?
						DETAIL_EMAIL_CREDITS : DETAIL_NO_EMAILS);
	else if (phone.asked && config->phones_status != SB_NOT_SET)
		sb_reply_detail(reply, config->phones_status,
						config->phones_status == 402 ?
						DETAIL_PHONE_CREDITS : DETAIL_NO_PHONES);
	else
		return false;
	return true;
}

/* The state of the address or number in the answer. */
static SbContact
contact_in_answer(Reveal reveal, bool found)
{
	if (reveal.url != NULL)
		return SB_CONTACT_PENDING;
	return !reveal.asked || found ? SB_CONTACT_KNOWN : SB_CONTACT_NOT_FOUND;
}

/* The cost of the answer.  Webhooks are charged when they are sent. */
static SbAmount
cost_of_answer(const SbConfig *config, const SbFault *fault,
			   Reveal email, Reveal phone)
{
	SbAmount	cost = config->cost;

	if (fault->kind == SB_FAULT_NOTREVEALED || fault->kind == SB_FAULT_NULLS ||
		fault->kind == SB_FAULT_MINIMAL)
		return cost;
	if (email.asked && email.url == NULL)
		cost += config->email_cost;
	if (phone.asked && phone.url == NULL)
		cost += config->phone_cost;
	return cost;
}

static void
queue_webhook(SbApi *api, const char *url, const SbInvention *person,
			  SbContacts contacts, bool is_email, SbAmount cost)
{
	SbText		payload = {0};

	sb_answer_webhook(&api->config, person, contacts, is_email, cost,
					  &payload);
	api->queue_webhook(api->queue_webhook_arg, url, &payload, cost);
	sb_text_free(&payload);
}

/*
 * Queue the requested webhooks, the e-mail address before the phone number.
 * Returns the contacts of the answer, where those are still pending.
 */
static SbContacts
reveal_contacts(SbApi *api, const SbInvention *person, const SbFault *fault,
				Reveal email, Reveal phone)
{
	bool		found = fault->kind != SB_FAULT_NOTREVEALED;
	SbContact	revealed = found ? SB_CONTACT_KNOWN : SB_CONTACT_NOT_FOUND;
	SbContacts	answer = {
		contact_in_answer(email, found),
		contact_in_answer(phone, found)
	};
	SbContacts	contacts = answer;

	if (email.url != NULL)
	{
		contacts.email = revealed;
		queue_webhook(api, email.url, person, contacts, true,
					  found ? api->config.email_cost : 0);
	}
	if (phone.url != NULL)
	{
		contacts.phone = revealed;
		queue_webhook(api, phone.url, person, contacts, false,
					  found ? api->config.phone_cost : 0);
	}
	return answer;
}

static void
set_delivery(const SbFault *fault, SbReply *reply)
{
	switch (fault->kind)
	{
		case SB_FAULT_CUT_LOST:
			reply->delivery = SB_DELIVER_NOTHING;
			break;
		case SB_FAULT_CUT_DURING:
			reply->delivery = SB_DELIVER_HALF;
			break;
		case SB_FAULT_CUT_AFTER:
			reply->delivery = SB_DELIVER_AND_CLOSE;
			break;
		case SB_FAULT_TRUNCATED:
			reply->delivery = SB_DELIVER_PROMISING_MORE;
			break;
		case SB_FAULT_DRIP:
			reply->delivery = SB_DELIVER_SLOWLY;
			reply->slowness_ms = fault->n;
			break;
		default:
			break;
	}
}

void
sb_api_judge(SbApi *api, const SbCall *call, int64_t now_us, SbReply *reply)
{
	const SbConfig *config = &api->config;
	SbFault		fault = choose_fault(api, call);
	SbInvention person;
	Reveal		email;
	Reveal		phone;
	SbAmount	cost;

	reply->delay_ms = choose_delay_ms(api, &fault);
	if (fails_before_api(config, &fault, reply) ||
		refuse_token(api, &call->tokens, reply) ||
		refuse_for_rate(api, now_us, reply) ||
		refuse_body(call, reply) ||
		refuse_for_fault(config, call, &fault, now_us, reply))
		return;
	if (!call->has_identity)
	{
		sb_reply_detail(reply, 404, DETAIL_NOT_FOUND);
		return;
	}
	email = parse_reveal(call, "revealEmails", "includeEmails");
	phone = parse_reveal(call, "revealPhones", "includePhones");
	cost = cost_of_answer(config, &fault, email, phone);
	if (refuse_for_reveal(config, email, phone, reply) ||
		refuse_for_credits(config, cost, reply))
		return;

	charge(api, call, cost);
	sb_invent(&person, call->json, call->identity);
	sb_answer(config, &person, &fault,
			  reveal_contacts(api, &person, &fault, email, phone), cost, reply);
	set_delivery(&fault, reply);
}

/* Always with a decimal point, as the API does: 100.0 */
static struct json_object *
fraction_json(SbAmount amount)
{
	char		digits[SB_AMOUNT_CHARS];
	char		text[SB_AMOUNT_CHARS + 2];

	sb_amount_format(amount, digits);
	(void) snprintf(text, sizeof(text), "%s%s", digits,
					strchr(digits, '.') ? "" : ".0");
	/* json-c prints the text, not the number. */
	return json_object_new_double_s((double) amount / SB_AMOUNT_ONE, text);
}

static void
put_credits(struct json_object *json, const char *kind, SbAmount amount)
{
	struct json_object *credits = json_object_new_object();

	json_object_object_add(credits, "oneTime", fraction_json(amount));
	json_object_object_add(credits, "recurrent", fraction_json(0));
	json_object_object_add(json, kind, credits);
}

/* As in RFC 7386: null removes a key, objects are merged. */
static void
merge_json(struct json_object *target, struct json_object *changes)
{
	json_object_object_foreach(changes, key, value)
	{
		struct json_object *old = json_object_object_get(target, key);

		if (value == NULL)
			json_object_object_del(target, key);
		else if (json_object_is_type(value, json_type_object) &&
				 json_object_is_type(old, json_type_object))
			merge_json(old, value);
		else
			json_object_object_add(target, key, json_object_get(value));
	}
}

static struct json_object *
balance_json(const SbConfig *config)
{
	struct json_object *json = json_object_new_object();
	struct json_object *changes;

	put_credits(json, "credits", config->credits == SB_NOT_SET ?
				BALANCE_UNLIMITED : config->credits);
	put_credits(json, "emailCredits", 0);
	put_credits(json, "phoneCredits", 0);
	put_credits(json, "previewCredits", 0);
	json_object_object_add(json, "dailyLimitRateLeft",
						   json_object_new_int(1000));
	json_object_object_add(json, "dailyLimitRateSecondsToReset",
						   json_object_new_int(3600));

	changes = json_tokener_parse(config->balance_changes);
	if (changes != NULL)
		merge_json(json, changes);
	json_object_put(changes);
	return json;
}

void
sb_api_balance(SbApi *api, const SbTokens *tokens, SbReply *reply)
{
	const SbConfig *config = &api->config;
	const SbFault none = {0};

	reply->delay_ms = choose_delay_ms(api, &none);
	if (fails_before_api(config, &none, reply) ||
		refuse_token(api, tokens, reply))
		return;
	api->books.balances++;
	if (config->balance_status != SB_NOT_SET)
		reply_status(config, config->balance_status, reply);
	else
		sb_reply_json(reply, 200, balance_json(config));
}
