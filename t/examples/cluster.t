# The examples for partitions, with a cluster: as the users of docs/redis.md, while
# slots move, masters are killed, and they themselves are.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP ();
use Time::HiRes ();
use Vaani::Test::ACL qw(documented index_rights);
use Vaani::Test::Cluster qw(keyslot);
use Vaani::Test::Events;
use Vaani::Test::Example qw(command python_bin require_packages);
use Vaani::Test::Topology;

plan skip_all => 'sharded channels need Redis 7.0' if Vaani::Test::Redis::version() < 7;
require_packages('redis-py', 'ioredis');

my $json = JSON::PP->new->utf8;
my $cluster = Vaani::Test::Cluster->start(acl => [ @{ partitioned_acl() }, '+spublish', index_rights('vaani:{*}') ]);
for my $node ($cluster->nodes) {
    $cluster->ask($node, ACL => 'SETUSER', $_, @{ (documented($_, 'redis.md'))[0] }) for qw(app crm);
}

my $nginx = nginx_with(join(' ', $cluster->urls, 'cluster'),
    partition_options(more => "
        vaani_payload max=80;
        vaani_channel 'vaani:{\$vaani_partition}:events' sharded;"));
my $http = $nginx->http;

sub deliver (@bodies) {
    for my $body (@bodies) {
        my $response = $http->post('/hook', $body);
        die "not accepted: $body: " . $response->body . "\n" if $response->status != 200;
        Time::HiRes::sleep(0.002);    # which came first is to be known
    }
    return;
}

my $database = tmpdir() . '/partitions.sqlite3';

# A program that knows one node of the cluster.
sub example ($file, $user, %opt) {
    my $port = ($cluster->masters)[1]->port;
    my ($program, $path, @arguments) = command($file);
    @arguments = delete $opt{name} // @arguments;
    return Vaani::Test::Example->start(
        [ $program, $path, @arguments ],
        REDIS_URL => "redis://$user:secret\@127.0.0.1:$port", PARTITIONS => PARTITIONS,
        DATABASE => $database, CLAIM => 1, LOOK => 2, %opt);
}

sub query ($sql) {
    my ($exit, $out, $error) = run([ python_bin(), '-c', <<'PYTHON', $database, $sql ]);
import json, sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=10)
print(json.dumps(db.execute(sys.argv[2]).fetchall()))
PYTHON
    die $error if $exit;
    return $json->decode($out);
}

my $consumer;

# These rooms have these seqs, each.
sub recorded_ok ($seqs, $name, @rooms) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my %want = map { ('vaani:{' . partition($_) . "}:call:$_" => $seqs) } @rooms;
    my $keys = join ', ', map { "'$_'" } keys %want;
    my $got;
    wait_for(sub {
        my %seqs;
        push @{ $seqs{ $_->[0] } }, $_->[1] for @{ query("SELECT key, seq FROM transitions WHERE key IN ($keys) ORDER BY key, seq") };
        $got = { map { $_ => join ' ', @{ $seqs{$_} } } keys %seqs };
        return keys %$got == @rooms && !grep { $_ ne $seqs } values %$got;
    }, 30);
    return is_deeply($got, \%want, $name) || diag $consumer->err;
}

sub pending () {
    my $sum = 0;
    $sum += $cluster->client->cmd(XPENDING => "vaani:{$_}:stream", 'crm')->[0] for 0 .. PARTITIONS - 1;
    return $sum;
}

$consumer = example('subscribers/stream/partitions.py', 'crm');
# It looks at calls at its start only; the next one looks again, so it may read what it hears of later.
my @before = map { "before-$_" } 1 .. 24;
deliver(map { (event('call_started', room => $_), event('call_ringing', room => $_)) } @before);
deliver(event('call_failed', room => 'failed-before'));
$cluster->client->cmd(ZADD => 'vaani:{' . partition('gone') . '}:active', 1, 'gone');
my $subscriber = example('subscribers/node/sharded.js', 'app', LOOK => 3600);
$consumer->says(qr/^ready$/m, 'the consumer is ready');
$subscriber->says(qr/^following 16 channels$/m, 'the subscriber follows');

subtest 'the indexes' => sub {
    my %masters = map { $cluster->owner_of('vaani:{' . partition($_) . '}:active')->port => 1 } @before;
    is keys %masters, 3, 'rooms of all masters';
    $subscriber->says_of($_, "ringing seq 2: call_ringing, read again\n", "$_: was going on") for @before;
    is $subscriber->lines($_), '', "... and $_ was not" for 'failed-before', 'gone';

    deliver(event('user_picked_up_at', room => $before[0]));
    $subscriber->says(qr/^$before[0] active seq 3: user_picked_up_at$/m, 'the next message is the next one');
    unlike $subscriber->err, qr/no index|not understood/, 'no complaints';
};

my @path = call_path('outbound-answered/none', 'one');
my @events = map { /"event":"(\w+)"/ } @path;
my %status = (call_started => 'dialing', call_ringing => 'ringing', user_picked_up_at => 'active');

# The subscriber's output for the first so many events.
sub transitions ($count = @events) {
    return join '', map { ($status{ $events[$_] } // 'ended') . " seq @{[ $_ + 1 ]}: $events[$_]\n" } 0 .. $count - 1;
}

subtest 'calls' => sub {
    my @rooms = map { "call-$_" } 1 .. 24;
    my %masters = map { $cluster->owner_of('vaani:{' . partition($_) . '}:stream')->port => 1 } @rooms;
    is keys %masters, 3, 'rooms of all masters';

    deliver(call_path('outbound-answered/none', $_)) for @rooms;
    recorded_ok(join(' ', 1 .. @events), 'all are recorded', @rooms);
    $subscriber->says_of($_, transitions(), "$_: heard of") for @rooms;
    ok wait_for(sub { pending() == 0 }), 'all is acknowledged';

    my $stream = 'vaani:{' . partition($rooms[0]) . '}:stream';
    my @entries = map { $json->decode($_->[1][1]) } @{ $cluster->client->cmd(XRANGE => $stream, '-', '+') };
    is_deeply [ map { defined $_->{payload} ? 1 : 0 } grep { $_->{room_name} eq $rooms[0] } @entries ], [ 0, 1, 1, 0, 0 ],
        'most messages were without their payload';

    # It is published, and belongs to no call.
    deliver(event('brand_new', room => ABSENT), event('call_put_on_hold', room => 'unknown'));
    ok wait_for(sub { @{ query("SELECT 1 FROM transitions WHERE event IN ('brand_new', 'call_put_on_hold')") } == 2 }), 'unknown events';
    is $subscriber->lines('unknown'), '', '... are no transitions';
    $subscriber->stop;
};

$subscriber = example('subscribers/node/sharded.js', 'app');
$subscriber->says(qr/^following 16 channels$/m, 'another subscriber, which looks');

# It heard of this event of the room, or has read it.
sub heard_of ($room, $line, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok(wait_for(sub { $subscriber->lines($room) =~ /^$line:/m }, 20), $name)
        || diag $subscriber->lines($room), $subscriber->err;
}

subtest 'a slot moves' => sub {
    my $room = 'moved';
    my @bodies = call_path('outbound-answered/none', $room);
    my $stream = 'vaani:{' . partition($room) . '}:stream';
    deliver(@bodies[ 0, 1 ]);
    recorded_ok('1 2', 'before', $room);
    heard_of($room, 'ringing seq 2', '... heard of');

    # The keys have gone, and the slot has not yet: who reads them is sent on by ASK.
    my ($slot, $from) = (keyslot($stream), $cluster->owner_of($stream));
    my ($to) = grep { $_ != $from } $cluster->masters;
    $cluster->begin_move($slot, $from, $to);
    $cluster->move_keys($slot, $from, $to);
    deliver($bodies[2]);
    heard_of($room, 'active seq 3', '... in the middle of it');

    $cluster->end_move($slot, $from, $to);
    $cluster->settle;
    deliver(@bodies[ 3 .. $#bodies ]);
    recorded_ok(join(' ', 1 .. @events), 'after', $room);
    heard_of($room, 'ended seq ' . @events, '... heard of, or read again');

    # Events published until then are missed, as by any subscriber.
    ok wait_for(sub { $cluster->ask($to, PUBSUB => 'SHARDNUMSUB', $stream =~ s/stream/events/r)->[1] }, 20),
        'it subscribes at the new owner';
    my $next = room_in_partition(partition($room), 'again');
    deliver(call_path('outbound-answered/none', $next));
    heard_of($next, 'ended seq ' . @events, 'the next call is heard of as before');
};

subtest 'kill -9 of a master' => sub {
    my ($old) = $cluster->masters;
    my @mine = grep { $cluster->owner_of("vaani:{$_}:stream") == $old } 0 .. PARTITIONS - 1;
    my @rooms = map { room_in_partition($_, 'killed') } @mine[ 0, 1 ];
    deliver(map { event('call_started', room => $_) } @rooms);
    recorded_ok('1', 'before', @rooms);
    $cluster->catch_up($_) for $cluster->replicas_of($old);

    $cluster->kill9($old);
    deliver(map { event('call_ringing', room => $_) } @rooms);    # wait on disk
    $cluster->await_promotion($old);
    $cluster->start_again($old);
    $cluster->settle;
    recorded_ok('1 2', 'after', @rooms);
    heard_of($_, 'ringing seq 2', "$_: heard of, or read again") for @rooms;
    ok $_->alive, 'it goes on' or diag $_->err for $consumer, $subscriber;
};

subtest 'kill -9 of a consumer' => sub {
    # Events that it has taken and not finished.
    my ($taken, $bad) = map { "vaani:{$_}:stream" } 3, 4;
    $consumer->kill;
    deliver(event('call_started', room => room_in_partition(3, 'taken')));
    my $owner = $cluster->owner_of($taken);
    is scalar @{ $cluster->ask($owner, qw(XREADGROUP GROUP crm dead STREAMS), $taken, '>') }, 1, 'a message is taken by one that is gone';

    # And one that is no message.
    $cluster->client->cmd(XADD => $bad, '*', message => '{no');
    my @consumers = map { example('subscribers/stream/partitions.py', 'crm', name => "worker-$_") } 2, 3;
    $_->says(qr/^ready$/m, 'another consumer') for @consumers;
    recorded_ok('1', '... takes over', room_in_partition(3, 'taken'));

    my $dead = sub () { return query('SELECT stream, message FROM dead_letters') };
    ok wait_for(sub { @{ $dead->() } && pending() == 0 }, 30), 'a message that fails is put aside';
    is_deeply $dead->(), [ [ $bad, '{"message": "{no"}' ] ], '... as it was';

    my @rooms = map { "shared-$_" } 1 .. 20;
    deliver(map { event('call_started', room => $_) } @rooms);
    recorded_ok('1', 'more, by either', @rooms);
    is $_->stop, 0, 'SIGTERM ends it' for @consumers;
    unlike $_->err, qr/Traceback/, '... no traceback' for @consumers;
};

is query('SELECT count(*) - count(DISTINCT id) FROM transitions')->[0][0], 0, 'nothing twice';
$subscriber->stop;

done_testing;
