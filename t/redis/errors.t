# The reactions to the texts of Redis's errors: the connection is closed,
# everything waits, one event waits, or that event is never accepted. None of
# them makes nginx busy with Redis instead of with events.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Events;
use Vaani::Test::FakeRedis;
use Vaani::Test::Faults;
use Vaani::Test::Process;
use Vaani::Test::Wrapper;

# The script's result for a call's first event, see transition.lua.
use constant REPLY => ':' . (1 * 256 + 0 * 16 + 2) . "\r\n";

sub endpoint ($url, %opt) {
    my $main = delete $opt{main} // '';

    return Vaani::Test::Nginx->start(%opt, main => $main, http => <<"CONF");
        server {
            listen unix:%%SOCK%%;
            vaani_redis $url;
            vaani_redis_connect_timeout 20s;
            vaani_redis_timeout 20s;
            add_header X-Reason \$vaani_reason always;
            location = /hook { vaani_webhook; }
        }
CONF
}

# A server that lets itself be set up. Reports "connect" and "load".
sub fake ($event, %opt) {
    return Vaani::Test::FakeRedis->start(%opt, on_connect => sub ($sock, $self, $n) {
        $self->report('connect');
        while (my $command = read_command($sock)) {
            if ($command->[0] eq 'EVALSHA') {
                send_bytes($sock, $event->($command, $n)) or return;
            } else {
                $self->report('load') if $command->[0] eq 'SCRIPT';
                send_bytes($sock, '$40' . "\r\n" . 'a' x 40 . "\r\n") or return;
            }
        }
    });
}

sub reports ($fake) {
    my %n = (connect => 0, load => 0);
    while (defined(my $report = $fake->next_report(0.1))) { $n{$report}++ }
    return \%n;
}

# "200", or "503 reason". A connection that is just made is waited for.
sub outcome ($http, $body) {
    my $outcome;
    wait_for(sub {
        my $response = $http->post('/hook', $body);
        $outcome = join ' ', $response->status, $response->header('X-Reason') // ();
        return $outcome ne '503 redis_down';
    });
    return $outcome;
}

# --- the table

# Each kind: the reason of the 503, and texts as servers and proxies send them.
my $WRAPPED = 'ERR Error running script (call to f_0123456789abcdef0123456789abcdef01234567): @user_script:12: ';

my %TEXTS = (

    # The connection is of no use, another one may be.
    'connection redis_unavailable' => [
        "READONLY You can't write against a read only replica.",
        "READONLY You can't write against a read only replica. script: 0123, on \@user_script:12.",
        $WRAPPED . "\@user_script: 12: -READONLY You can't write against a read only replica.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        'NOAUTH Authentication required.',
        'ERR Protocol error: unauthenticated bulk length',
        'ERR Protocol error: unauthenticated multibulk length',
        'WRONGPASS invalid username-password pair or user is disabled.',
    ],

    # Nothing is taken, and it passes.
    'server redis_unavailable' => [
        'LOADING Redis is loading the dataset in memory',
        'LOADING Valkey is loading the dataset in memory',
        'BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.',
        "OOM command not allowed when used memory > 'maxmemory'.",
        "OOM command not allowed when used memory > 'maxmemory'. script: 0123, on \@user_script:12.",
        $WRAPPED . "\@user_script: 12: -OOM command not allowed when used memory > 'maxmemory'.",
        'MISCONF Redis is configured to save RDB snapshots, but it is currently not able to persist on disk.',
        'MISCONF Errors writing to the AOF file: No space left on device',
        $WRAPPED . '@user_script: 12: -MISCONF Errors writing to the AOF file: No space left on device',
        'NOREPLICAS Not enough good replicas to write.',
        'CLUSTERDOWN The cluster is down',
        'CLUSTERDOWN Hash slot not served',
    ],

    # This event or this key, for now; the reason is known.
    'event redis_deferred' => [
        'NOPERM this user has no permissions to run the \'evalsha\' command or its subcommand',
        'NOPERM No permissions to access a key',
        'NOPERM this user has no permissions to access one of the keys used as arguments',
        "The user executing the script can't run this command or subcommand script: 0123, on \@user_script:12.",
        "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments script: 0",
        "ERR ACL failure in script: User x has no permissions to run the 'hmget' command script: 0, on \@user_script:1.",
        $WRAPPED . "\@user_script: 12: The user executing the script can't run this command or subcommand",
        'MOVED 3999 127.0.0.1:6381',
        'ASK 3999 127.0.0.1:6381',
        'TRYAGAIN Multiple keys request during rehashing of slot',
    ],

    # The same, for what is no text of the table.
    'unknown redis_deferred' => [
        'upstream failure',
        'no upstream host',
        'ERR max daily request limit exceeded. Limit: 10000, Usage: 10000. See https://example.com/',
        'ERR DB capacity quota exceeded',
        'ERR Connection refused',
        'ERR unknown command \'evalsha\', with args beginning with: \'0123\' \'1\'',
        'ERR Script killed by user with SCRIPT KILL... script: 0123, on @user_script:1.',
        'ERR Script killed by user with SCRIPT KILL. script: 0123, on @user_script:1.',
        $WRAPPED . '@user_script: 12: Script killed by user with SCRIPT KILL...',
        "CROSSSLOT Keys in request don't hash to the same slot",
        'ERR Script attempted to access a non local key in a cluster node script: 0123, on @user_script:1.',
        'ERR Unknown Redis command called from script script: 0123, on @user_script:1.',
        'EXECABORT Transaction discarded because of previous errors.',
        'FAILOVER in progress',
        'READONLYMODE is no READONLY',
        'WRONGTYPES',
        '',
        'x' x 10_000,

        # A name that a sender chooses is no error of Redis.
        "ERR unknown command `EVALSHA`, with args beginning with: `vaani:call:x: WRONGTYPE y`",
        "ERR no such key: READONLY",
        "ERR key: ERR user_script:1: x",
    ],

    # Never.
    'permanent redis_refused' => [
        'WRONGTYPE Operation against a key holding the wrong kind of value',
        'WRONGTYPE Operation against a key holding the wrong kind of value script: 0123, on @user_script:12.',
        $WRAPPED . '@user_script: 12: -WRONGTYPE Operation against a key holding the wrong kind of value',
        'ERR value is not an integer or out of range',
        'ERR value is not an integer or out of range script: 0123, on @user_script:12.',
        'ERR hash value is not an integer',
        $WRAPPED . '@user_script: 12: -ERR hash value is not an integer',
        'ERR user_script:12: attempt to perform arithmetic on a nil value script: 0123, on @user_script:12.',
        'ERR user_script:12: Expected object key string but found T_END at character 2 script: 0, on @user_script:1.',
        'user_script:12: attempt to compare number with nil script: 0123, on @user_script:12.',
        $WRAPPED . 'user_script:12: attempt to perform arithmetic on a nil value',
    ],

    # Loaded again, three times; then it is one of the server.
    'script redis_unavailable' => [ 'NOSCRIPT No matching script. Please use EVAL.' ],
);

subtest 'the kind of an error' => sub {
    my (@texts, @kinds);
    for my $kind (sort keys %TEXTS) {
        push @texts, @{ $TEXTS{$kind} };
        push @kinds, ($kind) x @{ $TEXTS{$kind} };
    }

    my $fake = fake(sub ($command, $n) {
        my ($i) = "@$command" =~ /text-(\d+)-/;
        return defined $i ? "-$texts[$i]\r\n" : REPLY;
    });
    my $nginx = endpoint($fake->url);
    my $http = $nginx->http;
    is outcome($http, event('call_started', room => 'good')), 200, 'it takes events';
    my $before = reports($fake);
    is_deeply $before, { connect => 1, load => 1 }, 'it is connected to';

    for my $i (0 .. $#texts) {
        my ($kind, $reason) = split ' ', $kinds[$i];
        my $text = substr $texts[$i], 0, 60;
        my $mark = $nginx->log_mark;

        is outcome($http, event('call_started', room => "text-$i-")), "503 $reason", "$kind: $text";
        is outcome($http, event('call_started', room => 'good')), 200, '... others are taken';

        my $n = reports($fake);
        is $n->{connect}, $kind eq 'connection' ? 1 : 0, '... over the same connection, or another one';
        my @lines = $nginx->log_lines(qr/\[error\].*the event is not applied for now/, $mark);
        is scalar(@lines), 1, '... the log has the text' if $kind eq 'unknown' && ($i == 0 || $kinds[ $i - 1 ] ne $kinds[$i]);
        ok !@lines, '... the log knows what it means' if $kind ne 'unknown';
    }
};

subtest 'a reply that the script does not give says nothing of later ones' => sub {
    my $fake = fake(sub ($command, $n) { "@$command" =~ /good/ ? REPLY : "+OK\r\n" });
    my $nginx = endpoint($fake->url);
    is outcome($nginx->http, event('call_started', room => 'odd')), '503 redis_deferred', 'the event waits';
    is outcome($nginx->http, event('call_started', room => 'good')), 200, 'others are taken';
};

# The texts of the real one, whatever its version.
subtest 'this Redis' => sub {
    my $redis = Vaani::Test::Redis->start(config => ['lua-time-limit 10']);
    my $client = $redis->client;
    my $nginx = endpoint($redis->url);
    my $http = $nginx->http;

    $client->cmd('SET', 'vaani:call:string', 'x');
    is outcome($http, event('call_started', room => 'string')), '503 redis_refused', 'another type';

    $client->cmd('HSET', 'vaani:call:broken', '_transfers', 'no JSON', 'seq', 1, '_state', '1110000000');
    is outcome($http, event('human_transfer_initiated', room => 'broken')), '503 redis_refused', 'an error of the script';

    is outcome($http, event('call_started', room => 'good')), 200, 'others are taken';

    # A replica has what its master has, and says nothing of what it lost.
    $client->cmd('REPLICAOF', '127.0.0.1', 1);
    for (
        [ 'a transition' => event('call_ended', room => 'good') ],
        [ 'a duplicate' => event('call_started', room => 'good') ],
        [ 'an unknown event' => event('brand_new', room => 'good') ],
        [ 'one without a room' => '{"event":"brand_new"}' ],
        [ 'a test' => '{"event":"webhook_test"}' ],
    ) {
        my ($name, $body) = @$_;
        is outcome($http, $body), '503 redis_unavailable', "a replica: $name";
    }
    $client->cmd('REPLICAOF', 'NO', 'ONE');
    is outcome($http, event('call_ended', room => 'good')), 200, 'a master';
};

# --- no storm

# A load of some seconds; how often nginx connected, and loaded the script.
sub storm ($text, $mixed) {
    my $fake = fake(sub ($command, $n) { "-$text\r\n" });
    my $nginx = endpoint($fake->url, allow_log => qr/cannot accept events/);
    reports($fake);

    my $load = Vaani::Test::Faults->start($nginx, rate => 500, ids => 0, keep => 0);
    my $start = now;
    $load->await(503 => 500) or return undef;
    wait_for(sub { now() - $start >= 3 }, 10);
    $load->stop;

    # 50, 100, 200, 400, 800, 1000, 1000 ms, and half of each at least
    my $n = reports($fake);
    my $time = now() - $start;
    cmp_ok $n->{connect}, '<=', 6 + 2 * $time, sprintf '%d connections in %.1f s', $n->{connect}, $time;
    cmp_ok $n->{connect}, '>=', 3, '... it goes on';
    cmp_ok $n->{load}, '<=', $n->{connect}, '... the script is loaded once for each';
    my @lines = $nginx->log_lines(qr/\[(?:notice|warn|error|crit)\].*vaani:.*@{[ $fake->url ]}/);
    cmp_ok scalar(@lines), '<=', 6, '... in few words' or diag @lines[ 0 .. 5 ];
    return;
}

subtest 'READONLY under load' => sub { storm("READONLY You can't write against a read only replica.", 0) };
subtest 'NOAUTH under load'   => sub { storm('NOAUTH Authentication required.', 0) };

# Duplicates and unknown events among others are no reason to think that a
# replica takes events.
subtest 'a replica under a mixed load' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $nginx = endpoint($redis->url, allow_log => qr/cannot accept events/);
    my $http = $nginx->http;
    my @bodies = (event('call_started', room => 'a'), event('call_ended', room => 'a'), event('brand_new', room => 'a'));
    is $http->post('/hook', $bodies[0])->status, 200, 'before';
    $redis->client->cmd('REPLICAOF', '127.0.0.1', 1);

    my $connections = sub () { return $redis->client->cmd('INFO', 'stats') =~ /^total_connections_received:(\d+)/m ? $1 : undef };
    my ($before, $start, %answers) = ($connections->(), now);
    while (now() - $start < 3) {
        $answers{ $http->post('/hook', $_)->status }++ for @bodies;
    }
    my $made = $connections->() - $before - 1;
    is_deeply [ keys %answers ], [503], 'nothing is taken';
    cmp_ok $made, '<=', 12, "$made connections in 3 s";
    cmp_ok scalar($nginx->log_lines(qr/recovered/)), '==', 0, 'the log does not say so';
};

# A connection that was good is no reason to wait long for the next one.
subtest 'an old outage is forgotten' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $nginx = endpoint($redis->url, allow_log => qr/./);
    $redis->kill;
    my $line = qr/is unreachable/;
    ok wait_for(sub { $nginx->log_lines($line) >= 8 }, 20), 'the time between attempts has grown';
    $redis->restart;
    ok wait_for(sub { $redis->client->cmd('CLIENT', 'LIST') =~ /cmd=script/ }, 10), 'connected';
    my $since = now;
    wait_for(sub { now() - $since > 1.1 }, 5);

    my $attempts = $nginx->log_lines($line);
    $redis->kill;
    my $start = now;
    ok wait_for(sub { $nginx->log_lines($line) >= $attempts + 3 }, 10), 'three attempts';
    my $time = now() - $start;
    cmp_ok $time, '<', 0.9, sprintf '... in %.2f s', $time;
};

# --- memory

my $NO_MEMORY = <<'END_OF_SOURCE';
    #include <dlfcn.h>
    #include <stdlib.h>
    #include <unistd.h>

    /* once, for an allocation of such a size, when the file is there */

    void *malloc(size_t size)
    {
        static void *(*next)(size_t);
        const char *flag = getenv("NO_MEMORY"), *least = getenv("NO_MEMORY_SIZE");

        if (next == NULL) {
            next = dlsym(RTLD_NEXT, "malloc");
        }
        if (flag && least && size >= strtoul(least, NULL, 10)
            && size < strtoul(least, NULL, 10) + 512 && unlink(flag) == 0)
        {
            return NULL;
        }
        return next(size);
    }
END_OF_SOURCE

subtest 'no memory for SCRIPT LOAD' => sub {
    my $library = preloadable('no-memory' => $NO_MEMORY) // plan skip_all => 'needs a compiler, and no sanitizer';

    # How long the command is, a fake one is told.
    my $length;
    {
        my $fake = Vaani::Test::FakeRedis->start(on_connect => sub ($sock, $self, $n) {
            my $command = read_command($sock) // return;
            $self->report(length $command->[2]);
            1 while read_command($sock);
        });
        my $nginx = endpoint($fake->url);
        $length = $fake->next_report;
        cmp_ok $length, '>', 2048, "the script has $length bytes";
    }

    my $redis = Vaani::Test::Redis->start;
    my $flag = tmpdir() . '/no-memory';
    my $nginx = do {
        local $ENV{NGINX_WRAPPER} = with_wrapper("env NO_MEMORY=$flag NO_MEMORY_SIZE=$length LD_PRELOAD=$library");
        endpoint($redis->url, main => 'env NO_MEMORY; env NO_MEMORY_SIZE;', allow_log => qr/malloc\(\d+\) failed/);
    };
    my $http = $nginx->http;
    is outcome($http, event('call_started', room => 'before')), 200, 'before';

    # On a connection that is in use.
    spew($flag, '');
    $redis->client->cmd('SCRIPT', 'FLUSH');
    is outcome($http, event('call_started', room => 'a')), '503 redis_unavailable', 'no memory';
    ok !-e $flag, '... it was that allocation';
    is outcome($http, event('call_started', room => 'a')), 200, 'the next one loads the script';

    # When a connection is made.
    spew($flag, '');
    $redis->client->cmd('SCRIPT', 'FLUSH');
    $redis->client->cmd('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    ok wait_for(sub { !-e $flag }, 10), 'no memory for a new connection';
    is outcome($http, event('call_started', room => 'b')), 200, '... it is made again';
};

# The blocks of commands that are kept for later.
subtest 'nothing is left at the end' => sub {
    plan skip_all => 'runs under something else' if $ENV{NGINX_WRAPPER} || !may_preload();
    my ($exit) = run([qw(valgrind --version)]);
    plan skip_all => 'needs valgrind' if $exit;

    my $redis = Vaani::Test::Redis->start;
    my $log = tmpdir() . '/valgrind';
    local $ENV{NGINX_WRAPPER} = "valgrind --leak-check=full --log-file=$log.%p";
    my $nginx = endpoint($redis->url, timeout => 60, allow_log => qr/./);
    is outcome($nginx->http, event('call_started', room => 'a')), 200, 'an event';
    $nginx->stop;

    my $found = join '', map { slurp($_) } glob "$log.*";
    like $found, qr/LEAK SUMMARY/, 'valgrind looked';
    unlike $found, qr/\b2,048 bytes in 1 blocks are definitely lost/, 'no block of a command is lost';
};

# --- a connection that is dropped in silence

my $OPTIONS = <<'END_OF_SOURCE';
    #include <dlfcn.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <sys/socket.h>
    #include <netinet/in.h>
    #include <netinet/tcp.h>

    int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
    {
        static int (*next)(int, int, int, const void *, socklen_t);
        const char *path = getenv("OPTIONS");
        FILE *log;

        if (next == NULL) {
            next = dlsym(RTLD_NEXT, "setsockopt");
        }
        if (path && (log = fopen(path, "a")) != NULL) {
            if (level == SOL_SOCKET && name == SO_KEEPALIVE) {
                fprintf(log, "keepalive %d\n", *(const int *) value);
            } else if (level == IPPROTO_TCP && name == TCP_USER_TIMEOUT) {
                fprintf(log, "user_timeout %d\n", *(const int *) value);
            } else if (level == IPPROTO_TCP && name == TCP_KEEPIDLE) {
                fprintf(log, "idle %d\n", *(const int *) value);
            }
            fclose(log);
        }
        return next(fd, level, name, value, len);
    }
END_OF_SOURCE

# The timer of the connection from nginx to the port: kind, and when it fires, s.
sub tcp_timer ($port) {
    for (split /\n/, slurp('/proc/net/tcp')) {
        my (undef, undef, $to, $state, undef, $timer) = split;
        next if ($state // '') ne '01' || $to !~ /:([0-9A-F]{4})$/ || hex $1 != $port;
        my ($kind, $when) = split /:/, $timer;
        return ($kind, hex($when) / 100);
    }
    return;
}

subtest 'keepalive' => sub {
    my $fake = fake(sub ($command, $n) { REPLY }, tcp => 1);
    my $library = preloadable(options => $OPTIONS);
    my $log = tmpdir() . '/options';
    my $nginx = do {
        local $ENV{NGINX_WRAPPER} = $ENV{NGINX_WRAPPER};
        $ENV{NGINX_WRAPPER} = with_wrapper("env OPTIONS=$log LD_PRELOAD=$library") if $library;
        endpoint($fake->url, main => 'env OPTIONS;');
    };
    is outcome($nginx->http, event('call_started', room => 'a')), 200, 'an event';

    my ($kind, $when);
    ok wait_for(sub { ($kind, $when) = tcp_timer($fake->port); ($kind // '') eq '02' }, 5),
        'the connection has a timer of keepalive';
    cmp_ok $when, '<=', 10.5, '... which looks at it within ten seconds';

    SKIP: {
        skip 'needs a compiler, and no sanitizer', 1 if !$library;
        like slurp($log), qr/^keepalive 1\n(?:.*\n)*?idle 10\n(?:.*\n)*?user_timeout 30000$/m,
            'what is not acknowledged is given up, too';
    }
};

done_testing;
