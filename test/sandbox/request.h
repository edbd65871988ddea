/*
 * request.h
 *		One HTTP request, from its first header to the last byte of its answer.
 *		Shared by the files that use libmicrohttpd: server.c accepts requests,
 *		request.c processes them, send.c sends the answers.
 *
 * A request that has to wait is suspended: libmicrohttpd ignores it until it
 * is resumed, and then on_request() calls its "proceed".
 */
#ifndef SB_REQUEST_H
#define SB_REQUEST_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

#include "api.h"
#include "control.h"
#include "loop.h"
#include "reply.h"
#include "text.h"

typedef struct SbRequest SbRequest;
typedef struct SbConnection SbConnection;

TAILQ_HEAD(SbRequestList, SbRequest);
TAILQ_HEAD(SbConnectionList, SbConnection);

struct SbServer
{
	SbApi	   *api;
	SbLoop	   *loop;
	struct MHD_Daemon *daemon;
	SbWatch		daemon_watch;
	int			port;
	bool		starting;		/* true while libmicrohttpd may log errors */
	struct SbConnectionList connections;

	/* the suspended requests */
	struct SbRequestList held;	/* by "hold" */
	struct SbRequestList judged;	/* by "hold_answers" */
	struct SbRequestList waiters;	/* GET /sandbox/wait */
	struct SbRequestList sleepers;	/* until a timer fires, or forever */
};

struct SbConnection
{
	int			fd;
	bool		counted;		/* true after its first API request */
	bool		busy;			/* true while it has a request */
	int			requests;
	TAILQ_ENTRY(SbConnection) entry;
};

struct SbRequest
{
	struct SbServer *server;
	struct MHD_Connection *mhd;
	SbConnection *connection;
	const char *method;
	const char *path;

	SbText		body;
	bool		body_too_large;

	enum MHD_Result (*proceed) (SbRequest *request);
	struct SbRequestList *list; /* it is suspended in, or NULL */
	TAILQ_ENTRY(SbRequest) entry;
	SbTimer		timer;			/* ends a sleep or a wait */
	SbWatch		watch;			/* notices when the client disconnects */
	bool		watched;

	bool		in_flight;		/* true if counted as in flight */
	bool		answered;		/* true if its answer is counted */
	SbCall		call;
	SbWait		wait;
	SbReply		reply;
};

extern SbRequest *sb_request_new(struct SbServer *server,
								 struct MHD_Connection *mhd,
								 SbConnection *connection,
								 const char *method, const char *path);
extern void sb_request_add_body(SbRequest *request,
								const char *bytes, size_t len);

/* End a request, with or without an answer. */
extern void sb_request_free(SbRequest *request);

/* True if the request is for a control endpoint. */
extern bool sb_request_is_control(const SbRequest *request);

/* Suspend a request for "ms" milliseconds. */
extern void sb_request_sleep(SbRequest *request, int ms);

/* Resume the waiters whose condition holds. */
extern void sb_request_check_waiters(struct SbServer *server);

/* End all suspended requests without an answer. */
extern void sb_request_abandon_all(struct SbServer *server);

/* Send request->reply as its "delivery" says. */
extern enum MHD_Result sb_send(SbRequest *request);

#endif							/* SB_REQUEST_H */
