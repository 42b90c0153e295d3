# The order of arrival does not change the result (section 3 of the contract),
# for every permutation of every documented call path, with any event delivered
# twice in a row.
#
# A path of nine events has 362,880 permutations, but few different hashes on
# the way: what a delivery does depends on the hash alone. So the graph of the
# states is explored. A state is the set of events delivered and the whole hash,
# with the module's own "_" fields. From each state, each event that is missing
# is delivered, and then delivered again. Every permutation is a way through
# this graph, so if all its ends are equal, all permutations end equal.
#
# Left out of what tells states apart, because the script does nothing with them
# but to keep them: the times; last_event, which it only writes; and "_recent",
# the random numbers that recognize a command that is sent to Redis again after a
# lost connection.
#
# Each state is kept under a prefix of its own. The room, and so every byte of
# the bodies, is the same everywhere.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/lib";
use Vaani::Test;

use JSON::PP qw(decode_json);
use List::Util qw(shuffle);
use Vaani::Test::Events;

use constant BATCH => 2000;
use constant CONNECTIONS => 16;

my $redis = Vaani::Test::Redis->start(acl => [ Vaani::Test::ACL::with_prefix('p*', 'random') ]);
my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    vaani_redis @{[ $redis->url ]};

    server {
        listen unix:%%SOCK%%;
        location = /vaani { vaani_webhook; vaani_prefix \$http_x_prefix; }
    }
CONF

my $client = $redis->client;

my %ANSWERS = map { ($_ => qq(200 {"status":"$_"})) } qw(ok duplicate);

# [ prefix, body, headers ... ] => the answer is as it should be. Returns the
# number of wrong ones.
sub deliver ($answer, @deliveries) {
    my $wrong = 0;

    post_many(
        $nginx, '/vaani', [ map { $_->[1] } @deliveries ],
        connections => CONNECTIONS,
        headers     => sub ($i) {
            my ($prefix, undef, @headers) = @{ $deliveries[$i] };
            return [ 'X-Prefix' => $prefix, @headers ];
        },
        on_response => sub ($i, $response) {
            my $got = "$response->{status} $response->{body}";
            my $expected = ref $answer ? $answer->[$i] : $answer;
            return if $got eq $ANSWERS{$expected};
            diag "$deliveries[$i][1]: $got, not $expected" if !$wrong++;
        },
    );

    return $wrong;
}

sub key ($prefix, $room = ROOM) { return "$prefix:call:$room" }

sub is_time ($field) { return $field =~ /^(?:created_at|updated_at|at:.*)$/ }

# As text, to compare: the whole hash, what tells states apart, what users see.
sub whole ($hash) { return join "\0", map { ($_, $hash->{$_}) } sort keys %$hash }

sub difference ($got, $expected) {
    return join "\n",
        map { "$_: " . ($got->{$_} // 'absent') . ' instead of ' . ($expected->{$_} // 'absent') }
        grep { ($got->{$_} // "\0") ne ($expected->{$_} // "\0") }
        sort keys %{ { %$got, %$expected } };
}

sub visible ($hash) {
    return { map { /^_/ || is_time($_) || $_ eq 'last_event' ? () : ($_ => $hash->{$_}) } keys %$hash };
}

my $canonical = JSON::PP->new->canonical;
my %canonical;

sub state_of ($hash) {
    my %fields = map { $_ eq '_recent' || is_time($_) || $_ eq 'last_event' ? () : ($_ => $hash->{$_}) } keys %$hash;

    # Its members have no order, for Lua no more than for JSON.
    if (defined(my $transfers = $fields{_transfers})) {
        $fields{_transfers} = $canonical{$transfers} //= $canonical->encode(decode_json($transfers));
    }

    return whole(\%fields);
}

# --- what the hash is in the end

my %ALWAYS = (
    room_name        => ROOM,
    status           => 'ended',
    call_duration_ms => 42500,
    end_reason       => 'AGENT_REQUESTED_DISCONNECT',
    transcript       => 'User: Hello. Agent: Hi, how can I help you? ...',
    summary          => 'Customer called to inquire about service availability in Mumbai.',
    entities         => '{"location":"Mumbai","intent":"service_inquiry"}',
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

sub expected ($path) {
    my ($call, $transfer) = split m{/}, $path;
    my %transfer = %{ $TRANSFERS{$transfer} };
    my $events = delete $transfer{events};

    return { %ALWAYS, %{ $CALLS{$call} }, %transfer, seq => $CALLS{$call}{seq} + $events };
}

# --- what the hash is on the way: a model of all that does not depend on the
# --- order even there, which is all but the details of transfers

sub model (@bodies) {
    my @events = map { decode_json($_) } @bodies;
    my %seen = map { ($_->{event} => $_) } @events;
    my $event = sub (@names) { return grep { $seen{$_} } @names };

    my %count = (initiated => 0, successful => 0, failed => 0);
    $_->{event} =~ /^human_transfer_(\w+)/ and $count{$1}++ for @events;

    my ($failure) = grep { $seen{"call_$_"} } qw(rejected no_answer failed);
    my $over = $event->(qw(call_ended call_postprocessing));
    my $started = $seen{call_started};

    my %hash = (
        room_name => ROOM,
        seq       => scalar @events,
        status    => $over ? 'ended'
            : $failure ? $failure
            : $event->('user_picked_up_at', grep { /transfer/ } @EVENTS) ? 'active'
            : $event->('call_ringing') ? 'ringing'
            : $started->{status} // 'started',
        $event->(qw(call_ringing call_rejected call_no_answer call_failed))
            || ($started && ($started->{status} // '') eq 'dialing') ? (direction => 'outbound') : (),
        $failure || $over ? (outcome => $failure // 'completed') : (),
        $over ? (call_duration_ms => 42500) : (),
        $seen{call_postprocessing} ? (postprocessed => 1) : (),
    );

    my %fields = (
        call_started        => [qw(phone_number)],
        call_failed         => [qw(error)],
        call_ended          => [qw(end_reason)],
        call_postprocessing => [qw(transcript summary recording_url)],
    );
    for my $event (grep { $_ } @seen{ keys %fields }) {
        $hash{$_} = $event->{$_} for grep { defined $event->{$_} } @{ $fields{ $event->{event} } };
    }
    $hash{entities} = $ALWAYS{entities} if $seen{call_postprocessing};

    if ($count{initiated} + $count{successful} + $count{failed}) {
        $hash{"transfers_$_"} = $count{$_} for keys %count;
        $hash{transfer_status} = $count{initiated} > $count{successful} + $count{failed} ? 'initiated'
            : $count{successful} ? 'successful'
            : 'failed';
    }

    return \%hash;
}

use constant DETAILS => map { "transfer_$_" } qw(type phone_number agent_identity reason sip_status);

# --- the proof

subtest 'every permutation of every path' => sub {
    my $start = now;
    my %ends = map { ($_ => {}) } keys %CALL_PATHS;
    my ($states, $deliveries, $prefixes) = (scalar keys %CALL_PATHS, 0, 0);
    my (%wrong, %model);

    my $wrong = sub ($what, $details) {
        diag "$what: $details" if !$wrong{$what}++;
    };

    # All states with equally many events at a time, those of all paths together.
    my @states = map { { path => $_, set => 0 } } sort keys %CALL_PATHS;

    while (@states) {
        my @tasks;
        for my $state (@states) {
            for my $i (0 .. $#{ $CALL_PATHS{ $state->{path} } }) {
                next if $state->{set} & 1 << $i;
                push @tasks, {
                    state => $state, prefix => 'p' . ++$prefixes, body => $CALL_PATHS{ $state->{path} }[$i],
                    path  => $state->{path}, set => $state->{set} | 1 << $i,
                };
            }
        }

        my %next;

        while (my @batch = splice @tasks, 0, BATCH) {
            my @copies = map { [ 'COPY', key($_->{state}{prefix}), key($_->{prefix}) ] }
                grep { $_->{state}{set} } @batch;
            my @replies = $client->pipeline(@copies);
            $_ eq '1' or $wrong->('restoring the state', $_) for @replies;

            my @bodies = map { [ @$_{qw(prefix body)} ] } @batch;
            my @read = map { [ 'HGETALL', key($_->{prefix}) ] } @batch;

            $wrong{'first delivery'} += deliver('ok', @bodies);
            my @hashes = map { { @$_ } } $client->pipeline(@read);
            $wrong{'second delivery'} += deliver('duplicate', @bodies);
            my @again = map { { @$_ } } $client->pipeline(@read);
            $deliveries += 2 * @batch;

            my @gone;
            for my $n (0 .. $#batch) {
                my ($task, $hash) = ($batch[$n], $hashes[$n]);
                my ($path, $set) = @$task{qw(path set)};
                my @events = @{ $CALL_PATHS{$path} };
                my $name = "$path " . join '', map { $set & 1 << $_ ? 1 : 0 } 0 .. $#events;

                whole($hash) eq whole($again[$n])
                    or $wrong->('unchanged by a duplicate', "$name, $task->{body}");
                $hash->{last_event} eq decode_json($task->{body})->{event}
                    or $wrong->('last_event', "$name, $task->{body}: $hash->{last_event}");

                my $state = $next{"$path $set"}{ state_of($hash) };
                push @gone, key($task->{prefix});
                next if $state;

                # A new one.
                pop @gone;
                $next{"$path $set"}{ state_of($hash) } = $task;
                delete @$task{qw(state body)};
                $states++;

                my %visible = %{ visible($hash) };
                $ends{$path}{ whole(\%visible) } = {%visible} if $set == (1 << @events) - 1;
                delete @visible{ (DETAILS) };
                my $model = $model{"$path $set"} //= model(@events[ grep { $set & 1 << $_ } 0 .. $#events ]);
                whole(\%visible) eq whole($model)
                    or $wrong->('as the model says', "$name\n" . difference(\%visible, $model));
            }
            $client->cmd('UNLINK', @gone) if @gone;
        }

        $client->cmd('UNLINK', map { key($_->{prefix}) } grep { $_->{set} } @states) if $states[0]{set};
        @states = map { values %$_ } values %next;
        last if $states > 200_000;    # a bug: they never become equal
    }

    is $wrong{$_} // 0, 0, $_ for
        'first delivery', 'second delivery', 'restoring the state', 'unchanged by a duplicate', 'last_event',
        'as the model says';

    for my $path (sort keys %CALL_PATHS) {
        is scalar(keys %{ $ends{$path} }), 1, "$path: one end";
        is_deeply $_, expected($path), '... the right one' for values %{ $ends{$path} };
    }

    note sprintf '%d paths, %d states, %d deliveries, %.1f s',
        scalar keys %CALL_PATHS, $states, $deliveries, now() - $start;
};

# --- calls with more attempts than a documented path has

# Numbers are tried again, also with equal bodies; events come in any order,
# and again: with an id at any time, else at once. Every call has its rules from
# this model, which keeps no more than what arrived.
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
            push @deliveries, [ 'random', $delivery->{body}, @headers ];
            push @answers, receive($call, $delivery);
        }

        $wrong{answers} += deliver(\@answers, @deliveries);

        my @hashes = map { { @$_ } } $client->pipeline(map { [ 'HGETALL', key('random', $_->{room}) ] } @busy);
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

# What is to be answered; what counts is added to received.
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

# What is wrong with the hash.
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
