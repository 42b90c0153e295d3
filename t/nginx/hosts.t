# Several nginx, on several hosts, with one Redis. Values that must be unique
# among them are random: containers have equal pids, and start at the same
# time.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use File::Find qw(find);
use JSON::PP qw(decode_json);
use Vaani::Test::Dir qw(subdir);
use Vaani::Test::Events;
use Vaani::Test::HTTP;
use Vaani::Test::Nginx::Config qw(nginx_argv write_config);
use Vaani::Test::Process;

use constant SRC => ROOT . '/src';
use constant ROUNDS => 6;
use constant EVENTS => 40;

# --- equal pids

# Begins to start an nginx with one worker in a PID namespace of its own: its
# master is process 1 there. Not with Vaani::Test::Nginx, which would send
# signals to that number here.
sub host ($redis) {
    my $dir = subdir('host');
    my $http = <<"CONF";
        server {
            listen unix:$dir/http.sock;
            keepalive_requests 100000;
            vaani_redis @{[ $redis->url ]};
            vaani_stream events;
            location = /hook { vaani_webhook; }
        }
CONF
    write_config($dir, { http => $http }, {});
    my $process = Vaani::Test::Process->spawn(
        argv   => [ qw(unshare --pid --fork --kill-child), nginx_argv($dir) ],
        dir    => $dir,
        stdout => "$dir/stderr.log",
        stderr => "$dir/stderr.log",
    );
    return { dir => $dir, process => $process, http => Vaani::Test::HTTP->new(sock => "$dir/http.sock") };
}

subtest 'equal pids, started together' => sub {
    my ($exit) = run([qw(unshare --pid --fork --kill-child true)]);
    plan skip_all => 'needs the right to make a PID namespace' if $exit;
    plan skip_all => 'runs under something else' if $ENV{NGINX_WRAPPER};

    my $redis = Vaani::Test::Redis->start(acl => [qw(~events +xadd)]);
    my (%answers, %pids);
    my $sent = 0;

    for my $round (1 .. ROUNDS) {
        my @hosts = map { host($redis) } 1 .. 2;

        for my $host (@hosts) {
            ok wait_for(sub { -s "$host->{dir}/nginx.pid" && -S "$host->{dir}/http.sock" && eval { $host->{http}->connect; 1 } }, 30),
                "round $round: it is up"
                or return;
            $pids{ slurp("$host->{dir}/nginx.pid") =~ s/\s+\z//r }++;
        }

        # A call whose events meet both, by turns; no event has an id.
        for my $n (1 .. EVENTS) {
            my $room = "room-$round-$n";
            my @bodies = map { event($_, room => $room) } qw(call_ringing call_ended);
            push @bodies, map { qq({"event":"brand_new","room_name":"$room","host":$_}) } 1, 2;
            for my $i (0 .. $#bodies) {
                my $response = $hosts[ $i % 2 ]{http}->post('/hook', $bodies[$i]);
                $answers{ $response->status . ' ' . ($response->body =~ /"status":"(\w+)"/ ? $1 : '?') }++;
                $sent++;
            }
        }
        $_->{process}->kill_group for @hosts;
    }

    is_deeply \%pids, { 1 => 2 * ROUNDS }, 'the pids are the same';
    is_deeply \%answers, { '200 ok' => $sent }, 'no event is taken for another one';

    my %ids;
    my $entries = $redis->client->cmd(qw(XRANGE events - +));
    $ids{ decode_json($_->[1][1])->{id} }++ for @$entries;
    is scalar(@$entries), $sent, 'each is published';
    is scalar(keys %ids), $sent, 'the ids of the messages differ';
    is scalar(grep { !/^[0-9a-f]{32}$/ } keys %ids), 0, '... and look like random ones';
};

# --- the source

# Where numbers that are not those of the kernel, or pids, are used, and why
# nothing has to be unique there.
my %ALLOWED = (
    'redis/ngx_vaani_redis_lost.c ngx_random' => 'the time until the next attempt to connect',
    'redis/ngx_vaani_redis_list.c ngx_random' => 'the time until servers are asked for their roles',
    'redis/ngx_vaani_redis_sentinel.c ngx_random' => 'the time until a Sentinel is asked',
    'redis/ngx_vaani_redis_cluster_table.c ngx_random' => 'the time until a cluster is asked for its slots',
    'redis/ngx_vaani_redis_show.c ngx_pid' => 'the owner of a table in shared memory',
    'redis/ngx_vaani_redis_stats.c ngx_pid' => 'the owner of numbers in shared memory',
    'http/status/ngx_http_vaani_stats.c ngx_pid' => 'the owner of numbers in shared memory',
    'tool/spool_post.c RAND_bytes' => 'a generator that the kernel seeds',
);

subtest 'what has to be unique is random' => sub {
    my %found;
    find({ no_chdir => 1, wanted => sub {
        return if !/\.[ch]$/;
        my $text = slurp($_) =~ s{/\*.*?\*/}{}gsr;
        my $file = substr $_, length(SRC) + 1;
        $found{"$file $1"}++
            while $text =~ /\b(ngx_pid\b|(?:ngx_random|s?random|s?rand|rand_r|[dlm]rand48|RAND_bytes|(?:ngx_)?getpid)(?=\s*\())/g;
    } }, SRC);

    is_deeply [ sort keys %found ], [ sort keys %ALLOWED ], 'nothing else is made of a pid or a clock';

    my $source = slurp(SRC . '/http/ngx_http_vaani_random.c') =~ s{/\*.*?\*/}{}gsr;
    like $source, qr/\bgetrandom\(dst/, 'random bytes are the kernel\'s';
    unlike $source, qr/\b(?:time|ngx_time|clock_gettime|gettimeofday|ngx_current_msec)\b/, '... and no clock\'s';
};

done_testing;
