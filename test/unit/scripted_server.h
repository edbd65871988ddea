/*
 * scripted_server.h
 *		An HTTP server on 127.0.0.1 that follows a script, right or wrong, and
 *		counts what it receives.
 *
 * Connection n follows script n; the last script serves all later connections.
 * A script is an array of steps that ends with {STEP_CLOSE}.  Everything is
 * allocated at the start, so that malloc may fail while the server runs.
 */
#ifndef SCRIPTED_SERVER_H
#define SCRIPTED_SERVER_H

typedef enum StepKind
{
	STEP_CLOSE,					/* end the script and the connection */
	STEP_RESET,					/* the same, with RST instead of FIN */
	STEP_READ_HEAD,				/* read a request up to the empty line */
	STEP_READ,					/* read a whole request, or its body */
	STEP_SEND,					/* send "text" */
	STEP_FLOOD,					/* send "text" until the client disconnects */
	STEP_HOLD,					/* wait for server_release() */
	STEP_REPEAT,				/* begin again with the first step */
} StepKind;

typedef struct Step
{
	StepKind	kind;
	const char *text;
} Step;

typedef struct Server Server;

/*
 * Serve up to "connections" connections at a time, each in a thread.  "scripts"
 * is an array of "count" scripts.  Exits the program on failure.
 */
extern Server *server_start(const Step *const *scripts, int count,
							int connections);

/* End all connections.  "server" may be NULL. */
extern void server_stop(Server *server);

extern int	server_port(const Server *server);

/* End all STEP_HOLDs, those of now and those to come. */
extern void server_release(Server *server);

/*
 * Counts since the start: connections accepted and closed, heads and bodies
 * received completely, texts sent.
 */
extern int	server_connections(Server *server);
extern int	server_closed(Server *server);
extern int	server_heads(Server *server);
extern int	server_bodies(Server *server);
extern int	server_sendings(Server *server);

/*
 * The head of request "number" (from 0) and the beginning of its body; valid
 * until the server is stopped.
 */
extern const char *server_head(Server *server, int number);
extern const char *server_body(Server *server, int number);

#endif							/* SCRIPTED_SERVER_H */
