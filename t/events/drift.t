# Vaani changes its deliveries without notice, and the module tells: what is new
# is kept by its name, never with its value, over all workers and reloads, within
# bounds; a line for each new name, numbers for the others.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP ();
use List::Util qw(sum0);
use Vaani::Test::Events;

use constant CANARY => 'canary-in-the-mine';

# Of names of events, members, and fields that were converted or left out.
use constant { EVENTS_KEPT => 16, MEMBERS_KEPT => 32 };

my $json = JSON::PP->new->utf8->canonical;
my $redis = Vaani::Test::Redis->start;

sub config ($more = '', $server = $redis->url) {
    return <<"CONF";
        vaani_redis $server;
        server {
            listen unix:%%SOCK%%;
            keepalive_requests 100000;
            add_header X-Worker \$pid always;
            location = /hook   { vaani_webhook; }
            location = /strict { vaani_webhook; vaani_validation strict; vaani_unknown_event reject; }
            location = /status { vaani_status; }
            $more
        }
CONF
}

# A connection to each worker.
sub clients ($nginx, $number = 2) {
    my %client;
    wait_for(sub {
        my $http = $nginx->http(retry => 0);
        $client{ $http->get('/status')->header('X-Worker') } //= $http;
        return keys %client == $number;
    }) or die "not all workers answer\n";
    return map { $client{$_} } sort keys %client;
}

sub status ($http) { return $http->get('/status?format=json')->json }

# { 'event kind name' => count }
sub drift ($http) {
    return { map { ("$_->{event} $_->{kind} $_->{name}" => $_->{count}) } @{ status($http)->{drift} } };
}

sub news ($nginx, $from = 0) {
    return map { /vaani: new in Vaani's deliveries: (.*?)(?:,? (?:client|while)[: ].*)?$/ ? $1 : () }
        $nginx->log_lines(qr/new in Vaani's/, $from);
}

sub postprocessing (%more) {
    return $json->encode({ event => 'call_postprocessing', call_id => "outbound-$$-1",
        data => { summary => 'x', %{ delete $more{data} // {} } }, %more });
}

subtest 'two workers and a reload' => sub {
    my $nginx = Vaani::Test::Nginx->start(http => config(), workers => 2);
    my ($one, $two) = clients($nginx);

    is_deeply status($one)->{drift}, [], 'nothing is new';
    is status($one)->{drift_other}, 0, '... nor counted';

    is $_->post('/hook', event('call_ended'))->status, 200, 'as documented' for $one, $two;
    is_deeply drift($one), {}, '... is not new';

    # The first event of each kind of difference by one worker, the next ones by both.
    my @bodies = (
        postprocessing(data => { sentiment => CANARY }, 'x-id' => CANARY),
        event('call.completed', room => 'r1', score => 7),
        event('call_ended', call_duration => '12'),
        event('call_ended', call_duration => [CANARY], n => 0),
        postprocessing(room_name => 'inbound-2-3'),
    );
    my %want = (
        'call_postprocessing member data.sentiment' => 1,
        'call_postprocessing member x-id' => 1,
        'other event call.completed' => 1,
        'call_ended converted call_duration' => 1,
        'call_ended ignored call_duration' => 1,
        'call_ended member n' => 1,
        'call_postprocessing call call_id' => 1,
    );
    is $one->post('/hook', $_)->status, 200, 'a delivery' for @bodies;
    is_deeply drift($two), \%want, 'what is new, as the other worker sees it';

    for my $http ($two, $one, $two) {
        $http->post('/hook', $_) for @bodies;
    }
    $_ *= 4 for values %want;
    is_deeply drift($one), \%want, 'it is counted over both';

    is_deeply [ sort(news($nginx)) ], [ sort(
        'member "data.sentiment" of call_postprocessing', 'member "x-id" of call_postprocessing',
        'event "call.completed"', 'member "n" of call_ended',
        '"call_duration" of call_ended has an undocumented type or value; it is converted',
        '"call_duration" of call_ended has an undocumented type or value; it is left out',
        qq("call_id" of call_postprocessing names a different call than the other fields),
    ) ], 'one line for each';
    is scalar(grep { !/\[notice\]/ } $nginx->log_lines(qr/new in Vaani's/)), 0, '... at notice';

    for my $row (@{ status($one)->{drift} }) {
        my $now = time;
        ok $row->{first} <= $row->{last} && $row->{first} > ($now - 60) * 1000 && $row->{last} <= ($now + 1) * 1000,
            "$row->{name}: first and last time";
    }
    my $text = $one->get('/status?format=prometheus')->body;
    like $text, qr/^vaani_drift_total\{event="call_postprocessing",kind="member",name="data\.sentiment"\} 4$/m, 'a series';
    like $text, qr/^vaani_drift_total\{event="other",kind="other",name="other"\} 0$/m, 'one for the others';

    my $mark = $nginx->log_mark;
    ok $nginx->reload(http => config('location = /new { return 204; }'), wait_old => 1), 'a reload';
    my ($three, $four) = clients($nginx);
    is_deeply drift($three), \%want, '... keeps them';
    $_->post('/hook', $bodies[0]) for $three, $four;
    $want{$_} += 2 for 'call_postprocessing member data.sentiment', 'call_postprocessing member x-id';
    is_deeply drift($four), \%want, '... and goes on with them';
    is_deeply [ news($nginx, $mark) ], [], '... and they are not new again';

    # Nothing but the numbers is lost with a worker.
    kill KILL => my @workers = $nginx->worker_pids;
    $nginx->allow_log(qr/exited on signal 9/);
    $nginx->wait_pids_gone(\@workers);
    my ($five) = clients($nginx);
    is_deeply drift($five), \%want, 'workers that are killed take nothing with them';

    my $seen = join '', $text, map { $five->get("/status?format=$_")->body } qw(json prometheus);
    unlike $seen . join('', $nginx->log_lines(qr/new in Vaani's/)), qr/\Q@{[CANARY]}\E/, 'no values anywhere';
};

subtest 'another Redis, another zone' => sub {
    my $nginx = Vaani::Test::Nginx->start(http => config());
    my ($http) = clients($nginx, 1);
    $http->post('/hook', event('new_one'));
    is_deeply drift($http), { 'other event new_one' => 1 }, 'new';
    my $other = Vaani::Test::Redis->start;
    ok $nginx->reload(http => config('', $other->url), wait_old => 1), 'a reload with another Redis';
    ($http) = clients($nginx, 1);
    is_deeply drift($http), {}, 'the numbers begin anew';
};

subtest 'what is no drift' => sub {
    my $nginx = Vaani::Test::Nginx->start(http => config());
    my ($http) = clients($nginx, 1);

    $http->post('/hook', $_) for
        '{"event":"webhook_test","timestamp":"2026-10-09T00:11:18Z"}',
        '{"event":"webhook_test","events":[{"event":"new_one","call_id":"x","new":1}]}',
        event('call_started', phone_number => undef, timestamp => '2026-10-09T00:11:18Z'),
        '{', '[]', '{"room_name":"r","new":1}';
    is_deeply status($http)->{drift}, [], 'the test button, nulls, no events';
    is status($http)->{drift_other}, 0, '... not among the others';

    # Senders that are not authorized cannot write to this.
    ok $nginx->reload(http => config('location = /token { vaani_webhook; vaani_token $arg_t secret; }'), wait_old => 1), 'a token';
    ($http) = clients($nginx, 1);
    is $http->post('/token?t=x', event('new_one'))->status, 401, 'not authorized';
    is_deeply drift($http), {}, '... is not looked at';

    # Differences in rejected events are recorded as well.
    is $http->post('/strict', event('new_one'))->status, 422, 'an unknown event is rejected';
    is $http->post('/strict', event('call_ended', call_duration => 'x', new => 1))->status, 422, 'so is a wrong type';
    is drift($http)->{'other event new_one'}, 1, '... and told';
};

subtest 'names are made safe' => sub {
    my $nginx = Vaani::Test::Nginx->start(http => config());
    my ($http) = clients($nginx, 1);
    my %names = (
        "a\nb" => 'a?b', '"' => '?', '\\' => '?', "\x{e9}" => '??', "x\0" => 'x?', 'a b' => 'a?b', '{' => '?',
        ("y" x 3000) => 'y' x 64, ("z" x 63 . "\x{20ac}") => 'z' x 63 . '?', 'Ok_1.-' => 'Ok_1.-', '' => '',
    );
    my %want;
    for my $name (sort keys %names) {
        is $http->post('/hook', postprocessing($name => 1))->status, 200, 'a name';
        $want{"call_postprocessing member $names{$name}"}++;
    }
    is $http->post('/hook', postprocessing(data => { 'w' x 100, 1 }))->status, 200, 'one in data';
    $want{'call_postprocessing member data.' . 'w' x 59}++;
    is_deeply drift($http), \%want, 'printable, and 64 bytes at most';
    my $text = $http->get('/status?format=prometheus')->body;
    is scalar(() = $text =~ /^vaani_drift_total\{event="\w+",kind="\w+",name="[A-Za-z0-9_.?-]*"\} \d+$/mg), 1 + keys %want,
        'the text is well-formed';
    is scalar(grep { /[^\x20-\x7e]/ } news($nginx)), 0, 'so is the log';
};

subtest 'a flood' => sub {
    my $nginx = Vaani::Test::Nginx->start(http => config(), workers => 2);
    my @http = clients($nginx);

    # Many at once, the same ones through both workers.
    my $flood = sub ($prefix) {
        my @bodies = map { my $n = int($_ / 2); postprocessing("$prefix$n" => 1) } 0 .. 399;
        Vaani::Test::HTTP::post_many($nginx->sock, '/hook', \@bodies, connections => 16);
        return scalar @bodies;
    };
    my $sent = $flood->('m');
    my $status = status($http[0]);
    is scalar @{ $status->{drift} }, MEMBERS_KEPT, 'as many members as there is room for';
    is scalar(keys %{ drift($http[1]) }), MEMBERS_KEPT, '... each of them once';
    is sum0(map { $_->{count} } @{ $status->{drift} }) + $status->{drift_other}, $sent, '... none is lost, the rest is counted';
    is scalar(() = news($nginx)), MEMBERS_KEPT + 1, 'a line for each that is kept, and one for the rest';

    $http[$_ % 2]->post('/hook', event("event$_")) for 1 .. 40;
    $status = status($http[0]);
    is scalar(grep { $_->{kind} eq 'event' } @{ $status->{drift} }), EVENTS_KEPT, 'events have room of their own';
    is scalar(grep { $_->{kind} eq 'member' } @{ $status->{drift} }), MEMBERS_KEPT, '... and evict nothing';

    $http[0]->post('/hook', event('call_ended', call_duration => '12'));
    is drift($http[1])->{'call_ended converted call_duration'}, 1, 'a field that is converted is seen all the same';
    is scalar(() = news($nginx)), MEMBERS_KEPT + 1 + EVENTS_KEPT + 1, 'the log is bounded as well';

    my @series = $http[0]->get('/status?format=prometheus')->body =~ /^vaani_drift_total\{.*$/mg;
    is scalar @series, MEMBERS_KEPT + EVENTS_KEPT + 1 + 1, 'so are the series';
};

done_testing;
