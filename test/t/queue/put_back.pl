# put_back.pl
#	What goes back to the queue is what was in it, or on the wire, until then: what
#	somebody has cancelled or deleted meanwhile does not, and is not counted.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node wait_until);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, extra_conf => "ocean_enrich.gathering_wait = 200ms\n");

sub submit
{
	my ($email) = @_;
	return $node->safe_psql('postgres',
		"SELECT ocean_enrich.submit(ocean_person_request(email => '$email'))");
}

sub wait_for_state
{
	my ($call_id, $state) = @_;
	wait_until($node, "SELECT state = '$state' FROM ocean_enrich.call WHERE call_id = $call_id");
	return;
}

sub queue_is_counted
{
	my ($length, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is( $node->safe_psql('postgres', q{
			SELECT waiting, (SELECT count(*) FROM ocean_enrich.call WHERE state = 'queued')
			FROM ocean_enrich.queue_status}), "$length|$length", $name);
}

# A call that does harm when it is to be sent is put aside; between that and this
# it is cancelled.  The triggers make the one fail and the other wait.

wait_for_state(submit('first@example.com'), 'answered');
$node->safe_psql('postgres', q{
	CREATE FUNCTION harm() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		RAISE 'this one cannot be sent';
	END $$;
	CREATE TRIGGER harm BEFORE UPDATE ON ocean_enrich.call FOR EACH ROW
		WHEN (NEW.state = 'sent' AND NEW.request #>> '{person,email}' = 'harm@example.com')
		EXECUTE FUNCTION harm();
	CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		WHILE current_setting('application_name') = 'ocean_enrich worker' AND EXISTS (SELECT
			FROM ocean_enrich.call WHERE state = 'queued' AND request #>> '{person,email}' = 'harm@example.com')
		LOOP
			PERFORM pg_sleep(0.001);
		END LOOP;
		RETURN NULL;
	END $$;
	CREATE TRIGGER linger BEFORE UPDATE ON ocean_enrich.call FOR EACH STATEMENT EXECUTE FUNCTION linger()});
my $id = submit('harm@example.com');
wait_until($node, q{SELECT EXISTS (SELECT FROM pg_stat_activity
	WHERE backend_type = 'ocean_enrich worker' AND wait_event = 'PgSleep')});
is($node->safe_psql('postgres', "SELECT ocean_enrich.cancel($id)"), 't', 'cancelled before it is put aside');
wait_for_state(submit('second@example.com'), 'answered');
is($node->safe_psql('postgres', "SELECT state, next_attempt_at IS NULL FROM ocean_enrich.call WHERE call_id = $id"),
	'cancelled|t', '... it stays cancelled');
queue_is_counted(0, '... and is not in the queue');
$node->safe_psql('postgres', 'DROP FUNCTION linger CASCADE');

# How often it was sent before stays on record.

$node->safe_psql('postgres', q{
	CREATE TRIGGER harm_again BEFORE UPDATE ON ocean_enrich.call FOR EACH ROW
		WHEN (NEW.state = 'sent' AND NEW.attempts > 1) EXECUTE FUNCTION harm()});
$id = submit('sb-once-503.twice@example.com');
wait_until($node, "SELECT detail ~ 'cannot be sent' FROM ocean_enrich.call WHERE call_id = $id");
is($node->safe_psql('postgres', "SELECT state, attempts FROM ocean_enrich.call WHERE call_id = $id"),
	'queued|1', 'put aside after it was sent');
queue_is_counted(1, '... it is in the queue');
is($node->safe_psql('postgres', "SELECT ocean_enrich.cancel($id)"), 't', '... and can be cancelled');
$node->safe_psql('postgres', 'DROP FUNCTION harm CASCADE');

# One that was sent goes back, unless somebody has deleted it.

$sandbox->config(hold => JSON::PP::true);
$id = submit('sb-once-503.gone@example.com');
$sandbox->wait(held => 1);
$node->safe_psql('postgres', "DELETE FROM ocean_enrich.call WHERE call_id = $id");
$sandbox->config(hold => JSON::PP::false);
wait_until($node, 'SELECT in_flight = 0 FROM ocean_enrich.queue_status');
wait_for_state(submit('third@example.com'), 'answered');
queue_is_counted(0, 'what was deleted on the wire is not counted when it would go back');

# Facts of a row that somebody has changed by hand hold up nobody.

$node->append_conf('postgresql.conf', 'ocean_enrich.queue_enabled = off');
$node->reload;
my @changed = map { submit("$_\@example.com") } qw(odd even);
$node->safe_psql('postgres', "UPDATE ocean_enrich.call SET reveals_in_answer = '{NULL}', reveals_by_webhook = '{x}'
	WHERE call_id = $changed[0]");
$node->append_conf('postgresql.conf', 'ocean_enrich.queue_enabled = on');
$node->reload;
wait_for_state($_, 'answered') foreach @changed;
pass('reveals that do not exist are ignored');

done_testing();
