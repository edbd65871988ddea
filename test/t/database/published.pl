# published.pl
#	A publication of all tables, as tools for change data capture make it, keeps
#	nothing of the extension from being written.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich wait_until books_agree);
use PostgreSQL::Test::Utils;
use SyncTest qw(owner create settled status);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, init => [ allows_streaming => 'logical' ],
	extra_conf => "ocean_enrich.webhook_secret = 'open-sesame'");
$node->safe_psql('postgres', 'CREATE PUBLICATION everything FOR ALL TABLES');
owner($node, 'anna');
$node->safe_psql('postgres', q{
	SET ROLE anna;
	CREATE TABLE contacts (id integer PRIMARY KEY, email text, enriched jsonb);
	INSERT INTO contacts SELECT i, format('kept%s@example.com', i) FROM generate_series(1, 3) AS i});
create($node, 'anna', 'contacts');
settled($node);
is(status($node), 'enabled|0|0|3|0|0|0|9.0', 'a sync');
$node->safe_psql('postgres', q{UPDATE contacts SET email = 'other@example.com' WHERE id = 1});
settled($node);
is(status($node), 'enabled|0|0|3|0|0|0|12.0', 'and a change of it');
$node->safe_psql('postgres', q{
	SELECT ocean_enrich.submit(ocean_person_request(email => format('queued%s@example.com', i)), 0,
		CASE WHEN i = 3 THEN now() + interval '1 day' END) FROM generate_series(1, 3) AS i});
wait_until($node, q{SELECT count(*) = 2 FROM ocean_enrich.call WHERE request #>> '{person,email}' LIKE 'queued%' AND state = 'answered'});
$node->safe_psql('postgres', q{SELECT ocean_enrich.cancel(call_id) FROM ocean_enrich.call WHERE state = 'queued'});
wait_until($node, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.queue_tally WHERE NOT folded)});
is($node->safe_psql('postgres', 'SELECT waiting, answered_today, cancelled_today FROM ocean_enrich.queue_status'), '0|6|1', 'the queue');
my $id = $node->safe_psql('postgres', q{SELECT ocean_enrich_person(ocean_person_request(email => 'call@example.com',
	reveal_phones => true, reveal_phones_webhook_url => 'https://elsewhere.example', reveal_emails => true,
	reveal_emails_webhook_url => 'https://elsewhere.example')) ->> 'id'});
$node->safe_psql('postgres', qq{
	SELECT ocean_enrich.receive_webhook('{"id": "$id", "phone": {"numbers": ["+1 555 0100"], "status": "verified"}}', 'open-sesame');
	SELECT ocean_enrich.receive_webhook('{"id": "$id", "email": {"address": "call\@example.com", "status": "verified"}}', 'open-sesame');
	SELECT ocean_enrich.tidy()});
is($node->safe_psql('postgres', 'SELECT sum(reveal_credits) FROM ocean_enrich.spending'), 11, 'webhooks');
is($node->safe_psql('postgres', q{SELECT ocean_enrich.forget(email => 'queued1@example.com')}), 1, 'erasing');
unlike(slurp_file($node->logfile), qr/replica identity/, 'nothing failed');
books_agree($node, $sandbox, 'published');

done_testing();
