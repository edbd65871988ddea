/*
 * answer.sql
 *		Odd answers that are a 200 all the same, so they were paid for: what
 *		can be kept as a person is, and of anything else the bytes are.
 */
\getenv inputdir PG_ABS_SRCDIR
\set errors :inputdir '/sql/include/errors.sql'
\set ECHO none
\i :errors
\set ECHO all

TRUNCATE ocean_enrich.call;
-- Each failure is shown as it came, so nothing is tried again; and one call is
-- made after the other, so that the ledger has them in that order.
SET ocean_enrich.max_retries = 0;
SET ocean_enrich.concurrency = 1;

CREATE FUNCTION pg_temp.enrich(email text) RETURNS jsonb
LANGUAGE sql AS $$
	SELECT ocean_enrich_person(ocean_person_request(email => email))
$$;

-- Few keys, null in all of them, new ones: a person

SELECT pg_temp.enrich('sb-minimal.a@example.com');
SELECT jsonb_agg(DISTINCT jsonb_typeof(value)) AS types, count(*) AS keys
FROM jsonb_each(pg_temp.enrich('sb-nulls.a@example.com')) WHERE key NOT IN ('id', 'domain');
SELECT person -> 'favouriteColour' AS colour, person -> 'remote' AS remote, person -> 'pets' AS pets
FROM pg_temp.enrich('sb-newkeys.a@example.com') AS person;

-- Numbers keep every digit.

SELECT person -> 'hugeInteger' AS huge, person -> 'longDecimal' AS long
FROM pg_temp.enrich('sb-hugeint.a@example.com') AS person;

-- Any character, as many levels as there are

SELECT person ->> 'name' AS name, person ->> 'jobTitle' AS job_title, person ->> 'summary' AS summary
FROM unnest(ARRAY['sb-unicode.a@example.com', 'sb-latin1.a@example.com']) AS email,
	pg_temp.enrich(email) AS person;
SELECT length(person ->> 'nested') FROM pg_temp.enrich('sb-deep-1000.a@example.com') AS person;

-- Long, and still taken

SELECT octet_length(person ->> 'padding') > 990000 AS long
FROM pg_temp.enrich('sb-oversized-1000.a@example.com') AS person;

-- What is no person

\x on
SELECT email, error.*
FROM unnest(ARRAY['sb-empty.a@example.com', 'sb-badjson.a@example.com', 'sb-html.a@example.com',
	'sb-notobject.a@example.com', 'sb-noid.a@example.com', 'sb-detail200.a@example.com',
	'sb-oversized-2048.a@example.com', 'sb-badutf8.a@example.com', 'sb-nul.a@example.com',
	'sb-surrogate.a@example.com', 'sb-deep-100000.a@example.com']) AS email,
	pg_temp.call_error(ocean_person_request(email => email)) AS error;
\x off

-- What came is kept where it is no jsonb, and what it cost.

SELECT request #>> '{person,email}' AS email, state, credits, detail,
	octet_length(raw) > 0 AS raw, raw_truncated
FROM ocean_enrich.call WHERE answer IS NULL ORDER BY call_id;
SELECT encode(substr(raw, 1, 8), 'escape') AS begins,
	encode(substr(raw, greatest(octet_length(raw) - 3, 1)), 'escape') AS ends,
	CASE WHEN raw_truncated THEN octet_length(raw) END AS truncated_at
FROM ocean_enrich.call WHERE answer IS NULL ORDER BY call_id;

-- The same again: the same person, the same error, no new row, nothing paid.

SELECT count(*), sum(credits) FROM ocean_enrich.call;
CREATE TEMP TABLE again AS
SELECT call.request #>> '{person,email}' AS email, call.call_id = result.call_id AS same_call,
	result.answer IS NOT DISTINCT FROM call.answer AS same_answer,
	result.status, result.error_code, result.error_message, result.credits, result.reused
FROM ocean_enrich.call, ocean_try_enrich_person(request) AS result ORDER BY call.call_id;
SELECT * FROM again;
SELECT count(*), sum(credits) FROM ocean_enrich.call;
\x on
SELECT email, error.message, regexp_replace(error.detail, 'Call \d+', 'Call ...') AS detail, error.hint
FROM unnest(ARRAY['sb-html.a@example.com', 'sb-nul.a@example.com']) AS email,
	pg_temp.call_error(ocean_person_request(email => email)) AS error;
\x off

-- What an answer costs: what it says, if that is a number of credits.

TRUNCATE ocean_enrich.call;
SET ocean_enrich.credits_per_call = '0.1';
SELECT email, answer -> 'creditsUsed' AS said, result.credits
FROM unnest(ARRAY['anna@example.com', 'sb-badcredits-1.a@example.com', 'sb-badcredits-2.a@example.com',
	'sb-badcredits-3.a@example.com', 'sb-badcredits-4.a@example.com']) AS email,
	ocean_try_enrich_person(ocean_person_request(email => email)) AS result;
SELECT credits FROM ocean_enrich.call ORDER BY call_id;
RESET ocean_enrich.credits_per_call;

-- Bodies of an error status that are no JSON

SELECT email, error.code, error.message, error.detail
FROM unnest(ARRAY['sb-status-502.a@example.com', 'sb-status-524.a@example.com']) AS email,
	pg_temp.call_error(ocean_person_request(email => email)) AS error;
SELECT status, state, detail, encode(raw, 'escape') LIKE '%524: A timeout occurred%' AS raw
FROM ocean_enrich.call WHERE status <> 200 ORDER BY call_id;
