# not_recorded.pl
#	The ledger refuses to write an ending.  The session gets the answer, since it
#	was paid for; the row still says "sent", and an equal request is not paid for
#	again before somebody decides.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails books_agree);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);
my $ask = 'SELECT ' . enrich(q{'nora@example.com'}) . q{ ->> 'id'};

# The worker keeps running between the calls.
my $company = OceanTest::Query->start($node, 'SELECT pg_sleep(600)');

$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
		AS $$ BEGIN RAISE 'no row may change'; END $$;
	CREATE TRIGGER refuse BEFORE UPDATE ON ocean_enrich.call
		FOR EACH ROW EXECUTE FUNCTION refuse()});
like($node->safe_psql('postgres', $ask), qr/^[0-9a-f]+$/,
	'the answer comes although it cannot be recorded');
is($node->safe_psql('postgres', 'SELECT state FROM ocean_enrich.call'),
	'sent', 'the row still says "sent"');

$node->safe_psql('postgres', 'DROP TRIGGER refuse ON ocean_enrich.call');
fails($node, $ask, qr/OE504: an equal request was sent before/,
	'an equal request is not sent');
is($sandbox->books->{requests}, 1, 'it was paid for once');
is($node->safe_psql('postgres', 'SELECT state FROM ocean_enrich.call'),
	'unknown', 'its outcome counts as unknown');
books_agree($node, $sandbox, 'not recorded');

$node->safe_psql('postgres',
	q{SELECT ocean_enrich.resolve(call_id, 'pay again', 3) FROM ocean_enrich.call});
like($node->safe_psql('postgres', $ask), qr/^[0-9a-f]+$/,
	'once decided, it is sent');
is($sandbox->books->{requests}, 2, 'and paid for');
books_agree($node, $sandbox, 'decided');

$company->kill;
done_testing();
