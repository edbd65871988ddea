# outages.pl
#	While the API refuses everybody or is down, the queue stops before it has used up
#	what is queued, and goes on by itself.  What is decided is counted, not timed.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails wait_until books_agree);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, extra_conf => <<'END');
ocean_enrich.max_concurrency = 4
ocean_enrich.rate_limit = 0
ocean_enrich.retry_wait_max = 1s
END

sub submit
{
	my ($count, $name) = @_;
	$node->safe_psql('postgres', qq{
		SELECT count(ocean_enrich.submit(ocean_person_request(email => '$name' || i || '\@example.com')))
		FROM generate_series(1, $count) AS i});
	return;
}

sub states
{
	my ($name) = @_;
	return $node->safe_psql('postgres', qq{
		SELECT string_agg(state || ' ' || calls, ', ' ORDER BY state::text) FROM (
			SELECT state, count(*) AS calls FROM ocean_enrich.call
			WHERE request #>> '{person,email}' ~ '^$name' GROUP BY state) AS s});
}

sub count_in
{
	my ($name, $condition) = @_;
	return $node->safe_psql('postgres', qq{
		SELECT count(*) FROM ocean_enrich.call
		WHERE request #>> '{person,email}' ~ '^$name' AND $condition});
}

sub wait_for_pause
{
	my ($text) = @_;
	wait_until($node, qq{SELECT pause ~ '$text' AND in_flight = 0 FROM ocean_enrich.queue_status});
	return;
}

sub wait_for_empty_queue
{
	wait_until($node, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state IN ('queued', 'sent'))});
	return;
}

# 429: what the API lets through goes, and few requests are refused.

$sandbox->config(rate_limit => 5, rate_window_ms => 1000);
submit(25, 'burst');
wait_until($node, q{SELECT pause = 'the API asks for a pause' AND paused_until > now() FROM ocean_enrich.queue_status});
pass('429: the view names the pause, and no limit of ours');
wait_for_empty_queue();
is(states('burst'), 'answered 25', '429: all are answered');
# At first as many as may be in flight, and then about one in each second.
cmp_ok($sandbox->books->{answers}{429}, '<=', 20, '429: few were refused');
is(count_in('burst', 'postponed > 0'), 0, '429: no call is to blame');
$sandbox->config(rate_limit => 0, rate_window_ms => 60000);

# 500: what may have been paid is not sent again, so the rest has to wait.

foreach my $case ([ 500, 'the API fails \(HTTP status 500\)' ], [ 504, 'HTTP status 504' ], [ 520, 'HTTP status 520' ])
{
	my ($status, $pause) = @$case;
	$sandbox->config(down => $status);
	submit(100, "down$status.");
	wait_for_pause($pause);
	# Four open it; those in flight beside them and the first that tries again.
	cmp_ok(count_in("down$status", q{state = 'unknown'}), '<=', 4 + 3 + 4, "$status: few are unknown");
	cmp_ok(count_in("down$status", q{state = 'queued'}), '>=', 89, "$status: the others wait");
	$sandbox->config(down => undef);
	wait_for_empty_queue();
	is(count_in("down$status", q{state = 'answered'}) + count_in("down$status", q{state = 'unknown'}), 100,
		"$status: they go when it is over");
}

# A page under status 200 is paid for, as far as one can know.

$sandbox->config(fault => 'sb-html');
submit(100, 'page');
wait_for_pause('no usable answers');
cmp_ok(count_in('page', 'raw IS NOT NULL'), '<=', 4 + 3 + 4, 'HTML under 200: few may have been paid');
$sandbox->config(fault => undef);
wait_for_empty_queue();
is(count_in('page', q{state = 'unknown'}), count_in('page', 'raw IS NOT NULL'), 'HTML under 200: nobody knows');
is(count_in('page', q{state IN ('answered', 'unknown')}), 100, 'HTML under 200: the others go when it is over');
my $page = $node->safe_psql('postgres', q{SELECT min(call_id) FROM ocean_enrich.call WHERE state = 'unknown' AND status = 200});
is($node->safe_psql('postgres', "SELECT ocean_enrich.retry($page)"), 't', 'HTML under 200: it can be retried');
wait_until($node, "SELECT state = 'answered' FROM ocean_enrich.call WHERE call_id = $page");
is($node->safe_psql('postgres', qq{SELECT count(*), max(resolution), max(resolved_by) FROM ocean_enrich.call AS evidence
	WHERE state = 'unknown' AND fingerprint = (SELECT fingerprint FROM ocean_enrich.call WHERE call_id = $page)}),
	'1|pay again|' . $node->safe_psql('postgres', 'SELECT current_user'), 'HTML under 200: and the evidence stays');

# By these a proxy says that the API was not reached.

foreach my $status (521, 522, 523, 525, 526, 530, 503)
{
	$sandbox->config(down => $status);
	submit(20, "proxy$status.");
	wait_for_pause("HTTP status $status");
	is(count_in("proxy$status", q{state = 'unknown'}), 0, "$status: nothing is in doubt");
	$sandbox->config(down => undef);
	wait_for_empty_queue();
	is(states("proxy$status"), 'answered 20', "$status: all go when it is over");
}
like($node->safe_psql('postgres', 'SET ocean_enrich.max_retries = 1; SELECT ' . enrich('sb-once-523.anna@example.com')),
	qr/^\{/, '523: a session tries again');
books_agree($node, $sandbox, 'outages');

# A Retry-After of hours, which somebody ends

submit(1, 'sb-retryafter-7200.');
wait_until($node, q{SELECT pause = 'the API asks for a pause' AND paused_until > now() + interval '1 hour'
	FROM ocean_enrich.queue_status});
fails($node, 'SELECT ' . enrich('patient@example.com'),
	qr/OE429: the API asks for a pause\n.*\nHINT: .*ocean_enrich\.end_pause\(\)/, 'a pause of hours: the hint names the cure');
fails($node, 'CREATE ROLE visitor; GRANT USAGE ON SCHEMA ocean_enrich TO visitor; SET ROLE visitor;
	SELECT ocean_enrich.end_pause()', qr/42501/, 'a pause of hours: not for everybody');
submit(5, 'waiting');
$node->safe_psql('postgres', q{
	SELECT ocean_enrich.cancel(call_id) FROM ocean_enrich.call WHERE request #>> '{person,email}' ~ '^sb-retryafter'});
$node->safe_psql('postgres', 'BEGIN; SELECT ocean_enrich.end_pause(); ROLLBACK');
is(states('waiting'), 'queued 5', 'a pause of hours: not before the commit');
$node->safe_psql('postgres', 'SELECT ocean_enrich.end_pause()');
wait_for_empty_queue();
is(states('waiting'), 'answered 5', 'a pause of hours: it is ended');

# A session told to wait for hours is remembered by the ledger, until that is ended.

fails($node, 'SELECT ' . enrich('sb-retryafter-7200.berta@example.com'), qr/OE429/, 'a session is refused');
is($node->safe_psql('postgres', 'SELECT count(*) > 0 FROM ocean_enrich.limits WHERE paused_until > now()'), 't',
	'a session is refused: the view says until when');
$node->safe_psql('postgres', 'SELECT ocean_enrich.end_pause()');
is($node->safe_psql('postgres', 'SELECT count(*) FROM ocean_enrich.limits WHERE paused_until > now()'), 0,
	'a session is refused: ended');
$node->restart;
like($node->safe_psql('postgres', 'SELECT ' . enrich('carla@example.com')), qr/^\{/,
	'a session is refused: nor does a new worker know of it');

# The row of the call that tries whether it is over is locked.

$sandbox->config(down => 503);
submit(30, 'locked');
wait_for_pause('HTTP status 503');
$sandbox->config(down => undef, hold => JSON::PP::true);
$sandbox->wait(held => 1);
my $lock = $node->background_psql('postgres');
$lock->query_safe(q{BEGIN; SELECT FROM ocean_enrich.call WHERE state = 'sent' FOR UPDATE});
$sandbox->config(hold => JSON::PP::false);
wait_until($node, q{SELECT count(*) = 29 FROM ocean_enrich.call
	WHERE state = 'answered' AND request #>> '{person,email}' ~ '^locked'});
pass('a locked row: the others do not wait for it');
$lock->query_safe('COMMIT');
$lock->quit;
wait_for_empty_queue();

# Impatience is no reason to use up the queue.

$node->append_conf('postgresql.conf', 'ocean_enrich.retry_wait_max = 0');
$node->reload;
$sandbox->config(down => 500);
submit(100, 'impatient');
wait_for_pause('HTTP status 500');
cmp_ok(count_in('impatient', q{state = 'unknown'}), '<=', 4 + 3 + 4, 'retry_wait_max = 0: few are unknown');
$sandbox->config(down => undef);
$node->append_conf('postgresql.conf', 'ocean_enrich.retry_wait_max = 1s');
$node->reload;
wait_for_empty_queue();

# Hung calls of the queue leave room for a session, and a session leaves room for it.

$sandbox->config(hold => JSON::PP::true);
my @sessions = map { OceanTest::Query->start($node, 'SELECT ' . enrich("busy$_\@example.com")) } 1 .. 3;
$sandbox->wait(held => 3);
submit(1, 'beside');
ok($sandbox->wait(held => 4)->{reached}, 'a call of the queue is sent beside those of sessions');
$sandbox->config(hold => JSON::PP::false);
$_->finish foreach @sessions;
wait_for_empty_queue();

$sandbox->config(hold => JSON::PP::true);
submit(20, 'hung');
$sandbox->wait(held => 3);
my $query = OceanTest::Query->start($node, 'SELECT ' . enrich('direct@example.com'));
ok($sandbox->wait(held => 4)->{reached}, 'a direct call is sent beside hung ones of the queue');
$sandbox->config(hold => JSON::PP::false);
like(($query->finish)[0], qr/^\{/, 'and answered');
wait_for_empty_queue();
books_agree($node, $sandbox, 'the end');

done_testing();
