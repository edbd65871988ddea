#!/usr/bin/env bash
#
# quickstart.sh
#	From a fresh clone to enriched rows in a table, on a private PostgreSQL in the
#	folder quickstart/, without touching any other server or user.
#
#	./quickstart.sh						build, start, run the demonstration
#	./quickstart.sh psql [ARGUMENTS]	run psql; standard input works, too
#	./quickstart.sh stop				stop the server; the data is kept
#
# The API is a sandbox on this machine, which costs nothing.  With OCEAN_API_TOKEN
# in the environment it is the real one, which costs credits; each of them has a
# database of its own.
#
# If root runs this, the server belongs to an unprivileged user, since PostgreSQL
# refuses to run as root.  If the server cannot be in the project's folder, for
# example because that user cannot enter it, it is below /var/tmp, and
# quickstart/server is a link to it.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# The token is only written to the server's file.  Programs started here do not get
# it in their environment.
TOKEN=${OCEAN_API_TOKEN:-}
unset OCEAN_API_TOKEN

# shellcheck source=test/private-server.sh
. test/private-server.sh
# shellcheck source=test/packages.sh
. test/packages.sh

FOLDER=quickstart
LOG=$FOLDER/quickstart.log
# The maximum cost of the seven people in the demonstration that can be looked up,
# at 3 credits each.
MOST_CREDITS=21
STEPS=6
STEP=0

step()
{
	STEP=$((STEP + 1))
	echo "[$STEP/$STEPS] $*"
}

die()
{
	echo "quickstart.sh: $*" >&2
	exit 1
}

# Runs a noisy command and shows its output only if it fails.
quietly()
{
	"$@" >> "$LOG" 2>&1 < /dev/null || {
		tail -n 20 "$LOG" >&2
		die "this failed: $* (its whole output is in $PWD/$LOG)"
	}
}

# Sets PLACE to the server's folder.  False if there is none.
find_place()
{
	[[ -d $FOLDER/server ]] || return
	PLACE=$(cd "$FOLDER/server" && pwd -P) ||
		die "$(id -un) cannot enter $PWD/$FOLDER/server"
	[[ $(stat -c %U "$PLACE") == "$SERVER_USER" ]] ||
		die "$PLACE belongs to $(stat -c %U "$PLACE"), run this as that user"
}

is_running()
{
	find_place && server_runs "$PLACE"
}

# True if a server can be in this folder.  The name of its socket has to fit into
# 107 bytes, and some settings do not allow all characters.
suits_a_server()
{
	server_user_reaches "$1" && ((${#1} < 80)) && [[ $1 != *[^[:alnum:]/._-]* ]]
}

make_place()
{
	local place=$PWD/$FOLDER/server
	if find_place; then
		return
	fi
	if ! suits_a_server "$PWD/$FOLDER"; then
		rm -f "$place"
		ln -s "$(mktemp -d /var/tmp/ocean_enrich.XXXXXX)" "$place"
		place=$(readlink "$place")
	fi
	make_server_folder "$place"
	find_place
}

# The data of another major version cannot be used.
check_version()
{
	local made_by=$PLACE/data/PG_VERSION
	[[ ! -e $made_by || $(pg_major) == "$(cat "$made_by")" ]] ||
		die "the server in $PLACE was made by PostgreSQL $(cat "$made_by")," \
			"not by $("$PG_CONFIG" --version); remove it or set PG_CONFIG"
}

stop_both()
{
	stop_sandbox "$PLACE/stage/ocean-sandbox" "$PLACE" && stop_server "$PLACE"
}

build()
{
	quietly stop_both
	quietly make --silent --jobs="$(nproc)" PG_CONFIG="$PG_CONFIG" all sandbox
	quietly stage_extension "$PLACE/stage"
	quietly install -m 0755 test/sandbox/build/ocean-sandbox "$PLACE/stage/"
}

# Readable by the server's user alone, and never on a command line.
write_token()
{
	install -m 0600 -o "$SERVER_USER" /dev/null "$PLACE/token"
	printf '%s\n' "$1" > "$PLACE/token"
}

# The library is loaded at the start of each session, so that its settings are
# protected from the first statement on.
write_settings()
{
	printf '%s\n' \
		"session_preload_libraries = 'ocean_enrich'" \
		"ocean_enrich.api_token_file = '$PLACE/token'" "$@" \
		> "$PLACE/server.conf"
}

use_real_api()
{
	step "using the real API, with your token in a file that only the server reads"
	echo "      This costs at most $MOST_CREDITS credits, and the server is" \
		"limited to that many a day."
	write_token "$TOKEN"
	write_settings "ocean_enrich.credit_limit = $MOST_CREDITS"
	quietly start_server "$PLACE"
	echo ocean > "$PLACE/database"
}

# On the previous port if possible: for the extension another address is another
# account, whose answers it does not reuse.
start_sandbox_again()
{
	local program=$PLACE/stage/ocean-sandbox port=0
	if [[ -s $PLACE/sandbox.port ]]; then
		port=$(cat "$PLACE/sandbox.port")
	fi
	start_sandbox "$program" "$PLACE" "$port" || start_sandbox "$program" "$PLACE" 0
}

# The server is started first, since the sandbox exits with it.
use_sandbox()
{
	step "starting the sandbox API (OCEAN_API_TOKEN is not set, so this is free)"
	write_token sandbox-token
	write_settings
	quietly start_server "$PLACE"
	quietly start_sandbox_again
	write_settings \
		"ocean_enrich.api_url = 'http://127.0.0.1:$(cat "$PLACE/sandbox.port")'"
	quietly reload_server "$PLACE"
	echo sandbox > "$PLACE/database"
}

psql_here()
{
	PGDATABASE=$(cat "$PLACE/database") server_psql "$PLACE" "$@"
}

make_database()
{
	local database
	database=$(cat "$PLACE/database")
	if [[ -z $(PGDATABASE=postgres server_psql "$PLACE" --no-psqlrc -Atc \
		"SELECT 1 FROM pg_database WHERE datname = '$database'") ]]; then
		PGDATABASE=postgres quietly server_psql "$PLACE" --no-psqlrc \
			-c "CREATE DATABASE $database"
	fi
}

demonstrate()
{
	make_database
	PGOPTIONS="-c client_min_messages=warning" \
		psql_here --no-psqlrc --pset=pager=off --file=doc/quickstart.sql ||
		die "the demonstration failed; the server's log is $PLACE/server.log"
}

start()
{
	step "checking for required packages"
	install_missing build
	choose_pg_config
	choose_server_user

	mkdir -p "$FOLDER"
	: > "$LOG"
	make_place
	check_version

	step "building the extension and the sandbox for $("$PG_CONFIG" --version)"
	build

	step "preparing a private server in $PLACE"
	[[ -e $PLACE/data/PG_VERSION ]] || quietly make_server "$PLACE"

	if [[ -n $TOKEN ]]; then
		use_real_api
	else
		use_sandbox
	fi

	step "enriching a small table of invented people (doc/quickstart.sql)"
	demonstrate

	step "done; the server keeps running"
	cat <<-END
		      psql:    ./quickstart.sh psql
		               psql -h $PLACE/socket -U postgres $(cat "$PLACE/database")
		      again:   ./quickstart.sh        (a second run costs nothing)
		      stop:    ./quickstart.sh stop
		      remove:  ./quickstart.sh stop && rm -rf $(printf '%q ' "$PWD/$FOLDER")$(elsewhere)
	END
}

# Prints the server's folder if it is not below the project's.
elsewhere()
{
	[[ ! -L $FOLDER/server ]] || printf '%q' "$PLACE"
}

stop()
{
	choose_server_user
	if ! is_running; then
		echo "the server is not running"
		return
	fi
	choose_pg_config
	stop_both
	echo "stopped; the data is kept in $PLACE"
}

run_psql()
{
	choose_server_user
	is_running || die "the server is not running; ./quickstart.sh starts it"
	choose_pg_config
	psql_here "$@"
}

usage()
{
	sed -n '/^#	\.\//s/^#	//p' "${BASH_SOURCE[0]}"
}

case ${1:-start} in
	start) start ;;
	stop) stop ;;
	psql)
		shift
		run_psql "$@"
		;;
	-h | --help | help) usage ;;
	*)
		usage >&2
		exit 2
		;;
esac
