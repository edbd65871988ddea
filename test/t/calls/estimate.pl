# estimate.pl
#	What a statement would send and cost: nothing is sent by the estimate and
#	nothing is changed, whatever becomes of the statement; and the statement then
#	sends just that.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails wait_until books_agree);
use Test::More;

# The day of the limits, which is UTC's, must not end in the middle of the test.
my $left_of_day = 86400 - time() % 86400;
sleep $left_of_day if $left_of_day < 60;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox,
	extra_conf => "session_preload_libraries = 'ocean_enrich'\nocean_enrich.concurrency = 8");

sub sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# Columns of the estimate of a statement, after the statements before it.
sub estimate
{
	my ($query, %options) = @_;
	my $columns = $options{columns}
	  // 'requests, to_send, repeated, known, outcome_unknown, invalid';
	my ($stdout, $stderr) = OceanTest::Query->start(
		$node,
		($options{before} // '')
		  . "SELECT $columns FROM ocean_enrich.estimate(\$query\$$query\$query\$)",
		user => $options{user})->finish;
	return $stdout . $stderr;
}

sql(q{
	CREATE TABLE contacts (id int PRIMARY KEY, email text, enriched jsonb, note text);
	INSERT INTO contacts (id, email) SELECT i, format('row%s@example.com', i)
		FROM generate_series(1, 6) AS i;
	INSERT INTO contacts (id, email) VALUES (7, NULL), (8, 'row1@example.com'), (9, 'known@example.com'),
		(10, 'sb-unknown@example.com'), (11, 'sb-cut-lost@example.com');
	CREATE TABLE log (line text);
	CREATE FUNCTION log_contact() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN INSERT INTO log VALUES (NEW.id); RETURN NEW; END $$;
	CREATE TRIGGER log_contact BEFORE UPDATE ON contacts FOR EACH ROW EXECUTE FUNCTION log_contact()});
sql("SELECT " . enrich('known@example.com'));
fails($node, 'SELECT ' . enrich('sb-unknown@example.com'), qr/OE404/, 'somebody is not known');
fails($node, 'SELECT ' . enrich('sb-cut-lost@example.com'), qr/OE504/, 'a call has no outcome');

my $before = $sandbox->books;
my $ledger = sql('SELECT count(*), max(call_id) FROM ocean_enrich.call');

sub nothing_happened
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name) = @_;
	my $books = $sandbox->books;
	return is_deeply(
		[ $books->{requests}, sql('SELECT count(*), max(call_id) FROM ocean_enrich.call'),
			sql('SELECT count(*) FROM ocean_enrich.in_flight()'),
			sql('SELECT count(enriched), count(note) FROM contacts'),
			sql('SELECT count(*) FROM log') ],
		[ $before->{requests}, $ledger, 0, '0|0', 0 ],
		"$name: nothing happened");
}

# Each way to say the same

my $request = 'ocean_person_request(email => email)';
my %statements = (
	'requests' => "SELECT $request FROM contacts",
	'SELECT' => "SELECT id, ocean_enrich_person($request) FROM contacts",
	'SELECT of the person alone' => "SELECT ocean_enrich_person($request) FROM contacts ORDER BY id",
	'SELECT as a value' => "SELECT r.answer, r.status FROM contacts, ocean_try_enrich_person($request) AS r",
	'UPDATE' => "UPDATE contacts SET enriched = ocean_enrich_person($request), note = 'x'",
	'UPDATE with RETURNING' =>
	  "UPDATE contacts SET enriched = ocean_enrich_person($request) RETURNING enriched",
	'INSERT' =>
	  "INSERT INTO contacts SELECT id + 100, email, ocean_enrich_person($request) FROM contacts",
	'CREATE TABLE AS' => "CREATE TABLE people AS SELECT ocean_enrich_person($request) FROM contacts",
	'MERGE' => "MERGE INTO contacts AS t USING contacts AS s ON t.id = s.id
		WHEN MATCHED THEN UPDATE SET enriched = ocean_enrich_person(ocean_person_request(email => s.email))",
	'WITH' => "WITH u AS (UPDATE contacts SET enriched = ocean_enrich_person($request) RETURNING id)
		SELECT count(*) FROM u",
	'submit' => "SELECT ocean_enrich.submit($request) FROM contacts",
	'a function' => 'SELECT enrich_all()',
	'a trigger' => 'INSERT INTO enriching (email) SELECT email FROM contacts');
sql(qq{
	CREATE FUNCTION enrich_all() RETURNS void LANGUAGE plpgsql AS \$\$
		DECLARE r record;
		BEGIN FOR r IN SELECT email FROM contacts LOOP
			BEGIN
				UPDATE contacts SET enriched = ocean_enrich_person(ocean_person_request(email => r.email))
					WHERE email = r.email OR r.email IS NULL AND contacts.id = 7;
			EXCEPTION WHEN division_by_zero THEN NULL;
			END;
		END LOOP; END \$\$;
	CREATE TABLE enriching (email text, enriched jsonb);
	CREATE FUNCTION enrich_row() RETURNS trigger LANGUAGE plpgsql AS \$\$
		BEGIN NEW.enriched := ocean_enrich_person(ocean_person_request(email => NEW.email)); RETURN NEW; END \$\$;
	CREATE TRIGGER enrich_row BEFORE INSERT ON enriching FOR EACH ROW EXECUTE FUNCTION enrich_row()});
foreach my $name (sort keys %statements)
{
	# The function asks for both rows of the same address, twice.
	is(estimate($statements{$name}),
		$name eq 'a function' ? '12|6|3|2|1|0' : '10|6|1|2|1|0', $name);
}
nothing_happened('all ways');
is(sql(q{SELECT to_regclass('people') IS NULL}), 't', 'no table was made');

# What is known is given back, and NULL for all else.

is( estimate(
		"INSERT INTO contacts (id, enriched, note) SELECT 1000 + id, e, e ->> 'domain'
		FROM contacts, ocean_enrich_person($request) AS e
		WHERE 1 / (CASE WHEN e IS NULL THEN 1 ELSE (e ->> 'domain' <> '')::int END) = 1"),
	'10|6|1|2|1|0',
	'known persons can be computed with');
is(estimate(
		"SELECT ocean_enrich_person(ocean_person_request(email => 'known\@example.com')) ->> 'domain',
			1 / (ocean_enrich_person(ocean_person_request(email => 'known\@example.com')) IS NOT NULL)::int"),
	'2|0|1|1|0|0', 'a known person, twice');

# What would be refused before it is sent

is( estimate(q{SELECT ocean_enrich_person(r::jsonb) FROM (VALUES ('{}'), ('[]'), ('{"person": {}}'),
		('{"person": {"emial": "x"}}'), ('{"person": {"email": "new@example.com"}}'), (NULL)) AS v (r)}),
	'5|1|0|0|0|4', 'invalid requests are counted');
like(estimate('SELECT id, email FROM contacts'),
	qr/^0\|0\|0\|0\|0\|0.*NOTICE:.*the statement made no call and returned no requests/s,
	'a statement about something else');
is(estimate('SELECT id FROM contacts WHERE false'), '0|0|0|0|0|0', 'no rows');
is(estimate(q{SELECT ocean_person_request(email => 'same@example.com') FROM generate_series(1, 5)},
		before => 'SET ocean_enrich.reuse_for = 0;'),
	'5|5|0|0|0|0', 'without reuse, each is paid');
is(estimate(q{SELECT ocean_person_request(email => 'known@example.com')},
		before => 'SET ocean_enrich.reuse_for = 0;'),
	'1|1|0|0|0|0', 'and so is what is known');
is( estimate(q{SELECT ocean_person_request(email => 'ro@example.com')},
		before => 'SET default_transaction_read_only = on;'),
	'1|1|0|0|0|0', 'in a transaction that only reads');
is( estimate(q{SELECT ocean_person_request(email => 'known@example.com')},
		before => q{SET ocean_enrich.api_token = 'another';}),
	'1|1|0|0|0|0', 'for another account nothing is known');
fails($node, q{SET ocean_enrich.api_token = ''; SELECT ocean_enrich.estimate('SELECT 1')},
	qr/28000/, 'an estimate needs to know the account');

# Statements that could not be rolled back, or that are none

my %refused = (
	'BEGIN' => '0A000: cannot estimate BEGIN',
	'COMMIT' => '0A000',
	'VACUUM contacts' => '0A000: cannot estimate VACUUM',
	'DO $$BEGIN COMMIT; END$$' => '0A000: cannot estimate DO',
	'EXPLAIN ANALYZE SELECT 1' => '0A000',
	"COPY contacts TO '/dev/null'" => '0A000',
	'CREATE TABLE x ()' => '0A000',
	'SELECT 1; SELECT 2' => '42601: exactly one statement can be estimated, not 2',
	'' => '42601',
	'SELEC' => '42601',
	'SELECT $1' => '42P02',
	'SELECT commits()' => '2D000',
	'SELECT * FROM nowhere' => '42P01');
sql(q{CREATE FUNCTION commits() RETURNS void LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$});
foreach my $statement (sort keys %refused)
{
	like(estimate($statement), qr/ERROR:  $refused{$statement}/, "refused: $statement");
}
nothing_happened('refused');

# However an estimate ends, the next call is a real one.

sql(q{CREATE FUNCTION fails_at(i int) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN RETURN 1 / (3 - i); END $$});
like( estimate(
		q{UPDATE contacts SET note = fails_at(id), enriched = }
		  . enrich(q{format('fail%s@example.com', id)})),
	qr/ERROR:  22012/, 'the error of a statement is its own');
nothing_happened('an error');
is( (   OceanTest::Query->start(
			$node, q{
			DO $$ BEGIN
				BEGIN
					UPDATE contacts SET note = 'inner';
					PERFORM ocean_enrich.estimate('SELECT fails_at(3), ' || }
			  . q{'ocean_enrich_person(ocean_person_request(email => ''a@example.com''))');
				EXCEPTION WHEN division_by_zero THEN
					UPDATE log SET line = '' WHERE false;
				END;
				ASSERT NOT EXISTS (SELECT FROM contacts WHERE note IS NOT NULL);
				PERFORM ocean_enrich_person(ocean_person_request(email => 'after-error@example.com'));
			END $$}
		)->finish)[1],
	'', 'an error that is caught');
is($sandbox->books(identity => 'after-error@example.com')->{people}{'after-error@example.com'}{requests},
	1, 'and the next call is sent');

my $cancelled = OceanTest::Query->start(
	$node, q{
	DO $$ BEGIN
		BEGIN
			PERFORM ocean_enrich.estimate('SELECT ocean_enrich_person(ocean_person_request('
				'email => ''b@example.com'')), pg_sleep(600)');
		EXCEPTION WHEN query_canceled THEN NULL;
		END;
		PERFORM ocean_enrich_person(ocean_person_request(email => 'after-cancel@example.com'));
	END $$});
wait_until($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
is(($cancelled->finish)[1], '', 'a cancel');
is($sandbox->books(identity => 'after-cancel@example.com')->{people}{'after-cancel@example.com'}{requests},
	1, 'and the next call is sent');
$before = $sandbox->books;
$ledger = sql('SELECT count(*), max(call_id) FROM ocean_enrich.call');

# An estimate in an estimate, and beside real calls

is( estimate(q{SELECT e.to_send, }
		  . enrich('outer@example.com')
		  . q{ FROM ocean_enrich.estimate('SELECT }
		  . q{ocean_person_request(email => format(''x%s@example.com'', i)) FROM generate_series(1, 3) AS i') AS e}),
	'1|1|0|0|0|0',
	'an estimate in an estimate');
nothing_happened('an estimate in an estimate');

# Money and time

my $many = q{SELECT ocean_person_request(email => format('many%s@example.com', i)) FROM generate_series(1, %s) AS i};
my $other = q{SET ocean_enrich.api_token = 'another'; };
sub forecast
{
	my ($count, $settings) = @_;
	return estimate(sprintf($many, '%s', $count),
		columns => 'to_send, allowed, credits_at_most, seconds_at_least',
		before => "$other$settings");
}
is(forecast(100, ''), '100|100|300|0', 'no limits');
is(forecast(0, 'SET ocean_enrich.rate_limit = 1;'), '0|0|0|0', 'nothing to send');
is(forecast(3, q{SET ocean_enrich.credits_per_call = '0.1';}), '3|3|0.3|0', 'tenths of a credit');
is(forecast(5, 'SET ocean_enrich.rate_limit = 2;'), '5|5|15|120', 'the rate limit');
is(forecast(1000, 'SET ocean_enrich.rate_limit = 60;'), '1000|1000|3000|960', 'as by default');
is(forecast(100, 'SET ocean_enrich.daily_limit = 40;'), '100|40|300|0', 'the daily limit');
is(forecast(100, q{SET ocean_enrich.credit_limit = '100';}), '100|33|300|0', 'the credit limit');

# One address and one number for each person, whatever tells of it.
my $revealing = q{SELECT ocean_person_request(email => format('reveal%s@example.com', i), reveal_emails => i <> 2,
	reveal_emails_webhook_url => CASE WHEN i = 1 THEN 'https://elsewhere.example' END,
	reveal_phones => CASE WHEN i > 2 THEN true END,
	reveal_phones_webhook_url => CASE WHEN i > 3 THEN 'https://elsewhere.example' END) FROM generate_series(1, 5) AS i};
sub reveals
{
	my ($settings) = @_;
	return estimate($revealing, columns => 'to_send, credits_at_most, allowed', before => "$other$settings");
}
is(reveals(''), '5|49|5', 'reveals: four addresses and three numbers');
is(reveals(q{SET ocean_enrich.credits_per_email = '0.5'; SET ocean_enrich.credits_per_phone = '2.25';}), '5|23.75|5',
	'reveals: by the settings');
is(reveals('SET ocean_enrich.credits_per_call = 0; SET ocean_enrich.credits_per_email = 0; SET ocean_enrich.credits_per_phone = 0;'),
	'5|0|5', 'reveals: for nothing');
# What a webhook tells is not reserved: 3 and 3 for the first two, 14, and 4 for each of the others.
is(reveals(q{SET ocean_enrich.credit_limit = '28';}), '5|49|5', 'reveals: what just fits is allowed');
is(reveals(q{SET ocean_enrich.credit_limit = '27';}), '5|49|1', 'reveals: else as many as surely fit, the dearest first');
is(estimate("SELECT r FROM ($revealing) AS v (r), generate_series(1, 2)",
		columns => 'to_send, repeated, credits_at_most', before => $other), '5|5|49', 'reveals: repeated ones cost once');
is(estimate("SELECT r FROM ($revealing) AS v (r), generate_series(1, 2)",
		columns => 'to_send, repeated, credits_at_most', before => "${other}SET ocean_enrich.reuse_for = 0;"), '10|0|98',
	'reveals: or twice');

# They were sent within the last minute, however slow this test is.
sql('UPDATE ocean_enrich.call SET sent_at = now() WHERE sent_at IS NOT NULL');
like(
	estimate(sprintf($many, '%s', 6), columns => 'allowed, seconds_at_least > 60 AND seconds_at_least <= 120',
		before => 'SET ocean_enrich.rate_limit = 5; SET ocean_enrich.daily_limit = 9;'),
	qr/^4\|t$/, 'what was sent already counts');

# As the caller, with his rights

sql(q{
	CREATE ROLE may_enrich;
	GRANT EXECUTE ON FUNCTION ocean_enrich_person(jsonb), ocean_person_request TO may_enrich;
	GRANT USAGE ON SCHEMA ocean_enrich TO may_enrich;
	GRANT EXECUTE ON FUNCTION ocean_enrich.estimate(text) TO may_enrich;
	CREATE ROLE anna LOGIN IN ROLE may_enrich;
	CREATE ROLE reader LOGIN;
	CREATE ROLE nobody LOGIN;
	GRANT USAGE ON SCHEMA ocean_enrich TO reader, nobody;
	GRANT EXECUTE ON FUNCTION ocean_enrich.estimate(text), ocean_person_request TO reader;
	GRANT SELECT ON contacts TO anna, reader;
	GRANT UPDATE (note) ON contacts TO anna;
	GRANT CREATE ON DATABASE postgres TO anna;
	INSERT INTO ocean_enrich.budget VALUES ('anna', 'month', '10')});
is( estimate($statements{SELECT},
		user => 'anna',
		columns => 'requests, to_send, known, allowed, credits_at_most'),
	'10|6|2|3|18', 'an ordinary role, whose budget allows three');
like(estimate($statements{UPDATE}, user => 'anna'),
	qr/42501: permission denied for table contacts/, 'with no more rights than its own');
is(estimate($statements{requests}, user => 'reader'),
	'10|6|1|2|1|0', 'who may only estimate counts requests');
like(estimate($statements{SELECT}, user => 'reader'),
	qr/42501: permission denied for function ocean_enrich_person/, 'but calls nothing');
fails($node, q{SELECT ocean_enrich.estimate('SELECT 1')}, qr/42501/,
	'who was not given it may not estimate',
	user => 'nobody');

# No operator of the caller's is run with the rights of the ledger's owner.

is( (   OceanTest::Query->start(
			$node, q{
			CREATE SCHEMA planted;
			CREATE FUNCTION planted.equal(bytea, bytea) RETURNS boolean LANGUAGE plpgsql AS $$
				BEGIN RAISE NOTICE 'run by %', current_user; RETURN true; END $$;
			CREATE OPERATOR planted.= (FUNCTION = planted.equal, LEFTARG = bytea, RIGHTARG = bytea);
			SET search_path = planted, pg_catalog, public;
			SELECT requests, known FROM ocean_enrich.estimate('SELECT public.ocean_person_request('
				'email => ''known@example.com'')');
			SHOW search_path},
			user => 'anna')->finish)[1],
	'', 'planted operators are not used');
nothing_happened('rights');

# The statement does what the estimate said.

my ($to_send, $credits) = split /\|/, estimate($statements{'SELECT as a value'},
	columns => 'to_send, credits_at_most');
my $charged = $sandbox->books->{charged};
sql(qq{UPDATE contacts SET enriched = (SELECT answer FROM ocean_try_enrich_person($request))});
is($sandbox->books->{requests}, $before->{requests} + $to_send, 'so many requests are sent');
is($sandbox->books->{charged}, $charged + $credits, 'so much is charged');
is(estimate($statements{requests}), '10|0|1|8|1|0', 'and then all is known');
books_agree($node, $sandbox, 'in the end');

done_testing();
