/*
 * text.c
 *		SHA-256 digests, and conversion between UTF-8 and the server's encoding.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "common/cryptohash.h"
#include "mb/pg_wchar.h"

#include "base/text.h"

void
oe_sha256(const void *bytes, Size len, uint8 digest[OE_SHA256_BYTES])
{
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);

	if (!ctx ||
		pg_cryptohash_init(ctx) < 0 ||
		pg_cryptohash_update(ctx, bytes, len) < 0 ||
		pg_cryptohash_final(ctx, digest, OE_SHA256_BYTES) < 0)
	{
		const char *reason = pg_cryptohash_error(ctx);

		pg_cryptohash_free(ctx);
		elog(ERROR, "could not compute SHA-256: %s", reason);
	}
	pg_cryptohash_free(ctx);
}

char *
oe_server_to_utf8(char *text)
{
	MemoryContext caller = CurrentMemoryContext;
	char	   *volatile utf8 = NULL;

	PG_TRY();
	{
		utf8 = pg_server_to_any(text, strlen(text), PG_UTF8);
	}
	PG_CATCH();
	{
		int			sqlerrcode = geterrcode();

		if (sqlerrcode != ERRCODE_CHARACTER_NOT_IN_REPERTOIRE &&
			sqlerrcode != ERRCODE_UNTRANSLATABLE_CHARACTER)
			PG_RE_THROW();
		MemoryContextSwitchTo(caller);
		FlushErrorState();
	}
	PG_END_TRY();
	return utf8;
}

char *
oe_utf8_to_server(const char *utf8, Size len)
{
	int			encoding = GetDatabaseEncoding();
	Oid			proc;
	Size		space;
	char	   *server;

	if (!pg_verify_mbstr(PG_UTF8, utf8, len, true))
		return NULL;
	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return pnstrdup(utf8, len);

	proc = FindDefaultConversionProc(PG_UTF8, encoding);
	if (!OidIsValid(proc))
		return NULL;
	space = len * MAX_CONVERSION_GROWTH + 1;
	server = palloc_extended(space, MCXT_ALLOC_HUGE);
	if (pg_do_encoding_conversion_buf(proc, PG_UTF8, encoding,
									  (unsigned char *) unconstify(char *, utf8),
									  len, (unsigned char *) server, space,
									  true) != (int) len)
	{
		pfree(server);
		return NULL;
	}
	return server;
}

char *
oe_utf8_to_message(const char *utf8)
{
	char	   *message = oe_utf8_to_server(utf8, strlen(utf8));

	if (message)
		return message;
	message = pstrdup(utf8);
	for (char *c = message; *c; c++)
	{
		if (IS_HIGHBIT_SET(*c))
			*c = '?';
	}
	return message;
}

/* True if a JSON escape stands there: "u" and four hexadecimal digits in this range. */
static bool
is_escape(const char *text, unsigned int first, unsigned int last)
{
	char		digits[5] = {0};
	unsigned int code;

	if (text[0] != '\\' || text[1] != 'u' || strspn(text + 2, "0123456789abcdefABCDEF") < 4)
		return false;
	memcpy(digits, text + 2, 4);
	code = strtoul(digits, NULL, 16);
	return code >= first && code <= last;
}

void
oe_json_replace_escapes(char *json)
{
	for (char *c = strchr(json, '\\'); c != NULL; c = strchr(c, '\\'))
	{
		bool		pair = is_escape(c, 0xd800, 0xdbff) && is_escape(c + 6, 0xdc00, 0xdfff);

		if (is_escape(c, 0, 0) || (!pair && is_escape(c, 0xd800, 0xdfff)))
			memcpy(c + 2, "fffd", 4);
		c += pair ? 12 : 2;
	}
}
