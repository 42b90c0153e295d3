# vaani_payload: messages without their payload, always or above a size; the hash
# and what is a duplicate stay as they are.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP ();
use Time::HiRes ();
use Vaani::Test::Endpoint;
use Vaani::Test::Events;
use Vaani::Test::Retain ();
use Vaani::Test::Spool;

my $json = JSON::PP->new->utf8->boolean_values(0, 1);

# Whether the payload is in the messages, by locations.
my %LOCATIONS = (
    '/default' => '',
    '/on'      => 'vaani_payload on;',
    '/off'     => 'vaani_payload off;',
    '/max'     => 'vaani_payload max=100;',
    '/1k'      => 'vaani_payload max=1k;',
    '/16k'     => 'vaani_payload max=16k;',
);

my $redis = Vaani::Test::Redis->start(acl => [qw(~s +xadd +spublish &x &y)]);
my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    vaani_redis @{[ $redis->url ]};
    client_max_body_size 8m;

    server {
        listen unix:%%SOCK%%;
        @{[ map { "location = $_ { vaani_webhook; $LOCATIONS{$_} }\n" } sort keys %LOCATIONS ]}
        location = /stream  { vaani_webhook; vaani_payload off; vaani_stream s; vaani_channel off; }
        location = /stream3 { vaani_webhook; vaani_payload off; vaani_stream s maxlen=3; vaani_channel off; }
        location = /sharded { vaani_webhook; vaani_payload off; vaani_channel x sharded; vaani_channel y; }
        location = /strict  { vaani_webhook; vaani_payload off; vaani_validation strict; }
    }

    server {
        listen unix:%%DIR%%/second.sock;
        vaani_payload off;
        location = /server  { vaani_webhook; }
        location = /on      { vaani_webhook; vaani_payload on; }
        location = /max     { vaani_webhook; vaani_payload max=100; }
        location /outer {
            vaani_payload max=200;
            location = /outer/inner { vaani_webhook; if (\$arg_x) { set \$x 1; } }
        }
    }
CONF

my $http = $nginx->http;
my $second = Vaani::Test::HTTP->new(sock => $nginx->dir . '/second.sock');
my $client = $redis->client;
my $all = $redis->client->subscribe('vaani:events', 'end');

sub post ($uri, $body, %headers) { return answer($http->post($uri, $body, %headers)) }
# Of two events in one millisecond, which is the later one is chance.
sub next_ms () {
    my $now = int(1000 * Time::HiRes::time());
    return wait_for(sub { int(1000 * Time::HiRes::time()) > $now });
}

sub answer ($response) { return $response->status . ' ' . $response->body =~ s/\n\z//r }

# The messages so far. A delivery is published before its answer.
sub messages () {
    $client->cmd('PUBLISH', 'end', '');
    my @messages;
    while (my $message = $all->next_message) {
        return @messages if $message->{channel} eq 'end';
        push @messages, $message->{payload};
    }
    die "no end of the messages\n";
}

# The value of the payload at the end of a message, which is JSON.
sub payload ($message) {
    eval { $json->decode($message) } or diag "no JSON: $message";
    return $message =~ /,"payload":(.*)\}\z/s ? $1 : "none: $message";
}

sub without ($bytes) { return qq(null,"payload_bytes":$bytes) }

# An event of exactly so many bytes.
sub sized ($bytes) {
    my $body = event('call_ended', room => new_room(), end_reason => ABSENT, x => '');
    return $body =~ s/"x":"/'"x":"' . 'y' x ($bytes - length $body)/er;
}

sub room_of ($body) { return ($body =~ /"room_name":"([^"]+)"/)[0] }

# The hash, but for what differs between two calls.
sub hash ($room) {
    my $hash = $client->hgetall("vaani:call:$room");
    delete @$hash{ 'room_name', grep { /^at:|^_/ || /^(?:created|updated)_at\z/ } keys %$hash };
    return $hash;
}

subtest 'which messages have their payload' => sub {
    for my $case (
        [ 99, '/default /on /max /1k /16k' ], [ 100, '/default /on /max /1k /16k' ], [ 101, '/default /on /1k /16k' ],
        [ 1024, '/default /on /1k /16k' ], [ 1025, '/default /on /16k' ], [ 16384, '/default /on /16k' ],
        [ 16385, '/default /on' ], [ 1_000_000, '/default /on' ],
    ) {
        my ($bytes, $with) = @$case;
        for my $uri (sort keys %LOCATIONS) {
            my $body = sized($bytes);
            is length $body, $bytes, "$bytes bytes to $uri";
            is post($uri, $body), '200 {"status":"ok"}', '... applied';
            my ($message, @more) = messages();
            ok payload($message) eq (" $with " =~ m{ \Q$uri\E } ? $body : without($bytes)), '... payload'
                or diag substr payload($message), 0, 200;
            is @more, 0, '... one message on the channel';
        }
    }
};

subtest 'inheritance' => sub {
    for my $case (
        [ '/server', '-' ], [ '/on', '90 150 250' ], [ '/max', '90' ],
        [ '/outer/inner', '90 150' ], [ '/outer/inner?x=1', '90 150' ],
    ) {
        my ($uri, $with) = @$case;
        for my $bytes (90, 150, 250) {
            my $body = sized($bytes);
            is answer($second->post($uri, $body)), '200 {"status":"ok"}', "$bytes bytes to $uri";
            is payload((messages())[0]), $with =~ /$bytes/ ? $body : without($bytes), '... payload';
        }
    }
};

subtest 'all else of the message, and the hash, of every event' => sub {
    for my $path (sort keys %CALL_PATHS) {
        my %room = map { $_ => "$_-" . new_room() } qw(on off);
        my %got;
        for my $uri (qw(on off)) {
            for my $body (call_path($path, $room{$uri})) {
                next_ms();
                is post("/$uri", $body), '200 {"status":"ok"}', "$path, $uri: applied";
            }
            $got{$uri} = [ messages() ];
        }

        for my $n (0 .. $#{ $got{on} }) {
            my ($on, $off) = map { my $uri = $_; $got{$uri}[$n] =~ s/\Q$room{$uri}\E/ROOM/gr
                =~ s/"id":"\w{32}"/"id":""/r =~ s/"received_at":\d+/"received_at":0/r } qw(on off);
            my $bytes = length((call_path($path, $room{off}))[$n]);
            is $off, $on =~ s/,"payload":\K.*/without($bytes) . '}'/er, "$path, message $n";
        }
        is_deeply hash($room{off}), hash($room{on}), "$path: the hash";
    }
};

subtest 'a long transcript' => sub {
    my $transcript = "Agent: \x{928}\x{92e}\x{938}\x{94d}\x{924}\x{947}\n" x 3000;
    my $body = event('call_postprocessing', room => my $room = new_room(), transcript => $transcript);
    is post('/16k', $body), '200 {"status":"ok"}', 'applied';

    my $message = $json->decode((messages())[0]);
    ok exists $message->{payload} && !defined $message->{payload}, 'its message has none';
    is $message->{payload_bytes}, length $body, '... but its size';
    utf8::encode($transcript);
    ok $client->cmd('HGET', $message->{key}, 'transcript') eq $transcript, '... and the hash, by the key of the message, has it';

    # Redis gets it as the value of its field only.
    for my $case ([ '/16k', 1 ], [ '/on', 2 ]) {
        my ($uri, $times) = @$case;
        my $text = 'x' x 1_000_000;
        my $before = input();
        is post($uri, event('call_postprocessing', room => new_room(), transcript => $text)), '200 {"status":"ok"}', $uri;
        is sprintf('%.1f', (input() - $before) / 1_000_000), sprintf('%.1f', $times), "... goes to Redis $times times";
    }
    messages();
};

# The bytes that Redis got so far.
sub input () { return ($client->cmd(INFO => 'stats') =~ /^total_net_input_bytes:(\d+)/m)[0] }

subtest 'unknown events have theirs' => sub {
    my $room = new_room();
    for my $body (
        event('brand_new', room => $room), '{"event":"brand_new"}',
        '{"event":"webhook_test"}', '{"event":"webhook_test","events":[' . event('call_ended', room => $room) . ']}',
        '{"id":"evt_1","event":"campaign.started","data":{"campaign_id":"cmp_1","status":"' . 'x' x 2000 . '"}}',
    ) {
        for my $uri (qw(/off /max)) {
            is post($uri, $body), '200 {"status":"ok","known":false}', "$uri: " . substr $body, 0, 60;
            is payload((messages())[0]), $body, '... its payload';
        }
    }
};

subtest 'the size is that of the payload as it would stand in the message' => sub {
    for my $case (
        # what is sent, and how much longer or shorter the payload is
        [ "space\n around", sub ($body) { " \n$body\r\n\t" }, 5 ],
        [ 'line breaks', sub ($body) { $body =~ s/,/,\r\n/gr }, 2 * 3 ],
        [ 'bytes that are not UTF-8', sub ($body) { $body =~ s/42\.5,/42.5,"x":"\xff\xfe",/r }, 2 * 3 + 7 ],
        [ 'a byte order mark', sub ($body) { "\xef\xbb\xbf$body" }, 0 ],
        [ 'NaN', sub ($body) { $body =~ s/42\.5,/NaN,/r }, 0 ],
    ) {
        my ($name, $change, $more) = @$case;
        my %got;
        for my $uri (qw(/on /off)) {
            my $body = event('call_ended', room => sprintf '%-12s', new_room());
            is post($uri, $change->($body)), '200 {"status":"ok"}', "$name to $uri";
            ($got{$uri}) = map { payload($_) } messages();
            is $got{$uri}, without(length($body) + $more), '... the size' if $uri eq '/off';
        }
        is $got{'/off'}, without(length $got{'/on'}), '... is that of what stands there otherwise';
    }

    my $room = new_room();
    is post('/off', event('call_ended', room => $room, call_duration => \'NaN')), '200 {"status":"ok"}', 'a repair';
    like((messages())[0], qr/,"repaired":true,"payload":null,"payload_bytes":\d+\}\z/, '... is told');
};

subtest 'duplicates' => sub {
    my $body = event('call_ended', room => new_room());
    is post('/off', $body), '200 {"status":"ok"}', 'a delivery';
    is post($_, $body), '200 {"status":"duplicate"}', "again, to $_" for qw(/off /on /strict);
    is post('/on', $body =~ s/,/, /r), '200 {"status":"ok"}', 'another body';

    $body = event('human_transfer_initiated', room => new_room());
    is post('/off', $body, 'Webhook-Id' => 'one'), '200 {"status":"ok"}', 'with an id';
    is post('/off', $body, 'Webhook-Id' => 'one'), '200 {"status":"duplicate"}', '... again';
    is post('/off', $body, 'Webhook-Id' => 'two'), '200 {"status":"ok"}', '... another id';
    is_deeply [ map { ($json->decode($_)->{id} =~ /^(one|two)\z/)[0] // '' } messages() ], [ '', '', qw(one two) ],
        'a message for each that was none';
};

subtest 'several events in one body' => sub {
    my @events = (sized(90), sized(101), event('brand_new', room => new_room(), x => 'y' x 200), sized(100), sized(500));
    is post('/max', '{"events":[' . join(',', @events) . ']}', 'Webhook-Id' => 'many'), '200 {"status":"ok","events":5}', 'applied';
    my @messages = messages();
    is_deeply [ map { payload($_) } @messages ], [ $events[0], without(101), @events[ 2, 3 ], without(500) ], 'each has its own size';
    is_deeply [ map { $json->decode($_)->{id} } @messages ], [ map { "many.$_" } 0 .. 4 ], '... and its own id';

    # The name is that of the envelope, which is no part of the payload.
    my $room = new_room();
    is post('/max', qq({"event":"call_ringing","events":[{"room_name":"$room"}]})), '200 {"status":"ok","events":1}', 'a short one';
    is payload((messages())[0]), qq({"room_name":"$room"}), '... has its payload';
    is post('/off', qq({"event":"call_ended","events":[{"room_name":"$room"}]})), '200 {"status":"ok","events":1}', 'without it';
    is payload((messages())[0]), without(length qq({"room_name":"$room"})), '... its size is that of the element';
};

subtest 'streams' => sub {
    for my $uri (qw(/stream /stream3)) {
        for my $n (1 .. 4) {
            my $body = sized(100 + $n);
            is post($uri, $body), '200 {"status":"ok"}', "$uri, $n";
            my ($entry) = @{ $client->cmd(qw(XREVRANGE s + - COUNT 1)) };
            is payload($entry->[1][1]), without(100 + $n), '... is appended without its payload';
        }
    }
    is $client->cmd('XLEN', 's'), 3, 'maxlen';
};

subtest 'sharded channels' => sub {
    my $sharded = $redis->client->ssubscribe('x');
    my $plain = $redis->client->subscribe('y');
    my @bodies = (sized(150), event('brand_new', room => new_room()));
    is post('/sharded', $bodies[0]), '200 {"status":"ok"}', 'an event';
    is post('/sharded', $bodies[1]), '200 {"status":"ok","known":false}', 'an unknown one';
    is_deeply [ map { payload($_->{payload}) } $_->next_messages(2) ], [ without(150), $bodies[1] ], 'both are published' for $sharded, $plain;
};

# --- what waits

# An endpoint for each of these, with one spool.
sub spooling ($redis, %locations) {
    return "server { listen unix:%%SOCK%%;
        vaani_redis @{[ $redis->url ]};
        vaani_redis_connect_timeout 300ms;
        vaani_spool @{[ tmpdir() ]}/spool;
        @{[ map { qq(location = $_ { vaani_webhook; $locations{$_} }\n) } sort keys %locations ]} }";
}

subtest 'what waits has what its location said when it came' => sub {
    my $redis = Vaani::Test::Redis->start;
    my %before = ('/off' => 'vaani_payload off;', '/on' => '', '/max' => 'vaani_payload max=200;');
    my %after = ('/off' => '', '/on' => 'vaani_payload off;', '/max' => 'vaani_payload max=2000;');
    my $nginx = Vaani::Test::Nginx->start(http => spooling($redis, %before), workers => 2);

    $redis->kill;
    my %sent;
    for my $uri (sort keys %before) {
        for my $body (sized(150), sized(900), event('brand_new', room => new_room(), x => 'y' x 2000)) {
            like answer($nginx->http->post($uri, $body)), qr/^200 \{"status":"queued"/, "$uri: waits";
            push @{ $sent{$uri} }, $body;
        }
    }
    ok $nginx->reload(http => spooling($redis, %after), wait_old => 1), 'other settings';

    # From its first moment on; replays begin when nginx has found it.
    $redis->restart;
    my $subscriber = $redis->client->subscribe('vaani:events');
    my %got = map { $json->decode($_)->{room_name} => $_ } map { $_->{payload} } $subscriber->next_messages(9, 30);

    for my $case (
        [ '/off', undef, undef, 1 ], [ '/on', 1, 1, 1 ], [ '/max', 1, undef, 1 ],
    ) {
        my ($uri, @with) = @$case;
        for my $n (0 .. 2) {
            my $body = $sent{$uri}[$n];
            my $message = $got{ room_of($body) } // '';
            is payload($message), $with[$n] ? $body : without(length $body), "$uri, $n: as it was";
            like $message, qr/,"replayed":true,"payload":/, '... replayed';
        }
    }
    for my $uri (qw(/off /max)) {
        is $redis->client->hgetall('vaani:call:' . room_of($sent{$uri}[1]))->{call_duration_ms}, 42500, "$uri: the hash";
    }
};

subtest 'records of versions that did not know it, and of tables that know more' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $dir = tmpdir() . '/old';
    mkdir $dir or die "mkdir: $!\n";

    my %body = map { $_ => event($_ eq 'later' ? 'brand_new' : 'call_ringing', room => $_) } qw(one two omitted later);
    my $record = sub ($room, %opt) {
        return journal_record(delivery_content(
            room => $room, id => $room, body => $body{$room}, stream => '', channels => ['vaani:events'], %opt));
    };

    # The flag of a record says what its location said; what is unknown has its payload.
    spew("$dir/" . sprintf('%020d.log', 1), join '', $record->('one', version => 1), $record->('two'),
        $record->('omitted', repaired => 4), $record->('later', repaired => 4));

    my $subscriber = $redis->client->subscribe('vaani:events');
    my $nginx = Vaani::Test::Nginx->start(http => "server { listen unix:%%SOCK%%; vaani_redis @{[ $redis->url ]};
        vaani_payload off; location = / { vaani_webhook; vaani_spool $dir; } }");
    my %got = map { $json->decode($_)->{room_name} => payload($_) } map { $_->{payload} } $subscriber->next_messages(4, 30);
    is_deeply \%got, { one => $body{one}, two => $body{two}, later => $body{later}, omitted => without(length $body{omitted}) }, 'as they say';

    # The tool sends them in the same way.
    my $tool = vaani_spool();
    return note('make tool builds vaani-spool') if !-x $tool;

    my $other = Vaani::Test::Redis->start;
    $subscriber = $other->client->subscribe('vaani:events');
    spew(tmpdir() . '/copy.log', $record->('one') . $record->('omitted', repaired => 4));
    local @ENV{qw(VAANI_REDIS_USER VAANI_REDIS_PASSWORD)} = qw(admin sesame);
    my ($exit, $out, $err) = run([ $tool, 'resend', 'unix:' . $other->socket, tmpdir() . '/copy.log' ]);
    is $exit, 0, 'vaani-spool resend' or diag $out, $err;
    %got = map { $json->decode($_)->{room_name} => payload($_) } map { $_->{payload} } $subscriber->next_messages(2);
    is_deeply \%got, { one => $body{one}, omitted => without(length $body{omitted}) }, '... sends what they say';
};

subtest 'what Redis lost comes back as it was' => sub {
    my $redis = Vaani::Test::Retain::redis();
    my $nginx = Vaani::Test::Retain::nginx($redis, workers => 1, more => 'vaani_payload max=200;');
    my @bodies = (sized(150), sized(900));
    is answer($nginx->http->post('/hook', $_)), '200 {"status":"ok"}', 'applied' for @bodies;

    # The mark of a loss is missing only once there was one.
    ok wait_for(sub { @{ $redis->client->cmd(KEYS => 'vaani:mark:*') } }), 'Redis is marked';
    my $subscriber = $redis->client->subscribe('vaani:events');
    $redis->client->cmd('FLUSHALL');

    my %got = map { $json->decode($_)->{room_name} => $_ } map { $_->{payload} } $subscriber->next_messages(2, 60);
    is_deeply [ map { payload($got{ room_of($_) } // '') } @bodies ], [ $bodies[0], without(900) ], 'the payload of the short one only';
    is_deeply [ map { $redis->client->cmd(HGET => 'vaani:call:' . room_of($_), 'status') } @bodies ], [ ('ended') x 2 ], 'both hashes';
    my @entries = @{ $redis->client->cmd(qw(XRANGE vaani:stream - +)) };
    is_deeply [ sort map { payload($_->[1][1]) } @entries ], [ sort $bodies[0], without(900) ], 'the stream, too';
};

done_testing;
