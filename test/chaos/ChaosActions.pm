# ChaosActions.pm
#	The actions of the chaos and their frequencies.  An action takes the world and a
#	chance and may return a description of what it did.  It draws all its random
#	numbers before it queries the server.

use strict;
use warnings FATAL => 'all';

package ChaosActions;

use ChaosKinds;
use JSON::PP;
use Time::HiRes qw(sleep time);

# Frequency, name and function of each action.
my @harmless = (
	[ 12, 'call', \&call ],
	[ 8, 'update', \&update ],
	[ 3, 'storm', \&storm ],
	[ 10, 'submit', \&submit ],
	[ 4, 'wait', \&wait_for_queue ],
	[ 4, 'cancel and retry', \&cancel_and_retry ],
	[ 8, 'change rows of the sync', \&change_sync_rows ],
	[ 4, 'control the sync', \&control_sync ],
	[ 5, 'reveal', \&reveal ],
	[ 3, 'reveal in the answer', \&reveal_in_answer ],
	[ 1, 'refuse webhooks', \&refuse_webhooks ],
	[ 3, 'decide', \&decide ],
	[ 2, 'forget', \&forget ],
	[ 2, 'budget', \&budget ],
	[ 2, 'lock the ledger', \&lock_ledger ],
	[ 3, 'look', \&look ],
	[ 5, 'cancel a session', sub { signal_session('pg_cancel_backend', @_) } ],
	[ 3, 'terminate a session', sub { signal_session('pg_terminate_backend', @_) } ],
	[ 2, 'kill a client', \&kill_client ],
	[ 1, 'cancel a process', sub { signal_process('pg_cancel_backend', @_) } ],
	[ 2, 'stop a process for a while', \&stop_process ],
	[ 6, 'setting', \&change_setting ],
	[ 6, 'weather', \&weather ],
	[ 4, 'rate limit for a while', sub { disturb(\&ChaosKinds::rate_limit, @_) } ],
	[ 3, 'no feature for a while', sub { disturb(\&ChaosKinds::missing_feature, @_) } ],
	[ 4, 'outage', sub { disturb(\&ChaosKinds::outage, @_) } ],
	[ 1, 'buy', \&buy ],
	[ 3, 'hold', \&hold ],
	[ 1, 'stop the API for a while', \&stop_api ],
	[ 2, 'wild extension', \&wild_extension ]);

# Actions that end the server or the extension's processes.
my @ending = (
	[ 2, 'terminate a process', sub { signal_process('pg_terminate_backend', @_) } ],
	[ 1, 'kill -9 of a session', \&kill_session ],
	[ 2, 'kill -9 of a process', \&kill_process ],
	[ 1, 'kill -9 of the postmaster', sub { $_[0]->kill_postmaster } ],
	[ 1, 'restart', \&restart ],
	[ 1, 'setting of the processes', \&change_process_setting ],
	[ 1, 'wild database', \&wild_database ],
	[ 1, 'copy', \&copy_database ],
	[ 1, 'begin again', \&begin_again ]);

sub names { return map { $_->[1] } @harmless, @ending }

# Chooses an action; one that ends something only if MAY_END.
sub choose
{
	my ($chance, $may_end) = @_;
	my @actions = (@harmless, $may_end ? @ending : ());
	my $sum = 0;
	$sum += $_->[0] foreach @actions;
	my $number = $chance->number($sum);
	foreach my $action (@actions)
	{
		return @$action[ 1, 2 ] if $number < $action->[0];
		$number -= $action->[0];
	}
	die 'no action';
}

# ----------------------------------------------------------------
# People
# ----------------------------------------------------------------

sub database
{
	my ($world, $chance) = @_;
	return $chance->one_of($world->databases);
}

# Few people, so that requests for the same one meet.
sub person
{
	my ($chance, $database) = @_;
	my $number = $chance->number(400);
	return ChaosWorld::person($database, $number) if $chance->percent(75);
	my $fault = ChaosKinds::person_fault($chance);
	return ChaosWorld::person($database, $number % 10 . ".$fault");
}

# An SQL expression: a set of addresses.
sub people
{
	my ($chance, $database, $most) = @_;
	my @people = map { person($chance, $database) } 0 .. $chance->number($most);
	return 'unnest(ARRAY[' . join(', ', map { "'$_'" } @people) . ']) AS email';
}

# ----------------------------------------------------------------
# Sessions
# ----------------------------------------------------------------

sub call
{
	my ($world, $chance) = @_;
	my $database = database(@_);
	my $people = people($chance, $database, 40);
	my $function = $chance->percent(70) ? 'ocean_try_enrich_person' : 'ocean_enrich_person';
	my $timeout = $chance->percent(30) ? 50 + $chance->number(500) . 'ms' : '30s';
	my $end = $chance->one_of(qw(COMMIT ROLLBACK));
	return $world->client($database, qq{
		SET statement_timeout = '$timeout';
		BEGIN;
		SAVEPOINT before;
		SELECT count(e) FROM (SELECT $function(ocean_person_request(email => email)) AS e FROM $people) AS called;
		ROLLBACK TO before;
		$end});
}

# Reads ahead.  The people of the table have no faults of their own.
sub update
{
	my ($world, $chance) = @_;
	my $database = database(@_);
	my $first = $chance->number(280);
	my $last = $first + $chance->number(60);
	my $concurrency = $chance->one_of(1, 4, 16, 64);
	my $value = $chance->one_of('ocean_enrich_person(ocean_person_request(email => email))',
		'(ocean_try_enrich_person(ocean_person_request(email => email))).answer');
	return $world->client($database, qq{
		SET ocean_enrich.concurrency = $concurrency;
		UPDATE contacts SET enriched = $value WHERE id BETWEEN $first AND $last});
}

# As many requests as there are slots; most of them are cancelled by a timeout.
sub storm
{
	my ($world, $chance) = @_;
	my $database = database(@_);
	my $first = $chance->number(3000);
	my $timeout = 50 + $chance->number(1000);
	my $who = "'" . ChaosWorld::person($database, "storm' || i || '") . "'";
	return $world->client($database, qq{
		SET statement_timeout = $timeout;
		SET ocean_enrich.concurrency = 1024;
		SELECT count(ocean_try_enrich_person(ocean_person_request(email => $who)))
		FROM generate_series($first, $first + 1000) AS i});
}

sub submit
{
	my ($world, $chance) = @_;
	my $database = database(@_);
	my $people = people($chance, $database, 60);
	my $priority = $chance->number(3);
	my $due = $chance->percent(20) ? "now() + '300ms'" : 'NULL';
	my $end = $chance->percent(80) ? 'COMMIT' : 'ROLLBACK';
	return $world->client($database, qq{
		BEGIN;
		SELECT count(ocean_enrich.submit(ocean_person_request(email => email), $priority, $due)) FROM $people;
		SELECT pg_sleep(0.05);
		$end});
}

sub wait_for_queue
{
	my ($world, $chance) = @_;
	return $world->client(database(@_), q{
		SELECT ocean_enrich.wait(array_agg(call_id), '3 s') FROM
			(SELECT call_id FROM ocean_enrich.call WHERE state IN ('queued', 'sent') LIMIT 50) AS c});
}

sub cancel_and_retry
{
	my ($world, $chance) = @_;
	my $part = 2 + $chance->number(5);
	return $world->client(database(@_), qq{
		SELECT count(ocean_enrich.cancel(call_id)) FROM (SELECT call_id FROM ocean_enrich.call
			WHERE state = 'queued' AND call_id % $part = 0 LIMIT 20) AS c;
		SELECT count(ocean_enrich.retry(call_id)) FROM (SELECT call_id FROM ocean_enrich.call
			WHERE state IN ('refused', 'failed', 'cancelled') AND call_id % $part = 1 LIMIT 20) AS c});
}

sub change_sync_rows
{
	my ($world, $chance) = @_;
	my $database = database(@_);
	my $end = $chance->percent(80) ? 'COMMIT' : 'ROLLBACK';
	my $sql = 'BEGIN;';
	foreach my $id (sort { $a <=> $b } map { $chance->number(100) } 0 .. $chance->number(20))
	{
		my $person = person($chance, $database);
		$sql .= $chance->percent(20)
		  ? "DELETE FROM synced WHERE id = $id;"
		  : "INSERT INTO synced VALUES ($id, '$person') ON CONFLICT (id) DO UPDATE SET email = excluded.email;";
	}
	$sql = 'BEGIN; TRUNCATE synced;' if $chance->percent(3);
	return $world->client($database, "$sql $end");
}

sub control_sync
{
	my ($world, $chance) = @_;
	my $number = $chance->number(100);
	return $world->client(database(@_), $chance->one_of(
		q{SELECT ocean_enrich.disable_sync('synced'); SELECT pg_sleep(0.2); SELECT ocean_enrich.enable_sync('synced')},
		q{SELECT ocean_enrich.disable_sync('synced')},
		qq{SELECT ocean_enrich.alter_sync('synced', condition => 'id <> $number', priority => $number % 4)},
		q{SELECT ocean_enrich.retry_sync('synced')},
		q{SELECT ocean_enrich.drop_sync('synced');
			SELECT ocean_enrich.create_sync('synced', 'synced', 'ocean_person_request(email => email)', 'enriched')},
		q{BEGIN;
			SELECT ocean_enrich.drop_sync('synced');
			DROP TABLE synced;
			CREATE TABLE synced (id integer PRIMARY KEY, email text, enriched jsonb);
			SELECT ocean_enrich.create_sync('synced', 'synced', 'ocean_person_request(email => email)', 'enriched');
			COMMIT}));
}

sub reveal
{
	my ($world, $chance) = @_;
	my $database = database(@_);
	my $url = $database->{forwarder} ? $database->{forwarder}->url('open-sesame') : '';
	return ask_to_reveal($world, $chance, $database, 'reveal', qq{
			reveal_emails => true, reveal_emails_webhook_url => '$url',
			reveal_phones => true, reveal_phones_webhook_url => '$url'});
}

# Other people than in reveal(): one that is revealed both ways is charged twice.
sub reveal_in_answer
{
	my ($world, $chance) = @_;
	return ask_to_reveal($world, $chance, database(@_), 'told', 'reveal_emails => true, reveal_phones => true');
}

# For one of two hundred people with this name.
sub ask_to_reveal
{
	my ($world, $chance, $database, $name, $what) = @_;
	my $who = $name . $chance->number(200);
	$who .= '.' . ChaosKinds::reveal_fault($chance) if $chance->percent(20);
	my $person = ChaosWorld::person($database, $who);
	my $function = $chance->one_of('ocean_try_enrich_person', 'ocean_enrich.submit');
	return $world->client($database, "SELECT $function(ocean_person_request(email => '$person', $what)) IS NULL");
}

# The sandbox repeats a refused webhook until it is accepted.
sub refuse_webhooks
{
	my ($world, $chance) = @_;
	my $database = database(@_);
	my $refuse = $chance->number(2);
	$database->{forwarder}->refuse($refuse) if $database->{forwarder};
	return "$refuse in $database->{name}";
}

# Without the credits, which are only in the API's books.
sub decide
{
	my ($world, $chance) = @_;
	my $decision = $chance->one_of('pay again', 'give up');
	return $world->client(database(@_), qq{
		SELECT count(ocean_enrich.resolve(call_id, '$decision')) FROM
			(SELECT call_id FROM ocean_enrich.unknown_calls WHERE resolution IS NULL LIMIT 5) AS c});
}

# For people who are never requested again, which would be charged again.
sub forget
{
	my ($world, $chance) = @_;
	my $database = database(@_);
	my $number = ++$database->{forgotten};
	my $person = ChaosWorld::person($database, "forget$number");
	return $world->client($database, qq{
		SELECT ocean_enrich.submit(ocean_person_request(email => '$person'));
		SELECT pg_sleep(0.1);
		SELECT ocean_enrich.forget(email => '$person')});
}

sub budget
{
	my ($world, $chance) = @_;
	my $limit = $chance->number(2000);
	return $world->client(database(@_), $chance->one_of(
		qq{INSERT INTO ocean_enrich.budget VALUES ('postgres', 'day', $limit)
			ON CONFLICT (role, period) DO UPDATE SET credit_limit = excluded.credit_limit},
		'DELETE FROM ocean_enrich.budget'));
}

sub lock_ledger
{
	my ($world, $chance) = @_;
	return $world->client(database(@_), $chance->one_of(
		'BEGIN; LOCK TABLE ocean_enrich.call IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(0.3); COMMIT',
		'BEGIN; SELECT FROM ocean_enrich.call FOR UPDATE; SELECT pg_sleep(0.3); COMMIT',
		'VACUUM FULL ocean_enrich.call',
		'VACUUM ocean_enrich.call, ocean_enrich.queue_tally, ocean_enrich.sync_row',
		'REINDEX TABLE ocean_enrich.call'));
}

sub look
{
	my ($world, $chance) = @_;
	my $database = database(@_);
	my $people = people($chance, $database, 20);
	return $world->client($database, $chance->one_of(
		'SELECT count(*) FROM ocean_enrich.progress, ocean_enrich.queue_status',
		'SELECT count(*) FROM ocean_enrich.calls_in_flight; SELECT count(*) FROM ocean_enrich.sync_status',
		'SELECT count(*) FROM ocean_enrich.limits; SELECT count(*) FROM ocean_enrich.budget_status',
		'SELECT ocean_enrich.balance()',
		qq{SELECT * FROM ocean_enrich.estimate(\$\$
			SELECT ocean_enrich_person(ocean_person_request(email => email)) FROM $people\$\$)}));
}

# ----------------------------------------------------------------
# Signals
# ----------------------------------------------------------------

# One of the processes for which CONDITION is true.
sub pick_pid
{
	my ($world, $chance, $condition) = @_;
	my $number = $chance->number(1000);
	my @pids = split /\n/, $world->ask(
		"SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND $condition ORDER BY pid") // '';
	return @pids ? $pids[ $number % @pids ] : 0;
}

my $is_session = q{backend_type = 'client backend' AND state = 'active'};

# A condition for one kind of our processes, however many there are of each.
sub is_ours
{
	my ($chance) = @_;
	return "backend_type = 'ocean_enrich " . $chance->one_of(qw(worker worker applier launcher)) . "'";
}

sub signal_session
{
	my ($function, $world, $chance) = @_;
	my $pid = pick_pid($world, $chance, $is_session);
	$world->ask("SELECT $function($pid)") if $pid;
	return $pid;
}

sub signal_process
{
	my ($function, $world, $chance) = @_;
	my $pid = pick_pid($world, $chance, is_ours($chance));
	$world->ask("SELECT $function($pid)") if $pid;
	return $pid;
}

sub kill_client
{
	my ($world, $chance) = @_;
	my $number = $chance->number(1000);
	my @clients = @{ $world->{clients} } or return 'nobody';
	kill 'KILL', $clients[ $number % @clients ]{pid};
	return;
}

sub kill_and_wait_for_recovery
{
	my ($world, $pid) = @_;
	return 'nobody' unless $world->kill_process('KILL', $pid);
	$world->wait_for_recovery($pid);
	return $pid;
}

sub kill_session
{
	my ($world, $chance) = @_;
	return kill_and_wait_for_recovery($world, pick_pid($world, $chance, $is_session));
}

# One of our processes, or one of PostgreSQL's that write.
sub kill_process
{
	my ($world, $chance) = @_;
	my $condition = $chance->percent(80) ? is_ours($chance)
	  : q{backend_type IN ('checkpointer', 'background writer', 'walwriter')};
	return kill_and_wait_for_recovery($world, pick_pid($world, $chance, $condition));
}

# One of our processes stands still for a while, as on an overloaded machine.
sub stop_process
{
	my ($world, $chance) = @_;
	my $seconds = $chance->number(1000) / 1000;
	my $pid = pick_pid($world, $chance, is_ours($chance));
	$world->kill_process('STOP', $pid);
	sleep $seconds;
	$world->kill_process('CONT', $pid);
	return "$pid for $seconds s";
}

sub restart
{
	my ($world, $chance) = @_;
	my $mode = $chance->one_of(qw(fast fast immediate));
	$world->restart($mode);
	return $mode;
}

# ----------------------------------------------------------------
# Settings and the API
# ----------------------------------------------------------------

sub change_setting
{
	my ($world, $chance) = @_;
	my ($name, $value) = ChaosKinds::setting($chance);
	$world->set($name => $value);
	return "$name = $value";
}

# The time after which an idle worker exits.
sub change_process_setting
{
	my ($world, $chance) = @_;
	my $value = $chance->one_of('1s', '3s');
	$world->set('ocean_enrich.worker_idle_timeout' => $value);
	return $value;
}

# New weather until the next change.
sub weather
{
	my ($world, $chance) = @_;
	my $database = database(@_);
	my $weather = ChaosKinds::weather($chance);
	$database->{sandbox}->config(%{ ChaosKinds::calm() }, %$weather);
	return "in $database->{name}: " . JSON::PP->new->canonical->encode($weather);
}

# For some seconds, in addition to the weather.
sub disturb
{
	my ($kind, $world, $chance) = @_;
	my $database = database($world, $chance);
	my $config = $kind->($chance);
	my $seconds = (200 + $chance->number(4000)) / 1000;
	calm_down($database);
	$database->{sandbox}->config(%$config);
	$database->{disturbed} = { keys => [ keys %$config ], until => time() + $seconds };
	return "in $database->{name} for $seconds s: " . JSON::PP->new->canonical->encode($config);
}

# Ends the disturbances whose time is over.
sub calm_down_in_time
{
	my ($world) = @_;
	calm_down($_) foreach grep { $_->{disturbed} && $_->{disturbed}{until} < time() } $world->databases;
	return;
}

sub calm_down
{
	my ($database) = @_;
	my $disturbed = delete $database->{disturbed} or return;
	my $calm = ChaosKinds::calm();
	$database->{sandbox}->config(map { $_ => $calm->{$_} } @{ $disturbed->{keys} });
	return;
}

# Buys credits, which are unlimited in calm weather.
sub buy
{
	my ($world, $chance) = @_;
	my $database = database(@_);
	$database->{sandbox}->config(add_credits => '60');
	return "in $database->{name}";
}

# Some of the held requests go on before the others.
sub hold
{
	my ($world, $chance) = @_;
	my $database = database(@_);
	my $what = $chance->one_of(qw(hold hold_answers));
	my $seconds = $chance->number(1000) / 1000;
	my $first = $chance->number(5);
	$database->{sandbox}->config($what => JSON::PP::true);
	sleep $seconds;
	$database->{sandbox}->config(release => $first);
	$database->{sandbox}->config($what => JSON::PP::false);
	return "$what in $database->{name} for $seconds s";
}

# The API neither answers nor accepts connections, which wait in the kernel.
sub stop_api
{
	my ($world, $chance) = @_;
	my $database = database(@_);
	my $seconds = $chance->number(1500) / 1000;
	kill 'STOP', $database->{sandbox}->pid;
	sleep $seconds;
	kill 'CONT', $database->{sandbox}->pid;
	return "in $database->{name} for $seconds s";
}

# ----------------------------------------------------------------
# Databases
# ----------------------------------------------------------------

# Drops and creates the extension while calls are on the wire.
sub wild_extension
{
	my ($world) = @_;
	my $database = $world->wild;
	$world->insist('DROP EXTENSION IF EXISTS ocean_enrich CASCADE', $database->{name});
	$world->furnish($database);
	return;
}

sub wild_database
{
	my ($world) = @_;
	$world->drop_database($world->wild, 'WITH (FORCE)');
	$world->create_database($world->wild);
	return;
}

# The copy has a queue as well, for the sandbox of the wild database, but does not send
# it.
sub copy_database
{
	my ($world, $chance) = @_;
	my $database = $world->wild;
	$world->insist('DROP DATABASE IF EXISTS copy WITH (FORCE)');
	$world->insist(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = 'wild' AND backend_type = 'client backend'});
	return 'wild is in use' unless defined $world->ask('CREATE DATABASE copy TEMPLATE wild');
	$world->insist(q{ALTER DATABASE copy SET ocean_enrich.retention = '2s'});
	return 'made';
}

# The books are checked first, since the ledger is dropped.
sub begin_again
{
	my ($world, $chance) = @_;
	my $database = $chance->one_of($world->tame);
	my $drop = $chance->one_of('extension', 'database', 'database by force');
	ChaosChecks::bring_to_rest($world, $database);
	ChaosChecks::check_books($world, $database);
	$database->{sandbox}->reset;
	if ($drop eq 'extension')
	{
		$world->insist('DROP EXTENSION ocean_enrich CASCADE', $database->{name});
		$world->furnish($database);
	}
	else
	{
		$world->drop_database($database, $drop eq 'database' ? '' : 'WITH (FORCE)');
		$world->create_database($database);
	}
	return "$drop $database->{name}";
}

1;
