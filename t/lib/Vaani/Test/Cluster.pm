package Vaani::Test::Cluster;

# A Redis or Valkey Cluster of the test's own: real servers on free ports of
# 127.0.0.1. REDIS_BIN in the environment chooses the server.
#
#   my $cluster = Vaani::Test::Cluster->start;         # 3 masters, 3 replicas
#   my $url = join ' ', $cluster->urls;                # for vaani_redis
#   my $node = $cluster->owner_of('vaani:call:r');     # a slot or a key
#   $cluster->client->hgetall('vaani:call:r');         # goes where the key is
#   $cluster->move_slot(keyslot('vaani:call:r'), $other);
#   $cluster->kill9($node);
#   $cluster->await_promotion($node);
#
# A node is a Vaani::Test::Redis (client, log, pid, suspend, resume ...) with an
# id. What a method says of the cluster is asked for at each call.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use List::Util qw(first);
use Vaani::Test ();
use Vaani::Test::Cluster::Client ();
use Vaani::Test::Cluster::Node ();
use Vaani::Test::Socket qw(free_port);

our @EXPORT_OK = qw(keyslot tag_for SLOTS);

use constant SLOTS => 16384;
use constant BUS => 10_000;    # the bus has the port of the clients and that

# What the module needs in a cluster in addition to docs/permissions.md.
use constant RIGHTS => [qw(+cluster|slots +cluster|info +cluster|myid +cluster|nodes +asking)];

# How many slots are moved in one go.
use constant BATCH => 256;
use constant CONNECTIONS => 16;

# The longest wait for the cluster to agree, s.
use constant PATIENCE => 30;

# Options:
#   masters       default 3; slots are divided evenly
#   replicas      for each master, default 1
#   node_timeout  ms, default 1000; a master that is killed is replaced after
#                 this and about a second
#   hostnames     names of the nodes in order, as [ 'node1.test', ... ]: announced
#                 and preferred (Redis 7.0)
#   endpoint      cluster-preferred-endpoint-type, with hostnames default "hostname"
#   nat           1: clients are told the ports of proxies, see NAT in Node.pm
#   tls           { cert, key, ca_cert_file }: TLS for clients, replication and
#                 the bus, no other port; certificates must be good for servers
#                 and clients: usage => 'serverAuth, clientAuth'. Or a list of
#                 these, for the nodes in order
#   password      requirepass
#   acl           [ words of ACL SETUSER ], as of Vaani::Test::Redis
#   bind          addresses to listen on, default 127.0.0.1; port: of the first node
#   durable       0: nodes forget all when they end; by default each write is in
#                 the append-only file before its answer
#   config        [ further lines of redis.conf ]
sub start ($class, %opt) {
    my $self = bless {
        nodes => [],
        opt   => { masters => 3, replicas => 1, node_timeout => 1000, durable => 1, %opt },
    }, $class;
    my ($masters, $replicas) = @{ $self->{opt} }{qw(masters replicas)};

    my @nodes = map { $self->_new_node } 1 .. $masters * (1 + $replicas);
    my @masters = @nodes[ 0 .. $masters - 1 ];

    for my $n (0 .. $#masters) {
        $self->ask($masters[$n], CLUSTER => 'SET-CONFIG-EPOCH', $n + 1);
        $self->_add_slots($masters[$n], int(SLOTS * $n / $masters), int(SLOTS * ($n + 1) / $masters) - 1);
    }

    # Sets all of them, because gossip would take a second.
    for my $n (1 .. $#nodes) {
        $self->_meet($nodes[$n], $_) for @nodes[ 0 .. $n - 1 ];
    }
    $self->_await_known(@nodes);

    for my $n ($masters .. $#nodes) {
        $self->ask($nodes[$n], CLUSTER => 'REPLICATE', $masters[ $n % $masters ]->id);
    }
    $self->settle;
    return $self;
}

sub _new_node ($self) {
    my $opt = $self->{opt};
    my $n = @{ $self->{nodes} };
    my $name = $opt->{hostnames} && $opt->{hostnames}[$n];
    my $tls = ref $opt->{tls} eq 'ARRAY' ? $opt->{tls}[$n] : $opt->{tls};

    my $node = Vaani::Test::Cluster::Node->start(
        port       => $n == 0 && $opt->{port} || free_port(BUS),
        hostname   => $name,
        nat        => $opt->{nat},
        tls        => $tls,
        password   => $opt->{password},
        bind       => $opt->{bind},
        acl        => [ @{ +RIGHTS }, @{ $opt->{acl} // [] } ],
        replicates => 1,
        config     => [
            'cluster-enabled yes',
            'cluster-config-file nodes.conf',
            "cluster-node-timeout $opt->{node_timeout}",
            'cluster-replica-validity-factor 0',    # also one that was held back for long
            'cluster-allow-replica-migration no',
            $opt->{durable} ? ('appendonly yes', 'appendfsync always') : (),
            $tls ? ('tls-cluster yes', 'tls-replication yes') : (),
            $name ? (
                "cluster-announce-hostname $name",
                'cluster-preferred-endpoint-type ' . ($opt->{endpoint} // 'hostname'),
            ) : $opt->{endpoint} ? "cluster-preferred-endpoint-type $opt->{endpoint}" : (),
            @{ $opt->{config} // [] },
        ],
    );
    push @{ $self->{nodes} }, $node;
    return $node;
}

sub _add_slots ($self, $node, $first, $last) {
    my ($done) = eval { $self->ask($node, CLUSTER => 'ADDSLOTSRANGE', $first, $last) };
    return if $done;

    # Redis 6.2
    for (my $slot = $first; $slot <= $last; $slot += 1000) {
        my $end = $slot + 999 > $last ? $last : $slot + 999;
        $self->ask($node, CLUSTER => 'ADDSLOTS', $slot .. $end);
    }
    return;
}

sub _meet ($self, $node, $other) {
    $self->ask($node, CLUSTER => 'MEET', '127.0.0.1', $other->own_port, $other->own_port + BUS);
    return;
}

# Every live node knows these by their ids.
sub _await_known ($self, @nodes) {
    $self->await('the nodes to meet', sub {
        for my $from ($self->live) {
            my $view = $self->view($from);
            for my $node (@nodes) {
                my $line = $view->{ $node->id } // return 0;
                return 0 if $line->{flags}{handshake} || $line->{link} ne 'connected' && !$line->{flags}{myself};
            }
        }
        return 1;
    });
    return;
}

# --- the nodes

sub nodes ($self) { return @{ $self->{nodes} } }

# Nodes that answer: neither killed nor suspended nor removed.
sub live ($self) { return grep { $_->answers } $self->nodes }

# Those of vaani_redis for these nodes, default all masters.
sub urls ($self, @nodes) { return map { $_->url } @nodes ? @nodes : $self->masters }

sub node ($self, $id) { return first { $_->id eq $id } $self->nodes }

# Live masters with slots, in the order of these.
sub masters ($self) {
    my $view = $self->view;
    return grep { $_->answers }
        map { $self->node($_->{id}) // () }
        sort { $a->{slots}[0][0] <=> $b->{slots}[0][0] }
        grep { @{ $_->{slots} } && !$_->{flags}{fail} } values %$view;
}

# Live ones.
sub replicas_of ($self, $master) {
    my $view = $self->view;
    return grep { $_->answers && ($view->{ $_->id }{master} // '') eq $master->id } $self->nodes;
}

sub owner_of ($self, $slot_or_key) {
    my $slot = $slot_or_key =~ /^\d+\z/ && $slot_or_key < SLOTS ? $slot_or_key : keyslot($slot_or_key);
    my $view = $self->view;

    for my $line (values %$view) {
        return $self->node($line->{id}) if grep { $_->[0] <= $slot && $slot <= $_->[1] } @{ $line->{slots} };
    }
    return undef;
}

# All slots of a node, ascending.
sub slots_of ($self, $node) {
    return map { $_->[0] .. $_->[1] } @{ ($self->view->{ $node->id } // return)->{slots} };
}

# A node's view: id => { id, address, flags => {}, master (id), link, epoch,
# slots => [ [ first, last ], ... ] }. By default the node that knows most.
sub view ($self, $from = undef) {
    $from //= $self->_speaker;
    my %view;

    for my $line (split /\n/, $self->ask($from, CLUSTER => 'NODES')) {
        my ($id, $address, $flags, $master, undef, undef, $epoch, $link, @slots) = split / /, $line;
        $view{$id} = {
            id      => $id,
            address => $address,
            flags   => { map { $_ => 1 } split /,/, $flags },
            master  => $master eq '-' ? undef : $master,
            epoch   => $epoch,
            link    => $link,
            slots   => [ map { /^(\d+)(?:-(\d+))?\z/ ? [ $1, $2 // $1 ] : () } @slots ],
        };
    }
    return \%view;
}

# The live node with the greatest epoch.
sub _speaker ($self) {
    my ($best, $greatest) = (undef, -1);
    for my $node ($self->live) {
        my ($epoch) = $self->ask($node, CLUSTER => 'INFO') =~ /^cluster_current_epoch:(\d+)/m;
        ($best, $greatest) = ($node, $epoch) if $epoch > $greatest;
    }
    return $best // die "no node is alive\n";
}

# A command to one node, over a persistent connection.
sub ask ($self, $node, @command) { return $node->admin->cmd(@command) }

# The same for many commands; dies with the first error.
sub ask_all ($self, $node, @commands) {
    my @replies = $node->admin->pipeline(@commands);
    for my $n (0 .. $#replies) {
        die "@{ $commands[$n] }: $replies[$n]\n" if ref $replies[$n] eq 'Vaani::Test::RESP::Error';
    }
    return @replies;
}

# CLUSTER SETSLOT for many slots. Valkey answers each command after the
# replicas have it; therefore several connections are used there. Redis writes
# its file once for all commands that it reads from one connection at a time.
sub _set_slots ($self, $node, $slots, @rest) {
    my $many = Vaani::Test::Redis::is_valkey() && @$slots > CONNECTIONS;
    my @connections = $many ? @{ $node->{many} //= [ map { $node->client } 1 .. CONNECTIONS ] } : $node->admin;
    my @commands = map { [] } @connections;

    push @{ $commands[ $_ % @connections ] }, [ CLUSTER => 'SETSLOT', $slots->[$_], @rest ] for 0 .. $#$slots;
    $connections[$_]->send_all(@{ $commands[$_] }) for 0 .. $#connections;
    for my $i (0 .. $#connections) {
        for my $reply ($connections[$i]->replies(scalar @{ $commands[$i] })) {
            die "CLUSTER SETSLOT @rest: $reply\n" if $reply ne 'OK';
        }
    }
    return;
}

# --- waiting

# Waits until the code returns something true, which is the result.
sub await ($self, $what, $code, $timeout = PATIENCE) {
    my $result = Vaani::Test::wait_for($code, $timeout);
    return $result if $result;
    die "waited $timeout s for $what\n"
        . join '', map { $_->port . ":\n" . (eval { $self->ask($_, CLUSTER => 'NODES') } // $@) } $self->live;
}

# Waits until all live nodes report that the cluster is well, agree on the
# owners of slots, and replicas follow a live master.
sub settle ($self, $timeout = PATIENCE) {
    $self->await('the cluster to settle', sub { return $self->settled }, $timeout);
    return $self;
}

sub settled ($self) {
    my %opinions;
    my %live = map { $_->id => 1 } my @live = $self->live;

    for my $node (@live) {
        my $info = $self->ask($node, CLUSTER => 'INFO');
        return 0 if $info !~ /^cluster_state:ok\r?$/m || $info !~ /^cluster_slots_ok:${\SLOTS}\r?$/m;

        my $view = $self->view($node);
        my $opinion = '';
        for my $id (sort keys %live) {
            my $line = $view->{$id} // return 0;
            return 0 if grep { $line->{flags}{$_} } qw(fail fail? handshake);
            my $master = $line->{master};
            return 0 if defined $master && !$live{$master};
            $opinion .= join ' ', $id, $master // '-', (map { "$_->[0]-$_->[1]" } @{ $line->{slots} }), "\n";
        }
        $opinions{$opinion} = 1;
        return 0 if keys %opinions > 1;

        return 0 if $view->{ $node->id }{master}
            && $self->ask($node, INFO => 'replication') !~ /^master_link_status:up\r?$/m;
    }
    return 1;
}

# Waits until another node, the new master, has the node's slots, as it reports
# itself; settle() waits for all others.
sub await_promotion ($self, $old, $timeout = PATIENCE) {
    return $self->await('a promotion', sub {
        for my $node (grep { $_ != $old } $self->live) {
            my $line = $self->view($node)->{ $node->id };
            return $node if @{ $line->{slots} } && grep { $_ == $line->{slots}[0][0] } @{ $old->{had} };
        }
        return undef;
    }, $timeout);
}

# Waits until the replica has everything that its master has now.
sub catch_up ($self, $replica) {
    my $master = $self->master_of($replica) // die "not a replica\n";
    my ($there) = $self->ask($master, INFO => 'replication') =~ /^master_repl_offset:(\d+)/m;

    $self->await('a replica to catch up', sub {
        my $info = $self->ask($replica, INFO => 'replication');
        my ($here) = $info =~ /^slave_repl_offset:(\d+)/m;
        return $info =~ /^master_link_status:up/m && defined $here && $here >= $there;
    });
    return;
}

sub master_of ($self, $replica) {
    my $id = $self->view($replica)->{ $replica->id }{master} // return undef;
    return $self->node($id);
}

# --- what happens to nodes

# kill -9. await_promotion() and start_again() accept the node afterwards.
sub kill9 ($self, $node) {
    $self->_note_slots($node);
    $node->kill;
    return $node;
}

sub start_again ($self, $node, %opt) {
    $node->restart(%opt);
    return $node;
}

# Suspends a node: it is alive, but silent on the bus too. For other nodes it
# is a partition of this node, for clients a process that hangs.
sub stop ($self, $node) {
    $self->_note_slots($node);
    $node->suspend;
    return $node;
}

sub cont ($self, $node) { $node->resume; return $node }

sub _note_slots ($self, $node) {
    return if !$node->answers;
    my @slots = $self->slots_of($node);
    $node->{had} = [ map { $_ + 0 } @slots ] if @slots;
    return;
}

# CLUSTER FAILOVER [FORCE|TAKEOVER] on a replica, until it is the master. It may
# fail when the master does not answer in time; then it is asked again.
sub failover ($self, $replica, $how = undef) {
    my $old = $self->master_of($replica);
    $self->_note_slots($old) if $old;

    for my $try (1 .. 5) {
        $self->ask($replica, CLUSTER => 'FAILOVER', $how // ());
        return $replica if eval {
            $self->await('the failover', sub { ($self->ask($replica, 'ROLE'))->[0] eq 'master' }, 6);
        };
    }
    die "CLUSTER FAILOVER has no effect\n" . $replica->log;
}

# No replica of the master gets data from now on, although all are alive and in
# the cluster: if one is promoted, later writes are lost. release() ends it; so
# does a restart of the master.
sub hold ($self, $master) {
    $self->ask($master, ACL => 'SETUSER', 'replica', 'off');
    $self->ask($master, CLIENT => 'KILL', 'TYPE', 'replica');
    return;
}

sub release ($self, $master) {
    $self->ask($master, ACL => 'SETUSER', 'replica', 'on');
    return;
}

# Adds a node to the cluster and waits until it settles: a master without
# slots, or add_node(replica_of => $master).
sub add_node ($self, %opt) { return ($self->add_nodes(1, %opt))[0] }

# Adding several takes as long as one.
sub add_nodes ($self, $count, %opt) {
    my @others = $self->live;
    my @new = map { $self->_new_node } 1 .. $count;

    for my $n (0 .. $#new) {
        $self->_meet($new[$n], $_) for @others, @new[ 0 .. $n - 1 ];
    }
    $self->_await_known(@new, @others);
    if ($opt{replica_of}) {
        $self->ask($_, CLUSTER => 'REPLICATE', $opt{replica_of}->id) for @new;
    }
    $self->settle;
    return @new;
}

# Removes a node, whose slots must have been moved before. It continues as a
# cluster of one without slots; end => 1 ends it.
sub remove_node ($self, $node, %opt) {
    die "the node has slots\n" if $node->answers && $self->slots_of($node);
    my $id = $node->id;

    $self->{nodes} = [ grep { $_ != $node } @{ $self->{nodes} } ];
    $self->ask($_, CLUSTER => 'FORGET', $id) for $self->live;
    if ($node->answers) {
        $self->ask($node, CLUSTER => 'RESET', 'HARD');
        $node->forget_id;
        $node->kill if $opt{end};
    }
    return $node;
}

# --- slots

# One slot with all its keys, to a master, as redis-cli does it.
sub move_slot ($self, $slot, $to) {
    $self->_move([$slot], $self->owner_of($slot), $to);
    return;
}

# The same in steps: begin_move, move_keys (some keys, by default all, or
# none), end_move. In between, the old node serves keys that it still has, and
# answers ASK for others.
sub begin_move ($self, $slots, $from, $to) {
    my @slots = ref $slots ? @$slots : $slots;
    $self->_set_slots($to, \@slots, 'IMPORTING', $from->id);
    $self->_set_slots($from, \@slots, 'MIGRATING', $to->id);
    return;
}

sub move_keys ($self, $slot, $from, $to, @keys) {
    my @auth = $to->migrate_auth;
    my $all = !@keys;

    while (1) {
        @keys = @{ $self->ask($from, CLUSTER => 'GETKEYSINSLOT', $slot, 100) } if $all;
        last if !@keys;
        $self->ask($from, MIGRATE => '127.0.0.1', $to->own_port, '', 0, 5000, @auth, 'KEYS', @keys);
        last if !$all;
    }
    return;
}

# The target first: it must not redirect to one that redirects back.
sub end_move ($self, $slots, $from, $to) {
    my @slots = ref $slots ? @$slots : $slots;
    my @others = grep { $_ != $from && $_ != $to } $self->masters;
    $self->_set_slots($_, \@slots, 'NODE', $to->id) for $to, $from, @others;
    return;
}

sub _move ($self, $slots, $from, $to) {
    return if $from == $to;
    $self->begin_move($slots, $from, $to);
    my @counts = $self->ask_all($from, map { [ CLUSTER => 'COUNTKEYSINSLOT', $_ ] } @$slots);

    # A slot without keys cannot get any: the node answers ASK for such keys.
    for my $n (grep { $counts[$_] } 0 .. $#$slots) {
        $self->move_keys($slots->[$n], $from, $to);
    }
    $self->end_move($slots, $from, $to);
    return;
}

# The last of the slots of a master, so many, to another. between => sub ($moved)
# is called after each batch of slots.
sub reshard ($self, $count, $from, $to, %opt) {
    my @slots = $self->slots_of($from);
    splice @slots, 0, @slots - $count if @slots > $count;
    my $moved = 0;

    while (my @batch = splice @slots, 0, $opt{batch} // BATCH) {
        $self->_move(\@batch, $from, $to);
        $moved += @batch;
        $opt{between}->($moved) if $opt{between};
    }
    return;
}

# Whether the server can move slots atomically: Valkey 9 and Redis 8.4.
sub has_atomic_migrate ($self) {
    my $help = join "\n", @{ $self->ask(($self->live)[0], CLUSTER => 'HELP') };
    return $help =~ /^MIGRATESLOTS/m ? 'valkey' : $help =~ /^MIGRATION/m ? 'redis' : undef;
}

# Moves the slots from $first to $last of a master, with the server's own
# command.
sub atomic_migrate ($self, $first, $last, $to) {
    my $from = $self->owner_of($first);

    if ($self->has_atomic_migrate eq 'valkey') {
        $self->ask($from, CLUSTER => 'MIGRATESLOTS', 'SLOTSRANGE', $first, $last, 'NODE', $to->id);
    } else {
        $self->ask($to, CLUSTER => 'MIGRATION', 'IMPORT', $first, $last);
    }
    $self->await('an atomic migration', sub { ($self->owner_of($first) // $from) == $to });
    $self->settle;
    return;
}

# --- data

# A client that finds the node of a key; see Cluster/Client.pm.
sub client ($self) { return Vaani::Test::Cluster::Client->new($self) }

sub hgetall ($self, $key) { return $self->client->hgetall($key) }

# Those of all masters, or those of one node.
sub keys ($self, $pattern = '*', @nodes) {
    my @keys = map { @{ $self->ask($_, KEYS => $pattern) } } @nodes ? @nodes : $self->masters;
    @keys = sort @keys;
    return @keys;    # not the sort itself: in scalar context it has no value
}

sub flush ($self, @nodes) {
    $self->ask($_, 'FLUSHALL') for @nodes ? @nodes : $self->masters;
    return;
}

# What all nodes have logged.
sub log ($self) { return join '', map { $_->log } $self->nodes }

# Ends all nodes; without this they end with the test.
sub end ($self) {
    $_->kill for $self->nodes;
    return;
}

# --- slots of keys

my @crc16 = map {
    my $crc = $_ << 8;
    $crc = ($crc & 0x8000 ? ($crc << 1) ^ 0x1021 : $crc << 1) & 0xffff for 1 .. 8;
    $crc;
} 0 .. 255;

sub crc16 ($bytes) {
    my $crc = 0;
    $crc = (($crc << 8) & 0xffff) ^ $crc16[ (($crc >> 8) ^ $_) & 0xff ] for unpack 'C*', $bytes;
    return $crc;
}

# The slot of a key: that of the text between the first { and the first } after
# it, unless that is empty.
sub keyslot ($key) {
    my ($tag) = $key =~ /^[^{]*\{([^}]+)\}/s;
    return crc16($tag // $key) % SLOTS;
}

# A short tag whose slot that is: "{" . tag_for($slot) . "}...".
sub tag_for ($slot) {
    state %tags;
    state $next = 0;

    until (defined $tags{$slot}) {
        my $tag = 't' . $next++;
        $tags{ keyslot($tag) } //= $tag;
    }
    return $tags{$slot};
}

1;
