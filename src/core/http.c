/*
 * http.c
 *		Many POSTs at once: libcurl's multi interface behind one epoll
 *		descriptor.
 *
 * A transfer is an easy handle with what it sends and the reply it fills.  It
 * runs from oe_http_submit() until libcurl reports its end; then the reply
 * waits for oe_http_next_reply() and the handle, with everything that never
 * changes already set, waits among the spare ones for the next request.
 *
 * No callback here allocates anything but the answer's bytes, and none can
 * jump.  Any other failure on the way ends the transfer, by its time-out at the
 * latest; that is why some return values are ignored.
 *
 * SIGPIPE is not handled here: the process ignores it, as PostgreSQL's do.
 */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/http.h"

#if LIBCURL_VERSION_NUM < 0x075800
#error "libcurl 7.88 or newer is needed"
#endif

#define USER_AGENT				"ocean_enrich/1.0"
#define TOKEN_HEADER			"x-api-token: "
#define HEADERS_MAX_BYTES		((size_t) 256 * 1024)
#define TOKEN_PARAMETER			"apiToken="
#define PATH_VERSION			"/v2"

#define KEEP_CONNECTIONS		16	/* unless oe_http_keep_connections()
									 * changes it */
#define KEEP_IDLE_S				45	/* servers and balancers close an idle
									 * connection after 60 s or more */
#define TCP_PROBE_S				30
#define CA_CACHE_S				60
#define RETRY_AFTER_MAX_S		(24 * 60 * 60)
#define EVENTS_AT_ONCE			64
#define NO_DEADLINE				INT64_MAX
#define PROBLEM_MAX_BYTES		100

/* What libcurl reports for a line of a header that is longer than 100 kB. */
#if LIBCURL_VERSION_NUM >= 0x080600
#define HEADER_TOO_LONG			CURLE_TOO_LARGE
#else
#define HEADER_TOO_LONG			CURLE_OUT_OF_MEMORY
#endif

/* OpenSSL's results of a verification that people can do something about. */
#define NO_ISSUER				2
#define NOT_YET_VALID			9
#define EXPIRED					10
#define SELF_SIGNED				18
#define SELF_SIGNED_IN_CHAIN	19
#define NO_LOCAL_ISSUER			20
#define LEAF_NOT_VERIFIED		21

/* A reply and its place in the queue of those not taken yet. */
typedef struct Reply
{
	OeHttpReply public;			/* first, so that its address is ours */
	char		problem[PROBLEM_MAX_BYTES]; /* if it is not a static string */
	struct Reply *next;
} Reply;

typedef struct Transfer
{
	OeHttp	   *http;
	CURL	   *easy;
	Reply	   *reply;			/* until it is queued */
	char	   *body;
	bool		has_proxy;
	char		error_text[CURL_ERROR_SIZE];	/* libcurl's, which may quote
												 * the URL */
	bool		handed;			/* true if libcurl may send it: see
								 * prereq_callback() */
	int64_t		handed_us;		/* then: since when */
	bool		unusable;		/* true if the kept connection is: likewise */
	bool		restarted;		/* true if it began again on a new one */
	bool		headers_whole;	/* true if the headers after the last status
								 * line are complete */
	size_t		header_bytes;	/* of all headers and trailers */
	char	   *token_line;		/* or NULL */
	struct curl_slist token_header;
	struct Transfer *prev;		/* running ones */
	struct Transfer *next;		/* running ones, or spare ones */
} Transfer;

struct OeHttp
{
	CURLM	   *multi;			/* NULL after memory ran out; see
								 * drive_multi() */
	int			epoll_fd;
	int64_t		deadline_us;	/* when libcurl wants to be called */
	size_t		max_body_bytes;
	const char *system_ca_file; /* or NULL: libcurl finds them itself */
	const char *system_ca_path;
	bool		has_http2;		/* false if libcurl was built without it */
	Transfer   *running;
	Transfer   *spare;
	int			spare_count;
	int			keep;			/* connections and spare handles */
	Reply	   *first_reply;
	Reply	   *last_reply;
	int			in_flight;
	int			open_sockets;
	int			http1_socket[UINT16_MAX + 1];	/* by local port: the socket
												 * that a connection from it
												 * last had; 0: none */
};

/*
 * The headers of every request, as the list that libcurl reads.  The empty "Expect"
 * keeps libcurl from asking for "100 Continue" first, which costs a round trip
 * or a second of waiting.
 */
static struct curl_slist no_expect = {"Expect:", NULL};
static struct curl_slist content_type = {"Content-Type: application/json", &no_expect};
static struct curl_slist common_headers = {"Accept: application/json", &content_type};

static int64_t
now_us(void)
{
	struct timespec now;

	/* Cannot fail: the clock exists and the pointer is good. */
	(void) clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/*
 * libcurl starts threads that resolve names.  They must not inherit a mask
 * that lets PostgreSQL's signal handlers run in them.
 */
static void
block_signals(sigset_t *saved)
{
	sigset_t	all;

	/* These fail for wrong arguments only. */
	(void) sigfillset(&all);
	(void) pthread_sigmask(SIG_SETMASK, &all, saved);
}

static void
restore_signals(const sigset_t *saved)
{
	(void) pthread_sigmask(SIG_SETMASK, saved, NULL);
}

/* Overwrite a secret before its memory is freed. */
static void
wipe(char *secret)
{
	if (secret)
		explicit_bzero(secret, strlen(secret));
}

/* True if a connection from that local port still has this socket. */
static bool
is_socket_of_port(int fd, int port)
{
	struct sockaddr_storage address = {0};
	socklen_t	len = sizeof(address);

	if (getsockname(fd, (struct sockaddr *) &address, &len) != 0)
		return false;
	if (address.ss_family == AF_INET)
		return ntohs(((struct sockaddr_in *) &address)->sin_port) == port;
	return address.ss_family == AF_INET6 &&
		ntohs(((struct sockaddr_in6 *) &address)->sin6_port) == port;
}

/*
 * True unless a kept HTTP/1 connection is idle, with nothing to read.  Otherwise
 * the server has closed it, or it holds an answer that nobody asked for and that
 * would be taken for ours.  libcurl does not always check: 7.88 notices the close
 * but not the answer, and 8.22 neither of them within the first second.
 *
 * In HTTP/2 the server may write at any time, and each answer carries the number
 * of its request.
 */
static bool
is_unusable(const Transfer *transfer, int local_port)
{
	int			fd = transfer->http->http1_socket[local_port & UINT16_MAX];
	char		byte;

	if (fd == 0 || transfer->restarted || !is_socket_of_port(fd, local_port))
		return false;
	return !(recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
			 (errno == EAGAIN || errno == EWOULDBLOCK));
}

/*
 * libcurl calls this before it sends a request, when the connection is ready and
 * nothing has been sent.  If a kept connection dies under a request, libcurl would
 * silently send it again, so the second call refuses.  If the connection is
 * unusable from the start, the transfer begins again: see restart_transfer().
 *
 * libcurl gets the body as a whole rather than from a read callback that gives each
 * byte once, so that head and body leave in one packet.
 */
static int
prereq_callback(void *arg, char *remote_ip, char *local_ip, int remote_port,
				int local_port)
{
	Transfer   *transfer = arg;

	(void) remote_ip;
	(void) local_ip;
	(void) remote_port;
	if (transfer->handed)
		return CURL_PREREQFUNC_ABORT;
	transfer->unusable = is_unusable(transfer, local_port);
	if (transfer->unusable)
		return CURL_PREREQFUNC_ABORT;
	transfer->handed = true;
	transfer->handed_us = now_us();
	return CURL_PREREQFUNC_OK;
}

/* Remember the connection for prereq_callback(). */
static void
note_http1_socket(OeHttp *http, CURL *easy)
{
	long		version = 0;
	long		port = 0;
	curl_socket_t fd = CURL_SOCKET_BAD;

	if (curl_easy_getinfo(easy, CURLINFO_HTTP_VERSION, &version) == CURLE_OK &&
		curl_easy_getinfo(easy, CURLINFO_LOCAL_PORT, &port) == CURLE_OK &&
		curl_easy_getinfo(easy, CURLINFO_ACTIVESOCKET, &fd) == CURLE_OK &&
		fd != CURL_SOCKET_BAD && port > 0)
		http->http1_socket[port & UINT16_MAX] =
			version == CURL_HTTP_VERSION_1_0 || version == CURL_HTTP_VERSION_1_1 ? fd : 0;
}

/* The final status, or 0: a 1xx precedes another one. */
static int
final_status(CURL *easy)
{
	long		status = 0;

	if (curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status) != CURLE_OK ||
		status < 200)
		return 0;
	return (int) status;
}

/*
 * Note whether the headers are complete: libcurl accepts an answer that ends in
 * the middle of them.  It also keeps every line, and sets no limit to the trailers
 * after the body, so there is one here: returning less than "len" ends the
 * transfer.
 */
static size_t
header_callback(char *line, size_t size, size_t count, void *arg)
{
	Transfer   *transfer = arg;
	size_t		len = size * count;

	transfer->header_bytes += len;
	if (transfer->header_bytes > HEADERS_MAX_BYTES)
		return 0;
	if (len > 5 && memcmp(line, "HTTP/", 5) == 0)
		transfer->headers_whole = false;
	else if (len > 0 && (line[0] == '\r' || line[0] == '\n'))
		transfer->headers_whole = true;
	return len;
}

/*
 * Keep what fits under the ceiling.  Returning less than came ends the transfer:
 * Content-Length cannot be trusted, and bytes beyond the ceiling are not worth
 * waiting for.
 */
static size_t
write_callback(char *from, size_t size, size_t count, void *arg)
{
	Transfer   *transfer = arg;

	if (!oe_buf_append_some(&transfer->reply->public.body, from, size * count))
		return 0;
	return size * count;
}

static curl_socket_t
open_socket_callback(void *arg, curlsocktype purpose,
					 struct curl_sockaddr *address)
{
	OeHttp	   *http = arg;
	int			fd = socket(address->family, address->socktype | SOCK_CLOEXEC,
							address->protocol);

	(void) purpose;
	if (fd < 0)
		return CURL_SOCKET_BAD;
	http->open_sockets++;
	return fd;
}

static int
close_socket_callback(void *arg, curl_socket_t fd)
{
	OeHttp	   *http = arg;

	http->open_sockets--;
	return close(fd);
}

/*
 * Start or stop watching "fd" for libcurl.  "known" is what curl_multi_assign()
 * noted: not NULL once epoll has the descriptor.
 *
 * A failure is not reported to libcurl, which would give up every transfer: the
 * one concerned gets no events and runs into its time-out.
 */
static int
socket_callback(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	OeHttp	   *http = arg;
	struct epoll_event event = {0};

	(void) easy;
	event.data.fd = fd;
	if (what & CURL_POLL_IN)
		event.events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		event.events |= EPOLLOUT;

	if (what == CURL_POLL_REMOVE)
		(void) epoll_ctl(http->epoll_fd, EPOLL_CTL_DEL, fd, &event);
	else if (known)
		(void) epoll_ctl(http->epoll_fd, EPOLL_CTL_MOD, fd, &event);
	else if (epoll_ctl(http->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0)
		(void) curl_multi_assign(http->multi, fd, http);
	return 0;
}

static int
timer_callback(CURLM *multi, long timeout_ms, void *arg)
{
	OeHttp	   *http = arg;

	(void) multi;
	if (timeout_ms < 0)
		http->deadline_us = NO_DEADLINE;
	else
		http->deadline_us = now_us() + (int64_t) timeout_ms * 1000;
	return 0;
}

static void
forget_request(Transfer *transfer)
{
	wipe(transfer->token_line);
	free(transfer->token_line);
	free(transfer->body);
	transfer->body = NULL;
	transfer->token_line = NULL;
}

static void
free_reply(Reply *reply)
{
	if (!reply)
		return;
	oe_buf_free(&reply->public.body);
	free(reply);
}

static void
free_transfer(Transfer *transfer)
{
	curl_easy_cleanup(transfer->easy);
	forget_request(transfer);
	free_reply(transfer->reply);
	free(transfer);
}

/* Set an option unless an earlier one failed: "code" is the first failure. */
#define SET_OPTION(option, value) \
	do { \
		if (code == CURLE_OK) \
			code = curl_easy_setopt(transfer->easy, option, value); \
	} while (0)

/* The options that are the same for all requests. */
static CURLcode
set_common_options(OeHttp *http, Transfer *transfer)
{
	CURLcode	code = CURLE_OK;

	SET_OPTION(CURLOPT_PRIVATE, transfer);
	SET_OPTION(CURLOPT_ERRORBUFFER, transfer->error_text);
	SET_OPTION(CURLOPT_PREREQFUNCTION, prereq_callback);
	SET_OPTION(CURLOPT_PREREQDATA, transfer);
	SET_OPTION(CURLOPT_HEADERFUNCTION, header_callback);
	SET_OPTION(CURLOPT_HEADERDATA, transfer);
	SET_OPTION(CURLOPT_WRITEFUNCTION, write_callback);
	SET_OPTION(CURLOPT_WRITEDATA, transfer);
	SET_OPTION(CURLOPT_OPENSOCKETFUNCTION, open_socket_callback);
	SET_OPTION(CURLOPT_OPENSOCKETDATA, http);
	SET_OPTION(CURLOPT_CLOSESOCKETFUNCTION, close_socket_callback);
	SET_OPTION(CURLOPT_CLOSESOCKETDATA, http);

	SET_OPTION(CURLOPT_USERAGENT, USER_AGENT);
	SET_OPTION(CURLOPT_PROTOCOLS_STR, "http,https");
	SET_OPTION(CURLOPT_FOLLOWLOCATION, 0L);
	SET_OPTION(CURLOPT_NOPROXY, "");
	/* The token is for the API: a proxy must not see it in CONNECT. */
	SET_OPTION(CURLOPT_HEADEROPT, (long) CURLHEADER_SEPARATE);
	SET_OPTION(CURLOPT_SSL_VERIFYPEER, 1L);
	SET_OPTION(CURLOPT_SSL_VERIFYHOST, 2L);
	SET_OPTION(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);

	/*
	 * A replaced file is noticed soon, but the file is not read again for
	 * each connection.
	 */
	SET_OPTION(CURLOPT_CA_CACHE_TIMEOUT, (long) CA_CACHE_S);

	SET_OPTION(CURLOPT_NOSIGNAL, 1L);
	/* Ending a transfer must not wait for a pending name lookup. */
	SET_OPTION(CURLOPT_QUICK_EXIT, 1L);
	SET_OPTION(CURLOPT_MAXAGE_CONN, (long) KEEP_IDLE_S);
	SET_OPTION(CURLOPT_TCP_NODELAY, 1L);
	SET_OPTION(CURLOPT_TCP_KEEPALIVE, 1L);
	SET_OPTION(CURLOPT_TCP_KEEPIDLE, (long) TCP_PROBE_S);
	SET_OPTION(CURLOPT_TCP_KEEPINTVL, (long) TCP_PROBE_S);
	return code;
}

/*
 * HTTP/2 where TLS can agree on it: many requests then share one connection.
 * PIPEWAIT lets the first burst wait for one handshake to learn that, instead
 * of opening a connection each.  Over plain http there is nothing to agree on,
 * and the burst would wait for the first whole answer.
 */
static CURLcode
set_http_version(const OeHttp *http, Transfer *transfer, const char *url)
{
	CURLcode	code = CURLE_OK;
	bool		http2 = http->has_http2 && strncasecmp(url, "https:", 6) == 0;

	SET_OPTION(CURLOPT_HTTP_VERSION,
			   (long) (http2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
	SET_OPTION(CURLOPT_PIPEWAIT, http2 ? 1L : 0L);
	return code;
}

/*
 * A server's certificate is checked against one file.  Given a folder as well,
 * libcurl would parse the file again for each connection, and would trust what is
 * in the folder even when the administrator names a file.
 */
static CURLcode
set_ca(const OeHttp *http, Transfer *transfer, const char *ca_file)
{
	CURLcode	code = CURLE_OK;
	const char *path = NULL;

	if (!ca_file)
		ca_file = http->system_ca_file;
	if (!ca_file)
		path = http->system_ca_path;
	SET_OPTION(CURLOPT_CAINFO, ca_file);
	SET_OPTION(CURLOPT_PROXY_CAINFO, ca_file);
	if (http->system_ca_path)	/* otherwise the option may not exist */
	{
		SET_OPTION(CURLOPT_CAPATH, path);
		SET_OPTION(CURLOPT_PROXY_CAPATH, path);
	}
	return code;
}

/* libcurl copies the URL; our copy with the token in it is wiped. */
static CURLcode
set_url_with_token(Transfer *transfer, const char *url, const char *token)
{
	CURLcode	code = CURLE_OK;
	char	   *escaped = curl_easy_escape(transfer->easy, token, 0);
	char	   *whole = NULL;
	size_t		size;

	if (escaped)
	{
		size = strlen(url) + strlen("?" TOKEN_PARAMETER) + strlen(escaped) + 1;
		whole = malloc(size);
	}
	if (whole)
	{
		(void) snprintf(whole, size, "%s%s" TOKEN_PARAMETER "%s",
						url, strchr(url, '?') ? "&" : "?", escaped);
		SET_OPTION(CURLOPT_URL, whole);
	}
	else
		code = CURLE_OUT_OF_MEMORY;

	wipe(whole);
	free(whole);
	wipe(escaped);
	curl_free(escaped);
	return code;
}

static CURLcode
set_token_header(Transfer *transfer, const char *token)
{
	size_t		size = strlen(TOKEN_HEADER) + strlen(token) + 1;

	transfer->token_line = malloc(size);
	if (!transfer->token_line)
		return CURLE_OUT_OF_MEMORY;
	(void) snprintf(transfer->token_line, size, TOKEN_HEADER "%s", token);
	transfer->token_header.data = transfer->token_line;
	transfer->token_header.next = &common_headers;
	return curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER,
							&transfer->token_header);
}

static CURLcode
set_url_and_token(Transfer *transfer, const OeHttpRequest *request)
{
	CURLcode	code = CURLE_OK;
	bool		in_query = request->token && request->token_in_query;

	if (in_query)
		code = set_url_with_token(transfer, request->url, request->token);
	else
		SET_OPTION(CURLOPT_URL, request->url);

	if (code == CURLE_OK && request->token && !in_query)
		code = set_token_header(transfer, request->token);
	else
		SET_OPTION(CURLOPT_HTTPHEADER, &common_headers);
	return code;
}

/* The options that differ from request to request. */
static CURLcode
set_request_options(const OeHttp *http, Transfer *transfer,
					const OeHttpRequest *request)
{
	CURLcode	code = set_url_and_token(transfer, request);

	if (code == CURLE_OK)
		code = set_http_version(http, transfer, request->url);
	if (code == CURLE_OK)
		code = set_ca(http, transfer, request->ca_file);
	/* The empty string means none, where NULL would ask the environment. */
	SET_OPTION(CURLOPT_PROXY, request->proxy ? request->proxy : "");
	SET_OPTION(CURLOPT_FRESH_CONNECT, 0L);
	SET_OPTION(CURLOPT_CONNECTTIMEOUT_MS, (long) request->connect_timeout_ms);
	SET_OPTION(CURLOPT_TIMEOUT_MS, (long) request->request_timeout_ms);
	if (!request->body)
		SET_OPTION(CURLOPT_HTTPGET, 1L);
	else
	{
		SET_OPTION(CURLOPT_POST, 1L);
		SET_OPTION(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->body_len);
		SET_OPTION(CURLOPT_POSTFIELDS, transfer->body);
	}
	return code;
}

/* A spare handle, or a new one; NULL with "code" set. */
static Transfer *
take_transfer(OeHttp *http, CURLcode *code)
{
	Transfer   *transfer = http->spare;

	if (transfer)
	{
		http->spare = transfer->next;
		http->spare_count--;
		return transfer;
	}

	*code = CURLE_OUT_OF_MEMORY;
	transfer = calloc(1, sizeof(*transfer));
	if (!transfer)
		return NULL;
	transfer->http = http;
	transfer->easy = curl_easy_init();
	if (transfer->easy)
		*code = set_common_options(http, transfer);
	if (*code == CURLE_OK)
		return transfer;
	free_transfer(transfer);
	return NULL;
}

/*
 * The request is over: keep the handle, unless there are enough of them or its
 * request failed.  libcurl 8.14 leaves a mark in a handle whose request it would
 * have sent again, and every further request would fail since its body cannot be
 * rewound.
 */
static void
give_transfer_back(OeHttp *http, Transfer *transfer, bool failed)
{
	forget_request(transfer);
	if (failed || http->spare_count >= http->keep)
	{
		free_transfer(transfer);
		return;
	}
	transfer->next = http->spare;
	http->spare = transfer;
	http->spare_count++;
}

/* Copy what the transfer needs, and make its reply, so that its end cannot fail. */
static CURLcode
fill_transfer(OeHttp *http, Transfer *transfer, const OeHttpRequest *request)
{
	transfer->reply = calloc(1, sizeof(*transfer->reply));
	transfer->body = request->body ? malloc(request->body_len) : NULL;
	if (!transfer->reply || (request->body && !transfer->body))
		return CURLE_OUT_OF_MEMORY;

	transfer->reply->public.tag = request->tag;
	oe_buf_init(&transfer->reply->public.body, http->max_body_bytes);
	if (request->body)
		memcpy(transfer->body, request->body, request->body_len);
	transfer->has_proxy = request->proxy != NULL;
	transfer->error_text[0] = '\0';
	transfer->handed = false;
	transfer->unusable = false;
	transfer->restarted = false;
	transfer->headers_whole = false;
	transfer->header_bytes = 0;
	return set_request_options(http, transfer, request);
}

static void
link_running(OeHttp *http, Transfer *transfer)
{
	transfer->prev = NULL;
	transfer->next = http->running;
	if (http->running)
		http->running->prev = transfer;
	http->running = transfer;
}

static void
unlink_running(OeHttp *http, Transfer *transfer)
{
	if (transfer->prev)
		transfer->prev->next = transfer->next;
	else
		http->running = transfer->next;
	if (transfer->next)
		transfer->next->prev = transfer->prev;
}

/* The multi closes its connections, through our callbacks. */
static void
drop_multi(OeHttp *http)
{
	(void) curl_multi_cleanup(http->multi); /* fails for a wrong handle only */
	http->multi = NULL;
	http->deadline_us = NO_DEADLINE;
}

static bool
set_multi_options(OeHttp *http, CURLM *multi)
{
	return curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, socket_callback) == CURLM_OK &&
		curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, http) == CURLM_OK &&
		curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, timer_callback) == CURLM_OK &&
		curl_multi_setopt(multi, CURLMOPT_TIMERDATA, http) == CURLM_OK &&
#if LIBCURL_VERSION_NUM >= 0x081400 /* beside CURLOPT_QUICK_EXIT */
		curl_multi_setopt(multi, CURLMOPT_QUICK_EXIT, 1L) == CURLM_OK &&
#endif
		curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) http->keep) == CURLM_OK &&
		curl_multi_setopt(multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX) == CURLM_OK;
}

/* Make a multi handle unless there is one; false: out of memory. */
static bool
have_multi(OeHttp *http)
{
	if (http->multi)
		return true;
	http->multi = curl_multi_init();
	if (!http->multi)
		return false;
	if (set_multi_options(http, http->multi))
		return true;
	drop_multi(http);
	return false;
}

/* Hand one transfer to libcurl, which keeps nothing of it on failure. */
static CURLcode
start_transfer(OeHttp *http, const OeHttpRequest *request)
{
	CURLcode	code = CURLE_OK;
	Transfer   *transfer = take_transfer(http, &code);

	if (!transfer)
		return code;
	code = fill_transfer(http, transfer, request);
	if (code == CURLE_OK &&
		(!have_multi(http) ||
		 curl_multi_add_handle(http->multi, transfer->easy) != CURLM_OK))
		code = CURLE_OUT_OF_MEMORY; /* nothing else can be wrong with it */
	if (code != CURLE_OK)
	{
		free_transfer(transfer);
		return code;
	}
	link_running(http, transfer);
	return CURLE_OK;
}

/*
 * True if the whole answer came although libcurl reports a failure, as it does
 * when the server answers before it has read the whole request and then closes.
 * That is certain only if the answer stated its length; a chunked one counts as
 * lost, to be on the safe side.
 */
static bool
answer_is_whole(CURL *easy, const OeBuf *body)
{
	curl_off_t	length = -1;

	if (curl_easy_getinfo(easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T,
						  &length) != CURLE_OK)
		return false;
	return length >= 0 && (uint64_t) length == body->len;
}

/*
 * No request is "not sent" once libcurl was allowed to send it.  libcurl may not
 * know by then that a kept connection is dead, and a request that never arrived
 * counts as lost: the opposite mistake would cost money.
 *
 * Before that, nothing that arrives can be its answer.
 */
static OeHttpResult
judge_transfer(const Transfer *transfer, CURLcode code)
{
	const OeHttpReply *reply = &transfer->reply->public;

	if (!transfer->handed)
		return OE_HTTP_NOT_SENT;
	if (reply->status != 0 && transfer->headers_whole &&
		(code == CURLE_OK || reply->body.truncated ||
		 answer_is_whole(transfer->easy, &reply->body)))
		return OE_HTTP_COMPLETE;
	return OE_HTTP_LOST;
}

/* A number about a transfer; 0 if libcurl has none. */
static long
info_number(CURL *easy, CURLINFO info)
{
	long		number = 0;

	return curl_easy_getinfo(easy, info, &number) == CURLE_OK ? number : 0;
}

/*
 * Why a certificate was refused.  libcurl checks the host before it asks for the
 * result of the verification, which with other libraries than OpenSSL has other
 * numbers.
 */
static OeHttpFault
certificate_fault(const Transfer *transfer)
{
	long		result = info_number(transfer->easy, CURLINFO_PROXY_SSL_VERIFYRESULT);

	if (result == 0)
		result = info_number(transfer->easy, CURLINFO_SSL_VERIFYRESULT);
	if (strstr(transfer->error_text, "subject name"))
		return OE_HTTP_OTHER_HOST;
	switch (result)
	{
		case NO_ISSUER:
		case SELF_SIGNED:
		case SELF_SIGNED_IN_CHAIN:
		case NO_LOCAL_ISSUER:
		case LEAF_NOT_VERIFIED:
			return OE_HTTP_UNTRUSTED;
		case EXPIRED:
			return OE_HTTP_EXPIRED;
		case NOT_YET_VALID:
			return OE_HTTP_NOT_YET_VALID;
		default:
			return OE_HTTP_OTHER_FAULT;
	}
}

static OeHttpFault
fault_of_transfer(const Transfer *transfer, CURLcode code)
{
	if (transfer->handed)
		return OE_HTTP_OTHER_FAULT;
	if (info_number(transfer->easy, CURLINFO_HTTP_CONNECTCODE) >= 300)
		return OE_HTTP_PROXY_REFUSED;
	switch (code)
	{
		case CURLE_PEER_FAILED_VERIFICATION:
			return certificate_fault(transfer);
		case CURLE_SSL_CACERT_BADFILE:
			return OE_HTTP_NO_CA_FILE;
		case CURLE_COULDNT_RESOLVE_PROXY:
			return OE_HTTP_NO_PROXY;
		case CURLE_COULDNT_CONNECT:
			return transfer->has_proxy ? OE_HTTP_NO_PROXY : OE_HTTP_OTHER_FAULT;
		default:
			return OE_HTTP_OTHER_FAULT;
	}
}

/* Is the certificate that was refused the proxy's? */
static bool
is_certificate_of_proxy(CURL *easy)
{
	return info_number(easy, CURLINFO_PROXY_SSL_VERIFYRESULT) != 0;
}

static const char *
text_of_fault(Transfer *transfer, OeHttpFault fault)
{
	Reply	   *reply = transfer->reply;
	const char *owner = is_certificate_of_proxy(transfer->easy) ? "proxy" : "server";
	const char *state = "";

	switch (fault)
	{
		case OE_HTTP_OTHER_FAULT:
			return NULL;
		case OE_HTTP_NO_CA_FILE:
			return "no certificate could be read from the file of trusted ones";
		case OE_HTTP_NO_PROXY:
			return "could not connect to the proxy";
		case OE_HTTP_PROXY_REFUSED:
			(void) snprintf(reply->problem, sizeof(reply->problem),
							"the proxy answered with HTTP status %ld",
							info_number(transfer->easy, CURLINFO_HTTP_CONNECTCODE));
			return reply->problem;
		case OE_HTTP_UNTRUSTED:
			state = "is not signed by a trusted authority";
			break;
		case OE_HTTP_EXPIRED:
			state = "has expired";
			break;
		case OE_HTTP_NOT_YET_VALID:
			state = "is not valid yet";
			break;
		case OE_HTTP_OTHER_HOST:
			state = "is for another host";
			break;
	}
	(void) snprintf(reply->problem, sizeof(reply->problem),
					"the certificate of the %s %s", owner, state);
	return reply->problem;
}

/* libcurl's text, or our reason if one of our callbacks made it fail. */
static const char *
problem_text(const Transfer *transfer, CURLcode code)
{
	const OeHttpReply *reply = &transfer->reply->public;

	if (transfer->header_bytes > HEADERS_MAX_BYTES ||
		(code == HEADER_TOO_LONG && reply->status != 0 && !transfer->headers_whole))
		return "the headers of the answer are too long";
	if (reply->body.out_of_memory)
		code = CURLE_OUT_OF_MEMORY;
	else if (code == CURLE_OK || code == CURLE_SEND_FAIL_REWIND ||
			 code == CURLE_ABORTED_BY_CALLBACK)
		code = CURLE_GOT_NOTHING;
	return curl_easy_strerror(code);
}

/* Retry-After as seconds or as an HTTP date; -1: none, or unreadable. */
static int
retry_after_ms(CURL *easy)
{
	struct curl_header *header;
	size_t		digits;
	time_t		seconds;

	if (curl_easy_header(easy, "Retry-After", 0, CURLH_HEADER, -1,
						 &header) != CURLHE_OK)
		return -1;

	digits = strspn(header->value, "0123456789");
	if (digits > 0 && header->value[digits] == '\0')
		seconds = digits > 9 ? RETRY_AFTER_MAX_S : strtol(header->value, NULL, 10);
	else
	{
		time_t		date = curl_getdate(header->value, NULL);

		if (date == (time_t) -1)
			return -1;
		seconds = date - time(NULL);
	}
	if (seconds < 0)
		seconds = 0;
	if (seconds > RETRY_AFTER_MAX_S)
		seconds = RETRY_AFTER_MAX_S;
	return (int) seconds * 1000;
}

/* Drop bytes that are not the answer to this request. */
static void
forget_answer(OeHttpReply *reply)
{
	reply->status = 0;
	reply->retry_after_ms = -1;
	oe_buf_free(&reply->body);
}

static void
queue_reply(OeHttp *http, Reply *reply)
{
	if (http->last_reply)
		http->last_reply->next = reply;
	else
		http->first_reply = reply;
	http->last_reply = reply;
}

/* Begin again, on a new connection; false on failure. */
static bool
restart_transfer(OeHttp *http, Transfer *transfer)
{
	return curl_multi_remove_handle(http->multi, transfer->easy) == CURLM_OK &&
		curl_easy_setopt(transfer->easy, CURLOPT_FRESH_CONNECT, 1L) == CURLE_OK &&
		curl_multi_add_handle(http->multi, transfer->easy) == CURLM_OK;
}

static void
finish_transfer(OeHttp *http, Transfer *transfer, CURLcode code)
{
	OeHttpReply *reply = &transfer->reply->public;
	bool		failed;

	reply->status = final_status(transfer->easy);
	reply->result = judge_transfer(transfer, code);
	failed = reply->result != OE_HTTP_COMPLETE;
	reply->retry_after_ms = retry_after_ms(transfer->easy);
	reply->left_us_ago = transfer->handed ? now_us() - transfer->handed_us : -1;
	if (reply->result == OE_HTTP_NOT_SENT)
		forget_answer(reply);
	if (failed)
	{
		reply->timed_out = code == CURLE_OPERATION_TIMEDOUT;
		reply->fault = fault_of_transfer(transfer, code);
		reply->problem = text_of_fault(transfer, reply->fault);
		if (!reply->problem)
			reply->problem = problem_text(transfer, code);
	}
	queue_reply(http, transfer->reply);
	transfer->reply = NULL;

	note_http1_socket(http, transfer->easy);
	/* Fails only for a handle that is not in the multi. */
	(void) curl_multi_remove_handle(http->multi, transfer->easy);
	unlink_running(http, transfer);
	give_transfer_back(http, transfer, failed);
}

/* libcurl has finished a transfer: deliver its end, or begin it again. */
static void
handle_end(OeHttp *http, Transfer *transfer, CURLcode code)
{
	if (transfer->unusable && !transfer->restarted)
	{
		transfer->restarted = true;
		if (restart_transfer(http, transfer))
			return;
		code = CURLE_OUT_OF_MEMORY;
	}
	finish_transfer(http, transfer, code);
}

static void
finish_transfers(OeHttp *http)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(http->multi, &left)) != NULL)
	{
		CURLcode	code = message->data.result;
		char	   *owner = NULL;

		/*
		 * CURLMSG_DONE is the only message there is, and the option was set
		 * when the handle was made.  "message" is gone with the handle.
		 */
		if (message->msg == CURLMSG_DONE &&
			curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE,
							  &owner) == CURLE_OK)
			handle_end(http, (Transfer *) owner, code);
	}
}

/*
 * Let libcurl do its work.  If that fails, memory has run out in the midst of its
 * bookkeeping: 7.88 then forgets its timer, and divides by zero in the next call.
 * So every transfer ends here, and the next one gets a new multi handle.
 */
static void
drive_multi(OeHttp *http, curl_socket_t fd, int what)
{
	int			running;

	if (curl_multi_socket_action(http->multi, fd, what, &running) == CURLM_OK)
		return;
	finish_transfers(http);
	while (http->running)
		finish_transfer(http, http->running, CURLE_OUT_OF_MEMORY);
	drop_multi(http);
}

bool
oe_http_global_init(void)
{
	return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

OeHttp *
oe_http_new(size_t max_body_bytes)
{
	OeHttp	   *http = calloc(1, sizeof(*http));
	const curl_version_info_data *version = curl_version_info(CURLVERSION_NOW);

	if (!http)
		return NULL;
	http->max_body_bytes = max_body_bytes;
	http->deadline_us = NO_DEADLINE;
	http->system_ca_file = version->cainfo;
	http->system_ca_path = version->capath;
	http->has_http2 = (version->features & CURL_VERSION_HTTP2) != 0;
	http->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	http->keep = KEEP_CONNECTIONS;
	if (http->epoll_fd < 0 || !have_multi(http))
	{
		oe_http_free(http);
		return NULL;
	}
	return http;
}

static void
free_transfers(OeHttp *http)
{
	Transfer   *transfer;

	while ((transfer = http->running) != NULL)
	{
		(void) curl_multi_remove_handle(http->multi, transfer->easy);
		unlink_running(http, transfer);
		free_transfer(transfer);
	}
	while ((transfer = http->spare) != NULL)
	{
		http->spare = transfer->next;
		free_transfer(transfer);
	}
}

void
oe_http_free(OeHttp *http)
{
	OeHttpReply *reply;
	sigset_t	saved;

	if (!http)
		return;
	block_signals(&saved);
	free_transfers(http);
	while ((reply = oe_http_next_reply(http)) != NULL)
		oe_http_reply_free(reply);

	if (http->multi)
		drop_multi(http);
	if (http->epoll_fd >= 0)
		(void) close(http->epoll_fd);
	free(http);
	restore_signals(&saved);
}

int
oe_http_fd(const OeHttp *http)
{
	return http->epoll_fd;
}

int
oe_http_timeout_ms(const OeHttp *http)
{
	int64_t		left_ms;

	/* A reply waiting to be taken makes no descriptor readable. */
	if (http->first_reply)
		return 0;
	if (http->deadline_us == NO_DEADLINE)
		return -1;

	/* Round up: waking too early would mean waking twice. */
	left_ms = (http->deadline_us - now_us() + 999) / 1000;
	if (left_ms < 0)
		return 0;
	return left_ms > INT_MAX ? INT_MAX : (int) left_ms;
}

void
oe_http_keep_connections(OeHttp *http, int count)
{
	http->keep = count > 0 ? count : 1;
	/* Fails only for an option that libcurl does not know. */
	if (http->multi)
		(void) curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS,
								 (long) http->keep);
}

static bool
has_control_character(const char *text)
{
	for (; *text; text++)
	{
		if ((unsigned char) *text < ' ' || *text == 0x7f)
			return true;
	}
	return false;
}

/*
 * A line break would end the header and let the token write others.  An empty
 * value would make libcurl leave the header out.
 */
static bool
check_token(const char *token, OeError *error)
{
	if (*token == '\0')
		oe_error_set(error, OE_BAD_SETTING, "the API token is empty");
	else if (has_control_character(token))
		oe_error_set(error, OE_BAD_SETTING,
					 "the API token contains a control character");
	else
		return true;
	return false;
}

/* The API takes no POST without a body; libcurl would read one from stdin. */
static bool
check_request(const OeHttpRequest *request, OeError *error)
{
	if (request->body && request->body_len == 0)
	{
		oe_error_set(error, OE_BAD_REQUEST, "the request has no body");
		return false;
	}
	return !request->token || check_token(request->token, error);
}

bool
oe_http_submit(OeHttp *http, const OeHttpRequest *request, OeError *error)
{
	CURLcode	code;
	sigset_t	saved;

	if (!check_request(request, error))
		return false;

	block_signals(&saved);
	code = start_transfer(http, request);
	restore_signals(&saved);

	if (code == CURLE_OK)
	{
		http->in_flight++;
		return true;
	}
	if (code == CURLE_OUT_OF_MEMORY)
		oe_error_set(error, OE_OUT_OF_MEMORY, "out of memory");
	else
		oe_error_set(error, OE_BAD_SETTING, "could not prepare the request: %s",
					 curl_easy_strerror(code));
	return false;
}

/* One event may make libcurl close the socket of a later one: it ignores that. */
static void
run_sockets(OeHttp *http, const struct epoll_event *events, int count)
{
	for (int i = 0; i < count && http->multi; i++)
	{
		int			what = 0;

		if (events[i].events & EPOLLIN)
			what |= CURL_CSELECT_IN;
		if (events[i].events & EPOLLOUT)
			what |= CURL_CSELECT_OUT;
		if (events[i].events & (EPOLLERR | EPOLLHUP))
			what |= CURL_CSELECT_ERR;
		drive_multi(http, events[i].data.fd, what);
	}
}

static bool
timer_is_due(const OeHttp *http)
{
	return http->multi && http->deadline_us != NO_DEADLINE &&
		http->deadline_us <= now_us();
}

static void
run_timer(OeHttp *http)
{
	if (!timer_is_due(http))
		return;
	/* Clear it first: libcurl sets the next one before it returns. */
	http->deadline_us = NO_DEADLINE;
	drive_multi(http, CURL_SOCKET_TIMEOUT, 0);
}

void
oe_http_run(OeHttp *http)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	sigset_t	saved;
	int			count;

	/* Further descriptors are still readable at the next call. */
	count = epoll_wait(http->epoll_fd, events, EVENTS_AT_ONCE, 0);
	if (count <= 0 && !timer_is_due(http))
		return;
	block_signals(&saved);
	run_sockets(http, events, count);
	run_timer(http);
	if (http->multi)
		finish_transfers(http);
	restore_signals(&saved);
}

OeHttpReply *
oe_http_next_reply(OeHttp *http)
{
	Reply	   *reply = http->first_reply;

	if (!reply)
		return NULL;
	http->first_reply = reply->next;
	if (!http->first_reply)
		http->last_reply = NULL;
	http->in_flight--;
	return &reply->public;
}

void
oe_http_reply_free(OeHttpReply *reply)
{
	free_reply((Reply *) reply);
}

int
oe_http_in_flight(const OeHttp *http)
{
	return http->in_flight;
}

int
oe_http_open_sockets(const OeHttp *http)
{
	return http->open_sockets;
}

static bool
is_loopback(const char *host)
{
	struct in_addr v4;
	struct in6_addr v6;
	char		bare[INET6_ADDRSTRLEN];
	size_t		len = strlen(host);

	if (strcasecmp(host, "localhost") == 0)
		return true;
	if (inet_pton(AF_INET, host, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;

	/* A literal IPv6 address stands in brackets. */
	if (len < 2 || host[0] != '[' || len - 2 >= sizeof(bare))
		return false;
	memcpy(bare, host + 1, len - 2);
	bare[len - 2] = '\0';
	return inet_pton(AF_INET6, bare, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* "scheme://" and a host: libcurl would also take one slash, or three. */
static bool
has_host_after_scheme(const char *url, const char *scheme)
{
	const char *rest = url + strlen(scheme);

	return strncmp(rest, "://", 3) == 0 && rest[3] != '/' && rest[3] != '\0';
}

typedef struct UrlParts
{
	char	   *scheme;			/* in lower case */
	char	   *host;
	char	   *user;			/* NULL: none, as all below */
	char	   *password;
} UrlParts;

static CURLUcode
split_url(const char *url, CURLU *parsed, UrlParts *parts)
{
	CURLUcode	code = curl_url_set(parsed, CURLUPART_URL, url, 0);

	if (code == CURLUE_OK)
		code = curl_url_get(parsed, CURLUPART_SCHEME, &parts->scheme, 0);
	if (code == CURLUE_OK)
		code = curl_url_get(parsed, CURLUPART_HOST, &parts->host, 0);
	if (code == CURLUE_OK)
		code = curl_url_get(parsed, CURLUPART_USER, &parts->user, 0);
	if (code == CURLUE_OK || code == CURLUE_NO_USER)
		code = curl_url_get(parsed, CURLUPART_PASSWORD, &parts->password, 0);
	return code == CURLUE_NO_PASSWORD ? CURLUE_OK : code;
}

static void
free_url_parts(UrlParts *parts)
{
	curl_free(parts->scheme);
	curl_free(parts->host);
	curl_free(parts->user);
	wipe(parts->password);
	curl_free(parts->password);
}

/* What is wrong with "url", or NULL.  No part of it is quoted: it may be secret. */
static const char *
url_fault(const char *url, const UrlParts *parts)
{
	bool		https = strcmp(parts->scheme, "https") == 0;

	if (!https && strcmp(parts->scheme, "http") != 0)
		return "the API URL must begin with https://";
	if (!has_host_after_scheme(url, parts->scheme))
		return "the API URL has no host";
	if (parts->user || parts->password)
		return "the API URL must not contain a user or password";
	if (strpbrk(url, "?#"))
		return "the API URL must not contain a query or fragment";
	if (!https && !is_loopback(parts->host))
		return "the API URL must begin with https://, unless it names a loopback address";
	return NULL;
}

static bool
parse_and_judge_url(const char *url, CURLU *parsed, OeError *error)
{
	UrlParts	parts = {0};
	CURLUcode	code = split_url(url, parsed, &parts);
	const char *fault = NULL;

	if (code == CURLUE_OK)
		fault = url_fault(url, &parts);
	else if (code == CURLUE_NO_HOST)
		fault = "the API URL has no host";
	else if (code != CURLUE_OUT_OF_MEMORY)
		fault = "the API URL is not a valid URL";
	free_url_parts(&parts);

	if (code == CURLUE_OUT_OF_MEMORY)
		oe_error_set(error, OE_OUT_OF_MEMORY, "out of memory");
	else if (fault)
		oe_error_set(error, OE_BAD_SETTING, "%s", fault);
	return code == CURLUE_OK && !fault;
}

static void
trim_slashes(char *url)
{
	size_t		len = strlen(url);

	while (len > 0 && url[len - 1] == '/')
		url[--len] = '\0';
}

/*
 * Use one spelling for all: scheme and host in lower case, no default port, no
 * slash at the end, and without the version that the paths of the endpoints begin
 * with.  NULL if out of memory.
 */
static char *
normal_url(CURLU *parsed)
{
	char	   *text;
	char	   *normal;
	size_t		len;

	if (curl_url_get(parsed, CURLUPART_URL, &text, CURLU_NO_DEFAULT_PORT) != CURLUE_OK)
		return NULL;
	normal = strdup(text);
	curl_free(text);
	if (normal == NULL)
		return NULL;
	for (char *c = strstr(normal, "://") + 3; *c != '\0' && *c != '/'; c++)
	{
		if (*c >= 'A' && *c <= 'Z')
			*c += 'a' - 'A';
	}
	trim_slashes(normal);
	len = strlen(normal);
	if (len > strlen(PATH_VERSION) &&
		strcmp(normal + len - strlen(PATH_VERSION), PATH_VERSION) == 0)
		normal[len - strlen(PATH_VERSION)] = '\0';
	trim_slashes(normal);
	return normal;
}

static char *
check_and_normalise_url(const char *url, CURLU *parsed, OeError *error)
{
	char	   *normal;

	if (!parse_and_judge_url(url, parsed, error))
		return NULL;
	normal = normal_url(parsed);
	if (normal == NULL)
		oe_error_set(error, OE_OUT_OF_MEMORY, "out of memory");
	return normal;
}

char *
oe_http_base_url(const char *url, OeError *error)
{
	CURLU	   *parsed;
	char	   *normal;

	if (has_control_character(url))
	{
		oe_error_set(error, OE_BAD_SETTING,
					 "the API URL contains a control character");
		return NULL;
	}
	parsed = curl_url();
	if (!parsed)
	{
		oe_error_set(error, OE_OUT_OF_MEMORY, "out of memory");
		return NULL;
	}
	normal = check_and_normalise_url(url, parsed, error);
	curl_url_cleanup(parsed);
	return normal;
}
