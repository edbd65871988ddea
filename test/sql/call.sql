/*
 * call.sql
 *		The call itself: what the API answers becomes a person, an error or a
 *		value, and what is not sent leaves no trace.
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

-- A person, with every key that the API documents

SELECT member.key, jsonb_typeof(member.value) AS type
FROM jsonb_each(ocean_enrich_person('{"person": {"email": "anna@example.com"}}')) AS member
ORDER BY member.key;
SELECT ocean_enrich_person(ocean_person_request(
	name => 'Berta Ask', company_domain => 'example.com')) ->> 'name' AS name;
SELECT state, role = current_user AS mine, account = ocean_enrich.account() AS account_is_known,
	request, status, detail, answer ->> 'name' AS name, raw, credits, attempts,
	requested_at <= sent_at AND sent_at <= answered_at AS in_order, next_attempt_at
FROM ocean_enrich.call ORDER BY call_id DESC LIMIT 1;

-- Planning is not asking, and neither is a row that the query does not need.

TRUNCATE ocean_enrich.call;
EXPLAIN (COSTS OFF)
SELECT ocean_enrich_person('{"person": {"email": "planned@example.com"}}');
PREPARE enrich(text) AS
SELECT ocean_enrich_person(ocean_person_request(email => $1)) ->> 'domain' AS domain;
SELECT CASE WHEN email LIKE 'c%' THEN
	ocean_enrich_person(ocean_person_request(email => email)) ->> 'domain' END AS domain
FROM (VALUES ('carla@example.com'), ('dora@example.com')) AS contacts (email);
SELECT request FROM ocean_enrich.call;
EXECUTE enrich('emma@example.com');

-- The worker writes, not the session, so a session that may not write may ask.

BEGIN READ ONLY;
EXECUTE enrich('frida@example.com');
COMMIT;

-- NULL in, NULL out

TRUNCATE ocean_enrich.call;
SELECT ocean_enrich_person(NULL) IS NULL AS no_person,
	ocean_try_enrich_person(NULL) IS NULL AS no_result;
SELECT count(*) FROM ocean_enrich.call;

-- What the API says instead of a person: its words are the message.

\x on
SELECT status, error.*
FROM unnest(ARRAY[201, 400, 401, 402, 403, 404, 409, 422, 429,
	500, 501, 502, 503, 504, 524, 599, 202, 204, 302]) AS status,
	pg_temp.call_error(ocean_person_request(
		email => format('sb-status-%s.call@example.com', status))) AS error;

-- Words that are in no documentation come through as they are.

SELECT email, error.*
FROM unnest(ARRAY['sb-detail-verification.call@example.com',
	'sb-toolittle.call@example.com', 'sb-toolittle-404.call@example.com']) AS email,
	pg_temp.call_error(ocean_person_request(email => email)) AS error;

-- The connection ends before or during the answer, or the answer takes too
-- long.  What libcurl says of it differs between its versions.

SELECT email, error.code, error.message, split_part(error.detail, ':', 1) AS detail, error.hint
FROM unnest(ARRAY['sb-cut-before.call@example.com', 'sb-cut-lost.call@example.com',
	'sb-cut-during.call@example.com', 'sb-truncated.call@example.com']) AS email,
	pg_temp.call_error(ocean_person_request(email => email)) AS error;
SET ocean_enrich.request_timeout = '1s';
SELECT code, message, split_part(detail, ':', 1) AS detail, hint
FROM pg_temp.call_error(ocean_person_request(email => 'sb-hang.call@example.com'));
RESET ocean_enrich.request_timeout;

-- Nobody listens: nothing was sent.

SET ocean_enrich.api_url = 'http://127.0.0.1:9';
SELECT code, message, split_part(detail, ':', 1) AS detail, hint
FROM pg_temp.call_error(ocean_person_request(email => 'gerda@example.com'));
RESET ocean_enrich.api_url;
\x off

-- The connection ends behind the answer, or the answer comes byte by byte.

SELECT ocean_enrich_person(ocean_person_request(
	email => 'sb-cut-after.call@example.com')) ->> 'domain' AS domain;
-- The sandbox does one thing after the other: when it answers, it has closed that
-- connection.  Else the next request could meet the end, and might be paid.
\! curl --silent --output /dev/null "$OCEAN_SANDBOX_URL/sandbox/books"
SELECT ocean_enrich_person(ocean_person_request(
	email => 'sb-drip-1.call@example.com')) ->> 'domain' AS domain;

-- Redirects are not followed: what answers there is not the API.

SELECT ocean_enrich_person(ocean_person_request(email => 'sb-redirect.call@example.com'));
\echo :SQLSTATE

-- A token that the API does not know, and none at all

SET ocean_enrich.api_token = 'another-token';
SELECT ocean_enrich_person(ocean_person_request(email => 'gerda@example.com'));
\echo :SQLSTATE
SET ocean_enrich.api_token = '';
SELECT ocean_enrich_person(ocean_person_request(email => 'gerda@example.com'));
\echo :SQLSTATE
SELECT ocean_try_enrich_person(ocean_person_request(email => 'gerda@example.com'));
\echo :SQLSTATE
RESET ocean_enrich.api_token;

-- The token in the query, as the API also takes it

SET ocean_enrich.token_in = 'query';
SELECT ocean_enrich_person(ocean_person_request(email => 'gerda@example.com')) ->> 'domain' AS domain;
RESET ocean_enrich.token_in;

-- Of all that, the ledger has what was sent, each with its state.

-- libcurl's words, which follow ours, differ between its versions.
SELECT state, status, regexp_replace(c.detail, '^((could not connect|the connection|the API did not)[^:]*): .*', '\1: ...') AS detail,
	credits, count(*) AS calls, sum(attempts) AS attempts
FROM ocean_enrich.call AS c GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3, 4;

-- An answer that is being gathered is there when one asks again later.

DO $$
DECLARE
	request jsonb := ocean_person_request(email => 'sb-gathering-300.call@example.com');
	result ocean_enrich_result;
BEGIN
	LOOP
		result := ocean_try_enrich_person(request);
		EXIT WHEN result.status IS DISTINCT FROM 201;
		PERFORM pg_sleep(0.05);
	END LOOP;
	RAISE NOTICE 'at last: %', result.answer ->> 'domain';
END $$;
SELECT state, status, detail, count(*) > 0 AS calls, sum(credits) AS credits
FROM ocean_enrich.call WHERE request #>> '{person,email}' LIKE 'sb-gathering-%'
GROUP BY state, status, detail ORDER BY status;

-- A person whom the API does not know is NULL on demand, and nothing else is.

SET ocean_enrich.not_found = 'null';
SELECT ocean_enrich_person(ocean_person_request(email => 'sb-unknown.null@example.com')) IS NULL AS no_person;
SELECT ocean_enrich_person(ocean_person_request(email => 'sb-status-402.null@example.com'));
\echo :SQLSTATE
RESET ocean_enrich.not_found;
SELECT ocean_enrich_person(ocean_person_request(email => 'sb-unknown.null@example.com'));
\echo :SQLSTATE

-- The same as values

TRUNCATE ocean_enrich.call;
CREATE TEMP TABLE results AS
SELECT contacts.*, result.*
FROM unnest(ARRAY['helga@example.com', 'helga@example.com',
	'sb-gathering-3600000.try@example.com', 'sb-status-402.try@example.com',
	'sb-unknown.try@example.com', 'sb-unknown.try@example.com', 'sb-422.try@example.com',
	'sb-status-503.try@example.com', 'sb-cut-lost.try@example.com',
	'sb-cut-lost.try@example.com', 'sb-badjson.try@example.com',
	'sb-badjson.try@example.com']) WITH ORDINALITY AS contacts (email, nth),
	ocean_try_enrich_person(ocean_person_request(email => email)) AS result;
SELECT email, result.answer ->> 'domain' AS domain, result.status, error_code, error_message,
	result.credits, reused, call.request #>> '{person,email}' = email AS call_is_mine
FROM results AS result JOIN ocean_enrich.call USING (call_id) ORDER BY nth;
SET ocean_enrich.api_url = 'http://127.0.0.1:9';
SELECT answer, status, error_code, error_message, credits, reused
FROM ocean_try_enrich_person(ocean_person_request(email => 'ida@example.com'));
RESET ocean_enrich.api_url;

-- So is a request that is none.

SELECT ocean_try_enrich_person('{"person": {"email": 7}}');
\echo :SQLSTATE

-- Over a table: every row that names somebody, each once

TRUNCATE ocean_enrich.call;
CREATE TABLE contacts (
	id       int PRIMARY KEY,
	email    text,
	linkedin text,
	enriched jsonb
);
INSERT INTO contacts (id, email, linkedin) VALUES
	(1, 'julia@example.com', NULL),
	(2, NULL, 'https://www.linkedin.com/in/karla-example'),
	(3, NULL, NULL),
	(4, '', ' '),
	(5, 'julia@example.com', NULL),
	(6, 'sb-unknown.table@example.com', NULL);
-- The context has the number of the call, which is another one each time.
\set SHOW_CONTEXT never
UPDATE contacts
SET enriched = ocean_enrich_person(ocean_person_request(email => email, linkedin => linkedin))
WHERE enriched IS NULL;
\set SHOW_CONTEXT errors
\echo :SQLSTATE
SELECT id, enriched IS NOT NULL AS enriched FROM contacts ORDER BY id;

SET ocean_enrich.not_found = 'null';
UPDATE contacts
SET enriched = ocean_enrich_person(ocean_person_request(email => email, linkedin => linkedin))
WHERE enriched IS NULL;
SELECT id, email, linkedin, enriched ->> 'linkedinUrl' = linkedin AS same_linkedin,
	enriched #>> '{email,address}' = email AS same_email
FROM contacts ORDER BY id;
RESET ocean_enrich.not_found;
SELECT request, state, credits FROM ocean_enrich.call ORDER BY call_id;

DROP TABLE contacts;
