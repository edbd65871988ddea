#!/bin/sh
#
# postgres.sh
#	Stands in for the program "postgres" of the server that check.sh builds for
#	valgrind.  Servers run under valgrind; what initdb and others start, as it is:
#	that takes minutes otherwise, and nothing of ours takes part.
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
