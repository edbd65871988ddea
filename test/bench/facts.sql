-- Loads facts.csv of the current folder into the table "fact" and shows it, for the
-- reports that include this file.

\set ON_ERROR_STOP on
\set QUIET on
\pset footer off
\pset null ''

CREATE TEMP TABLE fact
(
	position serial,
	name text NOT NULL,
	value numeric NOT NULL
);
\copy fact (name, value) FROM 'facts.csv' (FORMAT csv)

\echo
\echo 'Figures'
SELECT name, string_agg(value::text, ', ' ORDER BY position) AS values
FROM fact GROUP BY name ORDER BY min(position);
