-- Syncs: what create_sync() and its like refuse, and what they store.
-- Nothing is sent here: test/t/sync looks at that.

CREATE TABLE contacts (id integer PRIMARY KEY, email text, code text, note json, enriched jsonb,
	upper text GENERATED ALWAYS AS (upper(email)) STORED,
	answer jsonb GENERATED ALWAYS AS (enriched) STORED);
CREATE UNIQUE INDEX ON contacts (code);
CREATE UNIQUE INDEX ON contacts (lower(email));
CREATE TABLE keyless (id integer, email text, enriched jsonb);
CREATE TABLE odd_key (id double precision PRIMARY KEY, email text, enriched jsonb);
CREATE TABLE parent (id integer PRIMARY KEY, email text, enriched jsonb);
CREATE TABLE child () INHERITS (parent);
CREATE VIEW contacts_view AS SELECT * FROM contacts;
CREATE TEMPORARY TABLE brief (id integer PRIMARY KEY, email text, enriched jsonb);

-- Tables
SELECT ocean_enrich.create_sync('s', 'contacts_view', 'ocean_person_request(email => email)', 'enriched');
SELECT ocean_enrich.create_sync('s', 'brief', 'ocean_person_request(email => email)', 'enriched');
SELECT ocean_enrich.create_sync('s', 'pg_class', 'NULL', 'relname');
SELECT ocean_enrich.create_sync('s', 'parent', 'ocean_person_request(email => email)', 'enriched');
SELECT ocean_enrich.create_sync('s', 'child', 'ocean_person_request(email => email)', 'enriched', key => '{id}');
SELECT ocean_enrich.create_sync('s', 'no_table', 'ocean_person_request(email => email)', 'enriched');

-- Keys
SELECT ocean_enrich.create_sync('s', 'keyless', 'ocean_person_request(email => email)', 'enriched');
SELECT ocean_enrich.create_sync('s', 'odd_key', 'ocean_person_request(email => email)', 'enriched');
SELECT ocean_enrich.create_sync('s', 'contacts', 'ocean_person_request(email => email)', 'enriched', key => '{code}');
SELECT ocean_enrich.create_sync('s', 'contacts', 'ocean_person_request(email => email)', 'enriched', key => '{id,email}');
SELECT ocean_enrich.create_sync('s', 'contacts', 'ocean_person_request(email => email)', 'enriched', key => '{}');
SELECT ocean_enrich.create_sync('s', 'contacts', 'ocean_person_request(email => email)', 'enriched', key => '{none}');

-- Targets
SELECT ocean_enrich.create_sync('s', 'contacts', 'ocean_person_request(email => email)', 'none');
SELECT ocean_enrich.create_sync('s', 'contacts', 'ocean_person_request(email => email)', 'answer');
SELECT ocean_enrich.create_sync('s', 'contacts', 'ocean_person_request(email => email)', 'note');

-- Requests and conditions
SELECT ocean_enrich.create_sync('s', 'contacts', 'ocean_person_request(email => mail)', 'enriched');
SELECT ocean_enrich.create_sync('s', 'contacts', 'email', 'enriched');
SELECT ocean_enrich.create_sync('s', 'contacts', 'ocean_person_request(email => email)', 'enriched', endpoint => 'people');
SELECT ocean_enrich.create_sync('s', 'contacts', 'ocean_person_request(email => email)', 'enriched', endpoint => 'balance');
SELECT ocean_enrich.create_sync('s', 'contacts', 'ocean_person_request(email => email) FROM keyless', 'enriched');
SELECT ocean_enrich.create_sync('s', 'contacts', 'ocean_person_request(email => email), 1', 'enriched');
SELECT ocean_enrich.create_sync('s', 'contacts', 'ocean_person_request(email => email); DROP TABLE contacts', 'enriched');
SELECT ocean_enrich.create_sync('s', 'contacts', 'NULL) FROM contacts; --', 'enriched');
SELECT ocean_enrich.create_sync('s', 'contacts', 'ocean_person_request(email => email || random())', 'enriched');
SELECT ocean_enrich.create_sync('s', 'contacts', 'ocean_person_request(email => max(email))', 'enriched');
SELECT ocean_enrich.create_sync('s', 'contacts', 'ocean_person_request(email => contacts::text)', 'enriched');
SELECT ocean_enrich.create_sync('s', 'contacts', 'ocean_person_request(email => ctid::text)', 'enriched');
SELECT ocean_enrich.create_sync('s', 'contacts', 'enriched', 'enriched');
SELECT ocean_enrich.create_sync('s', 'contacts', 'ocean_enrich_person(ocean_person_request(email => email))', 'enriched');
SELECT ocean_enrich.create_sync('s', 'contacts', 'ocean_person_request(email => email)', 'enriched', condition => 'email');
SELECT ocean_enrich.create_sync('s', 'contacts', 'ocean_person_request(email => email)', 'enriched', condition => 'true OR');
SELECT ocean_enrich.create_sync('s', 'contacts', NULL, 'enriched');
SELECT ocean_enrich.create_sync('', 'contacts', 'ocean_person_request(email => email)', 'enriched');
SELECT ocean_enrich.create_sync('s', 'contacts', 'ocean_person_request(email => email)', 'enriched', refresh_after => '-1 day');

-- None of that left anything behind
SELECT count(*) FROM ocean_enrich.sync;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'contacts'::regclass;

-- What is stored has every name in full.
CREATE SCHEMA elsewhere;
CREATE FUNCTION elsewhere.domain_of(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT split_part($1, '@', 2) $$;
CREATE TABLE elsewhere.companies (domain text, country text);
SET search_path = elsewhere, public;
SELECT ocean_enrich.create_sync('s', 'contacts',
	'ocean_person_request(email => email, company_domain => domain_of(email), country => (SELECT c.country FROM companies AS c WHERE c.domain = domain_of(contacts.email)))',
	'enriched', key => '{id}', condition => 'enriched IS NULL AND upper <> ''''',
	enqueue_existing => false, refresh_after => '30 days', priority => 3);
RESET search_path;
SELECT name, owner = current_user::regrole AS mine, relation, key, request, condition, target, refresh_after,
	priority, enabled, column_names FROM ocean_enrich.sync;
SELECT regexp_replace(tgname, '[0-9]+', 'N') AS name FROM pg_trigger WHERE tgrelid = 'contacts'::regclass ORDER BY name;
SELECT name, relation, target, state, waiting, in_flight, done, not_found, failed, unknown, credits, rows_per_minute, time_left
FROM ocean_enrich.sync_status;

-- Altering says no to the same
SELECT ocean_enrich.alter_sync('s', request => 'email');
SELECT ocean_enrich.alter_sync('s', target => 'answer');
SELECT ocean_enrich.alter_sync('s', condition => 'email');
SELECT ocean_enrich.alter_sync('s', new_name => '');
SELECT ocean_enrich.alter_sync(NULL);
SELECT ocean_enrich.alter_sync('s', condition => '', refresh_after => '0', priority => 0, new_name => 't');
SELECT name, condition, refresh_after, priority FROM ocean_enrich.sync;

-- A transaction that is rolled back leaves nothing, and both can be in one.
BEGIN;
SELECT ocean_enrich.drop_sync('t');
ROLLBACK;
SELECT count(*) FROM ocean_enrich.sync;
SELECT ocean_enrich.disable_sync('t');
SELECT state FROM ocean_enrich.sync_status;
INSERT INTO contacts VALUES (1, 'one@example.com'), (2, NULL);
SELECT state, waiting FROM ocean_enrich.sync_status;
SELECT ocean_enrich.drop_sync('t');
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'contacts'::regclass;
SELECT (SELECT count(*) FROM ocean_enrich.sync) + (SELECT count(*) FROM ocean_enrich.sync_row)
	+ (SELECT count(*) FROM ocean_enrich.sync_inbox) + (SELECT count(*) FROM ocean_enrich.sync_count) AS left;

DROP VIEW contacts_view;
DROP TABLE contacts, keyless, odd_key, child, parent;
DROP SCHEMA elsewhere CASCADE;
