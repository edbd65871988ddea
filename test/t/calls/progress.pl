# progress.pl
#	How far each running statement has come can be seen while it runs, whether it
#	reads ahead or not.

use strict;
use warnings FATAL => 'all';

use JSON::PP;
use OceanTest qw(fails wait_until);
use ReadAheadTest;
use Test::More;

my $test = ReadAheadTest->new(extra_conf => "ocean_enrich.reuse_for = '1d'");
my ($sandbox, $node) = ($test->sandbox, $test->node);

$test->sql(q{
	CREATE ROLE anna LOGIN;
	GRANT EXECUTE ON FUNCTION ocean_enrich_person(jsonb), ocean_try_enrich_person(jsonb) TO anna;
	GRANT USAGE ON TYPE ocean_enrich_result TO anna;
	CREATE TABLE crowd AS
		SELECT i AS id, request(i + 100) AS req, NULL::jsonb AS enriched
		FROM generate_series(1, 40) AS i;
	GRANT SELECT, UPDATE ON crowd TO anna});
my $update = 'UPDATE crowd SET enriched = ocean_enrich_person(req)';

# Starts a statement of anna's and waits until so many of its requests are held.
sub start_held
{
	my ($sql, $held) = @_;
	$sandbox->config(hold => JSON::PP::true);
	my $query = OceanTest::Query->start($node, $sql, user => 'anna');
	$sandbox->wait(held => $held);
	return $query;
}

sub let_finish
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($query, $name) = @_;
	$sandbox->config(hold => JSON::PP::false);
	is(($query->finish)[1], '', "$name: succeeds");
	return;
}

# Wait until the only statement there is fulfils a condition.
sub wait_for_progress
{
	my ($condition) = @_;
	wait_until($node, "SELECT count(*) = 1 AND bool_and($condition) FROM ocean_enrich.progress");
	return;
}

my $view = q{SELECT calls, failed, reused, in_flight, ready, credits, waiting IS NOT NULL
	FROM ocean_enrich.progress};
is($test->sql($view), '', 'nothing runs');

# An UPDATE that reads ahead

my $query = start_held($update, 16);
is($test->sql($view), '0|0|0|16|0|0|t', '16 requests under way, and none answered');
is( $test->sql(q{
		SELECT p.role, p.pid = a.pid, p.query_start = a.query_start, p.calls_per_second,
			p.waiting BETWEEN '0' AND clock_timestamp() - p.query_start
		FROM ocean_enrich.progress AS p, pg_stat_activity AS a
		WHERE a.query LIKE 'UPDATE crowd%' AND a.backend_type = 'client backend'}),
	'anna|t|t|0.0|t',
	'it is the statement that pg_stat_activity shows');
$sandbox->config(release => 16);
$sandbox->wait(held => 16);
wait_for_progress('calls = 16 AND waiting IS NOT NULL');
is($test->sql($view), '16|0|0|16|0|48|t', '16 are answered and paid, 16 more are under way');
cmp_ok($test->sql('SELECT calls_per_second FROM ocean_enrich.progress'),
	'>', 0, 'calls per second');
let_finish($query, 'an UPDATE');
is($test->sql($view), '', 'and is no longer shown');

# Answers that came out of turn are there, but the row that waits is the first one.

$test->sql('UPDATE crowd SET req = request(id + 200)');
$sandbox->config(hold => JSON::PP::true);
my $other = OceanTest::Query->start($node,
	'SELECT ocean_enrich_person(req) FROM crowd WHERE id = 16');
$sandbox->wait(held => 1);
$query = start_held($update, 16);
$sandbox->config(release => 1);
$other->finish;
wait_for_progress('ready = 1');
is($test->sql($view), '0|0|0|15|1|0|t', 'an answer that its row does not ask for yet');
let_finish($query, 'an UPDATE that has joined a request');

# From the ledger

$test->sql(q{
	UPDATE crowd SET req = request(id + 300) WHERE id > 30;
	GRANT USAGE ON SCHEMA ocean_enrich TO anna});
$query = start_held($update, 10);
wait_for_progress('calls = 30 AND waiting IS NOT NULL');
is($test->sql($view), '30|0|30|10|0|0|t', 'reused answers are calls that cost nothing');
let_finish($query, 'an UPDATE from the ledger');

# One after the other, with errors as values, in a statement of a function

$test->sql(q{
	UPDATE crowd SET req = request(id + 400);
	UPDATE crowd SET req = ocean_person_request(email => 'sb-unknown@example.com') WHERE id = 2;
	CREATE FUNCTION enrich_all() RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		one jsonb;
		result ocean_enrich_result;
	BEGIN
		FOR one IN SELECT req FROM crowd ORDER BY id LOOP
			result := ocean_try_enrich_person(one);
		END LOOP;
	END $$});
$query = start_held('SELECT enrich_all()', 1);
is($test->sql($view), '0|0|0|1|0|0|t', 'one after the other, the first');
foreach (1 .. 3)
{
	$sandbox->config(release => 1);
	$sandbox->wait(held => 1);
	wait_for_progress("calls = $_ AND waiting IS NOT NULL");
}
is($test->sql($view), '3|1|0|1|0|6|t', 'one after the other, one of them unknown');

# Who may see it: nobody but whom it was granted to, and that without more.

fails($node, 'TABLE ocean_enrich.progress', qr/42501: /,
	'an ordinary role may not see it', user => 'anna');
$test->sql(q{
	CREATE ROLE watcher LOGIN;
	GRANT USAGE ON SCHEMA ocean_enrich TO watcher;
	GRANT SELECT ON ocean_enrich.progress TO watcher;
	GRANT EXECUTE ON FUNCTION ocean_enrich.in_flight(), ocean_enrich.statements() TO watcher});
is((OceanTest::Query->start($node, $view, user => 'watcher')->finish)[0],
	'3|1|0|1|0|6|t', 'somebody who may');
is( $test->sql(q{
		SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute
		WHERE attrelid = 'ocean_enrich.progress'::regclass}),
	'pid role query_start calls failed reused in_flight ready credits calls_per_second waiting',
	'no person is in it');
$test->sql('CREATE DATABASE elsewhere');
is($node->safe_psql('elsewhere', "CREATE EXTENSION ocean_enrich; $view"),
	'', 'another database does not show it');
let_finish($query, 'one after the other');

# A statement that was over before the transaction is; the next one counts anew.

$test->sql('UPDATE crowd SET req = request(id + 500)');
$query = start_held(q{
	BEGIN;
	UPDATE crowd SET enriched = ocean_enrich_person(req) WHERE id <= 2;
	SELECT pg_advisory_xact_lock(1);
	UPDATE crowd SET enriched = ocean_enrich_person(req) WHERE id = 3;
	COMMIT}, 2);
my $lock = OceanTest::Query->start($node, q{
	SELECT pg_advisory_lock(1);
	DO $$ BEGIN
		WHILE NOT EXISTS (SELECT FROM pg_class WHERE relname = 'go_on') LOOP
			PERFORM pg_sleep(0.01);
		END LOOP;
	END $$});
wait_until($node, q{SELECT EXISTS (
	SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted)});
$sandbox->config(release => 2);
wait_until($node, q{SELECT EXISTS (
	SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)});
is($test->sql($view), '', 'a statement that is over is not shown');
$test->sql('CREATE TABLE go_on ()');
$lock->finish;
$sandbox->wait(held => 1);
is($test->sql($view), '0|0|0|1|0|0|t', 'the next one of the transaction counts anew');

# The end of a session

$test->sql('SELECT pg_terminate_backend(pid, 60000) FROM ocean_enrich.progress');
is($test->sql($view), '', 'a session that ended is not shown');
$query->finish;
$sandbox->config(hold => JSON::PP::false);

# A wait that was given up is no wait any more.

$query = start_held(q{
	DO $$
	BEGIN
		BEGIN
			PERFORM ocean_enrich_person('{"person": {"email": "given.up@example.com"}}');
		EXCEPTION WHEN query_canceled THEN
			PERFORM pg_sleep(1000);
		END;
	END $$}, 1);
$test->sql('SELECT pg_cancel_backend(pid) FROM ocean_enrich.progress');
wait_for_progress('waiting IS NULL');
is($test->sql($view), '0|0|0|0|0|0|f', 'a wait that was given up');
$test->sql('SELECT pg_terminate_backend(pid, 60000) FROM ocean_enrich.progress');
$query->finish;
$sandbox->config(hold => JSON::PP::false);

done_testing();
