# ChaosWorld.pm
#	The world of the chaos: a server with several databases, a sandbox and a receiver
#	of webhooks for each of them, and clients; and the means to kill and restart all
#	of these.
#
# The books of the database "wild" do not agree with the API's, since it is dropped
# while calls are on the wire.  The others are brought to rest and checked before.

use strict;
use warnings FATAL => 'all';

package ChaosWorld;

use File::Temp;
use OceanTest;
use PostgreSQL::Test::Utils;
use POSIX ();
use Time::HiRes qw(sleep time);
use WebhookTest;

use constant MOST_CLIENTS => 14;

# The timeout of all waits.
use constant PATIENCE => 90;

my $secret = 'open-sesame';

# Settings of the server.
my $settings = <<"END";
shared_preload_libraries = 'ocean_enrich'
restart_after_crash = on
dynamic_shared_memory_type = mmap
max_worker_processes = 24
log_line_prefix = '%m [%p] %b %d: '
log_error_verbosity = verbose
backtrace_functions = 'relation_open'
log_statement = none
log_min_error_statement = panic
statement_timeout = 30s
ocean_enrich.webhook_secret = '$secret'
END

# Short waits, so that each of them ends within a soak.  The chaos changes some of
# these settings, and resets them in the end.
my %short_waits = (
	'ocean_enrich.request_timeout' => '2s',
	'ocean_enrich.retry_wait_max' => '200ms',
	'ocean_enrich.gathering_wait' => '100ms',
	'ocean_enrich.balance_interval' => '1s',
	'ocean_enrich.queue_retries' => '10',
	'ocean_enrich.worker_idle_timeout' => '3s');

sub new
{
	my ($class, $seed) = @_;
	my $self = bless {
		clients => [],
		started => time(),
		done => {},
		databases => [],
		postmasters => {},
		killed => {},
		guests => [],
	}, $class;

	my %cost = (one => '3', two => '2.5', three => '3', wild => '3');
	my %sandboxes = map { $_ => OceanTest::Sandbox->new(
			config => { latency_ms => 5, latency_jitter_ms => 40, seed => $seed % 1000, cost => $cost{$_} }) }
	  sort keys %cost;

	# Nothing may ever call the real API: this is the sandbox of all other databases.
	$self->{node} = OceanTest::node($sandboxes{wild}, extra_conf => $settings, start => 0);
	$self->{node}->append_conf('postgresql.conf', "$_ = '$short_waits{$_}'") foreach sort keys %short_waits;
	$self->start;
	$self->insist(WebhookTest::roles());
	foreach my $name (sort keys %sandboxes)
	{
		my $database = { name => $name, sandbox => $sandboxes{$name}, epoch => 0,
			wild => $name eq 'wild' };
		push @{ $self->{databases} }, $database;
		$self->create_database($database);
		$database->{forwarder} = WebhookTest::Forwarder->new($self->{node}, $name);
	}
	return $self;
}

sub node { return $_[0]->{node} }
sub clock { return sprintf '%.1f s', time() - $_[0]->{started} }
sub databases { return @{ $_[0]->{databases} } }
sub tame { return grep { !$_->{wild} } $_[0]->databases }
sub wild { return (grep { $_->{wild} } $_[0]->databases)[0] }

# ----------------------------------------------------------------
# Queries
# ----------------------------------------------------------------

# The result of a query, or undef if the server is down or the query fails.
sub ask
{
	my ($self, $sql, $database) = @_;
	my $timed_out = 0;
	my ($status, $stdout);
	eval
	{
		$status = $self->{node}->psql($database // 'postgres', $sql,
			stdout => \$stdout, stderr => \$self->{complaint},
			timeout => PATIENCE, timed_out => \$timed_out);
		1;
	}
	# A psql without a server exits before it has read the statement.
	  or $@ =~ /Broken pipe/
	  or die $@;
	die "no answer within @{[ PATIENCE ]} s: $sql" if $timed_out;
	return defined $status && $status == 0 ? $stdout : undef;
}

# Repeats a query until it succeeds.
sub insist
{
	my ($self, $sql, $database) = @_;
	my $answer;
	return $answer if comes(sub { defined($answer = $self->ask($sql, $database)) });
	die "waited in vain for: $sql\n$self->{complaint}";
}

sub wait_for
{
	my ($name, $condition) = @_;
	comes($condition) or die "waited in vain for $name";
	return;
}

# True if the condition becomes true in time.
sub comes
{
	my ($condition) = @_;
	my $deadline = time() + PATIENCE;
	until ($condition->())
	{
		return 0 if time() > $deadline;
		sleep 0.1;
	}
	return 1;
}

# ----------------------------------------------------------------
# The server
# ----------------------------------------------------------------

sub data_dir { return $_[0]->{node}->data_dir }

# All processes of our server, even if their postmaster is gone.
sub processes
{
	my ($self) = @_;
	my ($device, $inode) = stat $self->data_dir;
	return grep {
		my @of = stat "/proc/$_/cwd";
		@of && $of[0] == $device && $of[1] == $inode
	} map { m{(\d+)$} } glob '/proc/[0-9]*';
}

# Signals a process, but only one of our server.
sub kill_process
{
	my ($self, $signal, $pid) = @_;
	return 0 unless $pid && grep { $_ == $pid } $self->processes;
	$self->{killed}{$pid} = 1 if $signal eq 'KILL';
	return kill $signal, $pid;
}

sub was_killed
{
	my ($self, $pid) = @_;
	return $self->{killed}{$pid};
}

sub start
{
	my ($self) = @_;
	wait_for('the start of the server', sub { $self->{node}->start(fail_ok => 1) });
	$self->wait_until_ready;
	my @lines = split /\n/, slurp_file($self->data_dir . '/postmaster.pid');
	$self->{postmasters}{ $lines[0] } = {
		segment => (split ' ', $lines[6] // '')[1],
		descriptors => descriptors($lines[0])
	};
	return;
}

sub wait_until_ready
{
	my ($self) = @_;
	wait_for('the server', sub { ($self->ask('SELECT 1') // '') eq '1' });
	return;
}

sub descriptors
{
	my ($pid) = @_;
	my @descriptors = glob "/proc/$pid/fd/*";
	return scalar @descriptors;
}

sub postmaster
{
	my ($self) = @_;
	return (split /\n/, slurp_file($self->data_dir . '/postmaster.pid'))[0];
}

# A killed process makes the server restart by itself, unless it was about to end
# anyway.  Once it is gone, the postmaster accepts no connections until the server has
# recovered.
sub wait_for_recovery
{
	my ($self, $pid) = @_;
	wait_for('the end of a killed process', sub { !-e "/proc/$pid" });
	$self->wait_until_ready;
	return;
}

sub kill_postmaster
{
	my ($self) = @_;
	my $pid = $self->postmaster;
	$self->{node}->kill9;
	wait_for('the end of the postmaster and its children', sub { !kill(0, $pid) && !$self->processes });
	$self->start;
	return;
}

sub restart
{
	my ($self, $mode) = @_;
	$self->{node}->stop($mode);
	wait_for('the end of the processes', sub { !$self->processes });
	$self->start;
	return;
}

sub set
{
	my ($self, %changes) = @_;
	my @sql = map { defined $changes{$_} ? "ALTER SYSTEM SET $_ = '$changes{$_}'" : "ALTER SYSTEM RESET $_" }
	  sort keys %changes;
	$self->insist($_) foreach @sql, 'SELECT pg_reload_conf()';
	return;
}

# From now on each tame database has a worker that keeps running, because of an idle
# session.
sub keep_workers
{
	my ($self) = @_;
	$self->set('ocean_enrich.worker_idle_timeout' => '1h');
	foreach my $database ($self->tame)
	{
		my $connstr = $self->{node}->connstr($database->{name});
		open my $guest, '|-', $self->{node}->installed_command('psql'), '--no-psqlrc', '--quiet', $connstr
		  or die "could not start psql: $!";
		push @{ $self->{guests} }, $guest;
		wait_for('a worker', sub {
			$self->ask('SELECT ' . OceanTest::enrich(person($database, 'worker')), $database->{name});
			return $self->workers =~ /^$database->{name} /m;
		});
	}
	$self->{kept_workers} = $self->workers;
	return;
}

# Lines of "DATABASE PID".  Only tame databases: a worker ends when its extension is
# dropped.
sub workers
{
	my ($self) = @_;
	my $names = join ', ', map { "'$_->{name}'" } $self->tame;
	return $self->insist(qq{SELECT datname || ' ' || pid FROM pg_stat_activity
		WHERE backend_type = 'ocean_enrich worker' AND datname IN ($names) ORDER BY 1});
}

# ----------------------------------------------------------------
# Databases
# ----------------------------------------------------------------

sub drop_database
{
	my ($self, $database, $how) = @_;
	$self->insist("DROP DATABASE IF EXISTS $database->{name} $how");
	return;
}

sub create_database
{
	my ($self, $database) = @_;
	my ($name, $sandbox) = @$database{qw(name sandbox)};
	my ($url, $cost) = ($sandbox->url, $sandbox->cost);
	$self->insist("CREATE DATABASE $name");
	$self->insist("ALTER DATABASE $name SET ocean_enrich.api_url = '$url'");
	$self->insist("ALTER DATABASE $name SET ocean_enrich.credits_per_call = '$cost'");
	$self->furnish($database);
	return;
}

# Creates the extension and the tables that use it.  Each epoch has other people.
sub furnish
{
	my ($self, $database) = @_;
	my $name = $database->{name};
	$database->{epoch}++;
	my $who = "'" . person($database, "' || i || '") . "'";
	$self->insist('CREATE EXTENSION IF NOT EXISTS ocean_enrich', $name);
	$self->insist(WebhookTest::exposure(), $name);
	$self->insist(qq{
		DROP TABLE IF EXISTS contacts, synced;
		CREATE TABLE contacts (id integer PRIMARY KEY, email text, enriched jsonb);
		INSERT INTO contacts SELECT i, $who FROM generate_series(1, 300) AS i;
		CREATE TABLE synced (id integer PRIMARY KEY, email text, enriched jsonb)}, $name);
	$self->insist(q{SELECT ocean_enrich.create_sync('synced', 'synced',
		'ocean_person_request(email => email)', 'enriched')}, $name);
	return;
}

# The address of a person of this database and its epoch.
sub person
{
	my ($database, $who) = @_;
	return "$database->{name}.e$database->{epoch}.$who\@example.com";
}

# ----------------------------------------------------------------
# Clients
# ----------------------------------------------------------------

# Starts a psql in the background.  Its output is discarded; errors are in the server's
# log.
sub client
{
	my ($self, $database, $sql) = @_;
	return 'too many clients' if @{ $self->{clients} } >= MOST_CLIENTS;
	my $file = File::Temp->new;
	print { $file } $sql;
	close $file or die "could not write $file: $!";
	my @command = (
		$self->{node}->installed_command('psql'), '--no-psqlrc', '--quiet', '--file', $file->filename,
		'--dbname', $self->{node}->connstr($database->{name}));
	my $pid = fork() // die "could not fork: $!";
	if ($pid == 0)
	{
		open(STDIN, '<', '/dev/null') or POSIX::_exit(1);
		open(STDOUT, '>', '/dev/null') or POSIX::_exit(1);
		open(STDERR, '>', '/dev/null') or POSIX::_exit(1);
		{ no warnings 'exec'; exec(@command); }
		POSIX::_exit(1);
	}
	push @{ $self->{clients} }, { pid => $pid, file => $file, database => $database };
	return "in $database->{name}";
}

# Forgets the clients that have ended.
sub reap
{
	my ($self) = @_;
	@{ $self->{clients} } =
	  grep { waitpid($_->{pid}, POSIX::WNOHANG()) == 0 } @{ $self->{clients} };
	return;
}

sub clients_of
{
	my ($self, $database) = @_;
	$self->reap;
	return grep { $_->{database} == $database } @{ $self->{clients} };
}

1;
