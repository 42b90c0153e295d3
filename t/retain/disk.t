# Kept events and the disk: it is full, slow, emptied, exchanged or damaged, and
# "max" and "retain" hold whatever the clock is set to.
# VAANI_FAULTS=full in the environment runs more and longer cases.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use File::Path qw(remove_tree);
use Vaani::Test::Disk;
use Vaani::Test::Events;
use Vaani::Test::Retain;
use Vaani::Test::Scenario;
use Vaani::Test::Spool;
use Vaani::Test::Topology qw(busy);
use Vaani::Test::Wrapper;
use Vaani::Test::Socket qw(pause);

# Bytes of the files in a spool.
sub bytes ($dir, $regex = qr/\.(?:kept|log)\z/) {
    opendir my $dh, $dir or return 0;
    my $bytes = 0;
    $bytes += -s "$dir/$_" // 0 for grep { $_ =~ $regex } readdir $dh;
    return $bytes;
}

# Kept segments that workers have open and whose names were removed.
sub lost_files ($nginx) {
    my $dir = $nginx->dir . '/spool';
    return grep { /\.kept\b/ && !(m{^\Q$dir\E/} && -e) }
        map { readlink // () } map { glob "/proc/$_/fd/*" } $nginx->worker_pids;
}

# Events of a load that were not in the files at some time may be lost.
sub not_in ($ids) { return sub ($delivery) { !$ids->{ $delivery->{id} } } }

# --- the directory

for my $stopped (0, 1) {
    my $when = $stopped ? 'while nginx is stopped' : 'while nginx runs';

    for my $what ('emptied', 'emptied but for the waiting ones', 'replaced by an empty one') {
        # All are tried, but not in a short run.
        my $short = $what eq ($stopped ? 'emptied' : 'replaced by an empty one');
        my $scenario = $short ? \&scenario : \&long_scenario;

        $scenario->("the directory is $what, $when" => sub {
            my $redis = redis();
            my $nginx = nginx($redis);
            my $dir = $nginx->dir . '/spool';
            my $load = load($nginx, rooms => 'early');

            arrives($load, ok => 200);
            $load->stop;
            $nginx->stop if $stopped;

            if ($what eq 'replaced by an empty one') {
                rename $dir, "$dir.old" or die "rename: $!\n";
                mkdir $dir, 0700 or die "mkdir: $!\n";
            } else {
                my $keep = $what eq 'emptied' ? qr/^\.\.?$/ : qr/^\.|\.log$/;
                opendir my $dh, $dir or die "opendir: $!\n";
                remove_tree(map { "$dir/$_" } grep { $_ !~ $keep } readdir $dh);
            }

            my $from = $nginx->log_mark;
            $nginx->restart if $stopped;

            # Later events are kept there, and come back.
            my $late = load($nginx, rooms => 'late');
            arrives($late, ok => 100);
            if (!$stopped) {
                ok $nginx->wait_log(qr/was removed or renamed/, 10, $from), 'the log says that the files are gone';
                ok wait_for(sub { !lost_files($nginx) }, 10), '... and no worker writes to them';
            }
            my $after = load($nginx, rooms => 'after');
            arrives($after, ok => 200);
            $late->stop;
            ok wait_for(sub { kept_files($nginx) > 0 }), 'events are kept again';
            $redis->client->cmd('FLUSHALL');
            arrives($after, ok => 100);

            account_ok("spool $what $when", $after, $redis, $nginx);
            is $load->count(503) + $late->count(503), 0, 'all was taken';
        });
    }
}

# --- after a power cut

# Takes some bytes off the end of the newest files: what was not synced.
sub cut ($nginx, @bytes) {
    my @files = reverse kept_files($nginx);
    for my $n (0 .. $#bytes) {
        my $file = $files[$n] // last;
        my $size = -s $file;
        truncate $file, $bytes[$n] > $size ? 0 : $size - $bytes[$n] or die "truncate: $!\n";
    }
    return;
}

scenario 'a power cut, and Redis comes later, empty' => sub {
    my $redis = redis();
    my $nginx = nginx($redis);
    my $load = load($nginx, rooms => 'before');

    arrives($load, ok => 500);
    $load->stop;
    $nginx->kill;
    $redis->kill;
    cut($nginx, 700, 301, 17, 25);
    my $ids = kept_ids($nginx);
    my $waited = segments($nginx->dir . '/spool');

    $nginx->restart;
    my $live = load($nginx, rooms => 'live');
    arrives($live, queued => 100);
    $redis->restart;
    arrives($live, ok => 100);
    $live->stop;

    comes_back($redis, $live);
    comes_back($redis, $load, sub ($delivery) { $ids->{ $delivery->{id} } });
    verify_ok('power cut, live', $live, $redis, $nginx);
    verify_ok('power cut, the unsynced tail is lost', $load, $redis, $nginx, lost => not_in($ids));
    $nginx->log_like(qr/invalid bytes at offset \d+; they are skipped/);
    cmp_ok scalar(grep { !$ids->{ $_->{id} } } @{ $load->{deliveries} }), '<', 20, 'no more than the tail';
};

scenario 'a start while Redis is away' => sub {
    my $redis = redis(config => ['save ""']);
    my $nginx = nginx($redis);
    my $load = load($nginx);

    arrives($load, ok => 500);
    $load->stop;
    $nginx->stop;
    $redis->client->cmd('SAVE');
    $redis->kill;
    my $there = promised($load);

    $nginx->restart;
    ok wait_for(sub { spool_status($nginx)->{kept_bytes} > 0 }), 'the window is there';
    my $status = spool_status($nginx);
    is $status->{records}, 0, '... and nothing waits';
    is $status->{bytes}, 0, '... no byte of it';

    is $nginx->http->post('/hook', event('call_started', room => 'r', delivery => 'r/1'))->body,
        qq({"status":"queued"}\n), 'one waits';
    is spool_status($nginx)->{records}, 1, '... alone';
    $redis->restart;
    ok wait_for(sub { spool_status($nginx)->{records} == 0 }), 'it is delivered';
    ok wait_for(sub { spool_status($nginx)->{looked_at} == 0 && $redis->client->cmd(XLEN => 'vaani:stream') == $there + 1 }),
        '... and nothing else';
    verify_ok('start without Redis', $load, $redis, $nginx);
    is spool_status($nginx)->{brought_back}, 0, 'nothing was lost';
};

# --- no room

scenario 'the disk is full' => sub {
    my $redis = redis(config => [ 'appendonly yes', 'appendfsync always' ]);
    my $disk = tmpdir() . '/small';
    my ($nginx, $outside) = on_small_disk($disk, sub { nginx($redis, dir => "$disk/spool") })
        or plan skip_all => 'needs the right to mount a small disk';
    my $spool = "$outside/spool";
    my $load = load($nginx);

    # Older ones make room.
    ok wait_for(sub { spool_status($nginx)->{not_kept} > 0 }), 'the disk gets full';
    my $from = $nginx->log_mark;
    arrives($load, ok => 2000, 60);
    is $load->count(503), 0, 'all events are taken';
    cmp_ok spool_status($nginx)->{not_kept}, '<', promised($load) / 2, 'most are kept';
    $nginx->log_like(qr/does not keep events \(write failed\).*No space left on device/);

    # ... also for what waits, of which nothing is dropped.
    $redis->kill;
    arrives($load, queued => 400);
    arrives($load, 503 => 50, 60);
    is scalar(kept_files($spool)), 0, 'what is kept makes room for what waits';
    $redis->restart;
    arrives($load, ok => 200);

    account_ok('disk full, retain', $load, $redis, $nginx, spool => $spool, refused => 1);
};

long_scenario 'the disk takes nothing' => sub {
    my $redis = redis();
    my ($nginx, $set) = on_bad_disk('*/spool/*', sub ($main) { nginx($redis, main => $main) })
        or plan skip_all => 'no library can be preloaded';
    my $load = load($nginx);

    arrives($load, ok => 100);
    $set->(full => 1);
    ok wait_for(sub { spool_status($nginx)->{not_kept} > 100 }), 'events are not kept';
    my %counts = %{ $load->counts };
    is_deeply [ keys %counts ], ['ok'], '... but taken by Redis, and answered ok';
    $nginx->log_like(qr/does not keep events \(write failed\)/);
    $set->(full => 0);
    arrives($load, ok => 100);

    my $not_kept = spool_status($nginx)->{not_kept};
    arrives($load, ok => 100);
    $load->stop;
    is spool_status($nginx)->{not_kept}, $not_kept, 'then they are kept again';
    my $ids = kept_ids($nginx);
    $redis->client->cmd('FLUSHALL');

    comes_back($redis, $load, sub ($delivery) { $ids->{ $delivery->{id} } });
    verify_ok('write() fails', $load, $redis, $nginx, lost => not_in($ids));
};

scenario 'a segment cannot be locked' => sub {
    my $redis = redis();
    my ($nginx, $set) = on_bad_disk('*/spool/*.new', sub ($main) { nginx($redis, main => $main) }, 'no_locks')
        or plan skip_all => 'no library can be preloaded';
    my $load = load($nginx);

    ok wait_for(sub { spool_status($nginx)->{not_kept} > 100 }), 'events are not kept';
    $nginx->log_like(qr/does not keep events \(write failed\)/);
    $set->(no_locks => 0);
    ok wait_for(sub { kept_files($nginx) > 0 }), '... until it can be';
    $load->stop;
    is_deeply [ keys %{ $load->counts } ], ['ok'], 'Redis has taken them';
    is_deeply [ grep { /\.new\z/ } @{ names($nginx->dir . '/spool') } ], [], 'nothing is left of the others';
};

scenario 'max is reached' => sub {
    my $max = 1024 * 1024;
    my $redis = redis();
    my $nginx = nginx($redis, spool => 'retain=1h max=1m', workers => 2);
    my $dir = $nginx->dir . '/spool';
    my $load = load($nginx, rate => 0);

    my $most = 0;
    my $within = sub () {
        my $bytes = bytes($dir);
        $most = $bytes if $bytes > $most;
        return 0;
    };
    arrives($load, ok => 100);
    my ($oldest) = kept_files($nginx);
    ok wait_for(sub { $within->(); !-e $oldest }, 60), 'the oldest goes first';
    wait_for(sub { $within->(); spool_status($nginx)->{kept} > 6000 }, 60);

    # Waiting records displace kept ones.
    $redis->kill;
    arrives($load, queued => 200);
    ok wait_for(sub { $within->(); kept_files($nginx) == 0 || $load->count(503) }, 60), 'then there is no room';
    ok wait_for(sub { $load->count(503) > 50 }, 60), 'what waits is not pushed out';
    is scalar(kept_files($nginx)), 0, 'nothing is kept any more';
    my $status = spool_status($nginx);
    cmp_ok $status->{records}, '>=', $load->count('queued') - 24, 'all that was queued waits';

    cmp_ok $most, '<=', $max + $max / 8 + 65536, "both together take $most bytes at most";
    $redis->restart;

    # Redis came back empty: what was kept before is no more.
    $load->stop;
    ok !await_empty($dir), 'what waits is delivered';
    is $redis->client->cmd(XLEN => 'vaani:stream'), $load->count('queued'), 'all of it';
};

# --- time

scenario 'retain is over' => sub {
    my $redis = redis();
    my $nginx = nginx($redis, spool => 'retain=2s');
    my $load = load($nginx, rate => 500);
    my %seen;

    # retain, an eighth of it, and what idle workers sleep: 2 s until the file is
    # closed, four times as long until the directory is seen.
    my $late = (2 + 0.25 + 2 + 4 * 2 + 2) * busy();
    my ($youngest, $oldest);
    my $watch = sub ($until) {
        return wait_for(sub {
            my $now = now();
            my %there = map { $_ => 1 } kept_files($nginx);
            $seen{$_} //= $now for keys %there;
            for my $file (keys %seen) {
                my $age = $now - $seen{$file};
                if ($there{$file}) {
                    $oldest = $age if $age > ($oldest // 0);
                } else {
                    delete $seen{$file};
                    $youngest = $age if $age < ($youngest // 1e9);
                }
            }
            return $until->($now);
        }, 60);
    };

    my $end = now() + scaled(4, 60);
    $watch->(sub ($now) { $now > $end });
    $load->stop;
    ok $watch->(sub ($now) { !%seen }), 'all files go, also without traffic';
    cmp_ok $oldest, '<', $late, sprintf 'none was there for longer than %.1f s', $oldest;
    cmp_ok $youngest, '>', 1.9, sprintf '... or shorter than %.1f s', $youngest;
    is spool_status($nginx)->{kept_bytes}, 0, 'the status page says so';
};

long_scenario 'the clock is set' => sub {
    plan skip_all => 'a sanitizer is in the way' if !may_preload();

    my ($wrapper, $shift) = shifted_clock();
    my $redis = redis();
    my $nginx = do {
        local $ENV{NGINX_WRAPPER} = $wrapper;
        nginx($redis, spool => 'retain=10s', workers => 1, main => 'env CLOCK_SHIFT;');
    };
    my $load = load($nginx, rate => 300);
    my $time = sub () { $nginx->http->get('/status?format=json')->json->{time} / 1000 };

    # Nothing goes early: it is all there while retain is not over.
    my $day = 86400;
    my $begun = $time->();
    my $from = now();
    for my $to ($day, -$day, 0) {
        $shift->($to);
        ok wait_for(sub { abs($time->() - $begun - $to) < 1000 }), "the clock is set by $to s";
        arrives($load, ok => 100);
    }
    $load->stop;
    SKIP: {
        skip 'it took too long', 1 if now() - $from > 8;
        my $there = kept_ids($nginx);
        is scalar(grep { !$there->{ $_->{id} } } @{ $load->{deliveries} }), 0, 'all is kept meanwhile';
    }

    # And it goes in the end, with the clock where it may be.
    $shift->(-$day);
    ok wait_for(sub { kept_files($nginx) == 0 }, 10 + 1.25 + 12), 'it goes in time';
};

# --- a slow disk

scenario 'a slow disk' => sub {
    my $redis = redis();
    my ($nginx, $set) = on_bad_disk('*/spool/*', sub ($main) { nginx($redis, main => $main, workers => 2) })
        or plan skip_all => 'no library can be preloaded';
    my $load = load($nginx, rate => 300);

    arrives($load, ok => 200);
    my $before = spool_status($nginx)->{not_kept};
    $load->count('ok');
    my $from = now();
    $set->(slow => 1);
    arrives($load, ok => scaled(400, 3000));
    my $until = now();
    $set->(slow => 0);
    ok wait_for(sub {
        my $count = spool_status($nginx)->{not_kept};
        return $load->await(ok => 100) && spool_status($nginx)->{not_kept} == $count;
    }), 'it is fast again, and nothing is answered before it is kept';

    my @slow = sort { $a <=> $b } map { $_->{ms} }
        grep { $_->{sent} > $from && $_->{answered} < $until } @{ $load->{deliveries} };
    cmp_ok $slow[-1], '<', 400, 'no answer waits for the disk, but for 100 ms';
    is $load->count('queued') + $load->count(503), 0, 'all are answered ok';
    cmp_ok spool_status($nginx)->{not_kept}, '>', $before, 'they are counted';
    my @lines = $nginx->log_lines(qr/the disk of the spool .* is too slow \(more than 100 ms\); events are answered before/);
    cmp_ok scalar(@lines), '<=', 2 * scaled(1, 3), 'each worker says so, not for each event';
    cmp_ok scalar(@lines), '>', 0, '... but it does';

    # It was written in the end.
    $redis->client->cmd('FLUSHALL');
    account_ok('slow disk', $load, $redis, $nginx);
};

# --- damage

scenario 'a damaged record' => sub {
    my $redis = redis();
    my $nginx = nginx($redis, workers => 1);
    my $load = load($nginx);

    arrives($load, ok => 300);
    $load->stop;
    $nginx->stop;

    # One byte in the middle of the largest file, and several at another place.
    my ($file) = sort { -s $b <=> -s $a } kept_files($nginx);
    my $before = kept_ids($nginx);
    my $bytes = slurp($file);
    my @at = (int(length($bytes) / 2), map { int(length($bytes) / 4) + $_ } 0 .. 9);
    substr $bytes, $_, 1, chr(ord(substr $bytes, $_, 1) ^ 0x55) for @at;
    spew($file, $bytes);
    my $ids = kept_ids($nginx);
    my $damaged = keys(%$before) - keys %$ids;
    cmp_ok $damaged, '>', 0, "$damaged events are damaged";
    cmp_ok $damaged, '<=', 4, '... and no others';

    $redis->client->cmd('FLUSHALL');
    $nginx->restart;
    comes_back($redis, $load, sub ($delivery) { $ids->{ $delivery->{id} } });
    verify_ok('damaged records', $load, $redis, $nginx, lost => not_in($ids));
    my @lines = $nginx->log_lines(qr/invalid bytes at offset \d+; they are skipped/);
    is scalar(@lines), 2, 'the log says where';
    is $redis->client->cmd(XLEN => 'vaani:stream'), scalar keys %$ids, 'all others are there';
};

# --- sync=off

scenario 'sync=off' => sub {
    my $redis = redis();
    my $nginx = nginx($redis, spool => 'retain=1h sync=off', allow_log => qr/exited on signal 9/);
    my $load = load($nginx);

    # The kernel has it, whatever becomes of the processes.
    arrives($load, ok => 300);
    kill KILL => $nginx->worker_pids;
    $redis->client->cmd('FLUSHALL');
    arrives($load, ok => 100);
    $redis->kill;
    arrives($load, queued => 100);
    $redis->restart;
    arrives($load, ok => 100);

    account_ok('FLUSHALL, empty restart, sync=off', $load, $redis, $nginx);
};

table_at_end();
done_testing;
