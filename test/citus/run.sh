#!/usr/bin/env bash
#
# run.sh
#	Tests what doc/citus.md says about statements on a Citus cluster.
#
#	test/citus/run.sh						on two private nodes on this machine
#	test/citus/run.sh CONNECTION-STRING		on an existing cluster
#
# For private nodes the extension citus has to be installed for the server, or
# staged in the folder $OCEAN_CITUS_STAGE by its "make install DESTDIR=...".  For an
# existing cluster the string is that of a superuser at the coordinator, in an empty
# database for tests.  All its nodes have to be on this machine, where the sandbox is,
# and have both extensions installed, and the coordinator has to have shards.  The
# settings made for that database on all nodes are reset in the end; the tables stay.
#
# Without Citus nothing is tested.  The last line is the sum: "N passed, N failed".

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
SETTINGS=(api_url api_token rate_limit daily_limit not_found)

have_citus()
{
	[[ -e ${OCEAN_CITUS_STAGE:-}$("$PG_CONFIG" --sharedir)/extension/citus.control ]]
}

# start_node NAME: a private node with Citus.  The others reach it by the folder of its
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
	# Citus looks for its version only in the system's folders.
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

# sql STATEMENTS: prints their results in a session at the coordinator, or the error.
sql()
{
	"$(pg_program psql)" --no-psqlrc --quiet --tuples-only --no-align \
		--set=VERBOSITY=terse --dbname="$CONNECTION" --command="$1" 2>&1 || true
}

# on_nodes STATEMENT: prints the results of all nodes in one line.
on_nodes()
{
	sql "SELECT result FROM run_command_on_all_nodes(\$\$ $1 \$\$) ORDER BY nodeid" |
		paste -sd' '
}

# set_on_nodes NAME VALUE: for new sessions at all nodes.
set_on_nodes()
{
	on_nodes "ALTER DATABASE $DATABASE SET ocean_enrich.$1 = '$2'" > /dev/null
}

# First cancels what an early exit has left in the queue, since without the settings
# it would be sent to the real API.
reset_settings()
{
	local name
	on_nodes "SELECT count(ocean_enrich.cancel(call_id)) FROM ocean_enrich.call
		WHERE state = 'queued'" > /dev/null
	for name in "${SETTINGS[@]}"; do
		on_nodes "ALTER DATABASE $DATABASE RESET ocean_enrich.$name" > /dev/null
	done
}

# Makes sure that each session calls the sandbox, whatever is set for the role or the
# node, so that no token of the real API is used for a call that costs credits.
insist_on_sandbox()
{
	local ask="SELECT ocean_enrich.setting('api_url')" here others
	here=$(sql "$ask")
	others=$(sql "SELECT nodeid FROM run_command_on_all_nodes(\$\$ $ask \$\$)
		WHERE (success AND result = '$SANDBOX') IS NOT TRUE ORDER BY nodeid" | paste -sd' ')
	if [[ $here != "$SANDBOX" ]]; then
		echo "ocean_enrich.api_url did not take effect at the coordinator, so nothing is tried: $here" >&2
		exit 1
	elif [[ -n $others ]]; then
		echo "ocean_enrich.api_url did not take effect at these nodes, so nothing is tried: $others" >&2
		exit 1
	fi
}

count_calls()
{
	sql "SELECT sum(result::int)
		FROM run_command_on_all_nodes('SELECT count(*) FROM ocean_enrich.call')"
}

prepare()
{
	DATABASE=$(sql 'SELECT quote_ident(current_database())')
	set_on_nodes api_url "$SANDBOX"
	set_on_nodes api_token sandbox-token
	set_on_nodes rate_limit 0
	set_on_nodes daily_limit 0
	set_on_nodes not_found error
	sql 'CREATE EXTENSION ocean_enrich'
	insist_on_sandbox
	sql 'CREATE TABLE people (id int PRIMARY KEY, email text, enriched jsonb, queued bigint)'
	sql "SELECT create_distributed_table('people', 'id', shard_count => 4)"
	sql "INSERT INTO people SELECT i, format('person%s@example.com', i), NULL, NULL
		FROM generate_series(1, $PEOPLE) AS i"
	sql 'CREATE TABLE copied_people (id int PRIMARY KEY, enriched jsonb)'
	sql "SELECT create_distributed_table('copied_people', 'id', colocate_with => 'people')"
	sql 'CREATE TABLE same_people (id int PRIMARY KEY, email text, enriched jsonb)'
	sql "SELECT create_reference_table('same_people')"
	sql "INSERT INTO same_people SELECT i, format('known%s@example.com', i) FROM generate_series(1, 5) AS i"
	sql 'CREATE TABLE local_people (id int PRIMARY KEY, email text, enriched jsonb)'
	sql "INSERT INTO local_people SELECT i, format('local%s@example.com', i) FROM generate_series(1, 5) AS i"
}

REQUEST='ocean_person_request(email => email)'

# request PREFIX: for the same people with another address, so that each test can make
# new requests.
request()
{
	echo "ocean_person_request(email => '$1.' || email)"
}

# run_and_count STATEMENT: prints its result and the number of calls that it added.
run_and_count()
{
	local before result
	before=$(count_calls)
	result=$(sql "$1" | head -n 1)
	echo "$result, paid: $(($(count_calls) - before))"
}

# count_nodes STATEMENT: prints the number of nodes on which it added calls.
count_nodes()
{
	local before
	before=$(on_nodes 'SELECT count(*) FROM ocean_enrich.call')
	sql "$1" > /dev/null
	paste -d' ' <(tr ' ' '\n' <<< "$before") \
		<(on_nodes 'SELECT count(*) FROM ocean_enrich.call' | tr ' ' '\n') |
		awk '$1 != $2 { n++ } END { print n + 0 }'
}

NOT_VOLATILE='functions used in UPDATE queries on distributed tables must not be VOLATILE'

test_reading()
{
	is 'the extension is on each node' \
		"$(on_nodes "SELECT extversion FROM pg_extension WHERE extname = 'ocean_enrich'")" \
		"$(on_nodes "SELECT '1.0'")"
	is 'a SELECT runs where the rows are' "$(run_and_count "
		SELECT count(ocean_enrich_person($REQUEST)) FROM people WHERE id <= 10")" '10, paid: 10'
	is '... each call is in the ledger of its node, and no ledger has all' \
		"$(on_nodes 'SELECT count(*) BETWEEN 1 AND 9 FROM ocean_enrich.call')" \
		"$(on_nodes 'SELECT true')"
	is '... and pays nothing when repeated' "$(run_and_count "
		SELECT count(ocean_enrich_person($REQUEST)) FROM people WHERE id <= 10")" '10, paid: 0'
	is 'a join with a local table runs, and pays once' "$(run_and_count "
		SELECT count(ocean_enrich_person(ocean_person_request(email => 'j.' || l.email)))
		FROM local_people AS l JOIN people USING (id)")" '5, paid: 5'
	is 'a SELECT from a reference table pays once' "$(run_and_count "
		SELECT count(ocean_enrich_person($REQUEST)) FROM same_people")" '5, paid: 5'
	is '... on one node' "$(count_nodes "
		SELECT ocean_enrich_person($(request one)) FROM same_people")" 1

	sql "INSERT INTO people SELECT i, 'same@example.com', NULL
		FROM generate_series(51, 90) AS i" > /dev/null
	is 'an equal request on each node is paid on each' "$(run_and_count "
		SELECT count(ocean_enrich_person($REQUEST)) FROM people WHERE id BETWEEN 51 AND 90")" \
		"40, paid: $(sql 'SELECT count(*) FROM pg_dist_node')"

	sql "INSERT INTO people SELECT i, format('other%s@example.com', i), NULL
		FROM generate_series(101, 140) AS i" > /dev/null
	local before
	before=$(count_calls)
	sql "SELECT ocean_enrich_person($REQUEST) FROM people WHERE id > 100 LIMIT 1" > /dev/null
	is 'LIMIT 1 makes a call for each shard' "$(($(count_calls) - before > 1))" 1
}

test_writing()
{
	is 'an UPDATE with the function is refused, and pays nothing' \
		"$(run_and_count "UPDATE people SET enriched = ocean_enrich_person($(request u))")" \
		"ERROR:  $NOT_VOLATILE, paid: 0"
	is '... also of a single row' \
		"$(run_and_count "UPDATE people SET enriched = ocean_enrich_person($(request u)) WHERE id = 1")" \
		"ERROR:  $NOT_VOLATILE, paid: 0"
	is '... also of a reference table' \
		"$(run_and_count "UPDATE same_people SET enriched = ocean_enrich_person($(request u))")" \
		"ERROR:  $NOT_VOLATILE, paid: 0"
	is 'an UPDATE of a local table runs' "$(run_and_count "
		UPDATE local_people SET enriched = ocean_enrich_person($(request u));
		SELECT count(enriched) FROM local_people")" '5, paid: 5'
	is 'MERGE is refused, and pays nothing' "$(run_and_count "
		MERGE INTO people AS p USING copied_people AS c ON p.id = c.id
		WHEN MATCHED THEN UPDATE SET enriched = ocean_enrich_person(ocean_person_request(email => 'm.' || p.email))" |
		grep -o 'not yet supported in MERGE.*')" \
		'not yet supported in MERGE sql with distributed tables, paid: 0'
	is 'an UPDATE from WITH ... AS MATERIALIZED runs' "$(sql "
		WITH s AS MATERIALIZED
			(SELECT id, ocean_enrich_person($REQUEST) AS enriched FROM people WHERE id <= $PEOPLE)
		UPDATE people SET enriched = s.enriched FROM s WHERE people.id = s.id;
		SELECT count(enriched) FROM people")" "$PEOPLE"
	is '... and reuses the answers of each node' "$(run_and_count "
		SELECT count(ocean_enrich_person($REQUEST)) FROM people WHERE id <= $PEOPLE")" "$PEOPLE, paid: 0"
	is '... and once for a reference table' "$(run_and_count "
		WITH s AS MATERIALIZED
			(SELECT id, ocean_enrich_person($(request w)) AS enriched FROM same_people)
		UPDATE same_people SET enriched = s.enriched FROM s WHERE same_people.id = s.id;
		SELECT count(enriched) FROM same_people")" '5, paid: 5'
	is 'INSERT ... SELECT runs' "$(run_and_count "
		INSERT INTO copied_people SELECT id, ocean_enrich_person($(request i)) FROM people WHERE id <= 10;
		SELECT count(enriched) FROM copied_people")" '10, paid: 10'
	is '... with the calls where the rows are read' "$(count_nodes "
		INSERT INTO copied_people SELECT id + 100, ocean_enrich_person($(request i2)) FROM people WHERE id <= 10")" \
		"$(sql 'SELECT count(*) FROM pg_dist_node')"
	is 'INSERT ... VALUES runs' "$(run_and_count "
		INSERT INTO copied_people VALUES (1000, ocean_enrich_person(ocean_person_request(email => 'v@example.com')));
		SELECT count(enriched) FROM copied_people WHERE id = 1000")" '1, paid: 1'
	is 'CREATE TABLE AS runs' "$(run_and_count "
		CREATE TABLE answers AS SELECT id, ocean_enrich_person($(request c)) AS enriched FROM people WHERE id <= 10;
		SELECT count(enriched) FROM answers")" '10, paid: 10'
}

test_queue()
{
	local waiting="SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state IN ('queued', 'sent'))"
	is 'submit() queues where the rows are' "$(count_nodes "
		SELECT ocean_enrich.submit($(request q)) FROM people WHERE id <= 10")" \
		"$(sql 'SELECT count(*) FROM pg_dist_node')"
	is '... each request once' "$(on_nodes "
		SELECT count(*) FROM ocean_enrich.call WHERE request::text LIKE '%\"q.%'" |
		tr ' ' '+' | xargs -I{} bash -c 'echo $(({}))')" 10
	is '... and a rollback undoes it' "$(run_and_count "
		BEGIN; SELECT count(ocean_enrich.submit($(request r))) FROM people WHERE id <= 10; ROLLBACK")" \
		'10, paid: 0'
	is '... but is refused in an UPDATE' "$(run_and_count "
		UPDATE people SET queued = ocean_enrich.submit($(request q2))")" "ERROR:  $NOT_VOLATILE, paid: 0"
	is '... and is committed in two phases in WITH ... AS MATERIALIZED' "$(run_and_count "
		WITH s AS MATERIALIZED
			(SELECT id, ocean_enrich.submit($(request q3)) AS queued FROM people WHERE id <= 10)
		UPDATE people SET queued = s.queued FROM s WHERE people.id = s.id;
		SELECT count(queued) FROM people")" '10, paid: 10'
	on_nodes 'SELECT ocean_enrich.wake()' > /dev/null
	for _ in {1..300}; do
		[[ $(on_nodes "$waiting") == "$(on_nodes 'SELECT true')" ]] && break
		sleep 0.1
	done
	is '... and each node sends its own requests' "$(on_nodes "
		SELECT count(*) FILTER (WHERE state = 'answered') = count(*) AND count(*) > 0 FROM ocean_enrich.call
		WHERE request::text LIKE '%\"q3.%'")" "$(on_nodes 'SELECT true')"
}

test_syncs()
{
	local of="'ocean_person_request(email => ''k.'' || email)', 'enriched'"
	is 'a distributed table cannot have a sync' \
		"$(run_and_count "SELECT ocean_enrich.create_sync('k', 'people', $of)")" \
		'ERROR:  triggers are not supported on distributed tables, paid: 0'
	is '... nor can a reference table' \
		"$(run_and_count "SELECT ocean_enrich.create_sync('k', 'same_people', $of)")" \
		'ERROR:  triggers are not supported on reference tables, paid: 0'
	is 'a local table can' \
		"$(sql "SELECT ocean_enrich.create_sync('k', 'local_people', $of)")" 5
	sql "SELECT ocean_enrich.drop_sync('k')" > /dev/null
}

test_estimates()
{
	is 'a statement that runs on the nodes cannot be estimated, and pays nothing' "$(run_and_count "
		SELECT requests FROM ocean_enrich.estimate(
			\$\$ SELECT ocean_enrich_person($(request e)) FROM people \$\$)")" \
		'ERROR:  cannot estimate a statement that Citus runs on its shards, paid: 0'
	is '... also in a function' "$(run_and_count "
		SET citus.enable_ddl_propagation = off;
		CREATE FUNCTION enrich_all() RETURNS bigint LANGUAGE plpgsql AS \$f\$ BEGIN
			RETURN (SELECT count(ocean_enrich_person($(request e))) FROM people); END \$f\$;
		SELECT requests FROM ocean_enrich.estimate('SELECT enrich_all()')")" \
		'ERROR:  cannot estimate a statement that Citus runs on its shards, paid: 0'
	is '... also INSERT ... SELECT' "$(run_and_count "
		SELECT requests FROM ocean_enrich.estimate(
			\$\$ INSERT INTO copied_people SELECT id + 5000, ocean_enrich_person($(request e)) FROM people \$\$)")" \
		'ERROR:  cannot estimate a statement that Citus runs on its shards, paid: 0'
	is 'each shard can be estimated, on its node' "$(run_and_count "
		SELECT sum(result::int) FROM run_command_on_shards('people', \$\$
			SELECT requests FROM ocean_enrich.estimate('
				SELECT ocean_enrich_person(ocean_person_request(email => ''e.'' || email)) FROM %s WHERE id <= $PEOPLE') \$\$)")" \
		"$PEOPLE, paid: 0"
	is 'a local table can be estimated' "$(run_and_count "
		SELECT requests FROM ocean_enrich.estimate(
			\$\$ UPDATE local_people SET enriched = ocean_enrich_person($(request e)) \$\$)")" '5, paid: 0'
}

# After five executions a generic plan may be used.
test_prepared()
{
	local i executions=''
	for i in {1..8}; do
		executions+="EXECUTE p($((2 * i - 1)), $((2 * i)));"
	done
	is 'a prepared statement over shards pays like a plain one' "$(run_and_count "
		PREPARE p(int, int) AS SELECT count(ocean_enrich_person($(request p)))
			FROM people WHERE id BETWEEN \$1 AND \$2; $executions")" '2, paid: 16'
	is '... also for single rows' "$(run_and_count "
		PREPARE p(int, int) AS SELECT count(ocean_enrich_person($(request p2)))
			FROM people WHERE id = \$1 AND \$2 > 0; $executions")" '1, paid: 8'
}

test_read_ahead()
{
	local statement
	statement="SELECT count(ocean_enrich_person($(request a))) FROM people WHERE id <= $PEOPLE"
	is 'each shard reads ahead' "$(sql "
		SET citus.explain_all_tasks = on;
		EXPLAIN (COSTS off) SELECT ocean_enrich_person($REQUEST) FROM people" |
		grep -c 'Custom Scan (Read Ahead)')" 4
	curl --silent --fail --output /dev/null --data '{"hold": true}' "$SANDBOX/sandbox/config"
	sql "$statement" > "$FOLDER/read-ahead" &
	is '... so that all rows are requested at once' "$(
		curl --silent "$SANDBOX/sandbox/wait?held=$PEOPLE&timeout_ms=20000" | jq .held)" "$PEOPLE"
	curl --silent --fail --output /dev/null --data '{"hold": false}' "$SANDBOX/sandbox/config"
	wait $!
	is '... and all of them are answered' "$(cat "$FOLDER/read-ahead")" "$PEOPLE"
}

test_settings()
{
	local statement="SELECT count(*), count(ocean_enrich_person($REQUEST)) FROM people WHERE id = 201"
	local elsewhere='SET citus.enable_local_execution = off;'
	sql "INSERT INTO people VALUES (201, 'x.sb-unknown@example.com', NULL)" > /dev/null
	is 'SET in a session does not reach the nodes' \
		"$(sql "$elsewhere SET ocean_enrich.not_found = 'null'; $statement")" \
		'ERROR:  No matching record found'
	role_setting "SET ocean_enrich.not_found = 'null'"
	is 'ALTER ROLE ... SET reaches all nodes' "$(sql "$elsewhere $statement")" '1|0'
	role_setting 'RESET ocean_enrich.not_found'
	set_on_nodes not_found null
	is 'ALTER DATABASE ... SET on all nodes reaches them' "$(sql "$elsewhere $statement")" '1|0'
	set_on_nodes not_found error
	if ((PRIVATE)); then
		on_nodes "ALTER DATABASE $DATABASE RESET ocean_enrich.not_found" > /dev/null
		configure "ocean_enrich.not_found = 'null'"
		is 'the configuration file of each node is used' "$(sql "$elsewhere $statement")" '1|0'
	fi
}

# Citus does the same on every node.
role_setting()
{
	sql "ALTER ROLE $(sql 'SELECT quote_ident(current_user)') $1"
}

configure()
{
	local node
	for node in "${NODES[@]}"; do
		echo "$1" >> "$FOLDER/$node/server.conf"
		reload_server "$FOLDER/$node"
	done
}

# Each node counts on its own.
test_limits()
{
	local before
	before=$(on_nodes 'SELECT count(*) FROM ocean_enrich.call')
	set_on_nodes daily_limit "$(tr ' ' '\n' <<< "$before" | sort -n | tail -n 1)"
	is 'a node that has reached its limit refuses calls' "$(sql "
		SELECT count(ocean_enrich_person($(request l))) FROM people WHERE id <= $PEOPLE" |
		grep -o 'daily limit of')" 'daily limit of'
	is '... and the node with most calls sends no more' "$(
		on_nodes 'SELECT count(*) FROM ocean_enrich.call' | tr ' ' '\n' | sort -n | tail -n 1)" \
		"$(tr ' ' '\n' <<< "$before" | sort -n | tail -n 1)"
}

clean_up()
{
	local node
	[[ ! -v DATABASE ]] || reset_settings
	for node in "${NODES[@]}"; do
		stop_server "$FOLDER/$node" || true
	done
	rm -rf "$FOLDER"
}

main()
{
	CONNECTION=${1:-}
	PRIVATE=$((${#CONNECTION} == 0))
	install_missing build citus
	choose_pg_config
	choose_server_user
	if ((PRIVATE)) && ! have_citus; then
		echo "skipped: Citus is not installed for $("$PG_CONFIG" --version)"
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
	((!PRIVATE)) || start_cluster > "$FOLDER/cluster.log"
	prepare > "$FOLDER/prepare.log"
	test_reading
	test_writing
	test_queue
	test_syncs
	test_estimates
	test_prepared
	test_read_ahead
	test_settings
	test_limits
	sum_up
}

main "$@"
