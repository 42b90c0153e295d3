# The order in which deliveries are applied does not change what a call becomes
# (section 3 of the contract): every permutation of every documented call path, in
# every form of delivery, with the times of receipt as they are, each delivery
# repeated at any time.
#
# A path of nine events has 362,880 permutations, but few different hashes on
# the way: what a delivery does depends on the hash alone. So t/calls/walk.c
# explores the graph of the states, with the script in a real Redis. A state is
# the set of deliveries that were applied and the whole hash, with the module's
# own "_" fields. From each state each delivery is applied: one that is missing,
# and then again, and one that is not, which must change nothing. Every
# permutation is a way through this graph, so if it has one end, all permutations
# end equal.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP qw(decode_json encode_json);
use List::Util qw(shuffle);
use Vaani::Test::Events;

use constant CONNECTIONS => 16;
use constant START => 1_790_000_000_000;    # receipt of the first event, Unix time in ms

my $walk = $ENV{VAANI_WALK} // ROOT . '/build/walk';

my $redis = Vaani::Test::Redis->start(config => [ 'user default on nopass ~* &* +@all' ]);

# --- bodies in the forms of today

my %FORMS = (
    flat    => sub ($event, $room, $fields) {
        return { event => $event, room_name => $room, %$fields };
    },
    data    => sub ($event, $room, $fields) {
        return {
            event => $event, call_id => $room, timestamp => '2026-10-09T07:34:23.281718+00:00',
            data  => { room_name => $room, call_id => $room, %$fields },
        };
    },
    call_id => sub ($event, $room, $fields) {
        return { event => $event, call_id => $room, data => { call_id => $room, %$fields } };
    },
);

my $json = JSON::PP->new->canonical;

# Of the bodies of a path, in another form.
sub in_form ($form, $room, @bodies) {
    return map {
        my %fields = %{ decode_json($_) };
        my $event = delete $fields{event};
        delete $fields{room_name};
        $json->encode($FORMS{$form}->($event, $room, \%fields));
    } @bodies;
}

# The duration of the post-processing, and the times of the sender: 42.5 s of talk.
my %UNITS = (ms => 42500, s => 42.5, none => undef);

my %TIMES = (
    call_dialing_at => '2026-10-09T07:31:00.000001+00:00', call_started_at => '2026-10-09T07:31:01Z',
    picked_up_at    => '2026-10-09T12:31:17.018012+05:00', call_ended_at => '2026-10-09T07:31:59.518',
);
my %TIME_FIELDS = (
    call_dialing_at => 1791531060000, call_started_at => 1791531061000,
    picked_up_at    => 1791531077018, call_ended_at => 1791531119518,
);

sub change ($body, $changes) {
    my $event = decode_json($body);
    my $fields = $event->{data} // $event;
    for my $field (keys %$changes) {
        defined $changes->{$field} ? ($fields->{$field} = $changes->{$field}) : delete $fields->{$field};
    }
    return $json->encode($event);
}

# Runs the walk over [ name, [ received_at, id or undef, body ] ... ]; returns
# { name => { states, applied, ends => [ hash ... ] } } and what was wrong.
sub walk (@paths) {
    my $input = join '', map {
        my ($name, @deliveries) = @$_;
        "path $name\n"
            . join('', map { join(' ', $_->[0], $_->[1] // '-', $_->[2]) . "\n" } @deliveries)
            . "end\n";
    } @paths;

    my $file = tmpdir() . '/paths';
    spew($file, $input);

    my @lines = `'$walk' '@{[ $redis->socket ]}' < '$file'`;
    is $?, 0, 'the walk ended' or diag @lines;

    my (%walked, $path, @wrong);
    for (@lines) {
        chomp;
        if (/^path (\S+) (\d+) (\d+)$/) {
            $path = $walked{$1} = { states => $2, applied => $3, ends => [] };
        } elsif (s/^end //) {
            push @{ $path->{ends} }, decode_json($_);
        } else {
            push @wrong, $_;
        }
    }
    return (\%walked, @wrong);
}

sub visible ($hash) {
    return { map { /^_/ ? () : ($_ => $hash->{$_}) } keys %$hash };
}

# --- what the hash is in the end

my %ALWAYS = (
    status           => 'ended',
    end_reason       => 'AGENT_REQUESTED_DISCONNECT',
    transcript       => 'User: Hello. Agent: Hi, how can I help you? ...',
    summary          => 'Customer called to inquire about service availability in Mumbai.',
    entities         => '{"intent":"service_inquiry","location":"Mumbai"}',
    recording_url    => 'https://storage.vaani.ai/recordings/call_123.mp3',
    postprocessed    => 1,
);

my %CALLS = (
    'outbound-answered' => {
        seq => 5, outcome => 'completed', direction => 'outbound', phone_number => '+1234567890',
    },
    'rejected' => {
        seq => 5, outcome => 'rejected', direction => 'outbound', phone_number => '+1234567890',
    },
    'no-answer' => {
        seq => 5, outcome => 'no_answer', direction => 'outbound', phone_number => '+1234567890',
    },
    'failed' => {
        seq => 4, outcome => 'failed', direction => 'outbound', phone_number => '+1234567890',
        error => 'SIP_404_NOT_FOUND',
    },
    'inbound' => {
        seq => 4, outcome => 'completed',
    },
);

my %TRANSFERS = (
    'none' => {
        events => 0,
    },
    'transfer-failed' => {
        events => 2,
        transfer_status => 'failed', transfer_type => 'warm', transfer_phone_number => '+919876543210',
        transfer_reason => 'busy', transfer_sip_status => 'busy',
        transfers_initiated => 1, transfers_successful => 0, transfers_failed => 1,
    },
    'transfer-successful' => {
        events => 2,
        transfer_status => 'successful', transfer_type => 'warm', transfer_phone_number => '+919876543210',
        transfer_agent_identity => 'human_agent_1712485300',
        transfers_initiated => 1, transfers_successful => 1, transfers_failed => 0,
    },
    'transfer-failed-then-successful' => {
        events => 4,
        transfer_status => 'successful', transfer_type => 'warm', transfer_phone_number => '+918888888888',
        transfer_agent_identity => 'human_agent_1712485300',
        transfers_initiated => 2, transfers_successful => 1, transfers_failed => 1,
    },
);

# The fields of a path in the end: those of the call, of its transfers, of the form.
sub expected ($path, $room, %more) {
    my ($call, $transfer) = split m{/}, $path;
    my %transfer = %{ $TRANSFERS{$transfer} };
    my $events = delete $transfer{events};

    return {
        %ALWAYS, room_name => $room, %{ $CALLS{$call} }, %transfer, seq => $CALLS{$call}{seq} + $events,
        call_duration_ms => 42500, last_event => 'call_postprocessing', %more,
    };
}

# Each a second after the one before it.
sub received (@bodies) {
    my $time = START;
    return map { [ ($time += 1000) - 1000, undef, $_ ] } @bodies;
}

sub receipts (@deliveries) {
    my %times = (created_at => $deliveries[0][0], updated_at => $deliveries[-1][0]);
    $times{"at:" . decode_json($_->[2])->{event}} //= $_->[0] for @deliveries;
    return %times;
}

subtest 'every permutation of every path in every form' => sub {
    my $start = now;
    my (@paths, %expected);

    my $add = sub ($path, $form, $unit, $times) {
        my $room = $path =~ /^inbound/ ? 'inbound-1784899978-36cec598' : 'room_123abc';
        my @bodies = in_form($form, $room, @{ $CALL_PATHS{$path} });
        $bodies[-1] = change($bodies[-1], { call_duration => $UNITS{$unit}, $times ? %TIMES : () });

        my $name = join '-', $path, $form, $unit, $times ? 'times' : ();
        my @deliveries = received(@bodies);
        push @paths, [ $name, @deliveries ];
        $expected{$name} = expected(
            $path, $room, receipts(@deliveries),
            $times ? %TIME_FIELDS : (),
            $path =~ /^inbound/ ? (direction => 'inbound') : (),
        );
    };

    for my $path (sort keys %CALL_PATHS) {
        my @forms = sort keys %FORMS;
        for my $form (@forms) {
            for my $unit (sort keys %UNITS) {
                for my $times (0, 1) {
                    # Transfers and the rest of a call do not touch each other: with
                    # them, each form, each unit, with and without times are enough.
                    next if $path !~ /none/ && "$form $unit $times" !~ /^(?:flat ms 0|data s 1|call_id none 1|call_id ms 0)$/;
                    $add->($path, $form, $unit, $times);
                }
            }
        }
    }

    my ($walked, @wrong) = walk(@paths);
    is_deeply \@wrong, [], 'no delivery that is repeated changes anything';

    my ($states, $applied) = (0, 0);
    for my $name (map { $_->[0] } @paths) {
        my @ends = @{ $walked->{$name}{ends} };
        is scalar(@ends), 1, "$name: one end";
        is_deeply visible($ends[0]), $expected{$name}, '... the right one';
        $states += $walked->{$name}{states};
        $applied += $walked->{$name}{applied};
    }

    note sprintf '%d paths, %d states, %d applications, %.1f s', scalar @paths, $states, $applied, now() - $start;
};

# --- what only some deliveries show

my $ROOM = 'room_x';

sub ended ($duration, %more) {
    return $json->encode({ event => 'call_ended', room_name => $ROOM, call_duration => $duration, %more });
}

sub processed ($duration, %more) {
    return $json->encode({
        event => 'call_postprocessing', call_id => $ROOM,
        data  => { defined $duration ? (call_duration => $duration) : (), transcript => 'x', %more },
    });
}

sub span ($seconds, $from = 'picked_up_at') {
    my $end = sprintf '2026-10-09T07:%02d:%06.3fZ', int($seconds / 60), $seconds - 60 * int($seconds / 60);
    return ($from => '2026-10-09T07:00:00Z', call_ended_at => $end);
}

# name => [ deliveries ], { fields in the end }. Without a time of its own a
# delivery is received a second after the one before it.
my @CASES = (
    # the unit of the duration
    [ 'seconds-by-ended', [ ended(1200), processed(1200) ], { call_duration_ms => 1200000 } ],
    [ 'ms-by-ended', [ ended(41), processed(41000) ], { call_duration_ms => 41000 } ],
    [ 'ms-alone', [ processed(41000) ], { call_duration_ms => 41000 } ],
    [ 'seconds-alone', [ processed(107.42) ], { call_duration_ms => 107420 } ],
    [ 'seconds-nobody-can-tell', [ processed(1200) ], { call_duration_ms => 1200 } ],
    [ 'short-talk-in-a-minute', [ processed(1500, span(60)) ], { call_duration_ms => 1500 } ],
    [ 'short-talk-and-ended', [ ended(60), processed(1500, span(60)) ], { call_duration_ms => 1500 } ],
    [ 'seconds-by-span', [ ended(7), processed(107.42, span(107.5)) ], { call_duration_ms => 107420 } ],
    [ 'span-from-started', [ processed(63.5, span(63.4, 'call_started_at')) ], { call_duration_ms => 63500 } ],
    [ 'both-readings-out', [ ended(42.5), processed(90_000_000, span(60)) ], { call_duration_ms => 42500 } ],
    [ 'both-out-span-left', [ processed(90_000_000, span(60)) ], { call_duration_ms => 60000 } ],
    [ 'no-duration-but-ended', [ ended(42.5), processed(undef, span(60)) ], { call_duration_ms => 42500 } ],
    [ 'no-duration-but-span', [ processed(undef, span(60)) ], { call_duration_ms => 60000 } ],
    [ 'no-span-backwards', [ processed(1500, picked_up_at => '2026-10-09T08:00:00Z',
        call_ended_at => '2026-10-09T07:00:00Z') ], { call_duration_ms => 1500 } ],
    [ 'ended-of-zero', [ ended(0), processed(1500) ], { call_duration_ms => 1500 } ],
    [ 'negative-is-left-out', [ ended(42.5), processed(-1) ], { call_duration_ms => 42500 } ],

    # numbers, reasons, directions
    [
        'sources',
        [
            $json->encode({ event => 'call_started', room_name => $ROOM, status => 'dialing', phone_number => '+1' }),
            ended(1, end_reason => 'first'), processed(1000, phone_number => '+2', end_reason => 'second'),
        ],
        { phone_number => '+1', end_reason => 'first', direction => 'outbound', call_duration_ms => 1000 },
    ],
    [
        'empty-sources',
        [
            $json->encode({ event => 'call_started', room_name => $ROOM, phone_number => '' }),
            ended(1, end_reason => ''), processed(1000, phone_number => '+2', end_reason => 'second'),
        ],
        { phone_number => '+2', end_reason => 'second', call_duration_ms => 1000 },
    ],
    [
        'call-type-before-evidence',
        [
            $json->encode({ event => 'call_ringing', room_name => $ROOM }),
            processed(1000, call_type => 'inbound_call', from => '+3'),
        ],
        { direction => 'inbound', phone_number => '+3', call_duration_ms => 1000 },
    ],

    # several bodies of a kind: each field has the value with the latest receipt
    [
        'two-postprocessings',
        [
            ended(5),
            processed(1000, summary => 'old', recording_url => 'r', phone_number => '+1', dispositions => { a => 1 }),
            processed(2000, summary => 'new', entities => { b => 2 }),
            processed(3000, summary => 'newest', phone_number => '+2'),
        ],
        {
            call_duration_ms => 3000, summary => 'newest', recording_url => 'r', phone_number => '+2',
            dispositions     => '{"a":1}', entities => '{"b":2}',
        },
    ],
    [
        'two-ended',
        [ ended(10, end_reason => 'a'), ended(20, end_reason => 'b'), processed(20) ],
        { call_duration_ms => 20000, end_reason => 'b' },
    ],
    [
        'statuses',
        [
            map { $json->encode({ event => 'call_started', room_name => $ROOM, status => $_ }) }
                qw(queued waiting parked)
        ],
        { status => 'parked' },
    ],

    # transfers: an equal body further on is a new attempt, a neighbour is not
    [
        'transfers-repeated',
        [ map { transfer($_) } qw(initiated failed initiated failed initiated successful) ],
        {
            transfer_status     => 'successful', transfers_initiated => 3, transfers_failed => 2,
            transfers_successful => 1, transfer_agent_identity => 'h', seq => 6,
        },
    ],
    [
        'transfers-neighbours',
        [ map { transfer($_) } qw(initiated initiated failed failed) ],
        { transfer_status => 'failed', transfers_initiated => 1, transfers_failed => 1, seq => 2 },
    ],
    [
        'transfers-split',
        [ map { transfer($_) } qw(initiated initiated failed initiated) ],
        { transfer_status => 'initiated', transfers_initiated => 2, transfers_failed => 1, seq => 3 },
    ],
    [
        'transfers-two-numbers',
        [
            transfer('initiated', '+A'), transfer('failed', '+B'), transfer('initiated', '+B'),
            transfer('successful', '+A'),
        ],
        {
            transfer_status      => 'successful', transfer_phone_number => '+A', transfers_initiated => 2,
            transfers_successful => 1, transfers_failed => 1, transfer_agent_identity => 'h', seq => 4,
        },
    ],
);

sub transfer ($what, $number = '+9') {
    return $json->encode({
        event => "human_transfer_$what", room_name => $ROOM, transfer_type => 'warm', phone_number => $number,
        $what eq 'successful' ? (agent_identity => 'h') : $what eq 'failed' ? (reason => 'busy') : (),
    });
}

subtest 'what only some deliveries show' => sub {
    my (@paths, %fields);

    for (@CASES) {
        my ($name, $bodies, $fields) = @$_;
        push @paths, [ $name, received(@$bodies) ];

        # Received in the same millisecond: the digests decide, whatever the order.
        push @paths, [ "$name-tied", map { [ START, undef, $_ ] } @$bodies ];

        # With ids each delivery is one of its own.
        my $n = 0;
        push @paths, [ "$name-ids", map { [ $_->[0], 'id' . ++$n, $_->[2] ] } received(@$bodies) ];

        $fields{$name} = $fields;
    }

    my ($walked, @wrong) = walk(@paths);
    is_deeply \@wrong, [], 'no delivery that is repeated changes anything';

    for my $name (map { $_->[0] } @paths) {
        my @ends = @{ $walked->{$name}{ends} };

        # A delivery that was received twice is one transition, whose receipt is
        # that of the one that was applied first.
        if ($name =~ /neighbours|split/) {
            delete @$_{ qw(updated_at last_event), grep { /^_/ } keys %$_ } for @ends;
            my %ends = map { ($json->encode($_) => $_) } @ends;
            @ends = values %ends;
        }

        is scalar(@ends), 1, "$name: one end";

        # Of equal neighbours with ids each counts; what ties end with is the
        # digests' affair.
        next if $name =~ /-tied$/ || $name =~ /(?:neighbours|split)-ids$/;
        my %expected = %{ $fields{ $name =~ s/-ids$//r } };
        my %got = map { ($_ => $ends[0]{$_}) } keys %expected;
        delete @expected{ grep { !defined $expected{$_} } keys %expected };
        delete @got{ grep { !exists $expected{$_} } keys %got };
        is_deeply \%got, \%expected, '... the right one';
    }
};

# --- calls with more attempts than a documented path has

# Through real HTTP. Numbers are tried again, also with equal bodies; events come in any order,
# and again: with an id at any time, else at once. Every call has its rules from
# this model, which keeps no more than what arrived.
my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    vaani_redis @{[ $redis->url ]};

    server {
        listen unix:%%SOCK%%;
        location = /vaani { vaani_webhook; vaani_prefix random; }
    }
CONF

my $client = $redis->client;

my %ANSWERS = map { ($_ => qq(200 {"status":"$_"}\n)) } qw(ok duplicate);

# [ body, headers ... ]: the answers are as they should be. Returns the number of
# wrong ones.
sub deliver ($answers, @deliveries) {
    my $wrong = 0;

    post_many(
        $nginx, '/vaani', [ map { $_->[0] } @deliveries ],
        connections => CONNECTIONS,
        headers     => sub ($i) { return [ @{ $deliveries[$i] }[ 1 .. $#{ $deliveries[$i] } ] ] },
        on_response => sub ($i, $response) {
            my $got = "$response->{status} $response->{body}";
            return if $got eq $ANSWERS{ $answers->[$i] };
            diag "$deliveries[$i][0]: $got, not $answers->[$i]" if !$wrong++;
        },
    );

    return $wrong;
}

sub key ($room) { return "random:call:$room" }

subtest 'random calls' => sub {
    my $seed = $ENV{VAANI_SEED} // 20231;
    srand $seed;
    note "seed $seed";

    my @calls = map { random_call($_) } 1 .. 200;
    my %wrong;

    # The next delivery of each call, so that the order within a call is known.
    while (my @busy = grep { @{ $_->{todo} } } @calls) {
        my (@deliveries, @answers);

        for my $call (@busy) {
            my $delivery = shift @{ $call->{todo} };
            my @headers = defined $delivery->{id} ? ('webhook-id' => $delivery->{id}) : ();
            push @deliveries, [ $delivery->{body}, @headers ];
            push @answers, receive($call, $delivery);
        }

        $wrong{answers} += deliver(\@answers, @deliveries);

        my @hashes = map { { @$_ } } $client->pipeline(map { [ 'HGETALL', key($_->{room}) ] } @busy);
        for my $n (0 .. $#busy) {
            my @problems = compare($busy[$n], $hashes[$n]) or next;
            diag "$busy[$n]{room} at " . @{ $busy[$n]{received} } . ": @problems" if !$wrong{hashes}++;
        }
    }

    is $wrong{$_} // 0, 0, "$_ as the model says (seed $seed)" for qw(answers hashes);

    my @transfers = map { grep { $_->{transfer} } @{ $_->{received} } } @calls;
    cmp_ok scalar(@transfers), '>', 1000, scalar(@transfers) . ' transfer events';
    my @statuses = map { my $call = $_; transfer_status($call) } @calls;
    for my $status (qw(initiated successful failed)) {
        my $n = grep { $_ eq $status } @statuses;
        cmp_ok $n, '>', 5, "$n calls are $status in the end";
    }
};

my $ids = 0;

sub random_call ($n) {
    my $room = "random-$n";
    my @base = (qw(outbound-answered rejected no-answer failed inbound))[ rand 5 ];
    my @bodies = call_path("$base[0]/none", $room);

    my @numbers = map { "+9$_" } 1 .. 1 + rand 3;
    for (1 .. 1 + rand 6) {
        my $number = $numbers[ rand @numbers ];
        push @bodies, event('human_transfer_initiated', room => $room, phone_number => $number);

        # Some outcomes never come, some come alone; some are all their own.
        pop @bodies if rand() < 0.1;
        next if rand() < 0.15;
        my $outcome = rand() < 0.7 ? 'failed' : 'successful';
        push @bodies, event("human_transfer_$outcome", room => $room, phone_number => $number,
            rand() < 0.3 ? ($outcome eq 'failed' ? 'reason' : 'agent_identity', 'x' . int rand 1000) : ());
    }

    @bodies = shuffle(@bodies) if rand() < 0.9;

    my $with_ids = $n % 3;    # 0: no ids, 1: always, 2: mixed
    my @todo;
    for my $body (@bodies) {
        my $id = $with_ids == 1 || ($with_ids == 2 && rand() < 0.5) ? 'msg_' . ++$ids : undef;
        push @todo, { body => $body, id => $id };
    }

    # Again: at once, or, with an id, anywhere behind it.
    for (my $i = 0; $i < @todo; $i++) {
        next if rand() > 0.25 || $todo[$i]{again};
        my $at = $i + 1 + (defined $todo[$i]{id} ? int rand(@todo - $i) : 0);
        splice @todo, $at, 0, { %{ $todo[$i] }, again => 1 };
    }

    return { room => $room, todo => \@todo, received => [], ids => {}, last => {} };
}

# The expected answer; an applied event is added to received.
sub receive ($call, $delivery) {
    my $event = decode_json($delivery->{body});
    my ($transfer) = $event->{event} =~ /^human_transfer_(\w+)/;
    my $kind = $transfer ? 'transfer' : $event->{event};

    return 'duplicate' if defined $delivery->{id} ? $call->{ids}{ $delivery->{id} }
        : ($call->{last}{$kind} // '') eq $delivery->{body};

    $call->{ids}{ $delivery->{id} } = 1 if defined $delivery->{id};
    $call->{last}{$kind} = $delivery->{body};
    push @{ $call->{received} }, { %$event, transfer => $transfer };

    return 'ok';
}

sub transfer_status ($call) {
    my %count = (initiated => 0, successful => 0, failed => 0);
    $count{ $_->{transfer} // '' }++ for @{ $call->{received} };

    return $count{initiated} > $count{successful} + $count{failed} ? 'initiated'
        : $count{successful} ? 'successful'
        : $count{failed} ? 'failed'
        : '';
}

# The errors of the hash.
sub compare ($call, $hash) {
    my @transfers = grep { $_->{transfer} } @{ $call->{received} };
    my $status = transfer_status($call);
    my %expected = (seq => scalar @{ $call->{received} }, transfer_status => $status || undef);

    for my $what (qw(initiated successful failed)) {
        my $count = grep { $_->{transfer} eq $what } @transfers;
        $expected{"transfers_$what"} = @transfers ? $count : undef;
    }

    my @problems = map { "$_ is " . ($hash->{$_} // 'absent') . ' instead of ' . ($expected{$_} // 'absent') }
        grep { ($hash->{$_} // '') ne ($expected{$_} // '') } sort keys %expected;

    if ($status eq 'initiated') {
        # Of one that is still open, whichever.
        my %open;
        $open{ $_->{phone_number} } += $_->{transfer} eq 'initiated' ? 1 : -1 for @transfers;
        my $number = $hash->{transfer_phone_number} // 'nothing';
        push @problems, "$number is shown" if ($open{$number} // 0) <= 0;
        push @problems, "$_ is shown" for grep { defined $hash->{"transfer_$_"} } qw(agent_identity reason sip_status);
    } else {
        # Of the one that was received last.
        my ($last) = grep { $_->{transfer} eq $status } reverse @transfers;
        for my $detail (qw(type phone_number agent_identity reason sip_status)) {
            my $member = $detail =~ /^(?:type)$/ ? "transfer_$detail" : $detail;
            my ($got, $right) = map { $_ // 'absent' } $hash->{"transfer_$detail"}, $last->{$member};
            push @problems, "transfer_$detail is $got instead of $right" if $got ne $right;
        }
    }

    return @problems;
}

done_testing;
