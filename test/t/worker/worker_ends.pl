# worker_ends.pl
#	Workers come and go without anybody noticing: many sessions that find none
#	start one, one that is told to stop finishes what is on the wire, one that has
#	nothing to do leaves, and whatever was not sent waits for the next one.

use strict;
use warnings FATAL => 'all';

use OceanTest
  qw(node enrich fails wait_until wait_for_ledger worker_pid patience slow_ms books_agree);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $sandbox = OceanTest::Sandbox->new;
my $node = node(
	$sandbox, extra_conf => q{
max_worker_processes = 16
log_min_messages = debug1
ocean_enrich.worker_idle_timeout = 1s
});

# How many workers were registered since the log had this size.
sub workers_since
{
	my ($log_size) = @_;
	my @workers = slurp_file($node->logfile, $log_size) =~
	  /\bregistering background worker "ocean_enrich worker/g;
	return scalar @workers;
}

sub terminate_worker
{
	$node->safe_psql('postgres',
		'SELECT pg_terminate_backend(' . worker_pid($node) . ')');
	return;
}

# Both sides have the same number of calls, and none failed.
sub all_answered
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name, @databases) = @_;
	my $answered = 0;
	$answered += $node->safe_psql($_,
		q{SELECT count(*) FROM ocean_enrich.call WHERE state = 'answered'})
	  foreach @databases;
	my $books = $sandbox->books;
	note("$name: $answered calls");
	is($books->{requests}, $answered, "$name: every call was sent once");
	is($books->{charges}, $answered, "$name: every call was answered");
	books_agree($node, $sandbox, $name, @databases);
	return;
}

# Many sessions at once that find no worker: they queue up before a lock.

my $sessions = 64;
$node->safe_psql('postgres', 'CREATE TABLE barrier ()');
my $barrier = $node->background_psql('postgres');
$barrier->query_safe('BEGIN; LOCK TABLE barrier');
my @queries = map {
	OceanTest::Query->start($node,
		'BEGIN; LOCK TABLE barrier IN ACCESS SHARE MODE; SELECT '
		  . enrich("cold$_\@example.com"))
} 1 .. $sessions;
wait_until($node,
	"SELECT count(*) = $sessions FROM pg_locks WHERE NOT granted");
my $log_size = -s $node->logfile;
$sandbox->config(hold => JSON::PP::true);
$barrier->query_safe('COMMIT');
$barrier->quit;
$sandbox->wait(held => $sessions);
is( $node->safe_psql(
		'postgres', q{
		SELECT count(*) FROM pg_stat_activity
		WHERE backend_type = 'ocean_enrich worker'}),
	1,
	'one worker serves many sessions that start at once');
$sandbox->config(hold => JSON::PP::false);
is((grep { ($_->finish)[0] =~ /^\{/ } @queries),
	$sessions, 'each of them has a person');
is(workers_since($log_size), 1, 'only one worker was started');
all_answered('cold start', 'postgres');

# The worker is told to stop again and again while sessions call.

my $terminations = 20;
$sandbox->config(latency_ms => 5);
$node->safe_psql('postgres', 'CREATE TABLE go_on AS SELECT 1');
@queries = map {
	OceanTest::Query->start(
		$node, qq{
		DO \$\$
		DECLARE
			i int := 0;
		BEGIN
			WHILE EXISTS (SELECT FROM go_on) LOOP
				i := i + 1;
				PERFORM @{[ enrich("format('load$_.%s\@example.com', i)") ]};
			END LOOP;
		END \$\$})
} 1 .. 8;
$node->safe_psql(
	'postgres', qq{
	@{[ patience() ]}
	DO \$\$
	DECLARE
		worker int;
		last_worker int := 0;
	BEGIN
		FOR i IN 1..$terminations LOOP
			LOOP
				PERFORM pg_stat_clear_snapshot();
				SELECT pid INTO worker FROM pg_stat_activity
				WHERE backend_type = 'ocean_enrich worker' AND pid <> last_worker;
				EXIT WHEN FOUND AND EXISTS (SELECT FROM ocean_enrich.in_flight()
					WHERE state = 'on the wire');
				PERFORM pg_sleep(0.001);
			END LOOP;
			PERFORM pg_terminate_backend(worker);
			last_worker := worker;
		END LOOP;
		DELETE FROM go_on;
	END \$\$});
my @outcomes = map { [ $_->finish ] } @queries;
diag("$_->[1]") foreach grep { $_->[2] != 0 } @outcomes;
is((grep { $_->[2] == 0 } @outcomes),
	8, "no call fails when $terminations workers are told to stop");
all_answered('terminations', 'postgres');
$sandbox->config(latency_ms => 0);

# A worker that is told to stop waits for what is on the wire, but not without a limit.
# What comes meanwhile is for the next one.

$sandbox->config(hold => JSON::PP::true);
my $hanging = OceanTest::Query->start($node, 'SELECT ' . enrich('anna@example.com'));
$sandbox->wait(held => 1);
terminate_worker();
my $terminated = time();
my $later = OceanTest::Query->start($node, 'SELECT ' . enrich('berta@example.com'));
my ($stdout, $stderr) = $hanging->finish;
like(
	$stderr,
	qr/OE504: the ocean_enrich worker exited before the answer arrived/,
	'a call that outlives the worker is told that its outcome is unknown');
my $seconds = time() - $terminated;
note("the worker waited $seconds s");
cmp_ok(1000 * $seconds, '<', slow_ms(6000), 'the worker waits for a bounded time');
$sandbox->wait(held => 2);
$sandbox->config(hold => JSON::PP::false);
like(($later->finish)[0], qr/^\{/, 'a call that came meanwhile succeeds');
is( $node->safe_psql(
		'postgres', q{
		SELECT c.request #>> '{person,email}'
		FROM ocean_enrich.unknown_calls JOIN ocean_enrich.call AS c USING (call_id)}),
	'anna@example.com',
	'the next worker lists the first one as unknown');
fails(
	$node,
	'SELECT ' . enrich('anna@example.com'),
	qr/OE504: an equal request was sent before/,
	'it is not sent again');
is($sandbox->books(identity => 'anna@example.com')->{people}{'anna@example.com'}{requests},
	1, 'it was sent once');
books_agree($node, $sandbox, 'hanging call');

# A fast shutdown waits for what is on the wire

$sandbox->config(latency_ms => 500);
my $interrupted = OceanTest::Query->start($node, 'SELECT ' . enrich('carla@example.com'));
$sandbox->wait(in_flight => 1);
$node->stop('fast');
$interrupted->finish;
$node->start;
$sandbox->config(latency_ms => 0);
is( $node->safe_psql(
		'postgres', q{
		SELECT state, credits, answer ->> 'id' <> '' FROM ocean_enrich.call
		WHERE request #>> '{person,email}' = 'carla@example.com'}),
	'answered|3|t',
	'fast shutdown: the answer is in the ledger');
like($node->safe_psql('postgres', 'SELECT ' . enrich('carla@example.com')),
	qr/^\{/, 'fast shutdown: the same call again has its person');
is($sandbox->books(identity => 'carla@example.com')->{people}{'carla@example.com'}{requests},
	1, 'fast shutdown: it was sent once');
books_agree($node, $sandbox, 'fast shutdown');

# A worker that starts when the log ends with a page: many small messages bring it
# there.

wait_until(
	$node, q{
	SELECT NOT EXISTS (SELECT FROM pg_stat_activity
		WHERE backend_type = 'ocean_enrich worker')});
is( $node->safe_psql(
		'postgres', q{
		CREATE FUNCTION place_in_page() RETURNS int LANGUAGE sql
			RETURN (pg_current_wal_insert_lsn() - '0/0') % current_setting('wal_block_size')::int;
		DO $$
		DECLARE
			room int;
		BEGIN
			FOR try IN 1..10000 LOOP
				-- behind the header of a page of which nothing else is written
				EXIT WHEN place_in_page() = 24;
				room := current_setting('wal_block_size')::int - place_in_page();
				PERFORM pg_logical_emit_message(false, '', repeat('x',
					CASE WHEN room > 1000 THEN room - 600
						WHEN room > 120 THEN room - 50 - try % 20
						ELSE 200 END));
			END LOOP;
		END $$;
		SELECT place_in_page()}),
	24,
	'the log ends with a page');
like($node->safe_psql('postgres', 'SELECT ' . enrich('page@example.com')),
	qr/^\{/, 'a worker starts there');

# Calls that come just when an idle worker leaves, in several databases to save
# time

my ($races, $rounds) = (5, 8);
my @databases = map { "race$_" } 1 .. $races;
$sandbox->reset;
foreach my $database (@databases)
{
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, 'CREATE EXTENSION ocean_enrich');
}
$log_size = -s $node->logfile;
@queries = map {
	OceanTest::Query->start(
		$node, qq{
		DO \$\$
		BEGIN
			FOR round IN 1..$rounds LOOP
				PERFORM @{[ enrich("format('$_.%s\@example.com', round)") ]};
				PERFORM pg_sleep(0.995 + random() * 0.1);
			END LOOP;
		END \$\$}, database => $_)
} @databases;
my @ends = map { [ $_->finish ] } @queries;
diag($_->[1]) foreach grep { $_->[2] != 0 } @ends;
is((grep { $_->[2] == 0 } @ends),
	$races, 'no call fails that meets a worker that leaves');
cmp_ok(workers_since($log_size), '>', $races, 'idle workers left meanwhile');
note(workers_since($log_size) . ' workers served ' . $races * $rounds . ' calls');
all_answered('idle exits', @databases);

done_testing();
