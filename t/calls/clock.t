# A clock that is set back, as by ntpd at the start of a host: nothing stops to
# be counted or logged, and no age is wrong.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use List::Util qw(sum0);
use Vaani::Test::Events;
use Vaani::Test::Wrapper;

use constant BACK => 7200;    # s

plan skip_all => 'a sanitizer is in the way' if !may_preload();

my ($wrapper, $shift) = shifted_clock();
my $redis = Vaani::Test::Redis->start;
my $nginx = do {
    local $ENV{NGINX_WRAPPER} = $wrapper;
    Vaani::Test::Nginx->start(main => 'env CLOCK_SHIFT;', http => <<"CONF");
        vaani_redis @{[ $redis->url ]};
        server {
            listen unix:%%SOCK%%;
            location = /hook   { vaani_webhook; }
            location = /spool  { vaani_webhook; vaani_spool %%DIR%%/spool; }
            location = /status { vaani_status; }
        }
CONF
};
my $http = $nginx->http;

sub status () { return $http->get('/status?format=json')->json }
sub transitions () { return sum0(map { $_->{count} } @{ status()->{transitions} }) }
sub counts ($room, $name) {
    my $before = transitions();
    is $http->post('/hook', event($_, room => $room))->status, 200, "$name: $_" for qw(call_started call_ringing);
    ok wait_for(sub { transitions() == $before + 2 }, 5), '... both are counted' or diag transitions() - $before;
    my ($unknown) = grep { $_->{from} eq 'unknown' } @{ status()->{transitions} };
    return is $unknown, undef, '... from a known status';
}

counts('before', 'before');
is $http->post('/hook', '[]')->status, 422, 'a rejected event';
$redis->client->cmd('REPLICAOF', '127.0.0.1', '1');
is $http->post('/spool', event('call_started', room => 'waits'))->body, qq({"status":"queued"}\n), 'one waits';
my $time = status()->{time};

$shift->(-BACK);
ok wait_for(sub { status()->{time} < $time - (BACK - 60) * 1000 }, 10), 'the clock is set back';

my ($spool) = @{ status()->{spools} };
my $age = (status()->{time} - $spool->{oldest}) / 1000;
ok $age >= 0 && $age < 60, 'the age of what waits' or diag $age;
my ($metric) = $http->get('/status?format=prometheus')->body =~ /^vaani_spool_oldest_age_seconds\S* (\d+)$/m;
ok $metric >= 0 && $metric < 60, '... as a metric' or diag $metric;

$redis->client->cmd('REPLICAOF', 'NO', 'ONE');
ok wait_for(sub { status()->{spools}[0]{records} == 0 }, 10), 'it is delivered';
counts('after', 'after');

# Ten seconds or a minute from now are not two hours.
is $http->post('/hook', event('call_ended', call_duration => '1', room => 'after'))->status, 200, 'something new';
my ($drift) = @{ status()->{drift} };
cmp_ok $drift->{first}, '<', $time - (BACK - 60) * 1000, '... by the clock as it is';

$shift->(0);
ok wait_for(sub { status()->{time} >= $time }, 10), 'the clock is set again';
counts('again', 'again');

ok $nginx->stop, 'stop';
done_testing;
