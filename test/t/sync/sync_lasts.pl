# sync_lasts.pl
#	Syncs over crashes, restarts, dumps, copies and dropped databases; and
#	answers that are asked for again when they are old.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node fails books_agree wait_until worker_pid);
use SyncTest qw(owner create settled status applier_pid);
use PostgreSQL::Test::Utils;
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
# The queue leaves one to sessions.
my $node = node($sandbox, extra_conf => "ocean_enrich.max_concurrency = 9\nocean_enrich.reuse_for = 0");
owner($node, 'anna');

sub sql { return $node->safe_psql($_[1] // 'postgres', $_[0]) }

sql(q{
	SET ROLE anna;
	CREATE TABLE contacts (gone integer, id integer PRIMARY KEY, email text, enriched jsonb);
	ALTER TABLE contacts DROP COLUMN gone;
	INSERT INTO contacts SELECT i, 'person' || i || '@example.com' FROM generate_series(1, 40) AS i});

# The applier dies

$sandbox->config(hold => JSON::PP::true);
create($node, 'anna', 'contacts');
$sandbox->wait(held => 8);
my $applier = applier_pid($node);
kill 'TERM', $applier;
wait_until($node, qq{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $applier)});
$sandbox->config(hold => JSON::PP::false);
settled($node);
is(status($node), 'enabled|0|0|40|0|0|0|120.0', 'an applier that was ended is started again');
isnt(applier_pid($node), $applier, 'it is another one');

# The server crashes with calls on the wire

$sandbox->config(hold => JSON::PP::true);
sql(q{INSERT INTO contacts SELECT i, 'person' || i || '@example.com' FROM generate_series(41, 60) AS i});
$sandbox->wait(held => 8);
wait_until($node, q{SELECT in_flight = 8 AND waiting = 12 FROM ocean_enrich.sync_status});
$node->stop('immediate');
$node->start;
$sandbox->config(hold => JSON::PP::false);
sql(q{INSERT INTO contacts VALUES (61, 'wakes@example.com')});
settled($node);
is(status($node), 'enabled|0|0|53|0|0|8|159.0', 'after a crash, what was on the wire is unknown, the rest goes on');
books_agree($node, $sandbox, 'after a crash');
sql(q{SELECT ocean_enrich.resolve(call_id, 'pay again', 3) FROM ocean_enrich.unknown_calls});
wait_until($node, 'SELECT done = 61 FROM ocean_enrich.sync_status');
is(status($node), 'enabled|0|0|61|0|0|0|183.0', 'what is decided to be paid again is asked for again');
books_agree($node, $sandbox, 'paid again');

# A counter is exact under rollbacks and with any number of them.

is( sql(q{SELECT sum(rows) FILTER (WHERE state = 'done') = (SELECT count(*) FROM ocean_enrich.sync_row)
		AND count(*) < 300 FROM ocean_enrich.sync_count}),
	't', 'the counters are few and true');

# A dump is restored, under other column numbers

sql('ALTER TABLE contacts RENAME COLUMN email TO mail');
sql(q{INSERT INTO contacts VALUES (62, 'renamed@example.com')});
settled($node);
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
$node->command_ok([ 'pg_dump', '--no-sync', '--file', $dump, '--dbname', $node->connstr('postgres') ], 'dump');
my $requests = $sandbox->books->{requests};
sql('CREATE DATABASE restored');
$node->command_ok(
	[ 'psql', '--no-psqlrc', '--quiet', '--set', 'ON_ERROR_STOP=1', '--file', $dump, '--dbname', $node->connstr('restored') ],
	'restore');
is( sql('SELECT name, relation, owner, state, waiting, done FROM ocean_enrich.sync_status', 'restored'),
	'contacts|contacts|anna|copied|0|62', 'the definition and the counters are there');
sql(q{INSERT INTO contacts VALUES (70, 'copied@example.com')}, 'restored');
is( sql('SELECT waiting FROM ocean_enrich.sync_status', 'restored'), 1, 'changes are noted');
is($sandbox->books->{requests}, $requests, 'but a copy sends nothing');
sql(q{SELECT ocean_enrich.enable_sync('contacts')}, 'restored');
settled($node, 'contacts', 'restored');
is( sql(q{SELECT enriched -> 'email' ->> 'address' FROM contacts WHERE id = 70}, 'restored'),
	'copied@example.com', 'until it is enabled there');
is($sandbox->books->{requests}, $requests + 1, 'and then only what changed');
is( sql('SELECT credits FROM ocean_enrich.sync_status', 'restored'), 189, 'with what it cost before');

# A copy by template, and databases that go

sql('CREATE DATABASE copy TEMPLATE restored');
is( sql('SELECT state FROM ocean_enrich.sync_status', 'copy'), 'copied', 'a template gives a copy, too');
sql(q{SELECT ocean_enrich.enable_sync('contacts'); UPDATE contacts SET mail = 'copy@example.com' WHERE id = 1;}, 'copy');
settled($node, 'contacts', 'copy');
sql('DROP DATABASE copy');
sql('DROP DATABASE restored');
is(sql(q{SELECT count(*) FROM pg_database WHERE datname IN ('copy', 'restored')}), 0,
	'databases with an applier can be copied and dropped');

# Old answers are asked for again.

sql(q{SELECT ocean_enrich.alter_sync('contacts', refresh_after => '1 day')});
sql(q{UPDATE contacts SET mail = 'refreshed@example.com' WHERE id = 2});
settled($node);
is( sql(q{SELECT count(*) FROM ocean_enrich.sync_row WHERE refresh_at BETWEEN now() + '23 hours' AND now() + '25 hours'}),
	1, 'an answer has its date');
$requests = $sandbox->books->{requests};
sql(q{UPDATE ocean_enrich.sync_row SET refresh_at = now(), settled_at = '2026-01-01' WHERE key = '{2}'; UPDATE contacts SET mail = mail;
	INSERT INTO contacts VALUES (80, NULL)});
wait_until($node, q{SELECT settled_at > '2026-01-01' AND refresh_at > now() AND state = 'done'
	FROM ocean_enrich.sync_row WHERE key = '{2}'});
is($sandbox->books->{requests}, $requests + 1, 'and is asked for again then, alone');

# Without the extension there is no applier.

sql('DROP EXTENSION ocean_enrich CASCADE');
wait_until($node, q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'ocean_enrich sync applier')});
is(sql(q{INSERT INTO contacts VALUES (90, 'nobody@example.com') RETURNING id}), 90,
	'and the table is a plain one');

done_testing();
