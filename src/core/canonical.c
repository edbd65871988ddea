/*
 * canonical.c
 *		One spelling for values that a person would call the same; see canonical.h.
 *
 * What is equal in Unicode, and which letter case is folded how, is libunistring's
 * knowledge; what is equal in a domain is libidn2's.  Only the syntax of addresses
 * is here, as people write it: a parser of URLs would refuse half of them, and
 * changes with its version.
 */
#include "core/canonical.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <idn2.h>
#include <unicase.h>
#include <unictype.h>
#include <uninorm.h>
#include <unistr.h>

#define lengthof(array)	(sizeof(array) / sizeof((array)[0]))

/* Bytes that are part of a text, or of a buffer. */
typedef struct Span
{
	const char *bytes;
	size_t		len;
} Span;

static Span
span(const char *bytes, size_t len)
{
	Span		all = {bytes, len};

	return all;
}

static Span
span_from(Span text, size_t offset)
{
	return span(text.bytes + offset, text.len - offset);
}

static Span
span_of_buf(const OeBuf *buf)
{
	return span(buf->len > 0 ? buf->data : "", buf->len);
}

static bool
starts_with(Span text, const char *string)
{
	return text.len >= strlen(string) &&
		memcmp(text.bytes, string, strlen(string)) == 0;
}

static bool
ends_with(Span text, const char *string)
{
	return text.len >= strlen(string) &&
		memcmp(text.bytes + text.len - strlen(string), string, strlen(string)) == 0;
}

/* Where the first of "bytes" is; the length if none is there. */
static size_t
find_any(Span text, const char *bytes)
{
	size_t		i = 0;

	while (i < text.len && memchr(bytes, text.bytes[i], strlen(bytes)) == NULL)
		i++;
	return i;
}

static bool
append(OeBuf *buf, Span text)
{
	return oe_buf_append(buf, text.bytes, text.len);
}

static bool
is_ascii(Span text)
{
	for (size_t i = 0; i < text.len; i++)
	{
		if ((unsigned char) text.bytes[i] >= 0x80)
			return false;
	}
	return true;
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* ----------------------------------------------------------------
 * Characters
 * ---------------------------------------------------------------- */

/* Only acts on others, such as a zero-width space or a mark of direction. */
static bool
is_invisible(ucs4_t c)
{
	return c >= 0x80 && uc_is_general_category(c, UC_FORMAT) &&
		uc_is_property_default_ignorable_code_point(c);
}

/* The character at an offset, and its length in bytes. */
static size_t
character_at(Span text, size_t offset, ucs4_t *c)
{
	return (size_t) u8_mbtouc(c, (const uint8_t *) text.bytes + offset,
							  text.len - offset);
}

void
oe_trim(const char **text, size_t *len)
{
	Span		all = {*text, *len};
	size_t		first = 0;
	size_t		end = 0;
	size_t		width;

	for (size_t i = 0; i < all.len; i += width)
	{
		ucs4_t		c;

		width = character_at(all, i, &c);
		if (uc_is_property_white_space(c) || is_invisible(c))
			continue;
		if (end == 0)
			first = i;
		end = i + width;
	}
	*text += first;
	*len = end - first;
}

/* Without blanks at its ends and invisible characters, and with single blanks. */
static bool
append_tidy(OeBuf *buf, Span text)
{
	bool		blank = false;
	bool		begun = false;
	size_t		width;

	for (size_t i = 0; i < text.len; i += width)
	{
		ucs4_t		c;

		width = character_at(text, i, &c);
		if (uc_is_property_white_space(c))
			blank = begun;
		else if (!is_invisible(c))
		{
			if (blank && !oe_buf_append_string(buf, " "))
				return false;
			if (!oe_buf_append(buf, text.bytes + i, width))
				return false;
			blank = false;
			begun = true;
		}
	}
	return true;
}

/* What libunistring gives, which is freed; or the text if it is no UTF-8. */
static bool
append_result(OeBuf *buf, uint8_t *result, size_t len, Span text)
{
	bool		good;

	if (result == NULL)
		return errno != ENOMEM && append(buf, text);
	good = oe_buf_append(buf, result, len);
	free(result);
	return good;
}

/* What is ASCII, as most values are, needs no tables. */
static bool
append_folded_ascii(OeBuf *buf, Span text)
{
	size_t		start = buf->len;

	if (!append(buf, text))
		return false;
	for (size_t i = start; i < buf->len; i++)
	{
		if (buf->data[i] >= 'A' && buf->data[i] <= 'Z')
			buf->data[i] += 'a' - 'A';
	}
	return true;
}

/* In NFC, with the letter case folded by Unicode's rules for all languages. */
static bool
append_folded(OeBuf *buf, Span text)
{
	size_t		len;
	uint8_t    *folded;

	if (is_ascii(text))
		return append_folded_ascii(buf, text);
	folded = u8_casefold((const uint8_t *) text.bytes, text.len, NULL,
						 UNINORM_NFC, NULL, &len);
	return append_result(buf, folded, len, text);
}

static bool
append_exact(OeBuf *buf, Span text)
{
	size_t		len;
	uint8_t    *composed;

	if (is_ascii(text))
		return append(buf, text);
	composed = u8_normalize(UNINORM_NFC, (const uint8_t *) text.bytes, text.len,
							NULL, &len);
	return append_result(buf, composed, len, text);
}

/* ----------------------------------------------------------------
 * Hosts
 * ---------------------------------------------------------------- */

/* As the name service has it; what is no name of a host is only folded. */
static bool
append_host(OeBuf *buf, Span host)
{
	char	   *name;
	char	   *ascii = NULL;
	int			code;
	bool		good;

	while (host.len > 0 && host.bytes[host.len - 1] == '.')
		host.len--;
	if (is_ascii(host) || memchr(host.bytes, '\0', host.len) != NULL)
		return append_folded(buf, host);

	name = strndup(host.bytes, host.len);
	if (name == NULL)
		return false;
	code = idn2_to_ascii_8z(name, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
	free(name);
	if (code == IDN2_MALLOC)
		return false;
	if (code != IDN2_OK)
		return append_folded(buf, host);
	good = oe_buf_append_string(buf, ascii);
	idn2_free(ascii);
	return good;
}

/* Without "www.", unless that is all of it but the top level. */
static Span
without_www(Span host)
{
	if (starts_with(host, "www.") && memchr(host.bytes + 4, '.', host.len - 4))
		return span_from(host, 4);
	return host;
}

/* Behind "https://" and the like, or "//". */
static Span
without_scheme(Span url)
{
	size_t		i = 0;

	while (i < url.len && (is_letter(url.bytes[i]) || is_digit(url.bytes[i]) ||
						   (i > 0 && memchr("+-.", url.bytes[i], 3))))
		i++;
	if (starts_with(span_from(url, i), "://"))
		return span_from(url, i + 3);
	return starts_with(url, "//") ? span_from(url, 2) : url;
}

static Span
without_port(Span host)
{
	size_t		end = host.len;

	while (end > 0 && is_digit(host.bytes[end - 1]))
		end--;
	if (end == 0 || find_any(host, ":") != end - 1)
		return host;			/* such as an IPv6 address */
	return span(host.bytes, end - 1);
}

static bool
append_domain(OeBuf *buf, Span text)
{
	Span		host = without_scheme(text);
	OeBuf		canonical;
	bool		good;

	host.len = find_any(host, "/?#");
	oe_buf_init(&canonical, buf->max);
	good = append_host(&canonical, without_port(host)) &&
		append(buf, without_www(span_of_buf(&canonical)));
	oe_buf_free(&canonical);
	return good;
}

static bool
append_email(OeBuf *buf, Span text)
{
	size_t		at = text.len;

	while (at > 0 && text.bytes[at - 1] != '@')
		at--;
	return append_folded(buf, span(text.bytes, at)) &&
		append_host(buf, span_from(text, at));
}

/* ----------------------------------------------------------------
 * Phone numbers
 * ---------------------------------------------------------------- */

/* Anything but digits and what separates them, such as an extension, counts. */
static bool
append_phone(OeBuf *buf, Span text)
{
	OeBuf		digits;
	Span		number;
	bool		international = starts_with(text, "+");
	bool		good = true;

	oe_buf_init(&digits, buf->max);
	for (size_t i = international ? 1 : 0; good && i < text.len; i++)
	{
		if (is_digit(text.bytes[i]))
			good = oe_buf_append(&digits, text.bytes + i, 1);
		else if (memchr(" ()-./", text.bytes[i], 6) == NULL)
		{
			oe_buf_free(&digits);
			return append_folded(buf, text);
		}
	}
	number = span_of_buf(&digits);
	if (good && number.len == 0)
		return append_folded(buf, text);
	if (!international && starts_with(number, "00"))
	{
		international = true;
		number = span_from(number, 2);
	}
	good = good && (!international || oe_buf_append_string(buf, "+")) &&
		append(buf, number);
	oe_buf_free(&digits);
	return good;
}

/* ----------------------------------------------------------------
 * Profiles
 * ---------------------------------------------------------------- */

typedef struct Site
{
	const char *host;			/* of every subdomain, too */
	const char *other_host;		/* or NULL */
	const char *section;		/* in front of a handle */
} Site;

static const Site sites[] = {
	[OE_FORM_LINKEDIN_PERSON] = {"linkedin.com", NULL, "in/"},
	[OE_FORM_LINKEDIN_COMPANY] = {"linkedin.com", NULL, "company/"},
	[OE_FORM_FACEBOOK] = {"facebook.com", "fb.com", ""},
	[OE_FORM_TWITTER] = {"twitter.com", "x.com", ""},
	[OE_FORM_INSTAGRAM] = {"instagram.com", NULL, ""},
	[OE_FORM_XING] = {"xing.com", NULL, ""},
	[OE_FORM_YOUTUBE] = {"youtube.com", NULL, ""},
};

/* Is it this host, or a subdomain of it? */
static bool
is_below(Span host, const char *domain)
{
	return domain != NULL && ends_with(host, domain) &&
		(host.len == strlen(domain) ||
		 host.bytes[host.len - strlen(domain) - 1] == '.');
}

static int
hex_value(char c)
{
	if (is_digit(c))
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool
append_unescaped(OeBuf *buf, Span text)
{
	for (size_t i = 0; i < text.len; i++)
	{
		char		c = text.bytes[i];

		if (c == '%' && i + 2 < text.len &&
			hex_value(text.bytes[i + 1]) >= 0 && hex_value(text.bytes[i + 2]) >= 0)
		{
			c = (char) (hex_value(text.bytes[i + 1]) * 16 + hex_value(text.bytes[i + 2]));
			i += 2;
		}
		if (!oe_buf_append(buf, &c, 1))
			return false;
	}
	return true;
}

/* Folded, and without escapes if they stand for characters. */
static bool
append_path(OeBuf *buf, Span path)
{
	OeBuf		plain;
	bool		good;

	oe_buf_init(&plain, buf->max);
	good = append_unescaped(&plain, path);
	if (good && u8_check((const uint8_t *) span_of_buf(&plain).bytes, plain.len) == NULL)
		path = span_of_buf(&plain);
	good = good && append_folded(buf, path);
	oe_buf_free(&plain);
	return good;
}

static Span
without_slashes(Span path)
{
	while (path.len > 0 && path.bytes[0] == '/')
		path = span_from(path, 1);
	while (path.len > 0 && path.bytes[path.len - 1] == '/')
		path.len--;
	return path;
}

/* The parameter by which some addresses name the profile; none: it is empty. */
static Span
naming_parameter(Span query)
{
	while (query.len > 0 && query.bytes[0] != '#')
	{
		Span		rest = span_from(query, 1); /* without '?' or '&' */
		Span		parameter = span(rest.bytes, find_any(rest, "&#"));

		if (starts_with(parameter, "id=") || starts_with(parameter, "v="))
			return parameter;
		query = span_from(rest, parameter.len);
	}
	return span("", 0);
}

/*
 * A page of LinkedIn's belongs to the profile above it, in any language; and
 * there are pages for old telephones.
 */
static Span
profile_of_page(Span path)
{
	static const char *const sections[] = {"in/", "company/", "school/", "showcase/"};

	if (starts_with(path, "mwlite/"))
		path = span_from(path, strlen("mwlite/"));
	for (size_t i = 0; i < lengthof(sections); i++)
	{
		if (starts_with(path, sections[i]))
		{
			Span		handle = span_from(path, strlen(sections[i]));

			path.len = strlen(sections[i]) + find_any(handle, "/");
		}
	}
	return path;
}

/* "path" is folded and belongs to the site. */
static bool
append_profile_of_site(OeBuf *buf, const Site *site, Span path, Span query)
{
	Span		parameter = naming_parameter(query);
	bool		is_handle;

	path = without_slashes(path);
	if (site->section[0] != '\0')
		path = profile_of_page(path);
	is_handle = path.len > 0 && find_any(path, "/") == path.len;
	return oe_buf_append_string(buf, site->host) && oe_buf_append_string(buf, "/") &&
		oe_buf_append_string(buf, is_handle ? site->section : "") &&
		append(buf, path) &&
		(parameter.len == 0 || (oe_buf_append_string(buf, "?") &&
								append_path(buf, parameter)));
}

/*
 * The host and the path, without scheme, subdomain and parameters.  What names
 * no host is a handle or a path at the site.  Nothing is known about parameters
 * and subdomains of other sites.
 */
static bool
append_profile(OeBuf *buf, const Site *site, Span text)
{
	Span		rest = without_scheme(text);
	Span		first = span(rest.bytes, find_any(rest, "/?#"));
	bool		may_be_host = rest.len < text.len ||
		(first.len < rest.len && rest.bytes[first.len] == '/');
	OeBuf		host;
	OeBuf		path;
	bool		is_site;
	bool		is_other;
	size_t		end;
	bool		good;

	oe_buf_init(&host, buf->max);
	oe_buf_init(&path, buf->max);
	good = append_host(&host, without_port(first));
	is_site = is_below(span_of_buf(&host), site->host) ||
		is_below(span_of_buf(&host), site->other_host);
	is_other = !is_site && may_be_host && memchr(first.bytes, '.', first.len) != NULL;
	if (is_site || is_other)
		rest = span_from(rest, first.len);
	end = find_any(rest, is_other ? "#" : "?#");
	good = good && append_path(&path, span(rest.bytes, end));
	if (is_other)
		good = good && append(buf, without_www(span_of_buf(&host))) &&
			oe_buf_append_string(buf, "/") &&
			append(buf, without_slashes(span_of_buf(&path)));
	else
		good = good && append_profile_of_site(buf, site, span_of_buf(&path),
											  span_from(rest, end));
	oe_buf_free(&host);
	oe_buf_free(&path);
	return good;
}

/* ----------------------------------------------------------------
 * Forms
 * ---------------------------------------------------------------- */

static bool
append_tidied(OeBuf *buf, OeForm form, Span text)
{
	switch (form)
	{
		case OE_FORM_EXACT:
		case OE_FORM_REVEAL:
			return append_exact(buf, text);
		case OE_FORM_TEXT:
			return append_folded(buf, text);
		case OE_FORM_EMAIL:
			return append_email(buf, text);
		case OE_FORM_DOMAIN:
			return append_domain(buf, text);
		case OE_FORM_PHONE:
			return append_phone(buf, text);
		case OE_FORM_LINKEDIN_PERSON:
		case OE_FORM_LINKEDIN_COMPANY:
		case OE_FORM_FACEBOOK:
		case OE_FORM_TWITTER:
		case OE_FORM_INSTAGRAM:
		case OE_FORM_XING:
		case OE_FORM_YOUTUBE:
			return append_profile(buf, &sites[form], text);
	}
	return false;
}

bool
oe_canonical_append(OeBuf *buf, OeForm form, const char *text, size_t len)
{
	OeBuf		tidy;
	bool		good;

	if (form == OE_FORM_EXACT)
		return append_exact(buf, span(text, len));
	oe_buf_init(&tidy, buf->max);
	good = append_tidy(&tidy, span(text, len)) &&
		append_tidied(buf, form, span_of_buf(&tidy));
	oe_buf_free(&tidy);
	return good;
}
