#!/usr/bin/env bash
#
# read_ahead.sh
#	Compares a plain UPDATE that reads ahead with programs that are written to have
#	many requests in flight, on one sandbox and in the same rounds, and prints
#	tables.  See README.md.
#
#	test/bench/read_ahead.sh		about 5 minutes
#
# All runs are also written to test/results/bench-read-ahead/runs.csv.

set -euo pipefail

# shellcheck source=test/bench/run.sh
. "$(dirname "${BASH_SOURCE[0]}")/run.sh"

RESULTS=$PWD/test/results/bench-read-ahead
ROWS=2000
ROUNDS=3
OVERHEAD_ROUNDS=11
OVERHEAD_QUERIES=50000

# The books are reset for each run; they must have a request for each person.
check_books()
{
	[[ $(book requests "$HTTP_URL") == "$ROWS" ]] ||
		die "$1 made $(book requests "$HTTP_URL") requests instead of $ROWS"
}

# update_run PART SUBJECT CONCURRENCY TABLE
update_run()
{
	local us
	take_people "$ROWS"
	quietly psql_in bench -c "TRUNCATE bench.$4" \
		-c "INSERT INTO bench.$4 SELECT n, bench.request(n)
			FROM generate_series($FIRST, $FIRST + $ROWS - 1) AS n" \
		-c "VACUUM ANALYZE bench.$4" -c "CHECKPOINT" \
		-c "SELECT ocean_enrich_person(bench.request($FIRST - 1))"
	reset_books
	us=$(with_settings "-c ocean_enrich.concurrency=$3" psql_in bench <<- END
		SELECT clock_timestamp() AS started \gset
		UPDATE bench.$4 SET enriched = ocean_enrich_person(req);
		SELECT round(1000000 * extract(epoch FROM clock_timestamp() - :'started'::timestamptz));
	END
	)
	check_books "$2"
	record_run "$1" "$2" "$ROWS" "$us,,"
}

# A curl configuration with all requests.
write_curl_config()
{
	seq "$FIRST" $((FIRST + ROWS - 1)) | awk -v url="$HTTP_URL/v2/enrich/person" \
		-v token="$TOKEN" '{
		if (NR > 1)
			print "next"
		printf "url = \"%s\"\n", url
		printf "header = \"x-api-token: %s\"\n", token
		print "header = \"Content-Type: application/json\""
		printf "data = \"{\\\"person\\\": {\\\"email\\\": \\\"person%d@bench.example\\\"}}\"\n", $1
		print "output = \"/dev/null\""
	}' > "$FOLDER/curl.config"
}

# program_run PART SUBJECT COMMAND...: timed from outside
program_run()
{
	local part=$1 subject=$2 started
	shift 2
	reset_books
	started=${EPOCHREALTIME/./}
	quietly "$@"
	record_run "$part" "$subject" "$ROWS" "$((${EPOCHREALTIME/./} - started)),,"
	check_books "$subject"
}

# at_concurrency N
at_concurrency()
{
	update_run "$1" "UPDATE" "$1" one_table
	update_run "$1" "UPDATE, 50 partitions" "$1" partitioned
	take_people "$ROWS"
	write_curl_config
	program_run "$1" "curl --parallel" curl --no-progress-meter --noproxy '*' \
		--parallel --parallel-max "$1" --config "$FOLDER/curl.config"
	[[ -n $ASYNCIO ]] || return 0
	take_people "$ROWS"
	program_run "$1" "Python, asyncio" "$ASYNCIO" "$BENCH/asyncio_client.py" \
		"${HTTP_URL##*:}" "$TOKEN" "$FIRST" "$ROWS" "$1"
}

# overhead_run SUBJECT SETTINGS: CPU time of queries without our functions
overhead_run()
{
	local us
	us=$(with_settings "$2" psql_in bench \
		-c "SELECT bench.select_often($OVERHEAD_QUERIES)")
	record_run overhead "$1" "$OVERHEAD_QUERIES" "$us,,"
}

measure_everything()
{
	local round
	set_latency "$LATENCY_MS"
	for ((round = 1; round <= ROUNDS; round++)); do
		say "round $round of $ROUNDS"
		at_concurrency 64
		at_concurrency 256
	done
	say "queries without the function"
	for ((round = 1; round <= OVERHEAD_ROUNDS; round++)); do
		overhead_run "without the library" ""
		overhead_run "with the library" "-c session_preload_libraries=ocean_enrich"
	done
	say "done"
}

main_read_ahead()
{
	local machine
	install_missing build test
	choose_pg_config
	choose_server_user
	machine=$(describe_machine)
	ASYNCIO=$(command -v python3) || say "Python is left out: there is none"

	rm -rf "$RESULTS"
	mkdir -p "$RESULTS"
	: > "$RESULTS/runs.csv"
	FOLDER=$(mktemp -d "${TMPDIR:-/var/tmp}/ocean_bench.XXXXXX")
	trap clean_up EXIT
	chown "$SERVER_USER:" "$FOLDER"
	chmod 0700 "$FOLDER"

	say "building, starting a server and a sandbox"
	build
	start_everything
	make_database bench
	quietly psql_in bench --file="$BENCH/read_ahead_tables.sql"
	measure_everything

	echo "$machine, $(cut -d ' ' -f 1 /proc/loadavg) after"
	(cd "$RESULTS" && PGDATABASE=bench server_psql "$FOLDER" --no-psqlrc \
		--set=latency_ms="$LATENCY_MS" --file="$BENCH/read_ahead_report.sql")
}

main_read_ahead
