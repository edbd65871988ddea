# short_soak.pl
#	A short soak of test/chaos, always the same: see doc/testing.md.

use strict;
use warnings FATAL => 'all';

use ChaosSoak;
use Test::More;

ChaosSoak::soak(150, 12);
done_testing();
