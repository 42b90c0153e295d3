# The test library itself: clusters and Sentinels, without nginx.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Certificates;
use Vaani::Test::Cluster qw(keyslot tag_for SLOTS);
use Vaani::Test::RESP;
use Vaani::Test::Sentinel qw(lying_sentinel);

my @KEYS = map { "key-$_" } 1 .. 200;

# Each key has its own name as its value, wherever it is.
sub all_there ($cluster, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is_deeply [ $cluster->client->pipeline(map { [ GET => $_ ] } @KEYS) ], \@KEYS, $name;
}

sub other_than ($node, @nodes) { return (grep { $_ != $node } @nodes)[0] }

subtest 'a cluster' => sub {
    my $cluster = Vaani::Test::Cluster->start;
    my $client = $cluster->client;
    my @masters = $cluster->masters;

    is @masters, 3, 'three masters';
    is_deeply [ map { scalar $cluster->replicas_of($_) } @masters ], [ 1, 1, 1 ], '... each with a replica';
    is_deeply [ sort { $a <=> $b } map { $cluster->slots_of($_) } @masters ], [ 0 .. SLOTS - 1 ], '... have all slots';

    is keyslot($_), $cluster->ask($masters[0], CLUSTER => 'KEYSLOT', $_), 'the slot of ' . s/[^ -~]/./gr
        for qw(a {a}b {}b foo{bar x{y}{z} {{a}}b }{), "\xff\0{\xfe}";
    is keyslot('{' . tag_for($_) . '}'), $_, "a tag for $_" for 0, 5461, 16383;

    $client->pipeline(map { [ SET => $_, $_ ] } @KEYS);
    all_there($cluster, 'keys are written to where they belong');
    is_deeply [ $cluster->keys('key-1?') ], [ map { "key-$_" } 10 .. 19 ], '... and are found';

    # Of what a client sees in between.
    my $from = $cluster->owner_of('key-1');
    my $to = other_than($from, @masters);
    my $slot = keyslot('key-1');
    $cluster->begin_move($slot, $from, $to);
    my (undef, $error) = $from->client->try_cmd(GET => '{key-1}none');
    like $error, qr/^ASK $slot 127\.0\.0\.1:@{[ $to->port ]}$/, 'a slot that moves: ASK';
    is $from->client->cmd(GET => 'key-1'), 'key-1', '... but for what is still there';
    $cluster->move_keys($slot, $from, $to);
    $cluster->end_move($slot, $from, $to);
    (undef, $error) = $from->client->try_cmd(GET => 'key-1');
    like $error, qr/^MOVED $slot 127\.0\.0\.1:@{[ $to->port ]}$/, '... then MOVED';
    all_there($cluster, '... and all keys are there');

    my $steps = 0;
    $cluster->reshard(600, @masters[ 0, 1 ], between => sub ($moved) { $steps++ });
    $cluster->settle;
    cmp_ok $steps, '>', 1, 'hundreds of slots in steps';
    all_there($cluster, '... with their keys');

    my ($replica) = $cluster->replicas_of($masters[0]);
    $cluster->failover($replica);
    $cluster->settle;
    is $masters[0]->role, 'slave', 'CLUSTER FAILOVER';
    all_there($cluster, '... loses nothing');

    $cluster->kill9($masters[1]);
    my $new = $cluster->await_promotion($masters[1]);
    $cluster->settle;
    all_there($cluster, 'kill -9 of a master loses nothing here');
    $cluster->start_again($masters[1]);
    $cluster->settle;
    is $cluster->master_of($masters[1]), $new, '... which comes back as a replica';

    my $node = $cluster->add_node;
    is @{ $cluster->view->{ $node->id }{slots} }, 0, 'another node without slots';
    $cluster->reshard(1000, $new, $node);
    $cluster->settle;
    all_there($cluster, '... and then with some');
    $cluster->reshard(SLOTS, $node, $new);
    $cluster->settle;
    $cluster->remove_node($node);
    $cluster->settle;
    is_deeply [ sort map { $_->port } $cluster->nodes ], [ sort map { $_->port } $cluster->live ], '... and it is gone';
    is $cluster->ask($node, CLUSTER => 'INFO') =~ /^cluster_known_nodes:(\d+)/m && $1, 1, '... for itself, too';
    all_there($cluster, '... without its keys');

    my $master = $cluster->owner_of('key-7');
    ($replica) = $cluster->replicas_of($master);
    $cluster->catch_up($replica);
    $cluster->hold($master);
    is $cluster->client->cmd(SET => 'key-7', 'a later value'), 'OK', 'a replica is held back';
    $cluster->kill9($master);
    $cluster->failover($replica, 'TAKEOVER');
    is $cluster->client->cmd(GET => 'key-7'), 'key-7', '... and promoted, without what came since';
};

sub certificates () {
    my $ca = Vaani::Test::Certificates->new('ca');
    my $pair = $ca->issue('all', san => 'IP:127.0.0.1, DNS:localhost', usage => 'serverAuth, clientAuth');
    return { %$pair{qw(cert key)}, ca_cert_file => $ca->file };
}
my $tls = certificates();

subtest 'a cluster with TLS, a password and a NAT' => sub {
    my $cluster = Vaani::Test::Cluster->start(masters => 2, replicas => 0, tls => $tls, password => 'p', nat => 1);
    my @masters = $cluster->masters;

    $cluster->client->pipeline(map { [ SET => $_, $_ ] } @KEYS);
    $cluster->reshard(1000, @masters);
    $cluster->settle;
    all_there($cluster, 'slots can be moved');

    my ($url) = $cluster->urls;
    my ($port) = $url =~ m{^rediss://127\.0\.0\.1:(\d+)\z} or return fail $url;
    is $cluster->ask($masters[0], CLUSTER => 'SLOTS')->[0][2][1], $port, 'clients are told the port of the proxy';
    isnt $port, $masters[0]->own_port, '... which is another one';
    $masters[0]->block;
    ok !eval { Vaani::Test::Socket::connect_socket($port, 0); 1 }, '... and can be closed';
    $masters[0]->unblock;
    ok eval { Vaani::Test::Socket::connect_socket($port, 1); 1 }, '... and opened again';
};

subtest 'Sentinels' => sub {
    my $set = Vaani::Test::Sentinel->start(others => ['second'], sentinel_password => 'secret');
    my $old = $set->master;
    $old->admin->cmd(SET => 'key', 'value');
    $set->catch_up($_) for $set->replicas;

    my $plain = Vaani::Test::RESP->connect(($set->sentinels)[0]->port);
    like +($plain->try_cmd(SENTINEL => 'MASTERS'))[1], qr/^NOAUTH/, 'they want a password';
    is $plain->cmd(AUTH => 'secret'), 'OK', '... which is this';
    is $plain->cmd(SENTINEL => 'GET-MASTER-ADDR-BY-NAME', 'second')->[1], $set->other('second')->port, 'they watch another master';

    $set->kill9($old);
    my $new = $set->await_promotion($old);
    is $set->await_master($old), $new, 'kill -9 of the master: there is another';
    is $new->client->cmd(GET => 'key'), 'value', '... with the data';
    $set->start_again($old);
    $set->settle;
    is $old->role, 'slave', 'the old one comes back as a replica';
};

# Sentinels may take it for a failure, and make a failover of their own.
subtest 'FAILOVER without Sentinels' => sub {
    my $set = Vaani::Test::Sentinel->start(sentinels => 0, replicas => 1);
    my $old = $set->master;
    my $connection = $old->client;
    my $new = $set->coordinated_failover;

    is $set->master, $new, 'the replica is the master';
    is $connection->cmd('ROLE')->[0], 'slave', '... and the connections of the old one are open';
};

subtest 'Sentinels with TLS' => sub {
    my $set = Vaani::Test::Sentinel->start(tls => $tls, password => 'p', sentinels => 1);
    my $old = $set->master;
    like +($set->urls)[0], qr{^rediss://}, 'the url';
    $set->failover;
    isnt $set->await_master($old), $old, 'SENTINEL FAILOVER';
};

subtest 'a Sentinel that lies' => sub {
    my $liar = lying_sentinel(address => [ '127.0.0.1', 7 ]);
    my $client = Vaani::Test::RESP->connect($liar->port);
    my @ask = qw(SENTINEL get-master-addr-by-name vaani);

    is_deeply $client->cmd(@ask), [ '127.0.0.1', 7 ], 'an address';
    $liar->says('::1', 8);
    is_deeply $client->cmd(@ask), [ '::1', 8 ], '... and another one';
    $liar->says;
    is $client->cmd(@ask), undef, '... and none';
    is $liar->asked, 3, 'asked three times';

    $client->subscribe('+switch-master');
    $liar->tells('other 127.0.0.1 1 127.0.0.1 2');
    is_deeply $client->next_message, { channel => '+switch-master', payload => 'other 127.0.0.1 1 127.0.0.1 2' }, 'news';
};

done_testing;
