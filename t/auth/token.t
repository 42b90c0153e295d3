# Tokens: which are accepted and which are refused; and a refused request
# leaves no trace in Redis, in a spool or in the error log.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Events;
use Vaani::Test::HTTP qw(format_request);
use Vaani::Test::Nginx::Config qw(nginx_bin);
use Vaani::Test::Signing;

use constant OK     => qq({"status":"ok"}\n);
use constant QUEUED => qq({"status":"queued"}\n);

my ($old, $new, $other) = map { token_secret() } 1 .. 3;
my $long = token_secret(512);
my $odd = is_secret('p%41ss/w?rd&x=y "z" ~!$uri é');
my $short = 's';
my $shared = token_secret();

secret_file('tokens', "\n$old\r\n\n$new\n");
secret_file('odd', "$odd\n");

my $redis = Vaani::Test::Redis->start;
my $client = $redis->client;

my $locations = <<"CONF";
    location = /query  { vaani_webhook; vaani_token \$arg_token $old $new; }
    location = /header { vaani_webhook; vaani_token \$http_x_token $new $old; }
    location = /header-strict { vaani_webhook; vaani_validation strict; vaani_token \$http_x_token $new $old; }
    location = /file   { vaani_webhook; vaani_token \$http_x_token file=%%TMPDIR%%/tokens; }
    location = /mixed  { vaani_webhook; vaani_token \$http_x_token $other file=%%TMPDIR%%/tokens; }
    location = /odd    { vaani_webhook; vaani_token \$http_x_token file=%%TMPDIR%%/odd; }
    location = /long   { vaani_webhook; vaani_token \$http_x_token $long; }
    location = /short  { vaani_webhook; vaani_token \$http_x_token $short; }
    location = /cookie { vaani_webhook; vaani_token \$cookie_token $old; }
    location = /joined { vaani_webhook; vaani_token "\$arg_a:\${arg_b}" "$old:$new"; }
    location ~ ^/path/([^/]+)/hook\$           { vaani_webhook; vaani_token \$1 $old; }
    location ~ ^/named-path/(?<token>.+)/hook\$ { vaani_webhook; vaani_token \$token $old; }
    location ~ ^/odd-path/(.+)\$                { vaani_webhook; vaani_token \$1 file=%%TMPDIR%%/odd; }

    location = /open   { vaani_webhook; }
    location = /small  { vaani_webhook; vaani_token \$http_x_token $old; client_max_body_size 100; }
    location = /tiny   { vaani_webhook; vaani_token \$http_x_token $old; client_body_buffer_size 1k; }
    location = /spooled {
        vaani_webhook;
        vaani_token \$http_x_token $old;
        vaani_redis unix:%%DIR%%/none.sock;
        vaani_spool %%DIR%%/spool;
    }

    # an endpoint that is reached by other ways

    location = /if {
        vaani_webhook;
        vaani_token \$http_x_token $old;
        if (\$http_x_if) { add_header X-If yes always; }
    }
    location = /limited { vaani_webhook; vaani_token \$http_x_token $old; limit_except POST { deny all; } }
    location = /except  { vaani_webhook; vaani_token \$http_x_token $old; limit_except GET { allow all; } }
    location = /rewrite { rewrite ^ /header last; }
    location = /try     { try_files /none /header; }
    location = /page    { error_page 404 = \@named; return 404; }
    location \@named    { vaani_webhook; vaani_token \$http_x_token $old; }

    location /outer {
        vaani_token \$http_x_token $old;
        location = /outer/inherits { vaani_webhook; }
        location = /outer/off      { vaani_webhook; vaani_token off; }
        location = /outer/other    { vaani_webhook; vaani_token \$http_x_token $other; }
        location   /outer/deep     { vaani_token off; location = /outer/deep/inherits { vaani_webhook; } }
    }
CONF

my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    keepalive_requests 100000;
    client_max_body_size 4m;
    vaani_redis @{[ $redis->url ]};

    server {
        listen unix:%%SOCK%%;
        listen unix:%%DIR%%/h2.sock http2;
        listen 127.0.0.1:%%PORT%% http2;
        add_header X-Result \$vaani_result always;
        add_header X-Reason \$vaani_reason always;
        $locations
    }
    server {
        listen unix:%%DIR%%/plain.sock;
        location = /query  { vaani_webhook; vaani_token \$arg_token $old; }
        location = /header { vaani_webhook; vaani_token \$http_x_token $old; }
        location ~ ^/path/(.+)\$ { vaani_webhook; vaani_token \$1 $old; }
    }
    server {
        listen unix:%%DIR%%/server.sock;
        vaani_token \$http_x_token $shared;
        location = /inherits { vaani_webhook; }
        location = /off      { vaani_webhook; vaani_token off; }
        location = /other    { vaani_webhook; vaani_token \$arg_t $other; }
        location = /unrelated { return 200 unrelated; }
    }
CONF

my $http = $nginx->http;

# The answer to an authorized request: its body is not an event, so that it is
# cheap to check.
use constant LET_IN => '[]';

sub let_in ($response, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is $response->status . ' ' . ($response->header('X-Result') // ''), '422 rejected', $name;
}

sub with ($uri, @headers) {
    return $http->request(uri => $uri, body => LET_IN, headers => [ 'Content-Type' => 'application/json', @headers ]);
}

sub token ($uri, $token) { return with($uri, 'X-Token' => $token) }

# All that Redis has done for events so far.
sub redis_work () {
    my ($calls) = $client->cmd('INFO', 'commandstats') =~ /cmdstat_evalsha:calls=(\d+)/;
    return join ' ', $client->cmd('DBSIZE'), $calls // 0;
}

subtest 'the right one' => sub {
    for my $token ($old, $new) {
        let_in with("/query?token=$token"), 'an argument';
        let_in with("/query?a=b&token=$token&c=d"), 'an argument among others';
        let_in with("/query?TOKEN=$token"), 'names of arguments have no case';
        let_in token($_ => $token), $_ for qw(/header /file /mixed);
    }
    let_in token('/mixed', $other), 'beside a file';
    let_in token('/long', $long), '512 bytes';
    let_in token('/short', $short), 'one byte';
    let_in with('/cookie', Cookie => "a=b; token=$old"), 'a cookie';
    let_in with("/joined?a=$old&b=$new"), 'of two variables';
    let_in with("/path/$old/hook"), 'in the path';
    let_in with("/path/$old/hook?token=$other"), 'in the path, with arguments';
    let_in with("/named-path/$old/hook"), 'in the path, by name';
    let_in token('/odd', $odd), 'any bytes in a file';

    # The path is decoded by nginx, arguments are not.
    my $encoded = sub ($text) { return $text =~ s/(.)/sprintf '%%%02x', ord $1/gesr };
    let_in with('/path/' . $encoded->($old) . '/hook'), 'percent-encoded in the path';
    let_in with('/odd-path/' . $encoded->($odd)), 'any bytes, percent-encoded';
    is_unauthorized with('/query?token=' . $encoded->($old)), 'percent-encoded in an argument', 'wrong_token';
    is_unauthorized with('/query?token=%' . unpack('H2', $old) . substr $old, 1), 'one byte of it', 'wrong_token';

    my $body = an_event();
    my @json = ('Content-Type' => 'application/json', 'X-Token' => $old);
    is $http->request(uri => '/header', body => $body, headers => \@json)->body, OK, 'an event';
    is $http->request(uri => '/header', body => $body, headers => \@json)->body, qq({"status":"duplicate"}\n), '... again';
};

subtest 'the wrong one' => sub {
    my $before = redis_work();

    is_unauthorized with('/query'),         'no arguments',  'missing_token';
    is_unauthorized with('/query?token'),   'no value',      'missing_token';
    is_unauthorized with('/query?token='),  'empty',         'missing_token';
    is_unauthorized with("/query?tokens=$old"), 'another name', 'missing_token';
    is_unauthorized with("/query?$old"),    'no name',       'missing_token';
    is_unauthorized with('/header'),        'no header',     'missing_token';
    is_unauthorized token('/header', ''),   'empty header',  'missing_token';
    is_unauthorized token('/header', '  '), 'only spaces',   'missing_token';
    is_unauthorized with('/header', 'X-Tokens' => $old), 'another header', 'missing_token';
    is_unauthorized with("/header?x_token=$old"), 'elsewhere', 'missing_token';
    is_unauthorized with('/joined'),        'of two variables, none', 'wrong_token';
    is_unauthorized with("/joined?a=$old"), 'of two variables, one',  'wrong_token';
    is_unauthorized with("/joined?a=$new&b=$old"), 'of two variables, swapped', 'wrong_token';
    is_unauthorized with('/cookie', Cookie => "tokens=$old"), 'another cookie', 'missing_token';

    my $flipped = 0;
    for my $bit (0 .. 8 * length($old) - 1) {
        my $near = $old;
        vec($near, $bit, 1) ^= 1;
        my $response = token('/header', $near);
        $flipped++ if $response->status == 401;
        is_unauthorized $response, "bit $bit turned", 'wrong_token' if $bit % 64 == 0;
    }
    is $flipped, 8 * length $old, 'each single bit matters';

    $flipped = 0;
    for my $byte (0 .. length($long) - 1) {
        my $near = $long;
        substr($near, $byte, 1) =~ tr/0-9a-f/1-9a-f0/;
        $flipped++ if token('/long', $near)->status == 401;
    }
    is $flipped, length $long, 'each byte of a long one matters';

    my $cut = 0;
    $cut += token('/header', substr $old, 0, $_)->status == 401 for 1 .. length($old) - 1;
    $cut += token('/header', substr $old, $_)->status == 401 for 1 .. length($old) - 1;
    is $cut, 2 * (length($old) - 1), 'cut off anywhere';

    my %near = (
        'extended'       => "${old}0",
        'extended before' => "0$old",
        'in upper case'  => uc $old,
        'twice'          => $old . $old,
        'old and new'    => "$old$new",
        'as a list'      => "$old,$new",
        'in quotes'      => qq("$old"),
        'a space within' => substr($old, 0, 32) . ' ' . substr($old, 32),
        'a high byte'    => "$old\xff",
        'reversed'       => scalar reverse($old),
        'a scheme'       => "Bearer $old",
        'huge'           => $old x 20,
    );
    is_unauthorized token('/header', $near{$_}), $_, 'wrong_token' for sort keys %near;
    is_unauthorized token('/long', $long . $_), 'beyond 512 bytes', 'wrong_token' for '0', $long;
    is_unauthorized token('/short', $_), "'$_' for one byte", 'wrong_token' for 't', 'ss', 'S', '0';
    is_unauthorized token('/odd', $odd . ' x'), 'any bytes, and more', 'wrong_token';
    is_unauthorized token($_ => $other), "another's at $_", 'wrong_token' for qw(/header /file);
    is_unauthorized token('/file', $_), 'lines of a file, together', 'wrong_token' for "$old$new", "$old $new";

    # A header's surroundings are not part of its value.
    let_in token('/header', "   $old   "), 'spaces around a header';
    is_unauthorized token('/header', "\t$old\t"), 'nginx keeps other white space', 'wrong_token';
    is_unauthorized with("/query?token=%20$old"), 'a space before an argument', 'wrong_token';
    is_unauthorized with("/query?token=$old+"),   'one after it',               'wrong_token';

    # Of two arguments, the first counts. nginx joins equal headers from 1.23 on.
    my @two = map { with('/query?' . join '&', map { "token=$_" } @$_)->status } [ $old, $other ], [ $other, $old ];
    is join(' ', @two), '422 401', 'two arguments: the first counts';
    my @headers = map { with('/header', map { ('X-Token' => $_) } @$_)->status } [ $old, $other ];
    my (undef, @version) = run([ nginx_bin(), '-v' ]);
    my $joined = "@version" !~ m{nginx/1\.(?:\d|1\d|2[0-2])\.};
    is "@headers", $joined ? 401 : 422, 'two headers';
    is_unauthorized with('/header', 'X-Token' => $other, 'X-Token' => $old), '... which is wrong', 'wrong_token';

    is_unauthorized with("/path/$other/hook"), 'in the path', 'wrong_token';
    is with("/path//hook")->status, 404, 'none in the path is another path';
    is_unauthorized with('/path/' . uc($old) . '/hook'), 'in the path, in upper case', 'wrong_token';

    is redis_work(), $before, 'Redis was not asked';
};

subtest 'other ways to an endpoint' => sub {
    for my $uri (qw(/if /limited /except /rewrite /try /page /outer/inherits)) {
        let_in token($uri, $old), "$uri";
        is_unauthorized token($uri, $_), "$uri: " . ($_ || 'none'), $_ ? 'wrong_token' : 'missing_token'
            for $other, '';
    }
    is with('/if', 'X-If' => 1, 'X-Token' => $old)->status, 422, '/if, true';
    is with('/if', 'X-If' => 1, 'X-Token' => $other)->status, 401, '/if, true: a wrong token';

    let_in token('/outer/off', $_), '/outer/off' for '', $other;
    let_in token('/outer/deep/inherits', $_), 'off is inherited' for '', $other;
    let_in token('/outer/other', $other), '/outer/other';
    is_unauthorized token('/outer/other', $old), 'what is inherited is replaced', 'wrong_token';

    my $server = Vaani::Test::HTTP->new(sock => $nginx->dir . '/server.sock');
    my $status = sub ($uri, $token) { $server->post($uri, LET_IN, 'X-Token' => $token)->status };
    is $status->('/inherits', $shared), 422, 'from the server';
    is $status->('/inherits', $old),    401, '... a wrong one';
    is $status->('/off', ''),           422, 'off';
    is $status->('/other', $shared),    401, 'another one';
    is $status->("/other?t=$other", ''), 422, '... the right one';
    is $server->get('/unrelated')->body, 'unrelated', 'other locations ask for none';
};

subtest 'from http' => sub {
    my $inherits = Vaani::Test::Nginx->start(http => <<"CONF");
        vaani_token \$http_x_token $old;
        vaani_redis @{[ $redis->url ]};
        server {
            listen unix:%%SOCK%%;
            location = /inherits { vaani_webhook; }
            location = /off      { vaani_webhook; vaani_token off; }
        }
        server {
            listen unix:%%DIR%%/off.sock;
            vaani_token off;
            location = /inherits { vaani_webhook; }
            location = /on       { vaani_webhook; vaani_token \$http_x_token $new; }
        }
CONF
    my $one = $inherits->http;
    my $two = Vaani::Test::HTTP->new(sock => $inherits->dir . '/off.sock');

    for my $case (
        [ $one, '/inherits', $old => 422 ], [ $one, '/inherits', '' => 401 ], [ $one, '/off', '' => 422 ],
        [ $two, '/inherits', '' => 422 ], [ $two, '/on', $old => 401 ], [ $two, '/on', $new => 422 ],
    ) {
        my ($client, $uri, $token, $status) = @$case;
        is $client->post($uri, LET_IN, 'X-Token' => $token)->status, $status, "$uri: $status";
    }
    ok $inherits->stop, 'stop';
};

subtest 'always the same bytes' => sub {
    my $plain = Vaani::Test::HTTP->new(sock => $nginx->dir . '/plain.sock');
    my %seen;

    for my $request (
        [ '/query' ], [ "/query?token=$other" ], [ '/header' ], [ '/header', 'X-Token' => "${old}x" ],
        [ "/path/$other" ], [ '/header', 'X-Token' => $other, 'Content-Type' => 'text/plain' ],
    ) {
        my ($uri, @headers) = @$request;
        for my $body ('', '{', an_event(), 'x' x 300_000) {
            $plain->send_raw(join '', format_request(
                uri => $uri, body => $body, headers => [ @headers, Connection => 'close' ]));
            $seen{ $plain->read_raw =~ s/^Date: [^\r]+\r\n//mr }++;
        }
    }
    is keys %seen, 1, 'one answer' or diag explain \%seen;
    like +(keys %seen)[0], qr{\AHTTP/1\.1\ 401\ Unauthorized\r\n
        Server:\ (?:nginx|freenginx|Angie|Tengine)\b\S*\r\n
        Content-Type:\ application/problem\+json\r\n
        Content-Length:\ 59\r\n
        Connection:\ close\r\n
        WWW-Authenticate:\ Webhook\r\n\r\n
        \Q${\UNAUTHORIZED}\E\z}x, '... this one';
};

subtest 'before the body was read' => sub {
    my $before = redis_work();
    my $body = event('call_started', room => new_room(), junk => 'x' x 1_000_000);
    my $half = length($body) / 2;

    $http->send_raw("POST /header HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        . "X-Token: $other\r\nContent-Length: " . length($body) . "\r\n\r\n" . substr $body, 0, $half);
    my $handle = $http->handle;
    my $response = $http->read_response;
    is_unauthorized $response, 'the answer is there after half of it', 'wrong_token';
    ok $response->keepalive, '... and the connection is kept';
    $http->send_raw(substr $body, $half);
    let_in token('/header', $old), '... for another request';
    is $http->handle, $handle, '... on it';

    for my $framing ([ 'with a length' => () ], [ chunked => (chunked => 1000) ], [ 'HTTP/1.0' => (version => '1.0') ]) {
        my ($name, @framing) = @$framing;
        for my $body ('', 'x', 'x' x 20_000, $body) {
            my $response = $http->request(uri => '/tiny', body => $body, headers => [ 'X-Token' => $other ], @framing);
            is_unauthorized $response, "$name, " . length($body) . ' bytes', 'wrong_token';
            ok $response->keepalive, '... kept' if $name ne 'HTTP/1.0';
        }
    }

    $response = $http->request(uri => '/tiny', body => $body, headers => [ 'X-Token' => $other ], expect_continue => 1);
    is_unauthorized $response, 'a client that waits', 'wrong_token';

    my @answers = $http->pipelined(map { {
        uri     => '/tiny',
        body    => LET_IN . ' ' x 5000,
        headers => [ 'Content-Type' => 'application/json', 'X-Token' => $_ ],
    } } $other, $old, '', $old, $other);
    is join(' ', map { $_->status } @answers), '401 422 401 422 401', 'pipelined';

    is redis_work(), $before, 'Redis was not asked';
};

subtest 'what comes first' => sub {
    my @text = ('Content-Type' => 'text/plain');

    for my $token ($old, $other, '') {
        my $response = $http->request(method => 'PUT', uri => '/header', body => '[]', headers => [ 'X-Token' => $token ]);
        is $response->status, 405, '405 before the token';
    }
    is_unauthorized with('/header', @text, 'X-Token' => $other), '415 after a wrong token', 'wrong_token';
    is_unauthorized with('/header', @text, 'Content-Encoding' => 'gzip'), '... or none', 'missing_token';
    is $http->request(uri => '/header-strict', body => '[]', headers => [ @text, 'X-Token' => $old ])->status, 415,
        '415 after the right one: strict';
    let_in $http->request(uri => '/header', body => LET_IN, headers => [ @text, 'X-Token' => $old ]),
        'lenient: an authenticated request may have any type';
    is $http->request(uri => '/header', body => '[]', headers => [ @text, 'Content-Encoding' => 'gzip', 'X-Token' => $old ])
        ->status, 415, '... but no content coding';

    for my $token ($old, $other, '') {
        for my $framing ([], [ chunked => 50 ]) {
            my $response = $nginx->http->request(
                uri => '/small', body => ' ' x 101, headers => [ 'X-Token' => $token ], @$framing);
            # Without a length, nginx has to read to know.
            my $wanted = @$framing && $token ne $old ? '401|413' : '413';
            like $response->status, qr/^(?:$wanted)$/, "413 and '" . substr($token, 0, 4) . "' @$framing";
        }
    }
};

subtest 'HTTP/2' => sub {
    my $curl = sub (@arguments) {
        my ($exit, $out, $err) = run([
            qw(curl -sS --max-time 60 --http2-prior-knowledge -i -w), '\n%{http_code}', '--unix-socket',
            $nginx->dir . '/h2.sock', '-H', 'Content-Type: application/json', @arguments,
        ]);
        is $exit, 0, 'curl' or diag $err;
        return $out;
    };
    like $curl->('-d', LET_IN, "http://localhost/query?token=$old"), qr/\n422\z/, 'an argument';
    like $curl->('-d', LET_IN, '-H', "X-Token: $new", 'http://localhost/header'), qr/\n422\z/, 'a header';

    # curl 7 takes the end of an upload that nginx stops early for an error.
    my $body = tmpdir() . '/big';
    for my $size (10, 300_000) {
        spew($body, 'x' x $size);
        for my $uri ("/query?token=$other", '/header', "/path/$other/hook") {
            my (undef, $out) = run([ 'nghttp', '-v', '-d', $body, 'http://127.0.0.1:' . $nginx->port . $uri ]);
            like $out, qr/:status: 401/, "refused: $size bytes";
            like $out, qr/www-authenticate: Webhook/, '... with the challenge';
            like $out, qr/\Q${\UNAUTHORIZED}\E/, '... whole';
        }
    }
};

subtest 'nothing is left behind' => sub {
    my $subscriber = $redis->client->psubscribe('*');
    my $before = redis_work();

    is_unauthorized $http->post('/header', an_event(), 'X-Token' => $other), 'an event', 'wrong_token' for 1 .. 20;
    $client->cmd('PUBLISH', 'mark', '');
    is $subscriber->next_message(30)->{channel}, 'mark', 'nothing was published';
    is redis_work(), $before, 'nor stored';

    my $spool = $nginx->dir . '/spool';
    my $bytes = sub { my $sum = 0; $sum += -s for grep { -f } glob "$spool/*.log"; $sum };
    my $empty = $bytes->();
    is_unauthorized $http->post('/spooled', an_event(), 'X-Token' => $other), 'with a spool', 'wrong_token' for 1 .. 20;
    is $bytes->(), $empty, 'the spool has nothing of it';
    is $http->post('/spooled', an_event(), 'X-Token' => $old)->body, QUEUED, 'the right token';
    cmp_ok $bytes->(), '>', $empty, '... is spooled';
};

subtest 'rotation' => sub {
    my ($first, $second) = map { token_secret() } 1, 2;
    my $path = secret_file('rotated', "$first\n");

    my $rotating = Vaani::Test::Nginx->start(http => <<"CONF");
        vaani_redis @{[ $redis->url ]};
        server {
            listen unix:%%SOCK%%;
            location = / { vaani_webhook; vaani_token \$http_x_token file=%%TMPDIR%%/rotated; }
        }
CONF
    my $let_in = sub {
        my $client = $rotating->http;
        return join ' ', map { $client->post('/', LET_IN, 'X-Token' => $_)->status } $first, $second;
    };

    is $let_in->(), '422 401', 'the first';
    secret_file('rotated', "$second\n$first\n");
    is $let_in->(), '422 401', 'a file is read once';
    ok $rotating->reload, 'a reload';
    is $let_in->(), '422 422', 'both';
    secret_file('rotated', "$second\n");
    ok $rotating->reload, 'another';
    is $let_in->(), '401 422', 'the second';

    # A mistake in the file leaves everything as it was.
    secret_file('rotated', '');
    $rotating->allow_log(qr/contains no secret/);
    ok !$rotating->reload, 'an empty file is refused';
    is $let_in->(), '401 422', '... and the second is still good';
    ok $rotating->stop, 'stop';
};

ok $nginx->stop, 'stop';
like slurp($nginx->dir . '/error.log'), qr/vaani: unauthorized: $_/, "the error log tells of $_"
    for qw(missing_token wrong_token);
no_secret_was_told();

done_testing;
