# sandbox_refusals.pl
#	The sandbox's limit of requests in a window, the features that it refuses, and
#	what it answers while it is down.

use strict;
use warnings FATAL => 'all';

use HTTP::Tiny;
use JSON::PP;
use OceanTest;
use Test::More;
use Time::HiRes qw(sleep);

my $sandbox = OceanTest::Sandbox->new;
my $http = HTTP::Tiny->new(proxy => undef, http_proxy => undef);

# The answer to one request for a person, who is asked for with more keys.
sub ask
{
	my (%more) = @_;
	return $http->post(
		$sandbox->url . '/v2/enrich/person',
		{
			headers => {
				'x-api-token' => $sandbox->token,
				'Content-Type' => 'application/json'
			},
			content => encode_json({ person => { name => 'Alva Nordal' }, %more })
		});
}

# The statuses of COUNT requests, one after the other.
sub statuses
{
	my ($count) = @_;
	return join ' ', map { ask()->{status} } 1 .. $count;
}

# True if the sandbox takes the configuration.
sub takes
{
	my (%config) = @_;
	return eval { $sandbox->config(%config); 1 };
}

sub detail
{
	my ($answer) = @_;
	return "$answer->{status} " . (decode_json($answer->{content})->{detail} // 'no detail');
}

# The limit

is_deeply([ @{ $sandbox->get('config') }{qw(rate_window_ms rate_window_kind)} ],
	[ 60000, 'sliding' ], 'the window is any minute');
ok(!takes(rate_window_ms => 0), 'a window has a length');
ok(!takes(rate_window_kind => $_), 'no such kind: ' . ($_ // 'null')) foreach 'slidin', '', undef;

$sandbox->config(rate_limit => 2);
is(statuses(3), '200 200 429', 'a limit');
my $answer = ask();
is($answer->{headers}{'retry-after'}, 60, '... whose wait is rounded up');
is($answer->{headers}{'x-ratelimit-limit'}, 2, '... and which says what it is');
is_deeply([ @{ $sandbox->books }{qw(refused_by_rate most_in_window charges)} ],
	[ 2, 4, 2 ], '... is in the books');
$sandbox->config(rate_limit => 0);
is(ask()->{status}, 200, 'no limit');
is_deeply([ @{ $sandbox->books }{qw(refused_by_rate most_in_window)} ],
	[ 2, 5 ], '... is counted, too');
$sandbox->reset;
is_deeply([ @{ $sandbox->books }{qw(refused_by_rate most_in_window)} ],
	[ 0, 0 ], 'the books begin anew');

# A place is free again when the first request is a window old.
my $window = OceanTest::slow_ms(1500) / 1000;
$sandbox->config(rate_limit => 2, rate_window_ms => 1000 * $window);
is(statuses(1), '200', 'a sliding window: the first request');
sleep 0.6 * $window;
is(statuses(2), '200 429', '... the second one, and one too many');
is(ask()->{headers}{'retry-after'}, 1, '... with the shortest wait');
sleep 0.6 * $window;
is(statuses(2), '200 429', '... a place is free when the first one is a window old');

# All places are free again when the next window begins.
$sandbox->reset;
$sandbox->config(rate_window_kind => 'fixed', rate_limit => 1);
until (ask()->{status} == 429) { sleep 0.01 }
until (ask()->{status} == 200) { sleep 0.01 }
$sandbox->config(rate_limit => 3);
sleep 0.5 * $window;
is(statuses(3), '200 200 429', 'a fixed window: two more, late in the window');
sleep 0.6 * $window;
is(statuses(4), '200 200 200 429', '... and all of them in the next one');
$sandbox->config(rate_limit => 0);

# The features

foreach my $feature (
	[ 'emails', 402, 'Insufficient email credits' ],
	[ 'emails', 403, 'Revealing e-mail addresses is not enabled for this account' ],
	[ 'phones', 402, 'Insufficient phone credits' ],
	[ 'phones', 403, 'Revealing phone numbers is not enabled for this account' ])
{
	my ($what, $status, $detail) = @$feature;
	my ($other) = grep { $_ ne $what } qw(emails phones);
	my %reveal = map { $_ => { 'reveal' . ucfirst($_) => { 'include' . ucfirst($_) => JSON::PP::true } } } $what, $other;
	$sandbox->reset;
	$sandbox->config("${what}_status" => $status);
	is(detail(ask(%{ $reveal{$what} })), "$status $detail", "no $what: $status");
	is(detail(ask(%{ $reveal{emails} }, %{ $reveal{phones} })), "$status $detail", "... together with $other");
	$reveal{$what}{ 'reveal' . ucfirst $what }{webhookUrl} = 'http://127.0.0.1:1/';
	is(detail(ask(%{ $reveal{$what} })), "$status $detail", '... for a webhook');
	is($sandbox->books->{charged}, '0', '... is not charged');
	is(ask(%{ $reveal{$other} })->{status}, 200, "... unlike $other");
	is(ask()->{status}, 200, '... and requests for neither');
	$sandbox->config("${what}_status" => undef);
}
ok(!takes(emails_status => 404), 'not any other status');

# While it is down

foreach my $status (502, 520 .. 526, 530)
{
	$sandbox->config(down => $status);
	my $page = ask();
	is("$page->{status} $page->{headers}{'content-type'}", "$status text/html", "down: $status is a page");
	like($page->{content}, qr{<title>$status\b}, '... of a proxy');
}
$sandbox->config(down => 429);
$answer = ask();
is(detail($answer), '429 Too many requests', 'down: 429');
is($answer->{headers}{'retry-after'}, undef, '... does not say for how long');
$sandbox->config(retry_after_s => 7);
is(ask()->{headers}{'retry-after'}, 7, '... unless it is told to');
is($sandbox->books->{refused_by_rate}, 0, '... and is no refusal of the limit');

done_testing();
