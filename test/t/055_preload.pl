# 055_preload.pl
#	The library may be loaded with the server, with each session, or with the
#	first call.  The earlier, the less an ordinary role sees of a token that
#	stands in postgresql.conf.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::Bin;

use OceanTest qw(node enrich fails books_agree);
use PostgreSQL::Test::Utils;
use Test::More;

my $sandbox = OceanTest::Sandbox->new;

foreach my $where ('', 'session_preload_libraries', 'shared_preload_libraries')
{
	my $name = $where || 'no preload';
	my $node = node($sandbox,
		name => $where || 'none',
		extra_conf => $where ? "$where = 'ocean_enrich'" : undef);
	$sandbox->reset;
	$node->safe_psql('postgres', 'CREATE ROLE ordinary LOGIN');

	is( $node->safe_psql('postgres', 'SELECT ' . enrich('anna@example.com') . " ->> 'domain'"),
		'example.com',
		"$name: a call");
	books_agree($node, $sandbox, $name);

	my $token_is_refused = qr/42501: /;
	fails($node, 'SHOW ocean_enrich.api_token', $token_is_refused,
		"$name: the token is not shown", user => 'ordinary')
	  if $where;
	fails(
		$node,
		q{LOAD 'ocean_enrich'; SHOW ocean_enrich.api_token},
		$token_is_refused,
		"$name: the token is not shown by a session that has the library",
		user => 'ordinary') if !$where && allow_load($node);

	# Names that are not ours are refused as soon as the library is there.
	fails($node, 'SET ocean_enrich.api_tokens = 1',
		qr/invalid configuration parameter name/, "$name: no other names") if $where;

	$node->restart;
	is( $node->safe_psql(
			'postgres',
			"SELECT reused FROM ocean_try_enrich_person(ocean_person_request(email => 'anna\@example.com'))"),
		't',
		"$name: after a restart the answer is there");
	$node->stop;
}

done_testing();
