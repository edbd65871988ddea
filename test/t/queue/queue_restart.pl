# queue_restart.pl
#	The queue outlives its worker and the server, in each database; and is in the
#	way of nobody who drops a database or the extension, or stops the server.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails wait_until books_agree worker_pid crash);
use PostgreSQL::Test::Utils;
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox,
	init => [ allows_streaming => 1 ],
	extra_conf => "shared_preload_libraries = 'ocean_enrich'\nrestart_after_crash = on\nmax_prepared_transactions = 2");

sub submit
{
	my ($count, $name, $database) = @_;
	$node->safe_psql($database // 'postgres', qq{
		SELECT count(ocean_enrich.submit(ocean_person_request(email => '$name' || i || '\@example.com')))
		FROM generate_series(1, $count) AS i});
	return;
}

sub answered
{
	my ($name, $database) = @_;
	return $node->safe_psql($database // 'postgres', qq{
		SELECT count(*) FROM ocean_enrich.call
		WHERE state = 'answered' AND request #>> '{person,email}' ~ '^$name'});
}

sub wait_for_answers
{
	my ($name, $count, $database) = @_;
	wait_until($node, qq{
		SELECT count(*) = $count FROM ocean_enrich.call
		WHERE state = 'answered' AND request #>> '{person,email}' ~ '^$name'}, $database);
	return;
}

sub no_worker
{
	return q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'ocean_enrich worker')};
}

sub hold { return $sandbox->config(hold => $_[0] ? JSON::PP::true : JSON::PP::false) }

# A worker that was started for nothing has left.

wait_until($node, no_worker());
is( $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'ocean_enrich launcher'}),
	1, 'there is a launcher');

# Nobody is connected when the server starts again, in neither database.

$node->safe_psql('postgres', 'CREATE DATABASE second');
$node->safe_psql('second', 'CREATE EXTENSION ocean_enrich');
$node->append_conf('postgresql.conf', 'ocean_enrich.queue_enabled = off');
$node->reload;
submit(20, 'restart');
submit(20, 'second', 'second');
$node->append_conf('postgresql.conf', 'ocean_enrich.queue_enabled = on');
$node->restart;
$sandbox->wait(charges => 40, idle => 1);
wait_for_answers('restart', 20);
wait_for_answers('second', 20, 'second');
is($sandbox->books->{requests}, 40, 'restart: each was sent once');
books_agree($node, $sandbox, 'restart', 'postgres', 'second');

# The worker is told to go in the midst of it: what is on the wire comes in,
# and the launcher starts another.

$sandbox->config(latency_ms => 100);
submit(300, 'terminate');
$sandbox->wait(requests => 60);
foreach my $time (1 .. 3)
{
	my $pid = worker_pid($node);
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	wait_until($node, qq{
		SELECT EXISTS (SELECT FROM pg_stat_activity
				WHERE backend_type = 'ocean_enrich worker' AND datname = 'postgres' AND pid <> $pid)
			OR 300 = (SELECT count(*) FROM ocean_enrich.call
				WHERE state = 'answered' AND request #>> '{person,email}' ~ '^terminate')});
	last if answered('terminate') == 300;
}
wait_for_answers('terminate', 300);
is($sandbox->books->{requests}, 340, 'terminated: each was sent once');
books_agree($node, $sandbox, 'terminated', 'postgres', 'second');
$sandbox->config(latency_ms => 0);

# Killed: what was on the wire is unknown, all else goes on.

hold(1);
submit(100, 'killed');
$sandbox->wait(held => 56);
crash($node, worker_pid($node));
hold(0);
wait_for_answers('killed', 44);
is( $node->safe_psql('postgres', 'SELECT to_be_resolved, waiting FROM ocean_enrich.queue_status'),
	'56|0', 'killed: what was on the wire waits for a decision');
is($sandbox->books->{requests}, 440, 'killed: each was sent once');
books_agree($node, $sandbox, 'killed', 'postgres', 'second');

# A prepared transaction

$node->safe_psql('postgres', q{BEGIN; SELECT ocean_enrich.submit(ocean_person_request(email => 'prepared1@example.com'));
	PREPARE TRANSACTION 'p'});
is($node->safe_psql('postgres', q{SELECT count(*) FROM ocean_enrich.call WHERE request #>> '{person,email}' = 'prepared1@example.com'}),
	0, 'prepared: not there yet');
$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
$node->safe_psql('postgres', 'SELECT ocean_enrich.wake()');
wait_for_answers('prepared', 1);
is($node->safe_psql('postgres', 'SELECT waiting FROM ocean_enrich.queue_status'), 0, 'prepared: the tally knows it');

# DROP DATABASE and CREATE DATABASE ... TEMPLATE while the queue waits

$node->append_conf('postgresql.conf', 'ocean_enrich.queue_enabled = off');
$node->reload;
submit(10, 'template', 'second');
$node->safe_psql('postgres', 'CREATE DATABASE third TEMPLATE second');
is(answered('template', 'third'), 0, 'a copied database has a queue of its own');
$node->safe_psql('postgres', 'DROP DATABASE third');
pass('a database with a queue can be dropped');
$node->append_conf('postgresql.conf', 'ocean_enrich.queue_enabled = on');
$node->reload;
wait_for_answers('template', 10, 'second');

# DROP EXTENSION with a queue, and a new one

$node->append_conf('postgresql.conf', 'ocean_enrich.queue_enabled = off');
$node->reload;
submit(10, 'dropped', 'second');
$node->safe_psql('second', 'DROP EXTENSION ocean_enrich; CREATE EXTENSION ocean_enrich');
is($node->safe_psql('second', 'SELECT waiting FROM ocean_enrich.queue_status'), 0, 'a new extension has an empty queue');
$node->append_conf('postgresql.conf', 'ocean_enrich.queue_enabled = on');
$node->reload;
submit(3, 'anew', 'second');
wait_for_answers('anew', 3, 'second');

# A standby

$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
fails($standby, q{SELECT ocean_enrich.submit(ocean_person_request(email => 'x@example.com'))},
	qr/25006: cannot execute ocean_enrich\.submit\(\) on a standby server/, 'not on a standby');
$standby->stop;

# Without the library preloaded, a restarted queue waits for the next call.

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\nocean_enrich.queue_enabled = off");
$node->restart;
submit(5, 'unloaded');
# A worker that starts reads what is in the file.
$node->stop;
$node->append_conf('postgresql.conf', 'ocean_enrich.queue_enabled = on');
$node->start;
is(answered('unloaded'), 0, 'not preloaded: the queue waits after a restart');
submit(1, 'call');
wait_for_answers('unloaded', 5);
$node->stop('fast');
pass('the server stops');

done_testing();
