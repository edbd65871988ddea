/*
 * wire.c
 *		The jobs that are with libcurl: sends them, and collects the replies.
 */
#include "postgres.h"

#include "access/xact.h"
#include "storage/fd.h"
#include "utils/timestamp.h"

#include "core/http.h"
#include "core/request.h"
#include "base/errors.h"
#include "shared/request_body.h"
#include "worker/admission.h"
#include "worker/verdict.h"
#include "worker/wire.h"

static OeHttp *http;
static int	reserved_fds;
static int	in_flight_of_queue;

void
oe_wire_init(void)
{
	if (!oe_http_global_init() ||
		(http = oe_http_new(OE_ANSWER_MAX_BYTES)) == NULL)
		oe_ereport_out_of_memory();
	ReserveExternalFD();		/* libcurl's epoll descriptor */
}

/*
 * Sockets count against the server's limit of open files.  We take the first
 * one in any case, or no request would ever go.
 */
bool
oe_wire_reserve(int on_wire)
{
	if (on_wire < reserved_fds)
		return true;
	if (reserved_fds == 0)
		ReserveExternalFD();
	else if (!AcquireExternalFD())
		return false;
	reserved_fds++;
	oe_http_keep_connections(http, reserved_fds);
	return true;
}

static void
end_unrecorded(OeJob *job)
{
	OeVerdict	verdict;

	StartTransactionCommand();
	MemoryContextSwitchTo(oe_turn_mcxt);
	oe_judge_reply(&job->call, job->reply, &verdict);
	if (job->call.endpoint == &oe_endpoint_balance)
		oe_admission_learn_balance(&job->call, &verdict.result);
	oe_job_settle(job, &verdict.result);
	CommitTransactionCommand();
	MemoryContextSwitchTo(oe_turn_mcxt);
	oe_job_deliver(job, InvalidXLogRecPtr);
}

/* Without a reply, the next turn records that the request was not sent. */
static void
end_job(OeJob *job)
{
	if (job->call.endpoint->recorded)
		oe_job_set_phase(job, OE_JOB_ENDED);
	else
		end_unrecorded(job);
}

/*
 * With the URL of the webhook, which the ledger does not have.  It is set if it is
 * needed.  The body has to be freed; NULL if out of memory.
 */
static char *
complete_body(const OeCall *call)
{
	if (!call->webhook_url || !oe_reveals_by_webhook(&call->reveals))
		return strdup(call->body);
	return oe_request_complete(call->endpoint, call->body, call->webhook_url);
}

static void
free_body(char *body)
{
	if (body)
		explicit_bzero(body, strlen(body));
	free(body);
}

static bool
submit(OeJob *job)
{
	OeHttpRequest request = {0};
	OeError		error = {0};
	char	   *body = NULL;
	bool		submitted;

	if (job->call.body && (body = complete_body(&job->call)) == NULL)
		return false;
	request.url = psprintf("%s%s", job->call.base_url, job->call.endpoint->path);
	request.token = job->call.token;
	request.token_in_query = job->call.token_in_query;
	request.ca_file = job->call.ca_file;
	request.proxy = job->call.proxy;
	request.body = body;
	request.body_len = body ? strlen(body) : 0;
	request.connect_timeout_ms = job->call.connect_timeout_ms;
	request.request_timeout_ms = job->call.request_timeout_ms;
	request.tag = job;
	submitted = oe_http_submit(http, &request, &error);
	oe_error_free(&error);
	free_body(body);
	return submitted;
}

void
oe_wire_send(OeJob *job)
{
	oe_job_set_phase(job, OE_JOB_ON_WIRE);
	if (submit(job))
	{
		in_flight_of_queue += job->background;
		return;
	}
	if (job->call.endpoint->recorded)
		oe_admission_learn(job, GetCurrentTimestamp());
	end_job(job);
}

/* The request may have been processed, so this answer does not count as one. */
static void
take_late_answer(OeHttpReply *reply)
{
	if (reply->result != OE_HTTP_COMPLETE ||
		!oe_policy_is_too_late(reply->status, reply->left_us_ago))
		return;
	reply->result = OE_HTTP_LOST;
	reply->problem = "a proxy lost the connection to the API";
}

void
oe_wire_run(void)
{
	oe_http_run(http);
}

void
oe_wire_collect(void)
{
	OeHttpReply *reply;
	TimestampTz now;

	oe_wire_run();
	now = GetCurrentTimestamp();
	while ((reply = oe_http_next_reply(http)) != NULL)
	{
		OeJob	   *job = reply->tag;

		job->reply = reply;
		in_flight_of_queue -= job->background;
		take_late_answer(reply);
		if (job->call.endpoint->recorded)
			oe_admission_learn(job, now);
		end_job(job);
	}
}

int
oe_wire_in_flight(void)
{
	return oe_http_in_flight(http);
}

int
oe_wire_in_flight_of_queue(void)
{
	return in_flight_of_queue;
}

int
oe_wire_fd(void)
{
	return oe_http_fd(http);
}

long
oe_wire_timeout_ms(void)
{
	return oe_http_timeout_ms(http);
}
