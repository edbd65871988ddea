/*
 * request_body.c
 *		A request as a user writes it, checked and normalised to what is sent.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "core/request.h"
#include "base/errors.h"
#include "base/text.h"
#include "shared/request_body.h"
#include "shared/settings.h"

/* It is sent all the same, but the user will have meant something else. */
static void
warn_not_asked(const OeEndpoint *endpoint, const OeReveals *reveals)
{
	for (Size i = 0; i < endpoint->price_count; i++)
	{
		if (reveals->of[i] == OE_REVEAL_NOT_ASKED)
			ereport(WARNING,
					errmsg("\"%s\" has a \"webhookUrl\" but asks for nothing",
						   endpoint->prices[i].object),
					errhint("Add \"%s\": true.", endpoint->prices[i].flag));
	}
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

char *
oe_request_body(const OeEndpoint *endpoint, Jsonb *jsonb, bool early,
				OeReveals *reveals)
{
	OeRequest	request = {0};
	OeError		error = {0};
	char	   *text;
	char	   *utf8;
	char	   *body;

	*reveals = request.reveals;
	if (!endpoint->vocabulary)
		return NULL;
	text = JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
	utf8 = pg_server_to_any(text, strlen(text), PG_UTF8);
	if (oe_request_parse(endpoint, utf8, strlen(utf8),
						 oe_unknown_keys == OE_UNKNOWN_KEYS_PASS,
						 &request, &error) != OE_OK)
	{
		convert_error(&error);
		oe_ereport(ERROR, &error);
	}

	/* What malloc gave is freed before anything can be raised. */
	*reveals = request.reveals;
	body = palloc_extended(request.body_len + 1, MCXT_ALLOC_NO_OOM);
	if (body)
		memcpy(body, request.body, request.body_len + 1);
	oe_request_free(&request);
	if (!body)
		ereport(ERROR,
				errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("out of memory"));
	if (!early)
		warn_not_asked(endpoint, reveals);
	return body;
}

void
oe_request_fingerprint(const OeEndpoint *endpoint, const char *body,
					   uint8 fingerprint[OE_FINGERPRINT_BYTES])
{
	StringInfoData both;

	initStringInfo(&both);
	appendStringInfoString(&both, endpoint->name);
	appendStringInfoChar(&both, '\n');
	if (body)
		appendStringInfoString(&both, body);
	oe_sha256(both.data, both.len, fingerprint);
	pfree(both.data);
}

void
oe_request_set_reveals(OeLimits *limits, const OeReveals *reveals)
{
	for (int i = 0; i < OE_PRICES_MAX; i++)
		limits->in_answer[i] = reveals->of[i] == OE_REVEAL_IN_ANSWER;
}
