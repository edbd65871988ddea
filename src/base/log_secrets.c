/*
 * log_secrets.c
 *		Keeps the values of secret settings out of the server's log.
 *
 * When a reload changes a setting, the postmaster logs the new value, and makes no
 * exception for secrets.  A library that is preloaded with the server is there, too,
 * and shortens that message.
 *
 * It does so in place.  elog.c says that a hook may turn the message off and that
 * changing anything else in it is not supported; but to turn it off would leave
 * nothing of it, and to report another one within the handling of this one could
 * fail.  The text is a copy made for this message alone, and does not grow; every
 * form of the log, and the hooks behind ours, read it afterwards.
 *
 * Of the hooks the last one that was set comes first.  So a library that is named
 * after ours in shared_preload_libraries sees the value before we do: ours is to be
 * named last.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/log_secrets.h"

/* How guc.c and guc-file.l say it, before any translation. */
#define SETTING_CHANGED	"parameter \"%s\" changed to \"%s\""

/* A proxy's URL may have a password in it. */
static const char *const secrets[] = {
	"ocean_enrich.api_token",
	"ocean_enrich.proxy",
	"ocean_enrich.webhook_secret",
};

static emit_log_hook_type previous_hook;

/*
 * Is the setting named in the message?  It stands there as it was written in the
 * file, in any letter case, and between quotes that depend on the language.
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
	/* No process but the postmaster says such things. */
	if (!process_shared_preload_libraries_in_progress)
		return;
	previous_hook = emit_log_hook;
	emit_log_hook = hide_secrets;
}
