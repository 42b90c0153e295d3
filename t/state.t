# The call in Redis, section 3 of the contract: every field after every event.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/lib";
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
        location = /lenient     { vaani_webhook; vaani_validation lenient; }
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

my $rooms = 0;
sub new_room () { return 'room-' . ++$rooms }
sub key ($room) { return "vaani:call:$room" }

# Fails the calling test unless the event was a transition.
sub deliver ($body, $uri = '/vaani', $answer = 'ok') {
    my $response = $http->post($uri, $body);
    my $got = $response->status . ' ' . $response->body;
    return 1 if $got eq qq(200 {"status":"$answer"});

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

# What an event brings of a transfer, and what it takes away.
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
    # Who is being transferred has been answered.
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

# What is not in the table of statuses ranks as "started".
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

subtest 'entities are kept as they came' => sub {
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
        is +(call($room))[0]{entities}, $entities, $entities =~ s/[\r\n]/ /gr;
    }
};

subtest 'lenient: what is missing or mistyped is absent' => sub {
    my $room = new_room();
    my %expected = (room_name => $room);
    my $seq = 0;

    for (
        [ call_started => status => 5, phone_number => {}, { status => 'started' } ],
        [ call_ringing => status => 'active', { status => 'ringing', direction => 'outbound' } ],
        [ human_transfer_initiated => transfer_type => ABSENT, phone_number => 7, {
            status => 'active', transfer_status => 'initiated',
            transfers_initiated => 1, transfers_successful => 0, transfers_failed => 0,
        } ],
        [ human_transfer_failed => transfer_type => [], phone_number => ABSENT, reason => 'busy', sip_status => 486, {
            transfer_status => 'failed', transfers_failed => 1, transfer_reason => 'busy',
        } ],
        [ call_failed => status => \'{}', error => \'true', { status => 'failed', outcome => 'failed' } ],
        [ call_ended => call_duration => '42', end_reason => 'x',
            { status => 'ended', end_reason => 'x' } ],
        [ call_ended => call_duration => -1, end_reason => 'y', { end_reason => 'y' } ],
        [ call_postprocessing => call_duration => ABSENT, transcript => 1, summary => 's', entities => [],
            recording_url => \'false', { summary => 's', postprocessed => 1 } ],
        [ call_ended => call_duration => 3, { call_duration_ms => 3000, end_reason => $ENDED{end_reason} } ],
    ) {
        my ($event, @overrides) = @$_;
        my $changes = pop @overrides;
        %expected = (%expected, %$changes, seq => ++$seq, last_event => $event);

        deliver(event($event, room => $room, @overrides), '/lenient') or next;
        is_call($room, \%expected, "$seq $event");
    }
};

# --- a call that 0.5.0 has begun

subtest 'a call that is under way during an upgrade' => sub {
    my %path = (
        'until it has ended' => [qw(call_ringing call_ended)],
        'with high positions' => [qw(call_no_answer call_postprocessing)],
    );

    for my $name (sort keys %path) {
        my ($upgraded, $other) = (new_room(), new_room());

        for my $room ($upgraded, $other) {
            deliver(event($_, room => $room)) for @{ $path{$name} };
        }

        # As that version wrote it: numbers with blanks between them.
        my @numbers = map { ord($_) - ord('0') } split //, $client->cmd('HGET', key($upgraded), '_state');
        is scalar @numbers, 4, "$name: four numbers";
        $client->cmd('HSET', key($upgraded), '_state', "@numbers");

        for my $event (qw(user_picked_up_at call_rejected call_ended call_postprocessing call_started)) {
            for my $room ($upgraded, $other) {
                deliver(event($event, room => $room, later => 1));
                next if $event ne 'user_picked_up_at';
                $client->cmd('HSET', key($room), '_state', "@numbers") if $room eq $upgraded;
            }
            my ($got, $expected) = map { (call($_))[0] } $upgraded, $other;
            delete $_->{room_name} for $got, $expected;
            is_deeply $got, $expected, "... then $event";
        }
        is $client->cmd('HGET', key($upgraded), '_state'), $client->cmd('HGET', key($other), '_state'), '... and what is known';
    }
};

# --- a hash that somebody has edited

subtest 'a call without its status' => sub {
    my $room = new_room();
    deliver(event('call_ended', room => $room));
    $client->cmd('HDEL', key($room), 'status');
    deliver(event('call_ringing', room => $room));
    is_call $room, { %{ (call($room))[0] }, seq => 2, last_event => 'call_ringing' }, 'the next event is applied';
    is $client->cmd('HGET', key($room), 'status'), undef, '... and makes up no status';
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
    my $ttl_is = sub ($room, $ttl, $name) {
        my $left = $client->cmd('PTTL', key($room));
        local $Test::Builder::Level = $Test::Builder::Level + 1;
        ok $left <= $ttl && $left > $ttl - 10_000 && $left > 0, $name or diag "$left ms left of $ttl";
    };

    my $room = new_room();
    my $week = 7 * 24 * 3600 * 1000;

    deliver(event('call_started', room => $room));
    $ttl_is->($room, $week, 'a week by default');

    for my $event (qw(call_ringing human_transfer_initiated call_postprocessing)) {
        $client->cmd('PEXPIRE', key($room), 5000);
        deliver(event($event, room => $room));
        $ttl_is->($room, $week, "it begins anew with $event");
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

    # What has expired is forgotten: the same event begins a new call.
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
