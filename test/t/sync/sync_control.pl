# sync_control.pl
#	Syncs are altered, disabled, enabled, retried and dropped; what is
#	disabled or dropped sends nothing more, at once.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node fails books_agree wait_until);
use SyncTest qw(owner create settled status applier_pid);
use PostgreSQL::Test::Utils;
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
# The queue leaves one to sessions.
my $node = node($sandbox, extra_conf => 'ocean_enrich.max_concurrency = 5');
owner($node, $_) foreach qw(anna berta);

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub call { return sql("SET ROLE anna; SELECT ocean_enrich.$_[0]") }

sql(q{
	SET ROLE anna;
	CREATE TABLE contacts (id integer PRIMARY KEY, email text, work_email text, enriched jsonb, other jsonb);
	INSERT INTO contacts SELECT i, 'person' || i || '@example.com', 'work' || i || '@example.com'
	FROM generate_series(1, 30) AS i});

# Disabled with calls on the wire and in the queue

$sandbox->config(hold => JSON::PP::true);
create($node, 'anna', 'contacts');
$sandbox->wait(held => 4);
wait_until($node, q{SELECT waiting = 26 AND in_flight = 4 FROM ocean_enrich.sync_status});
call(q{disable_sync('contacts')});
is(sql(q{SELECT state, count(*) FROM ocean_enrich.call GROUP BY state ORDER BY state}),
	"sent|4\ncancelled|26", 'disabling cancels what is queued');
$sandbox->config(hold => JSON::PP::false);
wait_until($node, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state = 'sent')});
is($sandbox->books->{requests}, 4, 'nothing more is sent');
is(sql('SELECT sum(credits) FROM ocean_enrich.call'), 12, 'what was sent is recorded');
is(status($node), 'disabled|30|0|0|0|0|0|12.0', 'the status says so');

sql(q{INSERT INTO contacts VALUES (31, 'late@example.com')});
is(status($node), 'disabled|31|0|0|0|0|0|12.0', 'changes are noted meanwhile');
call(q{enable_sync('contacts')});
settled($node);
is(status($node), 'enabled|0|0|31|0|0|0|93.0', 'enabled, it goes on');
is($sandbox->books->{requests}, 31, 'and pays for nothing twice');

# Altered

call(q{alter_sync('contacts', priority => 5, refresh_after => '1 hour')});
is(sql('SELECT priority, refresh_after FROM ocean_enrich.sync'), '5|01:00:00',
	'priority and age can be changed');
call(q{alter_sync('contacts', refresh_after => '0')});
is(sql('SELECT priority, refresh_after FROM ocean_enrich.sync'), '5|', 'and the age taken away');
call(q{alter_sync('contacts', request => 'ocean_person_request(email => CASE WHEN id = 1 THEN work_email ELSE email END)')});
settled($node);
is($sandbox->books->{requests}, 32, 'a new request is sent only where it differs');
is(sql(q{SELECT enriched -> 'email' ->> 'address' FROM contacts WHERE id = 1}),
	'work1@example.com', 'and written');

call(q{alter_sync('contacts', condition => 'id <> 2')});
settled($node);
is(status($node), 'enabled|0|0|30|0|0|0|96.0', 'a condition takes rows out');
sql(q{UPDATE contacts SET email = 'unwanted@example.com' WHERE id = 2});
settled($node);
is($sandbox->books->{requests}, 32, 'which are not asked for any more');
call(q{alter_sync('contacts', condition => '')});
settled($node);
is($sandbox->books->{requests}, 33, 'without it they are again');

call(q{alter_sync('contacts', target => 'other')});
settled($node);
is(sql('SELECT count(*) FROM contacts WHERE other IS NOT NULL'), 31,
	'another column gets the answers that are there');
is($sandbox->books->{requests}, 33, 'for nothing');

call(q{alter_sync('contacts', new_name => 'people')});
is(status($node, 'people'), 'enabled|0|0|31|0|0|0|99.0', 'it may be renamed');

# Refused

fails($node, q{SET ROLE berta; SELECT ocean_enrich.disable_sync('people')},
	qr/42501: must be owner of sync "people"/, 'others may not disable it');
fails($node, q{SET ROLE berta; SELECT ocean_enrich.drop_sync('people')},
	qr/42501: must be owner of sync "people"/, 'nor drop it');
fails($node, q{SET ROLE berta; SELECT ocean_enrich.alter_sync('people', priority => 9)},
	qr/42501: must be owner of sync "people"/, 'nor alter it');
fails($node, q{SET ROLE berta; SELECT ocean_enrich.create_sync('mine', 'contacts', 'ocean_person_request(email => email)', 'enriched')},
	qr/42501: must be owner of table contacts/, 'nor make one for a table of another');
is(sql(q{SET ROLE berta; SELECT count(*) FROM ocean_enrich.sync_errors}), 0,
	'nor see its errors');
fails($node, q{SELECT ocean_enrich.drop_sync('nothing')},
	qr/42704: sync "nothing" does not exist/, 'what is not there is an error');
fails($node, q{SET ROLE anna; SELECT ocean_enrich.create_sync('people', 'contacts', 'ocean_person_request(email => email)', 'enriched')},
	qr/42710: sync "people" already exists/, 'so is a name that is taken');

# A dropped one, with calls on the wire

$sandbox->config(hold => JSON::PP::true);
sql(q{INSERT INTO contacts SELECT i, 'person' || i || '@example.com' FROM generate_series(41, 60) AS i});
$sandbox->wait(held => 4);
wait_until($node, q{SELECT waiting = 16 AND in_flight = 4 FROM ocean_enrich.sync_status});
my $requests = $sandbox->books->{requests};
call(q{drop_sync('people')});
$sandbox->config(hold => JSON::PP::false);
wait_until($node, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state IN ('sent', 'queued'))});
is($sandbox->books->{requests}, $requests, 'dropped, it sends nothing more');
sql(q{INSERT INTO contacts VALUES (61, 'after@example.com')});
is(sql('SELECT count(*) FROM contacts WHERE id > 40 AND other IS NOT NULL'), 0, 'nor writes anything');
books_agree($node, $sandbox, 'at the end');

# What failed is tried again when somebody says so.

sql(q{
	SET ROLE anna;
	CREATE TABLE repeated (id bigint PRIMARY KEY, email text, enriched jsonb);
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.id = 2 AND NEW.enriched IS NOT NULL THEN
			RAISE EXCEPTION 'not this one';
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER refuse BEFORE UPDATE ON repeated FOR EACH ROW EXECUTE FUNCTION refuse();
	INSERT INTO repeated VALUES (1, 'one@example.net'), (2, 'two@example.net'),
		(3, 'x.sb-once-400@example.net')});
create($node, 'anna', 'repeated');
settled($node, 'repeated');
is(sql('SELECT key, error_code, message FROM ocean_enrich.sync_errors ORDER BY key'),
	"{2}|P0001|not this one\n{3}|OE400|Empty `person` body",
	'a trigger that refuses fails its row alone');
$requests = $sandbox->books->{requests};
sql('DROP TRIGGER refuse ON repeated');
is(call(q{retry_sync('repeated')}), 2, 'what failed is looked at again');
settled($node, 'repeated');
is(status($node, 'repeated'), 'enabled|0|0|3|0|0|0|9.0', 'and done');
is($sandbox->books->{requests}, $requests + 1, 'an answer that was there is not paid again');

# What is cancelled counts, also if its row has turned to something else meanwhile

$node->append_conf('postgresql.conf', 'ocean_enrich.queue_enabled = off');
$node->reload;
sql(q{SET ROLE anna; CREATE TABLE turned (id integer PRIMARY KEY, email text, enriched jsonb);
	INSERT INTO turned VALUES (1, 'turned@example.com')});
create($node, 'anna', 'turned');
my $in_queue = q{SELECT sum(waiting) FROM ocean_enrich.queue_tally};
my $turned = q{(SELECT sync_id FROM ocean_enrich.sync WHERE name = 'turned')};
wait_until($node, qq{SELECT count(*) = 1 FROM ocean_enrich.sync_row WHERE state = 'queued' AND sync_id = $turned});
my $others = sql($in_queue) - 1;
my $holder = $node->background_psql('postgres');
$holder->query_safe(qq{BEGIN; UPDATE ocean_enrich.sync_row SET call_id = NULL WHERE sync_id = $turned});
my $disabling = OceanTest::Query->start($node, q{SET ROLE anna; SELECT ocean_enrich.disable_sync('turned')});
wait_until($node, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'disable_sync'});
$holder->query_safe('COMMIT');
$holder->quit;
$disabling->finish;
is(sql($in_queue), $others, 'the tally of the queue has lost the call that was cancelled');

# An endpoint that this version does not know, as a dump of a later one may name: the sync
# stops, the table can be written, and the sync can be dropped.

$node->append_conf('postgresql.conf', 'ocean_enrich.queue_enabled = on');
$node->reload;
sql(q{SET ROLE anna; CREATE TABLE later (id integer PRIMARY KEY, email text, enriched jsonb)});
create($node, 'anna', 'later');
sql(q{UPDATE ocean_enrich.sync SET endpoint = 'spaceship' WHERE name = 'later'});
sql(q{SET ROLE anna; INSERT INTO later VALUES (1, 'later@example.com')});
wait_until($node, q{SELECT NOT enabled FROM ocean_enrich.sync WHERE name = 'later'});
is(sql(q{SELECT problem_code, problem FROM ocean_enrich.sync WHERE name = 'later'}),
	'22023|endpoint "spaceship" cannot be queued', 'a sync of an unknown endpoint stops');
fails($node, q{SET ROLE anna; SELECT ocean_enrich.enable_sync('later')}, qr/22023: endpoint "spaceship" does not exist/,
	'... cannot be enabled');
call(q{drop_sync('later')});
is(sql(q{SELECT count(*) FROM ocean_enrich.sync WHERE name = 'later'}), 0, '... and can be dropped');

done_testing();
