# The data for operators about several Redis servers: the numbers by node and
# role, in each format; redirects, refreshes and failovers; one line of the log
# for each change of a master; and the answer of vaani_health when a part of a
# cluster is down.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Cluster qw(keyslot tag_for);
use Vaani::Test::Endpoint;
use Vaani::Test::Events;
use Vaani::Test::Scenario;
use Vaani::Test::Sentinel;
use Vaani::Test::Topology;

# An nginx with the locations /status and /health, of one worker.
sub nginx_of ($redis, %opt) {
    my $settings = "vaani_redis $redis; " . short();
    my $spooled = $opt{spool}
        ? "location = /spooled { vaani_webhook; vaani_spool %%DIR%%/spool; $settings }
           location = /health-spooled { vaani_health; vaani_spool %%DIR%%/spool; $settings }" : '';
    return endpoint($redis, '', workers => $opt{workers} // 1, locations => "
        location = /status { vaani_status; }
        location = /health { vaani_health; $settings }
        $spooled");
}

sub get ($nginx, $uri) { return ($nginx->{getter} //= $nginx->http)->get($uri) }

# The first Redis of the JSON.
sub redis ($nginx) { return get($nginx, '/status?format=json')->json->{redis}[0] }

# { port => "role slots ready/connections" }
sub nodes ($nginx) {
    return { map { ($_->{node} =~ /:(\d+)\z/)[0] => "$_->{role} $_->{slots} $_->{ready}/$_->{connections}" } @{ redis($nginx)->{nodes} } };
}

# It becomes this, within some seconds.
sub becomes ($what, $want, $name, $timeout = 10) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $got;
    my $same = sub ($x) { JSON::PP->new->canonical->allow_nonref->encode($x) };
    wait_for(sub { $same->($got = $what->()) eq $same->($want) }, $timeout);
    return is_deeply $got, $want, $name;
}

sub shows ($nginx, $want, $name, @timeout) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return becomes(sub { nodes($nginx) }, $want, $name, @timeout);
}

sub health ($nginx, $uri = '/health') {
    my $response = get($nginx, $uri);
    return $response->status . ' ' . $response->body;
}

sub says ($nginx, $want, $name, $uri = '/health', @timeout) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return becomes(sub { health($nginx, $uri) }, $want, $name, @timeout);
}

# The series of a metric: { 'labels' => value }, without the label "server".
sub series ($nginx, $name) {
    return { map { /^vaani_$name\{server="[^"]*"(?:,([^}]*))?\} (\S+)$/ ? (($1 // '') => $2) : () }
        split /\n/, get($nginx, '/status?format=prometheus')->body };
}

sub counter ($nginx, $name) { return series($nginx, "redis_${name}_total")->{''} }

# Lines at notice that tell of a master.
sub changes ($nginx) {
    return grep { /\bmaster\b/ } $nginx->log_lines(qr/\[notice\].*vaani: /);
}

# The JSON and the text for Prometheus say the same.
sub formats_agree ($nginx) {
    my (%want, %got);
    for my $node (@{ redis($nginx)->{nodes} }) {
        $want{"$_ $node->{node} $node->{role}"} = $node->{$_} for qw(connections ready slots);
    }
    for my $number (qw(connections ready slots)) {
        my $series = series($nginx, "redis_node_$number");
        for my $labels (keys %$series) {
            my ($node, $role) = $labels =~ /^node="([^"]+)",role="(\w+)"$/;
            $got{"$number $node $role"} = $series->{$labels};
        }
    }
    return is_deeply \%got, \%want, 'JSON and metrics agree';
}

scenario 'one server' => sub {
    my $redis = Vaani::Test::Redis->start(tcp => 1);
    my $nginx = nginx_of($redis->url, workers => 2);
    my $port = $redis->port;
    shows $nginx, { $port => 'master 0 2/2' }, 'one master, two workers';
    is redis($nginx)->{form}, 'single', 'form';
    is_deeply [ @{ redis($nginx) }{qw(masters masters_down redirects table_refreshes failovers)} ], [ 1, 0, 0, 0, 0 ], 'numbers';
    formats_agree($nginx);

    # Of a worker that was killed, nothing is left.
    $nginx->allow_log(qr/exited on signal 9/);
    for (1 .. 5) {
        wait_for(sub { $nginx->worker_pids == 2 });
        my ($pid) = $nginx->worker_pids;
        kill KILL => $pid;
        $nginx->wait_pids_gone([$pid]);
    }
    shows $nginx, { $port => 'master 0 2/2' }, 'after kill -9';
    ok $nginx->reload(wait_old => 1), 'reload';
    shows $nginx, { $port => 'master 0 2/2' }, '... changes nothing';

    $redis->kill;
    shows $nginx, { $port => 'master 0 0/2' }, 'down';
    is_deeply [ @{ redis($nginx) }{qw(masters masters_down)} ], [ 1, 1 ], '... known to be so';
    says $nginx, '503 {"status":"unavailable"}', 'health';
    $redis->restart;
    shows $nginx, { $port => 'master 0 2/2' }, 'up again';
    says $nginx, '200 {"status":"ok"}', 'health';
};

scenario 'a list' => sub {
    my $set = Vaani::Test::Sentinel->start(sentinels => 0, replicas => 1, acl => RETAIN);
    my ($one, $two) = $set->nodes;
    my $dead = free_port();
    my $nginx = nginx_of(join ' ', $two->url, $one->url, "redis://127.0.0.1:$dead");
    ok_within($nginx, 3, 'an event');

    is redis($nginx)->{form}, 'list', 'form';
    shows $nginx, { $one->port => 'master 0 1/1', $two->port => 'replica 0 0/0', $dead => 'unreachable 0 0/0' }, 'roles';
    is_deeply [ map { $_->{role} } @{ redis($nginx)->{nodes} } ], [qw(master replica unreachable)], '... the master first';
    is_deeply [ @{ redis($nginx) }{qw(masters masters_down failovers)} ], [ 1, 0, 0 ], 'numbers';
    is scalar changes($nginx), 0, 'no line of a change';
    formats_agree($nginx);

    $set->promote($two);
    $set->follow($one, $two);
    ok_within($nginx, 3, 'another one is promoted');
    shows $nginx, { $two->port => 'master 0 1/1', $one->port => 'replica 0 0/0', $dead => 'unreachable 0 0/0' }, 'roles', 15;
    is redis($nginx)->{failovers}, 1, 'one failover';
    is counter($nginx, 'failovers'), 1, '... as a metric';
    my @lines = changes($nginx);
    is scalar @lines, 1, '... one line' or diag @lines;
    like $lines[0], qr/vaani: redis:\S+:@{[ $two->port ]} is now the master, previously redis:\S+:@{[ $one->port ]}/, '... of both' if @lines;

    $set->kill9($two);
    post($nginx, an_event());
    shows $nginx, { $two->port => 'unreachable 0 0/1', $one->port => 'replica 0 0/0', $dead => 'unreachable 0 0/0' }, 'the master is killed';
    says $nginx, '503 {"status":"unavailable"}', 'health';
};

scenario 'Sentinels' => sub {
    my $set = Vaani::Test::Sentinel->start(acl => RETAIN, replicas => 1);
    my $one = $set->master;
    my $nginx = nginx_of(join(' ', $set->urls, 'sentinel=' . $set->name));
    ok_within($nginx, 3, 'an event');
    is redis($nginx)->{form}, 'sentinel', 'form';
    shows $nginx, { $one->port => 'master 0 1/1' }, 'the master, no Sentinel';
    formats_agree($nginx);

    $set->failover;
    my $two = $set->await_master($one);
    ok_within($nginx, 5, 'a failover');
    shows $nginx, { $two->port => 'master 0 1/1' }, 'the new master alone';
    is redis($nginx)->{failovers}, 1, 'one failover';
    is counter($nginx, 'failovers'), 1, '... as a metric';
    my @lines = changes($nginx);
    is scalar @lines, 1, '... one line' or diag @lines;
    like $lines[0], qr/vaani: redis:\S+:@{[ $two->port ]} is now the master, previously redis:\S+:@{[ $one->port ]}/, '... of both' if @lines;
};

scenario 'no Sentinel answers' => sub {
    my $nginx = nginx_of('redis://127.0.0.1:' . free_port() . ' sentinel=nobody');
    becomes sub { [ @{ redis($nginx) }{qw(masters masters_down nodes)} ] }, [ 0, 0, [] ], 'no master is known';
    says $nginx, '503 {"status":"unavailable"}', 'health';
};

scenario 'a cluster' => sub {
    my $cluster = Vaani::Test::Cluster->start(acl => RETAIN, replicas => 1);
    my ($one, $two, $three) = $cluster->masters;
    my @replicas = grep { my $node = $_; !grep { $_ == $node } $one, $two, $three } $cluster->nodes;
    my $nginx = nginx_of(join ' ', $cluster->urls, 'cluster');
    ok_within($nginx, 3, 'an event');
    post($nginx, an_event()) for 1 .. 30;

    my %slots = map { $_->port => scalar $cluster->slots_of($_) } $one, $two, $three;
    my %replica = map { $_->port => 'replica 0 0/0' } @replicas;
    is redis($nginx)->{form}, 'cluster', 'form';
    shows $nginx, { %replica, map { $_ => "master $slots{$_} 1/1" } keys %slots }, 'masters with their slots, and replicas', 15;
    is_deeply [ @{ redis($nginx) }{qw(masters masters_down failovers)} ], [ 3, 0, 0 ], 'numbers';
    formats_agree($nginx);
    is scalar changes($nginx), 0, 'no line of a change';
    says $nginx, '200 {"status":"ok"}', 'health';

    # A slot moves: one redirect, then a new table.
    my $room = new_room();
    my $slot = keyslot("vaani:call:$room");
    my $from = $cluster->owner_of($slot);
    my ($to) = grep { $_ != $from } $one, $two, $three;
    my ($redirects, $refreshes) = map { counter($nginx, $_) } qw(redirects table_refreshes);
    cmp_ok $refreshes, '>=', 1, 'the table was fetched';
    $cluster->move_slot($slot, $to);
    is post($nginx, event('call_started', room => $room)), 'ok', 'an event of a slot that moved';
    becomes sub { counter($nginx, 'redirects') }, $redirects + 1, 'one redirect';
    is redis($nginx)->{redirects}, $redirects + 1, '... in the JSON';
    ok wait_for(sub { counter($nginx, 'table_refreshes') > $refreshes }, 5), 'the table is fetched again';
    is redis($nginx)->{table_refreshes}, counter($nginx, 'table_refreshes'), '... in the JSON';
    $slots{ $from->port }--;
    $slots{ $to->port }++;
    shows $nginx, { %replica, map { $_ => "master $slots{$_} 1/1" } keys %slots }, '... with other numbers of slots';
    is scalar changes($nginx), 0, '... which is no change of a master';

    # A master is killed: its replica takes over.
    my ($heir) = $cluster->replicas_of($one);
    $cluster->kill9($one);
    $cluster->await_promotion($one);
    $cluster->settle;
    post($nginx, an_event()) for 1 .. 20;
    delete $replica{ $heir->port };
    my %masters = ($heir->port => $slots{ $one->port }, map { $_->port => $slots{ $_->port } } $two, $three);
    ok wait_for(sub { (nodes($nginx)->{ $heir->port } // '') =~ m{^master $slots{ $one->port } 1/1} }, 15), 'its replica is shown as a master';
    unlike nodes($nginx)->{ $one->port } // '', qr/^master/, '... and the one that was killed is not';
    is counter($nginx, 'failovers'), 1, 'one failover';
    my @lines = changes($nginx);
    is scalar @lines, 1, '... one line' or diag @lines;
    like $lines[0], qr/:@{[ $heir->port ]} is now a cluster master with \d+ slots, previously \S+:@{[ $one->port ]}/, '... of both' if @lines;
    says $nginx, '200 {"status":"ok"}', 'health';
};

scenario 'a shard is down' => sub {
    my $cluster = Vaani::Test::Cluster->start(acl => RETAIN, replicas => 0, config => ['cluster-require-full-coverage no']);
    my ($one, $two, $three) = $cluster->masters;
    my $nginx = nginx_of(join(' ', $cluster->urls, 'cluster'), spool => 1);
    ok_within($nginx, 3, 'an event');
    says $nginx, '200 {"status":"ok"}', 'nothing is down', $_ for qw(/health /health-spooled);

    $cluster->kill9($one);
    says $nginx, '200 {"status":"degraded","servers":3,"down":1}', 'one of three';
    says $nginx, '200 {"status":"queueing","servers":3,"down":1}', '... with a spool', '/health-spooled';
    my $slots = @{ $one->{had} };
    ok wait_for(sub { nodes($nginx)->{ $one->port } eq "master $slots 0/1" }, 5), '... which one' or diag explain nodes($nginx);
    is redis($nginx)->{nodes}[0]{node}, $one->url, '... it comes first';
    is_deeply [ @{ redis($nginx) }{qw(masters masters_down)} ], [ 3, 1 ], '... how many';
    is_deeply [ map { (values %{ series($nginx, $_) })[0] } qw(redis_masters redis_masters_down) ], [ 3, 1 ], '... as metrics';
    is_deeply [ grep { $_ eq 'ok' } map { post($nginx, event('call_started', room => '{' . tag_for($_) . '}')) } 0 ], [], 'its events are refused';
    is post($nginx, event('call_started', room => '{' . tag_for(16383) . '}')), 'ok', '... and others are not';
    formats_agree($nginx);

    $cluster->kill9($_) for $two, $three;
    says $nginx, '503 {"status":"unavailable","servers":3,"down":3}', 'all are down';
    says $nginx, '200 {"status":"queueing","servers":3,"down":3}', '... with a spool', '/health-spooled';

    $cluster->start_again($_) for $one, $two, $three;
    $cluster->settle;
    says $nginx, '200 {"status":"ok"}', 'all are up', $_, 15 for qw(/health /health-spooled);
};

# The default of Redis: if some slots have no owner, no node accepts writes.
# One more right is needed to know that without an event.
scenario 'the cluster is down' => sub {
    my $cluster = Vaani::Test::Cluster->start(acl => [ @{ +RETAIN }, '+cluster|info' ], replicas => 0);
    my ($one, $two, $three) = $cluster->masters;
    my $nginx = nginx_of(join(' ', $cluster->urls, 'cluster'), spool => 1);
    ok_within($nginx, 3, 'an event');

    $cluster->kill9($one);
    $cluster->await('the cluster to be down', sub { $cluster->ask($two, CLUSTER => 'INFO') =~ /^cluster_state:fail/m });
    says $nginx, '503 {"status":"unavailable","servers":3,"down":1}', 'none takes events', '/health', 20;
    says $nginx, '200 {"status":"queueing","servers":3,"down":1}', '... with a spool', '/health-spooled';
    isnt post($nginx, event('call_started', room => '{' . tag_for(16383) . '}')), 'ok', '... not even of other slots';

    $cluster->start_again($one);
    $cluster->settle;
    says $nginx, '200 {"status":"ok"}', 'it is up', '/health', 5;
    ok_within($nginx, 3, '... and takes events');
};

scenario 'slots that nobody owns' => sub {
    my $cluster = Vaani::Test::Cluster->start(acl => RETAIN, replicas => 0, config => ['cluster-require-full-coverage no']);
    my ($one) = $cluster->masters;
    my $nginx = nginx_of(join ' ', $cluster->urls, 'cluster');
    ok_within($nginx, 3, 'an event');
    $cluster->ask($_, CLUSTER => 'DELSLOTS', 0 .. 9) for $cluster->nodes;
    says $nginx, '200 {"status":"degraded","servers":3,"down":0,"slots_without_owner":10}', 'ten', '/health', 20;
};

scenario 'many nodes' => sub {
    my $cluster = Vaani::Test::Cluster->start(acl => RETAIN, replicas => 0, masters => 34, durable => 0,
        config => ['cluster-require-full-coverage no']);
    my @masters = $cluster->masters;
    my $nginx = nginx_of(join ' ', $cluster->urls(@masters[ 0 .. 2 ]), 'cluster');
    ok_within($nginx, 5, 'an event');
    becomes sub { [ redis($nginx)->{masters}, scalar @{ redis($nginx)->{nodes} } ] }, [ 34, 32 ], '32 of 34 are shown';
    my $nodes = nodes($nginx);
    my ($hidden) = grep { !$nodes->{ $_->port } } @masters;
    $cluster->kill9($hidden);
    ok wait_for(sub { (nodes($nginx)->{ $hidden->port } // '') =~ m{^master \d+ 0/1} }, 10), 'one that is down is shown';
    formats_agree($nginx);
} if $ENV{VAANI_FAULTS} && $ENV{VAANI_FAULTS} eq 'full';

done_testing;
