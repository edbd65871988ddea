#!/usr/bin/env bash
#
# sync_plans.sh
#	Measures what a sync adds to the time of an UPDATE, whatever was planned or
#	analysed before, and how long disabling, cancelling and dropping take.  Prints
#	goals like run.sh.
#
#	test/bench/sync_plans.sh		about 3 minutes
#
# A session updates so many rows of a table with a sync, and of one without, in several
# orders: a plan that was saved for no row is used for many, and the other way round.
# Each UPDATE is rolled back, and the applier is kept away meanwhile.  The figures are
# also written to test/results/bench-sync-plans/: runs.csv (condition, statistics, the
# function called last, rows, us without and with the sync) and facts.csv.

set -euo pipefail

# shellcheck source=test/bench/run.sh
. "$(dirname "${BASH_SOURCE[0]}")/run.sh"

RESULTS=$PWD/test/results/bench-sync-plans
ALL=1000000
SMALL=3000
LARGE=100000
# As many calls as a sync has in the queue.
AHEAD=10000

# The function that is called, and the numbers of rows that are updated after it.
STEPS="
create_sync|0 1 1000 100000
alter_sync('people', priority => 1)|100000 1000 1 0 100000
disable_sync('people')|1000 0 100000 1
enable_sync('people')|1 100000 0 1000
retry_sync('people')|0 1000000 1 0 1000000
"

# ----------------------------------------------------------------
# UPDATE
# ----------------------------------------------------------------

make_tables()
{
	local table
	for table in people others; do
		quietly psql_in bench -c "CREATE TABLE $table
			(id integer PRIMARY KEY, email text, job text, enriched jsonb)" \
			-c "ALTER TABLE $table SET (autovacuum_enabled = off)" \
			-c "INSERT INTO $table SELECT i, 'p' || i || '@example.com', 'engineer'
				FROM generate_series(1, $ALL) AS i"
	done
}

# SQL that leaves the time of one UPDATE in a variable of psql.
# time_update VARIABLE TABLE ROWS
time_update()
{
	cat <<- END
		BEGIN;
		SELECT count(*) FROM (SELECT FROM ocean_enrich.sync FOR UPDATE) AS held \g /dev/null
		SELECT clock_timestamp() AS started \gset
		UPDATE $2 SET email = 'b' || email WHERE id <= $3;
		SELECT round(extract(epoch FROM clock_timestamp() - :'started') * 1000000) AS $1 \gset
		ROLLBACK;
	END
}

# The session of one variant.  update_in_order CONDITION STATISTICS
update_in_order()
{
	local call rows count
	echo "SELECT ocean_enrich.create_sync('people', 'people', 'ocean_person_request(email => email)',
		'enriched', condition => $1, enqueue_existing => false) \\g /dev/null"
	while IFS='|' read -r call rows; do
		[[ $call == create_sync ]] || echo "SELECT ocean_enrich.$call \\g /dev/null"
		[[ $2 == without ]] ||
			echo "VACUUM ANALYZE people, others, ocean_enrich.sync_inbox, ocean_enrich.sync_row;"
		for count in $rows; do
			time_update plain others "$count"
			time_update synced people "$count"
			echo "SELECT \$\$$1\$\$, '$2', '${call%%(*}', $count, :plain, :synced;"
			((count < ALL)) || echo "VACUUM people, others;"
		done
	done < <(grep . <<< "$STEPS")
	echo "SELECT ocean_enrich.drop_sync('people') \\g /dev/null"
}

measure_updates()
{
	local condition statistics
	for condition in NULL "'id % 2 = 0'"; do
		for statistics in without with; do
			say "UPDATE, condition $condition, $statistics statistics"
			[[ $statistics == with ]] || quietly psql_in bench -c "DELETE FROM pg_statistic
				WHERE starelid IN ('people'::regclass, 'others'::regclass)"
			update_in_order "$condition" "$statistics" | psql_in bench >> "$RESULTS/runs.csv"
		done
	done
}

# ----------------------------------------------------------------
# Cancelling
# ----------------------------------------------------------------

wait_for()
{
	until [[ $(psql_in bench -c "SELECT $1") == t ]]; do
		sleep 0.2
	done
}

# make_sync NAME ROWS CALLS: waits for its calls in the queue.
make_sync()
{
	quietly psql_in bench -c "CREATE TABLE $1 (id integer PRIMARY KEY, email text, enriched jsonb)" \
		-c "INSERT INTO $1 SELECT i, '$1' || i || '@example.com' FROM generate_series(1, $2) AS i" \
		-c "SELECT ocean_enrich.create_sync('$1', '$1', 'ocean_person_request(email => email)', 'enriched')"
	wait_for_calls "$1" "$3"
}

wait_for_calls()
{
	wait_for "count(*) = $2 FROM ocean_enrich.sync_row JOIN ocean_enrich.sync USING (sync_id)
		WHERE name = '$1' AND state = 'queued'"
}

# time_statement NAME SQL
time_statement()
{
	local started=${EPOCHREALTIME/./}
	quietly psql_in bench -c "$2"
	record_fact "$1, s" "$(awk -v us=$((${EPOCHREALTIME/./} - started)) 'BEGIN { printf "%.2f", us / 1e6 }')"
}

# With statistics of a sync that was small.
measure_cancelling()
{
	say "cancelling"
	make_sync small "$SMALL" "$SMALL"
	quietly psql_in bench -c "VACUUM ANALYZE ocean_enrich.call, ocean_enrich.sync_row"
	make_sync large "$LARGE" "$AHEAD"
	time_statement "disable_sync(), $LARGE rows, $AHEAD calls" "SELECT ocean_enrich.disable_sync('large')"
	quietly psql_in bench -c "SELECT ocean_enrich.enable_sync('large')"
	wait_for_calls large "$AHEAD"
	time_statement "cancel() of $((AHEAD + SMALL)) calls" \
		"SELECT count(ocean_enrich.cancel(call_id)) FROM ocean_enrich.call WHERE state = 'queued'"
	quietly psql_in bench -c "SELECT ocean_enrich.retry_sync('large')"
	wait_for_calls large "$AHEAD"
	time_statement "drop_sync(), $LARGE rows, $AHEAD calls" "SELECT ocean_enrich.drop_sync('large')"
}

main_sync_plans()
{
	local machine
	install_missing build test
	choose_pg_config
	choose_server_user
	machine=$(describe_machine)

	rm -rf "$RESULTS"
	mkdir -p "$RESULTS"
	: > "$RESULTS/facts.csv"
	: > "$RESULTS/runs.csv"
	FOLDER=$(mktemp -d "${TMPDIR:-/var/tmp}/ocean_bench.XXXXXX")
	trap clean_up EXIT
	chown "$SERVER_USER:" "$FOLDER"
	chmod 0700 "$FOLDER"

	say "building, starting a server"
	build
	# Checkpoints would fall on some statements and not on others.
	write_settings "ocean_enrich.queue_enabled = off" "max_wal_size = 16GB" "checkpoint_timeout = 1h"
	quietly make_server "$FOLDER"
	quietly start_server "$FOLDER"
	quietly psql_in postgres -c "CREATE DATABASE bench"
	quietly psql_in bench -c "CREATE EXTENSION ocean_enrich"
	make_tables
	measure_updates
	measure_cancelling

	say "done"
	echo "$machine, $(cut -d ' ' -f 1 /proc/loadavg) after"
	(cd "$RESULTS" && PGDATABASE=bench server_psql "$FOLDER" --no-psqlrc \
		--file="$BENCH/sync_plans_report.sql")
}

main_sync_plans
