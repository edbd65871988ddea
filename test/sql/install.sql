/*
 * install.sql
 *		CREATE and DROP EXTENSION, in a database of their own: what comes, what
 *		everybody may not do with it, and what is left behind.
 */
CREATE DATABASE regress_ocean_install TEMPLATE template0;
\set database :DBNAME
\c regress_ocean_install

-- Somebody else's schema of that name stops the installation.  Newer servers also say
-- where in the script.

\set SHOW_CONTEXT never
CREATE ROLE regress_ocean_planter;
CREATE SCHEMA ocean_enrich AUTHORIZATION regress_ocean_planter;
CREATE EXTENSION ocean_enrich;
\echo :SQLSTATE
SELECT count(*) FROM pg_extension WHERE extname = 'ocean_enrich';
DROP SCHEMA ocean_enrich;
DROP ROLE regress_ocean_planter;

-- What is there

CREATE SCHEMA "Enrich me";
CREATE EXTENSION ocean_enrich SCHEMA "Enrich me" VERSION '1.0';
CREATE VIEW members AS
SELECT objid, classid, pg_describe_object(classid, objid, 0) AS object
FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'ocean_enrich')
	-- Newer servers also list what comes along with a type or a table.
	AND NOT EXISTS (
		SELECT FROM pg_type LEFT JOIN pg_class ON pg_class.oid = typrelid
		WHERE classid = 'pg_type'::regclass AND pg_type.oid = objid
			AND (typcategory = 'A' OR relkind <> 'c'));
SELECT object FROM members ORDER BY object COLLATE "C";

-- Everything that is named has a comment.

SELECT object FROM members WHERE obj_description(objid, classid::regclass::name) IS NULL ORDER BY object COLLATE "C";
SELECT attname FROM pg_attribute
WHERE attrelid = 'ocean_enrich.call'::regclass AND attnum > 0 AND col_description(attrelid, attnum) IS NULL;

-- The ledger

\d ocean_enrich.call

-- How the functions may be called

SELECT proname AS function, provolatile AS volatile, proisstrict AS strict, proparallel AS parallel,
	procost AS cost, prosecdef AS definer
FROM members JOIN pg_proc ON classid = 'pg_proc'::regclass AND objid = pg_proc.oid ORDER BY proname COLLATE "C";
\df "Enrich me".ocean_enrich_person
\df "Enrich me".ocean_try_enrich_person
\d "Enrich me".ocean_enrich_result

-- Nobody has any of it who was not given it, except for functions that others
-- call, in a schema that nobody may enter.

CREATE ROLE regress_ocean_nobody;
SELECT object FROM members
WHERE CASE classid
	WHEN 'pg_proc'::regclass THEN has_function_privilege('regress_ocean_nobody', objid, 'EXECUTE')
	WHEN 'pg_type'::regclass THEN has_type_privilege('regress_ocean_nobody', objid, 'USAGE')
	WHEN 'pg_namespace'::regclass THEN has_schema_privilege('regress_ocean_nobody', objid, 'USAGE, CREATE')
	WHEN 'pg_class'::regclass THEN has_table_privilege('regress_ocean_nobody', objid,
		'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
		OR has_any_column_privilege('regress_ocean_nobody', objid, 'SELECT, INSERT, UPDATE, REFERENCES')
	END IS DISTINCT FROM false
ORDER BY object COLLATE "C";
SELECT has_sequence_privilege('regress_ocean_nobody', 'ocean_enrich.call_call_id_seq', 'USAGE, SELECT, UPDATE');
DROP ROLE regress_ocean_nobody;

-- It works wherever it lies, and stays there.

SELECT "Enrich me".ocean_enrich_person("Enrich me".ocean_person_request(email => 'anna@example.com')) ->> 'domain' AS domain;
SELECT id IS NOT NULL AS id, domain FROM ocean_enrich.call, "Enrich me".ocean_person(answer);
SELECT count(*) FROM ocean_enrich.call, "Enrich me".ocean_person_experiences(answer);
ALTER EXTENSION ocean_enrich SET SCHEMA public;
\echo :SQLSTATE

-- Somebody's columns hold on to the types.

CREATE TABLE people (person "Enrich me".ocean_person);
DROP EXTENSION ocean_enrich;
\echo :SQLSTATE
DROP TABLE people;

-- Gone, and nothing of it is left; and then from the beginning.

DROP VIEW members;
DROP EXTENSION ocean_enrich;
SELECT count(*) FROM pg_namespace WHERE nspname = 'ocean_enrich';
SELECT count(*) FROM pg_class WHERE relnamespace = '"Enrich me"'::regnamespace;
SELECT count(*) FROM pg_proc WHERE pronamespace = '"Enrich me"'::regnamespace;
SELECT count(*) FROM pg_type WHERE typnamespace = '"Enrich me"'::regnamespace;
CREATE EXTENSION ocean_enrich SCHEMA "Enrich me";
SELECT count(*) FROM ocean_enrich.call;
SELECT "Enrich me".ocean_enrich_person("Enrich me".ocean_person_request(email => 'anna@example.com')) ->> 'domain' AS domain;
SELECT count(*) FROM ocean_enrich.call;

-- The worker leaves when somebody wants to drop its database.

\c :database
DROP DATABASE regress_ocean_install;
