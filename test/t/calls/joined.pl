# joined.pl
#	Equal requests that are under way at the same time are one call: it is sent
#	and paid once, everybody has the person, and a session that gives up takes it from
#	nobody else.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node wait_until wait_for_ledger books_agree);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);

# Starts one call after the other, so that it is known who was first; all are in
# STATE then.
sub start_calls
{
	my ($email, $count, $state, $settings) = @_;
	my @queries;
	foreach my $number (1 .. $count)
	{
		push @queries, OceanTest::Query->start(
			$node, qq{
			$settings
			SET application_name = '$email $number';
			SELECT answer ->> 'id' <> '', credits, reused
			FROM ocean_try_enrich_person(ocean_person_request(email => '$email'))});
		wait_until($node,
			"SELECT count(*) = $number FROM ocean_enrich.in_flight() WHERE state = '$state'"
		);
	}
	return @queries;
}

# Cancels one of the calls for EMAIL; the first one started is number 1.
sub cancel
{
	my ($email, $number) = @_;
	$node->safe_psql(
		'postgres', qq{
		SELECT pg_cancel_backend(pid) FROM pg_stat_activity
		WHERE application_name = '$email $number'});
	return;
}

# What a query said: its result, or the SQLSTATE of its error.
sub outcome
{
	my ($stdout, $stderr) = $_[0]->finish;
	return $stderr =~ /ERROR:  (\w+):/ ? $1 : $stdout;
}

sub requests
{
	my ($email) = @_;
	return $sandbox->books(identity => $email)->{people}{$email}{requests};
}

my ($paid, $joined, $cancelled) = ('t|3|f', 't|0|t', '57014');

# On the wire

$sandbox->config(hold => JSON::PP::true);
my @queries = start_calls('anna@example.com', 10, 'on the wire', '');
is($sandbox->books->{held}, 1, 'ten equal calls are one request');
$sandbox->config(hold => JSON::PP::false);
is_deeply(
	[ map { outcome($_) } @queries ],
	[ $paid, ($joined) x 9 ],
	'the first of them pays, and all have the person');
is(requests('anna@example.com'), 1, 'it was sent once');
books_agree($node, $sandbox, 'on the wire');

# On the wire, while some give up

$sandbox->config(hold => JSON::PP::true);
@queries = start_calls('berta@example.com', 4, 'on the wire', '');
cancel('berta@example.com', $_) foreach (1, 3);
is(outcome($queries[$_]), $cancelled, 'a call is cancelled') foreach (0, 2);
$sandbox->config(hold => JSON::PP::false);
is(outcome($queries[$_]), $joined, 'those who stay have the person')
  foreach (1, 3);
is(requests('berta@example.com'), 1, 'it was sent once');
books_agree($node, $sandbox, 'on the wire, some cancelled');

# Before it was sent: another request takes the only place on the wire.

my $one_place = 'SET ocean_enrich.max_concurrency = 1;';
$sandbox->config(hold => JSON::PP::true);
my ($other) = start_calls('carla@example.com', 1, 'on the wire', $one_place);
@queries = start_calls('dora@example.com', 4, 'waiting', $one_place);
cancel('dora@example.com', $_) foreach (1, 3);
is(outcome($queries[$_]), $cancelled, 'a waiting call is cancelled')
  foreach (0, 2);
$sandbox->config(hold => JSON::PP::false);
is(outcome($other), $paid, 'the call on the wire has its person');
is_deeply(
	[ map { outcome($_) } @queries[ 1, 3 ] ],
	[ $paid, $joined ],
	'of those who stay, the first pays');
is(requests('dora@example.com'), 1, 'it was sent once');
books_agree($node, $sandbox, 'waiting, some cancelled');

# Before it was sent, and all give up

$sandbox->config(hold => JSON::PP::true);
($other) = start_calls('emma@example.com', 1, 'on the wire', $one_place);
@queries = start_calls('frida@example.com', 3, 'waiting', $one_place);
cancel('frida@example.com', $_) foreach (1 .. 3);
is(outcome($_), $cancelled, 'each waiting call is cancelled') foreach @queries;
wait_until($node, 'SELECT count(*) = 1 FROM ocean_enrich.in_flight()');
my ($late) = start_calls('gerda@example.com', 1, 'waiting', $one_place);
$sandbox->config(hold => JSON::PP::false);
is(outcome($_), $paid, 'the others have their persons') foreach ($other, $late);
is(requests('frida@example.com'), 0, 'what all gave up was not sent');
books_agree($node, $sandbox, 'waiting, all cancelled');

done_testing();
