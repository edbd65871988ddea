#!/usr/bin/env bash
#
# run.sh
#	What doc/citus.md says of statements on a Citus cluster, tried out.
#
#	test/citus/run.sh						on two private nodes on this machine
#	test/citus/run.sh CONNECTION-STRING		on a cluster that is there
#
# For private nodes the extension citus has to be installed for the server, or
# staged in the folder $OCEAN_CITUS_STAGE by its "make install DESTDIR=...".  In a
# cluster that is there the string leads to a superuser at the coordinator, in an
# empty database for tests whose settings on all nodes we change; all nodes are on
# this machine, where the sandbox is, and have both extensions installed.
#
# Where there is no Citus nothing is tested.  The last line is the sum: "N passed,
# N failed".

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# shellcheck source=test/private-server.sh
. test/private-server.sh
# shellcheck source=test/packages.sh
. test/packages.sh
# shellcheck source=test/counting.sh
. test/counting.sh

PEOPLE=20
NODES=(coordinator worker)

have_citus()
{
	[[ -e ${OCEAN_CITUS_STAGE:-}$("$PG_CONFIG" --sharedir)/extension/citus.control ]]
}

# node NAME: one of ours, with Citus.  Its name for the others is the folder of its
# socket, so nothing listens on the network.
start_node()
{
	local folder=$FOLDER/$1
	make_server_folder "$folder"
	stage_extension "$folder/stage"
	if [[ -n ${OCEAN_CITUS_STAGE:-} ]]; then
		cp --recursive "$OCEAN_CITUS_STAGE/." "$folder/stage"
		chmod -R a+rX "$folder/stage"
	fi
	# Citus looks for its version in the system's folders alone.
	printf '%s\n' \
		"fsync = off" \
		"shared_preload_libraries = 'citus, ocean_enrich'" \
		"citus.enable_version_checks = $([[ -z ${OCEAN_CITUS_STAGE:-} ]] && echo on || echo off)" \
		"citus.node_conninfo = 'sslmode=disable'" > "$folder/server.conf"
	make_server "$folder" --no-sync
	start_server "$folder"
	server_psql "$folder" --no-psqlrc --dbname=postgres --command='CREATE EXTENSION citus'
}

start_cluster()
{
	local node
	for node in "${NODES[@]}"; do
		start_node "$node"
	done
	CONNECTION="host=$FOLDER/coordinator/socket port=$SERVER_PORT user=postgres dbname=postgres"
	sql "SELECT citus_set_coordinator_host('$FOLDER/coordinator/socket', $SERVER_PORT)"
	sql "SELECT citus_add_node('$FOLDER/worker/socket', $SERVER_PORT)"
	sql "SELECT citus_set_node_property('$FOLDER/coordinator/socket', $SERVER_PORT,
		'shouldhaveshards', true)"
}

# sql STATEMENTS: as a session at the coordinator would get it, notices left out.
sql()
{
	"$(pg_program psql)" --no-psqlrc --quiet --tuples-only --no-align \
		--set=VERBOSITY=terse --dbname="$CONNECTION" --command="$1" 2>&1 || true
}

# on_nodes STATEMENT: the results of all nodes, in one line.
on_nodes()
{
	sql "SELECT result FROM run_command_on_all_nodes(\$\$ $1 \$\$) ORDER BY nodeid" |
		paste -sd' '
}

# setting NAME VALUE: for new sessions at all nodes, which have to be new, then.
setting()
{
	on_nodes "ALTER DATABASE $DATABASE SET ocean_enrich.$1 = '$2'" > /dev/null
}

calls()
{
	sql "SELECT sum(result::int)
		FROM run_command_on_all_nodes('SELECT count(*) FROM ocean_enrich.call')"
}

prepare()
{
	DATABASE=$(sql 'SELECT quote_ident(current_database())')
	setting api_url "$SANDBOX"
	setting api_token sandbox-token
	setting rate_limit 0
	setting daily_limit 0
	setting not_found error
	sql 'CREATE EXTENSION ocean_enrich'
	sql 'CREATE TABLE people (id int PRIMARY KEY, email text, enriched jsonb)'
	sql "SELECT create_distributed_table('people', 'id', shard_count => 4)"
	sql "INSERT INTO people SELECT i, format('person%s@example.com', i), NULL
		FROM generate_series(1, $PEOPLE) AS i"
}

REQUEST='ocean_person_request(email => email)'

test_statements()
{
	local before
	is 'the extension is on each node' \
		"$(on_nodes "SELECT extversion FROM pg_extension WHERE extname = 'ocean_enrich'")" \
		"$(on_nodes "SELECT '1.0'")"
	is 'an UPDATE with the function is refused' \
		"$(sql "UPDATE people SET enriched = ocean_enrich_person($REQUEST)" | head -n 1)" \
		'ERROR:  functions used in UPDATE queries on distributed tables must not be VOLATILE'
	is '... and pays nothing' "$(calls)" 0

	is 'a SELECT runs where the rows are' "$(sql "
		SELECT count(ocean_enrich_person($REQUEST)) FROM people WHERE id <= 10")" 10
	is '... each call in the ledger of its node' "$(calls)" 10
	is '... of which no node has all' \
		"$(on_nodes 'SELECT count(*) BETWEEN 1 AND 9 FROM ocean_enrich.call')" \
		"$(on_nodes 'SELECT true')"

	is 'an UPDATE from WITH ... AS MATERIALIZED runs' "$(sql "
		WITH s AS MATERIALIZED
			(SELECT id, ocean_enrich_person($REQUEST) AS enriched FROM people)
		UPDATE people SET enriched = s.enriched FROM s WHERE people.id = s.id;
		SELECT count(enriched) FROM people")" "$PEOPLE"
	is '... and finds the answers that are there, on their nodes' "$(calls)" "$PEOPLE"

	sql "INSERT INTO people SELECT i, 'same@example.com', NULL
		FROM generate_series(51, 90) AS i" > /dev/null
	before=$(calls)
	sql "SELECT count(ocean_enrich_person($REQUEST)) FROM people WHERE id BETWEEN 51 AND 90" \
		> /dev/null
	is 'an equal request on each node is paid on each' \
		"$(($(calls) - before))" "$(sql 'SELECT count(*) FROM pg_dist_node')"

	sql "INSERT INTO people SELECT i, format('other%s@example.com', i), NULL
		FROM generate_series(101, 140) AS i" > /dev/null
	before=$(calls)
	sql "SELECT ocean_enrich_person($REQUEST) FROM people WHERE id > 100 LIMIT 1" > /dev/null
	is 'LIMIT 1 calls once for each shard' "$(($(calls) - before > 1))" 1
}

test_settings()
{
	local statement="SELECT count(*), count(ocean_enrich_person($REQUEST)) FROM people WHERE id = 201"
	sql "INSERT INTO people VALUES (201, 'x.sb-unknown@example.com', NULL)" > /dev/null
	is 'SET in a session does not reach the other nodes' \
		"$(sql "SET ocean_enrich.not_found = 'null'; SET citus.enable_local_execution = off; $statement" |
			grep -o 'No matching record found')" 'No matching record found'
	setting not_found null
	is 'ALTER DATABASE ... SET on all nodes does' "$(sql "$statement")" '1|0'
}

clean_up()
{
	local node
	for node in "${NODES[@]}"; do
		stop_server "$FOLDER/$node" || true
	done
	rm -rf "$FOLDER"
}

main()
{
	CONNECTION=${1:-}
	install_missing build
	choose_pg_config
	choose_server_user
	if [[ -z $CONNECTION ]] && ! have_citus; then
		echo "skipped: there is no Citus for $("$PG_CONFIG" --version)"
		sum_up
		exit
	fi
	FOLDER=$(mktemp -d "${TMPDIR:-/tmp}/ocean_enrich.XXXXXX")
	chmod 0755 "$FOLDER"
	trap clean_up EXIT

	make --silent --no-print-directory PG_CONFIG="$PG_CONFIG" all sandbox
	test/sandbox/build/ocean-sandbox --port 0 --port-file "$FOLDER/port" \
		--until-pid $$ > "$FOLDER/sandbox.log" 2>&1 &
	until [[ -s $FOLDER/port ]]; do
		kill -0 $!
		sleep 0.1
	done
	SANDBOX=http://127.0.0.1:$(cat "$FOLDER/port")
	[[ -n $CONNECTION ]] || start_cluster > "$FOLDER/cluster.log"
	prepare > "$FOLDER/prepare.log"
	test_statements
	test_settings
	sum_up
}

main "$@"
