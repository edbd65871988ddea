/*
 * request.c
 *		Check, normalise and encode a request; see request.h.
 *
 * The endpoint's vocabulary defines the accepted members, their types, and the
 * order in which they are sent; everything here walks its tables.
 */
#include "core/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buffer.h"
#include "core/json.h"

/* Longer keys are cut in messages and are like no known key. */
#define KEY_SHOWN_MAX_BYTES		64

/* The rules for checking a request, and the result. */
typedef struct Check
{
	const OeVocabulary *vocabulary;
	bool		pass_unknown_keys;
	OeError    *error;
} Check;

static enum json_type
type_in_json(OeMemberType type)
{
	switch (type)
	{
		case OE_MEMBER_STRING:
			return json_type_string;
		case OE_MEMBER_BOOLEAN:
			return json_type_boolean;
		case OE_MEMBER_OBJECT:
			return json_type_object;
	}
	return json_type_null;
}

static const char *
type_for_people(enum json_type type)
{
	switch (type)
	{
		case json_type_null:
			return "null";
		case json_type_boolean:
			return "a boolean";
		case json_type_double:
		case json_type_int:
			return "a number";
		case json_type_object:
			return "an object";
		case json_type_array:
			return "an array";
		case json_type_string:
			return "a string";
	}
	return "unknown";
}

/*
 * A key in a form that may stand in a message: of bounded length, and without
 * control characters, which could forge lines of a log.
 */
static void
show_key(char shown[KEY_SHOWN_MAX_BYTES + sizeof("...")], const char *key)
{
	size_t		len = strlen(key);
	size_t		clipped = oe_utf8_clip(key, len, KEY_SHOWN_MAX_BYTES);

	for (size_t i = 0; i < clipped; i++)
	{
		unsigned char c = (unsigned char) key[i];

		shown[i] = (c < 0x20 || c == 0x7F) ? '?' : key[i];
	}
	if (clipped < len)
		memcpy(shown + clipped, "...", sizeof("..."));
	else
		shown[clipped] = '\0';
}

static void
out_of_memory(OeError *error)
{
	oe_error_set(error, OE_OUT_OF_MEMORY, "out of memory");
}

static void
not_an_object(const OeVocabulary *vocabulary, OeError *error)
{
	oe_error_set(error, OE_BAD_REQUEST, "the request is not a JSON object");
	oe_error_hint(error, "Use an object such as %s.", vocabulary->example);
}

static void
too_long(OeError *error)
{
	oe_error_set(error, OE_BAD_REQUEST,
				 "the request is longer than %d bytes", OE_REQUEST_MAX_BYTES);
}

static void
inexact_number(OeError *error)
{
	oe_error_set(error, OE_BAD_REQUEST,
				 "the request contains a number that cannot be sent exactly");
	oe_error_hint(error, "Integers can have at most 64 bits; send a larger one as a string.");
}

static void
wrong_type(OeError *error, const OeObject *type, const OeMember *member,
		   struct json_object *value)
{
	oe_error_set(error, OE_BAD_REQUEST, "\"%s%s%s\" must be %s, not %s",
				 type->name ? type->name : "", type->name ? "." : "",
				 member->name, type_for_people(type_in_json(member->type)),
				 type_for_people(json_object_get_type(value)));
}

/* Lower case, without the separators of other naming styles. */
static size_t
fold_key(char folded[KEY_SHOWN_MAX_BYTES + 1], const char *key)
{
	size_t		len = 0;

	for (; *key != '\0' && len < KEY_SHOWN_MAX_BYTES; key++)
	{
		if (*key == '_' || *key == '-' || *key == ' ')
			continue;
		folded[len++] = (*key >= 'A' && *key <= 'Z') ? *key - 'A' + 'a' : *key;
	}
	folded[len] = '\0';
	return len;
}

static size_t
least(size_t a, size_t b, size_t c)
{
	if (b < a)
		a = b;
	return (c < a) ? c : a;
}

/* Levenshtein's distance, one row of the matrix at a time. */
static size_t
edit_distance(const char *a, size_t alen, const char *b, size_t blen)
{
	size_t		row[KEY_SHOWN_MAX_BYTES + 1];

	for (size_t j = 0; j <= blen; j++)
		row[j] = j;

	for (size_t i = 1; i <= alen; i++)
	{
		size_t		diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= blen; j++)
		{
			size_t		above = row[j];

			row[j] = least(above + 1, row[j - 1] + 1,
						   diagonal + (a[i - 1] != b[j - 1]));
			diagonal = above;
		}
	}
	return row[blen];
}

/*
 * How far apart two keys are: 0 if only the style of writing differs
 * (first_name), 1 if one begins with the other (linkedinUrl, countryCode), 2
 * if one contains the other (title).  For keys that says more than counting
 * edits, which comes last.
 */
static size_t
key_distance(const char *a, const char *b)
{
	char		afolded[KEY_SHOWN_MAX_BYTES + 1];
	char		bfolded[KEY_SHOWN_MAX_BYTES + 1];
	size_t		alen = fold_key(afolded, a);
	size_t		blen = fold_key(bfolded, b);
	const char *shorter = (alen < blen) ? afolded : bfolded;
	const char *longer = (alen < blen) ? bfolded : afolded;
	const char *found = strstr(longer, shorter);

	if (alen == blen && found != NULL)
		return 0;
	/* Fewer than three letters are found everywhere. */
	if (found != NULL && strlen(shorter) > 2)
		return (found == longer) ? 1 : 2;
	return edit_distance(afolded, alen, bfolded, blen);
}

/* The first of the nearest members of "type" within "limit", or NULL. */
static const OeMember *
nearest_member(const OeObject *type, const char *key, size_t limit)
{
	const OeMember *nearest = NULL;

	for (size_t i = 0; i < type->count; i++)
	{
		size_t		distance = key_distance(key, type->members[i].name);

		if (distance < limit || (distance == limit && nearest == NULL))
		{
			nearest = &type->members[i];
			limit = distance;
		}
	}
	return nearest;
}

/* The same for the members of all inner objects; sets their owner. */
static const OeMember *
nearest_inner_member(const OeObject *request, const char *key, size_t limit,
					 const OeObject **owner)
{
	for (size_t i = 0; i < request->count; i++)
	{
		const OeObject *type = request->members[i].object;
		const OeMember *member = type ? nearest_member(type, key, limit) : NULL;

		if (member != NULL)
		{
			*owner = type;
			return member;
		}
	}
	return NULL;
}

/*
 * A member of an inner object whose name follows that of the object, as in
 * "companyName" and in the arguments of ocean_person_request().
 */
static const OeMember *
prefixed_member(const OeObject *request, const char *key,
				const OeObject **owner)
{
	char		folded[KEY_SHOWN_MAX_BYTES + 1];

	(void) fold_key(folded, key);
	for (size_t i = 0; i < request->count; i++)
	{
		const OeObject *type = request->members[i].object;
		char		name[KEY_SHOWN_MAX_BYTES + 1];
		size_t		prefix = fold_key(name, request->members[i].name);
		const OeMember *member = NULL;

		if (type != NULL && strncmp(folded, name, prefix) == 0)
			member = nearest_member(type, folded + prefix, 0);
		if (member != NULL)
		{
			*owner = type;
			return member;
		}
	}
	return NULL;
}

/*
 * The member that "key" in "type" may have meant, and where it belongs.  At
 * top level people forget the inner objects, so members of those come before
 * keys that are merely similar.
 */
static const OeMember *
meant_member(const OeObject *request, const OeObject *type, const char *key,
			 const OeObject **owner)
{
	size_t		alike = (type == request) ? 0 : 1;
	size_t		typo = (strlen(key) + 1) / 3;
	const OeMember *member;

	*owner = type;
	if ((member = nearest_member(type, key, alike)) != NULL ||
		(member = nearest_inner_member(request, key, 0, owner)) != NULL ||
		(member = prefixed_member(request, key, owner)) != NULL)
		return member;

	*owner = request;
	if ((member = nearest_member(request, key, 0)) == NULL &&
		(member = nearest_inner_member(request, key, 1, owner)) == NULL)
	{
		*owner = type;
		member = nearest_member(type, key, (typo > 1) ? typo : 1);
	}
	return member;
}

static void
hint_at_meant_key(const Check *check, const OeObject *type, const char *key)
{
	const OeObject *owner = type;
	const OeMember *member = NULL;

	if (strlen(key) <= KEY_SHOWN_MAX_BYTES)
		member = meant_member(&check->vocabulary->request, type, key, &owner);

	if (member == NULL)
		oe_error_hint(check->error, "Set \"ocean_enrich.unknown_keys\" to \"pass\" to send it anyway.");
	else if (owner == type)
		oe_error_hint(check->error, "Perhaps you meant \"%s\".", member->name);
	else if (owner->name == NULL)
		oe_error_hint(check->error, "\"%s\" belongs beside \"%s\", not inside it.",
					  member->name, type->name);
	else
		oe_error_hint(check->error, "\"%s\" belongs inside \"%s\".",
					  member->name, owner->name);
}

static void
unknown_key(const Check *check, const OeObject *type, const char *key)
{
	char		shown[KEY_SHOWN_MAX_BYTES + sizeof("...")];

	show_key(shown, key);
	if (type->name != NULL)
		oe_error_set(check->error, OE_BAD_REQUEST,
					 "unknown key \"%s\" in \"%s\"", shown, type->name);
	else
		oe_error_set(check->error, OE_BAD_REQUEST,
					 "unknown key \"%s\" in the request", shown);
	hint_at_meant_key(check, type, key);
}

static const OeMember *
find_member(const OeObject *type, const char *key)
{
	for (size_t i = 0; i < type->count; i++)
	{
		if (strcmp(type->members[i].name, key) == 0)
			return &type->members[i];
	}
	return NULL;
}

static bool check_object(const Check *check, const OeObject *type,
						 struct json_object *object);

static bool
check_member(const Check *check, const OeObject *type, const OeMember *member,
			 struct json_object *value)
{
	if (value == NULL && member->null_allowed)
		return true;
	if (!json_object_is_type(value, type_in_json(member->type)))
	{
		wrong_type(check->error, type, member, value);
		return false;
	}
	return member->object == NULL || check_object(check, member->object, value);
}

static bool
check_unknown(const Check *check, const OeObject *type, const char *key,
			  struct json_object *value)
{
	if (!check->pass_unknown_keys)
	{
		unknown_key(check, type, key);
		return false;
	}
	if (!oe_json_is_exact(value))
	{
		inexact_number(check->error);
		return false;
	}
	return true;
}

/* Recursive as deep as the vocabulary is: two levels. */
static bool
check_object(const Check *check, const OeObject *type,
			 struct json_object *object)
{
	json_object_object_foreach(object, key, value)
	{
		const OeMember *member = find_member(type, key);
		bool		good;

		if (member != NULL)
			good = check_member(check, type, member, value);
		else
			good = check_unknown(check, type, key, value);
		if (!good)
			return false;
	}
	return true;
}

static bool
check_request(const Check *check, struct json_object *json)
{
	const OeVocabulary *vocabulary = check->vocabulary;

	if (!json_object_is_type(json, json_type_object))
	{
		not_an_object(vocabulary, check->error);
		return false;
	}
	if (!check_object(check, &vocabulary->request, json))
		return false;
	if (!json_object_object_get_ex(json, vocabulary->required, NULL))
	{
		oe_error_set(check->error, OE_BAD_REQUEST, "the request has no key \"%s\"",
					 vocabulary->required);
		oe_error_hint(check->error, "%s", vocabulary->missing_hint);
		return false;
	}
	return true;
}

/*
 * Add a value to a normalised object.  Both belong to trees of which the one
 * that was read lives longer, so its keys need no copies.
 */
static bool
add_value(struct json_object *object, const char *key,
		  struct json_object *value)
{
	if (json_object_object_add_ex(object, key, json_object_get(value),
								  JSON_C_OBJECT_ADD_KEY_IS_NEW |
								  JSON_C_OBJECT_ADD_CONSTANT_KEY) == 0)
		return true;
	(void) json_object_put(value);	/* gives only that reference back */
	return false;
}

/* A text without the blanks around it; left out when nothing is left of it. */
static bool
add_text(struct json_object *normalised, const OeMember *member,
		 struct json_object *value)
{
	const char *text = json_object_get_string(value);
	size_t		len = (size_t) json_object_get_string_len(value);
	struct json_object *trimmed;
	bool		added;

	oe_trim(&text, &len);
	if (len == 0)
		return true;
	if (len == (size_t) json_object_get_string_len(value))
		return add_value(normalised, member->name, value);
	trimmed = json_object_new_string_len(text, (int) len);
	added = trimmed != NULL && add_value(normalised, member->name, trimmed);
	(void) json_object_put(trimmed);	/* if it was added, that holds it */
	return added;
}

static struct json_object *normalise_object(const OeObject *type,
											struct json_object *object);

/* An object of the vocabulary; left out when nothing is left of it. */
static bool
add_object(struct json_object *normalised, const OeMember *member,
		   struct json_object *value)
{
	struct json_object *inner = normalise_object(member->object, value);
	bool		added = true;

	if (inner == NULL)
		return false;
	if (json_object_object_length(inner) > 0)
		added = add_value(normalised, member->name, inner);
	(void) json_object_put(inner);	/* if it was added, that holds it */
	return added;
}

/* The members of the vocabulary, in its order. */
static bool
add_known(struct json_object *normalised, const OeObject *type,
		  struct json_object *object)
{
	for (size_t i = 0; i < type->count; i++)
	{
		const OeMember *member = &type->members[i];
		struct json_object *value =
			json_object_object_get(object, member->name);
		bool		added = true;

		if (value == NULL)
			continue;
		if (member->object != NULL)
			added = add_object(normalised, member, value);
		else if (member->type == OE_MEMBER_STRING)
			added = add_text(normalised, member, value);
		else
			added = add_value(normalised, member->name, value);
		if (!added)
			return false;
	}
	return true;
}

static int
compare_keys(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* Collect the keys that are not in the vocabulary, in byte order. */
static size_t
unknown_keys(const OeObject *type, struct json_object *object,
			 const char **keys)
{
	size_t		count = 0;

	json_object_object_foreach(object, key, value)
	{
		if (value != NULL && find_member(type, key) == NULL)
			keys[count++] = key;
	}
	qsort(keys, count, sizeof(*keys), compare_keys);
	return count;
}

/* The members outside the vocabulary. */
static bool
add_unknown(struct json_object *normalised, const OeObject *type,
			struct json_object *object)
{
	int			members = json_object_object_length(object);
	const char **keys = malloc(((size_t) members + 1) * sizeof(*keys));
	size_t		count;
	bool		added = true;

	if (keys == NULL)
		return false;

	count = unknown_keys(type, object, keys);
	for (size_t i = 0; added && i < count; i++)
		added = add_value(normalised, keys[i],
						  json_object_object_get(object, keys[i]));
	free(keys);
	return added;
}

/* A new object, which the caller frees; NULL if out of memory. */
static struct json_object *
normalise_object(const OeObject *type, struct json_object *object)
{
	struct json_object *normalised = json_object_new_object();

	if (normalised == NULL)
		return NULL;
	if (add_known(normalised, type, object) &&
		add_unknown(normalised, type, object))
		return normalised;
	(void) json_object_put(normalised); /* nobody else has it */
	return NULL;
}

/* ----------------------------------------------------------------
 * The identity
 * ---------------------------------------------------------------- */

/* Several times as long as the values, as folding and escapes can make it. */
#define CANONICAL_MAX_BYTES		(8 * OE_REQUEST_MAX_BYTES)

/* A new value, which the caller puts; NULL if out of memory. */
static struct json_object *
canonical_text(OeForm form, struct json_object *value)
{
	struct json_object *canonical = NULL;
	OeBuf		buf;

	oe_buf_init(&buf, CANONICAL_MAX_BYTES);
	if (oe_canonical_append(&buf, form, json_object_get_string(value),
							(size_t) json_object_get_string_len(value)))
		canonical = json_object_new_string_len(buf.len > 0 ? buf.data : "",
											   (int) buf.len);
	oe_buf_free(&buf);
	return canonical;
}

static struct json_object *identify_object(const OeObject *type,
										   struct json_object *normalised,
										   OeEquality equality);

/* What a member of the vocabulary contributes, as above. */
static struct json_object *
identify_value(const OeMember *member, struct json_object *value,
			   OeEquality equality)
{
	if (member->object != NULL)
		return identify_object(member->object, value, equality);
	if (equality == OE_EQUAL_EXACT)
		return json_object_get(value);
	return canonical_text(member->form, value);
}

static bool
add_identity(struct json_object *identity, const OeMember *member,
			 struct json_object *value, OeEquality equality)
{
	struct json_object *part;
	bool		added = true;

	if (member->object == NULL && member->form == OE_FORM_REVEAL)
		return true;
	part = identify_value(member, value, equality);
	if (part == NULL)
		return false;
	if (member->object == NULL || json_object_object_length(part) > 0)
		added = add_value(identity, member->name, part);
	(void) json_object_put(part);	/* if it was added, that holds it */
	return added;
}

static bool
add_identities(struct json_object *identity, const OeObject *type,
			   struct json_object *normalised, OeEquality equality)
{
	json_object_object_foreach(normalised, key, value)
	{
		const OeMember *member = find_member(type, key);
		bool		added;

		if (member != NULL)
			added = add_identity(identity, member, value, equality);
		else
			added = add_value(identity, key, value);
		if (!added)
			return false;
	}
	return true;
}

/* A new object, which the caller puts; NULL if out of memory. */
static struct json_object *
identify_object(const OeObject *type, struct json_object *normalised,
				OeEquality equality)
{
	struct json_object *identity = json_object_new_object();

	if (identity == NULL)
		return NULL;
	if (add_identities(identity, type, normalised, equality))
		return identity;
	(void) json_object_put(identity);	/* nobody else has it */
	return NULL;
}

/* ----------------------------------------------------------------
 * The body
 * ---------------------------------------------------------------- */

/* How a request asks for the item with this price. */
static OeReveal
reveal_of(const OePrice *price, struct json_object *normalised)
{
	struct json_object *reveal;
	struct json_object *asked = NULL;
	struct json_object *url = NULL;
	bool		by_webhook;

	if (price->object == NULL)
		return OE_REVEAL_IN_ANSWER;
	reveal = json_object_object_get(normalised, price->object);
	(void) json_object_object_get_ex(reveal, OE_WEBHOOK_URL, &url);
	by_webhook = json_object_get_boolean(json_object_object_get(reveal, OE_BY_WEBHOOK));
	if (!json_object_object_get_ex(reveal, price->flag, &asked) && !by_webhook)
		return url ? OE_REVEAL_NOT_ASKED : OE_REVEAL_NONE;
	if (asked != NULL && !json_object_get_boolean(asked))
		return OE_REVEAL_NONE;
	return url || by_webhook ? OE_REVEAL_BY_WEBHOOK : OE_REVEAL_IN_ANSWER;
}

/* False if out of memory. */
static bool
set_flag(struct json_object *reveal, const char *flag)
{
	struct json_object *value;
	bool		added;

	if (json_object_object_get_ex(reveal, flag, NULL))
		return true;
	value = json_object_new_boolean(true);
	added = value != NULL && add_value(reveal, flag, value);
	(void) json_object_put(value);	/* if it was added, that holds it */
	return added;
}

/*
 * Note how the item is asked for.  Keep "byWebhook" only where the URL of the settings
 * is to be sent, and then with the flag that the API knows.  False if out of memory.
 */
static bool
settle_reveal(const OePrice *price, struct json_object *normalised,
			  OeReveal *way, bool *needs_url)
{
	struct json_object *reveal = NULL;

	*way = reveal_of(price, normalised);
	if (price->object != NULL)
		reveal = json_object_object_get(normalised, price->object);
	if (!json_object_object_get_ex(reveal, OE_BY_WEBHOOK, NULL))
		return true;
	if (*way == OE_REVEAL_BY_WEBHOOK && !set_flag(reveal, price->flag))
		return false;
	if (*way == OE_REVEAL_BY_WEBHOOK &&
		!json_object_object_get_ex(reveal, OE_WEBHOOK_URL, NULL))
		*needs_url = true;
	else
		json_object_object_del(reveal, OE_BY_WEBHOOK);
	if (json_object_object_length(reveal) == 0)
		json_object_object_del(normalised, price->object);
	return true;
}

/* A copy of the value's text, to be freed; NULL if out of memory. */
static char *
copy_text(struct json_object *value, size_t *len)
{
	const char *text = oe_json_text(value);
	char	   *copy;

	if (text == NULL)
		return NULL;
	*len = strlen(text);
	copy = malloc(*len + 1);
	if (copy != NULL)
		memcpy(copy, text, *len + 1);
	return copy;
}

static char *
identify(const OeVocabulary *vocabulary, struct json_object *normalised,
		 OeEquality equality)
{
	struct json_object *identity =
		identify_object(&vocabulary->request, normalised, equality);
	size_t		len;
	char	   *text = NULL;

	if (identity != NULL)
		text = copy_text(identity, &len);
	(void) json_object_put(identity);	/* the text is a copy */
	return text;
}

static void
encode(const OeEndpoint *endpoint, struct json_object *normalised,
	   OeEquality equality, OeRequest *request, OeError *error)
{
	const OeVocabulary *vocabulary = endpoint->vocabulary;

	if (!json_object_object_get_ex(normalised, vocabulary->required, NULL))
	{
		oe_error_set(error, OE_API_BAD_REQUEST, "%s", vocabulary->empty_message);
		oe_error_detail(error, "Nothing was sent.");
		oe_error_hint(error, "%s", vocabulary->empty_hint);
		return;
	}

	for (size_t i = 0; i < endpoint->price_count; i++)
	{
		if (!settle_reveal(&endpoint->prices[i], normalised,
						   &request->reveals.of[i], &request->needs_url))
		{
			out_of_memory(error);
			return;
		}
	}
	request->body = copy_text(normalised, &request->body_len);
	if (request->body == NULL)
		out_of_memory(error);
	else if (request->body_len > OE_REQUEST_MAX_BYTES)
		too_long(error);
	else if ((request->identity = identify(vocabulary, normalised, equality)) == NULL)
		out_of_memory(error);
	if (error->code != OE_OK)
		oe_request_free(request);
}

static bool
read_request(const OeVocabulary *vocabulary, const char *json, size_t len,
			 struct json_object **value, OeError *error)
{
	/* Normalising makes nothing longer that PostgreSQL calls JSON. */
	if (len > OE_REQUEST_MAX_BYTES)
	{
		too_long(error);
		return false;
	}

	switch (oe_json_read(json, len, JSON_TOKENER_STRICT |
						 JSON_TOKENER_VALIDATE_UTF8, value))
	{
		case OE_JSON_OK:
			return true;
		case OE_JSON_INVALID:
			not_an_object(vocabulary, error);
			return false;
		case OE_JSON_BAD_NUMBER:
			inexact_number(error);
			return false;
		case OE_JSON_TOO_DEEP:
			oe_error_set(error, OE_BAD_REQUEST,
						 "the request is nested more than %d levels deep",
						 JSON_TOKENER_DEFAULT_DEPTH);
			return false;
		case OE_JSON_OUT_OF_MEMORY:
			out_of_memory(error);
			return false;
	}
	return false;
}

OeCode
oe_request_parse(const OeEndpoint *endpoint, const char *json, size_t len,
				 bool pass_unknown_keys, OeEquality equality,
				 OeRequest *request, OeError *error)
{
	Check		check = {endpoint->vocabulary, pass_unknown_keys, error};
	struct json_object *value;
	struct json_object *normalised;

	memset(request, 0, sizeof(*request));
	oe_error_free(error);
	if (!read_request(check.vocabulary, json, len, &value, error))
		return error->code;

	if (check_request(&check, value))
	{
		normalised = normalise_object(&check.vocabulary->request, value);
		if (normalised == NULL)
			out_of_memory(error);
		else
			encode(endpoint, normalised, equality, request, error);
		(void) json_object_put(normalised); /* "value" still has its members */
	}
	(void) json_object_put(value);	/* the body is a copy */
	return error->code;
}

void
oe_request_free(OeRequest *request)
{
	free(request->body);
	free(request->identity);
	memset(request, 0, sizeof(*request));
}

/* True if the object needs no URL, or has got it. */
static bool
add_url(struct json_object *reveal, const char *url)
{
	struct json_object *value;
	bool		added;

	if (!json_object_object_get_ex(reveal, OE_BY_WEBHOOK, NULL))
		return true;
	json_object_object_del(reveal, OE_BY_WEBHOOK);
	value = json_object_new_string(url);
	added = value != NULL && add_value(reveal, OE_WEBHOOK_URL, value);
	(void) json_object_put(value);	/* if it was added, that holds it */
	return added;
}

char *
oe_request_complete(const OeEndpoint *endpoint, const char *body, const char *url)
{
	struct json_object *value = NULL;
	bool		complete = oe_json_read(body, strlen(body), JSON_TOKENER_STRICT,
										&value) == OE_JSON_OK && oe_json_is_exact(value);
	size_t		len;
	char	   *text = NULL;

	for (size_t i = 0; complete && i < endpoint->price_count; i++)
	{
		const char *object = endpoint->prices[i].object;

		if (object != NULL)
			complete = add_url(json_object_object_get(value, object), url);
	}
	if (complete)
		text = copy_text(value, &len);
	(void) json_object_put(value);	/* the text is a copy */
	return text;
}
