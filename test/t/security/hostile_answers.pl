# hostile_answers.pl
#	An API that is none: bodies and headers without end, compression that nobody
#	asked for, numbers that cannot be, redirects, its own secrets sent back.  The
#	worker needs no more memory for it, and serves the others.  Each is given to a
#	call and to who asks for the balance.

use strict;
use warnings FATAL => 'all';

use AnswerTest qw(answer_with);
use Compress::Zlib;
use OceanTest qw(node enrich worker_pid wait_for_ledger);
use PostgreSQL::Test::Utils;
use Test::More;

my $token = 'Zx81-token-that-comes-back';

# What each path is answered with: what that is to a call, then a list of pieces
# that is sent, and one to repeat until the client is gone.
my $ok = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
my $person = '{"id": "p1", "domain": "example.com"}';
my $block = 'x' x 65536;
my $line = 'X-Padding: ' . ('x' x 1000) . "\r\n";

# Said of a call, and of the balance; what the ledger has of the call: its state,
# its credits, and whether there is a person.
my %meanings = (
	garbled => [
		qr/^OE502: the API answered with HTTP status 200 but no usable person$/,
		qr/^OE502: the API answered with HTTP status 200 but no usable balance$/,
		qr/^unknown\|\|f$/ ],
	not_stored => [
		qr/^OE502: the person cannot be stored as jsonb in this database$/,
		qr/^OE502: the balance cannot be stored as jsonb in this database$/,
		qr/^answered\|3\|f$/ ],
	lost => [
		qr/^OE504: the connection to the API was lost after the request was sent$/,
		qr/^08001: could not get the balance from the API$/,
		qr/^unknown\|\|f$/ ],
	late => [
		qr/^OE504: the API did not answer in time$/,
		qr/^08001: could not get the balance from the API$/,
		qr/^unknown\|\|f$/ ],
	taken => [ qr/^a person$/, qr/^a balance$/, qr/^answered\|3\|t$/ ],
);

# Libraries differ in which of two lengths they believe.  What can be read to its
# end was paid for; of anything else nobody knows.  And a fast machine comes to the
# end of what we send before the time is over.
foreach my $meaning ('taken', 'garbled', 'late')
{
	$meanings{"${meaning}_or_lost"} =
	  [ map { qr/$meanings{$meaning}[$_]|$meanings{lost}[$_]/ } 0 .. 2 ];
}

# Of a status with too many digits a newer library reads three.
my $read = qr/^OE502: the API answered with HTTP status 999$/;
$meanings{read_or_lost} = [ map { $_ < 2 ? qr/$read|$meanings{lost}[$_]/ : $meanings{lost}[$_] } 0 .. 2 ];

# A status is believed, whatever comes with it.
sub refused
{
	my ($error, $state) = @_;
	return [ qr/^$error$/, qr/^$error$/, qr/^$state\|0?\|f$/ ];
}

my %answers = (
	big_body => [ 'garbled', "$ok\r\n{\"id\": \"p1\", \"padding\": \"", $block ],
	big_chunks => [ 'garbled',
		"$ok" . "Transfer-Encoding: chunked\r\n\r\n11\r\n{\"id\": \"p1\", \"p\":\r\n2\r\n \"\r\n",
		"10000\r\n$block\r\n" ],
	big_error => [ refused('OE422: the API answered with HTTP status 422', 'refused'),
		"HTTP/1.1 422 No\r\n\r\n{\"detail\": \"", $block ],
	headers => [ 'lost', $ok, $line ],
	one_header => [ 'lost', "${ok}X-Padding: ", $block ],
	interim => [ 'lost', '', "HTTP/1.1 100 Continue\r\n\r\n" ],
	interim_headers => [ 'lost', '', "HTTP/1.1 103 Early Hints\r\n$line\r\n" ],
	trailers => [ 'lost',
		$ok . "Transfer-Encoding: chunked\r\n\r\n" . sprintf("%x\r\n%s\r\n0\r\n", length $person, $person), $line ],
	extension => [ 'late_or_lost', $ok . "Transfer-Encoding: chunked\r\n\r\n1;", $block ],
	status_line => [ 'lost', 'HTTP/1.1 200 ', $block ],
	long_length => [ 'taken', $ok . "Content-Length: 99999999999999999999999\r\n\r\n$person" ],
	negative_length => [ 'lost', $ok . "Content-Length: -1\r\n\r\n$person" ],
	two_lengths => [ 'taken_or_lost', $ok . "Content-Length: 5\r\nContent-Length: 37\r\n\r\n$person" ],
	two_lengths_short => [ 'garbled_or_lost', $ok . "Content-Length: 37\r\nContent-Length: 5\r\n\r\n$person" ],
	strange_status => [ 'read_or_lost', "HTTP/1.1 99999 What\r\n\r\n" ],
	no_http => [ 'lost', "220 smtp.example.com ESMTP\r\n" ],
	retry_after => [ refused('OE429: the API answered with HTTP status 429', 'failed'),
		"HTTP/1.1 429 Later\r\nRetry-After: 99999999999999999999\r\nContent-Length: 0\r\n\r\n" ],
	deep => [ 'not_stored',
		$ok . "Connection: close\r\n\r\n{\"id\": \"p1\", \"nested\": " . ('[' x 400_000) . (']' x 400_000) . '}' ],
	deep_detail => [ refused('OE422: \[{16}\]{16}', 'refused'),
		"HTTP/1.1 422 No\r\nConnection: close\r\n\r\n{\"detail\": " . ('[' x 400_000) . (']' x 400_000) . '}' ],
	redirect => [ refused('OE502: the API answered with HTTP status 302', 'failed'),
		"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n" ],
	redirect_307 => [ refused('OE502: the API answered with HTTP status 307', 'failed'),
		"HTTP/1.1 307 Go\r\nLocation: /elsewhere/v2/enrich/person\r\nContent-Length: 0\r\n\r\n" ],
);
# A person with 64 MB of padding, which only who unpacks it gets to see.
my ($head, $padding, $tail) = (substr($person, 0, -1) . ', "padding": "', 512 * 131_072, '"}');
my $bomb = $head . ('x' x $padding) . $tail;

# Zstandard's own frame: a block as it is, 512 that repeat a byte, and the last one.
sub zstd_block
{
	my ($kind, $size, $content, $last) = @_;
	return substr(pack('V', $size << 3 | $kind << 1 | ($last ? 1 : 0)), 0, 3) . $content;
}
my %bombs = (
	gzip => Compress::Zlib::memGzip($bomb),
	deflate => Compress::Zlib::compress($bomb),
	zstd => "\x28\xb5\x2f\xfd\x00\x58" . zstd_block(0, length $head, $head)
	  . zstd_block(1, 131_072, 'x') x 512 . zstd_block(0, length $tail, $tail, 1),
	# As "brotli -9 -w 24" packs it.
	br => pack('H*', 'cfffff7f0084483dd2cf71a55ae3ca6cb864e09003f67f1106660979e09083fb296dcb1adf5913b7556490b2fd3654c516'
		  . 'fcf0fedfc493ffffff004800c46101e8defff3ffff1f000980382c00ddfb7ffeffff032001108705a07bff1f330000a444faca084902c005'),
);
undef $bomb;
foreach my $encoding (keys %bombs)
{
	my $packed = $bombs{$encoding};
	cmp_ok(length($packed), '<', 100_000, "$encoding: a bomb is small");
	$answers{$encoding} = [ 'garbled',
		$ok . "Content-Encoding: $encoding\r\nContent-Length: " . length($packed) . "\r\n\r\n$packed" ];
}

my $stars = '\*{' . length($token) . '}';
foreach my $status (400, 403, 500)
{
	my $body = qq({"detail": "you are x-api-token: $token"});
	$answers{"echo_$status"} = [
		refused("OE$status: you are x-api-token: $stars", $status == 500 ? 'unknown' : 'refused'),
		"HTTP/1.1 $status No\r\nContent-Length: " . length($body) . "\r\n\r\n$body" ];
}
my $html = "<html>x-api-token: $token</html>";
$answers{echo_html} = [ 'garbled', "HTTP/1.1 200 OK\r\nContent-Length: " . length($html) . "\r\n\r\n$html" ];
$answers{echo_reason} = [ refused('OE400: the API answered with HTTP status 418', 'refused'),
	"HTTP/1.1 418 $token\r\nX-Echo: $token\r\nContent-Length: 0\r\n\r\n" ];

# Writes down the paths that were asked for.
my $asked = PostgreSQL::Test::Utils::tempdir() . '/asked';

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
	my (undef, $first, $repeated) = @{ $answers{$path} // [ undef, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n" ] };
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

my $port = answer_with(\&answer);
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

# What a statement says of this path: "CODE: message", or what it gives.  All that
# was said is added to a list.
sub said
{
	my ($path, $sql, $all) = @_;
	my ($stdout, $stderr) = OceanTest::Query->start($node, qq{
		SET ocean_enrich.api_url = 'http://127.0.0.1:$port/$path'; $sql})->finish;
	push @$all, $stderr;
	return $stderr =~ /^ERROR:  (.*)$/m ? $1 : $stdout;
}

sub ledger
{
	my ($path) = @_;
	return $node->safe_psql('postgres', qq{
		SELECT state, credits, answer IS NOT NULL FROM ocean_enrich.call
		WHERE request #>> '{person,email}' = '$path\@example.com'});
}

# The worker leaves when it is alone.
my $resident = $node->background_psql('postgres');
$node->safe_psql('postgres', 'SELECT ' . enrich('first@example.com'));
my $worker = worker_pid($node);
my $before = megabytes('VmRSS');
my (@of_calls, @of_balances);
my $calls = 1;
foreach my $path (sort keys %answers)
{
	my $meaning = $answers{$path}[0];
	my ($call, $balance, $row) = @{ ref $meaning ? $meaning : $meanings{$meaning} };
	like(said($path, "SELECT left('a person', (" . enrich("$path\@example.com") . " IS NOT NULL)::int * 8)", \@of_calls),
		$call, "$path: a call");
	wait_for_ledger($node);
	like(ledger($path), $row, "$path: the ledger");
	like(said($path, q{SELECT left('a balance', (ocean_enrich.balance() IS NOT NULL)::int * 9)}, \@of_balances),
		$balance, "$path: the balance");
	note("$path: at most " . megabytes('VmHWM') . ' MB');
	is($node->safe_psql('postgres', 'SELECT ' . enrich("after.$path\@example.com") . " ->> 'domain'"),
		'example.com', "$path: the others are served");
	$calls += 2;
	is($node->safe_psql('postgres', 'SELECT count(*) FROM ocean_enrich.call'), $calls,
		"$path: no balance is in the ledger");
}
is(worker_pid($node), $worker, 'all of it by one worker');
SKIP:
{
	skip 'what watches the memory needs most of it', 1 if $ENV{OCEAN_REPORTS};
	cmp_ok(megabytes('VmHWM') - $before, '<', 64, 'which needed little memory for it');
}
is(slurp_file($asked), join('', map { "$_\n$_\n" } sort keys %answers),
	'each is asked for once by the call and once for the balance, and nothing else is: no redirect is followed');
wait_for_ledger($node);
is( $node->safe_psql('postgres', q{SELECT count(*) FROM ocean_enrich.call WHERE length(raw) > 1024 * 1024 + 1024}),
	0, 'nor does the ledger keep more than an answer may have');

# What knows the token need not be as careful as we are.

unlike(join("\n", @of_calls, @of_balances), qr/\Q$token\E/, 'a token that comes back is in no message');
my $ledger = $node->safe_psql('postgres',
	q{SELECT detail, encode(raw, 'escape'), answer FROM ocean_enrich.call});
like($ledger, qr/you are x-api-token: \*+/, 'the ledger has what was said');
unlike($ledger, qr/\Q$token\E/, 'but not the token');
unlike(join("\n", @of_balances), qr/may have been paid|resolve/, 'nor does a balance that costs nothing speak of money');
unlike(slurp_file($node->logfile), qr/\Q$token\E/, 'nor has the log');
$resident->quit;

done_testing();
