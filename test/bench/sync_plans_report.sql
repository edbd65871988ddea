-- The figures of sync_plans.sh and its goals.  Reads runs.csv and facts.csv in the
-- current folder.

\ir facts.sql

CREATE TEMP TABLE run
(
	condition text NOT NULL,
	statistics text NOT NULL,
	after text NOT NULL,
	rows integer NOT NULL,
	plain numeric NOT NULL,
	synced numeric NOT NULL
);
\copy run FROM 'runs.csv' (FORMAT csv)

CREATE TEMP VIEW summary AS
	SELECT rows, condition, statistics, count(*) AS runs,
		round((percentile_cont(0.5) WITHIN GROUP (ORDER BY plain))::numeric / 1000, 1) AS plain_ms,
		round((percentile_cont(0.5) WITHIN GROUP (ORDER BY synced))::numeric / 1000, 1) AS synced_ms,
		round(max(synced) / 1000, 1) AS most_ms,
		round((percentile_cont(0.5) WITHIN GROUP (ORDER BY synced / plain))::numeric, 2) AS ratio,
		round(min(synced / plain), 2) AS least,
		round(max(synced / plain), 2) AS most
	FROM run GROUP BY rows, condition, statistics;

\echo 'UPDATE, medians in ms, and the time with a sync in relation to that without'
TABLE summary ORDER BY rows, condition, statistics;

-- The time of no row or of one is that of the statement itself.  A quadratic plan would
-- make each of many rows take 10 times as long.
\echo 'Goals'
SELECT goal, wanted, measured, CASE WHEN measured <= wanted THEN 'yes' ELSE 'NO' END AS met
FROM (
	SELECT 1 AS number, format('UPDATE of %s rows: added by a sync, of its own time, worst median', rows) AS goal,
		1.5 AS wanted, max(ratio) - 1 AS measured
	FROM summary WHERE rows >= 1000 GROUP BY rows
	UNION ALL
	SELECT 2, 'most time a row at 1000000 rows, of the median at 100000', 2,
		round(max(synced / rows) FILTER (WHERE rows = 1000000)
			/ (percentile_cont(0.5) WITHIN GROUP (ORDER BY synced / rows) FILTER (WHERE rows = 100000))::numeric, 2)
	FROM run WHERE rows > 0
	UNION ALL
	SELECT 3, name, 10, value FROM fact
) AS goals
ORDER BY number, goal;
