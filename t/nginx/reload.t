# Reloads, shutdowns and crashes of workers: no event is lost, no file or
# process remains, and no client is kept waiting.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP qw(decode_json);
use Socket qw(AF_INET SOCK_DGRAM inet_aton pack_sockaddr_in unpack_sockaddr_in);
use Vaani::Test::Events;
use Vaani::Test::FakeRedis;
use Vaani::Test::HTTP qw(format_request);
use Vaani::Test::Process;

sub http_text ($directives) {
    return <<"CONF";
        server {
            listen unix:%%SOCK%%;
            # Angie and freenginx keep the idle connections of a worker that
            # shuts down for that long, those of nginx end at once.
            lingering_timeout 0;
            $directives
            location = /vaani   { vaani_webhook; }
            location = /writing { return 200 \$connections_writing; }
        }
CONF
}

# An endpoint at /vaani, with these directives in its server.
sub endpoint ($directives, %opt) {
    return Vaani::Test::Nginx->start(%opt, http => http_text($directives));
}

use constant LONG => 'vaani_redis_connect_timeout 20s; vaani_redis_timeout 20s;';

sub key ($room) { return "vaani:call:$room" }

sub answer ($response) {
    my $got = $response->status . ' ' . $response->body;
    return $got =~ /^200 \{"status":"(\w+)"\}\n\z/ ? $1 : $response->status == 503 ? '503' : $got;
}

sub post ($nginx, $body = event('call_started', room => new_room())) {
    return answer(($nginx->{client} //= $nginx->http)->post('/vaani', $body));
}

sub timed ($code) {
    my $start = now;
    my @result = $code->();
    return (now() - $start, @result);
}

# The events to be sent, without waiting for an answer; the client.
sub send_event ($nginx, $body) {
    my $client = $nginx->http;
    $client->send_raw(join '', format_request(method => 'POST', uri => '/vaani', body => $body));
    return $client;
}

# Waits until nginx has taken so many events without an answer.
sub under_way ($nginx, $events) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $client = $nginx->http;
    return ok wait_for(sub { $client->get('/writing')->body == 1 + $events }), "$events under way";
}

# A load of events from another process, until stop_load(): each of them with a
# number of its own, n, in the rooms that $room->(n) names.
my $loads = 0;

sub start_load ($nginx, $room, %opt) {
    my $path = tmpdir() . '/load' . ++$loads;
    my $connections = $opt{connections} // 8;

    my $process = Vaani::Test::Process->spawn_code(sub {
        open my $out, '>', $path or die "open: $!\n";
        my $n = 0;

        until (-e "$path.stop") {
            my @bodies = map {
                event($_ % 2 ? 'human_transfer_failed' : 'call_ended', room => $room->($_), n => $_)
            } $n .. $n + 199;
            post_many($nginx->sock, '/vaani', \@bodies, connections => $connections, retry => $opt{retry} // 1,
                on_response => sub ($i, $response) {
                    syswrite $out, $n + $i . ' ' . ($response->status ? answer($response) : 'broken') . "\n";
                });
            $n += 200;
        }
        return 0;
    });

    return { process => $process, path => $path };
}

# How many answers there are by now.
sub progress ($load) { return slurp($load->{path}) =~ tr/\n// }

# Returns what each event was answered, by its number.
sub stop_load ($load) {
    spew("$load->{path}.stop", '');
    $load->{process}->wait(60) or die "the load does not end\n";
    $load->{process}->kill_group;
    is $load->{process}->status, 0, 'the load ended well';
    return { map { split ' ', $_, 2 } split /\n/, slurp($load->{path}) };
}

sub stream_counts ($redis) {
    my %count;
    $count{ decode_json($_->[1][1])->{payload}{n} // '' }++
        for @{ $redis->client->cmd('XRANGE', 'events', '-', '+') };
    return \%count;
}

sub descriptors (@pids) {
    my $count = 0;
    for my $pid (@pids) {
        opendir my $dh, "/proc/$pid/fd" or die "opendir: $!\n";
        $count += grep { /^\d/ } readdir $dh;
    }
    return $count;
}

# --- reloads

subtest '30 reloads under load' => sub {
    my $redis = Vaani::Test::Redis->start(acl => [qw(~events +xadd)], tcp => 1);
    my $nginx = endpoint(
        "vaani_redis @{[ $redis->url ]}; vaani_redis_connections 2; vaani_stream events; " . LONG,
        workers => 2,
    );
    my $before = descriptors($nginx->pid);
    my $load = start_load($nginx, sub ($n) { 'shared-' . $n % 5 });

    my $reloads = 0;
    for (1 .. 30) {
        my $answers = progress($load);
        $reloads += $nginx->reload;
        wait_for(sub { progress($load) > $answers + 20 }) or fail('the load goes on'), last;
    }
    is $reloads, 30, 'reloaded';

    my $answers = stop_load($load);
    my $events = keys %$answers;
    is_deeply [ grep { $_ ne 'ok' } values %$answers ], [], "none of $events events is refused or lost";
    is_deeply stream_counts($redis), { map { ($_ => 1) } 0 .. $events - 1 }, 'each is applied once';
    my $sum = 0;
    $sum += $redis->client->cmd('HGET', key("shared-$_"), 'seq') for 0 .. 4;
    is $sum, $events, 'seq adds up';

    ok wait_for(sub { $nginx->worker_pids == 2 }), 'the old workers are gone';
    is descriptors($nginx->pid), $before, 'the master has no more descriptors';
    is(() = $redis->client->cmd('CLIENT', 'LIST') =~ /cmd=(?:evalsha|script)/g, 4, 'nor Redis more connections');
    ok $nginx->stop, 'stop';
};

subtest 'a reload to another Redis' => sub {
    my ($one, $two) = map { Vaani::Test::Redis->start } 1, 2;
    my $nginx = endpoint("vaani_redis @{[ $one->url ]}; " . LONG);
    my ($old) = $nginx->worker_pids;
    is post($nginx), 'ok', 'before';

    $one->suspend;
    my @rooms = map { new_room() } 1 .. 5;
    my @clients = map { send_event($nginx, event('call_started', room => $_)) } @rooms;
    under_way($nginx, 5);

    ok $nginx->reload(http => http_text("vaani_redis @{[ $two->url ]};")), 'reload';
    my $room = new_room();
    is post($nginx, event('call_started', room => $room)), 'ok', 'new events';
    is $two->client->cmd('EXISTS', key($room)), 1, '... go to the new one';
    ok !$nginx->wait_pids_gone([$old], 0), 'the old worker waits';

    $one->resume;
    is_deeply [ map { answer($_->read_response) } @clients ], [ ('ok') x 5 ], 'what was under way';
    is $one->client->cmd('EXISTS', map { key($_) } @rooms), 5, '... went to the old one';
    my ($time) = timed(sub { $nginx->wait_pids_gone([$old]) });
    cmp_ok $time, '<', 2, '... and the old worker is gone';
    is $one->client->cmd('CLIENT', 'LIST') =~ tr/\n//, 1, '... with its connection';
};

subtest 'reloads while Redis is away' => sub {
    my $redis = Vaani::Test::Redis->start;
    $redis->stop;
    my $nginx = endpoint("vaani_redis @{[ $redis->url ]};", workers => 2);

    for (1 .. 5) {
        is post($nginx), '503', 'refused';
        ok $nginx->reload(wait_old => 1), 'reload';
    }
    $redis->restart;
    ok wait_for(sub { post($nginx) eq 'ok' }), 'taken again';
    ok $nginx->reload(wait_old => 1), 'reload';
    is post($nginx), 'ok', 'at once';
};

subtest 'a reload without the module, and back' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $http = http_text("vaani_redis @{[ $redis->url ]};");
    my $nginx = Vaani::Test::Nginx->start(http => $http);

    for (1 .. 3) {
        is post($nginx), 'ok', 'with it';
        ok $nginx->reload(http => 'server { listen unix:%%SOCK%%; return 204; }', wait_old => 1), 'reload';
        is $nginx->http->get('/')->status, 204, 'without';
        ok wait_for(sub { $redis->client->cmd('CLIENT', 'LIST') =~ tr/\n// == 1 }), 'no connection is left';
        ok $nginx->reload(http => $http, wait_old => 1), 'reload';
    }
};

# --- crashes of workers

subtest 'workers are killed under load' => sub {
    my $redis = Vaani::Test::Redis->start(acl => [qw(~events +xadd)]);
    my $nginx = endpoint("vaani_redis @{[ $redis->url ]}; vaani_stream events; " . LONG, workers => 4);
    $nginx->allow_log(qr/exited on signal 9/);
    my $load = start_load($nginx, sub ($n) { "load-$n" }, connections => 16, retry => 0);

    my $kills = 0;
    for (1 .. 10) {
        my $answers = progress($load);
        wait_for(sub { progress($load) > $answers + 50 }) or fail('the load goes on'), last;
        my @workers = $nginx->worker_pids;
        kill KILL => $workers[ rand @workers ];
        $kills++;
        ok wait_for(sub { $nginx->worker_pids == 4 }), 'another one is started';
    }

    my $answers = stop_load($load);
    my @broken = grep { $answers->{$_} eq 'broken' } keys %$answers;
    my $events = keys %$answers;
    is_deeply [ grep { !/^(?:ok|broken)$/ } values %$answers ], [], "none of $events events is refused";
    cmp_ok scalar(@broken), '<=', 16 * $kills, @broken . ' were broken off';
    my $count = stream_counts($redis);
    is_deeply [ grep { $answers->{$_} eq 'ok' && ($count->{$_} // 0) != 1 } keys %$answers ], [],
        'what was taken was applied, once';

    my %again;
    for my $n (@broken) {
        my $event = $n % 2 ? 'human_transfer_failed' : 'call_ended';
        $again{ post($nginx, event($event, room => "load-$n", n => $n + 0)) }++;
    }
    is_deeply [ grep { !/^(?:ok|duplicate)$/ } keys %again ], [], 'the others are sent again';
    is_deeply stream_counts($redis), { map { ($_ => 1) } keys %$answers }, '... and applied once';
};

# --- graceful shutdown

# Returns when the worker has begun to.
sub shut_down ($nginx) {
    my $mark = $nginx->log_mark;
    $nginx->signal('QUIT');
    $nginx->wait_log(qr/gracefully shutting down/, 30, $mark) // die "no shutdown\n";
    return;
}

subtest 'a shutdown waits for replies' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $nginx = endpoint("vaani_redis @{[ $redis->url ]}; " . LONG);
    my ($worker) = $nginx->worker_pids;
    is post($nginx), 'ok', 'before';

    $redis->suspend;
    my @rooms = map { new_room() } 1 .. 10;
    my @clients = map { send_event($nginx, event('call_started', room => $_)) } @rooms;
    under_way($nginx, 10);

    shut_down($nginx);
    ok !$nginx->wait_pids_gone([$worker], 0.1), 'the worker waits';
    $redis->resume;
    is_deeply [ map { answer($_->read_response) } @clients ], [ ('ok') x 10 ], 'answered';

    my ($time, $ended) = timed(sub { $nginx->stop });
    ok $ended && $time < 2, sprintf 'ended after %.2f s', $time;
    is $redis->client->cmd('EXISTS', map { key($_) } @rooms), 10, 'applied';
};

subtest '... or for the timeout' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $nginx = endpoint("vaani_redis @{[ $redis->url ]}; vaani_redis_timeout 500ms;");
    is post($nginx), 'ok', 'before';

    $redis->suspend;
    my ($time, $ended) = timed(sub {
        my @clients = map { send_event($nginx, event('call_started', room => new_room())) } 1 .. 10;
        under_way($nginx, 10);
        shut_down($nginx);
        is_deeply [ map { answer($_->read_response) } @clients ], [ ('503') x 10 ], 'refused';
        return $nginx->stop;
    });
    ok $ended && $time > 0.45 && $time < 5, sprintf 'ended after %.2f s', $time;
};

subtest '... also for a connection that is not there yet' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $gate = tmpdir() . '/gate';
    my $relay = Vaani::Test::FakeRedis->start(on_connect => sub ($sock, $self, $n) {
        $self->report('connected');
        Vaani::Test::wait_for(sub { -e $gate });
        relay($sock, $redis->socket);
    });
    my $nginx = endpoint("vaani_redis @{[ $relay->url ]}; " . LONG);
    is $relay->next_report, 'connected', 'connecting';

    my $client = send_event($nginx, event('call_started'));
    under_way($nginx, 1);
    shut_down($nginx);
    spew($gate, '');
    is answer($client->read_response), 'ok', 'answered';
    my ($time, $ended) = timed(sub { $nginx->stop });
    ok $ended && $time < 2, sprintf 'ended after %.2f s', $time;
};

subtest '... and for a reply that nobody waits for' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $relay = Vaani::Test::FakeRedis->start(on_connect => sub ($sock, $self, $n) {
        relay($sock, $redis->socket, up => sub ($bytes) { $self->report('sent') if $bytes =~ /EVALSHA/; $bytes });
    });
    my $nginx = endpoint("vaani_redis @{[ $relay->url ]}; " . LONG);
    is post($nginx), 'ok', 'before';
    is $relay->next_report, 'sent', '... sent';

    $redis->suspend;
    my $room = new_room();
    my $client = send_event($nginx, event('call_started', room => $room));
    is $relay->next_report, 'sent', 'under way';
    $client->close;
    shut_down($nginx);
    $redis->resume;

    my ($time, $ended) = timed(sub { $nginx->stop });
    ok $ended && $time < 2, sprintf 'ended after %.2f s', $time;
    is $redis->client->cmd('EXISTS', key($room)), 1, 'applied';
};

subtest 'a fast shutdown does not wait' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $nginx = endpoint("vaani_redis @{[ $redis->url ]}; " . LONG);
    is post($nginx), 'ok', 'before';

    $redis->suspend;
    my @clients = map { send_event($nginx, event('call_started', room => new_room())) } 1 .. 10;
    under_way($nginx, 10);
    my ($time) = timed(sub {
        $nginx->signal('TERM');
        wait_for(sub { !$nginx->alive });
    });
    cmp_ok $time, '<', 2, sprintf 'ended after %.2f s', $time;
    ok $nginx->stop, 'well';
};

# With nothing under way nothing holds it up, least of all a timer of 20 s.
{
    my $silent = Vaani::Test::FakeRedis->start(on_connect => sub ($sock, $self, $n) {
        $self->report('accepted');
        1 while sysread $sock, my $buf, 65536;
    });

    socket(my $dns, AF_INET, SOCK_DGRAM, 0) or die "socket: $!\n";
    bind($dns, pack_sockaddr_in(0, inet_aton('127.0.0.1'))) or die "bind: $!\n";
    my ($dns_port) = unpack_sockaddr_in(getsockname $dns);

    for (
        [ 'a new connection' => '', sub ($nginx, $redis) { } ],
        [ 'an idle connection' => '', sub ($nginx, $redis) { is post($nginx), 'ok', 'an event' } ],
        [ 'many idle connections' => 'vaani_redis_connections 16;', sub ($nginx, $redis) {
            is_deeply { map { (post($nginx) => 1) } 1 .. 100 }, { ok => 1 }, 'events';
        } ],
        [ 'idle clients' => 'keepalive_timeout 60s;', sub ($nginx, $redis) {
            is_deeply [ post_many($nginx, '/vaani', [ map { event('call_started', room => new_room()) } 1 .. 100 ]) ],
                [ (200) x 100 ], 'events';
            $nginx->http->connect;
            is post($nginx), 'ok', 'one more';
        } ],
        [ 'Redis away' => '', sub ($nginx, $redis) {
            is post($nginx), 'ok', 'an event';
            $redis->kill;
            ok wait_for(sub { post($nginx) eq '503' }), 'and one that is refused';
        } ],
        [ 'Redis away for long' => '', sub ($nginx, $redis) {
            $redis->kill;
            ok wait_for(sub { ($nginx->log_lines(qr/is unreachable/)) >= 4 }), 'attempts become rare';
        } ],
        [ 'a Redis that hangs' => '', sub ($nginx, $redis) { is post($nginx), 'ok', 'an event'; $redis->suspend } ],
        [ 'a set-up that hangs' => "vaani_redis @{[ $silent->url ]};", sub ($nginx, $redis) {
            is $silent->next_report, 'accepted', 'connected';
        } ],
        [ 'a name server that hangs' => "vaani_redis redis://redis.test; resolver 127.0.0.1:$dns_port ipv6=off;"
            . ' resolver_timeout 20s;', sub ($nginx, $redis) {
            ok Vaani::Test::Socket::wait_readable($dns, 10), 'asked';
        } ],
    ) {
        my ($name, $directives, $prepare) = @$_;

        for my $way ('stop', 'reload') {
            subtest "a $way is not held up by $name" => sub {
                my $redis = Vaani::Test::Redis->start;
                my $url = $directives =~ /vaani_redis / ? '' : "vaani_redis @{[ $redis->url ]};";
                my $nginx = endpoint("$url $directives " . LONG, workers => 2);
                $prepare->($nginx, $redis);

                my ($time, $ended) = timed(sub {
                    return $nginx->stop if $way eq 'stop';
                    return $nginx->reload(http => 'server { listen unix:%%SOCK%%; }', wait_old => 1);
                });
                ok $ended, 'ended';
                cmp_ok $time, '<', 2, sprintf '... after %.2f s', $time;
            };
        }
    }
}

# --- without a master

subtest 'master_process off' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $nginx = endpoint("vaani_redis @{[ $redis->url ]};", single => 1);

    is post($nginx), 'ok', 'an event';
    is_deeply [ post_many($nginx, '/vaani', [ map { event('call_ended', room => new_room()) } 1 .. 200 ]) ],
        [ (200) x 200 ], 'many';
    $redis->client->cmd('CLIENT', 'KILL', 'TYPE', 'normal');
    is post($nginx), 'ok', 'a connection is killed';
    $redis->restart(crash => 1);
    ok wait_for(sub { post($nginx) eq 'ok' }), 'Redis restarts';

    my ($time, $ended) = timed(sub { $nginx->stop });
    ok $ended, 'ended';
    cmp_ok $time, '<', 2, sprintf '... after %.2f s', $time;
};

# A single process is for development. nginx 1.22 itself fails after a reload without a
# master, with or without the module: it closes new connections ("worker_connections
# are not enough"), and writes its log to whatever file has the old descriptor now. The
# module must survive this, and a clean exit.
subtest 'master_process off, and a reload' => sub {
    my $redis = Vaani::Test::Redis->start(acl => [ Vaani::Test::ACL::with_prefix('p*') ]);
    my $nginx = endpoint("vaani_redis @{[ $redis->url ]}; vaani_prefix p0;", single => 1,
        allow_log => qr/worker_connections are not enough/);
    my $pid = $nginx->pid;
    is post($nginx), 'ok', 'before';

    for my $n (1 .. 5) {
        my $mark = $nginx->log_mark;
        spew($nginx->conf_path, slurp($nginx->conf_path) =~ s/vaani_prefix p\d+/vaani_prefix p$n/r);
        $nginx->signal('HUP');
        ok $nginx->wait_log(qr/using the "\w+" event method/, 5, $mark), "reload $n";
        eval { post($nginx) };
        eval { $nginx->http->post('/vaani', event('call_started', room => new_room())) };
    }

    is $nginx->pid, $pid, 'the same process';
    my ($time, $ended) = timed(sub { $nginx->stop });
    ok $ended, 'ended';
    cmp_ok $time, '<', 2, sprintf '... after %.2f s', $time;
};

# --- what is left behind

subtest 'descriptors and connections after 300 losses' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $nginx = endpoint(
        "vaani_redis @{[ $redis->url ]}; vaani_redis_connections 2;",
        workers => 1, events => 'worker_connections 64;',
    );
    my ($worker) = $nginx->worker_pids;
    my $memory = sub () { return slurp("/proc/$worker/status") =~ /^VmRSS:\s*(\d+) kB/m ? $1 : 0 };
    my $settled = sub () {
        return wait_for(sub {
            my @clients = $redis->client->cmd('CLIENT', 'LIST') =~ /cmd=(?:script|evalsha)/g;
            return @clients == 2;
        });
    };

    my ($before, $memory_before);
    for my $round (1 .. 300) {
        if ($round % 10 == 0) {
            $redis->restart(crash => $round % 20);
            ok wait_for(sub { post($nginx) eq 'ok' }), "restart $round" or last;
        } else {
            $redis->client->cmd('CLIENT', 'KILL', 'TYPE', 'normal');
            # The one that is not used has not shown yet that it is any good:
            # when it is killed again, it may take its time.
            like post($nginx), qr/^(?:ok|503)$/, "kill $round";
        }

        # Some come with the first losses: logs, for example.
        if ($round == 20) {
            $settled->();
            ($before, $memory_before) = (descriptors($worker), $memory->());
        }
    }

    ok $settled->(), 'connected';
    is descriptors($worker), $before, "$before descriptors";
    my $growth = $memory->() - $memory_before;
    cmp_ok $growth, '<', 2000, "$growth kB more memory" if $ENV{VAANI_MODULE};
    is_deeply [ $nginx->worker_pids ], [$worker], 'the same worker';

    # All of its connections can still be used.
    my @clients = map { $nginx->http->connect } 1 .. 30;
    $_->send_raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n") for @clients;
    is_deeply { map { ($_->read_response->status => 1) } @clients }, { 404 => 1 }, 'connections for 30 clients';
    $nginx->log_unlike(qr/worker_connections are not enough/);
};

done_testing;
