/*
 * message.c
 *		Requests and results as bytes that fit into shared memory.
 *
 * The fixed part travels as the struct itself, since both sides are the same
 * library.  An answer follows it, aligned as a varlena has to be, and then the
 * strings in the order in which they are unpacked, each as a byte that says
 * whether it is present, and its NUL-terminated text.  An endpoint travels as
 * its name, as the library need not lie at the same address in both processes.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "shared/message.h"

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
	pack_string(&buf, call->endpoint->name);
	pack_string(&buf, call->base_url);
	pack_string(&buf, call->token);
	pack_string(&buf, call->ca_file);
	pack_string(&buf, call->proxy);
	pack_string(&buf, call->webhook_url);
	pack_string(&buf, call->body);
	*len = buf.len;
	return buf.data;
}

void
oe_call_unpack(const char *bytes, OeCall *call)
{
	memcpy(call, bytes, sizeof(*call));
	bytes += sizeof(*call);
	call->endpoint = oe_endpoint_find(unpack_string(&bytes));
	call->base_url = unpack_string(&bytes);
	call->token = unpack_string(&bytes);
	call->ca_file = unpack_string(&bytes);
	call->proxy = unpack_string(&bytes);
	call->webhook_url = unpack_string(&bytes);
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
	if (result->answer)
		appendBinaryStringInfo(&buf, (const char *) result->answer,
							   VARSIZE(result->answer));
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
	if (result->answer)
	{
		result->answer = (const Jsonb *) bytes;
		bytes += VARSIZE(result->answer);
	}
	result->credits = unpack_string(&bytes);
	result->message = unpack_string(&bytes);
	result->detail = unpack_string(&bytes);
	result->hint = unpack_string(&bytes);
}
