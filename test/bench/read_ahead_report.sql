-- The tables of read_ahead.sh: medians over the rounds.  Reads runs.csv in the
-- current folder; latency_ms is the latency of the sandbox.

\ir runs.sql

-- "ideal": calls/s if only the latency took time.
CREATE TEMP VIEW line AS
SELECT part, subject, min(position) AS position, count(*) AS runs, max(calls) AS calls,
	percentile_cont(0.5) WITHIN GROUP (ORDER BY calls / wall_us * 1000000) AS per_second,
	min(calls / wall_us * 1000000) AS least, max(calls / wall_us * 1000000) AS most,
	percentile_cont(0.5) WITHIN GROUP (ORDER BY wall_us / calls) AS us,
	percentile_cont(0.75) WITHIN GROUP (ORDER BY wall_us / calls)
		- percentile_cont(0.25) WITHIN GROUP (ORDER BY wall_us / calls) AS spread_us,
	CASE WHEN part <> 'overhead' THEN part::float8 * 1000 / :latency_ms END AS ideal
FROM run GROUP BY part, subject;

\echo
\echo 'Many requests in flight (ideal: if only the latency took time)'
SELECT part AS "in flight", subject, runs, calls,
	round(per_second::numeric, 1) AS "calls/s",
	round(least::numeric, 1) || ' .. ' || round(most::numeric, 1) AS "least .. most",
	round((per_second / ideal)::numeric, 3) AS "of ideal"
FROM line WHERE part <> 'overhead' ORDER BY part::integer, position;

\echo 'A query without the function, planned again each time'
SELECT subject, runs, round(us::numeric, 2) AS "CPU us a query",
	round(spread_us::numeric, 2) AS "interquartile range"
FROM line WHERE part = 'overhead' ORDER BY position;

\echo 'Goals, judged by the medians (best: by the best run, which a busy machine'
\echo 'disturbs less)'
SELECT goal, wanted, round(measured::numeric, 3) AS measured, round(best::numeric, 3) AS best,
	CASE WHEN good THEN 'yes' ELSE 'NO' END AS met
FROM (
	SELECT 1, 'UPDATE, ' || part || ' in flight, of ideal', '>= ' || share,
		per_second / ideal, most / ideal, per_second / ideal >= share
	FROM line JOIN (VALUES ('64', 0.95), ('256', 0.90)) AS wanted (part, share) USING (part)
	WHERE subject = 'UPDATE'
	UNION ALL
	SELECT 2, 'UPDATE / ' || theirs.subject || ', ' || mine.part || ' in flight', '>= 0.98',
		mine.per_second / theirs.per_second, mine.most / theirs.most,
		mine.per_second / theirs.per_second >= 0.98
	FROM line AS mine JOIN line AS theirs USING (part)
	WHERE mine.subject = 'UPDATE' AND theirs.subject IN ('curl --parallel', 'Python, asyncio')
	UNION ALL
	SELECT 3, 'UPDATE of 50 partitions / of one table, ' || parts.part || ' in flight', '>= 0.98',
		parts.per_second / one.per_second, parts.most / one.most,
		parts.per_second / one.per_second >= 0.98
	FROM line AS parts JOIN line AS one USING (part)
	WHERE parts.subject = 'UPDATE, 50 partitions' AND one.subject = 'UPDATE'
	UNION ALL
	SELECT 4, 'CPU us added by the library to a query without the function',
		'<= ' || round(without.spread_us::numeric, 2) || ' (noise)',
		mine.us - without.us, 1000000 / mine.most - 1000000 / without.most,
		mine.us - without.us <= without.spread_us
	FROM line AS mine, line AS without
	WHERE mine.part = 'overhead' AND mine.subject = 'with the library'
		AND without.part = 'overhead' AND without.subject = 'without the library'
) AS goals (number, goal, wanted, measured, best, good)
ORDER BY number, goal;
