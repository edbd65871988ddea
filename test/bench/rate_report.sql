-- The figures of rate.sh and its goals.  Reads facts.csv in the current folder.

\ir facts.sql

\echo 'Goals'
SELECT goal, wanted, measured, CASE WHEN good THEN 'yes' ELSE 'NO' END AS met
FROM (
	SELECT 1 AS number, position, name AS goal, '>= 0.9' AS wanted, value AS measured, value >= 0.9 AS good
	FROM fact WHERE name LIKE '%: of what is allowed' AND name NOT LIKE '% own limit %'
	UNION ALL
	SELECT 2, position, name, '>= 0.95', value, value >= 0.95
	FROM fact WHERE name LIKE '% own limit %: of what is allowed'
	UNION ALL
	SELECT 3, position, name, '= 0', value, value = 0
	FROM fact WHERE name LIKE '% own limit %: requests refused'
) AS goals
ORDER BY number, position;
