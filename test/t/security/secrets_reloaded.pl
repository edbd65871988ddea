# secrets_reloaded.pl
#	Secrets that stand in postgresql.conf and change there.  PostgreSQL logs the new
#	value of each setting that a reload changes; where the library is preloaded with
#	the server, those of ours do not get there, and nowhere else but to settings.

use strict;
use warnings FATAL => 'all';

use Digest::SHA qw(sha256_hex);
use OceanTest qw(node readable wait_until);
use PostgreSQL::Test::Utils;
use Test::More;

# The names as somebody may write them.
my @secrets = (
	{ name => 'ocean_enrich.api_token', written => 'Ocean_Enrich.API_Token' },
	{ name => 'ocean_enrich.webhook_secret', written => 'ocean_enrich.webhook_secret' },
	{ name => 'ocean_enrich.webhook_url', written => 'ocean_enrich.webhook_url' },
	{ name => 'ocean_enrich.proxy', written => 'OCEAN_ENRICH.PROXY' });
my @rounds = ('first', 'second%s');
my $pattern = qr/Zx8-(?:first|second)/;

sub value
{
	my ($secret, $round) = @_;
	my ($before, $after) =
		$secret->{name} =~ /proxy/ ? ('http://user:', '@127.0.0.1:9')
	  : $secret->{name} =~ /url/ ? ('https://hooks.example.com/ocean?secret=', '')
	  : ('', '');
	return "${before}Zx8-$round-$secret->{name}$after";
}

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, extra_conf => <<'END');
shared_preload_libraries = 'ocean_enrich'
log_min_messages = 'debug5'
log_error_verbosity = 'verbose'
END
$node->safe_psql('postgres', 'CREATE ROLE nobody LOGIN');
my $session = $node->background_psql('postgres', extra_params => [ '-U', 'nobody' ]);
$session->query('SET client_min_messages = debug5');

# Removed, it means the default again.
my $configuration = $node->data_dir . '/postgresql.conf';
my $others = slurp_file($configuration) =~ s/^ocean_enrich\.api_token = .*\n//mr;
sub configure
{
	my (@lines) = @_;
	open(my $handle, '>', $configuration) or die "could not write $configuration: $!";
	print $handle $others, map { "$_\n" } @lines;
	close $handle or die "could not write $configuration: $!";
	$node->reload;
	return;
}

configure();
wait_until($node, q{SELECT current_setting('ocean_enrich.api_token') = ''});
my $start = -s $node->logfile;
foreach my $round (@rounds)
{
	configure((map { "$_->{written} = '" . value($_, $round) . "'" } @secrets),
		"ocean_enrich.api_token_file = '/nowhere/$round'");
	foreach my $secret (@secrets)
	{
		my $digest = sha256_hex(value($secret, $round));
		wait_until($node,
			"SELECT encode(sha256(current_setting('$secret->{name}')::bytea), 'hex') = '$digest'");
	}
	unlike($session->query('SELECT 1'), $pattern, "$round: a session is told no secret");
	unlike($session->{stderr}, $pattern, "$round: not by messages either");
}
$session->quit;

# Who may read settings reads these; it is said so in the operations.
my @settings = qw(pg_settings pg_file_settings);
unlike(readable($node, 'nobody'), $pattern, 'an ordinary role reads no secret');
unlike(readable($node, 'postgres', @settings), $pattern, 'nor does a superuser, but in settings');
like(readable($node, 'postgres'), $pattern, 'where it stands');
my ($dump) = run_command([ 'pg_dumpall', '--host', $node->host, '--port', $node->port, '--username', 'postgres' ]);
like($dump, qr/COPY ocean_enrich\.call/, 'a dump has the ledger');
unlike($dump, $pattern, 'and no secret');

# A value that is refused is not quoted, and with it the file counts for nothing.
configure("ocean_enrich.api_token = 'Zx8-second with blanks'", "ocean_enrich.webhook_secret = 'Zx8-first, sha256:Zx8-second'",
	"ocean_enrich.webhook_url = 'ftp://Zx8-second'");
wait_until($node, q{SELECT count(*) = 3 FROM pg_file_settings WHERE name ~ '^ocean_enrich\..*(token|secret|url)$' AND error IS NOT NULL});
configure();
wait_until($node, q{SELECT current_setting('ocean_enrich.api_token') = ''});

my $log = slurp_file($node->logfile, $start);
foreach my $secret (@secrets)
{
	my @told = $log =~ /LOG: .*parameter "\Q$secret->{name}\E" changed$/mg;
	is(@told, @rounds, "$secret->{name}: the log tells that it has changed");
	like($log, qr/LOG: .*parameter "\Q$secret->{name}\E" removed from configuration file/i,
		"$secret->{name}: and that it was removed");
}
like($log, qr/LOG: .*parameter "ocean_enrich.api_token_file" changed to "\/nowhere\/first"/,
	'what is no secret is told as ever');
is(join('', grep { $_ =~ $pattern } split /^/m, $log), '', 'the log has no secret');

done_testing();
