# sandbox_balance.pl
#	The sandbox tells the balance of its own books: for nothing, to those with a
#	token, with fields missing or odd as configured; credits can be bought.

use strict;
use warnings FATAL => 'all';

use IPC::Run ();
use JSON::PP;
use OceanTest;
use Test::More;

my $sandbox = OceanTest::Sandbox->new(
	config => { credits => '10.5', cost => '0.1' });

# One request: (status, body).
sub request
{
	my ($path, @options) = @_;
	my $output = '';

	IPC::Run::run(
		[
			'curl', '--silent', '--noproxy', '*', '--write-out', '\n%{http_code}',
			@options, $sandbox->url . $path
		],
		'<', \undef, '>', \$output)
	  or die "no answer: $path";
	my ($body, $status) = $output =~ /^(.*)\n(\d+)\z/s;
	return ($status, $body);
}

sub balance
{
	my ($status, $body) =
	  request('/v2/credits/balance', '--header', 'x-api-token: sandbox-token');
	return $status == 200 ? decode_json($body) : $status;
}

my ($status, $body) =
  request('/v2/credits/balance?apiToken=sandbox-token');
is($status, 200, 'a token in the query is one, too');
like($body, qr/"oneTime": ?10\.5\b.*"recurrent": ?0\.0\b/,
	'numbers are fractional');
is_deeply(
	[ sort keys %{ decode_json($body) } ],
	[
		qw(credits dailyLimitRateLeft dailyLimitRateSecondsToReset
		  emailCredits phoneCredits previewCredits)
	],
	'all fields are there');
is((request('/v2/credits/balance'))[0], 403, 'no token');
is((request('/v2/credits/balance?apiToken=x'))[0], 403, 'an unknown token');
is((request('/v2/credits/balance?apiToken=x', '-H', 'x-api-token: y'))[0],
	400, 'two tokens');

request('/v2/enrich/person', '-H', 'x-api-token: sandbox-token', '--json',
	'{"person": {"name": "Alva Nordal"}}');
is(balance()->{credits}{oneTime}, 10.4, 'a person was paid');
my $books = $sandbox->books;
is("$books->{charged} $books->{balances} $books->{refused_tokens}",
	'0.1 2 3', 'the balance itself is free, and counted');

$sandbox->config(add_credits => '5');
is(balance()->{credits}{oneTime}, 15.4, 'credits were bought');
$sandbox->config(cost => '0.1');
is(balance()->{credits}{oneTime}, 15.4, '... once');

$sandbox->config(
	balance_changes => {
		emailCredits => undef,
		credits => { recurrent => 2.5 },
		dailyLimitRateLeft => 'many'
	});
is_deeply(
	[ @{ balance() }{qw(credits emailCredits dailyLimitRateLeft)} ],
	[ { oneTime => 15.4, recurrent => 2.5 }, undef, 'many' ],
	'fields are missing or odd');
$sandbox->config(balance_changes => undef, balance_status => 503);
is(balance(), 503, 'it can fail');
$sandbox->config(balance_status => undef, down => 502);
is(balance(), 502, 'and be down');
$sandbox->config(down => undef, credits => undef);
is(balance()->{credits}{oneTime}, 1000000, 'no end of credits');

done_testing();
