/*
 * queue.sql
 *		The arguments of the queue's functions, and what stands in its way.
 */
\getenv inputdir PG_ABS_SRCDIR
\set errors :inputdir '/sql/include/errors.sql'
\set ECHO none
\i :errors
\set ECHO all

TRUNCATE ocean_enrich.call, ocean_enrich.queue_tally;

-- Requests are checked as those of direct calls are.

SELECT statement, error.code, error.message FROM (VALUES
		('SELECT ocean_enrich.submit(''{}'')'),
		('SELECT ocean_enrich.submit(''{"person": {}}'')'),
		('SELECT ocean_enrich.submit(''{"person": {"mail": "a@example.com"}}'')'),
		('SELECT ocean_enrich.submit(''{"person": {"email": "a@example.com"}}'', 0, ''infinity'')')
	) AS s (statement), pg_temp.error_of(statement) AS error;
SELECT ocean_enrich.submit(NULL), ocean_enrich.submit(NULL, NULL, NULL);

-- Their errors are values, those of other arguments are not.

SELECT s.* FROM (VALUES (NULL::jsonb), ('{}'), ('{"person": {}}'), ('{"person": {"mail": "a@example.com"}}')) AS r (request),
	ocean_enrich.try_submit(request) AS s;
SELECT statement, error.code, error.message FROM (VALUES
		('SELECT ocean_enrich.try_submit(''{"person": {"email": "a@example.com"}}'', 0, ''infinity'')'),
		('SELECT ocean_enrich.try_submit(''{}'', endpoint => ''people'')'),
		('SELECT ocean_enrich.request_error(''{}'', ''people'')')
	) AS s (statement), pg_temp.error_of(statement) AS error;
BEGIN;
SELECT (ocean_enrich.try_submit('{"person": {"email": "a@example.com"}}', 7, '2000-01-01', 'person')).call_id AS call_id \gset
SELECT state, priority, next_attempt_at <= clock_timestamp() AS due FROM ocean_enrich.call WHERE call_id = :call_id;
ROLLBACK;

-- What of the API is asked goes by its name, and is part of what makes requests equal.

SELECT statement, error.* FROM (VALUES
		('SELECT ocean_enrich.submit(''{}'', endpoint => ''people'')'),
		('SELECT ocean_enrich.submit(''{}'', endpoint => ''balance'')')
	) AS s (statement), pg_temp.error_of(statement) AS error;
BEGIN;
SELECT count(ocean_enrich.submit('{"person": {"email": "a@example.com"}}', not_before => now() + '1 day', endpoint => endpoint))
FROM (VALUES ('person'), (NULL)) AS e (endpoint);
SELECT endpoint, substr(fingerprint, 1, 31) = substr(sha256(E'person\n{"person":{"email":"a@example.com"}}'), 1, 31)
	AS as_told, count(*)
FROM ocean_enrich.call GROUP BY endpoint, fingerprint;
ROLLBACK;

SELECT ocean_enrich.cancel(NULL), ocean_enrich.retry(NULL), ocean_enrich.wait(NULL), ocean_enrich.wait('{}');
SELECT count(*) FROM ocean_enrich.call;

-- What is rolled back leaves nothing, in the tally neither.

BEGIN;
SELECT count(ocean_enrich.submit('{"person": {"email": "a@example.com"}}', not_before => now() + '1 day'))
FROM generate_series(1, 3);
ROLLBACK;
BEGIN;
SELECT count(ocean_enrich.submit('{"person": {"email": "b@example.com"}}', i, now() + '1 day'))
FROM generate_series(-20, 20) AS i;
SAVEPOINT s;
SELECT count(ocean_enrich.submit('{"person": {"email": "c@example.com"}}', not_before => now() + '1 day'))
FROM generate_series(1, 3);
ROLLBACK TO s;
SELECT count(ocean_enrich.cancel(call_id)) FROM ocean_enrich.call WHERE priority > 0;
COMMIT;
SELECT state, count(*) FROM ocean_enrich.call GROUP BY state ORDER BY state;
SELECT sum(waiting) AS waiting, sum(cancelled) AS cancelled FROM ocean_enrich.queue_tally;
SELECT waiting, cancelled_today FROM ocean_enrich.queue_status;

-- In PL/pgSQL, with errors caught

DO $$
BEGIN
	FOR i IN 1..4 LOOP
		BEGIN
			PERFORM ocean_enrich.submit('{"person": {"email": "d@example.com"}}', not_before => now() + '1 day');
			IF i % 2 = 0 THEN
				RAISE division_by_zero;
			END IF;
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
	END LOOP;
END $$;
SELECT count(*) FROM ocean_enrich.call WHERE request #>> '{person,email}' = 'd@example.com';
SELECT sum(waiting) AS waiting FROM ocean_enrich.queue_tally;

-- Read only

BEGIN READ ONLY;
SELECT ocean_enrich.submit('{"person": {"email": "e@example.com"}}');
ROLLBACK;

-- What the owner has added to the table runs, with his rights.

CREATE ROLE regress_ocean_owner;
CREATE FUNCTION note_submission() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE 'inserted by %', current_user;
	RETURN NEW;
END $$;
GRANT USAGE ON SCHEMA ocean_enrich TO regress_ocean_owner;
ALTER TABLE ocean_enrich.call OWNER TO regress_ocean_owner;
ALTER TABLE ocean_enrich.queue_tally OWNER TO regress_ocean_owner;
GRANT USAGE ON TYPE ocean_enrich.call_state, ocean_enrich.resolution TO regress_ocean_owner;
CREATE TRIGGER note BEFORE INSERT ON ocean_enrich.call FOR EACH ROW EXECUTE FUNCTION note_submission();
SELECT ocean_enrich.submit('{"person": {"email": "f@example.com"}}', not_before => now() + '1 day') > 0 AS submitted;
DROP TRIGGER note ON ocean_enrich.call;
ALTER TABLE ocean_enrich.call ADD note text DEFAULT 'of the owner';
SELECT ocean_enrich.submit('{"person": {"email": "g@example.com"}}', not_before => now() + '1 day') AS call_id \gset
SELECT note FROM ocean_enrich.call WHERE call_id = :call_id;
ALTER TABLE ocean_enrich.call DROP note, OWNER TO CURRENT_USER;
ALTER TABLE ocean_enrich.queue_tally OWNER TO CURRENT_USER;
DROP FUNCTION note_submission();
DROP OWNED BY regress_ocean_owner;
DROP ROLE regress_ocean_owner;
SELECT ocean_enrich.submit('{"person": {"email": "h@example.com"}}', not_before => now() + '1 day') > 0 AS submitted;

SELECT count(ocean_enrich.cancel(call_id)) FROM ocean_enrich.call WHERE state = 'queued';
SELECT waiting FROM ocean_enrich.queue_status;
TRUNCATE ocean_enrich.call, ocean_enrich.queue_tally;
