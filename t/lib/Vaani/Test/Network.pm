package Vaani::Test::Network;

# A network of the test's own, with nothing but lo: all its ports are free, so what
# the documents say of port 8080 can be tried as it stands there.
#
#   my $own = enter_network($0);    # runs the file there; true when inside, false if
#                                   # this system does not allow that

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Cwd qw(abs_path);
use Exporter 'import';
use Socket qw(AF_INET SOCK_DGRAM);
use Vaani::Test::Dir qw(ROOT);
use Vaani::Test::Process qw(run);

our @EXPORT = qw(enter_network loopback_up);

use constant SIOCSIFFLAGS => 0x8914;

# Users other than root need a user namespace for it, with the rights there.
my @UNSHARE = $> == 0 ? qw(unshare --net) : qw(unshare --map-current-user --keep-caps --net);

sub enter_network ($file) {
    my $state = delete $ENV{VAANI_TEST_NETWORK} // '';
    return 1 if $state eq 'own';

    my @perl = ($^X, '-I' . ROOT . '/t/lib');
    my ($exit) = run([ @UNSHARE, @perl, '-MVaani::Test::Network', '-e', 'loopback_up' ]);
    return 0 if $exit;

    local $ENV{VAANI_TEST_NETWORK} = 'own';
    exec @UNSHARE, @perl, '-MVaani::Test::Network', '-e', 'loopback_up; exec @ARGV or die "exec: $!\n"',
        @perl, abs_path($file) or die "exec: $!\n";
}

sub loopback_up () {
    socket my $socket, AF_INET, SOCK_DGRAM, 0 or die "socket: $!\n";
    my $up = pack 'a16 s x22', 'lo', 0x41;    # up and running
    ioctl $socket, SIOCSIFFLAGS, $up or die "lo: $!\n";
    return;
}

1;
