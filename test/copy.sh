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
