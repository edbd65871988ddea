/*
 * scripted_server.c
 *		Blocking sockets, one thread for each connection that may be open.
 *
 * All threads accept from the same listening socket.  server_stop() shuts down
 * the sockets, which ends all waits of the threads.  A connection is closed by
 * its own thread only.
 */
#define _GNU_SOURCE				/* memmem(), strcasestr() */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "scripted_server.h"

#define HEAD_SIZE		4096
#define BODY_SIZE		1024
#define REQUESTS_MAX	256

typedef struct Request
{
	char		head[HEAD_SIZE];
	char		body[BODY_SIZE];	/* the beginning of it */
} Request;

/* One thread and its current connection. */
typedef struct Connection
{
	Server	   *server;
	pthread_t	thread;
	int			fd;				/* -1: none */
	Request    *request;		/* being read; NULL: none */
	size_t		body_left;		/* bytes of it not received yet */
	char		received[HEAD_SIZE];	/* but not processed yet */
	size_t		received_len;
} Connection;

struct Server
{
	const Step *const *scripts;
	int			script_count;
	int			listen_fd;
	int			release_fd;		/* an eventfd, readable after release */
	int			port;
	int			connection_count;
	Connection *connections;

	pthread_mutex_t lock;		/* for all below */
	bool		stopping;
	int			accepted;
	int			closed;
	int			heads;
	int			bodies;
	int			sendings;
	Request    *requests;		/* "heads" of them */
};

static void
die(const char *what)
{
	perror(what);
	exit(2);
}

static void
lock(Server *server)
{
	if (pthread_mutex_lock(&server->lock) != 0)
		abort();
}

static void
unlock(Server *server)
{
	if (pthread_mutex_unlock(&server->lock) != 0)
		abort();
}

/* Wait for bytes.  False at the end of the connection. */
static bool
receive(Connection *conn, char *to, size_t size, size_t *len)
{
	ssize_t		got = recv(conn->fd, to, size, 0);

	if (got <= 0)
		return false;
	*len = got;
	return true;
}

static size_t
content_length(const char *head)
{
	const char *line = strcasestr(head, "\r\nContent-Length:");

	return line ? strtoul(line + strlen("\r\nContent-Length:"), NULL, 10) : 0;
}

/* Record the head, "len" bytes long, and keep the bytes after it. */
static bool
take_head(Connection *conn, size_t len)
{
	Server	   *server = conn->server;
	Request    *request;

	lock(server);
	if (server->heads == REQUESTS_MAX)
		abort();
	request = &server->requests[server->heads];
	memcpy(request->head, conn->received, len);
	request->head[len] = '\0';
	server->heads++;
	unlock(server);

	conn->request = request;
	conn->body_left = content_length(request->head);
	conn->received_len -= len;
	memmove(conn->received, conn->received + len, conn->received_len);
	return true;
}

static bool
read_head(Connection *conn)
{
	for (;;)
	{
		const char *end = memmem(conn->received, conn->received_len,
								 "\r\n\r\n", 4);
		size_t		len;

		if (end)
			return take_head(conn, end + 4 - conn->received);
		if (conn->received_len + 1 >= sizeof(conn->received) ||
			!receive(conn, conn->received + conn->received_len,
					 sizeof(conn->received) - 1 - conn->received_len, &len))
			return false;
		conn->received_len += len;
	}
}

/* Record a piece of the body, as far as it fits. */
static void
take_body(Connection *conn, const char *bytes, size_t len)
{
	char	   *body = conn->request->body;
	size_t		have = strlen(body);
	size_t		room = BODY_SIZE - 1 - have;

	lock(conn->server);
	memcpy(body + have, bytes, len < room ? len : room);
	conn->body_left -= len;
	unlock(conn->server);
}

static bool
read_request(Connection *conn)
{
	char		piece[HEAD_SIZE];
	size_t		len;

	if (!conn->request && !read_head(conn))
		return false;

	len = conn->received_len < conn->body_left ? conn->received_len :
		conn->body_left;
	take_body(conn, conn->received, len);
	conn->received_len -= len;
	memmove(conn->received, conn->received + len, conn->received_len);

	while (conn->body_left > 0)
	{
		size_t		want = conn->body_left < sizeof(piece) ? conn->body_left :
			sizeof(piece);

		if (!receive(conn, piece, want, &len))
			return false;
		take_body(conn, piece, len);
	}
	conn->request = NULL;
	lock(conn->server);
	conn->server->bodies++;
	unlock(conn->server);
	return true;
}

static bool
send_text(Connection *conn, const char *text)
{
	size_t		left = strlen(text);

	while (left > 0)
	{
		ssize_t		sent = send(conn->fd, text, left, MSG_NOSIGNAL);

		if (sent < 0)
			return false;
		text += sent;
		left -= sent;
	}
	lock(conn->server);
	conn->server->sendings++;
	unlock(conn->server);
	return true;
}

/* False when the client goes first. */
static bool
wait_for_release(Connection *conn)
{
	struct pollfd fds[] = {
		{.fd = conn->server->release_fd, .events = POLLIN},
		{.fd = conn->fd, .events = POLLRDHUP}
	};

	while (poll(fds, 2, -1) < 0)
	{
		if (errno != EINTR)
			die("poll");
	}
	return (fds[0].revents & POLLIN) != 0;
}

/* Make close() send RST. */
static void
reset_at_close(Connection *conn)
{
	struct linger linger = {.l_onoff = 1, .l_linger = 0};

	if (setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) != 0)
		die("setsockopt");
}

static void
run_script(Connection *conn, const Step *script)
{
	const Step *step = script;
	bool		go_on = true;

	while (go_on)
	{
		switch (step->kind)
		{
			case STEP_CLOSE:
				return;
			case STEP_RESET:
				reset_at_close(conn);
				return;
			case STEP_READ_HEAD:
				go_on = read_head(conn);
				break;
			case STEP_READ:
				go_on = read_request(conn);
				break;
			case STEP_SEND:
				go_on = send_text(conn, step->text);
				break;
			case STEP_FLOOD:
				while (send_text(conn, step->text))
					;
				return;
			case STEP_HOLD:
				go_on = wait_for_release(conn);
				break;
			case STEP_REPEAT:
				step = script;
				continue;
		}
		step++;
	}
}

/* Accept one connection and find its script; NULL when the server stops. */
static const Step *
next_connection(Connection *conn)
{
	Server	   *server = conn->server;
	int			fd;
	int			number;

	/* A test may use up all descriptors of the process. */
	do
		fd = accept(server->listen_fd, NULL, NULL);
	while (fd < 0 && errno == EMFILE);
	if (fd < 0)
		return NULL;
	lock(server);
	if (server->stopping)
	{
		unlock(server);
		(void) close(fd);
		return NULL;
	}
	conn->fd = fd;
	number = server->accepted++;
	unlock(server);

	conn->request = NULL;
	conn->received_len = 0;
	if (number >= server->script_count)
		number = server->script_count - 1;
	return server->scripts[number];
}

static void *
serve_connections(void *arg)
{
	Connection *conn = arg;
	const Step *script;

	while ((script = next_connection(conn)) != NULL)
	{
		run_script(conn, script);
		lock(conn->server);
		(void) close(conn->fd);
		conn->fd = -1;
		conn->server->closed++;
		unlock(conn->server);
	}
	return NULL;
}

static void
listen_on_free_port(Server *server)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};
	socklen_t	len = sizeof(address);

	server->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (server->listen_fd < 0 ||
		bind(server->listen_fd, (struct sockaddr *) &address, len) != 0 ||
		listen(server->listen_fd, 1024) != 0 ||
		getsockname(server->listen_fd, (struct sockaddr *) &address, &len) != 0)
		die("listen");
	server->port = ntohs(address.sin_port);
}

Server *
server_start(const Step *const *scripts, int count, int connections)
{
	Server	   *server = calloc(1, sizeof(*server));

	if (!server)
		die("calloc");
	server->scripts = scripts;
	server->script_count = count;
	server->connection_count = connections;
	server->connections = calloc(connections, sizeof(*server->connections));
	server->requests = calloc(REQUESTS_MAX, sizeof(*server->requests));
	server->release_fd = eventfd(0, EFD_CLOEXEC);
	if (!server->connections || !server->requests || server->release_fd < 0 ||
		pthread_mutex_init(&server->lock, NULL) != 0)
		die("server_start");
	listen_on_free_port(server);

	for (int i = 0; i < connections; i++)
	{
		Connection *conn = &server->connections[i];

		conn->server = server;
		conn->fd = -1;
		if (pthread_create(&conn->thread, NULL, serve_connections, conn) != 0)
			die("pthread_create");
	}
	return server;
}

static void
wake_threads(Server *server)
{
	lock(server);
	server->stopping = true;
	/* shutdown() only fails for sockets that are not connected any more. */
	(void) shutdown(server->listen_fd, SHUT_RDWR);
	for (int i = 0; i < server->connection_count; i++)
	{
		if (server->connections[i].fd >= 0)
			(void) shutdown(server->connections[i].fd, SHUT_RDWR);
	}
	unlock(server);
}

void
server_stop(Server *server)
{
	if (!server)
		return;
	wake_threads(server);
	for (int i = 0; i < server->connection_count; i++)
	{
		if (pthread_join(server->connections[i].thread, NULL) != 0)
			die("pthread_join");
	}
	(void) close(server->listen_fd);
	(void) close(server->release_fd);
	(void) pthread_mutex_destroy(&server->lock);
	free(server->connections);
	free(server->requests);
	free(server);
}

int
server_port(const Server *server)
{
	return server->port;
}

void
server_release(Server *server)
{
	uint64_t	one = 1;

	if (write(server->release_fd, &one, sizeof(one)) != sizeof(one))
		die("write");
}

static int
locked_count(Server *server, const int *count)
{
	int			value;

	lock(server);
	value = *count;
	unlock(server);
	return value;
}

int
server_connections(Server *server)
{
	return locked_count(server, &server->accepted);
}

int
server_closed(Server *server)
{
	return locked_count(server, &server->closed);
}

int
server_heads(Server *server)
{
	return locked_count(server, &server->heads);
}

int
server_bodies(Server *server)
{
	return locked_count(server, &server->bodies);
}

int
server_sendings(Server *server)
{
	return locked_count(server, &server->sendings);
}

const char *
server_head(Server *server, int number)
{
	if (number >= server_heads(server))
		return "";
	return server->requests[number].head;
}

const char *
server_body(Server *server, int number)
{
	if (number >= server_heads(server))
		return "";
	return server->requests[number].body;
}
