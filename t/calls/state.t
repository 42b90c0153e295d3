# The call in Redis, section 3 of the contract: every field after every event.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP qw(decode_json);
use Time::HiRes ();
use Vaani::Test::Events;

my $redis = Vaani::Test::Redis->start;
my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    vaani_redis @{[ $redis->url ]};
    client_max_body_size 20m;
    client_body_buffer_size 20m;

    server {
        listen unix:%%SOCK%%;
        location = /vaani       { vaani_webhook; }
        location = /strict      { vaani_webhook; vaani_validation strict; }
        location = /ttl/90s     { vaani_webhook; vaani_ttl 90s; }
        location = /ttl/1500ms  { vaani_webhook; vaani_ttl 1500ms; }
        location = /ttl/off     { vaani_webhook; vaani_ttl off; }
    }
CONF

my $http = $nginx->http;
my $client = $redis->client;

sub now_ms () { return int(Time::HiRes::time() * 1000) }

# Until the clock shows a later millisecond, so that two times can be told
# apart.
sub next_ms () {
    my $now = now_ms();
    wait_for(sub { now_ms() > $now });
    return;
}

sub key ($room) { return "vaani:call:$room" }

# Fails the calling test unless the event was a transition.
sub deliver ($body, $uri = '/vaani', $answer = 'ok') {
    my $response = $http->post($uri, $body);
    my $got = $response->status . ' ' . $response->body;
    return 1 if $got =~ /^200 \{"status":"$answer"(?:,"known":false)?\}\n\z/;

    fail("delivered, answer $answer");
    diag "$body\n$got";
    return 0;
}

# The hash without the module's own fields, and without the times; the times.
sub call ($room) {
    my $hash = $client->hgetall(key($room));
    my (%fields, %times);

    for my $field (keys %$hash) {
        next if $field =~ /^_/;
        ($field =~ /^(?:created_at|updated_at|at:.*)$/ ? \%times : \%fields)->{$field} = $hash->{$field};
    }

    return (\%fields, \%times);
}

sub is_call ($room, $expected, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($fields) = call($room);
    return is_deeply $fields, $expected, $name;
}

# A call, told by its events. Each step is [ event, overrides ..., { changes } ]:
# what the hash has afterwards that it did not have before; undef for what is
# gone. seq, last_event and all the times are checked without being told.
sub story ($name, @steps) {
    subtest $name => sub {
        my $room = new_room();
        my (%fields, %times);
        my $seq = 0;

        for (@steps) {
            my @step = @$_;
            my $changes = ref $step[-1] eq 'HASH' ? pop @step : {};
            my ($event, @overrides) = @step;

            next_ms();
            my $before = now_ms();
            deliver(event($event, room => $room, @overrides)) or return;
            my $after = now_ms();

            %fields = (%fields, room_name => $room, last_event => $event, seq => ++$seq, %$changes);
            delete @fields{ grep { !defined $fields{$_} } keys %fields };

            my ($got, $got_times) = call($room);
            is_deeply $got, \%fields, "$seq $event";

            my $time = $got_times->{updated_at} // 0;
            ok $before <= $time && $time <= $after, '... received now'
                or diag "$before <= $time <= $after";

            $times{created_at} //= $time;
            $times{"at:$event"} //= $time;
            $times{updated_at} = $time;
            is_deeply $got_times, \%times, '... times';
        }
    };
}

my $NUMBER = '+1234567890';
my $AGENT = '+919876543210';
my $OTHER = '+918888888888';

my %STARTED = (status => 'dialing', direction => 'outbound', phone_number => $NUMBER);
my %ENDED = (
    status           => 'ended',
    call_duration_ms => 42500,
    end_reason       => 'AGENT_REQUESTED_DISCONNECT',
);
my %POSTPROCESSED = (
    call_duration_ms => 42500,
    transcript       => 'User: Hello. Agent: Hi, how can I help you? ...',
    summary          => 'Customer called to inquire about service availability in Mumbai.',
    entities         => '{"location":"Mumbai","intent":"service_inquiry"}',
    recording_url    => 'https://storage.vaani.ai/recordings/call_123.mp3',
    postprocessed    => 1,
);

# The fields that an event sets for a transfer, and those that it removes.
my %NO_DETAILS = map { ("transfer_$_" => undef) } qw(agent_identity reason sip_status);

sub transfer ($status, $counts, %details) {
    my %counts;
    @counts{qw(transfers_initiated transfers_successful transfers_failed)} = split ' ', $counts;

    return (
        transfer_status => $status,
        %counts,
        %NO_DETAILS,
        transfer_type         => 'warm',
        transfer_phone_number => $AGENT,
        %details,
    );
}

my %SUCCESS = (transfer_agent_identity => 'human_agent_1712485300');
my %FAILURE = (transfer_reason => 'busy', transfer_sip_status => 'busy');

# --- the documented paths, in order

story 'outbound, answered' => (
    [ call_started        => \%STARTED ],
    [ call_ringing        => { status => 'ringing' } ],
    [ user_picked_up_at   => { status => 'active' } ],
    [ call_ended          => { %ENDED, outcome => 'completed' } ],
    [ call_postprocessing => \%POSTPROCESSED ],
);

for my $failure (qw(rejected no_answer failed)) {
    story "outbound, $failure" => (
        [ call_started        => \%STARTED ],
        [ call_ringing        => { status => 'ringing' } ],
        [ "call_$failure"     => {
            status => $failure, outcome => $failure,
            $failure eq 'failed' ? (error => 'SIP_404_NOT_FOUND') : (),
        } ],
        [ call_ended          => \%ENDED ],
        [ call_postprocessing => \%POSTPROCESSED ],
    );
}

story 'inbound' => (
    [ call_started => status => ABSENT, phone_number => ABSENT, { status => 'started' } ],
    [ user_picked_up_at   => { status => 'active' } ],
    [ call_ended          => { %ENDED, outcome => 'completed' } ],
    [ call_postprocessing => \%POSTPROCESSED ],
);

story 'a failed transfer' => (
    [ call_started             => \%STARTED ],
    [ user_picked_up_at        => { status => 'active' } ],
    [ human_transfer_initiated => { transfer('initiated', '1 0 0') } ],
    [ human_transfer_failed    => { transfer('failed', '1 0 1', %FAILURE) } ],
    [ call_ended               => { %ENDED, outcome => 'completed' } ],
);

story 'a successful transfer' => (
    [ call_started              => \%STARTED ],
    [ user_picked_up_at         => { status => 'active' } ],
    [ human_transfer_initiated  => { transfer('initiated', '1 0 0') } ],
    [ human_transfer_successful => { transfer('successful', '1 1 0', %SUCCESS) } ],
    [ call_ended                => { %ENDED, outcome => 'completed' } ],
    [ call_postprocessing       => \%POSTPROCESSED ],
);

story 'a failed transfer, then a successful one to another number' => (
    [ user_picked_up_at        => { status => 'active' } ],
    [ human_transfer_initiated => { transfer('initiated', '1 0 0') } ],
    [ human_transfer_failed    => { transfer('failed', '1 0 1', %FAILURE) } ],
    [ human_transfer_initiated => phone_number => $OTHER, transfer_type => 'cold',
        { transfer('initiated', '2 0 1', transfer_phone_number => $OTHER, transfer_type => 'cold') } ],
    [ human_transfer_successful => phone_number => $OTHER, transfer_type => 'cold',
        { transfer('successful', '2 1 1', %SUCCESS, transfer_phone_number => $OTHER, transfer_type => 'cold') } ],
);

# --- out of order

story 'backwards' => (
    [ call_postprocessing => { %POSTPROCESSED, status => 'ended', outcome => 'completed' } ],
    [ call_ended          => { end_reason => $ENDED{end_reason} } ],
    [ human_transfer_successful => { transfer('successful', '0 1 0', %SUCCESS) } ],
    [ human_transfer_initiated  => { transfer('successful', '1 1 0', %SUCCESS) } ],
    [ user_picked_up_at   => {} ],
    [ call_ringing        => { direction => 'outbound' } ],
    [ call_started        => { phone_number => $NUMBER } ],
);

story 'late events do not lower the status' => (
    [ user_picked_up_at => { status => 'active' } ],
    [ call_ringing      => { direction => 'outbound' } ],
    [ call_started      => { phone_number => $NUMBER } ],
    [ call_failed       => { status => 'failed', outcome => 'failed', error => 'SIP_404_NOT_FOUND' } ],
    [ user_picked_up_at => x => 2 ],
    [ call_ringing      => x => 2 ],
    [ call_ended        => \%ENDED ],
    [ call_failed       => error => 'SIP_500', { error => 'SIP_500' } ],
    [ user_picked_up_at => x => 3 ],
    [ human_transfer_initiated => { transfer('initiated', '1 0 0') } ],
);

story "$_, then its end" => (
    [ "call_$_" => { status => $_, outcome => $_, direction => 'outbound' } ],
    [ call_ended => \%ENDED ],
) for qw(rejected no_answer);

story "the end, then $_" => (
    [ call_ended => { %ENDED, outcome => 'completed' } ],
    [ "call_$_" => { outcome => $_, direction => 'outbound' } ],
) for qw(rejected no_answer);

story "postprocessing, then $_" => (
    [ call_postprocessing => { %POSTPROCESSED, status => 'ended', outcome => 'completed' } ],
    [ "call_$_" => { outcome => $_, direction => 'outbound' } ],
    [ call_ended => { end_reason => $ENDED{end_reason} } ],
) for qw(rejected no_answer);

# Two failures: rejected before no_answer before failed, whichever came first.
{
    my @failures = qw(rejected no_answer failed);
    my %rank = (rejected => 3, no_answer => 2, failed => 1);

    for my $one (@failures) {
        for my $other (grep { $_ ne $one } @failures) {
            my $winner = $rank{$one} > $rank{$other} ? $one : $other;
            story "$one, then $other" => (
                [ "call_$one" => error => ABSENT,
                    { status => $one, outcome => $one, direction => 'outbound' } ],
                [ "call_$other" => error => ABSENT, { status => $winner, outcome => $winner } ],
                [ call_ended => \%ENDED ],
            );
        }
    }
}

# --- each event alone, as the first that is heard of a call

my %ALONE = (
    call_started              => \%STARTED,
    call_ringing              => { status => 'ringing', direction => 'outbound' },
    user_picked_up_at         => { status => 'active' },
    call_rejected             => { status => 'rejected', outcome => 'rejected', direction => 'outbound' },
    call_no_answer            => { status => 'no_answer', outcome => 'no_answer', direction => 'outbound' },
    call_failed               => {
        status => 'failed', outcome => 'failed', direction => 'outbound', error => 'SIP_404_NOT_FOUND',
    },
    # During a transfer the call has been answered.
    human_transfer_initiated  => { status => 'active', transfer('initiated', '1 0 0') },
    human_transfer_successful => { status => 'active', transfer('successful', '0 1 0', %SUCCESS) },
    human_transfer_failed     => { status => 'active', transfer('failed', '0 0 1', %FAILURE) },
    call_ended                => { %ENDED, outcome => 'completed' },
    call_postprocessing       => { %POSTPROCESSED, status => 'ended', outcome => 'completed' },
);

story "$_ alone" => [ $_ => $ALONE{$_} ] for @EVENTS;

story "$_ implies that the call was answered" => (
    [ call_ringing => { status => 'ringing', direction => 'outbound' } ],
    [ $_ => $ALONE{$_} ],
    [ user_picked_up_at => {} ],
) for grep { /transfer/ } @EVENTS;

subtest 'the first message has no previous_status' => sub {
    my $subscriber = $redis->client->subscribe('vaani:events');

    for my $event (@EVENTS) {
        my $room = new_room();
        deliver(event($event, room => $room)) or next;
        deliver(event('call_ended', room => $room, call_duration => 1));

        my ($first, $second) = map { decode_json($_->{payload}) } $subscriber->next_messages(2);
        ok !exists $first->{previous_status}, $event;
        is $second->{previous_status}, $ALONE{$event}{status}, '... the second one has';
    }
};

# --- direction, and the status of call_started

story 'the direction is known when an outbound-only event was seen' => (
    [ call_started      => status => ABSENT, { status => 'started', phone_number => $NUMBER } ],
    [ user_picked_up_at => { status => 'active' } ],
    [ call_ended        => { %ENDED, outcome => 'completed' } ],
    [ call_ringing      => { direction => 'outbound' } ],
);

for (
    [ 'started' => 'started' ],
    [ 'dialing' => 'dialing', direction => 'outbound' ],
    [ 'ringing' => 'ringing' ],
    [ 'active' => 'active' ],
    [ 'queued' => 'queued' ],
    [ '' => 'started' ],
    [ undef, 'started' ],
    [ ABSENT, 'started' ],
    [ "\x{92e}\x{941}\x{902}\"\\" => qq(\xe0\xa4\xae\xe0\xa5\x81\xe0\xa4\x82"\\) ],
) {
    my ($payload, $status, %more) = @$_;
    story 'call_started with ' . (!defined $payload ? 'null' : ref $payload ? 'no status' : "\"$status\"") => (
        [ call_started => phone_number => ABSENT, status => $payload, { status => $status, %more } ],
        [ call_no_answer => { status => 'no_answer', outcome => 'no_answer', direction => 'outbound' } ],
    );
}

# A status that is not in the table ranks as "started".
story 'an unknown status is below dialing' => (
    [ call_started => { %STARTED } ],
    [ call_started => status => 'queued', {} ],
    [ call_started => status => ABSENT, {} ],
    [ call_ringing => { status => 'ringing' } ],
    [ call_started => status => 'queued', x => 1, {} ],
);

story 'dialing is above an unknown status' => (
    [ call_started => status => 'queued', { status => 'queued', phone_number => $NUMBER } ],
    [ call_started => { status => 'dialing', direction => 'outbound' } ],
);

story 'of unknown ones the latest' => (
    [ call_started => status => ABSENT, phone_number => ABSENT, { status => 'started' } ],
    [ call_started => status => 'queued', phone_number => ABSENT, { status => 'queued' } ],
    [ call_started => status => 'waiting', phone_number => ABSENT, { status => 'waiting' } ],
);

story 'dialing arrives late' => (
    [ call_ended   => { %ENDED, outcome => 'completed' } ],
    [ call_started => { direction => 'outbound', phone_number => $NUMBER } ],
);

# --- durations

for (
    [ '0', 0 ], [ '42.5', 42500 ], [ '42.123', 42123 ], [ '0.001', 1 ], [ '1e2', 100000 ],
    [ '1.5E+1', 15000 ], [ '250e-3', 250 ], [ '86400', 86400000 ], [ '-0', 0 ],
) {
    my ($seconds, $ms) = @$_;
    story "call_ended after $seconds s" =>
        [ call_ended => call_duration => \$seconds, { %ENDED, outcome => 'completed', call_duration_ms => $ms } ];
}

for (
    [ '0', 0 ], [ '42500', 42500 ], [ '42500.0', 42500 ], [ '4.25e4', 42500 ],
    [ '9007199254740991', 9007199254740991 ],
) {
    my ($duration, $ms) = @$_;
    story "call_postprocessing after $duration ms" => [
        call_postprocessing => call_duration => \$duration,
        { status => 'ended', outcome => 'completed', %POSTPROCESSED, call_duration_ms => $ms },
    ];
}

story 'call_postprocessing has the last word on the duration' => (
    [ call_ended => call_duration => 42, { %ENDED, outcome => 'completed', call_duration_ms => 42000 } ],
    [ call_ended => call_duration => 43, { call_duration_ms => 43000 } ],
    [ call_postprocessing => call_duration => 42750, { %POSTPROCESSED, call_duration_ms => 42750 } ],
    [ call_ended => call_duration => 44, {} ],
    [ call_postprocessing => call_duration => 42751, { call_duration_ms => 42751 } ],
);

story '... also when it comes first' => (
    [ call_postprocessing => call_duration => 0,
        { %POSTPROCESSED, status => 'ended', outcome => 'completed', call_duration_ms => 0 } ],
    [ call_ended => { end_reason => $ENDED{end_reason} } ],
);

# --- transfers

story 'the outcome before its initiation' => (
    [ human_transfer_failed    => { status => 'active', transfer('failed', '0 0 1', %FAILURE) } ],
    [ human_transfer_initiated => { transfer('failed', '1 0 1', %FAILURE) } ],
);

story 'initiated, resolved, and again' => (
    [ human_transfer_initiated  => { status => 'active', transfer('initiated', '1 0 0') } ],
    [ human_transfer_failed     => { transfer('failed', '1 0 1', %FAILURE) } ],
    [ human_transfer_initiated  => { transfer('initiated', '2 0 1') } ],
    [ human_transfer_failed     => reason => 'no_answer', sip_status => ABSENT,
        { transfer('failed', '2 0 2', transfer_reason => 'no_answer') } ],
    [ human_transfer_initiated  => { transfer('initiated', '3 0 2') } ],
    [ human_transfer_successful => { transfer('successful', '3 1 2', %SUCCESS) } ],
    # A success stays one, whatever fails after it.
    [ human_transfer_initiated  => phone_number => $OTHER,
        { transfer('initiated', '4 1 2', transfer_phone_number => $OTHER) } ],
    [ human_transfer_failed     => phone_number => $OTHER, { transfer('successful', '4 1 3', %SUCCESS) } ],
);

story 'two attempts that overlap' => (
    [ human_transfer_initiated  => { status => 'active', transfer('initiated', '1 0 0') } ],
    [ human_transfer_initiated  => phone_number => $OTHER,
        { transfer('initiated', '2 0 0', transfer_phone_number => $OTHER) } ],
    # The later one is resolved first; what it brought waits for its turn.
    [ human_transfer_successful => phone_number => $OTHER, { transfer('initiated', '2 1 0') } ],
    [ human_transfer_failed     =>
        { transfer('successful', '2 1 1', transfer_phone_number => $OTHER, %SUCCESS) } ],
);

story 'two attempts that overlap, the first one fails first' => (
    [ human_transfer_initiated  => { status => 'active', transfer('initiated', '1 0 0') } ],
    [ human_transfer_initiated  => phone_number => $OTHER,
        { transfer('initiated', '2 0 0', transfer_phone_number => $OTHER) } ],
    [ human_transfer_failed     =>
        { transfer('initiated', '2 0 1', transfer_phone_number => $OTHER) } ],
    [ human_transfer_successful => phone_number => $OTHER,
        { transfer('successful', '2 1 1', transfer_phone_number => $OTHER, %SUCCESS) } ],
);

story 'the successful attempt is heard of first' => (
    [ human_transfer_successful => phone_number => $OTHER, agent_identity => ABSENT,
        { status => 'active', transfer('successful', '0 1 0', transfer_phone_number => $OTHER) } ],
    [ human_transfer_failed     => { transfer('successful', '0 1 1', transfer_phone_number => $OTHER) } ],
    [ human_transfer_initiated  => { transfer('successful', '1 1 1', transfer_phone_number => $OTHER) } ],
    [ human_transfer_initiated  => phone_number => $OTHER,
        { transfer('successful', '2 1 1', transfer_phone_number => $OTHER) } ],
);

story 'several failed attempts: the last one is shown' => (
    [ human_transfer_failed => { status => 'active', transfer('failed', '0 0 1', %FAILURE) } ],
    [ human_transfer_failed => phone_number => $OTHER, reason => 'rejected', sip_status => '603',
        { transfer('failed', '0 0 2', transfer_phone_number => $OTHER,
            transfer_reason => 'rejected', transfer_sip_status => '603') } ],
    [ human_transfer_failed => reason => ABSENT, { transfer('failed', '0 0 3', transfer_sip_status => 'busy') } ],
);

story 'several successful attempts: the last one is shown' => (
    [ human_transfer_successful => { status => 'active', transfer('successful', '0 1 0', %SUCCESS) } ],
    [ human_transfer_successful => phone_number => $OTHER, agent_identity => 'b',
        { transfer('successful', '0 2 0', transfer_phone_number => $OTHER, transfer_agent_identity => 'b') } ],
);

# --- values

story 'empty strings are values' => (
    [ call_started => phone_number => '', { %STARTED, phone_number => '' } ],
    [ call_failed  => error => '', { status => 'failed', outcome => 'failed', error => '' } ],
    [ human_transfer_failed => phone_number => '', transfer_type => '', reason => '', sip_status => '', {
        transfer('failed', '0 0 1', transfer_phone_number => '', transfer_type => '',
            transfer_reason => '', transfer_sip_status => ''),
    } ],
    [ call_ended => end_reason => '', { %ENDED, end_reason => '' } ],
    [ call_postprocessing => transcript => '', summary => '', recording_url => '', entities => {}, {
        %POSTPROCESSED, transcript => '', summary => '', recording_url => '', entities => '{}',
    } ],
);

story 'null is absent, and takes nothing away' => (
    [ call_started => status => undef, phone_number => undef, { status => 'started' } ],
    [ call_started => { %STARTED } ],
    [ call_started => phone_number => undef, {} ],
    [ call_ringing => status => undef, { status => 'ringing' } ],
    [ call_failed  => error => undef, { status => 'failed', outcome => 'failed' } ],
    [ human_transfer_failed => reason => undef, sip_status => undef, { transfer('failed', '0 0 1') } ],
    [ human_transfer_successful => agent_identity => undef, { transfer('successful', '0 1 1') } ],
    [ call_ended   => { %ENDED } ],
    [ call_ended   => end_reason => undef, call_duration => 7, { call_duration_ms => 7000 } ],
    [ call_postprocessing => transcript => undef, summary => undef, entities => undef, recording_url => undef,
        { call_duration_ms => 42500, postprocessed => 1 } ],
    [ call_postprocessing => { %POSTPROCESSED } ],
    [ call_postprocessing => transcript => undef, entities => undef, {} ],
);

subtest 'strings' => sub {
    my @strings = (
        [ "\x{928}\x{92e}\x{938}\x{94d}\x{924}\x{947} \x{1f600} \x{10ffff}\x{2028}" => undef, 'Unicode' ],
        [ undef, '"\ud83d\ude00\u0928\/\b\f\n\r\t\"\\\\\u0001\u007f"',
            "\xf0\x9f\x98\x80\xe0\xa4\xa8/\b\f\n\r\t\"\\\x01\x7f", 'escapes' ],
        [ undef, '"a\u0000b"', "a\0b", 'U+0000' ],
        [ '$5 \r\n*1 %s #{x} {0} -- ]] redis.call' => undef, 'what looks like a protocol' ],
        [ ' spaces ' => undef, 'spaces' ],
    );

    for (@strings) {
        my ($string, $text, @rest) = @$_;
        my $name = pop @rest;
        my $bytes = $rest[0] // $string;
        utf8::encode($bytes) if defined $string;
        my $value = $text ? \$text : $string;

        my $room = new_room();
        deliver(event('call_started', room => $room, phone_number => $value));
        deliver(event('call_failed', room => $room, error => $value));
        deliver(event('human_transfer_failed', room => $room, map { $_ => $value }
            qw(transfer_type phone_number reason sip_status)));
        deliver(event('call_ended', room => $room, end_reason => $value));
        deliver(event('call_postprocessing', room => $room, map { $_ => $value }
            qw(transcript summary recording_url)));

        my ($fields) = call($room);
        is $fields->{$_}, $bytes, "$name: $_" for qw(
            phone_number error transfer_type transfer_phone_number transfer_reason
            transfer_sip_status end_reason transcript summary recording_url
        );

        # Attempts wait for their turn in a field of the module's own.
        deliver(event('human_transfer_initiated', room => $room, map { $_ => $value }
            qw(transfer_type phone_number)));
        deliver(event('human_transfer_initiated', room => $room));
        is +(call($room))[0]{transfer_phone_number}, $AGENT, "$name: another attempt";
        deliver(event('human_transfer_successful', room => $room, map { $_ => $value }
            qw(transfer_type phone_number agent_identity)));
        is +(call($room))[0]{transfer_phone_number}, $bytes, "$name: successful";
        deliver(event('human_transfer_initiated', room => $room, phone_number => $OTHER));
        is +(call($room))[0]{transfer_phone_number}, $OTHER, "$name: one more";
        deliver(event('human_transfer_failed', room => $room, phone_number => $OTHER));
        is +(call($room))[0]{transfer_agent_identity}, $bytes, "$name: remembered";
    }
};

subtest 'long values' => sub {
    my $room = new_room();
    my $long = join '', map { "line $_ \"quoted\" \\ \x{e9}\x{1f600}\n" } 1 .. 150_000;
    utf8::encode(my $bytes = $long);
    my $entities = '{ "list": [' . join(', ', 1 .. 100_000) . '] }';

    deliver(event('call_postprocessing', room => $room, transcript => $long, entities => \$entities));

    my ($fields) = call($room);
    cmp_ok length $bytes, '>', 4_000_000, 'some megabytes';
    ok $fields->{transcript} eq $bytes, 'a long transcript';
    ok $fields->{entities} eq $entities, 'long entities';
};

subtest 'entities are kept as they came, on one line' => sub {
    for my $entities (
        '{}', '{ }', "{\r\n\t\"a\" : 1 ,\n \"b\":[ ]\t}",
        '{"z":1,"a":2,"z":3}',
        '{"n":[1.0,1e5,-0,0.10,12345678901234567890123,1E-7]}',
        '{"s":"\u0041\/\ud83d\ude00\u0000\n\"}"}',
        '{"":{"":{"":[[[[{}]]]]}}}',
        qq({"\xe0\xa4\xa8":"\xf0\x9f\x98\x80\x7f","t":true,"f":false,"0":null}),
    ) {
        my $room = new_room();
        deliver(event('call_postprocessing', room => $room, entities => \" \n$entities\t "));
        my $kept = $entities =~ s/[\r\n]/ /gr;
        is +(call($room))[0]{entities}, $kept, $kept;
    }
};

# Lenient, step by step: what is converted, and what is absent.
story 'what is missing or mistyped' => (
    [ call_started => status => 5, phone_number => {}, { status => '5' } ],
    [ call_ringing => status => 'active', { status => 'ringing', direction => 'outbound' } ],
    [ human_transfer_initiated => transfer_type => ABSENT, phone_number => 7, {
        transfer('initiated', '1 0 0', transfer_type => undef, transfer_phone_number => 7), status => 'active',
    } ],
    [ human_transfer_failed => transfer_type => [], phone_number => 7, reason => 'busy', sip_status => 486, {
        transfer('failed', '1 0 1', transfer_type => undef, transfer_phone_number => 7, transfer_reason => 'busy',
            transfer_sip_status => 486),
    } ],
    [ call_failed => status => \'{}', error => \'true', { status => 'failed', outcome => 'failed' } ],
    [ call_failed => status => ABSENT, error => \'1e5', { error => '1e5' } ],
    [ call_ended => call_duration => 'long', end_reason => 'x', { status => 'ended', end_reason => 'x' } ],
    [ call_ended => call_duration => '42', end_reason => 'y', { call_duration_ms => 42000, end_reason => 'y' } ],
    [ call_ended => call_duration => -1, end_reason => 'z', { end_reason => 'z' } ],
    [ call_ended => call_duration => '-1', end_reason => '', {} ],
    [ call_postprocessing => call_duration => ABSENT, transcript => 1, summary => 's', entities => [],
        recording_url => \'false', { summary => 's', transcript => '1', postprocessed => 1 } ],
    [ call_postprocessing => call_duration => '43000', transcript => [], summary => [], entities => '',
        recording_url => [], { call_duration_ms => 43000 } ],
    [ call_ended => call_duration => 3, { end_reason => $ENDED{end_reason} } ],
);

# --- what today's deliveries say, and where

# Deliveries in the order in which they are posted, ROOM being the name of the
# call, and fields of its hash; undef is for none.  One after the other: of two
# in one millisecond the digest would decide.
sub becomes ($name, $bodies, $expected, $room = new_room(), $uri = '/vaani') {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    for my $n (0 .. $#$bodies) {
        next_ms() if $n;
        deliver($bodies->[$n] =~ s/ROOM/$room/gr, $uri) or return;
    }
    my $hash = $client->hgetall(key($room));
    return is_deeply { map { $_ => $hash->{$_} } keys %$expected }, $expected, $name;
}

# In either order.
sub becomes_both ($name, $bodies, $expected, $prefix = '') {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    becomes($name, $bodies, $expected, $prefix . new_room());
    return becomes("$name, the other way round", [ reverse @$bodies ], $expected, $prefix . new_room());
}

sub ended ($seconds, $more = '') {
    return qq({"event":"call_ended","room_name":"ROOM","call_duration":$seconds$more});
}

sub post ($data, $top = '') {
    return qq({"event":"call_postprocessing","call_id":"ROOM"$top,"data":{"summary":"x"$data}});
}

subtest 'the name of a call' => sub {
    my $is = sub ($members, $name) {
        my $room = new_room();
        deliver('{"event":"call_ringing",' . $members =~ s/ROOM/$room/r . '}') or return;
        my $keys = $client->cmd('KEYS', "vaani:call:$room");
        is_deeply $keys, ["vaani:call:$room"], $name;
        is $client->cmd('HGET', key($room), 'room_name'), $room, '... room_name';
    };
    my $before = $client->cmd('DBSIZE');

    $is->('"room_name":"ROOM"', 'room_name');
    $is->('"call_id":"ROOM"', 'call_id');
    $is->('"data":{"room_name":"ROOM"}', 'data.room_name');
    $is->('"data":{"call_id":"ROOM"}', 'data.call_id');
    $is->('"call_id":"other","room_name":"ROOM"', 'room_name before call_id');
    $is->('"data":{"room_name":"other"},"room_name":"ROOM"', 'room_name before data.room_name');
    $is->('"call_id":"other","data":{"room_name":"ROOM"}', 'data.room_name before call_id');
    $is->('"call_id":"ROOM","data":{"call_id":"other"}', 'call_id before data.call_id');
    $is->('"data":{"call_id":"other","room_name":"ROOM"}', 'data.room_name before data.call_id');
    for my $none ('null', '""', '[]', 'true', '"\u0000"', '"' . 'x' x 257 . '"', '"\ud800"') {
        $is->(qq("room_name":$none,"call_id":"ROOM"), 'call_id where room_name is ' . substr $none, 0, 10);
        $is->(qq("room_name":$none,"call_id":$none,"data":{"room_name":$none,"call_id":"ROOM"}),
            'data.call_id where the others are ' . substr $none, 0, 10);
    }
    $is->('"room_name":"ROOM","data":null', 'data: null');
    $is->('"room_name":"ROOM","data":[{"room_name":"other"}]', 'data: an array');
    $is->('"room_name":"other","room_name":"ROOM"', 'a key twice: the last one');
    $is->('"data":{"room_name":"other"},"data":{"call_id":"ROOM"}', 'data twice: the last one');

    deliver('{"event":"call_ringing","room_name":4711}');
    is $client->cmd('HGET', key(4711), 'room_name'), '4711', 'a number, as its text';
    deliver('{"event":"call_ringing","room_name":1.50e1}');
    is $client->cmd('HGET', key('1.50e1'), 'room_name'), '1.50e1', '... whatever that is';
    is $client->cmd('DBSIZE') - $before, 9 + 14 + 4 + 2, 'no call by another name';
};

subtest 'data, or beside it' => sub {
    my $members = '"transcript":"in","call_duration":41000,"phone_number":"1","end_reason":"in","entities":{"a":1}';
    my %in = (transcript => 'in', call_duration_ms => 41000, phone_number => 1, end_reason => 'in', entities => '{"a":1}');

    becomes 'in data', [ qq({"event":"call_postprocessing","call_id":"ROOM","data":{$members}}) ], \%in;
    becomes 'at the top', [ qq({"event":"call_postprocessing","call_id":"ROOM",$members}) ], \%in;
    becomes 'in both', [ qq({"event":"call_postprocessing","call_id":"ROOM","transcript":"out","call_duration":5,)
        . qq("phone_number":"2","end_reason":"out","entities":{},"data":{$members}}) ], \%in;
    becomes 'null in data', [ qq({"event":"call_postprocessing","call_id":"ROOM","data":{"transcript":null,)
        . qq("call_duration":null,"phone_number":null,"end_reason":null,"entities":null},$members}) ], \%in;
    becomes 'data is no object', [ qq({"event":"call_postprocessing","call_id":"ROOM","data":"x",$members}) ], \%in;
    becomes 'any event', [
        '{"event":"call_started","data":{"room_name":"ROOM","status":"dialing","phone_number":"1"}}',
        '{"event":"human_transfer_failed","data":{"call_id":"ROOM","transfer_type":"warm","phone_number":"2","reason":"busy"}}',
        '{"event":"call_failed","data":{"call_id":"ROOM","error":"e"}}',
        '{"event":"call_ended","data":{"call_id":"ROOM","call_duration":7,"end_reason":"r"}}',
    ], {
        status => 'ended', outcome => 'failed', phone_number => 1, transfer_phone_number => 2, transfer_reason => 'busy',
        error => 'e', call_duration_ms => 7000, end_reason => 'r', direction => 'outbound',
    };
    becomes 'a nested data is not looked into', [ '{"event":"call_ended","room_name":"ROOM","data":{"data":{"end_reason":"x"}}}' ],
        { end_reason => undef };

    # The same where everything is in its place.
    my $room = new_room();
    becomes 'strict', [ post(',"transcript":"t","call_duration":41000,"entities":{},"dispositions":{"a":[]}', ',"from":"f"') ],
        { transcript => 't', call_duration_ms => 41000, entities => '{}', dispositions => '{"a":[]}', phone_number => undef },
        $room, '/strict';
};

subtest 'both forms of every event' => sub {
    for my $event (@EVENTS) {
        my %hash;
        for my $uri (qw(/vaani /strict)) {
            for my $form ([ flat => \&event ], [ enveloped => \&enveloped ]) {
                my ($name, $body) = @$form;
                my $room = new_room();
                deliver($body->($event, room => $room), $uri);
                ($hash{"$uri, $name"}) = call($room);
                is delete $hash{"$uri, $name"}{room_name}, $room, "$event, $uri, $name";
            }
        }
        is_deeply $hash{$_}, $hash{'/vaani, flat'}, "... $_ is the same" for sort keys %hash;
    }
};

subtest 'conversions' => sub {
    my $all = 'transcript,summary,recording_url,end_reason,phone_number';
    for my $case (
        [ '1',            '1' ],
        [ '-0.50E+3',     '-0.50E+3' ],
        [ '919876543210', '919876543210' ],
        [ '""',           '' ],
        [ 'true',         undef ], [ 'false', undef ], [ '{}', undef ], [ '{"a":1}', undef ], [ 'null', undef ],
    ) {
        my ($text, $value) = @$case;
        becomes "text: $text", [ post(join '', map { ",\"$_\":$text" } grep { $_ ne 'summary' } split /,/, $all) ],
            { map { $_ => $value } grep { $_ ne 'summary' } split /,/, $all };
    }
    for my $case (
        [ '{}',  '{}' ], [ '{ "a" : 1 }', '{ "a" : 1 }' ],
        [ '[]', undef ], [ '""', undef ], [ '"x"', undef ], [ '[1]', undef ], [ '1', undef ], [ 'null', undef ],
    ) {
        my ($text, $value) = @$case;
        becomes "an object: $text", [ post(",\"entities\":$text,\"dispositions\":$text") ],
            { entities => $value, dispositions => $value };
    }
    for my $case (
        [ '42.5', 42500 ], [ '"42.5"', 42500 ], [ '" 42.5\n"', 42500 ], [ '"4.25e1"', 42500 ],
        [ '"42,5"', undef ], [ '"42.5s"', undef ], [ '"0x2a"', undef ], [ '""', undef ], [ '"1e999"', undef ],
        [ '"-1"', undef ], [ '-1', undef ], [ '-1e-9', undef ], [ '1e999', undef ], [ 'true', undef ], [ '[1]', undef ],
        [ 'NaN', undef ], [ 'Infinity', undef ], [ '"NaN"', undef ], [ '"\u0034\u0032"', 42000 ],
    ) {
        my ($text, $ms) = @$case;
        becomes "a duration: $text", [ ended($text) ], { call_duration_ms => $ms, status => 'ended' };
    }
    becomes 'a duration of call_postprocessing as text', [ post(',"call_duration":"41000"') ], { call_duration_ms => 41000 };

    # A wrong one takes nothing away.
    becomes 'what was there stays', [ ended(7, ',"end_reason":"r"'), ended('"x"', ',"end_reason":[]') ],
        { call_duration_ms => 7000, end_reason => 'r', seq => 2 };
};

subtest 'turns of a transcript' => sub {
    for my $case (
        [ '[{"role":"agent","text":"a"},{"role":"user","text":"b"}]', "AGENT: a\nUSER: b", 'role and text' ],
        [ '[{"speaker":"Agent","content":"a"}]',                  'AGENT: a', 'speaker and content' ],
        [ '[{"role":"r","message":"m","time":"00:01"}]',          '[00:01] R: m', 'message and time' ],
        [ '[{"role":"r","text":"m","timestamp":"2026-10-10T10:00:00Z"}]', '[2026-10-10T10:00:00Z] R: m', 'timestamp' ],
        [ '[{"role":"r","text":"m","time":12.5}]',                '[12.5] R: m', 'a number' ],
        [ '[{"text":"m"}]',                                       'm', 'text alone' ],
        [ '["a",{"role":"r","text":"b"},"c"]',                    "a\nR: b\nc", 'strings' ],
        [ '[{"role":"r","text":"one\ntwo\r\nthree"}]',            'R: one two  three', 'line breaks inside of a turn' ],
        [ '[{"role":"r","text":"\u00e9\ud83d\ude00\ud83d"}]',     "R: \xc3\xa9\xf0\x9f\x98\x80\xef\xbf\xbd", 'escapes' ],
        [ '[{"role":"r","text":""},{"role":"r"},{},1,null,[],{"text":"x"}]', 'x', 'turns without a text' ],
        [ '[{"role":null,"speaker":"s","text":null,"content":"c"}]', 'S: c', 'null' ],
        [ '[{"ro\u006ce":"r","te\u0078t":"t"}]',                  'R: t', 'escaped names' ],
        [ '[ ]',                                                  undef, 'none' ],
        [ '[[],{}]',                                              undef, 'none of them a turn' ],
        [ '"[{}]"',                                               '[{}]', 'text' ],
    ) {
        my ($text, $transcript, $name) = @$case;
        becomes $name, [ post(",\"transcript\":$text") ], { transcript => $transcript };
        is $http->post('/strict', post(",\"transcript\":$text") =~ s/ROOM/strict/r)->status, $text =~ /^"/ ? 200 : 422,
            '... strict';
    }

    my @many = map { qq({"role":"agent","text":"turn $_"}) } 1 .. 16_385;
    becomes 'too many', [ post(",\"transcript\":[@{[ join ',', @many ]}]") ], { transcript => undef };
    pop @many;
    becomes 'many', [ post(",\"transcript\":[@{[ join ',', @many ]}]") ],
        { transcript => join "\n", map { "AGENT: turn $_" } 1 .. 16_384 };
};

subtest 'direction' => sub {
    my @rest = map { my $event = $_; event($event, room => 'ROOM') } qw(call_started call_ringing user_picked_up_at call_ended);
    my $type = sub ($type) { post(qq(,"call_type":"$type")) };
    my $is = sub ($name, $direction, $prefix, @bodies) { becomes_both($name, \@bodies, { direction => $direction }, $prefix) };

    for my $case ([ 'inbound-' => 'inbound' ], [ 'outbound-' => 'outbound' ], [ 'webrtc-' => 'web' ]) {
        my ($prefix, $direction) = @$case;
        $is->("$prefix alone", $direction, $prefix, ended(1));
        $is->("$prefix, whatever else is seen", $direction, $prefix, @rest, $type->('inbound'), $type->('outbound'));
    }
    for my $prefix ('Inbound-', 'inbound_', 'xinbound-', 'web-', 'webrtc', '-inbound-') {
        $is->("$prefix is none", undef, $prefix, ended(1));
    }
    for my $case (
        [ 'inbound' => 'inbound' ], [ 'inbound_call' => 'inbound' ], [ 'phone_INBOUND' => 'inbound' ],
        [ 'outbound' => 'outbound' ], [ 'Outbound Call' => 'outbound' ], [ 'webrtc_call' => 'web' ], [ 'WEB' => 'web' ],
        [ 'phone' => undef ], [ '' => undef ], [ 'in bound' => undef ],
    ) {
        my ($text, $direction) = @$case;
        $is->("call_type $text", $direction, '', $type->($text));
        $is->("call_type $text, and the rest of an outbound call", $direction // 'outbound', '', $type->($text), @rest);
    }
    $is->("$_ is outbound", 'outbound', '', event($_, room => 'ROOM'))
        for qw(call_started call_ringing call_rejected call_no_answer call_failed);
    $is->("$_ does not tell", undef, '', event($_, room => 'ROOM'))
        for qw(user_picked_up_at human_transfer_initiated call_ended call_postprocessing);
    $is->('call_started without dialing does not tell', undef, '', event('call_started', room => 'ROOM', status => 'started'));
};

subtest 'whose phone_number stands' => sub {
    my $started = event('call_started', room => 'ROOM', phone_number => '1');
    my $empty = event('call_started', room => 'ROOM', phone_number => '');
    my $is = sub ($name, $number, $prefix, @bodies) { becomes_both($name, \@bodies, { phone_number => $number }, $prefix) };
    my $number = ',"phone_number":"2"';

    $is->('call_postprocessing', 2, '', post($number));
    $is->('call_started before call_postprocessing', 1, '', $started, post($number));
    $is->('an empty one behind', 2, '', $empty, post($number));
    $is->('an empty one behind, also that of call_postprocessing', 1, '', $started, post(',"phone_number":""'));
    $is->('all are empty', '', '', $empty, post(',"phone_number":""'));

    for my $case ([ 'inbound-' => 3 ], [ 'webrtc-' => 3 ], [ 'outbound-' => undef ], [ '' => undef ]) {
        my ($prefix, $from) = @$case;
        $is->("from, $prefix", $from, $prefix, post('', ',"from":"3"'));
        $is->("from in data, $prefix", $from, $prefix, post(',"from":"3"'));
        $is->("phone_number before from, $prefix", 2, $prefix, post($number, ',"from":"3"'));
        $is->("from before an empty phone_number, $prefix", $from // '', $prefix, post(',"phone_number":""', ',"from":"3"'));
        $is->("call_started before from, $prefix", 1, $prefix, $started, post('', ',"from":"3"'));
        $is->("from before an empty one of call_started, $prefix", $from // '', $prefix, $empty, post('', ',"from":"3"'));
    }
    $is->('from, call_type inbound', 3, '', post(',"call_type":"inbound"', ',"from":"3"'));
    $is->('from, call_type outbound', undef, '', post(',"call_type":"outbound"', ',"from":"3"'));
    $is->('an empty from', undef, 'inbound-', post('', ',"from":""'));
    $is->('from of another event', undef, 'inbound-', ended(1, ',"from":"3"'));
};

subtest 'whose end_reason stands' => sub {
    my $is = sub ($name, $reason, @bodies) { becomes_both($name, \@bodies, { end_reason => $reason }) };
    my ($ended, $empty) = map { ended(1, ",\"end_reason\":$_") } '"e"', '""';

    $is->('call_postprocessing', 'p', post(',"end_reason":"p"'));
    $is->('call_ended before call_postprocessing', 'e', $ended, post(',"end_reason":"p"'));
    $is->('an empty one behind', 'p', $empty, post(',"end_reason":"p"'));
    $is->('an empty one behind, also that of call_postprocessing', 'e', $ended, post(',"end_reason":""'));
    $is->('all are empty', '', $empty, post(',"end_reason":""'));
    $is->('none', 'p', ended(1), post(',"end_reason":"p"'));
};

subtest 'the times of the sender' => sub {
    my @names = qw(call_dialing_at call_ringing_at picked_up_at call_started_at call_ended_at);
    for my $case (
        [ '2026-10-09T07:31:17.602249+00:00' => 1791531077602 ],
        [ '2026-10-09T07:31:17Z'             => 1791531077000 ],
        [ '2026-10-09T07:31:17'              => 1791531077000, 'a naive one is UTC' ],
        [ '2026-10-09T07:31:17.5'            => 1791531077500 ],
        [ '2026-10-09T13:01:17.25+05:30'     => 1791531077250 ],
        [ '2026-10-08T23:31:17.999999-08:00' => 1791531077999 ],
        [ '2026-10-09t07:31:17z'             => 1791531077000 ],
        [ '2026-10-09 07:31:17Z'             => 1791531077000 ],
        [ '2024-02-29T00:00:00Z'             => 1709164800000 ],
        [ '1970-01-01T00:00:00.001Z'         => 1 ],
        [ '2026-02-29T00:00:00Z'             => undef ],
        [ '2026-10-09'                       => undef ],
        [ '09.10.2026 07:31'                 => undef ],
        [ '2026-10-09T24:31:17Z'             => undef ],
        [ '2026-10-09T07:31:17+0000'         => undef ],
        [ ''                                 => undef ],
        [ '1791531077'                       => undef ],
    ) {
        my ($text, $ms, $name) = @$case;
        becomes $name // "'$text'", [ post(join '', map { ",\"$_\":\"$text\"" } @names) ], { map { $_ => $ms } @names };
        is $http->post('/strict', post(",\"picked_up_at\":\"$text\"") =~ s/ROOM/strict/r)->status,
            defined $ms ? 200 : 422, '... strict';
    }
    becomes 'at the top', [ '{"event":"call_postprocessing","room_name":"ROOM","call_started_at":"2026-10-09T07:31:17Z","call_ended_at":null}' ],
        { call_started_at => 1791531077000, call_ended_at => undef };
    becomes 'only of call_postprocessing', [ ended(1, ',"call_started_at":"2026-10-09T07:31:17Z"') ], { call_started_at => undef };
};

subtest 'the unit of the duration of call_postprocessing' => sub {
    # From picked_up_at, or call_started_at, to call_ended_at, ms.
    my $time = sub ($ms) { sprintf '2026-10-09T%02d:%02d:%02d.%03dZ', $ms / 3_600_000, $ms / 60_000 % 60, $ms / 1000 % 60, $ms % 1000 };
    my $span = sub ($ms, $name = 'picked_up_at') {
        my $begin = $ms < 0 ? -$ms : 0;
        return sprintf ',"%s":"%s","call_ended_at":"%s"', $name, $time->($begin), $time->($begin + $ms);
    };
    my $is = sub ($name, $ms, @bodies) { becomes_both("$name: " . ($ms // 'none'), \@bodies, { call_duration_ms => $ms }) };
    my $d = sub ($text, $more = '') { post(",\"call_duration\":$text$more") };

    # Nothing else is known.
    $is->("$_->[0] alone", $_->[1], $d->($_->[0])) for [ 42500, 42500 ], [ 42500.4, 42500 ], [ 1000, 1000 ], [ 999, 999_000 ],
        [ 107.42, 107_420 ], [ '0.5', 500 ], [ 0, 0 ], [ 1200, 1200 ];

    # The span tells.
    for my $name (qw(picked_up_at call_started_at)) {
        $is->("$name, seconds", 107_420, $d->(107.42, $span->(108_516, $name)));
        $is->("$name, milliseconds", 107_420, $d->(107_420, $span->(108_516, $name)));
        $is->("$name, 1500 ms of talk within a minute", 1500, $d->(1500, $span->(60_000, $name)));
        $is->("$name, seconds of an hour", 30_000, $d->(30, $span->(3_600_000, $name)));
        $is->("$name, 1200 s", 1_200_000, $d->(1200, $span->(1_201_000, $name)));
    }
    $is->('picked_up_at before call_started_at', 20_000,
        $d->(20, $span->(20_000) . ',"call_started_at":"2026-10-08T00:00:00Z"'));

    # One that is longer than the span, 10% and 5 s is out.
    $is->('at the bound', 71_000, $d->(71, $span->(60_000)));
    $is->('above it', 71, $d->(71.001, $span->(60_000)));
    $is->('both are out: the span', 60_000, $d->(71_001, $span->(60_000)));
    $is->('both are out: the one of call_ended', 59_000, $d->(71_001, $span->(60_000)), ended(59));
    $is->('the span before call_ended', 50_000, $d->(50, $span->(60_000)), ended(0.05));

    # A span of nothing, or less, is none.
    $is->("a span of $_ ms is none", 999_000, $d->(999, $span->($_))) for 0, -1, -60_000;
    $is->('half of the times are none', 999_000, $d->(999, ',"picked_up_at":"2026-10-09T00:00:00Z"'));
    $is->('... nor is the other half', 42_500, $d->(42_500, ',"call_ended_at":"2026-10-09T00:00:00Z"'));

    # A tie is one of milliseconds, unless that is below 1000: 2560 * 2560360 = 80960 ** 2
    $is->('a tie of call_ended', 2560, $d->('2560.36'), ended('80.96'));
    $is->('a tie below a second', 39_690, $d->('39.69'), ended('1.26'));
    $is->('just nearer to seconds', 2_560_360, $d->('2560.36'), ended('80.961'));

    # call_ended tells.
    $is->('call_ended, milliseconds', 42_500, $d->(42_500), ended(42.4));
    $is->('call_ended, seconds', 42_500, $d->(42.5), ended(42.4));
    $is->('call_ended, 20 minutes in seconds', 1_200_000, $d->(1200), ended(1201));
    $is->('call_ended, 1.2 s', 1200, $d->(1200), ended(1.2));
    $is->('call_ended of 0 does not', 42_500, $d->(42_500), ended(0));
    $is->('... nor below a second', 42_500, $d->(42.5), ended(0));

    # Without one.
    $is->('none: call_ended', 42_500, post(''), ended(42.5));
    $is->('none: call_ended before the span', 42_500, post($span->(60_000)), ended(42.5));
    $is->('none: the span', 60_000, post($span->(60_000)));
    $is->('none: the span, call_ended has none either', 60_000, post($span->(60_000)), '{"event":"call_ended","room_name":"ROOM"}');
    $is->('nothing at all', undef, post(''), '{"event":"call_ended","room_name":"ROOM"}');
    $is->('one that is none: call_ended', 42_500, $d->('"x"'), ended(42.5));
    $is->('0 before call_ended', 0, $d->(0), ended(42.5));

    # A later one has the last word.
    becomes 'a second one', [ $d->(41_000), $d->(43_000), ended(42) ], { call_duration_ms => 43_000 };
    next_ms();
    becomes 'strict: the same', [ $d->(107.42, $span->(108_516)) ], { call_duration_ms => 107_420 }, new_room(), '/strict';
};

# --- a call that an earlier version has begun

# The part of _state about bodies, by the codes of their events.
my %CODE = (
    '!' => 'call_started', '#' => 'call_ringing', '$' => 'user_picked_up_at', '%' => 'call_rejected',
    '&' => 'call_no_answer', '(' => 'call_failed', ')' => 'call_ended', '*' => 'call_postprocessing',
);

# Makes the hash one of an earlier version: "until 0.5" has blanks between the
# numbers, "0.6" has not, "before 1.0" has the digest of the last event and durations.
sub as_written_by ($version, $room, $last_event) {
    my ($ranks, $last, $bodies) = $client->cmd('HGET', key($room), '_state')
        =~ /^(.{6})~.{4}.{3}(.{4})((?:[!#\$%&()*].{8})*)\z/ or die 'unknown state';
    my $durations = $client->cmd('HGET', key($room), '_ms') // '';
    my %given = (call_ended => 6, call_postprocessing => 7);    # the position of what gave the duration

    my @numbers = ((map { ord($_) - ord '0' } split //, substr $ranks, 0, 3), $given{$last_event} // 0);
    my $state = $version eq 'until 0.5' ? "@numbers"
        : $version eq '0.6' ? join '', map { chr $_ + ord '0' } @numbers
        : "$ranks$last$durations" . ($durations ne '' ? '|' x (4 - $durations =~ tr/|//) : '');
    $client->cmd('HDEL', key($room), '_ms');

    my %digests;
    $digests{$1} .= "$2ABCDEFGHIJKLMN" while $bodies =~ /(.)(.{8})/g;
    $client->cmd('HSET', key($room), _state => $state, map { '_body:' . $CODE{$_} => $digests{$_} } keys %digests);
    return;
}

subtest 'a call that is under way during an upgrade' => sub {
    my %path = (
        'until it has ended' => [qw(call_ringing call_ended)],
        'with high positions' => [qw(call_no_answer call_postprocessing)],
        'in its beginning'   => [qw(call_started call_ringing)],
    );

    for my $name (sort keys %path) {
        for my $version ('until 0.5', '0.6', 'before 1.0') {
            my ($upgraded, $other) = (new_room(), new_room());

            for my $room ($upgraded, $other) {
                deliver(event($_, room => $room)) for @{ $path{$name} };
            }
            as_written_by($version, $upgraded, $path{$name}[-1]);

            is $http->post('/vaani', event($path{$name}[-1], room => $upgraded))->body, qq({"status":"duplicate"}\n),
                "$name, $version: what was sent is known";

            for my $event (qw(user_picked_up_at call_rejected call_ended call_postprocessing call_started)) {
                for my $room ($upgraded, $other) {
                    next_ms();
                    deliver(event($event, room => $room, later => 1));
                }
                my ($got, $expected) = map { (call($_))[0] } $upgraded, $other;
                delete $_->{room_name} for $got, $expected;
                is_deeply $got, $expected, "... then $event";
            }

            # The bodies of the two differ, as their rooms do.
            my @known = map { join ' ', @{ $client->cmd('HMGET', key($_), '_state', '_ms') } } $upgraded, $other;
            s/^.{14}\K.{4}//, s/[!#\$%&()*]\K.{8}//g for @known;
            is $known[0], $known[1], '... and what is known';
            is_deeply [ grep { /^_body:/ } @{ $client->cmd('HKEYS', key($upgraded)) } ], [], '... in one field';
        }
    }
};

subtest 'transfers of a call that is under way during an upgrade' => sub {
    my $room = new_room();
    my @transfers = map { event($_, room => $room) } qw(human_transfer_initiated human_transfer_failed);
    deliver($_) for @transfers;

    # Digests were longer.
    my $kept = $client->cmd('HGET', key($room), '_transfers');
    my $longer = $kept =~ s/"([\w-]{8})"/"$1ABCDEFGHIJKLMN"/gr;
    isnt $longer, $kept, 'digests are kept';
    $client->cmd('HSET', key($room), '_transfers', $longer);

    next_ms();
    deliver($transfers[-1], '/vaani', 'duplicate');
    next_ms();
    deliver(event('human_transfer_successful', room => $room));
    my $hash = (call($room))[0];
    is_deeply [ @$hash{qw(seq transfers_initiated transfers_failed transfers_successful)} ], [ 3, 1, 1, 1 ], 'transfers are counted';
};

# Old workers finish their requests while new ones accept new requests. An earlier version
# reads and writes these parts of _state: the rank of the status, the furthest position
# and the rank of the outcome, one character each, and one more.
subtest 'an earlier version applies an event during an upgrade' => sub {
    my $room = new_room();
    deliver(event($_, room => $room)) for qw(call_started user_picked_up_at);
    next_ms();

    my $now = now_ms();
    my ($rank, $reached, $outcome) = split //, $client->cmd('HGET', key($room), '_state');
    is "$rank$reached$outcome", '430', 'an earlier version reads what it knows';
    $client->cmd(
        'HSET', key($room), _state => '8616', seq => 3, status => 'ended', outcome => 'completed',
        last_event => 'call_ended', updated_at => $now, 'at:call_ended' => $now, '_body:call_ended' => 'x' x 22,
        call_duration_ms => 5000
    );
    next_ms();

    deliver(event('call_ringing', room => $room));
    my $hash = (call($room))[0];
    is_deeply [ @$hash{qw(seq status outcome last_event call_duration_ms)} ], [ 4, 'ended', 'completed', 'call_ringing', 5000 ],
        'the call goes on';

    $client->cmd('HDEL', key($room), 'seq');
    $client->cmd('HSET', key($room), _state => '8616');
    deliver(event('call_rejected', room => $room));
    is_deeply [ @{ (call($room))[0] }{qw(seq status outcome)} ], [ 1, 'ended', 'rejected' ], '... also without its seq';
};

# --- a hash that was edited by hand

subtest 'a call without its status' => sub {
    my $room = new_room();
    deliver(event('call_ended', room => $room));
    $client->cmd('HDEL', key($room), 'status');
    deliver(event('call_ringing', room => $room));
    is_call $room, { %{ (call($room))[0] }, seq => 2, last_event => 'call_ringing' }, 'the next event is applied';
    is $client->cmd('HGET', key($room), 'status'), 'ended', '... and the status is back';
};

# --- an event that the table does not know

subtest 'an unknown event changes nothing' => sub {
    my $room = new_room();
    deliver(event('brand_new', room => $room));
    is_deeply $client->hgetall(key($room)), {}, 'it makes no call';

    deliver(event('call_started', room => $room));
    my $hash = $client->hgetall(key($room));
    $client->cmd('PEXPIRE', key($room), 5000);
    next_ms();

    deliver(event('brand_new', room => $room, status => 'ended', x => $_)) for 1, 2;
    deliver(event('CALL_ENDED', room => $room));
    is_deeply $client->hgetall(key($room)), $hash, 'it leaves a call alone';
    cmp_ok $client->cmd('PTTL', key($room)), '<=', 5000, '... and its expiry';

    deliver(event('call_ringing', room => $room));
    is +(call($room))[0]{seq}, 2, '... and its seq';
};

# --- expiry

subtest 'ttl' => sub {
    # Up to a hundredth longer; a second for what it takes to ask.
    my $ttl_is = sub ($room, $ttl, $name) {
        my $left = $client->cmd('PTTL', key($room));
        local $Test::Builder::Level = $Test::Builder::Level + 1;
        ok $left <= $ttl + $ttl / 100 && $left > $ttl - 1000 && $left > 0, $name or diag "$left ms left of $ttl";
    };

    my $room = new_room();
    my $week = 7 * 24 * 3600 * 1000;

    deliver(event('call_started', room => $room));
    $ttl_is->($room, $week, 'a week by default');

    # Within a hundredth of it, once is enough; after that, each event restarts it.
    $client->cmd('PEXPIRE', key($room), 5000);
    deliver(event('user_picked_up_at', room => $room));
    cmp_ok $client->cmd('PTTL', key($room)), '<=', 5000, 'it was set a moment ago';

    for my $event (qw(call_ringing human_transfer_initiated call_postprocessing)) {
        $client->cmd('PEXPIRE', key($room), 1_000_000);
        my $began = now_ms();
        wait_for(sub { now_ms() > $began + 15 });
        deliver(event($event, room => $room), '/ttl/1500ms');
        $ttl_is->($room, 1500, "it begins anew with $event");
    }

    my $late = new_room();
    for my $n (1 .. 25) {
        my $began = now_ms();
        deliver(event('call_ringing', room => $late, n => $n), '/ttl/90s');
        my $left = $client->cmd('PTTL', key($late));
        my $took = now_ms() - $began;
        ok $left >= 90_000 - $took - 1 && $left <= 90_900, 'never less than vaani_ttl, never a hundredth more' or diag "$left ms, $took ms ago";
        wait_for(sub { now_ms() > $began + 100 });
    }

    deliver(event('call_ringing', room => $room, x => 1), '/ttl/90s');
    $ttl_is->($room, 90_000, 'vaani_ttl 90s');
    deliver(event('call_ringing', room => $room, x => 2), '/ttl/1500ms');
    $ttl_is->($room, 1500, 'vaani_ttl 1500ms');

    deliver(event('call_ringing', room => $room, x => 3), '/ttl/off');
    is $client->cmd('PTTL', key($room)), -1, 'off removes an earlier one';
    deliver(event('human_transfer_failed', room => $room), '/ttl/off');
    is $client->cmd('PTTL', key($room)), -1, '... and sets none';

    deliver(event('human_transfer_failed', room => $room), '/ttl/90s', 'duplicate');
    is $client->cmd('PTTL', key($room)), -1, 'a duplicate sets none';

    $room = new_room();
    deliver(event('call_started', room => $room), '/ttl/off');
    is $client->cmd('PTTL', key($room)), -1, 'off from the beginning';
    deliver(event('call_ringing', room => $room), '/ttl/90s');
    $ttl_is->($room, 90_000, 'and on again');

    # An expired call is forgotten: the same event begins a new one.
    $client->cmd('DEL', key($room));
    deliver(event('call_ringing', room => $room));
    is +(call($room))[0]{seq}, 1, 'a call after its expiry';
};

subtest 'only the one key is touched' => sub {
    $client->cmd('FLUSHALL');
    deliver($_) for call_path('outbound-answered/transfer-failed-then-successful', 'one');
    is_deeply $client->cmd('KEYS', '*'), ['vaani:call:one'], 'one call, one key';
};

done_testing;
