/*
 * request.h
 *		One HTTP request from its first header to its last byte out.  Shared by
 *		the files that drive libmicrohttpd: server.c accepts, request.c leads a
 *		request through its life, send.c puts the answer on the wire.
 *
 * A request that has to wait is suspended: libmicrohttpd forgets it until it
 * is resumed, and then calls what stands in "proceed".
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
	bool		starting;		/* libmicrohttpd's complaints are wanted */
	struct SbConnectionList connections;

	/* the suspended requests */
	struct SbRequestList held;	/* until the configuration lets them go */
	struct SbRequestList judged;	/* likewise, their answers */
	struct SbRequestList waiters;	/* GET /sandbox/wait */
	struct SbRequestList sleepers;	/* until a timer or for ever */
};

struct SbConnection
{
	int			fd;
	bool		counted;		/* has had a request that is no control */
	bool		busy;			/* has one now */
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
	struct SbRequestList *list; /* where it is suspended, or NULL */
	TAILQ_ENTRY(SbRequest) entry;
	SbTimer		timer;			/* ends a sleep or a wait */
	SbWatch		watch;			/* notices that the client has gone */
	bool		watched;

	bool		in_flight;		/* stands in the books as such */
	bool		answered;		/* and so does its answer */
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

/* It is over, one way or the other. */
extern void sb_request_free(SbRequest *request);

/* Is this a request to the control endpoints? */
extern bool sb_request_is_control(const SbRequest *request);

/* Suspend it for a time. */
extern void sb_request_sleep(SbRequest *request, int ms);

/* Resume those waiters whose condition holds. */
extern void sb_request_check_waiters(struct SbServer *server);

/* End all suspended requests without an answer. */
extern void sb_request_abandon_all(struct SbServer *server);

/* Put request->reply on the wire as its "delivery" says. */
extern enum MHD_Result sb_send(SbRequest *request);

#endif							/* SB_REQUEST_H */
