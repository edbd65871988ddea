# sync_tables.pl
#	Syncs of all sorts of tables, and tables that change under them:
#	composite and text keys, partitions, generated columns, deferred constraints,
#	row-level security, locked rows, renamed and dropped columns and tables.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node fails books_agree wait_until);
use SyncTest qw(owner create settled status);
use PostgreSQL::Test::Utils;
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);
owner($node, $_) foreach qw(anna berta);

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub anna { return sql("SET ROLE anna; $_[0]") }

# Keys

anna(q{
	CREATE DOMAIN code AS text CHECK (VALUE <> '');
	CREATE TABLE "Odd ""Names" ("First Key" code, day date, "e-mail" varchar(80), "Enriched" jsonb,
		gone integer, at timestamptz, PRIMARY KEY (day, "First Key", at));
	ALTER TABLE "Odd ""Names" DROP COLUMN gone;
	INSERT INTO "Odd ""Names" SELECT v, d, 'p' || n || '@example.com', NULL, t
	FROM (VALUES ('a''b', 1), ('{x,"y"}', 2), (E'back\\slash', 3), ('NULL', 4), (' blank ', 5), ('é', 6)) AS k (v, n),
		(VALUES (date '2026-02-01', timestamptz '2026-03-01 12:00:00.123456+02')) AS s (d, t)});
is( sql(q{
		SET ROLE anna;
		SET DateStyle = 'SQL, DMY';
		SET TimeZone = 'Asia/Kolkata';
		SELECT ocean_enrich.create_sync('odd', '"Odd ""Names"', 'ocean_person_request(email => "e-mail")', 'Enriched')}),
	6, 'a composite key with odd values');
settled($node, 'odd');
is(sql(q{SELECT count(*) FROM "Odd ""Names" WHERE "Enriched" -> 'email' ->> 'address' = "e-mail"}),
	6, 'finds each row');
sql(q{SET DateStyle = 'German'; SET TimeZone = 'America/Lima';
	UPDATE "Odd ""Names" SET "e-mail" = 'new' || "e-mail"});
settled($node, 'odd');
is(sql(q{SELECT count(*) FROM "Odd ""Names" WHERE "Enriched" -> 'email' ->> 'address' = "e-mail"}),
	6, 'whatever the settings of the session are');
is(status($node, 'odd'), 'enabled|0|0|6|0|0|0|36.0', 'and no row is known twice');

# Partitions

anna(q{
	CREATE TABLE parted (id integer, region text NOT NULL, email text, enriched jsonb, PRIMARY KEY (id, region))
	PARTITION BY LIST (region);
	CREATE TABLE parted_a PARTITION OF parted FOR VALUES IN ('a');
	CREATE TABLE parted_b (dropped integer, enriched jsonb, email text, region text NOT NULL, id integer NOT NULL);
	ALTER TABLE parted_b DROP COLUMN dropped;
	ALTER TABLE parted ATTACH PARTITION parted_b FOR VALUES IN ('b');
	INSERT INTO parted VALUES (1, 'a', 'a1@example.com'), (2, 'b', 'b2@example.com')});
is(create($node, 'anna', 'parted'), 2, 'a partitioned table');
settled($node, 'parted');
sql(q{INSERT INTO parted VALUES (3, 'a', 'a3@example.com'), (4, 'b', 'b4@example.com')});
sql(q{INSERT INTO parted_b (id, region, email) VALUES (5, 'b', 'b5@example.com')});
sql(q{UPDATE parted SET region = 'b', email = 'moved@example.com' WHERE id = 1});
sql(q{CREATE TABLE parted_c PARTITION OF parted FOR VALUES IN ('c');
	ALTER TABLE parted_c OWNER TO anna;
	INSERT INTO parted VALUES (6, 'c', 'c6@example.com')});
settled($node, 'parted');
is(sql(q{SELECT count(*) FROM parted WHERE enriched -> 'email' ->> 'address' = email}), 6,
	'through the parent, directly in a partition, moved, in a new partition');
is(status($node, 'parted'), 'enabled|0|0|6|0|0|0|21.0', 'each of them once');
# Without the row that a trigger suppresses, the old and new rows behind it are out of step.
anna(q{
	CREATE FUNCTION vanish() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
	CREATE TRIGGER vanish BEFORE INSERT ON parted_a FOR EACH ROW WHEN (NEW.id = 2) EXECUTE FUNCTION vanish();
	UPDATE parted SET region = 'a', email = 'back' || email WHERE region = 'b'});
settled($node, 'parted');
is(sql(q{SELECT count(*), count(*) FILTER (WHERE enriched -> 'email' ->> 'address' = email) FROM parted}), '5|5',
	'moved, but for one that a trigger suppressed');
is(status($node, 'parted'), 'enabled|0|0|5|0|0|0|30.0', 'which is known no more');
sql(q{INSERT INTO parted_c VALUES (7, 'c', 'c7@example.com')});
anna(q{SELECT ocean_enrich.enable_sync('parted')});
sql(q{INSERT INTO parted_c VALUES (8, 'c', 'c8@example.com')});
settled($node, 'parted');
is(sql(q{SELECT id, enriched IS NOT NULL FROM parted_c ORDER BY id}), "6|t\n7|f\n8|t",
	'directly in a new partition, once enabling has seen it');
sql(q{ALTER TABLE parted DETACH PARTITION parted_a; INSERT INTO parted_a VALUES (9, 'a', 'a9@example.com')});
settled($node, 'parted');
is(sql(q{SELECT count(*) FROM parted_a WHERE id = 9 AND enriched IS NOT NULL}), 0,
	'a detached partition is no part of it');
sql(q{DROP TABLE parted_c});
settled($node, 'parted');

# Generated columns, deferred constraints, triggers

anna(q{
	CREATE TABLE generated (id integer PRIMARY KEY, login text, parent integer REFERENCES generated DEFERRABLE INITIALLY DEFERRED,
		email text GENERATED ALWAYS AS (login || '@example.net') STORED,
		enriched jsonb, city text GENERATED ALWAYS AS (enriched ->> 'location') STORED, changes integer DEFAULT 0);
	CREATE FUNCTION seen() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		NEW.changes := OLD.changes + 1;
		RETURN NEW;
	END $$;
	CREATE TRIGGER seen BEFORE UPDATE ON generated FOR EACH ROW EXECUTE FUNCTION seen();
	CREATE FUNCTION check_later() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF current_user <> 'anna' THEN
			RAISE EXCEPTION 'run by %', current_user;
		END IF;
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER later AFTER UPDATE ON generated DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION check_later();
	INSERT INTO generated (id, login, parent) VALUES (1, 'one', 2), (2, 'two', 1)});
create($node, 'anna', 'generated');
settled($node, 'generated');
is(sql(q{SELECT id, city IS NOT NULL, changes FROM generated ORDER BY id}), "1|t|1\n2|t|1",
	'generated columns, deferred constraints and triggers');
anna(q{UPDATE generated SET login = 'three' WHERE id = 1});
settled($node, 'generated');
is(sql(q{SELECT enriched -> 'email' ->> 'address' FROM generated WHERE id = 1}),
	'three@example.net', 'a generated column may change the request');

# Row-level security

anna(q{
	CREATE TABLE secured (id integer PRIMARY KEY, email text, enriched jsonb);
	INSERT INTO secured VALUES (1, 'visible@example.com', NULL), (2, 'hidden@example.com', NULL),
		(3, 'locked@example.com', NULL);
	ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
	ALTER TABLE secured FORCE ROW LEVEL SECURITY;
	CREATE POLICY seen ON secured FOR SELECT USING (id <> 2 AND current_user = 'anna');
	CREATE POLICY changed ON secured FOR UPDATE USING (id <> 2) WITH CHECK (id <> 3)});
is(create($node, 'anna', 'secured'), 2, 'rows that the owner does not see are not asked for');
settled($node, 'secured');
is(sql('SELECT id FROM secured WHERE enriched IS NOT NULL'), 1, 'policies hold');
is(sql(q{SELECT key, state, error_code FROM ocean_enrich.sync_errors WHERE name = 'secured'}),
	'{3}|failed|42501', 'and one that forbids the new row fails it');
sql(q{SET row_security = off; UPDATE secured SET email = 'hidden2@example.com' WHERE id = 2});
settled($node, 'secured');
is($sandbox->books(identity => 'hidden2@example.com')->{people}{'hidden2@example.com'}{requests},
	0, 'also when somebody else changes them');

# A row that somebody has locked, and one that changes or goes meanwhile

anna(q{CREATE TABLE contacts (id integer PRIMARY KEY, email text, enriched jsonb)});
create($node, 'anna', 'contacts');
$sandbox->config(hold => JSON::PP::true);
my $held = $sandbox->books->{requests};
sql(q{INSERT INTO contacts VALUES (1, 'stays@example.org'), (2, 'changes@example.org'),
	(3, 'goes@example.org'), (4, 'is.locked@example.org')});
$sandbox->wait(held => 4);
my $psql = $node->background_psql('postgres');
$psql->query_safe(q{BEGIN; SELECT FROM contacts WHERE id = 4 FOR UPDATE});
sql(q{UPDATE contacts SET email = 'changed@example.org' WHERE id = 2; DELETE FROM contacts WHERE id = 3});
$sandbox->config(hold => JSON::PP::false);
wait_until($node, q{SELECT enriched IS NOT NULL FROM contacts WHERE id = 1});
wait_until($node, q{SELECT enriched -> 'email' ->> 'address' = 'changed@example.org' FROM contacts WHERE id = 2});
is(status($node), 'enabled|1|0|2|0|0|0|15.0', 'a locked row waits alone');
$psql->query_safe(q{COMMIT});
$psql->quit;
settled($node);
is(status($node), 'enabled|0|0|3|0|0|0|15.0', 'and is written when it is free');

# A request that is another one each time

sql(q{CREATE TABLE counter (n integer); INSERT INTO counter VALUES (0); GRANT SELECT, UPDATE ON counter TO anna});
anna(q{
	CREATE TABLE restless (id integer PRIMARY KEY, enriched jsonb);
	INSERT INTO restless VALUES (1);
	CREATE FUNCTION restless() RETURNS jsonb LANGUAGE sql STABLE AS
		$$ SELECT public.ocean_person_request(email => clock_timestamp() || '@example.com') $$});
my $requests = $sandbox->books->{requests};
sql(q{SET ROLE anna; SELECT ocean_enrich.create_sync('restless', 'restless', 'restless()', 'enriched')});
settled($node, 'restless');
is(sql(q{SELECT error_code, message FROM ocean_enrich.sync_errors WHERE name = 'restless'}),
	'22023|the request differs each time it is evaluated', 'is given up');
is($sandbox->books->{requests}, $requests + 3, 'before it costs much');

# Names

sql(q{
	CREATE SCHEMA elsewhere AUTHORIZATION anna;
	ALTER TABLE contacts RENAME COLUMN email TO mail;
	ALTER TABLE contacts ADD COLUMN email integer;
	ALTER TABLE contacts RENAME COLUMN id TO number;
	ALTER TABLE contacts RENAME COLUMN enriched TO answer;
	ALTER TABLE contacts RENAME TO people;
	ALTER TABLE people SET SCHEMA elsewhere;
	INSERT INTO elsewhere.people (number, mail) VALUES (10, 'renamed@example.org')});
settled($node);
is(sql(q{SELECT answer -> 'email' ->> 'address' FROM elsewhere.people WHERE number = 10}),
	'renamed@example.org', 'table and columns may be renamed');
is(sql(q{SELECT relation, key, target, column_names, request FROM ocean_enrich.sync WHERE name = 'contacts'}),
	'elsewhere.people|{number}|answer|{mail}|public.ocean_person_request(email => mail)',
	'and the definition follows');

sql(q{ALTER TABLE elsewhere.people ALTER COLUMN mail TYPE varchar(100), ALTER COLUMN number TYPE bigint;
	INSERT INTO elsewhere.people (number, mail) VALUES (20000000000, 'retyped@example.org')});
settled($node);
is(sql(q{SELECT answer IS NOT NULL FROM elsewhere.people WHERE number = 20000000000}), 't',
	'types may change');

# What it needs goes away.

sub stops
{
	my ($name, $change, $code, $message) = @_;
	$sandbox->config(hold => JSON::PP::true);
	my $before = $sandbox->books->{requests};
	sql($change);
	wait_until($node, qq{SELECT state = 'stopped' FROM ocean_enrich.sync_status WHERE name = '$name'});
	is(sql(qq{SELECT error_code, message FROM ocean_enrich.sync_errors WHERE name = '$name' AND state = 'stopped'}),
		"$code|$message", "stopped: $message");
	is(sql(q{SELECT count(*) FROM ocean_enrich.call WHERE state = 'queued'}), 0, 'with nothing in the queue');
	$sandbox->config(hold => JSON::PP::false);
	return;
}

stops('contacts', q{ALTER TABLE elsewhere.people DROP COLUMN mail; INSERT INTO elsewhere.people VALUES (30)},
	'42703', 'column "mail", which the request or the condition uses, was dropped');
fails($node, q{SELECT ocean_enrich.enable_sync('contacts')}, qr/42703/, 'it cannot be enabled as it is');
sql(q{ALTER TABLE elsewhere.people ADD COLUMN address text;
	SET search_path = elsewhere, public;
	SELECT ocean_enrich.alter_sync('contacts', request => 'ocean_person_request(email => address)');
	SELECT ocean_enrich.enable_sync('contacts');
	INSERT INTO elsewhere.people (number, address) VALUES (31, 'again@example.org')});
settled($node);
is(sql(q{SELECT answer IS NOT NULL FROM elsewhere.people WHERE number = 31}), 't', 'but altered it goes on');

stops('contacts', q{ALTER TABLE elsewhere.people DROP COLUMN answer; INSERT INTO elsewhere.people (number, address) VALUES (40, 'forty@example.org')},
	'42703', 'the target column was dropped');
stops('odd', q{DROP FUNCTION IF EXISTS nothing(); ALTER TABLE "Odd ""Names" OWNER TO berta; INSERT INTO "Odd ""Names" VALUES ('z', '2026-01-01', 'z@example.com', NULL, now())},
	'42501', 'the owner of the table was changed');
fails($node, q{SET ROLE anna; SELECT ocean_enrich.enable_sync('odd')}, qr/42501: must be owner of sync "odd"/,
	'who has sold a table has nothing to say');
sql(q{SET ROLE berta; SELECT ocean_enrich.enable_sync('odd')});
settled($node, 'odd');
is(sql(q{SELECT count(*) FROM "Odd ""Names" WHERE "Enriched" IS NULL}), 0, 'the new owner may go on');
is(sql(q{SELECT role FROM ocean_enrich.call ORDER BY call_id DESC LIMIT 1}), 'berta', 'and pays');
stops('generated', q{REVOKE EXECUTE ON FUNCTION ocean_enrich.submit FROM anna; SET ROLE anna; INSERT INTO generated (id, login) VALUES (9, 'nine')},
	'42501', 'the owner of the table is no longer allowed to submit requests');
sql('GRANT EXECUTE ON FUNCTION ocean_enrich.submit TO anna');
anna(q{CREATE FUNCTION helper(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';
	CREATE TABLE helped (id integer PRIMARY KEY, email text, enriched jsonb);
	SELECT ocean_enrich.create_sync('helped', 'helped', 'ocean_person_request(email => helper(email))', 'enriched')});
stops('helped', q{DROP FUNCTION helper(text); INSERT INTO helped VALUES (1, 'one@example.com')},
	'42883', 'function public.helper(text) does not exist');

# What was jsonb is read as nothing else.

anna(q{CREATE TABLE whole (id integer PRIMARY KEY, request jsonb, enriched jsonb);
	INSERT INTO whole VALUES (1, '{"person": {"email": "whole@example.com"}}');
	SELECT ocean_enrich.create_sync('whole', 'whole', 'request', 'enriched')});
settled($node, 'whole');
stops('whole', q{ALTER TABLE whole ALTER COLUMN request TYPE bigint USING 12345; INSERT INTO whole VALUES (2, 67890)},
	'42804', 'the request is of type bigint, not jsonb');
anna(q{CREATE DOMAIN question AS jsonb;
	CREATE TYPE wrapped AS (it jsonb);
	CREATE FUNCTION unwrap(wrapped) RETURNS jsonb LANGUAGE sql IMMUTABLE RETURN $1.it;
	CREATE CAST (wrapped AS jsonb) WITH FUNCTION unwrap(wrapped) AS ASSIGNMENT;
	CREATE TABLE cast_to (id integer PRIMARY KEY, domain question, composite wrapped, one jsonb, two jsonb);
	INSERT INTO cast_to VALUES (1, '{"person": {"email": "domain@example.com"}}',
		row('{"person": {"email": "composite@example.com"}}'));
	SELECT ocean_enrich.create_sync('domain', 'cast_to', 'domain', 'one');
	SELECT ocean_enrich.create_sync('composite', 'cast_to', 'composite', 'two')});
settled($node, $_) foreach qw(domain composite);
is(sql(q{SELECT one #>> '{email,address}', two #>> '{email,address}' FROM cast_to}),
	'domain@example.com|composite@example.com', 'what PostgreSQL casts to jsonb is cast');

# A table that goes with calls in the queue

$node->append_conf('postgresql.conf', 'ocean_enrich.max_concurrency = 1');
$node->reload;
anna(q{CREATE TABLE brief (id integer PRIMARY KEY, email text, enriched jsonb);
	INSERT INTO brief SELECT i, 'brief' || i || '@example.com' FROM generate_series(1, 10) AS i});
$sandbox->config(hold => JSON::PP::true);
create($node, 'anna', 'brief');
$sandbox->wait(held => 1);
wait_until($node, q{SELECT waiting = 9 AND in_flight = 1 FROM ocean_enrich.sync_status WHERE name = 'brief'});
$requests = $sandbox->books->{requests};
stops('brief', 'DROP TABLE brief', '42P01', 'the table was dropped');
wait_until($node, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state IN ('queued', 'sent'))});
is($sandbox->books->{requests}, $requests, 'what was queued for it is not sent');
anna(q{SELECT ocean_enrich.drop_sync('brief')});
is(sql(q{SELECT count(*) FROM ocean_enrich.sync WHERE name = 'brief'}), 0, 'it can be dropped all the same');
books_agree($node, $sandbox, 'at the end');

done_testing();
