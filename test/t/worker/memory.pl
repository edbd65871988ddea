# memory.pl
#	Nothing grows with the number of calls: neither the memory of the worker and
#	of the session, nor the shared memory between them, nor their descriptors.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich worker_pid wait_until wait_for_ledger patience books_agree);
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'there is no /proc' unless -r '/proc/self/status';

# Far less than one of each per call.  On a slow machine up to max_concurrency
# (64) connections come into being at once, and are kept for a while.
my $tolerance_kb = 2048;
my $tolerance_descriptors = 80;
my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);

# One session throughout, which keeps one worker.
my $session = $node->background_psql('postgres');
my $session_pid = $session->query_safe('SELECT pg_backend_pid()');

sub call_numbers
{
	my ($first, $last) = @_;
	return $session->query_safe(
		"SELECT count(@{[ enrich(q{i || '@example.com'}) ]}) FROM generate_series($first, $last) AS i"
	);
}

# Private memory in kB, dynamic shared memory as it is mapped, open descriptors.
sub usage
{
	my ($pid) = @_;
	my ($private_kb) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+)/m;
	my @shared = slurp_file("/proc/$pid/maps") =~ m{^(\S+) .*/dev/shm/}mg;
	my @descriptors = glob "/proc/$pid/fd/*";
	return {
		private_kb => $private_kb,
		shared => join(' ', sort @shared),
		descriptors => scalar @descriptors,
	};
}

sub compare
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name, $before, $after) = @_;
	note("$name: $before->{private_kb} kB, then $after->{private_kb} kB, "
		  . "$before->{descriptors}, then $after->{descriptors} descriptors");
	cmp_ok($after->{private_kb}, '<', $before->{private_kb} + $tolerance_kb,
		"$name: private memory does not grow");
	is($after->{shared}, $before->{shared}, "$name: nor does shared memory");
	cmp_ok(
		$after->{descriptors}, '<',
		$before->{descriptors} + $tolerance_descriptors,
		"$name: nor do descriptors");
	return;
}

is(call_numbers(1, 5000), 5000, 'many calls');
my $worker_pid = worker_pid($node);
my %before = map { $_ => usage($_) } ($worker_pid, $session_pid);

is(call_numbers(5001, 20000), 15000, 'many more calls');
is(worker_pid($node), $worker_pid, 'the same worker serves them');
compare('worker', $before{$worker_pid}, usage($worker_pid));
compare('session', $before{$session_pid}, usage($session_pid));

# Calls that are given up on the wire

my $cancels = 500;
$sandbox->config(latency_ms => 2);
my $caller = OceanTest::Query->start(
	$node, qq{
	SET application_name = 'caller';
	DO \$\$
	DECLARE
		i int := 0;
		cancels int := 0;
	BEGIN
		-- A cancel that comes when its call has just ended may hit what is around it.
		WHILE cancels < $cancels LOOP
			BEGIN
				WHILE cancels < $cancels LOOP
					i := i + 1;
					BEGIN
						PERFORM @{[ enrich(q{'cancelled' || i || '@example.com'}) ]};
					EXCEPTION WHEN query_canceled THEN
						cancels := cancels + 1;
					END;
				END LOOP;
			EXCEPTION WHEN query_canceled THEN
				NULL;
			END;
		END LOOP;
	END \$\$});
wait_until($node, 'SELECT EXISTS (SELECT FROM ocean_enrich.in_flight())');
$node->safe_psql(
	'postgres', patience() . q{
	DO $$
	DECLARE
		caller int;
	BEGIN
		SELECT pid INTO caller FROM pg_stat_activity WHERE application_name = 'caller';
		LOOP
			PERFORM pg_cancel_backend(pid) FROM ocean_enrich.in_flight()
				WHERE pid = caller AND state = 'on the wire';
			PERFORM pg_stat_clear_snapshot();
			EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity
				WHERE pid = caller AND state = 'active');
			PERFORM pg_sleep(0.001);
		END LOOP;
	END $$});
is(($caller->finish)[2], 0, "$cancels calls are cancelled");
wait_for_ledger($node);
wait_until($node, 'SELECT NOT EXISTS (SELECT FROM ocean_enrich.in_flight())');
is(worker_pid($node), $worker_pid, 'the same worker serves those');
compare('worker, after cancels', $before{$worker_pid}, usage($worker_pid));
books_agree($node, $sandbox, 'many calls');

$session->quit;
done_testing();
