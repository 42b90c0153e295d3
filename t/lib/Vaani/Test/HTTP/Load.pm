package Vaani::Test::HTTP::Load;

# Many deliveries over several connections at once, by one select loop.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use Scalar::Util qw(blessed);
use Vaani::Test::HTTP::Request qw(format_request);
use Vaani::Test::HTTP::Response;
use Vaani::Test::Socket qw(now read_some try_connect wait_readable write_some);

our @EXPORT_OK = qw(post_many);

# $target: an Nginx object, a socket path, a port, or host:port. Options:
#   connections  how many, default 8
#   headers      hash/array ref, or a sub ($i) that returns one, for each body
#   on_response  sub ($i, $response); may reload or kill servers. Dying ends it.
#   timeout      s without any progress, default 30
#   retry        0: no second try (see HTTP.pm) for a request that met a
#                kept-alive connection in its closing; default 1
# Returns the status of each body's answer, in order; 0 where the connection
# broke or could not be made, with the reason in $response->error.
sub post_many ($target, $uri, $bodies, %opt) {
    $target = $target->sock if blessed $target && $target->can('sock');

    my $timeout = $opt{timeout} // 30;
    my $retry = $opt{retry} // 1;
    my $headers = $opt{headers} // {};

    my @queue = 0 .. $#$bodies;    # bodies still to be sent
    my @statuses;
    my %retried;
    my %busy;                      # fd => connection with a request under way
    my @idle;

    my $done = sub ($i, $response) {
        $response->{retried} = $retried{$i} // 0;
        $statuses[$i] = $response->{status};
        $opt{on_response}->($i, $response) if $opt{on_response};
    };

    my $failed = sub ($i, $why) {
        $done->($i, bless {
            status => 0, reason => '', headers => {}, body => '', interim => [],
            keepalive => 0, error => $why,
        }, 'Vaani::Test::HTTP::Response');
    };

    my $connections = $opt{connections} // 8;

    while (@queue || %busy) {
        while (@queue && keys %busy < $connections) {
            my $i = shift @queue;

            # A connection that was closed while idle (by a reload) is readable
            # and is dropped. After a failure, a new one is opened.
            my $conn = $retried{$i} ? undef : pop @idle;
            $conn = pop @idle while $conn && wait_readable($conn->{fh}, 0);

            if (!$conn) {
                my $fh = try_connect($target, $timeout);
                if (!$fh) {
                    $failed->($i, "connect: $!");
                    next;
                }
                $conn = { fh => $fh, parser => Vaani::Test::HTTP::Parser->new, reused => 0 };
            }

            my $extra = ref $headers eq 'CODE' ? $headers->($i) : $headers;
            my @extra = ref $extra eq 'HASH' ? %$extra : @$extra;
            my $typed = grep { lc eq 'content-type' } @extra[ grep { !($_ % 2) } 0 .. $#extra ];

            @$conn{qw(i offset)} = ($i, 0);
            $conn->{out} = join '', format_request(
                method  => 'POST',
                uri     => $uri,
                body    => $bodies->[$i],
                headers => [ $typed ? () : ('Content-Type' => 'application/json'), @extra ],
            );
            $busy{ fileno $conn->{fh} } = $conn;
        }
        last if !%busy;

        my ($r, $w) = ('', '');
        for my $fd (keys %busy) {
            vec($r, $fd, 1) = 1;
            vec($w, $fd, 1) = 1 if $busy{$fd}{offset} < length $busy{$fd}{out};
        }

        my $deadline = now() + $timeout;
        my $n = select $r, $w, undef, $timeout;
        if ($n <= 0) {
            die sprintf "no progress in %s s, %d requests unanswered\n",
                $timeout, @queue + keys %busy
                if now() >= $deadline;
            next;    # a signal
        }

        for my $fd (keys %busy) {
            my $conn = $busy{$fd};

            if (vec $w, $fd, 1) {
                $conn->{offset} += write_some($conn->{fh}, \$conn->{out}, $conn->{offset})
                    // length($conn->{out}) - $conn->{offset};
            }

            next if !vec $r, $fd, 1;

            my $got = read_some($conn->{fh}, $conn->{parser}->buffer);
            next if !defined $got;

            my $i = $conn->{i};
            my $eof = $got == 0;
            my $reset = $eof ? "$!" : '';
            my $response = eval { $conn->{parser}->next_response('POST', $eof) };
            my $error = $@;
            next if !$response && !$eof && $error eq '';

            delete $busy{$fd};

            if ($response) {
                if ($response->{keepalive} && !$eof && $conn->{offset} == length $conn->{out}) {
                    $conn->{reused} = 1;
                    push @idle, $conn;
                } else {
                    $response->{keepalive} = 0;
                    close $conn->{fh};
                }
                $done->($i, $response);
                next;
            }

            close $conn->{fh};

            if ($error eq '' && $conn->{reused} && $retry && !$retried{$i}) {
                $retried{$i} = 1;
                unshift @queue, $i;
                next;
            }

            chomp $error;
            $failed->($i, $error || $reset || 'connection closed');
        }
    }

    return @statuses;
}

1;
