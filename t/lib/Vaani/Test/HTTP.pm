package Vaani::Test::HTTP;

# A raw HTTP/1.x client with keep-alive, for one connection to a unix socket or
# a port on 127.0.0.1. Nothing is hidden: what is asked for is sent, right or
# wrong. Vaani::Test::HTTP::Load keeps many connections busy.
#
# When the server has closed a kept-alive connection, the client reconnects. If
# that happens at the very moment of a new request (no byte of an answer came),
# the request is sent again on a new connection, once, and the response says so
# in 'retried'; new(retry => 0) makes that an error instead.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use Vaani::Test::HTTP::Load qw(post_many);
use Vaani::Test::HTTP::Request qw(format_request);
use Vaani::Test::HTTP::Response;
use Vaani::Test::Socket qw(
    connect_socket now read_some wait_readable write_all write_some
);

our @EXPORT_OK = qw(post_many format_request);

# sock => path | port => n; timeout (s, for each call), retry.
sub new ($class, %opt) {
    return bless {
        target  => $opt{sock} // $opt{port} // die("sock or port, please\n"),
        timeout => $opt{timeout} // 30,
        retry   => $opt{retry} // 1,
    }, $class;
}

# See Vaani::Test::HTTP::Request for the options of a request; here also
# expect_continue => 1 (the body waits for the 100) and timeout.
sub request ($self, %req) {
    my ($response) = $self->_send_and_read([ \%req ], $req{timeout});
    return $response;
}

# A header whose value is undef is left out: 'Content-Type' => undef.
sub post ($self, $uri, $body, %headers) {
    my %given = map { lc($_) => 1 } keys %headers;

    return $self->request(
        method  => 'POST',
        uri     => $uri,
        body    => $body,
        headers => [
            $given{'content-type'} ? () : ('Content-Type' => 'application/json'),
            map { $_ => $headers{$_} } sort keys %headers,
        ],
    );
}

sub get ($self, $uri, %headers) {
    return $self->request(method => 'GET', uri => $uri, headers => \%headers);
}

# Requests (hash refs) in one go, and the responses in order; fewer when the
# server ends the connection with one of them.
sub pipelined ($self, @requests) {
    return $self->_send_and_read(\@requests, undef);
}

sub _send_and_read ($self, $requests, $timeout) {
    $timeout //= $self->{timeout};

    for my $attempt (1, 2) {
        my $reused = $self->_connect($timeout);
        my $responses = $self->_exchange($requests, $timeout);

        if (!@$responses) {
            next if $reused && $attempt == 1 && $self->{retry};
            die "$self->{target} closed the connection without an answer\n";
        }

        $_->{retried} = $attempt - 1 for @$responses;
        return @$responses;
    }
}

# Sends while it reads: the answer may come before the whole request is sent,
# as with a body that is too big, and both sides must not wait for each other.
# Returns the responses; none when the connection ended before the first byte.
sub _exchange ($self, $requests, $timeout) {
    my $deadline = now() + $timeout;
    my ($fh, $parser) = @$self{qw(fh parser)};

    my $out = '';
    my $withheld;
    for my $req (@$requests) {
        my ($head, $body) = format_request(%$req);
        $out .= $head;
        if ($req->{expect_continue}) {
            die "expect_continue cannot be pipelined\n" if @$requests > 1;
            $withheld = $body;
        } else {
            $out .= $body;
        }
    }

    my ($offset, $eof) = (0, 0);
    my @responses;

    while (1) {
        while (@responses < @$requests) {
            my $method = $requests->[@responses]{method} // '';
            my $response = eval { $parser->next_response($method, $eof) };
            die $self->_broken($@) if $@;
            last if !$response;
            push @responses, $response;
        }

        if (defined $withheld && grep { $_->{status} == 100 } @{ $parser->interim }) {
            $out .= $withheld;
            undef $withheld;
        }

        last if $eof;
        last if @responses && !$responses[-1]{keepalive};
        if (@responses == @$requests) {
            # Otherwise the following bytes would be taken for the body.
            $responses[-1]{keepalive} = 0 if defined $withheld;
            last if $offset == length $out || defined $withheld;
        }

        my $bits = '';
        vec($bits, fileno $fh, 1) = 1;
        my ($r, $w) = ($bits, $offset < length $out ? $bits : undef);
        my $left = $deadline - now();
        die $self->_broken("no answer within $timeout s\n") if $left <= 0;
        my $n = select $r, $w, undef, $left;
        next if $n <= 0;

        if (defined $w && vec $w, fileno $fh, 1) {
            # The server does not have to read all of it. Its answer may still
            # arrive.
            $offset += write_some($fh, \$out, $offset) // length($out) - $offset;
        }

        if (vec $r, fileno $fh, 1) {
            my $got = read_some($fh, $parser->buffer);
            $eof = 1 if defined $got && $got == 0;
        }
    }

    if ($eof || !$responses[-1]{keepalive}) {
        $_->{keepalive} = 0 for @responses ? $responses[-1] : ();
        $self->close;
    }

    return \@responses;
}

# Any bytes, on the open connection or a new one.
sub send_raw ($self, $bytes, $timeout = $self->{timeout}) {
    $self->_connect($timeout);
    write_all($self->{fh}, $bytes, $timeout);
    return;
}

# The next answer after send_raw; undef when the server closes before its first
# byte. Dies when nothing comes in time.
sub read_response ($self, $timeout = $self->{timeout}, $method = 'POST') {
    my $deadline = now() + $timeout;
    my $fh = $self->{fh} // die "not connected\n";
    my $eof = 0;

    while (1) {
        my $response = eval { $self->{parser}->next_response($method, $eof) };
        die $self->_broken($@) if $@;

        if ($response) {
            $response->{keepalive} = 0 if $eof;
            $response->{retried} = 0;
            $self->close if !$response->{keepalive};
            return $response;
        }
        if ($eof) {
            $self->close;
            return undef;
        }

        wait_readable($fh, $deadline - now())
            or die $self->_broken("no answer within $timeout s\n");
        my $got = read_some($fh, $self->{parser}->buffer);
        $eof = 1 if defined $got && $got == 0;
    }
}

# All bytes until the server closes, unparsed (HTTP/0.9, garbage).
sub read_raw ($self, $timeout = $self->{timeout}) {
    my $deadline = now() + $timeout;
    my $fh = $self->{fh} // die "not connected\n";
    my $buf = $self->{parser}->buffer;

    while (1) {
        wait_readable($fh, $deadline - now())
            or die $self->_broken("still open after $timeout s\n");
        my $got = read_some($fh, $buf);
        last if defined $got && $got == 0;
    }

    my $bytes = $$buf;
    $self->close;
    return $bytes;
}

# True when the server has closed the connection, within the timeout. Bytes
# that come meanwhile are kept for read_response.
sub wait_closed ($self, $timeout = $self->{timeout}) {
    my $deadline = now() + $timeout;
    my $fh = $self->{fh} // return 1;

    while (wait_readable($fh, $deadline - now())) {
        my $got = read_some($fh, $self->{parser}->buffer);
        return 1 if defined $got && $got == 0;
    }
    return 0;
}

# Connected without sending anything, for tests of idle connections.
sub connect ($self, $timeout = $self->{timeout}) {
    $self->_connect($timeout);
    return $self;
}

sub handle ($self) { return $self->{fh} }

# Half-close: the server sees the end of what we send, we still read.
sub shutdown_write ($self) {
    shutdown $self->{fh}, 1 if $self->{fh};
    return;
}

sub close ($self) {
    CORE::close(delete $self->{fh}) if $self->{fh};
    return;
}

# True when the connection was there already.
sub _connect ($self, $timeout) {
    if ($self->{fh} && !$self->_still_open) {
        $self->close;
    }
    return 1 if $self->{fh};

    $self->{fh} = connect_socket($self->{target}, $timeout);
    $self->{parser} = Vaani::Test::HTTP::Parser->new;
    return 0;
}

sub _still_open ($self) {
    return 1 if !wait_readable($self->{fh}, 0);
    my $got = read_some($self->{fh}, $self->{parser}->buffer);
    return !(defined $got && $got == 0);
}

sub _broken ($self, $why) {
    $self->close;
    return "$self->{target}: $why";
}

1;
