# sync_plans.pl
#	The work of our own statements grows with the rows, and not with their square,
#	whatever was planned or analysed before.  Plans are saved at their first use, when
#	all tables are empty, and made anew with statistics that are far from the truth.
#	Work is what auto_explain counts: rows that the nodes of the plans have returned
#	or dropped.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node wait_until);
use SyncTest qw(owner create);
use PostgreSQL::Test::Utils;
use Test::More;

# Batches have at most 500 rows: at this number, a statement that reads all rows for
# each batch does 20 times as much work as one that reads them once.
my $rows = 10000;

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox, extra_conf => <<'END');
shared_preload_libraries = 'auto_explain,ocean_enrich'
auto_explain.log_min_duration = 0
auto_explain.log_analyze = on
auto_explain.log_timing = off
auto_explain.log_nested_statements = on
plan_cache_mode = force_generic_plan
autovacuum = off
ocean_enrich.max_concurrency = 100
ocean_enrich.queue_enabled = off
END
my $read_to = 0;

sub sql { return $node->safe_psql('postgres', $_[0]) }

# {statement => rows that its executions have processed since the last call}
sub work
{
	my $log = slurp_file($node->logfile, $read_to);
	my ($statement, $loops, %work);

	$read_to += length $log;
	foreach (split /\n/, $log)
	{
		if (/^\tQuery Text: (.*)/)
		{
			$statement = $1;
			$work{$statement} //= 0;
		}
		elsif (/\(actual rows=([\d.]+) loops=(\d+)\)/)
		{
			$loops = $2;
			$work{$statement} += $1 * $loops;
		}
		elsif (/^\t +Rows Removed by [\w ]+: (\d+)/)
		{
			$work{$statement} += $1 * $loops;
		}
	}
	return \%work;
}

# is_linear(NAME, CHANGES, EXPECTED...): since the last call no statement of ours has
# processed more than 15 rows for each of the rows that changed; and those that
# match EXPECTED have run.
sub is_linear
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name, $changes, @expected) = @_;
	my $limit = 15 * $changes;
	my $work = work();
	# A worker that starts reads the calls of the day once, whatever has changed.
	my @ours = grep { /ocean_enrich\./ && !/^SELECT count\(\*\) = |WHERE sent_at >= \$1 AND account = / }
	  keys %$work;

	foreach my $expected (@expected)
	{
		ok((grep { /$expected/ } @ours), "$name: ran $expected");
	}
	is(join("\n", map { "$work->{$_}: $_" } grep { $work->{$_} > $limit } @ours),
		'', "$name: the work of each statement is linear");
	note(join "\n", map { "$work->{$_}: $_" } sort { $work->{$b} <=> $work->{$a} } @ours);
	return;
}

sub table
{
	my ($name, $count) = @_;
	sql(qq{
		SET ROLE anna;
		CREATE TABLE $name (id integer PRIMARY KEY, email text, other text, enriched jsonb);
		INSERT INTO $name SELECT i, '$name' || i || '\@example.com' FROM generate_series(1, $count) AS i});
	return;
}

# Have the planner believe that our tables have one row, or very many, whatever their size.
sub believe
{
	my ($tuples, $pages) = @_;
	sql(qq{
		UPDATE pg_class SET reltuples = $tuples, relpages = $pages
		WHERE relnamespace = 'ocean_enrich'::regnamespace AND relkind IN ('r', 'i')});
	return;
}

sub queue
{
	my ($state) = @_;
	$node->append_conf('postgresql.conf', "ocean_enrich.queue_enabled = $state");
	$node->reload;
	return;
}

sub wait_for_calls
{
	my ($state) = @_;
	wait_until($node, qq{SELECT count(*) = $rows FROM ocean_enrich.sync_row WHERE state = '$state'});
	return;
}

owner($node, 'anna');
work();

# Triggers

table('contacts', $rows);
create($node, 'anna', 'contacts', 'enqueue_existing => false');
sql(qq{
	SET ROLE anna;
	INSERT INTO contacts SELECT -1 WHERE false;
	DELETE FROM contacts WHERE id = -1;
	UPDATE contacts SET email = 'x' WHERE id = -1;
	UPDATE contacts SET email = 'b' || email;
	UPDATE contacts SET other = email;
	UPDATE contacts SET id = -id;
	INSERT INTO contacts SELECT i, 'more' || i || '\@example.com' FROM generate_series(1, $rows) AS i;
	DELETE FROM contacts WHERE id > 0});
wait_until($node, q{SELECT NOT EXISTS (SELECT FROM ocean_enrich.sync_inbox)});
is_linear('triggers', 5 * $rows, qr/^INSERT INTO ocean_enrich.sync_inbox/, qr/^WITH taken AS/);
sql(q{SELECT ocean_enrich.drop_sync('contacts')});
work();

# A sync, from its creation to its end

sub live
{
	my ($name) = @_;
	table($name, $rows);
	create($node, 'anna', $name);
	wait_for_calls('queued');
	is_linear("$name: queueing", $rows, qr/state = 'changed'/);

	sql(qq{SELECT ocean_enrich.disable_sync('$name')});
	wait_for_calls('changed');
	is_linear("$name: disabling", $rows, qr/^WITH cancelled AS/);

	sql(qq{SELECT ocean_enrich.enable_sync('$name')});
	wait_for_calls('queued');
	is(sql(q{SELECT count(*) FILTER (WHERE ocean_enrich.cancel(call_id)) FROM ocean_enrich.call WHERE state = 'queued'}),
		$rows, 'each call is cancelled');
	wait_for_calls('failed');
	is_linear("$name: cancelling", $rows, qr/^UPDATE ocean_enrich.call SET state = 'cancelled'/);

	sql(qq{SELECT ocean_enrich.retry_sync('$name')});
	wait_for_calls('queued');
	queue('on');
	wait_for_calls('done');
	queue('off');
	is_linear("$name: sending", $rows);

	sql(qq{SELECT ocean_enrich.drop_sync('$name')});
	is_linear("$name: dropping", $rows);
	return;
}

live('saved_when_empty');
believe(1, 1000000);
live('believed_small');
believe(1000000000, 1);
live('believed_large');

done_testing();
