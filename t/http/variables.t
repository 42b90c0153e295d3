# The module's variables: in logs, headers and maps, and where the module
# itself takes variables.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP ();
use Vaani::Test::Events;
use Vaani::Test::Socket qw(pause);

my @NAMES = qw(event room result reason redis_time);
my $time = qr/^\d+\.\d{3}$/;

my $redis = Vaani::Test::Redis->start(
    acl => [ Vaani::Test::ACL::with_prefix('p/*'), qw(&early:* &c/* &call_* ~s/* +xadd) ],
);
my $client = $redis->client;

# Full, deaf to publications, never there, and one to be suspended.
my $full = Vaani::Test::Redis->start;
my $mute = Vaani::Test::Redis->start;
my $silent = Vaani::Test::Redis->start(acl => [ Vaani::Test::ACL::with_prefix('slow') ]);
$full->client->cmd('CONFIG', 'SET', 'maxmemory', 1);
$mute->client->cmd('ACL', 'SETUSER', 'mute', 'on', '>secret', '~*', 'resetchannels', '+@all');

my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    log_format plain '\$uri "\$vaani_event" "\$vaani_room" "\$vaani_result" "\$vaani_reason" '
        '"\$vaani_redis_time" \$status';
    log_format json escape=json '{"uri":"\$uri","event":"\$vaani_event","room":"\$vaani_room",'
        '"result":"\$vaani_result","reason":"\$vaani_reason","redis_time":"\$vaani_redis_time","status":\$status}';

    map \$vaani_result \$bad {
        ok      "";
        default 1;
    }
    map "\$vaani_event \$vaani_result" \$summary {
        "~^call_(?<what>\\w+) (?<how>\\w+)\$" "\$what-\$how";
        default                             other;
    }

    vaani_redis @{[ $redis->url ]};
    vaani_redis_connect_timeout 10s;
    vaani_redis_timeout 20s;

    server {
        listen unix:%%SOCK%%;
        keepalive_requests 100000;
        vaani_validation strict;

        access_log %%DIR%%/plain.log plain;
        access_log %%DIR%%/json.log json;
        access_log %%DIR%%/bad.log plain if=\$bad;

        add_header X-Event \$vaani_event always;
        add_header X-Room \$vaani_room always;
        add_header X-Result \$vaani_result always;
        add_header X-Reason \$vaani_reason always;
        add_header X-Redis_Time \$vaani_redis_time always;
        add_header X-Summary \$summary always;
        add_header X-Good \$vaani_result;

        location = /hook    { vaani_webhook; }
        location = /known   { vaani_webhook; vaani_unknown_event reject; }
        location = /down    { vaani_webhook; vaani_redis unix:%%DIR%%/none.sock; }
        location = /spooled { vaani_webhook; vaani_redis unix:%%DIR%%/none.sock; vaani_spool %%DIR%%/spool; }
        location = /full    { vaani_webhook; vaani_redis @{[ $full->url ]}; }
        location = /mute    {
            vaani_webhook;
            vaani_redis @{[ $mute->url ]}?user=mute;
            vaani_redis_password_file %%TMPDIR%%/mute;
        }
        location = /timeout { vaani_webhook; vaani_redis @{[ $silent->url ]}; vaani_redis_timeout 60ms; }
        location = /slow    { vaani_webhook; vaani_redis @{[ $silent->url ]}; vaani_prefix slow; }
        location = /other   { return 200 other; }
        location = /early   {
            vaani_webhook;
            add_header X-Nothing "";    # and none of the others
            vaani_channel "early:\$vaani_event:\$vaani_room:\$vaani_result\$vaani_reason\$vaani_redis_time";
        }
        location = /parts   {
            vaani_webhook;
            vaani_prefix "p/\$vaani_event";
            vaani_channel "c/\$vaani_room/\$vaani_event";
            vaani_channel \$vaani_event;
            vaani_channel \$vaani_reason;
            vaani_stream "s/\$vaani_room";
        }
    }
CONF

BEGIN {
    spew(tmpdir() . '/mute', "secret\n");
    chmod 0600, tmpdir() . '/mute' or die "chmod: $!\n";
}

my $http = $nginx->http;
my $json = JSON::PP->new->utf8->allow_nonref;

my %mark = (plain => 0, json => 0, bad => 0);

# The lines that a log got since the last call. A request is logged before the
# next one on its connection is read.
sub logged ($log) {
    $http->get('/other');
    $http->get('/other');
    my $path = $nginx->dir . "/$log.log";
    my $new = slurp($path, $mark{$log});
    $mark{$log} += length $new;
    return grep { !m{^(?:/other |\{"uri":"/other")} } split /(?<=\n)/, $new;
}

# nginx's own escaping.
sub unescape ($text) { return $text =~ s/\\x([0-9A-F]{2})/chr hex $1/ger }

# Values in the order of @NAMES; undef where there is none, or a regex.
sub shows ($name, $response, $status, @values) {
    my %wanted;
    @wanted{@NAMES} = @values;

    my @plain = logged('plain');
    my @json = logged('json');
    is $response->status, $status, "$name: status";
    is scalar(@plain), 1, '... one line';
    is scalar(@json), 1, '... one line of JSON';

    my ($uri, @logged) = $plain[0] =~ /^(\S+) "([^"]*)" "([^"]*)" "([^"]*)" "([^"]*)" "([^"]*)" $status$/;
    my %plain;
    @plain{@NAMES} = map { $_ eq '-' ? undef : unescape($_) } @logged;
    my $parsed = eval { $json->decode($json[0]) } // {};

    for my $variable (@NAMES) {
        my $header = $response->header("X-\u$variable");
        my $from_json = $parsed->{$variable} // '';
        utf8::encode($from_json);

        undef $from_json if $from_json eq '';

        for my $case ([ header => $header ], [ log => $plain{$variable} ], [ JSON => $from_json ]) {
            my ($where, $value) = @$case;
            my $wanted = $wanted{$variable};
            ref $wanted ? like($value, $wanted, "... \$vaani_$variable in the $where")
                : is($value, $wanted, "... \$vaani_$variable in the $where");
        }
    }
    return;
}

subtest 'ok and duplicate' => sub {
    for my $event (@EVENTS) {
        my $room = new_room();
        my $body = event($event, room => $room);
        shows $event, $http->post('/hook', $body), 200, $event, $room, 'ok', undef, $time;
        shows "$event again", $http->post('/hook', $body), 200, $event, $room, 'duplicate', undef, $time;
    }
    my $room = new_room();
    shows 'an unknown event', $http->post('/hook', event('new_one', room => $room)), 200,
        'new_one', $room, 'ok', undef, $time;

    for my $result (qw(ok duplicate)) {
        my $body = event('call_ended', room => $room, end_reason => "for $result");
        shows "by its id: $result", $http->post('/hook', $body, 'Webhook-Id' => 1), 200,
            'call_ended', $room, $result, undef, $time;
    }

    my $event = event('call_started', room => new_room(), phone_number => '+4912345');
    my $response = $http->post('/mute', $event);
    shows 'stored but not published', $response, 200, 'call_started', qr/^room-/, 'ok', 'not_published', $time;
};

subtest 'rejected' => sub {
    my $room = new_room();
    my $body = event('call_failed', room => $room);

    for my $method (qw(GET PUT HEAD OPTIONS)) {
        shows $method, $http->request(method => $method, uri => '/hook', body => $body), 405,
            undef, undef, 'rejected', 'method', undef;
    }
    shows 'media type', $http->post('/hook', $body, 'Content-Type' => 'text/plain'), 415,
        undef, undef, 'rejected', 'content_type', undef;
    shows 'charset', $http->post('/hook', $body, 'Content-Type' => 'application/json; charset=latin1'), 415,
        undef, undef, 'rejected', 'content_type', undef;
    shows 'content coding', $http->post('/hook', $body, 'Content-Encoding' => 'gzip'), 415,
        undef, undef, 'rejected', 'content_encoding', undef;

    shows 'empty', $http->post('/hook', ''), 400, undef, undef, 'rejected', 'empty_body', undef;
    for my $bad ('{', ' ', "$body x", '{"event":"a","event":"b"}', '[' x 513, "\"\xff\"") {
        shows "'" . substr($bad, 0, 20) . "'", $http->post('/hook', $bad), 400,
            undef, undef, 'rejected', 'invalid_json', undef;
    }
    shows $_, $http->post('/hook', $_), 422, undef, undef, 'rejected', 'not_an_object', undef
        for '[]', '1', '"x"', 'null';

    shows 'no event', $http->post('/hook', '{"room_name":"r"}'), 422, undef, undef, 'rejected', 'missing_field', undef;
    shows 'event: 1', $http->post('/hook', '{"event":1,"room_name":"r"}'), 422,
        undef, undef, 'rejected', 'mistyped_field', undef;

    # Values found valid before are logged.
    shows 'no room', $http->post('/hook', '{"event":"call_ended"}'), 422,
        'call_ended', undef, 'rejected', 'missing_field', undef;
    shows 'room: 1', $http->post('/hook', event('call_ended', room => 1)), 422,
        'call_ended', undef, 'rejected', 'mistyped_field', undef;
    for my $bad ('', 'x' x 257, "a\nb", "\0", "\x{85}") {
        shows 'room: ' . $json->encode(substr $bad, 0, 9), $http->post('/hook', event('call_ended', room => $bad)), 422,
            'call_ended', undef, 'rejected', 'invalid_room_name', undef;
    }
    for my $case (
        [ missing_field        => call_ended => call_duration => ABSENT ],
        [ mistyped_field       => call_ended => call_duration => 'x' ],
        [ mistyped_field       => call_ended => call_duration => \'-1' ],
        [ mistyped_field       => call_postprocessing => entities => [] ],
        [ contradictory_status => call_failed => status => 'active' ],
    ) {
        my ($reason, $event, @change) = @$case;
        shows "$event: $change[0]", $http->post('/hook', event($event, room => $room, @change)), 422,
            $event, $room, 'rejected', $reason, undef;
    }
    shows 'unknown', $http->post('/known', event('new_one', room => $room)), 422,
        'new_one', $room, 'rejected', 'unknown_event', undef;
};

subtest 'unavailable' => sub {
    my $room = new_room();
    my $body = event('call_started', room => $room);
    my @shown = ('call_started', $room, 'unavailable');

    # The first attempt to connect may be under way.
    shows "no Redis ($_)", $http->post('/down', $body), 503, @shown, 'redis_down', qr/^$|$time/ for 1, 2;

    shows 'no Redis, but a spool', $http->post('/spooled', $body), 200,
        'call_started', $room, 'queued', 'redis_down', qr/^$|$time/;

    shows 'Redis is full', $http->post('/full', $body), 503, @shown, 'redis_unavailable', $time;

    $client->cmd('SET', "vaani:call:$room", 1);
    shows 'no hash', $http->post('/hook', $body), 503, @shown, 'redis_refused', $time;

    $silent->suspend;
    shows 'Redis does not answer', $http->post('/timeout', $body), 503, @shown, 'redis_timeout',
        qr/^(?:0\.(?:0[6-9]|[1-9])\d+|[1-9]\d*\.\d{3})$/;
    $silent->resume;
};

subtest 'the time of Redis' => sub {
    # Warm, and then as slow as we want it.
    is $http->post('/slow', event('call_started', room => new_room()))->status, 200, 'connected';
    logged($_) for qw(plain json);

    my $room = new_room();
    my ($head, $body) = Vaani::Test::HTTP::format_request(uri => '/slow', body => event('call_ended', room => $room));
    $silent->suspend;
    $http->send_raw($head . $body);
    pause(0.08);
    $silent->resume;
    shows 'slow', $http->read_response, 200, 'call_ended', $room, 'ok', undef,
        qr/^(?:0\.(?:0[5-9]|[1-9])\d+|[1-9]\d*\.\d{3})$/;

    # And no slower than it is.
    my $start = now();
    my $response = $http->post('/hook', event('call_ended', room => $room));
    cmp_ok $response->header('X-Redis_Time'), '<=', now() - $start + 0.05, 'fast';
};

subtest 'elsewhere' => sub {
    my $response = $http->get('/other');
    is $response->header("X-\u$_"), undef, "no \$vaani_$_ in another location" for @NAMES;
    is $response->header('X-Summary'), 'other', 'nor in a map';

    $http->get('/other');
    my $path = $nginx->dir . '/plain.log';
    like slurp($path), qr{^/other "-" "-" "-" "-" "-" 200$}m, '... nor in the log';
    like slurp($nginx->dir . '/json.log'),
        qr/^\{"uri":"\/other","event":"","room":"","result":"","reason":"","redis_time":"","status":200\}$/m,
        '... nor in JSON';

    $response = $http->post('/none', event('call_started'));
    is $response->status, 404, 'no location';
    is $response->header('X-Event'), undef, '... no event';
};

subtest 'maps, conditions, headers' => sub {
    logged('bad');
    my $room = new_room();
    my $body = event('call_ringing', room => $room);

    my $response = $http->post('/hook', $body);
    is $response->header('X-Summary'), 'ringing-ok', 'a map';
    is $response->header('X-Good'), 'ok', 'a header without always';
    is scalar(logged('bad')), 0, 'a condition of access_log, false';

    $response = $http->post('/hook', $body);
    is $response->header('X-Summary'), 'ringing-duplicate', 'a map';
    is $response->header('X-Good'), 'duplicate', 'a header without always';
    is_deeply [ map { (split)[ 1, 3 ] } logged('bad') ], [ '"call_ringing"', '"duplicate"' ], 'a condition, true';

    $response = $http->post('/hook', event('call_ringing', status => 'active'));
    is $response->header('X-Summary'), 'ringing-rejected', 'a map';
    is $response->header('X-Good'), undef, 'a header without always is none';
    is_deeply [ map { (split)[ 1, 3 ] } logged('bad') ], [ '"call_ringing"', '"rejected"' ], 'a condition, true';
};

subtest 'parameters of the module' => sub {
    my $subscriber = $redis->client->psubscribe('*');
    my $room = "a room \x{e9}";
    my $bytes = "a room \xc3\xa9";

    is $http->post('/parts', event('call_started', room => $room))->status, 200, 'an event';
    is $client->cmd('HGET', "p/call_started:call:$bytes", 'room_name'), $bytes, 'prefix';
    is $client->cmd('XLEN', "s/$bytes"), 1, 'stream';

    $client->cmd('PUBLISH', 'mark', '');
    my @messages;
    while (my $message = $subscriber->next_message(30)) {
        last if $message->{channel} eq 'mark';
        push @messages, $message;
    }
    is_deeply [ map { $_->{channel} } @messages ], [ "c/$bytes/call_started", 'call_started' ],
        'channels; none for a variable without a value';
    like $messages[0]{payload}, qr/"key":"p\/call_started:call:\Q$bytes\E"/, 'the message names the key';

    is $http->post('/parts', event('call_ended', room => $room))->status, 200, 'another';
    is $client->cmd('HGET', "p/call_ended:call:$bytes", 'seq'), 1, 'another prefix';
    is $client->cmd('XLEN', "s/$bytes"), 2, 'the same stream';
    logged($_) for qw(plain json);
};

subtest 'what was asked for too early is right later' => sub {
    my $subscriber = $redis->client->psubscribe('early:*');
    my $room = new_room();
    my $response = $http->post('/early', event('call_started', room => $room));
    is $subscriber->next_message->{channel}, "early:call_started:$room:", 'not known yet';
    is $response->status, 200, 'an answer';
    like +(logged('plain'))[0], qr{^/early "call_started" "$room" "ok" "-" "\d+\.\d{3}" 200$}, 'the log has it all';
    logged('json');
};

subtest 'nothing breaks out of a line' => sub {
    # Rooms have no control characters, but anything else.
    my @rooms = (
        '"', '\\', '\\"', '" "ok" "', 'a" 200', "'", '%0d%0a', '\\n', '\\x22', '\\u0022', '$vaani_event', '<b>',
        '{"a":"b"}', '","result":"ok',
        "\x{e9}", "\x{20ac}", "\x{1f600}", "\x{2028}", "\x{a0}", "\x{feff}", "\x{fffe}", 'x' x 256,
    );
    for my $room (@rooms) {
        my $bytes = $room;
        utf8::encode($bytes);
        shows 'room ' . $json->encode(substr $room, 0, 20),
            $http->post('/hook', event('call_started', room => $room)), 200,
            'call_started', $bytes, 'ok', undef, $time;
    }

    # So has the name of an event that the table does not know.
    for my $event (@rooms) {
        my $bytes = $event;
        utf8::encode($bytes);
        shows 'event ' . $json->encode(substr $event, 0, 20), $http->post('/hook', event($event, room => 'r')), 200,
            $bytes, 'r', 'ok', undef, $time;
    }

    # With control characters, wherever they end up.
    for my $event (
        "a\nb", "a\rb", "a\r\nb", "\r\n\r\n", "\n\n", "\r", "a\0b", "\0", "\t", "\b\f",
        "\x{1b}[2J", "\x{7f}", "\x{85}", "\x{9b}",
        "x\n/hook \"call_ended\" \"r\" \"ok\" \"-\" \"0.000\" 200", "x\r\nX-Injected: 1", "x\nX-Injected: 1",
        "x\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nX-Injected: 1\r\n\r\n",
    ) {
        my $name = 'event ' . $json->encode($event);

        my $raw = $nginx->http;
        $raw->send_raw(join '', Vaani::Test::HTTP::format_request(
            uri => '/hook', body => event($event, room => 'r'), headers => { Connection => 'close' }));
        my ($head, $body) = split /\r\n\r\n/, $raw->read_raw, 2;

        like $body, qr/^(?:\{"status":"ok"(?:,"known":false)?\}|\{"type":.*\})\n\z/, "$name: the body is nothing but the answer";
        my ($line, @fields) = split /\r\n/, $head;
        my %known = map { $_ => 1 } qw(server date content-type content-length connection x-good x-summary),
            map { "x-$_" } @NAMES;
        is_deeply [ grep { !/^([A-Za-z_-]+): / || !$known{ lc $1 } } @fields ], [], '... the header has no other field';
        unlike join('', $line, @fields), qr/[\r\n\0]/, '... and no broken one';

        my @plain = logged('plain');
        is scalar(@plain), 1, '... one line';
        like $plain[0] // '', qr{^/hook (?:"[^"\x00-\x1f\x7f-\xff]*" ){5}(?:200|422)\n\z}, '... which is whole';

        my @lines = logged('json');
        is scalar(@lines), 1, '... one line of JSON';
        like eval { $json->decode($lines[0])->{status} } // '', qr/^(?:200|422)$/, '... which is JSON';
    }
};

ok $nginx->stop, 'stop';

# --- what the event was for its call

$nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    vaani_redis @{[ $redis->url ]};

    map \$vaani_event \$first    { default known; "" unread; }
    log_format outcome '\$status \$vaani_result \$vaani_reason';
    access_log %%DIR%%/access.log outcome;

    map \$vaani_event \$volatile { volatile; default known; "" unread; }

    server {
        listen unix:%%SOCK%%;
        keepalive_requests 100000;

        add_header X-Event    \$vaani_event always;
        add_header X-Result   \$vaani_result always;
        add_header X-Reason   \$vaani_reason always;
        add_header X-Ignored  \$vaani_ignored always;
        add_header X-Seq      \$vaani_seq always;
        add_header X-Status   \$vaani_status always;
        add_header X-Previous \$vaani_previous_status always;
        add_header X-First    \$first always;
        add_header X-Volatile \$volatile always;

        location = /hook    { vaani_webhook; set \$early \$first\$volatile; client_max_body_size 100k; client_body_timeout 100ms; }
        location = /strict  { vaani_webhook; vaani_validation strict; }
        location = /known   { vaani_webhook; vaani_unknown_event reject; }
        location = /spooled { vaani_webhook; vaani_redis unix:%%DIR%%/none.sock; vaani_spool %%DIR%%/spool; }
        location = /down    { vaani_webhook; vaani_redis unix:%%DIR%%/none.sock; }
        location = /other   { return 200 "\$vaani_seq\$vaani_status\$vaani_previous_status\$vaani_ignored"; }
    }
CONF
$http = $nginx->http;

# The headers of an answer, "-" for one that is not there.
sub has ($name, $response, $want, @headers) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is join(' ', $response->status, map { $response->header("X-$_") // '-' } @headers), $want, $name;
}

sub call_is ($name, $response, $want) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return has($name, $response, $want, qw(Result Seq Status Previous));
}

sub several (@events) { return '{"event":"batch","events":[' . join(',', @events) . ']}' }

subtest 'seq, status, previous_status' => sub {
    my $room = new_room();
    my $started = event('call_started', room => $room);
    call_is 'the first', $http->post('/hook', $started), '200 ok 1 dialing -';
    call_is 'the second', $http->post('/hook', event('call_ringing', room => $room)), '200 ok 2 ringing dialing';
    call_is 'a duplicate', $http->post('/hook', $started), '200 duplicate - - -';
    call_is 'its end', $http->post('/hook', event('call_ended', room => $room)), '200 ok 3 ended ringing';
    call_is 'a late one', $http->post('/hook', event('user_picked_up_at', room => $room)), '200 ok 4 ended ended';
    call_is 'another call', $http->post('/hook', event('call_rejected', room => new_room())), '200 ok 1 rejected -';

    call_is 'an unknown event', $http->post('/hook', event('new_one', room => $room)), '200 ok - - -';
    call_is '... rejected', $http->post('/known', event('new_one', room => $room)), '422 rejected - - -';
    call_is 'the test button', $http->post('/hook', '{"event":"webhook_test"}'), '200 ok - - -';
    call_is 'queued', $http->post('/spooled', event('call_started', room => $room, n => 1)), '200 queued - - -';
    call_is 'unavailable', $http->post('/down', event('call_started', room => $room, n => 1)), '503 unavailable - - -';
    call_is 'rejected', $http->post('/strict', event('call_ended', room => $room, call_duration => 'x')), '422 rejected - - -';
    call_is 'no JSON', $http->post('/hook', '{'), '400 rejected - - -';
    call_is 'no POST', $http->get('/hook'), '405 rejected - - -';
    is $http->get('/other')->body, '', 'nothing elsewhere';
};

subtest 'several events: the last one, and the worst result' => sub {
    my $room = new_room();
    my @events = map { event($_, room => $room) } qw(call_started call_ringing user_picked_up_at);
    call_is 'three', $http->post('/hook', several(@events)), '200 ok 3 active ringing';
    call_is 'again', $http->post('/hook', several(@events)), '200 duplicate - - -';
    my $ended = event('call_ended', room => $room);
    call_is 'a duplicate, then a new one', $http->post('/hook', several($events[0], $ended)), '200 duplicate 4 ended active';
    call_is 'a new one, then a duplicate', $http->post('/hook', several(event('call_failed', room => $room), $events[0])),
        '200 duplicate - - -';
    my $other = new_room();
    call_is 'of two calls', $http->post('/hook', several(event('call_ended', room => new_room()), event('call_started', room => $other))),
        '200 ok 1 dialing -';
    has 'an unknown one is the last', $http->post('/hook', several(event('call_ringing', room => $other), event('new', room => $other))),
        '200 ok - new', qw(Result Seq Event);
    call_is 'one is rejected, and none is kept',
        $http->post('/hook', several(event('call_rejected', room => $other), '{"event":"call_ended"}')), '422 rejected - - -';
    call_is 'none can be stored', $http->post('/down', several(map { event($_, room => $room) } qw(call_started call_ended))),
        '503 unavailable - - -';
};

subtest 'ignored' => sub {
    my $ignored = sub ($name, $want, $event, @more) {
        local $Test::Builder::Level = $Test::Builder::Level + 1;
        has $name, $http->post('/hook', ref $event ? $$event : event($event, room => new_room(), @more)), "200 $want", 'Ignored';
    };
    $ignored->('nothing', '-', 'call_ended');
    $ignored->('a new member', '-', 'call_ended', new => 1, phone => []);
    $ignored->('converted', 'call_duration', 'call_ended', call_duration => '12');
    $ignored->('left out', 'call_duration', 'call_ended', call_duration => { a => 1 });
    $ignored->('negative', 'call_duration', 'call_ended', call_duration => -1);
    $ignored->('null', '-', 'call_ended', call_duration => undef);
    $ignored->('an unknown event', '-', 'new_one', call_duration => 'x');
    $ignored->('in data', 'call_duration',
        \q({"event":"call_postprocessing","call_id":"outbound-9-9","data":{"call_duration":[],"x":1}}));
    $ignored->('of several, the last', 'call_duration', \several(event('call_ended', room => new_room(), end_reason => 1),
        event('call_ended', room => new_room(), call_duration => 'x')));

    my $response = $http->post('/hook', event('call_postprocessing', room => new_room(), summary => 1, entities => 'x', call_duration => '7'));
    is join(',', sort split /,/, $response->header('X-Ignored')), 'call_duration,entities,summary', 'three';
};

# As the specification of Redis Cluster has it.
sub crc16 ($bytes) {
    my $crc = 0;
    for my $byte (unpack 'C*', $bytes) {
        $crc ^= $byte << 8;
        $crc = ($crc & 0x8000 ? $crc << 1 ^ 0x1021 : $crc << 1) & 0xffff for 1 .. 8;
    }
    return $crc;
}

subtest 'partition' => sub {
    is crc16('123456789'), 0x31c3, 'the CRC of the test';

    my $many = Vaani::Test::Redis->start(acl => [ Vaani::Test::ACL::with_prefix('{*}'), '~stream-*', '+xadd' ]);
    my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
        vaani_redis @{[ $many->url ]};
        vaani_partitions 16384;
        server {
            listen unix:%%SOCK%%;
            add_header X-Partition \$vaani_partition always;

            location = /many  { vaani_webhook; vaani_prefix "{\$vaani_partition}"; }
            location = /few   { vaani_webhook; vaani_partitions 3; vaani_prefix "{x}"; vaani_stream stream-\$vaani_partition; }
            location = /one   { vaani_webhook; vaani_partitions 1; vaani_prefix "{x}"; }
            location = /early { vaani_webhook; set \$early "\$vaani_partition"; add_header X-Early "\$early." always; }
            location = /other { return 204; }
        }
        server {
            listen unix:%%SOCK%%;
            server_name none;
            location = /none  { vaani_webhook; }
        }
CONF
    my $http = $nginx->http;
    my $redis = $many->client;

    for my $room (new_room(), 'x', '123456789', "caf\xc3\xa9 \xe2\x98\x8e", 'r' x 256) {
        my $crc = crc16($room);
        my $body = event('call_started', room => '?') =~ s/"\?"/"$room"/r;

        has "$crc of 16384", $http->post('/many', $body), '200 ' . $crc % 16384, 'Partition';
        is $redis->cmd('EXISTS', '{' . $crc % 16384 . "}:call:$room"), 1, '... in the key';
        has "$crc of 3", $http->post('/few', $body), '200 ' . $crc % 3, 'Partition';
        has "$crc of 1", $http->post('/one', $body), '200 0', 'Partition';
    }
    my $rooms = 5;
    my $streams = 0;
    $streams += $redis->cmd('XLEN', "stream-$_") for 0 .. 2;
    is $streams, $rooms, 'each message is in one of the streams';

    has 'without a call', $http->post('/many', '{"event":"new_one"}'), '200 0', 'Partition';
    has 'rejected', $http->post('/many', '{"event":"call_started"}'), '422 0', 'Partition';
    has 'before there is an event', $http->post('/many', '{'), '400 -', 'Partition';
    has 'elsewhere', $http->get('/other'), '204 -', 'Partition';
    has 'too early', $http->post('/early', event('call_started', room => new_room())), '200 .', 'Early';
    my @rooms = map { new_room() } 1 .. 3;
    has 'that of the last one', $http->post('/many', several(map { event('call_started', room => $_) } @rooms)),
        '200 ' . crc16($rooms[-1]) % 16384, 'Partition';
};

subtest 'bodies that nginx refuses' => sub {
    my ($head, $body) = Vaani::Test::HTTP::format_request(uri => '/hook', body => event('call_started', room => new_room()));
    my $chunked = $head =~ s/^Content-Length:.*\r\n/Transfer-Encoding: chunked\r\n/mr;
    my $answer = sub ($request) {
        my $raw = $nginx->http;
        $raw->send_raw($request);
        return $raw->read_response;
    };
    my @result = qw(Result Reason);

    has 'a malformed chunk', $answer->($chunked . "xyz\r\n"), '400 rejected body_unreadable', @result;
    has 'a malformed chunk after a good one', $answer->($chunked . "2\r\n{}\r\n-1\r\n"), '400 rejected body_unreadable', @result;
    has '... in a PUT', $answer->(($chunked =~ s/^POST/PUT/r) . "xyz\r\n"), '400 rejected method', @result;
    has 'PUT', $http->request(method => 'PUT', uri => '/hook', body => $body), '405 rejected method', @result;
    has 'too large', $http->post('/hook', 'x' x 200_000), '413 rejected body_too_large', @result;
    has 'too large, in chunks', $nginx->http->request(method => 'POST', uri => '/hook', body => 'x' x 200_000, chunked => 10_000),
        '413 rejected body_too_large', @result;

    # The client sees no answer to a body that comes too slowly.
    my $path = $nginx->dir . '/access.log';
    my $raw = $nginx->http;
    $raw->send_raw($head . substr $body, 0, 5);
    ok wait_for(sub { slurp($path) =~ /^408 rejected body_unreadable$/m }, 10), 'a time-out';
    $raw = $nginx->http;
    $raw->send_raw($head . substr $body, 0, 5);
    $raw->close;
    ok wait_for(sub { slurp($path) =~ /^(?:400|499) rejected body_unreadable\n\z/m }, 10), 'a client that leaves'
        or diag slurp($path);
};

subtest 'a map that was used too early' => sub {
    has 'one without volatile keeps its first value', $http->post('/hook', event('call_started', room => new_room())),
        '200 unread known', qw(First Volatile);
    $nginx->log_like(qr/\[warn\].* vaani: an event variable was read before the request body/, '... which is logged');
};

ok $nginx->stop, 'stop';

done_testing;
