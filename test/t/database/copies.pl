# copies.pl
#	CREATE DATABASE ... TEMPLATE copies what is queued and what was on the wire.
#	The copy sends nothing of it, lists it, and takes over or cancels what it is told
#	to.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails wait_until books_agree);
use PostgreSQL::Test::Utils;
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, extra_conf => <<'END');
shared_preload_libraries = 'ocean_enrich'
ocean_enrich.queue_enabled = off
ocean_enrich.worker_idle_timeout = '1s'
END

sub copy { return $node->safe_psql('copy', $_[0]) }

sub requests
{
	my ($email) = @_;
	return $sandbox->books(identity => $email)->{people}{$email}{requests} // 0;
}

sub state_of
{
	my ($email) = @_;
	return "SELECT state FROM ocean_enrich.call WHERE request #>> '{person,email}' = '$email'";
}

$node->safe_psql('postgres', q{
	SELECT ocean_enrich.submit(ocean_person_request(email => email || '@example.com'))
	FROM unnest(ARRAY['anna', 'berta', 'carla', 'dora', 'emma', 'frida']) AS email;
	SELECT ocean_enrich.submit(ocean_person_request(email => 'later@example.com'), 10, now() + interval '1 day');
	SELECT ocean_enrich.cancel(call_id) FROM ocean_enrich.call
	WHERE request #>> '{person,email}' = 'frida@example.com'});
fails($node, 'SELECT ' . enrich('sb-cut-lost.gerda@example.com'), qr/OE504/, 'one without an outcome');

# On the wire when the server dies
$sandbox->config(hold => JSON::PP::true);
my $query = OceanTest::Query->start($node, 'SELECT ' . enrich('wire@example.com'));
$sandbox->wait(held => 1);
$node->stop('immediate');
$query->finish;
$sandbox->config(hold => JSON::PP::false);
# Nobody calls before it is copied, so nobody looks at what was on the wire.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->start;
$node->safe_psql('template1', 'CREATE DATABASE copy TEMPLATE postgres');
is(copy(q{SELECT waiting FROM ocean_enrich.queue_status}), 6, 'copied: what is queued');
my $requests = $sandbox->books->{requests};

# The copy's queue is on, its own calls go

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'ocean_enrich'");
$node->restart;
$node->safe_psql('postgres', 'ALTER DATABASE copy SET ocean_enrich.queue_enabled = on');
copy(q{SELECT ocean_enrich.submit(ocean_person_request(email => 'own@example.com'))});
wait_until($node, state_of('own@example.com') =~ s/state/state = 'answered'/r, 'copy');
copy('SELECT ocean_enrich.wake()');
copy(q{SELECT ocean_enrich.submit(ocean_person_request(email => 'own2@example.com'), -5)});
wait_until($node, state_of('own2@example.com') =~ s/state/state = 'answered'/r, 'copy');
is($sandbox->books->{requests}, $requests + 2, 'the copy sends its own calls alone');
is(copy(q{SELECT string_agg(request #>> '{person,email}', ' ' ORDER BY c.call_id)
		FROM ocean_enrich.copied_calls JOIN ocean_enrich.call AS c USING (call_id) WHERE c.state = 'queued'}),
	join(' ', map { "$_\@example.com" } qw(anna berta carla dora emma later)),
	'it lists what it does not send');
is(copy(q{SELECT waiting, doing FROM ocean_enrich.queue_status}), '0|idle', 'and does not wait for it');
like(slurp_file($node->logfile), qr/LOG:  6 queued calls came with a copy of the database and are not sent/,
	'the log says so');
my $worker = q{SELECT count(*) FROM pg_stat_activity
	WHERE backend_type = 'ocean_enrich worker' AND datname = 'copy'};
wait_until($node, $worker =~ s/count\(\*\)/count(*) = 0/r);
pass('its worker leaves');

# What was on the wire is not sent

is(copy(state_of('wire@example.com') =~ s/state/state, detail/r),
	'unknown|the request was on the wire when the database was copied', 'on the wire when it was copied: nobody will know');
fails($node, 'SELECT ' . enrich('wire@example.com'), qr/OE504: an equal request was sent before/,
	'on the wire when it was copied: not sent', database => 'copy');

# Nothing that makes others of the queue due makes these due

copy(q{UPDATE ocean_enrich.call SET next_attempt_at = 'infinity' WHERE request #>> '{person,email}' = 'emma@example.com'});
copy('SELECT ocean_enrich.wake()');
copy(q{SELECT ocean_enrich.submit(ocean_person_request(email => 'own3@example.com'))});
wait_until($node, state_of('own3@example.com') =~ s/state/state = 'answered'/r, 'copy');
is(copy(q{SELECT next_attempt_at FROM ocean_enrich.call WHERE request #>> '{person,email}' = 'emma@example.com'}),
	'infinity', 'what waits for a decision elsewhere is left alone');

# Taken out, taken over, but not waited for

my $id = sub { copy("SELECT call_id FROM ocean_enrich.call WHERE request #>> '{person,email}' = '$_[0]\@example.com'") };
my ($anna, $berta, $carla, $dora, $emma, $later) = map { $id->($_) } qw(anna berta carla dora emma later);
fails($node, "SELECT ocean_enrich.wait(ARRAY[$anna])",
	qr/55000: call $anna belongs to the queue of another database\nDETAIL:  The call came with a copy .*\nHINT:  .*copied_calls/,
	'nobody waits for what does not come', database => 'copy');
is(copy("SELECT ocean_enrich.cancel($anna)"), 't', 'cancelled');
is(copy("SELECT ocean_enrich.forget(email => 'dora\@example.com')"), 1, 'erased');
is(copy(q{SELECT waiting, cancelled_today FROM ocean_enrich.queue_status}), '0|3', 'which is no change of what waits');
is(copy("SELECT ocean_enrich.retry($berta)"), 't', 'taken over');
wait_until($node, state_of('berta@example.com') =~ s/state/state = 'answered'/r, 'copy');
copy("UPDATE ocean_enrich.call SET waits_for = 'budget' WHERE call_id = $later");
is(copy("SELECT ocean_enrich.retry($later)"), 't', 'one that is not due');
is(copy("SELECT waits_for FROM ocean_enrich.call WHERE call_id = $later"), 'budget', 'still waits for what it waited for');
is(copy("SELECT ocean_enrich.retry($later)"), 'f', 'is its own then');
is(copy("SELECT state, next_attempt_at > now() FROM ocean_enrich.call WHERE call_id = $later"), 'queued|t', 'and is due as before');
is(copy(q{SELECT waiting FROM ocean_enrich.queue_status}), 1, 'it waits');
is(copy("SELECT ocean_enrich.cancel($later)"), 't', 'and can be cancelled');
is(copy(q{SELECT waiting FROM ocean_enrich.queue_status}), 0, 'as any other');
is(copy("SELECT count(*) FILTER (WHERE ocean_enrich.retry(call_id)) FROM ocean_enrich.copied_calls"), 2, 'all that is left');
wait_until($node, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state IN ('queued', 'sent'))}, 'copy');
is(copy('SELECT count(*) FROM ocean_enrich.copied_calls'), 0, 'nothing is left');

# A decision that is taken here counts here

my $gerda = $id->('sb-cut-lost.gerda');
copy(q{UPDATE ocean_enrich.call SET background = true WHERE state = 'unknown'});
copy("SELECT ocean_enrich.resolve($gerda, 'give up')");
$node->safe_psql('postgres', "UPDATE ocean_enrich.call SET background = true, resolution = 'pay again' WHERE call_id = $gerda");
$node->safe_psql('postgres', 'SELECT ocean_enrich.wake()');
wait_until($node, state_of('sb-cut-lost.gerda@example.com') =~ s/state/bool_or(state = 'queued')/r);
pass('a decision of the original counts there');
$node->safe_psql('postgres', "SELECT ocean_enrich.cancel($gerda)");
$requests = $sandbox->books->{requests};
copy("SELECT ocean_enrich.resolve($gerda, 'pay again')");
wait_until($node, q{SELECT count(*) = 2 FROM ocean_enrich.call WHERE state = 'unknown'
	AND request #>> '{person,email}' = 'sb-cut-lost.gerda@example.com'}, 'copy');
is($sandbox->books->{requests}, $requests + 1, 'one of the copy in the copy');

# The original goes on with its own

$node->append_conf('postgresql.conf', 'ocean_enrich.queue_enabled = on');
$node->reload;
wait_until($node, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call
	WHERE state = 'sent' OR state = 'queued' AND next_attempt_at <= now())});
is(join(' ', map { requests("$_\@example.com") } qw(anna berta carla dora emma own own2 own3 later)),
	'1 2 2 1 2 1 1 1 0', 'each database has sent its own, and the copy what it took over');
is($node->safe_psql('postgres', state_of('wire@example.com')), 'unknown', 'the original knows that it was cut off');
is($node->safe_psql('postgres', 'SELECT count(*) FROM ocean_enrich.copied_calls'), 0, 'and has nothing of anybody else');

done_testing();
