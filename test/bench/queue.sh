#!/usr/bin/env bash
#
# queue.sh
#	Measures the queue and syncs on a private server against the sandbox API: how
#	fast rows are submitted, settled and written to their column, what a long
#	queue costs, and how much it bloats the ledger.  Prints goals like run.sh.
#
#	test/bench/queue.sh [ROWS]		ROWS in the long queue, 1,000,000 by default
#
# Rates depend on the load of the whole machine; the CPU time of the worker, which
# is shown beside them, depends less on it.  The figures are also written to
# test/results/bench-queue/facts.csv.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# shellcheck source=test/private-server.sh
. test/private-server.sh

BENCH=$PWD/test/bench
RESULTS=$PWD/test/results/bench-queue
LONG=${1:-1000000}
SHORT=1000
SHORT_ROUNDS=10
PLAIN=$((LONG / 5))
SETTLED=10000
ROUNDS=3
PEOPLE=0

sql()
{
	server_psql "$FOLDER" --no-psqlrc --quiet --no-align --tuples-only \
		--set ON_ERROR_STOP=1 --command "$1"
}

# fact NAME VALUE
fact()
{
	printf '"%s",%s\n' "$1" "$2" >> "$RESULTS/facts.csv"
	printf '%5d s  %s: %s\n' "$SECONDS" "$1" "$2" >&2
}

# write_settings LINES: of the server, from now on.
write_settings()
{
	printf '%s\n' "max_files_per_process = 4000" "max_wal_size = 8GB" \
		"autovacuum_naptime = 5s" \
		"shared_preload_libraries = 'ocean_enrich'" \
		"ocean_enrich.api_url = 'http://127.0.0.1:$(cat "$FOLDER/sandbox.port" 2> /dev/null || echo 1)'" \
		"ocean_enrich.api_token = 'sandbox-token'" \
		"ocean_enrich.rate_limit = 0" "ocean_enrich.daily_limit = 0" \
		"$@" > "$FOLDER/server.conf"
	reload_server "$FOLDER" 2> /dev/null || true
}

set_latency()
{
	curl --silent --fail --noproxy '*' --data "{\"latency_ms\": $1}" \
		"http://127.0.0.1:$(cat "$FOLDER/sandbox.port")/sandbox/config" > /dev/null
}

# submit COUNT SELECT: REQUEST in it becomes a request for a new person.
submit()
{
	local request="ocean_person_request(email => 'p' || i || '@example.com', name => 'Alva Nordal ' || i)"
	sql "${2/REQUEST/$request} FROM generate_series($PEOPLE + 1, $PEOPLE + $1) AS i"
	PEOPLE=$((PEOPLE + $1))
}

wait_for()
{
	until [[ $(sql "SELECT $1") == t ]]; do
		sleep 0.1
	done
}

NOTHING_LEFT="NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state IN ('queued', 'sent'))"

# The worker's CPU time in hundredths of a second.
worker_ticks()
{
	awk '{ print $14 + $15 }' "/proc/$(sql 'SELECT worker_pid FROM ocean_enrich.queue_status')/stat"
}

count_waiting()
{
	sql "SELECT waiting FROM ocean_enrich.queue_status"
}

count_answered()
{
	sql "SELECT coalesce(sum(answered), 0) FROM ocean_enrich.queue_tally"
}

# us_each TICKS ROWS
us_each()
{
	awk -v ticks="$1" -v rows="$2" 'BEGIN { printf "%.1f", ticks * 10000 / (rows > 0 ? rows : 1) }'
}

# rows_per_second ROWS MICROSECONDS
rows_per_second()
{
	awk -v rows="$1" -v us="$2" 'BEGIN { printf "%.0f", rows * 1e6 / us }'
}

# measure_submit NAME COUNT SELECT: with an ordinary commit, which waits for fsync.
measure_submit()
{
	local started=${EPOCHREALTIME/./}
	submit "$2" "$3" > /dev/null
	fact "$1" "$(rows_per_second "$2" $((${EPOCHREALTIME/./} - started)))"
}

# From the first request to the last answer in the ledger.
measure_settled()
{
	local from
	set_latency 300
	write_settings "ocean_enrich.max_concurrency = 900" "ocean_enrich.queue_enabled = off"
	submit "$SETTLED" "SELECT count(ocean_enrich.submit(REQUEST))" > /dev/null
	from=$(worker_ticks)
	write_settings "ocean_enrich.max_concurrency = 900"
	wait_for "$NOTHING_LEFT"
	fact "settled at 300 ms with 900 in flight, rows/s" "$(sql "
		SELECT round($SETTLED / extract(epoch FROM max(answered_at) - min(sent_at))) FROM ocean_enrich.call")"
	fact "worker us a row settled" "$(us_each $(($(worker_ticks) - from)) "$SETTLED")"
}

# From the first request to the commit that wrote the last row.
measure_sync()
{
	local last
	write_settings "ocean_enrich.max_concurrency = 900" "ocean_enrich.queue_enabled = off"
	sql "CREATE TABLE leads (id integer PRIMARY KEY, email text, enriched jsonb);
		INSERT INTO leads SELECT i, 'lead' || i || '@example.com' FROM generate_series(1, $SETTLED) AS i;
		SELECT ocean_enrich.create_sync('leads', 'leads', 'ocean_person_request(email => email)', 'enriched')" > /dev/null
	wait_for "count(*) = $SETTLED FROM ocean_enrich.sync_row WHERE state = 'queued'"
	sql "VACUUM ANALYZE" && sql "CHECKPOINT"
	write_settings "ocean_enrich.max_concurrency = 900"
	wait_for "done = $SETTLED FROM ocean_enrich.sync_status"
	last=$(sql "SELECT extract(epoch FROM clock_timestamp())")
	fact "sync at 300 ms with 900 in flight, rows/s written" "$(sql "
		SELECT round($SETTLED / ($last - extract(epoch FROM min(sent_at))))
		FROM ocean_enrich.call WHERE sync_id IS NOT NULL")"
	fact "rows of the sync without their person" "$(sql "
		SELECT count(*) FROM leads WHERE enriched #>> '{email,address}' IS DISTINCT FROM email")"
	sql "SELECT ocean_enrich.drop_sync('leads')" > /dev/null
}

# Many short queues, since the kernel counts CPU time in hundredths of a second.
measure_short_queue()
{
	local used=0 from
	set_latency 0
	for _ in $(seq "$SHORT_ROUNDS"); do
		write_settings "ocean_enrich.queue_enabled = off"
		submit "$SHORT" "SELECT count(ocean_enrich.submit(REQUEST))" > /dev/null
		from=$(worker_ticks)
		write_settings
		wait_for "$NOTHING_LEFT"
		used=$((used + $(worker_ticks) - from))
	done
	fact "worker us a row, short queue" "$(us_each "$used" $((SHORT * SHORT_ROUNDS)))"
}

measure_long_queue()
{
	local from first
	write_settings "ocean_enrich.queue_enabled = off"
	sql "CREATE TABLE submitted (call_id bigint)"
	measure_submit "submitted by INSERT ... SELECT, rows/s" "$LONG" \
		"INSERT INTO submitted SELECT ocean_enrich.submit(REQUEST)"
	measure_submit "submitted by SELECT, rows/s" "$PLAIN" "SELECT count(ocean_enrich.submit(REQUEST))"
	fact "rows in the long queue" "$(count_waiting)"
	write_settings
	sleep 2
	for _ in $(seq "$ROUNDS"); do
		(($(count_waiting) > 0)) || break
		from=$(worker_ticks) first=$(count_answered)
		sleep 10
		# The worker exits when the queue is empty.
		(($(count_waiting) > 0)) || break
		fact "worker us a row, long queue" "$(us_each $(($(worker_ticks) - from)) $(($(count_answered) - first)))"
	done
	write_settings "ocean_enrich.queue_enabled = off"
	wait_for "NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state = 'sent')"
	fact "rows left in the long queue" "$(count_waiting)"
}

# The size that autovacuum has left, compared with a table without dead rows.
measure_bloat()
{
	sql "CREATE TABLE fresh (LIKE ocean_enrich.call INCLUDING INDEXES)"
	sql "INSERT INTO fresh SELECT * FROM ocean_enrich.call ORDER BY call_id"
	fact "size of the ledger's table, of a fresh copy's" "$(sql "SELECT
		round(pg_table_size('ocean_enrich.call')::numeric / pg_table_size('fresh'), 2)")"
	fact "size of its indexes, of a fresh copy's" "$(sql "SELECT
		round(pg_indexes_size('ocean_enrich.call')::numeric / pg_indexes_size('fresh'), 2)")"
}

start_everything()
{
	make --silent PG_CONFIG="$PG_CONFIG" all sandbox
	stage_extension "$FOLDER/stage" > /dev/null
	install -m 0755 test/sandbox/build/ocean-sandbox "$FOLDER/stage/"
	write_settings
	make_server "$FOLDER" > /dev/null
	start_server "$FOLDER"
	start_sandbox "$FOLDER/stage/ocean-sandbox" "$FOLDER" 0
	write_settings
	sql "CREATE EXTENSION ocean_enrich"
	# As doc/operations.md recommends for millions of calls.
	sql "ALTER TABLE ocean_enrich.call SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0)"
}

main()
{
	choose_pg_config
	choose_server_user
	FOLDER=$(mktemp -d "${TMPDIR:-/tmp}/ocean_enrich.XXXXXX")
	trap 'stop_server "$FOLDER" || true; rm -rf "$FOLDER"' EXIT
	chown "$SERVER_USER:" "$FOLDER"
	rm -rf "$RESULTS"
	mkdir -p "$RESULTS"
	start_everything
	measure_settled
	measure_sync
	measure_short_queue
	measure_long_queue
	measure_bloat
	cd "$RESULTS"
	PGDATABASE=postgres server_psql "$FOLDER" --no-psqlrc --file="$BENCH/queue_report.sql"
}

main
