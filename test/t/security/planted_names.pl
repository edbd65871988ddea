# planted_names.pl
#	An ordinary role plants functions, views and domains named like ours, in
#	"public" before and after CREATE EXTENSION and in its temporary schema, and
#	functions that fit a call better.  Nothing of the extension is misled by that.
#	Whoever calls it by a bare name is; what the operations tell him to do helps.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node fails wait_until);
use PostgreSQL::Test::Utils;
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, extra_conf => "ocean_enrich.webhook_secret = 'secret'");

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub as { my ($role, $sql) = @_; return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]) }

# Each may fail; what counts is what has run.
sub try_all
{
	my ($role, @statements) = @_;
	$node->psql('postgres', join(";\n", @statements), on_error_stop => 0, extra_params => [ '-U', $role ]);
	return;
}

# What there is, from the catalogs

my $members = q{SELECT classid, objid FROM pg_depend
	WHERE deptype = 'e' AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'ocean_enrich')};
my @functions = map { my ($schema, $name, $types) = split /\|/;
	{ schema => $schema, name => $name, types => [ split /;/, $types // '' ] } }
  split /\n/, sql(qq{
	SELECT pronamespace::regnamespace, proname, (SELECT string_agg('pg_catalog.' || typname, ';' ORDER BY nth)
		FROM unnest(proargtypes) WITH ORDINALITY AS a (type, nth) JOIN pg_type ON pg_type.oid = type)
	FROM pg_proc WHERE ('pg_proc'::regclass, oid) IN ($members) AND 'internal'::regtype <> ALL (proargtypes)
	ORDER BY oid});
my @relations = map { my ($name, $columns) = split /\|/; { name => $name, columns => $columns } }
  split /\n/, sql(qq{
	SELECT relname, string_agg(format('CASE WHEN it THEN NULL::%s END AS %I', CASE WHEN typnamespace = 'pg_catalog'::regnamespace
		THEN format_type(atttypid, NULL) ELSE 'text' END, attname), ', ' ORDER BY attnum)
	FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid JOIN pg_type ON pg_type.oid = atttypid
	WHERE relkind IN ('r', 'v') AND ('pg_class'::regclass, pg_class.oid) IN ($members) AND attnum > 0
	GROUP BY relname ORDER BY relname});
my @types = split /\n/, sql(qq{
	SELECT typname FROM pg_type WHERE ('pg_type'::regclass, oid) IN ($members) AND typcategory <> 'A'
		AND NOT EXISTS (SELECT FROM pg_class WHERE pg_class.oid = typrelid AND relkind <> 'c')
	ORDER BY typname});
cmp_ok(@functions, '>', 40, 'functions to be named like');
cmp_ok(@relations, '>', 20, 'tables and views');
cmp_ok(@types, '>', 5, 'types');

# What is planted says by whom it is run, whatever becomes of the transaction.

sql(q{
	DROP EXTENSION ocean_enrich;
	CREATE ROLE mallory LOGIN;
	CREATE ROLE victim LOGIN;
	CREATE SCHEMA mallory AUTHORIZATION mallory;
	GRANT USAGE ON SCHEMA mallory TO PUBLIC;
	GRANT CREATE ON SCHEMA public TO mallory, victim});
my $evil = q{
	CREATE FUNCTION mallory.evil() RETURNS boolean LANGUAGE plpgsql AS
		$$ BEGIN RAISE LOG 'planted code runs as %', current_user; RETURN true; END $$;
	CREATE FUNCTION mallory.evil_trigger() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN PERFORM mallory.evil(); RETURN NEW; END $$};
as('mallory', $evil);

sub function
{
	my ($schema, $name, $arguments) = @_;
	return "CREATE FUNCTION $schema.$name($arguments) RETURNS jsonb LANGUAGE plpgsql AS "
	  . q{$$ BEGIN PERFORM mallory.evil(); RETURN NULL; END $$};
}

# All in SCHEMA that does not stand in the way of an extension in ITS_SCHEMA
sub plants
{
	my ($schema, $its_schema, $when) = @_;
	my %statements;

	foreach my $function (@functions)
	{
		next if $function->{name} eq 'ocean_person_request' && $schema eq $its_schema && $when eq 'before';
		my @arguments = ('pg_catalog.text', 'anyelement', 'VARIADIC pg_catalog._text');
		@arguments = ('email pg_catalog.text') if $function->{name} eq 'ocean_person_request';
		push @arguments, join ', ', @{ $function->{types} }
		  unless $function->{schema} eq 'public' && $schema eq $its_schema;
		$statements{"$function->{name} " . s/^VARIADIC //r} //= function($schema, $function->{name}, $_)
		  foreach @arguments;
	}
	foreach my $relation (@relations)
	{
		$statements{"view $relation->{name}"} =
		  "CREATE VIEW $schema.$relation->{name} AS SELECT $relation->{columns} FROM (SELECT mallory.evil() AS it OFFSET 0) AS evil;"
		  . "CREATE TRIGGER evil INSTEAD OF INSERT OR UPDATE OR DELETE ON $schema.$relation->{name} FOR EACH ROW "
		  . "EXECUTE FUNCTION mallory.evil_trigger()";
	}
	foreach my $type (grep { $schema ne $its_schema || !/^ocean_/ } @types)
	{
		$statements{"type $type"} = "CREATE DOMAIN $schema.$type AS text CHECK (mallory.evil())";
	}
	return map { $statements{$_} } sort keys %statements;
}

sub ran_as
{
	my ($offset) = @_;
	my %roles = map { $_ => 1 } slurp_file($node->logfile, $offset) =~ /planted code runs as (\w+)/g;
	return join ' ', sort keys %roles;
}

# Each function once, and each view and table

my %values = (
	jsonb => '{"person": {"email": "planted@example.com"}}', json => '{"id": "x"}', text => 'x', int8 => '1', int4 => '1',
	timestamptz => 'now', numeric => '1', interval => '1 ms', regclass => 'pg_class', name => 'x', bool => 'true',
	bytea => 'x', _int8 => '{1}', _text => '{x}', _name => '{id}');

sub statements
{
	my ($its_schema) = @_;
	my @statements;
	foreach my $function (@functions)
	{
		my $schema = $function->{schema} eq 'public' ? $its_schema : $function->{schema};
		my @arguments = map { "'" . ($values{s/.*\.//r} // die "no value of type $_") . "'::$_" } @{ $function->{types} };
		push @statements, "SELECT $schema.$function->{name}(" . join(', ', @arguments) . ')';
	}
	return @statements, map { "TABLE ocean_enrich.$_->{name}" } @relations;
}

# What users do, with answers that come, and all that the worker and the applier do

my $enrich = q{'{"person": {"email": "one@example.com"}}'::pg_catalog.jsonb};
sub work
{
	my ($role, $its_schema, $path) = @_;
	return split /;\n/, qq{SET search_path = $path;
		SELECT $its_schema.ocean_enrich_person($enrich);
		SELECT * FROM $its_schema.ocean_try_enrich_person($enrich);
		SELECT ($its_schema.ocean_person($its_schema.ocean_enrich_person($enrich))).name;
		SELECT * FROM $its_schema.ocean_person_experiences($its_schema.ocean_enrich_person($enrich));
		SELECT ocean_enrich.estimate('SELECT $its_schema.ocean_enrich_person(pg_catalog.jsonb_build_object(''person'',
			pg_catalog.jsonb_build_object(''email'', ''two\@example.com'')))');
		INSERT INTO ocean_enrich.budget VALUES ('$role', 'day', 100);
		UPDATE ocean_enrich.budget SET credit_limit = 200 WHERE role OPERATOR(pg_catalog.=) '$role';
		SELECT ocean_enrich.submit($enrich) AS submitted \\gset
		SELECT ocean_enrich.wait(ARRAY[:submitted]::pg_catalog._int8, '1 min');
		SELECT ocean_enrich.retry(ocean_enrich.submit('{"person": {"email": "later\@example.com"}}'::pg_catalog.jsonb,
			not_before => pg_catalog.now() OPERATOR(pg_catalog.+) '1 day'::pg_catalog.interval));
		SELECT ocean_enrich.cancel(ocean_enrich.submit('{"person": {"email": "never\@example.com"}}'::pg_catalog.jsonb,
			not_before => pg_catalog.now() OPERATOR(pg_catalog.+) '1 day'::pg_catalog.interval));
		CREATE TABLE public.${role}_kept (id pg_catalog.int4 PRIMARY KEY, email pg_catalog.text, enriched pg_catalog.jsonb);
		INSERT INTO public.${role}_kept VALUES (1, 'kept1.$role\@example.com');
		SELECT ocean_enrich.create_sync('$role', 'public.${role}_kept',
			'pg_catalog.jsonb_build_object(''person'', pg_catalog.jsonb_build_object(''email'', email))', 'enriched');
		INSERT INTO public.${role}_kept VALUES (2, 'kept2.$role\@example.com');
		UPDATE public.${role}_kept SET email = 'kept3.$role\@example.com' WHERE id OPERATOR(pg_catalog.=) 1;
		SELECT ocean_enrich.alter_sync('$role', priority => 1);
		SELECT ocean_enrich.receive_webhook('{"id": "x", "email": {"address": "x\@example.com"}}'::pg_catalog.json, 'secret');
		TABLE ocean_enrich.sync_status};
}

# As an ordinary role that may do everything that there is to grant but to read the ledger
sub grant_everything
{
	my ($its_schema) = @_;
	sql(qq{
		GRANT USAGE ON SCHEMA ocean_enrich, $its_schema TO mallory, victim;
		GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ocean_enrich TO mallory, victim;
		GRANT SELECT, INSERT, UPDATE ON ocean_enrich.budget TO mallory, victim;
		GRANT SELECT ON ocean_enrich.sync_status, ocean_enrich.sync_errors, ocean_enrich.receipts,
			ocean_enrich.budget_status, ocean_enrich.queue_status, ocean_enrich.limits, ocean_enrich.calls_in_flight,
			ocean_enrich.progress, ocean_enrich.spending TO mallory, victim});
	sql($_) foreach split /\n/, sql(qq{
		SELECT format('GRANT EXECUTE ON FUNCTION %s TO mallory, victim', oid::regprocedure)
		FROM pg_proc WHERE pronamespace = '$its_schema'::regnamespace AND ('pg_proc'::regclass, oid) IN ($members)});
	sql("GRANT USAGE ON TYPE $its_schema.ocean_person, $its_schema.ocean_enrich_result TO mallory, victim");
	return;
}

sub settled
{
	my ($role) = @_;
	wait_until($node, qq{
		SELECT waiting = 0 AND in_flight = 0 AND NOT EXISTS (SELECT FROM ocean_enrich.sync_inbox)
		FROM ocean_enrich.sync_status WHERE name = '$role'});
	is(sql(qq{SELECT count(*) FROM public.${role}_kept WHERE enriched IS NOT NULL}), 2, "$role: the column is kept");
	return;
}

# What stands where ours should go stops the install; and so does an overload of the
# one function that the script names without its arguments.

foreach my $plant ((map { function('public', $_->{name}, join ', ', @{ $_->{types} }) } grep { $_->{schema} eq 'public' } @functions),
	function('public', 'ocean_person_request', 'text'),
	(map { "CREATE DOMAIN public.$_ AS text" } grep { /^ocean_/ } @types))
{
	my ($what) = $plant =~ /CREATE (\w+ [\w.]+(?:\(text\))?)/;
	as('mallory', $plant);
	fails($node, 'CREATE EXTENSION ocean_enrich', qr/(?:42723|42725|42710): /, "a planted $what stops the install");
	is(sql(q{SELECT count(*) FROM pg_namespace WHERE nspname = 'ocean_enrich'}), 0, 'of which nothing is left');
	sql('DROP OWNED BY mallory');
	sql(q{CREATE SCHEMA mallory AUTHORIZATION mallory; GRANT USAGE ON SCHEMA mallory TO PUBLIC;
		GRANT CREATE ON SCHEMA public TO mallory});
	as('mallory', $evil);
}

sql('CREATE SCHEMA enrichment');
foreach my $its_schema ('public', 'enrichment')
{
	foreach my $when ('before', 'after')
	{
		my $case = "in $its_schema, $when CREATE EXTENSION";
		my @plants = plants('public', $its_schema, $when);

		if ($when eq 'before')
		{
			as('mallory', $_) foreach join ";\n", @plants;
		}
		sql("CREATE EXTENSION ocean_enrich SCHEMA $its_schema");
		grant_everything($its_schema);
		as('mallory', join ";\n", @plants) if $when eq 'after';
		cmp_ok(scalar @plants, '>', 150, "$case: much is planted");
		is(sql(qq{
				SELECT string_agg(pg_describe_object(d.classid, d.objid, d.objsubid), ', ') FROM pg_depend AS d
				WHERE EXISTS (SELECT FROM pg_shdepend AS s
						WHERE s.classid = d.refclassid AND s.objid = d.refobjid AND s.deptype = 'o'
							AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
							AND s.refobjid = 'mallory'::regrole)
					AND ((d.classid, d.objid) IN ($members)
						OR d.objid IN (SELECT r.oid FROM pg_rewrite AS r WHERE ('pg_class'::regclass, ev_class) IN ($members))
						OR d.objid IN (SELECT a.oid FROM pg_attrdef AS a WHERE ('pg_class'::regclass, adrelid) IN ($members))
						OR d.objid IN (SELECT c.oid FROM pg_constraint AS c WHERE ('pg_class'::regclass, conrelid) IN ($members)))}),
			'', "$case: nothing of ours depends on it");

		my $log = -s $node->logfile;
		foreach my $role ('postgres', 'victim')
		{
			foreach my $path ('public, pg_catalog', 'pg_catalog, public')
			{
				try_all($role, "SET search_path = $path", statements($its_schema));
			}
			as($role, join ";\n", work($role, $its_schema, 'public, pg_catalog'));
			settled($role);
		}
		is(ran_as($log), '', "$case: nothing planted has run");

		# In its temporary schema, which it looks through first
		my @temporary = plants('pg_temp', $its_schema, $when);
		my $path = 'pg_temp, public, pg_catalog';
		try_all('mallory', @temporary, "SET search_path = $path", statements($its_schema));
		as('mallory', join ";\n", @temporary, work('mallory', $its_schema, $path));
		settled('mallory');
		unlike(ran_as($log), qr/postgres|victim/, "$case: nor anything temporary, as somebody else");

		is(sql(q{SELECT string_agg(name, ' ' ORDER BY name) FROM ocean_enrich.sync}), 'mallory postgres victim',
			"$case: the work was done");
		sql(q{SELECT ocean_enrich.drop_sync(name) FROM ocean_enrich.sync;
			SELECT ocean_enrich.forget(email => 'one@example.com');
			SELECT ocean_enrich.apply_retention()});
		is(ran_as($log) =~ s/^mallory$//r, '', "$case: to the end");

		# A bare name finds what fits best.
		$log = -s $node->logfile;
		my %calls = (
			bare => q{ocean_enrich_person('{"person": {"email": "bare@example.com"}}')},
			full => qq{$its_schema.ocean_enrich_person('{"person": {"email": "full\@example.com"}}')});
		sql("SET search_path = $its_schema, public; SELECT $calls{bare}");
		is(ran_as($log), 'postgres', "$case: a bare name finds what is planted in another schema of the path");
		$log = -s $node->logfile;
		sql("SELECT $calls{full}");
		is(ran_as($log), $its_schema eq 'public' ? 'postgres' : '',
			"$case: a full name finds what is planted " . ($its_schema eq 'public' ? 'beside it' : 'elsewhere no more'));

		sql('DROP TABLE public.postgres_kept, public.victim_kept, public.mallory_kept; DROP EXTENSION ocean_enrich; DROP OWNED BY mallory');
		sql(q{CREATE SCHEMA mallory AUTHORIZATION mallory; GRANT USAGE ON SCHEMA mallory TO PUBLIC;
			GRANT CREATE ON SCHEMA public TO mallory});
		as('mallory', $evil);
	}
}

done_testing();
