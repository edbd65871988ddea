# shellcheck shell=bash
#
# counting.sh
#	Counts tests in a shell script, and those of other test programs.  Sourced by
#	test/contract/run.sh, test/citus/run.sh, test/indent.sh, test/analyze.sh and
#	.ci/run.

PASSED=0
FAILED=0

# is NAME FOUND EXPECTED
is()
{
	if [[ $2 == "$3" ]]; then
		((++PASSED))
		echo "ok - $1"
	else
		((++FAILED))
		echo "not ok - $1"
		echo "#   found    $2"
		echo "#   expected $3"
	fi
}

# add_sum_of COMMAND...: shows its output, whose last line has to be its sum, and adds
# that.
add_sum_of()
{
	local line last='' status=0
	while IFS= read -r line || [[ -n $line ]]; do
		printf '%s\n' "$line"
		last=$line
	done < <("$@")
	wait $! || status=$?
	if [[ $last =~ ^([0-9]+)' passed, '([0-9]+)' failed'$ ]]; then
		((PASSED += BASH_REMATCH[1], FAILED += BASH_REMATCH[2])) || true
		((status == 0 || BASH_REMATCH[2] > 0)) || ((++FAILED))
	else
		((++FAILED))
	fi
}

# Prints the sum as the last line.  False if a test failed.
sum_up()
{
	echo "$PASSED passed, $FAILED failed"
	((FAILED == 0))
}
