/*
 * settings.h
 *		The settings, all named ocean_enrich.*, and the token.
 *
 * An ordinary role chooses how its own calls are answered (USERSET); the
 * destination of requests, the token, and the spending limits are for
 * superusers and for roles that were granted SET on the parameter (SUSET);
 * settings of the worker, which serves all, are in the server's configuration
 * (SIGHUP).
 */
#ifndef OE_SETTINGS_H
#define OE_SETTINGS_H

#include "shared/message.h"

typedef enum OeNotFound
{
	OE_NOT_FOUND_ERROR,
	OE_NOT_FOUND_NULL,
} OeNotFound;

typedef enum OeUnknownKeys
{
	OE_UNKNOWN_KEYS_ERROR,
	OE_UNKNOWN_KEYS_PASS,
} OeUnknownKeys;

/* The settings that are read where they count; the others go with each call. */
typedef struct OeSettings
{
	int			not_found;		/* OeNotFound */
	int			unknown_keys;	/* OeUnknownKeys */
	int			equal;			/* OeEquality */
	int			concurrency;
	int			reuse_for_s;
	int			reuse_not_found_for_s;

	/* Read by the worker alone. */
	bool		record_before_send;
	int			worker_idle_timeout_s;
	bool		queue_enabled;
	int			balance_interval_s;
	int			retention_s;	/* 0: without limit */
} OeSettings;

/* A value of ocean_enrich.not_found; false if there is none of that name. */
extern bool oe_not_found_parse(const char *name, OeNotFound *not_found);

/* Their current values; the pointer stays the same. */
extern const OeSettings *oe_settings(void);

/*
 * Is this text, without the blanks around it, one of those that stand for a missing
 * value?
 */
extern bool oe_is_placeholder(const char *text, Size len);

/* How patient the queue is, by the current settings. */
extern void oe_settings_patience(OePatience *patience);

/* Define them all; once, from _PG_init. */
extern void oe_settings_define(void);

/*
 * Fill everything of "call" that comes from settings: URL, token, account,
 * limits, times, and what the endpoint costs.  The strings live in the current
 * memory context.  Raises 28000 (invalid_authorization_specification) when there
 * is no usable token.
 */
extern void oe_settings_fill(const OeEndpoint *endpoint, OeCall *call);

/* Set the fields that depend on the endpoint, for a call of another one. */
extern void oe_settings_set_endpoint(const OeEndpoint *endpoint, OeCall *call);

typedef struct OeDigest
{
	uint8		bytes[OE_FINGERPRINT_BYTES];
} OeDigest;

/*
 * The SHA-256 of each secret in ocean_enrich.webhook_secret, palloc'd; their number in
 * *count, 0 if it is not set.
 */
extern OeDigest *oe_webhook_secret_digests(int *count);

/* True if ocean_enrich.webhook_url is set. */
extern bool oe_has_webhook_url(void);

#endif							/* OE_SETTINGS_H */
