# sync_stress.pl
#	Many sessions change rows at once, roll back, delete and lock, while the kept
#	column is altered, disabled and enabled and its processes are ended.  In the
#	end each row has the answer to what it asks for, the counters are exact, and
#	the books agree.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node books_agree wait_until);
use SyncTest qw(owner create settled status applier_pid);
use PostgreSQL::Test::Utils;
use Test::More;

my $sandbox = OceanTest::Sandbox->new(
	config => { latency_ms => 5, latency_jitter_ms => 20 });
my $node = node($sandbox, extra_conf => "ocean_enrich.max_concurrency = 32\nlog_statement = none");
owner($node, 'anna');

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(q{
	SET ROLE anna;
	CREATE TABLE contacts (id integer, part integer, email text, enriched jsonb, PRIMARY KEY (id, part))
	PARTITION BY LIST (part);
	CREATE TABLE contacts_0 PARTITION OF contacts FOR VALUES IN (0);
	CREATE TABLE contacts_1 PARTITION OF contacts FOR VALUES IN (1);
	INSERT INTO contacts SELECT i, i % 2, 'person' || i || '@example.com' FROM generate_series(1, 300) AS i});
create($node, 'anna', 'contacts');

# Each deals with a third of the rows, so that they do not wait for each other.
my @sessions = map {
	OceanTest::Query->start($node, qq{
		DO \$\$
		DECLARE
			i integer;
			n integer;
		BEGIN
			PERFORM setseed($_ / 10.0);
			FOR n IN 1 .. 400 LOOP
				i := 3 * (1 + random() * 99)::integer + $_;
				BEGIN
					CASE (random() * 6)::integer
					WHEN 0 THEN
						DELETE FROM contacts WHERE id = i;
					WHEN 1 THEN
						INSERT INTO contacts VALUES (i, i % 2, 'new' || n % 20 || '\@example.com')
						ON CONFLICT (id, part) DO UPDATE SET email = excluded.email;
					WHEN 2 THEN
						UPDATE contacts SET part = 1 - part WHERE id = i;
					WHEN 3 THEN
						UPDATE contacts SET email = 'changed' || n || '\@example.com' WHERE id = i;
					WHEN 4 THEN
						UPDATE contacts SET email = 'x.sb-unknown-' || n % 5 || '\@example.com' WHERE id = i;
					WHEN 5 THEN
						UPDATE contacts SET email = NULL WHERE id = i;
						RAISE EXCEPTION 'taken back';
					ELSE
						PERFORM FROM contacts WHERE id = i FOR UPDATE;
						PERFORM pg_sleep(0.02);
					END CASE;
				EXCEPTION
					WHEN raise_exception OR unique_violation THEN NULL;
				END;
				IF n % 3 = 0 THEN
					COMMIT;
				END IF;
			END LOOP;
		END
		\$\$}) } 0 .. 2;

# This one changes a partition, and nothing by way of its parent: in one
# transaction that could deadlock with whoever alters the parent.
push @sessions, OceanTest::Query->start($node, q{
	DO $$
	BEGIN
		FOR n IN 1 .. 400 LOOP
			BEGIN
				UPDATE contacts_1 SET email = 'direct' || n || '@example.com' WHERE id = n / 2;
			EXCEPTION
				-- Another session has just moved the row to the other partition.
				WHEN serialization_failure THEN NULL;
			END;
			COMMIT;
		END LOOP;
	END
	$$});

foreach my $time (1 .. 12)
{
	sql(q{SELECT ocean_enrich.disable_sync('contacts')});
	sql(q{SELECT ocean_enrich.enable_sync('contacts')});
	sql(qq{SELECT ocean_enrich.alter_sync('contacts', condition => 'id <> $time')});
	my $applier = applier_pid($node);
	kill 'TERM', $applier if $applier;
	sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'ocean_enrich worker'})
	  if $time % 2;
}
is(join('', map { ($_->finish)[1] } @sessions), '', 'all sessions come through');
sql(q{SELECT ocean_enrich.alter_sync('contacts', condition => '')});
sql(q{INSERT INTO contacts VALUES (1000, 0, 'last@example.com')});
settled($node);

is( sql(q{SELECT id, part, email, enriched -> 'email' ->> 'address' FROM contacts
		WHERE enriched -> 'email' ->> 'address'
			IS DISTINCT FROM CASE WHEN email !~ 'sb-unknown' THEN email END}),
	'', 'each row has the answer to what it asks for');
is( sql(q{SELECT s.done = count(*) FILTER (WHERE c.email !~ 'sb-unknown')
			AND s.not_found = count(*) FILTER (WHERE c.email ~ 'sb-unknown')
			AND s.failed = 0 AND s.unknown = 0
		FROM ocean_enrich.sync_status AS s, contacts AS c GROUP BY s.done, s.not_found, s.failed, s.unknown}),
	't', 'the counters are exact')
  or diag(sql('SELECT * FROM ocean_enrich.sync_status') . sql('SELECT state, count(*) FROM ocean_enrich.sync_row GROUP BY state')
	  . sql(q{SELECT email ~ 'sb-unknown', count(*) FROM contacts GROUP BY 1}) . sql('SELECT * FROM ocean_enrich.sync_errors'));
is( sql(q{SELECT count(*) FROM ocean_enrich.sync_row AS r
		WHERE NOT EXISTS (SELECT FROM contacts AS c WHERE r.key = ARRAY[c.id::text, c.part::text])}),
	0, 'no row is known that is not there');
is(sql(q{SELECT waiting FROM ocean_enrich.queue_status}), 0, 'the queue is empty, and its tally says so');
books_agree($node, $sandbox, 'after all that');

done_testing();
