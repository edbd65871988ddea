# webhooks.pl
#	Reveals that come by webhook: every form, in any order, any number of times,
#	before and after the answer, end up in the ledger's person, once; only with the
#	secret; and what they cost is in the books.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node fails wait_until books_agree);
use WebhookTest qw(prepare);
use JSON::PP;
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);
prepare($node, 'open-sesame');
my $forwarder = WebhookTest::Forwarder->new($node);
my $url = $forwarder->url('open-sesame');

# A call that asks for both by webhook, or for those that are named.
sub call
{
	my ($email, %options) = @_;
	my ($hook, @reveals) =
	  ($options{url} // $url, @{ $options{reveals} // [ 'emails', 'phones' ] });
	return "ocean_enrich_person(ocean_person_request(email => '$email'"
	  . join('', map { ", reveal_$_ => true, reveal_${_}_webhook_url => '$hook'" }
		  @reveals)
	  . '))';
}

# What the ledger has of a person: address, its status, number, its status.
sub contacts
{
	my ($email) = @_;
	return $node->safe_psql(
		'postgres', qq{
		SELECT p.email_address, p.email_status, p.phone_numbers, p.phone_status
		FROM ocean_enrich.call, ocean_person(answer) AS p
		WHERE request #>> '{person,email}' = '$email' ORDER BY call_id DESC LIMIT 1});
}

# How many webhooks have been taken so far.
my $taken = 0;

sub wait_for_webhooks
{
	my ($more) = @_;
	$taken += $more;
	return $sandbox->wait(webhooks => $taken);
}

my $complete = qr/^\S+\@example\.com\|verified\|\{"[+0-9 ]+"\}\|verified$/;

# As the API does it: the answer, then two webhooks with the whole person.

# Nothing gets through before we have looked.
$forwarder->refuse(1);
is( $node->safe_psql('postgres',
		"SELECT e -> 'email', e #>> '{phone,status}' FROM "
		  . call('anna@example.com') . ' AS e'),
	'null|inProgress',
	'the answer comes without what is revealed later');
is( $node->safe_psql('postgres',
		'SELECT emails, email_status, phones FROM ocean_enrich.open_reveals'),
	't||t',
	'which is noted');
$forwarder->refuse(0);
wait_for_webhooks(2);
like(contacts('anna@example.com'), $complete, 'both webhooks are merged');
is( $node->safe_psql('postgres',
		"SELECT r.reused, r.credits, p.email_address FROM ocean_try_enrich_person("
		  . "(SELECT request FROM ocean_enrich.call)) AS r, ocean_person(r.answer) AS p"),
	't|0|anna@example.com',
	'an equal request gets the whole, for nothing');
is( $node->safe_psql('postgres',
		'SELECT count(*), sum(credits), bool_or(stated IS NOT NULL), sum(deliveries) FROM ocean_enrich.webhook'),
	'2|11|f|2',
	'its cost is calculated');
is($sandbox->books->{reveals_charged}, 11, '... and is what the API charged');
is( $node->safe_psql('postgres',
		'SELECT role, calls, credits, reveal_credits FROM ocean_enrich.spending'),
	getpwuid($<) . '|1|3|11',
	'... on the account of the call');
is( $node->safe_psql('postgres',
		'SELECT count(*) FROM ocean_enrich.early_reveal UNION ALL SELECT count(*) FROM ocean_enrich.open_reveals'),
	"0\n0",
	'nothing is left over');

# The other forms

foreach my $form (qw(lists people results))
{
		$sandbox->config(webhook_form => $form);
	$node->safe_psql('postgres', 'TRUNCATE ocean_enrich.webhook');
	$node->safe_psql('postgres', 'SELECT ' . call("$form\@example.com"));
	wait_for_webhooks(2);
	wait_until($node,
		'SELECT NOT EXISTS (SELECT FROM ocean_enrich.open_reveals)');
	like(contacts("$form\@example.com"), $complete, "form \"$form\"");
	is( $node->safe_psql('postgres',
			'SELECT sum(credits), bool_and(stated IS NOT NULL) FROM ocean_enrich.webhook'),
		'11|t',
		'... which states its cost');
}
$sandbox->config(webhook_form => 'person');

# Many times, and with refusals in between

$node->safe_psql('postgres', 'TRUNCATE ocean_enrich.webhook');
$sandbox->config(webhook_copies => 3, webhook_retry_ms => 20);
$forwarder->refuse(1);
$node->safe_psql('postgres', 'SELECT ' . call('berta@example.com'));
$sandbox->wait(webhook_failures => $sandbox->books->{webhook_failures} + 4);
is(contacts('berta@example.com'), '|||inProgress', 'refused ones change nothing');
$forwarder->refuse(0);
wait_for_webhooks(6);
like(contacts('berta@example.com'), $complete, 'repeated until they are taken');
is( $node->safe_psql('postgres',
		'SELECT count(*), sum(credits), sum(deliveries) FROM ocean_enrich.webhook'),
	'2|11|6',
	'... and counted once, however often they come');
$sandbox->config(webhook_copies => 1, webhook_retry_ms => 100);

# Before the answer

$sandbox->config(hold_answers => JSON::PP::true);
my $query = OceanTest::Query->start($node,
	"SELECT e #>> '{email,address}' FROM " . call('carla@example.com') . ' AS e');
wait_for_webhooks(2);
is( $node->safe_psql('postgres',
		"SELECT c.state, (SELECT count(*) FROM ocean_enrich.early_reveal)
		FROM ocean_enrich.call AS c ORDER BY call_id DESC LIMIT 1"),
	'sent|2',
	'webhooks are kept that come before the answer');
$sandbox->config(hold_answers => JSON::PP::false);
$query->finish;
like(contacts('carla@example.com'), $complete, '... and merged when it is recorded');
wait_until($node, 'SELECT NOT EXISTS (SELECT FROM ocean_enrich.early_reveal)');

# The same person again, asked for anew while the old call is there

$sandbox->config(hold_answers => JSON::PP::true);
$query = OceanTest::Query->start($node,
	'SET ocean_enrich.reuse_for = 0; SELECT ' . call('carla@example.com'));
wait_for_webhooks(2);
$sandbox->config(hold_answers => JSON::PP::false);
$query->finish;
is( $node->safe_psql('postgres',
		"SELECT count(*) FROM ocean_enrich.call WHERE request #>> '{person,email}' = 'carla\@example.com'"),
	2, 'asked for twice');
like(contacts('carla@example.com'), $complete, 'a webhook for the second call, before its answer');
wait_until($node, 'SELECT NOT EXISTS (SELECT FROM ocean_enrich.early_reveal)');

# Only what was asked for; not found

my $charged = $sandbox->books->{reveals_charged};
$node->safe_psql('postgres', 'TRUNCATE ocean_enrich.webhook');
$node->safe_psql('postgres',
	'SELECT ' . call('dora.sb-notrevealed@example.com', reveals => ['emails']));
wait_for_webhooks(1);
is((split /\|/, contacts('dora.sb-notrevealed@example.com'))[1],
	'notFound', 'an address that is not found');
is( $node->safe_psql('postgres',
		'SELECT count(*), sum(credits) FROM ocean_enrich.webhook'),
	'1|',
	'... costs nothing');
is($sandbox->books->{reveals_charged}, $charged, '... as the API has it');
is($node->safe_psql('postgres', 'SELECT count(*) FROM ocean_enrich.open_reveals'),
	0, 'nothing is waited for any more');

# A webhook without the flag asks for nothing.

$node->safe_psql('postgres',
	"SELECT ocean_enrich_person(ocean_person_request(email => 'emma\@example.com', reveal_emails_webhook_url => '$url'))");
is($node->safe_psql('postgres', 'SELECT count(*) FROM ocean_enrich.open_reveals'),
	0, 'nothing was asked for');

# From the queue: a call, and an equal one that its answer serves

$sandbox->config(hold_answers => JSON::PP::true);
$node->safe_psql('postgres',
	"SELECT ocean_enrich.submit(ocean_person_request(email => 'hanna\@example.com',"
	  . " reveal_emails => true, reveal_emails_webhook_url => '$url')) FROM generate_series(1, 2)");
wait_for_webhooks(1);
$sandbox->config(hold_answers => JSON::PP::false);
wait_until(
	$node, q{
	SELECT count(*) = 2 FROM ocean_enrich.call
	WHERE background AND state = 'answered' AND answer #>> '{email,address}' = 'hanna@example.com'});
pass('queued calls are told, too');
is( $node->safe_psql('postgres',
		'SELECT count(*) FROM ocean_enrich.reveal JOIN ocean_enrich.call USING (call_id) WHERE background'),
	2, '... both of them');
is($node->safe_psql('postgres', 'SELECT count(*) FROM ocean_enrich.open_reveals'),
	0, '... and wait for nothing');

# Two at once: the second waits for the first, and nothing of either is lost.

sub person_id
{
	my ($email) = @_;
	return $node->safe_psql('postgres',
		"SELECT answer ->> 'id' FROM ocean_enrich.call WHERE request #>> '{person,email}' = '$email' LIMIT 1");
}

sub receive
{
	my ($id, $members) = @_;
	return "SELECT ocean_enrich.receive_webhook('{\"id\": \"$id\", $members}', 'open-sesame')";
}

my $email = '"email": {"address": "ida@example.com", "status": "verified"}';
my $phone = '"phone": {"numbers": ["+1 555 0100"], "status": "verified"}';
$node->safe_psql('postgres',
	'SELECT ' . call('ida@example.com', url => 'https://elsewhere.example'));
my $id = person_id('ida@example.com');
my $first = $node->background_psql('postgres');
$first->query_safe('BEGIN');
$first->query_safe(receive($id, $email));
my $second = OceanTest::Query->start($node, receive($id, $phone));
wait_until($node,
	q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%receive_webhook%')});
$first->query_safe('COMMIT');
is(($second->finish)[0], 1, 'the second webhook of two at once');
is(contacts('ida@example.com'), 'ida@example.com|verified|{"+1 555 0100"}|verified',
	'both are merged');
is($node->safe_psql('postgres', 'SELECT count(*) FROM ocean_enrich.early_reveal'),
	0, 'and gone');

# A webhook that crosses its answer: neither transaction sees the other.

$node->safe_psql('postgres', "SELECT ocean_enrich_person(ocean_person_request(email => 'jana\@example.com'))");
$id = person_id('jana@example.com');
$first->query_safe('BEGIN');
$first->query_safe(receive($id, $phone));
$node->safe_psql('postgres',
	'SELECT ' . call('jana@example.com', url => 'https://elsewhere.example', reveals => ['phones']));
$first->query_safe('COMMIT');
# It is merged when the worker has nothing else to do, or by the next one.
$node->safe_psql('postgres', "SELECT ocean_enrich_person(ocean_person_request(email => 'karla\@example.com'))");
wait_until($node,
	q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.early_reveal)});
is((split /\|/, contacts('jana@example.com'))[2], '{"+1 555 0100"}',
	'it is merged afterwards');

# Nobody who holds locks keeps the worker from recording an answer.

$node->safe_psql('postgres', "SELECT ocean_enrich_person(ocean_person_request(email => 'lena\@example.com'))");
$id = person_id('lena@example.com');
$node->safe_psql('postgres', receive($id, $phone));
$first->query_safe('BEGIN');
$first->query_safe('SELECT FROM ocean_enrich.webhook ORDER BY webhook_id DESC LIMIT 1 FOR UPDATE');
my $before = -s $node->logfile;
$node->safe_psql('postgres',
	'SELECT ' . call('lena@example.com', url => 'https://elsewhere.example', reveals => ['phones']));
is((split /\|/, contacts('lena@example.com'))[3], 'inProgress',
	'an answer is recorded while somebody has the webhook locked');
unlike(substr(PostgreSQL::Test::Utils::slurp_file($node->logfile), $before),
	qr/WARNING/, '... without a word');
$first->query_safe('COMMIT');
$node->safe_psql('postgres', "SELECT ocean_enrich_person(ocean_person_request(email => 'mona\@example.com'))");
wait_until($node,
	q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.early_reveal)});
is((split /\|/, contacts('lena@example.com'))[2], '{"+1 555 0100"}',
	'... and merged afterwards');
$first->quit;

# Who listens is told; the person's id is not said.

like(
	$node->safe_psql(
		'postgres', q{
		LISTEN ocean_enrich;
		SELECT set_config('ocean_enrich.webhook_secret', '', false);
		INSERT INTO ocean_enrich.early_reveal (webhook_id, nth, person_id, phone)
		SELECT w.webhook_id, 1, r.person_id, '{"numbers": ["+1 555 0199"], "status": "verified"}'
		FROM ocean_enrich.reveal AS r, ocean_enrich.webhook AS w
		ORDER BY r.call_id DESC, w.webhook_id DESC LIMIT 1;
		SELECT ocean_enrich.tidy();}),
	qr/notification "ocean_enrich" with payload "\d+" received/,
	'listeners hear of a call that has changed');

# If nothing can be noted, the answer is recorded all the same.

$node->safe_psql('postgres',
	'ALTER TABLE ocean_enrich.reveal ADD CONSTRAINT nobody CHECK (call_id < 0) NOT VALID');
my $log_end = -s $node->logfile;
is( $node->safe_psql('postgres',
		"SELECT count(*) FROM " . call('gerda@example.com')),
	1, 'an answer whose webhook cannot be noted');
is( $node->safe_psql('postgres',
		"SELECT state, credits FROM ocean_enrich.call ORDER BY call_id DESC LIMIT 1"),
	'answered|3', '... is recorded');
my $log = substr(PostgreSQL::Test::Utils::slurp_file($node->logfile), $log_end);
like($log, qr/WARNING:  could not record that call \d+ waits for a webhook: new row/,
	'... and the log says so');
unlike(join(' ', $log =~ /^.*(?:WARNING|DETAIL|CONTEXT):.*$/mg), qr/gerda/, '... without the person');
wait_for_webhooks(2);
$node->safe_psql('postgres', 'ALTER TABLE ocean_enrich.reveal DROP CONSTRAINT nobody');

# The secret

$sandbox->config(webhook_retry_ms => 20);
$node->safe_psql('postgres',
	'SELECT ' . call('frida@example.com', reveals => ['emails'], url => $forwarder->url('wrong')));
$sandbox->wait(
	webhook_failures => $sandbox->books->{webhook_failures} + 1);
my ($refusal) = grep { $_->[0] == 403 } $forwarder->answers;
like($refusal->[1], qr/28000: webhook secret is wrong/,
	'a wrong secret is refused');
unlike(join(' ', map { $_->[1] } $forwarder->answers),
	qr/example\.com/, 'no message names anybody');
is((split /\|/, contacts('frida@example.com'))[0], '', '... and changes nothing');

books_agree($node, $sandbox, 'after all that');
$node->stop;
done_testing();
