# The order of bytes and syncs, from a trace of system calls: an event that Redis
# has answered is written before the sender is answered, and durable soon after;
# one that waits is durable before. And what an nginx without traffic does.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Events;
use Vaani::Test::Process;
use Vaani::Test::Retain;
use Vaani::Test::Scenario;
use Vaani::Test::Socket qw(pause);
use Vaani::Test::Spool;

use constant CALLS => 'trace=openat,open,creat,flock,write,writev,pwrite64,read,readv,recvfrom,recvmsg,sendto,sendmsg,'
    . 'fsync,fdatasync,rename,renameat,renameat2,link,linkat,close';

sub can_trace () {
    my ($exit, undef, $error) = eval { run([qw(strace -f -e trace=none true)]) };
    return $@ ? 'needs strace' : $exit ? 'ptrace is not permitted here: ' . $error =~ s/\n.*//sr : undef;
}
if (my $why = can_trace()) {
    plan skip_all => $why;
}

# Traces the worker of an nginx while the code runs. Returns its calls in their
# order: { name, text, result, from, to (numbers of lines), began, ended (s) }.
sub trace ($nginx, $calls, $code) {
    state $count = 0;
    my $out = tmpdir() . '/trace' . ++$count;
    my ($pid) = $nginx->worker_pids;

    my $strace = Vaani::Test::Process->spawn(
        argv   => [ qw(strace -f -ttt -yy -s 400 -e), $calls, '-o', $out, '-p', $pid ],
        stderr => "$out.err",
    );
    wait_for(sub { slurp("$out.err") =~ /attached/ }) or die 'strace does not attach: ' . slurp("$out.err");
    my @threads = glob "/proc/$pid/task/*";
    wait_for(sub { !grep { slurp("$_/status") !~ /^TracerPid:\s+[1-9]/m } @threads }) or die "threads are not traced\n";

    $code->();
    $strace->signal('INT');
    $strace->wait or die "strace does not end\n";
    $strace->kill_group;
    return parse(slurp($out));
}

sub parse ($text) {
    my (@calls, %open);
    my $line = 0;

    for (split /\n/, $text) {
        $line++;
        my ($pid, $time, $rest) = /^(\d+)\s+([\d.]+) (.*)/ or next;

        if ($rest =~ /^<\.\.\. (\w+) resumed>(.*)/) {
            my ($name, $more) = ($1, $2);
            my $call = delete $open{"$pid $name"} or next;
            $call->{text} .= $more;
            @$call{qw(to ended)} = ($line, $time);
        } elsif ($rest =~ /^(\w+)\((.*)/) {
            my ($name, $arguments) = ($1, $2);
            my $unfinished = $arguments =~ s/ ?<unfinished \.\.\.>$//;
            my $call = {
                name => $name, text => $arguments, from => $line, to => $line, began => $time, ended => $time,
            };
            push @calls, $call;
            $open{"$pid $name"} = $call if $unfinished;
        }
    }

    # Those that had not ended when the trace did are none.
    $_->{open} = 1 for values %open;
    @calls = grep { !$_->{open} } @calls;
    $_->{result} = $_->{text} =~ /.* = (-?\d+)/ ? $1 : -1 for @calls;
    return @calls;
}

# The calls of these names with that text.
sub find ($calls, $names, $text) { return grep { $_->{name} =~ /^(?:$names)\z/ && $_->{text} =~ $text } @$calls }

sub before ($one, $other, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok($one && $other && $one->{to} < $other->{from}, $name)
        || diag map { $_ ? "$_->{from}-$_->{to} $_->{name}($_->{text}\n" : "there is none\n" } $one, $other;
}

my $WRITE = 'write|writev|pwrite64|sendto|sendmsg';
my $READ = 'read|readv|recvfrom|recvmsg';

sub traced ($spool, $code) {
    my $redis = redis(tcp => 1);
    my $nginx = nginx($redis, spool => $spool, workers => 1);
    my $http = $nginx->http;

    # The mark of the next segment is claimed with the first event; those after it
    # are in a segment with a mark.
    ok wait_for(sub { -e $nginx->dir . '/spool/lock' }), 'a worker leads';
    return $code->($redis, $nginx, $http);
}

for my $sync (qw(batch always off)) {
    scenario "sync=$sync, Redis is up" => sub {
        traced("retain=1h sync=$sync", sub ($redis, $nginx, $http) {
            my $port = $redis->port;
            my @calls = trace($nginx, CALLS, sub () {
                for my $n (1 .. 3) {
                    is $http->post('/hook', event('call_started', room => "traced$n"))->body, qq({"status":"ok"}\n), 'an event';
                }
                # The sync comes behind the answers.
                pause(1.8);
            });

            my $last;
            for my $n (1 .. 3) {
                my ($sent) = find(\@calls, $WRITE, qr/:$port\b.*EVALSHA.*vaani:call:traced$n\b/)
                    or return fail "event $n is sent";
                # The script's reply is a number, that to the mark's is none.
                my ($reply) = grep { $_->{from} > $sent->{to} } find(\@calls, $READ, qr/:$port\b.*?"(?:.*\\n)?:\d+\\r\\n/);
                my ($write) = find(\@calls, 'write', qr/\.kept>.*vaani:call:traced$n\b/)
                    or return fail "event $n is written";
                my @answers = find(\@calls, $WRITE, qr/http\.sock.*HTTP\/1\.1 200/);
                my $answer = $answers[ $n - 1 ];
                before($reply, $write, "event $n: the reply of Redis comes before it is written");
                before($write, $answer, '... and that before the answer');

                my ($fd) = $write->{text} =~ m{<([^>]+\.kept)>};
                my ($synced) = grep { $_->{from} > $write->{to} } find(\@calls, 'fdatasync', qr/<\Q$fd\E>/);
                if ($sync eq 'always') {
                    before($synced, $answer, '... and it is durable before that');
                } elsif ($sync eq 'batch') {
                    ok $synced && $synced->{ended} - $write->{ended} < 1.6, '... and it is durable within about a second';
                    my ($directory) = grep { $_->{from} > $write->{to} } find(\@calls, 'fsync', qr/\/spool>/);
                    ok $directory && $directory->{ended} - $write->{ended} < 1.6, '... and the directory';
                } else {
                    ok !$synced, '... and nothing is synced';
                }
                $last = $fd;
            }

            # A segment: made, locked, begun, named; then its first event.
            my ($made) = find(\@calls, 'openat|open', qr/"\Q$last\E\.new", .*O_CREAT\|O_EXCL|"\Q$last\E\.new", .*O_EXCL/);
            my ($locked) = find(\@calls, 'flock', qr/\Q$last\E\.new>, LOCK_EX/);
            my ($begun) = find(\@calls, 'write', qr/\Q$last\E\.new>/);
            my ($named) = find(\@calls, 'rename\w*|link\w*', qr/"\Q$last\E\.new", .*"\Q$last\E"/);
            my ($first) = find(\@calls, 'write', qr/<\Q$last\E>/);
            before($made, $locked, 'a segment is locked');
            before($locked, $named, '... before it gets its name');
            before($begun, $named, '... and begun');
            before($named, $first, '... and named before an event is in it');

            if ($sync eq 'always') {
                my ($directory) = grep { $_->{from} > $named->{to} } find(\@calls, 'fsync', qr/\/spool>/);
                my ($answer) = grep { $_->{from} > $first->{to} } find(\@calls, $WRITE, qr/http\.sock.*HTTP\/1\.1 200/);
                before($directory, $answer, 'its name is durable before the answer');
            }
        });
    };
}

scenario 'what waits' => sub {
    traced('retain=1h', sub ($redis, $nginx, $http) {
        $redis->kill;
        my @calls = trace($nginx, CALLS, sub () {
            is $http->post('/hook', event('call_started', room => "waits$_"))->body, qq({"status":"queued"}\n), 'an event'
                for 1 .. 2;
        });

        my @writes = find(\@calls, 'write', qr/\d{20}\.log>/);
        my @answers = find(\@calls, $WRITE, qr/http\.sock.*HTTP\/1\.1 200/);
        for my $n (0, 1) {
            my ($synced) = grep { $_->{from} > $writes[$n]{to} } find(\@calls, 'fdatasync', qr/\d{20}\.log>/);
            before($writes[$n], $synced, 'it is written, then synced');
            before($synced, $answers[$n], '... and then answered');
        }
        my ($directory) = find(\@calls, 'fsync', qr/\/spool>/);
        before($directory, $answers[0], 'the name of the segment is durable before the first answer');
    });
};

# --- without traffic

scenario 'an nginx without traffic' => sub {
    my $redis = redis();
    my $nginx = nginx($redis, workers => 2);
    my $client = $redis->client;
    my $http = $nginx->http;
    $http->post('/hook', event($_, room => 'r')) for qw(call_started call_ringing call_ended);
    $http->close;

    # How often Redis executed each command, as far as the module sends it.
    my $commands = sub () {
        my %calls = $client->cmd('INFO', 'commandstats') =~ /^cmdstat_(\S+?):calls=(\d+)/mg;
        return { map { $_ => $calls{$_} // 0 } qw(eval evalsha set hset xadd publish pexpire script|load) };
    };
    my $settled = sub () {
        my $before = $commands->();
        pause(3);
        return eq_hash($commands->(), $before);
    };
    my $marked = sub ($file) {
        my ($id) = $file =~ /-(\w+)\.kept\z/;
        my ($bytes) = ($client->cmd('GET', "vaani:mark:$id") // '') =~ /^(\d+) /;
        return ($bytes // 0) == -s $file;
    };
    ok wait_for(sub { !grep { !$marked->($_) } kept_files($nginx) }, 40), 'what is to be marked is marked';
    ok wait_for($settled, 40), '... and no more is';

    my $seconds = scaled(12, 60);
    my $before = $commands->();
    my @pids = $nginx->worker_pids;
    my $out = tmpdir() . '/idle';
    my @strace = map {
        Vaani::Test::Process->spawn(
            argv   => [ qw(strace -e), 'trace=epoll_wait,epoll_pwait', '-o', "$out.$_", '-p', $_ ],
            stderr => "$out.err.$_",
        );
    } @pids;
    wait_for(sub { slurp("$out.err.$_") =~ /attached/ }) or die "strace does not attach\n" for @pids;

    # The one time that is to be measured.
    pause($seconds);
    for my $strace (@strace) {
        $strace->signal('INT');
        $strace->wait;
        $strace->kill_group;
    }

    for my $pid (@pids) {
        my $woken = () = slurp("$out.$pid") =~ / = \d+$/mg;
        cmp_ok $woken, '<=', $seconds, "a worker wakes up $woken times in $seconds s";
    }
    is_deeply $commands->(), $before, 'nothing is written to Redis';
};

done_testing;
