# in_flight.pl
#	What is on its way: equal requests are one, and the views say who waits.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich wait_until books_agree);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);
$node->safe_psql(
	'postgres', q{
	CREATE ROLE anna LOGIN;
	CREATE ROLE berta LOGIN;
	GRANT EXECUTE ON FUNCTION ocean_try_enrich_person(jsonb), ocean_person_request TO anna, berta});

my $try = q{SELECT answer ->> 'domain', status, credits, reused, call_id
	FROM ocean_try_enrich_person(ocean_person_request(email => '%s@example.com'))};

# Three sessions of two roles ask for the same person while the answer is held.

$sandbox->config(hold => JSON::PP::true);
my @queries =
  (OceanTest::Query->start($node, sprintf($try, 'same'), user => 'anna'));
$sandbox->wait(held => 1);
push @queries, map {
	OceanTest::Query->start($node, sprintf($try, 'same'), user => $_)
} ('anna', 'berta');
wait_until($node,
	q{SELECT count(*) = 3 FROM ocean_enrich.in_flight() WHERE state = 'on the wire'});
is($sandbox->books->{requests}, 1, 'equal requests are one');
is( $node->safe_psql(
		'postgres', q{
		SELECT role, state, count(*), count(DISTINCT pid), count(DISTINCT call_id),
			bool_and(age BETWEEN '0' AND '1 hour'), bool_and(submitted_at < now())
		FROM ocean_enrich.calls_in_flight GROUP BY role, state ORDER BY role}),
	"anna|on the wire|2|2|1|t|t\nberta|on the wire|1|1|1|t|t",
	'the view lists all three, with the one row that they wait for');
is( $node->safe_psql(
		'postgres', q{
		SELECT bool_and(pid = ANY (SELECT pid FROM pg_stat_activity WHERE usename = f.role))
		FROM ocean_enrich.calls_in_flight AS f}),
	't',
	'by the processes that wait');
is( $node->safe_psql('postgres',
		q{SELECT state, calls FROM ocean_enrich.calls_by_state}),
	'sent|1',
	'the ledger says that it is on the wire');
is( $node->safe_psql('postgres',
		q{SELECT used, remaining FROM ocean_enrich.limits WHERE name = 'max_concurrency'}),
	'1|63',
	'so one request is used of max_concurrency');

$sandbox->config(hold => JSON::PP::false);
my @results = map { ($_->finish)[0] } @queries;
my ($call_id) = $results[0] =~ /(\d+)$/;
is_deeply(
	\@results,
	[
		"example.com|200|3|f|$call_id",
		("example.com|200|0|t|$call_id") x 2
	],
	'the first one pays, the others have the same answer');
is( $node->safe_psql('postgres', 'SELECT role, state, credits FROM ocean_enrich.call'),
	'anna|answered|3', 'and the receipt is the first one\'s');
is($node->safe_psql('postgres', 'SELECT count(*) FROM ocean_enrich.calls_in_flight'),
	0, 'nothing is in flight any more');

# An error is shared as well.

$sandbox->config(hold => JSON::PP::true);
@queries = (OceanTest::Query->start($node, 'SELECT ' . enrich('sb-status-402.a@example.com')));
$sandbox->wait(held => 1);
push @queries, OceanTest::Query->start($node, 'SELECT ' . enrich('sb-status-402.a@example.com'));
wait_until($node,
	q{SELECT count(*) = 2 FROM ocean_enrich.in_flight() WHERE state = 'on the wire'});
$sandbox->config(hold => JSON::PP::false);
like(($_->finish)[1], qr/OE402: Insufficient credits/, 'an error for all who asked')
  foreach @queries;
is($sandbox->books->{requests}, 2, 'that was one request, too');

# Requests of different accounts or bodies are not equal.

$sandbox->config(hold => JSON::PP::true);
my $localhost = $sandbox->url =~ s/127\.0\.0\.1/localhost/r;
@queries = map { OceanTest::Query->start($node, $_) } (
	'SELECT ' . enrich('carla@example.com'),
	'SELECT ' . enrich('karla@example.com'),
	"SET ocean_enrich.api_url = '$localhost'; SELECT " . enrich('carla@example.com'));
$sandbox->wait(held => 3);
pass('other requests go by themselves');
$sandbox->config(hold => JSON::PP::false);
is(($_->finish)[1], '', 'each is answered') foreach @queries;

# What waits for its turn

$sandbox->config(hold => JSON::PP::true);
@queries = map {
	OceanTest::Query->start($node,
		'SET ocean_enrich.max_concurrency = 1; SELECT ' . enrich("dora$_\@example.com"))
} (1 .. 3);
wait_until($node, q{SELECT count(*) = 3 FROM ocean_enrich.in_flight()});
$sandbox->wait(held => 1);
is( $node->safe_psql(
		'postgres', q{
		SELECT state, count(*), count(call_id) FROM ocean_enrich.calls_in_flight
		GROUP BY state ORDER BY state}),
	"on the wire|1|1\nwaiting|2|0",
	'one is on the wire, two wait and are not in the ledger yet');
$sandbox->config(hold => JSON::PP::false);
is(($_->finish)[1], '', 'each has its turn') foreach @queries;

books_agree($node, $sandbox, 'in flight');

done_testing();
