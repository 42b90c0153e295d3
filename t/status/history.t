# The history of vaani_status: each minute of the last hour, also over a reload, the end
# of a worker and a clock that is set; it costs no graceful exit its time.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use List::Util qw(sum0);
use Vaani::Test::Events;
use Vaani::Test::Wrapper;

use constant RESULTS => qw(ok duplicate queued rejected unauthorized unavailable none);

plan skip_all => 'a sanitizer is in the way' if !may_preload();

my ($wrapper, $shift) = shifted_clock();
my $redis = Vaani::Test::Redis->start;

sub endpoint (%opt) {
    local $ENV{NGINX_WRAPPER} = $wrapper;
    return Vaani::Test::Nginx->start(main => 'env CLOCK_SHIFT;', %opt, http => <<"CONF");
        vaani_redis @{[ $redis->url ]};
        server {
            listen unix:%%SOCK%%;
            location = /hook   { vaani_webhook; }
            location = /token  { vaani_webhook; vaani_token \$arg_token secret; }
            location = /status { vaani_status; }
        }
CONF
}

my ($nginx, $time, $clock);

sub status () { return $nginx->http->get('/status?format=json')->json }
sub history () { return @{ status()->{history} } }

# Sets both clocks forward. A worker looks at them when it is woken, which status() does.
sub forward ($seconds) {
    $time += $seconds;
    $clock += $seconds;
    return $shift->($time, $clock);
}

# The next minute has begun: returns the one that is over.
sub next_minute ($seconds = 60) {
    my $last = (history())[-1]{time};
    forward($seconds);
    my @history;
    ok wait_for(sub { @history = history(); return $history[-1]{seconds} < 30 && $history[-1]{time} > $last }),
        "$seconds s later there is another minute";
    return $history[-2];
}

sub total ($status, $which) {
    return sum0(map { $_->{$which} } @{ $status->{deliveries} });
}

sub start_clean (%opt) {
    ($time, $clock) = (0, 0);
    $shift->(0, 0);
    return $nginx = endpoint(%opt);
}

subtest 'what a minute has' => sub {
    start_clean();
    my $http = $nginx->http;
    my ($now, @others) = history();
    is scalar @others, 0, 'at the start there is the minute under way';
    is_deeply [ @$now{qw(results events reasons)} ], [ {}, {}, {} ], '... with nothing';
    my $status = status();
    ok abs($status->{history}[0]{time} - $status->{time}) < 1000, '... until now';

    my @start = (event('call_started', room => 'one'), event('call_started', room => 'two'));
    is $http->post('/hook', $_)->status, 200, 'an event' for @start, $start[0];
    is $http->post('/hook', '[]')->status, 422, 'no event';
    is $http->post('/token?token=wrong', event('call_started'))->status, 401, 'nobody';

    my %want = (
        results => { ok => 2, duplicate => 1, rejected => 1, unauthorized => 1 },
        events  => { call_started => 3, none => 2 },
        reasons => { not_an_object => 1, wrong_token => 1 },
    );
    my %has = map { $_ => (history())[0]{$_} } keys %want;
    is_deeply \%has, \%want, 'they are in it' or diag explain \%has;

    my $minute = next_minute();
    %has = map { $_ => $minute->{$_} } keys %want;
    is_deeply \%has, \%want, 'they are in the minute that is over' or diag explain \%has;
    ok $minute->{seconds} >= 60 && $minute->{seconds} < 75, '... which has 60 s' or diag $minute->{seconds};
    is_deeply [ map { $_->{results} } (history())[1] ], [ {} ], 'the next one has nothing';

    $status = status();
    my ($round, @more) = @{ $status->{redis}[0]{history} };
    is scalar @more, 0, 'Redis replied in one minute';
    is $round->{replies}, $status->{redis}[0]{replies}, '... so many times';
    is $round->{time}, $minute->{time}, '... in that one';
    is_deeply [ @$round{qw(p50 p90 p99)} ], [ @{ $status->{redis}[0]{round_trip} }{qw(p50 p90 p99)} ], '... it took so long';
};

subtest 'reload, kill, several workers' => sub {
    start_clean(main => 'env CLOCK_SHIFT; worker_processes 3;');
    my $http = $nginx->http;
    is $http->post('/hook', event('call_started', room => new_room()))->status, 200, 'an event';
    is next_minute()->{results}{ok}, 1, '... is in its minute';
    ok $nginx->reload(wait_old => 1), 'reload';
    is_deeply [ map { $_->{results}{ok} // 0 } history() ], [ 1, 0 ], '... keeps it';

    is $http->post('/hook', event('call_started', room => new_room()))->status, 200, 'an event' for 1 .. 2;
    $nginx->allow_log(qr/exited on signal 9/);
    kill KILL => $nginx->worker_pids;
    ok wait_for(sub { eval { (history())[0] } }), 'all workers are killed';
    is next_minute()->{results}{ok}, 2, '... the new ones go on';

    # Each worker has a timer, and one of them takes the sample.
    my $n = history();
    next_minute() for 1 .. 3;
    status() for 1 .. 20;
    is scalar history(), $n + 3, 'a minute is there once';
};

subtest 'an hour' => sub {
    start_clean();
    my $http = $nginx->http;
    for my $minute (1 .. 66) {
        is $http->post('/hook', event('call_started', room => new_room()))->status, 200, "minute $minute: an event" for 1 .. 1 + $minute % 3;
        my $said = next_minute();
        is $said->{results}{ok}, 1 + $minute % 3, '... is in it' if $minute > 62;
    }
    my $status = status();
    my @history = @{ $status->{history} };
    is scalar @history, 61, 'there are 60 minutes, and the one under way';
    is_deeply [ map { $_->{results}{ok} } @history[ 0 .. 59 ] ], [ map { 1 + $_ % 3 } 7 .. 66 ], '... the latest, in their order';
    ok !(grep { $history[$_]{time} <= $history[ $_ - 1 ]{time} } 1 .. $#history), '... each after the other';
    is total($status, 'ok'), sum0(map { 1 + $_ % 3 } 1 .. 66), 'nothing was counted twice';
    is scalar @{ $status->{redis}[0]{history} }, 60, 'Redis has as many';
};

subtest 'clocks' => sub {
    start_clean();
    my $http = $nginx->http;
    is next_minute(600)->{seconds} >= 600, 1, 'no worker for ten minutes: they are one';

    # The time of day is set back by two hours: minutes are as long as before.
    $shift->($time -= 7200, $clock);
    is $http->post('/hook', event('call_started', room => new_room()))->status, 200, 'an event';
    forward(60);
    my @history;
    ok wait_for(sub { (@history = history()) == 3 }), 'a clock that is set back: the next minute comes';
    ok $history[1]{seconds} >= 60 && $history[1]{seconds} < 75, '... after a minute' or diag $history[1]{seconds};
    cmp_ok $history[1]{time}, '<', $history[0]{time}, '... by the clock as it is';
    is $history[1]{results}{ok}, 1, '... with its event';

    # A worker looks at the clock once per event loop: it may be behind the worker that took
    # the latest sample.
    $shift->($time, $clock - 30);
    status() for 1 .. 2;
    my $since = (history())[-1]{seconds};
    ok $since >= 0 && $since < 30, 'a worker behind the latest sample: no time has passed since' or diag $since;

    ok $nginx->stop, 'the timer keeps no worker alive';
};

# Without a master process, the timer outlives the configuration that started it.
subtest 'master_process off, and a reload without endpoints' => sub {
    start_clean(single => 1, allow_log => qr/worker_connections are not enough/);
    is status()->{history}[0]{results}{ok}, undef, 'the history has begun';

    my $mark = $nginx->log_mark;
    spew($nginx->conf_path, slurp($nginx->conf_path) =~ s/vaani_(?:webhook|token|status|redis)[^;]*;//gr);
    $nginx->signal('HUP');
    ok $nginx->wait_log(qr/using the "\w+" event method/, 30, $mark), 'reload';

    # The signal to end wakes the process, and its timers come first.
    forward(60);
    ok $nginx->stop, 'it ends by itself';
};

done_testing;
