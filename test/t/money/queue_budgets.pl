# queue_budgets.pl
#	A queued call whose role has spent its budget waits, and nobody with it; a
#	raised budget lets it go.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node wait_until books_agree);
use Test::More;

# The day of the budgets, which is UTC's, must not end in the middle of the test.
my $left_of_day = 86400 - time() % 86400;
sleep $left_of_day if $left_of_day < 60;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);

$node->safe_psql(
	'postgres', q{
	CREATE ROLE may_submit;
	GRANT USAGE ON SCHEMA ocean_enrich TO may_submit;
	GRANT EXECUTE ON FUNCTION ocean_enrich.submit, ocean_person_request TO may_submit;
	CREATE ROLE anna LOGIN IN ROLE may_submit;
	CREATE ROLE bert LOGIN IN ROLE may_submit;
	INSERT INTO ocean_enrich.budget VALUES ('anna', 'month', 6)});

sub submit
{
	my ($role, $count) = @_;
	OceanTest::Query->start(
		$node, qq{
		SELECT ocean_enrich.submit(ocean_person_request(email => format('$role%s\@example.com', i)))
		FROM generate_series(1, $count) AS i}, user => $role)->finish;
	return;
}

sub states_are
{
	my ($expected) = @_;
	wait_until($node, qq{
		SELECT coalesce(string_agg(format('%s %s %s', role, state, count), ', ' ORDER BY role, state::text), '')
			= '$expected'
		FROM (SELECT role, state, count(*) FROM ocean_enrich.call GROUP BY 1, 2) AS s});
	return pass($expected);
}

# Two of five go, and all of another role that come behind.

$sandbox->config(hold => JSON::PP::true);
submit('anna', 5);
$sandbox->wait(held => 2);
submit('bert', 3);
$sandbox->wait(held => 5);
$sandbox->config(hold => JSON::PP::false);
states_are('anna answered 2, anna queued 3, bert answered 3');
wait_until(
	$node, q{
	SELECT bool_and(detail = 'budget of role "anna" is exhausted: 6 credits per month'
		AND next_attempt_at = date_trunc('month', now(), 'UTC') + interval '1 month')
	FROM ocean_enrich.call WHERE state = 'queued'});
pass('the others wait for the next month, and say why');

# A raised budget lets them go, also while no worker is there.

$node->safe_psql('postgres', 'UPDATE ocean_enrich.budget SET credit_limit = 9');
states_are('anna answered 3, anna queued 2, bert answered 3');
$node->restart;
$node->safe_psql('postgres', 'UPDATE ocean_enrich.budget SET credit_limit = 100');
submit('bert', 4);
states_are('anna answered 5, bert answered 7');
is($node->safe_psql('postgres', 'SELECT spent, reserved FROM ocean_enrich.budget_status'),
	'15|0', 'the budget has just that');
is($sandbox->books->{requests}, 9, 'each was sent once');
books_agree($node, $sandbox, 'queue');

done_testing();
