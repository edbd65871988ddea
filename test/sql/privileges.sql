/*
 * privileges.sql
 *		Who may do what.  Nothing is anybody's by default; each grant gives what
 *		it names and no more.
 */
\getenv inputdir PG_ABS_SRCDIR
\set errors :inputdir '/sql/include/errors.sql'
\set ECHO none
\i :errors
\set ECHO all

TRUNCATE ocean_enrich.call;
SELECT count(*) FROM ocean_enrich_person('{"person": {"email": "the-superuser@example.com"}}');

-- One statement for each object

CREATE TABLE statements (nth int GENERATED ALWAYS AS IDENTITY, object text, statement text);
INSERT INTO statements (object, statement) VALUES
	('ocean_enrich_person', 'SELECT ocean_enrich_person(''{"person": {"email": "the-superuser@example.com"}}'')'),
	('ocean_try_enrich_person', 'SELECT ocean_try_enrich_person(''{"person": {"email": "the-superuser@example.com"}}'')'),
	('enrich: not_found', 'SELECT ocean_enrich_person(''{"person": {"email": "the-superuser@example.com"}}'', ''null'')'),
	('enrich: reuse_for', 'SELECT ocean_enrich_person(''{"person": {"email": "the-superuser@example.com"}}'', reuse_for => ''1 day'')'),
	('try_enrich: reuse_for', 'SELECT ocean_try_enrich_person(''{"person": {"email": "the-superuser@example.com"}}'', reuse_for => ''1 day'')'),
	('ocean_person_request', 'SELECT ocean_person_request()'),
	('ocean_person', 'SELECT ocean_person(''{}''::jsonb)'),
	('ocean_person_experiences', 'SELECT * FROM ocean_person_experiences(''{}'')'),
	('type ocean_person', 'CREATE TEMP TABLE people (person ocean_person)'),
	('type ocean_enrich_result', 'CREATE TEMP TABLE results (result ocean_enrich_result)'),
	('account', 'SELECT ocean_enrich.account()'),
	('in_flight', 'SELECT * FROM ocean_enrich.in_flight()'),
	('resolve', 'SELECT ocean_enrich.resolve(0, ''give up'')'),
	('receive_webhook', 'SELECT ocean_enrich.receive_webhook(''{}'')'),
	('forget', 'SELECT ocean_enrich.forget(''x'')'),
	('apply_retention', 'SELECT ocean_enrich.apply_retention()'),
	('setting', 'SELECT ocean_enrich.setting(''rate_limit'')'),
	('submit', 'SELECT ocean_enrich.submit(NULL)'),
	('try_submit', 'SELECT ocean_enrich.try_submit(NULL)'),
	('request_error', 'SELECT ocean_enrich.request_error(NULL)'),
	('cancel', 'SELECT ocean_enrich.cancel(-1)'),
	('retry', 'SELECT ocean_enrich.retry(-1)'),
	('wait', 'SELECT ocean_enrich.wait(ARRAY[-1])'),
	('balance', 'SELECT ocean_enrich.balance()'),
	('queue_state', 'SELECT * FROM ocean_enrich.queue_state()'),
	('queue_status', 'SELECT * FROM ocean_enrich.queue_status'),
	('queue_tally', 'SELECT * FROM ocean_enrich.queue_tally'),
	('wake', 'SELECT ocean_enrich.wake()'),
	('setting: token', 'SELECT ocean_enrich.setting(''api_token'')'),
	('estimate', 'SELECT ocean_enrich.estimate(''SELECT 1'')'),
	('fingerprint', 'SELECT ocean_enrich.fingerprint(''{}'')'),
	('spending_changed', 'SELECT ocean_enrich.spending_changed()'),
	('budget: read', 'SELECT * FROM ocean_enrich.budget'),
	('budget: insert', 'INSERT INTO ocean_enrich.budget VALUES (''regress_ocean_nobody'', ''day'', 1)'),
	('budget: update', 'UPDATE ocean_enrich.budget SET credit_limit = 0'),
	('budget: delete', 'DELETE FROM ocean_enrich.budget'),
	('budget: truncate', 'TRUNCATE ocean_enrich.budget'),
	('budget_changed', 'SELECT ocean_enrich.budget_changed()'),
	('call: read', 'SELECT * FROM ocean_enrich.call'),
	('call: insert', 'INSERT INTO ocean_enrich.call (endpoint, state, role, account, fingerprint, requested_at)
		VALUES (''person'', ''queued'', ''x'', ''x'', '''', now())'),
	('call: update', 'UPDATE ocean_enrich.call SET credits = 0'),
	('call: delete', 'DELETE FROM ocean_enrich.call'),
	('call: truncate', 'TRUNCATE ocean_enrich.call'),
	('call: numbers', 'SELECT nextval(''ocean_enrich.call_call_id_seq'')'),
	('calls_by_state', 'SELECT * FROM ocean_enrich.calls_by_state'),
	('spending', 'SELECT * FROM ocean_enrich.spending'),
	('unknown_calls', 'SELECT * FROM ocean_enrich.unknown_calls'),
	('receipts', 'SELECT * FROM ocean_enrich.receipts'),
	('limits', 'SELECT * FROM ocean_enrich.limits'),
	('budget_status', 'SELECT * FROM ocean_enrich.budget_status'),
	('calls_in_flight', 'SELECT * FROM ocean_enrich.calls_in_flight'),
	('open_reveals', 'SELECT * FROM ocean_enrich.open_reveals'),
	('reveal', 'SELECT * FROM ocean_enrich.reveal'),
	('webhook', 'SELECT * FROM ocean_enrich.webhook'),
	('early_reveal', 'SELECT * FROM ocean_enrich.early_reveal'),
	('forget_later', 'INSERT INTO ocean_enrich.forget_later VALUES (1)'),
	('retention_progress', 'DELETE FROM ocean_enrich.retention_progress'),
	('schema ocean_enrich', 'CREATE TABLE ocean_enrich.mine (id int)');

-- Roles that were given nothing, the schema, one function, the types and
-- pure functions, the views (and the function that one of them reads), the
-- decision

CREATE ROLE regress_ocean_nobody;
CREATE ROLE regress_ocean_visitor;
CREATE ROLE regress_ocean_caller;
CREATE ROLE regress_ocean_reader;
CREATE ROLE regress_ocean_auditor;
CREATE ROLE regress_ocean_judge;
GRANT SELECT ON statements TO PUBLIC;
GRANT USAGE ON SCHEMA ocean_enrich TO regress_ocean_visitor, regress_ocean_auditor, regress_ocean_judge;
GRANT EXECUTE ON FUNCTION ocean_enrich_person(jsonb) TO regress_ocean_caller;
GRANT EXECUTE ON FUNCTION ocean_person(jsonb), ocean_person_experiences(jsonb), ocean_person_request TO regress_ocean_reader;
GRANT USAGE ON TYPE ocean_person, ocean_enrich_result TO regress_ocean_reader;
GRANT SELECT ON ocean_enrich.calls_by_state, ocean_enrich.spending, ocean_enrich.unknown_calls,
	ocean_enrich.receipts, ocean_enrich.limits, ocean_enrich.calls_in_flight,
	ocean_enrich.budget_status, ocean_enrich.queue_status TO regress_ocean_auditor;
GRANT EXECUTE ON FUNCTION ocean_enrich.in_flight(), ocean_enrich.queue_state() TO regress_ocean_auditor;
GRANT EXECUTE ON FUNCTION ocean_enrich.resolve TO regress_ocean_judge;
GRANT SELECT (call_id, state, credits), UPDATE (resolution, credits, resolved_by, resolved_at, database)
	ON ocean_enrich.call TO regress_ocean_judge;

CREATE FUNCTION pg_temp.codes_as(role name) RETURNS TABLE (nth int, code text)
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SET ROLE %I', role);
	RETURN QUERY SELECT s.nth, error.code FROM statements AS s, pg_temp.error_of(statement) AS error;
	RESET ROLE;
END $$;
SELECT object, nobody.code AS nobody, visitor.code AS visitor, caller.code AS caller, reader.code AS reader,
	auditor.code AS auditor, judge.code AS judge
FROM statements
	JOIN pg_temp.codes_as('regress_ocean_nobody') AS nobody USING (nth)
	JOIN pg_temp.codes_as('regress_ocean_visitor') AS visitor USING (nth)
	JOIN pg_temp.codes_as('regress_ocean_caller') AS caller USING (nth)
	JOIN pg_temp.codes_as('regress_ocean_reader') AS reader USING (nth)
	JOIN pg_temp.codes_as('regress_ocean_auditor') AS auditor USING (nth)
	JOIN pg_temp.codes_as('regress_ocean_judge') AS judge USING (nth)
ORDER BY nth;

-- Who may submit may look after his own calls, and after no other's.  Nothing of
-- his is run with the rights of the table's owner.

CREATE ROLE regress_ocean_submitter;
CREATE ROLE regress_ocean_rival;
GRANT USAGE ON SCHEMA ocean_enrich TO regress_ocean_submitter, regress_ocean_rival;
GRANT EXECUTE ON FUNCTION ocean_enrich.submit, ocean_enrich.cancel, ocean_enrich.retry, ocean_enrich.wait
	TO regress_ocean_submitter, regress_ocean_rival;
CREATE SCHEMA planted AUTHORIZATION regress_ocean_submitter;
SET ROLE regress_ocean_submitter;
CREATE FUNCTION planted.equal(a bigint, b bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'run as %', current_user;
END $$;
CREATE OPERATOR planted.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = planted.equal);
SET search_path = planted, pg_catalog;
SELECT ocean_enrich.submit('{"person": {"email": "submitter@example.com"}}', not_before => pg_catalog.now() + '1 day') AS call_id \gset
SELECT ocean_enrich.cancel(:call_id), ocean_enrich.cancel(:call_id);
SELECT ocean_enrich.retry(:call_id);
SELECT ocean_enrich.wait(ARRAY[:call_id], '1 ms'), ocean_enrich.cancel(:call_id), ocean_enrich.wait(ARRAY[:call_id]);
RESET search_path;
SET ROLE regress_ocean_rival;
SELECT error.code FROM pg_temp.error_of('SELECT ocean_enrich.cancel(' || :call_id || ')') AS error;
SELECT error.code FROM pg_temp.error_of('SELECT ocean_enrich.retry(' || :call_id || ')') AS error;
RESET ROLE;
SELECT role, state, credits, background FROM ocean_enrich.call WHERE call_id = :call_id;
DROP SCHEMA planted CASCADE;
DROP OWNED BY regress_ocean_submitter, regress_ocean_rival;
DROP ROLE regress_ocean_submitter, regress_ocean_rival;

-- The worker writes the ledger for whoever may call.

GRANT EXECUTE ON FUNCTION ocean_try_enrich_person(jsonb) TO regress_ocean_caller;
SET ROLE regress_ocean_caller;
SELECT ocean_enrich_person('{"person": {"email": "anna@example.com"}}') ->> 'domain' AS domain;
SELECT status, reused FROM ocean_try_enrich_person('{"person": {"email": "anna@example.com"}}');
RESET ROLE;
SELECT role, state, credits FROM ocean_enrich.call ORDER BY call_id DESC LIMIT 1;

-- In the name of another role, by its function

CREATE FUNCTION enrich_for_all(email text) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
	SELECT ocean_enrich_person(jsonb_build_object('person', jsonb_build_object('email', email))) ->> 'domain'
$$;
GRANT CREATE ON SCHEMA public TO regress_ocean_caller;
ALTER FUNCTION enrich_for_all(text) OWNER TO regress_ocean_caller;
REVOKE CREATE ON SCHEMA public FROM regress_ocean_caller;
SET ROLE regress_ocean_nobody;
SELECT enrich_for_all('berta@example.com');
RESET ROLE;
SELECT role, request #>> '{person,email}' AS email FROM ocean_enrich.call ORDER BY call_id DESC LIMIT 1;

-- Receipts: one's own and those of the roles that one is a member of, without
-- the person; and no function in a condition gets to see others.

CREATE ROLE regress_ocean_other;
CREATE ROLE regress_ocean_boss IN ROLE regress_ocean_caller, regress_ocean_other;
GRANT USAGE ON SCHEMA ocean_enrich TO regress_ocean_caller, regress_ocean_other, regress_ocean_boss;
GRANT SELECT ON ocean_enrich.receipts TO regress_ocean_caller, regress_ocean_other, regress_ocean_boss;
GRANT EXECUTE ON FUNCTION ocean_enrich_person(jsonb) TO regress_ocean_other;
SET ROLE regress_ocean_other;
SELECT ocean_enrich_person('{"person": {"email": "carla@example.com"}}') ->> 'domain' AS domain;
SELECT role, state, status, credits, attempts FROM ocean_enrich.receipts ORDER BY call_id;
CREATE FUNCTION pg_temp.peep(role name) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN
	RAISE NOTICE 'saw a receipt of %', role;
	RETURN true;
END $$;
SELECT count(*) FROM ocean_enrich.receipts WHERE pg_temp.peep(role);
SET ROLE regress_ocean_boss;
SELECT role, count(*), sum(credits) FROM ocean_enrich.receipts GROUP BY role ORDER BY role;
RESET ROLE;
SELECT count(DISTINCT role) FROM ocean_enrich.receipts;
\d ocean_enrich.receipts

-- The receipts of a role outlive it.

DROP OWNED BY regress_ocean_other;
DROP ROLE regress_ocean_other;
SELECT role, state, credits FROM ocean_enrich.call WHERE role = 'regress_ocean_other';
SELECT role, credits FROM ocean_enrich.spending WHERE role = 'regress_ocean_other';
SET ROLE regress_ocean_boss;
SELECT role, count(*) FROM ocean_enrich.receipts GROUP BY role ORDER BY role;
RESET ROLE;

-- A decision carries the name of who took it.

INSERT INTO ocean_enrich.call (endpoint, state, role, account, fingerprint, requested_at, sent_at)
VALUES ('person', 'unknown', 'regress_ocean_caller', 'x', '', now(), now()) RETURNING call_id \gset
SET SESSION AUTHORIZATION regress_ocean_judge;
SELECT ocean_enrich.resolve(:call_id, 'give up', 3);
RESET SESSION AUTHORIZATION;
SELECT resolution, resolved_by FROM ocean_enrich.unknown_calls;
SELECT credits FROM ocean_enrich.call WHERE call_id = :call_id;

TRUNCATE ocean_enrich.call;
DROP FUNCTION enrich_for_all(text);
DROP TABLE statements;
DROP OWNED BY regress_ocean_visitor, regress_ocean_caller, regress_ocean_reader, regress_ocean_auditor,
	regress_ocean_judge, regress_ocean_boss;
DROP ROLE regress_ocean_nobody, regress_ocean_visitor, regress_ocean_caller, regress_ocean_reader,
	regress_ocean_auditor, regress_ocean_judge, regress_ocean_boss;
