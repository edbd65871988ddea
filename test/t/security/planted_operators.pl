# planted_operators.pl
#	Whoever may create in the schema that the extension goes to could plant an
#	operator there that fits better than PostgreSQL's own.  Built into our
#	functions, it would run with the rights of whoever calls them.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);

$node->safe_psql(
	'postgres', q{
	DROP EXTENSION ocean_enrich;
	CREATE ROLE mallory;
	GRANT CREATE ON SCHEMA public TO mallory;
	SET ROLE mallory;
	CREATE FUNCTION public.planted(jsonb, text) RETURNS text LANGUAGE plpgsql
		AS $$ BEGIN RAISE 'planted code runs as %', current_user; END $$;
	CREATE FUNCTION public.planted(numeric, integer) RETURNS boolean LANGUAGE plpgsql
		AS $$ BEGIN RAISE 'planted code runs as %', current_user; END $$;
	CREATE OPERATOR public.#>> (LEFTARG = jsonb, RIGHTARG = text, FUNCTION = public.planted);
	CREATE OPERATOR public.>= (LEFTARG = numeric, RIGHTARG = integer, FUNCTION = public.planted);
	CREATE OPERATOR public.> (LEFTARG = numeric, RIGHTARG = integer, FUNCTION = public.planted);
	RESET ROLE;
	CREATE EXTENSION ocean_enrich});

is( $node->safe_psql(
		'postgres', q{
		SELECT (ocean_person('{"email": {"address": "a@example.com"},
			"connectionsCount": 3}')).email_address}),
	'a@example.com',
	'ocean_person() runs no planted operator');
is( $node->safe_psql(
		'postgres', q{
		SELECT date_from FROM ocean_person_experiences(
			'{"experiences": [{"dateFrom": "2020-01-01"}]}')}),
	'2020-01-01',
	'nor does ocean_person_experiences()');
$node->safe_psql('postgres',
	"SELECT ocean_enrich_person(ocean_person_request(email => 'a\@example.com'))");
is($node->safe_psql('postgres', 'SELECT count(*) FROM ocean_enrich.limits'),
	4, 'nor does the view of the limits');
is( $node->safe_psql(
		'postgres', q{
		SELECT count(*) FROM pg_depend AS d
		JOIN pg_operator AS o ON d.refclassid = 'pg_operator'::regclass AND d.refobjid = o.oid
		WHERE o.oprowner = 'mallory'::regrole}),
	0, 'nothing depends on one');

done_testing();
