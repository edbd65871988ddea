# tls.pl
#	https: whose certificates are trusted, one handshake per connection, and
#	no redirect that carries the token to somebody else.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails books_agree);
use Test::More;

my $sandbox = OceanTest::Sandbox->new(tls => 1);
my $node = node($sandbox);
my $ca_file = $sandbox->ca_file;

# Calls with what stands in postgresql.conf changed by SETTINGS.
sub call_after
{
	my ($settings, $email) = @_;
	return "SET ocean_enrich.max_retries = 0; $settings SELECT " . enrich($email);
}

# Who is trusted

sub could_not_connect
{
	my ($problem, $hint) = @_;
	return qr/08001: could not connect to the API\nDETAIL:  Nothing was sent: $problem\.\nHINT:  $hint/;
}
my $untrusted = could_not_connect('the certificate of the server is not signed by a trusted authority',
	'Set "ocean_enrich\.ca_file" to a PEM file');
my $no_file = could_not_connect('no certificate could be read from the file of trusted ones',
	'Check that "ocean_enrich\.ca_file" is a PEM file that the server can read\.');
# A machine may have no certificates that it trusts.
my $not_trusted_by_system = qr/$untrusted|$no_file/;
my $other_host = could_not_connect('the certificate of the server is for another host',
	'Check the host in "ocean_enrich\.api_url" and "ocean_enrich\.proxy"');
fails(
	$node,
	call_after(q{SET ocean_enrich.ca_file = '';}, 'anna@example.com'),
	$not_trusted_by_system,
	"a certificate that nobody of the system's signed is refused");
fails(
	$node,
	call_after(q{SET ocean_enrich.ca_file = '/nonexistent';}, 'anna@example.com'),
	$no_file,
	'a file of certificates that is not there');
fails(
	$node,
	call_after(q{SET ocean_enrich.ca_file = '/dev/null';}, 'anna@example.com'),
	$no_file,
	'an empty file of certificates');
my $stranger = OceanTest::Sandbox->new(tls => 1);
fails(
	$node,
	call_after("SET ocean_enrich.ca_file = '" . $stranger->ca_file . "';", 'anna@example.com'),
	$untrusted,
	"somebody else's certificate");
my $localhost = $sandbox->url =~ s/127\.0\.0\.1/localhost/r;
is($sandbox->books->{requests}, 0, 'nothing was sent');
is( $node->safe_psql('postgres',
		q{SELECT string_agg(DISTINCT state || ' ' || coalesce(credits, 0), ',') FROM ocean_enrich.call}),
	'failed 0',
	'and the ledger knows that');

is( $node->safe_psql('postgres',
		call_after('', 'anna@example.com') . " ->> 'domain'"),
	'example.com',
	'the certificate in ca_file is trusted');
is( $node->safe_psql(
		'postgres',
		call_after("SET ocean_enrich.api_url = '$localhost';", 'anna@example.com')
		  . " ->> 'domain'"),
	'example.com',
	'under each name that it has');

# It is good for its names alone.

my $elsewhere = OceanTest::Sandbox->new(tls => 1, names => 'IP:127.0.0.1');
my $wrong_name = $elsewhere->url =~ s/127\.0\.0\.1/localhost/r;
my $trust = "SET ocean_enrich.ca_file = '" . $elsewhere->ca_file . "';";
fails(
	$node,
	call_after("$trust SET ocean_enrich.api_url = '$wrong_name';", 'berta@example.com'),
	$other_host,
	'a certificate for another name is refused');
is($elsewhere->books->{requests}, 0, 'nothing was sent there');
is( $node->safe_psql(
		'postgres',
		call_after(
			"$trust SET ocean_enrich.api_url = '" . $elsewhere->url . "';",
			'berta@example.com') . " ->> 'domain'"),
	'example.com',
	'the same server by the right name');

# Settings of one session do not become those of another by a kept connection.

fails(
	$node,
	call_after(q{SET ocean_enrich.ca_file = '';}, 'carla@example.com'),
	$not_trusted_by_system,
	'a connection that one session trusts is not trusted for another');

# Many calls, one handshake.  There may have been none at all, when the worker
# of the sessions before still had a connection.

my $before = $sandbox->books;
$node->safe_psql(
	'postgres', q{
	SET ocean_enrich.concurrency = 1;
	SELECT count(ocean_enrich_person(ocean_person_request(email => format('dora%s@example.com', i))))
	FROM generate_series(1, 100) AS i});
my $after = $sandbox->books;
is($after->{requests} - $before->{requests}, 100, '100 calls, one after the other');
cmp_ok($after->{connections} - $before->{connections},
	'<=', 1, 'went through one connection');

# Redirects: neither to another server nor to another place on this one.  There
# is no certificate here that could stop them.

my $plain = OceanTest::Sandbox->new;
my $other = OceanTest::Sandbox->new;
foreach my $place ('header', 'query')
{
	foreach my $to ($other->url . '/elsewhere', '/elsewhere')
	{
		my $settings = "SET ocean_enrich.token_in = '$place';"
		  . "SET ocean_enrich.api_url = '" . $plain->url . "';";

		$plain->config(redirect_to => $to);
		fails(
			$node,
			call_after($settings, 'sb-redirect.emma@example.com'),
			qr/OE502: the API answered with HTTP status 302/,
			"token in the $place: a redirect is an error");
	}
}
foreach my $server ($plain, $other)
{
	is($server->books->{strangers}, 0, 'it was not followed');
	is($server->books->{strangers_with_token}, 0, 'so nobody else got the token');
}
is($plain->books->{requests}, 4, 'each was one request');
is($other->books->{requests}, 0, 'and nobody else was asked');

done_testing();
