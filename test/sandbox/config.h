/*
 * config.h
 *		The settings that can change while the sandbox runs, as a struct and as
 *		JSON.
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
	SbAmount	credits;		/* credits left; SB_NOT_SET: unlimited */
	SbAmount	cost;
	bool		credits_used;	/* answers have "creditsUsed" */
	bool		newer_keys;		/* and the keys of the newer documentation */
	int			rate_limit;		/* requests in a window; 0: none */
	int			rate_window_ms;
	char		rate_window_kind[16];	/* "sliding" or "fixed" */
	int			retry_after_s;	/* SB_NOT_SET: the true time */
	int			down;			/* the status of every answer, or SB_NOT_SET */
	char		fault[64];		/* for requests that name none; "" if none */
	double		fault_probability;
	int			seed;
	char		redirect_to[1024];
	bool		identical_tokens_conflict;
	int			keepalive_requests; /* per connection; 0: no limit */
	int			emails_status;	/* if e-mail addresses are requested */
	int			phones_status;
	bool		hold;
	SbAmount	email_cost;		/* of a revealed address */
	SbAmount	phone_cost;
	char		webhook_form[16];	/* of the payloads */
	int			webhook_delay_ms;
	int			webhook_retry_ms;	/* the first wait after a failure */
	int			webhook_copies; /* deliveries of each webhook */
	bool		hold_answers;
	int			balance_status; /* of every balance, or SB_NOT_SET */
	char		balance_changes[1024];	/* a JSON object; see sb_api_balance() */

	/* one-time commands, reset by the code that carries them out */
	SbAmount	add_credits;
	int			release;		/* number of held requests to let go */
	bool		close_idle;
} SbConfig;

extern void sb_config_init(SbConfig *config);

/*
 * Apply "change", a JSON object, as a whole.  If it has an unknown key or a bad
 * value, change nothing, describe it in "problem" and return false.
 */
extern bool sb_config_change(SbConfig *config, struct json_object *change,
							 char problem[SB_PROBLEM_CHARS]);

/* The configuration as a new JSON object. */
extern struct json_object *sb_config_json(const SbConfig *config);

#endif							/* SB_CONFIG_H */
