#!/bin/sh
#
# enrich.sh
#	Runs in a minimal Debian with our package: makes a server and runs the statements
#	of the package's quickstart.sql.
#
#	enrich.sh URL	of the API

set -eu

bin=$(echo /usr/lib/postgresql/*/bin)
data=/tmp/data
PGHOST=/tmp
export PGHOST

"$bin/initdb" --pgdata="$data" --auth=trust --no-sync
echo sandbox-token > "$data/token"
chmod 0600 "$data/token"
cat >> "$data/postgresql.conf" <<END
listen_addresses = ''
unix_socket_directories = '/tmp'
session_preload_libraries = 'ocean_enrich'
ocean_enrich.api_url = '$1'
ocean_enrich.api_token_file = '$data/token'
END
"$bin/pg_ctl" --pgdata="$data" --wait --log=/tmp/server.log start || {
	cat /tmp/server.log
	exit 1
}
"$bin/psql" --no-psqlrc --dbname=postgres \
	--file="$(echo /usr/share/doc/postgresql-*-ocean-enrich/examples/quickstart.sql)"
enriched=$("$bin/psql" --no-psqlrc --dbname=postgres --tuples-only --no-align \
	--command='SELECT count(enriched) FROM contacts')
"$bin/pg_ctl" --pgdata="$data" --wait stop
echo "enriched: $enriched"
test "$enriched" = 6
