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

/* The only line of the file, without surrounding white space. */
static char *
token_from_file(const char *path)
{
	char		buffer[OE_TOKEN_MAX_BYTES + 2];
	char	   *start = buffer;
	char	   *end;
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

	end = buffer + len;
	while (end > start && strchr(" \t\r\n", end[-1]))
		end--;
	*end = '\0';
	start += strspn(start, " \t\r\n");
	if (*start == '\0')
		no_token("The token file is empty.",
				 "Write the token to the file specified by \"ocean_enrich.api_token_file\".");
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
