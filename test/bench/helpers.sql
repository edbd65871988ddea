-- Prepares each measured database: the extension, requests for people, and
-- functions that measure time and CPU.

\set ON_ERROR_STOP on

CREATE EXTENSION ocean_enrich;
CREATE SCHEMA bench;

-- As volatile as its body, so that the planner can inline it.
CREATE FUNCTION bench.request(person bigint) RETURNS jsonb
	LANGUAGE sql STABLE
	BEGIN ATOMIC
		SELECT jsonb_build_object('person',
			jsonb_build_object('email', 'person' || person || '@bench.example'));
	END;

-- User and system time of a process.  This file has nanoseconds, /proc/PID/stat only
-- hundredths of a second.
CREATE FUNCTION bench.cpu_us(pid integer) RETURNS bigint
	LANGUAGE sql VOLATILE
	BEGIN ATOMIC
		SELECT split_part(pg_read_file('/proc/' || pid || '/schedstat'), ' ', 1)::bigint / 1000;
	END;

-- The private memory of a process, without shared buffers.
CREATE FUNCTION bench.private_kb(pid integer) RETURNS bigint
	LANGUAGE sql VOLATILE
	BEGIN ATOMIC
		SELECT substring(pg_read_file('/proc/' || pid || '/status') FROM 'RssAnon:\s*(\d+) kB')::bigint;
	END;

CREATE FUNCTION bench.worker_pid() RETURNS integer
	LANGUAGE sql VOLATILE
	BEGIN ATOMIC
		SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'ocean_enrich worker' AND datname = current_database();
	END;

-- Runs a query for "calls" people from number "first" on; its parameters are the
-- first and the last number.  It is warmed up with 50 people before them.
CREATE FUNCTION bench.measure(query text, first bigint, calls bigint,
	OUT wall_us bigint, OUT cpu_us bigint, OUT worker_cpu_us bigint)
	LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
	worker integer;
	started timestamptz;
	answers bigint;
BEGIN
	EXECUTE query INTO answers USING first - 50, first - 1;
	worker := bench.worker_pid();
	worker_cpu_us := coalesce(bench.cpu_us(worker), 0);
	cpu_us := bench.cpu_us(pg_backend_pid());
	started := clock_timestamp();

	EXECUTE query INTO answers USING first, first + calls - 1;

	wall_us := extract(epoch FROM clock_timestamp() - started) * 1000000;
	cpu_us := bench.cpu_us(pg_backend_pid()) - cpu_us;
	worker_cpu_us := coalesce(bench.cpu_us(worker), 0) - worker_cpu_us;
	IF answers IS DISTINCT FROM calls THEN
		RAISE EXCEPTION '% answers for % calls', answers, calls;
	END IF;
END
$$;

-- The private memory of this session and its worker after each quarter of "calls"
-- calls.
CREATE FUNCTION bench.memory(query text, first bigint, calls bigint)
	RETURNS TABLE (after_calls bigint, session_kb bigint, worker_kb bigint)
	LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
	FOR quarter IN 0 .. 3 LOOP
		PERFORM bench.measure(query, first + quarter * calls / 4, calls / 4);
		RETURN QUERY SELECT (quarter + 1) * calls / 4, bench.private_kb(pg_backend_pid()),
			bench.private_kb(bench.worker_pid());
	END LOOP;
END
$$;
