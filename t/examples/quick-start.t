# The README's quick start in a checkout: "make run" as on a terminal, and
# "make demo". Commands that install packages are tested by
# t/deb/quick-start.t. This test knows every shell command of the README, and
# fails at one that is not tested.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use IO::Socket::INET ();
use Vaani::Test::Events;
use Vaani::Test::Example qw(node_bin python_bin require_packages);
use Vaani::Test::Network;
use Vaani::Test::Process qw(wait_pid_gone);
use Vaani::Test::Readme;

# In a network where the ports of the README are free, if this system allows that.
my $own_network = enter_network($0);

require_packages(qw(redis-py ioredis));

my $readme = Vaani::Test::Readme->new(ROOT . '/README.md');

# A make of its own, not a part of the one that runs the tests.
delete @ENV{qw(MAKEFLAGS MAKELEVEL MFLAGS MAKEOVERRIDES)};

{
    package Run;

    # In a process group as at a terminal: the servers lead groups of their own, so
    # they must be stopped by it, not just killed along with it.
    sub start ($class, @argv) {
        state $count = 0;
        my $out = main::tmpdir() . '/out-' . ++$count;
        my $self = bless { out => $out, process => Vaani::Test::Process->spawn(
            argv => \@argv, dir => main::ROOT, stdout => $out, stderr => $out) }, $class;
        return Vaani::Test::Process::register_service($self);
    }

    sub out ($self) { return main::slurp($self->{out}) }

    sub ctrl_c ($self) {
        kill INT => -$self->{process}->pid;
        return $self->{process}->wait;
    }

    sub at_end ($self, $failed) {
        $self->ctrl_c if $self->{process}->alive;
        return;
    }
}

# The end of its output, for another terminal: lines that begin with four
# blanks.
sub commands ($run) {
    my ($end) = $run->out =~ /^ *Your turn(.*?)^ *Ctrl-C/ms;
    return join '', map { "$_\n" } ($end // '') =~ /^    (.*)$/mg;
}

# Runs a command as in another terminal: ($exit, $output).
sub shell ($text, %opt) {
    my ($exit, $out, $err) = run([ 'bash', '-e', '-c', $text ], dir => ROOT, timeout => 60, %opt);
    return ($exit, $out . $err);
}

# A program that goes on until it has printed something.
sub prints ($name, $regex, @argv) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $program = Run->start(@argv);
    return sub {
        local $Test::Builder::Level = $Test::Builder::Level + 1;
        ok wait_for(sub { $program->out =~ $regex }), $name or diag $program->out;
        $program->ctrl_c;
    };
}

sub start_run (@arguments) {
    my $run = Run->start('make', 'run', @arguments);
    ok wait_for(sub { $run->out =~ /Ctrl-C/ }, 120), 'make run waits, and says how to end it' or diag $run->out;
    return $run;
}

# The number of subscribers that its Redis has.
sub subscribers ($port) {
    return (run([ 'redis-cli', '-p', $port, qw(PUBSUB NUMSUB vaani:events) ]))[1] =~ /(\d+)\s*\z/ ? $1 : 0;
}

subtest 'make run' => sub {
    my $run = start_run();
    my ($url) = $run->out =~ m{(http://127\.0\.0\.1:\d+/vaani/webhook)};
    my ($port, $redis_port) = map { /(\d+)/ } $run->out =~ m{^ *endpoint +http://127\.0\.0\.1:(\d+)/.*?^ *Redis +redis://127\.0\.0\.1:(\d+)}ms;
    my ($dir) = $run->out =~ m{tail -f (\S+)/access\.log};

    if ($own_network) {
        is "$port $redis_port", '8080 6379', 'the ports of the documents';
        unlike $run->out, qr/is in use/, '... nothing to say about them';
    }

    my @pids = map { slurp("$dir/$_.pid") =~ /^(\d+)/ } 'nginx';
    ok @pids == 1 && kill(0 => @pids), 'nginx runs';

    my $redis = Vaani::Test::RESP->connect("127.0.0.1:$redis_port");
    my ($redis_pid) = $redis->cmd('INFO', 'server') =~ /^process_id:(\d+)/m;
    push @pids, $redis_pid;

    is +Vaani::Test::HTTP->new(port => $port)->post('/vaani/webhook', event('call_ringing', room => 'sent-by-hand'))->body,
        qq({"status":"ok"}\n), 'an event is taken';
    is $redis->hgetall('vaani:call:sent-by-hand')->{status}, 'ringing', '... and is in its Redis';
    ok wait_for(sub { $run->out =~ /sent-by-hand/ }), '... and shown';

    # Each of the commands, as it is printed.
    my $commands = commands($run);
    my %is = (
        curl       => qr/^(curl .*\\\n.*\\\n.*\n)/m,
        call       => qr/^(bin\/vaani-call .*)/m,
        active     => qr/^(bin\/vaani-calls .*active)$/m,
        hash       => qr/^(redis-cli .*HGETALL.*)/m,
        subscribe  => qr/^(redis-cli .*SUBSCRIBE.*)/m,
        url        => qr/^(export REDIS_URL=\S+)$/m,
        python     => qr/^(python3 .*)/m,
        node       => qr/^(node .*)/m,
        npm        => qr/^(npm ci .*)/m,
        status     => qr/^(http:\S+status)$/m,
        logs       => qr/^(tail .*)/m,
    );
    my %command = map { $_ => $commands =~ $is{$_} ? $1 : undef } keys %is;
    ok defined $command{$_}, "there is a command: $_" or return diag $run->out for sort keys %command;

    my $bytes = $commands;
    $bytes =~ s/\Q$_\E// for values %command;
    unlike $bytes, qr/\S/, '... and no other' or diag $bytes;

    my %snippet = map { $_->{lang} => $_->{text} } $readme->section('Receive the transitions');
    my $snippets = tmpdir() . '/snippets';
    mkdir $snippets;
    symlink ROOT . '/build/examples/node_modules', "$snippets/node_modules";

    my ($python, $node) = (python_bin(), node_bin());
    local $ENV{PYTHONUNBUFFERED} = 1;
    my @heard;
    for (
        [ 'the example in Python' => $command{python}, qr/^inbound-by-hand \w+ seq 1: call_started/m ],
        [ 'the example in JavaScript' => $command{node}, qr/^inbound-by-hand \w+ seq 1: call_started/m ],
        [ 'redis-cli' => $command{subscribe}, qr/"room_name":"inbound-by-hand"/ ],
        [ "the README's Python" => 'python3 ' . spew("$snippets/subscriber.py", $snippet{python}), qr/^inbound-by-hand call_started started$/m ],
        [ "the README's JavaScript" => 'node ' . spew("$snippets/subscriber.mjs", $snippet{javascript}), qr/^inbound-by-hand call_started started$/m ],
    ) {
        my ($name, $command, $regex) = @$_;
        push @heard, prints("$name prints the event", $regex,
            'bash', '-c', "$command{url}; exec " . $command =~ s/^python3\b/$python/r =~ s/^node\b/$node/r);
        # One subscriber is that of "make run".
        ok wait_for(sub { subscribers($redis_port) > @heard }), "$name subscribes";
    }

    my ($exit, $out) = shell($command{curl});
    like $out, qr/^HTTP\/1\.1 200 .*^\{"status":"ok"\}$/ms, 'curl is answered ok' or diag $exit;
    $_->() for @heard;

    ($exit, $out) = shell($command{curl});
    like $out, qr/^\{"status":"duplicate"\}$/m, 'the second time it is a duplicate';
    ($exit, $out) = shell($command{hash});
    like $out, qr/^status\nstarted$/m, 'redis-cli has the call' or diag $exit;
    ($exit, $out) = shell($command{active});
    is $exit, 0, 'vaani-calls runs';
    like $out, qr/^inbound-by-hand /m, '... and has the call, too';
    ($exit, $out) = shell($command{call});
    is $exit, 0, 'vaani-call runs' or diag $out;
    like $out, qr/received +5 transitions, none missing/, '... and hears of its call';
    ($exit, $out) = shell("curl -sS -H 'Accept: text/html' $command{status}");
    like $out, qr/<html/i, 'the status page is there' or diag $exit;

    ($exit, $out) = run([ ROOT . '/bin/vaani-call', '--watch', "redis://127.0.0.1:$redis_port", '--check', $url ]);
    is $exit, 0, 'calls can be played to it' or diag $out;

    ok $run->ctrl_c, 'Ctrl-C ends it';
    ok wait_pid_gone($_), "... process $_ is gone" for @pids;
    ok !-e $dir, '... and so are its files';
};

subtest 'make run, as the README has it' => sub {
    plan skip_all => 'no network of its own, and the ports may be taken' if !$own_network;

    my $run = start_run();
    my @blocks = grep { $_->{lang} eq 'sh' && $_->{text} !~ /^(?:make|docker) / } $readme->section('See it work');
    ok scalar @blocks, 'there are commands to try';
    my $output = '';
    for my $block (@blocks) {
        my ($exit, $out) = shell($block->{text});
        is $exit, 0, "README.md:$block->{line}: runs" or diag $out;
        $output .= $out;
    }
    like $output, qr/^\{"status":"ok"\}$/m, 'an event is taken';
    like $output, qr/^room_123abc\b/m, '... and is found again';
    like $output, qr/none missing/, 'a call is played';
    ok $run->ctrl_c, 'Ctrl-C ends it';
};

subtest 'make run, next to other servers' => sub {
    my @taken = map { IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $_, Listen => 1, ReuseAddr => 1) } 8080, 6379;
    my $run = start_run();

    my ($port, $redis_port) = $run->out =~ m{^ *endpoint +http://127\.0\.0\.1:(\d+)/.*?^ *Redis +redis://127\.0\.0\.1:(\d+)}ms;
    like $run->out, qr/port $_ is in use/, "it says that port $_ is in use" for 8080, 6379;
    ok $port != 8080 && $redis_port != 6379, '... and takes others';

    my $commands = commands($run);
    my %said = map { $_ => 1 } grep { defined } $commands =~ m{127\.0\.0\.1:(\d+)|redis-cli -p (\d+)}g;
    is_deeply [ sort keys %said ], [ sort $port, $redis_port ], '... which all commands have';
    unlike $commands, qr/redis-cli (?!-p)/, '... those of redis-cli, too';
    ok $run->ctrl_c, 'Ctrl-C ends it';
};

subtest 'make demo' => sub {
    my ($exit, $out, $err) = run([qw(make demo)], dir => ROOT, timeout => 120);
    is $exit, 0, 'everything was as it should be' or diag $out, $err;
    like $out, qr/nothing is left running/, '... it says so';
};

subtest 'every shell command of the README' => sub {
    my @elsewhere = map { $_->{line} } map { $readme->section($_) } @QUICK_START;
    my %runs = map { $_ => 1 } @elsewhere;

    my %here = (
        "make test\n" => 1,    # runs this
        map { $_->{text} => 1 } $readme->section('See it work'),    # above, and t/image/compose.t
    );

    for my $block ($readme->of('sh')) {
        ok $here{ $block->{text} } || $runs{ $block->{line} },
            "README.md:$block->{line}: it is run by a test" or diag $block->{text};
    }
};

done_testing;
