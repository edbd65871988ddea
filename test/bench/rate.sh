#!/usr/bin/env bash
#
# rate.sh
#	Measures how much of an API's rate limit is used by the queue, by sessions and by
#	reading ahead, when the extension does not know the limit, and whether a limit of
#	its own that equals the API's is ever exceeded.  Prints goals like run.sh.
#
#	test/bench/rate.sh		up to 8 minutes; all cases run at the same time
#
# Each case has its own database and sandbox, and so its own account.  The figures are
# also written to test/results/bench-rate/facts.csv.
#
# An API that allows L requests in any window of W seconds allows the first L at once.
# These are not counted: "of what is allowed" is the rate of m L calls, in the time from
# the end of the first window to the last answer, relative to L / W.  A case has
# L + m L + 1 calls: a client that sends L at the start of each window has the last
# answer at (m + 1) W, and so has one that spaces its calls evenly, from the start or
# after the first window.  Without the last call the first client would be ahead of the
# others by a whole window.
#
# A case that does not end within MAX_SECONDS is measured up to then.

set -euo pipefail

# shellcheck source=test/bench/run.sh
. "$(dirname "${BASH_SOURCE[0]}")/run.sh"

RESULTS=$PWD/test/results/bench-rate
MAX_SECONDS=390
SESSIONS=16
IN_FLIGHT=64

# Name, L, W, m, the extension's own limit, and what makes the calls.
CASES="
10 per 2 s, queue|10|2|20|0|queue
10 per 2 s, sessions|10|2|20|0|sessions
10 per 2 s, read-ahead|10|2|20|0|read_ahead
60 per minute, queue|60|60|3|0|queue
60 per minute, sessions|60|60|3|0|sessions
60 per minute, read-ahead|60|60|3|0|read_ahead
30 per minute and the own limit the same, queue|30|60|3|30|queue
"

# ----------------------------------------------------------------
# The clients
# ----------------------------------------------------------------

call_by_queue()
{
	psql_in "$1" -c "SELECT count(ocean_enrich.submit(bench.request(n)))
		FROM generate_series(1, $2) AS n" > /dev/null
}

# Until they are terminated.
call_by_sessions()
{
	local session
	for ((session = 1; session <= SESSIONS; session++)); do
		call_by_one_session "$1" "$session" &
	done
	wait
}

# One call after the other.  After an error it waits for a second and goes on with the
# next person.
call_by_one_session()
{
	local person=$2
	while :; do
		printf '%s\n' "SELECT ocean_enrich_person(bench.request($person));" \
			'\if :ERROR' 'SELECT pg_sleep(1);' '\endif'
		person=$((person + SESSIONS))
	done 2> /dev/null | psql_in "$1" --set=ON_ERROR_STOP=0 > /dev/null
}

# One statement, which is run again if it fails; then the ledger has the answers that
# there already are.
call_by_read_ahead()
{
	until psql_in "$1" -c "SET ocean_enrich.concurrency = $IN_FLIGHT" \
		-c "SELECT count(ocean_enrich_person(bench.request(n))) FROM generate_series(1, $2) AS n" > /dev/null; do
		sleep 1
	done
}

# ----------------------------------------------------------------
# One case
# ----------------------------------------------------------------

# prepare_case DATABASE LIMIT WINDOW OWN-LIMIT: starts its sandbox, too.
prepare_case()
{
	make_database "$1"
	quietly start_sandbox "$FOLDER/stage/ocean-sandbox" "$FOLDER" 0
	HTTP_URL=http://127.0.0.1:$(cat "$FOLDER/sandbox.port")
	tell_sandbox config "{\"latency_ms\": $LATENCY_MS,
		\"rate_limit\": $2, \"rate_window_ms\": $(($3 * 1000))}"
	quietly psql_in postgres -c "ALTER DATABASE $1 SET ocean_enrich.api_url = '$HTTP_URL'" \
		-c "ALTER DATABASE $1 SET ocean_enrich.rate_limit = $4"
}

# run_case DATABASE URL CALLS WAY: until the calls are answered or the time is over.
run_case()
{
	"call_by_$4" "$1" "$3" 2> "$RESULTS/errors-$1" &
	curl --silent --fail --noproxy '*' --output /dev/null \
		"$2/sandbox/wait?charges=$3&timeout_ms=$((MAX_SECONDS * 1000))"
	# The answers still have to reach the ledger.
	sleep 1
	kill $! 2> /dev/null || true
	quietly psql_in postgres -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = '$1' AND backend_type = 'client backend'"
}

# report_case NAME DATABASE URL LIMIT WINDOW CALLS
report_case()
{
	local refused
	refused=$(book refused_by_rate "$3")
	psql_in "$2" --set=name="$1" --set=limit="$4" --set=window="$5" --set=calls="$6" \
		--set=max_seconds="$MAX_SECONDS" --file="$BENCH/rate_figures.sql" >> "$RESULTS/facts.csv"
	record_fact "$1: requests refused" "$refused"
	record_fact "$1: requests refused, of all" "$(awk -v refused="$refused" \
		-v requests="$(book requests "$3")" 'BEGIN { printf "%.3f", refused / requests }')"
	record_fact "$1: errors" "$(grep -c '^psql.*ERROR: \|^ERROR: ' "$RESULTS/errors-$2" || true)"
}

measure_everything()
{
	local name limit window windows own way i=0 urls=() runs=()
	while IFS='|' read -r name limit window windows own way; do
		i=$((i + 1))
		prepare_case "case$i" "$limit" "$window" "$own"
		urls[i]=$HTTP_URL
	done < <(grep . <<< "$CASES")

	say "all cases, $MAX_SECONDS seconds at most"
	i=0
	while IFS='|' read -r name limit window windows own way; do
		i=$((i + 1))
		run_case "case$i" "${urls[i]}" $((limit * (windows + 1) + 1)) "$way" &
		runs+=($!)
	done < <(grep . <<< "$CASES")
	wait "${runs[@]}"

	say "done"
	i=0
	while IFS='|' read -r name limit window windows own way; do
		i=$((i + 1))
		report_case "$name" "case$i" "${urls[i]}" "$limit" "$window" \
			$((limit * (windows + 1) + 1))
	done < <(grep . <<< "$CASES")
}

main_rate()
{
	local machine
	install_missing build test
	choose_pg_config
	choose_server_user
	machine=$(describe_machine)

	rm -rf "$RESULTS"
	mkdir -p "$RESULTS"
	: > "$RESULTS/facts.csv"
	FOLDER=$(mktemp -d "${TMPDIR:-/var/tmp}/ocean_bench.XXXXXX")
	trap clean_up EXIT
	chown "$SERVER_USER:" "$FOLDER"
	chmod 0700 "$FOLDER"

	say "building, starting a server and the sandboxes"
	build
	write_settings "ocean_enrich.max_concurrency = 64" "max_worker_processes = 32"
	quietly make_server "$FOLDER"
	quietly start_server "$FOLDER"
	measure_everything

	echo "$machine, $(cut -d ' ' -f 1 /proc/loadavg) after"
	(cd "$RESULTS" && PGDATABASE=postgres server_psql "$FOLDER" --no-psqlrc \
		--file="$BENCH/rate_report.sql")
}

main_rate
