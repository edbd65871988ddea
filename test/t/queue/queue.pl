# queue.pl
#	What is submitted is sent after the commit, and only then; by priority; once;
#	and can be taken back as long as it was not sent.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails wait_until books_agree worker_pid);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);

sub submit
{
	my ($email, $more) = @_;
	$email = "'$email'" if $email =~ /^[^']+@/;
	return "ocean_enrich.submit(ocean_person_request(email => $email)"
	  . ($more ? ", $more" : '') . ')';
}

sub state_of
{
	my ($call_id) = @_;
	return $node->safe_psql('postgres',
		"SELECT state FROM ocean_enrich.call WHERE call_id = $call_id");
}

sub wait_for_queue
{
	wait_until($node,
		q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state IN ('queued', 'sent'))});
	return;
}

sub queue_length
{
	return $node->safe_psql('postgres',
		'SELECT coalesce(sum(waiting), 0) FROM ocean_enrich.queue_tally');
}

# Nothing but a commit sends.

is($node->safe_psql('postgres', 'SELECT ocean_enrich.submit(NULL)'),
	'', 'no request, no call');
$node->safe_psql('postgres', 'BEGIN; SELECT ' . submit('rolled.back@example.com') . '; ROLLBACK');
my $id = $node->safe_psql('postgres', 'SELECT ' . submit('anna@example.com'));
wait_until($node, "SELECT state = 'answered' FROM ocean_enrich.call WHERE call_id = $id");
is( $node->safe_psql(
		'postgres', qq{
		SELECT background, status, credits, attempts, role, answer ->> 'domain' <> '',
			account = ocean_enrich.account()
		FROM ocean_enrich.call WHERE call_id = $id}),
	't|200|3|1|postgres|t|t',
	'what was submitted has its answer');
is($sandbox->books->{requests}, 1, 'what was rolled back was not sent');
is(queue_length(), 0, 'the queue is empty');
books_agree($node, $sandbox, 'one call');

# A savepoint takes back what was submitted since.

$node->safe_psql(
	'postgres', "BEGIN; SELECT @{[ submit('berta@example.com') ]};
	SAVEPOINT s; SELECT @{[ submit('gone@example.com') ]}; ROLLBACK TO s;
	SAVEPOINT s; SELECT @{[ submit('carla@example.com') ]}; RELEASE s; COMMIT");
wait_for_queue();
is($sandbox->books->{requests}, 3, 'savepoint: two were sent');
is( $node->safe_psql(
		'postgres', q{
		SELECT count(*) FROM ocean_enrich.call WHERE request #>> '{person,email}' = 'gone@example.com'}
	),
	0,
	'savepoint: one was not');
is(queue_length(), 0, 'savepoint: the queue is empty');

# Many by one statement, each once, although some are equal

$sandbox->reset;
is( $node->safe_psql(
		'postgres', qq{
		CREATE TABLE job AS SELECT i, @{[ submit(q{'many' || i % 400 || '@example.com'}) ]} AS call_id
		FROM generate_series(1, 1000) AS i;
		SELECT count(DISTINCT call_id) FROM job}),
	1000,
	'many: each has a number');
wait_for_queue();
is( $node->safe_psql(
		'postgres', q{
		SELECT count(*), count(reused_from), sum(credits) FROM job JOIN ocean_enrich.call USING (call_id)
		WHERE state = 'answered' AND answer ->> 'id' <> ''}),
	'1000|600|1200',
	'many: all are answered, the equal ones by one of them');
is($sandbox->books->{requests}, 400, 'many: each person was asked for once');
is(queue_length(), 0, 'many: the queue is empty');

# What a direct call has paid serves the queue, and the other way round.

$node->safe_psql('postgres', 'SELECT ' . enrich('direct@example.com'));
$id = $node->safe_psql('postgres', 'SELECT ' . submit('direct@example.com'));
wait_for_queue();
is( $node->safe_psql('postgres', "SELECT state, credits FROM ocean_enrich.call WHERE call_id = $id"),
	'answered|0',
	'a queued call is answered by what a direct one has paid');
$node->safe_psql('postgres', 'SELECT ' . enrich('many1@example.com'));
is($sandbox->books->{requests}, 401, 'a direct call is answered by what a queued one has paid');

# By priority, then in the order of submission; a direct call before them all

$sandbox->reset;
$node->append_conf('postgresql.conf', "ocean_enrich.max_concurrency = 1\nocean_enrich.queue_enabled = off");
$node->reload;
$node->safe_psql('postgres', 'SELECT ' . submit("low$_\@example.com", -1)) foreach 1 .. 2;
$node->safe_psql('postgres', 'SELECT ' . submit(q{'usual' || i || '@example.com'}) . ' FROM generate_series(1, 3) AS i');
$node->safe_psql('postgres', 'SELECT ' . submit("high$_\@example.com", 7)) foreach 1 .. 2;
is(queue_length(), 7, 'not enabled: the queue waits');
is($sandbox->books->{requests}, 0, 'not enabled: nothing is sent');
$sandbox->config(hold => JSON::PP::true);
$node->append_conf('postgresql.conf', 'ocean_enrich.queue_enabled = on');
$node->reload;
$sandbox->wait(held => 1);
my $direct = OceanTest::Query->start($node,
	'SET ocean_enrich.max_concurrency = 1; SELECT ' . enrich('direct2@example.com'));
wait_until($node, q{SELECT count(*) = 1 FROM ocean_enrich.in_flight() WHERE state = 'waiting'});
$sandbox->config(hold => JSON::PP::false);
wait_for_queue();
$direct->finish;
is( $node->safe_psql(
		'postgres', q{
		SELECT string_agg(split_part(request #>> '{person,email}', '@', 1), ' ' ORDER BY sent_at)
		FROM ocean_enrich.call WHERE request #>> '{person,email}' ~ '^(low|usual|high|direct2)'}),
	'high1 direct2 high2 usual1 usual2 usual3 low1 low2',
	'priorities: the highest first, and direct calls before all');
is($sandbox->books->{most_in_flight}, 1, 'one at a time');
$node->append_conf('postgresql.conf', 'ocean_enrich.max_concurrency = 64');
$node->reload;

# Not before its time

$id = $node->safe_psql('postgres', 'SELECT ' . submit('later@example.com', q{not_before => now() + interval '1 h'}));
$node->safe_psql('postgres', 'SELECT ' . submit('now@example.com'));
wait_until($node, q{SELECT count(*) = 1 FROM ocean_enrich.call
	WHERE request #>> '{person,email}' = 'now@example.com' AND state = 'answered'});
is(state_of($id), 'queued', 'not before: it waits');

# Cancelled, and taken up again

is($node->safe_psql('postgres', "SELECT ocean_enrich.cancel($id)"), 't', 'cancel: it was queued');
is(state_of($id), 'cancelled', 'cancel: it is cancelled');
is($node->safe_psql('postgres', "SELECT ocean_enrich.cancel($id)"), 'f', 'cancel: not twice');
is($node->safe_psql('postgres', 'SELECT ocean_enrich.cancel(-1)'), 'f', 'cancel: there is no such call');
is(queue_length(), 0, 'cancel: the queue is empty');
is($node->safe_psql('postgres', "SELECT ocean_enrich.retry($id)"), 't', 'retry: it was cancelled');
wait_for_queue();
is(state_of($id), 'answered', 'retry: it is answered');
is($node->safe_psql('postgres', "SELECT ocean_enrich.retry($id)"), 'f', 'retry: not what was paid');
is(queue_length(), 0, 'retry: the queue is empty');

# Of a newer version, or written by hand: what cannot be asked holds nobody up.

foreach my $endpoint ('balance', 'of a newer version')
{
	$id = $node->safe_psql('postgres', 'SELECT ' . submit("$endpoint\@example.com", "not_before => now() + '1 day'"));
	$node->safe_psql('postgres', qq{
		UPDATE ocean_enrich.call SET endpoint = '$endpoint', next_attempt_at = now() WHERE call_id = $id;
		SELECT ocean_enrich.wake()});
	wait_for_queue();
	is($node->safe_psql('postgres', "SELECT state, detail, attempts FROM ocean_enrich.call WHERE call_id = $id"),
		'failed|its endpoint cannot be queued|0', "endpoint \"$endpoint\": it is not sent");
}
is(queue_length(), 0, 'endpoint: the queue is empty');

# Listeners hear of each end.

like(
	$node->safe_psql(
		'postgres', 'LISTEN ocean_enrich; SELECT ' . submit('heard@example.com') . ' AS call_id \gset
		SELECT ocean_enrich.wait(ARRAY[:call_id])'),
	qr/Asynchronous notification "ocean_enrich" with payload "\d+" received/,
	'the end is notified');

# The ledger is locked just when calls come: what the worker has heard of them is
# not lost with the transaction that could not begin.

sub worker_switches
{
	my ($count) = slurp_file('/proc/' . worker_pid($node) . '/status') =~
	  /^voluntary_ctxt_switches:\s+(\d+)/m;
	return $count;
}

SKIP:
{
	skip 'there is no /proc', 1 unless -r '/proc/self/status';
	my $submitter = $node->background_psql('postgres');
	my $locker = $node->background_psql('postgres');
	$submitter->query_safe('BEGIN; SELECT ' . submit('low@example.com') . '; SELECT '
		  . submit('high@example.com', 'priority => 77'));
	$locker->query_until(qr/^begun/m, qq{\\echo begun
		BEGIN; LOCK TABLE ocean_enrich.call;\n});
	wait_until($node, q{SELECT EXISTS (SELECT FROM pg_locks
		WHERE relation = 'ocean_enrich.call'::regclass AND NOT granted)});
	$submitter->query_safe('COMMIT');

	# It waits after each turn.
	my $switches = worker_switches();
	sleep 0.01 while worker_switches() < $switches + 20;
	$locker->query_safe('COMMIT');
	wait_for_queue();
	is( $node->safe_psql(
			'postgres', q{
			SELECT high.sent_at <= low.sent_at FROM ocean_enrich.call AS high, ocean_enrich.call AS low
			WHERE high.request #>> '{person,email}' = 'high@example.com'
				AND low.request #>> '{person,email}' = 'low@example.com'}),
		't', 'locked: the higher priority goes first');
	$_->quit for $submitter, $locker;
}

done_testing();
