# soak.pl
#	The soak of run.sh, which sets OCEAN_SOAK_SEED and OCEAN_SOAK_SECONDS.

use strict;
use warnings FATAL => 'all';

use ChaosSoak;
use Test::More;

ChaosSoak::soak($ENV{OCEAN_SOAK_SEED}, $ENV{OCEAN_SOAK_SECONDS});
done_testing();
