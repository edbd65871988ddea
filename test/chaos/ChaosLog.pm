# ChaosLog.pm
#	The messages allowed in the server's log: each line above the level LOG, and each
#	end of a process by a signal, has to be expected for a reason.

use strict;
use warnings FATAL => 'all';

package ChaosLog;

use PostgreSQL::Test::Utils;
use Test::More;

# "BACKEND DATABASE: SEVERITY:  SQLSTATE: MESSAGE, in CONTEXT, called by CALLER
# (FUNCTION, FILE)", as far as known, and the reason.
my @expected = (

	# Errors of calls.
	[ qr/^client backend \w+: ERROR:  OE\d{3}: /, 'the error of a call' ],
	[ qr/^client backend \w+: ERROR:  08001: /, 'no connection to the API' ],
	[ qr/^client backend \w+: ERROR:  28000: /, 'an unknown token or secret' ],
	[ qr/ERROR:  53400: no background worker slot/, 'a storm of restarts' ],

	# Cancelled and terminated sessions, by us or by PostgreSQL.
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

	# The extension is dropped before or during a statement in the wild database.
	[ qr/^client backend wild: ERROR:  3F000: schema "ocean_enrich" does not exist/, 'no extension any more' ],
	[ qr/^client backend wild: ERROR:  42P01: relation "(?:ocean_enrich\.\w+|contacts|synced)" does not exist/, 'no extension any more' ],
	[ qr/^client backend wild: ERROR:  42883: function (?:ocean_enrich\.|ocean_)\w+\(.*\) does not exist/, 'no extension any more' ],
	[ qr/^client backend wild: ERROR:  55000: could not record the request in table "ocean_enrich\.call"/, 'no ledger any more' ],
	[ qr/^client backend wild: ERROR:  XX000: cache lookup failed for function \d+ .*\(internal_get_result_type, funcapi\.c\)$/,
		'PostgreSQL does not lock functions, so a plan may have one that was dropped' ],
	[ qr/^client backend wild: ERROR:  XX000: could not open relation with OID \d+(?:, in SQL function "\w+" during startup)?, called by PostgreSQL \(relation_open, relation\.c\)$/,
		'nor the relations that a function uses' ],
	[ qr/^client backend wild: ERROR:  42883: function ocean_hooks\.receive\(unknown\) does not exist/, 'a webhook without an extension' ],
	[ qr/^client backend wild: ERROR:  42501: permission denied for function receive_webhook/, 'a webhook before the function is granted again' ],
	[ qr/worker : WARNING:  01000: could not record the answer to call \d+ in table "ocean_enrich.call": extension "ocean_enrich" was dropped/,
		'no ledger any more' ],
	[ qr/FATAL:  3D000: database .* does not exist/, 'a client or a worker of a database that is dropped' ],
	[ qr/FATAL:  08006: connection to client lost/, 'a client was killed' ],
	[ qr/client backend postgres: WARNING:  01000: PID \d+ is not a PostgreSQL backend process/,
		'a signalled process has already ended' ],
	[ qr/ERROR:  55006: source database "wild" is being accessed/, 'a copy of a database in use' ],
	[ qr/^startup : WARNING:  01000: (?:could not open directory|some useless files may be left behind)/,
		'recovery drops a database for the second time' ],
	[ qr/^client backend \w+: ERROR:  42704: sync "synced" does not exist/, 'a sync was just dropped' ]);

my $prefix = qr/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \w+ \[(\d+)\] (.*?): ([A-Z]+\d?):  /;

# The unexpected messages in the log of WORLD, each with its count.
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

# All messages above the level LOG, and odd ones of that level.
sub complaints
{
	my ($world) = @_;
	my (@complaints, %last, $frames);
	foreach my $line (split /\n/, slurp_file($world->node->logfile))
	{
		if ($line !~ $prefix)
		{
			# The further lines of a message begin with a tab.
			push @complaints, { text => "outside the log format: $line" } if $line !~ /^\t/;
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

# The caller of relation_open(): the first frame that is neither nameless nor an
# open function for one kind of relations.
sub caller_of_open
{
	my ($frames) = @_;
	my ($caller) = grep { !/^\tpostgres: .*\((?:\w+_open)?\+0x/ } @$frames;
	return ($caller // '') =~ /ocean_enrich/ ? 'ocean_enrich' : 'PostgreSQL';
}

# True if a line of the level LOG says that a process was killed, but not by us, or
# did not exit.
sub is_odd
{
	my ($world, $text) = @_;
	return !$world->was_killed($1) || $2 != 9
	  if $text =~ /\(PID (\d+)\) was terminated by signal (\d+)/;
	return $text =~ /issuing SIGKILL to recalcitrant children/;
}

1;
