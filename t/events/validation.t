# The table of events, row by row: what each requires, what it refuses, and
# what of it is kept. Strict and lenient.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP ();
use Vaani::Test::Events;

use constant OK      => qq({"status":"ok"}\n);
use constant UNKNOWN => qq({"status":"ok","known":false}\n);

# The contract, once more and independently of the module. A field is required
# (1) or not (0), of a type, and kept in a field of the hash, or in none; a type
# in parentheses is the one value that a string may have.
my %TRANSFER = (
    transfer_type => [ 1, 'string', 'transfer_type' ],
    phone_number  => [ 1, 'string', 'transfer_phone_number' ],
);
my %TABLE = (
    call_started => {
        status       => [ 0, 'string', 'status' ],
        phone_number => [ 0, 'string', 'phone_number' ],
    },
    call_ringing      => { status => [ 0, '(ringing)',   'status' ] },
    user_picked_up_at => { status => [ 0, '(active)',    'status' ] },
    call_rejected     => { status => [ 0, '(rejected)',  'status' ] },
    call_no_answer    => { status => [ 0, '(no_answer)', 'status' ] },
    call_failed       => {
        status => [ 0, '(failed)', 'status' ],
        error  => [ 0, 'string',   'error' ],
    },
    human_transfer_initiated  => {%TRANSFER},
    human_transfer_successful => {
        %TRANSFER,
        agent_identity => [ 0, 'string', 'transfer_agent_identity' ],
    },
    human_transfer_failed => {
        %TRANSFER,
        reason     => [ 0, 'string', 'transfer_reason' ],
        sip_status => [ 0, 'string', 'transfer_sip_status' ],
    },
    call_ended => {
        call_duration => [ 1, 'number', 'call_duration_ms' ],
        end_reason    => [ 0, 'string', 'end_reason' ],
    },
    call_postprocessing => {
        call_duration => [ 0, 'number', 'call_duration_ms' ],
        transcript    => [ 0, 'transcript', 'transcript' ],
        summary       => [ 0, 'string', 'summary' ],
        recording_url => [ 0, 'string', 'recording_url' ],
        entities      => [ 0, 'object', 'entities' ],
        dispositions  => [ 0, 'object', 'dispositions' ],
        end_reason    => [ 0, 'string', 'end_reason' ],
        phone_number  => [ 0, 'string', 'phone_number' ],
        from          => [ 0, 'string', undef ],
        call_type     => [ 0, 'string', undef ],
        map { $_ => [ 0, 'time', $_ ] } qw(call_dialing_at call_ringing_at picked_up_at call_started_at call_ended_at),
    },
);

# The status of a call whose only event this is, when the body names none.
my %STATUS = (
    call_started        => 'started',
    call_ringing        => 'ringing',
    user_picked_up_at   => 'active',
    call_rejected       => 'rejected',
    call_no_answer      => 'no_answer',
    call_failed         => 'failed',
    call_ended          => 'ended',
    call_postprocessing => 'ended',
    map { $_ => 'active' } qw(human_transfer_initiated human_transfer_successful human_transfer_failed),
);

# JSON texts by their types, and what the hash holds of them.
my %VALUES = (
    string => {
        '"x"'       => 'x',
        '""'        => '',
        '" "'       => ' ',
        '"null"'    => 'null',
        '"1"'       => '1',
        '"{}"'      => '{}',
        '"\u0000"'  => "\0",
        '"\u20ac"'  => "\xe2\x82\xac",
        "\"\xc3\xa9\"" => "\xc3\xa9",
    },
    number => { '0' => 0, '-0' => 0, '1' => 1, '12' => 12, '1e3' => 1000 },
    time   => { '"2026-10-09T07:31:17.602249+00:00"' => 1791531077602, '"1970-01-01T00:00:01"' => 1000 },
    object => { map { $_ => $_ } '{}', '{"a":1}', '{ "a" : {"b":[1e5, "\u00e9"]} }' },
    other  => { map { $_ => undef } 'true', 'false', '[]', '["x"]', '[1]', '[{}]' },
);

my $redis = Vaani::Test::Redis->start;
my $client = $redis->client;

my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    keepalive_requests 1000000;
    vaani_redis @{[ $redis->url ]};

    server {
        listen unix:%%SOCK%%;
        location = /default { vaani_webhook; }
        location = /strict  { vaani_webhook; vaani_validation strict; vaani_unknown_event accept; }
        location = /strict-known { vaani_webhook; vaani_validation strict; vaani_unknown_event reject; }
        location = /lenient { vaani_webhook; vaani_validation lenient; }
        location = /known   { vaani_webhook; vaani_unknown_event reject; }
        location = /lenient-known { vaani_webhook; vaani_validation lenient; vaani_unknown_event reject; }
    }
CONF

my $http = $nginx->http;
my $subscriber = $redis->client->subscribe('vaani:events');
my $json = JSON::PP->new->utf8->allow_nonref;

sub key ($room) { return "vaani:call:$room" }

# Taken, as it is, and published; returns the hash of the call.
sub taken ($uri, $body, $name, $room, $answer = OK) {
    my $response = $http->post($uri, $body);
    my $message = $response->status == 200 ? $subscriber->next_message->{payload} : '';

    ok($response->body eq $answer && $message =~ /"payload":\Q$body\E\}\z/, $name)
        || diag "$uri $body\n", $response->body, "\n$message";
    return $client->hgetall(key($room));
}

sub refused ($uri, $body, $field, $name, $detail = qr/./, $room = undef) {
    my $response = $http->post($uri, $body);
    my $problem = $response->json;

    $subscriber->next_message if $response->status == 200;    # not the next test's

    my $stored = defined $room && $client->cmd('EXISTS', key($room));
    return ok(
        $response->status == 422 && $problem->{field} eq $field && $problem->{detail} =~ $detail && !$stored,
        $name
    ) || diag "$uri $body\n", 'field: ', $problem->{field} // 'none', ', ', $response->body;
}

# The value in the hash for a value in such a field, and undef if it does not
# fit: in strict mode, and in lenient mode, which converts some.
sub kept ($event, $member, $text, $lenient = 0) {
    my $type = $TABLE{$event}{$member}[1];
    my $value = typed($type, $text, $lenient);

    if (defined $value && $type eq 'number') {
        # Alone, one of call_postprocessing is of milliseconds, if it is that long.
        my $seconds = $event eq 'call_ended' || $value < 1000;
        return $value * ($seconds ? 1000 : 1);
    }
    return 'started' if "$event $member $text" eq 'call_started status ""';
    return $value;
}

sub typed ($type, $text, $lenient) {
    return $text eq qq("$1") ? $1 : undef if $type =~ /^\((.*)\)$/;

    my $number = $text =~ /^"?(-?[0-9.e]+)"?$/ ? $1 : undef;
    my $string = $type eq 'string' || $type eq 'transcript';
    my $value = $VALUES{ $string ? 'string' : $type }{$text};
    return $value if defined $value || !$lenient;

    return $number if $string && $text !~ /"/;
    return 'x' if $type eq 'transcript' && $text eq '["x"]';
    return $number if $type eq 'number' && $text =~ /^"[0-9]/;
    return undef;
}

# The module's own strings are strings, too, and so are times.
$VALUES{string}{qq("$_")} = $_ for qw(ringing active ended RINGING), 'ringing ', map { s/"//gr } keys %{ $VALUES{time} };

for my $event (@EVENTS) {
    my $fields = $TABLE{$event};
    my @optional = grep { !$fields->{$_}[0] } sort keys %$fields;

    # Each of these endpoints takes the body, in a room of its own, and then the
    # hash has this value; undef: none, or, of the status, that of the event.
    my $accepted = sub ($uris, $name, $member, $value, @overrides) {
        for my $uri (@$uris) {
            my $room = new_room();
            my $call = taken($uri, event($event, room => $room, @overrides), "$uri: $name", $room);
            my $field = $fields->{$member}[2] // next;
            is $call->{$field}, $value // ($field eq 'status' ? $STATUS{$event} : undef), "... $field";
        }
    };

    subtest $event => sub {
        my $room = new_room();
        my $call = taken('/default', event($event, room => $room), 'as documented', $room);
        is $call->{last_event}, $event, 'it is applied';

        $accepted->([qw(/default /strict /lenient)], 'what is required only', $_, undef, map { $_ => ABSENT } @optional)
            for @optional;
        $accepted->([qw(/default /lenient)], 'nothing', $_, undef, map { $_ => ABSENT } keys %$fields) for keys %$fields;
        $accepted->([qw(/default /lenient)], 'all of a wrong type', $_, undef, map { $_ => \'[]' } keys %$fields)
            for keys %$fields;

        for my $member (sort keys %$fields) {
            my $required = $fields->{$member}[0];

            for my $absent ([ absent => ABSENT ], [ null => undef ]) {
                my ($name, $value) = @$absent;

                if ($required) {
                    for my $uri (qw(/strict /strict-known)) {
                        $room = new_room();
                        refused($uri, event($event, room => $room, $member => $value), "/$member",
                            "$uri: $member $name", qr/^\Q$member\E is required$/, $room);
                    }
                }
                $accepted->([ $required ? () : '/strict', '/default', '/lenient' ], "$member $name", $member, undef,
                    $member => $value);
            }

            for my $text (sort map({ keys %$_ } values %VALUES), '-1', '1e999') {
                my $value = kept($event, $member, $text);

                if (!defined $value) {
                    for my $uri (qw(/strict /strict-known)) {
                        $room = new_room();
                        refused($uri, event($event, room => $room, $member => \$text), "/$member",
                            "$uri: $member $text", qr/^\Q$member\E \w/, $room);
                    }
                } else {
                    $accepted->(['/strict'], "$member $text", $member, $value, $member => \$text);
                }
                $accepted->([ '/default' ], "$member $text", $member, kept($event, $member, $text, 1), $member => \$text);
            }
        }

        # Members that the table does not have may be anything.
        my %named = map { $_ => 1 } keys %$fields, qw(event room_name);
        for my $member (grep { !$named{$_} } qw(status phone_number error transfer_type agent_identity reason sip_status
            call_duration end_reason transcript summary recording_url entities dispositions from call_type picked_up_at more
            Status), '', 'a/b')
        {
            for my $text ('null', 'true', '-1e999', '"\u0000"', '[]', '{}') {
                $room = new_room();
                taken('/strict', event($event, room => $room, $member => \$text), "extra $member: $text", $room);
            }
        }
    };
}

subtest 'event and room_name' => sub {
    for my $uri (qw(/default /strict /lenient /known /strict-known /lenient-known)) {
        for my $body (
            '[]', '[{"event":"call_started","room_name":"r"}]', '""', '"call_started"', '0', '1.5', 'true', 'null',
        ) {
            refused($uri, $body, '', "$uri: $body", qr/^the body must be a JSON object$/);
        }

        for my $member (qw(event room_name)) {
            for my $value (ABSENT, undef, map { \$_ } '0', '1.5', 'true', 'false', '[]', '["r"]', '{}', '{"a":1}') {
                # Lenient: as a name of a call, a number is its text.
                next if $uri !~ /strict/ && $member eq 'room_name' && ref $value && $$value =~ /^[01]/;
                refused($uri, event('call_started', $member => $value), "/$member",
                    "$uri: $member " . (ref $value ? $$value || 'absent' : 'null'),
                    !ref $value || $$value eq '' ? qr/^$member is required$/ : qr/^$member must be a string$/);
            }
        }
        refused($uri, '{}', '/event', "$uri: neither");
        refused($uri, '{"Event":"call_started","Room_Name":"r"}', '/event', "$uri: case matters");
    }
};

subtest 'room_name' => sub {
    my $message = qr/^room_name must have 1 to 256 bytes$/;

    for my $uri (qw(/strict /lenient)) {
        # Lenient: an unknown event needs none.
        for my $event (qw(call_started call_ended), $uri eq '/strict' ? 'new_one' : ()) {
            refused($uri, event($event, room => ''), '/room_name', "$uri, $event: empty", $message);

            for my $case (
                [ 'a' x 257 ], [ 'a' x 1000 ], [ "\x{e9}" x 128 . 'a' ], [ "\x{20ac}" x 86 ], [ "\x{1f600}" x 65 ],
            ) {
                my ($room) = @$case;
                refused($uri, event($event, room => $room), '/room_name',
                    "$uri, $event: " . length($room) . ' characters, too long', $message);
            }
        }
    }

    # In bytes, not in characters, nor in how they are spelled.
    for my $case (
        [ '"' . 'a' x 256 . '"', 'a' x 256 ],
        [ '"' . "\xc3\xa9" x 128 . '"', "\xc3\xa9" x 128 ],
        [ '"' . '\u00e9' x 128 . '"', "\xc3\xa9" x 128 ],
        [ '"' . '\ud83d\ude00' x 64 . '"', "\xf0\x9f\x98\x80" x 64 ],
        [ '"' . '\u0061' x 256 . '"', 'a' x 256 ],
        [ '"a"', 'a' ],
    ) {
        my ($text, $room) = @$case;
        my $call = taken('/strict', event('call_ended', room => \$text), length($room) . ' bytes', $room);
        is $call->{room_name}, $room, '... is kept';
        $client->cmd('DEL', key($room));
    }
    refused('/strict', event('call_ended', room => \('"' . '\u00e9' x 128 . '\u0061"')), '/room_name',
        'one more', $message);

    # U+0000 to U+001F, U+007F to U+009F
    $message = qr/^room_name must not contain control characters$/;
    for my $code (0 .. 0x1f, 0x7f .. 0x9f) {
        my $escape = sprintf '\u%04x', $code;
        refused('/strict', event('call_ended', room => \"\"room$escape\""), '/room_name',
            "$escape at the end", $message);
        refused('/lenient', event('call_ended', room => \"\"${escape}room\""), '/room_name',
            "$escape at the start", $message);
        refused('/strict', event('new_one', room => \"\"$escape\""), '/room_name', "$escape alone", $message);

        next if $code < 0x20;    # those may not stand in JSON at all
        my $raw = chr $code;
        utf8::encode($raw);
        refused('/strict', event('call_ended', room => \"\"r${raw}m\""), '/room_name', "$escape as it is", $message);
    }

    for my $room (
        ' ', '*', '?', '[a]', '{a}', 'a:b', ':', '"', '\\', "'", '%00', '$1', '../..',
        "a\xc2\xa0b", "\xc2\xad", "\xe2\x80\xa8", "\xe2\x80\x8b", "\xef\xbb\xbf", "\xef\xbf\xbf",
        "\xf0\x9f\x98\x80", "\xc3\x82", "\xc4\x80",
    ) {
        my $characters = $room;
        utf8::decode($characters);
        my $call = taken('/strict', event('call_ended', room => $characters), "a room called $room", $room);
        is $call->{room_name}, $room, '... is kept';
        is $client->cmd('HGET', key($room), 'status'), 'ended', '... under its name';
    }
};

subtest 'unknown events' => sub {
    for my $name (qw(call_transmogrified Call_started CALL_STARTED call_started_ call_starte call-started callstarted
        user_picked_up human_transfer_), ' call_started', 'call_started ', "call_started\0", "\x{e9}", '"', 'x' x 256, "\x{e9}" x 128)
    {
        my $room = new_room();
        my $body = event($name, room => $room, call_duration => 'not a number');
        my $shown = $json->encode(substr $name, 0, 30);

        for my $uri (qw(/default /strict /lenient)) {
            is_deeply taken($uri, $body, "$uri: $shown is accepted", $room, UNKNOWN), {}, '... and changes nothing';
        }
        refused($_, $body, '/event', "$_: $shown is rejected", qr/^event is not one of the documented events$/)
            for qw(/known /lenient-known /strict-known);
    }

    for my $uri (qw(/default /strict /known /strict-known)) {
        for my $name ('x' x 257, "\x{e9}" x 128 . 'x', 'x' x 5000, 'call_started' . ' ' x 300) {
            refused($uri, event($name), '/event', "$uri: " . length($name) . ' characters, too long',
                qr/^event must not have more than 256 bytes$/, ROOM);
        }
        refused($uri, event('x', event => \$_), '/event', "$uri: $_", qr/^event must not have a lone surrogate$/, ROOM)
            for '"\ud83d"', '"call_started\udc00"', '"\ud83dcall_started"', '"\udc00\ud83d"';
    }
    is_deeply taken($_, event('x', event => \('"' . '\u0078' x 256 . '"')), "$_: 256 escaped", ROOM, UNKNOWN), {},
        '... are not too long' for qw(/default /strict);

    # Without a call.
    for my $room (ABSENT, undef, '', [], \'"\u0000"', \'"\ud800"') {
        my $text = !defined $room ? 'null' : ref $room eq 'SCALAR' ? $$room : $json->encode($room);
        taken('/default', event('new_one', room => $room), "/default: no call: $text", '', UNKNOWN);
        !defined $room || ref $room eq 'SCALAR' && $$room eq ''
            ? taken('/strict', event('new_one', room => $room), "/strict: no call: $text", '', UNKNOWN)
            : refused('/strict', event('new_one', room => $room), '/room_name', "/strict: no call: $text");
    }

    for my $name (@EVENTS) {
        my $room = new_room();
        taken('/known', event($name, room => $room), "/known: $name is accepted", $room);
        taken('/strict-known', event($name, room => $room, x => 1), "/strict-known: $name is accepted", $room);
    }
    my $room = new_room();
    taken('/strict-known', qq({"ev\\u0065nt":"call_\\u0065nded","room_name":"$room","call_duration":1}),
        'also when escaped', $room);
};

subtest 'durations' => sub {
    my %cases = (
        # text => seconds in ms, milliseconds in ms
        '0'         => [ 0,         0 ],
        '-0'        => [ 0,         0 ],
        '-0.0e5'    => [ 0,         0 ],
        '0.0'       => [ 0,         0 ],
        '0e99999'   => [ 0,         0 ],
        '1'         => [ 1000,      1 ],
        '42.5'      => [ 42_500,    43 ],
        '42500'     => [ 42_500_000, 42_500 ],
        '0.001'     => [ 1,         0 ],
        '0.0004'    => [ 0,         0 ],
        '0.0005'    => [ 1,         0 ],
        '1.0005'    => [ 1001,      1 ],      # 1000.4999999999999 in IEEE 754
        '1.4999'    => [ 1500,      1 ],
        '0.4999999999999999999999' => [ 500, 0 ],
        '1.1'       => [ 1100,      1 ],
        '4.35'      => [ 4350,      4 ],
        '8.2'       => [ 8200,      8 ],
        '1e3'       => [ 1_000_000, 1000 ],
        '1E+3'      => [ 1_000_000, 1000 ],
        '1.5e3'     => [ 1_500_000, 1500 ],
        '15e-1'     => [ 1500,      2 ],
        '1e-3'      => [ 1,         0 ],
        '1e-400'    => [ 0,         0 ],
        '123456.789' => [ 123_456_789, 123_457 ],
        '9007199254740' => [ 9_007_199_254_740_000, 9_007_199_254_740 ],
        '1' . '0' x 5 . '.' . '0' x 400 => [ 100_000_000, 100_000 ],
    );

    for my $text (sort keys %cases) {
        my ($s, $ms) = @{ $cases{$text} };
        # Alone, below a second, it is one of seconds.
        for my $case ([ call_ended => $s ], [ call_postprocessing => $ms < 1000 ? $s : $ms ]) {
            my ($event, $ms) = @$case;
            my $room = new_room();
            my $call = taken('/strict', event($event, room => $room, call_duration => \$text), "$event: $text", $room);
            is $call->{call_duration_ms}, $ms, "... is $ms ms";
        }
    }

    for my $event (qw(call_ended call_postprocessing)) {
        for my $text (qw(-1 -0.1 -1e-9 -1e-400 -1e400 -0.0000000000000000000000000000000000000000000000000001)) {
            my $room = new_room();
            refused('/strict', event($event, room => $room, call_duration => \$text), '/call_duration', "$event: $text",
                qr/^call_duration must not be negative$/, $room);
        }
        for my $text (qw(1e309 1e999 1.8e309 1E+400 1e99999999999999999999), '9' x 400, '0.1e310') {
            my $room = new_room();
            refused('/strict', event($event, room => $room, call_duration => \$text), '/call_duration', "$event: $text",
                qr/^call_duration must be finite$/, $room);
        }

        # Finite, though no call lasts that long.
        for my $text (qw(1e20 1e300 1.7e308 0.0000001e308)) {
            my $room = new_room();
            my $call = taken('/strict', event($event, room => $room, call_duration => \$text), "$event: $text", $room);
            like $call->{call_duration_ms}, qr/^[1-9][0-9]{15,}$/, '... is a big integer';
        }
    }
};

# At a level that is read.
subtest 'the number of members' => sub {
    my $members = sub ($n) { return join ',', map { qq("k$_":$_) } 1 .. $n };

    for my $uri (qw(/default /strict)) {
        my $count = sub ($name, $taken, $before, $head, $n, $tail, $answer = OK) {
            my $room = new_room();
            for ($before, $head, $tail) { s/ROOM/$room/ }

            my $good = $before . $head . ',' . $members->($n) . $tail;
            my $response = $http->post($uri, $good);
            is $response->body, $answer, "$uri: $name, 4096 members";
            $subscriber->next_message;

            my $bad = $before . $head . ',' . $members->($n + 1) . $tail;
            $response = $http->post($uri, $bad);
            is $response->status, 400, "$uri: $name, 4097 members";
            like $response->json->{detail} // '', qr/^.* at byte [0-9]+$/, '... says where';
            my ($offset) = ($response->json->{detail} // '') =~ /([0-9]+)$/;
            my $place = length($before . $head . ',' . $members->($n)) + 1;
            ok abs($offset - $place) <= 8, '... at the one too many' or diag "$offset, not $place";
            is $client->cmd('EXISTS', key("$room-bad")), 0, '... and nothing of it is taken';
        };

        $count->('the body', 1, '', '{"event":"call_ringing","room_name":"ROOM"', 4094, '}');
        $count->('an unknown event', 1, '', '{"event":"new_one","room_name":"ROOM"', 4094, '}', UNKNOWN);
        $count->('data', 1, '{"event":"call_ringing","data":', '{"room_name":"ROOM"', 4095, '}}');

        # At levels that are not read, there may be more.
        my $room = new_room();
        my $more = $members->(5000);
        for my $text ("{$more}", "[{$more}]", "{\"x\":{$more}}", '[' . join(',', ('{}') x 10_000) . ']') {
            is $http->post($uri, qq({"event":"call_postprocessing","room_name":"$room","call_duration":1000,"entities":{"x":$text}}))->body,
                OK, "$uri: in entities";
            $subscriber->next_message;
            is $http->post($uri, qq({"event":"call_postprocessing","room_name":"$room","data":{"call_duration":1000,"x":$text}}))->body,
                OK, "$uri: below data";
            $subscriber->next_message;
        }

        # In an element that is refused for it, and no other one.
        my ($one, $two) = (new_room(), new_room());
        my $element = sub ($room, $n) { return qq({"event":"call_ringing","room_name":"$room",) . $members->($n) . '}' };
        my $body = '{"event":"x","events":[' . $element->($one, 4094) . ',' . $element->($two, 4095) . ']}';
        my $response = $http->post($uri, $body);
        is $response->status, 400, "$uri: one of two elements";
        is $client->cmd('EXISTS', key($one)), 1, '... the other one is taken';
        is $client->cmd('EXISTS', key($two)), 0, '... and that one is not';
        $subscriber->next_message;
    }
};

ok $nginx->stop, 'stop';

done_testing;
