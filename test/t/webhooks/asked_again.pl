# asked_again.pl
#	The same reveal that is asked for again is paid for again, and its webhooks are equal
#	to those before.  Each that answers a paid call is counted, in every form: in the
#	receipts, in the view of the spending, in budgets and in the credit limit; and one
#	that is merely repeated is not.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node fails wait_until books_agree);
use WebhookTest qw(prepare);
use JSON::PP;
use Test::More;

# The day of the limits, which is UTC's, must not end in the middle of the test.
my $left_of_day = 86400 - time() % 86400;
sleep $left_of_day if $left_of_day < 120;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);
prepare($node, 'open-sesame');
my $forwarder = WebhookTest::Forwarder->new($node);
my $url = $forwarder->url('open-sesame');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Asked for again, whatever is known already.
sub ask
{
	my ($email) = @_;
	return "SET ocean_enrich.reuse_for = 0; SELECT ocean_enrich_person(ocean_person_request(email => '$email\@example.com'"
	  . join('', map { ", reveal_$_ => true, reveal_${_}_webhook_url => '$url'" } qw(emails phones)) . ')) IS NOT NULL';
}

# How many webhooks have been taken so far.
my $taken = 0;

sub wait_for_webhooks
{
	my ($more) = @_;
	$taken += $more;
	$sandbox->wait(webhooks => $taken);
	wait_until($node, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.open_reveals)});
	wait_until($node, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.early_reveal)});
	return;
}

# What was charged, and where it stands.
sub counted_is
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($expected, $name) = @_;
	is($sandbox->books->{reveals_charged}, $expected, "$name: what the API charged");
	return is( sql(q{
			SELECT trim_scale((SELECT sum(credits) FROM ocean_enrich.webhook)),
				trim_scale((SELECT sum(credits) FROM ocean_enrich.reveal_cost)),
				trim_scale((SELECT sum(reveal_credits) FROM ocean_enrich.spending)),
				(SELECT count(*) FROM ocean_enrich.spending WHERE role IS NULL)}),
		"$expected|$expected|$expected|0", "$name: receipts, limits and spending");
}

sub forget_all
{
	$sandbox->reset;
	$taken = 0;
	sql('TRUNCATE ocean_enrich.call, ocean_enrich.reveal, ocean_enrich.webhook, ocean_enrich.reveal_cost');
	return;
}

foreach my $form (qw(person lists people results))
{
	$sandbox->config(webhook_form => $form);

	# One after the other

	foreach my $time (1 .. 4)
	{
		is(sql(ask("after.$form")), 't', "$form: asked, number $time");
		wait_for_webhooks(2);
	}
	counted_is(44, "$form, one after the other");
	is( sql(q{SELECT count(*), sum(deliveries) FROM ocean_enrich.webhook}), '2|8',
		"$form: ... by equal payloads");
	forget_all();

	# While the webhooks of the one before have not come, and then repeated each.  Not
	# with whole people: if the phone's webhook comes first, it brings the e-mail
	# address, too, and the credits that the other one states are not counted.

	if ($form ne 'people')
	{
		$sandbox->config(webhook_copies => 2);
		$forwarder->refuse(1);
		is(sql(ask("beside.$form")), 't', "$form: asked beside, number $_") foreach 1 .. 3;
		$forwarder->refuse(0);
		wait_for_webhooks(12);
		counted_is(33, "$form, beside each other, each sent twice");
		$sandbox->config(webhook_copies => 1);
		forget_all();
	}

	# Webhooks before the answer

	sql(ask("early.$form"));
	wait_for_webhooks(2);
	$sandbox->config(hold_answers => JSON::PP::true);
	my $query = OceanTest::Query->start($node, ask("early.$form"));
	$sandbox->wait(webhooks => $taken + 2);
	$sandbox->config(hold_answers => JSON::PP::false);
	$query->finish;
	wait_for_webhooks(2);
	counted_is(22, "$form, before the answer");
	forget_all();
}

# A reused answer is not paid for, nor are its reveals.

$sandbox->config(webhook_form => 'lists');
$forwarder->refuse(1);
sql(ask('reused'));
sql(q{SELECT ocean_enrich.submit(request) FROM ocean_enrich.call});
wait_until($node, q{SELECT count(*) = 2 FROM ocean_enrich.reveal});
is(sql('SELECT count(reused_from) FROM ocean_enrich.call JOIN ocean_enrich.reveal USING (call_id)'), 1, 'an answer is reused, and waits');
$forwarder->refuse(0);
wait_for_webhooks(2);
counted_is(11, 'a reused answer');
forget_all();

# Budgets and the credit limit see it.

sql(q{INSERT INTO ocean_enrich.budget SELECT current_user, 'day', 25});
sql(ask('limited'));
wait_for_webhooks(2);
sql('SELECT ocean_enrich.spending_changed()');
is(sql(ask('limited')), 't', 'a budget has room for a call');
wait_for_webhooks(2);
fails($node, ask('limited'), qr/OE402: budget of role "\S+" is exhausted: 25 credits per day\nDETAIL:  28 credits have been spent/,
	'a budget is exhausted by what was revealed again');
sql('DELETE FROM ocean_enrich.budget');
is(sql("SELECT trim_scale(used) FROM ocean_enrich.limits WHERE name = 'credit_limit'"), '28', '... and so says the credit limit');
books_agree($node, $sandbox, 'in the end');
$node->stop;
done_testing();
