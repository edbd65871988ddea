# AnswerTest.pm
#	A server that stands where the API would, with whatever answers a test writes.
#
#	use AnswerTest qw(answer_with);
#
#	my $port = answer_with(sub { my ($client) = @_; ... });
#
# Listens on loopback until the test ends.  Each connection is given to the function
# in a process of its own, and closed when that returns.

use strict;
use warnings FATAL => 'all';

package AnswerTest;

use Exporter 'import';
use IO::Socket::INET;
use POSIX ();

our @EXPORT_OK = qw(answer_with);

my @servers;

sub answer_with
{
	my ($answer) = @_;
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 50) or die "could not listen: $!";
	my $pid = fork() // die "could not fork: $!";
	serve($listener, $answer) if $pid == 0;
	push @servers, $pid;
	return $listener->sockport;
}

# In the child.  Does not return.
sub serve
{
	my ($listener, $answer) = @_;
	local $SIG{PIPE} = 'IGNORE';
	local $SIG{CHLD} = 'IGNORE';
	local $SIG{TERM} = sub { POSIX::_exit(0) };
	# Holding prove's pipe would make prove wait for us.
	open(STDOUT, '>', '/dev/null') or POSIX::_exit(1);
	while (1)
	{
		POSIX::_exit(0) if getppid() == 1;
		my $client = $listener->accept or next;
		my $child = fork();
		if (defined $child && $child == 0)
		{
			close $listener;
			$answer->($client);
			POSIX::_exit(0);
		}
		close $client;
	}
	return;
}

END
{
	my $exit_code = $?;
	foreach my $pid (@servers)
	{
		kill 'TERM', $pid;
		waitpid($pid, 0);
	}
	$? = $exit_code;
}

1;
