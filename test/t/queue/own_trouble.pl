# own_trouble.pl
#	What concerns single calls of the queue does not stop the others: calls that always
#	fail, and those whose reveals the account may not have or cannot pay.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails wait_until books_agree);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, extra_conf => <<'END');
ocean_enrich.rate_limit = 0
ocean_enrich.daily_limit = 0
ocean_enrich.balance_interval = 1s
END

sub submit
{
	my ($count, $name, $more) = @_;
	$node->safe_psql('postgres', qq{
		SELECT count(ocean_enrich.submit(ocean_person_request(email => '$name' || i || '\@example.com')}
		  . ($more ? " || '$more'" : '')
		  . qq{)) FROM generate_series(1, $count) AS i});
	return;
}

sub count_in
{
	my ($name, $condition) = @_;
	return $node->safe_psql('postgres', qq{
		SELECT count(*) FROM ocean_enrich.call
		WHERE request #>> '{person,email}' ~ '^$name' AND $condition});
}

sub wait_for_all
{
	my ($name, $state) = @_;
	wait_until($node, qq{
		SELECT bool_and(state = '$state') FROM ocean_enrich.call WHERE request #>> '{person,email}' ~ '^$name'});
	return;
}

# As the worker counts for daily_limit, and as the view does
sub counts_agree
{
	my ($name) = @_;
	my $used = $node->safe_psql('postgres',
		q{SELECT used FROM ocean_enrich.limits WHERE name = 'daily_limit'});
	fails($node, "SET ocean_enrich.daily_limit = $used; SELECT " . enrich("$name.counted\@example.com"),
		qr/OE429: .*\nDETAIL:  $used of $used requests/, "$name: the view counts as the limit does");
	return;
}

my $phones = '{"revealPhones": {"includePhones": true}}';
my $emails = '{"revealEmails": {"includeEmails": true}}';

# Ten that always fail are first in the queue.

submit(10, 'sb-status-503.poison');
submit(50, 'good');
wait_for_all('good', 'answered');
cmp_ok(count_in('sb-status-503', 'attempts <= 6'), '>=', 10, 'calls that always fail: the others did not wait for them');
submit(50, 'later');
wait_for_all('later', 'answered');
is(count_in('sb-status-503', q{state = 'queued' AND waits_for = 'retry'}) + count_in('sb-status-503', q{state = 'sent'}), 10,
	'calls that always fail: they wait alone');
wait_until($node, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state = 'sent')});
$node->safe_psql('postgres', q{SELECT ocean_enrich.cancel(call_id) FROM ocean_enrich.call WHERE state = 'queued'});

# A reveal that the account cannot have, for 402 and 403

foreach my $case ([ 'phones_status', 402, $phones, 'Insufficient phone credits' ],
	[ 'emails_status', 403, $emails, 'not enabled' ])
{
	my ($key, $status, $reveal, $words) = @$case;
	my $before = $sandbox->books->{answers}{$status} // 0;
	$sandbox->config($key => $status);
	submit(80, "feature$status.", $reveal);
	submit(50, "plain$status.");
	wait_for_all("plain$status", 'answered');
	wait_for_all("feature$status", 'refused');
	is(count_in("feature$status", "status = $status AND detail ~ '$words'"), 80, "$key: refused by the words of the API");
	cmp_ok($sandbox->books->{answers}{$status} - $before, '<=', 2 * 80, "$key: none was sent more than twice");
	is(count_in("feature$status", 'attempts > 2'), 0, "$key: none was sent again and again");
	submit(10, "more$status.", $reveal);
	wait_for_all("more$status", 'refused');
	is($node->safe_psql('postgres', q{SELECT pause IS NULL AND waiting = 0 FROM ocean_enrich.queue_status}), 't',
		"$key: the queue does not wait");
	counts_agree("feature$status");
	$sandbox->config($key => undef);
	submit(5, "again$status.", $reveal);
	wait_for_all("again$status", 'answered');
	pass("$key: what is allowed again goes");
}

$node->restart;
counts_agree('restarted');

# A single call whose words are the API's: not the token's fault

submit(1, 'sb-detail-verification.');
submit(5, 'beside');
wait_for_all('beside', 'answered');
wait_for_all('sb-detail-verification', 'refused');
is(count_in('sb-detail-verification', q{attempts = 2 AND detail = 'Verification is disabled for this account'}), 1,
	'403 of one call: tried twice, with the balance between');
fails($node, 'SELECT ' . enrich('sb-detail-verification.direct@example.com'),
	qr/OE403: Verification is disabled for this account\n.*\nHINT:  Check whether your Ocean\.io account may use/,
	'403 of one call: the hint does not blame the token alone');

# A single call that is refused by 401, or that the API always refuses by 429

submit(1, 'sb-status-401.');
submit(5, 'authorized');
wait_for_all('authorized', 'answered');
wait_for_all('sb-status-401', 'refused');
is(count_in('sb-status-401', 'attempts = 2'), 1, '401 of one call: tried twice');
submit(1, 'sb-retryafter-1.');
wait_until($node, q{SELECT status = 429 FROM ocean_enrich.call WHERE request #>> '{person,email}' ~ '^sb-retryafter'});
submit(20, 'unhurried');
wait_for_all('unhurried', 'answered');
pass('429 of one call: the others go');
$node->safe_psql('postgres', q{SELECT ocean_enrich.cancel(call_id) FROM ocean_enrich.call WHERE state = 'queued'});
$node->safe_psql('postgres', 'SELECT ocean_enrich.end_pause()');

# What refuses everybody does not use up the queue, although the balance is in order.

$sandbox->config(fault => 'sb-status-403');
submit(100, 'barred');
wait_until($node, q{SELECT pause ~ 'refuses access .HTTP status 403' AND in_flight = 0
	AND (SELECT count(*) FROM ocean_enrich.call WHERE state = 'refused' AND request #>> '{person,email}' ~ '^barred') = 8
	FROM ocean_enrich.queue_status});
is(count_in('barred', q{state = 'queued'}), 92, '403 for everybody: few calls are refused, then the queue waits');
$sandbox->config(fault => undef);
wait_until($node, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state IN ('queued', 'sent'))});
cmp_ok(count_in('barred', q{state = 'answered'}), '>=', 84, '403 for everybody: the others go when it is over');
$sandbox->config(fault => 'sb-status-402',
	balance_changes => { credits => { oneTime => 0 }, phoneCredits => { oneTime => 100 } });
my $sent = $sandbox->books->{requests};
submit(100, 'penniless');
wait_until($node, q{SELECT doing = 'paused' AND pause ~ 'too few credits' FROM ocean_enrich.queue_status});
ok($sandbox->wait(balances => $sandbox->books->{balances} + 2)->{reached}, '402 for everybody: the balance is asked for');
cmp_ok($sandbox->books->{requests} - $sent, '<=', 64, '402 for everybody: nothing is sent again');
is(count_in('penniless', q{state = 'queued'}), 100, '402 for everybody: none has its end');
$sandbox->config(fault => undef, balance_changes => undef);
wait_for_all('penniless', 'answered');

# Too few credits for any call: nothing is sent until there are more.

$sandbox->config(credits => '2');
submit(20, 'poor');
wait_until($node, q{SELECT doing = 'paused' AND pause ~ 'too few credits' AND waiting = 20 FROM ocean_enrich.queue_status});
my $requests = $sandbox->books->{requests};
ok($sandbox->wait(balances => $sandbox->books->{balances} + 2)->{reached}, 'too few credits: the balance is asked for');
is($sandbox->books->{requests}, $requests, 'too few credits: nothing is sent meanwhile');
counts_agree('poor');
$sandbox->config(credits => '20');
wait_until($node, q{SELECT count(*) = 6 FROM ocean_enrich.call WHERE state = 'answered' AND request #>> '{person,email}' ~ '^poor'});
wait_until($node, q{SELECT doing = 'paused' AND pause ~ 'too few credits' AND waiting = 14 FROM ocean_enrich.queue_status});
is(count_in('poor', q{state = 'refused'}), 0, 'too few credits: none is refused for that');
$sandbox->config(credits => '1000');
wait_for_all('poor', 'answered');

# Too few for some: the others go.

$sandbox->config(credits => '9');
submit(3, 'dear', $phones);
wait_until($node, q{SELECT count(*) = 3 FROM ocean_enrich.call
	WHERE request #>> '{person,email}' ~ '^dear' AND state = 'queued' AND waits_for = 'balance'
		AND detail = '9 credits are left, and the call may cost 13'});
submit(2, 'cheap');
wait_for_all('cheap', 'answered');
is(count_in('dear', q{state = 'queued'}), 3, 'too few credits for some: the others go');
$sandbox->config(credits => '100');
wait_for_all('dear', 'answered');
pass('too few credits for some: they go when there are more');
books_agree($node, $sandbox, 'own trouble');

done_testing();
