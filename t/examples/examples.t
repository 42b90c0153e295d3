# The examples, as their reader runs them: with the commands of
# examples/README.md, as the users of docs/permissions.md. They follow real calls,
# and miss nothing when connections, Redis or they themselves are killed. And
# the steps of docs/migration.md, with its own code.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Time::HiRes ();
use Cwd qw(abs_path);
use JSON::PP ();
use Vaani::Test::ACL qw(documented index_rights);
use Vaani::Test::Browser;
use Vaani::Test::Events;
use Vaani::Test::Example qw(command node_bin python_bin require_packages);


my $python = python_bin();
my $node = node_bin();
my $json = JSON::PP->new->utf8->canonical;
my $readme = slurp(ROOT . '/examples/README.md');
my $migration = slurp(ROOT . '/docs/migration.md');

binmode $_, ':utf8' for map { Test::More->builder->$_ } qw(output failure_output);

require_packages('redis-py', 'Flask', 'ioredis');

# --- servers

# The data outlive a restart, as do the users.
my $redis = Vaani::Test::Redis->start(
    tcp    => 1,
    acl    => [ '~vaani:stream', '+xadd', '~vaani:mark:*', qw(+get +set +eval), index_rights() ],
    config => [ 'appendonly yes', map { join ' ', 'user', $_, @{ (documented($_))[0] } } qw(app crm) ],
);
my $admin = $redis->client;

sub redis_url ($user) { return "redis://$user:secret\@127.0.0.1:" . $redis->port }

my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    vaani_redis @{[ $redis->url ]};
    vaani_spool %%DIR%%/spool;
    vaani_index on;
    server {
        listen unix:%%SOCK%%;
        client_body_buffer_size 1m;
        location = /hook { vaani_webhook; }
        location = /quiet { vaani_webhook; vaani_channel off; }
        location = /stream { vaani_webhook; vaani_stream vaani:stream maxlen=10000; }
        location = /off { vaani_webhook; vaani_payload off; vaani_stream vaani:stream maxlen=10000; }
        location = /max { vaani_webhook; vaani_payload max=16k; }
    }
CONF
my $http = $nginx->http;

# Each in a millisecond of its own: of two events of one, the module does not
# know which came first.
sub post ($uri, @bodies) {
    for my $body (@bodies) {
        my $response = $http->post($uri, $body);
        die "not accepted: $body: " . $response->body . "\n" if $response->status != 200;
        next_ms();
    }
    return;
}

sub next_ms () {
    my $now = sub { int 1000 * Time::HiRes::time() };
    my $then = $now->();
    1 while $now->() == $then;
    return;
}

# --- programs

sub count ($text, $regex) { return scalar(() = $text =~ /$regex/g) }

# --- the subscribers and the board, at the same calls

my %subscriber = map {
    my ($name, $file) = @$_;
    $name => Vaani::Test::Example->start([ command($file) ], REDIS_URL => redis_url('app'));
} [ python => 'subscribers/python/subscriber.py' ], [ node => 'subscribers/node/subscriber.js' ];

my $port = free_port();
my $server = Vaani::Test::Example->start([ command('call-board/server.js') ], REDIS_URL => redis_url('app'), PORT => $port);
my $browser = Vaani::Test::Browser->start;
my $url = "http://127.0.0.1:$port/";

# A message, as if a script had published it.
sub publish (%message) { return $admin->cmd('PUBLISH', 'vaani:events', $json->encode(\%message)) }

sub each_subscriber ($code) { $code->($_, $subscriber{$_}) for sort keys %subscriber; return }

# The output of a subscriber for a sequence of events.
sub transitions ($from, @events) {
    my %status = (
        call_started => 'dialing', call_ringing => 'ringing', call_ended => 'ended', call_postprocessing => 'ended');
    my $seq = $from;
    return join '', map { ($status{$_} // 'active') . " seq @{[ $seq++ ]}: $_\n" } @events;
}

each_subscriber(sub ($name, $program) {
    $program->says(qr/^following vaani:events$/m, "$name: follows");
});
$server->says(qr/^following/m, 'the board follows');
$server->says(qr/^\Q$url\E$/m, '... and says where it is');

# How the board shows when a call started.
my $started = qr/(?:\d+ \w+ \d+, )?\d\d:\d\d:\d\d (?:now|\d+ \w+ ago)/;

sub text_like ($selector, $regex, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok(wait_for(sub { $browser->text($selector) =~ $regex }, 10), $name) || diag $browser->text($selector);
}

subtest 'the policy of the board' => sub {
    my $client = Vaani::Test::HTTP->new(port => $port);
    for my $path (qw(/ /board.js /board.css)) {
        my $response = $client->get($path);
        is $response->status, 200, $path;
        like $response->header('Content-Security-Policy'), qr/^default-src 'none'; script-src 'self'; style-src 'self'; /, '... policy';
        unlike $response->header('Content-Security-Policy'), qr/unsafe|\*|https?:/, '... nothing else';
        is $response->header('X-Content-Type-Options'), 'nosniff', '... its type is its type';
    }
    is $client->get('/../server.js')->status, 404, 'nothing else is there';
    is $client->post('/', '{}')->status, 405, '... and nothing is taken';

    unlike slurp(ROOT . '/examples/call-board/board.js'), qr/innerHTML|outerHTML|insertAdjacent|document\.write|eval/,
        'text stays text';
};

subtest 'calls' => sub {
    $browser->open($url);
    text_like '#connection', qr/^Connected$/, 'the page is connected';
    text_like '#none', qr/^No calls yet\.$/, '... and empty';

    my @bodies = call_path('outbound-answered/transfer-failed-then-successful', 'one');
    my @names = map { /"event":"(\w+)"/ } @bodies;
    post('/hook', @bodies[ 0, 1 ]);
    text_like '#live', qr/^ringing \+1234567890 outbound one $started$/, 'a call rings';
    is $browser->run('document.title'), '(1) Calls', '... and is counted';
    post('/hook', @bodies[ 2 .. 4 ]);
    text_like '#live', qr/^active \+1234567890 outbound one $started 0:\d\d failed to \+919876543210 \(busy\)$/, 'a transfer fails';
    post('/hook', $bodies[5]);
    text_like '#live', qr/started to \+918888888888; 2 initiated, 0 successful, 1 failed$/, 'another one begins';
    ok wait_for(sub { $browser->text('#live .talked') =~ /^0:0[1-9]$/ }, 5), 'the clock runs';
    post('/hook', @bodies[ 6 .. $#bodies ]);
    text_like '#ended', qr/^completed \+1234567890 outbound one $started 0:43 successful to \+918888888888; 2 initiated, 1 successful, 1 failed$/,
        'the call has ended';
    is $browser->text('#live'), '', '... and is not live any more';

    each_subscriber(sub ($name, $program) {
        $program->says_of('one', transitions(1, @names) . "is over: outbound, completed, 42500 ms, a transcript of 10 words\n",
            "$name: every transition once, in order");
    });

    # A duplicate and an unknown event change nothing, and leave no gap.
    post('/hook', event('call_ringing', room => 'odd'), event('call_ringing', room => 'odd'),
        event('call_put_on_hold', room => 'odd'), event('user_picked_up_at', room => 'odd'));
    post('/hook', event('call_put_on_hold', room => 'none'), event('call_failed', room => 'failed'));
    each_subscriber(sub ($name, $program) {
        $program->says_of('failed', "failed seq 1: call_failed\n", "$name: a failed call");
        is $program->lines('odd'), transitions(1, qw(call_ringing user_picked_up_at)), '... an unknown event';
        is $program->lines('none'), '', '... without a call';
    });
    text_like '#ended', qr/^failed outbound failed $started SIP_404_NOT_FOUND completed /, 'the board has it';
};

subtest 'calls without payloads' => sub {
    my $spy = $redis->client->subscribe('vaani:events');
    for my $case ([ '/off', 'none', 20_000 ], [ '/max', 'short', 20_000 ]) {
        my ($uri, $which, $words) = @$case;
        my $room = "payload-$which";
        my @bodies = call_path('outbound-answered/none', $room);
        pop @bodies;
        post($uri, @bodies, event('call_postprocessing', room => $room, transcript => "\x{928}\x{92e}\x{938}\x{94d}\x{924}\x{947} " x $words));

        my @messages = map { $json->decode($_->{payload}) } $spy->next_messages(5);
        is_deeply [ map { defined $_->{payload} ? 'some' : $_->{payload_bytes} > $words ? 'long' : 'null' } @messages ],
            [ ($uri eq '/off' ? 'null' : 'some') x 4, 'long' ], "$uri: what messages have";
        each_subscriber(sub ($name, $program) {
            $program->says_of($room, transitions(1, map { $_->{event} } @messages)
                . "is over: outbound, completed, 42500 ms, a transcript of $words words\n", "$name: the transcript is read from the hash");
        });
        text_like '#ended', qr/^completed \+1234567890 outbound \Q$room\E $started 0:43/, 'the board has the call';
    }
};

subtest 'the snippets of the README' => sub {
    my $text = slurp(ROOT . '/README.md');
    my $dir = tmpdir() . '/snippets';
    mkdir $dir;
    symlink "$ENV{NODE_PATH}", "$dir/node_modules" or die "symlink: $!\n";

    my ($py) = $text =~ /^```python\n(.*?)^```$/ms;
    my ($js) = $text =~ /^```javascript\n(.*?)^```$/ms;

    my @programs = map {
        my ($program, $file, $code) = @$_;
        Vaani::Test::Example->start([ $program, spew("$dir/$file", $code) ],
            REDIS_URL => redis_url('app'), PYTHONUNBUFFERED => 1);
    } [ $python, 'snippet.py', $py ], [ $node, 'snippet.mjs', $js ];

    my $subscribers = sub { $admin->cmd(qw(PUBSUB NUMSUB vaani:events))->[1] };
    ok wait_for(sub { $subscribers->() == 5 }, 15), 'they subscribe';
    post('/hook', event('call_ringing', room => 'snippet'));
    $_->says(qr/^snippet call_ringing ringing$/m, 'prints the transition') for @programs;
    $_->stop for @programs;
};

subtest 'connections are lost' => sub {
    post('/hook', event('call_started', room => 'gap'), event('call_ringing', room => 'last'));
    each_subscriber(sub ($name, $program) {
        $program->says_of('last', transitions(1, 'call_ringing'), "$name: before");
    });

    # It cannot return before the events are sent.
    $admin->cmd('ACL', 'SETUSER', 'app', 'off');
    cmp_ok $admin->cmd(qw(CLIENT KILL USER app)), '>=', 5, 'their connections are killed';
    text_like '#connection', qr/^Redis is unreachable/, 'the page says so';
    post('/hook', event('call_ringing', room => 'gap'), event('user_picked_up_at', room => 'gap'),
        event('call_ended', room => 'last'), event('call_started', room => 'new'));
    $admin->cmd('ACL', 'SETUSER', 'app', 'on');

    each_subscriber(sub ($name, $program) {
        $program->says_of('gap', transitions(1, 'call_started') . "active seq 3: user_picked_up_at, read again\n",
            "$name: reads the calls that it knows");
        $program->says_of('last', transitions(1, 'call_ringing') . "ended seq 2: call_ended, read again\n",
            '... and that a call has ended, which leaves no gap');
        $program->says_of('new', "dialing seq 1: call_started, read again\n", '... and a call that has begun, from the index');
        is count($program->out, qr/^following/m), 2, '... connected again once';
    });
    text_like '#connection', qr/^Connected$/, 'the page is live again';
    text_like '#live', qr/active \+1234567890 outbound gap/, '... and right';

    # A gap.
    post('/quiet', event('call_ringing', room => 'new'));
    for (
        [ event('user_picked_up_at', room => 'new'), "active seq 3: user_picked_up_at, read again\n" ],
        [ event('human_transfer_initiated', room => 'new'), "active seq 4: human_transfer_initiated\n" ],
    ) {
        my ($body, $line) = @$_;
        state $lines = "dialing seq 1: call_started, read again\n";
        $lines .= $line;
        post('/hook', $body);
        each_subscriber(sub ($name, $program) {
            $program->says_of('new', $lines, "$name: " . ($line =~ /again/ ? 'sees the gap' : 'and none after it'));
        });
    }
};

subtest 'Redis restarts' => sub {
    $redis->stop;
    text_like '#connection', qr/^Redis is unreachable/, 'the page says so';
    post('/hook', event('human_transfer_initiated', room => 'gap'));    # waits on disk
    $redis->restart;
    $admin = $redis->client;

    each_subscriber(sub ($name, $program) {
        $program->says(qr/^gap active seq 4: human_transfer_initiated(?:, read again)?$/m, "$name: what waited");
    });
    text_like '#connection', qr/^Connected$/, 'the page is live again';
    text_like '#live', qr/gap $started 0:\d\d started to \+919876543210/, '... and shows it';

    # It has lost all: the call begins again.
    $admin->cmd('FLUSHALL');
    post('/hook', event('call_ringing', room => 'gap'), event('user_picked_up_at', room => 'gap'));
    each_subscriber(sub ($name, $program) {
        $program->says(qr/^gap active seq 2: user_picked_up_at(?:, read again)?$/m, "$name: a call that begins again");
    });
};

# Messages as today's deliveries lead to them, given to Redis by hand: the hash
# has what is known, the payload has it wherever Vaani put it.
subtest 'what Vaani sends today' => sub {
    $browser->open($url);
    for my $direction (qw(inbound outbound webrtc)) {
        my $room = "$direction-1791000000-abc";
        my $key = "vaani:call:$room";
        my $shown = $direction eq 'webrtc' ? 'web' : $direction;
        my $number = $direction eq 'webrtc' ? 'web-user' : '+15550100';
        my @hash = (
            room_name => $room, direction => $shown, status => 'active', last_event => 'user_picked_up_at', seq => 1,
            phone_number => $number, created_at => 1791000000000, updated_at => 1791000000000,
            'at:user_picked_up_at' => 1791000000000,
        );
        my %message = (id => $room, room_name => $room, key => $key, status => 'active', late => JSON::PP::false, received_at => 1791000000000);

        $admin->cmd('HSET', $key, @hash);
        publish(%message, seq => 1, event => 'user_picked_up_at', payload => undef, payload_bytes => 65536);
        text_like '#live', qr/active \Q$number\E $shown \Q$room\E/, "$room: on the board";

        # Nothing but its own times says how long it was, and dispositions may have anything.
        $admin->cmd('HSET', $key, status => 'ended', outcome => 'completed', last_event => 'call_postprocessing', seq => 2,
            picked_up_at => 1791000000000, call_ended_at => 1791000107420, postprocessed => 1,
            dispositions => '{"tag":"Name Collected","none":null,"list":[1]}');
        publish(%message, seq => 2, event => 'call_postprocessing', status => 'ended',
            payload => { event => 'call_postprocessing', call_id => $room, data => { summary => undef, call_duration => 107.42 } });
        text_like '#ended', qr/^completed \Q$number\E $shown \Q$room\E $started 1:47 Name Collected/, '... and how it ended';
        each_subscriber(sub ($name, $program) {
            $program->says_of($room, "active seq 1: user_picked_up_at\nended seq 2: call_postprocessing\n"
                . qq(is over: $shown, completed, {"tag":"Name Collected","none":null,"list":[1]}\n), "$name: from the hash");
        });
    }
    $admin->cmd('HSET', 'vaani:call:inbound-odd', room_name => 'inbound-odd', status => 'ended', dispositions => $_, seq => 1)
        for '"text"', 'null', '{"cut';
    publish(id => 'odd', room_name => 'inbound-odd', key => 'vaani:call:inbound-odd', status => 'ended', seq => 1, event => 'call_ended');
    text_like '#ended', qr/^ended inbound-odd completed/, 'dispositions that are none';

    # After Redis has lost its latest data, a number comes again.
    my %message = (room_name => 'again', key => 'vaani:call:again', received_at => 1);
    $admin->cmd(qw(HSET vaani:call:again room_name again status ringing last_event call_ringing seq 1));
    publish(%message, id => 1, seq => 1, event => 'call_ringing', status => 'ringing');
    $admin->cmd(qw(HSET vaani:call:again status active last_event user_picked_up_at));
    publish(%message, id => 2, seq => 1, event => 'user_picked_up_at', status => 'active');
    each_subscriber(sub ($name, $program) {
        $program->says_of('again', "ringing seq 1: call_ringing\nactive seq 1: user_picked_up_at, read again\n", "$name: a seq comes again");
    });
};

subtest 'messages of others' => sub {
    my %following = map { $_ => count($subscriber{$_}->out, qr/^following/m) } keys %subscriber;
    $admin->cmd(qw(SET vaani:call:text text));
    my @messages = (
        'no JSON', '', '{}', 'null', '[1]', '"text"', '17', "\xff\xfe", "{\"key\":\"vaani:call:\xff\",\"seq\":9,\"event\":\"x\"}",
        '{"key":5,"event":"x","seq":1}', '{"key":"other:call:x","event":"x","seq":9}', '{"key":"vaani:call:text","event":"x","seq":9}',
        '{"key":"vaani:call:x","event":["x"],"seq":"one"}', '{"key":"vaani:call:x","event":"x","seq":1}',
        # An event without a call: a test of the dashboard, a campaign.
        '{"id":"a","event":"webhook_test","known":false,"received_at":1,"payload":{"event":"webhook_test"}}',
        '{"id":"b","seq":null,"event":"campaign.done","known":false,"room_name":null,"status":null,"key":null,"payload":{}}',
    );
    for my $message (@messages) {
        state $n = 0;
        my $room = 'after-' . ++$n;
        is $admin->cmd('PUBLISH', 'vaani:events', $message), 3, 'heard by all: ' . ($message =~ s/[^ -~]/?/gr);
        post('/hook', event('call_ringing', room => $room));
        each_subscriber(sub ($name, $program) {
            $program->says_of($room, transitions(1, 'call_ringing'), "... $name goes on");
        });
        text_like '#live', qr/^ringing outbound $room/, '... and so does the board';
    }
    each_subscriber(sub ($name, $program) {
        is count($program->out, qr/^following/m), $following{$name}, "$name: over the same connection";
    });
};

subtest 'refused to subscribe' => sub {
    my ($rights) = documented('app');
    post('/hook', event('call_ringing', room => 'deaf'));
    each_subscriber(sub ($name, $program) { $program->says_of('deaf', transitions(1, 'call_ringing'), "$name: before") });

    # Redis disconnects a client whose user loses the right to its
    # subscription.
    my %errors = map { $_ => count($subscriber{$_}->err, qr/NOPERM|permission/) } keys %subscriber;
    $admin->cmd('ACL', 'SETUSER', 'app', 'resetchannels');
    each_subscriber(sub ($name, $program) {
        ok wait_for(sub { count($program->err, qr/NOPERM|permission/) >= $errors{$name} + 2 }, 15), "$name: tries again and again"
            or diag $program->err;
    });
    text_like '#connection', qr/^Redis is unreachable/, 'the page says so';
    post('/hook', event('user_picked_up_at', room => 'deaf'));

    $admin->cmd('ACL', 'SETUSER', 'app', @$rights);
    each_subscriber(sub ($name, $program) {
        $program->says_of('deaf', transitions(1, 'call_ringing') . "active seq 2: user_picked_up_at, read again\n", "$name: hears again");
    });
    text_like '#connection', qr/^Connected$/, 'the page is live again';
    post('/hook', event('call_ended', room => 'deaf'));
    each_subscriber(sub ($name, $program) { $program->says(qr/^deaf ended seq 3: call_ended$/m, "$name: messages, too") });
};

# The programs at a Redis of their own.
sub start_all ($server, %opt) {
    my $address = 'redis://app:secret@127.0.0.1:' . $server->port;
    return map {
        my ($name, $file) = @$_;
        $name => Vaani::Test::Example->start([ command($file) ], REDIS_URL => $address, PORT => $opt{port} // free_port(), LOOK => $opt{look} // 0.2);
    } [ python => 'subscribers/python/subscriber.py' ], [ node => 'subscribers/node/subscriber.js' ], [ board => 'call-board/server.js' ];
}

sub own_redis ($user, @acl) {
    return Vaani::Test::Redis->start(tcp => 1, acl => \@acl,
        config => [ 'slowlog-log-slower-than 0', 'slowlog-max-len 1000', join ' ', 'user app', @$user ]);
}

subtest 'the index' => sub {
    my $own = own_redis((documented('app'))[0]);
    my $owner = $own->client;

    # More than a page at the same time, and what a page must not end with.
    my @rooms = map { "r$_" } 1 .. 1300;
    my $add = sub ($room, $active, %hash) {
        $owner->cmd(HSET => "vaani:call:$room", room_name => $room, seq => 2, last_event => 'x', status => 'active', updated_at => 5, %hash) if %hash;
        $owner->cmd(ZADD => 'vaani:active', $active, $room) if $active;
        $owner->cmd(ZADD => 'vaani:calls', $hash{updated_at} // 5, $room);
    };
    $add->($rooms[$_], $_ < 100 ? 1790000000000 + $_ : $_ < 1250 ? 1790000000100 : 1790000000101 + $_, direction => 'outbound') for 0 .. $#rooms;
    $add->('no-hash', 1790000000050);
    $add->('of-none', 1790000000051, seq => 1);
    $owner->cmd(qw(HDEL vaani:call:of-none seq));
    $owner->cmd(qw(ZADD vaani:active 1790000000052 text));
    $owner->cmd(qw(SET vaani:call:text text));
    $owner->cmd(ZADD => 'vaani:active', 1790000000053, "\xff\xfe");
    $add->('stale', 1790000000054, status => 'ended');
    $add->("ended-$_", 0, status => 'ended', outcome => 'completed', updated_at => 100 + $_) for 1 .. 30;

    my $at = free_port();
    my %program = start_all($own, port => $at);
    for my $name (qw(python node)) {
        my $program = $program{$name};
        $program->says(qr/^r1300 /m, "$name: has read the index");
        is_deeply [ sort map { /^(\S+) / ? $1 : () } grep { !/^following/ } split /\n/, $program->out ], [ sort @rooms ], '... each call once';
        is $program->lines('r1'), "active seq 2: x, read again\n", '... from its hash';
        like $program->err, qr/WRONGTYPE/, '... what is no call is told';
        unlike $program->err, qr/no index|Traceback|^\s+at /m, '... and nothing else';
    }

    $browser->open("http://127.0.0.1:$at/");
    text_like '#matches', qr/^the latest 100 of 1300 live calls are shown$/, 'the board has the calls';
    text_like '#ended', qr/^completed ended-30 completed ended-29 .* completed ended-1 ended stale$/, '... and those that ended';

    # Calls that the index gets later without a message, and calls that leave.
    $add->('later', 1790000009999, direction => 'web');
    $owner->cmd(qw(HSET vaani:call:r7 status ended seq 3 last_event call_ended));
    $owner->cmd(qw(ZREM vaani:active r7));
    $owner->cmd(qw(DEL vaani:call:r8));
    for my $name (qw(python node)) {
        $program{$name}->says_of('later', "active seq 2: x, read again\n", "$name: the next look finds a call");
        $program{$name}->says_of('r7', "active seq 2: x, read again\nended seq 3: call_ended, read again\n", '... and one that has ended');
    }
    $_->stop for values %program;
    $own->stop;
};

subtest 'which calls are active' => sub {
    my $own = own_redis((documented('app'))[0], index_rights());
    my $front = Vaani::Test::Nginx->start(http => "vaani_redis @{[ $own->url ]}; vaani_index on;
        server { listen unix:%%SOCK%%; location / { vaani_webhook; } }");
    my $to = $front->http;
    my $deliver = sub (@events) {
        for (@events) {
            my $response = $to->post('/', event($_->[0], room => $_->[1]));
            die $response->body if $response->status != 200;
            next_ms();
        }
    };

    $deliver->(
        [ call_started => 'dials' ], [ call_started => 'rings' ], [ call_ringing => 'rings' ],
        [ call_started => 'talks' ], [ user_picked_up_at => 'talks' ], [ human_transfer_initiated => 'talks' ],
        [ call_started => 'rejects' ], [ call_rejected => 'rejects' ], [ call_no_answer => 'no-answer' ],
        [ call_failed => 'fails' ], [ call_ended => 'ends' ], [ call_postprocessing => 'processed' ],
        [ call_postprocessing => 'late' ], [ call_started => 'late' ], [ call_ended => 'turned' ], [ call_ringing => 'turned' ],
    );
    is_deeply [ sort @{ $own->client->cmd(qw(ZRANGE vaani:active 0 -1)) } ], [qw(dials rings talks)], 'the index';

    $own->client->cmd(qw(SLOWLOG RESET));
    my %program = start_all($own, look => 3600);
    for my $name (qw(python node)) {
        my $program = $program{$name};
        $program->says(qr/^talks /m, "$name: begins with it");
        is_deeply [ sort grep { !/^following/ } split /\n/, $program->out ], [
            'dials dialing seq 1: call_started, read again', 'rings ringing seq 2: call_ringing, read again',
            'talks active seq 3: human_transfer_initiated, read again',
        ], '... and with no other call';
    }

    # Those who subscribe first miss nothing.
    my ($subscribed, $read, $early) = (0, 0, 0);
    my @log = map { lc join ' ', @{ $_->[3] }[ 0, 1 ] } reverse @{ $own->client->cmd(qw(SLOWLOG GET 10000)) };
    for my $command (grep { /^(?:subscribe|zrange) vaani:(?:events|active)$/ } @log) {
        $command =~ /^subscribe/ ? $subscribed++ : $read++;
        $early++ if $read > $subscribed;
    }
    cmp_ok $read, '>=', 2, 'they read the index';
    is $early, 0, '... after they have subscribed';

    $deliver->([ call_no_answer => 'rings' ], [ call_rejected => 'dials' ], [ call_ended => 'talks' ]);
    is_deeply $own->client->cmd(qw(ZRANGE vaani:active 0 -1)), [], 'each leaves with its outcome';
    for my $name (qw(python node)) {
        $program{$name}->says(qr/^$_$/m, "$name: $_")
            for 'rings no_answer seq 3: call_no_answer', 'dials rejected seq 2: call_rejected', 'talks ended seq 4: call_ended';
        is $program{$name}->err, '', '... without complaints';
    }
    is $program{board}->err, '', 'nor has the board any';
    $_->stop for values %program;
};

subtest 'without an index' => sub {
    my ($app) = documented('app');
    for my $case (
        [ 'none', qr/^no index \(vaani:calls is empty\): calls appear .* "vaani_index on;"$/, $app ],
        [ 'not allowed', qr/^no index \(.*permission.*\): calls appear .* "vaani_index on;"$/, [ grep { $_ ne '+zrange' } @$app ] ],
    ) {
        my ($which, $regex, $user) = @$case;
        my $own = own_redis($user);
        my $front = Vaani::Test::Nginx->start(http => "vaani_redis @{[ $own->url ]};
            server { listen unix:%%SOCK%%; location / { vaani_webhook; } }");
        my $to = $front->http;
        $to->post('/', event('call_started', room => 'before'));

        my %program = start_all($own);
        $program{$_}->says(qr/^following/m, "$which, $_: follows") for sort keys %program;
        $to->post('/', event('call_started', room => 'first'));
        $to->post('/', event('call_ringing', room => 'before'));
        for my $name (qw(python node)) {
            $program{$name}->says_of('first', "dialing seq 1: call_started\n", "$name: hears of a call");
            $program{$name}->says_of('before', "ringing seq 2: call_ringing, read again\n", '... and of one that had begun');
        }
        my $looks = sub () { $own->client->cmd(qw(INFO commandstats)) =~ /^cmdstat_hmget:calls=(\d+)/m ? $1 : 0 };
        my $before = $looks->();
        ok wait_for(sub { $looks->() > $before + 20 }), '... looks go on';
        for my $name (sort keys %program) {
            my $err = $program{$name}->err;
            is scalar(grep { /$regex/ } split /\n/, $err), 1, "$name: says once that there is no index" or diag $err;
            is scalar(split /\n/, $err), 1, '... and nothing else' or diag $err;
        }
        $_->stop for values %program;
    }
};

# Looks at the connection are not gathered while there is none.
subtest 'a long outage' => sub {
    my $own = Vaani::Test::Redis->start(tcp => 1, config => [ 'appendonly yes', join ' ', 'user app', @{ (documented('app'))[0] } ]);
    my $owner = $own->client;
    my %calls = map { ("call-$_" => "vaani:call:call-$_") } 1 .. 20;
    my $called = sub ($command) {
        my ($n) = $owner->cmd(qw(INFO commandstats)) =~ /^cmdstat_\Q$command\E:calls=(\d+)/m;
        return $n // 0;
    };

    my %program = map {
        my ($name, $file) = @$_;
        $name => Vaani::Test::Example->start([ command($file) ], REDIS_URL => 'redis://app:secret@127.0.0.1:' . $own->port, LOOK => 0.1);
    } [ python => 'subscribers/python/subscriber.py' ], [ node => 'subscribers/node/subscriber.js' ];

    for my $name (sort keys %program) {
        my $program = $program{$name};
        $program->says(qr/^following/m, "$name: follows");
        for my $room (sort keys %calls) {
            $owner->cmd('HSET', $calls{$room}, room_name => $room, status => 'active', seq => 1, last_event => 'call_ringing');
            $owner->cmd('PUBLISH', 'vaani:events', $json->encode({ id => $room, room_name => $room, key => $calls{$room},
                status => 'active', seq => 1, event => 'call_ringing', received_at => 1 }));
        }
        $program->says(qr/^call-20 active/m, '... and has calls');

        $own->stop;
        my $until = Time::HiRes::time() + 3;    # of which no event tells: 30 looks
        ok wait_for(sub { Time::HiRes::time() > $until }), '... for three seconds there is no Redis';
        $own->restart;
        $owner = $own->client;
        ok wait_for(sub { $called->('hmget') >= 20 }, 15), '... the calls are read again';
        cmp_ok $called->('ping'), '<=', 12, '... and not once for each look' or diag $called->('hmget');
        $program->stop;
    }
    $own->stop;
};

subtest 'the page' => sub {
    my $name = '<img src=x onerror=alert(1)><script>alert(2)</script>';
    post('/hook', event('call_started', room => $name), call_path('inbound/none', "r$_")) for 1 .. 25;

    $browser->open($url, scheme => 'dark', width => 360, height => 740);
    text_like '#live', qr/\Q$name\E/, 'a name is text';
    text_like '#ended', qr/^completed r25 $started 0:43 completed r24 .* completed r1 $started 0:43 /, 'those that ended, the latest first';
    ok $browser->run('document.documentElement.scrollWidth <= innerWidth'), 'fits a phone';

    my $ground = 'getComputedStyle(document.body).backgroundColor';
    my $dark = $browser->run($ground);
    is_deeply [ $browser->problems ], [], 'no errors, nothing that the policy forbids';
    $browser->open($url, scheme => 'light');
    text_like '#connection', qr/^Connected$/, 'in light';
    isnt $browser->run($ground), $dark, '... it looks otherwise';

};

subtest 'the board behind nginx' => sub {
    my ($location) = $readme =~ /^<!-- nginx: server -->\n```nginx\n(location \/calls\/ .*?)^```$/ms;
    $location =~ s/^ *auth_basic.*\n//mg;
    $location =~ s/127\.0\.0\.1:8090/127.0.0.1:$port/ or die 'no proxy_pass';
    my $front = Vaani::Test::Nginx->start(http => <<"CONF");
    log_format status '\$request_uri \$status';
    access_log %%DIR%%/board.log status;
    server { listen 127.0.0.1:%%PORT%%; $location }
CONF
    my $log = sub { my $path = $front->dir . '/board.log'; -e $path ? slurp($path) : '' };

    $browser->open('http://127.0.0.1:' . $front->port . '/calls/');
    text_like '#connection', qr/^Connected$/, 'is live';
    is $server->stop, 15, 'its server ends';
    ok wait_for(sub { $log->() =~ m{^/calls/events 502$}m }, 15), 'nginx answers for it';
    text_like '#connection', qr/^The server does not respond/, '... which the page says';

    $server = Vaani::Test::Example->start([ command('call-board/server.js') ], REDIS_URL => redis_url('app'), PORT => $port);
    text_like '#connection', qr/^Connected$/, 'it comes back by itself';
    post('/hook', event('call_ringing', room => 'behind'));
    text_like '#live', qr/^ringing outbound behind/, '... with calls';

    is $server->stop, 15, 'its server ends';
    text_like '#connection', qr/^The server does not respond/, '... which it says';
    is_deeply [ grep { !/Failed to load resource|ERR_|502/ } $browser->problems ], [], 'no other errors';
    $browser->stop;
};

subtest 'the subscribers end' => sub {
    is $subscriber{python}->stop('INT'), 0, 'Ctrl-C ends the subscriber in Python' or diag $subscriber{python}->err;
    ok defined $subscriber{node}->stop, '... that in JavaScript ends';
    unlike $subscriber{python}->err, qr/Traceback/, 'no traceback';
    unlike $subscriber{node}->err, qr/^\s+at /m, 'no stack';
};

# --- the consumer group

my $database = tmpdir() . '/calls.sqlite3';

# The rows of a query.
sub query ($sql, $file = $database) {
    my ($exit, $out, $error) = run([ $python, '-c', <<'PY', $file, $sql ]);
import json, sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
print(json.dumps(db.execute(sys.argv[2]).fetchall()))
PY
    die $error if $exit;
    return $json->decode($out);
}

# No other process can write while it runs.
sub lock_database () {
    my $locker = Vaani::Test::Example->start([ $python, '-c', <<'PY', $database ]);
import signal, sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
signal.pause()
PY
    wait_for(sub { $locker->out eq "locked\n" }) or die $locker->err;
    return $locker;
}

sub command_of ($name) {
    my @command = command('subscribers/stream/consumer.py');
    $command[-1] = $name;
    return @command;
}

sub consumer ($name, $claim = 60) {
    return Vaani::Test::Example->start([ command_of($name) ], REDIS_URL => redis_url('crm'), DATABASE => $database, CLAIM => $claim);
}

# A message as the module adds it to the stream: of a call, with what belongs to
# that, if there is a "room". Without an id, if that is undef.
sub add_message (%message) {
    state $n = 0;
    if (defined(my $room = delete $message{room})) {
        %message = (room_name => $room, key => "vaani:call:$room", status => 'active', late => JSON::PP::false, seq => 1,
            received_at => 1790000000000, %message);
    }
    %message = (id => 'delivery-' . ++$n, payload => {}, %message);
    delete $message{id} if !defined $message{id};
    return $admin->cmd('XADD', 'vaani:stream', '*', message => $json->encode(\%message));
}

sub pending () { return $admin->cmd(qw(XPENDING vaani:stream crm))->[0] // 0 }

# All messages of the stream are in the database, each once, and none is
# pending.
sub all_recorded ($name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @messages = map { $json->decode($_->[1][1]) } @{ $admin->cmd(qw(XRANGE vaani:stream - +)) };
    my @want = sort map { "$_->{key} $_->{seq} $_->{event}" } grep { $_->{room_name} ne 'poison' } @messages;
    my @got;

    my $done = wait_for(sub {
        return 0 if pending();
        my ($group) = map { +{ @$_ } } @{ $admin->cmd(qw(XINFO GROUPS vaani:stream)) };
        return 0 if $group->{'last-delivered-id'} ne $admin->cmd(qw(XREVRANGE vaani:stream + - COUNT 1))->[0][0];
        @got = sort map { "$_->[0] $_->[1] $_->[2]" } @{ query('SELECT key, seq, event FROM transitions') };
        return @got >= @want;
    }, 15);
    ok $done, "$name: nothing is pending";
    is_deeply \@got, \@want, '... and all ' . @want . ' messages are recorded, each once';
    return;
}

my $rooms = 0;
sub play (@paths) {
    post('/stream', call_path($_, 'stream-' . ++$rooms)) for @paths;
    return;
}

$admin->cmd('FLUSHALL');
play('outbound-answered/transfer-successful');    # before there is a group

subtest 'a consumer' => sub {
    my $consumer = consumer('worker-1');
    $consumer->says(qr/^ready$/m, 'is ready');
    play('rejected/none', 'inbound/transfer-failed');
    all_recorded('a consumer');
    $consumer->stop;

    play('no-answer/none');
    $consumer = consumer('worker-1');
    all_recorded('what came while it was away');
    is $consumer->stop('INT'), 0, 'Ctrl-C';
    is $consumer->err, '', 'it had nothing to complain about';
};

subtest 'killed in the middle of its work' => sub {
    my $consumer = consumer('worker-1');
    $consumer->says(qr/^ready$/m, 'is ready');
    my $locker = lock_database();
    play('outbound-answered/none');
    ok wait_for(\&pending), 'it works';
    $consumer->kill;
    $locker->kill;
    cmp_ok pending(), '>', 0, 'it was killed before the end';
    $consumer = consumer('worker-1');
    all_recorded('started again');
    $consumer->stop;
};

subtest 'killed after its work, before it could acknowledge' => sub {
    my $consumer = consumer('worker-1');
    $consumer->says(qr/^ready$/m, 'is ready');
    my $locker = lock_database();
    my $before = query('SELECT count(*) FROM transitions')->[0][0];
    post('/stream', event('call_started', room => 'acknowledged'));
    ok wait_for(\&pending), 'it works';

    # From here on Redis answers no command that writes.
    $admin->cmd(qw(CLIENT PAUSE 60000 WRITE));
    $locker->kill;
    ok wait_for(sub { query('SELECT count(*) FROM transitions')->[0][0] > $before }), 'the work is done';
    $consumer->kill;
    ok wait_for(sub { $admin->cmd(qw(CLIENT LIST)) !~ /user=crm/ }), 'it is gone';
    $admin->cmd(qw(CLIENT UNPAUSE));
    is pending(), 1, 'Redis knows nothing of it';
    $consumer = consumer('worker-1');
    all_recorded('started again');
    is query("SELECT count(*) FROM transitions WHERE room_name = 'acknowledged'")->[0][0], 1, 'recorded once';
    $consumer->stop;
};

subtest 'killed at any time' => sub {
    for my $round (1 .. 4) {
        my $consumer = consumer('worker-1');
        $consumer->says(qr/^ready$/m, "round $round: ready") if $round == 1;
        my $before = query('SELECT count(*) FROM transitions')->[0][0];
        play(('outbound-answered/transfer-failed-then-successful') x 3);
        wait_for(sub { query('SELECT count(*) FROM transitions')->[0][0] > $before }, 10);
        $consumer->kill;
    }
    my $consumer = consumer('worker-1');
    all_recorded('at last');
    $consumer->stop;
};

subtest 'one dies, another takes over' => sub {
    my $dead = consumer('worker-1');
    $dead->says(qr/^ready$/m, 'is ready');
    my $locker = lock_database();
    play('failed/none');
    ok wait_for(\&pending), 'it works';
    $dead->kill;
    $locker->kill;
    my $other = consumer('worker-2', 0.2);
    all_recorded('the other one');
    $other->stop;
};

subtest 'a message that cannot be worked on' => sub {
    query("CREATE TRIGGER poison BEFORE INSERT ON transitions WHEN NEW.room_name = 'poison'"
        . " BEGIN SELECT RAISE(ABORT, 'no such customer'); END");
    my $consumer = consumer('worker-1', 0.2);
    post('/stream', event('call_started', room => 'poison'));
    play('inbound/none');
    all_recorded('the others');

    my $dead = query('SELECT message, tries, error FROM dead_letters');
    is scalar @$dead, 1, 'it is a dead letter';
    is $json->decode($dead->[0][0])->{room_name}, 'poison', '... with its message';
    is $dead->[0][1], 5, '... after 5 tries';
    like $dead->[0][2], qr/no such customer/, '... and the error';
    is count($consumer->err, qr/ failed, try [1-5] of 5: /), 5, 'each is told';
    $consumer->stop;
};

subtest 'Redis is restarted, and emptied' => sub {
    my $consumer = consumer('worker-1');
    $consumer->says(qr/^ready$/m, 'is ready');
    $redis->stop;
    post('/stream', event('call_started', room => 'queued'));
    $redis->restart;
    $admin = $redis->client;
    my $queued = sub { query("SELECT count(*) FROM transitions WHERE room_name = 'queued' AND seq = 1")->[0][0] };
    ok wait_for(sub { $queued->() == 1 }, 15), 'what waited' or diag $consumer->err;
    all_recorded('restarted');

    # The same call again, from seq 1.
    $admin->cmd('FLUSHALL');
    post('/stream', event('call_started', room => 'queued'));
    ok wait_for(sub { $queued->() == 2 }, 10), 'emptied: goes on with a new group' or diag $consumer->err;
    ok wait_for(sub { !pending() }), '... and acknowledges';
    unlike $consumer->err, qr/Traceback/, 'no traceback';
    $consumer->stop;
};

# --- what is the message's fault, and what is not

# A stream, a group and a database of its own.
sub anew ($name) {
    $admin->cmd('FLUSHALL');
    $database = tmpdir() . "/$name.sqlite3";
    return;
}

sub recorded ($room) { return query("SELECT count(*) FROM transitions WHERE room_name = '$room'")->[0][0] }
sub dead_letters ()  { return query('SELECT count(*) FROM dead_letters')->[0][0] }

# The names of the group's consumers.
sub names () {
    return sort map { my %one = @$_; $one{name} } @{ $admin->cmd(qw(XINFO CONSUMERS vaani:stream crm)) };
}

# A consumer that dies of a message of the room "killer" as by a crash.
sub mortal ($name) {
    my @command = command('subscribers/stream/consumer.py');
    return Vaani::Test::Example->start([ $python, '-c', <<'PY', $command[1], $name ], REDIS_URL => redis_url('crm'), DATABASE => $database, CLAIM => 60);
import json, os, runpy, sys
loads = json.loads
def mortal(text, *arguments, **options):
    if "killer" in str(text):
        os._exit(9)
    return loads(text, *arguments, **options)
json.loads = mortal
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
PY
}

subtest 'a message that kills, before nine good ones' => sub {
    anew('killer');
    add_message(room => 'killer', event => 'call_started');
    add_message(room => "good-$_", event => 'call_started') for 1 .. 9;

    my $deaths = 0;
    my $consumer;
    while ($deaths < 20) {
        $consumer = mortal('worker-1');
        my $dead;
        wait_for(sub { ($dead = !$consumer->alive) || eval { recorded('good-9') } }, 15);
        last if !$dead;
        $deaths++;
    }
    is $deaths, 5, 'it kills five times';
    ok wait_for(sub { recorded('good-9') && !pending() }, 10), 'then all is done' or diag $consumer->err;
    is_deeply query('SELECT message LIKE \'%killer%\', tries, error FROM dead_letters'), [ [ 1, 5, 'the consumer died of it' ] ],
        '... it is a dead letter, and nothing else is';
    is query('SELECT count(*) FROM transitions')->[0][0], 9, '... the good ones are recorded';
    $consumer->stop;
};

subtest 'a locked database' => sub {
    anew('locked');
    my $consumer = consumer('worker-1');
    $consumer->says(qr/^ready$/m, 'is ready');
    add_message(room => 'first', event => 'call_started');
    ok wait_for(sub { eval { recorded('first') } }, 10), 'the database is there';

    my $locker = lock_database();
    add_message(room => "room-$_", event => 'call_started') for 1 .. 9;

    # Deliveries again and again, to the same and to others: none is a try.
    for my $round (1 .. 7) {
        ok wait_for(sub { $consumer->err =~ /locked/ }, 15), "round $round: it waits" or diag $consumer->err;
        $consumer->kill;
        $consumer = consumer($round % 2 ? 'worker-1' : "other-$round", 0.2);
    }
    my $second = consumer('second', 0.2);
    ok wait_for(sub { $_->err =~ /locked/ }, 15), '... two of them' for $consumer, $second;
    ok $_->alive, '... which live' for $consumer, $second;
    $locker->kill;
    ok wait_for(sub { !grep { !recorded("room-$_") } 1 .. 9 }, 20), 'then all is done' or diag $consumer->err;
    is dead_letters(), 0, '... nothing is a dead letter';
    $_->stop for $consumer, $second;
};

subtest 'the database is away just as a message is put aside' => sub {
    anew('aside');
    my $consumer = consumer('worker-1', 0.2);
    $consumer->says(qr/^ready$/m, 'is ready');
    add_message(room => 'first', event => 'call_started');
    ok wait_for(sub { eval { recorded('first') } }, 10), 'the database is there';

    my $locker = lock_database();
    $admin->cmd(qw(XADD vaani:stream * message), 'no JSON');    # fails without the database
    ok wait_for(sub { $consumer->err =~ /try 5 of 5.*locked/s }, 15), 'it waits' or diag $consumer->err;
    ok $consumer->alive, '... and lives';
    $locker->kill;
    ok wait_for(sub { dead_letters() == 1 && !pending() }, 15), 'then it is put aside' or diag $consumer->err;
    is_deeply query('SELECT message, tries FROM dead_letters'), [ [ 'no JSON', 5 ] ], '... after five tries';
    $consumer->stop;

    # At the start, too.
    $locker = lock_database();
    add_message(room => 'later', event => 'call_started');
    $consumer = consumer('worker-1');
    ok wait_for(sub { $consumer->err =~ /locked/ }, 15), 'locked at the start: it waits';
    $locker->kill;
    ok wait_for(sub { recorded('later') }, 10), '... for the database';
    $consumer->stop;
};

subtest 'entries that are no messages' => sub {
    anew('odd');
    $admin->cmd(qw(XADD vaani:stream * message), "\xff\xfe{");
    $admin->cmd('XADD', 'vaani:stream', '*', "\xff", "\xfe");
    $admin->cmd(qw(XADD vaani:stream * message), $_) for '[]', 'null', '{}', '{"event":"x","key":"\\ud83d","received_at":1}', '{"id":{},"event":"x","received_at":1,"key":{}}';
    add_message(room => 'good', event => 'call_started');
    my $consumer = consumer('worker-1', 0.2);
    ok wait_for(sub { eval { dead_letters() == 7 } && !pending() }, 20), 'they are put aside' or diag $consumer->err;
    is recorded('good'), 1, 'what comes behind them is recorded';
    unlike $consumer->err, qr/\\xff|\xff/, '... and are not in the log';
    is query("SELECT hex(message) FROM dead_letters ORDER BY id LIMIT 1")->[0][0], 'FFFE7B', '... the bytes that they had';
    unlike $consumer->err, qr/Traceback/, 'no traceback';
    is $consumer->stop, 0, 'it exits normally';
};

subtest 'what makes two messages one' => sub {
    anew('ids');
    my @same = (room => 'same', event => 'call_put_on_hold', known => JSON::PP::false, seq => 3);
    add_message(@same) for 1 .. 6;
    add_message(@same, id => 'twice') for 1 .. 2;
    add_message(@same, id => undef) for 1 .. 2;
    add_message(event => 'campaign.done', known => JSON::PP::false, id => 'no call', received_at => 1, payload => { a => undef });
    my $consumer = consumer('worker-1');
    ok wait_for(sub { eval { query("SELECT count(*) FROM transitions WHERE id = 'no call'")->[0][0] } }, 10), 'all are recorded'
        or diag $consumer->err;
    is recorded('same'), 6 + 1 + 2, 'each delivery once: six of one millisecond, one that came twice, two without an id';
    is_deeply query("SELECT * FROM transitions WHERE id = 'no call'"),
        [ [ 'no call', undef, undef, 'campaign.done', 1, undef, undef, '{"a": null}' ] ], '... one without a call';
    is dead_letters(), 0, 'no dead letters';
    $consumer->stop;
};

subtest 'the state of calls' => sub {
    anew('state-of-calls');
    my $calls = sub { query('SELECT room_name, direction, call_duration_ms, dispositions, updated_at FROM calls ORDER BY key') };
    $admin->cmd(qw(HSET vaani:call:webrtc-1 room_name webrtc-1 direction web status ended call_duration_ms 107420 updated_at 20),
        dispositions => '{"tag":"x"}');
    add_message(room => 'webrtc-1', event => 'call_postprocessing', payload => { call_id => 'webrtc-1', data => { call_duration => 107.42 } });
    add_message(room => 'expired', event => 'call_ended');
    my $consumer = consumer('worker-1', 0.2);
    my $all = [ [ 'webrtc-1', 'web', 107420, '{"tag":"x"}', 20 ] ];
    ok wait_for(sub { eval { recorded('expired') } }, 10), 'recorded' or diag $consumer->err;
    is_deeply $calls->(), $all, 'a call is what its hash says';

    # An older state, as of another consumer that was slow.
    $admin->cmd(qw(HSET vaani:call:webrtc-1 call_duration_ms 1 updated_at 10));
    add_message(room => 'webrtc-1', event => 'call_ended');
    ok wait_for(sub { recorded('webrtc-1') == 2 }, 10), 'again';
    is_deeply $calls->(), $all, '... and older news change nothing';

    # Keys that cannot be read: what Redis refuses is no fault of the message.
    $admin->cmd(qw(SET vaani:call:text text));
    add_message(room => 'text', event => 'call_ended');
    add_message(room => 'other', key => 'other:call:x', event => 'call_ended');
    add_message(room => 'behind', event => 'call_ended');
    ok wait_for(sub { recorded('text') && recorded('behind') }, 10), 'what comes behind is recorded' or diag $consumer->err;
    ok wait_for(sub { count($consumer->err, qr/waits: .*(?i:NOPERM|permission)/) >= 7 }, 15), '... what Redis does not allow waits';
    is recorded('other') + dead_letters(), 0, '... and is not put aside';
    $admin->cmd('ACL', 'SETUSER', 'crm', '~other:call:*');
    ok wait_for(sub { recorded('other') && !pending() }, 10), '... until it is allowed';
    $admin->cmd('ACL', 'SETUSER', 'crm', @{ (documented('crm'))[0] });
    $consumer->stop;
};

subtest 'messages without payloads' => sub {
    anew('without-payloads');
    my $consumer = consumer('worker-1');
    my $transcript = '[13:33:14] AGENT: Hello. ' x 3000;
    my @bodies = call_path('outbound-answered/none', 'bare');
    post('/off', @bodies[ 0 .. $#bodies - 1 ], event('call_postprocessing', room => 'bare', transcript => $transcript));
    ok wait_for(sub { eval { recorded('bare') == 5 && !pending() } }, 10), 'all are recorded' or diag $consumer->err;
    is_deeply query('SELECT DISTINCT payload FROM transitions'), [ ['null'] ], '... without a payload';
    is_deeply query('SELECT room_name, status, call_duration_ms, transcript FROM calls'), [ [ 'bare', 'ended', 42500, $transcript ] ],
        'the call has its transcript';
    is dead_letters(), 0, 'no dead letters';
    $consumer->stop;
};

subtest 'SIGTERM, and names of consumers' => sub {
    anew('names');
    my $consumer = consumer('worker-1', 0.2);
    $consumer->says(qr/^ready$/m, 'is ready');
    is_deeply [ names() ], ['worker-1'], 'its name';
    is $consumer->stop, 0, 'SIGTERM ends it';
    is $consumer->err, '', '... without a word';
    is_deeply [ names() ], [], 'it takes its name along';

    # It leaves unfinished messages under its name.
    $consumer = consumer('worker-1');
    $consumer->says(qr/^ready$/m, 'is ready');
    add_message(room => 'first', event => 'call_started');
    ok wait_for(sub { eval { recorded('first') } }, 10), 'the database is there';
    my $locker = lock_database();
    add_message(room => 'left', event => 'call_started');
    ok wait_for(sub { $consumer->err =~ /locked/ }, 15), 'it waits for the database';
    is $consumer->stop, 0, 'SIGTERM in the middle of the work';
    is pending(), 1, '... the message is not lost';
    is_deeply [ names() ], ['worker-1'], '... nor the name';

    # The dead, of which one has something left, and one who has just come.
    $admin->cmd(qw(XGROUP CREATECONSUMER vaani:stream crm), "dead-$_") for 1 .. 3;
    $consumer = consumer('worker-2', 60);
    ok wait_for(sub { $consumer->err eq '' && $consumer->out =~ /ready/ }, 10), 'another one';
    is_deeply [ names() ], [qw(dead-1 dead-2 dead-3 worker-1 worker-2)], 'nobody is forgotten at once';
    $consumer->stop;
    $locker->kill;
    $consumer = Vaani::Test::Example->start([ command_of('worker-2') ], REDIS_URL => redis_url('crm'), DATABASE => $database,
        CLAIM => 0.2, FORGET => 0.5);
    ok wait_for(sub { recorded('left') && join(' ', names()) eq 'worker-2' }, 15), 'what is left is done, then the names go'
        or diag join ' ', names();

    # Where the user may not do that, all the rest works.
    $admin->cmd('ACL', 'SETUSER', 'crm', '-eval');
    ok wait_for(sub { $consumer->err =~ /^names of consumers are not removed: /m }, 10), 'without +eval it says so';
    add_message(room => 'more', event => 'call_started');
    ok wait_for(sub { recorded('more') }, 10), '... and works on';
    $admin->cmd('ACL', 'SETUSER', 'crm', '+eval');

    # Without +xclaim nothing can be counted: nothing is taken then.
    $consumer->stop;
    $admin->cmd('ACL', 'SETUSER', 'crm', '-xclaim');
    add_message(room => 'waits', event => 'call_started');
    $consumer = consumer('worker-1');
    ok wait_for(sub { $consumer->err =~ /NOPERM|permission/ }, 10), 'without +xclaim it says so';
    is pending(), 0, '... and takes nothing';
    $admin->cmd('ACL', 'SETUSER', 'crm', '+xclaim');
    ok wait_for(sub { recorded('waits') }, 10), '... until it may';
    is $consumer->stop, 0, 'SIGTERM';
};

subtest 'a database of the version before' => sub {
    anew('old');
    query('CREATE TABLE transitions (key TEXT, seq INTEGER, event TEXT, received_at INTEGER, room_name TEXT, status TEXT,'
        . ' payload TEXT, PRIMARY KEY (key, seq, event, received_at))');
    query("INSERT INTO transitions VALUES ('k', 1, 'call_started', 1, 'r', 'dialing', 'null')");
    query('CREATE TABLE calls (key TEXT PRIMARY KEY, room_name TEXT, direction TEXT, status TEXT, outcome TEXT, phone_number TEXT,'
        . ' call_duration_ms INTEGER, call_started_at INTEGER, picked_up_at INTEGER, call_ended_at INTEGER, recording_url TEXT,'
        . ' summary TEXT, dispositions TEXT, updated_at INTEGER)');
    query("INSERT INTO calls (key, room_name, updated_at) VALUES ('k', 'r', 1)");
    $admin->cmd(qw(HSET vaani:call:new room_name new status ended updated_at 20 transcript Hello.));
    add_message(room => 'new', event => 'call_started');
    my $consumer = consumer('worker-1');
    ok wait_for(sub { eval { recorded('new') } }, 10), 'goes on' or diag $consumer->err;
    is query('SELECT count(*) FROM transitions_without_id')->[0][0], 1, '... the rows are kept';
    is_deeply query('SELECT room_name, updated_at, transcript FROM calls ORDER BY key'), [ [ 'r', 1, undef ], [ 'new', 20, 'Hello.' ] ],
        '... and transcripts have a column';
    $consumer->stop;
};

# --- docs/migration.md

sub code ($kind) {
    my @found = $migration =~ /^<!-- \Q$kind\E -->\n```\w+\n(.*?)^```$/msg;
    die "docs/migration.md has no \"$kind\"\n" if !@found;
    return @found;
}

subtest 'migration' => sub {
    my $dir = tmpdir() . '/migration';
    mkdir $dir;
    my ($flask, $once, $call_once, $work) = map { (code("python: $_"))[0] } qw(flask once call consumer);
    my @today = code('json: today');
    my $before_that = $flask;

    # The commands of the page about them.
    my $create = 'g.db.execute("CREATE TABLE IF NOT EXISTS done (room TEXT, event TEXT, PRIMARY KEY (room, event))")';
    $flask =~ s/^(\s+)return g\.db$/$1    $create\n$1return g.db/m or die 'no database()';
    $flask =~ s/^    work\(database\(\), payload\)\n/$call_once/m or die 'no work()';
    my $consumer = slurp(ROOT . '/examples/subscribers/stream/consumer.py');
    $consumer =~ s/^class Work\(.*?(?=^def is_away)/$once\n\n$work\n\n/ms or die 'no Work';
    spew("$dir/app.py", $flask =~ s/^(?=app = )/$once\n\n/mr);
    spew("$dir/consumer.py", $consumer);

    # The program as it was: each form that Vaani sends today ends in an error.
    {
        mkdir "$dir/before";
        spew("$dir/before/app.py", $before_that);
        my $port = free_port();
        my $program = Vaani::Test::Example->start([ $python, qw(-m flask run --port), $port ], dir => "$dir/before");
        my $to = Vaani::Test::HTTP->new(port => $port);
        ok wait_for(sub { eval { $to->get('/calls/x')->status == 200 } }, 15), 'the Flask program runs' or diag $program->err;
        is $to->post('/vaani/webhook', event('call_postprocessing'))->status, 200, '... and takes the form of old';
        is scalar @today, 2, 'the page has what Vaani sends today';
        is $to->post('/vaani/webhook', $_)->status, 500, '... which it does not: ' . $json->decode($_)->{event} for @today;
        like $program->err, qr/^KeyError: 'room_name'$/m, '... for the reason that the page names';
        is query('SELECT count(*) FROM summaries', "$dir/before/billing.sqlite3")->[0][0], 1, '... and the summary is lost';
        $program->stop;
    }

    my $flask_port = free_port();
    my @flask = ($python, qw(-m flask run --port), $flask_port);
    my $old = Vaani::Test::Example->start(\@flask, dir => $dir);

    my ($after, $before, $turned) = map {
        s{127\.0\.0\.1:5000}{127.0.0.1:$flask_port}r =~ s{redis://127\.0\.0\.1:6379}{$redis->url}er
            =~ s{/var/spool/vaani}{%%DIR%%/spool}r
    } code('nginx: server');
    my $config = sub ($text) { "server { listen unix:%%SOCK%%; $text }" };
    my $front = Vaani::Test::Nginx->start(http => $config->($before));
    my $to = $front->http;
    my $called = Vaani::Test::HTTP->new(port => $flask_port);
    ok wait_for(sub { eval { $called->get('/calls/x')->status == 200 } }, 15), 'the Flask program runs' or diag $old->err;

    $admin->cmd('FLUSHALL');
    my $file = "$dir/billing.sqlite3";
    my $calls = 0;
    my $call = sub ($name) {
        my $room = 'call-' . ++$calls;
        is $to->post('/vaani/webhook', $_)->status, 200, "$name: " . ($_ =~ /"event":"(\w+)"/)[0]
            for call_path('outbound-answered/none', $room);
        ok wait_for(sub { ($redis->client->hgetall("vaani:call:$room")->{postprocessed} // 0) == 1 }, 10), '... Redis has it';
        return $room;
    };
    my $bills = sub ($name) {
        my $want = [ map { [ "call-$_", 42500 ] } 1 .. $calls ];
        my $sql = 'SELECT room, ms FROM bills ORDER BY length(room), room';
        ok wait_for(sub { @{ query($sql, $file) } >= @$want && !pending() }, 10), "$name: all is done";
        is_deeply query($sql, $file), $want, '... and each call billed once';
        is query("SELECT count(*) FROM summaries WHERE room LIKE 'call-%'", $file)->[0][0], $calls, '... summaries alike';
    };

    # A body that takes the detour through a file is copied, too. Before there is a
    # consumer: this call has no bill.
    my $long = 'x' x 300_000;
    is $to->post('/vaani/webhook', event('call_postprocessing', room => 'long', transcript => $long))->status, 200, 'a long one';
    ok wait_for(sub { ($redis->client->hgetall('vaani:call:long')->{transcript} // '') eq $long }, 10), '... Redis has it';

    # Step 2; the group comes with the consumer.
    my $room = $call->('the copy');
    like $called->get("/calls/$room")->body, qr/"active"/, 'the Flask program keeps a state';
    is $redis->client->hgetall("vaani:call:$room")->{call_duration_ms}, 42500, '... the module a better one';

    my $new = Vaani::Test::Example->start([ $python, 'consumer.py', 'worker-1' ], dir => $dir,
        REDIS_URL => redis_url('crm'), DATABASE => $file);
    $new->says(qr/^ready$/m, 'the consumer runs');
    $call->('both');
    $bills->('both');

    # Today's form, as it is in Redis: of the fields, the payload has a part somewhere
    # and the hash has all. The unit of the duration is settled there.
    my $today = $json->decode($today[0]);
    my $name = $today->{call_id};
    $admin->cmd('HSET', "vaani:call:$name", room_name => $name, seq => 2, status => 'ended', last_event => 'call_postprocessing',
        call_duration_ms => 42500, summary => $today->{data}{summary}, updated_at => 1790000000123, postprocessed => 1);
    add_message(event => 'call_ended', room => $name, seq => 1, payload => { event => 'call_ended', room_name => $name });
    add_message(event => 'call_postprocessing', room => $name, seq => 2, payload => $today);
    add_message(event => 'webhook_test', id => 'test', known => JSON::PP::false, received_at => 1, payload => $json->decode($today[1]));
    ok wait_for(sub { @{ query("SELECT 1 FROM summaries WHERE room = '$name'", $file) } && !pending() }, 10), 'today\'s form';
    is_deeply query("SELECT * FROM bills WHERE room = '$name'", $file), [ [ $name, 42500 ] ], '... billed';
    is_deeply query("SELECT text FROM summaries WHERE room = '$name'", $file), [ [ $today->{data}{summary} ] ], '... and its summary';
    is query('SELECT count(*) FROM dead_letters', $file)->[0][0], 0, '... a test without a call harms nothing';
    query("DELETE FROM bills WHERE room = '$name'", $file);

    $front->reload(http => $config->($turned));
    $room = $call->('turned round');
    ok wait_for(sub { $called->get("/calls/$room")->body =~ /"active"/ }, 10), 'the Flask program gets copies';
    $bills->('turned round');

    $front->reload(http => $config->($after));
    $old->kill;
    $call->('at last');
    $bills->('at last');
    is $to->post('/vaani/webhook', '{"event":')->status, 400, 'what is no event is refused';
    unlike $_->err, qr/Traceback/, 'no traceback' for $old, $new;
    $new->stop;
};

done_testing;
