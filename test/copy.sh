# shellcheck shell=bash
#
# copy.sh
#	The tree in a folder of its own that belongs to the user servers run as:
#	for root's tests, and for builds that are not to be mixed with others.
#	Sourced by test/run.sh and others after private-server.sh.

# copy_tree FOLDER: everything that git would commit or, where git does not know
# the tree, everything that was not built.
copy_tree()
{
	local file
	tree_files |
		while IFS= read -r -d '' file; do
			# git still lists what was deleted and not committed
			[[ ! -e $file ]] || printf '%s\0' "$file"
		done |
		tar --create --null --files-from=- |
		tar --extract --no-same-owner --directory="$1"
	chown -R "$SERVER_USER:" "$1"
}

tree_files()
{
	git -c safe.directory="$PWD" ls-files -z --cached --others \
		--exclude-standard 2> /dev/null ||
		find . \( -name .git -o -name build -o -name tmp_check \
			-o -path ./quickstart \) -prune \
			-o -type f ! -name '*.o' ! -name '*.so' -print0
}

# in_copy FOLDER COMMAND...: as the user it belongs to.
in_copy()
{
	local folder=$1
	shift
	(cd "$folder" && "${AS_SERVER_USER[@]}" env HOME="$folder" \
		PG_CONFIG="$PG_CONFIG" "$@")
}

# count_in_copy LOGS MAX-SECONDS COMMAND...: in a copy of its own, as builds that
# must not be mixed with real ones need it.  Adds up in PASSED and FAILED what the
# command says, "N passed, N failed" in lines of their own; a copy in which
# something failed stays, for its LOGS.
count_in_copy()
{
	local logs=$1 max_seconds=$2 copy passed failed status=0
	shift 2
	copy=$(mktemp -d "${TMPDIR:-/tmp}/ocean_enrich.XXXXXX")
	copy_tree "$copy"
	in_copy "$copy" timeout --kill-after=30 "$max_seconds" "$@" \
		2>&1 < /dev/null | tee "$copy/output.log" || status=$?

	read -r passed failed < <(awk '
		/^ *[0-9]+ passed, [0-9]+ failed$/ { passed += $1; failed += $3 }
		END { print passed + 0, failed + 0 }' "$copy/output.log")
	if ((failed == 0 && (status != 0 || passed == 0))); then
		failed=1
	fi
	((PASSED += passed, FAILED += failed)) || true
	if ((failed == 0)); then
		rm -rf "$copy"
	else
		echo "the logs are in $copy/$logs"
	fi
}
