package Vaani::Test::Dir;

# The one temporary directory of a test file, and small helpers for the files
# in it. Everything that a test starts lives below tmpdir().
#
# VAANI_KEEP=1 in the environment keeps the directory for a look afterwards.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename qw(dirname);
use File::Path qw(remove_tree);
use File::Temp ();

our @EXPORT_OK = qw(ROOT tmpdir subdir slurp spew tail);

# The project's directory.
use constant ROOT => abs_path(dirname(__FILE__) . '/../../../..');

# A unix socket's path must fit in sockaddr_un (108 bytes on Linux, 104 on the
# BSDs); with a long TMPDIR (build farms) /tmp is the safer place.
use constant MAX_BASE => 50;

my $owner = $$;
my $dir;
my %count;

sub tmpdir () {
    return $dir if defined $dir;

    my $base = File::Spec->tmpdir;
    $base = '/tmp' if length $base > MAX_BASE;

    # File::Temp's CLEANUP is not used: the directory must outlive the servers.
    $dir = File::Temp::tempdir('vaani-XXXXXXXX', DIR => $base);
    chmod 0755, $dir or die "chmod $dir: $!\n";    # workers may be another user

    return $dir;
}

# A fresh directory for one server: nginx1, nginx2, redis1 ...
sub subdir ($kind) {
    my $path = tmpdir() . "/$kind" . ++$count{$kind};
    mkdir $path, 0755 or die "mkdir $path: $!\n";
    chmod 0755, $path or die "chmod $path: $!\n";
    return $path;
}

# The bytes of a file; '' when it does not exist (yet), as for a log. With an
# offset, the bytes after it.
sub slurp ($path, $offset = 0) {
    open my $fh, '<:raw', $path or return '';
    seek $fh, $offset, 0 if $offset;
    local $/;
    return <$fh> // '';
}

sub spew ($path, $bytes) {
    open my $fh, '>:raw', $path or die "open $path: $!\n";
    print {$fh} $bytes;
    close $fh or die "write $path: $!\n";
    return $path;
}

# The last lines of a file, for error messages.
sub tail ($path, $lines = 25) {
    my @lines = split /^/, slurp($path);
    splice @lines, 0, @lines - $lines if @lines > $lines;
    return join '', @lines;
}

END {
    if (defined $dir && $$ == $owner) {
        local ($?, $!, $@);

        if ($ENV{VAANI_KEEP}) {
            print STDERR "# kept: $dir\n";
        } else {
            remove_tree($dir, { safe => 0, error => \my $errors });
        }
    }
}

1;
