# However a body arrives, what Redis gets is the same: the payload byte for
# byte, the transcript decoded.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Events;
use Vaani::Test::Socket qw(pause);

use constant OK        => qq({"status":"ok"}\n);
use constant DUPLICATE => qq({"status":"duplicate"}\n);
use constant EMPTY     => qr/^\{.*"status":400,"detail":"the body is empty"/;
use constant BIG       => 3_000_000;

my $redis = Vaani::Test::Redis->start(
    acl => [ Vaani::Test::ACL::with_prefix(qw(if except named copy)) ],
);
my $client = $redis->client;

my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    client_max_body_size 4m;
    keepalive_requests 100000;
    vaani_redis @{[ $redis->url ]};
    vaani_redis_timeout 30s;

    server {
        listen unix:%%SOCK%%;

        location = /hook   { vaani_webhook; }
        location = /tiny   { vaani_webhook; client_body_buffer_size 1k; }
        location = /single { vaani_webhook; client_body_buffer_size 1k; client_body_in_single_buffer on; }
        location = /huge   { vaani_webhook; client_body_buffer_size 4m; }
        location = /file   { vaani_webhook; client_body_in_file_only on; client_body_temp_path %%DIR%%/kept; }
        location = /clean  { vaani_webhook; client_body_in_file_only clean; client_body_temp_path %%DIR%%/cleaned; }

        # an endpoint that is reached by other ways

        location = /if {
            vaani_webhook;
            vaani_prefix if;
            if (\$http_x_if) { add_header X-If \$http_x_if; }
        }
        location = /limited { vaani_webhook; limit_except POST { deny all; } }
        location = /except  {
            vaani_webhook;
            vaani_prefix except;
            limit_except GET { allow all; }
        }
        location = /rewrite { rewrite ^ /hook last; }
        location = /try     { try_files /none /hook; }
        location = /named   { try_files /none \@named; }
        location = /error   { error_page 404 = \@named; return 404; }
        location = /kept-error { error_page 404 \@named; return 404; }
        location = /error-uri  { error_page 404 = /hook; return 404; }
        location = /fallback {
            client_body_buffer_size 1k;
            error_page 502 = \@named;
            proxy_pass http://unix:%%DIR%%/none.sock:;
        }
        location = /unbuffered {
            error_page 502 = \@named;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_pass http://unix:%%DIR%%/none.sock:;
        }
        location \@named {
            vaani_webhook;
            vaani_prefix named;
            add_header X-Why "\$vaani_result \$vaani_reason" always;
        }

        # others that have the request first, and leave the body to it

        location = /static    { alias %%DIR%%/nginx.conf; error_page 405 = \@named; }
        location = /denied    { deny all; error_page 403 = \@named; }
        location = /asked     { auth_request /no; error_page 403 = \@named; }
        location = /no        { internal; proxy_pass_request_body off; proxy_pass http://unix:%%SOCK%%:/no-more; }
        location = /no-more   { return 403; }
        location = /answered  {
            client_body_buffer_size 1k;
            proxy_intercept_errors on;
            error_page 500 = \@named;
            proxy_pass http://unix:%%SOCK%%:/fails;
        }
        location = /accelerated { client_body_buffer_size 1k; proxy_pass http://unix:%%SOCK%%:/accelerates; }
        location = /fails       { return 500; }
        location = /accelerates { add_header X-Accel-Redirect \@named; return 200; }

        # ... and those that do not

        location = /consumed {
            proxy_intercept_errors on;
            error_page 500 = \@named;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_pass http://unix:%%SOCK%%:/fails;
        }
        location = /consumed-accelerated {
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_pass http://unix:%%SOCK%%:/accelerates;
        }
        location = /limited-size  { client_max_body_size 100; error_page 413 = \@named; proxy_pass http://unix:%%SOCK%%:/fails; }
        location = /own-size      { client_max_body_size 100; error_page 413 = \@named; vaani_webhook; }
        location = /static-size   { client_max_body_size 100; error_page 413 405 = \@named; alias %%DIR%%/nginx.conf; }

        location = /mirrored {
            client_body_buffer_size 1k;
            mirror /copy;
            vaani_webhook;
        }
        location = /bodiless-mirror {
            mirror /copy;
            mirror_request_body off;
            vaani_webhook;
        }
        location = /proxied {
            client_body_buffer_size 1k;
            mirror /copy;
            proxy_pass http://unix:%%SOCK%%:/upstream;
        }
        location = /upstream { return 204; }
        location = /copy { internal; vaani_webhook; vaani_prefix copy; }
    }

    server {
        listen unix:%%DIR%%/preread.sock;
        client_header_buffer_size 64k;

        location = /hook { vaani_webhook; }
    }

    server {
        listen unix:%%DIR%%/h2.sock http2;
        listen 127.0.0.1:%%PORT%% http2;

        location = /hook   { vaani_webhook; }
        location = /tiny   { vaani_webhook; client_body_buffer_size 1k; }
        location = /file   { vaani_webhook; client_body_in_file_only clean; client_body_temp_path %%DIR%%/h2; }

        location = /static      { alias %%DIR%%/nginx.conf; error_page 405 = \@named; }
        location = /answered    {
            proxy_intercept_errors on;
            error_page 500 = \@named;
            proxy_pass http://unix:%%SOCK%%:/fails;
        }
        location = /unbuffered  {
            error_page 502 = \@named;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_pass http://unix:%%DIR%%/none.sock:;
        }
        location = /consumed    {
            proxy_intercept_errors on;
            error_page 500 = \@named;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_pass http://unix:%%SOCK%%:/fails;
        }
        location = /limited-size { client_max_body_size 100; error_page 413 = \@named; proxy_pass http://unix:%%SOCK%%:/fails; }
        location = /own-size     { client_max_body_size 100; error_page 413 = \@named; vaani_webhook; }
        location \@named        { vaani_webhook; vaani_prefix named; }
    }
CONF

my $http = $nginx->http(retry => 0);
my $preread = Vaani::Test::HTTP->new(sock => $nginx->dir . '/preread.sock', retry => 0);
my $subscriber = $redis->client->subscribe(map { "$_:events" } qw(vaani if except named copy));

# The same text as it stands in a body and as it is meant, of every kind of
# character and spelling.
use constant SPELLED => 'Agent: \"Hi\" \\\\ \/ / \b\f\n\r\t ' . "\x7f\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"
    . ' \u00e9\u00E9\u20ac\ud83d\uDE00 \u0000\u001f ';
use constant MEANT => "Agent: \"Hi\" \\ / / \b\f\n\r\t \x7f\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"
    . " \xc3\xa9\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80 \0\x1f ";

# A body of exactly that many bytes, its room and its transcript.
sub body_of ($size) {
    my $room = new_room();
    my $head = qq({"event":"call_postprocessing","room_name":"$room","call_duration":1,"transcript":");
    my $left = $size - length($head) - 2;
    die "too small" if $left < 0;

    my $times = int($left / length SPELLED);
    my $rest = $left - $times * length SPELLED;

    return (
        $head . 'x' x $rest . SPELLED x $times . '"}',
        $room,
        'x' x $rest . MEANT x $times,
    );
}

# False, with a test that fails, unless the next message is of this body.
sub published ($body, $name, $prefix = 'vaani', $room = undef) {
    my $message = $subscriber->next_message(30) // return fail "$name: no message";

    my ($head, $payload) = $message->{payload} =~ /^(\{.*?,"payload":)(.*)\}\z/s
        or return fail "$name: no payload";

    is $message->{channel}, "$prefix:events", "$name: channel";
    like $head, qr/"room_name":"\Q$room\E"/, "$name: room" if defined $room;

    # not is(): three megabytes of diagnostics would be useless
    return ok($payload eq $body, "$name: payload is the body")
        || diag sprintf '%d bytes instead of %d', length $payload, length $body;
}

sub stored ($key, $transcript, $name) {
    my $got = $client->cmd('HGET', $key, 'transcript') // '';
    return ok($got eq $transcript, "$name: transcript")
        || diag sprintf '%d bytes instead of %d', length $got, length $transcript;
}

sub nothing_published ($name) {
    # Redis publishes in order: what comes after this mark comes too late.
    $client->cmd('PUBLISH', 'vaani:events', 'mark');
    my $message = $subscriber->next_message(30);
    return is $message && $message->{payload}, 'mark', "$name: nothing is published";
}

# $send posts a body and returns the response.
sub delivers ($size, $name, $send, $prefix = 'vaani') {
    my ($body, $room, $transcript) = body_of($size);
    my $response = $send->($body);

    # Without that, there is nothing to wait for.
    if (is $response->body, OK, "$name: answer") {
        published($body, $name, $prefix, $room);
    }
    stored("$prefix:call:$room", $transcript, $name);
    return $response;
}

sub post ($uri, %how) {
    return sub ($body) { return $http->request(method => 'POST', uri => $uri, body => $body, %how) };
}

# Around the sizes of nginx's buffers.
my @SIZES = (150, 1023, 1024, 1025, 4096, 16_383, 16_384, 16_385, 100_000);

for my $location (qw(hook tiny single huge file clean)) {
    subtest "/$location" => sub {
        my $handle = $http->connect->handle;
        for my $size (@SIZES) {
            delivers $size, "$size bytes", post("/$location");
            delivers $size, "$size bytes, after the header", post("/$location", expect_continue => 1);
            delivers $size, "$size bytes, one chunk", post("/$location", chunked => $size);
            delivers $size, "$size bytes, chunks of 700", post("/$location", chunked => 700);
            delivers $size, "$size bytes, chunks after the header",
                post("/$location", chunked => 4096, expect_continue => 1);
        }
        delivers $_, "$_ bytes, chunks of 1", post("/$location", chunked => 1) for @SIZES[ 0 .. 5 ];
        delivers 5000, 'growing chunks', post("/$location", chunked => [ 1 .. 90 ]);
        delivers 20_000, 'unequal chunks', post("/$location", chunked => [ 1, 16_384, 2, 1, 1024, 1 ]);

        delivers BIG, 'big', post("/$location");
        delivers BIG, 'big, in chunks', post("/$location", chunked => 77_777);
        is $http->handle, $handle, 'all on one connection';
    };
}

subtest 'temporary files' => sub {
    my $mark = $nginx->log_mark;
    delivers BIG, 'big', post('/tiny');
    $nginx->log_like(qr/a client request body is buffered to a temporary file/, 'a file was used', $mark);

    my %files;
    for my $kind (qw(kept cleaned)) {
        opendir my $dh, $nginx->dir . "/$kind" or die "opendir: $!\n";
        $files{$kind} = grep { -s $nginx->dir . "/$kind/$_" && /\d/ } readdir $dh;
    }
    is $files{kept}, 5 * @SIZES + 6 + 4, 'on: the files stay';
    is $files{cleaned}, 0, 'clean: they do not';
};

subtest 'in the buffer of the header' => sub {
    for my $size (150, 1025, 16_385, 60_000) {
        my $handle = $preread->connect->handle;
        for my $how ([ 'with length' => () ], [ 'one chunk' => (chunked => $size) ],
            [ 'chunks of 10' => (chunked => 10) ])
        {
            my ($name, @how) = @$how;
            delivers $size, "$size bytes, $name", sub ($body) {
                return $preread->request(uri => '/hook', body => $body, @how);
            };
        }
        is $preread->handle, $handle, 'the connection is kept';
    }
};

subtest 'HTTP/1.0' => sub {
    for my $size (150, 5000, 100_000) {
        my $response = delivers $size, "$size bytes", post('/tiny', version => '1.0');
        ok !$response->keepalive, 'ends the connection';

        $response = delivers $size, "$size bytes, keep-alive", post('/tiny', version => '1.0',
            headers => [ Connection => 'keep-alive' ]);
        ok $response->keepalive, 'does not';
    }
};

subtest 'pipelined' => sub {
    for my $size (150, 1000, 5000) {
        my @bodies = map { [ body_of($size) ] } 1 .. 10;
        my $n = 0;
        my @responses = $http->pipelined(
            map { { uri => '/tiny', body => $_->[0], $n++ % 3 ? () : (chunked => 99) } } @bodies
        );
        is join(' ', map { $_->body } @responses), join(' ', (OK) x 10), "ten of $size bytes";
        published($_->[0], "... $_->[1]", 'vaani', $_->[1]) for @bodies;
    }

    # A call in one write, to one client in one order.
    my $room = new_room();
    my @bodies = call_path('outbound-answered/transfer-failed', $room);
    my @responses = $http->pipelined(map { { uri => '/hook', body => $_ } } @bodies, $bodies[-1]);
    is join(' ', map { $_->body } @responses), join(' ', (OK) x @bodies, DUPLICATE), 'a call';
    for my $seq (1 .. @bodies) {
        my $body = $bodies[ $seq - 1 ];
        like $subscriber->next_message->{payload}, qr/^\{"id":"\w{32}",.*?,"seq":$seq,.*"payload":\Q$body\E\}$/, "seq $seq";
    }

    # A refusal discards exactly the body of its request.
    my ($body, $refused) = ((body_of(3000))[0], '{"x":"' . 'y' x 5000 . '"}');
    my $handle = $http->connect->handle;
    @responses = $http->pipelined(
        { uri => '/hook', body => $refused },
        { uri => '/hook', body => $refused, method => 'PUT' },
        { uri => '/hook', body => $refused, chunked => 999, method => 'PUT' },
        { uri => '/hook', body => $refused, headers => { 'Content-Type' => 'text/plain' } },
        { uri => '/hook', body => $refused, chunked => 1, headers => { 'Content-Encoding' => 'br' } },
        { uri => '/hook', body => '', method => 'POST' },
        { uri => '/hook', body => substr($body, 1) },
        { uri => '/hook', body => $body },
        { uri => '/hook' },
        { uri => '/hook', body => $body },
    );
    is join(' ', map { $_->status } @responses), '422 405 405 415 415 400 400 200 405 200',
        'between refused ones';
    published($body, 'the good one');
    is $http->handle, $handle, 'the connection is kept';
    nothing_published('the others');
};

subtest 'slowly' => sub {
    for my $case (
        [ 'byte by byte' => (body => 1, step => 1) ],
        [ 'chunks, byte by byte' => (body => 1, step => 1, chunked => 7) ],
        [ 'with a start in one go' => (body => 1, step => 1, start => 200) ],
        [ 'in pieces' => (body => 5000, step => 333) ],
        [ 'chunks, in pieces' => (body => 5000, step => 333, chunked => 1000) ],
    ) {
        my ($name, %how) = @$case;
        my ($body, $room, $transcript) = body_of($how{body} > 1 ? $how{body} : 150);

        my $bytes = join '', Vaani::Test::HTTP::format_request(
            uri => '/tiny', body => $body, $how{chunked} ? (chunked => $how{chunked}) : ());

        $http->send_raw(substr $bytes, 0, $how{start} // 0, '');
        while ($bytes ne '') {
            $http->send_raw(substr $bytes, 0, $how{step}, '');
            pause(0.0002);    # else nginx would see fewer and bigger pieces
        }
        is $http->read_response->body, OK, $name;
        published($body, $name, 'vaani', $room);
        stored("vaani:call:$room", $transcript, $name);
    }
};

subtest 'Expect: 100-continue' => sub {
    my $response = delivers 2000, 'expected', post('/hook', expect_continue => 1);
    is_deeply [ map { $_->{status} } @{ $response->interim } ], [100], 'asked for the body';

    # The body need not wait for the answer.
    my ($body) = body_of(2000);
    $response = $http->request(uri => '/hook', body => $body, headers => { Expect => '100-continue' });
    is $response->body, OK, 'unwaited';
    published($body, 'unwaited');
};

subtest 'connections at the same time' => sub {
    my @bodies = map { [ body_of($_ % 7 ? 100 + $_ * 61 : 200_000 + $_) ] } 1 .. 300;
    my %body = map { $_->[1] => $_->[0] } @bodies;

    my @statuses = post_many($nginx, '/tiny', [ map { $_->[0] } @bodies ], connections => 50);
    is scalar(grep { $_ == 200 } @statuses), 300, 'all are accepted';

    for my $message ($subscriber->next_messages(300, 30)) {
        my ($room, $payload) = $message->{payload} =~ /"room_name":"([^"]+)".*?"payload":(.*)\}\z/s;
        my $expected = delete $body{$room};
        next if defined $expected && $payload eq $expected;
        fail "payload of $room";
    }
    is_deeply [ keys %body ], [], 'all are published';
    stored("vaani:call:$_->[1]", $_->[2], $_->[1]) for @bodies;
};

subtest 'no body' => sub {
    my $handle = $http->connect->handle;
    for my $uri (qw(/hook /file /clean /single)) {
        for my $case (
            [ 'Content-Length: 0' => (body => '') ],
            [ 'no length'         => () ],
            [ 'chunked'           => (body => '', chunked => 1) ],
            [ 'chunked, after the header' => (body => '', chunked => 1, expect_continue => 1) ],
        ) {
            my ($name, @how) = @$case;
            my $response = $http->request(method => 'POST', uri => $uri, @how);
            is $response->status, 400, "$uri, $name";
            like $response->body, EMPTY, '... says so';
        }
    }

    is $http->handle, $handle, 'the connection is kept';
    my $response = $http->request(method => 'POST', uri => '/hook', version => '1.0');
    is $response->status, 400, 'HTTP/1.0';
    $response = $http->request(uri => '/hook', version => '1.0', body => event('call_ended'),
        no_content_length => 1);
    is $response->status, 400, 'HTTP/1.0 without a length: it is not read';
    nothing_published('no body');
};

subtest 'blocks in the location' => sub {
    for my $size (150, 100_000) {
        my $response = delivers $size, 'if that does not apply', post('/if'), 'if';
        is $response->header('X-If'), undef, '... really';
        $response = delivers $size, 'if that applies', post('/if', headers => { 'X-If' => 'yes' }), 'if';
        is $response->header('X-If'), 'yes', '... really';

        delivers $size, 'limit_except of others', post('/limited');
        delivers $size, 'limit_except of POST', post('/except'), 'except';
    }
    is $http->request(uri => '/limited')->status, 403, 'what is denied';

    for my $uri ('/if', '/except') {
        my $response = $http->request(uri => $uri, headers => { 'X-If' => 1 });
        is $response->status, 405, "GET $uri";
        is $response->header('Allow'), 'POST', '... Allow';
    }
    my $response = $http->request(uri => '/except', body => '{');
    is $response->status, 400, 'a bad body';
    nothing_published('the refused');
};

subtest 'internal redirects' => sub {
    for my $size (150, 1025, 100_000) {
        for my $how ([], [ chunked => 500 ]) {
            my $name = "$size bytes" . (@$how ? ', chunked' : '');

            delivers $size, "rewrite, $name", post('/rewrite', @$how);
            delivers $size, "try_files with a URI, $name", post('/try', @$how);
            delivers $size, "try_files with a name, $name", post('/named', @$how), 'named';
            delivers $size, "error_page with a name, $name", post('/error', @$how), 'named';
            delivers $size, "after the body was read, $name", post('/fallback', @$how), 'named';
        }
    }

    # As with any handler of nginx, the status is that of the error then.
    my $response = delivers 150, 'error_page without =', post('/kept-error'), 'named';
    is $response->status, 404, '... keeps the status';

    my $body = event('call_ended');
    $response = $http->request(uri => '/error-uri', body => $body);
    is $response->status, 405, 'error_page with a URI makes it a GET';
    is $response->header('Allow'), 'POST', '... Allow';
    delivers 150, 'the connection is kept', post('/hook');

    for my $uri (qw(/rewrite /try /named /error /fallback)) {
        is $http->request(uri => $uri, body => '{"event":1}')->status, 422, "$uri: refused";
        like $http->request(uri => $uri, body => '', method => 'POST')->body, EMPTY, '... and without a body';
    }
    nothing_published('the refused');
};

subtest 'a body that was not read to its end' => sub {
    # The proxy takes what came with the header, and gives up: the rest is
    # lost, which is not the client's fault.
    for my $how ([], [ chunked => 1000 ], [ expect_continue => 1 ]) {
        my ($body) = body_of(300_000);
        my $response = $nginx->http->request(uri => '/unbuffered', body => $body, @$how);
        cmp_ok $response->status, '>=', 500, "an error of ours, @$how" or diag $response->body;
    }
    delivers 150, 'whole all the same', post('/unbuffered'), 'named';
    nothing_published('the incomplete');
};

subtest 'a body that another handler left alone' => sub {
    for my $uri (qw(/static /denied /asked /answered /accelerated)) {
        for my $size (150, 1025, 100_000) {
            for my $how ([], [ chunked => 500 ], [ expect_continue => 1 ]) {
                delivers $size, "$uri, $size bytes, @$how", post($uri, @$how), 'named';
            }
        }
    }
};

# Not the sender's fault: it may retry, or an operator finds the line in the
# log.
subtest 'a body that another handler consumed or discarded' => sub {
    for my $uri (qw(/consumed /consumed-accelerated /limited-size /own-size /static-size)) {
        for my $size (150, 1025, 20_000, 300_000) {
            for my $how ([], [ chunked => 500 ], [ expect_continue => 1 ], [ chunked => 70, expect_continue => 1 ]) {
                my $name = "$uri, $size bytes, @$how";

                # A chunked body can be too big only when it is read.
                next if $uri eq '/static-size' && "@$how" =~ /chunked/;

                my ($body) = body_of($size);
                my $response = $nginx->http->request(uri => $uri, body => $body, @$how);
                if ($uri =~ /consumed/ && $response->body eq OK) {

                    # It was there as a whole before the other handler took it.
                    published($body, "$name: whole all the same", 'named');
                    cmp_ok $size, '<=', 20_000, '... a small one';
                    next;
                }
                is $response->status, 500, $name or diag $response->body;
                is $response->header('X-Why'), 'unavailable body_consumed', '... $vaani_result and $vaani_reason';
            }
        }
    }

    # Once in a while, see t/http/log-pace.t.
    $nginx->log_like(qr/\[error\].*vaani: another handler read or discarded the request body/, 'the log says so');
    nothing_published('the incomplete');
};

subtest 'mirrors' => sub {
    for my $size (150, 1025, 100_000, BIG) {
        for my $how ([], [ chunked => 7000 ], [ expect_continue => 1 ]) {
            my $name = "$size bytes, @$how";
            my ($body, $room, $transcript) = body_of($size);

            is $http->request(uri => '/mirrored', body => $body, @$how)->body, OK, "$name: answer";
            my %prefixes = map { $_->{channel} => $_->{payload} } $subscriber->next_messages(2, 30);

            for my $prefix (qw(vaani copy)) {
                my $payload = $prefixes{"$prefix:events"} // '';
                ok substr($payload, -length($body) - 11) eq qq("payload":$body}), "$name: payload of $prefix";
                stored("$prefix:call:$room", $transcript, "$name, $prefix");
            }

            ($body, $room, $transcript) = body_of($size);
            is $http->request(uri => '/proxied', body => $body, @$how)->status, 204, "$name: proxied";
            published($body, $name, 'copy', $room);
            stored("copy:call:$room", $transcript, $name);
        }
    }

    # The mirror is refused, the request is not.
    delivers 150, 'a mirror without the body', post('/bodiless-mirror');
    is $http->request(uri => '/mirrored', body => '{')->status, 400, 'both are refused';
    is $http->request(uri => '/proxied', body => '{')->status, 204, 'the mirror is refused';
    is $http->request(uri => '/copy', body => '{')->status, 404, 'internal';
    delivers 150, 'afterwards', post('/hook');
    nothing_published('the refused');
};

# --- HTTP/2, by others' clients

my @CURL = ('curl', '-sS', '--max-time', 60, '--http2-prior-knowledge');
my $write_out = '\n%{http_version} %{http_code} %{num_connects}\n';

sub curl (@arguments) {
    my ($exit, $out, $err) = run(
        [
            @CURL, '--unix-socket', $nginx->dir . '/h2.sock', '-w', $write_out,
            '-H', 'Content-Type: application/json', @arguments,
        ]
    );
    is $exit, 0, 'curl' or diag $err;
    return $out;
}

subtest 'HTTP/2' => sub {
    my $file = tmpdir() . '/body.json';

    for my $uri (qw(/hook /tiny /file)) {
        for my $size (150, 16_385, 70_000, BIG) {
            for my $how ([ '--data-binary' => "\@$file" ], [ '-X', 'POST', '-T', '-' ]) {
                my $name = "$uri, $size bytes, " . ($how->[0] eq '-X' ? 'without' : 'with') . ' length';
                delivers $size, $name, sub ($body) {
                    spew($file, $body);
                    my ($exit, $out, $err) = run(
                        [
                            @CURL, '--unix-socket', $nginx->dir . '/h2.sock', '-w', $write_out,
                            '-H', 'Content-Type: application/json', @$how, "http://localhost$uri",
                        ],
                        stdin => $body,
                    );
                    is $exit, 0, "$name: curl" or diag $err;
                    $out =~ s/\n2 200 1\n\z// or fail "$name: $out";
                    return bless { body => $out }, 'Vaani::Test::HTTP::Response';
                };
            }
        }
    }

    like curl('-X', 'POST', 'http://localhost/hook'), qr/the body is empty.*\n2 400/s, 'no body';
    like curl('-d', '', 'http://localhost/hook'), qr/the body is empty.*\n2 400/s, 'an empty body';
    like curl('-d', '{', 'http://localhost/hook'), qr/unexpected end.*\n2 400/s, 'a bad body';
    like curl('-i', 'http://localhost/hook'), qr/\nallow: POST\r\n.*\n2 405/s, 'no POST';
    like curl('-d', '[]', 'http://localhost/hook'), qr/JSON object.*\n2 422/s, 'no event';

    # curl 7 takes the end of an upload that nginx stops early for an error.
    spew($file, 'x' x 300_000);
    my $url = 'http://127.0.0.1:' . $nginx->port . '/hook';
    my (undef, $out) = run([ 'nghttp', '-v', '-d', $file, '-H:method: PUT', $url ]);
    like $out, qr/:status: 405/, 'an unread body';
    like $out, qr/the method must be POST/, '... the answer is whole';
    nothing_published('the refused');
};

subtest 'HTTP/2: after another handler' => sub {
    my $file = tmpdir() . '/body.json';

    for my $size (150, 20_000, 300_000) {
        for my $how ([ '--data-binary' => "\@$file" ], [ '-X', 'POST', '-T', $file, '-H', 'Content-Length:' ]) {
            my $length = $how->[0] eq '-X' ? 'without length' : 'with length';
            my $send = sub ($uri, $body) {
                spew($file, $body);
                my (undef, $out) = run([
                    @CURL, '--unix-socket', $nginx->dir . '/h2.sock', '-w', '\n%{http_code}',
                    '-H', 'Content-Type: application/json', @$how, "http://localhost$uri",
                ]);
                my ($answer, $status) = $out =~ /\A(.*)\n(\d+)\z/s;
                return bless { body => $answer // '', status => $status // 0 }, 'Vaani::Test::HTTP::Response';
            };

            for my $uri (qw(/static /answered)) {
                delivers $size, "$uri, $size bytes, $length", sub ($body) { $send->($uri, $body) }, 'named';
            }

            # curl 7 takes the end of an upload that nginx stops early for an error.
            for my $uri (qw(/consumed /limited-size /own-size)) {
                my ($body) = body_of($size);
                spew($file, $body);
                my (undef, $out) = run([
                    'nghttp', '-v', '-d', $file, $length eq 'without length' ? '--no-content-length' : (),
                    '-H:method: POST', '-Hcontent-type: application/json', 'http://127.0.0.1:' . $nginx->port . $uri,
                ]);
                if ($out =~ /\{"status":"ok"\}/ && $uri eq '/consumed') {
                    published($body, "$uri, $size bytes, $length: whole all the same", 'named');
                    next;
                }
                like $out, qr/:status: 500/, "$uri, $size bytes, $length";
            }
        }
    }
    nothing_published('the incomplete');
};

subtest 'HTTP/2: streams at the same time' => sub {
    # The same event over and over: applied once.
    for my $case ([ 150, 1000, 4, 32 ], [ 100_000, 60, 2, 10 ]) {
        my ($size, $requests, $clients, $streams) = @$case;
        my ($body, $room) = body_of($size);
        spew(tmpdir() . '/load', $body);

        my ($exit, $out, $err) = run(
            [
                'h2load', '-n', $requests, '-c', $clients, '-m', $streams,
                '-d', tmpdir() . '/load', '-H', 'Content-Type: application/json',
                '--base-uri=unix:' . $nginx->dir . '/h2.sock', 'http://localhost/hook',
            ]
        );
        is $exit, 0, 'h2load' or diag $err;
        like $out, qr/ $requests succeeded, 0 failed/, "$requests of $size bytes";
        like $out, qr/^status codes: $requests 2xx/m, '... are accepted';
        published($body, '... the first of them', 'vaani', $room);
        is $client->cmd('HGET', "vaani:call:$room", 'seq'), 1, '... and only that';
    }
    nothing_published('the duplicates');
};

ok $nginx->stop, 'stop';

done_testing;
