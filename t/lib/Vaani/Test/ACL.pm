package Vaani::Test::ACL;

# The rights of Redis users, as docs/operations.md tells people to give them:
# what is written there is what is tested.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use File::Basename qw(dirname);
use Text::ParseWords qw(shellwords);
use Vaani::Test::Dir qw(slurp);

our @EXPORT_OK = qw(documented rights with_prefix);

use constant DOCUMENT => dirname(__FILE__) . '/../../../../docs/operations.md';

# The "ACL SETUSER" commands for a user, each as a reference to its words, in
# the order of the document. The first gives the rights, the others add some.
sub documented ($user) {
    my @commands;

    for my $block (slurp(DOCUMENT) =~ /^```sh\n(.*?)^```$/msg) {
        for my $line (split /\n/, $block =~ s/\\\n//gr) {
            my ($command, @words) = $line =~ /^redis-cli ACL SETUSER (\S+) / ? shellwords($line) : next;
            push @commands, [ @words[ 3 .. $#words ] ] if $1 eq $user;
        }
    }

    die DOCUMENT . " has no \"ACL SETUSER $user\"\n" if !@commands;
    return @commands;
}

# The same without what makes it a user who can log in.
sub rights ($user) {
    return grep { $_ ne 'on' && !/^>/ } @{ (documented($user))[0] };
}

# What else the module's user needs for these values of vaani_prefix.
sub with_prefix (@prefixes) {
    my @patterns = grep { /^[~&]/ } rights('vaani');
    return map { my $prefix = $_; map { s/^.\Kvaani:/$prefix:/r } @patterns } @prefixes;
}

1;
