package Vaani::Test::Socket;

# Sockets with deadlines: connecting, listening, waiting, writing.
#
# A target is "/a/path" (unix socket), a port number on 127.0.0.1, or
# "host:port". Sockets that connect_socket() returns are non-blocking, so that
# no read or write can ever outlast its deadline.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Errno qw(EAGAIN EINPROGRESS EINTR EWOULDBLOCK);
use Exporter 'import';
use Fcntl qw(F_GETFL F_SETFL O_NONBLOCK);
use Socket qw(
    AF_INET AF_UNIX IPPROTO_TCP SOCK_DGRAM SOCK_STREAM SOL_SOCKET SOMAXCONN
    SO_ERROR SO_REUSEADDR TCP_NODELAY
    inet_aton pack_sockaddr_in pack_sockaddr_un
);
use Time::HiRes qw(CLOCK_MONOTONIC clock_gettime);

our @EXPORT_OK = qw(
    now pause try_connect connect_socket listen_socket free_port
    wait_readable wait_writable read_some write_some write_all
);

use constant CHUNK => 256 * 1024;

sub now () { return clock_gettime(CLOCK_MONOTONIC) }

# For the few states that cause no event to wait for (a server's readiness, a
# log's growth). Short, and a signal ends it early.
sub pause ($seconds) { select undef, undef, undef, $seconds; return }

sub _address ($target) {
    return (AF_UNIX, pack_sockaddr_un($target)) if $target =~ m{^/};

    my ($host, $port) = $target =~ /^(?:(.+):)?(\d+)$/
        or die "not a target: '$target' (want /path, port or host:port)\n";
    my $ip = inet_aton($host // '127.0.0.1') // die "unknown host: $host\n";

    return (AF_INET, pack_sockaddr_in($port, $ip));
}

sub _nonblocking ($fh) {
    my $flags = fcntl($fh, F_GETFL, 0) or die "fcntl: $!\n";
    fcntl($fh, F_SETFL, $flags | O_NONBLOCK) or die "fcntl: $!\n";
    return $fh;
}

# One attempt. Returns the socket, or nothing with the reason in $!.
sub try_connect ($target, $timeout = 5) {
    my ($family, $address) = _address($target);
    my $deadline = now() + $timeout;

    while (1) {
        socket(my $fh, $family, SOCK_STREAM, 0) or die "socket: $!\n";
        _nonblocking($fh);

        if ($family == AF_INET) {
            setsockopt($fh, IPPROTO_TCP, TCP_NODELAY, 1);
        }

        return $fh if connect($fh, $address);

        if ($!{EINPROGRESS}) {
            if (!wait_writable($fh, $deadline - now())) {
                $! = Errno::ETIMEDOUT();
                return;
            }

            my $error = unpack 'i', getsockopt($fh, SOL_SOCKET, SO_ERROR);
            return $fh if $error == 0;
            $! = $error;
            return;
        }

        # A unix socket whose backlog is full returns EAGAIN, and select()
        # cannot tell when there is room again.
        return if !$!{EAGAIN} || now() >= $deadline;
        pause(0.001);
    }
}

sub connect_socket ($target, $timeout = 30) {
    return try_connect($target, $timeout) // die "cannot connect to $target: $!\n";
}

sub listen_socket ($target, $backlog = SOMAXCONN) {
    my ($family, $address) = _address($target);

    socket(my $fh, $family, SOCK_STREAM, 0) or die "socket: $!\n";

    if ($family == AF_UNIX) {
        unlink $target;
    } else {
        setsockopt($fh, SOL_SOCKET, SO_REUSEADDR, 1);
    }

    bind($fh, $address) or die "cannot bind to $target: $!\n";
    chmod 0777, $target if $family == AF_UNIX;
    listen($fh, $backlog) or die "cannot listen on $target: $!\n";

    return $fh;
}

# A free TCP port on 127.0.0.1, reserved until the test file ends.
#
# It is below the range from which the kernel takes the ports of outgoing
# connections, so that none of these can use it. The UDP port of the same
# number is held as a lock, so that tests that run in parallel get different
# ports although the TCP port itself must stay free for the server.
#
# With a distance, the port that is so much higher is free and reserved, too,
# as the bus of a Redis Cluster needs it.
my @port_locks;

sub free_port ($distance = 0) {
    for (1 .. 2000) {
        my $port = 10_000 + int rand 22_000 - $distance;
        my @locks = map { _lock_port($_) // () } $distance ? ($port, $port + $distance) : $port;
        next if @locks < ($distance ? 2 : 1);

        push @port_locks, @locks;
        return $port;
    }

    die "no free TCP port on 127.0.0.1\n";
}

sub _lock_port ($port) {
    my $address = pack_sockaddr_in($port, inet_aton('127.0.0.1'));

    socket(my $lock, AF_INET, SOCK_DGRAM, 0) or die "socket: $!\n";
    bind($lock, $address) or return undef;

    socket(my $probe, AF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
    setsockopt($probe, SOL_SOCKET, SO_REUSEADDR, 1);
    bind($probe, $address) or return undef;
    listen($probe, 1) or return undef;

    return $lock;
}

sub _wait ($fh, $timeout, $for_writing) {
    my $deadline = now() + ($timeout > 0 ? $timeout : 0);
    my $bits = '';
    vec($bits, fileno $fh, 1) = 1;

    while (1) {
        my $left = $deadline - now();
        $left = 0 if $left < 0;

        my ($r, $w) = $for_writing ? (undef, $bits) : ($bits, undef);
        my $n = select $r, $w, undef, $left;

        return 1 if $n > 0;
        return 0 if $n == 0;
        die "select: $!\n" if !$!{EINTR};
    }
}

sub wait_readable ($fh, $timeout) { return _wait($fh, $timeout, 0) }
sub wait_writable ($fh, $timeout) { return _wait($fh, $timeout, 1) }

# Appends the available bytes to $$buf. Returns the number of bytes, 0 when the
# peer has closed (or reset the connection, see $!), undef when nothing is
# available.
sub read_some ($fh, $buf) {
    $! = 0;
    my $n = sysread $fh, $$buf, CHUNK, length $$buf;

    return $n if defined $n;
    return undef if $!{EAGAIN} || $!{EWOULDBLOCK} || $!{EINTR};
    return 0;
}

# Writes what fits of $$bytes from $offset. Returns the number of bytes, undef
# when the peer has closed.
sub write_some ($fh, $bytes, $offset) {
    my $n = syswrite $fh, $$bytes, CHUNK, $offset;

    return $n if defined $n;
    return 0 if $!{EAGAIN} || $!{EWOULDBLOCK} || $!{EINTR};
    return undef;
}

sub write_all ($fh, $bytes, $timeout = 30) {
    my $deadline = now() + $timeout;
    my $offset = 0;

    while ($offset < length $bytes) {
        wait_writable($fh, $deadline - now())
            or die "write: timed out after $timeout s\n";
        my $n = write_some($fh, \$bytes, $offset) // die "write: $!\n";
        $offset += $n;
    }

    return;
}

1;
