# examples/onward: each transition arrives at an HTTP endpoint, at least once, signed,
# whatever the endpoint, Redis and the programs themselves go through. Both languages
# run through the same scenarios, with the commands of examples/README.md, as the user
# of docs/permissions.md.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Digest::SHA qw(sha256_hex);
use IO::Socket::INET ();
use JSON::PP ();
use Math::BigInt ();
use Time::HiRes ();
use Vaani::Test::ACL qw(documented);
use Vaani::Test::Certificates;
use Vaani::Test::Events;
use Vaani::Test::Example qw(command node_bin python_bin require_packages);
use Vaani::Test::FakeEndpoint;
use Vaani::Test::Signing;

require_packages('redis-py', 'ioredis');

my $json = JSON::PP->new->utf8->canonical->allow_bignum;
my $STREAM = 'vaani:stream';
my $DEAD = "$STREAM:dead";

my ($rights) = documented('onward');
my $redis = Vaani::Test::Redis->start(
    tcp    => 1,
    acl    => [ "~$STREAM", '+xadd' ],
    config => [ 'appendonly yes', 'appendfsync always', join ' ', 'user onward', @$rights ],
);
my $admin = $redis->client;

my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    vaani_redis @{[ $redis->url ]};
    vaani_redis_timeout 10s;
    vaani_spool %%DIR%%/spool;
    vaani_stream $STREAM maxlen=100000;
    server {
        listen unix:%%SOCK%%;
        client_body_buffer_size 4m;
        client_max_body_size 8m;
        location = /hook { vaani_webhook; }
        location = /max { vaani_webhook; vaani_payload max=100; }
    }
CONF
my $http = $nginx->http;

# Texts that must not be in any output.
my @PRIVATE = qw(1234567890 919876543210 PRIVATE-TRANSCRIPT token-of-the-path);

sub post ($uri, @bodies) {
    for my $body (@bodies) {
        my $response = $http->post($uri, $body);
        die "not accepted: $body: " . $response->body . "\n" if $response->status != 200;
        my $then = int 1000 * Time::HiRes::time();
        1 while int(1000 * Time::HiRes::time()) == $then;
    }
    return;
}

# The messages of the stream.
sub messages () { return map { $_->[1][1] } @{ $admin->cmd(XRANGE => $STREAM, '-', '+') } }

sub pending ($group = 'onward') { return ($admin->try_cmd(XPENDING => $STREAM, $group))[0][0] // -1 }

# --- the endpoint

# A file has its answers to call_started by room, for the first try, the second one and
# so on; without an entry, and for other events, it answers 200. Each request is a line of another file.
my $secret = webhook_secret();
my $older = webhook_secret();
my ($log, $plan, $endpoint, $runs) = ('', '', undef, 0);

sub behave (%rooms) {
    spew("$plan.new", $json->encode(\%rooms));
    rename "$plan.new", $plan or die "rename: $!\n";
    return;
}

sub requests () { return map { $json->decode($_) } split /\n/, slurp($log) }
sub requests_of ($room) { return grep { $_->{room} eq $room } requests() }
sub events_of ($room) { return join ' ', map { $_->{event} } requests_of($room) }

my %BEHAVIOUR = (
    ok        => sub { ok_answer() },
    none      => sub { "HTTP/1.1 204 No Content\r\n\r\n" },
    created   => sub { (answer_with(201, '{}', 'Connection: close'), undef) },
    500       => sub { answer_with(500, 'PRIVATE-TRANSCRIPT') },
    400       => sub { answer_with(400, '{"error":"no"}') },
    410       => sub { answer_with(410, '') },
    408       => sub { answer_with(408, '') },
    after     => sub { answer_with(429, '', 'Retry-After: 4') },
    later     => sub { answer_with(429, '', 'Retry-After: 12') },
    date      => sub { answer_with(503, '', 'Retry-After: Wed, 21 Oct 2099 07:28:00 GMT') },
    moved     => sub { answer_with(302, '', 'Location: /trap') },
    moved_for_good => sub { answer_with(308, '', 'Location: /trap') },
    close     => sub { () },
    garbage   => sub { ("\xff\xfe PRIVATE-TRANSCRIPT\r\n\r\n", undef) },
    hang      => sub { (sub { sleep 30 }) },
    slow      => sub { (sub { Time::HiRes::sleep(1.5) }, ok_answer()) },
    drip      => sub { map({ my $byte = $_; ($byte, sub { Time::HiRes::sleep(0.3) }) } split //, 'HTTP/1.1 200 OK' . "\r\nX: y" x 40), undef },
    endless   => sub { ("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" . 'x' x 200_000, sub { sleep 30 }) },
    early     => sub { ("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", sub { Time::HiRes::sleep(0.3) }, ok_answer()) },
    hints     => sub { ("HTTP/1.1 102 Processing\r\n\r\n" . "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" x 2, sub { Time::HiRes::sleep(0.3) }, answer_with(500, '')) },
    two       => sub { (ok_answer(), sub { Time::HiRes::sleep(0.3) }, ok_answer(), sub { spew("$log.two", '') }) },
    body      => sub { ("HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", sub { Time::HiRes::sleep(0.3) }, '{}') },
    cut       => sub { ("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx", undef) },
);

sub start_endpoint ($port = undef) {
    return Vaani::Test::FakeEndpoint->start(sub ($request, $fake) {
        # Their heads have it; the whole of a long one would take too long.
        my ($event, $room) = map { substr($request->{body}, 0, 6000) =~ /"$_":"([^"]*)"/ ? $1 : '' } qw(event room_name);
        my $id = $request->{headers}{'webhook-id'} // '';
        my $tries = grep { /"webhook-id":"\Q$id\E"/ } split /\n/, slurp($log);
        my $does = $event eq 'call_started' ? ($json->decode(slurp($plan))->{$room} // [])->[$tries] : undef;
        $does //= 'ok';

        # One write to a file that others append to as well.
        open my $fh, '>>', $log or die "open: $!\n";
        syswrite $fh, $json->encode({
            at => Time::HiRes::time(), room => $room, event => $event, does => $does,
            connection => $request->{connection}, line => $request->{line}, headers => $request->{headers},
            digest => sha256_hex($request->{body}), good => is_signed($request) ? 1 : 0,
        }) . "\n";
        return $BEHAVIOUR{$does}->();
    }, tcp => 1, defined $port ? (port => $port) : ());
}

sub is_signed ($request, @secrets) {
    my ($id, $time, $signatures) = @{ $request->{headers} }{qw(webhook-id webhook-timestamp webhook-signature)};
    return ($signatures // '') eq join(' ', map { webhook_signature($_, $id, $time, $request->{body}) } $secret, $older)
        && abs($time - time) < 60;
}

# --- the programs

my $secret_file = secret_file('onward', "\x{ef}\x{bb}\x{bf}# now\n$secret\n\n $older \n");
my ($file, @started);

sub start ($name, %opt) {
    my ($program, $path, @arguments) = command($file);
    my $forwarder = Vaani::Test::Example->start(
        [ $program, $path, $name ],
        REDIS_URL => 'redis://onward:secret@127.0.0.1:' . $redis->port,
        ENDPOINT => 'http://127.0.0.1:' . $endpoint->port . '/hook?token=token-of-the-path',
        SECRET_FILE => $secret_file, TIMEOUT => 3, %opt);
    push @started, $forwarder;
    return $forwarder if $opt{quiet};
    $forwarder->says(qr{^forwarding \S+ to https?://\S+$}m, "$name starts");
    return $forwarder;
}

# Each message has arrived, as it is and with its id, nothing is pending.
sub all_arrived ($name, @without) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my %without = map { $_ => 1 } @without;
    my %want = map { $_->{id} => sha256_hex($_->{text}) } grep { !$without{ $_->{room} } }
        map { my $message = $json->decode($_); +{ id => $message->{id}, room => $message->{room_name} // '', text => $_ } } messages();
    my %got;
    my $all = wait_for(sub {
        %got = map { $_->{headers}{'webhook-id'} => $_->{digest} } grep { !$without{ $_->{room} } } requests();
        return keys %got >= keys %want && pending() == 0;
    }, 60);
    ok $all, "$name: nothing is pending" or diag map { $_->err } @started;
    is_deeply \%got, \%want, '... and all ' . keys(%want) . ' messages have arrived, byte for byte';
    is scalar(grep { !$_->{good} } requests()), 0, '... with good signatures';
    return;
}

sub ends ($forwarder, $signal = 'TERM') {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is $forwarder->stop($signal), 0, "SIG$signal ends it" || diag $forwarder->err;
}

sub consumers () { return sort map { my %consumer = @$_; $consumer{name} } @{ $admin->cmd(XINFO => 'CONSUMERS', $STREAM, 'onward') } }

sub begin ($path) {
    $file = $path;
    $endpoint->stop if $endpoint;
    ($log, $plan) = map { tmpdir() . '/' . $_ . ++$runs } qw(requests plan);
    spew($log, '');
    behave();
    $admin->cmd('FLUSHALL');
    $endpoint = start_endpoint();
    return;
}

# --- what both of them go through

my @SCENARIOS = (
    [ 'calls' => sub {
        post('/hook', call_path('outbound-answered/transfer-failed-then-successful', 'early'));    # before there is a group
        my $forwarder = start('one', TIMEOUT => 15);
        post('/hook', call_path('rejected/none', 'two'), event('call_put_on_hold', room => 'two'), event('brand_new', room => ABSENT));
        post('/max', call_path('inbound/none', 'short'));
        my $words = "PRIVATE-TRANSCRIPT \x{928}\x{92e}\x{938}\x{94d}\x{924}\x{947} " x 30_000;
        post('/hook', event('call_postprocessing', room => 'long', transcript => $words));
        all_arrived('calls');

        my @requests = requests();
        is scalar(grep { $_->{room} eq '' } @requests), 1, 'one belongs to no call';
        ok scalar(grep { /"payload":null/ } messages()), 'some were without a payload';
        ok scalar(grep { length > 1_000_000 } messages()), '... and one is long';
        is events_of('early'), join(' ', map { /"event":"(\w+)"/ } call_path('outbound-answered/transfer-failed-then-successful', 'early')),
            'those of a call in their order';
        is_deeply [ sort keys %{ { map { $_->{line} => 1 } @requests } } ], [ 'POST /hook?token=token-of-the-path HTTP/1.1' ], 'where to';
        is $requests[0]{headers}{'content-type'}, 'application/json', 'the type';
        cmp_ok scalar(keys %{ { map { $_->{connection} => 1 } @requests } }), '<=', 8, 'connections are kept';

        ends($forwarder);
        is_deeply [ consumers() ], [], '... and its name is removed';
        is $forwarder->err, '', 'it had nothing to complain about';
    } ],

    [ 'an endpoint that fails' => sub {
        my %fails = (
            500 => [ 500, 500 ], refused => [ 400, 408 ], gone => [410], moved => [ 'moved', 'moved_for_good' ], after => ['after'],
            far => ['date'], closes => [ 'close', 'close' ], garbage => ['garbage'], hangs => ['hang'], drips => ['drip'],
            endless => ['endless'], cut => ['cut'], none => ['none'], created => ['created'],
        );
        behave(%fails);
        my $forwarder = start('one', PARALLEL => 3, LONGEST => 5);
        post('/hook', map { (event('call_started', room => $_), event('call_ringing', room => $_)) } sort keys %fails);

        # Long before the others are through.
        post('/hook', call_path('outbound-answered/none', 'good'));
        ok wait_for(sub { (events_of('good') =~ tr/ //) == 4 }), 'other calls are not held up' or diag $forwarder->err;
        all_arrived('retries');

        my $is_done = sub ($does) { $does =~ /^(?:ok|none|created|endless|cut)$/ };
        for my $room (sort keys %fails) {
            my @requests = requests_of($room);
            my @want = map { $is_done->($_) ? () : 'call_started' } @{ $fails{$room} };
            is events_of($room), join(' ', @want, 'call_started', 'call_ringing'), "$room: tried again, and the next message waits";
            is scalar(keys %{ { map { $_->{headers}{'webhook-id'} => 1 } @requests } }), 2, '... the id stays';
        }
        my @after = requests_of('after');
        cmp_ok $after[1]{at} - $after[0]{at}, '>=', 3.9, 'Retry-After is honoured';
        isnt $after[0]{headers}{'webhook-timestamp'}, $after[1]{headers}{'webhook-timestamp'}, '... and the time is that of the try';
        my @far = requests_of('far');
        cmp_ok $far[1]{at} - $far[0]{at}, '>=', 4.9, '... a date, too, within LONGEST';
        is scalar(grep { $_->{line} =~ /trap/ } requests()), 0, 'redirections are not followed';
        like $forwarder->err, qr/^\d+-\d+ failed, try 1: /m, 'it says so';
        ends($forwarder, 'INT');
    } ],

    # The answer to one request is not taken for the answer to the next one.
    [ 'answers that come in parts' => sub {
        behave(a_early => ['early'], b_fails => [500], c_hints => ['hints'], d_fails => [500], e_two => ['two'], f_fails => [500], g_body => ['body'], h_fails => [500]);
        my $forwarder = start('one', PARALLEL => 1, LONGEST => 1);
        for my $pair ([qw(a_early b_fails)], [qw(c_hints d_fails)], [qw(e_two f_fails)], [qw(g_body h_fails)]) {
            post('/hook', event('call_started', room => $pair->[0]));
            ok wait_for(sub { -e "$log.two" }), 'both answers are written' if $pair->[0] eq 'e_two';
            post('/hook', event('call_started', room => $pair->[1]));
            ok wait_for(sub { requests_of($pair->[1]) == 2 && pending() == 0 }), "$pair->[1]: tried again" or diag $forwarder->err;
            is scalar(requests_of($pair->[0])), $pair->[0] eq 'c_hints' ? 2 : 1, "... $pair->[0]: as often as its answers ask for";
        }
        all_arrived('each');
        ends($forwarder);
    } ],

    [ 'a message that fails for long' => sub {
        behave(bad => [ (400) x 3, 'hang', (400) x 40 ]);
        my $forwarder = start('one', HOLD => 3, LONGEST => 1);
        post('/hook', event('call_started', room => 'bad'));
        ok wait_for(sub { requests_of('bad') >= 1 }), 'it fails';
        my ($first) = requests_of('bad');
        behave(bad => [ map { 400 } 1 .. 40 ], later => []);
        my $id = $first->{headers}{'webhook-id'};

        # Another message of its key, by hand: with a room that is taken.
        $admin->cmd(XADD => $STREAM, '*', message => $json->encode(
            { id => "later", key => "vaani:call:bad", room_name => "later", event => "call_ringing", seq => 2 }));
        ok wait_for(sub { requests_of('later') }), 'after HOLD the next one overtakes it' or diag $forwarder->err;
        my ($later) = requests_of('later');
        cmp_ok $later->{at} - $first->{at}, '>=', 2.5, '... and not before';
        my $tries = requests_of('bad');
        ok wait_for(sub { requests_of('bad') > $tries }), '... and it is tried on';
        behave();
        all_arrived('both');
        ends($forwarder);
    } ],

    [ 'dead letters' => sub {
        behave(dies => [ map { 500 } 1 .. 9 ], refused => [ map { 500 } 1 .. 9 ]);
        my $forwarder = start('one', TRIES => 2);
        post('/hook', event('call_started', room => 'dies', phone_number => '+1234567890'), event('call_started', room => 'lives'));
        my ($message) = messages();
        my @odd = ('no JSON', '[1]', '"text"', "\xff\xfe", '');
        $admin->cmd(XADD => $STREAM, '*', message => $_) for @odd;
        $admin->cmd(XADD => $STREAM, '*', other => 'field');

        my $dead = sub { map { +{ @{ $_->[1] } } } @{ $admin->cmd(XRANGE => $DEAD, '-', '+') } };
        ok wait_for(sub { $dead->() == 7 && pending() == 0 }), 'they are moved' or diag $forwarder->err;
        my ($letter) = grep { $_->{message} eq $message } $dead->();
        is_deeply { %$letter, id => undef },
            { message => $message, group => 'onward', tries => 2, why => 'answered 500', id => undef }, 'one that failed twice';
        is $letter->{id}, $admin->cmd(XRANGE => $STREAM, '-', '+')->[0][0], '... with the id of its entry';
        is_deeply [ sort map { $_->{message} } grep { $_->{why} eq 'it is no message' } $dead->() ], [ sort @odd, '' ], 'and what is no message';
        is scalar(requests_of('dies')), 2, 'no more tries';
        is scalar(requests_of('lives')), 1, 'another one has arrived';
        ends($forwarder);

        # The same program sends them again.
        behave();
        my ($more) = slurp(ROOT . '/examples/README.md') =~ /^redis-cli ACL SETUSER onward '(.*)'$/m;
        $admin->cmd('ACL', 'SETUSER', 'onward', $more);
        my $again = start('again', STREAM => $DEAD, GROUP => 'again');
        ok wait_for(sub { requests_of('dies') == 3 }), 'they are sent again' or diag $again->err;
        my @requests = requests_of('dies');
        is_deeply [ @{ $requests[2] }{qw(digest good)} ], [ sha256_hex($message), 1 ], '... as they were';
        is $requests[2]{headers}{'webhook-id'}, $requests[0]{headers}{'webhook-id'}, '... with the same id';
        ends($again);

        # A dead letter that cannot be written.
        behave(refused => [ map { 500 } 1 .. 2 ]);
        $admin->cmd(DEL => $DEAD);
        $admin->cmd(SET => $DEAD, 'text');
        $forwarder = start('one', TRIES => 2, LONGEST => 2);
        post('/hook', event('call_started', room => 'refused'));
        ok wait_for(sub { $forwarder->err =~ /^\S+ cannot be moved to \Q$DEAD\E: WRONGTYPE/m }), 'a dead letter cannot be written'
            or diag $forwarder->err;
        ok wait_for(sub { requests_of('refused') == 3 && pending() == 0 }), '... so the message is tried on' or diag $forwarder->err;
        ends($forwarder);
    } ],

    [ 'kill -9' => sub {
        my @rooms = map { "k$_" } 1 .. 6;
        behave(map { $_ => ['hang'] } @rooms);
        my $killed = start('one', TIMEOUT => 20, PARALLEL => 4);
        post('/hook', map { (event('call_started', room => $_), event('call_ringing', room => $_)) } @rooms);
        ok wait_for(sub { requests() == 4 && pending() >= 4 }), 'it is in the middle of it';
        $killed->kill;

        my $other = start('two', CLAIM => 2);
        all_arrived('another one takes over');
        my %ids;
        $ids{ $_->{headers}{'webhook-id'} }++ for requests();
        is scalar(keys %ids), 12, 'no id but those of the messages';
        is scalar(grep { $_ > 1 } values %ids), scalar(@rooms), '... some came twice, with the same';
        is events_of($_) =~ s/^(call_started )+/call_started /r, 'call_started call_ringing', "$_ in order" for @rooms;
        ends($other);

        # The same name need not wait.
        my @again = map { "a$_" } 1 .. 6;
        my $before = requests();
        behave(map { $_ => ['hang'] } @again);
        $killed = start('one', TIMEOUT => 20, PARALLEL => 4);
        post('/hook', map { event('call_started', room => $_) } @again);
        ok wait_for(sub { requests() == $before + 4 }), 'again';
        $killed->kill;
        ok pending() > 0, '... it leaves something';
        my $same = start('one');
        all_arrived('the same name');
        ends($same);
    } ],

    [ 'side by side' => sub {
        # Waiting is not being dead.
        behave(waits => ['later'], slow => ['slow']);
        my @both = map { start($_, CLAIM => 6, TIMEOUT => 15) } qw(one two);
        post('/hook', map({ event('call_started', room => $_) } qw(waits slow)), map { event('call_started', room => "s$_") } 1 .. 80);
        all_arrived('both');
        my %tries;
        $tries{ $_->{headers}{'webhook-id'} }++ for requests();
        is_deeply [ sort { $a <=> $b } values %tries ], [ (1) x 81, 2 ], 'each once, but for the one that failed';
        my @waits = requests_of('waits');
        cmp_ok $waits[1]{at} - $waits[0]{at}, '>=', 11.9, '... which nobody took over while it waited';
        is_deeply [ consumers() ], [qw(one two)], 'there were two';
        ends($_) for @both;
    } ],

    [ 'SIGTERM' => sub {
        behave(slow => ['slow'], waits => [ (500) x 9 ]);
        my $forwarder = start('one', TIMEOUT => 20);
        post('/hook', event('call_started', room => 'waits'), event('call_started', room => 'slow'));
        ok wait_for(sub { requests_of('slow') && requests_of('waits') }), 'a request is on its way';
        ends($forwarder);
        is pending(), 1, '... it was finished, and what has failed is pending';
        is_deeply [ consumers() ], ['one'], '... by the name';
        behave();
        $forwarder = start('one');
        all_arrived('the rest');
        is scalar(requests_of('slow')), 1, '... and the other one not again';
        ends($forwarder);
    } ],

    [ 'Redis' => sub {
        my $forwarder = start('one', CLAIM => 3);
        post('/hook', event('call_started', room => 'before'));
        all_arrived('before');

        # It goes while a request is on its way: what was taken is not sent again.
        behave(during => ['slow']);
        $forwarder->stop;
        $forwarder = start('one', CLAIM => 30, TIMEOUT => 10);
        post('/hook', event('call_started', room => 'during'));
        ok wait_for(sub { requests_of('during') }), 'a request is on its way';
        $redis->stop;
        my $until = Time::HiRes::time() + 3;
        ok wait_for(sub { Time::HiRes::time() > $until }), 'Redis is unreachable meanwhile';
        $redis->restart;
        $admin = $redis->client;
        ok wait_for(sub { defined(($admin->try_cmd('DBSIZE'))[0]) }), '... and has loaded its data then';
        post('/hook', event('call_started', room => 'after'));
        ok wait_for(sub { messages() == 3 }), '... which nginx adds to';
        all_arrived('after a restart');
        is scalar(requests_of('during')), 1, '... each once';

        # All is lost.
        $admin->cmd('FLUSHALL');
        spew($log, '');
        post('/hook', event('call_started', room => 'new'));
        all_arrived('the group is created again');

        # Entries that leave the stream before their next try.
        behave(trimmed => [ (500) x 9 ]);
        post('/hook', event('call_started', room => 'trimmed'));
        ok wait_for(sub { requests_of('trimmed') }), 'a message waits';
        my $id = $admin->cmd(XREVRANGE => $STREAM, '+', '-', 'COUNT', 1)->[0][0];
        $admin->cmd(XDEL => $STREAM, $id);
        ok wait_for(sub { $forwarder->err =~ /^$id left the stream before it was forwarded$/m }), '... that it has left the stream is told'
            or diag $forwarder->err;
        ok wait_for(sub { pending() == 0 }), '... and settled';
        ends($forwarder);

        # And those of an instance that has exited.
        behave(left => ['hang']);
        $forwarder = start('one', TIMEOUT => 20);
        post('/hook', event('call_started', room => 'left'));
        ok wait_for(sub { requests_of('left') }), 'another one';
        $forwarder->kill;
        $id = $admin->cmd(XREVRANGE => $STREAM, '+', '-', 'COUNT', 1)->[0][0];
        $admin->cmd(XDEL => $STREAM, $id);
        my $other = start('two', CLAIM => 1);
        ok wait_for(sub { $other->err =~ /^$id left the stream/m && pending() == 0 }), '... of an instance that is gone' or diag $other->err;
        post('/hook', event('call_started', room => 'then'));
        ok wait_for(sub { requests_of('then') }), 'it continues';

        # Refused for now.
        $admin->cmd('ACL', 'SETUSER', 'onward', '-xreadgroup');
        ok wait_for(sub { $other->err =~ /^Redis: .*permission/mi }), 'Redis refuses a command';
        $admin->cmd('ACL', 'SETUSER', 'onward', '+xreadgroup');
        post('/hook', event('call_started', room => 'allowed'));
        ok wait_for(sub { requests_of('allowed') && pending() == 0 }, 60), '... until it does not' or diag $other->err;

        # A master that was demoted.
        $admin->cmd('REPLICAOF', '127.0.0.1', 1);
        ok wait_for(sub { $other->err =~ /^Redis: .*read only replica/m }), 'a replica is told' or diag $other->err;
        $admin->cmd('REPLICAOF', 'NO', 'ONE');
        post('/hook', event('call_started', room => 'promoted'));
        ok wait_for(sub { requests_of('promoted') && pending() == 0 }, 60), '... and it continues at a master' or diag $other->err;
        ends($other);
    } ],

    [ 'an endpoint that is down' => sub {
        my $port = $endpoint->port;
        $endpoint->stop;
        my $forwarder = start('one', LONGEST => 2);
        post('/hook', map { call_path('outbound-answered/none', "d$_") } 1 .. 10);
        ok wait_for(sub { $forwarder->err =~ /^\S+ failed, try 2: /m }), 'it is tried';
        cmp_ok scalar(split /\n/, $forwarder->err), '<=', 15, '... without a line for each try';
        $endpoint = start_endpoint($port);
        all_arrived('it is up again');
        is events_of("d$_"), join(' ', map { /"event":"(\w+)"/ } call_path('outbound-answered/none', "d$_")), "d$_ in order" for 1 .. 10;
        ends($forwarder);
    } ],

    [ 'ids' => sub {
        my %ids = (
            plain => 'msg_1/0', blank => 'a b', breaks => "a\r\nX-Evil: 1", long => 'x' x 201, wide => "\x{928}", none => undef, number => 17,
        );
        my $forwarder = start('one');
        my %entry;
        for my $name (sort keys %ids) {
            $entry{$name} = $admin->cmd(XADD => $STREAM, '*', message => $json->encode(
                { defined $ids{$name} ? (id => $ids{$name}) : (), room_name => $name, event => 'x',
                    payload => { n => Math::BigInt->new('9' x 5000) } }));
        }
        ok wait_for(sub { requests() == keys %ids && pending() == 0 }), 'all arrive' or diag $forwarder->err;
        my %got = map { $_->{room} => $_->{headers}{'webhook-id'} } requests();
        my $digest = sub ($id) { utf8::encode($id); 'sha256-' . sha256_hex($id) };
        is_deeply \%got, {
            plain => 'msg_1/0', map({ $_ => $digest->($ids{$_}) } qw(blank breaks long wide)), map { $_ => $entry{$_} } qw(none number),
        }, 'those that are no header have a digest, none that of the entry';
        is scalar(grep { !$_->{good} } requests()), 0, '... with good signatures';
        ends($forwarder);
    } ],

    [ 'addresses' => sub {
        # A name of two addresses, of which the first one takes no connection: its queue is full.
        my $port = $endpoint->port;
        my $dead = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.2:$port", ReuseAddr => 1) or die "listen: $@\n";
        my @full = map { IO::Socket::INET->new(PeerAddr => "127.0.0.2:$port", Blocking => 0) } 1 .. 5;
        my $dir = tmpdir();
        spew("$dir/sitecustomize.py", <<'END');
import socket
real = socket.getaddrinfo
def found(host, port, *more, **options):
    if host != "two.test":
        return real(host, port, *more, **options)
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1")]
socket.getaddrinfo = found
END
        spew("$dir/lookup.js", <<'END');
const dns = require('node:dns');
const real = dns.lookup;
dns.lookup = (host, options, done) => {
  if (host !== 'two.test') return real(host, options, done);
  const found = ['127.0.0.2', '127.0.0.1'].map((address) => ({ address, family: 4 }));
  return process.nextTick(() => (options.all ? done(null, found) : done(null, found[0].address, 4)));
};
END
        my $forwarder = start('one', ENDPOINT => "http://two.test:$port/hook", TIMEOUT => 9,
            PYTHONPATH => $dir, NODE_OPTIONS => "--require $dir/lookup.js");
        post('/hook', event('call_started', room => 'two'));
        all_arrived('the second address');
        unlike $forwarder->err, qr/timed out/, '... within the time of one request' or diag $forwarder->err;
        ends($forwarder);

        # One that is in no net; without a port, its last part must not be taken for it.
        $forwarder = start('one', ENDPOINT => 'http://[2001:db8::beef]/hook');
        post('/hook', event('call_started', room => 'v6'));
        ok wait_for(sub { $forwarder->err =~ /^\S+ failed, try 1: (.*); again/m }), 'IPv6' or diag $forwarder->err;
        like $forwarder->err, qr/try 1: (?:timed out|.*unreachable|.*assign|.*not supported|E[A-Z]+);/i, '... is tried';
        ends($forwarder);
    } ],

    [ 'TLS' => sub {
        state $ca = Vaani::Test::Certificates->new('ca');
        state $pair = $ca->issue('endpoint', san => 'DNS:localhost');
        my $front = Vaani::Test::Nginx->start(http => <<"CONF");
            server {
                listen 127.0.0.1:%%PORT%% ssl;
                ssl_certificate     $pair->{cert};
                ssl_certificate_key $pair->{key};
                client_max_body_size 8m;
                location / { proxy_pass http://127.0.0.1:@{[ $endpoint->port ]}; }
            }
CONF
        my $url = sub ($host) { "https://$host:" . $front->port . '/hook' };
        my $trust = $file =~ /js$/ ? 'NODE_EXTRA_CA_CERTS' : 'SSL_CERT_FILE';
        post('/hook', event('call_started', room => 'tls'));

        for my $case ([ 'a CA that is not known', $url->('localhost') ], [ 'another name', $url->('127.0.0.1'), $trust => $ca->file ]) {
            my ($name, $where, @trust) = @$case;
            my $forwarder = start('one', ENDPOINT => $where, @trust);
            ok wait_for(sub { $forwarder->err =~ /^\S+ failed, try \d+: .*(?:certificate|CERT|ALTNAME|ISSUER|VERIFY)/m }), $name or diag $forwarder->err;
            is scalar(requests()), 0, '... and nothing is sent';
            ends($forwarder);
        }
        my $forwarder = start('one', ENDPOINT => $url->('localhost'), $trust => $ca->file);
        all_arrived('over TLS');
        ends($forwarder);
    } ],

    [ 'mistakes' => sub {
        my ($program, $path) = command($file);
        for my $case (
            [ qr/ENDPOINT must be a URL|ENDPOINT is no URL/, ENDPOINT => '' ], [ qr/ENDPOINT must be a URL/, ENDPOINT => 'crm.example.com' ],
            [ qr/ENDPOINT must be a URL/, ENDPOINT => 'ftp://crm.example.com/' ],
            [ qr/ENDPOINT must have no user/, ENDPOINT => 'https://user:token-of-the-path@crm.example.com/' ],
            [ qr/SECRET_FILE must name a file/, SECRET_FILE => '' ], [ qr/SECRET_FILE cannot be read/, SECRET_FILE => '/nowhere' ],
            [ qr/SECRET_FILE has no secret/, SECRET_FILE => secret_file('empty', "# none\n") ],
            [ qr/SECRET_FILE, line 2: expected whsec_/, SECRET_FILE => secret_file('bare', "\n" . token_secret() . "\n") ],
            [ qr/SECRET_FILE, line 1: expected whsec_/, SECRET_FILE => secret_file('no-base64', "whsec_" . token_secret() . "!\n") ],
            [ qr/SECRET_FILE, line 1: expected whsec_/, SECRET_FILE => secret_file('odd', 'whsec_' . 'A' x 25 . "\n") ],
            [ qr/SECRET_FILE, line 1: expected whsec_/, SECRET_FILE => secret_file('quoted', qq("$secret"\n)) ],
            [ qr/SECRET_FILE, line 1: the secret must have 16 bytes/, SECRET_FILE => secret_file('short', "whsec_c2hvcnQ=\n") ],
            [ qr/TIMEOUT must be a number/, TIMEOUT => '10s' ], [ qr/TRIES must be a number/, TRIES => 0 ], [ qr/HOLD must be/, HOLD => 'nan' ],
            [ qr/REDIS_URL must be a URL/, REDIS_URL => 'nonsense://token-of-the-path' ],
            [ qr/REDIS_URL must be a URL/, REDIS_URL => 'redis://token-of-the-path@127.0.0.1?nonsense=1' ],
        ) {
            my ($regex, %change) = @$case;
            next if $file =~ /js$/ && ($change{REDIS_URL} // '') =~ /\?/;    # ioredis ignores them
            local @ENV{qw(ENDPOINT SECRET_FILE REDIS_URL)} = ('http://127.0.0.1:1/', $secret_file, 'redis://127.0.0.1:1');
            local @ENV{ keys %change } = values %change;
            my ($exit, $out, $error) = run([ $program, $path ]);
            is $exit, 2, join ' ', 'refused:', %change;
            like $error, qr/^onward: $regex/, '... with the reason';
            is scalar(split /\n/, $error), 1, '... in one line' or diag $error;
            unlike $error, qr/token-of-the-path/, '... and no secret';
        }
    } ],
);

for my $example (split ' ', $ENV{ONWARD} // 'onward/onward.py onward/onward.js') {
    for my $scenario (@SCENARIOS) {
        my ($name, $code) = @$scenario;
        next if $ENV{SCENARIO} && $name !~ /$ENV{SCENARIO}/;
        subtest "$example: $name" => sub {
            begin($example);
            $code->();

            my $said = join '', map { $_->out, $_->err } @started;
            unlike $said, qr/$_/, "nothing of $_ was printed" for @PRIVATE;
            for (map { $_, s/^whsec_//r } $secret, $older) {
                ok index($said, $_) < 0, 'nor a secret';
            }
            unlike $said, qr/Traceback|^\s+at .*:\d+:\d+/m, 'no traceback';
            $_->kill for grep { $_->alive } @started;
            @started = ();
        };
    }
}

done_testing;
