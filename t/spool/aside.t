# Files that the spool keeps for an operator keep their content, and the
# directory keeps its owner.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Fcntl qw(LOCK_EX LOCK_UN);
use Vaani::Test::Disk;
use Vaani::Test::Endpoint;
use Vaani::Test::Events;
use Vaani::Test::Spool;

sub record ($room) { return journal_record(delivery_content(room => $room)) }

sub nginx ($redis, $dir, %opt) {
    return Vaani::Test::Nginx->start(log_level => 'notice', %opt, http => spool_config($redis, dir => $dir));
}

subtest 'a number is used once' => sub {
    my $redis = Vaani::Test::Redis->start(acl => STREAM);
    my %kept = (
        '00000000000000000003.bad' => 'bytes of segment 3', segment(7) . '.bad' => 'segment 7',
        segment(5) . '.2.bad' => 'segment 5',
    );
    my $dir = spool(%kept);
    my $nginx = nginx($redis, $dir);

    $redis->kill;
    is $nginx->http->post('/hook', event('call_started', room => 'next'))->status, 200, 'an event is queued';
    is_deeply [ segments($dir) ], [ segment(8) ], 'behind all that was put aside';
    $redis->restart;
    ok !await_empty($dir, 10), 'it is replayed';
    is_deeply names($dir), [ sort keys %kept ], 'the others stay';
};

subtest 'nothing is replaced' => sub {
    my $redis = Vaani::Test::Redis->start(acl => STREAM);
    my %kept = (segment(1) . '.bad' => 'one of an earlier life', segment(1) . '.1.bad' => 'another one');
    my $dir = spool(%kept, segment(3) => record('three'));
    symlink segment(1), "$dir/" . segment(1);    # a loop
    mkdir "$dir/" . segment(2);
    mkdir "$dir/" . segment(2) . '.bad';
    my $nginx = nginx($redis, $dir);

    ok !await_empty($dir, 10), 'all segments are dealt with';
    is $redis->client->cmd('HGET', 'vaani:call:three', 'seq'), 1, 'what can be read is delivered';
    is slurp("$dir/$_"), $kept{$_}, "$_ is as it was" for sort keys %kept;
    ok -l "$dir/" . segment(1) . '.2.bad', 'what cannot be read has a name of its own';
    ok -d "$dir/" . segment(2) . '.1.bad', '... a directory, too';
};

subtest 'no room for dead letters' => sub {
    my $redis = Vaani::Test::Redis->start(acl => STREAM);
    $redis->client->cmd('SET', "vaani:call:wrong$_", 'a string') for 1 .. 40;
    my $segment = join '', record('good'), map { record("wrong$_") } 1 .. 40;
    my $before = journal_record("\0\x05HELLO" . 'an earlier one');
    my $dir = spool(segment(1) => $segment, 'dead-letters' => $before);

    my ($nginx, $set) = on_bad_disk('*/dead-letters*', sub ($main) { nginx($redis, $dir, main => $main) }, 'nearly_full')
        or plan skip_all => 'no library can be preloaded';
    ok !await_empty($dir, 10), 'the segment does not stay in the way';
    ok slurp("$dir/" . segment(1) . '.bad') eq $segment, 'it is kept, untouched';
    ok slurp("$dir/dead-letters") eq $before, 'and no part of a record is among the dead letters';
    ok $nginx->wait_log(qr/\[crit\].*no disk space/), 'it is said';

    $set->(nearly_full => 0);
    spew("$dir/next", record('wrong1'));
    rename "$dir/next", "$dir/" . segment(2);
    ok wait_for(sub { -s "$dir/dead-letters" > length $before }, 10), 'when there is room, dead letters are kept again';
    is scalar(journal_contents(slurp("$dir/dead-letters"))), 2, 'behind the earlier one';
};

# mv dead-letters elsewhere; vaani-spool resend elsewhere && rm elsewhere
subtest 'dead letters that are moved away' => sub {
    my $redis = Vaani::Test::Redis->start(acl => STREAM);
    $redis->client->cmd('SET', 'vaani:call:wrong', 'a string');
    my $dir = spool(segment(1) => record('wrong'), 'dead-letters' => '');
    open my $fh, '<', "$dir/dead-letters" or die "open: $!";
    flock $fh, LOCK_EX;

    my $nginx = nginx($redis, $dir, workers => 2);
    ok !wait_for(sub { -s "$dir/dead-letters" }, 0.5), 'nothing is written while a tool looks at the file';
    rename "$dir/dead-letters", "$dir/elsewhere";
    flock $fh, LOCK_UN;

    ok wait_for(sub { -s "$dir/dead-letters" }, 10), 'it is written to a new one';
    is -s "$dir/elsewhere", 0, 'not to the one that was moved away';
    ok !await_empty($dir, 10), 'and the segment goes';
};

# --- the directory

sub refused_by ($text, %opt) {
    my ($ok, $output) = Vaani::Test::Nginx->check(http => $text);
    return $ok ? undef : $output;
}

subtest 'one directory with several names' => sub {
    my $there = spool();
    symlink $there, tmpdir() . '/link';
    my $new = tmpdir() . '/new';

    my $two = sub ($one, $other, $redis) {
        return "server { listen unix:%%SOCK%%; vaani_redis unix:/one;
            location /one { vaani_webhook; vaani_spool $one; }
            location /two { vaani_webhook; vaani_spool $other; vaani_redis unix:/$redis; } }";
    };
    for my $other ("$there/", "$there//", "$there/.", "$there/./", "$there/../" . ($there =~ s{.*/}{}r), tmpdir() . '/link') {
        like refused_by($two->($there, $other, 'two')), qr/is used with two Redis servers/, "$other: the same spool";
        is refused_by($two->($there, $other, 'one')), undef, '... of one Redis';
        like refused_by($two->("$there max=1m", $other, 'one')), qr/has different parameters elsewhere/, '... with its parameters';
    }
    for my $other ("$new/.", "$new//") {
        like refused_by($two->($new, $other, 'two')), qr/is used with two Redis servers/, "$other: one that is not there yet";
        rmdir $new;
    }
    like refused_by($two->($new, "$there/../new", 'two')), qr/\[emerg\].*the spools .* are the same directory/,
        'another way there';
};

subtest 'the owner' => sub {
    plan skip_all => 'needs root' if $> != 0;
    my ($uid, $gid) = (getpwnam 'nobody')[ 2, 3 ] or plan skip_all => 'needs a user nobody';
    my $base = '/tmp/vaani-owner-' . $$;
    mkdir $base, 0755 or die "mkdir: $!";
    chmod 0755, $base;

    my $check = sub ($dir) {
        my $modules = $ENV{VAANI_MODULE} ? "load_module $ENV{VAANI_MODULE};" : '';
        spew("$base/nginx.conf", "$modules user nobody ${\ scalar getgrgid $gid}; pid $base/nginx.pid; error_log stderr notice; events {}
            http { access_log off; client_body_temp_path $base/body; proxy_temp_path $base/proxy;
                fastcgi_temp_path $base/fastcgi; uwsgi_temp_path $base/uwsgi; scgi_temp_path $base/scgi;
                server { listen unix:$base/sock; location / { vaani_webhook; vaani_spool $dir; } } }");
        my ($exit, @output) = run([ Vaani::Test::Nginx::Config::nginx_bin(), '-t', '-p', $base, '-c', "$base/nginx.conf" ]);
        return ($exit, join '', @output);
    };

    my $dir = "$base/spool";
    my ($exit) = $check->($dir);
    is $exit, 0, 'one that is made';
    is_deeply [ (stat $dir)[ 4, 5 ], (stat _)[2] & 07777 ], [ $uid, (stat _)[5], 0700 ], '... is of the user of the workers';

    chown 1, 1, $dir;
    ($exit, my $output) = $check->($dir);
    is $exit, 1, 'one of somebody else';
    like $output, qr/\[emerg\].*the spool "\Q$dir\E" is not accessible to the worker user "nobody".*Permission denied/,
        '... the message says who cannot';
    is_deeply [ (stat $dir)[ 4, 5 ] ], [ 1, 1 ], '... and it stays theirs';

    chmod 0777, $dir;
    ($exit) = $check->($dir);
    is $exit, 0, 'one that all can use';
    is_deeply [ (stat $dir)[ 4, 5 ] ], [ 1, 1 ], '... stays theirs, too';

    spew("$dir/lock", '');
    chmod 0600, "$dir/lock";
    ($exit, $output) = $check->($dir);
    is $exit, 1, 'one with a lock of somebody else';
    like $output, qr/because of its file lock/, '... says so';

    run([ 'rm', '-rf', $base ]);
};

done_testing;
