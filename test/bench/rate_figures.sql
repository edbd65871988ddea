-- The figures of one case of rate.sh, as lines of facts.csv, from the ledger of its
-- database.  Variables: name, limit, window, calls, max_seconds.

WITH started AS (
	SELECT min(sent_at) AS at FROM ocean_enrich.call
), answer AS (
	SELECT row_number() OVER (ORDER BY answered_at) AS number, answered_at
	FROM ocean_enrich.call WHERE state = 'answered' AND credits > 0
), measured AS (
	SELECT count(*) AS answers, CASE WHEN count(*) < :calls THEN :max_seconds
		ELSE extract(epoch FROM max(answered_at) - (SELECT at FROM started)) END AS seconds
	FROM answer WHERE number <= :calls
)
SELECT fact.name, fact.value
FROM measured, LATERAL (VALUES
	(:'name' || ': calls answered, of ' || :calls, answers::numeric),
	(:'name' || ': seconds', round(seconds, 1)),
	(:'name' || ': of what is allowed',
		round(greatest(answers - :limit - 1, 0) / (seconds - :window) / (:limit / :window::numeric), 3))) AS fact (name, value);
