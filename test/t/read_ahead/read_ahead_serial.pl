# read_ahead_serial.pl
#	What must not read ahead: calls that not every row makes, places that are no
#	plan node's own, queries in which somebody could notice, and everything when
#	it is turned off.  The requests are as many as without Read Ahead.

use strict;
use warnings FATAL => 'all';

use ReadAheadTest;
use Test::More;

my $test = ReadAheadTest->new;

# Calls that depend on something

$test->serial('a branch of CASE',
	'SELECT CASE WHEN id <= 3 THEN ocean_enrich_person(req) END FROM contact',
	requests => 3);
$test->serial('ELSE of CASE',
	'SELECT CASE id WHEN 1 THEN NULL ELSE ocean_enrich_person(req) END FROM contact',
	requests => 7);
$test->serial('second condition of CASE', q{
	SELECT CASE WHEN grp = 1 THEN 1 WHEN ocean_enrich_person(req) ->> 'id' > '8' THEN 2 END
	FROM contact},
	requests => 4);
$test->serial('second argument of COALESCE', q{
	SELECT coalesce(NULLIF(id, 3)::text, ocean_enrich_person(req) ->> 'id') FROM contact},
	requests => 1);
$test->serial('second operand of AND',
	q{SELECT id <= 2 AND ocean_enrich_person(req) ->> 'id' > '8' FROM contact},
	requests => 2);
$test->serial('second operand of OR',
	q{SELECT id FROM contact WHERE id <= 2 OR ocean_enrich_person(req) ->> 'id' > '8'},
	requests => 6);
$test->serial('FILTER of an aggregate',
	'SELECT count(ocean_enrich_person(req)) FILTER (WHERE id <= 2) FROM contact',
	requests => 2);
$test->serial('beside a set',
	'SELECT ocean_enrich_person(req), generate_series(1, 2) FROM contact WHERE id <= 2',
	requests => 6);
$test->serial('a constant',
	q{SELECT ocean_enrich_person('{"person": {"name": "Anna Berg"}}') FROM contact},
	requests => 8);
$test->serial('an argument that is another row in each evaluation', q{
	CREATE SEQUENCE number;
	SELECT ocean_enrich_person(request(nextval('number')::int)) FROM contact},
	requests => 8);

# The inner calls read ahead; what the outer ones ask is known only then.
$test->exact('a call in the argument of a call', q{
	ALTER FUNCTION ocean_enrich_person(jsonb) STABLE;
	SELECT ocean_enrich_person(ocean_person_request(
		email => (ocean_enrich_person(req) ->> 'id') || '@example.com')) FROM contact},
	requests => 16);

# What a sub-select of the same UPDATE sets is not known before that has run.  A cast
# is how it becomes the argument of a call.

my $cast = q{
	CREATE CAST (jsonb AS ocean_enrich_result)
		WITH FUNCTION ocean_try_enrich_person(jsonb) AS ASSIGNMENT;
	CREATE TABLE results AS SELECT id, 0 AS grp, NULL::ocean_enrich_result AS r FROM contact;
	UPDATE results SET (r, grp) =
		(SELECT request(o.id + 10), o.id FROM other AS o WHERE o.id = results.id);
	SELECT (r).answer -> 'email' ->> 'address', grp FROM results ORDER BY id};
$test->serial('an argument that a sub-select sets', $cast, requests => 8);
is($test->run($cast)->{printed},
	join("\n", map { 'p' . ($_ + 10) . "\@example.com|$_" } 1 .. 8),
	'an argument that a sub-select sets: the right person');

# Sub-selects that are asked now and then

$test->serial('a scalar sub-select', q{
	SELECT (SELECT ocean_enrich_person(req) FROM contact WHERE id = o.id)
	FROM other AS o WHERE flag},
	requests => 4);
$test->serial('a sub-select without a table, in CASE',
	'SELECT CASE WHEN id <= 3 THEN (SELECT ocean_enrich_person(req)) END FROM contact',
	requests => 3);
$test->serial('a sub-select without a table, asked for by a condition of its own',
	'SELECT (SELECT ocean_enrich_person(req) WHERE id <= 3) FROM contact',
	requests => 3);
$test->serial('a sub-select without a table, of no row',
	'SELECT (SELECT ocean_enrich_person(req) LIMIT 0) FROM contact',
	requests => 0);
$test->serial('a sub-select that does not depend on the row',
	'SELECT id, (SELECT ocean_enrich_person(request(1))) FROM contact',
	requests => 1);
$test->serial('EXISTS',
	q{SELECT EXISTS (SELECT FROM contact WHERE ocean_enrich_person(req) ->> 'id' > '0')},
	requests => 1);
$test->serial('IN a correlated sub-select', q{
	SELECT id FROM other AS o WHERE flag AND
		id::text IN (SELECT ocean_enrich_person(req) ->> 'id' FROM contact WHERE id = o.id)},
	requests => 4);
$test->serial('the inner side of a nested loop', q{
	SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off;
	SELECT * FROM other LEFT JOIN contact
		ON contact.id = other.id + 5 AND ocean_enrich_person(req) ->> 'id' > '0'},
	requests => 3);

# Places that are no plan node's own

$test->sql(q{
	CREATE TABLE target (id int PRIMARY KEY, req jsonb, p jsonb);
	CREATE TABLE enriching (id int, req jsonb, p jsonb);
	CREATE FUNCTION enrich() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			NEW.p := ocean_enrich_person(NEW.req);
			RETURN NEW;
		END $$;
	CREATE TRIGGER enrich BEFORE INSERT ON enriching
		FOR EACH ROW EXECUTE FUNCTION enrich()});
$test->serial('VALUES', q{
	INSERT INTO target (id, p)
	VALUES (1, ocean_enrich_person(request(1))), (2, ocean_enrich_person(request(2)))},
	requests => 2);
$test->serial('one row',
	'INSERT INTO target (id, p) VALUES (1, ocean_enrich_person(request(1)))',
	requests => 1);
$test->serial('RETURNING',
	'UPDATE contact SET grp = 2 RETURNING ocean_enrich_person(req)',
	requests => 8);
$test->serial('ON CONFLICT DO UPDATE', q{
	INSERT INTO target SELECT id, req FROM contact WHERE id <= 3;
	INSERT INTO target SELECT id, req FROM contact
		ON CONFLICT (id) DO UPDATE SET p = ocean_enrich_person(excluded.req);
	SELECT id, p FROM target ORDER BY id},
	requests => 3);
$test->serial('MERGE, in its actions', q{
	MERGE INTO contact AS c USING other AS o ON o.id = c.id
	WHEN MATCHED AND flag THEN UPDATE SET enriched = ocean_enrich_person(req);
	SELECT id, enriched FROM contact ORDER BY id},
	requests => 4);
$test->serial('a row trigger',
	'INSERT INTO enriching SELECT id, req FROM contact; TABLE enriching',
	requests => 8);
$test->serial(
	'a loop that may commit', q{
	DO $$
	DECLARE
		person jsonb;
	BEGIN
		FOR person IN SELECT ocean_enrich_person(req) FROM contact LOOP
			CONTINUE WHEN person IS NULL;
		END LOOP;
	END $$},
	requests => 8,
	transaction => 0);
$test->serial('an SQL function that gives row after row', q{
	CREATE FUNCTION all_of_them() RETURNS SETOF jsonb LANGUAGE sql
		AS 'SELECT ocean_enrich_person(req) FROM contact';
	SELECT all_of_them() LIMIT 3},
	requests => 3);

# Another volatile function that users defined, anywhere in the query: it may look
# at what was done so far, or change what comes next.

$test->sql(q{
	CREATE FUNCTION is_done(i int) RETURNS bool LANGUAGE plpgsql VOLATILE AS $$
		BEGIN
			RETURN EXISTS (SELECT FROM contact WHERE id = i AND enriched IS NOT NULL);
		END $$;
	CREATE FUNCTION same(text, text) RETURNS bool LANGUAGE plpgsql VOLATILE
		AS 'BEGIN RETURN $1 = $2; END';
	CREATE OPERATOR === (FUNCTION = same, LEFTARG = text, RIGHTARG = text);
	CREATE VIEW not_done AS SELECT * FROM contact WHERE NOT is_done(id);
	CREATE FUNCTION default_id() RETURNS int LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN 7; END';
	CREATE TABLE with_default (id int DEFAULT default_id(), p jsonb)});
my %noticing = (
	'in WHERE' => 'SELECT ocean_enrich_person(req) FROM contact WHERE NOT is_done(id)',
	'in the target list' => 'SELECT is_done(id), ocean_enrich_person(req) FROM contact',
	'in the argument' =>
	  'SELECT ocean_enrich_person(request(id + is_done(id)::int)) FROM contact',
	'as an operator' =>
	  q{SELECT ocean_enrich_person(req) ->> 'id' === '8' FROM contact},
	'in a sub-select' => q{
		SELECT ocean_enrich_person(req) FROM contact
		WHERE id IN (SELECT id FROM other WHERE NOT is_done(id))},
	'in WITH' => q{
		WITH o AS (SELECT is_done(id) FROM other LIMIT 1)
		SELECT ocean_enrich_person(req) FROM contact},
	'in a view' => 'SELECT ocean_enrich_person(req) FROM not_done',
	'in FROM' => 'SELECT ocean_enrich_person(req) FROM contact, is_done(1)',
	'in ORDER BY' => 'SELECT ocean_enrich_person(req) FROM contact ORDER BY is_done(id)',
	'as a default' =>
	  'INSERT INTO with_default (p) SELECT ocean_enrich_person(req) FROM contact');
$test->serial("a volatile function $_", $noticing{$_}, requests => 8)
  foreach sort keys %noticing;
$test->serial('an UPDATE that a volatile function ends', q{
	CREATE FUNCTION are_done() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
		BEGIN
			RETURN (SELECT count(*) FROM contact WHERE enriched IS NOT NULL);
		END $$;
	UPDATE contact SET enriched = ocean_enrich_person(req) WHERE are_done() < 3;
	SELECT id, enriched FROM contact ORDER BY id},
	requests => 3);
$test->serial('a function that becomes volatile', q{
	CREATE FUNCTION grp(int) RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN $1; END';
	PREPARE enrich AS SELECT ocean_enrich_person(req) FROM contact WHERE grp(id) > 0;
	EXPLAIN (COSTS OFF) EXECUTE enrich \g /dev/null
	ALTER FUNCTION grp VOLATILE;
	EXECUTE enrich},
	requests => 8);
$test->ahead('a function that is stable', q{
	CREATE FUNCTION grp(int) RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN $1; END';
	SELECT ocean_enrich_person(req) FROM contact WHERE grp(id) > 0});

# Turned off

my $select = 'SELECT ocean_enrich_person(req) FROM contact';
$test->serial('concurrency = 1', "SET ocean_enrich.concurrency = 1; $select",
	requests => 8);
$test->serial('concurrency = 1, a plan from before', qq{
	SET plan_cache_mode = force_generic_plan;
	PREPARE enrich AS $select;
	EXPLAIN (COSTS OFF) EXECUTE enrich \\g /dev/null
	SET ocean_enrich.concurrency = 1;
	EXECUTE enrich},
	requests => 8);
$test->serial('max_concurrency = 1', "SET ocean_enrich.max_concurrency = 1; $select",
	requests => 8);
$test->ahead('concurrency = 3', $select, concurrency => 3, at_once => 3);
$test->ahead('max_concurrency = 5', "SET ocean_enrich.max_concurrency = 5; $select",
	at_once => 5);

# Without a preload, the first call loads the library, and what is planned after
# that reads ahead.

{
	local $ENV{PGOPTIONS} = '-c session_preload_libraries=';
	$test->serial('no preload, first statement', $select, requests => 8);
	is($test->run("$select; $select", held => [ (1) x 8, 8 ])->{at_once},
		8, 'no preload, second statement: 8 requests at once');
}

done_testing();
