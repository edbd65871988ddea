# wrong_url.pl
#	Where the URL is not the API's, a 404 is no answer about a person: nothing is
#	reused, nothing is emptied, and what is queued waits.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails wait_until);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, extra_conf => "ocean_enrich.retry_wait_max = 1s\nocean_enrich.not_found = 'null'");
my $url = $sandbox->url;

fails($node, "SET ocean_enrich.api_url = '$url/elsewhere'; SELECT " . enrich('anna@example.com'),
	qr/OE502: .*\nDETAIL:  HTTP status 404\.  Nothing was paid\..*\nHINT: .*api_url/, '404 of somebody else: an error');
is($node->safe_psql('postgres', 'SELECT state, status FROM ocean_enrich.call'), 'failed|404', 'and it failed');
is($node->safe_psql('postgres', "SET ocean_enrich.api_url = '$url/v2/'; SELECT " . enrich('anna@example.com') . " ->> 'domain'"),
	'example.com', 'with /v2 the URL is understood');
is($node->safe_psql('postgres', 'SELECT count(DISTINCT account) FROM ocean_enrich.call'), 2,
	'as another account than that of the wrong one');
is($node->safe_psql('postgres', 'SELECT ' . enrich('anna@example.com') . " ->> 'domain'"), 'example.com',
	'without it too');
is($sandbox->books->{requests}, 1, 'and as the same account');
is($node->safe_psql('postgres', 'SELECT ' . enrich('sb-unknown@example.com') . ' IS NULL'), 't',
	'404 of the API: no such person');

# The queue waits until the URL is right.

$node->append_conf('postgresql.conf', "ocean_enrich.api_url = '$url/elsewhere'");
$node->reload;
$node->safe_psql('postgres', q{
	SELECT ocean_enrich.submit(ocean_person_request(email => 'queued' || i || '@example.com')) FROM generate_series(1, 100) AS i});
wait_until($node, q{SELECT pause = 'the API fails (HTTP status 404)' FROM ocean_enrich.queue_status});
is($node->safe_psql('postgres', q{SELECT count(*) FROM ocean_enrich.call WHERE state IN ('refused', 'answered')
	AND request #>> '{person,email}' ~ '^queued'}), 0, 'the queue: none has its end');
$node->append_conf('postgresql.conf', "ocean_enrich.api_url = '$url'");
$node->reload;
wait_until($node, q{SELECT count(*) = 100 FROM ocean_enrich.call WHERE state = 'answered'
	AND request #>> '{person,email}' ~ '^queued'});
is($sandbox->books->{requests}, 102, 'the queue: all go when it is right');

done_testing();
