# shellcheck shell=bash
#
# copy.sh
#	A copy of the tree that belongs to the user the servers run as: for tests by root,
#	and for builds that are not to be mixed with others.  Sourced by test/run.sh and
#	others after private-server.sh.

# copy_tree FOLDER: copies all files that git would commit or, outside a git
# repository, all files that are not build products.
copy_tree()
{
	local file
	tree_files |
		while IFS= read -r -d '' file; do
			# git also lists files that were deleted without a commit
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

# in_copy FOLDER COMMAND...: as the user that owns the copy.
in_copy()
{
	local folder=$1
	shift
	(cd "$folder" && "${AS_SERVER_USER[@]}" env HOME="$folder" \
		PG_CONFIG="$PG_CONFIG" "$@")
}
