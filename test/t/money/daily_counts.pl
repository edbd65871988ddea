# daily_counts.pl
#	The worker, the view ocean_enrich.limits and a new worker count the same requests
#	of a day, whatever becomes of a call that was refused before.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails wait_until);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, extra_conf => "ocean_enrich.balance_interval = 1s\nocean_enrich.retry_wait_max = 1s\n");

# By its error, which counts nothing
sub worker_counts
{
	my (undef, $error) = OceanTest::Query->start($node,
		'SET ocean_enrich.daily_limit = 1; SELECT ' . enrich('counted@example.com'))->finish;
	return $error =~ /DETAIL:  (\d+) of 1 requests/ ? $1 : $error;
}

sub agree
{
	my ($name) = @_;
	my $view = $node->safe_psql('postgres', q{SELECT coalesce(max(used), 0) FROM ocean_enrich.limits WHERE name = 'daily_limit'});
	my $worker = worker_counts();
	is($view, $worker, "$name: view and worker");
	$node->restart;
	is(worker_counts(), $worker, "$name: a new worker");
	return;
}

sub submit { return $node->safe_psql('postgres', "SELECT ocean_enrich.submit(ocean_person_request(email => '$_[0]'))"); }
sub state_is { wait_until($node, "SELECT state = '$_[1]' FROM ocean_enrich.call WHERE call_id = $_[0]"); }

$node->safe_psql('postgres', 'SELECT ' . enrich('zero@example.com'));
is(worker_counts(), 1, 'one call is counted');

# Refused once by 402, then unknown, then paid again

$sandbox->config(down => 402);
my $id = submit('again@example.com');
wait_until($node, "SELECT state = 'queued' AND status = 402 FROM ocean_enrich.call WHERE call_id = $id");
$sandbox->config(down => undef, fault => 'sb-status-500');
state_is($id, 'unknown');
$sandbox->config(fault => undef);
$node->safe_psql('postgres', "SELECT ocean_enrich.resolve($id, 'pay again')");
state_is($id, 'answered');
agree('paid again');

# Refused by 402, and then settled by an equal answer of a session

$sandbox->config(down => 402);
$id = submit('equal@example.com');
wait_until($node, "SELECT state = 'queued' AND status = 402 FROM ocean_enrich.call WHERE call_id = $id");
$sandbox->config(down => undef, balance_status => 500);
$node->safe_psql('postgres', 'SELECT ' . enrich('equal@example.com'));
$sandbox->config(balance_status => undef);
state_is($id, 'answered');
is($node->safe_psql('postgres', "SELECT reused_from IS NOT NULL FROM ocean_enrich.call WHERE call_id = $id"), 't', 'reused');
agree('reused');

# Refused by 402, and then failed because an equal one was given up

$sandbox->config(down => 402);
$id = submit('given@example.com');
wait_until($node, "SELECT state = 'queued' AND status = 402 FROM ocean_enrich.call WHERE call_id = $id");
$sandbox->config(down => undef, balance_status => 500, fault => 'sb-status-500');
fails($node, 'SELECT ' . enrich('given@example.com'), qr/OE/, 'an equal one is unknown');
$node->safe_psql('postgres', q{SELECT ocean_enrich.resolve(max(call_id), 'give up') FROM ocean_enrich.call});
$sandbox->config(balance_status => undef, fault => undef);
state_is($id, 'failed');
agree('given up');

done_testing();
