# read_ahead_demand.pl
#	Nobody pays for a row that is not asked for: LIMIT, joins that end early,
#	cheap conditions beside the call, and loops that are left make exactly the
#	requests that they make one after the other.

use strict;
use warnings FATAL => 'all';

use ReadAheadTest;
use Test::More;

my $test = ReadAheadTest->new;
my $call = q{ocean_enrich_person(req) ->> 'id'};

# LIMIT

$test->exact('LIMIT 0', "SELECT $call FROM contact LIMIT 0", requests => 0);
$test->exact('LIMIT 1', "SELECT $call FROM contact LIMIT 1", requests => 1);
$test->ahead('LIMIT 3', "SELECT $call FROM contact LIMIT 3", requests => 3, at_once => 3);
$test->ahead('LIMIT beyond the end', "SELECT $call FROM contact LIMIT 100");
$test->ahead('LIMIT ALL', "SELECT $call FROM contact LIMIT ALL");
$test->ahead(
	'LIMIT and OFFSET',
	"SELECT $call FROM contact LIMIT 3 OFFSET 2",
	requests => 5,
	at_once => 5);
$test->ahead('OFFSET', "SELECT $call FROM contact OFFSET 2");
$test->ahead(
	'LIMIT and ORDER BY',
	"SELECT id, $call FROM contact ORDER BY grp, id LIMIT 3",
	requests => 3,
	at_once => 3);
$test->ahead('LIMIT and ORDER BY the call',
	"SELECT id FROM contact ORDER BY $call LIMIT 3");
$test->exact(
	'WITH TIES',
	"SELECT id, $call FROM contact ORDER BY grp FETCH FIRST 2 ROWS WITH TIES",
	requests => 5);
$test->exact(
	'LIMIT and WHERE',
	"SELECT id FROM contact WHERE $call > '8' LIMIT 3",
	requests => 4);
$test->exact(
	'LIMIT and a condition above',
	"SELECT * FROM (SELECT id, $call AS p FROM contact OFFSET 0) AS e WHERE p > '8' LIMIT 3",
	requests => 4);
$test->exact(
	'LIMIT in LIMIT',
	"SELECT p FROM (SELECT $call AS p FROM contact LIMIT 6) AS e LIMIT 2",
	requests => 2);
$test->exact(
	'LIMIT and a join',
	"SELECT $call FROM contact JOIN other USING (id) WHERE flag LIMIT 3",
	requests => 3);
$test->exact(
	'LIMIT and UNION ALL', qq{
	SELECT $call FROM contact WHERE id > 6 UNION ALL SELECT $call FROM contact LIMIT 5},
	requests => 5);
$test->exact(
	'LIMIT and DISTINCT', qq{
	SET enable_hashagg = off; SET enable_sort = off;
	SELECT DISTINCT id, $call FROM contact LIMIT 2},
	requests => 8);
$test->exact(
	'LIMIT and groups in order', qq{
	SET enable_hashagg = off; SET enable_seqscan = off; SET enable_bitmapscan = off;
	SELECT id, max($call) FROM contact GROUP BY id ORDER BY id LIMIT 2},
	requests => 3);
$test->exact(
	'LIMIT above two calls, one of the other', qq{
	SELECT ocean_enrich_person(ocean_person_request(linkedin => p)) ->> 'id'
	FROM (SELECT $call AS p FROM contact OFFSET 0) AS e LIMIT 3},
	requests => 6);
$test->exact(
	'LIMIT and LATERAL',
	'SELECT id, e FROM contact, ocean_enrich_person(req) AS e LIMIT 3',
	requests => 3);
$test->exact(
	'LIMIT and a sub-select without a table',
	'SELECT id, (SELECT ocean_enrich_person(req)) FROM contact LIMIT 3',
	requests => 3);
$test->exact(
	'LIMIT of what a view calls', qq{
	CREATE VIEW enriching AS SELECT id, $call AS p FROM contact;
	SELECT * FROM enriching LIMIT 2},
	requests => 2);
# 15 would look for equal ids, too, if it were not told about ROWS.
$test->exact(
	'a condition on row_number()', qq{
	SET enable_sort = off;
	SELECT * FROM (
		SELECT row_number() OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) AS n, p
		FROM (SELECT id, $call AS p FROM contact ORDER BY id OFFSET 0) AS e) AS numbered
	WHERE n <= 2},
	requests => 3);

# A sub-select that makes a call for the argument of another one is not begun early.

$test->exact(
	'a sub-select without a table, for the argument of a call', q{
	SELECT ocean_enrich_person(ocean_person_request(linkedin =>
		(SELECT p ->> 'id' FROM ocean_enrich_person(req) AS p))) FROM contact},
	requests => 16);

# WITH, of which only a part is read

$test->exact(
	'two parts of WITH', qq{
	WITH e AS MATERIALIZED (SELECT id, $call AS p FROM contact)
	(SELECT p FROM e LIMIT 6) UNION ALL (SELECT p FROM e LIMIT 5)},
	requests => 6);
$test->exact(
	'a reader of WITH that never runs', qq{
	WITH e AS MATERIALIZED (SELECT id, $call AS p FROM contact)
	SELECT (SELECT p FROM e LIMIT 1), CASE WHEN n > 1 THEN (SELECT count(*) FROM e) END
	FROM (VALUES (1)) AS v (n)},
	requests => 1);
$test->exact(
	'a reader of WITH behind an empty join', qq{
	SET enable_mergejoin = off; SET enable_nestloop = off;
	WITH e AS MATERIALIZED (SELECT id, $call AS p FROM contact)
	SELECT (SELECT p FROM e LIMIT 1), (SELECT count(*) FROM nobody JOIN e USING (id))},
	requests => 1);

# Conditions that cost nothing go first

$test->ahead(
	'a cheap condition beside the call',
	"SELECT id FROM contact WHERE $call > '' AND grp = 1",
	requests => 4,
	at_once => 4);
$test->ahead(
	'a cheap condition that the call in the target list waits for',
	"SELECT $call FROM contact WHERE id % 4 = 0",
	requests => 2,
	at_once => 2);
$test->ahead(
	'a join that leaves few',
	"SELECT $call FROM contact JOIN other USING (id) WHERE flag",
	requests => 4,
	at_once => 4);
$test->exact(
	'two calls in WHERE', qq{
	SELECT id FROM contact
	WHERE $call > '8' AND ocean_enrich_person(request(id + 10)) ->> 'id' > ''},
	requests => 13);
$test->exact(
	'a costly condition behind the call', qq{
	CREATE FUNCTION is_odd(int) RETURNS bool LANGUAGE plpgsql STABLE COST 100000
		AS 'BEGIN RETURN \$1 % 2 = 1; END';
	SELECT id FROM contact WHERE is_odd(id) AND $call > '8'},
	requests => 8);
$test->ahead(
	'a condition that is false from the start',
	"SELECT $call FROM contact WHERE now() < '2000-01-01' UNION ALL SELECT $call FROM contact");

# Joins that end early, over a side that makes calls

my $side = "(SELECT id, $call AS p FROM contact ORDER BY id OFFSET 0) AS e";
$test->exact(
	'hash join, nobody to join with', qq{
	SET enable_mergejoin = off; SET enable_nestloop = off;
	SELECT p FROM nobody JOIN $side USING (id)},
	requests => 0);
$test->exact(
	'hash join, nobody to join with in the hash table', qq{
	SET enable_mergejoin = off; SET enable_nestloop = off;
	SELECT p FROM $side LEFT JOIN other USING (id) JOIN nobody USING (id)},
	requests => 0);
$test->exact(
	'merge join, the other side ends first', qq{
	SET enable_hashjoin = off; SET enable_nestloop = off;
	CREATE TEMP TABLE two (id int PRIMARY KEY);
	INSERT INTO two VALUES (1), (2);
	SELECT p FROM $side JOIN two USING (id)},
	requests => 3);
$test->exact(
	'nested loop', qq{
	SET enable_hashjoin = off; SET enable_mergejoin = off;
	SELECT p FROM nobody JOIN $side USING (id)},
	requests => 0);
$test->exact(
	'EXISTS', qq{
	SELECT o.id FROM other AS o
	WHERE EXISTS (SELECT FROM contact WHERE grp = o.id % 2 AND $call > '8')},
	requests => 8);
$test->exact(
	'rescans', qq{
	SELECT (SELECT count($call) FROM contact WHERE id > o.id) FROM other AS o WHERE id > 4},
	requests => 6);
$test->exact(
	'LATERAL with LIMIT', qq{
	SELECT o.id, p FROM other AS o, LATERAL
		(SELECT $call AS p FROM contact WHERE grp = o.id % 2 LIMIT 2) AS e
	WHERE flag},
	requests => 8);
# Memoize makes the call once for equal rows.  To begin it for each of them costs
# nothing only if answers are reused.

$test->sql(q{
	CREATE TABLE twins AS SELECT i AS id, i % 2 AS person FROM generate_series(1, 40) AS i;
	ANALYZE twins});
my $memoize = q{
	SELECT id, p FROM twins, LATERAL
		(SELECT ocean_enrich_person(request(person)) ->> 'id' AS p OFFSET 0) AS e};
like($test->sql("EXPLAIN $memoize"), qr/Memoize/, 'Memoize: the plan has it');
$test->serial('Memoize', $memoize, requests => 2);
my $new_twins = $memoize =~ s/person\)/person + 100)/r;
is($test->run("SET ocean_enrich.reuse_for = '1d'; $new_twins", held => [2])->{at_once},
	2, 'Memoize, answers are reused: 2 requests at once');
my $new_arguments = $memoize =~ s/person\)\)/person + 200), reuse_for => '1 day')/r;
is($test->run($new_arguments, held => [2])->{at_once},
	2, 'Memoize, answers are reused by an argument: 2 requests at once');
$test->serial('Memoize, answers are not reused by an argument',
	"SET ocean_enrich.reuse_for = '1d'; " . $memoize =~ s/person\)\)/person), reuse_for => '0')/r, requests => 2);

# What runs nothing

$test->exact("$_->[0]", $_->[1], requests => 0)
  foreach (
	[ 'EXPLAIN', "EXPLAIN (COSTS OFF, VERBOSE) SELECT $call FROM contact \\g /dev/null\n" ],
	[ 'EXPLAIN of an UPDATE',
		"EXPLAIN UPDATE contact SET enriched = ocean_enrich_person(req) \\g /dev/null\n" ],
	[ 'PREPARE', "PREPARE enrich AS SELECT $call FROM contact" ],
	[ 'DECLARE', "DECLARE c CURSOR FOR SELECT $call FROM contact" ],
	[ 'WITH NO DATA',
		"CREATE MATERIALIZED VIEW made AS SELECT $call FROM contact WITH NO DATA" ],
	[ 'no rows', "SELECT $call FROM contact WHERE id > 100" ],
	[ 'NULL', "SELECT ocean_enrich_person(enriched) FROM contact" ]);
$test->ahead(
	'NULL among others', q{
	SELECT id, ocean_enrich_person(ocean_person_request(
		email => CASE grp WHEN 1 THEN 'p' || id || '@example.com' END)) ->> 'id'
	FROM contact},
	requests => 4,
	at_once => 4);

# Loops in plpgsql ask for ten rows, then for fifty; in blocks that may commit, for
# one.

$test->sql(q{
	CREATE TABLE forty AS
		SELECT i AS id, request(i) AS req FROM generate_series(1, 40) AS i;
	CREATE FUNCTION first_of_loop(n int) RETURNS int LANGUAGE plpgsql AS $$
		DECLARE
			person jsonb;
			persons int := 0;
		BEGIN
			FOR person IN SELECT ocean_enrich_person(req) FROM forty LOOP
				persons := persons + 1;
				EXIT WHEN persons = n;
			END LOOP;
			RETURN persons;
		END $$;
	CREATE FUNCTION into_variable() RETURNS text LANGUAGE plpgsql AS $$
		DECLARE
			person jsonb;
		BEGIN
			SELECT ocean_enrich_person(req) INTO person FROM forty;
			RETURN person ->> 'id';
		END $$;
	CREATE FUNCTION returning_into_variable() RETURNS text LANGUAGE plpgsql AS $$
		DECLARE
			person jsonb;
		BEGIN
			UPDATE contact SET enriched = ocean_enrich_person(req)
				RETURNING enriched INTO person;
			RETURN person ->> 'id';
		EXCEPTION WHEN too_many_rows THEN
			RETURN 'too many';
		END $$});
$test->exact('a loop that is left', 'SELECT first_of_loop(5)', requests => 10);
$test->ahead(
	'a loop that is left late',
	'SELECT first_of_loop(15)',
	requests => 40,
	at_once => 10);
$test->exact(
	'a loop that is left in a block that may commit', q{
	DO $$
	DECLARE
		person jsonb;
	BEGIN
		FOR person IN SELECT ocean_enrich_person(req) FROM forty LOOP
			EXIT;
		END LOOP;
	END $$},
	requests => 1,
	transaction => 0);
$test->exact('SELECT INTO', 'SELECT into_variable()', requests => 1);
$test->exact(
	'UPDATE RETURNING INTO, too many rows',
	'SELECT returning_into_variable()',
	requests => 2);

done_testing();
