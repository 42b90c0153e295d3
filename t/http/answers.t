# Every answer of the endpoint: status, headers, body; and that the connection
# survives it.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Events;

use constant OK        => qq({"status":"ok"}\n);
use constant DUPLICATE => qq({"status":"duplicate"}\n);
use constant QUEUED    => qq({"status":"queued"}\n);
use constant UNKNOWN   => qq({"status":"ok","known":false}\n);
use constant MEGABYTE  => 1024 * 1024;

# Texts that must not be in any answer or log.
use constant CANARY => 'canary-in-the-mine';
use constant NUMBER => '+15550123456';

my %TITLES = (
    400 => 'Bad Request',
    401 => 'Unauthorized',
    405 => 'Method Not Allowed',
    415 => 'Unsupported Media Type',
    422 => 'Unprocessable Content',
    503 => 'Service Unavailable',
);

my $redis = Vaani::Test::Redis->start;
my $client = $redis->client;

# Comes up late; and one that never answers.
my $late = Vaani::Test::Redis->start;
my $silent = Vaani::Test::Redis->start;
$late->stop;

my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    access_log %%DIR%%/access.log;
    client_max_body_size 2m;
    keepalive_requests 100000;
    lingering_timeout 50ms;

    server {
        listen unix:%%SOCK%%;
        vaani_redis @{[ $redis->url ]};

        location = /hook   { vaani_webhook; }
        location = /strict { vaani_webhook; vaani_validation strict; }
        location = /reject { vaani_webhook; vaani_unknown_event reject; }
        location = /strict-reject { vaani_webhook; vaani_validation strict; vaani_unknown_event reject; }
        location = /token  { vaani_webhook; vaani_token \$arg_token open-sesame; }
        location = /strict-token { vaani_webhook; vaani_validation strict; vaani_token \$arg_token open-sesame; }
        location = /signed {
            vaani_webhook;
            vaani_signature X-Signature secret=open-sesame;
        }
        location = /small  { vaani_webhook; client_max_body_size 100; }
        location = /down   { vaani_webhook; vaani_redis @{[ $late->url ]}; }
        location = /spooled {
            vaani_webhook;
            vaani_redis @{[ $late->url ]};
            vaani_spool %%DIR%%/spool;
        }
        location = /silent {
            vaani_webhook;
            vaani_redis @{[ $silent->url ]};
            vaani_redis_timeout 60ms;
        }
    }
CONF

# Never sends anything twice.
my $http = $nginx->http(retry => 0);

sub dbsize () { return $client->cmd('DBSIZE') }

# A request on the kept connection, which must be the same afterwards.
sub ask (%req) {
    my $handle = $http->connect->handle;
    my $response = $http->request(uri => '/hook', %req);

    if (!$http->handle || $http->handle != $handle) {
        $response->{keepalive} = 0;
    }
    return $response;
}

sub post ($body, @headers) {
    return ask(
        method  => 'POST',
        body    => $body,
        headers => @headers ? \@headers : [ 'Content-Type' => 'application/json' ],
    );
}

sub post_strict ($body, @headers) {
    return ask(
        method  => 'POST',
        uri     => '/strict',
        body    => $body,
        headers => @headers ? \@headers : [ 'Content-Type' => 'application/json' ],
    );
}

sub is_status ($response, $body, $name) {
    subtest $name => sub {
        is $response->status, 200, 'status';
        is $response->reason, 'OK', 'reason';
        is $response->header('Content-Type'), 'application/json', 'Content-Type';
        is $response->header('Content-Length'), length $body, 'Content-Length';
        is $response->body, $body, 'body';
        ok $response->keepalive, 'the connection is kept';
    };
    return;
}

# detail is a regex; field is left out where there is none.
sub is_problem ($response, $name, $status, $detail, $field = undef) {
    subtest $name => sub {
        is $response->status, $status, 'status';
        is $response->reason, $TITLES{422}, 'reason, which nginx has not' if $status == 422;
        is $response->header('Content-Type'), 'application/problem+json', 'Content-Type';
        is $response->header('Content-Length'), length $response->body, 'Content-Length';

        my $problem = eval { $response->json } // {};
        is_deeply(
            { %$problem, detail => undef },
            {
                type   => 'about:blank',
                title  => $TITLES{$status},
                status => $status,
                detail => undef,
                defined $field ? (field => $field) : (),
            },
            'members'
        ) or diag $response->body;
        like $response->body, qr/"status":$status[,}]/, 'status is a number';
        like $problem->{detail}, qr/^$detail$/, 'detail';

        ok $response->keepalive, 'the connection is kept';
        is post(an_event())->body, OK, '... and takes an event';
    };
    return;
}

subtest 'status 200' => sub {
    for my $name (@EVENTS) {
        my $body = event($name, room => "accepted-$name");
        is_status post($body), OK, $name;
        is_status post($body), DUPLICATE, "$name again";
        is $client->cmd('HGET', "vaani:call:accepted-$name", 'seq'), 1, 'counted once';
    }

    for my $uri (qw(/hook /strict)) {
        my $unknown = event('call_transmogrified', room => 'unknown');
        is_status ask(uri => $uri, body => $unknown), UNKNOWN, "$uri: an unknown event";
        is_status ask(uri => $uri, body => $unknown), UNKNOWN, '... again: it leaves nothing to compare with';
        is $client->cmd('EXISTS', 'vaani:call:unknown'), 0, '... and no call';
        is_status ask(uri => $uri, body => '{"event":"call_transmogrified"}'), UNKNOWN, '... without a room';
    }

    # The test button of the dashboard: never rejected, never a call.
    my $test = '{"event":"webhook_test","timestamp":"2026-10-09T00:11:18Z"}';
    my $samples = '{"event":"webhook_test","events":[' . event('call_started', room => 'sample') . ']}';
    for my $uri (qw(/hook /strict /reject /strict-reject)) {
        is_status ask(uri => $uri, body => $test), UNKNOWN, "$uri: webhook_test";
        is_status ask(uri => $uri, body => $samples), UNKNOWN, '... with samples';
        is $client->cmd('EXISTS', 'vaani:call:sample'), 0, '... which make no call';
    }

    my $several = sub (@events) { return '{"event":"several","events":[' . join(',', @events) . ']}' };
    my @two = map { event('call_ringing', room => "several-$_") } 1, 2;
    is_status post($several->(@two)), qq({"status":"ok","events":2}\n), 'several events';
    is_status post($several->(@two)), qq({"status":"duplicate","events":2}\n), '... again';

    my @delivery = ('Content-Type' => 'application/json', 'Webhook-Id' => 'msg_1');
    is_status post(event('call_ringing', room => 'ids'), @delivery), OK, 'with an id';
    is_status post(event('call_ringing', room => 'ids', more => 1), @delivery), DUPLICATE,
        'the same id';
};

subtest 'status 405' => sub {
    my $before = dbsize();

    for my $method (qw(GET HEAD PUT DELETE OPTIONS PATCH PROPFIND NONSENSE)) {
        for my $body (undef, an_event()) {
            my $response = ask(
                method  => $method,
                body    => $body,
                headers => { 'Content-Type' => 'application/json' },
            );
            my $name = $method . (defined $body ? ' with a body' : '');

            is $response->header('Allow'), 'POST', "$name: Allow";

            if ($method ne 'HEAD') {
                is_problem $response, $name, 405, qr/the method must be POST/;
                next;
            }
            is $response->status, 405, "$name: status";
            is $response->body, '', "$name: no body";
            cmp_ok $response->header('Content-Length'), '>', 0, "$name: Content-Length";
            is $response->header('Content-Type'), 'application/problem+json', "$name: type";
            ok $response->keepalive, "$name: the connection is kept";
        }
    }

    # each is_problem sends one event of its own
    is dbsize() - $before, 7 * 2, 'none of them was taken for an event';
};

# Taken in both modes; in lenient mode only; in neither.
my @TYPES = (
    'application/json',
    'Application/JSON',
    'application/json;charset=utf-8',
    'application/json; charset=UTF-8',
    'application/json; charset="utf-8"',
    'application/json; Charset="UTF-8"',
    'application/json; charset=utf8',
    'application/json; charset=UTF8',
    'application/json; charset="Utf8"',
    'application/json; charset=US-ASCII',
    'application/json; charset=us-ascii',
    "application/json \t;\t charset=utf-8 ",
    'application/json; charset=utf-8; version=1',
    'application/json; profile="a;b=\"c\", charset=latin1"',
    'application/json; charset=utf-8;',
    'application/json;;charset=utf-8',
    'application/json;',
    'application/cloudevents+json',
    'application/cloudevents+json; charset=UTF-8',
    'application/vnd.api+json',
    'APPLICATION/PROBLEM+JSON',
    'application/a.b-c_d+e+json',
    '',
    ' ',
    undef,
);
my @LENIENT_TYPES = (
    'text/json',
    'Text/JSON; charset=utf-8',
    'application/json charset=utf-8',
    'application/json, application/json',
    'application/json; charset',
    'application/json; =utf-8',
    'application/json; charset = utf-8',
    'application/json; charset="utf-8',
    'application/json; charset="utf-8"x',
    'application/json; charset=utf-8"',
    "application/json; charset=\"utf-8\\",
    "application/json\x{e9}",
);
my @OTHER_TYPES = (
    'text/plain',
    'text/plain; charset=utf-8',
    'text/jsonx',
    'text/x+json',
    'text/javascript',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'text/plain, application/json',
    'text/plain;application/json',
    'application/xml',
    'application/jsonp',
    'application/json5',
    'application/json-seq',
    'application/x-json',
    'application/+json',
    'application/cloudevents+jsonx',
    'application/cloudevents+json-seq',
    'application/cloudevents-json',
    'application/cloudevents+xml',
    'json',
    'application',
    'application/',
    'application/;charset=utf-8',
    '/json',
    'applicationjson',
    '*/*',
    'application/*',
    'application / json',
    ';application/json',
    "\x{e9}application/json",
);
my @CHARSETS = (
    'latin1', 'iso-8859-1', 'utf-16', '"utf-16"', 'utf-80', 'utf-', 'utf', 'utf-7', '""', '',
    'utf-8; charset=latin1', 'latin1; charset=utf-8', '"utf-8 "',
);

subtest 'status 415: Content-Type' => sub {
    for my $type (@TYPES) {
        my $name = defined $type ? "'$type'" : 'none at all';
        is_status post(an_event(), 'Content-Type' => $type), OK, $name;
        is_status post_strict(an_event(), 'Content-Type' => $type), OK, "strict: $name";
    }
    for my $type (@LENIENT_TYPES) {
        is_status post(an_event(), 'Content-Type' => $type), OK, "'$type'";
        is_problem post_strict(an_event(), 'Content-Type' => $type), "strict: '$type'", 415, qr/the media type .+/;
    }
    for my $type (@OTHER_TYPES) {
        is_problem post(an_event(), 'Content-Type' => $type), "'$type'", 415,
            qr/the media type must be application\/json/;
        is_problem post_strict(an_event(), 'Content-Type' => $type), "strict: '$type'", 415, qr/the media type .+/;
    }
    for my $charset (@CHARSETS) {
        for my $media (qw(application/json text/json application/x+json)) {
            is_problem post(an_event(), 'Content-Type' => "$media; charset=$charset"), "$media, charset=$charset", 415,
                qr/the charset must be UTF-8/;
        }
        is_problem post_strict(an_event(), 'Content-Type' => "application/json; charset=$charset"),
            "strict: charset=$charset", 415, qr/the charset must be UTF-8/;
    }

    for my $post (\&post, \&post_strict) {
        is_problem $post->(an_event(), 'Content-Type' => 'application/json', 'Content-Type' => 'text/plain'),
            'two, the second one wrong', 415, qr/the media type must be application\/json/;
        is_problem $post->(an_event(), 'content-type' => 'text/plain'),
            'in lower case', 415, qr/the media type must be application\/json/;
    }
};

# A page in a browser has no secret: with one, lenient does not look.
subtest 'status 415: Content-Type with authentication' => sub {
    use Digest::SHA qw(hmac_sha256_hex);

    for my $type (@TYPES, @LENIENT_TYPES, @OTHER_TYPES, map { "application/json; charset=$_" } @CHARSETS) {
        my $name = defined $type ? "'$type'" : 'none at all';
        my @type = ('Content-Type' => $type);
        my $body = an_event();

        is_status ask(uri => '/token?token=open-sesame', body => $body, headers => \@type), OK, "a token, $name";

        $body = an_event();
        is_status ask(uri => '/signed', body => $body, headers => [
            @type, 'X-Signature' => hmac_sha256_hex($body, 'open-sesame'),
        ]), OK, "a signature, $name";

        is ask(uri => '/token?token=wrong', body => $body, headers => \@type)->status, 401, "a wrong token, $name";
    }

    is_problem ask(uri => '/strict-token?token=open-sesame', body => an_event(), headers => [ 'Content-Type' => $_ ]),
        "strict: $_", 415, qr/the (?:media type|charset) .+/
        for 'text/plain', 'text/json', 'application/json; charset=latin1';
    is_status ask(uri => '/strict-token?token=open-sesame', body => an_event(), headers => [ 'Content-Type' => '' ]), OK,
        'strict: empty';

    is_problem ask(uri => $_, body => an_event(), headers => [ 'Content-Encoding' => 'gzip' ]), "$_: Content-Encoding", 415,
        qr/the body must not have a content coding/
        for qw(/token?token=open-sesame /strict-token?token=open-sesame);
};

subtest 'status 415: Content-Encoding' => sub {
    my @json = ('Content-Type' => 'application/json');

    for my $post (\&post, \&post_strict) {
        is_status $post->(an_event(), @json, 'Content-Encoding' => $_), OK, "'$_'"
            for qw(identity IDENTITY utf-8 UTF-8 none None), '', ' ';

        for my $coding ('gzip', 'x-gzip', 'deflate', 'br', 'zstd', 'compress', 'identity, gzip',
            'gzip, identity', 'identit', 'identityx', '*', 'utf-16', 'nonex', 'utf-8, gzip', ',')
        {
            is_problem $post->(an_event(), @json, 'Content-Encoding' => $coding), $coding, 415,
                qr/the body must not have a content coding/;
        }

        is_problem $post->(an_event(), @json, 'Content-Encoding' => 'identity', 'CONTENT-ENCODING' => 'gzip'),
            'two headers', 415, qr/the body must not have a content coding/;
    }
};

# A client that waits for it may not send the body. It is unknown whether it
# does, so the connection cannot be used for another request.
subtest 'no "100 Continue" before a refusal' => sub {
    my $body = an_event();
    my $length = length $body;

    my $send = sub ($method, $uri, $version, @headers) {
        my $conn = $nginx->http(retry => 0);
        $conn->send_raw(join "\r\n", "$method $uri HTTP/$version", 'Host: x', @headers, '', '');
        return $conn;
    };

    for my $case (
        [ 'no token'         => 'POST', '/token',  401 ],
        [ 'a wrong token'    => 'POST', '/token?token=x', 401 ],
        [ 'no signature'     => 'POST', '/signed', 401 ],
        [ 'an empty one'     => 'POST', '/signed', 401, 'X-Signature: ' ],
        [ 'two of them'      => 'POST', '/signed', 401, ('X-Signature: ' . 'a' x 64) x 2 ],
        [ 'another method'   => 'PUT',  '/hook',   405 ],
        [ 'GET'              => 'GET',  '/token',  405 ],
        [ 'the media type'   => 'POST', '/hook',   415, 'Content-Type: text/plain' ],
        [ 'the charset'      => 'POST', '/strict', 415, 'Content-Type: application/json; charset=latin1' ],
        [ 'a content coding' => 'POST', '/token?token=open-sesame', 415, 'Content-Encoding: gzip' ],
    ) {
        my ($name, $method, $uri, $status, @headers) = @$case;

        for my $framing ("Content-Length: $length", 'Transfer-Encoding: chunked') {
            for my $expect ('100-continue', '100-Continue', '100-CONTINUE') {
                my $conn = $send->($method, $uri, '1.1', "Expect: $expect", $framing, @headers);
                my $bytes = $conn->read_raw;
                like $bytes, qr/\AHTTP\/1\.1 $status [\w ]+\r\n/, "$name, $framing, $expect: $status is all there is";
                unlike $bytes, qr/\b100 Continue/, '... no 100';
                like $bytes, qr/^Connection: close\r$/m, '... and the end of the connection';
            }
        }
    }

    # An event that is taken is asked for, and so is one that only its body can refuse.
    my $signed = hmac_sha256_hex($body, 'open-sesame');
    for my $case ([ '/hook', 200 ], [ '/token?token=open-sesame', 200 ], [ '/signed', 200, 'X-Signature' => $signed ],
        [ '/signed', 401, 'X-Signature' => 'a' x 64 ])
    {
        my ($uri, $status, @headers) = @$case;
        my $response = $nginx->http(retry => 0)->request(
            uri => $uri, body => $body, expect_continue => 1, headers => [ 'Content-Type' => 'application/json', @headers ]);
        is $response->status, $status, "$uri: $status";
        is_deeply [ map { $_->{status} } @{ $response->interim } ], [100], '... after a 100';
    }

    # A client that does not wait still reads the answer.
    for my $case ([ PUT => '/hook', 405 ], [ POST => '/token', 401 ]) {
        my ($method, $uri, $status) = @$case;
        my $response = ask(method => $method, uri => $uri, body => an_event());
        is $response->status, $status, "$method $uri, nothing expected";
        ok $response->keepalive, '... the connection is kept';
    }
};

subtest 'what was refused unread is read away' => sub {
    my $body = event('call_started', room => new_room(), junk => 'x' x MEGABYTE);
    my $before = dbsize();
    my $events = 0;

    for my $framing (
        [ 'Content-Length' => () ],
        [ 'chunked'        => (chunked => 50_000) ],
        [ 'small chunks'   => (chunked => 100) ],
    ) {
        my ($name, @framing) = @$framing;

        for my $method (qw(GET PUT DELETE)) {
            my $response = ask(method => $method, body => $body, @framing);
            is_problem $response, "$method, $name", 405, qr/the method must be POST/;
            is $response->header('Allow'), 'POST', 'Allow';
            $events++;
        }

        for my $header ([ 'Content-Type' => 'text/plain' ], [ 'Content-Encoding' => 'gzip' ]) {
            is_problem ask(method => 'POST', body => $body, headers => $header, @framing),
                "$header->[1], $name", 415, qr/.+/;
            $events++;
        }
    }

    is dbsize() - $before, $events, 'none of it was taken for an event';

    # The answer comes while the client has sent a part of the body only.
    my $half = length($body) / 2;
    for my $case ([ PUT => 'application/json', 405 ], [ POST => 'text/plain', 415 ]) {
        my ($method, $type, $status) = @$case;
        $http->send_raw("$method /hook HTTP/1.1\r\nHost: x\r\nContent-Type: $type\r\n"
            . 'Content-Length: ' . length($body) . "\r\n\r\n" . substr $body, 0, $half);
        my $handle = $http->handle;
        my $response = $http->read_response(undef // 30, $method);
        is $response->status, $status, "$method $type: answered early";
        ok $response->keepalive, '... and the connection is kept';
        $http->send_raw(substr $body, $half);
        is_status post(an_event()), OK, 'an event after the rest of the body';
        is $http->handle, $handle, '... on the same connection';
    }
};

subtest 'status 413' => sub {
    my $body = event('call_started', room => 'too-big', junk => 'x' x 100);
    my $before = dbsize();

    for my $framing ([ 'Content-Length' => () ], [ 'chunked' => (chunked => 50) ]) {
        my ($name, @framing) = @$framing;
        my $response = $nginx->http->request(uri => '/small', body => $body, @framing);
        is $response->status, 413, $name;
    }

    is dbsize(), $before, 'it was not stored';

    $body = event('call_ringing', room => 'r');
    cmp_ok length $body, '<=', 100, 'a body that fits';
    is_status ask(uri => '/small', body => $body), OK, '... is taken';
};

subtest 'status 400' => sub {
    my $valid = event('call_started');
    my @members = map { qq("m$_":0) } 1 .. 4095;

    for my $case (
        [ 'no body'               => '',                      undef,           qr/the body is empty/ ],
        [ 'white space'           => " \r\n\t ",              5,               qr/unexpected end of data/ ],
        [ 'not JSON'              => 'event=call_started',    0,               qr/expected a value/ ],
        [ 'cut short'             => substr($valid, 0, -1),   length($valid) - 1, qr/unexpected end of data/ ],
        [ 'trailing bytes'        => "$valid x",              length($valid) + 1, qr/unexpected data after the value/ ],
        [ 'two texts'             => "$valid\n$valid",        length($valid) + 1, qr/unexpected data after the value/ ],
        [ 'a trailing NUL'        => "$valid\0",              length($valid),  qr/unexpected data after the value/ ],
        [ 'UTF-16'                => "{\0}\0",                1,               qr/.+/ ],
        [ 'nested too deeply'     => ('[' x 513) . (']' x 513), 512,           qr/nested too deeply/ ],
        [ 'too many members'      => '{' . join(',', '"event":"a"', @members, '"x":0') . '}', undef, qr/.+ at byte \d+/ ],
    ) {
        my ($name, $body, $offset, $detail) = @$case;
        for my $post (\&post, \&post_strict) {
            is_problem $post->($body), $name, 400, defined $offset ? qr/$detail at byte $offset/ : $detail;
        }
    }

    # Lenient repairs these, or does not mind.
    for my $case (
        [ 'a byte order mark'     => "\xef\xbb\xbf" . an_event(),                              0,  qr/expected a value/ ],
        [ 'not UTF-8'             => qq({"event":"\xe9","room_name":"r"}),                  10, qr/invalid UTF-8/, UNKNOWN ],
        [ 'NaN'                   => '{"event":"x","y":NaN}',                               17, qr/.+/, UNKNOWN ],
        [ 'Infinity'              => '{"event":"x","y":Infinity}',                          17, qr/.+/, UNKNOWN ],
        [ '-Infinity'             => '{"event":"x","y":-Infinity}',                         18, qr/.+/, UNKNOWN ],
        [ 'a key twice'           => '{"event":"a","event":"b"}',                           13, qr/duplicate key/, UNKNOWN ],
    ) {
        my ($name, $body, $offset, $detail, $answer) = @$case;
        is_problem post_strict($body), $name, 400, qr/$detail at byte $offset/;
        is_status post($body), $answer // OK, "$name: lenient";
    }

    # The offset is that of the body as it was sent.
    is_problem post("\xef\xbb\xbf{\"event\":\"\xff\xff\",\"x\":NaN,}"), 'not all can be repaired', 400,
        qr/.+ at byte 25/;

    is_problem ask(method => 'POST'), 'neither body nor length', 400, qr/the body is empty/;
    is_problem ask(method => 'POST', body => '', chunked => 1), 'an empty chunked body', 400,
        qr/the body is empty/;
};

subtest 'status 422' => sub {
    my $object = qr/the body must be a JSON object/;
    my ($string, $required) = (qr/must be a string/, qr/is required/);

    my $check = sub ($post, $name, $body, $field, $detail) {
        my $what = $field =~ m{([^/]+)\z} ? "$1 " : '';
        is_problem $post->($body), $name, 422, qr/\Q$what\E$detail/, $field;
    };

    for my $case (
        [ 'an array'      => '[]',              '', $object ],
        [ 'a string'      => '"call_started"',  '', $object ],
        [ 'a number'      => '1',               '', $object ],
        [ 'null'          => 'null',            '', $object ],
        [ 'true'          => ' true ',          '', $object ],
        [ 'empty object'  => '{}',              '/event', $required ],
        [ 'no event'      => '{"room_name":"r"}', '/event', $required ],
        [ 'event: null'   => event('x', event => undef), '/event', $required ],
        [ 'event: number' => event('x', event => \'1'),  '/event', $string ],
        [ 'event: array'  => event('x', event => ['call_started']), '/event', $string ],
        [ 'event: long'   => event('x' x 257), '/event', qr/must not have more than 256 bytes/ ],
        [ 'event: half an emoji' => event('x', event => \'"x\ud83d"'), '/event', qr/must not have a lone surrogate/ ],
        [ 'event in data' => '{"data":{"event":"call_started","room_name":"r"}}', '/event', $required ],
        [ 'no room'       => '{"event":"call_started"}', '/room_name', $required ],
        [ 'room: null'    => event('call_started', room => undef), '/room_name', $required ],
        [ 'room: array'   => event('call_started', room => []),  '/room_name', $string ],
        [ 'room: empty'   => event('call_started', room => ''),    '/room_name', qr/must have 1 to 256 bytes/ ],
        [ 'call_id: array' => '{"event":"call_started","call_id":[]}', '/call_id', $string ],
        [ 'data.room_name' => '{"event":"call_started","data":{"room_name":"a\nb"}}', '/data/room_name',
            qr/must not contain control characters/ ],
        [ 'data.call_id'  => '{"event":"call_started","data":{"call_id":true}}', '/data/call_id', $string ],
        [ 'room: half an emoji' => event('call_started', room => \'"\ud83d"'), '/room_name',
            qr/must not have a lone surrogate/ ],
        [ 'too many events' => '{"event":"call_started","events":[' . join(',', ('{}') x 101) . ']}', '/events',
            qr/must not have more than 100 elements/ ],
        [ 'nested events' => '{"event":"call_started","events":[{"events":[{}]}]}', '/events/0/events',
            qr/must not be nested/ ],
        [ 'an element that is none' => '{"event":"call_started","events":[1]}', '/events/0', $object ],
    ) {
        my ($name, $body, $field, $detail) = @$case;
        $detail = $object, $name .= ': ' if $field =~ m{^/events/\d+$};
        for my $post (\&post, \&post_strict) {
            $field =~ m{^/events/\d+$}
                ? is_problem($post->($body), $name, 422, $detail, $field)
                : $check->($post, $name, $body, $field, $detail);
        }
    }

    # Lenient takes the event without what is wrong.
    for my $case (
        [ 'room: number'  => event('call_started', room => \'1'),       '/room_name', $string ],
        [ 'no duration'   => event('call_ended', room => new_room(), call_duration => ABSENT), '/call_duration', $required ],
        [ 'negative'      => event('call_ended', room => new_room(), call_duration => \'-1'),  '/call_duration', qr/must not be negative/ ],
        [ 'mistyped'      => event('call_failed', room => new_room(), error => \'404'), '/error', $string ],
        [ 'no number'     => event('human_transfer_initiated', room => new_room(), phone_number => ABSENT), '/phone_number', $required ],
        [ 'not an object' => event('call_postprocessing', room => new_room(), entities => []), '/entities', qr/must be an object/ ],
        [ 'contradictory' => event('call_ringing', room => new_room(), status => 'active'), '/status', qr/contradicts the event/ ],
        [ 'in data'       => '{"event":"call_ended","call_id":"' . new_room() . '","data":{"call_duration":"1"}}',
            '/data/call_duration', qr/must be a number/ ],
        [ 'a time'        => '{"event":"call_postprocessing","room_name":"' . new_room() . '","picked_up_at":"noon"}',
            '/picked_up_at', qr/must be an RFC 3339 time/ ],
    ) {
        my ($name, $body, $field, $detail) = @$case;
        $check->(\&post_strict, $name, $body, $field, $detail);
        is_status post($body), OK, "$name: lenient";
    }

    for my $uri (qw(/reject /strict-reject)) {
        my $response = ask(uri => $uri, body => event('call_transmogrified'));
        is_problem $response, "$uri: unknown events rejected", 422,
            qr/event is not one of the documented events/, '/event';
        is_status ask(uri => $uri, body => an_event()), OK, '... known ones accepted';
    }
};

subtest 'status 503' => sub {
    my $event = event('call_started', room => 'patience');

    for (1 .. 3) {
        my $response = ask(uri => '/down', body => $event);
        is_problem $response, "Redis is not there ($_)", 503, qr/the event could not be stored/;
        like $response->header('Retry-After'), qr/^[1-9][0-9]*$/, 'Retry-After';
    }
    is_problem ask(uri => '/down', body => '{'), 'a bad body is refused all the same', 400, qr/.+/;

    my $queued = event('call_started', room => 'queued');
    is_status ask(uri => '/spooled', body => $queued), QUEUED, 'with a spool, Redis need not be there' for 1, 2;
    is_problem ask(uri => '/spooled', body => '{'), 'a bad body is refused all the same', 400, qr/.+/;

    $late->restart;
    my $response;
    wait_for(sub { ($response = ask(uri => '/down', body => $event))->status != 503 });
    is_status $response, OK, 'Redis is there';
    is_status ask(uri => '/down', body => $event), DUPLICATE, '... and stores';

    my $stored = $late->client;
    ok wait_for(sub { $stored->cmd('HGET', 'vaani:call:queued', 'seq') }), 'what was queued is stored, too';
    wait_for(sub { ($response = ask(uri => '/spooled', body => $queued))->body ne QUEUED });
    is_status $response, DUPLICATE, '... and known';

    $silent->suspend;
    $response = ask(uri => '/silent', body => $event);
    is_problem $response, 'Redis does not answer', 503, qr/the event could not be stored/;
    like $response->header('Retry-After'), qr/^[1-9][0-9]*$/, 'Retry-After';
    $silent->resume;

    $client->cmd('SET', 'vaani:call:taken', 1);
    $response = post(event('call_started', room => 'taken'));
    is_problem $response, 'the key holds something else', 503, qr/the event could not be stored/;
    like $response->header('Retry-After'), qr/^[1-9][0-9]*$/, 'Retry-After';
};

subtest 'nothing of a body is told' => sub {
    my %values = (
        room_name => CANARY, event => CANARY, status => CANARY, phone_number => NUMBER,
        transfer_type => CANARY, agent_identity => CANARY, error => CANARY, reason => CANARY,
        sip_status => CANARY, end_reason => CANARY, transcript => CANARY, summary => CANARY,
        recording_url => CANARY, entities => { CANARY, CANARY }, CANARY, CANARY,
    );
    my @spoiled = (
        [], { CANARY, NUMBER }, \'true', \'-1', CANARY, "\0" . CANARY, CANARY x 30,
        \('"' . CANARY . '\ud800"'), \('"' . CANARY . "\x01\""), \('"' . CANARY . '"x'),
        \('"' . CANARY), \('"\u' . CANARY . '"'), \CANARY, \('12' . CANARY),
        \('1,"' . CANARY . '":0'),
    );
    my %seen;

    for my $event (@EVENTS, CANARY) {
        my %members = (%values, event => $event, call_duration => 1);
        if ($event =~ /^call_(started|ringing|rejected|no_answer|failed)$/) {
            $members{status} = $1;
        } elsif ($event eq 'user_picked_up_at') {
            $members{status} = 'active';
        }

        for my $member (undef, sort keys %members) {
            for my $value (defined $member ? @spoiled : undef) {
                my $body = event($event, %members, defined $member ? ($member => $value) : ());
                for my $uri ($event eq CANARY ? qw(/hook /reject) : qw(/hook /strict)) {
                    my $response = ask(uri => $uri, body => $body);
                    $seen{ $response->status }++;

                    my $told = join "\n", %{ $response->headers }, $response->body;
                    next if $told !~ /\Q${\CANARY}\E|\Q${\NUMBER}\E|5550123456/ && $response->keepalive;
                    fail "$uri, $event, " . ($member // 'whole');
                    diag $body, "\n", $told;
                }
            }
        }
    }
    is join(' ', sort keys %seen), '200 400 422', 'all kinds of answers to bodies';
    cmp_ok $seen{$_}, '>', 20, "... some $_" for keys %seen;

    my $body = event('call_started', room => CANARY, phone_number => NUMBER);
    my $headers = { 'Webhook-Id' => CANARY };

    $client->cmd('SET', 'vaani:call:' . CANARY, CANARY);
    is ask(body => $body, headers => $headers)->status, 503, 'a call that is not one';
    is ask(uri => '/down', body => $body, headers => $headers)->status, 200, 'accepted';
    is ask(uri => '/down', body => $body, headers => $headers)->body, DUPLICATE, 'repeated';
    is ask(method => 'PUT', body => $body)->status, 405, 'method';
    is ask(method => 'POST', body => $body, headers => { 'Content-Type' => 'text/plain' })->status, 415,
        'type';
    is $nginx->http->request(uri => '/small', body => $body, chunked => 1)->status, 413, 'size'
        for 1 .. 2;
    $late->stop;
    is ask(uri => '/down', body => $body)->status, 503, 'Redis is away';
    is ask(uri => '/spooled', body => $body, headers => $headers)->body, QUEUED, 'queued';

    ok $nginx->stop, 'stop';
    my ($error_log, $access_log) = map { slurp($nginx->dir . "/$_.log") } qw(error access);

    like $error_log, qr/\[info\]/, 'the error log is at level info';
    like $error_log, qr/vaani: event rejected \(/, '... and has what the module says';
    cmp_ok scalar(() = $access_log =~ /^/mg), '>', 1000, 'the access log has the requests';

    # A new member in Vaani's deliveries is logged by its name, once.
    my $new = qr/^.*? vaani: new in Vaani's deliveries: (?:event|member) "([^"\n]*)"/m;
    my @new = $error_log =~ /$new/g;
    cmp_ok scalar @new, '>', 2, 'names that are new';
    is_deeply [ grep { !/\A[\w.?-]{1,64}\z/ } @new ], [], '... and nothing but names';
    $error_log =~ s/$new//g;

    for ([ error => $error_log ], [ access => $access_log ]) {
        my ($name, $log) = @$_;

        # New names of events and members are told, but no values.
        $log =~ s/(vaani: new in Vaani's deliveries: (?:event|member)) "[^"]*"/$1/g;
        unlike $log, qr/\Q${\CANARY}\E/, "$name log: no room, no text";
        unlike $log, qr/5550123456/, "$name log: no number";
    }
};

done_testing;
