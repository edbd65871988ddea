-- The tables of run.sh: medians over the rounds.  Reads runs.csv, facts.csv and
-- memory.csv in the current folder.

\ir runs.sql

CREATE TEMP TABLE fact
(
	name text PRIMARY KEY,
	value float8 NOT NULL
);
CREATE TEMP TABLE memory
(
	calls bigint PRIMARY KEY,
	session bigint NOT NULL,
	worker bigint NOT NULL
);
\copy fact FROM 'facts.csv' (FORMAT csv)
\copy memory FROM 'memory.csv' (FORMAT csv)

-- One line for all runs of a subject; everything is per call.
CREATE TEMP TABLE line AS
SELECT part, subject, min(position) AS position, count(*) AS runs, sum(calls) AS calls,
	percentile_cont(0.5) WITHIN GROUP (ORDER BY wall_us / calls) AS us,
	min(wall_us / calls) AS least_us,
	max(wall_us / calls) AS most_us,
	percentile_cont(0.5) WITHIN GROUP (ORDER BY (cpu_us + worker_cpu_us) / calls) AS cpu,
	min((cpu_us + worker_cpu_us) / calls) AS least_cpu,
	percentile_cont(0.5) WITHIN GROUP (ORDER BY cpu_us / calls) AS asker_cpu,
	percentile_cont(0.5) WITHIN GROUP (ORDER BY worker_cpu_us / calls) AS worker_cpu
FROM run GROUP BY part, subject;

CREATE FUNCTION pg_temp.line(wanted_part text, wanted text) RETURNS line
	LANGUAGE sql AS 'SELECT line FROM line WHERE part = wanted_part AND subject = wanted';
CREATE FUNCTION pg_temp.tenth(value float8) RETURNS numeric
	LANGUAGE sql AS 'SELECT round(value::numeric, 1)';
CREATE FUNCTION pg_temp.hundredth(value float8) RETURNS numeric
	LANGUAGE sql AS 'SELECT round(value::numeric, 2)';

-- Calls one after the other, compared with the first line of the part.
CREATE FUNCTION pg_temp.one_by_one(wanted_part text)
	RETURNS TABLE (subject text, runs bigint, "calls/s" numeric, "us a call" numeric,
		"least .. most" text, "ratio" numeric, "CPU us" numeric, "least" numeric,
		"asker" numeric, "worker" numeric, "more CPU" numeric)
	LANGUAGE sql
AS $$
	SELECT l.subject, l.runs, round((1000000 / l.us)::numeric), pg_temp.tenth(l.us),
		pg_temp.tenth(l.least_us) || ' .. ' || pg_temp.tenth(l.most_us),
		pg_temp.hundredth(l.us / base.us),
		pg_temp.tenth(l.cpu), pg_temp.tenth(l.least_cpu),
		pg_temp.tenth(l.asker_cpu), pg_temp.tenth(l.worker_cpu),
		pg_temp.tenth(l.cpu - base.cpu)
	FROM line AS l, (SELECT * FROM line WHERE part = wanted_part ORDER BY position LIMIT 1) AS base
	WHERE l.part = wanted_part ORDER BY l.position
$$;

-- Many calls at once.
CREATE FUNCTION pg_temp.at_once(wanted_part text)
	RETURNS TABLE (subject text, runs bigint, calls numeric, "calls/s" numeric,
		"least .. most" text, "worker's CPU us a call" numeric)
	LANGUAGE sql
AS $$
	SELECT subject, runs, calls, round((1000000 / us)::numeric),
		round((1000000 / most_us)::numeric) || ' .. ' || round((1000000 / least_us)::numeric),
		pg_temp.tenth(worker_cpu)
	FROM line WHERE part = wanted_part ORDER BY position
$$;

\echo
\echo 'One session, a server that answers at once (ratio, more CPU: compared with the first line)'
SELECT * FROM pg_temp.one_by_one('http');

\echo 'The same over https'
SELECT * FROM pg_temp.one_by_one('https');

\echo 'Many sessions'
SELECT * FROM pg_temp.at_once('many');

\echo 'The length of the ledger, one session, new calls'
SELECT * FROM pg_temp.one_by_one('ledger');

\echo 'The length of the ledger, one session, answers reused'
SELECT * FROM pg_temp.one_by_one('reuse');

\echo 'The answer as typed columns, per row of a table'
SELECT * FROM pg_temp.one_by_one('columns');

\echo 'Memory of one session and its worker, without shared memory'
SELECT calls AS "after calls", session AS "session kB", worker AS "worker kB"
FROM memory ORDER BY calls;

\echo 'Figures'
SELECT 'us of one fsync' AS name, round((pg_temp.line('fsync', 'fsync')).us) AS value
UNION ALL
SELECT name, value FROM fact ORDER BY name;

\echo 'Goals, judged by the medians (least: by the best run, which a busy machine'
\echo 'disturbs less)'
SELECT goal, wanted, measured, least, CASE WHEN good THEN 'yes' ELSE 'NO' END AS met
FROM (
	SELECT 1, 'more CPU us a call than plain libcurl, ' || ocean.subject, '<= 150',
		pg_temp.tenth(ocean.cpu - plain.cpu), pg_temp.tenth(ocean.least_cpu - plain.least_cpu),
		ocean.cpu - plain.cpu <= 150
	FROM line AS ocean, pg_temp.line('http', 'plain libcurl') AS plain
	WHERE ocean.part = 'http' AND ocean.subject ~ '^ocean_enrich(, fsync off)?(, one call at a time)?$'
	UNION ALL
	SELECT 1, 'more CPU us a call than plain libcurl with two fsyncs, ' || ocean.subject, '<= 150',
		pg_temp.tenth(ocean.cpu - plain.cpu), pg_temp.tenth(ocean.least_cpu - plain.least_cpu),
		ocean.cpu - plain.cpu <= 150
	FROM pg_temp.line('http', 'ocean_enrich, one call at a time') AS ocean,
		pg_temp.line('http', 'plain libcurl, two fsyncs a call') AS plain
	UNION ALL
	SELECT 2, 'us a call, ' || ocean.subject || ' / PL/Python', '< 1',
		pg_temp.hundredth(ocean.us / python.us), pg_temp.hundredth(ocean.least_us / python.least_us),
		ocean.us < python.us
	FROM line AS ocean, line AS python
	WHERE ocean.part = 'http' AND python.part = 'http' AND python.subject = 'PL/Python'
		AND ocean.subject ~ '^ocean_enrich, fsync off(, one call at a time)?$'
	UNION ALL
	SELECT 3, 'calls/s, ' || subject || ', with an fsync of '
		|| round((pg_temp.line('fsync', 'fsync')).us) || ' us', '>= 5000',
		round((1000000 / us)::numeric), round((1000000 / least_us)::numeric), 1000000 / us >= 5000
	FROM line WHERE part = 'many' AND subject LIKE '64 sessions%'
	UNION ALL
	SELECT 4, name, '= 1', value::numeric, NULL, value = 1
	FROM fact WHERE name LIKE 'https: % one after the other'
	UNION ALL
	SELECT 5, name, '>= 1000', value::numeric, NULL, value >= 1000
	FROM fact WHERE name LIKE 'most in flight, %'
	UNION ALL
	SELECT 6, 'growth of worker and session in the last half of their calls, kB', '< 500',
		late.worker + late.session - half.worker - half.session, NULL,
		late.worker + late.session - half.worker - half.session < 500
	FROM memory AS late JOIN memory AS half ON late.calls = 2 * half.calls
	WHERE late.calls = (SELECT max(calls) FROM memory)
	UNION ALL
	SELECT 7, 'CPU of ' || what || ', ' || l.subject || ' / ' || base.subject, '<= 1.1',
		pg_temp.hundredth(l.cpu / base.cpu), pg_temp.hundredth(l.least_cpu / base.least_cpu),
		l.cpu / base.cpu <= 1.1
	FROM (VALUES ('ledger', 'new calls'), ('reuse', 'reused answers')) AS parts (part, what)
		JOIN line AS l USING (part)
		JOIN line AS base ON base.part = l.part AND base.subject = 'short ledger'
	WHERE l.subject <> base.subject
	UNION ALL
	SELECT 8, 'us a row, ' || subject, '<= 10', pg_temp.tenth(us), pg_temp.tenth(least_us), us <= 10
	FROM line WHERE part = 'columns' AND subject LIKE 'ocean_person%'
) AS goals (number, goal, wanted, measured, least, good)
ORDER BY number, goal;
