# sync_webhooks.pl
#	What a webhook brings is written to the rows of syncs, too, if they still
#	ask for it: before and after the answer, whatever else happens to the row.  And
#	who was forgotten is neither written nor asked for again.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node wait_until books_agree);
use SyncTest qw(owner settled status);
use WebhookTest qw(prepare);
use JSON::PP;
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);
prepare($node, 'open-sesame');
my $forwarder = WebhookTest::Forwarder->new($node);
my $url = $forwarder->url('open-sesame');
my $guest = $node->background_psql('postgres');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Address and number in a row.
sub contacts
{
	my ($id) = @_;
	return sql("SELECT p.email_address, p.phone_numbers[1] IS NOT NULL, p.phone_status
		FROM contacts, ocean_person(enriched) AS p WHERE contacts.id = $id");
}

sub wait_for_contacts
{
	my ($id) = @_;
	wait_until($node, "SELECT enriched #>> '{email,address}' IS NOT NULL
		AND enriched #>> '{phone,status}' = 'verified' FROM contacts WHERE id = $id");
	return contacts($id);
}

# How often this person was asked for.
sub requests
{
	my ($email) = @_;
	return $sandbox->books(identity => $email)->{people}{$email}{requests};
}

sub wait_for_webhooks
{
	my ($more) = @_;
	return $sandbox->wait(webhooks => $sandbox->books->{webhooks} + $more);
}

# A payload about the person of a row's call.
sub receive
{
	my ($id, $address) = @_;
	return sql("SELECT ocean_enrich.receive_webhook(jsonb_build_object('id', c.answer -> 'id',
			'email', jsonb_build_object('address', '$address', 'status', 'verified'),
			'phone', '{\"numbers\": [\"+1 555 0100\"], \"status\": \"verified\"}'::jsonb)::json, 'open-sesame')
		FROM ocean_enrich.sync_row AS r JOIN ocean_enrich.call AS c USING (call_id)
		WHERE r.key = '{$id}'");
}

owner($node, 'anna');
sql(qq{
	SET ROLE anna;
	CREATE TABLE contacts (id integer PRIMARY KEY, email text, hook text DEFAULT '$url', enriched jsonb);
	CREATE TABLE written (id integer);
	CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS
		'BEGIN INSERT INTO written VALUES (new.id); RETURN new; END';
	CREATE TRIGGER note BEFORE UPDATE OF enriched ON contacts FOR EACH ROW EXECUTE FUNCTION note();
	SELECT ocean_enrich.create_sync('contacts', 'contacts',
		'ocean_person_request(email => email, reveal_emails => true, reveal_emails_webhook_url => hook,
			reveal_phones => true, reveal_phones_webhook_url => hook)', 'enriched')});

# After the answer; a second row is answered by the same call

$forwarder->refuse(1);
sql(q{INSERT INTO contacts VALUES (1, 'berta@example.com')});
settled($node);
is(contacts(1), '|f|inProgress', 'the answer is written, without what comes later');
sql(q{INSERT INTO contacts VALUES (2, 'berta@example.com')});
settled($node);
is(requests('berta@example.com'), 1, 'an equal request is answered by the same call');
$forwarder->refuse(0);
is(wait_for_contacts(1), 'berta@example.com|t|verified', 'a webhook is written to the row');
is(wait_for_contacts(2), 'berta@example.com|t|verified', '... and to the one that shares the answer');
settled($node);
is(status($node), 'enabled|0|0|2|0|0|0|3.0', 'the counters stay as they were');
is(requests('berta@example.com'), 1, 'nothing was asked for again');

# Before the answer

$sandbox->config(hold_answers => JSON::PP::true);
my $webhooks = $sandbox->books->{webhooks};
sql(q{INSERT INTO contacts VALUES (3, 'carla@example.com')});
$sandbox->wait(webhooks => $webhooks + 2);
$sandbox->config(hold_answers => JSON::PP::false);
settled($node);
is(wait_for_contacts(3), 'carla@example.com|t|verified', 'webhooks before the answer are written with it');

# While the row changes: to another person, to nobody, back again; deleted

my $elsewhere = "hook = 'https://elsewhere.example'";
sql(qq{INSERT INTO contacts (id, email, hook)
	SELECT i, 'row' || i || '\@example.com', 'https://elsewhere.example' FROM generate_series(11, 17) AS i});
settled($node);
sql(q{SELECT ocean_enrich.disable_sync('contacts')});
is(receive($_, "new$_\@example.com"), 1, "a webhook for row $_") foreach 11 .. 16;
sql(q{UPDATE contacts SET email = 'other@example.com' WHERE id = 12;
	UPDATE contacts SET email = NULL WHERE id = 13;
	UPDATE contacts SET email = 'brief@example.com' WHERE id = 14;
	UPDATE contacts SET email = 'row14@example.com' WHERE id = 14;
	DELETE FROM contacts WHERE id = 15;
	UPDATE contacts SET id = 26 WHERE id = 16});
sql(q{SELECT ocean_enrich.enable_sync('contacts')});
settled($node);
wait_until($node, 'SELECT NOT EXISTS (SELECT FROM ocean_enrich.sync_settled)');
is((split /\|/, contacts(11))[0], 'new11@example.com', 'what came while it was disabled is written');
is((split /\|/, contacts(12))[2], 'inProgress', 'a row that asks for somebody else gets nothing of it');
is(requests('other@example.com'), 1, '... but what it asks for');
is((split /\|/, contacts(13))[2], 'inProgress', 'a row that asks for nobody any more stays as it is');
is((split /\|/, contacts(14))[0], 'new14@example.com', 'a row that changed and asks for the same gets it');
is((split /\|/, contacts(26))[0], 'new16@example.com', 'a row under another key, too');
is(requests("row$_\@example.com"), 1, "row $_ was asked for once") foreach 11 .. 16;

# A row that asks for something else without having changed is left alone.

sql(q{
	SET ROLE anna;
	CREATE TABLE names (id integer PRIMARY KEY, email text);
	INSERT INTO names VALUES (1, 'dora@example.com');
	CREATE TABLE refs (id integer PRIMARY KEY, name integer, enriched jsonb);
	INSERT INTO refs VALUES (31, 1);
	SELECT ocean_enrich.create_sync('refs', 'refs', 'ocean_person_request(email => (SELECT n.email FROM names AS n
		WHERE n.id = name), reveal_phones => true, reveal_phones_webhook_url => ''https://elsewhere.example'')',
		'enriched')});
settled($node, 'refs');
sql(q{UPDATE names SET email = 'emma@example.com'});
is(receive(31, 'dora@example.com'), 1, 'a webhook for a row whose request has become another one');
wait_until($node, 'SELECT NOT EXISTS (SELECT FROM ocean_enrich.sync_settled)');
is(sql(q{SELECT enriched #>> '{phone,status}' FROM refs}), 'inProgress', '... is not written');
is(requests('emma@example.com'), 0, '... and asks for nothing');

# Written by the owner's rights, and once for each news

sql('TRUNCATE written');
is(receive(17, 'new17@example.com'), 1, 'a webhook');
is(receive(17, 'new17@example.com'), 0, '... that comes twice');
wait_until($node, 'SELECT NOT EXISTS (SELECT FROM ocean_enrich.sync_settled)');
is(sql('SELECT count(*) FROM written'), 1, '... is written once, with the triggers of the table');
books_agree($node, $sandbox, 'after the webhooks');

# Who is forgotten

my $row11 = requests('row11@example.com');
my $fingerprint = sql(q{SELECT encode(c.fingerprint, 'hex') FROM ocean_enrich.sync_row AS r
	JOIN ocean_enrich.call AS c USING (call_id) WHERE r.key = '{11}'});
is(sql(q{SELECT ocean_enrich.forget(email => 'row11@example.com')}), 1, 'somebody is forgotten');
is( sql(q{SELECT state, message, refresh_at FROM ocean_enrich.sync_row WHERE key = '{11}'}),
	'forgotten||', 'the row says so');
is(sql("SELECT count(*) FROM ocean_enrich.sync_row AS r WHERE r::text LIKE '%$fingerprint%'"),
	0, '... and has nothing to try guesses on');
is(sql(q{SELECT forgotten FROM ocean_enrich.sync_status WHERE name = 'contacts'}), 1, 'it is counted');
sql(q{SELECT ocean_enrich.alter_sync('contacts', condition => 'id < 1000');
	SELECT ocean_enrich.alter_sync('contacts', refresh_after => '1 hour');
	SELECT ocean_enrich.disable_sync('contacts');
	SELECT ocean_enrich.enable_sync('contacts');
	SELECT ocean_enrich.retry_sync('contacts');
	UPDATE contacts SET enriched = NULL WHERE id = 11});
settled($node);
is(requests('row11@example.com'), $row11, 'the sync does not ask for somebody who is forgotten');
is(requests('row17@example.com'), 1, '... nor for anybody else again');
is(sql(q{SELECT enriched IS NULL FROM contacts WHERE id = 11}), 't', 'and does not write again what was erased');
sql(q{UPDATE contacts SET email = 'new@example.com' WHERE id = 11});
settled($node);
is(requests('new@example.com'), 1, 'a row that changes is asked for');
sql(q{UPDATE contacts SET email = 'row11@example.com' WHERE id = 11});
settled($node);
is(requests('row11@example.com'), $row11 + 1, '... whatever it asks for');

# Forgotten while queued, and on the wire

$sandbox->config(hold => JSON::PP::true);
sql(qq{UPDATE contacts SET $elsewhere;
	INSERT INTO contacts VALUES (41, 'frida\@example.com', 'https://elsewhere.example')});
$sandbox->wait(held => 1);
wait_until($node, q{SELECT EXISTS (SELECT FROM ocean_enrich.sync_row AS r JOIN ocean_enrich.call AS c USING (call_id)
	WHERE r.key = '{41}' AND r.state = 'queued' AND c.state = 'sent')});
is(sql(q{SELECT ocean_enrich.forget(email => 'frida@example.com')}), 1, 'somebody whose call is on the wire');
$node->append_conf('postgresql.conf', 'ocean_enrich.queue_enabled = off');
$node->reload;
wait_until($node, q{SELECT ocean_enrich.setting('queue_enabled') = 'off'});
sql(q{INSERT INTO contacts VALUES (42, 'gerda@example.com', 'https://elsewhere.example')});
wait_until($node, q{SELECT EXISTS (SELECT FROM ocean_enrich.sync_row WHERE key = '{42}' AND state = 'queued')});
is(sql(q{SELECT ocean_enrich.forget(email => 'gerda@example.com')}), 1, 'somebody whose call is queued');
$sandbox->config(hold => JSON::PP::false);
$node->append_conf('postgresql.conf', 'ocean_enrich.queue_enabled = on');
$node->reload;
settled($node);
wait_until($node, 'SELECT NOT EXISTS (SELECT FROM ocean_enrich.forget_later)');
wait_until($node, 'SELECT NOT EXISTS (SELECT FROM ocean_enrich.sync_settled)');
is(sql('SELECT count(*) FROM contacts WHERE id IN (41, 42) AND enriched IS NULL'), 2, 'nothing is written to their rows');
is( sql(q{SELECT string_agg(state::text, ' ') FROM ocean_enrich.sync_row WHERE key IN ('{41}', '{42}')}),
	'forgotten forgotten', '... which say so');
is(requests('gerda@example.com'), 0, 'what was queued is not sent');
books_agree($node, $sandbox, 'in the end');

$guest->quit;
$node->stop;
done_testing();
