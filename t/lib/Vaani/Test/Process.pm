package Vaani::Test::Process;

# Child processes that never outlive the test file.
#
# Every child leads a process group of its own, so that its descendants
# (nginx's workers, Redis's savers) can be killed with it. They end
#   - when the test stops them,
#   - in the END block: normal end, die, or a signal (the handlers below exit),
#   - through the guard, a small process that waits for the test process to
#     vanish, when that was killed without a chance to clean up (SIGKILL).

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

# Before our END block, so that Test::More's comes after it: failures found
# while the servers stop still count.
use Test::More ();

use Exporter 'import';
use File::Path qw(remove_tree);
use POSIX qw(WNOHANG WUNTRACED);
use Scalar::Util qw(weaken);
use Vaani::Test::Dir qw(slurp spew tmpdir);
use Vaani::Test::Socket qw(now pause wait_readable);

our @EXPORT_OK = qw(run wait_pid_gone in_test_process register_service);

# The same number on every Linux architecture except alpha.
use constant SYS_PIDFD_OPEN => 434;

my $owner = $$;
my %running;     # pid => 1: the groups that must be gone at the end
my @services;    # weak references to servers: their at_end() runs first
my ($guard_pid, $guard_fh);

# False in a process that the test forked: it must not end any of them.
sub in_test_process () { return $$ == $owner }

sub register_service ($object) {
    @services = grep { defined } @services;
    push @services, $object;
    weaken $services[-1];
    return $object;
}

# Runs a program: argv, and optionally dir, stdin, stdout, stderr (paths).
sub spawn ($class, %opt) {
    my @argv = @{ $opt{argv} };

    pipe(my $exec_r, my $exec_w) or die "pipe: $!\n";

    my $self = $class->_fork(
        sub {
            $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP QUIT PIPE CHLD);

            my $ok = (!defined $opt{dir} || chdir $opt{dir})
                && _redirect(0, '<', $opt{stdin} // '/dev/null')
                && _redirect(1, '>>', $opt{stdout} // '/dev/null')
                && _redirect(2, '>>', $opt{stderr} // '/dev/null');

            no warnings 'exec';
            $ok &&= exec { $argv[0] } @argv;

            syswrite $exec_w, "$!";
            return 127;
        }
    );

    # The pipe closes when exec succeeds.
    close $exec_w;
    if (sysread $exec_r, my $error, 1000) {
        $self->wait;
        die "cannot run $argv[0]: $error\n";
    }

    return $self;
}

# Runs code in a child, which exits with the code's value and never returns
# into the test. It drops the sockets that it inherits: while it holds a copy,
# the test's own close() would not reach the peer. 'keep' lists exceptions.
sub spawn_code ($class, $code, %opt) {
    return $class->_fork(
        sub {
            my %keep = map { fileno($_) => 1 } @{ $opt{keep} // [] };
            _close_fds(sub ($fd) { !$keep{$fd} && -S "/dev/fd/$fd" });

            $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP QUIT CHLD);
            _redirect(0, '<', '/dev/null');
            POSIX::dup2(2, 1);    # a stray print must not end up in the TAP

            my $status = eval { $code->() };
            if ($@) {
                syswrite STDERR, "# in child $$: $@";
                return 255;
            }
            return $status // 0;
        }
    );
}

sub _fork ($class, $code) {
    die "only the test process itself may start servers\n" if !in_test_process();
    _start_guard();

    defined(my $pid = fork) or die "fork: $!\n";

    if ($pid == 0) {
        # Reported to the guard before anything else can happen.
        POSIX::setpgid(0, 0);
        syswrite $guard_fh, "+$$\n";
        close $guard_fh;
        undef $guard_fh;

        my $status = eval { $code->() };
        POSIX::_exit($status // 255);
    }

    # In both processes: the first one creates the group.
    POSIX::setpgid($pid, $pid);
    $running{$pid} = 1;

    return bless { pid => $pid, status => undef }, $class;
}

sub pid ($self)    { return $self->{pid} }
sub status ($self) { return $self->{status} }    # as $?; undef while it runs
sub alive ($self)  { return !$self->wait(0) }

sub signal ($self, $name) {
    return defined $self->{status} ? 0 : kill $name => $self->{pid};
}

# Waits for the end and reaps. False when it still runs after the timeout.
sub wait ($self, $timeout = 30) {
    my $deadline = now() + $timeout;
    local ($?, $!);

    while (!defined $self->{status}) {
        my $reaped = waitpid $self->{pid}, WNOHANG;

        if ($reaped) {
            # -1: other code reaped it (a test's own wait()).
            $self->{status} = $reaped > 0 ? $? : 0;
            last;
        }

        my $left = $deadline - now();
        return 0 if $left <= 0;
        _await_exit($self->{pid}, $left);
    }

    return 1;
}

# Sends SIGSTOP, and waits until the process has stopped.
sub suspend ($self) {
    return if defined $self->{status};
    local ($?, $!);

    kill STOP => $self->{pid};
    my $pid = waitpid $self->{pid}, WUNTRACED;
    if ($pid > 0 && !POSIX::WIFSTOPPED(${^CHILD_ERROR_NATIVE})) {
        $self->{status} = $?;
        die "process $pid ended instead of stopping\n";
    }

    return;
}

# Ends the process and the rest of its group. They have exited when it returns:
# a killed process still holds its sockets for a while.
sub kill_group ($self) {
    return if !in_test_process();
    local ($?, $!);
    my $pid = $self->{pid};

    my @members = _group($pid);
    kill KILL => -$pid;
    for my $member (@members) {
        wait_pid_gone($member, 30) or die "process $member survives SIGKILL\n";
    }
    $self->wait(30) or die "process $pid survives SIGKILL\n";

    delete $running{$pid};
    syswrite $guard_fh, "-$pid\n" if $guard_fh;

    return;
}

sub _group ($pgid) {
    opendir my $dh, '/proc' or return;

    return grep {
        /^\d+$/ && slurp("/proc/$_/stat") =~ /\) \S \d+ (\d+) [^)]*\z/ && $1 == $pgid
    } readdir $dh;
}

# Waits for a process that may not be our child. A zombie counts as ended.
sub wait_pid_gone ($pid, $timeout = 30) {
    my $deadline = now() + $timeout;

    while (_alive($pid)) {
        my $left = $deadline - now();
        return 0 if $left <= 0;
        _await_exit($pid, $left);
    }

    return 1;
}

sub _alive ($pid) {
    my $stat = slurp("/proc/$pid/stat");
    return $stat ne '' && $stat !~ /\) [ZX] [^)]*\z/ if -d '/proc/self';
    return kill 0 => $pid;
}

# Runs a command to its end. Returns ($exit, $stdout, $stderr); $exit is the
# exit code, or 128 + signal. Options: stdin => $bytes, timeout, dir.
my $run_count = 0;

sub run ($argv, %opt) {
    my $timeout = $opt{timeout} // 60;
    my $base = tmpdir() . '/run' . ++$run_count;

    spew("$base.in", $opt{stdin}) if defined $opt{stdin};

    my $process = __PACKAGE__->spawn(
        argv   => $argv,
        dir    => $opt{dir},
        stdin  => defined $opt{stdin} ? "$base.in" : undef,
        stdout => "$base.out",
        stderr => "$base.err",
    );

    my $ended = $process->wait($timeout);
    $process->kill_group;
    my @output = map { slurp("$base.$_") } qw(out err);
    unlink map { "$base.$_" } qw(in out err);

    die "timed out after $timeout s: @$argv\n$output[1]" if !$ended;

    my $status = $process->status;
    return ($status & 127 ? 128 + ($status & 127) : $status >> 8, @output);
}

# Returns when the process has ended, or earlier: the caller checks again.
sub _await_exit ($pid, $timeout) {
    state $no_pidfd = $^O ne 'linux';

    if (!$no_pidfd) {
        my $fd = syscall SYS_PIDFD_OPEN, $pid + 0, 0;

        if ($fd >= 0) {
            open my $fh, '<&=', $fd or die "pidfd: $!\n";
            wait_readable($fh, $timeout);
            return;
        }
        return if $!{ESRCH};
        $no_pidfd = 1;    # an old kernel, or a sandbox that forbids it
    }

    pause($timeout < 0.003 ? $timeout : 0.003);
    return;
}

sub _redirect ($fd, $mode, $path) {
    open my $fh, $mode, $path or return 0;
    return POSIX::dup2(fileno $fh, $fd);
}

sub _close_fds ($wanted) {
    opendir my $dh, '/dev/fd' or return;
    my @fds = grep { /^\d+$/ && $_ > 2 } readdir $dh;
    closedir $dh;

    # Replaced rather than closed: Perl still has handles with these numbers,
    # and would eventually close other files with the same numbers.
    open my $null, '+<', '/dev/null' or return;
    for my $fd (@fds) {
        next if $guard_fh && $fd == fileno $guard_fh;
        POSIX::dup2(fileno $null, $fd) if -e "/dev/fd/$fd" && $wanted->($fd);
    }
    return;
}

# The guard reads our notes ("+pid", "-pid") until the pipe closes, because
# this process has ended for any reason, and then removes the rest.
sub _start_guard () {
    return if $guard_pid;

    my $dir = $ENV{VAANI_KEEP} ? undef : tmpdir();

    pipe(my $r, my $w) or die "pipe: $!\n";
    defined($guard_pid = fork) or die "fork: $!\n";

    if ($guard_pid == 0) {
        $SIG{$_} = 'IGNORE' for qw(INT TERM HUP QUIT PIPE);
        POSIX::setpgid(0, 0);
        chdir '/';

        # No file of the test may stay open here, least of all the TAP output,
        # for whose end the harness waits.
        _redirect($_, $_ ? '>' : '<', '/dev/null') for 0 .. 2;
        _close_fds(sub ($fd) { $fd != fileno $r });

        my %groups;
        while (defined(my $line = readline $r)) {
            $line =~ /^\+(\d+)$/ ? $groups{$1} = 1
                : $line =~ /^-(\d+)$/ ? delete $groups{$1}
                : next;
        }

        kill KILL => -$_ for keys %groups;

        # Killed processes may still be writing while they end.
        for (1 .. 40) {
            last if !defined $dir || !-e $dir;
            remove_tree($dir, { error => \my $ignored });
            pause(0.05) if -e $dir;
        }

        POSIX::_exit(0);
    }

    close $r;
    $guard_fh = $w;
    return;
}

sub _stop_guard () {
    return if !$guard_pid;
    close $guard_fh;
    undef $guard_fh;
    waitpid $guard_pid, 0;
    undef $guard_pid;
    return;
}

# An exit, not the death by the signal: END blocks must run.
for my $name (qw(INT TERM HUP QUIT)) {
    next if $SIG{$name} && $SIG{$name} ne 'DEFAULT';
    my $number = { INT => 2, TERM => 15, HUP => 1, QUIT => 3 }->{$name};
    $SIG{$name} = sub { in_test_process() ? exit 128 + $number : POSIX::_exit(128 + $number) };
}

# A peer that has closed is an error to handle, not a reason to die.
$SIG{PIPE} = 'IGNORE';

END {
    if (in_test_process()) {
        my $status = $?;
        local ($!, $@);

        for my $service (grep { defined } @services) {
            eval { $service->at_end($status != 0); 1 } or do {
                print STDERR "# $@";
                $status ||= 1;
            };
        }

        for my $pid (keys %running) {
            kill KILL => -$pid;
            waitpid $pid, 0;
        }

        _stop_guard();
        $? = $status;
    }
}

1;
