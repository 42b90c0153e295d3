# Damaged files in the spool: what is whole is delivered, what is not is kept
# aside, byte for byte, and nothing stops.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Fcntl qw(LOCK_EX LOCK_SH);
use Vaani::Test::Disk;
use Vaani::Test::Endpoint;
use Vaani::Test::Events;
use Vaani::Test::Spool;

sub bad ($n) { return sprintf '%020d.bad', $n }

sub nginx ($redis, $dir, %opt) {
    return Vaani::Test::Nginx->start(
        workers => 2, log_level => 'notice', %opt, http => spool_config($redis, dir => $dir),
    );
}

# A small record of one event.
sub record ($room, %opt) {
    return journal_record(delivery_content(room => $room, digest => '', channels => [], stream => '', %opt));
}

# The rooms, of those given, that are not in Redis with one event each.
sub missing ($redis, @rooms) {
    my $client = $redis->client;
    my @seqs = $client->pipeline(map { [ HGET => "vaani:call:$_", 'seq' ] } @rooms);
    return [ map { ($seqs[$_] // 0) eq '1' ? () : $rooms[$_] } 0 .. $#rooms ];
}

sub drains ($dir, $timeout = 30) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @left = await_empty($dir, $timeout);
    return is "@left", '', 'no segment is left';
}

subtest 'the format' => sub {
    is sprintf('%08x', crc32c('123456789')), 'e3069283', 'CRC32C';

    my $redis = Vaani::Test::Redis->start(acl => STREAM);
    my $dir = spool();
    my $nginx = nginx($redis, $dir);
    my $http = $nginx->http;
    $redis->kill;

    my @bodies = map { event($_) } qw(call_started call_ended);
    is $http->post('/hook', $_, 'webhook-id' => 'an id')->body, qq({"status":"queued"}\n), 'queued'
        for @bodies;

    my @contents = map { journal_contents(slurp("$dir/$_")) } @{ names($dir) };
    is @contents, 2, 'two records';

    for my $i (0 .. $#contents) {
        my ($received_at) = unpack 'x3 Q>', $contents[$i];
        my ($digest, $id, $message) = (unpack 'x27 (N/a*)9', $contents[$i])[ 2, 3, 8 ];
        like $received_at, qr/^\d{13}\z/, 'the time';
        isnt $message, '', 'the id of its message';
        is $contents[$i], delivery_content(
            room => ROOM, body => $bodies[$i], id => $id, digest => $digest,
            received_at => $received_at, message => $message,
        ), 'as documented';
    }

    is sprintf('%04o', (stat "$dir/" . names($dir)->[0])[2] & 07777), '0600',
        'only for the user of the workers';
};

# Segments of three records, of which the second is damaged in another way in
# each: what is left of it, and what must become of that.
sub damage_ok ($name, $whole, @damaged) {
    subtest $name => sub {
        my (%files, @rooms, @lost);

        for my $n (1 .. @damaged) {
            $files{ segment($n) } =
                record("$n-a") . $damaged[ $n - 1 ]->("$n-b") . $whole->("$n-c");
            push @rooms, "$n-a", $whole->('x') ne '' ? "$n-c" : ();
            push @lost, "$n-b";
        }

        my $redis = Vaani::Test::Redis->start(acl => STREAM);
        my $dir = spool(%files);
        my $nginx = nginx($redis, $dir);
        drains($dir, 120);

        is_deeply missing($redis, @rooms), [], 'the whole records are delivered, once';
        is $redis->client->cmd('DBSIZE'), @rooms, 'and nothing else';

        my %log = map {
            /segment (\d+) of .* has (\d+) invalid bytes at offset (\d+);/ ? ($1 => "$2 at $3") : ()
        } $nginx->log_lines(qr/invalid bytes/);
        my (@wrong, @unsaid);

        for my $n (1 .. @damaged) {
            my $bytes = $damaged[ $n - 1 ]->("$n-b");
            push @wrong, bad($n) if slurp("$dir/" . bad($n)) ne $bytes;
            my $expected = length($bytes) . ' at ' . length record("$n-a");
            push @unsaid, "$n: " . ($log{$n} // 'nothing') . ", expected $expected"
                if $bytes ne '' && ($log{$n} // '') ne $expected;
        }
        is_deeply \@wrong, [], 'the damaged bytes are kept';
        is_deeply \@unsaid, [], 'and reported with segment and offset';

        is $nginx->http->post('/hook', event('call_started'))->body, qq({"status":"ok"}\n),
            'nginx goes on';
    };
}

# All records of a test are equally long, but for the digits of their rooms.
my $length = length record('1-b');
my $none = sub ($room) { '' };

damage_ok("every byte changed, $length of them", \&record, map {
    my $at = $_;
    sub ($room) {
        my $record = record($room);
        substr($record, $at, 1) ^= chr(1 << $at % 8);
        return $record;
    }
} 0 .. $length - 1);

damage_ok('cut at every byte, the end of the segment', $none, map {
    my $left = $_;
    sub ($room) { substr record($room), 0, $left }
} 0 .. $length - 1);

damage_ok('cut at every byte, with a record behind', \&record, map {
    my $left = $_;
    sub ($room) { substr record($room), 0, $left }
} 1 .. $length - 1);

my $random = join '', map { chr int rand 256 } 1 .. 20000;

damage_ok('holes, shifts and worse', \&record,
    sub ($room) { "\0" x 4096 },
    sub ($room) { "\xff" x 4096 },
    sub ($room) { "\xffVJ\x01" x 1000 },
    sub ($room) { "\xffVJ\x01\x7f\xff\xff\xff" },
    sub ($room) { "\xffVJ\x01\0\0\0\0" },
    sub ($room) { record($room) =~ s/\A.VJ\x01/\xffVJ\x02/sr },
    sub ($room) { reverse record($room) },
    sub ($room) { record($room) =~ s/event/EVENT/r },
    sub ($room) { substr record($room), 1 },
    sub ($room) { substr(record($room), 0, 50) . "\0" x 100 },
    sub ($room) { $random },
);

subtest 'segments without a record' => sub {
    my %files = (
        segment(1) => '',
        segment(2) => "\0" x 3_000_000,
        segment(3) => '',
        segment(4) => "not a journal\n" x 10,
        segment(5) => join('', map { chr int rand 256 } 1 .. 100_000),
        segment(7) => record('seven'),
        segment(10) => '',
    );
    my $redis = Vaani::Test::Redis->start(acl => STREAM);
    my $dir = spool(%files);
    my $nginx = nginx($redis, $dir);
    drains($dir);

    is_deeply missing($redis, 'seven'), [], 'the only record is delivered';
    is_deeply names($dir), [ map { bad($_) } 2, 4, 5 ], 'only what was garbage is kept';
    ok slurp("$dir/" . bad($_)) eq $files{ segment($_) }, "segment $_, byte for byte" for 2, 4, 5;
};

subtest 'records that cannot be read' => sub {
    my $content = delivery_content(
        room => 'r', id => 'r', body => '{"event":"call_ringing","room_name":"r"}',
    );
    my @contents = (
        '',
        "\x01",
        "\x09" . substr($content, 1),
        substr($content, 0, -1),
        "$content ",
        substr($content, 0, 2) . "\xff\xff" . substr($content, 4),
        delivery_content(room => 'r', id => 'r', body => ''),
        delivery_content(room => 'r', id => 'r', body => '[]'),
        delivery_content(room => 'r', id => 'r', body => '{"event":7}'),
        'D',
        substr(deferred_content(1, 1, ''), 0, -1),
    );
    my @deferred = map { deferred_content(1790000000, 3, $_) } @contents[ 0, 3 ];

    my $redis = Vaani::Test::Redis->start(acl => STREAM);
    my $dir = spool(
        segment(1) => join('', record('first'),
            (map { journal_record($_) } @contents, @deferred), record('last')),
    );
    my $nginx = nginx($redis, $dir);
    drains($dir);

    is_deeply missing($redis, 'first', 'last'), [], 'those around are delivered';
    is_deeply names($dir), ['dead-letters'], 'they are dead letters';

    my @dead = map { [ unpack 'x C/a* a*', $_ ] }
        journal_contents(slurp("$dir/dead-letters"));
    is_deeply [ map { unpack 'H*', $_->[1] } @dead ],
        [ map { unpack 'H*', $_ } @contents, @contents[ 0, 3 ] ], 'whole, in their order';
    is_deeply [ grep { $_->[0] !~ /^UNREADABLE/ } @dead ], [], 'with the reason';
};

# Unknown events are spooled without a digest and without a nonce.
subtest 'events that an earlier version did not know' => sub {
    my $redis = Vaani::Test::Redis->start(acl => STREAM);
    my $dir = spool(segment(1) => join '', map { record('news', id => '', body => $_, version => 1) }
        '{"event":"call_ringing","room_name":"news"}',
        '{"event":"call_ringing","room_name":"news","again":true}',
        '{"event":"human_transfer_failed","room_name":"news","transfer_type":"cold","phone_number":"1"}');
    my $nginx = nginx($redis, $dir);
    drains($dir);

    is $redis->client->cmd('HGET', 'vaani:call:news', 'seq'), 3, 'none is taken for a duplicate';
};

# A crash while a full disk made a segment the place of its dead letters.
subtest 'a dead letter in a segment' => sub {
    my $content = delivery_content(
        room => 'again', id => 'again', body => '{"event":"call_ringing","room_name":"again"}',
    );
    my $redis = Vaani::Test::Redis->start(acl => STREAM);
    my $dir = spool(segment(1) => journal_record("\0\x05HELLO$content"));
    my $nginx = nginx($redis, $dir);
    drains($dir);

    is $redis->client->cmd('HGET', 'vaani:call:again', 'seq'), 1, 'is delivered again';
    is_deeply names($dir), [], 'and nothing is left';
};

# It may be complete: the host that answers for the lock is unreachable.
subtest 'a segment cannot be locked' => sub {
    my $redis = Vaani::Test::Redis->start(acl => STREAM);
    my $dir = spool(segment(1) => record('one'));
    my ($nginx, $set) = on_bad_disk("$dir/*.log", sub ($main) {
        nginx($redis, $dir, main => $main);
    }, 'no_locks') or plan skip_all => 'no library can be preloaded';

    ok wait_for(sub { $nginx->error_log =~ /cannot read the spool .*; its events wait/ }), 'its events wait';
    is_deeply names($dir), [ segment(1) ], '... where they are';
    $set->(no_locks => 0);
    drains($dir);
    is_deeply missing($redis, 'one'), [], '... until it can be';
};

subtest 'foreign files' => sub {
    my %foreign = map { $_ => "what was in $_" } (
        '1.log', 'abc.log', '0000000000000000000x.log', '000000000000000000001.log',
        segment(1) . '.old', segment(2) . '~', bad(3), 'dead-letters.1', '.' . segment(1),
        '99999999999999999999.log', segment(0), 'README',
    );
    my $redis = Vaani::Test::Redis->start(acl => STREAM);
    my $dir = spool(%foreign, segment(5) => record('five'));
    mkdir "$dir/subdirectory";
    my $nginx = nginx($redis, $dir);

    ok wait_for(sub { !@{ missing($redis, 'five') } }), 'the segment among them is replayed';
    ok wait_for(sub { !-e "$dir/" . segment(5) }), 'and deleted';
    is_deeply [ grep { slurp("$dir/$_") ne $foreign{$_} } sort keys %foreign ], [],
        'the others are as they were';
};

subtest 'segments that are no files' => sub {
    my $redis = Vaani::Test::Redis->start(acl => STREAM);
    my $dir = spool(segment(4) => record('four'));
    mkdir "$dir/" . segment(1);
    symlink segment(2), "$dir/" . segment(2);     # a loop
    symlink 'nowhere', "$dir/" . segment(3);
    my $nginx = nginx($redis, $dir);

    ok wait_for(sub { !@{ missing($redis, 'four') } }, 10), 'what is behind them is delivered'
        or diag $nginx->log_lines(qr/vaani/);
};

subtest 'the highest number' => sub {
    my $redis = Vaani::Test::Redis->start(acl => STREAM);
    my $dir = spool('09223372036854775807.log' => record('max'));
    my $nginx = nginx($redis, $dir);
    ok wait_for(sub { !@{ missing($redis, 'max') } }), 'it is replayed';

    $redis->kill;
    my $answer = $nginx->http->post('/hook', event('call_started', room => 'next'));
    $redis->restart;

    if ($answer->status == 200) {
        ok wait_for(sub { !@{ missing($redis, 'next') } }, 10), 'what is queued is delivered'
            or diag @{ names($dir) };
    } else {
        is $answer->status, 503, 'nothing more is taken';
    }
};

# --- who replays

# Two records in a segment that cannot be sealed as long as the test has it
# locked.
sub held_segment () {
    my $dir = spool(segment(1) => record('one') . record('two'));
    open my $fh, '<', "$dir/" . segment(1) or die "open: $!\n";
    flock $fh, LOCK_SH or die "flock: $!\n";
    return ($dir, $fh);
}

sub leader ($dir) {
    my $inode = (stat "$dir/lock")[1] // return;
    my ($pid) = slurp('/proc/locks') =~ /FLOCK +ADVISORY +WRITE +(\d+) [0-9a-f]+:[0-9a-f]+:$inode /;
    return $pid;
}

subtest 'the leader is elsewhere' => sub {
    my $redis = Vaani::Test::Redis->start(acl => STREAM);
    my $dir = spool(segment(1) => record('one') . record('two'));
    open my $lock, '+>', "$dir/lock" or die "open: $!\n";
    flock $lock, LOCK_EX or die "flock: $!\n";

    my $nginx = nginx($redis, $dir);
    my $http = $nginx->http;

    # Longer than two rounds of the workers take.
    ok !wait_for(sub { !-e "$dir/" . segment(1) }, 0.5), 'nobody replays';
    is $http->post('/hook', event('call_started', room => 'one'))->body, qq({"status":"ok"}\n),
        'and live events wait for nothing';
    is @{ names($dir) }, 1, 'nor is anything written';

    my $from = now();
    close $lock;
    drains($dir);
    my $took = now() - $from;
    cmp_ok $took, '<', 1, sprintf 'replayed %d ms after the lock was free', 1000 * $took;

    my $client = $redis->client;
    is $client->cmd(HGET => 'vaani:call:two', 'seq'), 1, 'delivered';
    is $client->cmd(HGET => 'vaani:call:one', 'seq'), 2, 'what came earlier, too';
    is $client->cmd(HGET => 'vaani:call:one', 'last_event'), 'call_started', 'behind what came later';
    is $client->cmd(HGET => 'vaani:call:one', 'created_at'), 1790000000123, 'as it was received';
};

subtest 'the leader is killed' => sub {
    plan skip_all => 'needs /proc/locks' if !-r '/proc/locks';

    for my $signal (qw(KILL TERM QUIT)) {
        my $redis = Vaani::Test::Redis->start(acl => STREAM);
        my ($dir, $segment) = held_segment();
        my $nginx = nginx($redis, $dir, workers => 3, allow_log => qr/exited on signal 9/);

        ok my $leader = wait_for(sub { leader($dir) }), 'a worker leads';
        ok scalar(grep { $_ == $leader } $nginx->worker_pids), 'one of this nginx';

        my $from = now();
        CORE::kill($signal => $leader);
        ok wait_for(sub { (leader($dir) // $leader) != $leader }), 'another one follows';
        close $segment;
        drains($dir);
        my $took = now() - $from;
        cmp_ok $took, '<', 1, sprintf 'SIG%s: delivered %d ms later', $signal, 1000 * $took;
        is_deeply missing($redis, 'one', 'two'), [], 'once';
    }
};

subtest 'a segment that is being written' => sub {
    my $redis = Vaani::Test::Redis->start(acl => STREAM);
    my ($dir, $segment) = held_segment();
    my $nginx = nginx($redis, $dir);

    ok wait_for(sub { leader($dir) }), 'a worker leads';
    ok !wait_for(sub { !-e "$dir/" . segment(1) }, 0.5), 'it waits';
    close $segment;
    drains($dir, 1);
    is_deeply missing($redis, 'one', 'two'), [], 'delivered';
};

# --- the directory

subtest 'the directory' => sub {
    my $redis = Vaani::Test::Redis->start(acl => STREAM);
    my $check = sub ($dir) {
        return Vaani::Test::Nginx->check(http => spool_config($redis, dir => $dir));
    };

    my $new = tmpdir() . '/new';
    my ($ok) = $check->($new);
    ok $ok, 'a new one is fine';
    is sprintf('%04o', (stat $new)[2] & 07777), '0700', 'it is only for the user of the workers';

    my $file = spew(tmpdir() . '/file', "a file\n");
    ($ok, my $output) = $check->($file);
    ok !$ok, 'a file is not';
    like $output, qr/\[emerg\].*\Q$file\E.*Not a directory/, 'and this is said';
    is slurp($file), "a file\n", 'it is left alone';

    ($ok, $output) = $check->(tmpdir() . '/no/such');
    ok !$ok, 'one without a parent is not';
    like $output, qr{\[emerg\].*/no/such.*No such file}, 'and this is said';
};

subtest 'a directory that cannot be written to' => sub {
    my $redis = Vaani::Test::Redis->start(acl => STREAM);
    my $dir = spool();
    my @wrapper;

    # Permissions do not stop root.
    if ($> == 0) {
        my ($exit) = run([qw(unshare -m mount -t tmpfs tmpfs /mnt)]);
        plan skip_all => 'needs the right to mount' if $exit;
        my $script = spew(tmpdir() . '/read-only',
            qq(mount -t tmpfs -o ro,mode=700 tmpfs "$dir" && exec "\$@"\n));
        @wrapper = (qw(unshare -m sh), $script);
    } else {
        chmod 0500, $dir;
    }

    local $ENV{NGINX_WRAPPER} = join ' ', @wrapper, $ENV{NGINX_WRAPPER} // ();
    my ($ok, $output) = Vaani::Test::Nginx->check(http => spool_config($redis, dir => $dir));
    ok !$ok, 'nginx -t refuses it';
    like $output, qr/\[emerg\].*\Q$dir\E/, 'and names it';
    chmod 0700, $dir if !@wrapper;
};

done_testing;
