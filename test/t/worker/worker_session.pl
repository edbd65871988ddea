# worker_session.pl
#	How the worker works in the database: it commits many calls at once, settings
#	of the database cannot mislead it, it does nothing for the ledger's owner that
#	he may not do himself, and a cancel does not harm it.

use strict;
use warnings FATAL => 'all';

use OceanTest
  qw(node enrich fails worker_pid wait_until wait_for_ledger patience books_agree);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);

# Sessions that make calls one after the other.
sub start_load
{
	my ($name, $sessions, $calls) = @_;
	return map {
		OceanTest::Query->start(
			$node, qq{
			DO \$\$
			BEGIN
				FOR i IN 1..$calls LOOP
					PERFORM @{[ enrich("format('$name.$_.%s\@example.com', i)") ]};
				END LOOP;
			END \$\$})
	} 1 .. $sessions;
}

sub wait_for_end_of_worker
{
	wait_until(
		$node, q{
		SELECT NOT EXISTS (SELECT FROM pg_stat_activity
			WHERE backend_type = 'ocean_enrich worker')});
	return;
}

# The ledger's entry for a person.
sub entry
{
	my ($email, $columns) = @_;
	return $node->safe_psql(
		'postgres', qq{
		SELECT $columns FROM ocean_enrich.call
		WHERE request #>> '{person,email}' = '$email'});
}

# Group commit: what comes while the worker stands still is written by a handful
# of transactions.

my $sessions = 64;

sub transactions
{
	my ($state) = @_;
	return $node->safe_psql(
		'postgres', qq{
		SELECT count(*), count(DISTINCT xmin::text) FROM ocean_enrich.call
		WHERE state = '$state' AND request #>> '{person,email}' LIKE 'group%'});
}

my $companion = $node->background_psql('postgres');
$companion->query_safe('SELECT ' . enrich('first@example.com'));
my $worker = worker_pid($node);
$sandbox->config(hold => JSON::PP::true);
kill 'STOP', $worker;
my @queries = start_load('group', $sessions, 1);
wait_until($node,
	"SELECT count(*) = $sessions FROM ocean_enrich.in_flight() WHERE state = 'waiting'"
);
kill 'CONT', $worker;
$sandbox->wait(held => $sessions);
my ($rows, $transactions) = split /\|/, transactions('sent');
is($rows, $sessions, 'requests are recorded before they are sent');
note("$transactions transactions recorded $rows requests");
cmp_ok($transactions, '<', 16, 'many requests share a transaction');

kill 'STOP', $worker;
$sandbox->config(hold => JSON::PP::false);
$sandbox->wait(idle => 1);
kill 'CONT', $worker;
is((grep { ($_->finish)[2] == 0 } @queries),
	$sessions, "$sessions sessions have their persons");
($rows, $transactions) = split /\|/, transactions('answered');
is($rows, $sessions, 'answers are recorded');
note("$transactions transactions recorded $rows answers");
cmp_ok($transactions, '<', 16, 'many answers share a transaction');
$companion->quit;
books_agree($node, $sandbox, 'group commit');

# Settings of the database

$node->safe_psql(
	'postgres', q{
	CREATE SCHEMA evil;
	CREATE FUNCTION evil.equal(bytea, bytea) RETURNS boolean LANGUAGE plpgsql
		AS $$ BEGIN RAISE 'called'; END $$;
	CREATE FUNCTION evil.equal(text, text) RETURNS boolean LANGUAGE plpgsql
		AS $$ BEGIN RAISE 'called'; END $$;
	CREATE OPERATOR evil.= (FUNCTION = evil.equal, LEFTARG = bytea, RIGHTARG = bytea);
	CREATE OPERATOR evil.= (FUNCTION = evil.equal, LEFTARG = text, RIGHTARG = text);
	ALTER DATABASE postgres SET search_path = evil, pg_catalog;
	ALTER DATABASE postgres SET default_transaction_read_only = on;
	ALTER DATABASE postgres SET default_transaction_isolation = serializable;
	ALTER DATABASE postgres SET default_transaction_deferrable = on;
	ALTER DATABASE postgres SET session_replication_role = replica;
	ALTER DATABASE postgres SET statement_timeout = 1});
{
	local $ENV{PGOPTIONS} = '-c search_path=public -c statement_timeout=0';
	my $query =
	  OceanTest::Query->start($node, 'SELECT ' . enrich('anna@example.com'));
	like(($query->finish)[0],
		qr/^\{/, 'settings of the database do not keep a call from success');
	is(entry('anna@example.com', 'state, credits'),
		'answered|3', 'it is recorded');
	$node->safe_psql(
		'postgres', q{
		BEGIN READ WRITE;
		ALTER DATABASE postgres RESET ALL;
		DROP SCHEMA evil CASCADE;
		COMMIT});
}
books_agree($node, $sandbox, 'settings of the database');

# An owner of the ledger who is no superuser wants to become one.

$node->safe_psql(
	'postgres', q{
	CREATE ROLE mallory;
	GRANT ALL ON SCHEMA ocean_enrich, public TO mallory;
	ALTER TABLE ocean_enrich.call OWNER TO mallory;
	INSERT INTO ocean_enrich.budget VALUES ('somebody', 'day', 1);
	SET ROLE mallory;
	CREATE FUNCTION public.grab() RETURNS trigger LANGUAGE plpgsql AS $$
		DECLARE
			command text;
		BEGIN
			FOREACH command IN ARRAY ARRAY['RESET ROLE',
				'SET SESSION AUTHORIZATION DEFAULT',
				'ALTER ROLE mallory SUPERUSER'] LOOP
				BEGIN
					EXECUTE command;
					EXECUTE 'ALTER ROLE mallory SUPERUSER';
				EXCEPTION WHEN OTHERS THEN
				END;
			END LOOP;
			NEW.detail := current_user;
			RETURN NEW;
		END $$;
	CREATE TRIGGER grab BEFORE INSERT OR UPDATE ON ocean_enrich.call
		FOR EACH ROW EXECUTE FUNCTION public.grab()});
like($node->safe_psql('postgres', 'SELECT ' . enrich('berta@example.com')),
	qr/^\{/, 'a call succeeds when the ledger has a trigger');
is(entry('berta@example.com', 'state, detail'),
	'answered|mallory', 'the trigger ran with the rights of its owner');
is( $node->safe_psql(
		'postgres', q{SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'}),
	'f',
	'who did not become a superuser');

# A trigger that fails before the request is sent, or when it is answered

sub fail_on
{
	my ($event) = @_;
	$node->safe_psql(
		'postgres', qq{
		CREATE OR REPLACE FUNCTION public.grab() RETURNS trigger
			LANGUAGE plpgsql AS 'BEGIN RAISE ''not now''; END';
		CREATE OR REPLACE TRIGGER grab BEFORE $event ON ocean_enrich.call
			FOR EACH ROW EXECUTE FUNCTION public.grab()});
	return;
}

my $requests = $sandbox->books->{requests};
fail_on('INSERT');
fails(
	$node,
	'SELECT ' . enrich('carla@example.com'),
	qr/55000: could not record the request in table "ocean_enrich.call"\nDETAIL:  Nothing was sent: not now/,
	'a call that cannot be recorded fails');
is($sandbox->books->{requests}, $requests, 'it is not sent');

fail_on('UPDATE');
like($node->safe_psql('postgres', 'SELECT ' . enrich('carla@example.com')),
	qr/^\{/, 'an answer that cannot be recorded is given all the same');
$node->safe_psql(
	'postgres', q{
	DROP TRIGGER grab ON ocean_enrich.call;
	ALTER TABLE ocean_enrich.call OWNER TO CURRENT_USER});
wait_for_end_of_worker();
$node->safe_psql('postgres', 'SELECT ' . enrich('dora@example.com'));
is(entry('carla@example.com', 'state'),
	'unknown', 'the next worker finds that nobody knows of it');
books_agree($node, $sandbox, 'triggers');

# pg_cancel_backend() on the worker, again and again

$sandbox->config(latency_ms => 0);
$requests = $sandbox->books->{requests};
@queries = start_load('cancel', 4, 200);
$node->safe_psql(
	'postgres', patience() . q{
	DO $$
	DECLARE
		cancels int := 0;
	BEGIN
		LOOP
			PERFORM pg_stat_clear_snapshot();
			PERFORM pg_cancel_backend(pid) FROM pg_stat_activity
				WHERE backend_type = 'ocean_enrich worker';
			cancels := cancels + 1;
			EXIT WHEN cancels > 100 AND NOT EXISTS (SELECT FROM pg_stat_activity
				WHERE state = 'active' AND pid <> pg_backend_pid());
			PERFORM pg_sleep(0.001);
		END LOOP;
	END $$});
is((grep { ($_->finish)[2] == 0 } @queries),
	4, 'no call fails when the worker is cancelled');
is($sandbox->books->{requests}, $requests + 800, 'each was sent once');
is( $node->safe_psql(
		'postgres', q{
		SELECT count(*) FROM ocean_enrich.call
		WHERE request #>> '{person,email}' LIKE 'cancel%'
			AND state = 'answered' AND answer IS NOT NULL}),
	800,
	'each is recorded');
books_agree($node, $sandbox, 'cancels');

# Without record_before_send, there is a row only when there is an answer.

$node->append_conf('postgresql.conf', 'ocean_enrich.record_before_send = off');
$node->reload;
wait_until($node,
	q{SELECT current_setting('ocean_enrich.record_before_send') = 'off'});
wait_for_end_of_worker();
$sandbox->config(hold => JSON::PP::true);
my $query =
  OceanTest::Query->start($node, 'SELECT ' . enrich('emma@example.com'));
$sandbox->wait(held => 1);
is(entry('emma@example.com', 'state'),
	'', 'record_before_send = off: there is no row before the answer');
$sandbox->config(hold => JSON::PP::false);
like(($query->finish)[0],
	qr/^\{/, 'record_before_send = off: the call has its person');
is(entry('emma@example.com', 'state, attempts, credits'),
	'answered|1|3', 'record_before_send = off: it is recorded');
books_agree($node, $sandbox, 'record_before_send = off');

done_testing();
