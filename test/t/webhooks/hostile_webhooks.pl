# hostile_webhooks.pl
#	What comes to the URL of a webhook without its secret changes nothing.  What
#	comes with it comes from the API, or from whoever got hold of the secret: however
#	it is made, it is taken or refused in a moment, the same payload counts once, and
#	what nobody waits for has an end.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails slow_ms wait_until);
use WebhookTest qw(prepare);
use JSON::PP;
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);
prepare($node, 'open-sesame');

# What a payload is taken by: a role that may do nothing else, in a moment.
sub receive
{
	my ($payload, $secret) = @_;
	my $moment = slow_ms(10_000);
	return qq{
		SET statement_timeout = $moment;
		SET ROLE ocean_webhook;
		DO \$\$ BEGIN PERFORM set_config('request.headers', jsonb_build_object('x-webhook-secret', $secret)::text, false); END \$\$;
		SELECT ocean_hooks.receive(($payload)::json)};
}

# A call that waits for a webhook about this person.
my $asked = q{ocean_enrich_person(ocean_person_request(email => 'alva@example.com',
	reveal_emails => true, reveal_emails_webhook_url => 'https://hooks.example.com/?secret=open-sesame'))};
my $id = $node->safe_psql('postgres', "SELECT $asked ->> 'id'");

sub is_in
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($query, $expected, $name) = @_;
	return is($node->safe_psql('postgres', $query), $expected, $name);
}

# All that a webhook may change.
my $state = q{
	SELECT md5(string_agg(r::text, '' ORDER BY r::text)) FROM (
		SELECT c::text FROM ocean_enrich.call AS c UNION ALL
		SELECT r::text FROM ocean_enrich.reveal AS r UNION ALL
		SELECT w::text FROM ocean_enrich.webhook AS w UNION ALL
		SELECT e::text FROM ocean_enrich.early_reveal AS e UNION ALL
		SELECT c::text FROM ocean_enrich.reveal_cost AS c) AS r};
my $rows = 'SELECT (SELECT count(*) FROM ocean_enrich.webhook), (SELECT count(*) FROM ocean_enrich.early_reveal)';

my $about_her = qq('{"id": "$id", "email": {"address": "alva\@attacker.example", "status": "verified"}}');
my $many = q{(SELECT jsonb_build_object('people', jsonb_agg(jsonb_build_object('id', 'nobody-' || i,
	'email', jsonb_build_object('address', i || '@x.example')))) FROM generate_series(1, 12000) AS i)};

# Forged: the secret, or something like it

my $before = $node->safe_psql('postgres', $state);
foreach my $secret (
	'NULL', "''", "'open-sesam'", "'open-sesame '", "'Open-Sesame'", "'open-sesame' || chr(10)",
	q{'sha256:' || encode(sha256('open-sesame'), 'hex')}, q{encode(sha256('open-sesame'), 'hex')},
	"repeat('open-sesame', 100000)", "'*'", "'%'")
{
	foreach my $payload ($about_her, $many, "jsonb_build_object('id', repeat('x', 2000000))", "'{}'", 'NULL')
	{
		fails($node, receive($payload, $secret),
			qr/28000: webhook secret is wrong/, substr("forged: $secret, $payload", 0, 100));
	}
}
is_in($state, $before, 'nothing forged has changed anything');

# With the secret.  Each is: a payload; what comes of it, an SQLSTATE or how many
# calls it changed; how many wait in early_reveal after it.

my $finding = q{'{"address": "a@x.example", "status": "verified"}'::jsonb};
my $wide = q{(SELECT jsonb_object_agg('key-' || i, i) FROM generate_series(1, 25000) AS i)};
my %payloads = (
	many_people => [ $many, 0, 12_000 ],
	one_person_often => [
		q{(SELECT jsonb_build_object('emails', jsonb_agg(jsonb_build_object('personId', 'p', 'address', i || '@x.example')))
			FROM generate_series(1, 14000) AS i)}, 0, 14_000 ],
	her_often => [
		qq{(SELECT jsonb_build_object('emails', jsonb_agg(jsonb_build_object('personId', '$id', 'address', i || '\@x.example',
			'status', 'guessed'))) FROM generate_series(1, 10000) AS i)}, 1, 0 ],
	all_lists => [
		q{(SELECT jsonb_object_agg(key, list) FROM unnest('{emails,phones,people,results}'::text[]) AS key,
			(SELECT jsonb_agg(jsonb_build_object('personId', 'p' || i, 'address', 'a', 'numbers', '[]'::jsonb)) AS list
				FROM generate_series(1, 3500) AS i) AS l)}, 0, 14_000 ],
	nothing_often => [ q{(SELECT jsonb_build_object('people', jsonb_agg('{}'::jsonb)) FROM generate_series(1, 100000))}, 0, 0 ],
	wide_person => [ qq{$wide || '{"id": "p"}'}, 0, 0 ],
	wide_finding => [ qq{jsonb_build_object('id', 'p', 'email', $wide)}, 0, 1 ],
	long_address => [ q{jsonb_build_object('id', 'p', 'email', jsonb_build_object('address', repeat('x', 1000000)))}, 0, 1 ],
	long_id => [ qq{jsonb_build_object('id', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1000) AS i), 'email', $finding)}, '54000', 0 ],
	long_key => [ qq{jsonb_build_object('id', 'p', repeat('x', 1000000), 1, 'email', $finding)}, 0, 1 ],
	huge => [ q{jsonb_build_object('id', repeat('x', 1048576))}, '54000', 0 ],
	deep => [ q{('{"id": "p", "email": {"address": ' || repeat('[', 400000) || repeat(']', 400000) || '}}')::jsonb}, '54001', 0 ],
	less_deep => [ q{('{"id": "p", "email": {"address": ' || repeat('[', 2000) || repeat(']', 2000) || '}}')::jsonb}, 0, 1 ],
	deep_objects => [ q{('{"id": "p", "phone": ' || repeat('{"numbers":', 2000) || '1' || repeat('}', 2000) || '}')::jsonb}, 0, 1 ],
	huge_number => [ q{('{"id": "p", "creditsUsed": 1' || repeat('0', 100000) || '}')::jsonb}, 0, 0 ],
	no_text => [ q{'{"id": "p\u0000", "summary": "\u0000\\u0000", "email": {"address": "a\u0000@x.example"}}'}, 0, 1 ],
	half_a_character => [ q{'{"id": "\ud800", "summary": "\ud83d\ude00", "email": {"address": "\udc00@x.example"}}'}, 0, 1 ],
	no_json => [ q('{"id": "p"'), '22P02', 0 ],
	no_elements => [ q{(SELECT jsonb_build_object('emails', jsonb_agg(1)) FROM generate_series(1, 100000))}, '22023', 0 ],
	keyed_maps => [ q{(SELECT jsonb_build_object('results', jsonb_object_agg('row-' || i, jsonb_build_object('id', 'nobody-' || i,
		'email', jsonb_build_object('address', i || '@x.example')))) FROM generate_series(1, 9000) AS i)}, 0, 9_000 ],
);
foreach my $name (sort keys %payloads)
{
	my ($payload, $expected, $left) = @{ $payloads{$name} };
	my ($stdout, $stderr) = OceanTest::Query->start($node, receive($payload, "'open-sesame'"))->finish;
	my ($code) = $stderr =~ /ERROR:  (\w{5}): /;
	is($code // $stdout, $expected, "$name: is taken, or refused");
	is_in('SELECT count(*) FROM ocean_enrich.early_reveal', $left, "$name: what waits");
	is_in('TRUNCATE ocean_enrich.early_reveal; SELECT count(*) FROM ocean_enrich.call', 1, "$name: the server is alive");
}

# The same one many times: one receipt, one cost, and no more room than before.

sub receive_often
{
	my ($payload, $times) = @_;
	return receive($payload, "'open-sesame'") . ';' . "SELECT ocean_hooks.receive(($payload)::json);" x ($times - 1);
}

my $size = q{SELECT pg_total_relation_size('ocean_enrich.early_reveal') + pg_total_relation_size('ocean_enrich.webhook')};
my $found = qq('{"id": "$id", "email": {"address": "alva\@x.example", "status": "verified"}}');
my $nobody = qq('{"id": "nobody", "email": {"address": "nobody\@x.example", "status": "verified"}}');
$node->safe_psql('postgres', 'VACUUM FULL ocean_enrich.webhook, ocean_enrich.early_reveal');
my %before = map { $_ => $node->safe_psql('postgres', $_) } $rows, $size;
# Where a thousand take a quarter of an hour, a hundred have to do.
my $often = slow_ms(1000) > 1000 ? 100 : 1000;
foreach my $payload ($found, $nobody)
{
	my ($stdout, $stderr) = OceanTest::Query->start($node, receive_often($payload, $often))->finish;
	is($stderr, '', 'the same payload many times');
	is_in('SELECT deliveries FROM ocean_enrich.webhook ORDER BY webhook_id DESC LIMIT 1', $often, '... is counted');
}
my ($webhooks, $waiting) = split /\|/, $before{$rows};
is_in($rows, $webhooks + 2 . '|' . ($waiting + 1), '... has one receipt, and waits once');
is_in('SELECT sum(credits) FROM ocean_enrich.reveal_cost', 1, '... and costs once');
$node->safe_psql('postgres', 'VACUUM ocean_enrich.webhook, ocean_enrich.early_reveal');
cmp_ok($node->safe_psql('postgres', $size) - $before{$size}, '<', 500_000, '... in little room');

# Ever other payloads about people nobody asked for: there is an end.  It comes in
# a moment also if the statistics were made when all rows were about one person.

$node->safe_psql('postgres', q{
	INSERT INTO ocean_enrich.early_reveal (webhook_id, nth, person_id, email)
	SELECT 0, i, 'p', '{"address": "a@x.example"}' FROM generate_series(1, 14000) AS i;
	ANALYZE ocean_enrich.early_reveal;
	TRUNCATE ocean_enrich.early_reveal;
	INSERT INTO ocean_enrich.early_reveal (webhook_id, nth, person_id, email)
	SELECT 0, i, 'stranger-' || i, '{"address": "a@x.example"}' FROM generate_series(1, 90000) AS i});
my $full = qr/53400: too many people that no call is waiting for/;
fails($node, receive($many, "'open-sesame'"), $full, 'more people than may wait are refused');
is_in('SELECT count(*) FROM ocean_enrich.early_reveal', 90_000, '... and leave nothing');
is_in($rows, $webhooks + 2 . '|90000', '... no receipt either, so they can come again');
$node->safe_psql('postgres', q{
	INSERT INTO ocean_enrich.early_reveal (webhook_id, nth, person_id, email)
	SELECT 1, i, 'stranger-' || i, '{"address": "a@x.example"}' FROM generate_series(1, 9999) AS i});
is($node->safe_psql('postgres', receive($nobody =~ s/nobody"/the-last"/r, "'open-sesame'")), 0, 'up to 100,000 may wait');
fails($node, receive($nobody =~ s/nobody"/one-more"/r, "'open-sesame'"), $full, '... and not one more');
is($node->safe_psql('postgres', receive($found =~ s/alva\@/better\@/r, "'open-sesame'")), 1, 'who is waited for is taken still');
is($node->safe_psql('postgres', receive(q('{"id": "nobody"}'), "'open-sesame'")), 0, '... and what says nothing');

# A payload about several people is refused if nobody waits for any of them.
my $people = sub
{
	return qq('{"people": [) . join(', ', map {
		qq({"id": "$_", "email": {"address": "mixed\@x.example", "status": "verified"}}) } @_) . "]}'";
};
fails($node, receive($people->('one-more', 'berta'), "'open-sesame'"), $full, 'several whom nobody waits for are refused');
is($node->safe_psql('postgres', receive($people->('berta', $id, 'one-more'), "'open-sesame'")), 1,
	'who is waited for is taken together with others');
is_in("SELECT answer #>> '{email,address}' FROM ocean_enrich.call WHERE answer ->> 'id' = '$id'", 'mixed@x.example', '... and merged');
is_in("SELECT string_agg(person_id, ' ' ORDER BY nth) FROM ocean_enrich.early_reveal WHERE email ->> 'address' = 'mixed\@x.example'",
	'berta one-more', '... and these wait');
is($node->safe_psql('postgres', 'SELECT ' . $asked =~ s/email => 'alva\@example.com'/id => 'berta'/r . q{ -> 'email' ->> 'address'}),
	'', 'the answer comes later');
is_in("SELECT answer #>> '{email,address}' FROM ocean_enrich.call WHERE answer ->> 'id' = 'berta'", 'mixed@x.example',
	'... and what was revealed before is in it');

# Who is waited for is kept there, too, as long as another such call is on the wire.
$sandbox->config(hold => JSON::PP::true);
my $other = OceanTest::Query->start($node, 'SELECT ' . $asked =~ s/alva/berta/r);
$sandbox->wait(held => 1);
is($node->safe_psql('postgres', receive($found =~ s/alva\@/best\@/r, "'open-sesame'")),
	1, 'who is waited for is taken while another call is on the wire');
is_in("SELECT count(*) FROM ocean_enrich.early_reveal WHERE person_id = '$id'", 1, '... and stays');
$sandbox->config(hold => JSON::PP::false);
$other->finish;

# One that is on the wire in another database, of which this one has a copy, is none.
my $copied = $node->safe_psql('postgres', q{
	INSERT INTO ocean_enrich.call (endpoint, state, role, fingerprint, request, reveals_by_webhook, requested_at, sent_at, database)
	SELECT 'person', 'sent', role, fingerprint, request, reveals_by_webhook, now(), now(), 'elsewhere' FROM ocean_enrich.call WHERE call_id = 1
	RETURNING call_id});
is($node->safe_psql('postgres', receive($found =~ s/alva\@/copied@/r, "'open-sesame'")), 1, 'a copied call');
is_in("SELECT count(*) FROM ocean_enrich.early_reveal WHERE person_id = '$id'", 0, '... is not waited for');
$node->safe_psql('postgres', "DELETE FROM ocean_enrich.call WHERE call_id = $copied");

$node->safe_psql('postgres', q{INSERT INTO ocean_enrich.reveal (call_id, person_id, emails, phones)
	SELECT 1000 + i, 'stranger-' || i, true, true FROM generate_series(1, 90000) AS i});
is($node->safe_psql('postgres', receive($nobody =~ s/nobody"/early"/r, "'open-sesame'")), 0, 'who is waited for is no crowd');
$node->safe_psql('postgres', 'DELETE FROM ocean_enrich.reveal WHERE call_id > 1000');
is_in(q{
	UPDATE ocean_enrich.early_reveal SET received_at = now() - interval '8 days';
	SELECT ocean_enrich.tidy();
	SELECT count(*) FROM ocean_enrich.early_reveal}, "0\n0", 'it ends after a week');
is($node->safe_psql('postgres', receive($nobody =~ s/nobody"/one-more"/r, "'open-sesame'")), 0, 'then there is room again');

# What crossed the answers of many calls is merged in one go.
sub crossed
{
	my ($name, $count, $received_at) = @_;
	$node->safe_psql('postgres', qq{
		WITH asked AS (
			INSERT INTO ocean_enrich.call (endpoint, state, role, account, fingerprint, request, answer, attempts, requested_at, answered_at)
			SELECT 'person', 'answered', role, account, fingerprint, request, answer, 1, now(), now()
			FROM ocean_enrich.call, generate_series(1, $count) WHERE call_id = 1
			RETURNING call_id
		), waiting AS (
			INSERT INTO ocean_enrich.reveal (call_id, person_id, emails, phones)
			SELECT call_id, '$name-' || call_id, true, false FROM asked
		), come AS (
			INSERT INTO ocean_enrich.webhook (digest, people) VALUES ('$name', $count) RETURNING webhook_id
		)
		INSERT INTO ocean_enrich.early_reveal (webhook_id, nth, person_id, email, received_at)
		SELECT webhook_id, call_id, '$name-' || call_id, '{"address": "a\@x.example", "status": "verified"}', $received_at
		FROM asked, come});
	return;
}
$node->safe_psql('postgres', 'TRUNCATE ocean_enrich.early_reveal');
crossed('crossed', 900, 'now()');
$node->safe_psql('postgres', 'SELECT ocean_enrich.tidy()');
is_in('SELECT count(*) FROM ocean_enrich.early_reveal', 0, 'many that crossed their answers are merged at once');

# However many have to be kept, for a call that is on the wire: others have their turn.
$sandbox->config(hold => JSON::PP::true);
$other = OceanTest::Query->start($node, "SET ocean_enrich.request_timeout = '1h'; SELECT " . $asked =~ s/alva/clara/r);
$sandbox->wait(held => 1);
crossed('kept', 2000, 'clock_timestamp()');
crossed('later', 20, "now() - interval '1 hour'");
my $crossed = q{SELECT count(*) FROM ocean_enrich.early_reveal WHERE person_id LIKE 'later-%'};
foreach (1 .. 60)
{
	$node->safe_psql('postgres', 'SELECT ocean_enrich.tidy()');
	last if $node->safe_psql('postgres', $crossed) == 0;
}
is_in($crossed, 0, 'those that wait for nothing are merged beside many that do');
is_in(q{SELECT count(*) FROM ocean_enrich.early_reveal WHERE person_id LIKE 'kept-%'}, 2000, '... which are kept');
$sandbox->config(hold => JSON::PP::false);
$other->finish;
wait_until($node, 'SELECT ocean_enrich.tidy() IS NOT NULL AND NOT EXISTS (SELECT FROM ocean_enrich.early_reveal)');
pass('in the end all are merged');

done_testing();
