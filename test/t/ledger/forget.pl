# forget.pl
#	People are erased: while their calls are on the wire, by hand with a line in the
#	log that names nobody, and by the worker when their time is over.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich wait_until books_agree);
use PostgreSQL::Test::Utils;
use JSON::PP;
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, extra_conf => "log_statement = none\nlog_min_duration_statement = -1");

sub remembered
{
	my ($word) = @_;
	return $node->safe_psql('postgres',
		"SELECT count(*) FROM ocean_enrich.call AS c WHERE c::text LIKE '%$word%'");
}

# What the server has logged since the last time.
my $log_end = 0;

sub new_log
{
	my $log = substr(slurp_file($node->logfile), $log_end);
	$log_end += length $log;
	return $log;
}

# By hand

$node->safe_psql('postgres', 'SELECT ' . enrich("$_\@example.com"))
  foreach qw(anna berta);
new_log();
is( $node->safe_psql('postgres',
		q{SELECT ocean_enrich.forget(email => 'anna@example.com')}),
	1, 'somebody is forgotten');
my $log = new_log();
like($log, qr/LOG:  ocean_enrich erased a person from 1 call\n/,
	'the log says that');
unlike($log, qr/anna/, '... and not whom');
is(remembered('anna'), 0, 'nothing is left');
is(remembered('berta'), 1, 'others are left alone');
$node->safe_psql('postgres', 'SELECT ' . enrich('anna@example.com'));
is($sandbox->books(identity => 'anna@example.com')->{people}{'anna@example.com'}{requests},
	2, 'an equal request is a new one');
books_agree($node, $sandbox, 'after that');

# On the wire: the session that asked gets its answer, the ledger forgets it.

$sandbox->config(hold => JSON::PP::true);
my $query = OceanTest::Query->start($node,
	'SELECT ' . enrich('carla@example.com') . " ->> 'domain'");
$sandbox->wait(held => 1);
is( $node->safe_psql('postgres',
		q{SELECT ocean_enrich.forget(email => 'carla@example.com')}),
	1, 'somebody is forgotten whose call is on the wire');
is(remembered('carla'), 0, 'at once');
$sandbox->config(hold => JSON::PP::false);
is(($query->finish)[0], 'example.com', 'who asked gets the answer');
wait_until($node, 'SELECT NOT EXISTS (SELECT FROM ocean_enrich.forget_later)');
is(remembered('carla'), 0, 'the ledger has forgotten that, too');
is( $node->safe_psql('postgres',
		'SELECT state, status, credits FROM ocean_enrich.call ORDER BY call_id DESC LIMIT 1'),
	'answered|200|3', 'but for the receipt');

# A call that is tried again

my $retried = OceanTest::Query->start($node,
	'SELECT ' . enrich('dora.sb-once@example.com') . " ->> 'domain'");
wait_until($node,
	q{SELECT EXISTS (SELECT FROM ocean_enrich.call WHERE request::text LIKE '%dora%')});
$node->safe_psql('postgres',
	q{SELECT ocean_enrich.forget(email => 'dora.sb-once@example.com')});
is(($retried->finish)[0], 'example.com', 'a call that is tried again is answered');
wait_until($node, 'SELECT NOT EXISTS (SELECT FROM ocean_enrich.forget_later)');
is(remembered('dora'), 0, '... and forgotten');

# In the queue: it is taken out.

$node->safe_psql('postgres',
	q{SELECT ocean_enrich.submit(ocean_person_request(email => 'hanna@example.com'), not_before => now() + interval '1 hour')});
is( $node->safe_psql('postgres',
		q{SELECT ocean_enrich.forget(email => 'hanna@example.com')}),
	1, 'somebody is forgotten whose call is queued');
is( $node->safe_psql('postgres',
		q{SELECT state, request, (SELECT sum(waiting) FROM ocean_enrich.queue_tally)
		FROM ocean_enrich.call ORDER BY call_id DESC LIMIT 1}),
	'cancelled||0', '... which is not sent any more');

# Queued, on the wire, and then in the queue again: it has no request any more.

$sandbox->config(hold => JSON::PP::true);
$node->safe_psql('postgres',
	q{SET ocean_enrich.gathering_wait = 10; SELECT ocean_enrich.submit(ocean_person_request(email => 'ida.sb-gathering-3600000@example.com'))});
$sandbox->wait(held => 1);
is( $node->safe_psql('postgres',
		q{SELECT ocean_enrich.forget(email => 'ida.sb-gathering-3600000@example.com')}),
	1, 'somebody is forgotten whose data is gathered');
$sandbox->config(hold => JSON::PP::false);
wait_until($node,
	q{SELECT state IN ('queued', 'failed') FROM ocean_enrich.call ORDER BY call_id DESC LIMIT 1});
$node->safe_psql('postgres',
	q{UPDATE ocean_enrich.call SET next_attempt_at = now() WHERE state = 'queued'});
is(remembered('ida'), 0, '... and it stays so');
is( $sandbox->books(identity => 'ida.sb-gathering-3600000@example.com')->{people}
	  {'ida.sb-gathering-3600000@example.com'}{requests},
	1, '... and is not sent again');

# By their age: the worker does that, by itself.

is(remembered('berta'), 1, 'without a retention people stay');
$node->safe_psql(
	'postgres', q{
	UPDATE ocean_enrich.call SET requested_at = requested_at - interval '31 days',
		sent_at = sent_at - interval '31 days', answered_at = answered_at - interval '31 days'});
$node->safe_psql('postgres', 'SELECT ' . enrich('emma@example.com'));
$node->safe_psql('postgres',
	'INSERT INTO ocean_enrich.call (endpoint, state, role, account, fingerprint, request, requested_at, sent_at, answered_at)'
	  . q{ SELECT 'person', 'answered', 'x', 'x', sha256(i::text::bytea), '{"person": {"name": "of old"}}', t, t, t}
	  . q{ FROM generate_series(1, 5000) AS i, (SELECT now() - interval '90 days') AS at (t)});
new_log();
# A worker leaves when its database is empty.
my $guest = $node->background_psql('postgres');
$node->append_conf('postgresql.conf', "ocean_enrich.retention = '30d'");
$node->reload;
$node->safe_psql('postgres', 'SELECT ' . enrich('emma@example.com'));
wait_until($node,
	q{SELECT count(*) = 1 FROM ocean_enrich.call WHERE request IS NOT NULL});
is(remembered('berta'), 0, 'those of 31 days ago are gone');
is(remembered('of old'), 0, 'those of 90 days ago, too');
is(remembered('emma'), 1, 'those of today are there');
wait_until($node,
	"SELECT pg_read_file('" . $node->logfile . "') ~ 'erased the people of'");
$log = new_log();
like($log, qr/LOG:  ocean_enrich erased the people of \d+ calls?, as "ocean_enrich.retention" demands/,
	'the log says so');
unlike($log, qr/berta|of old/, '... without anybody');
is( $node->safe_psql('postgres', 'SELECT sum(credits) FROM ocean_enrich.call'),
	$sandbox->books->{charged}, 'the receipts add up as before');

# A row that somebody has locked is left for the next time, and nobody waits.

$node->safe_psql(
	'postgres', q{
	UPDATE ocean_enrich.call SET answered_at = now() - interval '31 days',
		sent_at = now() - interval '31 days', requested_at = now() - interval '31 days'
	WHERE request IS NOT NULL;
	UPDATE ocean_enrich.retention_progress SET erased_to = now() - interval '40 days'});
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN');
$locker->query_safe('SELECT FROM ocean_enrich.call WHERE request IS NOT NULL FOR UPDATE');
$node->reload;
is( $node->safe_psql('postgres', 'SELECT ' . enrich('frida@example.com') . " ->> 'domain'"),
	'example.com', 'calls go on');
$locker->query_safe('ROLLBACK');
$locker->quit;
# The next call is when the worker looks again.
$node->safe_psql('postgres', 'SELECT ' . enrich('gerda@example.com'));
wait_until($node,
	q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE request::text LIKE '%emma%')});
pass('in the end it is erased');
$guest->quit;

$node->stop;
done_testing();
