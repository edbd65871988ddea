/*
 * call.c
 *		The session's side of one call.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "core/request.h"
#include "server/call.h"
#include "server/channel.h"
#include "server/errors.h"
#include "server/settings.h"

/* It is sent all the same, but the user will have meant something else. */
static void
warn_not_asked(bool emails, bool phones)
{
	if (emails)
		ereport(WARNING,
				errmsg("\"revealEmails\" has a \"webhookUrl\" but asks for nothing"),
				errhint("Add \"includeEmails\": true."));
	if (phones)
		ereport(WARNING,
				errmsg("\"revealPhones\" has a \"webhookUrl\" but asks for nothing"),
				errhint("Add \"includePhones\": true."));
}

/* Errors of the core are UTF-8; a key that is quoted in one need not be ASCII. */
static void
convert_error(OeError *error)
{
	OeError		converted = {0};

	if (GetDatabaseEncoding() == PG_UTF8)
		return;
	oe_error_set(&converted, error->code, "%s",
				 oe_utf8_to_message(error->message ? error->message
									: "out of memory"));
	if (error->detail)
		oe_error_detail(&converted, "%s", oe_utf8_to_message(error->detail));
	if (error->hint)
		oe_error_hint(&converted, "%s", oe_utf8_to_message(error->hint));
	oe_error_free(error);
	*error = converted;
}

/* The body to send, checked and normalised, palloc'd; raises what is wrong. */
static char *
request_body(Jsonb *jsonb)
{
	char	   *text = JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
	char	   *utf8 = pg_server_to_any(text, strlen(text), PG_UTF8);
	OeRequest	request = {0};
	OeError		error = {0};
	bool		emails_not_asked;
	bool		phones_not_asked;
	char	   *body;

	if (oe_request_parse(utf8, strlen(utf8),
						 oe_unknown_keys == OE_UNKNOWN_KEYS_PASS,
						 &request, &error) != OE_OK)
	{
		convert_error(&error);
		oe_ereport(ERROR, &error);
	}

	/* What malloc gave is freed before anything can be raised. */
	emails_not_asked = request.emails_not_asked;
	phones_not_asked = request.phones_not_asked;
	body = palloc_extended(request.body_len + 1, MCXT_ALLOC_NO_OOM);
	if (body)
		memcpy(body, request.body, request.body_len + 1);
	oe_request_free(&request);
	if (!body)
		ereport(ERROR,
				errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("out of memory"));
	warn_not_asked(emails_not_asked, phones_not_asked);
	return body;
}

static char *
pack_call(Jsonb *jsonb, Size *len)
{
	OeCall		call = {0};
	char	   *packed;

	call.body = request_body(jsonb);
	oe_sha256(call.body, strlen(call.body), call.fingerprint);
	strlcpy(call.role, GetUserNameFromId(GetUserId(), false), sizeof(call.role));
	oe_settings_fill(&call);
	packed = oe_call_pack(&call, len);
	explicit_bzero(unconstify(char *, call.token), strlen(call.token));
	return packed;
}

void
oe_call(Jsonb *request, OeResult *result)
{
	Size		len;
	char	   *packed = pack_call(request, &len);
	char	   *volatile bytes = NULL;
	OeTicket	ticket = oe_channel_submit(packed, len, false);

	explicit_bzero(packed, len);
	PG_TRY();
	{
		bytes = oe_channel_wait(ticket);
	}
	PG_CATCH();
	{
		oe_channel_cancel(ticket);
		PG_RE_THROW();
	}
	PG_END_TRY();

	if (bytes)
	{
		oe_result_unpack(bytes, result);
		return;
	}
	memset(result, 0, sizeof(*result));
	result->code = OE_OUTCOME_UNKNOWN;
	result->message = "the ocean_enrich worker ended before the answer came";
	result->detail = "The request may have been paid.";
	result->hint = "View ocean_enrich.unknown_calls lists it; "
		"ocean_enrich.resolve() allows to send it again.";
}
