# read_ahead_rechecked.pl
#	A row that somebody else has changed meanwhile is looked at again, as it is
#	then.  A statement that has read ahead makes the same requests for it, and comes
#	to the same end, as one that makes a call after the other.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(wait_until);
use ReadAheadTest;
use Test::More;

my $test = ReadAheadTest->new;
my ($sandbox, $node) = ($test->sandbox, $test->node);
$test->sql(q{
	CREATE TABLE original AS TABLE contact;
	CREATE TABLE part (id int PRIMARY KEY, grp int, req jsonb, enriched jsonb)
		PARTITION BY RANGE (id);
	CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (1) TO (5);
	CREATE TABLE part2 PARTITION OF part FOR VALUES FROM (5) TO (100);
	CREATE TABLE laden (id int PRIMARY KEY REFERENCES other, grp int, req jsonb,
		enriched jsonb, changes int DEFAULT 0);
	CREATE FUNCTION count_change() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN NEW.changes := NEW.changes + 1; RETURN NEW; END $$;
	CREATE TRIGGER count_change BEFORE UPDATE ON laden
		FOR EACH ROW EXECUTE FUNCTION count_change()});

# Runs STATEMENT while somebody has made a CHANGE of the same table and not
# committed yet; returns what it prints, the table and the number of requests.
sub meet
{
	my ($table, $change, $statement, $concurrency) = @_;
	$test->sql(qq{
		DROP TABLE IF EXISTS go_on;
		TRUNCATE $table;
		INSERT INTO $table (id, grp, req) SELECT id, grp, req FROM original ORDER BY id});
	$sandbox->reset;
	my $other = OceanTest::Query->start($node, qq{
		SET application_name = 'other';
		BEGIN;
		$change;
		SELECT pg_advisory_lock(1);
		DO \$\$ BEGIN
			WHILE NOT EXISTS (SELECT FROM pg_class WHERE relname = 'go_on') LOOP
				PERFORM pg_sleep(0.01);
			END LOOP;
		END \$\$;
		COMMIT});
	wait_until($node, q{SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory')});
	my $query = OceanTest::Query->start($node,
		"SET ocean_enrich.concurrency = $concurrency; $statement; CALL settle()");
	wait_until($node, q{
		SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE wait_event_type = 'Lock' AND application_name <> 'other')});
	$test->sql('CREATE TABLE go_on ()');
	my ($printed) = join '', ($query->finish)[ 0, 1 ];
	$other->finish;
	return {
		printed => $printed,
		table => $test->sql(
			"SELECT id, grp, enriched -> 'email' ->> 'address' FROM $table ORDER BY id"),
		requests => $sandbox->books->{requests}
	};
}

# Another request, no longer wanted, gone, and nothing that matters
my $change = q{
	UPDATE %1$s SET req = request(id + 100) WHERE id = 3;
	UPDATE %1$s SET grp = 7 WHERE id = 4;
	DELETE FROM %1$s WHERE id = 5;
	UPDATE %1$s SET grp = grp WHERE id = 6};
my %statements = (
	'UPDATE' => 'UPDATE %s SET enriched = ocean_enrich_person(req) WHERE grp < 5',
	'UPDATE RETURNING' => q{
		UPDATE %s SET enriched = ocean_enrich_person(req) WHERE grp < 5
		RETURNING id, enriched ->> 'id'},
	'UPDATE, errors as values' => q{
		UPDATE %s SET enriched = (ocean_try_enrich_person(req)).answer WHERE grp < 5},
	'UPDATE WHERE the call' => q{
		UPDATE %s SET enriched = req
		WHERE ocean_enrich_person(req) ->> 'domain' = 'example.com' AND grp < 5},
	'UPDATE FROM' => q{
		UPDATE %1$s SET enriched = ocean_enrich_person(req) FROM other
		WHERE other.id = %1$s.id AND grp < 5},
	'UPDATE FROM LATERAL' => q{
		UPDATE %1$s SET enriched = p FROM %1$s AS c, ocean_enrich_person(c.req) AS p
		WHERE c.id = %1$s.id AND %1$s.grp < 5},
	'SELECT FOR UPDATE' => q{
		SELECT id, ocean_enrich_person(req) ->> 'id' FROM %s WHERE grp < 5 FOR UPDATE},
	'DELETE' => q{
		DELETE FROM %s WHERE grp < 5 AND ocean_enrich_person(req) ->> 'id' > '8'
		RETURNING id});

foreach my $table ('contact', 'part', 'laden')
{
	foreach my $statement (sort keys %statements)
	{
		# One kind of table is enough for most of them.
		next if $table ne 'contact' && $statement !~ /^UPDATE( FROM)?$/;
		my @arguments = ($table, map { sprintf($_, $table) }
			  ($change, $statements{$statement}));
		my $serial = meet(@arguments, 1);
		my $ahead = meet(@arguments, 16);
		is_deeply($ahead, $serial, "$statement of $table")
		  || diag explain $ahead, $serial;
		unlike($serial->{printed}, qr/ERROR/, "$statement of $table: no error");
	}
}

# What that comes to

my $seen = meet('contact', sprintf($change, 'contact'),
	sprintf($statements{'UPDATE'}, 'contact'), 16);
is($seen->{table}, join("\n",
		'1|1|p1@example.com', '2|0|p2@example.com', '3|1|p103@example.com', '4|7|',
		'6|0|p6@example.com', '7|1|p7@example.com', '8|0|p8@example.com'),
	'the row as it is then is the one that is enriched');
is($seen->{requests}, 10, 'by one more request for each that is still wanted');

done_testing();
