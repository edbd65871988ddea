/*
 * main.c
 *		ocean-sandbox: stands in for the Ocean.io API on 127.0.0.1, with faults
 *		on demand and exact books.  This file has the command line and the
 *		signals.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "api.h"
#include "loop.h"
#include "memory.h"
#include "server.h"
#include "webhooks.h"

#define DEFAULT_TOKEN		"sandbox-token"
#define PID_CHECK_MS		200
#define PEM_MAX_BYTES		(1024 * 1024)

static const char usage[] =
"ocean-sandbox stands in for the Ocean.io API on 127.0.0.1.\n"
"\n"
"Usage: ocean-sandbox [OPTION]...\n"
"\n"
"  --port N            listen on this port; 0, the default, picks a free one\n"
"  --port-file FILE    write the port to FILE as soon as it is listening\n"
"  --tls CERT.pem KEY.pem\n"
"                      serve https\n"
"  --token TOKEN       a registered token; may be repeated; the default is\n"
"                      \"" DEFAULT_TOKEN "\"\n"
"  --config JSON       the same as POST /sandbox/config\n"
"  --until-pid PID     exit as soon as this process is gone\n"
"  --help              show this help\n";

typedef struct Options
{
	int			port;
	const char *port_file;
	const char *certificate_file;
	const char *key_file;
	const char **tokens;		/* ends with NULL */
	size_t		token_count;
	struct json_object *config;
	pid_t		until_pid;		/* 0: none */
} Options;

/* The main loop, and what ends it. */
typedef struct MainLoop
{
	SbLoop	   *loop;
	bool		over;
	pid_t		until_pid;
	SbTimer		pid_timer;
	SbWatch		signal_watch;
} MainLoop;

static void die(const char *format,...)
			__attribute__((noreturn, format(printf, 1, 2)));

static void
die(const char *format,...)
{
	va_list		values;

	fputs("ocean-sandbox: ", stderr);
	va_start(values, format);
	(void) vfprintf(stderr, format, values);
	va_end(values);
	fputc('\n', stderr);
	exit(1);
}

static int
parse_number(const char *option, const char *text, long max)
{
	char	   *end;
	long		value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value < 0 || value > max)
		die("bad number for --%s: %s", option, text);
	return (int) value;
}

static void
add_token(Options *options, const char *token)
{
	size_t		size = (options->token_count + 2) * sizeof(*options->tokens);

	options->tokens = sb_realloc(options->tokens, size);
	options->tokens[options->token_count++] = token;
	options->tokens[options->token_count] = NULL;
}

static void
parse_options(Options *options, int argc, char **argv)
{
	static const struct option known[] = {
		{"port", required_argument, NULL, 'p'},
		{"port-file", required_argument, NULL, 'f'},
		{"tls", required_argument, NULL, 's'},
		{"token", required_argument, NULL, 't'},
		{"config", required_argument, NULL, 'c'},
		{"until-pid", required_argument, NULL, 'u'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0}
	};
	int			option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1)
	{
		switch (option)
		{
			case 'p':
				options->port = parse_number("port", optarg, 65535);
				break;
			case 'f':
				options->port_file = optarg;
				break;
			case 's':
				if (optind >= argc)
					die("--tls takes two files");
				options->certificate_file = optarg;
				options->key_file = argv[optind++];
				break;
			case 't':
				add_token(options, optarg);
				break;
			case 'c':
				json_object_put(options->config);
				options->config = json_tokener_parse(optarg);
				if (options->config == NULL)
					die("--config takes a JSON object");
				break;
			case 'u':
				options->until_pid = parse_number("until-pid", optarg, 1 << 30);
				break;
			case 'h':
				fputs(usage, stdout);
				exit(0);
			default:
				fputs(usage, stderr);
				exit(1);
		}
	}
	if (optind < argc)
		die("unexpected argument \"%s\"", argv[optind]);
	if (options->token_count == 0)
		add_token(options, DEFAULT_TOKEN);
}

/* A whole text file, NUL-terminated; the caller frees it. */
static char *
read_file(const char *path)
{
	FILE	   *file = fopen(path, "r");
	char	   *text = sb_zalloc(PEM_MAX_BYTES + 1);
	size_t		len;

	if (file == NULL)
		die("could not open %s: %s", path, strerror(errno));
	len = fread(text, 1, PEM_MAX_BYTES, file);
	if (ferror(file) || len == PEM_MAX_BYTES)
		die("could not read %s as a PEM file", path);
	(void) fclose(file);
	return text;
}

/* As soon as the file exists it is complete. */
static void
write_port_file(const char *path, int port)
{
	size_t		size = strlen(path) + sizeof(".tmp");
	char	   *temporary = sb_zalloc(size);
	FILE	   *file;

	(void) snprintf(temporary, size, "%s.tmp", path);
	file = fopen(temporary, "w");
	if (file == NULL)
		die("could not create %s: %s", temporary, strerror(errno));
	if (fprintf(file, "%d\n", port) < 0 || fclose(file) != 0 ||
		rename(temporary, path) != 0)
		die("could not write %s: %s", path, strerror(errno));
	free(temporary);
}

static void
on_signal(void *arg)
{
	MainLoop   *main_loop = arg;

	main_loop->over = true;
}

static void
check_pid(void *arg)
{
	MainLoop   *main_loop = arg;

	if (kill(main_loop->until_pid, 0) != 0 && errno == ESRCH)
		main_loop->over = true;
	else
		sb_loop_set_timer(main_loop->loop, &main_loop->pid_timer, PID_CHECK_MS);
}

static void
watch_signals(MainLoop *main_loop)
{
	sigset_t	signals;

	(void) signal(SIGPIPE, SIG_IGN);
	(void) sigemptyset(&signals);
	(void) sigaddset(&signals, SIGTERM);
	(void) sigaddset(&signals, SIGINT);
	if (sigprocmask(SIG_BLOCK, &signals, NULL) != 0)
		die("could not block signals: %s", strerror(errno));

	main_loop->signal_watch.fd = signalfd(-1, &signals, SFD_CLOEXEC);
	main_loop->signal_watch.ready = on_signal;
	main_loop->signal_watch.arg = main_loop;
	if (main_loop->signal_watch.fd < 0 ||
		sb_loop_watch(main_loop->loop, &main_loop->signal_watch, EPOLLIN) != 0)
		die("could not wait for signals: %s", strerror(errno));
}

static void
start_main_loop(MainLoop *main_loop, pid_t until_pid)
{
	main_loop->loop = sb_loop_new();
	if (main_loop->loop == NULL)
		die("could not create an epoll descriptor: %s", strerror(errno));
	watch_signals(main_loop);

	main_loop->until_pid = until_pid;
	main_loop->pid_timer.fire = check_pid;
	main_loop->pid_timer.arg = main_loop;
	if (until_pid != 0)
		check_pid(main_loop);
}

static void
end_main_loop(MainLoop *main_loop)
{
	sb_loop_unwatch(main_loop->loop, &main_loop->signal_watch);
	(void) close(main_loop->signal_watch.fd);
	sb_loop_free(main_loop->loop);
}

static void
announce(const Options *options, int port)
{
	if (options->port_file != NULL)
		write_port_file(options->port_file, port);
	/* A closed standard output is not an error. */
	(void) printf("listening on http%s://127.0.0.1:%d\n",
				  options->key_file ? "s" : "", port);
	(void) fflush(stdout);
}

int
main(int argc, char **argv)
{
	Options		options = {0};
	MainLoop	main_loop = {0};
	char	   *certificate = NULL;
	char	   *key = NULL;
	char		problem[SB_PROBLEM_CHARS];
	SbApi		api;
	SbServer   *server;
	SbWebhooks *webhooks;

	parse_options(&options, argc, argv);
	sb_api_init(&api, options.tokens);
	if (options.config != NULL &&
		!sb_api_configure(&api, options.config, problem))
		die("--config: %s", problem);
	json_object_put(options.config);
	if (options.key_file != NULL)
	{
		certificate = read_file(options.certificate_file);
		key = read_file(options.key_file);
	}

	start_main_loop(&main_loop, options.until_pid);
	server = sb_server_start(&api, main_loop.loop, options.port, certificate,
							 key);
	if (server == NULL)
		return 1;
	webhooks = sb_webhooks_start(&api, main_loop.loop);
	announce(&options, sb_server_port(server));

	while (!main_loop.over)
	{
		sb_server_run(server);
		sb_loop_turn(main_loop.loop, sb_server_max_wait_ms(server));
	}

	sb_webhooks_stop(webhooks);
	sb_server_stop(server);
	end_main_loop(&main_loop);
	sb_api_free(&api);
	free(certificate);
	free(key);
	free(options.tokens);
	return 0;
}
