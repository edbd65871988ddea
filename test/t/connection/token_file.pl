# token_file.pl
#	The token in a file: what a usable file is, that a replaced one counts at
#	once, and that the token stands nowhere where somebody could read it.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails wait_for_ledger);
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $token = 'Zx81-the-good-token';
my $sandbox = OceanTest::Sandbox->new(token => $token);
my $folder = PostgreSQL::Test::Utils::tempdir();
my $file = "$folder/token";
my $node = node(
	$sandbox, extra_conf => <<"END");
ocean_enrich.api_token = ''
ocean_enrich.api_token_file = '$file'
ocean_enrich.max_retries = 1
ocean_enrich.retry_wait_max = '10ms'
log_statement = 'all'
log_min_messages = 'debug5'
log_min_error_statement = 'debug5'
log_error_verbosity = 'verbose'
END

sub write_token
{
	my ($content, $mode) = @_;
	unlink $file;
	open(my $handle, '>', $file) or die "could not create $file: $!";
	print $handle $content;
	close($handle) or die "could not write $file: $!";
	chmod($mode // 0600, $file) or die "could not chmod $file: $!";
	return;
}

sub refuses_file
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($detail, $name) = @_;
	return fails(
		$node,
		'SELECT ' . enrich('anna@example.com'),
		qr/ERROR:  28000: no usable API token\nDETAIL:  $detail/,
		"refused: $name");
}

# What is no usable file

refuses_file(qr/The token file could not be opened\./, 'no file');

write_token($token, 0000);
refuses_file(qr/The token file could not be opened\./, 'a file we may not read');
write_token("$token\n", 0640);
refuses_file(qr/The token file has group or world access\./, 'a file of the group');
write_token("$token\n", 0604);
refuses_file(qr/The token file has group or world access\./, 'a file of everybody');

write_token('');
refuses_file(qr/The token file is empty\./, 'an empty file');
write_token(" \n\t\r\n");
refuses_file(qr/The token file is empty\./, 'blank lines');
write_token("$token\nother\n");
refuses_file(qr/The token file contains more than a single line/, 'two lines');
write_token("$token other");
refuses_file(qr/The token file contains more than a single line/, 'two words');
write_token("$token other token");
refuses_file(qr/The token file contains more than a single line/, 'three words');
write_token("$token\0other");
refuses_file(qr/The token file contains more than a single line/, 'a NUL byte');

# What a text editor, a shell or a copied header leaves in a file

write_token("\xEF\xBB\xBF$token\n");
refuses_file(qr/The token file begins with a byte order mark\.\nHINT:  Save the file .* as ASCII/,
	'a byte order mark');
write_token(join '', "\xFF\xFE", map { "$_\0" } split //, "$token\r\n");
refuses_file(qr/The token file begins with a byte order mark\./, 'UTF-16');
write_token(join '', "\xFE\xFF", map { "\0$_" } split //, $token);
refuses_file(qr/The token file begins with a byte order mark\./, 'UTF-16, the other way round');
foreach my $prefix ('Bearer ', 'bearer  ', 'x-api-token: ', 'X-API-Token:', 'Authorization: Bearer ', 'apiToken=', 'OCEAN_TOKEN=')
{
	write_token("$prefix$token\n");
	refuses_file(qr/The token has a "Bearer", or the name of a header or parameter, in front of it\.\nHINT:  Write only the token/,
		"'$prefix'");
}
foreach my $quoted (qq{"$token"}, "'$token'", "`$token`")
{
	write_token("$quoted\n");
	refuses_file(qr/The token is in quotes\.\nHINT:  Write only the token/, "$quoted");
}
write_token('x' x 4097);
refuses_file(qr/The token file is too long\./, 'a long line');
write_token('x' x 100_000);
refuses_file(qr/The token file is too long\./, 'a very long line');

unlink $file;
mkdir $file, 0700 or die "could not create $file: $!";
refuses_file(qr/The token file is not a regular file\./, 'a directory');
rmdir $file or die "could not remove $file: $!";
POSIX::mkfifo($file, 0600) or die "could not create $file: $!";
refuses_file(qr/The token file is not a regular file\./, 'a FIFO without a writer');
unlink $file;
symlink '/dev/null', $file or die "could not create $file: $!";
refuses_file(qr/The token file is not a regular file\./, 'a device');

is($sandbox->books->{requests}, 0, 'nothing was sent without a token');
is($node->safe_psql('postgres', 'SELECT count(*) FROM ocean_enrich.call'),
	0, 'and nothing was recorded');

# What is one

sub accepts_file
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name) = @_;
	my $requests = $sandbox->books->{requests};

	$node->safe_psql('postgres',
		'SET ocean_enrich.reuse_for = 0; SELECT ' . enrich('anna@example.com'));
	return is($sandbox->books->{charges}, $requests + 1, "accepted: $name");
}

write_token($token);
accepts_file('just the token');
write_token("$token\n", 0400);
accepts_file('a line that only we can read');
write_token(" \t$token \r\n\n");
accepts_file('white space and empty lines round it');
rename $file, "$folder/elsewhere" or die "could not rename $file: $!";
symlink "$folder/elsewhere", $file or die "could not create $file: $!";
accepts_file('a symbolic link to a good file');

# Nor is it refused for what it merely looks like; the sandbox does not know it.

foreach my $other ('Bearer', 'x-api-token', 'my-token==', 'mytoken', qq{a"b"}, '"')
{
	write_token("$other\n");
	fails($node, 'SELECT ' . enrich('berta@example.com'), qr/OE403: /, "sent: $other");
}

# A replaced token counts with the next call, without a reload.

write_token("another-token\n");
fails(
	$node,
	'SELECT ' . enrich('berta@example.com'),
	qr/OE403: Current API token is not registered in our database/,
	'a replaced token is used at once');
write_token('x' x 4096);
fails(
	$node,
	'SELECT ' . enrich('berta@example.com'),
	qr/OE403: /, 'the longest token is sent');
write_token($token);
is( $node->safe_psql('postgres',
		'SELECT ' . enrich('berta@example.com') . " ->> 'domain'"),
	'example.com',
	'so is the one after it');

# The token itself goes before the file.

fails(
	$node,
	q{SET ocean_enrich.api_token = 'mistyped'; SELECT } . enrich('carla@example.com'),
	qr/OE403: /,
	'a token that is set goes before the file');

# Nobody gets to read the token: not while it is in use, not by an error, not
# in the log of a server that logs all it can, not in a dump.

my $calls = join ' UNION ALL ', map {
	"SELECT ocean_try_enrich_person(ocean_person_request(email => '$_\@example.com'))::text"
} qw(dora sb-unknown sb-status-401 sb-status-503 sb-status-500 sb-cut-lost
  sb-cut-before sb-422 sb-badjson sb-nul sb-redirect);
foreach my $place ('header', 'query')
{
	$node->safe_psql('postgres', 'TRUNCATE ocean_enrich.call');
	my $results = $node->safe_psql('postgres',
		"SET ocean_enrich.token_in = $place; $calls");
	unlike($results, qr/\Q$token\E/, "$place: no result has the token");
	$results = $node->safe_psql(
		'postgres', qq{
		SET ocean_enrich.token_in = $place;
		SET ocean_enrich.api_url = 'http://127.0.0.1:9';
		SELECT ocean_try_enrich_person(ocean_person_request(email => 'emma\@example.com'))});
	like($results, qr/08001/, "$place: nobody listens there");
	unlike($results, qr/\Q$token\E/, "$place: that error has no token either");

	$sandbox->config(hold => JSON::PP::true);
	my $query = OceanTest::Query->start($node,
		"SET ocean_enrich.token_in = $place; SELECT " . enrich("$place\@example.com"));
	$sandbox->wait(held => 1);
	my $activity = $node->safe_psql('postgres', 'SELECT * FROM pg_stat_activity');
	like($activity, qr/$place\@example\.com/, "$place: the call is seen while it waits");
	unlike($activity, qr/\Q$token\E/, "$place: its token is not");
	$sandbox->config(hold => JSON::PP::false);
	$query->finish;
}
wait_for_ledger($node);
my ($dump, $errors) = run_command(
	[ 'pg_dumpall', '--no-sync', '--dbname', $node->connstr('postgres') ]);
like($dump, qr/dora\@example\.com/, 'a dump has the ledger');
unlike($dump, qr/\Q$token\E/, 'it does not have the token');

$node->stop;
my $log = slurp_file($node->logfile);
like($log, qr/DEBUG:/, 'the log is as long as can be');
like($log, qr/dora\@example\.com/, 'it has the statements');
unlike($log, qr/\Q$token\E/, 'it does not have the token');

done_testing();
