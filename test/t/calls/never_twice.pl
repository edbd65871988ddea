# never_twice.pl
#	A request that the API may have read is never sent again: not by libcurl,
#	which would do so silently when a kept connection dies, not by a retry, and
#	not by the same statement run again.  Connections that die idle harm nobody.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails wait_until books_agree);
use Test::More;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);

# One session, so that one worker keeps its connections throughout.
my $session = $node->background_psql('postgres');

sub requests
{
	my ($email) = @_;
	return $sandbox->books(identity => $email)->{people}{$email}{requests};
}

sub call
{
	my ($email) = @_;
	return $session->query_safe(
		qq{SELECT coalesce(error_code, answer ->> 'id')
		FROM ocean_try_enrich_person(ocean_person_request(email => '$email'))});
}

# Answers that are lost or say that something failed behind the API, on a
# connection that was used before

$session->query_safe(q{SET ocean_enrich.request_timeout = '1s'});
foreach my $case (
	[ 'cut-lost', 'OE504' ],
	[ 'cut-before', 'OE504' ],
	[ 'cut-during', 'OE504' ],
	[ 'truncated', 'OE504' ],
	[ 'hang', 'OE504' ],
	[ 'status-500', 'OE500' ],
	[ 'status-504', 'OE504' ],
	[ 'status-524', 'OE504' ])
{
	my ($fault, $sqlstate) = @$case;
	my $email = "sb-$fault.anna\@example.com";
	unlike(call("before.$fault\@example.com"),
		qr/^OE/, "$fault: a call leaves its connection open");
	my $connections = $sandbox->books->{connections};

	is(call($email), $sqlstate, "$fault: the call fails");
	is($sandbox->books->{connections},
		$connections, "$fault: it went through the kept connection");
	is( $session->query_safe(qq{
			SELECT state, attempts FROM ocean_enrich.call
			WHERE request #>> '{person,email}' = '$email'}),
		'unknown|1',
		"$fault: the ledger says that its outcome is unknown");
	is(call($email), 'OE504', "$fault: the same call again is refused");
	is(requests($email), 1, "$fault: it was sent once");
	books_agree($node, $sandbox, $fault);
}

# Connections that end while they are idle

foreach my $round (1 .. 10)
{
	unlike(call("idle$round\@example.com"),
		qr/^OE/, 'a call succeeds after idle connections were closed');
	$sandbox->config(close_idle => JSON::PP::true);
}
$sandbox->config(keepalive_requests => 3);
my $requests = $sandbox->books->{requests};
my @queries = map {
	OceanTest::Query->start(
		$node,
		"SELECT count(@{[ enrich(qq{'alive$_.' || i || '\@example.com'}) ]}) FROM generate_series(1, 50) AS i"
	)
} 1 .. 4;
is(($_->finish)[0], 50, 'calls succeed through connections that are short-lived')
  foreach @queries;
is($sandbox->books->{requests}, $requests + 200, 'each was sent once');
books_agree($node, $sandbox, 'short-lived connections');

# An API that is down: nothing was sent, so trying again is safe.

$sandbox->stop;
$session->query_safe('SET ocean_enrich.max_retries = 0');
is(call('berta@example.com'), '08001', 'down: a call could not connect');
is( $session->query_safe(
		q{SELECT state, attempts, credits FROM ocean_enrich.call
		WHERE request #>> '{person,email}' = 'berta@example.com'}),
	'failed|1|',
	'down: the ledger says that nothing was paid');
# It does not give up before the API is there again, however long that takes.
my $query = OceanTest::Query->start($node,
	q{SET ocean_enrich.max_retries = 20; SET ocean_enrich.retry_wait_max = '5s'; SELECT }
	  . enrich('carla@example.com'));
wait_until(
	$node, q{
	SELECT state = 'failed' AND attempts > 1 FROM ocean_enrich.call
	WHERE request #>> '{person,email}' = 'carla@example.com'});
$sandbox->start;
like(($query->finish)[0], qr/^\{/, 'up again: a call that waited succeeds');
isnt(call('berta@example.com'), '08001', 'up again: so does a new one');
is($sandbox->books->{requests}, 2, 'up again: each was sent once');
is( $session->query_safe(
		q{SELECT sum(credits) FROM ocean_enrich.call
		WHERE request #>> '{person,email}' ~ '^(berta|carla)'}),
	$sandbox->books->{charged},
	'up again: the books agree');
$session->quit;

done_testing();
