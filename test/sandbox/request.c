/*
 * request.c
 *		Processes a request.
 *
 *		enrich/person:
 *			[held] -> judge -> [delayed] -> [held again] -> send_judged
 *		/sandbox/wait:
 *			[waiting] -> send_wait_result
 *		all others:
 *			sb_send
 *
 * Control requests are never held or delayed.  A client that disconnects undoes
 * nothing: a request that was received is judged and charged.
 */
#include "request.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "memory.h"

#define BODY_MAX_BYTES	(1024 * 1024)
#define API_PREFIX		"/v2/"
#define CONTROL_PREFIX	"/sandbox/"

static enum MHD_Result handle_request(SbRequest *request);
static void resume(SbRequest *request);

static bool
has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool
sb_request_is_control(const SbRequest *request)
{
	return has_prefix(request->path, CONTROL_PREFIX);
}

static void
resume_callback(void *arg)
{
	resume(arg);
}

SbRequest *
sb_request_new(struct SbServer *server, struct MHD_Connection *mhd,
			   SbConnection *connection, const char *method, const char *path)
{
	SbRequest  *request = sb_zalloc(sizeof(*request));

	request->server = server;
	request->mhd = mhd;
	request->connection = connection;
	request->method = method;
	request->path = path;
	/* An empty body is a text, too. */
	sb_text_add_string(&request->body, "");
	request->proceed = handle_request;
	request->timer.fire = resume_callback;
	request->timer.arg = request;
	request->watch.fd = connection->fd;
	request->watch.ready = resume_callback;
	request->watch.arg = request;
	return request;
}

void
sb_request_add_body(SbRequest *request, const char *bytes, size_t len)
{
	if (len > BODY_MAX_BYTES - request->body.len)
		request->body_too_large = true;
	else
		sb_text_add(&request->body, bytes, len);
}

/* Remove a request from its list, timer and watch. */
static void
unlist(SbRequest *request)
{
	sb_loop_cancel_timer(request->server->loop, &request->timer);
	if (request->watched)
		sb_loop_unwatch(request->server->loop, &request->watch);
	request->watched = false;
	if (request->list == &request->server->held)
		request->server->api->books.held--;
	if (request->list != NULL)
		TAILQ_REMOVE(request->list, request, entry);
	request->list = NULL;
}

void
sb_request_free(SbRequest *request)
{
	SbBooks    *books = &request->server->api->books;

	unlist(request);
	if (request->in_flight)
	{
		books->in_flight--;
		if (!request->answered)
			books->unanswered++;
	}
	sb_call_free(&request->call);
	sb_reply_free(&request->reply);
	sb_text_free(&request->body);
	free(request);
}

static void
enlist(SbRequest *request, struct SbRequestList *list)
{
	if (list == &request->server->held)
		request->server->api->books.held++;
	TAILQ_INSERT_TAIL(list, request, entry);
	request->list = list;
}

/* Suspend a request until resume(). */
static void
suspend(SbRequest *request, struct SbRequestList *list)
{
	enlist(request, list);
	MHD_suspend_connection(request->mhd);
}

static void
resume(SbRequest *request)
{
	/* One turn of the loop may have both its timer and its disconnection. */
	if (request->list == NULL)
		return;
	unlist(request);
	MHD_resume_connection(request->mhd);
}

void
sb_request_sleep(SbRequest *request, int ms)
{
	sb_loop_set_timer(request->server->loop, &request->timer, ms);
	suspend(request, &request->server->sleepers);
}

/* End the connection without an answer. */
static enum MHD_Result
abandon(SbRequest *request)
{
	(void) request;
	return MHD_NO;
}

static void
abandon_list(struct SbRequestList *list)
{
	SbRequest  *request;

	while ((request = TAILQ_FIRST(list)) != NULL)
	{
		request->proceed = abandon;
		resume(request);
	}
}

void
sb_request_abandon_all(struct SbServer *server)
{
	abandon_list(&server->held);
	abandon_list(&server->judged);
	abandon_list(&server->waiters);
	abandon_list(&server->sleepers);
}

/* Send nothing until the client disconnects. */
static enum MHD_Result
hang_until_disconnect(SbRequest *request)
{
	request->proceed = abandon;
	request->watched = sb_loop_watch(request->server->loop, &request->watch,
									 EPOLLRDHUP) == 0;
	if (!request->watched)
		return abandon(request);
	suspend(request, &request->server->sleepers);
	return MHD_YES;
}

static enum MHD_Result
send_judged(SbRequest *request)
{
	if (request->server->api->config.hold_answers)
	{
		suspend(request, &request->server->judged);
		return MHD_YES;
	}
	if (request->reply.delivery == SB_DELIVER_NEVER)
		return hang_until_disconnect(request);
	if (request->reply.delivery == SB_DELIVER_NOTHING)
		return abandon(request);
	request->answered = true;
	request->server->api->books.answers[request->reply.status]++;
	return sb_send(request);
}

/* Decide on the answer.  True if it can be sent at once. */
static bool
judge(SbRequest *request)
{
	sb_api_judge(request->server->api, &request->call, sb_now_us(),
				 &request->reply);
	request->proceed = send_judged;
	return request->reply.delay_ms == 0;
}

/*
 * Let a held request go.  It is judged here, not when its connection is
 * resumed, because libmicrohttpd drops those whose client has disconnected.
 */
static void
release(SbRequest *request)
{
	struct SbServer *server = request->server;

	if (judge(request))
	{
		resume(request);
		return;
	}
	unlist(request);
	sb_loop_set_timer(server->loop, &request->timer, request->reply.delay_ms);
	enlist(request, &server->sleepers);
}

static const char *
header_of(const SbRequest *request, const char *name)
{
	return MHD_lookup_connection_value(request->mhd, MHD_HEADER_KIND, name);
}

/* "arg" is libmicrohttpd's connection. */
static const char *
query_parameter(void *arg, const char *name)
{
	return MHD_lookup_connection_value(arg, MHD_GET_ARGUMENT_KIND, name);
}

static void
find_tokens(const SbRequest *request, SbTokens *tokens)
{
	tokens->header = header_of(request, "x-api-token");
	tokens->query = query_parameter(request->mhd, "apiToken");
}

static enum MHD_Result
handle_enrich(SbRequest *request)
{
	SbApi	   *api = request->server->api;
	SbBooks    *books = &api->books;
	SbCall	   *call = &request->call;

	request->in_flight = true;
	books->in_flight++;
	if (books->most_in_flight < books->in_flight)
		books->most_in_flight = books->in_flight;

	find_tokens(request, &call->tokens);
	call->content_type = header_of(request, MHD_HTTP_HEADER_CONTENT_TYPE);
	call->body = request->body.data;
	call->body_len = request->body.len;
	sb_api_receive(api, call, sb_now_us());

	if (api->config.hold)
		suspend(request, &request->server->held);
	else if (judge(request))
		return send_judged(request);
	else
		sb_request_sleep(request, request->reply.delay_ms);
	return MHD_YES;
}

static enum MHD_Result
handle_balance(SbRequest *request)
{
	SbTokens	tokens;

	find_tokens(request, &tokens);
	sb_api_balance(request->server->api, &tokens, &request->reply);
	if (request->reply.delay_ms == 0)
		return sb_send(request);
	request->proceed = sb_send;
	sb_request_sleep(request, request->reply.delay_ms);
	return MHD_YES;
}

/* A known path with another method. */
static enum MHD_Result
wrong_method(SbRequest *request, const char *right_method)
{
	sb_reply_detail(&request->reply, 405, "Method Not Allowed");
	request->reply.allow = right_method;
	return sb_send(request);
}

static enum MHD_Result
not_found(SbRequest *request)
{
	sb_reply_detail(&request->reply, 404, "Not Found");
	return sb_send(request);
}

/* An unknown path, perhaps after a redirect. */
static enum MHD_Result
handle_unknown_path(SbRequest *request)
{
	SbBooks    *books = &request->server->api->books;
	SbTokens	tokens;

	find_tokens(request, &tokens);
	books->strangers++;
	if (tokens.header != NULL || tokens.query != NULL)
		books->strangers_with_token++;
	return not_found(request);
}

static enum MHD_Result
send_wait_result(SbRequest *request)
{
	const SbBooks *books = &request->server->api->books;

	sb_wait_reply(sb_wait_reached(&request->wait, books), books,
				  &request->reply);
	return sb_send(request);
}

static enum MHD_Result
wait_for_books(SbRequest *request, const SbControlRequest *control)
{
	struct SbServer *server = request->server;

	if (!sb_wait_parse(control, &request->wait, &request->reply))
		return sb_send(request);
	if (sb_wait_reached(&request->wait, &server->api->books))
		return send_wait_result(request);
	request->proceed = send_wait_result;
	sb_loop_set_timer(server->loop, &request->timer,
					  request->wait.timeout_ms);
	suspend(request, &server->waiters);
	return MHD_YES;
}

void
sb_request_check_waiters(struct SbServer *server)
{
	SbRequest  *request = TAILQ_FIRST(&server->waiters);

	while (request != NULL)
	{
		SbRequest  *next = TAILQ_NEXT(request, entry);

		if (sb_wait_reached(&request->wait, &server->api->books))
			resume(request);
		request = next;
	}
}

static void
close_idle(struct SbServer *server)
{
	SbConnection *connection;

	TAILQ_FOREACH(connection, &server->connections, entry)
	{
		/* It only fails if the client has disconnected. */
		if (connection->counted && !connection->busy)
			(void) shutdown(connection->fd, SHUT_RDWR);
	}
}

/* Carry out the effects of a changed configuration. */
static void
apply_config(struct SbServer *server)
{
	SbConfig   *config = &server->api->config;
	SbRequest  *request;

	while ((!config->hold || config->release > 0) &&
		   (request = TAILQ_FIRST(&server->held)) != NULL)
	{
		release(request);
		config->release--;
	}
	config->release = 0;
	while (!config->hold_answers &&
		   (request = TAILQ_FIRST(&server->judged)) != NULL)
		resume(request);
	if (config->close_idle)
		close_idle(server);
	config->close_idle = false;
}

static enum MHD_Result
handle_control(SbRequest *request)
{
	const SbControlRequest control = {
		request->method, request->path, request->body.data, request->body.len,
		query_parameter, request->mhd
	};

	if (strcmp(request->path, SB_CONTROL_WAIT) == 0)
		return wait_for_books(request, &control);
	sb_control(request->server->api, &control, &request->reply);
	apply_config(request->server);
	return sb_send(request);
}

static enum MHD_Result
handle_request(SbRequest *request)
{
	const char *path = request->path;

	if (request->body_too_large)
	{
		sb_reply_detail(&request->reply, 413, "Request Entity Too Large");
		return sb_send(request);
	}
	if (strcmp(path, API_PREFIX "enrich/person") == 0)
		return strcmp(request->method, "POST") == 0 ?
			handle_enrich(request) : wrong_method(request, "POST");
	if (strcmp(path, API_PREFIX "credits/balance") == 0)
		return strcmp(request->method, "GET") == 0 ?
			handle_balance(request) : wrong_method(request, "GET");
	if (has_prefix(path, API_PREFIX))
		return not_found(request);
	if (sb_request_is_control(request))
		return handle_control(request);
	return handle_unknown_path(request);
}
