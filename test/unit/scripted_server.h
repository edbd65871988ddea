/*
 * scripted_server.h
 *		An HTTP server on 127.0.0.1 that does what a script says, however
 *		wrong: it answers, waits, cuts, lies, and counts what it got.
 *
 * Connection n plays script n; the last script serves all later connections.
 * A script is an array of steps that ends with {STEP_CLOSE}.  Everything is
 * allocated at the start, so that a test may let malloc fail meanwhile.
 */
#ifndef SCRIPTED_SERVER_H
#define SCRIPTED_SERVER_H

typedef enum StepKind
{
	STEP_CLOSE,					/* the end of the script and the connection */
	STEP_RESET,					/* the same, by RST instead of FIN */
	STEP_READ_HEAD,				/* a request up to the empty line */
	STEP_READ,					/* a whole request, or the body still missing */
	STEP_SEND,					/* "text" */
	STEP_FLOOD,					/* "text" until the client has gone */
	STEP_HOLD,					/* until server_release() */
	STEP_REPEAT,				/* from the first step */
} StepKind;

typedef struct Step
{
	StepKind	kind;
	const char *text;
} Step;

typedef struct Server Server;

/*
 * Serve up to "connections" at a time by as many threads.  "scripts" is an
 * array of "count" ones.  Exits the program when it cannot start.
 */
extern Server *server_start(const Step *const *scripts, int count,
							int connections);

/* Ends all connections.  NULL is fine. */
extern void server_stop(Server *server);

extern int	server_port(const Server *server);

/* Let all go on that hold, now and later. */
extern void server_release(Server *server);

/*
 * Counts since the start: connections accepted and closed, heads and bodies
 * that came in whole, texts sent.
 */
extern int	server_connections(Server *server);
extern int	server_closed(Server *server);
extern int	server_heads(Server *server);
extern int	server_bodies(Server *server);
extern int	server_sendings(Server *server);

/*
 * The head of request "number" (from 0) and the beginning of its body; good
 * until the server is stopped.
 */
extern const char *server_head(Server *server, int number);
extern const char *server_body(Server *server, int number);

#endif							/* SCRIPTED_SERVER_H */
