package Vaani::Test::Root;

# For the tests in t/deb: what runs as root in a copy of this machine's file
# system, see t/deb/root.
#
#   enter_root($0, qw(VAANI_DEB));    # runs the file there; returns when inside
#
# The named variables are taken along, nothing else of the environment is.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Cwd qw(abs_path);
use Exporter 'import';
use Test::More ();
use Vaani::Test::Dir qw(ROOT slurp);
use Vaani::Test::Network qw(loopback_up);
use Vaani::Test::Process qw(run);

our @EXPORT = qw(enter_root output succeeds workers);

sub enter_root ($file, @variables) {
    my $path = abs_path($file);

    if (!-d '/.upper') {
        my @env = map { "$_=$ENV{$_}" } grep { exists $ENV{$_} } @variables;
        exec ROOT . '/t/deb/root', ROOT, 'env', @env, 'LC_ALL=C', 'DEBIAN_FRONTEND=noninteractive',
            $^X, '-I' . ROOT . '/t/lib', $path
            or die "exec: $!\n";
    }

    # The other modules of this machine's nginx are not tested.
    my @modules = glob '/etc/nginx/modules-enabled/*';
    unlink(@modules) == @modules or die "unlink: $!\n";

    # Its network only has lo.
    loopback_up();
    return;
}

# In a separate session, because run() kills the rest of the group, which may
# include an nginx that has not detached itself yet.
sub output (@command) {
    my ($exit, $out, $err) = run([ qw(setsid -w), @command ], timeout => 1200);
    return ($exit, ($out // '') . ($err // ''));
}

sub succeeds (@command) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($exit, $text) = output(@command);
    Test::More::is($exit, 0, "@command") or Test::More::diag($text);
    return $text;
}

# The processes of nginx's workers, except those that are shutting down.
sub workers () {
    return grep { slurp("/proc/$_/cmdline") =~ /^nginx: worker process(?! is)/ } map { m{(\d+)$} } glob '/proc/[0-9]*';
}

1;
