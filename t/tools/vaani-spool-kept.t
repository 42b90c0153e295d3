# The tool on kept segments and tombstones, and how it connects to Redis: with
# TLS, with a password from a file, and with many events under way at once.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use Vaani::Test;
use Fcntl qw(:flock);
use IO::Socket::INET ();
use Vaani::Test::Certificates;
use Vaani::Test::Events;
use Vaani::Test::Faults;
use Vaani::Test::Process ();
use Vaani::Test::Spool qw(:DEFAULT tool);

my $tool = vaani_spool();
plan skip_all => 'make tool builds it' if !-x $tool;

use constant NOW => int(time * 1000);
use constant HOUR => 3_600_000;

# --- the format

sub record (%opt) {
    my $event = delete $opt{event} // 'call_ringing';
    my $room = $opt{room} // '';
    return delivery_content(
        id => "$event $room", received_at => NOW, stream => '', body => event($event, room => $room), %opt, room => $room);
}

sub start ($boot = 'b' x 16, $time = 1000) { return pack 'a a16 Q>', 'K', $boot, $time }
sub tombstone ($room, $time = NOW) { return pack 'a Q> a*', 'E', $time, $room }
sub refusal ($reason, $body) { return pack 'a Q> C/a a*', 'R', NOW, $reason, $body }

sub kept ($number) { return sprintf '%020d-%s.kept', $number, unpack 'H*', pack 'N4', map { int rand 2**32 } 1 .. 4 }

sub contents ($dir) { return { map { $_ => slurp($_) } grep { -f } glob "$dir/* $dir/refused/*" } }

sub event_ids ($client) {
    return [ map { $_->{text} =~ /"room_name":"([^"]+)"/ } Vaani::Test::Faults::messages($client) ];
}

# A running tool whose output is not read at first. The refusals fill the pipe,
# so that it blocks until its output is read.
sub start_tool (@args) {
    my $err = tmpdir() . '/start_tool.err';
    open my $out, '-|', 'sh', '-c', 'exec 2> "$0"; exec "$@"', $err, $tool, @args or die "$tool: $!";
    return { out => $out, err => $err };
}

sub full_pipe ($client) {
    $client->cmd('SET', 'vaani:call:wrong', 'a string');
    return journal_records(record(room => 'wrong')) x 2000;
}

# The output of a started tool, once it has ended.
sub rest ($ran) {
    my @lines = readline $ran->{out};
    close $ran->{out};
    return { exit => $? >> 8, last => ($lines[-1] // '') =~ s/\n\z//r, err => slurp($ran->{err}) };
}

# --- what is there

subtest 'list and verify' => sub {
    my $kept = kept(1);
    my $dir = spool(
        $kept => journal_records(start(), record(room => 'one'), deferred_content(1790000000, 3, record(room => 'two'))),
        segment(2) => journal_records(record(room => 'three')),
        kept(3) => journal_records(record(room => 'four')),
        'dead-letters' => journal_records("\0\x02NO" . record(room => 'five')),
        erased => journal_records(tombstone("gone \x1b", 1790000000123)),
        'refused/' . segment(1) => journal_records(refusal('missing_field', event('call_ringing', room => 'six'))),
    );
    my $before = contents($dir);
    my $ran = tool(list => $dir);

    is $ran->{exit}, 0, 'nothing is damaged';
    my @lines = split /\n/, $ran->{out};
    like $lines[0], qr{/\Q$kept\E:41: \S+Z call_ringing vaani:call:one \d+ bytes, kept$}, 'a kept event';
    like $lines[1], qr{vaani:call:two \d+ bytes, tried 3 times since 2026-09-21T14:13:20Z, kept$}, 'one that had been deferred';
    like $lines[2], qr{/0+2\.log:0: .* vaani:call:three \d+ bytes$}, 'one that waits, in the order of the numbers';
    like $lines[3], qr{/0+3-[0-9a-f]{32}\.kept:0: .* vaani:call:four \d+ bytes, kept$}, 'a segment that had waited';
    like $lines[4], qr{/dead-letters:0: .*, refused: NO$}, 'a dead letter';
    like $lines[5], qr{/erased:0: 2026-09-21T14:13:20\.123Z erased gone\\x20\\x1b$}, 'a tombstone, which cannot steer the terminal';
    like $lines[6], qr{call_ringing six \d+ bytes, refused: missing_field$}, 'a refused delivery';
    is $lines[7], '5 records: 1 waiting, 3 kept, 1 dead letter, 0 damaged places, 1 refused delivery, 1 tombstone', 'the sum';
    unlike $ran->{out}, qr/room_name/, 'no bodies';

    my $verified = tool(verify => $dir);
    is "$verified->{exit} $verified->{out}", "0 $lines[7]\n", 'verify';
    is_deeply contents($dir), $before, 'nothing was changed';

    is tool(verify => "$dir/$kept")->{last}, '2 records: 0 waiting, 2 kept, 0 dead letters, 0 damaged places', 'a file alone';
    rename "$dir/$kept", "$dir/$kept.bad" or die "rename: $!";
    is tool(verify => "$dir/$kept.bad")->{last}, '2 records: 0 waiting, 2 kept, 0 dead letters, 0 damaged places', '... that was put aside';
};

subtest 'damage' => sub {
    my $good = journal_records(start(), record(room => 'one'));
    for my $case (
        [ 'garbage' => kept(1), "${good}garbage", 1 ],
        [ 'a start that is none' => segment(1), $good, 1 ],
        [ 'a second start' => kept(1), $good . journal_records(start()), 1 ],
        [ 'a start that is cut' => kept(1), journal_records(substr start(), 0, 24), 0 ],
        [ 'an event among tombstones' => 'erased', journal_records(tombstone('a'), record(room => 'b')), 0 ],
        [ 'garbage among tombstones' => 'erased', journal_records(tombstone('a')) . 'garbage' . journal_records(tombstone('b')), 0 ],
        [ 'a tombstone of no room' => 'erased', journal_records(tombstone('')), 0 ],
    ) {
        my ($what, $name, $bytes, $events) = @$case;
        my $ran = tool(verify => spool($name => $bytes));
        is $ran->{exit}, 1, $what;
        like $ran->{out}, qr{/\Q$name\E:\d+: damaged: }, '... is told';
        like $ran->{last}, qr/^$events records?: .*, 1 damaged place\b/, '... and counted';
    }
};

subtest 'a kept segment that is open' => sub {
    my $redis = Vaani::Test::Redis->start(tcp => 1);
    my $torn = journal_records(record(room => 'torn'));
    my $dir = spool(kept(1) => journal_records(start(), record(room => 'whole')) . substr $torn, 0, 50);
    my ($path) = glob "$dir/*.kept";
    open my $writer, '>>', $path or die "open: $!";
    flock $writer, LOCK_EX;

    my $ran = tool(verify => $path);
    is $ran->{exit}, 0, 'what is not a record yet is no damage';
    like $ran->{out}, qr/: nginx is writing: 50 bytes of an incomplete record$/m, '... which is told';

    $ran = tool(resend => $redis->url, $dir);
    is $ran->{exit}, 0, 'its whole records are sent';
    is $ran->{last}, '1 record: 1 sent, 0 of them duplicates, 0 refused, 0 damaged places', '... as the sum says';

    $ran = start_tool(verify => $path);
    syswrite $writer, substr $torn, 50;
    is rest($ran)->{last}, '2 records: 0 waiting, 2 kept, 0 dead letters, 0 damaged places', 'the rest of a record is waited for';

    syswrite $writer, 'torn';
    close $writer;
    is tool(verify => $path)->{exit}, 1, 'the same in one that is closed is damage';
};

# --- to Redis

subtest 'resend: a directory to an empty Redis' => sub {
    my $redis = Vaani::Test::Redis->start(tcp => 1, acl => [ '~vaani:stream', '+xadd' ]);
    my $client = $redis->client;
    my $subscriber = $redis->client->subscribe('vaani:events');
    my @stream = (stream => 'vaani:stream');
    my %unknown = (body => '{"event":"call_paused","room_name":"paused"}', @stream);
    my $dir = spool(
        kept(1) => journal_records(start(), record(room => 'first', @stream)),
        segment(2) => journal_records(record(room => 'second', @stream), record(%unknown, room => 'waits')),
        kept(3) => journal_records(
            record(room => 'third', @stream), record(%unknown, room => 'kept'),
            record(room => 'expired', received_at => NOW - HOUR, ttl => HOUR - 1),
            record(room => 'young', received_at => NOW - HOUR, ttl => 2 * HOUR),
            record(room => 'for-ever', received_at => 1, ttl => 0),
            record(room => 'before', received_at => NOW - 2), record(room => 'after', received_at => NOW),
            record(room => 'before', event => 'call_ended', received_at => NOW - 1)),
        segment(4) => journal_records(record(room => 'old', received_at => NOW - 2 * HOUR, ttl => HOUR), record(room => 'before')),
        'dead-letters' => journal_records("\0\x02NO" . record(room => 'letter', received_at => 1, ttl => HOUR)),
        erased => journal_records(tombstone('before', 5), tombstone('before', NOW - 1), tombstone('after', NOW), tombstone('befor')),
    );
    my $before = contents($dir);

    my $ran = tool(resend => $redis->url, $dir);
    is $ran->{exit}, 0, 'exit status';
    is $ran->{out}, "14 records: 11 sent, 0 of them duplicates, 0 refused, 1 expired, 1 erased, 1 unknown and not published again, 0 damaged places\n", 'the sum';
    is $ran->{err}, '', 'without a terminal, no progress';
    is_deeply [ sort @{ $client->cmd('KEYS', 'vaani:*') } ],
        [ sort 'vaani:stream', map { "vaani:call:$_" } qw(first second third young for-ever before after old letter) ], 'what is there: no marks';
    is $client->cmd('HGET', 'vaani:call:before', 'seq'), 2, 'what came after the erasure is applied';
    is_deeply event_ids($client), [qw(first second paused third)], 'in the order of the numbers, the unknown one that waited published';
    like $subscriber->next_message->{payload}, qr/"replayed":true/, 'as replayed ones';
    is_deeply contents($dir), $before, 'the files are as they were';

    is tool(resend => $redis->url, $dir)->{last},
        '14 records: 11 sent, 10 of them duplicates, 0 refused, 1 expired, 1 erased, 1 unknown and not published again, 0 damaged places',
        'again: Redis recognizes them';

    my ($file) = glob "$dir/*3-*.kept";
    like tool(resend => $redis->url, $file)->{last}, qr/, 1 erased,/, 'tombstones count for a file alone, too';
    my ($exit, $out) = run([ 'sh', '-c', 'cd "$0" && exec "$@"', $dir, $tool, resend => $redis->url, $file =~ s{.*/}{}r ]);
    like $out, qr/, 1 erased,/, '... and for one without a directory in its name';

    unlink "$dir/erased";
    mkdir "$dir/erased";
    $client->cmd('FLUSHALL');
    $ran = tool(resend => $redis->url, $dir);
    is $ran->{exit}, 1, 'if tombstones cannot be read';
    like $ran->{err}, qr{/erased: cannot be read; nothing is sent$}m, '... it is told';
    is $client->cmd('DBSIZE'), 0, '... and nothing is sent';
};

subtest 'many events' => sub {
    my $redis = Vaani::Test::Redis->start(tcp => 1);
    my $client = $redis->client;
    my $part = journal_records(map { record(room => "many$_") } 1 .. 200);
    my $dir = spool(kept(1) => $part x 100, kept(2) => $part, segment(3) => $part);

    my $ran = tool(resend => '--progress', $redis->url, $dir);
    is $ran->{last}, '20400 records: 20400 sent, 20200 of them duplicates, 0 refused, 0 damaged places', 'all are sent';
    my $bytes = 102 * length $part;
    like $ran->{err}, qr{^(?:vaani-spool: \d+ of $bytes bytes, \d+ events, \d+ events/s\n)*vaani-spool: $bytes of $bytes bytes, 20400 events, \d+ events/s\n\z},
        '--progress says how far it is';
    my %calls = $client->cmd('INFO', 'commandstats') =~ /^cmdstat_(\w+(?:\|\w+)?):calls=(\d+)/mg;
    is_deeply [ @calls{qw(evalsha script|load)} ], [ 20400, 1 ], 'by the digest of the script';

    # Longer than all that is sent at once.
    my $long = record(room => 'long', event => 'call_failed',
        body => '{"event":"call_failed","room_name":"long","error":"' . 'x' x 3_000_000 . '"}');
    $ran = tool(resend => $redis->url, spool(kept(1) => journal_records(record(room => 'short'), $long, record(room => 'last'))));
    is $ran->{last}, '3 records: 3 sent, 0 of them duplicates, 0 refused, 0 damaged places', 'a long one';
    is length $client->cmd('HGET', 'vaani:call:long', 'error'), 3_000_000, '... is there';
};

subtest 'Redis forgets the script' => sub {
    my $redis = Vaani::Test::Redis->start(tcp => 1);
    my $client = $redis->client;
    my $dir = spool(segment(1) => full_pipe($client) . journal_records(map { record(room => "r$_") } 1 .. 300));
    my $ran = start_tool(resend => $redis->url, $dir);
    like readline $ran->{out}, qr/refused: WRONGTYPE/, 'it is at work';
    $client->cmd('SCRIPT', 'FLUSH', 'SYNC');
    is rest($ran)->{last}, '2300 records: 300 sent, 0 of them duplicates, 2000 refused, 0 damaged places', 'nothing is lost or sent twice';
    is scalar @{ $client->cmd('KEYS', 'vaani:call:r*') }, 300, '... in Redis neither';
};

subtest 'Redis hangs up' => sub {
    my $redis = Vaani::Test::Redis->start(tcp => 1);
    my $client = $redis->client;
    my $dir = spool(segment(1) => full_pipe($client) . journal_records(map { record(room => "r$_") } 1 .. 300), segment(2) => journal_records(record(room => 'more')));
    my $ran = start_tool(resend => $redis->url, $dir);
    like readline $ran->{out}, qr/refused: WRONGTYPE/, 'it is at work';
    $redis->kill;
    my $rest = rest($ran);
    is $rest->{exit}, 1, 'exit status';
    like $rest->{last}, qr/^\d+ records: 0 sent, /, 'what was done is summed up';
    my @lines = split /\n/, $rest->{err};
    is @lines, 1, 'one line';
    like $lines[0], qr{/0+1\.log:\d+: lost the connection to Redis \(.*\); this record and the following ones may be missing, run the command again$}, '... tells from where on it is to be done again';
};

subtest 'segments that nginx renames or deletes meanwhile' => sub {
    my $redis = Vaani::Test::Redis->start(tcp => 1);
    my $client = $redis->client;
    my $dir = spool(segment(1) => full_pipe($client), map({ segment($_) => journal_records(record(room => "r$_")) } 2 .. 3),
        kept(4) => journal_records(record(room => 'r4')), kept(5) => journal_records(record(room => 'r5')));
    my $ran = start_tool(resend => $redis->url, $dir);
    readline $ran->{out};
    rename "$dir/" . segment(2), "$dir/" . kept(2) or die "rename: $!";
    unlink "$dir/" . segment(3) or die "unlink: $!";
    unlink glob "$dir/*4-*.kept" or die "unlink: $!";
    my $rest = rest($ran);
    like $rest->{last}, qr/^2002 records: 2 sent, /, 'a renamed one is sent';
    ok $client->cmd('EXISTS', "vaani:call:$_"), "... $_" for qw(r2 r5);
    is $rest->{exit}, 1, 'one that is gone';
    is $rest->{err}, "vaani-spool: $dir/" . segment(3) . ": deleted meanwhile: nginx has delivered it\n", '... is told, if it waited';
};

# --- connections

subtest 'URLs' => sub {
    my $dir = spool(kept(1) => journal_records(record(room => 'one')));
    for my $case (
        [ 'http://localhost'                  => qr/REDIS must begin with "redis:\/\/", "rediss:\/\/"/ ],
        [ 'redis://'                          => qr/REDIS must be redis:/ ],
        [ 'redis://:6379'                     => qr/REDIS must be redis:/ ],
        [ 'redis://localhost:0'               => qr/REDIS must be redis:/ ],
        [ 'redis://localhost:65536'           => qr/REDIS must be redis:/ ],
        [ 'redis://localhost:6379x'           => qr/REDIS must be redis:/ ],
        [ 'redis://localhost:'                => qr/REDIS must be redis:/ ],
        [ 'redis://::1'                       => qr/REDIS must be redis:.*IPv6 address in brackets/ ],
        [ 'redis://[::1'                      => qr/REDIS must be redis:/ ],
        [ 'redis://[::1]6379'                 => qr/REDIS must be redis:/ ],
        [ 'redis://localhost/x'               => qr/REDIS must be redis:/ ],
        [ 'redis://localhost?db=1'            => qr/REDIS must be redis:/ ],
        [ 'redis://localhost/99999999999'     => qr/REDIS must be redis:/ ],
        [ 'redis://' . 'x' x 300              => qr/REDIS must be redis:/ ],
        [ 'unix:'                             => qr/REDIS must be unix:/ ],
        [ 'unix:/x?user=y'                    => qr/REDIS must be unix:/ ],
        [ 'unix:/x?db='                       => qr/REDIS must be unix:/ ],
        [ 'unix:' . tmpdir() . '/none'        => qr/cannot connect to Redis: No such file/ ],
        [ 'redis://user:sesam@localhost'      => qr/must not have a user or password; use --user and --password-file/ ],
    ) {
        my ($url, $like) = @$case;
        my $ran = tool(resend => $url, $dir);
        is $ran->{exit}, 1, substr $url, 0, 40;
        like $ran->{err}, $like, '... is told';
        unlike $ran->{err}, qr/sesam@/, '... without a password';
    }
    for my $args ([ '--cacert' ], [ '--to', 'http://x/', '--cacert', 'y', $dir ], [ '--secret-file', 'y', 'unix:/x', $dir ],
        [ '--insecure', 'unix:/x', $dir ], [ '--progress', 'unix:/x' ])
    {
        is tool(resend => @$args)->{exit}, 2, "@$args: wrong";
    }
};

subtest 'user and password' => sub {
    my $redis = Vaani::Test::Redis->start(tcp => 1, password => 'sesame');
    my $dir = spool(kept(1) => journal_records(record(room => 'one')));
    my $file = sub ($text) { return spew(tmpdir() . '/password', $text) };
    delete local @ENV{qw(VAANI_REDIS_USER VAANI_REDIS_PASSWORD)};
    $redis->client->cmd('ACL', 'SETUSER', 'tool', 'on', '>another', '~*', '&*', '+@all');

    my $like = sub ($name, $like, @args) {
        my $ran = tool(resend => @args, $redis->url, $dir);
        like "$ran->{exit} $ran->{err}$ran->{out}", $like, $name;
        unlike $ran->{err}, qr/sesame|another/, '... which is not told';
    };
    $like->('from a file', qr/^0 1 record: 1 sent/, '--password-file', $file->("\xef\xbb\xbf# the password\n\n  sesame \r\nother\n"));
    $like->('with a user', qr/^0 1 record: 1 sent/, '--user', 'tool', '--password-file', $file->('another'));
    $like->('a wrong one', qr/^1 .*Redis refused AUTH: wrong user or password/, '--password-file', $file->('sesame!'));
    $like->('a wrong user', qr/^1 .*Redis refused AUTH/, '--user', 'nobody', '--password-file', $file->('sesame'));
    $like->('quotes', qr{^1 .*/password:2: remove the quotes around the secret$}m, '--password-file', $file->("# x\n'sesame'\n"));
    $like->('an empty file', qr{^1 .*/password: the file contains no secret$}m, '--password-file', $file->("\n# x\n#\n"));
    $like->('a null byte', qr{^1 .*/password: the file contains a null byte; save it as UTF-8$}m, '--password-file', $file->("s\0e\0"));
    $like->('a long line', qr{^1 .*/password:1: the secret is too long}, '--password-file', $file->('x' x 1024));
    $like->('a long file', qr{^1 .*/password: the file is longer}, '--password-file', $file->("x\n" x 4096));
    $like->('no file', qr{^1 .*/none: No such file}, '--password-file', tmpdir() . '/none');
    $like->('a user without a password', qr/^1 .*--user requires --password-file or VAANI_REDIS_PASSWORD$/m, '--user', 'tool');
    {
        local @ENV{qw(VAANI_REDIS_USER VAANI_REDIS_PASSWORD)} = qw(nobody nothing);
        $like->('options come before the environment', qr/^0 1 record/, '--user', 'tool', '--password-file', $file->('another'));
    }
    my $ran = tool(resend => 'redis://127.0.0.1:' . $redis->port . '/99', $dir);
    like $ran->{err}, qr/NOAUTH|refused SELECT/, 'without a password';
};

subtest 'TLS' => sub {
    my $ca = Vaani::Test::Certificates->new('ca');
    my $good = $ca->issue('good', san => 'DNS:localhost, IP:127.0.0.1, IP:::1');
    my $redis = Vaani::Test::Redis->start(tcp => 1, tls => { %$good{qw(cert key)} }, password => 'sesame');
    my $port = $redis->tls_port;
    my $dir = spool(kept(1) => journal_records(map { record(room => "one$_") } 1 .. 500));
    my @cacert = ('--cacert', $ca->file);
    local $ENV{VAANI_REDIS_PASSWORD} = 'sesame';
    my $client = $redis->client;

    my $sent = sub ($name, @args) {
        $client->cmd('FLUSHALL');
        my $ran = tool(resend => @args, $dir);
        is $ran->{last}, '500 records: 500 sent, 0 of them duplicates, 0 refused, 0 damaged places', $name or diag $ran->{err};
    };
    my $fails = sub ($name, $like, @args) {
        $client->cmd('FLUSHALL');
        my $ran = tool(resend => @args, $dir);
        is $ran->{exit}, 1, $name;
        like $ran->{err}, qr/^vaani-spool: (?:cannot connect|lost the connection) to Redis: $like\n\z/, '... is told';
        is $client->cmd('DBSIZE'), 0, '... and nothing is sent';
    };

    $sent->('an address', @cacert, "rediss://127.0.0.1:$port");
    $sent->('a name', @cacert, "rediss://localhost:$port/0");
    $sent->('in capitals, as Valkey', @cacert, "VALKEYS://LOCALHOST:$port");
    $sent->('without TLS, as Valkey', 'valkey://127.0.0.1:' . $redis->port);
    {
        local $ENV{SSL_CERT_FILE} = $ca->file;
        $sent->('a CA that the system trusts', "rediss://127.0.0.1:$port");
    }
    is tool(resend => @cacert, "rediss://127.0.0.1:$port/3", $dir)->{exit}, 0, 'a database';
    is $redis->client(db => 3)->cmd('DBSIZE'), 500, '... has them';

    $fails->('another CA', qr/invalid certificate \(.*\)/, "rediss://127.0.0.1:$port");
    $fails->('a CA that is none', qr/the file of --cacert cannot be read or has no certificate/, '--cacert', $good->{key}, "rediss://127.0.0.1:$port");
    $fails->('no such CA', qr/the file of --cacert cannot be read.*/, '--cacert', '/none', "rediss://127.0.0.1:$port");
    $fails->('no TLS', qr/the TLS handshake timed out; is this the port for redis:\/\/\?/, @cacert, 'rediss://127.0.0.1:' . $redis->port);
    $fails->('TLS for one without', qr/.+/, "redis://127.0.0.1:$port");

    for my $case (
        [ 'the certificate of another name', qr/invalid certificate \(.*address.*\)/, san => 'DNS:localhost, IP:127.0.0.2' ],
        [ 'one that has expired', qr/invalid certificate \(certificate has expired\)/, san => 'IP:127.0.0.1', expired => 1 ],
    ) {
        my ($name, $like, %opt) = @$case;
        my $other = $ca->issue('other', %opt);
        my $server = Vaani::Test::Redis->start(tls => { %$other{qw(cert key)} });
        my $ran = tool(resend => @cacert, $server->url, $dir);
        like $ran->{err}, qr/^vaani-spool: cannot connect to Redis: $like$/, $name;
        is $server->client->cmd('DBSIZE'), 0, '... nothing is sent';
    }
    my $named = $ca->issue('named', san => 'DNS:redis.test, IP:127.0.0.1');
    my $server = Vaani::Test::Redis->start(tls => { %$named{qw(cert key)} });
    like tool(resend => @cacert, 'rediss://localhost:' . $server->tls_port, $dir)->{err}, qr/invalid certificate \(.*hostname.*\)/i, 'another name';

SKIP: {
        skip 'no IPv6', 1 if slurp('/proc/net/if_inet6') !~ /^0{31}1 /m;
        my $six = Vaani::Test::Redis->start(tls => { %$good{qw(cert key)} }, config => ['bind ::1']);
        local $ENV{VAANI_REDIS_PASSWORD} = '';
        is tool(resend => @cacert, 'rediss://[::1]:' . $six->tls_port, $dir)->{exit}, 0, 'an IPv6 address';
    }

    # One that answers without TLS.
    my $listener = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1') or die "listen: $!";
    my $ran = start_tool(resend => @cacert, 'rediss://127.0.0.1:' . $listener->sockport, $dir);
    my $peer = $listener->accept;
    syswrite $peer, "-ERR not TLS\r\n";
    is rest($ran)->{err}, "vaani-spool: cannot connect to Redis: the server does not support TLS; is this the port for redis://?\n", 'a server without TLS';
};

# --- tombstones

subtest 'erase' => sub {
    my $dir = spool(
        kept(1) => journal_records(start(), record(room => 'Asha'), record(room => 'Asha', event => 'call_ended'), record(room => 'Asha2')),
        segment(2) => journal_records(record(room => 'Asha', received_at => NOW + HOUR), record(room => 'Asha')),
        'dead-letters' => journal_records("\0\x02NO" . record(room => 'Asha')),
        'refused/' . segment(1) => journal_records(refusal('missing_field', event('call_ended', room => 'Asha')), refusal('invalid_json', 'x')),
    );
    my $before = contents($dir);
    chmod 0750, $dir;
    chown 65534, 65534, $dir if $> == 0;

    for my $room ('', 'x' x 257, "a\nb", "a\x7f", "a\xc2\x85", "a\xc3", "\xff") {
        my $ran = tool(erase => $dir, $room);
        is $ran->{exit}, 1, 'a name that cannot be: ' . length $room;
        like $ran->{err}, qr/^vaani-spool: ROOM must/, '... is told';
    }
    is tool(erase => @$_)->{exit}, 2, 'wrong use' for [$dir], [ $dir, 'a', 'b' ];
    my $ran = tool(erase => tmpdir(), 'Asha');
    is $ran->{exit}, 1, 'a directory that is no spool';
    like $ran->{err}, qr{/lock: not found; is this the directory of a spool\?}, '... is told';
    is_deeply contents($dir), $before, 'nothing was changed';

    my $from = int(time * 1000) - 1000;
    $ran = tool(erase => "$dir/", 'Asha');
    is $ran->{exit}, 0, 'a room';
    my @lines = split /\n/, $ran->{out};
    like $lines[0], qr/^Asha: events received before \d{4}-\d\d-\d\dT\S+Z are not applied again from \Q$dir\E$/, 'what was done';
    is $lines[1], 'erased: 1 dead letter, 1 refused delivery', 'what was erased of the files';
    is $lines[2], 'in segments until nginx deletes them: 1 waiting, 2 kept', '... and what stays for a while';
    is $lines[3], '1 more record was received later and will be applied', 'what is not covered';
    like $ran->{out}, qr/^not reached: the hash of the call in Redis.*streams.*other hosts/ms, 'what it does not reach';
    unlike $ran->{out}, qr/room_name/, 'no bodies';

    my $erased = "$dir/erased";
    my @stat = stat $erased;
    is sprintf('%04o', $stat[2] & 07777), '0600', 'the mode of the file';
    is "@stat[4, 5]", join(' ', (stat $dir)[ 4, 5 ]), '... belongs to whom the directory belongs';
    my ($content) = journal_contents(slurp($erased));
    my ($kind, $time, $room) = unpack 'a Q> a*', $content;
    is "$kind $room", 'E Asha', 'the tombstone';
    cmp_ok $time, '>=', $from, '... of now';
    cmp_ok $time, '<=', time * 1000 + 1000, '... not of later';
    my $refused = "$dir/refused/" . segment(1);
    delete $before->{"$dir/dead-letters"};
    is_deeply { %{ contents($dir) }, $erased => undef }, { %$before, $erased => undef, $refused => journal_records(refusal('invalid_json', 'x')) },
        'no other file was changed';

    is tool(erase => $dir, 'x' x 256)->{exit}, 0, 'the longest name';
    like tool(erase => $dir, "\xc3\xa9\x1b" =~ s/\x1b//r)->{out}, qr/^\\xc3\\xa9: /, 'one that is not ASCII';
    like tool(list => $dir)->{out}, qr{/erased:0: \S+Z erased Asha$}m, 'list shows it';

    my $redis = Vaani::Test::Redis->start(tcp => 1);
    is tool(resend => $redis->url, $dir)->{last}, '5 records: 2 sent, 0 of them duplicates, 0 refused, 3 erased, 0 damaged places', 'resend does not send it';
    is_deeply [ sort @{ $redis->client->cmd('KEYS', '*') } ], [ map { "vaani:call:$_" } qw(Asha Asha2) ], '... but what came later';
};

subtest 'erase beside others' => sub {
    my $dir = spool();
    my $erased = "$dir/erased";

    my @ran = map { start_tool(erase => $dir, "room$_") } 1 .. 8;
    is rest($_)->{exit}, 0, 'one of eight' for @ran;
    is_deeply [ sort map { substr $_, 9 } journal_contents(slurp($erased)) ], [ map { "room$_" } 1 .. 8 ], 'all are there';

    # Of one that was interrupted, the next one is not lost.
    spew($erased, substr journal_records(tombstone('torn')), 0, 20);
    is tool(erase => $dir, 'next')->{exit}, 0, 'behind a torn one';
    my $listed = tool(list => $erased);
    like $listed->{out}, qr/damaged: 20 bytes.*erased next/s, '... both are shown';

    open my $fh, '<', $erased or die "open: $!";
    flock $fh, LOCK_EX;
    my $ran = start_tool(erase => $dir, 'later');
    ok !wait_for(sub { slurp($erased) =~ /later/ }, 0.3), 'a lock is waited for';
    close $fh;
    is rest($ran)->{exit}, 0, '... and had';
    like slurp($erased), qr/later\z/, '... it is there';

    rename $erased, "$dir/elsewhere" or die "rename: $!";
    symlink "$dir/elsewhere", $erased or die "symlink: $!";
    $ran = tool(erase => $dir, 'link');
    is $ran->{exit}, 1, 'a link';
    unlike slurp("$dir/elsewhere"), qr/link/, '... is not followed';
    unlink $erased;
    link "$dir/elsewhere", $erased or die "link: $!";
    is tool(erase => $dir, 'link')->{exit}, 1, 'a file with two names';
    unlike slurp("$dir/elsewhere"), qr/link/, '... is not written to';
};

done_testing;
