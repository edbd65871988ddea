#!/usr/bin/env bash
#
# run.sh
#	The proof of reading ahead: PostgreSQL's own regression and isolation tests
#	on servers with assertions, while the extension treats every immutable or
#	stable function call as one of its own (-DOE_READ_AHEAD_EVERYTHING).
#
#	test/proof/run.sh [MAJOR...]	15 and the newest that Debian has the source of
#
# Servers are built from Debian's source packages and kept in $OCEAN_CACHE
# (/var/cache/ocean_enrich for root, ~/.cache/ocean_enrich for others), about
# 0.3 GB each.  The first run takes half an hour, a later one some minutes.
#
# Differences that have to be there stand in test/proof/differences, each with
# its reason; any other one is a failure, and so is one that stands there and is
# no more.  The last line is the sum: "N passed, N failed".

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# shellcheck source=test/private-server.sh
. test/private-server.sh
# shellcheck source=test/packages.sh
. test/packages.sh
# shellcheck source=test/copy.sh
. test/copy.sh
# shellcheck source=test/debian.sh
. test/debian.sh

# For one major version, its server's build included.
MAX_SECONDS=3600

PASSED=0
FAILED=0

# In a copy, as this build of the extension must not be mixed with a real one.
prove()
{
	local major=$1 copy log passed failed status=0
	copy=$(mktemp -d "${TMPDIR:-/tmp}/ocean_enrich.XXXXXX")
	copy_tree "$copy"
	log=$copy/proof.log
	in_copy "$copy" timeout --kill-after=30 "$MAX_SECONDS" \
		test/proof/prove.sh "$major" 2>&1 < /dev/null | tee "$log" || status=$?

	read -r passed failed < <(awk '
		/^ *[0-9]+ passed, [0-9]+ failed$/ { passed += $1; failed += $3 }
		END { print passed + 0, failed + 0 }' "$log")
	if ((failed == 0 && (status != 0 || passed == 0))); then
		failed=1
	fi
	((PASSED += passed, FAILED += failed)) || true
	if ((failed == 0)); then
		rm -rf "$copy"
	else
		echo "the logs are in $copy/build/proof"
	fi
}

main()
{
	local major
	(($# > 0)) || set -- 15 newest
	install_missing build proof
	choose_pg_config
	choose_server_user
	choose_cache
	mkdir -p "$OCEAN_CACHE"
	[[ -d $OCEAN_CACHE/servers ]] ||
		install -d -o "$SERVER_USER" "$OCEAN_CACHE/servers"
	for major in "$@"; do
		prove "$major"
	done
	echo "$PASSED passed, $FAILED failed"
	((FAILED == 0))
}

main "$@"
