/*
 * server.c
 *		Accepts connections and passes their requests on.  libmicrohttpd is driven
 *		by its epoll descriptor, so that all of the sandbox runs in one thread.
 */
#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "memory.h"
#include "request.h"

/*
 * A free port is taken from below 32768.  Those above are used for outgoing
 * connections, one of which could occupy the port while a test restarts.
 */
#define PORT_MIN		10240
#define PORT_MAX		32767
#define PORT_TRIES		1000

#define LISTEN_BACKLOG	4096
#define RESERVED_FDS	32		/* for everything but connections */

/*
 * Headers may take half of this.  More would be slow, since libmicrohttpd
 * clears all of it for each request.
 */
#define CONNECTION_BYTES	((size_t) 16 * 1024)

static void
start_connection(SbServer *server, struct MHD_Connection *mhd,
				 void **socket_context)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
	SbConnection *connection = sb_zalloc(sizeof(*connection));

	connection->fd = info->connect_fd;
	TAILQ_INSERT_TAIL(&server->connections, connection, entry);
	*socket_context = connection;
}

static void
end_connection(SbServer *server, SbConnection *connection)
{
	if (connection->counted)
		server->api->books.open_connections--;
	TAILQ_REMOVE(&server->connections, connection, entry);
	free(connection);
}

static void
on_connection(void *arg, struct MHD_Connection *mhd, void **socket_context,
			  enum MHD_ConnectionNotificationCode code)
{
	if (code == MHD_CONNECTION_NOTIFY_STARTED)
		start_connection(arg, mhd, socket_context);
	else
		end_connection(arg, *socket_context);
}

static SbRequest *
start_request(SbServer *server, struct MHD_Connection *mhd,
			  const char *method, const char *path)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	SbConnection *connection = info->socket_context;
	SbRequest  *request = sb_request_new(server, mhd, connection,
										 method, path);
	SbBooks    *books = &server->api->books;

	connection->busy = true;
	connection->requests++;
	if (!connection->counted && !sb_request_is_control(request))
	{
		connection->counted = true;
		books->connections++;
		books->open_connections++;
	}
	return request;
}

/*
 * libmicrohttpd calls this after the headers, for each part of the body, at its
 * end, and again after each suspension.
 */
static enum MHD_Result
on_request(void *arg, struct MHD_Connection *mhd, const char *url,
		   const char *method, const char *version,
		   const char *upload_data, size_t *upload_data_size,
		   void **request_context)
{
	SbRequest  *request = *request_context;

	(void) version;
	if (request == NULL)
	{
		*request_context = start_request(arg, mhd, method, url);
		return MHD_YES;
	}
	if (*upload_data_size > 0)
	{
		sb_request_add_body(request, upload_data, *upload_data_size);
		*upload_data_size = 0;
		return MHD_YES;
	}
	return request->proceed(request);
}

static void
on_request_end(void *arg, struct MHD_Connection *mhd, void **request_context,
			   enum MHD_RequestTerminationCode code)
{
	SbRequest  *request = *request_context;

	(void) arg;
	(void) mhd;
	(void) code;
	if (request == NULL)
		return;
	request->connection->busy = false;
	/* It only fails if the client has disconnected. */
	if (request->reply.delivery == SB_DELIVER_AND_CLOSE)
		(void) shutdown(request->connection->fd, SHUT_RDWR);
	sb_request_free(request);
	*request_context = NULL;
}

static void on_log(void *arg, const char *format, va_list values)
			__attribute__((format(printf, 2, 0)));

/* After the start libmicrohttpd only logs clients that disconnect. */
static void
on_log(void *arg, const char *format, va_list values)
{
	const SbServer *server = arg;

	if (server->starting)
		(void) vfprintf(stderr, format, values);
}

static int
random_port(void)
{
	unsigned	bits;

	/* A read of so few bytes is never short. */
	if (getrandom(&bits, sizeof(bits), 0) != sizeof(bits))
		return PORT_MIN;
	return PORT_MIN + (int) (bits % (PORT_MAX - PORT_MIN + 1));
}

static bool
bind_port(int fd, int port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t) port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	return bind(fd, (struct sockaddr *) &address, sizeof(address)) == 0;
}

/* Bind to *port, or to a free port if it is 0, and return it in *port. */
static bool
bind_some_port(int fd, int *port)
{
	if (*port != 0)
		return bind_port(fd, *port);
	for (int try = 0; try < PORT_TRIES; try++)
	{
		*port = random_port();
		if (bind_port(fd, *port))
			return true;
		if (errno != EADDRINUSE)
			break;
	}
	return false;
}

/* The listening socket, or -1 with errno set. */
static int
listen_on(int *port)
{
	int			fd = socket(AF_INET,
							SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int			yes = 1;

	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) == 0 &&
		bind_some_port(fd, port) &&
		listen(fd, LISTEN_BACKLOG) == 0)
		return fd;
	(void) close(fd);
	return -1;
}

/* As many connections as the system allows. */
static unsigned int
connection_limit(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) != 0)
		return FD_SETSIZE - RESERVED_FDS;
	files.rlim_cur = files.rlim_max;
	/* If it cannot be raised, the old limit is read again. */
	if (setrlimit(RLIMIT_NOFILE, &files) != 0)
		(void) getrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_cur > INT_MAX)
		return INT_MAX;
	return (unsigned int) files.rlim_cur - RESERVED_FDS;
}

static struct MHD_Daemon *
start_daemon(SbServer *server, int listen_fd,
			 const char *certificate, const char *key)
{
	unsigned int flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME |
		MHD_USE_ERROR_LOG;
	struct MHD_OptionItem tls[] = {
		{MHD_OPTION_HTTPS_MEM_CERT, 0, (void *) certificate},
		{MHD_OPTION_HTTPS_MEM_KEY, 0, (void *) key},
		{MHD_OPTION_END, 0, NULL}
	};

	if (certificate != NULL)
		flags |= MHD_USE_TLS;
	else
		tls[0].option = MHD_OPTION_END;
	/* The logger comes first, so that it misses no message. */
	return MHD_start_daemon(flags, 0, NULL, NULL, on_request, server,
							MHD_OPTION_EXTERNAL_LOGGER, on_log, server,
							MHD_OPTION_LISTEN_SOCKET, listen_fd,
							MHD_OPTION_CONNECTION_LIMIT, connection_limit(),
							MHD_OPTION_CONNECTION_TIMEOUT, 0U,
							MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_BYTES,
							MHD_OPTION_NOTIFY_CONNECTION, on_connection, server,
							MHD_OPTION_NOTIFY_COMPLETED, on_request_end, server,
							MHD_OPTION_ARRAY, tls,
							MHD_OPTION_END);
}

/* Nothing to do: sb_server_run() comes after each turn of the loop anyway. */
static void
on_daemon_ready(void *arg)
{
	(void) arg;
}

static bool
watch_daemon(SbServer *server)
{
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);

	if (info == NULL)
		return false;
	server->daemon_watch = (SbWatch) {info->epoll_fd, on_daemon_ready, NULL};
	return sb_loop_watch(server->loop, &server->daemon_watch, EPOLLIN) == 0;
}

SbServer *
sb_server_start(SbApi *api, SbLoop *loop, int port,
				const char *certificate, const char *key)
{
	SbServer   *server = sb_zalloc(sizeof(*server));
	int			listen_fd;

	server->api = api;
	server->loop = loop;

	server->port = port;
	server->starting = true;
	TAILQ_INIT(&server->connections);
	TAILQ_INIT(&server->held);
	TAILQ_INIT(&server->judged);
	TAILQ_INIT(&server->waiters);
	TAILQ_INIT(&server->sleepers);

	listen_fd = listen_on(&server->port);
	if (listen_fd < 0)
	{
		fprintf(stderr, "ocean-sandbox: could not listen on port %d: %s\n",
				server->port, strerror(errno));
		free(server);
		return NULL;
	}
	server->daemon = start_daemon(server, listen_fd, certificate, key);
	if (server->daemon == NULL || !watch_daemon(server))
	{
		fputs("ocean-sandbox: could not start the HTTP server\n", stderr);
		if (server->daemon != NULL)
			MHD_stop_daemon(server->daemon);
		else
			(void) close(listen_fd);
		free(server);
		return NULL;
	}
	server->starting = false;
	return server;
}

int
sb_server_port(const SbServer *server)
{
	return server->port;
}

void
sb_server_run(SbServer *server)
{
	/* It only fails for daemons that run in a thread of their own. */
	(void) MHD_run(server->daemon);
	sb_request_check_waiters(server);
}

int
sb_server_max_wait_ms(const SbServer *server)
{
	MHD_UNSIGNED_LONG_LONG ms;

	if (MHD_get_timeout(server->daemon, &ms) != MHD_YES)
		return -1;
	return ms < INT_MAX ? (int) ms : INT_MAX;
}

void
sb_server_stop(SbServer *server)
{
	/* libmicrohttpd cannot stop while a connection is suspended. */
	sb_request_abandon_all(server);
	sb_loop_unwatch(server->loop, &server->daemon_watch);
	MHD_stop_daemon(server->daemon);
	free(server);
}
