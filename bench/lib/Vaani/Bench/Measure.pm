package Vaani::Bench::Measure;

# One run: a load, and what the processes need for it.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use Vaani::Bench::Peers ();
use Vaani::Test::Dir qw(slurp);
use Vaani::Test::Process qw(run);

our @EXPORT_OK = qw(measure client cpu rss);

# The CPU time used by the processes so far, us, with all their threads.
sub cpu (@pids) {
    my $ns = 0;

    for my $pid (@pids) {
        my @threads = glob "/proc/$pid/task/*/schedstat";
        for my $thread (@threads) {
            my ($on_cpu) = slurp($thread) =~ /^(\d+)/ or die "$thread says nothing\n";
            $ns += $on_cpu;
        }
        die "process $pid is gone\n" if !@threads;
    }

    return $ns / 1000;
}

# Resident, KiB.
sub rss (@pids) {
    my $rss = 0;
    $rss += slurp("/proc/$_/status") =~ /^VmRSS:\s+(\d+)/m ? $1 : die "process $_ is gone\n" for @pids;
    return $rss;
}

# Runs a client of bench/client to its end: what its RESULT says, as a hash.
sub client ($name, @arguments) {
    my ($exit, $out, $err) = run([ Vaani::Bench::Peers::BUILD . "/$name", @arguments ], timeout => 300);
    my ($line) = $out =~ /^RESULT (.*)$/m;
    die "$name failed: $out$err\n" if $exit || !defined $line;
    return map { split /=/ } split ' ', $line;
}

# Runs code that calls client(), and adds what the server's and Redis's
# processes used meanwhile: us for each event, and KiB.
sub measure ($code, $redis_pid, @pids) {
    my @before = (cpu(@pids), cpu($redis_pid));
    my %result = $code->();
    my @after = (cpu(@pids), cpu($redis_pid));

    die "no events\n" if !$result{events};
    $result{rate} = $result{events} / $result{seconds};
    $result{cpu} = ($after[0] - $before[0]) / $result{events};
    $result{redis} = ($after[1] - $before[1]) / $result{events};
    $result{rss} = rss(@pids);
    return \%result;
}

1;
