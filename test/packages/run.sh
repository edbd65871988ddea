#!/usr/bin/env bash
#
# run.sh
#	Makes the release of HEAD and its Debian packages, and tests them: the release has
#	exactly the files it should have, packages built in different environments are
#	identical, and a package enriches rows and passes debian/tests in a minimal Debian
#	with only the package and its dependencies.
#
#	test/packages/run.sh	the packages are in build/packages afterwards
#
# Only root can make that Debian; it is kept in $OCEAN_CACHE
# (/var/cache/ocean_enrich).  The log is in build/packages/log.  The last line is the
# sum: "N passed, N failed".

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# shellcheck source=test/private-server.sh
. test/private-server.sh
# shellcheck source=test/packages.sh
. test/packages.sh
# shellcheck source=test/debian.sh
. test/debian.sh

OUT=$PWD/build/packages
LOG=$OUT/log
MAX_SECONDS=900
PASSED=0
FAILED=0

# check NAME COMMAND...: COMMAND is not run in a condition, where bash would not stop
# at its first step that fails.
check()
{
	local name=$1 status
	shift
	echo "# $name" >> "$LOG"
	set +e
	(
		set -e
		"$@"
	) >> "$LOG" 2>&1 < /dev/null
	status=$?
	set -e
	if ((status == 0)); then
		((++PASSED))
		echo "ok - $name"
	else
		((++FAILED))
		echo "not ok - $name"
	fi
}

# The same files as in git, and so no files that were built.
holds_what_git_has()
{
	diff <(git ls-files | grep -vE '^(\.ci/|\.gitattributes$)' | sort) \
		<(unzip -Z1 "$RELEASE.zip" | sed "s|^$(basename "$RELEASE")/||" |
			grep -v '/$' | grep . | sort)
}

no_build_products()
{
	! unzip -Z1 "$RELEASE.zip" | grep -E '\.(o|so|bc|a|deb|zip|log|out\.diff)$|/build/'
}

release_is_consistent()
{
	perl test/packages/check_release.pl "$FOLDER/a/$(basename "$RELEASE")"
}

# build_packages NAME VARIABLES...: from the release, in a folder of that name.
build_packages()
{
	local folder=$FOLDER/$1
	shift
	mkdir -p "$folder"
	unzip -q "$RELEASE.zip" -d "$folder"
	cd "$folder/$(basename "$RELEASE")"
	timeout "$MAX_SECONDS" env PG_UPDATECONTROL=yes "$@" \
		dpkg-buildpackage --build=binary --unsigned-source --unsigned-changes
}

# Two builds in environments that should not make a difference.
build_here()
{
	build_packages a LC_ALL=C TZ=UTC
}

build_elsewhere()
{
	umask 0027
	build_packages "b/with/a/longer/path" LC_ALL=C.UTF-8 TZ=Pacific/Auckland \
		DEB_BUILD_OPTIONS=parallel=1
}

hashes()
{
	(cd "$1" && sha256sum -- *.deb)
}

packages_are_the_same()
{
	hashes "$FOLDER/a"
	diff <(hashes "$FOLDER/a") <(hashes "$FOLDER/b/with/a/longer/path")
}

# The machine's sources of Debian packages, including security updates.
machine_sources()
{
	apt-get indextargets \
		--format "deb [signed-by=$DEBIAN_KEYRING] \$(REPO_URI) \$(RELEASE) \$(COMPONENT)" \
		'Created-By: Packages' 'Origin: Debian'
}

# A minimal Debian of the machine's release.
make_tree()
{
	local release
	release=$(. /etc/os-release && echo "$VERSION_CODENAME")
	machine_sources > "$FOLDER/sources.list"
	rm -rf --one-file-system "$TREE"
	timeout "$MAX_SECONDS" mmdebstrap --mode=root --variant=minbase \
		--aptopt='APT::Install-Recommends "false"' \
		--setup-hook='mkdir -p "$1"/etc/postgresql-common' \
		--setup-hook='echo "create_main_cluster = false" > "$1"/etc/postgresql-common/createcluster.conf' \
		"$release" "$TREE" "$FOLDER/sources.list"
	touch "$TREE/complete"
}

have_tree()
{
	[[ -e $TREE/complete ]] || make_tree
	cp --archive "$TREE" "$FOLDER/tree"
}

# tree_ids USER: the numeric ids, since chroot might look up names outside the tree.
tree_ids()
{
	awk -F: -v user="$1" '$1 == user { print $3 ":" $4 }' "$FOLDER/tree/etc/passwd"
}

# in_tree USER COMMAND...: all its processes and its /proc end with it; nothing else is
# mounted.
in_tree()
{
	local user=$1
	shift
	timeout --kill-after=10 "$MAX_SECONDS" unshare --pid --ipc --mount --fork --kill-child \
		--mount-proc="$FOLDER/tree/proc" \
		chroot --userspec="$(tree_ids "$user")" "$FOLDER/tree" \
		env -i PATH=/usr/bin:/bin:/usr/sbin:/sbin HOME=/tmp LC_ALL=C.UTF-8 \
		DEBIAN_FRONTEND=noninteractive sh -c 'cd /tmp && exec "$@"' sh "$@"
}

# Downloaded packages are kept for the next run.
apt_in_tree()
{
	in_tree root apt-get --yes --no-install-recommends "$@"
	cp --no-clobber "$FOLDER"/tree/var/cache/apt/archives/*.deb \
		"$TREE/var/cache/apt/archives"
}

install_package()
{
	cp "$OUT"/postgresql-*[0-9]-ocean-enrich_*.deb "$FOLDER/tree/tmp"
	in_tree root apt-get update
	apt_in_tree install "/tmp/$(basename "$OUT"/postgresql-*[0-9]-ocean-enrich_*.deb)"
}

# The sandbox is not in the package.  It runs outside the tree and ends with this
# script.
start_sandbox_beside()
{
	make --silent PG_CONFIG="$PG_CONFIG" sandbox
	test/sandbox/build/ocean-sandbox --port 0 --port-file "$FOLDER/port" \
		--until-pid $$ &
	until [[ -s $FOLDER/port ]]; do
		kill -0 $!
		sleep 0.1
	done
}

# The statements that a reader of the package's documents would run.
enriches_rows()
{
	local charges
	cp test/packages/enrich.sh "$FOLDER/tree/tmp/"
	in_tree postgres sh enrich.sh "http://127.0.0.1:$(cat "$FOLDER/port")"
	charges=$(curl --silent --fail "http://127.0.0.1:$(cat "$FOLDER/port")/sandbox/books" |
		jq .charges)
	echo "paid: $charges"
	[[ $charges == 6 ]]
}

# Checks links in the installed documents, except for links to src/ and test/, which
# are not installed.
links_are_valid()
{
	local file target lost=()
	cd "$FOLDER"/tree/usr/share/doc/postgresql-*-ocean-enrich
	while IFS=: read -r file target; do
		[[ $target == *src/* || $target == *test/* || -e $(dirname "$file")/$target ]] ||
			lost+=("$file: $target")
	done < <(grep --recursive --only-matching --perl-regexp --include='*.md' \
		'\]\(\K[^)#:]+(?=[)#])' .)
	printf '%s\n' "${lost[@]}"
	((${#lost[@]} == 0))
}

# Runs debian/tests like autopkgtest, with their dependencies: "@" is the package,
# "@builddeps@" are its build dependencies.
package_tests_pass()
{
	local sources=$FOLDER/tree/tmp/sources test
	unzip -q "$RELEASE.zip" -d "$FOLDER/tree/tmp"
	mv "$FOLDER/tree/tmp/$(basename "$RELEASE")" "$sources"
	chown --recursive "$(tree_ids postgres)" "$sources"
	apt_in_tree build-dep ./sources
	apt_in_tree satisfy "$(sed -n 's/^Depends: @, @builddeps@, //p' "$sources/debian/tests/control")"
	for test in $(sed -n 's/^Tests: //p' "$sources/debian/tests/control"); do
		in_tree postgres sh -c 'cd sources && exec "debian/tests/$1"' sh "$test"
	done
}

leaves_nothing()
{
	in_tree root sh -c 'apt-get purge --yes "postgresql-*-ocean-enrich"'
	[[ -z $(cd "$FOLDER/tree" && find usr etc var -iname '*ocean*enrich*' \
		! -path 'var/cache/*' ! -path 'var/lib/dpkg/info/*') ]]
}

main()
{
	if [[ $(id -u) != 0 ]]; then
		echo "test/packages/run.sh installs a Debian in a folder, which only root can do" >&2
		exit 1
	fi
	install_missing build package
	choose_pg_config
	choose_cache
	TREE=$OCEAN_CACHE/trees/minimal
	mkdir -p "$OCEAN_CACHE/trees"
	rm -rf "$OUT"
	mkdir -p "$OUT"
	FOLDER=$(mktemp -d "${TMPDIR:-/tmp}/ocean_enrich.XXXXXX")
	trap 'rm -rf --one-file-system "$FOLDER"' EXIT

	[[ -z $(git status --porcelain) ]] ||
		echo "uncommitted changes are not tested, only HEAD"
	RELEASE=$PWD/build/ocean_enrich-$(jq --raw-output .version META.json)
	rm -f "$RELEASE.zip"
	check 'a release is made' make --silent PG_CONFIG="$PG_CONFIG" dist
	check 'it has the files of git' holds_what_git_has
	check 'it has no build products' no_build_products
	perl -MPGXN::Meta::Validator -e 1 2> /dev/null ||
		echo "PGXN::Meta::Validator is not installed: META.json is only checked by our own rules"
	check 'packages can be built' build_here
	check 'they can be built elsewhere' build_elsewhere
	check 'META.json of the release is valid' release_is_consistent
	check 'both builds give the same packages' packages_are_the_same
	cp "$FOLDER"/a/*.deb "$OUT"
	check 'there is a minimal Debian' have_tree
	check 'the package can be installed there' install_package
	check 'the links in its documents are valid' links_are_valid
	check 'the sandbox runs' start_sandbox_beside
	check 'the extension enriches rows there' enriches_rows
	check 'the tests of the package pass there' package_tests_pass
	check 'the package can be purged' leaves_nothing

	((FAILED == 0)) || tail -n 40 "$LOG"
	echo "$PASSED passed, $FAILED failed"
	((FAILED == 0))
}

main "$@"
