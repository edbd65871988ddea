# shellcheck shell=bash
#
# private-server.sh
#	A PostgreSQL of our own in a folder: found, made, started and stopped
#	without touching the system's servers or their files.  The extension is
#	staged beside it instead of being installed.  Sourced by quickstart.sh,
#	test/run.sh and test/coverage.sh.
#
# The server listens on a Unix socket alone, in a directory that only its owner
# (and root) may enter; hence "trust" in pg_hba.conf gives nothing away.  The
# port is no more than part of the socket's name.
#
# A folder of ours holds data/, socket/, stage/, server.conf and server.log, and
# belongs to the user that the server runs as: the caller or, when that is root,
# which PostgreSQL refuses to run as, an unprivileged user.

# Whatever points to another server must not reach ours.
for variable in "${!PG@}"; do
	[[ $variable == PG_* ]] || unset "$variable"
done
unset variable

SERVER_PORT=5432

# Sets SERVER_USER; "${AS_SERVER_USER[@]}" COMMAND runs a command as that user.
# Called when PostgreSQL's packages, which make its user, are there.
choose_server_user()
{
	SERVER_USER=$(id -un)
	AS_SERVER_USER=()
	if [[ $(id -u) == 0 ]]; then
		SERVER_USER=nobody
		if id -u postgres > /dev/null 2>&1; then
			SERVER_USER=postgres
		fi
		AS_SERVER_USER=(setpriv --reuid="$SERVER_USER"
			--regid="$(id -gn "$SERVER_USER")" --clear-groups)
	fi
}

# May the server's user enter this folder, by its full name?
server_user_reaches()
{
	(cd / && "${AS_SERVER_USER[@]}" test -x "$1")
}

# A folder of the server's user; empty unless it was there before.
make_server_folder()
{
	install -d -m 0700 -o "$SERVER_USER" -g "$(id -gn "$SERVER_USER")" "$1"
}

# Is it a complete server, with what extensions are built with?
usable_pg_config()
{
	local bindir
	bindir=$("$1" --bindir 2> /dev/null) &&
		[[ -x $bindir/postgres && -x $bindir/initdb ]] &&
		[[ -e $("$1" --pgxs) && -e $("$1" --includedir-server)/postgres.h ]]
}

# Sets PG_CONFIG, unless it is given, to the newest server's; fails when there
# is none.
choose_pg_config()
{
	local candidate
	if [[ -n ${PG_CONFIG:-} ]]; then
		usable_pg_config "$PG_CONFIG"
		return
	fi
	PG_CONFIG=$(
		for candidate in "$(command -v pg_config)" \
			/usr/lib/postgresql/*/bin/pg_config /usr/pgsql-*/bin/pg_config; do
			if [[ -n $candidate ]] && usable_pg_config "$candidate"; then
				printf '%s %s\n' "$("$candidate" --version)" "$candidate"
			fi
		done | sort -V | tail -n 1 | awk '{ print $NF }')
	[[ -n $PG_CONFIG ]]
}

# The program of the chosen server.
pg_program()
{
	printf '%s/%s\n' "$("$PG_CONFIG" --bindir)" "$1"
}

pg_major()
{
	"$PG_CONFIG" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/'
}

# stage_extension STAGE: "make install" below STAGE instead of below "/".
stage_extension()
{
	rm -rf "$1" &&
		make --silent --no-print-directory install DESTDIR="$1" PG_CONFIG="$PG_CONFIG" &&
		chmod -R a+rX "$1"
}

# stage_settings STAGE: the settings by which a server finds what
# stage_extension() put there.
stage_settings()
{
	printf "dynamic_library_path = '%s:\$libdir'\n" \
		"$1$("$PG_CONFIG" --pkglibdir)"
	if server_knows extension_control_path; then
		printf "extension_control_path = '%s:\$system'\n" \
			"$1$("$PG_CONFIG" --sharedir)"
	elif server_knows extension_destdir; then
		printf "extension_destdir = '%s'\n" "$1"
	else
		echo "this server cannot load an extension from a folder of ours:" \
			"that needs PostgreSQL 18, or a package of Debian or Ubuntu" >&2
		return 1
	fi
}

# Does the chosen server have this setting?
server_knows()
{
	(cd / && "${AS_SERVER_USER[@]}" "$(pg_program postgres)" -C "$1" -D / \
		-c config_file=/dev/null) > /dev/null 2>&1
}

# make_server FOLDER INITDB-OPTIONS: a server in FOLDER that loads the extension
# from FOLDER/stage and reads FOLDER/server.conf, which the caller writes.
make_server()
{
	local folder=$1
	shift
	make_server_folder "$folder/socket" &&
		(cd "$folder" && "${AS_SERVER_USER[@]}" "$(pg_program initdb)" \
			--pgdata="$folder/data" --username=postgres --auth-local=trust \
			--auth-host=reject --encoding=UTF8 --locale=C "$@") || return
	{
		echo "listen_addresses = ''"
		echo "port = $SERVER_PORT"
		echo "unix_socket_directories = '$folder/socket'"
		stage_settings "$folder/stage" &&
			echo "include_if_exists = '$folder/server.conf'"
	} >> "$folder/data/postgresql.conf"
}

# server_runs FOLDER: a postmaster's working directory is its data directory,
# which no other process can have by chance; a pid can be anyone's after a crash.
server_runs()
{
	local pid
	pid=$(server_pid "$1") && [[ /proc/$pid/cwd -ef $1/data ]]
}

server_pid()
{
	[[ -s $1/data/postmaster.pid ]] && head -n 1 "$1/data/postmaster.pid"
}

# server_control FOLDER ARGUMENTS: pg_ctl
server_control()
{
	local folder=$1
	shift
	(cd "$folder" && "${AS_SERVER_USER[@]}" "$(pg_program pg_ctl)" --silent \
		--pgdata="$folder/data" "$@" < /dev/null)
}

# start_server FOLDER: unless it runs.
start_server()
{
	server_runs "$1" && return
	rm -f "$1/data/postmaster.pid"
	server_control "$1" start --wait --log="$1/server.log" || {
		tail -n 20 "$1/server.log"
		return 1
	}
}

reload_server()
{
	server_control "$1" reload
}

# stop_server FOLDER: if it runs.
stop_server()
{
	! server_runs "$1" || server_control "$1" stop --wait --mode=fast
}

# server_psql FOLDER ARGUMENTS: psql as the server's superuser, unless they say
# otherwise.
server_psql()
{
	local folder=$1
	shift
	PGHOST=$folder/socket PGPORT=$SERVER_PORT PGUSER=postgres \
		"$(pg_program psql)" "$@"
}

# start_sandbox PROGRAM FOLDER PORT: the sandbox API, as long as the server in
# FOLDER runs; PORT 0 is a free one.  Its port then stands in FOLDER/sandbox.port.
start_sandbox()
{
	local folder=$2 sandbox
	rm -f "$folder/sandbox.port"
	(
		cd "$folder" && exec "${AS_SERVER_USER[@]}" "$1" --port "$3" \
			--port-file "$folder/sandbox.port" \
			--until-pid "$(server_pid "$folder")"
	) > "$folder/sandbox.log" 2>&1 < /dev/null &
	sandbox=$!
	until [[ -s $folder/sandbox.port ]]; do
		kill -0 "$sandbox" 2> /dev/null || {
			cat "$folder/sandbox.log"
			return 1
		}
		sleep 0.1
	done
	echo "$sandbox" > "$folder/sandbox.pid"
}

# stop_sandbox PROGRAM FOLDER: at once; its port is free afterwards.
stop_sandbox()
{
	local pid
	[[ -s $2/sandbox.pid ]] || return 0
	pid=$(cat "$2/sandbox.pid")
	while [[ /proc/$pid/exe -ef $1 ]]; do
		kill "$pid" 2> /dev/null || true
		sleep 0.1
	done
	rm "$2/sandbox.pid"
}
