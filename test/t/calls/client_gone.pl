# client_gone.pl
#	A session whose client is gone stops asking by itself, whatever
#	client_connection_check_interval says: while it waits for a call, between
#	calls that are each answered at once, and while it waits for the queue.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich wait_until wait_for_ledger books_agree);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, extra_conf => "session_preload_libraries = 'ocean_enrich'");
my $forty = 'SELECT ' . enrich(q{i || '@%s.example.com'}) . ' FROM generate_series(1, 40) AS i';
my $sessions = q{SELECT %s count(*) > 0 FROM pg_stat_activity
	WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()};

is($node->safe_psql('postgres', 'SHOW client_connection_check_interval'),
	'0', 'the server itself does not look for lost clients');

# Starts SQL; LOST is given its psql, and kills that.  Waits for the end of the
# session.
sub lose_client
{
	my ($name, $sql, $lost) = @_;
	my $log_size = -s $node->logfile;
	my $query = OceanTest::Query->start($node, $sql);

	$lost->($query);
	wait_until($node, sprintf $sessions, 'NOT');
	return ok($node->log_contains(qr/FATAL:  connection to client lost/, $log_size),
		"$name: the session ends as the server would end it");
}

# How many requests the sandbox got while RUN did what it does, and all of them
# that were still under way ended.
sub requests_of
{
	my ($name, $run) = @_;
	my $before = $sandbox->books->{requests};

	$run->();
	$sandbox->config(hold => JSON::PP::false, latency_ms => 0);
	wait_for_ledger($node);
	my $requests = $sandbox->wait(idle => 1)->{requests} - $before;
	books_agree($node, $sandbox, $name);
	return $requests;
}

# Lets the first eight of forty requests through, and ends the client while the
# next ones, CONCURRENCY of them, are held.
sub lose_client_after_eight
{
	my ($name, $concurrency) = @_;
	my $before = $sandbox->books->{requests};

	$sandbox->config(hold => JSON::PP::true);
	return lose_client(
		$name,
		"SET ocean_enrich.concurrency = $concurrency; " . sprintf($forty, $name),
		sub {
			my ($query) = @_;
			for (my $let_go = 0; $let_go < 8; $let_go++)
			{
				$sandbox->wait(held => 1);
				$sandbox->config(release => 1);
			}
			$sandbox->wait(requests => $before + 8 + $concurrency);
			$query->kill;
		});
}

is(requests_of('one', sub { lose_client_after_eight('one', 1) }),
	9, 'one: of forty requests, those before and the one under way');
is(requests_of('eight', sub { lose_client_after_eight('eight', 8) }),
	16, 'eight: of forty requests, those before and the eight under way');

# A session that never waits long for one call.

cmp_ok(
	requests_of(
		'short calls',
		sub {
			my $before = $sandbox->books->{charges};
			$sandbox->config(latency_ms => 300);
			lose_client(
				'short calls',
				sprintf($forty, 'short'),
				sub {
					my ($query) = @_;
					$sandbox->wait(charges => $before + 8);
					$query->kill;
				});
		}),
	'<', 25, 'short calls: those of a second more');

# A session that waits for the queue spends nothing, but holds a snapshot.

is( requests_of(
		'wait()',
		sub {
			$sandbox->config(hold => JSON::PP::true);
			lose_client(
				'wait()', q{
				CREATE TABLE submitted AS
				SELECT ocean_enrich.submit(ocean_person_request(email => 'queued@example.com')) AS call_id;
				SELECT ocean_enrich.wait(array_agg(call_id)) FROM submitted},
				sub {
					my ($query) = @_;
					$sandbox->wait(held => 1);
					wait_until($node,
						q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query ~ 'ocean_enrich.wait' AND state = 'active' AND wait_event_type = 'Extension')});
					$query->kill;
				});
		}),
	1, 'wait(): the queue goes on');

done_testing();
