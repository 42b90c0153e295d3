# Redis Sentinel: the master of a name is found, checked and followed, whatever
# happens to servers and Sentinels.
# VAANI_FAULTS=full in the environment takes longer over it.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Certificates;
use Vaani::Test::Endpoint;
use Vaani::Test::Events;
use Vaani::Test::FakeRedis;
use Vaani::Test::Faults;
use Vaani::Test::NameServer;
use Vaani::Test::Nginx::Config qw(nginx_bin);
use Vaani::Test::Retain;
use Vaani::Test::Scenario;
use Vaani::Test::Sentinel qw(lying_sentinel);
use Vaani::Test::Socket qw(pause);
use Vaani::Test::Topology;

use constant TLS => join('', run([ nginx_bin(), '-V' ])) =~ /TLS SNI support enabled/;
use constant RATE => 600;

sub servers (%opt) { return Vaani::Test::Sentinel->start(acl => RETAIN, %opt) }

sub by ($set, @sentinels) { return join ' ', $set->urls(@sentinels), 'sentinel=' . $set->name }

sub load_on ($nginx, %opt) { return load($nginx, rate => full() ? 3000 : RATE, %opt) }

sub has ($node, $room) { return $node->admin->cmd(EXISTS => "vaani:call:$room") }

# nginx's connections to a server or a Sentinel.
sub connections ($set, $server) {
    my $list = $server->can('own_port') ? $server->admin->cmd(CLIENT => 'LIST', 'TYPE', 'normal')
        : join '', map { $set->ask($server, CLIENT => 'LIST', 'TYPE', $_) } qw(normal pubsub);
    return grep { /\buser=default\b/ && !/\bname=sentinel-/ } split /\n/, $list;
}

# --- the master is found

scenario 'the master of a name' => sub {
    my $set = servers(others => ['second']);
    my $dead = 'redis://127.0.0.1:' . free_port();
    my $nginx = endpoint(by($set), '', workers => 2, locations => join "\n", map {
        "location = /$_->[0] { vaani_webhook; vaani_redis $_->[1]; vaani_redis_connect_timeout 300ms; vaani_redis_timeout 300ms; }"
    } (
        [ one => by($set, ($set->sentinels)[1]) ],
        [ dead => "$dead @{[ by($set) ]}" ],
        [ second => join(' ', $set->urls, 'sentinel=second') ],
        [ none => join(' ', $set->urls, 'sentinel=nobody') ],
    ));

    my $room = new_room();
    is post($nginx, event('call_started', room => $room)), 'ok', 'an event';
    ok has($set->master, $room), '... is at the master';
    is post($nginx, an_event(), '/one'), 'ok', 'one Sentinel is enough';
    ok wait_for(sub { post($nginx, an_event(), '/dead') eq 'ok' }, 3), 'the first of them is dead';

    $room = new_room();
    is post($nginx, event('call_started', room => $room), '/second'), 'ok', 'another name';
    ok has($set->other('second'), $room), '... is another master';

    is post($nginx, an_event(), '/none'), '503', 'a name that nobody knows';
    $nginx->log_like(qr/\[error\].*vaani: .*nobody/, '... which the log says');
};

scenario 'two failovers in a row' => sub {
    my $set = servers();
    my $nginx = endpoint(by($set), '', workers => 2);
    my $old = $set->master;
    is post($nginx, an_event()), 'ok', 'before';

    for my $n (1, 2) {
        $set->catch_up($_) for $set->replicas;
        $set->kill9($old);
        my $new = $set->await_promotion($old);
        ok_within($nginx, 2, "failover $n: events go to the new master");
        $set->await_master($old);

        my $room = new_room();
        my $mark = $nginx->log_mark;
        $set->start_again($old);
        $set->settle;
        is post($nginx, event('call_started', room => $room)), 'ok', 'the old one comes back as a replica';
        ok has($new, $room), '... and events still go to the new one';
        $old = $new;
    }
    cmp_ok scalar($nginx->log_lines(qr/\[(?:notice|warn|error|crit)\].*vaani: .*master/)), '>=', 2, 'the log tells of each master';
};

scenario 'connections stay open' => sub {
    my $set = servers();
    my $nginx = endpoint(by($set), '', workers => 1);
    is post($nginx, an_event()), 'ok', 'before';

    # The old master answers READONLY.
    for my $n (1, 2) {
        my $new = $set->coordinated_failover;
        my $room = new_room();
        ok_within($nginx, 1, "FAILOVER $n", $room);
        ok wait_for(sub { has($new, $room) }, 1), '... goes to the new one';
        $set->settle;
    }
    my $old = $set->master;
    $set->failover;
    $set->await_promotion($old);
    ok_within($nginx, 1.5, 'SENTINEL FAILOVER');
    $set->settle;
    is scalar(connections($set, $old)), 0, 'nothing is connected to the old one';
};

# --- Sentinels that are gone

scenario 'Sentinels end' => sub {
    my $set = servers();
    my $nginx = endpoint(by($set), '', workers => 1);
    my @sentinels = $set->sentinels;
    is post($nginx, an_event()), 'ok', 'before';

    # Whichever it was that nginx listens to; a look at another one must follow,
    # or the switch is missed.
    $set->kill_sentinel($sentinels[0]);
    is post($nginx, an_event()), 'ok', 'one is killed';
    my $old = $set->master;
    $set->failover($sentinels[1]);
    $set->await_promotion($old);
    ok_within($nginx, 1.5, '... and the others tell of a switch');
    $set->settle;

    # All of them: the master lives.
    $set->kill_sentinel(@sentinels[ 1, 2 ]);
    is post($nginx, an_event()), 'ok', 'all are killed, and events go on' for 1 .. 20;
    is scalar(connections($set, ($set->masters_by_role)[0])), 1, '... on the connection that was there';

    $set->start_sentinel(@sentinels);
    $set->settle;
    $old = $set->master;
    $set->failover;
    $set->await_promotion($old);
    ok_within($nginx, 2, 'they are back, and tell of a switch');

    # No leak in all this.
    ok wait_for(sub { !grep { scalar(connections($set, $_)) > 2 } $set->live_sentinels }, 10), 'few connections to each Sentinel'
        or diag map { map { "$_\n" } connections($set, $_) } $set->live_sentinels;
};

scenario 'no Sentinel at the start' => sub {
    my $set = servers();
    my @sentinels = $set->sentinels;
    $set->kill_sentinel(@sentinels);
    my $nginx = endpoint(by($set, @sentinels), '', workers => 1);

    is post($nginx, an_event()), '503', 'nobody knows the master';
    my $from = now();
    is post($nginx, an_event()), '503', '... and that is known at once' for 1 .. 20;
    cmp_ok now() - $from, '<', 3, '... at once';
    ok defined $nginx->wait_log(qr/\[error\].*vaani: .*(?:entinel|refused)/, 5), 'the log explains it';
    $set->start_sentinel($sentinels[2]);
    ok_within($nginx, 6, 'until one of them is there');
};

scenario 'Sentinels hang' => sub {
    my $set = servers();
    $set->stop_sentinel(($set->sentinels)[ 0, 1 ]);
    my $nginx = endpoint(by($set), '', workers => 1);
    ok_within($nginx, 3, 'two of three do not answer');
    my $from = now();
    is post($nginx, an_event()), 'ok', 'on' for 1 .. 10;
    cmp_ok now() - $from, '<', 1, '... at once';
    $set->cont_sentinel(($set->sentinels)[ 0, 1 ]);
};

# --- passwords and TLS

scenario 'Sentinels with a password' => sub {
    my $file = tmpdir() . '/sentinel-password';
    for my $user (undef, 'watcher') {
        my $set = servers(
            password => 'redis-secret', sentinel_password => 'sentinel-secret', sentinel_user => $user,
            # The rights that the module may need in a Sentinel, and no more.
            sentinel_acl => [qw(resetchannels &+switch-master -@all +auth +hello +ping +role +subscribe +sentinel|get-master-addr-by-name)],
        );
        chmod 0600, spew($file, "sentinel-secret\n");
        my $urls = by($set) =~ s{redis://}{redis://:redis-secret@}gr;
        my $parameter = defined $user ? "user=$user" : '';
        my $nginx = endpoint($urls, "vaani_redis_sentinel_password_file $file $parameter;", workers => 1);

        my $whose = defined $user ? "of the user $user" : 'alone';
        is post($nginx, an_event()), 'ok', "a password $whose";
        my $old = $set->master;
        $set->failover;
        $set->await_promotion($old);
        ok_within($nginx, 1.5, '... and a failover');

        spew($file, "wrong-secret\n");
        $nginx = endpoint($urls, "vaani_redis_sentinel_password_file $file $parameter;", workers => 1);
        is post($nginx, an_event()), '503', 'a wrong one';
        ok defined $nginx->wait_log(qr/\[error\].*vaani: .*WRONGPASS/, 5), '... which the log says';
        $nginx->log_unlike(qr/-secret/, '... without the passwords');
    }

    my $set = servers(sentinel_password => 'sentinel-secret');
    my $nginx = endpoint(by($set), '', workers => 1);
    is post($nginx, an_event()), '503', 'none';
    ok defined $nginx->wait_log(qr/\[error\].*vaani: .*NOAUTH.*vaani_redis_sentinel_password_file/, 5), '... which the log says';
};

scenario 'TLS' => sub {
    plan skip_all => 'this nginx has no TLS' if !TLS;

    my $ca = Vaani::Test::Certificates->new('ca');
    my $pair = $ca->issue('all', san => 'DNS:redis.test, IP:127.0.0.1', usage => 'serverAuth, clientAuth');
    my $set = servers(tls => { %$pair{qw(cert key)}, ca_cert_file => $ca->file });
    my $trust = 'vaani_redis_ssl_trusted_certificate %%TMPDIR%%/ca/ca.crt;';

    my $nginx = endpoint(by($set), $trust, workers => 1);
    is post($nginx, an_event()), 'ok', 'Sentinels and servers with TLS';
    my $old = $set->master;
    $set->failover;
    $set->await_promotion($old);
    ok_within($nginx, 1.5, '... and a failover');

    $nginx = endpoint(by($set), '', workers => 1);
    is post($nginx, an_event()), '503', 'a certificate that is not trusted';
    ok defined $nginx->wait_log(qr/\[error\].*vaani: .*certificate/, 5), '... which the log says';
};

scenario 'hostnames' => sub {
    my $dns = Vaani::Test::NameServer->start(names => { localhost => '127.0.0.1' });
    my $set = servers(hostnames => [ ('localhost') x 3 ]);
    my $nginx = endpoint(by($set), '', workers => 1, server => $dns->resolver);

    ok_within($nginx, 2, 'a Sentinel that says a name');
    my $old = $set->master;
    $set->failover;
    $set->await_promotion($old);
    ok_within($nginx, 2, '... and a failover to the same name with another port');
};

# --- what Sentinels say

# A server and a replica without Sentinels, and one that lies.
sub with_liar (%opt) {
    my $set = servers(sentinels => 0, replicas => 1, %opt);
    my $liar = lying_sentinel(address => [ '127.0.0.1', $set->master->port ]);
    return ($set, $liar, $liar->url . ' sentinel=vaani');
}

scenario 'switches of other names' => sub {
    my ($set, $liar, $redis) = with_liar();
    my $nginx = endpoint($redis, '', workers => 1);
    my $master = $set->master;
    my ($replica) = $set->replicas;
    is post($nginx, an_event()), 'ok', 'before';
    my $ids = sub () { join ' ', sort map { /\bid=(\d+)/ } connections($set, $master) };
    my $before = $ids->();

    my ($from, $to) = map { '127.0.0.1 ' . $_->port } $master, $replica;
    $liar->tells($_) for "other $from $to", "vaani2 $from $to", "van $from $to", "VAANI $from $to",
        '', ' ', 'vaani', 'vaani ' . 'x' x 10_000, "\xff\0\x01", "x vaani $from $to";
    is post($nginx, an_event()), 'ok', 'none of ours' for 1 .. 20;
    is $ids->(), $before, '... the connection is the same';

    # A message does not count until the server was asked and checked.
    my $room = new_room();
    $liar->tells("vaani $from $to");
    ok_within($nginx, 3, 'ours, but not true', $room);
    ok has($master, $room), '... stays with the master';

    $set->promote($replica);
    $liar->says('127.0.0.1', $replica->port);
    my $asked = $liar->asked;
    $liar->tells("vaani $from $to");
    ok wait_for(sub { $liar->asked > $asked }, 3), 'ours: it is asked for';
    ok wait_for(sub { $room = new_room(); post($nginx, event('call_started', room => $room)) eq 'ok' && has($replica, $room) }, 3),
        '... and events go to the new one';
    ok wait_for(sub { !connections($set, $master) }, 5), '... and nothing to the old one, which lives';
};

scenario 'addresses that are stale or wrong' => sub {
    my ($set, $liar, $redis) = with_liar();
    my $master = $set->master;
    my ($replica) = $set->replicas;

    $liar->says('127.0.0.1', $replica->port);
    my $nginx = endpoint($redis, '', workers => 1);
    my $room = new_room();
    is post($nginx, event('call_started', room => $room)), 'ok', 'a replica: it says who its master is';
    ok has($master, $room), '... which has the event';

    my $lonely = servers(sentinels => 0, replicas => 1);
    my ($orphan) = $lonely->replicas;
    $lonely->kill9($lonely->master);
    $liar->says('127.0.0.1', $orphan->port);
    $nginx = endpoint($redis, '', workers => 1);
    is post($nginx, an_event()), '503', 'a replica whose master is lost';
    $nginx->log_like(qr/vaani: .*master/, '... which ROLE has told');
    my $asked = $liar->asked;
    my $from = now();
    is post($nginx, an_event()), '503', '... still' for 1 .. 50;
    cmp_ok $liar->asked - $asked, '<', 30, '... without a storm of questions';
    $liar->says('127.0.0.1', $master->port);
    ok_within($nginx, 5, '... until it is the master');

    my @wrong = (
        [ 'a closed port' => '127.0.0.1', free_port() ],
        [ 'port 0' => '127.0.0.1', 0 ],
        [ 'a port that is none' => '127.0.0.1', 99999 ],
        [ 'a word for a port' => '127.0.0.1', 'six' ],
        [ 'an empty host' => '', $master->port ],
        [ 'a host that is none' => "127.0.0.1\r\n\0", $master->port ],
        [ 'a name without a resolver' => 'no.such.host.invalid', $master->port ],
        [ 'a very long host' => 'x' x 100_000, $master->port ],
        [ 'itself' => '127.0.0.1', $liar->port ],
        [ 'no address' ],
        [ 'an error' => raw => "-ERR no such thing\r\n" ],
        [ 'a number' => raw => ":1\r\n" ],
        [ 'one item' => raw => "*1\r\n\$1\r\nx\r\n" ],
        [ 'three items' => raw => "*3\r\n\$1\r\nx\r\n\$1\r\ny\r\n\$1\r\nz\r\n" ],
        [ 'an empty list' => raw => "*0\r\n" ],
        [ 'numbers' => raw => "*2\r\n:1\r\n:2\r\n" ],
        [ 'garbage' => raw => "HTTP/1.1 400 Bad Request\r\n\r\n" ],
        [ 'half a reply' => raw => "*2\r\n\$9\r\n127" ],
    );
    for (@wrong) {
        my ($what, @says) = @$_;
        $liar->says(@says);
        $nginx = endpoint($redis, '', workers => 1);
        $from = now();
        is post($nginx, an_event()), '503', $what for 1, 2;
        cmp_ok now() - $from, '<', 4, '... soon';
        like $nginx->error_log, qr/\[(?:warn|error|crit)\].*vaani: /, '... and the log says something';
        cmp_ok length($nginx->error_log), '<', 60_000, '... that is bounded';
        $liar->says('127.0.0.1', $master->port);
        ok_within($nginx, 6, '... until it is right');
    }
};

scenario 'a Sentinel that is behind the others' => sub {
    my $set = servers();
    my $old = $set->master;
    my $liar = lying_sentinel(address => [ '127.0.0.1', $old->port ]);
    $set->failover;
    my $new = $set->await_master($old);
    $set->settle;

    # It is asked first, and names what is a replica now.
    my $nginx = endpoint($liar->url . ' ' . by($set), '', workers => 1);
    my $room = new_room();
    ok_within($nginx, 3, 'the others are asked, too', $room);
    ok has($new, $room), '... and the master has the event';
};

scenario 'Sentinels that disagree about servers that are all gone' => sub {
    my @liars = map { lying_sentinel(address => [ '127.0.0.1', free_port() ]) } 1, 2;
    my $nginx = endpoint(join(' ', (map { $_->url } @liars), 'sentinel=vaani'), 'vaani_redis_connections 4;', workers => 1);
    is post($nginx, an_event()), '503', 'nobody is there';
    my ($from, $asked) = ($nginx->log_mark, $liars[0]->asked + $liars[1]->asked);
    pause(3);
    my $lines = () = $nginx->log_lines(qr/\[(?:notice|warn|error|crit)\]/, $from);
    cmp_ok $lines, '<=', 30, "... which needs few lines: $lines in 3 s";
    cmp_ok $liars[0]->asked + $liars[1]->asked - $asked, '<=', 120, '... and few questions';
};

# --- under load

sub nginx_of ($set, %opt) { return nginx_with(by($set), workers => 2, %opt) }

# Since the promotion nothing may be queued that comes more than a second later.
sub flows ($load, $since, $what) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return flows_again($load, $since, 1, "$what: nothing is queued any more after 1 s");
}

scenario 'under load: kill -9 of the master, and of the next' => sub {
    my $set = servers();
    my $nginx = nginx_of($set);
    my $load = load_on($nginx);

    for my $round (1 .. scaled(2, 8)) {
        arrives($load, ok => 200);
        my $old = $set->master;
        $set->kill9($old);
        $set->await_promotion($old);
        flows($load, now(), "failover $round");
        $set->await_master($old);
        # Every other time it comes back as the master that it was.
        $set->start_again($old, fresh => $round % 2 == 0);
        $set->settle;
    }
    topology_account('Sentinel: kill -9 of the master', $load, $set, $nginx);
};

scenario 'under load: a replica that lags is promoted' => sub {
    my $set = servers(replicas => 1);
    my $nginx = nginx_of($set);
    my $load = load_on($nginx);

    arrives($load, ok => 200);
    my $old = $set->master;
    $set->catch_up($_) for $set->replicas;
    $set->hold($old);
    arrives($load, ok => 300);
    $set->kill9($old);
    $set->await_promotion($old);
    flows($load, now(), 'the failover');
    my $account = topology_account('Sentinel: kill -9, the replica lags', $load, $set, $nginx);
    cmp_ok $account->{brought_back}, '>', 0, 'events were brought back';
};

more_scenario 'under load: the master hangs, and goes on later' => sub {
    my $set = servers();
    my $nginx = nginx_of($set);
    my $load = load_on($nginx);

    arrives($load, ok => 200);
    my $old = $set->master;
    $set->stop($old);
    $set->await_promotion($old);
    flows($load, now(), 'the failover');
    # Two say that they are the master, until Sentinel tells this one.
    $set->cont($old);
    arrives($load, ok => 300);
    $set->settle;
    topology_account('Sentinel: SIGSTOP of the master', $load, $set, $nginx);
};

# Sentinels that did not ask for a failover may make another one seconds later.
long_scenario 'under load: SENTINEL FAILOVER and FAILOVER' => sub {
    my $set = servers();
    my $nginx = nginx_of($set);
    my $load = load_on($nginx);

    for my $round (1 .. scaled(1, 4)) {
        arrives($load, ok => 200);
        my $old = $set->master;
        $set->failover;
        $set->await_promotion($old);
        flows($load, now(), 'SENTINEL FAILOVER');
        $set->settle;
        $set->coordinated_failover;
        flows($load, now(), 'FAILOVER');
        $set->settle;
    }
    topology_account('SENTINEL FAILOVER, FAILOVER', $load, $set, $nginx);
};

more_scenario 'under load: Sentinels are killed, and then the master; reloads' => sub {
    my $set = servers();
    my $nginx = nginx_of($set);
    my $load = load_on($nginx);
    my @sentinels = $set->sentinels;

    arrives($load, ok => 200);
    $set->kill_sentinel($sentinels[0]);
    arrives($load, ok => 100);
    my $old = $set->master;
    $set->kill9($old);
    ok $nginx->reload, 'a reload while there is no master';
    $set->await_promotion($old);
    flows($load, now(), 'a failover by two Sentinels');
    $set->start_again($old);
    $set->start_sentinel($sentinels[0]);
    $set->settle;

    $set->kill_sentinel(@sentinels);
    arrives($load, ok => 200);
    is $load->count(503), 0, 'without any Sentinel events go on';
    ok $nginx->reload, 'a reload without any Sentinel';
    arrives($load, queued => 50) if !$load->await(ok => 50, 3);
    $set->start_sentinel(@sentinels);
    arrives($load, ok => 200);
    topology_account('Sentinels killed, reloads', $load, $set, $nginx);
};

# --- the configuration

scenario 'configurations' => sub {
    my $url = 'redis://127.0.0.1:26379';
    for (
        [ "vaani_redis sentinel=x;", 'no Sentinels' ],
        [ "vaani_redis $url sentinel=;", 'no name' ],
        [ "vaani_redis $url sentinel=a sentinel=b;", 'two names' ],
        [ "vaani_redis $url sentinel=a cluster;", 'a cluster, too' ],
        [ "vaani_redis $url sentinel=a; vaani_redis_sentinel_password_file /none;", 'a file that is not there' ],
        [ "vaani_redis $url sentinel=a; vaani_redis_sentinel_password_file %%TMPDIR%%/pw usr=x;", 'a parameter that is none' ],
    ) {
        my ($directives, $name) = @$_;
        spew(tmpdir() . '/pw', "x\n");
        my ($ok, $output) = Vaani::Test::Nginx->check(
            http => "server { listen unix:%%SOCK%%; location /hook { vaani_webhook; $directives } }");
        is $ok, 0, "$name: refused";
        like $output, qr/nginx\.conf:\d+|\/none/, '... and says where';
    }
};

table_at_end();
done_testing;
