/*
 * settings.sql
 *		The settings: what there is, what values they take, and who may see and
 *		change which.
 */
\getenv inputdir PG_ABS_SRCDIR
\set errors :inputdir '/sql/include/errors.sql'
\set ECHO none
\i :errors
\set ECHO all

LOAD 'ocean_enrich';

SELECT substr(name, 14) AS name, vartype AS type, unit, context, boot_val AS default,
	min_val AS min, max_val AS max, enumvals AS values
FROM pg_settings WHERE name LIKE 'ocean_enrich.%' ORDER BY name;
SELECT name, short_desc, extra_desc
FROM pg_settings WHERE name LIKE 'ocean_enrich.%' AND (short_desc !~ '^[A-Z].*\.$' OR extra_desc !~ '\.$');

-- A name that is misspelt is refused.

SET ocean_enrich.rate_limits = 1;
\echo :SQLSTATE

-- Values that they take, and that they do not

CREATE FUNCTION pg_temp.set_to(setting text, value text,
	OUT shown text, OUT code text, OUT message text, OUT detail text, OUT hint text)
LANGUAGE plpgsql AS $$
BEGIN
	shown := set_config('ocean_enrich.' || setting, value, true);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS
		code = RETURNED_SQLSTATE,
		message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL,
		hint = PG_EXCEPTION_HINT;
END $$;

-- The API's address: https, or http to this machine; nothing but an address.
-- How libcurl calls what is no URL at all depends on its version.

SELECT value, shown IS NOT NULL AS taken, code,
	regexp_replace(message, 'is not a valid URL|has no host', 'is none') AS message, detail, hint
FROM unnest(ARRAY['https://api.ocean.io', 'https://api.ocean.io/', 'https://api.ocean.io:8443/base/',
		'HTTPS://API.OCEAN.IO', 'http://127.0.0.1:8080', 'http://127.1.2.3', 'http://localhost:8080',
		'http://[::1]:8080', 'https://[2001:db8::1]/',
		'', 'api.ocean.io', '//api.ocean.io', 'https://', 'https:///v2', 'http://api.ocean.io',
		'http://10.0.0.1', 'http://127.0.0.1.example.com', 'http://localhost.example.com', 'http://127.0.0.1@example.com',
		'ftp://127.0.0.1', 'file:///etc/passwd', 'gopher://localhost', 'https://anna@api.ocean.io', 'https://anna:secret@api.ocean.io',
		'https://api.ocean.io?x=1', 'https://api.ocean.io/?', 'https://api.ocean.io#x', 'https://api.ocean.io:99999',
		'https://api.ocean.io:port', 'https://api .ocean.io', E'https://api.ocean.io\r\nx-api-token: 1',
		E'https://api.ocean.io/\x7f', ' https://api.ocean.io']) AS value,
	pg_temp.set_to('api_url', value);
SET ocean_enrich.api_url = 'https://anna:secret@api.ocean.io';

-- It is kept in one spelling: an account is a token at an address.

SELECT value, shown
FROM unnest(ARRAY['https://api.ocean.io/', 'HTTPS://API.Ocean.io:443//', 'https://api.ocean.io:80/', 'https://api.ocean.io/Base/',
		'http://LocalHost:80/', 'http://[::1]:8080/']) AS value,
	pg_temp.set_to('api_url', value);

-- A token is one word of ASCII, and no message has any of it.

SELECT value, shown IS NOT NULL AS taken, code, message, detail, hint,
	format('%s %s %s', message, detail, hint) LIKE '%secret%' AS leaks
FROM unnest(ARRAY['', 'secret-1', '!"#$%&''()*+,-./0:;<=>?@A[\]^_`a{|}~',
		'secret 1', ' secret', 'secret ', E'secret\n', E'secret\r\nx: y', E'secret\t', E'secret\x01', E'secret\x7f', 'sécret',
		'Bearer secret', 'x-api-token:secret', 'apiToken=secret', '"secret"', '''secret''', 'secret=']) AS value,
	pg_temp.set_to('api_token', value);
SELECT length, shown IS NOT NULL AS taken, code, detail, message LIKE '%xxx%' AS leaks
FROM unnest(ARRAY[4096, 4097]) AS length, pg_temp.set_to('api_token', repeat('x', length));

-- Credits are decimal numbers.

SELECT value, credit_limit.shown IS NOT NULL AS limit, per_call.shown IS NOT NULL AS per_call, per_call.detail
FROM unnest(ARRAY['0', '3', '0.1', '.5', '5.', '0.000001', '1000000000', '007', '+3',
		'0.0000001', '1000000001', '-1', '-0', '1e3', 'NaN', 'Infinity', '0x10', '1,5', '1 000', '', ' 3', '3 ', 'three', '3 credits']) AS value,
	pg_temp.set_to('credit_limit', value) AS credit_limit, pg_temp.set_to('credits_per_call', value) AS per_call;

-- Numbers with a range, and with a unit.  A newer server also names the unit in
-- the range.

SELECT setting, value, shown, code,
	regexp_replace(message, '\((\d+) \w+ \.\. (\d+) \w+\)', '(\1 .. \2)') AS message, hint
FROM (VALUES
		('max_concurrency', '{0,1,1024,1025}'::text[]),
		('rate_limit', '{-1,0,60000,60001}'),
		('daily_limit', '{-1,0,2147483647,2147483648}'),
		('max_retries', '{-1,0,20,21}'),
		('retry_wait_max', '{-1,0,90s,1h,61min}'),
		('connect_timeout', '{0,1,1500,2s,10min,11min}'),
		('request_timeout', '{0,1,90s,1h,61min}'),
		('reuse_for', '{-1,0,3600,7d,1ms}'),
		('not_found', '{error,"NULL",nothing,none}'),
		('unknown_keys', '{error,Pass,warn}'),
		('equal', '{canonical,Exact,loose}'),
		('placeholders', '{"","n/a , \"not known\"","a b",",","\"a"}'),
		('token_in', '{header,query,body}')) AS s (setting, vals), unnest(vals) AS value,
	pg_temp.set_to(setting, value);
SELECT setting, shown IS NOT NULL AS taken, code, message, detail
FROM unnest(ARRAY['api_token_file', 'ca_file', 'proxy']) AS setting,
	unnest(ARRAY['', '/a file/ä', E'/secret\nb']) AS value, pg_temp.set_to(setting, value);
SELECT setting, left(value, 40) AS value, shown IS NOT NULL AS taken, code, message, detail
FROM unnest(ARRAY['webhook_url']) AS setting,
	unnest(ARRAY['', 'https://hooks.example.com/ocean?secret=a', 'http://127.0.0.1:1/', 'https://', 'ftp://secret', '/secret',
		'https://secret b', 'https://ä/', 'https://' || repeat('x', 2000)]) AS value, pg_temp.set_to(setting, value);

-- What belongs to the worker is not the session's.

SELECT setting, code, message
FROM unnest(ARRAY['record_before_send', 'worker_idle_timeout']) AS setting,
	pg_temp.set_to(setting, '1');

-- An ordinary role sees neither token nor proxy, and changes nothing that
-- costs the administrator money or sends the token elsewhere.

CREATE ROLE regress_ocean_ordinary;
CREATE ROLE regress_ocean_monitor IN ROLE pg_read_all_settings;
CREATE TABLE parameters AS SELECT name AS parameter FROM pg_settings WHERE name LIKE 'ocean_enrich.%';
GRANT SELECT ON parameters TO regress_ocean_ordinary, regress_ocean_monitor;
SET ROLE regress_ocean_ordinary;
SELECT substr(parameter, 14) AS parameter, show.code AS show, current.code AS current_setting,
	(SELECT count(*) FROM pg_settings WHERE name = parameter) AS in_view, change.code AS set, change.message
FROM parameters, pg_temp.error_of('SHOW ' || parameter) AS show,
	pg_temp.error_of(format('SELECT current_setting(%L)', parameter)) AS current,
	pg_temp.error_of(format('SET LOCAL %s = ''%s''', parameter,
		CASE WHEN parameter ~ '^not_found|unknown_keys' THEN 'error' WHEN parameter ~ 'token_in' THEN 'query'
		WHEN parameter ~ 'api_url' THEN 'http://localhost' ELSE '1' END)) AS change
ORDER BY parameter;
SET ROLE regress_ocean_monitor;
SELECT parameter, show.code AS show
FROM parameters, pg_temp.error_of('SHOW ' || parameter) AS show WHERE show.code IS NOT NULL;
RESET ROLE;
DROP TABLE parameters;
DROP ROLE regress_ocean_ordinary, regress_ocean_monitor;

-- No usable token is an error before anything is sent.

TRUNCATE ocean_enrich.call;
SET ocean_enrich.api_token = '';
SELECT ocean_enrich_person('{"person": {"email": "anna@example.com"}}');
\echo :SQLSTATE
SET ocean_enrich.api_token_file = '/nonexistent/token';
SELECT ocean_enrich_person('{"person": {"email": "anna@example.com"}}');
\echo :SQLSTATE
SELECT ocean_enrich.account();
\echo :SQLSTATE

-- The token itself goes before the file.

RESET ocean_enrich.api_token;
SELECT ocean_enrich_person('{"person": {"email": "anna@example.com"}}') ->> 'domain' AS domain;
SELECT count(*) FROM ocean_enrich.call;
