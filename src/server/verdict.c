/*
 * verdict.c
 *		What an ending means: for the ledger, for the session, for the limits.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "core/answer.h"
#include "server/verdict.h"

/* More than any price list has. */
#define CREDITS_MAX_CHARS	40

/* Millionths as a decimal number without idle zeros. */
static char *
credits_text(OeCredits credits)
{
	char	   *text = psprintf("%lld.%06lld",
								(long long) (credits / OE_CREDITS_ONE),
								(long long) (credits % OE_CREDITS_ONE));
	char	   *end = text + strlen(text);

	while (end[-1] == '0')
		end--;
	if (end[-1] == '.')
		end--;
	*end = '\0';
	return text;
}

/* A text of the core, which is UTF-8, in the server's encoding. */
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

/* The words for an ending without an answer. */
static void
describe_lost(const OeHttpReply *reply, OeOutcome outcome, OeError *error)
{
	const char *problem = reply && reply->problem ? reply->problem
		: "no reason is known";

	if (outcome == OE_FAILED)
	{
		oe_error_set(error, OE_NOT_CONNECTED, "could not connect to the API");
		oe_error_detail(error, "Nothing was sent: %s.", problem);
		oe_error_hint(error, "Check \"ocean_enrich.api_url\", "
					  "\"ocean_enrich.proxy\" and the network.");
		return;
	}
	if (reply->timed_out)
		oe_error_set(error, OE_OUTCOME_UNKNOWN, "the API did not answer in time");
	else
		oe_error_set(error, OE_OUTCOME_UNKNOWN,
					 "the connection to the API was lost after the request was sent");
	oe_error_detail(error, "The request may have been paid: %s.", problem);
	oe_error_hint(error, "View ocean_enrich.unknown_calls lists it; "
				  "ocean_enrich.resolve() allows to send it again.");
}

static void
keep_body(const OeBuf *body, OeVerdict *verdict)
{
	verdict->raw = body->data ? body->data : "";
	verdict->raw_len = body->len;
	verdict->raw_truncated = body->truncated;
}

/* The body of a 200: a person, or raw bytes where PostgreSQL takes it for none. */
static void
judge_person(const OeBuf *body, bool has_person, bool keep_raw,
			 OeVerdict *verdict)
{
	OeResult   *result = &verdict->result;

	if (has_person && !keep_raw)
		verdict->person = oe_utf8_to_server(body->data, body->len);
	result->person = verdict->person;
	if (verdict->person)
		return;
	keep_body(body, verdict);
	if (has_person)
	{
		result->code = OE_BAD_ANSWER;
		result->message = "the person cannot be stored as jsonb in this database";
		result->detail = "HTTP status 200.  The call was paid for.";
		result->hint = "It has a character that the database's encoding lacks, the NUL "
			"character, half of a surrogate pair, or too many levels.";
	}
	verdict->detail = result->message;
	result->detail = psprintf("%s  Column \"raw\" of ocean_enrich.call has what came.",
							  result->detail);
}

/* What the API said is kept to the letter, unless numeric might refuse it. */
static bool
is_plain_number(const char *credits)
{
	return strlen(credits) <= CREDITS_MAX_CHARS &&
		strspn(credits, "0123456789.") == strlen(credits);
}

static void
judge_answer(const OeCall *call, const OeHttpReply *reply, bool keep_raw,
			 OeVerdict *verdict)
{
	OeAnswer	answer = {0};
	OeError		error = {0};
	const OeBuf *body = &reply->body;
	const char *bytes = body->data ? body->data : "";

	(void) oe_answer_decode(reply->status, bytes, body->len,
							pg_verify_mbstr(PG_UTF8, bytes, body->len, true),
							body->truncated, &answer, &error);
	if (error.code != OE_OK)
		oe_result_from_error(&error, &verdict->result);
	verdict->detail = message_or_null(answer.detail);
	if (verdict->outcome == OE_ANSWERED)
	{
		verdict->cost = call->limits.credits_per_call;
		if (answer.credits && oe_credits_parse(answer.credits, &verdict->cost) &&
			is_plain_number(answer.credits))
			verdict->credits = pstrdup(answer.credits);
		else
			verdict->credits = credits_text(verdict->cost);
		judge_person(body, answer.has_person, keep_raw, verdict);
	}
	else if (verdict->outcome == OE_UNKNOWN)
		keep_body(body, verdict);
	oe_answer_free(&answer);
}

void
oe_judge_reply(const OeCall *call, const OeHttpReply *reply, bool keep_raw,
			   OeVerdict *verdict)
{
	OeError		error = {0};

	memset(verdict, 0, sizeof(*verdict));
	verdict->outcome = reply ? oe_policy_outcome(reply->result, reply->status)
		: OE_FAILED;
	verdict->state = ledger_state(verdict->outcome);
	verdict->status = reply ? reply->status : 0;
	if (reply && reply->result == OE_HTTP_COMPLETE)
		judge_answer(call, reply, keep_raw, verdict);
	else
	{
		describe_lost(reply, verdict->outcome, &error);
		oe_result_from_error(&error, &verdict->result);
		verdict->detail = verdict->result.message;
		if (reply && reply->body.len > 0)
			keep_body(&reply->body, verdict);
	}
	verdict->result.status = verdict->status;
	verdict->result.credits = verdict->credits;
	if (!verdict->credits && verdict->outcome != OE_UNKNOWN)
		verdict->result.credits = "0";
}

void
oe_judge_hit(OeLedgerHit *hit, OeResult *result)
{
	OeError		error = {0};

	memset(result, 0, sizeof(*result));
	result->call_id = hit->call_id;
	result->status = hit->status;
	result->reused = true;
	result->credits = "0";
	if (hit->person)
		result->person = hit->person;
	else if (hit->state == OE_LEDGER_UNKNOWN || hit->state == OE_LEDGER_SENT)
	{
		result->code = OE_OUTCOME_UNKNOWN;
		result->message = "an equal request was sent before, and its outcome is not known";
		result->detail = psprintf("Call " INT64_FORMAT " may have been paid%s%s.",
								  hit->call_id, hit->detail ? ": " : "",
								  hit->detail ? hit->detail : "");
		result->hint = psprintf("SELECT ocean_enrich.resolve(" INT64_FORMAT
								", 'pay again') allows to send it again.",
								hit->call_id);
	}
	else if (hit->state == OE_LEDGER_ANSWERED)
	{
		result->code = OE_BAD_ANSWER;
		result->message = hit->detail ? hit->detail
			: "the API answered 200 without a usable person";
		result->detail = psprintf("Call " INT64_FORMAT " was paid; column \"raw\" "
								  "of ocean_enrich.call has what came.",
								  hit->call_id);
	}
	else
	{
		/* What the ledger holds is in the server's encoding already. */
		(void) oe_answer_error(hit->status, hit->detail, &error);
		result->code = error.code;
		result->message = pstrdup(error.message ? error.message : "out of memory");
		result->detail = error.detail ? pstrdup(error.detail) : NULL;
		result->hint = error.hint ? pstrdup(error.hint) : NULL;
		oe_error_free(&error);
	}
}
