# sync_stops.pl
#	Disabling and dropping a sync stop the sending first and cancel its calls
#	afterwards, however long that takes; and if the session then gives up, dies or
#	rolls back, the sync goes on.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node books_agree wait_until);
use SyncTest qw(owner create settled status);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, extra_conf => 'ocean_enrich.max_concurrency = 5');
my $rows = 0;
owner($node, 'anna');

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub end { return sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE $_[0]") }

sql(q{SET ROLE anna; CREATE TABLE contacts (id integer PRIMARY KEY, email text, enriched jsonb)});
create($node, 'anna', 'contacts');

# 30 more rows: 4 calls on the wire, 26 in the queue.
sub fill_queue
{
	$sandbox->config(hold => JSON::PP::true);
	sql("INSERT INTO contacts SELECT i, 'person' || i || '\@example.com' FROM generate_series($rows + 1, $rows + 30) AS i");
	$rows += 30;
	$sandbox->wait(held => 4);
	wait_until($node, q{SELECT waiting = 26 AND in_flight = 4 FROM ocean_enrich.sync_status});
	return;
}

# A call of somebody else, behind those of the sync, is answered.
sub answer_another
{
	my $call = sql(qq{SELECT ocean_enrich.submit(ocean_person_request(email => 'other$rows\@example.com'), priority => -1)});
	$sandbox->config(hold => JSON::PP::false);
	wait_until($node, qq{SELECT state = 'answered' FROM ocean_enrich.call WHERE call_id = $call});
	return;
}

# With the first call locked by another session, nothing can be cancelled yet.
foreach my $function (qw(disable_sync drop_sync))
{
	my $requests = $sandbox->books->{requests};

	fill_queue();
	my $locker = OceanTest::Query->start($node, q{
		BEGIN;
		SELECT FROM ocean_enrich.call WHERE state = 'queued' ORDER BY call_id LIMIT 1 FOR UPDATE;
		SELECT pg_sleep(3600)});
	wait_until($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
	my $stopper = OceanTest::Query->start($node, "SET ROLE anna; SELECT ocean_enrich.$function('contacts')");
	wait_until($node, qq{
		SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ 'ocean_enrich.$function' AND wait_event_type = 'Lock'});
	answer_another();
	is(sql(q{SELECT count(*) FROM ocean_enrich.call WHERE state = 'queued'}), 26, "$function(): nothing is cancelled yet");
	is($sandbox->books->{requests}, $requests + 5, 'but nothing more of the sync is sent');
	end("wait_event_type = 'Lock' AND query ~ 'ocean_enrich.$function'");
	end("wait_event = 'PgSleep'");
	$_->finish foreach $locker, $stopper;
	settled($node);
	is(sql('SELECT done FROM ocean_enrich.sync_status'), $rows, 'its session died, and the sync goes on');
}

# In a transaction that is open for long, and then rolled back

my $requests = $sandbox->books->{requests};
fill_queue();
my $stopper = OceanTest::Query->start($node, q{
	BEGIN;
	SELECT ocean_enrich.disable_sync('contacts');
	SELECT pg_sleep(3600)});
wait_until($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
answer_another();
is($sandbox->books->{requests}, $requests + 5, 'nothing more is sent before the commit');
sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
$stopper->finish;
settled($node);
is(sql('SELECT state, done FROM ocean_enrich.sync_status'), "enabled|$rows", 'rolled back, the sync goes on');
books_agree($node, $sandbox, 'stopped three times');

done_testing();
