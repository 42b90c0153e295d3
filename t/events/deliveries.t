# The bodies that arrive today (t/events/deliveries): the answer, the hash and the
# message of each, in both modes; and each of them a second time.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP ();

use constant OK         => qq({"status":"ok"}\n);
use constant DUPLICATE  => qq({"status":"duplicate"}\n);
use constant UNKNOWN    => qq({"status":"ok","known":false}\n);
use constant DELIVERIES => ROOT . '/t/events/deliveries';

my $redis = Vaani::Test::Redis->start;
my $client = $redis->client;
my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    vaani_redis @{[ $redis->url ]};

    server {
        listen unix:%%SOCK%%;
        location = /lenient { vaani_webhook; }
        location = /strict  { vaani_webhook; vaani_validation strict; }
    }
CONF

my $http = $nginx->http;
my $all = $redis->client->psubscribe('*');
my $json = JSON::PP->new->utf8;

my %ENDED = (status => 'ended', outcome => 'completed', seq => 1);
my %POSTPROCESSED = (%ENDED, last_event => 'call_postprocessing', postprocessed => 1);
my %WARM = (transfers_initiated => 0, transfers_successful => 0, transfers_failed => 0);

# file => {
#   calls    what the hash of each call holds, but for the times of receipt
#   answer   the first time, answers() the second time
#   strict   the answer in strict mode, where it is another: status and field
#   messages event, room_name and payload of each, where they are not what the
#            file says
# }
my %EXPECTED = (
    '01-envelope' => {
        calls => {
            'outbound-1784899978-36cec598' => {
                %POSTPROCESSED,
                direction        => 'outbound',
                end_reason       => 'Call ended',
                call_duration_ms => 55150,
                summary          => 'The caller asked for a plumber on Friday.',
                entities         => '{"name":"Asha","day":"Friday"}',
                dispositions     => '{"result":"Slot offered"}',
                recording_url    => 'https://calls.example/api/stream/outbound-1784899978-36cec598',
                transcript       => "[13:33:14] AGENT: Hello, this is Metro Services.\n\n"
                    . '[13:33:19] USER: Hi, do you have someone on Friday?',
            },
        },
        answers => [ OK, DUPLICATE ],
        events  => ['call_postprocessing'],
    },
    '02-all-call-details' => {
        calls => {
            'webrtc-1791530000-0a1b2c' => {
                %POSTPROCESSED,
                direction        => 'web',
                phone_number     => 'web-user',
                call_duration_ms => 107420,           # seconds: 108.516 s lie between its times
                call_started_at  => 1791531077602,
                picked_up_at     => 1791531077018,
                call_ended_at    => 1791531185534,
                transcript       => "AGENT: Hello, how can I help?\n"
                    . "[07:31:24] USER: I would like to move my appointment.\n[07:31:29] USER: To Monday.",
            },
        },
        answers => [ OK, DUPLICATE ],
        events  => ['call_postprocessing'],
    },
    '03-nulls' => {
        calls => {
            'inbound-1791640000-99fe01' => {
                %POSTPROCESSED,
                direction        => 'inbound',
                end_reason       => 'Call ended',
                call_duration_ms => 41000,
                transcript       => 'Transcript is not available for further evaluations.',
            },
        },
        answers => [ OK, DUPLICATE ],
        events  => ['call_postprocessing'],
    },
    '04-events-array' => {
        calls => {
            'inbound-1791650000-aa77cd' => {
                %POSTPROCESSED,
                direction        => 'inbound',
                call_duration_ms => 63500,
                picked_up_at     => 1791626400000,
                call_ended_at    => 1791626463400,
                transcript       => "AGENT: Hello\nUSER: Hello",
                recording_url    => 'https://calls.example/r/1',
                entities         => '{}',
            },
            'inbound-1791650000-bb88de' => {
                %ENDED,
                last_event       => 'call_ended',
                direction        => 'inbound',
                call_duration_ms => 12250,
                end_reason       => 'USER_HANGUP',
            },
        },
        answers  => [ qq({"status":"ok","events":2}\n), qq({"status":"duplicate","events":2}\n) ],
        events   => [qw(call_postprocessing call_ended)],
        payloads => [
            '{"event":"call_postprocessing","data":{"call_id":"inbound-1791650000-aa77cd","call_duration":63.5,'
                . '"picked_up_at":"2026-10-10T10:00:00Z","call_ended_at":"2026-10-10T10:01:03.4Z",'
                . '"transcript":"AGENT: Hello\nUSER: Hello","recording_url":"https://calls.example/r/1","entities":{}}}',
            '{"event":"call_ended","data":{"call_id":"inbound-1791650000-bb88de","call_duration":12.25,'
                . '"end_reason":"USER_HANGUP"}}',
        ],
    },
    '05-webhook-test' => {
        calls => {}, answers => [ UNKNOWN, UNKNOWN ], events => ['webhook_test'], rooms => [undef],
    },
    '06-campaign' => {
        calls => {}, answers => [ UNKNOWN, UNKNOWN ], events => ['call.completed'],
        rooms => ['outbound-1791500000-00ff00'],
    },
    '07-transcript-turns' => {
        calls => {
            room_turns => {
                %POSTPROCESSED,
                call_duration_ms => 42500,
                summary          => 'Router down.',
                transcript       => "[10:00:01] AGENT: Hello, how can I help?\n[10:00:05] USER: My router is down.",
            },
        },
        answers => [ OK, DUPLICATE ],
        events  => ['call_postprocessing'],
        strict  => [ 422, '/transcript' ],
    },
    '08-half-an-emoji' => {
        calls => {
            room_half => {
                %POSTPROCESSED,
                call_duration_ms => 42500,
                summary          => 'Cut within an emoji.',
                transcript       => "AGENT: thank you \xef\xbf\xbd",
            },
        },
        answers => [ OK, DUPLICATE ],
        events  => ['call_postprocessing'],
    },
    '09-nan' => {
        calls    => { room_nan => { %ENDED, last_event => 'call_ended', end_reason => 'SIP_BYE' } },
        answers  => [ OK, DUPLICATE ],
        events   => ['call_ended'],
        payloads => ['{"event":"call_ended","room_name":"room_nan","call_duration":null,"end_reason":"SIP_BYE"} '],
        repaired => 1,
        strict   => [400],
    },
    '10-numbers-for-text' => {
        calls => {
            room_numbers => {
                %WARM,
                status                => 'active',
                last_event            => 'human_transfer_failed',
                seq                   => 1,
                transfer_status       => 'failed',
                transfers_failed      => 1,
                transfer_type         => 'warm',
                transfer_phone_number => '919876543210',
                transfer_reason       => 'busy',
                transfer_sip_status   => '486',
            },
        },
        answers => [ OK, DUPLICATE ],
        events  => ['human_transfer_failed'],
        strict  => [ 422, '/phone_number' ],
    },
    '11-transfer-without-details' => {
        calls => {
            room_bare => {
                %WARM,
                status              => 'active',
                last_event          => 'human_transfer_initiated',
                seq                 => 1,
                transfer_status     => 'initiated',
                transfers_initiated => 1,
            },
        },
        answers => [ OK, DUPLICATE ],
        events  => ['human_transfer_initiated'],
        strict  => [ 422, '/transfer_type' ],
    },
    '12-indented-number-as-text' => {
        calls => {
            room_lines => {
                %ENDED,
                last_event       => 'call_ended',
                call_duration_ms => 42500,
                end_reason       => 'AGENT_REQUESTED_DISCONNECT',
            },
        },
        answers  => [ OK, DUPLICATE ],
        events   => ['call_ended'],
        payloads => [
            '{   "event": "call_ended",   "room_name": "room_lines",   "call_duration": "42.5",'
                . '   "end_reason": "AGENT_REQUESTED_DISCONNECT" } '
        ],
        strict   => [ 422, '/call_duration' ],
    },
    '13-webhook-test-with-samples' => {
        calls => {}, answers => [ UNKNOWN, UNKNOWN ], events => ['webhook_test'], rooms => [undef],
    },
);

# [ channel, message ], up to now
sub published () { return $all->published($client) }

sub calls_are ($expected, $name) {
    is_deeply [ sort @{ $client->cmd('KEYS', '*') } ], [ map { "vaani:call:$_" } sort keys %$expected ], "$name: keys";

    for my $room (sort keys %$expected) {
        my $hash = $client->hgetall("vaani:call:$room");
        delete @$hash{ grep { /^_/ } keys %$hash };
        my $event = $expected->{$room}{last_event};

        like $hash->{created_at}, qr/^\d{13}$/, "$name: $room, created_at";
        is delete $hash->{$_}, $hash->{created_at}, "... $_" for 'updated_at', "at:$event";
        delete $hash->{created_at};
        is_deeply $hash, { %{ $expected->{$room} }, room_name => $room }, '... and all the rest';
    }
}

opendir my $dh, DELIVERIES or die "opendir: $!\n";
my @files = sort map { /^(.+)\.json$/ ? $1 : () } readdir $dh;
is_deeply \@files, [ sort keys %EXPECTED ], 'every file is expected';

for my $name (@files) {
    my $expected = $EXPECTED{$name} // next;
    my $body = slurp(DELIVERIES . "/$name.json");
    my @rooms = $expected->{rooms} ? @{ $expected->{rooms} } : sort keys %{ $expected->{calls} };

    for my $uri (qw(/lenient /strict)) {
        subtest "$name$uri" => sub {
            $client->cmd('FLUSHALL');
            my $response = $http->post($uri, $body);

            if ($uri eq '/strict' && $expected->{strict}) {
                my ($status, $field) = @{ $expected->{strict} };
                is $response->status, $status, 'refused';
                is $response->json->{field}, $field, '... for the right field';
                calls_are({}, 'nothing');
                is_deeply [published()], [], '... is published';
                return;
            }

            is $response->status . ' ' . $response->body, "200 $expected->{answers}[0]", 'the answer';
            calls_are($expected->{calls}, 'the hash');

            my @published = published();
            for my $n (0 .. $#{ $expected->{events} }) {
                my $event = $expected->{events}[$n];
                my $room = $rooms[$n];
                my $payload = $expected->{payloads} ? $expected->{payloads}[$n] : $body =~ s/\n\z/ /r;

                my ($channel, $text) = @{ shift @published // [ '', '{}' ] };
                is $channel, 'vaani:events', "$event: its channel";
                if (defined $room) {
                    is_deeply shift @published, [ "vaani:room:$room", $text ], '... and that of the room';
                }

                my ($head) = $text =~ /^(\{.*?),"payload":\Q$payload\E\}\z/;
                isnt $head, undef, '... the payload' or diag $text;
                my $message = $json->decode(($head // '{') . '}');
                like delete $message->{id}, @{ $expected->{events} } > 1 ? qr/^[0-9a-f]{32}\.$n$/ : qr/^[0-9a-f]{32}$/,
                    '... the id';

                my $call = defined $room && $expected->{calls}{$room};
                is delete $message->{received_at}, $client->cmd('HGET', "vaani:call:$room", 'updated_at'), '... the time'
                    if $call;
                delete $message->{received_at};
                is_deeply $message, {
                    event => $event,
                    defined $room ? (room_name => $room, key => "vaani:call:$room") : (),
                    $call ? (seq => 1, status => $call->{status}, late => JSON::PP::false) : (known => JSON::PP::false),
                    $expected->{repaired} ? (repaired => JSON::PP::true) : (),
                }, '... and all the rest';
            }
            is_deeply \@published, [], 'no other message';

            $response = $http->post($uri, $body);
            is $response->status . ' ' . $response->body, "200 $expected->{answers}[1]", 'a second time';
            calls_are($expected->{calls}, 'the same');
            is scalar(published()), %{ $expected->{calls} } ? 0 : grep({ defined } @rooms) + 1, '... published again, if unknown';
        };
    }
}

done_testing;
