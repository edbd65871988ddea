# WebhookTest.pm
#	A small forwarder that stands where PostgREST would: it takes the sandbox's
#	webhooks and calls the SQL function as a role that may do nothing else.
#
#	use WebhookTest qw(prepare);
#
#	prepare($node, 'secret');
#	my $forwarder = WebhookTest::Forwarder->new($node);
#	... $forwarder->url('secret') ...
#	$forwarder->refuse(1);		from now on 503, until refuse(0)

use strict;
use warnings FATAL => 'all';

package WebhookTest;

use Exporter 'import';

our @EXPORT_OK = qw(prepare);

# As doc/webhooks.md has it: the role, the exposed schema, the function.
sub prepare
{
	my ($node, $secret) = @_;

	$node->append_conf('postgresql.conf',
		"ocean_enrich.webhook_secret = '$secret'");
	$node->reload;
	$node->safe_psql('postgres', $_) foreach roles(), exposure();
	return;
}

# Of the whole server
sub roles
{
	return q{
		CREATE ROLE authenticator LOGIN NOINHERIT;
		CREATE ROLE ocean_webhook NOLOGIN;
		GRANT ocean_webhook TO authenticator};
}

# Of one database
sub exposure
{
	return q{
		CREATE SCHEMA IF NOT EXISTS ocean_hooks;
		CREATE OR REPLACE FUNCTION ocean_hooks.receive(json) RETURNS bigint
		LANGUAGE sql VOLATILE
		BEGIN ATOMIC
			SELECT ocean_enrich.receive_webhook($1,
				current_setting('request.headers', true)::jsonb ->> 'x-webhook-secret');
		END;
		REVOKE ALL ON FUNCTION ocean_hooks.receive(json) FROM PUBLIC;
		GRANT USAGE ON SCHEMA ocean_hooks TO ocean_webhook;
		GRANT EXECUTE ON FUNCTION ocean_hooks.receive(json) TO ocean_webhook;
		GRANT EXECUTE ON FUNCTION ocean_enrich.receive_webhook TO ocean_webhook};
}

package WebhookTest::Forwarder;

use IO::Select;
use IO::Socket::INET;
use IPC::Run ();
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Utils;

my @running;

# new(NODE, DATABASE): listens, in a process of its own.
sub new
{
	my ($class, $node, $database) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir();
	my $socket = IO::Socket::INET->new(
		LocalAddr => '127.0.0.1', Listen => 20, ReuseAddr => 1)
	  or die "could not listen: $!";
	my $self = bless {
		socket => $socket,
		port => $socket->sockport,
		refuse => "$folder/refuse",
		log => "$folder/log",
		psql => [
			$node->installed_command('psql'), '--no-psqlrc', '--quiet',
			'--no-align', '--tuples-only', '--set', 'ON_ERROR_STOP=1',
			'--set', 'VERBOSITY=verbose', '--username', 'authenticator',
			'--dbname', $node->connstr($database // 'postgres')
		],
	}, $class;

	$self->{pid} = fork() // die "could not fork: $!";
	if ($self->{pid} == 0)
	{
		# Holding prove's pipe would make prove wait for us.
		open(STDIN, '<', '/dev/null') or POSIX::_exit(1);
		open(STDOUT, '>>', $self->{log}) or POSIX::_exit(1);
		open(STDERR, '>&', \*STDOUT) or POSIX::_exit(1);
		eval { $self->serve($socket); 1 } or print STDERR $@;
		POSIX::_exit(1);
	}
	close $socket;
	push @running, $self;
	return $self;
}

# Where a webhook with this secret comes in.
sub url
{
	my ($self, $secret) = @_;
	return "http://127.0.0.1:$self->{port}/ocean?secret=$secret";
}

sub refuse
{
	my ($self, $refuse) = @_;
	if ($refuse)
	{
		append_to_file($self->{refuse}, '');
	}
	else
	{
		unlink $self->{refuse};
	}
	return;
}

# Everything that it has answered: [STATUS, what psql said] each.
sub answers
{
	my ($self) = @_;
	return map { decode_json($_) } grep { /^\[/ } split /\n/,
	  slurp_file($self->{log});
}

sub stop
{
	my ($self) = @_;
	kill 'TERM', $self->{pid};
	waitpid($self->{pid}, 0);
	@running = grep { $_ != $self } @running;
	return;
}

# In the child, one request after the other.

sub serve
{
	my ($self, $socket) = @_;
	$| = 1;
	while (1)
	{
		my $client = $socket->accept or next;
		my ($secret, $body) = read_request($client);
		my ($status, $said) =
			!defined $body ? (400, 'no request')
		  : -e $self->{refuse} ? (503, 'refused')
		  : $self->forward($secret, $body);
		print encode_json([ $status, $said ]), "\n";
		print $client "HTTP/1.1 $status Status\r\nContent-Length: 0\r\n"
		  . "Connection: close\r\n\r\n";
		close $client;
	}
	return;
}

sub read_request
{
	my ($client) = @_;
	my $request = '';
	while ($request !~ /\r\n\r\n/)
	{
		$client->sysread($request, 65536, length $request) or return;
	}
	my ($head, $body) = split /\r\n\r\n/, $request, 2;
	my ($secret) = $head =~ /^POST \/ocean\?secret=(\S*)/;
	my ($length) = $head =~ /^content-length: (\d+)/im;
	while (length $body < $length)
	{
		$client->sysread($body, 65536, length $body) or return;
	}
	return ($secret // '', $body);
}

# What PostgREST does with a function that takes the whole body, and what it
# makes of an SQLSTATE.
sub forward
{
	my ($self, $secret, $body) = @_;
	my $headers = quote(encode_json({ 'x-webhook-secret' => $secret }));
	my $payload = quote($body);
	my $sql = <<"END";
SET client_encoding = 'UTF8';
BEGIN;
SET LOCAL ROLE ocean_webhook;
SET LOCAL "request.headers" = $headers;
SELECT ocean_hooks.receive($payload);
COMMIT;
END
	my ($stdout, $stderr) = ('', '');

	# It dies when psql ends before it has read everything, as without a server.
	my $done = eval {
		IPC::Run::run($self->{psql}, '<', \$sql, '>', \$stdout,
			'2>', \$stderr);
	};
	return (200, $stdout) if $done;
	my ($sqlstate) = $stderr =~ /(?:ERROR|FATAL): +(\w{5}):/;
	my $status =
		($sqlstate // '') =~ /^(28|42501)/ ? 403
	  : ($sqlstate // '') =~ /^2[23]/ ? 400
	  : 500;
	return ($status, $stderr);
}

sub quote
{
	my ($text) = @_;
	return "'" . $text =~ s/'/''/gr . "'";
}

END
{
	my $exit_code = $?;
	$_->stop foreach my @all = @running;
	$? = $exit_code;
}

1;
