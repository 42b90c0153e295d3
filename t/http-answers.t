# Every answer of the endpoint: status, headers, body; and that the connection
# survives it.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/lib";
use Vaani::Test;

use Vaani::Test::Events;

use constant OK        => '{"status":"ok"}';
use constant DUPLICATE => '{"status":"duplicate"}';
use constant QUEUED    => '{"status":"queued"}';
use constant MEGABYTE  => 1024 * 1024;

# What no answer and no log may contain.
use constant CANARY => 'canary-in-the-mine';
use constant NUMBER => '+15550123456';

my %TITLES = (
    400 => 'Bad Request',
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

    server {
        listen unix:%%SOCK%%;
        vaani_redis @{[ $redis->url ]};

        location = /hook   { vaani_webhook; }
        location = /reject { vaani_webhook; vaani_unknown_event reject; }
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

my $count = 0;
sub room ()   { return 'room-' . ++$count }
sub valid ()  { return event('call_started', room => room()) }
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
        is post(valid())->body, OK, '... and takes an event';
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

    my $unknown = event('call_transmogrified', room => 'unknown');
    is_status post($unknown), OK, 'an unknown event';
    is_status post($unknown), OK, '... again: it leaves nothing to compare with';
    is $client->cmd('EXISTS', 'vaani:call:unknown'), 0, '... and no call';

    my @delivery = ('Content-Type' => 'application/json', 'Webhook-Id' => 'msg_1');
    is_status post(event('call_ringing', room => 'ids'), @delivery), OK, 'with an id';
    is_status post(event('call_ringing', room => 'ids', more => 1), @delivery), DUPLICATE,
        'the same id';
};

subtest 'status 405' => sub {
    my $before = dbsize();

    for my $method (qw(GET HEAD PUT DELETE OPTIONS PATCH PROPFIND NONSENSE)) {
        for my $body (undef, valid()) {
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

subtest 'status 415: Content-Type' => sub {
    for my $type (
        'application/json',
        'Application/JSON',
        'application/json;charset=utf-8',
        'application/json; charset=UTF-8',
        'application/json; charset="utf-8"',
        'application/json; Charset="UTF-8"',
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
        undef,
    ) {
        is_status post(valid(), 'Content-Type' => $type), OK, $type // 'none at all';
    }

    for my $type (
        '',
        ' ',
        'text/plain',
        'text/json',
        'text/plain; charset=utf-8',
        'application/x-www-form-urlencoded',
        'multipart/form-data; boundary=x',
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
        'application/json/json',
        'application/json charset=utf-8',
        'application/json, application/json',
        'application/json; charset',
        'application/json; =utf-8',
        'application/json; charset = utf-8',
        'application/json; charset="utf-8',
        'application/json; charset="utf-8"x',
        'application/json; charset=utf-8"',
        "application/json; charset=\"utf-8\\",
        ';application/json',
        "\x{e9}application/json",
        "application/json\x{e9}",
    ) {
        is_problem post(valid(), 'Content-Type' => $type), "'$type'", 415, qr/the media type .+/;
    }

    for my $charset (
        'latin1', 'iso-8859-1', 'US-ASCII', 'utf-16', '"utf-16"', 'utf8', 'utf-80', 'utf-', '""', '',
        'utf-8; charset=latin1', 'latin1; charset=utf-8', '"utf-8 "',
    ) {
        is_problem post(valid(), 'Content-Type' => "application/json; charset=$charset"),
            "charset=$charset", 415, qr/the charset must be UTF-8/;
    }

    is_problem post(valid(), 'Content-Type' => 'application/json', 'Content-Type' => 'text/plain'),
        'two, the second one wrong', 415, qr/the media type must be application\/json/;
    is_problem post(valid(), 'content-type' => 'text/plain'),
        'in lower case', 415, qr/the media type must be application\/json/;
};

subtest 'status 415: Content-Encoding' => sub {
    my @json = ('Content-Type' => 'application/json');

    is_status post(valid(), @json, 'Content-Encoding' => $_), OK, $_ for qw(identity IDENTITY);

    for my $coding ('gzip', 'x-gzip', 'deflate', 'br', 'zstd', 'compress', 'identity, gzip',
        'gzip, identity', 'identit', 'identityx', '*')
    {
        is_problem post(valid(), @json, 'Content-Encoding' => $coding), $coding, 415,
            qr/the body must not have a content coding/;
    }

    is_problem post(valid(), @json, 'Content-Encoding' => 'identity', 'CONTENT-ENCODING' => 'gzip'),
        'two headers', 415, qr/the body must not have a content coding/;
};

subtest 'what was refused unread is read away' => sub {
    my $body = event('call_started', room => room(), junk => 'x' x MEGABYTE);
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
        is_status post(valid()), OK, 'an event after the rest of the body';
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

    for my $case (
        [ 'no body'               => '',                      undef,           qr/the body is empty/ ],
        [ 'white space'           => " \r\n\t ",              5,               qr/unexpected end of data/ ],
        [ 'not JSON'              => 'event=call_started',    0,               qr/expected a value/ ],
        [ 'cut short'             => substr($valid, 0, -1),   length($valid) - 1, qr/unexpected end of data/ ],
        [ 'trailing bytes'        => "$valid x",              length($valid) + 1, qr/unexpected data after the value/ ],
        [ 'two texts'             => "$valid\n$valid",        length($valid) + 1, qr/unexpected data after the value/ ],
        [ 'a trailing NUL'        => "$valid\0",              length($valid),  qr/unexpected data after the value/ ],
        [ 'a byte order mark'     => "\xef\xbb\xbf$valid",    0,               qr/.+/ ],
        [ 'not UTF-8'             => "{\"event\":\"\xe9\"}",  10,              qr/invalid UTF-8/ ],
        [ 'UTF-16'                => "{\0}\0",                1,               qr/.+/ ],
        [ 'nested too deeply'     => ('[' x 513) . (']' x 513), 512,           qr/nested too deeply/ ],
        [ 'a key twice'           => '{"event":"a","event":"b"}', 13,          qr/duplicate key/ ],
    ) {
        my ($name, $body, $offset, $detail) = @$case;
        is_problem post($body), $name, 400, defined $offset ? qr/$detail at byte $offset/ : $detail;
    }

    is_problem ask(method => 'POST'), 'neither body nor length', 400, qr/the body is empty/;
    is_problem ask(method => 'POST', body => '', chunked => 1), 'an empty chunked body', 400,
        qr/the body is empty/;
};

subtest 'status 422' => sub {
    my $object = qr/the body must be a JSON object/;
    my ($string, $required) = (qr/must be a string/, qr/is required/);

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
        [ 'no room'       => '{"event":"call_started"}', '/room_name', $required ],
        [ 'room: null'    => event('call_started', room => undef), '/room_name', $required ],
        [ 'room: number'  => event('call_started', room => \'1'),  '/room_name', $string ],
        [ 'room: empty'   => event('call_started', room => ''),    '/room_name', qr/must have 1 to 256 bytes/ ],
        [ 'no duration'   => event('call_ended', call_duration => ABSENT), '/call_duration', $required ],
        [ 'negative'      => event('call_ended', call_duration => \'-1'),  '/call_duration', qr/must not be negative/ ],
        [ 'mistyped'      => event('call_failed', error => \'404'), '/error', $string ],
        [ 'no number'     => event('human_transfer_initiated', phone_number => ABSENT), '/phone_number', $required ],
        [ 'not an object' => event('call_postprocessing', entities => []), '/entities', qr/must be an object/ ],
        [ 'contradictory' => event('call_ringing', status => 'active'), '/status', qr/contradicts the event/ ],
    ) {
        my ($name, $body, $field, $detail) = @$case;
        my $what = $field eq '' ? '' : substr($field, 1) . ' ';
        is_problem post($body), $name, 422, qr/\Q$what\E$detail/, $field;
    }

    my $response = ask(uri => '/reject', body => event('call_transmogrified'));
    is_problem $response, 'unknown events rejected', 422,
        qr/event is not one of the documented events/, '/event';
    is_status ask(uri => '/reject', body => valid()), OK, '... known ones accepted';
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
                for my $uri (qw(/hook /reject)) {
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
    like $error_log, qr/vaani: event rejected: /, '... and has what the module says';
    cmp_ok scalar(() = $access_log =~ /^/mg), '>', 1000, 'the access log has the requests';

    for ([ error => $error_log ], [ access => $access_log ]) {
        my ($name, $log) = @$_;
        unlike $log, qr/\Q${\CANARY}\E/, "$name log: no room, no text";
        unlike $log, qr/5550123456/, "$name log: no number";
    }
};

done_testing;
