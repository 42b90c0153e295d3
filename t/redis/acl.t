# The rights of Redis users that docs/permissions.md gives: they are enough,
# each word of them is needed, and they allow nothing else.
#
# All other tests run with the module's rights as well, see
# t/lib/Vaani/Test/Redis.pm.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP qw(decode_json);
use Vaani::Test::ACL qw(documented rights);
use Vaani::Test::Events;
use Vaani::Test::Spool;

use constant PASSWORD => 'secret';    # as in the document

my ($module, $stream, $retain, undef, $index) = documented('vaani');
my ($app) = documented('app');
my ($group) = documented('crm');
my ($onward) = documented('onward');
my ($calls) = documented('calls');
my ($eraser) = documented('eraser');

# Redis lets everybody log in and out.
my @ALWAYS = qw(auth hello quit reset);

my $redis = Vaani::Test::Redis->start(config => [ 'databases 4', 'acl-pubsub-default allchannels' ]);
my $admin = $redis->client;
my $subscriber = $redis->client->psubscribe('*');

sub set_user ($name, @words) {
    $admin->cmd('ACL', 'DELUSER', $name);
    $admin->cmd('ACL', 'SETUSER', $name, @words);
    return;
}

# Without what differs between users of equal rights.
sub user ($name) {
    my %user = @{ $admin->cmd('ACL', 'GETUSER', $name) };
    $user{$_} = [ sort split ' ', $user{$_} ] for grep { !ref $user{$_} } keys %user;
    $user{flags} = [ grep { !/^(?:nopass|sanitize-payload)$/ } sort @{ $user{flags} } ];
    delete $user{passwords};
    return \%user;
}

sub without ($word, @words) { return grep { $_ ne $word } @words }

# --- nothing else

# The commands that a user may run, of all that exist.
my @COMMANDS = map { lc } @{ $admin->cmd('COMMAND', 'LIST') };
my %is_container = map { /^(.+)\|/ ? ($1 => 1) : () } @COMMANDS;

sub allowed_commands ($name) {
    return grep {
        my ($command, $sub) = split /\|/;
        my ($info) = @{ $admin->cmd('COMMAND', 'INFO', $_) };
        my @arguments = (defined $sub ? $sub : (), ('vaani:call:x') x abs $info->[1]);
        splice @arguments, abs($info->[1]) - 1;

        # A key that it may not use is another matter.
        my ($reply, $error) = $admin->try_cmd('ACL', 'DRYRUN', $name, $command, @arguments);
        ($error // $reply) !~ /no permissions to run/;
    } grep { !$is_container{$_} } @COMMANDS;
}

sub commands (@words) { return map { /^\+(.+)/ ? $1 : () } @words }

for (
    [ 'the module', $module ],
    [ 'the module with a stream', [ @$module, @$stream ] ],
    [ 'the module with an index', [ @$module, @$index ] ],
    [ 'a program that subscribes', $app ],
    [ 'a program with a consumer group', $group ],
    [ 'a program that forwards a stream', $onward ],
    [ 'a program that lists calls', $calls ],
    [ 'one that erases calls', $eraser ],
) {
    my ($name, $words) = @$_;

    subtest "nothing else: $name" => sub {
        set_user('user', @$words);

        is_deeply [ sort(allowed_commands('user')) ], [ sort @ALWAYS, commands(@$words) ], 'commands';

        # Also a user who was there before has these rights and no others.
        set_user('strong', qw(on nopass allkeys allchannels +@all));
        $admin->cmd('ACL', 'SETUSER', 'strong', @$words);
        is_deeply user('strong'), user('user'), 'who was allowed more is not any longer';

        for my $reset (qw(resetkeys resetchannels -@all)) {
            set_user('strong', qw(on nopass allkeys allchannels +@all));
            $admin->try_cmd('ACL', 'SETUSER', 'strong', without($reset, @$words));
            isnt_deeply(user('strong'), user('user'), "... for which $reset is there");
        }
    };
}

sub isnt_deeply ($got, $unwanted, $name) {
    my $json = JSON::PP->new->canonical;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return isnt $json->encode($got), $json->encode($unwanted), $name;
}

sub refused ($client, @command) {
    my ($reply, $error) = $client->try_cmd(@command);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return like $error // "done: $reply", qr/^NOPERM /, "refused: @command";
}

subtest 'keys and channels of others' => sub {
    set_user('vaani', @$module);
    my $client = $redis->client(user => 'vaani', password => PASSWORD);

    for my $key (qw(vaani vaani:call vaani:calls:x vaani:stream other:call:x xvaani:call:x Vaani:call:x)) {
        refused($client, 'HSET', $key, 'a', 1);
        refused($client, 'HMGET', $key, 'a');
        refused($client, 'EVALSHA', '0' x 40, 1, $key);
    }
    for my $channel (qw(vaani events vaani:events:x vaani:room vaani:rooms other:events __keyspace@0__:x)) {
        refused($client, 'PUBLISH', $channel, '');
    }
    refused($client, @$_) for [qw(EVAL return 0)], [qw(SCRIPT FLUSH)], [qw(DEL vaani:call:x)],
        [qw(HGETALL vaani:call:x)], [qw(SUBSCRIBE vaani:events)], [qw(FLUSHALL)], [qw(CONFIG GET *)];

    # The script may not do more than who runs it.
    my $sha = $client->cmd('SCRIPT', 'LOAD', 'return redis.call(unpack(ARGV))');
    for my $command ([qw(SET vaani:call:x 1)], [qw(HSET other 1 1)], [qw(PUBLISH other 1)], [qw(GET vaani:call:x)]) {
        my ($reply, $error) = $client->try_cmd('EVALSHA', $sha, 1, 'vaani:call:x', @$command);
        like $error // "done: $reply", qr/ACL|can't/, "refused in a script: @$command";
    }
    is $admin->cmd('DBSIZE'), 0, 'nothing was written';
};

subtest 'the user of the tests has these rights' => sub {
    set_user('vaani', @$module);
    is_deeply user('default'), user('vaani'), 'and no others';
    is_deeply [ rights('vaani') ], [ grep { !/^(?:on$|>)/ } @$module ], 'rights()';
};

# --- nothing less

# A word, and where it is missed: location, answer, where the message is.
# A hash that was changed before an event was refused is what the document
# warns of.
my @BOTH = qw(vaani:events vaani:room:ROOM);
my $REFUSED = '503 redis_deferred';
my $DOWN = '503 redis_down';

my %NEEDED = (
    'on'             => [ plain  => $DOWN ],
    '>secret'       => [ plain  => $DOWN ],
    '~vaani:call:*'  => [ plain  => $REFUSED ],
    '&vaani:events'  => [ plain  => '200 not_published', 'vaani:room:ROOM' ],
    '&vaani:room:*'  => [ plain  => '200 not_published', 'vaani:events' ],
    '+select'        => [ db     => $DOWN ],
    '+script|load'   => [ plain  => $DOWN ],
    '+evalsha'       => [ plain  => $REFUSED ],
    '+hmget'         => [ plain  => $REFUSED ],
    '+hset'          => [ plain  => $REFUSED ],
    '+hdel'          => [ transfer => $REFUSED, 'changed' ],
    '+pexpire'       => [ plain  => $REFUSED, 'changed' ],
    '+persist'       => [ forever => $REFUSED, 'changed' ],
    '+publish'       => [ plain  => '200 not_published' ],
    '~vaani:stream'  => [ stream => $REFUSED ],
    '+xadd'          => [ stream => $REFUSED ],
    '~vaani:active'  => [ index  => $REFUSED ],
    '~vaani:calls'   => [ index  => $REFUSED ],
    '+zadd'          => [ index  => $REFUSED ],
    '+zrem'          => [ ended  => $REFUSED ],
    '+zrangebyscore' => [ index  => $REFUSED ],
);

# The words of the stream and of the index are needed by their locations alone.
my @ALL = (@$module, @$stream, @$index);
my %ADDED = map { $_ => 1 } @$stream, @$index;
my @VARIANTS = ('', grep { !/^(?:reset|-)/ } @ALL);

my %LOCATION = (
    plain    => [ 'call_ringing', 0, '' ],
    transfer => [ 'human_transfer_initiated', 0, '' ],
    forever  => [ 'call_ringing', 0, 'vaani_ttl off;' ],
    db       => [ 'call_ringing', 1, '' ],
    stream   => [ 'call_ringing', 0, 'vaani_stream vaani:stream maxlen=10;' ],
    index    => [ 'call_ringing', 0, 'vaani_index on;' ],
    ended    => [ 'call_failed', 0, 'vaani_index on;' ],
);

subtest 'each word is needed' => sub {
    spew(tmpdir() . '/password', PASSWORD . "\n");
    chmod 0600, tmpdir() . '/password';

    my $locations = '';
    for my $n (0 .. $#VARIANTS) {
        set_user("user$n", without($VARIANTS[$n], @ALL));
        $locations .= "location = /$n/$_ { vaani_webhook; $LOCATION{$_}[2]
            vaani_redis unix:@{[ $redis->socket ]}?db=$LOCATION{$_}[1]&user=user$n; }\n" for sort keys %LOCATION;
    }
    my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
        vaani_redis_password_file %%TMPDIR%%/password;
        vaani_redis_connect_timeout 10s;
        vaani_redis_timeout 10s;
        server {
            listen unix:%%SOCK%%;
            add_header X-Reason \$vaani_reason always;
            $locations
        }
CONF
    my $http = $nginx->http;

    # The result of an event: the answer, "changed" for a hash that exists
    # although the answer is an error, and the channels.
    my $try = sub ($n, $location) {
        my ($event, $db) = @{ $LOCATION{$location} };
        my $room = "$n-$location";
        my $response = $http->post("/$n/$location", event($event, room => $room));

        $admin->cmd('PUBLISH', 'end', '');
        my @channels;
        while (my $message = $subscriber->next_message) {
            last if $message->{channel} eq 'end';
            push @channels, $message->{channel} =~ s/\Q$room\E\z/ROOM/r;
        }
        my $there = $redis->client(db => $db)->cmd('EXISTS', "vaani:call:$room");
        return [
            join(' ', $response->status, $response->header('X-Reason') // ()),
            ($response->status == 200) != $there ? 'changed' : (), @channels,
        ];
    };

    for my $n (0 .. $#VARIANTS) {
        my $word = $VARIANTS[$n];

        if ($word eq '') {
            is_deeply $try->(0, $_), [ 200, @BOTH ], "with all of them: $_" for sort keys %LOCATION;
            next;
        }
        my ($location, @outcome) = @{ $NEEDED{$word} // fail("$word is needed for something") || next };
        is_deeply $try->($n, $location), \@outcome, "without $word: $location";
        is_deeply $try->($n, 'plain'), [ 200, @BOTH ], '... and nothing else misses it' if $ADDED{$word};
    }
    same_words([ keys %NEEDED ], [ grep { $_ ne '' } @VARIANTS ], 'all words were tried');
};

sub same_words ($got, $want, $name) {
    return is_deeply [ sort @$got ], [ sort @$want ], $name;
}

# --- the marks of a spool with "retain"

subtest 'each word for the marks is needed' => sub {
    my @words = ('', @$retain);
    same_words($retain, [qw(~vaani:mark:* +get +set +eval)], 'the words');

    for my $word (@words) {
        set_user('marks', without($word, @$module, @$retain));
        $admin->cmd('FLUSHALL');

        my $nginx = Vaani::Test::Nginx->start(workers => 2, http => <<"CONF");
            vaani_redis unix:@{[ $redis->socket ]}?user=marks;
            vaani_redis_password_file %%TMPDIR%%/password;
            server {
                listen unix:%%SOCK%%;
                location / { vaani_webhook; vaani_spool %%DIR%%/spool retain=1h; }
            }
CONF
        # Over connections of their own, so that both workers get some.
        my $post = sub ($event) { return $nginx->http->post('/', event($event, room => 'marks'))->body };
        my $lines = sub () { return scalar $nginx->log_lines(qr/does not allow the marks/) };

        is $post->('call_started'), qq({"status":"ok"}\n), $word eq '' ? 'with all of them' : "without $word";
        if ($word eq '') {
            ok wait_for(sub { @{ $admin->cmd(KEYS => 'vaani:mark:*') } }), '... there are marks';
            is $lines->(), 0, '... and the log says nothing';
            next;
        }
        ok wait_for(sub { $lines->() > 0 }), '... the log says so';
        $post->('call_ringing') for 1 .. 20;
        is $post->('call_ended'), qq({"status":"ok"}\n), '... all else works';
        cmp_ok $lines->(), '<=', 2, '... each worker says so once';
        is_deeply $admin->cmd(KEYS => 'vaani:mark:*'), [], '... and no mark is set';
    }
};

# --- vaani-spool

subtest 'vaani-spool resend' => sub {
    my $tool = vaani_spool();
    plan skip_all => 'make tool builds it' if !-x $tool;
    $admin->cmd('FLUSHALL');

    my $file = spew(tmpdir() . '/00000000000000000001.log', join '', map {
        journal_record(delivery_content(
            room => 'r', id => $_, stream => '', body => event($_, room => 'r')))
    } qw(call_ringing human_transfer_initiated));

    local $ENV{VAANI_REDIS_USER} = 'tool';
    local $ENV{VAANI_REDIS_PASSWORD} = PASSWORD;
    my $send = sub ($db, @words) {
        set_user('tool', @words);
        my (undef, $out) = run([ $tool, resend => 'unix:' . $redis->socket . "?db=$db", $file ]);
        return $out;
    };

    like $send->(0, @$module), qr/^2 records: 2 sent, 0 of them duplicates, 0 refused/m, 'with the rights of the module';
    like $send->(1, @$module), qr/^2 records: 2 sent, 0 of them duplicates, 0 refused/m, '... in another database';

    for my $word (grep { /^(?:on|>|~|\+(?!persist|publish|select))/ } @$module) {
        $admin->cmd('FLUSHALL');
        unlike $send->(0, without($word, @$module)), qr/ 2 sent/, "without $word";
    }
};

# --- programs that subscribe

subtest 'a program that subscribes' => sub {
    set_user('vaani', @$module, @$index);
    my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
        vaani_redis unix:@{[ $redis->socket ]}?user=vaani;
        vaani_redis_password_file %%TMPDIR%%/password;
        server { listen unix:%%SOCK%%; location / { vaani_webhook; vaani_index on; } }
CONF
    my $http = $nginx->http;
    $admin->cmd('FLUSHALL');

    # The commands of such a program: with which of the words, and whether they
    # work.
    my %does = (
        'on' => sub ($c) { $c->() }, '>secret' => sub ($c) { $c->() },
        '+ping' => sub ($c) { $c->()->cmd('PING') eq 'PONG' },
        '~vaani:call:*' => sub ($c) { $c->()->hgetall('vaani:call:r')->{seq} },
        '+hgetall' => sub ($c) { $c->()->hgetall('vaani:call:r')->{seq} },
        '+hmget' => sub ($c) { $c->()->cmd(qw(HMGET vaani:call:r seq status))->[0] },
        '+zrange' => sub ($c) { $c->()->cmd(qw(ZRANGE vaani:active 0 99))->[0] eq 'r' },
        '~vaani:active' => sub ($c) { $c->()->cmd(qw(ZRANGE vaani:active -inf +inf BYSCORE LIMIT 0 99))->[0] eq 'r' },
        '~vaani:calls' => sub ($c) { $c->()->cmd(qw(ZRANGE vaani:calls 0 99 REV WITHSCORES))->[0] eq 'r' },
        '+subscribe' => sub ($c) { $c->()->subscribe('vaani:events') },
        '&vaani:events' => sub ($c) { $c->()->subscribe('vaani:events') },
        '&vaani:room:*' => sub ($c) { $c->()->subscribe('vaani:room:r') },
        '+unsubscribe' => sub ($c) { $c->()->subscribe('vaani:events')->cmd('UNSUBSCRIBE', 'vaani:events') },
    );
    same_words([ keys %does ], [ grep { !/^(?:reset|-)/ } @$app ], 'what it may do');

    set_user('app', @$app);
    my $connect = sub () { return $redis->client(user => 'app', password => PASSWORD) };
    my $listener = $connect->()->subscribe('vaani:events', 'vaani:room:r');

    is $http->post('/', event('call_ringing', room => 'r'))->status, 200, 'an event';
    my @messages = $listener->next_messages(2);
    is_deeply [ map { $_->{channel} } @messages ], [ 'vaani:events', 'vaani:room:r' ], '... is heard';

    my $message = decode_json($messages[0]{payload});
    is $connect->()->hgetall($message->{key})->{status}, $message->{status}, '... and its call read';

    for my $word (sort keys %does) {
        set_user('app', @$app);
        ok eval { $does{$word}->($connect) }, "$word is used" or diag $@;
        set_user('app', without($word, @$app));
        ok !eval { $does{$word}->($connect) }, '... and needed';
        like $@, qr/NOPERM|WRONGPASS/, '... for that';
    }

    set_user('app', @$app);
    my $client = $connect->();
    refused($client, @$_) for
        [qw(HSET vaani:call:r status ended)], [qw(DEL vaani:call:r)], [qw(EXPIRE vaani:call:r 1)],
        [qw(PUBLISH vaani:events x)], [qw(PUBLISH vaani:room:r x)], [qw(XADD vaani:stream * a 1)],
        [qw(HGETALL vaani:stream)], [qw(HGETALL other:call:r)], [qw(HMGET vaani:mark a)],
        [qw(ZADD vaani:active 1 r)], [qw(ZREM vaani:active r)], [qw(DEL vaani:calls)], [qw(ZRANGE other:active 0 1)],
        [qw(KEYS *)], [qw(SCAN 0)],
        [qw(SUBSCRIBE other:events)], [qw(SUBSCRIBE vaani:events vaani:other)], [qw(PSUBSCRIBE vaani:*)],
        [qw(PSUBSCRIBE *)], [qw(EVAL return 0)], [qw(SCRIPT LOAD x)], [qw(EVALSHA x 0)], [qw(FLUSHALL)],
        [qw(CONFIG GET *)], [qw(ACL LIST)], [qw(SELECT 1)], [qw(MONITOR)], [qw(CLIENT LIST)];
    is $admin->cmd('HGET', 'vaani:call:r', 'status'), 'ringing', 'the call is as it was';
};

# --- vaani-calls: t/tools/vaani-calls.t runs it with these rights

subtest 'vaani-calls' => sub {
    my $tool = ROOT . '/bin/vaani-calls';
    my $url = 'unix:' . $redis->socket . '?user=calls';
    $admin->cmd('FLUSHALL');
    $admin->cmd(qw(HSET vaani:call:r room_name r status active seq 1 created_at 1000 updated_at 1000));
    $admin->cmd('ZADD', "vaani:$_", 1000, 'r') for qw(active calls);
    $admin->cmd('XADD', 'vaani:stream', '1000-0', 'message', '{"room_name":"r","event":"x","seq":1}');

    # Commands that need a word; all others work without it.
    my %does = (list => [qw(active)], last => [qw(last)], older => [qw(active --count --older 1s)], count => [qw(active --count)],
        show => [qw(show r)], stream => [qw(show r --stream)], gone => [qw(show s)]);
    my @all = sort keys %does;
    my %fails = (
        '+zrange' => [qw(last list)], '+zcard' => ['count'], '+zcount' => ['older'], '+zscore' => ['gone'], '+hstrlen' => [qw(gone show stream)],
        '+hmget' => [qw(gone last list show stream)], '+xrange' => ['stream'], '~vaani:stream' => ['stream'],
        '~vaani:active' => [qw(count gone list older)], '~vaani:calls' => [qw(gone last)], '~vaani:call:*' => [qw(gone last list show stream)],
        'on' => \@all, '>secret' => \@all,
    );
    same_words([ keys %fails ], [ grep { !/^(?:reset|-)/ } @$calls ], 'what it may do');

    for my $word ('', sort keys %fails) {
        set_user('calls', without($word, @$calls));
        local $ENV{VAANI_REDIS_PASSWORD} = PASSWORD;
        my %exit = map { $_ => (run([ $^X, $tool, '--redis', $url, @{ $does{$_} } ]))[0] } @all;
        is_deeply [ grep { $exit{$_} == 4 } @all ], $fails{$word} // [], $word eq '' ? 'they are enough' : "without $word";
        is_deeply [ grep { $exit{$_} != 4 && $exit{$_} != ($_ eq 'gone' ? 1 : 0) } @all ], [], '... all else works';
    }

    set_user('calls', @$calls);
    my $client = $redis->client(user => 'calls', password => PASSWORD);
    refused($client, @$_) for
        [qw(HSET vaani:call:r status ended)], [qw(DEL vaani:call:r)], [qw(ZADD vaani:active 1 r)], [qw(ZREM vaani:active r)],
        [qw(XADD vaani:stream * a 1)], [qw(XDEL vaani:stream 1000-0)], [qw(HGETALL vaani:call:r)], [qw(HMGET other:call:r status)],
        [qw(ZRANGE other:active 0 1)], [qw(KEYS *)], [qw(SCAN 0)], [qw(SUBSCRIBE vaani:events)], [qw(EVAL return 0)], [qw(FLUSHALL)];
};

# --- programs with a consumer group: t/examples/examples.t runs one

subtest 'a program with a consumer group' => sub {
    $admin->cmd('FLUSHALL');
    my $id = $admin->cmd(qw(XADD vaani:stream * message {}));

    my $create = sub ($c) { $c->()->try_cmd(qw(XGROUP CREATE vaani:stream crm 0 MKSTREAM)) };
    my %does = (
        'on' => sub ($c) { $c->() }, '>secret' => sub ($c) { $c->() },
        '~vaani:stream' => sub ($c) { $c->()->cmd(qw(XACK vaani:stream crm 1-1)); 1 },
        '+xgroup|create' => sub ($c) {
            my (undef, $error) = $create->($c);
            die "$error\n" if ($error // '') =~ /NOPERM/;
            1;
        },
        '+xreadgroup' => sub ($c) { $c->()->cmd(qw(XREADGROUP GROUP crm worker-1 STREAMS vaani:stream >)); 1 },
        '+xpending' => sub ($c) { $c->()->cmd(qw(XPENDING vaani:stream crm - + 10)) },
        '+xautoclaim' => sub ($c) { $c->()->cmd(qw(XAUTOCLAIM vaani:stream crm worker-2 0 0)) },
        '+xclaim' => sub ($c) { $c->()->cmd(qw(XCLAIM vaani:stream crm worker-2 0 0-0 JUSTID)); 1 },
        '+xinfo|consumers' => sub ($c) { $c->()->cmd(qw(XINFO CONSUMERS vaani:stream crm)) },
        '+xgroup|delconsumer' => sub ($c) { $c->()->cmd(qw(XGROUP DELCONSUMER vaani:stream crm nobody)); 1 },
        '+eval' => sub ($c) { $c->()->cmd('EVAL', 'return 1', 0) },
        '~vaani:call:*' => sub ($c) { $c->()->cmd(qw(HMGET vaani:call:r status)); 1 },
        '+hmget' => sub ($c) { $c->()->cmd(qw(HMGET vaani:call:r status)); 1 },
        '+xack' => sub ($c) { $c->()->cmd(qw(XACK vaani:stream crm), $id); 1 },
    );
    same_words([ keys %does ], [ grep { !/^(?:reset|-)/ } @$group ], 'what it may do');

    set_user('crm', @$group);
    my $connect = sub () { return $redis->client(user => 'crm', password => PASSWORD) };
    is_deeply [ $create->($connect) ], [ 'OK', undef ], 'the group is created';
    is $connect->()->cmd(qw(XREADGROUP GROUP crm worker-1 STREAMS vaani:stream >))->[0][1][0][0], $id, '... and reads';
    is $connect->()->cmd(qw(XAUTOCLAIM vaani:stream crm worker-2 0 0))->[1][0][0], $id, '... another one takes over';
    is $connect->()->cmd(qw(XPENDING vaani:stream crm - + 10))->[0][3], 2, '... at the second try';
    is $connect->()->cmd(qw(XACK vaani:stream crm), $id), 1, '... and is done';

    for my $word (sort keys %does) {
        set_user('crm', @$group);
        ok eval { $does{$word}->($connect) }, "$word is used" or diag $@;
        set_user('crm', without($word, @$group));
        ok !eval { $does{$word}->($connect) }, '... and needed';
        like $@, qr/NOPERM|WRONGPASS/, '... for that';
    }

    set_user('crm', @$group);
    my $client = $connect->();
    refused($client, @$_) for
        [qw(XADD vaani:stream * a 1)], [ qw(XDEL vaani:stream), $id ], [qw(XTRIM vaani:stream MAXLEN 0)],
        [qw(DEL vaani:stream)], [qw(XGROUP DESTROY vaani:stream crm)], [qw(XINFO STREAM vaani:stream)],
        [qw(XGROUP SETID vaani:stream crm 0)], [qw(XREADGROUP GROUP crm a STREAMS other >)], [qw(XACK other crm 1-1)],
        [qw(XGROUP CREATE other crm 0 MKSTREAM)], [qw(HSET vaani:call:r status ended)], [qw(HMGET other:call:r status)],
        [qw(SUBSCRIBE vaani:events)],
        [qw(PUBLISH vaani:events x)], [qw(EVALSHA x 0)], [qw(FLUSHALL)], [qw(KEYS *)], [qw(CONFIG GET *)];
    # Redis has several words for it.
    for my $command ([qw(DEL vaani:stream)], [qw(HSET vaani:call:r status ended)], [qw(HMGET other:call:r status)]) {
        my ($name, $key, @arguments) = @$command;
        my $script = "return redis.call('$name', KEYS[1], unpack(ARGV))";
        my ($reply, $error) = $client->try_cmd('EVAL', $script, 1, $key, @arguments);
        like $error // "done: $reply", qr/NOPERM|ACL failure|can't (?:run|access)/i, "refused in a script: @$command";
    }
    is $admin->cmd(qw(XLEN vaani:stream)), 1, 'the stream is as it was';
};

# --- programs that forward a stream: t/examples/onward.t runs two

subtest 'a program that forwards a stream' => sub {
    $admin->cmd('FLUSHALL');
    my $id = $admin->cmd(qw(XADD vaani:stream * message {}));
    $admin->cmd(qw(XGROUP CREATE vaani:stream onward 0));

    my $xadd = sub ($c) { $c->()->cmd(qw(XADD vaani:stream:dead MAXLEN ~ 10 * message {})) };
    my $xack = sub ($c) { $c->()->cmd(qw(XACK vaani:stream onward 1-1)); 1 };
    my %does = (
        'on' => sub ($c) { $c->() }, '>secret' => sub ($c) { $c->() },
        '~vaani:stream' => $xack, '+xack' => $xack, '~vaani:stream:dead' => $xadd, '+xadd' => $xadd,
        '+xgroup|create' => sub ($c) {
            my (undef, $error) = $c->()->try_cmd(qw(XGROUP CREATE vaani:stream onward 0 MKSTREAM));
            die "$error\n" if $error !~ /^BUSYGROUP/;
            1;
        },
        '+xgroup|delconsumer' => sub ($c) { $c->()->cmd(qw(XGROUP DELCONSUMER vaani:stream onward nobody)); 1 },
        '+xreadgroup' => sub ($c) { $c->()->cmd(qw(XREADGROUP GROUP onward one STREAMS vaani:stream >)); 1 },
        '+xautoclaim' => sub ($c) { $c->()->cmd(qw(XAUTOCLAIM vaani:stream onward two 0 0)) },
        '+xclaim' => sub ($c) { $c->()->cmd(qw(XCLAIM vaani:stream onward two 0 0-0 JUSTID)); 1 },
        '+xpending' => sub ($c) { $c->()->cmd(qw(XPENDING vaani:stream onward - + 10 one)); 1 },
        '+xrange' => sub ($c) { $c->()->cmd(XRANGE => 'vaani:stream', $id, $id) },
    );
    same_words([ keys %does ], [ grep { !/^(?:reset|-)/ } @$onward ], 'what it may do');

    my $connect = sub () { return $redis->client(user => 'onward', password => PASSWORD) };
    for my $word (sort keys %does) {
        set_user('onward', @$onward);
        ok eval { $does{$word}->($connect) }, "$word is used" or diag $@;
        set_user('onward', without($word, @$onward));
        ok !eval { $does{$word}->($connect) }, '... and needed';
        like $@, qr/NOPERM|WRONGPASS/, '... for that';
    }

    set_user('onward', @$onward);
    refused($connect->(), @$_) for
        [ qw(XDEL vaani:stream), $id ], [qw(XTRIM vaani:stream MAXLEN 0)], [qw(DEL vaani:stream)],
        [qw(XGROUP DESTROY vaani:stream onward)], [qw(XGROUP SETID vaani:stream onward 0)], [qw(XADD other * a 1)],
        [qw(XRANGE other - +)], [qw(HMGET vaani:call:r status)], [qw(EVAL return 0)], [qw(PUBLISH vaani:events x)];
};

done_testing;
