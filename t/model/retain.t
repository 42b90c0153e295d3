# The models of the kept events, t/model/retain.pml and, for a cluster,
# t/model/cluster.pml, explored exhaustively by spin:
# with all rules of the design no acknowledged event is missing in the end, and a
# mark never counts an event that the server does not have. Without any one of
# the rules spin finds a loss, so the model can see one.
#
# VAANI_MODEL=long also runs the larger bounds, and VAANI_ONLY is a regular
# expression: only these runs. "make test-model" installs spin and calls this.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Cwd qw(abs_path);
use FindBin;
use File::Path qw(make_path remove_tree);
use Test::More;

my $models = abs_path($FindBin::Bin);
my $build = $ENV{VAANI_MODEL_BUILD} // "$FindBin::Bin/../../build/model";
my $long = ($ENV{VAANI_MODEL} // '') eq 'long';

# In MB, of each run; as many at the same time as there are processors.
my $memory = $long ? 4000 : 1200;
my $jobs = $ENV{VAANI_MODEL_JOBS} // 2;

# --- all rules are kept

my @FORGETS = qw(WIPE RESTART RESTORE);

my @kept = (
    [ 'failover-failback' => qw(PROMOTE FAULTS=2 KILLS=0) ],
    [ 'failover-break'    => qw(PROMOTE BREAKS=1 KILLS=0) ],
    [ 'failover-kill'     => qw(PROMOTE KILLS=1) ],
    [ 'failover-lives'    => qw(PROMOTE KILLS=0 SEGMENTS=3) ],
    [ 'failover-fine'     => qw(PROMOTE KILLS=0 FINE) ],
    [ 'failover-plain'    => qw(PROMOTE KILLS=0 PLAIN) ],
    [ 'forget-twice'      => @FORGETS, qw(FAULTS=2 KILLS=0) ],
    [ 'forget-kill'       => @FORGETS, qw(KILLS=1) ],
    [ 'forget-steps'      => @FORGETS, qw(BREAKS=1 KILLS=0 STEPS) ],
    [ 'forget-rotate'     => qw(WIPE KILLS=0 ROTATE FINE) ],
    [ 'late-mark'         => qw(WIPE KILLS=2 LATE EVENTS=1) ],
    [ 'clone'             => qw(PROMOTE WIPE FAULTS=2 KILLS=0 CLONE EVENTS=1) ],
);

push @kept, (
    [ 'long-failback-kill'    => qw(PROMOTE FAULTS=2 KILLS=1) ],
    [ 'long-failback-lives'   => qw(PROMOTE FAULTS=2 KILLS=0 SEGMENTS=3) ],
    [ 'long-failback-thrice'  => qw(PROMOTE FAULTS=3 KILLS=1 SEGMENTS=3 EVENTS=1) ],
    [ 'long-failover-events'  => qw(PROMOTE KILLS=0 EVENTS=3) ],
    [ 'long-failover-late'    => qw(PROMOTE KILLS=1 LATE) ],
    [ 'long-failover-clone'   => qw(PROMOTE KILLS=0 CLONE) ],
    [ 'long-forget-kill'      => @FORGETS, qw(FAULTS=2 KILLS=1 SEGMENTS=3) ],
    [ 'long-forget-fine'      => @FORGETS, qw(FAULTS=2 KILLS=1 ROTATE FINE) ],
) if $long;

# --- a rule is left out, and spin must find what that loses

my @left_out = (
    [ NO_CLAIM             => qw(WIPE KILLS=0) ],
    [ NO_TAG               => qw(WIPE KILLS=2 LATE EVENTS=1) ],
    [ NO_CAS               => qw(WIPE KILLS=0) ],
    [ MARK_BEFORE_ANSWER   => qw(PROMOTE KILLS=0) ],
    [ RESEND_MARK          => qw(PROMOTE KILLS=0) ],
    [ ONE_MARK             => qw(PROMOTE KILLS=0) ],
    [ NO_CLOSE             => qw(PROMOTE KILLS=0) ],
    [ APPEND_LATE          => qw(PROMOTE KILLS=0 FINE) ],
    [ ERROR_KEEPS          => qw(PROMOTE FAULTS=2 KILLS=0) ],
    [ ANSWER_BEFORE_APPEND => qw(WIPE KILLS=1 FINE) ],
    [ NO_RECHECK           => qw(PROMOTE KILLS=0) ],
    [ MISSING_IS_DONE      => qw(WIPE KILLS=0) ],
    [ HEAL_MARK_ANY_LIFE   => qw(PROMOTE KILLS=0) ],
);

# The case that the design does not cover: a server that returns to a state
# with the last mark of a writer, but without the events before it, on an open
# connection.
my @limits = (
    [ 'LIVE_ROLLBACK' => qw(RESTORE KILLS=0) ],
    [ 'LIVE_ROLLBACK' => qw(PROMOTE FAULTS=2 KILLS=0) ],
);

# --- the same in a cluster

my @cluster = (
    [ move             => qw(MOVES=1 PROMOTIONS=1) ],
    [ 'there-and-back' => qw(MOVES=2 PROMOTIONS=1 EVENTS=1 BOTH) ],
    [ failovers        => qw(MOVES=1 PROMOTIONS=2 EVENTS=1) ],
);

push @cluster, (
    [ 'long-moves'     => qw(MOVES=2 PROMOTIONS=1 SEGMENTS=1) ],
    [ 'long-events'    => qw(MOVES=1 PROMOTIONS=1 EVENTS=3) ],
    [ 'long-failovers' => qw(MOVES=2 PROMOTIONS=2 EVENTS=1 BOTH) ],
) if $long;

my @left_out_of_cluster = (
    [ NO_SCOPE     => qw(MOVES=1 PROMOTIONS=1) ],
    [ NO_EPOCH     => qw(MOVES=2 PROMOTIONS=1 EVENTS=1 BOTH) ],
    [ SCOPE_AT_SET => qw(MOVES=1 PROMOTIONS=1) ],
    [ ONE_SERVER   => qw(MOVES=1 PROMOTIONS=1) ],
);

my $lost = qr/assertion violated\s+!\(\(acknowledged&/;

my @runs = (
    (map { my ($name, @options) = @$_; { name => $name, options => [ @options, 'INVARIANT' ] } } @kept),
    (map { my ($name, @options) = @$_; { name => "without-$name", options => [ @options, $name ], finds => $lost } }
        @left_out),
    (map { my ($name, @options) = @$_; { name => "limit-$options[0]", options => [ @options, $name ], finds => $lost } }
        @limits),

    # A second application does happen, so the script must recognise it.
    { name => 'without-NOT_RECOGNISED', options => [ qw(WIPE KILLS=0 NOT_RECOGNISED) ], finds => qr/\.events&/ },

    # The end is reached with all events acknowledged.
    (map { { name => "end-$_", options => [ $_, qw(KILLS=0 FINE REACHED) ], finds => qr/\(acknowledged!=/ } }
        qw(PROMOTE WIPE RESTART RESTORE)),

    (map { my ($name, @options) = @$_; { name => "cluster-$name", model => 'cluster', options => \@options } } @cluster),
    (map {
        my ($name, @options) = @$_;
        { name => "cluster-without-$name", model => 'cluster', options => [ @options, $name ], finds => $lost }
    } @left_out_of_cluster),
    {
        name    => 'cluster-end',
        model   => 'cluster',
        options => [ qw(MOVES=1 PROMOTIONS=1 REACHED) ],
        finds   => qr/\(acknowledged!=/,
    },
);

@runs = grep { $_->{name} =~ /$ENV{VAANI_ONLY}/ } @runs if defined $ENV{VAANI_ONLY};
die "no run matches VAANI_ONLY\n" if !@runs;

# --- explore

make_path($build);
$build = abs_path($build);

sub model ($run) { return "$models/" . ($run->{model} // 'retain') . '.pml' }

# SEGMENTS=2 unless an option says other.
sub options ($run) {
    my @options = @{ $run->{options} };
    push @options, 'SEGMENTS=2' if !grep { /^SEGMENTS=/ } @options;
    return map { "-D$_" } @options;
}

# In a process of its own; all output is in log.
sub explore ($run) {
    chdir $run->{dir} or die "$run->{dir}: $!\n";
    open STDOUT, '>', 'log' or die "log: $!\n";
    open STDERR, '>&', \*STDOUT or die "log: $!\n";

    # All steps touch what is shared, so a partial order reduction would only cost
    # time, as a compression would. Optimizing takes longer than finding a loss.
    my @pan = ('gcc', $run->{finds} ? '-O0' : '-O1', qw(-w -DSAFETY -DNOREDUCE -DNOFAIR),
        "-DMEMLIM=$memory", qw(-o pan pan.c));
    for my $command ([ 'spin', options($run), '-a', model($run) ], \@pan, [ qw(./pan -m100000 -w22 -n) ]) {
        system(@$command) == 0 or die "@$command failed\n";
    }
    return;
}

my @todo = @runs;
my %running;

sub start ($run) {
    $run->{dir} = "$build/$run->{name}";
    remove_tree($run->{dir});
    make_path($run->{dir});

    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        setpgrp;
        my $done = eval { explore($run); 1 };
        print STDERR $@ if !$done;
        require POSIX;
        POSIX::_exit($done ? 0 : 1);
    }

    $running{$pid} = $run;
    return;
}

sub finish () {
    my $pid = waitpid -1, 0;
    my $run = delete $running{$pid} or return;
    $run->{status} = $?;
    return;
}

$SIG{$_} = sub { kill '-TERM' => keys %running; exit 1 } for qw(INT TERM HUP);

# --- what each has found

sub judge ($run) {
    open my $in, '<', "$run->{dir}/log" or die "$run->{dir}/log: $!\n";
    my $log = do { local $/; <$in> };

    my ($errors) = $log =~ /errors: (\d+)/;
    my ($states) = $log =~ /(\d+) states, stored/;
    my $options = join ' ', options($run);
    my $name = sprintf '%s: %s states', $run->{name}, $states // 'no';

    if ($run->{finds}) {
        ok defined $errors && $errors == 1 && $log =~ $run->{finds}, "$name, and that is found"
            or diag "$options: see $run->{dir}/log";
        return;
    }

    my $complete = $run->{status} == 0 && defined $errors && $errors == 0
        && $log !~ /search not completed|depth too small|out of memory|aborted/i;

    ok $complete, "$name, and nothing is lost"
        or diag "$options: see $run->{dir}/log; the steps: cd $run->{dir} && spin -t -p -g $options " . model($run);
    return;
}

# In the order of the table, as soon as it can be said.
for my $run (@runs) {
    while (!defined $run->{status}) {
        start(shift @todo) while @todo && keys %running < $jobs;
        finish();
    }
    judge($run);
}

done_testing;
