# The tool that looks into a spool and sends what is in it, without nginx.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use Vaani::Test;
use Vaani::Test::Events;
use Vaani::Test::Signing;
use Vaani::Test::Spool qw(:DEFAULT tool);
use MIME::Base64 qw(encode_base64);

my $tool = vaani_spool();
plan skip_all => 'make tool builds it' if !-x $tool;

sub record ($room, $event = 'call_ringing', %opt) {
    return delivery_content(
        room => $room, id => $room, body => event($event, room => $room), %opt,
    );
}

my $dir = tmpdir() . '/spool';
mkdir $dir or die "mkdir: $!";

spew("$dir/00000000000000000001.log", journal_records(record('first'), record('second')));
spew("$dir/00000000000000000002.log", journal_records(record("third\xc2\xa0")) . 'garbage' . journal_records(record('fourth')));
spew("$dir/dead-letters", journal_records("\0\x09WRONGTYPE" . record('fifth')));
spew("$dir/lock", '');

subtest 'usage' => sub {
    is tool('--help')->{exit}, 0, 'help';
    like tool('--help')->{out}, qr/vaani-spool resend \[--user NAME\]/, '... on standard output';
    is tool()->{exit}, 2, 'no command';
    like tool()->{err}, qr/^usage: vaani-spool/, '... the usage';
    for my $case (
        [ 'expected at least one PATH after "list"'            => 'list' ],
        [ 'expected at least one PATH after "verify"'          => 'verify' ],
        [ 'resend expects "REDIS PATH..."'                     => 'resend', 'unix:/x' ],
        [ 'resend expects "--to URL PATH..."'                  => 'resend', '--to', 'http://x/' ],
        [ 'no value after "--to"'                              => 'resend', '--to' ],
        [ 'unknown option "--token=..."'                       => 'resend', '--token=sesame', 'unix:/x', $dir ],
        [ 'options must precede the other arguments: "--user"' => 'resend', 'unix:/x', $dir, '--user', 'x' ],
        [ '--format must be "vaani" or "standard", not "x"'    => 'resend', '--to', 'http://x/', '--format', 'x', $dir ],
        [ '--secret-file, --format and --header-file require "--to"' => 'resend', '--secret-file', 'x', 'unix:/x', $dir ],
        [ '--user, --password-file, --cacert and --progress cannot be combined with "--to"' => 'resend', '--to', 'http://x/', '--user', 'x', $dir ],
        [ 'erase expects "[--unreadable] DIR ROOM"'            => 'erase', $dir ],
        [ 'unknown command "nonsense"'                         => 'nonsense', $dir ],
    ) {
        my ($why, @args) = @$case;
        my $ran = tool(@args);
        is "$ran->{exit} $ran->{out}", '2 ', "@args: wrong";
        is $ran->{err}, qq(vaani-spool: $why; see "vaani-spool --help"\n), '... says so';
    }
    my $ran = tool(list => "$dir/no-such");
    is $ran->{exit}, 1, 'a file that is not there';
    like $ran->{err}, qr/no-such: No such file/, '... says so';
};

subtest 'list' => sub {
    my $ran = tool(list => $dir);

    is $ran->{exit}, 1, 'something is damaged';
    my @lines = split /\n/, $ran->{out};
    is @lines, 7, 'a line a record, one for the damage, the sum';
    like $lines[0], qr{/0+1\.log:0: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z call_ringing vaani:call:first \d+ bytes$},
        'a record';
    like $lines[1], qr{/0+1\.log:[1-9]\d*: .* vaani:call:second }, 'the next one, further on';
    like $lines[2], qr{vaani:call:third\\xc2\\xa0 }, 'a name cannot steer the terminal';
    like $lines[3], qr{/0+2\.log:\d+: damaged: 7 bytes are not a record}, 'the damage';
    like $lines[4], qr{vaani:call:fourth}, 'what is behind it';
    like $lines[5], qr{/dead-letters:0: .* vaani:call:fifth .*, refused: WRONGTYPE$}, 'a dead letter, with its reason';
    is $lines[6], '5 records: 4 waiting, 0 kept, 1 dead letter, 1 damaged place', 'the sum';
    unlike $ran->{out}, qr/room_name/, 'no bodies';
};

subtest 'events that could not be delivered while others could' => sub {
    my $waits = tmpdir() . '/waits';
    mkdir $waits or die "mkdir: $!";
    my $late = sub ($since, $tries, $content) { deferred_content($since, $tries, $content) };
    spew("$waits/00000000000000000001.log", journal_records(
        $late->(1790000000, 7, record('sixth')), $late->(~0, 65535, record('seventh')), record('eighth'),
        $late->(1790000000, 1, ''), substr($late->(1790000000, 1, ''), 0, 10), "\0\x02NO" . $late->(1790000000, 2, record('ninth')),
    ));

    my $ran = tool(list => $waits);
    my @lines = split /\n/, $ran->{out};
    is @lines, 7, 'a line each, and the sum';
    like $lines[0], qr/call_ringing vaani:call:sixth \d+ bytes, tried 7 times since 2026-09-21T14:13:20Z\z/, 'how often, since when';
    like $lines[1], qr/vaani:call:seventh \d+ bytes, tried 65535 times since \S*Z\z/, 'a time that cannot be';
    like $lines[2], qr/vaani:call:eighth \d+ bytes\z/, 'one that was not tried';
    like $lines[$_], qr/: damaged: the record has another version or contains no event/, 'one without an event' for 3, 4;
    like $lines[5], qr/vaani:call:ninth \d+ bytes, refused: NO, tried 2 times/, 'a dead letter that was tried';
    is $ran->{exit}, 1, 'something is damaged';

    my $redis = Vaani::Test::Redis->start(password => 'secret');
    local $ENV{VAANI_REDIS_PASSWORD} = 'secret';
    $ran = tool(resend => 'unix:' . $redis->socket, $waits);
    like $ran->{out}, qr/^4 records: 4 sent, 0 of them duplicates, 0 refused, 2 damaged places$/m, 'they are sent';
    is $redis->client->cmd('HGET', "vaani:call:$_", 'seq'), 1, "$_ is there" for qw(sixth seventh eighth ninth);
};

subtest 'verify' => sub {
    is tool(verify => "$dir/00000000000000000001.log")->{exit}, 0, 'a good segment';
    is tool(verify => "$dir/00000000000000000001.log")->{out}, "2 records: 2 waiting, 0 kept, 0 dead letters, 0 damaged places\n", '... says so';
    is tool(verify => $dir)->{exit}, 1, 'a damaged one among others';
};

subtest 'resend' => sub {
    my $redis = Vaani::Test::Redis->start(tcp => 1, password => 'secret');
    my $client = $redis->client;
    my $subscriber = $redis->client->subscribe('vaani:events');

    my $ran = tool(resend => 'unix:' . $redis->socket, $dir);
    is $ran->{exit}, 1, 'without the password';
    is $client->cmd('DBSIZE'), 0, '... nothing is sent';

    local $ENV{VAANI_REDIS_PASSWORD} = 'wrong';
    $ran = tool(resend => 'unix:' . $redis->socket, $dir);
    is $ran->{exit}, 1, 'with a wrong one';
    unlike $ran->{err}, qr/wrong"/, '... which is not told';

    $ENV{VAANI_REDIS_PASSWORD} = 'secret';
    $ran = tool(resend => 'redis://127.0.0.1:' . $redis->port . '/3', $dir);
    like $ran->{out}, qr/^5 records: 5 sent, 0 of them duplicates, 0 refused, 1 damaged place$/m, 'all is sent';

    my $third = $redis->client(db => 3);
    is $third->cmd('HGET', "vaani:call:$_", 'seq'), 1, "$_ is there" for 'first', 'second', "third\xc2\xa0", 'fourth', 'fifth';
    my $message = $subscriber->next_message;
    like $message->{payload}, qr/"received_at":1790000000123,.*"replayed":true,/, 'published, as of its receipt';

    $ran = tool(resend => 'redis://127.0.0.1:' . $redis->port . '/3', $dir);
    like $ran->{out}, qr/5 sent, 5 of them duplicates/, 'a second time it does nothing';

    $third->cmd('SET', 'vaani:call:first', 'a string') if $third->cmd('DEL', 'vaani:call:first');
    $ran = tool(resend => 'redis://127.0.0.1:' . $redis->port . '/3', "$dir/00000000000000000001.log");
    is $ran->{exit}, 1, 'refused';
    like $ran->{out}, qr{/0+1\.log:0: refused: WRONGTYPE}, '... says which and why';
    like $ran->{out}, qr/2 records: 1 sent/, '... and goes on';

    open my $segment, '<', "$dir/00000000000000000001.log" or die;
    flock $segment, 2;
    $ran = tool(resend => 'redis://127.0.0.1:' . $redis->port, "$dir/00000000000000000001.log");
    is $ran->{exit}, 1, 'one that nginx is at';
    like $ran->{err}, qr/skipped, nginx is using it/, '... is left alone';
    close $segment;

    $redis->stop;
    $ran = tool(resend => 'redis://127.0.0.1:' . $redis->port, $dir);
    is $ran->{exit}, 1, 'no Redis';
    like $ran->{err}, qr/cannot connect to Redis: /, '... says so';
};

subtest 'not published' => sub {
    my $redis = Vaani::Test::Redis->start(tcp => 1);
    my $admin = $redis->client;
    $admin->cmd('ACL', 'SETUSER', 'deaf', 'on', '>secret', '~*', 'resetchannels', '+@all');
    local $ENV{VAANI_REDIS_USER} = 'deaf';
    my $url = 'redis://127.0.0.1:' . $redis->port;
    my $segment = "$dir/00000000000000000001.log";

    delete local $ENV{VAANI_REDIS_PASSWORD};
    my $ran = tool(resend => $url, $segment);
    is $ran->{exit}, 1, 'a user without a password';
    like $ran->{err}, qr/VAANI_REDIS_USER requires VAANI_REDIS_PASSWORD/, '... is not ignored';
    is $admin->cmd('DBSIZE'), 0, '... nothing is sent';

    $ENV{VAANI_REDIS_PASSWORD} = 'secret';
    $ran = tool(resend => $url, $segment);
    is $ran->{exit}, 1, 'nobody was told: no success';
    like $ran->{out}, qr/^2 records: 2 sent, .*, 2 not published, 0 damaged places$/m, '... which the sum says';
};

# A running tool whose output is not read at first.
sub start_tool (@args) {
    my $pid = open my $out, '-|', $tool, @args or die "$tool: $!";
    return { pid => $pid, out => $out };
}

subtest 'a pager that waits' => sub {
    my $redis = Vaani::Test::Redis->start(tcp => 1, password => 'secret');
    local $ENV{VAANI_REDIS_PASSWORD} = 'secret';
    my $client = $redis->client;
    my $many = tmpdir() . '/many.log';
    $client->cmd('SET', "vaani:call:wrong$_", 'a string') for 1 .. 2000;
    spew($many, journal_records(map { record("wrong$_") } 1 .. 2000));

    my $ran = start_tool(resend => 'redis://127.0.0.1:' . $redis->port, $many);
    my $first = readline $ran->{out};
    like $first, qr/refused: WRONGTYPE/, 'it is at work';
    ok !wait_for(sub { waitpid($ran->{pid}, 1) > 0 }, 0.3), '... and waits for its reader';

    open my $fh, '<', $many or die "open: $!";
    ok flock($fh, 2 | 4), 'it holds no lock meanwhile';
    close $fh;

    # what nginx appends before its last look is sent, too
    spew_more($many, journal_records(record('late')));
    my @rest = readline $ran->{out};
    close $ran->{out};
    like $rest[-1], qr/^2001 records: 1 sent, /, 'what was appended is not missed';
    is $client->cmd('HGET', 'vaani:call:late', 'seq'), 1, '... it is sent';
};

sub spew_more ($path, $bytes) {
    open my $fh, '>>', $path or die "open: $!";
    syswrite $fh, $bytes;
    close $fh;
    return;
}

subtest 'a record that is being written' => sub {
    my $record = journal_records(record('whole'));
    my $path = spew(tmpdir() . '/growing.log', journal_records(record('one')) . substr $record, 0, 50);

    open my $writer, '>>', $path or die "open: $!";
    flock $writer, 1;
    my $ran = start_tool(verify => $path);
    ok !wait_for(sub { waitpid($ran->{pid}, 1) > 0 }, 0.3), 'it is waited for';
    syswrite $writer, substr $record, 50;
    close $writer;
    is join('', readline $ran->{out}), "2 records: 2 waiting, 0 kept, 0 dead letters, 0 damaged places\n", 'and is no damage';
    ok close $ran->{out}, 'the status';

    $path = spew(tmpdir() . '/cut.log', journal_records(record('one')) . substr $record, 0, 50);
    is tool(verify => $path)->{exit}, 1, 'one that nobody writes is damaged';
};

subtest 'files that are none, and large ones' => sub {
    my $fifo = tmpdir() . '/fifo.log';
    require POSIX;
    POSIX::mkfifo($fifo, 0600) or die "mkfifo: $!";
    my $ran = tool(verify => $fifo);
    is $ran->{exit}, 1, 'a FIFO';
    like $ran->{err}, qr/fifo\.log: not a file/, '... does not make it wait';

    my $large = tmpdir() . '/large.log';
    my $part = journal_records(map { record("large$_", 'call_ringing') } 1 .. 100);
    spew($large, "\xffVJ\x01\x0f\xff\xff\xff" . $part x 10);
    truncate $large, 300_000_000;
    my ($exit, $out) = run([ 'sh', '-c', 'ulimit -v 100000; exec "$@"', 'sh', $tool, 'verify', $large ]);
    is $out =~ s/.*\n(?=1000 records)//sr, "1000 records: 1000 waiting, 0 kept, 0 dead letters, 2 damaged places\n", '300 MB in 100 MB of memory';
};

# --- refused deliveries

sub refusal ($reason, $body, $time = 1790000000123) {
    return journal_records(pack 'a Q> C/a a*', 'R', $time, $reason, $body);
}

# An endpoint with a spool, and a copy of what it is to get again.
my $secret = 's' x 40;
my $standard = 'whsec_' . encode_base64('k' x 32, '');

subtest 'refused deliveries' => sub {
    plan skip_all => 'needs the module' if !defined $ENV{VAANI_MODULE};
    my $redis = Vaani::Test::Redis->start;
    my $client = $redis->client;
    my $from = tmpdir() . '/kept';
    mkdir $_ or die "mkdir: $!" for $from, "$from/refused";

    secret_file('hmac', "# the secret\n\n  $secret\r\n");
    secret_file('token', "X-Token: @{[ 't' x 20 ]}\n");
    my $nginx = Vaani::Test::Nginx->start(http => qq{
        vaani_redis @{[ $redis->url ]};
        server {
            listen unix:%%SOCK%%;
            listen 127.0.0.1:%%PORT%%;
            location = /hook { vaani_webhook; vaani_signature X-Webhook-Signature prefix=sha256= secret=$secret; }
            location = /standard { vaani_webhook; vaani_secret $standard; }
            location = /token { vaani_webhook; vaani_token \$http_x_token @{[ 't' x 20 ]}; }
            location = /open { vaani_webhook; }
        }});
    my $segment = sprintf '%s/refused/%020d.log', $from, 1;
    my $next = sprintf '%s/refused/%020d.log', $from, 2;
    my $fill = sub {
        spew($segment, refusal('missing_field', event('call_started', room => 'again'))
            . refusal('invalid_json', "no \x1b JSON") . refusal('invalid_event', '{"event":"call_ended","room_name":"r\u00a0"}'));
        spew($next, refusal('missing_field', event('call_ended', room => 'again')));
    };
    $fill->();

    my $ran = tool(list => $from);
    is $ran->{exit}, 0, 'list';
    my @lines = split /\n/, $ran->{out};
    like $lines[0], qr{/0+1\.log:0: 2026-\d\d-\d\dT\d\d:\d\d:\d\d\.123Z call_started again \d+ bytes, refused: missing_field$},
        'one that can be read';
    like $lines[1], qr{ - - 9 bytes, refused: invalid_json$}, 'one that cannot';
    is $lines[-1], '0 records: 0 waiting, 0 kept, 0 dead letters, 0 damaged places, 4 refused deliveries', 'the sum';
    unlike $ran->{out}, qr/JSON$|room_name/m, 'no bodies';
    is tool(verify => $from)->{out}, "$lines[-1]\n", 'verify';

    $ran = tool(resend => 'unix:' . $redis->socket, $segment);
    is $ran->{exit}, 1, 'they are not for Redis';
    like $ran->{out}, qr/skipped, a refused delivery; use "resend --to"/, '... which it says';

    my $url = 'http://unix:' . $nginx->sock . ':/hook';
    for my $args ([ '--to' ], [ '--to', $url ], [ '--nonsense', 'x', $from ], [ '--to', $url, '--format', 'x', $from ]) {
        is tool(resend => @$args)->{exit}, 2, "@$args: wrong";
    }
    $ran = tool(resend => '--to', 'https://localhost/hook', $from);
    is $ran->{exit}, 1, 'https';
    like $ran->{err}, qr/https is not supported/, '... it says so';

    $ran = tool(resend => '--to', $url, $from);
    is $ran->{exit}, 1, 'without a secret';
    is scalar(() = $ran->{out} =~ /answered 401$/mg), 4, '... all are refused';
    is $client->cmd('DBSIZE'), 0, '... nothing arrives';
    is tool(list => $from)->{out} =~ /, (\d+) refused/ ? $1 : 0, 4, '... and all stay';

    my @signed = ('--secret-file', tmpdir() . '/hmac');
    $ran = tool(resend => '--to', $url, @signed, $from);
    is $ran->{exit}, 1, 'with it, some are refused again';
    like $ran->{out}, qr{/0+1\.log:\d+: answered 400$}m, '... which ones';
    is $client->cmd('HGET', 'vaani:call:again', 'seq'), 2, 'the others arrive';
    ok !-e $next, 'a file of which all were sent is gone';
    ok -e $segment, 'the other one stays';
    my ($left) = tool(list => $from)->{out} =~ /, (\d+) refused deliver/;
    cmp_ok $left, '<', 3, 'with those that were not';
    is tool(verify => $from)->{exit}, 0, '... and no damage';

    my $before = slurp($segment);
    $ran = tool(resend => '--to', $url, @signed, $from);
    is $client->cmd('HGET', 'vaani:call:again', 'seq'), 2, 'again: what was sent is not sent';
    like $ran->{out}, qr/^$left refused deliver(?:y|ies): 0 sent, $left refused again, 0 damaged places$/m, 'the sum';
    is slurp($segment), $before, '... and nothing changes';

    $fill->();
    unlink $segment;
    $client->cmd('FLUSHALL');
    $ran = tool(resend => '--to', 'http://127.0.0.1:' . $nginx->port . '/token', '--header-file', tmpdir() . '/token', $from);
    is $ran->{exit}, 0, 'another header, over TCP';
    is $client->cmd('HGET', 'vaani:call:again', 'seq'), 1, '... arrives';

    spew($next, refusal('missing_field', event('call_ended', room => 'standard')));
    secret_file('standard', "$standard\n");
    $ran = tool(resend => '--to', 'http://unix:' . $nginx->sock . ':/standard', '--format', 'standard',
        '--secret-file', tmpdir() . '/standard', $from);
    is $ran->{exit}, 0, 'signed as Standard Webhooks ask for';
    is $client->cmd('HGET', 'vaani:call:standard', 'seq'), 1, '... arrives';

    # nginx appends while it is sent again
    spew($next, refusal('missing_field', event('call_ended', room => 'held')));
    open my $fh, '<', $next or die "open: $!";
    flock $fh, 2;
    $ran = tool(resend => '--to', 'http://unix:' . $nginx->sock . ':/open', $from);
    is $ran->{exit}, 0, 'a file that nginx has open';
    ok -e $next, '... stays';
    close $fh;
    is tool(list => $from)->{out}, "0 records: 0 waiting, 0 kept, 0 dead letters, 0 damaged places\n", '... with all of it marked';
    tool(resend => '--to', 'http://unix:' . $nginx->sock . ':/open', $from);
    ok !-e $next, '... and goes the next time';

    $fill->();
    $nginx->stop;
    $ran = tool(resend => '--to', $url, @signed, $from);
    is $ran->{exit}, 1, 'no endpoint';
    like $ran->{err}, qr/(?:No such file|refused)/, '... it says why';
    is tool(list => $from)->{out} =~ /, (\d+) refused/ ? $1 : 0, 4, '... and nothing is lost';
};

done_testing;
