package Vaani::Bench::Same;

# Whether the peers do the same job: each gets the same deliveries, and has to
# answer, publish and store what the module does. Times and nonces differ.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use JSON::PP ();
use Vaani::Bench::Peers ();
use Vaani::Test::Events;
use Vaani::Test::HTTP ();

our @EXPORT_OK = qw(observe same);

my $json = JSON::PP->new->utf8->canonical->allow_nonref;
my $room = 'room_000000000000';

# Deliveries: [ body, headers ]. Of the vendor's longest call, with some twice,
# and then what is to be refused.
my @call = call_path('outbound-answered/transfer-failed-then-successful', $room);

my @DELIVERIES = (
    (map { [$_] } @call, $call[0], $call[-1]),
    [ event('call_ringing', room => $room, extra => "Gr\x{fc}\x{df}e \x{1f4de}") ],
    [ event('call_failed', room => $room), 'Webhook-Id' => 'msg_1' ],
    [ event('call_failed', room => $room, error => 'another'), 'Webhook-Id' => 'msg_1' ],
    [ event('call_ended', room => $room, call_duration => \'0.0125') ],
    [ event('call_put_on_hold', room => $room) ],
    [ event('call_started', room => $room, status => ABSENT), 'Content-Type' => 'application/cloudevents+json; charset=utf-8' ],

    [''],
    ['{"event":"call_ringing","room_name":"a"'],
    ['{"event":"call_ringing","room_name":"a"} x'],
    ['{"event":"call_ended","room_name":"a","call_duration":NaN}'],
    [qq({"event":"call_ringing","room_name":"a\xff"})],
    ['[]'],
    [ event('call_ringing', room => ABSENT) ],
    [ event('call_ringing', room => '') ],
    [ event('call_ringing', room => 7) ],
    [ event('call_ringing', room => "a\tb") ],
    [ event('call_ringing', room => "a\x{85}b") ],
    [ event('call_ringing', room => 'a' x 257) ],
    [ event('call_ringing', status => 'active') ],
    [ event('call_started', phone_number => 7) ],
    [ event('call_ended', call_duration => ABSENT) ],
    [ event('call_ended', call_duration => '42') ],
    [ event('call_ended', call_duration => -1) ],
    [ event('human_transfer_initiated', transfer_type => undef) ],
    [ event('call_postprocessing', entities => 'none') ],
    [ event('call_ringing'), 'Content-Type' => 'text/plain' ],
    [ event('call_ringing'), 'Content-Type' => 'application/json; charset=latin1' ],
    [ event('call_ringing'), 'Content-Encoding' => 'gzip' ],
);

# What a peer makes of them, as one text.
sub observe ($peer, $redis) {
    my $client = $redis->client;
    $client->cmd('FLUSHALL');

    my $subscriber = $redis->client->subscribe('vaani:events', "vaani:room:$room");
    my $http = Vaani::Test::HTTP->new(port => $peer->port);
    my (@lines, $n);

    for my $delivery (@DELIVERIES) {
        my ($body, %headers) = @$delivery;
        my $response = $http->post(Vaani::Bench::Peers::PATH, $body, %headers);
        my $status = $response->status;
        push @lines, "delivery @{[ ++$n ]}: $status" . ($status == 200 ? ' ' . $response->body =~ s/\n\z//r : '');
    }
    push @lines, 'GET: ' . $http->get(Vaani::Bench::Peers::PATH)->status;

    $client->cmd('PUBLISH', 'vaani:events', 'end');
    while (1) {
        my $message = $subscriber->next_message // die "no messages\n";
        last if $message->{payload} eq 'end';
        push @lines, "$message->{channel}: " . $message->{payload} =~ s/"received_at":\K\d+//r;
    }

    for my $key (sort @{ $client->cmd('KEYS', '*') }) {
        my $hash = $client->hgetall($key);
        push @lines, map { "$key $_: " . _comparable($_, $hash->{$_}) } sort keys %$hash;
        push @lines, "$key expires: " . ($client->cmd('PTTL', $key) > 0 ? 'yes' : 'no');
    }
    return join '', map { "$_\n" } @lines;
}

# JSON libraries don't agree on the order of members.
sub _comparable ($field, $value) {
    return $value =~ /^\d+\z/ ? 'a time' : $value if $field =~ /^(?:at:|created_at|updated_at)/;
    return length($value) . ' bytes' if $field eq '_recent';
    return $json->encode($json->decode($value)) if $field =~ /^(?:entities|_transfers)$/;
    return $value;
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
