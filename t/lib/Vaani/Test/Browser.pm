package Vaani::Test::Browser;

# A headless Chromium of the test's own, driven by t/status/browser/driver.js. It
# cannot reach unix sockets: nginx must listen on %%PORT%%.
#
# Environment: CHROMIUM_BIN, NODE_BIN.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use JSON::PP ();
use Vaani::Test::Dir qw(ROOT slurp subdir);
use Vaani::Test::Process qw(in_test_process register_service);
use Vaani::Test::Socket qw(now pause read_some try_connect wait_readable write_all);

my $json = JSON::PP->new->utf8->allow_nonref;

# Dies when node, its packages or Chromium are missing: a page that was not
# checked has not passed.
sub start ($class, %opt) {
    my $dir = subdir('browser');
    my $modules = ROOT . '/build/browser/node_modules';    # see deps-browser
    my $timeout = $opt{timeout} // 30;

    # Files of both are deleted with the test's directory.
    local @ENV{qw(HOME TMPDIR XDG_CONFIG_HOME XDG_CACHE_HOME NODE_PATH)} = ($dir, $dir, $dir, $dir, $modules);

    my $process = Vaani::Test::Process->spawn(
        argv   => [
            $ENV{NODE_BIN} || 'node', ROOT . '/t/status/browser/driver.js',
            "$dir/driver.sock", $ENV{CHROMIUM_BIN} || '/usr/bin/chromium',
        ],
        stdout => "$dir/driver.log",
        stderr => "$dir/driver.log",
    );
    my $self = bless { process => $process, buffer => '' }, $class;
    register_service($self);

    my $deadline = now() + $timeout;
    until ($self->{fh} = try_connect("$dir/driver.sock")) {
        my $why = !$process->alive ? 'ended at once' : now() > $deadline ? "does not come up within $timeout s" : undef;
        if ($why) {
            $self->stop;
            die "the browser $why; \"make deps-browser\" installs what it needs:\n" . slurp("$dir/driver.log");
        }
        pause(0.01);
    }

    return $self;
}

# One command of the driver: its value.
sub _do ($self, $name, %arguments) {
    my $deadline = now() + 30;

    write_all($self->{fh}, $json->encode({ do => $name, %arguments }) . "\n");
    until ($self->{buffer} =~ /\n/) {
        wait_readable($self->{fh}, $deadline - now()) or die "$name: the browser does not answer\n";
        my $got = read_some($self->{fh}, \$self->{buffer});
        die "$name: the browser has gone\n" if defined $got && $got == 0;
    }

    my ($line, $rest) = split /\n/, $self->{buffer}, 2;
    $self->{buffer} = $rest;
    my $answer = $json->decode($line);
    die "$name: $answer->{error}\n" if defined $answer->{error};
    return $answer->{value};
}

# Options: width, height, scheme ('light' or 'dark').
sub open ($self, $url, %opt)  { return $self->_do('open', url => $url, %opt) }
sub run ($self, $code)        { return $self->_do('run', code => $code) }
sub press ($self, $key)       { return $self->_do('press', key => $key) }
sub problems ($self)          { return @{ $self->_do('problems') } }
sub requests ($self)          { return @{ $self->_do('requests') } }

# Of the whole page, or with whole => 0 of the visible part.
sub screenshot ($self, $path, %opt) { return $self->_do('screenshot', path => $path, %opt) }

sub resize ($self, $width, $height) {
    return $self->_do('resize', width => $width, height => $height);
}

# The visible text of the elements, with white space collapsed.
sub text ($self, $selector) {
    my $quoted = $json->encode($selector);
    return $self->run(
        "[...document.querySelectorAll($quoted)].map((e) => e.innerText.replace(/\\s+/g, ' ').trim()).join(' | ')"
    );
}

sub stop ($self) {
    my $process = delete $self->{process} // return;
    $process->signal('TERM');
    $process->wait(10);
    $process->kill_group;    # Chromium ends when its pipe to node closes
    return;
}

sub at_end ($self, $failed) { return $self->stop }

sub DESTROY ($self) {
    return if ${^GLOBAL_PHASE} eq 'DESTRUCT' || !in_test_process();
    local ($@, $?, $!);
    $self->stop;
    return;
}

1;
