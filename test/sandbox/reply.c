/*
 * reply.c
 *		Fills in the content of an answer.
 */
#include "reply.h"

#include <stdio.h>

void
sb_reply_text(SbReply *reply, int status, const char *content_type,
			  const char *text, size_t len)
{
	SbText		body = {0};

	sb_text_add(&body, text, len);
	sb_reply_take(reply, status, content_type, &body);
}

void
sb_reply_take(SbReply *reply, int status, const char *content_type,
			  SbText *text)
{
	sb_text_free(&reply->body);
	reply->status = status;
	reply->content_type = content_type;
	reply->body = *text;
	*text = (SbText) {0};
}

void
sb_reply_json(SbReply *reply, int status, struct json_object *json)
{
	int			flags = JSON_C_TO_STRING_NOSLASHESCAPE; /* and no spaces */
	size_t		len;
	const char *text = json_object_to_json_string_length(json, flags, &len);

	sb_reply_text(reply, status, "application/json", text, len);
	json_object_put(json);
}

void
sb_reply_detail(SbReply *reply, int status, const char *detail)
{
	struct json_object *json = json_object_new_object();

	json_object_object_add(json, "detail", json_object_new_string(detail));
	sb_reply_json(reply, status, json);
}

void
sb_reply_html(SbReply *reply, int status, const char *title)
{
	char		page[400];
	int			len = snprintf(page, sizeof(page),
							   "<!DOCTYPE html>\n"
							   "<html><head><title>%s</title></head>\n"
							   "<body><h1>%s</h1></body></html>\n",
							   title, title);

	sb_reply_text(reply, status, "text/html", page, (size_t) len);
}

void
sb_reply_free(SbReply *reply)
{
	sb_text_free(&reply->body);
	*reply = (SbReply) {0};
}
