#!/usr/bin/env bash
#
# run.sh
#	Installs missing packages, builds everything and runs the tests on private
#	servers.  Nothing is installed into the system's PostgreSQL.
#
#	test/run.sh							all suites
#	test/run.sh SUITE [NAME...]			one suite; of regress, isolation and tap
#										also single tests
#
# Each suite writes a log to test/results/, whose test results are counted.  A suite
# without any result, or one that died, is a failure.  The last line is the sum: "N
# passed, N failed".
#
# PostgreSQL refuses to run as root, so for root the tests run in a copy of the tree
# that belongs to an unprivileged user.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=test/private-server.sh
. test/private-server.sh
# shellcheck source=test/packages.sh
. test/packages.sh
# shellcheck source=test/copy.sh
. test/copy.sh

SUITES=(lint warnings unit valgrind fuzz regress isolation tap)
SUITE_MAX_SECONDS=${OCEAN_SUITE_MAX_SECONDS:-900}
RESULTS=test/results
PASSED=0
FAILED=0

run_in_copy()
{
	local copy status=0
	copy=$(mktemp -d "${TMPDIR:-/tmp}/ocean_enrich.XXXXXX")
	copy_tree "$copy"
	in_copy "$copy" test/run.sh "$@" || status=$?
	if [[ $status == 0 ]]; then
		rm -rf "$copy"
	fi
	return "$status"
}

# A suite that hangs is ended, and fails.
run_make()
{
	timeout --kill-after=10 "$SUITE_MAX_SECONDS" \
		make --silent --no-print-directory PG_CONFIG="$PG_CONFIG" "$@"
}

# Builds the extension and stages it for the test servers.  Those of the TAP tests find
# it by the settings in OCEAN_STAGE_SETTINGS.
stage_for_tests()
{
	[[ -z ${OCEAN_STAGE_SETTINGS:-} ]] || return 0
	run_make --jobs="$(nproc)" all sandbox &&
		stage_extension "$FOLDER/stage" &&
		OCEAN_STAGE_SETTINGS=$(stage_settings "$FOLDER/stage") &&
		export OCEAN_STAGE_SETTINGS
}

start_test_server()
{
	stage_for_tests || return
	server_runs "$FOLDER" && return
	# It is never restarted, so its data need not survive a crash.
	echo "fsync = off" > "$FOLDER/server.conf"
	make_server "$FOLDER" --no-sync &&
		start_server "$FOLDER" 3>&- &&
		export PGHOST=$FOLDER/socket PGPORT=$SERVER_PORT PGUSER=postgres
}

# The suites: run_NAME prints the output of its tools.

run_lint()
{
	test/lint.sh
}

run_warnings()
{
	local compiler
	for compiler in gcc clang; do
		if run_make --jobs="$(nproc)" "warnings-$compiler"; then
			echo "$compiler: 1 passed, 0 failed"
		else
			echo "$compiler: 0 passed, 1 failed"
		fi
	done
}

run_unit()
{
	run_make -C test/unit check
}

run_valgrind()
{
	run_make -C test/unit valgrind
}

run_fuzz()
{
	run_make -C test/fuzz check
}

run_regress()
{
	start_test_server &&
		run_make installcheck ISOLATION= TAP_TESTS= ${1:+REGRESS="$*"}
}

run_isolation()
{
	start_test_server &&
		run_make installcheck REGRESS= TAP_TESTS= ${1:+ISOLATION="$*"}
}

# Shows its progress on descriptor 3.
run_tap()
{
	stage_for_tests &&
		PERL5LIB=$PWD/test/lib run_make installcheck REGRESS= ISOLATION= \
			PROVE_FLAGS="--verbose --jobs=2 --formatter=ProgressFormatter" \
			${1:+PROVE_TESTS="$*"}
}

# Counts the tests in a log, "PASSED FAILED": lines of pg_regress 15; TAP, without
# skipped tests; prove's lines for files that died without a failed test; and the sums
# of our own programs.
count_tests()
{
	awk '
		/ \.\.\. ok /						{ passed++ }
		/ \.\.\. FAILED/					{ failed++ }
		/^ok [0-9]/ && !/# (skip|SKIP)/		{ passed++ }
		/^not ok [0-9]/						{ failed++ }
		/^(All [0-9]+ subtests passed|No subtests run)/ { failed++ }
		sub(/^[^ ]+: /, "") &&
			/^[0-9]+ passed, [0-9]+ failed/	{ passed += $1; failed += $3 }
		END									{ print passed + 0, failed + 0 }
	' "$1"
}

# Prints the important parts of a failed suite's log.
show_failure()
{
	local suite=$1 log=$RESULTS/$1.log
	echo "--- from $PWD/$log"
	if grep -q '^Test Summary Report' "$log"; then
		show_tap_failure "$log"
	else
		tail -n 40 "$log"
	fi
	if [[ -s regression.diffs ]]; then
		mv regression.diffs "$RESULTS/$suite.diffs"
		echo "--- from $PWD/$RESULTS/$suite.diffs"
		head -n 200 "$RESULTS/$suite.diffs"
	fi
	echo "---"
}

# The diagnostics of failed tests, prove's summary, and the end of each file's log.
show_tap_failure()
{
	local file
	awk '/^#   Failed test/ { show = 1 } !/^#/ { show = 0 } show' "$1"
	sed -n '/^Test Summary Report/,/^Files=/p' "$1"
	sed -n 's/^test\/t\/.*\/\([^ ]*\)\.pl  *(Wstat.*/\1/p' "$1" |
		while read -r file; do
			echo "--- from $PWD/tmp_check/log/regress_log_$file"
			tail -n 15 "tmp_check/log/regress_log_$file"
		done
}

run_suite()
{
	local suite=$1 passed failed status=0
	shift
	rm -f regression.diffs
	SECONDS=0
	"run_$suite" "$@" 3>&1 > "$RESULTS/$suite.log" 2>&1 < /dev/null || status=$?

	read -r passed failed < <(count_tests "$RESULTS/$suite.log")
	if ((failed == 0 && (status != 0 || passed == 0))); then
		failed=1
	fi
	printf '%-10s %4d ok, %d not ok, %d s\n' "$suite" "$passed" "$failed" "$SECONDS"
	((failed == 0)) || show_failure "$suite"
	((PASSED += passed, FAILED += failed)) || true
}

clean_up()
{
	stop_server "$FOLDER" || true
	[[ ! -e $FOLDER/server.log ]] || cp "$FOLDER/server.log" "$RESULTS/server.log"
	rm -rf "$FOLDER"
}

main()
{
	local suite
	if [[ $# -gt 0 && " ${SUITES[*]} " != *" $1 "* ]]; then
		echo "usage: test/run.sh [SUITE [NAME...]], SUITE being one of: ${SUITES[*]}" >&2
		exit 2
	fi
	case ${1:-} in
		unit | regress | isolation | tap)
			install_missing build test
			;;
		*)
			install_missing build test analysis
			;;
	esac
	choose_pg_config
	choose_server_user

	if [[ $(id -u) == 0 ]]; then
		run_in_copy "$@"
		exit
	fi

	FOLDER=$(mktemp -d "${TMPDIR:-/tmp}/ocean_enrich.XXXXXX")
	trap clean_up EXIT
	mkdir -p "$RESULTS"
	if [[ $# -gt 0 ]]; then
		run_suite "$@"
	else
		for suite in "${SUITES[@]}"; do
			run_suite "$suite"
		done
	fi
	echo "$PASSED passed, $FAILED failed"
	((FAILED == 0))
}

main "$@"
