# preload.pl
#	The library may be loaded with the server, with each session, or with the
#	first call.  The earlier, the less an ordinary role sees of a token that
#	stands in postgresql.conf.

use strict;
use warnings FATAL => 'all';

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
	$node->safe_psql('postgres', q{
		CREATE ROLE ordinary LOGIN;
		GRANT EXECUTE ON FUNCTION ocean_person_request TO ordinary});

	is( $node->safe_psql('postgres', 'SELECT ' . enrich('anna@example.com') . " ->> 'domain'"),
		'example.com',
		"$name: a call");
	books_agree($node, $sandbox, $name);

	# Without a preload that is true only of sessions that have called us.
	my $load = $where ? '' : 'SELECT ocean_person_request();';
	fails($node, "$load SHOW ocean_enrich.api_token", qr/42501: /,
		"$name: an ordinary role does not see the token",
		user => 'ordinary');
	fails($node, "$load SELECT current_setting('ocean_enrich.api_token')",
		qr/42501: /, "$name: by no way", user => 'ordinary');
	# Names that are not ours are refused as soon as the library is there.
	fails($node, "$load SET ocean_enrich.api_tokens = 1",
		qr/42602: /, "$name: no other names", user => 'ordinary');

	$node->restart;
	is( $node->safe_psql(
			'postgres',
			"SELECT reused FROM ocean_try_enrich_person(ocean_person_request(email => 'anna\@example.com'))"),
		't',
		"$name: after a restart the answer is there");
	$node->stop;
}

done_testing();
