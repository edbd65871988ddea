-- The tables of read_ahead.sh, and one for queries without our functions.

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

-- Microseconds of CPU that this session takes for a number of queries, each of them
-- planned again.
CREATE FUNCTION bench.select_often(queries integer) RETURNS bigint
	LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
	before bigint := bench.cpu_us(pg_backend_pid());
	value text;
BEGIN
	FOR i IN 1..queries LOOP
		EXECUTE 'SELECT value FROM bench.number WHERE n = ' || i % 1000 + 1 INTO value;
	END LOOP;
	RETURN bench.cpu_us(pg_backend_pid()) - before;
END
$$;
