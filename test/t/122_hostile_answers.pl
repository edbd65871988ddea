# 122_hostile_answers.pl
#	An API that is none: bodies and headers without end, compression that nobody
#	asked for, numbers that cannot be, redirects, its own secrets sent back.  The
#	worker needs no more memory for it, and serves the others.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::Bin;

use IO::Socket::INET;
use OceanTest qw(node enrich fails worker_pid wait_for_ledger);
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $token = 'Zx81-token-that-comes-back';

# What each path is answered with: a list of pieces, and one to repeat until the
# client is gone.
my $ok = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
my $person = '{"id": "p1", "domain": "example.com"}';
my $block = 'x' x 65536;
my %answers = (
	big_body => [ "$ok\r\n{\"id\": \"p1\", \"padding\": \"", $block ],
	big_chunks => [
		"$ok" . "Transfer-Encoding: chunked\r\n\r\n11\r\n{\"id\": \"p1\", \"p\":\r\n2\r\n \"\r\n",
		"10000\r\n$block\r\n" ],
	big_error => [ "HTTP/1.1 422 No\r\n\r\n{\"detail\": \"", $block ],
	headers => [ $ok, "X-Padding: " . ('x' x 1000) . "\r\n" ],
	one_header => [ "${ok}X-Padding: ", $block ],
	interim => [ '', "HTTP/1.1 100 Continue\r\n\r\n" ],
	interim_headers => [ '', "HTTP/1.1 103 Early Hints\r\nLink: <" . ('x' x 1000) . ">\r\n\r\n" ],
	trailers => [
		$ok . "Transfer-Encoding: chunked\r\n\r\n" . sprintf("%x\r\n%s\r\n0\r\n", length $person, $person),
		"X-Padding: " . ('x' x 1000) . "\r\n" ],
	extension => [ $ok . "Transfer-Encoding: chunked\r\n\r\n1;", $block ],
	status_line => [ 'HTTP/1.1 200 ', $block ],
	long_length => [ $ok . "Content-Length: 99999999999999999999999\r\n\r\n$person" ],
	negative_length => [ $ok . "Content-Length: -1\r\n\r\n$person" ],
	two_lengths => [ $ok . "Content-Length: 5\r\nContent-Length: 37\r\n\r\n$person" ],
	strange_status => [ "HTTP/1.1 99999 What\r\n\r\n" ],
	no_http => [ "220 smtp.example.com ESMTP\r\n" ],
	retry_after => [ "HTTP/1.1 429 Later\r\nRetry-After: 99999999999999999999\r\nContent-Length: 0\r\n\r\n" ],
	deep => [ $ok . "Connection: close\r\n\r\n{\"id\": \"p1\", \"nested\": " . ('[' x 400_000) . (']' x 400_000) . '}' ],
	deep_detail => [ "HTTP/1.1 422 No\r\nConnection: close\r\n\r\n{\"detail\": " . ('[' x 400_000) . (']' x 400_000) . '}' ],
	redirect => [ "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n" ],
	redirect_307 => [ "HTTP/1.1 307 Go\r\nLocation: /elsewhere/v2/enrich/person\r\nContent-Length: 0\r\n\r\n" ],
);

# 64 MB of zeros in 64 kB
my $bomb = PostgreSQL::Test::Utils::tempdir() . '/bomb';
system_or_bail('sh', '-c', "head -c 67108864 /dev/zero | gzip -9 > $bomb");
my $zeros = slurp_file($bomb);
foreach my $encoding ('gzip', 'deflate', 'br')
{
	$answers{$encoding} = [ $ok . "Content-Encoding: $encoding\r\nContent-Length: " . length($zeros) . "\r\n\r\n$zeros" ];
}
foreach my $status (400, 403, 500)
{
	my $body = qq({"detail": "you are x-api-token: $token"});
	$answers{"echo_$status"} = [ "HTTP/1.1 $status No\r\nContent-Length: " . length($body) . "\r\n\r\n$body" ];
}
my $html = "<html>x-api-token: $token</html>";
$answers{echo_html} = [ "HTTP/1.1 200 OK\r\nContent-Length: " . length($html) . "\r\n\r\n$html" ];
$answers{echo_reason} = [ "HTTP/1.1 418 $token\r\nX-Echo: $token\r\nContent-Length: 0\r\n\r\n" ];

# Writes down the paths that were asked for.
my $asked = PostgreSQL::Test::Utils::tempdir() . '/asked';
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 50) or die "could not listen: $!";
my $port = $listener->sockport;

sub answer
{
	my ($client) = @_;
	my $request = '';
	while ($request !~ /\r\n\r\n/)
	{
		sysread($client, $request, 65536, length $request) or return;
	}
	my ($path) = $request =~ m{^\w+ /(\w+)/};
	open(my $file, '>>', $asked) or die "could not open $asked: $!";
	print $file "$path\n";
	close $file;
	my ($first, $repeated) = @{ $answers{$path} // ["HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"] };
	my $rest = $first;
	my $sent = 0;
	while (1)
	{
		while (length $rest)
		{
			my $count = syswrite($client, $rest) or return;
			$sent += $count;
			substr($rest, 0, $count, '');
		}
		last if !defined $repeated || $sent > 1024 * 1024 * 1024;
		$rest = $repeated;
	}
	return;
}

my $server = fork() // die "could not fork: $!";
if ($server == 0)
{
	local $SIG{PIPE} = 'IGNORE';
	local $SIG{CHLD} = 'IGNORE';
	local $SIG{TERM} = sub { POSIX::_exit(0) };
	open(STDOUT, '>', '/dev/null');
	while (1)
	{
		POSIX::_exit(0) if getppid() == 1;
		my $client = $listener->accept or next;
		my $child = fork();
		if (defined $child && $child == 0)
		{
			close $listener;
			answer($client);
			POSIX::_exit(0);
		}
		close $client;
	}
}
close $listener;
END
{
	my $exit_code = $?;
	if ($server) { kill 'TERM', $server; waitpid($server, 0); }
	$? = $exit_code;
}

my $sandbox = OceanTest::Sandbox->new(token => $token);
my $node = node($sandbox, extra_conf => <<'END');
ocean_enrich.request_timeout = '3s'
ocean_enrich.max_retries = 0
log_min_messages = 'debug1'
END

sub megabytes
{
	my ($what) = @_;
	my ($kb) = slurp_file('/proc/' . worker_pid($node) . '/status') =~ /^$what:\s+(\d+) kB/m;
	return int($kb / 1024);
}

# code|whether there is a person
sub result
{
	my ($path) = @_;
	return $node->safe_psql('postgres', qq{
		SET ocean_enrich.api_url = 'http://127.0.0.1:$port/$path';
		SELECT coalesce(error_code, 'none'), coalesce(error_message, ''), person IS NOT NULL
		FROM ocean_try_enrich_person(ocean_person_request(email => '$path\@example.com'))});
}

# The worker leaves when it is alone.
my $resident = $node->background_psql('postgres');
$node->safe_psql('postgres', 'SELECT ' . enrich('first@example.com'));
my $worker = worker_pid($node);
my $before = megabytes('VmRSS');
my @results;
foreach my $path (sort keys %answers)
{
	my $result = result($path);
	push @results, $result;
	note("$path: " . substr($result, 0, 200) . ', at most ' . megabytes('VmHWM') . ' MB');
	# A person that can be read to its end was paid for, whatever its length is said to be.
	like($result, qr/^(?:OE\d\d\d|08\d\d\d|57\w\d\d|54\d\d\d)\|/, "$path: is an error")
	  unless $path =~ /^(?:two_lengths|negative_length|long_length)$/;
	is($node->safe_psql('postgres', 'SELECT ' . enrich("after.$path\@example.com") . " ->> 'domain'"),
		'example.com', "$path: the others are served");
}
is(worker_pid($node), $worker, 'all of it by one worker');
SKIP:
{
	skip 'what watches the memory needs most of it', 1 if $ENV{OCEAN_REPORTS};
	cmp_ok(megabytes('VmHWM') - $before, '<', 64, 'which needed little memory for it');
}
unlike(slurp_file($asked), qr/^elsewhere$/m, 'no redirect is followed');
wait_for_ledger($node);
is( $node->safe_psql('postgres', q{SELECT count(*) FROM ocean_enrich.call WHERE length(raw) > 1024 * 1024 + 1024}),
	0, 'nor does the ledger keep more than an answer may have');

# What knows the token need not be as careful as we are.

unlike(join("\n", @results), qr/\Q$token\E/, 'a token that comes back is in no message');
my $ledger = $node->safe_psql('postgres',
	q{SELECT detail, encode(raw, 'escape'), person FROM ocean_enrich.call});
like($ledger, qr/you are x-api-token: \*+/, 'the ledger has what was said');
unlike($ledger, qr/\Q$token\E/, 'but not the token');
fails($node, "SET ocean_enrich.api_url = 'http://127.0.0.1:$port/echo_403'; SELECT ocean_enrich.balance()",
	qr/OE403: you are x-api-token: \*+/, 'nor has what is said of the balance');
unlike(slurp_file($node->logfile), qr/\Q$token\E/, 'nor has the log');
$resident->quit;

done_testing();
