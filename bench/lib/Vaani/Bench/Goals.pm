package Vaani::Bench::Goals;

# The goals for the numbers, and whether they are reached.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use List::Util qw(max);

our @EXPORT_OK = qw(goals);

# The other servers, and what an answered call took in Redis when its goal was set.
my @OTHERS = ('OpenResty', 'Node.js', 'Bun', 'Rust', 'Flask');
my ($CALL, $PROCESSED) = (712 / 1024, 1096 / 1024);    # KiB

# A name, which side of it is good, the limit, and the ratio. $m: the medians by
# case and what was measured; $k: the KiB of Vaani::Bench::Memory. A case that
# did not run has no value, which makes the goal not one of this run.
my @GOALS = (
    [ 'CPU, ratio to nginx that does nothing, 64 connections', '<=', 1.4,
        sub ($m, $k) { $m->('small, 64, module', 'cpu') / $m->('small, 64, nothing', 'cpu') } ],
    [ 'the same with 512', '<=', 1.35,
        sub ($m, $k) { $m->('small, 512, module', 'cpu') / $m->('small, 512, nothing', 'cpu') } ],
    [ 'CPU of OpenResty, ratio', '>=', 3,
        sub ($m, $k) { $m->('small, 64, OpenResty', 'cpu') / $m->('small, 64, module', 'cpu') } ],
    [ 'CPU of Node.js, ratio', '>=', 7,
        sub ($m, $k) { $m->('small, 64, Node.js', 'cpu') / $m->('small, 64, module', 'cpu') } ],
    [ 'CPU of Bun, ratio', '>=', 2.2,
        sub ($m, $k) { $m->('small, 64, Bun', 'cpu') / $m->('small, 64, module', 'cpu') } ],
    [ 'CPU of Rust, ratio', '>=', 1.15,
        sub ($m, $k) { $m->('small, 64, Rust', 'cpu') / $m->('small, 64, module', 'cpu') } ],
    [ 'CPU of Flask, ratio', '>=', 45,
        sub ($m, $k) { $m->('small, 64, Flask', 'cpu') / $m->('small, 64, module', 'cpu') } ],
    [ 'events/s, ratio to the best of those five', '>=', 1.1,
        sub ($m, $k) { $m->('small, 64, module', 'rate') / max(map { $m->("small, 64, $_", 'rate') } @OTHERS) } ],
    [ 'p50 with one connection, ratio to Rust', '<=', 1,
        sub ($m, $k) { $m->('small, 1, module', 'p50') / $m->('small, 1, Rust', 'p50') } ],
    [ 'CPU of Redis, ratio to the script from hiredis, 64 deep', '<=', 1.2,
        sub ($m, $k) { $m->('small, 64, module', 'redis') / $m->('script, 64 deep', 'redis') } ],
    [ 'CPU of Redis for the script, ratio to its writes alone', '<=', 1.8,
        sub ($m, $k) { $m->('script, 64 deep', 'redis') / $m->('its writes, 64 deep', 'redis') } ],
    [ 'CPU of Redis, 64 KiB with `max=16k`, ratio to all of it', '<=', 0.5,
        sub ($m, $k) { $m->('64 KiB, 64, module, max=16k', 'redis') / $m->('64 KiB, 64, module', 'redis') } ],
    [ 'p99 at half load, ratio to nginx that does nothing plus a round trip to Redis', '<=', 1.3,
        sub ($m, $k) {
            $m->('half load, module', 'p99') / ($m->('half load, nothing', 'p99') + $m->('script, 1 deep', 'p50'));
        } ],
    [ 'the same at an eighth of the load', '<=', 1.3,
        sub ($m, $k) {
            $m->('an eighth, module', 'p99') / ($m->('an eighth, nothing', 'p99') + $m->('script, 1 deep', 'p50'));
        } ],
    [ 'RSS after all events, ratio to that after a tenth', '<=', 1.01,
        sub ($m, $k) { ($k->{'after all events'} // die) / $k->{'after a tenth of them'} } ],
    [ 'memory of a call in Redis before `call_postprocessing`, ratio to 712 bytes', '<=', 0.8,
        sub ($m, $k) { ($k->{'a call in Redis before `call_postprocessing`'} // die) / $CALL } ],
    [ 'the same after it, ratio to 1096 bytes', '<=', 0.8,
        sub ($m, $k) { ($k->{'a call in Redis after it'} // die) / $PROCESSED } ],
);

sub goals ($median, $memory) {
    my @rows;

    my $value = sub ($case, $what) { ($median->{$case} // die "not measured\n")->{$what} };

    for my $goal (@GOALS) {
        my ($name, $side, $limit, $code) = @$goal;
        my $ratio = eval { $code->($value, $memory) } // next;
        my $met = $side eq '<=' ? $ratio <= $limit : $ratio >= $limit;
        push @rows, [ $name, ($side eq '<=' ? '≤' : '≥') . " $limit", sprintf('%.2f', $ratio), $met ? 'met' : 'not met' ];
    }
    return @rows;
}

1;
