#!/usr/bin/env perl

# "make soak": a million events, and what the workers need for them. Memory and
# descriptors must not grow. In every fourth round Redis is killed and started
# again, so that events go through the spool.
#
# Environment, besides what the tests know: SOAK_EVENTS (1000000), SOAK_ROUNDS
# (20), SOAK_WORKERS (2).
#
# The exit status is 0 when all is flat.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/lib";
use Vaani::Test;

use Vaani::Test::Faults;
use Vaani::Test::Spool;

my $events = $ENV{SOAK_EVENTS} // 1_000_000;
my $rounds = $ENV{SOAK_ROUNDS} // 20;
my $workers = $ENV{SOAK_WORKERS} // 2;

# Rounds in which pools, caches and arenas may still grow: one of them is with
# the spool.
use constant WARM_UP => 5;

# What a worker may need more at the end than after these, KiB.
use constant MARGIN => 2048;

use constant LOADS => 2;
use constant PROGRESS => 5;    # s

die "SOAK_ROUNDS: more than " . 2 * WARM_UP . ", please\n" if $rounds <= 2 * WARM_UP;
$| = 1;

my $redis = Vaani::Test::Redis->start(acl => [qw(~vaani:stream +xadd)]);
my $nginx = Vaani::Test::Nginx->start(
    workers => $workers, log_level => 'notice',
    http => "
        server {
            listen unix:%%SOCK%%;
            location /hook {
                vaani_webhook;
                vaani_redis ${\ $redis->url };
                vaani_redis_connect_timeout 300ms;
                vaani_redis_timeout 300ms;
                vaani_stream vaani:stream maxlen=1000;
                vaani_ttl 20s;
                vaani_spool %%DIR%%/spool;
            }
        }",
);
my @pids = $nginx->worker_pids;
my $began = now();
my (%answers, @samples, @problems);

sub total () {
    my $total = 0;
    $total += $_ for values %answers;
    return $total;
}

# [ resident KiB, descriptors ] of a process.
sub usage ($pid) {
    my ($rss) = slurp("/proc/$pid/status") =~ /^VmRSS:\s+(\d+)/m or return;
    opendir my $dh, "/proc/$pid/fd" or return;
    return [ $rss, scalar grep { !/^\./ } readdir $dh ];
}

# Until so many events more are answered. Dies when they are not.
my $said = 0;

sub send_events ($loads, $n) {
    my $counted = sub { my $sum = 0; $sum += $_ for map { values %{ $_->counts } } @$loads; $sum };
    my $goal = $counted->() + $n;

    while (1) {
        my $now = $counted->();
        if (now() - $said >= PROGRESS) {
            my $total = total() + $now;
            printf "# %d of %d events, %d a second\n", $total, $events, $total / (now() - $began);
            $said = now();
        }
        return if $now >= $goal;
        $loads->[0]->await(ok => 1, 0.1);
        die "the load has ended\n" if grep { !$_->{process}->alive } @$loads;
    }
}

for my $round (1 .. $rounds) {
    my $share = $events / $rounds;
    my @loads = map {
        Vaani::Test::Faults->start($nginx, rate => 0, keep => 0, rooms => "soak$round-$_")
    } 1 .. LOADS;

    if ($round % 4 == 2) {
        for (1 .. 3) {
            send_events(\@loads, $share / 6);
            $redis->kill;
            send_events(\@loads, $share / 24);
            $redis->restart;
        }
    }
    send_events(\@loads, $share - ($round % 4 == 2 ? $share * 5 / 8 : 0));

    for my $load (@loads) {
        $load->stop;
        my $counts = $load->counts;
        $answers{$_} += $counts->{$_} for keys %$counts;
        unlink $load->{journal};
    }

    my @left = await_empty($nginx->dir . '/spool', 120);
    push @problems, "round $round: the spool still has @left" if @left;

    # The connections of the load are closed; the workers have to see that.
    wait_for(sub {
        my @fds = map { (usage($_) // next)->[1] } @pids;
        return @samples && !grep { $fds[$_] > $samples[0][$_][1] } 0 .. $#fds;
    }, 0.5);
    push @samples, [ map { usage($_) // [ 0, 0 ] } @pids ];

    printf "# round %2d: %s\n", $round, join '; ', map {
        sprintf 'worker %d: %d KiB, %d descriptors', $_ + 1, @{ $samples[-1][$_] }
    } 0 .. $#pids;
}

my @now = $nginx->worker_pids;
push @problems, "workers @pids became @now" if "@now" ne "@pids";
push @problems, "$answers{$_} events were answered $_"
    for grep { !/^(?:ok|duplicate|queued)\z/ } sort keys %answers;

print "#\n# worker  KiB after round ", WARM_UP,
    "  KiB at the end  most  descriptors then  at the end\n";

for my $i (0 .. $#pids) {
    my ($base, $end) = ($samples[ WARM_UP - 1 ][$i], $samples[-1][$i]);
    my $most = 0;
    for my $sample (@samples[ WARM_UP .. $#samples ]) {
        $most = $sample->[$i][0] if $sample->[$i][0] > $most;
    }

    printf "# %6d  %17d  %14d  %4d  %16d  %10d\n", $i + 1, $base->[0], $end->[0], $most,
        $base->[1], $end->[1];

    push @problems, sprintf 'worker %d grew by %d KiB', $i + 1, $end->[0] - $base->[0]
        if $end->[0] > $base->[0] + MARGIN;
    # One of them leads, which takes a descriptor.
    push @problems, sprintf 'worker %d has %d descriptors more', $i + 1, $end->[1] - $base->[1]
        if $end->[1] > $base->[1] + 1;
}

printf "#\n# %d events in %d s: %s\n", total(), now() - $began,
    join ', ', map { "$answers{$_} $_" } sort keys %answers;
print map { "# not flat: $_\n" } @problems;

ok !@problems, 'memory and descriptors are flat';
ok $nginx->stop, 'nginx ends';
done_testing;
