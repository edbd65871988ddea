# arguments.pl
#	Settings as arguments: they count for one call, beat the settings of the
#	session, and leave nothing behind for the next client of a pooled connection.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node fails books_agree);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);
my $unknown = q{ocean_person_request(email => 'sb-unknown@example.com')};
my $anna = q{ocean_person_request(email => 'anna@example.com')};

sub sql { return $node->safe_psql('postgres', $_[0]) }

# How many requests STATEMENTS send.
sub requests_of
{
	my ($statements) = @_;
	my $before = $sandbox->books->{requests};
	sql($statements);
	return $sandbox->books->{requests} - $before;
}

# not_found

foreach my $value ('null', 'nothing', 'Null')
{
	is(sql("SELECT ocean_enrich_person($unknown, not_found => '$value') IS NULL"), 't', "not_found => '$value'");
	is(sql("SELECT ocean_enrich_person($unknown, '$value') IS NULL"), 't', "'$value' without the name");
}
fails($node, "SET ocean_enrich.not_found = nothing; SELECT ocean_enrich_person($unknown, not_found => 'error')",
	qr/ERROR:  OE404: /, 'an argument beats the setting');
is(sql("SET ocean_enrich.not_found = nothing; SELECT ocean_enrich_person($unknown, not_found => NULL) IS NULL"),
	't', 'NULL means the setting: null');
fails($node, "SELECT ocean_enrich_person($unknown, not_found => NULL)", qr/ERROR:  OE404: /,
	'NULL means the setting: error');
is(sql("SELECT ocean_enrich_person($unknown, not_found => 'null') IS NULL; SHOW ocean_enrich.not_found"),
	"t\nerror", 'the setting stays');
fails($node, "SELECT ocean_enrich_person($unknown, '1 day')",
	qr/ERROR:  22023: argument "not_found" must be "error", "null" or "nothing"\nHINT:  To give "reuse_for" alone, write its name: reuse_for => \.\.\.\n/,
	'another value');

# reuse_for

is(requests_of("SELECT ocean_enrich_person($anna)"), 1, 'a first call');
is(requests_of("SELECT ocean_enrich_person($anna, reuse_for => '1 day')"), 0, 'the person is reused');
is(requests_of("SELECT ocean_enrich_person($anna, reuse_for => '0')"), 1, 'and is not');
is(requests_of("SELECT ocean_enrich_person($anna, not_found => 'null', reuse_for => '0')"), 1, 'with both');
is(requests_of("SELECT * FROM ocean_try_enrich_person($anna, reuse_for => '0')"), 1, 'errors as values');
is(sql("SELECT reused FROM ocean_try_enrich_person($anna, '1 mon')"), 't', 'errors as values: reused');
is(requests_of("SET ocean_enrich.reuse_for = 0; SELECT ocean_enrich_person($anna, reuse_for => '1 day')"),
	0, 'the argument beats the setting');
is(requests_of("SET ocean_enrich.reuse_for = 0; SELECT ocean_enrich_person($anna, reuse_for => NULL)"),
	1, 'NULL means the setting');
is(requests_of("SELECT ocean_enrich_person($unknown, 'null', '0')"), 1, '"not found" is not reused, either');
is(requests_of("SELECT ocean_enrich_person($unknown, 'null', '10 years')"), 0, '"not found" is reused');
is( requests_of(qq{
		SET ocean_enrich.reuse_not_found_for = 0;
		SELECT ocean_enrich_person($unknown, 'null', '10 years')}),
	1, 'but not for longer than the setting says');
is(requests_of("SELECT ocean_enrich_person($anna, reuse_for => '170000000 years')"), 0, 'the longest interval');
sql(q{UPDATE ocean_enrich.call SET answered_at = answered_at - interval '40 days'});
is(requests_of("SELECT ocean_enrich_person($anna, reuse_for => '2 mons')"), 0, 'months: of 30 days');
is(requests_of("SELECT ocean_enrich_person($anna, reuse_for => '1 mon')"), 1, 'a shorter time');
fails($node, "SELECT ocean_enrich_person($anna, reuse_for => '-1 day')",
	qr/ERROR:  22023: argument "reuse_for" must not be negative/, 'less than nothing');
fails($node, "SELECT ocean_enrich_person($anna, reuse_for => '1 day -2 mons')",
	qr/ERROR:  22023: argument "reuse_for" must not be negative/, 'less than nothing in the end');

# Two calls of one row, for the same person, that differ in what they reuse

is(requests_of("SELECT ocean_enrich_person($anna), ocean_enrich_person($anna, reuse_for => '0')"), 1, 'one of two reuses');

# What the names stand for is never in doubt.

my $written = q{'{"person": {"email": "anna@example.com"}}'};
is(sql("SELECT ocean_enrich_person($written) ->> 'id' <> '', (ocean_try_enrich_person($written)).status"),
	't|200', 'a request alone, written by hand');
is(sql("SELECT ocean_enrich_person(request => $anna) ->> 'id' <> ''"), 't', 'by its name');
is( sql("SELECT ocean_enrich_person(NULL), ocean_enrich_person(NULL, 'null'), ocean_enrich_person(NULL, reuse_for => '0'),
		ocean_try_enrich_person(NULL), ocean_try_enrich_person(NULL, '0')"),
	'||||', 'a NULL request asks nothing');
is(sql("SELECT r IS NULL FROM ocean_try_enrich_person(NULL, '0') AS r"), 't', 'in FROM, too');
is(requests_of("SELECT ocean_enrich_person(NULL, 'null', '0')"), 0, 'nor does it send anything');

# estimate()

sub estimate
{
	my ($call) = @_;
	return sql("SELECT requests, to_send, repeated, known FROM ocean_enrich.estimate(\$\$SELECT $call FROM generate_series(1, 2)\$\$)");
}

is(estimate("ocean_enrich_person($anna, reuse_for => '1 day')"), '2|0|1|1', 'estimate(): known');
is(estimate("ocean_enrich_person($anna, reuse_for => '0')"), '2|2|0|0', 'estimate(): not reused');
is(estimate("ocean_try_enrich_person($anna, '0')"), '2|2|0|0', 'estimate(): errors as values');
is(estimate("ocean_enrich_person($anna), ocean_enrich_person($anna, reuse_for => '0')"), '4|2|1|1',
	'estimate(): both');
is(estimate("ocean_enrich_person($unknown, 'null')"), '2|1|1|0', 'estimate(): not found, long ago');
sql("SELECT ocean_enrich_person($unknown, 'null')");
is(estimate("ocean_enrich_person($unknown, 'null')"), '2|0|1|1', 'estimate(): not found');

books_agree($node, $sandbox, 'arguments');

done_testing();
