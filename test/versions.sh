#!/usr/bin/env bash
#
# versions.sh
#	Builds and tests the extension on several major versions of PostgreSQL, each
#	with the libcurl, json-c, libidn2 and gcc of its Debian release, in a small Debian of
#	its own in a folder.  A warning is an error.
#
#	test/versions.sh [MAJOR...]			15, 17, 18 and 19
#	test/versions.sh --cached [SECONDS]	of these only those whose folder exists,
#										without the machine's own version; starts
#										none after this many seconds
#
# The folders are kept in $OCEAN_CACHE (/var/cache/ocean_enrich), 0.7 GB each;
# making one takes two minutes.  Only root can do that.  The tests of pg_upgrade start
# from a server 15 that test/server-build.sh makes there once, which takes a few
# minutes; with --cached they are left out if it does not exist.  The logs are in
# build/versions.  Prints a table and, at the end, "N passed, N failed".

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=test/built-servers.sh
. test/built-servers.sh

# The majors, and the releases that have them.
RELEASES='
15 bookworm
17 trixie
18 forky
19 sid experimental
'
SUITES=(unit regress isolation tap)

# The version that pg_upgrade starts from, on each newer one.
OLD_MAJOR=15

# For one tree, and for one command in it.
MAKE_TREE_MAX_SECONDS=1200
MAX_SECONDS=$((${OCEAN_SUITE_MAX_SECONDS:-900} + 600))

# Environment variables that are passed to the tests in a tree.
PASSED_ON=(OCEAN_SUITE_MAX_SECONDS PG_TEST_TIMEOUT_DEFAULT PGCTLTIMEOUT)

# A complaint of a compiler.
COMPLAINT='^[^ ]+:[0-9]+:[0-9]+: (warning|error|fatal error): '

LOGS=$PWD/build/versions
BEGIN_SECONDS=''

all_majors()
{
	awk 'NF { print $1 }' <<< "$RELEASES"
}

# Sets MAJORS to the versions whose folder exists, and names the others.
choose_cached_majors()
{
	local major own
	own=$(pg_major)
	MAJORS=()
	for major in $(all_majors); do
		if [[ $major == "$own" ]]; then
			echo "skipped: PostgreSQL $major, the machine's own"
		elif [[ $(id -u) != 0 ]]; then
			echo "skipped: PostgreSQL $major, which needs root"
		elif ! has_tree "$major"; then
			echo "skipped: PostgreSQL $major, which has no folder with all packages in $TREES"
		else
			MAJORS+=("$major")
		fi
	done
}

# The packages that the tests of one version need, from packages.sh.
tree_packages()
{
	local major=$1
	awk '$1 == "build" || $1 == "test" { print $2 }' <<< "$NEEDS"
	printf "%s-$major\n" postgresql postgresql-server-dev
}

# has_tree MAJOR: true if its folder has been made, with the packages that are needed now.
has_tree()
{
	cmp --silent "$TREES/$1/complete" <(tree_packages "$1")
}

# Only the server is installed from Debian's experimental.
pin_server()
{
	cat <<-END
		Package: src:postgresql-$1
		Pin: release a=experimental
		Pin-Priority: 990
	END
}

# make_tree MAJOR RELEASE...: without documentation, translations and LLVM.
make_tree()
{
	local major=$1 tree=$TREES/$1 option options=()
	shift
	for option in '/usr/share/doc/*' '/usr/share/man/*' '/usr/share/locale/*' \
		'/usr/lib/llvm-*' '/usr/lib/*/libLLVM*' '/usr/lib/*/libclang*' \
		'/usr/lib/postgresql/*/lib/llvmjit*'; do
		options+=("--dpkgopt=path-exclude=$option")
	done
	pin_server "$major" > "$LOGS/$major.pin"
	debian_sources deb "$@" > "$LOGS/$major.list" || return
	rm -rf --one-file-system "$tree"
	timeout --kill-after=30 "$MAKE_TREE_MAX_SECONDS" \
		mmdebstrap --mode=root --variant=minbase "${options[@]}" \
		--aptopt='Acquire::Check-Valid-Until "false"' \
		--aptopt='APT::Install-Recommends "false"' \
		--setup-hook="mkdir -p \"\$1\"/etc/apt/preferences.d \"\$1\"/etc/postgresql-common" \
		--setup-hook="cp '$LOGS/$major.pin' \"\$1\"/etc/apt/preferences.d/server" \
		--setup-hook='echo "create_main_cluster = false" > "$1"/etc/postgresql-common/createcluster.conf' \
		--setup-hook='echo "127.0.0.1 localhost" > "$1"/etc/hosts' \
		--include="$(tree_packages "$major" | paste -sd,)" \
		"$1" "$tree" "$LOGS/$major.list" &&
		tree_packages "$major" > "$tree/complete"
}

# make_tree_of MAJOR: from its releases; prints its log only if it fails.
make_tree_of()
{
	local releases log=$LOGS/$1.tree.log
	releases=$(sed -n "s/^$1 //p" <<< "$RELEASES")
	if [[ -z $releases ]]; then
		echo "the list of Debian releases in test/versions.sh has no PostgreSQL $1" >&2
		return 1
	fi
	echo "making a Debian of $releases with PostgreSQL $1"
	# shellcheck disable=SC2086
	make_tree "$1" $releases > "$log" 2>&1 || {
		tail -n 20 "$log" >&2
		return 1
	}
}

# in_tree USER COMMAND...: in the folder /ocean_enrich of the tree, with the servers
# that test/proof/run.sh has built, for pg_upgrade.  All its processes and mounts end
# with it.
in_tree()
{
	local user=$1 name environment=()
	shift
	for name in "${PASSED_ON[@]}"; do
		[[ ! -v $name ]] || environment+=("$name=${!name}")
	done
	# The outer shell reaps orphaned processes.
	# shellcheck disable=SC2016
	timeout --kill-after=30 "$MAX_SECONDS" \
		unshare --mount --pid --ipc --fork --kill-child sh -c '
			mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" || exit
			if [ -d "$1" ]; then
				mkdir -p "$0/var/cache/ocean_enrich/servers" &&
					mount --bind "$1" "$0/var/cache/ocean_enrich/servers" || exit
			fi
			shift
			user=$1
			shift
			chroot "$0" setpriv --reuid="$user" --regid="$user" --init-groups \
				env -i -C /ocean_enrich PATH=/usr/bin:/bin:/usr/sbin:/sbin \
				HOME=/ocean_enrich COPT=-Werror "$@"' \
		"$TREE" "$OCEAN_CACHE/servers" "$user" "${environment[@]}" "$@" < /dev/null
}

# Replaces our files in the tree.
fill_tree()
{
	rm -rf --one-file-system "$TREE/ocean_enrich"
	mkdir "$TREE/ocean_enrich"
	copy_tree "$TREE/ocean_enrich"
	in_tree root chown -R postgres: .
}

print_row()
{
	printf '%-10s  %-7s  %-6s  %-7s  %-10s  %8s  %7s  %7s\n' "$@"
}

# Prints the versions in the tree, one per line.
tree_versions()
{
	in_tree postgres sh -c '
		pg_config --version | sed "s/^PostgreSQL \([^ ]*\).*/\1/"
		pkg-config --modversion libcurl json-c libidn2
		echo "gcc $(gcc -dumpfullversion)"'
}

# build_in_tree LOG: prints the number of the compiler's complaints, and the complaints
# themselves to stderr.
build_in_tree()
{
	in_tree postgres make --keep-going --jobs="$(nproc)" all sandbox \
		> "$1" 2>&1 || true
	grep -E "$COMPLAINT" "$1" >&2 || true
	grep -cE "$COMPLAINT" "$1" || true
}

# Makes the server to upgrade from, unless it exists.  If that fails, so do the tests
# that need it.
make_old_server()
{
	local copy
	[[ ! -e $OCEAN_CACHE/servers/$OLD_MAJOR/complete ]] || return 0
	prepare proof
	copy=$(mktemp -d "${TMPDIR:-/tmp}/ocean_enrich.XXXXXX")
	copy_tree "$copy"
	# shellcheck disable=SC2016
	in_copy "$copy" bash -euo pipefail -c '
		LOGS=$PWD
		. test/server-build.sh
		make_server "$0" "$0"' "$OLD_MAJOR" < /dev/null ||
		echo "could not make PostgreSQL $OLD_MAJOR to upgrade from" >&2
	rm -rf "$copy"
}

# choose_upgrade MAJOR: sets MUST to the command that makes the test of pg_upgrade
# mandatory, or to nothing.  From 18 on, pg_upgrade does not find a staged library, and
# the test uses servers that the proof has built, if there are any.
choose_upgrade()
{
	MUST=()
	if (($1 <= OLD_MAJOR || $1 >= 18)); then
		return
	elif [[ $CACHED == yes && ! -e $OCEAN_CACHE/servers/$OLD_MAJOR/complete ]]; then
		echo "skipped: pg_upgrade to PostgreSQL $1, since $OCEAN_CACHE has no server $OLD_MAJOR"
	else
		MUST=(env OCEAN_MUST_UPGRADE=yes)
	fi
}

# run_suites LOGS: prints how many tests passed and failed.  The logs of failed suites
# go to stderr.
run_suites()
{
	local suite
	for suite in "${SUITES[@]}"; do
		in_tree postgres "${MUST[@]}" test/run.sh "$suite" \
			> "$1.$suite.log" 2>&1 || cat "$1.$suite.log" >&2
		# A suite without a sum has failed.
		tail -n 1 "$1.$suite.log" | grep -xE '[0-9]+ passed, [0-9]+ failed' ||
			echo '0 passed, 1 failed'
	done | awk '{ passed += $1; failed += $3 } END { print passed, failed }'
}

# test_in_tree MAJOR: builds and tests, and adds a row to the table.
test_in_tree()
{
	local versions warnings passed failed
	choose_upgrade "$1"
	fill_tree
	mapfile -t versions < <(tree_versions)
	warnings=$(build_in_tree "$LOGS/$1.build.log")
	read -r passed failed < <(run_suites "$LOGS/$1")
	print_row "${versions[@]}" "$warnings" "$passed" "$failed" >> "$LOGS/table"
	((PASSED += passed, FAILED += failed + warnings)) || true
}

# Locks a tree until the next one is locked, since two runs in one tree would disturb
# each other.
lock_tree()
{
	exec 9> "$TREE.lock"
	flock --nonblock 9 || {
		echo "waiting for another run on PostgreSQL $(basename "$TREE")"
		flock 9
	}
}

test_majors()
{
	local major
	choose_server_user
	[[ $CACHED == yes ]] || make_old_server
	mkdir -p "$TREES" "$LOGS"
	print_row PostgreSQL libcurl json-c libidn2 compiler warnings passed failed > "$LOGS/table"
	for major in "${MAJORS[@]}"; do
		if [[ -n $BEGIN_SECONDS ]] && ((SECONDS > BEGIN_SECONDS)); then
			echo "skipped: PostgreSQL $major, since the time is over"
			continue
		fi
		TREE=$TREES/$major
		lock_tree
		if has_tree "$major" || make_tree_of "$major"; then
			test_in_tree "$major"
		else
			((++FAILED))
		fi
	done
	cat "$LOGS/table"
}

main()
{
	choose_cache
	TREES=$OCEAN_CACHE/trees
	CACHED=no
	if [[ ${1:-} == --cached ]]; then
		BEGIN_SECONDS=${2:-}
		CACHED=yes
		choose_pg_config
		choose_cached_majors
	elif [[ $(id -u) != 0 ]]; then
		echo "test/versions.sh installs Debian in folders, which only root can do" >&2
		exit 1
	else
		install_missing versions
		MAJORS=("$@")
		(($# > 0)) || mapfile -t MAJORS < <(all_majors)
	fi
	((${#MAJORS[@]} == 0)) || test_majors
	print_sum
}

main "$@"
