# synchronous_standby.pl
#	Where commits wait for a synchronous standby, so does the answer that a call
#	returns: after a failover the new primary has it.  synchronous_commit of the
#	session counts, as for a commit of its own.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich wait_until books_agree);
use PostgreSQL::Test::Cluster;
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $primary =
  node($sandbox, name => 'primary', init => [ allows_streaming => 1 ]);
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$primary->append_conf('postgresql.conf', "synchronous_standby_names = '*'");
$primary->reload;

# The standby is away: nobody sees the answer, and it is recorded.
my $query =
  OceanTest::Query->start($primary, 'SELECT ' . enrich('anna@example.com'));
wait_until($primary,
	q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'});
is( $primary->safe_psql(
		'postgres', 'SELECT state FROM ocean_enrich.call'),
	'answered',
	'standby away: the answer is recorded');
my ($stdout, $stderr) = OceanTest::Query->start(
	$primary,
	'SET synchronous_commit = local; SELECT ' . enrich('berta@example.com'))
  ->finish;
like($stdout, qr/^\{/, 'standby away: a session need not wait for it');

$standby->start;
($stdout, $stderr) = $query->finish;
like($stdout, qr/^\{/, 'standby back: the answer is returned');

# What was returned is there after a failover.
$primary->stop('immediate');
$standby->append_conf('postgresql.conf', "synchronous_standby_names = ''");
$standby->promote;
is( $standby->safe_psql(
		'postgres', 'SELECT count(*) FROM ocean_enrich.call WHERE state = $$answered$$'),
	2,
	'promoted: the answers are there');
$standby->safe_psql('postgres', 'SELECT ' . enrich('anna@example.com'));
is($sandbox->books->{requests}, 2, 'promoted: nothing is paid again');
books_agree($standby, $sandbox, 'promoted');

# A wait that is cancelled ends as that of a commit does: with a warning.
$sandbox->reset;
$standby->append_conf('postgresql.conf', "synchronous_standby_names = '*'");
$standby->reload;
$query =
  OceanTest::Query->start($standby, 'SELECT ' . enrich('carla@example.com'));
wait_until($standby,
	q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'});
$standby->safe_psql('postgres',
	q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'});
($stdout, $stderr) = $query->finish;
like($stdout, qr/^\{/, 'cancelled: the answer is returned');
like($stderr, qr/canceling wait for synchronous replication/,
	'cancelled: with a warning');

done_testing();
