# budgets.pl
#	Budgets of roles: one that is spent stops before sending, for that role and
#	nobody else; a raised one counts at once; what is in flight or may have been
#	paid is reserved; and all of it is what the ledger says, across restarts.

use strict;
use warnings FATAL => 'all';

use OceanTest
  qw(node enrich fails worker_pid wait_until wait_for_ledger books_agree);
use Test::More;

# The day of the budgets, which is UTC's, must not end in the middle of the test.
my $left_of_day = 86400 - time() % 86400;
sleep $left_of_day if $left_of_day < 60;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, extra_conf => 'max_prepared_transactions = 2');

# Keeps the worker alive between the steps.
my $companion = OceanTest::Query->start($node, 'SELECT pg_sleep(600)');

$node->safe_psql(
	'postgres', q{
	CREATE ROLE may_enrich;
	GRANT EXECUTE ON FUNCTION ocean_enrich_person(jsonb), ocean_try_enrich_person(jsonb),
		ocean_person_request TO may_enrich;
	GRANT USAGE ON TYPE ocean_enrich_result TO may_enrich;
	GRANT USAGE ON SCHEMA ocean_enrich TO may_enrich;
	GRANT SELECT ON ocean_enrich.receipts, ocean_enrich.budget_status TO may_enrich;
	CREATE ROLE anna LOGIN IN ROLE may_enrich;
	CREATE ROLE bert LOGIN IN ROLE may_enrich});

sub sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# The budget of a role, in credits; undef: none.
sub budget
{
	my ($role, $period, $limit) = @_;
	sql(defined $limit
		? "INSERT INTO ocean_enrich.budget VALUES ('$role', '$period', $limit)
			ON CONFLICT (role, period) DO UPDATE SET credit_limit = EXCLUDED.credit_limit"
		: "DELETE FROM ocean_enrich.budget WHERE role = '$role' AND period = '$period'");
	return;
}

sub goes
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($role, $email, $name) = @_;
	my ($stdout, $stderr) =
	  OceanTest::Query->start($node, 'SELECT ' . enrich($email), user => $role)->finish;
	return like($stdout, qr/^\{/, $name) || diag $stderr;
}

sub refused
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($role, $email, $name) = @_;
	my $requests = $sandbox->books->{requests};
	fails(
		$node, 'SELECT ' . enrich($email),
		qr/OE402: budget of role "$role" is exhausted: .* credits per \w+\nDETAIL:  .* credits have been spent or reserved since .* 00:00 UTC, and a request reserves 3\.\nHINT:  Increase "credit_limit" in table "ocean_enrich\.budget" or wait until .* 00:00 UTC\./,
		$name, user => $role);
	return is($sandbox->books->{requests}, $requests, "$name: nothing was sent");
}

# A budget is spent, is raised, and is gone

goes('anna', 'one@example.com', 'no budget at all');
budget('anna', 'day', 6);
goes('anna', 'two@example.com', 'what was spent before the budget counts');
my $worker = worker_pid($node);
refused('anna', 'three@example.com', 'the budget is spent');
goes('anna', 'one@example.com', 'what is known costs nothing');
goes('bert', 'bert@example.com', 'another role has no such budget');
is( (   OceanTest::Query->start(
			$node, q{
			SELECT error_code, credits, call_id IS NULL FROM
				ocean_try_enrich_person(ocean_person_request(email => 'three@example.com'))},
			user => 'anna')->finish)[0],
	'OE402|0|t',
	'as a value');
budget('anna', 'day', '8.9');
refused('anna', 'three@example.com', 'raised by too little');
budget('anna', 'day', 9);
goes('anna', 'three@example.com', 'raised by enough');
refused('anna', 'four@example.com', 'and spent again');
budget('anna', 'day', undef);
goes('anna', 'four@example.com', 'no budget any more');
is(worker_pid($node), $worker, 'all of that without a restart of the worker');
budget('anna', 'day', 0);
refused('anna', 'five@example.com', 'a budget of nothing');

# Restarts

budget('anna', 'day', 12);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
wait_until($node,
	"SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $worker)");
refused('anna', 'five@example.com', 'after a restart of the worker');
$node->restart;
$companion->finish;
$companion = OceanTest::Query->start($node, 'SELECT pg_sleep(600)');
refused('anna', 'five@example.com', 'after a restart of the server');
is( sql('SELECT role, period, credit_limit, spent, reserved, remaining,
		resets_at = date_trunc(\'day\', now(), \'UTC\') + interval \'1 day\'
		FROM ocean_enrich.budget_status'),
	'anna|day|12|12|0|0|t',
	'the view shows it');
books_agree($node, $sandbox, 'spent');

# What is not committed does not count.

sql(q{BEGIN; UPDATE ocean_enrich.budget SET credit_limit = 1000; ROLLBACK});
refused('anna', 'five@example.com', 'a change that was rolled back');
my ($stdout, $stderr) = OceanTest::Query->start(
	$node, q{
	BEGIN; UPDATE ocean_enrich.budget SET credit_limit = 1000; PREPARE TRANSACTION 'x'})->finish;
like($stderr, qr/0A000: cannot PREPARE a transaction that has modified table "ocean_enrich\.budget"/,
	'nor can it be prepared');
$node->safe_psql('postgres', q{BEGIN; SELECT 1; PREPARE TRANSACTION 'y'; COMMIT PREPARED 'y'});

# While somebody holds the table, the budgets that are known hold.

my $holder = $node->background_psql('postgres');
$holder->query_safe(q{BEGIN; TRUNCATE ocean_enrich.budget;
	INSERT INTO ocean_enrich.budget VALUES ('anna', 'day', 15)});
refused('anna', 'five@example.com', 'while the table is being changed');
goes('bert', 'bert2@example.com', 'others are not held up');
$holder->query_safe('COMMIT');
$holder->quit;
goes('anna', 'five@example.com', 'the new budget counts');
refused('anna', 'six@example.com', 'and is spent');

# In flight: what is left is for two of ten.

budget('anna', 'day', 21);
$sandbox->config(hold => JSON::PP::true);
my @queries = map {
	OceanTest::Query->start($node, 'SELECT ' . enrich("flight$_\@example.com"),
		user => 'anna')
} 1 .. 10;
wait_until(
	$node, q{
	SELECT count(*) FILTER (WHERE state = 'on the wire') = 2
		AND count(*) FILTER (WHERE state = 'waiting') = 8
	FROM ocean_enrich.in_flight()});
$sandbox->wait(held => 2);
is(sql('SELECT spent, reserved, remaining FROM ocean_enrich.budget_status'),
	'15|6|0', 'in flight: reserved');

# One of them waits for the same person as bert, who has no budget.
my $waits = sql(q{
	SELECT request #>> '{person,email}' FROM generate_series(1, 10) AS i,
		ocean_person_request(email => format('flight%s@example.com', i)) AS request
	WHERE NOT EXISTS (SELECT FROM ocean_enrich.call AS c WHERE c.request = ocean_person_request(
		email => format('flight%s@example.com', i))) LIMIT 1});
my $joined = OceanTest::Query->start($node, 'SELECT ' . enrich($waits), user => 'bert');
wait_until($node,
	q{SELECT count(*) = 9 FROM ocean_enrich.in_flight() WHERE state = 'waiting'});
$sandbox->config(hold => JSON::PP::false);
my @ends = map { [ $_->finish ] } @queries;
is((grep { $_->[0] =~ /^\{/ } @ends), 2, 'in flight: two have their persons');
is((grep { $_->[1] =~ /OE402: budget of role "anna"/ } @ends),
	8, 'in flight: the others are refused');
like(($joined->finish)[0], qr/^\{/, 'in flight: who joined one of them is not');
is( sql(q{SELECT string_agg(role, ' ') FROM ocean_enrich.call WHERE request #>> '{person,email}' = '}
		  . "$waits'"),
	'bert',
	'in flight: and pays himself');
books_agree($node, $sandbox, 'in flight');

# A reservation that is not needed lets the next one go.

budget('anna', 'day', 24);
$sandbox->config(hold => JSON::PP::true);
@queries = map {
	OceanTest::Query->start($node, 'SELECT ' . enrich("sb-unknown.$_\@example.com"),
		user => 'anna')
} 1 .. 3;
$sandbox->wait(held => 1);
$sandbox->config(hold => JSON::PP::false);
is((grep { ($_->finish)[1] =~ /OE404/ } @queries),
	3, 'unknown people cost nothing, one after the other');

# What may have been paid stays reserved until somebody knows.

fails($node, 'SELECT ' . enrich('sb-cut-lost.anna@example.com'),
	qr/OE504/, 'a call has no outcome', user => 'anna');
refused('anna', 'seven@example.com', 'no outcome');
is(sql('SELECT spent, reserved, remaining FROM ocean_enrich.budget_status'),
	'21|3|0', 'no outcome: reserved');
my $unknown = sql(q{SELECT call_id FROM ocean_enrich.unknown_calls});
sql("SELECT ocean_enrich.resolve($unknown, 'give up')");
refused('anna', 'seven@example.com', 'no outcome, and nobody knows what it cost');
sql("SELECT ocean_enrich.resolve($unknown, 'give up', 0)");
goes('anna', 'seven@example.com', 'it cost nothing: the next one goes at once');
sql("SELECT ocean_enrich.resolve($unknown, 'give up', 3)");
budget('anna', 'day', 29);
refused('anna', 'eight@example.com', 'it has cost something');
budget('anna', 'day', 30);
goes('anna', 'eight@example.com', 'just that');
books_agree($node, $sandbox, 'resolved');

# A budget that comes while calls are in flight

budget('anna', 'day', undef);
$sandbox->config(hold => JSON::PP::true);
@queries = map {
	OceanTest::Query->start($node, 'SELECT ' . enrich("early$_\@example.com"),
		user => 'anna')
} 1 .. 4;
$sandbox->wait(held => 4);
budget('anna', 'day', 42);
my $query =
  OceanTest::Query->start($node, 'SELECT ' . enrich('late@example.com'), user => 'anna');
wait_until($node,
	q{SELECT count(*) = 1 FROM ocean_enrich.in_flight() WHERE state = 'waiting'});
is($sandbox->books->{held}, 4, 'a new budget: it counts what is in flight');
budget('anna', 'day', 45);
$sandbox->wait(held => 5);
pass('a new budget: raised, it lets the one that waits go');
$sandbox->config(hold => JSON::PP::false);
is((grep { ($_->finish)[0] =~ /^\{/ } @queries, $query),
	5, 'a new budget: all have their persons');
refused('anna', 'later@example.com', 'a new budget: and it is spent');
books_agree($node, $sandbox, 'a new budget');

# Reading ahead stops: a budget for three of twenty rows

budget('anna', 'day', 54);
my $requests = $sandbox->books->{requests};
$node->safe_psql('postgres', q{ALTER DATABASE postgres SET session_preload_libraries = 'ocean_enrich'});
fails(
	$node, q{
	SET ocean_enrich.concurrency = 16;
	SELECT count(}
	  . enrich(q{format('row%s@example.com', i)})
	  . q{) FROM generate_series(1, 20) AS i},
	qr/OE402: budget of role "anna"/,
	'reading ahead: the statement fails',
	user => 'anna');
wait_for_ledger($node);
is($sandbox->books->{requests}, $requests + 3, 'reading ahead: three were sent');
books_agree($node, $sandbox, 'reading ahead');

# Weeks and months begin when the calendar says so.

foreach my $period (qw(week month))
{
	my $start = "date_trunc('$period', now(), 'UTC')";
	sql(qq{CREATE ROLE $period LOGIN IN ROLE may_enrich;
		INSERT INTO ocean_enrich.call (endpoint, state, role, account, fingerprint, credits, requested_at, sent_at)
		SELECT 'person', 'answered', '$period', 'x', '', credits, sent_at, sent_at
		FROM (VALUES (30, $start), (500, $start - interval '1 microsecond')) AS v (credits, sent_at)});
	budget($period, $period, 32);
	refused($period, "$period\@example.com", "$period: the first moment counts");
	budget($period, $period, 33);
	goes($period, "$period\@example.com", "$period: what was before does not");
	is( sql("SELECT spent, remaining, resets_at = $start + interval '1 $period'
			FROM ocean_enrich.budget_status WHERE role = '$period'"),
		'33|0|t',
		"$period: so says the view");
	budget($period, 'day', 1000);
	refused($period, "more-$period\@example.com", "$period: a larger budget of a day does not help");
}

sql(q{DELETE FROM ocean_enrich.call WHERE account = 'x'});
books_agree($node, $sandbox, 'weeks and months');

# Who sees what: one's own, and all for roles that may read the budgets

my $see = q{SELECT string_agg(role || ' ' || period, ', ' ORDER BY role, period)
	FROM ocean_enrich.budget_status};
sql(q{INSERT INTO ocean_enrich.budget VALUES ('may_enrich', 'day', 1)});
is((OceanTest::Query->start($node, $see, user => 'anna')->finish)[0],
	'anna day, may_enrich day', 'a role sees its own budgets and those of its groups');
is((OceanTest::Query->start($node, $see, user => 'bert')->finish)[0],
	'may_enrich day', 'and no others');
sql(q{CREATE ROLE treasurer LOGIN; GRANT USAGE ON SCHEMA ocean_enrich TO treasurer;
	GRANT SELECT, INSERT, UPDATE, DELETE ON ocean_enrich.budget TO treasurer;
	GRANT SELECT ON ocean_enrich.budget_status TO treasurer});
is( (OceanTest::Query->start($node, $see, user => 'treasurer')->finish)[0],
	'anna day, may_enrich day, month day, month month, week day, week week',
	'who may read the budgets sees all of them');
goes('bert', 'group@example.com', 'a budget of a group does not bind its members');

# A role that was granted it manages them.

is( (   OceanTest::Query->start(
			$node, q{
			UPDATE ocean_enrich.budget SET credit_limit = 57 WHERE role = 'anna'},
			user => 'treasurer')->finish)[2],
	0,
	'a treasurer raises a budget');
goes('anna', 'treasurer@example.com', 'and it counts');
like(
	(   OceanTest::Query->start(
			$node, q{INSERT INTO ocean_enrich.budget VALUES ('nobody there', 'month', 1)},
			user => 'treasurer')->finish)[1],
	qr/WARNING:.* role "nobody there" does not exist/,
	'a role that does not exist is no error, but is said');
fails($node, q{INSERT INTO ocean_enrich.budget VALUES ('bert', 'month', 'NaN')},
	qr/23514/, 'a budget is a number');
fails($node, q{SELECT ocean_enrich.spending_changed()},
	qr/42501: permission denied for table call/,
	'who may not decide about calls may not keep the worker busy', user => 'bert');

# A role by another name is another role.

sql('ALTER ROLE anna RENAME TO annika');
goes('annika', 'renamed@example.com', 'a renamed role has no budget');
sql(q{UPDATE ocean_enrich.budget SET role = 'annika' WHERE role = 'anna'});
goes('annika', 'renamed2@example.com', 'its budget can follow it');
is(sql(q{SELECT spent FROM ocean_enrich.budget_status WHERE role = 'annika'}),
	6, 'and begins anew');

books_agree($node, $sandbox, 'in the end');
like(
	$node->run_log([ $node->installed_command('pg_dump'), '--file', $node->basedir . '/dump',
			'--dbname', $node->connstr('postgres') ])
	? PostgreSQL::Test::Utils::slurp_file($node->basedir . '/dump') : '',
	qr/^annika\tday\t57$/m,
	'a dump carries the budgets');

# Another extension has other budgets, and no trouble with them loses an answer.

sql(q{INSERT INTO ocean_enrich.budget VALUES ('bert', 'day', 0)});
refused('bert', 'dropped@example.com', 'before the extension is dropped');
sql('DROP EXTENSION ocean_enrich; CREATE EXTENSION ocean_enrich');
sql(q{GRANT EXECUTE ON FUNCTION ocean_enrich_person(jsonb), ocean_person_request TO bert});
$sandbox->reset;
goes('bert', 'dropped@example.com', 'after it was made again');
$sandbox->config(hold => JSON::PP::true);
$query =
  OceanTest::Query->start($node, 'SELECT ' . enrich('held@example.com'), user => 'bert');
$sandbox->wait(held => 1);
sql(q{INSERT INTO ocean_enrich.budget VALUES ('bert', 'day', 100)});
sql(q{GRANT USAGE ON SCHEMA ocean_enrich TO bert;
	ALTER TABLE ocean_enrich.budget OWNER TO bert;
	REVOKE ALL ON ocean_enrich.budget FROM bert});
$sandbox->config(hold => JSON::PP::false);
like(($query->finish)[0], qr/^\{/, 'an answer comes while the budgets cannot be read');
books_agree($node, $sandbox, 'budgets that cannot be read');
my $sent = $sandbox->books->{requests};
fails(
	$node, 'SELECT ' . enrich('unread@example.com'),
	qr/55000: could not record the request .*\n.*permission denied for table budget/,
	'and nothing more is sent', user => 'bert');
is($sandbox->books->{requests}, $sent, 'nothing at all');

done_testing();
