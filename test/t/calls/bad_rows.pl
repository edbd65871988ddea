# bad_rows.pl
#	A row whose request cannot be sent does not stop the others if errors are
#	values; if they are raised, the row can be found, and the log names nobody.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node fails wait_for_ledger books_agree);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, extra_conf => "session_preload_libraries = 'ocean_enrich'");

# As from a CSV file in which a quotation mark has no match: the third row has all the
# others in a cell, and of the fifth nothing identifies anybody.  The ninth is fine, but
# nobody knows that person.
my $request = 'ocean_person_request(email => email, job_title => job_title)';
$node->safe_psql('postgres', q{
	CREATE TABLE contacts (id int PRIMARY KEY, email text, job_title text, enriched jsonb, problem text);
	INSERT INTO contacts
	SELECT i, CASE i WHEN 9 THEN 'sb-unknown@example.com' ELSE 'p' || i || '@example.com' END,
		CASE i WHEN 3 THEN repeat('x', 70000) WHEN 7 THEN repeat('y', 100000) ELSE 'Baker' END
	FROM generate_series(1, 9) AS i;
	UPDATE contacts SET email = NULL WHERE id = 5});

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Errors as values

my $too_long = 'the request is longer than 65536 bytes (the longest value is "person.jobTitle")';
foreach my $concurrency (1, 16)
{
	my $before = $sandbox->books->{requests};
	sql(qq{
		SET ocean_enrich.concurrency = $concurrency; SET ocean_enrich.reuse_for = 0;
		UPDATE contacts SET (enriched, problem) = (
			SELECT r.answer, r.error_code || ' ' || r.error_message FROM ocean_try_enrich_person($request) AS r)});
	is( sql('SELECT id, enriched IS NOT NULL, problem FROM contacts WHERE problem IS NOT NULL OR enriched IS NULL ORDER BY id'),
		"3|f|22023 $too_long\n5|f|\n7|f|22023 $too_long\n9|f|OE404 No matching record found",
		"ocean_try_enrich_person: one row each, $concurrency at once");
	is($sandbox->books->{requests} - $before, 6, "the others are asked for, $concurrency at once");
}
is( sql(qq{
		CREATE TABLE submitted AS
		SELECT id, s.* FROM contacts, ocean_enrich.try_submit($request, not_before => now() + '1 day') AS s;
		SELECT id, call_id IS NOT NULL, error_code, error_message FROM submitted ORDER BY id}),
	"1|t||\n2|t||\n3|f|22023|$too_long\n4|t||\n5|f||\n6|t||\n7|f|22023|$too_long\n8|t||\n9|t||",
	'try_submit(): one row each');
is(sql(q{SELECT count(*), count(*) FILTER (WHERE call_id IN (SELECT call_id FROM submitted)) FROM ocean_enrich.call WHERE state = 'queued'}),
	'6|6', 'try_submit(): the others are queued');
is(sql(qq{SELECT string_agg(id::text, ' ' ORDER BY id) FROM contacts WHERE ocean_enrich.request_error($request) IS NOT NULL}),
	'3 7', 'request_error() finds all of them');
is(sql(qq{SELECT requests, to_send, known, invalid FROM ocean_enrich.estimate(\$\$SELECT ocean_enrich.try_submit($request) FROM contacts\$\$)}),
	'8|0|6|2', 'estimate() counts the requests of try_submit()');

# Raised

my $log_size = -s $node->logfile;
my $ordered = 'FROM (SELECT * FROM contacts ORDER BY id) AS contacts';
foreach my $call ("ocean_enrich_person($request)", "ocean_enrich.submit($request)")
{
	my ($name) = split /\(/, $call;
	fails($node, "SELECT $call $ordered",
		qr/ERROR:  22023: \Q$too_long\E\n(?s:.*)CONTEXT:  request 3 of the statement\n/,
		"$name: which request of the statement it is");

	# NULL is no request.
	fails($node, "SELECT 1; SELECT $call $ordered WHERE id > 4",
		qr/ERROR:  22023: (?s:.*)CONTEXT:  request 2 of the statement\n/,
		"$name: each statement counts anew");
	fails($node, "SELECT $call $ordered WHERE id = 3",
		qr/^(?!.*CONTEXT).*ERROR:  22023: /s, "$name: the first one goes without saying");
}
fails($node, "SELECT ocean_enrich_person($request) $ordered WHERE id >= 8",
	qr/ERROR:  OE404: No matching record found\n(?s:.*)CONTEXT:  request 2 of the statement, call \d+\n/,
	'which call it is, if there is one');
fails(
	$node, qq{
	DO \$\$
	DECLARE
		one jsonb;
	BEGIN
		FOR one IN SELECT $request $ordered LOOP
			PERFORM ocean_enrich_person(one);
		END LOOP;
	END \$\$},
	qr/ERROR:  22023: (?s:.*)CONTEXT:  request 3 of the statement\nSQL statement/,
	'in a loop, too');
ok(!$node->log_contains(qr/p\d\@example|sb-unknown\@|Baker|xxx/, $log_size), 'the log names nobody');

wait_for_ledger($node);
books_agree($node, $sandbox, 'bad rows');

done_testing();
