-- Loads runs.csv of the current folder into the table "run", for the reports that
-- include this file.

\set ON_ERROR_STOP on
\set QUIET on
\pset footer off
\pset null ''

CREATE TEMP TABLE run
(
	position serial,
	part text NOT NULL,
	subject text NOT NULL,
	calls bigint NOT NULL,
	wall_us float8 NOT NULL,
	cpu_us float8,				-- of the program or session that makes the calls
	worker_cpu_us float8
);
\copy run (part, subject, calls, wall_us, cpu_us, worker_cpu_us) FROM 'runs.csv' (FORMAT csv)
