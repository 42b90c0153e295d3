# bin/vaani-call, the simulator, against a real nginx and Redis: what it sends is
# what the vendor documents, what it counts is what nginx counts, and it says so
# when something is not as it should be.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Errno qw(EAGAIN);
use IO::Select ();
use JSON::PP ();
use Vaani::Test::Certificates;
use Vaani::Test::Events;
use Vaani::Test::FakeEndpoint;
use Vaani::Test::Process ();
use Vaani::Test::Signing;
use Vaani::Test::Socket qw(listen_socket pause try_connect);

use constant TOOL => ROOT . '/bin/vaani-call';

my $json = JSON::PP->new->utf8;
my ($token, $secret, $other_secret) = (token_secret(), webhook_secret(), webhook_secret());

my $redis = Vaani::Test::Redis->start(tcp => 1, acl => [ Vaani::Test::ACL::with_prefix('other') ]);
my $client = $redis->client;
my $conf = <<"CONF";
    vaani_redis @{[ $redis->url ]};
    log_format connections '\$connection \$request_method \$content_type';
    access_log %%DIR%%/access.log connections;
    server {
        listen unix:%%SOCK%%;
        listen 127.0.0.1:%%PORT%%;
        location = /hook       { vaani_webhook; client_max_body_size 1m; }
        location = /strict     { vaani_webhook; vaani_validation strict; }
        location = /bare       { vaani_webhook; vaani_payload off; }
        location = /short      { vaani_webhook; vaani_payload max=200; }
        location = /token      { vaani_webhook; vaani_token \$arg_token $token; }
        location = /other      { vaani_webhook; vaani_token \$arg_key $token; }
        location = /header     { vaani_webhook; vaani_token \$http_x_vaani $token; }
        location = /signed     { vaani_webhook; vaani_secret $secret; }
        location = /silent     { vaani_webhook; vaani_channel off; }
        location = /elsewhere  { vaani_webhook; vaani_channel vaani:events; vaani_prefix other; }
        location = /spool      { vaani_webhook; vaani_spool %%DIR%%/spool; }
        location = /away       { vaani_webhook; vaani_redis unix:%%DIR%%/nothing.sock; }
        location = /echo       { default_type application/json; return 422 '{"detail":"no \$arg_token\\u001b[2J"}'; }
        location = /hang-up    { return 444; }
        location = /status     { vaani_status; access_log off; }
    }
CONF
my $nginx = Vaani::Test::Nginx->start(http => $conf);
my $sock = $nginx->sock;

@ENV{qw(VAANI_REDIS_USER VAANI_REDIS_PASSWORD)} = qw(admin sesame);
my @WATCH = ('--watch', 'unix:' . $redis->socket);

sub url ($path) { return "unix:$sock:$path" }

# Runs it to its end; nothing it says may have a secret in it.
my $said = '';

sub call (@arguments) {
    my ($exit, $out, $err) = run([ $^X, '-w', TOOL, @arguments ]);
    $said .= $out . $err;
    return ($exit, $out, $err);
}

# With --json: the exit status and the summary.
sub numbers (@arguments) {
    my ($exit, $out, $err) = call('--json', @arguments);
    diag $err if $err ne '' && $exit == 2;
    return ($exit, eval { $json->decode($out) } // {}, $err);
}

sub hash ($room, $prefix = 'vaani') { return $client->hgetall("$prefix:call:$room") }

# --- the program itself

subtest 'documentation' => sub {
    my $source = slurp(TOOL);
    my ($pod_exit, undef, $pod) = run([ 'podchecker', '-warnings', TOOL ]);
    is $pod_exit, 0, 'podchecker finds nothing';
    unlike $pod, qr/WARNING/, '... not even a warning' or diag $pod;

    my ($options) = $source =~ /\bqw\(\s*(path\|.*?)\)/s;
    my @options = sort map { /^([a-z-]+)/ } split ' ', $options;
    my @items = grep { /^=item / } split /\n/, $source;
    my %documented = map { $_ => 1 } map { /(?:B<|\s)--([a-z-]+)/g } @items;
    is_deeply [ sort keys %documented ], \@options, 'all options are documented, and no other';

    my ($exit, $help, $err) = call('--help');
    is "$exit $err", '0 ', '--help';
    like $help, qr/--$_\b/, "... has --$_" for @options;
    is_deeply [ $source =~ /^=head1 (.+)$/mg ],
        [ 'NAME', 'SYNOPSIS', 'DESCRIPTION', 'OPTIONS', 'ENVIRONMENT', 'EXIT STATUS', 'EXAMPLES', 'SEE ALSO' ],
        'the sections of a man page';

    # Perl's own modules, but for that of TLS, which is asked for.
    my %core = map { $_ => 1 } qw(
        Digest::SHA Errno Getopt::Long IO::Handle JSON::PP MIME::Base64 Time::HiRes Socket
        IO::Socket IO::Socket::UNIX IO::Socket::IP Pod::Usage strict warnings feature
    );
    my ($code) = $source =~ /^(.*?)^__END__$/ms;
    is join(' ', grep { !$core{$_} } $code =~ /^\s*(?:use|require|no) ([A-Z][\w:]+)/mg), '', 'no other modules';
    like $code, qr/eval \{ require IO::Socket::SSL/, '... and that one is optional';
};

# The names that people and the vendor use for a path, in this test's own
# words.
my %KINDS = (
    'outbound-answered'  => [ 'outbound-answered', 'completed', 'outbound' ],
    'outbound-rejected'  => [ 'rejected',          'rejected',  'outbound' ],
    'outbound-no-answer' => [ 'no-answer',         'no_answer', 'outbound' ],
    'outbound-failed'    => [ 'failed',            'failed',    'outbound' ],
    'inbound'            => [ 'inbound',           'completed', undef ],
    'web'                => [ 'inbound',           'completed', undef ],
);
my @OTHERS = qw(campaign webhook-test);
my %TRANSFERS = (
    ''                         => [ 'none' ],
    '-transfer-ok'             => [ 'transfer-successful',             'successful', 1, 1, 0 ],
    '-transfer-failed'         => [ 'transfer-failed',                 'failed',     1, 0, 1 ],
    '-transfer-failed-then-ok' => [ 'transfer-failed-then-successful', 'successful', 2, 1, 1 ],
);

sub path_parts ($path) {
    my ($kind, $transfer) = $path =~ /^(.*?)(-transfer-.*)?$/;
    return ($KINDS{$kind}, $TRANSFERS{ $transfer // '' });
}

# The bodies that the tests have for such a call, decoded.
sub documented ($path) {
    my ($kind, $transfer) = path_parts($path);
    return map { $json->decode($_) } call_path("$kind->[0]/$transfer->[0]");
}

my @paths;

subtest 'paths' => sub {
    my ($exit, $out) = call('--list-paths');
    my %listed;

    for (split /\n/, $out) {
        if (/^(\S+)$/)           { push @paths, $1 }
        elsif (/^    ([\w.]+)$/) { push @{ $listed{ $paths[-1] } }, $1 }
        else                     { fail("--list-paths: $_") }
    }

    my @wanted = map { my $kind = $_; map { "$kind$_" } keys %TRANSFERS } keys %KINDS;
    is_deeply [ splice @paths, -2 ], \@OTHERS, 'the last two are no calls';
    is_deeply $listed{'webhook-test'}, [ ('webhook_test') x 2 ], '... the test of the dashboard';
    is_deeply [ sort @paths ], [ sort @wanted ], 'all calls are listed' or return;
    is_deeply $listed{$_}, [ map { $_->{event} } documented($_) ], "the events of $_" for @paths;

    my ($wrong, undef, $err) = call('--path', 'outbound-foo', url('/hook'));
    is "$wrong $err", "2 vaani-call: unknown path 'outbound-foo'; see --list-paths\n", 'another one';
};

# --- the course of calls

# The hashes of a run with --path all.
sub hashes_are_right ($room) {
    my @wrong;
    for my $n (1 .. @paths) {
        my ($kind, $transfer) = path_parts($paths[ $n - 1 ]);
        my $hash = hash("$room-$n");
        my %want = (status => 'ended', outcome => $kind->[1], direction => $kind->[2], postprocessed => 1);
        @want{qw(transfer_status transfers_initiated transfers_successful transfers_failed)} = @$transfer[ 1 .. 4 ];
        $want{seq} = documented($paths[ $n - 1 ]);

        push @wrong, map { "$paths[$n - 1]: $_ is " . ($hash->{$_} // 'absent') . ', not ' . ($want{$_} // 'absent') }
            grep { ($hash->{$_} // '') ne ($want{$_} // '') } sort keys %want;
    }
    is join("\n", @wrong), '', 'status, outcome, direction, transfers, seq of all ' . @paths;
    return;
}

# Names and types, sorted.
sub shape ($value) {
    return 'null' if !defined $value;
    return '{' . join(' ', map { "$_:" . shape($value->{$_}) } sort keys %$value) . '}' if ref $value eq 'HASH';
    return '[' . join(' ', map { shape($_) } @$value) . ']' if ref $value eq 'ARRAY';
    return $json->allow_nonref->encode($value) =~ /^"/ ? 'text' : 'number';
}

# The current form's replacement for the guide's first one.
my $ENVELOPE = shape({
    event => 'text', call_id => 'text', timestamp => 'text', data => {
        room_name => 'text', call_id => 'text', call_duration => 1, end_reason => 'text', summary => 'text',
        entities => { location => 'text', intent => 'text' }, dispositions => { result => 'text' },
        recording_url => 'text', transcript => 'text',
    },
});

for my $format (2025, 2026) {
    subtest "every path in the form of $format" => sub {
        my $subscriber = $redis->client->subscribe('vaani:events');
        my $room = new_room();
        my @format = $format == 2025 ? ('--format', $format) : ();
        my ($exit, $summary) = numbers('--path', 'all', '--room', $room, @format, url('/hook'));
        is $exit, 0, 'exit status';
        hashes_are_right($room);

        my $events = 0;
        $events += documented($_) for @paths;
        is_deeply $summary->{answers}, { ok => $events }, "$events times ok" or return;

        # Members and their types are those of the vendor; values may differ.
        my @messages = map { $json->decode($_->{payload}) } $subscriber->next_messages($events);
        my (%sent, @wrong);
        push @{ $sent{ $_->{room_name} } }, $_ for @messages;

        for my $n (1 .. @paths) {
            my @bodies = map { $_->{payload} } @{ $sent{"$room-$n"} };
            my @want = documented($paths[ $n - 1 ]);
            $want[0]{phone_number} = 'text' if $format == 2026;
            @want = map { shape($_) } @want;
            $want[-1] = $ENVELOPE if $format == 2026;
            my ($got, $want) = (join("\n", map { shape($_) } @bodies), join "\n", @want);
            push @wrong, "$paths[$n - 1]:\n$got\nnot\n$want" if $got ne $want;

            # Both durations say the same, each in its unit.
            my ($ended, $processed) = map { ($_->{data} // $_)->{call_duration} } @bodies[ -2, -1 ];
            push @wrong, "$paths[$n - 1]: $ended s, $processed ms" if abs(1000 * $ended - $processed) > 0.1;
            push @wrong, "$paths[$n - 1]: the status of $_->{event}"
                for grep { defined $_->{status} && $_->{event} =~ /ringing|picked/ && $_->{status} !~ /ringing|active/ } @bodies;
        }
        is join("\n", @wrong), '', 'members and types';

        my @two = map { $_->{phone_number} } grep { $_->{event} eq 'human_transfer_initiated' }
            map { $_->{payload} } @{ $sent{"$room-" . (1 + (grep { $paths[$_] eq 'inbound-transfer-failed-then-ok' } 0 .. $#paths)[0]) } };
        isnt $two[0], $two[1], 'the second transfer is to another number';
    };
}

# --- formats

# The posted request, as the endpoint sees it.
sub posted ($n, @arguments) {
    my $fake = Vaani::Test::FakeEndpoint->start(sub ($request, $fake) { return ok_answer() }, record => 1);
    my ($exit, $out, $err) = call(@arguments, 'unix:' . $fake->socket . ':/hook');
    diag "exit $exit: $out$err" if $exit;
    my @requests = $fake->requests($n);
    $fake->stop;
    is scalar @requests, $n, "$n requests: @arguments";
    return @requests;
}

my @formats;

subtest 'formats' => sub {
    my (undef, $out) = call('--list-formats');
    @formats = $out =~ /^(\S+) +\S/mg;
    is_deeply \@formats, [qw(2026 2025 details nulls array several nested stamped seconds turns text bare damaged)],
        '--list-formats';

    my ($exit, undef, $err) = call('--format', '2024', url('/hook'));
    is "$exit $err", "2 vaani-call: unknown format '2024'; see --list-formats\n", 'another one';

    # The events of one call in each; those of the end are what differs most.
    my @call = ('--path', 'outbound-failed-transfer-failed', '--room', 'outbound-1-a', '--transcript', 140);
    my %body = map { my $format = $_; ($format => [ map { $_->{body} } posted($format eq 'several' ? 5 : 6, @call, '--format', $format) ]) } @formats;
    my %decoded = map { my $format = $_; ($format => [ map { eval { $json->decode($_) } } @{ $body{$format} } ]) } @formats;
    my %last = map { $_ => $decoded{$_}[-1] } @formats;

    is join(' ', sort keys %{ $last{2025} }), 'call_duration entities event recording_url room_name summary transcript', '2025: flat';
    is join(' ', sort keys %{ $last{2026} }), 'call_id data event timestamp', '2026: an envelope';
    is shape($last{2026}), $ENVELOPE, '... and what is in it';
    is $last{2026}{data}{call_id}, 'outbound-1-a', '... with the name of the call';
    like $last{2026}{timestamp}, qr/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$/, '... and a time';
    like $last{2026}{data}{transcript}, qr/^\[13:33:14\] AGENT: .*\n\n\[13:33:19\] USER: /, '... and times in the transcript';

    my $details = $last{details};
    is "$details->{call_id} $details->{data}{call_id} $details->{data}{call_type}", 'outbound-1-a outbound-1-a outbound_call', 'details: call_id, the type';
    unlike $body{details}[-1], qr/room_name/, '... and no room_name';
    is join(' ', grep { /_at$/ && defined $details->{data}{$_} } sort keys %{ $details->{data} }), 'call_dialing_at call_ended_at', '... times of what happened';
    ok exists $details->{data}{picked_up_at}, '... and null for what did not';

    is_deeply [ map { $last{nulls}{data}{$_} } qw(summary entities dispositions recording_url) ], [ (undef) x 4 ], 'nulls';
    is shape($last{array}{events}), "[$ENVELOPE]", 'array: one envelope in events';
    is_deeply [ sort keys %{ $last{array} } ], [qw(event events timestamp)], '... and around it an event and a time';
    is_deeply [ map { $_->{event} } @{ $last{several}{events} } ], [qw(call_ended call_postprocessing)], 'several: two in one body';
    is join(' ', map { $_->{data}{call_id} } @{ $last{several}{events} }), 'outbound-1-a outbound-1-a', '... with their calls in data';
    is_deeply [ grep { !$_->{data}{call_id} || $_->{data}{event} } @{ $decoded{nested} } ], [], 'nested: all events have data';
    is_deeply [ grep { $_->{timestamp} !~ /^20\d\d-/ || $_->{data} } @{ $decoded{stamped} } ], [], 'stamped: all events have a time';
    is scalar(grep { $_->{transcript}[0]{role} && $_->{transcript}[1]{speaker} } $last{turns}), 1, 'turns';

    my @text = @{ $decoded{text} };
    like $body{text}[0], qr/^\{\n  "event":/, 'text: indented';
    is join(' ', shape($text[1]) =~ /\b(error:\w+)/, shape($text[3]) =~ /\b((?:phone_number|sip_status):\w+)/g, map { shape($_) =~ /\b(call_duration:\w+)/ } @text[ 4, 5 ]),
        'error:number phone_number:number sip_status:number call_duration:text call_duration:text', '... and the other type';
    is_deeply [ map { join ' ', sort keys %{ $_->{data} // $_ } } @{ $decoded{bare} }[ 0, 2, 4, 5 ] ],
        [ ('event room_name') x 2, 'call_duration event room_name', 'call_id room_name transcript' ], 'bare';
    is_deeply [ map { /^\xef\xbb\xbf\{/ ? 1 : 0 } @{ $body{damaged} } ], [ (1) x 6 ], 'damaged: a byte order mark';
    like $body{damaged}[1], qr/\xff\xfe/, '... bytes that are not UTF-8';
    like $body{damaged}[4], qr/"call_duration":NaN/, '... NaN';
    like $body{damaged}[5], qr/\\ud83d"/, '... half an emoji';
    is_deeply [ grep { defined } map { @$_ } @decoded{qw(damaged)} ], [], '... which no strict reader takes';

    # Every call in every form, in the order in which they happen and in another.
    my $all = @formats * @paths;
    for my $options ([], [qw(--shuffle --duplicates 0.5)], [qw(--shuffle --duplicates 1 --ids -c 5)]) {
        my ($exit, $summary, $err) = numbers(@WATCH, '--check', '--path', 'all', '--format', 'all', @$options, url('/hook'));
        is $exit, 0, "every path in every form: @$options" or diag $err;
        is $summary->{watch}{checked}, $all, "... $all calls, whose hashes are right";
        # Two events of each path are in one body in one of the forms.
        is $summary->{watch}{heard}, $summary->{answers}{ok} + @paths, '... each event is published';
    }
    for my $where ('/bare', '/short') {
        my ($exit, $summary, $err) = numbers(@WATCH, '--check', qw(--path all --format all --shuffle --duplicates 0.5), url($where));
        is $exit, 0, "... without payloads: $where" or diag $err;
        is $summary->{watch}{heard}, $summary->{answers}{ok} + @paths, '... each event is published';
    }
    ($exit, my $summary) = numbers(@WATCH, '--check', '--path', 'all', '--format', join(',', @formats[ 0 .. 8 ]), url('/strict'));
    is $exit, 0, 'strict takes the first ones';
    is +(numbers('--format', $_, '-p', 'outbound-failed-transfer-failed', url('/strict')))[0], 1, "... but not $_" for @formats[ 9 .. 12 ];
};

subtest 'names of calls' => sub {
    for my $case ([ 'outbound-failed', 'outbound' ], [ inbound => 'inbound' ], [ web => 'webrtc' ]) {
        my ($path, $prefix) = @$case;
        my $before = time;
        my @names = map { $json->decode($_->{body})->{room_name} // 'none' } posted(8, '-p', $path, '-n', 2, '--format', '2026,stamped');
        my %names = map { $_ => 1 } grep { $_ ne 'none' } @names;
        is scalar keys %names, 2, '... two names';
        is join(' ', grep { !/^$prefix-(\d{10})-ca11[0-9a-f]{16}$/ || $1 < $before || $1 > time } keys %names), '', "... of $prefix";

        # In Redis, the direction follows from the name.
        my ($exit, $summary, $err) = numbers(@WATCH, '--check', '-p', $path, url('/hook'));
        is $exit, 0, '... has its direction' or diag $err;
    }
    my ($first, $second) = map { (posted(4, '-p', 'outbound-failed', '--format', 2025))[0]{body} =~ /"room_name":"(.*?)-1"/ } 1, 2;
    like $first, qr/^sim-[0-9a-f]{12}$/, 'those of 2025';
    isnt $first, $second, '... are others in each run';
};

subtest '--test' => sub {
    my @requests = posted(2, '--test');
    my ($alone, $samples) = map { $json->decode($_->{body}) } @requests;
    is shape($alone), '{event:text timestamp:text}', 'without samples';
    is $alone->{event}, 'webhook_test', '... the event';
    like $alone->{timestamp}, qr/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, '... the time';
    is $samples->{event}, 'webhook_test', 'with samples';
    is shape($samples->{events}), "[$ENVELOPE]", '... one that looks like a call';

    my ($exit, $out) = call('-v', '--test', @WATCH, '--check', url('/hook'));
    is $exit, 0, 'the module';
    is join('', $out =~ /^([<>]) /mg), '><' x 2, '... takes and publishes both';
    like $out, qr/^  unknown +2\n/m, '... as unknown events';
    like $out, qr/^  in Redis +1 call checked, all as expected$/m, '... of which none is a call';
    is scalar(grep { /webhook_test/ } $client->cmd('KEYS', '*')), 0, '... nor anything else';

    my $broken = Vaani::Test::FakeEndpoint->start(sub ($request, $fake) { return answer_with(422, '{"detail":"unknown event"}') });
    is +(call('--test', 'unix:' . $broken->socket . ':/x'))[0], 1, 'an endpoint that refuses it';
    like +(call('--test', '--path', 'all', url('/hook')))[2], qr/^vaani-call: --test and --path cannot be combined/, 'with a path';

    ($exit, my $summary, my $err) = numbers('--path', 'campaign', @WATCH, '--check', '--duplicates', 1, url('/hook'));
    is $exit, 0, 'campaign webhooks' or diag $err;
    is_deeply $summary->{answers}, { unknown => 10 }, '... are unknown, also when they are repeated';
    is $summary->{watch}{heard}, 10, '... and published';
};

subtest 'in disorder' => sub {
    for my $case (
        [ 'shuffled' => '--shuffle' ],
        [ 'with repeats' => '--duplicates', 1.5 ],
        [ 'both' => '--shuffle', '--duplicates', 1.5, '--concurrency', 5 ],
        [ 'both, with ids' => '--shuffle', '--duplicates', 1.5, '--ids', '--concurrency', 5 ],
    ) {
        my ($name, @options) = @$case;
        my $room = new_room();
        my ($exit, $summary) = numbers('--path', 'all', '--room', $room, @options, url('/hook'));
        is $exit, 0, "$name: exit status";
        hashes_are_right($room);

        my $repeated = $summary->{repeated};
        is $summary->{answers}{duplicate} // 0, $repeated, '... repeats are duplicates';
        cmp_ok $repeated, '>', $summary->{answers}{ok}, '... and there are enough' if "@options" =~ /duplicates/;
    }

    my $room = new_room();
    my (undef, $out) = call('-v', '--shuffle', '--seed', 1, '--room', $room, url('/hook'));
    my @order = map { /^> \S+ (\w+):/ } split /\n/, $out;
    my @documented = map { $_->{event} } documented('outbound-answered');
    isnt "@order", "@documented", 'the order is another one';
    is join(' ', sort @order), join(' ', sort @documented), '... of the same events';

    # A repeat with an id may come after other events.
    (undef, $out) = call('-v', '--ids', '--duplicates', 1, '--seed', 1, '--room', new_room(), url('/hook'));
    @order = map { /^> \S+ (\w+(?: again)?):/ } split /\n/, $out;
    ok grep({ $order[$_] =~ / again/ && $order[ $_ - 1 ] ne $order[$_] =~ s/ again//r } 1 .. $#order), 'with ids, repeats are anywhere';
    is scalar(grep { / again$/ } @order), scalar @documented, '... one for each';
};

subtest 'the same seed' => sub {
    my @runs = map {
        my (undef, $out) = call('-v', '-n', 8, '-p', 'random', '--shuffle', '--duplicates', 0.3, '--malformed', 0.3,
            '--seed', $_->[1], '--room', $_->[0], url('/hook'));
        $out =~ s/\b\Q$_->[0]\E-/X-/gr =~ s/ \(\d[^)]*\)$//mgr =~ s/^[^>].*\n//mgr;
    } [ 'seed-a', 7 ], [ 'seed-b', 7 ], [ 'seed-c', 8 ];
    is $runs[1], $runs[0], 'gives the same run';
    isnt $runs[2], $runs[0], '... and another one another';
};

# The answers that the contract has for them.
my %REFUSED = (
    (map { $_ => 400 } 'not JSON', 'empty', 'cut off', 'trailing comma', 'trailing garbage', 'a Python dict', 'nested too deep'),
    (map { $_ => 415 } 'not compressed', 'a form', 'plain text'),
    (map { $_ => 422 } 'an array', 'no event', 'event is a number', 'event is too long', 'no room_name', 'empty room_name',
        'room_name too long', 'control character', 'half a character', 'too many events', 'events are numbers', 'events in events'),
);
my %REFUSED_STRICT = (
    (map { $_ => 400 } 'name twice', 'not UTF-8'),
    (map { $_ => 422 } 'no duration', 'negative duration', 'duration is text', 'wrong status', 'transfer to nobody', 'entities are text'),
);

subtest 'malformed bodies' => sub {
    for my $case ([ lenient => url('/hook'), {} ], [ strict => '--strict', url('/strict'), \%REFUSED_STRICT ]) {
        my ($name, @arguments) = @$case;
        my %want = (%REFUSED, %{ pop @arguments });
        my ($exit, $out) = call('-v', '-n', 50, '--malformed', 2, '--seed', 5, '--format', 2025, @arguments);
        is $exit, 0, "$name: are expected to be refused";

        my %status;
        $status{$1} .= "$2 " while $out =~ /malformed \(([^)]+)\): (\d+)/g;
        s/^(\d+) (?:\1 )*$/$1/ for values %status;
        is_deeply \%status, \%want, '... all kinds, each with one answer';
        like $out, qr/^  422 +\d+$/m, '... which are counted';
    }

    my ($exit, $summary, $err) = numbers('-n', 20, '--malformed', 2, '--seed', 5, '--strict', url('/hook'));
    is $exit, 1, 'one that is accepted is a failure';
    is $summary->{passed}, JSON::PP::false, '... which the summary says';
    my @told = split /\n/, $err;
    like $told[5], qr/^vaani-call: further unexpected answers are not printed/, '... the last line says so';
    like $told[0], qr/^vaani-call: outbound-\S+ malformed \(.*\): 200 ok$/, '... and is told';
    is scalar @told, 6, '... not for ever';
    cmp_ok $summary->{unexpected}, '>', 6, '... although there are more';

    # With authentication, a Content-Type may be overlooked.
    my (undef, $out) = call('-v', '-n', 50, '--malformed', 2, '--token', $token, url('/token'));
    unlike $out, qr/malformed \(plain text\)/, 'JSON with another type is not sent with a token';
    like $out, qr/malformed \(a form\): 4\d\d/, '... but a form is, and is refused';
};

subtest 'numbers are those of nginx' => sub {
    my $sum = sub {
        my %sum;
        for my $row (@{ $nginx->http->get('/status?format=json')->json->{deliveries} }) {
            $sum{$_} += $row->{$_} for grep { $_ ne 'event' } keys %$row;
        }
        return \%sum;
    };
    my $before = $sum->();
    my ($exit, $summary) = numbers(qw(-n 200 -c 8 -p random --shuffle --duplicates 0.4 --malformed 0.3), url('/hook'));
    my $after = $sum->();
    my %grown = map { $_ => $after->{$_} - $before->{$_} } keys %$after;
    my %answers = %{ $summary->{answers} };

    is $exit, 0, 'exit status';
    is $grown{ok}, $answers{ok}, "ok: $answers{ok}";
    is $grown{duplicate}, $answers{duplicate}, "duplicate: $answers{duplicate}";
    is $grown{rejected}, $answers{400} + $answers{415} + $answers{422}, "rejected: $grown{rejected}";
    is $summary->{events}, $answers{ok} + $answers{duplicate} + $grown{rejected}, 'events';
    is $summary->{malformed}, $grown{rejected}, 'malformed';
    is $summary->{repeated}, $answers{duplicate}, 'repeated';
    is_deeply [ @{ $summary->{calls} }{qw(started finished)} ], [ 200, 200 ], 'calls';
    my $paths = 0;
    $paths += $_ for values %{ $summary->{calls}{paths} };
    is $paths, 200, '... of these paths';

    my $latency = $summary->{latency_ms};
    ok 0 < $latency->{p50} && $latency->{p50} <= $latency->{p99} && $latency->{p99} <= $latency->{max}, 'latencies';
    cmp_ok abs($summary->{rate} * $summary->{seconds} / $summary->{events} - 1), '<', 0.05, 'the rate';
};

subtest 'transcripts' => sub {
    for my $case ([ 0 => 0 ], [ 5000 => 5000 ], [ '100k' => 102_400 ]) {
        my ($text, $bytes) = @$case;
        my $room = new_room();
        is +(numbers('--transcript', $text, '--room', $room, url('/hook')))[0], 0, "--transcript $text";
        is length(hash($room)->{transcript}), $bytes, '... is as long';
    }
    my ($exit, $summary) = numbers('--transcript', '2m', url('/hook'));
    is $exit, 1, 'one that is longer than nginx takes';
    is_deeply $summary->{answers}, { ok => 4, 413 => 1 }, '... is answered 413';
};

# --- who sends

subtest 'token' => sub {
    my $file = secret_file('token', "\n$token\n");

    for my $case (
        [ 'given'         => 0, '--token', $token, url('/token') ],
        [ 'from a file'   => 0, '--token', "file=$file", url('/token') ],
        [ 'after a query' => 0, '--token', $token, url('/token?a=1') ],
        [ 'in the URL'    => 0, url("/token?token=$token") ],
        [ 'another name'  => 0, '--token', $token, '--token-arg', 'key', url('/other') ],
        [ 'as a header'   => 0, '--header', "X-Vaani: $token", url('/header') ],
        [ 'none'          => 1, url('/token') ],
        [ 'a wrong one'   => 1, '--token', token_secret(), url('/token') ],
    ) {
        my ($name, $want, @arguments) = @$case;
        my ($exit, $summary) = numbers('-v', @arguments);
        is $exit, $want, $name;
        is_deeply $summary->{answers}, $want ? { 401 => 5 } : { ok => 5 }, '... the answers';
    }

    my ($exit, $out) = call('-v', '--token', $token, url('/echo'));
    like $out, qr/422: no \.\.\. \[2J/, 'one that a server repeats is not printed, nor its control characters';

    my (undef, undef, $err) = call('--token', $token, "http://127.0.0.1:1/x?token=$token");
    like $err, qr{cannot connect to http://127\.0\.0\.1:1/x\?\.\.\.: }, 'nor that of the URL';
};

subtest 'secrets that a server repeats' => sub {
    # A character that needs an escape in each spelling there is, and one outside of
    # ASCII. The server answers with each spelling in turn.
    my $key = qq(s3 k/r+&<"=%\xc3\xa9z);
    my @characters = map { [ $_, ord ] } split //, $key =~ s/\xc3\xa9/\xe9/r;
    my $utf8 = sub ($c) { utf8::encode($c->[0]); $c->[0] };
    my %spelling = (
        'as it is'          => sub ($c) { $utf8->([@$c]) =~ s/(["])/\\$1/r },
        'percent'           => sub ($c) { $c->[0] =~ /\w/a ? $c->[0] : join '', map { sprintf '%%%02X', ord } split //, $utf8->([@$c]) },
        'lower percent'     => sub ($c) { join '', map { sprintf '%%%02x', ord } split //, $utf8->([@$c]) },
        'percent twice'     => sub ($c) { join '', map { sprintf '%%25%02X', ord } split //, $utf8->([@$c]) },
        'a form'            => sub ($c) { $c->[0] eq ' ' ? '+' : join '', map { sprintf '%%%02X', ord } split //, $utf8->([@$c]) },
        'JSON'              => sub ($c) { sprintf '\\u%04x', $c->[1] },
        'JSON in JSON'      => sub ($c) { sprintf '\\\\u%04X', $c->[1] },
        'slashes'           => sub ($c) { $c->[0] eq '/' ? '\\\\/' : $utf8->([@$c]) =~ s/(["])/\\\\\\$1/r },
        'HTML'              => sub ($c) { { '&' => '&amp;', '<' => '&lt;', '"' => '&quot;' }->{ $c->[0] } // $utf8->([@$c]) },
        'HTML, decimal'     => sub ($c) { "&#$c->[1];" },
        'HTML, hexadecimal' => sub ($c) { sprintf '&#x%X;', $c->[1] },
    );
    my ($secret_text, $header) = ('whsec_' . 'c2VjcmV0c2VjcmV0', 'Bearer abcdefgh');

    for my $name (sort keys %spelling) {
        my $said = join '', map { $spelling{$name}->([@$_]) } @characters;
        my $fake = Vaani::Test::FakeEndpoint->start(sub ($request, $fake) {
            return answer_with(422, qq({"detail":"<$said> <abcdefgh> <c2VjcmV0c2VjcmV0> <in%20query>"}));
        });
        my ($exit, undef, $err) = call('--token', $key, '--secret', $secret_text, '-H', "Authorization: $header",
            'unix:' . $fake->socket . ':/x?other=in+query');
        $fake->stop;
        my ($line) = $err =~ /call_started: 422: (.*)$/m;
        is $line, '<...> <...> <...> <...>', $name;
    }

    my ($exit, undef, $err) = call('--watch', 'redis://admin:wrong-password@localhost:' . $redis->port, url('/hook'));
    unlike $err, qr/wrong-password/, 'the password of Redis';
    my ($request) = posted(5, '--token', $key);
    is $request->{line}, 'POST /hook?token=s3%20k%2Fr%2B%26%3C%22%3D%25%C3%A9z HTTP/1.1', 'the token is sent escaped';
};

subtest 'signatures' => sub {
    my @disorder = ('-n', 10, '--duplicates', 1, '--malformed', 1);
    my ($exit, $summary) = numbers('--secret', $secret, @disorder, url('/signed'));
    is $exit, 0, 'are accepted';
    ok !$summary->{answers}{401}, '... also of malformed bodies' or diag explain $summary;
    is $summary->{answers}{duplicate}, 50, '... and ids tell repeats';

    my $file = secret_file('webhook', "$secret\n");
    is +(numbers('--secret', "file=$file", url('/signed')))[0], 0, 'a secret from a file';

    for my $case ([ 'a wrong secret', '--secret', $other_secret ], ['no secret'], [ 'only ids', '--ids' ]) {
        my ($name, @options) = @$case;
        ($exit, $summary) = numbers(@options, @disorder, url('/signed'));
        is $exit, 1, $name;
        # The Content-Type is looked at first.
        my $forms = delete $summary->{answers}{415} // 0;
        is_deeply $summary->{answers}, { 401 => $summary->{events} - $forms }, '... is refused';
        is $summary->{unexpected}, $summary->{events} - $forms, '... also for malformed bodies';
    }

    my (undef, undef, $err) = call('--secret', 'whsec_!', url('/signed'));
    is $err, "vaani-call: --secret for Standard Webhooks must be whsec_ followed by base64\n", 'one that is none';
    (undef, undef, $err) = call('--secret', 'nonsense', '--signature', 'standard', url('/signed'));
    is $err, "vaani-call: --secret for Standard Webhooks must be whsec_ followed by base64\n", '... nor is this';
    like +(call('--secret', 'x', '--signature', 'md5', url('/x')))[2], qr/^vaani-call: --signature must be vaani, campaign or standard, not 'md5'$/, 'another way';
    like +(call('--signature', 'vaani', url('/x')))[2], qr/^vaani-call: --signature requires --secret$/, 'without a secret';
};

subtest 'signatures of the dashboard and of campaigns' => sub {
    my $key = token_secret();
    my @posted = posted(6, '--secret', $key, '-p', 'outbound-failed-transfer-failed');
    for my $request (@posted) {
        my ($event, $signature) = @{ $request->{headers} }{qw(x-webhook-event x-webhook-signature)};
        my $prefix = $event eq 'call_started' ? '' : 'sha256=';
        is $signature, $prefix . hex_signature($key, $request->{body}), "$event";
        is $event, $json->decode($request->{body})->{event}, '... is named';
    }
    ok !grep({ $_->{headers}{'webhook-id'} || $_->{headers}{'x-vaani-signature'} } @posted), 'nothing else is sent';
    is join(' ', map { $_->{headers}{'x-webhook-event'} } posted(2, '--secret', $key, '--test')), 'webhook_test webhook_test', '--test';
    is join(' ', map { $_->{headers}{'x-webhook-event'} } posted(5, '--secret', $key, '-H', 'x-webhook-event: mine')), 'mine ' x 4 . 'mine', 'a header replaces it';

    my $before = time;
    for my $request (posted(5, '--secret', $key, '--signature', 'campaign', '--ids')) {
        my ($time, $signature, $id) = @{ $request->{headers} }{qw(x-vaani-timestamp x-vaani-signature webhook-id)};
        is $signature, 'sha256=' . hex_signature($key, "$time.$request->{body}"), 'campaign';
        ok $time >= $before && $time <= time, '... at this time';
        like $id, qr/^msg_/, '... and an id, if there is to be one';
    }

    my $checked = Vaani::Test::Nginx->start(http => <<"CONF");
        vaani_redis @{[ $redis->url ]};
        server {
            listen unix:%%SOCK%%;
            location = /vaani { vaani_webhook; vaani_signature vaani secret=$key; }
        }
CONF
    my $signed = 'unix:' . $checked->sock . ':/vaani';
    my @disorder = ('-n', 10, '-p', 'all', '--duplicates', 1, '--malformed', 1);
    for my $signature (qw(vaani campaign)) {
        my ($exit, $summary, $err) = numbers('--secret', $key, '--signature', $signature, @disorder, $signed);
        is $exit, 0, "$signature: is accepted by the module" or diag $err;
        ok !$summary->{answers}{401}, '... also of malformed bodies';

        my $other = token_secret();
        ($exit, $summary) = numbers('--secret', $other, '--signature', $signature, $signed);
        is_deeply $summary->{answers}, { 401 => 5 }, '... but no other secret';
    }
    is +(numbers('--secret', $key, '--test', $signed))[0], 0, '--test, signed';
};

# --- where to

subtest 'connections' => sub {
    my $tcp = 'http://127.0.0.1:' . $nginx->port . '/hook';
    my $room = new_room();
    for my $url (url('/hook'), 'http://' . url('/hook'), $tcp, $tcp =~ s/127.0.0.1/localhost/r) {
        my $lines = () = slurp($nginx->dir . '/access.log') =~ /\n/g;
        is +(numbers('-n', 5, $url))[0], 0, $url =~ s/\Q$sock\E/.../r;

        my @log = wait_for(sub { (split /\n/, slurp($nginx->dir . '/access.log')) >= $lines + 25 })
            ? (split /\n/, slurp($nginx->dir . '/access.log'))[ $lines .. $lines + 24 ] : ();
        my %connections = map { (split)[0] => 1 } @log;
        is scalar keys %connections, 1, '... one connection, kept alive';
        is scalar(grep { m{ POST application/json$} } @log), 25, '... POST of JSON';
    }

    # It ends a connection after some requests, as all servers do.
    my $short = Vaani::Test::Nginx->start(http => $conf =~ s/server \{/server { keepalive_requests 3;/r);
    is_deeply +(numbers('-n', 5, 'unix:' . $short->sock . ':/hook'))[1]{answers}, { ok => 25 }, 'a server that closes connections';
    $short->stop;

    # Answers of servers other than nginx: chunks, little by little; no length.
    my $ok = '{"status":"ok"}';
    my $chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip;q=0, chunked\r\n\r\n";
    for my $case (
        [ 'chunks' => "HTTP/1.1 100 Continue\r\n\r\n", $chunked, "b\r\n{\"status\":\"", "\r\n4;x=y\r\nok\"}\r\n0\r\n", "X: y\r\n\r\n" ],
        [ 'chunks with one line end' => "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n", "f \n$ok\n0\n\n" ],
        [ 'chunks, byte by byte' => split //, "${chunked}00f\r\n$ok\r\n000\r\nA: b\r\n\r\n" ],
        [ 'the length twice' => "HTTP/1.1 200 OK\r\nContent-Length: 15\r\nContent-Length: 15\r\n\r\n$ok" ],
        [ 'no length' => "HTTP/1.1 200 OK\r\n\r\n", '{"status":"o', 'k"}', undef ],
    ) {
        my ($name, @parts) = @$case;
        my $server = Vaani::Test::FakeEndpoint->start(sub ($request, $fake) { return @parts });
        my ($exit, $summary) = numbers('unix:' . $server->socket . ':/x');
        is $exit, 0, $name;
        is_deeply $summary->{answers}, { ok => 5 }, '... all is understood';
        is $summary->{connections}{made}, defined $parts[-1] ? 1 : 5, '... over as many connections as it takes';
        $server->stop;
    }

    # Bytes that can never become an answer are not waited for.
    my $long = 'x' x 70_000;
    for my $case (
        [ 'no size'              => 'invalid chunk in the answer'          => "${chunked}zz\r\n$ok\r\n0\r\n\r\n" ],
        [ 'an empty size'        => 'invalid chunk in the answer'          => "$chunked\r\n$ok\r\n0\r\n\r\n" ],
        [ 'a negative size'      => 'invalid chunk in the answer'          => "$chunked-1\r\n$ok\r\n0\r\n\r\n" ],
        [ 'an endless size'      => 'invalid chunk in the answer'          => "$chunked" . '0' x 9 ],
        [ 'a size of gigabytes'  => 'invalid chunk in the answer'          => "${chunked}ffffffff\r\n$ok" ],
        [ 'a chunk too long'     => 'invalid chunk in the answer'          => "${chunked}e\r\n$ok\r\n0\r\n\r\n" ],
        [ 'a chunk too short'    => 'invalid chunk in the answer'          => "${chunked}10\r\n$ok\r\n0\r\n\r\n" ],
        [ 'no text as length'    => 'invalid Content-Length in the answer' => "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n$ok" ],
        [ 'two lengths'          => 'invalid Content-Length in the answer' => "HTTP/1.1 200 OK\r\nContent-Length: 15, 16\r\n\r\n$ok" ],
        [ 'SSH'                  => 'answer is not HTTP'                   => "SSH-2.0-OpenSSH_9.2p1\r\n" ],
        [ 'HTTP/2'               => 'answer is not HTTP'                   => "\0\0\22\4\0\0\0\0\0" ],
        [ 'no status'            => 'answer is not HTTP'                   => "HTTP/1.1 OK\r\n\r\n" ],
        [ 'too much of it'       => 'answer too long'                      => "HTTP/1.1 200 OK\r\n", ("X: $long\r\n") x 20 ],
        [ 'half of it'           => 'incomplete answer'                    => "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{", undef ],
        [ 'half of a chunk'      => 'incomplete answer'                    => "${chunked}f\r\n{", undef ],
    ) {
        my ($name, $error, @parts) = @$case;
        my $server = Vaani::Test::FakeEndpoint->start(sub ($request, $fake) { return @parts });
        my ($exit, $summary, $err) = numbers('--timeout', 60, 'unix:' . $server->socket . ':/x');
        is $exit, 1, $name;
        is_deeply $summary->{errors}, { $error => 5 }, "... $error" or diag $err;
        cmp_ok $summary->{seconds}, '<', 30, '... without waiting for more';
        $server->stop;
    }

    # A unix socket whose queue is full, until a connection in it is accepted.
    my $listener = listen_socket(tmpdir() . '/queue.sock', 1);
    my $out = tmpdir() . '/queue.out';
    my $process = Vaani::Test::Process->spawn(
        argv => [ $^X, TOOL, '--json', qw(-n 8 -c 8), 'unix:' . tmpdir() . '/queue.sock:/x' ], stdout => $out, stderr => $out,
    );
    ok wait_for(sub { !try_connect(tmpdir() . '/queue.sock', 0) && $!{EAGAIN} }), 'the queue of a socket is full';
    my ($select, %in) = IO::Select->new($listener);
    while ($process->alive) {
        for my $fh ($select->can_read(0.05)) {
            if ($fh == $listener) {
                accept my $client, $listener or die "accept: $!";
                $select->add($client);
            } elsif (!sysread $fh, $in{$fh}, 65536, length($in{$fh} // '')) {
                $select->remove($fh);
                delete $in{$fh};
            } elsif ($in{$fh} =~ /Content-Length: (\d+)\r\n\r\n(.*)/s && length $2 == $1) {
                $in{$fh} = '';
                syswrite $fh, ok_answer();
            }
        }
    }
    my $queued = $json->decode(slurp($out));
    is_deeply $queued->{answers}, { ok => 40 }, '... which connections wait for';
    is $queued->{connections}{made}, 8, '... each once';

    # Two answers to one request: the second is ignored.
    my $server = Vaani::Test::FakeEndpoint->start(sub ($request, $fake) { return ok_answer() . answer_with(500, '') });
    my ($exit, $summary) = numbers('unix:' . $server->socket . ':/x');
    is "$exit $summary->{connections}{made}", '0 5', 'a connection with an answer too many is not used again';
};

subtest 'what servers say' => sub {
    # In JSON, with and without escapes; a byte order mark; and a C1 control character.
    my $detail = "Gr\xc3\xb6\xc3\x9fe \xe2\x80\x93 \\u547c\xe3\x81\xb3\xf0\x9f\x98\x80 \\u009b2J \\u001b[0m";
    my $fake = Vaani::Test::FakeEndpoint->start(sub ($request, $fake) { return answer_with(422, qq({"detail":"$detail"})) });
    for my $options ([], ['-v'], ['--json', '-v']) {
        my ($exit, $out, $err) = call(@$options, 'unix:' . $fake->socket . ':/x');
        like "$out$err", qr/: 422: Gr\xc3\xb6\xc3\x9fe \xe2\x80\x93 \xe5\x91\xbc\xe3\x81\xb3\xf0\x9f\x98\x80  2J  \[0m/, "a detail outside of ASCII: @$options";
        unlike $err, qr/Wide character|line \d/, '... without complaints of Perl';
    }

    my %answer = (
        'another type' => '{"detail":["x"],"status":{"a":1}}', 'not JSON' => '{"detail":', 'not UTF-8' => qq({"detail":"\xff"}),
        'nested' => '{"detail":' . '[' x 5000, 'a number' => '{"detail":7}',
    );
    for my $name (sort keys %answer) {
        my $server = Vaani::Test::FakeEndpoint->start(sub ($request, $fake) { return ok_answer($answer{$name}) });
        my ($exit, $out, $err) = call('-v', 'unix:' . $server->socket . ':/x');
        is "$exit $err", '0 ', "a 200 whose body is strange: $name";
        is scalar(() = $out =~ /: 200 ok \(/g), 5, '... is one all the same';
        $server->stop;
    }

    # The body of the module's 200.
    for my $case (
        [ 'a line end'      => [],                      '{"status":"ok"}' . "\n",               0, ok => 5 ],
        [ 'unknown'         => [],                      '{"status":"ok","known":false}' . "\n", 1, unknown => 5 ],
        [ 'a test'          => ['--test'],              '{"status":"ok","known":false}' . "\n", 0, unknown => 2 ],
        [ 'two events'      => [qw(-f several)],        '{"status":"ok","events":2}' . "\n",    0, ok => 4 ],
        [ 'one of two'      => [qw(-f several)],        '{"status":"ok","events":1}' . "\n",    1, ok => 4 ],
        [ 'one refused'     => [qw(-f several)],        '{"status":"ok","events":2,"refused":1}', 1, ok => 4 ],
        [ 'one event'       => [qw(-f array)],          '{"status":"ok","events":1}',           0, ok => 5 ],
    ) {
        my ($name, $options, $body, $want, @answers) = @$case;
        my $server = Vaani::Test::FakeEndpoint->start(sub ($request, $fake) { return ok_answer($body) });
        my ($exit, $summary) = numbers(@$options, 'unix:' . $server->socket . ':/x');
        is $exit, $want, $name;
        is_deeply $summary->{answers}, { @answers }, '... is counted';
        $server->stop;
    }
};

# Passes requests on, and answers back.
sub relay_to ($path, $change = sub ($request, @answer) { @answer }) {
    return sub ($request, $fake) {
        my $headers = $request->{headers};
        my $answer = Vaani::Test::HTTP->new(sock => $sock)->post($path, $request->{body}, 'Content-Type' => $headers->{'content-type'},
            map { defined $headers->{$_} ? ($_ => $headers->{$_}) : () } 'webhook-id');
        return $change->($request, answer_with($answer->status, $answer->body));
    };
}

subtest 'lost answers' => sub {
    # The server takes the second event, and the connection breaks before its
    # answer. A sender that repeats it sends a duplicate; this is not an error.
    my $fake = Vaani::Test::FakeEndpoint->start(relay_to('/hook', sub ($request, @answer) {
        return $request->{connection} == 1 && $request->{number} == 2 ? () : @answer;
    }));
    my $url = 'unix:' . $fake->socket . ':/hook';
    my ($exit, $out, $err) = call('-v', @WATCH, '--check', '--format', 2025, $url);
    is "$exit $err", '0 ', 'an answer that is lost' or diag $out;
    like $out, qr/^  duplicate +1$/m, '... the event was taken the first time';
    like $out, qr/^  resent +1, the server closed the connection$/m, '... and sent twice';
    like $out, qr/^  received +5 transitions, none missing$/m, '... and is one transition';
    $fake->stop;

    # It was not taken.
    $fake = Vaani::Test::FakeEndpoint->start(sub ($request, $fake) {
        return $request->{connection} == 1 && $request->{number} == 2 ? () : relay_to('/hook')->($request, $fake);
    });
    ($exit, my $summary) = numbers(@WATCH, '--check', '--format', 2025, 'unix:' . $fake->socket . ':/hook');
    is $exit, 0, 'a request that is lost';
    is_deeply $summary->{answers}, { ok => 5 }, '... all are taken';
    is "$summary->{resent} $summary->{watch}{heard}", '1 5', '... one of them the second time';
    $fake->stop;

    # Lost without being sent again: unexpected, but no message too many.
    $fake = Vaani::Test::FakeEndpoint->start(relay_to('/hook', sub ($request, @answer) { return $request->{number} == 1 ? () : @answer }));
    ($exit, $summary) = numbers(@WATCH, '--format', 2025, 'unix:' . $fake->socket . ':/hook');
    is "$exit $summary->{unexpected}", '1 5', 'all answers are lost';
    is "$summary->{watch}{heard} $summary->{watch}{surplus} $summary->{watch}{missing}", '5 0 0', '... what was published is nobody\'s fault';
    $fake->stop;

    # Taken and answered, but without an effect.
    $fake = Vaani::Test::FakeEndpoint->start(sub ($request, $fake) { return ok_answer('{"status":"duplicate"}') });
    ($exit, $summary) = numbers(@WATCH, '--wait', 0.1, 'unix:' . $fake->socket . ':/hook');
    is "$exit $summary->{watch}{missing}", '1 5', 'an endpoint for which new events are duplicates';
    $fake->stop;
};

subtest 'repeats that are not recognised' => sub {
    my $fake = Vaani::Test::FakeEndpoint->start(sub ($request, $fake) { return ok_answer() });
    my $url = 'unix:' . $fake->socket . ':/hook';
    my ($exit, $summary, $err) = numbers('--duplicates', 2, $url);
    is "$exit $summary->{unexpected}", '1 10', 'an endpoint that takes all';
    like $err, qr/^vaani-call: \S+ call_started again: 200 ok, expected duplicate$/m, '... is told';
    is +(numbers($url))[0], 0, '... but not without repeats';
    $fake->stop;

    $fake = Vaani::Test::FakeEndpoint->start(sub ($request, $fake) { return ok_answer(qq({"status":"queued"}\n)) });
    is +(numbers('--duplicates', 2, 'unix:' . $fake->socket . ':/hook'))[0], 0, 'one that queues all may recognise them later';
    $fake->stop;

    # The module, to which each delivery has an id of its own: it publishes them twice.
    my $n = 0;
    $fake = Vaani::Test::FakeEndpoint->start(sub ($request, $fake) {
        $request->{headers}{'webhook-id'} = "$request->{connection}-$request->{number}-" . $request->{body} =~ s/\W//gr;
        return relay_to('/hook')->($request, $fake);
    });
    ($exit, $summary, $err) = numbers(@WATCH, '--duplicates', 1, '--format', 2025, 'unix:' . $fake->socket . ':/hook');
    is "$exit $summary->{watch}{surplus} $summary->{watch}{missing}", '1 5 0', 'one that publishes them again';
    like $err, qr/^vaani-call: \S+: call_started was published more than once$/m, '... is told';
    $fake->stop;
};

subtest 'TLS' => sub {
    my $dir = tmpdir() . '/no-ssl/IO/Socket';
    run([ 'mkdir', '-p', $dir ]);
    spew("$dir/SSL.pm", "die qq(not there\\n);\n");
    {
        local $ENV{PERL5LIB} = tmpdir() . '/no-ssl';
        my ($exit, undef, $err) = call('https://127.0.0.1:1/x');
        is "$exit $err", "2 vaani-call: https requires the Perl module IO::Socket::SSL (Debian: apt-get install libio-socket-ssl-perl)\n",
            'without the module';
    }

    my $ca = Vaani::Test::Certificates->new('tls');
    my $pair = $ca->issue('hook', san => 'IP:127.0.0.1, DNS:vaani.localhost');
    my $tls = Vaani::Test::Nginx->start(http => <<"CONF");
        vaani_redis @{[ $redis->url ]};
        server {
            listen 127.0.0.1:%%PORT%% ssl;
            ssl_certificate $pair->{cert};
            ssl_certificate_key $pair->{key};
            location = /hook { vaani_webhook; }
        }
CONF
    my $url = 'https://127.0.0.1:' . $tls->port . '/hook';
    {
        local $ENV{SSL_CERT_FILE} = $ca->file;
        my ($exit, $summary) = numbers('-n', 4, '-c', 2, '--transcript', '300k', $url);
        is $exit, 0, 'a certificate of a known authority';
        is_deeply $summary->{answers}, { ok => 20 }, '... all is understood';
    }
    my ($exit, undef, $err) = call($url);
    is $exit, 2, 'an unknown authority';
    like $err, qr/^vaani-call: cannot connect to https:.*: TLS: .*certificate verify failed/, '... is told';
    like $err, qr/see --cacert and --insecure/, '... and what to do';
    is +(numbers('--insecure', $url))[0], 0, '--insecure';
    is +(numbers('-k', $url))[0], 0, '-k';

    my @cacert = ('--cacert', $ca->file);
    ($exit, my $summary, $err) = numbers(@cacert, '-n', 4, '-c', 2, '--transcript', '300k', $url);
    is "$exit $summary->{answers}{ok}", '0 20', '--cacert' or diag $err;
    is +(numbers(@cacert, 'https://vaani.localhost:' . $tls->port . '/hook'))[0], 0, '... a name below .localhost is this host';
    is +(numbers(@cacert, @WATCH, $url))[0], 0, '... with --watch of a Redis without TLS';
    for my $case (
        [ 'another name'      => qr/TLS: .*(?:hostname|certificate) verif/, @cacert, 'https://localhost:' . $tls->port . '/hook' ],
        [ 'another CA'        => qr/certificate verify failed.*see --cacert/, '--cacert', Vaani::Test::Certificates->new('not-this')->file, $url ],
        [ 'no such file'      => qr{^vaani-call: --cacert: cannot read /nowhere: No such file}, '--cacert', '/nowhere', $url ],
        [ 'a directory'       => qr/^vaani-call: --cacert: no certificate in PEM format in /, '--cacert', tmpdir(), $url ],
        [ 'not a certificate' => qr/^vaani-call: --cacert: no certificate in PEM format in /, '--cacert', spew(tmpdir() . '/no-pem', "secret\n"), $url ],
        [ 'a URL without TLS' => qr/^vaani-call: --cacert requires an https URL or --watch$/, @cacert, url('/hook') ],
    ) {
        my ($name, $like, @args) = @$case;
        my ($exit, undef, $err) = call(@args);
        is $exit, 2, "--cacert: $name";
        like $err, $like, '... is told';
    }

    # The file may be there for Redis: the endpoint can have a CA of the system.
    {
        local $ENV{SSL_CERT_FILE} = $ca->file;
        my $redis_ca = Vaani::Test::Certificates->new('for-redis');
        my $secure = Vaani::Test::Redis->start(tls => { %{ $redis_ca->issue('redis', san => 'IP:127.0.0.1') }{qw(cert key)} });
        my ($exit, undef, $err) = call(qw(--wait 0), '--cacert', $redis_ca->file, '--watch', 'rediss://127.0.0.1:' . $secure->tls_port, $url);
        like $err, qr/not received/, 'another CA for Redis: both are connected to';
        unlike $err, qr/TLS|verify/, '... without a complaint';
    }

    # A slow connection set-up delays no other call, and is not counted as
    # latency.
    my $target = $tls->port;
    my $slow = Vaani::Test::FakeRedis->start(tcp => 1, on_connect => sub ($fh, $fake, $n) {
        pause(2) if $n == 2;
        Vaani::Test::FakeRedis::relay($fh, $target);
    });
    (my $slow_exit, $summary) = numbers('--insecure', '-n', 2, '-c', 2, 'https://127.0.0.1:' . $slow->port . '/hook');
    is "$slow_exit $summary->{answers}{ok} $summary->{connections}{made}", '0 10 2', 'two connections';
    cmp_ok $summary->{connections}{max_ms}, '>=', 2000, '... one of which takes its time';
    cmp_ok $summary->{latency_ms}{max}, '<', 1000, '... which is not the latency of an event';
    $slow->stop;

    my $mute = Vaani::Test::FakeRedis->start(tcp => 1, on_connect => sub ($fh, $fake, $n) { });
    like +(call('--insecure', 'https://127.0.0.1:' . $mute->port . '/hook'))[2], qr/^vaani-call: cannot connect to .*: TLS: /,
        'a server that hangs up at once';
};

# --- when

subtest 'time' => sub {
    my ($exit, $summary) = numbers('--rate', 80, '-n', 20, '-p', 'random', url('/hook'));
    cmp_ok $summary->{seconds}, '>=', 19 / 80, 'calls start at the rate';

    is $summary->{pace}{missed}, JSON::PP::false, '... and none is late for long';
    cmp_ok $summary->{pace}{calls_started}, '>', 40, '... as the summary says';
    is $summary->{pace}{calls_wanted}, 80, '... with what was wanted';

    # One call at a time takes at least 100 ms, and ten of them were to start in 50 ms.
    my $fake = Vaani::Test::FakeEndpoint->start(sub ($request, $fake) { pause(0.02); return ok_answer() });
    my @too_fast = ('--rate', 200, '-n', 10, '-c', 1, 'unix:' . $fake->socket . ':/hook');
    ($exit, $summary) = numbers(@too_fast);
    is $exit, 1, 'a rate that is missed is a failure';
    is "$summary->{unexpected} $summary->{passed} $summary->{pace}{missed}", '0 0 1', '... although all was answered';
    cmp_ok $summary->{pace}{calls_started}, '<', 12, '... the rate that was reached';
    cmp_ok $summary->{pace}{calls_late_ms}, '>=', 800, '... and by how much';
    my (undef, $out) = call(@too_fast);
    like $out, qr/^  calls started +\d[\d.]*\/s of 200\/s, at most \d+ ms late\n.*^Calls started too slowly: --concurrency 1 was reached\.\n/ms, '... is told';
    $fake->stop;

    ($exit, $summary) = numbers('--speed', 200, '-p', 'outbound-no-answer', url('/hook'));
    ok defined $summary->{pace}{events_late_ms}, 'events may be late, too';
    cmp_ok $summary->{seconds}, '>=', 0.165, 'a call takes its time, 200 times as fast';

    # One after the other they would take 20 times as long.
    ($exit, $summary) = numbers('--speed', 100, '-n', 20, '-c', 20, url('/hook'));
    cmp_ok $summary->{seconds}, '>=', 0.18, 'several calls take their time';
    cmp_ok $summary->{seconds}, '<', 20 * 0.18, '... at the same time';
};

# --- what subscribers receive

subtest '--watch' => sub {
    my $room = new_room();
    my ($exit, $out) = call('-v', @WATCH, '--check', '-p', 'outbound-answered-transfer-failed', '--duplicates', 1,
        '--room', $room, url('/hook'));
    is $exit, 0, 'exit status';

    my @lines = map { s/ \(\d[^)]*ms\)$//r } grep { /^[<>]/ } split /\n/, $out;
    my ($seq, $from, %last) = (0, 'new', (call_started => 'dialing', call_ringing => 'ringing', call_ended => 'ended'));
    my @want = map {
        my $event = $_->{event};
        my $to = $last{$event} // ($from eq 'ended' ? 'ended' : 'active');
        my $line = "< $room $event: $from -> $to (seq " . ++$seq . ')';
        $from = $to;
        ("> $room $event: 200 ok", $line, "> $room $event again: 200 duplicate");
    } documented('outbound-answered-transfer-failed');

    # With a repeat, the message may come after it.
    is join("\n", sort @lines), join("\n", sort @want), 'each event and its message';
    like $out, qr/^  received +7 transitions, none missing\n  in Redis +1 call checked, all as expected$/m, 'the summary';

    {
        delete local @ENV{qw(VAANI_REDIS_USER VAANI_REDIS_PASSWORD)};
        my $port = $redis->port;
        ($exit, my $summary) = numbers('--watch', "redis://admin:s%65same\@localhost:$port/0", '--check', url('/hook'));
        is "$exit $summary->{watch}{checked}", '0 1', 'over TCP, with a user in the URL';
    }

    # The message is often there before the answer.
    (undef, $out) = call('-v', @WATCH, '-n', 10, url('/hook'));
    is join('', $out =~ /^([<>]) /mg), '><' x 50, 'what is sent is printed before what is received';

    ($exit, $out) = call(@WATCH, '--quiet', url('/hook'));
    is "$exit $out", '0 ', '--quiet says nothing';

    ($exit, my $summary, my $err) = numbers(@WATCH, '--check', qw(-n 100 -c 10 -p all -p random --shuffle --duplicates 0.5 --malformed 0.2), url('/hook'));
    is $exit, 0, 'many calls';
    is $summary->{watch}{heard}, $summary->{answers}{ok}, '... a message for each ok';
    is $summary->{watch}{checked}, 100, '... all are looked at';
    is $err, '', '... and messages are not printed';

    ($exit, $summary, $err) = numbers(@WATCH, qw(-n 5), url('/hook'));
    is scalar(() = $err =~ /^< /mg), 25, '... without --check they are';

    # Wrong in each way there is.
    ($exit, $summary, $err) = numbers(@WATCH, '--wait', 0.1, '--room', $room = new_room(), url('/silent'));
    is $exit, 1, 'nothing is published';
    is $summary->{watch}{missing}, 5, '... is counted';
    is $err, "vaani-call: $room: 5 transitions not received\n", '... and told';

    ($exit, $summary, $err) = numbers(@WATCH, '--check', '--room', $room = new_room(), url('/elsewhere'));
    is $exit, 1, 'nothing is stored there';
    is "$summary->{watch}{checked} $summary->{watch}{wrong} $summary->{watch}{missing}", '1 1 0', '... is counted';
    like $err, qr/^vaani-call: \Q$room\E: .*\bstatus is absent, expected ended/m, '... and told';
    is +(numbers(@WATCH, '--prefix', 'other', '--wait', 0.1, '--check', '--room', new_room(), url('/elsewhere')))[1]{watch}{wrong},
        0, '... but with another prefix';

    # Published by another program: a message without a sent event. During
    # ringing there is time enough.
    my @slow = ('--path', 'outbound-no-answer', '--speed', 150);
    my $spy = $redis->client->subscribe('vaani:events');
    my $process = Vaani::Test::Process->spawn(
        argv => [ $^X, TOOL, '--json', @WATCH, '--room', 'spied', @slow, url('/hook') ],
        stdout => tmpdir() . '/spied.out', stderr => tmpdir() . '/spied.err',
    );
    my $message = ($spy->next_messages(2))[1]{payload};
    $client->cmd('PUBLISH', 'vaani:events', $message =~ s/"ev/ "ev/r);
    $client->cmd('PUBLISH', 'vaani:events', $message =~ s/"room_name":"\w+"/"room_name":"foreign"/r);
    $process->wait;
    is $process->status >> 8, 1, 'a message too many';
    my $watch = $json->decode(slurp(tmpdir() . '/spied.out'))->{watch};
    is "$watch->{heard} $watch->{surplus} $watch->{gaps} $watch->{others} $watch->{missing}", '6 1 1 1 0', '... is counted, and others are not';
    like slurp(tmpdir() . '/spied.err'), qr/^vaani-call: spied: seq 2 follows 2$/m, '... and told';

    # The same without payloads: one of an event that was not sent, and one that was
    # published twice.
    $spy = $redis->client->subscribe('vaani:events');
    $process = Vaani::Test::Process->spawn(
        argv => [ $^X, TOOL, '--json', @WATCH, '--room', 'bared', @slow, url('/bare') ],
        stdout => tmpdir() . '/bared.out', stderr => tmpdir() . '/bared.err',
    );
    $message = ($spy->next_messages(2))[1]{payload};
    like $message, qr/"event":"call_ringing".*,"payload":null,"payload_bytes":\d+\}\z/, 'a message without its payload';
    $client->cmd('PUBLISH', 'vaani:events', $message =~ s/"payload_bytes":\K/1/r);
    $client->cmd('PUBLISH', 'vaani:events', $message =~ s/"seq":2/"seq":3/r);
    $process->wait;
    is $process->status >> 8, 1, 'messages too many, without payloads';
    $watch = $json->decode(slurp(tmpdir() . '/bared.out'))->{watch};
    is "$watch->{surplus} $watch->{missing}", '2 0', '... are counted';
    like slurp(tmpdir() . '/bared.err'), qr/^vaani-call: bared: received call_ringing with a payload that was not sent$/m, '... and told';
    like slurp(tmpdir() . '/bared.err'), qr/^vaani-call: bared: call_ringing was published more than once$/m, '... and told';

    # Redis closes the connection: the calls continue.
    $spy = $redis->client->subscribe('vaani:events');
    my $files = tmpdir() . '/lost';
    $process = Vaani::Test::Process->spawn(
        argv => [ $^X, TOOL, '--json', '--check', @WATCH, @slow, url('/hook') ],
        stdout => "$files.out", stderr => "$files.err",
    );
    ok $spy->next_message, 'a call has begun';
    $client->cmd('CLIENT', 'KILL', 'TYPE', 'pubsub');
    $process->wait;
    $summary = $json->decode(slurp("$files.out"));
    is $process->status >> 8, 1, 'a Redis that hangs up is a failure';
    is_deeply $summary->{answers}, { ok => 5 }, '... but the call goes on';
    is $summary->{watch}{lost}, JSON::PP::true, '... and the summary says it';
    like slurp("$files.err"), qr/^vaani-call: Redis .*; no longer watching\n\z/, '... as does a line';

    for my $case (
        [ 'unix:/nowhere.sock' => qr{^vaani-call: cannot connect to Redis at /nowhere\.sock: No such file} ],
        [ 'redis://:sesam@@'   => qr{^vaani-call: --watch must be redis://} ],
        [ "unix:$sock"         => qr{^vaani-call: the server does not speak the protocol of Redis; check host and port of --watch$} ],
    ) {
        my ($where, $regex) = @$case;
        my ($exit, undef, $err) = call('--watch', $where, url('/hook'));
        is $exit, 2, "--watch $where" =~ s/\Q$sock\E/.../r;
        like $err, $regex, '... is told';
        unlike $err, qr/sesam/, '... without the password';
    }
    {
        local $ENV{VAANI_REDIS_PASSWORD} = 'wrong';
        like +(call(@WATCH, url('/hook')))[2], qr/^vaani-call: Redis refused AUTH: WRONGPASS .*; check user and password in the URL, VAANI_REDIS_USER and VAANI_REDIS_PASSWORD$/, 'a wrong password';
    }
};

subtest '--watch over TLS' => sub {
    my $ca = Vaani::Test::Certificates->new('redis-ca');
    my $good = $ca->issue('good', san => 'DNS:localhost, IP:127.0.0.1, IP:::1');
    my $other = $ca->issue('elsewhere', san => 'DNS:elsewhere.test, IP:127.0.0.2');
    my $secure = Vaani::Test::Redis->start(tls => { %$good{qw(cert key)} });
    my $port = $secure->tls_port;
    my $nginx = Vaani::Test::Nginx->start(http => "vaani_redis unix:@{[ $secure->socket ]};
        server { listen unix:%%SOCK%%; location = /hook { vaani_webhook; } }");
    my $hook = 'unix:' . $nginx->sock . ':/hook';
    my @cacert = ('--cacert', $ca->file);

    for my $url ("rediss://127.0.0.1:$port", "VALKEYS://localhost:$port/0") {
        my ($exit, $summary, $err) = numbers('--watch', $url, @cacert, '--check', qw(-n 50 -c 5 -p all), $hook);
        is "$exit $summary->{watch}{checked} $summary->{watch}{missing}", '0 50 0', $url =~ s/\d+(?:\/0)?\z/.../r or diag $err;
        is $summary->{watch}{heard}, $summary->{answers}{ok}, '... each event is heard of';
    }
    {
        local $ENV{SSL_CERT_FILE} = $ca->file;
        is +(numbers('--watch', "rediss://127.0.0.1:$port", $hook))[0], 0, 'a CA that the system trusts';
    }
    {
        delete local @ENV{qw(VAANI_REDIS_USER VAANI_REDIS_PASSWORD)};
        is +(numbers('--watch', "rediss://admin:sesame\@127.0.0.1:$port", @cacert, $hook))[0], 0, 'a user and a password in the URL';
    }

    # A message that is longer than a record of TLS.
    my ($exit, $summary, $err) = numbers('--watch', "rediss://127.0.0.1:$port", @cacert, '--check', '--transcript', '200k', $hook);
    is "$exit $summary->{watch}{heard} $summary->{watch}{missing}", '0 5 0', 'a long transcript' or diag $err;

    my $fails = sub ($name, $like, @args) {
        my ($exit, undef, $err) = call(@args, $hook);
        is $exit, 2, $name;
        like $err, $like, '... is told';
    };
    my $named = Vaani::Test::Redis->start(tls => { %$other{qw(cert key)} });
    $fails->('another CA', qr/^vaani-call: cannot connect to Redis at 127\.0\.0\.1:\d+: TLS: .*certificate verify failed/, '--watch', "rediss://127.0.0.1:$port");
    $fails->('another CA, --insecure', qr/certificate verify failed/, '--insecure', '--watch', "rediss://127.0.0.1:$port");
    $fails->('another name', qr/: TLS: .*(?:hostname|certificate) verif/, @cacert, '--watch', 'rediss://127.0.0.1:' . $named->tls_port);
    $fails->('no such CA', qr/^vaani-call: .*/, '--cacert', '/nowhere', '--watch', "rediss://127.0.0.1:$port");
    $fails->('--cacert alone', qr/^vaani-call: --cacert requires an https URL or --watch$/, @cacert);
    $fails->('nobody listens', qr/^vaani-call: cannot connect to Redis at 127\.0\.0\.1:1: /, @cacert, '--watch', 'rediss://127.0.0.1:1');
    {
        local $ENV{PERL5LIB} = tmpdir() . '/no-ssl';
        $fails->('without the module', qr/^vaani-call: rediss requires the Perl module IO::Socket::SSL \(Debian: apt-get install libio-socket-ssl-perl\)$/, '--watch', "rediss://127.0.0.1:$port");
    }

    # Redis exits: the tool reports it, and the calls continue.
    my $spy = $secure->client->subscribe('vaani:events');
    my $files = tmpdir() . '/lost-tls';
    my $process = Vaani::Test::Process->spawn(
        argv => [ $^X, TOOL, '--json', '--check', '--watch', "rediss://127.0.0.1:$port", @cacert, '--path', 'outbound-no-answer', '--speed', 150, $hook ],
        stdout => "$files.out", stderr => "$files.err",
    );
    ok $spy->next_message, 'a call has begun';
    $secure->client->cmd('CLIENT', 'KILL', 'TYPE', 'pubsub');
    $process->wait;
    is $json->decode(slurp("$files.out"))->{watch}{lost}, JSON::PP::true, 'a Redis that hangs up is noticed';
    like slurp("$files.err"), qr/^vaani-call: Redis .*; no longer watching\n\z/, '... and told';
};

subtest 'what was queued' => sub {
    my $room = new_room();
    my $out = tmpdir() . '/queued.out';

    $client->cmd('REPLICAOF', '127.0.0.1', '1');
    my $process = Vaani::Test::Process->spawn(
        argv   => [ $^X, TOOL, '-v', @WATCH, '--check', '--wait', 20, '--room', $room, url('/spool') ],
        stdout => $out, stderr => $out,
    );
    ok wait_for(sub { $nginx->http->get('/status?format=json')->json->{spools}[0]{records} == 5 }), 'all wait on disk';
    $client->cmd('REPLICAOF', 'NO', 'ONE');
    $process->wait;

    is $process->status >> 8, 0, 'is waited for';
    like slurp($out), qr/^  queued +5$/m, '... counted';
    like slurp($out), qr/call_started: new -> dialing \(seq 1, replayed\)/, '... and seen';
};

# --- failures

subtest 'failures' => sub {
    my ($exit, $summary, $err) = numbers(url('/away'));
    is $exit, 1, 'Redis is away';
    is_deeply $summary->{answers}, { 503 => 5 }, '... 503';
    like $err, qr/^vaani-call: outbound-\S+ call_started: 503: \w/, '... is told';
    unlike $err, qr/more of these/, '... all of it';

    ($exit, $summary, $err) = numbers(url('/nothing-here'));
    is $exit, 1, 'a wrong path';
    is_deeply $summary->{answers}, { 404 => 5 }, '... 404';

    ($exit, $summary) = numbers(url('/hang-up'));
    is $exit, 1, 'a server that hangs up';
    is_deeply $summary->{errors}, { 'connection closed' => 5 }, '... is counted';

    my $listener = listen_socket(tmpdir() . '/mute.sock');
    ($exit, $summary) = numbers('--timeout', 0.05, 'unix:' . tmpdir() . '/mute.sock:/x');
    cmp_ok $summary->{seconds}, '>=', 5 * 0.05, 'a server that is silent takes its time';
    is $exit, 1, 'a server that is silent';
    is_deeply $summary->{errors}, { 'timed out' => 5 }, '... is counted';
    is $summary->{latency_ms}{p50}, undef, '... and has no latency';

    ($exit, undef, $err) = call('http://127.0.0.1:' . free_port() . '/x');
    is $exit, 2, 'nobody listens';
    like $err, qr{^vaani-call: cannot connect to http://127\.0\.0\.1:\d+/x: Connection refused$}, '... is told';

    for my $case (
        [ qr/^vaani-call: no URL given; expected / ],
        [ qr/^vaani-call: expected one URL, got 2 / => 'http://a/', 'http://b/' ],
        [ qr/^vaani-call: invalid URL; expected /   => 'localhost:8080/x' ],
        [ qr/^vaani-call: invalid URL; expected /   => 'ftp://localhost/x' ],
        [ qr/^vaani-call: the URL must not contain a user or password; use --header / => 'http://user:sesame@localhost/x' ],
        [ qr/^vaani-call: the URL contains a space / => "http://localhost/x\r\nX: y" ],
        [ qr/^vaani-call: the port in the URL must be 1 to 65535, not 70000$/ => 'http://localhost:70000/x' ],
        [ qr/^vaani-call: unknown option --foo; see --help$/ => '--foo', url('/hook') ],
        [ qr/^vaani-call: --calls requires a value; see --help$/ => url('/hook'), '--calls' ],
        [ qr/^vaani-call: -n requires a value; see --help$/ => url('/hook'), '-n' ],
        [ qr/^vaani-call: --strict does not take a value; see --help$/ => '--strict=x', url('/hook') ],
        [ qr/^vaani-call: --secret: no path after 'file='$/ => '--secret', 'file=', url('/hook') ],
        [ qr/^vaani-call: --calls must be a whole number, 1 to 9999999999, not 'many'$/ => '--calls', 'many', url('/hook') ],
        [ qr/^vaani-call: --rate must be a number above 0, not '0'$/ => '--rate', 0, url('/hook') ],
        [ qr/^vaani-call: --concurrency must be a whole number, 1 to 1000, not '5000'$/ => '-c', 5000, url('/hook') ],
        [ qr/^vaani-call: --header must have the form 'Name: value'$/ => '-H', "X: a\r\nY: b", url('/hook') ],
        [ qr/^vaani-call: --header cannot set/      => '-H', 'Content-Length: 1', url('/hook') ],
        [ qr/^vaani-call: --check requires --watch$/  => '--check', url('/hook') ],
        [ qr/^vaani-call: --prefix requires --watch$/ => '--prefix', 'a', url('/hook') ],
        [ qr/^vaani-call: --transcript must be a number of bytes such as .*, not '5 MB'$/ => '--transcript', '5 MB', url('/hook') ],
        [ qr/^vaani-call: --token is empty/         => '--token', '', url('/hook') ],
        [ qr/^vaani-call: --token: cannot read/     => '--token', 'file=' . tmpdir() . '/no-such-file', url('/hook') ],
        [ qr/^vaani-call: --token: cannot read .*: Is a directory$/ => '--token', 'file=' . tmpdir(), url('/hook') ],
        [ qr{^vaani-call: --token: /dev/null is empty; expected the secret in its first line$} => '--token', 'file=/dev/null', url('/hook') ],
    ) {
        my ($regex, @arguments) = @$case;
        my ($exit, $out, $err) = call(@arguments);
        is "$exit $out", '2 ', "refused: @arguments" =~ s/[\r\n]+/ /gr =~ s/\Q$sock\E/.../r;
        like $err, $regex, '... with a reason';
        is scalar(() = $err =~ /\n/g), 1, '... in one line';
        unlike $err, qr/sesame| line \d/, '... for people';
    }
};

subtest 'interruption' => sub {
    for my $case ([ INT => 130 ], [ TERM => 143 ]) {
        my ($signal, $status) = @$case;
        my $out = tmpdir() . "/$signal.out";
        my $process = Vaani::Test::Process->spawn(
            argv => [ $^X, TOOL, '-v', '--realtime', '-n', 3, url('/hook') ], stdout => $out, stderr => $out,
        );
        ok wait_for(sub { slurp($out) =~ /call_started: 200 ok/ }), "SIG$signal while a call waits";
        $process->signal($signal);
        ok $process->wait(5), '... ends it';
        is $process->status >> 8, $status, '... with this status';
        like slurp($out), qr/^0 calls, 1 event in .*^  ok +1\n.*^Interrupted: 1 call not finished\.\n\z/ms,
            '... after the summary so far';
    }

    # A reader that leaves.
    my ($exit, $out, $err) = run([ 'bash', '-c', '"$@" | head -n 1; echo "${PIPESTATUS[0]}"', '-', $^X, TOOL, '-v', '-n', 2000, url('/hook') ]);
    like $out, qr/^> .*\n141\n\z/, '| head ends it, too';
    is $err, '', '... quietly';
};

subtest 'output that is lost' => sub {
    my $full = sub ($redirect, @arguments) {
        return run([ 'bash', '-c', '"$@" ' . $redirect, '-', $^X, TOOL, @arguments ]);
    };
    for my $arguments ([ url('/status') ], [ '--json', '--format', 2025, url('/hook') ], [ '-v', '--format', 2025, url('/hook') ], ['--help'], ['--version'], ['--list-paths'], ['--list-formats']) {
        my ($exit, undef, $err) = $full->('>/dev/full', @$arguments);
        my $name = "@$arguments" =~ s/\Q$sock\E/.../r;
        is $exit, 2, "a full disk: $name";
        like $err, qr/^vaani-call: cannot write: No space left on device$/m, '... is told';
    }
    is +($full->('>&-', '--format', 2025, url('/hook')))[0], 2, 'standard output is closed';
    is +($full->('>/dev/full', '--quiet', '--format', 2025, url('/hook')))[0], 0, 'nobody misses what was not to be printed';
    is +($full->('2>/dev/full', '--json', '-v', '--format', 2025, url('/hook')))[0], 2, 'standard error';
};

subtest 'progress' => sub {
    # script(1) gives it a terminal.
    my (undef, $terminal) = run([ 'script', '-qec', "$^X " . TOOL . ' --rate 10 -n 13 ' . url('/hook'), '/dev/null' ]);
    like $terminal, qr/\r\d+ of 13 calls, \d+ events, \d+ events\/s, 0 unexpected\e\[K/, 'on a terminal';
    like $terminal, qr/\r\e\[K13 calls, 65 events/, '... and it is gone in the end';
};

$said =~ /\Q$_\E/ and fail('a secret was told') for $token, $secret =~ s/^whsec_//r, $other_secret =~ s/^whsec_//r;
cmp_ok length $said, '>', 10_000, 'no secret is in what it said';

done_testing;
