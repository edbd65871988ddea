#!/usr/bin/env bash
#
# check.sh valgrind|asan [SUITE [NAME...]]
#	One of the two checks: makes its server unless the cache has it, runs the
#	suites on it and judges what was reported.  Called by run.sh, in a copy of
#	the tree.  Prints what the suites print, the reports, and for each
#	"N passed, N failed".

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

# No leaks: PostgreSQL's programs leave it to the system to free what they have.
# Not only the server's processes are checked, so even configure needs these.
#
# gcc's two sanitizers do not share a log: undefined behaviour is told on stderr
# alone, for which see keep_undefined().  In the extension it ends the process, so
# that no test passes by it either.
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

# What starts a server gets it under valgrind.
make_valgrind_server()
{
	local program=$SERVER/installed/bin/postgres
	make_server "$MAJOR-valgrind" "$MAJOR" --enable-debug CPPFLAGS=-DUSE_VALGRIND
	[[ -e $program.unchecked ]] || mv "$program" "$program.unchecked"
	# Not for nothing: another run may be starting servers.
	cmp --quiet test/sanitizers/postgres.sh "$program" ||
		install test/sanitizers/postgres.sh "$program"
	export OCEAN_SUPPRESSIONS="$SERVER/source/src/tools/valgrind.supp"
	export OCEAN_OWN_SUPPRESSIONS=$PWD/test/sanitizers/valgrind.supp
}

# ----------------------------------------------------------------
# The suites
# ----------------------------------------------------------------

# Everything takes longer than usual, and much longer on a busy machine; a suite
# or a wait that hangs is ended all the same.
set_time_limits()
{
	export OCEAN_SUITE_MAX_SECONDS=10800
	export PG_TEST_TIMEOUT_DEFAULT=600 PGCTLTIMEOUT=600
	# What computes takes ten times as long there and more: see slow_ms().
	[[ $CHECK != valgrind ]] || export PG_TEST_TIMEOUT_DEFAULT=1800
}

# The TAP tests but those that test/sanitizers/left-out gives a reason for.
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

# What the servers' logs have of undefined behaviour, each with its stack and an
# empty line.
keep_undefined()
{
	find . \( -path './test/results/*.log' -o -path './tmp_check/log/*.log' \) -exec awk '
		/ runtime error: / || (is_told && /^ +#[0-9]+ 0x/) {
			print
			is_told = 1
			next
		}
		is_told {
			print ""
			is_told = 0
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

# Each report once, those of ours first.  A report of valgrind's stands between
# its marks, one of a sanitizer's goes on to an empty line or the end.
judge_reports()
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
			# Where the memory came from counts, too.
			if ($0 ~ /src\/(core|base|shared|session|worker|sync)\/[a-z_]+\.[ch]:[0-9]|src\/ocean_enrich\.c:|ocean_enrich\.so/)
				is_ours = 1
		}
		END {
			finish()
			for (i = 1; i <= other_count; i++)
				print "not ours: " others[i]
			printf "reports: %d that point at us, %d others\n", ours, other_count
			printf "%d passed, %d failed\n", ours == 0, ours
		}'
}

# What valgrind says it has left out, by the names that the files give.
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

# No report means nothing where nothing was checked.
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
			echo "the extension asks $checked functions of the sanitizers"
			;;
	esac
	((checked > 0)) || echo "0 passed, 1 failed"
}

mkdir -p "$OCEAN_REPORTS"
"make_${CHECK}_server"
# What building it reported is no matter of ours.
rm -f "$OCEAN_REPORTS"/*
set_time_limits
shift
SECONDS=0
run_suites "$@"
echo "PostgreSQL $MAJOR, $CHECK: $SECONDS s"
count_checked
list_suppressed
judge_reports
