# The image of the endpoint, as an engine would run it: without privileges, with
# a root file system that is read-only, and a spool that outlives the container.
# "make test-image" builds it.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Container;
use Vaani::Test::Endpoint qw(INDEX RETAIN);
use Vaani::Test::Events;
use Vaani::Test::Socket qw(wait_readable);

enter_network($0);

my $image = Vaani::Test::Container->image('vaani-endpoint');

sub endpoint () { return Vaani::Test::HTTP->new(port => 8080, timeout => 60) }

sub post ($event, $room) { return endpoint()->post('/vaani/webhook', event($event, room => $room)) }

my $redis = Vaani::Test::Redis->start(tcp => 1, acl => [ @{ +RETAIN }, @{ +INDEX } ]);
my %settings = (VAANI_REDIS => $redis->url);

sub status_of ($room) { return $redis->client->hgetall("vaani:call:$room")->{status} // 'none' }

# --- what the image says of itself

subtest 'the image' => sub {
    my $config = $image->config;
    is $config->{User}, '10001:10001', 'runs as a user without privileges';
    is $config->{StopSignal}, 'SIGQUIT', 'is stopped by the signal on which nginx finishes requests';
    is_deeply [ sort keys %{ $config->{Volumes} } ], ['/var/spool/vaani'], 'the spool is a volume';
    is_deeply [ sort keys %{ $config->{ExposedPorts} } ], [ '8080/tcp', '8081/tcp' ], 'its ports';
    is_deeply $config->{Healthcheck}{Test}, [ 'CMD', 'vaani-health' ], 'it has a health check';

    my ($grace) = slurp(ROOT . '/container/nginx.conf') =~ /^worker_shutdown_timeout (\d+)s;/m;
    my ($compose) = slurp(ROOT . '/compose.yaml') =~ /^ +stop_grace_period: (\d+)s/m;
    cmp_ok $compose, '>', $grace, 'compose.yaml waits longer for the end than nginx does';

    my ($exit, $out) = $image->run_by_buildah(qw(vaani-spool list /var/spool/vaani));
    is $exit, 0, 'vaani-spool runs, as buildah runs it' or diag $out;

    my $root = $image->root;
    my @sources = grep { -e "$root$_" } qw(/usr/src/vaani /usr/src/static /usr/bin/gcc /out /usr/sbin/policy-rc.d);
    is "@sources", '', 'nothing of the build is in it';
};

subtest 'the module is of the very nginx' => sub {
    my $check = $image->start(%settings, command => [qw(vaani-entrypoint nginx -t -e stderr)]);
    ok $check->process->wait(60), 'nginx -t ends';
    is $check->process->status, 0, '... and accepts it' or diag $check->log;
    unlike $check->log, qr/\[warn\]/, '... without a warning';
};

# --- a call

subtest 'a call, without privileges, on a read-only root' => sub {
    my $nginx = $image->start(%settings);
    $nginx->ready or return;

    my $pid = $nginx->pid;
    like slurp("/proc/$pid/status"), qr/^Uid:\s+10001\s+10001\s+10001\s+10001$/m, 'nginx has no other user';
    like slurp("/proc/$pid/status"), qr/^CapEff:\s+0+$/m, '... and no capability';
    like slurp("/proc/$pid/mountinfo"), qr{^(?:\S+ ){4}/ ro,}m, '... and cannot write its root';

    is post('call_ringing', 'room_1')->body, qq({"status":"ok"}\n), 'an event is taken';
    is status_of('room_1'), 'ringing', '... and is in Redis';
    ok wait_for(sub { $nginx->log =~ /"event":"call_ringing","room":"room_1"/ }), '... the log has it on the standard output';

    is(($image->beside('vaani-health'))[0], 0, 'the health check passes');
    ok $nginx->stop, 'it stops';
    is $nginx->process->status, 0, '... with 0';
    unlike $nginx->log, qr/\[(?:alert|crit|emerg)\]/, '... and had nothing to complain of';

    my ($exit, $out) = $image->beside('vaani-health');
    isnt $exit, 0, 'the health check of an nginx that is gone fails';
};

# --- the end of a container

subtest 'a stop waits for requests in progress' => sub {
    my $nginx = $image->start(%settings);
    $nginx->ready or return;

    my $body = event('call_ringing', room => 'room_slow');
    my $client = endpoint();
    $client->send_raw("POST /vaani/webhook HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        . 'Content-Length: ' . length($body) . "\r\nExpect: 100-continue\r\n\r\n");
    my $interim = '';
    while ($interim !~ /\r\n\r\n\z/ && wait_readable($client->handle, 60)) {
        sysread $client->handle, $interim, 1, length $interim or last;
    }
    like $interim, qr/^HTTP\/1\.1 100 /, 'a request is in progress';

    $nginx->process->signal('QUIT');
    ok wait_for(sub { !eval { Vaani::Test::HTTP->new(port => 8080, timeout => 5)->get('/'); 1 } }), 'new connections are refused';

    $client->send_raw($body);
    is $client->read_response->body, qq({"status":"ok"}\n), '... the request is answered nevertheless';
    ok $nginx->process->wait(30), '... and nginx ends';
    is status_of('room_slow'), 'ringing', '... and the event is in Redis';
};

for my $signal (qw(QUIT TERM KILL)) {
    subtest "SIG$signal loses nothing that was answered" => sub {
        my $spool = $image->spool;
        my $nginx = $image->start(%settings, spool => $spool);
        $nginx->ready or return;

        my $sent = 0;
        my @taken;
        while ($sent < 20_000) {
            my $room = "room_${signal}_" . $sent++;
            my $answer = eval { post('call_ringing', $room) } or last;
            push @taken, $room if $answer->status == 200;
            next if $sent != 100;
            # an engine kills all processes of a container
            $signal eq 'KILL' ? $nginx->process->kill_group : $nginx->process->signal($signal);
        }
        ok $nginx->process->wait(30), 'it ends';
        cmp_ok scalar @taken, '>=', 99, 'events were taken';
        is_deeply [ grep { status_of($_) ne 'ringing' } @taken ], [], '... all of them are in Redis';
    };
}

subtest 'what waits outlives the container' => sub {
    my $spool = $image->spool;
    my $nginx = $image->start(%settings, spool => $spool);
    $nginx->ready or return;

    $redis->stop;
    is post('call_ringing', 'room_queued')->body, qq({"status":"queued"}\n), 'without Redis, an event is queued';
    is(($image->beside('vaani-health'))[0], 0, '... and the health check passes');
    ok $nginx->stop, 'the container ends';

    $redis->restart;
    $nginx = $image->start(%settings, spool => $spool);
    $nginx->ready or return;
    ok wait_for(sub { status_of('room_queued') eq 'ringing' }, 60), 'another one with its volume delivers it' or diag $nginx->log;
    $nginx->stop;

    $nginx = $image->start(%settings, VAANI_SPOOL => 'off');
    $nginx->ready or return;
    $redis->stop;
    ok wait_for(sub { post('call_ringing', 'room_refused')->status == 503 }), 'without a spool and Redis, an event is refused';
    isnt(($image->beside('vaani-health'))[0], 0, '... and the health check fails');
    $nginx->stop;
    $redis->restart;
};

# --- the environment

subtest 'settings' => sub {
    my $nginx = $image->start(%settings, VAANI_SPOOL => '/var/spool/vaani max=64m',
        binds => { '/etc/resolv.conf' => spew(tmpdir() . '/resolv.conf',
            "search example.com\nnameserver 127.0.0.1\nnameserver ::1\nnameserver fe80::1%eth0\noptions ndots:5\n") });
    $nginx->ready or return;
    is slurp('/proc/' . $nginx->pid . '/root/tmp/vaani.conf'),
        "resolver 127.0.0.1 [::1] valid=10s;\nvaani_redis $settings{VAANI_REDIS};\nvaani_spool /var/spool/vaani max=64m;\n",
        'Redis, the spool and the name servers';
    $nginx->stop;

    for (
        [ { VAANI_REDIS => 'redis://x:6379; user root' },  qr/VAANI_REDIS has characters other than/ ],
        [ { VAANI_SPOOL => "/x\n}" },                      qr/VAANI_SPOOL has characters other than/ ],
        [ { VAANI_REDIS_PASSWORD_FILE => '/x" {' },        qr/VAANI_REDIS_PASSWORD_FILE has characters other than/ ],
        [ { VAANI_REDIS_PASSWORD_FILE => '/none' },        qr/\[emerg\].*\/none/ ],
        [ { tmp => 'none' },                               qr/\/tmp cannot be written: mount a tmpfs there/ ],
    ) {
        my ($change, $reason) = @$_;
        my $failed = $image->start(%settings, %$change);
        ok $failed->process->wait(60), join ' ', map { s/\n/\\n/gr } %$change;
        isnt $failed->process->status, 0, '... does not start';
        like $failed->log, $reason, '... and says why';
    }
};

subtest 'authentication' => sub {
    my $dir = tmpdir() . '/endpoint.d';
    mkdir $dir or die "mkdir: $!\n";
    spew("$dir/authentication.conf", "vaani_token \$arg_token file=/etc/nginx/vaani/endpoint.d/token;\n");
    spew("$dir/token", "a-token-that-nobody-guesses-0123456789\n");
    chown 10001, 10001, "$dir/token" or die "chown: $!\n";
    chmod 0400, "$dir/token" or die "chmod: $!\n";

    my $nginx = $image->start(%settings, binds => { '/etc/nginx/vaani/endpoint.d' => $dir });
    $nginx->ready or return;
    is post('call_ringing', 'room_3')->status, 401, 'an event without the token';
    is endpoint()->post('/vaani/webhook?token=a-token-that-nobody-guesses-0123456789', event('call_ringing', room => 'room_3'))->status,
        200, '... and one with it';
    $nginx->stop;
};

subtest 'the tools' => sub {
    my $nginx = $image->start(%settings);
    $nginx->ready or return;

    my $tools = Vaani::Test::Container->image('vaani-tools');
    my ($exit, $out) = $tools->run_by_buildah('vaani-call', '--check', '--watch', 'redis://admin:sesame@127.0.0.1:' . $redis->port, 'http://127.0.0.1:8080/vaani/webhook');
    is $exit, 0, 'vaani-call plays a call to it' or diag $out;
    like $out, qr{received .*none missing.*all as expected}s, '... and it arrives';
    $nginx->stop;
};

done_testing;
