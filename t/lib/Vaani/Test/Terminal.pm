package Vaani::Test::Terminal;

# A program in a terminal of its own (Linux): what it draws, keys, another size.
#
#   my $terminal = Vaani::Test::Terminal->start(argv => [...], rows => 24, columns => 80);
#   ok $terminal->frame(qr/3 active/);          # as drawn between "\e[H" and "\e[J"
#   $terminal->type("q");
#   is $terminal->exit_status, 0;
#   ok $terminal->is_restored;

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Fcntl qw(O_NOCTTY O_RDWR);
use POSIX ();
use Vaani::Test::Process ();
use Vaani::Test::Socket qw(now wait_readable);

use constant { TIOCSPTLCK => 0x40045431, TIOCGPTN => 0x80045430, TIOCSWINSZ => 0x5414, TIOCSCTTY => 0x540e };

# Options: argv; rows, columns (default 24, 80); env => { name => value }.
sub start ($class, %opt) {
    sysopen my $master, '/dev/ptmx', O_RDWR | O_NOCTTY or die "/dev/ptmx: $!\n";
    my ($unlock, $number) = (pack('i', 0), pack('i', 0));
    ioctl($master, TIOCSPTLCK, $unlock) && ioctl($master, TIOCGPTN, $number) or die "ioctl: $!\n";
    my $path = '/dev/pts/' . unpack 'i', $number;
    pipe(my $pid_r, my $pid_w) or die "pipe: $!\n";

    my $self = bless { master => $master, output => '', at => 0 }, $class;
    $self->resize($opt{rows} // 24, $opt{columns} // 80);
    # Before the program starts, so that only this test has it open.
    sysopen my $slave, $path, O_RDWR | O_NOCTTY or die "$path: $!\n";
    $self->{slave} = $slave;
    $self->{modes} = $self->_modes;

    # A session of its own needs a process that leads no group.
    $self->{process} = Vaani::Test::Process->spawn_code(sub {
        close $_ for $master, $slave, $pid_r;
        my $pid = fork // die "fork: $!\n";
        if (!$pid) {
            POSIX::setsid();
            sysopen my $tty, $path, O_RDWR or POSIX::_exit(126);
            my $none = 0;
            ioctl $tty, TIOCSCTTY, $none;
            POSIX::dup2(fileno $tty, $_) for 0 .. 2;
            %ENV = (%ENV, TERM => 'xterm', %{ $opt{env} // {} });
            { no warnings 'exec'; exec { $opt{argv}[0] } @{ $opt{argv} } }
            POSIX::_exit(127);
        }
        syswrite $pid_w, "$pid\n";
        close $pid_w;
        waitpid $pid, 0;
        return $? & 127 ? 128 + ($? & 127) : $? >> 8;
    });
    close $pid_w;
    $self->{pid} = int readline $pid_r;
    return $self;
}

sub pid ($self) { return $self->{pid} }

sub resize ($self, $rows, $columns) {
    my $size = pack 'S4', $rows, $columns, 0, 0;
    ioctl $self->{master}, TIOCSWINSZ, $size or die "ioctl: $!\n";
    return;
}

sub type ($self, $text) {
    syswrite $self->{master}, $text;
    return;
}

sub output ($self) { return $self->{output} }

# The next frame that matches, as lines, or nothing after that time.
sub frame ($self, $regex, $timeout = 30) {
    my $deadline = now() + $timeout;

    while (1) {
        while ($self->{output} =~ /\G.*?\e\[H((?:(?!\e\[H).)*?)\e\[J/gsc) {
            my $frame = $1 =~ s/\e\[K//gr =~ s/\r//gr;
            return $frame if $frame =~ $regex;
        }
        return undef if now() >= $deadline || !$self->_read($deadline - now());
    }
}

# Until the output has it, after what was seen before.
sub saw ($self, $regex, $timeout = 30) {
    my $deadline = now() + $timeout;
    my $from = pos $self->{output} // 0;

    while (1) {
        pos($self->{output}) = $from;
        return 1 if $self->{output} =~ /\G.*?$regex/gs;
        pos($self->{output}) = $from;
        return 0 if now() >= $deadline || !$self->_read($deadline - now());
    }
}

# More output; false at its end.
sub _read ($self, $timeout) {
    my $position = pos $self->{output};
    return 1 if !wait_readable($self->{master}, $timeout);
    my $n = sysread $self->{master}, $self->{output}, 65536, length $self->{output};
    pos($self->{output}) = $position;
    return $n ? 1 : 0;
}

# Of the program, once it has ended; undef if it does not.
sub exit_status ($self, $timeout = 30) {
    my $deadline = now() + $timeout;
    until ($self->{process}->wait(0.02)) {
        return undef if now() >= $deadline;
        $self->_read(0) if wait_readable($self->{master}, 0);
    }
    while (wait_readable($self->{master}, 0)) {
        last if !$self->_read(0);
    }
    return $self->{process}->status >> 8;
}

sub _modes ($self) {
    my $termios = POSIX::Termios->new;
    $termios->getattr(fileno $self->{slave}) or die "tcgetattr: $!\n";
    return join ' ', map { $termios->$_ } qw(getiflag getoflag getcflag getlflag);
}

# The modes are those of before, the cursor is visible, and the other screen left.
sub is_restored ($self) {
    return 0 if $self->_modes ne $self->{modes};
    my ($last) = $self->{output} =~ /.*\e\[\?1049([hl])/s;
    my ($cursor) = $self->{output} =~ /.*\e\[\?25([hl])/s;
    return ($last // 'l') eq 'l' && ($cursor // 'h') eq 'h' ? 1 : 0;
}

sub is_raw ($self) { return $self->_modes ne $self->{modes} ? 1 : 0 }

1;
