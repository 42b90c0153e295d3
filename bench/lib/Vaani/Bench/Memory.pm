package Vaani::Bench::Memory;

# The memory of the module's worker: over many events, and per connection; and
# the memory of a call in Redis.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use List::Util qw(sum);
use Vaani::Bench::Measure qw(client rss);
use Vaani::Bench::Peers ();
use Vaani::Test::Events qw(call_path event);
use Vaani::Test::HTTP qw(format_request);
use Vaani::Test::Socket qw(connect_socket read_some wait_readable write_all);

our @EXPORT_OK = qw(growth of_calls of_connections);

use constant PARTS => 10;
use constant CONNECTIONS => 2000;
use constant CALLS => 20;

# RSS after a tenth of so many events and after all of them. Redis forgets each
# tenth: its memory is not looked at.
sub growth ($redis, $events, @bodies) {
    my $server = Vaani::Bench::Peers->start('module', redis => $redis->socket);
    my @rss;

    for (1 .. PARTS) {
        $redis->client->cmd('FLUSHALL');
        client('load', '-c64', '-n' . int($events / PARTS), $server->port, Vaani::Bench::Peers::PATH, @bodies);
        push @rss, rss($server->pids);
    }
    return ('after a tenth of them' => $rss[0], 'after all events' => $rss[-1]);
}

# The memory of one more idle connection after an answer, and of an event on it
# whose reply from Redis is awaited.
sub of_connections ($redis) {
    my $server = Vaani::Bench::Peers->start('module', redis => $redis->socket, server =>
        'vaani_redis_timeout 60s; location = /vaani/status { vaani_status; }');
    my ($pid) = $server->pids;
    my $status = Vaani::Test::HTTP->new(port => $server->port);

    my $post = sub ($fh, $n) {
        write_all($fh, join '', format_request(uri => Vaani::Bench::Peers::PATH,
            headers => [ 'Content-Type' => 'application/json' ], body => event('call_started', room => "room_$n")));
    };
    my $answered = sub ($fh) {
        my $answer = '';
        until ($answer =~ /"ok"}\n?\z/) {
            wait_readable($fh, 30) or die "no answer\n";
            read_some($fh, \$answer) // next or die "no answer: $answer\n";
        }
    };

    $redis->client->cmd('FLUSHALL');
    $status->get('/vaani/status')->status == 200 or die "no status\n";
    my $n = 0;
    my $connect = sub {
        my $fh = connect_socket($server->port);
        $post->($fh, $n++);
        $answered->($fh);
        return $fh;
    };

    my $first = $connect->();
    my $before = rss($pid);
    my @idle = map { $connect->() } 1 .. CONNECTIONS;
    my $idle = rss($pid) - $before;

    $redis->suspend;
    $post->($_, $n++) for @idle;
    # each answer is the same worker's, which in between reads events
    until ($status->get('/vaani/status')->body =~ /"in_flight":@{[ CONNECTIONS ]}\b/) { }
    my $in_flight = rss($pid) - $before - $idle;
    $redis->resume;
    $answered->($_) for @idle;

    return ('an idle connection' => $idle / CONNECTIONS, 'an event under way on it' => $in_flight / CONNECTIONS);
}

# The hash of an answered call without a transfer, KiB, before call_postprocessing
# and after it, with the short transcript of Vaani's documentation.
sub of_calls ($redis) {
    my $server = Vaani::Bench::Peers->start('module', redis => $redis->socket);
    my $http = Vaani::Test::HTTP->new(port => $server->port);
    my $client = $redis->client;
    my (@before, @after);

    $client->cmd('FLUSHALL');
    for my $n (1 .. CALLS) {
        my $room = sprintf 'room_%012d', $n;
        my @bodies = call_path('outbound-answered/none', $room);

        for my $i (0 .. $#bodies) {
            my $response = $http->post(Vaani::Bench::Peers::PATH, $bodies[$i]);
            $response->body eq qq({"status":"ok"}\n) or die "not accepted: $bodies[$i]\n";
            my $usage = $client->cmd('MEMORY', 'USAGE', "vaani:call:$room", 'SAMPLES', 0);
            push @before, $usage if $i == $#bodies - 1;
            push @after, $usage if $i == $#bodies;
        }
    }
    $server->stop;

    return (
        'a call in Redis before `call_postprocessing`' => sum(@before) / @before / 1024,
        'a call in Redis after it' => sum(@after) / @after / 1024,
    );
}

1;
