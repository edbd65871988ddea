# 130_upgrade.pl
#	A later version, made up here: its script runs on what 1.0 has left, and all
#	goes on.  And a library that shares memory in another way than the one in use:
#	it says so, and disturbs nothing.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::Bin;

use OceanTest qw(node enrich fails wait_until worker_pid books_agree);
use PostgreSQL::Test::Utils;
use SyncTest qw(owner create settled);
use Test::More;

# The names in C that version 1.0 calls.  A later library has to have each of
# them, as long as a database may still be at 1.0.
my @symbols = qw(
  ocean_enrich_account ocean_enrich_alter_sync ocean_enrich_balance
  ocean_enrich_budget_changed ocean_enrich_call_changed ocean_enrich_cancel
  ocean_enrich_create_sync
  ocean_enrich_database_identity ocean_enrich_disable_sync ocean_enrich_drop_sync
  ocean_enrich_enable_sync ocean_enrich_estimate ocean_enrich_expect_reveals
  ocean_enrich_forget
  ocean_enrich_in_flight ocean_enrich_person ocean_enrich_queue_state
  ocean_enrich_receive_webhook ocean_enrich_retry ocean_enrich_retry_sync
  ocean_enrich_reveals_counted
  ocean_enrich_setting ocean_enrich_spending_changed ocean_enrich_statements
  ocean_enrich_submit ocean_enrich_support ocean_enrich_sync_changed
  ocean_enrich_sync_counted ocean_enrich_wait ocean_enrich_wake
  ocean_person_request ocean_try_enrich_person);

my $settings = $ENV{OCEAN_STAGE_SETTINGS} // '';
my ($library_folder) = $settings =~ /dynamic_library_path = '([^']*):\$libdir'/;
plan skip_all => 'the extension is not staged' unless $library_folder;
my ($stage) = $settings =~ /extension_destdir = '([^']*)'/;
($stage) = map { s{/usr/.*}{}r } $settings =~ /extension_control_path = '([^':]*)/ unless defined $stage;
my $name = (glob "$library_folder/ocean_enrich.{so,dylib}")[0];
plan skip_all => 'the stage is laid out in another way'
  unless defined $stage && index($library_folder, $stage) == 0 && -e $name;

# A copy of the stage, to be changed: its folder, and the settings for it.
sub copy_of_stage
{
	my $copy = PostgreSQL::Test::Utils::tempdir() . '/stage';
	system_or_bail('cp', '-R', $stage, $copy);
	return ($copy, $settings =~ s/\Q$stage\E/$copy/gr);
}

sub extension_file
{
	my ($copy, $file) = @_;
	my ($found) = split /\n/, `find '$copy' -name '$file'`;
	return $found // die "no $file below $copy";
}

my $sandbox = OceanTest::Sandbox->new;
my ($later, $later_settings) = copy_of_stage();
my $node;
{
	local $ENV{OCEAN_STAGE_SETTINGS} = $later_settings;
	$node = node($sandbox, extra_conf => "shared_preload_libraries = 'ocean_enrich'");
}
is( $node->safe_psql('postgres', q{
		SELECT string_agg(DISTINCT prosrc, ' ' ORDER BY prosrc) FROM pg_proc
		JOIN pg_depend ON classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND deptype = 'e'
		WHERE probin IS NOT NULL AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'ocean_enrich')}),
	join(' ', sort @symbols), 'what SQL calls in C');

# 1.0 at work: answers, a queue, a kept column, a budget

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
my $script = extension_file($later, 'ocean_enrich--1.0.sql') =~ s/1\.0\.sql$/1.0--1.1.sql/r;
open(my $file, '>', $script) or die "could not create $script: $!";
print $file <<'END';
\echo Use "ALTER EXTENSION ocean_enrich UPDATE" to load this file. \quit
SET LOCAL search_path = pg_catalog, pg_temp;
ALTER TABLE ocean_enrich.call ADD COLUMN note text;
ALTER TYPE ocean_enrich.period ADD VALUE 'year';
CREATE FUNCTION ocean_enrich.version() RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE BEGIN ATOMIC SELECT '1.1'; END;
CREATE OR REPLACE FUNCTION @extschema@.ocean_enrich_person(request jsonb) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'ocean_enrich_person'
	LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED COST 20000
	SUPPORT ocean_enrich.support;
END
close $file;
my $text = slurp_file($control);
ok($text =~ s/default_version = '1\.0'/default_version = '1.1'/, 'the later version is the default');
open($file, '>', $control) or die "could not write $control: $!";
print $file $text;
close $file;

$node->safe_psql('postgres', 'ALTER EXTENSION ocean_enrich UPDATE');
is($node->safe_psql('postgres', q{SELECT extversion, ocean_enrich.version() FROM pg_extension WHERE extname = 'ocean_enrich'}),
	'1.1|1.1', 'updated');
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
	'queue and kept column go on');
is($node->safe_psql('postgres', q{SELECT spent > 0 FROM ocean_enrich.budget_status WHERE role = 'anna'}),
	't', 'and the budget');
books_agree($node, $sandbox, 'updated');
$session->quit;
$node->restart;
like($node->safe_psql('postgres', 'SELECT ' . enrich('restarted@example.com')), qr/^\{/, 'after a restart, too');
books_agree($node, $sandbox, 'restarted');

# Another library, whose shared memory begins with another number

my ($other) = copy_of_stage();
my $other_library = $name =~ s/\Q$stage\E/$other/r;
my $binary = slurp_file($other_library);
my $changes = $binary =~ s/\x01\x00\xEA\x0C/\x02\x00\xEA\x0C/g;
SKIP:
{
	skip 'this machine has numbers in its code in another way', 13 unless $changes;
	# In place, as a running server has a file of its own mapped.
	unlink $other_library;
	open($file, '>:raw', $other_library) or die "could not create $other_library: $!";
	print $file $binary;
	close $file;
	$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
	$node->restart;
	my %elsewhere = (dynamic_library_path => ($library_folder =~ s/\Q$stage\E/$other/r) . ':$libdir');
	$elsewhere{extension_destdir} = $other if $settings =~ /extension_destdir/;
	my $elsewhere = join '; ', map { "SET $_ = '$elsewhere{$_}'" } sort keys %elsewhere;
	my $old = $node->background_psql('postgres');
	like($old->query_safe('SELECT ' . enrich('old@example.com')), qr/^\{/, 'the library in use');
	my $worker = worker_pid($node);

	foreach my $call ('SELECT ' . enrich('other@example.com'),
		'SELECT count(*) FROM ocean_enrich.in_flight()',
		q{SELECT ocean_enrich.submit(ocean_person_request(email => 'other@example.com'))},
		'SELECT ocean_enrich.wake()')
	{
		fails($node, "$elsewhere; $call",
			qr/55000: another version of ocean_enrich is in use on this server\nHINT:  Restart the server/,
			"another library: $call");
	}
	like($old->query_safe('SELECT ' . enrich('old.again@example.com')), qr/^\{/, 'the one in use goes on');
	is(worker_pid($node), $worker, 'and so does its worker');
	is($old->query_safe('SELECT count(*) FROM ocean_enrich.in_flight()'), '0', 'nothing is left in shared memory');

	# The file was replaced, and the next worker loads what is there now.
	$node->safe_psql('postgres', "ALTER SYSTEM SET $_ = '$elsewhere{$_}'") foreach keys %elsewhere;
	$node->reload;
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
	wait_until($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $worker)");
	my $requests = $sandbox->books->{requests};
	$old->query_safe(q{
		DO $$ BEGIN
			PERFORM } . enrich('lost@example.com') . q{;
		EXCEPTION WHEN OTHERS THEN
			CREATE TABLE failure AS SELECT SQLERRM AS message;
		END $$});
	is($node->safe_psql('postgres', 'SELECT message FROM failure'),
		'the ocean_enrich worker does not stay up', 'a worker with another library serves no old session');
	is($sandbox->books->{requests}, $requests, 'and sends nothing');
	like(slurp_file($node->logfile), qr/another version of ocean_enrich is in use on this server/,
		'the log has the reason');
	$old->quit;
	$node->restart;
	like($node->safe_psql('postgres', 'SELECT ' . enrich('restarted.again@example.com')), qr/^\{/,
		'after a restart the new one serves');
	books_agree($node, $sandbox, 'another library');
}

done_testing();
