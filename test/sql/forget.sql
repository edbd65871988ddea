/*
 * forget.sql
 *		Erasing people: who is found, what is left of the calls, and what the
 *		retention erases when.
 */
\getenv inputdir PG_ABS_SRCDIR
\set errors :inputdir '/sql/include/errors.sql'
\set ECHO none
\i :errors
\set ECHO all

TRUNCATE ocean_enrich.call, ocean_enrich.reveal, ocean_enrich.webhook, ocean_enrich.early_reveal, ocean_enrich.forget_later,
	ocean_enrich.retention_progress;

-- LinkedIn has many ways to write one address.

SELECT url, ocean_enrich.linkedin_key(url) AS key FROM (VALUES
	('https://www.linkedin.com/in/Ida-Rosenlund'), ('http://linkedin.com/in/ida-rosenlund/'), ('//dk.linkedin.com/in/ida-rosenlund?trk=x#top'),
	('linkedin.com/in/ida-rosenlund//'), (' www.linkedin.com/in/ida-rosenlund '), ('in/ida-rosenlund'), ('ida-rosenlund'), ('/in/ida-rosenlund'),
	('https://m.linkedin.com/pub/ida/1/2/3'), ('https://example.com/in/ida-rosenlund'), ('https://linkedin.com/'), (''), (NULL)
) AS written (url);

-- A ledger with all kinds of rows of Ida, and some that only look like hers

CREATE FUNCTION pg_temp.fill() RETURNS void LANGUAGE sql AS $$
	INSERT INTO ocean_enrich.call (endpoint, state, role, account, fingerprint, request, status, detail, answer, raw, credits, attempts, requested_at, sent_at, answered_at, next_attempt_at)
	SELECT 'person', state::ocean_enrich.call_state, 'x', 'x', sha256(what::bytea), request::jsonb, status, CASE WHEN status <> 200 THEN 'says no' END,
		answer::jsonb, raw::bytea, CASE status WHEN 200 THEN 3 END, 1, now(), CASE WHEN state <> 'queued' THEN now() END,
		CASE WHEN state NOT IN ('queued', 'sent') THEN now() END, CASE WHEN what LIKE '%again' THEN now() + '1 min' END
	FROM (VALUES
		('request: email', 'answered', '{"person": {"email": " Ida@Example.com"}}', 200, '{"id": "p1", "name": "Ida"}', NULL),
		('answer: email', 'answered', '{"person": {"name": "Ida"}}', 200, '{"id": "p1", "email": {"address": "ida@example.com"}}', NULL),
		('answer: the same id', 'answered', '{"person": {"phone": "+1 555"}}', 200, '{"id": "p1", "name": "Ida R."}', NULL),
		('request: the same id', 'refused', '{"person": {"id": "p1"}}', 404, NULL, NULL),
		('answer: inferred', 'answered', '{"person": {"name": "I. R."}}', 200, '{"id": "p2", "inferredEmails": [{"address": "IDA@example.com"}]}', NULL),
		('request: linkedin', 'refused', '{"person": {"linkedin": "https://dk.linkedin.com/in/Ida-R/"}}', 404, NULL, NULL),
		('answer: linkedin', 'answered', '{"person": {"name": "Ida R"}}', 200, '{"id": "p3", "linkedinUrl": "https://www.linkedin.com/in/ida-r"}', NULL),
		('raw: email', 'answered', '{"person": {"name": "raw"}}', 200, NULL, '{"id":"p4","email":{"address":"Ida@example.com"}'),
		('raw: linkedin', 'answered', '{"person": {"name": "raw 4"}}', 200, NULL, '{"id":"p5","linkedinUrl":"https://www.linkedin.com/in/Ida-R"'),
		('raw: id', 'answered', '{"person": {"name": "raw 2"}}', 200, NULL, '{"id":"p1",\000\377'),
		('unknown', 'unknown', '{"person": {"email": "ida@example.com"}}', NULL, NULL, NULL),
		('failed, goes again', 'failed', '{"person": {"email": "ida@example.com"}}', 503, NULL, NULL),
		('failed for good', 'failed', '{"person": {"email": "ida@example.com"}}', 503, NULL, NULL),
		('sent', 'sent', '{"person": {"email": "ida@example.com"}}', NULL, NULL, NULL),
		('queued', 'queued', '{"person": {"email": "ida@example.com"}}', NULL, NULL, NULL),
		('other: email', 'answered', '{"person": {"email": "frida@example.com"}}', 200, '{"id": "p11", "email": {"address": "ida@example.com.example"}}', NULL),
		('other: linkedin', 'answered', '{"person": {"linkedin": "linkedin.com/in/ida-r-2"}}', 200, '{"id": "x", "name": "p1"}', NULL),
		('other: raw', 'answered', '{"person": {"name": "raw 3"}}', 200, NULL, '{"id":"p12","email":{"address":"frida@example.com"},"linkedinUrl":"https://www.linkedin.com/in/ida-r-2"')
	) AS v (what, state, request, status, answer, raw);
$$;
CREATE VIEW ledger AS SELECT row_number() OVER (ORDER BY call_id) AS nth, state, status, detail, credits, attempts, sent_at IS NOT NULL AS sent,
	request::text, answer ->> 'id' AS person, length(raw) AS raw, length(fingerprint) AS fingerprint
FROM ocean_enrich.call ORDER BY call_id;

-- What each way to name her finds; a transaction gives it back.

CREATE FUNCTION pg_temp.erased() RETURNS bigint[] LANGUAGE sql AS 'SELECT array_agg(nth) FROM ledger WHERE fingerprint = 0';
SELECT pg_temp.fill();
BEGIN;
SELECT ocean_enrich.forget(email => 'IDA@EXAMPLE.COM ');
SELECT pg_temp.erased();
ROLLBACK;
BEGIN;
SELECT ocean_enrich.forget(linkedin => 'http://www.linkedin.com/in/ida-r?x=y');
SELECT pg_temp.erased();
ROLLBACK;
BEGIN;
SELECT ocean_enrich.forget('p1');
SELECT pg_temp.erased();
ROLLBACK;
SELECT ocean_enrich.forget('p99'), ocean_enrich.forget('p1 '' OR true'), ocean_enrich.forget(email => '%'), ocean_enrich.forget(email => '@'),
	ocean_enrich.forget(linkedin => 'https://linkedin.com/');
SELECT code, message, hint FROM pg_temp.error_of('SELECT ocean_enrich.forget()');
SELECT code FROM pg_temp.error_of('SELECT ocean_enrich.forget('''', '' '', NULL)');

-- What is left: the receipts

SELECT ocean_enrich.forget('p1', 'ida@example.com', 'ida-r');
SELECT * FROM ledger;
SELECT ocean_enrich.forget('p1', 'ida@example.com', 'ida-r');
SELECT state, calls, credits FROM ocean_enrich.calls_by_state ORDER BY state;

-- What was on its way is erased when it has ended, whatever comes.

SELECT c.state, c.status FROM ocean_enrich.forget_later JOIN ocean_enrich.call AS c USING (call_id) ORDER BY call_id;
UPDATE ocean_enrich.call SET state = 'answered', status = 200, answer = '{"id": "p1"}', credits = 3 WHERE state = 'sent';
UPDATE ocean_enrich.call SET state = 'answered', status = 200, answer = '{"id": "p1"}', credits = 3, next_attempt_at = NULL WHERE next_attempt_at IS NOT NULL;
SELECT ocean_enrich.tidy();
SELECT count(*) FROM ocean_enrich.call WHERE answer ->> 'id' = 'p1';
SELECT count(*), sum(credits) FROM ocean_enrich.call WHERE state = 'answered';
SELECT count(*) FROM ocean_enrich.forget_later;

-- Webhooks of hers, too

TRUNCATE ocean_enrich.call;
SELECT pg_temp.fill();
INSERT INTO ocean_enrich.reveal SELECT call_id, 'p1', true, false FROM ocean_enrich.call WHERE answer ->> 'id' = 'p1';
SELECT ocean_enrich.receive_webhook('{"id": "p1", "email": {"address": "ida@example.com", "status": "verified"}}');
SELECT ocean_enrich.receive_webhook('{"emails": [{"personId": "p5", "address": "IDA@example.com", "status": "verified"}, {"personId": "p6", "address": "x@example.com", "status": "verified"}], "creditsUsed": 2}');
SELECT ocean_enrich.receive_webhook('{"id": "p6", "email": {"address": "x@example.com", "status": "verified"}}');
SELECT ocean_enrich.forget(email => 'ida@example.com');
SELECT digest IS NULL AS erased, people, credits FROM ocean_enrich.webhook ORDER BY webhook_id;
SELECT person_id, email ->> 'address' AS address FROM ocean_enrich.early_reveal ORDER BY webhook_id, nth;
SELECT count(*) FROM ocean_enrich.reveal;

-- Nothing of that is anybody's who was not given it; then it is his to call, and
-- nothing else.

CREATE ROLE regress_ocean_officer;
GRANT USAGE ON SCHEMA ocean_enrich TO regress_ocean_officer;
SET ROLE regress_ocean_officer;
SELECT code FROM pg_temp.error_of('SELECT ocean_enrich.forget(email => ''x@example.com'')');
RESET ROLE;
GRANT EXECUTE ON FUNCTION ocean_enrich.forget TO regress_ocean_officer;
SET ROLE regress_ocean_officer;
SELECT ocean_enrich.forget(email => 'ida@example.com.example');
SELECT code FROM pg_temp.error_of('SELECT FROM ocean_enrich.call');
SELECT code FROM pg_temp.error_of('SELECT ocean_enrich.erase_calls(''{1}'')');
RESET ROLE;
DROP OWNED BY regress_ocean_officer;
DROP ROLE regress_ocean_officer;

-- The retention: off, it erases nothing.

TRUNCATE ocean_enrich.call, ocean_enrich.reveal, ocean_enrich.webhook, ocean_enrich.early_reveal, ocean_enrich.forget_later;
CREATE FUNCTION pg_temp.keep() RETURNS TABLE (erased numeric, steps bigint) LANGUAGE plpgsql AS $$
DECLARE
	step record;
BEGIN
	erased := 0;
	steps := 0;
	LOOP
		SELECT * INTO step FROM ocean_enrich.apply_retention();
		erased := erased + step.erased;
		steps := steps + 1;
		EXIT WHEN NOT step.more OR steps = 1000;
	END LOOP;
	RETURN NEXT;
END $$;
SELECT pg_temp.fill();
UPDATE ocean_enrich.call SET requested_at = requested_at - interval '40 days', sent_at = sent_at - interval '40 days',
	answered_at = answered_at - interval '40 days', next_attempt_at = next_attempt_at - interval '40 days';
SELECT pg_temp.fill();
SELECT * FROM pg_temp.keep();
SET ocean_enrich.retention = '30d';
SELECT erased, steps < 100 AS quick FROM pg_temp.keep();
-- What is queued, on the wire or undecided has its request, and so has what is new.
SELECT nth, state, request IS NOT NULL AS request, fingerprint FROM ledger WHERE fingerprint > 0 ORDER BY nth;
SELECT erased, steps FROM pg_temp.keep();
UPDATE ocean_enrich.call SET resolution = 'give up' WHERE state = 'unknown';
UPDATE ocean_enrich.call SET state = 'cancelled' WHERE state = 'queued';
SELECT erased FROM pg_temp.keep();
SELECT nth, state FROM ledger WHERE fingerprint > 0 AND nth < 19 ORDER BY nth;
SET ocean_enrich.retention = '60d';
SELECT erased, steps FROM pg_temp.keep();
UPDATE ocean_enrich.call SET requested_at = now() - interval '2 hours', answered_at = now() - interval '2 hours'
WHERE fingerprint <> '' AND state NOT IN ('queued', 'sent');
SET ocean_enrich.retention = '1h';
SELECT erased, steps < 100 AS quick FROM pg_temp.keep();
SELECT nth, state FROM ledger WHERE fingerprint > 0 ORDER BY nth;

-- Many of one time go in portions.

TRUNCATE ocean_enrich.call, ocean_enrich.retention_progress;
INSERT INTO ocean_enrich.call (endpoint, state, role, account, fingerprint, request, requested_at, sent_at, answered_at)
SELECT 'person', 'answered', 'x', 'x', sha256(i::text::bytea), '{}', t, t, t
FROM generate_series(1, 9000) AS i, (SELECT now() - interval '100 days') AS at (t);
SELECT erased, steps BETWEEN 5 AND 200 AS quick FROM pg_temp.keep();
SELECT count(*) FROM ocean_enrich.call WHERE request IS NOT NULL;
RESET ocean_enrich.retention;

DROP VIEW ledger;
TRUNCATE ocean_enrich.call, ocean_enrich.retention_progress;
