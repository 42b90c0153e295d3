package Vaani::Test::Faults::Client;

# The process that sends the load of Vaani::Test::Faults, which starts it.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Fcntl qw(F_GETFL F_SETFL O_NONBLOCK);
use Vaani::Test::Events qw(call_paths);
use Vaani::Test::HTTP::Request qw(format_request);
use Vaani::Test::HTTP::Response;
use Vaani::Test::Socket qw(now read_some try_connect write_some);

# The maximum number of requests per connection, because workers come and go.
use constant REQUESTS => 40;

# How long to wait while no process listens, s.
use constant REST => 0.01;

sub new ($class, $load, $control, $journal) {
    my %paths = call_paths('@ROOM@');

    my $self = bless {
        %$load{qw(target uri connections calls rate ids resend timeout rooms)},
        control => $control,
        journal => $journal,
        lines   => '',
        paths   => [ @paths{ sort keys %paths } ],
        made    => 0,       # calls
        ready   => [],      # calls whose next event may go
        idle    => [],
        busy    => {},      # fd => connection
        stopped => 0,
        rest    => 0,       # nobody listens, until then
    }, $class;

    push @{ $self->{ready} }, $self->_new_call for 1 .. $self->{calls};
    return $self;
}

sub _new_call ($self) {
    my $n = ++$self->{made};
    return {
        room => "$self->{rooms}-$n",
        path => $self->{paths}[ $n % @{ $self->{paths} } ],
        n    => 0,
    };
}

# The next event to send for a call.
sub _next_delivery ($self, $call) {
    my $n = ++$call->{n};
    my $id = "$call->{room}/$n";
    my $body = $call->{path}[ $n - 1 ] =~ s/\@ROOM\@/$call->{room}/r;
    my ($event) = $body =~ /"event":"(\w+)"/;
    $body =~ s/\}\z/,"delivery":"$id"}/;

    my ($head, $bytes) = format_request(
        method  => 'POST',
        uri     => $self->{uri},
        body    => $body,
        headers => [
            'Content-Type' => 'application/json',
            $self->{ids} ? ('webhook-id' => "msg_$id") : (),
        ],
    );

    return {
        id => $id, event => $event, n => $n, call => $call, out => "$head$bytes", tries => 0,
    };
}

sub run ($self) {
    my $began = now();
    my $sent = 0;
    my $deadline;

    while (1) {
        my $now = now();
        $deadline //= $now + $self->{timeout} if $self->{stopped};
        last if $self->{stopped} && (!%{ $self->{busy} } || $now > $deadline + 1);

        # At most the requested rate, without catching up after a pause.
        my $may = 1e9;
        if ($self->{rate}) {
            $may = int(($now - $began) * $self->{rate}) - $sent;
            if ($may > 50) {
                $began = $now;
                $sent = 0;
                $may = 50;
            }
        }

        while (!$self->{stopped} && $may > 0 && @{ $self->{ready} }
            && keys %{ $self->{busy} } < $self->{connections} && $now >= $self->{rest})
        {
            $self->_send or last;
            $sent++;
            $may--;
        }

        $self->_turn;
        $self->_write_journal;
    }

    $self->_end($_, 'none') for values %{ $self->{busy} };
    $self->_write_journal;
    return;
}

# Sends an event of the call that waits for the longest time. False when no
# process listens.
sub _send ($self) {
    my $conn = $self->_connection // return 0;
    my $waiting = shift @{ $self->{ready} };

    my $delivery = delete $waiting->{again} // $self->_next_delivery($waiting);
    $delivery->{tries}++;
    $delivery->{sent} = now();

    @$conn{qw(delivery offset)} = ($delivery, 0);
    $conn->{requests}++;
    $self->{busy}{ fileno $conn->{fh} } = $conn;
    return 1;
}

sub _connection ($self) {
    my $idle = $self->{idle};

    while (my $conn = shift @$idle) {
        my $bits = '';
        vec($bits, fileno $conn->{fh}, 1) = 1;
        return $conn if $conn->{requests} < $conn->{most} && !select $bits, undef, undef, 0;
        close $conn->{fh};
    }

    my $fh = eval { try_connect($self->{target}, 0) };
    if (!$fh) {
        $self->{rest} = now() + REST;
        return;
    }
    return {
        fh => $fh, parser => Vaani::Test::HTTP::Parser->new,
        requests => 0, most => 1 + int rand REQUESTS,
    };
}

# Waits for an event, and handles it.
sub _turn ($self) {
    my ($r, $w) = ('', '');
    for my $conn (values %{ $self->{busy} }) {
        my $fd = fileno $conn->{fh};
        vec($r, $fd, 1) = 1;
        vec($w, $fd, 1) = 1 if $conn->{offset} < length $conn->{delivery}{out};
    }
    vec($r, fileno $self->{control}, 1) = 1 if !$self->{stopped};

    my $n = select $r, $w, undef, 0.005;
    my $now = now();

    if ($n > 0 && !$self->{stopped} && vec $r, fileno $self->{control}, 1) {
        $self->{stopped} = 1;
    }

    for my $conn (values %{ $self->{busy} }) {
        my $fd = fileno $conn->{fh};

        if ($n > 0 && vec $w, $fd, 1) {
            my $out = \$conn->{delivery}{out};
            $conn->{offset} += write_some($conn->{fh}, $out, $conn->{offset})
                // length($$out) - $conn->{offset};
        }
        if ($n > 0 && vec $r, $fd, 1) {
            $self->_read($conn);
        } elsif ($now - $conn->{delivery}{sent} > $self->{timeout}) {
            $self->_end($conn, 'none');
        }
    }

    return;
}

sub _read ($self, $conn) {
    my $got = read_some($conn->{fh}, $conn->{parser}->buffer) // return;
    my $eof = $got == 0;
    my $response = eval { $conn->{parser}->next_response('POST', $eof) };

    if (!$response) {
        return if !$eof && $@ eq '';
        $self->_broken($conn);
        return;
    }

    my $status = $response->{status};
    if ($status == 200) {
        ($status) = $response->{body} =~ /^\{"status":"(\w+)"\}\n\z/;
        $status //= '200';
    } elsif ($status == 503 && !$response->{headers}{'retry-after'}) {
        $status = '503-without-retry-after';
    }

    my $keep = $response->{keepalive} && !$eof
        && $conn->{offset} == length $conn->{delivery}{out};
    $self->_end($conn, $status, $keep);
    return;
}

# Without an answer, the state of the delivery is unknown. With an id it may be
# sent again.
sub _broken ($self, $conn) {
    my $delivery = $conn->{delivery};

    if ($self->{resend} && $delivery->{tries} < 2 && !$self->{stopped}) {
        delete $self->{busy}{ fileno $conn->{fh} };
        close $conn->{fh};
        $delivery->{call}{again} = $delivery;
        unshift @{ $self->{ready} }, $delivery->{call};
        return;
    }

    $self->_end($conn, 'none');
    return;
}

sub _end ($self, $conn, $status, $keep = 0) {
    my $delivery = $conn->{delivery};
    my $call = $delivery->{call};
    my $now = now();

    delete $self->{busy}{ fileno $conn->{fh} };
    if ($keep) {
        push @{ $self->{idle} }, $conn;
    } else {
        close $conn->{fh};
    }

    $self->{lines} .= join("\t",
        $delivery->{id}, $call->{room}, $delivery->{event}, $delivery->{n},
        (map { sprintf '%.6f', $_ } $delivery->{sent}, $now),
        $status, sprintf('%.1f', 1000 * ($now - $delivery->{sent})), $delivery->{tries},
    ) . "\n";

    # Returns to the queue, or another call takes its place.
    push @{ $self->{ready} }, $call->{n} < @{ $call->{path} } ? $call : $self->_new_call;
    return;
}

sub _write_journal ($self) {
    return if $self->{lines} eq '';
    my $n = syswrite $self->{journal}, $self->{lines};
    die "the journal of the load: $!\n" if !defined $n || $n != length $self->{lines};
    $self->{lines} = '';
    return;
}

1;
