# shellcheck shell=bash
#
# packages.sh
#	The packages that the project needs, in one list, and their installation.  Sourced
#	after private-server.sh, which knows how to find a server.
#
# Each line has the purpose, the Debian package, and a command that succeeds if nothing
# is missing, so that software from other sources counts, too.  "test" is for the unit
# tests and those on servers, "analysis" for all others.
NEEDS='
build    make                 command -v make
build    gcc                  command -v gcc
build    libc6-dev            compiles gcc stdio.h
build    pkg-config           command -v pkg-config
build    libcurl4-openssl-dev pkg-config --exists libcurl
build    libjson-c-dev        pkg-config --exists json-c
build    libidn2-dev          pkg-config --exists libidn2
build    libunistring-dev     compiles gcc unicase.h -lunistring
build    libmicrohttpd-dev    pkg-config --exists libmicrohttpd
test     openssl              command -v openssl
test     curl                 command -v curl
test     libipc-run-perl      perl -MIPC::Run -e 1
analysis valgrind             command -v valgrind
analysis clang                command -v clang
analysis libclang-rt-dev      compiles clang stdio.h -fsanitize=fuzzer-no-link,address
coverage lcov                 command -v lcov
proof    dpkg-dev             command -v dpkg-source
proof    bison                command -v bison
proof    flex                 command -v flex
indent   dpkg-dev             command -v dpkg-source
versions mmdebstrap           command -v mmdebstrap
static   clang                command -v clang
static   clang-tidy           command -v clang-tidy
static   clang-tools          command -v scan-build
static   cppcheck             command -v cppcheck
static   codespell            command -v codespell
citus    curl                 command -v curl
citus    jq                   command -v jq
contract npm                  command -v npm
contract curl                 command -v curl
contract jq                   command -v jq
package  git                  command -v git
package  unzip                command -v unzip
package  curl                 command -v curl
package  jq                   command -v jq
package  mmdebstrap           command -v mmdebstrap
package  debhelper            command -v dh
package  postgresql-server-dev-all test -e /usr/share/perl5/Debian/Debhelper/Sequence/pgxs.pm
'

# compiles COMPILER HEADER OPTIONS: true if a program compiles and links.
compiles()
{
	local compiler=$1 header=$2
	shift 2
	printf '#include <%s>\nint main(void) { return 0; }\n' "$header" |
		"$compiler" "$@" -x c -o /dev/null -
}

# missing_packages PURPOSE...: the packages to install, one per line.
missing_packages()
{
	local purpose package check
	while read -r purpose package check; do
		[[ " $* " == *" $purpose "* ]] || continue
		# Our own list: a command and its arguments.
		# shellcheck disable=SC2086
		$check > /dev/null 2>&1 < /dev/null || echo "$package"
	done <<< "$NEEDS"
	choose_pg_config || missing_server_packages
}

# The headers for an installed server, or else a server and headers of the
# distribution's default version.
missing_server_packages()
{
	local server major
	server=$(printf '%s\n' /usr/lib/postgresql/*/bin/postgres | sort -V | tail -n 1)
	if [[ -x $server ]]; then
		major=$(basename "${server%/bin/postgres}")
	else
		major=$(apt-cache depends postgresql 2> /dev/null |
			sed -n 's/.*Depends: postgresql-\([0-9]*\)$/\1/p')
		echo "postgresql${major:+-$major}"
	fi
	echo "postgresql-server-dev-${major:-all}"
}

# install_missing PURPOSE...: fails with instructions if a package is missing and
# cannot be installed.
install_missing()
{
	local missing root=()
	if [[ -n ${PG_CONFIG:-} ]] && ! usable_pg_config "$PG_CONFIG"; then
		echo "PG_CONFIG=$PG_CONFIG is not of a server with headers" >&2
		return 1
	fi
	missing=$(missing_packages "$@" | xargs)
	[[ -n $missing ]] || return 0

	echo "missing packages: $missing"
	if [[ $(id -u) != 0 ]]; then
		root=(sudo -n)
	fi
	if ! command -v apt-get > /dev/null || ! "${root[@]}" true 2> /dev/null; then
		echo "Please install them, for example as root:" \
			"apt-get install --no-install-recommends $missing" >&2
		return 1
	fi

	echo "installing them, which may take a few minutes"
	"${root[@]}" apt-get update > /dev/null
	# Only now are the names of the server's packages certain.
	missing=$(missing_packages "$@" | xargs)
	# shellcheck disable=SC2086
	"${root[@]}" env DEBIAN_FRONTEND=noninteractive \
		apt-get install --yes --no-install-recommends $missing > /dev/null
	missing=$(missing_packages "$@" | xargs)
	[[ -z $missing ]] || {
		echo "still missing after the installation: $missing" >&2
		return 1
	}
}
