# metrics.pl
#	doc/metrics: each query runs with the rights of its role and gives the columns
#	that are described, numbers and labels; none reads the whole ledger; the
#	dashboard shows nothing that is not measured.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails);
use CPAN::Meta::YAML;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $folder = OceanTest::tree() . '/doc/metrics';
my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);
my $queries = CPAN::Meta::YAML->read_string(slurp_file("$folder/queries.yaml"))->[0];
my @names = sort keys %$queries;

# [column, usage] of a query's description.
sub described
{
	my ($name) = @_;
	return map { my ($column) = keys %$_; [ $column, $_->{$column}{usage} ] }
	  @{ $queries->{$name}{metrics} };
}

# What the role gets: a hash of columns for each row.
sub measure
{
	my ($name) = @_;
	my $query = $queries->{$name}{query};
	my ($stdout, $stderr, $exit_code) = OceanTest::Query->start($node,
		"SELECT to_jsonb(q) FROM (\n$query) AS q", user => 'ocean_monitor')->finish;
	is($exit_code, 0, "$name runs") or diag($stderr);
	return map { JSON::PP->new->allow_bignum->decode($_) } split /\n/, $stdout;
}

$node->command_ok(
	[ 'psql', '--no-psqlrc', '--set', 'ON_ERROR_STOP=1', '--dbname', $node->connstr('postgres'),
		'--file', "$folder/role.sql" ], "role.sql runs for the $_. time") foreach 1 .. 2;
fails($node, 'SELECT answer FROM ocean_enrich.call', qr/42501/, 'the role sees no person',
	user => 'ocean_monitor');
fails($node, 'SELECT request FROM ocean_enrich.call', qr/42501/, '... and no request',
	user => 'ocean_monitor');

# Of an extension that has done nothing: no error, no row without its metrics

measure($_) foreach @names;

# Something of everything

$node->safe_psql(
	'postgres', q{
	CREATE TABLE contacts (id integer PRIMARY KEY, email text, enriched jsonb);
	INSERT INTO contacts VALUES (1, 'anna@example.com'), (2, 'x.sb-cut-lost@example.com');
	SELECT ocean_enrich.create_sync('contacts', 'contacts', 'ocean_person_request(email => email)', 'enriched');
	INSERT INTO ocean_enrich.budget VALUES (current_user, 'month', 1000);
	SELECT ocean_enrich.submit(ocean_person_request(email => 'later@example.com'), not_before => now() + interval '1 day')});
OceanTest::wait_until($node, q{SELECT done = 1 AND unknown = 1 FROM ocean_enrich.sync_status});
$sandbox->config(hold => JSON::PP::true);
my $query = OceanTest::Query->start($node, 'SELECT ' . enrich('berta@example.com'));
$sandbox->wait(held => 1);
my %measured = map { $_ => [ measure($_) ] } @names;
$sandbox->config(hold => JSON::PP::false);
$query->finish;

foreach my $name (@names)
{
	my @described = described($name);
	cmp_ok(scalar @{ $measured{$name} }, '>', 0, "$name has rows");
	foreach my $row (@{ $measured{$name} })
	{
		is_deeply([ sort keys %$row ], [ sort map { $_->[0] } @described ],
			"$name: its columns are those described");
		foreach my $metric (@described)
		{
			my ($column, $usage) = @$metric;
			like($row->{$column} // 'null', $usage eq 'LABEL' ? qr/./ : qr/^-?\d+(\.\d+)?$/,
				"${name}_$column is a " . lc $usage);
		}
	}
}
is($measured{ocean_enrich_queue}[0]{waiting}, 1, 'what is queued is measured');
is($measured{ocean_enrich_sync}[0]{done}, 1, '... and what is kept');
is($measured{ocean_enrich_unknown}[0]{calls}, 1, '... and what wants a decision');
is($measured{ocean_enrich_sessions}[0]{in_flight}, 1, '... and what sessions wait for');
is($measured{ocean_enrich_today}[0]{credits}, 3, '... and what was spent today');
is($measured{ocean_enrich_budget}[0]{spent}, 3, '... of the budgets, too');

# A long ledger is not read as a whole.

$node->safe_psql(
	'postgres', q{
	INSERT INTO ocean_enrich.call (endpoint, state, role, account, fingerprint, request, status, credits, requested_at, sent_at, answered_at)
	SELECT 'person', 'answered', 'anna', 'x', sha256(int4send(n)), '{}', 200, 3, at, at, at
	FROM generate_series(1, 200000) AS n, LATERAL (SELECT now() - interval '2 years' * n / 200000 AS at) AS made
	ORDER BY at});
$node->safe_psql('postgres', 'VACUUM ANALYZE ocean_enrich.call');
foreach my $name (@names)
{
	my $plan = $node->safe_psql('postgres', "SET jit = off; EXPLAIN (COSTS off) $queries->{$name}{query}");
	unlike($plan, qr/Seq Scan on call\b/, "$name does not read the whole ledger");
}

# The dashboard

my %metrics;
foreach my $name (@names)
{
	$metrics{"${name}_$_->[0]"} = 1 foreach grep { $_->[1] ne 'LABEL' } described($name);
}
my $dashboard = decode_json(slurp_file("$folder/grafana.json"));
my @expressions = map { $_->{query} } @{ $dashboard->{templating}{list} };
push @expressions, map { $_->{expr} } map { @{ $_->{targets} } } @{ $dashboard->{panels} };
cmp_ok(scalar @expressions, '>', 20, 'the dashboard has panels');
my @unknown = grep { !$metrics{$_} } map { /\b(ocean_enrich_\w+)/g } @expressions;
is("@unknown", '', '... which show what is measured');

$node->stop;
done_testing();
