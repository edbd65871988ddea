# proxy.pl
#	The proxy is the one that is set, and no other: what stands in the server's
#	environment does not count.

use strict;
use warnings FATAL => 'all';

use IO::Select;
use IO::Socket::INET;
use OceanTest qw(node enrich fails);
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $requests_seen = PostgreSQL::Test::Utils::tempdir() . '/requests';
my ($proxy_pid, $proxy_port) = start_proxy();
END
{
	my $exit_code = $?;
	if ($proxy_pid)
	{
		kill 'TERM', $proxy_pid;
		waitpid($proxy_pid, 0);
	}
	$? = $exit_code;
}

# A proxy for one client at a time.  It notes the head of each request, opens a
# tunnel for CONNECT, and answers everything else by itself.
sub start_proxy
{
	my $listener = IO::Socket::INET->new(
		LocalAddr => '127.0.0.1', Listen => 10, Proto => 'tcp')
	  or die "could not listen: $!";
	my $test = $$;
	my $pid = fork() // die "could not fork: $!";
	return ($pid, $listener->sockport) if $pid;

	# The handler that comes with the test's server would end the test.
	$SIG{TERM} = 'DEFAULT';

	# Holding prove's pipe would make prove wait for us.
	open(STDOUT, '>', '/dev/null') or POSIX::_exit(1);
	open(STDERR, '>', '/dev/null') or POSIX::_exit(1);
	while (getppid() == $test)
	{
		next unless IO::Select->new($listener)->can_read(1);
		my $client = $listener->accept or next;
		serve_client($client);
		close($client);
	}
	POSIX::_exit(0);
}

sub serve_client
{
	my ($client) = @_;
	my $head = '';

	while ($head !~ /\r\n\r\n/)
	{
		sysread($client, $head, 1, length $head) or return;
	}
	append_to_file($requests_seen, $head);
	if ($head =~ /^CONNECT 127\.0\.0\.1:(\d+) / && $1 < 10)
	{
		syswrite($client, "HTTP/1.1 40$1 Not by me\r\nContent-Length: 0\r\n\r\n");
	}
	elsif ($head =~ /^CONNECT (\S+) /)
	{
		my $server = IO::Socket::INET->new(PeerAddr => $1, Proto => 'tcp') or return;
		syswrite($client, "HTTP/1.1 200 Connection established\r\n\r\n");
		tunnel($client, $server);
	}
	else
	{
		my $body = '{"detail": "this is only the proxy"}';
		syswrite($client, join "\r\n", 'HTTP/1.1 404 Not Found',
			'Connection: close', 'Content-Length: ' . length $body, '', $body);
	}
	return;
}

sub tunnel
{
	my ($client, $server) = @_;
	my $both = IO::Select->new($client, $server);

	while (1)
	{
		foreach my $from ($both->can_read)
		{
			my $to = $from == $client ? $server : $client;
			sysread($from, my $bytes, 65536) or return;
			syswrite($to, $bytes);
		}
	}
}

# What the proxy saw since the last time
sub seen
{
	my $seen = -e $requests_seen ? slurp_file($requests_seen) : '';
	unlink $requests_seen;
	return $seen;
}

# The environment of the server names the proxy in all the ways that libcurl knows.
my $proxy = "http://127.0.0.1:$proxy_port";
local @ENV{qw(http_proxy https_proxy HTTPS_PROXY all_proxy ALL_PROXY)} = ($proxy) x 5;
local $ENV{no_proxy} = 'nothing';
my $sandbox = OceanTest::Sandbox->new;
my $secure = OceanTest::Sandbox->new(tls => 1);
my $node = node($sandbox);
my $use_secure = "SET ocean_enrich.api_url = '" . $secure->url
  . "'; SET ocean_enrich.ca_file = '" . $secure->ca_file . "';";
my $use_proxy = "SET ocean_enrich.proxy = '$proxy';";

like(slurp_file('/proc/' . server_pid() . '/environ'),
	qr/https_proxy=\Q$proxy\E/, 'the server has a proxy in its environment');
foreach my $settings ('', $use_secure)
{
	my $name = $settings ? 'https' : 'http';
	is( $node->safe_psql(
			'postgres',
			"$settings SELECT " . enrich('anna@example.com') . " ->> 'domain'"),
		'example.com',
		"$name: a call without a proxy setting succeeds");
}
is(seen(), '', 'the proxy of the environment saw nothing of it');

# https: the proxy sees where to, and neither token nor person.

is( $node->safe_psql(
		'postgres',
		"$use_secure $use_proxy SELECT " . enrich('berta@example.com') . " ->> 'domain'"),
	'example.com',
	'https: a call through the proxy succeeds');
my $seen = seen();
like($seen, qr/^CONNECT 127\.0\.0\.1:@{[ $secure->port ]} HTTP/, 'it went through the proxy');
unlike($seen, qr/\Q@{[ $secure->token ]}\E|berta/, 'which saw neither token nor person');
$node->safe_psql('postgres', "$use_secure SELECT " . enrich('carla@example.com'));
is(seen(), '', 'https: the next session goes without it');

# http: the proxy is asked instead of the API.

fails(
	$node,
	"$use_proxy SELECT " . enrich('berta@example.com'),
	qr/OE404: this is only the proxy/,
	'http: the proxy is asked');
like(seen(), qr!^POST \Q@{[ $sandbox->url ]}\E/v2/enrich/person HTTP!, 'for the whole URL');

# NO_PROXY of the environment is as little to us.

fails(
	$node,
	"SET ocean_enrich.max_retries = 0; SET ocean_enrich.proxy = 'http://127.0.0.1:9'; SELECT "
	  . enrich('dora@example.com'),
	qr/08001: could not connect to the API\nDETAIL:  Nothing was sent: could not connect to the proxy\./,
	'a proxy that is not there: nothing is sent');
is($sandbox->books(identity => 'dora@example.com')->{people}{'dora@example.com'}{requests},
	0, 'nor by another way');

# What the proxy answers to CONNECT is not taken for the API's.

foreach my $status (403, 407)
{
	my $port = $status - 400;
	fails(
		$node,
		"$use_secure $use_proxy SET ocean_enrich.max_retries = 0;"
		  . "SET ocean_enrich.api_url = 'https://127.0.0.1:$port'; SELECT " . enrich('emma@example.com'),
		qr/08001: .*\nDETAIL:  Nothing was sent: the proxy answered with HTTP status $status\.\nHINT:  Check "ocean_enrich\.proxy"/,
		"the proxy's answer $status");
}

sub server_pid
{
	return (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
}

done_testing();
