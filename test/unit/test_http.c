/*
 * test_http.c
 *		The HTTP client with a scripted server: which replies it returns, what it
 *		sends and how often, and whether it leaks anything.
 *
 * All tests count the bodies that the server has received, since each of them
 * may have been paid.
 */
#define _GNU_SOURCE				/* RTLD_NEXT */

#include <arpa/inet.h>
#include <curl/curl.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/http.h"
#include "scripted_server.h"
#include "unit.h"

#define BODY			"{\"person\":{\"name\":\"Ada Example\"}}"
#define TOKEN			"secret-of-the-test"
#define BODY_MAX_BYTES	1000
#define PATIENCE_MS		20000	/* for waits that hang */
#define COUNT(array)	((int) (sizeof(array) / sizeof((array)[0])))

#define HELLO			"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

/* Used by most tests; made by set_up() and freed by tear_down(). */
static OeHttp *http;
static Server *server;
static char url[100];
static int	fds_before;

static int64_t
now_ms(void)
{
	struct timespec now;

	(void) clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int
count_fds(void)
{
	DIR		   *dir = opendir("/proc/self/fd");
	int			count = 0;

	if (!dir)
		abort();
	while (readdir(dir))
		count++;
	(void) closedir(dir);
	return count;
}

static void
set_url(const char *scheme, int port)
{
	(void) snprintf(url, sizeof(url), "%s://127.0.0.1:%d/v2/enrich/person",
					scheme, port);
}

/* A client, and a server that runs "scripts" on "connections". */
static void
set_up_many(const Step *const *scripts, int count, int connections)
{
	fds_before = count_fds();
	server = server_start(scripts, count, connections);
	set_url("http", server_port(server));
	http = oe_http_new(BODY_MAX_BYTES);
	CHECK(http != NULL);
}

/* The same with one script. */
static void
set_up(const Step *script)
{
	static const Step *scripts[1];

	scripts[0] = script;
	set_up_many(scripts, 1, 2);
}

/* An abandoned name look-up closes its descriptors a little later. */
static void
check_fds(void)
{
	int64_t		deadline = now_ms() + PATIENCE_MS;

	while (count_fds() != fds_before && now_ms() < deadline)
		(void) poll(NULL, 0, 1);
	CHECK_INT(count_fds(), fds_before);
}

static void
tear_down(void)
{
	oe_http_free(http);
	server_stop(server);
	http = NULL;
	server = NULL;
	check_fds();
}

static OeHttpRequest
plain_request(void)
{
	OeHttpRequest request = {
		.url = url,
		.token = TOKEN,
		.body = BODY,
		.body_len = strlen(BODY),
		.connect_timeout_ms = PATIENCE_MS,
		.request_timeout_ms = PATIENCE_MS
	};

	return request;
}

/* Ends the program; "make check" counts that as a failure. */
static void
give_up(void)
{
	CHECK(!"a wait has timed out");
	abort();
}

static void
submit(const OeHttpRequest *request)
{
	OeError		error = {0};

	if (!oe_http_submit(http, request, &error))
	{
		CHECK_STRING(error.message, NULL);
		give_up();
	}
}

/* Wait like the worker: for the descriptor or libcurl's timeout. */
static void
wait_and_run(int at_most_ms)
{
	struct pollfd fd = {.fd = oe_http_fd(http), .events = POLLIN};
	int			timeout_ms = oe_http_timeout_ms(http);

	if (timeout_ms < 0 || timeout_ms > at_most_ms)
		timeout_ms = at_most_ms;
	(void) poll(&fd, 1, timeout_ms);
	oe_http_run(http);
}

static OeHttpReply *
wait_for_reply(void)
{
	int64_t		deadline = now_ms() + PATIENCE_MS;

	for (;;)
	{
		OeHttpReply *reply = oe_http_next_reply(http);

		if (reply)
			return reply;
		if (now_ms() > deadline)
			give_up();
		wait_and_run(PATIENCE_MS);
	}
}

/* Run the client until a counter of the server has the wanted value. */
static void
run_until(int (*count) (Server *), int wanted)
{
	int64_t		deadline = now_ms() + PATIENCE_MS;

	while (count(server) < wanted)
	{
		if (now_ms() > deadline)
			give_up();
		wait_and_run(5);
	}
}

static OeHttpReply *
perform(const OeHttpRequest *request)
{
	submit(request);
	return wait_for_reply();
}

static OeHttpReply *
perform_plain(void)
{
	OeHttpRequest request = plain_request();

	return perform(&request);
}

static bool
body_is(const OeHttpReply *reply, const char *text)
{
	return reply->body.len == strlen(text) &&
		(reply->body.len == 0 || memcmp(reply->body.data, text, reply->body.len) == 0);
}

/* These conditions hold for every reply. */
static void
check_invariants(const OeHttpReply *reply)
{
	CHECK(reply->body.len <= BODY_MAX_BYTES);
	CHECK((reply->problem == NULL) == (reply->result == OE_HTTP_COMPLETE));
	if (reply->problem)
	{
		CHECK(strstr(reply->problem, TOKEN) == NULL);
		CHECK(strstr(reply->problem, "127.0.0.1") == NULL);
		CHECK(strstr(reply->problem, "Ada") == NULL);
	}
	CHECK(reply->result != OE_HTTP_COMPLETE || reply->status >= 200);
	CHECK(reply->result != OE_HTTP_NOT_SENT || reply->status == 0);
	CHECK(!reply->timed_out || reply->result != OE_HTTP_COMPLETE);
	CHECK(reply->retry_after_ms >= -1);
}

/* Check a reply and free it. */
static void
expect_reply(OeHttpReply *reply, OeHttpResult result, int status,
			 const char *body)
{
	check_invariants(reply);
	CHECK_INT(reply->result, result);
	CHECK_INT(reply->status, status);
	CHECK(body_is(reply, body));
	oe_http_reply_free(reply);
}

/* The same for a reply without an answer, and why there is none. */
static void
expect_fault(OeHttpReply *reply, OeHttpResult result, int status,
			 OeHttpFault fault, const char *problem)
{
	CHECK_INT(reply->fault, fault);
	CHECK_STRING(reply->problem, problem);
	expect_reply(reply, result, status, "");
}

/* Check the reply to one request to a server with this script. */
static void
expect_of_script(const Step *script, OeHttpResult result, int status,
				 const char *body)
{
	set_up(script);
	expect_reply(perform_plain(), result, status, body);
	CHECK(server_bodies(server) <= 1);
	CHECK(server_connections(server) == 1);
	tear_down();
}

static const Step always_hello[] = {
	{STEP_READ, NULL}, {STEP_SEND, HELLO}, {STEP_REPEAT, NULL}
};

static const Step closes_later[] = {
	{STEP_READ, NULL}, {STEP_SEND, HELLO}, {STEP_HOLD, NULL}, {STEP_CLOSE, NULL}
};

static void
test_ok(void)
{
	char		my_url[100];
	char		my_token[] = TOKEN;
	char		my_body[] = BODY;
	OeHttpRequest request = plain_request();
	OeHttpReply *reply;
	int			tag;

	set_up(always_hello);
	CHECK(oe_http_timeout_ms(http) == -1);
	CHECK(oe_http_next_reply(http) == NULL);

	/* Everything is copied at submission. */
	memcpy(my_url, url, sizeof(my_url));
	request.url = my_url;
	request.token = my_token;
	request.body = my_body;
	request.tag = &tag;
	submit(&request);
	memset(my_url, 'x', sizeof(my_url) - 1);
	memset(my_token, 'x', sizeof(my_token) - 1);
	memset(my_body, 'x', sizeof(my_body) - 1);
	CHECK(oe_http_in_flight(http) == 1);
	CHECK(oe_http_timeout_ms(http) >= 0);

	reply = wait_for_reply();
	CHECK(oe_http_in_flight(http) == 0);
	CHECK(oe_http_open_sockets(http) == 1);
	CHECK(reply->tag == &tag);
	CHECK(reply->retry_after_ms == -1);
	CHECK(!reply->body.truncated);
	CHECK(!reply->timed_out);
	expect_reply(reply, OE_HTTP_COMPLETE, 200, "hello");
	CHECK(server_bodies(server) == 1);
	tear_down();
}

static bool
head_has(int number, const char *text)
{
	return strstr(server_head(server, number), text) != NULL;
}

static void
test_what_is_sent(void)
{
	set_up(always_hello);
	oe_http_reply_free(perform_plain());
	CHECK(strncmp(server_head(server, 0), "POST /v2/enrich/person HTTP/1.1\r\n", 33) == 0);
	CHECK(head_has(0, "\r\nHost: 127.0.0.1:"));
	CHECK(head_has(0, "\r\nx-api-token: " TOKEN "\r\n"));
	CHECK(head_has(0, "\r\nAccept: application/json\r\n"));
	CHECK(head_has(0, "\r\nContent-Type: application/json\r\n"));
	CHECK(head_has(0, "\r\nUser-Agent: ocean_enrich/"));
	CHECK(!head_has(0, "\r\nExpect:"));
	CHECK(!head_has(0, "\r\nAccept-Encoding:"));
	CHECK(!head_has(0, "\r\nTransfer-Encoding:"));
	CHECK_STRING(server_body(server, 0), BODY);
	tear_down();
}

static void
test_token_in_query(void)
{
	OeHttpRequest request = plain_request();
	char		with_query[150];

	set_up(always_hello);
	request.token = "a b&c=d/e+f%g#h?\xc3\xa9";
	request.token_in_query = true;
	expect_reply(perform(&request), OE_HTTP_COMPLETE, 200, "hello");
	CHECK(head_has(0, "POST /v2/enrich/person?apiToken="
				   "a%20b%26c%3Dd%2Fe%2Bf%25g%23h%3F%C3%A9 HTTP/1.1\r\n"));
	CHECK(!head_has(0, "x-api-token"));

	(void) snprintf(with_query, sizeof(with_query), "%s?x=y", url);
	request.url = with_query;
	request.token = TOKEN;
	expect_reply(perform(&request), OE_HTTP_COMPLETE, 200, "hello");
	CHECK(head_has(1, "POST /v2/enrich/person?x=y&apiToken=" TOKEN " HTTP/1.1\r\n"));
	tear_down();
}

/* A spare handle keeps nothing of its last request. */
static void
test_handle_keeps_nothing(void)
{
	OeHttpRequest request = plain_request();

	set_up(always_hello);
	expect_reply(perform(&request), OE_HTTP_COMPLETE, 200, "hello");
	request.token_in_query = true;
	expect_reply(perform(&request), OE_HTTP_COMPLETE, 200, "hello");
	request.token = NULL;
	request.body = "{}";
	request.body_len = 2;
	expect_reply(perform(&request), OE_HTTP_COMPLETE, 200, "hello");

	CHECK(head_has(0, TOKEN));
	CHECK(head_has(1, "apiToken=" TOKEN));
	CHECK(!head_has(1, "x-api-token"));
	CHECK(!head_has(2, TOKEN));
	CHECK(!head_has(2, "oken"));
	CHECK_STRING(server_body(server, 1), BODY);
	CHECK_STRING(server_body(server, 2), "{}");
	CHECK(server_connections(server) == 1);
	tear_down();
}

static void
expect_refused(const OeHttpRequest *request, OeCode code)
{
	OeError		error = {0};

	CHECK(!oe_http_submit(http, request, &error));
	CHECK(error.code == code);
	CHECK(error.message != NULL);
	CHECK(oe_http_in_flight(http) == 0);
	oe_error_free(&error);
}

static void
test_refused_requests(void)
{
	static const char *const tokens[] = {
		"", "a\r\nX-Other: b", "a\n", "\r", "a\tb", "a\x01", "a\x7f"
	};
	OeHttpRequest request = plain_request();

	set_up(always_hello);
	for (int i = 0; i < COUNT(tokens); i++)
	{
		request.token = tokens[i];
		request.token_in_query = false;
		expect_refused(&request, OE_BAD_SETTING);
		request.token_in_query = true;
		expect_refused(&request, OE_BAD_SETTING);
	}
	request = plain_request();
	request.body_len = 0;
	expect_refused(&request, OE_BAD_REQUEST);
	CHECK(oe_http_next_reply(http) == NULL);
	expect_reply(perform_plain(), OE_HTTP_COMPLETE, 200, "hello");
	CHECK(server_connections(server) == 1);
	tear_down();
}

/* GET and POST share handles and connections without side effects. */
static void
test_get(void)
{
	OeHttpRequest get = plain_request();

	get.body = NULL;
	get.body_len = 0;
	set_up(always_hello);
	for (int i = 0; i < 3; i++)
	{
		submit(&get);
		expect_reply(wait_for_reply(), OE_HTTP_COMPLETE, 200, "hello");
		CHECK(strncmp(server_head(server, 2 * i), "GET /v2/", 8) == 0);
		CHECK(strstr(server_head(server, 2 * i), "x-api-token: " TOKEN) != NULL);
		CHECK(strstr(server_head(server, 2 * i), "Content-Length") == NULL);
		expect_reply(perform_plain(), OE_HTTP_COMPLETE, 200, "hello");
		CHECK(strncmp(server_head(server, 2 * i + 1), "POST /v2/", 9) == 0);
		CHECK(strcmp(server_body(server, 2 * i + 1), BODY) == 0);
	}
	CHECK(server_connections(server) == 1);
	tear_down();
}

static void
test_connection_is_kept(void)
{
	set_up(always_hello);
	for (int i = 0; i < 5; i++)
		expect_reply(perform_plain(), OE_HTTP_COMPLETE, 200, "hello");
	CHECK(server_connections(server) == 1);
	CHECK(server_bodies(server) == 5);
	CHECK(oe_http_open_sockets(http) == 1);
	tear_down();
}

static const Step hello_when_released[] = {
	{STEP_READ, NULL}, {STEP_HOLD, NULL}, {STEP_SEND, HELLO}, {STEP_REPEAT, NULL}
};

static void
submit_tagged(char *tags, int count)
{
	OeHttpRequest request = plain_request();

	memset(tags, 0, count);
	for (int i = 0; i < count; i++)
	{
		request.tag = &tags[i];
		submit(&request);
	}
}

/* Each tag is returned exactly once. */
static void
take_tagged(const char *tags, int count)
{
	for (int i = 0; i < count; i++)
	{
		OeHttpReply *reply = wait_for_reply();

		(*(char *) reply->tag)++;
		expect_reply(reply, OE_HTTP_COMPLETE, 200, "hello");
	}
	for (int i = 0; i < count; i++)
		CHECK(tags[i] == 1);
}

static void
test_many_in_flight(void)
{
	enum
	{
		many = 64
	};
	static const Step *const scripts[] = {hello_when_released};
	char		tags[many];

	set_up_many(scripts, 1, many);
	oe_http_keep_connections(http, many);
	submit_tagged(tags, many);
	run_until(server_bodies, many);
	CHECK(oe_http_in_flight(http) == many);
	CHECK(oe_http_open_sockets(http) == many);
	CHECK(oe_http_next_reply(http) == NULL);
	server_release(server);
	take_tagged(tags, many);
	CHECK(oe_http_in_flight(http) == 0);

	/* All connections are kept and used again. */
	submit_tagged(tags, many);
	take_tagged(tags, many);
	CHECK(server_connections(server) == many);
	CHECK(server_bodies(server) == 2 * many);
	tear_down();
}

/* The number of idle connections is limited. */
static void
test_few_connections_kept(void)
{
	static const Step *const scripts[] = {hello_when_released};
	char		tags[20];

	set_up_many(scripts, 1, COUNT(tags));
	oe_http_keep_connections(http, 3);
	submit_tagged(tags, COUNT(tags));
	run_until(server_bodies, COUNT(tags));
	server_release(server);
	take_tagged(tags, COUNT(tags));
	CHECK(oe_http_open_sockets(http) <= 3);
	run_until(server_closed, COUNT(tags) - 3);
	tear_down();
}

/* The loopback address, without a port. */
static struct sockaddr_in
this_machine(void)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};

	return address;
}

/* A port without a listener, reserved by the socket. */
static int
bind_unused_port(int *fd)
{
	struct sockaddr_in address = this_machine();
	socklen_t	len = sizeof(address);

	*fd = socket(AF_INET, SOCK_STREAM, 0);
	if (*fd < 0 || bind(*fd, (struct sockaddr *) &address, len) != 0 ||
		getsockname(*fd, (struct sockaddr *) &address, &len) != 0)
		abort();
	return ntohs(address.sin_port);
}

static void
test_connection_refused(void)
{
	int			fd;

	set_up(always_hello);
	set_url("http", bind_unused_port(&fd));
	expect_reply(perform_plain(), OE_HTTP_NOT_SENT, 0, "");
	CHECK(oe_http_open_sockets(http) == 0);
	(void) close(fd);
	tear_down();
}

static void
test_tls_handshake_fails(void)
{
	static const Step no_tls[] = {
		{STEP_SEND, "HTTP/1.1 400 Bad Request\r\n\r\n"}, {STEP_HOLD, NULL}, {STEP_CLOSE, NULL}
	};
	static const Step closes[] = {{STEP_CLOSE, NULL}};
	static const Step *const scripts[] = {no_tls, closes};

	set_up_many(scripts, COUNT(scripts), 2);
	set_url("https", server_port(server));
	expect_reply(perform_plain(), OE_HTTP_NOT_SENT, 0, "");
	expect_reply(perform_plain(), OE_HTTP_NOT_SENT, 0, "");
	CHECK(server_heads(server) == 0);
	tear_down();
}

static void
test_ca_file_is_missing(void)
{
	static const Step holds[] = {{STEP_HOLD, NULL}, {STEP_CLOSE, NULL}};
	OeHttpRequest request = plain_request();

	set_up(holds);
	set_url("https", server_port(server));
	request.ca_file = "/nonexistent/ca.pem";
	expect_fault(perform(&request), OE_HTTP_NOT_SENT, 0, OE_HTTP_NO_CA_FILE,
				 "no certificate could be read from the file of trusted ones");
	tear_down();
}

static void
test_request_timeout(void)
{
	static const Step silent[] = {
		{STEP_READ, NULL}, {STEP_HOLD, NULL}, {STEP_CLOSE, NULL}
	};
	static const Step half[] = {
		{STEP_READ, NULL},
		{STEP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"},
		{STEP_HOLD, NULL}, {STEP_CLOSE, NULL}
	};
	static const Step *const scripts[] = {silent, half};
	OeHttpRequest request = plain_request();
	OeHttpReply *reply;

	set_up_many(scripts, COUNT(scripts), 2);
	request.request_timeout_ms = 200;
	reply = perform(&request);
	CHECK(reply->timed_out);
	expect_reply(reply, OE_HTTP_LOST, 0, "");
	CHECK(server_bodies(server) == 1);

	reply = perform(&request);
	CHECK(reply->timed_out);
	expect_reply(reply, OE_HTTP_LOST, 200, "hello");
	CHECK(server_bodies(server) == 2);
	CHECK(server_connections(server) == 2);
	tear_down();
}

/*
 * A listening socket whose queue is full: further connections get no answer.
 */
static void
test_connect_timeout(void)
{
	enum
	{
		fillers = 4
	};
	OeHttpRequest request = plain_request();
	OeHttpReply *reply;
	struct sockaddr_in address = this_machine();
	int			fd;
	int			filler[fillers];
	int			port;

	set_up(always_hello);
	port = bind_unused_port(&fd);
	CHECK(listen(fd, 0) == 0);
	address.sin_port = htons(port);
	for (int i = 0; i < fillers; i++)
	{
		filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void) connect(filler[i], (struct sockaddr *) &address, sizeof(address));
	}

	set_url("http", port);
	request.connect_timeout_ms = 200;
	reply = perform(&request);
	CHECK(reply->timed_out);
	expect_reply(reply, OE_HTTP_NOT_SENT, 0, "");

	for (int i = 0; i < fillers; i++)
		(void) close(filler[i]);
	(void) close(fd);
	tear_down();
}

/* A server that closes without reading: perhaps sent, but not answered. */
static void
test_cut_before(void)
{
	static const Step closes[] = {{STEP_CLOSE, NULL}};
	OeHttpReply *reply;

	set_up(closes);
	reply = perform_plain();
	check_invariants(reply);
	CHECK(reply->result != OE_HTTP_COMPLETE);
	CHECK(reply->status == 0);
	CHECK(server_bodies(server) == 0);
	oe_http_reply_free(reply);
	tear_down();
}

static void
test_cut_without_answer(void)
{
	static const Step closes[] = {{STEP_READ, NULL}, {STEP_CLOSE, NULL}};
	static const Step resets[] = {{STEP_READ, NULL}, {STEP_RESET, NULL}};

	expect_of_script(closes, OE_HTTP_LOST, 0, "");
	expect_of_script(resets, OE_HTTP_LOST, 0, "");
}

/* One answer, then the end of the connection. */
static void
expect_of_answer(const char *answer, OeHttpResult result, int status,
				 const char *body)
{
	const Step	closes[] = {
		{STEP_READ, NULL}, {STEP_SEND, answer}, {STEP_CLOSE, NULL}
	};

	unit_context("answer \"%.100s\"", answer);
	expect_of_script(closes, result, status, body);
}

static void
test_cut_in_answer(void)
{
	expect_of_answer("HTTP/1.1 20", OE_HTTP_LOST, 0, "");
	expect_of_answer("HTTP/1.1 200 OK\r\nContent-", OE_HTTP_LOST, 200, "");
	expect_of_answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", OE_HTTP_LOST, 200, "");
	expect_of_answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", OE_HTTP_LOST, 200, "");
	expect_of_answer("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
					 OE_HTTP_LOST, 200, "hello");
	expect_of_answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
					 OE_HTTP_LOST, 200, "hello");
	expect_of_answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
					 OE_HTTP_LOST, 200, "hel");
	expect_of_answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello",
					 OE_HTTP_LOST, 200, "");
}

static void
test_cut_after(void)
{
	expect_of_answer(HELLO, OE_HTTP_COMPLETE, 200, "hello");
	expect_of_answer("HTTP/1.0 200 OK\r\n\r\nhello", OE_HTTP_COMPLETE, 200, "hello");
	expect_of_answer("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
					 OE_HTTP_COMPLETE, 200, "hello");
}

static void
test_forms_of_answers(void)
{
	expect_of_answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
					 "3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nX-Trailer: 1\r\n\r\n",
					 OE_HTTP_COMPLETE, 200, "hello");
	expect_of_answer("HTTP/1.1 204 No Content\r\n\r\n", OE_HTTP_COMPLETE, 204, "");
	expect_of_answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
					 OE_HTTP_COMPLETE, 200, "");
	expect_of_answer("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}",
					 OE_HTTP_COMPLETE, 404, "{}");
	expect_of_answer("HTTP/1.1 524 \r\nContent-Length: 2\r\n\r\n{}",
					 OE_HTTP_COMPLETE, 524, "{}");
	/* compressed although not requested: unchanged */
	expect_of_answer("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"
					 "Content-Length: 5\r\n\r\nhello",
					 OE_HTTP_COMPLETE, 200, "hello");
}

static void
test_no_http(void)
{
	expect_of_answer("hello", OE_HTTP_LOST, 0, "");
	expect_of_answer("SSH-2.0-Example\r\n\r\n", OE_HTTP_LOST, 0, "");
	expect_of_answer("HTTP/1.1 abc OK\r\n\r\n", OE_HTTP_LOST, 0, "");
	expect_of_answer("\r\n\r\n", OE_HTTP_LOST, 0, "");
}

/* A 1xx is not the final answer. */
static void
test_interim_answers(void)
{
	expect_of_answer("HTTP/1.1 100 Continue\r\n\r\n" HELLO,
					 OE_HTTP_COMPLETE, 200, "hello");
	expect_of_answer("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
					 "HTTP/1.1 102 Processing\r\n\r\n" HELLO,
					 OE_HTTP_COMPLETE, 200, "hello");
	expect_of_answer("HTTP/1.1 100 Continue\r\n\r\n", OE_HTTP_LOST, 0, "");
	expect_of_answer("HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n",
					 OE_HTTP_LOST, 0, "");
	expect_of_answer("HTTP/1.1 101 Switching Protocols\r\n\r\nhello",
					 OE_HTTP_LOST, 0, "hello");
}

/* The rest of one answer is not used as the next one. */
static void
test_answer_is_longer_than_it_says(void)
{
	static const Step wrong_length[] = {
		{STEP_READ, NULL}, {STEP_SEND, HELLO "and more"}, {STEP_READ, NULL}, {STEP_CLOSE, NULL}
	};
	static const Step *const scripts[] = {wrong_length, always_hello};

	set_up_many(scripts, COUNT(scripts), 2);
	expect_reply(perform_plain(), OE_HTTP_COMPLETE, 200, "hello");
	expect_reply(perform_plain(), OE_HTTP_COMPLETE, 200, "hello");
	CHECK(server_connections(server) == 2);
	CHECK(server_bodies(server) == 2);
	tear_down();
}

/* All kept connections have unrequested answers waiting. */
static void
test_unrequested_answer(void)
{
	static const Step unasked[] = {
		{STEP_READ, NULL}, {STEP_SEND, HELLO}, {STEP_HOLD, NULL},
		{STEP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nstrange"},
		{STEP_READ, NULL}, {STEP_CLOSE, NULL}
	};
	static const Step *const scripts[] = {unasked, unasked, always_hello};
	char		tags[2];

	set_up_many(scripts, COUNT(scripts), 4);
	submit_tagged(tags, 2);
	take_tagged(tags, 2);
	CHECK_INT(server_connections(server), 2);
	server_release(server);
	run_until(server_sendings, 4);

	for (int i = 0; i < 3; i++)
		expect_reply(perform_plain(), OE_HTTP_COMPLETE, 200, "hello");
	CHECK_INT(server_bodies(server), 5);
	CHECK(server_connections(server) <= 4);
	tear_down();
}

static void
test_answer_is_too_large(void)
{
	static const Step endless[] = {
		{STEP_READ, NULL},
		{STEP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n"},
		{STEP_FLOOD, "0123456789"}, {STEP_CLOSE, NULL}
	};
	static const Step endless_chunks[] = {
		{STEP_READ, NULL},
		{STEP_SEND, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{STEP_FLOOD, "a\r\n0123456789\r\n"}, {STEP_CLOSE, NULL}
	};
	static const Step *const scripts[] = {endless, endless_chunks};

	set_up_many(scripts, COUNT(scripts), 2);
	for (int i = 0; i < COUNT(scripts); i++)
	{
		OeHttpReply *reply = perform_plain();

		check_invariants(reply);
		CHECK(reply->result == OE_HTTP_COMPLETE);
		CHECK(reply->status == 200);
		CHECK(reply->body.truncated);
		CHECK(reply->body.len == BODY_MAX_BYTES);
		CHECK(strncmp(reply->body.data, "01234567890123", 14) == 0);
		oe_http_reply_free(reply);

		/* The rest is not read, and the connection is not used again. */
		run_until(server_closed, i + 1);
	}
	CHECK(oe_http_open_sockets(http) == 0);
	tear_down();
}

/* A body of the maximum size is accepted, one more byte is too much. */
static void
test_answer_of_largest_size(void)
{
	char		answer[BODY_MAX_BYTES + 100];

	for (int more = 0; more <= 1; more++)
	{
		Step		script[] = {{STEP_READ, NULL}, {STEP_SEND, answer}, {STEP_CLOSE, NULL}};
		OeHttpReply *reply;
		int			len = snprintf(answer, sizeof(answer),
								   "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n",
								   BODY_MAX_BYTES + more);

		memset(answer + len, 'x', BODY_MAX_BYTES + more);
		answer[len + BODY_MAX_BYTES + more] = '\0';
		set_up(script);
		reply = perform_plain();
		CHECK(reply->result == OE_HTTP_COMPLETE);
		CHECK(reply->body.len == BODY_MAX_BYTES);
		CHECK(reply->body.truncated == (more == 1));
		check_invariants(reply);
		oe_http_reply_free(reply);
		tear_down();
	}
}

/* libcurl has limits for both. */
static void
test_endless_headers(void)
{
	static const Step endless_list[] = {
		{STEP_READ, NULL}, {STEP_SEND, "HTTP/1.1 200 OK\r\n"},
		{STEP_FLOOD, "X-Filler: 0123456789012345678901234567890123456789\r\n"},
		{STEP_CLOSE, NULL}
	};
	static const Step endless_line[] = {
		{STEP_READ, NULL}, {STEP_SEND, "HTTP/1.1 200 OK\r\nX-Filler: "},
		{STEP_FLOOD, "0123456789012345678901234567890123456789"},
		{STEP_CLOSE, NULL}
	};

	set_up(endless_list);
	expect_fault(perform_plain(), OE_HTTP_LOST, 200, OE_HTTP_OTHER_FAULT,
				 "the headers of the answer are too long");
	tear_down();
	set_up(endless_line);
	expect_fault(perform_plain(), OE_HTTP_LOST, 200, OE_HTTP_OTHER_FAULT,
				 "the headers of the answer are too long");
	tear_down();
}

static void
test_redirect(void)
{
	static const Step *const target_scripts[] = {always_hello};
	Server	   *target = server_start(target_scripts, 1, 1);
	char		answer[200];
	Step		redirects[] = {{STEP_READ, NULL}, {STEP_SEND, answer}, {STEP_REPEAT, NULL}};
	static const int statuses[] = {301, 302, 303, 307, 308};

	for (int i = 0; i < COUNT(statuses); i++)
	{
		(void) snprintf(answer, sizeof(answer),
						"HTTP/1.1 %d Moved\r\nLocation: http://127.0.0.1:%d/\r\n"
						"Content-Length: 0\r\n\r\n",
						statuses[i], server_port(target));
		set_up(redirects);
		expect_reply(perform_plain(), OE_HTTP_COMPLETE, statuses[i], "");
		CHECK(server_bodies(server) == 1);
		tear_down();
	}
	CHECK(server_connections(target) == 0);
	server_stop(target);
}

/* The wait for this header Retry-After. */
static int
retry_after_of(const char *header)
{
	char		answer[300];
	Step		script[] = {{STEP_READ, NULL}, {STEP_SEND, answer}, {STEP_CLOSE, NULL}};
	OeHttpReply *reply;
	int			result;

	(void) snprintf(answer, sizeof(answer),
					"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n%s\r\n{}",
					header);
	set_up(script);
	reply = perform_plain();
	result = reply->retry_after_ms;
	expect_reply(reply, OE_HTTP_COMPLETE, 429, "{}");
	tear_down();
	return result;
}

static void
test_retry_after(void)
{
	static const struct
	{
		const char *header;
		int			wait_ms;
	}			table[] = {
		{"", -1},
		{"Retry-After: 7\r\n", 7000},
		{"retry-after:7\r\n", 7000},
		{"Retry-After:  15  \r\n", 15000},
		{"Retry-After: 0\r\n", 0},
		{"Retry-After: 007\r\n", 7000},
		{"Retry-After:\r\n", -1},
		{"Retry-After: soon\r\n", -1},
		{"Retry-After: -5\r\n", -1},
		{"Retry-After: 86400\r\n", 86400 * 1000},
		{"Retry-After: 86401\r\n", 86400 * 1000},
		{"Retry-After: 99999999999999999999999999\r\n", 86400 * 1000},
		{"Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 0},
		{"Retry-After: Sun, 06 Nov 2094 08:49:37 GMT\r\n", 86400 * 1000},
	};

	for (int i = 0; i < COUNT(table); i++)
		CHECK(retry_after_of(table[i].header) == table[i].wait_ms);
}

static void
test_retry_after_date(void)
{
	time_t		soon = time(NULL) + 100;
	char		header[100];
	struct tm	tm;
	int			wait_ms;

	if (!gmtime_r(&soon, &tm) ||
		strftime(header, sizeof(header),
				 "Retry-After: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm) == 0)
		abort();
	wait_ms = retry_after_of(header);
	CHECK(wait_ms > 60000 && wait_ms <= 100000);
}

/* Only the headers of the final answer are used. */
static void
test_retry_after_of_interim_answer(void)
{
	static const Step script[] = {
		{STEP_READ, NULL},
		{STEP_SEND, "HTTP/1.1 103 Early Hints\r\nRetry-After: 9\r\n\r\n" HELLO},
		{STEP_CLOSE, NULL}
	};
	OeHttpReply *reply;

	set_up(script);
	reply = perform_plain();
	CHECK(reply->retry_after_ms == -1);
	expect_reply(reply, OE_HTTP_COMPLETE, 200, "hello");
	tear_down();
}

/*
 * A kept connection is closed after the server has read the request.  By default
 * libcurl would send the request again on a new connection, and it would be
 * paid twice.
 */
static void
expect_no_resending(const Step *dies)
{
	const Step *const scripts[] = {dies, always_hello};

	set_up_many(scripts, COUNT(scripts), 2);
	expect_reply(perform_plain(), OE_HTTP_COMPLETE, 200, "hello");
	CHECK(server_bodies(server) == 1);
	expect_reply(perform_plain(), OE_HTTP_LOST, 0, "");
	run_until(server_closed, 1);
	CHECK(server_bodies(server) == 2);
	expect_reply(perform_plain(), OE_HTTP_COMPLETE, 200, "hello");
	CHECK(server_bodies(server) == 3);
	tear_down();
}

static void
test_no_resending(void)
{
	static const Step closes[] = {
		{STEP_READ, NULL}, {STEP_SEND, HELLO}, {STEP_READ, NULL}, {STEP_CLOSE, NULL}
	};
	static const Step resets[] = {
		{STEP_READ, NULL}, {STEP_SEND, HELLO}, {STEP_READ, NULL}, {STEP_RESET, NULL}
	};

	expect_no_resending(closes);
	expect_no_resending(resets);
}

/* The server closes an idle connection: libcurl opens another one. */
static void
test_idle_connection_was_closed(void)
{
	static const Step *const scripts[] = {closes_later, always_hello};

	set_up_many(scripts, COUNT(scripts), 2);
	expect_reply(perform_plain(), OE_HTTP_COMPLETE, 200, "hello");
	server_release(server);
	run_until(server_closed, 1);
	expect_reply(perform_plain(), OE_HTTP_COMPLETE, 200, "hello");
	CHECK(server_connections(server) == 2);
	CHECK(server_bodies(server) == 2);
	tear_down();
}

/* The same for many connections at once, as when a server restarts. */
static void
test_idle_connections_were_closed(void)
{
	enum
	{
		many = 20
	};
	const Step *scripts[many + 1];
	char		tags[many];

	for (int i = 0; i < many; i++)
		scripts[i] = closes_later;
	scripts[many] = always_hello;
	set_up_many(scripts, COUNT(scripts), many);
	oe_http_keep_connections(http, many);
	submit_tagged(tags, many);
	take_tagged(tags, many);
	CHECK_INT(server_connections(server), many);
	server_release(server);
	run_until(server_closed, many);

	submit_tagged(tags, many);
	take_tagged(tags, many);
	CHECK_INT(server_connections(server), 2 * many);
	CHECK_INT(server_bodies(server), 2 * many);
	CHECK(oe_http_open_sockets(http) <= many);
	tear_down();
}

/* An answer before the end of the request, whose rest is never read. */
static void
expect_of_early_answer(const Step *script, OeHttpResult result, int status,
					   const char *answer)
{
	static char large[8 * 1024 * 1024];
	OeHttpRequest request = plain_request();

	memset(large, 'x', sizeof(large));
	set_up(script);
	request.body = large;
	request.body_len = sizeof(large);
	request.request_timeout_ms = 500;
	expect_reply(perform(&request), result, status, answer);
	CHECK(server_bodies(server) == 0);
	tear_down();
}

static void
test_early_answer(void)
{
	static const Step refuses[] = {
		{STEP_READ_HEAD, NULL},
		{STEP_SEND, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n{}"},
		{STEP_HOLD, NULL}, {STEP_CLOSE, NULL}
	};
	static const Step answers[] = {
		{STEP_READ_HEAD, NULL}, {STEP_SEND, HELLO}, {STEP_HOLD, NULL}, {STEP_CLOSE, NULL}
	};
	static const Step half[] = {
		{STEP_READ_HEAD, NULL},
		{STEP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello"},
		{STEP_HOLD, NULL}, {STEP_CLOSE, NULL}
	};

	expect_of_early_answer(refuses, OE_HTTP_COMPLETE, 403, "{}");
	expect_of_early_answer(answers, OE_HTTP_COMPLETE, 200, "hello");
	expect_of_early_answer(half, OE_HTTP_LOST, 200, "hello");
}

static void
test_proxy_does_not_listen(void)
{
	OeHttpRequest request = plain_request();
	char		proxy[100];
	int			fd;

	set_up(always_hello);
	(void) snprintf(proxy, sizeof(proxy), "http://127.0.0.1:%d",
					bind_unused_port(&fd));
	request.proxy = proxy;
	expect_fault(perform(&request), OE_HTTP_NOT_SENT, 0, OE_HTTP_NO_PROXY,
				 "could not connect to the proxy");
	CHECK(server_connections(server) == 0);

	/* and the next request does not use it */
	expect_reply(perform_plain(), OE_HTTP_COMPLETE, 200, "hello");
	(void) close(fd);
	tear_down();
}

/* A proxy that refuses an https request sees neither token nor body. */
static void
test_proxy_refuses(void)
{
	static const Step refuses[] = {
		{STEP_READ_HEAD, NULL},
		{STEP_SEND, "HTTP/1.1 403 Forbidden\r\nRetry-After: 5\r\nContent-Length: 2\r\n\r\nno"},
		{STEP_CLOSE, NULL}
	};
	OeHttpRequest request = plain_request();
	OeHttpReply *reply;
	char		proxy[100];

	set_up(refuses);
	(void) snprintf(proxy, sizeof(proxy), "http://127.0.0.1:%d", server_port(server));
	request.proxy = proxy;
	request.url = "https://api.example/v2/enrich/person";
	reply = perform(&request);
	CHECK(reply->retry_after_ms == -1);
	expect_fault(reply, OE_HTTP_NOT_SENT, 0, OE_HTTP_PROXY_REFUSED,
				 "the proxy answered with HTTP status 403");
	CHECK(head_has(0, "CONNECT api.example:443 HTTP/1.1\r\n"));
	CHECK(!head_has(0, TOKEN));
	CHECK(!head_has(0, "oken"));
	CHECK(server_bodies(server) == 0);
	tear_down();
}

/* An answer to CONNECT is the proxy's, and no connection lacks its name. */
static void
test_proxy_answers(void)
{
	static const char *const lines[] = {
		"407 Proxy Authentication Required", "502 Bad Gateway", "302 Found"
	};
	OeHttpRequest request = plain_request();
	char		proxy[100];
	char		answer[200];
	char		problem[200];
	Step		answers[] = {{STEP_READ_HEAD, NULL}, {STEP_SEND, answer}, {STEP_CLOSE, NULL}};

	request.proxy = proxy;
	request.url = "https://api.example/v2/enrich/person";
	for (int i = 0; i < COUNT(lines); i++)
	{
		(void) snprintf(answer, sizeof(answer),
						"HTTP/1.1 %s\r\nContent-Length: 2\r\n\r\nno", lines[i]);
		(void) snprintf(problem, sizeof(problem),
						"the proxy answered with HTTP status %.3s", lines[i]);
		set_up(answers);
		(void) snprintf(proxy, sizeof(proxy), "http://127.0.0.1:%d", server_port(server));
		expect_fault(perform(&request), OE_HTTP_NOT_SENT, 0, OE_HTTP_PROXY_REFUSED,
					 problem);
		tear_down();
	}

	set_up(always_hello);
	(void) snprintf(proxy, sizeof(proxy), "http://nonexistent.invalid:1");
	expect_fault(perform(&request), OE_HTTP_NOT_SENT, 0, OE_HTTP_NO_PROXY,
				 "could not connect to the proxy");
	tear_down();
}

/* Only the request's proxy is used, not that of the environment. */
static void
test_proxy_of_environment(void)
{
	static const char *const names[] = {
		"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"
	};
	OeHttpRequest request = plain_request();
	char		proxy[100];
	int			fd;

	set_up(always_hello);
	(void) snprintf(proxy, sizeof(proxy), "http://127.0.0.1:%d",
					bind_unused_port(&fd));
	for (int i = 0; i < COUNT(names); i++)
		CHECK(setenv(names[i], proxy, 1) == 0);
	expect_reply(perform_plain(), OE_HTTP_COMPLETE, 200, "hello");
	CHECK(setenv("no_proxy", "*", 1) == 0);
	request.proxy = proxy;
	expect_reply(perform(&request), OE_HTTP_NOT_SENT, 0, "");

	for (int i = 0; i < COUNT(names); i++)
		CHECK(unsetenv(names[i]) == 0);
	CHECK(unsetenv("no_proxy") == 0);
	(void) close(fd);
	tear_down();
}

static void
test_other_protocols(void)
{
	static const char *const urls[] = {
		"file:///etc/hostname", "ftp://127.0.0.1/", "dict://127.0.0.1/",
		"gopher://127.0.0.1/", "telnet://127.0.0.1/"
	};
	OeHttpRequest request = plain_request();

	set_up(always_hello);
	for (int i = 0; i < COUNT(urls); i++)
	{
		OeHttpReply *reply;

		request.url = urls[i];
		reply = perform(&request);
		CHECK_STRING(reply->problem, curl_easy_strerror(CURLE_UNSUPPORTED_PROTOCOL));
		expect_reply(reply, OE_HTTP_NOT_SENT, 0, "");
	}
	request.url = "no url at all";
	expect_reply(perform(&request), OE_HTTP_NOT_SENT, 0, "");
	tear_down();
}

static void
test_no_descriptors(void)
{
	struct rlimit old;
	struct rlimit none;
	OeHttpRequest request = plain_request();

	set_up(always_hello);
	CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
	none = old;
	none.rlim_cur = 0;
	CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
	submit(&request);
	CHECK(oe_http_new(BODY_MAX_BYTES) == NULL);
	oe_http_run(http);
	CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
	expect_reply(wait_for_reply(), OE_HTTP_NOT_SENT, 0, "");
	CHECK(oe_http_open_sockets(http) == 0);
	expect_reply(perform_plain(), OE_HTTP_COMPLETE, 200, "hello");
	tear_down();
}

/* Transfers in all states, and replies that were not taken. */
static void
test_free_in_flight(void)
{
	static const Step *const scripts[] = {always_hello, hello_when_released};
	char		tags[8];

	set_up_many(scripts, COUNT(scripts), 16);
	submit_tagged(tags, 1);
	run_until(server_sendings, 1);
	while (oe_http_open_sockets(http) == 0)
		wait_and_run(5);
	submit_tagged(tags, COUNT(tags));
	run_until(server_bodies, COUNT(tags));
	submit_tagged(tags, COUNT(tags));
	CHECK(oe_http_in_flight(http) > COUNT(tags));
	tear_down();
	oe_http_free(NULL);
}

/*
 * Name look-ups.  libcurl calls this function instead of the system's: names
 * invented by the tests stay unanswered until the test ends their look-up.
 */
static sem_t lookup_started;
static sem_t lookup_may_end;
static bool lookup_saw_signals_blocked;
static int	(*system_getaddrinfo) (const char *, const char *,
								   const struct addrinfo *, struct addrinfo **);

int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
			struct addrinfo **result)
{
	struct timespec deadline;
	sigset_t	mask;

	if (!node || strcmp(node, "slow.example") != 0)
		return system_getaddrinfo(node, service, hints, result);
	lookup_saw_signals_blocked =
		pthread_sigmask(SIG_SETMASK, NULL, &mask) == 0 &&
		sigismember(&mask, SIGUSR1) == 1 && sigismember(&mask, SIGTERM) == 1 &&
		sigismember(&mask, SIGHUP) == 1 && sigismember(&mask, SIGALRM) == 1;
	(void) sem_post(&lookup_started);
	(void) clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += PATIENCE_MS / 1000;
	(void) sem_timedwait(&lookup_may_end, &deadline);	/* either way: no answer */
	return EAI_AGAIN;
}

static void
test_slow_lookup(void)
{
	OeHttpRequest request = plain_request();
	OeHttpReply *reply;
	int64_t		start = now_ms();
	sigset_t	mask;

	CHECK(sem_init(&lookup_started, 0, 0) == 0);
	CHECK(sem_init(&lookup_may_end, 0, 0) == 0);
	set_up(always_hello);
	request.url = "http://slow.example/";
	request.connect_timeout_ms = 100;
	reply = perform(&request);
	CHECK(reply->timed_out);
	expect_reply(reply, OE_HTTP_NOT_SENT, 0, "");
	CHECK(sem_wait(&lookup_started) == 0);
	CHECK(lookup_saw_signals_blocked);

	/* Neither the end of the transfer nor oe_http_free() waits for it. */
	expect_reply(perform_plain(), OE_HTTP_COMPLETE, 200, "hello");
	CHECK(pthread_sigmask(SIG_SETMASK, NULL, &mask) == 0);
	CHECK(sigismember(&mask, SIGUSR1) == 0);
	oe_http_free(http);
	http = NULL;
	CHECK(now_ms() - start < PATIENCE_MS / 2);
	CHECK(sem_post(&lookup_may_end) == 0);
	tear_down();
}

/* The results of the requests of test_no_memory(). */
static int	complete;
static int	lost;

/*
 * Memory runs out at some point of this.  The invariants still hold, and a
 * request that is refused or "not sent" was not sent.
 */
static void
request_with_little_memory(const OeHttpRequest *request)
{
	OeError		error = {0};
	OeHttpReply *reply;

	if (!oe_http_submit(http, request, &error))
	{
		CHECK_INT(error.code, OE_OUT_OF_MEMORY);
		CHECK_INT(oe_http_in_flight(http), 0);
		oe_error_free(&error);
		return;
	}
	reply = wait_for_reply();
	check_invariants(reply);
	CHECK(reply->result != OE_HTTP_COMPLETE || body_is(reply, "hello"));
	complete += reply->result == OE_HTTP_COMPLETE;
	lost += reply->result == OE_HTTP_LOST;
	oe_http_reply_free(reply);
}

/* The life of a client with two requests: a new handle, and a spare one. */
static bool
live_with_little_memory(void (*fail_at) (int), int nth, bool token_in_query)
{
	OeHttpRequest request = plain_request();
	bool		failed;

	request.token_in_query = token_in_query;
	request.request_timeout_ms = 200;	/* may be what ends it */
	complete = lost = 0;

	fail_at(nth);
	http = oe_http_new(BODY_MAX_BYTES);
	if (http)
	{
		request_with_little_memory(&request);
		request_with_little_memory(&request);
	}
	oe_http_free(http);
	http = NULL;
	failed = unit_malloc_failed();
	unit_fail_malloc(0);
	return failed;
}

static void
test_no_memory(void)
{
	static void (*const fail_at[]) (int) = {unit_fail_malloc, unit_fail_malloc_from};

	for (int variant = 0; variant < 4; variant++)
	{
		bool		failed = true;
		int			nth;

		for (nth = 1; failed; nth++)
		{
			unit_context("variant %d, allocation %d", variant, nth);
			set_up(always_hello);
			oe_http_free(http);
			failed = live_with_little_memory(fail_at[variant / 2], nth,
											 variant % 2 == 1);
			CHECK(failed || complete == 2);
			CHECK(server_bodies(server) >= complete);
			CHECK(server_bodies(server) <= complete + lost);
			tear_down();
		}
		CHECK(nth > 50);		/* memory ran out, here and in libcurl */
	}
}

static void
test_good_urls(void)
{
	static const char *const urls[] = {
		"https://api.ocean.io", "https://api.ocean.io/", "HTTPS://API.OCEAN.IO",
		"https://api.ocean.io:8443/base/path", "https://192.0.2.7",
		"https://[2001:db8::1]:443/x", "https://localhost", "https://user.example",
		"http://127.0.0.1", "http://127.0.0.1:8080", "http://127.255.255.254/x",
		"http://localhost:1", "http://LocalHost/", "http://[::1]", "http://[::1]:80/x",
		"Http://localhost", "http://[0:0:0:0:0:0:0:1]", "https://a/%41%3f",
	};

	for (int i = 0; i < COUNT(urls); i++)
	{
		OeError		error = {0};
		char	   *base;

		unit_context("%s", urls[i]);
		base = oe_http_base_url(urls[i], &error);
		CHECK(base != NULL);
		CHECK_INT(error.code, OE_OK);
		CHECK(error.message == NULL);
		free(base);
	}
}

/* The URL identifies the account, so all its spellings become one. */
static void
test_one_spelling(void)
{
	static const char *const urls[][2] = {
		{"https://api.ocean.io", "https://api.ocean.io"},
		{"https://api.ocean.io/", "https://api.ocean.io"},
		{"https://api.ocean.io///", "https://api.ocean.io"},
		{"https://api.ocean.io/v2", "https://api.ocean.io"},
		{"https://api.ocean.io/v2/", "https://api.ocean.io"},
		{"https://gateway.example/ocean/v2", "https://gateway.example/ocean"},
		{"https://api.ocean.io/v22", "https://api.ocean.io/v22"},
		{"https://api.ocean.io:443", "https://api.ocean.io"},
		{"HTTPS://API.Ocean.IO:0443//", "https://api.ocean.io"},
		{"https://api.ocean.io:80", "https://api.ocean.io:80"},
		{"https://api.ocean.io:8443/", "https://api.ocean.io:8443"},
		{"https://host/Some/Path/", "https://host/Some/Path"},
		{"https://host:443/x", "https://host/x"},
		{"http://LocalHost:80/", "http://localhost"},
		{"http://localhost:443", "http://localhost:443"},
		{"http://127.0.0.1:8080/", "http://127.0.0.1:8080"},
		{"http://[::1]:80/x", "http://[::1]/x"},
		{"http://[::1]:81", "http://[::1]:81"},
	};

	for (int i = 0; i < COUNT(urls); i++)
	{
		OeError		error = {0};
		char	   *base = oe_http_base_url(urls[i][0], &error);

		CHECK_STRING(base, urls[i][1]);
		free(base);
	}
}

static void
test_bad_urls(void)
{
	static const char *const urls[] = {
		"", " ", "api.ocean.io", "//api.ocean.io", "/v2", "localhost:80",
		"https:", "https:/", "https://", "https:///", "https:///path", "https:/host",
		"https:host", "https://:443", "https://?", "https:////host",
		"http://api.ocean.io", "http://128.0.0.1", "http://126.255.255.255",
		"http://[::2]", "http://[2001:db8::1]", "http://localhost.example",
		"http://127.0.0.1.example", "http://mylocalhost", "http://0.0.0.0", "http://[::]",
		"ftp://localhost", "file:///etc/passwd", "gopher://127.0.0.1", "ws://localhost",
		"httpss://localhost", "javascript:alert(1)",
		"https://user@host", "https://user:secret@host", "https://:secret@host",
		"https://@host", "https://:@host", "http://localhost@host",
		"https://host?", "https://host/?a=b", "https://host#", "https://host/#x",
		"https://host/\n", "https://ho\rst", "https://host/\tx", "\x01https://host",
		"https://host\x7f", "https://ho st", "https://host:99999", "https://host:port",
		"https://[::1", "https://ho\\st", "https://[127.0.0.1]", "http://[::1]x",
	};

	for (int i = 0; i < COUNT(urls); i++)
	{
		OeError		error = {0};

		unit_context("%s", urls[i]);
		CHECK(oe_http_base_url(urls[i], &error) == NULL);
		CHECK_INT(error.code, OE_BAD_SETTING);
		CHECK(error.message && !strstr(error.message, "secret"));
		oe_error_free(&error);
	}
}

static void
check_some_urls(void)
{
	static const char *const urls[] = {
		"https://host", "http://[::1]/x", "http://host", "https://u:p@host", ":"
	};

	for (int i = 0; i < COUNT(urls); i++)
	{
		OeError		error = {0};
		char	   *base = oe_http_base_url(urls[i], &error);
		bool		good = base != NULL;

		CHECK(good == (error.code == OE_OK));
		CHECK(!good || i < 2);
		if (!unit_malloc_failed())
			CHECK(good == (i < 2));
		free(base);
		oe_error_free(&error);
	}
}

static void
test_urls_without_memory(void)
{
	unit_each_malloc_fails(check_some_urls);
}

static const UnitTest tests[] = {
	{"200", test_ok},
	{"what is sent", test_what_is_sent},
	{"token in the query", test_token_in_query},
	{"a handle keeps nothing", test_handle_keeps_nothing},
	{"refused requests", test_refused_requests},
	{"GET", test_get},
	{"a connection is kept", test_connection_is_kept},
	{"many in flight", test_many_in_flight},
	{"few connections kept", test_few_connections_kept},
	{"connection refused", test_connection_refused},
	{"TLS handshake fails", test_tls_handshake_fails},
	{"ca_file is missing", test_ca_file_is_missing},
	{"request time-out", test_request_timeout},
	{"connect time-out", test_connect_timeout},
	{"cut before the request", test_cut_before},
	{"cut without an answer", test_cut_without_answer},
	{"cut in the answer", test_cut_in_answer},
	{"cut after the answer", test_cut_after},
	{"forms of answers", test_forms_of_answers},
	{"no HTTP", test_no_http},
	{"interim answers", test_interim_answers},
	{"answer longer than its Content-Length", test_answer_is_longer_than_it_says},
	{"unrequested answer", test_unrequested_answer},
	{"answer too large", test_answer_is_too_large},
	{"answer of the largest size", test_answer_of_largest_size},
	{"endless headers", test_endless_headers},
	{"redirect", test_redirect},
	{"Retry-After", test_retry_after},
	{"Retry-After as a date", test_retry_after_date},
	{"Retry-After of an interim answer", test_retry_after_of_interim_answer},
	{"no resending", test_no_resending},
	{"idle connection was closed", test_idle_connection_was_closed},
	{"idle connections were closed", test_idle_connections_were_closed},
	{"early answer", test_early_answer},
	{"proxy does not listen", test_proxy_does_not_listen},
	{"proxy refuses", test_proxy_refuses},
	{"proxy answers", test_proxy_answers},
	{"proxy of the environment", test_proxy_of_environment},
	{"other protocols", test_other_protocols},
	{"no descriptors", test_no_descriptors},
	{"freed in flight", test_free_in_flight},
	{"slow name look-up", test_slow_lookup},
	{"no memory", test_no_memory},
	{"good URLs", test_good_urls},
	{"one spelling of a URL", test_one_spelling},
	{"bad URLs", test_bad_urls},
	{"URLs without memory", test_urls_without_memory},
};

/* Finds the functions replaced by ours, while there is only one thread. */
static bool
find_system_functions(void)
{
	/* The conversion as POSIX writes it. */
	*(void **) &system_getaddrinfo = dlsym(RTLD_NEXT, "getaddrinfo");
	return system_getaddrinfo != NULL;
}

int
main(void)
{
	/* Writing to a closed connection must not end the program. */
	if (!find_system_functions() || signal(SIGPIPE, SIG_IGN) == SIG_ERR ||
		!oe_http_global_init())
		return EXIT_FAILURE;
	return UNIT_RUN("test_http", tests);
}
