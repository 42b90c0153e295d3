# Several events in one body: each is a transition of its own, and there is one
# answer.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP ();
use Time::HiRes ();
use Vaani::Test::Events;
use Vaani::Test::FakeRedis;
use Vaani::Test::HTTP qw(format_request);

use constant UNAVAILABLE => qr/^\{"type":"about:blank","title":"Service Unavailable","status":503,.*\}\n\z/;

my @RIGHTS = Vaani::Test::ACL::rights('vaani');

# A user who may do everything but with the calls of room names that begin
# with "denied".
my $redis = Vaani::Test::Redis->start(
    config => [ 'user narrow on >sesame resetkeys ~vaani:call:a* ~vaani:call:r* &* +@all' ],
);
my $client = $redis->client;

spew(tmpdir() . "/password", "sesame\n");
chmod 0600, tmpdir() . "/password";

my $late = Vaani::Test::Redis->start;
my $spooled = Vaani::Test::Redis->start;

# Never answers.
my $backend = Vaani::Test::FakeRedis->start(
    on_connect => sub ($sock, $self, $n) {
        sysread $sock, my $bytes, 100_000;
        $self->report('asked');
        1 while sysread $sock, $bytes, 100_000;
        $self->report('gone');
    }
);

my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    client_max_body_size 20m;
    keepalive_requests 100000;
    log_format vaani '\$status \$vaani_result \$vaani_reason \$vaani_event \$vaani_room';
    access_log %%DIR%%/access.log vaani;
    vaani_redis_connect_timeout 300ms;

    server {
        listen unix:%%SOCK%%;
        vaani_redis @{[ $redis->url ]};

        location = /hook   { vaani_webhook; }
        location = /strict { vaani_webhook; vaani_validation strict; }
        location = /done   { access_log off; return 204; }
        location = /known  { vaani_webhook; vaani_unknown_event reject; }
        location = /id     { vaani_webhook; vaani_delivery_id \$arg_id; }
        location = /late   { vaani_webhook; vaani_redis @{[ $late->url ]}; }
        location = /narrow {
            vaani_webhook;
            vaani_redis unix:@{[ $redis->socket ]}?user=narrow;
            vaani_redis_password_file %%TMPDIR%%/password;
            vaani_spool %%DIR%%/narrow;
        }
        location = /spooled {
            vaani_webhook;
            vaani_redis @{[ $spooled->url ]};
            vaani_redis_timeout 20s;
            vaani_spool %%DIR%%/spool;
        }
        location = /full {
            vaani_webhook;
            vaani_redis @{[ $late->url ]};
            vaani_spool %%DIR%%/full max=64k;
        }
        location = /well         { vaani_webhook; vaani_redis_timeout 20s; }
        location = /well-spooled { vaani_webhook; vaani_redis @{[ $spooled->url ]}; vaani_redis_timeout 20s; }
        location = /app          { mirror /copy; proxy_pass http://unix:@{[ $backend->socket ]}:; }
        location = /copy         { internal; vaani_webhook; vaani_redis_timeout 20s; }
        location = /app-spooled  { mirror /copy-spooled; proxy_pass http://unix:@{[ $backend->socket ]}:; }
        location = /copy-spooled {
            internal;
            vaani_webhook;
            vaani_redis @{[ $spooled->url ]};
            vaani_redis_timeout 20s;
            vaani_spool %%DIR%%/spool;
        }
        # Authenticated and refused events are kept.
        location = /kept {
            vaani_webhook;
            vaani_token \$arg_token open-sesame;
            vaani_spool %%DIR%%/kept;
        }
    }
CONF

my $http = $nginx->http(retry => 0);
my $all = $redis->client->psubscribe('*');
my $json = JSON::PP->new->utf8->boolean_values(0, 1);

sub seq ($room, $from = $client) { return $from->cmd('HGET', "vaani:call:$room", 'seq') // 0 }
sub body (@events) { return '{"event":"call_ringing","events":[' . join(',', @events) . ']}' }

# The messages on vaani:events up to now, and what else there was, if anything.
sub messages ($from = $all, $with = $client) {
    return map { $_->[1] } grep { $_->[0] eq 'vaani:events' } $from->published($with);
}

sub answer ($response) { return $response->status . ' ' . $response->body }

sub is_answer ($response, $status, $events, $name, %more) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $refused = $more{refused} ? ",\"refused\":$more{refused}" : '';
    return is answer($response), qq(200 {"status":"$status","events":$events$refused}\n), $name;
}

sub is_refused ($response, $status, $field, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is $response->status, $status, "$name: $status" or diag $response->body;
    return is $response->json->{field}, $field, '... field';
}

# The last line of the access log is that of the last request: it is logged before
# the next one of its connection is read.
sub logged () {
    $http->get('/done');
    my ($line) = slurp($nginx->dir . '/access.log') =~ /^(.*)\n\z/m;
    return $line;
}

subtest 'each is a transition of its own, in order' => sub {
    my $room = new_room();
    my @events = call_path('outbound-answered/transfer-failed-then-successful', $room);
    is_answer $http->post('/hook', body(@events), 'Webhook-Id' => 'all'), 'ok', scalar @events, 'a whole call';

    my $call = $client->hgetall("vaani:call:$room");
    is $call->{seq}, @events, 'seq';
    is $call->{status}, 'ended', 'status';
    is $call->{last_event}, 'call_postprocessing', 'last_event';
    is $call->{transfer_status}, 'successful', 'transfer_status';
    is $call->{transfers_initiated}, 2, 'transfers_initiated';

    my @messages = messages();
    is @messages, @events, 'as many messages';
    for my $n (0 .. $#events) {
        my $message = $json->decode($messages[$n]);
        is $message->{seq}, $n + 1, 'seq ' . ($n + 1);
        is $message->{id}, "all.$n", '... id';
        is $message->{late}, 0, '... not late';
        is $message->{event}, $json->decode($events[$n])->{event}, '... event';
        ok $messages[$n] =~ /,"payload":\Q$events[$n]\E\}\z/, '... the payload is its own bytes';
    }

    # Each has a millisecond of its own: of equal ones the digest would decide.
    my @at = map { $json->decode($_)->{received_at} } @messages;
    is_deeply [ map { $_ - $at[0] } @at ], [ 0 .. $#events ], 'received one after the other';
    cmp_ok $at[-1], '<=', 1000 * Time::HiRes::time(), '... none of them in the future';

    my @fields = qw(status outcome transfer_status call_duration_ms phone_number end_reason transcript seq);
    my $other = new_room();
    $http->post('/hook', $_) for call_path('outbound-answered/transfer-failed-then-successful', $other);
    my $singly = $client->hgetall("vaani:call:$other");
    is_deeply { map { $_ => $call->{$_} } @fields }, { map { $_ => $singly->{$_} } @fields }, 'as if they came singly';
    messages();
};

subtest 'several calls' => sub {
    my @rooms = map { new_room() } 1 .. 100;
    is_answer $http->post('/hook', body(map { event('call_ringing', room => $_) } @rooms)), 'ok', 100, 'a hundred';
    is_deeply [ map { seq($_) } @rooms ], [ (1) x 100 ], 'all of them';
    is_deeply [ map { $json->decode($_)->{room_name} } messages() ], \@rooms, '... in order';

    my $room = new_room();
    is_answer $http->post('/hook', body(event('call_ringing', room => $room))), 'ok', 1, 'one';
    is seq($room), 1, '... is applied';
    messages();
};

subtest 'an element without a name takes the outer one' => sub {
    my ($one, $two) = map { new_room() } 1, 2;
    my $element = qq({"data":{"call_id":"$one","call_duration":7}});
    my $body = qq({"ev\\u0065nt":"call_\\u0065nded","call_id":"outer","events":[$element,)
        . qq({"event":null,"room_name":"$two","call_duration":8},{"event":"call_ringing","room_name":"$two"}]});

    for my $uri (qw(/hook /strict)) {
        is_answer $http->post($uri, $body), $uri eq '/hook' ? 'ok' : 'duplicate', 3, $uri;
    }
    is $client->cmd('HGET', "vaani:call:$one", 'call_duration_ms'), 7000, 'applied';
    is $client->cmd('HGET', "vaani:call:$two", 'call_duration_ms'), 8000, '... null, too';
    is $client->cmd('EXISTS', 'vaani:call:outer'), 0, 'the name of a call is not taken over';

    my @messages = messages();
    is_deeply [ map { $json->decode($_)->{event} } @messages ], [qw(call_ended call_ended call_ringing)], 'in messages';
    ok $messages[0] =~ /,"payload":\Q$element\E\}\z/, 'the payload is as it was sent';

    is_refused $http->post($_, '{"events":[{"room_name":"r"}]}'), 422, '/events/0/event', "$_: neither has one"
        for qw(/hook /strict);
    is_refused $http->post('/hook', '{"event":"","events":[{"room_name":"r","event":1}]}'), 422, '/events/0/event',
        'one that is no string';
    is_answer $http->post('/hook', qq({"events":[) . event('call_ringing', room => new_room()) . ']}'), 'ok', 1,
        'no outer one';
    is_answer $http->post('/hook', qq({"event":[],"events":[) . event('call_ringing', room => new_room()) . ']}'), 'ok', 1,
        'one that is none';
    messages();
};

subtest 'a retry of the whole' => sub {
    for my $headers ([], [ 'Webhook-Id' => 'msg_1' ]) {
        my ($one, $two) = map { new_room() } 1, 2;
        my @events = (
            map({ event($_, room => $one) } qw(call_started call_ringing user_picked_up_at)),
            event('call_ended', room => $two),
        );
        my $name = @$headers ? 'with one id for all' : 'without an id';

        is_answer $http->post('/hook', body(@events[ 0, 1 ]), @$headers), 'ok', 2, "$name: the first half";
        is_answer $http->post('/hook', body(@events), @$headers), 'ok', 4, 'half are duplicates';
        is_answer $http->post('/hook', body(@events), @$headers), 'duplicate', 4, 'all are duplicates' for 1, 2;
        is_deeply [ map { seq($_) } $one, $two ], [ 3, 1 ], 'applied once';
        is scalar(messages()), 4, '... and published once';
        is_answer $http->post('/hook', body(@events), 'Webhook-Id' => 'another'), 'ok', 4, 'another id' if @$headers;
        messages();
    }

    # Equal elements of one body are two deliveries with an id, else one.
    my $room = new_room();
    my $event = event('call_ringing', room => $room);
    is_answer $http->post('/hook', body($event, $event)), 'ok', 2, 'equal elements';
    is seq($room), 1, '... are one delivery';
    is_answer $http->post('/hook', body($event, $event), 'Webhook-Id' => 'x'), 'ok', 2, '... with an id';
    is seq($room), 3, '... two: its index is part of it';
    is_answer $http->post('/id?id=x', body($event)), 'duplicate', 1, 'vaani_delivery_id: the same';
    is_answer $http->post('/id?id=y', body($event)), 'ok', 1, '... another one';

    # Transfers, with an id.
    $room = new_room();
    my @transfers = map { event("human_transfer_$_", room => $room) } qw(initiated failed initiated successful);
    is_answer $http->post('/hook', body(@transfers), 'Webhook-Id' => 'msg'), 'ok', 4, 'transfers';
    is_answer $http->post('/hook', body(@transfers), 'Webhook-Id' => 'msg'), 'duplicate', 4, '... again';
    is seq($room), 4, '... are applied once';
    messages();
};

subtest 'unknown events among them' => sub {
    my $room = new_room();
    my $ringing = event('call_ringing', room => $room);

    is_answer $http->post('/hook', body('{"event":"new_one"}', $ringing)), 'ok', 2, 'accepted';
    my @messages = messages();
    like $messages[0], qr/^\{"id":"\w+\.0","event":"new_one","known":false,"received_at":\d+,"payload":\{"event":"new_one"\}\}\z/,
        '... without a room';
    like $messages[1], qr/^\{"id":"\w+\.1",/, '... and the known one';
    is_answer $http->post('/hook', body('{"event":"new_one"}', $ringing)), 'ok', 2, '... again: it is no duplicate';
    is_refused $http->post('/known', body($ringing, '{"event":"new_one"}')), 422, '/events/1/event', 'rejected';
    is_refused $http->post('/known', body($ringing, '{"event":"webhook_test"}')), 422, '/events/1/event',
        'webhook_test is one only as the event of the body';
    messages();
};

subtest 'refused, and not kept' => sub {
    my $room = new_room();
    my @good = map { event($_, room => $room) } qw(call_started call_ringing);
    my $bad = '{"event":"call_ended"}';

    for my $uri (qw(/hook /strict)) {
        is_refused $http->post($uri, body($bad, $good[0], '{"event":1}', $good[1])), 422, '/events/0/room_name',
            "$uri: the first that was refused";
        is logged(), '422 rejected missing_field call_ringing ' . $room, '... $vaani_result is the worst one';
        is seq($room), 2, '... the others are applied';
    }
    is scalar(messages()), 2, 'once';

    is_refused $http->post('/hook', body($good[0], $good[1], $bad)), 422, '/events/2/room_name', 'the last one';
    is_refused $http->post('/strict', body($good[0], event('call_ended', room => $room, call_duration => 'x'))), 422,
        '/events/1/call_duration', 'strict: a field';
    is_refused $http->post('/strict', body(qq({"event":"call_ended","data":{"call_id":"$room"}}))), 422,
        '/events/0/call_duration', 'strict: none';
    is_refused $http->post('/strict', body(qq({"event":"call_ended","data":{"call_id":"$room","call_duration":-1}}))), 422,
        '/events/0/data/call_duration', 'strict: a field in data';

    # Only strict looks for keys that are there twice, also in an element.
    my $twice = event('call_ringing', room => $room, x => 1) =~ s/"x"/"x":0,"x"/r;
    my $body = body($good[0], $twice);
    my $response = $http->post('/strict', $body);
    is $response->status, 400, 'strict: a key twice in an element';
    is $response->json->{detail}, 'duplicate key at byte ' . rindex($body, '"x"'), '... says where in the body';
    is_answer $http->post('/hook', $body), 'ok', 2, '... lenient does not mind';
    messages();
};

subtest 'refused, and kept' => sub {
    my $room = new_room();
    my $uri = '/kept?token=open-sesame';
    my @good = map { event($_, room => $room) } qw(call_started call_ringing);

    is_answer $http->post($uri, body('{"event":"call_ended"}', @good)), 'ok', 3, 'one of three', refused => 1;
    is logged(), "200 rejected missing_field call_ringing $room", '... $vaani_result is the worst one';
    is_answer $http->post($uri, body('{"event":"call_ended"}', @good, 1, '[]')), 'duplicate', 5, 'three of five', refused => 3;
    is_refused $http->post($uri, body('{"event":"call_ended"}', '{"event":1}')), 422, '/events/0/room_name',
        'all are refused, though kept';
    is_refused $http->post($uri, body('{"event":"call_ended"}')), 422, '/events/0/room_name', '... one that is all';
    is seq($room), 2, 'the good ones are applied';
    messages();
};

subtest 'all are refused' => sub {
    my $room = new_room();
    my $good = event('call_ringing', room => $room);

    for my $uri (qw(/hook /strict)) {
        for my $case (
            [ 'no call'                => ['{"event":"call_ended"}', '{}'],   '/events/0/room_name' ],
            [ 'nested'                 => [qq({"event":"call_ended","room_name":"$room","call_duration":1,"events":[$good]})],
                '/events/0/events' ],
            [ 'nested, the outer name' => [qq({"events":[$good]}), qq({"events":[$good]})],     '/events/0/events' ],
            [ 'no objects'             => [qw(1 "x" null true [] [{}])],      '/events/0' ],
            [ 'objects without a name' => [ '{"event":""}' ],                 '/events/0/room_name' ],
        ) {
            my ($name, $events, $field) = @$case;
            # An empty name is an unknown one, which needs no room.
            if ($name eq 'objects without a name') {
                is_answer $http->post($uri, body(@$events)), 'ok', 1, "$uri: an empty name is unknown";
                messages();
                next;
            }
            is_refused $http->post($uri, body(@$events)), 422, $field, "$uri: $name";
        }

        # An array or object in an element is not nested, if it is empty or no array.
        for my $none ('[]', '[ ]', 'null', '{}', '"x"', '1') {
            my $other = new_room();
            my $event = event('call_ringing', room => $other, events => \$none);
            is_answer $http->post($uri, body($event)), 'ok', 1, "$uri: \"events\":$none in an element is none";
            is seq($other), 1, '... it is applied';
            messages();
        }

        my $response = $http->post($uri, body(($good) x 101));
        is answer($response), qq(422 {"type":"about:blank","title":"Unprocessable Content","status":422,)
            . qq("detail":"events must not have more than 100 elements","field":"/events"}\n), "$uri: 101 elements";
        is_refused $http->post($uri, body(('{}') x 101)), 422, '/events', '... whatever they are';
        is_refused $http->post($uri, body((1) x 100_000)), 422, '/events', '... and however many';
    }
    is seq($room), 0, 'nothing is applied';
    is_deeply [messages()], [], '... nor published';
};

subtest 'what is no array of events counts as absent' => sub {
    for my $uri (qw(/hook /strict)) {
        for my $none ('[]', "[ \n\t]", 'null', '{}', '{"event":"call_ended"}', '"x"', '1', 'true') {
            my $room = new_room();
            my $body = event('call_ringing', room => $room, events => \$none);
            is answer($http->post($uri, $body)), qq(200 {"status":"ok"}\n), "$uri: \"events\":$none";
            is seq($room), 1, '... the event itself is applied';
            my ($message) = messages();
            like $message, qr/^\{"id":"[0-9a-f]{32}","event":"call_ringing"/, '... with a plain id';
        }
        is_refused $http->post($uri, '{"event":"call_ended","events":[]}'), 422, '/room_name', "$uri: and no call";
    }
};

subtest 'webhook_test: its events are samples' => sub {
    my $room = new_room();
    for my $uri (qw(/hook /strict /known)) {
        my $body = '{"event":"webhook_test","events":[' . join(',', call_path('outbound-answered/none', $room)) . ',1,{}]}';
        is answer($http->post($uri, $body)), qq(200 {"status":"ok","known":false}\n), $uri;
        my @messages = messages();
        is @messages, 1, '... one message';
        like $messages[0], qr/^\{"id":"\w{32}","event":"webhook_test","known":false,"received_at":\d+,"payload":\Q$body\E\}\z/, '... with all of it';
    }
    is_answer $http->post('/hook', '{"event":"webhook_test\u0000","events":[' . event('call_ringing', room => $room) . ']}'),
        'ok', 1, 'another name';
    is seq($room), 1, '... is not it';
    messages();
};

subtest 'without Redis and without a spool' => sub {
    my $room = new_room();
    my $mark = $nginx->log_mark;
    my @events = map { event($_, room => $room) } qw(call_started call_ringing);

    $late->stop;
    $nginx->wait_log(qr/vaani: .*@{[ $late->url =~ s{.*:}{}r ]}/, 10, $mark);
    for my $body (body(@events), body('{"event":"call_ended"}', @events)) {
        my $response = $http->post('/late', $body);
        is $response->status, 503, 'it is unavailable';
        like $response->body, UNAVAILABLE, '... says so';
        like $response->header('Retry-After'), qr/^[1-9][0-9]*$/, '... and when to try again';
        like logged(), qr/^503 unavailable redis_down /, '... $vaani_result is the worst one';
    }
    is_refused $http->post('/late', body('{"event":"call_ended"}')), 422, '/events/0/room_name', 'a bad one is refused all the same';

    $late->restart;
    my $response;
    ok wait_for(sub { ($response = $http->post('/late', body(@events)))->status == 200 }), 'Redis is back';
    is_answer $response, 'ok', 2, 'nothing had been claimed';
    is seq($room, $late->client), 2, '... and now it is applied';
    is_answer $http->post('/late', body(@events)), 'duplicate', 2, '... once';
};

subtest 'one that Redis does not take, without a spool' => sub {
    my ($room, $taken) = map { new_room() } 1, 2;
    my $body = body(event('call_ringing', room => $room), event('call_ringing', room => $taken),
        event('call_ended', room => $room));

    $client->cmd('SET', "vaani:call:$taken", 1);
    for (1, 2) {
        my $response = $http->post('/hook', $body);
        is $response->status, 503, 'one of three: 503';
        like $response->header('Retry-After'), qr/^[1-9][0-9]*$/, '... Retry-After';
        is seq($room), 2, '... the others are applied';
    }
    is scalar(messages()), 2, '... once';

    $client->cmd('DEL', "vaani:call:$taken");
    is_answer $http->post('/hook', $body), 'ok', 3, 'and again';
    is_answer $http->post('/hook', $body), 'duplicate', 3, '... and again';
    is_deeply [ map { seq($_) } $room, $taken ], [ 2, 1 ], 'all are applied once';
    messages();
};

subtest 'half of them to the spool' => sub {
    my ($room, $denied) = (new_room(), 'denied-' . new_room());
    my @events = (
        event('call_started', room => $denied), event('call_started', room => $room),
        event('call_ringing', room => $denied), event('call_ringing', room => $room),
    );

    is_answer $http->post('/narrow', body(@events)), 'ok', 4, 'the best of ok and queued';
    like logged(), qr/^200 queued \w+ call_ringing $room$/, '... $vaani_result is the worst one';
    is_deeply [ map { seq($_) } $room, $denied ], [ 2, 0 ], 'half are applied';
    is_answer $http->post('/narrow', body(@events)), 'queued', 4, 'the best of queued and duplicate';
    is scalar(messages()), 2, 'half are published';

    $client->cmd('ACL', 'SETUSER', 'narrow', 'allkeys');
    ok wait_for(sub { seq($denied) == 2 }), 'the others follow';
    my @messages = map { $json->decode($_) } messages();
    is_deeply [ map { "$_->{room_name} $_->{event} $_->{seq} " . ($_->{replayed} // 0) } @messages ],
        [ "$denied call_started 1 1", "$denied call_ringing 2 1" ], '... in order, each once';
    is_deeply [ map { $_->{id} =~ /^\w{32}\.([02])$/ } @messages ], [ 0, 2 ], '... with the ids of their delivery';

    # Until the spool knows that they were applied, events of the call go behind them.
    ok wait_for(sub { $http->post('/narrow', body(@events))->body eq qq({"status":"duplicate","events":4}\n) }),
        'a retry of the whole is recognized';
    is_deeply [ map { seq($_) } $room, $denied ], [ 2, 2 ], '... and applied once';
    messages();
};

subtest 'all of them to the spool' => sub {
    my $subscriber = $spooled->client->psubscribe('*');
    my ($room, $other) = map { new_room() } 1, 2;
    my @names = qw(call_started call_ringing user_picked_up_at call_ended);
    my @events = map { event($_, room => $room) } @names;
    # One takes its name from the body.
    my $inherited = qq({"room_name":"$other"});
    my @headers = ('Webhook-Id' => 'spooled');

    $spooled->stop;
    ok wait_for(sub { $http->post('/spooled', event('call_ended', room => 'mark'))->body =~ /queued/ }), 'Redis is gone';
    is_answer $http->post('/spooled', body(@events, $inherited), @headers), 'queued', 5, 'queued';
    is_answer $http->post('/spooled', body(@events, $inherited), @headers), 'queued', 5, '... and again';
    is_refused $http->post('/spooled', body(@events, '[]'), @headers), 422, '/events/4', 'one is refused, and not kept';

    $spooled->restart;
    my $stored = $spooled->client;
    $subscriber = $spooled->client->psubscribe('*');
    ok wait_for(sub { seq($room, $stored) == 4 && seq($other, $stored) == 1 }), 'Redis is back: they are applied';
    is $stored->cmd('HGET', "vaani:call:$other", 'last_event'), 'call_ringing', '... also what took its name from the body';
    ok wait_for(sub { $http->post('/spooled', body(@events, $inherited), @headers)->body eq qq({"status":"duplicate","events":5}\n) }),
        '... and recognized';
    is seq($room, $stored), 4, '... applied once';
};

subtest 'neither Redis nor the spool takes one' => sub {
    $late->stop;
    my $room = new_room();
    my $small = event('call_ringing', room => $room);
    my $big = event('call_postprocessing', room => $room, transcript => 'x' x 100_000);

    ok wait_for(sub { $http->post('/full', $small)->body =~ /queued/ }), 'one that fits is queued';
    my $response = $http->post('/full', body($small, $big));
    is $response->status, 503, 'one that does not: 503';
    like $response->body, UNAVAILABLE, '... says so';
    $late->restart;
    ok wait_for(sub { seq($room, $late->client) == 1 }), 'what was queued is applied';
    ok wait_for(sub { $http->post('/full', body($small, $big))->body eq qq({"status":"ok","events":2}\n) }), '... and the other one later';
    ok wait_for(sub { seq($room, $late->client) == 2 }), '... both once';
};

# The proxy sees that the client has closed, and the mirror ends with the
# request that it belongs to: its events are on their way to Redis then.
subtest 'the request is given up in the middle' => sub {
    for my $case ([ '', $redis ], [ '-spooled', $spooled ]) {
        my ($kind, $server) = @$case;
        my ($room, $other) = map { new_room() } 1, 2;
        my $body = body(map({ event($_, room => $room) } qw(call_started call_ringing call_ended)),
            event('call_ringing', room => $other), '{"event":"call_ended"}');

        ok wait_for(sub { $http->post("/well$kind", event('call_ended', room => 'well'))->body =~ /duplicate/ }),
            "copy$kind is well";
        $server->suspend;
        my $leaver = $nginx->http(retry => 0);
        $leaver->send_raw(join '', format_request(method => 'POST', uri => "/app$kind", body => $body));
        is $backend->next_report, 'asked', 'the request is under way';
        $leaver->close;
        is $backend->next_report, 'gone', '... and given up before Redis answers';
        $server->resume;

        my $stored = $server->client;
        ok wait_for(sub { seq($room, $stored) == 3 && seq($other, $stored) == 1 }), 'all of it is applied';
        is $http->get('/hook')->status, 405, 'the worker goes on';
    }
    messages();
};

subtest 'repaired' => sub {
    my $room = new_room();
    my $first = qq({"event":"call_ended","room_name":"$room","call_duration":NaN,"x":"\xff"});
    my $second = qq({"event":"call_ringing","room_name":"$room","y":-Infinity});
    my $body = "\xef\xbb\xbf" . body($first, $second);

    is_answer $http->post('/hook', $body), 'ok', 2, 'both are taken';
    my @messages = messages();
    like $messages[0], qr/,"repaired":true,"payload":\{"event":"call_ended","room_name":"$room","call_duration":null,"x":"\xef\xbf\xbd"\}\}\z/,
        'the first one';
    like $messages[1], qr/,"repaired":true,"payload":\{"event":"call_ringing","room_name":"$room","y":null\}\}\z/,
        'the second one';
    is_answer $http->post('/hook', $body), 'duplicate', 2, 'the same again';
    is answer($http->post('/hook', $first)), qq(200 {"status":"duplicate"}\n), '... the digest is that of the bytes as received';

    is_refused $http->post('/hook', body($second, qq({"event":"call_ended","room_name":"\xff"}))), 422,
        '/events/1/room_name', 'a name with a repair';
    is_answer $http->post('/hook', body(qq({"event":"x","z":NaN}), event('call_ringing', room => $room, z => 1))), 'ok', 2,
        '... a name without one, after one';
    $http->post('/strict', $body)->status == 400 or fail 'strict';
    messages();
};

subtest 'line breaks' => sub {
    my $room = new_room();
    my $body = "{\n \"event\": \"call_ringing\",\r\n \"events\": [\n  {\n   \"room_name\": \"$room\"\n  },\n  {\"room_name\":\n\"$room\",\"x\":1}\n ]\n}\n";
    is_answer $http->post('/hook', $body), 'ok', 2, 'an indented body';
    my @messages = messages();
    like $messages[0], qr/,"payload":\{    "room_name": "$room"   \}\}\z/, 'the first one is on one line';
    like $messages[1], qr/,"payload":\{"room_name": "$room","x":1\}\}\z/, '... and the second one';
};

ok $nginx->stop, 'stop';

done_testing;
