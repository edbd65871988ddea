# ledger_changed.pl
#	Somebody gives a column of the ledger another type or another name, or the table a
#	trigger that fails.  What is read and written is never taken for what it is not:
#	nothing is sent, the reason is said, the server goes on, and so do calls and queue
#	when it is as it was.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails wait_until books_agree);
use PostgreSQL::Test::Utils;
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);

sub sql
{
	my ($query) = @_;
	return $node->safe_psql('postgres', $query);
}

sql('SELECT ' . enrich('anna@example.com'));
my $begun = sql('SELECT pg_postmaster_start_time()');

# The session knows the table already.
my $session = $node->background_psql('postgres');
my $submit = q{SELECT ocean_enrich.submit(ocean_person_request(email => '%s@example.com'))};
$session->query_safe(sprintf($submit, 'berta'));
wait_until($node, q{SELECT count(*) = 2 FROM ocean_enrich.call WHERE state = 'answered'});

sql('ALTER TABLE ocean_enrich.call ALTER postponed TYPE text');
fails($node, 'SELECT ' . enrich('carla@example.com'), qr/55000: could not record the request/, 'a call is refused');
my $id = $session->query_safe(sprintf($submit, 'carla'));
wait_until($node, q{SELECT waiting = 1 FROM ocean_enrich.queue_status});
is(sql("SELECT state FROM ocean_enrich.call WHERE call_id = $id"), 'queued', 'what is queued waits');
# Not to wait for anything, but to see what it does in two seconds.
sql('SELECT pg_sleep(2)');
my @said = slurp_file($node->logfile) =~ /could not send queued requests: column "postponed" of table "ocean_enrich.call" is not as the extension created it/g;
cmp_ok(scalar @said, '>', 0, 'the log says why');
cmp_ok(scalar @said, '<', 30, '... now and then');
is($sandbox->books->{requests}, 2, 'nothing is sent');
is(sql('SELECT pause FROM ocean_enrich.queue_status'), q{calls cannot be recorded; see the server log}, '... nor does the view keep quiet');

sql('ALTER TABLE ocean_enrich.call ALTER postponed DROP DEFAULT,
	ALTER postponed TYPE integer USING postponed::integer, ALTER postponed SET DEFAULT 0');
wait_until($node, "SELECT state = 'answered' FROM ocean_enrich.call WHERE call_id = $id");
like(sql('SELECT ' . enrich('dora@example.com')), qr/^\{/, 'as it was: calls go on, and the queue');
is($session->query_safe(sprintf($submit, 'dora')) > $id, 1, 'submit() too');
wait_until($node, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state <> 'answered')});

# Two columns take each other's names.  What the session knows of the table is old.
sub swap
{
	my ($one, $other) = @_;
	return "ALTER TABLE ocean_enrich.call RENAME $one TO swapped;
		ALTER TABLE ocean_enrich.call RENAME $other TO $one; ALTER TABLE ocean_enrich.call RENAME swapped TO $other";
}
foreach (['raw', 'postponed', 'raw'], ['postponed', 'fingerprint', 'fingerprint'], ['sent_at', 'answered_at', 'sent_at'])
{
	my ($one, $other, $first) = @$_;
	sql(swap($one, $other));
	# By the names it fits in: it waits until they are right.
	like(sql(sprintf($submit, "$one.$other")), qr/^\d+$/, "$one is $other: the session queues what it can")
	  unless $one eq 'postponed';
	fails($node, 'SELECT ' . enrich("$one.$other\@example.com"),
		qr/55000: could not record the request in table "ocean_enrich.call"\nDETAIL:  .*column "$first" of table "ocean_enrich.call" is not as the extension created it/,
		"$one is $other: nothing is sent");
	sql(swap($one, $other));
}
like($session->query_safe(sprintf($submit, 'emma')), qr/^\d+$/, 'as it was: submit()');
wait_until($node, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state <> 'answered')});

# A trigger that only the queue runs into, while sessions call.
sql(q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'not this one'; END$$;
	CREATE TRIGGER refuse BEFORE UPDATE ON ocean_enrich.call FOR EACH ROW WHEN (NEW.background) EXECUTE FUNCTION refuse()});
$id = $session->query_safe(sprintf($submit, 'frida'));
wait_until($node, q{SELECT pause ^@ 'calls cannot be recorded' FROM ocean_enrich.queue_status});
my $before = () = slurp_file($node->logfile) =~ /could not send queued requests/g;
sql(join(';', map { 'SELECT ' . enrich("direct$_\@example.com") } 1 .. 50));
my $after = () = slurp_file($node->logfile) =~ /could not send queued requests/g;
cmp_ok($after - $before, '<', 5, 'fifty calls do not have the queue tried fifty times');
is(sql("SELECT state FROM ocean_enrich.call WHERE call_id = $id"), 'queued', 'what is queued waits');
sql('DROP TRIGGER refuse ON ocean_enrich.call');
wait_until($node, "SELECT state = 'answered' FROM ocean_enrich.call WHERE call_id = $id");
$session->quit;
is(sql('SELECT pg_postmaster_start_time()'), $begun, 'the server never stopped');
wait_until($node, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state <> 'answered')});
books_agree($node, $sandbox, 'at the end');

done_testing();
