# The Redis client: how it connects, what it makes of every way in which a
# Redis can fail, and that it comes back by itself.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use IO::Socket::IP ();
use JSON::PP qw(decode_json);
use POSIX ();
use Socket qw(AF_INET SOCK_DGRAM inet_aton pack_sockaddr_in unpack_sockaddr_in);
use Vaani::Test::Endpoint;
use Vaani::Test::Events;
use Vaani::Test::FakeRedis;
use Vaani::Test::HTTP qw(format_request);
use Vaani::Test::Process;

# The script's result for a call's first event, see transition.lua.
use constant REPLY => ':' . (1 * 256 + 0 * 16 + 2) . "\r\n";

use constant SHORT => 'vaani_redis_connect_timeout 300ms; vaani_redis_timeout 300ms;';
use constant LONG => 'vaani_redis_connect_timeout 20s; vaani_redis_timeout 20s;';

sub key ($room) { return "vaani:call:$room" }

# "ok", "duplicate", "503", or what is not as it should be.
sub answer ($response) {
    my ($status, $body) = ($response->status, $response->body);

    return $1 if "$status $body" =~ /^200 \{"status":"(\w+)"(?:,"known":false)?\}\n\z/;
    return "$status $body" if $status != 503;
    return '503 without Retry-After' if ($response->header('Retry-After') // '') !~ /^[1-9]\d?$/;
    return '503 of another type' if $response->header('Content-Type') ne 'application/problem+json';
    return '503 that closes' if !$response->keepalive;
    return '503';
}

sub post ($nginx, $body = an_event(), $uri = '/vaani') {
    return answer(($nginx->{client} //= $nginx->http)->post($uri, $body));
}

# How long it took, s.
sub timed ($code) {
    my $start = now;
    my @result = $code->();
    return (now() - $start, @result);
}

# Many events, so that a timeout for each would show even where a single one
# might be slow for other reasons.
sub refused_at_once ($nginx, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($time, %answers) = timed(sub { map { (post($nginx) => 1) } 1 .. 20 });
    is_deeply \%answers, { 503 => 1 }, $name;
    return cmp_ok $time, '<', 3, sprintf '... at once (20 in %.3f s)', $time;
}

# Events are taken again, without help.
sub recovers ($nginx, $name = 'recovers by itself', $uri = '/vaani') {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $body = an_event();
    my $answer;
    return ok(wait_for(sub { ($answer = post($nginx, $body, $uri)) =~ /^(?:ok|duplicate)$/ }, 10), $name)
        || diag("$answer\n", first_lines(split /^/, $nginx->error_log));
}

# Whether the log has such an error, with what it means, for people.
sub explained ($nginx, $regex, $name = 'the log explains it') {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok(defined $nginx->wait_log(qr/\[error\].*vaani: .*$regex/, 5), $name)
        || diag(first_lines(grep { /vaani:/ } split /^/, $nginx->error_log));
}

sub first_lines (@lines) { return join '', @lines > 10 ? (@lines[ 0 .. 9 ], "...\n") : @lines }

sub keeps_secret ($nginx, $secret) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return unlike $nginx->error_log . $nginx->stderr_log, qr/\Q$secret\E/, 'the logs do not tell the password';
}

sub answers (@clients) {
    my %answers;
    $answers{ answer($_->read_response) }++ for @clients;
    return \%answers;
}

# One Redis comes late: at the end of this file.
my $late_redis = Vaani::Test::Redis->start;
$late_redis->stop;
my $late_nginx = big_endpoint("vaani_redis @{[ $late_redis->url ]};");

# --- authentication

subtest 'a password' => sub {
    my $password = 'pa:s%s@w/o?r#d';
    my $redis = Vaani::Test::Redis->start(tcp => 1, password => $password);
    my $host = '127.0.0.1:' . $redis->port;

    spew(tmpdir() . "/password$_->[0]", $_->[1]) for [ 1, $password ], [ 2, "$password\r\nnot this\n" ];
    chmod 0600, glob tmpdir() . '/password?';

    my $nginx = big_endpoint('', locations => join "\n",
        map { "location = /$_->[0] { vaani_webhook; $_->[1] }" }
        [ url  => "vaani_redis redis://:pa%3As%25s%40w%2Fo%3Fr%23d\@$host;" ],
        [ user => "vaani_redis redis://default:pa%3as%25s%40w%2fo%3fr%23d\@$host;" ],
        [ file => "vaani_redis redis://$host; vaani_redis_password_file %%TMPDIR%%/password1;" ],
        [ crlf => "vaani_redis redis://default\@$host; vaani_redis_password_file %%TMPDIR%%/password2;" ],
        [ unix => "vaani_redis unix:@{[ $redis->socket ]}; vaani_redis_password_file %%TMPDIR%%/password1;" ],
        [ none => "vaani_redis unix:@{[ $redis->socket ]};" ],
    );

    is post($nginx, an_event(), "/$_"), 'ok', $_ for qw(url user file crlf unix);
    is post($nginx, an_event(), '/none'), '503', 'none';
    explained($nginx, qr/NOAUTH.*vaani_redis_password_file/);
    keeps_secret($nginx, $password);
    keeps_secret($nginx, 'pa%3');
};

subtest 'a user of an ACL' => sub {
    my $redis = Vaani::Test::Redis->start(tcp => 1, config => [
        'user default off',
        join(' ', 'user vaani on >se:cret', Vaani::Test::ACL::rights('vaani')),
        'user admin on >admin ~* &* +@all',
    ]);
    spew(tmpdir() . '/acl', "se:cret\n");
    chmod 0640, tmpdir() . '/acl';
    my $file = 'vaani_redis_password_file %%TMPDIR%%/acl;';
    my $unix = "vaani_redis unix:@{[ $redis->socket ]}?user=vaani; $file";

    my $nginx = big_endpoint('', locations => join "\n",
        map { "location = /$_->[0] { vaani_webhook; $_->[1] }" }
        [ url  => "vaani_redis redis://vaani:se:cret\@127.0.0.1:@{[ $redis->port ]};" ],
        [ file => "vaani_redis redis://vaani\@127.0.0.1:@{[ $redis->port ]}; $file" ],
        [ unix => $unix ],
        [ off  => "$unix vaani_ttl off;" ],
        [ other => "$unix vaani_prefix other; vaani_channel vaani:events;" ],
    );

    for my $uri (qw(/url /file /unix /off)) {
        my $room = new_room();
        is post($nginx, $_, $uri), 'ok', $uri
            for call_path('outbound-answered/transfer-failed-then-successful', $room);
    }

    is post($nginx, an_event(), '/other'), '503', 'a key that it may not write';
    explained($nginx, qr/NOPERM.*ACL/);
    my $admin = $redis->client(user => 'admin', password => 'admin');
    $admin->cmd('ACL', 'SETUSER', 'vaani', '~other:*');
    is post($nginx, an_event(), '/other'), 'ok', '... and then may';
    keeps_secret($nginx, 'se:cret');
};

subtest 'a wrong password, put right in Redis' => sub {
    my $redis = Vaani::Test::Redis->start(tcp => 1, password => 'another');
    my $nginx = big_endpoint("vaani_redis redis://:sesame\@127.0.0.1:@{[ $redis->port ]};");

    is post($nginx), '503', 'refused';
    explained($nginx, qr/WRONGPASS.*password/);
    like +($nginx->log_lines(qr/WRONGPASS/))[0], qr{redis://127\.0\.0\.1:@{[ $redis->port ]} }, '... and where';

    is post($nginx), '503', 'still refused' for 1 .. 20;
    cmp_ok scalar($nginx->log_lines(qr/\[(?:warn|error|crit)\].*vaani:/)), '<=', 3, 'without filling the log';

    my $admin = $redis->client;
    $admin->cmd('CONFIG', 'SET', 'requirepass', 'sesame');
    recovers($nginx);
    ok $nginx->wait_log(qr/vaani: connected to redis:/, 5), '... and says so';

    $admin->cmd('CONFIG', 'SET', 'requirepass', 'third');
    is post($nginx), 'ok', 'a connection outlives a change of the password';
    $admin->cmd('CLIENT', 'KILL', 'TYPE', 'normal');
    ok wait_for(sub { post($nginx) eq '503' }), '... its successor does not';
    $admin->cmd('CONFIG', 'SET', 'requirepass', 'sesame');
    recovers($nginx);

    keeps_secret($nginx, 'sesame');
};

# A refusal during the set-up of the connection does not concern a key.
for (
    [ 'a password that Redis has not' => 'redis://:sesame@127.0.0.1:%s', qr/AUTH|password/ ],
    [ 'a database that Redis has not' => 'redis://127.0.0.1:%s/16', qr/SELECT|database|DB/ ],
) {
    my ($name, $url, $why) = @$_;

    subtest $name => sub {
        my $redis = Vaani::Test::Redis->start(tcp => 1);
        my $nginx = big_endpoint('vaani_redis ' . sprintf($url, $redis->port) . ';');
        is post($nginx), '503', 'refused';
        explained($nginx, $why);
        $nginx->log_unlike(qr/unexpected type/, 'the log does not lead astray');
        keeps_secret($nginx, 'sesame');
    };
}

subtest 'too many clients' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $admin = $redis->client;
    $admin->cmd('CONFIG', 'SET', 'maxclients', 1);

    my $nginx = big_endpoint("vaani_redis @{[ $redis->url ]};");
    is post($nginx), '503', 'refused';
    explained($nginx, qr/clients|connection/);
    $nginx->log_unlike(qr/unexpected type/, 'the log does not lead astray');

    $admin->cmd('CONFIG', 'SET', 'maxclients', 100);
    recovers($nginx);
};

# --- where

subtest 'databases' => sub {
    my $redis = Vaani::Test::Redis->start(tcp => 1);
    my ($port, $socket) = ($redis->port, $redis->socket);
    my $nginx = big_endpoint('', locations => join "\n",
        map { "location = /$_->[0] { vaani_webhook; vaani_redis $_->[1]; }" }
        [ 0, "redis://127.0.0.1:$port" ], [ 1, "redis://127.0.0.1:$port/1" ], [ 2, "redis://localhost:$port/2" ],
        [ 3, "unix:$socket" . '?db=3' ], [ 15, "redis://127.0.0.1:$port/15" ],
        [ '0a', "redis://127.0.0.1:$port/0" ], [ '0b', "unix:$socket" . '?db=0' ], [ '0c', "unix:$socket" ],
    );

    for my $db (qw(0 1 2 3 15 0a 0b 0c)) {
        my $room = new_room();
        is post($nginx, an_event($room), "/$db"), 'ok', "database $db";
        my $client = $redis->client(db => $db =~ s/\D//gr);
        is $client->cmd('EXISTS', key($room)), 1, '... has the call';
    }

    # A lost connection is set up again completely.
    $redis->client->cmd('CLIENT', 'KILL', 'TYPE', 'normal');
    my $room = new_room();
    wait_for(sub { post($nginx, an_event($room), '/15') ne '503' });
    is $redis->client(db => 15)->cmd('EXISTS', key($room)), 1, 'also after a reconnect';
};

SKIP: {
    skip 'no IPv6', 1 if slurp('/proc/net/if_inet6') !~ /^0{31}1 /m;

    subtest 'IPv6' => sub {
        my $redis = Vaani::Test::Redis->start(tcp => 1, config => ['bind ::1']);
        my $nginx = big_endpoint("vaani_redis redis://[::1]:@{[ $redis->port ]}/1;");
        is post($nginx), 'ok', 'delivered';
    };
}

subtest 'two Redis' => sub {
    my ($one, $two) = map { Vaani::Test::Redis->start } 1, 2;
    my $nginx = big_endpoint("vaani_redis @{[ $one->url ]};",
        locations => "location = /two { vaani_webhook; vaani_redis @{[ $two->url ]}; }");

    my $room = new_room();
    is post($nginx, an_event($room)), 'ok', 'to the one';
    is post($nginx, event('call_ended', room => $room), '/two'), 'ok', 'to the other';
    is $one->client->cmd('HGET', key($room), 'last_event'), 'call_started', 'one has its event';
    is $two->client->cmd('HGET', key($room), 'last_event'), 'call_ended', 'the other, too';

    $one->kill;
    ok wait_for(sub { post($nginx) eq '503' }), 'one is gone';
    is post($nginx, an_event(), '/two'), 'ok', '... the other is not';
    $two->suspend;
    $one->restart;
    recovers($nginx, 'one is back, the other hangs');
    $two->resume;
};

subtest 'vaani_redis_connections' => sub {
    my $redis = Vaani::Test::Redis->start(acl => [ Vaani::Test::ACL::with_prefix('other') ]);
    my $client = $redis->client;
    my $connections = sub () {
        return grep { !/cmd=client/ } split /\n/, $client->cmd('CLIENT', 'LIST', 'TYPE', 'normal');
    };

    # The same settings elsewhere mean the same connections.
    my $nginx = big_endpoint(
        "vaani_redis @{[ $redis->url ]}; vaani_redis_connections 4;",
        locations => "location = /other { vaani_webhook; vaani_prefix other; }",
    );
    post($nginx);
    ok wait_for(sub { $connections->() == 4 }), 'four connections';

    is_deeply { map { (post($nginx, an_event(), '/other') => 1) } 1 .. 100 }, { ok => 1 }, 'a hundred rooms';
    is scalar($connections->()), 4, 'still four';
    is scalar(grep { /cmd=evalsha/ } $connections->()), 4, '... all of them used';

    # 5 rooms, 16 events each, given to the worker in this order.
    my @rooms = map { new_room() } 1 .. 5;
    my @bodies = map { my $n = $_; map { event('call_ended', room => $_, n => $n) } @rooms } 1 .. 16;
    my $subscriber = $redis->client->subscribe('vaani:events');
    is_deeply answers(at_once($nginx, @bodies)), { ok => 80 }, 'many at once';

    my %order;
    for (map { decode_json($_->{payload}) } $subscriber->next_messages(80)) {
        push @{ $order{ $_->{room_name} } }, $_->{payload}{n};
    }
    is "@{ $order{$_} }", join(' ', 1 .. 16), "order of $_" for @rooms;

    # One lost connection concerns the others not.
    for my $address (map { /\bid=(\d+)/ } $connections->()) {
        $client->cmd('CLIENT', 'KILL', 'ID', $address);
        is_deeply { map { (post($nginx) => 1) } 1 .. 20 }, { ok => 1 }, 'one is killed';
    }
    is scalar($connections->()), 4, 'four again';
};

subtest 'one write for all that came together' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $client = $redis->client;
    my $nginx = big_endpoint("vaani_redis @{[ $redis->url ]};");
    post($nginx);

    my $stats = sub () {
        my %info = $client->cmd('INFO', 'stats') =~ /^(total_(?:reads|writes)_processed):(\d+)/mg;
        return @info{qw(total_reads_processed total_writes_processed)};
    };

    # Calls of writev(), of which each answer is one; the log has a few.
    my ($worker) = $nginx->worker_pids;
    my $calls = sub () { return slurp("/proc/$worker/io") =~ /^syscw: (\d+)/m ? $1 : undef };

    my $calls_before = $calls->();
    my @before = $stats->();
    my @clients = at_once($nginx, map { event('call_ringing', room => new_room()) } 1 .. 64);
    is_deeply answers(@clients), { ok => 64 }, '64 at once';
    my @after = $stats->();

    # Redis reads 16 kB at a time; INFO itself is one.
    my ($reads, $writes) = map { $after[$_] - $before[$_] - 1 } 0, 1;
    cmp_ok $reads, '<=', 8, "Redis sees them in $reads reads";
    cmp_ok $writes, '<=', 8, "... and answers with $writes writes";

    SKIP: {
        skip 'no /proc/PID/io', 1 if !defined $calls_before;
        my $written = $calls->() - $calls_before - 64 - 64;    # as many to get accepted
        cmp_ok $written, '<=', 16, "nginx writes $written times besides its answers";
    }
};

# --- the script

subtest 'SCRIPT FLUSH' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $client = $redis->client;
    my $nginx = big_endpoint("vaani_redis @{[ $redis->url ]};");
    is post($nginx), 'ok', 'before';

    $client->cmd('SCRIPT', 'FLUSH');
    my $room = new_room();
    is post($nginx, an_event($room)), 'ok', 'after';
    is $client->cmd('HGET', key($room), 'seq'), 1, '... once';

    for (1 .. 20) {
        $client->cmd('SCRIPT', 'FLUSH');
        my $room = new_room();
        is_deeply answers(at_once($nginx, map { event('human_transfer_failed', room => $room, n => $_) } 1 .. 10)),
            { ok => 10 }, 'ten at once';
        is $client->cmd('HGET', key($room), 'transfers_failed'), 10, '... each once';
    }

    # Less often than there are events under way: one that misses the script
    # three times is given up.
    my $answers = 0;
    my @statuses = post_many($nginx, '/vaani', [ map { an_event() } 1 .. 2000 ],
        on_response => sub { $client->cmd('SCRIPT', 'FLUSH') if ++$answers % 100 == 0 });
    is scalar(grep { $_ != 200 } @statuses), 0, 'under load';
    $nginx->log_unlike(qr/\[(?:warn|error)\]/, 'nothing to complain about');
};

subtest 'a Redis that forgets the script each time' => sub {
    my $fake = fake(sub ($sock, @) { send_bytes($sock, "-NOSCRIPT No matching script.\r\n") });
    my $nginx = big_endpoint("vaani_redis @{[ $fake->url ]};");

    is post($nginx), '503', 'refused in the end';
    my @attempts;
    push @attempts, $_ while defined($_ = $fake->next_report(0.05));
    my $attempts = grep { /EVALSHA/ } @attempts;
    ok $attempts >= 2 && $attempts <= 5, "after $attempts attempts";
    explained($nginx, qr/NOSCRIPT/);
};

# --- a Redis that becomes unreachable

subtest 'kill -9 under load, and restart' => sub {
    my $redis = Vaani::Test::Redis->start(acl => [qw(~events +xadd)], config => [ 'appendonly yes', 'appendfsync always' ]);
    my $nginx = big_endpoint("vaani_redis @{[ $redis->url ]}; vaani_stream events;");

    # Among them transfers, of which an equal one may be a new attempt.
    my @bodies = map {
        event($_ % 2 ? 'human_transfer_failed' : 'call_ended', room => $_ % 3 ? new_room() : 'shared', n => $_)
    } 0 .. 2999;
    my $responses = 0;
    my @answers;
    post_many($nginx, '/vaani', \@bodies, connections => 16, on_response => sub ($i, $response) {
        $answers[$i] = answer($response);
        if (++$responses % 1000 == 500) {
            $redis->kill;
            is post($nginx), '503', 'refused while it is away' for 1 .. 3;
            $redis->restart;
            recovers($nginx);
        }
    });

    my %answers;
    $answers{$_}++ for @answers;
    is_deeply [ grep { !/^(?:ok|duplicate|503)$/ } keys %answers ], [], 'each event is either taken or refused'
        or diag explain \%answers;
    cmp_ok $answers{ok}, '>', 2000, "$answers{ok} are taken";

    my $count = stream_counts($redis);
    is_deeply [ grep { $answers[$_] ne '503' && ($count->{$_} // 0) != 1 } 0 .. $#bodies ], [],
        'what was taken was applied, once';
    is_deeply [ grep { ($count->{$_} // 0) > 1 } 0 .. $#bodies ], [], 'what was refused, not more than once';
    is $redis->client->cmd('HGET', key('shared'), 'seq'), scalar(grep { $_ % 3 == 0 && $count->{$_} } 0 .. $#bodies),
        'seq of a room with many';

    # The sender repeats what was refused.
    my @again = grep { $answers[$_] eq '503' && $_ % 3 } 0 .. $#bodies;
    is_deeply [ grep { $_ != 200 } post_many($nginx, '/vaani', [ @bodies[@again] ]) ], [], 'repeated';
    $count = stream_counts($redis);
    is_deeply [ grep { $_ % 3 && ($count->{$_} // 0) != 1 } 0 .. $#bodies ], [], '... now each is applied once';
};

subtest 'absent at the start' => sub {
    for my $tcp (0, 1) {
        my $redis = Vaani::Test::Redis->start(tcp => $tcp);
        my $url = $redis->url;
        $redis->stop;

        my ($ok, $output) = Vaani::Test::Nginx->check(
            http => "server { listen unix:%%SOCK%%; location / { vaani_webhook; vaani_redis $url; } }");
        ok $ok, "nginx -t, $url" or diag $output;

        my $nginx = big_endpoint("vaani_redis $url;");
        refused_at_once($nginx, 'refused');
        explained($nginx, qr/is unreachable/);
        cmp_ok scalar($nginx->log_lines(qr/\[(?:warn|error|crit)\]/)), '<=', 2, '... once';

        $redis->restart;
        recovers($nginx);
    }
};

subtest 'a Redis that hangs' => sub {
    for my $tcp (0, 1) {
        my $redis = Vaani::Test::Redis->start(tcp => $tcp);

        # Without a timeout of the set-up worth the name, it must be the hanging
        # connection that lets later events not wait for the next one.
        my $timeouts = $tcp ? SHORT =~ s/connect_timeout \K300ms/20s/r : SHORT;
        my $nginx = big_endpoint("vaani_redis @{[ $redis->url ]}; $timeouts");
        post($nginx);

        my $room = new_room();
        $redis->suspend;
        my ($time, $answer) = timed(sub { post($nginx, an_event($room)) });
        is $answer, '503', $redis->url;
        ok $time > 0.25 && $time < 5, sprintf '... after the timeout (%.2f s)', $time;
        refused_at_once($nginx, 'later ones');

        if (!$tcp) {
            # Past the timeout of the connection that is set up now.
            ok $nginx->wait_log(qr/did not complete the connection setup in time/), 'a new connection is not answered either';
            refused_at_once($nginx, 'more');
        }

        $redis->resume;
        recovers($nginx);

        # A sent event may have been applied meanwhile.
        like post($nginx, an_event($room)), qr/^(?:ok|duplicate)$/, 'repeated';
        is $redis->client->cmd('HGET', key($room), 'seq'), 1, '... applied once';

        $redis->suspend;
        ($time, my $answers) = timed(sub { answers(at_once($nginx, map { an_event() } 1 .. 64)) });
        is_deeply $answers, { 503 => 64 }, '64 that are under way';
        cmp_ok $time, '<', 5, sprintf '... after the timeout (%.2f s)', $time;
        $redis->resume;
        recovers($nginx);
    }
};

subtest 'a Redis that hangs for less than the timeout' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $nginx = big_endpoint("vaani_redis @{[ $redis->url ]}; " . LONG);
    post($nginx);

    $redis->suspend;
    my @clients = at_once($nginx, map { an_event() } 1 .. 64);
    ok wait_for(sub { $nginx->http->get('/writing')->body == 1 + 64 }), 'under way';
    $redis->resume;
    is_deeply answers(@clients), { ok => 64 }, 'all are taken';
};

subtest 'more than may wait' => sub {
    my $redis = Vaani::Test::Redis->start(tcp => 1);
    my $nginx = big_endpoint("vaani_redis @{[ $redis->url ]}; " . LONG);
    post($nginx);
    $redis->suspend;

    # 64 MB may wait for a connection. Of these there are eight, because the
    # transcript goes there as a field and in the message.
    my @clients = map {
        my $client = $nginx->http;
        $client->send_raw(join '', format_request(method => 'POST', uri => '/vaani',
            body => event('call_postprocessing', room => new_room(), transcript => 'x' x 4_000_000)));
        $client;
    } 1 .. 20;

    my $answered = sub () { return grep { !$_->handle || Vaani::Test::Socket::wait_readable($_->handle, 0) } @clients };
    ok wait_for(sub { $answered->() >= 12 }, 10), 'what is too much is answered';
    my %answered = map { ($_ => 1) } $answered->();
    is_deeply answers(grep { $answered{$_} } @clients), { 503 => 12 }, '... refused';
    $redis->resume;
    is_deeply answers(grep { !$answered{$_} } @clients), { ok => 8 }, 'the others are taken';
    recovers($nginx);
};

# --- a Redis that refuses

subtest 'LOADING' => sub {
    my $redis = Vaani::Test::Redis->start(config => ['loading-process-events-interval-bytes 1024']);
    my $nginx = big_endpoint("vaani_redis @{[ $redis->url ]};");
    my $client = $redis->client;
    $client->pipeline(map { [ 'SET', "key$_", 'x' x 100 ] } 1 .. 2000);
    $client->cmd('SAVE');

    $redis->restart(crash => 1, config => [ 'loading-process-events-interval-bytes 1024', 'key-load-delay 10000' ]);
    like +($redis->client->try_cmd('GET', 'key1'))[1], qr/^LOADING \w+ is loading the dataset in memory$/, 'it loads';
    ok wait_for(sub { post($nginx) eq '503' }), 'refused';
    explained($nginx, qr/LOADING.*data set/);
    $redis->client->cmd('CONFIG', 'SET', 'key-load-delay', 0);
    recovers($nginx);
    is $redis->client->cmd('GET', 'key2000'), 'x' x 100, 'it has its data';
};

# How a Redis comes into the state, and out of it; what the log says.
my %REFUSALS = (
    READONLY => {
        into => sub ($client, @) { $client->cmd('REPLICAOF', '127.0.0.1', 1) },
        out  => sub ($client, @) { $client->cmd('REPLICAOF', 'NO', 'ONE') },
        log  => qr/READONLY.*master/,
    },
    MASTERDOWN => {
        config => ['replica-serve-stale-data no'],
        into   => sub ($client, @) { $client->cmd('REPLICAOF', '127.0.0.1', 1) },
        out    => sub ($client, @) { $client->cmd('REPLICAOF', 'NO', 'ONE') },
        log    => qr/MASTERDOWN.*master/,
    },
    OOM => {
        into => sub ($client, @) { $client->cmd('CONFIG', 'SET', 'maxmemory', 1) },
        out  => sub ($client, @) { $client->cmd('CONFIG', 'SET', 'maxmemory', 0) },
        log  => qr/OOM.*maxmemory/,
    },
    MISCONF => {
        config => ['save 3600 1000'],
        # A directory is where the file should be.
        into   => sub ($client, $redis, @) {
            mkdir $redis->dir . '/dump.rdb';
            $client->cmd('BGSAVE');
            wait_for(sub { $client->cmd('INFO', 'persistence') =~ /^rdb_last_bgsave_status:err/m });
        },
        out => sub ($client, $redis) {
            rmdir $redis->dir . '/dump.rdb';
            $client->cmd('BGSAVE');
            wait_for(sub { $client->cmd('INFO', 'persistence') =~ /^rdb_last_bgsave_status:ok/m });
        },
        log => qr/MISCONF.*disk/,
    },
    NOREPLICAS => {
        into => sub ($client, @) { $client->cmd('CONFIG', 'SET', 'min-replicas-to-write', 1) },
        out  => sub ($client, @) { $client->cmd('CONFIG', 'SET', 'min-replicas-to-write', 0) },
        log  => qr/NOREPLICAS.*replicas/,
    },
    BUSY => {
        config => ['lua-time-limit 10'],
        into   => sub ($client, $redis, $busy) {
            $busy->('EVAL', 'while true do end', 0);
            wait_for(sub { ($client->try_cmd('PING'))[1] });
        },
        out => sub ($client, @) {
            $client->cmd('SCRIPT', 'KILL');
            wait_for(sub { !($client->try_cmd('PING'))[1] });
        },
        log => qr/BUSY.*script/,
    },
);

for my $code (sort keys %REFUSALS) {
    subtest $code => sub {
        my %refusal = %{ $REFUSALS{$code} };
        my $redis = Vaani::Test::Redis->start(acl => [qw(~events +xadd)], config => $refusal{config} // []);
        my $client = $redis->client;
        my $nginx = big_endpoint("vaani_redis @{[ $redis->url ]}; vaani_stream events; " . LONG,
            locations => 'location = /plain { vaani_webhook; vaani_stream off; }');
        my $subscriber = $redis->client->subscribe('vaani:events');
        my $busy = $redis->client;

        my $room = new_room();
        is post($nginx, an_event($room)), 'ok', 'before';
        my $hash = $client->hgetall(key($room));
        $subscriber->next_message;

        $refusal{into}->($client, $redis, sub (@command) { $busy->send(@command) });

        my ($time, $answer) = timed(sub { post($nginx, event('call_ended', room => $room)) });
        is $answer, '503', 'refused';
        cmp_ok $time, '<', 5, '... without waiting for a timeout';
        is post($nginx, event('call_ended', room => $room)), '503', 'again';
        explained($nginx, $refusal{log});

        # Without a stream an unknown event writes nothing. On a replica its
        # message would not reach subscribers of the master.
        if ($code =~ /^(?:READONLY|MASTERDOWN)$/) {
            is answer($nginx->http->post('/plain', $_)), '503', 'an unknown event is refused, too'
                for event('brand_new', room => $room), '{"event":"brand_new"}', '{"event":"webhook_test"}';
        }

        # However many are refused, the log stays readable.
        my ($refused, $until) = (0, now() + 0.3);
        while (now() < $until) { $refused++ if post($nginx) eq '503' }
        my @lines = $nginx->log_lines(qr/\[(?:notice|warn|error|crit)\].*vaani:/);
        cmp_ok scalar(@lines), '<=', 10, "... in few words about $refused events" or diag first_lines(@lines);

        $refusal{out}->($client, $redis);
        recovers($nginx);
        is_deeply $client->hgetall(key($room)), $hash, 'the call was not changed meanwhile';
        is post($nginx, event('call_ended', room => $room)), 'ok', 'what was refused is no duplicate';
        is answer($nginx->http->post('/plain', '{"event":"brand_new"}')), 'ok', 'an unknown event is taken';
        my @events = map { decode_json($_->{payload})->{event} } $subscriber->next_messages(3, 1);
        is "@events", 'call_started call_ended brand_new', 'nothing was published meanwhile';
        is $client->cmd('XLEN', 'events'), 3, 'nor streamed';
    };
}

subtest 'the key of a call holds something else' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $nginx = big_endpoint("vaani_redis @{[ $redis->url ]};");
    my $client = $redis->client;

    my $room = new_room();
    $client->cmd('SET', key($room), 'x');
    is post($nginx, an_event($room)), '503', 'refused';
    explained($nginx, qr/WRONGTYPE.*key/);
    is $client->cmd('GET', key($room)), 'x', 'it is left alone';
    is post($nginx), 'ok', 'other calls go on';
    $client->cmd('DEL', key($room));
    is post($nginx, an_event($room)), 'ok', 'and this one, when it is gone';
};

# --- connections that are killed

subtest 'CLIENT KILL, 300 times' => sub {
    my $redis = Vaani::Test::Redis->start(acl => [qw(~events +xadd)]);
    my $client = $redis->client;
    my $nginx = big_endpoint("vaani_redis @{[ $redis->url ]}; vaani_stream events; " . LONG);
    my $kill = sub () { $client->cmd('CLIENT', 'KILL', 'TYPE', 'normal') };

    my %answers;
    for (1 .. 300) {
        $answers{ post($nginx) }++;
        $kill->();
    }
    is_deeply \%answers, { ok => 300 }, 'idle';

    # Between two of them, answers come over the new connection.
    $client->cmd('DEL', 'events');
    my @bodies = map {
        event($_ % 2 ? 'human_transfer_failed' : 'call_ended', room => $_ % 3 ? new_room() : 'shared', n => $_)
    } 0 .. 9099;
    my ($responses, $kills) = (0, 0);
    my @answers;
    post_many($nginx, '/vaani', \@bodies, connections => 8, on_response => sub ($i, $response) {
        $answers[$i] = answer($response);
        if (++$responses % 30 == 0) { $kill->(); $kills++ }
    });

    is_deeply [ grep { !/^(?:ok|duplicate)$/ } @answers ], [], "under load, $kills times";
    is_deeply stream_counts($redis), { map { ($_ => 1) } 0 .. $#bodies }, '... each event is applied once';
    is $client->cmd('HGET', key('shared'), 'seq'), scalar(grep { $_ % 3 == 0 } 0 .. $#bodies), '... seq';
    is post($nginx), 'ok', 'and on';
};

# Redis has applied them, nginx does not know: it sends them again.
for (
    [ 'one event' => [ call_ended => n => 1 ] ],
    [ 'equal ones' => ([ call_ended => n => 1 ]) x 3 ],
    [ 'different ones of a kind' => map { [ call_ended => call_duration => $_, n => $_ ] } 1 .. 4 ],
    [ 'a call' => map { [ $EVENTS[$_] => n => $_ ] } 0 .. $#EVENTS ],
    [ 'transfers' => map {
        my $n = $_;
        map { [ "human_transfer_$_" => n => "$n $_" ] } qw(initiated failed)
    } 1 .. 4 ],
) {
    my ($name, @events) = @$_;

    subtest "the replies are lost: $name" => sub {
        my $redis = Vaani::Test::Redis->start(acl => [qw(~events +xadd)]);
        my $cut = tmpdir() . '/cut';
        my $relay = Vaani::Test::FakeRedis->start(on_connect => sub ($sock, $self, $n) {
            relay($sock, $redis->socket, down => sub ($bytes) { $bytes =~ /^:/ && unlink($cut) ? undef : $bytes });
        });
        my $nginx = big_endpoint("vaani_redis @{[ $relay->url ]}; vaani_stream events; " . LONG);

        is post($nginx), 'ok', 'a good connection';
        $redis->client->cmd('DEL', 'events');

        spew($cut, '');
        my $room = new_room();
        my $answers = answers(at_once($nginx, map { event($_->[0], room => $room, @$_[ 1 .. $#$_ ]) } @events));
        ok !-e $cut, 'lost';
        is +($answers->{ok} // 0) + ($answers->{duplicate} // 0), scalar @events, 'all are taken'
            or diag explain $answers;

        my %expected = map { ($_->[-1] => 1) } @events;
        is_deeply stream_counts($redis), \%expected, '... each is applied once';
        is $redis->client->cmd('HGET', key($room), 'seq'), scalar(keys %expected), '... seq';
    };
}

subtest 'idle connections come back' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $client = $redis->client;
    my $nginx = big_endpoint("vaani_redis @{[ $redis->url ]};");
    post($nginx);

    my $connected = sub () {
        return $client->cmd('CLIENT', 'LIST', 'TYPE', 'normal') =~ /id=(\d+) .*cmd=(?:script|evalsha)/ ? $1 : undef;
    };
    for (1 .. 10) {
        my $id = wait_for($connected) or last;
        $client->cmd('CLIENT', 'KILL', 'ID', $id);
        ok wait_for(sub { ($connected->() // $id) != $id }), 'without any event';
    }
    is post($nginx), 'ok', 'and on';
};

# --- servers that are no Redis

# A server that lets itself be set up, and then answers events as told.
sub fake ($event, %opt) {
    return Vaani::Test::FakeRedis->start(%opt, on_connect => sub ($sock, $self, $n) {
        my $count = 0;
        while (my $command = read_command($sock)) {
            $self->report("$n $command->[0]");
            if ($command->[0] eq 'EVALSHA') {
                $event->($sock, $command, $self, $n, ++$count) or return;
            } else {
                send_bytes($sock, $command->[0] eq 'SCRIPT' ? '$40' . "\r\n" . 'a' x 40 . "\r\n" : "+OK\r\n");
            }
        }
    });
}

# Bytes from a server that continues, or closes the connection after them.
sub says ($bytes)       { return sub ($sock, @) { send_bytes($sock, $bytes); 1 } }
sub last_says ($bytes)  { return sub ($sock, @) { send_bytes($sock, $bytes); 0 } }

# Each is asked for one event, and then allowed to answer well.
subtest 'answers' => sub {
    my $good = tmpdir() . '/good';
    my @servers = (
        [ 'garbage' => says("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n") ],
        [ 'binary garbage' => says("\0\xff\x16\x03\x01\r\n") ],
        [ 'a type that is none' => says("?1\r\n") ],
        [ 'a number that is none' => says(":one\r\n") ],
        [ 'a number that the script never returns' => says(":1\r\n") ],
        [ 'a number that is too big' => says(":99999999999999999999\r\n") ],
        [ 'a length that is none' => says("\$x\r\nx\r\n") ],
        [ 'a negative length' => says("\$-2\r\n") ],
        [ 'half a reply, and the end' => last_says(':1') ],
        [ 'half a reply, and silence' => says(':1'), 'timeout' ],
        [ 'half a string, and silence' => says("\$100\r\nxxx"), 'timeout' ],
        [ 'half an array, and silence' => says("*2\r\n:1\r\n"), 'timeout' ],
        [ 'nothing, and the end' => last_says('') ],
        [ 'nothing, and silence' => says(''), 'timeout' ],
        [ 'a status' => says("+OK\r\n") ],
        [ 'a string' => says("\$5\r\nhello\r\n") ],
        [ 'an empty string' => says("\$0\r\n\r\n") ],
        [ 'a null' => says("\$-1\r\n") ],
        [ 'a null array' => says("*-1\r\n") ],
        [ 'an empty array' => says("*0\r\n") ],
        [ 'an array' => says("*2\r\n+a\r\n+b\r\n") ],
        [ 'an array of three' => says("*3\r\n:1\r\n+a\r\n+b\r\n") ],
        [ 'deep arrays' => says("*1\r\n" x 100 . ":1\r\n") ],
        [ 'an error without a code' => says("-\r\n") ],
        [ 'an error of one word' => says("-UNHEARD\r\n"), 'UNHEARD' ],
        [ 'an error of some length' => says('-ERR ' . 'x' x 100_000 . "\r\n"), 'ERR xxx' ],
        (map { [ "the error $_" => says("-$_ and why\r\n"), $_ ] } qw(
            LOADING BUSY OOM MISCONF NOREPLICAS CLUSTERDOWN TRYAGAIN MOVED ASK NOPERM MASTERDOWN READONLY NOAUTH
            WRONGPASS EXECABORT UNKILLABLE WRONGTYPE ERR
        )),
        [ 'an error inside of the script' => says('-ERR Error running script (call to f_a): '
                . "\@user_script:1: \@user_script: 1: -READONLY You can't write against a read only replica.\r\n"),
            'READONLY' ],
        # Refusals by the ACL inside the script, as 6.2, 7.0 and newer versions
        # word them.
        (map { [ "an ACL: $_" => says("-ERR $_\r\n"), 'NOPERM' ] }
            "Error running script (call to f_a): \@user_script:1: \@user_script: 1: "
                . "The user executing the script can't run this command or subcommand",
            "The user executing the script can't run this command or subcommand script: a, on \@user_script:1.",
            "ACL failure in script: User x has no permissions to run the 'hmget' command script: a, on \@user_script:1.",
            'ACL failure in script: No permissions to access a key script: on @user_script:1.'),
    );

    my $locations = '';
    for my $n (0 .. $#servers) {
        my (undef, $script, $expected) = @{ $servers[$n] };
        my $fake = fake(sub ($sock, @) { -e $good ? send_bytes($sock, REPLY) : $script->($sock) });
        push @{ $servers[$n] }, $expected // '' if @{ $servers[$n] } < 3;
        push @{ $servers[$n] }, $fake;
        $locations .= "location = /$n { vaani_webhook; vaani_redis @{[ $fake->url ]}; "
            . (($expected // '') eq 'timeout' ? SHORT : LONG) . " }\n";
    }
    my $nginx = big_endpoint('', locations => $locations);

    for my $n (0 .. $#servers) {
        my ($name, undef, $expected, $fake) = @{ $servers[$n] };

        my ($time, $answer) = timed(sub { post($nginx, an_event(), "/$n") });
        is $answer, '503', $name;
        cmp_ok $time, '<', 5, sprintf '... in time (%.2f s)', $time;
        cmp_ok $time, '>', 0.25, '... after the timeout' if $expected eq 'timeout';

        my @reports;
        push @reports, $_ while defined($_ = $fake->next_report(0));
        my $sent = grep { /EVALSHA/ } @reports;
        ok $sent >= 1 && $sent <= 3, "... sent $sent times";

        my @lines = $nginx->log_lines(qr/\[error\].*vaani: .*@{[ $fake->url ]} /);
        @lines = $nginx->log_lines(qr/\[error\].*vaani: Redis sent an unexpected reply/) if !@lines;
        ok scalar(@lines), '... logged';
        like "@lines", qr/answered "\Q$expected\E/, '... with the code' if $expected =~ /[A-Z]/;
        cmp_ok length($_), '<', 1000, '... in a short line' for @lines;
    }

    spew($good, '');
    for my $n (0 .. $#servers) {
        ok wait_for(sub { post($nginx, an_event(), "/$n") eq 'ok' }), "recovers from $servers[$n][0]";
    }
};

# A connection that was good before is given another chance, but not for ever.
for (
    [ 'garbage' => says("garbage\r\n") ],
    [ 'the end' => last_says('') ],
    [ 'half a reply and the end' => last_says(':') ],
) {
    my ($name, $script) = @$_;

    subtest "answers well at first, then with $name" => sub {
        my $fake = fake(sub ($sock, $command, $self, $n, $count) {
            return "@$command" =~ /room-good/
                ? send_bytes($sock, REPLY)
                : $script->($sock);
        });
        my $nginx = big_endpoint("vaani_redis @{[ $fake->url ]}; " . SHORT);

        is post($nginx, an_event('room-good')), 'ok', 'good';
        while (defined(my $report = $fake->next_report(0.02))) { }

        # Other events that wait are delayed only for a moment.
        my @clients = at_once($nginx, an_event('room-bad'), map { an_event("room-good-$_") } 1 .. 5);
        my $answers = answers(@clients);
        is $answers->{503} // 0, 6 - ($answers->{ok} // 0), 'taken or refused';
        cmp_ok $answers->{503} // 0, '>=', 1, '... the bad one is refused';

        my @reports;
        while (defined(my $report = $fake->next_report(0.05))) { push @reports, $report }
        my $commands = grep { /EVALSHA/ } @reports;
        # three times with the bad one, and once without it
        cmp_ok $commands, '<=', 4 * 6, "... after $commands commands";
        ok wait_for(sub { post($nginx, an_event('room-good')) eq 'ok' }), 'and on';
    };
}

subtest 'a reply to nothing' => sub {
    my $fake = fake(sub ($sock, $command, $self, $n, $count) {
        send_bytes($sock, REPLY() x ($count == 2 ? 3 : 1));
    });
    my $nginx = big_endpoint("vaani_redis @{[ $fake->url ]}; " . LONG);

    for (1 .. 6) {
        is post($nginx), 'ok', 'the event has its reply';
        ok $nginx->wait_log(qr/sent an unexpected reply/), '... the next one has not' if $_ == 2;
    }
};

subtest 'a reply before the command is there' => sub {
    my $fake = Vaani::Test::FakeRedis->start(on_connect => sub ($sock, $self, $n) {
        read_command($sock) // return;
        send_bytes($sock, '$40' . "\r\n" . 'a' x 40 . "\r\n");
        sysread $sock, my $some, 1000;
        send_bytes($sock, REPLY);
        $self->report('early');
        select undef, undef, undef, 5;
    });
    my $nginx = big_endpoint("vaani_redis @{[ $fake->url ]}; " . SHORT);

    is post($nginx, event('call_postprocessing', transcript => 'x' x 10_000_000)), '503', 'is no reply to it';
    is $fake->next_report, 'early', '... which it was';
};

# The worst-case cost of a reply for the worker.
for (
    [ 'a string of 2 GB' => '$2000000000' . "\r\n", 'x' x 65536 ],
    [ 'a line without an end' => ':', '1' x 65536 ],
    [ 'an error without an end' => '-ERR ', 'x' x 65536 ],
    [ 'an array without an end' => "*2000000000\r\n", ":1\r\n" x 16384 ],
    [ 'strings without an end' => "*2000000000\r\n", "\$1000\r\n" . 'x' x 1000 . "\r\n" ],
    [ 'arrays of arrays' => "*100000000\r\n" x 7, "*100000000\r\n" ],
) {
    my ($name, $head, $more) = @$_;

    subtest "a very long reply: $name" => sub {
        my $fake = fake(sub ($sock, $command, $self, @) {
            my $sent = send_bytes($sock, $head);
            for (1 .. 24 * 1024 * 1024 / length $more) {
                $sent &&= send_bytes($sock, $more) or last;
            }
            $self->report($sent ? 'all was taken' : 'cut');
            return 0;
        });
        my $nginx = big_endpoint("vaani_redis @{[ $fake->url ]}; " . LONG);
        my ($worker) = $nginx->worker_pids;
        my $memory = sub () { return slurp("/proc/$worker/status") =~ /^VmHWM:\s*(\d+) kB/m ? $1 / 1024 : 0 };
        my $cpu = sub () {
            my @ticks = (split ' ', slurp("/proc/$worker/stat") =~ s/.*\) //sr)[ 11, 12 ];
            return ($ticks[0] + $ticks[1]) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
        };

        my ($memory_before, $cpu_before) = ($memory->(), $cpu->());
        is post($nginx), '503', 'refused';
        my ($growth, $time) = ($memory->() - $memory_before, $cpu->() - $cpu_before);
        my $end;
        do { $end = $fake->next_report // 'nothing' } while $end =~ /^\d+ /;
        is $end, 'cut', '... before its end';
        cmp_ok $growth, '<', 32, sprintf '... for %.1f MB', $growth;
        cmp_ok $time, '<', 0.5, sprintf '... and %.2f s of CPU time', $time;
        is_deeply [ $nginx->worker_pids ], [$worker], '... and the worker lives';
    };
}

subtest 'closes after it has accepted' => sub {
    my $fake = Vaani::Test::FakeRedis->start(
        tcp        => 1,
        on_connect => sub ($sock, $self, $n) { $self->report('closed') },
    );
    my $nginx = big_endpoint("vaani_redis @{[ $fake->url ]};");

    is $fake->next_report, 'closed', 'tried';
    is post($nginx), '503', 'refused' for 1 .. 10;
    explained($nginx, qr/closed/);
    is $fake->next_report, 'closed', 'tried again' for 1 .. 3;

    # Not in a hurry.
    my $n = 0;
    my $until = now() + 0.5;
    while ((my $left = $until - now()) > 0) { $n++ if defined $fake->next_report($left) }
    cmp_ok $n, '<', 25, "$n attempts in half a second";
    cmp_ok scalar($nginx->log_lines(qr/\[(?:warn|error|crit)\]/)), '<=', 2, 'one line about it';
};

subtest 'accepts and never answers' => sub {
    my $fake = Vaani::Test::FakeRedis->start(on_connect => sub ($sock, $self, $n) {
        $self->report('accepted');
        1 while sysread $sock, my $buf, 65536;
        $self->report('closed');
    });
    my $nginx = big_endpoint("vaani_redis @{[ $fake->url ]}; vaani_redis_connect_timeout 300ms; vaani_redis_timeout 20s;");

    is $fake->next_report, 'accepted', 'connected';
    my ($time, $answer) = timed(sub { post($nginx) });
    is $answer, '503', 'refused';
    cmp_ok $time, '<', 5, sprintf '... after the timeout of the set-up (%.2f s)', $time;
    is $fake->next_report, 'closed', 'given up';
    explained($nginx, qr/in time/);
    refused_at_once($nginx, 'later ones');
    is $fake->next_report, 'accepted', 'tried again';
};

subtest 'an address that does not answer' => sub {
    # A backlog that is full: the kernel completes no further connection.
    my $listener = Vaani::Test::Socket::listen_socket(my $path = tmpdir() . '/full.sock', 0);
    my @waiting = map { Vaani::Test::Socket::try_connect($path, 0.01) } 1 .. 3;
    my $nginx = big_endpoint("vaani_redis unix:$path; " . SHORT);

    my ($time, $answer) = timed(sub { post($nginx) });
    is $answer, '503', 'refused';
    cmp_ok $time, '<', 5, '... in time';
};

subtest 'a slow Redis' => sub {
    my $fake = Vaani::Test::FakeRedis->start(on_connect => sub ($sock, $self, $n) {
        my $slowly = sub ($bytes) {
            for my $byte (split //, $bytes) {
                send_bytes($sock, $byte);
                select undef, undef, undef, 0.002;
            }
        };
        while (my $command = read_command($sock)) {
            $slowly->($command->[0] eq 'SCRIPT' ? '$40' . "\r\n" . 'a' x 40 . "\r\n" : REPLY);
        }
    });
    my $nginx = big_endpoint("vaani_redis @{[ $fake->url ]}; " . LONG);

    is post($nginx), 'ok', 'byte by byte' for 1 .. 3;
    is_deeply answers(at_once($nginx, map { an_event() } 1 .. 10)), { ok => 10 }, 'ten at once';
};

# With epoll, a unix socket that is watched for writes wakes nginx up each time
# that Redis reads from it, once more for each event.
subtest 'a unix socket is watched for writes only while one is incomplete' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $nginx = big_endpoint("vaani_redis @{[ $redis->url ]}; " . LONG);
    my ($worker) = $nginx->worker_pids;

    # The events for which the worker waits: masks of epoll, of all its
    # descriptors.
    my $masks = sub () {
        return map { /^tfd:/m ? map { hex } /^tfd:.*?events: *([0-9a-f]+)/mg : () }
            map { eval { slurp($_) } // '' } glob "/proc/$worker/fdinfo/*";
    };
    my $writes = sub () { return scalar grep { $_ & 4 } $masks->() };    # EPOLLOUT

    is post($nginx), 'ok', 'an event';
    plan skip_all => 'no epoll that can be looked into' if !$masks->();
    ok wait_for(sub { $writes->() == 0 }), 'not watched when it is done';

    $redis->suspend;
    my $http = $nginx->http;
    my $room = new_room();
    $http->send_raw(join '', format_request(method => 'POST', uri => '/vaani',
        body => event('call_postprocessing', room => $room, transcript => 'x' x 5_000_000)));
    ok wait_for(sub { $writes->() == 1 }), 'watched while the socket is full';
    $redis->resume;
    is_deeply answers($http), { ok => 1 }, '... and all of it is written';
    is $redis->client->cmd('HSTRLEN', key($room), 'transcript'), 5_000_000, '... whole';
    ok wait_for(sub { $writes->() == 0 }), '... then no more';

    my @bodies = map { event('call_postprocessing', room => new_room(), transcript => "$_" x 1_000_000) } 1 .. 5;
    is_deeply [ post_many($nginx, '/vaani', \@bodies) ], [ (200) x 5 ], 'more than the socket takes at once';
    ok wait_for(sub { $writes->() == 0 }), '... and no more afterwards';
};

subtest 'big bodies' => sub {
    my $redis = Vaani::Test::Redis->start(tcp => 1);
    my $nginx = big_endpoint("vaani_redis @{[ $redis->url ]}; " . LONG);

    my @rooms = map { new_room() } 1 .. 5;
    my @bodies = map { event('call_postprocessing', room => $rooms[ $_ - 1 ], transcript => "$_" x 5_000_000) } 1 .. 5;
    is_deeply [ post_many($nginx, '/vaani', \@bodies) ], [ (200) x 5 ], 'more than the socket takes at once';
    is $redis->client->cmd('HSTRLEN', key($rooms[ $_ - 1 ]), 'transcript'), 5_000_000, "... $_ is whole"
        for 1 .. 5;
};

# --- names

# A name server: for what a file says, which is addresses, "none" (no such
# name), or "silent". Its answers are to be forgotten at once, which for nginx
# is within a second.
sub name_server () {
    socket(my $sock, AF_INET, SOCK_DGRAM, 0) or die "socket: $!\n";
    bind($sock, pack_sockaddr_in(0, inet_aton('127.0.0.1'))) or die "bind: $!\n";
    my ($port) = unpack_sockaddr_in(getsockname $sock);
    my $file = tmpdir() . "/dns-$port";
    spew($_, '') for $file, "$file.queries";

    my $process = Vaani::Test::Process->spawn_code(sub {
        open my $queries, '>>', "$file.queries" or die "open: $!\n";
        while (defined(my $peer = recv $sock, my $query, 512, 0)) {
            syswrite $queries, '.';
            my ($id) = unpack 'n', $query;
            my ($question) = substr($query, 12) =~ /^((?:[^\0].*?)??\0....)/s or next;
            my ($type) = unpack 'n', substr $question, -4, 2;

            my $answer = slurp($file);
            next if $answer eq 'silent';
            my @addresses = $answer eq 'none' || $type != 1 ? () : split ' ', $answer;

            my $reply = pack('n6', $id, $answer eq 'none' ? 0x8183 : 0x8180, 1, scalar @addresses, 0, 0) . $question;
            $reply .= pack('n3 N n', 0xc00c, 1, 1, 0, 4) . inet_aton($_) for @addresses;
            send $sock, $reply, 0, $peer;
        }
    }, keep => [$sock]);
    close $sock;

    return {
        port    => $port,
        process => $process,
        says    => sub ($answer) { rename spew("$file.new", $answer), $file },
        queries => sub () { -s "$file.queries" },
    };
}

subtest 'a name' => sub {
    my $dns = name_server();
    my $one = Vaani::Test::Redis->start(tcp => 1);
    my $port = $one->port;
    my $two = Vaani::Test::Redis->start(port => $port, config => ['bind 127.0.0.2']);
    my $where = sub ($room) {
        return join ' ', map { $_->[0] } grep { $_->[1]->pid && $_->[1]->client->cmd('EXISTS', key($room)) }
            [ one => $one ], [ two => $two ];
    };

    my $resolver = "resolver 127.0.0.1:$dns->{port} ipv6=off; resolver_timeout 300ms;";
    $dns->{says}->('silent');
    my ($ok, $output) = Vaani::Test::Nginx->check(http => "server { listen unix:%%SOCK%%; $resolver
        location / { vaani_webhook; vaani_redis redis://redis.test:$port; } }");
    ok $ok, 'nginx -t needs no answer' or diag $output;

    my $nginx = big_endpoint("$resolver vaani_redis redis://redis.test:$port; " . SHORT);
    my ($time, $answer) = timed(sub { post($nginx) });
    is $answer, '503', 'no answer';
    cmp_ok $time, '<', 5, '... in time';
    explained($nginx, qr/redis\.test.*could not be resolved/);

    # The addresses found at start are used when the name server fails.
    my $found = big_endpoint("$resolver vaani_redis redis://localhost:$port; " . SHORT);
    recovers($found, 'a name that was found at the start');
    $found->log_like(qr/cannot resolve the host name of redis:\/\/localhost:$port; using its last known address/, '... the log says so');
    $found->stop;

    $dns->{says}->('none');
    is post($nginx), '503', 'no such name' for 1 .. 3;

    $dns->{says}->('127.0.0.1');
    recovers($nginx, 'a name that appears');
    my $room = new_room();
    is post($nginx, an_event($room)), 'ok', 'to the one';
    is $where->($room), 'one', '... it has the event';

    # The name moves; the old one ends.
    $dns->{says}->('127.0.0.2');
    is post($nginx), 'ok', 'a connection stays where it is';
    $one->kill;
    recovers($nginx, 'a name that moves');
    $room = new_room();
    is post($nginx, an_event($room)), 'ok', 'to the other';
    is $where->($room), 'two', '... it has the event';

    # Several addresses, of which one is dead.
    $dns->{says}->('127.0.0.1 127.0.0.2');
    $two->restart(crash => 1);
    recovers($nginx, 'two addresses, one of them good');

    # Either may be the first one; the dead one refuses no event.
    my @answers = map {
        my $new = big_endpoint("$resolver vaani_redis redis://redis.test:$port; " . SHORT);
        my $answer = post($new);
        $new->stop;
        $answer;
    } 1 .. 8;
    is "@answers", join(' ', ('ok') x 8), '... for each new worker';

    # Redis restarts while its name does not resolve.
    for my $answer ('silent', 'none', 'gone') {
        my ($mark, $queries) = ($nginx->log_mark, $dns->{queries}->());

        $answer eq 'gone' ? $dns->{process}->kill_group : $dns->{says}->($answer);
        $two->kill;
        ok wait_for(sub { post($nginx) eq '503' }), "$answer: refused";
        ok wait_for(sub { $dns->{queries}->() > $queries }), '... the name server was asked' if $answer ne 'gone';
        ok $nginx->wait_log(qr/cannot resolve the host name of redis:.*; using its last known address/, 10, $mark), '... the log says so';
        $two->restart;
        recovers($nginx, '... the last address is used');
    }
    is scalar(() = $nginx->worker_pids), 1, 'the worker lives';
};

# Redis is stopped while its name does not resolve: the worker tries the known addresses again
# and again, and must not fill the log with it.
sub outage_warns_once ($nginx, $redis) {
    my $mark = $nginx->log_mark;
    my $line = qr/vaani: cannot resolve the host name of .*; using its last known address/;
    $redis->kill;
    ok wait_for(sub { post($nginx); return $nginx->log_lines($line, $mark) >= 4 }, 60), '... Redis stops: several attempts';
    is scalar($nginx->log_lines(qr/\[warn\].*$line/)), 1, '... one warning since the start';
    $redis->restart;
    return recovers($nginx, '... and it recovers');
}

# "resolver" names a server that does not exist, as 127.0.0.53 on a host without
# systemd-resolved; resolver_timeout is nginx's default of 30 s. The addresses that the
# configuration found are used, all of them, after a part of the connect timeout.
subtest 'no name server at all' => sub {
    my $silent = name_server();
    $silent->{says}->('silent');
    my %resolver = (nothing => free_port(), silence => $silent->{port});

    my ($error, @found) = Socket::getaddrinfo('localhost', '', { socktype => Socket::SOCK_STREAM() });
    my $has_both = grep { $_->{family} == Socket::AF_INET6() } $error ? () : @found;
    $has_both &&= IO::Socket::IP->new(LocalHost => '::1', LocalPort => 0, Listen => 1);
    my @binds = ('127.0.0.1', $has_both ? '::1' : ());

    # One of the two is the second address of the name.
    for my $bind (@binds) {
        my $redis = Vaani::Test::Redis->start(tcp => 1, bind => $bind);
        for my $what (sort keys %resolver) {
            my $nginx = big_endpoint("resolver 127.0.0.1:$resolver{$what} ipv6=off; vaani_redis redis://localhost:@{[ $redis->port ]};");
            recovers($nginx, "$what at the resolver's address, Redis at $bind: events get there");
            $redis->restart;
            recovers($nginx, '... and after a restart of Redis');
            outage_warns_once($nginx, $redis) if $bind eq '127.0.0.1';
            $nginx->stop;
        }
        $redis->stop;
    }
};

subtest 'a name without a resolver' => sub {
    my $redis = Vaani::Test::Redis->start(tcp => 1);
    my $nginx = big_endpoint("vaani_redis redis://localhost:@{[ $redis->port ]};");
    # localhost may be ::1 first, where no server listens.
    recovers($nginx, 'localhost');

    my ($ok, $output) = Vaani::Test::Nginx->check(http => 'server { listen unix:%%SOCK%%;
        location / { vaani_webhook; vaani_redis redis://no-such-host.invalid; } }');
    ok !$ok, 'a name that does not resolve';
    like $output, qr/host not found.*no-such-host\.invalid.*nginx\.conf:\d+/, '... is an error of the configuration';
};

# --- the end

subtest 'absent for long' => sub {
    is post($late_nginx), '503', 'refused';
    $late_redis->restart;
    my ($time) = timed(sub { recovers($late_nginx) });
    cmp_ok $time, '<', 5, sprintf '... after %.2f s', $time;
    cmp_ok scalar($late_nginx->log_lines(qr/\[(?:notice|warn|error|crit)\].*vaani:/)), '<=', 3, 'in few words';
};

done_testing;
