# The sources point one way: a file uses only files that stand below it in the
# source layout of docs/architecture.md, and a folder only those it may.
#
# What a file uses is what the linker sees: functions and data of other files. A
# handler that a higher file has set is called without its name.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

# Besides itself.
my %MAY_USE = (
    core  => [],
    redis => [],
    spool => [],
    http  => [qw(core redis spool)],
    front => [qw(core redis spool http)],
);

# nginx's structure of the module is the name of the module, and no part of its
# file.
my $NAME = 'ngx_http_vaani_module';

my ($layout) = slurp(ROOT . '/docs/architecture.md') =~ /^## Source layout\n+```text\n(.*?)^```/ms
    or die "no source layout\n";

# The folder of each file, and where it stands: the first one is the highest.
my %place = ("front/$NAME" => 0);
my $folder = '';

for (split /\n/, $layout) {
    $folder = $1 if m{^  (\w+)/};
    next if !$MAY_USE{$folder};
    next if !/^ {4,6}(\w+(?:, \w+)*)(?: |$)/;
    $place{"$folder/$_"} = keys %place for split /, /, $1;
}

sub name_of ($object) {
    my ($dir, $file) = $object =~ m{([^/]+)/(\w+)\.o$};
    my $top = $MAY_USE{$dir} ? $dir : $file eq $NAME ? 'front' : 'http';
    return "$top/$file" =~ s{/ngx_(?:http_vaani|vaani_redis|vaani_spool)_(?!module)}{/}r;
}

my $objs = $ENV{VAANI_MODULE} ? $ENV{VAANI_MODULE} =~ s{[^/]*$}{nginx-dev/objs}r
    : ($ENV{NGINX_BIN} // '') =~ s{/[^/]*$}{}r;
my @objects = grep { !/_modules\.o$/ } map { "$objs/$_" } slurp("$objs/Makefile") =~ m{^objs/(addon/\S+\.o):}mg;
my (undef, $symbols) = run([ 'nm', '-A', @objects ]);
my (%defined_in, %used_by);

for (split /\n/, $symbols) {
    my ($object, $type, $symbol) = /^(.*?\.o):[0-9a-f ]* ([A-Z]) (\w+)$/ or next;
    next if $symbol eq $NAME;
    if ($type eq 'U') { push @{ $used_by{ name_of($object) } }, $symbol }
    else              { $defined_in{$symbol} = name_of($object) }
}

is_deeply [ sort keys %used_by ], [ sort grep { $used_by{$_} } keys %place ], 'the layout has all files';

my @wrong;

for my $user (sort keys %used_by) {
    my ($top) = $user =~ m{^(\w+)};

    for my $symbol (@{ $used_by{$user} }) {
        my $used = $defined_in{$symbol} // next;

        # a script or a page that the build has made
        next if !defined $place{$used};
        my ($below) = $used =~ m{^(\w+)};

        push @wrong, "$user uses $symbol() of $used"
            if $top eq $below ? $place{$used} < $place{$user} : !grep { $_ eq $below } @{ $MAY_USE{$top} };
    }
}

cmp_ok keys %defined_in, '>', 300, 'symbols were found' or diag $objs;
is "@wrong[0 .. ($#wrong < 30 ? $#wrong : 30)]", '', 'no file uses a higher one' or diag join "\n", @wrong;

done_testing;
