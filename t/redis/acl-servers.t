# The rights of Redis users that docs/redis.md gives for clusters, Sentinels and
# several servers, set with its commands: they are enough, and each word of them is
# for what the page says.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::ACL qw(commands documented);
use Vaani::Test::Cluster qw(tag_for);
use Vaani::Test::Events;
use Vaani::Test::Sentinel;
use Vaani::Test::Topology;

use constant PASSWORD => 'secret';    # as in the document
use constant CLI => ($ENV{REDIS_BIN} // '') =~ m{^(.*/)?valkey-server\z} ? ($1 // '') . 'valkey-cli' : 'redis-cli';

my $page = 'redis.md';
my ($module, $stream, $retain, $spublish, $index) = documented('vaani');
my ($role, $cluster_words) = documented('vaani', $page);
my ($partitions) = documented('partitions', $page);

# Rights that nginx can do without, with fewer checks.
my @CHECKS = qw(+cluster|info +cluster|myid +cluster|nodes);

my $password = spew(tmpdir() . '/password', PASSWORD . "\n");
chmod 0600, $password;

sub without ($word, @words) { return grep { $_ ne $word } @words }

sub same_words ($got, $want, $name) { return is_deeply [ sort @$got ], [ sort @$want ], $name }

sub set_user ($cluster, $name, @words) {
    $cluster->ask($_, ACL => 'SETUSER', $name, @words) for $cluster->live;
    return;
}

# A command of the page, as it is typed, for this cluster.
sub type ($cluster, $user) {
    my ($command) = grep { join(' ', @$_) =~ /--cluster call .* SETUSER \Q$user\E / } commands($page);
    my (undef, @words) = @$command;
    my %admin = Vaani::Test::Redis::ADMIN;
    my $address = '127.0.0.1:' . ($cluster->masters)[0]->port;
    my ($exit, $out, $err) = run([
        CLI, '--user', $admin{user}, '--pass', $admin{password}, '--no-auth-warning',
        map { /^192\.0\.2\.7:6379\z/ ? $address : $_ } @words,
    ]);
    is $exit, 0, "ACL SETUSER $user" or diag $out, $err;
    is scalar(() = $out =~ /^127\.0\.0\.1:\d+: OK\r?$/mg), scalar($cluster->live), '... on all nodes' or diag $out, $err;
    return;
}

sub seeds ($cluster, $user) {
    return join ' ', map({ s{//}{//$user@}r } $cluster->urls), 'cluster';
}

my $cluster = Vaani::Test::Cluster->start;

# A slot that is half moved, and a call of it that has gone.
my $slot = 77;
my $moving = '{' . tag_for($slot) . '}';
my $from = $cluster->owner_of($slot);
my ($to) = grep { $_ != $from } $cluster->masters;

subtest 'a cluster' => sub {
    set_user($cluster, 'vaani', @$module);
    type($cluster, 'vaani');
    same_words($cluster_words, [ '+cluster|slots', '+asking', @CHECKS ], 'the words');

    my @variants = ('', @$cluster_words);
    my $locations = '';
    for my $n (0 .. $#variants) {
        set_user($cluster, "user$n", @$module, without($variants[$n], @$cluster_words)) if $n;
        my $user = $n ? "user$n" : 'vaani';
        $locations .= "location = /$n { vaani_webhook; vaani_redis @{[ seeds($cluster, $user) ]}; }\n";
    }
    my $nginx = Vaani::Test::Nginx->start(workers => 1, http => "
        vaani_redis_password_file $password;
        vaani_redis_connect_timeout 10s;
        server { listen unix:%%SOCK%%; $locations }");

    # Events of all masters, one without a call, and one that a node sends on with ASK.
    my $tries = sub ($n) {
        my %answers;
        $answers{ post($nginx, event('call_started', room => "room-$n-$_"), "/$n") }++ for 1 .. 20;
        my $all = keys %answers == 1 ? (keys %answers)[0] : 'different';
        return [ $all, post($nginx, event('brand_new', room => ABSENT), "/$n"),
            post($nginx, event('call_started', room => "$moving$n"), "/$n") ];
    };

    $cluster->begin_move($slot, $from, $to);
    my %missing = (
        '+cluster|slots' => [ '503', '503', '503' ],
        '+asking'        => [ 'ok', 'ok', '503' ],
        map { $_ => [ 'ok', 'ok', 'ok' ] } @CHECKS,
    );
    is_deeply $tries->(0), [ 'ok', 'ok', 'ok' ], 'they are enough';
    is_deeply $tries->($_), $missing{ $variants[$_] }, "without $variants[$_]" for 1 .. $#variants;
    $cluster->end_move($slot, $from, $to);
    $cluster->settle;

    $nginx->log_like(qr/check that it is a cluster node and that the ACL allows "\+cluster\|slots"/, 'a missing +cluster|slots is logged');
};

subtest 'a cluster with partitions' => sub {
    # The same as the parts, but for SELECT.
    my @parts = map { s/^-\@all\z/nocommands/r =~ s/^[~&]vaani:\K(?!mark)/{*}:/r } without('+select', @$module), @$stream,
        @$retain, @$spublish, @$index, @$cluster_words;
    same_words($partitions, [ without('&vaani:{*}:room:*', @parts) ], 'the words');

    type($cluster, 'partitions');
    my $nginx = nginx_with(seeds($cluster, 'partitions'), workers => 1, log_level => 'info',
        partition_options(more => "
            vaani_redis_password_file $password;
            vaani_channel \"vaani:{\$vaani_partition}:events\" sharded;"));

    my %answers;
    $answers{ post($nginx, event($_->[0], room => "call-$_->[1]")) }++
        for map { my $n = $_; map { [ $_, $n ] } qw(call_started call_ringing human_transfer_initiated call_ended) } 1 .. 30;
    is_deeply \%answers, { ok => 120 }, 'events';
    is post($nginx, event('brand_new', room => ABSENT)), 'ok', 'an event without a call';
    ok wait_for(sub { $cluster->keys('vaani:mark:*') >= 3 }), 'marks';
    ok scalar($cluster->keys('vaani:{*}:stream')), 'streams';
    ok scalar($cluster->keys('vaani:{*}:calls')), 'indexes';
    $nginx->log_unlike(qr/NOPERM|ACL|refused to publish/, 'nothing is refused');
};

subtest 'Sentinel' => sub {
    my ($words) = documented('nginx', $page);
    same_words($role, ['+role'], 'the words of a server');

    my $set = Vaani::Test::Sentinel->start(
        replicas => 1, sentinel_password => PASSWORD, sentinel_user => 'nginx',
        sentinel_acl => [ grep { !/^(?:on$|>)/ } @$words ]);
    $_->admin->cmd(ACL => 'SETUSER', 'vaani', @$module, @$role) for $set->nodes;

    my $urls = join ' ', map({ s{//}{//vaani@}r } $set->urls), 'sentinel=' . $set->name;
    my $nginx = endpoint($urls, "vaani_redis_password_file $password;
        vaani_redis_sentinel_password_file $password user=nginx;", workers => 1);
    is post($nginx, event('call_started', room => 'one')), 'ok', 'they are enough';
    my $old = $set->master;
    $set->failover;
    $set->await_master($old);
    ok_within($nginx, 1.5, '... for a failover');

    # A subscribed client must be able to unsubscribe, to ask again.
    $nginx->log_unlike(qr/NOPERM|does not know the master/, 'nothing is refused');

    my %needed = (
        '+sentinel|get-master-addr-by-name' => sub ($c) { $c->cmd(SENTINEL => 'GET-MASTER-ADDR-BY-NAME', $set->name) },
        '+subscribe'       => sub ($c) { $c->subscribe('+switch-master') },
        '&+switch-master'  => sub ($c) { $c->subscribe('+switch-master') },
        '+unsubscribe'     => sub ($c) { $c->cmd('UNSUBSCRIBE', '+switch-master') },
    );
    same_words([ keys %needed ], [ grep { !/^(?:on$|>|-|reset)/ } @$words ], 'the words of a Sentinel');
    my ($sentinel) = $set->sentinels;
    for my $word (sort keys %needed) {
        for my $case ([ 1, @$words ], [ 0, without($word, @$words) ]) {
            my ($allowed, @words) = @$case;
            $set->ask($sentinel, ACL => 'DELUSER', 'try');
            $set->ask($sentinel, ACL => 'SETUSER', 'try', @words);
            my $done = eval { $needed{$word}->($sentinel->client(user => 'try', password => PASSWORD)); 1 } ? 1 : 0;
            is $done, $allowed, $allowed ? "$word is used" : '... and needed' or diag $@;
        }
    }
};

subtest 'several servers' => sub {
    for my $word ('+role', '+info', undef) {
        my $set = Vaani::Test::Sentinel->start(replicas => 1, sentinels => 0);
        $_->admin->cmd(ACL => 'SETUSER', 'vaani', @$module, $word // ()) for $set->nodes;
        my $nginx = endpoint(join(' ', map { $_->url =~ s{//}{//vaani@}r } reverse $set->nodes),
            "vaani_redis_password_file $password;", workers => 1);
        is post($nginx, event('call_started', room => 'one')), defined $word ? 'ok' : '503', $word // 'neither';
    }
};

done_testing;
