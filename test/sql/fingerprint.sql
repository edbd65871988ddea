/*
 * fingerprint.sql
 *		Which requests are equal, and so paid for once.
 */
\set vectors `cat "$PG_ABS_SRCDIR/unit/fingerprints.jsonl"`

TRUNCATE ocean_enrich.call;
-- One call after the other
SET ocean_enrich.concurrency = 1;

-- The same fingerprints on every server, in every locale

CREATE TEMP TABLE vectors AS
SELECT nth, line::jsonb -> 'request' AS request, line::jsonb ->> 'canonical' AS canonical,
	decode(line::jsonb ->> 'fingerprint', 'hex') AS fingerprint
FROM string_to_table(:'vectors', E'\n') WITH ORDINALITY AS lines (line, nth)
WHERE line <> '';

SELECT count(*) > 90 AS many, bool_and(length(fingerprint) = 32) AS all_32_bytes FROM vectors;
SELECT nth, request, ocean_enrich.fingerprint(request), fingerprint
FROM vectors WHERE ocean_enrich.fingerprint(request) IS DISTINCT FROM fingerprint;
-- A digest of the canonical request, less one byte for what is to be revealed
SELECT nth, request FROM vectors
WHERE substr(sha256(convert_to(E'person\n' || canonical, 'UTF8')), 1, 31) <> substr(fingerprint, 1, 31);

-- What finds duplicates before anything is paid

CREATE TEMP TABLE leads AS
SELECT * FROM (VALUES
	(1, 'Ida', 'ida@example.com', 'https://www.linkedin.com/in/ida', NULL),
	(2, ' IDA ', 'Ida@Example.com', 'ida', ''),
	(3, 'Ida', 'ida@example.org', 'ida', NULL),
	(4, NULL, NULL, NULL, 'example.com')) AS rows (id, first_name, email, linkedin, company_domain);
SELECT array_agg(id ORDER BY id) AS ids, count(DISTINCT request) AS spellings
FROM leads, LATERAL (SELECT ocean_person_request(first_name => first_name, email => email,
	linkedin => linkedin, company_domain => company_domain)) AS r (request)
GROUP BY ocean_enrich.fingerprint(request) ORDER BY 1;
SELECT requests, to_send, repeated FROM ocean_enrich.estimate($$
	SELECT ocean_person_request(first_name => first_name, email => email, linkedin => linkedin) FROM leads
$$);

-- What is no request is equal to nothing

SELECT ocean_enrich.fingerprint(NULL) IS NULL AS null_request,
	ocean_enrich.fingerprint('{"person": {"first_name": "Ida"}}') IS NULL AS unknown_key,
	ocean_enrich.fingerprint('{"person": {"name": ""}}') IS NULL AS nobody,
	ocean_enrich.fingerprint('[]') IS NULL AS no_object;
SELECT ocean_enrich.fingerprint('{"person": {"id": "1"}}', 'company');
SELECT ocean_enrich.fingerprint('{"person": {"id": "1"}}', 'balance');
SELECT ocean_enrich.fingerprint('{"person": {"id": "1"}}', NULL) IS NULL AS null_endpoint;

-- By the other rule only the same is equal

SET ocean_enrich.equal = 'exact';
SELECT count(DISTINCT ocean_enrich.fingerprint(request)) AS different, count(*)
FROM unnest(ARRAY['{"person": {"email": "ida@example.com"}}', '{"person": {"email": "Ida@example.com"}}',
	'{"person": {"email": " ida@example.com\u00a0", "name": ""}}',
	'{"person": {"email": "ida@example.com"}, "revealEmails": {"includeEmails": false}}']::jsonb[]) AS request;
-- and equal to nothing that the first rule has found equal
SELECT count(*) FROM vectors WHERE ocean_enrich.fingerprint(request) = fingerprint;
RESET ocean_enrich.equal;

-- A request goes out as it was given, less the blanks around its values, and the
-- answer serves all that are equal.

CREATE FUNCTION pg_temp.call_of(request jsonb, OUT reused boolean, OUT error_code text, OUT sent jsonb)
LANGUAGE plpgsql AS $$
DECLARE
	result ocean_enrich_result := ocean_try_enrich_person(request);
BEGIN
	reused := result.reused;
	error_code := result.error_code;
	SELECT c.request INTO sent FROM ocean_enrich.call AS c WHERE c.call_id = result.call_id;
END $$;

SELECT * FROM pg_temp.call_of('{"person": {"email": "\ufeffNora.Kvist@Example.com\u00a0", "name": "", "linkedin": "nora-kvist"}}');
SELECT * FROM pg_temp.call_of('{"person": {"email": "nora.kvist@example.com", "linkedin": "https://dk.linkedin.com/in/nora-kvist/"},
	"revealEmails": {"includeEmails": false, "webhookUrl": ""}, "company": {"name": " "}}');
SELECT * FROM pg_temp.call_of('{"person": {"email": "nora.kvist@example.org", "linkedin": "nora-kvist"}}');
SELECT ocean_enrich_person('{"person": {"email": " ", "name": "\u200b"}}');

-- More than asked is not asked again; less is.

SELECT step, request - 'person' AS reveals, r.reused
FROM unnest(ARRAY[
	'{"person": {"id": "1"}, "revealEmails": {"includeEmails": true}}',
	'{"person": {"id": "1"}}',
	'{"person": {"id": "1"}, "revealEmails": {"includeEmails": true}, "revealPhones": {"includePhones": false}}',
	'{"person": {"id": "1"}, "revealPhones": {"includePhones": true}}',
	'{"person": {"id": "1"}, "revealEmails": {"includeEmails": true}, "revealPhones": {"includePhones": true}}',
	'{"person": {"id": "1"}, "revealEmails": {"includeEmails": true, "webhookUrl": "https://hook.example/e"}}',
	'{"person": {"id": "1"}, "revealEmails": {"includeEmails": true, "webhookUrl": "https://hook.example/f"}}',
	'{"person": {"id": "2"}}',
	'{"person": {"id": "2"}, "revealPhones": {"includePhones": true}}',
	'{"person": {"id": "2"}}']::jsonb[]) WITH ORDINALITY AS requests (request, step),
	pg_temp.call_of(request) AS r;
SELECT requests, to_send, known FROM ocean_enrich.estimate($$
	SELECT request::jsonb FROM (VALUES ('{"person": {"id": "1"}}'),
		('{"person": {"id": "2"}, "revealEmails": {"includeEmails": true}}')) AS v (request)
$$);

-- Who is not known is not known without reveals either, but whether a call with
-- reveals was paid says nothing about one without.

SELECT step, r.reused, r.error_code
FROM unnest(ARRAY[
	'{"person": {"email": "sb-unknown@example.com"}, "revealEmails": {"includeEmails": true}}',
	'{"person": {"email": "sb-unknown@example.com"}}',
	'{"person": {"email": "sb-cut-lost@example.com"}, "revealEmails": {"includeEmails": true}}',
	'{"person": {"email": "sb-cut-lost@example.com"}}',
	'{"person": {"email": "SB-CUT-LOST@example.com"}}']::jsonb[]) WITH ORDINALITY AS requests (request, step),
	pg_temp.call_of(request) AS r;

-- What identifies nobody is left out, as the setting says.

SHOW ocean_enrich.placeholders;
SELECT ocean_person_request(name => 'Null', email => ' N/A', linkedin => '-', phone => E'unknown\u00a0',
	company_name => 'null', job_title => 'none', country => '.');
SELECT ocean_person_request(email => 'n/a') IS NULL AS nobody;
-- In hand-written JSON it is a value.
SELECT ocean_enrich.fingerprint('{"person": {"email": "n/a"}}') IS NULL AS nobody;
SET ocean_enrich.placeholders = 'TBD', '"not available"', '""';
SHOW ocean_enrich.placeholders;
SELECT ocean_person_request(name => 'TBD', email => 'not available', linkedin => '-', phone => 'tbd');
SET ocean_enrich.placeholders = '';
SELECT ocean_person_request(name => 'TBD', email => 'n/a', phone => '');
RESET ocean_enrich.placeholders;
