/*
 * server.h
 *		The HTTP server: the API and the control endpoints on one port of
 *		127.0.0.1, driven by the caller's loop.
 */
#ifndef SB_SERVER_H
#define SB_SERVER_H

#include <stdbool.h>

#include "api.h"
#include "loop.h"

typedef struct SbServer SbServer;

/*
 * Listen on "port", or on a free port if it is 0.  Use TLS if "certificate" and
 * "key", the texts of two PEM files, are not NULL; they must stay valid.  On
 * failure print a message to stderr and return NULL.
 */
extern SbServer *sb_server_start(SbApi *api, SbLoop *loop, int port,
								 const char *certificate, const char *key);
extern int	sb_server_port(const SbServer *server);

/* Handle everything that is ready. */
extern void sb_server_run(SbServer *server);

/* How long the loop may wait before the next sb_server_run(); -1: forever. */
extern int	sb_server_max_wait_ms(const SbServer *server);

/* Close everything, answered or not. */
extern void sb_server_stop(SbServer *server);

#endif							/* SB_SERVER_H */
