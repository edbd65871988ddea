# read_ahead_transactions.pl
#	Cursors and subtransactions.  A cursor asks for what is fetched, and goes back
#	where it could without Read Ahead; what was begun in a subtransaction ends with
#	it, and the cursor that began it goes on.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(books_agree wait_until);
use ReadAheadTest;
use Test::More;

my $test = ReadAheadTest->new;
my $select = q{SELECT id, ocean_enrich_person(req) ->> 'id' FROM contact};
my $declare = "DECLARE c CURSOR FOR $select";

# In a session that has not loaded the library when the cursor is planned, the plan
# is the server's own.
sub without_read_ahead
{
	my ($statements, %options) = @_;
	local $ENV{PGOPTIONS} = '-c session_preload_libraries=';
	return $test->run($statements, %options);
}

# Cursors

$test->ahead('FETCH 5', "$declare; FETCH 5 FROM c", requests => 5, at_once => 5);
$test->ahead('FETCH ALL', "$declare; FETCH ALL FROM c");
$test->ahead('MOVE', "$declare; MOVE 4 IN c; FETCH c", requests => 5, at_once => 4);
$test->exact('FETCH, one by one', "$declare; FETCH c; FETCH c; FETCH c", requests => 3);
$test->exact('FETCH 3, FETCH ALL', "$declare; FETCH 3 FROM c; FETCH ALL FROM c",
	requests => 8);
$test->exact('FETCH beyond the end', "$declare; FETCH 20 FROM c; FETCH c",
	requests => 8);
$test->exact(
	'two cursors in turn', qq{
	$declare; DECLARE d CURSOR FOR $select;
	FETCH 2 FROM c; FETCH 3 FROM d; FETCH 2 FROM c; FETCH ALL FROM d},
	requests => 12);
$test->exact(
	'WITH HOLD', qq{
	BEGIN; DECLARE c CURSOR WITH HOLD FOR $select; FETCH 2 FROM c; COMMIT;
	FETCH ALL FROM c; CLOSE c},
	requests => 8,
	transaction => 0);

# Backward, where that is possible without Read Ahead

my $back_and_forth = 'FETCH 4 FROM c; FETCH BACKWARD 3 FROM c; FETCH 5 FROM c';
my $anywhere = q{
	FETCH ABSOLUTE 3 FROM c; FETCH LAST FROM c; FETCH RELATIVE -2 FROM c; FETCH FIRST FROM c};
foreach (
	[ 'a cursor', "$declare; $back_and_forth", 6 ],
	[ 'a cursor, anywhere', "$declare; $anywhere", 8 ],
	[ 'SCROLL', "DECLARE c SCROLL CURSOR FOR $select; $back_and_forth", 6 ],
	[ 'SCROLL, sorted', "DECLARE c SCROLL CURSOR FOR $select ORDER BY 2; $anywhere", 8 ],
	[ 'SCROLL, aggregates', qq{
		DECLARE c SCROLL CURSOR FOR
			SELECT grp, count(ocean_enrich_person(req)) FROM contact GROUP BY grp;
		$anywhere}, 8 ])
{
	my ($name, $statements, $requests) = @$_;
	my $ahead =
	  $test->exact("backward, $name", $statements, requests => $requests);
	is($ahead->{printed}, without_read_ahead($statements)->{printed},
		"backward, $name: as without");
}
like($test->run("DECLARE c NO SCROLL CURSOR FOR $select; FETCH 2 FROM c; FETCH PRIOR FROM c")
	  ->{printed}, qr/ERROR:  55000: /, 'backward, NO SCROLL: an error');
like($test->run("DECLARE c CURSOR FOR $select FOR UPDATE; FETCH 2 FROM c; FETCH PRIOR FROM c")
	  ->{printed}, qr/ERROR:  55000: /, 'backward, FOR UPDATE: an error');

# WHERE CURRENT OF

my $changed = 'SELECT id FROM contact WHERE enriched IS NOT NULL';
my $current = $test->exact(
	'WHERE CURRENT OF', qq{
	DECLARE c CURSOR FOR $select FOR UPDATE;
	MOVE 3 IN c;
	UPDATE contact SET enriched = '{}' WHERE CURRENT OF c;
	$changed},
	requests => 3);
is($current->{printed}, 3, 'WHERE CURRENT OF: the row that was fetched');
like(
	$test->run(qq{
		$declare;
		FETCH 3 FROM c;
		UPDATE contact SET enriched = '{}' WHERE CURRENT OF c})->{printed},
	qr/ERROR:  24000: cursor "c" is not a simply updatable scan/,
	'WHERE CURRENT OF, not FOR UPDATE: an error, not another row');
$current = $test->exact(
	'the call, WHERE CURRENT OF', qq{
	DECLARE c CURSOR FOR SELECT id FROM contact;
	MOVE 3 IN c;
	UPDATE contact SET enriched = ocean_enrich_person(req) WHERE CURRENT OF c;
	$changed},
	requests => 1);
is($current->{printed}, 3, 'the call, WHERE CURRENT OF: the row that was fetched');
$current = $test->exact(
	'WHERE CURRENT OF in plpgsql', qq{
	DO \$\$
	DECLARE
		c CURSOR FOR SELECT id, ocean_enrich_person(req) AS p FROM contact FOR UPDATE;
	BEGIN
		FOR one IN c LOOP
			UPDATE contact SET enriched = one.p WHERE CURRENT OF c;
			EXIT WHEN one.id = 4;
		END LOOP;
	END \$\$;
	$changed},
	requests => 4);
is($current->{printed}, "1\n2\n3\n4", 'WHERE CURRENT OF in plpgsql: all that were fetched');

# Cursors that outlive a subtransaction

$test->exact('ROLLBACK TO after FETCH', qq{
	$declare; SAVEPOINT a; FETCH 3 FROM c; ROLLBACK TO a;
	FETCH 3 FROM c; FETCH ALL FROM c},
	requests => 8);
$test->exact('ROLLBACK TO, again and again', qq{
	$declare;
	SAVEPOINT a; FETCH 2 FROM c; ROLLBACK TO a; FETCH 2 FROM c; ROLLBACK TO a;
	SAVEPOINT b; FETCH 2 FROM c; ROLLBACK TO a; FETCH ALL FROM c},
	requests => 8);
$test->exact('RELEASE after FETCH', qq{
	SAVEPOINT a; $declare; FETCH 3 FROM c; RELEASE a; FETCH ALL FROM c},
	requests => 8);
$test->exact('RELEASE into one that is rolled back', qq{
	$declare; SAVEPOINT a; SAVEPOINT b; FETCH 3 FROM c; RELEASE b; ROLLBACK TO a;
	FETCH 3 FROM c},
	requests => 6);
$test->exact('a subtransaction for each row of a loop', q{
	DO $$
	DECLARE
		one record;
		failures int := 0;
	BEGIN
		FOR one IN SELECT id, ocean_enrich_person(req) FROM contact LOOP
			BEGIN
				PERFORM 1 / (one.id % 2);
			EXCEPTION WHEN division_by_zero THEN
				failures := failures + 1;
			END;
		END LOOP;
		ASSERT failures = 4;
	END $$},
	requests => 8);

# Statements that fail in a subtransaction: what they have begun is left to the
# worker, at once.

$test->sql(q{
	CREATE FUNCTION fail(times int) RETURNS int LANGUAGE plpgsql AS $$
	DECLARE
		failures int := 0;
		kept bigint;
	BEGIN
		FOR i IN 1..times LOOP
			BEGIN
				UPDATE contact SET enriched = ocean_enrich_person(req), grp = 1 / (id - 2);
			EXCEPTION WHEN division_by_zero THEN
				failures := failures + 1;
			END;
			SELECT count(*) INTO kept FROM ocean_enrich.in_flight()
			WHERE pid = pg_backend_pid() AND state NOT IN ('abandoned', 'cancelled');
			ASSERT kept = 0, format('%s calls are kept', kept);
		END LOOP;
		RETURN failures;
	END $$});
my $failing = $test->run(q{
	SET ocean_enrich.reuse_for = '1d';
	UPDATE contact SET req = request(id + 100);
	SELECT fail(200)});
is($failing->{printed}, 200, 'statements that fail in subtransactions');
cmp_ok($failing->{requests}, '<=', 8, 'and each person is asked for once');

# The end of the transaction, from within

$test->sql(q{
	CREATE TABLE late (id int, p text);
	CREATE FUNCTION enrich_late() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		UPDATE late SET p = ocean_enrich_person(request(late.id)) ->> 'id' WHERE p IS NULL;
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER enrich_late AFTER INSERT ON late
		DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.id = 1)
		EXECUTE FUNCTION enrich_late();
	CREATE PROCEDURE commit_each() LANGUAGE plpgsql AS $$
	DECLARE
		one record;
	BEGIN
		FOR one IN SELECT id, ocean_enrich_person(req) ->> 'id' AS p FROM contact LOOP
			INSERT INTO late VALUES (one.id + 10, one.p);
			COMMIT;
		END LOOP;
	END $$});
my $late = 'SELECT id, p FROM late; TRUNCATE late';
$test->ahead(
	'a deferred trigger',
	"INSERT INTO late SELECT id FROM contact; $late",
	transaction => 0);
$test->exact(
	'COMMIT in a loop',
	"CALL commit_each(); $late",
	requests => 8,
	transaction => 0);
$test->exact('ROLLBACK with an open cursor',
	"$declare; FETCH 3 FROM c; ROLLBACK; BEGIN; $declare; FETCH 2 FROM c",
	requests => 5);

wait_until($test->node, 'SELECT NOT EXISTS (SELECT FROM ocean_enrich.in_flight())');
$test->sandbox->reset;
$test->sql('TRUNCATE ocean_enrich.call');
$test->run("$declare; FETCH 3 FROM c; SAVEPOINT a; FETCH 3 FROM c; ROLLBACK TO a");
books_agree($test->node, $test->sandbox, 'after all that');

done_testing();
