#!/usr/bin/env bash
#
# run.sh
#	Measures the extension on a private server against the sandbox API, compares
#	it with other ways to make the same calls, and prints tables.  See README.md.
#
#	test/bench/run.sh				about 5 minutes
#	test/bench/run.sh --long		100,000 calls, 1,000,000 rows: 15 more
#
# All runs are also written to test/results/bench/runs.csv, other figures to
# facts.csv and memory.csv beside it.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# shellcheck source=test/private-server.sh
. test/private-server.sh
# shellcheck source=test/packages.sh
. test/packages.sh

BENCH=$PWD/test/bench
RESULTS=$PWD/test/results/bench
TOKEN="sandbox-token"
LATENCY_MS=300
SHORT_ROWS=1000

ROUNDS=5
MEMORY_CALLS=30000
LONG_ROWS=100000

# So many that the clock's resolution of 0.01 s is less than 1 %.
CALLS=2500
DURABLE_CALLS=500
REUSED_CALLS=2500
SESSION_CALLS=200
MANY_CALLS=30
FSYNCS=500

# The query of one session, for bench.measure().
# shellcheck disable=SC2016
PERSONS='SELECT count(CALL) FROM generate_series($1::bigint, $2::bigint) AS n'
OCEAN=${PERSONS/CALL/'ocean_enrich_person(bench.request(n))'}

# The default value.
DEFAULT_CONCURRENCY="-c ocean_enrich.concurrency=16"

# No person is requested twice: each run takes its people from here on.
NEXT_PERSON=1000

die()
{
	echo "run.sh: $*" >&2
	exit 1
}

say()
{
	printf '%5d s  %s\n' "$SECONDS" "$*" >&2
}

# Runs a noisy command and shows its output only if it fails.
quietly()
{
	"$@" >> "$RESULTS/log" 2>&1 < /dev/null || {
		tail -n 20 "$RESULTS/log" >&2
		die "this failed: $*"
	}
}

# ----------------------------------------------------------------
# The server and the two sandboxes
# ----------------------------------------------------------------

build()
{
	quietly make --jobs="$(nproc)" PG_CONFIG="$PG_CONFIG" all sandbox
	quietly stage_extension "$FOLDER/stage"
	quietly install -m 0755 test/sandbox/build/ocean-sandbox "$FOLDER/stage/"
	mkdir -p "$BENCH/build"
	# shellcheck disable=SC2046
	quietly "${CC:-gcc}" -O2 -Wall -Wextra "$BENCH/plain_curl.c" \
		-o "$BENCH/build/plain_curl" $(pkg-config --cflags --libs libcurl)
}

# PostgreSQL's defaults, except for what would disturb the measurements: the library
# is loaded once, a statement makes one call after the other unless a run reads ahead,
# the worker keeps running with its plans, and there is no autovacuum.
write_settings()
{
	printf '%s\n' \
		"max_connections = 1100" \
		"max_files_per_process = 4000" \
		"autovacuum = off" \
		"jit = off" \
		"shared_preload_libraries = 'ocean_enrich'" \
		"ocean_enrich.api_token = '$TOKEN'" \
		"ocean_enrich.concurrency = 1" \
		"ocean_enrich.max_concurrency = 1000" \
		"ocean_enrich.rate_limit = 0" \
		"ocean_enrich.daily_limit = 0" \
		"ocean_enrich.worker_idle_timeout = 1h" "$@" \
		> "$FOLDER/server.conf"
}

# A program that starts a sandbox with https.
make_https_sandbox()
{
	quietly openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \
		-nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 \
		-keyout "$FOLDER/stage/server.key" -out "$FOLDER/stage/server.crt"
	chmod a+r "$FOLDER/stage/server.key"
	printf '#!/bin/sh\nexec %q --tls %q %q "$@"\n' "$FOLDER/stage/ocean-sandbox" \
		"$FOLDER/stage/server.crt" "$FOLDER/stage/server.key" \
		> "$FOLDER/stage/https-sandbox"
	chmod a+x "$FOLDER/stage/https-sandbox"
}

start_everything()
{
	write_settings
	quietly make_server "$FOLDER"
	quietly start_server "$FOLDER"
	make_https_sandbox
	quietly start_sandbox "$FOLDER/stage/https-sandbox" "$FOLDER" 0
	HTTPS_URL=https://127.0.0.1:$(cat "$FOLDER/sandbox.port")
	OVER_HTTPS="-c ocean_enrich.api_url=$HTTPS_URL -c ocean_enrich.ca_file=$FOLDER/stage/server.crt"
	quietly start_sandbox "$FOLDER/stage/ocean-sandbox" "$FOLDER" 0
	HTTP_URL=http://127.0.0.1:$(cat "$FOLDER/sandbox.port")
	write_settings "ocean_enrich.api_url = '$HTTP_URL'"
	quietly reload_server "$FOLDER"
	wait_for_setting ocean_enrich.api_url "$HTTP_URL"
}

clean_up()
{
	stop_server "$FOLDER" || true
	rm -rf "$FOLDER"
}

# psql_in DATABASE ARGUMENTS: bare values
psql_in()
{
	local database=$1
	shift
	PGDATABASE=$database server_psql "$FOLDER" --no-psqlrc --quiet --csv \
		--tuples-only --set=ON_ERROR_STOP=1 "$@"
}

# As soon as a new connection has the value, so have all workers that start later.
wait_for_setting()
{
	local deadline=$((SECONDS + 30))
	until [[ $(psql_in postgres -c "SHOW $1") == "$2" ]]; do
		((SECONDS < deadline)) || die "$1 does not become $2"
	done
}

end_worker()
{
	quietly psql_in "$1" -c "SELECT pg_terminate_backend(bench.worker_pid(), 10000)"
}

# configure NAME VALUE: for the server, with a new worker in "bench".
configure()
{
	quietly psql_in postgres -c "ALTER SYSTEM SET $1 = $2" -c "SELECT pg_reload_conf()"
	wait_for_setting "$1" "$2"
	end_worker bench
}

# A session stays connected: without one, the worker would exit at once.
make_database()
{
	local input
	quietly psql_in postgres -c "CREATE DATABASE $1"
	quietly psql_in "$1" --file="$BENCH/helpers.sql"
	exec {input}> >(psql_in "$1" > /dev/null 2>&1)
	echo "SELECT pg_advisory_lock(1);" >&"$input"
	until [[ $(psql_in "$1" -c "SELECT count(*) FROM pg_locks
			WHERE locktype = 'advisory' AND database = (
				SELECT oid FROM pg_database WHERE datname = current_database())") == 1 ]]; do
		:
	done
}

# book NAME URL: a counter of the sandbox's books
book()
{
	curl --silent --show-error --fail --noproxy '*' --cacert "$FOLDER/stage/server.crt" \
		"$2/sandbox/books" | sed "s/.*\"$1\":\([0-9]*\).*/\1/"
}

set_latency()
{
	tell_sandbox config "{\"latency_ms\": $1}"
}

reset_books()
{
	tell_sandbox reset ""
}

tell_sandbox()
{
	quietly curl --silent --show-error --fail --noproxy '*' --data "$2" \
		"$HTTP_URL/sandbox/$1"
}

# ----------------------------------------------------------------
# Single measurements
# ----------------------------------------------------------------

# record_run PART SUBJECT CALLS FIGURES: microseconds of elapsed time, of the
# asker's CPU and of the worker's CPU
record_run()
{
	printf '%s,"%s",%d,%s\n' "$@" >> "$RESULTS/runs.csv"
}

record_fact()
{
	printf '"%s",%s\n' "$@" >> "$RESULTS/facts.csv"
}

# take_people COUNT: sets FIRST, the first of this many new people.
take_people()
{
	FIRST=$((NEXT_PERSON + 100))
	NEXT_PERSON=$((FIRST + $1))
}

# sql_run PART SUBJECT DATABASE CALLS QUERY: by one session; the query is one for
# bench.measure().
sql_run()
{
	take_people "$4"
	run_again "$@"
}

# The same for the people of the last run.
run_again()
{
	local figures
	figures=$(measure "$3" "$FIRST" "$4" "$5")
	record_run "$1" "$2" "$4" "$figures"
}

measure()
{
	psql_in "$1" --set=first="$2" --set=calls="$3" --set=query="$4" \
		<<< "SELECT * FROM bench.measure(:'query', :first, :calls)"
}

# curl_run PART SUBJECT CALLS URL [FILE]
curl_run()
{
	local figures
	take_people "$3"
	figures=$("$BENCH/build/plain_curl" "$4/v2/enrich/person" "$TOKEN" "$FIRST" \
		"$3" "$FOLDER/stage/server.crt" "${@:5}")
	record_run "$1" "$2" "$3" "$figures,0"
}

# The work of the WAL at a commit: write a page of an existing file and sync it.
fsync_run()
{
	local seconds
	quietly dd if=/dev/zero of="$FOLDER/fsync" bs=8192 count="$FSYNCS" conv=notrunc
	seconds=$(LC_ALL=C dd if=/dev/zero of="$FOLDER/fsync" bs=8192 count="$FSYNCS" \
		conv=notrunc oflag=dsync 2>&1 | sed -n 's/.* copied, \([0-9.e-]*\) s.*/\1/p')
	record_run fsync fsync "$FSYNCS" \
		"$(awk -v s="$seconds" 'BEGIN { printf "%.0f\n", s * 1000000 }'),,"
}

# many_run SUBJECT SESSIONS CALLS-OF-EACH
many_run()
{
	local calls us before after
	take_people $((($2 + 1) * 1000000))
	call_by_many "$2" 0 2
	before=$(worker_cpu_us)
	call_by_many "$2" 1000 "$3"
	after=$(worker_cpu_us)
	calls=$(pgbench_says 'number of transactions actually processed:')
	us=$(awk -v calls="$calls" -v tps="$(pgbench_says 'tps =')" \
		'BEGIN { printf "%.0f\n", calls / tps * 1000000 }')
	record_run many "$1" "$calls" "$us,,$((after - before))"
}

# call_by_many SESSIONS OFFSET CALLS-OF-EACH
call_by_many()
{
	PGHOST=$FOLDER/socket PGPORT=$SERVER_PORT PGUSER=postgres PGDATABASE=bench \
		"$(pg_program pgbench)" --no-vacuum --protocol=prepared --client="$1" \
		--jobs=2 --define=first="$FIRST" --define=n="$2" \
		--transactions="$3" --file="$BENCH/call.pgbench" > "$RESULTS/pgbench" 2>&1 ||
		die "some calls failed, see $RESULTS/pgbench"
}

# pgbench_says TEXT: the number after this text.
pgbench_says()
{
	sed -n "s/^$1 \([0-9.]*\).*/\1/p" "$RESULTS/pgbench"
}

worker_cpu_us()
{
	psql_in bench -c "SELECT coalesce(bench.cpu_us(bench.worker_pid()), 0)"
}

# ----------------------------------------------------------------
# The parts of the benchmark
# ----------------------------------------------------------------

# Each subject once, so that a temporary disturbance affects all of them.
one_round()
{
	fsync_run
	curl_run http "plain libcurl" "$CALLS" "$HTTP_URL"
	curl_run http "plain libcurl, two fsyncs a call" "$DURABLE_CALLS" "$HTTP_URL" \
		"$FOLDER/pages"
	configure fsync on
	with_settings "$DEFAULT_CONCURRENCY" \
		sql_run http "ocean_enrich" bench "$CALLS" "$OCEAN"
	sql_run http "ocean_enrich, one call at a time" bench "$DURABLE_CALLS" "$OCEAN"
	many_run "64 sessions" 64 "$SESSION_CALLS"
	configure ocean_enrich.record_before_send off
	sql_run http "..., record_before_send off" bench "$DURABLE_CALLS" "$OCEAN"
	configure fsync off
	sql_run http "..., record_before_send and fsync off" bench "$CALLS" "$OCEAN"
	configure ocean_enrich.record_before_send on
	sql_run http "ocean_enrich, fsync off, one call at a time" bench "$CALLS" "$OCEAN"
	run_again http "..., answers reused" bench "$CALLS" "$OCEAN"
	with_settings "$DEFAULT_CONCURRENCY" \
		sql_run http "ocean_enrich, fsync off" bench "$CALLS" "$OCEAN"
	many_run "64 sessions, fsync off" 64 "$SESSION_CALLS"
	with_settings "-c ocean_enrich.concurrency=64" \
		sql_run http "ocean_enrich, fsync off, 64 read ahead" bench "$CALLS" "$OCEAN"
	[[ -z $PYTHON ]] || sql_run http "PL/Python" bench "$CALLS" "$PYTHON"
	curl_run https "plain libcurl" "$CALLS" "$HTTPS_URL"
	with_settings "$OVER_HTTPS" \
		sql_run https "ocean_enrich, fsync off, one call at a time" bench "$CALLS" "$OCEAN"
}

# with_settings OPTIONS COMMAND: for the sessions of the command
with_settings()
{
	local PGOPTIONS=$1
	shift
	export PGOPTIONS
	"$@"
}

# count_connections NAME CONCURRENCY: each needs a handshake, the main cost of
# https.
count_connections()
{
	local before
	end_worker bench
	before=$(book connections "$HTTPS_URL")
	take_people "$CALLS"
	with_settings "$OVER_HTTPS -c ocean_enrich.concurrency=$2" \
		quietly measure bench "$FIRST" "$CALLS" "$OCEAN"
	record_fact "https: connections for $CALLS calls, $1" \
		"$(($(book connections "$HTTPS_URL") - before))"
}

# With a slow sandbox only concurrency helps: by many sessions, and by one that
# reads ahead.
many_in_flight()
{
	set_latency "$LATENCY_MS"
	configure fsync on
	reset_books
	many_run "1000 sessions, $LATENCY_MS ms" 1000 "$MANY_CALLS"
	record_fact "most in flight, 1000 sessions" "$(book most_in_flight "$HTTP_URL")"
	reset_books
	with_settings "-c ocean_enrich.concurrency=1000" \
		sql_run many "1 session, $LATENCY_MS ms, 1000 read ahead" bench 20000 "$OCEAN"
	record_fact "most in flight, 1 session that reads 1000 ahead" \
		"$(book most_in_flight "$HTTP_URL")"
	record_fact "calls/s of 1000 in flight if only the latency counted" \
		$((1000 * 1000 / LATENCY_MS))
	set_latency 0
	configure fsync off
}

# One session and its worker, after each quarter of their calls.
memory()
{
	end_worker bench
	take_people "$MEMORY_CALLS"
	psql_in bench --set=first="$FIRST" --set=calls="$MEMORY_CALLS" \
		--set=query="$OCEAN" > "$RESULTS/memory.csv" \
		<<< "SELECT * FROM bench.memory(:'query', :first, :calls)"
}

# make_ledger DATABASE ROWS: the worker makes its plans before the rows are added.
make_ledger()
{
	make_database "$1"
	take_people 100
	quietly measure "$1" "$FIRST" 100 "$OCEAN"
	quietly psql_in "$1" --set=rows="$2" --file="$BENCH/fill.sql"
}

ledger_length()
{
	local round
	make_ledger short "$SHORT_ROWS"
	make_ledger long "$LONG_ROWS"
	quietly psql_in short -c "VACUUM ANALYZE"
	quietly psql_in long -c "VACUUM ANALYZE"
	make_ledger grown "$LONG_ROWS"
	quietly psql_in grown -c "CHECKPOINT"
	record_fact "rows of the short ledger" "$SHORT_ROWS"
	record_fact "rows of the long ledger" "$LONG_ROWS"
	for ((round = 0; round < ROUNDS; round++)); do
		ledger_run "short ledger" short
		ledger_run "long ledger" long
		ledger_run "long ledger, plans of the empty one" grown
	done

	# A worker that starts with a long ledger without statistics.
	end_worker grown
	for ((round = 0; round < ROUNDS; round++)); do
		ledger_run "long ledger, no statistics" grown
	done
}

# ledger_run NAME DATABASE: new calls, and some of them again
ledger_run()
{
	sql_run ledger "$1" "$2" "$CALLS" "$OCEAN"
	run_again reuse "$1" "$2" "$REUSED_CALLS" "$OCEAN"
}

typed_columns()
{
	local round
	quietly psql_in bench -c "CREATE TABLE bench.answer AS
		SELECT row_number() OVER () AS n, answer AS enriched FROM ocean_enrich.call
		WHERE answer IS NOT NULL LIMIT 5050"
	quietly psql_in bench -c "VACUUM ANALYZE bench.answer"
	FIRST=51
	for ((round = 0; round < ROUNDS; round++)); do
		run_again columns "enriched ->> 'id'" bench 5000 \
			"SELECT count(enriched ->> 'id') FROM bench.answer WHERE n BETWEEN \$1 AND \$2"
		run_again columns "ocean_person(enriched)" bench 5000 \
			"SELECT count(ocean_person(enriched)) FROM bench.answer WHERE n BETWEEN \$1 AND \$2"
		run_again columns "ocean_person_experiences(enriched)" bench 5000 \
			"SELECT count(e) FROM bench.answer, ocean_person_experiences(enriched) AS e WHERE n BETWEEN \$1 AND \$2"
	done
}

# PL/Python is optional.
prepare_python()
{
	PYTHON=
	if [[ ! -e $("$PG_CONFIG" --sharedir)/extension/plpython3u.control ]]; then
		say "PL/Python is left out: postgresql-plpython3-$(pg_major) is not installed"
		return
	fi
	quietly psql_in bench --file="$BENCH/python.sql"
	PYTHON=${PERSONS/CALL/"bench.python_enrich(bench.request(n), ${HTTP_URL##*:}, '$TOKEN')"}
}

parse_arguments()
{
	case ${1:-} in
		"") ;;
		--long)
			ROUNDS=9
			MEMORY_CALLS=100000
			LONG_ROWS=1000000
			;;
		*)
			sed -n '/^#	test\//s/^#	//p' "${BASH_SOURCE[0]}" >&2
			exit 2
			;;
	esac
}

describe_machine()
{
	echo "$("$PG_CONFIG" --version), libcurl $(curl-config --version | cut -d ' ' -f 2)," \
		"$(nproc) CPUs, $(uname -sr), load $(cut -d ' ' -f 1 /proc/loadavg) before"
}

main()
{
	local round machine
	parse_arguments "$@"
	install_missing build test
	choose_pg_config
	choose_server_user
	machine=$(describe_machine)

	rm -rf "$RESULTS"
	mkdir -p "$RESULTS"
	: > "$RESULTS/runs.csv"
	: > "$RESULTS/facts.csv"
	FOLDER=$(mktemp -d "${TMPDIR:-/var/tmp}/ocean_bench.XXXXXX")
	trap clean_up EXIT
	chown "$SERVER_USER:" "$FOLDER"
	chmod 0700 "$FOLDER"

	say "building, starting a server and two sandboxes"
	build
	start_everything
	make_database bench
	prepare_python
	quietly psql_in bench -c "CHECKPOINT"

	for ((round = 1; round <= ROUNDS; round++)); do
		say "round $round of $ROUNDS"
		one_round
	done
	say "counting connections"
	count_connections "one after the other" 1
	count_connections "64 read ahead" 64
	say "1000 calls in flight"
	many_in_flight
	say "memory over $MEMORY_CALLS calls"
	memory
	say "a ledger of $LONG_ROWS rows"
	ledger_length
	say "typed columns"
	typed_columns
	say "done"

	echo "$machine, $(cut -d ' ' -f 1 /proc/loadavg) after"
	(cd "$RESULTS" && psql_report)
}

psql_report()
{
	PGDATABASE=bench server_psql "$FOLDER" --no-psqlrc --file="$BENCH/report.sql"
}

# read_ahead.sh sources this file for its functions.
[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@"
