# ChaosChance.pm
#	Random numbers that depend on a seed alone, whatever else draws random numbers in
#	this process.

use strict;
use warnings FATAL => 'all';

package ChaosChance;

use Digest::SHA qw(sha256);

sub new
{
	my ($class, $seed) = @_;
	return bless { seed => $seed, drawn => 0 }, $class;
}

# A number below LIMIT.
sub number
{
	my ($self, $limit) = @_;
	$self->{drawn}++;
	return unpack('N', sha256("$self->{seed} $self->{drawn}")) % $limit;
}

sub one_of
{
	my ($self, @choices) = @_;
	return $choices[ $self->number(scalar @choices) ];
}

# True in PERCENT of all cases.
sub percent
{
	my ($self, $percent) = @_;
	return $self->number(100) < $percent;
}

1;
