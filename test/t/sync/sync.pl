# sync.pl
#	A sync: existing rows, inserted and changed ones are asked for and
#	written; deleted ones are not; the counters add up.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node fails books_agree wait_until);
use SyncTest qw(settled status owner create);
use PostgreSQL::Test::Utils;
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);
owner($node, 'anna');

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(q{
	SET ROLE anna;
	CREATE TABLE contacts (id integer PRIMARY KEY, email text, note text, enriched jsonb);
	INSERT INTO contacts SELECT i, 'person' || i || '@example.com' FROM generate_series(1, 20) AS i;
	INSERT INTO contacts VALUES (21, NULL), (22, ' '), (23, 'x.sb-unknown@example.com'),
		(24, 'x.sb-status-400@example.com'), (25, 'x.sb-cut-lost@example.com')});

# Existing rows

is(create($node, 'anna', 'contacts'), 23, 'existing rows that have a request are noted');
settled($node);
is(sql(q{SELECT count(*) FROM contacts WHERE enriched ->> 'domain' = 'example.com'}),
	20, 'answers are written');
is(sql('SELECT count(*) FROM contacts WHERE enriched IS NOT NULL'), 20, 'and nothing else');
is(status($node), 'enabled|0|0|20|1|1|1|60.0', 'the counters say so')
  or diag(sql('TABLE ocean_enrich.sync_row'));
is( sql(q{SELECT key, state, error_code FROM ocean_enrich.sync_errors ORDER BY key}),
	"{24}|failed|OE400\n{25}|unknown|OE504",
	'what went wrong is listed');
my $requests = $sandbox->books->{requests};
is($requests, 23, 'each row was asked for once');

# Changes

sql(q{INSERT INTO contacts VALUES (31, 'new1@example.com'), (32, NULL), (33, 'new2@example.com')});
settled($node);
is(sql('SELECT count(*) FROM contacts WHERE id > 30 AND enriched IS NOT NULL'),
	2, 'inserted rows are asked for');

sql(q{UPDATE contacts SET note = 'seen'});
sql(q{UPDATE contacts SET email = email, enriched = enriched});
settled($node);
is($sandbox->books->{requests}, $requests + 2, 'other changes ask for nothing');

sql(q{UPDATE contacts SET email = 'changed@example.com' WHERE id IN (1, 32)});
settled($node);
is( sql(q{SELECT enriched -> 'email' ->> 'address' FROM contacts WHERE id IN (1, 32)}),
	"changed\@example.com\nchanged\@example.com",
	'a changed row gets a new answer');
is($sandbox->books->{requests}, $requests + 3, 'two equal requests are one call');

sql(q{UPDATE contacts SET email = 'y.sb-unknown@example.com' WHERE id = 2});
settled($node);
is(sql('SELECT enriched IS NULL FROM contacts WHERE id = 2'),
	't', 'an answer for somebody else does not stay when the new one is not found');

sql(q{UPDATE contacts SET id = 1003 WHERE id = 3});
settled($node);
is( sql(q{SELECT key FROM ocean_enrich.sync_row WHERE key IN ('{3}', '{1003}')}),
	'{1003}', 'a row may change its key');

sql('DELETE FROM contacts WHERE id BETWEEN 5 AND 9');
settled($node);
is(status($node), 'enabled|0|0|17|2|1|1|69.0', 'deleted rows are forgotten');

sql(q{
	BEGIN;
	INSERT INTO contacts VALUES (40, 'rolled.back@example.com');
	ROLLBACK;
	BEGIN;
	INSERT INTO contacts VALUES (41, 'kept@example.com');
	SAVEPOINT s;
	INSERT INTO contacts VALUES (42, 'rolled.back@example.com');
	ROLLBACK TO s;
	COMMIT;
	INSERT INTO contacts VALUES (41, 'merged@example.com')
	ON CONFLICT (id) DO UPDATE SET email = excluded.email});
settled($node);
is($sandbox->books(identity => 'rolled.back@example.com')->{people}{'rolled.back@example.com'}{requests},
	0, 'what is rolled back is not asked for');
is(sql(q{SELECT enriched -> 'email' ->> 'address' FROM contacts WHERE id = 41}),
	'merged@example.com', 'ON CONFLICT DO UPDATE is a change');

# In other isolation levels, by COPY, and by a column that another one keeps

sql(q{BEGIN ISOLATION LEVEL SERIALIZABLE;
	SELECT count(*) FROM contacts;
	UPDATE contacts SET email = 'serial@example.com' WHERE id = 10;
	COMMIT});
sql(qq{COPY contacts (id, email) FROM stdin;\n50\tcopied\@example.com\n\\.\n});
sql('ALTER TABLE contacts ADD second jsonb; ALTER TABLE contacts ADD third text');
sql(q{SET ROLE anna; SELECT ocean_enrich.create_sync('second', 'contacts',
	'ocean_person_request(linkedin => enriched ->> ''linkedinUrl'')', 'second', condition => 'id IN (10, 50)')});
settled($node);
settled($node, 'second');
is(sql('SELECT id, enriched IS NOT NULL, second IS NOT NULL FROM contacts WHERE id IN (10, 11, 50) ORDER BY id'),
	"10|t|t\n11|t|f\n50|t|t", 'serializable, COPY, and one column after the other');
sql(q{UPDATE contacts SET email = 'again@example.com' WHERE id = 10});
settled($node);
settled($node, 'second');
is( sql(q{SELECT count(*) FROM ocean_enrich.call AS c, ocean_enrich.sync_row AS r, contacts AS t
		WHERE r.key = '{10}' AND c.call_id = r.call_id AND t.id = 10
			AND c.answer = CASE c.sync_id WHEN 1 THEN t.enriched ELSE t.second END}),
	2, 'what one writes is a change for the other');

sql(q{SELECT ocean_enrich.drop_sync('second'); TRUNCATE contacts});
settled($node);
is( status($node),
	'enabled|0|0|0|0|0|0|' . sql('SELECT round(sum(credits), 1) FROM ocean_enrich.call WHERE sync_id = 1'),
	'TRUNCATE leaves nothing but what it cost');
books_agree($node, $sandbox, 'after all that');

# An error has the SQLSTATE that ocean_enrich_person() would raise, also where the status
# has none of its own.

sql(q{INSERT INTO contacts VALUES (99, 'x.sb-status-410@example.com')});
wait_until($node, q{SELECT count(*) = 1 FROM ocean_enrich.sync_errors WHERE key = '{99}'});
is(sql(q{SELECT error_code FROM ocean_enrich.sync_errors WHERE key = '{99}'}), 'OE400', 'another 4xx is OE400');

# The end

sql(q{SELECT ocean_enrich.drop_sync('contacts')});
is(sql(q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'contacts'::regclass}),
	0, 'dropping removes the triggers');
is( sql(q{SELECT (SELECT count(*) FROM ocean_enrich.sync) + (SELECT count(*) FROM ocean_enrich.sync_row)
		+ (SELECT count(*) FROM ocean_enrich.sync_inbox) + (SELECT count(*) FROM ocean_enrich.sync_settled)
		+ (SELECT count(*) FROM ocean_enrich.sync_count)}),
	0, 'and all that was known');

done_testing();
