/*
 * fuzz_answer.c
 *		Any status and any bytes as an answer.
 *
 * An input consists of three digits for the status, one byte that is "t" if the
 * body was truncated, and the body.
 */
#include <stdlib.h>
#include <string.h>

#include "core/answer.h"
#include "core/foreign.h"
#include "fuzz.h"

#define HEAD_BYTES	4

static void
check_text(const char *text)
{
	REQUIRE(text == NULL || fuzz_is_utf8(text, strlen(text)));
}

/* A decimal number that numeric_in() accepts. */
static void
check_credits(const char *credits)
{
	if (credits != NULL)
		REQUIRE(strspn(credits, "0123456789.eE+-") == strlen(credits) &&
				credits[0] >= '0' && credits[0] <= '9');
}

static void
check_error(OeCode code, const OeError *error)
{
	REQUIRE(error->code == code);
	if (code == OE_OK)
	{
		REQUIRE(!error->message && !error->detail && !error->hint);
		return;
	}
	REQUIRE(code != OE_OUT_OF_MEMORY);
	REQUIRE(error->message != NULL && error->message[0] != '\0');
	REQUIRE(error->detail != NULL && error->hint != NULL);
	check_text(error->message);
	check_text(error->detail);
}

static void
check_answer(int status, OeCode code, bool usable, bool foreign,
			 const OeAnswer *answer)
{
	if (status == 200)
		REQUIRE(answer->outcome == (answer->is_usable ? OE_ANSWERED : OE_UNKNOWN));
	else
		REQUIRE(answer->outcome == oe_answer_outcome(status) ||
				(status == 404 && answer->outcome == OE_FAILED));
	REQUIRE(answer->is_usable == (code == OE_OK));
	REQUIRE(!answer->is_usable || status == 200);
	REQUIRE(!answer->credits || status == 200);
	REQUIRE(!answer->detail || !answer->is_usable);
	REQUIRE(usable || (!answer->is_usable && !answer->credits));
	REQUIRE(usable || foreign || !answer->detail);
	check_credits(answer->credits);
	check_text(answer->detail);
}

/*
 * The ledger keeps status and detail, which must give the same error again.  Of
 * what is not the API's it keeps message and words.
 */
static void
check_replay(int status, bool foreign, const char *detail, const OeError *fresh)
{
	OeError		replayed = {0};

	REQUIRE(oe_answer_error(&oe_endpoint_person, status, detail, &replayed) == fresh->code);
	if (!foreign)
	{
		REQUIRE(strcmp(replayed.message, fresh->message) == 0);
		REQUIRE(strcmp(replayed.hint, fresh->hint) == 0);
	}
	else if (detail && status != 200)
	{
		REQUIRE(strcmp(replayed.message, detail) == 0);
		REQUIRE(strncmp(detail, fresh->message, strlen(fresh->message)) == 0);
	}
	oe_error_free(&replayed);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *body;
	size_t		len;
	OeAnswer	answer;
	OeError		error = {0};
	OeCode		code;
	int			status = 0;
	bool		truncated;
	bool		valid_utf8;
	bool		foreign;

	if (size < HEAD_BYTES)
		return 0;
	for (int i = 0; i < 3; i++)
	{
		if (data[i] < '0' || data[i] > '9')
			return 0;
		status = status * 10 + (data[i] - '0');
	}
	truncated = data[3] == 't';
	body = (const char *) data + HEAD_BYTES;
	len = size - HEAD_BYTES;
	valid_utf8 = fuzz_is_utf8(body, len);
	foreign = oe_is_foreign(body, len);

	code = oe_answer_decode(&oe_endpoint_person, status, body, len, valid_utf8, truncated,
							&answer, &error);
	check_error(code, &error);
	check_answer(status, code, valid_utf8 && !truncated, foreign, &answer);
	/* What is no answer of the API is never served from the ledger. */
	if (code != OE_OK && (status != 404 || answer.outcome == OE_REFUSED))
		check_replay(status, foreign, answer.detail, &error);

	oe_answer_free(&answer);
	oe_error_free(&error);
	return 0;
}
