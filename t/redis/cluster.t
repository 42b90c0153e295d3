# A Redis Cluster: events land where their keys are, and redirects, moved slots,
# new masters and nodes that come and go are nothing that a sender notices.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP qw(decode_json);
use Vaani::Test::Certificates;
use Vaani::Test::Cluster qw(keyslot SLOTS);
use Vaani::Test::Endpoint;
use Vaani::Test::Events;
use Vaani::Test::FakeRedis;
use Vaani::Test::NameServer;
use Vaani::Test::Nginx::Config qw(nginx_bin);
use Vaani::Test::Scenario;
use Vaani::Test::Socket qw(pause);
use Vaani::Test::Spool;
use Vaani::Test::Topology;

use constant TLS => join('', run([ nginx_bin(), '-V' ])) =~ /TLS SNI support enabled/;

sub key ($room) { return "vaani:call:$room" }

# vaani_redis for all masters of a cluster, or for the nodes that are given.
sub seeds ($cluster, @nodes) { return join ' ', $cluster->urls(@nodes), 'cluster' }

# How often nodes were asked for the table, or for something else (Redis 7.0).
sub asked ($what, @nodes) {
    my $sum = 0;
    for my $node (@nodes) {
        $sum += $1 if $node->admin->cmd(INFO => 'commandstats') =~ /^cmdstat_\Q$what\E:calls=(\d+)/m;
    }
    return $sum;
}

sub tables ($cluster) { return asked('cluster|slots', $cluster->live) }

# The connections of nginx to a node.
sub connections ($node) {
    return grep { /\buser=default\b/ } split /\n/, $node->admin->cmd(CLIENT => 'LIST', 'TYPE', 'normal');
}

# Where a room's hash is.
sub holders ($cluster, $room) {
    return grep { $cluster->keys(key($room) =~ s/([][?*\\])/\\$1/gr, $_) } $cluster->masters;
}

sub is_on ($cluster, $room, $node, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is_deeply [ map { $_->port } holders($cluster, $room) ], [ $node->port ], $name;
}

# The rights of streams, and of the prefixes that the tests use.
use constant NEW => Vaani::Test::Redis::version() >= 7;
my @ACL = (@{ partitioned_acl() }, NEW ? '+spublish' : ());

my $cluster = Vaani::Test::Cluster->start(acl => \@ACL);

scenario 'many rooms' => sub {
    my $nginx = endpoint(seeds($cluster), '', workers => 2);
    my @rooms = map { new_room() } 1 .. 200;

    my %answers;
    $answers{ post($nginx, event($_->[1], room => $_->[0])) }++
        for map { my $room = $_; map { [ $room, $_ ] } qw(call_started call_ringing) } @rooms;
    is_deeply \%answers, { ok => 400 }, 'all are answered ok';

    my %on;
    $on{ $cluster->owner_of(key($_))->port }++ for @rooms;
    is keys %on, 3, 'rooms of all masters';
    my @calls = $cluster->client->pipeline(map { [ HGETALL => key($_) ] } @rooms);
    is_deeply [ map { my %call = @$_; "$call{room_name} $call{status} $call{seq}" } @calls ],
        [ map { "$_ ringing 2" } @rooms ], '... are where they belong';

    is post($nginx, event('call_ringing', room => $rooms[0])), 'duplicate', 'a duplicate';
};

scenario 'one seed is enough, also a replica' => sub {
    my ($master) = $cluster->masters;
    my ($replica) = $cluster->replicas_of($master);

    for my $seed ($master, $replica) {
        my $nginx = endpoint(seeds($cluster, $seed));
        my %answers;
        $answers{ post($nginx, event('call_started', room => new_room())) }++ for 1 .. 30;
        is_deeply \%answers, { ok => 30 }, 'as a ' . $seed->role;
    }

    my $dead = 'redis://127.0.0.1:' . free_port();
    my $nginx = endpoint("$dead @{[ $master->url ]} cluster");
    ok_within($nginx, 3, 'a dead seed before it');
};

scenario 'a worker asks for the table once' => sub {
    my $before = tables($cluster);
    my $nginx = endpoint(seeds($cluster), '', workers => 1);
    my @rooms = map { new_room() } 1 .. 60;

    is_deeply [ map { answer($_->read_response) } at_once_at($nginx, '/hook', map { event('call_started', room => $_) } @rooms) ],
        [ ('ok') x 60 ], '60 events at once';
    cmp_ok tables($cluster) - $before, '<=', 2, '... and the table is not asked for by each';

    # A connection for each node, not for each event.
    my @connections = map { scalar connections($_) } $cluster->masters;
    ok !(grep { $_ > 2 } @connections), "a connection to each node: @connections";
};

# Requests that a worker finds all at once.
sub at_once_at ($nginx, $uri, @bodies) {
    my @workers = $nginx->worker_pids;
    my @clients = map { $nginx->http->connect } @bodies;
    $_->get('/writing') for @clients;

    kill STOP => @workers;
    wait_for(sub { slurp("/proc/$_/stat") =~ /\) T [^)]*\z/ }) || die "worker $_ does not stop\n" for @workers;
    $clients[$_]->send_raw(join '', Vaani::Test::HTTP::format_request(method => 'POST', uri => $uri, body => $bodies[$_]))
        for 0 .. $#bodies;
    kill CONT => @workers;
    return @clients;
}

scenario 'a slot was moved' => sub {
    my $nginx = endpoint(seeds($cluster));
    my $slot = 100;
    my $from = $cluster->owner_of($slot);
    my ($to) = grep { $_ != $from } $cluster->masters;
    my @moved = map { room_in_slot($slot, "m$_") } 1 .. 20;
    my @others = map { new_room() } 1 .. 20;

    is post($nginx, event('call_started', room => $_)), 'ok', "$_ before" for @moved[ 0, 1 ];
    $cluster->move_slot($slot, $to);
    $cluster->settle;
    my ($tables, $evals) = (tables($cluster), asked('evalsha', $cluster->live));

    my @clients = at_once_at($nginx, '/hook', map { event('call_ringing', room => $_) } @moved, @others);
    is_deeply [ map { answer($_->read_response) } @clients ], [ ('ok') x 40 ], 'events that come at once, half of them of that slot';
    cmp_ok tables($cluster) - $tables, '<=', 2, '... the table is not asked for by each';
    is_on($cluster, $moved[0], $to, '... they are at the new owner');
    is $cluster->hgetall(key($moved[0]))->{seq}, 2, '... a call that was moved goes on';

    $evals = asked('evalsha', $from);
    is post($nginx, event('call_ended', room => $_)), 'ok', 'another event' for @moved[ 2 .. 4 ];
    is asked('evalsha', $from) - $evals, 0, '... does not go by the old owner';

    $nginx->log_unlike(qr/\[(?:error|crit)\]/, 'nothing to complain about');
};

scenario 'a slot moves' => sub {
    my $nginx = endpoint(seeds($cluster), '', workers => 1);
    my $slot = 200;
    my $from = $cluster->owner_of($slot);
    my ($to) = grep { $_ != $from } $cluster->masters;
    my ($old, $gone) = map { room_in_slot($slot, $_) } qw(old gone);

    is post($nginx, event('call_started', room => $_)), 'ok', $_ for $old, $gone;
    my $tables = tables($cluster);
    $cluster->begin_move($slot, $from, $to);
    $cluster->move_keys($slot, $from, $to, key($gone));

    is post($nginx, event('call_ringing', room => $old)), 'ok', 'a call that is still there';
    is post($nginx, event('call_ringing', room => $gone)), 'ok', 'one that has gone: ASK';
    is post($nginx, event('call_started', room => room_in_slot($slot, 'new'))), 'ok', 'a new one: ASK';
    is $from->admin->cmd(EXISTS => key($old)), 1, '... the first is where it was';
    is_on($cluster, room_in_slot($slot, 'new'), $to, '... the last is at the target');

    # Each redirected command needs an ASKING of its own.
    my @rooms = map { ($old, room_in_slot($slot, "n$_"), new_room()) } 1 .. 20;
    my @clients = at_once_at($nginx, '/hook', map { event('call_ended', room => $rooms[$_], n => $_) } 0 .. $#rooms);
    is_deeply [ map { answer($_->read_response) } @clients ], [ ('ok') x 60 ], 'many at once, some of them redirected';
    cmp_ok tables($cluster) - $tables, '<=', 1, 'nothing is learned from ASK';

    # The script is not there: the redirected command must have its ASKING again.
    $to->admin->cmd(qw(SCRIPT FLUSH));
    is post($nginx, event('call_started', room => room_in_slot($slot, 'flushed'))), 'ok', 'ASK, and the target has no script';
    is_on($cluster, room_in_slot($slot, 'flushed'), $to, '... it is there');

    ok $nginx->reload(wait_old => 1), 'a reload in the middle';
    delete $nginx->{client};
    is post($nginx, event('call_ringing', room => room_in_slot($slot, 'flushed'))), 'ok', '... ASK again';

    $cluster->move_keys($slot, $from, $to);
    $cluster->end_move($slot, $from, $to);
    $cluster->settle;
    is post($nginx, event('user_picked_up_at', room => $_)), 'ok', 'after the move' for $old, $gone;
    is $cluster->hgetall(key($gone))->{seq}, 3, '... nothing was applied twice';
};

scenario 'TRYAGAIN' => sub {
    my $nginx = nginx_with(seeds($cluster), workers => 1, partition_options(spool => ''));
    my ($partition, $other) = (3, 5);
    my $stream = "vaani:{$partition}:stream";
    my $slot = keyslot($stream);
    my $from = $cluster->owner_of($slot);
    my ($to) = grep { $_ != $from } $cluster->masters;
    my $room = room_in_partition($partition, 'tryagain-');

    is post($nginx, event('call_started', room => room_in_partition($partition, 'first-'))), 'ok', 'there is a stream';
    $cluster->begin_move($slot, $from, $to);
    my (undef, $error) = $from->admin->try_cmd(EVAL => q(return 1), 2, $stream, "vaani:{$partition}:call:none");
    like $error, qr/^TRYAGAIN/, 'a new call and the stream: TRYAGAIN';

    # Whether this is answered now or when the slot has moved is up to nginx.
    my $client = $nginx->http->connect;
    $client->send_raw(join '', Vaani::Test::HTTP::format_request(
        method => 'POST', uri => '/hook', body => event('call_started', room => $room)));
    my $from_here = now();
    is post($nginx, event('call_started', room => room_in_partition($other, "other-$_-"))), 'ok', 'others do not wait' for 1 .. 5;
    cmp_ok now() - $from_here, '<', 1, '... at all';
    my $answer = answer($client->read_response);
    like $answer, qr/^(?:ok|queued)\z/, "the event waits ($answer)";

    $cluster->move_keys($slot, $from, $to);
    $cluster->end_move($slot, $from, $to);
    $cluster->settle;
    ok wait_for(sub { $cluster->client->cmd(EXISTS => "vaani:{$partition}:call:$room") }, 10), '... and is applied';
    my @seen = grep { ($_->{room} // '') eq $room } Vaani::Test::Faults::messages($cluster->client, $stream);
    is @seen, 1, '... once';
};

scenario 'a script flushed, on one node' => sub {
    my $nginx = endpoint(seeds($cluster));
    my @rooms = map { new_room() } 1 .. 30;
    is post($nginx, event('call_started', room => $_)), 'ok', "$_ before" for @rooms[ 0 .. 5 ];

    ($cluster->masters)[1]->admin->cmd(qw(SCRIPT FLUSH));
    my @clients = at_once_at($nginx, '/hook', map { event('call_ringing', room => $_) } @rooms);
    is_deeply [ map { answer($_->read_response) } @clients ], [ ('ok') x 30 ], 'all are ok';
};

scenario 'channels and streams' => sub {
    my $nginx = endpoint(seeds($cluster), 'vaani_partitions ' . PARTITIONS . '; vaani_prefix "vaani:{$vaani_partition}";
        vaani_stream "vaani:{$vaani_partition}:stream";',
        locations => "
            location = /plain { vaani_webhook; vaani_redis @{[ seeds($cluster) ]}; }
            location = /sharded {
                vaani_webhook;
                vaani_redis @{[ seeds($cluster) ]};
                vaani_partitions @{[ PARTITIONS ]};
                vaani_prefix 'vaani:{\$vaani_partition}';
                vaani_channel 'vaani:{\$vaani_partition}:events' sharded;
                vaani_stream 'vaani:{\$vaani_partition}:stream';
            }");

    # A message reaches subscribers of every node.
    my @subscribers = map { $_->client->subscribe('vaani:events') } $cluster->masters;
    is post($nginx, event('call_started', room => 'published'), '/plain'), 'ok', 'a publication';
    is_deeply [ map { my $m = $_->next_message; $m && decode_json($m->{payload})->{room_name} } @subscribers ],
        [ ('published') x 3 ], '... reaches the subscribers of all nodes';
    is_deeply [ map { scalar $_->next_messages(1, 0.05) } @subscribers ], [ 0, 0, 0 ], '... once';

    # An event without a call has no key.
    is post($nginx, event('brand_new', room => ABSENT), '/plain'), 'ok', 'an event without a call';
    is_deeply [ map { my $m = $_->next_message; $m && decode_json($m->{payload})->{event} } @subscribers ],
        [ ('brand_new') x 3 ], '... is published';

    for my $partition (0, 7, 15) {
        my $room = room_in_partition($partition, 'part-');
        my $subscriber = NEW && $cluster->owner_of("vaani:{$partition}:events")->client->ssubscribe("vaani:{$partition}:events");

        is post($nginx, event('call_started', room => $room), NEW ? '/sharded' : '/hook'), 'ok', "partition $partition";
        is $cluster->hgetall("vaani:{$partition}:call:$room")->{seq}, 1, '... the call is there';
        ok +(grep { ($_->{room} // '') eq $room } Vaani::Test::Faults::messages($cluster->client, "vaani:{$partition}:stream")),
            '... with its stream';
        if (NEW) {
            my $message = $subscriber->next_message;
            is $message && decode_json($message->{payload})->{room_name}, $room, '... and its sharded channel';
        }
    }
};

scenario 'CLUSTER FAILOVER' => sub {
    my $nginx = endpoint(seeds($cluster), '', workers => 1);
    my @masters = $cluster->masters;
    my $slot = ($cluster->slots_of($masters[0]))[0];
    my $room = room_in_slot($slot, 'failover');
    is post($nginx, event('call_started', room => $room)), 'ok', 'before';

    # The connection stays open, and the new master has no script.
    my ($replica) = $cluster->replicas_of($masters[0]);
    $cluster->failover($replica);
    ok_within($nginx, 1, 'after it', $room);
    is post($nginx, event('call_ringing', room => $room)), 'ok', 'an event of the same call';
    $cluster->settle;
    is $cluster->hgetall(key($room))->{seq}, 2, '... nothing is lost';

    # And back, at once: the second in a row.
    $cluster->failover($masters[0]);
    ok_within($nginx, 1, 'after another one', $room);
    $cluster->settle;
};

scenario 'kill -9 of a master that comes back as a replica' => sub {
    my $nginx = endpoint(seeds($cluster), '', workers => 1);
    my ($old) = $cluster->masters;
    my ($slot) = $cluster->slots_of($old);
    my $room = room_in_slot($slot, 'killed');
    is post($nginx, event('call_started', room => $room)), 'ok', 'before';
    $cluster->catch_up($_) for $cluster->replicas_of($old);

    $cluster->kill9($old);
    my %elsewhere = map { post($nginx, event('call_started', room => room_in_slot($_, 'killed'))) => 1 }
        map { ($cluster->slots_of($_))[0] } grep { $_ != $old } $cluster->masters;
    is_deeply \%elsewhere, { ok => 1 }, 'other slots go on';

    my $new = $cluster->await_promotion($old);
    ok_within($nginx, 1, 'within 1 s of the promotion', $room);
    $cluster->start_again($old);
    $cluster->settle;
    is $old->role, 'slave', 'it is a replica now';
    is post($nginx, event('call_ringing', room => $room)), 'ok', '... and events go to the new one';
    is_on($cluster, $room, $new, '... which has them');

    $cluster->failover($old);
    ok_within($nginx, 1, 'it is a master again', $room);
    $cluster->settle;
    is $cluster->hgetall(key($room))->{seq}, 2, 'nothing was lost';
};

scenario 'nodes are added and removed' => sub {
    my $nginx = endpoint(seeds($cluster), '', workers => 1);
    my ($master) = $cluster->masters;
    my ($slot) = reverse $cluster->slots_of($master);
    my $room = room_in_slot($slot, 'added');
    is post($nginx, event('call_started', room => $room)), 'ok', 'before';

    my $node = $cluster->add_node;
    $cluster->reshard(500, $master, $node);
    $cluster->settle;
    is post($nginx, event('call_ringing', room => $room)), 'ok', 'a node that nobody knew';
    is_on($cluster, $room, $node, '... has the call');
    ok scalar connections($node), '... and a connection';

    $cluster->reshard(SLOTS, $node, $master);
    $cluster->settle;
    $cluster->remove_node($node);
    $cluster->settle;
    is post($nginx, event('user_picked_up_at', room => $room)), 'ok', 'after it has left';
    is $cluster->hgetall(key($room))->{seq}, 3, '... the call is whole';

    # The table tells of it with the next look; a worker that serves events has
    # had one.
    ok wait_for(sub { !connections($node) }, 30), '... and nothing is connected to it any more'
        or diag connections($node);
};

# The following scenarios end with fewer nodes, or damage the cluster.

scenario 'all seeds are replaced' => sub {
    my $cluster = Vaani::Test::Cluster->start(masters => 2, replicas => 0, acl => \@ACL);
    my @old = $cluster->masters;
    my $nginx = endpoint(seeds($cluster, @old), '', workers => 1);
    my @rooms = map { new_room() } 1 .. 20;
    is post($nginx, event('call_started', room => $_)), 'ok', 'before' for @rooms[ 0 .. 3 ];

    my @new = $cluster->add_nodes(2);
    $cluster->reshard(SLOTS, $old[$_], $new[$_]) for 0, 1;
    $cluster->settle;
    is post($nginx, event('call_ringing', room => $rooms[0])), 'ok', 'in between';
    $cluster->remove_node($_, end => 1) for @old;
    $cluster->settle;

    my %answers;
    $answers{ post($nginx, event('call_ended', room => $_)) }++ for @rooms;
    is_deeply \%answers, { ok => 20 }, 'none of the seeds is alive, and all goes on';

    # Also when no connection is left.
    $_->admin->cmd(CLIENT => 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes') for @new;
    ok_within($nginx, 2, 'by what was known last', $_) for @rooms[ 0 .. 5 ];
};

scenario 'seeds that are gone are resolved anew' => sub {
    my $first = Vaani::Test::Cluster->start(masters => 1, replicas => 0, acl => \@ACL);
    my $port = ($first->nodes)[0]->port;
    my $dns = Vaani::Test::NameServer->start(names => { 'seed.test' => '127.0.0.1' });
    my $nginx = endpoint("redis://seed.test:$port cluster", '', server => $dns->resolver, workers => 1);
    ok_within($nginx, 3, 'the first cluster');

    $first->end;
    is post($nginx, event('call_started', room => new_room())), '503', 'it is gone';
    my $second = Vaani::Test::Cluster->start(masters => 1, replicas => 0, acl => \@ACL,
        port => $port, bind => '127.0.0.2', config => ['cluster-announce-ip 127.0.0.2']);
    $dns->says('seed.test' => '127.0.0.2');
    ok_within($nginx, 10, 'another cluster under that name');
    ok scalar $second->keys('vaani:call:*'), '... has the call';
};

scenario 'another cluster at the address of a node' => sub {
    my $cluster = Vaani::Test::Cluster->start(masters => 3, replicas => 0, acl => \@ACL,
        config => [ 'cluster-require-full-coverage no' ]);
    my ($lost, @others) = $cluster->masters;
    my ($gone, $here) = map { room_in_slot(($cluster->slots_of($_))[0], 'identity') } $lost, $others[0];
    my $nginx = endpoint(seeds($cluster, @others), '', workers => 1);
    is post($nginx, event('call_started', room => $_)), 'ok', 'before' for $gone, $here;

    # With another bus: else the nodes meet it there, and may forget the address first.
    $cluster->kill9($lost);
    my $foreign = Vaani::Test::Cluster->start(masters => 1, replicas => 0, acl => \@ACL, port => $lost->port,
        NEW ? (config => [ 'cluster-port ' . free_port() ]) : ());
    ok defined $nginx->wait_log(qr/\[error\].*vaani: redis:\S+ belongs to another cluster/, 20), 'the log says so';
    is post($nginx, event('call_ringing', room => $gone)), '503', 'it gets no event';
    is post($nginx, event('call_ringing', room => $here)), 'ok', '... others go on';
    is_deeply [ $foreign->keys ], [], '... and nothing is there';
};

scenario 'CLUSTERDOWN' => sub {
    my $cluster = Vaani::Test::Cluster->start(replicas => 0, acl => \@ACL);
    my $nginx = nginx_with(seeds($cluster), workers => 1, partition_options(spool => ''));
    my @masters = $cluster->masters;
    is post($nginx, event('call_started', room => "down-$_")), 'ok', 'before' for 1 .. 10;

    $cluster->kill9($masters[2]);
    ok wait_for(sub { $cluster->ask($masters[0], CLUSTER => 'INFO') =~ /^cluster_state:fail/m }), 'the cluster is down';
    my %answers;
    my $from = now();
    $answers{ post($nginx, event('call_started', room => "down-$_")) }++ for 11 .. 40;
    is_deeply \%answers, { queued => 30 }, 'all events wait';
    cmp_ok now() - $from, '<', 5, '... without that each waits for a timeout';

    $cluster->start_again($masters[2]);
    $cluster->settle;
    ok_within($nginx, 5, 'it is up again');
    my @left = await_empty($nginx->dir . '/spool', 15);
    is "@left", '', '... and nothing waits any more';
    my $there = 0;
    $there += $cluster->client->cmd(EXISTS => 'vaani:{' . partition("down-$_") . "}:call:down-$_") for 1 .. 40;
    is $there, 40, '... all is there';
};

scenario 'one shard is down' => sub {
    my $cluster = Vaani::Test::Cluster->start(replicas => 0, acl => \@ACL, config => ['cluster-require-full-coverage no']);
    my $nginx = nginx_with(seeds($cluster), workers => 1, partition_options(spool => ''));
    my @masters = $cluster->masters;
    my (%on, %answers);
    push @{ $on{ $cluster->owner_of("vaani:{$_}:stream")->port } }, $_ for 0 .. PARTITIONS - 1;
    my ($up, $down) = map { room_in_partition($on{ $_->port }[0], 'shard-') } @masters[ 0, 2 ];

    is post($nginx, event('call_started', room => $_)), 'ok', 'before' for $up, $down;
    $cluster->kill9($masters[2]);
    # At most the first finds out.
    post($nginx, event('call_ringing', room => $down));
    my $from = now();
    $answers{ post($nginx, event('call_ringing', room => $up, n => $_)) }++ for 1 .. 20;
    is_deeply \%answers, { ok => 20 }, 'events of other shards go on' if !delete $answers{duplicate};
    cmp_ok now() - $from, '<', 2, '... at once';
    is post($nginx, event('user_picked_up_at', room => $down)), 'queued', 'those of this one wait';
    is post($nginx, event('user_picked_up_at', room => $up)), 'ok', '... and still hold up nothing';

    $cluster->start_again($masters[2]);
    $cluster->settle;
    ok wait_for(sub { ($cluster->hgetall('vaani:{' . partition($down) . "}:call:$down")->{seq} // 0) == 3 }, 20),
        '... until it is back';
};

# --- addresses

scenario 'an empty host' => sub {
    plan skip_all => 'needs Redis 7' if !NEW;
    my $cluster = Vaani::Test::Cluster->start(masters => 2, replicas => 0, acl => \@ACL, endpoint => 'unknown-endpoint');
    my ($one, $two) = $cluster->masters;
    my (undef, $error) = $one->client->try_cmd(GET => '{' . Vaani::Test::Cluster::tag_for(($cluster->slots_of($two))[0]) . '}');
    like $error, qr/^MOVED \d+ :\d+$/, 'the server leaves it empty';

    my $nginx = endpoint(seeds($cluster, $one), '', workers => 1);
    my %answers;
    $answers{ post($nginx, event('call_started', room => new_room())) }++ for 1 .. 30;
    is_deeply \%answers, { ok => 30 }, 'the host that was asked is meant';

    my $slot = ($cluster->slots_of($one))[0];
    $cluster->move_slot($slot, $two);
    $cluster->settle;
    is post($nginx, event('call_started', room => room_in_slot($slot, 'empty'))), 'ok', '... in a redirect, too';
    $cluster->begin_move($slot, $two, $one);
    is post($nginx, event('call_started', room => room_in_slot($slot, 'asked'))), 'ok', '... and in that of a slot that moves';
    is_on($cluster, room_in_slot($slot, 'asked'), $one, '... where it is then');
};

scenario 'a host that is not known' => sub {
    plan skip_all => 'needs Redis 7' if !NEW;
    # "localhost" is what two of them say; the third has no name, which is "?".
    my $cluster = Vaani::Test::Cluster->start(masters => 3, replicas => 0, acl => \@ACL, bind => '127.0.0.1 ::1',
        hostnames => [ ('localhost') x 2 ], endpoint => 'hostname');
    $cluster->ask($_, CONFIG => 'SET', 'cluster-preferred-endpoint-type', 'hostname') for $cluster->nodes;
    my @masters = $cluster->masters;
    my ($nameless) = grep { !$_->hostname } @masters;
    my ($named) = grep { $_->hostname } @masters;
    my (undef, $error) = $named->client->try_cmd(GET => '{' . Vaani::Test::Cluster::tag_for(($cluster->slots_of($nameless))[0]) . '}');
    like $error, qr/^MOVED \d+ \?:\d+$/, 'the server says "?"';

    my $dns = Vaani::Test::NameServer->start(names => { localhost => '127.0.0.1' });
    my $nginx = endpoint($named->url('127.0.0.1') . ' cluster', '', workers => 1, server => $dns->resolver);
    my (%answers, $n);
    $answers{ post($nginx, event('call_started', room => room_in_slot(($cluster->slots_of($_))[0], 'q' . ++$n))) }++
        for $named, $nameless, (grep { $_ != $named && $_ != $nameless } @masters), $named;
    # A redirect says only "?", the table has the address, too.
    is_deeply \%answers, { ok => 4 }, 'a node without a name is found by its address';
};

scenario 'IPv6' => sub {
    plan skip_all => 'no ::1 here' if slurp('/proc/net/if_inet6') !~ /^0{31}1 /m;

    my $cluster = Vaani::Test::Cluster->start(masters => 2, replicas => 0, acl => \@ACL, bind => '127.0.0.1 ::1',
        config => ['cluster-announce-ip ::1']);
    my ($one, $two) = $cluster->masters;
    my (undef, $error) = $one->client->try_cmd(GET => '{' . Vaani::Test::Cluster::tag_for(($cluster->slots_of($two))[0]) . '}');
    like $error, qr/^MOVED \d+ ::1:\d+$/, 'an address without brackets';

    my $nginx = endpoint($one->url('[::1]') . ' cluster', '', workers => 1);
    my %answers;
    $answers{ post($nginx, event('call_started', room => new_room())) }++ for 1 .. 30;
    is_deeply \%answers, { ok => 30 }, 'all nodes';
    my $slot = ($cluster->slots_of($one))[0];
    $cluster->move_slot($slot, $two);
    is post($nginx, event('call_started', room => room_in_slot($slot, 'six'))), 'ok', 'a redirect';
};

scenario 'ports of a NAT' => sub {
    my $cluster = Vaani::Test::Cluster->start(masters => 2, replicas => 0, acl => \@ACL, nat => 1);
    my ($one, $two) = $cluster->masters;
    my $nginx = endpoint(seeds($cluster, $one), '', workers => 1);
    my %answers;
    $answers{ post($nginx, event('call_started', room => new_room())) }++ for 1 .. 30;
    is_deeply \%answers, { ok => 30 }, 'all nodes';

    # It lives, its peers see it, and clients do not.
    my $room = room_in_slot(($cluster->slots_of($two))[0], 'nat');
    $two->block;
    is post($nginx, event('call_started', room => $room)), '503', 'a node out of reach';
    is post($nginx, event('call_started', room => room_in_slot(($cluster->slots_of($one))[0], 'nat'))), 'ok', '... and the other one';
    $two->unblock;
    ok_within($nginx, 5, '... in reach again', $room);
};

scenario 'hostnames' => sub {
    plan skip_all => 'needs Redis 7' if !NEW;
    my @names = map { "node$_.test" } 1 .. 3;
    my $dns = Vaani::Test::NameServer->start(names => { map { $_ => '127.0.0.1' } @names });
    my $cluster = Vaani::Test::Cluster->start(masters => 2, replicas => 0, acl => \@ACL, hostnames => \@names);
    my ($one, $two) = $cluster->masters;

    my $nginx = endpoint($one->url('127.0.0.1') . ' cluster', '', workers => 1, server => $dns->resolver);
    ok_within($nginx, 3, 'a node by its name', room_in_slot(($cluster->slots_of($_))[0], 'name')) for $one, $two;
    cmp_ok $dns->queries, '>', 0, '... which was resolved';

    $dns->says(map { $_ => 'silent' } @names);
    my %answers;
    $answers{ post($nginx, event('call_started', room => new_room())) }++ for 1 .. 30;
    is_deeply \%answers, { ok => 30 }, 'a name server that is silent harms no connection';
    is $nginx->alive, 1, 'nginx is alive';
};

scenario 'TLS' => sub {
    plan skip_all => 'needs Redis 7' if !NEW;
    plan skip_all => 'this nginx has no TLS' if !TLS;

    my $ca = Vaani::Test::Certificates->new('ca');
    my %issue = (usage => 'serverAuth, clientAuth');
    my @pairs = (
        (map { $ca->issue("node$_", %issue, san => "DNS:node$_.test, IP:127.0.0.1") } 1, 2),
        $ca->issue('node3', %issue, san => 'DNS:other.test'),
    );
    my @names = map { "node$_.test" } 1 .. 3;
    my $dns = Vaani::Test::NameServer->start(names => { map { $_ => '127.0.0.1' } @names });
    my $cluster = Vaani::Test::Cluster->start(masters => 3, replicas => 0, acl => \@ACL, hostnames => \@names,
        tls => [ map { +{ cert => $_->{cert}, key => $_->{key}, ca_cert_file => $ca->file } } @pairs ]);
    my @masters = $cluster->masters;

    my $nginx = endpoint($masters[0]->url('127.0.0.1') . ' cluster', 'vaani_redis_ssl_trusted_certificate %%TMPDIR%%/ca/ca.crt;',
        workers => 1, server => $dns->resolver);
    my ($first, $second, $third) = map { room_in_slot(($cluster->slots_of($_))[0], 'tls') } @masters;
    ok_within($nginx, 3, 'a node whose certificate has its name', $_) for $first, $second;
    is post($nginx, event('call_started', room => $third)), '503', 'a node whose certificate has another';
    $nginx->log_like(qr/vaani: .*node3\.test/, '... which the log says');
    is post($nginx, event('call_ringing', room => $first)), 'ok', 'the others go on';
};

# --- errors of nodes that nginx must detect

# A node that is none: it has its port, and answers what a sub says to CLUSTER
# SLOTS and to EVALSHA. Reports each command's name.
sub fake_node ($slots, $evalsha, %opt) {
    my $port = free_port();
    return Vaani::Test::FakeRedis->start(port => $port, on_connect => sub ($sock, $self, @) {
        while (my $command = read_command($sock)) {
            my $name = uc $command->[0];
            $self->report($name);
            my $reply = $name eq 'CLUSTER' ? $slots->($port)
                : $name eq 'EVALSHA' ? $evalsha->($port)
                : $name eq 'SCRIPT' ? '$40' . "\r\n" . 'a' x 40 . "\r\n"
                : "+OK\r\n";
            send_bytes($sock, $reply) or return;
        }
    });
}

sub bulk ($bytes) { return '$' . length($bytes) . "\r\n$bytes\r\n" }

# CLUSTER SLOTS with ranges of [ first, last, host, port ].
sub slots_reply (@ranges) {
    return '*' . @ranges . "\r\n" . join '', map {
        "*3\r\n:$_->[0]\r\n:$_->[1]\r\n*3\r\n" . (defined $_->[2] ? bulk($_->[2]) : "\$-1\r\n") . ":$_->[3]\r\n" . bulk('a' x 40)
    } @ranges;
}

# The names of commands that a fake got until now, and how often.
sub reports ($fake) {
    my %count;
    while (defined(my $name = $fake->next_report(0))) {
        $count{$name}++;
    }
    return \%count;
}

scenario 'hosts in tables and redirects' => sub {
    my $second = fake_node(sub ($port) { slots_reply() }, sub ($port) { ":258\r\n" });
    my $port = $second->port;
    my ($here, $there) = map { room_in_slot($_, 'host') } 1, 9000;

    for my $case ([ '?', 503 ], [ '', 'ok' ], [ undef, 'ok' ], [ '127.0.0.1', 'ok' ]) {
        my ($host, $expected) = @$case;
        my $name = defined $host ? qq("$host") : 'null';
        my $first = fake_node(
            sub ($own) { slots_reply([ 0, 8191, '127.0.0.1', $own ], [ 8192, 16383, $host, $port ]) },
            sub ($own) { ":258\r\n" },
        );
        my $nginx = endpoint('redis://127.0.0.1:' . $first->port . ' cluster', '', workers => 1);
        my $from = now();
        is post($nginx, event('call_started', room => $here)), 'ok', "a table with $name: other slots";
        is post($nginx, event('call_started', room => $there)), $expected, '... those of that node';
        is post($nginx, event('call_ringing', room => $here)), 'ok', '... and others again';
        cmp_ok now() - $from, '<', 3, '... soon';
    }

    # A redirect to a node that the table does not know.
    for my $case ([ '?', 503 ], [ '', 'ok' ], [ '127.0.0.1', 'ok' ]) {
        my ($host, $expected) = @$case;
        my $first = fake_node(
            sub ($own) { slots_reply([ 0, SLOTS - 1, '127.0.0.1', $own ]) },
            sub ($own) { "-ASK 9000 $host:$port\r\n" },
        );
        my $nginx = endpoint('redis://127.0.0.1:' . $first->port . ' cluster', '', workers => 1);
        my $from = now();
        is post($nginx, event('call_started', room => $there)), $expected, qq(ASK with "$host");
        cmp_ok now() - $from, '<', 3, '... soon';
    }
};

scenario 'redirects without an end' => sub {
    my $fake = fake_node(
        sub ($port) { slots_reply([ 0, SLOTS - 1, '127.0.0.1', $port ]) },
        sub ($port) { "-MOVED 1 127.0.0.1:$port\r\n" },
    );
    my $nginx = endpoint('redis://127.0.0.1:' . $fake->port . ' cluster', '', workers => 1);
    my $from = now();
    is post($nginx, event('call_started', room => new_room())), '503', 'a node that always redirects to itself';
    cmp_ok now() - $from, '<', 3, '... is given up';
    my $count = reports($fake);
    cmp_ok $count->{EVALSHA}, '<=', 20, "... after $count->{EVALSHA} commands";
    # INFO, SLOTS and NODES, and MYID for each connection
    cmp_ok $count->{CLUSTER}, '<=', 80, "... and $count->{CLUSTER} questions for tables";
    $from = now();
    my %answers;
    for (1 .. 3) {
        $answers{ answer($_->read_response) }++ for at_once_at($nginx, '/hook', map { event('call_started', room => new_room()) } 1 .. 50);
    }
    is_deeply \%answers, { 503 => 150 }, '... and many more';
    $count = reports($fake);
    my $rate = ($count->{CLUSTER} // 0) / (now() - $from);
    cmp_ok $rate, '<=', 90, sprintf '... without a storm of tables: %.1f per second', $rate;
    cmp_ok $count->{EVALSHA} / 150, '<=', 20, "... or of commands: $count->{EVALSHA}";

    # It is connected to again and again for each of these.
    my $mark = $nginx->log_mark;
    $from = now();
    post($nginx, event('call_started', room => new_room())) while now() - $from < 3;
    my $lines = () = $nginx->log_lines(qr/\[(?:notice|warn|error|crit)\]/, $mark);
    cmp_ok $lines, '<=', 15, "... or of lines: $lines in 3 s";
};

scenario 'slots that nobody owns' => sub {
    my $fake = fake_node(sub ($port) { slots_reply([ 0, 8191, '127.0.0.1', $port ]) }, sub ($port) { ":258\r\n" });
    my $nginx = endpoint('redis://127.0.0.1:' . $fake->port . ' cluster', '', workers => 1);
    my ($owned, $lost) = map { room_in_slot($_, 'lost') } 1, 9000;
    ok_within($nginx, 3, 'other slots', $owned);
    my $from = now();
    is post($nginx, event('call_started', room => "$lost$_")), '503', "an event of theirs: $_" for 1 .. 20;
    cmp_ok now() - $from, '<', 3, '... that do not each wait for an owner';
    is post($nginx, event('call_ringing', room => $owned)), 'ok', '... nor others';
};

scenario 'a redirect late, to a node that hangs' => sub {
    my $hangs = fake_node(sub ($port) { slots_reply() }, sub ($port) { pause(5); '' });
    my $late = fake_node(
        sub ($port) { slots_reply([ 0, SLOTS - 1, '127.0.0.1', $port ]) },
        sub ($port) { pause(1.8); "-ASK 1 127.0.0.1:@{[ $hangs->port ]}\r\n" },
    );
    my $nginx = Vaani::Test::Nginx->start(workers => 1, http => "server { listen unix:%%SOCK%%; location = /hook {
        vaani_webhook; vaani_redis redis://127.0.0.1:@{[ $late->port ]} cluster; vaani_redis_timeout 2s; } }");
    my $from = now();
    is post($nginx, event('call_started', room => new_room())), '503', 'no answer in all';
    cmp_ok now() - $from, '<', 3, '... is given up after vaani_redis_timeout';
};

scenario 'seeds that fail each in its own way' => sub {
    my $closes = Vaani::Test::FakeRedis->start(tcp => 1, on_connect => sub (@) { });
    my $nginx = endpoint(join(' ', 'redis://127.0.0.1:' . free_port(), 'redis://127.0.0.1:' . $closes->port, 'cluster'), '', workers => 1);
    post($nginx, event('call_started', room => new_room()));
    my $mark = $nginx->log_mark;
    pause(4);
    my $lines = () = $nginx->log_lines(qr/\[(?:notice|warn|error|crit)\]/, $mark);
    cmp_ok $lines, '<=', 6, "$lines lines in 4 s";
};

my %BAD_TABLES = (
    'an error'              => "-ERR This instance has cluster support disabled\r\n",
    'no slots'              => "*0\r\n",
    'a status'              => "+OK\r\n",
    'a number'              => ":1\r\n",
    'nothing'               => "*-1\r\n",
    'ranges of nothing'     => "*2\r\n*0\r\n*0\r\n",
    'nodes that are none'   => "*1\r\n*3\r\n:0\r\n:16383\r\n:7\r\n",
    'slots that are none'   => slots_reply([ -1, 99999999, '127.0.0.1', 7 ], [ 16383, 0, '127.0.0.1', 7 ]),
    'words for slots'       => "*1\r\n*3\r\n+a\r\n+b\r\n*2\r\n" . bulk('127.0.0.1') . ":7\r\n",
    'a port that is none'   => slots_reply([ 0, SLOTS - 1, '127.0.0.1', 99999999 ]),
    'port 0'                => slots_reply([ 0, SLOTS - 1, '127.0.0.1', 0 ]),
    'a host that is none'   => slots_reply([ 0, SLOTS - 1, "127.0.0.1\r\n\0 x", 7 ]),
    'a very long host'      => slots_reply([ 0, SLOTS - 1, 'x' x 100_000, 7 ]),
    'thousands of nodes'    => slots_reply(map { [ $_, $_, "127.0.0.$_", 1 + $_ ] } 1 .. 10_000),
    'half a table'          => substr(slots_reply([ 0, SLOTS - 1, '127.0.0.1', 7 ]), 0, 40),
);

scenario 'tables that are none' => sub {
    for my $what (sort keys %BAD_TABLES) {
        my $fake = fake_node(sub ($port) { $BAD_TABLES{$what} }, sub ($port) { ":258\r\n" });
        my $nginx = endpoint('redis://127.0.0.1:' . $fake->port . ' cluster', '', workers => 1);
        my $from = now();
        my @answers = map { post($nginx, event('call_started', room => new_room())) } 1 .. 3;
        is_deeply \@answers, [ ('503') x 3 ], "$what: 503";
        cmp_ok now() - $from, '<', 8, '... soon';
        cmp_ok length($nginx->error_log), '<', 100_000, '... with a log that is bounded';
        like $nginx->error_log, qr/\[(?:error|crit|warn)\].*vaani: /, '... and says something';
        cmp_ok reports($fake)->{CLUSTER} // 0, '<=', 60, '... and no storm';
    }
};

my %BAD_REDIRECTS = map { $_ => "-$_\r\n" } 'MOVED', 'MOVED 1', 'MOVED 1 ', 'MOVED x 127.0.0.1:7', 'MOVED 1 127.0.0.1',
    'MOVED 1 127.0.0.1:', 'MOVED 1 127.0.0.1:x', 'MOVED 1 127.0.0.1:99999', 'MOVED 99999 127.0.0.1:7', 'MOVED -1 127.0.0.1:7',
    'MOVED 1 ?:7', 'MOVED 1 :', 'MOVED 1 ' . 'x' x 5000 . ':7', 'ASK', 'ASK 1', 'ASK 1 ?:7', 'ASK 1 127.0.0.1:x',
    'ASK 1 no.such.host.invalid:7', 'TRYAGAIN', 'CLUSTERDOWN Hash slot not served', 'CROSSSLOT Keys differ';

scenario 'redirects that are none' => sub {
    my $answer = tmpdir() . '/redirect';
    spew($answer, ":258\r\n");
    my $fake = fake_node(
        sub ($port) { slots_reply([ 0, SLOTS - 1, '127.0.0.1', $port ]) },
        sub ($port) { slurp($answer) },
    );
    my $nginx = endpoint('redis://127.0.0.1:' . $fake->port . ' cluster', '', workers => 1);
    is post($nginx, event('call_started', room => new_room())), 'ok', 'a node that is none, but does as one';

    for my $what (sort keys %BAD_REDIRECTS) {
        spew($answer, $BAD_REDIRECTS{$what});
        my $from = now();
        is post($nginx, event('call_started', room => new_room())), '503', length $what > 60 ? substr($what, 0, 60) . '...' : $what;
        cmp_ok now() - $from, '<', 3, '... soon';
        spew($answer, ":258\r\n");
        ok_within($nginx, 5, '... and on');
    }
    cmp_ok length($nginx->error_log), '<', 500_000, 'the log is bounded';
};

# --- the configuration

sub refused ($directives, $regex, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($ok, $output) = Vaani::Test::Nginx->check(http => "server { listen unix:%%SOCK%%; location /hook { vaani_webhook; $directives } }");
    return is($ok, 0, $name) && like($output, $regex, '... and says why') || diag $output;
}

scenario 'configurations' => sub {
    my $url = 'redis://127.0.0.1:7000';
    refused("vaani_redis $url/1 cluster;", qr/nginx\.conf:\d+/, 'a database other than 0');
    refused("vaani_redis $url cluster sentinel=x;", qr/nginx\.conf:\d+/, 'a cluster of Sentinels');
    refused("vaani_redis cluster;", qr/nginx\.conf:\d+/, 'no seeds');
    refused("vaani_redis $url cluster; vaani_stream vaani:stream;", qr/hash tag/, 'a stream in another slot');
    refused("vaani_redis $url cluster; vaani_prefix 'v:{x}'; vaani_stream 'v:{y}:stream';", qr/hash tag/, 'a stream with another tag');
    refused("vaani_redis $url cluster; vaani_partitions 0;", qr/nginx\.conf:\d+/, 'no partitions');

    my ($ok, $output) = Vaani::Test::Nginx->check(http => "server { listen unix:%%SOCK%%; location /hook { vaani_webhook;
        vaani_redis $url redis://127.0.0.1:7001 cluster; vaani_partitions 8;
        vaani_prefix 'vaani:{\$vaani_partition}'; vaani_stream 'vaani:{\$vaani_partition}:stream'; } }");
    is $ok, 1, 'partitions: a stream with the same tag' or diag $output;
    ($ok, $output) = Vaani::Test::Nginx->check(http => "server { listen unix:%%SOCK%%; location /hook { vaani_webhook;
        vaani_redis $url cluster; vaani_prefix '{v}'; vaani_stream '{v}:stream'; } }");
    is $ok, 1, 'a constant tag' or diag $output;
};

done_testing;
