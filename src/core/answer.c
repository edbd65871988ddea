/*
 * answer.c
 *		Judge an answer of the API; see answer.h.
 *
 * What a status means, for the caller and for the money, stands in one table.
 * The body is looked into only for what makes it an answer, "creditsUsed" and
 * "detail".
 */
#include "core/answer.h"

#include <stdlib.h>
#include <string.h>

#include "core/buffer.h"
#include "core/foreign.h"
#include "core/json.h"

/* A message made from the API's list of complaints ends here. */
#define MESSAGE_MAX_BYTES	1000

/* What we extract lies within so few levels, and json-c can read them. */
#define LEVELS_KEPT			16

typedef struct StatusMeaning
{
	int			first;
	int			last;
	OeOutcome	outcome;
	OeCode		code;
	const char *message;		/* when the API gives none; NULL: the status */
	const char *hint;
} StatusMeaning;

#define CHECK_URL \
	"Check that \"ocean_enrich.api_url\" is the URL of the Ocean.io API."
#define CHECK_URL_AND_RESOLVE \
	"Check that \"ocean_enrich.api_url\" is the URL of the Ocean.io API, then use " \
	"ocean_enrich.resolve() to allow sending the request again."
#define WHO_ANSWERED \
	"Something between this server and the API answered.  Check \"ocean_enrich.api_url\" " \
	"and \"ocean_enrich.proxy\", and whether a firewall blocks this server."
#define CHECK_REQUEST \
	"Compare the request with the documentation of the API."
#define CHECK_TOKEN \
	"Check \"ocean_enrich.api_token\" or \"ocean_enrich.api_token_file\"."
#define RUN_LATER \
	"Run the statement again later."
#define ASK_AGAIN \
	"It costs nothing to ask again."
#define LOOK_FIRST \
	"Check the usage in your Ocean.io account, then use ocean_enrich.resolve() " \
	"to allow sending the request again."

/* The first row that fits counts. */
static const StatusMeaning meanings[] = {
	{200, 200, OE_ANSWERED, OE_BAD_ANSWER, NULL, CHECK_URL_AND_RESOLVE},
	{201, 201, OE_REFUSED, OE_GATHERING,
		"Data gathering process has started. Please try again later.",
		"Run the statement again in 2 to 5 minutes."},
	{202, 299, OE_UNKNOWN, OE_BAD_ANSWER, NULL, LOOK_FIRST},
	{300, 399, OE_FAILED, OE_BAD_ANSWER, NULL, CHECK_URL},
	{401, 401, OE_REFUSED, OE_API_FORBIDDEN, NULL, CHECK_TOKEN},
	{402, 402, OE_REFUSED, OE_API_CREDITS, NULL,
		"Check whether the credits of your Ocean.io account cover what the request asks for."},
	{403, 403, OE_REFUSED, OE_API_FORBIDDEN, NULL,
		"Check whether your Ocean.io account may use what the request asks for, "
		"and \"ocean_enrich.api_token\"."},
	{404, 404, OE_REFUSED, OE_API_NOT_FOUND, NULL,
		"Pass not_found => 'null' to get NULL instead."},
	{407, 407, OE_REFUSED, OE_API_BAD_REQUEST,
		"a proxy asks for a user and password",
		"Check \"ocean_enrich.proxy\", its user and password."},
	{422, 422, OE_REFUSED, OE_API_INVALID, NULL, CHECK_REQUEST},
	{429, 429, OE_FAILED, OE_API_RATE_LIMIT, NULL,
		"Run the statement again later, or lower \"ocean_enrich.rate_limit\"."},
	{400, 499, OE_REFUSED, OE_API_BAD_REQUEST, NULL, CHECK_REQUEST},
	{502, 503, OE_FAILED, OE_API_FAILED, NULL, RUN_LATER},
	{504, 504, OE_UNKNOWN, OE_OUTCOME_UNKNOWN, NULL, LOOK_FIRST},

	/*
	 * By these a proxy says that it did not reach the API: it is down, it
	 * takes no connection, there is no way to it, no TLS, no such host.  See
	 * oe_policy_is_too_late() about 522.
	 */
	{521, 523, OE_FAILED, OE_API_FAILED, NULL, RUN_LATER},
	{525, 526, OE_FAILED, OE_API_FAILED, NULL, RUN_LATER},
	{530, 530, OE_FAILED, OE_API_FAILED, NULL, RUN_LATER},
	{524, 524, OE_UNKNOWN, OE_OUTCOME_UNKNOWN, NULL, LOOK_FIRST},
	{500, 599, OE_UNKNOWN, OE_API_FAILED, NULL, LOOK_FIRST},
};

/* No status of HTTP/1.1 or HTTP/2 that ends an exchange. */
static const StatusMeaning no_meaning =
{0, 0, OE_UNKNOWN, OE_BAD_ANSWER, NULL, CHECK_URL};

static const StatusMeaning *
meaning_of(int status)
{
	for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++)
	{
		if (status >= meanings[i].first && status <= meanings[i].last)
			return &meanings[i];
	}
	return &no_meaning;
}

OeOutcome
oe_answer_outcome(int status)
{
	return meaning_of(status)->outcome;
}

/* A sentence to append, or nothing: a free endpoint needs none. */
static const char *
money_for_people(const OeEndpoint *endpoint, OeOutcome outcome)
{
	if (endpoint->price_count == 0)
		return "";
	switch (outcome)
	{
		case OE_ANSWERED:
			return "  The call was paid for.";
		case OE_REFUSED:
		case OE_FAILED:
			return "  Nothing was paid.";
		case OE_UNKNOWN:
			return "  The call may have been paid for.";
	}
	return "";
}

/* No question of money where nothing can have been paid. */
static const char *
hint_of(const OeEndpoint *endpoint, const StatusMeaning *meaning)
{
	if (endpoint->price_count == 0 && meaning->outcome == OE_UNKNOWN)
		return ASK_AGAIN;
	if (endpoint->price_count == 0 && meaning->outcome == OE_ANSWERED)
		return CHECK_URL;
	return meaning->hint;
}

static void
out_of_memory(OeError *error)
{
	oe_error_set(error, OE_OUT_OF_MEMORY, "out of memory");
}

/*
 * The text of a string, or any other value as JSON; it belongs to the value.
 * A string with a NUL inside stays JSON, or its end would be lost.  NULL if
 * out of memory.
 */
static const char *
plain_text(struct json_object *value)
{
	if (json_object_is_type(value, json_type_string))
	{
		const char *string = json_object_get_string(value);

		if (strlen(string) == (size_t) json_object_get_string_len(value))
			return string;
	}
	return oe_json_text(value);
}

static void
append_plain(OeBuf *text, struct json_object *value)
{
	const char *plain = plain_text(value);

	if (plain == NULL)
		text->out_of_memory = true;
	else
		(void) oe_buf_append_some(text, plain, strlen(plain));
}

/* The location of a complaint: "person.email: ", or nothing. */
static void
append_location(OeBuf *text, struct json_object *loc)
{
	size_t		count = json_object_is_type(loc, json_type_array) ?
		json_object_array_length(loc) : 0;
	size_t		first = 0;

	/* The body is all that we send, so "body" says nothing. */
	if (count > 0)
	{
		struct json_object *step = json_object_array_get_idx(loc, 0);

		if (json_object_is_type(step, json_type_string) &&
			strcmp(json_object_get_string(step), "body") == 0)
			first = 1;
	}

	for (size_t i = first; i < count; i++)
	{
		append_plain(text, json_object_array_get_idx(loc, i));
		(void) oe_buf_append_some(text, (i + 1 < count) ? "." : ": ",
								  (i + 1 < count) ? 1 : 2);
	}
}

/*
 * The API's list of complaints as one line.  The buffer remembers that it was
 * too small, or that memory ran out.
 */
static void
append_complaints(OeBuf *text, struct json_object *complaints)
{
	for (size_t i = 0; i < json_object_array_length(complaints); i++)
	{
		struct json_object *complaint =
			json_object_array_get_idx(complaints, i);
		struct json_object *msg = NULL;

		if (!json_object_object_get_ex(complaint, "msg", &msg) ||
			!json_object_is_type(msg, json_type_string))
			continue;
		if (text->len > 0)
			(void) oe_buf_append_some(text, "; ", 2);
		append_location(text, json_object_object_get(complaint, "loc"));
		append_plain(text, msg);
	}
}

/* Drop a character that was cut at the ceiling as a whole. */
static void
set_message_of_complaints(OeCode code, const OeBuf *text, OeError *error)
{
	size_t		shown = text->len;

	if (text->truncated)
		shown = oe_utf8_clip(text->data, text->len, text->len - 1);
	oe_error_set(error, code, "%.*s%s", (int) shown, text->data,
				 text->truncated ? "..." : "");
}

/*
 * If "detail" is an array of complaints, put them into "error", or that memory
 * ran out, and return true.
 */
static bool
set_complaints(OeCode code, const char *detail, OeError *error)
{
	struct json_object *complaints;
	OeJsonResult result;
	OeBuf		text;

	if (detail[0] != '[')
		return false;
	result = oe_json_read(detail, strlen(detail), 0, &complaints);
	if (result != OE_JSON_OK)
	{
		if (result == OE_JSON_OUT_OF_MEMORY)
			out_of_memory(error);
		return result == OE_JSON_OUT_OF_MEMORY;
	}

	oe_buf_init(&text, MESSAGE_MAX_BYTES);
	append_complaints(&text, complaints);
	(void) json_object_put(complaints); /* nobody else has them */

	if (text.out_of_memory)
		out_of_memory(error);
	else if (text.len > 0)
		set_message_of_complaints(code, &text, error);
	oe_buf_free(&text);
	return error->code != OE_OK;
}

static void
set_message(const OeEndpoint *endpoint, const StatusMeaning *meaning,
			int status, const char *detail, OeError *error)
{
	if (detail != NULL)
		oe_error_set(error, meaning->code, "%s", detail);
	else if (meaning->outcome == OE_ANSWERED)
		oe_error_set(error, meaning->code,
					 "the API answered with HTTP status 200 but no usable %s", endpoint->name);
	else if (meaning->message != NULL)
		oe_error_set(error, meaning->code, "%s", meaning->message);
	else
		oe_error_set(error, meaning->code,
					 "the API answered with HTTP status %d", status);
}

OeCode
oe_answer_error(const OeEndpoint *endpoint, int status, const char *detail,
				OeError *error)
{
	const StatusMeaning *meaning = meaning_of(status);
	const char *money = money_for_people(endpoint, meaning->outcome);

	oe_error_free(error);

	/* A 200 promises an answer, so its "detail" is not quoted. */
	if (meaning->outcome == OE_ANSWERED || (detail && detail[0] == '\0'))
		detail = NULL;
	if (detail != NULL && set_complaints(meaning->code, detail, error))
		oe_error_detail(error, "HTTP status %d.%s  The API said: %s",
						status, money, detail);
	else
	{
		set_message(endpoint, meaning, status, detail, error);
		oe_error_detail(error, "HTTP status %d.%s", status, money);
	}
	oe_error_hint(error, "%s", hint_of(endpoint, meaning));

	if (error->message == NULL)
		error->code = OE_OUT_OF_MEMORY;
	return error->code;
}

/* The position of copy_upper_levels() in a text. */
typedef struct Place
{
	size_t		level;			/* objects and arrays that are open */
	bool		in_string;
	bool		escaped;		/* a backslash came before */
} Place;

/* Go on by one byte; return the level that it belongs to. */
static size_t
level_of_next(Place *place, char c)
{
	if (place->in_string)
	{
		if (place->escaped)
			place->escaped = false;
		else if (c == '\\')
			place->escaped = true;
		else if (c == '"')
			place->in_string = false;
	}
	else if (c == '"')
		place->in_string = true;
	else if (c == '{' || c == '[')
		return place->level++;
	else if ((c == '}' || c == ']') && place->level > 0)
		return --place->level;
	return place->level;
}

/* Copy JSON with the objects and arrays below LEVELS_KEPT emptied. */
static bool
copy_upper_levels(OeBuf *copy, const char *text, size_t len)
{
	Place		place = {0, false, false};

	for (size_t i = 0; i < len; i++)
	{
		if (level_of_next(&place, text[i]) <= LEVELS_KEPT &&
			!oe_buf_append(copy, &text[i], 1))
			return false;
	}
	return true;
}

/*
 * Read a body of any depth.  PostgreSQL takes many more levels than json-c,
 * and an answer was paid for, however deep its unknown keys go.
 */
static OeJsonResult
read_body(const char *body, size_t len, struct json_object **value)
{
	OeJsonResult result = oe_json_read(body, len, 0, value);
	OeBuf		copy;

	if (result != OE_JSON_TOO_DEEP)
		return result;

	oe_buf_init(&copy, len);
	if (copy_upper_levels(&copy, body, len))
		result = oe_json_read(copy.data, copy.len, 0, value);
	else
		result = OE_JSON_OUT_OF_MEMORY;
	oe_buf_free(&copy);
	return result;
}

/* Why a body is no answer. */
typedef enum Fault
{
	FAULT_NONE,
	FAULT_EMPTY,
	FAULT_TOO_LONG,
	FAULT_NOT_UTF8,
	FAULT_NOT_AN_OBJECT,
	FAULT_NO_IDENTITY,
	FAULT_IDENTITY_NOT_A_STRING,
} Fault;

/* Check the number of bytes and their encoding. */
static Fault
fault_of_bytes(size_t len, bool valid_utf8, bool truncated)
{
	if (len == 0)
		return FAULT_EMPTY;
	if (truncated)
		return FAULT_TOO_LONG;
	return valid_utf8 ? FAULT_NONE : FAULT_NOT_UTF8;
}

static Fault
fault_of_value(const OeEndpoint *endpoint, struct json_object *value)
{
	struct json_object *identity;

	if (!json_object_is_type(value, json_type_object))
		return FAULT_NOT_AN_OBJECT;
	if (endpoint->identity == NULL)
		return FAULT_NONE;
	if (!json_object_object_get_ex(value, endpoint->identity, &identity))
		return FAULT_NO_IDENTITY;
	return json_object_is_type(identity, json_type_string) ? FAULT_NONE :
		FAULT_IDENTITY_NOT_A_STRING;
}

/* What the status means for the money, and why there is still no answer. */
static void
set_fault(const OeEndpoint *endpoint, int status, Fault fault, OeError *error)
{
	const char *money = money_for_people(endpoint, OE_UNKNOWN);
	const char *sentence = "";

	switch (fault)
	{
		case FAULT_NONE:
			break;
		case FAULT_EMPTY:
			sentence = "The body is empty.";
			break;
		case FAULT_TOO_LONG:
			sentence = "The body is longer than the maximum length of an answer.";
			break;
		case FAULT_NOT_UTF8:
			sentence = "The body is not UTF-8.";
			break;
		case FAULT_NOT_AN_OBJECT:
			sentence = "The body is not a JSON object.";
			break;
		case FAULT_NO_IDENTITY:
			oe_error_detail(error, "HTTP status %d.%s  The body has no \"%s\".",
							status, money, endpoint->identity);
			return;
		case FAULT_IDENTITY_NOT_A_STRING:
			oe_error_detail(error, "HTTP status %d.%s  The value of \"%s\" is not a string.",
							status, money, endpoint->identity);
			return;
	}
	oe_error_detail(error, "HTTP status %d.%s  %s", status, money, sentence);
}

/* False if out of memory, as in the next two. */
static bool
copy_text(const char *text, char **copy)
{
	if (text != NULL)
		*copy = strdup(text);
	return *copy != NULL;
}

static bool
extract_credits(struct json_object *value, char **credits)
{
	struct json_object *used = json_object_object_get(value, "creditsUsed");
	const char *text;

	if (!json_object_is_type(used, json_type_int) &&
		!json_object_is_type(used, json_type_double))
		return true;
	if (!oe_json_is_exact(used))
		return true;

	text = oe_json_text(used);
	if (text != NULL && text[0] == '-')
		return true;
	return copy_text(text, credits);
}

/* A member of an object, NULL if it is not a string. */
static struct json_object *
string_member(struct json_object *object, const char *key)
{
	struct json_object *member = json_object_object_get(object, key);

	return json_object_is_type(member, json_type_string) ? member : NULL;
}

/*
 * The API explains in "detail".  Machines in front of it have "error", with or
 * without a "message" inside, or "message".
 */
static bool
extract_detail(struct json_object *value, char **detail)
{
	struct json_object *error = json_object_object_get(value, "error");
	struct json_object *said = json_object_object_get(value, "detail");

	if (said == NULL)
		said = string_member(error, "message");
	if (said == NULL)
		said = string_member(value, "error");
	if (said == NULL)
		said = string_member(value, "message");
	if (said == NULL)
		said = error;
	return said == NULL || copy_text(plain_text(said), detail);
}

static bool
extract(int status, struct json_object *value, OeAnswer *answer)
{
	if (status == 200 && !extract_credits(value, &answer->credits))
		return false;
	return answer->is_usable || extract_detail(value, &answer->detail);
}

/*
 * What the status means for the money while it is not known whether the API said it:
 * nothing is reused, and nothing is sent again that may have been paid.
 */
static OeOutcome
cautious_outcome(int status)
{
	if (status == 200)
		return OE_UNKNOWN;
	if (status == 404)
		return OE_FAILED;
	return oe_answer_outcome(status);
}

/*
 * The API says by a 404 with a "detail" that it does not know the person.  A web
 * server that does not know the path says something else, and the framework of the API
 * says "Not Found".
 */
static bool
is_404_of_api(struct json_object *value, const OeAnswer *answer)
{
	return json_object_object_get(value, "detail") != NULL &&
		strcmp(answer->detail, "Not Found") != 0;
}

/* A 404 that nobody can take for an answer about a person. */
static void
set_path_not_found(const OeEndpoint *endpoint, const char *detail, OeError *error)
{
	const char *money = money_for_people(endpoint, OE_FAILED);

	if (detail != NULL && detail[0] != '\0')
		oe_error_set(error, OE_BAD_ANSWER, "%s", detail);
	else
		oe_error_set(error, OE_BAD_ANSWER, "the API answered with HTTP status 404");
	oe_error_detail(error, "HTTP status 404.%s  This is not how the API says that it does not know a %s.",
					money, endpoint->name);
	oe_error_hint(error, CHECK_URL);
}

/* Keep what needs no memory: what the status means for the money. */
static OeCode
decode_out_of_memory(OeAnswer *answer, OeError *error)
{
	OeOutcome	outcome = answer->outcome;

	oe_answer_free(answer);
	answer->outcome = outcome;
	out_of_memory(error);
	return error->code;
}

/*
 * True if a status would make people look for a mistake in their request, their token
 * or their account.
 */
static bool
accuses(const StatusMeaning *meaning)
{
	return meaning->outcome == OE_REFUSED && meaning->first >= 400 &&
		meaning->message == NULL;
}

static void
set_error(const OeEndpoint *endpoint, int status, bool is_foreign,
		  const OeAnswer *answer, OeError *error)
{
	const StatusMeaning *meaning = meaning_of(status);

	if (status == 404 && answer->outcome == OE_FAILED)
		set_path_not_found(endpoint, answer->detail, error);
	else if (is_foreign && accuses(meaning))
	{
		oe_error_set(error, meaning->code, "the answer with HTTP status %d is not the API's", status);
		oe_error_detail(error, "HTTP status %d.%s", status,
						money_for_people(endpoint, meaning->outcome));
		oe_error_hint(error, WHO_ANSWERED);
	}
	else
		(void) oe_answer_error(endpoint, status, answer->detail, error);
	if (error->message == NULL)
		error->code = OE_OUT_OF_MEMORY;
}

/* Show how it begins, in the error and for the ledger; false if out of memory. */
static bool
add_words(const char *body, size_t len, bool valid_utf8, OeAnswer *answer,
		  OeError *error)
{
	OeBuf		text;
	char	   *words;
	bool		complete;

	if (!oe_foreign_words(body, len, valid_utf8, &words))
		return false;
	if (words == NULL)
		return true;
	oe_buf_init(&text, MESSAGE_MAX_BYTES);
	complete = error->message != NULL &&
		oe_buf_append_string(&text, error->message) &&
		oe_buf_append_string(&text, ": ") &&
		oe_buf_append_string(&text, words);
	if (error->detail != NULL)
		oe_error_detail(error, "%s  It begins: %s", error->detail, words);
	free(words);
	if (complete)
		answer->detail = oe_buf_steal(&text);
	oe_buf_free(&text);
	return complete;
}

/*
 * The ledger gets the readable message instead of a list of complaints, which may
 * quote the request.  False if out of memory.
 */
static bool
replace_complaints(OeAnswer *answer, const OeError *error)
{
	if (answer->detail == NULL || answer->detail[0] != '[')
		return true;
	free(answer->detail);
	answer->detail = NULL;
	return copy_text(error->message, &answer->detail);
}

OeCode
oe_answer_decode(const OeEndpoint *endpoint, int status,
				 const char *body, size_t len,
				 bool body_valid_utf8, bool truncated,
				 OeAnswer *answer, OeError *error)
{
	Fault		fault = fault_of_bytes(len, body_valid_utf8, truncated);
	OeJsonResult result = OE_JSON_INVALID;
	struct json_object *value = NULL;
	bool		is_foreign;

	memset(answer, 0, sizeof(*answer));
	answer->outcome = cautious_outcome(status);
	oe_error_free(error);

	if (fault == FAULT_NONE)
	{
		result = read_body(body, len, &value);
		fault = (result == OE_JSON_OK) ? fault_of_value(endpoint, value) :
			FAULT_NOT_AN_OBJECT;
	}
	answer->is_usable = status == 200 && fault == FAULT_NONE;
	if (answer->is_usable)
		answer->outcome = OE_ANSWERED;

	if (result == OE_JSON_OK && !extract(status, value, answer))
		result = OE_JSON_OUT_OF_MEMORY;
	else if (status == 404 && is_404_of_api(value, answer))
		answer->outcome = OE_REFUSED;
	(void) json_object_put(value);	/* what we need was copied */

	if (result == OE_JSON_OUT_OF_MEMORY)
		return decode_out_of_memory(answer, error);
	if (answer->is_usable)
		return OE_OK;

	is_foreign = result == OE_JSON_INVALID && status >= 400 && oe_is_foreign(body, len);
	set_error(endpoint, status, is_foreign, answer, error);
	if (status == 200)
		set_fault(endpoint, status, fault, error);
	else if (!(is_foreign ? add_words(body, len, body_valid_utf8, answer, error) :
			   replace_complaints(answer, error)))
		return decode_out_of_memory(answer, error);
	return error->code;
}

void
oe_answer_free(OeAnswer *answer)
{
	free(answer->credits);
	free(answer->detail);
	memset(answer, 0, sizeof(*answer));
}
