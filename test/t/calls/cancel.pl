# cancel.pl
#	A session that gives up waiting is free at once: by a cancel, a time-out, the end of
#	the session or of its client.  What was on the wire is recorded all the same,
#	and what was not sent yet never will be.

use strict;
use warnings FATAL => 'all';

use OceanTest
  qw(node enrich fails wait_until wait_for_ledger worker_pid patience slow_ms books_agree);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);

# Does what FUNCTION does to the one session that is enriching.
sub signal_session
{
	my ($function) = @_;
	return $node->safe_psql('postgres',
		"SELECT $function(pid) FROM ocean_enrich.in_flight()");
}

# How often the sandbox was asked for EMAIL.
sub requests
{
	my ($email) = @_;
	return $sandbox->books(identity => $email)->{people}{$email}{requests};
}

# Asks for EMAIL after SETTINGS, lets GIVE_UP end that while the request is held,
# and looks at what is left: the session has ERROR, the ledger has the answer.
sub give_up_on_wire
{
	my ($name, $email, $settings, $give_up, $error) = @_;
	$sandbox->config(hold => JSON::PP::true);
	my $query =
	  OceanTest::Query->start($node, "$settings SELECT " . enrich($email));
	$sandbox->wait(held => 1);
	$give_up->($query);
	if (defined $error)
	{
		my ($stdout, $stderr) = $query->finish;
		like($stderr, $error, "$name: the session is told");
		is($stdout, '', "$name: it has no person");
	}
	wait_until($node,
		q{SELECT state = 'abandoned' FROM ocean_enrich.in_flight()});
	pass("$name: the request stays on the wire");

	$sandbox->config(hold => JSON::PP::false);
	wait_for_ledger($node);
	is( $node->safe_psql(
			'postgres', q{
			SELECT state, credits, answer ->> 'id' <> ''
			FROM ocean_enrich.call ORDER BY call_id DESC LIMIT 1}),
		'answered|3|t',
		"$name: the answer is in the ledger");
	is($node->safe_psql('postgres', 'SELECT ' . enrich($email) . " ->> 'id' <> ''"),
		't', "$name: the same call again has its person");
	is(requests($email), 1, "$name: and asks nothing");
	books_agree($node, $sandbox, $name);
	return;
}

my $known = qr/DETAIL:  The request has been sent, or is about to be, and may be paid for: call \d+\.\nHINT:  What comes is recorded/;
give_up_on_wire(
	'cancel', 'anna@example.com', '',
	sub { signal_session('pg_cancel_backend') },
	qr/57014: canceling statement due to user request\n$known/);

# A second, or what lets a slow server send the request: twenty times what it takes
# to have an answer again.
my $again = enrich('anna@example.com');
give_up_on_wire(
	'time-out', 'berta@example.com',
	qq{
	DO \$\$
	DECLARE
		started timestamptz;
	BEGIN
		PERFORM $again;
		started := clock_timestamp();
		PERFORM $again;
		PERFORM set_config('statement_timeout', greatest(1000,
			20000 * extract(epoch FROM clock_timestamp() - started))::int::text, false);
	END \$\$;},
	sub { },
	qr/57014: canceling statement due to statement timeout\n$known/);

give_up_on_wire(
	'end of the session', 'carla@example.com', 'BEGIN;',
	sub { signal_session('pg_terminate_backend') },
	qr/57P01: terminating connection due to administrator command/);

give_up_on_wire(
	'end of the client', 'dora@example.com',
	q{SET client_connection_check_interval = '50ms';},
	sub { $_[0]->kill });

# How long a cancel takes.  One session calls and is cancelled again and again,
# another one cancels it as soon as it is on the wire, and both look at the clock.

my $rounds = 20;
$node->safe_psql(
	'postgres', q{
	CREATE TABLE cancelled (round int, at timestamptz);
	CREATE TABLE ended (round int, at timestamptz)});
$sandbox->config(hold => JSON::PP::true);
my $caller = OceanTest::Query->start(
	$node, qq{
	DO \$\$
	BEGIN
		FOR round IN 1..$rounds LOOP
			BEGIN
				PERFORM @{[ enrich(q{'round' || round || '@example.com'}) ]};
			EXCEPTION WHEN query_canceled THEN
				INSERT INTO ended VALUES (round, clock_timestamp());
			END;
			COMMIT;
		END LOOP;
	END \$\$});
$node->safe_psql(
	'postgres', qq{
	@{[ patience() ]}
	DO \$\$
	DECLARE
		session int;
	BEGIN
		FOR round IN 1..$rounds LOOP
			LOOP
				SELECT pid INTO session FROM ocean_enrich.in_flight()
				WHERE state = 'on the wire' AND call_id > 0;
				EXIT WHEN FOUND;
				PERFORM pg_sleep(0.001);
			END LOOP;
			INSERT INTO cancelled VALUES (round, clock_timestamp());
			PERFORM pg_cancel_backend(session);
			LOOP
				EXIT WHEN (SELECT count(*) FROM ended) >= round;
				PERFORM pg_sleep(0.001);
			END LOOP;
			COMMIT;
		END LOOP;
	END \$\$});
my ($stdout, $stderr) = $caller->finish;
is($stderr, '', 'each of many calls is cancelled');
my ($median, $longest) = split /\|/, $node->safe_psql(
	'postgres', q{
	SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ms)::numeric(9, 2), max(ms)::numeric(9, 2)
	FROM (SELECT 1000 * extract(epoch FROM ended.at - cancelled.at) AS ms
		FROM cancelled JOIN ended USING (round)) AS took});
note("from pg_cancel_backend() to the end of the call: $median ms (median), $longest ms (longest)");
cmp_ok($longest, '<', slow_ms(1000), 'a cancel does not wait for the answer');
$sandbox->config(hold => JSON::PP::false);
wait_for_ledger($node);
is( $node->safe_psql(
		'postgres', q{
		SELECT count(*) FROM ocean_enrich.call
		WHERE state = 'answered' AND request @? '$.person ? (@.email starts with "round")'}),
	$rounds,
	'all cancelled calls are recorded');
books_agree($node, $sandbox, 'many cancels');

# A cancel does not need the worker: it is answered while the worker stands still.

$sandbox->config(hold => JSON::PP::true);
my $query = OceanTest::Query->start($node, 'SELECT ' . enrich('emma@example.com'));
$sandbox->wait(held => 1);
my $worker = worker_pid($node);
kill 'STOP', $worker;
signal_session('pg_cancel_backend');
($stdout, $stderr) = $query->finish;
like($stderr, qr/57014/, 'a call is cancelled while the worker stands still');
kill 'CONT', $worker;
$sandbox->config(hold => JSON::PP::false);
wait_for_ledger($node);
is(requests('emma@example.com'), 1, 'it was sent once');
books_agree($node, $sandbox, 'standing worker');

# What waits for the rate limit is not sent when it is cancelled.

my $waiting_call =
  'SET ocean_enrich.rate_limit = 1; SELECT ' . enrich('frida@example.com');
$query = OceanTest::Query->start($node, $waiting_call);
wait_until($node, q{SELECT state = 'waiting' FROM ocean_enrich.in_flight()});
signal_session('pg_cancel_backend');
($stdout, $stderr) = $query->finish;
like($stderr, qr/57014: .*\nDETAIL:  The request was not sent\.\n(?!HINT)/, 'a call that waits for the rate limit is cancelled');
wait_until($node, 'SELECT NOT EXISTS (SELECT FROM ocean_enrich.in_flight())');
fails($node, "SET statement_timeout = '200ms'; $waiting_call",
	qr/57014: .*\nDETAIL:  The request was not sent\./, 'a call that waits for the rate limit ends by time-out');
$node->safe_psql('postgres', 'SELECT ' . enrich('gerda@example.com'));
is(requests('frida@example.com'), 0, 'neither was sent');
is( $node->safe_psql(
		'postgres', q{
		SELECT count(*) FROM ocean_enrich.call
		WHERE request @> '{"person": {"email": "frida@example.com"}}'}),
	0,
	'neither is in the ledger');
books_agree($node, $sandbox, 'rate limit');

done_testing();
