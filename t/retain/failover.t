# Data lost by Redis comes back, while calls come in: masters that are killed
# while their replica lags, backups that are restored, and each kind of loss
# together with the end of workers or of all of nginx.
#
# VAANI_FAULTS=full in the environment repeats them more often.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use File::Copy qw(copy);
use JSON::PP qw(decode_json);
use Vaani::Test::Endpoint qw(INDEX RETAIN);
use Vaani::Test::Events;
use Vaani::Test::FakeRedis;
use Vaani::Test::Faults;
use Vaani::Test::Retain;
use Vaani::Test::Scenario;
use Vaani::Test::Socket qw(pause);

# --- a replica that lags

# Two servers, one of which is the master; the other gets what it executes
# through a proxy that can hold it back. Clients get to "socket", which is a
# link to that of the master.
package Pair {
    use Vaani::Test::Dir qw(spew tmpdir);
    use Vaani::Test::FakeRedis;
    use Vaani::Test::Socket qw(pause);

    my $count = 0;

    sub new ($class) {
        my $self = bless { name => tmpdir() . '/pair' . ++$count, proxies => 0 }, $class;
        my @config = ('masteruser admin', 'masterauth sesame', 'repl-diskless-sync-delay 0');

        $self->{$_} = Vaani::Test::Retain::redis(config => \@config) for qw(master replica);
        $self->_link;
        $self->_follow;
        return $self;
    }

    sub url ($self) { return "unix:$self->{name}.sock" }
    sub master ($self) { return $self->{master} }
    sub client ($self) { return $self->{master}->client }
    sub log ($self) { return $self->{master}->log }

    sub _link ($self) {
        my $new = "$self->{name}.new";
        symlink $self->{master}->socket, $new or die "symlink: $!\n";
        rename $new, "$self->{name}.sock" or die "rename: $!\n";
        return;
    }

    # The replica gets all that the master has.
    sub _follow ($self) {
        my $master = $self->{master}->socket;
        my $held = $self->{held} = "$self->{name}.held" . ++$self->{proxies};

        $self->{proxy} = Vaani::Test::FakeRedis->start(tcp => 1, on_connect => sub ($sock, @) {
            relay($sock, $master, down => sub ($bytes) {
                pause(0.005) while -e $held;
                return $bytes;
            });
        });
        $self->{replica}->client->cmd('REPLICAOF', '127.0.0.1', $self->{proxy}->port);
        $self->catch_up;
        return;
    }

    # Waits until the replica has what the master has now.
    sub catch_up ($self) {
        my $offset = sub ($redis) {
            my ($at) = $redis->client->cmd('INFO', 'replication') =~ /^(?:slave|master)_repl_offset:(\d+)/m;
            return $at;
        };
        Vaani::Test::wait_for(sub {
            $self->{replica}->client->cmd('INFO', 'replication') =~ /^master_link_status:up/m
        }) or die "the replica does not follow\n";
        my $there = $offset->($self->{master});
        Vaani::Test::wait_for(sub { $offset->($self->{replica}) >= $there }) or die "the replica does not catch up\n";
        return;
    }

    sub hold ($self) { spew($self->{held}, ''); return }

    # The held-back data is never seen.
    sub promote ($self) {
        (delete $self->{proxy})->stop;
        $self->{replica}->client->cmd(qw(REPLICAOF NO ONE));
        @$self{qw(master replica)} = @$self{qw(replica master)};
        $self->_link;
        return;
    }

    # kill -9 of the master.
    sub fail_over ($self) {
        $self->{master}->kill;
        $self->promote;
        return;
    }

    # The one that was killed comes back, as a replica.
    sub repair ($self) {
        $self->{replica}->restart if !$self->{replica}->pid;
        $self->_follow;
        return;
    }
}

# How far the replica lags.
sub lags ($pair, $load) {
    arrives($load, ok => 200);
    $pair->catch_up;
    $pair->hold;
    arrives($load, ok => 300);
}

scenario 'failover to a replica that lags, and back' => sub {
    my $pair = Pair->new;
    my $nginx = nginx($pair);
    my $load = load($nginx);

    # The second one is the failback.
    for my $n (1 .. scaled(2, 6)) {
        lags($pair, $load);
        $pair->fail_over;
        arrives($load, ok => 200);
        $pair->repair if $n < scaled(2, 6);
    }

    account_ok('failover and failback, the replica lags', $load, $pair, $nginx);
    cmp_ok spool_status($nginx)->{brought_back}, '>', 0, 'events were brought back';
};

long_scenario 'two failovers, the second before the first loss is healed' => sub {
    my $pair = Pair->new;
    my $nginx = nginx($pair);
    my $load = load($nginx);

    lags($pair, $load);
    $pair->fail_over;
    $pair->repair;
    $pair->hold;
    arrives($load, ok => 50);
    $pair->fail_over;
    arrives($load, ok => 200);

    account_ok('two failovers at once', $load, $pair, $nginx);
};

scenario 'the old master goes on for a while' => sub {
    my $pair = Pair->new;
    my $nginx = nginx($pair);
    my $load = load($nginx);

    # Connections stay with it although there is another one.
    lags($pair, $load);
    $pair->promote;
    arrives($load, ok => 300);
    $pair->repair;    # as a replica it drops what it has taken since
    arrives($load, ok => 200);

    account_ok('two masters', $load, $pair, $nginx);
};

# --- a restore

scenario 'a backup is restored, and then a later one' => sub {
    my $redis = redis();
    my $nginx = nginx($redis);
    my $load = load($nginx);
    my $dir = $redis->dir;

    for my $backup (1, 2) {
        arrives($load, ok => 200);
        $redis->client->cmd('SAVE');
        rename "$dir/dump.rdb", "$dir/$backup" or die "rename: $!\n";
    }
    arrives($load, ok => 200);

    for my $backup (1, 2) {
        $redis->stop;
        copy("$dir/$backup", "$dir/dump.rdb") or die "copy: $!\n";
        arrives($load, queued => 50);
        $redis->restart;
        arrives($load, ok => 200);
    }

    account_ok('two restores', $load, $redis, $nginx);
};

# --- a loss, and something else

# Each kind of loss: how it is prepared, done and ended.
my %LOSS = (
    'FLUSHALL' => [
        sub () { redis() },
        sub ($redis) { $redis->client->cmd('FLUSHALL') }, sub ($redis) { },
    ],
    'empty restart' => [
        sub () { redis() },
        sub ($redis) { $redis->kill }, sub ($redis) { $redis->restart },
    ],
    'failover' => [
        sub () { Pair->new },
        sub ($pair) { $pair->master->kill }, sub ($pair) { $pair->promote },
    ],
);

# What ends with it.
my %END = (
    'workers' => [ sub ($nginx) { kill KILL => $nginx->worker_pids }, sub ($nginx) { } ],
    'all of nginx' => [ sub ($nginx) { $nginx->kill }, sub ($nginx) { $nginx->restart } ],
);

for my $loss (sort keys %LOSS) {
    for my $end (sort keys %END) {
        my ($prepare, $lose, $recover) = @{ $LOSS{$loss} };
        my ($kill, $start) = @{ $END{$end} };

        my $short = "$loss, $end" =~ /^(?:FLUSHALL, all of nginx|empty restart, all of nginx|failover, workers)$/;
        my $at_once = $short ? \&scenario : \&long_scenario;
        my $between = "$loss, $end" eq 'FLUSHALL, workers' ? \&scenario : \&long_scenario;

        $at_once->("$loss, kill -9 of $end at the same moment" => sub {
            my $redis = $prepare->();
            my $nginx = nginx($redis, allow_log => qr/exited on signal 9/);
            my $load = load($nginx);

            arrives($load, ok => 200);
            if ($redis->isa('Pair')) {
                $redis->catch_up;
                $redis->hold;
            }
            arrives($load, ok => 200);
            $kill->($nginx);
            $lose->($redis);
            $recover->($redis);
            $start->($nginx);
            arrives($load, ok => 200);

            account_ok("$loss, $end kill -9", $load, $redis, $nginx);
        });

        # Some of it was looked at, and most is still to be done.
        $between->("$loss, kill -9 of $end between finding and healing" => sub {
            my $redis = $prepare->();
            my $nginx = nginx($redis, allow_log => qr/exited on signal 9/);
            my $load = load($nginx, rate => 3000);

            arrives($load, ok => 500);
            if ($redis->isa('Pair')) {
                $redis->catch_up;
                $redis->hold;
            }
            arrives($load, ok => 1500);
            my $looked_at = spool_status($nginx)->{looked_at};
            $lose->($redis);
            $recover->($redis);
            ok wait_for(sub { spool_status($nginx)->{looked_at} > $looked_at }), 'the loss is found';
            $kill->($nginx);
            $start->($nginx);
            arrives($load, ok => 200);

            account_ok("$loss, found, $end kill -9", $load, $redis, $nginx);
        });
    }
}

# --- what comes back, and what does not

# The messages of the stream, decoded.
sub messages ($redis) {
    return map { decode_json($_->{text}) } Vaani::Test::Faults::messages($redis->client);
}

# So many, over all steps of the healing, and the log says so.
sub brought_back ($nginx, $events) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $count = sub () {
        my $sum = 0;
        $sum += $_ for map { /: (\d+) events that Redis had lost were applied again/ } $nginx->log_lines(qr/had lost/);
        return $sum;
    };

    ok wait_for(sub { $count->() >= $events }), 'the log says that events were brought back';
    is $count->(), $events, "... $events of them";
    is spool_status($nginx)->{brought_back}, $events, '... as the status page does';
    return;
}

scenario 'messages that come back' => sub {
    my $redis = redis();
    my $nginx = nginx($redis, workers => 1);
    my $http = $nginx->http;
    my $subscriber = $redis->client->subscribe('vaani:events');

    my @events = qw(call_started call_ringing user_picked_up_at);
    is $http->post('/hook', event($_, room => 'r', delivery => "r/$_"))->body, qq({"status":"ok"}\n), $_ for @events;
    is $http->post('/hook', event('brand_new', room => 'r', delivery => 'r/new'))->status, 200, 'an unknown event';
    my @before = messages($redis);
    my %hash = %{ $redis->client->hgetall('vaani:call:r') };
    $subscriber->next_message for @before;

    $redis->client->cmd('FLUSHALL');
    brought_back($nginx, 3);
    my @after = messages($redis);

    is_deeply [ map { $_->{event} } @after ], \@events, 'the events are there in their order, without the unknown one';
    is_deeply [ map { $_->{seq} } @after ], [ 1 .. 3 ], '... without gaps';
    my @known = grep { $_->{event} ne 'brand_new' } @before;
    is_deeply [ map { $_->{id} } @after ], [ map { $_->{id} } @known ], '... with the same ids';
    is_deeply [ map { $_->{received_at} } @after ], [ map { $_->{received_at} } @known ], '... and times';
    ok !(grep { !$_->{replayed} } @after), '... and say that they are replayed';
    is_deeply [ map { decode_json($subscriber->next_message->{payload})->{id} } @after ],
        [ map { $_->{id} } @after ], '... and were published again';

    my %again = %{ $redis->client->hgetall('vaani:call:r') };
    is_deeply [ sort keys %again ], [ sort keys %hash ], 'the call has the same fields';
    is spool_status($nginx)->{records}, 0, 'nothing waits';
};

scenario 'events that have outlived their ttl' => sub {
    my $redis = redis();
    my $nginx = nginx($redis, workers => 1, more => 'location = /hook/short { vaani_webhook; vaani_ttl 1s; }');
    my $http = $nginx->http;

    is $http->post('/hook/short', event('call_started', room => 'old'))->body, qq({"status":"ok"}\n), 'an old one';
    ok wait_for(sub { !$redis->client->cmd(EXISTS => 'vaani:call:old') }), '... expires';
    is $http->post('/hook', event('call_started', room => 'new'))->body, qq({"status":"ok"}\n), 'a new one';
    $redis->client->cmd('FLUSHALL');

    brought_back($nginx, 1);
    is_deeply [ map { $_->{room_name} } messages($redis) ], ['new'], '... the new one';
};

scenario 'a call that an operator has erased' => sub {
    my $tool = vaani_spool();
    plan skip_all => 'make tool builds it' if !-x $tool;

    my $redis = redis();
    my $nginx = nginx($redis);
    my $http = $nginx->http;

    for my $room (qw(kept erased other)) {
        is $http->post('/hook', event($_, room => $room))->body, qq({"status":"ok"}\n), "$room: $_"
            for qw(call_started call_ringing);
    }
    ok wait_for(sub { -e $nginx->dir . '/spool/lock' }), 'a worker leads';
    my ($exit, @output) = run([ $tool, 'erase', $nginx->dir . '/spool', 'erased' ]);
    is $exit, 0, 'vaani-spool erase' or diag @output;
    $redis->client->cmd('FLUSHALL');

    brought_back($nginx, 4);
    is_deeply [ sort @{ $redis->client->cmd(KEYS => 'vaani:call:*') } ], [qw(vaani:call:kept vaani:call:other)],
        '... of the other calls';

    is $http->post('/hook', event('call_ended', room => 'erased'))->body, qq({"status":"ok"}\n), 'a later event';
    is $redis->client->cmd(EXISTS => 'vaani:call:erased'), 1, '... is taken';
};

scenario 'marks that are not allowed' => sub {
    # all but these
    my $redis = redis(acl => [ grep { $_ ne '~vaani:mark:*' } @{ +RETAIN }, @{ +INDEX } ]);
    my $nginx = nginx($redis, workers => 2);
    my $load = load($nginx);

    arrives($load, ok => 300);
    ok wait_for(sub { $nginx->log_lines(qr/does not allow the marks/) == 2 }), 'each worker says so';
    arrives($load, ok => 300);
    $redis->kill;
    arrives($load, queued => 100);
    $redis->restart;
    $redis->client->cmd('FLUSHALL');
    arrives($load, ok => 300);

    is $nginx->log_lines(qr/does not allow the marks/), 2, '... once';
    is $load->count(503), 0, 'all is taken';
    $load->stop;
};

# --- a loss that takes long to heal

# The time within which so many percent of the answers came, ms.
sub percentile ($percent, @ms) {
    @ms = sort { $a <=> $b } @ms;
    return $ms[ $#ms * $percent / 100 ];
}

scenario 'a great loss' => sub {
    my $events = scaled(10_000, 100_000);
    my $redis = redis();
    my $nginx = nginx($redis, workers => 2);

    my $fill = load($nginx, rate => 0, connections => 24, calls => 48, rooms => 'fill');
    ok $fill->await(ok => $events, 300), "$events events";
    $fill->stop;
    my $there = $redis->client->cmd(XLEN => 'vaani:stream');

    my $load = load($nginx, rate => 300, rooms => 'live');
    arrives($load, ok => scaled(600, 3000));
    my $before = @{ $load->{deliveries} };
    my $from = now();
    $redis->client->cmd('FLUSHALL');
    ok wait_for(sub { $redis->client->cmd(XLEN => 'vaani:stream') >= $there }, 120), 'it is brought back';
    my $took = now() - $from;
    $load->count('ok');
    my @during = map { $_->{ms} } @{ $load->{deliveries} }[ $before .. $#{ $load->{deliveries} } ];
    my @quiet = map { $_->{ms} } @{ $load->{deliveries} }[ 0 .. $before - 1 ];
    $load->stop;

    cmp_ok $took, '<', 60, sprintf '%d events within %.1f s', $there, $took;
    my ($with, $without) = (percentile(99, @during), percentile(99, @quiet));
    my $factor = full() ? 2 : 5;
    cmp_ok $with, '<', $factor * $without + 5, "p99 of live events is $with ms, without a loss $without ms";

    comes_back($redis, [ $fill, $load ]);
    verify_ok("$events events lost, $_->{rooms}", $_, $redis, $nginx) for $fill, $load;
};

table_at_end();
done_testing;
