/*
 * rights.c
 *		Whose rights a statement runs with.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/guc.h"

#include "base/rights.h"
#include "base/statement.h"

/* What a value looks like as text must not depend on who looks. */
static const char *const pinned_settings[][2] = {
	{"search_path", "pg_catalog, pg_temp"},
	{"DateStyle", "ISO, YMD"},
	{"TimeZone", "UTC"},
};

static void
pin(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

static void
take(Oid role, int context, bool pinned, OeRights *before)
{
	GetUserIdAndSecContext(&before->user, &before->context);
	SetUserIdAndSecContext(role, before->context | context);
	before->guc_level = NewGUCNestLevel();
	for (int i = 0; pinned && i < (int) lengthof(pinned_settings); i++)
		pin(pinned_settings[i][0], pinned_settings[i][1]);
	pin("row_security", "on");
}

void
oe_rights_of_extension(OeRights *before)
{
	take(oe_owner_of("sync"), SECURITY_LOCAL_USERID_CHANGE, true, before);
}

void
oe_rights_of_role(Oid role, bool pinned, OeRights *before)
{
	take(role, SECURITY_RESTRICTED_OPERATION, pinned, before);
}

void
oe_rights_give_back(const OeRights *before)
{
	AtEOXact_GUC(false, before->guc_level);
	SetUserIdAndSecContext(before->user, before->context);
}
