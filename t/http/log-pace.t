# Lines that a busy endpoint could repeat for each event are logged from time to
# time, with how many were not.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Events;

my $redis = Vaani::Test::Redis->start;
my $password = spew(tmpdir() . '/password', "secret\n");
chmod 0600, $password or die "chmod: $!\n";
$redis->client->cmd(qw(ACL SETUSER mute on >secret ~* +@all), '-PUBLISH');

my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    vaani_redis @{[ $redis->url ]};
    server {
        listen unix:%%SOCK%%;
        keepalive_requests 100000;
        location = /mute {
            vaani_webhook;
            vaani_redis @{[ $redis->url ]}?user=mute;
            vaani_redis_password_file $password;
        }
        location = /hook  { vaani_webhook; }
        location = /token { vaani_webhook; vaani_token \$arg_t secret; }
        location = /gone  {
            client_body_in_single_buffer on;
            proxy_pass http://unix:%%DIR%%/none.sock;
            proxy_request_buffering off;
            error_page 502 = /hook;
        }
    }
CONF

my $http = $nginx->http(retry => 0);

# How many lines of each level there are.
sub levels ($regex) {
    my %level;
    $level{$_}++ for map { /\[(\w+)\]/ } $nginx->log_lines($regex);
    return \%level;
}

subtest 'what Redis does not publish' => sub {
    my $answers = join ' ', map { $http->post('/mute', event('call_started', room => "room-$_"))->status } 1 .. 20;
    is $answers, join(' ', (200) x 20), '20 events';
    is_deeply levels(qr/refused to publish/), { error => 1 }, 'one line';
    $nginx->log_like(qr/an event; check that the ACL allows the channels; 0 similar lines skipped/);
};

subtest 'rejected events, by reason' => sub {
    $http->post('/hook', '{"room_name":"r"}'), $http->post('/hook', '[]') for 1 .. 20;
    is_deeply levels(qr/event rejected \(missing_field\)/), { warn => 1, info => 19 }, 'one of one reason';
    is_deeply levels(qr/event rejected \(not_an_object\)/), { warn => 1, info => 19 }, '... and of another one';
};

subtest 'senders that are not known' => sub {
    my $start = now();
    $http->post('/token?t=x', event('call_started')) for 1 .. 200;
    my $seconds = 1 + int(now() - $start);
    my $levels = levels(qr/unauthorized: wrong_token/);
    cmp_ok $levels->{error}, '<=', $seconds, 'one each second';
    is $levels->{error} + $levels->{info}, 200, '... the others at info';
};

# The next segment takes the event, so nothing is wrong.
subtest 'a file that may not grow any more' => sub {
    my ($exit) = run([qw(prlimit --fsize=100000 true)]);
    plan skip_all => 'needs prlimit' if $exit;

    local $ENV{NGINX_WRAPPER} = 'prlimit --fsize=100000 ' . ($ENV{NGINX_WRAPPER} // '');
    my $limited = Vaani::Test::Nginx->start(http => <<"CONF");
        vaani_redis unix:%%DIR%%/none.sock;
        vaani_spool %%DIR%%/spool;
        server {
            listen unix:%%SOCK%%;
            location = /hook   { vaani_webhook; }
            location = /health { vaani_health; }
        }
CONF
    my $client = $limited->http(retry => 0);
    for my $n (1 .. 12) {
        is $client->post('/hook', event('call_started', room => "room-$n", filling => 'x' x 30_000))->body,
            qq({"status":"queued"}\n), "event $n";
        is $client->get('/health')->status, 200, '... health';
    }
    cmp_ok scalar(() = glob $limited->dir . '/spool/*.log'), '>', 3, 'in several segments';
    $limited->log_unlike(qr/\[crit\]/, 'nothing is said to be wrong');
};

done_testing;
