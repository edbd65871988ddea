#!/usr/bin/env bash
#
# run.sh
#	Chaos for any length of time: sessions, the worker, the server and the API are
#	disturbed at random.  In the end the books have to agree and nothing may be
#	left over.
#
#	test/chaos/run.sh [--seed N] [--seconds N]		120 seconds, a random seed
#
# The seed determines all actions and their order, so a seed that fails is worth
# running again.  The last line is the sum: "N passed, N failed".

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# shellcheck source=test/private-server.sh
. test/private-server.sh
# shellcheck source=test/packages.sh
. test/packages.sh
# shellcheck source=test/copy.sh
. test/copy.sh

SEED=$((RANDOM * 32768 + RANDOM))
SECONDS_OF_CHAOS=120

# In addition to the chaos itself: for the build, the start and the end.
MORE_SECONDS=900

usage()
{
	echo "usage: test/chaos/run.sh [--seed N] [--seconds N]" >&2
	exit 2
}

parse_options()
{
	while (($# > 0)); do
		[[ ${2:-} =~ ^[0-9]+$ ]] || usage
		case $1 in
			--seed) SEED=$2 ;;
			--seconds) SECONDS_OF_CHAOS=$2 ;;
			*) usage ;;
		esac
		shift 2
	done
}

# PostgreSQL refuses to run as root.
soak_in_copy()
{
	local copy status=0
	copy=$(mktemp -d "${TMPDIR:-/tmp}/ocean_enrich.XXXXXX")
	copy_tree "$copy"
	in_copy "$copy" test/chaos/run.sh --seed "$SEED" --seconds "$SECONDS_OF_CHAOS" ||
		status=$?
	if [[ $status == 0 ]]; then
		rm -rf "$copy"
	fi
	return "$status"
}

soak()
{
	make --silent --no-print-directory --jobs="$(nproc)" PG_CONFIG="$PG_CONFIG" all sandbox &&
		stage_extension "$STAGE" &&
		OCEAN_STAGE_SETTINGS=$(stage_settings "$STAGE") || return
	export OCEAN_STAGE_SETTINGS
	OCEAN_SOAK_SEED=$SEED OCEAN_SOAK_SECONDS=$SECONDS_OF_CHAOS \
		timeout --kill-after=30 $((SECONDS_OF_CHAOS + MORE_SECONDS)) \
		make --silent --no-print-directory PG_CONFIG="$PG_CONFIG" installcheck \
		REGRESS= ISOLATION= PROVE_TESTS=test/chaos/soak.pl PROVE_FLAGS=--verbose
}

# Prints the checks and the diagnostics of those that failed.
show()
{
	grep -E '^(ok|not ok|#)' "$1" | grep -v ' step [0-9]*: ' || true
	((FAILED == 0)) ||
		echo "the actions are in $PWD/$1, the server's log is in $PWD/tmp_check/log"
}

main()
{
	local status=0 log=build/chaos.log
	parse_options "$@"
	install_missing build test
	choose_pg_config
	choose_server_user
	if [[ $(id -u) == 0 ]]; then
		soak_in_copy
		exit
	fi

	echo "seed $SEED, $SECONDS_OF_CHAOS seconds"
	STAGE=$PWD/build/chaos
	mkdir -p build
	soak > "$log" 2>&1 < /dev/null || status=$?
	PASSED=$(grep -c '^ok' "$log" || true)
	FAILED=$(grep -c '^not ok' "$log" || true)
	if ((FAILED == 0 && (status != 0 || PASSED == 0))); then
		FAILED=1
		tail -n 20 "$log" tmp_check/log/regress_log_soak || true
	fi
	show "$log"
	echo "$PASSED passed, $FAILED failed"
	((FAILED == 0))
}

main "$@"
