# ledger_away.pl
#	The ledger is locked, emptied or dropped under the worker, and the database
#	with it: nobody is held up for longer than that lasts, and what was paid is
#	recorded as soon as it can be.

use strict;
use warnings FATAL => 'all';

use OceanTest
  qw(node enrich fails wait_until wait_for_ledger worker_pid slow_ms books_agree);
use Test::More;
use Time::HiRes qw(time);

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);
my ($true, $false) = (JSON::PP::true, JSON::PP::false);

# A call for EMAIL that is on the wire.
sub start_call
{
	my ($email) = @_;
	$sandbox->config(hold => $true);
	my $query = OceanTest::Query->start($node, 'SELECT ' . enrich($email));
	$sandbox->wait(held => 1);
	return $query;
}

sub release
{
	$sandbox->config(hold => $false);
	$sandbox->wait(idle => 1);
	return;
}

sub gives_person
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($query, $name) = @_;
	my ($stdout, $stderr) = $query->finish;
	return like($stdout . $stderr, qr/^\{/, $name);
}

# The state and the credits of the last call.
sub last_call
{
	return $node->safe_psql('postgres',
		'SELECT state, credits FROM ocean_enrich.call ORDER BY call_id DESC LIMIT 1');
}

# The row of a call on the wire is deleted

foreach my $statement ('DELETE FROM ocean_enrich.call',
	'TRUNCATE ocean_enrich.call')
{
	my $email = lc(substr $statement, 0, 6) . '@example.com';
	$sandbox->reset;
	my $query = start_call($email);
	$node->safe_psql('postgres', $statement);
	release();
	gives_person($query, "$statement: the call has its person");
	is(last_call(), 'answered|3', "$statement: the answer is recorded");
	$node->safe_psql('postgres', 'SELECT ' . enrich($email));
	is($sandbox->books->{requests}, 1, "$statement: it was sent once");
	books_agree($node, $sandbox, $statement);
}

# Somebody holds a lock on the whole of it: calls wait, and can be cancelled; the
# worker itself does not queue for the lock.

foreach my $lock ('LOCK TABLE ocean_enrich.call',
	'DROP EXTENSION ocean_enrich')
{
	my $email = lc(substr $lock, 0, 4) . '.lock@example.com';
	my $sent = start_call($email);
	my $locker = $node->background_psql('postgres');
	$locker->query_safe("BEGIN; $lock");
	release();
	fails(
		$node,
		"SET statement_timeout = '200ms'; SELECT " . enrich("cancelled.$email"),
		qr/57014/, "$lock: a new call waits, and can be cancelled");
	is( $node->safe_psql(
			'postgres',
			"SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = @{[ worker_pid($node) ]}"
		),
		0,
		"$lock: the worker does not queue for it");
	my $new =
	  OceanTest::Query->start($node, 'SELECT ' . enrich("new.$email"));
	wait_until($node,
		q{SELECT count(*) > 1 FROM pg_stat_activity WHERE query LIKE 'SELECT ocean_enrich_person%' AND state = 'active'});
	$locker->query_safe('ROLLBACK');
	$locker->quit;
	gives_person($sent, "$lock: the call on the wire has its person");
	gives_person($new, "$lock: the new call has its person");
	is( $node->safe_psql(
			'postgres', qq{
			SELECT request #>> '{person,email}', state, credits FROM ocean_enrich.call
			WHERE request #>> '{person,email}' LIKE '%$email' ORDER BY call_id}),
		"$email|answered|3\nnew.$email|answered|3",
		"$lock: both are recorded, and what was cancelled was not sent");
	books_agree($node, $sandbox, $lock);
}

# Somebody holds a lock on what was revealed: new calls wait, as the limits cannot be
# asked; what comes does not.

{
	$sandbox->config(hold => $true);
	my $sent = OceanTest::Query->start($node,
		"SET statement_timeout = @{[ slow_ms(10_000) ]}; SELECT " . enrich('sent@reveal.example'));
	$sandbox->wait(held => 1);
	$node->safe_psql('postgres', 'SELECT ocean_enrich.reveals_counted()');
	my $locker = $node->background_psql('postgres');
	$locker->query_safe('BEGIN; LOCK TABLE ocean_enrich.reveal_cost');
	my $new = OceanTest::Query->start($node, 'SELECT ' . enrich('new@reveal.example'));
	wait_until($node, q{SELECT count(*) = 2 FROM ocean_enrich.in_flight()});
	release();
	gives_person($sent, 'what was revealed is locked: the call on the wire has its person');
	is($node->safe_psql('postgres', q{SELECT request #>> '{person,email}' FROM ocean_enrich.call WHERE request #>> '{person,email}' LIKE '%@reveal.example'}),
		'sent@reveal.example', 'what was revealed is locked: the new call is not sent');
	$locker->query_safe('ROLLBACK');
	$locker->quit;
	gives_person($new, 'what was revealed is locked: the new call has its person then');
	books_agree($node, $sandbox, 'what was revealed is locked');
}

# Somebody holds a lock on the row of a call on the wire: that call waits, others
# do not.

foreach my $lock ('SELECT call_id FROM ocean_enrich.call FOR UPDATE',
	q{DELETE FROM ocean_enrich.call WHERE state = 'sent'})
{
	my $email = lc(substr $lock, 0, 6) . '.row@example.com';
	my $sent = start_call($email);
	my $locker = $node->background_psql('postgres');
	$locker->query_safe("BEGIN; $lock");
	release();
	gives_person(
		OceanTest::Query->start($node,
			"SET statement_timeout = @{[ slow_ms(10_000) ]}; SELECT " . enrich("$_.$email")),
		"$lock: another call succeeds") foreach 1 .. 3;
	is( $node->safe_psql(
			'postgres', qq{
			SELECT state FROM ocean_enrich.call
			WHERE request #>> '{person,email}' = '$email'}),
		'sent',
		"$lock: the call on the wire is not recorded yet");
	$locker->query_safe('COMMIT');
	$locker->quit;
	gives_person($sent, "$lock: the call on the wire has its person");
	is( $node->safe_psql(
			'postgres', qq{
			SELECT state, credits FROM ocean_enrich.call
			WHERE request #>> '{person,email}' = '$email'}),
		'answered|3',
		"$lock: it is recorded");
	books_agree($node, $sandbox, $lock);
}

# The same lock when the worker ends: the next one does not wait for it either, and
# still sends nothing that was on the wire.

my $left = start_call('left@example.com');
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; SELECT call_id FROM ocean_enrich.call FOR UPDATE');
$node->safe_psql('postgres',
	'SELECT pg_terminate_backend(' . worker_pid($node) . ')');
like(($left->finish)[1], qr/OE504/, 'left: the call outlives its worker');
release();
fails(
	$node,
	'SELECT ' . enrich('left@example.com'),
	qr/OE504: an equal request was sent before/,
	'left: the same call again is refused');
like($node->safe_psql('postgres', 'SELECT ' . enrich('next@example.com')),
	qr/^\{/, 'left: another call succeeds');
$locker->query_safe('COMMIT');
wait_until(
	$node, q{
	SELECT string_agg(request #>> '{person,email}', ' ') = 'left@example.com'
	FROM ocean_enrich.unknown_calls JOIN ocean_enrich.call USING (call_id)});
pass('left: it is listed as unknown as soon as its row can be written');
$locker->quit;
books_agree($node, $sandbox, 'left');

# A lock that the worker cannot ask for without waiting: it waits only for a while,
# and so is not deaf.

$locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; ALTER SEQUENCE ocean_enrich.call_call_id_seq CACHE 1');
my $blocked =
  OceanTest::Query->start($node, 'SELECT ' . enrich('sequence@example.com'));
wait_until(
	$node, q{
	SELECT wait_event_type = 'Lock' FROM pg_stat_activity
	WHERE backend_type = 'ocean_enrich worker'});
my $worker = worker_pid($node);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
wait_until($node,
	"SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $worker)");
pass('sequence: a worker that waits for a lock can be told to stop');
like(($blocked->finish)[1],
	qr/55000: could not record .*\nDETAIL:  Nothing was sent/,
	'sequence: the call fails');
my $waiting =
  OceanTest::Query->start($node, 'SELECT ' . enrich('sequence@example.com'));
wait_until(
	$node, q{
	SELECT wait_event_type = 'Lock' FROM pg_stat_activity
	WHERE backend_type = 'ocean_enrich worker'});
$locker->query_safe('ROLLBACK');
$locker->quit;
gives_person($waiting, 'sequence: a call that can wait succeeds');
books_agree($node, $sandbox, 'sequence');

# The extension is dropped and made again while calls are under way, in one
# session: what was paid is handed over, what was not sent fails.

$sandbox->reset;
my $administrator = $node->background_psql('postgres');
my $sent = start_call('dropped@example.com');
my $unsent = OceanTest::Query->start($node,
	'SET ocean_enrich.max_concurrency = 1; SELECT '
	  . enrich('unsent@example.com'));
wait_until($node,
	q{SELECT count(*) = 1 FROM ocean_enrich.in_flight() WHERE state = 'waiting'});
$administrator->query_safe('DROP EXTENSION ocean_enrich');
release();
gives_person($sent, 'dropped: the call on the wire has its person');
my ($stdout, $stderr) = $unsent->finish;
like(
	$stderr,
	qr/55000: could not record the request in table "ocean_enrich.call"\n.*dropped/,
	'dropped: the call that was not sent fails');
wait_until(
	$node, q{
	SELECT NOT EXISTS (SELECT FROM pg_stat_activity
		WHERE backend_type = 'ocean_enrich worker')});
$administrator->query_safe('CREATE EXTENSION ocean_enrich');
like($administrator->query_safe('SELECT ' . enrich('again@example.com')),
	qr/^\{/, 'made again: a call in the same session succeeds');
$administrator->query_safe(
	'DROP EXTENSION ocean_enrich; CREATE EXTENSION ocean_enrich');
like($administrator->query_safe('SELECT ' . enrich('again@example.com')),
	qr/^\{/, 'made again: so does one that the same worker serves');
$administrator->quit;
is($sandbox->books->{requests}, 3, 'made again: nothing was sent twice');

# Dropping a database and using it as a template need all to leave it.

my $longest = 0;
foreach my $round (1 .. 3)
{
	$sandbox->reset;
	$node->safe_psql('postgres', 'CREATE DATABASE original');
	$node->safe_psql('original', 'CREATE EXTENSION ocean_enrich');
	$node->safe_psql('original', 'SELECT ' . enrich('anna@example.com'));
	my $start = time();
	$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE original');
	$node->safe_psql('copy', 'SELECT ' . enrich($_))
	  foreach ('anna@example.com', 'berta@example.com');
	is($sandbox->books->{requests},
		2, 'the copy of a database knows what the original paid for');
	books_agree($node, $sandbox, 'copy', 'copy');
	$node->safe_psql('postgres', "DROP DATABASE $_") foreach qw(original copy);
	my $seconds = time() - $start;
	$longest = $seconds if $longest < $seconds;
}
note("copying and dropping took at most $longest s");
pass('databases whose worker is idle can be copied and dropped');

done_testing();
