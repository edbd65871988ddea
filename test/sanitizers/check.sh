#!/usr/bin/env bash
#
# check.sh valgrind|asan [SUITE [NAME...]]
#	One of the two checks: makes its server unless it is in the cache, runs the suites
#	on it and evaluates the reports.  Called by run.sh, in a copy of the tree.  Prints
#	the output of the suites, the reports, and for each of them "N passed, N failed".

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

LOGS=$PWD/build/sanitizers

# shellcheck source=test/server-build.sh
. test/server-build.sh

MAJOR=15
CHECK=$1
SERVER=$SERVERS/$MAJOR-$CHECK
export OCEAN_REPORTS=$LOGS/reports

# ----------------------------------------------------------------
# The servers
# ----------------------------------------------------------------

# Leaks are not reported, since PostgreSQL's programs do not free memory when they exit.
# Other programs than the server's are checked, too, so even configure needs these
# options.
#
# gcc's two sanitizers do not share a log: undefined behaviour is only reported on
# stderr, see keep_undefined().  In the extension it also ends the process, so that the
# test fails.
set_sanitizer_options()
{
	export ASAN_OPTIONS=detect_leaks=0:log_path=$OCEAN_REPORTS/asan:verify_asan_link_order=0
}

make_asan_server()
{
	set_sanitizer_options
	make_server "$MAJOR-asan" "$MAJOR" --enable-debug \
		CFLAGS='-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined'
	nm -D "$SERVER/installed/bin/postgres" | grep -c __asan_init > /dev/null
	gcc -O2 -shared -fPIC -o "$LOGS/ubsan_options.so" test/sanitizers/ubsan_options.c
	export LD_PRELOAD=$LOGS/ubsan_options.so
	export COPT=-fno-sanitize-recover=undefined
}

# Whenever this server is started, it runs under valgrind.
make_valgrind_server()
{
	local program=$SERVER/installed/bin/postgres
	make_server "$MAJOR-valgrind" "$MAJOR" --enable-debug CPPFLAGS=-DUSE_VALGRIND
	[[ -e $program.unchecked ]] || mv "$program" "$program.unchecked"
	# Only if it has changed, since another run may be starting servers.
	cmp --quiet test/sanitizers/postgres.sh "$program" ||
		install test/sanitizers/postgres.sh "$program"
	export OCEAN_SUPPRESSIONS="$SERVER/source/src/tools/valgrind.supp"
	export OCEAN_OWN_SUPPRESSIONS=$PWD/test/sanitizers/valgrind.supp
}

# ----------------------------------------------------------------
# The suites
# ----------------------------------------------------------------

# Everything takes longer than usual, and much longer on a busy machine; but suites and
# waits that hang must still end.
set_time_limits()
{
	export OCEAN_SUITE_MAX_SECONDS=10800
	export PG_TEST_TIMEOUT_DEFAULT=600 PGCTLTIMEOUT=600
	# Computation takes more than ten times as long: see slow_ms().
	[[ $CHECK != valgrind ]] || export PG_TEST_TIMEOUT_DEFAULT=1800
}

# The TAP tests, except for those listed in test/sanitizers/left-out.
tap_tests()
{
	local file
	for file in test/t/*/*.pl; do
		grep -q "^$CHECK  *$file " test/sanitizers/left-out || echo "$file"
	done
}

run_suite()
{
	PG_CONFIG=$SERVER/installed/bin/pg_config test/run.sh "$@" || true
	keep_undefined > "$OCEAN_REPORTS/undefined.$1"
}

# Prints the reports of undefined behaviour in the servers' logs, each with its stack
# and an empty line.
keep_undefined()
{
	find . \( -path './test/results/*.log' -o -path './tmp_check/log/*.log' \) -exec awk '
		/ runtime error: / || (in_report && /^ +#[0-9]+ 0x/) {
			print
			in_report = 1
			next
		}
		in_report {
			print ""
			in_report = 0
		}' {} +
}

run_suites()
{
	local tests
	if (($# > 0)); then
		run_suite "$@"
		return
	fi
	mapfile -t tests < <(tap_tests)
	run_suite regress
	run_suite isolation
	run_suite tap "${tests[@]}"
}

# ----------------------------------------------------------------
# The reports
# ----------------------------------------------------------------

# Prints each report once, those with our code first.  Valgrind's reports have marks at
# their start and end; a sanitizer's report ends at an empty line or the end of file.
evaluate_reports()
{
	find "$OCEAN_REPORTS" -type f -exec cat {} + | awk -v all="$LOGS/reports.log" '
		function finish(key)
		{
			if (report == "")
				return
			key = stack == "" ? report : stack
			if (!seen[key]++)
			{
				print report >> all
				if (is_ours)
				{
					print report
					ours++
				}
				else
					others[++other_count] = title " " first
			}
			report = ""
		}
		/REPORT-BEGIN$/ || /ERROR: AddressSanitizer/ || / runtime error: / {
			finish()
			report = title = first = stack = ""
			is_ours = 0
			reading = 1
		}
		/REPORT-END$/ || (reading && /^$/ && title ~ /runtime error/) || /^==[0-9]+==ABORTING/ {
			reading = 0
			finish()
			next
		}
		!reading || /REPORT-BEGIN$/ { next }
		{
			report = report $0 "\n"
			line = $0
			sub(/^==[0-9]+== */, "", line)
			if (title == "")
				title = line
			if (match(line, /^( *#[0-9]+ 0x[0-9a-f]+ in |(at|by) 0x[0-9A-F]+: )/))
			{
				line = substr(line, RLENGTH + 1)
				stack = stack line "\n"
				if (first == "")
					first = line
			}
			# The stack of the allocation counts, too.
			if ($0 ~ /src\/(core|base|shared|session|worker|sync)\/[a-z_]+\.[ch]:[0-9]|src\/ocean_enrich\.c:|ocean_enrich\.so/)
				is_ours = 1
		}
		END {
			finish()
			for (i = 1; i <= other_count; i++)
				print "not ours: " others[i]
			printf "reports: %d with our code, %d others\n", ours, other_count
			printf "%d passed, %d failed\n", ours == 0, ours
		}'
}

# The suppressions that valgrind has used, by their names in the files.
list_suppressed()
{
	find "$OCEAN_REPORTS" -type f -exec sed -n 's/^.*used_suppression: *//p' {} + |
		awk '{
			count[$2 " " $3] += $1
		}
		END {
			for (name in count)
				print "suppressed: " name ", " count[name] " times"
		}' | sort
}

# Having no reports is only a success if something was checked.
count_checked()
{
	local checked
	case $CHECK in
		valgrind)
			checked=$(find "$OCEAN_REPORTS" -type f | wc -l)
			echo "$checked processes were checked"
			;;
		asan)
			checked=$(nm -D ocean_enrich.so | grep -cE ' U __(asan|ubsan)_') || true
			echo "the extension calls $checked functions of the sanitizers"
			;;
	esac
	((checked > 0)) || echo "0 passed, 1 failed"
}

mkdir -p "$OCEAN_REPORTS"
"make_${CHECK}_server"
# Reports of the build do not concern us.
rm -f "$OCEAN_REPORTS"/*
set_time_limits
shift
SECONDS=0
run_suites "$@"
echo "PostgreSQL $MAJOR, $CHECK: $SECONDS s"
count_checked
list_suppressed
evaluate_reports
