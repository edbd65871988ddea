# ChaosChecks.pm
#	The checks that have to hold when everything has come to rest.

use strict;
use warnings FATAL => 'all';

package ChaosChecks;

use ChaosKinds;
use ChaosLog;
use JSON::PP ();
use OceanTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

# Shared memory at rest: the hubs of all databases, and the allocator's reserve.  That
# is an empty block of each size with its segment; and segments double in size every
# two.  So this limit detects memory that grows with the calls, but not a few lost
# bytes.
use constant MOST_SHARED_BYTES => 12 * 1024 * 1024;

# Of an idle worker: the log, epoll, pipes, a few sockets.  Files of the data directory,
# some of which PostgreSQL keeps open, are not counted.
use constant MOST_DESCRIPTORS => 14;

# In one database, without the slots that requests ahead of time leave free.
use constant SLOTS => 2048 - 512;

# ----------------------------------------------------------------
# Coming to rest
# ----------------------------------------------------------------

# No more clients, a calm API, no limits; calls that wait for a decision are given up.
sub bring_to_rest
{
	my ($world, $database) = @_;
	my ($name, $sandbox) = @$database{qw(name sandbox)};
	my $where = where($database);

	comes_to($where, 'all clients come to an end', sub { !$world->clients_of($database) });
	$sandbox->config(%{ ChaosKinds::calm() });
	$database->{forwarder}->refuse(0);
	$world->set(map { $_ => undef } ChaosKinds::setting_names());
	$world->insist('DELETE FROM ocean_enrich.budget', $name);
	$world->insist(q{
		SELECT ocean_enrich.alter_sync(name, condition => '') FROM ocean_enrich.sync WHERE condition IS NOT NULL;
		SELECT ocean_enrich.enable_sync(name) FROM ocean_enrich.sync WHERE NOT enabled}, $name);
	comes_to($where, 'nothing is stuck', sub { !defined unfinished($world, $name) })
	  or diag(unfinished($world, $name));
	comes_to($where, 'the API has nothing to do', sub {
		my $books = $sandbox->books;
		return $books->{in_flight} == 0 && $books->{webhooks_pending} == 0;
	});
	return;
}

sub comes_to
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($where, $name, $condition) = @_;
	return ok(ChaosWorld::comes($condition), "$where: $name");
}

# A description of unfinished work, or undef.
sub unfinished
{
	my ($world, $name) = @_;
	$world->insist(q{SELECT count(ocean_enrich.resolve(call_id, 'give up')) FROM ocean_enrich.unknown_calls
		WHERE resolution IS NULL}, $name);
	my $unfinished = $world->insist(q{
		SELECT 'call', call_id, state, status, detail, attempts, postponed, gathered, next_attempt_at, sync_id
		FROM ocean_enrich.call WHERE state IN ('queued', 'sent') LIMIT 10;
		SELECT 'in flight', * FROM ocean_enrich.in_flight() LIMIT 10;
		SELECT 'to be erased', * FROM ocean_enrich.forget_later LIMIT 10;
		SELECT 'inbox', * FROM ocean_enrich.sync_inbox LIMIT 10;
		SELECT 'settled', * FROM ocean_enrich.sync_settled LIMIT 10;
		SELECT 'sync', * FROM ocean_enrich.sync_status WHERE waiting > 0 OR in_flight > 0;
		SELECT 'row of a sync', r.*, c.state FROM ocean_enrich.sync_row AS r LEFT JOIN ocean_enrich.call AS c USING (call_id)
		WHERE r.state IN ('changed', 'queued') LIMIT 10}, $name);
	return $unfinished eq '' ? undef : "$unfinished\n" . $world->insist('TABLE ocean_enrich.queue_status', $name);
}

# ----------------------------------------------------------------
# One database
# ----------------------------------------------------------------

sub where
{
	my ($database) = @_;
	return "$database->{name}, epoch $database->{epoch}";
}

# In the wild database only the people of this epoch are checked.
sub check_books
{
	my ($world, $database) = @_;
	my ($name, $sandbox) = @$database{qw(name sandbox)};
	my $books = $sandbox->books(people => 1);
	note where($database) . ": $books->{requests} requests, $books->{charges} were charged";

	if (!$database->{wild})
	{
		OceanTest::books_agree($world->node, $sandbox, where($database), $name);
		check_reveals($world, $database, $books);
	}
	check_people($world, $database, $books);
	check_ends($world, $database);
	nothing_in($world, $database, 'no reveal is still awaited', q{
		SELECT call_id, emails, email_status, phones, phone_status FROM ocean_enrich.open_reveals});
	nothing_in($world, $database, 'the tally of the queue agrees',
		'SELECT sum(waiting) FROM ocean_enrich.queue_tally HAVING sum(waiting) <> 0');
	is($books->{strangers}, 0, where($database) . ': nothing was sent elsewhere');
	check_sync($world, $database);
	return;
}

# A webhook for a call with unknown outcome waits for the call's answer, and is not a
# reveal yet.  Nor is one for a call whose answer was unusable: only its id would tell
# whom it was about.
sub check_reveals
{
	my ($world, $database, $books) = @_;
	my $config = $database->{sandbox}->get('config');
	my $most = $config->{email_cost} + $config->{phone_cost};
	nothing_in($world, $database, 'the books of reveals agree', qq{
		WITH recorded AS (SELECT coalesce(sum(credits), 0) AS credits FROM ocean_enrich.webhook),
			unknown AS (SELECT $most * count(*) AS credits FROM ocean_enrich.call
				WHERE (state = 'unknown' OR state = 'answered' AND answer IS NULL)
					AND request #>> '{person,email}' LIKE '%.reveal%')
		SELECT 'charged $books->{reveals_charged}, recorded', r.credits, 'unknown', u.credits
		FROM recorded AS r, unknown AS u
		WHERE $books->{reveals_charged} NOT BETWEEN r.credits AND r.credits + u.credits});
	return;
}

# Lines of "PERSON|CREDITS|UNKNOWN CALLS|PAID AGAIN", without erased people.
my $people_sql = q{
	SELECT request #>> '{person,email}', coalesce(sum(credits), 0), count(*) FILTER (WHERE state = 'unknown'),
		count(*) FILTER (WHERE resolution = 'pay again')
	FROM ocean_enrich.call WHERE request IS NOT NULL GROUP BY 1};

sub check_people
{
	my ($world, $database, $books) = @_;
	my $config = $database->{sandbox}->get('config');
	my $most = $config->{cost} + $config->{email_cost} + $config->{phone_cost};
	my $of_now = quotemeta ChaosWorld::person($database, '') =~ s/\@.*//r;
	my %people = %{ $books->{people} }{ grep { /^$of_now/ } keys %{ $books->{people} } };
	my (@wrong, @twice, %known);

	foreach my $line (split /\n/, $world->insist($people_sql, $database->{name}))
	{
		my ($person, $recorded, $unknown, $again) = split /\|/, $line;
		next unless $person =~ /^$of_now/;
		my $charged = $people{$person}{charged} // 0;
		$known{$person} = 1;
		push @wrong, "$person: charged $charged, recorded $recorded, unknown $unknown"
		  unless $recorded <= $charged && $charged <= $recorded + $unknown * $most;
		push @twice, $person if ($people{$person}{charges} // 0) > 1 + $again;
	}
	push @wrong, map { "$_: not in the ledger" }
	  grep { !$known{$_} && !/\.forget\d/ && $people{$_}{charges} > 0 } keys %people;
	nothing(where($database), 'the books agree, person by person', @wrong);
	nothing(where($database), 'no person is charged twice', @twice);
	return;
}

# A call that was sent once has the status of that answer.  It may end as refused while
# a feature is missing, but then it asked for it.  No answer takes so long that the
# outcome of a 522 is unknown.
sub check_ends
{
	my ($world, $database) = @_;
	nothing_in($world, $database, 'the outcome is unknown after those statuses that say so', q{
		SELECT call_id, state, status, detail FROM ocean_enrich.call
		WHERE attempts <= 1
			AND (state = 'unknown' AND status IN (402, 403, 404, 422, 429, 502, 503, 521, 522, 523, 525, 526, 530)
				OR state IN ('refused', 'failed') AND status IN (500, 504, 520, 524))});
	nothing_in($world, $database, 'no call is refused for a feature that it did not ask for', q{
		SELECT call_id, status, detail, request FROM ocean_enrich.call
		WHERE state = 'refused' AND status IN (402, 403) AND request IS NOT NULL
			AND (detail ~ 'e-?mail' AND request #>> '{revealEmails,includeEmails}' IS DISTINCT FROM 'true'
				OR detail ~ 'phone' AND request #>> '{revealPhones,includePhones}' IS DISTINCT FROM 'true')});
	return;
}

sub check_sync
{
	my ($world, $database) = @_;
	nothing_in($world, $database, 'the sync has the answer for each of its rows', q{
		SELECT k.id, k.email, r.state, enriched #>> '{email,address}'
		FROM synced AS k LEFT JOIN ocean_enrich.sync_row AS r ON r.key = ARRAY[k.id::text]
		WHERE EXISTS (SELECT FROM ocean_enrich.sync WHERE condition IS NULL)
			AND (r.state IS NULL OR r.state = 'done' AND k.email !~ 'sb-'
				AND enriched #>> '{email,address}' IS DISTINCT FROM email)});
	nothing_in($world, $database, 'the sync has no row that does not exist', q{
		SELECT r.key FROM ocean_enrich.sync_row AS r
		WHERE NOT EXISTS (SELECT FROM synced AS k WHERE r.key = ARRAY[k.id::text])});
	nothing_in($world, $database, 'the counters of the sync are exact', q{
		SELECT s.* FROM ocean_enrich.sync_status AS s WHERE (s.done, s.not_found, s.failed, s.unknown)
			<> (SELECT count(*) FILTER (WHERE state = 'done'), count(*) FILTER (WHERE state = 'not found'),
				count(*) FILTER (WHERE state = 'failed'), count(*) FILTER (WHERE state = 'unknown')
			FROM ocean_enrich.sync_row AS r JOIN ocean_enrich.sync AS d USING (sync_id) WHERE d.name = s.name)});
	nothing_in($world, $database, 'the sync is not stopped',
		'SELECT name, problem_code, problem FROM ocean_enrich.sync WHERE problem IS NOT NULL');
	return;
}

# Two sessions read ahead until they have all slots that they can get.
sub check_slots
{
	my ($world, $database) = @_;
	my ($name, $sandbox) = @$database{qw(name sandbox)};
	$sandbox->config(hold => JSON::PP::true);
	foreach my $session (1, 2)
	{
		my $who = "'" . ChaosWorld::person($database, "slots$session.' || i || '") . "'";
		$world->client($database, qq{
			SET statement_timeout = 0;
			SET ocean_enrich.concurrency = 1024;
			SET ocean_enrich.request_timeout = '5min';
			SELECT count(ocean_try_enrich_person(ocean_person_request(email => $who)))
			FROM generate_series(1, 1024) AS i});
	}
	my $taken;
	comes_to(where($database), 'no slot is lost', sub {
		$taken = $world->insist('SELECT count(*) FROM ocean_enrich.in_flight()', $name);
		return $taken == SLOTS;
	}) or diag("$taken slots are taken");
	$world->insist(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity
		WHERE backend_type = 'client backend' AND state = 'active' AND pid <> pg_backend_pid()
			AND datname = current_database()}, $name);
	bring_to_rest($world, $database);
	return;
}

# ----------------------------------------------------------------
# The server
# ----------------------------------------------------------------

sub check_shared_memory
{
	my ($world) = @_;
	my @bytes = sort { $a <=> $b } map { -s } glob $world->data_dir . '/pg_dynshmem/*';
	note 'dynamic shared memory at rest: ' . join ' + ', @bytes;
	my $bytes = 0;
	$bytes += $_ foreach @bytes;
	cmp_ok($bytes, '<=', MOST_SHARED_BYTES, 'shared memory has not grown');
	return;
}

# The workers have run for a while, so descriptors that they leaked are still open.
#
# libcurl closes dead connections only when it looks for one to use, at most once a
# second; so calls are made until it has done so.
sub check_descriptors
{
	my ($world) = @_;
	my $postmaster = $world->postmaster;
	my ($before, $after) = ($world->{postmasters}{$postmaster}{descriptors}, ChaosWorld::descriptors($postmaster));
	cmp_ok($after, '<=', $before, 'the postmaster has no more descriptors than before');

	is($world->workers, $world->{kept_workers}, 'the workers are the same');
	$_->{sandbox}->config(close_idle => JSON::PP::true) foreach $world->databases;
	my $call = 0;
	comes_to('server', 'no process leaks descriptors', sub {
		return 1 unless descriptor_leaks($world);
		$call++;
		$world->insist('SELECT ' . OceanTest::enrich("descriptors$call\@example.com"), $_->{name})
		  foreach $world->databases;
		return 0;
	}) or diag(join "\n", descriptor_leaks($world));
	return;
}

# The processes with too many descriptors, and the kinds of these.
sub descriptor_leaks
{
	my ($world) = @_;
	my @leaks;
	my $data_dir = readlink '/proc/' . $world->postmaster . '/cwd';
	foreach my $pid (grep { $_ != $world->postmaster } $world->processes)
	{
		my @links = grep { !/^\Q$data_dir\E/ } map { readlink // '' } glob "/proc/$pid/fd/*";
		next if @links <= MOST_DESCRIPTORS;
		my %kinds;
		$kinds{s/[\d.]+//gr}++ foreach @links;
		push @leaks, "$pid: " . join ', ', map { "$kinds{$_} $_" } sort keys %kinds;
	}
	return @leaks;
}

# After the server's end: no process, no shared memory of any of the postmasters.
sub check_remains
{
	my ($world) = @_;
	$world->node->stop('fast');
	comes_to('stopped server', 'no process is left', sub { !$world->processes });
	nothing('stopped server', 'no dynamic shared memory is left', glob $world->data_dir . '/pg_dynshmem/*');
	my %segments = map { ((split ' ')[1] // '') => 1 } split /\n/, slurp_file('/proc/sysvipc/shm');
	nothing('stopped server', 'no shared memory segment is left',
		grep { defined && $segments{$_} } map { $_->{segment} } values %{ $world->{postmasters} });
	return;
}

# ----------------------------------------------------------------

sub nothing
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($where, $name, @found) = @_;
	splice @found, 20, @found - 20, 'and more' if @found > 20;
	is(join("\n", @found), '', "$where: $name");
	return;
}

sub nothing_in
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($world, $database, $name, $sql) = @_;
	nothing(where($database), $name,
		split /\n/, $world->insist($sql, $database->{name}));
	return;
}

sub check
{
	my ($world) = @_;
	$world->insist('DROP DATABASE IF EXISTS copy WITH (FORCE)');
	nothing('chaos', 'it has all kinds of trouble', ChaosKinds::missing($world));
	bring_to_rest($world, $_) foreach $world->databases;
	check_slots($world, $_) foreach $world->databases;
	check_books($world, $_) foreach $world->databases;
	check_shared_memory($world);
	check_descriptors($world);
	check_remains($world);
	nothing('log', 'it has no unexpected message', ChaosLog::unexpected($world));
	return;
}

1;
