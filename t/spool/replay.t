# The replay of what waits: it keeps up, nothing waits for what Redis does not
# take, what waits is not lost, and the result is as if nothing had waited.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Fcntl qw(LOCK_SH);
use JSON::PP qw(decode_json);
use Vaani::Test::Disk;
use Vaani::Test::Endpoint;
use Vaani::Test::Events;
use Vaani::Test::FakeRedis;
use Vaani::Test::Faults;
use Vaani::Test::Scenario;
use Vaani::Test::Socket qw(connect_socket pause wait_readable);
use Vaani::Test::Spool;

# A content and a record of a call's event; "prefix" is that of its key.
sub content ($room, %opt) {
    my $content = delivery_content(room => $room, channels => ['vaani:events'], stream => '', %opt);
    return $content =~ s/vaani:call:\Q$room\E/other:call:$room/r if $opt{other};
    return $content;
}

sub record (@of) { return journal_record(content(@of)) }

# Calls with another prefix, which the ACL of the default user does not have.
sub nginx ($redis, $dir, %opt) {
    my $spool = delete $opt{spool} // '';
    my $url = ref $redis ? $redis->url : $redis;
    my $common = "vaani_redis $url; vaani_redis_timeout 2s; vaani_redis_connect_timeout 300ms;
        vaani_channel vaani:events; vaani_spool $dir $spool;";
    return Vaani::Test::Nginx->start(
        workers => 2, log_level => 'notice', %opt,
        http => "server { listen unix:%%SOCK%%; $common
            location /hook { vaani_webhook; }
            location /other { vaani_webhook; vaani_prefix other; }
            location /health { vaani_health; }
            location /status { vaani_status; } }",
    );
}

# Delays the delivery of waiting records until it is closed: an empty, locked
# segment before all others.
sub hold ($dir) {
    spew("$dir/" . segment(1), '');
    open my $fh, '<', "$dir/" . segment(1) or die "open: $!\n";
    flock $fh, LOCK_SH or die "flock: $!\n";
    return $fh;
}

# The word that an event is answered with; its status if it has none.
sub post ($nginx, $body, $uri = '/hook', %headers) {
    my $answer = $nginx->http->post($uri, $body, %headers);
    return $answer->body =~ /^\{"status":"(\w+)"/ ? $1 : $answer->status;
}

sub ringing ($room) { return event('call_ringing', room => $room) }

# The waiting records: [ since, tries, content ], with 0 tries for untried
# ones.
sub waiting ($dir) {
    my @contents = eval {
        map { journal_contents(slurp("$dir/$_")) } segments($dir);
    };
    return map { my @late = deferred($_); @late ? \@late : [ 0, 0, $_ ] } @contents;
}

# Waits until exactly so many wait, each tried so often.
sub wait_ok ($dir, $n, $tries, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok(wait_for(sub {
        my @late = waiting($dir);
        return @late == $n && !grep { $_->[1] < $tries } @late;
    }, 20), $name) || diag explain [ map { [ @$_[ 0, 1 ] ] } waiting($dir) ];
}

sub drains ($dir, $timeout = 40) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @left = await_empty($dir, $timeout);
    return is "@left", '', 'no segment is left';
}

sub seq ($redis, $room, $prefix = 'vaani') { return $redis->client->cmd(HGET => "$prefix:call:$room", 'seq') }

# The only worker has found Redis again.
sub is_back ($nginx) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok wait_for(sub { healthy($nginx) =~ /"ok"/ && post($nginx, ringing('back' . now())) eq 'ok' }), 'Redis is back';
}

# The status of the only spool.
sub status ($nginx) {
    my $page = $nginx->http->get('/status', Accept => 'application/json')->body;
    return decode_json($page)->{spools}[0];
}

sub empty_ok ($nginx) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok(wait_for(sub { my $status = status($nginx); !$status->{records} && !$status->{bytes} }, 5),
        'nothing is counted any more, not a byte') || diag explain status($nginx);
}

sub healthy ($nginx) {
    my $answer = $nginx->http->get('/health');
    return $answer->status . ' ' . $answer->body =~ s/\s+\z//r;
}

# --- nothing is applied twice, nothing ends

scenario 'many events of a call, without ids, behind one that waits' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $dir = spool();
    my $nginx = nginx($redis, $dir);

    $redis->kill;
    is post($nginx, ringing('blocked'), '/other'), 'queued', 'one that Redis will not take';
    my $http = $nginx->http;
    for my $n (1 .. 200) {
        my $what = $n % 2 ? 'initiated' : 'failed';
        $http->post('/hook', event("human_transfer_$what", room => 'busy', phone_number => "+$n"));
    }
    $redis->restart;

    ok wait_for(sub { (seq($redis, 'busy') // 0) >= 200 }), 'all of the others are delivered';
    is seq($redis, 'busy'), 200, 'once';
    my %call = %{ $redis->client->hgetall('vaani:call:busy') };

    for my $n (1 .. 3) {
        $nginx->reload(wait_old => 1);
        my ($tries) = map { $_->[1] } waiting($dir);
        ok wait_for(sub { my ($late) = waiting($dir); $late && $late->[1] > ($tries // 0) }, 20),
            "reload $n: the one that waits is tried by another worker";
        is_deeply $redis->client->hgetall('vaani:call:busy'), \%call, '... and the call is as it was';
    }
};

# A proxy that keeps what it gets for 10 ms, in both directions.
sub far_away ($redis) {
    return Vaani::Test::FakeRedis->start(on_connect => sub ($sock, $fake, $n) {
        my $server = connect_socket($redis->socket);
        my @queue;    # [ when, to whom, bytes ]

        while (1) {
            my $bits = '';
            vec($bits, fileno $_, 1) = 1 for $sock, $server;
            my $wait = @queue ? $queue[0][0] - now() : undef;
            select $bits, undef, undef, defined $wait && $wait < 0 ? 0 : $wait;

            for my $pair ([ $sock, $server ], [ $server, $sock ]) {
                next if !wait_readable($pair->[0], 0);
                sysread $pair->[0], my $bytes, 1 << 20 or return;
                push @queue, [ now() + 0.01, $pair->[1], $bytes ];
            }
            while (@queue && $queue[0][0] <= now()) {
                my $due = shift @queue;
                send_bytes(@$due[ 1, 2 ]) or return;
            }
        }
    });
}

scenario 'Redis is far away' => sub {
    my $redis = Vaani::Test::Redis->start(acl => STREAM);
    my $proxy = far_away($redis);
    my $n = 8000;
    my $dir = spool(next => join '', map { record("late$_") } 1 .. $n);

    my $nginx = Vaani::Test::Nginx->start(
        workers => 2, log_level => 'notice',
        http => spool_config($proxy, dir => $dir) =~ s/timeout 300ms/timeout 3s/gr,
    );
    my $load = Vaani::Test::Faults->start($nginx, rate => 2500, connections => 120, calls => 240);
    ok $load->await(ok => 300), 'there is live traffic';

    # nginx is not notified of the file, but reads the directory periodically.
    my $client = $redis->client;
    rename "$dir/next", "$dir/" . segment(1) or die "rename: $!";
    ok wait_for(sub { $client->cmd('EXISTS', 'vaani:call:late1') }), 'it is found';

    my $from = now();
    my $live = $load->count('ok');
    drains($dir);
    my $took = now() - $from;
    my $rate = ($load->count('ok') - $live) / $took;
    cmp_ok $took, '<', 6, sprintf 'all are delivered after %.1f s', $took;    # 16 at a time: 10
    cmp_ok $rate, '>', 500, sprintf '%d live ones a second meanwhile', $rate;

    $load->stop;
    is_deeply [ sort keys %{ $load->counts } ], ['ok'], 'each of which was answered "ok"'
        or diag explain $load->counts;
    $client = $redis->client;
    is_deeply [ grep { ($_ // 0) ne '1' } $client->pipeline(map { [ HGET => "vaani:call:late$_", 'seq' ] } 1 .. $n) ],
        [], 'each of the others was applied once';
};

scenario 'a key that the ACL does not have' => sub {
    my $redis = Vaani::Test::Redis->start(config => [ 'appendonly yes' ]);
    my $dir = spool();
    my $nginx = nginx($redis, $dir, workers => 1);

    is post($nginx, ringing('blocked'), '/other'), 'queued', 'its event is queued';
    wait_ok($dir, 1, 1, '... and waits');
    $redis->kill;
    is post($nginx, ringing("q$_")), 'queued', 'queued, while Redis is away' for 1 .. 3;
    $nginx->stop;
    $redis->restart;
    $nginx->restart;

    is post($nginx, ringing("after$_")), 'ok', "nginx is new: call $_ is answered directly" for 1 .. 20;
    is post($nginx, event('call_started', room => 'q1')), 'ok', 'one with an event that waits, too';
    ok wait_for(sub { 3 == grep { seq($redis, "q$_") } 1 .. 3 }), 'those that waited are delivered';
    is post($nginx, ringing('blocked2'), '/other'), 'queued', 'another one of that key is queued';
    is healthy($nginx), '200 {"status":"ok"}', 'an event would be answered 200, and directly';
    wait_ok($dir, 2, 2, 'what Redis does not take is tried again');
    ok !-e "$dir/dead-letters", 'and no dead letter';

    ok wait_for(sub { status($nginx)->{records} == 2 }, 5), 'the status counts them' or diag explain status($nginx);
    my $status = status($nginx);
    is $status->{appended}, 1, '... and each event once';    # of this nginx

    $redis->kill;
    ok wait_for(sub { post($nginx, ringing('gone')); healthy($nginx) =~ /queueing/ }),
        'without Redis, health says that it queues';
    $redis->restart;

    $redis->client->cmd(qw(ACL SETUSER default ~other:*));
    drains($dir);
    is seq($redis, $_, 'other'), 1, "$_ is delivered" for qw(blocked blocked2);
    empty_ok($nginx);
};

scenario 'a spool that cannot be written to' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $dir = spool();
    my $held = hold($dir);
    my $nginx = nginx($redis, $dir, workers => 1);

    $redis->kill;
    is post($nginx, ringing('call')), 'queued', 'an event waits';
    rename $dir, "$dir.away";
    spew($dir, 'no directory');
    is post($nginx, ringing('lost')), 503, 'another one finds no place';

    $redis->restart;
    ok wait_for(sub { post($nginx, ringing('first')) ne 503 }), 'Redis is back';
    is post($nginx, event('call_started', room => 'call')), 'ok', 'a later event of the call that waits is taken';
    is post($nginx, ringing("other$_")), 'ok', 'so are others' for 1 .. 5;
    is post($nginx, ringing('blocked'), '/other'), 503, 'but not what Redis does not take';

    unlink $dir;
    rename "$dir.away", $dir;
    close $held;
    drains($dir);
    is seq($redis, 'call'), 2, 'and the one that waited is delivered';
};

# --- unknown errors

# A proxy that answers events with a text in place of Redis: file "some" has it for
# rooms with "odd" in their names, "all" for all of them.
sub odd_proxy ($redis, $mode) {
    return Vaani::Test::FakeRedis->start(on_connect => sub ($sock, $fake, $n) {
        my $server = Vaani::Test::RESP->connect($redis->socket);

        while (my $command = read_command($sock)) {
            my $text = $command->[0] !~ /^EVALSHA$/i ? ''
                : slurp("$mode/all") || ("@$command" =~ /vaani:call:odd/ ? slurp("$mode/some") : '');
            if ($text) {
                send_bytes($sock, "-$text\r\n") or return;
                next;
            }
            my ($reply, $error) = $server->try_cmd(@$command);
            send_bytes($sock, defined $error ? "-$error\r\n" : encode_reply($reply)) or return;
        }
    });
}

sub encode_reply ($reply) {
    return "\$-1\r\n" if !defined $reply;
    return '*' . @$reply . "\r\n" . join('', map { encode_reply($_) } @$reply) if ref $reply;
    return $reply =~ /^-?\d+\z/ ? ":$reply\r\n" : '$' . length($reply) . "\r\n$reply\r\n";
}

sub modes (%mode) {
    state $dirs = 0;
    my $dir = tmpdir() . '/mode' . ++$dirs;
    mkdir $dir;
    set_mode($dir, all => '', some => '', %mode);
    return $dir;
}

sub set_mode ($dir, %mode) {
    for (keys %mode) {
        spew("$dir/$_.new", $mode{$_});
        rename "$dir/$_.new", "$dir/$_";
    }
    return;
}

for my $text (
    'ERR upstream failure', 'ERR max daily request limit exceeded',
    'ERR Script killed by user with SCRIPT KILL.',
) {
    scenario $text => sub {
        my $redis = Vaani::Test::Redis->start;
        my $mode = modes(some => $text);
        my $dir = spool();
        my $nginx = nginx(odd_proxy($redis, $mode)->url, $dir);

        is post($nginx, ringing('odd1')), 'queued', 'an event with that answer is queued';
        is post($nginx, ringing('fine1')), 'ok', 'another one is taken';
        wait_ok($dir, 1, 3, 'the first one waits, and is tried again');
        is post($nginx, ringing('fine2')), 'ok', 'others are taken all the while';

        set_mode($mode, all => $text);
        is post($nginx, ringing($_)), 'queued', 'nothing is taken any more' for qw(odd2 fine3);
        wait_ok($dir, 3, 2, 'all wait');
        ok !-e "$dir/dead-letters", 'there is no dead letter';

        set_mode($mode, all => '', some => '');
        drains($dir);
        is seq($redis, $_), 1, "$_ is delivered, once" for qw(odd1 odd2 fine1 fine2 fine3);
        ok !-e "$dir/dead-letters", 'and no dead letter is left';
    };
}

scenario 'after ten minutes' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $text = 'ERR upstream failure';
    my $late = sub ($room, $age) {
        return journal_record(
            deferred_content(time() - $age, 7, content($room)),
        );
    };

    # Nothing succeeds.
    my $mode = modes(all => $text);
    my $dir = spool(segment(1) => $late->('odd1', 4000));
    my $nginx = nginx(odd_proxy($redis, $mode)->url, $dir);
    wait_ok($dir, 1, 9, 'while nothing is delivered: it is tried again');
    ok !-e "$dir/dead-letters", '... and no dead letter';
    my ($since) = map { $_->[0] } waiting($dir);
    cmp_ok time() - $since, '>=', 4000, '... and since when it waits is still known';
    cmp_ok status($nginx)->{oldest}, '<=', 1000 * (time() - 4000), '... to the status, too';
    $nginx->stop;

    # Others do.
    set_mode($mode, all => '', some => $text);
    $dir = spool(segment(1) => join '', record('fine'), $late->('odd1', 700), $late->('odd2', 300));
    $nginx = nginx(odd_proxy($redis, $mode)->url, $dir);
    ok wait_for(sub { post($nginx, ringing('live' . now())) eq 'ok' && -s "$dir/dead-letters" }, 20),
        'while others are: it is a dead letter';
    wait_ok($dir, 1, 8, '... but not one that waits for less');
    like +(waiting($dir))[0][2], qr/vaani:call:odd2/, '... which is the other one';
    my @dead = journal_contents(slurp("$dir/dead-letters"));
    is_deeply \@dead, [ pack('xC/a*', $text) . content('odd1') ], '... whole, with the reason';
    ok wait_for(sub { status($nginx)->{dead_letters} == 1 }, 5), '... and counted' or diag explain status($nginx);
};

# A key that Redis does not take for now is nothing unknown.
scenario 'after ten minutes without the right to a key' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $dir = spool(segment(1) => journal_record(
        deferred_content(time() - 100_000, 65535, content('blocked', other => 1)),
    ));
    my $nginx = nginx($redis, $dir);
    is post($nginx, ringing('fine')), 'ok', 'another one is taken';
    ok wait_for(sub { segments($dir) && !-e "$dir/" . segment(1) }), 'it was tried';
    wait_ok($dir, 1, 65535, 'it waits on');
    ok !-e "$dir/dead-letters", 'and is no dead letter';
};

# --- what waits is no load

scenario 'many segments of which nothing can be delivered' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $dir = spool(
        (map { (segment($_) => record("blocked$_", other => 1)) } 1 .. 30), segment(31) => record('good'),
    );
    my $from = now();
    my $nginx = nginx($redis, $dir);
    ok wait_for(sub { seq($redis, 'good') }, 60), 'what is behind them is delivered';
    my $took = now() - $from;
    cmp_ok $took, '<', 8, sprintf 'after %.1f s', $took;
    wait_ok($dir, 30, 2, 'they wait on, all of them');

    # An event comes now and then that Redis does not take either.
    ok wait_for(sub { status($nginx)->{records} == 30 }), 'the status knows how many';
    my $tries = (waiting($dir))[0][1];
    $from = now();
    for my $n (1 .. 20) {
        is post($nginx, ringing("more$n"), '/other'), 'queued', "another one, $n";
        pause(0.1);
    }
    wait_ok($dir, 50, 1, 'they wait, too');
    my ($most) = sort { $b <=> $a } map { $_->[1] } waiting($dir);
    cmp_ok $most - $tries, '<=', 3 + (now() - $from), 'but what waits is not tried for each of them';
};

scenario 'no room for what is to wait' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $dir = spool(
        segment(1) => record('good1') . record('blocked', other => 1) . record('good2'),
        segment(2) => record('good3'),
        segment(3) => record('good4') . record('blocked4', other => 1),
    );
    my ($nginx, $set) = on_bad_disk('*/spool*.log', sub ($main) { nginx($redis, $dir, main => $main) }, 'full')
        or plan skip_all => 'no library can be preloaded';
    ok wait_for(sub { 4 == grep { seq($redis, "good$_") } 1 .. 4 }), 'what is behind it is delivered';
    ok $nginx->wait_log(qr/\[crit\].*cannot write waiting events of segment 1 .* moved there \(28: /), 'it is said';
    pause(1.5);    # more than one round
    my @lines = $nginx->log_lines(qr/moved there/);
    cmp_ok scalar @lines, '<=', 8, 'not all the time';
    is seq($redis, "good$_"), 1, "good$_ is applied once" for 1 .. 4;
    is scalar(grep { $_->[2] =~ /blocked/ } waiting($dir)), 2, 'and what is to wait is still there';

    $set->(full => 0);
    wait_ok($dir, 2, 1, 'there is room again: only those two wait');
    ok wait_for(sub { status($nginx)->{records} == 2 }, 5), 'and are counted' or diag explain status($nginx);
    $redis->client->cmd(qw(ACL SETUSER default ~other:*));
    drains($dir);
    is seq($redis, $_, 'other'), 1, "$_ is delivered" for qw(blocked blocked4);
    empty_ok($nginx);
};

# The crash between the writing of what waits and the end of its segment.
scenario 'what waits is there twice' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $late = journal_record(
        deferred_content(time(), 1, content('blocked', other => 1)),
    );
    my $dir = spool(segment(1) => record('good') . record('blocked', other => 1), segment(2) => $late);
    my $nginx = nginx($redis, $dir, workers => 3, allow_log => qr/exited on signal 9/);
    wait_ok($dir, 2, 1, 'it waits');

    for (1 .. 3) {
        CORE::kill(KILL => $_) for $nginx->worker_pids;
        ok wait_for(sub { (eval { post($nginx, ringing('live')) } // '') =~ /ok|duplicate/ }), 'workers are killed';
    }
    $redis->client->cmd(qw(ACL SETUSER default ~other:*));
    drains($dir);
    is seq($redis, 'blocked', 'other'), 1, 'it is applied once';
    is seq($redis, 'good'), 1, 'so is the other';
};

# --- the result is that of the receipt

scenario 'a transfer that is sent again while its first copy waits' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $dir = spool();
    my $held = hold($dir);
    my $nginx = nginx($redis, $dir, workers => 1);
    my $number = '+919876543210';
    my $initiated = event('human_transfer_initiated', room => 'call', phone_number => $number);

    $redis->kill;
    is post($nginx, $initiated), 'queued', 'nobody heard this answer, say';
    $redis->restart;
    is_back($nginx);
    is post($nginx, $initiated), 'ok', 'it is sent again, without an id';
    is post($nginx, event('human_transfer_successful', room => 'call', phone_number => $number)), 'ok', 'and succeeds';

    my $fields = sub {
        my %call = %{ $redis->client->hgetall('vaani:call:call') };
        return [ @call{qw(transfer_status transfers_initiated transfers_successful transfers_failed)} ];
    };
    my $before = $fields->();
    is_deeply $before, [ 'successful', 1, 1, 0 ], 'one transfer';
    close $held;
    drains($dir);
    is_deeply $fields->(), $before, 'the first copy is delivered: still one, and successful';
};

scenario 'an older call_postprocessing behind a newer one' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $dir = spool();
    my $held = hold($dir);
    my $nginx = nginx($redis, $dir, workers => 1);

    my $body = sub ($which) {
        return event('call_postprocessing', room => 'call', summary => "the $which summary", transcript => "the $which one",
            call_duration => $which eq 'older' ? 60000 : 61000);
    };
    $redis->kill;
    is post($nginx, $body->('older')), 'queued', 'the older one waits';
    $redis->restart;
    is_back($nginx);
    my $subscriber = $redis->client->subscribe('vaani:events');
    is post($nginx, $body->('newer')), 'ok', 'the newer one does not';
    close $held;
    drains($dir);

    my $call = $redis->client->hgetall('vaani:call:call');
    is $call->{summary}, 'the newer summary', 'its summary stands';
    is $call->{transcript}, 'the newer one', 'so does its transcript';
    is $call->{call_duration_ms}, 61000, 'and its duration';
    is $call->{seq}, 2, 'both were applied';

    my @late = map { decode_json($_->{payload}) } $subscriber->next_messages(2);
    is_deeply [ map { [ $_->{payload}{summary}, $_->{replayed} ? 1 : 0 ] } @late ],
        [ [ 'the newer summary', 0 ], [ 'the older summary', 1 ] ], 'the messages say which one waited';
    cmp_ok $late[1]{received_at}, '<', $late[0]{received_at}, '... and when it was received';
};

done_testing;
