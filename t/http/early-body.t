# With client_body_early_read (nginx 1.31.5), nginx reads the body before it
# knows the location. The token in the URL must not be in the error log then,
# either.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Events;

use constant SECRET => 'tok_0123456789abcdef';

my ($known, $said) = Vaani::Test::Nginx->check(http => 'client_body_early_read 1;');

if (!$known) {
    like $said, qr/unknown directive "client_body_early_read"/, 'this nginx has no client_body_early_read';
    done_testing;
    exit;
}

my $redis = Vaani::Test::Redis->start;
my $endpoint = "vaani_webhook; vaani_redis @{[ $redis->url ]};";

my $nginx = Vaani::Test::Nginx->start(
    workers   => 2,
    log_level => 'info',
    http      => <<"CONF",
    client_body_early_read \$http_x_early;
    client_max_body_size 4k;

    server {
        server_name hooks.test;
        listen unix:%%SOCK%% default_server;
        error_page 413 /long;

        location = /query { $endpoint vaani_token \$arg_token ${\SECRET}; }
        location ~ "^/path/(?<key>.*)" { $endpoint vaani_token \$key ${\SECRET}; }
        location = /open { $endpoint }
        location = /page { root %%DIR%%/none; }
        location = /long { return 413 long; }
    }

    # a second server with endpoints, and one without
    server {
        server_name more.test;
        listen unix:%%SOCK%%;
        location = /query { $endpoint vaani_token \$arg_token ${\SECRET}; }
    }
    server {
        server_name plain.test;
        listen unix:%%SOCK%%;
        location = / { return 200; }
    }
CONF
);

my $http = $nginx->http;
my $room = 0;

sub post ($uri, $body = event('call_started', room => 'room-' . ++$room), %headers) {
    return $http->post($uri, $body, 'X-Early' => 1, %headers);
}

# The request lines of what was logged by the code.
sub logged ($regex, $code) {
    my $mark = $nginx->log_mark;
    $code->();
    $nginx->wait_log($regex, 10, $mark) // diag $nginx->error_log;
    return join ' | ', map { /request: "(.*?)"/ ? $1 : () } $nginx->log_lines($regex, $mark);
}

my $too_long = qr/too large body/;
my $long = '{"x":"' . 'x' x 5000 . '"}';

for my $uri ('/query?token=' . SECRET, '/path/' . SECRET) {
    is post($uri)->status, 200, "an event for $uri";
    is post($uri =~ s/tok_/no_/r)->status, 401, '... another token';

    is logged($too_long, sub { is post($uri, $long)->status, 413, '... a body that is too long' }),
        'POST *** HTTP/1.1', '... its line in the log';
    is logged(qr/too large chunked body|too large body/, sub {
            is $http->request(uri => $uri, body => $long, chunked => 1000, headers => { 'X-Early' => 1 })->status,
                413, '... in chunks';
        }),
        'POST *** HTTP/1.1', '... its line';
    is logged(qr/invalid chunked body/, sub {
            my $client = $nginx->http;
            $client->send_raw("POST $uri HTTP/1.1\r\nHost: hooks.test\r\nX-Early: 1\r\n"
                . "Transfer-Encoding: chunked\r\n\r\nno number\r\n");
        }),
        'POST *** HTTP/1.1', '... a malformed chunk';
    is logged($too_long, sub { is post($uri, $long, Host => 'more.test')->status, 413, '... of the other server' }),
        'POST *** HTTP/1.1', '... its line';

    # without the condition, as ever
    is logged($too_long, sub { is post($uri, $long, 'X-Early' => 0)->status, 413, '... not read early' }),
        $uri =~ /\?/ ? 'POST /query?*** HTTP/1.1' : 'POST *** HTTP/1.1', '... its line';
}

is post('/open')->status, 200, 'the body was read early, the event is taken';
ok $redis->client->cmd('EXISTS', "vaani:call:room-$room"), '... and is in Redis';

is logged($too_long, sub { post('/page?a=b', $long) }), 'POST *** HTTP/1.1', 'no endpoint: nobody knows that yet';
is logged(qr/open\(\) .* failed/, sub { $http->get('/page?a=b', 'X-Early' => 1) }), 'GET /page?a=b HTTP/1.1',
    '... later it is known';
is logged($too_long, sub { post('/?a=b', $long, Host => 'plain.test') }), 'POST /?a=b HTTP/1.1',
    'a server without endpoints logs all of it';

unlike $nginx->error_log, qr/\Q${\SECRET}/, 'the log does not have the token';

$nginx->stop;
done_testing;
