/*
 * log_secrets.c
 *		Keeps the values of secret settings out of the server's log.
 *
 * When a reload changes a setting, the postmaster logs the new value, even
 * that of a secret.  A library preloaded at server start runs there, too, and
 * shortens that message.
 *
 * The message is shortened in place.  elog.c says that a hook may turn the
 * message off and that changing anything else is not supported; but turning it
 * off would lose it altogether, and reporting another one while this one is
 * being handled could fail.  The text is a copy made for this message alone,
 * and does not grow; every log format, and the hooks after ours, read it
 * afterwards.
 *
 * The hook that was installed last runs first.  So a library listed after ours
 * in shared_preload_libraries sees the value before we do: list ours last.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/log_secrets.h"

/* The untranslated message of guc.c and guc-file.l. */
#define SETTING_CHANGED	"parameter \"%s\" changed to \"%s\""

/* A proxy's URL may contain a password, and that of a webhook does. */
static const char *const secrets[] = {
	"ocean_enrich.api_token",
	"ocean_enrich.proxy",
	"ocean_enrich.webhook_secret",
	"ocean_enrich.webhook_url",
};

static emit_log_hook_type previous_hook;

/*
 * Does the message name the setting?  The name appears as written in the file,
 * in any letter case, and between quotes that depend on the language.
 */
static bool
message_names_setting(const char *message, const char *setting)
{
	size_t		len = strlen(setting);

	for (; *message; message++)
	{
		if (pg_strncasecmp(message, setting, len) == 0 && message[len] != '_')
			return true;
	}
	return false;
}

static void
hide_secrets(ErrorData *edata)
{
	if (edata->message && edata->message_id &&
		strcmp(edata->message_id, SETTING_CHANGED) == 0)
	{
		for (int i = 0; i < (int) lengthof(secrets); i++)
		{
			if (!message_names_setting(edata->message, secrets[i]))
				continue;
			(void) snprintf(edata->message, strlen(edata->message) + 1,
							"parameter \"%s\" changed", secrets[i]);
			break;
		}
	}
	if (previous_hook)
		previous_hook(edata);
}

void
oe_secrets_guard_log(void)
{
	/* Only the postmaster logs these messages. */
	if (!process_shared_preload_libraries_in_progress)
		return;
	previous_hook = emit_log_hook;
	emit_log_hook = hide_secrets;
}
