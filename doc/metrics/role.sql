-- A role that may read what queries.yaml needs, and nothing else: no person, no
-- request, no answer.  Run as a superuser in each monitored database.

SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'ocean_monitor') AS is_new \gset
\if :is_new
	CREATE ROLE ocean_monitor LOGIN;
\endif
GRANT USAGE ON SCHEMA ocean_enrich TO ocean_monitor;
GRANT SELECT ON ocean_enrich.queue_status, ocean_enrich.sync_status, ocean_enrich.limits,
	ocean_enrich.unknown_calls, ocean_enrich.calls_in_flight,
	ocean_enrich.budget_status, ocean_enrich.budget TO ocean_monitor;
GRANT SELECT (state, role, account, credits, sent_at) ON ocean_enrich.call TO ocean_monitor;
GRANT EXECUTE ON FUNCTION ocean_enrich.in_flight(), ocean_enrich.queue_state() TO ocean_monitor;
