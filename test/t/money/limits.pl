# limits.pl
#	The limits of an account hold across sessions, workers and restarts of the
#	server.  A call that may go later waits, one that may not go today fails at
#	once, and neither is sent.

use strict;
use warnings FATAL => 'all';

use OceanTest
  qw(node enrich fails worker_pid wait_until wait_for_ledger books_agree);
use Test::More;

# The day of the limits, which is UTC's, must not end in the middle of the test.
my $left_of_day = 86400 - time() % 86400;
sleep $left_of_day if $left_of_day < 60;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);

# Does CHECK after this worker, after the next one, and after a restart.
sub after_restarts
{
	my ($check) = @_;
	my $companion = OceanTest::Query->start($node, 'SELECT pg_sleep(600)');
	$check->('');

	my $worker = worker_pid($node);
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
	wait_until($node,
		"SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $worker)");
	$check->(', after a restart of the worker');

	$node->restart;
	$companion->finish;
	# The last minute is still that of the calls, if it took longer.
	$node->safe_psql('postgres', 'UPDATE ocean_enrich.call SET sent_at = now()');
	$check->(', after a restart of the server');
	return;
}

# Rate limit: five in a minute

my $five = 'SET ocean_enrich.rate_limit = 5;';
is( $node->safe_psql(
		'postgres',
		"$five SELECT count(@{[ enrich(q{i || '@example.com'}) ]}) FROM generate_series(1, 5) AS i"
	),
	5,
	'as many calls go as the rate limit allows');
after_restarts(
	sub {
		my ($when) = @_;
		my $query =
		  OceanTest::Query->start($node, "$five SELECT " . enrich('anna@example.com'));
		wait_until($node,
			q{SELECT count(*) = 1 FROM ocean_enrich.calls_in_flight WHERE state = 'waiting'}
		);
		# The worker has not yet let go of one that was given up, perhaps.
		is( $node->safe_psql(
				'postgres', q{
				SELECT role, call_id, age >= '0' FROM ocean_enrich.calls_in_flight WHERE state = 'waiting'}),
			'postgres||t',
			"rate limit$when: the next one waits, and is seen waiting");
		$node->safe_psql('postgres',
			'SELECT pg_cancel_backend(pid) FROM ocean_enrich.in_flight()');
		like(($query->finish)[1], qr/57014/, "rate limit$when: it can be cancelled");
		is($sandbox->books->{requests}, 5, "rate limit$when: it was not sent");
	});
is( $node->safe_psql(
		'postgres', qq{
		$five SELECT allowed, used, remaining, frees_at > now() FROM ocean_enrich.limits
		WHERE name = 'rate_limit'}),
	'5|5|0|t',
	'rate limit: the view says that nothing is left');
books_agree($node, $sandbox, 'rate limit');

# Requests in a day: five were sent already.

after_restarts(
	sub {
		my ($when) = @_;
		fails(
			$node,
			'SET ocean_enrich.daily_limit = 5; SELECT ' . enrich('anna@example.com'),
			qr/OE429: daily limit of 5 requests has been reached\n.*\nHINT: /,
			"daily limit$when: the next call fails");
		is($sandbox->books->{requests}, 5, "daily limit$when: it was not sent");
	});
like(
	$node->safe_psql(
		'postgres',
		'SET ocean_enrich.daily_limit = 6; SELECT ' . enrich('anna@example.com')),
	qr/^\{/,
	'daily limit: one more goes if one more is allowed');
fails(
	$node,
	'SET ocean_enrich.daily_limit = 6; SELECT ' . enrich('berta@example.com'),
	qr/OE429: daily limit of 6/,
	'daily limit: but not two');
books_agree($node, $sandbox, 'daily limit');

# Credits in a day: six calls cost 18, and a seventh may have cost 3.

fails(
	$node,
	'SELECT ' . enrich('sb-cut-lost.berta@example.com'),
	qr/OE504/,
	'credit limit: a call has no outcome');
after_restarts(
	sub {
		my ($when) = @_;
		fails(
			$node,
			q{SET ocean_enrich.credit_limit = '23.5'; SELECT } . enrich('carla@example.com'),
			qr/OE402: credit limit of 23\.5 credits per day has been reached\nDETAIL:  21 credits .*\nHINT: /,
			"credit limit$when: the next call fails");
		is($sandbox->books->{requests}, 7, "credit limit$when: it was not sent");
	});
like(
	$node->safe_psql(
		'postgres',
		'SET ocean_enrich.credit_limit = 24; SELECT ' . enrich('carla@example.com')),
	qr/^\{/,
	'credit limit: one more goes if one more is allowed');
books_agree($node, $sandbox, 'credit limit');

# Requests at once: two of ten sessions

$sandbox->reset;
$sandbox->config(hold => JSON::PP::true);
my @queries = map {
	OceanTest::Query->start($node,
		'SET ocean_enrich.max_concurrency = 2; SELECT '
		  . enrich("session$_\@example.com"))
} 1 .. 10;
wait_until(
	$node, q{
	SELECT count(*) FILTER (WHERE state = 'on the wire') = 2
		AND count(*) FILTER (WHERE state = 'waiting') = 8
	FROM ocean_enrich.in_flight()});
is($sandbox->books->{held}, 2, 'concurrency: two requests are on the wire');
$sandbox->config(hold => JSON::PP::false, latency_ms => 20);
is((grep { ($_->finish)[0] =~ /^\{/ } @queries),
	10, 'concurrency: all sessions have their persons');
is($sandbox->books->{most_in_flight},
	2, 'concurrency: there were never more than two');
is($sandbox->books->{requests}, 10, 'concurrency: each was sent once');

done_testing();
