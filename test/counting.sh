# shellcheck shell=bash
#
# counting.sh
#	Single tests in a shell, and their sum.  Sourced by test/contract/run.sh and
#	test/citus/run.sh.

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

# The last line; false if a test failed.
sum_up()
{
	echo "$PASSED passed, $FAILED failed"
	((FAILED == 0))
}
