#!/usr/bin/env bash
#
# indent.sh
#	Formats our C like PostgreSQL's, with its own pg_bsd_indent 2.1.2.  That is built
#	from Debian's source package the first time and kept in $OCEAN_CACHE.
#
#	test/indent.sh [FILE...]			changes files; all by default
#	test/indent.sh --check [FILE...]	shows what would change
#
# It needs the names of all types: PostgreSQL's are listed in that source, ours are
# found in our files, and all others are in test/analysis/typedefs.list.
#
# The last line of a check is the sum: "N passed, N failed".

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=test/private-server.sh
. test/private-server.sh
# shellcheck source=test/packages.sh
. test/packages.sh
# shellcheck source=test/debian.sh
. test/debian.sh
# shellcheck source=test/counting.sh
. test/counting.sh

# The first major version with this version of pg_bsd_indent.
MAJOR=18

# The options of PostgreSQL's pgindent.
OPTIONS=(-bad -bap -bbb -bc -bl -cli1 -cp33 -cdb -nce -d0 -di12 -nfc1 -i4 -l79
	-lp -lpl -nip -npro -sac -tpg -ts4)

all_files()
{
	find src test -name '*.[ch]' ! -path '*/build/*' | sort
}

# Names in PostgreSQL's list that are not types here.
NO_TYPES='FD_SET|LookupSet|boolean|date|duration|element_type|inquiry|iterator|other|pointer|reference|rep|string|text|timestamp|type|wrap'

# The names declared by "typedef" in our files: after a struct, or in one line.
own_types()
{
	all_files | xargs perl -0777 -ne '
		s{/\*.*?\*/}{}gs;
		print "$1\n" while /^\}\s*(\w+);/gm;
		print "$1\n" while /^typedef\b[^;{]*?(\w+)\)?\s*(?:\([^;]*\)|\[[^;]*\])?;/gm;'
}

# Makes TOOLS, with the program and PostgreSQL's types, unless it is in the cache.
make_tools()
{
	local source=$OCEAN_CACHE/sources/$MAJOR/source/src/tools
	[[ ! -e $TOOLS/complete ]] || return 0
	# shellcheck source=test/server-build.sh
	. test/server-build.sh
	SERVERS=$OCEAN_CACHE/sources
	LOGS=$FOLDER
	mkdir -p "$SERVERS" "$TOOLS"
	make_apt && get_source "$MAJOR" "$MAJOR" &&
		gcc -O2 -w -isystem "$("$PG_CONFIG" --includedir-server)" \
			-o "$TOOLS/pg_bsd_indent" "$source"/pg_bsd_indent/*.c \
			-L"$("$PG_CONFIG" --pkglibdir)" -L"$("$PG_CONFIG" --libdir)" -lpgport &&
		[[ $("$TOOLS/pg_bsd_indent" --version) == 'pg_bsd_indent 2.1.2 '* ]] &&
		cp "$source/pgindent/typedefs.list" "$TOOLS/" &&
		touch "$TOOLS/complete" &&
		rm -rf --one-file-system "$SERVERS"
}

# Writes the lists of types for the program's option -U.
list_types()
{
	(own_types && grep -v '^#' test/analysis/typedefs.list) > "$FOLDER/types"
	grep -vxE "$NO_TYPES" "$TOOLS/typedefs.list" |
		cat "$FOLDER/types" - > "$FOLDER/server-types"
}

# format_file FILE: prints the formatted file.  In src/core and in tests, names of
# PostgreSQL's types may be used for something else.
format_file()
{
	local types=types
	[[ $1 != src/* || $1 == src/core/* ]] || types='server-types'
	perl test/analysis/indent.pl "$TOOLS/pg_bsd_indent" "${OPTIONS[@]}" \
		-U"$FOLDER/$types" < "$1"
}

check_file()
{
	if format_file "$1" | diff --unified --label "$1" --label "$1, formatted" "$1" -; then
		((++PASSED))
	else
		((++FAILED))
	fi
}

change_file()
{
	format_file "$1" > "$FOLDER/result"
	cat "$FOLDER/result" > "$1"
}

main()
{
	local action=change_file file files=()
	if [[ ${1:-} == --check ]]; then
		action=check_file
		shift
	fi
	install_missing build indent
	choose_pg_config
	choose_cache
	TOOLS=$OCEAN_CACHE/indent
	FOLDER=$(mktemp -d "${TMPDIR:-/tmp}/ocean_enrich.XXXXXX")
	trap 'rm -rf "$FOLDER"' EXIT
	make_tools
	list_types
	mapfile -t files < <(all_files)
	(($# == 0)) || files=("$@")
	for file in "${files[@]}"; do
		"$action" "$file"
	done
	[[ $action == change_file ]] || sum_up
}

main "$@"
