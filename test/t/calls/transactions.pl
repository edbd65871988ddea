# transactions.pl
#	What was paid for survives whatever becomes of the transaction that asked: a
#	rollback, an error on a later row, a subtransaction that fails.  The same
#	statement again then pays only for what is missing.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails books_agree);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);

# New contacts with new addresses; row 57 of 100 as told.
sub make_contacts
{
	my ($count, $row_57) = @_;
	$row_57 = defined $row_57 ? "'$row_57'" : 'NULL';
	$sandbox->reset;
	$node->safe_psql(
		'postgres', qq{
		DROP TABLE IF EXISTS contacts;
		TRUNCATE ocean_enrich.call;
		CREATE TABLE contacts (id int PRIMARY KEY, email text, enriched jsonb);
		INSERT INTO contacts (id, email)
			SELECT i, CASE WHEN i = 57 THEN coalesce($row_57, 'row57\@example.com')
				ELSE format('row%s\@example.com', i) END
			FROM generate_series(1, $count) AS i});
	return;
}

sub enriched_rows
{
	return $node->safe_psql('postgres',
		'SELECT count(enriched) FROM contacts');
}

my $update =
  'UPDATE contacts SET enriched = ' . enrich('email') . ' WHERE enriched IS NULL';

# A rollback

make_contacts(20);
$node->safe_psql('postgres', "BEGIN; $update; ROLLBACK");
is(enriched_rows(), 0, 'rollback: the rows are as before');
is($sandbox->books->{charges}, 20, 'rollback: each call was paid for');
books_agree($node, $sandbox, 'rollback');

$node->safe_psql('postgres', $update);
is(enriched_rows(), 20, 'after a rollback: the statement succeeds');
is($sandbox->books->{requests}, 20, 'after a rollback: it asks nothing');
books_agree($node, $sandbox, 'after a rollback');

# An error on row 57 of 100

make_contacts(100, 'sb-status-402.anna@example.com');
fails($node, $update, qr/OE402: Insufficient credits/, 'row 57 fails');
is(enriched_rows(), 0, 'row 57: the statement left nothing');
is($sandbox->books->{charges}, 56, 'row 57: 56 calls were paid for');
books_agree($node, $sandbox, 'row 57');

$node->safe_psql('postgres',
	q{UPDATE contacts SET email = 'anna@example.com' WHERE id = 57});
$node->safe_psql('postgres', $update);
is(enriched_rows(), 100, 'mended row 57: the statement succeeds');
is($sandbox->books->{charges}, 100, 'mended row 57: the rest was paid for');
is($sandbox->books->{requests}, 101, 'mended row 57: nothing was asked twice');
books_agree($node, $sandbox, 'mended row 57');

# Credits run out on the way

make_contacts(10);
$sandbox->config(credits => 12);
fails($node, $update, qr/OE402: Insufficient credits/, 'credits run out');
is($sandbox->books->{charges}, 4, 'credits run out: four calls were paid for');
books_agree($node, $sandbox, 'credits run out');
$sandbox->config(credits => undef);
$node->safe_psql('postgres', $update);
is($sandbox->books->{charges}, 10, 'new credits: six more were paid for');
books_agree($node, $sandbox, 'new credits');

# Savepoints, and exceptions that PL/pgSQL catches

make_contacts(10);
$node->safe_psql(
	'postgres', qq{
	BEGIN;
	SAVEPOINT before;
	$update;
	ROLLBACK TO before;
	$update;
	COMMIT});
is(enriched_rows(), 10, 'savepoint: the second try stays');
is($sandbox->books->{requests}, 10, 'savepoint: it asks nothing');

make_contacts(100, 'sb-unknown.7@example.com');
is( $node->safe_psql(
		'postgres', qq{
		CREATE FUNCTION enrich_or_say_why(email text) RETURNS text
		LANGUAGE plpgsql AS \$\$
		BEGIN
			RETURN @{[ enrich('email') ]} ->> 'id';
		EXCEPTION WHEN SQLSTATE 'OE404' THEN
			RETURN SQLERRM;
		END \$\$;
		SELECT count(*) FROM contacts
		WHERE enrich_or_say_why(email) = 'No matching record found'}),
	1,
	'exception: it is caught for one row');
is($sandbox->books->{charges}, 99, 'exception: the other rows are paid for');
is( $node->safe_psql(
		'postgres', q{
		SELECT count(*) FROM contacts WHERE enrich_or_say_why(email) <> ''}),
	100,
	'exception: all rows again');
is($sandbox->books->{requests},
	100, 'exception: the miss is not asked again either');
books_agree($node, $sandbox, 'exception');

# PL/pgSQL rolls all of a block back whose last row fails.
make_contacts(100, 'sb-status-402.berta@example.com');
$node->safe_psql(
	'postgres', qq{
	DO \$\$
	BEGIN
		$update;
	EXCEPTION WHEN SQLSTATE 'OE402' THEN
		UPDATE contacts SET email = 'berta\@example.com' WHERE id = 57;
		$update;
	END \$\$});
is(enriched_rows(), 100, 'block: the second try succeeds');
is($sandbox->books->{charges}, 100, 'block: each row was paid for once');
is($sandbox->books->{requests}, 101, 'block: nothing was asked twice');
books_agree($node, $sandbox, 'block');

# A statement that fails behind the calls, when all of them are answered

make_contacts(10);
$node->safe_psql('postgres',
	q{ALTER TABLE contacts ADD CHECK (id < 10 OR enriched IS NULL)});
fails($node, $update, qr/23514: /, 'a constraint refuses the last row');
is($sandbox->books->{charges}, 10, 'constraint: all calls were paid for');
$node->safe_psql('postgres', "$update AND id < 10");
is($sandbox->books->{requests}, 10, 'constraint: nothing is asked again');
books_agree($node, $sandbox, 'constraint');

done_testing();
