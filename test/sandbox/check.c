/*
 * check.c
 *		The keys of a request, as tables, and the check of a body by them.
 */
#include "check.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

typedef struct Field
{
	const char *name;
	json_type	type;
	bool		nullable;
	bool		required;
	const struct Field *members;	/* of an object; ends with a NULL name */
} Field;

#define TEXT(name)		{name, json_type_string, true, false, NULL}
#define END				{NULL, json_type_null, false, false, NULL}

static const Field person_fields[] = {
	TEXT("id"), TEXT("name"), TEXT("firstName"), TEXT("lastName"),
	TEXT("jobTitle"), TEXT("email"), TEXT("phone"), TEXT("facebook"),
	TEXT("twitter"), TEXT("linkedin"), TEXT("country"), END
};

static const Field company_fields[] = {
	TEXT("name"), TEXT("registrationNumber"), TEXT("email"), TEXT("phone"),
	TEXT("countryCode"), TEXT("state"), TEXT("city"), TEXT("streetAddress"),
	TEXT("postalCode"), TEXT("address"), TEXT("facebook"), TEXT("twitter"),
	TEXT("linkedin"), TEXT("instagram"), TEXT("xing"), TEXT("domain"),
	TEXT("youtube"), END
};

static const Field reveal_emails_fields[] = {
	{"includeEmails", json_type_boolean, false, false, NULL},
	TEXT("webhookUrl"), END
};

static const Field reveal_phones_fields[] = {
	{"includePhones", json_type_boolean, false, false, NULL},
	TEXT("webhookUrl"), END
};

static const Field body_fields[] = {
	{"person", json_type_object, false, true, person_fields},
	{"company", json_type_object, true, false, company_fields},
	{"revealEmails", json_type_object, true, false, reveal_emails_fields},
	{"revealPhones", json_type_object, true, false, reveal_phones_fields},
	END
};

static const Field body_field =
{"body", json_type_object, false, true, body_fields};

/* The path from the body to a value; lives on the stack. */
typedef struct Place
{
	const struct Place *outer;
	const char *name;
} Place;

static void check_value(struct json_object *errors, const Place *place,
						const Field *field, struct json_object *value);

static void
add_place(struct json_object *loc, const Place *place)
{
	if (place->outer != NULL)
		add_place(loc, place->outer);
	json_object_array_add(loc, json_object_new_string(place->name));
}

/* Add one complaint.  Takes over "loc", but not "input". */
static void
add_error(struct json_object *errors, struct json_object *loc,
		  const char *msg, const char *type, struct json_object *input)
{
	struct json_object *error = json_object_new_object();

	json_object_object_add(error, "loc", loc);
	json_object_object_add(error, "msg", json_object_new_string(msg));
	json_object_object_add(error, "type", json_object_new_string(type));
	json_object_object_add(error, "input", json_object_get(input));
	json_object_array_add(errors, error);
}

static void
complain(struct json_object *errors, const Place *place,
		 const char *msg, const char *type, struct json_object *input)
{
	struct json_object *loc = json_object_new_array();

	add_place(loc, place);
	add_error(errors, loc, msg, type, input);
}

static void
complain_of_type(struct json_object *errors, const Place *place,
				 json_type wanted, struct json_object *value)
{
	if (wanted == json_type_string)
		complain(errors, place, "Input should be a valid string",
				 "string_type", value);
	else if (wanted == json_type_boolean)
		complain(errors, place, "Input should be a valid boolean",
				 "bool_type", value);
	else
		complain(errors, place, "Input should be a valid dictionary",
				 "dict_type", value);
}

static bool
is_known(const Field *fields, const char *name)
{
	for (; fields->name != NULL; fields++)
	{
		if (strcmp(fields->name, name) == 0)
			return true;
	}
	return false;
}

static void
check_members(struct json_object *errors, const Place *place,
			  const Field *fields, struct json_object *object)
{
	for (const Field *field = fields; field->name != NULL; field++)
	{
		Place		member = {place, field->name};
		struct json_object *value;

		if (json_object_object_get_ex(object, field->name, &value))
			check_value(errors, &member, field, value);
		else if (field->required)
			complain(errors, &member, "Field required", "missing", object);
	}
	json_object_object_foreach(object, name, value)
	{
		Place		member = {place, name};

		if (!is_known(fields, name))
			complain(errors, &member, "Extra inputs are not permitted",
					 "extra_forbidden", value);
	}
}

static void
check_value(struct json_object *errors, const Place *place,
			const Field *field, struct json_object *value)
{
	if (value == NULL && field->nullable)
		return;
	if (!json_object_is_type(value, field->type))
		complain_of_type(errors, place, field->type, value);
	else if (field->members != NULL)
		check_members(errors, place, field->members, value);
}

struct json_object *
sb_check_body(struct json_object *body)
{
	struct json_object *errors = json_object_new_array();
	Place		place = {NULL, body_field.name};

	check_value(errors, &place, &body_field, body);
	return errors;
}

struct json_object *
sb_check_no_json(size_t offset, const char *problem)
{
	struct json_object *errors = json_object_new_array();
	struct json_object *loc = json_object_new_array();
	struct json_object *input = json_object_new_object();
	struct json_object *ctx = json_object_new_object();

	json_object_array_add(loc, json_object_new_string(body_field.name));
	json_object_array_add(loc, json_object_new_int64((int64_t) offset));
	add_error(errors, loc, "JSON decode error", "json_invalid", input);
	json_object_put(input);
	json_object_object_add(ctx, "error", json_object_new_string(problem));
	json_object_object_add(json_object_array_get_idx(errors, 0), "ctx", ctx);
	return errors;
}

struct json_object *
sb_check_no_body(void)
{
	struct json_object *errors = json_object_new_array();
	Place		place = {NULL, body_field.name};

	complain(errors, &place, "Field required", "missing", NULL);
	return errors;
}

struct json_object *
sb_check_not_declared(void)
{
	struct json_object *errors = json_object_new_array();
	Place		place = {NULL, body_field.name};

	complain_of_type(errors, &place, json_type_object, NULL);
	return errors;
}

struct json_object *
sb_check_sample(void)
{
	struct json_object *errors = json_object_new_array();
	struct json_object *loc = json_object_new_array();
	Place		body = {NULL, body_field.name};
	Place		person = {&body, "person"};
	Place		email = {&person, "email"};

	complain(errors, &email, "value is not a valid email address",
			 "value_error.email", NULL);
	json_object_array_add(loc, json_object_new_string(body_field.name));
	json_object_array_add(loc, json_object_new_int(12));
	add_error(errors, loc, "Value error, too many values", "value_error",
			  NULL);
	return errors;
}
