package Vaani::Test::Scenario;

# Subtests that take long: which of them run, and for how long.
#
# Environment: VAANI_ONLY is a regex of the scenarios to run; VAANI_FAULTS=all
# runs all of them, VAANI_FAULTS=full repeats them more often.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use Test::More ();
use Vaani::Test::Socket qw(now);

our @EXPORT = qw(full long_scenario more_scenario scaled scenario);

sub full () { return ($ENV{VAANI_FAULTS} // '') eq 'full' }

# A number of answers to wait for, or of repetitions.
sub scaled ($short, $long = 10 * $short) { return full() ? $long : $short }

sub scenario ($name, $code) {
    my $only = $ENV{VAANI_ONLY} // '';
    return if $name !~ /(?:$only)/;    # an empty pattern alone is the last one that matched

    my $from = now();
    Test::More::subtest($name => $code);
    Test::More::note(sprintf '%s: %.1f s', $name, now() - $from);
    return;
}

# Only with VAANI_FAULTS=all, or full.
sub more_scenario ($name, $code) {
    scenario($name, $code) if ($ENV{VAANI_FAULTS} // '') ne '';
    return;
}

# Only with VAANI_FAULTS=full.
sub long_scenario ($name, $code) {
    scenario($name, $code) if full();
    return;
}

1;
