/*
 * estimate.c
 *		What a statement would send and cost, without sending anything.
 *
 * The statement is run as its caller, in a subtransaction that is always
 * rolled back.  Its calls come here instead of to the worker: each is looked
 * up in the ledger, with the owner's rights, and returns the known answer or
 * NULL.  A statement that makes no call may return requests instead.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/extensible.h"
#include "nodes/nodeFuncs.h"
#include "tcop/cmdtag.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/plancache.h"
#include "utils/timestamp.h"

#include "base/errors.h"
#include "session/call.h"
#include "session/estimate.h"
#include "shared/ledger.h"
#include "shared/message.h"
#include "shared/request_body.h"
#include "shared/settings.h"

PG_FUNCTION_INFO_V1(ocean_enrich_estimate);

typedef enum RequestKind
{
	REQUEST_NEW,
	REQUEST_KNOWN,				/* answered, or on its way */
	REQUEST_UNKNOWN,			/* refused until resolve() is called */
} RequestKind;

typedef struct SeenRequest
{
	uint8		fingerprint[OE_FINGERPRINT_BYTES];
	RequestKind kind;
} SeenRequest;

typedef struct Estimate
{
	DestReceiver receiver;		/* for the statement's result */
	OeCall		call;			/* account, limits and times of the session */
	HTAB	   *seen;
	MemoryContext row_mcxt;
	bool		returns_requests;
	int64		calls;			/* made by the statement itself */
	int64		rows;
	int64		requests;		/* the sum of the next five */
	int64		to_send;
	int64		asked_for[OE_PRICES_MAX];	/* of these, per price */
	OeCredits	reserve;		/* total reserve of these requests */
	OeCredits	dearest;		/* largest reserve of one of them */
	int64		repeated;
	int64		known;
	int64		unknown;
	int64		invalid;
} Estimate;

/* The innermost estimate in progress, or NULL. */
static Estimate *current;

static ExecutorStart_hook_type previous_executor_start;

/* ----------------------------------------------------------------
 * One request
 * ---------------------------------------------------------------- */

/* Sets "answer" to the ledger's answer, or NULL. */
static RequestKind
look_up_request(const uint8 *fingerprint, Jsonb **answer)
{
	OeReuse		reuse = oe_ledger_reuse(&current->call, GetCurrentTimestamp());
	OeLedgerHit hit = {0};
	bool		found;

	oe_ledger_enter();
	found = oe_ledger_find(current->call.account, fingerprint, &reuse, &hit);
	oe_ledger_leave();
	*answer = hit.answer;
	if (!found)
		return REQUEST_NEW;
	return hit.state == OE_LEDGER_UNKNOWN ? REQUEST_UNKNOWN : REQUEST_KNOWN;
}

static bool
is_asked_for(OeReveal reveal)
{
	return reveal == OE_REVEAL_IN_ANSWER || reveal == OE_REVEAL_BY_WEBHOOK;
}

static void
count_to_send(const OeReveals *reveals)
{
	OeLimits	limits = current->call.limits;
	OeCredits	reserve;

	oe_request_set_reveals(&limits, reveals);
	reserve = oe_limits_reserve(&limits);
	current->to_send++;
	for (int i = 0; i < OE_PRICES_MAX; i++)
		current->asked_for[i] += is_asked_for(reveals->of[i]);
	current->dearest = Max(current->dearest, reserve);
	if (pg_add_s64_overflow(current->reserve, reserve, &current->reserve))
		current->reserve = PG_INT64_MAX;
}

static void
count_first(RequestKind kind, const OeReveals *reveals)
{
	switch (kind)
	{
		case REQUEST_NEW:
			count_to_send(reveals);
			break;
		case REQUEST_KNOWN:
			current->known++;
			break;
		case REQUEST_UNKNOWN:
			current->unknown++;
			break;
	}
}

/* Counts the request; returns the known answer, or NULL. */
static Jsonb *
estimate_request(const OeEndpoint *endpoint, Jsonb *request,
				 const OeCallOptions *options)
{
	SeenRequest *seen;
	OeBody		body;
	OeError		error = {0};
	Jsonb	   *answer = NULL;
	bool		found;

	current->requests++;
	current->call.reuse_for_us = options->reuse_for_us;
	current->call.reuse_not_found_for_us = options->reuse_not_found_for_us;
	if (!oe_request_check(endpoint, request, &body, &error))
	{
		oe_error_free(&error);
		current->invalid++;
		return NULL;
	}
	seen = hash_search(current->seen, body.fingerprint, HASH_FIND, &found);
	if (!seen)
	{
		RequestKind kind = look_up_request(body.fingerprint, &answer);

		seen = hash_search(current->seen, body.fingerprint, HASH_ENTER, &found);
		seen->kind = kind;
		count_first(kind, &body.reveals);
		return answer;
	}

	/* Another call of the statement may reuse answers for longer. */
	if (seen->kind == REQUEST_KNOWN)
		seen->kind = look_up_request(body.fingerprint, &answer);
	else if (!(seen->kind == REQUEST_NEW && options->reuse_for_us == 0))
	{
		current->repeated++;
		return NULL;
	}

	/* Without reuse, a repeated request is paid for again. */
	if (seen->kind == REQUEST_NEW)
		count_to_send(&body.reveals);
	else
		current->repeated++;
	return answer;
}

/* Called in place of oe_call()'s request to the worker. */
static void
estimate_call(const OeEndpoint *endpoint, Jsonb *request,
			  const OeCallOptions *options, OeResult *result)
{
	memset(result, 0, sizeof(*result));
	current->calls++;
	result->answer = estimate_request(endpoint, request, options);
	if (!result->answer)
		return;
	result->status = 200;
	result->reused = true;
	result->credits = "0";
}

/* ----------------------------------------------------------------
 * What the statement returns
 * ---------------------------------------------------------------- */

static void
start_receiving(DestReceiver *self, int operation, TupleDesc desc)
{
	Estimate   *estimate = (Estimate *) self;

	estimate->returns_requests = desc->natts == 1 &&
		getBaseType(TupleDescAttr(desc, 0)->atttypid) == JSONBOID;
}

/* The row is a request, unless the statement makes its own calls. */
static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	Estimate   *estimate = (Estimate *) self;
	MemoryContext caller = MemoryContextSwitchTo(estimate->row_mcxt);
	OeCallArguments none = {0};
	OeCallOptions options = oe_call_options(&none);
	bool		isnull;
	Datum		request;

	estimate->rows++;
	if (estimate->returns_requests && estimate->calls == 0)
	{
		request = slot_getattr(slot, 1, &isnull);
		if (!isnull)
			(void) estimate_request(&oe_endpoint_person, DatumGetJsonbP(request),
									&options);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextReset(estimate->row_mcxt);
	return true;
}

static void
stop_receiving(DestReceiver *self)
{
}

/* ----------------------------------------------------------------
 * The statement
 * ---------------------------------------------------------------- */

/* True for statements whose effects a rollback undoes completely. */
static bool
can_be_rolled_back(CommandTag tag)
{
	switch (tag)
	{
		case CMDTAG_SELECT:
		case CMDTAG_INSERT:
		case CMDTAG_UPDATE:
		case CMDTAG_DELETE:
		case CMDTAG_MERGE:
		case CMDTAG_SELECT_INTO:
		case CMDTAG_CREATE_TABLE_AS:
			return true;
		default:
			return false;
	}
}

/* The names of Citus's plan nodes begin with "Citus". */
static bool
refuse_other_machines(PlanState *node, void *context)
{
	if (IsA(node, CustomScanState) &&
		strncmp(((CustomScan *) node->plan)->methods->CustomName, "Citus", 5) == 0)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot estimate a statement that Citus runs on its shards"),
				errdetail("The calls would be made on the shards, and paid for."),
				errhint("Estimate the statement for each shard, with run_command_on_shards()."));
	return planstate_tree_walker(node, refuse_other_machines, context);
}

/* Also runs for statements in functions and triggers, before they execute. */
static void
estimate_executor_start(QueryDesc *desc, int eflags)
{
	if (previous_executor_start)
		previous_executor_start(desc, eflags);
	else
		standard_ExecutorStart(desc, eflags);
	if (current)
		(void) refuse_other_machines(desc->planstate, NULL);
}

void
oe_estimate_init(void)
{
	previous_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = estimate_executor_start;
}

static SPIPlanPtr
prepare_query(const char *query)
{
	SPIPlanPtr	plan = SPI_prepare(query, 0, NULL);
	List	   *sources;
	CommandTag	tag;

	if (!plan)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	sources = SPI_plan_get_plan_sources(plan);
	if (list_length(sources) != 1)
		ereport(ERROR,
				errcode(ERRCODE_SYNTAX_ERROR),
				errmsg("exactly one statement can be estimated, not %d",
					   list_length(sources)),
				errhint("Estimate each statement separately."));
	tag = ((CachedPlanSource *) linitial(sources))->commandTag;
	if (!can_be_rolled_back(tag))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot estimate %s", GetCommandTagName(tag)),
				errhint("Only SELECT, INSERT, UPDATE, DELETE, MERGE, and CREATE TABLE AS can be estimated."));
	return plan;
}

static void
run_query(const char *query)
{
	SPIExecuteOptions options = {0};
	int			rc;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	options.dest = &current->receiver;
	rc = SPI_execute_plan_extended(prepare_query(query), &options);
	if (rc < 0)
		elog(ERROR, "could not run the statement: %s", SPI_result_code_string(rc));
	SPI_finish();
}

/*
 * Even after an error, the subtransaction ends here, and calls go to the
 * worker again, or to an enclosing estimate.
 */
static void
run_query_and_roll_back(const char *query, Estimate *estimate)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	OeCallHandler outer_handler = oe_call_instead;
	Estimate   *outer = current;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		current = estimate;
		oe_call_instead = estimate_call;
		run_query(query);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	oe_call_instead = outer_handler;
	current = outer;
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	if (error)
		ReThrowError(error);
}

/* ----------------------------------------------------------------
 * The function
 * ---------------------------------------------------------------- */

static void
begin_estimate(Estimate *estimate)
{
	HASHCTL		ctl = {0};

	oe_settings_fill(&oe_endpoint_person, &estimate->call);
	explicit_bzero(unconstify(char *, estimate->call.token),
				   strlen(estimate->call.token));
	estimate->receiver.receiveSlot = receive_row;
	estimate->receiver.rStartup = start_receiving;
	estimate->receiver.rShutdown = stop_receiving;
	estimate->receiver.rDestroy = stop_receiving;
	estimate->receiver.mydest = DestNone;
	estimate->row_mcxt = AllocSetContextCreate(CurrentMemoryContext,
											   "ocean_enrich estimate",
											   ALLOCSET_SMALL_SIZES);
	ctl.keysize = OE_FINGERPRINT_BYTES;
	ctl.entrysize = sizeof(SeenRequest);
	ctl.hcxt = CurrentMemoryContext;
	estimate->seen = hash_create("ocean_enrich estimate", 1024, &ctl,
								 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Number of requests that certainly fit into the remaining credits. */
static int64
calls_for(const Estimate *estimate, OeCredits left)
{
	if (estimate->reserve <= left)
		return estimate->to_send;
	return left > 0 ? left / estimate->dearest : 0;
}

/* The rest of the role's budgets; OE_CREDITS_MAX if there are none. */
static OeCredits
left_of_budgets(const char *role)
{
	Oid			types[] = {NAMEOID};
	Datum		values[1];
	NameData	name;

	namestrcpy(&name, role);
	values[0] = NameGetDatum(&name);
	if (SPI_execute_with_args("SELECT min(remaining)::text FROM ocean_enrich.budget_status"
							  " WHERE role = $1",
							  1, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the budgets");
	return oe_credits_parse_sum(SPI_getvalue(SPI_tuptable->vals[0],
											 SPI_tuptable->tupdesc, 1));
}

/* How many of "to_send" the daily limits and the budgets allow. */
static int64
allowed_calls(const Estimate *estimate, const OeLedgerUsage *usage,
			  OeCredits left)
{
	const OeLimits *limits = &estimate->call.limits;
	int64		allowed = calls_for(estimate, left);

	if (limits->daily_limit > 0)
		allowed = Min(allowed, Max(limits->daily_limit - usage->requests_today, 0));
	if (limits->credit_limit > 0)
		allowed = Min(allowed,
					  calls_for(estimate, limits->credit_limit - usage->credits_today));
	return allowed;
}

/* Converts millionths to numeric without trailing zeros. */
static Datum
millionths(int64 value)
{
	return DirectFunctionCall1(numeric_trim_scale,
							   NumericGetDatum(int64_div_fast_to_numeric(value, 6)));
}

static Datum
price_of(int64 count, OeCredits price)
{
	return DirectFunctionCall2(numeric_mul,
							   NumericGetDatum(int64_to_numeric(count)),
							   millionths(price));
}

/* Assumes that all requested data is found, once for each answer. */
static Datum
credits_at_most(const Estimate *estimate)
{
	const OeLimits *limits = &estimate->call.limits;
	Datum		sum = NumericGetDatum(int64_to_numeric(0));

	for (int i = 0; i < OE_PRICES_MAX; i++)
		sum = DirectFunctionCall2(numeric_add, sum,
								  price_of(estimate->asked_for[i], limits->prices[i]));
	return DirectFunctionCall1(numeric_trim_scale, sum);
}

/* Columns of the result. */
enum
{
	E_REQUESTS,
	E_TO_SEND,
	E_REPEATED,
	E_KNOWN,
	E_OUTCOME_UNKNOWN,
	E_INVALID,
	E_ALLOWED,
	E_CREDITS,
	E_SECONDS,
	E_COUNT
};

static void
fill_forecast(const Estimate *estimate, const char *role, Datum *values)
{
	const OeLimits *limits = &estimate->call.limits;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz last;
	OeTime		day_start;
	OeTime		day_end;
	OeLedgerUsage usage;
	OeCredits	left;

	oe_ledger_enter();
	oe_period_bounds(OE_PERIOD_DAY, now, &day_start, &day_end);
	oe_ledger_usage(estimate->call.account, day_start, now - USECS_PER_MINUTE,
					&usage);
	usage.credits_today += oe_ledger_revealed(estimate->call.account, day_start);
	left = left_of_budgets(role);
	oe_ledger_leave();

	last = oe_policy_last_goes(limits->rate_limit, usage.sent, usage.sent_count,
							   now, estimate->to_send);
	if (estimate->to_send > 0)
		last = Max(last, usage.paused_until);
	values[E_ALLOWED] = Int64GetDatum(allowed_calls(estimate, &usage, left));
	values[E_CREDITS] = credits_at_most(estimate);
	values[E_SECONDS] = millionths(last - now);
}

Datum
ocean_enrich_estimate(PG_FUNCTION_ARGS)
{
	char	   *query = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Estimate	estimate = {0};
	TupleDesc	tupdesc;
	Datum		values[E_COUNT];
	bool		nulls[E_COUNT] = {0};

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);

	begin_estimate(&estimate);
	run_query_and_roll_back(query, &estimate);
	if (estimate.rows > 0 && estimate.calls == 0 && !estimate.returns_requests)
		ereport(NOTICE,
				errmsg("the statement made no call and returned no requests"),
				errhint("Return the requests in a single column of type jsonb."));
	values[E_REQUESTS] = Int64GetDatum(estimate.requests);
	values[E_TO_SEND] = Int64GetDatum(estimate.to_send);
	values[E_REPEATED] = Int64GetDatum(estimate.repeated);
	values[E_KNOWN] = Int64GetDatum(estimate.known);
	values[E_OUTCOME_UNKNOWN] = Int64GetDatum(estimate.unknown);
	values[E_INVALID] = Int64GetDatum(estimate.invalid);
	fill_forecast(&estimate, GetUserNameFromId(GetUserId(), false), values);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(tupdesc, values, nulls)));
}
