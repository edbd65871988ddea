# attackers.pl
#	What an ordinary role plants never runs with another's rights and never spends:
#	names that our triggers look up, a ledger of its own where there is no
#	extension, a table that changes hands, settings that lead the token away,
#	code that does not end.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails wait_until);
use SyncTest qw(owner create settled applier_pid);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, extra_conf => "shared_preload_libraries = 'ocean_enrich'");
owner($node, $_) foreach qw(mallory victim);

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Not by SET ROLE, which could be undone.
sub mallory { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'mallory' ]) }

sub mallory_fails
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($statement, $pattern, $name) = @_;
	return fails($node, $statement, $pattern, $name, user => 'mallory');
}

# Notes by whom it runs and tries to become more.
mallory(q{
	CREATE TABLE seen (who name);
	GRANT INSERT ON seen TO PUBLIC;
	CREATE FUNCTION evil() RETURNS integer LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.seen VALUES (current_user);
		RETURN 1;
	END $$;
	CREATE FUNCTION evil_trigger() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN PERFORM public.evil(); RETURN NEW; END $$;
	CREATE FUNCTION evil_request(text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS
		$$ SELECT jsonb_build_object('person', jsonb_build_object('email', $1)) WHERE public.evil() = 1 $$});

sub ran_as_nobody_else
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name) = @_;
	return is(sql(q{SELECT string_agg(DISTINCT who::text, ' ') FROM seen WHERE who <> 'mallory'}),
		'', $name);
}

# The triggers of syncs read transition tables.  One that has none must
# not find a temporary view of that name, and run what is in it.

mallory(q{
	CREATE TABLE own (id integer PRIMARY KEY, email text, enriched jsonb);
	SELECT ocean_enrich.create_sync('own', 'own', 'ocean_person_request(email => email)', 'enriched')});
my $id = sql(q{SELECT sync_id FROM ocean_enrich.sync WHERE name = 'own'});
foreach my $event ('INSERT', 'UPDATE', 'DELETE')
{
	mallory_fails(
		qq{
		CREATE TEMP VIEW ocean_new AS SELECT public.evil() AS id, 'x'::text AS email;
		CREATE TEMP VIEW ocean_old AS SELECT public.evil() AS id, 'x'::text AS email;
		INSERT INTO own SELECT 1, 'one\@example.com' WHERE '$event' <> 'INSERT';
		CREATE TRIGGER planted AFTER $event ON own FOR EACH STATEMENT
			EXECUTE FUNCTION ocean_enrich.sync_changed('$id');
		} . {
			INSERT => q{INSERT INTO own VALUES (2, 'two@example.com')},
			UPDATE => q{UPDATE own SET email = 'three@example.com'},
			DELETE => q{DELETE FROM own}
		}->{$event},
		qr/39P01: this function can only be called by triggers that ocean_enrich creates/,
		"$event: a trigger without transition tables is refused");
	ran_as_nobody_else("$event: nothing planted has run");
	mallory('DROP TRIGGER IF EXISTS planted ON own; DELETE FROM own');
}
mallory_fails(
	qq{
	CREATE TEMP VIEW ocean_new AS SELECT public.evil() AS id, 'x'::text AS email;
	CREATE OR REPLACE TRIGGER ocean_enrich_${id}_insert AFTER INSERT ON own
		REFERENCING NEW TABLE AS elsewhere FOR EACH STATEMENT
		EXECUTE FUNCTION ocean_enrich.sync_changed('$id');
	INSERT INTO own VALUES (4, 'four\@example.com')},
	qr/39P01: /, 'nor does one whose transition table has another name do anything');
ran_as_nobody_else('nothing planted has run');
is(sql(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'}), 'f', 'nobody has become superuser');
mallory(q{SELECT ocean_enrich.drop_sync('own')});

# A table that gets another owner while create_sync() waits for it

mallory('CREATE TABLE handed (id integer PRIMARY KEY, email text, enriched jsonb)');
my $administrator = $node->background_psql('postgres');
$administrator->query_safe('BEGIN; ALTER TABLE handed OWNER TO postgres');
my $racing = OceanTest::Query->start($node, q{
	SELECT ocean_enrich.create_sync('handed', 'handed', 'public.evil_request(email)', 'enriched')},
	user => 'mallory');
wait_until($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE usename = 'mallory' AND wait_event_type = 'Lock'});
$administrator->query_safe('COMMIT');
$administrator->quit;
like(($racing->finish)[1], qr/42501: must be owner of table handed/,
	'a table that was handed over meanwhile is not kept');
sql(q{INSERT INTO handed VALUES (1, 'handed@example.com')});
is(sql(q{SELECT count(*) FROM ocean_enrich.sync WHERE name = 'handed'}), 0, 'there is no sync');
ran_as_nobody_else('and no expression has run as the new owner');

# Code that catches the end of its time and goes on keeps neither a superuser nor
# the server from ending the process.

mallory(q{
	CREATE FUNCTION endless(text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN
		IF current_setting('application_name') <> 'ocean_enrich sync applier' THEN
			RETURN NULL;
		END IF;
		LOOP
			BEGIN
				PERFORM pg_sleep(1);
			EXCEPTION WHEN query_canceled THEN
				NULL;
			END;
		END LOOP;
	END $$;
	CREATE TABLE stuck (id integer PRIMARY KEY, email text, enriched jsonb);
	SELECT ocean_enrich.create_sync('stuck', 'stuck', 'public.endless(email)', 'enriched');
	INSERT INTO stuck VALUES (1, 'stuck@example.com')});
wait_until($node, q{
	SELECT count(*) = 1 FROM pg_stat_activity
	WHERE backend_type = 'ocean_enrich sync applier' AND wait_event = 'PgSleep'});
my $applier = applier_pid($node);
sql("SELECT pg_terminate_backend($applier)");
wait_until($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $applier)");
pass('an applier that does not come back can be ended');
sql(q{DROP TABLE stuck});

# A namesake of the ledger in a database without the extension

$sandbox->reset;
sql('CREATE DATABASE bare; GRANT CREATE ON DATABASE bare TO mallory');
sub bare { return $node->safe_psql('bare', $_[0], extra_params => [ '-U', 'mallory' ]) }
my $ddl = sql(q{
	SELECT 'CREATE TABLE ocean_enrich.call (' || string_agg(attname || ' ' ||
		CASE WHEN attname = 'call_id' THEN 'bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY'
			ELSE format_type(atttypid, atttypmod) END, ', ' ORDER BY attnum) || ')'
	FROM pg_attribute WHERE attrelid = 'ocean_enrich.call'::regclass AND attnum > 0});
bare(qq{
	CREATE SCHEMA ocean_enrich;
	CREATE TYPE ocean_enrich.call_state AS ENUM
		('queued', 'sent', 'answered', 'refused', 'failed', 'unknown', 'cancelled');
	CREATE TYPE ocean_enrich.resolution AS ENUM ('pay again', 'give up');
	CREATE TYPE ocean_enrich.wait_reason AS ENUM
		('gathering', 'retry', 'limit', 'budget', 'call', 'decision');
	$ddl;
	CREATE TABLE ocean_enrich.queue_tally (day date, folded boolean DEFAULT false, waiting bigint DEFAULT 0,
		answered bigint DEFAULT 0, reused bigint DEFAULT 0, refused bigint DEFAULT 0, failed bigint DEFAULT 0,
		unknown bigint DEFAULT 0, cancelled bigint DEFAULT 0, credits numeric DEFAULT 0);
	CREATE TABLE ocean_enrich.budget (role name, period text, credit_limit numeric);
	CREATE INDEX ON ocean_enrich.call (fingerprint);
	CREATE INDEX ON ocean_enrich.call (state, priority, next_attempt_at, call_id);
	INSERT INTO ocean_enrich.call (endpoint, state, role, fingerprint, request, raw_truncated, attempts, requested_at,
		next_attempt_at, priority, background, postponed)
	SELECT 'person', 'queued', 'postgres', sha256(request::bytea), request::jsonb, false, 0, now(), now(), 0, true, 0
	FROM (SELECT '{"person": {"email": "planted\@example.com"}}') AS planted (request)});
my $log = -s $node->logfile;
$node->restart;
wait_until($node, q{
	SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'ocean_enrich launcher'});
sql(q{SELECT ocean_enrich.submit(ocean_person_request(email => 'honest@example.com'))});
$sandbox->wait(charges => 1);
# The launcher has been to every database when its first look is over.
wait_until($node, q{
	SELECT NOT EXISTS (SELECT FROM pg_stat_activity
		WHERE backend_type = 'ocean_enrich worker' AND datname = 'bare')}, 'template1');
is(bare('SELECT state FROM ocean_enrich.call'), 'queued', 'a planted ledger is no ledger');
is($sandbox->books(identity => 'planted@example.com')->{people}{'planted@example.com'}{requests} // 0,
	0, 'and nothing of it is sent');
$node->log_check('no process died of it', $log, log_unlike => [qr/terminated by signal/]);
fails($node, 'CREATE EXTENSION ocean_enrich', qr/42P06: schema "ocean_enrich" already exists/,
	'a planted schema stops the install', database => 'bare');
is(bare(q{SELECT count(*) FROM pg_extension WHERE extname = 'ocean_enrich'}), 0, 'of which nothing is left');

# Settings that lead the token away, before and after the library is loaded, and
# by the connection

foreach my $setting (qw(api_url api_token api_token_file proxy ca_file token_in max_concurrency rate_limit
	daily_limit credit_limit retention webhook_secret webhook_url queue_enabled request_timeout))
{
	my $value = { token_in => 'query', max_concurrency => 1, rate_limit => 1, daily_limit => 1,
		credit_limit => 1, retention => 1, queue_enabled => 'off', request_timeout => 1,
		webhook_secret => 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',
		api_token => 'stolen', api_url => 'https://mallory.example', webhook_url => 'https://mallory.example', proxy => 'http://127.0.0.1:9' }->{$setting}
	  // '/tmp/mallory';
	mallory_fails("SET ocean_enrich.$setting = '$value'",
		qr/42501: permission denied to set parameter/, "$setting: an ordinary role cannot set it");
	mallory_fails("ALTER ROLE mallory SET ocean_enrich.$setting = '$value'",
		qr/42501: permission denied/, "$setting: nor for itself for good");
	local $ENV{PGOPTIONS} = "-c ocean_enrich.$setting=$value";
	my ($stdout, $stderr) =
	  OceanTest::Query->start($node, "SELECT current_setting('ocean_enrich.$setting', true)", user => 'mallory')->finish;
	unlike($stdout, qr/^\Q$value\E$/, "$setting: nor by the connection")
	  if $setting !~ /token$|secret/;
}
foreach my $setting (qw(api_token api_url proxy ca_file api_token_file))
{
	foreach my $break ('\r', '\n', '\r\nx-injected: yes\r\n')
	{
		fails($node, "SET ocean_enrich.$setting = E'https://127.0.0.1/a${break}b'",
			qr/22023: invalid value for parameter "ocean_enrich\.$setting"/,
			"$setting: no line break in it");
	}
}
ran_as_nobody_else('after all of that nothing has run with rights of others');

done_testing();
