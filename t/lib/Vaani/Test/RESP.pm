package Vaani::Test::RESP;

# A small Redis client. Arguments and replies are bytes.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use Vaani::Test::Socket qw(
    connect_socket now pause read_some wait_readable write_all write_some
);

our @EXPORT_OK = qw(encode_command);

# How much of a pipeline is encoded ahead of the writing.
use constant OUT_AHEAD => 256 * 1024;

# How much parsed input is kept before it is cut off: cutting costs a copy.
use constant CUT_AT => 1024 * 1024;

# $target: /path of a unix socket, a port on 127.0.0.1, or host:port.
# Options: timeout (s, for each call), password, user, db, patient (repeats
# what is answered by LOADING, or lost with the connection).
sub connect ($class, $target, %opt) {
    my $self = bless {
        target  => $target,
        patient => $opt{patient},
        options => {%opt},
        timeout => $opt{timeout} // 30,
        fh      => connect_socket($target, $opt{timeout} // 30),
        buf     => '',
        pos     => 0,
        stack   => [],    # unfinished arrays: [ items, number missing ]
        pushed  => [],    # messages that came while we waited for a reply
    }, $class;

    if (defined $opt{password}) {
        $self->cmd('AUTH', $opt{user} // (), $opt{password});
    }
    $self->cmd('SELECT', $opt{db}) if $opt{db};

    return $self;
}

sub encode_command (@args) {
    my $bytes = '*' . @args . "\r\n";

    for my $arg (@args) {
        my $copy = $arg;
        utf8::downgrade($copy, 1) or die "wide character in a command: give bytes\n";
        $bytes .= '$' . length($copy) . "\r\n$copy\r\n";
    }

    return $bytes;
}

# One command; its reply decoded: string, integer, array ref, undef for a null.
# Dies with the message of an error reply.
sub cmd ($self, @args) {
    my ($reply) = $self->_answer(\@args);

    # Redis sends no event when it has read its data set.
    my $deadline = now() + $self->{timeout};
    while ($self->{patient} && ref $reply eq 'Vaani::Test::RESP::Error' && $reply->{message} =~ /^LOADING/ && now() < $deadline) {
        pause(0.02);
        ($reply) = $self->pipeline([@args]);
    }
    die "$reply->{message}\n" if ref $reply eq 'Vaani::Test::RESP::Error';
    return $reply;
}

# Sentinels kill the connections of servers whose role they change.
sub _answer ($self, $args) {
    my ($reply) = eval { $self->pipeline([@$args]) };
    return $reply if !$@;
    die $@ if !$self->{patient} || $@ !~ /\blost\b/;

    %$self = %{ (ref $self)->connect($self->{target}, %{ $self->{options} }) };
    return ($self->pipeline([@$args]))[0];
}

# ($reply, undef) or (undef, $error), also when the connection is lost.
sub try_cmd ($self, @args) {
    my $reply;
    return ($reply, undef) if eval { $reply = $self->cmd(@args); 1 };
    chomp(my $error = $@);
    return (undef, $error);
}

# Many commands at once; the list of replies, errors as Error objects. Reads
# while it writes: otherwise both sides could wait for room forever.
sub pipeline ($self, @commands) {
    my $fh = $self->_fh;
    my $deadline = now() + $self->{timeout};
    my ($out, $offset, $next) = ('', 0, 0);
    my @replies;

    while (@replies < @commands) {
        while ($next < @commands && length($out) - $offset < OUT_AHEAD) {
            if ($offset > OUT_AHEAD) {
                substr $out, 0, $offset, '';
                $offset = 0;
            }
            $out .= encode_command(@{ $commands[ $next++ ] });
        }

        my $bits = '';
        vec($bits, fileno $fh, 1) = 1;
        my ($r, $w) = ($bits, $offset < length $out ? $bits : undef);
        my $n = select $r, $w, undef, $self->_left($deadline, 'a reply');
        next if $n <= 0;

        if (defined $w && vec $w, fileno $fh, 1) {
            # When Redis has closed, it may have sent the reason: continue to
            # read.
            $offset += write_some($fh, \$out, $offset) // length($out) - $offset;
        }

        if (vec $r, fileno $fh, 1) {
            $self->_fill;
            my $reply;
            while (@replies < @commands && $self->_parse(\$reply)) {
                push @replies, $reply;
            }
        }

        # While data moves, a big pipeline may take its time.
        $deadline = now() + $self->{timeout};
    }

    return @replies;
}

# Sends a command whose reply is ignored, or taken by replies().
sub send ($self, @args) {
    write_all($self->_fh, encode_command(@args), $self->{timeout});
    return;
}

# Sends many of them at once.
sub send_all ($self, @commands) {
    write_all($self->_fh, join('', map { encode_command(@$_) } @commands), $self->{timeout});
    return;
}

# The replies, none of them a null, to so many commands that were sent.
sub replies ($self, $n) {
    my $deadline = now() + $self->{timeout};
    return map { $self->_read($deadline) // $self->_left(0, 'a reply') } 1 .. $n;
}

sub hgetall ($self, $key) { return { @{ $self->cmd('HGETALL', $key) } } }

sub subscribe ($self, @channels)  { return $self->_subscribe('SUBSCRIBE',  @channels) }
sub ssubscribe ($self, @channels) { return $self->_subscribe('SSUBSCRIBE', @channels) }
sub psubscribe ($self, @patterns) { return $self->_subscribe('PSUBSCRIBE', @patterns) }

# Returns only when Redis has confirmed every one of them: no later publication
# is missed.
sub _subscribe ($self, $command, @names) {
    my $deadline = now() + $self->{timeout};
    my $bytes = encode_command($command, @names);

    write_all($self->_fh, $bytes, $self->{timeout});

    for (my $confirmed = 0; $confirmed < @names;) {
        my $reply = $self->_read($deadline) // $self->_left(0, 'a confirmation');
        die "$reply->{message}\n" if ref $reply eq 'Vaani::Test::RESP::Error';

        if ($reply->[0] eq lc $command) {
            $confirmed++;
        } else {
            push @{ $self->{pushed} }, $reply;
        }
    }

    return $self;
}

# The next publication as { channel, payload [, pattern] }; undef when none
# comes in time. Dies when the connection is lost.
sub next_message ($self, $timeout = 5) {
    my $deadline = now() + $timeout;

    while (defined(my $reply = shift @{ $self->{pushed} } // $self->_read($deadline))) {
        next if ref $reply ne 'ARRAY';
        my ($kind, @rest) = @$reply;

        return { channel => $rest[0], payload => $rest[1] } if $kind eq 'message' || $kind eq 'smessage';
        return { pattern => $rest[0], channel => $rest[1], payload => $rest[2] }
            if $kind eq 'pmessage';
    }

    return undef;
}

# Up to $count messages; fewer when the time is over.
sub next_messages ($self, $count, $timeout = 5) {
    my $deadline = now() + $timeout;
    my @messages;

    while (@messages < $count) {
        my $left = $deadline - now();
        push @messages, $self->next_message($left > 0 ? $left : 0) // last;
    }

    return @messages;
}

# What was published up to now, [ channel, payload ] each: $client marks the end.
# What a delivery publishes is there before its answer is.
sub published ($self, $client, $timeout = 5) {
    my $mark = 'end';
    my @published;

    $client->cmd('PUBLISH', $mark, '');
    while (my $message = $self->next_message($timeout)) {
        return @published if $message->{channel} eq $mark;
        push @published, [ @$message{qw(channel payload)} ];
    }
    die "no end of the messages\n";
}

sub close ($self) {
    CORE::close(delete $self->{fh}) if $self->{fh};
    return;
}

sub _fh ($self) { return $self->{fh} // die "connection to $self->{target} is closed\n" }

sub _left ($self, $deadline, $what) {
    my $left = $deadline - now();
    return $left if $left > 0;

    # A late reply would be taken for that of the next command.
    $self->close;
    die "timed out after $self->{timeout} s waiting for $what from $self->{target}\n";
}

sub _lost ($self, $why) {
    $self->close;
    die "connection to $self->{target} lost" . ($why ne '' ? ": $why" : '') . "\n";
}

sub _fill ($self) {
    my $n = read_some($self->_fh, \$self->{buf});
    $self->_lost("$!") if defined $n && $n == 0;
    return;
}

# The next reply, undef at the deadline. (A null reply does not occur where
# this is used: in subscriptions.)
sub _read ($self, $deadline) {
    while (1) {
        my $reply;
        return $reply if $self->_parse(\$reply);
        wait_readable($self->_fh, $deadline - now()) or return undef;
        $self->_fill;
    }
}

# Takes one reply from the buffer: true when there was a complete one.
# Incomplete arrays wait on the stack, so that nothing is parsed twice.
sub _parse ($self, $reply) {
    my $buf = \$self->{buf};
    my $stack = $self->{stack};

    while (1) {
        my $pos = $self->{pos};
        my $eol = index $$buf, "\r\n", $pos;

        if ($eol < 0) {
            $self->_cut if $pos == length $$buf || $pos > CUT_AT;
            return 0;
        }

        my $type = substr $$buf, $pos, 1;
        my $value = substr $$buf, $pos + 1, $eol - $pos - 1;
        my $end = $eol + 2;

        if ($type eq '$' || $type eq '=') {
            if ($value < 0) {
                undef $value;
            } else {
                if (length($$buf) < $end + $value + 2) {
                    $self->_cut if $pos > CUT_AT;
                    return 0;
                }
                ($value, $end) = (substr($$buf, $end, $value), $end + $value + 2);
            }
        } elsif ($type eq '*' || $type eq '~' || $type eq '>' || $type eq '%') {
            my $n = $type eq '%' ? 2 * $value : $value;    # a RESP3 map: flat pairs
            if ($n > 0) {
                push @$stack, [ [], $n ];
                $self->{pos} = $end;
                next;
            }
            $value = $n < 0 ? undef : [];
        } elsif ($type eq ':' || $type eq ',' || $type eq '(') {
            $value += 0 if $type eq ':';
        } elsif ($type eq '-') {
            $value = bless { message => $value }, 'Vaani::Test::RESP::Error';
        } elsif ($type eq '_') {
            undef $value;
        } elsif ($type eq '#') {
            $value = $value eq 't' ? 1 : 0;
        } elsif ($type ne '+') {
            $self->_lost(sprintf 'not a reply: "%.40s"', substr $$buf, $pos);
        }

        $self->{pos} = $end;

        # A complete value may complete the arrays around it.
        while (@$stack) {
            my $top = $stack->[-1];
            push @{ $top->[0] }, $value;
            last if --$top->[1] > 0;
            $value = $top->[0];
            pop @$stack;
        }
        next if @$stack;

        $$reply = $value;
        return 1;
    }
}

sub _cut ($self) {
    substr $self->{buf}, 0, $self->{pos}, '';
    $self->{pos} = 0;
    return;
}

package Vaani::Test::RESP::Error;

use overload '""' => sub { $_[0]{message} }, fallback => 1;

sub message { return $_[0]{message} }

1;
