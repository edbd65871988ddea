# reveals_in_answers.pl
#	What an answer reveals without a webhook is in what the call cost, where the
#	answer does not say itself: found by the rules that webhooks are read by, for
#	sessions and for the queue.

use strict;
use warnings FATAL => 'all';

use AnswerTest qw(answer_with);
use OceanTest qw(node fails wait_until worker_pid books_agree);
use Test::More;

# The day of the limits, which is UTC's, must not end in the middle of the test.
my $left_of_day = 86400 - time() % 86400;
sleep $left_of_day if $left_of_day < 60;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, extra_conf => "ocean_enrich.webhook_secret = 'open-sesame'");

sub sql { return $node->safe_psql('postgres', $_[0]) }

my %asked = (
	nothing => '',
	email => ', reveal_emails => true',
	phone => ', reveal_phones => true',
	both => ', reveal_emails => true, reveal_phones => true',
	by_webhook => q{, reveal_emails => true, reveal_emails_webhook_url => 'https://elsewhere.example',
		reveal_phones => true, reveal_phones_webhook_url => 'https://elsewhere.example'},
	phone_by_webhook => q{, reveal_emails => true,
		reveal_phones => true, reveal_phones_webhook_url => 'https://elsewhere.example'},
	nowhere => q{, reveal_phones => true, reveal_phones_webhook_url => ''},
	refused => ', reveal_emails => false, reveal_phones => false');

sub request
{
	my ($email, $what) = @_;
	return "ocean_person_request(email => '$email\@example.com'$asked{$what})";
}

sub credits
{
	my ($email) = @_;
	return sql("SELECT credits FROM ocean_enrich.call WHERE request #>> '{person,email}' = '$email\@example.com'");
}

# 3 for the person, 1 for an address, 10 for a number

my %costs = (nothing => 3, email => 4, phone => 13, both => 14, by_webhook => 3, phone_by_webhook => 4, nowhere => 13,
	refused => 3);
foreach my $what (sort keys %costs)
{
	is(sql('SELECT credits FROM ocean_try_enrich_person(' . request($what, $what) . ')'),
		$costs{$what}, "$what: a call is told what it cost");
	is(credits($what), $costs{$what}, "$what: the ledger");
	my $id = sql('SELECT ocean_enrich.submit(' . request("queued.$what", $what) . ')');
	wait_until($node, "SELECT state = 'answered' FROM ocean_enrich.call WHERE call_id = $id");
	is(credits("queued.$what"), $costs{$what}, "$what: from the queue");
	books_agree($node, $sandbox, $what);
}
is($sandbox->books->{charged}, 2 * 57, 'the API charged just that');
is(sql('SELECT count(*) FROM ocean_enrich.open_reveals'), 4, 'who asked for a webhook waits for one, and nobody else');
is(sql('SELECT sum(credits) FROM ocean_enrich.queue_tally'), 57, 'the tally of the queue has it, too');

# What is not found is not charged; what nobody can read may have been, and stays reserved.

foreach my $case ([ 'sb-notrevealed', 3 ], [ 'sb-nulls', 3 ], [ 'sb-minimal', 3 ], [ 'sb-badcredits-2', 14 ],
	[ 'sb-nul', 14 ], [ 'sb-noid' ], [ 'sb-empty' ], [ 'sb-badjson' ])
{
	my ($fault, $credits) = @$case;
	sql('SELECT FROM ocean_try_enrich_person(' . request("$fault.all", 'both') . ')');
	is(credits("$fault.all"), $credits // '', "$fault: the ledger");
	is(sql("SELECT state, reserved FROM ocean_enrich.call WHERE request #>> '{person,email}' = '$fault.all\@example.com'"),
		($credits ? 'answered' : 'unknown') . '|14', "$fault: what is reserved");
	books_agree($node, $sandbox, $fault);
}

# The settings of the session that asks; and what the answer says goes before them.

$sandbox->config(email_cost => '0.5', phone_cost => '2.25');
sql(q{SET ocean_enrich.credits_per_email = '0.5'; SET ocean_enrich.credits_per_phone = '2.25';
	SELECT ocean_enrich_person(} . request('cheap', 'both') . ')');
is(credits('cheap'), '5.75', 'the settings say what it costs');
books_agree($node, $sandbox, 'settings');
$sandbox->config(credits_used => JSON::PP::true);
sql('SELECT ocean_enrich_person(' . request('said', 'both') . ')');
is(credits('said'), '5.75', 'the answer goes before the settings');
books_agree($node, $sandbox, 'an answer that says');

# All that an answer may have is reserved before it is sent, so no limit is exceeded.

sub refused
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($email, $what, $pattern, $name, %options) = @_;
	my $requests = $sandbox->books->{requests};
	fails($node, ($options{settings} // '') . 'SELECT ocean_enrich_person(' . request($email, $what) . ')', $pattern,
		$name, user => $options{user});
	return is($sandbox->books->{requests}, $requests, "$name: nothing was sent");
}

sub used { return sql(q{SELECT trim_scale(used) FROM ocean_enrich.limits WHERE name = 'credit_limit'}) }

$sandbox->config(email_cost => '1', phone_cost => '10', credits_used => JSON::PP::false);
my $limit = used() + 13;
my $limited = "SET ocean_enrich.credit_limit = '$limit';";
refused('limited', 'both', qr/a request reserves 14\./, 'credit_limit', settings => $limited);
sql("$limited SELECT ocean_enrich_person(" . request('limited', 'phone') . ')');
is(used(), $limit, 'credit_limit: what just fits goes');

# The queue pauses if the next call does not fit, and one that goes before it may.

sub setting
{
	my ($line) = @_;
	$node->append_conf('postgresql.conf', $line);
	# Not a reload, which the worker might read after the next call.
	$node->restart;
	sql('SELECT ocean_enrich.wake()');
	return;
}

sub submit
{
	my ($email, $what, $priority) = @_;
	return sql('SELECT ocean_enrich.submit(' . request($email, $what) . ", $priority)");
}

sub wait_for_state
{
	my ($id, $state) = @_;
	wait_until($node, "SELECT state = '$state' FROM ocean_enrich.call WHERE call_id = $id");
	return;
}

$limit = used() + 12;
setting("ocean_enrich.credit_limit = '$limit'");
my $dear = submit('dear', 'phone', 0);
wait_until($node, q{SELECT doing = 'paused' AND pause = 'credit_limit has been reached' AND paused_until > now()
	FROM ocean_enrich.queue_status});
my $behind = submit('behind', 'nothing', 0);
wait_for_state(submit("before$_", 'nothing', 1), 'answered') foreach 1 .. 3;
is(sql("SELECT string_agg(state::text, ' ') FROM ocean_enrich.call WHERE call_id IN ($dear, $behind)"),
	'queued queued', 'queue: what does not fit waits, and what is behind it');
is(used(), $limit - 3, 'queue: the limit is not exceeded');
setting("ocean_enrich.credit_limit = '0'");
wait_for_state($_, 'answered') foreach $dear, $behind;
books_agree($node, $sandbox, 'the limits');

# One whose reveals the limit of a day has no room for holds up nobody.

setting("ocean_enrich.credits_per_phone = '1000'\nocean_enrich.credit_limit = '999'");
$dear = submit('too-dear', 'phone', 1);
wait_for_state(submit('passes', 'nothing', 0), 'answered');
is(sql("SELECT state, detail, postponed, next_attempt_at > now() + interval '50 minutes' FROM ocean_enrich.call WHERE call_id = $dear"),
	'queued|may cost more than credit_limit allows per day|0|t', 'queue: what is too dear for any day is put off');
setting("ocean_enrich.credits_per_phone = '10'\nocean_enrich.credit_limit = '0'");
sql("UPDATE ocean_enrich.call SET next_attempt_at = now() WHERE call_id = $dear; SELECT ocean_enrich.wake()");
wait_for_state($dear, 'answered');
books_agree($node, $sandbox, 'too dear');

# What may have been paid keeps all of it reserved, in the next worker, too.

sql(q{
	CREATE ROLE anna LOGIN;
	GRANT EXECUTE ON FUNCTION ocean_enrich_person(jsonb), ocean_person_request TO anna;
	INSERT INTO ocean_enrich.budget VALUES ('anna', 'day', 27)});
my $before = used();
fails($node, 'SELECT ocean_enrich_person(' . request('sb-cut-lost.anna', 'both') . ')', qr/OE504/, 'a call has no outcome',
	user => 'anna');
is(used() - $before, 14, 'unknown: the view of the limits has it');
is(sql('SELECT trim_scale(reserved) FROM ocean_enrich.budget_status'), 14, 'unknown: that of the budgets, too');
books_agree($node, $sandbox, 'unknown');
foreach my $worker ('the same worker', 'the next worker')
{
	if ($worker eq 'the next worker')
	{
		my $pid = worker_pid($node);
		sql("SELECT pg_terminate_backend($pid)");
		wait_until($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)");
	}
	refused('again', 'both', qr/a request reserves 14\./, "$worker: the budget", user => 'anna');
	$limit = used() + 13;
	refused('again', 'both', qr/a request reserves 14\./, "$worker: the limit",
		settings => "SET ocean_enrich.credit_limit = '$limit';");
	is( sql("SET ocean_enrich.credit_limit = '$limit'; SELECT to_send, allowed
			FROM ocean_enrich.estimate(\$\$SELECT " . request('again', 'both') . '$$)'),
		'1|0', "$worker: the estimate");
}
is($node->safe_psql('postgres', 'SELECT ocean_enrich_person(' . request('fits', 'phone') . ") ->> 'domain'",
		extra_params => [ '-U', 'anna' ]), 'example.com', 'the next worker: what just fits goes');

# Found is what contact_rank() takes for found, and so what is charged if a webhook says it.

my @contacts = (
	'null', '"x"', '7', '[]', '["x"]', '{}', '{"status": "verified"}',
	(map { my $value = $_; map { qq({"%s": $value, "status": $_}) } qw("verified" "guessed" "catchAll" "notFound" "inProgress" "new" null 7) }
		  '"x@example.com"', '["+1 555 0100"]'),
	(map { qq({"%s": $_}) } qw(null "" "x" 7 false {} [] [null] [""])),
	'{"%s": "", "status": "verified"}', '{"%s": [], "status": "verified"}', '{"%s": null, "status": "verified"}');
my @people = ('');
foreach my $contact (@contacts)
{
	foreach my $kind (qw(email phone))
	{
		push @people, map { qq(, "$kind": ) . $contact =~ s/%s/$_/r } qw(address numbers);
	}
}

# Answers with the person of this number.
sub answer
{
	my ($client) = @_;
	my ($request, $number) = '';
	while (!defined $number)
	{
		sysread($client, $request, 65536, length $request) or return;
		($number) = $request =~ /"email":"(\d+)\@/;
	}
	my $body = qq({"id": "p$number", "domain": "example.com"$people[$number]});
	syswrite($client, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " . length($body) . "\r\n\r\n$body");
	return;
}

my $port = answer_with(\&answer);
my $count = @people;
sql(qq{
	SET ocean_enrich.api_url = 'http://127.0.0.1:$port';
	SET ocean_enrich.daily_limit = 0;
	SET ocean_enrich.rate_limit = 0;
	SELECT count(ocean_enrich_person(ocean_person_request(email => i || '\@rank.example',
		reveal_emails => true, reveal_phones => true))) FROM generate_series(0, $count - 1) AS i});
is( sql(q{
		SELECT count(*), count(DISTINCT credits) FROM ocean_enrich.call WHERE request #>> '{person,email}' ~ '@rank'}),
	"$count|3", 'many kinds of contacts came, found and not');
is( sql(q{
		SELECT answer, credits FROM ocean_enrich.call
		WHERE request #>> '{person,email}' ~ '@rank' AND credits IS DISTINCT FROM 3
			+ CASE WHEN ocean_enrich.contact_rank(answer -> 'email') >= 4 THEN 1 ELSE 0 END
			+ CASE WHEN ocean_enrich.contact_rank(answer -> 'phone') >= 4 THEN 10 ELSE 0 END}),
	'', 'found is what webhooks are read by');

# A call that asked for a webhook is charged by it, and once, also where the answer had it all.

my ($known) = grep { $people[$_] =~ /"email": \{"address": "x\@example.com", "status": "verified"}/ } 0 .. $#people;
my $person = qq({"id": "p$known", "domain": "example.com"$people[$known]});
sql(qq{
	SET ocean_enrich.api_url = 'http://127.0.0.1:$port';
	SELECT ocean_enrich_person(ocean_person_request(email => '$known\@webhook.example',
		reveal_emails => true, reveal_emails_webhook_url => 'https://elsewhere.example'))});
is(sql(q{SELECT credits, answer #>> '{email,status}' FROM ocean_enrich.call WHERE request #>> '{person,email}' ~ '@webhook'}),
	'3|verified', 'an answer that has what a webhook will tell');
is(sql('SELECT coalesce(sum(credits), 0) FROM ocean_enrich.reveal_cost'), 0, '... is not charged for it');
sql("SELECT ocean_enrich.receive_webhook('$person', 'open-sesame')") foreach 1 .. 2;
is(sql('SELECT sum(credits) FROM ocean_enrich.reveal_cost'), 1, '... the webhook is, once');

done_testing();
