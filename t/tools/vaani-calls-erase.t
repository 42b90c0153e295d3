# "vaani-calls erase": it deletes a call from Redis and from a spool, and nothing else.
# It logs in as the user of docs/permissions.md.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use IO::Socket::INET ();
use JSON::PP ();
use POSIX ();
use Vaani::Test::ACL qw(documented with_prefix);
use Vaani::Test::Certificates;
use Vaani::Test::Cluster;
use Vaani::Test::Endpoint;
use Vaani::Test::Events;
use Vaani::Test::FakeRedis;
use Vaani::Test::Process ();
use Vaani::Test::Sentinel;
use Vaani::Test::Spool;
use Vaani::Test::Topology qw(room_in_partition PARTITIONS);

use constant TOOL => ROOT . '/bin/vaani-calls';
use constant PASSWORD => 'secret';    # as in the document

my $spool_tool = vaani_spool();
plan skip_all => 'make tool builds it' if !-x $spool_tool;

$ENV{TZ} = 'UTC';
$ENV{LC_ALL} = 'C';
delete @ENV{qw(REDIS_URL VAANI_REDIS_USER VAANI_REDIS_PASSWORD)};

my ($words, $scan, $servers, $cluster_words) = documented('eraser');
my $redis = Vaani::Test::Redis->start(tcp => 1, acl => [qw(~* +@all)]);
my $client = $redis->client;

sub set_user (@words) {
    $client->try_cmd('ACL', 'DELUSER', 'eraser');
    $client->cmd('ACL', 'SETUSER', 'eraser', @words);
    return;
}
set_user(@$words, @$scan);

sub login (%opt) { return 'redis://eraser:' . PASSWORD . '@127.0.0.1:' . $redis->port }
$ENV{REDIS_URL} = login();

my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    vaani_redis @{[ $redis->url ]};
    server {
        listen unix:%%SOCK%%;
        vaani_index  on;
        vaani_stream vaani:stream;
        location = /hook    { vaani_webhook; }
        location = /other   { vaani_webhook; vaani_stream other:stream; }
        location = /partly  {
            vaani_webhook; vaani_partitions 16; vaani_prefix 'vaani:{\$vaani_partition}';
            vaani_stream 'vaani:{\$vaani_partition}:stream';
        }
        location = /second  { vaani_webhook; vaani_prefix second; }
        location = /twice   { vaani_webhook; vaani_partitions 16; vaani_prefix 'v\${vaani_partition}:{\$vaani_partition}'; vaani_stream off; }
        location = /noindex { vaani_webhook; vaani_index off; }
    }
CONF
my $http = $nginx->http;

# In all cases, it prints nothing of its own source, and no password.
my @strange;

sub calls (@arguments) {
    my ($exit, $out, $err) = run([ $^X, '-w', TOOL, @arguments ]);
    push @strange, "@arguments: $err" if $err =~ / at \S+ line \d+|^Use of |\bsecret\b/m;
    push @strange, "@arguments: $out" if $out =~ /[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]/;
    return { exit => $exit, out => $out, err => $err };
}

sub erase (@arguments) { return calls('erase', '--yes', @arguments) }

sub post ($body, $uri = '/hook') {
    my $answer = $http->post($uri, $body);
    is $answer->status, 200, $body if $answer->status != 200;
    return;
}

# A whole call.
sub play ($room, $uri = '/hook', %more) {
    post(event($_, room => $room, %more), $uri) for qw(call_started call_ringing user_picked_up_at call_ended);
    post(event('call_postprocessing', room => $room), $uri);
    return;
}

# All that Redis has: of a key its value.
sub all ($c = $client) {
    my %value;
    for my $key (@{ $c->cmd('KEYS', '*') }) {
        my $type = $c->cmd('TYPE', $key);
        $value{$key} = $type eq 'hash' ? $c->hgetall($key) : $type eq 'zset' ? $c->cmd('ZRANGE', $key, 0, -1)
            : $type eq 'stream' ? $c->cmd('XRANGE', $key, '-', '+') : $type;
    }
    return \%value;
}

# The same without these rooms.
sub without_rooms ($all, @rooms) {
    my %gone = map { $_ => 1 } @rooms;
    my %left;
    for my $key (keys %$all) {
        my $value = $all->{$key};
        next if $key =~ /:call:(.*)\z/s && $gone{$1};
        $value = [ grep { !$gone{ ref $_ ? room_of($_) : $_ } } @$value ] if ref $value eq 'ARRAY';
        $left{$key} = $value if ref $value ne 'ARRAY' || @$value || $key =~ /:stream\z/;
    }
    return \%left;
}

# Of an entry of a stream.
sub room_of ($entry) {
    my $message = eval { JSON::PP->new->utf8->decode($entry->[1][1]) } // {};
    return $message->{room_name} // '';
}

sub flush () { $client->cmd('FLUSHALL'); return }

# --- a call

subtest 'a call' => sub {
    play($_) for qw(gone stays gone2);
    post(event('call_ended', room => 'gone'));                               # a duplicate
    post('{"event":"unheard_of","room_name":"gone"}');
    post('{"event":"unheard_of","text":"\"gone\""}');
    post('{"event":"call_ended","room_name":"g\u006fne","end_reason":"again"}');
    post('{"event":"unheard_of","room_name":"stays","payload":{"room_name":"gone","key":"vaani:call:gone"}}');
    my $before = all();
    my $length = $client->cmd('XLEN', 'vaani:stream');

    my $ran = calls(erase => '--dry-run', 'gone');
    is $ran->{exit}, 0, '--dry-run' or diag $ran->{err};
    like $ran->{out}, qr/^gone +\d{4}-\S+ \S+ +ended +\+1234567890 +hash, calls$/m, '... what there is';
    like $ran->{out}, qr/^stream vaani:stream: 7 entries to be erased \(\d+ bytes\), $length read since /m, '... and in the stream';
    is_deeply all(), $before, '... nothing is changed';

    $ran = erase('gone');
    is $ran->{exit}, 0, 'erase' or diag $ran->{err};
    is $ran->{err}, '', '... without complaints';
    my @lines = split /\n/, $ran->{out};
    is $lines[2], 'erased: 1 hash, 1 entry in the index', '... what was erased';
    like $lines[3], qr/^stream vaani:stream: 7 entries erased \(\d+ bytes\), /, '... and of the stream';
    is $lines[4], '  1 entry without a call contains the name: not erased', '... and what was not';
    like $ran->{out}, qr/^not reached:\n  spools: .*\n  events .* receives later.*\n  other streams than vaani:stream, .*\n  lagging replicas.*backups\n  data that subscribers/m,
        '... and what cannot be';
    my $all = all();
    is_deeply $all, without_rooms($before, 'gone'), 'all of it is gone, and nothing else';

    $ran = erase('gone');
    is $ran->{exit}, 1, 'again';
    like $ran->{err}, qr/^vaani-calls: nothing found of the call: erased before or expired, or /, '... there is nothing';
    is_deeply all(), $all, '... and nothing happens';

    is erase('stays', 'gone2', 'stays')->{exit}, 0, 'several';
    is_deeply [ sort keys %{ all() } ], ['vaani:stream'], '... at once';
    flush();
};

subtest 'a call that has expired' => sub {
    for my $left ('the stream', 'the index', 'the hash') {
        play($_) for qw(gone stays);
        my $want = without_rooms(all(), 'gone');
        $client->cmd('DEL', 'vaani:call:gone') if $left ne 'the hash';
        if ($left ne 'the index') { $client->cmd('ZREM', $_, 'gone') for qw(vaani:active vaani:calls) }
        if ($left ne 'the stream') {
            $client->cmd('XDEL', 'vaani:stream', map { $_->[0] } grep { $_->[1][1] =~ /"room_name":"gone"/ } @{ $client->cmd(XRANGE => 'vaani:stream', '-', '+') });
        }
        my $ran = erase('gone');
        is $ran->{exit}, 0, "only $left has it" or diag $ran->{err};
        is_deeply all(), $want, '... it is gone, and nothing else';
        flush();
    }
};

subtest 'a call that goes on' => sub {
    post(event('call_started', room => 'on'));
    my $ran = erase('on');
    is $ran->{exit}, 0, 'an active one';
    like $ran->{err}, qr/^vaani-calls: on had no outcome yet: its next event creates it again; run the same command when the call has ended$/m, '... it is said';
    is_deeply [ @{ all() }{qw(vaani:active vaani:calls vaani:call:on)} ], [ undef, undef, undef ], '... it is gone';

    post(event($_, room => 'on')) for qw(call_started call_ended);
    like erase('on')->{err}, qr/^vaani-calls: call_postprocessing of on was not received yet: it creates the call again; run the same command after it$/m,
        'one that is not complete';
    post(event('call_postprocessing', room => 'on'));
    is_deeply all()->{'vaani:calls'}, ['on'], '... begins again';
    is erase('on')->{err}, '', '... and is erased';
    is_deeply [ keys %{ all() } ], ['vaani:stream'], '... entirely';
    flush();
};

subtest 'long streams' => sub {
    play('stays');
    my @entries = @{ $client->cmd('XRANGE', 'vaani:stream', '-', '+') };
    # a late one stands where it was applied
    play('gone');
    my ($late) = @{ $client->cmd('XREVRANGE', 'vaani:stream', '+', '-', 'COUNT', 1) };
    $client->pipeline(map { [ XADD => 'vaani:stream', '*', @{ $entries[ $_ % @entries ][1] } ] } 1 .. 450);
    $client->cmd('XADD', 'vaani:stream', '*', @{ $late->[1] });
    $client->cmd('XADD', 'vaani:stream', '*', 'other', 'gone');
    my $want = without_rooms(all(), 'gone');

    my $ran = erase('gone');
    is $ran->{exit}, 0, 'several batches';
    is_deeply all(), $want, '... all of it';
    flush();

    # Entries before the call are not read, because a stream may be long.
    $client->cmd('XADD', 'vaani:stream', '1000000-1', @{ $late->[1] });
    $client->cmd('XADD', 'vaani:stream', 1000 * (time - 1800) . '-0', @{ $late->[1] });
    play('gone');
    like calls(erase => '--dry-run', 'gone')->{out}, qr/: 6 entries to be erased .*, 6 read since /, 'from an hour before its first event';
    like calls(erase => '--dry-run', '--around', '1m', 'gone')->{out}, qr/: 5 entries to be erased .*, 5 read since /, '--around';
    $client->cmd('DEL', 'vaani:call:gone');
    $client->cmd('ZREM', 'vaani:calls', 'gone');
    like calls(erase => '--dry-run', 'gone')->{out}, qr/: 7 entries to be erased \(\d+ bytes\), 7 read$/m, 'nobody knows when it began: all of it';
    flush();

    # A few at a time, if they are large: each has 1 MB.
    set_user(@$words, @$scan, '+hstrlen');
    $client->cmd('EVAL', q(for i = 1, 100 do
        redis.call('XADD', KEYS[1], '*', 'message', '{"id":"x","room_name":"other","payload":"' .. string.rep('x', 1000000) .. '"}')
    end), 1, 'vaani:stream');
    play('gone');
    my $peak = 'open my $f, "<", "/proc/self/status" or die; print STDERR "peak $1\n" if join("", <$f>) =~ /VmHWM:\s+(\d+)/';
    for my $arguments ([qw(show gone --stream --around 1d)], [qw(erase --yes gone)]) {
        my ($exit, undef, $err) = run([ $^X, '-e', "do '@{[ TOOL ]}'; my \$status = main::main(\@ARGV); $peak; exit \$status", @$arguments ]);
        is $exit, 0, "@$arguments: large entries" or diag $err;
        my ($kb) = $err =~ /^peak (\d+)$/m;
        cmp_ok $kb, '<', 100_000, '... are not all in memory at a time';
    }
    set_user(@$words, @$scan);
    flush();

    play('gone', '/other');
    my $other = calls(erase => '--dry-run', 'gone');
    like $other->{out}, qr/^stream vaani:stream: 0 entries/m, 'a stream that is not there';
    is erase('--stream=other:stream', 'gone')->{exit}, 4, 'another stream, for which the user has no rights';
    is_deeply [ grep { /call:gone/ } keys %{ all() } ], ['vaani:call:gone'], '... and the hash is still there';
    set_user(@$words, @$scan, '~other:stream');
    is erase('--stream=other:stream', 'gone')->{exit}, 0, '... with them';
    is_deeply all(), { 'other:stream' => [] }, '... it is erased';
    set_user(@$words, @$scan);
    flush();
};

subtest 'names' => sub {
    for my $room ("a b\xc3\xa9\"\\c*[x]?", '-x', '--', 'x' x 256, '.*') {
        my $json = JSON::PP->new->allow_nonref->encode($room =~ s/\xc3\xa9/\\u00e9/r) =~ s/\\\\u00e9/\\u00e9/r;
        post(qq({"event":"call_started","room_name":$json}));
        post('{"event":"call_started","room_name":"stays"}');
        is erase('--', $room)->{exit}, 0, "the room $room";
        is_deeply [ sort grep { /:call:/ } keys %{ all() } ], ['vaani:call:stays'], '... is gone, and no other';
        is scalar(grep { $_->[1][1] !~ /"stays"/ } @{ all()->{'vaani:stream'} }), 0, '... also in the stream';
        flush();
    }
};

# --- the question

# In a terminal, of util-linux, where that is typed once it asks.
sub typed ($keys, @arguments) {
    my $command = join ' ', map { "'$_'" } $^X, '-w', TOOL, 'erase', @arguments;
    my $log = spew(tmpdir() . '/typed', '');
    my ($exit, $out, $err) = run([ 'sh', '-c', '(for n in $(seq 3000); do grep -q "Permanently erase" "$2" && break; sleep 0.01; done; printf "$0") |
        script -qefc "$1" "$2"', $keys, $command, $log ]);
    return { exit => $exit, out => $out, err => $err };
}

subtest 'the question' => sub {
    my (undef, $version) = run([ 'script', '--version' ]);
    plan skip_all => 'needs script of util-linux' if ($version // '') !~ /util-linux/;

    play('gone');
    my $before = all();
    for my $case ([ 'no', 'n\\n', 1 ], [ 'Enter', '\\n', 1 ], [ 'another word', 'yesterday\\n', 1 ], [ 'the end', '\\004', 1 ], [ 'Ctrl-C', '\\003', 130 ]) {
        my ($what, $keys, $exit) = @$case;
        my $ran = typed($keys, 'gone');
        is $ran->{exit}, $exit, $what;
        like $ran->{out}, qr/^gone .*^Permanently erase this call\? \[y\/N\] /ms, '... to the question, after what there is';
        like $ran->{out}, qr/nothing was erased\r?$/m, '... it says so' if $exit == 1;
        is_deeply all(), $before, '... nothing is erased';
    }
    is typed('Yes\\n', 'gone')->{exit}, 0, 'yes';
    is_deeply [ keys %{ all() } ], ['vaani:stream'], '... it is erased';
    flush();
};

# --- calls of a number

subtest 'the calls of a number' => sub {
    my $number = '+15550100';
    my $transfer = sub ($room, $n) {
        post(event('human_transfer_initiated', room => $room, phone_number => $n));
        post(event('human_transfer_failed', room => $room, phone_number => $n));
    };
    play('own', '/hook', phone_number => $number);
    play('other', '/hook', phone_number => '+15550101');
    play('longer', '/hook', phone_number => $number . '0');
    play('blank', '/hook', phone_number => "$number ");
    play('transfer', '/hook', phone_number => '+1');
    $transfer->('transfer', $number);
    play('earlier', '/hook', phone_number => '+1');
    $transfer->('earlier', $number);
    $transfer->('earlier', '+2');
    play('summary', '/hook', phone_number => '+1', end_reason => $number);
    play('noindex', '/noindex', phone_number => $number);
    $client->cmd('SET', 'vaani:call:string', $number);
    my $before = all();

    my $ran = calls(erase => '--dry-run', '--phone', $number);
    is $ran->{exit}, 0, '--dry-run' or diag $ran->{err};
    is_deeply [ sort $ran->{out} =~ /^(\S+) +\d{4}-/mg ], [qw(earlier own transfer)], '... lists them';
    like $ran->{err}, qr/^vaani-calls: 7 calls checked in the index; calls that ended before .* see --scan$/m, '... and says where it looked';
    $ran = calls(erase => '--dry-run', '--scan', '--phone', $number);
    is_deeply [ sort $ran->{out} =~ /^(\S+) +\d{4}-/mg ], [qw(earlier noindex own transfer)], '... --scan finds more';

    $ran = erase('--phone', $number);
    is $ran->{exit}, 0, 'erase' or diag $ran->{err};
    like $ran->{out}, qr/^erased: 3 hashes, 3 entries in the index$/m, '... how many';
    is_deeply all(), without_rooms($before, qw(own transfer earlier)), '... these and no others';

    $ran = erase('--phone', $number);
    is $ran->{exit}, 1, 'again';
    like $ran->{err}, qr/^vaani-calls: no call has this number; /m, '... there is none';

    $client->cmd('DEL', 'vaani:active', 'vaani:calls');
    my $rest = all();
    $ran = erase('--phone', $number);
    is $ran->{exit}, 0, 'without an index';
    like $ran->{err}, qr/^vaani-calls: 6 calls checked in all keys$/m, '... all keys are looked at';
    is_deeply all(), without_rooms($rest, 'noindex'), '... the call is gone, and no other';
    flush();
};

# --- a spool

sub spool_nginx ($spool, %opt) {
    my $token = $opt{token};
    return Vaani::Test::Nginx->start(log_level => 'notice', workers => 2, http => spool_config($redis, spool => $spool,
        more => "vaani_index on; vaani_token \$http_x_token $token;"));
}

subtest 'with a spool' => sub {
    my $token = 't' x 32;
    my $nginx = spool_nginx('retain=1h refused=16m', token => $token);
    my $dir = $nginx->dir . '/spool';
    my $send = sub ($body) { return $nginx->http->post('/hook', $body, 'x-token' => $token) };
    my @spool = ('--spool', $dir, '--spool-tool', $spool_tool);

    for my $room (qw(gone stays)) {
        is $send->(event($_, room => $room))->status, 200, "$_ of $room" for qw(call_started call_ended call_postprocessing);
        is $send->(qq({"room_name":"$room"}))->status, 422, '... and one that is refused';
    }
    $redis->kill;
    is $send->(event('call_ended', room => $_, end_reason => 'once more'))->body, qq({"status":"queued"}\n), "$_ waits" for qw(gone stays);

    my $ran = erase(@spool, 'gone');
    is $ran->{exit}, 3, 'Redis is unreachable: it begins with what is there';
    ok !-e "$dir/erased", '... so that nothing is erased in part' or diag slurp("$dir/erased");

    $redis->restart;
    $client = $redis->client;
    set_user(@$words, @$scan);
    ok !await_empty($dir, 60), 'Redis is back';
    ok wait_for(sub { 2 == grep { ($client->cmd('HGET', "vaani:call:$_", 'seq') // 0) == 4 } qw(gone stays) }, 60), '... with all that it lost';
    my $before = all();

    like calls(erase => '--dry-run', @spool, 'gone')->{out}, qr/^spool: \S+ erase \Q$dir\E ROOM, for each call$/m, '--dry-run';
    ok !-e "$dir/erased", '... writes no tombstone';

    $ran = erase(@spool, 'gone');
    is $ran->{exit}, 0, 'erase' or diag $ran->{err};
    like $ran->{out}, qr/^spool \Q$dir\E:\n  gone: events received before .*\n  erased: 0 dead letters, 1 refused delivery\n  in segments until nginx deletes them: 0 waiting, 4 kept\n/m,
        '... what the spool had';
    like $ran->{err}, qr/^vaani-calls: waiting 11 s for nginx to read the tombstones$/m, '... nginx gets the time to see it';
    like $ran->{out}, qr/^erased: 1 hash, 1 entry in the index$/m, '... and Redis';
    unlike $ran->{out} =~ s/.*^erased: 1 hash//msr, qr/spool \//, '... the second time it is not said again';
    my ($now, $want) = map { my $all = $_; delete $all->{$_} for grep { /:mark:/ } keys %$all; $all } all(), without_rooms($before, 'gone');
    is_deeply $now, $want, '... nothing else is gone';
    is_deeply [ grep { /gone/ } map { slurp($_) } glob "$dir/refused/*.log" ], [], '... and no refused delivery';

    $client->cmd('FLUSHALL');
    ok wait_for(sub { $client->cmd('EXISTS', 'vaani:call:stays') }, 60), 'after a loss the others come back';
    ok !wait_for(sub { $client->cmd('EXISTS', 'vaani:call:gone') }, 1), '... and it does not';
    flush();
};

subtest 'events that come meanwhile' => sub {
    my $dir = tmpdir() . '/meanwhile';
    mkdir $dir or die "mkdir: $!";
    spew("$dir/lock", '');
    my $then = tmpdir() . '/then';
    my $tool = spew(tmpdir() . '/slow-spool', sprintf qq(#!/bin/sh\n"%s" "\$@" || exit 1\n[ -e "%s" ] || exit 0\nmv "%s" "%s.done"\n%s "%s.done"\n),
        $spool_tool, $then, $then, $then, "$^X -I" . ROOT . '/t/lib', $then);
    chmod 0755, $tool;

    play($_) for qw(gone stays);
    my $want = without_rooms(all(), 'gone');
    spew($then, sprintf q(use Vaani::Test::HTTP; exit(Vaani::Test::HTTP->new(sock => %s)->post('/hook', '%s')->status != 200);),
        "'" . $nginx->sock . "'", event('call_ended', room => 'gone', end_reason => 'late'));
    my $ran = erase('--spool', $dir, '--spool-tool', $tool, 'gone');
    is $ran->{exit}, 0, 'an event after the tombstone' or diag $ran->{out}, $ran->{err};
    is_deeply all(), $want, '... is erased';
    is scalar(journal_contents(slurp("$dir/erased"))), 2, '... and covered by another tombstone';
    flush();
};

# An event that nginx applies before the n-th of such commands is passed on.
subtest 'events that come at the end' => sub {
    for my $case ([ 'between the stream and the hash', qr/^UNLINK /, 0 ], [ 'after the hash', qr/^XRANGE /, 1 ]) {
        my ($when, $command, $stays) = @$case;
        my $dir = tmpdir() . '/end' . $stays;
        mkdir $dir or die "mkdir: $!";
        spew("$dir/lock", '');
        play($_) for qw(gone stays);
        my $want = without_rooms(all(), 'gone');

        my ($seen, $posted) = (0, 0);
        my $relay = relay_while(sub ($sent) {
            $seen++ if $sent =~ /^UNLINK /;
            post(event('call_ended', room => 'gone', end_reason => 'late')) if $seen && $sent =~ $command && !$posted++;
            return 1;
        });
        my $ran = calls(erase => '--yes', '--redis', $relay->{url}, '--spool', $dir, '--spool-tool', $spool_tool, 'gone');
        $relay->{end}->();
        is $ran->{exit}, $stays ? 6 : 0, $when or diag $ran->{out}, $ran->{err};
        is scalar(journal_contents(slurp("$dir/erased"))), 2, '... it is covered by another tombstone';
        if ($stays) {
            like $ran->{err}, qr/^vaani-calls: gone exists again: .* run the same command again$/m, '... that the call is there again is told';
            is erase('gone')->{exit}, 0, '... the next run erases it';
        } else {
            unlike $ran->{err}, qr/exists again/, '... it is erased';
        }
        is_deeply all(), $want, '... entirely';
        flush();
    }
};

subtest 'a stream of two prefixes' => sub {
    play('gone');
    play('gone', '/second');
    my $want = all();
    delete @$want{qw(vaani:call:gone vaani:calls)};
    $want->{'vaani:stream'} = [ grep { $_->[1][1] =~ /"key":"second:/ } @{ $want->{'vaani:stream'} } ];
    my $ran = erase('gone');
    is $ran->{exit}, 0, 'the call of one';
    like $ran->{out}, qr/^stream vaani:stream: 5 entries erased .*\n  5 entries are of calls with the same name at other keys: not erased$/m, '... is told from the other one';
    is_deeply all(), $want, '... which stays';
    flush();
};

subtest 'a spool that cannot be erased' => sub {
    play('gone');
    my $before = all();
    my $fakes = 0;
    my $fake = sub ($script) {
        my $file = spew(tmpdir() . '/fake-spool' . ++$fakes, "#!/bin/sh\n$script\n");
        chmod 0755, $file;
        return $file;
    };
    for my $case (
        [ 'that fails', $fake->('echo why >&2; exit 1'), 5, qr/fake-spool1 failed; nothing was erased in Redis; run the same command again to finish$/m ],
        [ 'of another version', $fake->('echo records of the room: 1 waiting'), 5, qr/unexpected output of \S+fake-spool\d; its version must be \d/ ],
        [ 'that is not there', '/nonexistent/vaani-spool', 5, qr/cannot run \/nonexistent\/vaani-spool: No such file/ ],
    ) {
        my ($what, $file, $exit, $why) = @$case;
        my $ran = erase('--spool', tmpdir(), '--spool-tool', $file, 'gone');
        is $ran->{exit}, $exit, "a tool $what";
        like $ran->{err}, $why, '... why';
    }
    my $ran = erase('--spool', tmpdir() . '/none', 'gone');
    is $ran->{exit}, 2, 'no directory';
    like $ran->{err}, qr/none is not a directory/, '... why';
    $ran = erase('--spool', tmpdir(), '--spool-tool', $spool_tool, 'gone');
    is $ran->{exit}, 5, 'no spool';
    like $ran->{err}, qr/lock: not found; is this the directory of a spool\?/, '... why';
    is_deeply all(), $before, 'nothing is erased in Redis';
    flush();
};

# --- interrupted

# In between: a Redis that hangs up after so many bytes of requests.
subtest 'interrupted at any moment' => sub {
    my ($n, $ran, @wrong) = (0);
    my $want;
    do {
        flush();
        play($_, '/hook', phone_number => "+$_") for qw(gone stays);
        $want = without_rooms(all(), 'gone');
        my $left = ++$n;
        my $broken = relay_while(sub ($command) { --$left > 0 });
        $ran = calls(erase => '--yes', '--redis', $broken->{url}, 'gone');
        $broken->{end}->();
        my $again = erase('gone');
        push @wrong, "after command $n: $again->{exit} $again->{err}" if $again->{exit} != 0 && $again->{exit} != 1;
        push @wrong, "after command $n: something is wrong" if !eq_hash(all(), $want);
    } while ($ran->{exit} == 3 && $n < 100);
    is $ran->{exit}, 0, 'the last one was not' or diag $ran->{err};
    cmp_ok $n, '>', 8, "the others were, $n times";
    is_deeply \@wrong, [], 'each time, the next run finished';
    flush();
};

# A relay to Redis that asks before it passes on a command, and ends with all
# connections where the answer is no.
sub relay_while ($passes) {
    my $listener = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1') or die "listen: $!";
    defined(my $pid = fork) or die "fork: $!";
    if ($pid == 0) {
        eval {
            while (my $from = $listener->accept) {
                my $to = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $redis->port) or die "connect: $!\n";
                1 while relay_some($from, $to, $passes);
            }
        };
        POSIX::_exit(0);
    }
    my $port = $listener->sockport;
    close $listener;
    return {
        url => 'redis://eraser:' . PASSWORD . '@127.0.0.1:' . $port,
        end => sub { kill KILL => $pid; waitpid $pid, 0; return },
    };
}

# False when one of the two has closed.
sub relay_some ($from, $to, $passes) {
    state %bytes;
    vec(my $fds = '', fileno $from, 1) = 1;
    vec($fds, fileno $to, 1) = 1;
    select $fds, undef, undef, undef;

    if (vec $fds, fileno $to, 1) {
        sysread $to, my $reply, 65536 or return 0;
        syswrite $from, $reply;
    }
    return 1 if !vec $fds, fileno $from, 1;

    my $bytes = \($bytes{ fileno $from } //= '');
    sysread $from, $$bytes, 65536, length $$bytes or return delete $bytes{ fileno $from } && 0;
    while ($$bytes =~ /\A\*(\d+)\r\n/) {
        my ($at, $count, @words) = ($+[0], $1);
        for (1 .. $count) {
            substr($$bytes, $at) =~ /\A\$(\d+)\r\n/ or return 1;
            $at += $+[0] + $1 + 2;
            return 1 if length $$bytes < $at;
            push @words, substr $$bytes, $at - $1 - 2, $1;
        }
        $passes->("@words") or die "no\n";
        syswrite $to, substr $$bytes, 0, $at, '';
    }
    return 1;
}

# --- other forms of Redis

subtest 'partitions' => sub {
    set_user(@$words, @$scan, '~vaani:{*}:*');
    my @options = ('--partitions', 16, '--prefix', 'vaani:{$vaani_partition}');
    play($_, '/partly', phone_number => '+7') for map { room_in_partition($_, 'gone') } 0, 7, 15;
    play($_, '/partly', phone_number => '+8') for map { room_in_partition($_, 'stays') } 0, 3;
    my $before = all();
    my @gone = map { room_in_partition($_, 'gone') } 0, 7, 15;

    is erase(@options, $gone[0])->{exit}, 0, 'a call';
    is_deeply all(), without_rooms($before, $gone[0]), '... is gone, and no other';
    is erase(@options, '--phone', '+7')->{exit}, 0, 'the calls of a number';
    is_deeply all(), without_rooms($before, @gone), '... are gone, and no others';

    $client->cmd('DEL', map { ("vaani:{$_}:calls", "vaani:{$_}:active") } 0 .. 15);
    my $rest = all();
    is erase(@options, '--phone', '+8')->{exit}, 0, '... also without an index';
    is_deeply all(), without_rooms($rest, map { room_in_partition($_, 'stays') } 0, 3), '... all of them';

    set_user(@$words, @$scan, '~v*');
    play($_, '/twice', phone_number => '+9') for @gone;
    is erase(qw(--partitions 16 --prefix v${vaani_partition}:{$vaani_partition} --scan --phone +9))->{exit}, 0, 'a prefix with two variables';
    is_deeply [ grep { /^v\d/ } keys %{ all() } ], [], '... all of them';
    set_user(@$words, @$scan);
    flush();
};

subtest 'a cluster' => sub {
    my $cluster = Vaani::Test::Cluster->start(masters => 3, replicas => 0, acl => [qw(~* +@all)]);
    $cluster->ask($_, ACL => SETUSER => 'eraser', @$words, @$scan, @$cluster_words[ grep { $cluster_words->[$_] =~ /^[+~]/ } 0 .. $#$cluster_words ], '~vaani:{*}:*')
        for $cluster->live;
    my $nginx = Vaani::Test::Nginx->start(http => "vaani_redis @{[ join ' ', $cluster->urls ]} cluster;
        server { listen unix:%%SOCK%%; location / { vaani_webhook; vaani_index on; vaani_partitions 16;
            vaani_prefix 'vaani:{\$vaani_partition}'; vaani_stream 'vaani:{\$vaani_partition}:stream'; } }");
    my @options = ('--cluster', '--partitions', 16, '--prefix', 'vaani:{$vaani_partition}',
        '--redis', 'redis://eraser:' . PASSWORD . '@127.0.0.1:' . ($cluster->masters)[1]->port);
    my @gone = map { room_in_partition($_, 'gone') } 0 .. 15;
    my @stays = map { room_in_partition($_, 'stays') } 0 .. 15;
    for my $room (@gone, @stays) {
        is $nginx->http->post('/', event($_, room => $room, phone_number => $room =~ /^gone/ ? '+7' : '+8'))->status, 200, "$_ of $room"
            for qw(call_started call_ended);
    }
    my $left = sub () { return [ sort map { s/.*://r } grep { /:call:/ } $cluster->keys('*') ] };

    is erase(@options, $gone[0])->{exit}, 0, 'a call' or diag explain erase(@options, $gone[0]);
    is_deeply $left->(), [ sort @gone[ 1 .. 15 ], @stays ], '... is gone';
    my $ran = erase(@options, '--phone', '+7');
    is $ran->{exit}, 0, 'the calls of a number' or diag $ran->{err};
    is_deeply $left->(), [ sort @stays ], '... are gone';
    my $c = $cluster->client;
    for my $n (0 .. 15) {
        is_deeply $c->cmd('ZRANGE', "vaani:{$n}:calls", 0, -1), [ $stays[$n] ], "partition $n: the index";
        is_deeply [ grep { $_->[1][1] !~ /$stays[$n]/ } @{ $c->cmd('XRANGE', "vaani:{$n}:stream", '-', '+') } ], [], '... the stream';
    }
    is erase(@options, '--scan', '--phone', '+8')->{exit}, 0, 'by the keys of all nodes';
    is_deeply $left->(), [], '... all of them';
};

subtest 'Sentinel, and a list of servers' => sub {
    my $set = Vaani::Test::Sentinel->start(replicas => 1, sentinels => 1, acl => [qw(~* +@all)]);
    $set->ask($_, ACL => SETUSER => 'eraser', @$words, @$servers[ grep { $servers->[$_] =~ /^[+~]/ } 0 .. $#$servers ]) for $set->nodes;
    my $at = sub ($server) { return 'redis://eraser:' . PASSWORD . '@127.0.0.1:' . $server->port };
    my @forms = (
        [ '--sentinel', $set->name, map { ('--redis', $at->($_)) } $set->sentinels ],
        [ map { ('--redis', $at->($_)) } reverse $set->nodes ],
    );
    for my $form (@forms) {
        $set->client->cmd('HSET', 'vaani:call:gone', status => 'completed', created_at => 1);
        $set->client->cmd('ZADD', 'vaani:calls', 1, 'gone');
        my $ran = erase(@$form, 'gone');
        is $ran->{exit}, 0, "$form->[0]" or diag $ran->{err};
        is $set->client->cmd('DBSIZE'), 0, '... it is gone at the master';
    }
    $set->client->cmd('HSET', 'vaani:call:gone', status => 'completed', created_at => 1);
    $set->catch_up(($set->replicas)[0]);
    my $ran = erase('--redis', $at->(($set->replicas)[0]), 'gone');
    is $ran->{exit}, 3, 'a replica';
    like $ran->{err}, qr/READONLY/, '... says why';
};

subtest 'TLS' => sub {
    plan skip_all => 'needs IO::Socket::SSL' if !eval { require IO::Socket::SSL; 1 };
    my $ca = Vaani::Test::Certificates->new('ca');
    my $pair = $ca->issue('good', san => 'DNS:localhost, IP:127.0.0.1');
    my $server = Vaani::Test::Redis->start(tls => { map { $_ => $pair->{$_} } qw(cert key) }, acl => [qw(~* +@all)]);
    my $c = $server->client;
    $c->cmd('ACL', 'SETUSER', 'eraser', @$words);
    $c->cmd('HSET', 'vaani:call:gone', status => 'completed');
    is erase('--redis', 'rediss://eraser:' . PASSWORD . '@127.0.0.1:' . $server->tls_port, '--cacert', $ca->file, 'gone')->{exit}, 0, 'over TLS';
    is $c->cmd('DBSIZE'), 0, '... it is gone';
};

# --- permissions

subtest 'each word of the user is needed' => sub {
    my @arguments = ('gone');
    for my $word (grep { !/^(?:reset|-|on$|>)/ } @$words, @$scan) {
        play('gone');
        post(event('call_started', room => 'active'));
        $client->cmd('DEL', 'vaani:active', 'vaani:calls') if $word eq '+scan';
        set_user(grep { $_ ne $word } @$words, @$scan);
        my $ran = erase($word =~ /^\+(?:scan|zrange)\z/ ? ('--phone', '+1234567890') : 'gone');
        is $ran->{exit}, 4, "without $word" or diag $ran->{out}, $ran->{err};
        like $ran->{err}, qr/refused the command .*see docs.permissions/, '... it is said';
        flush();
    }
    set_user(@$words);
    play('gone');
    is erase('--phone', '+1234567890')->{exit}, 0, 'with an index, +scan is not needed';
    set_user(@$words, @$scan);
    flush();
};

# --- what is wrong

subtest 'errors' => sub {
    for my $case (
        [ qr/erase expects rooms or --phone;/ ], [ qr/erase expects rooms or --phone, not both;/, '--phone', '1', 'room' ],
        [ qr/1 to 256 bytes/, '' ], [ qr/1 to 256 bytes/, 'x' x 257 ], [ qr/--phone is empty/, '--phone', '' ],
        [ qr/--scan requires --phone/, '--scan', 'x' ], [ qr/--unreadable requires --spool/, '--unreadable', 'x' ], [ qr/--spool-tool requires --spool/, '--spool-tool', 'x', 'x' ],
        [ qr/write --stream=KEY, with/, 'room', '--stream', 'other:stream' ], [ qr/a room must be UTF-8/, "caf\xe9" ],
        [ qr/erase has no option --json/, '--json', 'x' ], [ qr/--around must be a time/, '--around', 'x', 'x' ],
    ) {
        my ($why, @arguments) = @$case;
        my $ran = erase(@arguments);
        is $ran->{exit}, 2, "@arguments";
        like $ran->{err}, $why, '... why';
    }
    my ($exit, undef, $err) = run([ 'sh', '-c', 'exec "$@" < /dev/null', 'sh', $^X, TOOL, 'erase', 'x' ]);
    is $exit, 2, 'without a terminal';
    like $err, qr/erase cannot ask without a terminal; use --yes or --dry-run/, '... why';

    play('gone');
    $client->cmd('SET', 'vaani:call:string', 'x');
    my $ran = erase('gone', 'string');
    is $ran->{exit}, 3, 'a key that is no hash';
    like $ran->{err}, qr/the key vaani:call:string is not a hash \(WRONGTYPE\); nothing was erased; check --prefix and the database/, '... why';
    is $client->cmd('EXISTS', 'vaani:call:gone'), 1, '... and nothing was';
    $client->cmd('DEL', 'vaani:stream');
    $client->cmd('SET', 'vaani:stream', 'x');
    like erase('gone')->{err}, qr/the key vaani:stream is not a stream \(WRONGTYPE\); see --stream; run the same command again to finish/, 'a key that is no stream';
    $client->cmd('DEL', 'vaani:stream', 'vaani:calls');
    $client->cmd('SET', 'vaani:calls', 'x');
    is erase('gone')->{exit}, 3, 'a key that is no sorted set';
    is $client->cmd('EXISTS', 'vaani:call:gone'), 1, '... and nothing was erased';
    flush();
};

is_deeply \@strange, [], 'no tracebacks, no passwords, nothing that drives a terminal';

done_testing;
