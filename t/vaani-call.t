# bin/vaani-call, the simulator, against a real nginx and Redis: what it sends is
# what the vendor documents, what it counts is what nginx counts, and it says so
# when something is not as it should be.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/lib";
use Vaani::Test;

use JSON::PP ();
use Vaani::Test::Certificates;
use Vaani::Test::Events;
use Vaani::Test::Process ();
use Vaani::Test::Signing;
use Vaani::Test::Socket qw(listen_socket read_some wait_readable write_all);

use constant ROOT => "$FindBin::Bin/..";
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
        location = /lenient    { vaani_webhook; vaani_validation lenient; }
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

my $rooms = 0;
sub room () { return 'room-' . ++$rooms }

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
        Digest::SHA Errno Getopt::Long IO::Handle JSON::PP MIME::Base64 Time::HiRes
        IO::Socket::UNIX IO::Socket::IP Pod::Usage strict warnings feature
    );
    my ($code) = $source =~ /^(.*?)^__END__$/ms;
    is join(' ', grep { !$core{$_} } $code =~ /^\s*(?:use|require|no) ([A-Z][\w:]+)/mg), '', 'no other modules';
    like $code, qr/eval \{ require IO::Socket::SSL/, '... and that one is optional';
};

# What people and the vendor call a path, in this test's own words.
my %KINDS = (
    'outbound-answered'  => [ 'outbound-answered', 'completed', 'outbound' ],
    'outbound-rejected'  => [ 'rejected',          'rejected',  'outbound' ],
    'outbound-no-answer' => [ 'no-answer',         'no_answer', 'outbound' ],
    'outbound-failed'    => [ 'failed',            'failed',    'outbound' ],
    'inbound'            => [ 'inbound',           'completed', undef ],
);
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
        if (/^(\S+)$/)         { push @paths, $1 }
        elsif (/^    (\w+)$/)  { push @{ $listed{ $paths[-1] } }, $1 }
        else                   { fail("--list-paths: $_") }
    }

    my @wanted = map { my $kind = $_; map { "$kind$_" } keys %TRANSFERS } keys %KINDS;
    is_deeply [ sort @paths ], [ sort @wanted ], 'all are listed' or return;
    is_deeply $listed{$_}, [ map { $_->{event} } documented($_) ], "the events of $_" for @paths;

    my ($wrong, undef, $err) = call('--path', 'outbound-foo', url('/hook'));
    is "$wrong $err", "2 vaani-call: there is no path 'outbound-foo'; see --list-paths\n", 'another one';
};

# --- what becomes of calls

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

subtest 'every path, as documented' => sub {
    my $subscriber = $redis->client->subscribe('vaani:events');
    my $room = room();
    my ($exit, $summary) = numbers('--path', 'all', '--room', $room, url('/hook'));
    is $exit, 0, 'exit status';
    hashes_are_right($room);

    my $events = 0;
    $events += documented($_) for @paths;
    is_deeply $summary->{answers}, { ok => $events }, "$events times ok";

    # Members and their types are those of the vendor; values may differ.
    my $shape = sub ($body) {
        return join ' ', map { my $v = $body->{$_}; "$_:" . (ref $v ? 'object' : $json->allow_nonref->encode($v) =~ /^"/ ? 'text' : 'number') }
            sort keys %$body;
    };
    my @messages = map { $json->decode($_->{payload}) } $subscriber->next_messages($events);
    my (%sent, @wrong);
    push @{ $sent{ $_->{room_name} } }, $_ for @messages;

    for my $n (1 .. @paths) {
        my @sent = @{ $sent{"$room-$n"} };
        my @bodies = map { $_->{payload} } @sent;
        my ($got, $want) = map { join "\n", map { $shape->($_) } @$_ } \@bodies, [ documented($paths[ $n - 1 ]) ];
        push @wrong, "$paths[$n - 1]:\n$got\nnot\n$want" if $got ne $want;

        # Both durations say the same, each in its unit.
        my ($ended, $processed) = @bodies[ -2, -1 ];
        push @wrong, "$paths[$n - 1]: $ended->{call_duration} s, $processed->{call_duration} ms"
            if 1000 * $ended->{call_duration} != $processed->{call_duration};
        push @wrong, "$paths[$n - 1]: the status of $_->{event}"
            for grep { defined $_->{status} && $_->{event} =~ /ringing|picked/ && $_->{status} !~ /ringing|active/ } @bodies;
    }
    is join("\n", @wrong), '', 'members and types';

    my @two = map { $_->{phone_number} } grep { $_->{event} eq 'human_transfer_initiated' }
        map { $_->{payload} } @{ $sent{"$room-" . (1 + (grep { $paths[$_] eq 'inbound-transfer-failed-then-ok' } 0 .. $#paths)[0]) } };
    isnt $two[0], $two[1], 'the second transfer is to another number';
};

subtest 'in disorder' => sub {
    for my $case (
        [ 'shuffled' => '--shuffle' ],
        [ 'with repeats' => '--duplicates', 1.5 ],
        [ 'both' => '--shuffle', '--duplicates', 1.5, '--concurrency', 5 ],
        [ 'both, with ids' => '--shuffle', '--duplicates', 1.5, '--ids', '--concurrency', 5 ],
    ) {
        my ($name, @options) = @$case;
        my $room = room();
        my ($exit, $summary) = numbers('--path', 'all', '--room', $room, @options, url('/hook'));
        is $exit, 0, "$name: exit status";
        hashes_are_right($room);

        my $repeated = $summary->{repeated};
        is $summary->{answers}{duplicate} // 0, $repeated, '... repeats are duplicates';
        cmp_ok $repeated, '>', $summary->{answers}{ok}, '... and there are enough' if "@options" =~ /duplicates/;
    }

    my $room = room();
    my (undef, $out) = call('-v', '--shuffle', '--seed', 1, '--room', $room, url('/hook'));
    my @order = map { /^> \S+ (\w+):/ } split /\n/, $out;
    my @documented = map { $_->{event} } documented('outbound-answered');
    isnt "@order", "@documented", 'the order is another one';
    is join(' ', sort @order), join(' ', sort @documented), '... of the same events';

    # A repeat with an id may come after other events.
    (undef, $out) = call('-v', '--ids', '--duplicates', 1, '--seed', 1, '--room', room(), url('/hook'));
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

subtest 'malformed bodies' => sub {
    my ($exit, $out) = call('-v', '-n', 20, '--malformed', 2, '--seed', 5, url('/hook'));
    is $exit, 0, 'are expected to be refused';

    my %status;
    $status{$1}{$2} = 1 while $out =~ /malformed \(([^)]+)\): (\d+)/g;
    my ($kinds) = slurp(TOOL) =~ /^my \@MALFORMED = \((.*?)^\);/ms;
    my @kinds = $kinds =~ /^    \[ '([^']+)' /mg;
    cmp_ok scalar @kinds, '>', 15, 'there are many kinds';
    is_deeply [ sort keys %status ], [ sort @kinds ], '... all of them are sent';
    is_deeply [ sort map { keys %$_ } values %status ],
        [ sort +(400) x 7, (415) x 1, (422) x (@kinds - 8) ], '... each has one answer';
    like $out, qr/^  422 +\d+$/m, '... which are counted';

    ($exit, my $summary, my $err) = numbers('-n', 20, '--malformed', 2, '--seed', 5, url('/lenient'));
    is $exit, 1, 'one that is accepted is a failure';
    is $summary->{passed}, JSON::PP::false, '... which the summary says';
    my @told = split /\n/, $err;
    like $told[5], qr/^vaani-call: there are more of these/, '... the last line says so';
    like $told[0], qr/^vaani-call: sim-\S+ malformed \(.*\): 200 ok$/, '... and is told';
    is scalar @told, 6, '... not for ever';
    cmp_ok $summary->{unexpected}, '>', 6, '... although there are more';
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
        my $room = room();
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

    my (undef, undef, $err) = call('--secret', 'nonsense', url('/signed'));
    is $err, "vaani-call: --secret is not one of Standard Webhooks: whsec_ and base64\n", 'one that is none';
};

# --- where to

subtest 'connections' => sub {
    my $tcp = 'http://127.0.0.1:' . $nginx->port . '/hook';
    my $room = room();
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

    # What other servers than nginx do: chunks, little by little; no length; and
    # a connection that is closed when it is used again.
    for my $case (
        [ chunked => "Transfer-Encoding: chunked\r\n\r\n", "b\r\n{\"status\":\"", "\r\n4\r\nok\"}\r\n0\r\n", "\r\n" ],
        [ 'no length' => "\r\n", '{"status":"o', 'k"}' ],
    ) {
        my ($name, @parts) = @$case;
        my $server = Vaani::Test::FakeRedis->start(on_connect => sub ($fh, $fake, $n) {
            for (1 .. 2) {
                my $in = '';
                until ($in =~ /\r\n\r\n(.*)/s && length $1 >= ($in =~ /Content-Length: (\d+)/)[0]) {
                    wait_readable($fh, 10);
                    return 0 if !read_some($fh, \$in);
                }
                write_all($fh, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n");
                write_all($fh, $_) for @parts;
                return 0 if $name ne 'chunked';
            }
            return 0;
        });
        my ($exit, $summary) = numbers('unix:' . $server->socket . ':/x');
        is $exit, 0, $name;
        is_deeply $summary->{answers}, { ok => 5 }, '... all is understood';
    }
};

subtest 'TLS' => sub {
    my $dir = tmpdir() . '/no-ssl/IO/Socket';
    run([ 'mkdir', '-p', $dir ]);
    spew("$dir/SSL.pm", "die qq(not there\\n);\n");
    {
        local $ENV{PERL5LIB} = tmpdir() . '/no-ssl';
        my ($exit, undef, $err) = call('https://127.0.0.1:1/x');
        is "$exit $err", "2 vaani-call: https needs the Perl module IO::Socket::SSL (Debian: libio-socket-ssl-perl)\n",
            'without the module';
    }

    my $ca = Vaani::Test::Certificates->new('tls');
    my $pair = $ca->issue('hook', san => 'IP:127.0.0.1');
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
    is +(numbers('--insecure', $url))[0], 0, '--insecure';
};

# --- when

subtest 'time' => sub {
    my ($exit, $summary) = numbers('--rate', 80, '-n', 20, '-p', 'random', url('/hook'));
    cmp_ok $summary->{seconds}, '>=', 19 / 80, 'calls start at the rate';

    ($exit, $summary) = numbers('--speed', 200, '-p', 'outbound-no-answer', url('/hook'));
    cmp_ok $summary->{seconds}, '>=', 0.165, 'a call takes its time, 200 times as fast';

    # One after the other they would take 20 times as long.
    ($exit, $summary) = numbers('--speed', 100, '-n', 20, '-c', 20, url('/hook'));
    cmp_ok $summary->{seconds}, '>=', 0.18, 'several calls take their time';
    cmp_ok $summary->{seconds}, '<', 20 * 0.18, '... at the same time';
};

# --- what subscribers receive

subtest '--watch' => sub {
    my $room = room();
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
    like $out, qr/^  heard of +7 transitions, none missing\n  in Redis +1 call looked at, all as expected$/m, 'the summary';

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
    ($exit, $summary, $err) = numbers(@WATCH, '--wait', 0.1, '--room', $room = room(), url('/silent'));
    is $exit, 1, 'nothing is published';
    is $summary->{watch}{missing}, 5, '... is counted';
    is $err, "vaani-call: $room: 5 transitions not heard of\n", '... and told';

    ($exit, $summary, $err) = numbers(@WATCH, '--check', '--room', $room = room(), url('/elsewhere'));
    is $exit, 1, 'nothing is stored there';
    is "$summary->{watch}{checked} $summary->{watch}{wrong} $summary->{watch}{missing}", '1 1 0', '... is counted';
    like $err, qr/^vaani-call: \Q$room\E: .*\bstatus is absent, not ended/m, '... and told';
    is +(numbers(@WATCH, '--prefix', 'other', '--wait', 0.1, '--check', '--room', room(), url('/elsewhere')))[1]{watch}{wrong},
        0, '... but with another prefix';

    # Published by somebody else: a message that no event was sent for. While it
    # rings, there is time enough.
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
    like slurp(tmpdir() . '/spied.err'), qr/^vaani-call: spied: seq 2 came after 2$/m, '... and told';

    # Redis hangs up: the calls go on.
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
        [ 'redis://:sesam@@'   => qr{^vaani-call: --watch is redis://} ],
        [ "unix:$sock"         => qr{^vaani-call: Redis } ],
    ) {
        my ($where, $regex) = @$case;
        my ($exit, undef, $err) = call('--watch', $where, url('/hook'));
        is $exit, 2, "--watch $where" =~ s/\Q$sock\E/.../r;
        like $err, $regex, '... is told';
        unlike $err, qr/sesam/, '... without the password';
    }
    {
        local $ENV{VAANI_REDIS_PASSWORD} = 'wrong';
        like +(call(@WATCH, url('/hook')))[2], qr/^vaani-call: Redis says WRONGPASS/, 'a wrong password';
    }
};

subtest 'what was queued' => sub {
    my $room = room();
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
    like $err, qr/^vaani-call: sim-\S+ call_started: 503: \w/, '... is told';
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
    is_deeply $summary->{errors}, { 'time-out' => 5 }, '... is counted';
    is $summary->{latency_ms}{p50}, undef, '... and has no latency';

    ($exit, undef, $err) = call('http://127.0.0.1:' . free_port() . '/x');
    is $exit, 2, 'nobody listens';
    like $err, qr{^vaani-call: cannot connect to http://127\.0\.0\.1:\d+/x: Connection refused$}, '... is told';

    for my $case (
        [ qr/^vaani-call: a URL, please/ ],
        [ qr/^vaani-call: one URL, please/          => 'http://a/', 'http://b/' ],
        [ qr/^vaani-call: not a URL/                => 'localhost:8080/x' ],
        [ qr/^vaani-call: not a URL/                => 'ftp://localhost/x' ],
        [ qr/^vaani-call: no user and password/     => 'http://user:sesame@localhost/x' ],
        [ qr/^vaani-call: the URL has a space/      => "http://localhost/x\r\nX: y" ],
        [ qr/^vaani-call: 70000 is not a port/      => 'http://localhost:70000/x' ],
        [ qr/^vaani-call: unknown option: foo; see/ => '--foo', url('/hook') ],
        [ qr/^vaani-call: --calls is a number/      => '--calls', 'many', url('/hook') ],
        [ qr/^vaani-call: --rate must be above 0/   => '--rate', 0, url('/hook') ],
        [ qr/^vaani-call: --concurrency is 1000/    => '-c', 5000, url('/hook') ],
        [ qr/^vaani-call: --header is 'Name: value/ => '-H', "X: a\r\nY: b", url('/hook') ],
        [ qr/^vaani-call: --header cannot set/      => '-H', 'Content-Length: 1', url('/hook') ],
        [ qr/^vaani-call: --check and --prefix go/  => '--check', url('/hook') ],
        [ qr/^vaani-call: --token is empty/         => '--token', '', url('/hook') ],
        [ qr/^vaani-call: --token: cannot read/     => '--token', 'file=/nowhere', url('/hook') ],
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

subtest 'progress' => sub {
    # script(1) gives it a terminal.
    my (undef, $terminal) = run([ 'script', '-qec', "$^X " . TOOL . ' --rate 10 -n 13 ' . url('/hook'), '/dev/null' ]);
    like $terminal, qr/\r\d+ of 13 calls, \d+ events, \d+ a second, 0 unexpected\e\[K/, 'on a terminal';
    like $terminal, qr/\r\e\[K13 calls, 65 events/, '... and it is gone in the end';
};

$said =~ /\Q$_\E/ and fail('a secret was told') for $token, $secret =~ s/^whsec_//r, $other_secret =~ s/^whsec_//r;
cmp_ok length $said, '>', 10_000, 'no secret is in what it said';

done_testing;
