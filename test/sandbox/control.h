/*
 * control.h
 *		The endpoints below /sandbox: the configuration, the books, and the
 *		conditions a test may wait for.  It uses no sockets.
 */
#ifndef SB_CONTROL_H
#define SB_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api.h"
#include "reply.h"

typedef struct SbControlRequest
{
	const char *method;
	const char *path;
	const char *body;
	size_t		body_len;

	/* the value of a query parameter, or NULL */
	const char *(*parameter) (void *arg, const char *name);
	void	   *arg;
} SbControlRequest;

/* The condition of GET /sandbox/wait: at least this many of each. */
typedef struct SbWait
{
	uint64_t	requests;
	uint64_t	held;
	uint64_t	in_flight;
	uint64_t	charges;
	uint64_t	balances;
	uint64_t	webhooks;
	uint64_t	webhook_failures;
	bool		idle;			/* nothing in flight */
	int			timeout_ms;
} SbWait;

#define SB_CONTROL_WAIT	"/sandbox/wait"

/* Handle any control request but GET /sandbox/wait. */
extern void sb_control(SbApi *api, const SbControlRequest *request,
					   SbReply *reply);

/* False, with "reply" filled in, if the request is invalid. */
extern bool sb_wait_parse(const SbControlRequest *request, SbWait *wait,
						  SbReply *reply);
extern bool sb_wait_reached(const SbWait *wait, const SbBooks *books);

/* Answer with "reached" and the books. */
extern void sb_wait_reply(bool reached, const SbBooks *books, SbReply *reply);

#endif							/* SB_CONTROL_H */
