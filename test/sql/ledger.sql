/*
 * ledger.sql
 *		What the ledger is for: equal requests are paid once, what may have been
 *		paid waits for a decision, and the views say where the money went.
 */
\getenv inputdir PG_ABS_SRCDIR
\set errors :inputdir '/sql/include/errors.sql'
\set ECHO none
\i :errors
\set ECHO all

TRUNCATE ocean_enrich.call, ocean_enrich.reveal_cost;
-- Each failure is shown as it came, so nothing is tried again; and one call is
-- made after the other, so that the ledger has them in that order.
SET ocean_enrich.max_retries = 0;
SET ocean_enrich.concurrency = 1;

CREATE FUNCTION pg_temp.try(email text, OUT domain text, OUT code text, OUT message text,
	OUT credits numeric, OUT reused boolean)
LANGUAGE sql AS $$
	SELECT answer ->> 'domain', error_code, error_message, result.credits, result.reused
	FROM ocean_try_enrich_person(ocean_person_request(email => email)) AS result
$$;

-- Equal requests, also when they are written differently

SELECT * FROM pg_temp.try('anna@example.com');
SELECT * FROM pg_temp.try('anna@example.com');
SELECT reused FROM ocean_try_enrich_person('{"company": null, "person": {"name": null, "email": "anna@example.com"}}');
SELECT reused FROM ocean_try_enrich_person('{"person": {"email": "Anna@example.com"}}');
SELECT reused FROM ocean_try_enrich_person('{"person": {"email": "anna@example.org"}}');
SELECT count(*), sum(credits) FROM ocean_enrich.call;

-- Never, or not for as long: what is older than that is paid for again.

SET ocean_enrich.reuse_for = 0;
SELECT * FROM pg_temp.try('anna@example.com');
SET ocean_enrich.reuse_for = '1h';
UPDATE ocean_enrich.call SET answered_at = answered_at - interval '61 minutes';
SELECT * FROM pg_temp.try('anna@example.com');
UPDATE ocean_enrich.call SET answered_at = answered_at - interval '59 minutes';
SELECT * FROM pg_temp.try('anna@example.com');
SET ocean_enrich.reuse_for = '24h';
SELECT count(*) FROM ocean_enrich.call;

-- Another account is charged for itself.  (localhost is another API to us.)

\getenv sandbox OCEAN_SANDBOX_URL
SELECT replace(:'sandbox', '127.0.0.1', 'localhost') AS other, ocean_enrich.account() AS account \gset
SET ocean_enrich.api_url = :'other';
SELECT ocean_enrich.account() ~ '^[0-9a-f]{16}$' AS digest, ocean_enrich.account() <> :'account' AS differs;
SELECT * FROM pg_temp.try('anna@example.com');
SET ocean_enrich.api_url = :'sandbox';
SELECT ocean_enrich.account() = :'account' AS same;
SELECT * FROM pg_temp.try('anna@example.com');
SELECT count(*), count(DISTINCT account) FROM ocean_enrich.call;

-- A miss is reused, everything else that was refused or failed is asked again.

TRUNCATE ocean_enrich.call;
SELECT email, result.code, result.credits, result.reused
FROM unnest(ARRAY['sb-unknown', 'sb-gathering-3600000', 'sb-status-402', 'sb-422', 'sb-status-429', 'sb-status-503',
		'sb-unknown', 'sb-gathering-3600000', 'sb-status-402', 'sb-422', 'sb-status-429', 'sb-status-503']) AS fault,
	format('%s.ledger@example.com', fault) AS email, pg_temp.try(email) AS result;
SELECT state, status, count(*) FROM ocean_enrich.call GROUP BY state, status ORDER BY state, status;

-- A miss is not reused for as long as an answer.

RESET ocean_enrich.reuse_for;
SELECT * FROM pg_temp.try('anna@example.com');
UPDATE ocean_enrich.call SET answered_at = answered_at - interval '25 hours';
SELECT reused FROM pg_temp.try('sb-unknown.ledger@example.com');
SELECT reused FROM pg_temp.try('anna@example.com');
SET ocean_enrich.reuse_not_found_for = '365d';
UPDATE ocean_enrich.call SET answered_at = answered_at - interval '10 days';
SELECT reused FROM pg_temp.try('sb-unknown.ledger@example.com');
SET ocean_enrich.reuse_for = '1d';
SELECT reused FROM pg_temp.try('sb-unknown.ledger@example.com');
RESET ocean_enrich.reuse_for;
RESET ocean_enrich.reuse_not_found_for;

-- What may have been paid is not sent again, however old, until somebody says so.

TRUNCATE ocean_enrich.call;
SELECT * FROM pg_temp.try('sb-status-500.ledger@example.com');
SELECT * FROM pg_temp.try('sb-status-500.ledger@example.com');
SET ocean_enrich.reuse_for = 0;
UPDATE ocean_enrich.call SET sent_at = sent_at - interval '1 year', answered_at = answered_at - interval '1 year';
SELECT * FROM pg_temp.try('sb-status-500.ledger@example.com');
SELECT code, regexp_replace(message, '\d+', '...') AS message,
	regexp_replace(detail, 'Call \d+', 'Call ...') AS detail, regexp_replace(hint, '\d+', '...') AS hint
FROM pg_temp.call_error(ocean_person_request(email => 'sb-status-500.ledger@example.com'));
RESET ocean_enrich.reuse_for;
SELECT state, attempts FROM ocean_enrich.call;

SELECT call_id FROM ocean_enrich.unknown_calls \gset
SELECT role = current_user AS mine, account = ocean_enrich.account() AS my_account, status, detail, attempts,
	age >= interval '1 year' AS a_year_ago, resolution, resolved_by, resolved_at
FROM ocean_enrich.unknown_calls;

-- Decisions that are none

SELECT ocean_enrich.resolve(:call_id, 'pay twice');
\echo :SQLSTATE
SELECT ocean_enrich.resolve(:call_id, '');
\echo :SQLSTATE
SELECT ocean_enrich.resolve(:call_id, NULL);
SELECT ocean_enrich.resolve(NULL, 'give up');
SELECT ocean_enrich.resolve(:call_id + 1, 'give up');
SELECT ocean_enrich.resolve(:call_id, 'give up', -3);
\echo :SQLSTATE
SELECT ocean_enrich.resolve(:call_id, 'give up', 'NaN');
\echo :SQLSTATE
SELECT resolution, credits FROM ocean_enrich.call;

-- Given up: it stays refused, with what it did cost.

SELECT ocean_enrich.resolve(:call_id, 'give up', 3);
SELECT resolution, credits, resolved_by = session_user AS by_me, resolved_at <= now() AS resolved
FROM ocean_enrich.call;
SELECT * FROM pg_temp.try('sb-status-500.ledger@example.com');

-- On second thoughts: it is sent again, once.

SELECT ocean_enrich.resolve(:call_id, 'pay again');
SELECT * FROM pg_temp.try('sb-status-500.ledger@example.com');
SELECT * FROM pg_temp.try('sb-status-500.ledger@example.com');
SELECT state, resolution, credits FROM ocean_enrich.call ORDER BY call_id;

-- An answer that came later than the doubt counts.

TRUNCATE ocean_enrich.call;
SELECT * FROM pg_temp.try('carla@example.com');
INSERT INTO ocean_enrich.call (endpoint, state, role, account, fingerprint, request, requested_at, sent_at)
SELECT 'person', 'unknown', role, account, fingerprint, request, now(), now() FROM ocean_enrich.call;
SELECT * FROM pg_temp.try('carla@example.com');

-- Only what is unknown can be decided.

SELECT ocean_enrich.resolve(call_id, 'pay again') FROM ocean_enrich.call WHERE state = 'answered';

-- What somebody deletes is forgotten, and so it is paid for again.

DELETE FROM ocean_enrich.call;
SELECT * FROM pg_temp.try('carla@example.com');

-- Views

TRUNCATE ocean_enrich.call;
BEGIN;
SELECT * FROM ocean_enrich.calls_by_state;
SELECT * FROM ocean_enrich.spending;
SELECT * FROM ocean_enrich.limits;
SELECT * FROM ocean_enrich.calls_in_flight;
INSERT INTO ocean_enrich.call (endpoint, state, role, account, fingerprint, status, credits, reserved, attempts,
	requested_at, sent_at, answered_at, next_attempt_at)
SELECT 'person', state::ocean_enrich.call_state, role, account, '', status, credits, 2.5, 1, at, at, at, next_at
FROM (VALUES
		('answered', 'anna', 'a', 200, 3.0, '-2 days', NULL),
		('answered', 'anna', 'a', 200, 0.1, '-2 days', NULL),
		('refused', 'anna', 'a', 404, NULL, '-2 days', NULL),
		('answered', 'berta', 'a', 200, 3, '-2 days', NULL),
		('answered', 'anna', 'b', 200, 3, '-2 days', NULL),
		('answered', 'anna', 'a', 200, 3, '0', NULL),
		('unknown', 'anna', 'a', 500, NULL, '0', NULL),
		('unknown', 'anna', 'a', 500, 3, '0', NULL),
		('refused', 'berta', 'a', 402, NULL, '0', NULL),
		('failed', 'berta', 'a', 429, NULL, '0', '1 hour'),
		('failed', 'berta', 'a', 503, NULL, '0', '2 hours'),
		('sent', 'berta', 'a', NULL, NULL, '0', NULL)) AS r (state, role, account, status, credits, ago, next),
	LATERAL (SELECT now() + ago::interval AS at, now() + next::interval AS next_at) AS t;
INSERT INTO ocean_enrich.call (endpoint, state, role, account, fingerprint, requested_at)
VALUES ('person', 'queued', 'anna', 'a', '', now()), ('person', 'cancelled', 'anna', 'a', '', now());

SELECT state, calls, credits, now() - oldest AS oldest, now() - newest AS newest
FROM ocean_enrich.calls_by_state ORDER BY state;
SELECT max(day) OVER () - day AS days_ago, role, account, calls, answered, refused,
	failed, unknown, credits
FROM ocean_enrich.spending ORDER BY day, role, account;
SELECT role, account, status, age < interval '1 hour' AS young, resolution FROM ocean_enrich.unknown_calls;

SET ocean_enrich.rate_limit = 60;
SET ocean_enrich.daily_limit = 5;
SET ocean_enrich.credit_limit = '20.5';
SET ocean_enrich.credits_per_call = '2.5';
SELECT account, name, allowed, used, remaining,
	frees_at - date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS frees_in_the_day,
	paused_until - now() AS paused_for
FROM ocean_enrich.limits WHERE name <> 'rate_limit' ORDER BY name;
SELECT name, allowed, used, remaining, frees_at - now() AS frees_in
FROM ocean_enrich.limits WHERE name = 'rate_limit';
SET ocean_enrich.rate_limit = 0;
SET ocean_enrich.daily_limit = 0;
SET ocean_enrich.credit_limit = 0;
SELECT name, allowed, used, remaining FROM ocean_enrich.limits ORDER BY name;
RESET ocean_enrich.credits_per_call;

-- The days are those of the API, UTC, wherever the session is.

SET timezone = 'Pacific/Auckland';
SELECT count(DISTINCT day) FROM ocean_enrich.spending;
RESET timezone;
ROLLBACK;
