/*
 * webhooks.h
 *		Delivers webhooks: a POST to a server on this machine, repeated with
 *		growing waits until the answer is a 2xx, in as many copies as configured.
 */
#ifndef SB_WEBHOOKS_H
#define SB_WEBHOOKS_H

#include "api.h"
#include "loop.h"

typedef struct SbWebhooks SbWebhooks;

/* Deliver the webhooks of "api".  It and "loop" must stay valid. */
extern SbWebhooks *sb_webhooks_start(SbApi *api, SbLoop *loop);

/* Drop the webhooks that are not delivered yet. */
extern void sb_webhooks_stop(SbWebhooks *webhooks);

#endif							/* SB_WEBHOOKS_H */
