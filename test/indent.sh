#!/usr/bin/env bash
#
# indent.sh
#	Lays our C out as PostgreSQL's, by pg_bsd_indent 2.1.1, which is PostgreSQL
#	15's.  It knows a type by its name in test/analysis/typedefs.list.
#
#	test/indent.sh [FILE...]			changes files; all by default
#	test/indent.sh --check [FILE...]	shows what would change
#
# The last line of a check is the sum: "N passed, N failed".

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Those of PostgreSQL's pgindent.
OPTIONS=(-bad -bap -bbb -bc -bl -cli1 -cp33 -cdb -nce -d0 -di12 -nfc1 -i4 -l79
	-lp -lpl -nip -npro -sac -tpg -ts4 -Utest/analysis/typedefs.list)
PASSED=0
FAILED=0

# indented FILE: how it should look.
indented()
{
	pg_bsd_indent "${OPTIONS[@]}" < "$1" 2> /dev/null
}

check_file()
{
	if indented "$1" | diff --unified --label "$1" --label "$1, indented" "$1" -; then
		((++PASSED))
	else
		((++FAILED))
	fi
}

change_file()
{
	local result
	result=$(indented "$1" && echo .)
	printf '%s' "${result%.}" > "$1"
}

main()
{
	local action=change_file file
	if [[ ${1:-} == --check ]]; then
		action=check_file
		shift
	fi
	if [[ $(pg_bsd_indent --version 2> /dev/null) != 'pg_bsd_indent 2.1.1 '* ]]; then
		echo "skipped: there is no pg_bsd_indent 2.1.1 (Debian's package pg-bsd-indent)"
		return
	fi
	if (($# == 0)); then
		mapfile -t files < <(find src test -name '*.[ch]' ! -path '*/build/*' | sort)
		set -- "${files[@]}"
	fi
	for file in "$@"; do
		"$action" "$file"
	done
	if [[ $action == check_file ]]; then
		echo "$PASSED passed, $FAILED failed"
		((FAILED == 0))
	fi
}

main "$@"
