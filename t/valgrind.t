# One run from end to end, to be made under valgrind: every kind of body and
# answer, a lost Redis, clients that leave, a graceful end.  What valgrind finds
# is in the logs that Vaani::Test::Nginx looks at, and in nginx's exit status.

use Vaani::Test;
use Vaani::Test::Events;

plan skip_all => 'make test-valgrind runs this' if !$ENV{VAANI_VALGRIND};

my $redis = Vaani::Test::Redis->start(acl => [
    qw(~calls +xadd &a), "&\xc3\xa9", Vaani::Test::ACL::with_prefix('p*'),
]);
my $client = $redis->client;

my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    server {
        listen unix:%%SOCK%%;
        listen unix:%%DIR%%/h2.sock http2;

        vaani_redis @{[ $redis->url ]};
        vaani_stream calls maxlen=100;

        location = /hook    { vaani_webhook; }
        location = /lenient { vaani_webhook; vaani_validation lenient;
                              vaani_prefix \$http_x_prefix;
                              vaani_channel a; vaani_channel \$vaani_room; }
        location = /file    { vaani_webhook; client_body_buffer_size 1k; }
    }
CONF

my $http = $nginx->http;

subtest 'calls' => sub {
    for my $name (sort keys %CALL_PATHS) {
        (my $room = $name) =~ tr/a-z/-/c;

        for my $body (call_path($name, $room)) {
            is $http->post('/hook', $body)->status, 200, "$name: applied";
            like $http->post('/hook', $body)->body, qr/duplicate/, "$name: duplicate";
        }
        is $client->cmd('HGET', "vaani:call:$room", 'status'), 'ended', "$name: ended";
    }
};

subtest 'bodies' => sub {
    my $long = event('call_postprocessing', room => "caf\xc3\xa9", transcript => \('"' . 'x\\n' x 50_000 . '"'));

    is $http->request(method => 'POST', uri => '/file', body => $long)->status, 200, 'in a file';
    is $http->request(method => 'POST', uri => '/hook', body => $long, chunked => 999)->status, 200, 'chunked';
    is $http->post('/lenient', '{"event":"x\u0000","room_name":"\u00e9"}', 'X-Prefix' => "p\"\xff")->status, 200,
        'unknown, escaped';
    is $http->post('/hook', $_)->status, 400, 'malformed' for '', '{', '{"a":1,"\u0061":2}', "\"\xff\"";
    is $http->post('/hook', $_)->status, 422, 'invalid' for '[]', '{"event":1}', event('call_ended', call_duration => -1);
    is $http->post('/hook', '{' . join(',', map { "\"$_\":$_" } 1 .. 2000) . '}')->status, 422, 'many keys';
    is $http->get('/hook')->status, 405, 'GET';
    is $http->post('/hook', '{}', 'Content-Type' => 'text/plain')->status, 415, 'media type';
};

subtest 'Redis goes and comes' => sub {
    $client->cmd('SCRIPT', 'FLUSH');
    is $http->post('/hook', event('call_ringing', room => 'flush'))->status, 200, 'NOSCRIPT';

    $redis->suspend;

    my $leaver = $nginx->http;
    $leaver->connect;
    my $body = event('call_started', room => 'left');
    $leaver->send_raw("POST /hook HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
        . length($body) . "\r\n\r\n$body");
    $leaver->close;

    is $http->post('/hook', event('call_started', room => 'late'))->status, 503, 'no answer in time';
    $redis->resume;
    $redis->kill;
    is $http->post('/hook', event('call_started', room => 'gone'))->status, 503, 'gone';
    $redis->restart;
    ok wait_for(sub { $http->post('/hook', event('call_started', room => 'back'))->status == 200 }, 30), 'back';
};

ok $nginx->stop, 'a graceful end without errors';

done_testing;
