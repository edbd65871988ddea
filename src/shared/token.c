/*
 * token.c
 *		The token of the API, and the file that it may be kept in.
 *
 * The file is read for each call, so a token that was replaced counts at once;
 * its permissions are checked as libpq checks those of a private key.
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"

#include "base/compat.h"
#include "shared/token.h"

pg_noreturn static void no_token(const char *detail, const char *hint);

static void
no_token(const char *detail, const char *hint)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
			errmsg("no usable API token"),
			errdetail_internal("%s", detail),
			errhint("%s", hint));
}

/* libpq's rule for a key file: ours, or root's and readable by our group. */
static void
check_token_file(int fd)
{
	struct stat st;
	mode_t		forbidden;

	if (fstat(fd, &st) != 0)
		no_token("The token file could not be examined.",
				 "Check \"ocean_enrich.api_token_file\".");
	if (!S_ISREG(st.st_mode))
		no_token("The token file is not a regular file.",
				 "Check \"ocean_enrich.api_token_file\".");
	if (st.st_uid != geteuid() && st.st_uid != 0)
		no_token("The token file must be owned by the database user or root.",
				 "Change the owner of the file specified by \"ocean_enrich.api_token_file\".");
	forbidden = st.st_uid == 0 ? (S_IWGRP | S_IXGRP | S_IRWXO) : (S_IRWXG | S_IRWXO);
	if (st.st_mode & forbidden)
		no_token("The token file has group or world access.",
				 "Give the file permissions u=rw (0600) or less if owned by the database user, or "
				 "u=rw,g=r (0640) or less if owned by root.");
}

/* True if the first "len" bytes of "text" end with "word", in any case. */
static bool
ends_with(const char *text, Size len, const char *word)
{
	Size		word_len = strlen(word);

	return len >= word_len &&
		pg_strncasecmp(text + len - word_len, word, word_len) == 0;
}

/*
 * True if "Bearer" is in front of the token, or the name of a header, parameter
 * or variable.
 */
static bool
has_prefix(const char *token)
{
	Size		name = strcspn(token, " :=");
	Size		separators = strspn(token + name, " :=");

	if (separators == 0 || token[name + separators] == '\0')
		return false;
	if (token[name] == ' ')
		return name == strlen("Bearer") && ends_with(token, name, "Bearer");
	return ends_with(token, name, "token") || ends_with(token, name, "Authorization");
}

static bool
is_quoted(const char *token)
{
	Size		len = strlen(token);

	return len > 1 && strchr("\"'`", token[0]) && token[len - 1] == token[0];
}

const char *
oe_token_copied_with(const char *token)
{
	if (has_prefix(token))
		return "The token has a \"Bearer\", or the name of a header or parameter, in front of it.";
	if (is_quoted(token))
		return "The token is in quotes.";
	return NULL;
}

/* Text editors write it: as UTF-8, and as UTF-16 of either order. */
static bool
has_byte_order_mark(const char *bytes, Size len)
{
	return (len >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0) ||
		(len >= 2 && (memcmp(bytes, "\xFF\xFE", 2) == 0 ||
					  memcmp(bytes, "\xFE\xFF", 2) == 0));
}

/* The only line of the file, without surrounding white space. */
static char *
token_from_file(const char *path)
{
	char		buffer[OE_TOKEN_MAX_BYTES + 2];
	char	   *start = buffer;
	char	   *end;
	const char *copied;
	ssize_t		len;
	int			fd;

	/* A FIFO without a writer must not make us wait. */
	fd = OpenTransientFile(path, O_RDONLY | O_NONBLOCK | PG_BINARY);
	if (fd < 0)
		no_token("The token file could not be opened.",
				 "Check \"ocean_enrich.api_token_file\" and the permissions of the file.");
	check_token_file(fd);
	len = read(fd, buffer, sizeof(buffer) - 1);
	if (CloseTransientFile(fd) != 0 || len < 0)
		no_token("The token file could not be read.",
				 "Check the file specified by \"ocean_enrich.api_token_file\".");
	if (has_byte_order_mark(buffer, len))
		no_token("The token file begins with a byte order mark.",
				 "Save the file specified by \"ocean_enrich.api_token_file\" as ASCII, "
				 "or as UTF-8 without a byte order mark.");

	end = buffer + len;
	while (end > start && strchr(" \t\r\n", end[-1]))
		end--;
	*end = '\0';
	start += strspn(start, " \t\r\n");
	if (*start == '\0')
		no_token("The token file is empty.",
				 "Write the token to the file specified by \"ocean_enrich.api_token_file\".");
	copied = oe_token_copied_with(start);
	if (copied)
		no_token(copied, "Write only the token to the file specified by "
				 "\"ocean_enrich.api_token_file\".");
	for (const char *c = start; c < end; c++)
	{
		if (*c <= ' ' || *c > '~')
			no_token("The token file contains more than a single line of printable ASCII characters.",
					 "Write only the token to the file specified by "
					 "\"ocean_enrich.api_token_file\".");
	}
	if (end - start > OE_TOKEN_MAX_BYTES)
		no_token("The token file is too long.",
				 "Write only the token to the file specified by \"ocean_enrich.api_token_file\".");
	return pnstrdup(start, end - start);
}

char *
oe_token(const char *token, const char *file)
{
	if (token[0] != '\0')
		return pstrdup(token);
	if (file[0] != '\0')
		return token_from_file(file);
	no_token("Neither \"ocean_enrich.api_token_file\" nor \"ocean_enrich.api_token\" is set.",
			 "Ask the administrator to set \"ocean_enrich.api_token_file\".");
}
