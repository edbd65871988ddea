#!/usr/bin/env bash
#
# coverage.sh
#	Measures how many lines of src/ are covered by the unit tests, pg_regress, the
#	isolation tester and TAP together.  Fails below 90 %, or if a test fails.
#
#	test/coverage.sh [REPORT-FOLDER]	also writes a report in HTML

set -euo pipefail
REPORT=$(realpath -m "${1:-/dev/null}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=test/private-server.sh
. test/private-server.sh
# shellcheck source=test/packages.sh
. test/packages.sh
# shellcheck source=test/copy.sh
. test/copy.sh

LEAST_PERCENT=90

# In a copy, since this build is only for measuring.
run_tests()
{
	local suite status=0
	for suite in unit regress isolation tap; do
		in_copy "$COPY" COPT="-O0 --coverage" CFLAGS="-O0 --coverage" \
			test/run.sh "$suite" || status=1
	done
	return "$status"
}

quietly()
{
	"$@" > "$COPY/lcov.log" 2>&1 || {
		cat "$COPY/lcov.log" >&2
		exit 1
	}
}

# The covered lines and all lines, of each file and in total.
print_lines()
{
	awk -F'[:,]' -v root="$COPY/" -v least="$LEAST_PERCENT" '
		function print_line(name, hit, all)
		{
			printf "%6.1f %%  %5d of %5d  %s\n", all ? 100 * hit / all : 0, hit, all, name
		}
		/^SF:/	{ file = $2; sub(root, "", file) }
		/^LF:/	{ all = $2 }
		/^LH:/	{ hit = $2 }
		/^end_of_record/ {
			print_line(file, hit, all)
			sum_hit += hit
			sum_all += all
		}
		END {
			print_line("src/", sum_hit, sum_all)
			exit 100 * sum_hit < least * sum_all || sum_all == 0
		}' "$1"
}

install_missing build test analysis coverage
choose_pg_config
choose_server_user
COPY=$(mktemp -d "${TMPDIR:-/tmp}/ocean_enrich.XXXXXX")
trap 'rm -rf "$COPY"' EXIT
copy_tree "$COPY"
STATUS=0
run_tests || STATUS=1

quietly lcov --capture --directory "$COPY" --output-file "$COPY/all.info"
quietly lcov --extract "$COPY/all.info" "$COPY/src/*" \
	--output-file "$COPY/src.info"
if [[ $REPORT != /dev/null ]]; then
	quietly genhtml --prefix "$COPY" --output-directory "$REPORT" "$COPY/src.info"
fi
print_lines "$COPY/src.info" || {
	echo "the coverage is below $LEAST_PERCENT %" >&2
	STATUS=1
}
exit "$STATUS"
