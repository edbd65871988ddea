# shellcheck shell=bash
#
# private-server.sh
#	A private PostgreSQL server in a folder, which does not touch the system's servers
#	or their files.  The extension is staged in that folder instead of being installed.
#	Sourced by quickstart.sh, test/run.sh and test/coverage.sh.
#
# The server only listens on a Unix socket, in a directory that only its owner (and
# root) can enter; so "trust" in pg_hba.conf is safe.  The port is only part of the
# socket's name.
#
# The folder has data/, socket/, stage/, server.conf and server.log.  It belongs to the
# user that the server runs as: the caller or, if that is root, an unprivileged user,
# since PostgreSQL refuses to run as root.

# Unset variables that could lead to another server.
for variable in "${!PG@}"; do
	[[ $variable == PG_* ]] || unset "$variable"
done
unset variable

SERVER_PORT=5432

# Sets SERVER_USER; "${AS_SERVER_USER[@]}" COMMAND runs a command as that user.  Called
# after PostgreSQL's packages, which create its user, are installed.
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

# server_user_reaches FOLDER: true if the server's user can enter it by its full name.
server_user_reaches()
{
	(cd / && "${AS_SERVER_USER[@]}" test -x "$1")
}

# make_server_folder FOLDER: for the server's user, unless it exists.
make_server_folder()
{
	install -d -m 0700 -o "$SERVER_USER" -g "$(id -gn "$SERVER_USER")" "$1"
}

# usable_pg_config PG-CONFIG: true if it is of a complete server with headers.
usable_pg_config()
{
	local bindir
	bindir=$("$1" --bindir 2> /dev/null) &&
		[[ -x $bindir/postgres && -x $bindir/initdb ]] &&
		[[ -e $("$1" --pgxs) && -e $("$1" --includedir-server)/postgres.h ]]
}

# Sets PG_CONFIG, unless it is given, to that of the newest server.  Fails if there is
# none.
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

# pg_program NAME: the path of a program of the chosen server.
pg_program()
{
	printf '%s/%s\n' "$("$PG_CONFIG" --bindir)" "$1"
}

pg_major()
{
	"$PG_CONFIG" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/'
}

# stage_extension STAGE: runs "make install" below STAGE instead of below "/".
stage_extension()
{
	rm -rf "$1" &&
		make --silent --no-print-directory install DESTDIR="$1" PG_CONFIG="$PG_CONFIG" &&
		chmod -R a+rX "$1"
}

# stage_settings STAGE: prints the settings by which a server finds the staged extension.
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
		echo "this server cannot load an extension from another folder:" \
			"that needs PostgreSQL 18, or a package of Debian or Ubuntu" >&2
		return 1
	fi
}

# server_knows SETTING: true if the chosen server has it.
server_knows()
{
	(cd / && "${AS_SERVER_USER[@]}" "$(pg_program postgres)" -C "$1" -D / \
		-c config_file=/dev/null) > /dev/null 2>&1
}

# make_server FOLDER INITDB-OPTIONS: makes a server that loads the extension from
# FOLDER/stage and reads FOLDER/server.conf, which the caller writes.
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

# server_runs FOLDER: after a crash the pid may belong to another process, but only a
# postmaster has the data directory as its working directory.
server_runs()
{
	local pid
	pid=$(server_pid "$1") && [[ /proc/$pid/cwd -ef $1/data ]]
}

server_pid()
{
	[[ -s $1/data/postmaster.pid ]] && head -n 1 "$1/data/postmaster.pid"
}

# server_control FOLDER ARGUMENTS: runs pg_ctl.
server_control()
{
	local folder=$1
	shift
	(cd "$folder" && "${AS_SERVER_USER[@]}" "$(pg_program pg_ctl)" --silent \
		--pgdata="$folder/data" "$@" < /dev/null)
}

# start_server FOLDER: unless it is running.
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

# stop_server FOLDER: if it is running.
stop_server()
{
	! server_runs "$1" || server_control "$1" stop --wait --mode=fast
}

# server_psql FOLDER ARGUMENTS: runs psql as the server's superuser, unless the arguments
# name another user.
server_psql()
{
	local folder=$1
	shift
	PGHOST=$folder/socket PGPORT=$SERVER_PORT PGUSER=postgres \
		"$(pg_program psql)" "$@"
}

# start_sandbox PROGRAM FOLDER PORT: starts the sandbox API, which exits with the server
# in FOLDER.  PORT 0 is a free one.  FOLDER/sandbox.port then has its port.
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

# stop_sandbox PROGRAM FOLDER: and waits until its port is free.
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
