# queue_pauses.pl
#	What makes the queue wait, and what makes it go on: gathering, 429, the limits
#	of a day, no credits, no access, no API, no token, an unknown outcome.  And the
#	view that says so.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails wait_until books_agree worker_pid);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, extra_conf => <<'END');
ocean_enrich.gathering_wait = 200ms
ocean_enrich.balance_interval = 1s
ocean_enrich.retry_wait_max = 400ms
END

sub submit
{
	my ($email, $more) = @_;
	return $node->safe_psql('postgres',
		"SELECT ocean_enrich.submit(ocean_person_request(email => '$email')"
		  . ($more ? ", $more" : '') . ')');
}

sub wait_for_state
{
	my ($call_id, $state) = @_;
	wait_until($node, "SELECT state = '$state' FROM ocean_enrich.call WHERE call_id = $call_id");
	return;
}

sub row
{
	my ($call_id, $columns) = @_;
	return $node->safe_psql('postgres',
		"SELECT $columns FROM ocean_enrich.call WHERE call_id = $call_id");
}

sub wait_for_status
{
	my ($condition) = @_;
	wait_until($node, "SELECT $condition FROM ocean_enrich.queue_status");
	return;
}

sub setting
{
	my ($line) = @_;
	$node->append_conf('postgresql.conf', $line);
	$node->reload;
	return;
}

# 201: asked again, with growing waits

my $id = submit('sb-gathering-500.anna@example.com');
wait_for_state($id, 'answered');
my ($attempts, $credits) = split /\|/, row($id, 'attempts, credits');
cmp_ok($attempts, '>=', 2, 'gathering: it was asked again');
cmp_ok($attempts, '<=', 4, 'gathering: after growing waits');
is($credits, 3, 'gathering: and was paid once');
setting('ocean_enrich.gathering_retries = 1');
$id = submit('sb-status-201.berta@example.com');
wait_for_state($id, 'refused');
is(row($id, 'attempts, status, detail'),
	'2|201|Data gathering process has started. Please try again later.',
	'gathering: not endlessly');

# 503: tried again, not endlessly

$id = submit('sb-once-503.carla@example.com');
wait_for_state($id, 'answered');
is(row($id, 'attempts, credits'), '2|3', '503: it was asked again');
setting('ocean_enrich.queue_retries = 2');
$id = submit('sb-status-503.dora@example.com');
wait_for_state($id, 'failed');
is(row($id, 'attempts, status'), '3|503', '503: not endlessly');

# Each limit counts its own, in whatever order they come.

# Submits one call and has the sandbox answer its attempts by these, in turn.
sub answered_in_turn
{
	my ($email, @faults) = @_;
	$sandbox->config(hold => JSON::PP::true);
	my $call_id = submit($email);
	my $attempts = 0;
	foreach my $fault (@faults)
	{
		$attempts++;
		ok($sandbox->wait(held => 1)->{reached}, "$email: it was sent, to be answered by " . ($fault // 'a person'));
		$sandbox->config(fault => $fault, release => 1);
		# It may be on the wire again by now.
		wait_until($node, "SELECT state <> 'sent' OR attempts > $attempts FROM ocean_enrich.call WHERE call_id = $call_id");
	}
	$sandbox->config(fault => undef, hold => JSON::PP::false);
	return $call_id;
}

setting('ocean_enrich.gathering_retries = 2');
my ($later, $away) = ('sb-status-201', 'sb-status-503');
$id = answered_in_turn('turns1@example.com', $away, $later, $away, $later, undef);
wait_for_state($id, 'answered');
is(row($id, 'attempts, postponed, gathered, credits'), '5|2|2|3', '201 and 503: each has its own limit');
$id = answered_in_turn('turns2@example.com', $away, $later, $away, $later, $later);
wait_for_state($id, 'refused');
is(row($id, 'attempts, status, postponed, gathered'), '5|201|2|2', '201 and 503: gathering is not endlessly');
$id = answered_in_turn('turns3@example.com', $later, $away, $later, $away, $away);
wait_for_state($id, 'failed');
is(row($id, 'attempts, status, postponed, gathered'), '5|503|2|2', '201 and 503: nor is 503');
$node->safe_psql('postgres', "SELECT ocean_enrich.retry($id)");
wait_for_state($id, 'answered');
is(row($id, 'attempts, postponed, gathered'), '6|0|0', 'retry(): both count anew');

# Other errors are the end.

foreach my $case ([ 'sb-status-422', 'refused' ], [ 'sb-unknown', 'refused' ], [ 'sb-badjson', 'unknown' ])
{
	$id = submit("$case->[0].emma\@example.com");
	wait_for_state($id, $case->[1]);
	is(row($id, 'attempts'), 1, "$case->[0]: the end");
}

# 429 with Retry-After: the account waits.

my $before = $sandbox->books->{requests};
my $begin = time();
$sandbox->config(rate_limit => 1, retry_after_s => 1);
my @ids = map { submit("throttled$_\@example.com") } 1 .. 3;
wait_until($node, q{SELECT count(*) > 0 FROM ocean_enrich.call WHERE status = 429});
wait_for_status(q{doing = 'paused' AND pause = 'the API asks for a pause' AND paused_until > now()});
$sandbox->config(rate_limit => 0, retry_after_s => undef);
my $pauses = time() - $begin + 1;
wait_for_state($_, 'answered') foreach @ids;
# All three, what is left of them after each pause of a second, and at the end.
cmp_ok($sandbox->books->{requests} - $before, '<=', 3 + 2 * $pauses + 2, '429: few requests were in vain');

# A limit of ours: until it is raised, or midnight

setting('ocean_enrich.daily_limit = 1');
$id = submit('limited@example.com');
wait_for_status(q{doing = 'paused' AND pause ~ 'daily_limit' AND paused_until > now() AND waiting = 1});
is(row($id, 'state, attempts'), 'queued|0', 'daily limit: nothing is sent');
setting('ocean_enrich.daily_limit = 0');
wait_for_state($id, 'answered');

setting(q{ocean_enrich.credit_limit = '1'});
$id = submit('limited2@example.com');
wait_for_status(q{doing = 'paused' AND pause ~ 'credit_limit' AND paused_until > now()});
setting(q{ocean_enrich.credit_limit = '0'});
wait_for_state($id, 'answered');

# 402: until there are credits again

$sandbox->config(credits => '4');
@ids = map { submit("poor$_\@example.com") } 1 .. 3;
wait_for_status(q{doing = 'paused' AND pause ~ 'credits'});
is( $node->safe_psql(
		'postgres', q{
		SELECT count(*) FILTER (WHERE state = 'answered'), count(*) FILTER (WHERE state = 'queued')
		FROM ocean_enrich.call WHERE request #>> '{person,email}' ~ '^poor'}),
	'1|2',
	'402: what could be paid was, the others wait');
$sandbox->config(credits => '0');
$before = $sandbox->books->{requests};
wait_until($node, q{SELECT ocean_enrich.balance() #>> '{credits,oneTime}' IS NOT NULL});
is($sandbox->books->{requests}, $before, '402: nothing is sent meanwhile');
$sandbox->config(credits => '100');
wait_for_state($_, 'answered') foreach @ids;
like($node->safe_psql('postgres', q{SELECT ocean_enrich.balance() -> 'credits'}),
	qr/94/, 'balance: what is left');
$sandbox->config(credits => undef);

# No API: nothing is lost.

$sandbox->stop;
@ids = map { submit("away$_\@example.com") } 1 .. 20;
wait_for_status(q{doing IN ('paused', 'sending') AND pause ~ 'reached' AND waiting = 20});
fails($node, 'SELECT ocean_enrich.balance()', qr/08001: could not get the balance/, 'no API: no balance');
$sandbox->start;
wait_for_state($_, 'answered') foreach @ids;
is( $node->safe_psql(
		'postgres', q{
		SELECT sum(credits) FROM ocean_enrich.call WHERE request #>> '{person,email}' ~ '^away'}),
	60, 'no API: all were paid once when it was there again');
is($sandbox->books->{requests}, 20, 'no API: and sent once');

# No token, and one that the API does not know

setting(q{ocean_enrich.api_token = ''});
wait_until($node, q{SELECT current_setting('ocean_enrich.api_token', true) = ''});
$id = submit('tokenless@example.com');
wait_for_status(q{doing = 'paused' AND pause = 'no usable API token'});
setting(q{ocean_enrich.api_token = 'nobody'});
wait_for_status(q{doing = 'paused' AND pause ~ '403'});
setting(q{ocean_enrich.api_token = 'sandbox-token'});
wait_for_state($id, 'answered');

# An unknown outcome waits for a decision, and what is equal waits with it.

$id = submit('sb-cut-lost.frieda@example.com');
wait_for_state($id, 'unknown');
my $equal = submit('sb-cut-lost.frieda@example.com');
wait_until($node, "SELECT next_attempt_at = 'infinity' FROM ocean_enrich.call WHERE call_id = $equal");
is(row($equal, 'state, detail'), "queued|waiting for a decision about call $id", 'unknown: an equal call waits');
wait_for_status('to_be_resolved = 2 AND unknown_today = 2');
$node->safe_psql('postgres', "SELECT ocean_enrich.resolve($id, 'give up')");
wait_for_state($equal, 'failed');
is(row($equal, 'detail'), "an equal request, call $id, was given up", 'give up: the equal call fails');
is($sandbox->books(identity => 'sb-cut-lost.frieda@example.com')->{people}{'sb-cut-lost.frieda@example.com'}{requests},
	1, 'give up: nothing was sent again');

$id = submit('sb-cut-lost.greta@example.com');
wait_for_state($id, 'unknown');
$node->safe_psql('postgres', "SELECT ocean_enrich.resolve($id, 'pay again')");
wait_until($node, qq{
	SELECT count(*) = 2 FROM ocean_enrich.call
	WHERE state = 'unknown' AND request #>> '{person,email}' = 'sb-cut-lost.greta\@example.com'});
is( $node->safe_psql(
		'postgres', q{
		SELECT resolution, background FROM ocean_enrich.call
		WHERE state = 'unknown' AND request #>> '{person,email}' = 'sb-cut-lost.greta@example.com'
		ORDER BY call_id}),
	"|t\npay again|f",
	'pay again: it was sent again, and the first one stays on record');

# Waiting in a session

$sandbox->config(hold => JSON::PP::true);
$id = submit('waited@example.com');
is($node->safe_psql('postgres', "SELECT ocean_enrich.wait(ARRAY[$id], '10ms')"), 'f', 'wait: not in time');
my $query = OceanTest::Query->start($node, "SELECT ocean_enrich.wait(ARRAY[$id])");
wait_until($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ '^SELECT ocean_enrich.wait'});
$sandbox->config(hold => JSON::PP::false);
is(($query->finish)[0], 't', 'wait: it came to its end');
is($node->safe_psql('postgres', "SELECT ocean_enrich.wait(ARRAY[$id, -1])"), 't', 'wait: what is at its end is not waited for');
fails($node, q{BEGIN; SELECT ocean_enrich.wait(ARRAY[ocean_enrich.submit(ocean_person_request(email => 'x@example.com'))])},
	qr/25001: cannot wait for call \d+ in the transaction that submitted it/, 'wait: not for what is not committed');
fails($node, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT ocean_enrich.wait(ARRAY[1])',
	qr/25001: cannot wait/, 'wait: not where the end cannot be seen');

is( $node->safe_psql('postgres', 'SELECT sum(waiting) FROM ocean_enrich.queue_tally'),
	$node->safe_psql('postgres', q{SELECT count(*) FROM ocean_enrich.call WHERE state = 'queued'}),
	'the tally is the length of the queue');

done_testing();
