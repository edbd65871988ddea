# nothing_sent.pl
#	What we can know before, the API is not asked: the books of the sandbox stay
#	empty.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);

my %refused = (
	'{}' => '22023',
	'[]' => '22023',
	'{"person": null}' => '22023',
	'{"person": {}}' => 'OE400',
	'{"person": {"email": null}}' => 'OE400',
	'{"person": {"email": 7}}' => '22023',
	'{"person": {"first_name": "Anna"}}' => '22023',
	'{"email": "anna@example.com"}' => '22023',
	'{"person": {"name": "Anna"}, "company": []}' => '22023',
	'{"person": {"name": "Anna"}, "revealEmails": {"includeEmails": null}}' => '22023',
	'{"person": {"name": "' . 'x' x 70_000 . '"}}' => '22023');
foreach my $request (sort keys %refused)
{
	my $name = substr($request, 0, 60);
	my $message = "error_message = ocean_enrich.request_error('$request')";

	foreach my $function ('ocean_enrich_person', 'ocean_enrich.submit')
	{
		fails($node, "SELECT $function('$request')", qr/ERROR:  $refused{$request}: /,
			"$function: $name");
	}
	is( $node->safe_psql(
			'postgres', qq{
			SELECT error_code, $message, answer, status, credits, reused, call_id
			FROM ocean_try_enrich_person('$request')}),
		"$refused{$request}|t|||0|f|",
		"ocean_try_enrich_person: $name");
	is( $node->safe_psql(
			'postgres',
			"SELECT error_code, $message, call_id FROM ocean_enrich.try_submit('$request')"),
		"$refused{$request}|t|",
		"ocean_enrich.try_submit: $name");
}
is( $node->safe_psql(
		'postgres', q{
		SELECT ocean_enrich.request_error(NULL) IS NULL,
			ocean_enrich.request_error('{"person": {"email": "anna@example.com"}}') IS NULL,
			ocean_enrich.request_error('{}', NULL) = ocean_enrich.request_error('{}', 'person')}),
	't|t|t',
	'request_error() is NULL if there is no error');
fails(
	$node,
	q{SET ocean_enrich.api_token = ''; SELECT } . enrich('anna@example.com'),
	qr/ERROR:  28000: no usable API token/, 'no token');
$node->safe_psql('postgres', 'CREATE ROLE ordinary LOGIN');
fails(
	$node, q{SELECT ocean_enrich_person('{"person": {"email": "anna@example.com"}}')},
	qr/ERROR:  42501: permission denied for function ocean_enrich_person/,
	'no right to call',
	user => 'ordinary');
is( $node->safe_psql(
		'postgres', q{
		SELECT ocean_enrich_person(NULL) IS NULL, ocean_try_enrich_person(NULL) IS NULL,
			ocean_enrich_person(ocean_person_request(email => ' ')) IS NULL}),
	't|t|t',
	'NULL is no question');
$node->safe_psql(
	'postgres',
	'EXPLAIN (VERBOSE) SELECT '
	  . enrich('anna@example.com')
	  . '; PREPARE p AS SELECT '
	  . enrich('anna@example.com')
	  . '; CREATE VIEW v AS SELECT '
	  . enrich('anna@example.com')
	  . ' AS enriched');

my $books = $sandbox->books;
is($books->{requests}, 0, 'no request came');
is($books->{connections}, 0, 'nor a connection');
is($node->safe_psql('postgres', 'SELECT count(*) FROM ocean_enrich.call'),
	0, 'nothing is in the ledger');

# A call that is made does show.
$node->safe_psql('postgres', 'SELECT ' . enrich('anna@example.com'));
is($sandbox->books->{requests}, 1, 'one that is complete is sent');

done_testing();
