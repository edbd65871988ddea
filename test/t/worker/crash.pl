# crash.pl
#	Nothing that a session was given is lost by a crash, and what was on the wire
#	then is known to be unknown: it is listed, and not sent again until somebody
#	says so.

use strict;
use warnings FATAL => 'all';

use OceanTest
  qw(node enrich fails wait_until wait_for_ledger worker_pid books_agree crash);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, extra_conf => 'restart_after_crash = on');

# Calls for these people that are on the wire when it returns.
sub start_calls
{
	my @queries =
	  map { OceanTest::Query->start($node, 'SELECT ' . enrich($_)) } @_;
	$sandbox->wait(held => scalar @queries);
	return @queries;
}

# Dies when the condition does not come true in time.
sub wait_for
{
	my ($name, $condition) = @_;
	my $deadline = time() + $PostgreSQL::Test::Utils::timeout_default;
	until ($condition->())
	{
		die "waited in vain for $name" if time() > $deadline;
		usleep(100_000);
	}
	return;
}

# Kills the postmaster and starts another one, which refuses to as long as
# anything is left of the old one.
sub kill_postmaster
{
	my ($pid) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
	$node->kill9;
	wait_for('the end of the postmaster', sub { !kill 0, $pid });
	wait_for('the start of the server', sub { $node->start(fail_ok => 1) });
	return;
}

# Without it, nothing is flushed that nobody waits for.  It has to be asleep when
# it is stopped: with the lock for writing WAL in its hands, it would stop us all.
sub stop_wal_writer
{
	my $of_it = q{FROM pg_stat_activity WHERE backend_type = 'walwriter'};
	my $pid = $node->safe_psql('postgres', "SELECT pid $of_it");
	wait_for(
		'the sleep of the WAL writer',
		sub {
			kill 'STOP', $pid;
			return 1
			  if $node->safe_psql('postgres', "SELECT wait_event $of_it") eq
			  'WalWriterMain';
			kill 'CONT', $pid;
			return 0;
		});
	return $pid;
}

# Of calls on the wire, after CRASH and whatever brings the server back: the
# people are unknown, and stay so.
sub check_unknown
{
	my ($name, $crash, @people) = @_;
	$sandbox->config(hold => JSON::PP::true);
	my @queries = start_calls(@people);
	my $requests = $sandbox->books->{requests};
	$crash->();
	$_->finish foreach @queries;
	$sandbox->config(hold => JSON::PP::false);
	$sandbox->wait(idle => 1);

	# The next worker looks what the last one left.
	$node->safe_psql('postgres', 'SELECT ' . enrich("after.$people[0]"));
	my $list = join ', ', map { "'$_'" } @people;
	is( $node->safe_psql(
			'postgres', qq{
			SELECT count(*) FROM ocean_enrich.unknown_calls
			JOIN ocean_enrich.call USING (call_id)
			WHERE request #>> '{person,email}' IN ($list)}),
		scalar @people,
		"$name: what was on the wire is listed as unknown");
	fails(
		$node,
		'SELECT ' . enrich($_),
		qr/OE504: an equal request was sent before, and its outcome is unknown/,
		"$name: it is not sent again") foreach @people;
	is($sandbox->books->{requests},
		$requests + 1, "$name: the API was asked nothing again");
	books_agree($node, $sandbox, $name);
	return;
}

check_unknown(
	'kill -9 of the worker',
	sub { crash($node, worker_pid($node)) },
	map { "worker$_\@example.com" } 1 .. 5);

check_unknown(
	'kill -9 of a session',
	sub {
		crash($node,
			$node->safe_psql('postgres',
				'SELECT pid FROM ocean_enrich.in_flight() LIMIT 1'));
	},
	map { "session$_\@example.com" } 1 .. 3);

check_unknown(
	'kill -9 of the postmaster',
	\&kill_postmaster,
	map { "postmaster$_\@example.com" } 1 .. 3);

check_unknown(
	'immediate shutdown',
	sub {
		$node->stop('immediate');
		$node->start;
	},
	map { "immediate$_\@example.com" } 1 .. 3);

# What somebody decides about an unknown call counts.

my ($again, $never) = map {
	$node->safe_psql(
		'postgres', qq{
		SELECT call_id FROM ocean_enrich.call
		WHERE state = 'unknown' AND request #>> '{person,email}' = '$_'})
} ('worker1@example.com', 'worker2@example.com');
my $requests = $sandbox->books->{requests};
$node->safe_psql('postgres',
	"SELECT ocean_enrich.resolve($again, 'pay again'), ocean_enrich.resolve($never, 'give up')");
is( $node->safe_psql('postgres', 'SELECT ' . enrich('worker1@example.com') . " ->> 'id' <> ''"),
	't',
	'pay again: the call has its person');
is($sandbox->books->{requests}, $requests + 1, 'pay again: it was sent again');
fails(
	$node,
	'SELECT ' . enrich('worker2@example.com'),
	qr/OE504: an equal request was sent before/,
	'give up: the call is refused');
is($sandbox->books->{requests}, $requests + 1, 'give up: nothing was sent');
books_agree($node, $sandbox, 'decisions');

# What a session was given is on disk.  The worker commits without waiting for
# that, so nobody else may flush the log either: the WAL writer stands still, and
# is killed to make the server crash.

# The person in the ledger, seen by nobody who writes.
sub ledger_has
{
	my ($email) = @_;
	return $node->safe_psql(
		'postgres', qq{
		SELECT state FROM ocean_enrich.call
		WHERE request #>> '{person,email}' = '$email'});
}

$sandbox->config(hold => JSON::PP::true);
my @people = map { "given$_\@example.com" } 1 .. 5;
my @queries = start_calls(@people);
my $wal_writer = stop_wal_writer();
$sandbox->config(hold => JSON::PP::false);
like(($_->finish)[0], qr/^\{/, 'a person is given') foreach @queries;
crash($node, $wal_writer);
is(ledger_has($_), 'answered', "$_: the ledger has it after a crash")
  foreach @people;

# The same of an answer that comes from the ledger, where it was written for a
# session that did not wait: by the worker that wrote it, and by the next one.
# The companion keeps a worker in the database.
my $query;
foreach my $by ('the same worker', 'the next worker')
{
	my $email = $by =~ s/ /./gr . '@example.com';
	my $companion = OceanTest::Query->start($node, 'SELECT pg_sleep(600)');
	$sandbox->config(hold => JSON::PP::true);
	($query) = start_calls($email);
	$node->safe_psql('postgres',
		'SELECT pg_cancel_backend(pid) FROM ocean_enrich.in_flight()');
	$query->finish;
	my $worker = worker_pid($node);
	$wal_writer = stop_wal_writer();
	$sandbox->config(hold => JSON::PP::false);
	wait_for_ledger($node);
	if ($by eq 'the next worker')
	{
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
		wait_until($node,
			"SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $worker)");
	}
	like($node->safe_psql('postgres', 'SELECT ' . enrich($email)),
		qr/^\{/, "$by gives a person from the ledger");
	crash($node, $wal_writer);
	$companion->finish;
	is(ledger_has($email), 'answered', "$by: the ledger has it after a crash");
}
books_agree($node, $sandbox, 'crash without flush');

# Without record_before_send, a crash leaves no trace of what was on the wire: the
# same call again is sent again.
$node->append_conf('postgresql.conf', 'ocean_enrich.record_before_send = off');
$node->restart;
$sandbox->config(hold => JSON::PP::true);
($query) = start_calls('untraced@example.com');
crash($node, worker_pid($node));
$query->finish;
$sandbox->config(hold => JSON::PP::false);
like($node->safe_psql('postgres', 'SELECT ' . enrich('untraced@example.com')),
	qr/^\{/, 'record_before_send = off: the same call again succeeds');
is( $sandbox->books(identity => 'untraced@example.com')
	  ->{people}{'untraced@example.com'}{charges},
	2,
	'record_before_send = off: and is paid again');

done_testing();
