# ChaosSoak.pm
#	Chaos: for a given time, actions determined by a seed disturb sessions, the
#	extension's processes, the server, its settings, its databases and the API.  In
#	the end everything has to come to rest, and is checked.
#
# Each step has its own random numbers, determined by the seed and the number of the
# step.  So a step never depends on how long earlier steps took.

use strict;
use warnings FATAL => 'all';

package ChaosSoak;

use ChaosActions;
use ChaosChance;
use ChaosChecks;
use ChaosWorld;
use Test::More;
use Time::HiRes qw(sleep time);

# In the last third nothing ends the server or the extension's processes, so that
# small leaks add up.
sub soak
{
	my ($seed, $seconds) = @_;
	note "seed $seed, $seconds seconds";
	my $world = ChaosWorld->new($seed);
	my $end = time() + $seconds;
	my $number = 0;
	step($world, $seed, ++$number, 1) while time() < $end - $seconds / 3;
	$world->keep_workers;
	step($world, $seed, ++$number, 0) while time() < $end;
	note "$number steps: " . join ', ', map { "$_: $world->{done}{$_}" } sort keys %{ $world->{done} };

	ChaosChecks::check($world);
	return;
}

sub step
{
	my ($world, $seed, $number, $may_end) = @_;
	my $chance = ChaosChance->new("$seed step $number");
	my ($name, $action) = ChaosActions::choose($chance, $may_end);
	my $pause = $chance->number(250) / 1000;
	ChaosActions::calm_down_in_time($world);
	my $said = $action->($world, $chance) // '';
	note sprintf('%s step %d: %s %s', $world->clock, $number, $name, $said);
	$world->{done}{$name}++;
	$world->reap;
	sleep $pause;
	return;
}

1;
