/*
 * person.c
 *		An answer as columns: ocean_person() and ocean_person_experiences().
 *
 * Both are generous: an answer that breaks the promises of the API was paid for all
 * the same, so a value that is missing or of another type is NULL, never an error.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(ocean_person);
PG_FUNCTION_INFO_V1(ocean_person_experiences);

/* Makes a value out of a member; false if that is of another type. */
typedef bool (*Converter) (JsonbValue *member, Datum *value);

typedef struct Column
{
	const char *object;			/* the inner object with the member; NULL: the
								 * answer itself has it */
	const char *key;
	Converter	convert;
} Column;

/* ----------------------------------------------------------------
 * The types of columns
 * ---------------------------------------------------------------- */

static bool
as_text(JsonbValue *member, Datum *value)
{
	if (member->type != jbvString)
		return false;
	*value = PointerGetDatum(cstring_to_text_with_len(member->val.string.val,
													  member->val.string.len));
	return true;
}

static bool
is_array(const JsonbValue *member)
{
	return member->type == jbvBinary && JsonContainerIsArray(member->val.binary.data);
}

static bool
as_array(JsonbValue *member, Datum *value)
{
	if (!is_array(member))
		return false;
	*value = JsonbPGetDatum(JsonbValueToJsonb(member));
	return true;
}

/* What is no string in it is NULL, so that the others keep their places. */
static bool
as_text_array(JsonbValue *member, Datum *value)
{
	int			lower_bound = 1;
	int			count;
	Datum	   *texts;
	bool	   *nulls;
	JsonbIterator *iterator;
	JsonbValue	element;

	if (!is_array(member))
		return false;
	count = JsonContainerSize(member->val.binary.data);
	texts = palloc0(sizeof(Datum) * Max(count, 1));
	nulls = palloc0(sizeof(bool) * Max(count, 1));
	iterator = JsonbIteratorInit(member->val.binary.data);
	(void) JsonbIteratorNext(&iterator, &element, true);	/* the array begins */
	for (int i = 0; i < count; i++)
	{
		(void) JsonbIteratorNext(&iterator, &element, true);
		nulls[i] = !as_text(&element, &texts[i]);
	}
	*value = PointerGetDatum(construct_md_array(texts, nulls, count > 0 ? 1 : 0,
												&count, &lower_bound, TEXTOID, -1,
												false, TYPALIGN_INT));
	return true;
}

static bool
as_numeric(JsonbValue *member, Datum *value)
{
	if (member->type != jbvNumeric)
		return false;
	*value = NumericGetDatum(member->val.numeric);
	return true;
}

static bool
as_integer(JsonbValue *member, Datum *value)
{
	Datum		number;

	if (!as_numeric(member, &number) ||
		DatumGetBool(DirectFunctionCall2(numeric_lt, number,
										 NumericGetDatum(int64_to_numeric(PG_INT32_MIN)))) ||
		DatumGetBool(DirectFunctionCall2(numeric_gt, number,
										 NumericGetDatum(int64_to_numeric(PG_INT32_MAX)))))
		return false;
	*value = DirectFunctionCall1(numeric_int4, number);
	return true;
}

/* Read "count" digits; -1 if there are others. */
static int
read_digits(const char *digits, int count)
{
	int			number = 0;

	for (int i = 0; i < count; i++)
	{
		if (digits[i] < '0' || digits[i] > '9')
			return -1;
		number = number * 10 + digits[i] - '0';
	}
	return number;
}

/* A string that begins with YYYY-MM-DD, whatever follows. */
static bool
as_date(JsonbValue *member, Datum *value)
{
	const char *text;
	int			year;
	int			month;
	int			day;

	if (member->type != jbvString || member->val.string.len < 10)
		return false;
	text = member->val.string.val;
	year = read_digits(text, 4);
	month = read_digits(text + 5, 2);
	day = read_digits(text + 8, 2);
	if (text[4] != '-' || text[7] != '-' || year < 1 || month < 1 || month > MONTHS_PER_YEAR ||
		day < 1 || day > day_tab[isleap(year)][month - 1])
		return false;
	*value = DateADTGetDatum(date2j(year, month, day) - POSTGRES_EPOCH_JDATE);
	return true;
}

/* ----------------------------------------------------------------
 * Columns
 * ---------------------------------------------------------------- */

/* In the order of the type's columns. */
static const Column person_columns[] = {
	{NULL, "id", as_text},
	{NULL, "domain", as_text},
	{NULL, "name", as_text},
	{NULL, "firstName", as_text},
	{NULL, "lastName", as_text},
	{NULL, "country", as_text},
	{NULL, "state", as_text},
	{NULL, "location", as_text},
	{NULL, "linkedinUrl", as_text},
	{NULL, "seniorities", as_text_array},
	{NULL, "departments", as_text_array},
	{NULL, "photo", as_text},
	{NULL, "jobTitle", as_text},
	{NULL, "jobTitleEnglish", as_text},
	{NULL, "currentJobDescription", as_text},
	{NULL, "experiences", as_array},
	{NULL, "summary", as_text},
	{NULL, "skills", as_text_array},
	{"phone", "numbers", as_text_array},
	{"phone", "status", as_text},
	{"email", "address", as_text},
	{"email", "status", as_text},
	{NULL, "headline", as_text},
	{NULL, "inferredEmails", as_array},
	{NULL, "connectionsCount", as_integer},
	{NULL, "followersCount", as_integer},
	{NULL, "updatedAt", as_text},
	{NULL, "creditsUsed", as_numeric},
};

/* Those behind "ordinality". */
static const Column experience_columns[] = {
	{NULL, "dateFrom", as_date},
	{NULL, "dateTo", as_date},
	{NULL, "description", as_text},
	{NULL, "domain", as_text},
	{NULL, "jobTitle", as_text},
	{NULL, "linkedinCompanyHandle", as_text},
};

static bool
find_member(JsonbContainer *object, const char *key, JsonbValue *member)
{
	return getKeyJsonValueFromContainer(object, key, strlen(key), member) != NULL;
}

static bool
fill_column(const Column *column, JsonbContainer *object, Datum *value)
{
	JsonbValue	member;

	if (column->object)
	{
		if (!find_member(object, column->object, &member) ||
			member.type != jbvBinary || !JsonContainerIsObject(member.val.binary.data))
			return false;
		object = member.val.binary.data;
	}
	return find_member(object, column->key, &member) &&
		column->convert(&member, value);
}

/* "object" is NULL if there is none: then all columns are. */
static void
fill_columns(const Column *columns, int count, JsonbContainer *object,
			 Datum *values, bool *nulls)
{
	for (int i = 0; i < count; i++)
		nulls[i] = !object || !fill_column(&columns[i], object, &values[i]);
}

/* The type's description, made once for all calls of a query. */
static TupleDesc
person_descriptor(FunctionCallInfo fcinfo)
{
	FmgrInfo   *flinfo = fcinfo->flinfo;
	MemoryContext caller;
	TupleDesc	made;

	if (!flinfo->fn_extra)
	{
		caller = MemoryContextSwitchTo(flinfo->fn_mcxt);
		if (get_call_result_type(fcinfo, NULL, &made) != TYPEFUNC_COMPOSITE ||
			made->natts != lengthof(person_columns))
			elog(ERROR, "ocean_person has other columns than this library");
		flinfo->fn_extra = BlessTupleDesc(made);
		MemoryContextSwitchTo(caller);
	}
	return flinfo->fn_extra;
}

Datum
ocean_person(PG_FUNCTION_ARGS)
{
	Jsonb	   *enriched = PG_GETARG_JSONB_P(0);
	TupleDesc	descriptor = person_descriptor(fcinfo);
	Datum		values[lengthof(person_columns)] = {0};
	bool		nulls[lengthof(person_columns)];

	fill_columns(person_columns, lengthof(person_columns),
				 JB_ROOT_IS_OBJECT(enriched) ? &enriched->root : NULL, values, nulls);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(descriptor, values, nulls)));
}

/* ----------------------------------------------------------------
 * Experiences
 * ---------------------------------------------------------------- */

static void
put_experience(ReturnSetInfo *rsinfo, int ordinality, const JsonbValue *element)
{
	bool		is_object = element->type == jbvBinary &&
		JsonContainerIsObject(element->val.binary.data);
	Datum		values[lengthof(experience_columns) + 1] = {0};
	bool		nulls[lengthof(experience_columns) + 1] = {0};

	values[0] = Int32GetDatum(ordinality);
	fill_columns(experience_columns, lengthof(experience_columns),
				 is_object ? element->val.binary.data : NULL, values + 1, nulls + 1);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
ocean_person_experiences(PG_FUNCTION_ARGS)
{
	Jsonb	   *enriched = PG_GETARG_JSONB_P(0);
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	JsonbIterator *iterator;
	JsonbValue	experiences;
	JsonbValue	element;

	InitMaterializedSRF(fcinfo, 0);
	if (!JB_ROOT_IS_OBJECT(enriched) ||
		!find_member(&enriched->root, "experiences", &experiences) ||
		!is_array(&experiences))
		return (Datum) 0;
	iterator = JsonbIteratorInit(experiences.val.binary.data);
	(void) JsonbIteratorNext(&iterator, &element, true);	/* the array begins */
	for (int ordinality = 1; JsonbIteratorNext(&iterator, &element, true) == WJB_ELEM; ordinality++)
		put_experience(rsinfo, ordinality, &element);
	return (Datum) 0;
}
