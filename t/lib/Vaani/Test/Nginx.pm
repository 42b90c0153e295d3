package Vaani::Test::Nginx;

# An nginx of the test's own. After its end the logs are looked through for
# what a healthy nginx never says (see Nginx/Log.pm): a failing test, once.
#
# Environment: NGINX_BIN, NGINX_WRAPPER (valgrind ...), VAANI_MODULE (path of
# the dynamic module, by default that of "make"; empty when it is built in).

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Test::More ();
use Vaani::Test::Dir qw(slurp spew subdir tail tmpdir);
use Vaani::Test::HTTP ();
use Vaani::Test::Nginx::Config qw(nginx_argv write_config);
use Vaani::Test::Nginx::Log qw(bad_lines);
use Vaani::Test::Process qw(in_test_process register_service run wait_pid_gone);
use Vaani::Test::Socket qw(free_port now pause try_connect);

my @CONFIG = qw(http main events workers single module log_level);

# For logs, which cause no event to wait for.
use constant INTERVAL => 0.003;

# Options:
#   http, main, events  text for these contexts of nginx.conf, in which
#                       %%SOCK%%    is the unix socket to listen on,
#                       %%PORT%%    a free port of 127.0.0.1,
#                       %%DIR%%     this nginx's directory,
#                       %%TMPDIR%%  the test file's
#   workers             number, default 1
#   single              1: master_process off
#   module              instead of $ENV{VAANI_MODULE}
#   log_level           of error.log, default info
#   allow_log           qr/of log lines that are no failure/
#   timeout             s until it must accept connections, default 30
# Dies with the end of the log when nginx does not come up.
sub start ($class, %opt) {
    my $self = $class->_new(%opt);
    register_service($self);
    $self->_launch;
    return $self;
}

# nginx -t with such a configuration: ($ok, $output).
sub check ($class, %opt) {
    my $self = $class->_new(%opt);
    $self->_write_config;

    my ($exit, @output) = run([ nginx_argv($self->{dir}, '-t') ], timeout => $self->{timeout});
    my $output = join '', @output;

    # Refusals are expected; a crash or a sanitizer's report is not.
    $self->{allow_log} //= qr/\[(?:alert|emerg)\]/;
    push @{ $self->{problems} }, "nginx -t died of signal " . ($exit - 128) . "\n" if $exit > 128;
    spew("$self->{dir}/stderr.log", $output);
    $self->check_log;

    return ($exit == 0 ? 1 : 0, $output);
}

sub _new ($class, %opt) {
    my $dir = subdir('nginx');

    my $self = bless {
        dir       => $dir,
        sock      => "$dir/http.sock",
        config    => { map { $_ => delete $opt{$_} } grep { exists $opt{$_} } @CONFIG },
        allow_log => delete $opt{allow_log},
        timeout   => delete $opt{timeout} // 30,
    }, $class;

    die 'unknown options: ' . join(' ', sort keys %opt) . "\n" if %opt;
    return $self;
}

sub dir ($self)        { return $self->{dir} }
sub sock ($self)       { return $self->{sock} }
sub port ($self)       { return $self->{port} //= free_port() }
sub conf_path ($self)  { return "$self->{dir}/nginx.conf" }
sub error_log ($self)  { return slurp("$self->{dir}/error.log") }
sub stderr_log ($self) { return slurp("$self->{dir}/stderr.log") }

# Of the master (with single, of the only process).
sub pid ($self) {
    return undef if !$self->alive;
    my ($pid) = slurp("$self->{dir}/nginx.pid") =~ /^(\d+)/;
    return $pid // $self->{process}->pid;    # not the same with some wrappers
}

sub alive ($self) { return $self->{process} && $self->{process}->alive ? 1 : 0 }

sub signal ($self, $name) {
    my $pid = $self->pid // return 0;
    return CORE::kill($name => $pid);
}

# A client for its socket.
sub http ($self, %opt) { return Vaani::Test::HTTP->new(sock => $self->sock, %opt) }

# The master's children, old ones that are shutting down included.
sub worker_pids ($self) {
    my $master = $self->pid // return;
    my @pids;

    opendir my $dh, '/proc' or die "opendir /proc: $!\n";
    for my $pid (grep { /^\d+$/ } readdir $dh) {
        my ($state, $parent) = slurp("/proc/$pid/stat") =~ /\) (\S) (\d+) [^)]*\z/ or next;
        push @pids, $pid if $parent == $master && $state !~ /[ZX]/;
    }

    @pids = sort { $a <=> $b } @pids;
    return @pids;    # not the sort itself: in scalar context it has no value
}

sub wait_pids_gone ($self, $pids, $timeout = 30) {
    my $deadline = now() + $timeout;
    wait_pid_gone($_, $deadline - now()) or return 0 for @$pids;
    return 1;
}

# --- the error log

# The size so far, to look or wait only for what comes after.
sub log_mark ($self) { return -s "$self->{dir}/error.log" // 0 }

sub log_lines ($self, $regex, $from = 0) {
    return grep { $_ =~ $regex } split /^/, slurp("$self->{dir}/error.log", $from);
}

sub log_like ($self, $regex, $name = "error log has $regex", $from = 0) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return Test::More::ok(scalar($self->log_lines($regex, $from)), $name)
        || Test::More::diag(tail("$self->{dir}/error.log"));
}

sub log_unlike ($self, $regex, $name = "error log has no $regex", $from = 0) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @lines = $self->log_lines($regex, $from);
    return Test::More::ok(!@lines, $name) || Test::More::diag(@lines);
}

# Waits for a line; the line, or undef when the time is over.
sub wait_log ($self, $regex, $timeout = 30, $from = 0) {
    my $deadline = now() + $timeout;
    my $seen = -1;

    while (1) {
        my $size = $self->log_mark;
        if ($size != $seen) {
            $seen = $size;
            my ($line) = $self->log_lines($regex, $from);
            return $line if defined $line;
        }
        return undef if now() >= $deadline;
        pause(INTERVAL);
    }
}

# Lines that are no failure from now on, for example before a worker is killed.
sub allow_log ($self, $regex) {
    $self->{allow_log} = $self->{allow_log} ? qr/$self->{allow_log}|$regex/ : $regex;
    return;
}

sub check_log ($self) {
    return if $self->{reported};

    my @bad = (
        @{ $self->{problems} // [] },
        map { bad_lines("$self->{dir}/$_", $self->{allow_log}) } qw(error.log stderr.log),
    );
    return if !@bad;

    $self->{reported} = 1;
    splice @bad, 30;
    local $Test::Builder::Level = $Test::Builder::Level + 2;
    Test::More::ok(0, 'nginx has nothing bad in its logs');
    Test::More::diag(@bad);
    return;
}

# --- life

sub _write_config ($self) {
    $self->{text} = write_config(
        $self->{dir},
        $self->{config},
        {
            DIR    => $self->{dir},
            TMPDIR => tmpdir(),
            SOCK   => sub { $self->{uses}{sock} = 1; $self->{sock} },
            PORT   => sub { $self->{uses}{port} = 1; $self->port },
        }
    );
    return;
}

sub _launch ($self) {
    my $dir = $self->{dir};

    $self->{uses} = {};
    $self->_write_config;

    # Removes the files of a killed nginx.
    unlink "$dir/nginx.pid", $self->{text} =~ /\blisten\s+unix:(\/[^\s;]+)/g;

    my $process = Vaani::Test::Process->spawn(
        argv   => [ nginx_argv($dir) ],
        dir    => $dir,
        stdout => "$dir/stderr.log",
        stderr => "$dir/stderr.log",
    );
    $self->{process} = $process;

    my $deadline = now() + $self->{timeout};
    until ($self->_up) {
        my $why = !$process->alive ? 'ended at once'
            : now() > $deadline ? "does not come up within $self->{timeout} s"
            : undef;

        if ($why) {
            $process->kill_group;
            delete $self->{process};
            $self->{reported} = 1;    # the message below says it all
            die "nginx $why:\n" . tail("$dir/stderr.log") . tail("$dir/error.log");
        }
        pause(INTERVAL);
    }

    return;
}

sub _up ($self) {
    return 0 if !-s "$self->{dir}/nginx.pid";

    if (!$self->{config}{single}) {
        return 0 if $self->worker_pids < ($self->{config}{workers} // 1);
    }
    return 0 if $self->{uses}{sock} && !try_connect($self->{sock});
    return 0 if $self->{uses}{port} && !try_connect($self->port);
    return 1;
}

# SIGHUP, with a new configuration when http, main, workers ... are given.
# Returns true when all new workers run and no old one accepts connections any
# more; with wait_old => 1, when the old ones have exited, too. False when
# nginx refuses the configuration and keeps the old one.
sub reload ($self, %opt) {
    my ($timeout, $wait_old) = (delete $opt{timeout} // 30, delete $opt{wait_old});
    die "a single process cannot be watched while it reloads\n" if $self->{config}{single};

    if (%opt) {
        $self->{config} = { %{ $self->{config} }, %opt };
        $self->_write_config;
    }

    my $deadline = now() + $timeout;
    my $workers = $self->{config}{workers} // 1;
    my $mark = $self->log_mark;
    my @old = $self->worker_pids;
    my %old = map { $_ => 1 } @old;

    $self->signal('HUP');

    while (1) {
        my @new = grep { !$old{$_} } $self->worker_pids;
        last if @new >= $workers && !_listening(@old);

        return 0 if $self->log_lines(qr/\[emerg\]/, $mark);
        die "no new workers within $timeout s\n" . tail("$self->{dir}/error.log")
            if now() > $deadline || !$self->alive;
        pause(INTERVAL);
    }

    if ($wait_old) {
        $self->wait_pids_gone(\@old, $deadline - now())
            or die "old workers are still there after $timeout s\n";
    }

    return 1;
}

# Whether one of the processes has a listening socket open.
sub _listening (@pids) {
    my %inodes;

    for (split /^/, slurp('/proc/net/unix')) {
        my @column = split;
        $inodes{ $column[6] } = 1 if ($column[3] // '') eq '00010000';
    }
    for (map { split /^/, slurp("/proc/net/$_") } qw(tcp tcp6)) {
        my @column = split;
        $inodes{ $column[9] } = 1 if ($column[3] // '') eq '0A';
    }

    for my $pid (@pids) {
        opendir my $dh, "/proc/$pid/fd" or next;
        for my $fd (readdir $dh) {
            my $link = readlink("/proc/$pid/fd/$fd") // next;
            return 1 if $link =~ /^socket:\[(\d+)\]$/ && $inodes{$1};
        }
    }

    return 0;
}

# Graceful: SIGQUIT. True when nginx has ended within the timeout, with exit
# status 0; another status is also a failing test.
sub stop ($self, $timeout = 30) {
    my $process = $self->{process} // return 1;

    $self->signal('QUIT');
    delete $self->{process};
    my $ended = $process->wait($timeout);
    $process->kill_group;

    if (!$ended) {
        push @{ $self->{problems} }, "still there $timeout s after SIGQUIT, killed\n";
    } elsif ($process->status != 0) {
        push @{ $self->{problems} }, sprintf "exit status 0x%x after SIGQUIT\n", $process->status;
    }
    $self->check_log;

    return $ended && $process->status == 0 ? 1 : 0;
}

# Like a power cut: SIGKILL to the master and all workers.
sub kill ($self) {
    my $process = delete $self->{process} // return;
    $process->kill_group;
    $self->check_log;
    return;
}

# Starts again, with the same directory, socket and port. Stops it first unless
# it is stopped or killed already. Options as of reload: http, main, workers
# ...
sub restart ($self, %opt) {
    $self->stop;
    $self->{config} = { %{ $self->{config} }, %opt };
    $self->_launch;
    return $self;
}

sub at_end ($self, $failed) {
    return $failed ? $self->kill : $self->stop;
}

sub DESTROY ($self) {
    return if ${^GLOBAL_PHASE} eq 'DESTRUCT' || !in_test_process();
    local ($@, $?, $!);
    $self->stop;
    return;
}

1;
