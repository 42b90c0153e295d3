# "retain" in a Redis Cluster: the kept events of each node, and those that are
# skipped while a node is down. Load is tested in t/redis/cluster-faults.t.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Cluster qw(keyslot);
use Vaani::Test::Endpoint;
use Vaani::Test::Events;
use Vaani::Test::Nginx;
use Vaani::Test::Retain;
use Vaani::Test::Scenario;
use Vaani::Test::Spool;
use Vaani::Test::Topology;

sub cluster (%opt) {
    return Vaani::Test::Cluster->start(durable => 0, acl => RETAIN, %opt);
}

# Without a stream: a room's hash is the only key.
sub nginx_of ($cluster, %opt) {
    return Vaani::Test::Nginx->start(workers => 2, log_level => 'notice', %opt, http => "
        server {
            listen unix:%%SOCK%%;
            location = /hook {
                vaani_webhook;
                vaani_redis @{[ join ' ', $cluster->urls ]} cluster;
                vaani_redis_connect_timeout 1s;
                vaani_redis_timeout 1s;
                vaani_spool %%DIR%%/spool retain=1h;
            }
            location = /status { vaani_status; }
        }");
}

sub key ($room) { return "vaani:call:$room" }

# Rooms of a node, new ones each time.
sub rooms_of ($cluster, $node, $n) {
    state $count = 0;
    my %its = map { $_ => 1 } $cluster->slots_of($node);
    my @rooms;
    while (@rooms < $n) {
        my $room = 'room-' . ++$count;
        push @rooms, $room if $its{ keyslot(key($room)) };
    }
    return @rooms;
}

# How the first events of these rooms are answered: { answer => number }.
sub send_to ($nginx, @rooms) {
    my %answers;
    $answers{ post($nginx, event('call_started', room => $_)) }++ for @rooms;
    return \%answers;
}

# The marks of a node: key => value.
sub marks ($cluster, $node) {
    my %marks;
    for my $key (@{ $cluster->ask($node, KEYS => 'vaani:mark:*') }) {
        my $value = eval { $cluster->ask($node, GET => $key) };
        $marks{$key} = $value if defined $value;
    }
    return \%marks;
}

# A segment of which a part was applied when a node was not ready yet has its next
# turn after a minute.
sub all_there ($cluster, $rooms, $name, $timeout = 120) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $client = $cluster->client;
    my @missing = @$rooms;
    wait_for(sub {
        @missing = grep { !eval { $client->cmd(EXISTS => key($_)) } } @missing;
        return !@missing;
    }, $timeout);
    return is scalar @missing, 0, $name;
}

# Of each kept segment the size, by the random part of its name.
sub sizes ($nginx) { return { map { (/-([0-9a-f]{32})\.kept\z/ ? $1 : '') => -s } kept_files($nginx) } }

sub waiting ($nginx) {
    my @found = sort glob $nginx->dir . '/spool/*.log';
    return map { [ s{.*/}{}r, (stat)[1, 7] ] } @found;
}

scenario 'the marks of a node' => sub {
    my $cluster = cluster(replicas => 0);
    my $nginx = nginx_of($cluster);
    my @masters = $cluster->masters;

    for my $round (1, 2) {
        is_deeply send_to($nginx, map { rooms_of($cluster, $_, 30) } @masters), { ok => 90 }, 'events for all nodes';
        sleep 1;
    }

    my %scopes;
    my %counted;
    ok wait_for(sub {
        %counted = %scopes = ();
        for my $node (@masters) {
            my $marks = marks($cluster, $node);
            for my $key (keys %$marks) {
                my ($tag, $id) = $key =~ /^vaani:mark:\{(\w+)\}:([0-9a-f]{32})\z/ or return 0;
                my ($bytes, $scope) = $marks->{$key} =~ /^(\d+) [0-9a-f]{16} ([0-9a-f]{16})\z/ or return 0;
                $scopes{ $node->port }{$scope} = 1;
                $counted{$id} = $bytes if $bytes;
            }
        }
        my $sizes = sizes($nginx);
        return keys %$sizes && !grep { ($counted{$_} // 0) != $sizes->{$_} } keys %$sizes;
    }, 15), 'each segment has a mark in a slot of its node, of all of it'
        or diag explain { marks => \%counted, sizes => sizes($nginx) };

    is_deeply [ map { scalar keys %{ $scopes{ $_->port } } } @masters ], [ 1, 1, 1 ], 'a node has one scope';
    is scalar keys %{ { map { %$_ } values %scopes } }, 3, '... of its own';

    # New workers close what the old ones wrote, and find nothing to do.
    $nginx->reload;
    sleep 7;
    # Events answered before a connection had its first mark.
    cmp_ok spool_status($nginx)->{looked_at}, '<=', 12, 'hardly anything is applied again';
    $nginx->log_unlike(qr/lost events/, 'nothing is lost');
};

scenario 'a node is down' => sub {
    my $cluster = cluster(nat => 1, replicas => 0);
    my $nginx = nginx_of($cluster);
    my ($down, @up) = $cluster->masters;
    my @mine = rooms_of($cluster, $down, 100);
    my @others = map { rooms_of($cluster, $_, 20) } @up;

    is_deeply send_to($nginx, rooms_of($cluster, $down, 10)), { ok => 10 }, 'it is up';
    $down->block;
    is_deeply send_to($nginx, splice @mine, 0, 50), { queued => 50 }, 'its events are queued';

    # Those of others are in the same files, until these are delivered.
    $_->block for @up;
    is_deeply send_to($nginx, @others), { queued => 40 }, 'nobody is in reach';
    $_->unblock for @up;
    all_there($cluster, \@others, 'those of the others are delivered');

    # From then on, what is left waits as it is.
    my @before;
    ok wait_for(sub {
        my @now = waiting($nginx);
        return 1 if @now && "@{[ map { @$_ } @now ]}" eq "@{[ map { @$_ } @before ]}";
        @before = @now;
        sleep 2;
        return 0;
    }, 20), 'what waits stays where it is';
    is_deeply send_to($nginx, splice @mine, 0, 10), { queued => 10 }, 'some more';
    my @files = waiting($nginx);
    sleep 3;
    is_deeply [ waiting($nginx) ], \@files, '... and that stays, too, with the rest';
    cmp_ok scalar @files, '<=', scalar(@before) + 1, 'no small files';
    is spool_status($nginx)->{records}, 60, '60 events wait';

    $down->unblock;
    ok wait_for(sub { !waiting($nginx) }, 20), 'it is up again: nothing waits'
        or diag explain [ waiting($nginx) ];
    my $status = spool_status($nginx);
    is $status->{dead_letters}, 0, 'no dead letters';
};

scenario 'a cluster is restarted empty' => sub {
    my $cluster = cluster(replicas => 0);
    my $nginx = nginx_of($cluster);
    my @rooms = map { rooms_of($cluster, $_, 50) } $cluster->masters;

    is_deeply send_to($nginx, @rooms), { ok => 150 }, 'events for all nodes';
    $nginx->restart;
    is_deeply send_to($nginx, my @more = map { rooms_of($cluster, $_, 10) } $cluster->masters), { ok => 30 }, 'and more';
    $cluster->kill9($_) for $cluster->nodes;
    $cluster->start_again($_) for $cluster->nodes;
    $cluster->settle;

    all_there($cluster, [ @rooms, @more ], 'all are there again');

    my $logged = sub () {
        my ($sum, $log) = (0, $nginx->error_log);
        $sum += $1 while $log =~ /(\d+) events that Redis had lost were applied/g;
        return $sum;
    };
    wait_for(sub { $logged->() >= 180 }, 10);
    is $logged->(), 180, '... and that is logged';
};

# A cluster without replicas, and an nginx that was restarted since it sent one of
# the nodes 100 events; then half of its slots went to another node. Returns both,
# that other node, and the rooms.
sub half_moved () {
    my $cluster = cluster(replicas => 0);
    my $nginx = nginx_of($cluster);
    my ($from, $to) = $cluster->masters;
    my @rooms = rooms_of($cluster, $from, 100);

    is_deeply send_to($nginx, @rooms), { ok => 100 }, 'events for a node';
    $nginx->restart;
    $cluster->reshard(scalar($cluster->slots_of($from)) / 2, $from, $to);
    return ($cluster, $nginx, $to, @rooms);
}

scenario 'slots that move' => sub {
    my ($cluster, $nginx, $to, @rooms) = half_moved();
    $cluster->settle;

    # Both are looked at once more, and have everything.
    ok wait_for(sub { spool_status($nginx)->{looked_at} >= 100 }, 90), 'all of it is applied again where it is now' or diag explain spool_status($nginx);
    sleep 3;
    my $status = spool_status($nginx);
    # And what had no mark yet, at the start or while slots moved.
    cmp_ok $status->{looked_at}, '<', 150, '... once';
    is $status->{brought_back}, 0, '... of which nothing was missing';
    $nginx->log_unlike(qr/lost events/, 'no loss is logged');
};

scenario 'slots that move, and are lost by their new owner' => sub {
    my ($cluster, $nginx, $to, @rooms) = half_moved();
    $cluster->flush($to);
    $cluster->settle;
    all_there($cluster, \@rooms, 'they are there again');
};

scenario 'a slot that was away while nginx was stopped' => sub {
    my $cluster = cluster(replicas => 0);
    my $nginx = nginx_of($cluster);
    my ($from, $to) = $cluster->masters;
    my $slot = ($cluster->slots_of($from))[1];    # not the first one, which the marks may be in
    my @rooms = map { room_in_slot($slot, "away-$_") } 1 .. 50;

    is_deeply send_to($nginx, @rooms), { ok => 50 }, 'events in a slot';
    $nginx->restart;
    my $marked = sub () {
        my ($sizes, %marked) = (sizes($nginx));
        my $marks = marks($cluster, $from);
        $marked{ s/.*://r } = $marks->{$_} =~ s/ .*//r for keys %$marks;
        return !grep { ($marked{$_} // 0) != $sizes->{$_} } keys %$sizes;
    };
    ok wait_for($marked, 15), '... that its node has, says its marks' or diag explain marks($cluster, $from);
    $nginx->stop;

    # There and back, and the marks stay where they are.
    $cluster->move_slot($slot, $to);
    $cluster->settle;
    $cluster->flush($to);
    $cluster->move_slot($slot, $from);
    $cluster->settle;
    ok $marked->(), 'the marks still stand';
    my $client = $cluster->client;
    is scalar(grep { $client->cmd(EXISTS => key($_)) } @rooms), 0, '... but all is lost';

    $nginx->restart;
    all_there($cluster, \@rooms, 'it comes back');
};

done_testing;
