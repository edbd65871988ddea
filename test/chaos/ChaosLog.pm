# ChaosLog.pm
#	What the server's log may say: each line above the level LOG has to be expected,
#	with a reason, and so has each end of a process by a signal.

use strict;
use warnings FATAL => 'all';

package ChaosLog;

use PostgreSQL::Test::Utils;
use Test::More;

# "BACKEND DATABASE: SEVERITY:  SQLSTATE: MESSAGE, in CONTEXT, called by WHOM (FUNCTION,
# FILE)", as far as there is such a thing, and why.
my @expected = (

	# What sessions are told of their calls.
	[ qr/^client backend \w+: ERROR:  OE\d{3}: /, 'what became of a call' ],
	[ qr/^client backend \w+: ERROR:  08001: /, 'no connection to the API' ],
	[ qr/^client backend \w+: ERROR:  28000: /, 'a token or a secret that is not known' ],
	[ qr/ERROR:  53400: no background worker slot/, 'a storm of restarts' ],

	# Cancelled and terminated sessions, ours and those that PostgreSQL ends.
	[ qr/ERROR:  57014: canceling /, 'cancels and time-outs' ],
	[ qr/^client backend \w+: ERROR:  25P02: current transaction is aborted/,
		'a psql that was cancelled between two of its statements' ],
	[ qr/FATAL:  57P01: terminating (?:connection|background worker "[^"]+"|autovacuum process) due to administrator command/,
		'terminated, or a stop' ],
	[ qr/FATAL:  57P01: terminating connection due to unexpected postmaster exit/, 'kill -9 of the postmaster' ],
	[ qr/FATAL:  57P03: the database system is /, 'the server starts or stops' ],
	[ qr/WARNING:  57P02: terminating connection because of crash of another server process/, 'kill -9' ],
	[ qr/FATAL:  57P02: terminating /, 'kill -9' ],
	[ qr/ERROR:  40P01: deadlock detected/, 'rows changed in any order' ],

	# The extension is dropped before a statement in the wild database, or under it.
	[ qr/^client backend wild: ERROR:  3F000: schema "ocean_enrich" does not exist/, 'no extension any more' ],
	[ qr/^client backend wild: ERROR:  42P01: relation "(?:ocean_enrich\.\w+|contacts|kept)" does not exist/, 'no extension any more' ],
	[ qr/^client backend wild: ERROR:  42883: function (?:ocean_enrich\.|ocean_)\w+\(.*\) does not exist/, 'no extension any more' ],
	[ qr/^client backend wild: ERROR:  55000: could not record the request in ocean_enrich\.call/, 'no ledger any more' ],
	[ qr/^client backend wild: ERROR:  XX000: cache lookup failed for function \d+ .*\(internal_get_result_type, funcapi\.c\)$/,
		'PostgreSQL locks no functions, so a plan may have one that was dropped' ],
	[ qr/^client backend wild: ERROR:  XX000: could not open relation with OID \d+(?:, in SQL function "\w+" during startup)?, called by PostgreSQL \(relation_open, relation\.c\)$/,
		'nor what such a function names and returns' ],
	[ qr/^client backend wild: ERROR:  42883: function ocean_hooks\.receive\(unknown\) does not exist/, 'a webhook without an extension' ],
	[ qr/^client backend wild: ERROR:  42501: permission denied for function receive_webhook/, 'one before it is granted again' ],
	[ qr/worker : WARNING:  01000: could not record the answer of call \d+ in ocean_enrich.call: the extension ocean_enrich was dropped/,
		'no ledger any more' ],
	[ qr/FATAL:  3D000: database .* does not exist/, 'a client or a worker of a database that is dropped' ],
	[ qr/FATAL:  08006: connection to client lost/, 'a client was killed' ],
	[ qr/client backend postgres: WARNING:  01000: PID \d+ is not a PostgreSQL backend process/,
		'what we signal has come to its end' ],
	[ qr/ERROR:  55006: source database "wild" is being accessed/, 'a copy of a database in use' ],
	[ qr/^startup : WARNING:  01000: (?:could not open directory|some useless files may be left behind)/,
		'recovery drops a database for the second time' ],
	[ qr/^client backend \w+: ERROR:  42704: (?:there is no kept column|kept column "kept" does not exist)/, 'it was dropped a moment ago' ]);

my $prefix = qr/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \w+ \[(\d+)\] (.*?): ([A-Z]+\d?):  /;

# What is in the log of WORLD and not expected, each with how often.
sub unexpected
{
	my ($world) = @_;
	my (%unexpected, %expected);
	foreach my $complaint (complaints($world))
	{
		my ($reason) = map { $_->[1] } grep { $complaint =~ $_->[0] } @expected;
		defined $reason ? $expected{$reason}++ : $unexpected{$complaint}++;
	}
	note 'expected in the log: ' . join '; ', map { "$expected{$_} times: $_" } sort keys %expected;
	return map { "$unexpected{$_} times: $_" } sort keys %unexpected;
}

# Everything above the level LOG, and what is odd.
sub complaints
{
	my ($world) = @_;
	my (@complaints, %last, $frames);
	foreach my $line (split /\n/, slurp_file($world->node->logfile))
	{
		if ($line !~ $prefix)
		{
			# Longer messages go on behind a tab.
			push @complaints, { text => "beside the log: $line" } if $line !~ /^\t/;
			push @$frames, $line if $frames;
			next;
		}
		my ($pid, $who, $kind, $text) = ($1, $2, $3, substr $line, $+[0]);
		$frames = undef;
		if ($kind =~ /^(?:LOG|WARNING|ERROR|FATAL|PANIC)$/)
		{
			$last{$pid} = { text => "$who: $kind:  $text" };
			push @complaints, $last{$pid} if $kind ne 'LOG' || is_odd($world, $text);
		}
		elsif ($kind eq 'BACKTRACE')
		{
			$frames = $last{$pid}{frames} = [];
		}
		else
		{
			$last{$pid}{$kind} = $text =~ s/:\d+$//r;
		}
	}
	return map { describe($_) } @complaints;
}

sub describe
{
	my ($complaint) = @_;
	my $text = $complaint->{text};
	$text .= ", in $complaint->{CONTEXT}" if defined $complaint->{CONTEXT};
	$text .= ', called by ' . caller_of_open($complaint->{frames}) if $complaint->{frames};
	$text .= " ($complaint->{LOCATION})" if defined $complaint->{LOCATION};
	return $text;
}

# Who wanted to open a relation: functions without a name, and those of a relation's
# kind, lie between.
sub caller_of_open
{
	my ($frames) = @_;
	my ($caller) = grep { !/^\tpostgres: .*\((?:\w+_open)?\+0x/ } @$frames;
	return ($caller // '') =~ /ocean_enrich/ ? 'ocean_enrich' : 'PostgreSQL';
}

# Does a line of the level LOG say that a process died, by another hand than ours,
# or would not die?
sub is_odd
{
	my ($world, $text) = @_;
	return !$world->was_killed($1) || $2 != 9
	  if $text =~ /\(PID (\d+)\) was terminated by signal (\d+)/;
	return $text =~ /issuing SIGKILL to recalcitrant children/;
}

1;
