-- From a table of contacts to enriched rows.  quickstart.sh runs this file; you
-- can copy from it.

\set ON_ERROR_STOP on

CREATE EXTENSION IF NOT EXISTS ocean_enrich;

-- Invented people.  The seventh is unknown to the sandbox, and there is
-- nothing by which to find the eighth.
CREATE TABLE IF NOT EXISTS contacts
(
	id int PRIMARY KEY,
	first_name text,
	last_name text,
	email text,
	linkedin text,
	company_domain text,
	enriched jsonb
);

INSERT INTO contacts (id, first_name, last_name, email, linkedin, company_domain)
VALUES
	(1, 'Astrid', 'Fjordholm', 'astrid.fjordholm@example.com', NULL, NULL),
	(2, 'Bela', 'Okonjo', 'bela.okonjo@example.org', NULL, 'example.org'),
	(3, 'Chiara', 'Vandelli', NULL, 'https://www.linkedin.com/in/chiara-vandelli-example', NULL),
	(4, 'Dmitri', 'Saltanov', NULL, NULL, 'example.net'),
	(5, 'Esi', 'Mbwana-Lund', 'esi@example.net', NULL, NULL),
	(6, 'Farid', 'Quennell', NULL, NULL, 'example.com'),
	(7, 'Greta', 'Nowhere', 'greta.sb-unknown@example.com', NULL, NULL),
	(8, NULL, NULL, NULL, NULL, NULL)
ON CONFLICT DO NOTHING;

-- Only rows without an answer are requested, and an answer is recorded as soon as
-- it is paid: if this fails half-way, run it again.  A person the API does not know
-- is not an error here: the row keeps its NULL.
UPDATE contacts
SET enriched = ocean_enrich_person(
		ocean_person_request(
			first_name => first_name,
			last_name => last_name,
			email => email,
			linkedin => linkedin,
			company_domain => company_domain),
		not_found => 'null')
WHERE enriched IS NULL;

\echo
\echo 'The rows:'
SELECT c.id, c.first_name, p.name, p.job_title, p.domain, p.email_address
FROM contacts AS c
	LEFT JOIN LATERAL ocean_person(c.enriched) AS p ON true
ORDER BY c.id;

\echo 'The receipts:'
SELECT call_id, role, state, status, credits, answered_at
FROM ocean_enrich.receipts
ORDER BY call_id;
