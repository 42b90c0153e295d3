# The test library itself: with a stock nginx and a real Redis.

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP qw(decode_json);
use Vaani::Test::Events;
use Vaani::Test::FakeRedis;
use Vaani::Test::Process qw(wait_pid_gone);

$ENV{VAANI_MODULE} = '';    # not the subject here

sub server ($$) { return "server { listen unix:%%SOCK%%; $_[0] } $_[1]" }

subtest 'the directory' => sub {
    like tmpdir(), qr{^/}, 'absolute';
    is((stat tmpdir())[2] & 07777, 0755, 'open to workers');

    my $path = spew(tmpdir() . '/x', "a\0b\n");
    is slurp($path), "a\0b\n", 'spew and slurp';
    is slurp($path, 2), "b\n", 'slurp from an offset';
    is slurp("$path.none"), '', 'slurp of nothing';

    my @ports = map { free_port() } 1 .. 20;
    is keys %{ { map { $_ => 1 } @ports } }, 20, 'free ports differ';
};

subtest 'commands' => sub {
    my ($exit, $out, $err) = run([ $^X, '-e', 'print <STDIN>; warn "w\n"; exit 3' ], stdin => 'in');
    is $exit, 3, 'exit code';
    is $out, 'in', 'stdin to stdout';
    is $err, "w\n", 'stderr';
    is +(run([ $^X, '-e', 'kill KILL => $$' ]))[0], 128 + 9, 'signal';
    ok !eval { run(['/nonexistent/program']); 1 }, 'no such program';
    like $@, qr/cannot run .*No such file/, '... says so';
    ok !eval { run([ $^X, '-e', 'select undef, undef, undef, 60' ], timeout => 0.1); 1 }, 'too slow';
    like $@, qr/timed out/, '... says so';
};

subtest 'Redis and its client' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $client = $redis->client;

    is $redis->url, 'unix:' . $redis->socket, 'url';
    is $client->cmd('PING'), 'PONG', 'PING';
    is $client->cmd('SET', "k\r\n\0", "\0\xff\r\n"), 'OK', 'SET of binary';
    is $client->cmd('GET', "k\r\n\0"), "\0\xff\r\n", 'GET of binary';
    is $client->cmd('GET', 'none'), undef, 'null';
    is $client->cmd('INCRBY', 'n', '9007199254740993'), 9007199254740993, 'integer';
    is_deeply $client->cmd('EVAL', 'return {1,{"a",{}},false}', 0), [ 1, [ 'a', [] ], undef ],
        'nested arrays';

    ok !eval { $client->cmd('HGET', 'n', 'x'); 1 }, 'an error dies';
    like $@, qr/^WRONGTYPE/, '... with its message';
    my ($reply, $error) = $client->try_cmd('NOSUCH');
    is $reply, undef, 'try_cmd: no reply';
    like $error, qr/^ERR unknown command/, 'try_cmd: the error';
    ok !eval { $client->cmd('SET', 'w', "\x{263a}"); 1 }, 'characters are refused';

    $client->cmd('HSET', 'h', a => 1, b => '');
    is_deeply $client->hgetall('h'), { a => 1, b => '' }, 'hgetall';
    is_deeply $client->hgetall('none'), {}, 'hgetall of nothing';

    my @replies = $client->pipeline([ 'SET', 'p', 1 ], ['NOSUCH'], [ 'GET', 'p' ]);
    is_deeply [ map { "$_" } @replies[ 0, 2 ] ], [ 'OK', 1 ], 'pipeline';
    isa_ok $replies[1], 'Vaani::Test::RESP::Error';

    my $value = 'v' x 200;
    @replies = $client->pipeline(map { [ 'ECHO', "$_$value" ] } 1 .. 100_000);
    is scalar(@replies), 100_000, 'a long pipeline';
    is((grep { $replies[ $_ - 1 ] ne "$_$value" } 1 .. 100_000), 0, '... in order');

    my $big = 'x' x 20_000_000;
    is $client->cmd('ECHO', $big), $big, 'a big argument and reply';

    my $subscriber = $redis->client->subscribe('one', 'two')->psubscribe('p*');
    is $client->cmd('PUBLISH', 'two', "\0m"), 1, 'subscribed';
    $client->cmd('PUBLISH', 'px', 'n');
    is_deeply $subscriber->next_message, { channel => 'two', payload => "\0m" }, 'message';
    is_deeply $subscriber->next_message, { pattern => 'p*', channel => 'px', payload => 'n' },
        'pmessage';
    is $subscriber->next_message(0.02), undef, 'no more';
    $client->cmd('PUBLISH', 'one', $_) for 1 .. 5;
    is join(',', map { $_->{payload} } $subscriber->next_messages(9, 0.05)), '1,2,3,4,5',
        'next_messages';

    $redis->suspend;
    my $slow = Vaani::Test::RESP->connect($redis->socket, timeout => 0.05);
    ($reply, $error) = $slow->try_cmd('PING');
    like $error, qr/timed out/, 'suspended';
    $redis->resume;
    is $client->cmd('PING'), 'PONG', 'resumed';

    my $pid = $redis->pid;
    $redis->suspend;
    ok $redis->stop, 'stopped, although suspended';
    ok !kill(0 => $pid), '... and reaped';
    like +($client->try_cmd('PING'))[1], qr/lost/, 'its client notices';
    ok !eval { $redis->client; 1 }, 'no new client';
    ok !eval { $subscriber->next_message; 1 }, 'the subscriber notices';

    $redis->restart;
    is $redis->client->cmd('DBSIZE'), 0, 'restarted, empty';
    $redis->restart(crash => 1, config => ['maxmemory 100mb']);
    is $redis->client->cmd('CONFIG', 'GET', 'maxmemory')->[1], 104857600,
        'restarted after a crash, with other lines';
};

subtest 'Redis with TCP and a password' => sub {
    my $redis = Vaani::Test::Redis->start(tcp => 1, password => 'sesame');
    is $redis->url, 'redis://127.0.0.1:' . $redis->port, 'url';
    is $redis->client->cmd('PING'), 'PONG', 'client knows the password';
    is +(Vaani::Test::RESP->connect($redis->port)->try_cmd('PING'))[1],
        'NOAUTH Authentication required.', 'others do not';

    my $port = $redis->port;
    $redis->kill;
    $redis->restart;
    is(Vaani::Test::RESP->connect($port, password => 'sesame')->cmd('PING'), 'PONG',
        'same port after a restart');

    ok !eval { Vaani::Test::Redis->start(config => ['no-such-directive']); 1 }, 'a bad line dies';
    like $@, qr/no-such-directive/, '... with the output';
};

my $nginx = Vaani::Test::Nginx->start(
    workers => 2,
    http    => server(<<'CONF', ''),
        listen 127.0.0.1:%%PORT%%;
        client_max_body_size 100k;
        location / { return 200 "hello\n"; }
        location = /json { default_type application/problem+json; return 422 '{"a":[1]}'; }
        location = /none { return 204; }
        location = /close { keepalive_timeout 0; return 200 bye; }
        location = /silent { return 444; }
        location = /echo {
            proxy_pass http://unix:%%SOCK%%:/echoed;
            proxy_set_header X-Body $request_body;
        }
        location = /echoed { return 200 "$http_x_body"; }
        location /files/ { alias %%TMPDIR%%/; }
        location = /ssi { ssi on; ssi_types text/plain; return 200 'a<!--# echo var="uri" -->b'; }
CONF
);
my $http = $nginx->http;

subtest 'HTTP' => sub {
    my $response = $http->get('/');
    is $response->status, 200, 'status';
    is $response->{reason}, 'OK', 'reason';
    is $response->body, "hello\n", 'body';
    is $response->header('Content-Length'), 6, 'header';
    ok $response->keepalive, 'keepalive';

    my $handle = $http->handle;
    is_deeply $http->post('/json', '{}')->json, { a => [1] }, 'json';
    is $http->request(method => 'HEAD', uri => '/')->body, '', 'HEAD';
    is $http->request(uri => '/none')->status, 204, 'no content';
    is $http->handle, $handle, 'all on one connection';

    is $http->post('/echo', 'sent')->body, 'sent', 'body with a length';
    is $http->request(uri => '/echo', body => 'chunk by chunk', chunked => [ 1, 5, 2 ])->body,
        'chunk by chunk', 'body in chunks';
    is $http->request(uri => '/echo', body => 'x' x 3000, chunked => 1000)->body,
        'x' x 3000, 'body in equal chunks';
    is $http->request(uri => '/echo', body => 'later', expect_continue => 1)->interim->[0]{status},
        100, '100 Continue';
    is $http->handle, $handle, 'still the same connection';

    spew(tmpdir() . '/page.txt', 'p' x 300_000);
    is length $http->get('/files/page.txt')->body, 300_000, 'a long body';
    spew(tmpdir() . '/ssi.txt', 's');
    like $http->get('/ssi')->body, qr{^a.*b$}, 'a chunked answer';

    $response = $http->request(uri => '/', body => 'x', version => '1.0');
    ok !$response->keepalive, 'HTTP/1.0 ends the connection';
    is $http->handle, undef, '... here, too';
    $response = $http->request(version => '1.0', headers => { Connection => 'keep-alive' });
    ok $response->keepalive, 'HTTP/1.0 with keep-alive';
    ok !$http->get('/close')->keepalive, 'Connection: close';

    $response = $http->post('/', 'x' x 5_000_000);
    is $response->status, 413, 'an answer before the request was read';
    is $http->post('/', 'x')->status, 200, 'and on';
    is $http->request(uri => '/', body => 'x', no_content_length => 1)->status, 200,
        'a body without a length';
    $http->close;

    my @responses = $http->pipelined({ uri => '/' }, { uri => '/json', body => '{}' }, { uri => '/none' });
    is join(' ', map { $_->status } @responses), '200 422 204', 'pipelined';
    @responses = $http->pipelined({ uri => '/' }, { uri => '/close' }, { uri => '/' });
    is join(' ', map { $_->status } @responses), '200 200', 'pipelined up to a close';

    ok !eval { $http->get('/silent'); 1 }, 'closed without an answer';
    like $@, qr/without an answer/, '... says so';

    $http->send_raw("GET / HT");
    $http->send_raw("TP/1.1\r\nHost: x\r\n\r\n");
    is $http->read_response->body, "hello\n", 'raw, in pieces';
    $http->send_raw("POST / HTTP/1.1\r\n");
    ok !eval { $http->read_response(0.02); 1 }, 'no answer in time';
    like $@, qr/no answer within 0.02 s/, '... says so';
    $http->send_raw("\x16\x03\r\n\r\n");
    is $http->read_response->status, 400, 'garbage';
    $http->send_raw("GET /silent HTTP/1.1\r\nHost: x\r\n\r\n");
    is $http->read_response, undef, 'read_response: closed';
    $http->send_raw("GET /\r\n");
    is $http->read_raw, "hello\n", 'HTTP/0.9';

    ok !$http->connect->wait_closed(0.02), 'idle: open';
    is(Vaani::Test::HTTP->new(port => $nginx->port)->get('/')->status, 200, 'over TCP');
};

subtest 'many at once' => sub {
    my @bodies = map { $_ % 10 ? '{}' : 'x' x 150_000 } 1 .. 500;
    my %seen;
    my @statuses = post_many(
        $nginx, '/', \@bodies,
        connections => 20,
        on_response => sub { my ($i, $response) = @_; $seen{$i} = $response->status },
    );
    is_deeply \@statuses, [ map { $_ % 10 ? 200 : 413 } 1 .. 500 ], 'all answered, in order';
    is_deeply [ @seen{ 0 .. 499 } ], \@statuses, 'called back';

    @statuses = post_many($nginx->port, '/close', [ ('{}') x 50 ], headers => { A => 1 });
    is join(' ', @statuses), join(' ', (200) x 50), 'without keep-alive, over TCP';

    my $error;
    @statuses = post_many($nginx, '/silent', ['{}'], on_response => sub { $error = $_[1]->error });
    is_deeply \@statuses, [0], 'no answer';
    is $error, 'connection closed', '... says so';
    is_deeply [ post_many(tmpdir() . '/none', '/', ['{}']) ], [0], 'no server';
};

subtest 'nginx' => sub {
    my @workers = $nginx->worker_pids;
    is @workers, 2, 'two workers';
    ok -e $nginx->conf_path, 'configuration';

    # Under load, a reload loses nothing.
    my $response_count = 0;
    my @statuses = post_many(
        $nginx, '/', [ ('{}') x 3000 ],
        on_response => sub {
            if (++$response_count % 1000 == 500) { ok $nginx->reload, 'reload under load' }
        },
    );
    is((grep { $_ != 200 } @statuses), 0, 'nothing lost');

    $nginx->http->get('/');
    @workers = $nginx->worker_pids;
    $http->get('/');
    my $mark = $nginx->log_mark;
    ok $nginx->reload(http => server('return 200 new;', ''), wait_old => 1), 'reload with a new text';
    is $http->get('/')->body, 'new', 'new configuration, new connection';
    ok $nginx->wait_pids_gone(\@workers, 0), 'old workers are gone';
    like $nginx->wait_log(qr/gracefully shutting down/, 5, $mark), qr/notice/, 'wait_log';
    is $nginx->wait_log(qr/no such line/, 0.01), undef, 'wait_log in vain';
    $nginx->log_like(qr/reconfiguring/);
    $nginx->log_unlike(qr/no such line/);
    is $nginx->log_lines(qr/signal 1 \(SIGHUP\)/, $mark), 1, 'log_lines';

    $nginx->allow_log(qr/unknown directive "nonsense"/);
    ok !$nginx->reload(http => server('nonsense;', '')), 'a bad configuration is refused';
    is $http->get('/')->body, 'new', 'the old one lives on';

    ok $nginx->restart(http => server('return 200 again;', '')), 'restart';
    is $http->get('/')->body, 'again', 'with a new text';
    ok $nginx->stop, 'stop';
    ok !$nginx->alive, 'ended';
    ok !eval { $http->get('/'); 1 }, 'nobody listens';

    $nginx->restart;
    @workers = $nginx->worker_pids;
    $nginx->kill;
    ok $nginx->wait_pids_gone(\@workers, 0), 'kill ends the workers, too';
    $nginx->restart;
    is $http->get('/')->status, 200, 'starts over the left-overs';

    # Deliveries that a crash cuts off are reported, or sent again.
    my %results;
    @statuses = post_many(
        $nginx, '/', [ ('{}') x 200 ],
        on_response => sub {
            my ($i, $response) = @_;
            $results{ $response->status }++;
            if ($i == 100) { $nginx->kill; $nginx->restart }
        },
    );
    is scalar(grep { defined } @statuses), 200, 'post_many through a crash';
    cmp_ok $results{200}, '>', 150, '... most are answered';

    my $single = Vaani::Test::Nginx->start(single => 1, http => server('return 200;', ''));
    is scalar(() = $single->worker_pids), 0, 'a single process';
    is $single->http->get('/')->status, 200, '... serves';
    my $pid = $single->pid;
    undef $single;
    ok !kill(0 => $pid), 'ends with its object';

    my $quiet = Vaani::Test::Nginx->start(
        main   => "worker_processes 3;\nworker_shutdown_timeout 9s;",
        events => 'worker_connections 100;',
        http   => 'access_log %%DIR%%/access.log; proxy_temp_path %%DIR%%/p;'
            . server('access_log off; return 200;', 'server { listen unix:%%DIR%%/b.sock; }'),
    );
    ok $quiet->stop, 'own directives instead of the defaults';
};

subtest 'nginx -t' => sub {
    my ($ok, $output) = Vaani::Test::Nginx->check(http => server('return 200;', ''));
    ok $ok, 'good' or diag $output;
    like $output, qr/test is successful/, '... says so';

    ($ok, $output) = Vaani::Test::Nginx->check(http => "\n bogus on;");
    ok !$ok, 'bad';
    like $output, qr/unknown directive "bogus" in .*nginx\.conf:\d+/, '... says where';

    ok !eval { Vaani::Test::Nginx->start(http => 'bogus on;'); 1 }, 'start dies';
    like $@, qr/ended at once.*unknown directive "bogus"/s, '... with the log';
};

# A plain "prove" tests what "make" has built, and never an nginx without the module.
subtest 'the module' => sub {
    my @perl = ($^X, '-I' . ROOT . '/t/lib', '-MVaani::Test', '-e', 'print $ENV{VAANI_MODULE}');
    is +(run([ qw(env -u VAANI_MODULE), @perl ]))[1], ROOT . '/build/ngx_http_vaani_module.so', 'that of make if nobody says which';
    is +(run([ qw(env VAANI_MODULE=), @perl ]))[1], '', '... none if it is built in';
    is +(run([ qw(env VAANI_MODULE=/x.so), @perl ]))[1], '/x.so', '... or the one that is named';

    ok !eval { Vaani::Test::Nginx->check(http => '', module => '/nowhere.so'); 1 }, 'one that is not there';
    like $@, qr{^there is no module at /nowhere\.so: run "make module", or set VAANI_MODULE}, '... says what to do';
};

subtest 'FakeRedis' => sub {
    my $fake = Vaani::Test::FakeRedis->start(
        on_connect => sub {
            my ($sock, $self, $n) = @_;
            while (my $command = read_command($sock)) {
                $self->report("$n @$command");
                send_bytes($sock, $command->[0] eq 'BAD' ? "!garbage\r\n" : "+$n\r\n");
            }
            $self->report("$n gone");
        }
    );

    my @clients = map { Vaani::Test::RESP->connect($fake->socket) } 1, 2;
    is $clients[1]->cmd('PING', "a\r\nb"), 2, 'second connection';
    is $fake->next_report, "2 PING a\r\\nb", 'reported';
    is $clients[0]->cmd('PING'), 1, 'first connection';
    is $fake->next_report, '1 PING', 'reported';
    like +($clients[0]->try_cmd('BAD'))[1], qr/not a reply: "!garbage/, 'garbage';
    is $fake->next_report, '1 BAD', 'reported';
    is $fake->next_report, '1 gone', 'our close arrives';
    is $fake->next_report(0.02), undef, 'no more';

    # A client's end must not be held open by servers started after it.
    my $later = Vaani::Test::FakeRedis->start(on_connect => sub { });
    $clients[1]->close;
    is $fake->next_report, '2 gone', 'although another child was forked meanwhile';

    my $pid = $fake->pid;
    $fake->stop;
    ok !kill(0 => $pid), 'stopped';

    my $count = 0;
    my $serial = Vaani::Test::FakeRedis->start(
        tcp        => 1,
        serial     => 1,
        on_connect => sub { send_bytes($_[0], ':' . ++$count . "\r\n") if read_command($_[0]) },
    );
    is(Vaani::Test::RESP->connect($serial->port)->cmd('X'), $_, 'serial') for 1, 2;

    my $redis = Vaani::Test::Redis->start;
    my $proxy = Vaani::Test::FakeRedis->start(
        on_connect => sub {
            my ($sock) = @_;
            relay(
                $sock, $redis->socket,
                up   => sub { $_[0] =~ s/secret/public/gr },
                down => sub { $_[0] =~ /cut/ ? undef : $_[0] },
            );
        }
    );
    my $client = Vaani::Test::RESP->connect($proxy->socket, Vaani::Test::Redis::ADMIN);
    is $client->cmd('ECHO', 'secret'), 'public', 'a relay that changes';
    is $client->cmd('ECHO', 'y' x 3_000_000), 'y' x 3_000_000, 'much';
    like +($client->try_cmd('ECHO', 'cut'))[1], qr/lost/, '... and cuts';
};

subtest 'events' => sub {
    is event('call_ended'), '{"event":"call_ended","room_name":"room_123abc",'
        . '"call_duration":42.5,"end_reason":"AGENT_REQUESTED_DISCONNECT"}', 'canonical';
    is event('call_ringing', room => "r\x{e9}", status => ABSENT, x => undef, y => \'1e999', z => [1]),
        qq({"event":"call_ringing","room_name":"r\xc3\xa9","x":null,"y":1e999,"z":[1]}), 'overrides';
    is event('brand_new'), '{"event":"brand_new","room_name":"room_123abc"}', 'an unknown one';
    is_deeply [ sort @EVENTS ], [ sort { $a cmp $b } slurp(ROOT . '/src/core/vaani_event_table.c') =~ /^    \{ vaani_string\("(\w+)"\), '/mg ],
        'the events of the table';
    ok eval { decode_json(event($_)); 1 }, "$_ is JSON" for @EVENTS;

    is keys %CALL_PATHS, 20, 'twenty paths';
    my @names = map { decode_json($_)->{event} } @{ $CALL_PATHS{'inbound/transfer-failed-then-successful'} };
    is "@names", 'call_started user_picked_up_at human_transfer_initiated human_transfer_failed '
        . 'human_transfer_initiated human_transfer_successful call_ended call_postprocessing', 'a path';
    is +(call_path('inbound', 'r'))[0], '{"event":"call_started","room_name":"r"}', 'inbound';
    is @{ { call_paths('r') }->{'failed/none'} }, 4, 'failed';
};

# However a test ends, none of its processes and files may remain. It prints
# its directory and process ids on stdout.
my $script = <<'PERL';
    use Vaani::Test;
    $| = 1;
    my $redis = Vaani::Test::Redis->start;
    my $fake = Vaani::Test::FakeRedis->start(on_connect => sub { select undef, undef, undef, 60 });
    my $client = Vaani::Test::RESP->connect($fake->socket);
    my $nginx = Vaani::Test::Nginx->start(http => 'server { listen unix:%%SOCK%%; }');
    print join(' ', tmpdir(), $redis->pid, $fake->pid, $nginx->pid, $nginx->worker_pids), "\n";
PERL

for my $case (
    [ 'done',        'ok 1; done_testing', 0 ],
    [ 'die',         'ok 1; die "oh"', 255 ],
    [ 'SIGTERM',     'kill TERM => $$; select undef, undef, undef, 9', 128 + 15 ],
    [ 'SIGKILL',     'kill KILL => $$; select undef, undef, undef, 9', 128 + 9 ],
    [ 'a fork ends', 'if (!fork) { exit } wait; is $redis->client->cmd("PING"), "PONG"; done_testing', 0 ],
    [ 'bad log',     'kill KILL => $nginx->worker_pids; $nginx->wait_log(qr/exited on signal/);'
            . ' ok 1; $nginx->stop; done_testing', 1, qr/^not ok 2 - nginx has nothing bad/m ],
    [ 'bad log at the end', 'kill KILL => $nginx->worker_pids; $nginx->wait_log(qr/exited on signal/);'
            . ' ok 1; done_testing', undef, qr/^not ok 2 - nginx has nothing bad/m ],
    [ 'bad log, allowed', 'kill KILL => $nginx->worker_pids; $nginx->wait_log(qr/exited on signal/);'
            . ' $nginx->allow_log(qr/exited on signal 9/); ok 1; done_testing', 0 ],
) {
    my ($name, $end, $expected, $output) = @$case;

    subtest "afterwards: $name" => sub {
        local %ENV = (%ENV, VAANI_KEEP => '');
        my ($exit, $out, $err) = run([ $^X, (map { "-I$_" } @INC), '-e', "$script $end" ]);
        ok defined $expected ? $exit == $expected : $exit != 0, "exit code $exit"
            or diag $out, $err;
        like $out, $output, 'output' if $output;

        my ($dir, @pids) = ($out =~ /^(.*)$/m ? split ' ', $1 : ());
        is @pids, 4, 'four processes had been started' or diag $out, $err;
        # After SIGKILL the guard removes them, and no process waits for it.
        ok wait_pid_gone($_, 10), "no process $_" for @pids;
        ok wait_for(sub { !-e $dir }, 10), 'no directory';
    };
}

done_testing;
