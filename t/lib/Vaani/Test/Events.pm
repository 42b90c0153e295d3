package Vaani::Test::Events;

# The vendor's documented payloads, and the events of every kind of call.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use JSON::PP ();

our @EXPORT = qw(event enveloped new_room an_event call_path call_paths ABSENT ROOM %CALL_PATHS @EVENTS);

# event(..., name => ABSENT) leaves the member out; undef makes it null.
use constant ABSENT => \'';
use constant ROOM => 'room_123abc';

# Names and JSON texts, in the order of the vendor's page.
my @PAYLOADS = (
    [ call_started => status => '"dialing"', phone_number => '"+1234567890"' ],
    [ call_ringing => status => '"ringing"' ],
    [ user_picked_up_at => status => '"active"' ],
    [ call_rejected => status => '"rejected"' ],
    [ call_no_answer => status => '"no_answer"' ],
    [ call_failed => status => '"failed"', error => '"SIP_404_NOT_FOUND"' ],
    [
        human_transfer_initiated =>
        transfer_type => '"warm"', phone_number => '"+919876543210"',
    ],
    [
        human_transfer_successful =>
        transfer_type => '"warm"', phone_number => '"+919876543210"',
        agent_identity => '"human_agent_1712485300"',
    ],
    [
        human_transfer_failed =>
        transfer_type => '"warm"', phone_number => '"+919876543210"',
        reason => '"busy"', sip_status => '"busy"',
    ],
    [ call_ended => call_duration => '42.5', end_reason => '"AGENT_REQUESTED_DISCONNECT"' ],
    [
        call_postprocessing =>
        call_duration => '42500',
        transcript => '"User: Hello. Agent: Hi, how can I help you? ..."',
        summary => '"Customer called to inquire about service availability in Mumbai."',
        entities => '{"location":"Mumbai","intent":"service_inquiry"}',
        recording_url => '"https://storage.vaani.ai/recordings/call_123.mp3"',
    ],
);

my %PAYLOADS = map { $_->[0] => [ @$_[ 1 .. $#$_ ] ] } @PAYLOADS;

our @EVENTS = map { $_->[0] } @PAYLOADS;

my $json = JSON::PP->new->utf8->allow_nonref->canonical;

# The JSON text (bytes) of an event; of an unknown name, just event and
# room_name. Overrides: room => short for room_name; character strings, numbers
# and references become JSON, a reference to a string is JSON text as it stands
# (\'1e999', \'true'). Members that the payload does not have go to its end.
sub event ($name, @overrides) { return _object(_members($name, @overrides)) }

# The same in the current form: the members of the call are in "data", its name
# is a "call_id", at the top and there.
sub enveloped ($name, @overrides) {
    my ($event, $room, @rest) = _members($name, @overrides);
    my $id = [ call_id => $room->[1] ];

    return _object($event, $id, [ timestamp => '"2026-10-09T00:11:18.278854+00:00"' ],
        [ data => _object($id, @rest) ]);
}

# A room's name that this test file has not used yet, and the first event of a call.
sub new_room () {
    state $count = 0;
    return 'room-' . ++$count;
}

sub an_event ($room = new_room()) { return event('call_started', room => $room) }

# [ name, JSON text ] of each member, event and room_name first.
sub _members ($name, @overrides) {
    my @members = (
        event     => $json->encode($name),
        room_name => $json->encode(ROOM),
        @{ $PAYLOADS{$name} // [] },
    );

    my (@order, %text);
    while (my ($member, $text) = splice @members, 0, 2) {
        push @order, $member;
        $text{$member} = $text;
    }

    while (my ($member, $value) = splice @overrides, 0, 2) {
        $member = 'room_name' if $member eq 'room';
        push @order, $member if !exists $text{$member};

        $text{$member} = !defined $value ? 'null'
            : ref $value eq 'SCALAR' ? $$value
            : $json->encode($value);
    }

    return map { [ $_ => $text{$_} ] } @order;
}

# Without those that are absent.
sub _object (@members) {
    return '{'
        . join(',', map { $json->encode($_->[0]) . ":$_->[1]" } grep { $_->[1] ne '' } @members)
        . '}';
}

# A call and its course: "outbound-answered/transfer-failed". The vendor
# documents no inbound bodies; an inbound call_started has neither status nor
# number here.
my %CALLS = (
    'outbound-answered' => [ [qw(call_started call_ringing user_picked_up_at)] ],
    'rejected'          => [ [qw(call_started call_ringing call_rejected)] ],
    'no-answer'         => [ [qw(call_started call_ringing call_no_answer)] ],
    'failed'            => [ [qw(call_started call_failed)] ],
    'inbound'           => [
        [qw(call_started user_picked_up_at)],
        call_started => [ status => ABSENT, phone_number => ABSENT ],
    ],
);

use constant OTHER_NUMBER => '+918888888888';

my %TRANSFERS = (
    'none'                => [],
    'transfer-failed'     => [ [qw(initiated)], [qw(failed)] ],
    'transfer-successful' => [ [qw(initiated)], [qw(successful)] ],
    'transfer-failed-then-successful' => [
        [qw(initiated)], [qw(failed)],
        [ initiated  => phone_number => OTHER_NUMBER ],
        [ successful => phone_number => OTHER_NUMBER ],
    ],
);

# The bodies of a call's events, in the order in which they happen.
sub call_path ($name, $room = ROOM) {
    my ($call, $transfer) = split m{/}, $name;
    my ($events, %overrides) = @{ $CALLS{$call} // die "no such call: $name\n" };
    my $transfers = $TRANSFERS{ $transfer // 'none' } // die "no such transfer: $name\n";

    return (
        (map { event($_, room => $room, @{ $overrides{$_} // [] }) } @$events),
        (map {
            my ($what, @changes) = @$_;
            event("human_transfer_$what", room => $room, @changes);
        } @$transfers),
        (map { event($_, room => $room) } qw(call_ended call_postprocessing)),
    );
}

# All of them: name => [ bodies ].
sub call_paths ($room = ROOM) {
    my %paths;
    for my $call (keys %CALLS) {
        $paths{"$call/$_"} = [ call_path("$call/$_", $room) ] for keys %TRANSFERS;
    }
    return %paths;
}

our %CALL_PATHS = call_paths();

1;
