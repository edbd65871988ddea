/*
 * config.c
 *		One table of all settings, by which they are read and written.
 */
#include "config.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "faults.h"

#define DAY_MS		(24 * 60 * 60 * 1000)

typedef enum SettingType
{
	SETTING_BOOL,
	SETTING_INT,
	SETTING_AMOUNT,
	SETTING_FRACTION,			/* a double from 0 to 1 */
	SETTING_TEXT,
	SETTING_CHOICE,				/* text that is one of the setting's choices */
	SETTING_FAULT,				/* text that names exactly one known fault */
	SETTING_OBJECT,				/* a JSON object, stored as text */
} SettingType;

typedef struct Setting
{
	const char *key;
	SettingType type;
	size_t		offset;
	bool		nullable;
	int			min;			/* of SETTING_INT */
	int			max;
	size_t		size;			/* of texts */
	const char *const *choices; /* of SETTING_CHOICE, ends with NULL */
} Setting;

static const char *const window_kinds[] = {"sliding", "fixed", NULL};
static const char *const webhook_forms[] =
{"person", "lists", "people", "results", NULL};

#define FIELD(name)		offsetof(SbConfig, name)
#define FIELD_SIZE(name)	sizeof(((SbConfig *) NULL)->name)

#define BOOL(name) \
	{#name, SETTING_BOOL, FIELD(name), false, 0, 0, 0, NULL}
#define INT(name, nullable, min, max) \
	{#name, SETTING_INT, FIELD(name), nullable, min, max, 0, NULL}
#define AMOUNT(name, nullable) \
	{#name, SETTING_AMOUNT, FIELD(name), nullable, 0, 0, 0, NULL}
#define FRACTION(name) \
	{#name, SETTING_FRACTION, FIELD(name), false, 0, 0, 0, NULL}
#define TEXT(name) \
	{#name, SETTING_TEXT, FIELD(name), false, 0, 0, FIELD_SIZE(name), NULL}
#define CHOICE(name, choices) \
	{#name, SETTING_CHOICE, FIELD(name), false, 0, 0, FIELD_SIZE(name), choices}
#define FAULT(name) \
	{#name, SETTING_FAULT, FIELD(name), true, 0, 0, FIELD_SIZE(name), NULL}
#define OBJECT(name) \
	{#name, SETTING_OBJECT, FIELD(name), true, 0, 0, FIELD_SIZE(name), NULL}

static const Setting settings[] =
{
	INT(latency_ms, false, 0, DAY_MS),
	INT(latency_jitter_ms, false, 0, DAY_MS),
	AMOUNT(credits, true),
	AMOUNT(cost, false),
	BOOL(credits_used),
	BOOL(newer_keys),
	INT(rate_limit, false, 0, INT_MAX),
	INT(rate_window_ms, false, 1, DAY_MS),
	CHOICE(rate_window_kind, window_kinds),
	INT(retry_after_s, true, 0, INT_MAX),
	INT(down, true, 400, 599),
	FAULT(fault),
	FRACTION(fault_probability),
	INT(seed, false, 0, INT_MAX),
	TEXT(redirect_to),
	BOOL(identical_tokens_conflict),
	INT(keepalive_requests, false, 0, INT_MAX),
	INT(emails_status, true, 402, 403),
	INT(phones_status, true, 402, 403),
	BOOL(hold),
	BOOL(hold_answers),
	AMOUNT(email_cost, false),
	AMOUNT(phone_cost, false),
	CHOICE(webhook_form, webhook_forms),
	INT(webhook_delay_ms, false, 0, DAY_MS),
	INT(webhook_retry_ms, false, 1, DAY_MS),
	INT(webhook_copies, false, 1, 100),
	INT(balance_status, true, 201, 599),
	OBJECT(balance_changes),
	AMOUNT(add_credits, false),
	INT(release, false, 0, INT_MAX),
	BOOL(close_idle),
};

#define SETTING_COUNT	(sizeof(settings) / sizeof(settings[0]))

void
sb_config_init(SbConfig *config)
{
	static const SbConfig defaults = {
		.credits = SB_NOT_SET,
		.cost = 3 * SB_AMOUNT_ONE,
		.rate_window_ms = 60 * 1000,
		.rate_window_kind = "sliding",
		.retry_after_s = SB_NOT_SET,
		.down = SB_NOT_SET,
		.fault_probability = 1,
		.redirect_to = "/elsewhere",
		.identical_tokens_conflict = true,
		.emails_status = SB_NOT_SET,
		.phones_status = SB_NOT_SET,
		.email_cost = SB_AMOUNT_ONE,
		.phone_cost = 10 * SB_AMOUNT_ONE,
		.webhook_form = "person",
		.webhook_retry_ms = 100,
		.webhook_copies = 1,
		.balance_status = SB_NOT_SET,
	};

	*config = defaults;
}

static const Setting *
find_setting(const char *key)
{
	for (size_t i = 0; i < SETTING_COUNT; i++)
	{
		if (strcmp(settings[i].key, key) == 0)
			return &settings[i];
	}
	return NULL;
}

static bool
set_null(const Setting *setting, void *field)
{
	if (!setting->nullable)
		return false;
	switch (setting->type)
	{
		case SETTING_INT:
			*(int *) field = SB_NOT_SET;
			return true;
		case SETTING_AMOUNT:
			*(SbAmount *) field = SB_NOT_SET;
			return true;
		case SETTING_TEXT:
		case SETTING_FAULT:
		case SETTING_OBJECT:
			*(char *) field = '\0';
			return true;
		case SETTING_BOOL:
		case SETTING_FRACTION:
		case SETTING_CHOICE:
			break;
	}
	return false;
}

static bool
set_int(const Setting *setting, int *field, struct json_object *value)
{
	int64_t		number = json_object_get_int64(value);

	if (!json_object_is_type(value, json_type_int) ||
		number < setting->min || number > setting->max)
		return false;
	*field = (int) number;
	return true;
}

/* Decimal text, or a number, whose original text json-c keeps. */
static bool
set_amount(SbAmount *field, struct json_object *value)
{
	if (!json_object_is_type(value, json_type_string) &&
		!json_object_is_type(value, json_type_int) &&
		!json_object_is_type(value, json_type_double))
		return false;
	return sb_amount_parse(json_object_get_string(value), field);
}

static bool
set_fraction(double *field, struct json_object *value)
{
	double		number = json_object_get_double(value);

	if ((!json_object_is_type(value, json_type_int) &&
		 !json_object_is_type(value, json_type_double)) ||
		!(number >= 0 && number <= 1))
		return false;
	*field = number;
	return true;
}

static bool
set_text(const Setting *setting, char *field, struct json_object *value)
{
	const char *text = json_object_get_string(value);

	if (!json_object_is_type(value, json_type_string) ||
		strlen(text) >= setting->size)
		return false;
	memcpy(field, text, strlen(text) + 1);
	return true;
}

static bool
set_choice(const Setting *setting, char *field, struct json_object *value)
{
	const char *const *choice = setting->choices;

	if (!set_text(setting, field, value))
		return false;
	while (*choice != NULL && strcmp(*choice, field) != 0)
		choice++;
	return *choice != NULL;
}

static bool
set_fault(const Setting *setting, char *field, struct json_object *value)
{
	SbFault		fault;

	if (!set_text(setting, field, value))
		return false;
	fault = sb_fault_parse(field);
	return fault.named && fault.kind != SB_FAULT_MISSPELT;
}

static bool
set_object(const Setting *setting, char *field, struct json_object *value)
{
	const char *text = json_object_to_json_string_ext(value,
													  JSON_C_TO_STRING_PLAIN);

	if (!json_object_is_type(value, json_type_object) ||
		strlen(text) >= setting->size)
		return false;
	memcpy(field, text, strlen(text) + 1);
	return true;
}

static bool
set_setting(const Setting *setting, SbConfig *config, struct json_object *value)
{
	void	   *field = (char *) config + setting->offset;

	if (value == NULL)
		return set_null(setting, field);
	switch (setting->type)
	{
		case SETTING_BOOL:
			*(bool *) field = json_object_get_boolean(value);
			return json_object_is_type(value, json_type_boolean);
		case SETTING_INT:
			return set_int(setting, field, value);
		case SETTING_AMOUNT:
			return set_amount(field, value);
		case SETTING_FRACTION:
			return set_fraction(field, value);
		case SETTING_TEXT:
			return set_text(setting, field, value);
		case SETTING_CHOICE:
			return set_choice(setting, field, value);
		case SETTING_FAULT:
			return set_fault(setting, field, value);
		case SETTING_OBJECT:
			return set_object(setting, field, value);
	}
	return false;
}

bool
sb_config_change(SbConfig *config, struct json_object *change,
				 char problem[SB_PROBLEM_CHARS])
{
	SbConfig	changed = *config;

	if (!json_object_is_type(change, json_type_object))
	{
		(void) snprintf(problem, SB_PROBLEM_CHARS,
						"the configuration must be a JSON object");
		return false;
	}
	json_object_object_foreach(change, key, value)
	{
		const Setting *setting = find_setting(key);

		if (setting == NULL || !set_setting(setting, &changed, value))
		{
			(void) snprintf(problem, SB_PROBLEM_CHARS, "%s \"%s\"",
							setting ? "bad value for" : "unknown key", key);
			return false;
		}
	}
	*config = changed;
	return true;
}

static struct json_object *
amount_json(SbAmount amount)
{
	char		text[SB_AMOUNT_CHARS];

	if (amount == SB_NOT_SET)
		return NULL;
	sb_amount_format(amount, text);
	return json_object_new_string(text);
}

static struct json_object *
setting_json(const Setting *setting, const SbConfig *config)
{
	const void *field = (const char *) config + setting->offset;

	switch (setting->type)
	{
		case SETTING_BOOL:
			return json_object_new_boolean(*(const bool *) field);
		case SETTING_INT:
			if (setting->nullable && *(const int *) field == SB_NOT_SET)
				return NULL;
			return json_object_new_int(*(const int *) field);
		case SETTING_AMOUNT:
			return amount_json(*(const SbAmount *) field);
		case SETTING_FRACTION:
			return json_object_new_double(*(const double *) field);
		case SETTING_TEXT:
		case SETTING_CHOICE:
		case SETTING_FAULT:
			if (setting->nullable && *(const char *) field == '\0')
				return NULL;
			return json_object_new_string(field);
		case SETTING_OBJECT:
			return json_tokener_parse(field);
	}
	return NULL;
}

struct json_object *
sb_config_json(const SbConfig *config)
{
	struct json_object *json = json_object_new_object();

	for (size_t i = 0; i < SETTING_COUNT; i++)
	{
		/* One-time commands have no lasting value. */
		if (settings[i].offset != FIELD(close_idle) &&
			settings[i].offset != FIELD(add_credits) &&
			settings[i].offset != FIELD(release))
			json_object_object_add(json, settings[i].key,
								   setting_json(&settings[i], config));
	}
	return json;
}
