# The messages that subscribers get: section 4 of the contract.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP ();
use Time::HiRes ();
use Vaani::Test::Events;

my $redis = Vaani::Test::Redis->start(
    acl => [
        Vaani::Test::ACL::with_prefix('*.example', 'p*', 'a???b', 'q????'),
        qw(&calls &all &event?* &{*}?* &alerts &c* &outer &other &inner),
        qw(~events ~three ~tenant?1 ~outer ~*.example:stream +xadd),
    ],
    config => ['user narrow on >sesame ~* +@all resetchannels &vaani:events'],
);
spew(tmpdir() . '/password', "sesame\n");
chmod 0600, tmpdir() . '/password';

my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    vaani_redis @{[ $redis->url ]};
    client_max_body_size 20m;

    map \$vaani_event \$alert {
        default       '';
        call_failed   alerts;
        call_rejected alerts;
        brand_new     alerts;
    }

    server {
        listen unix:%%SOCK%%;

        location = /vaani       { vaani_webhook; }
        location = /reject      { vaani_webhook; vaani_unknown_event reject; }
        location = /strict      { vaani_webhook; vaani_validation strict; }
        location = /id          { vaani_webhook; vaani_delivery_id "\$arg_id x"; }
        location = /id/off      { vaani_webhook; vaani_delivery_id ""; }
        location = /small       { vaani_webhook; client_body_buffer_size 1k; }
        location = /off         { vaani_webhook; vaani_channel off; }
        location = /one         { vaani_webhook; vaani_channel calls; }
        location = /variables   {
            vaani_webhook;
            vaani_channel all;
            vaani_channel "event \$vaani_event";
            vaani_channel "{\$vaani_room} \$arg_a";
            vaani_channel \$alert;
        }
        location = /empty       { vaani_webhook; vaani_channel \$arg_none; vaani_channel \$alert; }
        location = /many        { vaani_webhook; @{[ map { "vaani_channel c$_; " } 1 .. 100 ]} }
        location = /stream      { vaani_webhook; vaani_stream events; }
        location = /stream/3    { vaani_webhook; vaani_stream three maxlen=3; }
        location = /stream/host { vaani_webhook; vaani_stream "\$host \$arg_a"; vaani_channel off; }
        location = /stream/none { vaani_webhook; vaani_stream \$arg_none; }
        location = /narrow      {
            vaani_webhook;
            vaani_redis unix:@{[ $redis->socket ]}?user=narrow;
            vaani_redis_password_file %%TMPDIR%%/password;
        }
    }

    server {
        listen unix:%%SOCK%%;
        server_name channels;
        vaani_channel outer;
        vaani_channel other;
        location = /vaani       { vaani_webhook; }
        location = /inner       { vaani_webhook; vaani_channel inner; }
        location = /off         { vaani_webhook; vaani_channel off; }
    }

    server {
        listen unix:%%SOCK%%;
        server_name stream;
        vaani_stream outer;
        location = /vaani       { vaani_webhook; }
        location = /off         { vaani_webhook; vaani_stream off; }
    }

    server {
        listen unix:%%SOCK%%;
        server_name *.example;
        location = /vaani       { vaani_webhook; vaani_prefix "\$host"; vaani_stream "\$host:stream"; }
    }

    server {
        listen unix:%%SOCK%%;
        server_name prefixes;
        set \$control "a\\r\\n\\tb";
        location = /header      { vaani_webhook; vaani_prefix "p\$http_x_prefix"; }
        location = /control     { vaani_webhook; vaani_prefix "\$control"; }
        location = /literal     { vaani_webhook; vaani_prefix "q\\"\\\\{}"; }
    }
CONF

our $http = $nginx->http;
my $client = $redis->client;
my $all = $redis->client->psubscribe('*')->subscribe('');    # "*" does not match ""
my $json = JSON::PP->new->utf8->allow_nonref->boolean_values(0, 1);

sub now_ms () { return int(Time::HiRes::time() * 1000) }

# Transfers that were received in one millisecond have no order.
sub next_ms () {
    my $now = now_ms();
    return wait_for(sub { now_ms() > $now });
}

sub deliver ($body, $uri = '/vaani', @headers) {
    my $response = $http->post($uri, $body, @headers);
    my $got = $response->status . ' ' . $response->body;
    return 1 if $got =~ /^200 \{"status":"ok"(?:,"known":false)?\}\n\z/;

    fail('delivered');
    diag "$body\n$got";
    return 0;
}

sub published () { return $all->published($client) }

sub channels () { return [ map { $_->[0] } published() ] }

# The id of messages, which must be random and that of each of them.
sub id_of (@published) {
    my ($id) = $published[0][1] =~ /^\{"id":"([0-9a-f]{32})",/;
    return $id // 'no id';
}

# The text of a message, from what its members are in order.
sub message ($body, %m) {
    my $text = sub ($value) { return $json->encode($value) };

    return '{"id":' . $text->($m{id})
        . ',"event":' . $text->($m{event})
        . ',"room_name":' . $text->($m{room})
        . ',"seq":' . $m{seq}
        . ',"status":' . $text->($m{status})
        . (defined $m{previous} ? ',"previous_status":' . $text->($m{previous}) : '')
        . ',"late":' . ($m{late} ? 'true' : 'false')
        . ',"received_at":' . $m{received_at}
        . ',"key":' . $text->($m{key} // "vaani:call:$m{room}")
        . ",\"payload\":$body}";
}

# --- the message

subtest 'the example of the contract' => sub {
    my $room = 'room_123abc';
    my $body = qq({"event": "user_picked_up_at",\n "room_name":"room_123abc", "status": "active" });

    deliver($_) for event('call_started', room => $room), event('call_ringing', room => $room);
    published();
    deliver($body);

    my $time = $client->cmd('HGET', "vaani:call:$room", 'updated_at');
    my @published = published();
    my $expected = '{"id":"' . id_of(@published) . '","event":"user_picked_up_at","room_name":"room_123abc",'
        . '"seq":3,"status":"active","previous_status":"ringing","late":false,'
        . qq("received_at":$time,"key":"vaani:call:room_123abc",)
        . '"payload":{"event": "user_picked_up_at",  "room_name":"room_123abc", "status": "active" }}';
    is_deeply \@published, [ map { [ $_ => $expected ] } 'vaani:events', 'vaani:room:room_123abc' ], 'exactly';
};

my %STATUS = (
    call_started => 'dialing', call_ringing => 'ringing', call_rejected => 'rejected',
    call_no_answer => 'no_answer', call_failed => 'failed', call_ended => 'ended',
    call_postprocessing => 'ended',
);

for my $path (sort keys %CALL_PATHS) {
    subtest "messages: $path" => sub {
        my $room = new_room();
        my ($seq, $previous) = (0);

        for my $body (call_path($path, $room)) {
            my $before = now_ms();
            deliver($body);
            my $after = now_ms();

            my $event = $json->decode($body)->{event};
            my $status = $path =~ /inbound/ && $event eq 'call_started' ? 'started' : $STATUS{$event} // 'active';
            # A transfer does not make a failed call active again.
            $status = $previous if $event =~ /transfer/ && $path !~ /^(?:outbound-answered|inbound)/;

            my @published = published();
            my ($time) = $published[0][1] =~ /"received_at":(\d+)/;
            my $expected = message($body, id => id_of(@published), seq => ++$seq, event => $event, room => $room, status => $status,
                previous => $previous, received_at => $time,
                late => $event =~ /transfer/ && $path !~ /^(?:outbound-answered|inbound)/);

            is_deeply \@published, [ map { [ $_ => $expected ] } 'vaani:events', "vaani:room:$room" ],
                "$seq $event";
            is $time, $client->cmd('HGET', "vaani:call:$room", 'updated_at'), '... received_at is the time of the hash';
            ok $before <= $time && $time <= $after, '... now';
            ok eval { $json->decode($published[0][1]) }, '... JSON' or diag $@;

            $previous = $status;
        }
    };
}

subtest 'the payload, byte for byte' => sub {
    my $line = sub ($text) { return $text =~ tr/\r\n/  /r };    # all of them are between tokens
    my $body = sub ($room, $text) {
        return qq({"room_name":"$room","event":"call_postprocessing","call_duration":1$text});
    };
    my @cases = (
        [ 'members in another order' => '' ],
        [ 'space' => qq( ,\r\n\t"x" : [ 1 , { } ] \n) ],
        [ 'escapes' => ',"x":"\u0041\/\ud83d\ude00\u0000\\\\\"\n"' ],
        [ 'numbers' => ',"x":[1.0,-0,1E400,123456789012345678901234567890,0.1e-7]' ],
        [ 'nested duplicates' => ',"x":{"a":1,"a":2}' ],
        [ 'Unicode' => qq(,"\xe0\xa4\xa8":"\xf0\x9f\x98\x80\x7f\xc2\x80\xef\xbb\xbf") ],
        [ 'like Lua and RESP' => ',"x":"]] .. redis.call() -- \r\n$-1\r\n*3 %1 %s"' ],
        [ 'deep' => ',"x":' . '[' x 100 . ']' x 100 ],
        [ 'a megabyte' => ',"transcript":"' . 'x' x 1_000_000 . '"' ],
    );

    for (@cases) {
        my ($name, $text) = @$_;

        for my $uri ('/vaani', '/small') {
            for my $chunked (undef, 1000) {
                my $room = new_room();
                my $sent = $body->($room, $text);
                my $response = $http->request(
                    uri => $uri, body => $sent, $chunked ? (chunked => $chunked) : (),
                    headers => [ 'Content-Type' => 'application/json' ],
                );
                is $response->status, 200, "$name to $uri" . ($chunked ? ' in chunks' : '')
                    or diag($response->body), next;

                my ($message) = map { $_->[1] } published();
                my $start = index $message, ',"payload":';
                ok substr($message, $start) eq ',"payload":' . $line->($sent) . '}', '... as it was sent';
            }
        }
    }

    my $room = new_room();
    my $sent = " \r\n" . $body->($room, '') . "\n\t ";
    deliver($sent);
    my ($message) = map { $_->[1] } published();
    $sent = $line->($sent);
    like $message, qr/,"payload":\Q$sent\E\}\z/, 'space around it';
    unlike $message, qr/[\r\n]/, '... is one line';
    ok eval { $json->decode($message) }, '... is JSON';
};

subtest 'names that the body spells with escapes' => sub {
    my $body = '{"event":"call\u005fringing","room_name":"r\u00f6\/\u0022"}';
    deliver($body);

    my @published = published();
    is $published[1][0], "vaani:room:r\xc3\xb6/\"", 'channel';
    my $message = $json->decode($published[0][1]);
    is_deeply [ sort keys %$message ], [qw(event id key late payload received_at room_name seq status)], 'members';
    is $message->{event}, 'call_ringing', 'event';
    is $message->{room_name}, "r\x{f6}/\"", 'room_name';
    is $message->{key}, "vaani:call:r\x{f6}/\"", 'key';
    is $client->cmd('HGET', "vaani:call:r\xc3\xb6/\"", 'room_name'), "r\xc3\xb6/\"", 'hash';
};

subtest 'a status of any text' => sub {
    for my $status ("\x{928}\x{1f600}", "\"\\/\x{8}\x{c}\n\r\t\x{1}\x{7f}\x{2028}", ' ') {
        my $room = new_room();
        deliver(event('call_started', room => $room, status => $status));
        deliver(event('brand_new', room => $room));
        deliver(event('call_ringing', room => $room));

        my @messages = map { $json->decode($_->[1]) } published();
        is $messages[0]{status}, $status, 'status';
        is $messages[2]{status}, $status, 'status with an unknown event';
        is $messages[4]{previous_status}, $status, 'previous_status';
    }
};

# --- late

# Where the events stand in a call. Those in one place may come in any order.
my %PLACE = (
    call_started => 1, call_ringing => 2, user_picked_up_at => 3,
    (map { ("human_transfer_$_" => 4) } qw(initiated successful failed)),
    call_rejected => 5, call_no_answer => 5, call_failed => 5,
    call_ended => 6, call_postprocessing => 7,
);

subtest 'late, for every pair of events' => sub {
    for my $first (@EVENTS) {
        for my $second (@EVENTS) {
            my $room = new_room();
            deliver(event($first, room => $room));
            next_ms();
            deliver(event($second, room => $room, $first eq $second ? (x => 1) : ()));

            # An initiation follows no outcome of its own.
            my $late = $PLACE{$second} < $PLACE{$first}
                || $second eq 'human_transfer_initiated' && $first =~ /transfer_(?:successful|failed)/;

            my @messages = map { $json->decode($_->[1]) } published();
            is_deeply [ map { $_->{late} } @messages[ 0, 2 ] ], [ 0, $late ? 1 : 0 ],
                "$first, $second" . ($late ? ' is late' : '');
        }
    }
};

subtest 'late, after more than one event' => sub {
    my $late = sub (@events) {
        my $room = new_room();
        for (@events) {
            next_ms();
            deliver(event($_->[0], room => $room, @$_[ 1 .. $#$_ ]));
        }
        return join ' ', map { $json->decode($_->[1])->{late} } grep { $_->[0] eq 'vaani:events' } published();
    };

    is $late->(['call_ended'], ['call_started'], ['call_ringing'], ['user_picked_up_at'], ['call_postprocessing']),
        '0 1 1 1 0', 'what came late does not hide what came before';
    is $late->(['call_postprocessing'], ['call_ended']), '0 1', 'the end after the postprocessing';
    is $late->(
        ['human_transfer_initiated'], ['human_transfer_failed'], ['human_transfer_initiated'],
        ['human_transfer_successful'],
    ), '0 0 0 0', 'a new attempt is not late';
    is $late->(['human_transfer_failed'], [ human_transfer_initiated => phone_number => '+1' ]),
        '0 0', 'nor is one to another number';
};

# --- an event that the table does not know

subtest 'an unknown event' => sub {
    my $room = new_room();
    my $members = sub (%more) {
        return { event => 'brand_new', room_name => $room, known => 0, key => "vaani:call:$room", %more };
    };
    my $check = sub ($body, $expected, $name) {
        my $before = now_ms();
        deliver($body);
        my @published = published();
        is_deeply [ map { $_->[0] } @published ], [ 'vaani:events', "vaani:room:$room" ], "$name: channels";
        is $published[0][1], $published[1][1], '... the same message';
        like $published[0][1], qr/,"payload":\Q$body\E\}$/, '... with the payload';
        like $published[0][1], qr/"known":false[,}]/, '... and known:false';

        my $message = $json->decode($published[0][1]);
        delete $message->{payload};
        my $time = delete $message->{received_at};
        like delete $message->{id}, qr/^[0-9a-f]{32}$/, '... and id';
        ok $before <= $time && $time <= now_ms(), '... and received_at';
        is_deeply $message, $expected, '... and no more than that';
    };

    my $body = event('brand_new', room => $room, status => 'ended', x => [ 1 ]);
    $check->($body, $members->(), 'without a call');

    deliver(event('call_started', room => $room));
    published();
    $check->($body, $members->(seq => 1, status => 'dialing'), 'with a call');
    deliver(event('call_ended', room => $room));
    published();
    $check->($body, $members->(seq => 2, status => 'ended'), 'after its end');

    is $http->post('/reject', $body)->status, 422, 'vaani_unknown_event reject';
    is_deeply [published()], [], '... publishes nothing';
};

subtest 'an event without a room' => sub {
    my $check = sub ($body, $event, $name, $uri = '/vaani') {
        my $before = now_ms();
        deliver($body, $uri);
        my @published = published();
        my ($time) = ($published[0][1] // '') =~ /"received_at":(\d+)/;
        my $id = id_of(@published);
        is_deeply \@published, [ [ 'vaani:events' =>
            qq({"id":"$id","event":"$event","known":false,"received_at":$time,"payload":$body}) ] ],
            "$name: on one channel, without room_name, key and status";
        ok $before <= $time && $time <= now_ms(), '... and received_at';
    };
    my $keys = join ' ', sort @{ $client->cmd('KEYS', '*') };

    $check->('{"event":"campaign.started","campaign":7}', 'campaign.started', 'unknown');
    $check->('{"event":"campaign.started","room_name":null,"data":{"call_id":null}}', 'campaign.started', 'nulls');
    $check->('{"event":"webhook_test","timestamp":"2026-10-09T00:11:18Z"}', 'webhook_test', $_, $_)
        for qw(/vaani /strict /reject);
    $check->('{"event":"webhook_test","events":[' . event('call_started', room => 'sample') . ',{},1,[]]}',
        'webhook_test', "$_, with samples", $_) for qw(/vaani /strict /reject);

    is join(' ', sort @{ $client->cmd('KEYS', '*') }), $keys, 'none of them makes a key';

    # Its room, if there is one that can be used, is the event's.
    my $room = new_room();
    deliver(qq({"event":"campaign.call","data":{"call_id":"$room"}}));
    is_deeply channels(), [ 'vaani:events', "vaani:room:$room" ], 'a room in data';
    deliver('{"event":"campaign.call","room_name":["x"]}');
    is_deeply channels(), ['vaani:events'], 'lenient: a room that is none';
    is $http->post('/strict', '{"event":"campaign.call","room_name":["x"]}')->status, 422, 'strict: refused';
    deliver('{"event":"campaign.call"}', '/stream');
    is_deeply $json->decode($client->cmd('XREVRANGE', 'events', '+', '-', 'COUNT', 1)->[0][1][1])->{payload},
        { event => 'campaign.call' }, 'the stream has it';
    $client->cmd('DEL', 'events');
    published();
};

# --- what else a message says

subtest 'id' => sub {
    my $id = sub ($body, $uri = '/vaani', @headers) {
        deliver($body, $uri, @headers);
        my @messages = map { $json->decode($_->[1])->{id} } published();
        is $messages[1], $messages[0], 'the same on both channels' if @messages > 1;
        return $messages[0];
    };
    my $room = new_room();
    my %seen;

    for my $event (@EVENTS, 'brand_new') {
        my $random = $id->(event($event, room => $room));
        like $random, qr/^[0-9a-f]{32}$/, "$event: random";
        ok !$seen{$random}++, '... and no other has it';
        is $id->(event($event, room => $room, x => 1), '/vaani', 'webhook-id' => "msg_$event"), "msg_$event", '... or as it was sent';
    }

    is $id->(event('call_ended', room => $room, x => 2), '/vaani', 'Webhook-Id' => qq(a"b\\c\xc3\xa9\xff)),
        "a\"b\\c\x{e9}\x{fffd}", 'any bytes';
    is $id->(event('call_ended', room => $room, x => 3), '/id?id=one', 'Webhook-Id' => 'two'), 'one x', 'vaani_delivery_id';
    like $id->(event('call_ended', room => $room, x => 4), '/id/off', 'Webhook-Id' => 'two'), qr/^[0-9a-f]{32}$/,
        '... without a value';
};

subtest 'repaired' => sub {
    my $message = sub ($body, $uri = '/vaani') {
        deliver($body, $uri);
        my @published = published();
        return $published[0][1];
    };
    my $room = new_room();
    my $head = qq({"event":"call_ended","room_name":"$room");

    unlike $message->(qq($head,"x":"NaN"})), qr/repaired/, 'not where nothing is';

    for my $case (
        [ 'a byte order mark', qq(\xef\xbb\xbf$head,"a":1}), qq($head,"a":1}) ],
        [ 'NaN',               qq($head,"b":NaN}),          qq($head,"b":null}) ],
        [ '-Infinity, deep',   qq($head,"c":[{"d":[-Infinity,Infinity]}]}), qq($head,"c":[{"d":[null,null]}]}) ],
        [ 'not UTF-8',         qq($head,"e":"\xff \xe2\x82 \xf0\x9f\x98 \xc0\xaf"}),
            qq($head,"e":"\xef\xbf\xbd \xef\xbf\xbd \xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd"}) ],
        [ 'what looks like it in a string', qq(\xef\xbb\xbf$head,"f":"\\"NaN, Infinity\\\\"}), qq($head,"f":"\\"NaN, Infinity\\\\"}) ],
        [ 'and line breaks',   qq(\xef\xbb\xbf\n$head,\r\n"g":NaN\n}\n), qq( $head,  "g":null } ) ],
    ) {
        my ($name, $sent, $payload) = @$case;
        like $message->($sent), qr/,"key":"vaani:call:$room","repaired":true,"payload":\Q$payload\E\}\z/, $name;
        is $http->post('/strict', $sent)->status, 400, '... strict refuses it';
    }

    like $message->(qq({"event":"brand_new","x":NaN})),
        qr/^\{"id":"\w+","event":"brand_new","known":false,"received_at":\d+,"repaired":true,"payload":\{"event":"brand_new","x":null\}\}\z/,
        'an unknown event';

    # A name that was repaired could be that of another call.
    for my $text ("\"r\xff\"", "\"\xc3\"", "\"\xed\xa0\xbd\"") {
        for my $member ('"room_name":', '"call_id":', '"data":{"room_name":', '"data":{"call_id":') {
            my $response = $http->post('/vaani', qq({"event":"call_ended",$member$text) . ($member =~ /\{/ ? '}}' : '}'));
            is $response->status, 422, "$member refused";
            like $response->body, qr/must be valid UTF-8/, '... for that';
        }
    }
    like $message->("{\"event\":\"call_ended\",\"room_name\":\"\xff\",\"data\":{\"call_id\":\"$room-2\"}}"),
        qr/"room_name":"$room-2"/, 'another name of the call stands in';

    # Half an emoji is legal JSON, and no repair.
    my $body = event('call_postprocessing', room => $room, summary => \'"\ud83d x\udc00"');
    my $half = $message->($body);
    like $half, qr/"payload":\Q$body\E\}\z/, 'lone surrogates: untouched in the payload';
    unlike $half, qr/repaired/, '... not repaired';
    is $client->cmd('HGET', "vaani:call:$room", 'summary'), "\xef\xbf\xbd x\xef\xbf\xbd", '... U+FFFD in the hash';
    is $http->post('/strict', event('call_postprocessing', room => $room, summary => \'"\ud83d y"'))->status, 200, '... strict, too';
    published();
};

# --- channels

subtest 'vaani_channel' => sub {
    my $room;
    my $event = sub ($name, $uri, @headers) {
        $room = new_room();
        deliver(event($name, room => $room), $uri, @headers);
        return channels();
    };

    is_deeply $event->('call_started', '/vaani'), [ 'vaani:events', "vaani:room:$room" ], 'the default';
    is_deeply $event->('call_started', '/one'), ['calls'], 'replaces it';
    is_deeply $event->('call_started', '/off'), [], 'off';
    is $client->cmd('HGET', "vaani:call:$room", 'seq'), 1, '... is still a transition';
    is_deeply $event->('brand_new', '/off'), [], '... and an unknown event is taken';
    is_deeply $event->('call_failed', '/variables?a=%20x'), [ 'all', 'event call_failed', "{$room} %20x", 'alerts' ],
        'variables';
    is_deeply $event->('call_ringing', '/variables'), [ 'all', 'event call_ringing', "{$room} " ],
        'an empty one is left out';
    is_deeply $event->('brand_new', '/variables'), [ 'all', 'event brand_new', "{$room} ", 'alerts' ],
        'for an unknown event';
    is_deeply $event->('call_ringing', '/empty'), [], 'all are empty';
    is $client->cmd('HGET', "vaani:call:$room", 'seq'), 1, '... is still a transition';
    is_deeply $event->('call_rejected', '/empty'), ['alerts'], 'all but one';
    is_deeply $event->('call_started', '/many'), [ map { "c$_" } 1 .. 100 ], 'a hundred';
    is_deeply $event->('brand_new', '/many'), [ map { "c$_" } 1 .. 100 ], '... for an unknown event';

    my @host = (Host => 'channels');
    is_deeply $event->('call_started', '/vaani', @host), [qw(outer other)], 'inherited';
    is_deeply $event->('call_started', '/inner', @host), ['inner'], 'replaced';
    is_deeply $event->('call_started', '/off', @host), [], 'switched off';
};

# Redis has the transition, so the answer is 200. Its subscribers miss it, and the
# log says so.
subtest 'a channel that the ACL refuses' => sub {
    my $room = new_room();
    my $mark = $nginx->log_mark;

    deliver(event('call_ringing', room => $room), '/narrow');
    is_deeply channels(), ['vaani:events'], 'the allowed one gets it';
    is $client->cmd('HGET', "vaani:call:$room", 'seq'), 1, 'it is a transition';
    ok $nginx->wait_log(qr/\[error\].*vaani: .*publish/, 5, $mark), 'the log says so';
    is $http->post('/narrow', event('call_ringing', room => $room))->body, qq({"status":"duplicate"}\n), 'no second time';

    # Sent again it would be published again, on the allowed one and the stream.
    # The log says so once in ten seconds, see t/http/log-pace.t.
    deliver(event('brand_new', room => $room), '/narrow');
    is_deeply channels(), ['vaani:events'], 'an unknown event likewise';
};

# --- the stream

subtest 'vaani_stream' => sub {
    my $room = new_room();
    my $stream = sub ($key) { return [ map { $_->[1] } @{ $client->cmd('XRANGE', $key, '-', '+') } ] };

    my @bodies = (call_path('outbound-answered/transfer-failed', $room), event('brand_new', room => $room));
    for (@bodies) {
        deliver($_, '/stream');
        is $http->post('/stream', $_)->body, qq({"status":"duplicate"}\n), 'again' if !/brand_new/;
    }

    my @messages = map { $_->[1] } grep { $_->[0] eq 'vaani:events' } published();
    is @messages, @bodies, 'published';
    is_deeply $stream->('events'), [ map { [ message => $_ ] } @messages ], 'the stream has the same messages';
    is_deeply $client->cmd('PTTL', 'events'), -1, 'it does not expire';

    deliver(event('call_ended', room => $room, x => $_), '/stream/3') for 1 .. 5;
    @messages = map { $_->[1] } grep { $_->[0] eq 'vaani:events' } published();
    is_deeply $stream->('three'), [ map { [ message => $_ ] } @messages[ 2 .. 4 ] ], 'maxlen=3';
    deliver(event('brand_new', room => $room), '/stream/3');
    @messages = (@messages[ 3, 4 ], map { $_->[1] } grep { $_->[0] eq 'vaani:events' } published());
    is_deeply $stream->('three'), [ map { [ message => $_ ] } @messages ], '... also with an unknown event';

    deliver(event('call_ended', room => $room, y => 1), '/stream/host?a=1', Host => 'tenant');
    is $client->cmd('XLEN', 'tenant 1'), 1, 'variables';
    is_deeply channels(), [], '... and no channel';

    my $keys = join ' ', sort @{ $client->cmd('KEYS', '*') };
    deliver(event('call_ended', room => $room, y => 2), '/stream/none');
    is_deeply channels(), [ 'vaani:events', "vaani:room:$room" ], 'an empty name is no stream';
    is join(' ', sort @{ $client->cmd('KEYS', '*') }), $keys, '... makes no key';

    deliver(event('call_ended', room => $room, y => 3), '/vaani', Host => 'stream');
    is $client->cmd('XLEN', 'outer'), 1, 'inherited';
    deliver(event('call_ended', room => $room, y => 4), '/off', Host => 'stream');
    is $client->cmd('XLEN', 'outer'), 1, 'switched off';
    published();
};

subtest 'state, stream and publication: all or nothing' => sub {
    my $room = new_room();
    my $key = "vaani:call:$room";
    my $body = event('call_started', room => $room);
    my $unavailable = sub ($name) {
        my $response = $http->post('/stream', $body);
        is $response->status, 503, $name;
        ok $response->header('Retry-After'), '... Retry-After';
        is_deeply [published()], [], '... nothing is published';
    };

    $client->cmd('RENAME', 'events', 'kept');
    $client->cmd('SET', 'events', 'not a stream');
    $unavailable->('the stream cannot be written to');
    is $client->cmd('EXISTS', $key), 0, '... no hash';

    $client->cmd('RENAME', 'kept', 'events');
    my $length = $client->cmd('XLEN', 'events');
    $client->cmd('SET', $key, 'not a hash');
    $unavailable->('the hash cannot be written to');
    is $client->cmd('GET', $key), 'not a hash', '... the key is untouched';
    is $client->cmd('XLEN', 'events'), $length, '... the stream, too';

    $client->cmd('DEL', $key);
    deliver($body, '/stream');
    is $client->cmd('HGET', $key, 'seq'), 1, 'state';
    is $client->cmd('XLEN', 'events'), $length + 1, 'stream';
    is_deeply channels(), [ 'vaani:events', "vaani:room:$room" ], 'publication';
};

# --- room names

subtest 'room names' => sub {
    my @names = (
        q("double" 'single' \\backslash), '{braces} [brackets] (parentheses)', 'glob*?[a-z]\\*', 'with  spaces ', ' ',
        ':', ':call::room:', '%s %d $1 ${x} #{y} ..', 'a/b?c&d=e#f', '<script>', '-1', '0', 'null', "caf\x{e9}",
        "\x{915}\x{932}\x{94d}\x{92a}\x{928}\x{93e}", "\x{1f4de}\x{10fffd}", "\x{2028}\x{feff}\x{a0}",
        'x' x 256, "\x{e9}" x 128, "\x{1f4de}" x 64, '@' . 'events',
    );

    for my $name (@names) {
        utf8::encode(my $bytes = $name);
        my $body = event('call_started', room => $name);
        deliver($body);

        my $short = length $bytes > 30 ? substr($bytes, 0, 30) . '...' : $bytes;
        my $hash = $client->hgetall("vaani:call:$bytes");
        is $hash->{room_name}, $bytes, $short;

        my @published = published();
        my $expected = message($body, id => id_of(@published), seq => 1, event => 'call_started', room => $name,
            status => 'dialing', received_at => $hash->{created_at});
        is_deeply \@published, [ map { [ $_ => $expected ] } 'vaani:events', "vaani:room:$bytes" ], '... message';
        is $json->decode($expected)->{key}, "vaani:call:$name", '... key';
    }

    is scalar(grep { !/^vaani:call:/ } @{ $client->cmd('KEYS', '*vaani*') }), 0, 'no stray keys';

    # A pattern for some is a name like any other here.
    my $subscriber = $redis->client->subscribe('vaani:room:g*');
    deliver(event('call_started', room => $_)) for qw(ga g* gb);
    my @messages = ($subscriber->next_messages(1), $subscriber->next_message(0) // ());
    is_deeply [ map { $json->decode($_->{payload})->{room_name} } @messages ], ['g*'], 'no patterns';
    published();

    for (
        [ '"a\nb"', 'a newline' ], [ '"a\rb"', 'CR' ], [ '"\u0000"', 'U+0000' ], [ '"a\u0000b"', 'U+0000 inside' ],
        [ '"\u001f"', 'a control character' ], [ '"\u007f"', 'DEL' ], [ '"\u0085"', 'a C1 control character' ],
        [ '"' . 'x' x 257 . '"', '257 bytes' ], [ '"' . '\u00e9' x 129 . '"', '258 bytes' ], [ '""', 'no bytes' ],
    ) {
        my ($text, $name) = @$_;
        is $http->post('/vaani', event('call_started', room => \$text))->status, 422, $name;
    }
    is $http->post('/vaani', event('call_started', room => \"\"a\nb\""))->status, 400, 'a newline as it is';
    is_deeply [published()], [], 'nothing of these is published';
};

# --- prefixes

subtest 'a prefix with a variable separates tenants' => sub {
    my @tenants = qw(one.example two.example);
    my $body = event('call_started', room => 'r');

    for my $host (@tenants) {
        deliver($body, '/vaani', Host => $host);
        my $hash = $client->hgetall("$host:call:r");
        is $hash->{seq}, 1, "$host: a call of its own";
        my @published = published();
        my $expected = message($body, id => id_of(@published), seq => 1, event => 'call_started', room => 'r',
            status => 'dialing', received_at => $hash->{created_at}, key => "$host:call:r");
        is_deeply \@published, [ map { [ $_ => $expected ] } "$host:events", "$host:room:r" ], '... channels';
        is $client->cmd('XLEN', "$host:stream"), 1, '... stream';
    }

    deliver(event('call_ended', room => 'r'), '/vaani', Host => 'one.example');
    is $client->cmd('HGET', 'one.example:call:r', 'status'), 'ended', 'one has ended';
    is $client->cmd('HGET', 'two.example:call:r', 'status'), 'dialing', '... the other not';
    is_deeply channels(), [ 'one.example:events', 'one.example:room:r' ], '... and is not told';
};

subtest 'any bytes in a prefix' => sub {
    for (
        [ '/control', '', "a\r\n\tb" ],
        [ '/literal', '', 'q"\\{}' ],
        [ '/header', '"\\{*} ', 'p"\\{*}' ],
        [ '/header', "\xc3\xa9\xf0\x9f\x93\x9e", "p\xc3\xa9\xf0\x9f\x93\x9e" ],
        [ '/header', "\xff\xfe\xc3", "p\xff\xfe\xc3", "p\x{fffd}\x{fffd}\x{fffd}" ],
        [ '/header', 'x' x 500, 'p' . 'x' x 500 ],
    ) {
        my ($uri, $value, $prefix, $shown) = @$_;
        my $name = "$uri " . $prefix =~ s/[^ -~]/./gr;

        deliver(event('call_started', room => 'r'), $uri, Host => 'prefixes', 'X-Prefix' => $value);
        is $client->cmd('HGET', "$prefix:call:r", 'seq'), 1, $name;

        my @published = published();
        is_deeply [ map { $_->[0] } @published ], [ "$prefix:events", "$prefix:room:r" ], '... channels';
        if (!defined $shown) {
            $shown = $prefix;
            utf8::decode($shown);
        }
        is eval { $json->decode($published[0][1])->{key} } // $@, "$shown:call:r", '... key';
    }
};

# --- sharded channels

subtest 'sharded channels' => sub {
    my $sharding = Vaani::Test::Redis->start(
        acl => [ Vaani::Test::ACL::rights('vaani'), qw(&plain* &s:* &second &last ~stream +xadd),
            @{ (Vaani::Test::ACL::documented('vaani'))[3] } ],
        config => ['user deaf on >sesame ~* +@all -spublish resetchannels &vaani:* &plain &s:*'],
    );
    my $old = Vaani::Test::Redis->start(acl => ['&plain'], config => ['rename-command SPUBLISH ""']);

    my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
        vaani_redis @{[ $sharding->url ]};
        server {
            listen unix:%%SOCK%%;
            location = /sharded {
                vaani_webhook;
                vaani_channel "s:\$vaani_event" sharded;
                vaani_channel plain:\$vaani_room;
                vaani_channel \$arg_more sharded;
                vaani_channel last;
            }
            location = /only   { vaani_webhook; vaani_channel s:only sharded; vaani_stream stream; }
            location = /queued { vaani_webhook; vaani_channel plain; vaani_channel s:queued sharded; vaani_spool %%DIR%%/spool; }
            location = /old    { vaani_webhook; vaani_redis @{[ $old->url ]}; vaani_channel plain; vaani_channel s:x sharded; }
            location = /deaf   {
                vaani_webhook;
                vaani_redis unix:@{[ $sharding->socket ]}?user=deaf;
                vaani_redis_password_file %%TMPDIR%%/password;
                vaani_channel s:x sharded;
                vaani_channel plain;
            }
            add_header X-Reason \$vaani_reason always;
        }
CONF
    local $http = $nginx->http;
    my $client = $sharding->client;
    my $plain = $sharding->client->psubscribe('*');
    my $sharded = $sharding->client->ssubscribe(qw(s:call_started s:call_ended s:new_one second s:only s:queued s:x));

    # All up to now, those of either kind in their order.
    my $got = sub () {
        $client->cmd('PUBLISH', 'end', '');
        $client->cmd('SPUBLISH', 'second', 'end');
        my (@plain, @sharded);
        while (my $message = $plain->next_message) {
            last if $message->{channel} eq 'end';
            push @plain, $message;
        }
        while (my $message = $sharded->next_message) {
            last if $message->{payload} eq 'end';
            push @sharded, $message;
        }
        my %payloads = map { $_->{payload} => 1 } @plain, @sharded;
        return join(' ', map({ $_->{channel} } @plain), '-', map { $_->{channel} } @sharded) . ', ' . keys %payloads;
    };

    my $room = new_room();
    my $started = event('call_started', room => $room);
    deliver($started, '/sharded');
    is $got->(), "plain:$room last - s:call_started, 1", 'an event';
    deliver(event('call_ended', room => $room), '/sharded?more=second');
    is $got->(), "plain:$room last - s:call_ended second, 1", '... with one more';
    is $http->post('/sharded', $started)->body, qq({"status":"duplicate"}\n), 'a duplicate';
    is $got->(), '-, 0', '... is not published';
    deliver('{"event":"new_one"}', '/sharded');
    is $got->(), 'plain: last - s:new_one, 1', 'an event without a call';

    deliver(event('call_started', room => new_room()), '/only');
    is $got->(), '- s:only, 1', 'no other channel';
    is $client->cmd('XLEN', 'stream'), 1, '... and a stream';

    # Events that waited are published on the same channels.
    $client->cmd('CONFIG', 'SET', 'maxmemory', 1);
    my $waits = event('call_started', room => $room = new_room());
    is $http->post('/queued', $waits)->body, qq({"status":"queued"}\n), 'queued';
    $client->cmd('CONFIG', 'SET', 'maxmemory', 0);
    my $message = $sharded->next_message(30) // {};
    is $message->{channel}, 's:queued', '... comes later';
    like $message->{payload}, qr/"replayed":true/, '... replayed';
    is $got->(), 'plain -, 1', '... on the other one too';

    for my $uri (qw(/old /deaf)) {
        my $watch = $uri eq '/old' ? $old->client->subscribe('plain') : $plain;
        my $response = $http->post($uri, event('call_started', room => new_room()));
        is join(' ', $response->status, $response->body, $response->header('X-Reason')), qq(200 {"status":"ok"}\n not_published),
            "$uri: refused";
        is +($watch->next_message // {})->{channel}, 'plain', '... and the other channel has it';
    }
    $nginx->log_like(qr/vaani: Redis refused to publish an event/, 'the log says so');
};

# A cluster of one node: it has all slots, and tells keys of different ones apart.
subtest 'names in a cluster' => sub {
    my $port = Vaani::Test::Socket::free_port();
    my $node = Vaani::Test::Redis->start(tcp => 1, acl => [qw(~* &* +@all)],
        config => [ 'cluster-enabled yes', "cluster-port $port", 'cluster-announce-ip 127.0.0.1' ]);
    my $client = $node->client;
    $client->cmd('CLUSTER', 'ADDSLOTSRANGE', 0, 16383);
    ok wait_for(sub { $client->cmd('CLUSTER', 'INFO') =~ /cluster_state:ok/ }), 'a cluster' or return;

    my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
        vaani_redis redis://127.0.0.1:@{[ $node->port ]} cluster;
        vaani_partitions 4;
        server {
            listen unix:%%SOCK%%;
            location = /plain  { vaani_webhook; vaani_prefix p; }
            location = /off    { vaani_webhook; vaani_prefix p; vaani_channel off; }
            location = /stream { vaani_webhook; vaani_prefix "s:{\$vaani_partition}"; vaani_stream "{\$vaani_partition}:stream"; }
            location = /shard  {
                vaani_webhook;
                vaani_prefix "c:{\$vaani_partition}";
                vaani_channel all;
                vaani_channel "{\$vaani_partition}:events" sharded;
            }
        }
CONF
    local $http = $nginx->http;
    my $all = $node->client->psubscribe('*');
    my $sharded = $node->client;
    $sharded->ssubscribe("{$_}:events") for 0 .. 3;
    my $message = sub { return $json->decode(($_[0]->next_message // {})->{payload} // 'null') // {} };

    for my $n (1 .. 8) {
        my $room = new_room();
        deliver(event('call_started', room => $room), $_) for qw(/plain /stream /shard);
        is $message->($all)->{key}, "p:call:$room", 'the key';
        like $message->($sharded)->{key}, qr/^c:\{[0-3]\}:call:\Q$room\E$/, 'a sharded channel';
        $message->($all) for 1 .. 4;
    }
    my $length = 0;
    $length += $client->cmd('XLEN', "{$_}:stream") for 0 .. 3;
    is $length, 8, 'the streams of all partitions';

    # Which key an event without a call has is seen by what the script reads there.
    $client->cmd('HSET', @$_, 'status', 'x')
        for [ 'p:call:{p:events}', 'seq', 1 ], [ 'p:call:', 'seq', 2 ], [ 's:{0}:call:', 'seq', 3 ], [ 'c:{0}:call:', 'seq', 4 ];

    for ([ '/plain', 1 ], [ '/stream', 3 ], [ '/shard', 4 ]) {
        my ($uri, $seq) = @$_;
        deliver('{"event":"new_one"}', $uri);
        is $message->($all)->{seq}, $seq, "an event without a call: $uri";
    }
    deliver('{"event":"new_one"}', '/off');
    is_deeply $client->cmd('HGETALL', 'p:call:{p:events}'), [qw(seq 1 status x)], 'nothing is written there';
};

done_testing;
