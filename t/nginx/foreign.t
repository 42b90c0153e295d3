# Next to a module with its own hiredis that it does not hide, as nchan: each of the
# two must keep using its own, whichever is loaded first.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use Vaani::Test;
use Vaani::Test::Events;

my $ours = $ENV{VAANI_MODULE} or plan skip_all => 'the module is a part of this nginx';
my $foreign = $ENV{VAANI_FOREIGN} or plan skip_all => 'VAANI_FOREIGN is the module with a hiredis of its own';
my $shared = $ENV{VAANI_SHARED} or plan skip_all => 'VAANI_SHARED is the module with the library hiredis';

my $redis = Vaani::Test::Redis->start;
my $url = $redis->url;
my $endpoint = "vaani_redis $url; server { listen unix:%%SOCK%%; location / { vaani_webhook; } }";

# Options of Vaani::Test::Nginx, to load modules in this order.
sub loads (@modules) { return (module => '', main => join '', map { "load_module $_;\n" } @modules) }

sub takes_an_event ($nginx, $room) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is $nginx->http->post('/', event('call_ringing', room => $room))->{status}, 200, 'an event is taken';
    is $redis->client->cmd('HGET', "vaani:call:$room", 'status'), 'ringing', '... and is in Redis';
    return;
}

my $own = qr/\[notice\] .*foreign: has its own hiredis$/;

for ([ 'the other is first', $foreign, $ours ], [ 'the other is second', $ours, $foreign ]) {
    my ($name, @modules) = @$_;

    subtest $name => sub {
        my $nginx = Vaani::Test::Nginx->start(loads(@modules), log_level => 'notice', http => $endpoint);
        takes_an_event($nginx, $name =~ tr/ /-/r);
        $nginx->log_like($own, 'the other has its own hiredis');
        $nginx->stop;
    };
}

subtest 'the other runs already' => sub {
    my $nginx = Vaani::Test::Nginx->start(loads($foreign), log_level => 'notice',
        http => 'server { listen unix:%%SOCK%%; }');
    my $mark = $nginx->log_mark;
    ok $nginx->reload(loads($ours, $foreign), http => $endpoint), 'a reload';
    takes_an_event($nginx, 'added');
    $nginx->log_like($own, 'the other has its own hiredis', $mark);
    $nginx->stop;
};

# Where hiredis is a shared library only, the one that was loaded first counts.
subtest 'a shared hiredis' => sub {
    my $refusal = qr/\[emerg\] .*vaani: "\Q$foreign\E" has another hiredis; /;

    my ($ok, $said) = Vaani::Test::Nginx->check(loads($shared, $foreign), http => $endpoint);
    ok $ok, 'first is good' or diag $said;

    ($ok, $said) = Vaani::Test::Nginx->check(loads($foreign, $shared), http => $endpoint);
    ok !$ok, 'second is not';
    like $said, $refusal, '... and it says why';

    ($ok, $said) = Vaani::Test::Nginx->check(loads($foreign, $shared), http => '');
    ok $ok, 'without a Redis, it does not matter' or diag $said;

    my $nginx = Vaani::Test::Nginx->start(loads($foreign), allow_log => $refusal,
        http => 'server { listen unix:%%SOCK%%; return 204; }');
    ok !$nginx->reload(loads($shared, $foreign), http => $endpoint), 'a reload is refused';
    $nginx->log_like($refusal, '... for the same reason');
    is $nginx->http->get('/')->{status}, 204, '... and the old workers go on';
    $nginx->stop;
};

done_testing;
