/*
 * config.h
 *		What can be set while the sandbox runs, as a struct and as JSON.
 */
#ifndef SB_CONFIG_H
#define SB_CONFIG_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

#include "amount.h"

#define SB_NOT_SET			(-1)	/* JSON null, in a number */
#define SB_PROBLEM_CHARS	200

typedef struct SbConfig
{
	int			latency_ms;
	int			latency_jitter_ms;
	SbAmount	credits;		/* what is left; SB_NOT_SET: unlimited */
	SbAmount	cost;
	bool		credits_used;	/* answers carry "creditsUsed" */
	bool		newer_keys;		/* and the keys of the newer documentation */
	int			rate_limit;		/* requests in any 60 seconds; 0: none */
	int			retry_after_s;	/* SB_NOT_SET: as long as it really takes */
	int			down;			/* the status of every answer, or SB_NOT_SET */
	char		fault[64];		/* for requests that name none; "" if none */
	double		fault_probability;
	int			seed;
	char		redirect_to[1024];
	bool		identical_tokens_conflict;
	int			keepalive_requests; /* per connection; 0: no end */
	bool		hold;
	SbAmount	email_cost;		/* for an address that is asked for */
	SbAmount	phone_cost;
	char		webhook_form[16];	/* what their payloads look like */
	int			webhook_delay_ms;
	int			webhook_retry_ms;	/* the first wait after a failure */
	int			webhook_copies; /* how often each is delivered */
	bool		hold_answers;
	int			balance_status; /* of every balance, or SB_NOT_SET */
	char		balance_changes[1024];	/* a JSON object; see sb_api_balance() */
	SbAmount	add_credits;	/* an order, reset by who obeys it ... */
	int			release;		/* ... held ones to let go; likewise ... */
	bool		close_idle;		/* ... and this */
} SbConfig;

extern void sb_config_init(SbConfig *config);

/*
 * Set what "change", a JSON object, says.  All of it or nothing: false when
 * there is an unknown key or a bad value, and "problem" says which.
 */
extern bool sb_config_change(SbConfig *config, struct json_object *change,
							 char problem[SB_PROBLEM_CHARS]);

/* The whole of it as a new JSON object. */
extern struct json_object *sb_config_json(const SbConfig *config);

#endif							/* SB_CONFIG_H */
