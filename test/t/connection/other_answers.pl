# other_answers.pl
#	What is not said as the API says it: the page of a firewall, words in other
#	places, a list of complaints, headers without end.  The message shows the cause,
#	in a call as in the ledger, and never the token.

use strict;
use warnings FATAL => 'all';

use AnswerTest qw(answer_with);
use OceanTest qw(node enrich fails);
use SyncTest qw(owner create settled);
use Test::More;

my $token = 'Zx81/token+that=comes-back';
my $in_url = $token =~ s!([/+=])!sprintf '%%%02X', ord $1!ger;
my $page = "<!DOCTYPE html><html><head><title>Attention Required!</title><style>p { margin: 0 }</style></head>\n"
  . "<body><h1>Sorry, you have been blocked</h1><p>No $token, no ?apiToken=$in_url here.</p></body></html>";
my $list = '{"detail": [{"loc": ["body", "person", "email"], "msg": "value is not a valid email address", '
  . '"type": "value_error", "input": "secret of the person"}]}';
my %answers = (
	page => [ 403, $page ],
	text => [ 403, 'error code: 1020' ],
	nested => [ 400, '{"error": {"message": "Quota of the gateway", "code": 7}}' ],
	plain => [ 400, '{"message": "Bad things"}' ],
	list => [ 422, $list ],
	header => [ "200 OK\r\nX-Padding: " . ('x' x 200_000), '{"id": "1"}' ],
);

# The answer is named by the e-mail address.
my $port = answer_with(
	sub {
		my ($client) = @_;
		my ($request, $name) = ('');
		while (!defined $name)
		{
			sysread($client, $request, 65536, length $request) or return;
			($name) = $request =~ /"email": *"(\w+)\@/;
		}
		my ($status, $body) = @{ $answers{$name} };
		syswrite($client, "HTTP/1.1 $status\r\nConnection: close\r\nContent-Length: " . length($body) . "\r\n\r\n$body");
		return;
	});
my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, extra_conf => <<"END");
ocean_enrich.api_url = 'http://127.0.0.1:$port'
ocean_enrich.api_token = '$token'
ocean_enrich.max_retries = 0
ocean_enrich.gathering_retries = 0
END

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub detail_of_last
{
	return sql('SELECT detail FROM ocean_enrich.call ORDER BY call_id DESC LIMIT 1');
}

fails($node, 'SELECT ' . enrich('page@example.com'),
	qr{OE403: the answer with HTTP status 403 is not the API's
DETAIL:  HTTP status 403\.  Nothing was paid\.  It begins: Attention Required! Sorry, you have been blocked No \*+, no \?apiToken=\*+ here\.
HINT:  Something between this server and the API answered\.},
	'a page');
my $detail = detail_of_last();
like($detail, qr/^the answer with HTTP status 403 is not the API's: Attention Required! Sorry/, 'a page: in the ledger');
unlike($detail, qr/\Q$token\E|\Q$in_url\E/, 'a page: without the token');

fails($node, 'SELECT ' . enrich('text@example.com'),
	qr/OE403: the answer with HTTP status 403 is not the API's\nDETAIL: .* It begins: error code: 1020\n/, 'a text');
fails($node, 'SELECT ' . enrich('nested@example.com'), qr/OE400: Quota of the gateway\n/, 'words inside "error"');
fails($node, 'SELECT ' . enrich('plain@example.com'), qr/OE400: Bad things\n/, 'words in "message"');
fails($node, 'SELECT ' . enrich('header@example.com'),
	qr/OE504: .*\nDETAIL:  The request may have been paid for: the headers of the answer are too long\./, 'a long header');

# A list of complaints

my $readable = 'person.email: value is not a valid email address';
fails($node, 'SELECT ' . enrich('list@example.com'),
	qr/OE422: \Q$readable\E\nDETAIL:  HTTP status 422\.  Nothing was paid\.  The API said: \[/, 'a list');
is(detail_of_last(), $readable, 'a list: in the ledger it reads the same');
is(sql(q{SELECT convert_from(raw, 'UTF8')::jsonb #>> '{detail,0,type}' FROM ocean_enrich.call ORDER BY call_id DESC LIMIT 1}),
	'value_error', 'a list: which has the whole of it, too');

owner($node, 'anna');
sql(q{
	SET ROLE anna;
	CREATE TABLE contacts (id integer PRIMARY KEY, email text, enriched jsonb);
	INSERT INTO contacts VALUES (1, 'list@example.com')});
create($node, 'anna', 'contacts');
settled($node);
is(sql('SELECT error_code, message FROM ocean_enrich.sync_errors'), "OE422|$readable", 'a list: and in sync_errors');

done_testing();
