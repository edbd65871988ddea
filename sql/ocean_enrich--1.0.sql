/* ocean_enrich--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION ocean_enrich" to load this file. \quit

/*
 * Nothing is looked up in a schema where others may create: an operator planted
 * there would be built into our functions and views, and run with the rights of
 * their callers.  So every object of the extension is named in full.
 */
SET LOCAL search_path = pg_catalog, pg_temp;

/*
 * What queries use stands in the extension's schema; what administrators use in
 * the schema ocean_enrich.  A plain CREATE: a schema of that name which somebody
 * else has made before stops the installation.
 */
CREATE SCHEMA ocean_enrich;
COMMENT ON SCHEMA ocean_enrich IS 'ledger and views of the extension ocean_enrich';

-- The ledger

-- Types rather than CHECK constraints, which the executor prepares anew for each
-- row that is written alone.
CREATE TYPE ocean_enrich.call_state AS ENUM
	('queued', 'sent', 'answered', 'refused', 'failed', 'unknown', 'cancelled');
COMMENT ON TYPE ocean_enrich.call_state IS 'the states of a row of ocean_enrich.call';

CREATE TYPE ocean_enrich.wait_reason AS ENUM
	('gathering', 'retry', 'limit', 'budget', 'balance', 'call', 'decision');
COMMENT ON TYPE ocean_enrich.wait_reason IS 'why a queued call is not due yet';

CREATE TYPE ocean_enrich.resolution AS ENUM ('pay again', 'give up');
COMMENT ON TYPE ocean_enrich.resolution IS
	'decisions about a call whose outcome is unknown';

CREATE FUNCTION ocean_enrich.database_identity() RETURNS text
	AS 'MODULE_PATHNAME', 'ocean_enrich_database_identity'
	LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION ocean_enrich.database_identity() IS
	'identifies this database, so that it can be told from its copies';

CREATE TABLE ocean_enrich.call (
	call_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	state           ocean_enrich.call_state NOT NULL,
	role            name NOT NULL,
	endpoint        text NOT NULL,
	account         text,
	fingerprint     bytea NOT NULL,
	request         jsonb,
	reveals_in_answer  text[],
	reveals_by_webhook text[],
	status          integer,
	detail          text,
	answer          jsonb,
	raw             bytea,
	raw_truncated   boolean NOT NULL DEFAULT false,
	credits         numeric,
	reserved        numeric,
	attempts        integer NOT NULL DEFAULT 0,
	requested_at    timestamptz NOT NULL,
	sent_at         timestamptz,
	answered_at     timestamptz,
	next_attempt_at timestamptz,
	waits_for       ocean_enrich.wait_reason,
	resolution      ocean_enrich.resolution,
	resolved_by     name,
	resolved_at     timestamptz,
	priority        integer NOT NULL DEFAULT 0,
	background      boolean NOT NULL DEFAULT false,
	postponed       integer NOT NULL DEFAULT 0,
	gathered        integer NOT NULL DEFAULT 0,
	earlier_requests integer NOT NULL DEFAULT 0,
	reused_from     bigint,
	sync_id         bigint,
	-- A copy of the database, and a subscriber, leaves alone what is not its own.
	database        text NOT NULL DEFAULT ocean_enrich.database_identity()
);

-- Equal requests, whatever became of them.
CREATE INDEX call_fingerprint_idx ON ocean_enrich.call (fingerprint);
-- The queue in the order of sending, and what else is not settled.  Not a partial
-- index: its predicate would be prepared anew for each row, for the reason above.
CREATE INDEX call_state_idx ON ocean_enrich.call (state, priority, next_attempt_at, call_id);
-- Requests are sent in the order of the rows, so days lie together.  Ranges are so
-- large that a long queue, put in at once, does not ask for too many summaries.
CREATE INDEX call_sent_at_idx ON ocean_enrich.call
	USING brin (sent_at) WITH (pages_per_range = 128, autosummarize = on);
-- Likewise those whose time is over.
CREATE INDEX call_answered_at_idx ON ocean_enrich.call
	USING brin (answered_at) WITH (pages_per_range = 128, autosummarize = on);

COMMENT ON TABLE ocean_enrich.call IS
	'one row for every request that was queued or sent to the API';
COMMENT ON SEQUENCE ocean_enrich.call_call_id_seq IS 'numbers the rows of ocean_enrich.call';
COMMENT ON COLUMN ocean_enrich.call.call_id IS 'number of the call';
COMMENT ON COLUMN ocean_enrich.call.state IS
	'queued: waits to be sent; sent: on the wire; answered: 200, paid; refused: the API said no; failed: certainly not paid; unknown: may have been paid; cancelled: removed from the queue';
COMMENT ON COLUMN ocean_enrich.call.role IS 'role that made the call';
COMMENT ON COLUMN ocean_enrich.call.endpoint IS 'endpoint of the API that is called, such as person';
COMMENT ON COLUMN ocean_enrich.call.account IS 'account that is charged, a digest of API URL and token; NULL until the call is first sent';
COMMENT ON COLUMN ocean_enrich.call.fingerprint IS
	'what ocean_enrich.fingerprint() gives: the same for equal requests; empty: erased';
COMMENT ON COLUMN ocean_enrich.call.request IS
	'the normalised request, as it was sent; byWebhook stands for the URL in ocean_enrich.webhook_url';
COMMENT ON COLUMN ocean_enrich.call.reveals_in_answer IS
	'what the request asks to be revealed in the answer: email, phone; NULL if nothing';
COMMENT ON COLUMN ocean_enrich.call.reveals_by_webhook IS
	'what the request asks to be revealed by webhook: email, phone; NULL if nothing';
COMMENT ON COLUMN ocean_enrich.call.status IS 'HTTP status of the answer';
COMMENT ON COLUMN ocean_enrich.call.detail IS 'what the API or the network said about a request without a usable answer';
COMMENT ON COLUMN ocean_enrich.call.answer IS 'the answer, such as the enriched person, as it came';
COMMENT ON COLUMN ocean_enrich.call.raw IS 'body of an answer that cannot be stored as jsonb, or of a 422';
COMMENT ON COLUMN ocean_enrich.call.raw_truncated IS 'true if the body was longer than what is kept of it';
COMMENT ON COLUMN ocean_enrich.call.credits IS 'cost of the answer';
COMMENT ON COLUMN ocean_enrich.call.reserved IS
	'credits that count as spent while it is unknown what the call cost: what it can cost by the settings with which it was sent';
COMMENT ON COLUMN ocean_enrich.call.attempts IS 'how often the call was sent';
COMMENT ON COLUMN ocean_enrich.call.requested_at IS 'when a session made the call';
COMMENT ON COLUMN ocean_enrich.call.sent_at IS 'when the call was last sent';
COMMENT ON COLUMN ocean_enrich.call.answered_at IS 'when the call ended, with or without an answer';
COMMENT ON COLUMN ocean_enrich.call.next_attempt_at IS
	'queued: when the call is due, infinity if it waits for a decision; otherwise: when the API allows the next request after a refusal';
COMMENT ON COLUMN ocean_enrich.call.waits_for IS
	'why a queued call was put back: gathering: the API gathers data; retry: it could not be processed; limit, budget: credits; call: an equal call elsewhere; decision: about an equal call';
COMMENT ON COLUMN ocean_enrich.call.resolution IS 'decision about a request whose outcome was unknown';
COMMENT ON COLUMN ocean_enrich.call.resolved_by IS 'role that made the decision';
COMMENT ON COLUMN ocean_enrich.call.resolved_at IS 'when the decision was made';
COMMENT ON COLUMN ocean_enrich.call.priority IS 'queued calls with the highest priority go first';
COMMENT ON COLUMN ocean_enrich.call.background IS 'true if the call came through ocean_enrich.submit()';
COMMENT ON COLUMN ocean_enrich.call.postponed IS 'how often the call was requeued, other than after a 201 answer';
COMMENT ON COLUMN ocean_enrich.call.gathered IS 'how often the call was requeued after a 201 answer';
COMMENT ON COLUMN ocean_enrich.call.earlier_requests IS
	'requests before the last one, on the day of sent_at, that count for the daily limit';
COMMENT ON COLUMN ocean_enrich.call.reused_from IS 'earlier equal call that answered this one at no cost';
COMMENT ON COLUMN ocean_enrich.call.sync_id IS 'sync that made the call';
COMMENT ON COLUMN ocean_enrich.call.database IS
	'database in which the call was queued or sent; only that database continues it';

-- A dump carries the receipts.  What is queued is not sent twice, by the
-- server it comes from and by the one it is restored on.
SELECT pg_catalog.pg_extension_config_dump('ocean_enrich.call', 'WHERE state <> ''queued''');
SELECT pg_catalog.pg_extension_config_dump('ocean_enrich.call_call_id_seq', '');

/*
 * The length of the queue, without counting it: a transaction that puts rows in or
 * takes them out adds a row here, and the worker keeps one row for each day, into
 * which it folds the others.
 */
CREATE TABLE ocean_enrich.queue_tally (
	day       date NOT NULL,
	folded    boolean NOT NULL DEFAULT false,
	waiting   bigint NOT NULL DEFAULT 0,
	answered  bigint NOT NULL DEFAULT 0,
	reused    bigint NOT NULL DEFAULT 0,
	refused   bigint NOT NULL DEFAULT 0,
	failed    bigint NOT NULL DEFAULT 0,
	unknown   bigint NOT NULL DEFAULT 0,
	cancelled bigint NOT NULL DEFAULT 0,
	credits   numeric NOT NULL DEFAULT 0
);
-- Without a key its rows could not be changed in a database that publishes all tables.
ALTER TABLE ocean_enrich.queue_tally REPLICA IDENTITY FULL;
COMMENT ON TABLE ocean_enrich.queue_tally IS
	'counts that ocean_enrich.queue_status adds up, maintained by the worker';
COMMENT ON COLUMN ocean_enrich.queue_tally.day IS 'the day, UTC';
COMMENT ON COLUMN ocean_enrich.queue_tally.folded IS 'true for the worker''s row of the day';
COMMENT ON COLUMN ocean_enrich.queue_tally.waiting IS
	'change of the number of calls in the queue; the sum over all rows is its length';
COMMENT ON COLUMN ocean_enrich.queue_tally.answered IS 'calls that got an answer and were paid for';
COMMENT ON COLUMN ocean_enrich.queue_tally.reused IS 'calls that an earlier equal call answered';
COMMENT ON COLUMN ocean_enrich.queue_tally.refused IS 'calls that the API refused';
COMMENT ON COLUMN ocean_enrich.queue_tally.failed IS 'calls that were certainly not processed';
COMMENT ON COLUMN ocean_enrich.queue_tally.unknown IS 'calls that ended without a known outcome';
COMMENT ON COLUMN ocean_enrich.queue_tally.cancelled IS 'calls that were removed from the queue';
COMMENT ON COLUMN ocean_enrich.queue_tally.credits IS 'cost of the answers';

-- Budgets.  What is spent stands in the ledger alone.

CREATE TYPE ocean_enrich.period AS ENUM ('day', 'week', 'month');
COMMENT ON TYPE ocean_enrich.period IS 'a calendar period in UTC; weeks begin on Monday';

CREATE TABLE ocean_enrich.budget (
	role         name NOT NULL,
	period       ocean_enrich.period NOT NULL,
	credit_limit numeric NOT NULL CHECK (credit_limit BETWEEN 0 AND 1000000000),
	PRIMARY KEY (role, period)
);
COMMENT ON TABLE ocean_enrich.budget IS 'credits that a role may spend in a calendar period';
COMMENT ON COLUMN ocean_enrich.budget.role IS 'name of the role that makes the calls, as recorded in the ledger';
COMMENT ON COLUMN ocean_enrich.budget.period IS 'the calendar period, in UTC';
COMMENT ON COLUMN ocean_enrich.budget.credit_limit IS 'credits for each such period; 0 means none';

CREATE FUNCTION ocean_enrich.budget_changed() RETURNS trigger
	AS 'MODULE_PATHNAME', 'ocean_enrich_budget_changed'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION ocean_enrich.budget_changed() IS
	'notifies the worker of changed budgets at commit; warns about roles that do not exist';

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON ocean_enrich.budget
	FOR EACH STATEMENT EXECUTE FUNCTION ocean_enrich.budget_changed();
CREATE TRIGGER role_exists AFTER INSERT OR UPDATE ON ocean_enrich.budget
	FOR EACH ROW EXECUTE FUNCTION ocean_enrich.budget_changed();
-- Logical replication, too, has to tell the worker.
ALTER TABLE ocean_enrich.budget ENABLE ALWAYS TRIGGER changed;

CREATE FUNCTION ocean_enrich.spending_changed() RETURNS boolean
	AS 'MODULE_PATHNAME', 'ocean_enrich_spending_changed'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION ocean_enrich.spending_changed() IS
	'has the worker add up again what roles have spent';

SELECT pg_catalog.pg_extension_config_dump('ocean_enrich.budget', '');

/*
 * What is revealed after its answer costs the account and the role of the call
 * that asked.  The ledger has what was known with the answer, and this table the
 * rest, so that limits and budgets need not look for it in each payload.
 * Each merge adds a row, as with the tally of the queue.
 */
CREATE TABLE ocean_enrich.reveal_cost (
	day     date NOT NULL,
	role    name NOT NULL,
	account text,
	credits numeric NOT NULL
);
CREATE INDEX reveal_cost_day_idx ON ocean_enrich.reveal_cost (day);
ALTER TABLE ocean_enrich.reveal_cost REPLICA IDENTITY FULL;
COMMENT ON TABLE ocean_enrich.reveal_cost IS
	'cost of the e-mail addresses and phone numbers that came by webhook; the rows of a day add up';
COMMENT ON COLUMN ocean_enrich.reveal_cost.day IS 'day on which they were merged into a call, UTC';
COMMENT ON COLUMN ocean_enrich.reveal_cost.role IS 'role that made the call';
COMMENT ON COLUMN ocean_enrich.reveal_cost.account IS 'account that is charged';
COMMENT ON COLUMN ocean_enrich.reveal_cost.credits IS 'cost in credits';
SELECT pg_catalog.pg_extension_config_dump('ocean_enrich.reveal_cost', '');

CREATE FUNCTION ocean_enrich.reveals_counted() RETURNS boolean
	AS 'MODULE_PATHNAME', 'ocean_enrich_reveals_counted'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION ocean_enrich.reveals_counted() IS
	'notifies the worker of new rows in ocean_enrich.reveal_cost at commit';

-- One call

CREATE FUNCTION ocean_enrich.support(internal) RETURNS internal
	AS 'MODULE_PATHNAME', 'ocean_enrich_support'
	LANGUAGE C STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ocean_enrich.support(internal) IS
	'planner support function that marks the functions whose requests can be sent ahead';

CREATE FUNCTION @extschema@.ocean_enrich_person(request jsonb) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'ocean_enrich_person'
	LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED COST 10000
	SUPPORT ocean_enrich.support;
COMMENT ON FUNCTION @extschema@.ocean_enrich_person(jsonb) IS
	'enriches a person through the Ocean.io API; costs credits';

/*
 * The same with settings as arguments, since a SET outlives its client where a pooler
 * shares the connection.  Each has one that must be given: with defaults for all of
 * them, a call with the request alone would be ambiguous.  Not strict: NULL means the
 * setting.
 */
CREATE FUNCTION @extschema@.ocean_enrich_person(request jsonb, not_found text, reuse_for interval DEFAULT NULL)
	RETURNS jsonb
	AS 'MODULE_PATHNAME', 'ocean_enrich_person'
	LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000
	SUPPORT ocean_enrich.support;
COMMENT ON FUNCTION @extschema@.ocean_enrich_person(jsonb, text, interval) IS
	'enriches a person, with settings as arguments; costs credits';

CREATE FUNCTION @extschema@.ocean_enrich_person(request jsonb, reuse_for interval) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'ocean_enrich_person'
	LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000
	SUPPORT ocean_enrich.support;
COMMENT ON FUNCTION @extschema@.ocean_enrich_person(jsonb, interval) IS
	'enriches a person, with a setting as argument; costs credits';

CREATE TYPE @extschema@.ocean_enrich_result AS (
	answer        jsonb,
	status        integer,
	error_code    text,
	error_message text,
	credits       numeric,
	reused        boolean,
	call_id       bigint
);
COMMENT ON TYPE @extschema@.ocean_enrich_result IS 'result of one call: an answer, or an error as a value';

CREATE FUNCTION @extschema@.ocean_try_enrich_person(request jsonb) RETURNS @extschema@.ocean_enrich_result
	AS 'MODULE_PATHNAME', 'ocean_try_enrich_person'
	LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED COST 10000
	SUPPORT ocean_enrich.support;
COMMENT ON FUNCTION @extschema@.ocean_try_enrich_person(jsonb) IS
	'enriches a person; errors of the API and the network are returned as a value, not raised';

CREATE FUNCTION @extschema@.ocean_try_enrich_person(request jsonb, reuse_for interval)
	RETURNS @extschema@.ocean_enrich_result
	AS 'MODULE_PATHNAME', 'ocean_try_enrich_person'
	LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000
	SUPPORT ocean_enrich.support;
COMMENT ON FUNCTION @extschema@.ocean_try_enrich_person(jsonb, interval) IS
	'enriches a person, with a setting as argument; errors are returned as a value, not raised';

CREATE FUNCTION @extschema@.ocean_person_request(
	id                             text DEFAULT NULL,
	name                           text DEFAULT NULL,
	first_name                     text DEFAULT NULL,
	last_name                      text DEFAULT NULL,
	job_title                      text DEFAULT NULL,
	email                          text DEFAULT NULL,
	phone                          text DEFAULT NULL,
	facebook                       text DEFAULT NULL,
	twitter                        text DEFAULT NULL,
	linkedin                       text DEFAULT NULL,
	country                        text DEFAULT NULL,
	company_name                   text DEFAULT NULL,
	company_registration_number    text DEFAULT NULL,
	company_email                  text DEFAULT NULL,
	company_phone                  text DEFAULT NULL,
	company_country_code           text DEFAULT NULL,
	company_state                  text DEFAULT NULL,
	company_city                   text DEFAULT NULL,
	company_street_address         text DEFAULT NULL,
	company_postal_code            text DEFAULT NULL,
	company_address                text DEFAULT NULL,
	company_facebook               text DEFAULT NULL,
	company_twitter                text DEFAULT NULL,
	company_linkedin               text DEFAULT NULL,
	company_instagram              text DEFAULT NULL,
	company_xing                   text DEFAULT NULL,
	company_domain                 text DEFAULT NULL,
	company_youtube                text DEFAULT NULL,
	reveal_emails                  boolean DEFAULT NULL,
	reveal_emails_webhook_url      text DEFAULT NULL,
	reveal_emails_by_webhook       boolean DEFAULT NULL,
	reveal_phones                  boolean DEFAULT NULL,
	reveal_phones_webhook_url      text DEFAULT NULL,
	reveal_phones_by_webhook       boolean DEFAULT NULL
) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'ocean_person_request'
	-- Immutable as PostgreSQL's own functions are whose results depend on a setting,
	-- such as bytea_output: a generated column may keep a request.
	LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.ocean_person_request IS
	'builds a request from columns, leaving out those that are NULL, blank or a placeholder; NULL if nothing identifies the person';

CREATE FUNCTION ocean_enrich.fingerprint(request jsonb, endpoint text DEFAULT 'person') RETURNS bytea
	AS 'MODULE_PATHNAME', 'ocean_enrich_fingerprint'
	LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ocean_enrich.fingerprint(jsonb, text) IS
	'the same for equal requests, of which only the first is paid for; NULL for what is no request';

-- The answer as columns

CREATE TYPE @extschema@.ocean_person AS (
	id                      text,
	domain                  text,
	name                    text,
	first_name              text,
	last_name               text,
	country                 text,
	state                   text,
	location                text,
	linkedin_url            text,
	seniorities             text[],
	departments             text[],
	photo                   text,
	job_title               text,
	job_title_english       text,
	current_job_description text,
	experiences             jsonb,
	summary                 text,
	skills                  text[],
	phone_numbers           text[],
	phone_status            text,
	email_address           text,
	email_status            text,
	headline                text,
	inferred_emails         jsonb,
	connections_count       integer,
	followers_count         integer,
	updated_at              text,
	credits_used            numeric
);
COMMENT ON TYPE @extschema@.ocean_person IS 'an enriched person as columns';

CREATE FUNCTION @extschema@.ocean_person(enriched jsonb) RETURNS @extschema@.ocean_person
	AS 'MODULE_PATHNAME', 'ocean_person'
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.ocean_person(jsonb) IS 'an enriched person as columns; missing values are NULL';

CREATE FUNCTION @extschema@.ocean_person_experiences(
	enriched                    jsonb,
	OUT ordinality              integer,
	OUT date_from               date,
	OUT date_to                 date,
	OUT description             text,
	OUT domain                  text,
	OUT job_title               text,
	OUT linkedin_company_handle text
) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ocean_person_experiences'
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE ROWS 10;
COMMENT ON FUNCTION @extschema@.ocean_person_experiences(jsonb) IS
	'the experiences of an enriched person as rows, in the order of the API';

-- For administrators

CREATE FUNCTION ocean_enrich.account() RETURNS text
	AS 'MODULE_PATHNAME', 'ocean_enrich_account'
	LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION ocean_enrich.account() IS
	'account that a call would be charged to now: a digest of API URL and token';

CREATE FUNCTION ocean_enrich.in_flight(
	OUT pid          integer,
	OUT role         oid,
	OUT state        text,
	OUT call_id      bigint,
	OUT submitted_at timestamptz
) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ocean_enrich_in_flight'
	LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 10;
COMMENT ON FUNCTION ocean_enrich.in_flight() IS
	'calls that sessions of this database are waiting for, from shared memory';

CREATE VIEW ocean_enrich.calls_in_flight AS
	SELECT f.pid, r.rolname AS role, f.state, f.call_id, f.submitted_at,
		clock_timestamp() - f.submitted_at AS age
	FROM ocean_enrich.in_flight() AS f LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = f.role;
COMMENT ON VIEW ocean_enrich.calls_in_flight IS
	'calls that sessions of this database are waiting for, and for how long';

CREATE FUNCTION ocean_enrich.statements(
	OUT pid           integer,
	OUT role          oid,
	OUT query_start   timestamptz,
	OUT first_call_at timestamptz,
	OUT waiting_since timestamptz,
	OUT calls         bigint,
	OUT failed        bigint,
	OUT reused        bigint,
	OUT credits       numeric
) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'ocean_enrich_statements'
	LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 10;
COMMENT ON FUNCTION ocean_enrich.statements() IS
	'progress of the enriching statements of this database, from shared memory';

CREATE VIEW ocean_enrich.progress AS
	SELECT s.pid, r.rolname AS role, s.query_start, s.calls, s.failed, s.reused,
		coalesce(f.in_flight, 0) AS in_flight, coalesce(f.ready, 0) AS ready,
		trim_scale(s.credits) AS credits,
		round(s.calls / nullif(extract(epoch FROM clock_timestamp() - s.first_call_at), 0), 1)
			AS calls_per_second,
		clock_timestamp() - s.waiting_since AS waiting
	FROM ocean_enrich.statements() AS s
		LEFT JOIN (
			SELECT pid, count(*) FILTER (WHERE state IN ('waiting', 'on the wire')) AS in_flight,
				count(*) FILTER (WHERE state = 'done') AS ready
			FROM ocean_enrich.in_flight() GROUP BY pid
		) AS f ON f.pid = s.pid
		LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = s.pid
		LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = s.role
	-- In a transaction that goes on, the statement may be over.  Those who may not
	-- see what others do have to wait for the end of that.
	WHERE a.query_start IS NULL OR (a.state = 'active' AND a.query_start = s.query_start);
COMMENT ON VIEW ocean_enrich.progress IS
	'progress and speed of each running statement that enriches';

CREATE VIEW ocean_enrich.calls_by_state AS
	SELECT state, count(*) AS calls, coalesce(sum(credits), 0) AS credits,
		min(requested_at) AS oldest, max(requested_at) AS newest
	FROM ocean_enrich.call GROUP BY state;
COMMENT ON VIEW ocean_enrich.calls_by_state IS 'number and cost of the calls in each state';

CREATE VIEW ocean_enrich.unknown_calls AS
	SELECT call_id, role, account, status, detail, attempts, sent_at, answered_at,
		clock_timestamp() - sent_at AS age, resolution, resolved_by, resolved_at
	FROM ocean_enrich.call WHERE state = 'unknown';
COMMENT ON VIEW ocean_enrich.unknown_calls IS
	'requests that may have been paid for without an answer; see ocean_enrich.resolve()';

CREATE VIEW ocean_enrich.copied_calls AS
	SELECT call_id, role, state, database, priority, requested_at, sent_at, next_attempt_at
	FROM ocean_enrich.call
	WHERE state IN ('queued', 'sent') AND database <> ocean_enrich.database_identity();
COMMENT ON VIEW ocean_enrich.copied_calls IS
	'copies of calls that are queued or on the wire in another database, and are not sent from this one';

CREATE VIEW ocean_enrich.receipts WITH (security_barrier) AS
	SELECT call_id, role, state, status, credits, attempts, requested_at, sent_at, answered_at
	FROM ocean_enrich.call AS c
	-- Not by name, which is an error once the role is dropped.
	WHERE EXISTS (SELECT FROM pg_catalog.pg_roles AS r
		WHERE r.rolname = c.role AND pg_catalog.pg_has_role(r.oid, 'MEMBER'));
COMMENT ON VIEW ocean_enrich.receipts IS
	'calls of the current role and of the roles it is a member of, without personal data';

-- Where the library is not loaded yet, current_setting() would not know them.
CREATE FUNCTION ocean_enrich.setting(name text) RETURNS text
	AS 'MODULE_PATHNAME', 'ocean_enrich_setting'
	LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ocean_enrich.setting(text) IS
	'the current value of the setting ocean_enrich.<name>';

CREATE VIEW ocean_enrich.limits AS
	WITH setting AS (
		SELECT ocean_enrich.setting('rate_limit')::numeric AS rate_limit,
			ocean_enrich.setting('daily_limit')::numeric AS daily_limit,
			ocean_enrich.setting('credit_limit')::numeric AS credit_limit,
			ocean_enrich.setting('max_concurrency')::numeric AS max_concurrency,
			date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS day,
			ocean_enrich.database_identity() AS database
	), revealed AS (
		SELECT account, sum(credits) AS credits FROM ocean_enrich.reveal_cost
		WHERE day = (now() AT TIME ZONE 'UTC')::date GROUP BY account
	), called AS (
		SELECT c.account,
			count(*) FILTER (WHERE c.state NOT IN ('queued', 'failed', 'cancelled') AND c.reused_from IS NULL
					AND c.sent_at >= s.day)
				+ coalesce(sum(c.earlier_requests) FILTER (WHERE c.sent_at >= s.day), 0) AS day_calls,
			coalesce(sum(coalesce(c.credits, c.reserved))
				FILTER (WHERE c.state IN ('sent', 'answered', 'unknown') AND c.sent_at >= s.day), 0) AS day_credits,
			count(*) FILTER (WHERE c.sent_at > now() - interval '1 minute') AS minute_calls,
			count(*) FILTER (WHERE c.state = 'sent' AND c.database = s.database) AS on_the_wire,
			min(c.sent_at) FILTER (WHERE c.sent_at > now() - interval '1 minute') AS minute_start,
			max(c.next_attempt_at) FILTER (WHERE c.status = 429 AND c.state = 'failed'
				AND c.next_attempt_at > now()) AS paused_until
		FROM setting AS s JOIN ocean_enrich.call AS c ON c.sent_at >= least(s.day, now() - interval '1 minute')
		GROUP BY c.account
	), usage AS (
		SELECT coalesce(c.account, r.account) AS account, s.rate_limit, s.daily_limit, s.credit_limit,
			s.max_concurrency, s.day, coalesce(c.day_calls, 0) AS day_calls,
			coalesce(c.day_credits, 0) + coalesce(r.credits, 0) AS day_credits,
			coalesce(c.minute_calls, 0) AS minute_calls, coalesce(c.on_the_wire, 0) AS on_the_wire,
			c.minute_start, c.paused_until
		FROM setting AS s CROSS JOIN (called AS c FULL JOIN revealed AS r ON r.account = c.account)
	)
	SELECT u.account, l.name, nullif(l.allowed, 0) AS allowed, l.used,
		CASE WHEN l.allowed > 0 THEN greatest(l.allowed - l.used, 0) END AS remaining,
		l.frees_at, u.paused_until
	FROM usage AS u CROSS JOIN LATERAL (VALUES
		('max_concurrency', u.max_concurrency, u.on_the_wire, NULL::timestamptz),
		('rate_limit', u.rate_limit, u.minute_calls, u.minute_start + interval '1 minute'),
		('daily_limit', u.daily_limit, u.day_calls, u.day + interval '1 day'),
		('credit_limit', u.credit_limit, u.day_credits, u.day + interval '1 day')
	) AS l (name, allowed, used, frees_at);
COMMENT ON VIEW ocean_enrich.limits IS
	'for each account used today: the limits by the current settings, and how much of them is left';

CREATE FUNCTION ocean_enrich.wake() RETURNS void
	AS 'MODULE_PATHNAME', 'ocean_enrich_wake'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION ocean_enrich.wake() IS
	'has the worker look at the whole queue and at new decisions when the transaction commits';

CREATE FUNCTION ocean_enrich.end_pause() RETURNS void
	AS 'MODULE_PATHNAME', 'ocean_enrich_end_pause'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION ocean_enrich.end_pause() IS
	'ends the pauses that the API asked for and those after failures, when the transaction commits';

CREATE VIEW ocean_enrich.budget_status WITH (security_barrier) AS
	SELECT b.role, b.period, b.credit_limit, s.spent, s.reserved,
		greatest(b.credit_limit - s.spent - s.reserved, 0) AS remaining, p.resets_at
	FROM ocean_enrich.budget AS b
	CROSS JOIN LATERAL (
		SELECT start AT TIME ZONE 'UTC' AS starts_at,
			(start + ('1 ' || b.period::text)::interval) AT TIME ZONE 'UTC' AS resets_at
		FROM date_trunc(b.period::text, now() AT TIME ZONE 'UTC') AS start
	) AS p
	CROSS JOIN LATERAL (
		SELECT coalesce(sum(c.credits), 0)
				+ coalesce((SELECT sum(r.credits) FROM ocean_enrich.reveal_cost AS r
					WHERE r.role = b.role AND r.day >= (p.starts_at AT TIME ZONE 'UTC')::date), 0) AS spent,
			coalesce(sum(c.reserved)
				FILTER (WHERE c.credits IS NULL AND c.state IN ('sent', 'unknown')), 0) AS reserved
		FROM ocean_enrich.call AS c WHERE c.role = b.role AND c.sent_at >= p.starts_at
	) AS s
	WHERE has_table_privilege('ocean_enrich.budget'::regclass, 'SELECT')
		OR EXISTS (SELECT FROM pg_catalog.pg_roles AS r
			WHERE r.rolname = b.role AND pg_catalog.pg_has_role(r.oid, 'MEMBER'));
COMMENT ON VIEW ocean_enrich.budget_status IS
	'how much is spent and left of the budgets of the current role and of the roles it is a member of; of all budgets, for roles that may read them';

CREATE FUNCTION ocean_enrich.estimate(
	query                text,
	OUT requests         bigint,
	OUT to_send          bigint,
	OUT repeated         bigint,
	OUT known            bigint,
	OUT outcome_unknown  bigint,
	OUT invalid          bigint,
	OUT allowed          bigint,
	OUT credits_at_most  numeric,
	OUT seconds_at_least numeric
) RETURNS record
	AS 'MODULE_PATHNAME', 'ocean_enrich_estimate'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE COST 10000;
COMMENT ON FUNCTION ocean_enrich.estimate(text) IS
	'number of requests and cost of a statement, which is run without sending anything and rolled back';

CREATE DOMAIN ocean_enrich.credits AS numeric CHECK (VALUE >= 0 AND VALUE < 'Infinity');
COMMENT ON DOMAIN ocean_enrich.credits IS 'cost of a call';

CREATE FUNCTION ocean_enrich.resolve(call_id bigint, decision text, credits numeric DEFAULT NULL)
	RETURNS boolean
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	BEGIN ATOMIC
		SELECT ocean_enrich.wake();
		UPDATE ocean_enrich.call AS c
		SET resolution = resolve.decision::ocean_enrich.resolution,
			credits = coalesce(resolve.credits::ocean_enrich.credits, c.credits),
			resolved_by = session_user, resolved_at = now(),
			-- The database in which it is decided continues the call.
			database = ocean_enrich.database_identity()
		WHERE c.call_id = resolve.call_id AND c.state = 'unknown' AND resolve.decision IS NOT NULL
		RETURNING ocean_enrich.spending_changed();
	END;
COMMENT ON FUNCTION ocean_enrich.resolve(bigint, text, numeric) IS
	'decides about a call whose outcome is unknown: ''pay again'' or ''give up''; with the credits that it cost, if known';

-- The queue

CREATE FUNCTION ocean_enrich.submit(
	request    jsonb,
	priority   integer DEFAULT 0,
	not_before timestamptz DEFAULT NULL,
	endpoint   text DEFAULT 'person'
) RETURNS bigint
	AS 'MODULE_PATHNAME', 'ocean_enrich_submit'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100;
COMMENT ON FUNCTION ocean_enrich.submit(jsonb, integer, timestamptz, text) IS
	'queues a request, to be sent after the transaction commits; returns its call_id';

CREATE FUNCTION ocean_enrich.try_submit(
	request    jsonb,
	priority   integer DEFAULT 0,
	not_before timestamptz DEFAULT NULL,
	endpoint   text DEFAULT 'person',
	OUT call_id       bigint,
	OUT error_code    text,
	OUT error_message text
)
	AS 'MODULE_PATHNAME', 'ocean_enrich_try_submit'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100;
COMMENT ON FUNCTION ocean_enrich.try_submit(jsonb, integer, timestamptz, text) IS
	'queues a request; an error in the request is returned as a value, not raised';

CREATE FUNCTION ocean_enrich.request_error(request jsonb, endpoint text DEFAULT 'person') RETURNS text
	AS 'MODULE_PATHNAME', 'ocean_enrich_request_error'
	LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION ocean_enrich.request_error(jsonb, text) IS
	'the error for which a request would not be sent; NULL if there is none';

CREATE FUNCTION ocean_enrich.cancel(call_id bigint) RETURNS boolean
	AS 'MODULE_PATHNAME', 'ocean_enrich_cancel'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION ocean_enrich.cancel(bigint) IS
	'removes a call from the queue; false if it was already sent or is not there';

CREATE FUNCTION ocean_enrich.retry(call_id bigint) RETURNS boolean
	AS 'MODULE_PATHNAME', 'ocean_enrich_retry'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION ocean_enrich.retry(bigint) IS
	'requeues a call that was refused, failed or cancelled';

CREATE FUNCTION ocean_enrich.wait(call_ids bigint[], timeout interval DEFAULT NULL) RETURNS boolean
	AS 'MODULE_PATHNAME', 'ocean_enrich_wait'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION ocean_enrich.wait(bigint[], interval) IS
	'waits until these calls have ended; false if the timeout passes first';

CREATE FUNCTION ocean_enrich.balance() RETURNS jsonb
	AS 'MODULE_PATHNAME', 'ocean_enrich_balance'
	LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION ocean_enrich.balance() IS
	'credits that the account has left, according to the API; costs nothing';

CREATE FUNCTION ocean_enrich.queue_state(
	OUT worker_pid          integer,
	OUT in_flight           integer,
	OUT pause               text,
	OUT paused_until        timestamptz,
	OUT next_due            timestamptz,
	OUT settled_last_minute bigint
)
	AS 'MODULE_PATHNAME', 'ocean_enrich_queue_state'
	LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION ocean_enrich.queue_state() IS
	'how the worker of this database is serving the queue, from shared memory';

CREATE VIEW ocean_enrich.queue_status AS
	WITH tally AS (
		SELECT coalesce(sum(waiting), 0)::bigint AS waiting,
			coalesce(sum(answered) FILTER (WHERE is_today), 0)::bigint AS answered_today,
			coalesce(sum(reused) FILTER (WHERE is_today), 0)::bigint AS reused_today,
			coalesce(sum(refused) FILTER (WHERE is_today), 0)::bigint AS refused_today,
			coalesce(sum(failed) FILTER (WHERE is_today), 0)::bigint AS failed_today,
			coalesce(sum(unknown) FILTER (WHERE is_today), 0)::bigint AS unknown_today,
			coalesce(sum(cancelled) FILTER (WHERE is_today), 0)::bigint AS cancelled_today,
			coalesce(sum(credits) FILTER (WHERE is_today), 0) AS credits_today
		FROM (SELECT *, day = (now() AT TIME ZONE 'UTC')::date AS is_today FROM ocean_enrich.queue_tally) AS t
	), decision AS (
		SELECT count(*) AS to_be_resolved FROM ocean_enrich.call
		WHERE state = 'unknown' AND resolution IS NULL
	)
	SELECT CASE
			WHEN s.worker_pid IS NULL AND t.waiting > 0 THEN 'no worker'
			WHEN s.in_flight > 0 THEN 'sending'
			WHEN t.waiting <= 0 THEN 'idle'
			WHEN s.pause IS NOT NULL THEN 'paused'
			ELSE 'waiting'
		END AS doing,
		s.pause, s.paused_until, s.next_due, t.waiting, s.in_flight,
		t.answered_today, t.reused_today, t.refused_today, t.failed_today, t.unknown_today,
		t.cancelled_today, t.credits_today, d.to_be_resolved, s.settled_last_minute,
		CASE WHEN s.settled_last_minute > 0 AND t.waiting > 0
			THEN greatest(clock_timestamp(), s.paused_until)
				+ least(t.waiting::double precision / s.settled_last_minute, 525600) * interval '1 minute'
		END AS estimated_end,
		s.worker_pid
	FROM tally AS t, decision AS d, ocean_enrich.queue_state() AS s;
COMMENT ON VIEW ocean_enrich.queue_status IS
	'one row: activity, progress, expected end and cost of the queue, and the number of calls that need a decision';

-- Reveals: e-mail addresses and phone numbers that come later, by webhook

CREATE TABLE ocean_enrich.reveal (
	call_id      bigint PRIMARY KEY,
	person_id    text NOT NULL,
	emails       boolean NOT NULL,
	phones       boolean NOT NULL,
	email_status text,
	phone_status text,
	emails_due   boolean NOT NULL DEFAULT true,
	phones_due   boolean NOT NULL DEFAULT true
);
-- How a webhook finds the calls: narrow, and written for such calls only.
CREATE INDEX reveal_person_id_idx ON ocean_enrich.reveal (person_id);
COMMENT ON TABLE ocean_enrich.reveal IS 'answered calls whose e-mail address or phone number comes by webhook';
COMMENT ON COLUMN ocean_enrich.reveal.call_id IS 'row of ocean_enrich.call';
COMMENT ON COLUMN ocean_enrich.reveal.person_id IS 'id of the person, by which webhooks are matched';
COMMENT ON COLUMN ocean_enrich.reveal.emails IS 'true if e-mail addresses were requested with a webhook';
COMMENT ON COLUMN ocean_enrich.reveal.phones IS 'true if phone numbers were requested with a webhook';
COMMENT ON COLUMN ocean_enrich.reveal.email_status IS 'status of the address in the last webhook; NULL if none came';
COMMENT ON COLUMN ocean_enrich.reveal.phone_status IS 'status of the numbers in the last webhook; NULL if none came';
COMMENT ON COLUMN ocean_enrich.reveal.emails_due IS
	'true if the call may still be charged for e-mail addresses: false once they were counted, and for a reused answer';
COMMENT ON COLUMN ocean_enrich.reveal.phones_due IS 'likewise for phone numbers';

CREATE TABLE ocean_enrich.webhook (
	webhook_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	digest      bytea UNIQUE,
	received_at timestamptz NOT NULL DEFAULT now(),
	deliveries  integer NOT NULL DEFAULT 1,
	people      integer NOT NULL,
	credits     numeric,
	stated      numeric,
	call_ids    bigint[] NOT NULL DEFAULT '{}'
);
CREATE INDEX webhook_received_at_idx ON ocean_enrich.webhook (received_at) WHERE digest IS NOT NULL;
COMMENT ON TABLE ocean_enrich.webhook IS 'one row for every payload that was received, without the people in it';
COMMENT ON SEQUENCE ocean_enrich.webhook_webhook_id_seq IS 'numbers the rows of ocean_enrich.webhook';
COMMENT ON COLUMN ocean_enrich.webhook.webhook_id IS 'number of the payload';
COMMENT ON COLUMN ocean_enrich.webhook.digest IS
	'SHA-256 of the payload, by which repetitions are recognized; NULL after a week, or once a person in it was erased';
COMMENT ON COLUMN ocean_enrich.webhook.received_at IS 'when the payload first came';
COMMENT ON COLUMN ocean_enrich.webhook.deliveries IS 'how often the payload came';
COMMENT ON COLUMN ocean_enrich.webhook.people IS 'number of people in the payload';
COMMENT ON COLUMN ocean_enrich.webhook.credits IS
	'cost of the reveals in the payload, for each call that was charged by it';
COMMENT ON COLUMN ocean_enrich.webhook.stated IS
	'cost of one delivery as the payload states it; NULL: it is calculated by credits_per_email and credits_per_phone';
COMMENT ON COLUMN ocean_enrich.webhook.call_ids IS 'calls whose answers the payload changed, or that were charged by it';

CREATE TABLE ocean_enrich.early_reveal (
	webhook_id  bigint NOT NULL,
	nth         integer NOT NULL,
	person_id   text NOT NULL,
	email       jsonb,
	phone       jsonb,
	received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (webhook_id, nth)
);
CREATE INDEX early_reveal_person_id_idx ON ocean_enrich.early_reveal (person_id);
COMMENT ON TABLE ocean_enrich.early_reveal IS
	'data that came by webhook before the answer to its call; kept until that is recorded, or for a week';
COMMENT ON COLUMN ocean_enrich.early_reveal.webhook_id IS 'row of ocean_enrich.webhook';
COMMENT ON COLUMN ocean_enrich.early_reveal.nth IS 'place in the payload';
COMMENT ON COLUMN ocean_enrich.early_reveal.person_id IS 'id of the person';
COMMENT ON COLUMN ocean_enrich.early_reveal.email IS 'address and status';
COMMENT ON COLUMN ocean_enrich.early_reveal.phone IS 'numbers and status';
COMMENT ON COLUMN ocean_enrich.early_reveal.received_at IS 'when the data came';

SELECT pg_catalog.pg_extension_config_dump('ocean_enrich.reveal', '');
SELECT pg_catalog.pg_extension_config_dump('ocean_enrich.webhook', '');
SELECT pg_catalog.pg_extension_config_dump('ocean_enrich.webhook_webhook_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('ocean_enrich.early_reveal', '');

CREATE VIEW ocean_enrich.spending AS
	WITH part AS (
		SELECT (sent_at AT TIME ZONE 'UTC')::date AS day, role, account, state, credits,
			NULL::numeric AS reveal_credits
		FROM ocean_enrich.call WHERE sent_at IS NOT NULL
		UNION ALL
		SELECT day, role, account, NULL, NULL, credits FROM ocean_enrich.reveal_cost
		UNION ALL
		-- Of nobody, as no call waits for it.
		SELECT (received_at AT TIME ZONE 'UTC')::date, NULL, NULL, NULL, NULL, credits
		FROM ocean_enrich.webhook WHERE credits > 0 AND call_ids = '{}'
	)
	SELECT day, role, account,
		count(state) AS calls,
		count(*) FILTER (WHERE state = 'answered') AS answered,
		count(*) FILTER (WHERE state = 'refused') AS refused,
		count(*) FILTER (WHERE state = 'failed') AS failed,
		count(*) FILTER (WHERE state = 'unknown') AS unknown,
		coalesce(sum(credits), 0) AS credits,
		coalesce(sum(reveal_credits), 0) AS reveal_credits
	FROM part GROUP BY day, role, account;
COMMENT ON VIEW ocean_enrich.spending IS
	'calls and credits per day (UTC), role and account, including the cost of later reveals';

CREATE VIEW ocean_enrich.open_reveals AS
	SELECT r.call_id, c.role, c.account, r.emails, r.email_status, r.phones, r.phone_status,
		c.answered_at, clock_timestamp() - c.answered_at AS age
	FROM ocean_enrich.reveal AS r JOIN ocean_enrich.call AS c ON c.call_id = r.call_id
	WHERE r.emails AND coalesce(r.email_status, 'inProgress') = 'inProgress'
		OR r.phones AND coalesce(r.phone_status, 'inProgress') = 'inProgress';
COMMENT ON VIEW ocean_enrich.open_reveals IS
	'calls whose webhook has not come, or not for everything that was requested';

/*
 * What is in a payload.  Documented are: a person; "emails" and "phones", lists
 * of what was found, by personId; "people", a list of people, plain or in a
 * member "person"; "results", which nobody describes: any of these.  Instead of a
 * list there may be an object whose members are the elements, by keys of any kind.
 */
CREATE FUNCTION ocean_enrich.webhook_elements(
	payload        jsonb,
	OUT list       text,
	OUT nth        bigint,
	OUT person_id  text,
	OUT email      jsonb,
	OUT phone      jsonb,
	OUT understood boolean
) RETURNS SETOF record
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE ROWS 1
	BEGIN ATOMIC
		WITH keys AS (
			SELECT ARRAY['emails', 'phones', 'people', 'results'] AS lists
		), body AS (
			SELECT payload AS value, CASE WHEN jsonb_typeof(payload -> 'results') = 'object'
				AND payload -> 'results' ?| keys.lists THEN payload -> 'results' END AS inner_body
			FROM keys
		), list AS (
			SELECT key, value -> key AS elements FROM body, keys, unnest(keys.lists) AS key
			WHERE key <> 'results' OR inner_body IS NULL
			UNION ALL
			SELECT key, inner_body -> key FROM body, keys, unnest(keys.lists) AS key
			UNION ALL
			SELECT 'person', jsonb_build_array(value) FROM body
			WHERE coalesce(nullif(value -> 'id', 'null'), nullif(value -> 'email', 'null'),
				nullif(value -> 'phone', 'null')) IS NOT NULL
		), item AS (
			SELECT list.key, e.nth, e.value, CASE jsonb_typeof(e.value -> 'person') WHEN 'object'
				THEN e.value -> 'person' ELSE e.value END AS person
			FROM list, jsonb_array_elements(CASE
				WHEN jsonb_typeof(elements) = 'array' THEN elements
				WHEN jsonb_typeof(elements) = 'object'
					AND NOT elements ?| ARRAY['id', 'personId', 'person', 'address', 'numbers', 'email', 'phone']
					THEN jsonb_path_query_array(elements, '$.*')
				ELSE jsonb_build_array(elements) END) WITH ORDINALITY AS e (value, nth)
		), found AS (
			SELECT key, nth, value, person,
				coalesce(nullif(person -> 'id', 'null'), nullif(person -> 'personId', 'null'),
					nullif(value -> 'personId', 'null')) AS id,
				CASE WHEN jsonb_typeof(person -> 'email') = 'object' THEN person -> 'email'
					WHEN key = 'emails' OR value ? 'address' AND (key = 'results' OR value ? 'personId')
					THEN value - 'personId' END AS email,
				CASE WHEN jsonb_typeof(person -> 'phone') = 'object' THEN person -> 'phone'
					WHEN key = 'phones' OR value ? 'numbers' AND (key = 'results' OR value ? 'personId')
					THEN value - 'personId' END AS phone
			FROM item WHERE jsonb_typeof(value) = 'object'
		), named AS (
			SELECT *, CASE jsonb_typeof(id) WHEN 'string' THEN nullif(id #>> '{}', '') END AS person_id FROM found
		)
		SELECT n.key, n.nth, n.person_id, n.email, n.phone,
			CASE WHEN n.person_id IS NOT NULL
				THEN coalesce(jsonb_typeof(n.person -> 'email'), 'null') IN ('object', 'null')
					AND coalesce(jsonb_typeof(n.person -> 'phone'), 'null') IN ('object', 'null')
				-- An entry of a batch that says that nobody was found.
				ELSE NOT EXISTS (SELECT FROM jsonb_each(n.value) AS m WHERE jsonb_typeof(m.value) IN ('object', 'array')
					OR m.key IN ('address', 'numbers', 'email', 'phone') AND m.value <> 'null') END
		FROM named AS n
		UNION ALL
		SELECT i.key, i.nth, NULL, NULL, NULL, false FROM item AS i WHERE jsonb_typeof(i.value) NOT IN ('object', 'null');
	END;
COMMENT ON FUNCTION ocean_enrich.webhook_elements(jsonb) IS
	'elements of the payload of a webhook: what each says about whom, and whether that is understood';

CREATE FUNCTION ocean_enrich.webhook_items(
	payload       jsonb,
	OUT person_id text,
	OUT email     jsonb,
	OUT phone     jsonb
) RETURNS SETOF record
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE ROWS 1
	BEGIN ATOMIC
		SELECT e.person_id, e.email, e.phone FROM ocean_enrich.webhook_elements(payload) AS e
		WHERE e.person_id IS NOT NULL AND (e.email IS NOT NULL OR e.phone IS NOT NULL);
	END;
COMMENT ON FUNCTION ocean_enrich.webhook_items(jsonb) IS
	'people in the payload of a webhook, with their e-mail addresses and phone numbers';

/*
 * Two webhooks, for e-mail and for phone, carry the whole person as it was then,
 * and may come late, twice and in any order.  So what is known gives way only to
 * what is at least as good.
 */
CREATE FUNCTION ocean_enrich.contact_rank(contact jsonb) RETURNS integer
	AS 'MODULE_PATHNAME', 'ocean_enrich_contact_rank'
	LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION ocean_enrich.contact_rank(jsonb) IS
	'how good an e-mail address or a phone number is: 0 nothing, 1 in progress, 2 not found, 3 and more found';

CREATE FUNCTION ocean_enrich.better_contact(old jsonb, new jsonb) RETURNS jsonb
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT CASE
			WHEN ocean_enrich.contact_rank(new) = 0
				OR ocean_enrich.contact_rank(new) < ocean_enrich.contact_rank(old) THEN old
			WHEN jsonb_typeof(old) = 'object' THEN old || new
			ELSE new END;
	END;
COMMENT ON FUNCTION ocean_enrich.better_contact(jsonb, jsonb) IS
	'newer of two e-mail addresses or phone numbers, unless it is worse';

CREATE FUNCTION ocean_enrich.revealed_person(person jsonb, email jsonb, phone jsonb) RETURNS jsonb
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT person
			|| CASE WHEN email IS NULL THEN '{}' ELSE jsonb_build_object('email',
				ocean_enrich.better_contact(person -> 'email', email)) END
			|| CASE WHEN phone IS NULL THEN '{}' ELSE jsonb_build_object('phone',
				ocean_enrich.better_contact(person -> 'phone', phone)) END;
	END;
COMMENT ON FUNCTION ocean_enrich.revealed_person(jsonb, jsonb, jsonb) IS
	'a person with the e-mail address and phone number from a webhook';

CREATE FUNCTION ocean_enrich.call_changed(call_id bigint) RETURNS bigint
	AS 'MODULE_PATHNAME', 'ocean_enrich_call_changed'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION ocean_enrich.call_changed(bigint) IS
	'called for every call whose answer was changed later: notifies channel ocean_enrich and has syncs write the new answer';

/*
 * Everything that came goes through the table early_reveal, whether its call is
 * answered already or not: so there is one way, and it can be gone again.  Rows
 * that somebody has locked are left for the next time.
 */
CREATE FUNCTION ocean_enrich.merge_reveals(people text[]) RETURNS bigint
	LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
	BEGIN ATOMIC
		WITH come AS (
			SELECT e.*, w.stated, w.call_ids = '{}' AS is_news FROM ocean_enrich.early_reveal AS e
				JOIN ocean_enrich.webhook AS w ON w.webhook_id = e.webhook_id
			-- An array would be searched from its beginning for each row.
			WHERE e.person_id IN (SELECT unnest(merge_reveals.people))
			FOR UPDATE SKIP LOCKED
		), email AS (
			SELECT DISTINCT ON (person_id) person_id, webhook_id, email AS value FROM come
			WHERE email IS NOT NULL
			ORDER BY person_id, ocean_enrich.contact_rank(email) DESC, webhook_id DESC, nth DESC
		), phone AS (
			SELECT DISTINCT ON (person_id) person_id, webhook_id, phone AS value FROM come
			WHERE phone IS NOT NULL
			ORDER BY person_id, ocean_enrich.contact_rank(phone) DESC, webhook_id DESC, nth DESC
		), expected AS (
			SELECT r.* FROM ocean_enrich.reveal AS r JOIN ocean_enrich.call AS c ON c.call_id = r.call_id
			WHERE r.person_id IN (SELECT person_id FROM come) AND c.answer IS NOT NULL
			ORDER BY r.call_id FOR NO KEY UPDATE SKIP LOCKED
		), news AS (
			SELECT x.call_id, x.person_id, email.value AS email, phone.value AS phone,
				email.webhook_id AS email_webhook, phone.webhook_id AS phone_webhook,
				x.emails_due AND ocean_enrich.contact_rank(email.value) >= 4 AS charges_email,
				x.phones_due AND ocean_enrich.contact_rank(phone.value) >= 4 AS charges_phone
			FROM expected AS x LEFT JOIN email USING (person_id) LEFT JOIN phone USING (person_id)
		), charged AS (
			-- The API sends a webhook for each call that is paid for, and equal ones if these are
			-- about the same person: each counts for one call.
			SELECT DISTINCT ON (person_id) call_id, person_id,
				CASE WHEN charges_email THEN email_webhook END AS email_webhook,
				CASE WHEN charges_phone THEN phone_webhook END AS phone_webhook
			FROM news WHERE charges_email OR charges_phone ORDER BY person_id, call_id
		), changed AS (
			UPDATE ocean_enrich.call AS c SET answer = ocean_enrich.revealed_person(c.answer, n.email, n.phone)
			FROM news AS n
			WHERE c.call_id = n.call_id
				AND ocean_enrich.revealed_person(c.answer, n.email, n.phone) IS DISTINCT FROM c.answer
			RETURNING c.call_id, n.email_webhook, n.phone_webhook
		), noted AS (
			UPDATE ocean_enrich.reveal AS r SET
				email_status = ocean_enrich.better_contact(jsonb_build_object('status', r.email_status,
					'address', CASE WHEN r.email_status NOT IN ('inProgress', 'notFound') THEN 'known' END),
					n.email) ->> 'status',
				phone_status = ocean_enrich.better_contact(jsonb_build_object('status', r.phone_status,
					'numbers', CASE WHEN r.phone_status NOT IN ('inProgress', 'notFound') THEN '{known}'::text[] END),
					n.phone) ->> 'status',
				emails_due = r.emails_due AND c.email_webhook IS NULL,
				phones_due = r.phones_due AND c.phone_webhook IS NULL
			FROM news AS n LEFT JOIN charged AS c USING (call_id) WHERE r.call_id = n.call_id
		), cost AS (
			SELECT webhook_id, sum(credits) AS credits, min(charged) AS charged,
				array_agg(DISTINCT call_id) FILTER (WHERE call_id IS NOT NULL) AS call_ids
			FROM (
				SELECT email_webhook AS webhook_id, call_id, call_id AS charged,
					ocean_enrich.setting('credits_per_email')::numeric AS credits
				FROM charged WHERE email_webhook IS NOT NULL
				UNION ALL
				SELECT phone_webhook, call_id, call_id, ocean_enrich.setting('credits_per_phone')::numeric
				FROM charged WHERE phone_webhook IS NOT NULL
				UNION ALL
				-- Others that say the same are of the same call, and state their own cost.
				SELECT come.webhook_id, charged.call_id, charged.call_id, NULL FROM come JOIN charged USING (person_id)
				WHERE come.stated IS NOT NULL
					AND (charged.email_webhook IS NOT NULL AND ocean_enrich.contact_rank(come.email) >= 4
						OR charged.phone_webhook IS NOT NULL AND ocean_enrich.contact_rank(come.phone) >= 4)
				UNION ALL
				SELECT email_webhook, call_id, NULL, NULL FROM changed
				UNION ALL
				SELECT phone_webhook, call_id, NULL, NULL FROM changed
				UNION ALL
				-- Paid, even if another payload has said the same.
				SELECT come.webhook_id, changed.call_id, NULL, NULL
				FROM come JOIN news USING (person_id) JOIN changed USING (call_id) WHERE come.stated IS NOT NULL
			) AS part
			WHERE webhook_id IS NOT NULL GROUP BY webhook_id
		), charge AS (
			-- What a payload states counts when it comes, and again when an equal one is for another call.
			SELECT cost.webhook_id, coalesce(cost.charged, cost.call_ids[1]) AS call_id,
				coalesce(w.stated, cost.credits) AS credits, w.is_news
			FROM cost JOIN (SELECT DISTINCT webhook_id, stated, is_news FROM come) AS w USING (webhook_id)
			WHERE cost.charged IS NOT NULL OR w.stated IS NOT NULL AND w.is_news
		), receipt AS (
			UPDATE ocean_enrich.webhook AS w SET
				credits = CASE WHEN charge.credits IS NULL OR w.stated IS NOT NULL AND charge.is_news THEN w.credits
					ELSE coalesce(w.credits, 0) + charge.credits END,
				call_ids = ARRAY(SELECT DISTINCT call_id FROM unnest(w.call_ids || cost.call_ids) AS call_id
					ORDER BY call_id)
			FROM cost LEFT JOIN charge USING (webhook_id) WHERE w.webhook_id = cost.webhook_id
		), counted AS (
			INSERT INTO ocean_enrich.reveal_cost (day, role, account, credits)
			SELECT (now() AT TIME ZONE 'UTC')::date, c.role, c.account, sum(charge.credits)
			FROM charge JOIN ocean_enrich.call AS c ON c.call_id = charge.call_id
			WHERE charge.credits > 0 GROUP BY c.role, c.account
			RETURNING ocean_enrich.reveals_counted()
		), done AS (
			-- A call of ours that was on the wire then, and still is, may be about this very
			-- person.  One of another database gets its answer there.
			DELETE FROM ocean_enrich.early_reveal AS e USING come
			WHERE e.webhook_id = come.webhook_id AND e.nth = come.nth
				AND e.person_id IN (SELECT person_id FROM expected)
				AND NOT EXISTS (SELECT FROM ocean_enrich.reveal AS r
					WHERE r.person_id = e.person_id AND r.call_id NOT IN (SELECT call_id FROM expected))
				AND NOT EXISTS (SELECT FROM ocean_enrich.call AS c
					WHERE c.state = 'sent' AND c.sent_at <= e.received_at
						AND c.database = ocean_enrich.database_identity() AND c.reveals_by_webhook IS NOT NULL)
		)
		SELECT count(ocean_enrich.call_changed(changed.call_id)) FROM changed;
	END;
COMMENT ON FUNCTION ocean_enrich.merge_reveals(text[]) IS
	'merges data from webhooks into the answers of the calls that requested them; returns how many calls it changed';

CREATE FUNCTION ocean_enrich.expect_reveals(call_id bigint) RETURNS bigint
	AS 'MODULE_PATHNAME', 'ocean_enrich_expect_reveals'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION ocean_enrich.expect_reveals(bigint) IS
	'notes that an answered call waits for a webhook, and merges data that came before; called by the worker';

CREATE FUNCTION ocean_enrich.take_webhook(payload jsonb, digest bytea) RETURNS bigint
	LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
	BEGIN ATOMIC
		WITH receipt AS (
			INSERT INTO ocean_enrich.webhook AS w (digest, people, credits, stated)
			SELECT take_webhook.digest, (SELECT count(*) FROM ocean_enrich.webhook_items(payload)), used.credits,
				used.credits
			FROM (SELECT CASE WHEN jsonb_typeof(payload -> 'creditsUsed') = 'number'
					AND (payload -> 'creditsUsed')::numeric BETWEEN 0 AND 1000000000
				THEN (payload -> 'creditsUsed')::numeric END) AS used (credits)
			ON CONFLICT (digest) DO UPDATE SET deliveries = w.deliveries + 1
			RETURNING webhook_id
		)
		INSERT INTO ocean_enrich.early_reveal (webhook_id, nth, person_id, email, phone)
		SELECT r.webhook_id, i.nth, i.person_id, i.email, i.phone
		FROM receipt AS r, ocean_enrich.webhook_items(payload) WITH ORDINALITY AS i (person_id, email, phone, nth)
		ON CONFLICT DO NOTHING;
		-- Unlike the worker we can wait for those who have a row locked.
		SELECT count(*) FROM (SELECT FROM ocean_enrich.reveal AS r JOIN ocean_enrich.call AS c ON c.call_id = r.call_id
			WHERE r.person_id IN (SELECT i.person_id FROM ocean_enrich.webhook_items(payload) AS i)
			ORDER BY r.call_id FOR NO KEY UPDATE) AS locked;
		SELECT ocean_enrich.merge_reveals(ARRAY(SELECT i.person_id FROM ocean_enrich.webhook_items(payload) AS i));
	END;
COMMENT ON FUNCTION ocean_enrich.take_webhook(jsonb, bytea) IS
	'records a payload and merges it; called by ocean_enrich.receive_webhook()';

CREATE FUNCTION ocean_enrich.receive_webhook(payload json, secret text DEFAULT NULL) RETURNS bigint
	AS 'MODULE_PATHNAME', 'ocean_enrich_receive_webhook'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION ocean_enrich.receive_webhook(json, text) IS
	'takes the payload of a webhook of the API, any number of times; returns how many calls it changed';

-- Personal data

CREATE TABLE ocean_enrich.forget_later (
	call_id bigint PRIMARY KEY
);
COMMENT ON TABLE ocean_enrich.forget_later IS
	'calls that were erased while they were on the wire: answers that still come are erased, too';
COMMENT ON COLUMN ocean_enrich.forget_later.call_id IS 'row of ocean_enrich.call';
SELECT pg_catalog.pg_extension_config_dump('ocean_enrich.forget_later', '');

/*
 * The one place that knows what erasing means.  Without the fingerprint nobody
 * can tell by trying whom the call was about, and it answers nobody any more.
 */
CREATE FUNCTION ocean_enrich.erase_calls(call_ids bigint[]) RETURNS bigint
	LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
	BEGIN ATOMIC
		WITH erased AS (
			UPDATE ocean_enrich.call AS c
			SET state = CASE old.state WHEN 'queued' THEN 'cancelled' ELSE c.state END,
				next_attempt_at = CASE WHEN old.state <> 'queued' THEN c.next_attempt_at END, waits_for = NULL,
				request = NULL, reveals_in_answer = NULL, reveals_by_webhook = NULL,
				answer = NULL, raw = NULL, detail = NULL, fingerprint = ''
			FROM (SELECT o.call_id, o.state FROM ocean_enrich.call AS o WHERE o.call_id = ANY (call_ids)
				ORDER BY o.call_id FOR NO KEY UPDATE) AS old
			WHERE c.call_id = old.call_id
			RETURNING c.call_id, c.state, c.next_attempt_at, c.database, old.state AS old_state
		), tally AS (
			INSERT INTO ocean_enrich.queue_tally (day, waiting, cancelled)
			SELECT (now() AT TIME ZONE 'UTC')::date,
				-count(*) FILTER (WHERE database = ocean_enrich.database_identity()), count(*) FROM erased
			WHERE old_state = 'queued' HAVING count(*) > 0
		), later AS (
			INSERT INTO ocean_enrich.forget_later (call_id)
			SELECT e.call_id FROM erased AS e
			WHERE e.state = 'sent' OR e.state = 'failed' AND e.next_attempt_at > now() - interval '1 hour'
			ON CONFLICT DO NOTHING
		), expected AS (
			DELETE FROM ocean_enrich.reveal AS r USING erased AS e WHERE r.call_id = e.call_id
		)
		SELECT count(*) FROM erased;
	END;
COMMENT ON FUNCTION ocean_enrich.erase_calls(bigint[]) IS
	'erases the personal data of these calls and keeps the receipts; queued calls are cancelled';

CREATE FUNCTION ocean_enrich.linkedin_key(url text) RETURNS text
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
	BEGIN ATOMIC
		SELECT CASE WHEN path = '' THEN NULL WHEN path LIKE '%/%' THEN path ELSE 'in/' || path END
		FROM (SELECT btrim(regexp_replace(regexp_replace(lower(btrim(url, E' \t\r\n')),
			'^(https?:)?/*([a-z0-9-]+\.)*linkedin\.com/', ''), '[?#].*$', ''), '/') AS path) AS bare;
	END;
COMMENT ON FUNCTION ocean_enrich.linkedin_key(text) IS
	'a LinkedIn URL or handle without the parts that may differ: scheme, subdomain, letter case, parameters, trailing slash';

CREATE FUNCTION ocean_enrich.raw_has(raw bytea, word text) RETURNS boolean
	LANGUAGE sql STABLE STRICT PARALLEL SAFE
	BEGIN ATOMIC
		SELECT strpos(lower(encode(raw, 'escape')),
			lower(encode(convert_to(word, 'UTF8'), 'escape'))) > 0;
	END;
COMMENT ON FUNCTION ocean_enrich.raw_has(bytea, text) IS
	'true if an answer that is not jsonb contains this word, in any letter case';

CREATE FUNCTION ocean_enrich.erase_person(
	id           text,
	email        text,
	linkedin     text,
	OUT erased   bigint,
	OUT call_ids bigint[]
) RETURNS record
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	BEGIN ATOMIC
		WITH wanted AS (
			SELECT erase_person.id, lower(erase_person.email) AS email,
				ocean_enrich.linkedin_key(erase_person.linkedin) AS linkedin
		), named AS (
			SELECT c.call_id, coalesce(c.answer ->> 'id', c.request #>> '{person,id}') AS person_id
			FROM ocean_enrich.call AS c, wanted AS w
			WHERE w.id IN (c.answer ->> 'id', c.request #>> '{person,id}')
				OR w.email IN (lower(btrim(c.request #>> '{person,email}')), lower(c.answer #>> '{email,address}'))
				OR strpos(lower(c.answer ->> 'inferredEmails'), '"' || w.email || '"') > 0
				OR w.linkedin IN (ocean_enrich.linkedin_key(c.request #>> '{person,linkedin}'),
					ocean_enrich.linkedin_key(c.answer ->> 'linkedinUrl'))
				OR ocean_enrich.raw_has(c.raw, '"' || w.id || '"')
				OR ocean_enrich.raw_has(c.raw, '"' || w.email || '"')
				OR ocean_enrich.raw_has(c.raw, 'linkedin.com/' || w.linkedin || '"')
				OR ocean_enrich.raw_has(c.raw, 'linkedin.com/' || w.linkedin || '/')
		), person AS (
			SELECT erase_person.id AS id UNION SELECT person_id FROM named
		), hit AS MATERIALIZED (
			SELECT call_id FROM named
			UNION
			SELECT c.call_id FROM ocean_enrich.call AS c JOIN person AS p
				ON p.id IN (c.answer ->> 'id', c.request #>> '{person,id}')
		), early AS (
			DELETE FROM ocean_enrich.early_reveal AS e USING wanted AS w
			WHERE e.person_id IN (SELECT p.id FROM person AS p) OR lower(e.email ->> 'address') = w.email
			RETURNING e.webhook_id
		), receipt AS (
			UPDATE ocean_enrich.webhook AS w SET digest = NULL
			WHERE w.digest IS NOT NULL AND (w.webhook_id IN (SELECT webhook_id FROM early)
				OR w.call_ids && ARRAY(SELECT call_id FROM hit))
		)
		SELECT ocean_enrich.erase_calls(h.call_ids), h.call_ids
		FROM (SELECT ARRAY(SELECT call_id FROM hit) AS call_ids) AS h;
	END;
COMMENT ON FUNCTION ocean_enrich.erase_person(text, text, text) IS
	'erases a person; called by ocean_enrich.forget()';

CREATE FUNCTION ocean_enrich.forget(
	id       text DEFAULT NULL,
	email    text DEFAULT NULL,
	linkedin text DEFAULT NULL
) RETURNS bigint
	AS 'MODULE_PATHNAME', 'ocean_enrich_forget'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION ocean_enrich.forget(text, text, text) IS
	'erases a person from requests and answers and keeps the receipts; returns the number of calls';

CREATE TABLE ocean_enrich.retention_progress (
	only_one  boolean PRIMARY KEY DEFAULT true,
	erased_to timestamptz NOT NULL DEFAULT '2020-01-01 00:00:00+00',
	step      interval NOT NULL DEFAULT '1000 days'
);
COMMENT ON TABLE ocean_enrich.retention_progress IS 'how far ocean_enrich.apply_retention() has come';
COMMENT ON COLUMN ocean_enrich.retention_progress.only_one IS 'always true: there is only one row';
COMMENT ON COLUMN ocean_enrich.retention_progress.erased_to IS 'answers up to here are erased';
COMMENT ON COLUMN ocean_enrich.retention_progress.step IS 'time that the next step covers';

/*
 * One step.  Answers lie in the order of time, so a step reads what is new to it
 * and never the whole ledger again; it covers more time the less it finds.  What
 * nobody has decided about stays as it is; once decided it is found by its state.
 */
CREATE FUNCTION ocean_enrich.apply_retention(OUT erased bigint, OUT more boolean) RETURNS record
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	BEGIN ATOMIC
		INSERT INTO ocean_enrich.retention_progress DEFAULT VALUES ON CONFLICT DO NOTHING;
		WITH setting AS (
			SELECT now() - nullif(ocean_enrich.setting('retention')::interval, '0') AS oldest
		), step AS (
			SELECT p.erased_to, p.step, s.oldest, least(p.erased_to + p.step, s.oldest) AS upto
			FROM ocean_enrich.retention_progress AS p, setting AS s WHERE s.oldest IS NOT NULL
			FOR UPDATE OF p NOWAIT
		), answered AS (
			SELECT c.call_id FROM ocean_enrich.call AS c
			-- An answer is committed some moments after its time.
			WHERE c.answered_at >= (SELECT erased_to - interval '1 minute' FROM step)
				AND c.answered_at < (SELECT upto FROM step)
				AND c.fingerprint <> '' AND c.state IN ('answered', 'refused', 'failed')
			LIMIT 500 FOR NO KEY UPDATE NOWAIT
		), decided AS (
			SELECT c.call_id FROM ocean_enrich.call AS c
			WHERE (c.state = 'unknown' AND c.resolution IS NOT NULL OR c.state = 'cancelled')
				AND c.requested_at < (SELECT oldest FROM step) AND c.fingerprint <> ''
			LIMIT 500 FOR NO KEY UPDATE NOWAIT
		), count AS (
			SELECT (SELECT count(*) FROM answered) AS answered, (SELECT count(*) FROM decided) AS decided
		), progress AS (
			UPDATE ocean_enrich.retention_progress AS p SET
				erased_to = CASE WHEN count.answered = 500 THEN p.erased_to ELSE greatest(s.upto, p.erased_to) END,
				step = CASE WHEN count.answered = 500 THEN greatest(p.step / 2, interval '1 second')
					WHEN count.answered < 125 THEN least(p.step * 2, interval '1000 days')
					ELSE p.step END
			FROM step AS s, count
			RETURNING count.answered = 500 OR count.decided = 500 OR p.erased_to < s.oldest AS more
		)
		SELECT coalesce(ocean_enrich.erase_calls((SELECT array_agg(due.call_id)
				FROM (SELECT call_id FROM answered UNION SELECT call_id FROM decided) AS due)), 0),
			coalesce((SELECT progress.more FROM progress), false);
	END;
COMMENT ON FUNCTION ocean_enrich.apply_retention() IS
	'erases the personal data of calls older than ocean_enrich.retention, one step at a time; returns how many, and whether there may be more';

CREATE FUNCTION ocean_enrich.tidy() RETURNS bigint
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	BEGIN ATOMIC
		-- Some have to be kept and come here again: in another order each time, lest
		-- others behind them never have their turn.
		SELECT ocean_enrich.merge_reveals((SELECT array_agg(e.person_id)
			FROM (SELECT r.person_id FROM ocean_enrich.early_reveal AS m
				JOIN ocean_enrich.reveal AS r ON r.person_id = m.person_id
				GROUP BY r.person_id ORDER BY random() LIMIT 1000) AS e));
		WITH added AS (
			DELETE FROM ocean_enrich.reveal_cost AS r USING (SELECT day, role, account FROM ocean_enrich.reveal_cost
				GROUP BY day, role, account HAVING count(*) > 1) AS several
			WHERE r.day = several.day AND r.role = several.role AND r.account = several.account
			RETURNING r.day, r.role, r.account, r.credits
		)
		INSERT INTO ocean_enrich.reveal_cost (day, role, account, credits)
		SELECT day, role, account, sum(credits) FROM added GROUP BY day, role, account;
		WITH setting AS (
			SELECT now() - least(nullif(ocean_enrich.setting('retention')::interval, '0'), interval '7 days') AS oldest
		), early AS (
			DELETE FROM ocean_enrich.early_reveal AS e USING setting AS s WHERE e.received_at < s.oldest
		)
		UPDATE ocean_enrich.webhook AS w SET digest = NULL FROM setting AS s
		WHERE w.received_at < s.oldest AND w.digest IS NOT NULL;
		WITH ended AS (
			SELECT f.call_id FROM ocean_enrich.forget_later AS f JOIN ocean_enrich.call AS c ON c.call_id = f.call_id
			WHERE c.state NOT IN ('queued', 'sent') AND (c.state <> 'failed' OR c.next_attempt_at IS NULL
				OR c.next_attempt_at <= now() - interval '1 hour')
			FOR NO KEY UPDATE SKIP LOCKED
		), forgotten AS (
			DELETE FROM ocean_enrich.forget_later AS f USING ended WHERE f.call_id = ended.call_id
		)
		SELECT coalesce(ocean_enrich.erase_calls((SELECT array_agg(call_id) FROM ended)), 0);
	END;
COMMENT ON FUNCTION ocean_enrich.tidy() IS
	'maintenance by the worker: merges webhooks that crossed their answer, and erases calls that had to end first';

-- Syncs

CREATE TABLE ocean_enrich.sync (
	sync_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name           text NOT NULL UNIQUE,
	owner          regrole NOT NULL,
	relation       regclass NOT NULL,
	key            name[] NOT NULL,
	endpoint       text NOT NULL,
	request        text NOT NULL,
	condition      text,
	target         name NOT NULL,
	refresh_after  interval,
	priority       integer NOT NULL,
	enabled        boolean NOT NULL,
	database       text NOT NULL,
	problem_code   text,
	problem        text,
	problem_at     timestamptz,
	created_at     timestamptz NOT NULL DEFAULT now(),
	table_name     name NOT NULL,
	column_names   name[] NOT NULL,
	column_numbers int2[] NOT NULL,
	key_numbers    int2[] NOT NULL,
	target_number  int2 NOT NULL
);
COMMENT ON TABLE ocean_enrich.sync IS 'definitions of the syncs, written by ocean_enrich.create_sync() and related functions';
COMMENT ON SEQUENCE ocean_enrich.sync_sync_id_seq IS 'numbers the rows of ocean_enrich.sync';
COMMENT ON COLUMN ocean_enrich.sync.sync_id IS 'number of the sync';
COMMENT ON COLUMN ocean_enrich.sync.name IS 'name of the sync';
COMMENT ON COLUMN ocean_enrich.sync.owner IS 'owner of the table, whose rights are used';
COMMENT ON COLUMN ocean_enrich.sync.relation IS 'the table';
COMMENT ON COLUMN ocean_enrich.sync.key IS 'columns that identify the rows';
COMMENT ON COLUMN ocean_enrich.sync.endpoint IS 'endpoint of the API that is called';
COMMENT ON COLUMN ocean_enrich.sync.request IS 'expression that gives the request';
COMMENT ON COLUMN ocean_enrich.sync.condition IS 'expression that chooses the rows; NULL means all';
COMMENT ON COLUMN ocean_enrich.sync.target IS 'column that the answer is written to';
COMMENT ON COLUMN ocean_enrich.sync.refresh_after IS 'age at which an answer is requested again; NULL means never';
COMMENT ON COLUMN ocean_enrich.sync.priority IS 'priority of its calls in the queue';
COMMENT ON COLUMN ocean_enrich.sync.enabled IS 'false if nothing is sent';
COMMENT ON COLUMN ocean_enrich.sync.database IS 'database in which the sync was enabled; in a copy it has to be enabled again';
COMMENT ON COLUMN ocean_enrich.sync.problem_code IS 'SQLSTATE of the problem that stopped the sync';
COMMENT ON COLUMN ocean_enrich.sync.problem IS 'problem that stopped the sync';
COMMENT ON COLUMN ocean_enrich.sync.problem_at IS 'when the problem stopped the sync';
COMMENT ON COLUMN ocean_enrich.sync.created_at IS 'when the sync was created';
COMMENT ON COLUMN ocean_enrich.sync.table_name IS 'name of the table in the expressions';
COMMENT ON COLUMN ocean_enrich.sync.column_names IS 'names of the columns in the expressions';
COMMENT ON COLUMN ocean_enrich.sync.column_numbers IS 'numbers of these columns';
COMMENT ON COLUMN ocean_enrich.sync.key_numbers IS 'numbers of the key columns';
COMMENT ON COLUMN ocean_enrich.sync.target_number IS 'number of the target column';

CREATE TYPE ocean_enrich.sync_row_state AS ENUM
	('changed', 'queued', 'done', 'not found', 'failed', 'unknown', 'forgotten');
COMMENT ON TYPE ocean_enrich.sync_row_state IS 'the states of a row of ocean_enrich.sync_row';

CREATE TABLE ocean_enrich.sync_row (
	sync_id     bigint NOT NULL,
	key         text[] COLLATE "C" NOT NULL,
	state       ocean_enrich.sync_row_state NOT NULL,
	call_id     bigint,
	differences integer NOT NULL DEFAULT 0,
	error_code  text,
	message     text,
	settled_at  timestamptz,
	refresh_at  timestamptz,
	PRIMARY KEY (key, sync_id)
) WITH (fillfactor = 80);
-- No two indexes begin with the same column, so that statistics do not decide which
-- of them serves a statement.  By state and key, so that a long walk goes on where it was.
CREATE INDEX sync_row_state_idx ON ocean_enrich.sync_row (state, sync_id, key);
CREATE INDEX sync_row_call_id_idx ON ocean_enrich.sync_row (call_id);
CREATE INDEX sync_row_refresh_at_idx ON ocean_enrich.sync_row (sync_id, refresh_at)
	WHERE refresh_at IS NOT NULL;
COMMENT ON TABLE ocean_enrich.sync_row IS
	'one row for every row that a sync has made or has to make a call for, written by the sync applier';
COMMENT ON COLUMN ocean_enrich.sync_row.sync_id IS 'the sync';
COMMENT ON COLUMN ocean_enrich.sync_row.key IS 'values of the key columns, as text';
COMMENT ON COLUMN ocean_enrich.sync_row.state IS
	'changed: to be processed; queued: a call was made; forgotten: the person was erased; otherwise: the last result';
-- What was asked for stands in the ledger alone, so whatever is erased there is erased.
COMMENT ON COLUMN ocean_enrich.sync_row.call_id IS 'call that answers the row';
COMMENT ON COLUMN ocean_enrich.sync_row.differences IS
	'how often the request had changed when its answer came, without a change of the row';
COMMENT ON COLUMN ocean_enrich.sync_row.error_code IS 'SQLSTATE of the error';
COMMENT ON COLUMN ocean_enrich.sync_row.message IS 'message of the error';
COMMENT ON COLUMN ocean_enrich.sync_row.settled_at IS 'when the last answer was written, or the error occurred';
COMMENT ON COLUMN ocean_enrich.sync_row.refresh_at IS 'when the answer is requested again';

-- Only inserted into by those who must not wait: sessions that change rows, and
-- the worker that settles calls.  The applier empties them.
CREATE TABLE ocean_enrich.sync_inbox (
	inbox_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	sync_id  bigint NOT NULL,
	key      text[] COLLATE "C"
);
COMMENT ON TABLE ocean_enrich.sync_inbox IS 'changed rows that are not yet processed';
COMMENT ON SEQUENCE ocean_enrich.sync_inbox_inbox_id_seq IS 'numbers the rows of ocean_enrich.sync_inbox';
COMMENT ON COLUMN ocean_enrich.sync_inbox.inbox_id IS 'number of the change';
COMMENT ON COLUMN ocean_enrich.sync_inbox.sync_id IS 'the sync';
COMMENT ON COLUMN ocean_enrich.sync_inbox.key IS 'key of the row; NULL if the table was truncated';

CREATE TABLE ocean_enrich.sync_settled (
	settled_id bigint GENERATED ALWAYS AS IDENTITY,
	sync_id    bigint NOT NULL,
	call_id    bigint NOT NULL,
	PRIMARY KEY (sync_id, settled_id)
);
COMMENT ON TABLE ocean_enrich.sync_settled IS 'ended calls whose answers are not yet written to their rows';
COMMENT ON SEQUENCE ocean_enrich.sync_settled_settled_id_seq IS 'numbers the rows of ocean_enrich.sync_settled';
COMMENT ON COLUMN ocean_enrich.sync_settled.settled_id IS 'number of the entry';
COMMENT ON COLUMN ocean_enrich.sync_settled.sync_id IS 'the sync';
COMMENT ON COLUMN ocean_enrich.sync_settled.call_id IS 'the call';

-- Counters as differences: each change of rows inserts one, the applier adds them
-- up, and the sum is exact under every snapshot and after a rollback.
CREATE TABLE ocean_enrich.sync_count (
	sync_id    bigint NOT NULL,
	state      ocean_enrich.sync_row_state,
	rows       bigint NOT NULL DEFAULT 0,
	credits    numeric NOT NULL DEFAULT 0,
	settled_at timestamptz
);
ALTER TABLE ocean_enrich.sync_count REPLICA IDENTITY FULL;
COMMENT ON TABLE ocean_enrich.sync_count IS 'differences that add up to the counters of ocean_enrich.sync_status';
COMMENT ON COLUMN ocean_enrich.sync_count.sync_id IS 'the sync';
COMMENT ON COLUMN ocean_enrich.sync_count.state IS 'state of the counted rows; NULL for credits';
COMMENT ON COLUMN ocean_enrich.sync_count.rows IS 'change of the number of rows in this state';
COMMENT ON COLUMN ocean_enrich.sync_count.credits IS 'credits spent';
COMMENT ON COLUMN ocean_enrich.sync_count.settled_at IS 'when these rows got their result, if that was in the last minute';

CREATE FUNCTION ocean_enrich.sync_changed() RETURNS trigger
	AS 'MODULE_PATHNAME', 'ocean_enrich_sync_changed'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION ocean_enrich.sync_changed() IS
	'trigger function of tables with a sync: notes the keys of changed rows';

CREATE FUNCTION ocean_enrich.sync_counted() RETURNS trigger
	AS 'MODULE_PATHNAME', 'ocean_enrich_sync_counted'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION ocean_enrich.sync_counted() IS
	'trigger function of ocean_enrich.sync_row: maintains the counters';

CREATE TRIGGER counted_insert AFTER INSERT ON ocean_enrich.sync_row
	REFERENCING NEW TABLE AS new_rows
	FOR EACH STATEMENT EXECUTE FUNCTION ocean_enrich.sync_counted();
CREATE TRIGGER counted_update AFTER UPDATE ON ocean_enrich.sync_row
	REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
	FOR EACH STATEMENT EXECUTE FUNCTION ocean_enrich.sync_counted();
CREATE TRIGGER counted_delete AFTER DELETE ON ocean_enrich.sync_row
	REFERENCING OLD TABLE AS old_rows
	FOR EACH STATEMENT EXECUTE FUNCTION ocean_enrich.sync_counted();

CREATE FUNCTION ocean_enrich.create_sync(
	name             text,
	relation         regclass,
	request          text,
	target           name,
	key              name[] DEFAULT NULL,
	condition        text DEFAULT NULL,
	enqueue_existing boolean DEFAULT true,
	refresh_after    interval DEFAULT NULL,
	priority         integer DEFAULT 0,
	endpoint         text DEFAULT 'person'
) RETURNS bigint
	AS 'MODULE_PATHNAME', 'ocean_enrich_create_sync'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION ocean_enrich.create_sync IS
	'creates a sync, which keeps a column of a table enriched; returns the number of existing rows it will make calls for';

CREATE FUNCTION ocean_enrich.alter_sync(
	name          text,
	request       text DEFAULT NULL,
	target        name DEFAULT NULL,
	condition     text DEFAULT NULL,
	refresh_after interval DEFAULT NULL,
	priority      integer DEFAULT NULL,
	new_name      text DEFAULT NULL
) RETURNS void
	AS 'MODULE_PATHNAME', 'ocean_enrich_alter_sync'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION ocean_enrich.alter_sync IS
	'changes a sync; NULL arguments leave settings as they are';

CREATE FUNCTION ocean_enrich.enable_sync(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'ocean_enrich_enable_sync'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION ocean_enrich.enable_sync(text) IS 'resumes a sync';

CREATE FUNCTION ocean_enrich.disable_sync(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'ocean_enrich_disable_sync'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION ocean_enrich.disable_sync(text) IS
	'stops a sync at once: nothing more is sent';

CREATE FUNCTION ocean_enrich.retry_sync(name text) RETURNS bigint
	AS 'MODULE_PATHNAME', 'ocean_enrich_retry_sync'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION ocean_enrich.retry_sync(text) IS
	'retries the rows of a sync that failed or whose outcome is unknown; returns how many';

CREATE FUNCTION ocean_enrich.drop_sync(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'ocean_enrich_drop_sync'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION ocean_enrich.drop_sync(text) IS
	'ends a sync at once; the column and the ledger stay';

CREATE VIEW ocean_enrich.sync_status AS
	WITH counted AS (
		SELECT sync_id,
			coalesce(sum(rows) FILTER (WHERE state IN ('changed', 'queued')), 0) AS unsettled,
			coalesce(sum(rows) FILTER (WHERE state = 'done'), 0) AS done,
			coalesce(sum(rows) FILTER (WHERE state = 'not found'), 0) AS not_found,
			coalesce(sum(rows) FILTER (WHERE state = 'failed'), 0) AS failed,
			coalesce(sum(rows) FILTER (WHERE state = 'unknown'), 0) AS unknown,
			coalesce(sum(rows) FILTER (WHERE state = 'forgotten'), 0) AS forgotten,
			sum(credits) AS credits,
			coalesce(sum(rows) FILTER (WHERE settled_at > now() - interval '1 minute'), 0) AS settled,
			min(settled_at) FILTER (WHERE settled_at > now() - interval '1 minute') AS since
		FROM ocean_enrich.sync_count GROUP BY sync_id
	), on_the_wire AS (
		SELECT r.sync_id, count(*) AS calls
		FROM ocean_enrich.call AS c JOIN ocean_enrich.sync_row AS r USING (call_id)
		WHERE c.state = 'sent' AND r.state = 'queued' GROUP BY r.sync_id
	-- A row that changed waits, whatever its last answer was.
	), inbox AS (
		SELECT i.sync_id,
			count(*) FILTER (WHERE r.state IS NULL OR r.state NOT IN ('changed', 'queued')) AS unsettled,
			count(*) FILTER (WHERE r.state = 'done') AS done,
			count(*) FILTER (WHERE r.state = 'not found') AS not_found,
			count(*) FILTER (WHERE r.state = 'failed') AS failed,
			count(*) FILTER (WHERE r.state = 'unknown') AS unknown,
			count(*) FILTER (WHERE r.state = 'forgotten') AS forgotten
		FROM (SELECT DISTINCT sync_id, key FROM ocean_enrich.sync_inbox WHERE key IS NOT NULL) AS i
			LEFT JOIN ocean_enrich.sync_row AS r USING (sync_id, key)
		GROUP BY i.sync_id
	), status AS (
		SELECT s.*,
			coalesce(c.unsettled, 0) + coalesce(i.unsettled, 0) AS unsettled,
			coalesce(w.calls, 0) AS in_flight,
			coalesce(c.done, 0) - coalesce(i.done, 0) AS done,
			coalesce(c.not_found, 0) - coalesce(i.not_found, 0) AS not_found,
			coalesce(c.failed, 0) - coalesce(i.failed, 0) AS failed,
			coalesce(c.unknown, 0) - coalesce(i.unknown, 0) AS unknown,
			coalesce(c.forgotten, 0) - coalesce(i.forgotten, 0) AS forgotten,
			coalesce(c.credits, 0) AS credits,
			60 * c.settled / greatest(extract(epoch FROM now() - c.since), 1) AS rate
		FROM ocean_enrich.sync AS s
			LEFT JOIN counted AS c USING (sync_id)
			LEFT JOIN on_the_wire AS w USING (sync_id)
			LEFT JOIN inbox AS i USING (sync_id)
	)
	SELECT name, relation, target, owner,
		CASE WHEN problem IS NOT NULL THEN 'stopped'
			WHEN NOT enabled THEN 'disabled'
			WHEN database <> ocean_enrich.database_identity() THEN 'copied'
			ELSE 'enabled' END AS state,
		problem_code, problem,
		unsettled - in_flight AS waiting, in_flight, done, not_found, failed, unknown, forgotten, credits,
		round(rate, 1) AS rows_per_minute,
		CASE WHEN rate > 0 AND enabled THEN
			date_trunc('second', make_interval(secs => least(60 * unsettled / rate, 1e9)::double precision)) END AS time_left
	FROM status;
COMMENT ON VIEW ocean_enrich.sync_status IS
	'progress of each sync: exact counts of rows, credits, rate';

CREATE VIEW ocean_enrich.sync_errors WITH (security_barrier) AS
	SELECT s.name, s.relation, NULL::text[] AS key, 'stopped' AS state,
		s.problem_code AS error_code, s.problem AS message, NULL::bigint AS call_id, s.problem_at AS since
	FROM ocean_enrich.sync AS s
	WHERE s.problem IS NOT NULL AND EXISTS (SELECT FROM pg_catalog.pg_roles AS o
		WHERE o.oid = s.owner AND pg_catalog.pg_has_role(o.oid, 'MEMBER'))
	UNION ALL
	SELECT s.name, s.relation, r.key, r.state::text, r.error_code, r.message, r.call_id, r.settled_at
	FROM ocean_enrich.sync AS s JOIN ocean_enrich.sync_row AS r USING (sync_id)
	WHERE r.state IN ('failed', 'unknown') AND EXISTS (SELECT FROM pg_catalog.pg_roles AS o
		WHERE o.oid = s.owner AND pg_catalog.pg_has_role(o.oid, 'MEMBER'));
COMMENT ON VIEW ocean_enrich.sync_errors IS
	'errors of the syncs of the current role and of the roles it is a member of';

-- A dump carries the definitions, what is known of each row, and the credits.  The
-- rows are counted again by the triggers above.
SELECT pg_catalog.pg_extension_config_dump('ocean_enrich.sync',
	'WHERE relation IN (SELECT oid FROM pg_catalog.pg_class) AND owner IN (SELECT oid FROM pg_catalog.pg_roles)');
SELECT pg_catalog.pg_extension_config_dump('ocean_enrich.sync_sync_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('ocean_enrich.sync_row', '');
SELECT pg_catalog.pg_extension_config_dump('ocean_enrich.sync_count', 'WHERE state IS NULL');

-- It spends money and holds personal data, so nobody has it who was not given it.
REVOKE ALL ON SCHEMA ocean_enrich FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA ocean_enrich FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA ocean_enrich FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ocean_enrich FROM PUBLIC;
-- Other functions and views call these with their callers' rights: they convert, show what
-- current_setting() shows, and send nothing that was not submitted.
GRANT EXECUTE ON FUNCTION ocean_enrich.setting(text), ocean_enrich.wake(),
	ocean_enrich.spending_changed() TO PUBLIC;
-- The triggers of a table are its owner's.  They do nothing for any other table.
GRANT EXECUTE ON FUNCTION ocean_enrich.sync_changed(), ocean_enrich.database_identity() TO PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.ocean_enrich_person(jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.ocean_enrich_person(jsonb, text, interval) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.ocean_enrich_person(jsonb, interval) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.ocean_try_enrich_person(jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.ocean_try_enrich_person(jsonb, interval) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.ocean_person_request FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.ocean_person(jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.ocean_person_experiences(jsonb) FROM PUBLIC;
REVOKE ALL ON TYPE ocean_enrich.call_state FROM PUBLIC;
REVOKE ALL ON TYPE ocean_enrich.resolution FROM PUBLIC;
REVOKE ALL ON TYPE ocean_enrich.wait_reason FROM PUBLIC;
REVOKE ALL ON TYPE ocean_enrich.credits FROM PUBLIC;
REVOKE ALL ON TYPE ocean_enrich.period FROM PUBLIC;
REVOKE ALL ON TYPE ocean_enrich.sync_row_state FROM PUBLIC;
REVOKE ALL ON TYPE @extschema@.ocean_person FROM PUBLIC;
REVOKE ALL ON TYPE @extschema@.ocean_enrich_result FROM PUBLIC;
