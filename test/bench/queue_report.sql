-- The figures of queue.sh and its goals.  Reads facts.csv in the current folder.

\ir facts.sql

-- Of several measurements the best one, since it is disturbed least.
CREATE FUNCTION pg_temp.least(wanted text) RETURNS numeric
	LANGUAGE sql AS 'SELECT min(value) FROM fact WHERE name = wanted';

\echo 'Goals'
SELECT goal, wanted, measured, CASE WHEN good THEN 'yes' ELSE 'NO' END AS met
FROM (
	SELECT 1 AS number, name AS goal, '>= 50000' AS wanted, value AS measured, value >= 50000 AS good
	FROM fact WHERE name LIKE 'submitted by %'
	UNION ALL
	SELECT 2, name, '>= 2000', value, value >= 2000
	FROM fact WHERE name LIKE 'settled at %' OR name LIKE 'sync at %'
	UNION ALL
	SELECT 3, name, '= 0', value, value = 0
	FROM fact WHERE name LIKE 'rows of the sync without %'
	UNION ALL
	SELECT 4, 'worker us a row, long queue / short queue', '<= 1.5',
		round(pg_temp.least('worker us a row, long queue') / pg_temp.least('worker us a row, short queue'), 2),
		pg_temp.least('worker us a row, long queue') <= 1.5 * pg_temp.least('worker us a row, short queue')
	UNION ALL
	SELECT 5, name, '<= 2', value, value <= 2
	FROM fact WHERE name LIKE 'size of %'
) AS goals
ORDER BY number, goal;
