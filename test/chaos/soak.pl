# soak.pl
#	The soak of run.sh, which hands over OCEAN_SOAK_SEED and OCEAN_SOAK_SECONDS.

use strict;
use warnings FATAL => 'all';

use File::Basename qw(dirname);
use lib dirname(__FILE__), dirname(__FILE__) . '/../t';

use ChaosSoak;
use Test::More;

ChaosSoak::soak($ENV{OCEAN_SOAK_SEED}, $ENV{OCEAN_SOAK_SECONDS});
done_testing();
