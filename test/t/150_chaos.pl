# 150_chaos.pl
#	A short soak of test/chaos, always the same: see doc/testing.md.

use strict;
use warnings FATAL => 'all';

use File::Basename qw(dirname);
use lib dirname(__FILE__), dirname(__FILE__) . '/../chaos';

use ChaosSoak;
use Test::More;

ChaosSoak::soak(150, 12);
done_testing();
