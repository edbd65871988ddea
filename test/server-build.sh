# shellcheck shell=bash
#
# server-build.sh
#	Builds servers from Debian's source packages with the options a test needs, and
#	keeps them in the cache.  Sourced by test/proof/prove.sh and
#	test/sanitizers/check.sh after choose_cache(); LOGS is the caller's folder for logs.
#
# A server is a folder below SERVERS with source/, installed/ and, when it is ready to
# use, the file "complete".

# shellcheck source=test/debian.sh
. test/debian.sh

SERVERS=$OCEAN_CACHE/servers

# logged NAME COMMAND...: writes its output to a log and shows it only if it fails.
logged()
{
	local log=$LOGS/$1.log
	shift
	"$@" > "$log" 2>&1 < /dev/null || {
		tail -n 40 "$log" >&2
		return 1
	}
}

# PostgreSQL's makefiles behave differently when called by another make.
plain_make()
{
	env -u MAKEFLAGS -u MAKELEVEL make --silent --no-print-directory "$@"
}

# For several Debian releases, since each has different majors.
make_apt()
{
	make_own_apt "$SERVERS/apt" deb-src bookworm trixie forky sid experimental
}

newest_version()
{
	own_apt "$SERVERS/apt" apt-cache --only-source showsrc "postgresql-$1" 2> /dev/null |
		sed -n 's/^Version: //p' | sort -V | tail -n 1
}

# get_source NAME MAJOR: into SERVERS/NAME.  Fails if it is not available; a release may
# list a version that its mirror no longer has.
#
# All of Debian's patches are applied, except for the one that fixes the folders.
get_source()
{
	local version folder=$SERVERS/$1
	version=$(newest_version "$2")
	[[ -n $version ]] || return
	echo "getting the source of PostgreSQL $version"
	rm -rf "$folder"
	mkdir -p "$folder/packages"
	(
		cd "$folder/packages" &&
			logged source own_apt "$SERVERS/apt" apt-get source --quiet \
				--only-source --download-only "postgresql-$2=$version" &&
			logged extract dpkg-source --no-copy --extract ./*.dsc ../source &&
			cd ../source &&
			logged patch patch --reverse --strip=1 \
				--input=debian/patches/50-per-version-dirs.patch
	) || {
		echo "the source is not available"
		rm -rf "$folder"
		return 1
	}
}

# build_server NAME CONFIGURE-ARGUMENTS: with assertions, and with few features so that
# it needs few packages.
build_server()
{
	local folder=$SERVERS/$1
	shift
	echo "building it with assertions, which takes a few minutes"
	(
		cd "$folder/source" &&
			logged configure ./configure --prefix="$folder/installed" \
				--enable-cassert --enable-tap-tests \
				--without-icu --without-readline --without-zlib "$@" &&
			logged build plain_make --jobs="$(nproc)" all &&
			logged install plain_make install
	) && rm -rf "$folder/packages" && touch "$folder/complete"
}

# make_server NAME MAJOR CONFIGURE-ARGUMENTS: unless it exists.
make_server()
{
	local name=$1 major=$2
	shift 2
	[[ -e $SERVERS/$name/complete ]] || {
		make_apt && get_source "$name" "$major" && build_server "$name" "$@"
	}
}
