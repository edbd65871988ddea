/*
 * message.c
 *		Requests and results as bytes that fit into shared memory.
 *
 * The fixed part goes as the struct itself, since both sides are the same
 * library.  A person follows it, aligned as a varlena has to be, and then the
 * strings in the order in which unpacking reads them, each as a byte that says
 * whether there is one, and its NUL-terminated text.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "shared/message.h"

static bool
is_before(const OeQueuePosition *a, const OeQueuePosition *b)
{
	return a->due < b->due || (a->due == b->due && a->call_id < b->call_id);
}

void
oe_news_add(OeQueueNews *news, const OeQueuePosition *position)
{
	for (int i = 0; i < news->count; i++)
	{
		if (news->first[i].priority != position->priority)
			continue;
		if (is_before(position, &news->first[i]))
			news->first[i] = *position;
		return;
	}
	if (news->count < OE_QUEUE_NEWS_MAX)
		news->first[news->count++] = *position;
	else
		news->everything = true;
}

void
oe_news_merge(OeQueueNews *news, const OeQueueNews *more)
{
	news->everything |= more->everything;
	news->decided |= more->decided;
	for (int i = 0; i < more->count; i++)
		oe_news_add(news, &more->first[i]);
}

void
oe_status_count(OeQueueStatus *status, TimestampTz now, uint32 settled)
{
	int64		second = now / USECS_PER_SEC;

	/* Whatever lies between was without. */
	if (second - status->second >= OE_QUEUE_SECONDS || second < status->second)
		memset(status->settled, 0, sizeof(status->settled));
	else
	{
		for (int64 s = status->second + 1; s <= second; s++)
			status->settled[s % OE_QUEUE_SECONDS] = 0;
	}
	status->second = second;
	status->settled[second % OE_QUEUE_SECONDS] += settled;
}

int64
oe_status_last_minute(const OeQueueStatus *status, TimestampTz now)
{
	OeQueueStatus copy = *status;
	int64		sum = 0;

	oe_status_count(&copy, now, 0);
	for (int i = 0; i < OE_QUEUE_SECONDS; i++)
		sum += copy.settled[i];
	return sum;
}

static void
pack_string(StringInfo buf, const char *string)
{
	appendStringInfoCharMacro(buf, string ? 1 : 0);
	if (string)
		appendBinaryStringInfo(buf, string, strlen(string) + 1);
}

static const char *
unpack_string(const char **bytes)
{
	const char *string = *bytes + 1;

	if ((*bytes)[0] == 0)
	{
		*bytes += 1;
		return NULL;
	}
	*bytes = string + strlen(string) + 1;
	return string;
}

char *
oe_call_pack(const OeCall *call, Size *len)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendBinaryStringInfo(&buf, (const char *) call, sizeof(*call));
	pack_string(&buf, call->url);
	pack_string(&buf, call->token);
	pack_string(&buf, call->ca_file);
	pack_string(&buf, call->proxy);
	pack_string(&buf, call->body);
	*len = buf.len;
	return buf.data;
}

void
oe_call_unpack(const char *bytes, OeCall *call)
{
	memcpy(call, bytes, sizeof(*call));
	bytes += sizeof(*call);
	call->url = unpack_string(&bytes);
	call->token = unpack_string(&bytes);
	call->ca_file = unpack_string(&bytes);
	call->proxy = unpack_string(&bytes);
	call->body = unpack_string(&bytes);
}

char *
oe_result_pack(const OeResult *result, Size *len)
{
	StringInfoData buf;

	StaticAssertStmt(sizeof(OeResult) == MAXALIGN(sizeof(OeResult)),
					 "what follows an OeResult is not aligned");
	initStringInfo(&buf);
	appendBinaryStringInfo(&buf, (const char *) result, sizeof(*result));
	if (result->person)
		appendBinaryStringInfo(&buf, (const char *) result->person,
							   VARSIZE(result->person));
	pack_string(&buf, result->credits);
	pack_string(&buf, result->message);
	pack_string(&buf, result->detail);
	pack_string(&buf, result->hint);
	*len = buf.len;
	return buf.data;
}

void
oe_result_unpack(const char *bytes, OeResult *result)
{
	memcpy(result, bytes, sizeof(*result));
	bytes += sizeof(*result);
	if (result->person)
	{
		result->person = (const Jsonb *) bytes;
		bytes += VARSIZE(result->person);
	}
	result->credits = unpack_string(&bytes);
	result->message = unpack_string(&bytes);
	result->detail = unpack_string(&bytes);
	result->hint = unpack_string(&bytes);
}

char *
oe_utf8_to_server(const char *utf8, Size len)
{
	int			encoding = GetDatabaseEncoding();
	Oid			proc;
	Size		space;
	char	   *server;

	if (!pg_verify_mbstr(PG_UTF8, utf8, len, true))
		return NULL;
	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return pnstrdup(utf8, len);

	proc = FindDefaultConversionProc(PG_UTF8, encoding);
	if (!OidIsValid(proc))
		return NULL;
	space = len * MAX_CONVERSION_GROWTH + 1;
	server = palloc_extended(space, MCXT_ALLOC_HUGE);
	if (pg_do_encoding_conversion_buf(proc, PG_UTF8, encoding,
									  (unsigned char *) unconstify(char *, utf8),
									  len, (unsigned char *) server, space,
									  true) != (int) len)
	{
		pfree(server);
		return NULL;
	}
	return server;
}

char *
oe_utf8_to_message(const char *utf8)
{
	char	   *message = oe_utf8_to_server(utf8, strlen(utf8));

	if (message)
		return message;
	message = pstrdup(utf8);
	for (char *c = message; *c; c++)
	{
		if (IS_HIGHBIT_SET(*c))
			*c = '?';
	}
	return message;
}
