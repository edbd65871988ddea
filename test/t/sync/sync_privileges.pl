# sync_privileges.pl
#	Whatever users have planted - triggers, expressions, casts, policies,
#	operators - runs with the rights of the table's owner and no others, whoever
#	made the sync; and who may not pay does not.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node fails books_agree wait_until);
use SyncTest qw(owner create settled status);
use PostgreSQL::Test::Utils;
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);
owner($node, $_) foreach qw(anna mallory);

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Not by SET ROLE, which could be undone.
sub mallory { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'mallory' ]) }

# What runs notes by whom, and tries to become more.

mallory(q{
	CREATE TABLE seen (what text, who name DEFAULT current_user);
	GRANT INSERT ON seen TO PUBLIC;
	CREATE FUNCTION note(what text) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.seen (what) VALUES (what);
		BEGIN
			RESET ROLE;
			INSERT INTO public.seen (what) VALUES (what || ' after RESET ROLE');
		EXCEPTION WHEN OTHERS THEN
			NULL;
		END;
		BEGIN
			SET SESSION AUTHORIZATION postgres;
			INSERT INTO public.seen (what) VALUES (what || ' after SET SESSION AUTHORIZATION');
		EXCEPTION WHEN OTHERS THEN
			NULL;
		END;
		BEGIN
			ALTER ROLE mallory SUPERUSER;
		EXCEPTION WHEN OTHERS THEN
			NULL;
		END;
		BEGIN
			UPDATE ocean_enrich.sync SET owner = 'postgres'::regrole;
		EXCEPTION WHEN OTHERS THEN
			NULL;
		END;
		PERFORM set_config('search_path', 'mallory_path', false);
		RETURN true;
	END $$;
	CREATE FUNCTION noted(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS
		$$ SELECT CASE WHEN public.note($1) THEN $2 END $$;
	CREATE FUNCTION on_update() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM public.note('trigger');
		RETURN NEW;
	END $$;
	CREATE FUNCTION is_fine(jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS
		$$ SELECT public.note('domain') $$;
	CREATE DOMAIN answer AS jsonb CHECK (public.is_fine(VALUE));
	CREATE DOMAIN number AS integer CHECK (public.note('key domain'));
	CREATE TABLE trap (id number PRIMARY KEY, email text, enriched answer,
		city text GENERATED ALWAYS AS (public.noted('generated', enriched ->> 'location')) STORED);
	CREATE INDEX ON trap ((public.noted('index', email)));
	ALTER TABLE trap ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
	CREATE POLICY p ON trap USING (public.note('policy'));
	CREATE TRIGGER before_row BEFORE UPDATE ON trap FOR EACH ROW EXECUTE FUNCTION on_update();
	CREATE TRIGGER after_row AFTER UPDATE ON trap FOR EACH ROW EXECUTE FUNCTION on_update();
	CREATE TRIGGER after_statement AFTER UPDATE ON trap FOR EACH STATEMENT EXECUTE FUNCTION on_update();
	CREATE CONSTRAINT TRIGGER deferred AFTER UPDATE ON trap DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION on_update();
	INSERT INTO trap VALUES (1, 'one@example.com'), (2, 'two@example.com')});

# Made by the superuser, for mallory's table

sql(q{DELETE FROM seen;
	SELECT ocean_enrich.create_sync('trap', 'trap',
		'ocean_person_request(email => noted(''request'', email))', 'enriched',
		condition => 'noted(''condition'', ''t'') IS NOT NULL')});
settled($node, 'trap');
is(status($node, 'trap'), 'enabled|0|0|2|0|0|0|6.0', 'everything of a trap has run')
  or diag(sql('SELECT * FROM ocean_enrich.sync_errors'));
is(sql('SELECT DISTINCT who FROM seen'), 'mallory', 'by nobody but the owner of the table');
is(sql('SELECT string_agg(DISTINCT what, $$,$$ ORDER BY what) FROM seen'),
	'condition,domain,generated,key domain,policy,request,trigger',
	'and what ran was all of it; nobody became somebody else');
is(sql(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'}), 'f', 'mallory is no superuser');
is(sql('SELECT DISTINCT owner FROM ocean_enrich.sync'), 'mallory', 'nor are definitions changed');
is(sql('SELECT DISTINCT role FROM ocean_enrich.call'), 'mallory', 'who pays is on record');
mallory(q{UPDATE trap SET email = 'three@example.com' WHERE id = 1});
settled($node, 'trap');
is(sql('SELECT DISTINCT who FROM seen'), 'mallory', 'nor does a change make a difference');
is(sql(q{SELECT ocean_enrich.drop_sync('trap'); DELETE FROM seen}), '', 'a trap is dropped');

# Operators, functions and types in the way of our own statements

sql('GRANT CREATE ON DATABASE postgres TO mallory');
mallory(q{
	CREATE SCHEMA mallory_path;
	CREATE FUNCTION mallory_path.equal(bigint, bigint) RETURNS boolean LANGUAGE sql AS $$ SELECT public.note('operator') $$;
	CREATE OPERATOR mallory_path.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = mallory_path.equal);
	CREATE FUNCTION mallory_path.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE sql AS
		$$ SELECT NULL::int FROM (SELECT public.note('unnest')) AS n $$;
	CREATE FUNCTION mallory_path.now() RETURNS timestamptz LANGUAGE sql AS
		$$ SELECT pg_catalog.now() FROM (SELECT public.note('now')) AS n $$;
	GRANT USAGE ON SCHEMA mallory_path TO PUBLIC});
sql(q{
	SET ROLE anna;
	CREATE TABLE public.contacts (id bigint PRIMARY KEY, email text, enriched jsonb);
	INSERT INTO public.contacts VALUES (1, 'anna1@example.com');
	SET search_path = mallory_path, pg_catalog, public;
	SELECT ocean_enrich.create_sync('contacts', 'contacts', 'ocean_person_request(email => email)', 'enriched');
	INSERT INTO public.contacts VALUES (2, 'anna2@example.com');
	UPDATE public.contacts SET email = 'anna3@example.com' WHERE id OPERATOR(pg_catalog.=) 2;
	SELECT ocean_enrich.alter_sync('contacts', priority => 1);
	SELECT ocean_enrich.disable_sync('contacts');
	SELECT ocean_enrich.enable_sync('contacts')});
settled($node);
is(sql('SELECT count(*) FROM contacts WHERE enriched IS NOT NULL'), 2, 'a hostile search_path does not matter');
is(sql('SELECT count(*) FROM seen'), 0, 'nothing planted there was run');

# A trigger of one's own with another's number

my $id = sql(q{SELECT sync_id FROM ocean_enrich.sync WHERE name = 'contacts'});
my $requests = $sandbox->books->{requests};
mallory(qq{
	CREATE TABLE bait (id bigint PRIMARY KEY, email text, enriched jsonb);
	CREATE TRIGGER spend AFTER INSERT ON bait REFERENCING NEW TABLE AS ocean_new
	FOR EACH STATEMENT EXECUTE FUNCTION ocean_enrich.sync_changed('$id');
	INSERT INTO bait VALUES (2, 'bait\@example.com')});
is(sql('SELECT count(*) FROM ocean_enrich.sync_inbox'), 0, 'a trigger elsewhere notes nothing');
fails($node, q{
	SET ROLE mallory;
	CREATE TRIGGER wrong BEFORE INSERT ON bait FOR EACH ROW EXECUTE FUNCTION ocean_enrich.sync_changed('1');
	INSERT INTO bait VALUES (3)}, qr/39P01/, 'nor does one of another kind');
fails($node, q{SET ROLE mallory; SELECT ocean_enrich.sync_changed()}, qr/0A000|39P01/, 'nor without a trigger');

# Who must not pay

sql('CREATE ROLE poor; GRANT CREATE ON SCHEMA public TO poor; GRANT USAGE ON SCHEMA ocean_enrich TO poor;
	GRANT EXECUTE ON FUNCTION ocean_enrich.create_sync, ocean_person_request TO poor');
sql('SET ROLE poor; CREATE TABLE purse (id integer PRIMARY KEY, email text, enriched jsonb)');
fails($node, q{SET ROLE poor; SELECT ocean_enrich.create_sync('purse', 'purse', 'ocean_person_request(email => email)', 'enriched')},
	qr/42501: role "poor" is not allowed to submit requests/, 'who may not submit may not keep a column');
fails($node, q{SELECT ocean_enrich.create_sync('purse', 'purse', 'ocean_person_request(email => email)', 'enriched')},
	qr/42501: role "poor" is not allowed to submit requests/, 'nor may another one for him');
sql('CREATE ROLE nobody_at_all LOGIN');
fails($node, q{SET ROLE nobody_at_all; SELECT ocean_enrich.create_sync('a', 'contacts', 'NULL', 'enriched')},
	qr/42501: permission denied for schema ocean_enrich/, 'PUBLIC has nothing of all that');
fails($node, q{SET ROLE nobody_at_all; TABLE ocean_enrich.sync_row},
	qr/42501: permission denied/, 'nor sees it');

# Whose rows nobody may look at by way of the request

sql(q{CREATE TABLE secrets (email text); INSERT INTO secrets VALUES ('secret@example.com')});
fails($node, q{
	SET ROLE mallory;
	SELECT ocean_enrich.create_sync('spy', 'bait',
		'ocean_person_request(email => (SELECT email FROM secrets))', 'enriched')},
	qr/42501: permission denied for table secrets/, 'a request reads what its owner may read');
is($sandbox->books->{requests}, $requests, 'nothing was sent for all that');

# A slow one does not hold up the others.

mallory(q{
	CREATE TABLE slow (id integer PRIMARY KEY, email text, enriched jsonb);
	CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_sleep(3600);
		RETURN NEW;
	END $$;
	CREATE TRIGGER slowly BEFORE UPDATE ON slow FOR EACH ROW EXECUTE FUNCTION slowly();
	INSERT INTO slow VALUES (1, 'slow@example.com')});
create($node, 'mallory', 'slow');
wait_until($node, q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')});
sql(q{INSERT INTO contacts VALUES (50, 'quick@example.com')});
settled($node);
settled($node, 'slow');
is(sql(q{SELECT error_code FROM ocean_enrich.sync_errors WHERE name = 'slow'}), '57014',
	'a trigger that does not end is ended');
books_agree($node, $sandbox, 'at the end');

done_testing();
