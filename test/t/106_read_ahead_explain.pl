# 106_read_ahead_explain.pl
#	EXPLAIN shows where a statement reads ahead and, with ANALYZE, what that did, in
#	each of its formats.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::Bin;

use JSON::PP;
use ReadAheadTest;
use Test::More;

my $test = ReadAheadTest->new(extra_conf => "ocean_enrich.reuse_for = '1d'");
my $sandbox = $test->sandbox;
my $update = 'UPDATE contact SET enriched = ocean_enrich_person(req)';

sub explain_
{
	my ($options, $statement) = @_;
	return $test->sql("EXPLAIN ($options) $statement");
}

# Without ANALYZE

is( explain_('COSTS OFF', $update), q{Update on contact
  ->  Custom Scan (Read Ahead)
        Concurrency: 16
        ->  Seq Scan on contact},
	'EXPLAIN');
is( explain_('COSTS OFF, VERBOSE',
		q{SELECT id, ocean_enrich_person(req) ->> 'id' FROM contact WHERE grp = 1}),
	q{Custom Scan (Read Ahead)
  Output: id, (ocean_enrich_person(req) ->> 'id'::text)
  Concurrency: 16
  ->  Seq Scan on public.contact
        Output: id, req
        Filter: (contact.grp = 1)},
	'EXPLAIN VERBOSE');
is( explain_('COSTS OFF',
		q{SELECT id FROM contact WHERE ocean_enrich_person(req) ->> 'id' > '8' AND grp = 1}),
	q{Custom Scan (Read Ahead)
  Filter: ((ocean_enrich_person(req) ->> 'id'::text) > '8'::text)
  Concurrency: 16
  ->  Seq Scan on contact
        Filter: (grp = 1)},
	'EXPLAIN, a condition');
is($sandbox->books->{requests}, 0, 'EXPLAIN sends nothing');

# With ANALYZE; the first one pays.

my $analyze = 'ANALYZE, COSTS OFF, SUMMARY OFF';
$sandbox->config(latency_ms => 100);
my $text = explain_("$analyze, TIMING OFF", $update);
is( $text, q{Update on contact (actual rows=0 loops=1)
  ->  Custom Scan (Read Ahead) (actual rows=8 loops=1)
        Concurrency: 16
        Calls: 8
        Reused: 0
        Credits: 24.00
        Most in Flight: 8
        ->  Seq Scan on contact (actual rows=8 loops=1)},
	'EXPLAIN ANALYZE');
done_testing();
