# ReadAheadTest.pm
#	What the tests of Read Ahead share: a server whose sessions have the library
#	from the start, tables of people, and statements whose requests are counted
#	by the sandbox's books.
#
#	use ReadAheadTest;
#
#	my $test = ReadAheadTest->new;
#	$test->ahead('SELECT', 'SELECT id, ocean_enrich_person(req) FROM contact');
#	$test->serial('VALUES', 'VALUES ...', requests => 2);
#
# Answers are not reused unless a test says so: a call that is made twice, or for
# nobody, is a request too many.

use strict;
use warnings FATAL => 'all';

package ReadAheadTest;

use OceanTest ();
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

# How long requests that never come are waited for, on a busy machine, too.
my $patience_ms = 1000 * $PostgreSQL::Test::Utils::timeout_default / 6;

# new(extra_conf => TEXT): started.
sub new
{
	my ($class, %options) = @_;
	my $sandbox = OceanTest::Sandbox->new;
	my $node = OceanTest::node(
		$sandbox,
		extra_conf => join("\n",
			"session_preload_libraries = 'ocean_enrich'",
			'ocean_enrich.concurrency = 16',
			'ocean_enrich.reuse_for = 0',
			# It would change the order of rows, and plans.
			'autovacuum = off',
			$options{extra_conf} // ''));

	$node->safe_psql(
		'postgres', q{
		CREATE FUNCTION request(i int) RETURNS jsonb
			LANGUAGE sql IMMUTABLE
			RETURN ocean_person_request(email => 'p' || i || '@example.com');

		-- What a session gave up may be about to be sent.
		CREATE PROCEDURE settle() LANGUAGE plpgsql AS $$
			BEGIN
				WHILE EXISTS (SELECT FROM ocean_enrich.in_flight()) LOOP
					PERFORM pg_sleep(0.001);
				END LOOP;
			END $$;

		CREATE TABLE contact (id int PRIMARY KEY, grp int, req jsonb, enriched jsonb);
		INSERT INTO contact SELECT i, i % 2, request(i) FROM generate_series(1, 8) AS i;
		CREATE TABLE other (id int PRIMARY KEY, flag bool);
		INSERT INTO other SELECT i, i > 4 FROM generate_series(1, 8) AS i;
		CREATE TABLE nobody (id int PRIMARY KEY);
		ANALYZE});
	return bless { sandbox => $sandbox, node => $node, config => {} }, $class;
}

sub sandbox { return $_[0]->{sandbox} }
sub node { return $_[0]->{node} }
sub sql { return $_[0]->{node}->safe_psql('postgres', $_[1]) }

# Configures the sandbox, if it is not so already.
sub configure
{
	my ($self, %config) = @_;
	my $now = $self->{config};
	return unless grep { !defined $now->{$_} || $now->{$_} ne $config{$_} } keys %config;
	$self->{sandbox}->config(%config);
	$self->{config} = { %$now, %config };
	return;
}

# Runs STATEMENTS in a transaction that is rolled back; returns what they print
# and how many requests the sandbox had, in all and at once.  Options:
# concurrency; latency_ms; held => [N, ...], so many requests are under way before
# the first of them is answered, then so many of the next, and so on; transaction
# => false, each statement is one.
sub run
{
	my ($self, $statements, %options) = @_;
	my $sandbox = $self->{sandbox};
	my @held = @{ $options{held} // [] };
	local $ENV{PGOPTIONS} = $ENV{PGOPTIONS} // '';
	$statements = "BEGIN; $statements; ROLLBACK" if $options{transaction} // 1;
	# As an option of the session, so that RESET goes back to it.
	$ENV{PGOPTIONS} .= " -c ocean_enrich.concurrency=$options{concurrency}"
	  if $options{concurrency};

	$sandbox->reset;
	$self->configure(
		hold => @held ? JSON::PP::true : JSON::PP::false,
		latency_ms => $options{latency_ms} // 0);
	my $query =
	  OceanTest::Query->start($self->{node}, "$statements; CALL settle()");
	$self->let_go(@held) if @held;
	my ($stdout, $stderr) = $query->finish;
	OceanTest::wait_until($self->{node}, 'SELECT NOT EXISTS (SELECT FROM ocean_enrich.in_flight())')
	  if $stderr =~ /ERROR/;
	my $books = $sandbox->wait(idle => 1);
	return {
		printed => "$stdout$stderr",
		requests => $books->{requests},
		at_once => $books->{most_in_flight}
	};
}

# Wait for so many requests that are held, let them go and wait for the next ones;
# the last ones are let go together with all that may come after them.
sub let_go
{
	my ($self, @held) = @_;
	while (@held)
	{
		my $count = shift @held;

		# When they do not come, the books will say so.
		last
		  unless $self->{sandbox}
		  ->get('wait', held => $count, timeout_ms => $patience_ms)->{reached};
		$self->{sandbox}->config(release => $count) if @held;
	}
	$self->configure(hold => JSON::PP::false);
	return;
}

# STATEMENTS print the same as one after the other, by as many requests, which is
# "requests"; "at_once" of them are under way before the first is answered.  Both
# are 8, the people in contact, unless they are named.  first_alone => true: of
# the others, since a join asks for one row before it knows whether it needs more.
sub ahead
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($self, $name, $statements, %options) = @_;
	my $requests = delete $options{requests} // 8;
	my $at_once = delete $options{at_once} // 8;
	my $first_alone = delete $options{first_alone};
	my $serial = $self->run($statements, %options, concurrency => 1);
	my $ahead = $self->run($statements, %options,
		held => [ $first_alone ? 1 : (), $at_once ]);

	is_deeply(
		[ $serial, $ahead ],
		[
			{ printed => $serial->{printed}, requests => $requests, at_once => 1 },
			{
				printed => $serial->{printed},
				requests => $requests,
				at_once => $at_once
			}
		],
		"$name: $at_once of $requests requests at once") || diag explain $ahead;
	return unlike($serial->{printed}, qr/ERROR|^$/, "$name: prints something");
}

# STATEMENTS make "requests" requests, one after the other, even if they could be
# sent ahead.
sub serial
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($self, $name, $statements, %options) = @_;
	my $requests = delete $options{requests};
	my $ahead =
	  $self->exact($name, $statements, %options, requests => $requests);

	return cmp_ok($ahead->{at_once}, '<=', 1, "$name: one after the other");
}

# STATEMENTS make "requests" requests, no matter how many of them at once.
sub exact
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($self, $name, $statements, %options) = @_;
	my $requests = delete $options{requests};
	my $serial = $self->run($statements, concurrency => 1, %options);
	my $ahead = $self->run($statements, latency_ms => 5, %options);

	is_deeply(
		[ map { $_->{requests} } $serial, $ahead ],
		[ $requests, $requests ],
		"$name: $requests requests");
	is($ahead->{printed}, $serial->{printed}, "$name: prints the same");
	unlike($ahead->{printed}, qr/ERROR/, "$name: no error");
	return $ahead;
}

1;
