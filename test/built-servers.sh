# shellcheck shell=bash
#
# built-servers.sh
#	Shared by test/proof/run.sh, test/sanitizers/run.sh and test/versions.sh: tests in
#	copies of the tree, on servers that test/server-build.sh builds and keeps in the
#	cache, and their sum.

# shellcheck source=test/private-server.sh
. test/private-server.sh
# shellcheck source=test/packages.sh
. test/packages.sh
# shellcheck source=test/copy.sh
. test/copy.sh
# shellcheck source=test/debian.sh
. test/debian.sh

PASSED=0
FAILED=0

# prepare PURPOSE...: installs the packages for it, and makes the cache, whose servers
# belong to the user they run as.
prepare()
{
	install_missing build "$@"
	choose_pg_config
	choose_server_user
	choose_cache
	mkdir -p "$OCEAN_CACHE"
	[[ -d $OCEAN_CACHE/servers ]] ||
		install -d -o "$SERVER_USER" "$OCEAN_CACHE/servers"
}

# count_in_copy LOGS MAX-SECONDS COMMAND...: runs the command in a copy of the tree, so
# that its build is not mixed with others.  Adds all lines "N passed, N failed" of its
# output to PASSED and FAILED.  If something failed, the copy is kept for its LOGS.
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

# Fails if a test failed.
print_sum()
{
	echo "$PASSED passed, $FAILED failed"
	((FAILED == 0))
}
