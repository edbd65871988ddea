# 101_read_ahead_serial.pl
#	What must not read ahead: calls that not every row makes, forms that the
#	planner gives no place for it, queries in which somebody could notice, and
#	everything when it is turned off.  The number of requests is that of a server
#	without Read Ahead.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::Bin;

use ReadAheadTest;
use Test::More;

my $test = ReadAheadTest->new;

# Calls that depend on something

$test->serial('a branch of CASE', q{
	SELECT CASE WHEN id <= 3 THEN ocean_enrich_person(req) END FROM contact},
	requests => 3);
$test->serial('ELSE of CASE', q{
	SELECT CASE id WHEN 1 THEN NULL ELSE ocean_enrich_person(req) END FROM contact},
	requests => 7);
$test->serial('second condition of CASE', q{
	SELECT CASE WHEN grp = 1 THEN 1
		WHEN ocean_enrich_person(req) ->> 'id' > '8' THEN 2 END FROM contact},
	requests => 4);
$test->serial('second argument of COALESCE',
	q{SELECT coalesce(NULLIF(req, request(1)), ocean_enrich_person(request(id + 10)))
	FROM contact},
	requests => 1);
$test->serial('second operand of AND', q{
	SELECT id <= 2 AND ocean_enrich_person(req) ->> 'id' > '8' FROM contact},
	requests => 2);
$test->serial('second operand of OR', q{
	SELECT id FROM contact WHERE id <= 2 OR ocean_enrich_person(req) ->> 'id' > '8'},
	requests => 6);
$test->serial('FILTER of an aggregate', q{
	SELECT count(ocean_enrich_person(req)) FILTER (WHERE id <= 2) FROM contact},
	requests => 2);
$test->serial('IN a list of calls', q{
	SELECT id FROM contact
	WHERE 'x' = ANY (CASE WHEN id = 1 THEN ARRAY[ocean_enrich_person(req) ->> 'id'] END)},
	requests => 1);
$test->serial('the set of a set', q{
	SELECT ocean_enrich_person(req), generate_series(1, 2) FROM contact WHERE id <= 2},
	requests => 4);
$test->serial('NULL',
	'SELECT ocean_enrich_person(CASE WHEN id <= 2 THEN req END) FROM contact WHERE id <> 1',
	requests => 1);

# Sub-selects that are asked now and then

$test->serial('a scalar sub-select', q{
	SELECT (SELECT ocean_enrich_person(req) ->> 'id' FROM contact WHERE id = o.id)
	FROM other o WHERE flag},
	requests => 4);
$test->serial('EXISTS', q{
	SELECT EXISTS (SELECT FROM contact WHERE ocean_enrich_person(req) ->> 'id' > '0')},
	requests => 1);
$test->serial('IN a correlated sub-select', q{
	SELECT id FROM other
	WHERE ''||id IN (SELECT ocean_enrich_person(req) ->> 'id' FROM contact WHERE id = other.id)},
	requests => 8);

# Places that are no plan node's own

$test->sql('CREATE TABLE target (id int PRIMARY KEY, req jsonb, p jsonb)');
$test->serial('VALUES', q{
	INSERT INTO target (id, p)
	VALUES (1, ocean_enrich_person(request(1))), (2, ocean_enrich_person(request(2)))},
	requests => 2);
$test->serial('INSERT, one row',
	q{INSERT INTO target VALUES (1, NULL, ocean_enrich_person(request(1)))},
	requests => 1);
$test->serial('RETURNING',
	q{UPDATE contact SET grp = 2 RETURNING ocean_enrich_person(req) ->> 'id'},
	requests => 8);
$test->serial('ON CONFLICT DO UPDATE', q{
	INSERT INTO target SELECT id, req FROM contact WHERE id <= 3;
	INSERT INTO target SELECT id, req FROM contact
	ON CONFLICT (id) DO UPDATE SET p = ocean_enrich_person(excluded.req)},
	requests => 3);
$test->serial('MERGE, in its actions', q{
	MERGE INTO contact USING other USING_ON
	WHEN MATCHED AND flag THEN UPDATE SET enriched = ocean_enrich_person(req)} =~
	  s/USING_ON/ON other.id = contact.id/r,
	requests => 4);
$test->serial('a constant',
	q{SELECT ocean_try_enrich_person('{"person": {"name": "Anna Berg"}}') FROM other WHERE id <= 2}
	  =~ s/SELECT (.*?\)) FROM/SELECT ($1).status FROM/r,
	requests => 2);

done_testing();
