# The worst-case cost of a body does not depend on its content: 8 MiB of small
# members are compared with one string of that length.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Events;
use Vaani::Test::Wrapper;

plan skip_all => 'a wrapper takes its own time and memory' if $ENV{NGINX_WRAPPER} || $ENV{VAANI_VALGRIND};
plan skip_all => 'a sanitizer does, too' if !may_preload();

use constant SIZE => 8 * 1024 * 1024;

# Requests of each kind, which take turns, so that both see the same machine. Of
# its requests the fastest one counts: what else the machine does only adds to it.
use constant ROUNDS => 8;

# The bound is twice the time; a quarter more is for caches that others use.
use constant { FACTOR => 2, NOISE => 1.25 };

my $redis = Vaani::Test::Redis->start;

my $conf = <<"CONF";
    client_max_body_size 9m;
    client_body_buffer_size 9m;
    vaani_redis @{[ $redis->url ]};
    vaani_redis_timeout 30s;
    vaani_channel off;
    access_log off;

    server {
        listen unix:%%SOCK%%;
        location = /lenient { vaani_webhook; }
        location = /strict  { vaani_webhook; vaani_validation strict; }
    }
CONF

# A body of exactly that size from a head, parts that are repeated, and a tail.
sub body_of ($head, $part, $tail, $number = 0) {
    my $left = SIZE - length($head) - length($tail) - 2;
    my ($body, $n) = ('', 0);

    while (1) {
        my $next = ($n ? ',' : '') . ($number ? sprintf $part, $n : $part);
        last if length($body) + length($next) > $left;
        $body .= $next;
        $n++;
    }
    return $head . $body . ' ' x (SIZE - length($head) - length($body) - length $tail) . $tail;
}

my $event = '{"event":"call_ringing","room_name":"r"';

# name => [ status, body ]: refused bodies have more members than are read; at
# levels that are not read there is no such limit.
my %BODIES = (
    'at the top'                 => [ 400, body_of("$event,", '"%x":0', '}', 1) ],
    'in data'                    => [ 400, body_of("$event,\"data\":{", '"%x":0', '}}', 1) ],
    'in an object in the body'   => [ 200, body_of("$event,\"x\":{", '"%x":0', '}}', 1) ],
    'in an object in data'       => [ 200, body_of("$event,\"data\":{\"x\":{", '"%x":0', '}}}', 1) ],
    'in objects in an array'     => [ 200, body_of("$event,\"x\":[", '{"a":0,"b":0}', ']}') ],
    'in objects in an object'    => [ 200, body_of("$event,\"x\":{\"y\":[", '{"a":{"b":{}}}', ']}}') ],
    'numbers in an array'        => [ 200, body_of("$event,\"x\":[", '0', ']}') ],
    'empty arrays in an array'   => [ 200, body_of("$event,\"x\":[", '[]', ']}') ],
    'elements of "events"'       => [ 422, body_of("$event,\"events\":[", '{}', ']}') ],
    'turns of a transcript'      => [ 200, body_of('{"event":"call_postprocessing","room_name":"t","transcript":[', '{"a":0}', ']}') ],
);
my $string = "$event,\"x\":\"" . 'x' x (SIZE - length($event) - 8) . '"}';

is length $_->[1], SIZE, '8 MiB' for values %BODIES;
cmp_ok abs(SIZE - length $string), '<', 10, '... and as much in one string';

# Of a process: time on a CPU in ms, peak of the resident memory in KB.
sub spent ($pid) { return (split ' ', slurp("/proc/$pid/schedstat"))[0] / 1e6 }

sub peak ($pid) { return slurp("/proc/$pid/status") =~ /^VmHWM:\s+(\d+) kB/m ? $1 : die "no VmHWM\n" }

sub send_it ($http, $uri, $body, $status) {
    my $response = $http->post($uri, $body);
    return $response->status == $status ? 1 : do { diag substr $response->body, 0, 300; 0 };
}

for my $name (sort keys %BODIES) {
    my ($status, $body) = @{ $BODIES{$name} };

    # Strict gives up at the first member too many; lenient tries repairs first.
    for my $uri ('/lenient', $status == 400 ? '/strict' : ()) {
        subtest "$uri: $name" => sub {
            my (@peaks, @ms);

            # Each has a worker of its own for the memory, which only grows.
            for my $kind (0, 1) {
                my $nginx = Vaani::Test::Nginx->start(http => $conf);
                my ($pid) = $nginx->worker_pids;
                my $http = $nginx->http;
                send_it($http, $uri, $kind ? $body : $string, $kind ? $status : 200) or fail 'another answer' for 1, 2;
                $peaks[$kind] = peak($pid);

                for my $n ($kind ? 1 .. 2 * ROUNDS : ()) {
                    my $before = spent($pid);
                    send_it($http, $uri, $n % 2 ? $body : $string, $n % 2 ? $status : 200) or fail 'another answer';
                    push @{ $ms[ $n % 2 ] }, spent($pid) - $before;
                }
                $nginx->stop;
            }

            my ($one, $other) = map { (sort { $a <=> $b } @$_)[0] } @ms;
            my $factor = NOISE * FACTOR;
            my $measured = sprintf '%.1f ms against %.1f ms, peaks of %d KB and %d KB', $other, $one, @peaks[ 1, 0 ];

            cmp_ok $other, '<=', $factor * $one, "the time: $measured";
            # The memory of 4096 members, and the allocator's rounding.
            cmp_ok $peaks[1], '<=', $peaks[0] + 1024, '... and no more memory';
        };
    }
}

done_testing;
