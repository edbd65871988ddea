# pg_upgrade.pl
#	pg_upgrade from PostgreSQL 15 to newer ones, with something in each table and calls
#	in each state: every row is there, the queue goes on once it is taken over, and what
#	waits for a sync is asked for once.  Next to the server under test, if that is
#	newer, it takes those that test/proof/run.sh has built, which get the extension.
#
#	Where OCEAN_MUST_UPGRADE is set, to have no server for it is a failure.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(enrich wait_until contents);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SyncTest qw(owner create settled status);
use Test::More;

my $servers = ($ENV{OCEAN_CACHE} // '/var/cache/ocean_enrich') . '/servers';

# pg_upgrade looks for the library below $libdir, which only Debian's setting for
# a stage is good for.
my ($own) = PostgreSQL::Test::Cluster->new('version')->pg_version =~ /^(\d+)/;
$own = 0 if $own == 15 || ($ENV{OCEAN_STAGE_SETTINGS} // '') !~ /extension_destdir/;
sub is_built { return -e "$servers/$_[0]/complete" && -x "$servers/$_[0]/installed/bin/pg_upgrade" }
my @majors = grep { $_ == $own || is_built($_) } (17 .. 19);
unless (is_built(15) && @majors)
{
	my $missing = "there is no PostgreSQL 15, or no newer one, in $servers";
	die $missing if $ENV{OCEAN_MUST_UPGRADE};
	plan skip_all => $missing;
}
my $folder = PostgreSQL::Test::Utils::tempdir();
my $sandbox = OceanTest::Sandbox->new;

# A copy of the server, with the extension in it
sub install
{
	my ($major) = @_;
	my ($server, $tree) = ("$folder/$major", "$folder/tree$major");
	system_or_bail('cp', '-R', "$servers/$major/installed", $server);
	mkdir $tree or die "could not create $tree: $!";
	system_or_bail('cp', '-R', map({ OceanTest::tree() . "/$_" } qw(Makefile ocean_enrich.control sql src)), $tree);
	system_or_bail('sh', '-c', "find $tree -name '*.o' -delete");
	# Not as a part of the make that runs us.
	delete local @ENV{qw(MAKEFLAGS MAKELEVEL MFLAGS MAKEOVERRIDES PG_CONFIG USE_PGXS)};
	system_or_bail('make', '--silent', '-C', $tree, '-j2', "PG_CONFIG=$server/bin/pg_config", 'install');
	return $server;
}

sub server
{
	my ($name, $major, @options) = @_;
	my $is_own = $major == $own;
	my $node = PostgreSQL::Test::Cluster->new($name, $is_own ? () : (install_path => install($major)));
	$node->init(extra => [ '--encoding=UTF8', '--locale=C', @options ]);
	$node->append_conf('postgresql.conf', $ENV{OCEAN_STAGE_SETTINGS}) if $is_own;
	$node->append_conf('postgresql.conf', OceanTest::settings($sandbox));
	$node->append_conf('postgresql.conf', 'ocean_enrich.queue_enabled = off');
	return $node;
}

my $old = server('old', 15);
$old->start;
$old->safe_psql('postgres', 'CREATE EXTENSION ocean_enrich');
owner($old, 'anna');
$old->safe_psql('postgres', 'SELECT ' . enrich('paid@example.com'));
$old->safe_psql('postgres', q{
	SET ROLE anna;
	CREATE TABLE contacts (id integer PRIMARY KEY, email text, enriched jsonb);
	INSERT INTO contacts VALUES (1, 'kept@example.com')});
create($old, 'anna', 'contacts');
wait_until($old, q{SELECT count(*) = 1 FROM ocean_enrich.call WHERE state = 'queued'});
$old->safe_psql('postgres', q{
	INSERT INTO ocean_enrich.budget VALUES ('anna', 'day', 100);
	SELECT ocean_enrich.submit(ocean_person_request(email => 'queued@example.com'))});
$old->safe_psql('postgres', q{
	SELECT ocean_enrich.cancel(ocean_enrich.submit(ocean_person_request(email => 'cancelled@example.com')))});

# Nobody works for the database any more, so that all stays in the midst of it.
$old->append_conf('postgresql.conf', 'max_worker_processes = 0');
$old->restart;
$old->safe_psql('postgres', q{
	UPDATE contacts SET email = 'other@example.com';
	UPDATE contacts SET email = 'kept@example.com';
	INSERT INTO ocean_enrich.call (endpoint, state, role, account, fingerprint, request, status, detail, raw, raw_truncated,
		credits, attempts, requested_at, sent_at, answered_at, resolution, resolved_by, resolved_at, priority, background,
		postponed, reused_from)
	VALUES
		('person', 'sent', 'anna', 'x', 'a', '{"person": {"email": "sent@example.com"}}', NULL, NULL, NULL, false,
			NULL, 1, now(), now(), NULL, NULL, NULL, NULL, 0, false, 0, NULL),
		('person', 'refused', 'anna', 'x', 'b', '{"person": {"email": "refused@example.com"}}', 404, 'No matching record found',
			NULL, false, 0, 1, now(), now(), now(), NULL, NULL, NULL, 7, true, 2, 1),
		('person', 'failed', 'anna', 'x', 'c', '{"person": {"email": "failed@example.com"}}', 503, 'away', '\xff00', true,
			0, 3, now(), now(), now(), NULL, NULL, NULL, -7, true, 0, NULL),
		('person', 'unknown', 'anna', 'x', 'd', '{"person": {"email": "unknown@example.com"}}', 500, 'broken', NULL, false,
			NULL, 1, now(), now(), now(), 'give up', 'anna', now(), 0, false, 0, NULL),
		('person', 'unknown', 'anna', 'x', 'e', '{"person": {"email": "undecided@example.com"}}', NULL, 'cut off', NULL, false,
			NULL, 1, now(), now(), now(), NULL, NULL, NULL, 0, false, 0, NULL);
	INSERT INTO ocean_enrich.forget_later SELECT call_id FROM ocean_enrich.call WHERE state = 'sent';
	INSERT INTO ocean_enrich.reveal VALUES (1, 'p1', true, false, 'verified', NULL);
	INSERT INTO ocean_enrich.reveal_cost VALUES (current_date, 'anna', 'x', 0);
	SELECT ocean_enrich.receive_webhook('{"id": "p2", "email": {"address": "x@example.com", "status": "guessed"}}');
	INSERT INTO ocean_enrich.sync_settled (sync_id, call_id) SELECT sync_id, 1 FROM ocean_enrich.sync;
	INSERT INTO ocean_enrich.retention_progress (erased_to) VALUES (now())});
my $before = contents($old, 'postgres');
is_deeply([ grep { !@{ $before->{$_} } } sort keys %$before ], [], 'there is something in each table');
is($old->safe_psql('postgres', q{SELECT string_agg(DISTINCT state::text, ' ' ORDER BY state::text) FROM ocean_enrich.call}),
	$old->safe_psql('postgres', q{SELECT string_agg(state, ' ' ORDER BY state)
		FROM unnest(enum_range(NULL::ocean_enrich.call_state)::text[]) AS state}), 'and calls in each state');
$old->stop;

chdir $folder;
my $books = $sandbox->books;
my ($asked, $charged_before, $upgraded) = (@$books{qw(requests charged)}, 0);
foreach my $major (@majors)
{
	my $charged = $sandbox->books->{charged};
	my $new = server("new$major", $major, $major >= 18 ? '--no-data-checksums' : ());
	$upgraded++;
	command_ok(
		[
			$new->config_data('--bindir') . '/pg_upgrade', '--no-sync',
			'--old-bindir', $old->config_data('--bindir'), '--new-bindir', $new->config_data('--bindir'),
			'--old-datadir', $old->data_dir, '--new-datadir', $new->data_dir,
			'--old-port', $old->port, '--new-port', $new->port, '--socketdir', $new->host
		],
		"pg_upgrade to $major");
	$new->start;
	is_deeply(contents($new, 'postgres'), $before, 'every row is there');
	is($new->safe_psql('postgres', 'SELECT waiting, (SELECT count(*) FROM ocean_enrich.copied_calls) FROM ocean_enrich.queue_status'),
		'2|3', 'so is the queue, and what was on the wire');
	is(status($new), 'copied|1|0|0|0|0|0|0.0', 'the sync waits for its owner');
	is($new->safe_psql('postgres', 'SELECT ' . enrich('paid@example.com') . " ->> 'domain'"),
		'example.com', 'what was paid for is an answer');
	is($sandbox->books->{requests}, $asked, 'and is not paid again');

	# Even where equal requests are not taken for one
	$new->append_conf('postgresql.conf', "ocean_enrich.queue_enabled = on\nocean_enrich.reuse_for = 0");
	$new->safe_psql('postgres', q{SET ROLE anna; SELECT ocean_enrich.enable_sync('contacts')});
	$new->reload;
	settled($new);
	wait_until($new, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state IN ('queued', 'sent')
		AND database = ocean_enrich.database_identity())});
	is(status($new), 'enabled|0|0|1|0|0|0|3.0', 'enabled, it goes on');
	is($sandbox->books(identity => 'kept@example.com')->{people}{'kept@example.com'}{requests},
		$upgraded, 'and asks once');
	$asked += 1;
	is($sandbox->books->{requests}, $asked, 'the queue may be the old server\'s');
	is($new->safe_psql('postgres', 'SELECT count(*) FILTER (WHERE ocean_enrich.retry(call_id)) FROM ocean_enrich.copied_calls'),
		1, 'it is taken over');
	wait_until($new, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state IN ('queued', 'sent'))});
	$asked += 1;
	is($sandbox->books->{requests}, $asked, 'and goes on');
	wait_until($new, 'SELECT NOT EXISTS (SELECT FROM ocean_enrich.forget_later)');
	is($new->safe_psql('postgres', q{SELECT state, request IS NULL FROM ocean_enrich.call WHERE sent_at IS NOT NULL AND answered_at IS NULL}),
		"unknown|t", 'what was on the wire is unknown, and forgotten as was noted');
	cmp_ok($new->safe_psql('postgres', 'SELECT sum(credits) FROM ocean_enrich.call'), '==',
		$charged_before + $sandbox->books->{charged} - $charged, 'the books agree');
	$new->stop;
}

done_testing();
