# Clients that disconnect: nginx applies complete deliveries, discards incomplete
# ones, and the worker continues.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Socket qw(SOL_SOCKET SO_LINGER);
use Vaani::Test::Events;
use Vaani::Test::FakeRedis;

use constant OK  => qq({"status":"ok"}\n);
use constant BIG => 1_000_000;

# More than a buffer of nginx, so that nginx writes the body to a file; but small
# enough for twenty of them to fit into the socket of a suspended Redis.
use constant LONG => 1500;

my $redis = Vaani::Test::Redis->start;
my $client = $redis->client;

# On the way to Redis: says when an event has left nginx.
my $relay = Vaani::Test::FakeRedis->start(
    on_connect => sub ($sock, $self, $n) {
        my $tail = '';
        # Redis may be unreachable.
        eval {
            relay(
                $sock,
                $redis->socket,
                up => sub ($bytes) {
                    my $seen = $tail . $bytes;
                    $self->report('event') while $seen =~ /EVALSHA/g;
                    $tail = substr $seen, -6;
                    return $bytes;
                }
            );
        };
    }
);

# A backend that never answers.
my $backend = Vaani::Test::FakeRedis->start(
    on_connect => sub ($sock, $self, $n) {
        1 while sysread $sock, my $bytes, 100_000;
        $self->report('gone');
    }
);

my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    client_max_body_size 2m;
    client_body_buffer_size 1k;
    vaani_redis @{[ $relay->url ]};
    vaani_redis_timeout 60s;

    server {
        listen unix:%%SOCK%%;
        listen 127.0.0.1:%%PORT%%;
        location = /hook   { vaani_webhook; }
        location = /status { stub_status; }
        location = /app    { mirror /copy; proxy_pass http://unix:@{[ $backend->socket ]}:; }
        location = /copy   { internal; vaani_webhook; }

        location = /spooled      { vaani_webhook; vaani_spool %%DIR%%/spool; }
        location = /app-spooled  { mirror /copy-spooled; proxy_pass http://unix:@{[ $backend->socket ]}:; }
        location = /copy-spooled { internal; vaani_webhook; vaani_spool %%DIR%%/spool; }
    }

    server {
        listen unix:%%DIR%%/h2.sock http2;
        location = /hook { vaani_webhook; }
        location = /app  { mirror /copy; proxy_pass http://unix:@{[ $backend->socket ]}:; }
        location = /copy { internal; vaani_webhook; }
    }
CONF

my @workers = $nginx->worker_pids;
my $http = $nginx->http;
my $subscriber = $redis->client->subscribe('vaani:events');

sub started (@more) { return event('call_started', room => new_room(), @more) }

# The events are in Redis, or at least with it.
sub with_redis ($n, $name) {
    my $got = 0;
    $got++ while $got < $n && defined $relay->next_report;
    return is $got, $n, "$name: sent to Redis";
}

# In whatever order: their payloads are the bodies.
sub published ($name, @bodies) {
    my %missing = map { $_ => 1 } @bodies;

    for my $message ($subscriber->next_messages(scalar @bodies, 30)) {
        my ($payload) = $message->{payload} =~ /"payload":(.*)\}\z/s;
        delete $missing{$payload} // fail "$name: unexpected: " . substr $payload, 0, 80;
    }
    return is scalar(keys %missing), 0, "$name: all are applied and published";
}

sub well ($name) {
    my ($response, $active);

    # An event of its own comes through, and comes next.
    my $body = started();
    is $http->post('/hook', $body)->body, OK, "$name: the next event is taken";
    with_redis(1, "$name, next");
    published("$name, next", $body);

    is join(' ', $nginx->worker_pids), "@workers", '... by the same worker';
    wait_for(
        sub {
            ($active) = $http->get('/status')->body =~ /^Active connections: (\d+)/;
            return $active == 1;
        }
    );
    return is $active, 1, '... which has no other connection any more';
}

sub connection ($target = $nginx->sock) {
    return Vaani::Test::HTTP->new(sock => $target, retry => 0)->connect;
}

# How a client ends its connection.
my %ENDS = (
    close => sub ($conn) { $conn->close },
    reset => sub ($conn) {
        setsockopt $conn->handle, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
        $conn->close;
    },
    'half-close' => sub ($conn) { $conn->shutdown_write; $conn->wait_closed },
);

sub head_and_body (@how) { return Vaani::Test::HTTP::format_request(uri => '/hook', @how) }

subtest 'before the body is complete' => sub {
    my ($head, $body) = head_and_body(body => started());
    my ($big_head, $big) = head_and_body(body => started(junk => 'x' x BIG));
    my ($chunked_head, $chunks) = head_and_body(body => started(), chunked => 30);
    my ($big_chunked_head, $big_chunks) = head_and_body(body => started(junk => 'x' x BIG), chunked => 9999);

    my %cases = (
        'nothing'                => '',
        'one byte'               => 'P',
        'a part of the line'     => 'POST /hook HT',
        'a part of the header'   => substr($head, 0, -10),
        'all but the last byte of the header' => substr($head, 0, -1),
        'the header'             => $head,
        'one byte of the body'   => $head . substr($body, 0, 1),
        'all but one byte'       => $head . substr($body, 0, -1),
        'more than one buffer'   => $big_head . substr($big, 0, 20_000),
        'half of a big body'     => $big_head . substr($big, 0, BIG / 2),
        'chunked: the header'    => $chunked_head,
        'inside the first size'  => $chunked_head . substr($chunks, 0, 1),
        'inside the first chunk' => $chunked_head . substr($chunks, 0, 10),
        'before the last chunk'  => $chunked_head . substr($chunks, 0, -5),
        'inside the last chunk'  => $chunked_head . substr($chunks, 0, -2),
        'all but one byte of the chunks' => $chunked_head . substr($chunks, 0, -1),
        'chunked: half of a big body'    => $big_chunked_head . substr($big_chunks, 0, BIG / 2),
    );

    for my $name (sort keys %cases) {
        for my $target ($nginx->sock, $nginx->port) {
            for my $end (sort keys %ENDS) {
                my $conn = connection($target);
                $conn->send_raw($cases{$name});
                $ENDS{$end}->($conn);
            }
        }
    }

    well('afterwards');
    is $client->cmd('DBSIZE'), 1, 'nothing else was applied';
};

subtest 'right after the body' => sub {
    my @bodies;
    for my $i (1 .. 60) {
        my $body = started($i % 10 ? () : (junk => 'x' x BIG));
        push @bodies, $body;

        my $conn = connection($i % 2 ? $nginx->sock : $nginx->port);
        $conn->send_raw(join '', head_and_body(body => $body, $i % 3 ? () : (chunked => 7000)));
        $conn->close;
    }

    with_redis(60, 'sixty');
    published('sixty', @bodies);
    well('afterwards');
};

subtest 'while Redis is silent' => sub {
    for my $end (sort keys %ENDS) {
        my (@conns, @bodies);
        $redis->suspend;

        for my $i (1 .. 20) {
            my $body = started($i % 10 ? () : (junk => 'x' x LONG));
            push @bodies, $body;
            push @conns, connection($i % 2 ? $nginx->sock : $nginx->port);
            $conns[-1]->send_raw(join '', head_and_body(body => $body, $i % 3 ? () : (chunked => 7000)));
        }
        with_redis(20, $end);

        # A half-closed connection still has a reader.
        my $stays = $end eq 'half-close';
        for my $conn (@conns) {
            $stays ? $conn->shutdown_write : $ENDS{$end}->($conn);
        }

        $redis->resume;
        if ($stays) {
            my @answers = map { $_->read_response } @conns;
            is scalar(grep { $_ && $_->body eq OK } @answers), 20, 'half-closed: all are answered';
            $_->close for @conns;
        }
        published($end, @bodies);
        well("after $end");
    }
};

subtest 'and Redis does not come back' => sub {
    $redis->suspend;

    my @conns = map { connection($_ % 2 ? $nginx->sock : $nginx->port) } 1 .. 20;
    my $stays = connection();
    $_->send_raw(join '', head_and_body(body => started())) for @conns, $stays;
    with_redis(21, 'twenty and one');

    $_ % 2 ? $conns[$_]->close : $ENDS{reset}->($conns[$_]) for 0 .. $#conns;
    $redis->kill;
    is $stays->read_response->status, 503, 'who stays is told';
    $stays->close;

    $redis->restart;
    $client = $redis->client;
    $subscriber = $redis->client->subscribe('vaani:events');

    my $body = started();
    ok wait_for(sub { $http->post('/hook', $body)->status == 200 }), 'Redis is back';
    is +(slurp_events($body))[-1], $body, 'the event is published';
    1 while defined $relay->next_report(0.05);    # there were some in vain
    well('afterwards');
};

# The payloads that come, up to this one.
sub slurp_events ($last) {
    my @payloads;
    while (my $message = $subscriber->next_message(30)) {
        my ($payload) = $message->{payload} =~ /"payload":(.*)\}\z/s;
        push @payloads, $payload;
        last if $payload eq $last;
    }
    return @payloads;
}

# How nginx drops a request while the module waits: the proxy sees that the
# client has closed, and the mirror ends with the request that it belongs to.
sub given_up ($name, $leave, @bodies) {
    with_redis(scalar @bodies, $name);
    $leave->();
    is $backend->next_report, 'gone', "$name: nginx gives it up" for @bodies;

    ok wait_for(sub { $http->get('/status')->body =~ /^Active connections: 1 / }),
        "$name: before Redis answers";

    $redis->resume;
    published($name, @bodies);
    return well("after $name");
}

subtest 'a mirror whose request is given up' => sub {
    for my $end (qw(close reset)) {
        my @bodies = map { started(junk => 'x' x ($_ * 500)) } 0 .. 4;
        my @conns = map { connection($_ % 2 ? $nginx->sock : $nginx->port) } 0 .. 4;

        $redis->suspend;
        $conns[$_]->send_raw(join '', Vaani::Test::HTTP::format_request(uri => '/app', body => $bodies[$_]))
            for 0 .. 4;
        given_up($end, sub { $ENDS{$end}->($_) for @conns }, @bodies);
    }
};

subtest 'into the spool' => sub {
    my @rooms = map { new_room() } 1 .. 40;
    my $events = sub ($uri, @rooms) {
        my @conns = map { connection($_ % 2 ? $nginx->sock : $nginx->port) } 0 .. $#rooms;
        for my $i (0 .. $#rooms) {
            my $body = event('call_started', room => $rooms[$i], $i % 5 ? () : (junk => 'x' x LONG));
            $conns[$i]->send_raw(join '', Vaani::Test::HTTP::format_request(uri => $uri, body => $body));
        }
        return @conns;
    };

    # Their requests are given up, then Redis goes.
    $redis->suspend;
    my @conns = $events->('/app-spooled', @rooms[ 0 .. 9 ]);
    with_redis(10, 'ten');
    $ENDS{ $_ % 2 ? 'close' : 'reset' }->($conns[$_]) for 0 .. 9;
    $backend->next_report for 0 .. 9;
    ok wait_for(sub { $http->get('/status')->body =~ /^Active connections: 1 / }), 'ten have left';

    # They wait with Redis, and leave while it goes.
    @conns = $events->('/spooled', @rooms[ 10 .. 19 ]);
    with_redis(10, 'ten more');
    $_->close for @conns;
    $redis->kill;

    # Clients connect while Redis is unreachable, and close without waiting for
    # the disk.
    is $http->post('/hook', started())->status, 503, 'Redis is away';
    $_->close for $events->('/spooled', @rooms[ 20 .. 39 ]);

    $redis->restart;
    $client = $redis->client;
    my @keys = map { "vaani:call:$_" } @rooms;
    ok wait_for(sub { $client->cmd('EXISTS', @keys) == @keys }), 'all are applied'
        or diag $client->cmd('EXISTS', @keys);
    is_deeply [ map { $client->cmd('HGET', $_, 'seq') } @keys ], [ (1) x @keys ], '... and once';

    $subscriber = $redis->client->subscribe('vaani:events');
    1 while defined $relay->next_report(0.05);
    well('afterwards');
};

# --- HTTP/2 (RFC 9113): just enough of a client to be rude with

use constant { DATA => 0, HEADERS => 1, RST_STREAM => 3, SETTINGS => 4, GOAWAY => 7 };
use constant { END_STREAM => 1, ACK => 1, END_HEADERS => 4 };
use constant { NO_ERROR => 0, CANCEL => 8 };

package H2 {
    use Vaani::Test::Socket qw(connect_socket now read_some wait_readable write_all);

    sub connect ($class, $target) {
        my $self = bless {
            fh => connect_socket($target), buf => '', body => {}, ended => {}, reset => {},
        }, $class;
        write_all($self->{fh}, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" . frame(main::SETTINGS, 0, 0));
        return $self;
    }

    sub frame ($type, $flags, $stream, $payload = '') {
        return substr(pack('N', length $payload), 1) . pack('CCN', $type, $flags, $stream) . $payload;
    }

    sub send ($self, @frames) {
        write_all($self->{fh}, join '', @frames);
        return;
    }

    # HPACK: literals without indexing.
    sub head ($stream, $flags = 0, %headers) {
        my %fields = (
            ':method' => 'POST', ':scheme' => 'http', ':path' => '/hook', ':authority' => 'localhost',
            'content-type' => 'application/json', %headers,
        );
        my @fields = map { $_ => $fields{$_} } sort keys %fields;    # ':' comes first
        return frame(main::HEADERS, main::END_HEADERS | $flags, $stream,
            pack '(xC/aC/a)*', @fields);
    }

    # The body in frames of that many bytes.
    sub data ($stream, $body, $size = 1000, $flags = main::END_STREAM) {
        my @parts = unpack "(a$size)*", $body;
        my $last = pop @parts // '';
        return ((map { frame(main::DATA, 0, $stream, $_) } @parts), frame(main::DATA, $flags, $stream, $last));
    }

    # Reads until all these streams have ended, well or not. True when they have.
    sub wait_ended ($self, @streams) {
        my $deadline = now() + 30;

        while (grep { !$self->{ended}{$_} && !defined $self->{reset}{$_} } @streams) {
            wait_readable($self->{fh}, $deadline - now()) or return 0;
            my $got = read_some($self->{fh}, \$self->{buf});
            return 0 if defined $got && $got == 0;

            while (length $self->{buf} >= 9) {
                my ($length, $type, $flags, $stream) = unpack 'NCCN', "\0" . $self->{buf};
                last if length $self->{buf} < 9 + $length;
                my $payload = substr $self->{buf}, 9, $length;
                substr $self->{buf}, 0, 9 + $length, '';

                $self->{body}{$stream} .= $payload if $type == main::DATA;
                $self->{reset}{$stream} = unpack 'N', $payload if $type == main::RST_STREAM;
                $self->{ended}{$stream} = 1
                    if ($type == main::DATA || $type == main::HEADERS) && $flags & main::END_STREAM;
                $self->send(frame(main::SETTINGS, main::ACK, 0))
                    if $type == main::SETTINGS && !($flags & main::ACK);
            }
        }

        return 1;
    }

    sub handle ($self) { return $self->{fh} }
    sub close ($self)  { close $self->{fh}; return }
}

sub h2 () { return H2->connect($nginx->dir . '/h2.sock') }

sub reset_stream ($stream, $code = CANCEL) { return H2::frame(RST_STREAM, 0, $stream, pack 'N', $code) }

# Takes turns among lists of frames.
sub interleaved (@lists) {
    my @mixed;
    while (@lists = grep { @$_ } @lists) {
        push @mixed, map { shift @$_ } @lists;
    }
    return @mixed;
}

subtest 'HTTP/2: everybody stays' => sub {
    my $h2 = h2();
    my @bodies = map { started(junk => 'x' x ($_ * 300)) } 1 .. 10;
    my @streams = map { 2 * $_ - 1 } 1 .. 10;

    $h2->send(interleaved(map { [ H2::head($streams[$_]), H2::data($streams[$_], $bodies[$_], 100) ] } 0 .. 9));
    ok $h2->wait_ended(@streams), 'ten streams';
    is scalar(grep { ($h2->{body}{$_} // '') eq OK } @streams), 10, '... are answered';
    with_redis(10, 'ten');
    published('ten', @bodies);

    # The end in a frame of its own; no body; a length that is not kept.
    my $body = started();
    $h2->send(H2::head(99), H2::data(99, $body, 50, 0), H2::frame(DATA, 0, 99));
    $h2->send(H2::head(101), H2::data(101, '{'));
    ok $h2->wait_ended(101), 'another stream meanwhile';
    is $relay->next_report(0), undef, '... nothing is taken without its end';
    $h2->send(H2::frame(DATA, END_STREAM, 99));
    ok $h2->wait_ended(99), 'an empty last frame';
    is $h2->{body}{99}, OK, '... is the end';
    with_redis(1, 'its end');
    published('its end', $body);

    $h2->send(H2::head(103, END_STREAM));
    ok $h2->wait_ended(103), 'without a body';
    like $h2->{body}{103}, qr/the body is empty/, '... says so';

    $h2->send(H2::head(105, 0, 'content-length' => length($body) + 1), H2::data(105, $body));
    ok $h2->wait_ended(105), 'less than Content-Length';
    isnt $h2->{body}{105} // '', OK, '... is not taken';

    $body = started();
    $h2->send(H2::head(107), H2::data(107, $body));
    ok $h2->wait_ended(107), 'the connection is kept';
    with_redis(1, 'the last');
    published('the last', $body);

    $h2->close;
    well('afterwards');
};

subtest 'HTTP/2: reset before the body is complete' => sub {
    my $h2 = h2();
    my $big = started(junk => 'x' x 30_000);    # goes to a file

    $h2->send(H2::head(1), reset_stream(1));
    $h2->send(H2::head(3), H2::data(3, $big, 10_000, 0), reset_stream(3));
    $h2->send(H2::head(5), H2::data(5, started(), 40, 0), reset_stream(5, NO_ERROR));
    $h2->send(H2::head(7), H2::data(7, started(), 40, 0), reset_stream(7));

    my $body = started();
    $h2->send(H2::head(9), H2::data(9, $body));
    ok $h2->wait_ended(9), 'another stream';
    is $h2->{body}{9}, OK, '... is answered';
    with_redis(1, 'the other');
    published('the other', $body);

    $h2->send(H2::head(11), H2::data(11, $big, 10_000, 0), H2::head(13));
    $h2->close;
    well('afterwards');
};

subtest 'HTTP/2: reset while Redis is silent' => sub {
    my $h2 = h2();
    my @bodies = map { started(junk => 'x' x ($_ % 5 ? 10 : LONG)) } 1 .. 20;
    my @streams = map { 2 * $_ - 1 } 1 .. 20;

    $redis->suspend;
    $h2->send(interleaved(map { [ H2::head($streams[$_]), H2::data($streams[$_], $bodies[$_]) ] } 0 .. 19));
    with_redis(20, 'twenty');

    my @gone = grep { $_ % 4 == 1 } @streams;
    my @left = grep { $_ % 4 == 3 } @streams;
    $h2->send(map { reset_stream($_) } @gone);

    # Once this is answered, the resets before it have been seen.
    $h2->send(H2::head(101), H2::data(101, '{'));
    ok $h2->wait_ended(101), 'the resets are seen';

    $redis->resume;
    ok $h2->wait_ended(@left), 'ten others';
    is scalar(grep { ($h2->{body}{$_} // '') eq OK } @left), 10, '... are answered';
    is scalar(grep { exists $h2->{body}{$_} } @gone), 0, 'those that left are not';
    published('all twenty', @bodies);

    my $body = started();
    $h2->send(H2::head(103), H2::data(103, $body));
    ok $h2->wait_ended(103), 'the connection is kept';
    is $h2->{body}{103}, OK, '... and takes an event';
    with_redis(1, 'it');
    published('it', $body);

    $h2->close;
    well('afterwards');
};

subtest 'HTTP/2: the connection ends while Redis is silent' => sub {
    for my $end (qw(close half-close goaway)) {
        my $h2 = h2();
        my @bodies = map { started(junk => 'x' x ($_ % 5 ? 10 : LONG)) } 1 .. 20;

        $redis->suspend;
        $h2->send(map { (H2::head(2 * $_ + 1), H2::data(2 * $_ + 1, $bodies[$_])) } 0 .. 19);
        with_redis(20, $end);

        $h2->send(H2::frame(GOAWAY, 0, 0, pack 'NN', 0, 0)) if $end eq 'goaway';
        shutdown $h2->handle, 1 if $end eq 'half-close';
        $h2->close if $end ne 'half-close';

        # Once this is answered, the end before it has been seen.
        is $http->get('/status')->status, 200, "$end is seen";

        $redis->resume;
        published($end, @bodies);
        $h2->close if $end eq 'half-close';
        well("after $end");
    }
};

subtest 'HTTP/2: a mirror whose request is given up' => sub {
    for my $end (qw(reset close)) {
        my $h2 = h2();
        my @bodies = map { started(junk => 'x' x ($_ * 500)) } 0 .. 4;
        my @streams = map { 2 * $_ + 1 } 0 .. 4;

        $redis->suspend;
        $h2->send(H2::head($streams[$_], 0, ':path' => '/app'), H2::data($streams[$_], $bodies[$_])) for 0 .. 4;
        given_up(
            $end,
            sub {
                $h2->send(map { reset_stream($_) } @streams) if $end eq 'reset';
                $h2->close;
            },
            @bodies
        );
    }
};

subtest 'HTTP/2: right after the body' => sub {
    # nginx may see the end of the connection before it reads the body.
    # Deliveries that it reads are applied once.
    my %sent;
    for my $i (1 .. 30) {
        my $body = started();
        $sent{$body} = 1;
        my $h2 = h2();
        $h2->send(H2::head(1), H2::data(1, $body));
        $h2->close;
    }

    my $last = started();
    is $http->post('/hook', $last)->body, OK, 'the next event is taken';
    my @payloads = slurp_events($last);
    is pop @payloads, $last, '... and published';
    is scalar(grep { !delete $sent{$_} } @payloads), 0, 'nothing unexpected, nothing twice';

    with_redis(1 + @payloads, 'as many');
    well('afterwards');
};

ok $nginx->stop, 'stop';
$nginx->log_unlike(qr/\[(?:alert|emerg)\]/, 'no alert');

done_testing;
