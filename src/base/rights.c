/*
 * rights.c
 *		The rights that a statement runs with.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/rights.h"

static const char *const pinned_settings[][2] = {
	{"search_path", "pg_catalog, pg_temp"},
	{"DateStyle", "ISO, YMD"},
	{"TimeZone", "UTC"},
	{"row_security", "on"},
};

void
oe_rights_pin_setting(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

static void
pin_settings(int flags)
{
	if (flags & OE_RIGHTS_INDEXED)
		oe_rights_pin_setting("enable_seqscan", "off");
	if (!(flags & OE_RIGHTS_PINNED))
		return;
	for (int i = 0; i < (int) lengthof(pinned_settings); i++)
		oe_rights_pin_setting(pinned_settings[i][0], pinned_settings[i][1]);
}

void
oe_rights_switch(OeRights *before, Oid role, int flags)
{
	MemoryContext caller = CurrentMemoryContext;

	GetUserIdAndSecContext(&before->user, &before->security_context);
	SetUserIdAndSecContext(role, before->security_context |
						   ((flags & OE_RIGHTS_RESTRICTED)
							? SECURITY_RESTRICTED_OPERATION
							: SECURITY_LOCAL_USERID_CHANGE));
	before->guc_level = NewGUCNestLevel();
	pin_settings(flags);
	before->spi = (flags & OE_RIGHTS_SPI) != 0;
	if (before->spi && SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	MemoryContextSwitchTo(caller);
}

void
oe_rights_restore(const OeRights *before)
{
	if (before->spi)
		SPI_finish();
	AtEOXact_GUC(false, before->guc_level);
	SetUserIdAndSecContext(before->user, before->security_context);
}

Oid
oe_owner_of(const char *table)
{
	Oid			relation = get_relname_relid(table,
											 get_namespace_oid("ocean_enrich", false));
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("table \"ocean_enrich.%s\" does not exist", table),
				errhint("Create it with CREATE EXTENSION ocean_enrich."));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}
