/*
 * plain_curl.c
 *		The same calls in a plain C program: libcurl's easy interface, one kept
 *		connection, the answer in memory.  Nothing is recorded.
 *
 *	plain_curl URL TOKEN FIRST CALLS CA-FILE [FILE]
 *
 * Requests the persons FIRST to FIRST + CALLS - 1 and prints the microseconds
 * of elapsed time and of CPU.  A call before them, for the person FIRST - 1,
 * opens the connection.
 *
 * With FILE, a page of it is written and synced before each request and after
 * each answer: the cost of the disk alone for a program with a ledger.
 */
#include <curl/curl.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MAX_BYTES	(64 * 1024)
#define BODY_MAX_BYTES		128
#define HEADER_MAX_BYTES	256
#define PAGE_BYTES			8192
#define PAGES				1024

typedef struct Answer
{
	size_t		len;
	char		bytes[ANSWER_MAX_BYTES];
} Answer;

static void die(const char *what, const char *why)
			__attribute__((noreturn));

static void
die(const char *what, const char *why)
{
	(void) fprintf(stderr, "plain_curl: %s: %s\n", what, why);
	exit(1);
}

static int64_t
microseconds(int64_t seconds, int64_t rest_us)
{
	return seconds * 1000000 + rest_us;
}

static int64_t
time_us(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_MONOTONIC, &now) != 0)
		die("clock_gettime", "failed");
	return microseconds(now.tv_sec, now.tv_nsec / 1000);
}

static int64_t
cpu_us(void)
{
	struct rusage usage;

	if (getrusage(RUSAGE_SELF, &usage) != 0)
		die("getrusage", "failed");
	return microseconds(usage.ru_utime.tv_sec, usage.ru_utime.tv_usec) +
		microseconds(usage.ru_stime.tv_sec, usage.ru_stime.tv_usec);
}

static int64_t
parse_number(const char *text)
{
	char	   *end;
	long long	value = strtoll(text, &end, 10);

	if (end == text || *end != '\0' || value < 0)
		die("not a number", text);
	return value;
}

static size_t
keep_answer(char *from, size_t size, size_t count, void *arg)
{
	Answer	   *answer = arg;
	size_t		len = size * count;

	if (len > sizeof(answer->bytes) - answer->len)
		return 0;
	memcpy(answer->bytes + answer->len, from, len);
	answer->len += len;
	return len;
}

static struct curl_slist *
add_header(struct curl_slist *headers, const char *header)
{
	struct curl_slist *longer = curl_slist_append(headers, header);

	if (!longer)
		die(header, "out of memory");
	return longer;
}

static struct curl_slist *
make_headers(const char *token)
{
	char		token_header[HEADER_MAX_BYTES];
	struct curl_slist *headers;

	if (snprintf(token_header, sizeof(token_header), "x-api-token: %s",
				 token) >= (int) sizeof(token_header))
		die("the token", "is too long");
	headers = add_header(NULL, token_header);
	headers = add_header(headers, "Content-Type: application/json");
	return add_header(headers, "Accept: application/json");
}

static CURL *
make_handle(const char *url, const struct curl_slist *headers,
			const char *ca_file, Answer *answer)
{
	CURL	   *curl = curl_easy_init();

	if (!curl ||
		curl_easy_setopt(curl, CURLOPT_URL, url) != CURLE_OK ||
		curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers) != CURLE_OK ||
		curl_easy_setopt(curl, CURLOPT_NOPROXY, "*") != CURLE_OK ||
		curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, keep_answer) != CURLE_OK ||
		curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer) != CURLE_OK)
		die("libcurl", "could not be set up");
	if (curl_easy_setopt(curl, CURLOPT_CAINFO, ca_file) != CURLE_OK)
		die(ca_file, "could not be used");
	return curl;
}

static void
write_page(int fd, int64_t page)
{
	static char bytes[PAGE_BYTES];

	if (pwrite(fd, bytes, sizeof(bytes),
			   page % PAGES * PAGE_BYTES) != sizeof(bytes))
		die("the file", "could not be written");
}

/* The file has all its pages from the start, as in the write-ahead log. */
static int
open_file(const char *name)
{
	int			fd = open(name, O_RDWR | O_CREAT, 0600);

	if (fd < 0)
		die(name, "could not be opened");
	for (int64_t page = 0; page < PAGES; page++)
		write_page(fd, page);
	if (fsync(fd) != 0)
		die(name, "could not be synced");
	return fd;
}

static void
write_and_sync_page(int fd, int64_t page)
{
	if (fd < 0)
		return;
	write_page(fd, page);
	if (fdatasync(fd) != 0)
		die("the file", "could not be synced");
}

static void
make_call(CURL *curl, Answer *answer, int64_t person)
{
	char		body[BODY_MAX_BYTES];
	long		status = 0;
	CURLcode	code;

	/* With any number it is shorter than the buffer. */
	(void) snprintf(body, sizeof(body),
					"{\"person\":{\"email\":\"person%lld@bench.example\"}}",
					(long long) person);
	answer->len = 0;
	code = curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
	if (code == CURLE_OK)
		code = curl_easy_perform(curl);
	if (code == CURLE_OK)
		code = curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	if (code != CURLE_OK)
		die("a call failed", curl_easy_strerror(code));
	if (status != 200 || answer->len == 0)
		die("a call failed", "the answer is not a person");
}

int
main(int argc, char **argv)
{
	static Answer answer;
	struct curl_slist *headers;
	CURL	   *curl;
	int64_t		first;
	int64_t		calls;
	int64_t		time_before;
	int64_t		cpu_before;
	int			fd;

	if (argc != 6 && argc != 7)
		die("usage", "plain_curl URL TOKEN FIRST CALLS CA-FILE [FILE]");
	first = parse_number(argv[3]);
	calls = parse_number(argv[4]);
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		die("libcurl", "could not be set up");
	fd = argc == 7 ? open_file(argv[6]) : -1;
	headers = make_headers(argv[2]);
	curl = make_handle(argv[1], headers, argv[5], &answer);

	make_call(curl, &answer, first - 1);
	time_before = time_us();
	cpu_before = cpu_us();
	for (int64_t i = 0; i < calls; i++)
	{
		write_and_sync_page(fd, 2 * i);
		make_call(curl, &answer, first + i);
		write_and_sync_page(fd, 2 * i + 1);
	}
	(void) printf("%lld,%lld\n", (long long) (time_us() - time_before),
				  (long long) (cpu_us() - cpu_before));

	curl_easy_cleanup(curl);
	curl_slist_free_all(headers);
	curl_global_cleanup();
	return fflush(stdout) == 0 ? 0 : 1;
}
