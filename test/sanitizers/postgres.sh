#!/bin/sh
#
# postgres.sh
#	Replaces the program "postgres" of the server that check.sh builds for valgrind.
#	Servers run under valgrind.  The processes of initdb and other programs do not,
#	since that would take minutes and they do not use our library.
#
# Each process writes a log to $OCEAN_REPORTS.

program=$0.unchecked

if [ -z "${OCEAN_REPORTS:-}" ]; then
	exec "$program" "$@"
fi
for argument; do
	case $argument in
		--boot | --check | --single | -V | --version | -C | --help)
			exec "$program" "$@"
			;;
	esac
done
exec valgrind --leak-check=no --error-markers=REPORT-BEGIN,REPORT-END \
	--show-error-list=yes --fullpath-after= --num-callers=40 \
	--suppressions="$OCEAN_SUPPRESSIONS" \
	--suppressions="$OCEAN_OWN_SUPPRESSIONS" \
	--log-file="$OCEAN_REPORTS/valgrind.%p" \
	"$program" "$@"
