/*
 * call.c
 *		The session's side of one call.
 *
 * Expected calls, most of them begun early, are kept in a list, where
 * oe_call() finds them by account and fingerprint.  Transaction callbacks end
 * them, since an error skips the code that expected them.  A cursor that
 * expected calls in a subtransaction may outlive it, so their memory is kept
 * until the transaction ends.
 */
#include "postgres.h"

#include "access/xact.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/lwlock.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "core/request.h"
#include "base/at_commit.h"
#include "base/client.h"
#include "base/errors.h"
#include "base/text.h"
#include "session/call.h"
#include "session/progress.h"
#include "shared/channel.h"
#include "shared/request_body.h"
#include "shared/settings.h"

struct OeExpectedCall
{
	dlist_node	node;
	bool		listed;			/* true if neither asked for nor ended */
	char		account[OE_ACCOUNT_CHARS + 1];
	uint8		fingerprint[OE_FINGERPRINT_BYTES];
	OeCallOptions options;
	OeTicket	ticket;			/* OE_NO_TICKET if not begun, or no longer
								 * listed */
	SubTransactionId subid;
	OeCallStats *stats;
	bool		judged;			/* true if its result was examined */
};

OeCallStats *oe_call_stats;
OeCallHandler oe_call_instead;

/* In the order of expectation, which is mostly that of the calls. */
static dlist_head expected_calls = DLIST_STATIC_INIT(expected_calls);

/* The setting has seconds, and a range that is large enough for all interval. */
static int64
reuse_for_us(const Interval *reuse_for)
{
	double		us = reuse_for->month * (double) DAYS_PER_MONTH * USECS_PER_DAY +
		reuse_for->day * (double) USECS_PER_DAY + (double) reuse_for->time;

	if (us < 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"reuse_for\" must not be negative"));
	return (int64) Min(us, INT_MAX * (double) USECS_PER_SEC);
}

OeCallOptions
oe_call_options(const OeCallArguments *arguments)
{
	const OeSettings *settings = oe_settings();
	OeCallOptions options;

	options.not_found = settings->not_found;
	options.reuse_for_us = (int64) settings->reuse_for_s * USECS_PER_SEC;
	if (arguments->not_found &&
		!oe_not_found_parse(text_to_cstring(arguments->not_found), &options.not_found))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"not_found\" must be \"error\", \"null\" or \"nothing\""),
				errhint("To give \"reuse_for\" alone, write its name: reuse_for => ..."));
	if (arguments->reuse_for)
		options.reuse_for_us = reuse_for_us(arguments->reuse_for);
	options.reuse_not_found_for_us =
		Min((int64) settings->reuse_not_found_for_s * USECS_PER_SEC,
			options.reuse_for_us);
	return options;
}

/* Fills "call"; all of it except the body lives as long as the settings. */
static char *
pack_call(const OeBody *body, const OeCallOptions *options, OeCall *call,
		  Size *len)
{
	char	   *packed;

	memset(call, 0, sizeof(*call));
	call->body = body->text;
	memcpy(call->fingerprint, body->fingerprint, OE_FINGERPRINT_BYTES);
	strlcpy(call->role, GetUserNameFromId(GetUserId(), false),
			sizeof(call->role));
	oe_settings_fill(body->endpoint, call);
	call->reuse_for_us = options->reuse_for_us;
	call->reuse_not_found_for_us = options->reuse_not_found_for_us;
	call->reveals = body->reveals;
	oe_request_set_reveals(&call->limits, &call->reveals);
	packed = oe_call_pack(call, len);
	explicit_bzero(unconstify(char *, call->token), strlen(call->token));
	return packed;
}

/* ----------------------------------------------------------------
 * Calls that are expected
 * ---------------------------------------------------------------- */

static OeExpectedCall *
find_expected(const OeCall *call)
{
	dlist_iter	iter;

	dlist_foreach(iter, &expected_calls)
	{
		OeExpectedCall *expected = dlist_container(OeExpectedCall, node, iter.cur);

		if (memcmp(expected->fingerprint, call->fingerprint,
				   OE_FINGERPRINT_BYTES) == 0 &&
			strcmp(expected->account, call->account) == 0 &&
			expected->options.reuse_for_us == call->reuse_for_us)
			return expected;
	}
	return NULL;
}

/* Unlists the call.  Its ticket, if any, now belongs to the caller. */
static OeTicket
take_off_list(OeExpectedCall *expected)
{
	OeTicket	ticket = expected->ticket;

	dlist_delete(&expected->node);
	expected->listed = false;
	expected->ticket = OE_NO_TICKET;
	return ticket;
}

static void
end_expected(OeExpectedCall *expected)
{
	OeTicket	ticket = take_off_list(expected);

	if (ticket != OE_NO_TICKET)
		(void) oe_channel_cancel(ticket);
}

void
oe_call_forget(OeExpectedCall *expected)
{
	if (expected->listed)
		end_expected(expected);
	pfree(expected);
}

bool
oe_call_is_done(const OeExpectedCall *expected)
{
	return expected->ticket == OE_NO_TICKET || expected->judged ||
		oe_channel_is_done(expected->ticket);
}

static void
after_subtransaction(SubTransactionId sub, SubTransactionId parent,
					 bool committed)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &expected_calls)
	{
		OeExpectedCall *expected = dlist_container(OeExpectedCall, node, iter.cur);

		if (expected->subid != sub)
			continue;
		if (committed)
			expected->subid = parent;
		else
			end_expected(expected);
	}
}

static void
after_transaction(bool committed)
{
	while (!dlist_is_empty(&expected_calls))
		end_expected(dlist_head_element(OeExpectedCall, node, &expected_calls));
}

/* Returns NULL if the request is invalid; oe_call() will raise the error. */
static OeExpectedCall *
expect_call(const OeEndpoint *endpoint, const OeCallArguments *arguments,
			OeExpect how, OeCallStats *stats)
{
	static OeAtCommit at_commit = {
		.after = after_transaction,
		.after_sub = after_subtransaction,
	};
	OeCallOptions options = oe_call_options(arguments);
	bool		early = how == OE_EXPECT_EARLY ||
		(how == OE_EXPECT_EARLY_IF_REUSED && options.reuse_for_us > 0);
	OeBody		body;
	OeError		error = {0};
	OeCall		call;
	Size		len;
	char	   *packed;
	OeExpectedCall *expected;

	if (!oe_request_check(endpoint, arguments->request, &body, &error))
	{
		oe_error_free(&error);
		return NULL;
	}
	packed = pack_call(&body, &options, &call, &len);
	oe_at_commit(&at_commit);
	expected = MemoryContextAllocZero(TopTransactionContext,
									  sizeof(OeExpectedCall));
	expected->ticket = early ? oe_channel_submit(packed, len, true) : OE_NO_TICKET;
	explicit_bzero(packed, len);
	strlcpy(expected->account, call.account, sizeof(expected->account));
	memcpy(expected->fingerprint, call.fingerprint, OE_FINGERPRINT_BYTES);
	expected->options = options;
	expected->subid = GetCurrentSubTransactionId();
	expected->stats = stats;
	expected->listed = true;
	dlist_push_tail(&expected_calls, &expected->node);
	return expected;
}

/*
 * Errors are discarded here, such as a missing token, an unreadable token
 * file, or lack of memory in this process or the hub: oe_call() raises them
 * again where they belong.  The code in PG_TRY acquires nothing that the end
 * of the transaction would not release.  Interrupts are held, since a cancel
 * must not be discarded.
 */
OeExpectedCall *
oe_call_expect(const OeEndpoint *endpoint, const OeCallArguments *arguments,
			   OeExpect how, OeCallStats *stats)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext scratch;
	OeExpectedCall *volatile expected = NULL;

	if (oe_call_instead)
		return NULL;
	scratch = AllocSetContextCreate(caller, "expected call",
									ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(scratch);
	HOLD_INTERRUPTS();
	PG_TRY();
	{
		expected = expect_call(endpoint, arguments, how, stats);
		RESUME_INTERRUPTS();
	}
	PG_CATCH();
	{
		/* ereport(ERROR) has already resumed interrupts. */
		FlushErrorState();
		LWLockReleaseAll();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);

	/* The plan below may run for long, or wait for a lock. */
	if (expected && expected->ticket != OE_NO_TICKET)
		oe_channel_summon_worker();
	return expected;
}

/* ----------------------------------------------------------------
 * The call
 * ---------------------------------------------------------------- */

/* The result of a request that has an error itself. */
static void
refuse(OeError *error, OeResult *result)
{
	memset(result, 0, sizeof(*result));
	result->code = error->code;
	result->credits = "0";
	result->message = pstrdup(error->message ? error->message : "out of memory");
	result->detail = error->detail ? pstrdup(error->detail) : NULL;
	result->hint = error->hint ? pstrdup(error->hint) : NULL;
	oe_error_free(error);
}

/* A call in progress. */
typedef struct Making
{
	OeTicket	ticket;			/* OE_NO_TICKET if the request has an error */
	bool		was_early;
	OeCallStats *stats;			/* or NULL */
	instr_time	waited;
} Making;

static void
take_or_submit(const OeBody *body, const OeCallOptions *options, Making *making)
{
	OeCall		call;
	Size		len;
	char	   *packed;
	OeExpectedCall *expected;

	oe_request_warn(body);
	packed = pack_call(body, options, &call, &len);
	expected = find_expected(&call);
	making->ticket = expected ? take_off_list(expected) : OE_NO_TICKET;
	making->was_early = making->ticket != OE_NO_TICKET;
	if (expected)
		making->stats = expected->stats;
	if (!making->was_early)
		making->ticket = oe_channel_submit(packed, len, false);
	explicit_bzero(packed, len);
}

/* How many requests that were read ahead are on the wire. */
static int
count_running(void)
{
	int			count = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &expected_calls)
	{
		OeExpectedCall *expected = dlist_container(OeExpectedCall, node, iter.cur);

		count += expected->ticket != OE_NO_TICKET &&
			oe_channel_is_running(expected->ticket);
	}
	return count;
}

/*
 * Add to the error of a cancel what is known about the money.  The error is on
 * its way up, so this runs in PG_CATCH.
 */
static void
tell_money_of_cancel(bool unsent, int64 call_id)
{
	int			others = count_running();
	const char *itself = "The request was not sent.";
	const char *ahead = "";

	if (!unsent && call_id != 0)
		itself = psprintf("The request has been sent, or is about to be, and may be paid for: "
						  "call " INT64_FORMAT ".", call_id);
	else if (!unsent)
		itself = "The request has been sent, or is about to be, and may be paid for.";
	if (others > 0 && unsent)
		ahead = psprintf("  But %d that were read ahead have been, or are about to be, and may be paid for.",
						 others);
	else if (others > 0)
		ahead = psprintf("  So may %d that were read ahead.", others);
	errdetail_internal("%s%s", itself, ahead);
	if (!unsent || others > 0)
		errhint("What comes is recorded, and reused when the statement is run again.");
}

/* The caller of a request will not wait any longer, because of an error. */
static void
give_up(const OeEndpoint *endpoint, OeTicket ticket)
{
	int64		call_id = oe_channel_call_id(ticket);
	bool		unsent = oe_channel_cancel(ticket);

	if (endpoint->recorded && geterrcode() == ERRCODE_QUERY_CANCELED)
		tell_money_of_cancel(unsent, call_id);
}

static char *
wait_for_result(const OeEndpoint *endpoint, OeTicket ticket)
{
	char	   *volatile bytes = NULL;
	bool		waits = !oe_channel_is_done(ticket);

	if (waits)
		oe_progress_wait(true);
	PG_TRY();
	{
		bytes = oe_channel_wait(ticket);
	}
	PG_CATCH();
	{
		oe_progress_wait(false);
		give_up(endpoint, ticket);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (waits)
		oe_progress_wait(false);
	return bytes;
}

/*
 * Is this error likely to repeat for every further request?  True for lack of
 * credits or access, a limit, a lost connection, and the like.
 */
static bool
is_general(OeCode code)
{
	switch (code)
	{
		case OE_OK:
		case OE_GATHERING:
		case OE_API_BAD_REQUEST:
		case OE_API_NOT_FOUND:
		case OE_API_INVALID:
		case OE_BAD_REQUEST:
		case OE_BAD_ANSWER:
			return false;
		case OE_OUT_OF_MEMORY:
		case OE_BAD_SETTING:
		case OE_API_CREDITS:
		case OE_API_FORBIDDEN:
		case OE_API_RATE_LIMIT:
		case OE_API_FAILED:
		case OE_OUTCOME_UNKNOWN:
		case OE_NOT_CONNECTED:
		case OE_LOCAL_RATE_LIMIT:
		case OE_LOCAL_CREDIT_LIMIT:
		case OE_NOT_RECORDED:
			break;
	}
	return true;
}

bool
oe_call_raises(OeCode code, const OeCallOptions *options)
{
	return code != OE_OK &&
		!(code == OE_API_NOT_FOUND && options->not_found == OE_NOT_FOUND_NULL);
}

static void
unpack_result(const char *bytes, OeResult *result)
{
	if (bytes)
	{
		oe_result_unpack(bytes, result);
		return;
	}
	memset(result, 0, sizeof(*result));
	result->code = OE_OUTCOME_UNKNOWN;
	result->message = "the ocean_enrich worker exited before the answer arrived";
	result->detail = "The request may have been paid for.";
	result->hint = "The view \"ocean_enrich.unknown_calls\" lists it; use ocean_enrich.resolve() "
		"to allow sending it again.";
}

bool
oe_call_has_failed(OeExpectedCall *expected, bool raises)
{
	OeResult	result;

	if (expected->judged || expected->ticket == OE_NO_TICKET ||
		!oe_channel_is_done(expected->ticket))
		return false;
	unpack_result(oe_channel_peek(expected->ticket), &result);
	expected->judged = true;
	return raises ? oe_call_raises(result.code, &expected->options)
		: is_general(result.code);
}

static void
count_call(const Making *making, const OeResult *result, OeCredits credits)
{
	OeCallStats *stats = making->stats;

	stats->calls++;
	stats->reused += result->reused;
	stats->credits += credits;
	stats->waited_us += INSTR_TIME_GET_MICROSEC(making->waited);
	if (is_general(result->code))
		stats->stop = true;
	else if (!making->was_early && result->code == OE_OK && !result->reused)
		stats->stop = false;
}

/* Make the call, unless its request has an error. */
static void
ask(const OeEndpoint *endpoint, Jsonb *request, const OeCallOptions *options,
	Making *making, OeResult *result)
{
	OeBody		body;
	OeError		error = {0};
	instr_time	start;

	memset(making, 0, sizeof(*making));
	making->ticket = OE_NO_TICKET;
	making->stats = oe_call_stats;
	if (!oe_request_check(endpoint, request, &body, &error))
	{
		refuse(&error, result);
		return;
	}
	take_or_submit(&body, options, making);
	INSTR_TIME_SET_CURRENT(start);
	unpack_result(wait_for_result(endpoint, making->ticket), result);
	INSTR_TIME_SET_CURRENT(making->waited);
	INSTR_TIME_SUBTRACT(making->waited, start);
}

void
oe_call(const OeEndpoint *endpoint, Jsonb *request,
		const OeCallOptions *options, OeResult *result)
{
	Making		making;
	OeCredits	credits = 0;

	/* Free requests are neither estimated nor counted. */
	if (!endpoint->recorded)
	{
		ask(endpoint, request, options, &making, result);
		return;
	}
	if (oe_call_instead)
	{
		oe_call_instead(endpoint, request, options, result);
		return;
	}
	oe_client_check();
	oe_progress_call();
	ask(endpoint, request, options, &making, result);
	if (result->credits && !oe_credits_parse(result->credits, &credits))
		credits = 0;
	oe_progress_count(result->code != OE_OK, result->reused, credits);
	if (making.stats)
		count_call(&making, result, credits);
}
