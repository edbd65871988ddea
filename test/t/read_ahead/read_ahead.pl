# read_ahead.pl
#	The forms of a statement that read ahead: each makes exactly the requests that
#	it makes one after the other, prints the same, and has many of them under way
#	before the first is answered.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(books_agree);
use ReadAheadTest;
use Test::More;

my $test = ReadAheadTest->new(extra_conf => 'max_prepared_transactions = 1');

# Queries

$test->ahead('SELECT', 'SELECT id, ocean_enrich_person(req) FROM contact');
$test->ahead('nested in expressions',
	q{SELECT upper((ocean_enrich_person(req)) ->> 'id') || id FROM contact});
$test->ahead('ocean_try_enrich_person',
	q{SELECT id, (ocean_try_enrich_person(req)).answer FROM contact});
$test->ahead('settings as arguments',
	q{SELECT id, ocean_enrich_person(req, 'null', '0') FROM contact});
$test->ahead('one of them',
	q{SELECT id, ocean_enrich_person(req, reuse_for => '0') FROM contact});
$test->ahead('one of them, ocean_try_enrich_person',
	q{SELECT id, (ocean_try_enrich_person(req, reuse_for => '0')).answer FROM contact});
$test->ahead('arguments of each row', q{
	SELECT id, ocean_enrich_person(req, CASE grp WHEN 0 THEN 'null' END, grp * interval '0') FROM contact});
$test->ahead('arguments that are parameters', q{
	SET plan_cache_mode = force_generic_plan;
	PREPARE settings AS SELECT id, ocean_enrich_person(req, $1, $2) FROM contact;
	EXECUTE settings ('null', '0')});
$test->ahead('arguments in an aggregate',
	q{SELECT count(ocean_enrich_person(req, 'null', '0')), max(id) FROM contact});
$test->ahead(
	'calls that differ in their arguments', q{
	SELECT ocean_enrich_person(req, reuse_for => '0') ->> 'id', ocean_enrich_person(request(id + 10), 'null') ->> 'id'
	FROM contact},
	requests => 16,
	at_once => 16);
$test->ahead(
	'two calls in a row',
	q{SELECT ocean_enrich_person(req) ->> 'id', ocean_enrich_person(request(id + 10)) ->> 'id'
	FROM contact},
	requests => 16,
	at_once => 16);
$test->ahead(
	'the call of a call',
	q{SELECT ocean_enrich_person(
		ocean_person_request(linkedin => ocean_enrich_person(req) ->> 'id')) ->> 'id'
	FROM contact},
	requests => 16);
$test->ahead('WHERE',
	q{SELECT id FROM contact WHERE ocean_enrich_person(req) ->> 'id' > '8'});
$test->ahead('WHERE and the target list', q{
	SELECT id, ocean_enrich_person(request(id + 10)) ->> 'id' FROM contact
	WHERE ocean_enrich_person(req) ->> 'id' IS NOT NULL},
	requests => 16);
$test->ahead('ORDER BY',
	q{SELECT id FROM contact ORDER BY ocean_enrich_person(req) ->> 'id'});
$test->ahead('DISTINCT',
	q{SELECT DISTINCT ocean_enrich_person(req) ->> 'domain' FROM contact});
$test->ahead('first argument of COALESCE',
	q{SELECT coalesce(ocean_enrich_person(req) ->> 'id', '') FROM contact});
$test->ahead('argument of CASE', q{
	SELECT CASE ocean_enrich_person(req) ->> 'domain' WHEN 'example.com' THEN 1 ELSE 2 END
	FROM contact});
$test->ahead('first condition of CASE', q{
	SELECT CASE WHEN ocean_enrich_person(req) ->> 'id' > '8' THEN 1 ELSE 2 END FROM contact});
$test->ahead('a sub-select in the argument', q{
	SELECT ocean_enrich_person((SELECT request(o.id + 10) FROM other o WHERE o.id = c.id))
	FROM contact c});
$test->ahead('ARRAY (SELECT)',
	q{SELECT array_length(ARRAY (SELECT ocean_enrich_person(req) FROM contact), 1)});
$test->ahead('NOT IN (SELECT)', q{
	SELECT id FROM other
	WHERE id::text NOT IN (SELECT ocean_enrich_person(req) ->> 'id' FROM contact)});
$test->ahead('UNION ALL', q{
	SELECT ocean_enrich_person(req) ->> 'id' FROM contact WHERE grp = 0
	UNION ALL SELECT ocean_enrich_person(req) ->> 'id' FROM contact WHERE grp = 1});
$test->ahead('EXCEPT',
	q{SELECT ocean_enrich_person(req) ->> 'id' FROM contact EXCEPT SELECT 'nobody'});
$test->ahead('window function',
	q{SELECT rank() OVER (ORDER BY id), ocean_enrich_person(req) ->> 'id' FROM contact});
$test->ahead('TABLESAMPLE',
	'SELECT id, ocean_enrich_person(req) FROM contact TABLESAMPLE SYSTEM (100)');
$test->ahead('volatile functions of the server', q{
	SELECT ocean_enrich_person(req) ->> 'id' FROM contact WHERE clock_timestamp() > now()});
$test->ahead('FOR UPDATE',
	q{SELECT id, ocean_enrich_person(req) ->> 'id' FROM contact FOR UPDATE});

# Joins

$test->ahead('hash join', q{
	SET enable_mergejoin = off; SET enable_nestloop = off;
	SELECT ocean_enrich_person(req) ->> 'id', flag FROM contact JOIN other USING (id)});
$test->ahead('merge join', q{
	SET enable_hashjoin = off; SET enable_nestloop = off;
	SELECT ocean_enrich_person(req) ->> 'id', flag FROM contact JOIN other USING (id)});
$test->ahead('nested loop', q{
	SET enable_hashjoin = off; SET enable_mergejoin = off;
	SELECT ocean_enrich_person(req) ->> 'id', flag FROM contact JOIN other USING (id)});
$test->ahead('below a join', q{
	SELECT p ->> 'id', flag
	FROM (SELECT id, ocean_enrich_person(req) AS p FROM contact OFFSET 0) AS c
		JOIN other USING (id)});
$test->ahead('LATERAL, the function',
	q{SELECT id, p ->> 'id' FROM contact, ocean_enrich_person(req) AS p});
$test->ahead('LATERAL, ocean_try_enrich_person',
	'SELECT id, status, answer FROM contact, ocean_try_enrich_person(req)');
$test->ahead('LATERAL, arguments of each row', q{
	SELECT id, status, p ->> 'id'
	FROM contact, ocean_try_enrich_person(req, grp * interval '0') WITH ORDINALITY,
		ocean_enrich_person(request(id + 10), CASE grp WHEN 0 THEN 'null' END) AS p},
	requests => 16);
$test->ahead('LATERAL, a set of what was enriched',
	'SELECT id, key FROM contact, jsonb_each(ocean_enrich_person(req))');
$test->ahead('LATERAL, a sub-select', q{
	SELECT p ->> 'id', p ->> 'domain'
	FROM contact, LATERAL (SELECT ocean_enrich_person(req) AS p OFFSET 0) AS enriched});
$test->ahead('LEFT JOIN LATERAL', q{
	SELECT contact.id, p ->> 'id'
	FROM contact LEFT JOIN LATERAL
		(SELECT ocean_enrich_person(req) AS p OFFSET 0) AS enriched ON true});

# Aggregates

$test->ahead('count', 'SELECT count(ocean_enrich_person(req)) FROM contact');
$test->ahead('GROUP BY, hashed', q{
	SET enable_sort = off;
	SELECT grp, max(ocean_enrich_person(req) ->> 'id') FROM contact GROUP BY grp});
$test->ahead('GROUP BY, sorted', q{
	SET enable_hashagg = off;
	SELECT grp, max(ocean_enrich_person(req) ->> 'id') FROM contact GROUP BY grp});
$test->ahead('GROUP BY the call',
	q{SELECT ocean_enrich_person(req) ->> 'id', count(*) FROM contact GROUP BY 1});
$test->ahead('HAVING', q{
	SELECT grp FROM contact GROUP BY grp HAVING max(ocean_enrich_person(req) ->> 'id') > '0'});
$test->ahead(
	'the call of an aggregate', q{
	SELECT ocean_enrich_person(request(max(id))) ->> 'id' FROM contact GROUP BY grp},
	requests => 2,
	at_once => 2);
$test->ahead('an aggregate in a correlated sub-select', q{
	SELECT (SELECT count(ocean_enrich_person(req)) FROM contact WHERE grp = g)
	FROM generate_series(0, 1) AS g},
	at_once => 4);

# Above parallel workers

$test->sql(q{
	CREATE TABLE many (id int, req jsonb);
	INSERT INTO many SELECT i, request(i) FROM generate_series(1, 1000) AS i;
	ANALYZE many});
my $parallel = q{
	SET min_parallel_table_scan_size = 0;
	SET parallel_setup_cost = 0;
	SET parallel_tuple_cost = 0;};
$test->ahead('above Gather',
	"$parallel SELECT id, ocean_enrich_person(req) FROM many WHERE id <= 8 ORDER BY id");
like(
	$test->sql("$parallel EXPLAIN SELECT ocean_enrich_person(req) FROM many WHERE id <= 8"),
	qr/Read Ahead.*Gather .*Parallel Seq Scan/s,
	'above Gather: the plan has parallel workers');

# WITH

$test->ahead('WITH', q{
	WITH e AS (SELECT id, ocean_enrich_person(req) AS p FROM contact)
	SELECT id, p ->> 'id' FROM e});
$test->ahead('WITH MATERIALIZED', q{
	WITH e AS MATERIALIZED (SELECT id, ocean_enrich_person(req) AS p FROM contact)
	SELECT id, p ->> 'id' FROM e});
$test->ahead('WITH, read twice', q{
	WITH e AS (SELECT id, ocean_enrich_person(req) ->> 'id' AS p FROM contact)
	SELECT (SELECT count(p) FROM e), (SELECT max(p) FROM e)});
$test->ahead('WITH, read twice by a join', q{
	WITH e AS (SELECT id, ocean_enrich_person(req) ->> 'id' AS p FROM contact)
	SELECT e.p, f.p FROM e JOIN e AS f USING (id)},
	at_once => 7,
	first_alone => 1);
$test->ahead('WITH, read by two statements', q{
	WITH e AS (SELECT id, ocean_enrich_person(req) AS p FROM contact),
		changed AS (UPDATE contact SET enriched = p FROM e WHERE e.id = contact.id)
	SELECT count(p) FROM e});
$test->ahead('WITH (UPDATE RETURNING)', q{
	WITH e AS (UPDATE contact SET enriched = ocean_enrich_person(req) RETURNING enriched)
	SELECT count(enriched) FROM e});
$test->ahead('WITH (UPDATE RETURNING) that nobody reads', q{
	WITH e AS (UPDATE contact SET enriched = ocean_enrich_person(req) RETURNING id)
	SELECT count(*) FROM other});
$test->ahead('WITH (UPDATE RETURNING) of which one row is read', q{
	WITH e AS (UPDATE contact SET enriched = ocean_enrich_person(req) RETURNING id)
	SELECT id FROM e LIMIT 1});

# Changing tables

my $enriched = q{SELECT id, enriched ->> 'id' FROM contact ORDER BY id};
$test->ahead('UPDATE',
	"UPDATE contact SET enriched = ocean_enrich_person(req); $enriched");
$test->ahead('UPDATE WHERE', qq{
	UPDATE contact SET enriched = ocean_enrich_person(req) WHERE enriched IS NULL; $enriched});
$test->ahead('UPDATE FROM', qq{
	UPDATE contact SET enriched = ocean_enrich_person(req) FROM other
	WHERE other.id = contact.id; $enriched});
$test->ahead('UPDATE RETURNING',
	'UPDATE contact SET enriched = ocean_enrich_person(req) RETURNING id, enriched');
$test->ahead('UPDATE, errors as values', qq{
	UPDATE contact SET enriched = (ocean_try_enrich_person(req)).answer; $enriched});
$test->ahead('UPDATE FROM LATERAL, errors as values', qq{
	UPDATE contact AS c SET enriched = r.answer, grp = r.status
	FROM contact AS asked, ocean_try_enrich_person(asked.req) AS r
	WHERE asked.id = c.id; $enriched});
$test->ahead('UPDATE, several columns by a sub-select', qq{
	UPDATE contact c SET enriched = ocean_enrich_person(req),
		(grp, id) = (SELECT id + 10, id + 20 FROM other o WHERE o.id = c.id); $enriched});
$test->ahead('UPDATE by WITH', qq{
	WITH e AS MATERIALIZED (SELECT id, ocean_enrich_person(req) AS p FROM contact)
	UPDATE contact SET enriched = p FROM e WHERE e.id = contact.id; $enriched},
	at_once => 7,
	first_alone => 1);
$test->ahead('UPDATE, several columns of an error as a value', qq{
	UPDATE contact SET (enriched, grp) =
		(SELECT r.answer, r.status FROM ocean_try_enrich_person(req) AS r);
	SELECT grp, id, enriched ->> 'id' FROM contact ORDER BY id});
$test->ahead('UPDATE, sub-selects without a table', qq{
	UPDATE contact SET enriched = (SELECT ocean_enrich_person(req)),
		grp = (SELECT status FROM ocean_try_enrich_person(request(id + 10)));
	SELECT grp, id, enriched ->> 'id' FROM contact ORDER BY id},
	requests => 16,
	at_once => 16);
$test->ahead('UPDATE, beside a sub-select', qq{
	UPDATE contact SET enriched = ocean_enrich_person(req),
		grp = (SELECT status FROM ocean_try_enrich_person(request(contact.id + 10)));
	SELECT grp, id, enriched ->> 'id' FROM contact ORDER BY id},
	requests => 16,
	at_once => 16);
$test->ahead('DELETE', q{
	DELETE FROM contact WHERE ocean_enrich_person(req) ->> 'id' > '8' RETURNING id});
$test->ahead('MERGE, in its source', qq{
	MERGE INTO contact c USING (SELECT id, ocean_enrich_person(req) AS p FROM contact) AS e
		ON c.id = e.id
	WHEN MATCHED THEN UPDATE SET enriched = p; $enriched},
	at_once => 7,
	first_alone => 1);

$test->sql('CREATE TABLE target (id int PRIMARY KEY, p jsonb)');
my $target = q{SELECT id, p ->> 'id' FROM target};
$test->ahead('INSERT SELECT',
	"INSERT INTO target SELECT id, ocean_enrich_person(req) FROM contact; $target");
$test->ahead('INSERT SELECT ON CONFLICT', qq{
	INSERT INTO target SELECT id, '{}' FROM other;
	INSERT INTO target SELECT id, ocean_enrich_person(req) FROM contact
		ON CONFLICT (id) DO UPDATE SET p = excluded.p; $target});
$test->ahead('CREATE TABLE AS', q{
	CREATE TABLE made AS SELECT id, ocean_enrich_person(req) FROM contact; TABLE made});
$test->ahead('CREATE MATERIALIZED VIEW', q{
	CREATE MATERIALIZED VIEW made AS SELECT id, ocean_enrich_person(req) FROM contact;
	TABLE made});
$test->ahead('REFRESH MATERIALIZED VIEW', q{
	CREATE MATERIALIZED VIEW made AS SELECT id, ocean_enrich_person(req) FROM contact
		WITH NO DATA;
	REFRESH MATERIALIZED VIEW made; TABLE made});
$test->ahead('COPY (SELECT) TO',
	'COPY (SELECT id, ocean_enrich_person(req) FROM contact) TO STDOUT');
$test->ahead('COPY (UPDATE RETURNING) TO',
	'COPY (UPDATE contact SET enriched = ocean_enrich_person(req) RETURNING *) TO STDOUT');

# Many tables in one

$test->sql(q{
	CREATE TABLE part (id int, req jsonb, enriched jsonb) PARTITION BY LIST (id);
	SELECT format('CREATE TABLE part%s PARTITION OF part FOR VALUES IN (%1$s)', i)
	FROM generate_series(1, 20) AS i \gexec
	INSERT INTO part SELECT i, request(i) FROM generate_series(1, 20) AS i;

	-- The columns stand in another order in one, and one has a partition more.
	ALTER TABLE part DETACH PARTITION part20;
	DROP TABLE part20;
	CREATE TABLE part20 (enriched jsonb, gone int, req jsonb, id int) PARTITION BY LIST (id);
	ALTER TABLE part20 DROP gone;
	ALTER TABLE part ATTACH PARTITION part20 FOR VALUES IN (20, 21);
	CREATE TABLE part20a PARTITION OF part20 FOR VALUES IN (20);
	INSERT INTO part VALUES (20, request(20));

	CREATE TABLE parent (id int, req jsonb, enriched jsonb);
	CREATE TABLE child (shoe_size int) INHERITS (parent);
	INSERT INTO parent SELECT id, req FROM contact WHERE grp = 0;
	INSERT INTO child SELECT id, req FROM contact WHERE grp = 1});
$test->ahead(
	'SELECT, 20 partitions',
	'SELECT id, ocean_enrich_person(req) FROM part',
	requests => 20,
	at_once => 16);
$test->ahead(
	'UPDATE, 20 partitions', q{
	UPDATE part SET enriched = ocean_enrich_person(req);
	SELECT id, enriched ->> 'id' FROM part ORDER BY id},
	requests => 20,
	at_once => 16);
$test->ahead(
	'UPDATE RETURNING, some partitions',
	q{UPDATE part SET enriched = ocean_enrich_person(req) WHERE id > 10 RETURNING part},
	requests => 10,
	at_once => 10);
$test->ahead(
	'UPDATE, rows that change their partition', q{
	UPDATE part SET enriched = ocean_enrich_person(req), id = 21 - id WHERE id IN (2, 3);
	SELECT tableoid::regclass, id, enriched ->> 'id' FROM part ORDER BY id},
	requests => 2,
	at_once => 2);
$test->ahead(
	'UPDATE, 20 partitions, several columns of an error as a value', q{
	UPDATE part SET (enriched, id) =
		(SELECT r.answer, part.id FROM ocean_try_enrich_person(req) AS r WHERE r.status > 0);
	SELECT id, enriched ->> 'id' FROM part ORDER BY id},
	requests => 20,
	at_once => 16);
$test->ahead(
	'SELECT, 20 partitions, a sub-select without a table',
	q{SELECT id, (SELECT ocean_enrich_person(req)) ->> 'id' FROM part},
	requests => 20,
	at_once => 16);
$test->ahead('inheritance', q{
	UPDATE parent SET enriched = ocean_enrich_person(req);
	SELECT id, enriched ->> 'id' FROM parent ORDER BY id});
$test->ahead(
	'WHERE, inheritance',
	q{SELECT id FROM parent WHERE ocean_enrich_person(req) ->> 'id' > '8'},
	at_once => 4);

# Tables with constraints, triggers and generated columns

$test->sql(q{
	CREATE TABLE laden (
		id int PRIMARY KEY REFERENCES contact,
		boss int REFERENCES laden,
		req jsonb,
		enriched jsonb CHECK (enriched ->> 'id' <> ''),
		enriched_id text GENERATED ALWAYS AS (enriched ->> 'id') STORED,
		changes int DEFAULT 0);
	CREATE INDEX ON laden (enriched_id);
	INSERT INTO laden (id, boss, req) SELECT id, 1, req FROM contact;
	CREATE TABLE seen (id int);
	CREATE FUNCTION count_change() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			NEW.changes := NEW.changes + 1;
			RETURN NEW;
		END $$;
	CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO seen VALUES (NEW.id);
			RETURN NULL;
		END $$;
	CREATE TRIGGER count_change BEFORE INSERT OR UPDATE ON laden
		FOR EACH ROW EXECUTE FUNCTION count_change();
	CREATE TRIGGER note AFTER INSERT OR UPDATE ON laden
		FOR EACH ROW EXECUTE FUNCTION note()});
my $laden = 'SELECT id, boss, enriched_id, changes FROM laden ORDER BY id; TABLE seen';
$test->ahead('UPDATE, triggers and constraints',
	"UPDATE laden SET enriched = ocean_enrich_person(req); $laden");
$test->ahead('UPDATE, errors as values, triggers and constraints',
	"UPDATE laden SET enriched = (ocean_try_enrich_person(req)).answer; $laden");
$test->sql(q{
	CREATE TABLE laden_part (
		id int PRIMARY KEY REFERENCES contact,
		req jsonb,
		enriched jsonb CHECK (enriched ->> 'id' <> ''),
		enriched_id text GENERATED ALWAYS AS (enriched ->> 'id') STORED,
		changes int DEFAULT 0) PARTITION BY RANGE (id);
	CREATE TABLE laden_part1 PARTITION OF laden_part FOR VALUES FROM (1) TO (5);
	CREATE TABLE laden_part2 PARTITION OF laden_part FOR VALUES FROM (5) TO (100);
	CREATE TRIGGER count_change BEFORE INSERT OR UPDATE ON laden_part
		FOR EACH ROW EXECUTE FUNCTION count_change();
	CREATE TRIGGER note AFTER INSERT OR UPDATE ON laden_part
		FOR EACH ROW EXECUTE FUNCTION note();
	INSERT INTO laden_part (id, req) SELECT id, req FROM contact;
	TRUNCATE seen});
my $laden_part = 'SELECT tableoid::regclass, id, enriched_id, changes FROM laden_part ORDER BY id;
	TABLE seen';
$test->ahead('UPDATE, partitions with triggers and constraints',
	"UPDATE laden_part SET enriched = ocean_enrich_person(req); $laden_part");
$test->ahead('INSERT SELECT, partitions with triggers and constraints', qq{
	DELETE FROM laden_part;
	INSERT INTO laden_part (id, req, enriched)
		SELECT id, req, ocean_enrich_person(req) FROM contact; $laden_part});
$test->ahead('UPDATE, row security', qq{
	CREATE ROLE berta;
	GRANT SELECT, UPDATE ON contact TO berta;
	GRANT EXECUTE ON FUNCTION ocean_enrich_person(jsonb) TO berta;
	ALTER TABLE contact ENABLE ROW LEVEL SECURITY;
	CREATE POLICY odd ON contact USING (grp = 1);
	SET LOCAL ROLE berta;
	UPDATE contact SET enriched = ocean_enrich_person(req); $enriched},
	requests => 4,
	at_once => 4);
$test->ahead('INSERT SELECT, triggers and constraints', qq{
	DELETE FROM laden;
	INSERT INTO laden (id, boss, req, enriched)
		SELECT id, 1, req, ocean_enrich_person(req) FROM contact; $laden});

# Views and rules

$test->sql(q{
	CREATE VIEW enriching AS SELECT id, ocean_enrich_person(req) AS p FROM contact;
	CREATE VIEW barrier WITH (security_barrier) AS SELECT * FROM contact WHERE grp = 0;
	CREATE VIEW changeable AS SELECT * FROM contact WHERE grp = 1 WITH CHECK OPTION;
	CREATE TABLE ruled AS SELECT * FROM contact;
	CREATE RULE redirect AS ON UPDATE TO ruled
		DO INSTEAD INSERT INTO target VALUES (NEW.id, NEW.enriched)});
$test->ahead('a view', q{SELECT id, p ->> 'id' FROM enriching});
$test->ahead(
	'a view that is a barrier',
	q{SELECT id FROM barrier WHERE ocean_enrich_person(req) ->> 'id' > '8'},
	requests => 4,
	at_once => 4);
$test->ahead(
	'UPDATE of a view',
	"UPDATE changeable SET enriched = ocean_enrich_person(req); $enriched",
	requests => 4,
	at_once => 4);
$test->ahead('a rule',
	"UPDATE ruled SET enriched = ocean_enrich_person(req); $target");

# Prepared statements and functions

$test->ahead(
	'generic plan', q{
	SET plan_cache_mode = force_generic_plan;
	PREPARE enrich (int) AS
		SELECT id, ocean_enrich_person(req) ->> 'id' FROM contact WHERE id > $1;
	EXECUTE enrich(0);
	EXECUTE enrich(4)},
	requests => 12);
$test->ahead(
	'a generic plan made before', q{
	SET plan_cache_mode = force_generic_plan;
	SET ocean_enrich.concurrency = 1;
	PREPARE enrich AS SELECT id, ocean_enrich_person(req) ->> 'id' FROM contact;
	EXPLAIN (COSTS OFF) EXECUTE enrich;
	RESET ocean_enrich.concurrency;
	EXECUTE enrich});

$test->sql(q{
	CREATE FUNCTION enrich_in_plpgsql() RETURNS text LANGUAGE plpgsql AS $$
		DECLARE
			ids text;
		BEGIN
			UPDATE contact SET enriched = ocean_enrich_person(req);
			SELECT string_agg(enriched ->> 'id', ',' ORDER BY id) INTO ids FROM contact;
			RETURN ids;
		END $$;
	CREATE FUNCTION loop_in_plpgsql() RETURNS SETOF text LANGUAGE plpgsql AS $$
		DECLARE
			one text;
		BEGIN
			FOR one IN SELECT ocean_enrich_person(req) ->> 'id' FROM contact LOOP
				RETURN NEXT one;
			END LOOP;
		END $$;
	CREATE FUNCTION query_in_plpgsql() RETURNS SETOF text LANGUAGE plpgsql AS $$
		BEGIN
			RETURN QUERY SELECT ocean_enrich_person(req) ->> 'id' FROM contact;
		END $$;
	CREATE FUNCTION enrich_in_sql() RETURNS SETOF text LANGUAGE sql AS $$
		UPDATE contact SET enriched = ocean_enrich_person(req) RETURNING enriched ->> 'id'; $$;
	CREATE FUNCTION body_in_sql() RETURNS bigint LANGUAGE sql
		RETURN (SELECT count(ocean_enrich_person(req)) FROM contact);
	CREATE PROCEDURE enrich_in_procedure() LANGUAGE plpgsql AS $$
		BEGIN
			UPDATE contact SET enriched = ocean_enrich_person(req);
		END $$});
$test->ahead('plpgsql', 'SELECT enrich_in_plpgsql()');
$test->ahead('plpgsql, FOR', 'SELECT loop_in_plpgsql()');
$test->ahead('plpgsql, RETURN QUERY', 'SELECT query_in_plpgsql()');
$test->ahead('plpgsql, EXECUTE', q{
	DO $$
	BEGIN
		EXECUTE 'UPDATE contact SET enriched = ocean_enrich_person(req)';
	END $$;} . $enriched);
$test->ahead('a procedure', "CALL enrich_in_procedure(); $enriched");
$test->ahead('an SQL function', 'SELECT enrich_in_sql()');
$test->ahead('an SQL function with a standard body', 'SELECT body_in_sql()');

# It is not the name that counts

$test->ahead('another name', q{
	ALTER FUNCTION ocean_enrich_person(jsonb) RENAME TO look_up;
	SELECT id, look_up(req) FROM contact});
$test->ahead('another schema', q{
	CREATE SCHEMA elsewhere;
	ALTER FUNCTION ocean_enrich_person(jsonb) SET SCHEMA elsewhere;
	SELECT id, elsewhere.ocean_enrich_person(req) FROM contact});

# Warnings come once.

$test->ahead('a warning', q{
	SELECT ocean_enrich_person(req || '{"revealEmails": {"webhookUrl": "https://example.com"}}')
	FROM contact});

# The ends of a transaction

$test->ahead(
	'COMMIT', q{
	BEGIN; UPDATE contact SET enriched = ocean_enrich_person(req); COMMIT; } . $enriched,
	transaction => 0);
$test->ahead(
	'PREPARE TRANSACTION', qq{
	BEGIN; UPDATE contact SET enriched = ocean_enrich_person(req);
	PREPARE TRANSACTION 'enriched'; COMMIT PREPARED 'enriched'; $enriched},
	transaction => 0);

is($test->sql('SELECT count(*) FROM ocean_enrich.in_flight()'),
	0, 'nothing is left in flight');

done_testing();
