#!/usr/bin/env bash
#
# queue.sh
#	Measures the queue on a private server against the sandbox API: how fast rows
#	are submitted and settled, and what a long queue costs.
#
#	test/bench/queue.sh [ROWS]		ROWS in the long queue, 1,000,000 by default
#
# Times are those of the whole machine; what the worker takes of it stands
# beside them, and moves less with what else goes on.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# shellcheck source=test/private-server.sh
. test/private-server.sh

LONG=${1:-1000000}
SHORT=1000
SETTLED=10000
PEOPLE=0

sql()
{
	server_psql "$FOLDER" --no-psqlrc --quiet --no-align --tuples-only \
		--set ON_ERROR_STOP=1 --command "$1"
}

# settings LINES: the server's, from now on.
settings()
{
	printf '%s\n' "max_files_per_process = 4000" "max_wal_size = 8GB" \
		"shared_preload_libraries = 'ocean_enrich'" \
		"ocean_enrich.api_url = 'http://127.0.0.1:$(cat "$FOLDER/sandbox.port" 2> /dev/null || echo 1)'" \
		"ocean_enrich.api_token = 'sandbox-token'" \
		"ocean_enrich.rate_limit = 0" "ocean_enrich.daily_limit = 0" \
		"$@" > "$FOLDER/server.conf"
	reload_server "$FOLDER" 2> /dev/null || true
}

latency()
{
	curl --silent --fail --noproxy '*' --data "{\"latency_ms\": $1}" \
		"http://127.0.0.1:$(cat "$FOLDER/sandbox.port")/sandbox/config" > /dev/null
}

# submit COUNT: nobody was asked for before.
submit()
{
	sql "SET client_min_messages = warning; CREATE TABLE IF NOT EXISTS submitted (call_id bigint)"
	sql "INSERT INTO submitted SELECT ocean_enrich.submit(ocean_person_request(
			email => 'p' || i || '@example.com', name => 'Alva Nordal ' || i))
		FROM generate_series($PEOPLE + 1, $PEOPLE + $1) AS i"
	PEOPLE=$((PEOPLE + $1))
}

wait_until_settled()
{
	until [[ $(sql "SELECT count(*) FROM (SELECT FROM ocean_enrich.call
			WHERE state IN ('queued', 'sent') LIMIT 1) AS c") == 0 ]]; do
		sleep 0.1
	done
}

# ticks: hundredths of a second that the worker has used.
ticks()
{
	awk '{ print $14 + $15 }' "/proc/$(sql 'SELECT worker_pid FROM ocean_enrich.queue_status')/stat"
}

answered()
{
	sql "SELECT coalesce(sum(answered), 0) FROM ocean_enrich.queue_tally"
}

# cost_per_row SECONDS: microseconds of the worker for each row, while it works.
cost_per_row()
{
	local from to first last
	from=$(ticks) first=$(answered)
	sleep "$1"
	to=$(ticks) last=$(answered)
	echo $(((to - from) * 10000 / (last > first ? last - first : 1)))
}

measure_submit()
{
	local started=${EPOCHREALTIME/./}
	submit "$LONG"
	awk -v rows="$LONG" -v us=$((${EPOCHREALTIME/./} - started)) 'BEGIN {
		printf "submitted: %d rows, %.0f rows/s\n", rows, rows * 1e6 / us }'
	sql "SELECT 'size: ' || pg_size_pretty(pg_table_size('ocean_enrich.call')) || ', indexes '
		|| pg_size_pretty(pg_indexes_size('ocean_enrich.call'))"
}

measure_settled()
{
	local from
	latency 300
	settings "ocean_enrich.max_concurrency = 900" "ocean_enrich.queue_enabled = off"
	submit "$SETTLED"
	from=$(ticks)
	settings "ocean_enrich.max_concurrency = 900"
	wait_until_settled
	sql "SELECT 'settled: $SETTLED rows at 300 ms, 900 in flight: '
			|| round($SETTLED / extract(epoch FROM max(answered_at) - min(sent_at))) || ' rows/s'
		FROM ocean_enrich.call"
	echo "  of the worker $((($(ticks) - from) * 10000 / SETTLED)) us a row"
}

measure_long_queue()
{
	latency 0
	settings "ocean_enrich.queue_enabled = off"
	submit "$SHORT"
	settings
	echo "queue of $SHORT rows: $(cost_per_row 0.3) us a row"
	wait_until_settled
	settings "ocean_enrich.queue_enabled = off"
	measure_submit
	settings
	sleep 2
	for _ in 1 2 3; do
		echo "queue of $(sql 'SELECT waiting FROM ocean_enrich.queue_status') rows: $(cost_per_row 10) us a row"
	done
	sql "SELECT 'size: ' || pg_size_pretty(pg_table_size('ocean_enrich.call')) || ', indexes '
		|| pg_size_pretty(pg_indexes_size('ocean_enrich.call'))"
}

main()
{
	choose_pg_config
	choose_server_user
	FOLDER=$(mktemp -d "${TMPDIR:-/tmp}/ocean_enrich.XXXXXX")
	trap 'stop_server "$FOLDER" || true; rm -rf "$FOLDER"' EXIT
	chown "$SERVER_USER:" "$FOLDER"
	make --silent PG_CONFIG="$PG_CONFIG" all sandbox
	stage_extension "$FOLDER/stage" > /dev/null
	install -m 0755 test/sandbox/build/ocean-sandbox "$FOLDER/stage/"
	settings
	make_server "$FOLDER" > /dev/null
	start_server "$FOLDER"
	start_sandbox "$FOLDER/stage/ocean-sandbox" "$FOLDER" 0
	settings
	sql "CREATE EXTENSION ocean_enrich"
	measure_settled
	measure_long_queue
}

main
