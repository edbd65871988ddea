# accounts.pl
#	Which API a session calls and with which token is set as anything else in
#	PostgreSQL: for the server, a database, a role, a session.  Each request goes
#	where its session says, though one worker sends them all.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails books_agree);
use PostgreSQL::Test::Utils;
use Test::More;

# Two accounts; each of them refuses the other's token.
my $first = OceanTest::Sandbox->new(token => 'token-of-the-first');
my $second = OceanTest::Sandbox->new(token => 'token-of-the-second');
my $node = node($first);

sub write_token
{
	my ($sandbox) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/token';
	append_to_file($file, $sandbox->token . "\n");
	chmod(0600, $file) or die "could not chmod $file: $!";
	return $file;
}
my $second_url = $second->url;
my $second_file = write_token($second);
my $use_second = "SET ocean_enrich.api_url = '$second_url'";

$node->safe_psql(
	'postgres', qq{
	CREATE ROLE ordinary LOGIN;
	CREATE ROLE customer LOGIN;
	ALTER ROLE customer $use_second;
	ALTER ROLE customer SET ocean_enrich.api_token = '';
	ALTER ROLE customer SET ocean_enrich.api_token_file = '$second_file';
	CREATE DATABASE other;
	ALTER DATABASE other $use_second;
	ALTER DATABASE other SET ocean_enrich.api_token = '';
	ALTER DATABASE other SET ocean_enrich.api_token_file = '$second_file';
	ALTER ROLE ordinary IN DATABASE other SET ocean_enrich.api_token_file = '/nonexistent'});
$node->safe_psql($_, q{
	CREATE EXTENSION IF NOT EXISTS ocean_enrich;
	GRANT EXECUTE ON FUNCTION ocean_enrich_person(jsonb), ocean_person_request TO PUBLIC})
  foreach ('postgres', 'other');

# Who was asked for EMAIL, how often?
sub asked
{
	my ($email) = @_;
	return join '|', map {
		$_->books(identity => $email)->{people}{$email}{requests}
	} ($first, $second);
}

sub calls
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($email, $requests, $name, %options) = @_;
	my ($stdout, $stderr) = OceanTest::Query->start($node,
		($options{set} // '') . 'SELECT ' . enrich($email) . " ->> 'domain'",
		%options)->finish;
	is("$stdout$stderr", 'example.com', "$name: answered");
	return is(asked($email), $requests, "$name: by the right account");
}

calls('anna@example.com', '1|0', 'server');
calls('anna@example.com', '1|0', 'server, another role', user => 'ordinary');
calls('anna@example.com', '1|1', 'role', user => 'customer');
calls('berta@example.com', '0|1', 'database', database => 'other');
calls('carla@example.com', '0|1', 'session',
	set => "$use_second; SET ocean_enrich.api_token = 'token-of-the-second';");
calls('dora@example.com', '1|0', 'token in the query',
	set => q{SET ocean_enrich.token_in = 'query';});
fails(
	$node,
	'SELECT ' . enrich('emma@example.com'),
	qr/28000: no usable API token/,
	'role in a database: its file is the one that counts',
	user => 'ordinary',
	database => 'other');

# However the URL is spelled, it is the same account, with its answers and limits.

my $other_spelling = uc($first->url) . '//';
calls('anna@example.com', '1|1', 'another spelling, an answer at hand',
	set => "SET ocean_enrich.api_url = '$other_spelling';");
fails(
	$node,
	"SET ocean_enrich.api_url = '$other_spelling'; SET ocean_enrich.daily_limit = 2; SELECT "
	  . enrich('dorothy@example.com'),
	qr{OE429: daily limit of 2 requests},
	'another spelling, a limit that is reached');

# The other's token does no good.

fails($node, "$use_second; SELECT " . enrich('emma@example.com'),
	qr/OE403: Current API token is not registered/, "the second API, the first one's token");
is(asked('emma@example.com'), '0|1', 'that went to the second API');

# An ordinary role changes none of that, by no way.  Before the library is
# loaded the names are free for anybody; what was put there does not count.

my $frida = 0;
foreach my $setting (
	"api_url = '$second_url'",
	q{api_token = 'mine'},
	"api_token_file = '$second_file'",
	q{proxy = 'http://127.0.0.1:9'},
	q{ca_file = '/dev/null'})
{
	foreach my $load ('', 'SELECT ocean_person_request();')
	{
		my $when = $load ? 'after the library is loaded' : 'before that';
		my ($status, $stdout, $stderr) = $node->psql(
			'postgres',
			"$load SET ocean_enrich.$setting; SET ocean_enrich.reuse_for = 0; SELECT "
			  . enrich('frida@example.com') . " ->> 'domain'",
			on_error_stop => 0,
			extra_params => [ '--username', 'ordinary' ]);
		$frida++;
		is(asked('frida@example.com'), "$frida|0",
			"an ordinary role sets $setting, $when");
		like($stderr, qr/permission denied to set parameter/, 'and is told');
	}
}
fails(
	$node,
	"ALTER ROLE ordinary $use_second",
	qr/42501: permission denied to set parameter "ocean_enrich.api_url"/,
	'an ordinary role does not change its own future either',
	user => 'ordinary');

# Both at once, by one worker

$_->config(hold => JSON::PP::true) foreach ($first, $second);
my @queries = (
	OceanTest::Query->start($node, 'SELECT ' . enrich('gerda@example.com') . " ->> 'id'",
		user => 'ordinary'),
	OceanTest::Query->start($node, 'SELECT ' . enrich('gerda@example.com') . " ->> 'id'",
		user => 'customer'));
$_->wait(held => 1) foreach ($first, $second);
is( $node->safe_psql(
		'postgres', q{
		SELECT count(DISTINCT account) || '|' || count(*) FILTER (WHERE state = 'sent')
		FROM ocean_enrich.call WHERE request->'person'->>'email' = 'gerda@example.com'}),
	'2|2',
	'two accounts are asked for the same person at once');
is( $node->safe_psql(
		'postgres', q{
		SELECT count(*) FROM pg_stat_activity
		WHERE backend_type = 'ocean_enrich worker' AND datname = 'postgres'}),
	1,
	'by one worker');
$_->config(hold => JSON::PP::false) foreach ($first, $second);
is(($_->finish)[1], '', 'answered') foreach @queries;

# The books: what each account was charged

my $accounts = $node->safe_psql(
	'postgres', q{
	SELECT string_agg(sum, '|' ORDER BY first) FROM (
		SELECT sum(credits)::text, min(call_id) AS first
		FROM ocean_enrich.call GROUP BY account HAVING sum(credits) > 0) AS accounts});
my $other = $node->safe_psql('other', 'SELECT sum(credits) FROM ocean_enrich.call');
my ($charged_first, $charged_second) =
  map { $_->books->{charged} } ($first, $second);
is($accounts, $charged_first . '|' . ($charged_second - $other),
	'the ledger has for each account what that was charged');

done_testing();
