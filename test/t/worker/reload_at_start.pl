# reload_at_start.pl
#	A setting that is changed while the worker starts is not lost: the postmaster's
#	signal comes before there is anybody to hear it.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node wait_until books_agree);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $sandbox = OceanTest::Sandbox->new;

# Each process sleeps before it sets its handlers.  None but the worker shall come.
my $node = node($sandbox, extra_conf => <<'END');
post_auth_delay = 2
ocean_enrich.queue_enabled = off
autovacuum = off
END
my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;

# The processes that the postmaster has started.
sub children
{
	return split ' ', `ps -o pid= --ppid $postmaster`;
}

my $session = $node->background_psql('postgres');
$session->query_safe('SELECT 1');
my %known = map { $_ => 1 } children();

sub workers
{
	return grep { !$known{$_} } children();
}

$node->append_conf('postgresql.conf', 'ocean_enrich.queue_enabled = on');
$session->query_safe(q{SELECT ocean_enrich.submit(ocean_person_request(email => 'queued@example.com'))});
my $deadline = time() + 60;
sleep 0.01 until workers() || time() > $deadline;
is(scalar(workers()), 1, 'it starts');
$session->query_safe('SELECT pg_reload_conf()');
wait_until($node, q{SELECT state = 'answered' FROM ocean_enrich.call});
pass('it has heard of the change');
books_agree($node, $sandbox, 'reloaded');
$session->quit;

done_testing();
