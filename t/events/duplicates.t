# The same delivery again: recognized by its webhook-id, or else by its bytes.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP qw(decode_json);
use Time::HiRes ();
use Vaani::Test::Events;
use Vaani::Test::FakeRedis;
use Vaani::Test::HTTP qw(format_request);

use constant WORKERS => 4;
use constant CONNECTIONS => 50;

my $redis = Vaani::Test::Redis->start(acl => [qw(~events +xadd)]);

# Tells when nginx has sent an event.
my $relay = Vaani::Test::FakeRedis->start(
    on_connect => sub ($sock, $self, $n) {
        relay($sock, $redis->socket, up => sub ($bytes) {
            $self->report('sent') if $bytes =~ /EVALSHA/;
            return $bytes;
        });
    }
);

my $nginx = Vaani::Test::Nginx->start(workers => WORKERS, http => <<"CONF");
    vaani_redis @{[ $redis->url ]};
    vaani_redis_timeout 20s;
    large_client_header_buffers 4 16k;

    server {
        listen unix:%%SOCK%%;
        location = /vaani  { vaani_webhook; }
        location = /stream { vaani_webhook; vaani_stream events; vaani_ttl 90s; }
        location = /relay  { vaani_webhook; vaani_redis @{[ $relay->url ]}; }
        location = /pid    { return 200 \$pid; }
        location = /id     { vaani_webhook; vaani_delivery_id \$arg_id; }
        location = /id/two { vaani_webhook; vaani_delivery_id "\$arg_id/\$http_x_id"; }
        location = /off    { vaani_webhook; vaani_delivery_id ""; }
    }

    server {
        listen unix:%%SOCK%%;
        server_name outer;
        vaani_delivery_id \$http_x_id;
        location = /vaani  { vaani_webhook; }
        location = /id     { vaani_webhook; vaani_delivery_id \$http_x_other; }
        location = /off    { vaani_webhook; vaani_delivery_id ""; }
    }
CONF

my $http = $nginx->http;
my $client = $redis->client;

sub key ($room) { return "vaani:call:$room" }
sub now_ms () { return int(Time::HiRes::time() * 1000) }
sub seq ($room) { return $client->cmd('HGET', key($room), 'seq') }

# "ok", "duplicate", or what else there was.
sub answer ($response) {
    my $got = $response->status . ' ' . $response->body;
    return $got =~ /^200 \{"status":"(\w+)"(?:,"known":false)?\}\n\z/ ? $1 : $got;
}

sub post ($body, %headers) { return answer($http->post('/vaani', $body, %headers)) }

# Deliveries to one room: [ answer, comment, event, overrides ..., { headers } ].
sub deliveries ($name, @deliveries) {
    subtest $name => sub {
        my $room = new_room();
        my $seq = 0;

        for (@deliveries) {
            my ($expected, $comment, $event, @overrides) = @$_;
            my %headers = ref $overrides[-1] eq 'HASH' ? %{ pop @overrides } : ();

            # Of transfers of one millisecond the digest decides.
            my $now = now_ms();
            wait_for(sub { now_ms() > $now });

            is post(event($event, room => $room, @overrides), %headers), $expected, $comment;
            $seq++ if $expected eq 'ok';
            is seq($room), $seq, "... seq $seq" if $seq;
        }
    };
}

sub id ($id) { return { 'webhook-id' => $id } }

# --- with an id

deliveries 'an id' => (
    [ ok        => 'first',                      call_ringing => id('msg_1') ],
    [ duplicate => 'at once',                    call_ringing => id('msg_1') ],
    [ ok        => 'another event',              user_picked_up_at => id('msg_2') ],
    [ duplicate => 'after it',                   call_ringing => id('msg_1') ],
    [ duplicate => 'with another body',          call_ringing => x => 1, id('msg_1') ],
    [ ok        => 'an equal body, another id',  call_ringing => id('msg_3') ],
    [ ok        => 'and another one',            call_ringing => id('MSG_3') ],
    [ ok        => 'the end',                    call_ended => id('msg_4') ],
    (map { [ duplicate => "$_ again", call_ringing => id($_) ] } qw(msg_1 msg_3 MSG_3)),
    [ duplicate => 'the name in capitals',       call_ended => { 'WEBHOOK-ID' => 'msg_4' } ],
    [ duplicate => 'as the specification has it', call_ended => { 'Webhook-Id' => 'msg_4' } ],
);

deliveries 'an id, transfers' => (
    [ ok        => 'first',                     human_transfer_initiated => id('msg_1') ],
    [ duplicate => 'at once',                   human_transfer_initiated => id('msg_1') ],
    [ ok        => 'an equal body, another id', human_transfer_initiated => id('msg_2') ],
    [ ok        => 'its outcome',               human_transfer_failed => id('msg_3') ],
    [ duplicate => 'after the outcome',         human_transfer_initiated => id('msg_1') ],
    [ ok        => 'again',                     human_transfer_initiated => id('msg_4') ],
    [ duplicate => 'the outcome, late',         human_transfer_failed => id('msg_3') ],
);

deliveries 'with and without an id' => (
    [ ok        => 'with one',                          call_ringing => id('msg_1') ],
    [ duplicate => 'an equal body without',             call_ringing => ],
    [ ok        => 'an equal body with another one',    call_ringing => id('msg_2') ],
    [ duplicate => 'the first one',                     call_ringing => id('msg_1') ],
    [ ok        => 'another body with one',             call_ringing => x => 1, id('msg_3') ],
    [ duplicate => 'the first body without: it is still known', call_ringing => ],
    [ duplicate => 'and again',                         call_ringing => ],
    [ ok        => 'without one',                       user_picked_up_at => ],
    [ ok        => 'an equal body with one',            user_picked_up_at => id('msg_4') ],
    [ duplicate => 'and without',                       user_picked_up_at => ],
    [ duplicate => 'and with',                          user_picked_up_at => id('msg_4') ],
    [ duplicate => 'an empty id is none',               user_picked_up_at => id('') ],
    [ ok        => 'a transfer with one',               human_transfer_initiated => id('msg_5') ],
    [ duplicate => 'without',                           human_transfer_initiated => ],
    [ ok        => 'its outcome without',               human_transfer_failed => ],
    [ duplicate => 'the transfer with its id',          human_transfer_initiated => id('msg_5') ],
    [ duplicate => '... has changed nothing',           human_transfer_failed => ],
);

subtest 'ids are those of a room' => sub {
    my @rooms = map { new_room() } 1, 2;
    is post(event('call_ringing', room => $_), 'webhook-id' => 'msg_1'), 'ok', $_ for @rooms;
    is post(event('call_ringing', room => $_), 'webhook-id' => 'msg_1'), 'duplicate', "$_ again" for @rooms;
};

subtest 'any id will do' => sub {
    my $room = new_room();
    my @ids = ('x', 'x ' . 'y', '*', '1', '0', "_id:x\x7f", qq("'\\{}), "\xff\xfe", 'a' x 8000, 'a' x 7999 . 'b');
    is post(event('call_ringing', room => $room), 'webhook-id' => $_), 'ok', 'first: ' . substr $_, 0, 20 for @ids;
    is post(event('call_ringing', room => $room), 'webhook-id' => $_), 'duplicate', 'again: ' . substr $_, 0, 20
        for @ids;
    is seq($room), scalar @ids, 'as many transitions';

    # A client's values must not make the call's fields long.
    my ($longest) = sort { $b <=> $a } map { length } keys %{ $client->hgetall(key($room)) };
    cmp_ok $longest, '<', 64, 'no long field';
};

# --- without

deliveries 'equal bytes' => (
    [ ok        => 'first',                  call_ringing => ],
    [ duplicate => 'at once',                call_ringing => ],
    [ ok        => 'another event',          user_picked_up_at => ],
    [ duplicate => 'after it',               call_ringing => ],
    [ ok        => 'another space',          call_ringing => status => \' "ringing"' ],
    [ duplicate => '... again',              call_ringing => status => \' "ringing"' ],
    [ ok        => 'one more member',        call_ringing => x => undef ],
    [ ok        => 'another escape',         call_ringing => status => \'"ring\u0069ng"' ],
    [ duplicate => 'the first one is still known', call_ringing => ],
    [ duplicate => '... again',              call_ringing => ],
    [ duplicate => 'of the other event the last is still the last', user_picked_up_at => ],
    [ ok        => 'the end',                call_ended => ],
    [ duplicate => 'one from before it',     call_ringing => ],
);

# As many of a kind are remembered.
deliveries 'the latest 16 bodies' => (
    (map { [ ok => "body $_", call_ringing => x => $_ ] } 1 .. 16),
    (map { [ duplicate => "body $_ again", call_ringing => x => $_ ] } 1 .. 16),
    [ ok        => 'another kind',              call_ended => x => 1 ],
    [ duplicate => 'the first one is known',    call_ringing => x => 1 ],
    [ ok        => 'one more',                  call_ringing => x => 17 ],
    (map { [ duplicate => "body $_ again", call_ringing => x => $_ ] } 2 .. 17),
    [ ok        => 'the first one is forgotten', call_ringing => x => 1 ],
);

deliveries 'transfers: only the latest one counts' => (
    [ ok        => 'first',                             human_transfer_initiated => ],
    [ duplicate => 'at once',                           human_transfer_initiated => ],
    [ ok        => 'another event',                     user_picked_up_at => ],
    [ duplicate => 'still the latest transfer event',   human_transfer_initiated => ],
    [ ok        => 'its outcome',                       human_transfer_failed => ],
    [ duplicate => 'at once',                           human_transfer_failed => ],
    [ ok        => 'an equal body is a new attempt',    human_transfer_initiated => ],
    [ ok        => 'with an equal outcome',             human_transfer_failed => ],
    [ ok        => 'another number',                    human_transfer_failed => phone_number => '+1' ],
    [ ok        => 'the former number',                 human_transfer_failed => ],
    [ ok        => 'the end',                           call_ended => ],
    [ duplicate => 'still the latest transfer event',   human_transfer_failed => ],
    [ ok        => 'successful',                        human_transfer_successful => ],
    [ ok        => 'no longer the latest',              human_transfer_failed => ],
);

subtest 'bodies are compared within a room' => sub {
    my @rooms = map { new_room() } 1, 2;
    for my $event (qw(call_ended human_transfer_initiated)) {
        is post(event($event, room => $_)), 'ok', "$event in $_" for @rooms;
        is post(event($event, room => $_)), 'duplicate', "... again" for @rooms;
    }
};

subtest 'an unknown event is never a duplicate: it is no transition' => sub {
    my $room = new_room();
    my $subscriber = $redis->client->subscribe("vaani:room:$room");
    is post(event('brand_new', room => $room), %$_), 'ok', 'delivered' for {}, {}, id('msg_1'), id('msg_1');
    is scalar($subscriber->next_messages(4)), 4, 'published each time';
    is_deeply $client->hgetall(key($room)), {}, 'nothing kept';
};

# --- vaani_delivery_id

subtest 'vaani_delivery_id' => sub {
    my $room = new_room();
    my $seq = 0;
    my $is = sub ($uri, $expected, $name, %headers) {
        is answer($http->post($uri, event('call_ringing', room => $room, x => ++$seq), %headers)), $expected, $name;
    };
    my @outer = (Host => 'outer');

    $is->('/id?id=a', 'ok', 'a variable');
    $is->('/id?id=a', 'duplicate', '... the same', 'webhook-id' => 'b');
    $is->('/id?id=b', 'ok', '... another one');
    $is->('/vaani', 'duplicate', 'the default: the header', 'webhook-id' => 'a');
    $is->('/id', 'ok', 'a variable without a value: no id', 'webhook-id' => 'c');
    $is->('/vaani', 'ok', '... nor was it the header', 'webhook-id' => 'c');
    $is->('/id/two?id=a', 'ok', 'text and variables', 'x-id' => 'b');
    $is->('/id/two?id=a', 'duplicate', '... the same', 'x-id' => 'b');
    $is->('/id/two?id=a', 'ok', '... another one', 'x-id' => 'c');
    $is->('/vaani', 'ok', 'inherited', @outer, 'x-id' => 'inherited');
    $is->('/vaani', 'duplicate', '... the same', @outer, 'x-id' => 'inherited');
    $is->('/vaani', 'ok', '... not the header', @outer, 'webhook-id' => 'inherited 2', 'x-id' => 'inherited 3');
    $is->('/vaani', 'ok', '... indeed', 'webhook-id' => 'inherited 2');
    $is->('/id', 'ok', 'replaced', @outer, 'x-id' => 'inherited', 'x-other' => 'other');
    $is->('/id', 'duplicate', '... the same', @outer, 'x-other' => 'other');
    $is->('/off', 'ok', 'an empty value switches it off', @outer, 'x-id' => 'inherited', 'webhook-id' => 'a');
    $is->('/off', 'ok', '... also without an outer one', 'webhook-id' => 'a');

    my $body = event('call_ringing', room => $room, x => 'body');
    is answer($http->post('/off', $body, 'webhook-id' => $_ )), $_ == 1 ? 'ok' : 'duplicate', "... bodies are compared ($_)"
        for 1 .. 3;

    # Of the request, not of the body: one that has none of it.
    is answer($http->post('/id?id=' . 'x' x 5000, event('call_ringing', room => $room, x => 'long'))), 'ok', 'a long one';
    my ($longest) = sort { $b <=> $a } map { length } keys %{ $client->hgetall(key($room)) };
    cmp_ok $longest, '<', 64, '... makes no long field';
};

# --- a duplicate has no effect

for my $case ([ 'without an id' ], [ 'with an id', 'webhook-id' => 'msg_1' ]) {
    my ($name, %headers) = @$case;

    subtest "no effect $name" => sub {
        for my $event (@EVENTS) {
            my $room = new_room();
            my $body = event($event, room => $room);
            my $subscriber = $redis->client->psubscribe('*');
            $client->cmd('DEL', 'events');

            is answer($http->post('/stream', $body, %headers)), 'ok', $event;
            is scalar($subscriber->next_messages(2)), 2, '... published';
            $client->cmd('PEXPIRE', key($room), 50_000);
            my $hash = $client->hgetall(key($room));

            # In the same millisecond nothing would be seen of a changed time.
            my $later = now_ms() + 2;
            wait_for(sub { now_ms() >= $later });

            is answer($http->post('/stream', $body, %headers)), 'duplicate', '... again';
            my $after = $client->hgetall(key($room));

            # Without an id, when it came again is remembered: what is received in
            # between may come later, and makes it a new attempt.
            delete $_->{_transfers} for !%headers && $event =~ /transfer/ ? ($hash, $after) : ();
            is_deeply $after, $hash, '... the hash is the same';
            cmp_ok $client->cmd('PTTL', key($room)), '<=', 50_000, '... its expiry, too';
            is $client->cmd('XLEN', 'events'), 1, '... the stream, too';

            # Had anything been published, it would come before this.
            $client->cmd('PUBLISH', 'end', 'of this');
            is $subscriber->next_message->{channel}, 'end', '... nothing is published';
        }
    };
}

# --- a delivery whose sender did not wait for the answer

subtest 'the sender gives up, and sends it again' => sub {
    for my $event (qw(call_ended human_transfer_initiated)) {
        my $room = new_room();
        my $body = event($event, room => $room);

        $redis->suspend;
        my $impatient = $nginx->http;
        $impatient->send_raw(join '', format_request(method => 'POST', uri => '/relay', body => $body));
        is $relay->next_report, 'sent', "$event is sent to Redis";
        $impatient->close;
        $redis->resume;

        ok wait_for(sub { seq($room) }), '... and applied';
        is post($body), 'duplicate', '... once';
        is seq($room), 1, '... seq 1';
    }
};

# --- many at once

# As many connections with each worker, whatever the kernel thinks of it: while
# the others are stopped, one worker accepts.
my @workers = $nginx->worker_pids;
is @workers, WORKERS, 'the workers';

sub stop_workers (@pids) {
    kill STOP => @pids;
    for my $pid (@pids) {
        wait_for(sub { slurp("/proc/$pid/stat") =~ /\) T [^)]*\z/ }) or die "worker $pid does not stop\n";
    }
    return;
}

my @connections;
for my $worker (@workers) {
    my @others = grep { $_ != $worker } @workers;
    stop_workers(@others);

    while (@connections < CONNECTIONS / WORKERS * (1 + grep { $workers[$_] < $worker } 0 .. $#workers)) {
        my $connection = $nginx->http(retry => 0);
        push @connections, $connection;
        $connection->get('/pid')->body == $worker or die "not accepted by $worker\n";
    }
    kill CONT => @others;
}

# All requests are there before any worker goes on.
sub at_once (@requests) {
    stop_workers(@workers);
    for my $n (0 .. $#requests) {
        $connections[$n]->send_raw(join '', format_request(method => 'POST', uri => '/vaani', %{ $requests[$n] }));
    }
    kill CONT => @workers;

    my %answers;
    $answers{ answer($connections[$_]->read_response) }++ for 0 .. $#requests;
    return \%answers;
}

subtest 'the same delivery over many connections at once applies once' => sub {
    is @connections, CONNECTIONS, 'connections';

    for my $case (
        (map { [ $_ ] } @EVENTS),
        (map { [ $_, 'webhook-id' => 'msg_1' ] } qw(call_started human_transfer_initiated call_postprocessing)),
    ) {
        my ($event, %headers) = @$case;
        my $room = new_room();
        my $subscriber = $redis->client->subscribe("vaani:room:$room");

        my $answers = at_once(({ body => event($event, room => $room), headers => \%headers }) x CONNECTIONS);

        is_deeply $answers, { ok => 1, duplicate => CONNECTIONS - 1 }, "$event @{[ %headers ]}";
        is seq($room), 1, '... seq 1';
        $client->cmd('PUBLISH', "vaani:room:$room", 'end');
        is scalar(grep { $_->{payload} ne 'end' } $subscriber->next_messages(2)), 1, '... published once';
    }
};

subtest 'different deliveries over many connections at once apply all' => sub {
    for my $event (qw(call_ringing human_transfer_failed)) {
        my $room = new_room();
        my $subscriber = $redis->client->subscribe("vaani:room:$room");

        my $answers = at_once(map {
            { body => event($event, room => $room), headers => { 'webhook-id' => "msg_$_" } }
        } 1 .. CONNECTIONS);

        is_deeply $answers, { ok => CONNECTIONS }, $event;
        is seq($room), CONNECTIONS, '... seq';
        is_deeply [ map { decode_json($_->{payload})->{seq} } $subscriber->next_messages(CONNECTIONS) ],
            [ 1 .. CONNECTIONS ], '... published in order';
        is $client->cmd('HGET', key($room), 'transfers_failed'), CONNECTIONS, '... counted'
            if $event =~ /transfer/;
    }
};

subtest 'each of two deliveries many times at once' => sub {
    my $room = new_room();
    my @bodies = map { event('call_ended', room => $room, call_duration => $_) } 1, 2;

    # Without ids they may replace each other; with ids each one counts once.
    my $answers = at_once(map {
        { body => $bodies[ $_ % 2 ], headers => { 'webhook-id' => $_ % 2 } }
    } 1 .. CONNECTIONS);

    is_deeply $answers, { ok => 2, duplicate => CONNECTIONS - 2 }, 'both apply once';
    is seq($room), 2, '... seq 2';
};

done_testing;
