# bin/vaani-calls where Redis is more than one server, or behind TLS: it asks the
# master, wherever that is, and says what is wrong if there is none.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::ACL qw(documented);
use Vaani::Test::Certificates;
use Vaani::Test::Cluster qw(keyslot);
use Vaani::Test::Events;
use Vaani::Test::FakeRedis;
use Vaani::Test::Process ();
use Vaani::Test::Sentinel qw(lying_sentinel);
use Vaani::Test::Topology;

use constant TOOL => ROOT . '/bin/vaani-calls';
use constant PASSWORD => 'secret';    # as in the document
use constant INDEX => [qw(~* +@all)];

$ENV{TZ} = 'UTC';
delete @ENV{qw(REDIS_URL VAANI_REDIS_USER VAANI_REDIS_PASSWORD SSL_CERT_FILE)};

my ($words, $role, $cluster_words) = documented('calls');
my $password = spew(tmpdir() . '/password', PASSWORD . "\n");

my @strange;

sub calls (@arguments) {
    my ($exit, $out, $err) = run([ $^X, '-w', TOOL, @arguments ]);
    push @strange, "@arguments: $err" if $err =~ / at \S+ line \d+|^Use of |\bsesame\b/m;
    return ($exit, $out, $err);
}

sub rooms ($text) { return join ' ', sort map { /^(\S+)/ } splice @{ [ split /\n/, $text ] }, 1 }

sub refuses ($status, $like, $name, @arguments) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($exit, $out, $err) = calls(@arguments);
    is $exit, $status, $name;
    like $err, $like, '... says why';
    is scalar(() = $err =~ /\n/g), 1, '... in one line' or diag $err;
    return;
}

sub shows ($want, $name, @arguments) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($exit, $out, $err) = calls('active', @arguments);
    return is join('|', $exit, rooms($out), $err), "0|$want|", $name;
}

sub urls (@urls) { return map { ('--redis', $_) } @urls }

# Credentials in one URL are enough.
sub as_user ($first, @urls) { return ($first =~ s{//}{//calls\@}r, @urls) }

subtest 'TLS' => sub {
    my $ca = Vaani::Test::Certificates->new('redis-ca');
    my $good = $ca->issue('good', san => 'DNS:localhost, IP:127.0.0.1');
    my $other = $ca->issue('elsewhere', san => 'DNS:elsewhere.test');
    my $mine = $ca->issue('mine', usage => 'clientAuth');
    my $redis = Vaani::Test::Redis->start(acl => INDEX, tls => { %$good{qw(cert key)} });
    my $nginx = endpoint('unix:' . $redis->socket, 'vaani_index on;');
    post($nginx, event('call_started', room => 'tls-1'));
    my $port = $redis->tls_port;
    my @cacert = ('--cacert', $ca->file);

    shows('tls-1', $_ =~ s/\d+(?:\/0)?\z/.../r, @cacert, urls($_)) for "rediss://127.0.0.1:$port", "VALKEYS://localhost:$port/0";
    { local $ENV{SSL_CERT_FILE} = $ca->file; shows('tls-1', 'a CA that the system trusts', urls("rediss://127.0.0.1:$port")) }
    shows('tls-1', '--insecure', '--insecure', urls("rediss://127.0.0.1:$port"));
    my $where = qr/^vaani-calls: cannot connect to Redis at 127\.0\.0\.1:\d+: TLS\b/;
    refuses(3, qr/$where.*certificate verify failed/, 'an unknown CA', 'active', urls("rediss://127.0.0.1:$port"));
    refuses(3, $where, 'a Redis without TLS', 'active', @cacert, urls('rediss://127.0.0.1:' . Vaani::Test::Redis->start(tcp => 1)->port));

    # A hash that is longer than a record of TLS.
    post($nginx, event('call_postprocessing', room => 'tls-1', transcript => 'word ' x 40_000));
    my ($exit, $out, $err) = calls('show', 'tls-1', '--transcript', @cacert, urls("rediss://127.0.0.1:$port"));
    is "$exit $err " . length((split /Transcript:\n/, $out)[1] // ''), '0  ' . (2 + 200_000 + 1), 'a long transcript';

    my $named = Vaani::Test::Redis->start(acl => INDEX, tls => { %$other{qw(cert key)} });
    $named->client->cmd(qw(ZADD vaani:active 1), 'tls-2');
    refuses(3, qr/$where.*(?:hostname|certificate) verif/, 'another name', 'active', @cacert, urls('rediss://127.0.0.1:' . $named->tls_port));
    shows('tls-2', '--server-name', @cacert, '--server-name', 'elsewhere.test', urls('rediss://127.0.0.1:' . $named->tls_port));

    my $strict = Vaani::Test::Redis->start(acl => INDEX, tls => { %$good{qw(cert key)}, auth_clients => 'yes', ca_cert_file => $ca->file });
    $strict->client->cmd(qw(ZADD vaani:active 1), 'tls-3');
    my @strict = (@cacert, urls('rediss://127.0.0.1:' . $strict->tls_port));
    shows('tls-3', 'with a certificate of its own', '--cert', $mine->{cert}, '--key', $mine->{key}, @strict);
    refuses(3, qr/^vaani-calls: (?:cannot connect to|lost the connection to) Redis at \S+: /, 'without one', 'active', @strict);
    refuses(3, qr/$where/, 'with one that is none', 'active', '--cert', $password, '--key', $password, @strict);

    my $mute = Vaani::Test::FakeRedis->start(tcp => 1, on_connect => sub ($sock, @) { 1 while sysread $sock, my $buffer, 4096 });
    refuses(3, qr/$where.*handshake timed out \(--timeout\)$/, 'one that shakes no hands', 'active', @cacert, '--timeout', 1, urls('rediss://127.0.0.1:' . $mute->port));
};

subtest 'the master of a list' => sub {
    my $set = Vaani::Test::Sentinel->start(sentinels => 0, replicas => 1, acl => INDEX);
    my ($first, $second) = $set->nodes;
    my @urls = map { $_->url } $set->nodes;
    my $nginx = endpoint("@urls", 'vaani_index on;');
    is post($nginx, event('call_started', room => 'list-1')), 'ok', 'an event';
    $set->catch_up($second);
    my $dead = 'redis://127.0.0.1:' . free_port();

    shows('list-1', 'the first one', urls(@urls));
    shows('list-1', 'the second one', urls(reverse @urls));
    shows('list-1', 'one that is down', urls($dead, reverse @urls));
    { local $ENV{REDIS_URL} = join ' ', reverse @urls; shows('list-1', 'in REDIS_URL') }
    refuses(3, qr/^vaani-calls: none of the servers is a master \(.*Connection refused; 127\.0\.0\.1:\d+ is a replica\)$/,
        'no master', 'active', urls($dead, $second->url));

    # With the documented rights, by ROLE and by INFO.
    for my $node ($set->nodes) {
        $node->admin->cmd(ACL => 'SETUSER', 'calls', @$_) for $words, $role;
    }
    my @as_calls = (urls(as_user(reverse @urls)), '--password-file', $password);
    shows('list-1', 'as the documented user', @as_calls);
    $_->admin->cmd(qw(ACL SETUSER calls -role +info)) for $set->nodes;
    shows('list-1', '... with +info', @as_calls);
    $_->admin->cmd(qw(ACL SETUSER calls -info)) for $set->nodes;
    refuses(4, qr/^vaani-calls: none of the servers is a master \(.*NOPERM/, '... with neither', 'active', @as_calls);

    # Two that say so.
    $set->promote($second);
    my ($exit, $out, $err) = calls('active', urls(@urls));
    is "$exit " . rooms($out), '0 list-1', 'two masters: the first';
    like $err, qr/^vaani-calls: both 127\.0\.0\.1:\d+ and 127\.0\.0\.1:\d+ report that they are the master; using the first one$/, '... is told';

    # A program that goes on leaves a master that was demoted.
    my $file = tmpdir() . '/watch.out';
    my $watch = Vaani::Test::Process->spawn(argv => [ $^X, '-w', TOOL, 'watch', '--interval', '0.2', urls(@urls) ], stdout => $file, stderr => "$file.err");
    ok wait_for(sub { slurp($file) =~ /list-1$/m }), 'watch';
    $first->admin->cmd(qw(REPLICAOF 127.0.0.1 1));
    $second->admin->cmd(qw(ZADD vaani:active 1 list-2));
    ok wait_for(sub { slurp($file) =~ /list-2$/m }), '... goes to the new master' or diag slurp("$file.err");
    $watch->signal('TERM');
    $watch->wait;
    $set->promote($first);

    # A server that hangs takes its share of the time only.
    $set->stop($first);
    ($exit, $out, $err) = calls('active', '--timeout', 6, urls(@urls));
    is "$exit " . rooms($out), '0 list-1 list-2', 'one that hangs' or diag $err;
    $set->cont($first);
};

subtest 'Sentinel' => sub {
    my $set = Vaani::Test::Sentinel->start(replicas => 1, acl => INDEX, sentinel_user => 'watcher', sentinel_password => 'sesame2');
    my $sentinel_password = spew(tmpdir() . '/sentinel', 'sesame2');
    my @login = ('--sentinel-user', 'watcher', '--sentinel-password-file', $sentinel_password);
    my @by = ('--sentinel', $set->name, @login);
    my ($master, $replica) = $set->nodes;
    is $master->admin->cmd(qw(ZADD vaani:active 1 sentinel-1)), 1, 'a call';
    $set->catch_up($replica);

    for my $node ($set->nodes) {
        $node->admin->cmd(ACL => 'SETUSER', 'calls', @$_) for $words, $role;
    }
    shows('sentinel-1', 'the master', @by, urls($set->urls));
    shows('sentinel-1', 'as the documented user', @by, urls(as_user($set->urls)), '--password-file', $password);
    shows('sentinel-1', 'one of the Sentinels is down', @by, urls('redis://127.0.0.1:' . free_port(), $set->urls));
    refuses(3, qr/^vaani-calls: no Sentinel leads to the master 'nobody' \(the Sentinel 127\.0\.0\.1:\d+ knows no such master/, 'another name', 'active',
        '--sentinel', 'nobody', @login, urls($set->urls));
    refuses(4, qr/^vaani-calls: no Sentinel leads to the master .*NOAUTH/, 'no login at the Sentinels', 'active', '--sentinel', $set->name, urls($set->urls));
    refuses(4, qr/WRONGPASS/, 'a wrong one', 'active', @by, urls(map { s{//}{//calls:sesame\@}r } $set->urls));

    # Promoted, and not yet known to this Sentinel: the replica names its master.
    my $stale = lying_sentinel(address => [ '127.0.0.1', $replica->own_port ]);
    shows('sentinel-1', 'a Sentinel that names a replica', '--sentinel', 'x', urls($stale->url));
    $stale->says('127.0.0.1', free_port());
    refuses(3, qr/no Sentinel leads to the master 'x' \(cannot connect to Redis at/, '... or nobody', 'active', '--sentinel', 'x', urls($stale->url));
    $stale->says(raw => "*1\r\n\$1\r\nx\r\n");
    refuses(3, qr/knows no such master/, '... or nonsense', 'active', '--sentinel', 'x', urls($stale->url));

    $set->kill9($master);
    my $new = $set->await_master($master);
    shows('sentinel-1', 'after a failover', @by, urls($set->urls));
};

subtest 'cluster' => sub {
    my $cluster = Vaani::Test::Cluster->start(replicas => 0, acl => INDEX);
    my $nginx = endpoint(join(' ', $cluster->urls, 'cluster'), 'vaani_index on; vaani_partitions ' . PARTITIONS . ';
        vaani_prefix "vaani:{$vaani_partition}"; vaani_stream "vaani:{$vaani_partition}:stream";');
    my @options = ('--cluster', '--partitions', PARTITIONS, '--prefix', 'vaani:{$vaani_partition}');
    my @rooms = map { sprintf 'cluster-%02d', $_ } 1 .. 60;
    is post($nginx, event('call_started', room => $_)), 'ok', $_ for @rooms;
    my %where = map { $cluster->owner_of('vaani:{' . partition($_) . "}:active")->id => 1 } @rooms;
    is scalar keys %where, 3, 'calls are on all masters';

    shows("@rooms", 'one seed', @options, urls(($cluster->urls)[2]));
    shows("@rooms", 'a seed that is down', @options, urls('redis://127.0.0.1:' . free_port(), $cluster->urls));
    is +(calls('active', '--count', @options, urls($cluster->urls)))[1], "60\n", '--count';
    my ($exit, $out) = calls('last', 25, @options, urls($cluster->urls));
    my $latest = $cluster->client;
    my %updated = map { $_ => $latest->cmd('HGET', 'vaani:{' . partition($_) . "}:call:$_", 'updated_at') } @rooms;
    my @want = (sort { $updated{$b} <=> $updated{$a} || $b cmp $a } @rooms)[ 0 .. 24 ];
    is rooms($out), join(' ', sort @want), 'last 25';
    for my $room (@rooms[ 0 .. 3 ]) {
        ($exit, $out) = calls('show', $room, '--stream', @options, urls($cluster->urls));
        is $exit, 0, "show $room";
        like $out, qr/^  \S+ \S+ +call_started +1 /m, '... with its stream';
    }
    like +(calls('metrics', @options, urls($cluster->urls)))[1], qr/^vaani_calls_active 60$/m, 'metrics';
    refuses(3, qr/answered MOVED .*; the server is a node of a cluster, see --cluster$/, 'without --cluster', 'active', @options[ 1 .. $#options ], urls(($cluster->urls)[0]));
    refuses(3, qr/^vaani-calls: no node of the cluster has a slot table .*cluster support disabled.*; remove --cluster\)$/, 'no cluster', 'active', '--cluster', urls(Vaani::Test::Redis->start(tcp => 1, acl => INDEX)->url));

    # As the documented user, for which the page says what a cluster needs.
    $cluster->ask($_, ACL => 'SETUSER', 'calls', @$words, @$cluster_words, map { "~vaani:{*}:$_" } qw(active calls call:* stream)) for $cluster->nodes;
    my @as_calls = (@options, urls(as_user($cluster->urls)), '--password-file', $password);
    shows("@rooms", 'as the documented user', @as_calls);
    is +(calls('show', $rooms[0], '--stream', @as_calls))[0], 0, '... show';

    # A partition moves: what is read meanwhile is where it was, or there already.
    my $partition = partition($rooms[0]);
    my $slot = keyslot("vaani:{$partition}:active");
    my $from = $cluster->owner_of($slot);
    my ($to) = grep { $_ != $from } $cluster->masters;
    my @keys = map { "vaani:{$partition}:$_" } qw(active calls stream), map { "call:$_" } grep { partition($_) == $partition } @rooms;
    $cluster->begin_move($slot, $from, $to);
    shows("@rooms", 'before its keys move', @as_calls);
    $cluster->move_keys($slot, $from, $to, $_) for @keys[ 0, 1 ];
    shows("@rooms", 'while they move (ASK)', @as_calls);
    $cluster->move_keys($slot, $from, $to, $_) for @keys[ 2 .. $#keys ];
    shows("@rooms", 'when they have moved (ASK)', @as_calls);
    $cluster->end_move($slot, $from, $to);
    shows("@rooms", 'and afterwards', @as_calls);
    $cluster->ask($_, qw(ACL SETUSER calls -asking)) for $cluster->nodes;
    shows("@rooms", '... without +asking, which is for a move', @as_calls);

    # Answers that lead nowhere, or round and round.
    my $nodes = sub ($host, $port) { return "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n\$" . length($host) . "\r\n$host\r\n:$port\r\n\$40\r\n" . 'a' x 40 . "\r\n" };
    my $fake = sub ($slots, $reply) {
        my $server;
        my $port = free_port();
        return Vaani::Test::FakeRedis->start(port => $port, on_connect => sub ($sock, @) {
            while (my $command = read_command($sock)) {
                send_bytes($sock, $command->[0] eq 'CLUSTER' ? $slots->($port) : $command->[0] eq 'ASKING' ? "+OK\r\n" : $reply->($port));
            }
        });
    };
    my $own = sub ($port) { $nodes->('127.0.0.1', $port) };
    for my $case (
        [ 'MOVED to itself'  => $own, sub ($port) { "-MOVED 1 127.0.0.1:$port\r\n" }, qr/was redirected 9 times/ ],
        [ 'ASK to itself'    => $own, sub ($port) { "-ASK 1 127.0.0.1:$port\r\n" }, qr/was redirected 9 times/ ],
        [ 'MOVED to no host' => $own, sub ($port) { "-MOVED 1 :$port\r\n" }, qr/was redirected 9 times/ ],
        [ 'MOVED nowhere'    => $own, sub ($port) { "-MOVED somewhere\r\n" }, qr/invalid redirection of the cluster/ ],
        [ 'a host of ?'      => $own, sub ($port) { "-MOVED 1 ?:7000\r\n" }, qr/redirects to a node with an unknown host/ ],
        [ 'TRYAGAIN'         => $own, sub ($port) { "-TRYAGAIN\r\n" }, qr/was redirected 9 times/ ],
        [ 'CLUSTERDOWN'      => $own, sub ($port) { "-CLUSTERDOWN The cluster is down\r\n" }, qr/answered CLUSTERDOWN/ ],
        [ 'no slots'         => sub ($port) { "*0\r\n" }, sub ($port) { ":1\r\n" }, qr/has a slot table \(127\.0\.0\.1:\d+ has no slots\)/ ],
        [ 'nobody owns it'   => sub ($port) { "*1\r\n*3\r\n:1\r\n:1\r\n*2\r\n\$0\r\n\r\n:$port\r\n" }, sub ($port) { ":1\r\n" }, qr/no node of the cluster owns slot \d+$/ ],
        [ 'odd slots'        => sub ($port) { "*2\r\n*1\r\n:1\r\n*3\r\n\$1\r\nx\r\n:99999\r\n:1\r\n" }, sub ($port) { ":1\r\n" }, qr/no node of the cluster owns slot \d+$/ ],
    ) {
        my ($name, $slots, $reply, $why) = @$case;
        my $server = $fake->($slots, $reply);
        refuses(3, $why, $name, 'active', '--count', '--cluster', urls($server->url));
        $server->stop;
    }

    # An unreachable master.
    $cluster->kill9($to);
    refuses(3, qr/^vaani-calls: (?:cannot connect to Redis at|.*answered CLUSTERDOWN)/, 'a master is away', 'active', @options, urls($cluster->urls($from)));
};

is join("\n", @strange), '', 'no line of the source and no password was printed';

done_testing;
