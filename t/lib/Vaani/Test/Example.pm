package Vaani::Test::Example;

# Runs an example with the command of examples/README.md.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use Test::More ();
use Vaani::Test ();
use Vaani::Test::Dir qw(ROOT slurp subdir);
use Vaani::Test::Process qw(run);

our @EXPORT_OK = qw(command node_bin python_bin require_packages);


# The Python for which Debian's packages are made.
sub python_bin () { return $ENV{PYTHON_BIN} || '/usr/bin/python3' }
sub node_bin () { return $ENV{NODE_BIN} || 'node' }

# Dies if one of them is missing; see deps-examples.
sub require_packages (@names) {
    $ENV{NODE_PATH} = ROOT . '/build/examples/node_modules';
    $ENV{PYTHONDONTWRITEBYTECODE} = 1;

    my %check = (
        'redis-py' => [ python_bin(), '-c', 'import redis' ],
        'Flask'    => [ python_bin(), '-c', 'import flask' ],
        'ioredis'  => [ node_bin(), '-e', 'require("ioredis")' ],
    );
    for my $name (@names) {
        my ($exit, undef, $error) = run($check{$name});
        die "$name is missing, \"make deps-examples\" installs it:\n$error" if $exit;
    }
    return;
}

# The command that the document has for a file.
sub command ($file) {
    state $readme = slurp(ROOT . '/examples/README.md');
    my ($command) = $readme =~ /^((?:python3|node) examples\/\Q$file\E.*)$/m;
    my ($program, @arguments) = split ' ', $command // die "examples/README.md does not run $file\n";
    return ($program eq 'node' ? node_bin() : python_bin(), @arguments);
}

# Options: dir, and variables of the environment.
sub start ($class, $argv, %opt) {
    my $log = subdir('example');
    my $dir = delete $opt{dir} // ROOT;
    local @ENV{ keys %opt } = values %opt;

    my $process = Vaani::Test::Process->spawn(
        argv => $argv, dir => $dir, stdout => "$log/out", stderr => "$log/err");
    return bless { process => $process, log => $log }, $class;
}

sub out ($self) { return slurp("$self->{log}/out") }
sub err ($self) { return slurp("$self->{log}/err") }

# The lines of one call.
sub lines ($self, $room) { return join '', map { "$_\n" } $self->out =~ /^\Q$room\E (.*)$/mg }

sub says ($self, $regex, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return Test::More::ok(Vaani::Test::wait_for(sub { $self->out =~ $regex }, 15), $name)
        || Test::More::diag($self->out, $self->err);
}

sub says_of ($self, $room, $lines, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    Vaani::Test::wait_for(sub { $self->lines($room) eq $lines }, 15);
    return Test::More::is($self->lines($room), $lines, $name) || Test::More::diag($self->err);
}

sub alive ($self) { return $self->{process}->alive }

# Ends it as kill -9 does.
sub kill ($self) { $self->{process}->kill_group; return }

sub stop ($self, $signal = 'TERM') {
    $self->{process}->signal($signal);
    return $self->{process}->wait(10) ? $self->{process}->status : undef;
}

1;
