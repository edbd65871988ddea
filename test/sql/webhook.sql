/*
 * webhook.sql
 *		The payload of a webhook: what is read from each form, what is merged into
 *		whom, and who may have it taken.
 */
\getenv inputdir PG_ABS_SRCDIR
\set errors :inputdir '/sql/include/errors.sql'
\set ECHO none
\i :errors
\set ECHO all

TRUNCATE ocean_enrich.call, ocean_enrich.reveal, ocean_enrich.webhook, ocean_enrich.early_reveal;

-- The documented forms, and what public clients have seen instead

SELECT nth, i.* FROM (VALUES
	(1, '{"id": "p1", "domain": "x", "email": {"address": "a@example.com", "status": "verified"}, "phone": null}'),
	(2, '{"id": "p1", "domain": "x", "email": null, "phone": {"numbers": ["+1 555 01"], "status": "verified"}}'),
	(3, '{"emails": [{"personId": "p1", "address": "a@example.com", "status": "guessed"}, {"personId": "p2", "status": "notFound"}], "creditsUsed": 1.0}'),
	(4, '{"phones": [{"personId": "p1", "numbers": ["+1 555 01"], "status": "verified"}, {"personId": "p2", "status": "notFound"}], "creditsUsed": 10}'),
	(5, '{"people": [{"uniqueId": "u", "status": "Success", "person": {"id": "p1", "email": {"address": "a@example.com", "status": "catchAll"}}},
		{"uniqueId": "v", "status": "Not found", "person": null}, {"uniqueId": "w", "status": "Not found"}], "overallStatus": "Completed", "creditsUsed": 1}'),
	(6, '{"people": [{"id": "p1", "phone": {"numbers": [], "status": "notFound"}}], "detail": "OK", "total": 1}'),
	(7, '{"results": [{"personId": "p1", "address": "a@example.com", "status": "verified"}, {"personId": "p2", "numbers": ["+1 555 01"], "status": "verified"}]}'),
	(8, '{"results": [{"id": "p1", "email": {"address": "a@example.com", "status": "verified"}}]}'),
	(9, '{"results": {"emails": [{"personId": "p1", "address": "a@example.com", "status": "verified"}]}}'),
	(10, '{"id": "p1"}'), (11, '{"emails": null}'), (12, '{"emails": [null, 1, "x", [], {}]}'),
	(13, '{"id": 7, "email": "a@example.com", "phone": []}'), (14, '[]'), (15, '{"emails": {}, "people": {}, "phones": 1}'),
	(16, '{"results": {"row-1": {"id": "p1", "email": {"address": "a@example.com", "status": "verified"}},
		"row-2": {"personId": "p2", "numbers": ["+1 555 01"], "status": "verified"}, "row-3": {"status": "Not found", "person": null}}}'),
	(17, '{"people": {"u": {"person": {"id": "p1", "phone": {"numbers": ["+1 555 01"], "status": "verified"}}}}, "creditsUsed": 10}'),
	(18, '{"emails": {"x": {"personId": "p1", "address": "a@example.com", "status": "verified"}}, "results": {"phones": {"y": {"personId": "p1", "numbers": ["+1"]}}}}'),
	(19, '{"results": {"id": "p1", "email": {"address": "a@example.com", "status": "verified"}}}'),
	(20, '{"people": [{"personId": "p1", "address": "a@example.com", "status": "verified"}]}')
) AS payload (nth, json), ocean_enrich.webhook_items(json::jsonb) AS i ORDER BY nth, person_id;

-- What is known gives way to what is at least as good.

SELECT old, new, ocean_enrich.better_contact(old::jsonb, new::jsonb) AS better FROM (VALUES
	(NULL, '{"status": "inProgress"}'),
	('null', '{"address": null, "status": "notFound"}'),
	('{"address": null, "status": "notFound"}', '{"address": "a", "status": "guessed"}'),
	('{"address": "a", "status": "guessed", "more": 1}', '{"address": "b", "status": "verified"}'),
	('{"address": "b", "status": "verified"}', '{"address": "a", "status": "guessed"}'),
	('{"address": "b", "status": "verified"}', '{"address": null, "status": "notFound"}'),
	('{"numbers": ["1"], "status": "verified"}', '{"numbers": null, "status": "inProgress"}'),
	('{"numbers": ["1"], "status": "verified"}', '{"numbers": ["2"], "status": "verified"}'),
	('{"numbers": null, "status": "inProgress"}', '{"numbers": ["2"], "status": "something new"}'),
	('{"address": "b", "status": "verified"}', '"not an object"'),
	('"not an object"', '{"address": "b", "status": "verified"}')
) AS contact (old, new);

-- Calls that wait, and one of the same person that does not

CREATE FUNCTION pg_temp.answered(request jsonb, person_id text, by_webhook text[] DEFAULT NULL) RETURNS bigint LANGUAGE sql AS $$
	INSERT INTO ocean_enrich.call (endpoint, state, role, account, fingerprint, request, reveals_by_webhook, status, answer, credits, requested_at, sent_at, answered_at)
	VALUES ('person', 'answered', 'x', 'x', sha256(request::text::bytea), request, by_webhook, 200,
		jsonb_build_object('id', person_id, 'name', 'Anna', 'email', NULL), 3, now(), now(), now())
	RETURNING ocean_enrich.expect_reveals(call_id) * 0 + call_id
$$;
SELECT pg_temp.answered('{"person": {"name": "Anna"}, "revealEmails": {"includeEmails": true, "webhookUrl": "u"}}', 'p1', '{email}') > 0;
SELECT pg_temp.answered('{"person": {"name": "Anna 2"}, "revealPhones": {"includePhones": true, "webhookUrl": "u"}, "revealEmails": {"includeEmails": true}}', 'p1', '{phone}') > 0;
SELECT pg_temp.answered('{"person": {"name": "Anna 3"}, "revealEmails": {"includeEmails": true}}', 'p1') > 0;
SELECT pg_temp.answered('{"person": {"name": "Anna 4"}, "revealEmails": {"includeEmails": false, "webhookUrl": "u"}}', 'p1') > 0;
SELECT count(ocean_enrich.expect_reveals(call_id)) FROM ocean_enrich.call;	-- again: nothing new
SELECT c.request #>> '{person,name}' AS name, r.person_id, r.emails, r.phones
FROM ocean_enrich.reveal AS r JOIN ocean_enrich.call AS c USING (call_id) ORDER BY call_id;

CREATE VIEW ledger AS SELECT request #>> '{person,name}' AS name, answer - 'id' - 'name' AS contacts FROM ocean_enrich.call ORDER BY call_id;
CREATE VIEW receipts AS SELECT digest IS NOT NULL AS known, deliveries, people, credits, stated, cardinality(call_ids) AS calls
FROM ocean_enrich.webhook ORDER BY webhook_id;

SELECT ocean_enrich.receive_webhook('{"id": "p1", "email": {"address": "a@example.com", "status": "verified"}}');
SELECT * FROM ledger;
SELECT ocean_enrich.receive_webhook('{"id": "p1", "email": {"status": "verified", "address": "a@example.com"}}');	-- again
SELECT ocean_enrich.receive_webhook('{"emails": [{"personId": "p1", "address": "a@example.com", "status": "verified"}], "creditsUsed": 0.5}');
SELECT ocean_enrich.receive_webhook('{"id": "p1", "email": null, "phone": {"numbers": ["+1 555 01"], "status": "verified"}}');
SELECT ocean_enrich.receive_webhook('{"id": "p1", "email": {"address": null, "status": "notFound"}}');	-- out of order
SELECT * FROM ledger;
SELECT * FROM receipts;
SELECT emails, email_status, phones, phone_status FROM ocean_enrich.reveal ORDER BY call_id;
SELECT count(*) FROM ocean_enrich.early_reveal;

-- Nobody waits for these: they are kept, for a call that may be on the wire.

SELECT ocean_enrich.receive_webhook('{"people": [{"id": "p8", "email": {"address": "b@example.com", "status": "guessed"}}, {"id": "p9", "phone": {"numbers": null, "status": "notFound"}}]}');
SELECT ocean_enrich.receive_webhook('{"id": "p8", "email": {"address": "c@example.com", "status": "verified"}}');
SELECT person_id, email, phone FROM ocean_enrich.early_reveal ORDER BY webhook_id, nth;
SELECT pg_temp.answered('{"person": {"name": "Berta"}, "revealEmails": {"includeEmails": true, "webhookUrl": "u"}}', 'p8', '{email}') > 0;
SELECT * FROM ledger WHERE name = 'Berta';
SELECT person_id FROM ocean_enrich.early_reveal;
SELECT * FROM receipts OFFSET 4;

-- A character that a text cannot hold is replaced: the profile is not needed, the address is.

SELECT pg_temp.answered('{"person": {"name": "Clara"}, "revealEmails": {"includeEmails": true, "webhookUrl": "u"}}', 'p7', '{email}') > 0;
SELECT ocean_enrich.receive_webhook('{"id": "p7", "summary": "\u0000", "email": {"address": "c\ud800@example.com", "status": "verified"}}');
SELECT contacts #>> '{email,address}' = U&'c\FFFD@example.com' AS replaced FROM ledger WHERE name = 'Clara';

-- Who was not called for by anybody is not kept for ever.

UPDATE ocean_enrich.early_reveal SET received_at = now() - interval '8 days';
UPDATE ocean_enrich.webhook SET received_at = now() - interval '8 days';
SELECT ocean_enrich.tidy();
SELECT count(*) FROM ocean_enrich.early_reveal;
SELECT known, count(*) FROM receipts GROUP BY known;

-- What is no documented payload is refused, so that it is sent again.

SELECT payload, e.code, e.message FROM (VALUES ('[]'), ('7'), ('null'), ('"x"'), ('{}'), ('{"id": null}'), ('{"detail": "OK"}'),
	('{"companies": [], "overallStatus": "Completed", "creditsUsed": 0}')) AS bad (payload),
	pg_temp.error_of(format('SELECT ocean_enrich.receive_webhook(%L)', payload)) AS e;
SELECT payload, e.code, e.detail FROM (VALUES ('{"emails": [{"personId": "p1", "address": "a@example.com"}, 1]}'),
	('{"emails": "x"}'), ('{"phones": [[]]}'), ('{"emails": [{"address": "a@example.com", "status": "verified"}]}'),
	('{"emails": {"p1": {"address": "a@example.com", "status": "verified"}}}'), ('{"emails": [{"personId": 7, "address": "a@example.com"}]}'),
	('{"id": 7, "email": {"address": "a@example.com"}}'), ('{"id": "p1", "email": "a@example.com"}'), ('{"id": "p1", "phone": ["+1"]}'),
	('{"results": {"row-1": {"row": {"id": "p1", "email": {"address": "a@example.com"}}}}}'), ('{"results": {"row-1": [{"id": "p1"}]}}'),
	('{"results": {"results": {"emails": [{"personId": "p1", "address": "a@example.com"}]}}}'), ('{"results": 1}')) AS bad (payload),
	pg_temp.error_of(format('SELECT ocean_enrich.receive_webhook(%L)', payload)) AS e;
-- What says nothing is taken.
SELECT count(ocean_enrich.receive_webhook(payload::json)) FROM (VALUES ('{"emails": [], "phones": null}'), ('{"results": {}}'),
	('{"people": [{"uniqueId": "v", "status": "Not found", "person": null}, {"uniqueId": "w"}, null, {}]}'), ('{"id": "p1"}'),
	('{"emails": [{"personId": null, "address": null, "status": "notFound"}]}')) AS empty (payload);
SELECT ocean_enrich.receive_webhook(NULL);
SELECT ocean_enrich.receive_webhook('{"overallStatus": "Incomplete", "creditsUsed": 0}');	-- "people" is optional
SELECT code, message, detail FROM pg_temp.error_of($$SELECT ocean_enrich.receive_webhook(json_build_object('id', repeat('x', 1024 * 1024)))$$);
SELECT count(*) FROM ocean_enrich.webhook;

-- Without a secret, only those who may write the ledger; with one, whoever knows
-- it and may execute the function, which is all that he may.

CREATE ROLE regress_ocean_webhook;
GRANT USAGE ON SCHEMA ocean_enrich TO regress_ocean_webhook;
GRANT EXECUTE ON FUNCTION ocean_enrich.receive_webhook TO regress_ocean_webhook;
CREATE FUNCTION pg_temp.tried(secret text) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(e.code || ' ' || e.message, 'taken') FROM pg_temp.error_of(
		format('SELECT ocean_enrich.receive_webhook(''{"id": "p1", "email": {"address": "x", "status": "guessed"}}'', %L)', secret)) AS e
$$;
SET ROLE regress_ocean_webhook;
SELECT pg_temp.tried(NULL), pg_temp.tried('');
RESET ROLE;
SELECT pg_temp.tried(NULL), pg_temp.tried('whatever');
SET ocean_enrich.webhook_secret = 'open sesame';
SELECT pg_temp.tried(NULL), pg_temp.tried('open sesam'), pg_temp.tried('open sesame');
SET ROLE regress_ocean_webhook;
SELECT pg_temp.tried(NULL), pg_temp.tried('open sesame ');
SELECT pg_temp.tried('open sesame');
SELECT code FROM pg_temp.error_of('SHOW ocean_enrich.webhook_secret');
SELECT object, code FROM (VALUES ('ocean_enrich.call'), ('ocean_enrich.reveal'), ('ocean_enrich.webhook'), ('ocean_enrich.early_reveal'), ('ocean_enrich.open_reveals')) AS o (object),
	pg_temp.error_of('SELECT FROM ' || object);
SELECT call, code FROM (VALUES ('take_webhook(''{}'', '''')'), ('merge_reveals(''{}'')'), ('expect_reveals(1)'), ('forget(email => ''a'')'), ('apply_retention()'),
	('erase_calls(''{}'')'), ('tidy()')) AS f (call), pg_temp.error_of('SELECT ocean_enrich.' || call);
RESET ROLE;

-- Its digest will do, and gives nothing away.

DO $$ BEGIN PERFORM set_config('ocean_enrich.webhook_secret', 'sha256:' || encode(sha256('open sesame'), 'hex'), false); END $$;
SELECT pg_temp.tried('open sesame'), pg_temp.tried(current_setting('ocean_enrich.webhook_secret'));
SELECT code, message, detail FROM pg_temp.error_of('SET ocean_enrich.webhook_secret = ''sha256:abc''');
-- Several, while one takes the place of another.
DO $$ BEGIN PERFORM set_config('ocean_enrich.webhook_secret', ' old one, sha256:' || encode(sha256('open sesame'), 'hex') || ' ,third', false); END $$;
SELECT pg_temp.tried('old one'), pg_temp.tried('open sesame'), pg_temp.tried('third');
SELECT secret, pg_temp.tried(secret) FROM unnest(ARRAY['', ' ', ',', 'old', ' old one', 'third ', 'old one,third', current_setting('ocean_enrich.webhook_secret')]) AS secret;
SELECT setting, code, detail FROM unnest(ARRAY['a,', ',a', 'a,,b', ' ', 'a,sha256:abc', 'sha256:' || repeat('a', 65)]) AS setting,
	pg_temp.error_of(format('SET ocean_enrich.webhook_secret = %L', setting));
RESET ocean_enrich.webhook_secret;

-- Nobody's trigger runs with more rights than the ledger's owner has.

CREATE ROLE regress_ocean_owner;
GRANT USAGE, CREATE ON SCHEMA ocean_enrich TO regress_ocean_owner;
ALTER TABLE ocean_enrich.call OWNER TO regress_ocean_owner;
ALTER TABLE ocean_enrich.webhook OWNER TO regress_ocean_owner;
ALTER TABLE ocean_enrich.reveal OWNER TO regress_ocean_owner;
ALTER TABLE ocean_enrich.early_reveal OWNER TO regress_ocean_owner;
ALTER TABLE ocean_enrich.reveal_cost OWNER TO regress_ocean_owner;
CREATE TABLE seen (who name);
GRANT INSERT ON seen TO PUBLIC;
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES (current_user); RETURN NEW; END $$;
CREATE TRIGGER see BEFORE INSERT ON ocean_enrich.webhook FOR EACH ROW EXECUTE FUNCTION see();
SELECT code, message FROM pg_temp.error_of($$SELECT ocean_enrich.receive_webhook('{"id": "p7", "email": {"address": "y", "status": "guessed"}}')$$);
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ocean_enrich TO regress_ocean_owner;
SELECT ocean_enrich.receive_webhook('{"id": "p7", "email": {"address": "y", "status": "guessed"}}');
SELECT current_user <> 'regress_ocean_owner' AS ours, * FROM seen;
DROP TRIGGER see ON ocean_enrich.webhook;
DROP FUNCTION see();
DROP TABLE seen;
REASSIGN OWNED BY regress_ocean_owner TO CURRENT_USER;
DROP OWNED BY regress_ocean_owner, regress_ocean_webhook;
DROP ROLE regress_ocean_owner, regress_ocean_webhook;

DROP VIEW ledger, receipts;
TRUNCATE ocean_enrich.call, ocean_enrich.reveal, ocean_enrich.webhook, ocean_enrich.early_reveal;
