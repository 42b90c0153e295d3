package Vaani::Test::ACL;

# The rights of Redis users as docs/permissions.md documents them, so that the
# tests use exactly the documented rights.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use Text::ParseWords qw(shellwords);
use Vaani::Test::Dir qw(ROOT slurp);

our @EXPORT_OK = qw(commands documented index_rights rights with_prefix);


# The "ACL SETUSER" commands for a user, each as a reference to its words, in
# the order of the document. The first gives the rights, the others add some.
sub documented ($user, $document = 'permissions.md') {
    my @found;

    for my $command (commands($document)) {
        my ($at) = grep { $command->[$_] eq 'SETUSER' } 0 .. $#$command;
        my (undef, $name, @words) = @$command[ $at .. $#$command ];
        push @found, \@words if $name eq $user;
    }

    die "docs/$document has no \"ACL SETUSER $user\"\n" if !@found;
    return @found;
}

# All of them as they are typed, each as a reference to its words.
sub commands ($document) {
    return map { [ shellwords($_) ] } grep { /^redis-cli .*\bACL SETUSER / }
        map { split /\n/, s/\\\n//gr } slurp(ROOT . "/docs/$document") =~ /^```sh\n(.*?)^```$/msg;
}

# The same without the words that allow a login.
sub rights ($user) {
    return grep { $_ ne 'on' && !/^>/ } @{ (documented($user))[0] };
}

# The additional rights for these values of vaani_prefix.
sub with_prefix (@prefixes) {
    my @patterns = grep { /^[~&]/ } rights('vaani');
    return map { my $prefix = $_; map { s/^.\Kvaani:/$prefix:/r } @patterns } @prefixes;
}

# The rights for "vaani_index", with this value of vaani_prefix.
sub index_rights ($prefix = 'vaani') {
    my ($words) = grep { grep { $_ eq '+zadd' } @$_ } documented('vaani');
    return map { s/^~\Kvaani:/$prefix:/r } @$words;
}

1;
