/*
 * settings.c
 *		The settings, their checks, and the fields of a call that they fill.
 */
#include "postgres.h"

#include <limits.h>

#include "datatype/timestamp.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "core/http.h"
#include "core/request.h"
#include "base/compat.h"
#include "base/text.h"
#include "shared/settings.h"
#include "shared/token.h"

/* The prefix of a secret that is given by its digest. */
#define DIGEST_PREFIX		"sha256:"

#define WEBHOOK_URL_MAX_BYTES	2000

typedef enum TokenIn
{
	TOKEN_IN_HEADER,
	TOKEN_IN_QUERY,
} TokenIn;

static const struct config_enum_entry not_found_options[] = {
	{"error", OE_NOT_FOUND_ERROR, false},
	{"null", OE_NOT_FOUND_NULL, false},
	/* SET takes it without quotation marks. */
	{"nothing", OE_NOT_FOUND_NULL, false},
	{NULL, 0, false}
};

static const struct config_enum_entry unknown_keys_options[] = {
	{"error", OE_UNKNOWN_KEYS_ERROR, false},
	{"pass", OE_UNKNOWN_KEYS_PASS, false},
	{NULL, 0, false}
};

static const struct config_enum_entry equal_options[] = {
	{"canonical", OE_EQUAL_CANONICAL, false},
	{"exact", OE_EQUAL_EXACT, false},
	{NULL, 0, false}
};

static const struct config_enum_entry token_in_options[] = {
	{"header", TOKEN_IN_HEADER, false},
	{"query", TOKEN_IN_QUERY, false},
	{NULL, 0, false}
};

static OeSettings settings;		/* the defaults come with the definitions */
static char *api_token;
static char *api_token_file;
static int	token_in = TOKEN_IN_HEADER;
static char *api_url;
static char *ca_file;
static char *proxy;
static int	connect_timeout_ms;
static int	request_timeout_ms;
static int	max_retries;
static int	retry_wait_max_ms;
static int	max_concurrency;
static int	rate_limit;
static int	daily_limit;
static char *credit_limit;
static char *credits_per_call;
static int	gathering_wait_ms;
static int	gathering_retries;
static int	queue_retries;
static char *credits_per_email;
static char *credits_per_phone;
static char *webhook_secret;
static char *webhook_url;
static char *placeholders;

/* The same, as NUL-terminated strings one after the other, and then an empty one. */
static const char *placeholder_list = "";

static bool
has_control_character(const char *text)
{
	for (; *text; text++)
	{
		if ((unsigned char) *text < 0x20 || *text == 0x7f)
			return true;
	}
	return false;
}

/*
 * Our errors do not quote values that may be secret: a refused token is most
 * likely one that was mistyped, and a refused URL or proxy may contain a
 * password.
 */
static bool
check_token(char **newval, void **extra, GucSource source)
{
	const char *copied = oe_token_copied_with(*newval);

	if (strlen(*newval) > OE_TOKEN_MAX_BYTES)
	{
		GUC_check_errmsg("invalid value for parameter \"ocean_enrich.api_token\"");
		GUC_check_errdetail("A token can have at most %d bytes.", OE_TOKEN_MAX_BYTES);
		return false;
	}
	if (copied)
	{
		GUC_check_errmsg("invalid value for parameter \"ocean_enrich.api_token\"");
		GUC_check_errdetail("%s", copied);
		return false;
	}
	for (const char *c = *newval; *c; c++)
	{
		if (*c <= ' ' || *c > '~')
		{
			GUC_check_errmsg("invalid value for parameter \"ocean_enrich.api_token\"");
			GUC_check_errdetail("A token must consist of printable ASCII characters other than spaces.");
			return false;
		}
	}
	return true;
}

#define SECRET_BLANKS		" \t\r\n"

/*
 * The next of several secrets, separated by commas, without the blanks around it.
 * Returns NULL after the last one.
 */
static const char *
next_secret(const char **list, Size *len)
{
	const char *secret = *list;

	if (!secret)
		return NULL;
	*len = strcspn(secret, ",");
	*list = secret[*len] == ',' ? secret + *len + 1 : NULL;
	for (; *len > 0 && strchr(SECRET_BLANKS, secret[0]); (*len)--)
		secret++;
	while (*len > 0 && strchr(SECRET_BLANKS, secret[*len - 1]))
		(*len)--;
	return secret;
}

/* The digits after the prefix, or NULL if the secret is no digest. */
static const char *
hex_of_digest(const char *secret, Size len)
{
	Size		prefix = strlen(DIGEST_PREFIX);

	return len >= prefix && memcmp(secret, DIGEST_PREFIX, prefix) == 0
		? secret + prefix : NULL;
}

static bool
is_secret(const char *secret, Size len)
{
	const char *hex = hex_of_digest(secret, len);

	if (!hex)
		return len > 0;
	return len == strlen(DIGEST_PREFIX) + 2 * OE_FINGERPRINT_BYTES &&
		strspn(hex, "0123456789abcdefABCDEF") >= 2 * OE_FINGERPRINT_BYTES;
}

static bool
check_secret(char **newval, void **extra, GucSource source)
{
	const char *list = **newval == '\0' ? NULL : *newval;
	const char *secret;
	Size		len;

	while ((secret = next_secret(&list, &len)) != NULL)
	{
		if (is_secret(secret, len))
			continue;
		GUC_check_errmsg("invalid value for parameter \"ocean_enrich.webhook_secret\"");
		if (len == 0)
			GUC_check_errdetail("A secret between commas is empty.");
		else
			GUC_check_errdetail("\"%s\" must be followed by %d hexadecimal digits.",
								DIGEST_PREFIX, 2 * OE_FINGERPRINT_BYTES);
		return false;
	}
	return true;
}

static bool
check_placeholders(char **newval, void **extra, GucSource source)
{
	char	   *copy = pstrdup(*newval);
	List	   *elements;
	char	   *list;
	ListCell   *lc;

	if (!SplitGUCList(copy, ',', &elements))
	{
		GUC_check_errdetail("List syntax is invalid.");
		return false;
	}
	/* Not longer than the text, with a separator after the last one. */
	list = guc_malloc(LOG, strlen(*newval) + 2);
	if (!list)
		return false;
	*extra = list;
	foreach(lc, elements)
	{
		/* An empty value is left out without being named. */
		if (*(const char *) lfirst(lc))
			list = stpcpy(list, lfirst(lc)) + 1;
	}
	*list = '\0';
	list_free(elements);
	pfree(copy);
	return true;
}

static void
assign_placeholders(const char *newval, void *extra)
{
	placeholder_list = extra;
}

static bool
check_webhook_url(char **newval, void **extra, GucSource source)
{
	const char *url = *newval;
	const char *host = pg_strncasecmp(url, "https://", 8) == 0 ? url + 8
		: pg_strncasecmp(url, "http://", 7) == 0 ? url + 7 : "";
	bool		is_printable = true;

	for (const char *c = url; *c; c++)
		is_printable &= *c > ' ' && *c <= '~';
	if (url[0] == '\0' || (host[0] != '\0' && is_printable &&
						   strlen(url) <= WEBHOOK_URL_MAX_BYTES))
		return true;
	GUC_check_errmsg("invalid value for parameter \"ocean_enrich.webhook_url\"");
	GUC_check_errdetail("The value must be an https or http URL of printable ASCII characters other "
						"than spaces, with at most %d bytes.", WEBHOOK_URL_MAX_BYTES);
	return false;
}

/* Kept in its one spelling, since it identifies an account. */
static bool
check_url(char **newval, void **extra, GucSource source)
{
	OeError		error = {0};
	char	   *base = oe_http_base_url(*newval, &error);
	char	   *kept;

	if (!base)
	{
		GUC_check_errmsg("invalid value for parameter \"ocean_enrich.api_url\": %s",
						 error.message ? error.message : "out of memory");
		if (error.hint)
			GUC_check_errhint("%s", error.hint);
		oe_error_free(&error);
		return false;
	}
	kept = guc_strdup(LOG, base);
	free(base);
	if (!kept)
		return false;
	guc_free(*newval);
	*newval = kept;
	return true;
}

static bool
check_file(char **newval, void **extra, GucSource source)
{
	if (!has_control_character(*newval))
		return true;
	GUC_check_errdetail("The file name contains a control character.");
	return false;
}

static bool
check_proxy(char **newval, void **extra, GucSource source)
{
	if (!has_control_character(*newval))
		return true;
	GUC_check_errmsg("invalid value for parameter \"ocean_enrich.proxy\"");
	GUC_check_errdetail("The value contains a control character.");
	return false;
}

static bool
check_credits(char **newval, void **extra, GucSource source)
{
	OeCredits	credits;

	if (oe_credits_parse(*newval, &credits))
		return true;
	GUC_check_errdetail("The value must be a decimal number from 0 to %lld, such as 3 or 0.1.",
						(long long) (OE_CREDITS_MAX / OE_CREDITS_ONE));
	return false;
}

/* The check hook has made sure that the value parses. */
static OeCredits
credits_setting(const char *text)
{
	OeCredits	credits = 0;

	if (!oe_credits_parse(text, &credits))
		elog(ERROR, "unexpected credits setting");
	return credits;
}

static void
define_account_settings(void)
{
	DefineCustomStringVariable("ocean_enrich.api_token",
							   "Sets the token of the Ocean.io API.",
							   "Prefer \"ocean_enrich.api_token_file\": until the library is "
							   "loaded, every user can see a value set in postgresql.conf.",
							   &api_token, "", PGC_SUSET,
							   GUC_SUPERUSER_ONLY | GUC_NOT_IN_SAMPLE,
							   check_token, NULL, NULL);
	DefineCustomStringVariable("ocean_enrich.api_token_file",
							   "Sets the file that contains the token of the Ocean.io API.",
							   "The file must be owned by the database user or root and must not "
							   "be accessible to others. \"ocean_enrich.api_token\" takes precedence.",
							   &api_token_file, "", PGC_SUSET,
							   GUC_SUPERUSER_ONLY,
							   check_file, NULL, NULL);
	DefineCustomEnumVariable("ocean_enrich.token_in",
							 "Selects where a request carries the token.",
							 "\"header\" means x-api-token; \"query\" means apiToken in the URL, "
							 "which proxies and servers write to their logs.",
							 &token_in, TOKEN_IN_HEADER, token_in_options,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("ocean_enrich.api_url",
							   "Sets the base URL of the API.",
							   "Must be an https URL, or an http URL with a loopback address.",
							   &api_url, "https://api.ocean.io", PGC_SUSET, 0,
							   check_url, NULL, NULL);
	DefineCustomStringVariable("ocean_enrich.ca_file",
							   "Sets the file with the certificates (PEM) that verify the API's certificate.",
							   "If empty, the certificates of the system are used.",
							   &ca_file, "", PGC_SUSET, 0,
							   check_file, NULL, NULL);
	DefineCustomStringVariable("ocean_enrich.proxy",
							   "Sets the proxy for requests to the API.",
							   "If empty, no proxy is used; environment variables are ignored.",
							   &proxy, "", PGC_SUSET, GUC_SUPERUSER_ONLY,
							   check_proxy, NULL, NULL);
}

static void
define_limit_settings(void)
{
	DefineCustomIntVariable("ocean_enrich.max_concurrency",
							"Sets the maximum number of requests per account on the wire at the same time.",
							NULL, &max_concurrency, 64, 1, 1024,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("ocean_enrich.rate_limit",
							"Sets the maximum number of requests per account in any 60 seconds.",
							"0 means no limit.", &rate_limit, 60, 0, OE_RATE_LIMIT_MAX,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("ocean_enrich.daily_limit",
							"Sets the maximum number of requests per account and day (UTC).",
							"0 means no limit.", &daily_limit, 1000, 0, INT_MAX,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("ocean_enrich.credit_limit",
							   "Sets the maximum number of credits spent per account and day (UTC).",
							   "A decimal number. 0 means no limit.",
							   &credit_limit, "0", PGC_SUSET, 0,
							   check_credits, NULL, NULL);
	DefineCustomStringVariable("ocean_enrich.credits_per_call",
							   "Sets the cost of an enriched person when the API does not report it.",
							   "A decimal number of credits.",
							   &credits_per_call, "3", PGC_SUSET, 0,
							   check_credits, NULL, NULL);
	DefineCustomStringVariable("ocean_enrich.credits_per_email",
							   "Sets the cost of a revealed e-mail address when the API does not report it.",
							   "A decimal number of credits.",
							   &credits_per_email, "1", PGC_SUSET, 0,
							   check_credits, NULL, NULL);
	DefineCustomStringVariable("ocean_enrich.credits_per_phone",
							   "Sets the cost of a revealed phone number when the API does not report it.",
							   "A decimal number of credits.",
							   &credits_per_phone, "10", PGC_SUSET, 0,
							   check_credits, NULL, NULL);
	DefineCustomIntVariable("ocean_enrich.max_retries",
							"Sets how many times a request that was certainly not processed is sent again.",
							"A request that may have been paid for is never sent again.",
							&max_retries, 3, 0, 20,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("ocean_enrich.retry_wait_max",
							"Sets the maximum time to wait before a request is sent again.",
							"If the API asks for a longer pause, the call fails at once.",
							&retry_wait_max_ms, 60 * 1000, 0, OE_RETRY_WAIT_MAX_MS,
							PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
}

static void
define_call_settings(void)
{
	DefineCustomIntVariable("ocean_enrich.connect_timeout",
							"Sets the maximum time to wait for a connection to the API.",
							NULL, &connect_timeout_ms, 10 * 1000, 1, 10 * 60 * 1000,
							PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("ocean_enrich.request_timeout",
							"Sets the maximum time to wait for the complete answer to a request.",
							"After that it is unknown whether the request was paid for.",
							&request_timeout_ms, 60 * 1000, 1, 60 * 60 * 1000,
							PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("ocean_enrich.concurrency",
							"Sets the number of requests that a statement keeps in flight.",
							"1 means one after another. The limits of the account apply in any case.",
							&settings.concurrency, 16, 1, 1024,
							PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("ocean_enrich.reuse_for",
							"Sets how long an answer is reused for equal requests.",
							"0 means never.", &settings.reuse_for_s, 30 * 24 * 60 * 60, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("ocean_enrich.reuse_not_found_for",
							"Sets how long the answer that there is no such person is reused for equal requests.",
							"0 means never; not longer than ocean_enrich.reuse_for in any case.",
							&settings.reuse_not_found_for_s, 24 * 60 * 60, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomEnumVariable("ocean_enrich.not_found",
							 "Selects what ocean_enrich_person() does when the API does not know the person.",
							 NULL, &settings.not_found, OE_NOT_FOUND_ERROR, not_found_options,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("ocean_enrich.unknown_keys",
							 "Selects what happens to request keys that the API is not known to accept.",
							 NULL, &settings.unknown_keys, OE_UNKNOWN_KEYS_ERROR, unknown_keys_options,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("ocean_enrich.equal",
							 "Selects which requests are equal, so that only the first of them is paid for.",
							 "\"canonical\" means that letter case, blanks, and the forms of URLs, "
							 "domains and phone numbers do not count; \"exact\" means that they do.",
							 &settings.equal, OE_EQUAL_CANONICAL, equal_options,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("ocean_enrich.placeholders",
							   "Sets the values that ocean_person_request() leaves out as it does NULL.",
							   "A list separated by commas. Letter case counts, blanks around a value do not.",
							   &placeholders,
							   "N/A, n/a, #N/A, #n/a, -, ., null, NULL, none, None, unknown, Unknown",
							   PGC_USERSET, GUC_LIST_INPUT,
							   check_placeholders, assign_placeholders, NULL);
}

static void
define_data_settings(void)
{
	DefineCustomStringVariable("ocean_enrich.webhook_secret",
							   "Sets the secrets of which the URL of a webhook must carry one.",
							   "Each is the secret itself, or \"sha256:\" followed by its SHA-256 in "
							   "hexadecimal digits. They are separated by commas.",
							   &webhook_secret, "", PGC_SUSET,
							   GUC_SUPERUSER_ONLY | GUC_NOT_IN_SAMPLE,
							   check_secret, NULL, NULL);
	DefineCustomStringVariable("ocean_enrich.webhook_url",
							   "Sets the URL to which the API sends what is revealed by webhook.",
							   "It is used for requests that ask for a webhook without naming a URL.",
							   &webhook_url, "", PGC_SUSET,
							   GUC_SUPERUSER_ONLY | GUC_NOT_IN_SAMPLE,
							   check_webhook_url, NULL, NULL);
	DefineCustomIntVariable("ocean_enrich.retention",
							"Sets how long the ledger keeps the people of its calls.",
							"0 means forever. The receipts are kept in any case.",
							&settings.retention_s, 0, 0, INT_MAX,
							PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
}

static void
define_worker_settings(void)
{
	DefineCustomBoolVariable("ocean_enrich.record_before_send",
							 "Commits a request to the ledger before it is sent.",
							 "If off, a crash leaves no trace of the requests that were on the wire.",
							 &settings.record_before_send, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("ocean_enrich.worker_idle_timeout",
							"Sets how long the worker stays when there is nothing to do.",
							NULL, &settings.worker_idle_timeout_s, 60, 1, 24 * 60 * 60,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
}

static void
define_queue_settings(void)
{
	DefineCustomBoolVariable("ocean_enrich.queue_enabled",
							 "Enables sending queued requests.",
							 "If off, requests can still be queued, and those on the wire are completed.",
							 &settings.queue_enabled, true,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("ocean_enrich.gathering_wait",
							"Sets how long a queued request waits after its first answer with HTTP status 201.",
							"The wait doubles with each further one.",
							&gathering_wait_ms, 2 * 60 * 1000, 1, 24 * 60 * 60 * 1000,
							PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("ocean_enrich.gathering_retries",
							"Sets how many times a queued request is sent again after HTTP status 201.",
							"0 means that the request is refused at once.",
							&gathering_retries, 8, 0, 100,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("ocean_enrich.queue_retries",
							"Sets how many times a queued request is sent again after HTTP status 502, 503 or the like.",
							"In between it waits as long as the queue does when the API cannot be reached.",
							&queue_retries, 20, 0, 1000,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("ocean_enrich.balance_interval",
							"Sets the time between requests for the balance while the queue waits "
							"for credits or access.",
							NULL, &settings.balance_interval_s, 60, 1, 24 * 60 * 60,
							PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
}

const OeSettings *
oe_settings(void)
{
	return &settings;
}

bool
oe_is_placeholder(const char *text, Size len)
{
	for (const char *value = placeholder_list; *value; value += strlen(value) + 1)
	{
		if (strlen(value) == len && memcmp(value, text, len) == 0)
			return true;
	}
	return false;
}

bool
oe_not_found_parse(const char *name, OeNotFound *not_found)
{
	for (const struct config_enum_entry *entry = not_found_options; entry->name; entry++)
	{
		if (pg_strcasecmp(entry->name, name) == 0)
		{
			*not_found = entry->val;
			return true;
		}
	}
	return false;
}

void
oe_settings_patience(OePatience *patience)
{
	patience->gathering_wait_ms = gathering_wait_ms;
	patience->gathering_retries = gathering_retries;
	patience->retries = queue_retries;
	patience->retry_wait_max_ms = retry_wait_max_ms;
}

void
oe_settings_define(void)
{
	define_account_settings();
	define_limit_settings();
	define_call_settings();
	define_queue_settings();
	define_data_settings();
	define_worker_settings();
	MarkGUCPrefixReserved("ocean_enrich");
}

OeDigest *
oe_webhook_secret_digests(int *count)
{
	const char *list = webhook_secret[0] == '\0' ? NULL : webhook_secret;
	OeDigest   *digests = palloc((strlen(webhook_secret) + 1) * sizeof(OeDigest));
	const char *secret;
	Size		len;

	*count = 0;
	while ((secret = next_secret(&list, &len)) != NULL)
	{
		const char *hex = hex_of_digest(secret, len);

		if (hex)
			(void) hex_decode(hex, 2 * OE_FINGERPRINT_BYTES, (char *) digests[*count].bytes);
		else
			oe_sha256(secret, len, digests[*count].bytes);
		(*count)++;
	}
	return digests;
}

bool
oe_has_webhook_url(void)
{
	return webhook_url[0] != '\0';
}

/* The account to charge: a token at a URL.  The digest reveals neither. */
static void
digest_account(const char *url, const char *token,
			   char account[OE_ACCOUNT_CHARS + 1])
{
	uint8		digest[OE_FINGERPRINT_BYTES];
	char	   *both = psprintf("%s\n%s", url, token);

	oe_sha256(both, strlen(both), digest);
	explicit_bzero(both, strlen(both));
	pfree(both);
	hex_encode((const char *) digest, OE_ACCOUNT_CHARS / 2, account);
	account[OE_ACCOUNT_CHARS] = '\0';
}

/* The check hook has made sure that the value parses. */
static OeCredits
credits_of(const char *setting)
{
	return credits_setting(GetConfigOption(setting, false, false));
}

void
oe_settings_set_endpoint(const OeEndpoint *endpoint, OeCall *call)
{
	OeLimits   *limits = &call->limits;

	call->endpoint = endpoint;
	for (Size i = 0; i < OE_PRICES_MAX; i++)
		limits->prices[i] = i < endpoint->price_count
			? credits_of(endpoint->prices[i].setting) : 0;
	/* Extras have to be asked for. */
	memset(limits->in_answer, 0, sizeof(limits->in_answer));
	limits->in_answer[0] = endpoint->price_count > 0;
}

void
oe_settings_fill(const OeEndpoint *endpoint, OeCall *call)
{
	call->base_url = api_url;
	call->token = oe_token(api_token, api_token_file);
	digest_account(call->base_url, call->token, call->account);
	call->token_in_query = token_in == TOKEN_IN_QUERY;
	call->ca_file = ca_file[0] != '\0' ? ca_file : NULL;
	call->proxy = proxy[0] != '\0' ? proxy : NULL;
	call->webhook_url = webhook_url[0] != '\0' ? webhook_url : NULL;
	call->connect_timeout_ms = connect_timeout_ms;
	call->request_timeout_ms = request_timeout_ms;
	call->reuse_for_us = (int64) settings.reuse_for_s * USECS_PER_SEC;
	call->reuse_not_found_for_us = (int64) Min(settings.reuse_not_found_for_s,
											   settings.reuse_for_s) * USECS_PER_SEC;
	call->limits.max_concurrency = max_concurrency;
	call->limits.rate_limit = rate_limit;
	call->limits.daily_limit = daily_limit;
	call->limits.credit_limit = credits_setting(credit_limit);
	call->limits.max_retries = max_retries;
	call->limits.retry_wait_max_ms = retry_wait_max_ms;
	oe_settings_set_endpoint(endpoint, call);
}
