-- The private memory of a session and of its worker, in kB: after :early calls, and
-- after :late ones.

\o /dev/null
SELECT bench.measure(:'query', :first, :early);
\o
SELECT bench.private_kb(pg_backend_pid());
SELECT bench.private_kb(bench.worker_pid());
\o /dev/null
SELECT bench.measure(:'query', :first + :early, :late - :early);
\o
SELECT bench.private_kb(pg_backend_pid());
SELECT bench.private_kb(bench.worker_pid());
