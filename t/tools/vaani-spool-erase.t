# The tool erases a call where it stays: dead letters, refused deliveries, and what
# was put aside are written again without it, while nginx appends to them.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Fcntl qw(:flock);
use POSIX ();
use Vaani::Test::Endpoint;
use Vaani::Test::Events;
use Vaani::Test::HTTP ();
use Vaani::Test::Process ();
use Vaani::Test::Signing;
use Vaani::Test::Spool qw(:DEFAULT tool);
use Vaani::Test::Wrapper;

my $tool = vaani_spool();
plan skip_all => 'make tool builds it' if !-x $tool;

use constant NOW => int(time * 1000);

# --- the format

sub letter (%opt) {
    my $event = delete $opt{event} // 'call_ended';
    my $reason = delete $opt{reason} // 'WRONGTYPE';
    return journal_record(pack('xC/a', $reason) . content(%opt, event => $event));
}

sub content (%opt) {
    my $room = $opt{room};
    my $event = delete $opt{event} // 'call_ended';
    return delivery_content(
        id => "$event $room", received_at => NOW, body => event($event, room => $room), %opt);
}

sub refusal ($body, $sent = 0) {
    my $record = journal_record(pack 'a Q> C/a a*', 'R', NOW, 'invalid_json', $body);
    substr($record, 3, 1) = "\x81" if $sent;
    return $record;
}

# The files of a spool but the tombstones.
sub contents ($dir) {
    return { map { s{\A\Q$dir\E/}{}r => slurp($_) } grep { -f && !m{/(?:erased|lock)\z} } glob "$dir/* $dir/refused/*" };
}

# --- what is erased

# Files as they are, and as they are to be once "gone" was erased.
my %WITH = (
    'dead-letters' => [
        letter(room => 'stays'), undef,
        letter(room => 'gone') => 1,
        letter(room => 'gone2'), undef,
        journal_record(pack('xC/a', 'NO') . deferred_content(1, 2, content(room => 'gone'))) => 1,
        letter(room => 'g', body => '{"event":"call_ended","data":{"call_id":"gone"}}') => 1,
        letter(room => 'g', body => '{"call_id":"gone"}', name => '"call_ended"') => 1,
        letter(room => 'gone', version => 9, reason => 'UNREADABLE') => 1,
        letter(room => 'stays', event => 'call_ringing'), undef,
    ],
    'dead-letters.1' => [ letter(room => 'gone') => 1, letter(room => 'stays'), undef ],
    segment(3) . '.bad' => [
        journal_record(content(room => 'stays')), undef,
        journal_record(content(room => 'gone')) => 1,
    ],
    'refused/' . segment(1) => [
        refusal('no JSON'), 'unread',
        refusal('{"event":"call_ended","room_name":"gone"}') => 1,
        refusal('{"event":"call_ended","room_name":"gone"}', 1) => 1,
        refusal('{"event":"call_ended","room_name":"stays"}', 1), undef,
        refusal('{"event":"call_ended","call_id":"other","room_name":"gone"}') => 1,
        refusal('{"event":"call_ended","call_id":"gone","room_name":"other"}'), undef,
        refusal('{"events":[{"event":"call_ended","room_name":"other"},{"event":"x","room_name":"gone"}]}') => 1,
        refusal('{"event":"call_ended","room":{"name":"gone"}}') => 1,
        refusal('{"event":"call_ended","room_name":"gone","transcript":"...') => 1,
        refusal('{"event":"call_ended","room_name":"gone') => 1,
        refusal('{"event":"call_ended","room_name":"gone2'), 'unread',
        refusal('{"event":"call_ended","phone_number":"+1"}'), 'unread',
        refusal('{"events":[{"event":"x","events":[{"call":["gone"]}]}],"room_name":"other"}') => 1,
        refusal('{"events":[{"event":7,"call_id":"other"},{"room_name":"other"}]}'), undef,
        refusal(''), 'unread',
    ],
    'refused/' . segment(2) => [ refusal('{"room_name":"gone"}') => 1, refusal('{"room_name":"gone","event":7}') => 1 ],
    'refused/' . segment(3) => [ refusal('{"room_name":"stays"}'), undef ],
);

sub with (%more) {
    return (%more, map { $_ => join '', @{ $WITH{$_} }[ grep { !($_ % 2) } keys @{ $WITH{$_} } ] } keys %WITH);
}

sub without ($unreadable, %more) {
    my %files = %more;
    for my $name (keys %WITH) {
        my @rest = @{ $WITH{$name} };
        while (my ($record, $erased) = splice @rest, 0, 2) {
            $files{$name} .= $record if !$erased || $erased eq 'unread' && !$unreadable;
        }
    }
    return \%files;
}

subtest 'what is erased' => sub {
    my %segments = (segment(7) => journal_record(content(room => 'gone')));
    my %damage = (
        segment(4) . '.bad' => 'bytes with "gone" in them', segment(5) . '.bad' => 'other bytes',
    );
    my $dir = spool(with(%segments, %damage), 'refused/README' => '"gone"');
    my $ran = tool(erase => $dir, 'gone');

    is $ran->{exit}, 0, 'it succeeds' or diag $ran->{err};
    is_deeply contents($dir), { %{ without(0, %segments, %damage) }, 'refused/README' => '"gone"' }, 'all of the call, and nothing else';
    is_deeply [ (split /\n/, $ran->{out})[ 1 .. 3 ] ],
        [
            'erased: 6 dead letters, 10 refused deliveries, 1 record in .bad files',
            'in segments until nginx deletes them: 1 waiting, 0 kept',
            'not erased: 4 records without a readable call, 2 damaged places, 1 of them with the name of the room;',
        ],
        'it is told';
    unlike $ran->{out}, qr/call_ended|\+1/, 'no bodies';

    $ran = tool(erase => $dir, 'gone');
    like $ran->{out}, qr/^erased: 0 dead letters, 0 refused deliveries$/m, 'again: nothing is left';

    $ran = tool(erase => '--unreadable', $dir, 'gone');
    is $ran->{exit}, 0, 'what cannot be read as well';
    like $ran->{out}, qr/^erased: 0 dead letters, 0 refused deliveries, 6 unreadable records and damaged places$/m, '... how much';
    unlike $ran->{out}, qr/not erased/, '... and nothing is left';
    is_deeply contents($dir), { %{ without(1, %segments) }, 'refused/README' => '"gone"' }, '... without all else';

    is tool(erase => @$_)->{exit}, 2, "@$_: wrong use" for ['--unreadable'], [ '--unreadable', $dir ], [ $dir, '--unreadable', 'x' ];
};

subtest 'a file without the call stays the same one' => sub {
    my $dir = spool('refused/' . segment(1) => refusal('{"room_name":"stays"}'));
    my $file = "$dir/refused/" . segment(1);
    my $before = join ' ', (stat $file)[ 0, 1, 2, 4, 5, 9 ];
    is tool(erase => $dir, 'gone')->{exit}, 0, 'erase';
    is join(' ', (stat $file)[ 0, 1, 2, 4, 5, 9 ]), $before, 'it was not written';
};

subtest 'a name that JSON escapes' => sub {
    my $dir = spool('refused/' . segment(1) => refusal('{"room_name":"a\"b\\\\c",') . refusal('{"room_name":"a"'));
    is tool(erase => $dir, 'a"b\\c')->{exit}, 0, 'erase';
    is_deeply contents($dir), { 'refused/' . segment(1) => refusal('{"room_name":"a"') }, 'is found in what is no JSON';
};

subtest 'large files' => sub {
    my $stays = join '', map { letter(room => "stays$_", body => event('call_ended', room => "stays$_", padding => 'x' x 3000)) } 1 .. 60;
    my $gone = letter(room => 'gone', body => event('call_ended', room => 'gone', padding => 'y' x 200_000));
    my $dir = spool('dead-letters' => $gone . $stays . $gone . $stays . $gone);
    is tool(erase => $dir, 'gone')->{exit}, 0, 'erase';
    ok slurp("$dir/dead-letters") eq $stays . $stays, 'all the rest is there';
};

subtest 'damage between records' => sub {
    my $torn = substr letter(room => 'stays'), 0, 40;
    my $dir = spool('dead-letters' => letter(room => 'gone') . $torn . letter(room => 'stays') . letter(room => 'gone') . $torn);
    my $ran = tool(erase => $dir, 'gone');
    is $ran->{exit}, 0, 'erase';
    is slurp("$dir/dead-letters"), $torn . letter(room => 'stays') . $torn, 'stays as it is';
    like $ran->{out}, qr/, 2 damaged places;/, '... and is told';
};

subtest 'whose the files are' => sub {
    plan skip_all => 'needs root' if $> != 0;
    my $dir = spool('dead-letters' => letter(room => 'gone') . letter(room => 'stays'));
    chmod 0640, "$dir/dead-letters";
    chown 65534, 65533, "$dir/dead-letters";
    my $before = (stat "$dir/dead-letters")[1];
    is tool(erase => $dir, 'gone')->{exit}, 0, 'erase';
    my @stat = stat "$dir/dead-letters";
    isnt $stat[1], $before, 'it is another file';
    is sprintf('%04o %d %d', $stat[2] & 07777, @stat[ 4, 5 ]), '0640 65534 65533', 'mode, owner and group are those of the old one';
};

subtest 'files that are none' => sub {
    my $target = spew(tmpdir() . '/target', letter(room => 'gone'));
    for my $case ([ 'a symbolic link', sub ($name) { symlink $target, $name } ], [ 'a hard link', sub ($name) { link $target, $name } ],
        [ 'a directory', sub ($name) { mkdir $name } ], [ 'a FIFO', sub ($name) { POSIX::mkfifo($name, 0600) } ])
    {
        my ($what, $make) = @$case;
        my $dir = spool('refused/' . segment(1) => refusal('{"room_name":"gone"}'));
        $make->("$dir/dead-letters") or die "$what: $!";
        my $ran = tool(erase => $dir, 'gone');
        is $ran->{exit}, 1, "$what: it is told";
        like $ran->{err}, qr{/dead-letters: }, '... of which file';
        ok slurp($target) eq letter(room => 'gone'), '... which is not touched';
        is_deeply [ glob "$dir/refused/*" ], [], '... and all others are erased';
    }
};

subtest 'a file that stays locked' => sub {
    my $dir = spool('dead-letters' => letter(room => 'gone'), 'refused/' . segment(1) => refusal('{"room_name":"gone"}'));
    open my $fh, '<', "$dir/dead-letters" or die "open: $!";
    flock $fh, LOCK_SH or die "flock: $!";
    my $ran = tool(erase => $dir, 'gone');
    is $ran->{exit}, 1, 'it fails';
    like $ran->{err}, qr{/dead-letters: another process is using it; nothing was erased in it, try again$}m, 'it is told';
    is_deeply contents($dir), { 'dead-letters' => letter(room => 'gone') }, 'others are erased';
    close $fh;
    is tool(erase => $dir, 'gone')->{exit}, 0, 'again';
    is_deeply contents($dir), {}, '... it is erased';
};

# --- others at the same time

sub start_tool (@args) {
    state $count = 0;
    my $out = tmpdir() . '/out' . ++$count;
    defined(my $pid = fork) or die "fork: $!";
    if ($pid == 0) {
        open STDOUT, '>', $out and open STDERR, '>&', \*STDOUT or POSIX::_exit(126);
        exec $tool, @args or POSIX::_exit(127);
    }
    return { pid => $pid, out => $out };
}

sub ended ($ran) { waitpid $ran->{pid}, 0; return $? }

subtest 'tools at the same time' => sub {
    my $dir = spool('dead-letters' => join '', map { letter(room => "gone$_"), letter(room => 'stays') } 1 .. 6);
    my @ran = map { start_tool(erase => $dir, "gone$_") } 1 .. 6;
    is ended($_), 0, 'one of six' for @ran;
    ok slurp("$dir/dead-letters") eq letter(room => 'stays') x 6, 'all were erased, and nothing else';

    # as "resend --to" has it while it marks what was sent
    mkdir "$dir/refused" or die "mkdir: $!";
    open my $fh, '<', "$dir/refused" or die "open: $!";
    flock $fh, LOCK_SH or die "flock: $!";
    spew("$dir/refused/" . segment(1), refusal('{"room_name":"gone"}'));
    my $ran = start_tool(erase => $dir, 'gone');
    ok wait_for(sub { slurp($ran->{out}) =~ m{/refused: waiting for another vaani-spool$}m }, 30), 'resend is waited for, it is told';
    ok -e "$dir/refused/" . segment(1), '... with nothing done';
    close $fh;
    is ended($ran), 0, '... and then done';
    ok !-e "$dir/refused/" . segment(1), '... entirely';

    flock $fh, LOCK_EX or die "flock: $!" if open $fh, '<', "$dir/refused";
    spew("$dir/refused/" . segment(1), refusal('{"room_name":"gone"}'));
    $ran = start_tool(resend => '--to', 'http://127.0.0.1:1/x', $dir);
    ok wait_for(sub { slurp($ran->{out}) =~ m{/refused/?: waiting for another vaani-spool$}m }, 30), 'resend waits, too';
    close $fh;
    isnt ended($ran), 0, '... and goes on';
};

# --- a tool that is killed

my $KILLER = <<'END_OF_SOURCE';
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <fcntl.h>
    #include <signal.h>
    #include <stdarg.h>
    #include <stdlib.h>
    #include <sys/stat.h>
    #include <sys/types.h>
    #include <unistd.h>

    static void step(int fd)
    {
        static int   n;
        struct stat  st;

        if (fd >= 0 && (fstat(fd, &st) != 0 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))) {
            return;
        }
        if (getenv("DIE_AT") && ++n == atoi(getenv("DIE_AT"))) {
            raise(SIGKILL);
        }
    }

    #define NEXT(name) static __typeof__(&name) next; if (!next) next = (__typeof__(&name)) dlsym(RTLD_NEXT, #name)

    ssize_t write(int fd, const void *data, size_t size)
    {
        NEXT(write);
        step(fd);
        if (size > 1 && getenv("DIE_AT")) {
            ssize_t  half = next(fd, data, size / 2);

            step(fd);
            return half < 0 ? half : half + next(fd, (const char *) data + half, size - half);
        }
        return next(fd, data, size);
    }

    int fsync(int fd)
    {
        NEXT(fsync);
        step(fd);
        return next(fd);
    }

    int fchmod(int fd, mode_t mode)
    {
        NEXT(fchmod);
        step(fd);
        return next(fd, mode);
    }

    int renameat(int from, const char *name, int to, const char *other)
    {
        NEXT(renameat);
        step(-1);
        return next(from, name, to, other);
    }

    int unlinkat(int fd, const char *name, int flags)
    {
        NEXT(unlinkat);
        step(-1);
        return next(fd, name, flags);
    }
END_OF_SOURCE

subtest 'killed at any moment' => sub {
    my ($sanitizer) = run([ 'grep', '-q', '__asan_init', $tool ]);
    plan skip_all => 'not with a sanitizer' if $sanitizer == 0;
    my $library = tmpdir() . '/killer.so';
    spew("$library.c", $KILLER);
    my ($exit) = run([ $ENV{CC} || 'cc', qw(-shared -fPIC -O1 -o), $library, "$library.c", '-ldl' ]);
    plan skip_all => 'needs a compiler' if $exit;

    my %before = with();
    my $after = without(0);
    my ($n, $status, @wrong) = (0);
    do {
        my $dir = spool(%before);
        $n++;
        defined(my $pid = fork) or die "fork: $!";
        if ($pid == 0) {
            open STDOUT, '>', '/dev/null' or POSIX::_exit(126);
            @ENV{qw(LD_PRELOAD DIE_AT)} = ($library, $n);
            exec $tool, 'erase', $dir, 'gone' or POSIX::_exit(127);
        }
        waitpid $pid, 0;
        $status = $?;

        # each file is in its old or its new state; there are no other copies
        my $now = contents($dir);
        delete $now->{$_} for grep { /\.erasing\z/ } keys %$now;
        for my $name (keys %before) {
            my $is = $now->{$name} // '';
            push @wrong, "$name at $n" if $is ne $before{$name} && $is ne ($after->{$name} // '');
        }
        push @wrong, "the next run after $n" if tool(erase => $dir, 'gone')->{exit} != 0;
        push @wrong, "the end after $n" if !eq_hash(contents($dir), $after);
    } while ($status == 9 && $n < 1000);

    is $status, 0, 'the last one was not killed';
    cmp_ok $n, '>', 40, 'the others at many moments';
    is_deeply \@wrong, [], 'each left files of which nothing was lost, and the next run finished';
};

subtest 'copies that were left' => sub {
    my $dir = spool('refused/' . segment(1) . '.erasing' => refusal('{"room_name":"other"}'), 'dead-letters.erasing' => 'x');
    is tool(erase => $dir, 'gone')->{exit}, 0, 'erase';
    is_deeply contents($dir), {}, 'they are deleted';
};

subtest 'no room on the disk' => sub {
    my ($sanitizer) = run([ 'grep', '-q', '__asan_init', $tool ]);
    plan skip_all => 'not with a sanitizer' if $sanitizer == 0;
    my $dir = spool('dead-letters' => letter(room => 'gone') . letter(room => 'stays') x 20);
    my $before = contents($dir);
    my ($exit, $out, $err) = run([ 'sh', '-c', 'trap "" XFSZ; ulimit -f 4; exec "$@"', 'sh', $tool, 'erase', $dir, 'gone' ]);
    is $exit, 1, 'it fails';
    like $err, qr{/dead-letters: File too large$}m, '... and why is told';
    is_deeply contents($dir), $before, '... with nothing changed';
};

# --- nginx at the same time

my $token = token_secret();

sub nginx ($redis, %opt) {
    my $spool = delete $opt{spool} // 'refused=200m';
    return Vaani::Test::Nginx->start(
        log_level => 'notice', %opt,
        http => spool_config($redis, spool => $spool, more => "vaani_token \$http_x_token $token;"),
    );
}

sub post ($nginx, $body) { return $nginx->http->post('/hook', $body, 'x-token' => $token) }

subtest 'nginx appends meanwhile' => sub {
    plan skip_all => 'needs the module' if !defined $ENV{VAANI_MODULE};
    my $redis = Vaani::Test::Redis->start(acl => STREAM);
    my $client = $redis->client;
    my $nginx = nginx($redis, workers => 3);
    my $dir = $nginx->dir . '/spool';
    my $stop = tmpdir() . '/stop';

    ok wait_for(sub { -e "$dir/lock" }, 30), 'nginx has begun';

    # refused ones with a room each, and events that become dead letters; what was
    # answered is noted
    my ($senders, $each) = (4, 250);
    $client->cmd('SET', "vaani:call:$_", 'a string') for 'gone', map { "wrong$_" } 1 .. $senders;
    my @pids = map {
        my $sender = $_;
        defined(my $pid = fork) or die "fork: $!";
        if ($pid == 0) {
            my $ok = eval {
                my $http = $nginx->http;
                for my $n (1 .. $each) {
                    for my $room ("keep$sender", 'gone') {
                        my $response = $http->post('/hook', qq({"room_name":"$room","n":"$sender-$n"}), 'x-token' => $token);
                        die $response->status . "\n" if $response->status != 422;
                    }
                    for my $room ("wrong$sender", 'gone') {
                        my $response = $http->post('/hook', event('call_ringing', room => $room, n => "$sender-$n"), 'x-token' => $token);
                        die $response->status . "\n" if $response->status != 200;
                    }
                }
                1;
            };
            spew("$stop.$sender", $ok ? 'sent' : $@);
            POSIX::_exit(0);
        }
        $pid;
    } 1 .. $senders;

    my ($runs, @failed) = (0);
    until ($senders == grep { -s "$stop.$_" } 1 .. $senders) {
        my $ran = tool(erase => $dir, 'gone');
        $runs++;
        push @failed, "$ran->{exit} $ran->{err}" if $ran->{exit};
    }
    waitpid $_, 0 for @pids;
    is_deeply [ map { slurp("$stop.$_") } 1 .. $senders ], [ ('sent') x $senders ], 'all was accepted or refused as ever';
    cmp_ok $runs, '>', 5, "it was erased $runs times meanwhile";
    is_deeply \@failed, [], '... each time';

    ok !await_empty($dir, 60), 'nothing waits any more';
    is tool(erase => $dir, 'gone')->{exit}, 0, 'once more';

    my (%refused, %dead, @gone);
    for my $file (glob "$dir/refused/*.log") {
        for my $content (journal_contents(slurp($file))) {
            my ($room, $n) = $content =~ /"room_name":"(\w+)","n":"([\d-]+)"/ or die "what is this: $content";
            $refused{$n}++ if $room ne 'gone';
            push @gone, $content if $room eq 'gone';
        }
    }
    for my $content (journal_contents(slurp("$dir/dead-letters"))) {
        push @gone, $content if $content =~ /"gone"/;
        $dead{$1}++ if $content =~ /"room_name":"wrong\d".*?"n":"([\d-]+)"/;
    }
    my %all = map { my $sender = $_; map { ("$sender-$_" => 1) } 1 .. $each } 1 .. $senders;
    is_deeply \%refused, \%all, 'each other refused delivery is there, once';
    is_deeply \%dead, \%all, 'each other dead letter is there, once';
    is_deeply \@gone, [], 'nothing of the call is left';
    is_deeply [ grep { /\.erasing\z/ } glob "$dir/* $dir/refused/*" ], [], 'nor a copy';
    is_deeply [ $nginx->log_lines(qr/\[crit\].*(?:refused deliveries|spool)/) ], [], 'nginx had no trouble';
    is tool(verify => $dir)->{exit}, 0, 'and nothing is damaged';
};

# A worker that has opened a file, and waits before it locks it, as long as another
# file exists. It creates a third one when it waits.
my $PAUSE = <<'END_OF_SOURCE';
    #include <dlfcn.h>
    #include <fcntl.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/file.h>
    #include <unistd.h>

    int flock(int fd, int operation)
    {
        static int  (*next)(int, int);
        char        path[4096], link[64], paused[4096];
        ssize_t     n;
        const char  *flag = getenv("PAUSE");

        if (!next) {
            next = (int (*)(int, int)) dlsym(RTLD_NEXT, "flock");
        }
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        n = readlink(link, path, sizeof(path) - 1);
        path[n > 0 ? n : 0] = '\0';

        if (strstr(path, "/refused/") || strstr(path, "/dead-letters")) {
            while (flag && access(flag, F_OK) == 0) {
                snprintf(paused, sizeof(paused), "%s.paused", flag);
                close(open(paused, O_CREAT|O_WRONLY, 0666));
                usleep(1000);
            }
        }
        return next(fd, operation);
    }
END_OF_SOURCE

subtest 'nginx is about to append' => sub {
    plan skip_all => 'needs the module' if !defined $ENV{VAANI_MODULE};
    my $library = preloadable(pause => $PAUSE) // plan skip_all => 'no library can be preloaded';
    my $flag = tmpdir() . '/pause';

    my $redis = Vaani::Test::Redis->start(acl => STREAM);
    $redis->client->cmd('SET', "vaani:call:$_", 'a string') for 'gone', 'wrong';
    my $nginx = do {
        local $ENV{NGINX_WRAPPER} = with_wrapper("env PAUSE=$flag LD_PRELOAD=$library");
        nginx($redis, workers => 1, main => 'env PAUSE;');
    };
    my $dir = $nginx->dir . '/spool';

    for my $case (
        [ 'a dead letter', "$dir/dead-letters", 200, map { event('call_ended', room => $_) } 'gone', 'wrong' ],
        [ 'a refused delivery', "$dir/refused/" . segment(1), 422, map { qq({"room_name":"$_"}) } 'gone', 'wrong' ],
    ) {
        my ($what, $file, $status, $gone, $stays) = @$case;
        is post($nginx, $gone)->status, $status, "$what of the call";
        ok wait_for(sub { -s $file }, 30), '... is kept';

        spew($flag, '');
        my $client = $nginx->http->connect;
        my @parts = Vaani::Test::HTTP::format_request(method => 'POST', uri => '/hook', body => $stays, headers => [ 'X-Token' => $token ]);
        $client->send_raw(join '', @parts);
        ok wait_for(sub { -e "$flag.paused" }, 30), 'nginx has opened the file for another one';
        is tool(erase => $dir, 'gone')->{exit}, 0, 'it is erased meanwhile';
        unlink $flag, "$flag.paused";

        ok wait_for(sub { grep { /wrong/ } map { slurp($_) } grep { -e } "$dir/dead-letters", glob "$dir/refused/*.log" }, 30),
            'the other one is not lost with the old file';
        ok !(grep { /gone/ } map { slurp($_) } grep { -e } $file), 'which is gone';
        unlink $file, glob "$dir/refused/*.log";
    }
};

# Tombstones are read again while a segment that waits is open.
subtest 'a call that waits' => sub {
    plan skip_all => 'needs the module' if !defined $ENV{VAANI_MODULE};
    my $redis = Vaani::Test::Redis->start(acl => STREAM);
    my $nginx = nginx($redis, workers => 2);
    my $dir = $nginx->dir . '/spool';

    is post($nginx, event('call_started', room => 'before'))->status, 200, 'an event';
    $redis->kill;
    is post($nginx, event('call_started', room => $_))->body, qq({"status":"queued"}\n), "$_ waits" for qw(stays gone);
    ok wait_for(sub { flock_held("$dir/" . segment(1)) }, 30), 'nginx is at work on its segment';
    like tool(erase => $dir, 'gone')->{out}, qr/: 1 waiting, 0 kept$/m, 'it is erased';
    select undef, undef, undef, 11;    # as long as the documentation has it
    $redis->restart;
    ok !await_empty($dir, 60), 'nothing waits any more';
    is $redis->client->cmd('EXISTS', 'vaani:call:stays'), 1, 'the other one was applied';
    is $redis->client->cmd('EXISTS', 'vaani:call:gone'), 0, 'it was not';
};

sub flock_held ($file) {
    open my $fh, '<', $file or return 0;
    return !flock $fh, LOCK_SH | LOCK_NB;
}

done_testing;
