# token_nowhere.pl
#	The token in use, looked for where people and extensions look: every view that
#	an ordinary role or a monitor reads, statistics and plans of statements, and at
#	last each file of the server.

use strict;
use warnings FATAL => 'all';

use File::Find;
use OceanTest qw(node enrich fails readable wait_for_ledger);
use PostgreSQL::Test::Utils;
use Test::More;

my $token = 'Zx81-the-token-nobody-sees';
my $secret = 'Zx81-the-secret-of-the-webhook';
my $sandbox = OceanTest::Sandbox->new(token => $token);
my $file = PostgreSQL::Test::Utils::tempdir() . '/token';
open(my $handle, '>', $file) or die "could not create $file: $!";
print $handle $token;
close $handle;
chmod 0600, $file;

my $contrib = `pg_config --pkglibdir`;
chomp $contrib;
my $statistics = -e "$contrib/pg_stat_statements.so" && -e "$contrib/auto_explain.so";
my $digest = `printf %s $secret | sha256sum`;
$digest =~ s/ .*//s;
my $node = node($sandbox, start => 0, extra_conf => <<"END" . ($statistics ? <<"END" : ''));
ocean_enrich.api_token_file = '$file'
ocean_enrich.webhook_secret = 'sha256:$digest'
log_min_messages = 'debug5'
log_statement = 'all'
debug_print_plan = on
shared_preload_libraries = 'ocean_enrich'
END
shared_preload_libraries = 'pg_stat_statements, auto_explain, ocean_enrich'
pg_stat_statements.track = 'all'
pg_stat_statements.track_utility = on
auto_explain.log_min_duration = 0
auto_explain.log_analyze = on
auto_explain.log_nested_statements = on
auto_explain.log_verbose = on
auto_explain.log_settings = on
END

# What the tests share has put it there.
my $configuration = $node->data_dir . '/postgresql.conf';
my $settings = slurp_file($configuration);
$settings =~ s/^ocean_enrich\.api_token = .*\n//mg;
open($handle, '>', $configuration) or die "could not write $configuration: $!";
print $handle $settings;
close $handle;
$node->start;

$node->safe_psql('postgres', q{
	CREATE EXTENSION ocean_enrich;
	CREATE ROLE monitor LOGIN IN ROLE pg_monitor;
	CREATE ROLE nobody LOGIN;
	GRANT USAGE ON SCHEMA ocean_enrich TO monitor});
$node->safe_psql('postgres', 'CREATE EXTENSION pg_stat_statements') if $statistics;

# The webhook's URL is read from a file, since statements are logged.
my $url_file = PostgreSQL::Test::Utils::tempdir() . '/url';
open($handle, '>', $url_file) or die "could not create $url_file: $!";
print $handle "https://elsewhere.example/ocean?secret=$secret";
close $handle;

# Calls of all kinds, in each place that a token can be carried
foreach my $place ('header', 'query')
{
	$node->safe_psql('postgres', qq{
		SET ocean_enrich.token_in = $place;
		DO \$\$ BEGIN PERFORM set_config('ocean_enrich.webhook_url', pg_read_file('$url_file'), false); END \$\$;
		SELECT count(*) FROM (VALUES ('a'), ('sb-unknown'), ('sb-status-500'), ('sb-422'), ('sb-badjson'),
			('sb-cut-lost'), ('sb-redirect')) AS v (name),
			LATERAL ocean_try_enrich_person(ocean_person_request(email => name || '.$place\@example.com',
				reveal_emails_by_webhook => true, reveal_phones_by_webhook => true));
		SELECT ocean_enrich.submit(ocean_person_request(email => 'queued.$place\@example.com'));
		SELECT ocean_enrich.balance(), ocean_enrich.account()});
}
# With the secret as a parameter, as a web service would call it; from a file, since
# the statement is logged.  auto_explain would log the parameter.
my $secret_file = PostgreSQL::Test::Utils::tempdir() . '/secret';
open($handle, '>', $secret_file) or die "could not create $secret_file: $!";
print $handle $secret;
close $handle;
is( $node->safe_psql('postgres', qq{
		SET auto_explain.log_min_duration = -1;
		PREPARE hook(json, text) AS SELECT ocean_enrich.receive_webhook(\$1, \$2);
		EXECUTE hook('{"id": "4cf2c3b4a1b2d3e4"}', pg_read_file('$secret_file'))}),
	0, 'the right secret is taken, though nobody waits for that person');
fails($node, q{SELECT ocean_enrich.receive_webhook('{"id": "x"}', 'wrong')},
	qr/28000: webhook secret is wrong/, 'a wrong secret is refused');
wait_for_ledger($node);

foreach my $role ('postgres', 'monitor', 'nobody')
{
	my $text = readable($node, $role);
	like($text, qr/application_name/, "$role: there is something to read");
	unlike($text, qr/\Q$token\E/, "$role: the token is not in it");
	unlike($text, qr/\Q$secret\E/, "$role: nor is the secret of the webhook");
}
SKIP:
{
	skip 'contrib is not installed', 1 unless $statistics;
	like($node->safe_psql('postgres', 'SELECT query FROM pg_stat_statements'),
		qr/ocean_try_enrich_person/, 'the statistics have the statements');
}
fails($node, "SHOW ocean_enrich.$_", qr/42501: .* to examine/, "$_: not shown", user => 'nobody')
  foreach qw(api_token api_token_file webhook_secret webhook_url proxy);
fails($node, "SELECT ocean_enrich.setting('api_token')", qr/42501: /, 'nor by our function', user => 'nobody');

my ($dump) = run_command([ 'pg_dumpall', '--host', $node->host, '--port', $node->port, '--username', 'postgres' ]);
like($dump, qr/COPY ocean_enrich\.call/, 'a dump has the ledger');
unlike($dump, qr/\Q$token\E|\Q$secret\E/, 'and neither token nor secret');

# Each file: tables, WAL, statistics, log
$node->stop;
my @found;
find({ no_chdir => 1, wanted => sub {
	return unless -f $_ && -s $_;
	push @found, $_ if slurp_file($_) =~ /\Q$token\E|\Q$secret\E/;
} }, $node->data_dir);
is("@found", '', 'no file of the server has the token');
my $log = slurp_file($node->logfile);
like($log, qr/DEBUG:/, 'the log is as long as can be');
is(join('', grep { /\Q$token\E|\Q$secret\E/ } split /^/m, $log), '', 'it has neither token nor secret');

done_testing();
