# ProgressFormatter.pm
#	What prove prints for test/run.sh: its usual output and, to descriptor 3, one
#	line for each test file that has ended.  On a terminal each line replaces the
#	one before.

use strict;
use warnings FATAL => 'all';

package ProgressFormatter;

use parent 'TAP::Formatter::File';
use IO::Handle;

# Perl closes it in the tests, as each descriptor above 2.
open(my $progress, '>&=', 3) or die "could not open descriptor 3: $!";
$progress->autoflush;

my ($ended, $files) = (0, 0);

sub prepare
{
	my ($self, @tests) = @_;
	$files = @tests;
	return $self->SUPER::prepare(@tests);
}

sub open_test
{
	my ($self, $name, $parser) = @_;
	return ProgressFormatter::Session->new(
		{ name => $name, formatter => $self, parser => $parser });
}

sub tell_end
{
	my ($name, $parser) = @_;
	my $line = sprintf '[%d of %d, %d s] %s: %d s', ++$ended, $files, time() - $^T, $name,
	  $parser->end_time - $parser->start_time;
	$line .= ', failed' if $parser->has_problems;
	print $progress -t $progress ? "\r$line\e[K" : "$line\n";
	return;
}

sub summary
{
	my ($self, @arguments) = @_;
	print $progress "\r\e[K" if -t $progress;
	return $self->SUPER::summary(@arguments);
}

package ProgressFormatter::Session;

use parent -norequire, 'TAP::Formatter::File::Session';

sub close_test
{
	my ($self) = @_;
	ProgressFormatter::tell_end($self->name, $self->parser);
	return $self->SUPER::close_test;
}

1;
