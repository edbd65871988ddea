/*
 * faults.c
 *		Finds the faults that a text names.
 *
 * A fault begins at the start of the text or after anything but a letter or a
 * digit, and consists of lower-case letters, digits and hyphens.  So
 * "sb-unknown.7@example.com" and "Anna sb-status-503" work.
 */
#include "faults.h"

#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX			"sb-"
#define LATENCY			"sb-latency"
#define WORD_CHARS		"abcdefghijklmnopqrstuvwxyz0123456789-"
#define NUMBER_MAX		9		/* digits that fit into an int */

typedef struct NamedFault
{
	const char *name;
	SbFaultKind kind;
	int			n;				/* default */
} NamedFault;

static const NamedFault faults[] = {
	{"sb-unknown", SB_FAULT_UNKNOWN, 0},
	{"sb-gathering", SB_FAULT_GATHERING, 1000},
	{"sb-status", SB_FAULT_STATUS, 500},
	{"sb-once", SB_FAULT_ONCE, 503},
	{"sb-detail-verification", SB_FAULT_DETAIL_VERIFICATION, 0},
	{"sb-toolittle", SB_FAULT_TOOLITTLE, 422},
	{"sb-422", SB_FAULT_INVALID, 0},
	{"sb-retryafter", SB_FAULT_RETRYAFTER, 1},
	{"sb-retrydate", SB_FAULT_RETRYDATE, 1},
	{"sb-redirect", SB_FAULT_REDIRECT, 0},
	{"sb-hang", SB_FAULT_HANG, 0},
	{"sb-cut-before", SB_FAULT_CUT_BEFORE, 0},
	{"sb-cut-lost", SB_FAULT_CUT_LOST, 0},
	{"sb-cut-during", SB_FAULT_CUT_DURING, 0},
	{"sb-cut-after", SB_FAULT_CUT_AFTER, 0},
	{"sb-truncated", SB_FAULT_TRUNCATED, 0},
	{"sb-drip", SB_FAULT_DRIP, 1000},
	{"sb-oversized", SB_FAULT_OVERSIZED, 2048},
	{"sb-badjson", SB_FAULT_BADJSON, 0},
	{"sb-notobject", SB_FAULT_NOTOBJECT, 0},
	{"sb-empty", SB_FAULT_EMPTY, 0},
	{"sb-noid", SB_FAULT_NOID, 0},
	{"sb-detail200", SB_FAULT_DETAIL200, 0},
	{"sb-badutf8", SB_FAULT_BADUTF8, 0},
	{"sb-nul", SB_FAULT_NUL, 0},
	{"sb-surrogate", SB_FAULT_SURROGATE, 0},
	{"sb-hugeint", SB_FAULT_HUGEINT, 0},
	{"sb-newkeys", SB_FAULT_NEWKEYS, 0},
	{"sb-nulls", SB_FAULT_NULLS, 0},
	{"sb-minimal", SB_FAULT_MINIMAL, 0},
	{"sb-unicode", SB_FAULT_UNICODE, 0},
	{"sb-latin1", SB_FAULT_LATIN1, 0},
	{"sb-html", SB_FAULT_HTML, 0},
	{"sb-deep", SB_FAULT_DEEP, 5000},
	{"sb-badcredits", SB_FAULT_BADCREDITS, 1},
	{"sb-notrevealed", SB_FAULT_NOTREVEALED, 0},
	{LATENCY, SB_FAULT_NONE, 100},
};

static bool
equals(const char *word, size_t len, const char *name)
{
	return strlen(name) == len && strncmp(word, name, len) == 0;
}

/* The index of the fault with this name, or -1. */
static int
find_fault(const char *word, size_t len)
{
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
	{
		if (equals(word, len, faults[i].name))
			return (int) i;
	}
	return -1;
}

/* The length of "word" without a "-<n>" at its end. */
static size_t
len_without_number(const char *word, size_t len)
{
	size_t		name_len = len;

	while (name_len > 0 && isdigit((unsigned char) word[name_len - 1]))
		name_len--;
	if (name_len == len || len - name_len > NUMBER_MAX ||
		name_len == 0 || word[name_len - 1] != '-')
		return len;
	return name_len - 1;
}

/* Add the fault of one word.  Only the first fault of a text applies. */
static void
add_word(SbFault *fault, const char *word, size_t len)
{
	size_t		name_len = len;
	int			found = find_fault(word, len);
	int			n;

	fault->named = true;
	if (found < 0)
	{
		/* The whole word comes first: "sb-422" is a name. */
		name_len = len_without_number(word, len);
		found = find_fault(word, name_len);
	}
	if (found < 0)
	{
		fault->kind = SB_FAULT_MISSPELT;
		return;
	}

	n = name_len < len ? atoi(word + name_len + 1) : faults[found].n;
	if (equals(word, name_len, LATENCY))
		fault->latency_ms = n;
	else if (fault->kind == SB_FAULT_NONE)
	{
		fault->kind = faults[found].kind;
		fault->n = n;
	}
}

SbFault
sb_fault_parse(const char *text)
{
	SbFault		fault = {.kind = SB_FAULT_NONE};
	const char *word = text;

	while ((word = strstr(word, PREFIX)) != NULL)
	{
		size_t		len = strspn(word, WORD_CHARS);

		if (word == text || !isalnum((unsigned char) word[-1]))
			add_word(&fault, word, len);
		word += len;
	}
	return fault;
}
