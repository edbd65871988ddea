# row_triggers.pl
#	Row triggers of the administrator on the ledger see each change of a row, whoever
#	makes it, and leave nothing behind in the worker.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails wait_until);
use PostgreSQL::Test::Utils;
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);

sub sql
{
	my ($query) = @_;
	return $node->safe_psql('postgres', $query);
}

# How often each trigger saw a call come into a state
sub seen
{
	my ($name) = @_;
	return sql(qq{
		SELECT string_agg(concat_ws(' ', trigger, state, count), ', ' ORDER BY trigger, state::text)
		FROM (SELECT trigger, state, count(*) FROM seen WHERE email ~ '^$name' GROUP BY trigger, state) AS s});
}

sub settled
{
	my ($name, $count) = @_;
	wait_until($node, qq{
		SELECT count(*) = $count FROM ocean_enrich.call
		WHERE state = 'answered' AND request #>> '{person,email}' ~ '^$name'});
	return;
}

# The WHEN of a trigger is evaluated in slots of the executor's.
sql(q{
	CREATE TABLE seen (trigger text, state ocean_enrich.call_state, email text);
	CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.seen VALUES (TG_NAME, NEW.state, NEW.request #>> '{person,email}');
		RETURN NEW;
	END$$;
	CREATE TRIGGER after AFTER INSERT OR UPDATE ON ocean_enrich.call FOR EACH ROW EXECUTE FUNCTION see();
	CREATE TRIGGER before BEFORE INSERT OR UPDATE ON ocean_enrich.call FOR EACH ROW EXECUTE FUNCTION see();
	CREATE TRIGGER changed AFTER UPDATE ON ocean_enrich.call FOR EACH ROW
	WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION see()});

sql('SELECT count(' . enrich(q{'session' || i || '@example.com'}) . ') FROM generate_series(1, 20) AS i');
settled('session', 20);
is(seen('session'),
	'after answered 20, after sent 20, before answered 20, before sent 20, changed answered 20', 'calls of a session: each change is seen');

sql(q{SELECT count(ocean_enrich.submit(ocean_person_request(email => 'queue' || i || '@example.com')))
	FROM generate_series(1, 100) AS i});
settled('queue', 100);
is(seen('queue'),
	'after answered 100, after queued 100, after sent 100, before answered 100, before queued 100, before sent 100, '
	. 'changed answered 100, changed sent 100',
	'calls of the queue: likewise');

# One that fills a column of its own
sql(q{
	ALTER TABLE ocean_enrich.call ADD COLUMN noted_at timestamptz DEFAULT now(), ADD COLUMN note text;
	CREATE FUNCTION take_note() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		NEW.note := coalesce(NEW.note || ' ', '') || NEW.state;
		RETURN NEW;
	END$$;
	CREATE TRIGGER note BEFORE INSERT OR UPDATE ON ocean_enrich.call FOR EACH ROW EXECUTE FUNCTION take_note()});
sql('SELECT ' . enrich('note.session@example.com'));
sql(q{SELECT ocean_enrich.submit(ocean_person_request(email => 'note.queue@example.com'))});
settled('note', 2);
is(sql(q{SELECT string_agg(note, ', ' ORDER BY call_id) FROM ocean_enrich.call WHERE note IS NOT NULL AND noted_at IS NOT NULL}),
	'sent answered, queued sent answered', 'what a trigger writes to columns of its own is kept');

# A trigger that fails
sql(q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'not this one'; END$$;
	CREATE TRIGGER refuse AFTER INSERT OR UPDATE ON ocean_enrich.call FOR EACH ROW
	WHEN (NEW.request #>> '{person,email}' = 'refused@example.com') EXECUTE FUNCTION refuse()});
fails($node, 'SELECT ' . enrich('refused@example.com'), qr/not this one/, 'a trigger that fails');
sql('SELECT ' . enrich('next@example.com'));
settled('next', 1);

$node->stop('fast');
my @warnings = grep { /WARNING|PANIC|TRAP/ } split /\n/, slurp_file($node->logfile);
is(scalar @warnings, 0, 'nothing is left behind') or diag(join "\n", @warnings);

done_testing();
