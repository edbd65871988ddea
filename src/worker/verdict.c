/*
 * verdict.c
 *		Judges how a request ended, for the ledger, the session and the limits.
 */
#include "postgres.h"

#include <ctype.h>

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "core/answer.h"
#include "shared/contact.h"
#include "worker/verdict.h"

/* Longer than any price. */
#define CREDITS_MAX_CHARS	40

/* A shorter secret may be a word of an answer. */
#define SECRET_MIN_BYTES		8

/* Convert a text of the core from UTF-8 to the server's encoding. */
static char *
message_or_null(const char *utf8)
{
	return utf8 ? oe_utf8_to_message(utf8) : NULL;
}

void
oe_result_from_error(OeError *error, OeResult *result)
{
	result->code = error->code;
	result->message = oe_utf8_to_message(error->message ? error->message
										 : "out of memory");
	result->detail = message_or_null(error->detail);
	result->hint = message_or_null(error->hint);
	oe_error_free(error);
}

static OeLedgerState
ledger_state(OeOutcome outcome)
{
	switch (outcome)
	{
		case OE_ANSWERED:
			return OE_LEDGER_ANSWERED;
		case OE_REFUSED:
			return OE_LEDGER_REFUSED;
		case OE_FAILED:
			return OE_LEDGER_FAILED;
		case OE_UNKNOWN:
			return OE_LEDGER_UNKNOWN;
	}
	pg_unreachable();
}

/* What somebody can do so that the next request is sent. */
static const char *
hint_of_fault(OeHttpFault fault)
{
	switch (fault)
	{
		case OE_HTTP_OTHER_FAULT:
			return "Check \"ocean_enrich.api_url\", \"ocean_enrich.proxy\" and the network.";
		case OE_HTTP_UNTRUSTED:
			return "Set \"ocean_enrich.ca_file\" to a PEM file with the certificate of the authority "
				"that signed it, such as that of a proxy that reads along.";
		case OE_HTTP_EXPIRED:
		case OE_HTTP_NOT_YET_VALID:
			return "Check the clock of this server and the certificates in \"ocean_enrich.ca_file\"; "
				"if they are right, the certificate has to be replaced where it is used.";
		case OE_HTTP_OTHER_HOST:
			return "Check the host in \"ocean_enrich.api_url\" and \"ocean_enrich.proxy\"; "
				"\"ocean_enrich.ca_file\" cannot make the certificate good for another one.";
		case OE_HTTP_NO_CA_FILE:
			return "Check that \"ocean_enrich.ca_file\" is a PEM file that the server can read.";
		case OE_HTTP_PROXY_REFUSED:
			return "Check \"ocean_enrich.proxy\", its user and password, and whether the proxy allows "
				"and can reach the host in \"ocean_enrich.api_url\".";
		case OE_HTTP_NO_PROXY:
			return "Check \"ocean_enrich.proxy\" and the network.";
	}
	pg_unreachable();
}

/* Describe an ending without an answer. */
static void
describe_lost(const OeEndpoint *endpoint, const OeHttpReply *reply,
			  OeOutcome outcome, OeError *error)
{
	const char *problem = reply && reply->problem ? reply->problem
		: "unknown reason";
	OeHttpFault fault = reply ? reply->fault : OE_HTTP_OTHER_FAULT;

	if (endpoint->price_count == 0)
	{
		oe_error_set(error, OE_NOT_CONNECTED, "could not get the %s from the API",
					 endpoint->name);
		oe_error_detail(error, "No answer arrived: %s.", problem);
		oe_error_hint(error, "%s", fault == OE_HTTP_OTHER_FAULT ?
					  "It costs nothing to ask again." : hint_of_fault(fault));
		return;
	}
	if (outcome == OE_FAILED)
	{
		oe_error_set(error, OE_NOT_CONNECTED, "could not connect to the API");
		oe_error_detail(error, "Nothing was sent: %s.", problem);
		oe_error_hint(error, "%s", hint_of_fault(fault));
		return;
	}
	if (reply->timed_out)
		oe_error_set(error, OE_OUTCOME_UNKNOWN, "the API did not answer in time");
	else
		oe_error_set(error, OE_OUTCOME_UNKNOWN,
					 "the connection to the API was lost after the request was sent");
	oe_error_detail(error, "The request may have been paid for: %s.", problem);
	oe_error_hint(error, "The view \"ocean_enrich.unknown_calls\" lists it; use "
				  "ocean_enrich.resolve() to allow sending it again.");
}

static void
hide_word(const OeBuf *body, const char *word)
{
	Size		len = strlen(word);
	char	   *from = body->data;

	while ((from = memmem(from, body->data + body->len - from, word, len)) != NULL)
	{
		memset(from, '*', len);
		from += len;
	}
}

/* The token as it stands in a URL, by libcurl. */
static char *
token_in_url(const char *token)
{
	StringInfoData url;

	initStringInfo(&url);
	for (; *token; token++)
	{
		if (isalnum((unsigned char) *token) || strchr("-._~", *token))
			appendStringInfoChar(&url, *token);
		else
			appendStringInfo(&url, "%%%02X", (unsigned char) *token);
	}
	return url.data;
}

static void
hide_token(const char *token, const OeBuf *body)
{
	char	   *in_url;

	if (strlen(token) < SECRET_MIN_BYTES)
		return;
	hide_word(body, token);
	in_url = token_in_url(token);
	hide_word(body, in_url);
	explicit_bzero(in_url, strlen(in_url));
}

/* JSON may escape the slashes, so what follows the last one is masked by itself, too. */
static void
hide_webhook_url(const char *url, const OeBuf *body)
{
	const char *end = strrchr(url, '/') + 1;

	hide_word(body, url);
	if (strlen(end) >= SECRET_MIN_BYTES)
		hide_word(body, end);
}

/*
 * A proxy or an error page may echo the request.  Such a body goes into
 * messages and into the ledger, so the secrets in it are masked.
 */
static void
hide_secrets(const OeCall *call, const OeBuf *body)
{
	if (!body->data)
		return;
	hide_token(call->token, body);
	if (call->webhook_url)
		hide_webhook_url(call->webhook_url, body);
}

static void
keep_body(const OeBuf *body, OeVerdict *verdict)
{
	verdict->raw = body->data ? body->data : "";
	verdict->raw_len = body->len;
	verdict->raw_truncated = body->truncated;
}

/*
 * Parse the answer with jsonb's input function, which keeps every number
 * exact; NULL if it is not valid.  That function only allocates, so its errors
 * can be caught without a subtransaction.
 */
static Jsonb *
answer_from_text(char *text)
{
	MemoryContext caller = CurrentMemoryContext;
	Jsonb	   *volatile answer = NULL;

	PG_TRY();
	{
		answer = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
													CStringGetDatum(text)));
	}
	PG_CATCH();
	{
		if (geterrcode() == ERRCODE_QUERY_CANCELED)
			PG_RE_THROW();
		MemoryContextSwitchTo(caller);
		FlushErrorState();
	}
	PG_END_TRY();
	return answer;
}

/* The API's number is stored verbatim, unless numeric might reject it. */
static bool
is_plain_number(const char *credits)
{
	return strlen(credits) <= CREDITS_MAX_CHARS &&
		strspn(credits, "0123456789.") == strlen(credits);
}

/* The cost by the settings counts if the answer does not state its own. */
static void
set_credits(OeCredits by_settings, const char *used, OeVerdict *verdict)
{
	verdict->cost = by_settings;
	if (used && oe_credits_parse(used, &verdict->cost) && is_plain_number(used))
		verdict->credits = pstrdup(used);
	else
		verdict->credits = oe_credits_text(verdict->cost, palloc(OE_CREDITS_TEXT_SIZE));
}

/* The same test as in the core. */
static bool
is_usable(const OeEndpoint *endpoint, Jsonb *answer)
{
	JsonbValue	identity;

	if (!JB_ROOT_IS_OBJECT(answer))
		return false;
	if (!endpoint->identity)
		return true;
	return getKeyJsonValueFromContainer(&answer->root, endpoint->identity,
										strlen(endpoint->identity), &identity) &&
		identity.type == jbvString;
}

/* "creditsUsed" as text, or NULL. */
static char *
credits_used(Jsonb *answer)
{
	static const char key[] = "creditsUsed";
	JsonbValue	used;

	if (!getKeyJsonValueFromContainer(&answer->root, key, strlen(key), &used) ||
		used.type != jbvNumeric)
		return NULL;
	return DatumGetCString(DirectFunctionCall1(numeric_out,
											   NumericGetDatum(used.val.numeric)));
}

static OeCredits
price_of(const OeCall *call, Jsonb *answer)
{
	const OeLimits *limits = &call->limits;
	OeCredits	sum = 0;

	for (Size i = 0; i < call->endpoint->price_count; i++)
	{
		const char *found = call->endpoint->prices[i].found;

		if (limits->in_answer[i] && (!found || oe_contact_is_found(answer, found)))
			sum += limits->prices[i];
	}
	return sum;
}

/*
 * The usual case: status 200 with the body that the endpoint promises, parsed
 * as jsonb only, and not again by the core.  False: the body is anything else.
 */
static bool
judge_usable(const OeCall *call, const OeBuf *body, OeVerdict *verdict)
{
	char	   *text;
	Jsonb	   *answer;

	if (body->len == 0 || body->truncated)
		return false;
	text = oe_utf8_to_server(body->data, body->len);
	answer = text ? answer_from_text(text) : NULL;
	if (!answer || !is_usable(call->endpoint, answer))
		return false;
	set_credits(price_of(call, answer), credits_used(answer), verdict);
	verdict->answer = answer;
	verdict->result.answer = answer;
	return true;
}

/*
 * The answer without the escapes that PostgreSQL cannot hold; NULL if that is not
 * all that is wrong with it.
 */
static Jsonb *
repaired_answer(const OeBuf *body)
{
	char	   *text = oe_utf8_to_server(body->data, body->len);

	if (!text)
		return NULL;
	oe_json_replace_escapes(text);
	return answer_from_text(text);
}

/*
 * Status 200 without an answer that can be stored as it is, so its bytes are kept.  If the core
 * could use it, it was paid for, and everything requested may have been charged, as it
 * is not searched for what was found.  If not, nobody knows.
 */
static void
judge_unusable(const OeCall *call, const OeBuf *body, const OeAnswer *answer,
			   OeVerdict *verdict)
{
	OeResult   *result = &verdict->result;

	keep_body(body, verdict);
	if (answer->is_usable && (verdict->answer = repaired_answer(body)) != NULL)
	{
		set_credits(price_of(call, verdict->answer), credits_used(verdict->answer), verdict);
		result->answer = verdict->answer;
		return;
	}
	if (answer->is_usable)
	{
		set_credits(oe_limits_reserve(&call->limits), answer->credits, verdict);
		result->code = OE_BAD_ANSWER;
		result->message = psprintf("the %s cannot be stored as jsonb in this database",
								   call->endpoint->name);
		result->detail = call->endpoint->price_count > 0
			? "HTTP status 200.  The call was paid for." : "HTTP status 200.";
		result->hint = "It contains a character that the database encoding lacks, a NUL character, "
			"half of a surrogate pair, or too many levels of nesting.";
	}
	else if (answer->credits)
		set_credits(0, answer->credits, verdict);
	verdict->detail = result->message;
	if (call->endpoint->recorded)
		result->detail = psprintf("%s  Column \"raw\" of table \"ocean_enrich.call\" contains the answer.",
								  result->detail);
}

static void
judge_answer(const OeCall *call, const OeHttpReply *reply, OeVerdict *verdict)
{
	OeAnswer	answer = {0};
	OeError		error = {0};
	const OeBuf *body = &reply->body;
	const char *bytes = body->data ? body->data : "";

	if (verdict->outcome == OE_ANSWERED && judge_usable(call, body, verdict))
		return;
	hide_secrets(call, body);
	(void) oe_answer_decode(call->endpoint, reply->status, bytes, body->len,
							pg_verify_mbstr(PG_UTF8, bytes, body->len, true),
							body->truncated, &answer, &error);
	if (error.code != OE_OK)
		oe_result_from_error(&error, &verdict->result);
	verdict->outcome = answer.outcome;
	verdict->detail = message_or_null(answer.detail);
	if (reply->status == 200)
		judge_unusable(call, body, &answer, verdict);
	else if (verdict->outcome == OE_UNKNOWN || verdict->result.code == OE_API_INVALID)
		keep_body(body, verdict);
	oe_answer_free(&answer);
}

void
oe_judge_reply(const OeCall *call, const OeHttpReply *reply,
			   OeVerdict *verdict)
{
	OeError		error = {0};

	memset(verdict, 0, sizeof(*verdict));
	verdict->outcome = reply ? oe_policy_outcome(reply->result, reply->status)
		: OE_FAILED;
	verdict->status = reply ? reply->status : 0;
	if (reply && reply->result == OE_HTTP_COMPLETE)
		judge_answer(call, reply, verdict);
	else
	{
		describe_lost(call->endpoint, reply, verdict->outcome, &error);
		oe_result_from_error(&error, &verdict->result);
		verdict->detail = reply && reply->problem ?
			psprintf("%s: %s", verdict->result.message, reply->problem) :
			verdict->result.message;
		if (reply && reply->body.len > 0)
		{
			hide_secrets(call, &reply->body);
			keep_body(&reply->body, verdict);
		}
	}
	verdict->state = ledger_state(verdict->outcome);
	verdict->result.status = verdict->status;
	verdict->result.credits = verdict->credits;
	if (!verdict->credits && verdict->outcome != OE_UNKNOWN)
		verdict->result.credits = "0";
}

/* The sum of the numbers in an object such as {"oneTime": 97.5, "recurrent": 0.0}. */
static Datum
sum_of_kinds(JsonbContainer *kinds, Datum sum, bool *known)
{
	JsonbIterator *iterator = JsonbIteratorInit(kinds);
	JsonbIteratorToken token;
	JsonbValue	value;

	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token != WJB_VALUE || value.type != jbvNumeric)
			continue;
		*known = true;
		sum = DirectFunctionCall2(numeric_add, sum,
								  NumericGetDatum(value.val.numeric));
	}
	return sum;
}

/* What the first "count" purses hold together. */
static OeCredits
credits_of_purses(const Jsonb *balance, int count)
{
	static const char *const purses[] = {"credits", "emailCredits", "phoneCredits"};
	Datum		sum = NumericGetDatum(int64_to_numeric(0));
	bool		known = false;

	for (int i = 0; i < count; i++)
	{
		JsonbValue	kinds;

		if (getKeyJsonValueFromContainer(unconstify(JsonbContainer *, &balance->root),
										 purses[i], strlen(purses[i]), &kinds) &&
			kinds.type == jbvBinary)
			sum = sum_of_kinds(kinds.val.binary.data, sum, &known);
	}
	if (!known)
		return OE_CREDITS_MAX;
	sum = DirectFunctionCall2(numeric_larger, sum, NumericGetDatum(int64_to_numeric(0)));
	return oe_credits_parse_sum(DatumGetCString(DirectFunctionCall1(numeric_out, sum)));
}

OeBalance
oe_balance_read(const Jsonb *balance)
{
	return (OeBalance)
	{
		.credits = credits_of_purses(balance, 1),
			.all = credits_of_purses(balance, 3),
	};
}

void
oe_judge_hit(const OeEndpoint *endpoint, OeLedgerHit *hit, OeResult *result)
{
	OeError		error = {0};

	memset(result, 0, sizeof(*result));
	result->call_id = hit->call_id;
	result->status = hit->status;
	result->reused = true;
	result->credits = "0";
	if (hit->answer)
		result->answer = hit->answer;
	else if (hit->state == OE_LEDGER_UNKNOWN || hit->state == OE_LEDGER_SENT)
	{
		result->code = OE_OUTCOME_UNKNOWN;
		result->message = "an equal request was sent before, and its outcome is unknown";
		result->detail = psprintf("Call " INT64_FORMAT " may have been paid for%s%s.",
								  hit->call_id, hit->detail ? ": " : "",
								  hit->detail ? hit->detail : "");
		result->hint = psprintf("Run SELECT ocean_enrich.resolve(" INT64_FORMAT
								", 'pay again') to allow sending it again.",
								hit->call_id);
	}
	else if (hit->state == OE_LEDGER_ANSWERED)
	{
		result->code = OE_BAD_ANSWER;
		result->message = hit->detail ? hit->detail
			: psprintf("the API answered with HTTP status 200 but no usable %s", endpoint->name);
		result->detail = psprintf("Call " INT64_FORMAT " was paid for; column \"raw\" "
								  "of table \"ocean_enrich.call\" contains the answer.",
								  hit->call_id);
	}
	else
	{
		/* The ledger's texts are in the server's encoding already. */
		(void) oe_answer_error(endpoint, hit->status, hit->detail, &error);
		result->code = error.code;
		result->message = pstrdup(error.message ? error.message : "out of memory");
		result->detail = error.detail ? pstrdup(error.detail) : NULL;
		result->hint = error.hint ? pstrdup(error.hint) : NULL;
		oe_error_free(&error);
	}
}
