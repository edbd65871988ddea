/*
 * functions.c
 *		The SQL-callable functions: enriching calls, the request builder, the
 *		queue, and functions for administrators.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "base/errors.h"
#include "base/text.h"
#include "session/call.h"
#include "session/progress.h"
#include "session/wait.h"
#include "shared/channel.h"
#include "shared/enqueue.h"
#include "shared/message.h"
#include "shared/settings.h"

PG_FUNCTION_INFO_V1(ocean_enrich_person);
PG_FUNCTION_INFO_V1(ocean_try_enrich_person);
PG_FUNCTION_INFO_V1(ocean_person_request);
PG_FUNCTION_INFO_V1(ocean_enrich_fingerprint);
PG_FUNCTION_INFO_V1(ocean_enrich_support);
PG_FUNCTION_INFO_V1(ocean_enrich_in_flight);
PG_FUNCTION_INFO_V1(ocean_enrich_statements);
PG_FUNCTION_INFO_V1(ocean_enrich_account);
PG_FUNCTION_INFO_V1(ocean_enrich_setting);
PG_FUNCTION_INFO_V1(ocean_enrich_submit);
PG_FUNCTION_INFO_V1(ocean_enrich_try_submit);
PG_FUNCTION_INFO_V1(ocean_enrich_request_error);
PG_FUNCTION_INFO_V1(ocean_enrich_cancel);
PG_FUNCTION_INFO_V1(ocean_enrich_retry);
PG_FUNCTION_INFO_V1(ocean_enrich_wait);
PG_FUNCTION_INFO_V1(ocean_enrich_wake);
PG_FUNCTION_INFO_V1(ocean_enrich_end_pause);
PG_FUNCTION_INFO_V1(ocean_enrich_balance);
PG_FUNCTION_INFO_V1(ocean_enrich_queue_state);

/* ----------------------------------------------------------------
 * Which request it is
 * ---------------------------------------------------------------- */

/* The place of a request, for the context of its errors. */
typedef struct Place
{
	ErrorContextCallback callback;
	int64		number;			/* in the statement that the client sent */
	int64		call_id;		/* 0: not known, or none */
} Place;

/*
 * Names nobody: the log is to show no more than the statement itself does.  A
 * statement with a single request needs no place.
 */
static void
tell_place(void *arg)
{
	const Place *place = arg;

	if (place->number == 1)
		return;
	if (place->call_id != 0)
		errcontext("request " INT64_FORMAT " of the statement, call " INT64_FORMAT,
				   place->number, place->call_id);
	else
		errcontext("request " INT64_FORMAT " of the statement", place->number);
}

/* Until leave_place(), errors and warnings tell the place of the next request. */
static void
enter_place(Place *place)
{
	static TimestampTz statement;
	static int64 count;

	if (statement != GetCurrentStatementStartTimestamp())
	{
		statement = GetCurrentStatementStartTimestamp();
		count = 0;
	}
	place->number = ++count;
	place->call_id = 0;
	place->callback.callback = tell_place;
	place->callback.arg = place;
	place->callback.previous = error_context_stack;
	error_context_stack = &place->callback;
}

static void
leave_place(Place *place)
{
	error_context_stack = place->callback.previous;
}

/* ----------------------------------------------------------------
 * One call
 * ---------------------------------------------------------------- */

/* A copy, since the result must not point into other memory. */
static Datum
answer_datum(const OeResult *result)
{
	return datumCopy(JsonbPGetDatum(result->answer), false, -1);
}

pg_noreturn static void raise_result(const OeResult *result);

static void
raise_result(const OeResult *result)
{
	ereport(ERROR,
			errcode(oe_sqlstate(result->code)),
			errmsg_internal("%s", result->message),
			result->detail ? errdetail_internal("%s", result->detail) : 0,
			result->hint ? errhint("%s", result->hint) : 0);
}

static Datum
numeric_datum(const char *text)
{
	return DirectFunctionCall3(numeric_in, CStringGetDatum(text),
							   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
}

static Datum
sqlstate_datum(OeCode code)
{
	return CStringGetTextDatum(unpack_sql_state(oe_sqlstate(code)));
}

/*
 * Behind the request, the functions may have a last argument "reuse_for", and
 * "not_found" before that.
 */
static void
make_call(FunctionCallInfo fcinfo, OeCallOptions *options, OeResult *result)
{
	int			reuse_for = PG_NARGS() - 1;
	int			not_found = PG_NARGS() - 2;
	OeCallArguments arguments = {.request = PG_GETARG_JSONB_P(0)};

	if (reuse_for > 0 && !PG_ARGISNULL(reuse_for))
		arguments.reuse_for = PG_GETARG_INTERVAL_P(reuse_for);
	if (not_found > 0 && !PG_ARGISNULL(not_found))
		arguments.not_found = PG_GETARG_TEXT_PP(not_found);
	*options = oe_call_options(&arguments);
	oe_call(&oe_endpoint_person, arguments.request, options, result);
}

/* With arguments for settings it is not strict, since these may be NULL. */
Datum
ocean_enrich_person(PG_FUNCTION_ARGS)
{
	OeCallOptions options;
	OeResult	result;
	Place		place;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	enter_place(&place);
	make_call(fcinfo, &options, &result);
	place.call_id = result.call_id;
	if (!result.answer && oe_call_raises(result.code, &options))
		raise_result(&result);
	leave_place(&place);
	if (!result.answer)			/* also during estimate() */
		PG_RETURN_NULL();
	PG_RETURN_DATUM(answer_datum(&result));
}

/* Columns of ocean_enrich_result. */
enum
{
	R_ANSWER,
	R_STATUS,
	R_ERROR_CODE,
	R_ERROR_MESSAGE,
	R_CREDITS,
	R_REUSED,
	R_CALL_ID,
	R_COUNT
};

Datum
ocean_try_enrich_person(PG_FUNCTION_ARGS)
{
	OeCallOptions options;
	OeResult	result;
	Place		place;
	TupleDesc	tupdesc;
	Datum		values[R_COUNT] = {0};
	bool		nulls[R_COUNT] = {0};

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);

	enter_place(&place);
	make_call(fcinfo, &options, &result);
	leave_place(&place);
	nulls[R_ANSWER] = result.answer == NULL;
	if (result.answer)
		values[R_ANSWER] = answer_datum(&result);
	nulls[R_STATUS] = result.status == 0;
	values[R_STATUS] = Int32GetDatum(result.status);
	nulls[R_ERROR_CODE] = nulls[R_ERROR_MESSAGE] = result.code == OE_OK;
	if (result.code != OE_OK)
	{
		values[R_ERROR_CODE] = sqlstate_datum(result.code);
		values[R_ERROR_MESSAGE] = CStringGetTextDatum(result.message);
	}
	nulls[R_CREDITS] = result.credits == NULL;
	if (result.credits)
		values[R_CREDITS] = numeric_datum(result.credits);
	values[R_REUSED] = BoolGetDatum(result.reused);
	nulls[R_CALL_ID] = result.call_id == 0;
	values[R_CALL_ID] = Int64GetDatum(result.call_id);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(tupdesc, values, nulls)));
}

/*
 * Support function that marks the enriching functions under any name, so that
 * read_ahead recognizes them.  It gives the planner no information.
 */
Datum
ocean_enrich_support(PG_FUNCTION_ARGS)
{
	PG_RETURN_POINTER(NULL);
}

/* ----------------------------------------------------------------
 * The request builder
 * ---------------------------------------------------------------- */

/*
 * Blank columns count as missing, as CSV files use them for NULL, and so do
 * placeholders.  The blanks of Unicode are known in UTF-8.  What is in SQL_ASCII is
 * mostly that, and other bytes look like no blank.
 */
static bool
is_missing(text *value)
{
	const char *bytes = VARDATA_ANY(value);
	Size		len = VARSIZE_ANY_EXHDR(value);
	char	   *utf8 = NULL;

	if (GetDatabaseEncoding() != PG_UTF8 && GetDatabaseEncoding() != PG_SQL_ASCII)
		utf8 = oe_server_to_utf8(text_to_cstring(value));
	if (!utf8)
	{
		oe_trim(&bytes, &len);
		return len == 0 || oe_is_placeholder(bytes, len);
	}
	bytes = utf8;
	len = strlen(utf8);
	oe_trim(&bytes, &len);
	bytes = pg_any_to_server(pnstrdup(bytes, len), len, PG_UTF8);
	return *bytes == '\0' || oe_is_placeholder(bytes, strlen(bytes));
}

static void
push_string(JsonbInState *state, JsonbIteratorToken token,
			const char *bytes, int len)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, bytes);
	value.val.string.len = len;
	pushJsonbValue(state, token, &value);
}

static void
push_member(JsonbInState *state, const OeMember *member, Datum datum)
{
	push_string(state, WJB_KEY, member->name, strlen(member->name));
	if (member->type == OE_MEMBER_BOOLEAN)
	{
		JsonbValue	flag;

		flag.type = jbvBool;
		flag.val.boolean = DatumGetBool(datum);
		pushJsonbValue(state, WJB_VALUE, &flag);
	}
	else
	{
		text	   *value = DatumGetTextPP(datum);

		push_string(state, WJB_VALUE, VARDATA_ANY(value),
					VARSIZE_ANY_EXHDR(value));
	}
}

static bool
has_argument(FunctionCallInfo fcinfo, const OeMember *member, int arg)
{
	if (PG_ARGISNULL(arg))
		return false;
	return member->type == OE_MEMBER_BOOLEAN || !is_missing(PG_GETARG_TEXT_PP(arg));
}

/*
 * Build one object of the request from its members' arguments, which begin at
 * "arg"; omit it if all are missing.  Returns true if a member identifies a
 * person.
 */
static bool
push_object(JsonbInState *state, FunctionCallInfo fcinfo, const OeObject *object,
			int arg)
{
	bool		is_open = false;
	bool		identifies = false;

	for (Size i = 0; i < object->count; i++, arg++)
	{
		if (!has_argument(fcinfo, &object->members[i], arg))
			continue;
		if (!is_open)
		{
			push_string(state, WJB_KEY, object->name, strlen(object->name));
			pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
			is_open = true;
		}
		push_member(state, &object->members[i], PG_GETARG_DATUM(arg));
		identifies |= object->members[i].identifies;
	}
	if (is_open)
		pushJsonbValue(state, WJB_END_OBJECT, NULL);
	return identifies;
}

/* The arguments are the members of the request's objects, in order. */
Datum
ocean_person_request(PG_FUNCTION_ARGS)
{
	const OeObject *request = &oe_endpoint_person.vocabulary->request;
	JsonbInState state = {0};
	bool		identifies = false;
	int			arg = 0;

	for (Size i = 0; i < request->count; i++)
		arg += (int) request->members[i].object->count;
	if (PG_NARGS() != arg)
		elog(ERROR, "ocean_person_request has %d arguments, not %d",
			 PG_NARGS(), arg);

	arg = 0;
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (Size i = 0; i < request->count; i++)
	{
		const OeObject *object = request->members[i].object;

		identifies |= push_object(&state, fcinfo, object, arg);
		arg += (int) object->count;
	}
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	if (!identifies)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(JsonbValueToJsonb(state.result));
}

/* NULL for what is refused before it is sent: it is equal to nothing. */
Datum
ocean_enrich_fingerprint(PG_FUNCTION_ARGS)
{
	const OeEndpoint *endpoint =
		oe_queue_endpoint(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	OeBody		body;
	OeError		error = {0};
	bytea	   *result;

	if (!oe_request_check(endpoint, PG_GETARG_JSONB_P(0), &body, &error))
	{
		oe_error_free(&error);
		PG_RETURN_NULL();
	}
	result = palloc(VARHDRSZ + OE_FINGERPRINT_BYTES);
	SET_VARSIZE(result, VARHDRSZ + OE_FINGERPRINT_BYTES);
	memcpy(VARDATA(result), body.fingerprint, OE_FINGERPRINT_BYTES);
	PG_RETURN_BYTEA_P(result);
}

/* ----------------------------------------------------------------
 * The queue
 * ---------------------------------------------------------------- */

/* NULL means the default. */
static const OeEndpoint *
endpoint_argument(FunctionCallInfo fcinfo, int arg)
{
	return oe_queue_endpoint(PG_ARGISNULL(arg) ? NULL
							 : text_to_cstring(PG_GETARG_TEXT_PP(arg)));
}

/*
 * Queue the request of submit() or try_submit(); NULL if it has an error.  Not
 * strict: a NULL priority, time or endpoint means the default.
 */
static NullableDatum
submit(FunctionCallInfo fcinfo, OeError *error)
{
	const OeEndpoint *endpoint = endpoint_argument(fcinfo, 3);
	OeCallArguments arguments = {.request = PG_GETARG_JSONB_P(0)};
	OeCallOptions options = oe_call_options(&arguments);
	NullableDatum call_id = {.isnull = true};
	OeResult	estimated;
	OeBody		request;

	if (oe_call_instead)
		oe_call_instead(endpoint, arguments.request, &options, &estimated);
	else if (oe_request_check(endpoint, arguments.request, &request, error))
	{
		call_id.value =
			Int64GetDatum(oe_submit(&request,
									PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1),
									PG_ARGISNULL(2) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(2),
									0));
		call_id.isnull = false;
	}
	return call_id;
}

Datum
ocean_enrich_submit(PG_FUNCTION_ARGS)
{
	OeError		error = {0};
	Place		place;
	NullableDatum call_id;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	enter_place(&place);
	call_id = submit(fcinfo, &error);
	if (error.code != OE_OK)
		oe_ereport(ERROR, &error);
	leave_place(&place);
	fcinfo->isnull = call_id.isnull;
	return call_id.value;
}

/* Columns of ocean_enrich.try_submit(). */
enum
{
	S_CALL_ID,
	S_ERROR_CODE,
	S_ERROR_MESSAGE,
	S_COUNT
};

static Datum
message_datum(const OeError *error)
{
	return CStringGetTextDatum(error->message ? error->message : "out of memory");
}

Datum
ocean_enrich_try_submit(PG_FUNCTION_ARGS)
{
	OeError		error = {0};
	Place		place;
	TupleDesc	tupdesc;
	NullableDatum call_id;
	Datum		values[S_COUNT] = {0};
	bool		nulls[S_COUNT] = {0};

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);

	enter_place(&place);
	call_id = submit(fcinfo, &error);
	leave_place(&place);
	values[S_CALL_ID] = call_id.value;
	nulls[S_CALL_ID] = call_id.isnull;
	nulls[S_ERROR_CODE] = nulls[S_ERROR_MESSAGE] = error.code == OE_OK;
	if (error.code != OE_OK)
	{
		values[S_ERROR_CODE] = sqlstate_datum(error.code);
		values[S_ERROR_MESSAGE] = message_datum(&error);
		oe_error_free(&error);
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(tupdesc, values, nulls)));
}

Datum
ocean_enrich_request_error(PG_FUNCTION_ARGS)
{
	OeError		error = {0};
	OeBody		request;
	Datum		message;

	if (PG_ARGISNULL(0) ||
		oe_request_check(endpoint_argument(fcinfo, 1), PG_GETARG_JSONB_P(0),
						 &request, &error))
		PG_RETURN_NULL();
	message = message_datum(&error);
	oe_error_free(&error);
	PG_RETURN_DATUM(message);
}

Datum
ocean_enrich_cancel(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(oe_cancel(PG_GETARG_INT64(0)));
}

Datum
ocean_enrich_retry(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(oe_retry(PG_GETARG_INT64(0)));
}

Datum
ocean_enrich_wait(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_BOOL(oe_wait(PG_GETARG_ARRAYTYPE_P(0),
						   PG_ARGISNULL(1) ? NULL : PG_GETARG_INTERVAL_P(1)));
}

Datum
ocean_enrich_wake(PG_FUNCTION_ARGS)
{
	oe_wake();
	PG_RETURN_VOID();
}

Datum
ocean_enrich_end_pause(PG_FUNCTION_ARGS)
{
	oe_end_pauses();
	PG_RETURN_VOID();
}

Datum
ocean_enrich_balance(PG_FUNCTION_ARGS)
{
	OeCallArguments none = {0};
	OeCallOptions options = oe_call_options(&none);
	OeResult	result;

	oe_call(&oe_endpoint_balance, NULL, &options, &result);
	if (result.code != OE_OK)
		raise_result(&result);
	PG_RETURN_DATUM(answer_datum(&result));
}

/* Columns of ocean_enrich.queue_state(). */
enum
{
	Q_WORKER_PID,
	Q_IN_FLIGHT,
	Q_PAUSE,
	Q_PAUSED_UNTIL,
	Q_NEXT_DUE,
	Q_LAST_MINUTE,
	Q_COUNT
};

Datum
ocean_enrich_queue_state(PG_FUNCTION_ARGS)
{
	OeQueueStatus status;
	int			pid = oe_channel_status(&status);
	TupleDesc	tupdesc;
	Datum		values[Q_COUNT] = {0};
	bool		nulls[Q_COUNT] = {0};

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);
	nulls[Q_WORKER_PID] = pid == 0;
	values[Q_WORKER_PID] = Int32GetDatum(pid);
	values[Q_IN_FLIGHT] = Int32GetDatum(pid == 0 ? 0 : status.in_flight);
	nulls[Q_PAUSE] = status.pause[0] == '\0';
	values[Q_PAUSE] = CStringGetTextDatum(status.pause);
	nulls[Q_PAUSED_UNTIL] = nulls[Q_PAUSE] || status.paused_until == 0;
	values[Q_PAUSED_UNTIL] = TimestampTzGetDatum(status.paused_until);
	nulls[Q_NEXT_DUE] = pid == 0 || TIMESTAMP_NOT_FINITE(status.next_due);
	values[Q_NEXT_DUE] = TimestampTzGetDatum(status.next_due);
	values[Q_LAST_MINUTE] =
		Int64GetDatum(oe_status_last_minute(&status, GetCurrentTimestamp()));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(tupdesc, values, nulls)));
}

/* ----------------------------------------------------------------
 * For administrators
 * ---------------------------------------------------------------- */

static const char *
state_name(OeSlotState state)
{
	switch (state)
	{
		case OE_SLOT_SUBMITTED:
			return "waiting";
		case OE_SLOT_RUNNING:
			return "on the wire";
		case OE_SLOT_ABANDONED:
			return "abandoned";
		case OE_SLOT_CANCELLED:
			return "cancelled";
		case OE_SLOT_DONE:
			return "done";
		case OE_SLOT_FREE:
		case OE_SLOT_FILLING:
			break;
	}
	return "unknown";
}

Datum
ocean_enrich_in_flight(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	OeSlotInfo *infos = palloc(sizeof(OeSlotInfo) * OE_CHANNEL_SLOTS);
	int			count;

	InitMaterializedSRF(fcinfo, 0);
	count = oe_channel_inspect(infos, OE_CHANNEL_SLOTS);
	for (int i = 0; i < count; i++)
	{
		Datum		values[5];
		bool		nulls[5] = {0};

		values[0] = Int32GetDatum(infos[i].pid);
		values[1] = ObjectIdGetDatum(infos[i].role);
		values[2] = CStringGetTextDatum(state_name(infos[i].state));
		values[3] = Int64GetDatum(infos[i].call_id);
		nulls[3] = infos[i].call_id == 0;
		values[4] = TimestampTzGetDatum(infos[i].submitted_at);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

static Datum
credits_datum(OeCredits credits)
{
	return numeric_datum(psprintf("%lld.%06lld",
								  (long long) (credits / OE_CREDITS_ONE),
								  (long long) (credits % OE_CREDITS_ONE)));
}

Datum
ocean_enrich_statements(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	OeProgress *infos = palloc(sizeof(OeProgress) * oe_progress_max());
	int			count;

	InitMaterializedSRF(fcinfo, 0);
	count = oe_progress_inspect(infos);
	for (int i = 0; i < count; i++)
	{
		Datum		values[9];
		bool		nulls[9] = {0};

		values[0] = Int32GetDatum(infos[i].pid);
		values[1] = ObjectIdGetDatum(infos[i].role);
		values[2] = TimestampTzGetDatum(infos[i].query_start);
		values[3] = TimestampTzGetDatum(infos[i].first_call_at);
		values[4] = TimestampTzGetDatum(infos[i].waiting_since);
		nulls[4] = infos[i].waiting_since == 0;
		values[5] = Int64GetDatum(infos[i].calls);
		values[6] = Int64GetDatum(infos[i].failed);
		values[7] = Int64GetDatum(infos[i].reused);
		values[8] = credits_datum(infos[i].credits);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

Datum
ocean_enrich_account(PG_FUNCTION_ARGS)
{
	OeCall		call = {0};

	oe_settings_fill(&oe_endpoint_balance, &call);
	explicit_bzero(unconstify(char *, call.token), strlen(call.token));
	PG_RETURN_TEXT_P(cstring_to_text(call.account));
}

/* Like current_setting(), but also works before the library is loaded. */
Datum
ocean_enrich_setting(PG_FUNCTION_ARGS)
{
	char	   *name = psprintf("ocean_enrich.%s",
								text_to_cstring(PG_GETARG_TEXT_PP(0)));

	PG_RETURN_TEXT_P(cstring_to_text(GetConfigOptionByName(name, NULL, false)));
}
