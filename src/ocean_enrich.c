/*
 * ocean_enrich.c
 *		Where PostgreSQL meets the extension when it loads the library.
 */
#include "postgres.h"

#include "fmgr.h"

#include "base/log_secrets.h"
#include "session/estimate.h"
#include "session/read_ahead.h"
#include "shared/settings.h"
#include "worker/launcher.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	oe_settings_define();
	oe_secrets_guard_log();
	oe_read_ahead_init();
	oe_estimate_init();
	oe_launcher_register();
}
