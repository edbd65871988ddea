#!/usr/bin/env bash
#
# run.sh
#	Runs the suites on servers with assertions and memory checks: under valgrind,
#	built with USE_VALGRIND so that it knows about palloc(), or built with the address
#	and the undefined behaviour sanitizer.
#
#	test/sanitizers/run.sh valgrind|asan						regress, isolation, tap
#	test/sanitizers/run.sh valgrind|asan SUITE [NAME...]		one of them
#
# The servers are built from Debian's source package and kept in $OCEAN_CACHE
# (/var/cache/ocean_enrich for root, ~/.cache/ocean_enrich for others), about
# 0.4 GB each, which takes ten minutes the first time.
#
# Each report with a line of ours in its stack is a failure.  Other reports are
# listed, and so are those suppressed by PostgreSQL's own file of suppressions or by
# ours.  The last line is the sum: "N passed, N failed".

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# shellcheck source=test/built-servers.sh
. test/built-servers.sh

# Including the server's build.
MAX_SECONDS=14400

# A renamed test would no longer be left out.
check_left_out()
{
	local check file
	while read -r check file _; do
		[[ $check == '#'* || -e $file ]] || {
			echo "test/sanitizers/left-out names $file, which does not exist" >&2
			return 1
		}
	done < test/sanitizers/left-out
}

main()
{
	if [[ ${1:-} != valgrind && ${1:-} != asan ]]; then
		echo "usage: test/sanitizers/run.sh valgrind|asan [SUITE [NAME...]]" >&2
		exit 2
	fi
	check_left_out
	prepare test proof analysis
	count_in_copy build/sanitizers "$MAX_SECONDS" test/sanitizers/check.sh "$@"
	print_sum
}

main "$@"
