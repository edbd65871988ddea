/*
 * members.sql
 *		Every object of the extension and what everybody may do with it, from the
 *		catalogs: a new one appears here, and has to be judged.
 */
SET search_path = pg_catalog;

CREATE TEMP VIEW members AS
	SELECT d.classid, d.objid, o.type,
		CASE d.classid WHEN 'pg_proc'::regclass THEN d.objid::regprocedure::text ELSE o.identity END AS identity
	FROM pg_depend AS d CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) AS o
	WHERE d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
		AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'ocean_enrich');

CREATE TEMP VIEW rights AS
	SELECT 'pg_proc'::regclass AS classid, oid AS objid, coalesce(proacl, acldefault('f', proowner)) AS acl FROM pg_proc
	UNION ALL SELECT 'pg_class'::regclass, oid, coalesce(relacl, acldefault('r', relowner)) FROM pg_class
	UNION ALL SELECT 'pg_type'::regclass, oid, coalesce(typacl, acldefault('T', typowner)) FROM pg_type
	UNION ALL SELECT 'pg_namespace'::regclass, oid, coalesce(nspacl, acldefault('n', nspowner)) FROM pg_namespace;

-- Types of tables and of arrays follow these, which versions of PostgreSQL note
-- in different ways.
\pset format unaligned
SELECT m.type, m.identity,
	(SELECT string_agg(DISTINCT a.privilege_type, ', ') FROM aclexplode(r.acl) AS a WHERE a.grantee = 0) AS everybody
FROM members AS m LEFT JOIN rights AS r USING (classid, objid)
WHERE m.classid <> 'pg_type'::regclass
	OR NOT EXISTS (SELECT FROM pg_type AS t LEFT JOIN pg_class AS c ON c.oid = t.typrelid
		WHERE t.oid = m.objid AND (t.typcategory = 'A' OR c.relkind <> 'c'))
ORDER BY m.type COLLATE "C", m.identity COLLATE "C";
\pset format aligned

-- Nobody but the owner is named in any of them.
SELECT m.identity, a.grantee::regrole, a.privilege_type
FROM members AS m JOIN rights AS r USING (classid, objid), aclexplode(r.acl) AS a
WHERE a.grantee <> 0 AND a.grantee <> a.grantor;

-- Nothing runs with the rights of its owner, or with a search_path of its caller's
-- where names are looked up when it is called.
SELECT p.oid::regprocedure AS function FROM pg_proc AS p JOIN members AS m ON m.objid = p.oid AND m.classid = 'pg_proc'::regclass
	JOIN pg_language AS l ON l.oid = p.prolang
WHERE p.prosecdef OR (l.lanname = 'sql' AND p.prosqlbody IS NULL) OR l.lanname NOT IN ('c', 'sql');

-- Views that show each role its own rows let no condition look behind that.
SELECT c.oid::regclass AS view, c.reloptions FROM pg_class AS c JOIN members AS m ON m.objid = c.oid AND m.classid = 'pg_class'::regclass
WHERE c.relkind = 'v' AND pg_get_viewdef(c.oid) LIKE '%pg_has_role%' ORDER BY c.relname COLLATE "C";
