# encodings.pl
#	Databases that are not UTF-8: the request goes out as UTF-8, the answer comes
#	back as the database has it, and what that cannot hold is an error that has
#	been paid for once, with the bytes in the ledger.

use strict;
use warnings FATAL => 'all';

use Encode qw(decode encode);
use OceanTest qw(node books_agree);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);
my @databases = ('latin1', 'sql_ascii', 'euc_jp');

foreach my $encoding (@databases)
{
	$node->safe_psql('postgres',
		"CREATE DATABASE $encoding ENCODING '$encoding' LOCALE 'C' TEMPLATE template0");
	$node->safe_psql($encoding, 'CREATE EXTENSION ocean_enrich');
}

# What psql prints when it speaks UTF-8 with DATABASE, errors included.
sub query
{
	my ($database, $sql, $client_encoding) = @_;
	$client_encoding //= 'UTF8';
	my ($stdout, $stderr) = OceanTest::Query->start($node,
		"SET client_encoding = '$client_encoding'; $sql",
		database => $database)->finish;
	return $stdout . $stderr;
}

# Is the person of this name asked for as this name, and is it the name that
# comes back?
sub name_makes_the_round
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($database, $name) = @_;

	is( query(
			$database,
			"SELECT ocean_enrich_person(ocean_person_request(name => '$name')) ->> 'name'"),
		$name,
		"$database: the name comes back");
	my ($person) = values %{ $sandbox->books(identity => $name)->{people} };
	is($person->{charges}, 1, "$database: it went out as UTF-8");
	return is(
		query(
			$database,
			"SELECT request->'person'->>'name' = '$name' FROM ocean_enrich.call ORDER BY call_id DESC LIMIT 1"),
		't',
		"$database: the ledger has it");
}

# A fault of the sandbox: an answer that the database cannot hold
sub is_refused_once
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($database, $fault) = @_;
	my $email = "$fault.$database\@example.com";
	my $call = "SELECT ocean_enrich_person(ocean_person_request(email => '$email'))";

	like(query($database, $call),
		qr/ERROR:  OE502: the person cannot be stored as jsonb in this database/,
		"$database: $fault is an error");
	like(query($database, $call), qr/ERROR:  OE502: the person cannot be stored/,
		"$database: $fault is the same error again");
	is($sandbox->books(identity => $email)->{people}{$email}{charges},
		1, "$database: $fault was paid for once");
	return is(
		$node->safe_psql(
			$database, qq{
			SELECT state, credits, answer IS NULL,
				position('\\xc58175636a61'::bytea IN raw) > 0
			FROM ocean_enrich.call WHERE request->'person'->>'email' = '$email'}),
		'answered|3|t|t',
		"$database: $fault is in the ledger as it came");
}

# Latin 1

name_makes_the_round('latin1', 'Zoé Å½ñßeñ');
is( query(
		'latin1', q{
		SELECT (ocean_person(enriched)).name, (ocean_person(enriched)).summary
		FROM ocean_enrich_person(ocean_person_request(email => 'sb-latin1.a@example.com')) AS enriched}),
	'Zoë Müller-Åkesson|Señora, garçon, Straße, ½ año',
	'latin1: an answer that it can hold');
is_refused_once('latin1', 'sb-unicode');
like(
	query('latin1', q{SELECT ocean_enrich_person('{"person": {"straße": 1}}')}),
	qr/22023: unknown key "straße" in "person"/,
	'latin1: a message quotes what is not ASCII');
is( query(
		'latin1',
		encode('ISO-8859-1', decode('UTF-8',
			q{SELECT ocean_person_request(name => 'Zoé') #>> '{person,name}'})),
		'LATIN1'),
	encode('ISO-8859-1', decode('UTF-8', 'Zoé')),
	'latin1: a client that speaks it, too');

# A request that was paid for is known again by its UTF-8, in whatever way it
# was written.
is( query(
		'latin1',
		q{SELECT reused FROM ocean_try_enrich_person('{"person": {"name": "Zo\u00e9 \u00c5\u00bd\u00f1\u00dfe\u00f1"}}')}),
	't',
	'latin1: an escaped request is the same request');

# EUC-JP

name_makes_the_round('euc_jp', '山田 太郎');
is_refused_once('euc_jp', 'sb-unicode');

# No encoding at all: UTF-8 passes as the bytes that it is.

name_makes_the_round('sql_ascii', 'Zoé 山田');
is( $node->safe_psql(
		'sql_ascii', q{
		SELECT ocean_enrich_person(ocean_person_request(email => 'sb-unicode.ascii@example.com')) ->> 'name'}),
	'Łucja Šťastná',
	'sql_ascii: any answer');
my ($status, $stdout, $stderr) = $node->psql('sql_ascii',
	q{SELECT ocean_enrich_person(ocean_person_request(name => E'Zo\xe9'))});
like($stderr, qr/ERROR:  the request contains text that cannot be converted to UTF-8/,
	'sql_ascii: what is no UTF-8 is not sent');
is( $node->safe_psql(
		'sql_ascii', q{
		SELECT error_code, error_message
		FROM ocean_try_enrich_person(ocean_person_request(name => E'Zo\xe9'))}),
	'22023|the request contains text that cannot be converted to UTF-8',
	'sql_ascii: nor does it stop other rows');
is( $node->safe_psql(
		'sql_ascii',
		q{SELECT count(*) FROM ocean_enrich.call WHERE request->'person'->>'name' LIKE 'Zo%'}),
	1,
	'sql_ascii: nor recorded');

books_agree($node, $sandbox, 'all databases', @databases);

done_testing();
