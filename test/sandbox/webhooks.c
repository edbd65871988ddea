/*
 * webhooks.c
 *		Each webhook is a small HTTP client of its own in the event loop:
 *
 *		due -> connecting -> sending -> reading the status -> delivered
 *		 ^___________________________________________________ failed
 *
 * Its one timer either starts the next attempt or ends the current one.  A
 * webhook is freed only when its timer fires: anywhere else the loop may still
 * hold an event for its descriptor.
 */
#include "webhooks.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "memory.h"

#define ATTEMPT_MAX_MS	30000	/* a receiver may be a server under valgrind */
#define WAIT_MAX_MS		10000
#define STATUS_CHARS	13		/* "HTTP/1.1 200 " */

typedef struct Webhook
{
	SbWebhooks *webhooks;
	TAILQ_ENTRY(Webhook) entry;
	SbAmount	cost;
	bool		charged;
	int			copies;			/* not delivered yet */
	int			wait_ms;		/* after the next failure */
	struct sockaddr_in address;
	SbText		request;
	size_t		sent;
	char		status[STATUS_CHARS];
	size_t		status_len;
	SbWatch		watch;
	bool		watched;
	SbTimer		timer;
} Webhook;

TAILQ_HEAD(WebhookList, Webhook);

struct SbWebhooks
{
	SbApi	   *api;
	SbLoop	   *loop;
	struct WebhookList list;
};

static void start_attempt(void *arg);

static void
free_webhook(void *arg)
{
	Webhook    *webhook = arg;

	TAILQ_REMOVE(&webhook->webhooks->list, webhook, entry);
	webhook->webhooks->api->books.webhooks_pending--;
	sb_text_free(&webhook->request);
	free(webhook);
}

static void
unwatch(Webhook *webhook)
{
	if (webhook->watched)
		sb_loop_unwatch(webhook->webhooks->loop, &webhook->watch);
	webhook->watched = false;
}

static void
hang_up(Webhook *webhook)
{
	unwatch(webhook);
	if (webhook->watch.fd >= 0)
		(void) close(webhook->watch.fd);
	webhook->watch.fd = -1;
}

static void
set_timer(Webhook *webhook, void (*fire) (void *arg), int after_ms)
{
	sb_loop_cancel_timer(webhook->webhooks->loop, &webhook->timer);
	webhook->timer.fire = fire;
	sb_loop_set_timer(webhook->webhooks->loop, &webhook->timer, after_ms);
}

static void
fail_attempt(void *arg)
{
	Webhook    *webhook = arg;

	hang_up(webhook);
	webhook->webhooks->api->books.webhook_failures++;
	set_timer(webhook, start_attempt, webhook->wait_ms);
	webhook->wait_ms *= 2;
	if (webhook->wait_ms > WAIT_MAX_MS)
		webhook->wait_ms = WAIT_MAX_MS;
}

static void
finish_copy(Webhook *webhook)
{
	hang_up(webhook);
	webhook->webhooks->api->books.webhooks++;
	webhook->copies--;
	set_timer(webhook, webhook->copies > 0 ? start_attempt : free_webhook, 0);
}

static bool
watch_for(Webhook *webhook, uint32_t events)
{
	unwatch(webhook);
	webhook->watched = sb_loop_watch(webhook->webhooks->loop, &webhook->watch,
									 events) == 0;
	return webhook->watched;
}

static void
send_request(Webhook *webhook)
{
	ssize_t		len = send(webhook->watch.fd,
						   webhook->request.data + webhook->sent,
						   webhook->request.len - webhook->sent, MSG_NOSIGNAL);

	if (len < 0 && errno != EAGAIN && errno != EINTR)
	{
		fail_attempt(webhook);
		return;
	}
	if (len > 0)
		webhook->sent += (size_t) len;
	if (webhook->sent == webhook->request.len && !watch_for(webhook, EPOLLIN))
		fail_attempt(webhook);
}

/* Only the first digit of the status matters. */
static void
read_status(Webhook *webhook)
{
	ssize_t		len = recv(webhook->watch.fd,
						   webhook->status + webhook->status_len,
						   STATUS_CHARS - webhook->status_len, 0);

	if (len < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (len <= 0)
	{
		fail_attempt(webhook);
		return;
	}
	webhook->status_len += (size_t) len;
	if (webhook->status_len < STATUS_CHARS)
		return;
	if (memcmp(webhook->status, "HTTP/1.", 7) == 0 && webhook->status[9] == '2')
		finish_copy(webhook);
	else
		fail_attempt(webhook);
}

static void
on_ready(void *arg)
{
	Webhook    *webhook = arg;

	if (!webhook->watched)
		return;
	if (webhook->sent < webhook->request.len)
		send_request(webhook);
	else
		read_status(webhook);
}

/* The first attempt is charged, whether or not it succeeds. */
static void
charge_once(Webhook *webhook)
{
	if (!webhook->charged)
		sb_api_charge_reveal(webhook->webhooks->api, webhook->cost);
	webhook->charged = true;
}

static void
start_attempt(void *arg)
{
	Webhook    *webhook = arg;

	charge_once(webhook);
	webhook->sent = 0;
	webhook->status_len = 0;
	set_timer(webhook, fail_attempt, ATTEMPT_MAX_MS);
	webhook->watch.fd = socket(AF_INET,
							   SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (webhook->watch.fd < 0 ||
		(connect(webhook->watch.fd, (struct sockaddr *) &webhook->address,
				 sizeof(webhook->address)) != 0 && errno != EINPROGRESS) ||
		!watch_for(webhook, EPOLLOUT))
		fail_attempt(webhook);
}

/*
 * Only webhooks to this machine are allowed: "http://127.0.0.1[:port]/..." or
 * localhost.  Returns the path, or NULL.
 */
static const char *
parse_url(const char *url, struct sockaddr_in *address)
{
	static const char *const hosts[] =
	{"http://127.0.0.1", "http://localhost"};
	const char *rest = NULL;
	unsigned long port = 80;

	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++)
	{
		if (strncmp(url, hosts[i], strlen(hosts[i])) == 0)
			rest = url + strlen(hosts[i]);
	}
	if (rest != NULL && *rest == ':')
	{
		char	   *end;

		port = strtoul(rest + 1, &end, 10);
		rest = end;
	}
	if (rest == NULL || *rest != '/' || port == 0 || port > 65535)
		return NULL;
	memset(address, 0, sizeof(*address));
	address->sin_family = AF_INET;
	address->sin_port = htons((uint16_t) port);
	address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return rest;
}

static void
write_request(SbText *request, const char *path, const SbText *payload)
{
	char		length[32];

	sb_text_add_string(request, "POST ");
	/* A fragment is not sent. */
	sb_text_add(request, path, strcspn(path, "# \r\n"));
	sb_text_add_string(request, " HTTP/1.1\r\nHost: 127.0.0.1\r\n"
					   "Content-Type: application/json\r\n"
					   "Connection: close\r\nContent-Length: ");
	(void) snprintf(length, sizeof(length), "%zu\r\n\r\n", payload->len);
	sb_text_add_string(request, length);
	sb_text_add(request, payload->data, payload->len);
}

static void
queue_webhook(void *arg, const char *url, const SbText *payload, SbAmount cost)
{
	SbWebhooks *webhooks = arg;
	const SbConfig *config = &webhooks->api->config;
	struct sockaddr_in address;
	const char *path = parse_url(url, &address);
	Webhook    *webhook;

	if (path == NULL)
	{
		webhooks->api->books.webhooks_refused++;
		return;
	}
	webhook = sb_zalloc(sizeof(*webhook));
	webhook->webhooks = webhooks;
	webhook->cost = cost;
	webhook->copies = config->webhook_copies;
	webhook->wait_ms = config->webhook_retry_ms;
	webhook->address = address;
	webhook->watch.fd = -1;
	webhook->watch.ready = on_ready;
	webhook->watch.arg = webhook;
	webhook->timer.arg = webhook;
	write_request(&webhook->request, path, payload);
	TAILQ_INSERT_TAIL(&webhooks->list, webhook, entry);
	webhooks->api->books.webhooks_pending++;
	set_timer(webhook, start_attempt, config->webhook_delay_ms);
}

SbWebhooks *
sb_webhooks_start(SbApi *api, SbLoop *loop)
{
	SbWebhooks *webhooks = sb_zalloc(sizeof(*webhooks));

	webhooks->api = api;
	webhooks->loop = loop;

	TAILQ_INIT(&webhooks->list);
	api->queue_webhook = queue_webhook;
	api->queue_webhook_arg = webhooks;
	return webhooks;
}

void
sb_webhooks_stop(SbWebhooks *webhooks)
{
	Webhook    *webhook;

	while ((webhook = TAILQ_FIRST(&webhooks->list)) != NULL)
	{
		hang_up(webhook);
		sb_loop_cancel_timer(webhooks->loop, &webhook->timer);
		free_webhook(webhook);
	}
	webhooks->api->queue_webhook = NULL;
	free(webhooks);
}
