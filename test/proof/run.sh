#!/usr/bin/env bash
#
# run.sh
#	The proof of reading ahead: runs PostgreSQL's own regression and isolation tests on
#	servers with assertions, with an extension that treats every call of an immutable
#	or stable function as one of its own (-DOE_READ_AHEAD_EVERYTHING).
#
#	test/proof/run.sh [MAJOR...]	15 and the newest whose source Debian has
#
# Servers are built from Debian's source packages and kept in $OCEAN_CACHE
# (/var/cache/ocean_enrich for root, ~/.cache/ocean_enrich for others), about
# 0.3 GB each.  The first run takes half an hour, later ones a few minutes.
#
# Expected differences are in test/proof/differences, each with its reason.  Any other
# difference is a failure, and so is an expected one that does not occur.  The last
# line is the sum: "N passed, N failed".

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# shellcheck source=test/built-servers.sh
. test/built-servers.sh

# For one major version, including its server's build.
MAX_SECONDS=3600

main()
{
	local major
	(($# > 0)) || set -- 15 newest
	prepare proof
	for major in "$@"; do
		count_in_copy build/proof "$MAX_SECONDS" test/proof/prove.sh "$major"
	done
	print_sum
}

main "$@"
