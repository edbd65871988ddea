#!/usr/bin/env bash
#
# lint.sh
#	Checks the rules of this source tree that no compiler checks: which folders may
#	include which, banned functions, and that every script can be parsed.  Prints all
#	violations and, at the end, how many rules hold.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# From the lowest upwards.  The last three are the processes, which never include each
# other: the means by which they communicate are in src/shared.
FOLDERS=(core base shared session worker sync)

PASSED=0
FAILED=0

# rule NAME COMMAND...: holds if the command prints nothing.
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

# includes PATTERN PATH...: the #include lines of C files that match, from the '<' or
# '"' on.
includes()
{
	local pattern=$1
	shift
	grep -rnE --include='*.[ch]' "^[[:space:]]*#[[:space:]]*include[[:space:]]*$pattern" "$@"
}

# includes_outside PATTERN FILES: the same for all of src/ except FILES.
includes_outside()
{
	includes "$1" src | grep -vE "^src/($2):"
}

# The includes of src/core that are not its own headers or the system's.
foreign_includes_of_core()
{
	includes '"' src/core | grep -v '"core/'
}

# foreign_includes_of FOLDER BELOW...: the includes of our headers that are neither in
# FOLDER nor in the folders below it.
foreign_includes_of()
{
	local allowed
	allowed=$(IFS='|' && echo "$*")
	includes "\"($(IFS='|' && echo "${FOLDERS[*]}"))/" "src/$1" |
		grep -vE "\"($allowed)/"
}

# A folder without a rule could include anything.
unknown_folders()
{
	find src -mindepth 1 -type d | grep -vxE "src/($(IFS='|' && echo "${FOLDERS[*]}"))"
}

folders_without_readme()
{
	local folder
	for folder in "${FOLDERS[@]}"; do
		[[ -e src/$folder/README.md ]] || echo "src/$folder"
	done
}

# The modules that a README has in its table and its folder lacks, or the other way round.
readmes_unlike_their_folders()
{
	local folder
	for folder in "${FOLDERS[@]}"; do
		diff <(find "src/$folder" -name '*.[ch]' -printf '%f\n' | sed 's/\.[ch]$//' | sort -u) \
			<(sed -n '/^| `/s/ |.*//p' "src/$folder/README.md" | grep -o '`[^`]*`' |
				tr -d '`' | sed 's/\.h$//' | sort) |
			sed -n "s|^< |src/$folder/README.md lacks |p; s|^> |src/$folder/README.md has |p"
	done
}

# The functions that the documents on the code name and nothing defines.
lost_functions()
{
	local name
	for name in $(grep -ohE '`[a-z_]+\(\)`' doc/architecture.md src/*/README.md | tr -d '`()' | sort -u); do
		grep -rqwF --include='*.[ch]' --include='*.sql' "$name" src sql || echo "$name()"
	done
}

server_files_not_starting_with_postgres_h()
{
	local file
	for file in src/ocean_enrich.c src/{base,shared,session,worker,sync}/*.c; do
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

tap_names_used_twice()
{
	find test/t -name '*.pl' | sed 's|.*/||' | sort | uniq --repeated
}

# perl -c prints "syntax OK" for valid files.
unparsable_perl()
{
	local file modules
	modules=$(dirname "$("${PG_CONFIG:-pg_config}" --pgxs)")/../test/perl
	for file in $(scripts -name '*.pl' -o -name '*.pm'); do
		perl -I test/lib -I test/chaos -I "$modules" -c "$file" 2>&1 | grep -v 'syntax OK$'
	done
}

unsafe_calls()
{
	grep -rnE --include='*.[ch]' '\<(v?sprintf|strcpy|strcat|gets|alloca)[[:space:]]*\(' src test
}

# This file contains the words itself.
left_open()
{
	grep -rnwIE '(TODO|FIXME|XXX)' --exclude=lint.sh \
		--exclude-dir={.git,build,quickstart,results,tmp_check} .
}

rule 'every folder of src/ has its rule' unknown_folders
rule 'every folder of src/ has a README' folders_without_readme
rule 'each README of src/ names the modules of its folder' readmes_unlike_their_folders
rule 'the documents on the code name functions that are there' lost_functions
rule 'src/core includes nothing but itself' foreign_includes_of_core
rule 'src/base includes only the folders below it' foreign_includes_of base core
rule 'src/shared includes only the folders below it' foreign_includes_of shared base core
rule 'src/session includes nothing of the worker or of syncs' \
	foreign_includes_of session shared base core
rule 'src/worker includes nothing of sessions or of syncs' \
	foreign_includes_of worker shared base core
rule 'src/sync includes nothing of sessions or of the worker' \
	foreign_includes_of sync shared base core
rule 'src/core does not know PostgreSQL' includes '<(postgres|pg_|libpq)' src/core
rule 'no header includes postgres.h' \
	grep -rn --include='*.h' 'include.*postgres\.h' src
rule 'every file outside src/core includes postgres.h first' \
	server_files_not_starting_with_postgres_h
rule 'only http.c knows libcurl' includes_outside '[<"]curl/' 'core/http\.c'
rule 'only request.c, answer.c and their json.h know json-c' \
	includes_outside '([<"]json|"core/json)' 'core/(json\.[ch]|request\.c|answer\.c)'
rule 'only canonical.c knows libunistring and libidn2' \
	includes_outside '[<"](idn2|unicase|unictype|uninorm|unistr)\.h' 'core/canonical\.c'
rule 'only compat.h knows versions of PostgreSQL' \
	grep -rn --exclude=compat.h PG_VERSION_NUM src
rule 'no calls of unsafe functions' unsafe_calls
rule 'no work is left open' left_open
rule 'the Makefile builds every source file' sources_missing_in_makefile
rule 'META.json follows its spec, and all versions agree' \
	perl test/packages/check_release.pl
rule 'no two TAP tests share a name, since their logs are named by it' \
	tap_names_used_twice
rule 'shell scripts can be parsed' unparsable_shell
rule 'perl scripts can be parsed' unparsable_perl
if command -v shellcheck > /dev/null; then
	rule 'shellcheck finds nothing' shellcheck_complaints
fi

echo "lint: $PASSED passed, $FAILED failed"
((FAILED == 0))
