-- Adds :rows rows to the ledger, spread over the last month: copies of its last
-- row, each with another request.

\set ON_ERROR_STOP on

INSERT INTO ocean_enrich.call (endpoint, state, role, account, fingerprint, request, status, answer,
	credits, attempts, requested_at, sent_at, answered_at)
SELECT 'person', c.state, c.role, c.account, sha256(int8send(n)), c.request, c.status, c.answer,
	c.credits, c.attempts, made.at, made.at, made.at
FROM (SELECT * FROM ocean_enrich.call ORDER BY call_id DESC LIMIT 1) AS c,
	generate_series(1, :rows) AS n,
	LATERAL (SELECT now() - interval '1 month' * (:rows - n) / :rows AS at) AS made
ORDER BY n;
