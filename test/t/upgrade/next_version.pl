# next_version.pl
#	A later version, made up here: its script runs on what 1.0 has left, and all
#	goes on.  And what the library must have for databases that were not updated.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich wait_until books_agree);
use PostgreSQL::Test::Utils;
use StageTest qw(library_name copy_of_stage extension_file);
use SyncTest qw(owner create settled);
use Test::More;

# The names in C that version 1.0 calls.  A later library has to have each of
# them, as long as a database may still be at 1.0.  Once 1.0 is released, this list
# stays as it is, and what later versions add stands in lists of their own.
my @symbols = qw(
  ocean_enrich_account ocean_enrich_alter_sync ocean_enrich_balance
  ocean_enrich_budget_changed ocean_enrich_call_changed ocean_enrich_cancel
  ocean_enrich_contact_rank ocean_enrich_create_sync
  ocean_enrich_database_identity ocean_enrich_disable_sync ocean_enrich_drop_sync
  ocean_enrich_enable_sync ocean_enrich_end_pause ocean_enrich_estimate ocean_enrich_expect_reveals
  ocean_enrich_fingerprint ocean_enrich_forget
  ocean_enrich_in_flight ocean_enrich_person ocean_enrich_queue_state
  ocean_enrich_receive_webhook ocean_enrich_request_error ocean_enrich_retry ocean_enrich_retry_sync
  ocean_enrich_reveals_counted
  ocean_enrich_setting ocean_enrich_spending_changed ocean_enrich_statements
  ocean_enrich_submit ocean_enrich_support ocean_enrich_sync_changed
  ocean_enrich_sync_counted ocean_enrich_try_submit ocean_enrich_wait ocean_enrich_wake
  ocean_person ocean_person_experiences ocean_person_request ocean_try_enrich_person);

# What sessions that have an older library start.
my @processes = qw(oe_worker_main oe_applier_main oe_launcher_main);

plan skip_all => StageTest::missing() if StageTest::missing();

sub symbols_of
{
	my ($name) = @_;
	my ($stdout, $stderr) = run_command([ 'nm', '-D', '--defined-only', $name ]);
	return $stdout;
}

my %exported = map { (split)[-1] => 1 } grep { / T / } split /\n/, symbols_of(library_name());
is_deeply([ grep { !$exported{$_} || !$exported{"pg_finfo_$_"} } @symbols ], [], 'the library has each function of 1.0');
is_deeply([ grep { !$exported{$_} } @processes ], [], 'and each process');

my $sandbox = OceanTest::Sandbox->new;
my ($later, $later_settings) = copy_of_stage();
my $node;
{
	local $ENV{OCEAN_STAGE_SETTINGS} = $later_settings;
	$node = node($sandbox, extra_conf => "shared_preload_libraries = 'ocean_enrich'");
}
$node->safe_psql('postgres', 'CREATE DATABASE oldest');
$node->safe_psql('oldest', q{CREATE EXTENSION ocean_enrich VERSION '1.0'});
is( $node->safe_psql('oldest', q{
		SELECT string_agg(DISTINCT prosrc, ' ' ORDER BY prosrc) FROM pg_proc
		JOIN pg_depend ON classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND deptype = 'e'
		WHERE probin IS NOT NULL AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'ocean_enrich')}),
	join(' ', sort @symbols), 'what SQL of 1.0 calls in C');

# 1.0 at work: answers, a queue, a sync, a budget

owner($node, 'anna');
$node->safe_psql('postgres', 'SELECT ' . enrich('before@example.com'));
$node->safe_psql('postgres', q{
	ALTER SYSTEM SET ocean_enrich.queue_enabled = off;
	SELECT pg_reload_conf();
	SET ROLE anna;
	CREATE TABLE contacts (id integer PRIMARY KEY, email text, enriched jsonb);
	INSERT INTO contacts VALUES (1, 'kept@example.com')});
create($node, 'anna', 'contacts');
$node->safe_psql('postgres', q{
	INSERT INTO ocean_enrich.budget VALUES ('anna', 'day', 100);
	SELECT ocean_enrich.submit(ocean_person_request(email => 'queued@example.com'))});

# In a session that has the library loaded
my $session = $node->background_psql('postgres');
like($session->query_safe('SELECT ' . enrich('session@example.com')), qr/^\{/, 'a session is at work');

my $control = extension_file($later, 'ocean_enrich.control');
my $text = slurp_file($control);
my ($version) = $text =~ /default_version = '(.*)'/;
my $script = extension_file($later, "ocean_enrich--$version.sql") =~ s/\.sql$/--99.0.sql/r;
open(my $file, '>', $script) or die "could not create $script: $!";
print $file <<'END';
\echo Use "ALTER EXTENSION ocean_enrich UPDATE" to load this file. \quit
SET LOCAL search_path = pg_catalog, pg_temp;
ALTER TABLE ocean_enrich.call ADD COLUMN note text;
ALTER TYPE ocean_enrich.period ADD VALUE 'year';
CREATE FUNCTION ocean_enrich.version() RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE BEGIN ATOMIC SELECT '99.0'; END;
CREATE OR REPLACE FUNCTION @extschema@.ocean_enrich_person(request jsonb) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'ocean_enrich_person'
	LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED COST 20000
	SUPPORT ocean_enrich.support;
END
close $file;
$text =~ s/default_version = '.*'/default_version = '99.0'/;
open($file, '>', $control) or die "could not write $control: $!";
print $file $text;
close $file;

$node->safe_psql('postgres', 'ALTER EXTENSION ocean_enrich UPDATE');
is($node->safe_psql('postgres', q{SELECT extversion, ocean_enrich.version() FROM pg_extension WHERE extname = 'ocean_enrich'}),
	'99.0|99.0', 'updated');
like($session->query_safe('SELECT ' . enrich('session@example.com')), qr/^\{/,
	'a session from before is answered from the ledger');
like($session->query_safe('SELECT ' . enrich('new@example.com')), qr/^\{/, 'and asks');
$session->query_safe(q{SELECT ocean_enrich.submit(ocean_person_request(email => 'queued.after@example.com'))});
$node->safe_psql('postgres', q{
	INSERT INTO contacts VALUES (2, 'kept.after@example.com');
	ALTER SYSTEM RESET ocean_enrich.queue_enabled;
	SELECT pg_reload_conf()});
settled($node);
wait_until($node, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state IN ('queued', 'sent'))});
is($node->safe_psql('postgres', q{
		SELECT request #>> '{person,email}', state, note FROM ocean_enrich.call
		ORDER BY request #>> '{person,email}' COLLATE "C"}),
	join("\n", sort map { "$_\@example.com|answered|" }
		  qw(before kept kept.after new queued queued.after session)),
	'queue and sync go on');
is($node->safe_psql('postgres', q{SELECT spent > 0 FROM ocean_enrich.budget_status WHERE role = 'anna'}),
	't', 'and the budget');
books_agree($node, $sandbox, 'updated');
$session->quit;
$node->restart;
like($node->safe_psql('postgres', 'SELECT ' . enrich('restarted@example.com')), qr/^\{/, 'after a restart, too');
books_agree($node, $sandbox, 'restarted');

done_testing();
