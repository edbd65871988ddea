# asked_by_postgres.pl
#	Where PostgreSQL itself evaluates more rows than the statement shows, these are paid
#	for, with or without reading ahead: what README says of them.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node wait_until);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, extra_conf => "ocean_enrich.rate_limit = 0\nocean_enrich.daily_limit = 0\nocean_enrich.concurrency = 1");

$node->safe_psql('postgres', q{
	CREATE TABLE people (id integer PRIMARY KEY, email text);
	INSERT INTO people SELECT i, 'p' || i FROM generate_series(1, 100) AS i;
	CREATE TABLE target (id integer PRIMARY KEY, person jsonb);
	INSERT INTO target SELECT i FROM generate_series(1, 3) AS i});

# The requests that the statements make
sub requests
{
	my ($kind, $statements) = @_;
	my $before = $sandbox->books->{requests};
	my $call = "ocean_enrich_person(ocean_person_request(email => email || '\@$kind.example.com'))";
	$node->safe_psql('postgres', $statements =~ s/CALL/$call/r);
	return $sandbox->books->{requests} - $before;
}

my $loop = 'FOR person IN SELECT CALL FROM people LOOP EXIT; END LOOP';
is(requests('loop', qq{
		CREATE FUNCTION first_person() RETURNS jsonb LANGUAGE plpgsql AS \$\$
		DECLARE person jsonb;
		BEGIN
			$loop;
			RETURN person;
		END \$\$;
		SELECT first_person()}),
	10, 'a loop in a PL/pgSQL function fetches ten rows, and then fifty at a time');
is(requests('block', qq{
		DO \$\$
		DECLARE person jsonb;
		BEGIN
			$loop;
		END \$\$}),
	1, 'one that may commit fetches row by row');
is(requests('held', q{
		BEGIN;
		DECLARE c CURSOR WITH HOLD FOR SELECT CALL FROM people WHERE id <= 7;
		FETCH c;
		COMMIT}),
	7, 'a cursor WITH HOLD is evaluated as a whole at the commit');
is(requests('conflict', q{
		INSERT INTO target SELECT id, CALL FROM people WHERE id <= 5 ON CONFLICT DO NOTHING}),
	5, 'ON CONFLICT DO NOTHING drops rows that were evaluated');

my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; SELECT FROM people WHERE id <= 3 FOR UPDATE');
is(requests('skipped', q{
		SELECT CALL FROM people ORDER BY id LIMIT 2 FOR UPDATE SKIP LOCKED}),
	5, 'SKIP LOCKED skips rows that were evaluated');
is(requests('inner', q{
		SELECT CALL FROM (SELECT * FROM people ORDER BY id LIMIT 2 FOR UPDATE SKIP LOCKED) AS p}),
	2, 'a sub-select that locks first skips them before');
$locker->query_safe('COMMIT');
$locker->quit;

done_testing();
