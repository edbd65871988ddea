# shellcheck shell=bash
#
# built-servers.sh
#	What test/proof/run.sh, test/sanitizers/run.sh and test/versions.sh have in
#	common: tests in copies of the tree, on servers that test/server-build.sh makes
#	there and keeps in the cache, and their sum.

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

# prepare PURPOSE...: what is needed for it, and the cache, where servers are kept
# as the user they run as.
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

# Fails if anything did.
print_sum()
{
	echo "$PASSED passed, $FAILED failed"
	((FAILED == 0))
}
