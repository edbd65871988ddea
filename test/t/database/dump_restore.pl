# dump_restore.pl
#	A dump carries the receipts and all that is defined: restored, they answer, refuse
#	and add up as before.  What was queued is not carried, and the numbers go on.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails wait_until contents);
use PostgreSQL::Test::Utils;
use SyncTest qw(owner create settled);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';

# A sync with an answer, budgets, what was revealed
owner($node, 'bert');
$node->safe_psql('postgres', q{
	INSERT INTO ocean_enrich.budget VALUES ('bert', 'day', 100), ('bert', 'month', 1000);
	INSERT INTO ocean_enrich.reveal_cost VALUES (current_date, 'bert', 'x', 2.5);
	SET ROLE bert;
	CREATE TABLE contacts (id integer PRIMARY KEY, email text, enriched jsonb);
	INSERT INTO contacts VALUES (1, 'kept@example.com')});
create($node, 'bert', 'contacts');
settled($node);

# Each state, by a role that is gone by then
$node->safe_psql(
	'postgres', q{
	CREATE ROLE gone;
	GRANT EXECUTE ON FUNCTION ocean_try_enrich_person(jsonb), ocean_person_request TO gone;
	SET ROLE gone;
	SET ocean_enrich.not_found = 'null';
	SELECT count(ocean_try_enrich_person(ocean_person_request(email => email || '@example.com')))
	FROM unnest(ARRAY['anna', 'berta', 'sb-unknown', 'sb-status-402', 'sb-status-500',
		'sb-badjson', 'sb-hugeint', 'sb-cut-lost']) AS email;
	RESET ROLE;
	SELECT ocean_enrich.resolve(max(call_id), 'give up', 3) FROM ocean_enrich.unknown_calls;
	DROP OWNED BY gone;
	DROP ROLE gone;
	INSERT INTO ocean_enrich.call (endpoint, state, role, account, fingerprint, request, requested_at)
	VALUES ('person', 'queued', 'gone', 'x', 'x', '{"person": {"email": "queued@example.com"}}', now()),
		('person', 'cancelled', 'gone', 'x', 'x', '{"person": {"email": "cancelled@example.com"}}', now())});

# What is still expected and still to be forgotten is not lost either.  A call that
# has ended would be erased in the middle of this test: here only a worker that
# starts ends one that was sent, and none does before it is restored.
$node->safe_psql(
	'postgres', q{
	INSERT INTO ocean_enrich.call (endpoint, state, role, account, fingerprint, request, requested_at, sent_at)
	VALUES ('person', 'sent', 'gone', 'x', 'x', '{"person": {"email": "sent@example.com"}}', now(), now());
	INSERT INTO ocean_enrich.reveal VALUES (1, 'p1', true, false, 'verified', NULL);
	INSERT INTO ocean_enrich.forget_later
	SELECT call_id FROM ocean_enrich.call WHERE state = 'sent';
	SELECT ocean_enrich.receive_webhook('{"id": "p2", "email": {"address": "x@example.com", "status": "guessed"}}')});
my $carried = q{SELECT c::text FROM ocean_enrich.call AS c WHERE state <> 'queued' ORDER BY call_id};
my $rows = $node->safe_psql('postgres', $carried);
is(scalar(split /\n/, $rows), 11, 'there is something to dump');
my $requests = $sandbox->books->{requests};

# What is about this database alone, or follows from the rest: the tally of the queue,
# how far erasing has come, what triggers noted and the applier has not seen.  Of the
# counters of syncs, those of rows are counted anew.
my @left = qw(queue_tally retention_progress sync_inbox sync_settled);

sub carried
{
	my ($database) = @_;
	my $contents = contents($node, $database);
	delete @$contents{ map { "ocean_enrich.$_" } @left };
	$contents->{'ocean_enrich.call'} = [ grep { !/"state": "queued"/ } @{ $contents->{'ocean_enrich.call'} } ];
	$contents->{'ocean_enrich.sync_count'} = [ grep { /"state": null/ } @{ $contents->{'ocean_enrich.sync_count'} } ];
	$contents->{sequences} = [ grep { !/sync_(inbox|settled)/ } @{ $contents->{sequences} } ];
	return $contents;
}

my $before = carried('postgres');
is_deeply([ grep { !@{ $before->{$_} } } sort keys %$before ], [], 'in each table that is dumped');

$node->command_ok(
	[ 'pg_dump', '--no-sync', '--file', $dump, '--dbname', $node->connstr('postgres') ],
	'dump');
unlike(slurp_file($dump), qr/queued\@example\.com/, 'what is queued is not in the dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok(
	[
		'psql', '--no-psqlrc', '--quiet', '--set', 'ON_ERROR_STOP=1', '--file', $dump,
		'--dbname', $node->connstr('restored')
	],
	'restore');
is($node->safe_psql('restored', $carried), $rows, 'every row but what is queued is there again');
is($node->safe_psql('restored', 'SELECT count(*) FROM ocean_enrich.call'),
	11, 'and nothing else');
is_deeply(carried('restored'), $before, 'and so in each other table that is dumped');
is($node->safe_psql('restored', q{SELECT name, state, done, credits FROM ocean_enrich.sync_status}),
	'contacts|copied|1|3', 'the sync is there with its rows and its credits');
is( $node->safe_psql('restored',
		q{SELECT count(*), sum(credits) FROM ocean_enrich.spending WHERE role = 'gone'}),
	$node->safe_psql('postgres',
		q{SELECT count(*), sum(credits) FROM ocean_enrich.spending WHERE role = 'gone'}),
	'they add up as before');

# The receipts do what they did.

is( $node->safe_psql('restored', 'SELECT ' . enrich('anna@example.com') . " ->> 'domain'"),
	'example.com',
	'what was paid for is an answer');
fails(
	$node, 'SELECT ' . enrich('sb-unknown@example.com'),
	qr/OE404: No matching record found/,
	'a miss is a miss',
	database => 'restored');
fails(
	$node, 'SELECT ' . enrich('sb-status-500@example.com'),
	qr/OE504: an equal request was sent before, and its outcome is unknown/,
	'what may have been paid for is not sent',
	database => 'restored');
fails(
	$node, 'SELECT ' . enrich('sb-badjson@example.com'),
	qr/OE504: an equal request was sent before, and its outcome is unknown/,
	'what is no person is none',
	database => 'restored');
is($sandbox->books->{requests}, $requests, 'nothing was asked for all that');

# The numbers go on behind the last one.

my $last = $node->safe_psql('postgres', 'SELECT max(call_id) FROM ocean_enrich.call');
$node->safe_psql('restored', 'SELECT ' . enrich('carla@example.com'));
is( $node->safe_psql('restored', 'SELECT max(call_id) FROM ocean_enrich.call'),
	$last + 1, 'the next call has the next number');

# Nobody will ever know what became of a call that was on its way then.

wait_until($node, 'SELECT NOT EXISTS (SELECT FROM ocean_enrich.forget_later)', 'restored');
is( $node->safe_psql('restored',
		q{SELECT state, request IS NULL FROM ocean_enrich.call
		WHERE account = 'x' AND sent_at IS NOT NULL}),
	'unknown|t',
	'what was on its way is unknown, and forgotten');

done_testing();
