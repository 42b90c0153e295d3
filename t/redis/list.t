# Several servers, of which one is the master: it is found by ROLE, followed when
# another one is promoted, and never mistaken.
# VAANI_FAULTS=full in the environment takes longer over it.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Endpoint;
use Vaani::Test::Events;
use Vaani::Test::FakeRedis;
use Vaani::Test::Faults;
use Vaani::Test::Retain;
use Vaani::Test::Scenario;
use Vaani::Test::Sentinel;
use Vaani::Test::Topology;

use constant RATE => 600;

# Servers without Sentinels; the first is the master.
sub servers (%opt) { return Vaani::Test::Sentinel->start(sentinels => 0, replicas => 1, acl => RETAIN, %opt) }

sub urls (@nodes) { return join ' ', map { $_->url } @nodes }

sub load_on ($nginx, %opt) { return load($nginx, rate => full() ? 3000 : RATE, %opt) }

sub has ($node, $room) { return $node->admin->cmd(EXISTS => "vaani:call:$room") }

sub connections ($node) {
    return grep { /\buser=default\b/ } split /\n/, $node->admin->cmd(CLIENT => 'LIST', 'TYPE', 'normal');
}

# An event within so many seconds, and this server has it.
sub goes_to ($nginx, $node, $seconds, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $room = new_room();
    ok_within($nginx, $seconds, $name, $room);
    return ok has($node, $room), '... and it is there';
}

# By hand, as a person does it: the new one first, so that none is read-only alone.
sub switch ($set, $from, $to) {
    $set->promote($to);
    $set->follow($from, $to);
    return;
}

scenario 'the master among several' => sub {
    my $set = servers(replicas => 2);
    my ($master, @replicas) = $set->nodes;

    for my $order ([ $master, @replicas ], [ $replicas[0], $master, $replicas[1] ], [ @replicas, $master ]) {
        my $nginx = endpoint(urls(@$order), '', workers => 2);
        my $place = (grep { $order->[$_] == $master } 0 .. 2)[0] + 1;
        goes_to($nginx, $master, 2, "the master is listed as number $place");
        is post($nginx, an_event()), 'ok', '... and on' for 1 .. 10;
        $nginx->log_unlike(qr/\[crit\]/, '... nothing is wrong with that');
    }
};

scenario 'unix sockets' => sub {
    my $set = servers();
    my ($master, $replica) = $set->nodes;
    my $nginx = endpoint("unix:@{[ $replica->socket ]} unix:@{[ $master->socket ]}", '', workers => 1);
    goes_to($nginx, $master, 2, 'of two servers');
    switch($set, $master, $replica);
    goes_to($nginx, $replica, 1, '... of which the other one is promoted');
};

scenario 'a demoted master' => sub {
    my $set = servers();
    my ($one, $two) = $set->nodes;
    my $nginx = endpoint(urls($one, $two), '', workers => 1);
    goes_to($nginx, $one, 2, 'before');

    # Its connection stays open and answers READONLY: no event gets a 503
    # because of that.
    switch($set, $one, $two);
    my $room = new_room();
    is post($nginx, event('call_started', room => $room)), 'ok', 'the first event after the switch';
    ok has($two, $room), '... is at the new one';
    ok wait_for(sub { !connections($one) }, 5), '... and nothing is connected to the old one';

    switch($set, $two, $one);
    is post($nginx, an_event()), 'ok', 'and back';
    $set->coordinated_failover($two);
    goes_to($nginx, $two, 1, 'FAILOVER');
    cmp_ok scalar($nginx->log_lines(qr/\[(?:notice|warn|error|crit)\].*vaani: .*master/)), '>=', 3, 'the log tells of each';
    $nginx->log_unlike(qr/\[crit\]/, '... and nothing was wrong');
};

scenario 'the master is killed' => sub {
    my $set = servers();
    my ($one, $two) = $set->nodes;
    my $nginx = endpoint(urls($one, $two), '', workers => 1);
    goes_to($nginx, $one, 2, 'before');
    $set->catch_up($two);

    $set->kill9($one);
    is post($nginx, an_event()), '503', 'only a replica is left';
    my $from = now();
    is post($nginx, an_event()), '503', '... which is known at once' for 1 .. 20;
    cmp_ok now() - $from, '<', 3, '... at once';
    $set->promote($two);
    goes_to($nginx, $two, 1, 'until it is promoted');

    # It comes back as what it was.
    $set->start_again($one, fresh => 1);
    is post($nginx, an_event()), 'ok', 'the old one is there again, as a master' for 1 .. 10;
    my $room = new_room();
    is post($nginx, event('call_started', room => $room)), 'ok', '... and nobody goes there';
    ok has($two, $room), '... but to the new one';
    $set->follow($one, $two);
    is post($nginx, an_event()), 'ok', 'on';
};

scenario 'the master hangs' => sub {
    my $set = servers();
    my ($one, $two) = $set->nodes;
    my $nginx = endpoint(urls($one, $two), '', workers => 1);
    goes_to($nginx, $one, 2, 'before');
    $set->stop($one);
    post($nginx, an_event());
    $set->promote($two);
    goes_to($nginx, $two, 2, 'another one is promoted');
    $set->cont($one);
    is post($nginx, an_event()), 'ok', 'on';

    # At the start, too, one that hangs is no reason to wait for long.
    $set->stop($one);
    $nginx = endpoint(urls($one, $two), '', workers => 1);
    goes_to($nginx, $two, 2, 'the first in the list hangs');
    $set->cont($one);
};

scenario 'two masters' => sub {
    my $set = servers(replicas => 0);
    my ($one) = $set->nodes;
    my $other = servers(replicas => 0);
    my ($two) = $other->nodes;

    my $nginx = endpoint(urls($one, $two), '', workers => 1);
    goes_to($nginx, $one, 2, 'the first in the list is taken');
    ok defined $nginx->wait_log(qr/\[crit\].*vaani: .*master/, 15), '... and the log says so';
    my $crit = () = $nginx->log_lines(qr/\[crit\]/);
    is post($nginx, an_event()), 'ok', 'on' for 1 .. 50;
    cmp_ok scalar($nginx->log_lines(qr/\[crit\]/)), '<=', $crit + 1, '... without filling the log';

    # Another nginx has it in another order.
    my $second = endpoint(urls($two, $one), '', workers => 1);
    goes_to($second, $two, 2, 'the first in another list');

    # With the one that it has, while that lives; then with the other.
    $set->kill9($one);
    goes_to($nginx, $two, 2, 'one of them ends');
    $set->start_again($one);
    is post($nginx, an_event()), 'ok', '... and comes back' for 1 .. 10;
    my $room = new_room();
    is post($nginx, event('call_started', room => $room)), 'ok', 'an event';
    ok has($two, $room), '... stays with the one that the worker has';
};

scenario 'ROLE is not allowed' => sub {
    for my $allowed ([qw(+info)], [qw(+info +role)]) {
        my $set = servers(acl => [ @{ +RETAIN }, '-role', @$allowed ]);
        my ($one, $two) = $set->nodes;
        my $nginx = endpoint(urls($two, $one), '', workers => 1);
        goes_to($nginx, $one, 2, "with @$allowed");
        switch($set, $one, $two);
        goes_to($nginx, $two, 1, '... also after a switch');
    }

    # Without both it is unknown which server is the master.
    my $set = servers(acl => [ @{ +RETAIN }, '-role' ]);
    my ($one, $two) = $set->nodes;
    my $nginx = endpoint(urls($two, $one), '', workers => 1);
    post($nginx, an_event());
    ok defined $nginx->wait_log(qr/\[(?:warn|error|crit)\].*vaani: .*(?:ROLE|INFO|role)/, 5), 'neither: the log explains it';
};

scenario 'none is the master' => sub {
    my $set = servers(replicas => 2);
    my ($one, $two, $three) = $set->nodes;
    my $nginx = endpoint(urls($two, $three), '', workers => 1);
    is post($nginx, an_event()), '503', 'two replicas';
    my $from = now();
    is post($nginx, an_event()), '503', '... known at once' for 1 .. 50;
    cmp_ok now() - $from, '<', 3, '... at once';
    my $calls = 0;
    for my $node ($two, $three) {
        $calls += $1 if $node->admin->cmd(INFO => 'commandstats') =~ /^cmdstat_role:calls=(\d+)/m;
    }
    cmp_ok $calls, '<', 200, "... without a storm of ROLE ($calls)";
    $set->promote($three);
    goes_to($nginx, $three, 5, 'until one is promoted');
};

scenario 'servers that lie' => sub {
    my $set = servers();
    my ($one, $two) = $set->nodes;
    my %roles = (
        'a number'         => ":1\r\n",
        'nothing'          => "*-1\r\n",
        'an empty list'    => "*0\r\n",
        'a list of lists'  => "*1\r\n*1\r\n*1\r\n\$6\r\nmaster\r\n",
        'another word'     => "*1\r\n\$5\r\nqueen\r\n",
        'a Sentinel'       => "*2\r\n\$8\r\nsentinel\r\n*0\r\n",
        'a message'        => "*3\r\n\$7\r\nmessage\r\n\$1\r\nx\r\n\$1\r\ny\r\n",
        'an error'         => "-ERR unknown command 'ROLE'\r\n",
        'half a reply'     => "*3\r\n\$6\r\nmas",
        'something else'   => "HTTP/1.1 400 Bad Request\r\n\r\n",
        'a huge reply'     => "*1000000000\r\n",
    );
    for my $what (sort keys %roles) {
        my $fake = Vaani::Test::FakeRedis->start(tcp => 1, on_connect => sub ($sock, @) {
            while (my $command = read_command($sock)) {
                my $name = uc $command->[0];
                send_bytes($sock, $name eq 'ROLE' ? $roles{$what}
                    : $name eq 'INFO' ? "-NOPERM no\r\n"
                    : $name eq 'SCRIPT' ? '$40' . "\r\n" . 'a' x 40 . "\r\n" : "+OK\r\n") or return;
            }
        });
        my $nginx = endpoint($fake->url . ' ' . urls($one), '', workers => 1);
        goes_to($nginx, $one, 3, "the first says $what");
    }
};

# ROLE of a master with so many replicas, then replies to EVALSHA.
sub fake_master ($replicas, $evalsha) {
    my $role = "*3\r\n\$6\r\nmaster\r\n:1\r\n*$replicas\r\n" . "*3\r\n\$8\r\n10.0.0.1\r\n\$4\r\n6379\r\n\$1\r\n7\r\n" x $replicas;
    return Vaani::Test::FakeRedis->start(tcp => 1, on_connect => sub ($sock, $fake, @) {
        $fake->report('connected');
        while (my $command = read_command($sock)) {
            my $name = uc $command->[0];
            send_bytes($sock, $name eq 'ROLE' ? $role
                : $name eq 'EVALSHA' ? $evalsha
                : $name eq 'SCRIPT' ? '$40' . "\r\n" . 'a' x 40 . "\r\n" : "+OK\r\n") or return;
        }
    });
}

scenario 'many replicas' => sub {
    my $nginx = endpoint(fake_master(100, ":258\r\n")->url . ' redis://127.0.0.1:' . free_port(), '', workers => 1);
    ok_within($nginx, 3, 'a master with 100 replicas');
};

scenario 'a master by its word only' => sub {
    my $fake = fake_master(0, "-READONLY You can't write against a read only replica.\r\n");
    my $nginx = endpoint($fake->url . ' redis://127.0.0.1:' . free_port(), '', workers => 1);
    is post($nginx, an_event()), '503', 'it says master, and READONLY';
    my $from = now();
    my $mark = $nginx->log_mark;
    1 while $fake->next_report(0);
    post($nginx, an_event()) while now() - $from < 3;
    my $connections = 0;
    $connections++ while $fake->next_report(0);
    cmp_ok $connections, '<=', 45, "it is connected to $connections times in 3 s";
    my $lines = () = $nginx->log_lines(qr/\[(?:notice|warn|error|crit)\]/, $mark);
    cmp_ok $lines, '<=', 10, "... with $lines lines";
};

# --- under load

sub nginx_of (@nodes) { return nginx_with(urls(@nodes), workers => 2) }

scenario 'under load: switches by hand' => sub {
    my $set = servers();
    my ($one, $two) = $set->nodes;
    my $nginx = nginx_of($one, $two);
    my $load = load_on($nginx);

    for my $round (1 .. scaled(2, 10)) {
        arrives($load, ok => 200);
        $set->catch_up($two);
        # Writes that the old master accepts after this will be lost.
        $set->promote($two);
        $set->follow($one, $two);
        flows_again($load, now(), 1, "switch $round: nothing is queued any more after 1 s");
        ($one, $two) = ($two, $one);
    }
    topology_account('list: promoted by hand', $load, $set, $nginx);
};

scenario 'under load: the master is killed, and the next' => sub {
    my $set = servers();
    my ($one, $two) = $set->nodes;
    my $nginx = nginx_of($one, $two);
    my $load = load_on($nginx);

    for my $round (1 .. scaled(2, 10)) {
        arrives($load, ok => 200);
        $set->catch_up($two);
        # The second time it lags.
        if ($round % 2 == 0) {
            $set->hold($one);
            arrives($load, ok => 200);
        }
        $set->kill9($one);
        arrives($load, queued => 50);
        $set->promote($two);
        flows_again($load, now(), 1, "failover $round: nothing is queued any more after 1 s");
        $set->start_again($one, fresh => 1);
        $set->follow($one, $two);
        ($one, $two) = ($two, $one);
    }
    topology_account('list: kill -9 of the master', $load, $set, $nginx);
};

# --- the configuration

scenario 'configurations' => sub {
    for (
        [ 'redis://127.0.0.1:1 redis://127.0.0.1:1', 'the same server twice' ],
        [ 'redis://127.0.0.1:1 nonsense', 'a parameter that is none' ],
        [ 'redis://127.0.0.1:1 redis://127.0.0.1:2/1', 'databases that differ' ],
    ) {
        my ($urls, $name) = @$_;
        my ($ok, $output) = Vaani::Test::Nginx->check(
            http => "server { listen unix:%%SOCK%%; location /hook { vaani_webhook; vaani_redis $urls; } }");
        note "$name: " . ($ok ? 'taken' : 'refused');
        next if $ok;
        like $output, qr/nginx\.conf:\d+/, "$name: says where";
    }
    my ($ok, $output) = Vaani::Test::Nginx->check(http => 'server { listen unix:%%SOCK%%; location /hook { vaani_webhook;
        vaani_redis valkey://127.0.0.1:1 redis://127.0.0.1:2 unix:/tmp/x; } }');
    is $ok, 1, 'several URLs' or diag $output;
};

table_at_end();
done_testing;
