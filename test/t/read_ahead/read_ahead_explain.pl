# read_ahead_explain.pl
#	EXPLAIN shows where a statement reads ahead and, with ANALYZE, what that did, in
#	each of its formats.

use strict;
use warnings FATAL => 'all';

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

# With ANALYZE: eight that were never asked for, at once; then they are reused.

my $analyze = 'ANALYZE, COSTS OFF, SUMMARY OFF, TIMING OFF, BUFFERS OFF';
sub analyze
{
	my ($options, $statement, %run) = @_;
	my $printed = $test->run("EXPLAIN ($analyze, $options) $statement", %run)->{printed};

	# 18 prints fractions of rows.
	return $printed =~ s/(rows=\d+)\.00/$1/gr;
}

is( analyze('VERBOSE OFF', $update, held => [8]), q{Update on contact (actual rows=0 loops=1)
  ->  Custom Scan (Read Ahead) (actual rows=8 loops=1)
        Concurrency: 16
        Calls: 8
        Reused: 0
        Credits: 24.00
        Peak in Flight: 8
        ->  Seq Scan on contact (actual rows=8 loops=1)},
	'EXPLAIN ANALYZE');
like(
	analyze('VERBOSE OFF', $update),
	qr/Calls: 8\n *Reused: 8\n *Credits: 0.00\n *Peak in Flight: [1-8]\n/,
	'EXPLAIN ANALYZE, from the ledger');

# Equal requests in one statement join each other, and cost nothing.

$test->sql('CREATE TABLE twins AS SELECT i % 4 AS n FROM generate_series(1, 12) AS i');
like(
	analyze('VERBOSE OFF',
		'SELECT ocean_enrich_person(request(n + 20)) FROM twins',
		held => [4]),
	qr/Calls: 12\n *Reused: 8\n *Credits: 12.00\n/,
	'EXPLAIN ANALYZE, joined');

# Errors as values are calls, too, and the API's own price counts.

$sandbox->config(credits_used => JSON::PP::true, cost => '0.1');
like(
	analyze('VERBOSE OFF', q{
		SELECT ocean_try_enrich_person(CASE i WHEN 3
			THEN ocean_person_request(email => 'sb-unknown@example.com')
			ELSE request(i + 30) END)
		FROM generate_series(1, 4) AS i}, held => [4]),
	qr/Calls: 4\n *Reused: 0\n *Credits: 0.30\n *Peak in Flight: 4\n/,
	'EXPLAIN ANALYZE, an error as a value');
$sandbox->config(credits_used => JSON::PP::false, cost => '3');

# What is made in another node is shown where it is sent from.

is( analyze('VERBOSE OFF',
		'SELECT p FROM contact, ocean_enrich_person(request(id + 40)) AS p', held => [8]),
	q{Nested Loop (actual rows=8 loops=1)
  ->  Custom Scan (Read Ahead) (actual rows=8 loops=1)
        Concurrency: 16
        Calls: 8
        Reused: 0
        Credits: 24.00
        Peak in Flight: 8
        ->  Result (actual rows=8 loops=1)
              ->  Seq Scan on contact (actual rows=8 loops=1)
  ->  Function Scan on ocean_enrich_person p (actual rows=1 loops=8)},
	'EXPLAIN ANALYZE, LATERAL');
like(
	analyze('VERBOSE OFF',
		'SELECT p FROM contact, ocean_enrich_person(request(id + 50)) AS p',
		concurrency => 1),
	qr/Concurrency: 1\n *Calls: 8\n *Reused: 0\n *Credits: 24.00\n *Peak in Flight: 1\n/,
	'EXPLAIN ANALYZE, LATERAL, one after the other');

like(
	analyze('VERBOSE OFF', q{
		UPDATE contact SET (enriched, grp) = (
			SELECT answer, status FROM ocean_try_enrich_person(request(id + 80)))},
		held => [8]),
	qr/Read Ahead.*\n *Concurrency: 16\n *Calls: 8\n *Reused: 0\n *Credits: 24.00\n *Peak in Flight: 8\n/,
	'EXPLAIN ANALYZE, a sub-select');

# Without credits, what is under way comes, and nothing more is sent early.

$sandbox->config(credits => '12');
my $poor = $test->run(qq{
	SET ocean_enrich.concurrency = 6;
	EXPLAIN ($analyze)
	SELECT status FROM generate_series(1, 20) AS i,
		ocean_try_enrich_person(request(i + 60))}, held => [6]);
like($poor->{printed}, qr/Calls: 20\n *Reused: 0\n *Credits: 12.00\n *Peak in Flight: 6\n/,
	'EXPLAIN ANALYZE, LATERAL, no credits');
is_deeply([ @$poor{qw(requests at_once)} ], [ 20, 6 ], 'no credits: 6 at once');
$sandbox->config(credits => undef);

# Each format has the same properties.

sub read_ahead_node
{
	my ($node) = @_;
	return $node if ($node->{'Custom Plan Provider'} // '') eq 'Read Ahead';
	foreach my $child (@{ $node->{Plans} // [] })
	{
		my $found = read_ahead_node($child);
		return $found if $found;
	}
	return;
}

my $json = decode_json($test->run(qq{
	EXPLAIN (ANALYZE, FORMAT JSON)
	SELECT ocean_enrich_person(request(id + 90)) FROM contact}, held => [8])->{printed});
my $read_ahead = read_ahead_node($json->[0]{Plan});
my $waited = delete $read_ahead->{'Wait Time'};
cmp_ok($waited, '>', 0, 'JSON: Wait Time');
cmp_ok($waited, '<=', $read_ahead->{'Actual Total Time'}, 'JSON: no more than it took');
is_deeply(
	{ map { $_ => $read_ahead->{$_} }
	  ('Concurrency', 'Calls', 'Reused', 'Credits', 'Peak in Flight') },
	{
		'Concurrency' => 16, 'Calls' => 8, 'Reused' => 0, 'Credits' => 24.00,
		'Peak in Flight' => 8
	},
	'JSON');
like(
	analyze('FORMAT YAML', $update),
	qr/Concurrency: 16\n *Calls: 8\n *Reused: 8\n *Credits: 0.00\n *Peak in Flight: [1-8]\n/,
	'YAML');
like(
	analyze('FORMAT XML', $update),
	qr{<Concurrency>16</Concurrency>\s*<Calls>8</Calls>\s*<Reused>8</Reused>\s*
		<Credits>0.00</Credits>\s*<Peak-in-Flight>[1-8]</Peak-in-Flight>}x,
	'XML');
my $timed = $test->run("EXPLAIN (ANALYZE, COSTS OFF, BUFFERS OFF) $update")->{printed};
like($timed, qr/Wait Time: [0-9.]+ ms\n/, 'text: Wait Time');
unlike(analyze('VERBOSE OFF', $update), qr/Wait Time/, 'text: not with TIMING OFF');

# A plan that never ran has nothing to say of what it did.

unlike(explain_('FORMAT JSON', $update), qr/"Calls"/, 'JSON: no calls without ANALYZE');
like(
	analyze('VERBOSE OFF', "$update WHERE id < 0"),
	qr/Calls: 0\n *Reused: 0\n *Credits: 0.00\n *Peak in Flight: 0\n/,
	'EXPLAIN ANALYZE, no rows');

done_testing();
