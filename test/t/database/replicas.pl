# replicas.pl
#	Where the ledger is copied to while it is written: a standby that is promoted
#	goes on with queue and syncs by itself; a subscriber of logical
#	replication has the receipts, sends what was queued on it, and nothing else.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails worker_pid wait_until books_agree);
use PostgreSQL::Test::Cluster;
use SyncTest qw(owner create settled status);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $preload = "shared_preload_libraries = 'ocean_enrich'";

# A standby with a queue and a sync

my $primary = node($sandbox, name => 'primary', init => [ allows_streaming => 1 ],
	extra_conf => "$preload\nocean_enrich.queue_enabled = off");
owner($primary, 'anna');
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
$primary->safe_psql('postgres', q{
	SET ROLE anna;
	CREATE TABLE contacts (id integer PRIMARY KEY, email text, enriched jsonb);
	INSERT INTO contacts VALUES (1, 'kept@example.com')});
create($primary, 'anna', 'contacts');
wait_until($primary, q{SELECT count(*) = 1 FROM ocean_enrich.call WHERE state = 'queued'});
$primary->safe_psql('postgres', q{
	INSERT INTO ocean_enrich.budget VALUES ('anna', 'day', 100);
	SELECT ocean_enrich.submit(ocean_person_request(email => 'queued@example.com'))});
$primary->wait_for_catchup($standby);

is($standby->safe_psql('postgres', 'SELECT waiting, worker_pid IS NULL FROM ocean_enrich.queue_status'),
	'2|t', 'standby: the queue can be looked at');
is($standby->safe_psql('postgres', 'SELECT name, state FROM ocean_enrich.sync_status'),
	'contacts|enabled', 'standby: so can the syncs');

# What has to be written is refused in our words, and by name where it has one; what
# only reads is not.
my %refused = (
	'submit' => q{submit(ocean_person_request(email => 'x@example.com'))},
	'cancel' => 'cancel(1)',
	'retry' => 'retry(1)',
	'resolve() or ocean_enrich.wake' => q{resolve(1, 'give up')},
	'create_sync' => q{create_sync('more', 'contacts', 'ocean_person_request(email => email)', 'enriched')},
	'alter_sync' => q{alter_sync('contacts', priority => 1)},
	'enable_sync' => q{enable_sync('contacts')},
	'disable_sync' => q{disable_sync('contacts')},
	'retry_sync' => q{retry_sync('contacts')},
	'drop_sync' => q{drop_sync('contacts')},
	'receive_webhook' => q{receive_webhook('{"id": "x"}')},
	'forget' => q{forget('x')});
fails($standby, "SELECT ocean_enrich.$refused{$_}",
	qr/^ERROR:  25006: \Qcannot execute ocean_enrich.$_() on a standby server\E\nDETAIL:  .*\nHINT:  Run the statement on the primary server\./m,
	"standby: not $_()")
  foreach sort keys %refused;
fails($standby, "SELECT $_",
	qr/25006: cannot enrich on a standby server\nDETAIL:  .*\nHINT:  Run the statement on the primary server\./, "standby: not $_")
  foreach enrich('queued@example.com'), 'ocean_try_enrich_person(ocean_person_request(email => $$queued@example.com$$))',
  'ocean_enrich.balance()';
fails($standby, 'UPDATE contacts SET enriched = ' . enrich('email'), qr/25006: cannot execute UPDATE in a read-only transaction/,
	'standby: not an UPDATE');
fails($standby, 'SELECT * FROM ocean_enrich.apply_retention()',
	qr/25006: cannot execute INSERT in a read-only transaction\nCONTEXT:  SQL function "apply_retention"/, 'standby: not apply_retention()');
fails($standby, q{INSERT INTO ocean_enrich.budget VALUES ('anna', 'week', 100)},
	qr/25006: cannot execute INSERT in a read-only transaction/, 'standby: not a budget');
my $estimate = q{SELECT requests, to_send FROM ocean_enrich.estimate(
	$$SELECT ocean_enrich_person(ocean_person_request(email => 'new@example.com'))$$)};
is($standby->safe_psql('postgres', $estimate), '1|1', 'standby: an estimate');
is($standby->safe_psql('postgres', q{SELECT ocean_enrich.wait((SELECT array_agg(call_id) FROM ocean_enrich.call), '10ms')}),
	'f', 'standby: waiting for what the primary sends');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM ocean_enrich.in_flight()}), 0, 'standby: what is under way');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'ocean_enrich%'}),
	0, 'standby: no process of ours runs');
is($sandbox->books->{requests}, 0, 'nothing was sent yet');

$primary->stop('immediate');
$standby->append_conf('postgresql.conf', 'ocean_enrich.queue_enabled = on');
$standby->reload;
$standby->promote;
settled($standby);
wait_until($standby, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state IN ('queued', 'sent'))});
is($standby->safe_psql('postgres', q{
		SELECT request #>> '{person,email}', state FROM ocean_enrich.call ORDER BY request #>> '{person,email}' COLLATE "C"}),
	"kept\@example.com|answered\nqueued\@example.com|answered", 'promoted: the queue goes on by itself');
is(status($standby), 'enabled|0|0|1|0|0|0|3.0', 'promoted: so does the sync');
$standby->safe_psql('postgres', q{INSERT INTO contacts VALUES (2, 'later@example.com')});
settled($standby);
is($standby->safe_psql('postgres', 'SELECT count(enriched) FROM contacts'), 2, 'promoted: new rows, too');

# Everything that was refused works.
is($standby->safe_psql('postgres', $estimate), '1|1', 'promoted: an estimate');
my $works = q{
	SET ROLE anna;
	CREATE TABLE others (id integer PRIMARY KEY, email text, enriched jsonb);
	INSERT INTO others VALUES (1, 'others@example.com');
	SELECT ocean_enrich.create_sync('others', 'others', 'ocean_person_request(email => email)', 'enriched');
	SELECT ocean_enrich.alter_sync('others', priority => 1);
	SELECT ocean_enrich.disable_sync('others');
	SELECT ocean_enrich.enable_sync('others');
	SELECT ocean_enrich.retry_sync('others')};
is($standby->safe_psql('postgres', $works), "1\n\n\n\n0", 'promoted: syncs are defined');
settled($standby, 'others');
is($standby->safe_psql('postgres', 'SELECT count(enriched) FROM others'), 1, 'promoted: and kept');
is($standby->safe_psql('postgres', q{SELECT ocean_enrich.drop_sync('others')}), '', 'promoted: and dropped');
$standby->safe_psql('postgres', 'UPDATE contacts SET enriched = ' . enrich('email') . ' WHERE id = 1');
like($standby->safe_psql('postgres', 'SELECT ' . enrich('new@example.com')), qr/^\{/, 'promoted: a call');
like($standby->safe_psql('postgres', 'SELECT ocean_enrich.balance()'), qr/^\{/, 'promoted: the balance');
is($standby->safe_psql('postgres', q{
		WITH submitted AS MATERIALIZED (SELECT ocean_enrich.submit(ocean_person_request(email => 'tomorrow@example.com'), 0,
			now() + interval '1 day') AS call_id)
		SELECT call_id > 0 FROM submitted;
		SELECT ocean_enrich.retry(1);
		SELECT ocean_enrich.cancel(max(call_id)) FROM ocean_enrich.call WHERE state = 'queued';
		SELECT ocean_enrich.resolve(1, 'give up');
		SELECT ocean_enrich.receive_webhook('{"id": "x"}');
		SELECT ocean_enrich.forget(email => 'new@example.com');
		SELECT erased, more FROM ocean_enrich.apply_retention();
		INSERT INTO ocean_enrich.budget VALUES ('anna', 'week', 100)}),
	"t\nf\nt\n\n0\n1\n0|f", 'promoted: the queue, decisions, webhooks, erasing');
books_agree($standby, $sandbox, 'promoted');
$standby->stop;

# The ledger by logical replication

$sandbox->reset;
my $publisher = node($sandbox, name => 'publisher', init => [ allows_streaming => 'logical' ]);
my $subscriber = node($sandbox, name => 'subscriber', extra_conf => "ocean_enrich.worker_idle_timeout = '1s'");
$publisher->safe_psql('postgres', 'SELECT ' . enrich('first@example.com'));
$publisher->safe_psql('postgres', 'CREATE PUBLICATION receipts FOR TABLE ocean_enrich.call');
$subscriber->safe_psql('postgres', q{
	ALTER SEQUENCE ocean_enrich.call_call_id_seq RESTART WITH 1000000000000;
	CREATE SUBSCRIPTION receipts CONNECTION $connection$} . $publisher->connstr('postgres') . q{$connection$ PUBLICATION receipts});
$subscriber->wait_for_subscription_sync($publisher, 'receipts');
$publisher->safe_psql('postgres', q{
	SET ocean_enrich.not_found = 'null';
	SELECT ocean_enrich_person(ocean_person_request(email => 'sb-unknown@example.com'));
	SELECT ocean_enrich.submit(ocean_person_request(email => 'queued@example.com'), not_before => now() + interval '1 day');
	SELECT ocean_enrich.submit(ocean_person_request(email => 'sent@example.com'))});
wait_until($publisher, q{
	SELECT state = 'answered' FROM ocean_enrich.call WHERE request #>> '{person,email}' = 'sent@example.com'});
fails($publisher, 'SELECT ' . enrich('sb-status-500@example.com'), qr/OE/, 'one that nobody knows the outcome of');
$publisher->wait_for_catchup('receipts');
my $rows = q{SELECT c::text FROM ocean_enrich.call AS c WHERE call_id < 1000000000000 ORDER BY call_id};
is($subscriber->safe_psql('postgres', $rows), $publisher->safe_psql('postgres', $rows),
	'subscriber: every row is there, in each state');
is($subscriber->safe_psql('postgres', 'SELECT sum(credits) FROM ocean_enrich.spending'),
	$publisher->safe_psql('postgres', 'SELECT sum(credits) FROM ocean_enrich.spending'),
	'subscriber: the spending adds up');

my $requests = $sandbox->books->{requests};
is($subscriber->safe_psql('postgres', 'SELECT ' . enrich('first@example.com') . " ->> 'domain'"),
	'example.com', 'subscriber: what the other server paid for is an answer');
fails($subscriber, 'SELECT ' . enrich('sb-status-500@example.com'), qr/OE504: an equal request was sent before/,
	'subscriber: what may have been paid is not sent');

# What is due there is sent by nobody else, although it would come first, in
# whatever state it is.
$publisher->append_conf('postgresql.conf', 'ocean_enrich.queue_enabled = off');
$publisher->reload;
my $worker = worker_pid($publisher);
wait_until($publisher, q{SELECT current_setting('ocean_enrich.queue_enabled') = 'off'});
$publisher->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
wait_until($publisher, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $worker)");
$publisher->safe_psql('postgres', q{
	SELECT ocean_enrich.submit(ocean_person_request(email => format('other%s@example.com', i)), i % 3)
	FROM generate_series(1, 300) AS i});
wait_until($publisher, q{SELECT pause = 'queue_enabled is off' FROM ocean_enrich.queue_status});
$publisher->safe_psql('postgres', q{
	UPDATE ocean_enrich.call SET background = true, resolution = 'pay again'
	WHERE request #>> '{person,email}' = 'sb-status-500@example.com'});
$publisher->wait_for_catchup('receipts');
$subscriber->safe_psql('postgres', q{
	SELECT ocean_enrich.wake();
	SELECT ocean_enrich.submit(ocean_person_request(email => format('own%s@example.com', i)), -i)
	FROM generate_series(1, 5) AS i});
wait_until($subscriber, q{
	SELECT count(*) = 5 FROM ocean_enrich.call WHERE call_id >= 1000000000000 AND state = 'answered'});
is($sandbox->books->{requests}, $requests + 5, 'subscriber: it sends what was queued on it');
is($subscriber->safe_psql('postgres', 'SELECT waiting, (SELECT count(*) FROM ocean_enrich.copied_calls) FROM ocean_enrich.queue_status'),
	'0|301', 'subscriber: and lists what it leaves to the other');
is($subscriber->safe_psql('postgres', q{SELECT count(*) FILTER (WHERE ocean_enrich.retry(call_id)) FROM ocean_enrich.copied_calls}),
	0, 'subscriber: and takes nothing of it over, which the other would send as well');
my $ids = $subscriber->safe_psql('postgres', q{
	SELECT quote_literal(array_agg(call_id)::text) FROM ocean_enrich.copied_calls WHERE state = 'queued' AND next_attempt_at <= now()});
is($subscriber->safe_psql('postgres', "SELECT ocean_enrich.wait($ids, '10ms')"), 'f', 'subscriber: what the other will send can be waited for');
my $waiting = OceanTest::Query->start($subscriber, "SELECT ocean_enrich.wait($ids)");
$publisher->append_conf('postgresql.conf', 'ocean_enrich.queue_enabled = on');
$publisher->reload;
$publisher->safe_psql('postgres', 'SELECT ocean_enrich.wake()');
wait_until($publisher, q{SELECT count(*) = 302 FROM ocean_enrich.call
	WHERE state = 'answered' AND request #>> '{person,email}' LIKE 'other%'
		OR state = 'unknown' AND request #>> '{person,email}' = 'sb-status-500@example.com'});
$publisher->wait_for_catchup('receipts');
is(($waiting->finish)[0], 't', 'subscriber: until it is carried that it has ended');
is($sandbox->books->{requests}, $requests + 306, 'subscriber: each was sent once');
is($subscriber->safe_psql('postgres', $rows), $publisher->safe_psql('postgres', $rows),
	'subscriber: and follows what the publisher does');
is($subscriber->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_subscription_stats WHERE apply_error_count > 0}),
	0, 'subscriber: no change failed');
$subscriber->safe_psql('postgres', 'SELECT ' . enrich('mine@example.com'));
is($subscriber->safe_psql('postgres', q{SELECT call_id > 1000000000000 FROM ocean_enrich.call
	WHERE request #>> '{person,email}' = 'mine@example.com'}), 't', 'subscriber: calls of its own have numbers of their own');

# A call on the wire of the publisher is none of the subscriber's, and is shown as
# what it is when it has ended.
my $others = q{SELECT state FROM ocean_enrich.call WHERE request #>> '{person,email}' = 'wire@example.com' AND call_id < 1000000000000};
$sandbox->config(hold => JSON::PP::true);
my $query = OceanTest::Query->start($publisher, 'SELECT ' . enrich('wire@example.com'));
$sandbox->wait(held => 1);
$publisher->wait_for_catchup('receipts');
$subscriber->restart;
$subscriber->safe_psql('postgres', 'SELECT ' . enrich('first@example.com'));
is($subscriber->safe_psql('postgres', $others), 'sent', 'subscriber: what another server sends is none of its own');
fails($subscriber, 'SELECT ' . enrich('wire@example.com'), qr/OE504: an equal request was sent before/, 'subscriber: nor does it send that, too');
is($subscriber->safe_psql('postgres', $others), 'sent', 'subscriber: and leaves it as it is');
$subscriber->safe_psql('postgres', q{SELECT ocean_enrich.submit(ocean_person_request(email => 'wire@example.com'))});
wait_until($subscriber, q{
	SELECT detail ~ '^waiting for call \d+, which is on the wire elsewhere$' AND next_attempt_at < now() + interval '2 minutes'
	FROM ocean_enrich.call WHERE state = 'queued' AND request #>> '{person,email}' = 'wire@example.com'});
is($subscriber->safe_psql('postgres', q{SELECT ocean_enrich.cancel(call_id) FROM ocean_enrich.call
	WHERE state = 'queued' AND request #>> '{person,email}' = 'wire@example.com'}), 't', 'subscriber: an equal one in its queue waits');
$sandbox->config(hold => JSON::PP::false);
$query->finish;
$publisher->wait_for_catchup('receipts');
is($subscriber->safe_psql('postgres', $others), 'answered', 'subscriber: until it has ended');


# What was sent there when the subscription ends, nobody will know.

$sandbox->config(hold => JSON::PP::true);
$query = OceanTest::Query->start($publisher, 'SELECT ' . enrich('last@example.com'));
$sandbox->wait(held => 1);
$publisher->wait_for_catchup('receipts');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION receipts');
$sandbox->config(hold => JSON::PP::false);
$query->finish;
$subscriber->restart;
fails($subscriber, 'SELECT ' . enrich('last@example.com'), qr/OE504: an equal request was sent before/, 'no subscriber any more: not sent');
is($subscriber->safe_psql('postgres', $others =~ s/wire@/last@/r =~ s/state/state, detail/r),
	'unknown|the request was on the wire when the database was copied', 'no subscriber any more: unknown');

done_testing();
