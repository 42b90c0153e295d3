package Vaani::Test::Container;

# Containers of the images that t/image/build has built, run as an engine would:
#
#   enter_network($0);                     # a network of its own, for the ports
#   my $image = Vaani::Test::Container->image('vaani-endpoint');
#   my $nginx = $image->start(VAANI_REDIS => $url);
#   $nginx->ready;                         # a test
#   my ($exit, $output) = $image->beside('vaani-health');
#   $nginx->stop;
#
# VAANI_IMAGE in the environment is the directory of the store.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use JSON::PP ();
use Test::More ();
use Vaani::Test ();
use Vaani::Test::Dir qw(ROOT slurp spew tmpdir);
use Vaani::Test::HTTP;
use Vaani::Test::Process qw(run);

our @EXPORT = qw(enter_network);

my $number = 0;
my @images;    # they last as long as the test, and then their containers go

# Runs the file again in a network with free ports; returns when inside.
sub enter_network ($file) {
    die "buildah and mounts need root\n" if $> != 0;
    return if $ENV{VAANI_IMAGE_INSIDE};

    local $ENV{VAANI_IMAGE_INSIDE} = 1;
    exec qw(unshare --net -- sh -c), 'ip link set lo up && exec "$@"', 'sh', $^X, '-I' . ROOT . '/t/lib', $file
        or die "exec: $!\n";
}

# The exit status, the output and the errors of buildah.
sub _run_buildah (@arguments) {
    my $build = $ENV{VAANI_IMAGE} // die "VAANI_IMAGE is where t/image/build has built\n";
    return run([ ROOT . '/t/image/buildah', $build, @arguments ], timeout => 600);
}

# The output of buildah; dies if buildah fails.
sub buildah (@arguments) {
    my ($exit, $out, $err) = _run_buildah(@arguments);
    die "buildah @arguments: $err\n" if $exit;
    return $out =~ s/\n\z//r;
}

# An image, mounted as long as the test runs.
sub image ($class, $name) {
    my $container = buildah('from', '--pull-never', "localhost/$name");
    my $config = JSON::PP::decode_json(buildah(qw(inspect --type image), "localhost/$name"))->{Docker}{config};
    my $self = bless {
        name => $name, container => $container, root => buildah('mount', $container), config => $config,
    }, $class;
    push @images, $self;
    return Vaani::Test::Process::register_service($self);
}

sub config ($self) { return $self->{config} }
sub root ($self)   { return $self->{root} }

# Runs a command by buildah: its exit status and output.
sub run_by_buildah ($self, @command) {
    my ($exit, $out, $err) = _run_buildah(qw(run --network host), $self->{container}, '--', @command);
    return ($exit, $out . $err);
}

sub at_end ($self, $failed) {
    buildah('rm', $self->{container}) if $self->{container};
    return;
}

# A directory that is the volume of the spool.
sub spool ($class) {
    my $dir = tmpdir() . '/volume' . ++$number;
    mkdir $dir or die "mkdir: $!\n";
    chown 10001, 10001, $dir or die "chown: $!\n";
    return $dir;
}

# Options: spool; command, else that of the image; binds => { target => source };
# tmp, the size of /tmp or "none". All others are of the environment.
sub start ($self, %opt) {
    my $config = $self->{config};
    my $command = delete $opt{command} // [ map { @{ $config->{$_} // [] } } qw(Entrypoint Cmd) ];
    my $binds = delete $opt{binds} // {};
    my $tmp = delete $opt{tmp};
    my $spool = delete $opt{spool} // (%{ $config->{Volumes} // {} } ? $self->spool : '');
    my @variables = (@{ $config->{Env} // [] }, map { "$_=$opt{$_}" } sort keys %opt);

    # nginx opens /dev/stdout again
    my $log = spew(tmpdir() . '/container' . ++$number, '');
    chmod 0666, $log or die "chmod: $!\n";

    local %ENV = (%ENV, CONTAINER_BINDS => join('', map { "$binds->{$_} $_\n" } sort keys %$binds));
    local $ENV{CONTAINER_TMP} = $tmp if defined $tmp;
    my $process = Vaani::Test::Process->spawn(
        argv => [ ROOT . '/t/image/container', $self->{root}, $spool, $config->{WorkingDir} || '/', @variables, '--', @$command ],
        stdout => $log, stderr => $log);
    return bless { process => $process, log => $log, signal => $config->{StopSignal} || 'SIGTERM' }, "Vaani::Test::Container::Running";
}

# Runs a command to its end in a separate container of the same network.
sub beside ($self, @command) {
    my $running = $self->start(command => \@command);
    $running->process->wait(60) or die "@command does not end\n";
    return ($running->process->status >> 8, $running->log);
}

package Vaani::Test::Container::Running;

sub process ($self) { return $self->{process} }
sub pid ($self)     { return $self->{process}->pid }
sub log ($self)     { return Vaani::Test::Dir::slurp($self->{log}) }

sub _answers ($self) {
    my $answer = eval { Vaani::Test::HTTP->new(port => 8081, timeout => 5)->get('/vaani/health') };
    return $answer && $answer->status == 200;
}

sub ready ($self) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $answers;
    Vaani::Test::wait_for(sub { ($answers = $self->_answers) || !$self->process->alive }, 60);
    return Test::More::ok($answers && $self->process->alive, 'it starts') || Test::More::diag($self->log) && 0;
}

# Stops it as an engine does; true when it has ended within the time.
sub stop ($self, $timeout = 30) {
    $self->process->signal($self->{signal} =~ s/^SIG//r);
    return $self->process->wait($timeout);
}

1;
