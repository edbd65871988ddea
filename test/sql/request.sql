/*
 * request.sql
 *		The request: built from columns, and checked before it is sent.
 */
\getenv inputdir PG_ABS_SRCDIR
\set errors :inputdir '/sql/include/errors.sql'
\set ECHO none
\i :errors
\set ECHO all

TRUNCATE ocean_enrich.call;
-- One call after the other
SET ocean_enrich.concurrency = 1;

-- Each argument alone, and beside a name: what identifies nobody gives NULL.

CREATE FUNCTION pg_temp.request_of(arguments text) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
	request jsonb;
BEGIN
	EXECUTE format('SELECT ocean_person_request(%s)', arguments) INTO request;
	RETURN request;
END $$;

SELECT argument, pg_temp.request_of(format('%I => %s', argument, value)) AS alone,
	pg_temp.request_of(format('%I => %s, linkedin => NULL, %s', argument, value,
		CASE argument WHEN 'name' THEN 'id => ''1''' ELSE 'name => ''N''' END)) AS with_name
FROM pg_proc, unnest(proargnames, string_to_array(oidvectortypes(proargtypes), ', '))
		WITH ORDINALITY AS arguments (argument, type, nth),
	LATERAL (SELECT CASE type WHEN 'boolean' THEN 'true' ELSE '''x''' END AS value) AS v
WHERE proname = 'ocean_person_request' AND argument <> 'linkedin'
ORDER BY nth;
SELECT ocean_person_request(linkedin => 'x');

-- All of them, by position

SELECT jsonb_pretty(ocean_person_request('i', 'n', 'f', 'l', 'j', 'e', 'p', 'fb', 'tw', 'li', 'c',
	'cn', 'crn', 'ce', 'cp', 'ccc', 'cs', 'cci', 'csa', 'cpc', 'ca', 'cfb', 'ctw', 'cli', 'cig',
	'cx', 'cd', 'cyt', true, 'https://hook.example/e', true, false, 'https://hook.example/p', false));

-- What is NULL or blank is left out; anything else goes as it is.

SELECT ocean_person_request() IS NULL AS none,
	ocean_person_request(email => NULL) IS NULL AS null_alone,
	ocean_person_request(email => '') IS NULL AS empty,
	ocean_person_request(email => E' \t\r\n') IS NULL AS blank,
	ocean_person_request(company_domain => 'example.com', job_title => 'CEO', country => 'dk',
		reveal_emails => true) IS NULL AS nobody;
SELECT ocean_person_request(email => ' anna@example.com', name => '', phone => E'\n',
	company_name => ' ', company_city => 'Århus');
SELECT ocean_person_request(name => E'Anna "the\\ack" O''Neil\n\x01', company_name => '{"a": [1]}');

-- Immutable: it may be kept beside the columns that it is made from.

CREATE TABLE contacts (
	name text,
	email text,
	request jsonb GENERATED ALWAYS AS (ocean_person_request(name => name, email => email)) STORED
);
INSERT INTO contacts VALUES ('Anna Ask', 'anna@example.com'), ('Berta Ask', NULL), (NULL, NULL);
SELECT request FROM contacts ORDER BY name;
DROP TABLE contacts;

-- What is no request at all

SELECT request, error.*
FROM unnest(ARRAY['null', '1', '"anna"', '[]', '[{"person": {"email": "a@example.com"}}]',
	'{}', '{"company": {"domain": "example.com"}}', '{"person": null}', '{"person": "anna"}',
	'{"person": []}', '{"person": {}}', '{"person": {"email": null, "name": null}}']::jsonb[]) AS request,
	pg_temp.call_error(request) AS error;

-- Wrong types, for each key: the values that are not text, and not null
-- where the API takes none.  All of them are refused with the same words.

CREATE TEMP VIEW request_keys AS
SELECT object, key, type
FROM (VALUES
	('person', '{id,name,firstName,lastName,jobTitle,email,phone,facebook,twitter,linkedin,country}'::text[], 'string'),
	('company', '{name,registrationNumber,email,phone,countryCode,state,city,streetAddress,postalCode,
		address,facebook,twitter,linkedin,instagram,xing,domain,youtube}', 'string'),
	('revealEmails', '{includeEmails}', 'boolean'),
	('revealEmails', '{webhookUrl}', 'string'),
	('revealPhones', '{includePhones}', 'boolean'),
	('revealPhones', '{webhookUrl}', 'string')) AS objects (object, keys, type), unnest(keys) AS key;

CREATE FUNCTION pg_temp.request_with(object text, key text, value jsonb) RETURNS jsonb
LANGUAGE sql AS $$
	SELECT jsonb_set_lax(jsonb_build_object('person', '{"name": "N"}'::jsonb) ||
		CASE object WHEN 'person' THEN '{}' ELSE jsonb_build_object(object, '{}'::jsonb) END,
		ARRAY[object, key], value)
$$;

SELECT regexp_replace(error.message, '"[^"]*"', '"..."') AS message, error.code, count(*) AS cases,
	bool_and(error.message LIKE format('"%s.%s" %%', object, key)) AS names_the_key
FROM request_keys, unnest(ARRAY['null', 'true', '7', '"x"', '["x"]', '{"x": 1}']::jsonb[]) AS value,
	pg_temp.call_error(pg_temp.request_with(object, key, value)) AS error
WHERE jsonb_typeof(value) <> type AND NOT (type = 'string' AND value = 'null')
GROUP BY 1, 2 ORDER BY 1, 2;

SELECT error.*
FROM unnest(ARRAY['company', 'revealEmails', 'revealPhones']) AS object,
	unnest(ARRAY['true', '"x"', '[]']::jsonb[]) AS value,
	pg_temp.call_error(jsonb_build_object('person', '{"name": "N"}'::jsonb, object, value)) AS error;

-- Keys that the API does not take, as people write them

SELECT request, error.message, error.hint
FROM unnest(ARRAY[
	'{"person": {"emial": "x"}}',
	'{"person": {"first_name": "x"}}',
	'{"person": {"First Name": "x"}}',
	'{"person": {"lastname": "x"}}',
	'{"person": {"linkedinUrl": "x"}}',
	'{"person": {"linkedinHandle": "x"}}',
	'{"person": {"title": "x"}}',
	'{"person": {"countryCode": "x"}}',
	'{"person": {"domain": "x"}}',
	'{"person": {"name": "x", "shoeSize": 42}}',
	'{"person": {"name": "x", "": 1}}',
	'{"person": {"name": "x"}, "company": {"country": "x"}}',
	'{"person": {"name": "x"}, "company": {"website": "x"}}',
	'{"person": {"name": "x"}, "company": {"postcode": "x"}}',
	'{"person": {"name": "x"}, "revealEmails": {"includeEmail": true}}',
	'{"person": {"name": "x"}, "revealEmails": {"includePhones": true}}',
	'{"person": {"name": "x"}, "revealPhones": {"webhook": "x"}}',
	'{"person": {"name": "x"}, "reveal_emails": {}}',
	'{"person": {"name": "x"}, "persona": {}}',
	'{"person": {"name": "x"}, "apiToken": "x"}',
	'{"people": [{"name": "x"}]}']::jsonb[]) AS request,
	pg_temp.call_error(request) AS error;
SELECT error.message, error.hint
FROM pg_temp.call_error(jsonb_build_object('person', jsonb_build_object(
	E'line\nfeed' || repeat('é', 100), 'x'))) AS error;

-- Identifiers outside "person": every one has the hint where it belongs.

SELECT key, error.code, error.message, error.hint
FROM (SELECT DISTINCT key FROM request_keys) AS k,
	pg_temp.call_error(jsonb_build_object(key, 'x')) AS error
ORDER BY key COLLATE "C";

-- A value never stands in a message.

SELECT bool_or(format('%s', error) LIKE '%secret%') AS leaks
FROM unnest(ARRAY['{"person": {"mail": "secret"}}', '{"person": {"email": ["secret"]}}',
	'{"email": "secret"}', '{"person": "secret"}', '"secret"']::jsonb[]) AS request,
	pg_temp.call_error(request) AS error;

-- None of those was sent, so none is in the ledger.

SELECT count(*) FROM ocean_enrich.call;

-- The longest request that is sent, and the shortest that is not

SELECT length(request::text), error.*
FROM unnest(ARRAY[0, 1, 1000000]) AS more,
	LATERAL (SELECT ocean_person_request(id => 'long', company_address => repeat('x',
		65536 - length(ocean_person_request(id => 'long', company_address => 'x')::text) + 1 + more)))
		AS r (request),
	pg_temp.call_error(request) AS error;
SELECT count(*) FROM ocean_enrich.call;

-- A webhook alone asks for nothing: that is sent, with a warning.

SELECT ocean_enrich_person(ocean_person_request(email => 'anna@example.com',
	reveal_emails_webhook_url => 'https://hook.example/e')) ->> 'domain' AS domain;
SELECT ocean_enrich_person(ocean_person_request(email => 'anna@example.com',
	reveal_phones_webhook_url => 'https://hook.example/p', reveal_emails => true,
	reveal_emails_webhook_url => 'https://hook.example/e')) ->> 'domain' AS domain;
SELECT ocean_enrich_person(ocean_person_request(email => 'anna@example.com',
	reveal_phones => false, reveal_phones_webhook_url => 'https://hook.example/p')) ->> 'domain' AS domain;

-- Null and empty objects are no difference to the API, so they are none to us:
-- the same body goes for all of these, in the order of the documentation.

TRUNCATE ocean_enrich.call;
SELECT (ocean_try_enrich_person(request)).reused
FROM unnest(ARRAY[
	'{"company": {"domain": "example.com", "name": "Example"}, "person": {"name": "Carla", "id": "c"}}',
	'{"revealPhones": {}, "person": {"id": "c", "email": null, "name": "Carla"}, "revealEmails": null,
		"company": {"name": "Example", "city": null, "domain": "example.com"}}']::jsonb[]) AS request;
SELECT request FROM ocean_enrich.call;

-- Keys of a newer API, on demand: the API has the last word on them.

TRUNCATE ocean_enrich.call;
SET ocean_enrich.unknown_keys = 'pass';
SELECT ocean_enrich_person('{"person": {"name": "N", "shoeSize": 42.50}, "persona": [null]}');
\echo :SQLSTATE
SELECT ocean_enrich_person('{"person": {"shoeSize": null}}');
\echo :SQLSTATE
SELECT ocean_enrich_person('{"person": {"name": 7, "shoeSize": 42}}');
\echo :SQLSTATE
SELECT ocean_enrich_person('{"person": {"shoeSize": 123456789012345678901234567890}}');
\echo :SQLSTATE
SELECT request FROM ocean_enrich.call;
RESET ocean_enrich.unknown_keys;
