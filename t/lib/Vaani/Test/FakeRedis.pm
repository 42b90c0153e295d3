package Vaani::Test::FakeRedis;

# A server that misbehaves as the test wants: silent, slow, talking garbage, or
# in between nginx and a real Redis. Each connection is handled by a process of
# its own.
#
#   my $fake = Vaani::Test::FakeRedis->start(on_connect => sub {
#       my ($sock, $fake, $n) = @_;             # $n: 1, 2, 3 ...
#       while (my $command = read_command($sock)) {
#           $fake->report("@$command");         # to the test
#           send_bytes($sock, "-LOADING wait\r\n");
#       }
#   });
#   is $fake->next_report, 'PING';

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use POSIX ();
use Vaani::Test::Dir qw(tmpdir);
use Vaani::Test::Process qw(in_test_process register_service);
use Vaani::Test::Socket qw(
    connect_socket free_port listen_socket now read_some wait_readable write_all
);

our @EXPORT = qw(read_command send_bytes relay);

my $count = 0;

# Options: on_connect; tcp => 1 (a free port; port => n chooses it), socket =>
# path, serial => 1 (one connection after the other in one process: variables
# of the script keep their values). The script's end closes the connection.
sub start ($class, %opt) {
    my $script = $opt{on_connect} // die "on_connect, please\n";
    my $port = $opt{port} // ($opt{tcp} ? free_port() : undef);
    my $socket = defined $port ? undef : $opt{socket} // tmpdir() . '/fake' . ++$count . '.sock';

    my $listener = listen_socket($port // $socket);
    pipe(my $report_r, my $report_w) or die "pipe: $!\n";

    my $self = bless {
        socket  => $socket,
        port    => $port,
        reports => $report_r,
        buf     => '',
    }, $class;
    register_service($self);

    $self->{process} = Vaani::Test::Process->spawn_code(
        sub {
            close $report_r;
            $self->{report_to} = $report_w;
            $self->_serve($listener, $script, $opt{serial});
        },
        keep => [$listener],
    );

    return $self;
}

sub socket ($self) { return $self->{socket} }
sub port ($self)   { return $self->{port} }
sub pid ($self)    { return $self->{process} && $self->{process}->pid }

sub url ($self) {
    return defined $self->{port} ? "redis://127.0.0.1:$self->{port}" : "unix:$self->{socket}";
}

# Closes the listening socket and all connections.
sub stop ($self) {
    my $process = delete $self->{process} // return;
    $process->kill_group;
    unlink $self->{socket} if defined $self->{socket};
    return;
}

# In the script: sends a line to the test. Whole lines, also from several
# processes.
sub report ($self, $text) {
    syswrite $self->{report_to}, $text =~ s/\n/\\n/gr . "\n";
    return;
}

# In the test: the next such line; undef when none arrives in time.
sub next_report ($self, $timeout = 10) {
    my $deadline = now() + $timeout;

    while (1) {
        return $1 if $self->{buf} =~ s/^([^\n]*)\n//;
        wait_readable($self->{reports}, $deadline - now()) or return undef;
        sysread $self->{reports}, $self->{buf}, 65536, length $self->{buf} or return undef;
    }
}

sub _serve ($self, $listener, $script, $serial) {
    $SIG{CHLD} = 'IGNORE';    # the kernel reaps

    for (my $n = 1;; $n++) {
        accept(my $sock, $listener) or redo;

        if ($serial) {
            $self->_handle($script, $sock, $n);
            close $sock;
            next;
        }

        defined(my $pid = fork) or die "fork: $!\n";
        if ($pid == 0) {
            close $listener;
            $SIG{CHLD} = 'DEFAULT';
            $self->_handle($script, $sock, $n);
            close $sock;
            POSIX::_exit(0);
        }
        close $sock;
    }
}

sub _handle ($self, $script, $sock, $n) {
    forget_input($sock);
    eval { $script->($sock, $self, $n); 1 } or syswrite STDERR, "# FakeRedis: $@";
    return;
}

# --- for scripts

my %input;    # what was read ahead, for each descriptor

sub forget_input ($sock) { delete $input{ fileno $sock }; return }

# The next command as an array ref; undef when the peer has closed.
sub read_command ($sock) {
    my $buf = \($input{ fileno $sock } //= '');
    my $line = _line($sock, $buf) // return undef;

    return [ split ' ', $line ] if $line !~ /^\*(\d+)$/;    # an inline command

    my @arguments;
    for (1 .. $1) {
        my $head = _line($sock, $buf) // return undef;
        my ($length) = $head =~ /^\$(\d+)$/ or die "not a bulk string: $head\n";

        while (length $$buf < $length + 2) {
            sysread $sock, $$buf, 65536, length $$buf or return undef;
        }
        push @arguments, substr $$buf, 0, $length;
        substr $$buf, 0, $length + 2, '';
    }

    return \@arguments;
}

sub _line ($sock, $buf) {
    my $end;
    until (($end = index $$buf, "\r\n") >= 0) {
        sysread $sock, $$buf, 65536, length $$buf or return undef;
    }
    my $line = substr $$buf, 0, $end;
    substr $$buf, 0, $end + 2, '';
    return $line;
}

# False when the peer has closed.
sub send_bytes ($sock, $bytes) { return eval { write_all($sock, $bytes); 1 } ? 1 : 0 }

# Passes bytes between $sock and a real server until one side closes. Options
# up (towards the server) and down: sub ($bytes) that returns the bytes to pass
# on, or undef to cut both connections.
sub relay ($sock, $target, %opt) {
    my $server = connect_socket($target);
    my %to = (fileno($sock) => $server, fileno($server) => $sock);
    my %filter = (fileno($sock) => $opt{up}, fileno($server) => $opt{down});

    # The bytes that read_command read in excess.
    my %ahead = (fileno($sock) => delete $input{ fileno $sock } // '');

    while (1) {
        for my $from ($sock, $server) {
            my $fd = fileno $from;
            my $bytes = delete $ahead{$fd} // '';

            if ($bytes eq '') {
                next if !wait_readable($from, 0);
                my $got = read_some($from, \$bytes);
                return if defined $got && $got == 0;
                next if !$got;
            }
            $bytes = $filter{$fd}->($bytes) // return if $filter{$fd};
            send_bytes($to{$fd}, $bytes) or return;
        }

        my $bits = '';
        vec($bits, $_, 1) = 1 for keys %to;
        select $bits, undef, undef, undef;
    }
}

sub at_end ($self, $failed) {
    $self->stop;
    return;
}

sub DESTROY ($self) {
    return if ${^GLOBAL_PHASE} eq 'DESTRUCT' || !in_test_process();
    local ($@, $?, $!);
    $self->stop;
    return;
}

1;
