# dropped.pl
#	A database can be dropped, renamed, moved and copied while its queue is sent, however
#	long the API takes to answer.  If the database stays, no answer is lost.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node wait_until wait_for_ledger books_agree);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, extra_conf => <<'END');
shared_preload_libraries = 'ocean_enrich'
max_prepared_transactions = 1
END

sub sql
{
	my ($query, $database) = @_;
	return $node->safe_psql($database // 'postgres', $query);
}

sub answer_slowly { return $sandbox->config(hold_answers => $_[0] ? JSON::PP::true : JSON::PP::false) }

sub submit
{
	my ($name, $count, $database) = @_;
	sql(qq{
		SELECT count(ocean_enrich.submit(ocean_person_request(email => '$name' || i || '\@example.com')))
		FROM generate_series(1, $count) AS i}, $database);
	return;
}

# A database whose queue is being sent, with many calls on the wire
sub sending
{
	my ($database, $count) = @_;
	my $requests = $sandbox->books->{requests};
	sql("CREATE DATABASE $database");
	sql('CREATE EXTENSION ocean_enrich', $database);
	submit($database, $count, $database);
	$sandbox->wait(requests => $requests + 50);
	return;
}

# Once nothing is on the wire: state and number of calls
sub states
{
	my ($database) = @_;
	wait_until($node, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state IN ('queued', 'sent'))}, $database);
	return sql(q{SELECT string_agg(state || ' ' || count, ', ' ORDER BY state)
		FROM (SELECT state::text, count(*) FROM ocean_enrich.call GROUP BY state) AS s}, $database);
}

sub no_process
{
	my ($oid) = @_;
	wait_until($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datid = $oid)");
	return;
}

sub dropped
{
	my ($database, $name) = @_;
	my $oid = sql("SELECT oid FROM pg_database WHERE datname = '$database'");
	sql("DROP DATABASE $database");
	pass("$name: dropped");
	no_process($oid);
	is(sql("SELECT pg_stat_have_stats('database', $oid, 0)"), 'f', "$name: no statistics stay");
	return;
}

# Several times in a row

$sandbox->config(latency_ms => 300);
foreach my $time (1 .. 4)
{
	sending('fast', 2000);
	dropped('fast', "300 ms, $time");
}
$sandbox->config(latency_ms => 8000);
sending('slow', 400);
dropped('slow', '8 s');
$sandbox->config(latency_ms => 0);
$sandbox->wait(idle => 1);
$sandbox->reset;

# A copy does not know what becomes of the calls on the wire.  The original does.

answer_slowly(1);
sending('original', 100);
sql('CREATE DATABASE copy TEMPLATE original');
is(sql(q{SELECT count(*) FROM ocean_enrich.call WHERE state = 'sent'}, 'original'), $sandbox->books->{in_flight}, 'copied: the original waits for its answers');
answer_slowly(0);
is(states('original'), 'answered 100', 'copied: and records them');
sql(q{SELECT ocean_enrich.cancel(call_id) FROM ocean_enrich.copied_calls}, 'copy');
is(sql(q{SELECT count(*) FROM ocean_enrich.call WHERE state = 'answered'}, 'copy'), 0, 'copied: the copy does not have them');
sql('DROP DATABASE copy');

# Renamed

answer_slowly(1);
submit('renamed', 100, 'original');
$sandbox->wait(in_flight => 50);
sql('ALTER DATABASE original RENAME TO renamed');
answer_slowly(0);
is(states('renamed'), 'answered 200', 'renamed: no answer is lost');

# Somebody else is in the way, so that the database stays.

sql(q{BEGIN; CREATE TABLE prepared (); PREPARE TRANSACTION 'prepared'}, 'renamed');
answer_slowly(1);
submit('kept', 100, 'renamed');
$sandbox->wait(in_flight => 50);
my ($result, $stdout, $stderr) = $node->psql('postgres', 'DROP DATABASE renamed');
like($stderr, qr/is being accessed by other users\n.*There is 1 prepared transaction using the database/,
	'not dropped: for another reason');
answer_slowly(0);
is(states('renamed'), 'answered 300', 'not dropped: no answer is lost');
sql(q{ROLLBACK PREPARED 'prepared'}, 'renamed');

# Cancelled while the worker is outside

answer_slowly(1);
submit('cancelled', 100, 'renamed');
$sandbox->wait(in_flight => 50);
my $rename = $node->background_psql('postgres');
$rename->query_safe('BEGIN');
$rename->query_safe('ALTER DATABASE renamed RENAME TO again');
answer_slowly(0);
$rename->query_safe('ROLLBACK');
is(states('renamed'), 'answered 400', 'rolled back: no answer is lost');

# The server stops while the worker is outside

answer_slowly(1);
submit('stopped', 50, 'renamed');
$sandbox->wait(in_flight => 50);
$rename->query_safe('BEGIN');
$rename->query_safe('ALTER DATABASE renamed RENAME TO again');
answer_slowly(0);
$node->stop('fast');
$node->start;
is(states('renamed'), 'answered 450', 'stopped: no answer is lost');

# A worker that is told to stop does not wait for ever.

answer_slowly(1);
submit('terminated', 1, 'renamed');
$sandbox->wait(in_flight => 1);
$rename = $node->background_psql('postgres');
$rename->query_safe('BEGIN');
$rename->query_safe('ALTER DATABASE renamed RENAME TO again');
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'ocean_enrich worker' AND datname = 'renamed'});
no_process(sql(q{SELECT oid FROM pg_database WHERE datname = 'renamed'}));
$rename->query_safe('ROLLBACK');
answer_slowly(0);
is(states('renamed'), 'answered 450, unknown 1', 'terminated: as ever');
$rename->quit;

# Moved: the worker cannot come back, the next one goes on.

my $folder = PostgreSQL::Test::Utils::tempdir();
sql("CREATE TABLESPACE elsewhere LOCATION '$folder'");
$sandbox->config(latency_ms => 300);
submit('moved', 300, 'renamed');
$sandbox->wait(in_flight => 50);
sql('ALTER DATABASE renamed SET TABLESPACE elsewhere');
is(states('renamed'), 'answered 750, unknown 1', 'moved: no answer is lost');

# With a sync

sql(q{
	CREATE ROLE anna;
	GRANT USAGE, CREATE ON SCHEMA public TO anna;
	GRANT USAGE ON SCHEMA ocean_enrich TO anna;
	GRANT EXECUTE ON FUNCTION ocean_person_request, ocean_enrich.submit, ocean_enrich.create_sync TO anna;
	SET ROLE anna;
	CREATE TABLE contacts (id integer PRIMARY KEY, email text, enriched jsonb);
	INSERT INTO contacts SELECT i, 'sync' || i || '@example.com' FROM generate_series(1, 400) AS i;
	SELECT ocean_enrich.create_sync('contacts', 'contacts', 'ocean_person_request(email => email)', 'enriched')}, 'renamed');
wait_until($node, 'SELECT done > 0 FROM ocean_enrich.sync_status', 'renamed');
sql('ALTER DATABASE renamed RENAME TO synced');
wait_until($node, 'SELECT done = 400 FROM ocean_enrich.sync_status', 'synced');
pass('a sync: it goes on');
books_agree($node, $sandbox, 'in the end', 'synced');
sql(q{UPDATE contacts SET email = 'again' || email}, 'synced');
wait_until($node, 'SELECT done > 0 AND in_flight > 0 FROM ocean_enrich.sync_status', 'synced');
dropped('synced', 'a sync');

# By force

sending('forced', 300);
sql('DROP DATABASE forced WITH (FORCE)');
pass('by force: dropped');
# Nothing is said about it.

my $log = join "\n", grep { /WARNING|FATAL|PANIC|TRAP|could not/ && !/terminating connection|shutting down/ }
	split /\n/, slurp_file($node->logfile);
is($log, '', 'nothing in the log');

done_testing();
