/*
 * database_owner.sql
 *		What the owner of a database, a role that may create in it, and an ordinary
 *		role may do with the extension as a whole and with its settings, and what
 *		DROP SCHEMA takes along.
 */
\getenv inputdir PG_ABS_SRCDIR
\set errors :inputdir '/sql/include/errors.sql'
CREATE ROLE regress_ocean_owner;
CREATE ROLE regress_ocean_creator;
CREATE ROLE regress_ocean_ordinary;
CREATE DATABASE regress_ocean_owned TEMPLATE template0 OWNER regress_ocean_owner;
GRANT CREATE ON DATABASE regress_ocean_owned TO regress_ocean_creator;
LOAD 'ocean_enrich';
SELECT array_agg(format('ALTER DATABASE regress_ocean_owned SET %s = %L', name,
	CASE vartype WHEN 'bool' THEN 'off' WHEN 'enum' THEN enumvals[1] WHEN 'string' THEN '1' ELSE min_val END)) AS settings
FROM pg_settings WHERE name LIKE 'ocean\_enrich.%' \gset
\set database :DBNAME
\c regress_ocean_owned
\set ECHO none
\i :errors
\set ECHO all

CREATE FUNCTION pg_temp.codes(statements text[])
RETURNS TABLE (statement text, owner text, creator text, ordinary text) LANGUAGE plpgsql AS $$
DECLARE
	role name;
	codes text[];
BEGIN
	FOREACH statement IN ARRAY statements LOOP
		codes := '{}';
		FOREACH role IN ARRAY ARRAY['regress_ocean_owner', 'regress_ocean_creator', 'regress_ocean_ordinary'] LOOP
			EXECUTE format('SET ROLE %I', role);
			codes := codes || coalesce((pg_temp.error_of(statement)).code, 'done');
			RESET ROLE;
		END LOOP;
		owner := codes[1];
		creator := codes[2];
		ordinary := codes[3];
		RETURN NEXT;
	END LOOP;
END $$;

-- To create it, and to drop or change what a superuser has created, takes a superuser.

SELECT * FROM pg_temp.codes(ARRAY['CREATE EXTENSION ocean_enrich', 'LOAD ''ocean_enrich''']);
CREATE TEMP TABLE unloaded AS SELECT * FROM pg_temp.codes(:'settings');
CREATE EXTENSION ocean_enrich;
SELECT * FROM pg_temp.codes(ARRAY[
	'DROP EXTENSION ocean_enrich',
	'DROP EXTENSION ocean_enrich CASCADE',
	'ALTER EXTENSION ocean_enrich UPDATE',
	'ALTER EXTENSION ocean_enrich SET SCHEMA ocean_enrich',
	'ALTER EXTENSION ocean_enrich DROP TABLE ocean_enrich.call',
	'ALTER EXTENSION ocean_enrich ADD SCHEMA public',
	'COMMENT ON EXTENSION ocean_enrich IS ''mine''',
	'DROP SCHEMA ocean_enrich CASCADE',
	'ALTER SCHEMA ocean_enrich OWNER TO CURRENT_USER',
	'ALTER SCHEMA ocean_enrich RENAME TO mine',
	'GRANT ALL ON SCHEMA ocean_enrich TO CURRENT_USER',
	'DROP TABLE ocean_enrich.call',
	'ALTER TABLE ocean_enrich.call OWNER TO CURRENT_USER',
	'GRANT SELECT ON ocean_enrich.call TO CURRENT_USER',
	'CREATE TRIGGER mine AFTER INSERT ON ocean_enrich.call EXECUTE FUNCTION ocean_enrich.sync_changed()',
	'CREATE POLICY mine ON ocean_enrich.call',
	'CREATE RULE mine AS ON INSERT TO ocean_enrich.call DO ALSO NOTIFY mine',
	'DROP FUNCTION public.ocean_person(jsonb)',
	'DROP FUNCTION public.ocean_person(jsonb) CASCADE',
	'ALTER FUNCTION public.ocean_person(jsonb) OWNER TO CURRENT_USER',
	'CREATE OR REPLACE FUNCTION public.ocean_person(jsonb) RETURNS public.ocean_person LANGUAGE sql AS ''SELECT NULL::public.ocean_person''',
	'CREATE FUNCTION public.stolen(jsonb) RETURNS jsonb LANGUAGE c AS ''$libdir/ocean_enrich'', ''oe_enrich_person''',
	'CREATE EVENT TRIGGER mine ON ddl_command_start EXECUTE FUNCTION ocean_enrich.sync_changed()',
	'CREATE PUBLICATION mine FOR ALL TABLES',
	'CREATE PUBLICATION mine FOR TABLE ocean_enrich.call']);

-- The owner of a database chooses for it what each session may choose for itself,
-- and no more; before the library is loaded no more than that.

\pset format unaligned
CREATE TEMP TABLE loaded AS SELECT * FROM pg_temp.codes(:'settings');
SELECT setting.name, setting.context, loaded.owner, loaded.creator, loaded.ordinary
FROM loaded JOIN pg_settings AS setting ON setting.name = split_part(statement, ' ', 5)
ORDER BY setting.context COLLATE "C", setting.name COLLATE "C";
\pset format aligned
SELECT * FROM unloaded WHERE (owner, creator, ordinary) <> ('42501', '42501', '42501')
EXCEPT SELECT * FROM loaded;
SET ROLE regress_ocean_owner;
ALTER SYSTEM SET ocean_enrich.concurrency = 1;
ALTER SYSTEM SET ocean_enrich.api_token_file = '/tmp/mine';
RESET ROLE;

-- The schema "public" is his, and whatever lies in it goes with it: the extension,
-- and the ledger with that.

INSERT INTO ocean_enrich.call (endpoint, state, role, account, fingerprint, requested_at) VALUES ('person', 'refused', 'x', 'x', '', now());
\set VERBOSITY terse
SET ROLE regress_ocean_owner;
DROP SCHEMA public;
SELECT extname FROM pg_extension WHERE extname = 'ocean_enrich';
DROP SCHEMA public CASCADE;
SELECT extname FROM pg_extension WHERE extname = 'ocean_enrich';
RESET ROLE;
SELECT to_regclass('ocean_enrich.call');

-- In a schema of a superuser's it is safe from that.

CREATE SCHEMA public AUTHORIZATION pg_database_owner;
CREATE SCHEMA enrichment;
CREATE EXTENSION ocean_enrich SCHEMA enrichment;
INSERT INTO ocean_enrich.call (endpoint, state, role, account, fingerprint, requested_at) VALUES ('person', 'refused', 'x', 'x', '', now());
SELECT * FROM pg_temp.codes(ARRAY[
	'DROP SCHEMA enrichment CASCADE',
	'ALTER SCHEMA enrichment RENAME TO mine',
	'CREATE FUNCTION enrichment.ocean_enrich_person(text) RETURNS text LANGUAGE sql AS ''SELECT $1''',
	'DROP FUNCTION enrichment.ocean_person(jsonb)',
	'DROP FUNCTION enrichment.ocean_person(jsonb) CASCADE',
	'DROP OWNED BY regress_ocean_owner CASCADE',
	'DROP SCHEMA public CASCADE']);
SELECT count(*) FROM ocean_enrich.call;

\c :database
DROP DATABASE regress_ocean_owned;
DROP ROLE regress_ocean_owner, regress_ocean_creator, regress_ocean_ordinary;
