/*
 * http.h
 *		Many requests at once, by libcurl's multi interface behind one epoll
 *		descriptor.  Knows nothing of the API's vocabulary.
 *
 * One thread drives it: submit, wait until oe_http_fd() is readable or
 * oe_http_timeout_ms() has passed, run, take the replies.  All signals are
 * blocked while libcurl runs, so that its resolver threads inherit the mask.
 *
 * A request is sent at most once: libcurl would silently send a POST again when a
 * kept connection dies under it, and the API may charge for each.
 *
 * The process has to ignore SIGPIPE, as PostgreSQL's do.
 */
#ifndef OE_HTTP_H
#define OE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buffer.h"
#include "core/error.h"

typedef struct OeHttp OeHttp;

/* Everything is copied at submission; NULL strings mean "not set". */
typedef struct OeHttpRequest
{
	const char *url;			/* the whole URL, without the token */
	const char *token;
	bool		token_in_query; /* "apiToken" in the query instead of the
								 * header "x-api-token" */
	const char *ca_file;		/* PEM bundle; NULL: the system's */
	const char *proxy;			/* NULL: none, whatever the environment says */
	const char *body;			/* NULL: a GET instead of a POST */
	size_t		body_len;		/* more than 0, if there is one */
	int			connect_timeout_ms; /* more than 0, both */
	int			request_timeout_ms; /* from submission to the last byte */
	void	   *tag;			/* the caller's, given back in the reply */
} OeHttpRequest;

typedef enum OeHttpResult
{
	OE_HTTP_COMPLETE,			/* there are a status and a body, perhaps cut */
	OE_HTTP_NOT_SENT,			/* libcurl was not allowed to send it yet */
	OE_HTTP_LOST,				/* it may have been sent, and no complete
								 * answer came */
} OeHttpResult;

/* Why there is no answer, as far as somebody can do something about it. */
typedef enum OeHttpFault
{
	OE_HTTP_OTHER_FAULT,
	OE_HTTP_UNTRUSTED,			/* no authority that we trust has signed the
								 * certificate */
	OE_HTTP_EXPIRED,
	OE_HTTP_NOT_YET_VALID,
	OE_HTTP_OTHER_HOST,			/* the certificate is for another host */
	OE_HTTP_NO_CA_FILE,			/* no certificate could be read from it */
	OE_HTTP_PROXY_REFUSED,		/* the proxy answered CONNECT with an error */
	OE_HTTP_NO_PROXY,			/* the proxy could not be reached */
} OeHttpFault;

typedef struct OeHttpReply
{
	void	   *tag;
	OeHttpResult result;
	int			status;			/* 0: none came.  May be set for OE_HTTP_LOST
								 * too */
	OeBuf		body;			/* up to the ceiling; if there was more,
								 * body.truncated is set and the rest was not
								 * read */
	int			retry_after_ms; /* from Retry-After, seconds or HTTP date; -1:
								 * none */
	int64_t		left_us_ago;	/* how long ago it left, when the reply was
								 * complete; -1: it did not leave */
	bool		timed_out;		/* true if one of our two time-outs ended it */
	OeHttpFault fault;			/* unless it is OE_HTTP_COMPLETE */
	const char *problem;		/* the same for people, without URL, token and
								 * body: NULL, or a text that lives as long as
								 * the reply */
} OeHttpReply;

/*
 * Call once per process, before anything else here; false if libcurl failed.
 * Not needed for oe_http_base_url().
 */
extern bool oe_http_global_init(void);

/*
 * "max_body_bytes" is the ceiling of one answer.  NULL if memory or epoll
 * failed.
 */
extern OeHttp *oe_http_new(size_t max_body_bytes);

/* Ends all transfers; replies not taken are freed.  NULL is fine. */
extern void oe_http_free(OeHttp *http);

/* Readable when oe_http_run() has something to do. */
extern int	oe_http_fd(const OeHttp *http);

/*
 * How long to wait for oe_http_fd() at most, in ms; -1: no limit, 0: a reply
 * is waiting to be taken.
 */
extern int	oe_http_timeout_ms(const OeHttp *http);

/* How many idle connections to keep; at least the peak in flight. */
extern void oe_http_keep_connections(OeHttp *http, int count);

/*
 * Start one request.  False with "error" filled if it could not be started:
 * nothing was sent, and there will be no reply.
 */
extern bool oe_http_submit(OeHttp *http, const OeHttpRequest *request,
						   OeError *error);

/* Let libcurl do what can be done now.  Never blocks. */
extern void oe_http_run(OeHttp *http);

/* The next finished transfer, or NULL.  The caller frees it. */
extern OeHttpReply *oe_http_next_reply(OeHttp *http);
extern void oe_http_reply_free(OeHttpReply *reply);

/*
 * The number of transfers whose reply was not taken yet, and of open sockets.
 */
extern int	oe_http_in_flight(const OeHttp *http);
extern int	oe_http_open_sockets(const OeHttp *http);

/*
 * The URL that the paths of endpoints are appended to, in a spelling that is the
 * same for all that mean the same: scheme and host in lower case, no default port,
 * no slash at the end, no "/v2", with which the paths begin.  malloc'd.
 *
 * NULL with "error" filled (OE_BAD_SETTING) unless "url" may be the API's: https
 * anywhere, plain http only at a loopback address or "localhost"; without user,
 * password, query, fragment and control characters.
 */
extern char *oe_http_base_url(const char *url, OeError *error);

#endif							/* OE_HTTP_H */
