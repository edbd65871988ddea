/*
 * webhooks.h
 *		Delivers webhooks: a POST to a server on this machine, again with growing
 *		waits until it is taken with a 2xx, and as often as configured.
 */
#ifndef SB_WEBHOOKS_H
#define SB_WEBHOOKS_H

#include "api.h"
#include "loop.h"

typedef struct SbWebhooks SbWebhooks;

/* What "api" has to tell from now on is delivered.  Both must stay. */
extern SbWebhooks *sb_webhooks_start(SbApi *api, SbLoop *loop);

/* Forget what was not delivered. */
extern void sb_webhooks_stop(SbWebhooks *webhooks);

#endif							/* SB_WEBHOOKS_H */
