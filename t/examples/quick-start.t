# The README's quick start, the part for a checkout: "make run" as somebody at a
# terminal has it, and "make demo". What installs something is followed by
# t/deb/quick-start.t; this test knows every shell command of the README, and
# fails at one that nobody runs.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Events;
use Vaani::Test::Process qw(wait_pid_gone);
use Vaani::Test::Readme;


my $readme = Vaani::Test::Readme->new(ROOT . '/README.md');

# A make of its own, not a part of the one that runs the tests.
delete @ENV{qw(MAKEFLAGS MAKELEVEL MFLAGS MAKEOVERRIDES)};

{
    package Run;

    # In a process group as at a terminal: the servers lead groups of their own, so
    # they must be stopped by it, not just killed along with it.
    sub start ($class, @argv) {
        my $out = main::tmpdir() . '/out';
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

subtest 'make run' => sub {
    my $run = Run->start(qw(make run));
    ok wait_for(sub { $run->out =~ /Ctrl-C/ }, 120), 'waits, and says how to end it' or diag $run->out;

    my ($port) = $run->out =~ m{http://127\.0\.0\.1:(\d+)/vaani/webhook};
    my ($socket) = $run->out =~ /redis-cli -s (\S+)/;
    my $dir = $socket =~ s{/[^/]+$}{}r;
    my @pids = map { slurp("$dir/$_.pid") =~ /^(\d+)/ } 'nginx';
    ok @pids == 1 && kill(0 => @pids), 'nginx runs';

    my $redis = Vaani::Test::RESP->connect($socket);
    my ($redis_pid) = $redis->cmd('INFO', 'server') =~ /^process_id:(\d+)/m;
    push @pids, $redis_pid;

    is +Vaani::Test::HTTP->new(port => $port)->post('/vaani/webhook', event('call_ringing', room => 'sent-by-hand'))->body,
        qq({"status":"ok"}\n), 'an event is taken';
    is $redis->hgetall('vaani:call:sent-by-hand')->{status}, 'ringing', '... and is in its Redis';
    ok wait_for(sub { $run->out =~ /sent-by-hand/ }), '... and shown';

    my ($exit, $out, $err) = run([ ROOT . '/bin/vaani-call', '--watch', "unix:$socket", '--check',
        "http://127.0.0.1:$port/vaani/webhook" ]);
    is $exit, 0, 'calls can be played to it' or diag $out, $err;

    ok $run->ctrl_c, 'Ctrl-C ends it';
    ok wait_pid_gone($_), "... process $_ is gone" for @pids;
    ok !-e $dir, '... and so are its files';
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
        "make run\n" => 1,
        "make test\n" => 1,    # runs this
    );

    # For those who build nginx, in its sources: no part of the quick start. "make" and
    # "make test-asan" build the module in these two ways, by tools/build-module and
    # tools/build-nginx.
    my %built = map { $_->{line} => 1 } $readme->section('Build it into another nginx');

    for my $block ($readme->of('sh')) {
        ok $here{ $block->{text} } || $runs{ $block->{line} } || $built{ $block->{line} },
            "README.md:$block->{line}: it is run by a test" or diag $block->{text};
    }
};

done_testing;
