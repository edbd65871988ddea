# read_ahead_locks.pl
#	Sessions that change the same rows wait for each other with answers in hand.
#	They must not keep the places that the one they wait for needs.

use strict;
use warnings FATAL => 'all';

use JSON::PP;
use OceanTest qw(books_agree patience wait_until);
use ReadAheadTest;
use Test::More;

# What channel.h says: places in all, and those that are kept from early requests.
my ($places, $reserved) = (2048, 512);
my ($people, $sessions) = (700, 3);
my $crowd = $people * $sessions;

my $test = ReadAheadTest->new(extra_conf => "ocean_enrich.reuse_for = '1d'");
my ($sandbox, $node) = ($test->sandbox, $test->node);
$test->sql(qq{
	CREATE TABLE crowd AS
		SELECT i AS id, request(i + 10000) AS req, NULL::jsonb AS enriched
		FROM generate_series(1, $crowd) AS i;
	ALTER TABLE crowd ADD PRIMARY KEY (id);
	CREATE TABLE enriched (id int, p jsonb);
	ANALYZE});

# Some rows are locked, by somebody who will want an answer later.

my $holder = OceanTest::Query->start($node, qq{
	@{[ patience() ]}
	BEGIN;
	UPDATE crowd SET enriched = '{}' WHERE id % $people = 0;
	DO \$\$ BEGIN
		WHILE NOT EXISTS (SELECT FROM pg_class WHERE relname = 'go_on') LOOP
			PERFORM pg_sleep(0.01);
		END LOOP;
	END \$\$;
	UPDATE crowd SET enriched = ocean_enrich_person(request(10000)) WHERE id = $people;
	COMMIT});
wait_until($node, q{
	SELECT EXISTS (SELECT FROM pg_locks
		WHERE relation = 'crowd'::regclass AND mode = 'RowExclusiveLock')});

# Others lock row after row and begin as many calls as they can, until they come to
# one of those rows: then each has its hands full, and waits.

my $others = q{FROM pg_stat_activity WHERE application_name = 'other' AND state = 'active'};
$sandbox->config(hold => JSON::PP::true);
my @others = map {
	my ($first, $last) = ($_ * $people + 1, ($_ + 1) * $people);
	OceanTest::Query->start($node, qq{
		SET application_name = 'other';
		SET ocean_enrich.concurrency = 1024;
		INSERT INTO enriched SELECT id, ocean_enrich_person(req)
		FROM (SELECT id, req FROM crowd WHERE id BETWEEN $first AND $last
			ORDER BY id FOR UPDATE) AS locked})
} (0 .. $sessions - 1);
wait_until($node,
	"SELECT count(*) FILTER (WHERE wait_event_type = 'Lock') = $sessions $others");
$sandbox->wait(held => 64);
pass('meanwhile calls are made, though nobody has waited for one yet');
$sandbox->config(hold => JSON::PP::false);
wait_until($node, "SELECT bool_and(state = 'done') FROM ocean_enrich.in_flight()");
is($test->sql('SELECT count(*) FROM ocean_enrich.in_flight()'),
	$places - $reserved,
	'early requests have taken all the places that they may, and keep their answers');

$test->sql('CREATE TABLE go_on ()');
is(($holder->finish)[1], '', 'the one who holds the rows gets its answer all the same');
is(($_->finish)[1], '', 'and so the others can go on') foreach @others;
is($sandbox->books->{charges}, $crowd + 1, 'each person was paid once');
books_agree($node, $sandbox, 'locks');

# Many of them over and over.  They lock the rows in the order of the index; that of
# the table differs between those who see different versions of the rows.

$test->sql('UPDATE crowd SET req = request(id + 20000)');
$sandbox->reset;
$test->sql('TRUNCATE ocean_enrich.call');
my @crowd = map {
	OceanTest::Query->start($node, qq{
		SET ocean_enrich.concurrency = 300;
		SET enable_seqscan = off; SET enable_bitmapscan = off;
		UPDATE crowd SET enriched = ocean_enrich_person(req) WHERE id <= $people;
		UPDATE crowd SET enriched = ocean_enrich_person(req) WHERE id <= $people})
} (1 .. 8);
is(($_->finish)[1], '', 'one of many that change the same rows') foreach @crowd;
is($sandbox->books->{charges}, $people, 'many: each person was paid once');
books_agree($node, $sandbox, 'many');

done_testing();
