/*
 * reply.h
 *		An outgoing answer: its content and how it is delivered.
 */
#ifndef SB_REPLY_H
#define SB_REPLY_H

#include <json-c/json.h>
#include <stddef.h>

#include "text.h"

typedef enum SbDelivery
{
	SB_DELIVER_WHOLE,
	SB_DELIVER_NEVER,			/* keep the connection open, send nothing */
	SB_DELIVER_NOTHING,			/* close the connection, send nothing */
	SB_DELIVER_HALF,			/* close in the middle of the body */
	SB_DELIVER_PROMISING_MORE,	/* close before Content-Length is reached */
	SB_DELIVER_AND_CLOSE,		/* announce keep-alive, but close */
	SB_DELIVER_SLOWLY,			/* the body in pieces, over "slowness_ms" */
} SbDelivery;

/* Starts as {0}. */
typedef struct SbReply
{
	int			status;
	const char *content_type;
	SbText		body;

	/* headers that only some answers have */
	char		retry_after[40];
	int			rate_limit;		/* X-RateLimit-Limit; 0: none */
	const char *location;
	const char *allow;

	SbDelivery	delivery;
	int			slowness_ms;
	int			delay_ms;		/* before the first byte */
} SbReply;

/* Answer with "json", and take it over. */
extern void sb_reply_json(SbReply *reply, int status,
						  struct json_object *json);

/* {"detail": "..."} */
extern void sb_reply_detail(SbReply *reply, int status, const char *detail);

/* A page as proxies send it. */
extern void sb_reply_html(SbReply *reply, int status, const char *title);

/* "text" is copied. */
extern void sb_reply_text(SbReply *reply, int status,
						  const char *content_type,
						  const char *text, size_t len);

/* "text" is taken over. */
extern void sb_reply_take(SbReply *reply, int status,
						  const char *content_type, SbText *text);

extern void sb_reply_free(SbReply *reply);

#endif							/* SB_REPLY_H */
