# The examples, as their reader runs them: with the commands of
# examples/README.md, as the users of docs/operations.md. They follow real calls,
# and miss nothing when connections, Redis or they themselves are killed. And
# the steps of docs/migration.md, with its own code.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/lib";
use Vaani::Test;

use Cwd qw(abs_path);
use JSON::PP ();
use Vaani::Test::ACL qw(documented);
use Vaani::Test::Browser;
use Vaani::Test::Events;
use Vaani::Test::Process ();

use constant ROOT => abs_path("$FindBin::Bin/..");

my $python = $ENV{PYTHON_BIN} || '/usr/bin/python3';    # the one that Debian's packages are for
my $node = $ENV{NODE_BIN} || 'node';
my $json = JSON::PP->new->utf8->canonical;
my $readme = slurp(ROOT . '/examples/README.md');
my $migration = slurp(ROOT . '/docs/migration.md');

binmode $_, ':utf8' for map { Test::More->builder->$_ } qw(output failure_output);

$ENV{NODE_PATH} = ROOT . '/build/examples/node_modules';    # see deps-examples
$ENV{PYTHONDONTWRITEBYTECODE} = 1;

for (
    [ 'redis-py', $python, '-c', 'import redis' ], [ 'Flask', $python, '-c', 'import flask' ],
    [ 'ioredis', $node, '-e', 'require("ioredis")' ],
) {
    my ($what, @command) = @$_;
    my ($exit, undef, $error) = run(\@command);
    die "$what is missing, \"make deps-examples\" installs it:\n$error" if $exit;
}

# --- servers

# The data outlive a restart, as do the users.
my $redis = Vaani::Test::Redis->start(
    tcp    => 1,
    acl    => [ '~vaani:stream', '+xadd' ],
    config => [ 'appendonly yes', map { join ' ', 'user', $_, @{ (documented($_))[0] } } qw(app crm) ],
);
my $admin = $redis->client;

sub redis_url ($user) { return "redis://$user:secret\@127.0.0.1:" . $redis->port }

my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    vaani_redis @{[ $redis->url ]};
    vaani_spool %%DIR%%/spool;
    server {
        listen unix:%%SOCK%%;
        location = /hook { vaani_webhook; }
        location = /stream { vaani_webhook; vaani_stream vaani:stream maxlen=10000; }
    }
CONF
my $http = $nginx->http;

sub post ($uri, @bodies) {
    for my $body (@bodies) {
        my $response = $http->post($uri, $body);
        die "not accepted: $body: " . $response->body . "\n" if $response->status != 200;
    }
    return;
}

# --- programs

# The command that the document has for a file.
sub command ($file) {
    my ($command) = $readme =~ /^((?:python3|node) examples\/\Q$file\E.*)$/m;
    my ($program, @arguments) = split ' ', $command // die "examples/README.md does not run $file\n";
    return ($program eq 'node' ? $node : $python, @arguments);
}

{
    package Example;

    use Vaani::Test::Dir qw(slurp subdir);

    # Options: argv, dir, and variables of the environment.
    sub start ($class, $argv, %opt) {
        my $log = subdir('example');
        my $dir = delete $opt{dir} // main::ROOT;
        local @ENV{ keys %opt } = values %opt;

        my $process = Vaani::Test::Process->spawn(
            argv => $argv, dir => $dir, stdout => "$log/out", stderr => "$log/err");
        return bless { process => $process, log => $log }, $class;
    }

    sub out ($self) { return slurp("$self->{log}/out") }
    sub err ($self) { return slurp("$self->{log}/err") }

    # The lines of one call.
    sub lines ($self, $room) { return join '', map { "$_\n" } $self->out =~ /^\Q$room\E (.*)$/mg }

    sub says ($self, $regex, $name) {
        local $Test::Builder::Level = $Test::Builder::Level + 1;
        return main::ok(main::wait_for(sub { $self->out =~ $regex }, 15), $name)
            || main::diag($self->out, $self->err);
    }

    sub says_of ($self, $room, $lines, $name) {
        local $Test::Builder::Level = $Test::Builder::Level + 1;
        main::wait_for(sub { $self->lines($room) eq $lines }, 15);
        return main::is($self->lines($room), $lines, $name) || main::diag($self->err);
    }

    # As by kill -9.
    sub kill ($self) { $self->{process}->kill_group; return }

    sub stop ($self, $signal = 'TERM') {
        $self->{process}->signal($signal);
        return $self->{process}->wait(10) ? $self->{process}->status : undef;
    }
}

sub count ($text, $regex) { return scalar(() = $text =~ /$regex/g) }

# --- the subscribers and the board, at the same calls

my %subscriber = map {
    my ($name, $file) = @$_;
    $name => Example->start([ command($file) ], REDIS_URL => redis_url('app'));
} [ python => 'subscribers/python/subscriber.py' ], [ node => 'subscribers/node/subscriber.js' ];

my $port = free_port();
my $server = Example->start([ command('call-board/server.js') ], REDIS_URL => redis_url('app'), PORT => $port);
my $browser = Vaani::Test::Browser->start;
my $url = "http://127.0.0.1:$port/";

sub each_subscriber ($code) { $code->($_, $subscriber{$_}) for sort keys %subscriber; return }

# What a subscriber prints for events that come one after the other.
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
    text_like '#connection', qr/^Live$/, 'the page is connected';
    text_like '.none', qr/^None .*None yet\.$/, '... and empty';

    my @bodies = call_path('outbound-answered/transfer-failed-then-successful', 'one');
    my @names = map { /"event":"(\w+)"/ } @bodies;
    post('/hook', @bodies[ 0, 1 ]);
    text_like '#going-on', qr/^ringing \+1234567890 ?one$/, 'a call rings';
    is $browser->run('document.title'), '(1) Calls', '... and is counted';
    post('/hook', @bodies[ 2 .. 4 ]);
    text_like '#going-on', qr/^active \+1234567890 ?one 0:\d\d transfer failed to \+919876543210 \(busy\)$/, 'a transfer fails';
    post('/hook', $bodies[5]);
    text_like '#going-on', qr/transfer to \+918888888888; 2 initiated, 0 successful, 1 failed$/, 'another one begins';
    ok wait_for(sub { $browser->text('#going-on .duration') =~ /^0:0[1-9]$/ }, 5), 'the clock runs';
    post('/hook', @bodies[ 6 .. $#bodies ]);
    text_like '#ended', qr/^completed \+1234567890 ?one 0:43 transferred to \+918888888888; 2 initiated, 1 successful, 1 failed$/,
        'the call has ended';
    is $browser->text('#going-on'), '', '... and is not going on any more';

    each_subscriber(sub ($name, $program) {
        $program->says_of('one', transitions(1, @names), "$name: every transition once, in order");
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
    text_like '#ended', qr/^failed failed SIP_404_NOT_FOUND completed /, 'the board has it';
};

subtest 'the snippets of the README' => sub {
    my $text = slurp(ROOT . '/README.md');
    my $dir = tmpdir() . '/snippets';
    mkdir $dir;
    symlink "$ENV{NODE_PATH}", "$dir/node_modules" or die "symlink: $!\n";

    # They mean a Redis at its default port that lets everybody in.
    my ($py) = $text =~ /^```python\n(.*?)^```$/ms;
    my ($js) = $text =~ /^```javascript\n(.*?)^```$/ms;
    $py =~ s/redis\.Redis\(/redis.Redis(port=@{[ $redis->port ]}, username="app", password="secret", / or die 'python';
    $js =~ s/new Redis\(\)/new Redis("@{[ redis_url('app') ]}")/ or die 'javascript';

    my @programs = map {
        my ($program, $file, $code) = @$_;
        Example->start([ $program, spew("$dir/$file", $code) ], PYTHONUNBUFFERED => 1);
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

    # Nobody can come back before the events are through.
    $admin->cmd('ACL', 'SETUSER', 'app', 'off');
    cmp_ok $admin->cmd(qw(CLIENT KILL USER app)), '>=', 5, 'their connections are killed';
    text_like '#connection', qr/^Redis is away/, 'the page says so';
    post('/hook', event('call_ringing', room => 'gap'), event('user_picked_up_at', room => 'gap'),
        event('call_ended', room => 'last'), event('call_started', room => 'new'));
    $admin->cmd('ACL', 'SETUSER', 'app', 'on');

    each_subscriber(sub ($name, $program) {
        $program->says_of('gap', transitions(1, 'call_started') . "active seq 3: user_picked_up_at, read again\n",
            "$name: reads the calls that it knows");
        $program->says_of('last', transitions(1, 'call_ringing') . "ended seq 2: call_ended, read again\n",
            '... and that a call has ended, which leaves no gap');
        is count($program->out, qr/^following/m), 2, '... connected again once';
    });
    text_like '#connection', qr/^Live$/, 'the page is live again';
    text_like '#going-on', qr/active \+1234567890 ?gap/, '... and right';

    # A gap, as of a call that it has not seen begin.
    for (
        [ event('call_ringing', room => 'new'), "ringing seq 2: call_ringing, read again\n" ],
        [ event('user_picked_up_at', room => 'new'), "active seq 3: user_picked_up_at\n" ],
    ) {
        my ($body, $line) = @$_;
        state $lines = '';
        $lines .= $line;
        post('/hook', $body);
        each_subscriber(sub ($name, $program) {
            $program->says_of('new', $lines, "$name: " . ($line =~ /again/ ? 'sees the gap' : 'and none after it'));
        });
    }
};

subtest 'Redis restarts' => sub {
    $redis->stop;
    text_like '#connection', qr/^Redis is away/, 'the page says so';
    post('/hook', event('human_transfer_initiated', room => 'gap'));    # waits on disk
    $redis->restart;
    $admin = $redis->client;

    each_subscriber(sub ($name, $program) {
        $program->says(qr/^gap active seq 4: human_transfer_initiated(?:, read again)?$/m, "$name: what waited");
    });
    text_like '#connection', qr/^Live$/, 'the page is live again';
    text_like '#going-on', qr/gap 0:\d\d transfer to \+919876543210/, '... and shows it';

    # It has lost all: the call begins again.
    $admin->cmd('FLUSHALL');
    post('/hook', event('call_ringing', room => 'gap'), event('user_picked_up_at', room => 'gap'));
    each_subscriber(sub ($name, $program) {
        $program->says(qr/^gap active seq 2: user_picked_up_at(?:, read again)?$/m, "$name: a call that begins again");
    });
};

subtest 'the page' => sub {
    my $name = '<img src=x onerror=alert(1)><script>alert(2)</script>';
    post('/hook', event('call_started', room => $name), call_path('inbound/none', "r$_")) for 1 .. 25;

    $browser->open($url, scheme => 'dark', width => 360, height => 740);
    text_like '#going-on', qr/\Q$name\E/, 'a name is text';
    is $browser->run('document.querySelectorAll("#ended li").length'), 20, 'the last 20 are shown';
    text_like '#ended', qr/^completed r25 0:43/, '... the latest first';
    ok $browser->run('document.documentElement.scrollWidth <= innerWidth'), 'fits a phone';

    my $ground = 'getComputedStyle(document.body).backgroundColor';
    my $dark = $browser->run($ground);
    is_deeply [ $browser->problems ], [], 'no errors, nothing that the policy forbids';
    $browser->open($url, scheme => 'light');
    text_like '#connection', qr/^Live$/, 'in light';
    isnt $browser->run($ground), $dark, '... it looks otherwise';

    is $server->stop, 15, 'its server ends';
    text_like '#connection', qr/^The server of this page does not answer/, '... which it says';
    is_deeply [ grep { !/Failed to load resource|ERR_/ } $browser->problems ], [], 'no other errors';
    $browser->stop;

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

# Nobody else can write while it lives.
sub lock_database () {
    my $locker = Example->start([ $python, '-c', <<'PY', $database ]);
import signal, sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
signal.pause()
PY
    wait_for(sub { $locker->out eq "locked\n" }) or die $locker->err;
    return $locker;
}

sub consumer ($name, $claim = 60) {
    my @command = command('subscribers/stream/consumer.py');
    $command[-1] = $name;
    return Example->start(\@command, REDIS_URL => redis_url('crm'), DATABASE => $database, CLAIM => $claim);
}

sub pending () { return $admin->cmd(qw(XPENDING vaani:stream crm))->[0] // 0 }

# What the stream holds, each once, is in the database, and nothing is pending.
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

# --- docs/migration.md

sub code ($kind) {
    my @found = $migration =~ /^<!-- \Q$kind\E -->\n```\w+\n(.*?)^```$/msg;
    die "docs/migration.md has no \"$kind\"\n" if !@found;
    return @found;
}

subtest 'migration' => sub {
    my $dir = tmpdir() . '/migration';
    mkdir $dir;
    my ($flask, $once, $work) = map { (code("python: $_"))[0] } qw(flask once consumer);
    my ($work_of_flask) = $flask =~ /^(def work\(.*?)^\n\n/ms;

    # What the page says about them, done.
    my $create = 'g.db.execute("CREATE TABLE IF NOT EXISTS done (payload TEXT PRIMARY KEY)")';
    $flask =~ s/^(\s+)return g\.db$/$1    $create\n$1return g.db/m or die 'no database()';
    $flask =~ s/^    work\(database\(\), payload\)$/    once(database(), payload)/m or die 'no work()';
    my $consumer = slurp(ROOT . '/examples/subscribers/stream/consumer.py');
    $consumer =~ s/^class Work:.*?(?=^class Consumer:)/$once\n\n$work_of_flask\n\n$work\n\n/ms or die 'no Work';
    spew("$dir/app.py", $flask =~ s/^(?=app = )/$once\n\n/mr);
    spew("$dir/consumer.py", $consumer);

    my $flask_port = free_port();
    my @flask = ($python, qw(-m flask run --port), $flask_port);
    my $old = Example->start(\@flask, dir => $dir);

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
        is query('SELECT count(*) FROM summaries', $file)->[0][0], $calls + 1, '... summaries alike';
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

    my $new = Example->start([ $python, 'consumer.py', 'worker-1' ], dir => $dir,
        REDIS_URL => redis_url('crm'), DATABASE => $file);
    $new->says(qr/^ready$/m, 'the consumer runs');
    $call->('both');
    $bills->('both');

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
