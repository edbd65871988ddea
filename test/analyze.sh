#!/usr/bin/env bash
#
# analyze.sh
#	Checks our C, its formatting and our spelling with several tools.  Prints their
#	findings, except for those that test/analysis/accepted gives a reason for.
#
#	test/analyze.sh [TOOL...]	one or more of the tools below; all by default
#
# For each tool, files without a finding count as passed and findings as failed.
# Accepted findings that do not occur, or occur more often, count as failed, too.
# "indent" stands for test/indent.sh --check.  The last line is the sum: "N passed,
# N failed".

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=test/private-server.sh
. test/private-server.sh
# shellcheck source=test/packages.sh
. test/packages.sh
# shellcheck source=test/counting.sh
. test/counting.sh

TOOLS=(gcc scan-build cppcheck clang-tidy codespell indent)
ACCEPTED=test/analysis/accepted
MAX_SECONDS=1200

c_files()
{
	find src test -name '*.c' ! -path '*/build/*' | sort
}

# All files that people read.
text_files()
{
	find ./*.md ./*.sh Makefile META.json debian doc expected sql src test \
		-type f ! -path '*/build/*' ! -path 'test/fuzz/corpus/*' ! -path 'test/fixtures/*' \
		! -path 'test/results/*' ! -name accepted | sed 's|^\./||' | sort
}

# Flags with which all our files can be compiled.
set_flags()
{
	local cflags
	read -r -a cflags < <(pkg-config --cflags libcurl json-c libidn2 libmicrohttpd)
	FLAGS=(-std=gnu11 -O2 -D_GNU_SOURCE -Isrc -isystem "$("$PG_CONFIG" --includedir-server)"
		"${cflags[@]}")
}

# limited COMMAND...: the exit code 1, or 123 from xargs, only means that there are
# findings, which are printed.  With any other code the tool was missing, died or timed
# out, which counts as a finding.
limited()
{
	local status=0
	timeout "$MAX_SECONDS" "$@" 2>&1 || status=$?
	[[ $status == [01] || $status == 123 ]] ||
		echo "test/analyze.sh:1: error: $1 exited with $status (124: timeout after $MAX_SECONDS s)"
}

# each_file COMMAND...: runs it for each file, as its last argument, several at once.
each_file()
{
	c_files | limited xargs -P "$(nproc)" -n 1 "$@"
}

# A tool prints "FILE:LINE: TEXT [CHECK]" for each finding, among other things.

analyze_gcc()
{
	each_file gcc "${FLAGS[@]}" -fanalyzer -c -o /dev/null
}

# scan-build sets CC to a program that analyzes instead of compiling.
analyze_scan-build()
{
	# shellcheck disable=SC2016
	c_files | limited scan-build --use-cc=clang -o build/scan-build \
		xargs -P "$(nproc)" -n 1 sh -c '"$CC" "$@"' sh \
		"${FLAGS[@]}" -w -c -o /dev/null
}

# As in PostgreSQL, variables are declared at the start of a function.
analyze_cppcheck()
{
	c_files | limited cppcheck --quiet -j "$(nproc)" --std=c11 \
		--suppress=variableScope \
		--enable=warning,style,performance,portability --library=posix -Isrc \
		--include=test/analysis/cppcheck.h \
		--template='{file}:{line}: {message} [{id}]' --file-list=-
}

# With the checks of .clang-tidy.
analyze_clang-tidy()
{
	# shellcheck disable=SC2016
	each_file sh -c 'for file; do :; done; exec clang-tidy --quiet "$file" -- "$@"' \
		sh "${FLAGS[@]}" -w | sed "s|^$PWD/||"
}

# The misspelt word is the check.
analyze_codespell()
{
	text_files | limited xargs codespell |
		sed -E 's/^([^:]+:[0-9]+: )(.*) ==> (.*)$/\1\2 ==> \3 [\2]/'
}

# evaluate TOOL FILE-COUNT: reads the tool's output, prints the findings that are not
# accepted and accepted ones that do not occur, and, in the last line, "PASSED FAILED".
evaluate()
{
	awk -v tool="$1" -v files="$2" '
		FNR == NR {
			if ($1 == tool)
			{
				accepted[$2 " " $3] = 0
				most[$2 " " $3] = $4
			}
			next
		}
		function is_accepted(file, check, entry, parts)
		{
			for (entry in accepted)
			{
				split(entry, parts, " ")
				if (parts[2] == check && \
					substr("/" file, length(file) + 1 - length(parts[1])) == "/" parts[1])
				{
					return ++accepted[entry] <= most[entry]
				}
			}
			return 0
		}
		match($0, /^[^ :]+:[0-9]+:.* \[[^]]+\]$/) {
			file = $0
			sub(/:.*/, "", file)
			check = $0
			sub(/^.* \[/, "", check)
			sub(/[],].*$/, "", check)
			if (seen[$0]++ || is_accepted(file, check))
				next
			print
			failed++
			if (!bad[file]++)
				files--
		}
		/^[^ :]+:[0-9]+:.*(fatal )?error:/ && !/ \[[^]]+\]$/ {
			print
			failed++
		}
		END {
			for (entry in accepted)
				if (accepted[entry] == 0)
				{
					print "test/analysis/accepted: does not occur: " tool " " entry
					failed++
				}
			print files + 0, failed + 0
		}' "$ACCEPTED" -
}

run_tool()
{
	local tool=$1 result passed failed files
	files=$(if [[ $tool == codespell ]]; then text_files; else c_files; fi | wc -l)
	SECONDS=0
	result=$("analyze_$tool" | evaluate "$tool" "$files")
	read -r passed failed <<< "${result##*$'\n'}"
	sed '$d' <<< "$result"
	echo "$tool: $failed findings in $files files, $SECONDS s"
	((PASSED += passed, FAILED += failed)) || true
}

main()
{
	local tool
	(($# > 0)) || set -- "${TOOLS[@]}"
	for tool in "$@"; do
		if [[ " ${TOOLS[*]} " != *" $tool "* ]]; then
			echo "usage: test/analyze.sh [TOOL...], TOOL being one of: ${TOOLS[*]}" >&2
			exit 2
		fi
	done
	install_missing build static
	choose_pg_config
	set_flags
	for tool in "$@"; do
		if [[ $tool == indent ]]; then
			add_sum_of test/indent.sh --check
		else
			run_tool "$tool"
		fi
	done
	sum_up
}

main "$@"
