#!/usr/bin/env bash
#
# lint.sh
#	The rules of this source tree that no compiler knows: who may include whom,
#	what is banned, and that every script can be parsed.  Prints what breaks a
#	rule and, at the end, how many rules hold.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The direction of knowledge in src/server, from upper to lower layers: a file
# includes only its own header and those of layers below.
LAYERS='
	ocean_enrich forget webhook /
	applier estimate functions launcher read_ahead sync_functions worker /
	apply_changed apply_settled /
	apply_rows /
	apply /
	read_ahead_plan serve_queue submit /
	call record /
	wire /
	admission transaction /
	job /
	budget progress verdict queue sync upkeep /
	rights sync_definition /
	settings channel ledger /
	message errors process secrets statement library /
	compat xact'

PASSED=0
FAILED=0

# rule NAME COMMAND...: holds when the command prints nothing at all.
rule()
{
	local name=$1 found
	shift
	found=$("$@" 2>&1) || true
	if [[ -z $found ]]; then
		PASSED=$((PASSED + 1))
	else
		FAILED=$((FAILED + 1))
		printf 'broken: %s\n%s\n' "$name" "$found"
	fi
}

# includes PATTERN PATH...: the #include lines of C files whose '<' or '"' and
# file match.
includes()
{
	local pattern=$1
	shift
	grep -rnE --include='*.[ch]' "^[[:space:]]*#[[:space:]]*include[[:space:]]*$pattern" "$@"
}

# includes_outside PATTERN FILES: the same for all of src/ but FILES.
includes_outside()
{
	includes "$1" src | grep -vE "^src/($2):"
}

strangers_in_core()
{
	includes '"' src/core | grep -v '"core/'
}

core_where_unknown()
{
	includes '"core/' src | grep -E '^src/(ocean_enrich|server/(channel|compat|read_ahead|read_ahead_plan))\.'
}

against_the_layers()
{
	includes '"server/' src | awk -F'[:"]' -v layers="$LAYERS" '
		BEGIN {
			count = split(layers, modules, " ")
			for (i = 1; i <= count; i++)
				if (modules[i] == "/")
					depth++
				else
					layer[modules[i]] = depth + 0
		}
		function module(path)
		{
			sub(/^.*\//, "", path)
			sub(/\.[ch]$/, "", path)
			return path
		}
		{
			from = module($1)
			to = module($4)
			if (!(from in layer) || !(to in layer))
				print $0 ": of no layer that lint.sh knows"
			else if (from != to && layer[to] <= layer[from])
				print
		}'
}

server_files_not_starting_with_postgres_h()
{
	local file
	for file in src/ocean_enrich.c src/server/*.c; do
		[[ $(grep -m 1 '#include' "$file") == '#include "postgres.h"' ]] ||
			echo "$file"
	done
}

sources_missing_in_makefile()
{
	local file
	for file in src/*.c src/*/*.c; do
		grep -qE "^[[:space:]]${file%.c}\.o( \\\\)?$" Makefile || echo "$file"
	done
}

scripts()
{
	find . \( -path ./.git -o -path ./quickstart -o -name build \
		-o -name tmp_check \) -prune -o -type f \( "$@" \) -print
}

shell_scripts()
{
	scripts -name '*.sh' -o -path './.ci/run' -o -path './debian/tests/installcheck'
}

unparsable_shell()
{
	local file
	for file in $(shell_scripts); do
		bash -n "$file"
	done
}

shellcheck_complaints()
{
	local file
	for file in $(shell_scripts); do
		shellcheck --external-sources --severity=warning --format=gcc "$file"
	done
}

# perl -c says "syntax OK" for what is fine.
unparsable_perl()
{
	local file modules
	modules=$(dirname "$("${PG_CONFIG:-pg_config}" --pgxs)")/../test/perl
	for file in $(scripts -name '*.pl' -o -name '*.pm'); do
		perl -I test/t -I test/chaos -I "$modules" -c "$file" 2>&1 | grep -v 'syntax OK$'
	done
}

unsafe_calls()
{
	grep -rnE --include='*.[ch]' '\<(v?sprintf|strcpy|strcat|gets|alloca)[[:space:]]*\(' src test
}

# This file has to name what it looks for.
left_open()
{
	grep -rnwIE '(TODO|FIXME|XXX)' --exclude=lint.sh \
		--exclude-dir={.git,build,quickstart,results,tmp_check} .
}

rule 'src/core includes nothing but itself and system headers' strangers_in_core
rule 'src/core does not know PostgreSQL' includes '<(postgres|pg_|libpq)' src/core
rule 'no header includes postgres.h' \
	grep -rn --include='*.h' 'include.*postgres\.h' src
rule 'src/server begins with postgres.h' server_files_not_starting_with_postgres_h
rule 'only http.c knows libcurl' includes_outside '[<"]curl/' 'core/http\.c'
rule 'only request.c and answer.c know json-c, which they share json.h for' \
	includes_outside '([<"]json|"core/json)' 'core/(json\.[ch]|request\.c|answer\.c)'
rule 'channel, read_ahead and compat do not know the core' core_where_unknown
rule 'src/server includes from upper to lower layers only' against_the_layers
rule 'only compat.h knows versions of PostgreSQL' \
	grep -rn --exclude=compat.h PG_VERSION_NUM src
rule 'no call that cannot be made safely' unsafe_calls
rule 'nothing is left open' left_open
rule 'the Makefile builds every source file' sources_missing_in_makefile
rule 'META.json follows its spec, and all versions agree' \
	perl test/packages/check_release.pl
rule 'shell scripts can be parsed' unparsable_shell
rule 'perl scripts can be parsed' unparsable_perl
if command -v shellcheck > /dev/null; then
	rule 'shellcheck is content' shellcheck_complaints
fi

echo "lint: $PASSED passed, $FAILED failed"
((FAILED == 0))
