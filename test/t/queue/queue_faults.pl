# queue_faults.pl
#	Processes are killed at random while the queue is sent to an API that fails at
#	random.  At the end every call is settled, the books agree, nothing was paid
#	twice, and the order was kept.
#
#	OCEAN_CHAOS=N makes it N times 10,000 calls instead of one time 600; a seed
#	for chance can stand in OCEAN_CHAOS_SEED.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node wait_until books_agree);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $rounds = $ENV{OCEAN_CHAOS} // 1;
my $calls = $ENV{OCEAN_CHAOS} ? 10_000 : 600;
my $most_kills = $ENV{OCEAN_CHAOS} ? 40 : 6;
my $most_seconds = $ENV{OCEAN_CHAOS} ? 300 : 60;
my $seed = $ENV{OCEAN_CHAOS_SEED} // time() % 1_000_000;
srand($seed);
note "seed $seed";

my $sandbox = OceanTest::Sandbox->new(config => { latency_ms => 20, latency_jitter_ms => 60 });
my $node = node($sandbox,
	extra_conf => <<'END');
shared_preload_libraries = 'ocean_enrich'
restart_after_crash = on
ocean_enrich.retry_wait_max = 200ms
ocean_enrich.gathering_wait = 100ms
ocean_enrich.queue_retries = 1000
END

# A query that may meet a server which is not there.
sub ask
{
	my ($sql) = @_;
	my ($status, $stdout) = $node->psql('postgres', $sql);
	return $status == 0 ? $stdout : '';
}

sub retry_until
{
	my ($name, $condition) = @_;
	my $deadline = time() + $PostgreSQL::Test::Utils::timeout_default;
	until ($condition->())
	{
		die "waited in vain for $name" if time() > $deadline;
		sleep 0.1;
	}
	return;
}

sub kill_worker
{
	my $pid = ask(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'ocean_enrich worker'});
	kill 'KILL', $pid if $pid;
	return;
}

sub terminate_worker
{
	ask(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'ocean_enrich worker'});
	return;
}

sub kill_session
{
	my $query = OceanTest::Query->start($node,
		q{SELECT ocean_enrich.wait(array_agg(call_id), '1 min') FROM ocean_enrich.call WHERE state = 'queued'});
	my $pid = ask(q{SELECT pid FROM pg_stat_activity WHERE query ~ '^SELECT ocean_enrich.wait' LIMIT 1});
	kill 'KILL', $pid if $pid;
	$query->kill;
	return;
}

sub kill_postmaster
{
	my ($pid) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
	$node->kill9;
	retry_until('the end of the postmaster', sub { !kill 0, $pid });
	retry_until('the start of the server', sub { $node->start(fail_ok => 1) });
	return;
}

my @faults = qw(sb-status-503 sb-status-502 sb-retryafter-1 sb-status-500 sb-cut-before
  sb-cut-lost sb-cut-during sb-cut-after sb-status-422 sb-gathering-50 sb-badjson);

foreach my $round (1 .. $rounds)
{
	my $started = time();
	my %killed;

	# The rare ones first; a third of the calls has an equal one.
	$node->safe_psql('postgres', qq{
		SELECT count(ocean_enrich.submit(ocean_person_request(
				email => 'round$round.' || i % ($calls * 2 / 3) || '\@example.com'), priority => i % 3))
		FROM generate_series(1, $calls) AS i});
	foreach my $kill (1 .. $most_kills)
	{
		last if time() - $started > $most_seconds;
		last if ask(q{SELECT EXISTS (SELECT FROM ocean_enrich.call WHERE state = 'queued')}) eq 'f';
		$sandbox->config(fault => $faults[ rand @faults ], fault_probability => 0.03);
		sleep rand 0.5;
		my ($name, $do) = @{ ([ worker => \&kill_worker ], [ terminated => \&terminate_worker ],
			[ session => \&kill_session ], [ postmaster => \&kill_postmaster ])[ rand 4 ] };
		$killed{$name}++;
		$do->();
		retry_until('the server', sub { ask('SELECT 1') eq '1' });
	}
	note join ', ', map { "$_: $killed{$_}" } sort keys %killed;
	$sandbox->config(fault => undef);

	# The launcher sees to it that a worker does the rest.
	retry_until('the end of the queue',
		sub { ask(q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state IN ('queued', 'sent')
			AND next_attempt_at < 'infinity')}) eq 't' });
	retry_until('orphans',
		sub { ask(q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state = 'sent')}) eq 't' });
	$sandbox->wait(idle => 1);

	# What waits for a decision: no further credits for these.
	$node->safe_psql('postgres', q{
		SELECT count(ocean_enrich.resolve(call_id, 'give up')) FROM ocean_enrich.unknown_calls
		WHERE resolution IS NULL});
	retry_until('what waited for decisions',
		sub { ask(q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state IN ('queued', 'sent'))}) eq 't' });

	is( $node->safe_psql('postgres', qq{
			SELECT count(*) FROM ocean_enrich.call
			WHERE state IN ('answered', 'refused', 'failed', 'unknown')
				AND request #>> '{person,email}' ~ '^round$round\\.'}),
		$calls, "round $round: every call is settled");
	books_agree($node, $sandbox, "round $round");
	is( $node->safe_psql('postgres', 'SELECT sum(waiting) FROM ocean_enrich.queue_tally'),
		0, "round $round: the tally agrees");

	my $people = $sandbox->books(people => 1)->{people};
	is((grep { $_->{charges} > 1 } values %$people),
		0, "round $round: nothing was paid twice");

	# By priority and in the order of submission, going by those that were sent
	# once and settled by that.  Of equal ones the others wait for the first.
	is( $node->safe_psql('postgres', qq{
			SELECT count(*) FROM (
				SELECT sent_at, max(sent_at) OVER (ORDER BY priority DESC, call_id
					ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
				FROM (SELECT DISTINCT ON (fingerprint) * FROM ocean_enrich.call
					WHERE request #>> '{person,email}' ~ '^round$round\\.'
					ORDER BY fingerprint, priority DESC, call_id) AS first
				WHERE attempts = 1 AND postponed + gathered = 0 AND sent_at IS NOT NULL) AS sending
			WHERE sent_at < before}),
		0, "round $round: the order was kept");
}

done_testing();
