# first_row.pl
#	What the extension is for: an UPDATE over a table enriches its rows, each is
#	paid for once, and running it again costs nothing.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node books_agree);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE contacts (id int PRIMARY KEY, email text, enriched jsonb);
	INSERT INTO contacts (id, email)
		SELECT i, format('contact%s@example.com', i)
		FROM generate_series(1, 20) AS i;
	INSERT INTO contacts (id) VALUES (21);
});

my $update = q{
	UPDATE contacts
	SET enriched = ocean_enrich_person(ocean_person_request(email => email))
	WHERE enriched IS NULL};
$node->safe_psql('postgres', $update);

is( $node->safe_psql(
		'postgres', q{
		SELECT count(*) FILTER (WHERE enriched ->> 'id' <> ''
				AND enriched ->> 'domain' <> ''),
			count(DISTINCT enriched ->> 'id'),
			count(*) FILTER (WHERE enriched IS NULL)
		FROM contacts}),
	'20|20|1',
	'every row with an e-mail is enriched by a person of its own');
is($sandbox->books->{charges}, 20, 'each was paid for once');
books_agree($node, $sandbox, 'first run');

$node->safe_psql('postgres', $update);
is($sandbox->books->{requests}, 20, 'the second run asks nothing');

$node->safe_psql('postgres', 'UPDATE contacts SET enriched = NULL');
$node->safe_psql('postgres', $update);
is($sandbox->books->{requests},
	20, 'nor does a run over rows that lost their answers');
books_agree($node, $sandbox, 'after all runs');

done_testing();
