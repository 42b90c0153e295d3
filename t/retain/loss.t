# Data lost by Redis comes back: with "retain", events answered with 200 are in
# Redis whatever Redis loses, once and in the order of receipt.
#
# VAANI_FAULTS=full in the environment repeats them more often.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Endpoint;
use Vaani::Test::Events;
use Vaani::Test::Retain;
use Vaani::Test::Scenario;
use Vaani::Test::Socket qw(pause);
use Vaani::Test::Spool;

# --- Redis forgets

for my $variant (
    [ '' ],
    [ ', sync=always', spool => 'retain=1h sync=always' ],
    [ ', no delivery ids', ids => 0 ],
    [ ', four connections a worker', more => 'vaani_redis_connections 4;' ],
) {
    my ($name, %opt) = @$variant;
    my $ids = delete $opt{ids} // 1;

    scenario "FLUSHALL$name" => sub {
        my $redis = redis();
        my $nginx = nginx($redis, %opt);
        my $load = load($nginx, ids => $ids);

        for (1 .. scaled(1, 3)) {
            arrives($load, ok => 300);
            $redis->client->cmd('FLUSHALL');
        }
        arrives($load, ok => 300);

        account_ok("FLUSHALL$name", $load, $redis, $nginx);
    };
}

scenario 'a restart without data' => sub {
    my $redis = redis();
    my $nginx = nginx($redis);
    my $load = load($nginx);

    for (1 .. scaled(1, 3)) {
        arrives($load, ok => 300);
        $redis->kill;
        arrives($load, queued => 100);
        $redis->restart;
    }
    arrives($load, ok => 300);

    account_ok('Redis kill -9, empty restart, retain', $load, $redis, $nginx);
};

scenario 'a restart with an older snapshot' => sub {
    my $redis = redis(config => ['save ""']);
    my $nginx = nginx($redis);
    my $load = load($nginx);

    arrives($load, ok => 300);
    $redis->client->cmd('SAVE');
    arrives($load, ok => 300);
    $redis->kill;
    arrives($load, queued => 100);
    $redis->restart;
    arrives($load, ok => 300);

    account_ok('Redis kill -9, older snapshot, retain', $load, $redis, $nginx);
};

scenario 'nginx and Redis are killed at once' => sub {
    my $redis = redis();
    my $nginx = nginx($redis, allow_log => qr/exited on signal 9/);
    my $load = load($nginx);

    arrives($load, ok => 300);
    kill 'KILL', $nginx->worker_pids;
    $redis->kill;
    $redis->restart;
    arrives($load, ok => 300);

    # Records that the disk does not take within 100 ms are in Redis only.
    if ($nginx->error_log =~ /the disk of the spool "[^"]*" is too slow/) {
        $load->stop;
        return pass('the disk is too slow here to promise anything');
    }
    account_ok('workers and Redis kill -9 at once, empty restart', $load, $redis, $nginx);
};

scenario 'workers are killed while what was lost is brought back' => sub {
    my $redis = redis();
    my $nginx = nginx($redis, allow_log => qr/exited on signal 9/);
    my $load = load($nginx, rate => 4000);

    arrives($load, ok => 4000);
    $redis->client->cmd('FLUSHALL');

    # Some of it is there again, and not all of it.
    for (1 .. scaled(2)) {
        my $client = $redis->client;
        my $there = $client->cmd('XLEN', 'vaani:stream');
        wait_for(sub { $client->cmd('XLEN', 'vaani:stream') > $there + 200 });
        kill 'KILL', $nginx->worker_pids;
        arrives($load, ok => 100);
    }

    account_ok('FLUSHALL, workers kill -9 while it heals', $load, $redis, $nginx);
};

scenario 'the marks alone are gone' => sub {
    my $redis = redis();
    my $nginx = nginx($redis);
    my $load = load($nginx);
    my $client = $redis->client;

    arrives($load, ok => 300);
    my @marks = @{ $client->cmd('KEYS', 'vaani:mark:*') };
    ok scalar @marks, 'there are marks';
    $client->cmd('DEL', @marks);
    arrives($load, ok => 300);

    account_ok('the marks are evicted', $load, $redis, $nginx);
};

# --- one that is no good holds up nothing

# A segment with an event of a room, closed and marked: [ file, key of its mark ]
sub closed_segment ($nginx, $redis, $room) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my %before = map { $_ => 1 } kept_files($nginx);
    is $nginx->http->post('/hook', event('call_started', room_name => $room))->body, qq({"status":"ok"}\n), $room;
    $nginx->restart;

    my ($file) = grep { !$before{$_} } kept_files($nginx);
    my $key = 'vaani:mark:' . $file =~ s/^.*-|\.kept\z//gr;
    my $client = $redis->client;
    ok wait_for(sub { ($client->cmd('GET', $key) // '') =~ /^(\d+) / && $1 == -s $file }), '... and its mark';

    return [ $file, $key ];
}

scenario 'a mark that is none' => sub {
    my $redis = redis(config => ['save ""']);
    my $nginx = nginx($redis);
    my ($file, $key) = @{ closed_segment($nginx, $redis, 'here') };

    my $client = $redis->client;
    $client->cmd('DEL', $key);
    $client->cmd('LPUSH', $key, 'x');
    $client->cmd('SAVE');
    $redis->kill;
    is $nginx->http->post('/hook', event('call_started', room_name => 'queued'))->body, qq({"status":"queued"}\n),
        'an event waits';
    $redis->restart;

    $client = $redis->client;
    ok wait_for(sub { $client->cmd('EXISTS', 'vaani:call:queued') }), '... and is delivered';
};

scenario 'a segment that is gone' => sub {
    my $redis = redis();
    my $nginx = nginx($redis);
    my @segments = map { closed_segment($nginx, $redis, $_) } qw(gone here);

    unlink $segments[0][0] or die "unlink: $!\n";
    my $client = $redis->client;
    $client->cmd('SET', $_->[1], '1 0123456789abcdef') for @segments;
    $client->cmd('DEL', 'vaani:call:here');
    $client->cmd('CLIENT', 'KILL', 'TYPE', 'normal');

    $client = $redis->client;
    ok wait_for(sub { $client->cmd('EXISTS', 'vaani:call:here') }), 'the next one is healed';
};

# --- between the processes of nginx

scenario 'reloads, and a loss' => sub {
    my $redis = redis();
    my $nginx = nginx($redis);
    my $load = load($nginx);

    for (1 .. scaled(3)) {
        arrives($load, ok => 100);
        $nginx->reload;
    }
    $redis->client->cmd('FLUSHALL');
    arrives($load, ok => 100);
    $nginx->reload;
    arrives($load, ok => 100);

    account_ok('reloads, FLUSHALL, a reload', $load, $redis, $nginx);
};

scenario 'a loss while nginx is away' => sub {
    my $redis = redis();
    my $nginx = nginx($redis);
    my $load = load($nginx);

    arrives($load, ok => 300);
    $load->stop;
    $nginx->stop;
    $redis->client->cmd('FLUSHALL');
    $nginx->restart;

    account_ok('FLUSHALL while nginx is stopped', $load, $redis, $nginx);
};

# --- what is written

scenario 'all is on disk before the answer' => sub {
    my $redis = redis();
    my $nginx = nginx($redis, workers => 1);

    my $http = $nginx->http;
    is $http->post('/hook', event('call_started', room_name => 'here'))->body, qq({"status":"ok"}\n), 'ok';

    my @contents = map { kept_contents($_) } kept_files($nginx);
    is scalar(grep { /"here"/ } @contents), 1, 'the event is in a kept segment';
    is scalar(grep { /^K/ } @contents), scalar(() = kept_files($nginx)), 'each of which says when it began';
};

# Its mark follows: nothing is applied again that Redis has.
scenario 'a segment goes on' => sub {
    my $redis = redis();
    my $nginx = nginx($redis, workers => 1);

    my $http = $nginx->http;
    for (1 .. 20) {
        is $http->post('/hook', event('call_started', room_name => "room$_"))->body, qq({"status":"ok"}\n), 'ok';
        pause(0.05);
    }
    cmp_ok scalar(() = kept_files($nginx)), '<=', 2, 'one, and one before its mark was claimed';
};

scenario 'without retain nothing is kept' => sub {
    my $redis = redis();
    my $nginx = nginx($redis, spool => '');

    is $nginx->http->post('/hook', event('call_started'))->body, qq({"status":"ok"}\n), 'ok';
    is_deeply [ kept_files($nginx) ], [], 'no segment';
    is_deeply $redis->client->cmd('KEYS', 'vaani:mark:*'), [], 'no mark';
};

table_at_end();

done_testing();
