# reveals_count.pl
#	What is revealed by webhook counts in the credit limit of the day and in the
#	budgets from the moment it is known, to the role that asked: for sessions and for the
#	queue, in the worker that runs and in the next one, once.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node fails wait_until worker_pid);
use Test::More;

# The day of the limits, which is UTC's, must not end in the middle of the test.
my $left_of_day = 86400 - time() % 86400;
sleep $left_of_day if $left_of_day < 60;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, extra_conf => "ocean_enrich.webhook_secret = 'open-sesame'");

# Keeps the worker alive between the steps.
my $companion = OceanTest::Query->start($node, 'SELECT pg_sleep(600)');
$node->safe_psql(
	'postgres', q{
	CREATE ROLE may_enrich;
	GRANT EXECUTE ON FUNCTION ocean_enrich_person(jsonb), ocean_person_request, ocean_enrich.submit,
		ocean_enrich.estimate TO may_enrich;
	GRANT USAGE ON SCHEMA ocean_enrich TO may_enrich;
	GRANT SELECT ON ocean_enrich.budget_status TO may_enrich;
	CREATE ROLE anna LOGIN IN ROLE may_enrich;
	CREATE ROLE bert LOGIN IN ROLE may_enrich});

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub request
{
	my ($email) = @_;
	return "ocean_person_request(email => '$email\@example.com'"
	  . join('', map { ", reveal_$_ => true, reveal_${_}_webhook_url => 'https://elsewhere.example'" } qw(emails phones)) . ')';
}

sub goes
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($role, $email, $name) = @_;
	my ($stdout, $stderr) = OceanTest::Query->start($node, 'SELECT ocean_enrich_person(' . request($email) . ')', user => $role)->finish;
	return like($stdout, qr/^\{/, $name) || diag $stderr;
}

sub refused
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($role, $email, $pattern, $name, $settings) = @_;
	my $requests = $sandbox->books->{requests};
	fails($node, ($settings // '') . 'SELECT ocean_enrich_person(' . request($email) . ')', $pattern, $name, user => $role);
	return is($sandbox->books->{requests}, $requests, "$name: nothing was sent");
}

sub id_of { return sql("SELECT answer ->> 'id' FROM ocean_enrich.call WHERE request #>> '{person,email}' = '$_[0]\@example.com' ORDER BY call_id LIMIT 1") }

sub webhook
{
	my ($payload) = @_;
	return "SELECT ocean_enrich.receive_webhook('$payload', 'open-sesame')";
}

sub phone { return webhook('{"id": "' . id_of($_[0]) . '", "phone": {"numbers": ["+1 555 0100"], "status": "verified"}}') }
sub email { return webhook('{"id": "' . id_of($_[0]) . "\", \"email\": {\"address\": \"$_[0]\@example.com\", \"status\": \"verified\"}}") }

sub spent { return sql(q{SELECT string_agg(period || ' ' || trim_scale(spent), ', ' ORDER BY period) FROM ocean_enrich.budget_status WHERE role = 'anna'}) }

# 3 for each call, 10 for a phone number, 1 for an address

sql(q{INSERT INTO ocean_enrich.budget VALUES ('anna', 'day', 20), ('anna', 'month', 1000)});
goes('anna', 'one', 'a call');
is(spent(), 'day 3, month 3', 'not counted before it is known');
my $worker = worker_pid($node);
is(sql(phone('one')), 1, 'a number comes');
is(spent(), 'day 13, month 13', 'counted');
goes('anna', 'two', 'there is room');
sql(email('two'));
goes('anna', 'three', 'just enough');
is(spent(), 'day 20, month 20', 'the budget is spent');
my $is_spent = qr/OE402: budget of role "anna" is exhausted: 20 credits per day\nDETAIL:  20 credits have been spent or reserved since/;
refused('anna', 'four', $is_spent, 'spent');
goes('bert', 'bert', 'it is no matter of others');
is(worker_pid($node), $worker, 'by the worker that was there before');
sql("SELECT pg_terminate_backend($worker)");
wait_until($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $worker)");
refused('anna', 'four', $is_spent, 'in the next worker');
is(sql(q{SELECT credits + reveal_credits FROM ocean_enrich.spending WHERE role = 'anna'}), 20, 'so says the view of the spending');
$worker = worker_pid($node);
is( sql(q{SET SESSION AUTHORIZATION anna; SELECT allowed FROM ocean_enrich.estimate($$SELECT ocean_person_request(email => 'x@example.com')$$)}),
	0, 'and the estimate');

# The same again, something else again, nothing at all

sql(phone('one'));
sql(webhook('{"id": "' . id_of('one') . '", "phone": {"numbers": ["+1 555 0100"], "status": "verified"}, "name": "One"}'));
sql(webhook('{"id": "' . id_of('three') . '", "email": {"address": null, "status": "notFound"}}'));
is(spent(), 'day 20, month 20', 'a number is counted once, and nothing for what is not found');
sql(q{BEGIN; } . phone('three') . q{; ROLLBACK});
is(spent(), 'day 20, month 20', 'nor what is rolled back');
sql(q{UPDATE ocean_enrich.budget SET credit_limit = 23 WHERE role = 'anna' AND period = 'day'});
goes('anna', 'four', 'raised by one call');

# What the payload says counts; for the first that asked, once

my ($three, $four) = map { id_of($_) } qw(three four);
my $told = qq({"phones": [{"personId": "$three", "numbers": ["+1 555 0101"], "status": "verified"},
	{"personId": "$four", "numbers": ["+1 555 0102"], "status": "verified"}], "creditsUsed": 2.5});
sql(webhook($told));
sql(webhook($told));
is(spent(), 'day 25.5, month 25.5', 'what the payload says');
sql(q{UPDATE ocean_enrich.budget SET credit_limit = 28.4 WHERE role = 'anna' AND period = 'day'});
refused('anna', 'five', qr/DETAIL:  25\.5 credits have been spent/, 'raised by too little');
sql(q{UPDATE ocean_enrich.budget SET credit_limit = 28.5 WHERE role = 'anna' AND period = 'day'});
goes('anna', 'five', 'raised by enough');
is(sql(webhook('{"phones": [{"personId": "nobody", "numbers": ["+1"], "status": "verified"}], "creditsUsed": 100}')), 0, 'nobody waits for it');
is(spent(), 'day 28.5, month 28.5', '... it is counted for nobody');

# Merged later by the worker: it counts from then on

sql(q{UPDATE ocean_enrich.budget SET credit_limit = 1000 WHERE role = 'anna' AND period = 'day'});
goes('anna', 'six', 'one whose webhook crosses its answer');
my $six = id_of('six');
sql(qq{UPDATE ocean_enrich.reveal SET person_id = 'hidden' WHERE person_id = '$six'});
sql(webhook(qq({"id": "$six", "phone": {"numbers": ["+1 555 0106"], "status": "verified"}})));
is(spent(), 'day 31.5, month 31.5', 'nobody waits for it yet');
sql(qq{UPDATE ocean_enrich.reveal SET person_id = '$six' WHERE person_id = 'hidden'});
goes('bert', 'bert2', 'the worker has something to do');
wait_until($node, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.early_reveal WHERE person_id <> 'nobody')});
is(spent(), 'day 41.5, month 41.5', 'the worker has merged it: it counts');
sql(q{UPDATE ocean_enrich.budget SET credit_limit = 44.4 WHERE role = 'anna' AND period = 'day'});
refused('anna', 'seven', qr/DETAIL:  41\.5 credits have been spent/, 'at once');

# The credit limit of the day: of all roles

sub used { return sql(q{SELECT trim_scale(used) FROM ocean_enrich.limits WHERE name = 'credit_limit'}) }
is(used(), '47.5', 'limits: 8 calls and what was revealed');
my $limit = sub { "ocean_enrich_person(" . request($_[0]) . ')' };
my $set = q{SET ocean_enrich.credit_limit = '60.5'; };
is(sql($set . "SELECT count(*) FROM " . $limit->('eight')), 1, 'limit: there is room');
sql(phone('bert'));
refused(undef, 'nine', qr/OE402: credit limit of 60\.5 credits per day has been reached\nDETAIL:  60\.5 credits have been spent or reserved since midnight UTC/,
	'limit: reached by what was revealed', $set);
is(used(), '60.5', 'limits: so says the view');
is(sql($set . q{SELECT allowed FROM ocean_enrich.estimate($$SELECT ocean_person_request(email => 'x@example.com')$$)}), 0, 'limit: and the estimate');
sql("SELECT pg_terminate_backend($worker)");
wait_until($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $worker)");
refused(undef, 'nine', qr/OE402: credit limit of 60\.5/, 'limit: in the next worker', $set);

# The queue

sql(q{LOAD 'ocean_enrich'; ALTER SYSTEM SET ocean_enrich.credit_limit = '74.5'; SELECT pg_reload_conf()});
sql('SELECT ocean_enrich.submit(' . request('queued1') . ')');
wait_until($node, q{SELECT state = 'answered' FROM ocean_enrich.call WHERE request #>> '{person,email}' = 'queued1@example.com'});
sql(phone('bert2'));
sql('SELECT ocean_enrich.submit(' . request('queued2') . ')');
wait_until($node, q{SELECT pause = 'credit_limit has been reached' FROM ocean_enrich.queue_status});
pass('the queue waits');
is(sql(q{SELECT state FROM ocean_enrich.call WHERE request #>> '{person,email}' = 'queued2@example.com'}), 'queued', '... and sends nothing');
sql(q{LOAD 'ocean_enrich'; ALTER SYSTEM SET ocean_enrich.credit_limit = '76.5'; SELECT pg_reload_conf()});
wait_until($node, q{SELECT state = 'answered' FROM ocean_enrich.call WHERE request #>> '{person,email}' = 'queued2@example.com'});
pass('... until it is raised');

# One row is left for a day, a role and an account; other days count where they belong.

sql('SELECT ocean_enrich.tidy()');
is(sql(q{SELECT string_agg(role || ' ' || trim_scale(credits), ', ' ORDER BY role) FROM ocean_enrich.reveal_cost}),
	'anna 23.5, bert 20', 'added up');
sql(q{INSERT INTO ocean_enrich.reveal_cost (day, role, account, credits)
	SELECT date_trunc('month', now() AT TIME ZONE 'UTC')::date - 1, role, account, 500 FROM ocean_enrich.reveal_cost WHERE role = 'anna'});
is(spent(), 'day 41.5, month 41.5', 'of the month before');
is(sql(q{SELECT sum(reveal_credits) - 500 FROM ocean_enrich.spending WHERE role IS NOT NULL}),
	sql(q{SELECT sum(credits) FROM ocean_enrich.webhook WHERE call_ids <> '{}'}), 'in the end the views agree');

# Two payloads that say what they cost wait for the same answer, the later one with
# all that is in the other: both were paid.

sql(q{LOAD 'ocean_enrich'; ALTER SYSTEM RESET ocean_enrich.credit_limit; SELECT pg_reload_conf()});
wait_until($node, q{SELECT current_setting('ocean_enrich.credit_limit', true) IS DISTINCT FROM '76.5'});
sql('CREATE ROLE dora LOGIN IN ROLE may_enrich');
goes('dora', 'dora', 'one whose two webhooks cross its answer');
my $dora = id_of('dora');
my $address = '"email": {"address": "dora@example.com", "status": "verified"}';
sql(qq{UPDATE ocean_enrich.reveal SET person_id = 'hidden' WHERE person_id = '$dora'});
sql(webhook(qq({"id": "$dora", $address, "creditsUsed": 0.5})));
sql(webhook(qq({"id": "$dora", $address, "phone": {"numbers": ["+1 555 0107"], "status": "verified"}, "creditsUsed": 7})));
sql(qq{UPDATE ocean_enrich.reveal SET person_id = '$dora' WHERE person_id = 'hidden'});
sql('SELECT ocean_enrich.tidy()') foreach 1 .. 2;
is(sql(q{SELECT sum(credits) FROM ocean_enrich.reveal_cost WHERE role = 'dora'}), '7.5', 'both count');
is(sql(q{SELECT sum(reveal_credits) FROM ocean_enrich.spending WHERE role = 'dora'}), '7.5', '... in the view of the spending, too');
done_testing();
