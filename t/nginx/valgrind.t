# One run from end to end, to be made under valgrind: every kind of body and
# answer, a lost Redis, clients that leave, a graceful end.  Errors that valgrind
# finds are in the logs that Vaani::Test::Nginx checks, and in nginx's exit status.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
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
        location = /strict  { vaani_webhook; vaani_validation strict; }
        location = /lenient { vaani_webhook;
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
    is $http->post('/strict', $_)->status, 400, 'malformed' for '', '{', '{"a":1,"\u0061":2}', "\"\xff\"";
    is $http->post('/strict', $_)->status, 422, 'invalid' for '[]', '{"event":1}', event('call_ended', call_duration => -1);
    is $http->post('/hook', $_)->status, 400, 'malformed, lenient' for '', '{', "\xef\xbb\xbf", "\xff", '{"x":NaN', '-Infinit';
    is $http->post($_, '{' . join(',', map { "\"$_\":$_" } 1 .. 2000) . '}')->status, 422, "$_: many keys"
        for qw(/hook /strict);
    is $http->post($_, '{' . join(',', map { "\"$_\":$_" } 1 .. 5000) . '}')->status, 400, "$_: too many keys"
        for qw(/hook /strict);

    # Deliveries in the current form, complete and with the end cut off.
    for my $file (glob ROOT . '/t/events/deliveries/*.json') {
        my $delivery = slurp($file);
        is $http->post('/hook', $delivery)->status, 200, $file =~ s{.*/}{}r;
        like $http->post($_, substr $delivery, 0, length($delivery) / 2)->status, qr/^400$/, "... half of it to $_"
            for qw(/hook /strict);
        $http->post('/strict', $delivery);
    }

    my $several = sub (@events) { return '{"event":"call_ringing","events":[' . join(',', @events) . ']}' };
    my @names = map { qq({"data":{"call_id":"several-$_"}}) } 1 .. 100;
    is $http->post('/hook', $several->(@names))->status, 200, 'a hundred events';
    is $http->post('/hook', $several->(@names, '{}'))->status, 422, '... and one more';
    is $http->post('/hook', "\xef\xbb\xbf" . $several->(qq({"room_name":"a","x":NaN}), qq({"room_name":"\xff"})))->status, 422,
        'repaired, and refused';
    is $http->post('/hook', $several->('1', '"x"', '[]', '{"events":[{}]}', '{"room_name":"\ud800"}'))->status, 422,
        'all are refused';
    is $http->post('/hook', event('call_postprocessing', room => 'turns', transcript => \$_))->status, 200, 'turns'
        for '[]', '[{}]', '["a","\ud83d",1,{"role":"a","text":"b\n","time":1}]';
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
