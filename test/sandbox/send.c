/*
 * send.c
 *		Sends an answer: whole, in pieces, or cut off.
 */
#include "request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "memory.h"

#define PIECES				20	/* of a body that is sent slowly */
#define MORE_BYTES			100 /* announced but never sent */

/* A body that is not sent as a whole; freed with its response. */
typedef struct Source
{
	SbRequest  *request;
	SbText		body;
	size_t		end;			/* where the connection is closed */
	size_t		piece;			/* bytes at a time */
	int			pause_ms;		/* before each piece */
	bool		paused;
} Source;

static ssize_t
read_source(void *arg, uint64_t position, char *to, size_t max)
{
	Source	   *source = arg;
	size_t		count = source->end - position;

	if (count == 0)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (source->pause_ms > 0 && !source->paused)
	{
		source->paused = true;
		sb_request_sleep(source->request, source->pause_ms);
		return 0;
	}
	source->paused = false;
	if (count > source->piece)
		count = source->piece;
	if (count > max)
		count = max;
	memcpy(to, source->body.data + position, count);
	return (ssize_t) count;
}

static void
free_source(void *arg)
{
	Source	   *source = arg;

	sb_text_free(&source->body);
	free(source);
}

/* Hand the body over to a new response; "promised" is its Content-Length. */
static struct MHD_Response *
response_from_source(SbRequest *request, size_t promised, size_t end)
{
	SbReply    *reply = &request->reply;
	Source	   *source = sb_zalloc(sizeof(*source));
	struct MHD_Response *response;

	source->request = request;
	source->body = reply->body;
	source->end = end;
	source->piece = end;
	if (reply->delivery == SB_DELIVER_SLOWLY)
	{
		source->piece = end / PIECES + 1;
		source->pause_ms = reply->slowness_ms / PIECES;
	}
	response = MHD_create_response_from_callback(promised, promised,
												 read_source, source,
												 free_source);
	if (response == NULL)
		free(source);
	else
		reply->body = (SbText) {0};
	return response;
}

static struct MHD_Response *
make_response(SbRequest *request)
{
	SbReply    *reply = &request->reply;
	struct MHD_Response *response;

	switch (reply->delivery)
	{
		case SB_DELIVER_HALF:
			return response_from_source(request, reply->body.len,
										reply->body.len / 2);
		case SB_DELIVER_PROMISING_MORE:
			return response_from_source(request, reply->body.len + MORE_BYTES,
										reply->body.len);
		case SB_DELIVER_SLOWLY:
			return response_from_source(request, reply->body.len,
										reply->body.len);
		case SB_DELIVER_WHOLE:
		case SB_DELIVER_AND_CLOSE:
		case SB_DELIVER_NEVER:
		case SB_DELIVER_NOTHING:
			break;
	}
	response = MHD_create_response_from_buffer(reply->body.len,
											   reply->body.data,
											   MHD_RESPMEM_MUST_FREE);
	if (response != NULL)
		reply->body = (SbText) {0};
	return response;
}

static bool
add_headers(const SbReply *reply, bool last, struct MHD_Response *response)
{
	char		rate_limit[12];

	(void) snprintf(rate_limit, sizeof(rate_limit), "%d", reply->rate_limit);
	return
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
								reply->content_type) == MHD_YES &&
		(reply->retry_after[0] == '\0' ||
		 MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER,
								 reply->retry_after) == MHD_YES) &&
		(reply->rate_limit == 0 ||
		 MHD_add_response_header(response, "X-RateLimit-Limit",
								 rate_limit) == MHD_YES) &&
		(reply->location == NULL ||
		 MHD_add_response_header(response, MHD_HTTP_HEADER_LOCATION,
								 reply->location) == MHD_YES) &&
		(reply->allow == NULL ||
		 MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW,
								 reply->allow) == MHD_YES) &&
		(!last ||
		 MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION,
								 "close") == MHD_YES) &&
		(reply->delivery != SB_DELIVER_AND_CLOSE ||
		 MHD_set_response_options(response, MHD_RF_SEND_KEEP_ALIVE_HEADER,
								  MHD_RO_END) == MHD_YES);
}

/* True if this is the last request that its connection may have. */
static bool
is_last(const SbRequest *request)
{
	int			limit = request->server->api->config.keepalive_requests;

	return limit > 0 && !sb_request_is_control(request) &&
		request->connection->requests >= limit;
}

enum MHD_Result
sb_send(SbRequest *request)
{
	struct MHD_Response *response = make_response(request);
	enum MHD_Result result = MHD_NO;

	if (response == NULL)
		return MHD_NO;
	if (add_headers(&request->reply, is_last(request), response))
		result = MHD_queue_response(request->mhd,
									(unsigned int) request->reply.status,
									response);
	MHD_destroy_response(response);
	return result;
}
