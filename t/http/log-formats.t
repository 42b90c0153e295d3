# The log formats that the README and the examples give: each line is one JSON
# object with all the module's variables, whatever comes, and in whichever phase
# nginx or the module ends the request.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP ();
use Socket qw(SOL_SOCKET SO_LINGER);
use Vaani::Test::Events;
use Vaani::Test::HTTP qw(format_request);

use constant FILES => qw(README.md examples/nginx.conf examples/hardened.conf);
use constant VARIABLES => qw(event room seq previous_status status ignored result reason redis_time);
use constant EMPTY => (
    event => '', room => '', seq => '', previous_status => '', call_status => '', ignored => '', result => '',
    reason => '', redis_time => '',
);

my $time = qr/^\d+\.\d{3}$/;

# --- the formats, and the maps that they need

my (%format, %log, $http_text);

for my $file (FILES) {
    my $name = 'f' . keys %format;
    my $text = slurp(ROOT . "/$file");
    my ($format) = $text =~ /^ *(log_format vaani escape=json.*?;)$/ms or die "$file has no log format\n";

    $format{$name} = { file => $file, text => $format };
    $http_text .= $1 . "\n" while $text =~ /^ *(map \S+ \$log_\w+ \{.*?^ *\})$/msg;
    $http_text .= $format =~ s/log_format vaani/log_format $name/r . "\n";
}

subtest 'what the formats have' => sub {
    for my $name (sort keys %format) {
        my ($file, $text) = @{ $format{$name} }{qw(file text)};
        my %member = reverse $text =~ /"(\w+)":"\$vaani_(\w+)"/g;

        # "status" is that of the answer.
        is_deeply \%member, { map { $_ => $_ eq 'status' ? 'call_status' : $_ } VARIABLES },
            "$file: the variables, in quotes, under their names";
        $format{$name}{members} = [ $text =~ /"(\w+)":/g ];
        $format{$name}{strings} = { map { $_ => 1 } $text =~ /"(\w+)":"/g };
    }
};

# --- nginx

my $redis = Vaani::Test::Redis->start;
my $silent = Vaani::Test::Redis->start;

my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    $http_text
    @{[ map { "access_log %%DIR%%/$_.log $_;" } sort keys %format ]}
    log_subrequest on;

    # A request is logged when its connection is closed, which waits for no more.
    lingering_close off;

    limit_req_zone \$server_name zone=all:1m rate=1r/m;
    limit_req_zone \$vaani_room  zone=rooms:1m rate=1r/m;
    limit_conn_zone \$server_name zone=connections:1m;

    vaani_redis @{[ $redis->url ]};
    vaani_redis_timeout 20s;

    server {
        listen unix:%%SOCK%%;
        listen unix:%%DIR%%/h2.sock http2;
        server_name hooks;
        large_client_header_buffers 2 1k;

        location = /hook     { vaani_webhook; }
        location = /limited  { vaani_webhook; limit_req zone=all; }
        location = /crowded  { vaani_webhook; vaani_redis @{[ $silent->url ]}; limit_conn connections 1; }
        location = /denied   { vaani_webhook; deny all; }
        location = /methods  { vaani_webhook; limit_except POST { deny all; } }
        location = /small    { vaani_webhook; client_max_body_size 100; }
        location = /slow     { vaani_webhook; client_body_timeout 50ms; }
        location = /silent   { vaani_webhook; vaani_redis @{[ $silent->url ]}; }
        location = /down     { vaani_webhook; vaani_redis unix:%%DIR%%/none.sock; }
        location = /gone     { return 444; }
        location = /ok       { return 200 ok; }
        location = /writing  { access_log off; return 200 \$connections_writing; }
        location = /moved    { return 301 /ok; }
        location = /rewritten { rewrite ^ /hook last; }
        location = /error-page { vaani_webhook; client_max_body_size 10; error_page 413 = /ok; }
        location = /error-uri  { deny all; error_page 403 = /hook; }
        location = /error-name { deny all; error_page 403 = \@hook; }
        location = /error-of-module { vaani_webhook; vaani_validation strict; error_page 422 503 = /ok; }
        location = /mirrored { mirror /hook; proxy_pass http://unix:%%SOCK%%:/ok; }
        location \@hook       { vaani_webhook; }

        # Long before there is anything to know.
        location = /early {
            set \$early "\$vaani_event|\$vaani_room|\$vaani_result|\$vaani_reason|\$vaani_redis_time";
            if (\$vaani_result) { return 500; }
            limit_req zone=rooms;
            vaani_webhook;
            add_header X-Early \$early always;
        }

        location / { return 404; }
    }

    server {
        listen unix:%%DIR%%/impatient.sock;
        client_header_timeout 50ms;
        location / { vaani_webhook; }
    }
CONF

my $http = $nginx->http(retry => 0);
my $json = JSON::PP->new->utf8;

my %read = map { $_ => 0 } keys %format;

# RFC 3629.
my $utf8 = qr/^(?:
      [\x00-\x7f] | [\xc2-\xdf][\x80-\xbf]
    | \xe0[\xa0-\xbf][\x80-\xbf] | [\xe1-\xec\xee\xef][\x80-\xbf]{2} | \xed[\x80-\x9f][\x80-\xbf]
    | \xf0[\x90-\xbf][\x80-\xbf]{2} | [\xf1-\xf3][\x80-\xbf]{3} | \xf4[\x80-\x8f][\x80-\xbf]{2}
)*\z/x;

# The next lines of a log, once there are so many.
sub next_lines ($name, $count) {
    my $path = $nginx->dir . "/$name.log";
    my $new = '';

    wait_for(sub { $new = slurp($path, $read{$name}); ($new =~ tr/\n//) >= $count }, 10);
    $read{$name} += length $new;
    return split /(?<=\n)/, $new;
}

# One line in each log, and its values; a regex where that is meant.
sub logged ($name, %want) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;

    subtest $name => sub {
        my $count = delete $want{lines} // 1;

        for my $format (sort keys %format) {
            my ($file, $members, $strings) = @{ $format{$format} }{qw(file members strings)};
            my @lines = next_lines($format, $count);
            is scalar @lines, $count, "$file: lines";

            for my $line (@lines) {
                ok $line =~ $utf8, '... UTF-8' or diag $line;
                my $got = eval { $json->decode($line) };
                ok $got, '... JSON' or diag $line, $@;
                is_deeply [ sort keys %{ $got // {} } ], [ sort @$members ], '... its members';

                # A number must be one of JSON: not "000", nor nothing.
                for my $member (grep { !$strings->{$_} } @$members) {
                    like $line, qr/"$member":(?:0|[1-9]\d*)(?:\.\d+)?[,}]/, "... $member is a number";
                }
            }

            my $got = eval { $json->decode($lines[-1]) } // {};
            for my $member (grep { exists $got->{$_} } sort keys %want) {
                my $value = $want{$member};
                ref $value ? like($got->{$member}, $value, "... $member") : is($got->{$member}, $value, "... $member");
            }
        }
    };
    return;
}

sub request ($uri, $body) {
    return join '', format_request(uri => $uri, body => $body, headers => { 'Content-Type' => 'application/json' });
}

# Sent as it is, over a connection of its own; the client.
sub raw ($bytes, $sock = $nginx->sock) {
    my $raw = Vaani::Test::HTTP->new(sock => $sock, retry => 0);
    $raw->send_raw($bytes);
    return $raw;
}

# Waits until nginx has taken one event without an answer.
sub under_way () {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $client = $nginx->http;
    return ok wait_for(sub { $client->get('/writing')->body == 2 }), 'one event is under way';
}

# --- what the module ends

subtest 'the module' => sub {
    my $body = event('call_started', room => 'first');
    $http->post('/hook', $body);
    logged 'ok', status => 200, event => 'call_started', room => 'first', result => 'ok', reason => '', redis_time => $time,
        seq => 1, previous_status => '', call_status => 'dialing', ignored => '';
    $http->post('/hook', $body);
    logged 'duplicate', status => 200, event => 'call_started', room => 'first', result => 'duplicate', reason => '';
    $http->post('/hook', event('call_ended', room => 'first', call_duration => 'x', end_reason => 7));
    logged 'converted and left out', status => 200, event => 'call_ended', result => 'ok', seq => 2,
        previous_status => 'dialing', call_status => 'ended', ignored => 'call_duration,end_reason';
    $http->post('/hook', '{');
    logged 'rejected', status => 400, EMPTY, result => 'rejected', reason => 'invalid_json';
    $http->get('/hook');
    logged 'another method', status => 405, EMPTY, result => 'rejected', reason => 'method';
    $http->post('/down', $body);
    logged 'unavailable', status => 503, event => 'call_started', room => 'first', result => 'unavailable',
        reason => 'redis_down', redis_time => qr/^$|$time/;
    $http->post('/error-of-module', event('call_ended', call_duration => 'x'));
    logged 'an answer of the module is not replaced', status => 422, event => 'call_ended', result => 'rejected',
        reason => 'mistyped_field';
};

# --- what nginx ends

subtest 'nginx itself' => sub {
    my $body = event('call_started', room => new_room());

    $http->post('/limited', $body);
    logged 'limit_req, the first', status => 200, result => 'ok';
    $http->post('/limited', $body);
    logged 'limit_req', status => 503, EMPTY;

    $http->post('/denied', $body);
    logged 'deny', status => 403, EMPTY;
    $http->request(method => 'PUT', uri => '/methods', body => $body);
    logged 'limit_except', status => 403, EMPTY;

    my $long = event('call_started', room => 'x' x 200);
    $nginx->http->post('/small', $long);
    logged 'too large', status => 413, EMPTY, result => 'rejected', reason => 'body_too_large';
    $nginx->http->request(method => 'POST', uri => '/small', body => $long, chunked => 50);
    logged 'too large, in chunks', status => 413, EMPTY, result => 'rejected', reason => 'body_too_large';

    my $part = raw(substr request('/slow', $body), 0, -10);
    ok $part->wait_closed, 'a body that does not come is not waited for';
    logged 'body timeout', status => 408, EMPTY, result => 'rejected', reason => 'body_unreadable';
    $part = raw("POST /hook HTTP/1.1\r\nHost: x\r\n", $nginx->dir . '/impatient.sock');
    ok $part->wait_closed, 'nor a header';
    logged 'header timeout', status => 408, EMPTY;

    raw(substr request('/hook', $body), 0, -10)->close;
    logged 'the client leaves within the body', status => 400, EMPTY, result => 'rejected', reason => 'body_unreadable';

    $http->get('/nowhere');
    logged 'no location', status => 404, EMPTY;
    $http->get('/moved');
    logged 'return', status => 301, EMPTY;
    eval { $http->get('/gone') };
    logged 'return 444', status => 444, EMPTY;
};

subtest 'what is no request' => sub {
    for my $case (
        [ 'garbage'                => "\x16\x03\x01\x02\x00\x01\xff\xfe\r\n\r\n" ],
        [ 'a method'               => "p\xffst /hook HTTP/1.1\r\n\r\n" ],
        [ 'no Host'                => "POST /hook HTTP/1.1\r\n\r\n" ],
        [ 'two lengths'            => "POST /hook HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n" ],
        [ 'a bad escape'           => "POST /hook%zz HTTP/1.1\r\nHost: x\r\n\r\n" ],
        [ 'a path that goes up'    => "POST /../hook HTTP/1.1\r\nHost: x\r\n\r\n" ],
        [ 'a version'              => "POST /hook HTTP/9.1\r\nHost: x\r\n\r\n" ],
        [ 'HTTP/0.9'               => "GET /hook\r\n" ],
        [ 'HTTP/0.9, another'      => "GET /ok\r\n" ],
        [ 'a long path'            => 'POST /' . 'x' x 2000 . " HTTP/1.1\r\nHost: x\r\n\r\n" ],
        [ 'a long header'          => "POST /hook HTTP/1.1\r\nHost: x\r\nX: " . 'x' x 2000 . "\r\n\r\n" ],
        [ 'an unknown coding'      => "POST /hook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: x\r\n\r\n" ],
        [ 'the end within a line'  => 'POST /hook HTT', 1 ],
    ) {
        my ($name, $bytes, $half) = @$case;
        my $raw = raw($bytes);
        $half ? $raw->close : $raw->wait_closed(10);
        logged $name, status => qr/^[2-5]\d\d$/, event => '', room => '', redis_time => '';
    }
};

subtest 'redirects within nginx' => sub {
    my $body = sub { event('call_started', room => new_room()) };

    $http->post('/rewritten', $body->());
    logged 'rewrite', status => 200, event => 'call_started', result => 'ok';
    $nginx->http->post('/error-page', $body->());
    logged 'error_page for a body that is too large', status => 200, EMPTY;
    $http->post('/error-uri', $body->());
    logged 'error_page with a URI makes it a GET', status => 405, EMPTY, result => 'rejected', reason => 'method';
    $http->post('/error-name', $body->());
    logged 'error_page with a name', status => 200, event => 'call_started', result => 'ok';
    $http->post('/mirrored', $body->());
    logged 'a mirror, and a proxy', lines => 3;
};

subtest 'asked for too early' => sub {
    my $room = new_room();
    for my $result (qw(ok duplicate)) {
        my $response = $http->post('/early', event('call_started', room => $room));
        is $response->header('X-Early'), '||||', 'empty in the rewrite phase';
        logged "... and right in the log: $result", status => 200, event => 'call_started', room => $room,
            result => $result, redis_time => $time;
    }
};

# --- who leaves

subtest 'the client leaves while Redis is silent' => sub {
    $http->post('/silent', event('call_started', room => new_room()));
    logged 'connected', status => 200;

    for my $how ('close', 'reset') {
        $silent->suspend;
        my $conn = raw(request('/silent', event('call_started', room => new_room())));
        under_way();
        setsockopt $conn->handle, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0 if $how eq 'reset';
        $conn->close;
        $silent->resume;
        logged $how, status => qr/^(?:200|499)$/, event => qr/^(?:call_started)?$/;
    }

    # Another one has the only place.
    $silent->suspend;
    my $first = raw(request('/crowded', event('call_started', room => new_room())));
    under_way();
    $http->post('/crowded', event('call_started', room => new_room()));
    logged 'limit_conn', status => 503, EMPTY;
    $silent->resume;
    is $first->read_response->status, 200, 'the first one is answered';
    logged 'the first one', status => 200, event => 'call_started', result => 'ok';
};

# A frame of HTTP/2.
sub frame ($type, $flags, $stream, $payload = '') {
    return substr(pack('N', length $payload), 1) . pack('CCN', $type, $flags, $stream) . $payload;
}

subtest 'HTTP/2' => sub {
    my $literal = sub ($name, $value) { "\0" . join '', map { chr(length) . $_ } $name, $value };
    my $head = sub ($stream, $path, $flags) {
        return frame(1, 4 | $flags, $stream, join '', map { $literal->(@$_) }
            [ ':method' => 'POST' ], [ ':scheme' => 'http' ], [ ':path' => $path ], [ ':authority' => 'x' ]);
    };
    my $preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" . frame(4, 0, 0);
    my $reset = sub ($stream) { frame(3, 0, $stream, pack 'N', 8) };
    my $body = sub { event('call_started', room => new_room()) };
    my $h2 = $nginx->dir . '/h2.sock';

    my $conn = raw($preface . $head->(1, '/hook', 0) . frame(0, 1, 1, $body->()), $h2);
    logged 'an event', status => 200, event => 'call_started', result => 'ok';

    $conn->send_raw($head->(3, '/hook', 0) . frame(0, 0, 3, '{"event":') . $reset->(3));
    logged 'reset within the body', status => qr/^[45]\d\d$/, EMPTY, result => 'rejected', reason => 'body_unreadable';

    $conn->send_raw($head->(5, '/hook', 0) . frame(0, 0, 5, '{"event":'));
    $conn->close;
    logged 'the connection ends within the body', status => qr/^[45]\d\d$/, EMPTY, result => 'rejected', reason => 'body_unreadable';

    $silent->suspend;
    $conn = raw($preface . $head->(1, '/silent', 0) . frame(0, 1, 1, $body->()) . $reset->(1), $h2);
    $conn->send_raw($head->(3, '/hook', 0) . frame(0, 1, 3, $body->()));
    wait_for(sub { slurp($nginx->dir . '/f0.log', $read{f0}) =~ /"ok"/ });
    $silent->resume;
    logged 'reset while Redis is silent', lines => 2;

    $silent->suspend;
    $conn = raw($preface . $head->(1, '/silent', 0) . frame(0, 1, 1, $body->()), $h2);
    $conn->close;
    $silent->resume;
    logged 'the connection ends while Redis is silent';
};

# --- hostile values

subtest 'nothing breaks out of the line' => sub {
    my @rooms = (
        '"', '\\', '","result":"ok', "\x{e9}\x{20ac}\x{1f600}", "\x{2028}\x{feff}\x{fffe}", '</script>', '${jndi}', '%ff', 'x' x 256,
    );
    for my $room (@rooms) {
        $http->post('/hook', event('call_started', room => $room));
        logged 'room ' . $json->encode([ substr $room, 0, 20 ]), status => 200, room => $room, result => 'ok';
    }
    for my $event (@rooms, "a\nb\0c\x{1b}[2J\x{7f}\x{85}", "\",\"status\":200}\n{\"x\":\"") {
        $http->post('/hook', event($event, room => 'r'));
        logged 'event ' . $json->encode([ substr $event, 0, 20 ]), event => $event =~ s/[\0-\x1f\x7f]/?/gr;
    }

    # Bytes that are not UTF-8, wherever nginx takes them.
    for my $path ('/%ff', "/\xff", '/%c3%28', '/a%22b%5c%0a%00', "/\xe2\x82", '/%ed%a0%80', '/hook?%ff', "/hook?\xff") {
        my $raw = raw("POST $path HTTP/1.1\r\nHost: \xff.example\r\nX: \xff\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        $raw->wait_closed(10);
        logged 'path ' . $json->encode([$path]), status => qr/^4\d\d$/;
    }
    $http->post('/hook', "{\"event\":\"a\xff\",\"room_name\":\"\xff\"}");
    logged 'a body that is not UTF-8', EMPTY, status => 200, event => "a\x{fffd}", ignored => 'room_name', result => 'ok',
        redis_time => $time;
};

$nginx->stop;
done_testing;
