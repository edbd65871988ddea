# retries.pl
#	What surely was not processed is tried again, within the limits that are set
#	for that; a Retry-After stops the whole account, in every session and beyond a
#	restart.

use strict;
use warnings FATAL => 'all';

use OceanTest
  qw(node enrich fails worker_pid wait_until wait_for_ledger books_agree);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);

# What the ledger and the sandbox say of a call.
sub receipt
{
	my ($email) = @_;
	my $ledger = $node->safe_psql(
		'postgres', qq{
		SELECT state, attempts, credits FROM ocean_enrich.call
		WHERE request #>> '{person,email}' = '$email'});
	my $person = $sandbox->books(identity => $email)->{people}{$email};
	return "$ledger; $person->{requests} requests, $person->{charges} charges";
}

# What is over after a try

foreach my $status (429, 502, 503)
{
	my $email = "sb-once-$status.anna\@example.com";
	like($node->safe_psql('postgres', 'SELECT ' . enrich($email)),
		qr/^\{/, "$status once: the call succeeds");
	is(receipt($email), 'answered|2|3; 2 requests, 1 charges',
		"$status once: it was tried twice and paid once");
}

# What is not

my $quick = q{SET ocean_enrich.retry_wait_max = '20ms';};
foreach my $case ([ 429, 'OE429' ], [ 502, 'OE500' ], [ 503, 'OE500' ])
{
	my ($status, $sqlstate) = @$case;
	my $email = "sb-status-$status.berta\@example.com";
	fails($node, "$quick SELECT " . enrich($email),
		qr/$sqlstate/, "$status always: the call fails");
	is(receipt($email), 'failed|4|; 4 requests, 0 charges',
		"$status always: it was tried as often as allowed");

	$email = "sb-once-$status.carla\@example.com";
	fails($node, 'SET ocean_enrich.max_retries = 0; SELECT ' . enrich($email),
		qr/$sqlstate/, "$status without retries: the call fails");
	is(receipt($email), 'failed|1|; 1 requests, 0 charges',
		"$status without retries: it was tried once");
	like($node->safe_psql('postgres', 'SELECT ' . enrich($email)),
		qr/^\{/, "$status without retries: the same call again succeeds");
}
books_agree($node, $sandbox, 'retries');

# A Retry-After, as seconds and as a date, holds up another session, too: its
# request goes when the pause is over.

foreach my $fault ('retryafter-1', 'retrydate-2')
{
	fails(
		$node,
		'SET ocean_enrich.max_retries = 0; SELECT '
		  . enrich("sb-$fault.dora\@example.com"),
		qr/OE429: Too many requests/,
		"$fault: the call fails");
	my $email = "after.$fault\@example.com";
	like($node->safe_psql('postgres', 'SELECT ' . enrich($email)),
		qr/^\{/, "$fault: another call succeeds");
	is( $node->safe_psql(
			'postgres', qq{
			SELECT later.sent_at >= earlier.next_attempt_at,
				earlier.next_attempt_at > earlier.answered_at
			FROM ocean_enrich.call AS earlier, ocean_enrich.call AS later
			WHERE earlier.request #>> '{person,email}' LIKE 'sb-$fault%'
				AND later.request #>> '{person,email}' = '$email'}),
		't|t',
		"$fault: it waited as long as it was told to");
}

# Who waits for the next try can give up, and then there is none.

$sandbox->config(retry_after_s => 1);
# There is a second for it, which two sessions one after the other may miss.
my $canceller = OceanTest::Query->start(
	$node, q{
	DO $$
	BEGIN
		WHILE NOT EXISTS (SELECT FROM ocean_enrich.call
			WHERE request #>> '{person,email}' = 'sb-once-429.emma@example.com'
				AND state = 'failed' AND next_attempt_at > clock_timestamp()) LOOP
			PERFORM pg_sleep(0.001);
		END LOOP;
		PERFORM pg_cancel_backend(pid) FROM ocean_enrich.in_flight();
	END $$});
my $query = OceanTest::Query->start($node,
	'SELECT ' . enrich('sb-once-429.emma@example.com'));
is(($canceller->finish)[1], '', 'cancel between two tries: there was time for it');
like(($query->finish)[1], qr/57014/, 'cancel between two tries');
like($node->safe_psql('postgres', 'SELECT ' . enrich('emma@example.com')),
	qr/^\{/, 'cancel between two tries: a later call succeeds');
is(receipt('sb-once-429.emma@example.com'), 'failed|1|; 1 requests, 0 charges',
	'cancel between two tries: there was no other one');

# What is still tried for a session is not for the queue.

$sandbox->config(retry_after_s => 2);
my $retrier = OceanTest::Query->start(
	$node, q{
	CREATE FUNCTION retried() RETURNS boolean LANGUAGE plpgsql AS $$
	DECLARE
		id bigint;
	BEGIN
		LOOP
			SELECT call_id INTO id FROM ocean_enrich.call
			WHERE request #>> '{person,email}' = 'sb-once-429.ida@example.com'
				AND state = 'failed' AND next_attempt_at > clock_timestamp();
			EXIT WHEN FOUND;
			PERFORM pg_sleep(0.001);
		END LOOP;
		RETURN ocean_enrich.retry(id);
	END $$;
	SELECT retried()});
like($node->safe_psql('postgres', 'SELECT ' . enrich('sb-once-429.ida@example.com')),
	qr/^\{/, 'retry() between two tries: the call succeeds');
is(($retrier->finish)[0], 'f', 'retry() between two tries: false');
is(receipt('sb-once-429.ida@example.com'), 'answered|2|3; 2 requests, 1 charges',
	'retry() between two tries: it was sent no more often');
is($node->safe_psql('postgres', 'SELECT waiting FROM ocean_enrich.queue_status'), 0,
	'retry() between two tries: nothing is in the queue');
is($node->safe_psql('postgres', q{
		BEGIN;
		SELECT ocean_enrich.retry(call_id) FROM ocean_enrich.call
		WHERE request #>> '{person,email}' = 'sb-status-429.berta@example.com';
		ROLLBACK}),
	't', 'retry() after the last one: true');
$sandbox->config(retry_after_s => undef);

# A worker that ends does not wait for the next try either.

$query = OceanTest::Query->start($node,
	'SELECT ' . enrich('sb-retryafter-50.frida@example.com'));
wait_until(
	$node, q{
	SELECT state = 'failed' FROM ocean_enrich.call
	WHERE request #>> '{person,email}' = 'sb-retryafter-50.frida@example.com'});
$node->safe_psql('postgres',
	'SELECT pg_terminate_backend(' . worker_pid($node) . ')');
like(($query->finish)[1],
	qr/OE429: Too many requests/, 'end of the worker between two tries');

# The pause of 50 seconds outlives that worker, and the server.

foreach my $restart (0, 1)
{
	$node->restart if $restart;
	$query =
	  OceanTest::Query->start($node, 'SELECT ' . enrich('gerda@example.com'));
	wait_until($node,
		q{SELECT state = 'waiting' FROM ocean_enrich.in_flight()});
	$node->safe_psql('postgres',
		'SELECT pg_cancel_backend(pid) FROM ocean_enrich.in_flight()');
	like(($query->finish)[1], qr/57014/, 'a new worker knows the pause');
}
fails(
	$node, qq{
	\\set ON_ERROR_STOP 0
	SET statement_timeout = '200ms';
	SELECT @{[ enrich('gerda\@example.com') ]};
	RESET statement_timeout;
	\\set ON_ERROR_STOP 1
	SET ocean_enrich.retry_wait_max = '20s';
	SELECT @{[ enrich('gerda\@example.com') ]}},
	qr/57014: .*OE429: the API asks for a pause\n.*\nHINT: /s,
	'a call that may not wait so long fails at once, even after an equal one that might');
is(receipt('gerda@example.com'), '; 0 requests, 0 charges', 'neither was sent');

# Another account is not concerned.

my $other_account =
  "SET ocean_enrich.api_url = 'http://localhost:@{[ $sandbox->port ]}';";
like($node->safe_psql('postgres', "$other_account SELECT " . enrich('gerda@example.com')),
	qr/^\{/, 'another account is not paused');
fails(
	$node,
	"$other_account SELECT " . enrich('sb-retryafter-3600.helga@example.com'),
	qr/OE429: Too many requests/,
	'a Retry-After beyond retry_wait_max is not waited for');
is(receipt('sb-retryafter-3600.helga@example.com'),
	'failed|1|; 1 requests, 0 charges', 'it was tried once');
books_agree($node, $sandbox, 'Retry-After');

done_testing();
