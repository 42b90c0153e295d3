package Vaani::Bench::Same;

# Whether the peers do the same job: each gets the same deliveries, and has to
# answer, publish and store what the module does. Times and random ids differ.
#
# What only one of the peers could do with its libraries, or would make of it
# another program, is not compared: repairs, envelopes with several events,
# transcripts as arrays, lone surrogates, depths and numbers of members.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use JSON::PP ();
use Time::HiRes qw(time);
use Vaani::Bench::Peers ();
use Vaani::Test::Events;
use Vaani::Test::HTTP ();

our @EXPORT_OK = qw(observe same);

my $json = JSON::PP->new->utf8->canonical->allow_nonref;
my $room = 'room_000000000000';

my %TIMES = (
    call_dialing_at => '2026-10-09T00:10:01Z',
    call_ringing_at => '2026-10-09T00:10:04.5',
    picked_up_at    => '2026-10-09T05:40:10.123456+05:30',
    call_started_at => '2026-10-08T20:10:00-04:00',
    call_ended_at   => '2026-10-09T00:11:18.278854+00:00',
);

# A call in today's form, with all that it has to say.
sub _enveloped ($call) {
    return map { [$_] } (
        enveloped('call_started', room => $call),
        enveloped('user_picked_up_at', room => $call),
        enveloped('call_ended', room => $call),
        enveloped('call_postprocessing', room => $call, call_duration => 68, call_type => 'Inbound call', from => '+4930123456',
            end_reason => '', phone_number => '', dispositions => { interested => JSON::PP::true, score => 3 }, %TIMES),
    );
}

sub _processed ($call, @members) {
    return [ event('call_postprocessing', room => $call, transcript => ABSENT, entities => ABSENT, @members) ];
}

# Deliveries: [ body, headers ]. Of the vendor's longest call, with some twice,
# and then others, and what is to be refused.
my @call = call_path('outbound-answered/transfer-failed-then-successful', $room);

my @DELIVERIES = (
    (map { [$_] } @call, $call[0], $call[-1]),
    [ event('call_ringing', room => $room, extra => "Gr\x{fc}\x{df}e \x{1f4de}") ],
    [ event('call_failed', room => $room), 'Webhook-Id' => 'msg_1' ],
    [ event('call_failed', room => $room, error => 'another'), 'Webhook-Id' => 'msg_1' ],
    [ event('human_transfer_initiated', room => $room), 'Webhook-Id' => 'msg_2' ],
    [ event('call_ringing', room => 'room_empty_id'), 'Webhook-Id' => '' ],
    [ event('call_ended', room => $room, call_duration => \'0.0125') ],
    [ event('call_started', room => $room, status => ABSENT), 'Content-Type' => 'application/cloudevents+json; charset=utf-8' ],

    # today's form, and who called whom
    _enveloped('room_today'),
    _enveloped('inbound-1'),
    _enveloped('outbound-1'),
    _enveloped('webrtc-1'),
    [ enveloped('call_started', room => 'dialed', status => 'dialing') ],
    [ enveloped('call_failed', room => 'failed', error => "\x{939}\x{93f}\x{928}\x{94d}\x{926}\x{940}\n\"\\\t") ],
    [ '{"event":"call_ringing","room_name":"","call_id":"a","data":{"room_name":null,"call_id":"nested"}}' ],
    [ '{"event":"call_ringing","call_id":"a","data":{"room_name":"nested"}}' ],
    [ '{"event":"call_ended","room_name":"both","call_duration":1,"data":{"call_duration":2}}' ],
    [ '{"event":"call_ended","room_name":"null","call_duration":1,"data":{"call_duration":null}}' ],
    [ '{"event":"call_ended","room_name":"twice","call_duration":1,"call_duration":3}' ],
    [ qq({\r\n "event": "call_ended",\n "room_name": "lines",\n "call_duration": 1.5e1,\n "end_reason": "a\\nb"\n}\n) ],
    [ event('call_ringing', room => "caf\x{e9} \x{1f4de}") ],
    [ event('call_ringing', room => 'r' x 256) ],

    # durations and their units, numbers and reasons
    _processed('ms', call_duration => 42500, %TIMES),
    _processed('seconds', call_duration => '68.5', %TIMES),
    _processed('neither', call_duration => 42500000, %TIMES),
    _processed('both', call_duration => 68, picked_up_at => '2026-10-09T00:00:00Z', call_ended_at => '2026-10-10T00:00:00Z'),
    _processed('span', call_duration => ABSENT, %TIMES),
    _processed('span', call_duration => 42, %TIMES),
    _processed('open', call_duration => 900),
    [ event('call_ended', room => 'open', call_duration => 905) ],
    _processed('one', call_duration => ABSENT, phone_number => 'of postprocessing', end_reason => 'of postprocessing'),
    [ event('call_ended', room => 'one', end_reason => 'of the end') ],
    [ event('call_started', room => 'one', phone_number => '') ],
    _processed('type', call_type => 'WebCall', from => '+1', phone_number => ABSENT),

    # two of a kind: the later one, field by field
    [ event('call_started', room => 'two', status => 'dialing') ],
    [ event('call_started', room => 'two', status => 'started', phone_number => '+2') ],

    # of other types than they should be
    [ event('call_ringing', room => 7) ],
    [ event('call_ringing', room => 'wrong', status => 'active') ],
    [ event('call_started', room => 'wrong', phone_number => 7, status => \'true') ],
    [ event('call_ended', room => 'wrong', call_duration => '42', end_reason => []) ],
    [ event('call_ended', room => 'negative', call_duration => -1) ],
    [ event('call_ended', room => 'text', call_duration => 'long') ],
    [ event('call_ended', room => 'none', call_duration => ABSENT) ],
    [ event('human_transfer_initiated', room => 'wrong', transfer_type => undef) ],
    [ event('human_transfer_failed', room => 'wrong', sip_status => 486) ],
    [ event('call_postprocessing', room => 'wrong', entities => 'none', dispositions => '', call_started_at => 'yesterday', summary => {}) ],
    [ event('call_ringing', room => 'wrong', status => 'x'), 'Content-Type' => 'text/json; charset="UTF8"', 'Content-Encoding' => 'none' ],
    [ event('call_ringing', room => 'wrong', status => 'y'), 'Content-Type' => '' ],

    # unknown events
    [ event('call_put_on_hold', room => $room) ],
    [ event('call_put_on_hold', room => 'nobody', text => "a\x{20ac}") ],
    [ event('call_put_on_hold', room => ABSENT), 'Webhook-Id' => 'msg_3' ],
    [ enveloped('webhook_test', room => ABSENT) ],

    # refused
    [''],
    ['{"event":"call_ringing","room_name":"a"'],
    ['{"event":"call_ringing","room_name":"a"} x'],
    ["{'event':'call_ringing'}"],
    ['[]'],
    ['null'],
    [ '{"room_name":"a"}' ],
    [ '{"event":7,"room_name":"a"}' ],
    [ event('x' x 257) ],
    [ event('call_ringing', room => ABSENT) ],
    [ event('call_ringing', room => '') ],
    [ event('call_ringing', room => [ 'a' ]) ],
    [ event('call_ringing', room => "a\tb") ],
    [ event('call_ringing', room => "a\x{85}b") ],
    [ event('call_ringing', room => 'a' x 257) ],
    [ event('call_ringing'), 'Content-Type' => 'text/plain' ],
    [ event('call_ringing'), 'Content-Type' => 'application/json; charset=latin1' ],
    [ event('call_ringing'), 'Content-Encoding' => 'gzip' ],
);

# A peer's results for them, as one text.
sub observe ($peer, $redis) {
    my $client = $redis->client;
    $client->cmd('FLUSHALL');

    my $subscriber = $redis->client->subscribe('vaani:events', "vaani:room:$room");
    my $http = Vaani::Test::HTTP->new(port => $peer->port);
    my (@lines, $n);

    for my $delivery (@DELIVERIES) {
        my ($body, %headers) = @$delivery;

        # in a millisecond of its own: at the same time, digests decide
        my $last = int(1000 * time);
        while (int(1000 * time) <= $last) { }

        my $response = $http->post(Vaani::Bench::Peers::PATH, $body, %headers);
        my $status = $response->status;
        push @lines, "delivery @{[ ++$n ]}: $status" . ($status == 200 ? ' ' . $response->body : "\n") =~ s/\n\z//r;
    }
    push @lines, 'GET: ' . $http->get(Vaani::Bench::Peers::PATH)->status;

    $client->cmd('PUBLISH', 'vaani:events', 'end');
    while (1) {
        my $message = $subscriber->next_message // die "no messages\n";
        last if $message->{payload} eq 'end';
        push @lines, "$message->{channel}: " . _without_random($message->{payload});
    }

    for my $key (sort @{ $client->cmd('KEYS', '*') }) {
        my $hash = $client->hgetall($key);
        push @lines, map { "$key $_: " . _comparable($_, $hash->{$_}) } sort keys %$hash;
        push @lines, "$key expires: " . ($client->cmd('PTTL', $key) > 0 ? 'yes' : 'no');
    }
    return join '', map { "$_\n" } @lines;
}

# Ids that a delivery did not come with are as long as the peer makes them.
sub _without_random ($message) {
    return $message =~ s/^\{"id":"\K[\w-]{20,36}(?=")/random/r =~ s/"received_at":\K\d+//r;
}

# The fields of the module's own have times in them. JSON libraries don't agree on
# the order of members.
sub _comparable ($field, $value) {
    return $value =~ /^\d+\z/ ? 'a time' : $value if $field =~ /^(?:at:|created_at|updated_at)/;
    $value = $json->encode($json->decode($value)) if $field =~ /^(?:entities|dispositions|_transfers|_times:.*)\z/;
    return $field =~ /^_/ ? $value =~ s/\b1\d{12}\b/a time/gr : $value;
}

# Dies with the first difference.
sub same ($name, $got, $want) {
    my @got = split /\n/, $got;
    my @want = split /\n/, $want;

    for my $n (0 .. ($#got > $#want ? $#got : $#want)) {
        my ($its, $ours) = map { $_ // '(nothing)' } $got[$n], $want[$n];
        die "$name does not do the same:\n  $its\ninstead of\n  $ours\n" if $its ne $ours;
    }
    return;
}

1;
