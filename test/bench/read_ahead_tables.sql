-- The tables of read_ahead.sh, and one that has nothing to do with us.

\set ON_ERROR_STOP on

CREATE TABLE bench.one_table (id bigint PRIMARY KEY, req jsonb, enriched jsonb);
CREATE TABLE bench.partitioned (id bigint PRIMARY KEY, req jsonb, enriched jsonb)
	PARTITION BY HASH (id);
SELECT format('CREATE TABLE bench.part_%s PARTITION OF bench.partitioned
	FOR VALUES WITH (MODULUS 50, REMAINDER %s)', i, i)
FROM generate_series(0, 49) AS i \gexec

CREATE TABLE bench.number (n integer PRIMARY KEY, value text);
INSERT INTO bench.number SELECT n, md5(n::text) FROM generate_series(1, 1000) AS n;
VACUUM ANALYZE bench.number;
