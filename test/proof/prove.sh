#!/usr/bin/env bash
#
# prove.sh MAJOR
#	The proof for one major version, or the "newest": makes its server unless it is in
#	the cache, builds the extension for it in this tree, and runs the two suites.
#	Called by run.sh, in a copy of the tree.  Prints for each suite the differences and
#	"N passed, N failed".

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

LOGS=$PWD/build/proof

# shellcheck source=test/server-build.sh
. test/server-build.sh

# ----------------------------------------------------------------
# The server
# ----------------------------------------------------------------

# Makes the newest server whose source is available, and links "newest" to it.
make_newest_server()
{
	local major
	[[ ! -e $SERVERS/newest/complete ]] || return 0
	make_apt || return
	for major in {30..15}; do
		if [[ -e $SERVERS/$major/complete ]] ||
			{ get_source "$major" "$major" && build_server "$major"; }; then
			ln -sfn "$major" "$SERVERS/newest"
			return 0
		fi
	done
	return 1
}

# ----------------------------------------------------------------
# The suites
# ----------------------------------------------------------------

build_extension()
{
	logged extension plain_make --jobs="$(nproc)" all \
		PG_CONFIG="$SERVER/installed/bin/pg_config" \
		COPT=-DOE_READ_AHEAD_EVERYTHING
}

write_settings()
{
	cat > "$LOGS/server.conf" <<-END
		shared_preload_libraries = '$PWD/ocean_enrich'
		ocean_enrich.concurrency = 16
		max_prepared_transactions = 2
		fsync = off
	END
}

# Prints the tests of a suite, "ok NAME" or "different NAME", from pg_regress' output
# in TAP or in the format of version 15.
test_results()
{
	sed -nE \
		-e 's/^(test| *) +([a-zA-Z0-9_-]+) +\.\.\. ok .*/ok \2/p' \
		-e 's/^(test| *) +([a-zA-Z0-9_-]+) +\.\.\. FAILED.*/different \2/p' \
		-e 's/^ok [0-9]+ +[-+] ([^ ]+) .*/ok \1/p' \
		-e 's/^not ok [0-9]+ +[-+] ([^ ]+) .*/different \1/p' "$1"
}

# The lines that differ in one test, without context and line numbers, which change
# with each minor version.
difference()
{
	awk -v test="$1" '
		/^diff / {
			wanted = index($NF, "/results/" test ".out")
			head = 2
			next
		}
		head > 0 { head--; next }
		wanted && /^[-+]/' "$2"
}

# The expected difference of MAJOR-SUITE-NAME, without the reason at its head.
expected_difference()
{
	local file=test/proof/differences/$1
	[[ ! -e $file ]] || grep -v '^#' "$file"
}

# evaluate SUITE: compares the differences with the expected ones.
evaluate()
{
	local suite=$1 result name test passed=0 failed=0
	while read -r result name; do
		test=$MAJOR-$suite-$name
		difference "$name" "$LOGS/$suite/regression.diffs" > "$LOGS/$test"
		if expected_difference "$test" | cmp --silent - "$LOGS/$test"; then
			((++passed))
			[[ $result == ok ]] || echo "$suite/$name differs as expected"
		else
			((++failed))
			echo "$suite/$name differs, see $LOGS/$test:"
			expected_difference "$test" | diff - "$LOGS/$test" | sed 50q || true
		fi
	done < <(test_results "$LOGS/$suite.log")
	((passed + failed > 0)) || tail -n 20 "$LOGS/$suite.log"
	echo "$passed passed, $failed failed"
}

count_nodes()
{
	awk '/ read ahead: [0-9]+ nodes$/ { sum += $(NF - 1) } END { print sum + 0 }' \
		"$LOGS/$1/log/postmaster.log"
}

# run_suite NAME TARGET LEAST-NODES: on a server that pg_regress makes.  Fewer nodes
# would mean that the tests ran without the extension.
run_suite()
{
	local suite=$1 least_nodes=$3 nodes
	SECONDS=0
	mkdir -p "$LOGS/$suite"
	plain_make -C "$SERVER/source/src/test/$suite" "$2" \
		EXTRA_REGRESS_OPTS="--temp-instance=$LOGS/instance \
			--temp-config=$LOGS/server.conf --outputdir=$LOGS/$suite \
			--no-locale --encoding=UTF8" \
		> "$LOGS/$suite.log" 2>&1 < /dev/null || true
	touch "$LOGS/$suite/regression.diffs"
	nodes=$(count_nodes "$suite")
	echo "PostgreSQL $MAJOR, $suite: $nodes nodes, $SECONDS s"
	((nodes >= least_nodes)) || echo "0 passed, 1 failed"
	evaluate "$suite"
	rm -rf "$LOGS/instance"
}

# Stops a server that an interrupted run leaves behind.
clean_up()
{
	if [[ -s $LOGS/instance/data/postmaster.pid ]]; then
		"$SERVER/installed/bin/pg_ctl" --silent --pgdata="$LOGS/instance/data" \
			--mode=immediate stop || true
	fi
}

mkdir -p "$LOGS"
if [[ $1 == newest ]]; then
	make_newest_server
	MAJOR=$(readlink "$SERVERS/newest")
else
	MAJOR=$1
	make_server "$MAJOR" "$MAJOR"
fi
SERVER=$SERVERS/$MAJOR
trap clean_up EXIT
build_extension
write_settings
run_suite regress installcheck-parallel 4000
run_suite isolation installcheck 200
