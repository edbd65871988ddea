# planted_casts.pl
#	A type of an ordinary role's with casts to and from text and jsonb, which
#	PostgreSQL applies by itself: planted before and after CREATE EXTENSION, in the
#	columns that a sync reads and writes.  The casts run with the rights of
#	the table's owner and no others, whoever has defined the sync.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node fails wait_until);
use SyncTest qw(owner settled status);
use PostgreSQL::Test::Utils;
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);
sub sql { return $node->safe_psql('postgres', $_[0]) }

# Not by SET ROLE, which could be undone.
sub mallory { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'mallory' ]) }

# By whom each cast has run since, as "cast:role"
sub ran
{
	my ($offset) = @_;
	my %ran = map { $_ => 1 } slurp_file($node->logfile, $offset) =~ /planted cast (\w+:\w+)/g;
	return join ' ', sort keys %ran;
}

# A disguise is a text in a composite type.  Not everything is as immutable as it says.
my @casts = (
	{ from => 'disguise', to => 'text', value => '($1).it' },
	{ from => 'disguise', to => 'jsonb', value => '($1).it::jsonb' },
	{ from => 'disguise', to => 'boolean', value => 'true' },
	{ from => 'text', to => 'disguise', value => 'row($1)::public.disguise' },
	{ from => 'jsonb', to => 'disguise', value => 'row($1::text)::public.disguise' });
sub plant
{
	my ($context) = @_;
	mallory('CREATE TYPE public.disguise AS (it text)');
	mallory(qq{
		CREATE FUNCTION $_->{from}_to_$_->{to}($_->{from}) RETURNS $_->{to} LANGUAGE plpgsql IMMUTABLE AS \$\$
		BEGIN
			RAISE LOG 'planted cast $_->{from}_to_$_->{to}:%', current_user;
			RETURN $_->{value};
		END \$\$;
		CREATE CAST ($_->{from} AS $_->{to})
			WITH FUNCTION $_->{from}_to_$_->{to}($_->{from}) AS $context})
	  foreach @casts;
	mallory(q{CREATE FUNCTION looks_fine(disguise) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN true});
	return;
}

# What mallory may do without the extension, which is dropped in between
sql(q{
	DROP EXTENSION ocean_enrich;
	CREATE ROLE mallory LOGIN;
	GRANT CREATE ON SCHEMA public TO mallory});
my $rights = q{
	GRANT USAGE ON SCHEMA ocean_enrich TO mallory;
	GRANT EXECUTE ON FUNCTION ocean_person_request, ocean_enrich_person(jsonb), ocean_enrich.submit, ocean_enrich.create_sync,
		ocean_enrich.alter_sync, ocean_enrich.enable_sync, ocean_enrich.disable_sync, ocean_enrich.drop_sync TO mallory;
	GRANT SELECT ON ocean_enrich.sync_status, ocean_enrich.sync_errors TO mallory;
	GRANT SELECT, INSERT, UPDATE ON ocean_enrich.budget TO mallory};

foreach my $context ('IMPLICIT', 'ASSIGNMENT')
{
	foreach my $when ('before', 'after')
	{
		my $case = "AS $context, $when CREATE EXTENSION";
		plant($context) if $when eq 'before';
		sql("CREATE EXTENSION ocean_enrich; $rights");
		plant($context) if $when eq 'after';
		is(sql(q{
				SELECT string_agg(pg_describe_object(d.classid, d.objid, d.objsubid), ', ')
				FROM pg_depend AS d JOIN pg_shdepend AS s ON s.classid = d.refclassid AND s.objid = d.refobjid
				WHERE s.refobjid = 'mallory'::regrole AND s.deptype = 'o'
					AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
					AND d.deptype IN ('n', 'a') AND d.classid NOT IN ('pg_cast'::regclass, 'pg_proc'::regclass)}),
			'', "$case: nothing depends on it");

		# The superuser makes a sync for mallory's table, in whose request and
		# condition PostgreSQL applies the casts, that of a constant when it plans.
		my $log = -s $node->logfile;
		my %kept = $context eq 'IMPLICIT'
		  ? (argument => 'ocean_person_request(email => email)', whole => 'request')
		  : (argument => 'ocean_person_request(email => email::text)', whole => 'request');
		foreach my $name (sort keys %kept)
		{
			mallory(qq{
				CREATE TABLE $name (id integer PRIMARY KEY, email disguise, request disguise, good disguise, enriched jsonb);
				INSERT INTO $name VALUES (1, row('$name-1-$context-$when\@example.com'),
					row('{"person": {"email": "$name-2-$context-$when\@example.com"}}'), row('yes'))});
			sql(qq{SELECT ocean_enrich.create_sync('$name', '$name', '$kept{$name}', 'enriched'}
				  . ($context eq 'IMPLICIT' ? q{, condition => 'good AND looks_fine(''constant''::text)'} : '') . ')');
			settled($node, $name);
			is(sql("SELECT enriched IS NOT NULL FROM $name"), 't', "$case: $name: the row is enriched");
			sql(qq{INSERT INTO $name SELECT 2, email, request, good FROM $name});
			sql(qq{UPDATE $name SET email = row('$name-3-$context-$when\@example.com'),
				request = row('{"person": {"email": "$name-4-$context-$when\@example.com"}}') WHERE id = 1});
			settled($node, $name);
			is(sql("SELECT count(*) FROM $name WHERE enriched IS NOT NULL"), 2, "$case: $name: others, too");

			# The target becomes a disguise.
			fails($node, "ALTER TABLE $name ADD other disguise; SELECT ocean_enrich.create_sync('other', '$name', 'request', 'other')",
				qr/42804: target column "other" is of type disguise, not jsonb/, "$case: $name: it is no target");
			mallory("ALTER TABLE $name ALTER enriched TYPE disguise USING NULL");
			sql(qq{UPDATE $name SET email = row('$name-5-$context-$when\@example.com'),
				request = row('{"person": {"email": "$name-6-$context-$when\@example.com"}}') WHERE id = 1});
			wait_until($node, qq{
				SELECT state = 'stopped' OR waiting = 0 AND in_flight = 0 AND NOT EXISTS (SELECT FROM ocean_enrich.sync_inbox)
				FROM ocean_enrich.sync_status WHERE name = '$name'});
			like(sql("SELECT enriched FROM $name WHERE id = 1"), qr/\b$name-[56]-$context-$when\@/,
				"$case: $name: as one it is written all the same");
		}
		like(ran($log), qr/disguise_to_jsonb:mallory/, "$case: casts have run");
		unlike(ran($log), qr/:(?!mallory\b)/, "$case: by nobody but the owner of the table");

		# In statements of mallory's own, on our tables and functions
		$log = -s $node->logfile;
		mallory(q{
			INSERT INTO ocean_enrich.budget VALUES ('mallory', 'day', 1000);
			UPDATE ocean_enrich.budget SET role = (row('mallory')::disguise)::text;
			SELECT ocean_enrich_person((row('{"person": {"email": "own@example.com"}}')::disguise)::jsonb);
			SELECT ocean_enrich.submit((row('{"person": {"email": "queued@example.com"}}')::disguise)::jsonb)});
		wait_until($node, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state IN ('queued', 'sent'))});
		is(ran($log), 'disguise_to_jsonb:mallory disguise_to_text:mallory', "$case: in one's own statements one's own rights");
		is(sql(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'}), 'f', "$case: nobody has become superuser");

		sql(q{SELECT ocean_enrich.drop_sync(name) FROM ocean_enrich.sync});
		mallory('DROP TABLE argument, whole; DROP TYPE disguise CASCADE');
		sql('DROP EXTENSION ocean_enrich');
	}
}

done_testing();
