# soak.pl
#	Chaos: what a seed decides is done to sessions, the extension's processes, the
#	server, its settings, its databases and the API, for as long as it is told to.
#	In the end everything has to come to rest, and is checked.
#
#	Called by run.sh, with OCEAN_SOAK_SEED and OCEAN_SOAK_SECONDS.
#
# Each step has a chance of its own, which begins at the seed and the number of
# the step.  So what a step does never depends on how long an earlier one took.

use strict;
use warnings FATAL => 'all';

use File::Basename qw(dirname);
use lib dirname(__FILE__), dirname(__FILE__) . '/../t';

use ChaosActions;
use ChaosChance;
use ChaosChecks;
use ChaosWorld;
use Test::More;
use Time::HiRes qw(sleep time);

my $seed = $ENV{OCEAN_SOAK_SEED} // time() % 1_000_000;
my $seconds = $ENV{OCEAN_SOAK_SECONDS} // 120;
note "seed $seed, $seconds seconds";

# In the last third nothing ends the server or the extension's processes, so that
# what is lost little by little adds up.
my $world = ChaosWorld->new($seed);
my $end = time() + $seconds;
my $lasting = $end - $seconds / 3;
my $step = 0;
while (time() < $end)
{
	$step++;
	my $chance = ChaosChance->new("$seed step $step");
	my ($name, $action) = ChaosActions::choose($chance, time() < $lasting);
	my $pause = $chance->number(250) / 1000;
	my $said = $action->($world, $chance) // '';
	note sprintf('%s step %d: %s %s', $world->clock, $step, $name, $said);
	$world->{done}{$name}++;
	$world->reap;
	sleep $pause;
}
note "$step steps: " . join ', ', map { "$_: $world->{done}{$_}" } sort keys %{ $world->{done} };

ChaosChecks::check($world);
done_testing();
