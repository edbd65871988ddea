/*
 * errors.c
 *		Report errors of the core as PostgreSQL errors, and raise the errors
 *		that many functions share.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"

#include "base/errors.h"

int
oe_sqlstate(OeCode code)
{
	switch (code)
	{
		case OE_OK:
			return ERRCODE_SUCCESSFUL_COMPLETION;
		case OE_OUT_OF_MEMORY:
			return ERRCODE_OUT_OF_MEMORY;
		case OE_BAD_REQUEST:
			return ERRCODE_INVALID_PARAMETER_VALUE;
		case OE_BAD_SETTING:
			return ERRCODE_INVALID_PARAMETER_VALUE;
		case OE_GATHERING:
			return ERRCODE_OE_GATHERING;
		case OE_API_BAD_REQUEST:
			return ERRCODE_OE_BAD_REQUEST;
		case OE_API_CREDITS:
		case OE_LOCAL_CREDIT_LIMIT:
			return ERRCODE_OE_CREDITS;
		case OE_API_FORBIDDEN:
			return ERRCODE_OE_FORBIDDEN;
		case OE_API_NOT_FOUND:
			return ERRCODE_OE_NOT_FOUND;
		case OE_API_INVALID:
			return ERRCODE_OE_INVALID;
		case OE_API_RATE_LIMIT:
		case OE_LOCAL_RATE_LIMIT:
			return ERRCODE_OE_RATE_LIMIT;
		case OE_API_FAILED:
			return ERRCODE_OE_API_FAILED;
		case OE_BAD_ANSWER:
			return ERRCODE_OE_BAD_ANSWER;
		case OE_OUTCOME_UNKNOWN:
			return ERRCODE_OE_OUTCOME_UNKNOWN;
		case OE_NOT_CONNECTED:
			return ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION;
		case OE_NOT_RECORDED:
			return ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
	}
	return ERRCODE_INTERNAL_ERROR;
}

void
oe_ereport(int elevel, OeError *error)
{
	OeCode		code = error->code;
	char	   *message;
	char	   *detail;
	char	   *hint;

	/* ereport may not return, so free the malloc'd texts first. */
	message = error->message ? pstrdup(error->message) : NULL;
	detail = error->detail ? pstrdup(error->detail) : NULL;
	hint = error->hint ? pstrdup(error->hint) : NULL;
	oe_error_free(error);

	ereport(elevel,
			errcode(oe_sqlstate(code)),
			errmsg_internal("%s", message ? message : "out of memory"),
			detail ? errdetail_internal("%s", detail) : 0,
			hint ? errhint("%s", hint) : 0);
}

void
oe_prevent_on_standby(const char *name)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				errmsg("cannot execute %s on a standby server", name),
				errdetail("The function writes to the database, which a standby server cannot do."),
				errhint("Run the statement on the primary server."));
}

void
oe_prevent_if_read_only(const char *name)
{
	oe_prevent_on_standby(name);
	PreventCommandIfReadOnly(name);
}

void
oe_ereport_out_of_memory(void)
{
	ereport(ERROR,
			errcode(ERRCODE_OUT_OF_MEMORY),
			errmsg("out of memory"));
}
