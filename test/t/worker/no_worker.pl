# no_worker.pl
#	Where no worker can run, a call fails with an error that says why: when the
#	server has no slot for one, and on a standby.  A standby that is promoted knows
#	what the primary paid for, and what it may have paid for.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails wait_until patience books_agree);
use PostgreSQL::Test::Cluster;
use Test::More;

my $sandbox = OceanTest::Sandbox->new;

# No slot for a worker, far more often than there are slots for requests

my $node =
  node($sandbox, name => 'full', extra_conf => 'max_worker_processes = 0');
fails(
	$node,
	'SELECT ' . enrich('anna@example.com'),
	qr/53400: no background worker slot is available .*\nHINT:  Increase "max_worker_processes"/,
	'no slot: the error says what to do');
is( $node->safe_psql(
		'postgres', qq{
		@{[ patience() ]}
		DO \$\$
		BEGIN
			FOR i IN 1..3000 LOOP
				BEGIN
					PERFORM @{[ enrich(q{i || '@example.com'}) ]};
				EXCEPTION WHEN configuration_limit_exceeded THEN
				END;
			END LOOP;
		END \$\$;
		SELECT count(*) FROM ocean_enrich.in_flight()}),
	0,
	'no slot: 3,000 calls leave nothing behind');
is($sandbox->books->{requests}, 0, 'no slot: nothing is sent');
# One is for the launcher of logical replication.
$node->append_conf('postgresql.conf', 'max_worker_processes = 2');
$node->restart;
like(
	$node->safe_psql('postgres', 'SELECT ' . enrich('anna@example.com')),
	qr/^\{/,
	'with a slot: the call succeeds');
books_agree($node, $sandbox, 'with a slot');
$node->stop;

# A standby, and its promotion while calls are on the wire

$sandbox->reset;
my $primary =
  node($sandbox, name => 'primary', init => [ allows_streaming => 1 ]);
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

$primary->safe_psql('postgres', 'SELECT ' . enrich('berta@example.com'));
$sandbox->config(hold => JSON::PP::true);
my $query = OceanTest::Query->start($primary,
	'SELECT ' . enrich('carla@example.com'));
$sandbox->wait(held => 1);
$primary->wait_for_catchup($standby);

fails(
	$standby,
	'SELECT ' . enrich('dora@example.com'),
	qr/25006: cannot enrich on a standby server/,
	'standby: the error says what it is');
fails(
	$standby,
	'SELECT ' . enrich('berta@example.com'),
	qr/25006: /,
	'standby: so it is for a person whom the primary has');

$primary->stop('immediate');
$query->finish;
$sandbox->config(hold => JSON::PP::false);
$standby->promote;
like(
	$standby->safe_psql('postgres', 'SELECT ' . enrich('dora@example.com')),
	qr/^\{/,
	'promoted: a call succeeds at once');
like(
	$standby->safe_psql('postgres', 'SELECT ' . enrich('berta@example.com')),
	qr/^\{/,
	'promoted: so does one that the primary paid for');
fails(
	$standby,
	'SELECT ' . enrich('carla@example.com'),
	qr/OE504: an equal request was sent before/,
	'promoted: what was on the wire is not sent again');
is($sandbox->books->{requests}, 3, 'promoted: each person was asked for once');
books_agree($standby, $sandbox, 'promoted');

done_testing();
