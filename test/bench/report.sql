-- The tables: medians over the rounds.  Reads runs.csv and facts.csv, which run.sh
-- writes, in the current folder.

\set ON_ERROR_STOP on
\set QUIET on
\pset footer off
\pset null ''

CREATE TEMP TABLE run
(
	position serial,
	part text NOT NULL,
	subject text NOT NULL,
	calls bigint NOT NULL,
	wall_us float8 NOT NULL,
	cpu_us float8,				-- of the program or session that asks
	worker_cpu_us float8
);
CREATE TEMP TABLE fact
(
	name text PRIMARY KEY,
	value float8 NOT NULL
);
\copy run (part, subject, calls, wall_us, cpu_us, worker_cpu_us) FROM 'runs.csv' (FORMAT csv)
\copy fact FROM 'facts.csv' (FORMAT csv)

-- One line for what was measured several times; everything is per call.
CREATE TEMP TABLE line AS
SELECT part, subject, min(position) AS position, count(*) AS runs, sum(calls) AS calls,
	percentile_cont(0.5) WITHIN GROUP (ORDER BY wall_us / calls) AS us,
	min(wall_us / calls) AS least_us,
	max(wall_us / calls) AS most_us,
	percentile_cont(0.5) WITHIN GROUP (ORDER BY (cpu_us + worker_cpu_us) / calls) AS cpu,
	percentile_cont(0.5) WITHIN GROUP (ORDER BY cpu_us / calls) AS asker_cpu,
	percentile_cont(0.5) WITHIN GROUP (ORDER BY worker_cpu_us / calls) AS worker_cpu
FROM run GROUP BY part, subject;

CREATE FUNCTION pg_temp.us(wanted_part text, wanted text) RETURNS float8
	LANGUAGE sql AS 'SELECT us FROM line WHERE part = wanted_part AND subject = wanted';
CREATE FUNCTION pg_temp.cpu(wanted_part text, wanted text) RETURNS float8
	LANGUAGE sql AS 'SELECT cpu FROM line WHERE part = wanted_part AND subject = wanted';
CREATE FUNCTION pg_temp.fact(wanted text) RETURNS float8
	LANGUAGE sql AS 'SELECT value FROM fact WHERE name = wanted';
CREATE FUNCTION pg_temp.tenth(value float8) RETURNS numeric
	LANGUAGE sql AS 'SELECT round(value::numeric, 1)';

-- What is one after the other, beside the first line of its part.
CREATE FUNCTION pg_temp.one_by_one(wanted_part text)
	RETURNS TABLE (subject text, runs bigint, "calls/s" numeric, "us a call" numeric,
		"least .. most" text, "ratio" numeric, "CPU us" numeric, "asker" numeric,
		"worker" numeric, "more CPU" numeric)
	LANGUAGE sql
AS $$
	SELECT l.subject, l.runs, round((1000000 / l.us)::numeric), pg_temp.tenth(l.us),
		pg_temp.tenth(l.least_us) || ' .. ' || pg_temp.tenth(l.most_us),
		round((l.us / base.us)::numeric, 2),
		pg_temp.tenth(l.cpu), pg_temp.tenth(l.asker_cpu), pg_temp.tenth(l.worker_cpu),
		pg_temp.tenth(l.cpu - base.cpu)
	FROM line AS l, (SELECT * FROM line WHERE part = wanted_part ORDER BY position LIMIT 1) AS base
	WHERE l.part = wanted_part ORDER BY l.position
$$;

-- What is many at once.
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
\echo 'One session, a server that answers at once (ratio and more CPU: against the first line)'
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

\echo 'What was counted'
SELECT 'us of one fsync' AS name, round(pg_temp.us('fsync', 'fsync')) AS value
UNION ALL
SELECT name, value FROM fact ORDER BY name;

\echo 'Goals'
SELECT goal, wanted, measured,
	CASE WHEN good THEN 'yes' WHEN NOT good THEN 'NO' ELSE 'not measured' END AS met
FROM (
	SELECT 1, 'CPU us a call more than plain libcurl, fsync off', '<= 150',
		pg_temp.tenth(more)::text, more <= 150
	FROM (SELECT pg_temp.cpu('http', 'ocean_enrich, fsync off')
		- pg_temp.cpu('http', 'plain libcurl')) AS measured (more)
	UNION ALL
	SELECT 2, 'CPU us a call more than plain libcurl, fsync on', '<= 150',
		pg_temp.tenth(more)::text, more <= 150
	FROM (SELECT pg_temp.cpu('http', 'ocean_enrich')
		- pg_temp.cpu('http', 'plain libcurl')) AS measured (more)
	UNION ALL
	SELECT 3, 'us a call, of those of PL/Python, fsync off', '< 1.00',
		round(ratio::numeric, 2)::text, ratio < 1
	FROM (SELECT pg_temp.us('http', 'ocean_enrich, fsync off')
		/ pg_temp.us('http', 'PL/Python')) AS measured (ratio)
	UNION ALL
	SELECT 4, 'calls/s of 64 sessions, fsync on, where one takes < 1000 us (here ' ||
		round(pg_temp.us('fsync', 'fsync')::numeric) || ')', '>= 5000',
		round(speed::numeric)::text, speed >= 5000
	FROM (SELECT 1000000 / pg_temp.us('many', '64 sessions')) AS measured (speed)
	UNION ALL
	SELECT 5, 'https: ' || name, '1', value::text, value = 1
	FROM fact WHERE name LIKE 'https: % one after the other'
	UNION ALL
	SELECT 6, 'calls in flight in one worker', '>= 1000',
		most::text, most >= 1000
	FROM (SELECT max(value) FROM fact WHERE name LIKE 'most in flight, %') AS measured (most)
	UNION ALL
	SELECT 7, 'kB that worker and session grow by over the calls', '< 1000',
		grown::text, grown < 1000
	FROM (SELECT pg_temp.fact('kB of worker, late') - pg_temp.fact('kB of worker, early')
		+ pg_temp.fact('kB of session, late') - pg_temp.fact('kB of session, early')) AS measured (grown)
	UNION ALL
	SELECT 8, 'CPU of ' || what || ', ' || l.subject || ', of those of ' || base.subject, '<= 1.10',
		round((l.cpu / base.cpu)::numeric, 2)::text, l.cpu / base.cpu <= 1.1
	FROM (VALUES ('ledger', 'new calls'), ('reuse', 'reused answers')) AS parts (part, what)
		JOIN line AS l USING (part)
		JOIN line AS base ON base.part = l.part AND base.subject = 'short ledger'
	WHERE l.subject <> base.subject
) AS goals (number, goal, wanted, measured, good)
ORDER BY number;
