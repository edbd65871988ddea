# equal_requests.pl
#	What is paid once: a messy export in which people stand in several spellings
#	sends one request for each, and none for placeholders; different people stay
#	different; cleaning it pays for nothing; all of it in databases of any encoding
#	and locale.
#
#	fixtures/messy-contacts.csv is such an export, of invented people;
#	messy-contacts-truth.csv has who they are.

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use JSON::PP;
use OceanTest qw(node books_agree);
use PostgreSQL::Test::Utils qw(slurp_file);
use SyncTest qw(owner create settled);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, extra_conf => "session_preload_libraries = 'ocean_enrich'");

sub sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# Requests, and those that would be sent.
sub estimated
{
	my ($query) = @_;
	return split /\|/,
	  sql("SELECT requests, to_send FROM ocean_enrich.estimate(\$query\$$query\$query\$)");
}

my $fixtures = abs_path(OceanTest::tree()) . '/test/fixtures';

sql(qq{
	CREATE TABLE contacts (id int PRIMARY KEY, first_name text, last_name text, email text,
		linkedin text, company text, company_domain text, phone text, job_title text);
	CREATE TABLE truth (id int PRIMARY KEY, pid int, kind text);
	COPY contacts FROM '$fixtures/messy-contacts.csv' (FORMAT csv, HEADER);
	COPY truth FROM '$fixtures/messy-contacts-truth.csv' (FORMAT csv, HEADER);
	UPDATE contacts SET id = id});

# The form of the README.
my $request = 'ocean_person_request(first_name => first_name, last_name => last_name,'
  . ' email => email, linkedin => linkedin, company_domain => company_domain)';

# The messy export

my ($requests, $to_send) = estimated("SELECT $request FROM contacts");
is($requests, 2000, 'each row of the messy export has a request');
cmp_ok($to_send, '<=', 1715, 'most people are paid for once');
is( $to_send,
	sql(q{
		SELECT count(DISTINCT pid) + count(*) FILTER (WHERE kind IN
			('other identifier', 'a column is missing', 'plus tag', 'HTML entity')) FROM truth}),
	'and twice only those of whom something else is known');
is( sql(qq{
		SELECT count(*) FROM (SELECT FROM contacts JOIN truth USING (id)
			GROUP BY ocean_enrich.fingerprint($request) HAVING count(DISTINCT pid) > 1) AS merged}),
	0,
	'no different people are equal');
is( sql(qq{SELECT count(DISTINCT ocean_enrich.fingerprint($request)) FROM contacts}),
	$to_send,
	'the fingerprints find as many as are sent');
is( sql(qq{
		SET ocean_enrich.equal = 'exact';
		SET ocean_enrich.placeholders = '';
		SELECT count(DISTINCT ocean_enrich.fingerprint($request)) FROM contacts}) > 1850,
	1,
	'without that they would be many more');

# The statement sends what was foreseen, ahead and one by one.

sql(qq{
	ALTER TABLE contacts ADD enriched jsonb;
	UPDATE contacts SET enriched = (ocean_try_enrich_person($request)).answer});
is($sandbox->books->{requests}, $to_send, 'the statement sends as many as were foreseen');

# Cleaning the export pays for nothing.

sql(q{
	UPDATE contacts SET email = lower(btrim(email, E' \\t\\u00a0\\u200b\\ufeff')),
		first_name = initcap(first_name), last_name = upper(btrim(last_name)),
		company_domain = regexp_replace(company_domain, '^(https?://)?(www\\.)?|/$', '', 'g')});
is((estimated("SELECT $request FROM contacts"))[1], 0, 'a cleaned export is known');
books_agree($node, $sandbox, 'after the export');

# The queue takes what is known from the answer to an equal request, also one that
# asked for more.

my $paid = $sandbox->books->{requests};
sql(q{
	SELECT ocean_enrich_person(ocean_person_request(email => 'More@Example.com', reveal_emails => true,
		reveal_phones => true))});
is( sql(q{
		CREATE TABLE queued AS SELECT ocean_enrich.submit(request) AS call_id
		FROM (VALUES (ocean_person_request(email => 'more@example.com')),
			(ocean_person_request(email => ' MORE@example.com', reveal_phones => true)),
			('{"person": {"email": "more@example.com"}, "revealEmails": {"includeEmails": false}}')) AS v (request);
		SELECT ocean_enrich.wait(array_agg(call_id), '1 min') FROM queued;
		SELECT count(*), count(reused_from), sum(credits), count(answer #> '{email,address}')
		FROM ocean_enrich.call JOIN queued USING (call_id)}),
	"t\n3|3|0|3",
	'an answer with more reveals serves the queue');
is($sandbox->books->{requests}, $paid + 1, 'and only that was sent');
books_agree($node, $sandbox, 'after the queue');

# Under a sync, too

owner($node, 'keeper');
sql(q{
	SET ROLE keeper;
	CREATE TABLE leads (id int PRIMARY KEY, email text, enriched jsonb);
	INSERT INTO leads SELECT i, format(' Lead%s@Example.COM', i) FROM generate_series(1, 20) AS i});
create($node, 'keeper', 'leads');
settled($node, 'leads');
$paid = $sandbox->books->{requests};
is(sql('SELECT count(enriched) FROM leads'), 20, 'a sync has filled a table');
sql('UPDATE leads SET email = lower(btrim(email))');
settled($node, 'leads');
is($sandbox->books->{requests}, $paid, 'cleaning a column of a sync pays for nothing');
is(sql('SELECT count(enriched) FROM leads'), 20, 'and the answers stay');
sql(q{UPDATE leads SET email = 'other' || email WHERE id = 1});
settled($node, 'leads');
is($sandbox->books->{requests}, $paid + 1, 'another address is asked for');
books_agree($node, $sandbox, 'after the sync');

# Everywhere the same

my @vectors =
  map { decode_json($_) } split /\n/, slurp_file("$fixtures/../unit/fingerprints.jsonl");
my %databases = (
	latin1 => q{ENCODING 'latin1' LOCALE 'C'},
	sql_ascii => q{ENCODING 'sql_ascii' LOCALE 'C'},
	euc_jp => q{ENCODING 'euc_jp' LOCALE 'C'},
	turkish => q{ENCODING 'UTF8' LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'tr'});
# Not every server is built with ICU.
delete $databases{turkish} unless sql(q{SELECT count(*) FROM pg_collation WHERE collname = 'tr-x-icu'});
# How many of the vectors they can hold
my %at_least = (latin1 => 60, sql_ascii => 90, euc_jp => 60, turkish => 90);

foreach my $database (sort keys %databases)
{
	$node->safe_psql('postgres', "CREATE DATABASE $database $databases{$database} TEMPLATE template0");
	my $sql = q{
		SET client_encoding = 'UTF8';
		SET client_min_messages = error;
		CREATE EXTENSION ocean_enrich;
		CREATE TABLE vector (request jsonb, fingerprint text);
	};
	foreach my $vector (@vectors)
	{
		$sql .= sprintf "INSERT INTO vector VALUES (\$v\$%s\$v\$, '%s');\n",
		  encode_json($vector->{request}), $vector->{fingerprint};
	}
	# Those that the encoding lacks are errors, which go to another stream.
	$node->psql($database, $sql, on_error_stop => 0);
	is( $node->safe_psql($database, q{
			SELECT request FROM vector
			WHERE encode(ocean_enrich.fingerprint(request), 'hex') IS DISTINCT FROM fingerprint}),
		'',
		"$database: the same fingerprints");
	cmp_ok($node->safe_psql($database, 'SELECT count(*) FROM vector'),
		'>=', $at_least{$database}, "$database: of most vectors");
}
is( $node->safe_psql('latin1', q{
		SELECT ocean_person_request(email => convert_from('\xa0', 'LATIN1')) IS NULL,
			convert_to(ocean_person_request(email => convert_from('\xe9a0', 'LATIN1')) #>> '{person,email}', 'UTF8')}),
	't|\xc3a9c2a0',
	'latin1: a no-break space is blank');
$node->safe_psql('latin1', q{ALTER DATABASE latin1 SET ocean_enrich.placeholders = E'\xe9'});
is( $node->safe_psql('latin1', q{SELECT ocean_person_request(email => convert_from('\xe9', 'LATIN1')) IS NULL}),
	't',
	'latin1: a placeholder that is not ASCII');

done_testing();
