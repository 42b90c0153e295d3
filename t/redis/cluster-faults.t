# A Redis Cluster with all kinds of faults while calls come in: masters that
# are killed, hang or are replaced, slots that move, nodes that are added and
# removed. Events answered with 200 must be there afterwards, once; none is
# refused, and no client waits.
#
# VAANI_FAULTS=full in the environment repeats them more often.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Cluster qw(SLOTS);
use Vaani::Test::Faults;
use Vaani::Test::Retain;
use Vaani::Test::Scenario;
use Vaani::Test::Socket qw(pause);
use Vaani::Test::Topology;

# Not more than two cores can do with six servers.
use constant RATE => 600;

# Redis keeps nothing over a restart: what a node that was killed knows is what its
# replica has, and the rest comes back from the spool.
sub cluster (%opt) {
    return Vaani::Test::Cluster->start(durable => 0, acl => partitioned_acl(), %opt);
}

sub seeds ($cluster, @nodes) { return join ' ', $cluster->urls(@nodes), 'cluster' }

sub nginx_of ($cluster, %opt) { return nginx_with(seeds($cluster), workers => 2, partition_options(%opt)) }

sub load_on ($nginx) { return load($nginx, rate => full() ? 2000 : RATE) }

# A cluster, an nginx in front of it, and the load; options of the cluster, and "nginx".
sub loaded_cluster (%opt) {
    my %nginx = %{ delete $opt{nginx} // {} };
    my $cluster = cluster(%opt);
    my $nginx = nginx_of($cluster, %nginx);
    return ($cluster, $nginx, load_on($nginx));
}

# The end of a scenario.
sub ends ($fault, $load, $cluster, $nginx, %opt) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $cluster->settle;
    return topology_account($fault, $load, $cluster, $nginx, partitions => 1, %opt);
}

# Since a moment that is the first of these: events go to Redis again.
sub flows ($load, $since, $what, $within = 1) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return flows_again($load, $since, $within, sprintf '%s: nothing is queued any more after %s s', $what, $within);
}

# --- masters

scenario 'kill -9 of masters' => sub {
    my ($cluster, $nginx, $load) = loaded_cluster();

    for my $round (1 .. scaled(2, 9)) {
        arrives($load, ok => 200);
        my @masters = $cluster->masters;
        my $old = $masters[ $round % 3 ];
        $cluster->kill9($old);
        $cluster->await_promotion($old);
        flows($load, now(), "round $round");
        $cluster->start_again($old);
        $cluster->settle;
    }
    ends('kill -9 of a master', $load, $cluster, $nginx);
};

scenario 'kill -9 of a master whose replica lags' => sub {
    my ($cluster, $nginx, $load) = loaded_cluster();

    for my $round (1 .. scaled(1, 4)) {
        arrives($load, ok => 200);
        my ($old) = $cluster->masters;
        my ($replica) = $cluster->replicas_of($old);
        $cluster->catch_up($replica);
        $cluster->hold($old);
        arrives($load, ok => 400);
        $cluster->kill9($old);
        $cluster->failover($replica, 'TAKEOVER');
        flows($load, now(), 'TAKEOVER by the replica that lags');
        $cluster->start_again($old);
        $cluster->settle;
    }
    my $account = ends('kill -9, the replica lags', $load, $cluster, $nginx);
    cmp_ok $account->{brought_back}, '>', 0, 'events were brought back';
};

for my $how ('', 'FORCE', 'TAKEOVER') {
    my $at = $how eq '' ? \&scenario : \&long_scenario;
    $at->("CLUSTER FAILOVER $how" => sub {
        my ($cluster, $nginx, $load) = loaded_cluster();

        # The second one of a shard is the way back.
        for my $round (1 .. scaled(4, 20)) {
            arrives($load, ok => 150);
            my ($master) = ($cluster->masters)[ $round > 2 ? 1 : 0 ];
            my ($replica) = $cluster->replicas_of($master);
            $cluster->failover($replica, $how || undef);
            flows($load, now(), "round $round");
            $cluster->settle;
        }
        ends("CLUSTER FAILOVER $how", $load, $cluster, $nginx);
    });
}

more_scenario 'a master hangs' => sub {
    my ($cluster, $nginx, $load) = loaded_cluster();

    for my $round (1 .. scaled(1, 4)) {
        arrives($load, ok => 200);
        my ($old) = $cluster->masters;
        $cluster->stop($old);
        $cluster->await_promotion($old);
        flows($load, now(), 'another one has its slots');
        # It acts as the master until another node tells it otherwise.
        $cluster->cont($old);
        arrives($load, ok => 200);
        $cluster->settle;
    }
    ends('SIGSTOP of a master', $load, $cluster, $nginx);
};

long_scenario 'a master hangs for less than it takes to replace it' => sub {
    my ($cluster, $nginx, $load) = loaded_cluster(node_timeout => 15000);

    for my $round (1 .. 3) {
        arrives($load, ok => 200);
        my $master = ($cluster->masters)[ $round - 1 ];
        $cluster->stop($master);
        arrives($load, queued => 200);
        arrives($load, ok => 200);    # those of the other shards
        $cluster->cont($master);
        flows($load, now(), "round $round", 3);
    }
    ends('SIGSTOP of a master, not replaced', $load, $cluster, $nginx);
};

more_scenario 'a master is out of reach' => sub {
    # Its peers see it, so that no replica takes over.
    my ($cluster, $nginx, $load) = loaded_cluster(nat => 1);
    my $master = ($cluster->masters)[1];

    arrives($load, ok => 200);
    $master->block;
    arrives($load, queued => 200);
    arrives($load, ok => 200);
    $master->unblock;
    flows($load, now(), 'it is in reach again', 3);
    ends('a master out of reach', $load, $cluster, $nginx);
};

more_scenario 'all nodes are killed and restarted' => sub {
    my ($cluster, $nginx, $load) = loaded_cluster(durable => 1);

    arrives($load, ok => 200);
    $cluster->kill9($_) for $cluster->nodes;
    arrives($load, queued => 300);
    $cluster->start_again($_) for $cluster->nodes;
    $cluster->settle;
    flows($load, now(), 'all are there again', 3);
    ends('kill -9 of all nodes', $load, $cluster, $nginx);
};

scenario 'one node is flushed' => sub {
    my ($cluster, $nginx, $load) = loaded_cluster();

    arrives($load, ok => 600);
    $cluster->flush(($cluster->masters)[2]);
    arrives($load, ok => 300);
    my $account = ends('FLUSHALL of a node', $load, $cluster, $nginx);
    cmp_ok $account->{brought_back}, '>', 0, 'events were brought back';
};

# --- slots

# Half of the slots of each master goes to the next.
sub reshard_half ($cluster, %opt) {
    my @masters = $cluster->masters;
    my @half = map { int(scalar($cluster->slots_of($_)) / 2) } @masters;
    $cluster->reshard($half[$_], $masters[$_], $masters[ ($_ + 1) % @masters ], %opt) for 0 .. $#masters;
    return;
}

scenario 'half of all slots move' => sub {
    my ($cluster, $nginx, $load) = loaded_cluster();

    for my $round (1 .. scaled(1, 5)) {
        arrives($load, ok => 200);
        reshard_half($cluster, batch => 128, between => sub ($moved) { $load->await(ok => 10) });
        my $end = now();
        $cluster->settle;
        flows($load, $end, "round $round");
    }
    ends('reshard of half of all slots', $load, $cluster, $nginx);
};

scenario 'a moved slot, and then a replica that lags is promoted' => sub {
    my ($cluster, $nginx, $load) = loaded_cluster();

    # The marks of a node say nothing of slots that it had not then.
    arrives($load, ok => 300);
    my ($from, $to) = $cluster->masters;
    my ($replica) = $cluster->replicas_of($to);
    $cluster->settle;
    $cluster->catch_up($replica);
    $cluster->hold($to);
    $cluster->reshard(scalar($cluster->slots_of($from)), $from, $to, between => sub ($moved) { $load->await(ok => 10) });
    arrives($load, ok => 300);
    $cluster->kill9($to);
    $cluster->failover($replica, 'TAKEOVER');

    # It has the slots, of which it learned by the bus, without what was in them.
    flows($load, now(), 'TAKEOVER by the replica that lags', 5);
    $cluster->start_again($to);
    my $account = ends('reshard, then the replica lags', $load, $cluster, $nginx, longest => 2000);
    cmp_ok $account->{brought_back}, '>', 0, 'events were brought back';
};

more_scenario 'slots move, in the way of the server' => sub {
    my $cluster = cluster();
    plan skip_all => 'this server cannot move slots atomically' if !$cluster->has_atomic_migrate;
    my $nginx = nginx_of($cluster);
    my $load = load_on($nginx);

    arrives($load, ok => 200);
    my ($from, $to) = $cluster->masters;
    my @slots = $cluster->slots_of($from);
    $cluster->atomic_migrate($slots[0], $slots[ @slots / 2 ], $to);
    flows($load, now(), 'after the migration');
    ends('atomic slot migration', $load, $cluster, $nginx);
};

# --- nodes

more_scenario 'a node is added and another one removed' => sub {
    my ($cluster, $nginx, $load) = loaded_cluster();

    arrives($load, ok => 200);
    my @masters = $cluster->masters;
    my $node = $cluster->add_node;
    arrives($load, ok => 100);
    $cluster->reshard(SLOTS, $masters[0], $node, between => sub ($moved) { $load->await(ok => 10) });
    $cluster->settle;
    arrives($load, ok => 100);

    # A replica of one that has no slots any more is of no use, either.
    my ($replica) = grep { ($cluster->view->{ $_->id }{master} // '') eq $masters[0]->id } $cluster->live;
    $cluster->ask($replica, CLUSTER => 'REPLICATE', $node->id) if $replica;
    $cluster->settle;
    $cluster->remove_node($masters[0], end => 1);
    my $end = now();
    $cluster->settle;
    flows($load, $end, 'it is gone');
    ends('a node added, another removed', $load, $cluster, $nginx);
};

# The nodes of the configuration are all gone, and a reload names others.
more_scenario 'all seeds are replaced' => sub {
    my ($cluster, $nginx, $load) = loaded_cluster(masters => 2, replicas => 0);

    arrives($load, ok => 200);
    my @old = $cluster->masters;
    my @new = $cluster->add_nodes(2);
    $cluster->reshard(SLOTS, $old[$_], $new[$_], between => sub ($moved) { $load->await(ok => 10) }) for 0 .. $#old;
    $cluster->settle;
    $cluster->remove_node($_, end => 1) for @old;
    my $end = now();
    $cluster->settle;
    flows($load, $end, 'no seed is alive');

    ok $nginx->reload(http => Vaani::Test::Retain::http(seeds($cluster), partition_options())), 'a reload with others';
    flows($load, now(), 'others');
    ends('all seeds replaced', $load, $cluster, $nginx);
};

# --- nginx

more_scenario 'reloads while slots move and masters change' => sub {
    my ($cluster, $nginx, $load) = loaded_cluster();
    my $reloads = 0;

    arrives($load, ok => 200);
    reshard_half($cluster, batch => 512, between => sub ($moved) {
        $load->await(ok => 10);
        $nginx->reload if $reloads++ % 3 == 0;
    });
    $cluster->settle;
    my ($old) = $cluster->masters;
    $cluster->kill9($old);
    ok $nginx->reload, 'a reload while a master is missing';
    $cluster->await_promotion($old);
    flows($load, now(), 'after it');
    $cluster->start_again($old);
    ends('reloads in the middle', $load, $cluster, $nginx);
};

more_scenario 'workers are killed while slots move and masters change' => sub {
    my ($cluster, $nginx, $load) = loaded_cluster(nginx => { allow_log => qr/exited on signal 9/ });
    my $kill = sub () {
        my ($pid) = $nginx->worker_pids;
        CORE::kill(KILL => $pid);
        $nginx->wait_pids_gone([$pid]);
        wait_for(sub { $nginx->worker_pids == 2 }) or fail 'the master starts another worker';
    };
    my $kills = 0;

    arrives($load, ok => 200);
    reshard_half($cluster, batch => 512, between => sub ($moved) {
        $load->await(ok => 10);
        $kill->() if $kills++ % 4 == 0;
    });
    $cluster->settle;
    my ($old) = $cluster->masters;
    $cluster->kill9($old);
    $kill->();
    $cluster->await_promotion($old);
    $kill->();
    arrives($load, ok => 200);
    $cluster->start_again($old);

    # A client of a worker that was killed got no answer in time.
    ends('workers killed in the middle', $load, $cluster, $nginx);
};

table_at_end();
done_testing;
