# OceanTest.pm
#	What the TAP tests share: a server that loads the extension, a sandbox that
#	plays the API, queries that run beside the test, and the comparison of our
#	books with the API's.
#
#	use OceanTest qw(node enrich fails books_agree wait_until);
#
#	my $sandbox = OceanTest::Sandbox->new;
#	my $node = node($sandbox);
#	my $query = OceanTest::Query->start($node, "SELECT ...");
#	$sandbox->wait(in_flight => 1);
#	my ($stdout, $stderr, $exit_code) = $query->finish;
#	books_agree($node, $sandbox, "after a cancel");

use strict;
use warnings FATAL => 'all';

package OceanTest;

use Exporter 'import';
use File::Basename qw(dirname);
use List::Util qw(max);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT_OK = qw(node enrich fails worker_pid wait_until wait_for_ledger
  patience slow_ms contents books_agree readable create_certificate crash);

# "make installcheck" gives these to pg_regress; here they would win over each
# server's own configuration.
delete $ENV{PGOPTIONS};

# Where the sources are.
sub tree
{
	return dirname(__FILE__) . '/../..';
}

# node(SANDBOX, name => NAME, extra_conf => TEXT, init => [OPTIONS of init()],
# start => BOOLEAN): a running server with the extension in database "postgres"
# that calls SANDBOX, with no limits.
sub node
{
	my ($sandbox, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($options{name} // 'node');

	# Not as the caller's locale would have it.
	$node->init(
		extra => [ '--encoding=UTF8', '--locale=C' ],
		@{ $options{init} // [] });
	$node->append_conf('postgresql.conf', $_)
	  for grep { defined } $ENV{OCEAN_STAGE_SETTINGS},
	  settings($sandbox), $options{extra_conf};
	return $node if exists $options{start} && !$options{start};

	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION ocean_enrich');
	return $node;
}

# The settings that make a server call SANDBOX, one request after the other.
sub settings
{
	my ($sandbox) = @_;
	my ($url, $token) = ($sandbox->url, $sandbox->token);
	my $settings = <<"END";
ocean_enrich.api_url = '$url'
ocean_enrich.api_token = '$token'
ocean_enrich.rate_limit = 0
ocean_enrich.daily_limit = 0
ocean_enrich.concurrency = 1
END
	$settings .= "ocean_enrich.ca_file = '" . $sandbox->ca_file . "'\n"
	  if defined $sandbox->ca_file;
	return $settings;
}

# The call for one person; EMAIL may be an SQL expression, such as a column.
sub enrich
{
	my ($email) = @_;
	$email = "'$email'" if $email =~ /^[^']+@/;
	return "ocean_enrich_person(ocean_person_request(email => $email))";
}

# Does the statement fail with a message that matches PATTERN?  The message begins
# with the SQLSTATE, as in "OE404: No matching record found".
sub fails
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($node, $sql, $pattern, $name, %options) = @_;
	my ($stdout, $stderr, $exit_code) =
	  OceanTest::Query->start($node, $sql, %options)->finish;

	return like($exit_code ? $stderr : "no error: $stdout", $pattern, $name);
}

# The process that serves DATABASE; dies when there is none.
sub worker_pid
{
	my ($node, $database) = @_;
	return $node->safe_psql(
		$database // 'postgres', q{
		SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'ocean_enrich worker'
			AND datname = current_database()})
	  || die 'there is no worker';
}

# Wait until nothing is on the wire any more, going by the ledger.
sub wait_for_ledger
{
	my ($node, $database) = @_;
	wait_until($node,
		q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.call WHERE state = 'sent')},
		$database);
	return;
}

# Wait for a query that returns true or false to return true; dies when it does
# not in time.
sub wait_until
{
	my ($node, $query, $database) = @_;
	$node->poll_query_until($database // 'postgres', $query)
	  or die "waited in vain for: $query";
	return;
}

# Kills a process of the server, which thereby crashes and recovers by itself.  Not
# by a query until that is answered: a client that is turned away may be gone before
# it has read one.
sub crash
{
	my ($node, $pid) = @_;
	my $log_size = -s $node->logfile;
	kill 'KILL', $pid;
	$node->wait_for_log(
		qr/all server processes terminated; reinitializing.*database system is ready to accept connections/s, $log_size);
	return;
}

# The statement before one that waits for a condition inside the server: it fails
# when it has waited in vain.
sub patience
{
	return "SET statement_timeout = '${PostgreSQL::Test::Utils::timeout_default}s';";
}

# MILLISECONDS, or as many more as whoever set PG_TEST_TIMEOUT_DEFAULT says that
# everything may take.
sub slow_ms
{
	my ($milliseconds) = @_;
	my $slowness = $PostgreSQL::Test::Utils::timeout_default / 180;
	return int($milliseconds * ($slowness > 1 ? $slowness : 1));
}

# All that the extension keeps in DATABASE: table => [rows], as jsonb in the order of
# their text, and "sequences" => [name and last value].
sub contents
{
	my ($node, $database) = @_;
	my $members = q{
		FROM pg_class AS c JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
		JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
		WHERE d.deptype = 'e' AND e.extname = 'ocean_enrich'};
	my @tables = split /\n/, $node->safe_psql($database,
		"SELECT c.oid::regclass $members AND c.relkind IN ('r', 'p') ORDER BY 1::text");
	my %contents = map {
		$_ => [ split /\n/, $node->safe_psql($database,
			qq{SELECT to_jsonb(t) FROM $_ AS t ORDER BY to_jsonb(t)::text COLLATE "C"}) ]
	} @tables;
	$contents{sequences} = [ split /\n/, $node->safe_psql($database, qq{
		SELECT c.oid::regclass, pg_sequence_last_value(c.oid) FROM pg_class AS c
		WHERE c.relkind = 'S' AND c.relnamespace = 'ocean_enrich'::regnamespace ORDER BY c.relname COLLATE "C"}) ];
	return \%contents;
}

# Does what we recorded agree with what the API charged?  A call whose outcome is
# unknown may have been paid or not; everything else must add up exactly.  All
# databases that called this sandbox must be named, by default it is "postgres".
sub books_agree
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($node, $sandbox, $name, @databases) = @_;
	@databases = ('postgres') unless @databases;

	my $config = $sandbox->get('config');
	my ($recorded, $unknown, $doubtful) = (0, 0, 0);
	foreach my $database (@databases)
	{
		my $row = $node->safe_psql(
			$database, q{
			SELECT coalesce(sum(credits), 0),
				   count(*) FILTER (WHERE state = 'unknown'),
				   count(*) FILTER (WHERE state = 'unknown'
						AND 'email' = ANY (reveals_in_answer)),
				   count(*) FILTER (WHERE state = 'unknown'
						AND 'phone' = ANY (reveals_in_answer)),
				   coalesce(sum(reserved) FILTER (WHERE state = 'unknown'), 0)
			FROM ocean_enrich.call});
		my ($credits, $count, $emails, $phones, $reserved) = split /\|/, $row;
		$recorded += $credits;
		$unknown += $count;
		# Prices may have changed since.
		$doubtful += max($reserved,
			$count * $config->{cost} + $emails * $config->{email_cost} + $phones * $config->{phone_cost});
	}
	my $charged = $sandbox->books->{charged};
	my $most = $recorded + $doubtful;

	return ok($recorded <= $charged && $charged <= $most,
		"$name: the books agree")
	  || diag("charged $charged, recorded $recorded, unknown calls $unknown");
}

# All that a role can read in views and tables where secrets or people might stand,
# as text, but for those that are named.
sub readable
{
	my ($node, $role, @without) = @_;
	my $relations = $node->safe_psql('postgres', q{
		SELECT c.oid::regclass FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
		WHERE relkind IN ('r', 'v', 'm') AND nspname IN ('pg_catalog', 'ocean_enrich', 'public', 'information_schema')
			AND (nspname <> 'pg_catalog' OR relname ~ '^pg_(stat|settings|db_role|file|show|prepared|cursors|backend|shmem|config|hba|proc$|views|description)')});
	my $text = '';

	foreach my $relation (split /\n/, $relations)
	{
		next if grep { $_ eq $relation } @without;
		my ($code, $stdout, $stderr) =
		  $node->psql('postgres', "SELECT * FROM $relation", extra_params => [ '-U', $role ]);
		$text .= "$stdout\n$stderr\n";
	}
	return $text;
}

# A self-signed certificate in FOLDER for NAMES, by default 127.0.0.1 and
# localhost; returns the names of certificate and key.
sub create_certificate
{
	my ($folder, $names) = @_;
	$names //= 'DNS:localhost,IP:127.0.0.1';
	my ($certificate, $key) = ("$folder/server.crt", "$folder/server.key");
	system_or_bail(
		'openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt',
		'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
		'-subj', '/CN=sandbox',
		'-addext', "subjectAltName=$names",
		'-keyout', $key, '-out', $certificate);
	return ($certificate, $key);
}

# The sandbox API, alive as long as the test.
package OceanTest::Sandbox;

use HTTP::Tiny;
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Utils;
use Time::HiRes qw(sleep time);

my $program = OceanTest::tree() . '/test/sandbox/build/ocean-sandbox';
my @running;

# No proxy, and no limit of its own to how long an answer takes.
my $http = HTTP::Tiny->new(
	proxy => undef, http_proxy => undef, timeout => 1000);

# new(tls => BOOLEAN, names => NAMES of its certificate, token => TOKEN,
# config => {...}): started.  Booleans of the configuration are JSON::PP::true and
# JSON::PP::false.
sub new
{
	my ($class, %options) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir();
	my $self = bless {
		port => 0,
		token => $options{token} // 'sandbox-token',
		config => $options{config} // {},
		scheme => $options{tls} ? 'https' : 'http',
		port_file => "$folder/port",
		log => "$folder/log",
	}, $class;

	@$self{qw(certificate key)} =
	  OceanTest::create_certificate($folder, $options{names})
	  if $options{tls};
	$self->start;
	return $self;
}

# Again after stop(), on the same port and with empty books.
sub start
{
	my ($self) = @_;
	my @command = (
		$program, '--port', $self->{port}, '--port-file', $self->{port_file},
		'--token', $self->{token}, '--until-pid', $$,
		'--config', encode_json($self->{config}));
	push @command, '--tls', $self->{certificate}, $self->{key}
	  if $self->{certificate};

	unlink $self->{port_file};
	$self->{pid} = fork() // die "could not fork: $!";
	if ($self->{pid} == 0)
	{
		# Holding prove's pipe would make prove wait for us.
		open(STDIN, '<', '/dev/null') or POSIX::_exit(1);
		open(STDOUT, '>>', $self->{log}) or POSIX::_exit(1);
		open(STDERR, '>&', \*STDOUT) or POSIX::_exit(1);
		{ no warnings 'exec'; exec(@command); }
		print STDERR "could not start $program: $!\n";
		POSIX::_exit(1);
	}
	push @running, $self;

	my $deadline = time() + 10;
	until (-s $self->{port_file})
	{
		die 'the sandbox did not start: ' . slurp_file($self->{log})
		  if time() > $deadline || waitpid($self->{pid}, POSIX::WNOHANG()) != 0;
		sleep 0.01;
	}
	chomp($self->{port} = slurp_file($self->{port_file}));
	return;
}

# As an API that is down: nothing listens any more.
sub stop
{
	my ($self) = @_;
	kill 'TERM', $self->{pid};
	waitpid($self->{pid}, 0);
	@running = grep { $_ != $self } @running;
	return;
}

sub pid { return $_[0]->{pid} }
sub port { return $_[0]->{port} }
sub token { return $_[0]->{token} }
sub ca_file { return $_[0]->{certificate} }
sub url { return "$_[0]->{scheme}://127.0.0.1:$_[0]->{port}" }

# The sandbox's books; with identity => TEXT those of one person.
sub books
{
	my ($self, %query) = @_;
	return $self->get('books', %query);
}

# What a call costs unless the answer says otherwise.
sub cost
{
	my ($self) = @_;
	return $self->get('config')->{cost};
}

# config(latency_ms => 10, ...)
sub config
{
	my ($self, %config) = @_;
	return $self->call('config', encode_json(\%config));
}

# Empty books, and persons that were never asked for.
sub reset
{
	my ($self) = @_;
	return $self->call('reset', '');
}

# Wait until the books show at least what is named: requests, held, in_flight,
# charges, or idle => 1.  Returns the books; dies when the time is over.
sub wait
{
	my ($self, %condition) = @_;
	$condition{timeout_ms} //= 1000 * $PostgreSQL::Test::Utils::timeout_default;
	my $books = $self->get('wait', %condition);
	die 'the sandbox waited in vain: '
	  . JSON::PP->new->canonical->encode([ \%condition, $books ])
	  unless $books->{reached};
	return $books;
}

sub get
{
	my ($self, $path, %query) = @_;
	return $self->call("$path?" . join '&', map { "$_=" . escape($query{$_}) } sort keys %query);
}

# Of bytes, which may be UTF-8.
sub escape
{
	my ($bytes) = @_;
	return $bytes =~ s/([^A-Za-z0-9_.~-])/sprintf('%%%02X', ord $1)/ger;
}

# One request to a control endpoint; a POST if there is CONTENT.
sub call
{
	my ($self, $path, $content) = @_;
	my $url = $self->url . "/sandbox/$path";
	my $body = $self->{certificate} ? $self->by_curl($url, $content)
	  : by_http($url, $content);

	return $body eq '' ? undef : decode_json($body);
}

sub by_http
{
	my ($url, $content) = @_;
	my $answer = $http->request(defined $content ? 'POST' : 'GET',
		$url, { content => $content // '' });

	die "$url: $answer->{status} $answer->{content}" unless $answer->{success};
	return $answer->{content};
}

# It knows TLS without further modules.
sub by_curl
{
	my ($self, $url, $content) = @_;
	my @command = (
		'curl', '--silent', '--show-error', '--fail-with-body',
		'--noproxy', '*', '--cacert', $self->{certificate}, $url);
	push @command, '--data-binary', $content if defined $content;

	my ($stdout, $stderr) = ('', '');
	IPC::Run::run(\@command, '<', \undef, '>', \$stdout, '2>', \$stderr)
	  or die "$url: $stderr$stdout";
	return $stdout;
}

END
{
	my $exit_code = $?;
	$_->stop foreach my @all = @running;
	$? = $exit_code;
}

# A query that runs in a psql of its own beside the test.  Its errors are verbose
# and so begin with the SQLSTATE.
package OceanTest::Query;

use File::Temp;
use IPC::Run;
use PostgreSQL::Test::Utils;

# start(NODE, SQL, database => NAME, user => NAME): returns at once.
sub start
{
	my ($class, $node, $sql, %options) = @_;
	my $self = bless { stdout => '', stderr => '' }, $class;

	# IPC::Run would write a string only when somebody waits for the end.
	$self->{file} = File::Temp->new;
	print { $self->{file} } $sql;
	close $self->{file} or die "could not write $self->{file}: $!";
	my @command = (
		$node->installed_command('psql'), '--no-psqlrc', '--no-align',
		'--tuples-only', '--quiet', '--set', 'ON_ERROR_STOP=1',
		'--set', 'VERBOSITY=verbose',
		'--dbname', $node->connstr($options{database} // 'postgres'));
	push @command, '--username', $options{user} if defined $options{user};

	$self->{timeout} =
	  IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);
	$self->{run} = IPC::Run::start(
		\@command, '<', $self->{file}->filename, '>', \$self->{stdout},
		'2>', \$self->{stderr}, $self->{timeout});
	return $self;
}

# The client dies; its session has to find that out by itself.
sub kill
{
	my ($self) = @_;
	$self->{run}->signal('KILL');
	$self->{run}->finish;
	return;
}

# Wait for its end: (stdout, stderr, exit code) with no newline at the end.
sub finish
{
	my ($self) = @_;
	$self->{run}->finish;
	chomp(my ($stdout, $stderr) = @$self{qw(stdout stderr)});
	return ($stdout, $stderr, $self->{run}->result(0));
}

1;
