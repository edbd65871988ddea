# read_ahead_errors.pl
#	A statement that reads ahead fails as it would one call after the other.  What
#	was sent early is recorded, and free of charge on the next run; after a
#	failure that more requests would meet, too, none is sent early.

use strict;
use warnings FATAL => 'all';

use JSON::PP;
use OceanTest qw(fails wait_until wait_for_ledger slow_ms books_agree);
use ReadAheadTest;
use Test::More;

# The day of the limits, which is UTC's, must not end in the middle of the test.
my $left_of_day = 86400 - time() % 86400;
sleep $left_of_day if $left_of_day < 60;

my $test = ReadAheadTest->new(
	extra_conf => "ocean_enrich.reuse_for = '1d'\nocean_enrich.max_retries = 0");
my ($sandbox, $node) = ($test->sandbox, $test->node);
my $concurrency = 16;
my $update = 'UPDATE crowd SET enriched = ocean_enrich_person(req)';
my $no_requests = 'SELECT NOT EXISTS (SELECT FROM ocean_enrich.in_flight())';

my ($crowds, $requests, $charges) = (0, 0, 0);

# Makes "crowd": forty people whom nobody has asked for; some are as OTHERS says,
# by their id.  Requests and charges are counted from here.
sub new_crowd
{
	my (%others) = @_;
	$crowds++;
	my $request = "request($crowds * 100 + i)";
	$request = "CASE i WHEN $_ THEN $others{$_} ELSE $request END" foreach keys %others;
	$test->sql(qq{
		DROP TABLE IF EXISTS crowd;
		CREATE TABLE crowd AS
		SELECT i AS id, $request AS req, NULL::jsonb AS enriched
		FROM generate_series(1, 40) AS i});
	my $books = $sandbox->books;
	($requests, $charges) = @$books{qw(requests charges)};
	return;
}

# Empty books on both sides.  The worker has counted what is forgotten here, the
# next one will not.
sub forget_everything
{
	$sandbox->reset;
	($requests, $charges) = (0, 0);
	$test->sql(q{
		TRUNCATE ocean_enrich.call;
		SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
		WHERE backend_type = 'ocean_enrich worker'});
	return;
}

# A request for somebody whom this fault befalls.
sub request_with
{
	my ($fault) = @_;
	return "ocean_person_request(email => '$fault\@crowd$crowds.example')";
}

# The statement fails with ERROR, having sent at least LEAST requests and at most
# MOST; all that the API charged is recorded, and nothing stays in flight.
sub fails_early
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name, $sql, $error, $least, $most) = @_;

	fails($node, $sql, $error, "$name: the error");
	wait_until($node, $no_requests);
	my $sent = $sandbox->books->{requests} - $requests;
	cmp_ok($sent, '>=', $least, "$name: at least $least requests");
	cmp_ok($sent, '<=', $most, "$name: at most $most requests");
	books_agree($node, $sandbox, $name);
	return;
}

# The UPDATE succeeds, and each of the forty was paid once.
sub succeeds_then
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name) = @_;

	fails($node, $update, qr/^no error: $/, "$name: the next run succeeds");
	is($sandbox->books->{charges} - $charges,
		40, "$name: and each person was paid once");
	books_agree($node, $sandbox, "$name, the next run");
	return;
}

# The first two are at once, and the first fails.  After an error that says nothing
# of others, more are sent early.  After one that others may meet, too, they go one
# after the other until one of them is answered.

my $after_two = q{
	BEGIN;
	DECLARE c CURSOR FOR SELECT (ocean_try_enrich_person(req)).error_code FROM crowd;
	SET LOCAL ocean_enrich.concurrency = 2;
	FETCH 2 FROM c;
	SET LOCAL ocean_enrich.concurrency = 16;
	FETCH 30 FROM c;
	COMMIT};
foreach (
	[ 'an unknown person', 'sb-unknown', 'OE404', 1, [ 2, 16 ], 16 ],
	[ 'data is gathered', 'sb-gathering-1000000', 'OE201', 1, [ 2, 16 ], 16 ],
	[ 'an answer that cannot be used', 'sb-badjson', 'OE502', 1, [ 2, 16 ], 16 ],
	[ 'no access', 'sb-status-403', 'OE403', 1, [ 2, 1, 16 ], 16 ],
	[ 'no access for anybody', 'sb-status-403', 'OE403', 40, [2], 2 ],
	[ 'no credits for anybody', 'sb-status-402', 'OE402', 40, [2], 2 ],
	[ 'a failure of the API', 'sb-status-500', 'OE500', 1, [ 2, 1, 16 ], 16 ],
	[ 'failures of the API', 'sb-status-500', 'OE500', 40, [2], 2 ])
{
	my ($name, $fault, $code, $how_many, $held, $at_once) = @$_;
	new_crowd(map { $_ => request_with("$_.$fault") } 1 .. $how_many);
	$sandbox->reset;
	$test->configure(hold => JSON::PP::true, latency_ms => 1);
	my $query = OceanTest::Query->start($node, $after_two);
	$test->let_go(@$held);
	my ($codes) = $query->finish;
	is($codes,
		join("\n", map { $_ <= $how_many ? $code : '' } 1 .. 32),
		"$name, errors as values");
	my $books = $sandbox->books;
	is($books->{most_in_flight}, $at_once, "$name: $at_once requests at once");
	is($books->{requests}, 32, "$name: 32 requests in all");
}
forget_everything();
$sandbox->config(latency_ms => 5);

# A failure that comes while those before it are still on their way.  Somebody else
# has asked for the same person before, so that this one can be let go alone.

foreach (
	[ 'a failure on its way', '(ocean_enrich_person(req))', qr/OE404: /, 0 ],
	[ 'unknown persons give NULL', '(ocean_enrich_person(req))', qr/^no error/, 24, 'null' ],
	[ 'by an argument', q{(ocean_enrich_person(req, 'null'))}, qr/^no error/, 24 ],
	[ 'errors by an argument', q{(ocean_enrich_person(req, 'error'))}, qr/OE404: /, 0, 'null' ],
	[ 'failures are values', '(ocean_try_enrich_person(req)).answer', qr/^no error/, 24 ])
{
	my ($name, $call, $error, $more, $not_found) = @$_;
	new_crowd(16 => request_with('sb-unknown'));
	$sandbox->config(hold => JSON::PP::true);
	my $other = OceanTest::Query->start($node, q{
		SELECT ocean_try_enrich_person(req) FROM crowd WHERE id = 16});
	$sandbox->wait(held => 1);
	my $query = OceanTest::Query->start($node,
		"SET ocean_enrich.not_found = '" . ($not_found // 'error') . "';
		UPDATE crowd SET enriched = $call");
	$sandbox->wait(held => 16);
	$sandbox->config(release => 1);
	$other->finish;
	wait_until($node, q{
		SELECT count(*) = 16 AND count(*) FILTER (WHERE state = 'done') = 1
		FROM ocean_enrich.in_flight()});

	# Now the first row, which may make room for another one.
	my $first = 'p' . ($crowds * 100 + 1) . '@example.com';
	$sandbox->config(release => 1)
	  until $sandbox->books(identity => $first)->{people}{$first}{charges};
	wait_until($node,
		'SELECT calls > 0 AND waiting IS NOT NULL FROM ocean_enrich.progress');
	is( $test->sql(q{
			SELECT in_flight + ready} . ($more ? '' : ' + calls') . q{
			FROM ocean_enrich.progress}),
		16,
		"$name: " . ($more ? 'each row that leaves makes room' : 'nothing is sent early'));
	$sandbox->config(hold => JSON::PP::false);
	my ($stdout, $stderr, $exit_code) = $query->finish;
	like($exit_code ? $stderr : 'no error', $error, "$name: the error");
	wait_until($node, $no_requests);
	is($sandbox->books->{requests} - $requests,
		16 + $more, "$name: $more more are sent");
	books_agree($node, $sandbox, $name);
}

# The first row with an error is the one whose error is raised, wherever another
# one was sent.

my $divide = 'SELECT id, ocean_enrich_person(req), 1 / (id - 15) FROM crowd';
new_crowd(21 => request_with('sb-unknown'));
fails_early('an error behind another one', $divide, qr/22012: /, 15, 15 + 15);
new_crowd(10 => request_with('sb-unknown'));
fails_early('an error before another one', $divide, qr/OE404: /, 10, 10 + 15);
new_crowd(21 => q{'{"persons": {}}'});
fails_early('a bad request behind an error', $divide, qr/22012: /, 15, 15 + 14);
new_crowd(10 => q{'{"persons": {}}'});
fails_early('a bad request before an error',
	$divide, qr/22023: .*persons/, 9, 9 + 15);

# The people after the one that fails are not lost.

new_crowd(21 => request_with('sb-unknown'));
fails_early('an unknown person', $update, qr/OE404: No matching/, 21, 21 + 15);
$test->sql("UPDATE crowd SET req = request($crowds * 100) WHERE id = 21");
succeeds_then('an unknown person');

new_crowd(21 => q{'{}'});
fails_early('a bad request', $update, qr/22023: /, 20, 20 + 15);
$test->sql("UPDATE crowd SET req = request($crowds * 100) WHERE id = 21");
succeeds_then('a bad request');

new_crowd(8 => request_with('sb-badjson'));
fails_early('an answer that cannot be used', $update, qr/OE502: /, 8, 8 + 15);
$test->sql("UPDATE crowd SET req = request($crowds * 100) WHERE id = 8");
fails($node, $update, qr/^no error: $/, 'an answer that cannot be used: the next run');
is($sandbox->books->{charges} - $charges,
	41, 'an answer that cannot be used: was paid, and everybody else once');

# No credits are left after ten.

new_crowd();
$sandbox->config(credits => '30');
fails_early('no credits', $update, qr/OE402: /, 11, 10 + $concurrency);
is($sandbox->books->{charges} - $charges, 10, 'no credits: ten were paid');
$sandbox->config(credits => undef);
succeeds_then('no credits');

new_crowd();
$sandbox->config(credits => '30');
is( $test->sql(q{
		SELECT count(*) FILTER (WHERE (r).answer IS NOT NULL),
			count(*) FILTER (WHERE (r).error_code = 'OE402')
		FROM (SELECT ocean_try_enrich_person(req) AS r FROM crowd OFFSET 0) AS crowd}),
	'10|30',
	'no credits, errors as values: what came is there');
is($sandbox->books->{requests} - $requests,
	40, 'no credits, errors as values: one request for each row');
$sandbox->config(credits => undef);
succeeds_then('no credits, errors as values');

# The API takes no more than so many in a minute.

new_crowd();
forget_everything();
$sandbox->config(rate_limit => 10, retry_after_s => 1);
fails_early('429', $update, qr/OE429: /, 11, 10 + $concurrency);
is($sandbox->books->{charges}, 10, '429: ten were paid');
$sandbox->config(rate_limit => 0, retry_after_s => undef);
succeeds_then('429');

# Our own limits

my $used = 'SELECT coalesce(sum(used), 0) FROM ocean_enrich.limits WHERE name =';
foreach (
	[ 'daily_limit', 10, qr/OE429: daily limit of/ ],
	[ 'credit_limit', 30, qr/OE402: credit limit of/ ])
{
	my ($limit, $more, $error) = @$_;
	new_crowd();
	my $set = "SET ocean_enrich.$limit = "
	  . ($test->sql("$used '$limit'") + $more) . ';';
	fails_early($limit, "$set $update", $error, 10, 10);
	is( $test->sql(qq{
			$set
			SELECT count((r).answer), count((r).error_code)
			FROM (SELECT ocean_try_enrich_person(req) AS r FROM crowd OFFSET 0) AS crowd}),
		'10|30',
		"$limit: what came is there");
	is($sandbox->books->{requests} - $requests, 10, "$limit: nothing more was sent");
	succeeds_then($limit);
}

# The API cannot be reached.

new_crowd();
$sandbox->stop;
fails($node, $update, qr/08001: /, 'no connection: the error');
is( $test->sql(q{
		SELECT count(*) FROM ocean_enrich.call
		WHERE state = 'unknown' AND request @? '$.person ? (@.email starts with "p")'}),
	0,
	'no connection: nothing is in doubt');
$sandbox->start;
forget_everything();
succeeds_then('no connection');

# Giving up with many requests on the wire, and more that wait for a place there

my $ten_may_be_paid = qr/57014: .*\nDETAIL:  The request has been sent, .* may be paid for: call \d+\.  So may 9 that were read ahead\.\n/;
foreach (
	[ 'cancel', '', 'pg_cancel_backend', $ten_may_be_paid ],
	[ 'time-out', 'SET statement_timeout = ' . slow_ms(1000) . ';', undef, $ten_may_be_paid ],
	[ 'end of the session', '', 'pg_terminate_backend', qr/57P01: / ])
{
	my ($name, $settings, $function, $error) = @$_;
	new_crowd();
	$sandbox->config(hold => JSON::PP::true);
	my $query = OceanTest::Query->start($node,
		"SET ocean_enrich.max_concurrency = 10; $settings $update");
	$sandbox->wait(held => 10);
	wait_until($node,
		q{SELECT count(*) = 6 FROM ocean_enrich.in_flight() WHERE state = 'waiting'})
	  if $function;
	$test->sql(qq{
		SELECT DISTINCT $function(pid)
		FROM (SELECT DISTINCT pid FROM ocean_enrich.in_flight()) AS sessions})
	  if $function;
	like(($query->finish)[1], $error, "$name: the session is told");
	wait_until(
		$node, q{
		SELECT count(*) = 10 AND count(*) FILTER (WHERE state = 'abandoned') = 10
		FROM ocean_enrich.in_flight()});
	is($sandbox->books->{held}, 10, "$name: at once, with ten requests on the wire");
	$sandbox->config(hold => JSON::PP::false);
	wait_until($node, $no_requests);
	is($sandbox->books->{requests} - $requests, 10, "$name: nothing else was sent");
	books_agree($node, $sandbox, $name);
	succeeds_then($name);
}

# A cancel is obeyed while requests are begun, too: there are warnings on the way.

new_crowd();
$test->sql(q{
	UPDATE crowd SET req = req || '{"revealEmails": {"webhookUrl": "https://example.com"}}'});
$sandbox->config(hold => JSON::PP::true);
my $query = OceanTest::Query->start($node, $update);
$sandbox->wait(held => $concurrency);
$test->sql('SELECT pg_cancel_backend(pid) FROM ocean_enrich.in_flight() LIMIT 1');
like(($query->finish)[1], qr/57014: /, 'cancel, with warnings: the session is told');
$sandbox->config(hold => JSON::PP::false);
wait_until($node, $no_requests);
books_agree($node, $sandbox, 'cancel, with warnings');

done_testing();
