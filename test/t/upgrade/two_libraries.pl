# two_libraries.pl
#	Two libraries that share memory in different ways on one server, both built
#	from source: the one that came first goes on, the other is refused with a clear
#	error.  Then the file of a running server is replaced by such a library, with
#	and without shared_preload_libraries.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich worker_pid wait_until books_agree);
use PostgreSQL::Test::Utils;
use StageTest qw(library_name copy_of_stage extension_file settings_of replace_file change_file
  build_library library_version);
use SyncTest qw(owner create settled);
use Test::More;

plan skip_all => StageTest::missing() if StageTest::missing();

my $version = library_version();
my $later_version = '77.1.0';
my @later = (qr/"\Q$version\E"/ => qq("$later_version"));
my $function = <<'END';

PG_FUNCTION_INFO_V1(ocean_enrich_added);
Datum
ocean_enrich_added(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(1);
}
END
my %libraries = (
	'a larger Control' => build_library(
		'src/shared/library_version.c' => [@later],
		'src/shared/channel.c' => [ qr/(typedef struct Control\n\{.*?)(?=\n\} Control;)/s => "\n\tint added;" ],
		'src/ocean_enrich.c' => [ qr/(.)\z/s => $function ]),
	'a larger hub' => build_library(
		'src/shared/library_version.c' => [@later],
		'src/shared/channel.c' => [ qr/(typedef struct Hub\n\{.*?)(?=\n\tSlot\s)/s => "\n\tint64 added;" ]),
	'another layout' => build_library(
		'src/shared/library_version.c' => [@later],
		'src/shared/channel.c' => [ qr/(SHARED_LAYOUT\s+)0x0CEA0001/ => '0x0CEA0002' ]));
my $with_function = $libraries{'a larger Control'};
# One that fails while it makes the shared memory.
my $failing = build_library(
	'src/shared/library_version.c' => [@later],
	'src/shared/channel.c' => [
		qr/(typedef struct Hub\n\{.*?)(?=\n\tSlot\s)/s => "\n\tint64 added;",
		qr/shared->lock_tranche = [^;]*;/ => 'elog(ERROR, "there is no tranche");' ]);

my $sandbox = OceanTest::Sandbox->new;
my ($node, $stage);
my $refused = "55000: another version of ocean_enrich is in use on this server"
  . "|Version $version of the library is in use, and this process has loaded version $later_version.  Nothing was sent."
  . '|Restart the server to use the installed version.';
my $replaced = "55000: another version of ocean_enrich was installed on this server"
  . "|This session has loaded version $version of the library, but the background worker would load version $later_version.  Nothing was sent."
  . '|Restart the server to use the installed version.';
my $submit = 'ocean_enrich.submit(ocean_person_request(email => $$%s@example.com$$))';

# A server with a stage of its own, a sync "contacts" and a table to update.
sub server
{
	my ($name, $extra_conf) = @_;
	my ($copy, $settings) = copy_of_stage();
	local $ENV{OCEAN_STAGE_SETTINGS} = $settings;
	my $node = node($sandbox, name => $name, extra_conf => "$extra_conf\nocean_enrich.concurrency = 4");
	owner($node, 'anna');
	$node->safe_psql('postgres', q{
		CREATE FUNCTION attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
			DECLARE
				detail text;
				hint text;
			BEGIN
				EXECUTE statement;
				RETURN 'done';
			EXCEPTION WHEN OTHERS THEN
				GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
				RETURN format('%s: %s|%s|%s', SQLSTATE, SQLERRM, detail, hint);
			END $$;
		CREATE TABLE people (id integer PRIMARY KEY, email text, enriched jsonb);
		SET ROLE anna;
		CREATE TABLE contacts (id integer PRIMARY KEY, email text, enriched jsonb)});
	create($node, 'anna', 'contacts');
	return ($node, $copy);
}

# What becomes of a statement in a session that has its library.
sub attempt
{
	my ($session, $statement) = @_;
	return $session->query_safe("SELECT attempt(\$statement\$$statement\$statement\$)");
}

# And in a new session that has another one, by settings.
sub attempt_elsewhere
{
	my ($statement, %settings) = @_;
	return $node->safe_psql('postgres', join '; ', (map { "SET $_ = '$settings{$_}'" } sort keys %settings),
		"SELECT attempt(\$statement\$$statement\$statement\$)");
}

my $round = 0;

# In an old session: a call, a queued one, one that is waited for, a sync, an
# UPDATE that reads ahead.  What becomes of each that needs an answer is ANSWERED.
sub is_at_work
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($node, $session, $answered, $name) = @_;
	$round++;
	is(attempt($session, 'SELECT ' . enrich("call$round\@example.com")), $answered, "$name: a call");
	is(attempt($session, 'SELECT ocean_enrich.balance()'), $answered, "$name: the balance");
	my $call_id = $session->query_safe('SELECT ' . sprintf($submit, "queued$round"));
	like($call_id, qr/^\d+$/, "$name: submit()");
	is(attempt($session, "SELECT ocean_enrich.wait(ARRAY[$call_id], '1 hour')"), $answered, "$name: wait()");
	is(attempt($session, "INSERT INTO contacts VALUES ($round, 'kept$round\@example.com')"), 'done', "$name: a sync");
	$session->query_safe(qq{INSERT INTO people SELECT $round * 100 + i, 'ahead' || $round || '_' || i || '\@example.com'
		FROM generate_series(1, 8) AS i});
	is(attempt($session, "UPDATE people SET enriched = " . enrich('email') . " WHERE id / 100 = $round"),
		$answered, "$name: an UPDATE that reads ahead");
	is($session->query_safe('SELECT count(*) FROM ocean_enrich.in_flight()'), '0', "$name: nothing is left in shared memory");
	return;
}

# All that was queued has come.
sub catches_up
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($node, $name) = @_;
	settled($node);
	wait_until($node, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state IN ('queued', 'sent'))});
	is($node->safe_psql('postgres', q{SELECT count(*) FROM ocean_enrich.call WHERE state <> 'answered'}), '0', "$name: the queue goes on");
	is($node->safe_psql('postgres', q{SELECT count(*) FROM contacts WHERE enriched IS NULL}), '0', "$name: so does the sync");
	return;
}

# So that what is noted has to be found by the worker.
sub end_applier
{
	my ($node) = @_;
	my $appliers = q{FROM pg_stat_activity WHERE backend_type = 'ocean_enrich sync applier'};
	$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) $appliers");
	wait_until($node, "SELECT NOT EXISTS (SELECT $appliers)");
	return;
}

# What a session with another library noted, and could not tell the worker.
sub finds_what_is_noted
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($node, $session, $address, $credits, $name) = @_;
	$node->reload;
	wait_until($node, "SELECT enriched #>> '{email,address}' = '$address' FROM contacts WHERE id = 1000");
	$session->query_safe("SET ocean_enrich.credit_limit = $credits");
	# The applier may have looked by itself, before the worker did.
	my $result = 'done';
	for (my $time = 1; $result eq 'done' && $time <= 100; $time++)
	{
		$result = attempt($session, 'SELECT ' . enrich("over$credits.$time\@example.com"));
	}
	like($result, qr/^OE402: .*credit_limit/, "$name: what was revealed counts");
	$session->query_safe('RESET ocean_enrich.credit_limit');
	return;
}

# A worker that ends, whichever session starts the next one.
sub end_worker
{
	my ($node) = @_;
	my $worker = worker_pid($node);
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
	wait_until($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $worker)");
	return;
}

($node, $stage) = server('node', '');

# Two of them

my $old = $node->background_psql('postgres');
is(attempt($old, 'SELECT ' . enrich('old@example.com')), 'done', 'the library in use');
my $worker = worker_pid($node);
$old->query_safe(q{INSERT INTO contacts VALUES (1000, 'revealed@example.com')});
settled($node);
my $id = $node->safe_psql('postgres', q{
	INSERT INTO ocean_enrich.reveal (call_id, person_id, emails, phones)
	SELECT call_id, answer ->> 'id', true, false FROM ocean_enrich.call WHERE sync_id IS NOT NULL RETURNING person_id});
my $revealed = 0;
foreach my $kind (sort keys %libraries)
{
	my ($other) = copy_of_stage();
	replace_file($libraries{$kind}, library_name($other));
	my %elsewhere = settings_of($other);
	foreach my $call ('SELECT ' . enrich('other@example.com'), 'SELECT ' . sprintf($submit, 'other'),
		'SELECT count(*) FROM ocean_enrich.in_flight()', 'SELECT * FROM ocean_enrich.queue_status',
		'SELECT * FROM ocean_enrich.statements()', 'SELECT ocean_enrich.balance()',
		'SELECT ocean_enrich.wait(ARRAY[1::bigint])', 'SELECT ocean_enrich.cancel(1)', 'SELECT ocean_enrich.retry(1)',
		'SELECT ocean_enrich.resolve(1, $$give up$$)',
		'SELECT ocean_enrich.wake()', q{INSERT INTO ocean_enrich.budget VALUES ($$anna$$, 'day', 100)})
	{
		is(attempt_elsewhere($call, %elsewhere), $refused, "$kind: $call");
	}
	end_applier($node);
	is(attempt_elsewhere("INSERT INTO contacts VALUES (-length('$kind'), 'other\@example.com')", %elsewhere),
		'done', "$kind: a table with a sync can be written");
	is(attempt_elsewhere(q{SELECT ocean_enrich.forget(id => 'nobody')}, %elsewhere), 'done', "$kind: forget()");
	$revealed += 1000;
	is(attempt_elsewhere(qq{SELECT ocean_enrich.receive_webhook('{"creditsUsed": 1000,
		"emails": [{"personId": "$id", "address": "$revealed\@example.com", "status": "verified"}]}')}, %elsewhere),
		'done', "$kind: a webhook is taken");
	finds_what_is_noted($node, $old, "$revealed\@example.com", $revealed, $kind);
	is(worker_pid($node), $worker, "$kind: the worker goes on");
	is_at_work($node, $old, 'done', "$kind, beside it");
}
catches_up($node, 'beside others');
books_agree($node, $sandbox, 'beside others');

# The file is replaced

replace_file($with_function, library_name($stage));
is($node->safe_psql('postgres', 'SELECT attempt($$SELECT ' . enrich('new@example.com') . '$$)'), $refused, 'replaced: a new session');
is_at_work($node, $old, 'done', 'replaced');
catches_up($node, 'replaced');

end_worker($node);
my $requests = $sandbox->books->{requests};
is_at_work($node, $old, $replaced, 'replaced, and its worker has left');
is($old->query_safe('SELECT doing, pause FROM ocean_enrich.queue_status'),
	'no worker|another version was installed; restart the server', 'the queue says why it does not go on');
is($sandbox->books->{requests}, $requests, 'nothing is sent');
replace_file(library_name(), library_name($stage));
is_at_work($node, $old, 'done', 'put back');
catches_up($node, 'put back');
is($old->query_safe('SELECT pause IS NULL FROM ocean_enrich.queue_status'), 't', 'put back: no more complaint');

$node->append_conf('postgresql.conf', 'ocean_enrich.daily_limit = 1');
$node->reload;
# Until the worker has read the file what is queued still goes.
my $is_paused = 'SELECT paused_until IS NOT NULL FROM ocean_enrich.queue_status';
my $submitted = 0;
do
{
	$old->query_safe('SELECT ' . sprintf($submit, 'paused' . ++$submitted));
	wait_until($node, "SELECT waiting = 0 OR ($is_paused) FROM ocean_enrich.queue_status");
} while ($old->query_safe($is_paused) ne 't');
replace_file($with_function, library_name($stage));
end_worker($node);
is_at_work($node, $old, $replaced, 'replaced again, and its worker has left');
is($old->query_safe('SELECT pause, paused_until FROM ocean_enrich.queue_status'),
	'another version was installed; restart the server|', 'nobody knows when the queue goes on');
$node->append_conf('postgresql.conf', 'ocean_enrich.daily_limit = 0');
$old->quit;
$node->restart;

# The shared memory belongs to the library that made it, to its end.
my ($other) = copy_of_stage();
replace_file($failing, library_name($other));
like(attempt_elsewhere('SELECT ' . enrich('failing@example.com'), settings_of($other)),
	qr/^XX000: there is no tranche/, 'a library that fails to make it');
is($node->safe_psql('postgres', 'SELECT attempt($$SELECT ' . enrich('new@example.com') . '$$)'), 'done', 'restarted: a call');
catches_up($node, 'restarted');
books_agree($node, $sandbox, 'restarted');
$node->stop;

# With shared_preload_libraries

$sandbox->reset;
($node, $stage) = server('preloaded', "shared_preload_libraries = 'ocean_enrich'");
$old = $node->background_psql('postgres');
is_at_work($node, $old, 'done', 'preloaded');
replace_file($with_function, library_name($stage));
end_worker($node);
is_at_work($node, $old, 'done', 'preloaded, replaced');
my $new = $node->background_psql('postgres');
is_at_work($node, $new, 'done', 'preloaded, replaced, a new session');
catches_up($node, 'preloaded, replaced');

# The later version's script calls what only the later library has.
my $script = extension_file($stage, 'ocean_enrich--1.0.sql') =~ s/1\.0\.sql$/1.0--1.1.sql/r;
open(my $file, '>', $script) or die "could not create $script: $!";
print $file <<'END';
\echo Use "ALTER EXTENSION ocean_enrich UPDATE" to load this file. \quit
CREATE FUNCTION ocean_enrich.added() RETURNS integer
	AS 'MODULE_PATHNAME', 'ocean_enrich_added' LANGUAGE C VOLATILE PARALLEL SAFE;
END
close $file;
my $update = q{ALTER EXTENSION ocean_enrich UPDATE TO '1.1'};
like(attempt($new, $update),
	qr/^42883: could not find function "ocean_enrich_added" in file ".*ocean_enrich\.so"\|/,
	'an update that the library in use is too old for');
is($node->safe_psql('postgres', q{SELECT extversion FROM pg_extension WHERE extname = 'ocean_enrich'}), '1.0', 'it is not done');
is_at_work($node, $new, 'done', 'after that');
catches_up($node, 'after that');
$_->quit foreach $old, $new;
$node->restart;
is($node->safe_psql('postgres', "$update; SELECT ocean_enrich.added()"), '1', 'restarted: it is');
$old = $node->background_psql('postgres');
is_at_work($node, $old, 'done', 'restarted');
catches_up($node, 'updated');
books_agree($node, $sandbox, 'updated');
$old->quit;

done_testing();
