/*
 * roles.sql
 *		What each role may really do with every object of the extension, by doing
 *		it: the objects are those of the catalogs, so a new one appears here and
 *		has to be judged.
 */
SET search_path = pg_catalog, pg_temp;
CREATE ROLE regress_ocean_owner;
CREATE ROLE regress_ocean_granted;
CREATE ROLE regress_ocean_visitor;
CREATE ROLE regress_ocean_ordinary;
SELECT current_user AS superuser, datdba::regrole AS former_owner FROM pg_database WHERE datname = current_database() \gset
ALTER DATABASE :"DBNAME" OWNER TO regress_ocean_owner;

-- Types of tables and of arrays follow these.

CREATE TEMP TABLE members AS
SELECT d.classid, d.objid, o.type,
	CASE o.type WHEN 'function' THEN format('%I.%I', o.schema, p.proname) ELSE o.identity END AS name
FROM pg_depend AS d CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) AS o
	LEFT JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
WHERE d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
	AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'ocean_enrich')
	AND NOT EXISTS (SELECT FROM pg_type AS t LEFT JOIN pg_class AS c ON c.oid = t.typrelid
		WHERE d.classid = 'pg_type'::regclass AND t.oid = d.objid AND (t.typcategory = 'A' OR c.relkind <> 'c'));

-- What there is to do with an object of each type, by the letters that stand for
-- the privileges in aclitem.  "%1$s" is the object, "%2$s" arguments or a column,
-- "%3$s" NULLs for the arguments: not as constants, for which PostgreSQL would not
-- call a strict function.

CREATE TEMP TABLE deeds (type text, letter text, statement text);
INSERT INTO deeds VALUES
	('function', 'X', 'SELECT %1$s(%2$s) FROM (SELECT %3$s OFFSET 0) AS arguments'),
	('table', 'r', 'SELECT FROM %1$s'),
	('table', 'a', 'INSERT INTO %1$s DEFAULT VALUES'),
	('table', 'w', 'UPDATE %1$s SET %2$s = DEFAULT WHERE false'),
	('table', 'd', 'DELETE FROM %1$s'),
	('table', 'D', 'TRUNCATE %1$s'),
	('view', 'r', 'SELECT FROM %1$s'),
	('sequence', 'r', 'SELECT FROM %1$s'),
	('sequence', 'U', 'SELECT nextval(''%1$s'')'),
	('sequence', 'w', 'SELECT setval(''%1$s'', 1)'),
	('type', 'U', 'CREATE TEMP TABLE typed (it %1$s)'),
	('schema', 'U', 'SELECT ''%1$s.call''::regclass'),
	('schema', 'C', 'CREATE TABLE %1$s.mine (id int)');
CREATE TEMP TABLE attempts AS
SELECT m.type,
	CASE WHEN m.type = 'function' AND count(*) OVER (PARTITION BY m.type, m.name) > 1
		THEN m.objid::regprocedure::text ELSE m.name END AS name,
	d.letter, format(d.statement, m.name, coalesce(a.names, c.name), a.nulls) AS statement
FROM members AS m LEFT JOIN deeds AS d USING (type)
	LEFT JOIN LATERAL (
		SELECT string_agg('a' || nth, ', ' ORDER BY nth) AS names,
			string_agg(format('NULL::%s AS a%s', format_type(a.type, NULL), nth), ', ' ORDER BY nth) AS nulls
		FROM pg_proc AS p, unnest(p.proargtypes) WITH ORDINALITY AS a (type, nth)
		WHERE m.type = 'function' AND p.oid = m.objid) AS a ON true
	LEFT JOIN LATERAL (
		SELECT attname AS name FROM pg_attribute
		WHERE m.type = 'table' AND attrelid = m.objid AND attnum > 0 AND attidentity = '' AND attgenerated = ''
		ORDER BY attnum LIMIT 1) AS c ON true
-- This one is called by the planner and by nobody else.
WHERE m.name <> 'ocean_enrich.support';
SELECT name AS "nothing to do with" FROM attempts WHERE letter IS NULL;
GRANT SELECT ON attempts TO PUBLIC;

-- All that can be granted of each object, but for creating in the schema

DO $$
DECLARE
	statement text;
BEGIN
	FOR statement IN
		SELECT format('GRANT %s ON %s %s TO regress_ocean_granted', CASE type WHEN 'schema' THEN 'USAGE' ELSE 'ALL' END,
			CASE type WHEN 'view' THEN 'table' ELSE type END,
			CASE type WHEN 'function' THEN objid::regprocedure::text ELSE name END)
		FROM members
	LOOP
		EXECUTE statement;
	END LOOP;
END $$;
GRANT USAGE ON SCHEMA ocean_enrich TO regress_ocean_visitor;

-- Nothing of it stays.

CREATE FUNCTION pg_temp.code_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RAISE SQLSTATE 'UNDO0';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
CREATE FUNCTION pg_temp.codes_as(name) RETURNS TABLE (role name, type text, name text, letter text, code text)
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SET ROLE %I', $1);
	RETURN QUERY SELECT $1, a.type, a.name, a.letter, pg_temp.code_of(a.statement) FROM attempts AS a;
	RESET ROLE;
END $$;
CREATE TEMP TABLE results AS
SELECT replace(role, 'regress_ocean_', '') AS role, type, name, letter, code
FROM unnest(ARRAY[:'superuser', 'regress_ocean_owner', 'regress_ocean_granted', 'regress_ocean_visitor',
	'regress_ocean_ordinary']::name[]) AS r (who), pg_temp.codes_as(who);

-- A statement that nobody could run would tell nothing.

SELECT type, name, letter, code FROM results
WHERE role = :'superuser' AND code ~ '^42' ORDER BY type COLLATE "C", name COLLATE "C";

\pset format unaligned
SELECT type, name,
	string_agg(letter, '' ORDER BY letter COLLATE "C") FILTER (WHERE role = :'superuser' AND code <> '42501') AS superuser,
	string_agg(letter, '' ORDER BY letter COLLATE "C") FILTER (WHERE role = 'owner' AND code <> '42501') AS "database owner",
	string_agg(letter, '' ORDER BY letter COLLATE "C") FILTER (WHERE role = 'granted' AND code <> '42501') AS granted,
	string_agg(letter, '' ORDER BY letter COLLATE "C") FILTER (WHERE role = 'visitor' AND code <> '42501') AS "in the schema",
	string_agg(letter, '' ORDER BY letter COLLATE "C") FILTER (WHERE role = 'ordinary' AND code <> '42501') AS ordinary
FROM results GROUP BY type, name ORDER BY type COLLATE "C", name COLLATE "C";
\pset format aligned

ALTER DATABASE :"DBNAME" OWNER TO :"former_owner";
DROP OWNED BY regress_ocean_granted, regress_ocean_visitor;
DROP ROLE regress_ocean_owner, regress_ocean_granted, regress_ocean_visitor, regress_ocean_ordinary;
