# 026_ledger_changed.pl
#	Somebody gives a column of the ledger another type.  What is read and written is
#	never taken for what it is not: nothing is sent, the reason is said, the server
#	goes on, and so do calls and queue when the type is back.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::Bin;

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
my @said = slurp_file($node->logfile) =~ /could not send what is queued: column 23 of table ocean_enrich.call is not as the extension made it/g;
cmp_ok(scalar @said, '>', 0, 'the log says why');
cmp_ok(scalar @said, '<', 30, '... now and then');
is($sandbox->books->{requests}, 2, 'nothing is sent');

sql('ALTER TABLE ocean_enrich.call ALTER postponed DROP DEFAULT,
	ALTER postponed TYPE integer USING postponed::integer, ALTER postponed SET DEFAULT 0');
wait_until($node, "SELECT state = 'answered' FROM ocean_enrich.call WHERE call_id = $id");
like(sql('SELECT ' . enrich('dora@example.com')), qr/^\{/, 'as it was: calls go on, and the queue');
is($session->query_safe(sprintf($submit, 'dora')) > $id, 1, 'submit() too');
$session->quit;
is(sql('SELECT pg_postmaster_start_time()'), $begun, 'the server never stopped');
wait_until($node, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state <> 'answered')});
books_agree($node, $sandbox, 'at the end');

done_testing();
