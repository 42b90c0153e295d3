# vaani_index: the active calls, and all calls, in two sorted sets
# that always say what the hashes say.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP qw(decode_json);
use Vaani::Test::Endpoint;
use Vaani::Test::Events;
use Vaani::Test::Index qw(index_problems);

my $spool_tool = vaani_spool();
plan skip_all => 'make tool builds it' if !-x $spool_tool;

my $redis = Vaani::Test::Redis->start(
    acl    => [
        @{ +STREAM }, @{ +INDEX }, Vaani::Test::ACL::with_prefix('*'),
        map { s/^~vaani:/~*:/r } grep { /^~/ } @{ +INDEX },
    ],
    config => ['appendonly yes'],
);
my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    vaani_redis @{[ $redis->url ]};
    vaani_index on;

    server {
        listen unix:%%SOCK%%;
        location = /vaani  { vaani_webhook; }
        location = /stream { vaani_webhook; vaani_stream vaani:stream; }
        location = /off    { vaani_webhook; vaani_index off; }
        location = /other  { vaani_webhook; vaani_prefix "\$arg_p"; }
        location = /short  { vaani_webhook; vaani_prefix short; vaani_ttl 200ms; }
        location = /ever   { vaani_webhook; vaani_prefix ever; vaani_ttl off; }
        location = /spool  { vaani_webhook; vaani_spool %%DIR%%/spool; }
        location = /strict { vaani_webhook; vaani_unknown_event reject; }
    }
CONF

my $http = $nginx->http;
my $client = $redis->client;

sub deliver ($body, $uri = '/vaani', $answer = 'ok') {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $response = $http->post($uri, $body);
    my $got = $response->status . ' ' . $response->body;
    return 1 if $got =~ /^200 \{"status":"$answer"(?:,"known":false)?\}\n\z/;
    fail("delivered, answer $answer");
    diag "$body\n$got";
    return 0;
}

sub members ($key) { return join ' ', @{ $client->cmd('ZRANGE', $key, 0, -1) } }

# The sets are what the hashes of these rooms say.
sub index_ok ($name, $prefix, @rooms) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @problems = index_problems($client, map { "$prefix:call:$_" } @rooms);
    return is "@problems", '', $name;
}

sub is_active ($room, $prefix = 'vaani') { return defined $client->cmd('ZSCORE', "$prefix:active", $room) ? 1 : 0 }

# --- what active means

# The event that gives a call its outcome.
my %ENDS = map { ($_ => 1) } qw(call_ended call_failed call_no_answer call_rejected call_postprocessing);

subtest 'a call is active from its first event to its outcome' => sub {
    for my $uri (qw(/vaani /stream)) {
        for my $path (sort keys %CALL_PATHS) {
            my $room = new_room();
            my $wrong = 0;

            for my $body (call_path($path, $room)) {
                deliver($body, $uri);
                my $outcome = $client->cmd('HGET', "vaani:call:$room", 'outcome');
                $wrong++ if is_active($room) != !defined $outcome;
                $wrong++ if index_problems($client, "vaani:call:$room");
            }
            is $wrong, 0, "$uri: $path";
            ok !is_active($room), '... not when it is over';
        }
    }
};

subtest 'the outcome comes first, the beginning later' => sub {
    for my $event (sort keys %ENDS) {
        my $room = new_room();

        deliver(event($event, room => $room));
        my $outcome = $client->cmd('HGET', "vaani:call:$room", 'outcome');
        is is_active($room), defined $outcome ? 0 : 1, "$event: outcome " . ($outcome // 'none');
        deliver(event('call_started', room => $room));
        index_ok('... and after the beginning', 'vaani', $room);
    }
};

subtest 'a call that never ends' => sub {
    my $room = new_room();
    deliver(event($_, room => $room)) for qw(call_started call_ringing user_picked_up_at);
    ok is_active($room), 'is active';
    index_ok('since it began', 'vaani', $room);
};

subtest 'what is of no call changes nothing' => sub {
    my @before = map { members("vaani:$_") } qw(active calls);
    deliver('{"event":"new_one","room_name":"unknown"}');
    deliver('{"event":"new_one"}');
    deliver('{"event":"webhook_test","data":{}}');
    is $http->post('/strict', '{"event":"new_one","room_name":"unknown"}')->status, 422, 'a refused one';
    is_deeply [ map { members("vaani:$_") } qw(active calls) ], \@before, 'the same rooms';
};

subtest 'a delivery that comes twice' => sub {
    my $room = new_room();
    my $body = event('call_ringing', room => $room);
    deliver($body);
    my $score = $client->cmd('ZSCORE', 'vaani:calls', $room);
    deliver($body, '/vaani', 'duplicate');
    is $client->cmd('ZSCORE', 'vaani:calls', $room), $score, 'changes nothing';
};

# --- names

subtest 'the sets of a prefix' => sub {
    my $room = new_room();
    deliver(event('call_started', room => $room), "/other?p=$_") for 'a', 'b:{c}';
    index_ok("prefix $_", $_, $room) for 'a', 'b:{c}';
    is members("$_:calls"), $room, '... that call alone' for 'a', 'b:{c}';
};

subtest 'names of rooms' => sub {
    my @names = ('a:call:b', "\x{e9}", 'x' x 200, 'with blank');
    deliver(event('call_started', room => $_), '/other?p=names') for @names;
    my @known = @{ $client->cmd(qw(ZRANGE names:calls 0 -1)) };
    is scalar(@known), scalar(@names), 'all of them';
    is $client->cmd('EXISTS', "names:call:$_"), 1, 'of the hash ' . length $_ for @known;
};

subtest 'off' => sub {
    my $room = new_room();
    deliver(event('call_started', room => $room), '/off');
    is $client->cmd('ZSCORE', "vaani:$_", $room), undef, "not in $_" for qw(active calls);

    note 'switched on during the call';
    deliver(event('call_ringing', room => $room));
    ok !is_active($room), 'its beginning is not known to active';
    isnt $client->cmd('ZSCORE', 'vaani:calls', $room), undef, 'calls has it from now on';
    deliver(event('call_ended', room => $room));
    index_ok('in the end all is as ever', 'vaani', $room);
};

subtest 'off on another host, or for a while' => sub {
    my $room = new_room();
    deliver(event('call_started', room => $room));
    deliver(event('call_ended', room => $room), '/off');
    ok is_active($room), 'the end is not seen';
    deliver(event('call_postprocessing', room => $room));
    index_ok('the next event with an outcome puts it right', 'vaani', $room);

    # A dead letter is applied with the time of its receipt.
    my $dir = $nginx->dir . '/spool';
    $room = new_room();
    $client->cmd('SET', "vaani:call:$room", 'x');
    $nginx->allow_log(qr/WRONGTYPE/);
    $http->post('/spool', event('call_started', room => $room));
    wait_for(sub { -s "$dir/dead-letters" });
    $client->cmd('DEL', "vaani:call:$room");
    deliver(event('call_ringing', room => $room), '/off');
    my ($exit, undef, $err) = run([ $spool_tool, 'resend', 'unix:' . $redis->socket, "$dir/dead-letters" ]);
    is $exit, 0, 'the beginning comes later' or diag $err;
    index_ok('both sets have the call then, so that it leaves both', 'vaani', $room);
    unlink "$dir/dead-letters";
};

subtest 'two nginx hosts' => sub {
    my $other = Vaani::Test::Nginx->start(http => <<"CONF");
        vaani_redis @{[ $redis->url ]};
        vaani_index on;
        server {
            listen unix:%%SOCK%%;
            location / { vaani_webhook; }
        }
CONF
    my @calls = map { new_room() } 1 .. 6;
    my @http = ($http, $other->http);
    my $post = sub ($n, $event, $room) {
        is $http[ $n % 2 ]->post('/vaani', event($event, room => $room))->status, 200, "$event at host " . $n % 2;
    };
    $post->($_, 'call_started', $calls[$_]) for 0 .. 5;
    $post->($_ + 1, 'call_ended', $calls[$_]) for 0 .. 2;

    index_ok('one index', 'vaani', @calls);
    is join('', map { is_active($_) } @calls), '000111', 'what one host began ends by the other one';
};

# --- what expires leaves

subtest 'calls leave when their hashes expire' => sub {
    my @old = map { "old-$_" } 1 .. 250;
    deliver(event('call_started', room => $_), '/short') for @old;
    # The sets expire with their latest call: others have to begin meanwhile.
    my $count = 0;
    my $going_on = sub { deliver(event('call_started', room => 'new-' . ++$count), '/short') };
    wait_for(sub { $going_on->(); !grep { /^old/ } @{ $client->cmd(qw(ZRANGE short:calls 0 -1)) } });

    unlike members('short:active'), qr/old/, 'active follows calls';

    wait_for(sub { !$client->cmd(qw(EXISTS short:active short:calls)) });
    is $client->cmd(qw(EXISTS short:active short:calls)), 0, 'in the end the sets expire';
};

subtest 'at most a hundred leave at once' => sub {
    my @stale = map { (1000 + $_, "stale-$_") } 1 .. 250;
    $client->cmd('ZADD', "vaani:$_", @stale) for qw(active calls);
    my $left = sub ($set) { return scalar grep { /^stale/ } @{ $client->cmd('ZRANGE', "vaani:$set", 0, -1) } };

    for my $expected (150, 50, 0) {
        deliver(event('call_started', room => new_room()));
        is $left->($_), $expected, "$expected are left in $_" for qw(active calls);
    }
};

subtest 'a week, and never' => sub {
    my $week = 7 * 86_400_000;
    for my $set (qw(vaani:active vaani:calls)) {
        my $ttl = $client->cmd('PTTL', $set);
        ok $ttl > $week && $ttl <= 1.01 * $week, "$set expires as the hashes do" or diag $ttl;
    }

    my $room = new_room();
    $client->cmd('ZADD', "ever:$_", 1000, 'old') for qw(active calls);
    $client->cmd('PEXPIRE', "ever:$_", $week) for qw(active calls);
    deliver(event('call_started', room => $room), '/ever');
    is $client->cmd('PTTL', "ever:$_"), -1, "vaani_ttl off: $_ does not expire" for qw(active calls);
    is members('ever:calls'), "old $room", '... and nothing leaves';
};

# --- when Redis refuses

subtest 'a key of another type' => sub {
    my $room = new_room();
    $client->cmd(qw(SET wrong:active x));
    my $response = $http->post('/other?p=wrong', event('call_started', room => $room));
    is $response->status, 503, 'is refused';
    is $client->cmd('EXISTS', "wrong:call:$room"), 0, '... and nothing has happened';
    $nginx->allow_log(qr/WRONGTYPE/);
};

subtest 'no right to it' => sub {
    $nginx->allow_log(qr/NOPERM/);
    for my $right (qw(zadd zrem zrangebyscore)) {
        my $room = new_room();
        my $event = $right eq 'zrem' ? 'call_ended' : 'call_started';

        $client->cmd(qw(ACL SETUSER default), "-$right");
        is $http->post('/vaani', event($event, room => $room))->status, 503, "without $right";
        is $client->cmd('EXISTS', "vaani:call:$room"), 0, '... nothing has happened';
        $client->cmd(qw(ACL SETUSER default), "+$right");
        deliver(event($event, room => $room));
        index_ok('... and with it all', 'vaani', $room);
    }
};

subtest 'what had to wait' => sub {
    my @waiting = map { new_room() } 1 .. 4;
    deliver(event('call_started', room => $_), '/spool') for @waiting[ 0, 1 ];

    $redis->stop;
    deliver(event('call_ended', room => $waiting[0]), '/spool', 'queued');
    deliver(event($_, room => $waiting[2]), '/spool', 'queued') for qw(call_ended call_started);
    deliver(event('call_started', room => $waiting[3]), '/spool', 'queued');
    $redis->restart;
    $client = wait_for(sub { eval { $redis->client } });    # while it loads, it takes no commands
    wait_for(sub { ($client->try_cmd('DBSIZE'))[0] });

    my @keys = map { "vaani:call:$_" } @waiting;
    wait_for(sub { 4 == $client->cmd(EXISTS => @keys) && $client->cmd('HGET', $keys[0], 'outcome')
        && $client->cmd('HGET', $keys[2], 'seq') == 2 });
    index_ok('is in the index as all else', 'vaani', @waiting);
    is join('', map { is_active($_) } @waiting), '0101', 'those without an outcome are active';
};

done_testing;
