# credits.pl
#	What a call costs is what its answer says, to the last digit, else what the
#	setting says; and the newer answers fill the newer columns.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails books_agree);
use Test::More;

my $sandbox = OceanTest::Sandbox->new(
	config => {
		cost => '0.1',
		credits_used => JSON::PP::true,
		newer_keys => JSON::PP::true
	});
my $node = node($sandbox);

# Ten tenths are one, in the answers, in the ledger and in its views.

is( $node->safe_psql(
		'postgres', q{
		SELECT count(DISTINCT call_id), sum(credits), sum((ocean_person(answer)).credits_used)
		FROM generate_series(1, 10) AS i,
			ocean_try_enrich_person(ocean_person_request(email => format('tenth%s@example.com', i)))}),
	'10|1.0|1.0',
	'the answers say what they cost');
is( $node->safe_psql(
		'postgres', q{
		SELECT sum(credits), (SELECT credits FROM ocean_enrich.spending),
			(SELECT credits FROM ocean_enrich.calls_by_state),
			(SELECT used FROM ocean_enrich.limits WHERE name = 'credit_limit')
		FROM ocean_enrich.call}),
	'1.0|1.0|1.0|1.0',
	'the ledger and its views have just that');
is($sandbox->books->{charged} + 0, 1, 'as have the books');
books_agree($node, $sandbox, 'tenths');

is( $node->safe_psql(
		'postgres', q{
		SELECT headline <> '', inferred_emails = '["newer@example.com"]', connections_count >= 0,
			followers_count >= 0, updated_at <> '', credits_used,
			(SELECT count(linkedin_company_handle) FROM ocean_person_experiences(enriched))
		FROM ocean_enrich_person(ocean_person_request(email => 'newer@example.com')) AS enriched,
			ocean_person(enriched)}),
	't|t|t|t|t|0.1|2',
	'the newer keys have columns');

# What the setting says counts only where the answer says nothing.

$node->safe_psql('postgres',
	q{SET ocean_enrich.credits_per_call = 5; SELECT } . enrich('said@example.com'));
$sandbox->config(cost => '2.5', credits_used => JSON::PP::false);
$node->safe_psql('postgres',
	q{SET ocean_enrich.credits_per_call = '2.5'; SELECT } . enrich('unsaid@example.com'));
is( $node->safe_psql(
		'postgres',
		q{SELECT string_agg(credits::text, ' ' ORDER BY call_id) FROM ocean_enrich.call
		WHERE request @? '$.person.email ? (@ like_regex "said")'}),
	'0.1 2.5',
	'the answer before the setting');
books_agree($node, $sandbox, 'setting');

# When the credits run out, the calls before that stay.

$sandbox->config(cost => '0.1', credits => '0.25', credits_used => JSON::PP::true);
fails(
	$node, q{
	SET ocean_enrich.concurrency = 1;
	SELECT count(ocean_enrich_person(ocean_person_request(email => format('last%s@example.com', i))))
	FROM generate_series(1, 5) AS i},
	qr/OE402: Insufficient credits/,
	'the third of five is too much');
is( $node->safe_psql(
		'postgres', q{
		SELECT state, count(*), sum(credits) FROM ocean_enrich.call
		WHERE request @? '$.person.email ? (@ starts with "last")' GROUP BY state ORDER BY state}),
	"answered|2|0.2\nrefused|1|",
	'two are paid for, one is refused, the others were not sent');
books_agree($node, $sandbox, 'credits that run out');

done_testing();
