# submit_waits.pl
#	Statements that wait for a session that drops or changes their table: they see what it
#	is then, and what is gone is an error with a name.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node wait_until);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);
my $submit = q{SELECT ocean_enrich.submit(ocean_person_request(email => 'anna@example.com'))};

# What comes of STATEMENT if CHANGE is committed while it waits for the table.  FIRST
# is run before in the same session.
sub waits_for
{
	my ($change, $statement, $first) = @_;
	my $changer = $node->background_psql('postgres');
	$changer->query_safe('SELECT pg_advisory_lock(1)');
	my $query = OceanTest::Query->start($node, "$first; SELECT pg_advisory_lock(1); $statement");
	wait_for_lock('advisory');
	$changer->query_safe("BEGIN; $change; SELECT pg_advisory_unlock(1)");
	wait_for_lock('relation');
	$changer->query_safe('COMMIT');
	$changer->quit;
	return ($query->finish)[1];
}

sub wait_for_lock
{
	my ($kind) = @_;
	wait_until($node, qq{SELECT EXISTS (SELECT FROM pg_stat_activity
		WHERE backend_type = 'client backend' AND wait_event_type = 'Lock' AND wait_event = '$kind')});
	return;
}

# It is dropped

foreach my $first ('SELECT', $submit)
{
	like(waits_for('DROP EXTENSION ocean_enrich', $submit, $first),
		qr/ERROR:  42P01: table "ocean_enrich.call" does not exist/,
		"the extension is dropped under submit() after \"$first\"");
	$node->safe_psql('postgres', 'CREATE EXTENSION ocean_enrich');
}
like(waits_for('DROP EXTENSION ocean_enrich', q{SELECT * FROM ocean_enrich.estimate('SELECT')}, 'SELECT'),
	qr/ERROR:  42P01: extension "ocean_enrich" has no table "ocean_enrich\.call"/,
	'it is dropped under estimate()');
$node->safe_psql('postgres', 'CREATE EXTENSION ocean_enrich');

$node->safe_psql('postgres', 'CREATE TABLE kept (id integer PRIMARY KEY, email text, enriched jsonb)');
like(waits_for('DROP TABLE kept', q{SELECT ocean_enrich.create_sync('kept', 'kept',
		'ocean_person_request(email => email)', 'enriched')}, 'SELECT'),
	qr/ERROR:  42P01: relation with OID \d+ does not exist/,
	'the table is dropped under create_sync()');

# It gets a trigger

$node->safe_psql('postgres', q{
	CREATE TABLE seen (request jsonb);
	CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN INSERT INTO public.seen VALUES (NEW.request); RETURN NEW; END $$});
is(waits_for('CREATE TRIGGER see BEFORE INSERT ON ocean_enrich.call FOR EACH ROW EXECUTE FUNCTION see()',
		$submit, $submit), '', 'the ledger gets a trigger under submit()');
is($node->safe_psql('postgres', 'SELECT count(*) FROM seen'), 1, 'which sees the row');

done_testing();
