# Room names come from whoever can post. They reach no other key and no other
# channel, break out of no log line and out of no string of a message. The same
# of the names of events and of delivery ids.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP ();
use Vaani::Test::Events;

# Redis lets nginx do anything here: what only the ACL stops is to be seen.
my $redis = Vaani::Test::Redis->start(acl => [qw(allkeys allchannels +@all)]);
# And one that is as the documentation asks for: its patterns let all names in.
my $least = Vaani::Test::Redis->start;

my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    log_format plain '\$uri "\$vaani_room" "\$vaani_event" \$status';
    log_format json escape=json
        '{"uri":"\$uri","room":"\$vaani_room","event":"\$vaani_event","status":\$status}';

    vaani_redis @{[ $redis->url ]};
    vaani_redis_connect_timeout 10s;
    vaani_redis_timeout 10s;

    server {
        listen unix:%%SOCK%%;
        keepalive_requests 1000000;
        client_body_buffer_size 1m;    # or nginx logs a temporary file
        access_log %%DIR%%/plain.log plain;
        access_log %%DIR%%/json.log json;

        location = /hook        { vaani_webhook; }
        location = /stream      { vaani_webhook; vaani_stream vaani:stream; }
        location = /room-stream { vaani_webhook; vaani_stream "s:\$vaani_room" maxlen=5; }
        location = /prefix      { vaani_webhook; vaani_prefix "p:\$vaani_room"; }
        location = /channels    {
            vaani_webhook;
            vaani_channel "c:\$vaani_room:x";
            vaani_channel \$vaani_room;
            vaani_channel "\$vaani_event/\$vaani_room";
        }
        location = /least       {
            vaani_webhook;
            vaani_redis @{[ $least->url ]};
            add_header X-Reason \$vaani_reason;
        }
        location = /spool       { vaani_webhook; vaani_redis unix:%%DIR%%/late.sock; vaani_spool %%DIR%%/spool; }
        location = /strict      { vaani_webhook; vaani_validation strict; }
        location = /done        { access_log off; return 204; }
    }
CONF

my $http = $nginx->http;
my $client = $redis->client;
my $all = $redis->client->psubscribe('*')->subscribe('');    # "*" does not match ""
my $json = JSON::PP->new->utf8->allow_nonref;

use constant MARK => 'the end of what was published';

# All keys that an accepted room may touch.
my $DEFAULT = sub ($room) { return ('vaani:events', "vaani:room:$room") };
my %LOCATION = (
    '/hook'        => { key => sub ($room) { "vaani:call:$room" }, channels => $DEFAULT },
    '/stream'      => {
        key => sub ($room) { "vaani:call:$room" }, channels => $DEFAULT,
        stream => sub ($room) { 'vaani:stream' },
    },
    '/room-stream' => {
        key => sub ($room) { "vaani:call:$room" }, channels => $DEFAULT,
        stream => sub ($room) { "s:$room" },
    },
    '/prefix'      => {
        key => sub ($room) { "p:$room:call:$room" },
        channels => sub ($room) { return ("p:$room:events", "p:$room:room:$room") },
    },
    '/channels'    => {
        key => sub ($room) { "vaani:call:$room" },
        channels => sub ($room) { return ("c:$room:x", $room, "call_ringing/$room") },
    },
);

# --- ways to spell a name (bytes) as a JSON string

sub raw ($name) { return '"' . $name =~ s/(["\\])/\\$1/gr . '"' }

sub escaped ($name) {
    utf8::decode(my $characters = $name) or die "not UTF-8\n";
    return '"' . join('', map { escape(ord) } split //, $characters) . '"';
}

sub escape ($c) {
    return sprintf '\\u%04x', $c if $c < 0x10000;
    $c -= 0x10000;
    return sprintf '\\u%04X\\u%04x', 0xd800 + ($c >> 10), 0xdc00 + ($c & 0x3ff);
}

# JSON::PP 4.16, which Perl 5.40 has, loses an escaped "0".
sub parse ($text) { return $json->decode($text =~ s/\\(u0030|.)/$1 eq 'u0030' ? '0' : "\\$1"/gers) }

# As RFC 3629 has it, which Perl's own does not.
sub is_utf8 ($bytes) {
    return $bytes =~ m{\A(?:[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]
        |[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}
        |[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})*+\z}x;
}

sub utf8 ($characters) { utf8::encode($characters); return $characters }

# A name for a report.
sub shown ($name) {
    my $short = length $name > 60 ? substr($name, 0, 50) . '... (' . length($name) . ' bytes)' : $name;
    return '"' . $short =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ger . '"';
}

# --- what is looked at after each event

sub published ($connection) {
    my @published;
    while (my $message = $connection->next_message) {
        return @published if $message->{channel} eq MARK;
        push @published, [ @$message{qw(channel payload)} ];
    }
    die "no end of the messages\n";
}

my %read = (plain => 0, json => 0);

# A request is logged before the next one of its connection is read.
sub logged ($log) {
    my $new = slurp($nginx->dir . "/$log.log", $read{$log});
    $read{$log} += length $new;
    return split /(?<=\n)/, $new;
}

sub same ($what, $got, $want) {
    my ($g, $w) = map { in_words($_) } $got, $want;
    return $g eq $w ? () : "$what: $g, expected $w";
}

sub in_words ($value) {
    return !defined $value ? 'nothing'
        : ref $value eq 'ARRAY' ? '[' . join(', ', map { in_words($_) } @$value) . ']'
        : ref $value eq 'HASH' ? '{' . join(', ', map { "\"$_\": $value->{$_}" } sort keys %$value) . '}'
        : "\"$value\"";
}

# The lines of the error log, except those about the unreachable Redis and
# about connections.
sub logged_errors ($mark) {
    # Names that are new are told, sanitized: t/events/drift.t.
    return join '', grep { !/late\.sock|vaani: connected to unix:|client closed connection while waiting|is empty; events delivered by this worker|vaani: new in Vaani's deliveries: [ -~]*\n\z/ } split /(?<=\n)/, slurp($nginx->dir . '/error.log', $mark);
}

# The access logs of one request.
sub log_problems ($uri, $status, $room, $event) {
    $http->get('/done');
    my @plain = logged('plain');
    my @json = logged('json');
    my @problems;

    my ($got_room, $got_event) = map { $_ eq '-' ? '' : s/\\x([0-9A-F]{2})/chr hex $1/ger }
        @plain == 1 && $plain[0] =~ /\A\Q$uri\E "([ !#-~]*)" "([ !#-~]*)" $status\n\z/
        ? ($1, $2) : return "the access log: @plain";
    # "-" is also how it shows a name of that one byte.
    push @problems, same('the room in the log', $got_room, $room) if $room ne '-';
    push @problems, same('the event in the log', $got_event, $event) if $event ne '-';

    my $parsed = @json == 1 && $json[0] =~ /\A[^\x00-\x1f\x7f]*\n\z/ && eval { parse($json[0]) };
    return @problems, same('the log in JSON', [ map { utf8 $_ } @$parsed{qw(uri room event status)} ],
        [ $uri, $room, $event, $status ]) if $parsed;
    return @problems, "the log in JSON: @json";
}

# All that must be true of an event that is accepted.
#   event  name and spelling of the event, when it is an unknown one
#   id     value of webhook-id
sub problems ($uri, $room, $text, %opt) {
    my $location = $LOCATION{$uri};
    my $key = $location->{key}->($room);
    my @channels = $location->{channels}->($room);
    my $stream = $location->{stream} && $location->{stream}->($room);
    my ($event, $event_text) = @{ $opt{event} // [ 'call_ringing', '"call_ringing"' ] };
    my $known = !$opt{event};

    $client->cmd('FLUSHALL');
    my %names = map { $_ => 1 } @channels;
    my $exact = $redis->client->subscribe(MARK, keys %names);
    my $mark = $nginx->log_mark;
    my $body = qq({"event":$event_text,"room_name":$text});

    my $response = $http->post($uri, $body, defined $opt{id} ? ('Webhook-Id' => $opt{id}) : ());
    my $answer = $response->status . ' ' . $response->body;
    $client->cmd('PUBLISH', MARK, '');
    my @all = published($all);
    my @exact = published($exact);
    $exact->close;

    my @problems = same('answer', $answer,
        $known ? qq(200 {"status":"ok"}\n) : qq(200 {"status":"ok","known":false}\n));
    push @problems, same('channels', [ map { $_->[0] } @all ], \@channels),
        same('exact subscribers', \@exact, \@all), same('different messages', [ map { $_->[1] } @all ],
        [ ($all[0] ? $all[0][1] : 'none') x @channels ]);

    my $text_of = $all[0] ? $all[0][1] : '{}';
    my $message = eval { parse($text_of) };
    push @problems, "not JSON: $text_of" if !$message;
    push @problems, same('members', [ sort keys %$message ], [ sort
        qw(id event room_name received_at key payload), $known ? qw(seq status late) : qw(known) ]);
    push @problems, same("its $_->[0]", utf8($message->{ $_->[0] } // 'none'), $_->[1])
        for [ event => $event ], [ room_name => $room ], [ key => $key ];
    push @problems, same('its payload', [ map { utf8($_ // '') } @{ $message->{payload} }{qw(event room_name)} ],
        [ $event, $room ]), same('payload, byte for byte',
        substr($text_of, -length(qq(,"payload":$body}))), qq(,"payload":$body}));
    my $id = utf8($message->{id} // 'none');
    if (!defined $opt{id}) {
        push @problems, "its id: $id" if $id !~ /\A[0-9a-f]{32}\z/;
    } elsif (is_utf8($opt{id})) {
        push @problems, same('its id', $id, $opt{id});
    }

    my @keys = ($known ? $key : (), $stream // ());
    push @problems, same('keys', [ sort @{ $client->cmd('KEYS', '*') } ], [ sort @keys ]);
    push @problems, same('databases', [ $client->cmd('INFO', 'keyspace') =~ /^(db\d+:keys=\d+)/mg ],
        @keys ? [ 'db0:keys=' . @keys ] : []);
    if ($known) {
        my $call = $client->hgetall($key);
        push @problems, same('the hash', [ @$call{qw(room_name seq status)} ], [ $room, 1, 'ringing' ]);
        push @problems, same('its delivery ids', scalar(grep { /^_id:/ } keys %$call), defined $opt{id} ? 1 : 0);
        push @problems, map { "a field \"$_\"" } grep { !/^[\w:+\/=-]+\z/ } keys %$call;
    }
    push @problems, same('the stream', [ map { $_->[1] } @{ $client->cmd('XRANGE', $stream, '-', '+') } ],
        [ [ message => $text_of ] ]) if defined $stream;

    # A variable shows control characters of an event's name as "?".
    push @problems, log_problems($uri, 200, $room, $event =~ tr/\x00-\x1f\x7f/?/r);
    push @problems, same('the error log', logged_errors($mark), '');
    return @problems;
}

# All that must be true of an event that is refused, in both modes: what is not
# UTF-8 is repaired in lenient mode, but not in a name.
sub refusal_problems ($status, $text) {
    my $lenient = $status == 400 && !is_utf8($text) ? 422 : $status;
    return (
        map({ "strict: $_" } refusal_problems_of('/strict', $status, $text)),
        map({ "lenient: $_" } refusal_problems_of('/hook', $lenient, $text)),
    );
}

sub refusal_problems_of ($uri, $status, $text) {
    $client->cmd('FLUSHALL');
    my $mark = $nginx->log_mark;
    my $response = $http->post($uri, qq({"event":"call_ringing","room_name":$text}));
    $client->cmd('PUBLISH', MARK, '');

    my $problem = eval { parse($response->body) } // {};
    my $detail = $problem->{detail} // 'none';
    my @problems = same('answer', $response->status, $status);
    push @problems, same('published', [ published($all) ], []), same('keys', $client->cmd('DBSIZE'), 0);
    push @problems, "detail: $detail" if $detail !~ ($status == 422
        ? qr/\Aroom_name must (?:have 1 to 256 bytes|not contain control characters|not have a lone surrogate|be valid UTF-8)\z/
        : qr/\A[a-zA-Z0-9 ()+-]+ at byte \d+\z/);
    push @problems, log_problems($uri, $status, '', $status == 422 ? 'call_ringing' : '');

    my $log = logged_errors($mark);
    my $line = ", client: unix:, server: , request: \"POST $uri HTTP/1.1\", host: \"localhost\"";
    my $reason = $status == 400 ? 'invalid_json' : 'invalid_room_name';
    my $more = qr/(?:; [0-9]+ more for this reason since the previous line)?/;
    push @problems, "the error log: $log" if $log !~
        /\A\S+ \S+ \[(?:info|warn)\] \d+#\d+: \*\d+ vaani: event rejected \($reason\): \Q$detail\E$more\Q$line\E\n\z/;
    return @problems;
}

sub no_problems ($name, @problems) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok(!@problems, $name) || diag(join "\n", @problems > 8 ? @problems[ 0 .. 7 ] : @problems);
}

# --- names that are taken as they are

my @ACCEPTED = (
    # of JSON and of log lines
    '"', '\\', '\\"', '\\\\', "'", '","status":"ended', '"},"payload":{"x":"', '{"a":"b"}', '[]', 'null', 'true', '1',
    '" "call_ended" 200', '-', '\\n', '\\u0000', '\\x22', '%0d%0a', 'a/b', '\\/',
    # of Redis: tags, patterns, keys and channels of the module
    '{x}', 'a{x}b', '{', '}', '{}', '{}{x}', 'a}b{c', '*', '?', '[a-z]', '[', 'a*', '**', '^', '\\*', 'h?llo',
    ':', '::', ':x', 'x:', 'x:call:y', ':call:y', 'a:room:b', 'vaani:call:x', 'vaani:events', 'vaani:room:x', 'events',
    'room', 'call', 'seq', 'status', '_state', '_recent', '_id:x', 'at:call_ringing', 'vaani:stream', '__keyspace@0__:x',
    # of paths, shells, formats, nginx's variables
    '.', '..', '../', '../../etc/passwd', '/', '//', '~', '%', '%s%n', '%00', '%zz', '$', '$vaani_event', '${x}', '$1',
    '$(id)', '`id`', ';', '|', '&', '<b>', '<!--', '#', '@named', '=',
    ' ', '  ', ' x', 'x ', 'a  b',
    # of Lua and RESP
    '$6', '*1', '+OK', '-ERR x', ':1', '*1 $8 FLUSHALL', ']]', '--', '--[[', ']] .. redis.call("FLUSHALL") --', '\\0',
    'FLUSHALL', 'KEYS[1]', 'ARGV[1]', "' or ''='", 'MAXLEN', '0', '-1', 'nan', 'inf', '1e999',
    # beyond ASCII
    map({ utf8 $_ } "\x{a0}", "caf\x{e9}", "cafe\x{301}", "\x{212b}", "\x{c5}", "A\x{30a}", "\x{ad}", "\x{200b}",
        "\x{200d}", "\x{2028}", "\x{2029}", "\x{202e}gnp.exe", "\x{2066}x\x{2069}", "\x{feff}", "\x{feff}x", "\x{fffd}",
        "\x{fffe}", "\x{ffff}", "\x{fdd0}", "\x{d7ff}", "\x{e000}", "\x{10ffff}", "\x{1f4de}", "\x{1f468}\x{200d}\x{1f469}",
        "\x{915}\x{94d}\x{937}", "\x{627}\x{644}", "\x{ff0e}\x{ff0e}\x{ff0f}", "\x{ff02}", "\x{e0041}", "\x{7ff}\x{800}"),
    # 256 bytes, which are fewer characters
    'x' x 256, utf8("\x{e9}" x 128), utf8('x' . "\x{20ac}" x 85), utf8("\x{1f4de}" x 64), utf8('xy' . "\x{e9}" x 127),
    '"' x 256, '\\' x 256,
);

subtest 'accepted' => sub {
    my %seen;
    $seen{$_}++ for @ACCEPTED;
    is_deeply [ grep { $seen{$_} > 1 } @ACCEPTED ], [], 'the table has each once';

    for my $name (@ACCEPTED) {
        no_problems shown($name), problems('/hook', $name, raw($name));
        no_problems shown($name) . ', escaped', problems('/hook', $name, escaped($name));
    }
};

for my $uri (grep { $_ ne '/hook' } sort keys %LOCATION) {
    subtest "accepted, $uri" => sub {
        no_problems shown($_), problems($uri, $_, raw($_)) for @ACCEPTED;
    };
}

subtest 'each is a call of its own' => sub {
    $client->cmd('FLUSHALL');
    my %answers;
    post_many($nginx, '/hook', [ map { qq({"event":"call_ringing","room_name":@{[ raw($_) ]}}) } @ACCEPTED ],
        connections => 8, on_response => sub ($i, $response) { $answers{ $response->{body} }++ });
    is_deeply \%answers, { qq({"status":"ok"}\n) => scalar @ACCEPTED }, 'none is a duplicate of another';
    is_deeply [ sort @{ $client->cmd('KEYS', '*') } ], [ sort map { "vaani:call:$_" } @ACCEPTED ], 'the keys';
    is_deeply [ grep { $client->cmd('HGET', "vaani:call:$_", 'room_name') ne $_ } @ACCEPTED ], [], 'the names';
    published($all) if $client->cmd('PUBLISH', MARK, '');
    $http->get('/done');
    logged($_) for qw(plain json);
};

subtest 'the documented rights are enough for all of them' => sub {
    my $stored = $least->client;
    for my $name (@ACCEPTED) {
        my $response = $http->post('/least', qq({"event":"call_ringing","room_name":@{[ raw($name) ]}}));
        no_problems shown($name), same('answer', [ $response->status, $response->header('X-Reason') ], [ 200, undef ]),
            same('hash', $stored->cmd('HGET', "vaani:call:$name", 'room_name'), $name);
    }
    is $stored->cmd('DBSIZE'), @ACCEPTED, 'and nothing else is there';
    $http->get('/done');
    logged($_) for qw(plain json);
};

subtest 'hash tags, in a cluster' => sub {
    my $cluster = Vaani::Test::Redis->start(
        acl    => [ Vaani::Test::ACL::with_prefix('{vaani}'), qw(~{vaani}:stream ~{vaani:call:*}:stream +xadd) ],
        config => ['cluster-enabled yes'],
    );
    my $node = $cluster->client;
    $node->cmd('CLUSTER', 'ADDSLOTSRANGE', 0, 16383);
    ok wait_for(sub { $node->cmd('CLUSTER', 'INFO') =~ /^cluster_state:ok/m }), 'a cluster of one' or return;

    # The two ways of docs/data-model.md, and none.
    my $clustered = Vaani::Test::Nginx->start(http => <<"CONF");
        vaani_redis @{[ $cluster->url ]};
        server {
            listen unix:%%SOCK%%;
            location = /none   { vaani_webhook; }
            location = /shared { vaani_webhook; vaani_prefix "{vaani}"; vaani_stream "{vaani}:stream"; }
            location = /own    { vaani_webhook; vaani_stream "{vaani:call:\$vaani_room}:stream" maxlen=100; }
        }
CONF
    my $post = sub ($uri, $name) {
        return $clustered->http->post($uri, qq({"event":"call_ringing","room_name":@{[ raw($name) ]}}))->status;
    };

    is_deeply [ map { shown($_) } grep { $post->('/none', $_) != 200 } @ACCEPTED ], [], 'without a stream all names go';
    is_deeply [ map { shown($_) } grep { $post->('/shared', $_) != 200 } @ACCEPTED ], [], '... and with a tag for all';

    # The first "}" ends the tag of the stream, so it is not the slot of the call.
    my @other_slot = grep { /\}/ } @ACCEPTED;
    $node->cmd('FLUSHALL');
    is_deeply [ map { shown($_) } grep { $post->('/own', $_) != 200 } @ACCEPTED ], [ map { shown($_) } @other_slot ],
        '... and with a tag for each, those without "}"';
    $clustered->log_like(qr/CROSSSLOT/);
};

# --- names that are refused

# A control character as it is, is no JSON; one above U+001F is.
my @REFUSED = (
    (map { [ 400, '"a' . chr($_) . 'b"', sprintf('raw U+%04X', $_) ] } 0 .. 0x1f),
    (map { [ 422, '"a' . escape($_) . 'b"', sprintf('escaped U+%04X', $_) ] } 0 .. 0x1f, 0x7f .. 0x9f),
    (map { [ 422, '"a' . utf8(chr $_) . 'b"', sprintf('raw U+%04X', $_) ] } 0x7f .. 0x9f),
    (map { [ 422, "\"a\\$_\"", "\\$_" ] } qw(n r t b f)),
    [ 422, '"\r\n*1\r\n$8\r\nFLUSHALL\r\n"', 'RESP' ],
    [ 422, '"x\u000d\u000a*1\u000d\u000a$8\u000d\u000aFLUSHALL"', 'RESP, escaped' ],
    [ 400, "\"\r\n*1\r\n\$8\r\nFLUSHALL\r\n\"", 'RESP, raw' ],
    [ 422, '"x\nvaani: event rejected"', 'a log line' ],
    [ 422, '"\u0000"', 'NUL alone' ], [ 422, '"\u0000x"', 'NUL first' ], [ 422, '"x\u0000"', 'NUL last' ],
    [ 422, '""', 'nothing' ],
    [ 422, raw('x' x 257), '257 bytes' ], [ 422, escaped('x' x 257), '257 bytes, escaped' ],
    [ 422, raw(utf8('x' . "\x{e9}" x 128)), '257 bytes, the last character of two' ],
    [ 422, raw(utf8("\x{e9}" x 129)), '258 bytes, 129 characters' ],
    [ 422, raw(utf8('xx' . "\x{20ac}" x 85)), '257 bytes, the last character of three' ],
    [ 422, raw(utf8('x' . "\x{1f4de}" x 64)), '257 bytes, the last character of four' ],
    [ 422, escaped(utf8('x' . "\x{1f4de}" x 64)), '... escaped' ],
    [ 422, raw('x' x 100_000), '100000 bytes' ],
    [ 422, raw('x' x 255) =~ s/"\z/\\n"/r, '256 bytes with a control character' ],
    (map { [ 400, "\"a$_->[0]b\"", $_->[1] ] }
        [ "\xc0\x80", 'overlong NUL' ], [ "\xc0\xaf", 'overlong slash' ], [ "\xc1\xbf", 'overlong, two bytes' ],
        [ "\xe0\x80\xaf", 'overlong slash, three bytes' ], [ "\xe0\x9f\xbf", 'overlong, three bytes' ],
        [ "\xf0\x80\x80\xaf", 'overlong slash, four bytes' ], [ "\xf0\x8f\xbf\xbf", 'overlong, four bytes' ],
        [ "\xed\xa0\x80", 'a surrogate' ], [ "\xed\xbf\xbf", 'the last surrogate' ],
        [ "\xed\xa0\xbd\xed\xb8\x80", 'a pair of surrogates' ],
        [ "\xf4\x90\x80\x80", 'above U+10FFFF' ], [ "\xf8\x88\x80\x80\x80", 'five bytes' ], [ "\xff", 'FF' ],
        [ "\xfe\xff", 'a mark of UTF-16' ], [ "\x80", 'a byte of the middle' ], [ "\xc3", 'the first of two' ],
        [ "\xe2\x82", 'two of three' ], [ "\xf0\x9f\x93", 'three of four' ], [ "\x85", 'Latin-1 NEL' ],
        [ '\u12', 'a short escape' ], [ '\u00g0', 'no hexadecimal' ], [ '\x41', 'an escape of C' ], [ '\0', 'NUL as in C' ],
        [ '\\\'', 'an escape of JavaScript' ]),
    (map { [ 422, "\"a$_->[0]b\"", $_->[1] ] }
        [ '\ud800', 'a lone high surrogate' ], [ '\udc00', 'a lone low one' ], [ '\ud800\ud800', 'two high ones' ],
        [ '\udc00\ud800', 'a pair the wrong way round' ], [ '\ud83d\u0041', 'half a pair' ], [ '\ud83d\n', 'half a pair' ]),
    [ 400, "\"a\xe2\x82\"", 'two of three at the end' ], [ 422, '"\ud83d"', 'half a pair at the end' ],
    [ 400, '"a"b"', 'a quote' ], [ 400, '"a\\"', 'a backslash at the end' ],
);

subtest 'refused' => sub {
    no_problems "$_->[2]: $_->[0]", refusal_problems(@$_[ 0, 1 ]) for @REFUSED;
};

# --- random ones

# Parts of names: [ bytes, spellings ... ]; refused ones with the reason.
my @GOOD = (
    (map { [ $_, raw($_), escaped($_) ] } split(//, q{"\\/{}*?[]^:.%$ '`<>&;|-+#=~()!@,_09azAZ}),
        'vaani:call:', 'vaani:room:', ':call:', ':room:', 'events', '../', '$vaani_event', '${x}', '%s', '%n', ']]', '--',
        '$6', '*1', 'FLUSHALL', 'redis.call()', '"},"x":"', '","status":"ok', '{vaani:call:', '\\n', '\\u0000', 'x' x 60,
        map { utf8 $_ } "\x{e9}", "e\x{301}", "\x{2028}", "\x{202e}", "\x{feff}", "\x{a0}", "\x{fffe}", "\x{ffff}",
        "\x{10ffff}", "\x{1f4de}", "\x{ad}", "\x{200b}", "\x{d7ff}", "\x{e000}", "\x{20ac}" x 25),
    [ '/', '"\\/"' ],
);
my @BAD = (
    (map { [ 422, escape($_) ] } 0 .. 0x1f, 0x7f .. 0x9f),
    (map { [ 422, utf8 chr ] } 0x7f .. 0x9f),
    (map { [ 400, chr ] } 0 .. 0x1f),
    (map { [ 400, $_ ] } "\xff", "\xc0\x80", "\xe2\x82", "\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80", '\u12x', '\x'),
    (map { [ 422, $_ ] } '\ud800', '\udfff', '\ud83d\ud83d'),
);

# ($status, $text, $name)
sub random_name () {
    my ($name, $text, $status) = ('', '', 200);
    my $parts = rand() < 0.1 ? 20 + int rand 60 : 1 + int rand 8;
    my $bad = rand() < 0.25 ? int rand $parts : -1;

    for my $n (0 .. $parts - 1) {
        if ($n == $bad) {
            my $part = $BAD[ rand @BAD ];
            $status = $part->[0];
            $text .= $part->[1];
            next;
        }
        my ($bytes, @spellings) = @{ $GOOD[ rand @GOOD ] };
        $name .= $bytes;
        $text .= $spellings[ rand @spellings ] =~ s/\A"|"\z//gr;
    }
    $status = 422 if $status == 200 && length $name > 256;
    return ($status, "\"$text\"", $name);
}

my $seed = $ENV{VAANI_SEED} // 20261;
my @random;

subtest 'random names' => sub {
    srand $seed;
    my @locations = sort keys %LOCATION;
    my (%count, @problems);

    for my $n (1 .. 600) {
        my ($status, $text, $name) = random_name();
        my $uri = $locations[ $n % @locations ];
        my @found = $status == 200 ? problems($uri, $name, $text) : refusal_problems($status, $text);

        push @problems, map { "$n, $uri, " . shown($text) . ": $_" } @found;
        push @random, $name if $status == 200;
        $count{$status}++;
    }
    no_problems "as foreseen (seed $seed)", @problems;
    cmp_ok $count{$_} // 0, '>=', 40, "some of them are answered $_" for 200, 400, 422;
};

# --- through the spool

subtest 'through the spool' => sub {
    # A mark to look for in the logs.
    my %names = map { ("${_}zq" => 1) } grep { length() < 255 } @ACCEPTED, @random;
    my @names = sort keys %names;
    my $mark = $nginx->log_mark;
    my ($spool, $socket) = map { $nginx->dir . "/$_" } 'spool', 'late.sock';

    $client->cmd('FLUSHALL');
    my %answers;
    post_many($nginx, '/spool', [ map { qq({"event":"call_ringing","room_name":@{[ raw($_) ]}}) } @names ],
        connections => 8, on_response => sub ($i, $response) { $answers{ $response->{body} }++ });
    is_deeply \%answers, { qq({"status":"queued"}\n) => scalar @names }, 'all are queued';
    is $client->cmd('DBSIZE'), 0, 'nothing is in Redis';

    SKIP: {
        my $tool = vaani_spool();
        skip 'make tool builds it', 3 if !-x $tool;
        my ($exit, $out) = run([ $tool, list => $spool ]);
        is $exit, 0, 'vaani-spool lists them';
        my @lines = split /\n/, $out;
        is @lines, @names + 1, '... a line each';
        is_deeply [ grep { !/\A[ -~]+\z/ } @lines ], [], '... that steers no terminal';
    }

    symlink $redis->socket, $socket or die "symlink: $!\n";
    my @published;
    while (@published < 2 * @names) {
        my $message = $all->next_message(30) // last;
        push @published, $message;
    }
    $client->cmd('PUBLISH', MARK, '');
    is_deeply [ published($all) ], [], 'no more messages than two for each';

    my (%channels, @problems);
    for (@published) {
        my ($channel, $text) = @$_{qw(channel payload)};
        my $message = eval { parse($text) } // {};
        my $room = utf8($message->{room_name} // '');

        $channels{$room}{$channel}++;
        push @problems, same('members', [ sort keys %$message ],
            [ sort qw(id seq event room_name status late received_at key replayed payload) ]),
            same('key', utf8($message->{key} // ''), "vaani:call:$room"),
            same('payload', utf8($message->{payload}{room_name} // ''), $room);
    }
    no_problems 'the messages', @problems;
    no_problems 'the channels',
        map { same(shown($_), $channels{$_}, { 'vaani:events' => 1, "vaani:room:$_" => 1 }) } @names;
    is_deeply [ sort @{ $client->cmd('KEYS', '*') } ], [ sort map { "vaani:call:$_" } @names ], 'the keys';
    no_problems 'the hashes',
        map { same(shown($_), $client->cmd('HGET', "vaani:call:$_", 'room_name'), $_) } @names;

    ok wait_for(sub { !glob "$spool/*.log" }), 'the spool is empty';
    is_deeply [ map { s{.*/}{}r } glob "$spool/*" ], ['lock'], '... and nothing was kept aside';
    $nginx->log_unlike(qr/zq|[^ -~\n]/, 'the error log has none of the names', $mark);

    $http->get('/done');
    my @lines = logged('plain');
    is scalar(grep { m{\A/spool "[ !#-~]*" "call_ringing" 200\n\z} } @lines), @names, 'a line of the access log for each';
    @lines = logged('json');
    is_deeply [ sort map { utf8((eval { parse($_) } // {})->{room}) } @lines ], \@names, '... and one of JSON';
};

# --- the names of events

subtest 'names of unknown events' => sub {
    # Those may have control characters, if they are escaped.
    my @names = (
        grep({ length } @ACCEPTED), 'call_ringing ', 'CALL_RINGING', "call_ringing\0", "\0", "a\r\nb", "a\nb", "\e[2J",
        "\r\n*1\r\n\$8\r\nFLUSHALL\r\n", "x\", \"y\n", map({ chr } 1 .. 0x1f, 0x7f),
        map({ utf8 chr } 0x80 .. 0x9f), 'x' x 256,
    );
    no_problems shown($_), problems('/hook', 'r', '"r"', event => [ $_, escaped($_) ]) for @names;
    no_problems shown($_) . ' as it is', problems('/stream', 'r', '"r"', event => [ $_, raw($_) ])
        for grep { !/[\x00-\x1f]/ } @names;
};

# --- delivery ids

subtest 'delivery ids' => sub {
    # As a header can have them: without NUL, CR and LF, and spaces at the ends.
    my @ids = grep { !/\A | \z/ } @ACCEPTED,
        map({ "a${_}b" } map({ chr } grep { !/^(?:0|10|13)$/ } 0 .. 0x1f, 0x7f .. 0xff), "\xc0\x80", "\xed\xa0\x80"),
        'x' x 3000, 'seq', '_state', 'x' x 63, 'x' x 64, 'x' x 65;
    my %seen;
    @ids = grep { !$seen{$_}++ } @ids;

    no_problems shown($_), problems('/hook', 'r', '"r"', id => $_) for @ids;

    $client->cmd('FLUSHALL');
    my $body = '{"event":"call_ringing","room_name":"r"}';
    my $others = sub ($answer) {
        return [ map { shown($_) } grep {
            $http->post('/hook', $body, 'Webhook-Id' => $_)->body ne qq({"status":"$answer"}\n)
        } @ids ];
    };
    is_deeply $others->('ok'), [], 'each is new';
    is_deeply $others->('duplicate'), [], '... and known then';
    is $client->cmd('HGET', 'vaani:call:r', 'seq'), @ids, 'as many transitions';
    is_deeply $client->cmd('KEYS', '*'), ['vaani:call:r'], 'of one call';
};

ok $nginx->stop, 'stop';

done_testing;
