# Faults of every kind, with calls coming in all the while: what was answered
# 200 is in Redis afterwards, once, and each call is what its events say in the
# order in which they were received.
# VAANI_FAULTS=full in the environment takes longer over it.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Time::HiRes ();
use Vaani::Test::Disk;
use Vaani::Test::Nginx::Config ();
use Vaani::Test::Endpoint;
use Vaani::Test::Events;
use Vaani::Test::FakeRedis;
use Vaani::Test::Faults;
use Vaani::Test::Process qw(wait_pid_gone);
use Vaani::Test::Scenario;
use Vaani::Test::Socket qw(connect_socket pause wait_readable write_all);
use Vaani::Test::Spool;
use Vaani::Test::Wrapper;

# Loses nothing itself.
my @DURABLE = ('appendonly yes', 'appendfsync always');

sub durable_redis (%opt) {
    return Vaani::Test::Redis->start(acl => STREAM, %opt, config => [ @DURABLE, @{ $opt{config} // [] } ]);
}

sub nginx ($redis, %opt) {
    my %start = map { exists $opt{$_} ? ($_ => delete $opt{$_}) : () }
        qw(workers main log_level allow_log);
    return Vaani::Test::Nginx->start(
        workers => 3, log_level => 'notice', %start, http => spool_config($redis, %opt),
    );
}

sub load ($nginx, %opt) {
    $opt{rate} //= 6000 if full();
    return Vaani::Test::Faults->start($nginx, %opt);
}

# The end of a scenario: the load ends, the spool drains, the account is made.
sub account_ok ($fault, $load, $redis, $nginx, %opt) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $account = $load->verify($redis, spool => $nginx->dir . '/spool', %opt);
    Vaani::Test::Faults::add_row($fault, $account);

    is $account->{lost}, 0, 'nothing acknowledged is lost';
    is $account->{twice}, 0, 'nothing is applied twice';
    ok !@{ $account->{problems} }, 'the account is right'
        or diag map { "  $_\n" } @{ $account->{problems} };
    return $account;
}

# The spool gets empty, sooner than the load fills it again.
sub drains ($dir, $timeout = 30) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @left = await_empty($dir, $timeout);
    return is "@left", '', 'the spool gets empty';
}

# All workers have found Redis again: no event has to be queued.
sub settles ($load) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok wait_for(sub {
        my $queued = $load->count('queued') + $load->count(503);
        return $load->await(ok => 100) && $load->count('queued') + $load->count(503) == $queued;
    }), 'events go to Redis again';
}

sub arrives ($load, $status, $n, $timeout = 30) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok $load->await($status, $n, $timeout), "$n events are answered $status"
        or diag explain $load->counts;
}

# --- Redis ends

for my $variant (
    [ '' ],
    [ ', sync=always', spool => 'sync=always' ],
    [ ', sync=off', spool => 'sync=off' ],
    [ ', no delivery ids', ids => 0 ],
    [ ', four connections a worker', more => 'vaani_redis_connections 4;' ],
) {
    my ($name, %opt) = @$variant;
    my $ids = delete $opt{ids} // 1;

    scenario "Redis is killed and restarted$name" => sub {
        my $redis = durable_redis();
        my $nginx = nginx($redis, %opt);
        my $load = load($nginx, ids => $ids);

        for (1 .. scaled(2, 40)) {
            arrives($load, ok => 60);
            $redis->kill;
            arrives($load, queued => 60);
            $redis->restart;
        }
        arrives($load, ok => 60);

        account_ok("Redis kill -9 and restart$name", $load, $redis, $nginx);
    };
}

scenario 'Redis is empty after its restart' => sub {
    my $redis = Vaani::Test::Redis->start(acl => STREAM);
    my $nginx = nginx($redis);
    my $load = load($nginx);

    arrives($load, ok => 100);
    $redis->kill;
    my $killed = now();    # a slow host may have queued some, and delivered them, until then
    arrives($load, queued => scaled(100, 5000));
    my $restarted = now();
    $redis->restart;
    arrives($load, ok => 100);

    # Records of the old one are lost with it.
    account_ok('Redis kill -9, empty restart', $load, $redis, $nginx, lost => sub ($delivery) {
        return $delivery->{answered} <= $killed
            || $delivery->{answered} <= $restarted && $delivery->{status} ne 'queued';
    });
};

scenario 'workers are killed' => sub {
    my $redis = durable_redis();
    my $nginx = nginx($redis, allow_log => qr/exited on signal 9/);
    my $load = load($nginx);

    for my $round (1 .. scaled(12, 150)) {
        # Redis is down at times: then they die while they write.
        $redis->kill if $round % 4 == 1;
        $redis->restart if $round % 4 == 3;
        $load->await($redis->pid ? 'ok' : 'queued', 40) or fail "no answers in round $round";
        my @pids = $nginx->worker_pids;
        CORE::kill(KILL => $pids[ $round % @pids ]);
        $nginx->wait_pids_gone([ $pids[ $round % @pids ] ]);
        wait_for(sub { $nginx->worker_pids == 3 }) or fail 'the master starts another worker';
    }
    $redis->restart if !$redis->pid;
    arrives($load, ok => 50);

    account_ok('worker kill -9', $load, $redis, $nginx);
};

scenario 'nginx is killed and restarted' => sub {
    my $redis = durable_redis();
    my $nginx = nginx($redis);
    my $load = load($nginx);

    for my $round (1 .. scaled(3, 30)) {
        arrives($load, ok => 40);
        $redis->kill if $round % 2;
        arrives($load, queued => 60) if $round % 2;
        $nginx->kill;
        $redis->restart if $round % 2;
        $nginx->restart;
    }
    arrives($load, ok => 40);

    account_ok('nginx kill -9 and restart', $load, $redis, $nginx);
};

scenario 'connections break in the middle of replies' => sub {
    my $redis = durable_redis();
    my $proxy = Vaani::Test::FakeRedis->start(on_connect => sub ($sock, $fake, $n) {
        srand;
        my $left = 20 + int rand 150;    # bytes of replies
        relay($sock, $redis->socket, down => sub ($bytes) {
            return $bytes if $left >= length $bytes;
            send_bytes($sock, substr $bytes, 0, $left);
            return undef;
        }, up => sub ($bytes) {
            # Also in the middle of a command.
            if ($n % 3 == 0 && rand() < 0.02) {
                return undef;
            }
            $left -= 1;
            return $left > 0 ? $bytes : undef;
        });
    });
    my $nginx = nginx($proxy);
    my $load = load($nginx);

    arrives($load, ok => scaled(2000, 30000), 120);
    account_ok('replies cut', $load, $redis, $nginx);
    my @broken = $nginx->log_lines(qr/reconnecting|events are (?:queued|refused)/);
    ok @broken > 10, 'connections broke, ' . @broken . ' times';
};

scenario 'a new binary' => sub {
    local $ENV{NGINX_WRAPPER} = detached();

    my $redis = durable_redis();
    my $nginx = nginx($redis);
    my $load = load($nginx);

    for my $round (1 .. scaled(2, 10)) {
        arrives($load, ok => 40);
        $redis->kill;
        arrives($load, queued => 100);

        my $old = $nginx->pid;
        my @old_workers = $nginx->worker_pids;
        $nginx->signal('USR2');
        wait_for(sub { ($nginx->pid // $old) != $old && $nginx->worker_pids >= 3 })
            or return fail 'there is a new master with its workers';
        arrives($load, queued => 100);

        # A master with "daemon off" ignores the WINCH; its successor does not.
        if ($round > 1) {
            CORE::kill(WINCH => $old);
            ok $nginx->wait_pids_gone(\@old_workers), 'the old workers go';
            arrives($load, queued => 40);
        }
        CORE::kill(QUIT => $old);
        ok wait_pid_gone($old), 'the old master goes';

        $redis->restart;
        arrives($load, ok => 40);
    }

    account_ok('binary upgrade (USR2)', $load, $redis, $nginx);
};

scenario 'nginx is restarted with another number of workers' => sub {
    my $redis = durable_redis();
    my $nginx = nginx($redis, workers => 4);
    my $load = load($nginx);

    for my $workers (1, 3, full() ? (2, 4, 1, 4) : ()) {
        arrives($load, ok => 40);
        $redis->kill;
        arrives($load, queued => 100);
        $workers == 1 ? $nginx->kill : ok $nginx->stop, 'nginx ends';
        $nginx->restart(workers => $workers);
        arrives($load, queued => 40);
        $redis->restart;
    }
    arrives($load, ok => 40);

    account_ok('workers 4, 1, 3 over restarts', $load, $redis, $nginx);
};

scenario 'reloads' => sub {
    my $redis = durable_redis();
    my $nginx = nginx($redis);
    my $load = load($nginx);

    for my $round (1 .. scaled(20, 100)) {
        $redis->kill if $round % 6 == 2;
        $redis->restart if $round % 6 == 5;
        $load->await($redis->pid ? 'ok' : 'queued', 15) or fail "no answers in round $round";
        $nginx->reload;
    }
    $redis->restart if !$redis->pid;
    arrives($load, ok => 40);

    account_ok('SIGHUP ' . scaled(20, 100) . ' times', $load, $redis, $nginx);
};

scenario 'two nginx with the same spool, one of which is killed' => sub {
    my $redis = durable_redis();
    my @nginx = (nginx($redis));
    my $dir = $nginx[0]->dir . '/spool';
    push @nginx, nginx($redis, dir => $dir);
    my @load = map { load($_, rate => 700, timeout => 3) } @nginx;

    arrives($_, ok => 40) for @load;
    $redis->kill;
    arrives($_, queued => 60) for @load;

    # Workers go on without their master.
    my @workers = $nginx[0]->worker_pids;
    CORE::kill(KILL => $nginx[0]->pid);
    ok $nginx[0]{process}->wait, 'a master is killed';
    arrives($_, queued => 60) for @load;

    $redis->restart;
    arrives($_, ok => 40) for @load;
    $load[0]->stop;
    CORE::kill(KILL => @workers);
    $redis->kill;
    arrives($load[1], queued => 40);
    $redis->restart;
    arrives($load[1], ok => 40);

    account_ok("two masters, $_->[1]", $_->[0], $redis, $nginx[0])
        for [ $load[0], 'the killed one' ], [ $load[1], 'the other' ];
    $nginx[0]->kill;
};

# --- Redis does not answer, or not what it should

scenario 'Redis is suspended' => sub {
    my $redis = durable_redis();
    my $nginx = nginx($redis, log_level => 'info');
    my $load = load($nginx);

    for (1 .. scaled(2)) {
        arrives($load, ok => 60);
        my $mark = $nginx->log_mark;
        $redis->suspend;
        arrives($load, queued => 100);
        # Not only the commands: a new connection gets no answer, either.
        ok $nginx->wait_log(qr/did not reply within/, 30, $mark), 'a timeout';
        ok $nginx->wait_log(qr/did not complete the connection setup in time/, 30, $mark), 'and another';
        arrives($load, queued => 600);
        $redis->resume;
        arrives($load, ok => 60);
    }

    account_ok('SIGSTOP of Redis', $load, $redis, $nginx);
};

scenario 'slow replies' => sub {
    my $redis = durable_redis();
    my $delay = tmpdir() . '/delay';
    spew($delay, 0);
    my $proxy = Vaani::Test::FakeRedis->start(on_connect => sub ($sock, $fake, $n) {
        relay($sock, $redis->socket, down => sub ($bytes) {
            pause(slurp($delay) || 0);
            return $bytes;
        });
    });
    my $nginx = nginx($proxy);
    my $load = load($nginx);

    my $set_delay = sub ($s) { spew("$delay.new", $s); rename "$delay.new", $delay };

    for (1 .. scaled(1)) {
        $set_delay->(0.05);
        arrives($load, ok => 200);
        $set_delay->(0.5);    # longer than the timeout
        arrives($load, queued => 300);
        $set_delay->(0.29);   # about as long
        arrives($load, queued => 300);
        $set_delay->(0);
        arrives($load, ok => 100);
    }

    account_ok('slow replies', $load, $redis, $nginx);
};

scenario 'nobody listens' => sub {
    my $port = free_port();
    my $nginx = nginx("redis://127.0.0.1:$port");
    my $load = load($nginx);

    arrives($load, queued => 200);
    my $redis = durable_redis(port => $port);
    arrives($load, ok => 60);

    account_ok('connections refused', $load, $redis, $nginx);
};

# Servers that are none, one after the other at the same socket, then Redis.
my %NO_REDIS = (
    'accepts and stays silent'    => sub ($sock, @) { 1 while sysread $sock, my $buf, 65536 },
    'accepts and closes'          => sub ($sock, @) { },
    'closes after a command'      => sub ($sock, @) { read_command($sock) },
    'is LOADING'                  => sub ($sock, @) {
        while (read_command($sock)) {
            send_bytes($sock, "-LOADING Redis is loading the dataset in memory\r\n") or last;
        }
    },
    'is LOADING after the set-up' => sub ($sock, @) {
        while (my $command = read_command($sock)) {
            my $answer = $command->[0] eq 'SCRIPT' ? "\$2\r\nok\r\n" : "-LOADING wait\r\n";
            send_bytes($sock, $answer) or last;
        }
    },
    'speaks something else'       => sub ($sock, @) {
        read_command($sock);
        send_bytes($sock, "HTTP/1.1 400 Bad Request\r\n\r\n");
    },
);

scenario 'something else in place of Redis' => sub {
    my $socket = tmpdir() . '/instead.sock';
    my $nginx = nginx("unix:$socket");
    my $load = load($nginx);

    my $redis;
    for my $what (sort keys %NO_REDIS) {
        my $fake = Vaani::Test::FakeRedis->start(socket => $socket, on_connect => $NO_REDIS{$what});
        ok $load->await(queued => scaled(400, 4000)), "a server that $what: queued";
        $fake->stop;
    }

    $redis = durable_redis(socket => $socket);
    arrives($load, ok => 60);
    account_ok('half-open connections, LOADING', $load, $redis, $nginx);
};

scenario 'wrong password' => sub {
    my $redis = durable_redis(tcp => 1, password => 'other');
    my $nginx = nginx('redis://:secret@127.0.0.1:' . $redis->port);
    my $load = load($nginx);
    my $client = $redis->client;

    for (1 .. scaled(2)) {
        arrives($load, queued => 60);
        $client->cmd(qw(CONFIG SET requirepass secret));
        arrives($load, ok => 60);
        $client->cmd(qw(CONFIG SET requirepass other));
        $client->cmd(qw(CLIENT KILL TYPE normal SKIPME yes));
    }
    $client->cmd(qw(CONFIG SET requirepass secret));
    arrives($load, ok => 60);
    $redis->{password} = 'secret';

    account_ok('wrong password', $load, $redis, $nginx);
};

# Errors that Redis answers while it is so and so: how it gets there and back.
my $nowhere = free_port();
for my $error (
    [ READONLY   => [ 'REPLICAOF', '127.0.0.1', $nowhere ], [qw(REPLICAOF NO ONE)] ],
    [ MASTERDOWN => [qw(CONFIG SET replica-serve-stale-data no)],
        [ 'REPLICAOF', '127.0.0.1', $nowhere ], [qw(REPLICAOF NO ONE)] ],
    [ OOM        => [qw(CONFIG SET maxmemory 1)], [qw(CONFIG SET maxmemory 0)] ],
    [ NOREPLICAS => [qw(CONFIG SET min-replicas-to-write 1)],
        [qw(CONFIG SET min-replicas-to-write 0)] ],
    [ NOPERM     => [qw(ACL SETUSER default resetkeys)], [ qw(ACL SETUSER default ~vaani:call:* ~vaani:stream) ] ],
    [ 'NOPERM in the script' => [qw(ACL SETUSER default -hmget)], [qw(ACL SETUSER default +hmget)] ],
) {
    my ($name, @commands) = @$error;
    my ($code) = $name =~ /^(\w+)/;
    my $back = pop @commands;

    scenario "Redis answers $name" => sub {
        my $redis = durable_redis();
        my $nginx = nginx($redis);
        my $load = load($nginx);
        my $client = $redis->client;

        for (1 .. scaled(2)) {
            arrives($load, ok => 60);
            $client->cmd(@$_) for @commands;
            arrives($load, queued => 60);
            $client->cmd(@$back);
        }
        arrives($load, ok => 60);
        $nginx->log_like(qr/answered "$code"/);

        account_ok($name, $load, $redis, $nginx);
    };
}

scenario 'Redis answers BUSY' => sub {
    my $redis = durable_redis(config => ['lua-time-limit 50']);
    my $nginx = nginx($redis);
    my $load = load($nginx);

    for (1 .. scaled(2)) {
        arrives($load, ok => 60);
        my $busy = $redis->client;
        $busy->send('EVAL', 'while true do end', 0);
        arrives($load, queued => 100);
        # Every client that connects now gets the answer, whatever its request.
        ok wait_for(sub {
            my (undef, $error) = $redis->client->try_cmd('PING');
            return ($error // '') =~ /^BUSY/;
        }), 'the script runs';
        arrives($load, queued => 100);
        is $redis->client->cmd(qw(SCRIPT KILL)), 'OK', 'it is killed';
    }
    arrives($load, ok => 60);

    account_ok('BUSY', $load, $redis, $nginx);
};

scenario 'SCRIPT FLUSH' => sub {
    my $redis = durable_redis();
    # A Redis on a slow disk must not make them wait for another reason.
    my $nginx = nginx($redis, timeout => '10s');
    my $load = load($nginx);
    my $client = $redis->client;

    # Each event may meet a few flushes, and waits on disk after more: so the answers of
    # those that met the last one come before the next one.
    for (1 .. scaled(50, 1000)) {
        $load->await(ok => 50) or fail 'no answers';
        $client->cmd(qw(SCRIPT FLUSH));
    }

    account_ok('SCRIPT FLUSH', $load, $redis, $nginx);
    is $load->count('queued'), 0, 'no event had to wait';
};

# --- the spool itself

scenario 'the spool is full' => sub {
    my $redis = durable_redis();
    my $nginx = nginx($redis, spool => 'max=64k');
    my $load = load($nginx);

    for (1 .. scaled(2)) {
        arrives($load, ok => 40);
        $redis->kill;
        arrives($load, queued => 20);
        arrives($load, 503 => 100);
        $redis->restart;
        settles($load);
        drains($nginx->dir . '/spool');
    }
    $nginx->log_like(qr/the spool "[^"]+" is full/);
    $nginx->log_like(qr/recovered/);

    account_ok('spool max= reached', $load, $redis, $nginx, refused => 1);
};

scenario 'the disk is full' => sub {
    my $redis = durable_redis();
    my $disk = tmpdir() . '/disk';
    my ($nginx, $outside) = on_small_disk($disk, sub { nginx($redis, dir => "$disk/spool") })
        or plan skip_all => 'needs the right to mount a small disk';
    my $load = load($nginx);

    for my $round (1 .. scaled(2, 6)) {
        arrives($load, ok => 40);
        $redis->kill;
        arrives($load, queued => 40);
        arrives($load, 503 => 100);

        # Space comes back in another way than through the spool, at times.
        if ($round == 2) {
            my @remount = ('mount', '-o', 'remount,size=1m', $disk);
            my ($exit) = run([ 'nsenter', '-m', '-t', $nginx->pid, @remount ]);
            is $exit, 0, 'the disk grows';
            arrives($load, queued => 100);
            arrives($load, 503 => 100);
        }
        $redis->restart;
        drains("$outside/spool", 10) or last;
        settles($load);
    }

    account_ok('disk full', $load, $redis, $nginx,
        spool => "$outside/spool", refused => 1, timeout => 10);
};

scenario 'no file may grow' => sub {
    my ($exit) = run([qw(prlimit --fsize=200000 true)]);
    plan skip_all => 'needs prlimit' if $exit;

    my $redis = durable_redis();
    my $nginx = do {
        local $ENV{NGINX_WRAPPER} = 'prlimit --fsize=200000 ' . ($ENV{NGINX_WRAPPER} // '');
        nginx($redis);
    };
    my $load = load($nginx);

    arrives($load, ok => 40);
    $redis->kill;
    arrives($load, queued => 1500);
    ok segments($nginx->dir . '/spool') > 2, 'there are more segments';
    $nginx->log_unlike(qr/\[crit\]/, '... and nothing is wrong with that');
    $redis->restart;
    arrives($load, ok => 40);

    account_ok('RLIMIT_FSIZE', $load, $redis, $nginx);
};

# Segments on a bad disk.
sub on_bad_segments ($redis) {
    my $start = sub ($main) { nginx($redis, main => $main) };
    return on_bad_disk('*/' . '?' x 20 . '.log', $start);
}

scenario 'a disk that writes less than it should' => sub {
    my $redis = durable_redis();
    my ($nginx, $set) = on_bad_segments($redis) or plan skip_all => 'no library can be preloaded';
    my $load = load($nginx, rate => 0, connections => 24, calls => 48);

    arrives($load, ok => 40);
    $redis->kill;
    arrives($load, queued => 40);
    $set->(short_writes => 1);
    arrives($load, queued => scaled(2000));
    $set->(short_writes => 0);
    $redis->restart;
    arrives($load, ok => 40);

    account_ok('short writes', $load, $redis, $nginx);
};

scenario 'a disk that fails to sync' => sub {
    my $redis = durable_redis();
    my ($nginx, $set) = on_bad_segments($redis) or plan skip_all => 'no library can be preloaded';
    my $load = load($nginx);

    for (1 .. scaled(2)) {
        arrives($load, ok => 40);
        $redis->kill;
        arrives($load, queued => 40);
        $set->(failing_syncs => 1);
        arrives($load, 503 => 100);
        $set->(failing_syncs => 0);
        arrives($load, queued => 100);
        $redis->restart;
    }
    arrives($load, ok => 40);

    # Data that was written and could not be synced may be read back.
    account_ok('failing fdatasync()', $load, $redis, $nginx, refused => 1);
};

scenario 'a disk that is slow to open' => sub {
    my $redis = durable_redis();
    my ($nginx, $set) = on_bad_segments($redis) or plan skip_all => 'no library can be preloaded';
    my $load = load($nginx);

    $set->(slow_opens => 1);
    for (1 .. scaled(4, 30)) {
        arrives($load, ok => 30);
        $redis->kill;
        arrives($load, queued => 60);
        $redis->restart;
    }
    arrives($load, ok => 40);

    account_ok('slow open()', $load, $redis, $nginx);
};

scenario 'a call that Redis refuses for good' => sub {
    my $redis = durable_redis();
    my $nginx = nginx($redis);
    my $load = load($nginx);
    my $client = $redis->client;
    my $dir = $nginx->dir . '/spool';

    arrives($load, ok => 40);
    $client->cmd(SET => 'vaani:call:wrong', 'a string');
    $redis->kill;
    arrives($load, queued => 40);

    my $http = $nginx->http;
    my @bodies = map { event($_, room => 'wrong') } qw(call_started call_ringing);
    is $http->post('/hook', $_)->body, qq({"status":"queued"}\n), 'queued' for @bodies;

    $redis->restart;
    arrives($load, ok => 100);
    account_ok('WRONGTYPE', $load, $redis, $nginx);

    my @dead = journal_contents(slurp("$dir/dead-letters"));
    is @dead, 2, 'two dead letters';
    for my $i (0 .. $#dead) {
        my ($reason, $content) = unpack 'x C/a* a*', $dead[$i];
        like $reason, qr/^WRONGTYPE /, 'the reason is there';
        like $content, qr/\Q$bodies[$i]\E/, 'and the event';
    }
    $nginx->log_like(qr/cannot deliver an event of the spool .* \(WRONGTYPE\)/);

    # Live, it goes the same way.
    is $http->post('/hook', $bodies[0])->body, qq({"status":"queued"}\n), 'a live event';
    ok wait_for(sub { -s "$dir/dead-letters" > 16 + length(join '', @dead) + 16 }), 'gets there';
    drains($dir);
};

scenario 'an event at which Redis hangs up' => sub {
    my $redis = durable_redis(config => ['proto-max-bulk-len 1mb']);
    my $nginx = nginx($redis, more => 'client_max_body_size 8m; client_body_buffer_size 8m;');
    my $load = load($nginx);
    my $dir = $nginx->dir . '/spool';
    my $body = event('call_postprocessing', room => 'big', transcript => 'x' x 2_000_000,
        delivery => 'big/1');

    # Those that wait, in their order: [ since, tries, content ].
    my $waiting = sub {
        my @contents = eval {
            map { journal_contents(slurp("$dir/$_")) } segments($dir);
        };
        return map { [ deferred($_) ] } grep { /^D/ } @contents;
    };

    arrives($load, ok => 40);
    is $nginx->http->post('/hook', $body)->body, qq({"status":"queued"}\n), 'a live one is queued';
    ok wait_for(sub { $waiting->() == 1 }), 'and waits';
    $redis->kill;
    arrives($load, queued => 40);
    is $nginx->http->post('/hook', $body)->body, qq({"status":"queued"}\n), 'queued';
    arrives($load, queued => 40);
    $redis->restart;
    ok wait_for(sub {
        my @those = $waiting->();
        return @those == 2 && !grep { $_->[1] < 2 || $_->[2] !~ /\Q$body\E/ } @those;
    }), 'both wait, and are tried again';
    settles($load);
    ok !-e "$dir/dead-letters", 'none is a dead letter';

    # A Redis that takes them.
    $load->stop;
    $redis->client->cmd(CONFIG => SET => 'proto-max-bulk-len', '512mb');
    drains($dir, 60);
    account_ok('too big for Redis', $load, $redis, $nginx, timeout => 10);
    is $redis->client->cmd(HSTRLEN => 'vaani:call:big', 'transcript'), 2_000_000, 'it is delivered';
};

scenario 'replayed messages' => sub {
    my $redis = durable_redis();
    my $nginx = nginx($redis);
    my $http = $nginx->http;

    is $http->post('/hook', event('call_started', delivery => 'r/1'))->body, qq({"status":"ok"}\n),
        'live';
    $redis->kill;
    my $from = int 1000 * Time::HiRes::time() - 1;
    is $http->post('/hook', event('call_ringing', delivery => 'r/2'))->body, qq({"status":"queued"}\n),
        'queued';
    my $to = int 1000 * Time::HiRes::time() + 1;
    $redis->restart;
    drains($nginx->dir . '/spool');

    my $client = $redis->client;
    my @messages = Vaani::Test::Faults::messages($client);
    is_deeply [ map { $_->{id} } @messages ], [ 'r/1', 'r/2' ], 'both arrive';
    ok !$messages[0]{replayed}, 'the live one does not say "replayed"';
    ok $messages[1]{replayed}, 'the other does';
    my $time = $messages[1]{received_at};
    ok $from <= $time && $time <= $to, 'it was received when it came, not when it was replayed';
    is $client->cmd(HGET => 'vaani:call:' . ROOM, 'at:call_ringing'), $time, 'the hash agrees';
};

# --- clients that do not wait

# HTTP/2 frames of a POST; the header block has no compression at all.
sub h2_post ($body) {
    my $frame = sub ($type, $flags, $stream, $bytes) {
        return substr(pack('N', length $bytes), 1) . pack('CCN', $type, $flags, $stream) . $bytes;
    };
    my @headers = (
        ':method' => 'POST', ':scheme' => 'http', ':path' => '/hook', ':authority' => 'localhost',
        'content-type' => 'application/json', 'content-length' => length $body,
    );
    my $block = '';
    while (my ($name, $value) = splice @headers, 0, 2) {
        $block .= pack 'CC/a*C/a*', 0, $name, $value;
    }
    return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" . $frame->(4, 0, 0, '')
        . $frame->(1, 4, 1, $block) . $frame->(0, 1, 1, $body);
}

scenario 'clients vanish' => sub {
    my $redis = durable_redis();
    my $nginx = Vaani::Test::Nginx->start(
        workers => 3, log_level => 'notice',
        http => spool_config($redis, more => 'client_body_timeout 2s;')
            . spool_config($redis) =~ s/listen unix:%%SOCK%%;/listen unix:%%DIR%%\/h2.sock http2;/r,
    );
    my $load = load($nginx, rate => 700);

    my (@whole, @half);
    my $vanish = sub ($how) {
        for my $n (1 .. scaled(10, 50)) {
            my $id = "gone-$how-$n/1";
            my $body = event('call_ended', room => "gone-$how-$n", delivery => $id);
            my ($head, $bytes) = Vaani::Test::HTTP::format_request(
                uri => '/hook', body => $body, headers => { 'Content-Type' => 'application/json' },
            );

            if ($n % 3 == 0) {
                push @half, $id;
                my $sock = connect_socket($nginx->sock);
                write_all($sock, $head . substr $bytes, 0, $n * length($bytes) / 60);
            } elsif ($n % 3 == 1) {
                push @whole, $id;
                my $sock = connect_socket($nginx->sock);
                write_all($sock, $head . $bytes);
            } else {
                push @whole, $id;
                # nginx itself drops a request whose connection ends in the very
                # moment in which its body does: we wait for nginx's SETTINGS.
                my $sock = connect_socket($nginx->dir . '/h2.sock');
                write_all($sock, h2_post($body));
                wait_readable($sock, 10) or fail 'nginx speaks HTTP/2';
            }    # and closed
        }
    };

    arrives($load, ok => 40);
    $vanish->('live');
    arrives($load, ok => 40);
    $redis->suspend;
    $vanish->('in-flight');
    arrives($load, queued => 100);
    $vanish->('queued');
    arrives($load, queued => 100);
    $redis->kill;
    $vanish->('down');
    arrives($load, queued => 100);
    $redis->restart;
    arrives($load, ok => 40);

    account_ok('clients that vanish', $load, $redis, $nginx);

    my %count;
    $count{ $_->{id} }++ for Vaani::Test::Faults::messages($redis->client);
    is_deeply [ grep { ($count{$_} // 0) != 1 } @whole ], [],
        'whole events are delivered, once, though nobody waited for the answer';
    is_deeply [ grep { $count{$_} } @half ], [], 'half of an event is none';
};

# --- the end of nginx

scenario 'shutdown' => sub {
    my $redis = durable_redis();
    my $nginx = nginx($redis);
    my $load = load($nginx);

    for my $signal (qw(QUIT TERM HUP)) {
        my $ends = sub ($what, $within) {
            my @workers = $nginx->worker_pids;
            my $from = now();
            $nginx->signal($signal);
            ok $nginx->wait_pids_gone(\@workers, 30), "$signal, $what: the workers end";
            my $took = now() - $from;
            cmp_ok $took, '<', $within, sprintf 'after %d ms', 1000 * $took;

            if ($signal ne 'HUP') {
                ok $nginx->{process}->wait, 'nginx ends';
                is $nginx->{process}->status, 0, 'exit status';
                $nginx->kill;
                $nginx->restart;
            }
        };

        arrives($load, ok => 40);
        $redis->kill;
        arrives($load, queued => 200);
        $ends->('events spooled', 1);

        $redis->restart;
        arrives($load, ok => 40);
        $redis->suspend;
        my $http = $nginx->http;
        $http->send_raw("POST /hook HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n{}\n");
        pause(0.05);    # for commands to get stuck
        $ends->('events in flight', 1.3);    # 300 ms for Redis
        $redis->resume;
        arrives($load, ok => 40);
    }

    account_ok('shutdown', $load, $redis, $nginx);
};

for my $line (Vaani::Test::Faults::table()) {
    note $line;
    diag $line if $ENV{HARNESS_ACTIVE} && !$ENV{HARNESS_IS_VERBOSE};    # prove hides the notes
}

done_testing;
